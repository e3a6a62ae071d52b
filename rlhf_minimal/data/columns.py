"""Reading rows in the ecosystem's columns: local JSON Lines and hub datasets, brought to one form for each kind.

Answers become texts, prompts stay what they were (a text, or messages); transcripts are cut after the last turn of the
user that both sides share. Rows that hold not exactly one answer are left out, and counted.
"""

import json
import re
import warnings
from collections import Counter
from itertools import chain
from pathlib import Path

from ..chat import to_messages

# kind: the sets of columns that it can be made of, its own first
KINDS = {
    "prompts": (("prompt",), ("messages",), ("chosen", "rejected")),
    "demonstrations": (("prompt", "completion"), ("messages",)),
    "pairs": (("prompt", "chosen", "rejected"), ("chosen", "rejected")),
    "unpaired": (("prompt", "completion", "label"),),
    "messages": (("messages",), ("prompt", "completion")),
}


def local_rows(path, split):
    """Rows of a JSON Lines file."""
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if split != "train":
        raise ValueError(f"split is {split!r}, but {path.name} is one set of rows; give the path of the other file")
    rows = []
    for i, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"{path.name}, line {i} is no JSON: {error}") from error
            if not isinstance(rows[-1], dict):
                raise ValueError(f"{path.name}, line {i} is {str(rows[-1])[:40]!r}; expected an object with columns")
    return rows


def hub_rows(name, split):
    """A split of a hub dataset, from the cache or the network; OSError, fast, if there is neither."""
    import datasets
    from huggingface_hub import HfApi

    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise ValueError(f"source is {name!r}; give 'village', a .jsonl file or a hub id (owner/name)")
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    cached = cache.is_dir() and any(x.name.lower() == name.lower().replace("/", "___") for x in cache.iterdir())
    try:
        if not cached:
            HfApi().dataset_info(name, timeout=5)   # one quick question instead of half a minute of retries
        return datasets.load_dataset(name, split=split)
    except ValueError:
        raise                                       # an unknown split or configuration: its message names what there is
    except Exception as error:
        raise OSError(f"no dataset {name!r}: not of the village, no .jsonl file, and the hub does not give it "
                      f"({type(error).__name__}); check spelling and network, or save the rows as .jsonl") from error


class _LeftOut(Exception):
    """Why a row cannot be used."""


def standard(given, kind, n, families, source):
    """(rows in the columns of a kind, note) from rows in any of the columns that it can be made of."""
    given = iter(given)
    first = next(given, None)
    if first is None:
        raise ValueError(f"{source} has no rows")
    used = next((x for x in KINDS[kind] if set(x) <= set(first)), None)
    if used is None or families and "family" not in first:
        needs = " or ".join(" + ".join(x) for x in KINDS[kind]) + (", and family" if families else "")
        raise ValueError(f"{source} has the columns {', '.join(first)}; {kind} need {needs}")
    rows, left_out = [], Counter()
    for i, row in enumerate(chain([first], given)):
        if families and row.get("family") not in families:
            continue
        try:
            done = READERS[kind]({k: row[k] for k in used})
            rows.append(done | {k: v for k, v in row.items() if k not in used})
        except _LeftOut as reason:
            left_out[str(reason)] += 1
        except (KeyError, ValueError) as error:
            raise ValueError(f"{source}, row {i}: {error}; {kind} need {' + '.join(used)}") from error
        if len(rows) == n:
            break
    note = f"{source}; left out: {dict(left_out) or 'nothing'}"
    if left_out:
        warnings.warn(f"{source}: {left_out.total()} of {i + 1} rows left out: {dict(left_out)}", stacklevel=3)
    if len(rows) < (n or 1):
        raise ValueError(f"{len(rows)} usable rows in {source}, {n or 'at least 1'} asked; without n you get them all")
    return rows, note


def _messages(x):
    return [{"role": m["role"], "content": m["content"]} for m in to_messages(x)]


def last_common_turn(chosen, rejected):
    """(prompt, rest of chosen, rest of rejected), three lists of messages: two conversations cut after the last turn of
    the user that they share. Takes transcripts ("\\n\\nHuman: … \\n\\nAssistant: …") or lists of messages.

    Where they part before their last answers, a rest holds more than one turn; with nothing shared the prompt is [].
    """
    a, b = _messages(chosen), _messages(rejected)
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    same = max((i + 1 for i in range(same) if a[i]["role"] == "user"), default=0)
    return a[:same], a[same:], b[same:]


def _as_text(messages):
    roles = {"assistant": "Assistant", "user": "User"}
    return messages[0]["content"] + "".join(f"\n\n{roles[m['role']]}: {m['content']}" for m in messages[1:])


def _answer(x, prompt=()):
    """The one answer in a text, or in messages that may repeat the prompt."""
    if not isinstance(x, str):
        x, before = _messages(x), _messages(prompt)
        x = x[len(before):] if x[:len(before)] == before else x
        if [m["role"] for m in x] != ["assistant"]:
            raise _LeftOut("not one answer after the prompt")
        x = x[0]["content"]
    if not x.strip():
        raise _LeftOut("an empty answer")
    return x


def _prompt(row):
    if "chosen" in row:
        common = last_common_turn(row["chosen"], row["rejected"])[0]
        if not common:
            raise _LeftOut("no common turn")
        return {"prompt": _as_text(common) if isinstance(row["chosen"], str) else common}
    messages = _messages(row["prompt" if "prompt" in row else "messages"])
    asked = max((i + 1 for i, m in enumerate(messages) if m["role"] == "user"), default=0)
    if not asked:
        raise ValueError(f"no user's turn in {str(row)[:60]!r}")
    return {"prompt": row["prompt"] if "prompt" in row else messages[:asked]}


def _demonstration(row):
    if "messages" in row:
        messages = _messages(row["messages"])
        row = {"prompt": messages[:-1], "completion": messages[-1:]}
    return _prompt({"prompt": row["prompt"]}) | {"completion": _answer(row["completion"], row["prompt"])}


def _pair(row):
    if "prompt" in row:
        prompt = _prompt({"prompt": row["prompt"]})
        chosen, rejected = (_answer(row[side], row["prompt"]) for side in ("chosen", "rejected"))
    else:
        prompt, rests = _prompt(row), last_common_turn(row["chosen"], row["rejected"])[1:]
        chosen, rejected = (_answer(rest) for rest in rests)
    if chosen == rejected:
        raise _LeftOut("chosen equals rejected")
    return prompt | {"chosen": chosen, "rejected": rejected}


def _unpaired(row):
    if row["label"] not in (0, 1):
        raise ValueError(f"label is {row['label']!r}; expected true or false")
    return _demonstration(row) | {"label": bool(row["label"])}


def _conversation(row):
    if "messages" in row:
        return {"messages": _messages(row["messages"])}
    done = _answer(row["completion"], row["prompt"])
    return {"messages": [*_messages(row["prompt"]), {"role": "assistant", "content": done}]}


READERS = {"prompts": _prompt, "demonstrations": _demonstration, "pairs": _pair, "unpaired": _unpaired,
            "messages": _conversation}
