"""Label pairs of answers in the terminal, one key per label: `python -m rlhf_minimal label --data pairs.jsonl --out mine.jsonl`.

A pair is a prompt with two answers: response_a and response_b, a list `answers`, or chosen and rejected (the verdict is not
shown). Which answer stands first is drawn from the seed and kept. Every label is on the disk before the next pair is shown;
the same command goes on where you stopped. mine.jsonl holds prompt, chosen, rejected; mine.log.jsonl everything, with ties,
skipped pairs, what you took back, and the seconds.
"""

import argparse
import os
import sys
import textwrap
import time

from ..data.labels import Labels, Shown, read_pairs

HELP = "1 the first is better · 2 the second · t tie · s skip · u undo · q quit"
QUIT = ("q", "\x03", "\x04", "")  # also Ctrl-C, Ctrl-D and the end of the input


def read_key() -> str:
    """One key, without waiting for Enter where this is a terminal; of a pipe the next character. "" at the end."""
    if not sys.stdin.isatty():
        key = sys.stdin.read(1)
        while key.isspace():
            key = sys.stdin.read(1)
        return key
    try:
        import termios
        import tty
    except ImportError:  # Windows
        import msvcrt
        return msvcrt.getwch()
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin, termios.TCSADRAIN)  # the default would throw away what was typed ahead
        return os.read(sys.stdin.fileno(), 1).decode(errors="replace")
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def page(shown: Shown, progress: str, width: int = 88) -> str:
    """A pair as the terminal shows it."""
    def block(text: str) -> str:
        safe = "".join(c if c.isprintable() or c == "\n" else " " for c in text)  # an answer moves no cursor, paints nothing
        lines = [part for line in safe.split("\n") for part in textwrap.wrap(line, width - 4) or [""]]
        return "\n".join(f"    {line}" for line in lines)

    rule = "─" * width
    return f"{rule}\n{progress}\n\n{block(shown.prompt)}\n\n 1\n{block(shown.first)}\n\n 2\n{block(shown.second)}\n\n{HELP}"


def session(labels: Labels, key=read_key, clock=time.monotonic) -> None:
    """Show pairs and take keys until all have a label or the person quits."""
    while True:
        shown = labels.shown()
        if shown is None:
            print(f"{labels.progress()}\nAll pairs have a label. u takes the last one back, any other key ends.")
            if key().lower() != "u" or not labels.undo():
                return
            continue
        print(page(shown, labels.progress()), flush=True)
        began = clock()
        while True:
            try:
                pressed = key()
            except KeyboardInterrupt:
                return
            if pressed.lower() in QUIT:
                return
            if labels.press(pressed, clock() - began):
                break
            print(f"{pressed!r} means nothing here. {HELP}", flush=True)


def main(args: list[str] | None = None) -> None:
    """The command; bad input ends with one line that says what is wrong (status 2)."""
    about = argparse.ArgumentParser(prog="python -m rlhf_minimal label", description=__doc__)
    about.add_argument("--data", required=True, help="file of pairs: JSON Lines, JSON, CSV, TSV or parquet")
    about.add_argument("--out", required=True, help="file of preferences to write, such as mine.jsonl")
    about.add_argument("--seed", type=int, default=0, help="draws which answer stands first (0 if not given)")
    about.add_argument("--rater", default="", help="your name, for the log")
    given = about.parse_args(args)
    try:
        labels = Labels(read_pairs(given.data), given.out, seed=given.seed, rater=given.rater)
        session(labels)
    except (OSError, ValueError) as error:
        print(f"label: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    print(f"\n{labels.progress()}\npreferences: {labels.out}\neverything:  {labels.log}")
