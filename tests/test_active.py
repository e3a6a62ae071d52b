"""Active learning: which pairs each rule picks, by naive recomputation, and where the rules part."""

import math

import pytest
import torch

from rlhf_minimal.active import closest, disagreement, information, most_disputed


def entropy(p):
    return -sum(x * math.log(x) for x in (p, 1 - p) if x > 0)


def test_closest_is_the_highest_entropy_of_the_label():
    torch.manual_seed(0)
    margin = torch.randn(30, dtype=torch.float64)
    by_entropy = sorted(range(30), key=lambda i: -entropy(1 / (1 + math.exp(-margin[i].item()))))
    assert closest(margin, 7).tolist() == by_entropy[:7]
    assert closest(margin, 7).tolist() != margin.argsort()[:7].tolist()  # the mutant: without the absolute value
    assert closest(torch.tensor([1.0, -1.0, 1.0]), 2).tolist() == [0, 1]  # ties: the first


def test_disagreement_is_the_spread_of_the_models():
    margins = torch.tensor([[1.0, 0.3, -2.0], [1.0, 0.4, 2.0], [1.0, 0.5, 0.0]], dtype=torch.float64)
    assert torch.allclose(disagreement(margins), torch.tensor([0.0, 0.1, 2.0], dtype=torch.float64))
    assert (disagreement(torch.full((3, 2), 0.7)) == 0).all()  # exactly
    assert most_disputed(margins, 2).tolist() == [2, 1]


def test_information_equals_the_naive_mutual_information():
    torch.manual_seed(1)
    margins = 2 * torch.randn(4, 9, dtype=torch.float64)
    for i, got in enumerate(information(margins).tolist()):
        p = [1 / (1 + math.exp(-x)) for x in margins[:, i].tolist()]
        assert abs(got - (entropy(sum(p) / 4) - sum(map(entropy, p)) / 4)) < 1e-12
    assert most_disputed(margins, 3, by=information).tolist() == information(margins).topk(3).indices.tolist()
    sure = torch.tensor([[1000.0, 1000.0], [-1000.0, 1000.0]])
    assert torch.allclose(information(sure), torch.tensor([math.log(2), 0.0]))


def test_closest_chases_noise_where_the_models_agree_and_information_does_not():
    """Pair 0: all models say a coin flip. Pair 1: the models contradict each other. Pair 2: all sure."""
    margins = torch.tensor([[0.0, 3.0, 5.0], [0.0, -2.0, 5.0]])
    assert closest(margins.mean(0), 1).tolist() == [0]
    assert most_disputed(margins, 1).tolist() == most_disputed(margins, 1, by=information).tolist() == [1]
    assert information(margins)[0] == 0


def test_wrong_input_raises():
    margin, margins = torch.ones(3), torch.ones(2, 3)
    calls = [lambda: closest(margin, 0), lambda: closest(margin, 4), lambda: closest(margins, 1),
             lambda: closest(margin * math.nan, 1), lambda: disagreement(margin), lambda: disagreement(margins[:1]),
             lambda: information(margins * math.nan), lambda: most_disputed(margins, 1.0)]
    for call in calls:
        with pytest.raises(ValueError):
            call()
