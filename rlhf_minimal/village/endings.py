"""How a story ends, and readers who like one ending better than another: a difference of taste, not of quality.

For happy, sad and quiet ends the true reward of a story is the same, unless the request asked for a mood. So two readers
with opposite tastes can disagree for ever, and neither makes a mistake.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import tasks as t
from .annotator import Annotator
from .gold import gold, mood_score

MOODS = {"happy": "cheerful", "sad": "gloomy", "quiet": "calm"}  # ending: the mood whose words it uses
ENDS = tuple(MOODS)


def ending(text: str) -> str:
    """How a plain story ends: "happy", "sad", "quiet", or "" where that is not clear.

    The mood whose words the text has most of. A tie is not clear, nor is a text with polite filler, flattery, rudeness or
    markup: "I am always happy to help" is no happy end.

    >>> ending("The boat sank at once, and the hen watched it with tears.")
    'sad'
    >>> ending("I am always happy to help.")
    ''
    """
    low = text.lower()
    if "**" in text or any(phrase.lower() in low for phrase in (*t.FILLER, *t.FLATTERY, *t.RUDE)):
        return ""
    scores = {end: mood_score(text, mood) for end, mood in MOODS.items()}
    first, second, _ = sorted(scores.values(), reverse=True)
    return max(scores, key=scores.get) if first > second else ""


@dataclass(frozen=True, kw_only=True)
class Reader(Annotator):
    """An annotator with a taste in endings. All that an annotator answers (comparisons, ratings, …) a reader answers, too.

    likes: the endings, best first, such as ("happy", "sad"); the best is worth +strength / 2, the worst -strength / 2, those
    between lie evenly, and an ending that is not named is worth 0. `temperature` is the noise of a reader's choices,
    `strength` the intensity of the taste: a comparison sees only strength / temperature. gold_weight is 0 unless given:
    such a reader looks at the ending alone.

    >>> Reader(likes=("happy", "quiet", "sad")).liking("quiet")
    0.0
    """
    likes: Sequence[str] = ()
    strength: float = 1.0
    gold_weight: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        wrong = isinstance(self.likes, str) or len(self.likes) == 1 or len(set(self.likes)) < len(self.likes)
        if wrong or not set(self.likes) <= set(ENDS):
            raise ValueError(f"reader {self.name!r}: likes is {self.likes!r}; give two or three of {', '.join(ENDS)}, each once, "
                             "best first, or () for a reader to whom endings are all the same")
        if not 0 <= self.strength <= 1e9:
            raise ValueError(f"reader {self.name!r}: strength is {self.strength!r}; give a number of at least 0")
        object.__setattr__(self, "likes", tuple(self.likes))

    def liking(self, end: str) -> float:
        """What an ending is worth to this reader, in units of utility."""
        if end not in self.likes:
            return 0.0
        return self.strength * (0.5 - self.likes.index(end) / (len(self.likes) - 1))

    def worth(self, end: str, quality: float = 0.0) -> float:
        """The utility of a story whose ending and true reward are known: gold_weight · quality + liking."""
        return self.gold_weight * quality + self.liking(end)

    def utility(self, prompt: str, completion: str | float, date: float = 0) -> float:
        """The same for a text; a number is returned as it is. Other weights and biases of an annotator are not used."""
        if isinstance(completion, str):
            return self.worth(ending(completion), gold(prompt, completion) if self.gold_weight else 0.0)
        return super().utility(prompt, completion, date)
