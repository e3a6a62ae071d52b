"""A labelling interface inside a notebook: two answers, five buttons, a field for keys; the store is `data.labels`.

Every label is on the disk before the next pair is shown. After a restart of the kernel the same cell goes on where it stopped.
"""

import html
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from ..data.labels import KEYS, Labels, Shown, as_pairs
from .output import FONT, LINE, SOFT, escape, interactive, publish

NAMES = {"first": "1 · left is better", "second": "2 · right is better", "tie": "t · tie", "skip": "s · skip", "undo": "u · undo"}
# A key clicks its button, once for each pair that is shown: a key that comes too early labels nothing. (A text widget would do
# without a script, but it loses letters when they come faster than the kernel answers.)
PRESS = ("const name=%s[event.key.toLowerCase()],root=this.closest('.rlhf-labelling');"
         "if(name&&!event.repeat&&!event.ctrlKey&&!event.metaKey&&!event.altKey){event.preventDefault();event.stopPropagation();"
         "const turn=root.querySelector('.rlhf-pair').dataset.turn;"
         "if(this.turn!==turn){this.turn=turn;root.querySelector('.rlhf-'+name).click()}}"
         "else if(event.key.length===1&&!event.ctrlKey&&!event.metaKey)event.preventDefault()").replace("%s", json.dumps(KEYS))
ALT = "Two answers to one prompt beside each other; below them the buttons left, right, tie, skip and undo"


def card(text: str, head: str) -> str:
    """One answer, as HTML."""
    return (f"<div style='{FONT};border:1px solid {LINE};border-radius:8px;padding:10px 14px;min-height:64px;flex:1 1 220px;"
            f"box-sizing:border-box'><b>{head}</b><br><span class='rlhf-text'>{escape(text)}</span></div>")


def markup(shown: Shown | None, progress: str, turn: int = 0) -> str:
    """The pair as it stands above the buttons, as HTML. turn: another number each time that something is shown."""
    if shown is None:
        return f"<div class='rlhf-pair' data-turn='{turn}' style='{FONT}'>{escape(progress)}<br>" \
               "<b>All pairs have a label. Thank you.</b></div>"
    return (f"<div class='rlhf-pair' data-pair='{shown.pair}' data-turn='{turn}' style='{FONT};max-width:760px'>"
            f"<div style='opacity:.75'>{escape(progress)}</div>"
            f"<div style='background:{SOFT};border-radius:8px;padding:8px 14px;margin:8px 0'><b>{escape(shown.prompt)}</b></div>"
            f"<div style='display:flex;flex-wrap:wrap;gap:10px'>{card(shown.first, '1')}{card(shown.second, '2')}</div></div>")


class Interface:
    """The widgets for some labels; `box` is what a notebook displays.

    Below the buttons is a field that takes the keys 1, 2, t, s, u while it has the focus.
    """

    def __init__(self, labels: Labels, clock: Callable[[], float] = time.monotonic):
        import ipywidgets

        self.labels, self.clock, self.turn = labels, clock, 0
        self.view, self.message = ipywidgets.HTML(), ipywidgets.HTML()
        self.buttons = {}
        for name, text in NAMES.items():
            button = ipywidgets.Button(description=text, layout={"width": "auto"})
            button.add_class(f"rlhf-{name}")
            button.on_click(lambda _, name=name: self.act(name))
            self.buttons[name] = button
        self.keys = ipywidgets.HTML(f"<input class='rlhf-keys' data-lm-suppress-shortcuts='true' onkeydown='{html.escape(PRESS)}' "
                                    "aria-label='Keys: 1, 2, t, s, u' placeholder='click here, then use the keys 1 2 t s u' "
                                    f"style='{FONT};width:290px;padding:4px 8px'>")
        row = ipywidgets.Box([*self.buttons.values()], layout={"flex_flow": "row wrap"})
        self.box = ipywidgets.VBox([self.view, row, self.keys, self.message])
        self.box.add_class("rlhf-labelling")
        self.draw()

    def draw(self) -> None:
        """Show the next pair and start its clock."""
        self.turn += 1
        self.view.value = markup(self.labels.shown(), self.labels.progress(), self.turn)
        self.began = self.clock()

    def act(self, name: str) -> None:
        """One answer, or undo. What goes wrong is said under the buttons; nothing that was saved is lost."""
        try:
            key = next(key for key, value in KEYS.items() if value == name)
            done = self.labels.press(key, self.clock() - self.began)
            self.message.value = "" if done else f"<span style='{FONT}'>There is nothing to {name} here.</span>"
        except (OSError, ValueError) as error:
            self.message.value = f"<span style='{FONT};color:#D55E00'>Not saved: {escape(error)}</span>"
        self.draw()


def label(pairs: Iterable[dict], out: str | Path, *, seed: int = 0, rater: str = "") -> Labels:
    """Show the interface for these pairs and return the labels, which grow as somebody clicks.

    out: such as mine.jsonl; see `data.labels.Labels`. Where nobody sits at the notebook (a build, a test), a still picture of
    the first pair stands in its place, and the labels go to a temporary folder: no file of a reader is touched.
    """
    if interactive():
        from IPython.display import display

        labels = Labels(pairs, out, seed=seed, rater=rater)
        display(Interface(labels).box)
        return labels
    labels = Labels(pairs, Path(tempfile.mkdtemp()) / "scripted.jsonl", seed=seed, rater="scripted")
    shown = labels.shown()
    buttons = "".join(f"<span style='border:1px solid {LINE};border-radius:4px;padding:4px 12px;background:{SOFT}'>{text}</span>"
                      for text in NAMES.values())
    publish(f"{ALT}.\n{labels.progress()}\n{shown.prompt}\n  1: {shown.first}\n  2: {shown.second}",
            f"<div role='img' aria-label='{ALT}' style='margin:10px 0'>{markup(shown, labels.progress())}"
            f"<div style='{FONT};display:flex;flex-wrap:wrap;gap:8px;margin:10px 0'>{buttons}</div></div>")
    return labels


def answered(pairs: Iterable[dict], answer: Callable[[str, str, str], str], seed: int = 0) -> list[dict]:
    """The preferences, rows prompt, chosen, rejected, of a script that labels pairs in memory, without ties."""
    rng, rows = random.Random(seed), []
    for row in as_pairs(pairs):
        two = [row["chosen"], row["rejected"]][:: 1 if rng.random() < 0.5 else -1]
        said = answer(row["prompt"], *two)
        if said in ("first", "second"):
            chosen, rejected = two[:: 1 if said == "first" else -1]
            rows.append({"prompt": row["prompt"], "chosen": chosen, "rejected": rejected})
    return rows


def or_script(labels: Labels, answer: Callable[[str, str, str], str], *, least: int = 20) -> tuple[Labels, str]:
    """(the labels, whose they are in words): the person's if there are at least `least`, else those of a script.

    answer(prompt, first, second) -> first, second, tie or skip. The script labels every pair, in a temporary folder: labels of
    a person and of a script are never mixed, and the person's file stays as it is.
    """
    few = len(labels.given)
    if few >= least:
        return labels, f"your {few} labels"
    scripted = Labels(labels.pairs, Path(tempfile.mkdtemp()) / "scripted.jsonl", seed=labels.seed, rater="scripted")
    while (shown := scripted.shown()) is not None:
        scripted.give(answer(shown.prompt, shown.first, shown.second), seconds=0.0)
    why = f"you gave {few}, at least {least} are needed" if few else "nobody labelled here"
    return scripted, f"{len(scripted.given)} labels by a script ({why})"
