"""Numbers as tables and answers as cards, each with a plain-text twin. They scroll or stack on a narrow screen."""

import re
import textwrap

from .output import FONT, LINE, SOFT, escape, publish

GOOD, BAD, MIDDLE = "#00795a", "#c24e00", "#8a6500"  # on white and on near-black alike


def number(value: object, digits: int | str = 2) -> str:
    """A value as a reader wants it: `digits` decimals, "%" for a share, ± an error, – where there is none.

    >>> number(-0.456), number(0.314, "%"), number((1.5, 0.25)), number(1200), number(None), number(True)
    ('−0.46', '31 %', '1.50 ± 0.25', '1,200', '–', 'yes')
    """
    if hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, str):
        return "–" if value is None else value
    if isinstance(value, (tuple, list)):
        middle, error = (number(v, digits) for v in value)
        return f"{middle.removesuffix(' %')} ± {error}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if digits == "%":
        return f"{100 * value:.0f} %".replace("-0 %", "0 %").replace("-", "−")
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"
    return (text if text.strip("-0.,") else text.lstrip("-")).replace("-", "−")


def _grid(rows, columns):
    """(labels, columns, values) of every form that `table` takes."""
    if isinstance(rows, (list, tuple)):
        first = list(rows[0])[0]
        rows = {row[first]: {k: v for k, v in row.items() if k != first} for row in rows}
    if columns is None:
        if not all(isinstance(row, dict) for row in rows.values()):
            raise ValueError("rows without names: give columns=[...], or rows {label: {column: value}}")
        columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    values = [[row.get(c) for c in columns] if isinstance(row, dict) else list(row) for row in rows.values()]
    for label, row in zip(rows, values, strict=True):
        if len(row) != len(columns):
            raise ValueError(f"row {label!r} has {len(row)} values for {len(columns)} columns: {', '.join(columns)}")
    return [str(label) for label in rows], [str(c) for c in columns], values


def _middle(value):
    value = value[0] if isinstance(value, (tuple, list)) else value
    return value.item() if hasattr(value, "item") else value


def _winners(values, columns, best):
    """{(row, column)} of the best value of each column named in `best`."""
    won = set()
    for name, way in (best or {}).items():
        if name not in columns or way not in ("high", "low"):
            raise ValueError(f'best {{{name!r}: {way!r}}}: expected a column of {columns}, and "high" or "low"')
        j = columns.index(name)
        found = {i: _middle(row[j]) for i, row in enumerate(values) if not isinstance(row[j], (str, type(None)))}
        top = (max if way == "high" else min)(found.values())
        won |= {(i, j) for i, v in found.items() if v == top}
    return won


def table(rows, columns=None, *, digits: int | dict = 2, best: dict | None = None, corner: str = "", note: str = "") -> None:
    """A table of numbers.

    rows: {label: {column: value}}, {label: [values]} with `columns`, or [{column: value}] whose first column is the label.
    digits: decimals, or {column: decimals or "%"}. best: {column: "high" or "low"} marks the best value. `corner` is the
    head of the first column; `note` stands below (what ± means, how many answers).
    """
    labels, columns, values = _grid(rows, columns)
    won = _winners(values, columns, best)
    wanted = digits if isinstance(digits, dict) else dict.fromkeys(columns, digits)
    cells = [[number(v, wanted.get(c, 2)) for c, v in zip(columns, row, strict=True)] for row in values]
    publish(_plain(labels, columns, cells, won, corner, note), _markup(labels, columns, cells, won, corner, note))


def _plain(labels, columns, cells, won, corner, note):
    cells = [[text + ("*" if (i, j) in won else "") for j, text in enumerate(row)] for i, row in enumerate(cells)]
    first = max(map(len, [corner, *labels]))
    widths = [max(len(c), *(len(row[j]) for row in cells)) for j, c in enumerate(columns)]
    lines = ["  ".join([name.ljust(first), *(text.rjust(w) for text, w in zip(row, widths, strict=True))]).rstrip()
             for name, row in zip([corner, *labels], [columns, *cells], strict=True)]
    return "\n".join(lines + ([note] if note else []) + (["* best of its column"] if won else []))


CELL = f"padding:6px 12px;border-bottom:1px solid {LINE};background:transparent;vertical-align:top;"


def _scroll(inside, note=""):
    below = f"<div style='font-size:13px;opacity:.8;padding:4px 12px'>{escape(note)}</div>" if note else ""
    return f"<div style='overflow-x:auto;max-width:100%;margin:10px 0'>{inside}{below}</div>"


def _markup(labels, columns, cells, won, corner, note):
    right = CELL + "text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap;"
    head = f"<th scope='col' style='{CELL}text-align:left'>{escape(corner)}</th>" + "".join(
        f"<th scope='col' style='{CELL}text-align:right'>{escape(c)}</th>" for c in columns)
    body = ""
    for i, (label, row) in enumerate(zip(labels, cells, strict=True)):
        values = "".join(f"<td style='{right}{'font-weight:700;' if (i, j) in won else ''}'>{escape(text)}</td>"
                         for j, text in enumerate(row))
        body += f"<tr><th scope='row' style='{CELL}text-align:left;font-weight:500;min-width:6em'>{escape(label)}</th>{values}</tr>"
    return _scroll(f"<table class='rlhf-table' style='{FONT};border-collapse:collapse;margin:0'><thead>"
                   f"<tr style='border-bottom:2px solid'>{head}</tr></thead><tbody>{body}</tbody></table>", note)


def said(text: object, limit: int) -> str:
    """An answer on one line, cut at `limit` characters; an empty one says so."""
    return textwrap.shorten(" ".join(str(text).split()), limit, placeholder=" …") or "(nothing)"


def badge(gold, words="") -> str:
    """The true reward of an answer as a small label, with `words` before it; the number says what the colour does."""
    if gold is None:
        return ""
    tone = GOOD if gold >= 2 else BAD if gold < 0 else MIDDLE
    return (f"<span style='color:#fff;background:{tone};border-radius:9px;padding:1px 9px;"
            f"font-size:13px;font-weight:700;white-space:nowrap'>{words}{number(float(gold), 1)}</span>")


def _answers(answers):
    """[(name, text, gold or None)] of every form that `cards` takes; a number in a name gets a real minus sign."""
    if isinstance(answers, dict):
        answers = [(name, *(a if isinstance(a, tuple) else (a,))) for name, a in answers.items()]
    return [(re.sub(r"(?<!\w)-(?=\d)", "−", str(name)), text, rest[0] if rest else None) for name, text, *rest in answers]


def cards_markup(prompt, answers, limit=220):
    """One prompt with its answers side by side, as HTML; they stack where the page is narrow."""
    body = ""
    for name, text, gold in _answers(answers):
        body += (f"<div style='flex:1 1 220px;min-width:0;border:1px solid {LINE};border-radius:8px;padding:8px 12px'>"
                 f"<div style='display:flex;justify-content:space-between;gap:8px;font-size:13px;font-weight:700'>"
                 f"<span>{escape(name)}</span>{badge(gold, 'true reward ')}</div>"
                 f"<div style='overflow-wrap:break-word;margin-top:4px'>{escape(said(text, limit))}</div></div>")
    ask = f"<div style='background:{SOFT};border-radius:8px;padding:8px 12px;font-weight:600'>{escape(said(prompt, 400))}</div>"
    return (f"<div class='rlhf-cards' style='{FONT};margin:12px 0;max-width:860px'>{ask}"
            f"<div style='display:flex;flex-wrap:wrap;gap:8px;margin-top:8px'>{body}</div></div>")


def cards(prompt: str, answers, *, limit: int = 220) -> None:
    """One prompt and the answers of several models: [(name, text)], [(name, text, gold)], {name: text} or {name: (text, gold)}."""
    plain = [f"PROMPT  {said(prompt, 400)}"]
    found = _answers(answers)
    wide = max(len(str(name)) for name, *_ in found)
    for name, text, gold in found:
        score = "" if gold is None else f"   [true reward {number(float(gold), 1)}]"
        plain.append(f"  {name!s:<{wide}}  {said(text, limit)}{score}")
    publish("\n".join(plain), cards_markup(prompt, answers, limit))


def texts_table(prompts: list, answers: dict, scores: dict | None = None, *, limit: int = 140) -> None:
    """Many prompts: a row each, a column for each model of answers {model: [text]}, scores {model: [true reward]}."""
    head = "".join(f"<th scope='col' style='{CELL}text-align:left'>{escape(n)}</th>" for n in ("request", *answers))
    body, plain = "", []
    for i, prompt in enumerate(prompts):
        row = [(name, said(texts[i], limit), scores[name][i] if scores else None) for name, texts in answers.items()]
        body += f"<tr><th scope='row' style='{CELL}text-align:left;font-weight:500;min-width:130px'>{escape(prompt)}</th>"
        body += "".join(f"<td style='{CELL}text-align:left;min-width:170px'>{escape(text)} {badge(gold)}</td>"
                        for _, text, gold in row) + "</tr>"
        plain += [f"PROMPT  {prompt}"] + [f"  {name}: {text}" + ("" if gold is None else f" [{number(float(gold), 1)}]")
                                          for name, text, gold in row]
    note = "The number after an answer is its true reward." if scores else ""
    plain += [note] if note else []
    publish("\n".join(plain), _scroll(f"<table class='rlhf-texts' style='{FONT};border-collapse:collapse;margin:0'>"
                                      f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>", note))
