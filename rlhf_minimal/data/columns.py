"""From rows in any of the shapes that people have to rows in the usual columns, one form for each kind.

Answers become texts, prompts stay what they were (a text, or messages); transcripts are cut after the last turn of the
user that both sides share. A row that holds not exactly one answer is left out, and counted; a row that is wrong raises
ValueError with its number, counted from 1, its column and what to do.
"""

import warnings
from collections import Counter
from collections.abc import Iterable
from typing import Any

from ..chat import to_messages
from .read import SPLITS
from .shapes import PROMPT, RATING, LeftOut, as_label, as_message, ignored, known_shape, mapped, number, parse_columns, text_of

Messages = list[dict[str, str]]

# kind: the sets of columns that it can be made of, its own first
KINDS = {
    "prompts": (("prompt",), ("messages",), ("chosen", "rejected")),
    "demonstrations": (("prompt", "completion"), ("messages",)),
    "pairs": (("prompt", "chosen", "rejected"), ("chosen", "rejected")),
    "unpaired": (("prompt", "completion", "label"),),
    "messages": (("messages",), ("prompt", "completion")),
}
GOOD = {  # one row of each kind, shown where the columns are not understood
    "prompts": '{"prompt": "Who are you?"}',
    "demonstrations": '{"prompt": "Who are you?", "completion": "A model."}',
    "pairs": '{"prompt": "Who are you?", "chosen": "A model.", "rejected": "Guess."}',
    "unpaired": '{"prompt": "Who are you?", "completion": "A model.", "label": true}',
    "messages": '{"messages": [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "A model."}]}',
}


def standard(
    given: Iterable[dict], kind: str, n: int | None, families: tuple[str, ...] | None, source: str,
    columns: str | dict[str, str] | None = None, split: str = "train",
) -> tuple[list[dict], list[int], str]:
    """Rows in the columns of a kind, the number of each in its source (from 1), and a note on what was left out.

    columns: names by hand, ours=theirs. Raises ValueError for columns that are not understood, for rows that are wrong
    (all of them are looked at, the first ones named), and for fewer usable rows than `n`.
    """
    names = parse_columns(columns)
    numbered = [(i, dict(row)) for i, row in enumerate(given, 1)]
    if not numbered:
        raise ValueError(f"{source} has no rows")
    left_out, faults, unused = Counter(), [], Counter()
    numbered = of_split(numbered, split, left_out)
    total, numbered = len(numbered), by_rating(numbered, kind, names, left_out, source)
    signs = any(str(row.get("label", "")).strip() in ("-1", "-1.0") for _, row in numbered)
    rows, numbers, used, own = [], [], None, None
    for i, row in numbered:
        if families and "family" in row and row["family"] not in families:
            continue
        try:
            unused += ignored(row, kind)
            row = mapped(row, names)
            if own is None:
                asked = {"prompt", "messages"} & set(row) or not {*PROMPT, "conversations", "conversation"} & set(row)
                own = bool(asked) and any(set(x) <= set(row) for x in KINDS[kind])
            row = known_shape(row, kind, own)
            if used is None:
                used = columns_of(row, kind, families, source)
            if lacks := [x for x in used if x not in row]:
                raise ValueError(f"there is no column {', '.join(map(repr, lacks))}, only {', '.join(map(str, row))}")
            done = READERS[kind]({k: row[k] for k in used} | ({"signs": signs} if kind == "unpaired" else {}))
            more = {k: v for k, v in row.items() if k not in used}
            if "margin" in more and kind == "pairs":
                more["margin"] = 0.0 if more["margin"] in (None, "") else number(more["margin"], "column margin")
            rows.append(done | more)
            numbers.append(i)
        except LeftOut as reason:
            left_out[str(reason)] += 1
        except _Unknown:
            raise
        except ValueError as error:
            faults.append(f"row {i}: {error}")
        if len(rows) == n:
            break
    if faults:
        more = f" ({len(faults)} rows are wrong; next, {'; next, '.join(faults[1:3])})" if len(faults) > 1 else ""
        raise ValueError(f"{source}, {faults[0]}; {kind} need {' + '.join(used or KINDS[kind][0])}{more}")
    if len({type(row.get("prompt")) for row in rows}) > 1:  # texts and messages: one type, messages, for all
        rows = [row | {"prompt": _messages(row["prompt"])} for row in rows]
    say(source, left_out, unused, total)
    if len(rows) < (n or 1):
        why = f"; left out: {dict(left_out)}" if left_out else ""
        raise ValueError(f"{len(rows)} usable rows in {source}, {n or 'at least 1'} asked; without n you get them all{why}")
    return rows, numbers, f"{source}; left out: {dict(left_out) or 'nothing'}" + (f"; not used: {dict(unused)}" if unused else "")


def say(source: str, left_out: Counter, unused: Counter, total: int) -> None:
    """One warning for all that was left out, one for all keys that nothing here uses."""
    if left_out:
        warnings.warn(f"{source}: {left_out.total()} of {total} rows left out: {dict(left_out)}", stacklevel=5)
    if unused:
        what = ", ".join(f"{name} in {count} rows" for name, count in unused.most_common())
        warnings.warn(f"{source}: not used here: {what}", stacklevel=5)


class _Unknown(ValueError):
    """Columns from which a kind cannot be made: what is wrong with the file, not with a row."""


def columns_of(row: dict, kind: str, families: tuple[str, ...] | None, source: str) -> tuple[str, ...]:
    """The columns of the first usable row that are read. ValueError, with a good row, where they do not suffice."""
    used = next((x for x in KINDS[kind] if set(x) <= set(row)), None)
    if used is None or families and "family" not in row:
        needs = " or ".join(" + ".join(x) for x in KINDS[kind]) + (", and family" if families else "")
        raise _Unknown(f"{source} has the columns {', '.join(map(str, row))}; {kind} need {needs}; a good row: {GOOD[kind]}; "
                       "other names are given with columns, such as prompt=question or label=rating>=4")
    return used


def of_split(numbered: list[tuple[int, dict]], split: str, left_out: Counter) -> list[tuple[int, dict]]:
    """The rows of a split, where a column `split` says to which each belongs; the others are counted."""
    names = {row.get("split") for _, row in numbered if isinstance(row.get("split"), str)}
    if not names & (SPLITS | {split}):
        return numbered
    if split not in names:
        raise ValueError(f"split is {split!r}, but the column split holds {', '.join(sorted(names))}; give one of them")
    others = Counter(row.get("split") for _, row in numbered if row.get("split") != split)
    left_out.update({f"split {name}": count for name, count in others.items()})
    return [(i, row) for i, row in numbered if row.get("split") == split]


def by_rating(
    numbered: list[tuple[int, dict]], kind: str, names: dict, left_out: Counter, source: str,
) -> list[tuple[int, dict]]:
    """For pairs of rated answers, a row each: the best and the worst answer to each prompt. Anything else as it is."""
    first = numbered[0][1] if numbered else {}
    rating = next((x for x in RATING if x in first), None)
    if kind != "pairs" or rating is None or names or {"chosen", "rejected"} & set(first):
        return numbered
    try:
        shaped = [(i, known_shape(row, "demonstrations")) for i, row in numbered]
    except LeftOut:
        return numbered
    if not all("prompt" in row and "completion" in row and rating in row for _, row in shaped):
        return numbered
    groups = {}
    for i, row in shaped:
        groups.setdefault(str(row["prompt"]), []).append((number(row[rating], f"{source}, row {i}: column {rating}"), i, row))
    out = []
    for rated in groups.values():
        best, worst = max(rated, key=lambda x: x[0]), min(rated, key=lambda x: x[0])
        if best[0] == worst[0]:
            left_out["a prompt whose answers have one rating"] += len(rated)
            continue
        if len(rated) > 2:
            left_out["rated between the best and the worst answer"] += len(rated) - 2
        out.append((best[1], {"prompt": best[2]["prompt"], "chosen": best[2]["completion"], "rejected": worst[2]["completion"]}))
    return out


# ---- texts and messages ----

def _messages(x: Any, column: str = "prompt") -> Messages:
    """Messages of a text or a list of turns. ValueError names the column."""
    if isinstance(x, dict):
        x = [x]
    if isinstance(x, (list, tuple)):
        x = [as_message(m) for m in x]
    try:
        return [{k: m[k] for k in ("role", "content", "weight") if k in m} for m in to_messages(x)]
    except ValueError as error:
        raise ValueError(f"column {column} is {str(x)[:60]!r}; give a str or a list of {{'role': ..., 'content': str}} with the "
                         "roles system, user and assistant") from error


def _plain(messages: Messages) -> Messages:
    return [{"role": m["role"], "content": m["content"]} for m in messages]


def last_common_turn(chosen: str | Messages, rejected: str | Messages) -> tuple[Messages, Messages, Messages]:
    """(prompt, rest of chosen, rest of rejected), three lists of messages: two conversations cut after the last turn of
    the user that they share. Takes transcripts ("\\n\\nHuman: … \\n\\nAssistant: …") or lists of messages.

    Where they part before their last answers, a rest holds more than one turn; with nothing shared the prompt is [].
    """
    a, b = _plain(_messages(chosen, "chosen")), _plain(_messages(rejected, "rejected"))
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    same = max((i + 1 for i in range(same) if a[i]["role"] == "user"), default=0)
    return a[:same], a[same:], b[same:]


def _as_text(messages: Messages) -> str:
    roles = {"assistant": "Assistant", "user": "User", "system": "System"}
    return messages[0]["content"] + "".join(f"\n\n{roles[m['role']]}: {m['content']}" for m in messages[1:])


def _answer(x: Any, prompt: Any = (), column: str = "completion") -> str:
    """The one answer in a text, or in messages that may repeat the prompt."""
    if isinstance(x, list) and x and all(isinstance(p, dict) and "type" in p and "role" not in p for p in x):
        x = text_of(x)
    if not isinstance(x, str):
        x, before = _plain(_messages(x, column)), _plain(_messages(prompt)) if prompt else []
        x = x[len(before):] if x[:len(before)] == before else x
        if [m["role"] for m in x] != ["assistant"]:
            raise LeftOut("not one answer after the prompt")
        x = x[0]["content"]
    if not x.strip():
        raise LeftOut("an empty answer")
    return x


# ---- one reader for each kind ----

def _prompt(row: dict) -> dict:
    if "chosen" in row:
        common = last_common_turn(row["chosen"], row["rejected"])[0]
        if not common:
            raise LeftOut("no common turn")
        return {"prompt": _as_text(common) if isinstance(row["chosen"], str) else common}
    column = "prompt" if "prompt" in row else "messages"
    messages = _messages(row[column], column)
    asked = max((i + 1 for i, m in enumerate(messages) if m["role"] == "user"), default=0)
    if not asked:
        raise ValueError(f"column {column}: no user's turn in {str(row)[:60]!r}; give a question")
    if column == "prompt" and asked < len(messages):
        raise ValueError(f"column prompt ends in a turn of the {messages[-1]['role']}; end it in the user's, and put the answer "
                         "into a column of its own")
    if column == "messages":
        messages = messages[:asked]
    return {"prompt": row["prompt"] if isinstance(row.get("prompt"), str) else _plain(messages)}


def _demonstration(row: dict) -> dict:
    """A demonstration. Turns of weight 0 keep that mark; so do the answers in a prompt, which are given, not learned."""
    if "messages" not in row:
        prompt = _prompt({"prompt": row["prompt"]})["prompt"]
        if not isinstance(prompt, str):
            prompt = [m | {"weight": 0} if m["role"] == "assistant" else m for m in prompt]
        return {"prompt": prompt, "completion": _answer(row["completion"], row["prompt"])}
    messages = _messages(row["messages"], "messages")
    if not messages or messages[-1]["role"] != "assistant":
        raise LeftOut("not one answer after the prompt")
    learned = [i for i, m in enumerate(messages) if m["role"] == "assistant" and m.get("weight") != 0]
    if not learned:
        raise LeftOut("every answer has weight 0")
    messages = messages[:learned[-1] + 1]  # what follows the last learned answer teaches nothing
    prompt = [m if m["role"] == "assistant" and m.get("weight") == 0 else _plain([m])[0] for m in messages[:-1]]
    if not prompt or prompt[-1]["role"] != "user":
        raise LeftOut("not one answer after the prompt")
    return {"prompt": prompt, "completion": _answer(messages[-1:])}


def _pair(row: dict) -> dict:
    if "prompt" in row:
        prompt = _prompt({"prompt": row["prompt"]})
        chosen, rejected = (_answer(row[side], row["prompt"], side) for side in ("chosen", "rejected"))
    else:
        prompt, rests = _prompt(row), last_common_turn(row["chosen"], row["rejected"])[1:]
        chosen, rejected = (_answer(rest) for rest in rests)
    if chosen == rejected:
        raise LeftOut("chosen equals rejected")
    return prompt | {"chosen": chosen, "rejected": rejected}


def _unpaired(row: dict) -> dict:
    prompt = _prompt({"prompt": row["prompt"]})
    done = prompt | {"completion": _answer(row["completion"], row["prompt"])}
    return done | {"label": as_label(row["label"], row.get("signs", False))}


def _conversation(row: dict) -> dict:
    if "messages" in row:
        return {"messages": _plain(_messages(row["messages"], "messages"))}
    done = _answer(row["completion"], row["prompt"])
    return {"messages": [*_plain(_messages(row["prompt"])), {"role": "assistant", "content": done}]}


READERS = {"prompts": _prompt, "demonstrations": _demonstration, "pairs": _pair, "unpaired": _unpaired,
           "messages": _conversation}
