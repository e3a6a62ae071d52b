"""Contamination: n-grams of test texts in training texts, against a loop."""

import pytest

from rlhf_minimal.evaluate.contamination import ngram_index, ngram_overlap


def test_ngram_overlap_equals_a_loop():
    corpus = ["one two three four five", "six seven one two", "Nine; TEN!"]
    text = "Six, seven one two three nine ten two three"
    own = text.lower().replace(",", "").split()
    for n in (1, 2, 3, 4):
        rows = [own[i: i + n] for i in range(len(own) - n + 1)]
        sources = [s.lower().replace(";", "").replace("!", "").split() for s in corpus]
        found = [any(row == s[i: i + n] for s in sources for i in range(len(s))) for row in rows]
        assert ngram_overlap(text, corpus, n) == sum(found) / len(rows)
        assert ngram_overlap(text, ngram_index(corpus, n), n) == sum(found) / len(rows)
    assert ngram_overlap("one two three four five", corpus, 5) == 1
    assert ngram_overlap("four five six seven", corpus, 3) == 0  # not across two texts of the corpus
    assert ngram_overlap("any words at all", [], 2) == 0


def test_ngram_overlap_refuses_what_it_cannot_judge():
    for args, message in ((("a b", ["a b c"], 3), "has 2 words, n is 3"), (("a b", "a b", 2), "give a list of texts"),
                          (("a b", ["a"], 0), "n is 0"), (("a b c", ngram_index(["a b"], 2), 3), "2-grams, n is 3")):
        with pytest.raises(ValueError, match=message):
            ngram_overlap(*args)
