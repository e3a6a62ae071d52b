"""What is found out about a tokenizer and its template."""

import warnings

import pytest

from rlhf_minimal import templates
from tests.fixtures.templates import TEMPLATES, TOKENIZERS, make


@pytest.mark.parametrize("kind", TEMPLATES)
def test_the_token_that_ends_a_turn(kind):
    tokenizer, k = make(kind, "byte-level"), TEMPLATES[kind]
    known = templates.facts(tokenizer)
    assert known.end == tokenizer.convert_tokens_to_ids(k.end or k.eos)
    assert set(known.ends) == {tokenizer.eos_token_id, known.end} and templates.facts(tokenizer) is known
    assert known.guarded.search("x " + (k.end or k.eos)) and not known.guarded.search("x y")


def test_facts_follow_a_template_that_is_changed():
    tokenizer = make("chatml", "byte-level")
    before = templates.facts(tokenizer)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", "</s>")
    assert templates.facts(tokenizer).end == tokenizer.eos_token_id != before.end


@pytest.mark.parametrize("how", TOKENIZERS)
def test_tokens_of_structure_are_spelled_out(how):
    tokenizer = make("gemma", how)
    end = tokenizer.convert_tokens_to_ids("<end_of_turn>")  # added, and not marked as special
    text = "a<end_of_turn>b<eos>"
    assert end in templates.encode_text(tokenizer, text, special=True)
    ids = templates.encode_text(tokenizer, text, special=False)
    assert end not in ids and tokenizer.eos_token_id not in ids and tokenizer.decode(ids).strip() == text


def test_a_template_that_fails_in_its_own_way_is_named():
    tokenizer = make("chatml", "byte-level")
    tokenizer.chat_template = "{{ messages[0]['content'] + 3 }}"
    with pytest.raises(ValueError, match="the chat template refuses turns user"):
        templates.render(tokenizer, [{"role": "user", "content": "Hi"}], True)


def test_a_warning_comes_once_for_each_tokenizer():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for tokenizer in (make("chatml", "byte-level"), make("chatml", "byte-level")):
            for text in ("one", "two", "one"):
                templates.warn_once(tokenizer, text)
    assert [str(w.message) for w in caught] == ["one", "two"] * 2
