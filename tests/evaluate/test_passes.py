"""pass@k over questions, votes, ranks of tokens."""

import itertools
from collections import Counter

import pytest
import torch

from rlhf_minimal import models, rollout, sampling
from rlhf_minimal.evaluate.metrics import pass_at_k, pass_hat_k
from rlhf_minimal.evaluate.passes import (
    Passes,
    answering_briefly,
    by_chance,
    gradient_norms,
    passes,
    ranks,
    showing_work,
    stated,
    vote_accuracy,
)
from rlhf_minimal.village import checkers


def made(right, texts=None):
    right = torch.tensor(right, dtype=torch.float32)
    texts = texts or [f"The result is {int(x)}." for x in right.flatten()]
    return Passes([f"q{i}" for i in range(len(right))], texts, right, torch.ones_like(right))


def test_at_is_the_mean_over_questions_of_the_unbiased_estimates():
    found = made([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    want = [pass_at_k(4, c, 2) for c in (1, 2, 0)]
    assert found.per_question(2).tolist() == pytest.approx(want)
    mean, half = found.at(2)
    assert mean == pytest.approx(sum(want) / 3)
    assert half == pytest.approx(1.96 * torch.tensor(want).std().item() / 3 ** 0.5)
    assert found.all_of(2)[0] == pytest.approx(sum(pass_hat_k(4, c, 2) for c in (1, 2, 0)) / 3)
    assert found.all_of(1)[0] == pytest.approx(found.at(1)[0])


def test_by_chance_deals_out_the_results_of_the_other_questions():
    found = made([[1, 1], [0, 0], [0, 0]], [f"The result is {x}." for x in (3, 3, 3, 9, 9, 9)])
    found.prompts = ["1 + 2", "4 + 5", "8 + 8"]
    shares = 1 / 4, 2 / 4, 0.0              # 3 among (3, 9, 9, 9); 9 among (3, 3, 9, 9); 16 nowhere
    for k in (1, 4):
        assert by_chance(found, k) == pytest.approx(sum(1 - (1 - q) ** k for q in shares) / 3)


def test_the_first_token_of_an_answer_can_be_restricted():
    model, tokenizer = models.load("village-3m-sft")
    asked, check = ["What is 61 + 46?", "Add 10 and 11."], lambda prompt, text: float(text.startswith("The"))
    the, = tokenizer.encode("The")
    for temperature in (0, 1):
        draw = {"n": 3, "max_new_tokens": 6, "temperature": temperature}
        only = passes(model, tokenizer, asked, check, first=[the], generator=torch.Generator().manual_seed(0), **draw)
        never = passes(model, tokenizer, asked, check, first=[i for i in range(len(tokenizer)) if i != the],
                       generator=torch.Generator().manual_seed(0), **draw)
        assert only.right.all() and not never.right.any() and only.rollout is None
        assert only.tokens.shape == (2, 3) and 1 <= only.tokens.min() and only.tokens.max() <= 6
    free = passes(model, tokenizer, asked, check, n=1, max_new_tokens=6, temperature=0)
    all_of_them = passes(model, tokenizer, asked, check, n=1, max_new_tokens=6, temperature=0, first=range(len(tokenizer)))
    assert free.texts == all_of_them.texts


def test_gain_pairs_the_questions():
    start, end = made([[0, 0], [1, 1]]), made([[1, 0], [1, 1]])
    assert end.gain(start)[0] == pytest.approx(0.25)
    assert end.gain(end) == (0.0, 0.0)
    end.prompts = ["other", "q1"]
    with pytest.raises(ValueError, match="different questions"):
        end.gain(start)


def test_a_vote_counts_stated_results_and_the_first_of_equals_wins():
    texts = ["The result is 3.", "The result is 4.", "The result is 4.", "no number",
             "nothing", "The result is 9.", "The result is 8.", "nothing"]
    found = made([[0, 1, 1, 0], [0, 1, 0, 0]], texts)
    assert found.vote(1)[0] == 0.0        # 3 is wrong; the second question has no vote yet
    assert found.vote(3)[0] == 1.0        # 4 wins; 9 stands before 8
    assert found.vote(4)[0] == 1.0
    for k in (0, 5):
        with pytest.raises(ValueError, match="a vote of"):
            found.vote(k)
    assert stated("The result is 3. The result is 5.") == "5" and stated("none") == ""


def test_vote_accuracy_by_enumeration():
    """Every sequence of votes: 0 right, 1 rival, 2 an answer that nobody else gives."""
    for p, q in ((0.5, 0.3), (0.3, 0.5), (0.6, 0.4), (0.2, 0.2), (1.0, 0.0)):
        for n in (1, 2, 3, 5):
            total = 0.0
            for votes in itertools.product((0, 1, 2), repeat=n):
                chance = 1.0
                for v in votes:
                    chance *= (p, q, 1 - p - q)[v]
                counts = Counter((v, i if v == 2 else 0) for i, v in enumerate(votes))
                top = [key for key, c in counts.items() if c == max(counts.values())]
                total += chance * ((0, 0) in top) / len(top)
            assert vote_accuracy(p, q, n) == pytest.approx(total)
    assert vote_accuracy(0.4, 0.5, 51) < 0.3 < vote_accuracy(0.4, 0.3, 51)
    for bad in ((-0.1, 0.2, 3), (0.7, 0.7, 3), (0.5, 0.5, 0)):
        with pytest.raises(ValueError, match="need probabilities"):
            vote_accuracy(*bad)


def test_passes_and_ranks_on_the_village_model():
    model, tokenizer = models.load("village-3m-sft")
    prompts = ["What is 61 + 46?", "Add 12 and 13."]
    found = passes(model, tokenizer, prompts, checkers.right, n=4, max_new_tokens=40, generator=torch.Generator().manual_seed(0))
    assert found.right.shape == found.tokens.shape == (2, 4) and len(found.texts) == 8
    assert found.right.flatten().tolist() == [checkers.right(prompts[i // 4], t) for i, t in enumerate(found.texts)]
    greedy = sampling.answer(model, tokenizer, prompts, max_new_tokens=40, temperature=0)
    order = ranks(model, greedy)
    assert order.shape == greedy.mask.shape
    assert (order[greedy.mask.bool()] == 1).all() and (order[~greedy.mask.bool()] == 0).all()
    assert ranks(model, found.rollout).max() > 1
    found.right = torch.tensor([[1.0, 1, 1, 1], [1, 0, 0, 0]])
    silent, loud = gradient_norms(model, found).tolist()
    assert silent == 0.0 and loud > 0
    first = found.rollout.select(slice(4, 8))
    logp = (rollout.completion_logps(model, first) * first.mask).sum(1)  # advantages 1, -1/3, -1/3, -1/3
    model.zero_grad()
    (-(logp[0] - logp[1:].mean()) / 4).backward()
    norm = sum(w.grad.square().sum() for w in model.parameters() if w.grad is not None).sqrt().item()
    assert loud == pytest.approx(norm, rel=1e-4)


def test_a_few_brief_demonstrations_silence_the_working():
    model, tokenizer = models.load("village-3m-sft")
    before = [w.clone() for w in model.parameters()]
    brief = answering_briefly(model, tokenizer, 8)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    prompts = ["What is 61 + 46?", "Add 12 and 13.", "How much is 35 plus 48?"]
    work = {name: showing_work(passes(m, tokenizer, prompts, checkers.right, n=8, max_new_tokens=12,
                                      generator=torch.Generator().manual_seed(0)).texts).mean().item()
            for name, m in (("taught", model), ("brief", brief))}
    assert work["taught"] > 0.7 and work["brief"] < 0.4
