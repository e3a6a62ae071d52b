"""Which mutants are run, and what is written about them: score.json and .md, equivalent.json."""

import ast
import collections
import datetime
import hashlib
import json
import random
from pathlib import Path

from . import sites as mutation_sites

HERE = Path(__file__).resolve().parent
SCORE = HERE / "score.json"
COMMAND = "OMP_NUM_THREADS=1 python -m tools.mutation"
FLOOR = 0.95


def source_of(module):
    """The file of a module: evaluate.metrics is rlhf_minimal/evaluate/metrics.py."""
    return HERE.parents[1].joinpath("rlhf_minimal", *module.split(".")).with_suffix(".py")


def parsed(module):
    """(syntax tree of a module, its digest)."""
    tree = ast.parse(source_of(module).read_text(encoding="utf-8"))
    return tree, hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def found(module):
    """(all mutants of a module, digest of its syntax tree)."""
    tree, digest = parsed(module)
    return mutation_sites.sites(tree), digest


def equivalent():
    """{(file, function, original, mutation)} of the mutants that were looked at and that no test can see."""
    rows = json.loads((HERE / "equivalent.json").read_text(encoding="utf-8"))
    return {(row["file"], row["function"], row["original"], row["mutation"]) for row in rows}


def stored():
    """{module: what is stored of it}."""
    return json.loads(SCORE.read_text(encoding="utf-8"))["modules"] if SCORE.is_file() else {}


def survivors_of(module):
    """{(function, original, mutation)} stored as survivors. RuntimeError where the module has changed since."""
    before = stored().get(module)
    if before is None or before["digest"] != found(module)[1]:
        raise RuntimeError(f"{module} was not measured as it is now; leave --again out")
    if before["drawn"]:  # with its survivors repaired, a draw says nothing of the mutants that were not drawn
        raise RuntimeError(f"{module} was measured on a draw, {before['drawn']}; draw anew with another seed")
    return {(row["function"], row["original"], row["mutation"]) for row in before["survived"]}


def work(modules, sample=None, seed=0, again=False):
    """{module: numbers of the mutants to run}, {module: how many equivalent ones are left out}."""
    known, todo, left_out = equivalent(), {}, {}
    for module in modules:
        sites, _ = found(module)
        same = {i for i, s in enumerate(sites) if (module, s.function, s.before, s.after) in known}
        todo[module], left_out[module] = [i for i in range(len(sites)) if i not in same], len(same)
        if again:
            alive = survivors_of(module)
            todo[module] = [i for i in todo[module] if (sites[i].function, sites[i].before, sites[i].after) in alive]
    if sample is not None:
        drawn = random.Random(seed).sample([(m, i) for m in modules for i in todo[m]], sample)
        todo = {m: sorted(i for name, i in drawn if name == m) for m in modules}
    return {m: numbers for m, numbers in todo.items() if numbers or again}, left_out


def summary(module, numbers, verdicts, left_out, again=False):
    """What is stored of a module: counts, and the survivors in full; `again`: the mutants that were killed before too."""
    if sorted(verdicts) != numbers:
        raise RuntimeError(f"{module}: {len(verdicts)} of {len(numbers)} mutants ran; are its tests collected?")
    sites, digest = found(module)
    words = list(verdicts.values())
    alive = [sites[i] for i in sorted(verdicts) if verdicts[i] == "survived"]
    rows = [{"line": s.line, "function": s.function, "original": s.before, "mutation": s.after} for s in alive]
    total = len(words)
    if again:  # those that were killed before too, without survivors that are listed as equivalent since
        total += stored()[module]["mutants"] - len(survivors_of(module))
    late = words.count("timeout") + (stored()[module]["timeout"] if again else 0)
    return {"of": len(sites) - left_out, "mutants": total, "killed": total - late - len(rows), "timeout": late,
            "equivalent": left_out, "digest": digest, "survived": rows}


def change(row):
    """A survivor's change without what both texts share at the ends."""
    a, b = row["original"], row["mutation"]
    if b == mutation_sites.LEFT_OUT:
        return f"{a} -> {b}"
    head = next(i for i in range(len(a) + 1) if a[:i + 1] != b[:i + 1])
    tail = next(i for i in range(1, len(a) + 2) if i > min(len(a), len(b)) - head or a[-i] != b[-i]) - 1
    start, stop = max(0, head - 25), max(0, tail - 15)
    return f"...{a[start:len(a) - stop]}... -> ...{b[start:len(b) - stop]}..."


def score(results):
    """The share of mutants that are killed (timeouts too): that of each module, weighted by how many mutants it has.

    Where all mutants ran, this is killed / mutants; where some were drawn, an estimate of it.
    """
    run = [r for r in results.values() if r["mutants"]]
    return sum(r["of"] * (r["killed"] + r["timeout"]) / r["mutants"] for r in run) / max(sum(r["of"] for r in run), 1)


def table(results):
    """Markdown: a row a module, and all of them (the score of all: see `score`)."""
    lines = ["| module | mutants | of these run | killed | of these timeouts | survived | equivalent, left out | score |",
             "|---|---:|---:|---:|---:|---:|---:|---:|"]
    keys = ("of", "mutants", "killed", "timeout", "equivalent")
    whole = {k: sum(r[k] for r in results.values()) for k in keys}
    for name, r in [*results.items(), ("all", whole)]:
        killed = r["killed"] + r["timeout"]
        share = f"{100 * score(results if name == 'all' else {name: r}):.1f} %"
        cells = (name, r["of"], r["mutants"], killed, r["timeout"], r["mutants"] - killed, r["equivalent"], share)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def changed():
    """The modules whose source is not the one that was measured (digests of syntax trees: comments do not count)."""
    return [name for name, r in stored().items() if parsed(name)[1] != r["digest"]]


def line():
    """One line for the end of a test report, from what is stored; nothing is measured."""
    modules, late = stored(), changed()
    mutants, run = (sum(r[key] for r in modules.values()) for key in ("of", "mutants"))
    drawn = f" ({run} of them run)" if run < mutants else ""
    since = f"; changed since: {', '.join(late)}" if late else ""
    return f"mutation score {100 * score(modules):.1f} % of {mutants} mutants{drawn} in {len(modules)} modules, as stored{since}"


def survivors(results):
    """One line a survivor: module, line, function, change."""
    rows = [(name, row) for name, r in results.items() for row in r["survived"]]
    return [f"{name.replace('.', '/')}.py:{row['line']} {row['function']}: {change(row)}" for name, row in rows]


def report(results, module, failing, *, store=False, path=None, drawn=None):
    """Print what came out for a module; write all so far to `path`; with `store`, put this module into the score.

    drawn: how its mutants were drawn ("--sample 240 --seed 7"); None where all of them ran.
    """
    mine = results[module]
    print(f"{module}: {mine['mutants']} mutants", *survivors({module: mine}), sep="\n  ", flush=True)
    for name in failing:
        print(f"  not used, it fails without any mutant: {name}", flush=True)
    if path:
        Path(path).write_text(json.dumps(results, indent=1))
    if not store:
        return
    modules = stored() | {module: mine | {"date": datetime.date.today().isoformat(), "drawn": drawn}}
    modules = dict(sorted(modules.items()))
    whole = {"command": COMMAND, "score": round(score(modules), 4), "modules": modules}
    SCORE.write_text(json.dumps(whole, indent=1) + "\n")
    draws = collections.defaultdict(list)
    for name, r in modules.items():
        draws[r.get("drawn")].append(name)
    how = [f"- `{COMMAND} {d} --store`, drawn at random: {', '.join(names)}" for d, names in draws.items() if d]
    how += [f"- `{COMMAND} --store --files ...`, all mutants: {', '.join(draws[None])}"] if draws[None] else []
    text = "# Mutation score\n\n" + "\n".join(how) + "\n\nThe score of all is the mean of the modules' scores, weighted by "
    text += "their numbers of mutants. A draw is stored as it came out: tests written since for its survivors do not count.\n\n"
    text += f"{table(modules)}\n\n## Survivors\n\n"
    text += "\n".join(f"- `{line}`" for line in survivors(modules)) or "None."
    (HERE / "score.md").write_text(text + "\n")
