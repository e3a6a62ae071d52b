"""Shapes of rows that people have, brought to the usual columns: Alpaca, ShareGPT, SHP, two answers and a winner, ratings.

`known_shape(row, kind)` gives a row in the columns of its kind where one of these shapes is recognised; `LeftOut` says why a
row cannot be used. Names are mapped by hand with `columns`: "prompt=instruction,completion=output,label=rating>=4".
"""

import math
import re
from collections import Counter
from typing import Any

PROMPT = ("instruction", "question", "query", "input", "context", "history")
ANSWER = ("completion", "output", "response", "answer")
LABEL = ("label", "thumbs", "thumb", "feedback", "vote", "liked", "desirable", "rating")
RATING = ("rating", "score", "stars")
VERDICT = ("winner", "preference", "preferred", "better_response_id", "labels", "label", "choice")
TWO = [(f"{word}_{a}", f"{word}_{b}") for word in ("response", "answer", "output", "completion", "human_ref", "conversation")
       for a, b in ("ab", "AB", "01", "12")] + [("response1", "response2"), ("answer1", "answer2")]
ROLES = {"human": "user", "prompter": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
         "model": "assistant", "developer": "system"}
TOOL_ROLES = ("tool", "function", "observation", "ipython", "function_call")
YES = ("1", "+1", "true", "yes", "up", "thumbs_up", "thumbs up", "👍")
NO = ("0", "-1", "false", "no", "down", "thumbs_down", "thumbs down", "👎")
USELESS = ("weight", "weights", "sample_weight", "tools", "tool_calls", "functions", "reasoning_content", "thinking", "images",
           "documents")  # columns of a row that ask for something which is not done here


class LeftOut(Exception):
    """Why a row cannot be used, in words that are the same for every such row."""


# ---- columns by hand ----

def parse_columns(columns: str | dict[str, str] | None) -> dict[str, str]:
    """"prompt=instruction,label=rating>=4" -> {"prompt": "instruction", "label": "rating>=4"}. ValueError for anything else.

    >>> parse_columns("prompt=instruction, completion=output")
    {'prompt': 'instruction', 'completion': 'output'}
    """
    if not columns:
        return {}
    given = columns
    if isinstance(columns, str):
        parts = [part.partition("=") for part in columns.split(",")]
        columns = {new.strip(): old.strip() for new, sign, old in parts if sign}
        if len(columns) < len(parts):
            columns = None
    allowed = ("prompt", "completion", "chosen", "rejected", "label", "messages", "margin", "system", "split", "family")
    good = isinstance(columns, dict) and all(isinstance(x, str) and x for pair in columns.items() for x in pair)
    if not good or not set(columns) <= set(allowed):
        raise ValueError(f"columns is {given!r}; give ours=theirs with commas, such as prompt=instruction,completion=output; "
                         f"ours are {', '.join(allowed)}")
    return columns


def mapped(row: dict, columns: dict[str, str]) -> dict:
    """A row with its columns renamed; `label=rating>=4` compares. ValueError where a column is not there or no number."""
    out = {k: v for k, v in row.items() if k not in columns.values() and k not in columns}
    for new, old in columns.items():
        compare = re.fullmatch(r"(.+?)\s*(>=|<=|>|<)\s*(-?[\d.]+)", old)
        name = compare[1] if compare and old not in row else old
        if name not in row:
            raise ValueError(f"there is no column {name}, only {', '.join(map(str, row))}; correct columns")
        if name != old:
            x, limit = number(row[name], name), number(compare[3], "the limit")
            out[new] = {">=": x >= limit, "<=": x <= limit, ">": x > limit, "<": x < limit}[compare[2]]
            out[name] = x
        else:
            out[new] = row[name]
    return out


# ---- single values ----

def number(x: Any, column: str) -> float:
    """A finite number, also where it is written as text. ValueError names the column."""
    try:
        value = math.nan if isinstance(x, bool) else float(x)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{column} is {str(x)[:40]!r}; give a finite number")
    return value


def as_label(x: Any, signs: bool) -> bool:
    """A label as True or False: 1 and 0, +1 and -1, true and false, up and down. With signs 0 is neither: LeftOut."""
    text = str(int(x) if isinstance(x, float) and x.is_integer() else x).strip().lower()
    if signs and text == "0":
        raise LeftOut("a neutral label, 0 beside 1 and -1")
    if text not in YES + NO or x is None:
        raise ValueError(f"label is {str(x)[:40]!r}; expected true or false (also 1 and 0, 1 and -1, up and down); map ratings "
                         "with columns, such as label=rating>=4")
    return text in YES


def text_of(content: Any) -> Any:
    """The text of a content that may come in parts. LeftOut for a part that is no text."""
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, (list, tuple)):
        return content
    parts = [x if isinstance(x, str) else x.get("text") if isinstance(x, dict) else None for x in content]
    if not all(isinstance(x, str) for x in parts):
        raise LeftOut("a part that is no text, such as an image")
    return "".join(parts)


def as_message(m: Any) -> Any:
    """A turn as {"role", "content"}, and "weight" where it is given. LeftOut for turns of tools; anything else as it is."""
    if not isinstance(m, dict):
        return m
    role, content = m.get("role", m.get("from")), m.get("content", m.get("value", m.get("text")))
    if role in TOOL_ROLES or content is None and (m.get("tool_calls") or m.get("function_call")):
        raise LeftOut("a turn of a tool")
    out = {"role": ROLES.get(role, role) if isinstance(role, str) else role, "content": text_of(content)}
    if m.get("weight") is not None:
        if isinstance(m["weight"], bool) or m["weight"] not in (0, 1):
            raise ValueError(f"weight is {str(m['weight'])[:40]!r}; give 1, or 0 for a turn that is not to be learned")
        out["weight"] = int(m["weight"])
    return out


def ignored(row: dict, kind: str) -> Counter:
    """What a row asks for that is not done here: keys of its turns, and columns known elsewhere."""
    found = Counter()
    for name, x in row.items():
        if name in USELESS and x not in (None, "", [], {}, 1) or name == "margin" and kind != "pairs" and x is not None:
            found[name] += 1
        turns = x if isinstance(x, list) else [x]
        keys = {key for m in turns if isinstance(m, dict) and ("role" in m or "from" in m) for key, value in m.items()
                if key not in ("role", "from", "content", "value", "text") and value not in (None, "", [], {})
                and (key != "weight" or kind != "demonstrations" and value != 1)}
        found.update(str(key) for key in keys)
    return found


# ---- whole rows ----

def known_shape(row: dict, kind: str, own: bool = False) -> dict:
    """The row with the columns of its kind, made from those of a shape that is known; its own columns win.

    own: the rows have the columns of the kind already; then only a column `system` is put in its place. What was used is
    taken out, what is left over stays. LeftOut for a row that cannot be used.
    """
    row = dict(row)
    if not own:
        to_columns(row, kind)
    if isinstance(row.get("system"), str) or isinstance(row.get("system_prompt"), str):
        say_first(row, row.pop("system" if "system" in row else "system_prompt"))
    return row


def to_columns(row: dict, kind: str) -> None:
    """Put the columns of a kind in place of those of a shape that is known."""
    if kind == "pairs" and "rejected" not in row:
        two_answers(row)
    complete = isinstance(row.get("chosen"), str) and row["chosen"].lstrip().startswith(("Human:", "User:"))
    complete = complete or isinstance(row.get("chosen"), list) and len(row["chosen"]) > 1
    if "prompt" not in row and "messages" not in row and not complete:
        ask(row, kind)
    answer = next((x for x in ANSWER if x in row), None)
    if kind in ("demonstrations", "unpaired", "messages") and answer not in (None, "completion") and "prompt" in row:
        row["completion"] = row.pop(answer)
    if kind == "unpaired":
        name = next((x for x in LABEL if x in row and (x != "rating" or str(row[x]).lower() in YES + NO)), None)
        if name:
            row["label"] = row.pop(name)


def ask(row: dict, kind: str) -> None:
    """Make the column prompt, or messages, of the columns that hold a question elsewhere."""
    talk = next((x for x in ("conversations", "conversation") if isinstance(row.get(x), list)), None)
    if talk:
        apart = "chosen" in row or "completion" in row
        row["prompt" if apart else "messages"] = row.pop(talk)
        return
    name = next((x for x in PROMPT if x in row), None)
    if name is None or not isinstance(row[name], (str, list)):
        return
    row["prompt"] = row.pop(name)
    if name == "instruction":
        more = next((x for x in ("input", "context") if x in row), None)
        text = row.pop(more) if more else None
        if isinstance(text, str) and text.strip() and isinstance(row["prompt"], str):
            row["prompt"] += "\n\n" + text
    earlier = row.get("history")
    if isinstance(earlier, list) and isinstance(row["prompt"], str) and all(isinstance(x, list) and len(x) == 2 for x in earlier):
        turns = [(role, text) for two in row.pop("history") for role, text in zip(("user", "assistant"), two, strict=True)]
        if turns:
            row["prompt"] = [{"role": r, "content": x} for r, x in [*turns, ("user", row["prompt"])]]


def say_first(row: dict, system: str) -> None:
    """Put a system turn before the conversation, unless it has one or the text is empty."""
    where = next((x for x in ("prompt", "messages") if x in row), None)
    if not system.strip() or where is None:
        return
    turns = [{"role": "user", "content": row[where]}] if isinstance(row[where], str) else row[where]
    if isinstance(turns, list) and not (turns and isinstance(turns[0], dict) and "system" in turns[0].values()):
        row[where] = [{"role": "system", "content": system}, *turns]


def two_answers(row: dict) -> None:
    """Make chosen and rejected of two answers and a verdict, two answers with scores, or a list of answers with ratings."""
    if "chosen_response" in row and "rejected_response" in row:
        row["chosen"], row["rejected"] = row.pop("chosen_response"), row.pop("rejected_response")
        return
    names = next((x for x in TWO if x[0] in row and x[1] in row), None)
    if names:
        first = verdict(row, names)
        a, b = row.pop(names[0]), row.pop(names[1])
        row["chosen"], row["rejected"] = (a, b) if first else (b, a)
        return
    answers = next((x for x in ("responses", "completions", "answers") if isinstance(row.get(x), list)), None)
    ratings = next((x for x in ("ratings", "scores", "labels") if isinstance(row.get(x), list)), None)
    if answers and ratings:
        if len(row[answers]) != len(row[ratings]) or len(row[answers]) < 2:
            raise ValueError(f"{answers} has {len(row[answers])} members and {ratings} {len(row[ratings])}; give one rating for "
                             "each of two answers or more")
        scores = [number(x, ratings) for x in row.pop(ratings)]
        texts = row.pop(answers)
        if min(scores) == max(scores):
            raise LeftOut("a tie")
        row["chosen"], row["rejected"] = texts[scores.index(max(scores))], texts[scores.index(min(scores))]


def verdict(row: dict, names: tuple[str, str]) -> bool:
    """Whether the first of two answers is the better one. LeftOut for a tie, ValueError for a verdict that is not understood."""
    ends = [name[-1].lower() for name in names]
    one_hot = [f"winner_model_{x}" for x in ends]
    scores = [name for x in ends for name in dict.fromkeys((f"score_{x}", f"rating_{x}", f"score_{x.upper()}")) if name in row]
    word = next((x for x in VERDICT if x in row), None)
    if word is None and all(x in row for x in one_hot):
        scores = one_hot
    if word is None:
        if len(scores) != 2:
            raise ValueError(f"{' and '.join(names)} have no verdict; give a column winner that holds {' or '.join(ends)}")
        a, b = (number(row.pop(x), x) for x in scores)
        if a == b:
            raise LeftOut("a tie")
        return a > b
    x = row.pop(word)
    if word == "labels":  # of SHP: 1 where the first is better
        return as_label(x, False)
    text = str(int(x) if isinstance(x, float) and x.is_integer() else x).strip().lower()
    if text.startswith(("tie", "both", "neither", "equal", "draw")):
        raise LeftOut("a tie")
    if text in [name.lower() for name in names]:
        return text == names[0].lower()
    last = re.sub(r"^(model|response|answer|output|completion|assistant)?[\s_-]*", "", text)
    if last not in ends:
        raise ValueError(f"{word} is {str(x)[:40]!r}; expected {' or '.join(ends)}, or tie")
    return last == ends[0]
