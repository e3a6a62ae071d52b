"""The master proof: expected gradients by full enumeration, float64, against the exact gradient of J or of KL."""

import itertools
import math

import pytest
import torch

from rlhf_minimal.advantages import leave_one_out, returns_to_go
from rlhf_minimal.direct_alignment import dpo_loss
from rlhf_minimal.evaluate.exact import (
    World,
    compare,
    enumerate_completions,
    exact_model,
    expected_loss_gradient,
    fit_table,
    free_energy,
    gradient,
    recognise,
    tilted,
)
from rlhf_minimal.grpo import cispo_loss, grpo_loss
from rlhf_minimal.kl import k1, k2, k3
from rlhf_minimal.ppo import policy_loss
from rlhf_minimal.reinforce import reinforce_loss
from rlhf_minimal.rloo import rloo_loss

EQUAL = 1e-10


@pytest.fixture(scope="module")
def bench():
    world, model, reference = World(), exact_model(0), exact_model(1)
    reward = torch.randn(len(world), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return world, model, reference, reward, gradient(world.expected(model, reward), model)


def against(bench, loss, group_size=1):
    """compare() of minus the expected loss gradient with grad J."""
    world, model, _, _, exact = bench
    return compare(-expected_loss_gradient(world, model, loss, group_size=group_size), exact)


def test_enumeration_is_complete_and_stops_at_eos():
    ids, mask = enumerate_completions(3, 3, 0)
    rows = [tuple(i[m.bool()].tolist()) for i, m in zip(ids, mask, strict=True)]
    every = {word[: word.index(0) + 1] if 0 in word else word for word in itertools.product(range(3), repeat=3)}
    assert len(rows) == 15 and set(rows) == every
    assert len(enumerate_completions(4, 2, 3)[0]) == 1 + 3 + 9
    with pytest.raises(ValueError, match="eos_id 3"):
        enumerate_completions(3, 3, 3)


def test_probabilities_sum_to_one_and_are_far_from_uniform(bench):
    world, model = bench[:2]
    p = world.seq_logp(model).exp()
    assert p.dtype == torch.float64 and abs(p.sum().item() - 1) < 1e-12
    assert p.max() > 3 * p.mean() and p.min() < p.mean() / 5
    assert (world.logps(model)[world.mask == 0] == 0).all()
    wrong = (world.logps(model)[:, 1:]).sum(1).exp().sum()  # the columns shifted by one (B1) are no distribution
    assert abs(wrong.item() - 1) > 0.1


def test_same_seed_same_model_and_global_generator_left_alone():
    torch.manual_seed(5)
    a = torch.rand(1)
    torch.manual_seed(5)
    one, two, other = exact_model(3), exact_model(3), exact_model(4)
    assert torch.equal(torch.rand(1), a)
    first = [next(m.parameters()) for m in (one, two, other)]
    assert torch.equal(first[0], first[1]) and not torch.equal(first[0], first[2])


def test_gradient_agrees_with_finite_differences(bench):
    world, _, _, reward, _ = bench
    model = exact_model(0)
    exact, weight = gradient(world.expected(model, reward), model), next(model.parameters())
    with torch.no_grad():
        weight[1, 2] += 1e-6
        up = world.expected(model, reward)
        weight[1, 2] -= 2e-6
        down = world.expected(model, reward)
    assert abs(exact[weight.shape[1] + 2].item() - (up - down).item() / 2e-6) < 1e-7


# ---- section 1, the table ----


def test_reinforce_with_any_constant_baseline_equals_grad_J(bench):
    world, reward = bench[0], bench[3]
    for baseline in (0.0, 0.7, -5.0):
        got = against(bench, lambda lp, i, b=baseline: reinforce_loss(lp, reward[i] - b, world.mask[i])[0])
        assert got["error"] < EQUAL


def test_rloo_equals_grad_J(bench):
    world, reward = bench[0], bench[3]
    got = against(bench, lambda lp, i: rloo_loss(lp, reward[i], world.mask[i], group_size=2)[0], 2)
    assert got["error"] < EQUAL


def test_rloo_with_three_samples_equals_grad_J_in_a_smaller_world():
    world, model = World(horizon=2), exact_model(2, horizon=2)
    reward = torch.linspace(-1, 2, len(world), dtype=torch.float64) ** 2
    exact = gradient(world.expected(model, reward), model)
    got = expected_loss_gradient(
        world, model, lambda lp, i: rloo_loss(lp, reward[i], world.mask[i], group_size=3)[0], group_size=3
    )
    assert compare(-got, exact)["error"] < EQUAL


@pytest.mark.parametrize("mode, factor", [("sequence_sum", 1 / 2), ("fixed", 1 / 2 / 3)])
def test_group_mean_baseline_is_proportional(bench, mode, factor):
    """(G-1)/G of grad J; and a fixed divisor, here the horizon 3, changes the length only."""
    world, reward = bench[0], bench[3]
    got = against(bench, lambda lp, i: dr_grpo(lp, reward[i], world.mask[i], mode), 2)
    assert abs(got["ratio"] - factor) < EQUAL and abs(got["cosine"] - 1) < EQUAL


def dr_grpo(logp, score, mask, mode):
    return grpo_loss(logp, logp.detach(), score, mask, group_size=2, scale=False, mode=mode)[0]


@pytest.mark.parametrize("scale, mode", [(True, "sequence_sum"), (True, "sequence_mean"), (False, "sequence_mean")])
def test_std_and_length_division_are_biased(bench, scale, mode):
    world, reward = bench[0], bench[3]

    def loss(logp, i):
        return grpo_loss(logp, logp.detach(), reward[i], world.mask[i], group_size=2, scale=scale, mode=mode)[0]

    assert against(bench, loss, 2)["cosine"] < 0.995


def test_E8_mean_over_tokens_of_a_sequence_is_biased(bench):
    world, reward = bench[0], bench[3]

    def mean_form(logp, i):
        return reinforce_loss(logp, reward[i] / world.mask[i].sum(1), world.mask[i])[0]

    assert against(bench, mean_form)["cosine"] < 0.99


def test_dropping_eos_from_the_mask_is_biased(bench):
    world, reward = bench[0], bench[3]
    no_eos = world.mask * (world.completions != 0)

    def loss(logp, i):  # the lone EOS has nothing left to be trained on
        return reinforce_loss(logp, reward[i], no_eos[i], denominator=1)[0]

    assert against(bench, loss)["cosine"] < 0.9
    assert against(bench, lambda lp, i: reinforce_loss(lp, reward[i], world.mask[i])[0])["error"] < EQUAL


def test_E3_ppo_at_ratio_one_equals_grad_J_up_to_its_reduction(bench):
    world, reward = bench[0], bench[3]

    def loss(logp, i):  # summed over the tokens of one row: the reduction's constant is 1
        return policy_loss(logp, logp.detach(), reward[i] - 0.4, world.mask[i], denominator=1)[0]

    assert against(bench, loss)["error"] < EQUAL
    mean = against(bench, lambda lp, i: policy_loss(lp, lp.detach(), reward[i] - 0.4, world.mask[i])[0])
    assert mean["error"] > 0.01  # and a token mean of a single row is the biased one again


def test_cispo_on_policy_is_the_same_gradient(bench):
    world, reward = bench[0], bench[3]

    def loss(logp, i):
        settings = dict(group_size=2, scale=False, denominator=2)
        return cispo_loss(logp, logp.detach(), reward[i], world.mask[i], **settings)[0]

    assert abs(against(bench, loss, 2)["ratio"] - 0.5) < EQUAL


def test_off_policy_ratios_are_unbiased_per_sequence_not_per_token(bench):
    """Samples of another model: the product of ratios repairs the expectation, token ratios do not (K16)."""
    world, model, sampler, reward, exact = bench
    old = world.logps(sampler).detach()

    def token(logp, i):
        return policy_loss(logp, old[i], reward[i], world.mask[i], clip=1.0, denominator=1)[0]

    def sequence(logp, i):
        return -((logp - old[i]).sum(1).exp() * reward[i]).sum()

    grads = [expected_loss_gradient(world, model, loss, sampler=sampler) for loss in (sequence, token)]
    results = [compare(-g, exact)["error"] for g in grads]
    assert results[0] < EQUAL and results[1] > 0.1


def test_k1_in_the_reward_equals_grad_of_sequence_kl(bench):
    """As reward-to-go of every token, and as one sum a sequence (C4)."""
    world, model, reference = bench[:3]
    exact = gradient(world.kl(model, reference), model)
    ratio = k1(world.logps(model), world.logps(reference)).detach()
    to_go = returns_to_go(ratio, world.mask)
    for cost in (to_go, ratio.sum(1)):
        got = expected_loss_gradient(world, model, lambda lp, i, c=cost: reinforce_loss(lp, c[i], world.mask[i])[0])
        assert compare(-got, exact)["error"] < EQUAL
    mean = ratio.sum(1) / world.mask.sum(1)  # the token mean (K7) is another objective
    got = expected_loss_gradient(world, model, lambda lp, i: reinforce_loss(lp, mean[i], world.mask[i])[0])
    assert compare(-got, exact)["error"] > 0.05


def test_kl_terms_in_the_loss(bench):
    """k1: gradient 0. k2 = rho k3: near, but not, the gradient of the sequence KL. k3: elsewhere."""
    world, model, reference = bench[:3]
    exact, ref = gradient(world.kl(model, reference), model), world.logps(reference).detach()
    terms = {
        "k1": k1, "k2": k2, "k3": k3,
        "rho": lambda logp, ref: torch.exp(logp - logp.detach()) * k3(logp, ref),
    }
    got = {
        name: expected_loss_gradient(world, model, lambda lp, i, f=f: (f(lp, ref[i]) * world.mask[i]).sum())
        for name, f in terms.items()
    }
    assert got["k1"].norm() < 1e-10 * exact.norm()
    assert compare(got["rho"], got["k2"])["error"] < EQUAL
    assert compare(got["k3"], got["k2"])["error"] > 0.1
    assert 0.3 < compare(got["k2"], exact)["cosine"] < 0.999  # it misses how this token changes later states


def test_grpo_beta_term_is_plain_k3(bench):
    """C3: with equal scores only the KL is left in grpo_loss; it is the paper's k3, per token."""
    world, model, reference = bench[:3]
    ref, zero = world.logps(reference).detach(), torch.zeros(2, dtype=torch.float64)
    settings = dict(group_size=2, mode="sequence_sum", beta=0.3)
    got = expected_loss_gradient(
        world, model, lambda lp, i: grpo_loss(lp, lp.detach(), zero, world.mask[i], logp_ref=ref[i], **settings)[0],
        group_size=2,
    )
    one = expected_loss_gradient(world, model, lambda lp, i: (k3(lp, ref[i]) * world.mask[i]).sum())
    assert compare(got, 0.3 * one)["error"] < EQUAL


@pytest.mark.parametrize("name, exact_name", [("k2", "kl"), ("rho", "kl"), ("k3", "reverse"), ("k1", "zero")])
def test_four_gradients_of_the_kl_estimators(name, exact_name):
    """One softmax: which divergence each term's gradient belongs to."""
    logits = torch.tensor([0.5, -0.3, 0.2, -0.4], dtype=torch.float64, requires_grad=True)
    ref = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64).log()
    logp = logits.log_softmax(0)
    p = logp.detach().exp()
    term = {"k1": k1, "k2": k2, "k3": k3, "rho": lambda a, b: (a - a.detach()).exp() * k3(a, b)}[name]
    exact = {"kl": (logp.exp() * (logp - ref)).sum(), "reverse": (ref.exp() * (ref - logp)).sum()}
    exact["zero"] = 0 * logp.sum()
    value = (p * term(logp, ref)).sum()
    got, want = (torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (value, exact[exact_name]))
    assert torch.allclose(got, want, atol=1e-14)
    other = torch.autograd.grad(exact["reverse" if exact_name == "kl" else "kl"], logits)[0]
    assert not torch.allclose(got, other, atol=1e-3)


# ---- J, KL and the best policy ----


def test_free_energy_and_tilted_policy(bench):
    """J - beta KL(pi || ref) = beta log Z - beta KL(pi || pi*) for any policy; pi* reaches beta log Z."""
    world, model, reference, reward, _ = bench
    logp_ref, beta = world.seq_logp(reference).detach(), 0.5
    best = tilted(logp_ref, reward, beta)
    assert abs(best.exp().sum().item() - 1) < 1e-12

    def objective(logp):
        return (logp.exp() * (reward - beta * (logp - logp_ref))).sum()

    logp, top = world.seq_logp(model).detach(), free_energy(logp_ref, reward, beta)
    gap = (logp.exp() * (logp - best)).sum()
    assert abs(objective(logp) - (top - beta * gap)) < 1e-12
    assert abs(objective(best) - top) < 1e-12 and objective(logp) < top - 1e-3
    assert abs(objective(logp) - (world.expected(model, reward) - beta * world.kl(model, reference))) < 1e-12
    found = fit_table(lambda lp: -objective(lp), logp_ref)
    assert (found.exp() - best.exp()).abs().max() < 1e-7


def test_kl_is_zero_to_itself_and_positive_otherwise(bench):
    world, model, reference = bench[:3]
    assert abs(world.kl(model, model).item()) < 1e-15 and world.kl(model, reference) > 0.1


def test_dpo_on_soft_labels_ends_at_the_tilted_policy(bench):
    """The DPO paper's theorem: infinite Bradley-Terry labels -> pi_ref exp(r / beta) / Z, and for no other beta."""
    world, _, reference, reward, _ = bench
    ref, beta = world.seq_logp(reference).detach(), 0.7
    a, b = torch.tensor(list(itertools.combinations(range(len(world)), 2))).T
    prefer = torch.sigmoid(reward[a] - reward[b])

    def loss(logp):
        z = beta * ((logp - ref)[a] - (logp - ref)[b])
        return -(prefer * torch.nn.functional.logsigmoid(z) + (1 - prefer) * torch.nn.functional.logsigmoid(-z)).mean()

    found = fit_table(loss, ref, steps=300)
    assert (found - tilted(ref, reward, beta)).abs().max() < 1e-6
    assert (found - tilted(ref, reward, 2 * beta)).abs().max() > 0.1
    at = found.clone().requires_grad_()  # there the package's own loss, labels weighted both ways, has no pull either
    per_pair = [
        p * dpo_loss(at[i : i + 1], at[j : j + 1], ref[i : i + 1], ref[j : j + 1], beta=beta)[0]
        + (1 - p) * dpo_loss(at[j : j + 1], at[i : i + 1], ref[j : j + 1], ref[i : i + 1], beta=beta)[0]
        for i, j, p in zip(a.tolist(), b.tolist(), prefer, strict=True)
    ]
    assert torch.autograd.grad(sum(per_pair), at)[0].abs().max() < 1e-5


def test_compare_knows_direction_and_length():
    a = torch.tensor([3.0, 4.0], dtype=torch.float64)
    got = compare(-2 * a, a)
    assert math.isclose(got["cosine"], -1) and math.isclose(got["ratio"], 2) and math.isclose(got["error"], 3)
    assert math.isnan(compare(0 * a, a)["cosine"])
    with pytest.raises(ValueError, match="one shape"):
        compare(a, a[:1])


def test_leave_one_out_variance_is_below_no_baseline(bench):
    """Same mean, less noise: the reason to have a baseline. Second moment of the gradient in a table's logits."""
    world, model, _, reward, _ = bench
    p, shifted = world.seq_logp(model).detach().exp(), reward + 10
    pairs = list(itertools.product(range(len(world)), repeat=2))
    second = {"none": 0.0, "loo": 0.0}
    for i, j in pairs:
        score = shifted[[i, j]]
        for name, adv in (("none", score), ("loo", leave_one_out(score, 2))):
            g = torch.zeros_like(p).index_add(0, torch.tensor([i, j]), adv) / 2 - p * adv.sum() / 2
            second[name] += (p[i] * p[j] * g.square().sum()).item()
    assert second["loo"] < second["none"] / 5


def test_a_gradient_is_recognised_or_not():
    known = {"zero": torch.zeros(3), "one": torch.ones(3)}
    found = {"a": torch.ones(3) + 1e-12, "b": torch.zeros(3), "c": torch.tensor([1.0, 1.0, 0.0])}
    assert recognise(found, known) == {"a": "one", "b": "zero", "c": "?"}
    with pytest.raises(ValueError, match="one shape"):
        recognise({"a": torch.ones(2)}, known)
