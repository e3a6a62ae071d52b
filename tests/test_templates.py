"""What is found out about a tokenizer and its template."""

import warnings
from types import SimpleNamespace

import pytest
from tokenizers import processors

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


USER = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize("kind", TEMPLATES)
def test_what_stands_around_a_users_text(kind):
    tokenizer = make(kind, "byte-level")
    known = templates.facts(tokenizer)
    assert templates.render(tokenizer, USER, True) == known.head + "Hi" + known.tail
    text, ids = templates.render(tokenizer, USER, False), templates.render(tokenizer, USER, False, tokenize=True)
    assert isinstance(text, str) and ids == tokenizer(text, add_special_tokens=False).input_ids


def test_a_tokenizer_without_a_template_writes_plain_turns():
    tokenizer = make("alpaca", "byte-level")
    tokenizer.chat_template = None
    turns = [*USER, {"role": "assistant", "content": "Yes"}]
    assert templates.render(tokenizer, turns, False) == "User: Hi\nAssistant:Yes</s>\n"
    assert templates.render(tokenizer, USER, True) == "User: Hi\nAssistant:"


def test_which_tokens_no_content_may_bring():
    """Special ones, also where the template does not use them; of the others those that the template writes or that end."""
    tokenizer = make("phi", "byte-level")
    tokenizer.add_tokens(["<plain>", "<call>", "<think>"])
    guarded, answers = templates.facts(tokenizer).guarded, templates.facts(tokenizer).answers
    for token in ("<|system|>", "<|endoftext|>", "<|end|>", "<|user|>"):
        assert guarded.search(f"x {token} y") and answers.search(f"x {token} y")
    assert not guarded.search("<plain> <call> <think>") and answers.findall("<plain> <call> <think> <out>") == ["<call>"]
    gemma = templates.facts(make("gemma", "byte-level"))
    assert gemma.guarded.findall("<start_of_turn>x<end_of_turn>") == ["<start_of_turn>", "<end_of_turn>"]
    thinks = templates.facts(make("opens thoughts", "byte-level"))
    assert thinks.guarded.search("<think>") and not thinks.answers.search("<think></think>") and thinks.answers.search("<|im_end|>")


def test_a_template_without_an_end_of_turn_ends_with_eos():
    tokenizer = make("phi", "byte-level")
    tokenizer.chat_template = ("{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% endfor %}"
                               "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")
    known = templates.facts(tokenizer)
    assert known.end == tokenizer.eos_token_id and known.ends == (tokenizer.eos_token_id,)


def test_the_longest_of_several_words_is_found():
    assert templates.pattern(["a", "a|b", "a|bc"]).findall("a|bcaa|b") == ["a|bc", "a", "a|b"]
    assert templates.pattern([]) is None and templates.pattern(set()) is None


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("text", ["the fox", "the <|end_of_text|> fox"])
def test_no_text_is_given_a_begin(text, special):
    tokenizer = make("llama 3", "byte-level")
    core = tokenizer.backend_tokenizer
    bos = tokenizer.bos_token
    core.post_processor = processors.TemplateProcessing(f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)])
    assert tokenizer(text).input_ids[0] == tokenizer.bos_token_id
    ids = templates.encode_text(tokenizer, text, special=special)
    assert tokenizer.bos_token_id not in ids and tokenizer.decode(ids) == text
    assert (tokenizer.eos_token_id in ids) is (special and "end" in text)
    assert ids == templates.encode_text(tokenizer, text, special=special)  # the second time as the first


def test_a_tokenizer_written_in_python_spells_its_special_tokens_itself(monkeypatch):
    class Slow:
        def __call__(self, text, add_special_tokens=True, split_special_tokens=False):
            return SimpleNamespace(input_ids=(text, add_special_tokens, split_special_tokens))

    monkeypatch.setattr(templates, "facts", lambda tokenizer: SimpleNamespace(guarded=templates.pattern(["<end>"])))
    asked = [templates.encode_text(Slow(), text, special=special) for text in ("a", "a<end>") for special in (True, False)]
    assert asked == [("a", False, False), ("a", False, False), ("a<end>", False, False), ("a<end>", False, True)]


def test_a_warning_names_the_callers_line():
    def warn():
        templates.warn_once(make("chatml", "byte-level"), "far away")

    def within():
        warn()

    def caller():
        within()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        caller()
    assert caught[0].lineno == caller.__code__.co_firstlineno + 1 and caught[0].filename == __file__
