"""Chat templates of many kinds with tokenizers of three kinds: the ids are the template's, and nobody else brings structure."""

import warnings

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf_minimal import chat
from rlhf_minimal.sampling import answer
from tests.fixtures.templates import TEMPLATES, TOKENIZERS, make

CASES = [(kind, how) for kind in TEMPLATES for how in TOKENIZERS]
THOUGHT = "<think>\nIs it red?</think>\n\nThe fox is red."
CONVERSATIONS = [
    ["Hi"], ["the fox"], [" in the  snow: a fox\n"], ["\n\nWhy?"], ["Hi", "It is red.", "And now?"],
    ["Hi", " yes\n", " and\tnow? "],
    ["What is it?", THOUGHT, "Is it?", "no", "é ü 漢 😀"],
]


@pytest.fixture(params=CASES, ids=lambda case: " ".join(case))
def case(request):
    kind, how = request.param
    return TEMPLATES[kind], make(kind, how)


def turns(texts):
    return [{"role": "assistant" if i % 2 else "user", "content": x} for i, x in enumerate(texts)]


def theirs(tokenizer, messages, generate):
    return tokenizer.apply_chat_template(messages, add_generation_prompt=generate, tokenize=True, return_dict=False)


def end_of(kind, tokenizer):
    return tokenizer.convert_tokens_to_ids(kind.end or kind.eos)


def test_the_ids_of_a_prompt_are_the_templates(case):
    kind, tokenizer = case
    for texts in CONVERSATIONS:
        messages = turns(texts)
        assert chat.encode_prompt(tokenizer, messages) == theirs(tokenizer, messages, True)
    if kind.system:
        messages = [{"role": "system", "content": " Be brief. "}, *turns(["Hi"])]
        assert chat.encode_prompt(tokenizer, messages) == theirs(tokenizer, messages, True)
    else:
        with pytest.raises(ValueError, match="no system"):
            chat.encode_prompt(tokenizer, [{"role": "system", "content": "x"}, *turns(["Hi"])])


@pytest.mark.filterwarnings("ignore:the chat template")
def test_the_ids_of_an_answer_are_what_the_whole_adds(case):
    kind, tokenizer = case
    ends, seen = chat.end_ids(tokenizer), 0
    for texts in CONVERSATIONS:
        for text in ("yes", " it is in the snow\n", THOUGHT, "a\n\nb", ""):
            before = theirs(tokenizer, turns(texts), True)
            whole = theirs(tokenizer, turns([*texts, text]), False)
            ids, mask = chat.encode_pair(tokenizer, turns(texts), text)
            new = ids[len(before):]
            assert ids[:len(before)] == before and mask == [0] * len(before) + [1] * len(new)
            assert new[-1] == end_of(kind, tokenizer) and sum(i in ends for i in new) == 1
            if whole[:len(before)] == before:
                tail = whole[len(before):]
                assert new == tail[:next(i for i, x in enumerate(tail) if x in ends) + 1]
                seen += 1
            assert tokenizer.decode(ids).count("<think>") <= tokenizer.decode(before).count("<think>") + ("<think>" in text)
            if text == "yes":
                assert chat.decode(tokenizer, new).strip() == text
    assert seen or kind.cuts or "<think>" in kind.ordinary


def test_where_the_whole_does_not_begin_with_the_prompt_a_warning_says_so_once():
    tokenizer = make("deepseek", "byte-level")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = [chat.encode_pair(tokenizer, "Hi", THOUGHT)[0] for _ in range(3)]
    assert len(caught) == 1 and "tokenized apart" in str(caught[0].message)
    assert tokenizer.decode(rows[0]) == "<|begin|><|User|>Hi<|Assistant|><think>\nIs it red?</think>\n\nThe fox is red.<|eos|>"
    assert rows[0].count(tokenizer.convert_tokens_to_ids("<think>")) == 1  # opened by the template, brought by the answer: once


def test_nobody_brings_structure_of_their_own(case):
    kind, tokenizer = case
    structure = [t for t in (*kind.special, *kind.ordinary, kind.eos) if t not in chat.THOUGHTS]
    guarded = set(tokenizer.convert_tokens_to_ids([*structure, *kind.ordinary]))
    clean = chat.encode_prompt(tokenizer, "Hi")
    for token in structure:
        if not (chat.is_rendered(tokenizer, text := f"x {token} y")):
            ids = chat.encode_prompt(tokenizer, text)
            assert sum(i in guarded for i in ids) == sum(i in guarded for i in clean), token
            assert token in tokenizer.decode(ids)
        ids, mask = chat.encode_pair(tokenizer, "Hi", f"yes {token} no")
        assert sum(i in guarded for i, on in zip(ids, mask, strict=True) if on) == 1  # its end


def test_an_end_that_is_already_there_is_not_doubled(case):
    kind, tokenizer = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = chat.encode_pair(tokenizer, "Hi", "yes")
        for end in {kind.eos, kind.end or kind.eos}:
            for text in (f"yes{end}", f"yes{end}\n", f"yes{end}\n{end} \n"):
                assert chat.encode_pair(tokenizer, "Hi", text) == want
                assert chat.encode_completion(tokenizer, text) == chat.encode_completion(tokenizer, "yes")


def test_a_rendered_prompt_is_refused(case):
    _, tokenizer = case
    text = tokenizer.apply_chat_template(turns(["Hi"]), add_generation_prompt=True, tokenize=False)
    for rendered in (text, text.removeprefix(tokenizer.bos_token or ""), "\n" + text + "\n"):
        with pytest.raises(ValueError, match="already rendered"):
            chat.encode_prompt(tokenizer, rendered)
    for fine in ("Hi", "### What is this?", "<b>bold</b>", "[1, 2]"):
        chat.encode_prompt(tokenizer, fine)


def test_cutting_keeps_bos_and_the_last_turns_head(case):
    kind, tokenizer = case
    texts = ["Hi", "It is.", "w" * 60]
    whole = chat.encode_prompt(tokenizer, turns(texts))
    short = chat.encode_prompt(tokenizer, turns(["w" * 20]))
    head = tokenizer.apply_chat_template(turns(["w"]), add_generation_prompt=True, tokenize=False).partition("w")[0]
    for room in (len(short), len(short) + 3, len(whole) - 1):
        cut = chat.encode_prompt(tokenizer, turns(texts), room)
        assert len(cut) == room and cut[-8:] == whole[-8:]
        text = "".join(tokenizer.decode(cut).split())
        opening = "".join(head.removeprefix(kind.bos or "").split("<|im_end|>")[-1].split())
        assert opening in text and text.index(opening) < text.index("w")
        if kind.bos and whole[0] == tokenizer.bos_token_id and tokenizer.bos_token_id not in chat.end_ids(tokenizer):
            assert cut[0] == whole[0]
    assert chat.encode_prompt(tokenizer, turns(texts), len(whole)) == whole
    assert len(chat.encode_prompt(tokenizer, turns(texts), 1)) == 1
    with pytest.raises(ValueError, match="max_len is 0"):
        chat.encode_prompt(tokenizer, turns(texts), 0)


@pytest.mark.filterwarnings("ignore:the chat template")
def test_with_all_turns_every_answer_and_its_end_is_learned(case):
    kind, tokenizer = case
    messages = turns(["Hi", "one", "and?", "two", "so?", "three"])
    ids, mask = chat.encode_messages(tokenizer, messages, turns="all")
    last = chat.encode_messages(tokenizer, messages)
    assert last[0] == ids == chat.encode_pair(tokenizer, messages[:-1], "three")[0] and sum(last[1]) < sum(mask)
    learned = [i for i, on in zip(ids, mask, strict=True) if on]
    assert learned.count(end_of(kind, tokenizer)) == 3 and "and?" not in tokenizer.decode(learned)
    assert "".join(chat.decode(tokenizer, learned).split()) == "onetwothree"


def test_any_end_token_of_the_model_ends_a_row():
    tokenizer = make("gemma", "byte-level")
    eos, end = tokenizer.convert_tokens_to_ids(["<eos>", "<end_of_turn>"])
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=16, n_layer=1, n_head=2, eos_token_id=eos))
    other = tokenizer.convert_tokens_to_ids("a")
    model.generation_config.eos_token_id = [other, len(tokenizer) + 5]  # one that is none of its vocabulary does not count
    assert chat.end_ids(tokenizer) == [eos, end] and chat.end_ids(tokenizer, model) == [eos, end, other]
    with torch.no_grad():
        model.lm_head.weight.zero_()
    drawn = answer(model, tokenizer, ["Hi"], n=256, max_new_tokens=32, generator=torch.Generator().manual_seed(0))
    finals = {int(ids[on.bool()][-1]) for ids, on, done in zip(drawn.completion_ids, drawn.mask, drawn.ended, strict=True) if done}
    assert finals == {eos, end, other}
    inner = drawn.completion_ids[:, :-1][drawn.mask[:, 1:].bool()]
    assert not torch.isin(inner, torch.tensor([eos, end, other])).any()


def test_control_markers_hide_the_contents_from_templates_that_trim():
    tokenizer = make("llama 2", "sentencepiece")
    messages = turns([" Hi "])
    wrong = sum((ids for _, ids, _ in chat.encode_turns(tokenizer, messages, True)), [])
    assert wrong != theirs(tokenizer, messages, True) == chat.encode_prompt(tokenizer, messages)
