"""Contamination: how much of a test text stands in the training texts, by n-grams of words."""

import re
from collections.abc import Collection, Iterable


def words(text: str) -> list[str]:
    """Lower-case words, without punctuation or spacing, so that a reformatted copy is a copy."""
    return re.findall(r"\w+", text.lower())


def ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    """The n-grams of a text's words, in order; none where it has fewer than n words. Raises ValueError for n < 1."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"n is {n!r}; give a number of words, 1 or more")
    found = words(text)
    return [tuple(found[i: i + n]) for i in range(len(found) - n + 1)]


def ngram_index(corpus: Iterable[str], n: int) -> set[tuple[str, ...]]:
    """The set of all n-grams of a corpus of texts: computed once, where many texts are checked against it.

    Raises ValueError for one text in place of a list of texts, and for n < 1.
    """
    if isinstance(corpus, str):
        raise ValueError(f"corpus is one text of {len(corpus)} characters; give a list of texts")
    return {gram for text in corpus for gram in ngrams(text, n)}


def ngram_overlap(text: str, corpus: Collection, n: int) -> float:
    """The share, 0 to 1, of a text's n-grams that the corpus has; each counts as often as the text has it.

    corpus: texts, or the set of `ngram_index`. n-grams do not cross from one text of the corpus to the next. Eight to
    thirteen words are usual: short n-grams are found anywhere, and a paraphrase is never found. Raises ValueError for a
    text of fewer than n words: a 0 would call it clean without having looked.

    >>> ngram_overlap("The cat sat down.", ["a dog; the cat sat up"], 2)  # the-cat, cat-sat of three
    0.6666666666666666
    """
    grams = ngrams(text, n)
    if not grams:
        raise ValueError(f"the text has {len(words(text))} words, n is {n}; give a smaller n, or leave the text out")
    known = corpus if isinstance(corpus, (set, frozenset)) else ngram_index(corpus, n)
    if any(len(gram) != n for gram in list(known)[:1]):
        raise ValueError(f"the index holds {len(next(iter(known)))}-grams, n is {n}; make it with the same n")
    return sum(gram in known for gram in grams) / len(grams)
