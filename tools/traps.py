"""The short codes of known mistakes: docs/traps.md from docs/source/traps.csv and the tests.

A code stands in a test's mark, `@pytest.mark.equation("G2")`, or in its name, `test_G2_…`; its row says what goes wrong, which
function avoids it, and which test would notice.
"""

import re

from tools.equations import ROOT, hand_written, notebooks, sections, table, tests

CODE = r"[A-K]\d{1,2}"
IN_BRACKETS = re.compile(rf"\(({CODE}(?:(?:, ?|-){CODE})*)[):]")


def used(root=ROOT):
    """{code: place} of all codes in names and marks of tests, in brackets in the tests' text and in notebooks."""
    found = {code: names[0] for code, names in tests(root)[1].items() if re.fullmatch(CODE, code)}
    texts = [(path, path.read_text(encoding="utf-8")) for path in sorted((root / "tests").rglob("*.py"))]
    texts += [(path, "\n".join(c["text"] for _, inside in sections(path) for c in inside)) for path in notebooks(root)]
    for path, text in texts:
        for group in IN_BRACKETS.findall(text):
            for code in re.findall(CODE, group):
                found.setdefault(code, str(path.relative_to(root)))
    return found


def problems(root=ROOT):
    """What does not hold: a code without a row, a row whose file, function or test does not exist."""
    given, (where, _) = hand_written("traps", root), tests(root)
    codes = [row["code"] for row in given]
    out = [f"{code}, used in {place}, has no row" for code, place in used(root).items() if code not in codes]
    out += [f"{code} has {codes.count(code)} rows" for code in sorted(set(codes)) if codes.count(code) > 1]
    for row in given:
        path = root / "rlhf_minimal" / row["file"]
        if not path.exists():
            out.append(f"{row['code']}: no file rlhf_minimal/{row['file']}")
        elif not re.search(rf"^(?:def|class) {row['function']}\b", path.read_text(encoding="utf-8"), re.MULTILINE):
            out.append(f"{row['code']}: no {row['function']} in rlhf_minimal/{row['file']}")
        if row["test"] not in where:
            out.append(f"{row['code']}: no test {row['test']}")
    return out


def files(root=ROOT):
    """{path: text} of what is generated."""
    where, proved = tests(root)
    head = [
        "# Known traps", "",
        "Written by `python -m tools.pages` from `docs/source/traps.csv` and the tests; do not edit.", "",
        "Mistakes that post-training code makes silently: it runs, its loss falls, and the result is wrong. Each has a code, by "
        "which tests refer to it. A row says what goes wrong, which function of the package avoids it, and which tests would "
        "notice. Codes beginning with K are places where the book's text, its equations or its code say different things.", "",
    ]
    body = []
    for row in hand_written("traps", root):
        names = [name for name in dict.fromkeys([row["test"], *proved.get(row["code"], [])]) if name in where]
        links = "<br>".join(f"[{name}](../{where[name]})" for name in names)
        body.append((row["code"], row["trap"], f"[`{row['file']}`](../rlhf_minimal/{row['file']}): `{row['function']}`", links))
    return {"docs/traps.md": "\n".join(head + table(("code", "trap", "avoided in", "tests"), body)) + "\n"}
