"""AI feedback: token probabilities by hand, position bias that cancels, prompts that the village understands."""

import collections
import math
import random

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlhf_minimal.ai_feedback import (
    both_orders,
    critique_prompt,
    draw_principles,
    judge,
    judge_prompt,
    label_error,
    label_logps,
    prefer_first,
    revision_prompt,
    rubric_score,
)
from rlhf_minimal.chat import encode_prompt
from rlhf_minimal.village.tasks import PRINCIPLES, parse


@pytest.fixture(scope="module")
def letters():
    """A tokenizer with one token a byte and no chat template."""
    core = Tokenizer(models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.add_special_tokens(["<eos>"])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<eos>")


@pytest.fixture
def model(tiny_gpt2, letters):
    return tiny_gpt2(vocab=len(letters), n_layer=1, n_positions=512, eos_token_id=len(letters) - 1, bos_token_id=0)


def test_prefer_first_is_the_two_labels_renormalised():
    a, b = torch.tensor([-1.0, -50.0, -0.1]), torch.tensor([-2.0, -49.0, -300.0])
    naive = [1 / (1 + math.exp(y - x)) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert torch.allclose(prefer_first(a, b), torch.tensor(naive)) and not torch.allclose(prefer_first(a, b), a.exp())
    assert torch.allclose(prefer_first(a, b) + prefer_first(b, a), torch.ones(3))
    for bad in ((a, b[:2]), (a * math.nan, b)):
        with pytest.raises(ValueError):
            prefer_first(*bad)


def test_place_cancels_in_both_orders_and_other_biases_stay():
    """A judge whose label log-odds are quality + bias for the first place: 13.2."""
    quality, place = torch.tensor([0.0, 1.0, -2.0]), 1.5
    there, back = torch.sigmoid(quality + place), torch.sigmoid(-quality + place)
    fair = both_orders(there, back)
    assert abs(fair[0] - 0.5) < 1e-7 and (there[0] - 0.5) > 0.3  # one order alone is far off
    assert torch.allclose(fair + both_orders(back, there), torch.ones(3))  # swapping turns x into 1 - x
    assert fair[1] > 0.5 > fair[2] and there[2] > 0.37
    assert both_orders(torch.ones(1), torch.ones(1)) == 0.5  # both verdicts for whatever is first: a tie
    for bad in ((there, back[:1]), (there + 1, back), (there * math.nan, back)):
        with pytest.raises(ValueError):
            both_orders(*bad)


def test_label_logps_equal_one_prompt_at_a_time(model, letters):
    prompts = ["Which?", "A much longer question, which?", [{"role": "user", "content": "Hm"}]]
    got = label_logps(model, letters, prompts, "AB")
    for prompt, value in zip(prompts, got, strict=True):
        ids = encode_prompt(letters, prompt)
        label = letters(" AB", add_special_tokens=False).input_ids  # the plain template ends in "Assistant:"
        logits = model(input_ids=torch.tensor([ids + label])).logits[0].log_softmax(-1)
        naive = sum(logits[len(ids) - 1 + t, token].item() for t, token in enumerate(label))
        assert abs(value.item() - naive) < 1e-4
    with pytest.raises(ValueError, match="no tokens"):
        label_logps(model, letters, prompts, "")


def test_judge_is_the_mean_of_both_orders_and_antisymmetric(model, letters):
    asks, a, b = ["Where?", "Who?"], ["Here.", "Ada."], ["There it is.", "Bo."]
    got = judge(model, letters, asks, a, b, principle="Be short.")
    there, back = (prefer_first(*(label_logps(model, letters, [
        judge_prompt(q, x, y, principle="Be short.") for q, x, y in zip(asks, s, t, strict=True)], label)
        for label in "AB")) for s, t in ((a, b), (b, a)))
    assert torch.allclose(got, (there + 1 - back) / 2) and not got.requires_grad
    assert torch.allclose(got + judge(model, letters, asks, b, a, principle="Be short."), torch.ones(2), atol=1e-6)
    assert ((there + back) - 1).abs().max() > 0.05  # the mutant, one order alone, is not
    assert torch.equal(judge(model, letters, asks, a, a), torch.full((2,), 0.5))
    for bad in ((asks, a, b[:1]), ([], [], [])):
        with pytest.raises(ValueError, match="one length"):
            judge(model, letters, *bad)
    with pytest.raises(ValueError, match="different"):
        judge(model, letters, asks, a, b, labels=("A", "A"))


@pytest.mark.parametrize("principle", PRINCIPLES.values())
def test_the_village_reads_its_revision_prompts(principle):
    ask, text = "Where does the fox live?", "The fox lives in the wood."
    task = parse(revision_prompt(ask, text, principle=principle))
    assert task.family == "revise" and PRINCIPLES[task.info["principle"]] == principle
    assert (task.info["ask"], task.info["text"]) == (ask, text)
    with_critique = revision_prompt(ask, text, principle=principle, critique="It is long.")
    assert with_critique.endswith("Answer: The fox lives in the wood.\nCritique: It is long.")
    prompt = critique_prompt(ask, text, principle=principle)
    assert principle in prompt and ask in prompt and text in prompt and "Revise" not in prompt


def test_judge_prompt_holds_the_answers_in_their_places():
    prompt = judge_prompt("Who?", "one", "two")
    assert prompt.index("one") < prompt.index("two") and judge_prompt("Who?", "two", "one") != prompt
    assert judge_prompt("Q{x}", "{b}", "2") .count("{b}") == 1  # braces in a text are text


def test_principles_are_drawn_evenly_and_by_their_seed():
    names = list(PRINCIPLES.values())
    draws = draw_principles(names, 5000, rng=random.Random(0))
    counts = collections.Counter(draws)
    chi2 = sum((counts[name] - 1000) ** 2 / 1000 for name in names)
    assert chi2 < 18.5  # 4 degrees of freedom, p = .001
    again, other = (draw_principles(names, 5000, rng=random.Random(seed)) for seed in (0, 1))
    assert draws == again != other
    assert draw_principles(names, 0, rng=random.Random(0)) == []
    assert sum((collections.Counter(names[:1] * 5000)[name] - 1000) ** 2 / 1000 for name in names) > 18.5
    for bad in (([], 1), (names, -1), (names, 1.5)):
        with pytest.raises(ValueError):
            draw_principles(*bad, rng=random.Random(0))


def test_rubric_is_a_weighted_sum():
    passed, weights = torch.tensor([[1.0, 0.5, 0.0], [1, 1, 1]]), torch.tensor([2.0, -1.0, 4.0])
    assert torch.allclose(rubric_score(passed, weights), torch.tensor([1.5, 5.0]))
    assert torch.allclose(rubric_score(passed, weights, normalize=True), torch.tensor([1.5 / 7, 5 / 7]))
    for bad in ((passed, weights[:2]), (passed * 2, weights), (passed, weights * 0), (passed[0], weights)):
        with pytest.raises(ValueError):
            rubric_score(*bad)


def test_more_labels_average_out_noise_and_never_bias():
    """error^2 = bias^2 + noise^2 / n, against labels that are drawn."""
    dice = torch.Generator().manual_seed(0)
    for bias, noise, n in ((0.5, 4.0, 64), (0.0, 1.0, 10), (1.5, 0.0, 3)):
        labels = bias + noise * torch.randn(20_000, n, generator=dice, dtype=torch.float64)
        drawn = labels.mean(1).square()
        assert abs(drawn.mean() - label_error(bias, noise, n)) < 4 * drawn.std() / 20_000 ** 0.5 + 1e-12
    assert label_error(0.5, 4.0, 1e12) == pytest.approx(0.25)
    for wrong in ((0.5, 4.0, 0), (0.5, -1.0, 3), (math.nan, 1.0, 3)):
        with pytest.raises(ValueError, match="n of 1 or more"):
            label_error(*wrong)
