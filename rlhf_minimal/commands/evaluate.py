"""Measure a trained model on rows that it did not learn from: `python -m rlhf_minimal evaluate RUN --data held.jsonl`.

The model in RUN and the one it started from are measured side by side: of demonstrations the loss, of pairs what is
preferred, of prompts the reward, the win rate, KL and length of sampled answers. Every number has a 95 % interval over
rows. Into --out (RUN/evaluation if not given) come evaluation.json and evaluation.html, a page that opens without a network.
"""

import argparse
import html
import json
import sys
from pathlib import Path

from ..files import json_number, write_atomically

STYLE = """:root{color-scheme:light dark}body{font:16px/1.55 system-ui,sans-serif;max-width:900px;margin:30px auto;
padding:0 16px}table{border-collapse:collapse;margin:14px 0}
td,th{padding:6px 12px;border-bottom:1px solid #9998;text-align:left;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.wide{overflow-x:auto}small{opacity:.75}"""


def number(value: list[float]) -> str:
    """[mean, low, high] as a reader wants it.

    >>> number([0.5, 0.25, 0.75]), number([-1.0, float("nan"), float("nan")])
    ('0.500 (0.250 to 0.750)', '−1.000')
    """
    mean, low, high = (f"{x:.3f}".replace("-", "−") for x in value)
    return mean if "nan" in low else f"{mean} ({low} to {high})"


def lines(found: dict) -> list[str]:
    """The table for a terminal."""
    head = ["", "start", "end", "difference"]
    rows = [[name, *(number(parts[k]) if k in parts else "" for k in head[1:])] for name, parts in found["values"].items()]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(4)]
    return ["  ".join(x.ljust(w) for x, w in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]]


def bars(values: dict) -> str:
    """The differences as a picture, one bar with its interval a measure, each on a scale of its own: SVG."""
    drawn = [(name, parts["difference"]) for name, parts in values.items() if "difference" in parts]
    out = []
    for i, (name, (mean, low, high)) in enumerate(drawn):
        y, reach = 26 + 34 * i, max(abs(x) for x in (mean, low, high, 1e-9) if x == x)
        at = [430 + 190 * x / reach for x in (mean, low, high)]
        out.append(f'<text x="0" y="{y + 5}">{html.escape(name)}</text>'
                   f'<line x1="{at[1]:.1f}" x2="{at[2]:.1f}" y1="{y}" y2="{y}" stroke="#0072B2" stroke-width="3"/>'
                   f'<circle cx="{at[0]:.1f}" cy="{y}" r="5" fill="#0072B2"/>'
                   f'<text x="640" y="{y + 5}">{number([mean, low, high])}</text>')
    height, label = 34 * len(drawn) + 20, "Differences between end and start, with their intervals"
    return (f'<svg viewBox="0 0 860 {height}" width="100%" role="img" aria-label="{label}" fill="currentColor" font-size="14" '
            f'font-family="system-ui,sans-serif"><line x1="430" x2="430" y1="8" y2="{height}" stroke="#888" '
            f'stroke-dasharray="4 3"/>{"".join(out)}</svg>') if drawn else ""


def page(found: dict) -> str:
    """One HTML page: the question, the table, the differences, answers side by side."""
    from ..train.evaluation import MEANINGS
    esc, sides = html.escape, ("start", "end", "difference")
    told = f"<b>end</b>: {esc(found['run'])}" + (f" · <b>start</b>: {esc(found['against'])}" if found["against"] else "")
    rows = "".join(f"<tr><th>{esc(name)}<br><small>{esc(MEANINGS.get(name, ''))}</small></th>" + "".join(
        f"<td class=n>{number(parts[k]) if k in parts else '–'}</td>" for k in sides) + "</tr>"
        for name, parts in found["values"].items())
    texts = "".join(f"<tr><th>{esc(str(s['prompt']))}</th>" + "".join(
        f"<td>{esc(s[k][0]) or '(nothing)'} <small>[{s[k][1]:.2f}]</small></td>" for k in sides[:2]) + "</tr>"
        for s in found["samples"])
    answers = ("<h2>The first answers, side by side</h2><div class=wide><table><tr><th>prompt<th>start<th>end</tr>"
               f"{texts}</table></div>") if texts else ""
    head = ("<!DOCTYPE html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
            f"<title>Evaluation of {esc(found['run'])}</title><style>{STYLE}</style>")
    return (f"{head}<h1>What training changed</h1><p>{told}</p><p>{found['rows']} rows of {esc(found['data'])} ({found['kind']}). "
            f"Brackets: 95 % intervals over rows; differences are paired.</p><div class=wide><table><tr><th><th>start<th>end"
            f"<th>difference</tr>{rows}</table></div>{bars(found['values'])}{answers}</html>\n")


def clean(x: object) -> object:
    """The same with null where JSON has no number."""
    if isinstance(x, dict):
        return {k: clean(v) for k, v in x.items()}
    return [clean(v) for v in x] if isinstance(x, list) else json_number(x) if isinstance(x, float) else x


def main(args: list[str] | None = None) -> None:
    """The command; bad input ends with one line that says what is wrong (status 2)."""
    about = argparse.ArgumentParser(prog="python -m rlhf_minimal evaluate", description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    about.add_argument("run", help="folder of a finished training run")
    about.add_argument("--data", help="rows that it did not learn from: a file, a hub id, village (default: the village's test "
                       "split, where the run learned from the village)")
    about.add_argument("--kind", choices=("demonstrations", "pairs", "prompts"), help="of the rows (default: those of the run)")
    about.add_argument("--against", help="another run or model to compare with (default: the model that the run started from)")
    about.add_argument("--reward", help="gold, FILE.py:FUNCTION, or a reward model (default: that of the run, else gold)")
    about.add_argument("--columns", help="names of your columns, ours=theirs")
    about.add_argument("--rows", type=int, default=200, help="at most so many rows (default: 200)")
    about.add_argument("--n", type=int, default=4, help="answers to each prompt (default: 4)")
    about.add_argument("--temperature", type=float, default=1.0, help="of the answers; 0 takes the likeliest token (default: 1)")
    about.add_argument("--max-new-tokens", type=int, help="the longest answer (default: that of the run, else 64)")
    about.add_argument("--seed", type=int, default=0, help="of the answers (default: 0)")
    about.add_argument("--out", help="folder for evaluation.json and evaluation.html (default: RUN/evaluation)")
    given = vars(about.parse_args(args))
    out = Path(given.pop("out") or Path(given["run"]) / "evaluation")
    from ..quiet import settle
    from ..train.evaluation import evaluate
    settle(quiet=True, offline=False)
    try:
        found = evaluate(given.pop("run"), given.pop("data"), **given)
    except (OSError, ValueError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "evaluation.json", json.dumps(clean(found), ensure_ascii=False, indent=1) + "\n")
    write_atomically(out / "evaluation.html", page(found))
    print("\n".join(lines(found)))
    print(f"\n{found['rows']} rows; brackets: 95 % intervals over rows, differences are paired\npage: {out / 'evaluation.html'}")
