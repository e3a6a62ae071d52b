"""Reward models: losses against enumeration, the right token, saving and loading, heads on cached states."""

import itertools
import math
import time

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from rlhf_minimal.forward import hidden_states
from rlhf_minimal.models import frozen_copy
from rlhf_minimal.reward_model import (
    RewardModel,
    all_pairs_loss,
    ensemble,
    finish_score,
    fit_head,
    last_state,
    last_states,
    pairwise_loss,
    plackett_luce_loss,
    rating_loss,
    step,
    uncertainty_weighted,
)


def t(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture
def judge(tiny_gpt2):
    model = tiny_gpt2()
    return RewardModel(model, weight=torch.randn(32, generator=torch.Generator().manual_seed(1)))


# ---- losses ----


def test_F2_bradley_terry_stock_number_and_extremes():
    assert abs(pairwise_loss(t(1.5), t(0.5))[0].item() - 0.313262) < 1e-6
    for gap in (-1e4, -200.0, 200.0, 1e4):
        chosen = torch.tensor([gap], requires_grad=True)
        loss, _ = pairwise_loss(chosen, torch.zeros(1))
        assert torch.isfinite(loss) and torch.isfinite(torch.autograd.grad(loss, chosen)[0]).all()
    naive = torch.log(1 + torch.exp(torch.tensor(200.0)))
    assert torch.isinf(naive) and abs(pairwise_loss(torch.tensor([-200.0]), torch.zeros(1))[0] - 200) < 1e-3


def test_F3_margin_raises_the_loss():
    base, with_margin = pairwise_loss(t(1.5), t(0.5))[0], pairwise_loss(t(1.5), t(0.5), margin=t(0.4))[0]
    assert abs(with_margin.item() - math.log1p(math.exp(-0.6))) < 1e-12 and with_margin > base
    assert torch.equal(with_margin, pairwise_loss(t(1.5), t(0.5), margin=0.4)[0])
    wrong_sign = math.log1p(math.exp(-1.4))
    assert wrong_sign < base < with_margin


def test_F3_smoothing_and_centring():
    c, r = t(1.5, -0.2), t(0.5, 0.3)
    straight, flipped = pairwise_loss(c, r)[0], pairwise_loss(r, c)[0]
    assert torch.allclose(pairwise_loss(c, r, label_smoothing=0.1)[0], 0.9 * straight + 0.1 * flipped)
    both = pairwise_loss(c, r, label_smoothing=0.1, margin=0.5)[0]
    assert torch.allclose(both, 0.9 * pairwise_loss(c, r, margin=0.5)[0] + 0.1 * pairwise_loss(r, c, margin=0.5)[0])
    want = straight + 0.01 * ((2.0**2 + 0.1**2) / 2)
    assert torch.allclose(pairwise_loss(c, r, center=0.01)[0], want)


def test_C12_only_centring_sees_a_constant_shift():
    c, r = t(1.5, -0.2), t(0.5, 0.3)
    assert torch.allclose(pairwise_loss(c, r)[0], pairwise_loss(c + 9, r + 9)[0])
    assert pairwise_loss(c + 9, r + 9, center=0.1)[0] > pairwise_loss(c, r, center=0.1)[0] + 10


def test_F5_accuracy_is_strict():
    stats = pairwise_loss(t(1, 0, 2, 3), t(0, 0, 2, 4))[1]
    assert stats["accuracy"] == 0.25  # the two ties are wrong
    assert all(not v.requires_grad and v.dim() == 0 for v in stats.values())


def test_F4_plackett_luce_with_two_is_bradley_terry():
    scores = t(1.5, 0.5, -1.0, 2.0).view(2, 2)
    ranking = torch.tensor([[0, 1], [1, 0]])
    want = pairwise_loss(t(1.5, 2.0), t(0.5, -1.0))[0]
    assert torch.allclose(plackett_luce_loss(scores, ranking)[0], want)
    assert torch.allclose(all_pairs_loss(scores, ranking)[0], want)
    assert not torch.allclose(plackett_luce_loss(scores, ranking.flip(1))[0], want)


def test_plackett_luce_is_a_distribution_over_rankings():
    """exp(-loss) over all 4! rankings sums to 1, and each equals the product of successive choices."""
    scores, total = t(0.3, -1.2, 2.0, 0.1)[None], 0.0
    for order in itertools.permutations(range(4)):
        p = 1.0
        for k in range(4):
            p *= math.exp(scores[0, order[k]]) / sum(math.exp(scores[0, j]) for j in order[k:])
        got = math.exp(-plackett_luce_loss(scores, torch.tensor([order]))[0].item())
        assert abs(got - p) < 1e-12
        total += got
    assert abs(total - 1) < 1e-12
    big = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    loss, _ = plackett_luce_loss(big, torch.tensor([[2, 1, 0]]))
    assert torch.isfinite(loss) and torch.isfinite(torch.autograd.grad(loss, big)[0]).all()


def test_F4_all_pairs_average_within_the_prompt():
    scores, ranking = t(0.3, -1.2, 2.0, 0.1, 0.5, 0.2).view(2, 3), torch.tensor([[2, 0, 1], [0, 1, 2]])
    rows = []
    for s, order in zip(scores.tolist(), ranking.tolist(), strict=True):
        pairs = list(itertools.combinations(order, 2))
        rows.append(sum(math.log1p(math.exp(s[w] - s[b])) for b, w in pairs) / len(pairs))
    assert abs(all_pairs_loss(scores, ranking)[0].item() - sum(rows) / 2) < 1e-12


def test_wrong_input_raises():
    for call, word in (
        (lambda: pairwise_loss(t(1, 2), t(1)), "2"),
        (lambda: pairwise_loss(t(1, 2)[:, None], t(1, 2)), "2"),
        (lambda: pairwise_loss(t(math.nan), t(1)), "NaN"),
        (lambda: pairwise_loss(t(), t()), "B >= 1"),
        (lambda: pairwise_loss(t(1), t(1), margin=t(1, 2)), "margin"),
        (lambda: pairwise_loss(t(1), t(1), label_smoothing=2), "label_smoothing"),
        (lambda: plackett_luce_loss(t(1, 2)[None], torch.tensor([[0, 0]])), "once"),
        (lambda: plackett_luce_loss(t(1, 2)[None], torch.tensor([[1, 2]])), "once"),
        (lambda: plackett_luce_loss(t(1)[None], torch.tensor([[0]])), "K >= 2"),
        (lambda: ensemble(t(1, 2)), "M >= 2"),
    ):
        with pytest.raises(ValueError, match=word):
            call()


# ---- the model ----


def test_F1_padding_changes_no_score(judge):
    """Number, side and id of the pads; wrong picks read another token."""
    text = [5, 7, 3]
    alone = judge(torch.tensor([text]), torch.ones(1, 3))
    for pad in (0, 9):
        for left, right in ((1, 0), (0, 2), (4, 3)):
            ids = torch.tensor([[pad] * left + text + [pad] * right])
            attention = torch.tensor([[0] * left + [1] * 3 + [0] * right])
            assert (judge(ids, attention) - alone).abs() < 1e-5
    ids, attention = torch.tensor([[9, 5, 7, 3]]), torch.tensor([[0, 1, 1, 1]])
    states = hidden_states(judge, ids, attention)
    wrong = judge.model.score(states[:, attention.sum() - 1])  # place 2, not 3
    assert (wrong - alone).abs() > 1e-2
    assert (judge.model.score(states[:, 3]) - alone).abs() < 1e-5


def test_F1_C10_what_follows_eos_changes_nothing(judge):
    ids = torch.tensor([[5, 7, 0, 4, 4], [5, 7, 0, 8, 1]])
    attention = torch.tensor([[1, 1, 1, 0, 0]] * 2)
    a, b = judge(ids, attention)
    assert (a - b).abs() < 1e-5
    a, b = judge(ids, torch.ones(2, 5))  # read on, and it does
    assert (a - b).abs() > 1e-2


def test_F6_the_end_token_is_scored(judge):
    with_end, without = torch.tensor([[5, 7, 0]]), torch.tensor([[5, 7]])
    assert (judge(with_end, torch.ones(1, 3)) - judge(without, torch.ones(1, 2))).abs() > 1e-2


def test_F7_permuting_the_batch_permutes_the_scores(judge):
    ids = torch.randint(0, 20, (5, 6), generator=torch.Generator().manual_seed(0))
    attention = torch.ones(5, 6)
    attention[1, 4:], attention[3, :3] = 0, 0
    order = torch.tensor([3, 0, 4, 1, 2])
    judge.train()  # no dropout left, even in training mode
    assert (judge(ids, attention)[order] - judge(ids[order], attention[order])).abs().max() < 1e-5
    assert judge(ids, attention).std() > 0.1


def test_starts_at_zero_in_float32_and_leaves_the_policy_alone(tiny_gpt2):
    policy = tiny_gpt2()
    before = frozen_copy(policy)
    model = RewardModel(policy)
    batch = {"ids": torch.randint(0, 20, (6, 5)), "attention": torch.ones(6, 5)}
    score = model(**{"ids": batch["ids"], "attention": batch["attention"]})
    assert (score == 0).all() and score.dtype == torch.float32 and score.shape == (6,)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    first, *_, last = [step(model, optimizer, batch) for _ in range(8)]
    assert abs(first["loss"] - math.log(2)) < 1e-6 and last["loss"] < 0.3 and last["accuracy"] == 1
    assert all(torch.equal(p, q) for p, q in zip(policy.parameters(), before.parameters(), strict=True))
    assert RewardModel(policy.transformer)(batch["ids"], batch["attention"]).shape == (6,)  # a trunk is as good


@pytest.mark.parametrize("kind", ["tiny_gpt2", "tiny_llama"])
def test_saves_and_loads_exactly_and_as_sequence_classification(kind, request, tmp_path):
    model = RewardModel(request.getfixturevalue(kind)(), weight=torch.randn(32))
    ids, attention = torch.randint(1, 20, (3, 5)), torch.ones(3, 5)
    model.save_pretrained(tmp_path)
    again = RewardModel.from_pretrained(tmp_path)
    assert torch.allclose(model(ids, attention), again(ids, attention), atol=1e-6) and not again.training
    weights, loaded = model.state_dict(), again.state_dict()
    assert weights.keys() == loaded.keys() and all(torch.equal(weights[k], loaded[k]) for k in weights)
    hub = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    one = hub(input_ids=ids[:1], attention_mask=attention[:1].long()).logits[0, 0]  # one row, no pads: theirs agrees
    assert (one - model(ids, attention)[0]).abs() < 1e-5
    assert hub.num_labels == 1 and "score.weight" in hub.state_dict()
    with pytest.raises(OSError):
        RewardModel.from_pretrained(tmp_path / "nothing")


def test_F1_the_stock_class_reads_the_token_before_eos_when_pad_is_eos(judge, tmp_path):
    judge.save_pretrained(tmp_path)
    hub = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    hub.config.pad_token_id = 0
    ids, attention = torch.tensor([[5, 7, 3, 0]]), torch.ones(1, 4)  # 0 is EOS, and a real token here
    theirs = hub(input_ids=ids, attention_mask=attention.long()).logits[0, 0]
    assert (theirs - judge(ids[:, :3], attention[:, :3])[0]).abs() < 1e-5
    assert (theirs - judge(ids, attention)[0]).abs() > 1e-2


# ---- heads on cached states ----


def test_last_states_feed_the_head(judge):
    ids = torch.randint(1, 20, (7, 5))
    attention = torch.ones(7, 5)
    attention[2, 3:] = 0
    states = last_states(judge, ids, attention, batch=3)
    assert states.shape == (7, 32) and not states.requires_grad and last_state(judge, ids, attention).requires_grad
    assert (states @ judge.model.score.weight[0] - judge(ids, attention)).abs().max() < 1e-4


SETTINGS = [{}, {"label_smoothing": 0.1}, {"margin": 0.3}, {"margin": 0.5, "label_smoothing": 0.2}]


@pytest.mark.parametrize("settings", SETTINGS)
def test_fit_head_is_at_the_minimum_of_pairwise_loss(settings):
    torch.manual_seed(0)
    chosen, rejected = torch.randn(300, 6, dtype=torch.float64) + 0.3, torch.randn(300, 6, dtype=torch.float64)
    weight = fit_head(chosen, rejected, l2=0.01, **settings).requires_grad_()
    size = (chosen - rejected).square().mean(0).sqrt()
    loss = pairwise_loss(chosen @ weight, rejected @ weight, **settings)[0] + 0.005 * (weight * size).square().sum()
    assert torch.autograd.grad(loss, weight)[0].abs().max() < 1e-8
    assert torch.allclose(fit_head(100 * chosen, 100 * rejected, l2=0.01, **settings) * 100, weight)  # free of units


def test_fit_head_recovers_the_truth_in_under_a_second():
    torch.manual_seed(0)
    truth = torch.randn(192) / 192**0.5
    a, b = torch.randn(4096, 192), torch.randn(4096, 192)
    first = torch.rand(4096) < torch.sigmoid((a - b) @ truth)
    start = time.process_time()  # not the clock on the wall: a busy machine is no fault of the code
    weight = fit_head(torch.where(first[:, None], a, b), torch.where(first[:, None], b, a))
    assert time.process_time() - start < 1
    assert torch.cosine_similarity(weight, truth, dim=0) > 0.9
    separable = fit_head(torch.ones(4, 2), torch.zeros(4, 2))
    assert torch.isfinite(separable).all() and (separable > 0).all()
    assert fit_head(torch.tensor([[1.0, 5.0]]), torch.tensor([[0.0, 5.0]]))[1] == 0  # a feature that never differs


def test_ensemble():
    got = ensemble(t(1, 2, 3, 6).view(2, 2))
    assert got["mean"].tolist() == [2, 4] and got["min"].tolist() == [1, 2]
    assert torch.allclose(got["spread"], t(2**0.5, 8**0.5))  # n - 1, as everywhere


# ---- edges ----


def test_stats_by_hand():
    c, r = t(1.0, 2.0, 0.5).requires_grad_(), t(0.0, 3.0, 0.5).requires_grad_()
    loss, stats = pairwise_loss(c, r, center=0.1)
    assert stats["chosen"].item() == pytest.approx(3.5 / 3) and stats["rejected"].item() == pytest.approx(3.5 / 3)
    assert stats["margin"].item() == pytest.approx(0, abs=1e-12) and stats["accuracy"].item() == pytest.approx(1 / 3)
    assert stats["loss"] == loss and all(not x.requires_grad for x in stats.values())
    assert pairwise_loss(c, t(0.0, 0.0, 0.0))[1]["margin"].item() == pytest.approx(3.5 / 3)


def test_plackett_luce_accuracy_is_the_share_of_best_answers_found():
    scores = t(3.0, 1.0, 2.0, 1.0, 3.0, 2.0, 2.0, 2.0, 1.0).view(3, 3).requires_grad_()
    loss, stats = plackett_luce_loss(scores, torch.tensor([[0, 2, 1], [0, 1, 2], [0, 1, 2]]))
    assert stats["accuracy"].item() == pytest.approx(1 / 3)  # right, wrong, and a tie, which is wrong (F5)
    assert stats["loss"] == loss and not stats["loss"].requires_grad


def test_edges_of_the_arguments():
    c, r = t(1.0, 0.0), t(0.0, 0.5)
    assert torch.equal(pairwise_loss(c, r, label_smoothing=1.0)[0], pairwise_loss(r, c)[0])
    for call, word in (
        (lambda: pairwise_loss(c, r, margin=math.nan), "NaN"),
        (lambda: pairwise_loss(c, r, label_smoothing=-0.1), "0 to 1"),
        (lambda: pairwise_loss(c, r, margin=t(1.0)[:, None]), "margin"),
        (lambda: plackett_luce_loss(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.long)), "K >= 2"),
        (lambda: plackett_luce_loss(t(1.0, math.nan)[None], torch.tensor([[0, 1]])), "NaN"),
        (lambda: fit_head(torch.ones(3, 2), torch.ones(1, 2)), "shapes"),
        (lambda: fit_head(torch.ones(3, 2), torch.full((3, 2), math.nan)), "NaN"),
        (lambda: ensemble(torch.ones(1, 3)), "M >= 2"), (lambda: ensemble(torch.ones(3)), "M >= 2"),
        (lambda: finish_score(torch.ones(3), torch.ones(1)), "shapes"),
    ):
        with pytest.raises(ValueError, match=word):
            call()
    assert finish_score(t(2.0), torch.tensor([False]), missing=-1.0).tolist() == [-1]


@pytest.mark.parametrize("settings", SETTINGS)
def test_fit_head_converges_as_newtons_method_does(settings):
    """Quadratically: after 7 steps already, where a wrong Hessian would still be on its way."""
    torch.manual_seed(0)
    chosen, rejected = torch.randn(300, 6, dtype=torch.float64) + 0.3, torch.randn(300, 6, dtype=torch.float64)
    soon, late = (fit_head(chosen, rejected, l2=0.01, steps=n, **settings) for n in (7, 50))
    assert (soon - late).abs().max() < 1e-9 and late.abs().max() > 0.1


def test_fit_head_shortens_a_step_that_overshoots():
    """Nearly separable, with hardly any l2: full Newton steps from 0 overshoot, and the result is the minimum still."""
    torch.manual_seed(0)
    x = torch.randn(60, 3, dtype=torch.float64)
    gap = torch.where((x @ t(1.0, -2.0, 0.5) > 0)[:, None], x, -x) * t(1.0, 100.0, 0.01)
    weight = fit_head(gap, torch.zeros_like(gap), l2=1e-4).requires_grad_()
    size = gap.square().mean(0).sqrt()
    loss = pairwise_loss(gap @ weight, torch.zeros(60, dtype=torch.float64))[0] + 5e-5 * (weight * size).square().sum()
    slope = torch.autograd.grad(loss, weight)[0] / size
    assert slope.abs().max() < 1e-8 and loss.item() < 0.05


def test_one_ranking_among_good_ones_that_is_none():
    """A matrix whose columns hold 0 to K-1, but whose rows do not."""
    with pytest.raises(ValueError, match="once, best first"):
        plackett_luce_loss(torch.zeros(2, 2), torch.tensor([[0, 0], [1, 1]]))


def test_rating_loss_by_hand():
    """Gaps -1 and 3: half their mean square is 2.5, their mean 1, their mean size 2; the stats carry no graph."""
    score, rating = torch.tensor([1.0, 5.0], requires_grad=True), torch.tensor([2.0, 2.0], requires_grad=True)
    loss, stats = rating_loss(score, rating)
    assert (loss.item(), stats["loss"].item(), stats["bias"].item(), stats["error"].item()) == (2.5, 2.5, 1.0, 2.0)
    assert all(not x.requires_grad for x in stats.values())
    slopes = torch.autograd.grad(loss, [score, rating], allow_unused=True)
    assert slopes[0].tolist() == [-0.5, 1.5] and slopes[1] is None  # gap / 2, and nothing into the rating
    for bad in (torch.ones(0), torch.ones(2, 2)):
        with pytest.raises(ValueError, match="one number per row"):
            rating_loss(bad, bad)
    with pytest.raises(ValueError, match="1 NaN"):
        rating_loss(torch.tensor([math.nan]), torch.ones(1))


def test_uncertainty_weighted_by_hand():
    """Scores 0 and 2: mean 1, deviation sqrt 2 (n-1); a weight of 0 is the mean, below 0 is refused."""
    scores = torch.tensor([[0.0], [2.0]])
    assert uncertainty_weighted(scores, weight=0.5).item() == pytest.approx(1 - 0.5 * 2**0.5)
    assert uncertainty_weighted(scores, weight=0.0).item() == 1.0
    with pytest.raises(ValueError, match="weight is -0.1"):
        uncertainty_weighted(scores, weight=-0.1)
    with pytest.raises(ValueError, match="scores .* holds 1 NaN"):
        uncertainty_weighted(torch.tensor([[0.0], [math.nan]]))
    three = ensemble(torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 7.0]]))  # M = 3 rows, 2 answers
    assert three["mean"].tolist() == [2.0, 3.0] and three["min"].tolist() == [0.0, 1.0]
    assert three["spread"].tolist() == pytest.approx([2.0, 12**0.5])


def test_fit_head_of_one_feature_solves_its_equation():
    """The slope of mean -log sigmoid(w) + l2/2 w^2 is -sigmoid(-w) + l2 w: 0 at w = 1 for l2 = sigmoid(-1)."""
    l2 = 1 / (1 + math.e)
    chosen, rejected = torch.ones(4, 1, dtype=torch.float64), torch.zeros(4, 1, dtype=torch.float64)
    assert fit_head(chosen, rejected, l2=l2).item() == pytest.approx(1.0, abs=1e-9)
    assert fit_head(2 * chosen, rejected, l2=l2).item() == pytest.approx(0.5, abs=1e-9)  # units of the spread


def test_the_head_that_is_given_is_copied_and_learns(tiny_gpt2):
    weight = torch.arange(32.0, requires_grad=True)
    model = RewardModel(tiny_gpt2(), weight=weight.detach())
    assert model.model.score.weight.shape == (1, 32) and torch.equal(model.model.score.weight[0], weight)
    assert model.model.score.weight.requires_grad and not model.training


def test_fit_head_does_not_depend_on_units_down_to_1e_8():
    """Gaps of 1.5e-8 are a spread, above the floor of 1e-8: the weight is 1 over it."""
    chosen, rejected = torch.full((4, 1), 1.5e-8, dtype=torch.float64), torch.zeros(4, 1, dtype=torch.float64)
    assert 1.5e-8 * fit_head(chosen, rejected, l2=1 / (1 + math.e)).item() == pytest.approx(1.0, abs=1e-6)


def test_rows_without_attention_are_not_dropped_in_silence(tiny_gpt2):
    """Seven rows in batches of three with an attention of three: not the states of the first three alone."""
    with pytest.raises(ValueError):
        last_states(tiny_gpt2(n_layer=1), torch.ones(7, 2, dtype=torch.long), torch.ones(3, 2), batch=3)


def test_rating_loss_is_half_the_mean_square_and_fixes_the_zero():
    score, rating = torch.tensor([1.0, 2.0, 4.0], requires_grad=True), torch.tensor([1.0, 3.0, 2.0], requires_grad=True)
    loss, stats = rating_loss(score, rating)
    assert abs(loss.item() - (0 + 1 + 4) / 6) < 1e-6 and stats["error"] == 1 and abs(stats["bias"] - 1 / 3) < 1e-6
    g = torch.autograd.grad(loss, [score, rating], allow_unused=True)
    assert g[1] is None and torch.allclose(g[0], torch.tensor([0.0, -1 / 3, 2 / 3]))
    assert rating_loss(score + 5, rating)[0] > loss + 5  # a comparison would not see the shift (C12)
    for bad in ((score, rating[:2]), (score, rating * math.nan), (score[:0], rating[:0]), (score[None], rating[None])):
        with pytest.raises(ValueError):
            rating_loss(*bad)


def test_uncertainty_weighted_is_the_mean_minus_the_spread():
    scores = torch.tensor([[1.0, 4.0], [2.0, 0.0], [3.0, 5.0]], dtype=torch.float64)
    spread = [1.0, math.sqrt((1 + 9 + 4) / 2)]
    got = uncertainty_weighted(scores, weight=0.5)
    assert torch.allclose(got, torch.tensor([2 - 0.5 * spread[0], 3 - 0.5 * spread[1]], dtype=torch.float64))
    assert scores.mean(0).argmax() == 1 and got.argmax() == 1 and uncertainty_weighted(scores, weight=1.0).argmax() == 0
    assert torch.equal(uncertainty_weighted(scores, weight=0.0), scores.mean(0))
    for bad in ((scores[:1], 1.0), (scores, -1.0), (scores * math.nan, 1.0)):
        with pytest.raises(ValueError):
            uncertainty_weighted(bad[0], weight=bad[1])


def test_C8_C9_missing_end_and_clip():
    score, ended = torch.tensor([3.0, 0.5, -7.0]), torch.tensor([True, False, True])
    assert finish_score(score, ended, missing=-1.0).tolist() == [3.0, -1.0, -7.0]
    assert finish_score(score, ended, penalty=1.0).tolist() == [3.0, -0.5, -7.0]
    assert finish_score(score, ended, clip=2.0).tolist() == [2.0, 0.5, -2.0]
    with pytest.raises(ValueError, match="give one"):
        finish_score(score, ended, missing=-1.0, penalty=1.0)
    # C9: the clip comes before the KL; the other order caps the penalty away
    kl = torch.tensor([0.0, 0.0, 10.0])
    right = finish_score(score, ended, clip=2.0) - kl
    assert right[2] == -12 and (score - kl).clamp(-2, 2)[2] == -2


def test_parts_with_the_whole_denominator_add_up_to_the_whole_batch():
    """Pairs, ratings, rankings: uneven parts, an empty one among them, give loss and gradient of the one batch."""
    torch.manual_seed(0)
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    ranking = torch.stack([torch.randperm(4) for _ in range(5)])
    cases = {
        "pairs": lambda rows, n: pairwise_loss(
            x[rows, 0], x[rows, 1], margin=0.3, label_smoothing=0.1, center=0.2, denominator=n)[0],
        "ratings": lambda rows, n: rating_loss(x[rows, 0], x[rows, 1] + 1, denominator=n)[0],
        "rankings": lambda rows, n: plackett_luce_loss(x[rows], ranking[rows], denominator=n)[0],
        "all pairs": lambda rows, n: all_pairs_loss(x[rows], ranking[rows], denominator=n)[0],
    }
    rows = torch.arange(5)
    for name, loss in cases.items():
        whole, parts = loss(rows, None), sum(loss(part, 5) for part in (rows[:2], rows[:0], rows[2:]))
        assert torch.allclose(whole, parts, atol=1e-12), name
        slopes = [torch.autograd.grad(y, x)[0] for y in (whole, parts)]
        assert torch.allclose(*slopes, atol=1e-12), name
        means = sum(loss(part, None) for part in (rows[:2], rows[2:])) / 2  # the mean of the parts' means is another
        assert not torch.allclose(whole, means, atol=1e-3), name
        with pytest.raises(ValueError, match="B >= 1|K >= 2"):
            loss(rows[:0], None)


def test_an_empty_part_has_statistics_of_0():
    none = torch.zeros(0, requires_grad=True)
    loss, stats = pairwise_loss(none, none, denominator=3)
    loss.backward()
    assert loss.item() == 0 and {x.item() for x in stats.values()} == {0.0} and len(stats) == 5


def test_the_best_linear_reward_minimises_the_smoothed_loss_with_its_margin():
    generator = torch.Generator().manual_seed(0)
    chosen, rejected = (torch.randn(40, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    settings = dict(label_smoothing=0.2, margin=0.3)
    w = fit_head(chosen, rejected, l2=0.0, **settings).double()

    def loss(w):
        return pairwise_loss(chosen @ w, rejected @ w, margin=torch.full((40,), 0.3, dtype=torch.float64), label_smoothing=0.2)[0]

    best = loss(w).item()
    for i in range(3):
        for shift in (-0.05, 0.05):
            moved = w.clone()
            moved[i] += shift
            assert loss(moved).item() > best


def test_a_best_answer_that_is_not_on_top_is_not_counted():
    scores = t(3.0, 1.0, 2.0, 2.0, 1.0, 1.5, 1.0, 3.0, 2.0, 5.0, 4.0, 6.0).view(4, 3)
    assert plackett_luce_loss(scores, torch.tensor([[0, 1, 2]] * 4))[1]["accuracy"] == 0.5


@pytest.mark.parametrize("l2, smoothing", [(1e-3, 0.0), (1e-4, 0.05), (1e-5, 0.1)])
def test_fit_head_finds_the_minimum_where_full_newton_steps_would_jump_to_and_fro(l2, smoothing):
    """All pairs alike, a margin of 6: at 0 the loss is steep and hardly curved, so that a full step goes far beyond."""
    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    chosen, rejected = torch.ones(4, 1, dtype=torch.float64), torch.zeros(4, 1, dtype=torch.float64)
    w = fit_head(chosen, rejected, margin=6.0, l2=l2, label_smoothing=smoothing).item()
    slope = smoothing * sigmoid(6.0 + w) - (1 - smoothing) * sigmoid(6.0 - w) + l2 * w
    assert abs(slope) < 1e-9 and 6 < w < 20
    p = sigmoid(6.0)
    assert (1 - 2 * smoothing) * p / (p * (1 - p) + l2) > 200  # the full step from 0
