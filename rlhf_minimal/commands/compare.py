"""Put training runs beside each other: `python -m rlhf_minimal compare RUN1 RUN2 ...`.

Printed: the settings that differ and the last values of every curve. Into --out come compare.json and compare.html: all
curves that the runs share, one picture each. With two runs of one kind and --data, their models are also measured against
each other, as `evaluate RUN2 --against RUN1` does.
"""

import argparse
import base64
import html
import io
import json
import sys
from pathlib import Path

from ..files import read_log, write_atomically
from .evaluate import STYLE, clean, lines
from .evaluate import page as evaluation_page

SKIPPED = {"step", "seconds", "tokens", "lr", "grad_norm"}


def settings_of(record: dict) -> dict:
    """What a run was asked for, flat: algorithm, model, data, steps, seed and its settings."""
    return {k: record[k] for k in ("algorithm", "model", "data", "steps", "seed")} | record["settings"]


def differing(records: list[dict]) -> dict[str, list]:
    """{setting: its value in each run} where they differ; a setting that a run does not have is None."""
    flat = [settings_of(r) for r in records]
    names = list(dict.fromkeys(name for one in flat for name in one))
    return {name: values for name in names if len(set(map(str, values := [one.get(name) for one in flat]))) > 1}


def curves(runs: list[str]) -> dict[str, dict[str, tuple[list, list]]]:
    """{measure: {run: (steps, values)}} of what at least two of the runs logged."""
    found: dict[str, dict] = {}
    for run in runs:
        for row in read_log(Path(run) / "metrics.jsonl"):
            for name, x in row.items():
                if name not in SKIPPED and isinstance(x, (int, float)) and not isinstance(x, bool):
                    steps, values = found.setdefault(name, {}).setdefault(run, ([], []))
                    steps.append(row["step"])
                    values.append(x)
    return {name: lines for name, lines in found.items() if len(lines) > 1}


def picture(name: str, drawn: dict[str, tuple[list, list]]) -> bytes:
    """One curve of every run as PNG: single steps pale, their running mean (of at most nine) strong."""
    from matplotlib.figure import Figure
    fig = Figure(figsize=(6.2, 3), layout="constrained")
    ax = fig.subplots()
    for i, (run, (steps, values)) in enumerate(drawn.items()):
        over = min(9, max(1, len(values) // 4))
        smooth = [sum(values[k - over:k]) / over for k in range(over, len(values) + 1)]
        ax.plot(steps, values, color=f"C{i}", alpha=0.25, lw=1)
        ax.plot(steps[over - 1:], smooth, color=f"C{i}", lw=2, label=run)
    ax.set(title=name, xlabel="step")
    ax.legend(frameon=False, fontsize=9)
    fig.savefig(made := io.BytesIO(), format="png", dpi=160)
    return made.getvalue()


def page(runs: list[str], differ: dict, drawn: dict) -> str:
    """One HTML page without a request to anywhere."""
    esc = html.escape
    head = "".join(f"<th>{esc(run)}</th>" for run in runs)
    rows = "".join(f"<tr><th>{esc(name)}</th>{''.join(f'<td>{esc(str(v))}</td>' for v in values)}</tr>"
                   for name, values in differ.items())
    pictures = "".join(f"<p><img alt='{esc(name)} over steps, one line a run' style='max-width:100%;background:#fff' "
                       f"src='data:image/png;base64,{base64.b64encode(picture(name, lines)).decode()}'></p>"
                       for name, lines in drawn.items())
    return ("<!DOCTYPE html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
            f"<title>Comparison of runs</title><style>{STYLE}</style><h1>What differs, and what came of it</h1>"
            f"<div class=wide><table><tr><th>setting{head}</tr>{rows}</table></div>{pictures}</html>\n")


def main(args: list[str] | None = None) -> None:
    """The command; bad input ends with one line that says what is wrong (status 2)."""
    about = argparse.ArgumentParser(prog="python -m rlhf_minimal compare", description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    about.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished runs")
    about.add_argument("--data", help="rows on which the second run's model is measured against the first's")
    about.add_argument("--reward", help="as in evaluate")
    about.add_argument("--n", type=int, default=4, help="answers to each prompt (default: 4)")
    about.add_argument("--rows", type=int, default=200, help="at most so many rows (default: 200)")
    about.add_argument("--out", default="comparison", help="folder for compare.json and compare.html (default: comparison)")
    given = about.parse_args(args)
    from ..quiet import settle
    from ..train.evaluation import about as record_of
    from ..train.evaluation import evaluate
    settle(quiet=True, offline=False)
    out, measured = Path(given.out), None
    try:
        if len(given.runs) < 2 or len(set(given.runs)) < len(given.runs):
            raise ValueError("give at least two different runs")
        if given.data and len(given.runs) != 2:
            raise ValueError(f"--data compares two runs, {len(given.runs)} were given")
        records = [record_of(run) for run in given.runs]
        if given.data:
            measured = evaluate(given.runs[1], given.data, against=given.runs[0], reward=given.reward, n=given.n, rows=given.rows)
    except (OSError, ValueError) as error:
        print(f"compare: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    differ, drawn = differing(records), curves(given.runs)
    out.mkdir(parents=True, exist_ok=True)
    content = {"runs": given.runs, "differ": differ, "last": {name: {run: y[-1] for run, (_, y) in lines.items()}
                                                              for name, lines in drawn.items()}, "measured": measured}
    write_atomically(out / "compare.json", json.dumps(clean(content), ensure_ascii=False, indent=1) + "\n")
    write_atomically(out / "compare.html", page(given.runs, differ, drawn))
    for name, values in differ.items():
        print(f"{name:16} " + "   ".join(str(v) for v in values))
    for name, last in content["last"].items():
        print(f"{name:16} " + "   ".join(f"{x:.4g}" for x in last.values()) + "   (last step)")
    if measured:
        write_atomically(out / "evaluation.html", evaluation_page(measured))
        print("\n" + "\n".join(lines(measured)))
    print(f"\npage: {out / 'compare.html'}")
