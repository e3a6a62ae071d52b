"""Small errors that the other tests let pass: numbers on paper, and labels or lengths that are wrong in one row only."""
import math

import pytest
import torch

from rlhf_minimal import direct_alignment as da
from rlhf_minimal.distillation import full_vocabulary_loss, mixed_logps
from rlhf_minimal.process_reward import outcome_loss


def test_the_whole_gradient_of_full_vocabulary_distillation_blames_a_token_for_what_comes_later():
    """KL is 0 at the first place and .9 log 1.8 + .1 log .2 at the second: the first token pays for the second place."""
    p = torch.tensor([[[0.5, 0.5], [0.9, 0.1]]]).log().requires_grad_()
    q = torch.tensor([[[0.5, 0.5], [0.5, 0.5]]]).log()
    logp = torch.tensor([[math.log(0.5), math.log(0.9)]], requires_grad=True)
    loss, stats = full_vocabulary_loss(p, q, torch.ones(1, 2), logp=logp)
    later = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)
    got, = torch.autograd.grad(loss, logp)
    assert torch.allclose(got, torch.tensor([[later, 0.0]]), atol=1e-6)
    assert abs(stats["kl"].item() - later) < 1e-6


def test_kl_of_full_vocabulary_distillation_is_a_mean_over_the_rows_that_have_tokens():
    p = torch.tensor([[[0.9, 0.1]], [[0.9, 0.1]], [[0.9, 0.1]]]).log()
    q = torch.full((3, 1, 2), 0.5).log()
    one = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)
    _, stats = full_vocabulary_loss(p, q, torch.tensor([[1], [1], [0]]))
    assert abs(stats["kl"].item() - one) < 1e-6


def test_teachers_are_mixed_only_with_a_weight_each():
    logits = [torch.zeros(1, 1, 2), torch.ones(1, 1, 2)]
    with pytest.raises(ValueError):
        mixed_logps(logits, weights=[1.0])
    with pytest.raises(ValueError):
        mixed_logps(logits, weights=[1.0, math.inf])


def test_one_wrong_label_among_right_ones_is_refused():
    with pytest.raises(ValueError):
        da.kto_loss(torch.zeros(2), torch.tensor([1.0, 0.5]), torch.zeros(2), beta=0.1)


def test_one_length_of_zero_among_others_is_refused():
    pairs = [torch.tensor([-1.0, -2.0])] * 4
    with pytest.raises(ValueError):
        da.dpo_nll_loss(*pairs, lengths=torch.tensor([3, 0]))


def test_a_logit_of_exactly_zero_says_wrong():
    _, stats = outcome_loss(torch.zeros(1, 1), torch.tensor([0]), torch.ones(1, 1))
    assert stats["accuracy"].item() == 1
