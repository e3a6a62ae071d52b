"""Execute notebooks into build/run/, leaving chapters/ as it is: `python -m tools.run [04 12 …]`, without numbers all.

`--claims --seed 3` is the slow lane: each notebook with that seed, outputs ignored, a claim that fails is noted and the
rest goes on; the claims of all seeds run so far (build/claims/) are gathered in chapters/status/claims.md.
"""

import argparse
import json
import sys
from pathlib import Path

import nbformat

from .execute import ROOT, claims, environment, execute


def notebooks(root, numbers):
    """The executed notebooks of chapters/, all or by number."""
    found = {int(p.name[:2]): p for p in sorted((root / "chapters").glob("[0-9][0-9]_*.ipynb"))}
    wanted = [int(n) for n in numbers if n.isdecimal()] if numbers else list(found)
    if not wanted or set(wanted) - set(found) or len(wanted) < len(numbers):
        raise SystemExit(f"no notebook for chapter {' '.join(numbers) or '(any)'} in chapters/; there are: "
                         f"{' '.join(f'{n:02d}' for n in found) or 'none; to make one: make build CHAPTER=04'}")
    return [found[n] for n in wanted]


def show_progress(name):
    """A line that moves in a terminal; elsewhere (logs) nothing until the end."""
    def tell(done, of, seconds):
        if sys.stdout.isatty():
            print(f"\r{name}: cell {done} of {of}, {seconds:.0f} s ", end="", flush=True)
    return tell


def run_one(path, root, env, folder, *, allow_errors=False):
    """Execute one notebook, write it to `folder` -> (notebook, result)."""
    nb = nbformat.read(path, as_version=4)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{path.stem}: {sum(c.cell_type == 'code' for c in nb.cells)} code cells", flush=True)
    result = execute(nb, folder, env, allow_errors=allow_errors, tell=show_progress(path.stem))
    nbformat.write(nb, folder / path.name)
    print(f"{chr(13) if sys.stdout.isatty() else ''}{path.stem}: {'failed' if result.error else 'done'} "
          f"after {result.seconds:.0f} s{' ' * 20}", flush=True)
    if result.error:
        print("    " + result.error.replace("\n", "\n    "))
    return nb, result


def run(paths, root):
    """Execute, print a table (and the claims, of a single chapter) -> number of failures."""
    rows, folder, nb = [], root / "build/run", None
    for path in paths:
        nb, result = run_one(path, root, environment(root), folder)
        held = sum(state == "holds" for _, state, *_ in claims(nb))
        memory = f"{result.peak / 1e9:.1f} GB" if result.peak else "–"
        rows.append((path.stem, f"{result.seconds:.0f}", str(held), memory, "failed" if result.error else "ok"))
    if len(paths) == 1:
        print("\nWhat you just saw, sentence by sentence (each was checked while it ran):")
        for kind, state, text, detail in claims(nb):
            print(f"  {kind} {state}: {text}" + (f"   [{detail}]" if detail else ""))
    print()
    table = [("chapter", "seconds", "claims held", "peak memory", "status"), *rows]
    widths = [max(len(row[i]) for row in table) for i in range(5)]
    for row in table:
        print("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())
    where = folder / (paths[0].name if len(paths) == 1 else "")
    print(f"\nExecuted: {where.relative_to(root)}    Read or change a chapter: make lab")
    return sum(row[-1] != "ok" for row in rows)


def slow_lane(paths, root, seed):
    """All claims with one seed -> number of failures; writes chapters/status/claims.md from all seeds so far."""
    failed, folder = 0, root / "build/claims"
    kept = folder / f"{seed}.json"      # other chapters' claims with this seed stay
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    env = environment(root, RLHF_SEED=seed, RLHF_SCALE="village", OMP_NUM_THREADS=1, RLHF_PROGRESS=None)
    for path in paths:
        nb, result = run_one(path, root, env, folder / f"seed{seed}", allow_errors=True)
        found[path.stem] = claims(nb)
        errors = [o.evalue for c in nb.cells for o in c.get("outputs", []) if o.output_type == "error"]
        failed += len(errors) + bool(result.error)
        for error in errors:
            print(f"    {error}")
        kept.write_text(json.dumps(dict(sorted(found.items()))), encoding="utf-8")
    write_table(root)
    print(f"seed {seed}: {failed} failures; table in chapters/status/claims.md")
    return failed


def write_table(root):
    """chapters/status/claims.md: each claim of the stored notebooks (seed 0), and what it did with other seeds."""
    runs = {int(f.stem): json.loads(f.read_text(encoding="utf-8")) for f in (root / "build/claims").glob("*.json")}
    runs[0] = {p.stem: claims(nbformat.read(p, as_version=4)) for p in notebooks(root, [])}
    chapters, lines = [], []
    for chapter, stored in sorted(runs[0].items()):
        seeds = [s for s in sorted(runs) if chapter in runs[s]]
        by_seed = {s: {(kind, text): (state == "holds", detail) for kind, state, text, detail in runs[s][chapter]} for s in seeds}
        often = 0
        for kind, _, text, _ in stored:
            seen = [by_seed[s][kind, text] for s in seeds if (kind, text) in by_seed[s]]
            often += all(holds for holds, _ in seen) and len(seen) == len(seeds)
            lines.append(f"| {chapter} | {kind} | {text.replace('|', '/')} | {sum(h for h, _ in seen)}/{len(seen)} | "
                         f"{'; '.join(d for _, d in seen if d)} |")
        chapters.append(f"| {chapter} | {len(stored)} | {', '.join(map(str, seeds))} | {often} |")
    head = ["# Claims over seeds", "",
            "Seed 0 is the stored notebook; the others are run by `make claims SEED=…` (one thread).",
            "`holds` counts the seeds on which a claim was run in its present words: one that was added or",
            "reworded later has fewer. What is said of a recorded run is the same with every seed.", "",
            "| chapter | claims | seeds | hold on all of them |", "|---|---:|---|---:|", *chapters, "",
            "| chapter | kind | claim | holds | measured, seed by seed |", "|---|---|---|---|---|"]
    status = root / "chapters/status"
    status.mkdir(parents=True, exist_ok=True)
    (status / "claims.md").write_text("\n".join(head + lines) + "\n", encoding="utf-8")


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*")
    parser.add_argument("--claims", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, default=ROOT)
    args = parser.parse_args(words)
    paths = notebooks(args.root, args.chapters)
    return int((slow_lane(paths, args.root, args.seed) if args.claims else run(paths, args.root)) > 0)


if __name__ == "__main__":
    sys.exit(main())
