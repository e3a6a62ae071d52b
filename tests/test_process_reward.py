"""Outcome and process reward losses: loops, the reductions that are mistaken for them, and the ways to sum up steps."""

import math

import pytest
import torch

from rlhf_minimal.process_reward import answer_score, outcome_loss, process_loss


def bce(x, y):
    return math.log1p(math.exp(-x)) if y else math.log1p(math.exp(x))


@pytest.fixture
def logits():
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


MASK = torch.tensor([[0, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]])


def test_F8_outcome_loss_averages_rows_first(logits):
    label = torch.tensor([1, 0, 1])
    rows = [[bce(logits[b, k].item(), label[b]) for k in range(4) if MASK[b, k]] for b in range(3)]
    loss, stats = outcome_loss(logits, label, MASK)
    assert abs(loss.item() - sum(sum(r) / len(r) for r in rows) / 3) < 1e-12
    flat = sum(sum(r) for r in rows) / 6  # the book's code
    assert abs(loss.item() - flat) > 1e-2 and stats["labels"] == 6


def test_F8_process_loss_is_the_mean_over_labelled_steps(logits):
    labels = torch.tensor([[-100, 1, -100, 0], [-100] * 4, [1, -100, -100, -100]])
    cells = [bce(logits[0, 1].item(), 1), bce(logits[0, 3].item(), 0), bce(logits[2, 0].item(), 1)]
    loss, stats = process_loss(logits, labels)
    assert abs(loss.item() - sum(cells) / 3) < 1e-12 and stats["labels"] == 3
    rows = ((cells[0] + cells[1]) / 2 + cells[2]) / 2
    assert abs(loss.item() - rows) > 1e-3
    right = (logits[0, 1] > 0).int() + (logits[0, 3] <= 0).int() + (logits[2, 0] > 0).int()
    assert abs(stats["accuracy"].item() - right.item() / 3) < 1e-6


@pytest.mark.parametrize("junk", [math.nan, math.inf, -math.inf])
def test_E11_junk_off_the_mask(logits, junk):
    label, labels = torch.tensor([1, 0, 1]), torch.where(MASK.bool(), 1, -100)
    soiled = torch.where(MASK.bool(), logits, junk).requires_grad_()
    for loss, clean in (
        (outcome_loss(soiled, label, MASK)[0], outcome_loss(logits, label, MASK)[0]),
        (process_loss(soiled, labels)[0], process_loss(logits, labels)[0]),
    ):
        (grad,) = torch.autograd.grad(loss, soiled)
        assert torch.equal(loss, clean) and torch.isfinite(grad).all() and (grad[MASK == 0] == 0).all()
    with pytest.raises(ValueError, match="NaN"):
        outcome_loss(logits * math.nan, label, MASK)


def test_wrong_input_raises(logits):
    for call, word in (
        (lambda: outcome_loss(logits, torch.ones(4), MASK), "4"),
        (lambda: outcome_loss(logits, torch.ones(3, 4), MASK), "one label per row"),
        (lambda: outcome_loss(logits, torch.tensor([0, 1, 2]), MASK), "0 or 1"),
        (lambda: outcome_loss(logits, torch.ones(3), MASK * 0), "empty"),
        (lambda: process_loss(logits, torch.full((3, 4), -100)), "empty"),
        (lambda: process_loss(logits, torch.full((3, 4), -1)), "step ends"),
        (lambda: process_loss(logits, torch.ones(3, 5)), "5"),
        (lambda: answer_score(logits, MASK, "max"), "max"),
        (lambda: answer_score(logits, MASK * 0), "empty"),
    ):
        with pytest.raises(ValueError, match=word):
            call()


def test_answer_score(logits):
    p = torch.sigmoid(logits)
    want = {
        "min": [min(p[0, 1:].tolist()), p[1, 0], min(p[2, :2].tolist())],
        "mean": [p[0, 1:].mean(), p[1, 0], p[2, :2].mean()],
        "product": [p[0, 1:].prod(), p[1, 0], p[2, :2].prod()],
        "last": [p[0, 3], p[1, 0], p[2, 1]],
    }
    for how, values in want.items():
        got = answer_score(torch.where(MASK.bool(), logits, math.nan), MASK, how)
        assert torch.allclose(got, torch.tensor([float(v) for v in values], dtype=torch.float64))
    sure = torch.full((2, 4), 2.0)
    longer = answer_score(sure, torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]), "product")
    assert longer[1] < longer[0]  # the product falls with length


def test_stats_by_hand():
    """A logit of 0 says 'wrong'; accuracy is the share of labelled tokens, and nothing else is counted."""
    logits = torch.tensor([[0.0, 3.0, -1.0], [0.0, -2.0, 5.0]], requires_grad=True)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    loss, stats = outcome_loss(logits, torch.tensor([1, 0]), mask)  # right: the 3, and both of the second row
    assert stats["accuracy"].item() == pytest.approx(3 / 5) and stats["labels"] == 5
    assert stats["loss"] == loss and all(not x.requires_grad for x in stats.values())
    for label in (-1, 1.5):
        with pytest.raises(ValueError, match="0 or 1"):
            outcome_loss(logits, torch.tensor([1, label]), mask)


def test_one_wrong_label_among_good_ones_is_refused():
    with pytest.raises(ValueError, match="give 0 or 1 at step ends"):
        process_loss(torch.zeros(1, 4), torch.tensor([[1, 0, 2, -100]]))


def test_labels_of_another_width_are_told_as_labels():
    """What the caller gave, not the mask that is made of it."""
    with pytest.raises(ValueError, match=r"logits \(3, 4\), labels \(3, 5\)"):
        process_loss(torch.zeros(3, 4), torch.ones(3, 5))


def test_a_half_is_no_outcome():
    with pytest.raises(ValueError, match="give 0 or 1"):
        outcome_loss(torch.zeros(2, 3), torch.tensor([0.5, 1.0]), torch.ones(2, 3))


def test_a_logit_of_exactly_zero_says_wrong():
    _, stats = outcome_loss(torch.zeros(1, 1), torch.tensor([0]), torch.ones(1, 1))
    assert stats["accuracy"].item() == 1


def test_parts_with_the_whole_denominator_add_up_to_the_whole_batch():
    """Answers for the outcome model, labelled steps for the process model; an empty part gives a 0 with a gradient."""
    torch.manual_seed(0)
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 1, 1, 0]])
    label = torch.tensor([1, 0, 1])
    labels = torch.where(mask.bool(), torch.tensor([0, 1, 1, 0]).expand(3, 4), -100)
    cases = {
        3: lambda rows, n: outcome_loss(logits[rows], label[rows], mask[rows], denominator=n),
        7: lambda rows, n: process_loss(logits[rows], labels[rows], denominator=n),
    }
    rows = torch.arange(3)
    for count, loss in cases.items():
        whole, parts = loss(rows, None)[0], sum(loss(part, count)[0] for part in (rows[:1], rows[:0], rows[1:]))
        assert torch.allclose(whole, parts, atol=1e-12)
        slopes = [torch.autograd.grad(y, logits)[0] for y in (whole, parts)]
        assert torch.allclose(*slopes, atol=1e-12)
        empty, stats = loss(rows[:0], count)
        assert empty.item() == 0 and empty.requires_grad and stats["accuracy"] == 0 and stats["labels"] == 0
        with pytest.raises(ValueError, match="is empty"):
            loss(rows[:0], None)
