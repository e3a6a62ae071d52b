"""Labels that a person gives to pairs of answers: kept as they come, taken back, resumed, and exported as preference pairs.

Two files belong together. `mine.log.jsonl` is the log: one line for every answer and for every undo, forced to the disk before
the next pair is shown. `mine.jsonl` is what the log says at this moment, in the columns prompt, chosen, rejected that
`rlhf_minimal.data` and other trainers read; ties and skipped pairs stand in the log only.
"""

from __future__ import annotations

import json
import os
import random
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..files import to_disk, write_atomically
from .columns import standard
from .read import is_local, local_rows
from .shapes import TWO

ANSWERS = ("first", "second", "tie", "skip")
KEYS = {"1": "first", "2": "second", "t": "tie", "s": "skip", "u": "undo"}  # the same in the terminal and in a notebook
LISTS = ("answers", "completions", "responses")


@dataclass(frozen=True)
class Shown:
    """One pair as the person sees it: its number in the data (from 0), the prompt, and the two answers in the order shown."""

    pair: int
    prompt: str
    first: str
    second: str


def read_pairs(source: str | Path) -> list[dict]:
    """The pairs of a file as rows prompt, chosen, rejected; which answer stands under which name means nothing yet.

    A row is a prompt with two answers without a verdict (response_a and response_b, answer_0 and answer_1, …, or a list
    `answers` of two), or any pair that `load_data` reads, whose verdict is then not used. Raises FileNotFoundError, and
    ValueError with the number of the row that is wrong.
    """
    if not is_local(source):
        raise FileNotFoundError(f"there is no file {source}")
    return as_pairs(local_rows(Path(source), "train"), str(source))


def as_pairs(rows: Iterable[dict], source: str = "pairs") -> list[dict]:
    """`read_pairs` for rows that are here already.

    >>> as_pairs([{"prompt": "Who?", "response_a": "Me.", "response_b": "You."}])
    [{'prompt': 'Who?', 'chosen': 'Me.', 'rejected': 'You.'}]
    """
    given = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(f"{source}, row {number} is {str(row)[:40]!r}; expected an object with columns")
        given.append(_sides(row, f"{source}, row {number}"))
    found, _, _ = standard(given, "pairs", None, None, source)
    return [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in found]


def _sides(row: dict, where: str) -> dict:
    """A row with two answers and no verdict as a pair; any other row as it is."""
    if "prompt" not in row or {"chosen", "rejected"} & set(row):
        return row
    two = next((names for names in TWO if set(names) <= set(row)), None)
    some = next((name for name in LISTS if isinstance(row.get(name), list)), None)
    if two is None and some is None:
        return row
    answers = [row[name] for name in two] if two else row[some]
    if len(answers) != 2:
        raise ValueError(f"{where}: {some} has {len(answers)} members; give two answers to compare")
    return {"prompt": row["prompt"], "chosen": answers[0], "rejected": answers[1]}


class Labels:
    """The labels of one person, in a file.

    pairs: rows as `as_pairs` takes them. out: the file of preferences, such as mine.jsonl; what its log holds already is
    read again, so that labelling goes on where it stopped. seed: draws which answer of a pair stands first; what was shown is
    in the log. rater: a name for the log.

    Raises ValueError where the log belongs to other pairs or is no log, and where `out` exists without its log.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     mine = Labels([{"prompt": "Who?", "chosen": "Me.", "rejected": "You."}], Path(folder) / "mine.jsonl", seed=1)
    ...     shown = mine.shown()
    ...     mine.give("first", seconds=2.0)
    ...     shown.first == mine.rows()[0]["chosen"], mine.shown()
    (True, None)
    """

    def __init__(self, pairs: Iterable[dict], out: str | Path, *, seed: int = 0, rater: str = ""):
        self.pairs, self.out, self.seed, self.rater = as_pairs(pairs), Path(out).expanduser(), seed, rater
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"seed is {seed!r}; give a whole number")
        if self.out.suffix != ".jsonl":
            raise ValueError(f"out is {str(out)!r}; give the name of a JSON Lines file, such as mine.jsonl")
        if not self.out.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {self.out.parent} for {self.out.name}; make it first")
        self.log = self.out.with_suffix(".log.jsonl")
        if self.out.exists() and not self.log.exists():
            raise ValueError(f"{self.out.name} is there already, without its log {self.log.name}; it is not overwritten: give "
                             "another name for out")
        self.given = self._read()
        self._export()

    # ---- what to show ----

    def shown(self) -> Shown | None:
        """The next pair without an answer, or None when all have one."""
        done = {row["pair"] for row in self.given}
        pair = next((i for i in range(len(self.pairs)) if i not in done), None)
        if pair is None:
            return None
        row = self.pairs[pair]
        two = row["chosen"], row["rejected"]
        first, second = two if random.Random(f"{self.seed} {pair}").random() < 0.5 else two[::-1]
        return Shown(pair, plain(row["prompt"]), first, second)

    def counts(self) -> Counter:
        """How often each answer was given."""
        return Counter(row["answer"] for row in self.given)

    def progress(self) -> str:
        """One line: how many, what, and the median time per label."""
        counts = self.counts()
        parts = [f"{len(self.given)} of {len(self.pairs)}"]
        if self.given:
            parts += [f"{statistics.median(row['seconds'] for row in self.given):.1f} s per label (median)",
                      f"{counts['first'] + counts['second']} preferences, {counts['tie']} ties, {counts['skip']} skipped"]
        return " · ".join(parts)

    def rows(self) -> list[dict]:
        """The preferences as rows prompt, chosen, rejected, in the order in which they were given."""
        found = []
        for row in self.given:
            if row["answer"] in ("first", "second"):
                two = [row["first"], row["second"]][:: 1 if row["answer"] == "first" else -1]
                prompt = self.pairs[row["pair"]]["prompt"]
                if not isinstance(prompt, str):  # a conversation: its answers are turns, too
                    two = [[{"role": "assistant", "content": text}] for text in two]
                found.append({"prompt": prompt, "chosen": two[0], "rejected": two[1]})
        return found

    # ---- what the person does ----

    def give(self, answer: str, seconds: float) -> None:
        """Answer the pair that is shown; when this returns, the answer is on the disk.

        answer: first, second, tie or skip. seconds: the time that it took. Raises ValueError for another answer, where no
        pair is left, and where another program has written to the log.
        """
        shown = self.shown()
        if answer not in ANSWERS:
            raise ValueError(f"answer is {answer!r}; give one of {', '.join(ANSWERS)}")
        if shown is None:
            raise ValueError(f"all {len(self.pairs)} pairs have their answer; there is nothing to label")
        row = {"pair": shown.pair, "prompt": self.pairs[shown.pair]["prompt"], "first": shown.first, "second": shown.second,
               "answer": answer, "seconds": round(max(0.0, float(seconds)), 3), "seed": self.seed, "rater": self.rater}
        self._append(row)
        self.given.append(row)
        self._export()

    def undo(self) -> bool:
        """Take the last answer back; its pair is shown again. False where there is none. The log keeps both."""
        if not self.given:
            return False
        self._append({"pair": self.given[-1]["pair"], "answer": "undo"})
        self.given.pop()
        self._export()
        return True

    def press(self, key: str, seconds: float) -> bool:
        """One key of `KEYS`, large or small -> whether it did something. A key that means nothing does nothing."""
        answer = KEYS.get(key.lower())
        if answer == "undo":
            return self.undo()
        if answer is None or self.shown() is None:
            return False
        self.give(answer, seconds)
        return True

    # ---- the files ----

    def _read(self) -> list[dict]:
        """The answers that hold, from the log. A last line that was cut off, by a crash, is dropped."""
        self._size, given = 0, []
        if not self.log.exists():
            return given
        raw = self.log.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if whole != raw:
            write_atomically(self.log, whole)
        self._size = len(whole)
        for number, line in enumerate(whole.decode("utf-8", "replace").split("\n")[:-1], 1):
            where = f"{self.log.name}, line {number}"
            try:
                row = json.loads(line)
                pair, answer = row["pair"], row["answer"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{where} is no label ({error}); give another name for out, or repair the line") from error
            if answer == "undo" and given and given[-1]["pair"] == pair:
                given.pop()
            elif answer in ANSWERS and self._is(pair, row):
                given.append(row)
            else:
                raise ValueError(f"{where} does not belong to these pairs (pair {pair}, answer {answer!r}); label them into "
                                 "another file, or give the pairs that the log was made with")
        return given

    def _is(self, pair: object, row: dict) -> bool:
        """Whether a line of the log is about one of these pairs."""
        if isinstance(pair, bool) or not isinstance(pair, int) or not 0 <= pair < len(self.pairs):
            return False
        known = self.pairs[pair]
        same = row.get("prompt") == known["prompt"] and isinstance(row.get("seconds"), (int, float))
        two = [known["chosen"], known["rejected"]]
        return same and [row.get("first"), row.get("second")] in (two, two[::-1])

    def _append(self, row: dict) -> None:
        size = self.log.stat().st_size if self.log.exists() else 0
        if size != self._size:
            raise ValueError(f"{self.log.name} was written by another program since it was opened; open it again (in a notebook: "
                             "run the cell again)")
        line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
        with open(self.log, "ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if not size:
            to_disk(self.log.parent)  # the name of a new file
        self._size = size + len(line)

    def _export(self) -> None:
        """The preferences as a file, where there are any or the file is there."""
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows())
        if text or self.out.exists():
            write_atomically(self.out, text)


def plain(prompt: str | list[dict]) -> str:
    """A prompt as text; of a conversation one line for each turn.

    >>> plain([{"role": "user", "content": "Who?"}])
    'user: Who?'
    """
    return prompt if isinstance(prompt, str) else "\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)
