"""Any text through any template: the ids are the template's, or a ValueError says why not. RLHF_FUZZ=2000 draws more."""

import os
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlhf_minimal import chat
from tests.fixtures.templates import TEMPLATES, TOKENIZERS, make

CASES = [(kind, how) for kind in TEMPLATES for how in TOKENIZERS]
COUNT = max(2, int(os.environ.get("RLHF_FUZZ", "100")) // len(CASES) + 1)
PIECES = st.sampled_from(["the fox", " ", "\n", "\n\n", "<think>", "</think>", "<|im_end|>", "<|eot_id|>", "</s>", "<s>", "[INST]",
                          "###", "<end_of_turn>", "é", "漢", "😀", "\u200b", "\x00", "{{", "}}", "{%", "\\n", "user", "assistant"])
TEXTS = st.lists(PIECES | st.text(max_size=8), max_size=5).map("".join)


@pytest.mark.parametrize("kind, how", CASES)
def test_prompts_and_answers(kind, how):
    tokenizer, template = make(kind, how), TEMPLATES[kind]
    ends = set(chat.end_ids(tokenizer))
    pieces = {*template.special, *template.ordinary, template.eos, *(x for x in (template.bos, template.end) if x)}
    tried = []

    @settings(max_examples=COUNT, deadline=None, database=None, derandomize=True,
              suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
    @given(st.lists(TEXTS, min_size=1, max_size=3).filter(lambda x: len(x) % 2), TEXTS)
    def run(texts, text):
        messages = [{"role": "assistant" if i % 2 else "user", "content": x} for i, x in enumerate(texts)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                prompt = chat.encode_prompt(tokenizer, messages)
                ids, mask = chat.encode_pair(tokenizer, messages, text)
            except ValueError as error:
                assert len(str(error)) > 20  # says what to do; nothing foreign comes through
                return
        assert ids[:len(prompt)] == prompt and mask[:len(prompt)] == [0] * len(prompt) and set(mask[len(prompt):]) == {1}
        assert sum(i in ends for i in ids[len(prompt):]) == 1 and ids[-1] in ends
        if not any(piece in x for piece in pieces for x in texts):
            assert prompt == tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
            tried.append(texts)

    run()
    assert tried  # some of them were ordinary texts


def test_lone_surrogates_are_refused_by_name():
    tokenizer = make("chatml" if "chatml" in TEMPLATES else next(iter(TEMPLATES)), next(iter(TOKENIZERS)))
    for call in (lambda: chat.encode_prompt(tokenizer, "a \ud800 b"), lambda: chat.encode_pair(tokenizer, "a", "b \udfff")):
        with pytest.raises(ValueError, match="surrogate"):
            call()
