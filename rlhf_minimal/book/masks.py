"""Pictures of what the loss counts: two masks with what came of them, and a conversation under several rules."""

from __future__ import annotations

import textwrap

from .drawings import _lines, box, canvas, note, strip
from .explorers import Explorer
from .plots import BLACK, short

RULES = {  # what is counted, and what a model learns from it
    "answers and their ends": "It learns to answer and to stop: the usual choice.",
    "the last answer only": "The first answer is read, not learned: right where earlier answers are poor.",
    "everything": "It also learns to write questions and tags.",
    "no end tokens": "It learns to answer, not to stop.",
    "all but the padding's id": "Here the padding has the id of the end token, so this hides every end as well.",
}
CONVERSATIONS = {
    "one turn": (("What does the fox eat?", "The fox eats cakes."),),
    "two turns": (("What does the fox eat?", "The fox eats cakes."), ("And the owl?", "The owl eats nuts.")),
}


def pieces(turns) -> list[tuple[str, str, int]]:
    """((question, answer), …) -> [(token, "tag", "asked", "end asked", "said" or "end said", number of the turn)], by words.

    >>> pieces([("Why?", "So.")])[-3:]
    [('<|assistant|>', 'tag', 0), ('So.', 'said', 0), ('<|end|>', 'end said', 0)]
    """
    out = []
    for i, turn in enumerate(turns):
        for role, text, kind in zip(("user", "assistant"), turn, ("asked", "said"), strict=True):
            out += [(f"<|{role}|>", "tag", i), *((word, kind, i) for word in text.split()), ("<|end|>", f"end {kind}", i)]
    return out


def counted(conversation: str, rule: str) -> tuple[list[str], list[int]]:
    """(tokens, 1 where the rule counts one) of a conversation of CONVERSATIONS under a rule of RULES.

    Raises ValueError for names that are not there.
    """
    if conversation not in CONVERSATIONS or rule not in RULES:
        raise ValueError(f"{conversation!r}, {rule!r}: expected one of {', '.join(CONVERSATIONS)} and one of {', '.join(RULES)}")
    found = pieces(CONVERSATIONS[conversation])
    last = found[-1][2]
    keep = {
        "answers and their ends": lambda kind, turn: kind in ("said", "end said"),
        "the last answer only": lambda kind, turn: kind in ("said", "end said") and turn == last,
        "everything": lambda kind, turn: True,
        "no end tokens": lambda kind, turn: kind == "said",
        "all but the padding's id": lambda kind, turn: kind == "said",
    }[rule]
    return [token for token, *_ in found], [int(keep(kind, turn)) for _, kind, turn in found]


def explorer() -> Explorer:
    """A conversation and a masking rule -> which tokens the loss counts."""
    def compute(conversation, rule):
        return *counted(conversation, rule), RULES[rule]

    def draw(found, ax):
        tokens, counts, _ = found
        fig = ax.figure
        fig.set_layout_engine("none")
        place = ax.get_subplotspec()
        rows = place.get_gridspec().nrows
        ax.set_position([0.01, 1 - (place.rowspan.start + 1) / rows, 0.98, 0.97 / rows])
        ax.set(xlim=(0, 6.1), ylim=(0, 2.15))
        ax.axis("off")
        for k, (first, end) in enumerate(_lines(tokens, 5.9)):
            strip(ax, 0.05, 1.65 - 0.5 * k, tokens[first:end], ["good" if m else "plain" for m in counts[first:end]])

    def say(found):
        tokens, counts, words = found
        return f"{sum(counts)} of {len(tokens)} tokens count. {words}"

    return Explorer(compute, draw, say, title="a conversation and a masking rule", conversation=list(CONVERSATIONS),
                    rule=list(RULES), start={"conversation": "two turns", "rule": "answers and their ends"}, size=(6.2, 2.2),
                    alt="Strips of tokens of a conversation under three masking rules; the green ones count in the loss")


def one_box_apart(tokens: list, rows: list, prompts: list, *, alt=""):
    """Two models or more, each with its training mask as a strip of tokens, and below it its answers to some requests.

    rows: [(name, counts, texts)]: 1 or 0 for each token, one text for each prompt. What an answer holds after its first full
    stop is grey. Raises ValueError where a number of counts or texts does not fit.
    """
    for name, counts, texts in rows:
        if len(counts) != len(tokens) or len(texts) != len(prompts):
            raise ValueError(f"{name!r}: {len(counts)} counts and {len(texts)} texts for {len(tokens)} tokens and "
                             f"{len(prompts)} requests; give one for each")
    wide, blocks = 5.1, []
    lines = _lines(tokens, wide, 9.5)
    for name, counts, texts in rows:
        cards = []
        for prompt, text in zip(prompts, texts, strict=True):
            first, stop, rest = " ".join(text.split()).partition(".")
            grey = textwrap.wrap(textwrap.shorten(rest, 130, placeholder=" …"), 54) if rest.strip() else []
            cards.append((textwrap.wrap(prompt, 54), textwrap.wrap(first + stop, 54) or ["(nothing)"], grey))
        blocks.append((name, counts, cards))
    tall = [0.37 + 0.38 * len(lines) + sum(0.2 + 0.19 * sum(map(len, card)) + 0.08 for card in cards) + 0.12
            for _, _, cards in blocks]
    fig, ax = canvas(wide + 0.2, sum(tall) + 0.1, alt or short(
        f"{len(rows)} strips of the tokens of one training example, green where the loss counts them, and below each the answers "
        "of the model trained so to the same requests; what follows after the first sentence is grey"))
    y = fig.get_figheight() - 0.05
    for name, counts, cards in blocks:
        note(ax, 0.1, y - 0.15, name, 11.5, "left", bold=True, color=BLACK)
        y -= 0.33
        for first, end in lines:
            tones = ["good" if m else "plain" for m in counts[first:end]]
            strip(ax, 0.1, y - 0.32, tokens[first:end], tones, height=0.3, size=9.5)
            y -= 0.38
        y -= 0.04
        for asked, said, rest in cards:
            high = 0.2 + 0.19 * (len(asked) + len(said) + len(rest))
            box(ax, 0.1, y - high, wide, high, "")
            line = y - 0.09
            for words, color, bold in ((asked, "#111111", True), (said, "#111111", False), (rest, "#7a828e", False)):
                if words:
                    note(ax, 0.22, line, "\n".join(words), 10.5, "left", "top", color=color, bold=bold)
                    line -= 0.19 * len(words)
            y -= high + 0.08
        y -= 0.12
    return fig
