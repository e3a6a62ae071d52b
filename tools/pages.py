"""The generated pages of docs/: equations, outline, traps.

    python -m tools.pages            write them
    python -m tools.pages --check    exit with 1, and say which, where one is stale or a row does not hold
"""

import sys

from tools import equations, outline, traps
from tools.equations import ROOT


def generated(root=ROOT):
    """{path: text} of all pages."""
    return equations.files(root) | outline.files(root) | traps.files(root)


def stale(root=ROOT):
    """Paths whose file is missing or differs from what would be written."""
    out = []
    for name, text in generated(root).items():
        path = root / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            out.append(name)
    return out


def main(words=None):
    words = sys.argv[1:] if words is None else words
    if set(words) - {"--check"}:
        raise SystemExit(f"got {' '.join(words)}; give nothing, or --check")
    wrong = traps.problems()
    if "--check" in words:
        late = stale()
        wrong += [f"{name} is stale: run `python -m tools.pages`" for name in late]
    else:
        for name, text in generated().items():
            (ROOT / name).write_text(text, encoding="utf-8")
    n = equations.counts(equations.rows())
    print(f"{n['implemented']} equations implemented, {n['shown']} shown, {n['left out']} left out, of {sum(n.values())}")
    for line in wrong:
        print(line)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
