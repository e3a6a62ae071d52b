"""Execute notebooks into build/run/, leaving chapters/ as it is: `python -m tools.run [04 12 …]`, without numbers all.

`--claims --seed 3` is the slow lane: each notebook with that seed, outputs ignored, a claim that fails is noted and the
rest goes on; the claims of all seeds run so far (build/claims/) are gathered in chapters/status/claims.md, in one row a
notebook, and in build/claims.md, claim by claim. "04" is the lesson of chapter 4, "deeper/04" its deeper notebook;
`--deeper` adds the deeper notebooks of the chapters that are named.
"""

import argparse
import json
import re
import sys
import threading
import time
from pathlib import Path

import nbformat

from .chapters import name, notebooks
from .execute import ROOT, claims, environment, execute
from .export import export
from .ledger import read_ledger
from .quotes import fill_quotes, quotes

MARGIN = re.compile(r"\bmargin (-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)")


class Progress:
    """How far a notebook is: a line that moves in a terminal, one line a minute elsewhere.

    guess: the ledger's seconds, all and of the slowest cells; the others share what is left.
    """

    def __init__(self, nb, title: str, entry: dict | None):
        self.title, self.at, self.began = title, 0, time.perf_counter()
        ids = [c.id for c in nb.cells if c.cell_type == "code"]
        slow = {cell: s for cell, s in (entry or {}).get("slowest", []) if cell in ids}
        total = (entry or {}).get("seconds", 0)
        rest = max(total - sum(slow.values()), 0) / max(len(ids) - len(slow), 1)
        self.guess, self.stop = [slow.get(cell, rest) for cell in ids], threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def tell(self, done: int, of: int, seconds: float) -> None:
        """Called before code cell `done` of `of`."""
        self.at = done
        if sys.stdout.isatty():
            self.line()

    def left(self) -> str:
        """" · about 30 s left", from the ledger's shares and the speed so far; empty where nothing is known."""
        now, all_, spent = sum(self.guess[:max(self.at - 1, 0)]), sum(self.guess), time.perf_counter() - self.began
        if not all_:
            return ""
        pace = min(max(spent / now, 0.2), 5) if now > 5 else 1.0
        seconds = max(pace * all_ - spent, 0)
        return f" · about {10 * round(seconds / 10)} s left" if seconds >= 10 else " · nearly done"

    def line(self) -> None:
        """One line about now."""
        spent = time.perf_counter() - self.began
        text = f"{self.title}: cell {self.at} of {len(self.guess)} · {spent:.0f} s{self.left()}"
        print(f"\r{text:<78}" if sys.stdout.isatty() else text, end="" if sys.stdout.isatty() else "\n", flush=True)

    def watch(self) -> None:
        """Until the notebook is done, a line a second in a terminal and a line a minute in a log."""
        while not self.stop.wait(1 if sys.stdout.isatty() else 60):
            self.line()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        if sys.stdout.isatty():
            print(f"\r{'':<78}\r", end="")


def run_one(path, root, env, folder, *, allow_errors=False):
    """Execute one notebook, write it to `folder` -> (notebook, result)."""
    nb = nbformat.read(path, as_version=4)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    out = folder / f"{name(path)}.ipynb"
    out.parent.mkdir(parents=True, exist_ok=True)
    title, entry = name(path), read_ledger(root).get(name(path))
    about = f", about {10 * max(1, round(entry['seconds'] / 10))} s on one core" if entry else ""
    print(f"{title}: {sum(c.cell_type == 'code' for c in nb.cells)} code cells{about}", flush=True)
    with Progress(nb, title, entry) as progress:
        result = execute(nb, out.parent, env, allow_errors=allow_errors, tell=progress.tell)
    if not result.error:
        fill_quotes(nb, quotes(nb), missing="keep")
    nbformat.write(nb, out)
    print(f"{title}: {'failed' if result.error else 'done'} after {result.seconds:.0f} s", flush=True)
    if result.error:
        print("    " + result.error.replace("\n", "\n    "))
    return nb, result


def plain(text: str) -> str:
    """A Markdown sentence for the terminal."""
    text = re.sub(r"<!--.*?-->|!\[[^\]]*\]\([^)]*\)", "", text, flags=re.DOTALL)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return " ".join(re.sub(r"(?<!\w)[*_]{1,3}|[*_]{1,3}(?!\w)|[`$]|^[>#] ?", "", text, flags=re.MULTILINE).split())


def question(nb) -> str:
    """The question of the first screen: the first paragraph in bold."""
    found = re.search(r"^\*\*(.+?)\*\*", nb.cells[0].source, re.MULTILINE | re.DOTALL)
    return plain(found[1]) if found else ""


def headlines(nb, most: int = 6) -> list[str]:
    """Sentences of the page that hold a quoted number or text, as this run gives them."""
    found = []
    for cell in nb.cells:
        if cell.cell_type != "markdown" or "<!-- out " not in cell.source:
            continue
        for block in re.split(r"\n\s*\n|\n(?=[|>-])", cell.source):
            marked = re.sub(r"<!-- out [\w.-]+ -->\n?(.*?)\n?<!-- /out -->", "\\1\x00", block, flags=re.DOTALL)
            found += [plain(s.replace("\x00", "")) for s in re.split(r"(?<=[.!?])\s+", marked) if "\x00" in s]
    return list(dict.fromkeys(found))[:most]


def texts(nb, most: int = 30) -> list[str]:
    """Lines of what the cells marked rlhf={"show": true} show."""
    lines = []
    for cell in nb.cells:
        if cell.cell_type == "code" and cell.metadata.get("rlhf", {}).get("show") is True:
            outputs = [o for o in cell.outputs if not {"claim", "quote"} & set(o.get("metadata", {}).get("rlhf", {}))]
            shown = "\n".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in outputs)
            lines += [line for line in shown.splitlines() if not line.startswith("  measured:")]
    return lines[:most]


def tell_what_was_seen(nb, where: str) -> None:
    """What a newcomer wants to see after a run: the question, texts, the numbers, where the page lies, the claims."""
    print(f"\n{plain(nb.cells[0].source.splitlines()[0])}")
    if asked := question(nb):
        print(f"  {asked}")
    for head, lines in (("What the models wrote", texts(nb)), ("In one line each", headlines(nb))):
        if lines:
            print(f"\n{head}")
            print("\n".join(f"  {line if len(line) < 118 else line[:116] + ' …'}" for line in lines))
    print(f"\nThe page (opens without a network): {where}")
    made = claims(nb)
    if made:
        print("\nEach sentence was checked while it ran:")
    for _, state, text, _ in made:
        print(f"  {'✓' if state == 'holds' else '✗'} {text}" + ("" if state == "holds" else "   (did not hold here)"))


def run(paths, root):
    """Execute, print what was seen (of one chapter) and a table of costs -> number of failures."""
    rows, folder, seen = [], root / "build/run", []
    for path in paths:
        nb, result = run_one(path, root, environment(root), folder)
        where = "–"
        if not result.error:
            where = str(export(path, root, nb=nb).relative_to(root))
            seen.append((nb, where))
        held = sum(state == "holds" for _, state, *_ in claims(nb))
        memory = f"{result.peak / 1e9:.1f} GB" if result.peak else "–"
        rows.append((name(path), f"{result.seconds:.0f}", str(held), memory, "failed" if result.error else "ok", where))
    for nb, where in seen if len(paths) <= 2 else []:
        tell_what_was_seen(nb, where)
    print()
    table = [("chapter", "seconds", "claims held", "peak memory", "status", "page"), *rows]
    widths = [max(len(row[i]) for row in table) for i in range(6)]
    for row in table:
        print("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())
    print(f"\nExecuted notebooks: {folder.relative_to(root)}    Read or change a chapter: make lab")
    return sum(row[4] != "ok" for row in rows)


def slow_lane(paths, root, seed):
    """All claims with one seed -> number of failures; writes chapters/status/claims.md from all seeds so far."""
    failed, folder = 0, root / "build/claims"
    kept = folder / f"{seed}.json"      # other chapters' claims with this seed stay
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    env = environment(root, RLHF_SEED=seed, RLHF_SCALE="village", OMP_NUM_THREADS=1, RLHF_PROGRESS=None)
    for path in paths:
        nb, result = run_one(path, root, env, folder / f"seed{seed}", allow_errors=True)
        found[name(path)] = claims(nb)
        errors = [o.evalue for c in nb.cells for o in c.get("outputs", []) if o.output_type == "error"]
        failed += len(errors) + bool(result.error)
        for error in errors:
            print(f"    {error}")
        kept.write_text(json.dumps(dict(sorted(found.items()))), encoding="utf-8")
    write_table(root)
    print(f"seed {seed}: {failed} failures; table in chapters/status/claims.md")
    return failed


def seeds_of_claims(root):
    """{notebook: (stored claims, {seed: {(kind, text): (holds, detail)}})} from the stored notebooks and build/claims/."""
    runs = {int(f.stem): json.loads(f.read_text(encoding="utf-8")) for f in (root / "build/claims").glob("*.json")}
    runs[0] = {name(p): claims(nbformat.read(p, as_version=4)) for p in notebooks(root)}
    return {chapter: (stored, {s: {(kind, text): (state == "holds", detail) for kind, state, text, detail in runs[s][chapter]}
                               for s in sorted(runs) if chapter in runs[s]})
            for chapter, stored in sorted(runs[0].items(), key=lambda item: (item[0].removeprefix("deeper/"), item[0]))}


def short_row(chapter, stored, seeds):
    """[chapter, kind, claims, seeds, smallest margin, hold on all], as words."""
    often = sum(all(seeds[s].get((kind, text), (False,))[0] for s in seeds) for kind, _, text, _ in stored)
    margins = [float(m) for found in seeds.values() for _, detail in found.values() for m in MARGIN.findall(detail)]
    return [chapter.removeprefix("deeper/"), "deeper" if chapter.startswith("deeper/") else "lesson", str(len(stored)),
            ", ".join(map(str, seeds)), f"{min(margins):.2g}" if margins else "–", str(often)]


def write_table(root):
    """chapters/status/claims.md, short, and build/claims.md: each claim, and what it did with every seed run here.

    A chapter that was not run with other seeds here keeps its row, as long as it has the same number of claims.
    """
    status, rows = root / "chapters/status/claims.md", []
    kept = [[word.strip() for word in line.strip("|").split("|")] for line in
            (status.read_text(encoding="utf-8").splitlines() if status.exists() else []) if line.startswith("| ")]
    long = ["# Every claim, with every seed", "", "| chapter | kind | claim | holds | measured, seed by seed |",
            "|---|---|---|---|---|"]
    for chapter, (stored, seeds) in seeds_of_claims(root).items():
        row = short_row(chapter, stored, seeds)
        before = [old for old in kept if old[:3] == row[:3]]
        rows.append(before[0] if before and list(seeds) == [0] else row)
        for kind, _, text, _ in stored:
            seen = [seeds[s][kind, text] for s in seeds if (kind, text) in seeds[s]]
            long.append(f"| {chapter} | {kind} | {text.replace('|', '/')} | {sum(h for h, _ in seen)}/{len(seen)} | "
                        f"{'; '.join(d for _, d in seen if d)} |")
    head = ["# Claims over seeds", "",
            "Seed 0 is the stored notebook; the others are run by `make claims SEED=…` (one thread), which writes each claim",
            "with its measurements to build/claims.md. A claim that was reworded since a seed was run does not count as held",
            "there. The smallest margin is the measured one over the required one, where a claim gives it.", "",
            "| chapter | kind | claims | seeds | smallest margin | hold on all seeds |", "|---|---|---:|---|---:|---:|"]
    status.parent.mkdir(parents=True, exist_ok=True)
    status.write_text("\n".join(head + [f"| {' | '.join(row)} |" for row in rows]) + "\n", encoding="utf-8")
    (root / "build").mkdir(exist_ok=True)
    (root / "build/claims.md").write_text("\n".join(long) + "\n", encoding="utf-8")


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*")
    parser.add_argument("--deeper", action="store_true", help="the deeper notebooks of these chapters too")
    parser.add_argument("--claims", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, default=ROOT)
    args = parser.parse_args(words)
    paths = notebooks(args.root, args.chapters, deeper=args.deeper)
    return int((slow_lane(paths, args.root, args.seed) if args.claims else run(paths, args.root)) > 0)


if __name__ == "__main__":
    sys.exit(main())
