"""The book's derivations, line by line: each equation is computed as it is printed and compared, in a world that can be listed.

Every test names the labels of its equations; `python -m tools.pages` reads them for docs/equations.md.
"""

import pytest
import torch
import torch.nn.functional as F

from rlhf_minimal.advantages import gae, group_normalize, leave_one_out, returns_to_go
from rlhf_minimal.best_of_n import select
from rlhf_minimal.direct_alignment import dpo_loss
from rlhf_minimal.distillation import full_vocabulary_loss, word_level_loss
from rlhf_minimal.evaluate.exact import World, exact_model, expected_loss_gradient, free_energy, gradient, tilted
from rlhf_minimal.filtering import top_overall
from rlhf_minimal.grpo import cispo_loss, grpo_loss, truncated_importance
from rlhf_minimal.ppo import policy_loss
from rlhf_minimal.process_reward import outcome_loss
from rlhf_minimal.reinforce import reinforce_loss
from rlhf_minimal.reward_model import pairwise_loss

EQUAL = dict(rtol=0, atol=1e-10)


def close(a, b):
    torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), check_dtype=False, **EQUAL)


def far(a, b, by=1e-3):
    assert (torch.as_tensor(a) - torch.as_tensor(b)).abs().max() > by


class Tree:
    """A world with a reward for each token, and everything that follows from it exactly. All (N, T), 0 off the mask."""

    def __init__(self, prompt=(1, 2), gamma=1.0):
        self.world, self.model, self.reference = World(prompt=prompt), exact_model(0), exact_model(1)
        self.mask, self.gamma = self.world.mask, gamma
        rows = [tuple(ids[:int(m.sum())].tolist()) for ids, m in zip(self.world.completions, self.mask, strict=True)]
        generator = torch.Generator().manual_seed(0)
        prefixes = sorted({row[:t + 1] for row in rows for t in range(len(row))})
        paid = dict(zip(prefixes, torch.randn(len(prefixes), generator=generator, dtype=torch.float64).tolist(), strict=True))
        width = self.mask.shape[1]
        self.reward = torch.tensor([[paid[row[:t + 1]] if t < len(row) else 0.0 for t in range(width)] for row in rows],
                                   dtype=torch.float64)
        self.to_go = returns_to_go(self.reward, self.mask.double(), gamma)
        self.p = self.world.seq_logp(self.model).exp()
        p = self.p.detach()

        def mean_over_those_that_begin_with(prefix, t):
            begin = torch.tensor([row[:len(prefix)] == prefix for row in rows])
            return (p * self.to_go[:, t])[begin].sum() / p[begin].sum()

        table = [[(mean_over_those_that_begin_with(row[:t], t), mean_over_those_that_begin_with(row[:t + 1], t))
                  if t < len(row) else (torch.zeros(()), torch.zeros(())) for t in range(width)] for row in rows]
        self.value = torch.tensor([[v for v, _ in row] for row in table], dtype=torch.float64)  # V(s_t)
        self.action_value = torch.tensor([[q for _, q in row] for row in table], dtype=torch.float64)  # Q(s_t, a_t)

    @property
    def total(self):
        return self.to_go[:, 0]

    def slope(self, weight):
        """E[sum_t weight_t grad log pi(a_t | s_t)], the weights (N, T) held constant."""
        return expected_loss_gradient(self.world, self.model, lambda logp, rows: (weight[rows] * logp).sum())


@pytest.fixture(scope="module")
def tree():
    return Tree()


# ---- the objective ----


@pytest.mark.equation("eq:trajectory_probability", "eq:trajectory_log_prob", "eq:response_factorization", "eq:rl_dynam",
                      "eq:llming")
def test_the_probability_of_a_text_is_the_product_over_its_tokens(tree):
    world, product, total = tree.world, [], []
    for ids, mask in zip(world.completions, world.mask, strict=True):
        text, p = list(world.prompt), 1.0
        for token in ids[:int(mask.sum())].tolist():
            p = p * tree.model(torch.tensor([text])).logits[0, -1].softmax(-1)[token].item()
            text.append(token)  # the next state, with probability 1
        product.append(p)
        total.append(torch.log(torch.tensor(p, dtype=torch.float64)))
    close(tree.p.detach(), torch.tensor(product, dtype=torch.float64))
    close(world.seq_logp(tree.model).detach(), torch.stack(total))
    start = {(1, 2): 0.3, (2, 1): 0.7}  # the distribution of prompts
    whole = sum(share * World(prompt=prompt).seq_logp(tree.model).exp().sum() for prompt, share in start.items())
    close(whole.detach(), 1.0)


@pytest.mark.equation("eq:policy_objective", "eq:policy_objective_expectation", "eq:policy_objective_integral", "eq:value_function",
                      "eq:rl_opt", "eq:expect_reward_opt")
def test_the_objective_is_a_mean_of_values_and_a_sum_over_texts():
    start, objective, by_value = {(1, 2): 0.3, (2, 1): 0.7}, 0.0, 0.0
    for prompt, share in start.items():
        tree = Tree(prompt, gamma=0.9)
        objective += share * tree.world.expected(tree.model, tree.total).item()
        by_value += share * tree.value[0, 0].item()
        discounted = (tree.reward * 0.9 ** torch.arange(3, dtype=torch.float64)).sum(1)
        close(tree.total, discounted)
    close(objective, by_value)
    assert abs(objective) > 0.01


@pytest.mark.equation("eq:empirical_batch_estimate", "eq:empirical_mdp_estimate")
def test_the_mean_of_a_batch_has_the_objective_as_expectation(tree):
    p, reward = tree.p.detach(), tree.total
    pairs = (p[:, None] * p[None] * (reward[:, None] + reward[None]) / 2).sum()  # all batches of two texts
    close(pairs, (p * reward).sum())
    rows = torch.multinomial(p, 20_000, replacement=True, generator=torch.Generator().manual_seed(1))
    batch, steps = reward[rows], tree.reward[rows].sum(1)
    assert (batch - steps).abs().max() < 1e-12
    assert abs(batch.mean() - pairs) < 4 * batch.std() / len(batch) ** 0.5


@pytest.mark.equation("eq:return_definition", "eq:recursive_return")
def test_returns_by_definition_and_by_recursion():
    reward = torch.tensor([[1.0, -2.0, 3.0, 0.5]], dtype=torch.float64)
    got = returns_to_go(reward, torch.ones(1, 4), 0.9)[0]
    for t in range(4):
        close(got[t], sum(0.9 ** k * reward[0, t + k] for k in range(4 - t)))
        close(got[t], reward[0, t] + (0.9 * got[t + 1] if t < 3 else 0.0))


# ---- the policy gradient, from the integral to the advantage ----


@pytest.mark.equation("eq:log_chain_rule", "eq:trajectory_log_grad")
def test_the_gradient_of_a_probability_is_the_probability_times_the_gradient_of_its_log(tree):
    logp = tree.world.logps(tree.model)
    for row in (0, 4, 11):
        of_p, of_log = gradient(tree.p[row], tree.model), gradient(logp[row].sum(), tree.model)
        close(of_p, tree.p[row].item() * of_log)
        close(of_log, sum(gradient(logp[row, t], tree.model) for t in range(int(tree.mask[row].sum()))))
        assert of_p.norm() > 1e-4


@pytest.mark.equation("eq:policy_gradient_integral", "eq:policy_gradient_expectation", "eq:policy_gradient_returns",
                      "eq:general_gradient", "eq:vanilla_policy_gradient", "eq:advantage_policy_gradient",
                      "eq:advantage_policy_gradient_recall", "eq:REINFORCE_with_baseline", "eq:REINFORCE_with_advantage")
def test_every_form_of_the_policy_gradient_is_the_same_vector(tree):
    exact = gradient(tree.world.expected(tree.model, tree.total), tree.model)
    by_integral = sum(tree.total[i].item() * gradient(tree.p[i], tree.model) for i in range(len(tree.world)))
    close(by_integral, exact)
    mask, whole = tree.mask.double(), tree.total[:, None].expand_as(tree.reward)
    baseline = torch.where(mask > 0, 3.0 * tree.value + 1.0, 0.0)  # any function of the state
    forms = dict(total=whole, to_go=tree.to_go, baseline=tree.to_go - baseline, action_value=tree.action_value,
                 advantage=tree.action_value - tree.value)
    for weight in forms.values():
        close(tree.slope(weight * mask), exact)
    far(tree.slope(tree.reward * mask), exact)  # the reward of the token alone forgets what comes later


@pytest.mark.equation("eq:advantage_trick", "eq:TD_RESIDUAL")
def test_the_advantage_is_the_td_residual_of_the_true_value(tree):
    after = torch.cat([tree.value[:, 1:], torch.zeros(len(tree.world), 1)], 1)  # V(end) = 0
    residual = (tree.reward + after - tree.value) * tree.mask
    close(residual, (tree.action_value - tree.value) * tree.mask)
    one_step, _ = gae(tree.reward, tree.value, tree.mask.double(), gamma=1.0, lam=0.0)
    close(one_step, residual)
    wrong, _ = gae(tree.reward, tree.value + 0.5, tree.mask.double(), gamma=0.9, lam=0.0)
    far(wrong, residual)  # with another value function it is an estimate


@pytest.mark.equation("eq:policy_gradient_intuition", "eq:policy_update", "eq:REINFORCE_BASIC")
def test_one_step_moves_by_rate_times_reward_minus_baseline_times_eligibility():
    table = torch.tensor([0.5, -0.3, 0.2], dtype=torch.float64, requires_grad=True)
    optimizer, action, reward, baseline, rate = torch.optim.SGD([table], lr=0.1), 1, 2.0, 0.5, 0.1
    before, eligibility = table.detach().clone(), torch.autograd.grad(table.log_softmax(-1)[action], table)[0]
    loss, _ = reinforce_loss(table.log_softmax(-1)[action].view(1, 1), torch.tensor([reward - baseline]).double(), torch.ones(1, 1))
    loss.backward()
    optimizer.step()
    close(table.detach() - before, rate * (reward - baseline) * eligibility)


@pytest.mark.equation("eq:IS_identity")
def test_a_ratio_turns_one_expectation_into_another(tree):
    p, q = tree.p.detach(), tree.world.seq_logp(tree.reference).exp().detach()
    close((q * tree.total * (p / q)).sum(), (p * tree.total).sum())
    far((q * tree.total).sum(), (p * tree.total).sum())


@pytest.mark.equation("eq:K_STEP_ADV", "eq:GAE_DFN", "eq:finite_horizon_return")
@pytest.mark.parametrize("lam", [0.0, 0.4, 0.95])
def test_gae_is_the_weighted_mean_of_advantages_of_all_depths(lam):
    reward, value = torch.randn(2, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    gamma, got = 0.9, gae(reward[None], value[None], torch.ones(1, 4), gamma=0.9, lam=lam)[0][0]

    def deep(t, n):  # n rewards, then the value of the state that they lead to; 0 after the end
        end = min(t + n, 4)
        paid = sum(gamma ** (k - t) * reward[k] for k in range(t, end))
        return paid + (gamma ** n * value[end] if end < 4 else 0.0) - value[t]

    for t in range(4):
        inside = sum((1 - lam) * lam ** (n - 1) * deep(t, n) for n in range(1, 4 - t))
        close(got[t], inside + lam ** (3 - t) * deep(t, 4 - t))  # all deeper ones are equal: they reached the end
    close(gae(reward[None], value[None], torch.ones(1, 4), gamma=1.0, lam=1.0)[1][0, 0], reward.sum())


# ---- ratios and clips ----


@pytest.fixture
def tokens():
    g = torch.Generator().manual_seed(5)
    learner, sampler, old = (-torch.rand(4, 3, generator=g, dtype=torch.float64) * 3 for _ in range(3))
    return learner.requires_grad_(), sampler, old, torch.randn(4, generator=g, dtype=torch.float64), torch.ones(4, 3)


@pytest.mark.equation("eq:tis_backend", "eq:reinforce_tis", "eq:ppo_tis")
def test_truncated_importance_weights_multiply_both_losses(tokens):
    learner, sampler, old, adv, mask = tokens
    weight = torch.minimum((learner.detach() - sampler).exp(), torch.tensor(2.0))
    close(truncated_importance(learner, sampler, mask), weight)
    loss, _ = reinforce_loss(learner, adv[:, None] * weight, mask)
    close(torch.autograd.grad(loss, learner)[0], -weight * adv[:, None] / 4)
    rho = (learner - old).exp()
    want = torch.minimum(rho * adv[:, None], rho.clamp(0.8, 1.2) * adv[:, None]) * weight
    close(policy_loss(learner, old, adv[:, None] * weight, mask)[0], -want.mean())
    far(policy_loss(learner, old, adv, mask)[0], -want.mean())


@pytest.mark.equation("eq:CISPO_ratio", "eq:CISPO_objective")
def test_cispo_clips_its_weight_from_above(tokens):
    """The printed ratio has a lower bound too; here it is 0, the smallest that a ratio can be (epsilon_low = 1)."""
    learner, _, old, _, mask = tokens
    score = torch.tensor([1.0, 0.0, 0.5, 0.0], dtype=torch.float64)
    adv = torch.tensor([0.5, -0.5, 0.25, -0.25])[:, None]
    rho = (learner.detach() - old).exp().clamp(1 - 1.0, 1 + 0.2)
    loss, _ = cispo_loss(learner, old, score, mask, group_size=2, scale=False)
    close(loss, -(rho * adv * learner).sum() / mask.sum())
    close(torch.autograd.grad(loss, learner)[0], -rho * adv / mask.sum())


@pytest.mark.equation("eq:PPO_EQN", "eq:PPO_EQN_EXPECTED", "eq:PPO_EQN_EXPANDED", "eq:PPO_POL_RATIO")
def test_ppo_over_one_answer_and_over_all_tokens(tokens):
    learner, _, old, adv, mask = tokens
    rho = (learner - old).exp()
    term = torch.minimum(rho * adv[:, None], rho.clamp(0.8, 1.2) * adv[:, None])
    close(policy_loss(learner[:1], old[:1], adv[:1], mask[:1])[0], -term[0].sum() / 3)
    close(policy_loss(learner, old, adv, mask)[0], -term.mean())


# ---- groups ----


@pytest.mark.equation("eq:RLOO_GRPO_EQUIV", "eq:RLOO_ADV_AGAIN", "eq:DrGRPO_ADV", "eq:GRPO_ADV", "eq:RLOO_advantage_alt")
@pytest.mark.parametrize("size", [2, 3, 8])
def test_leave_one_out_is_the_centred_score_times_g_over_g_minus_one(size):
    score = torch.randn(size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    centred = score - score.mean()
    others = torch.stack([score[i] - score[[j for j in range(size) if j != i]].mean() for i in range(size)])
    close(group_normalize(score, size, scale=False), centred)
    close(leave_one_out(score, size), others)
    close(size / (size - 1) * centred, others)
    close(group_normalize(score, size), centred / score.std())


@pytest.mark.equation("eq:GRPO", "eq:GRPO_token", "eq:ppo_1step", "eq:grpo_loss_kl")
def test_grpo_by_token_by_answer_and_in_its_first_step(tokens):
    learner, reference, old, score, mask = tokens
    adv = group_normalize(score, 4)
    settings = dict(group_size=4, logp_ref=reference, beta=0.3)
    k3 = (reference - learner).exp() - 1 - (reference - learner)

    def surrogate(ratio, a):
        return torch.minimum(ratio * a, ratio.clamp(0.8, 1.2) * a)

    by_token = surrogate((learner - old).exp(), adv[:, None]) - 0.3 * k3
    close(grpo_loss(learner, old, score, mask, **settings)[0], -by_token.mean(1).mean())
    by_answer = surrogate((learner - old).sum(1).exp(), adv)  # the first printed form: one ratio for the answer
    far(grpo_loss(learner, old, score, mask, group_size=4)[0], -by_answer.mean())
    one = slice(0, 1)  # answers of one token: there both forms agree
    short = surrogate((learner - old).exp()[:, 0], adv).mean()
    close(grpo_loss(learner[:, one], old[:, one], score, mask[:, one], group_size=4)[0], -short)
    first = -((learner - learner.detach()).exp() * adv[:, None] - 0.3 * k3).mean()
    loss, _ = grpo_loss(learner, learner.detach(), score, mask, **settings)
    close(loss, first)
    close(torch.autograd.grad(loss, learner, retain_graph=True)[0], torch.autograd.grad(first, learner)[0])


# ---- reward models ----


@pytest.mark.equation("eq:bradterry", "eq:bradterry_unbounded", "eq:bradterryrm", "eq:bradterryrm_sigmoid", "eq:bradterryrm_deriv",
                      "eq:rewardmodeling1", "eq:rewardmodeling2")
def test_each_line_from_strengths_to_the_loss_on_pairs():
    chosen, rejected = torch.randn(2, 9, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    strong, weak = chosen.exp(), rejected.exp()
    p = strong / (strong + weak)
    for line in (1 / (1 + weak / strong), 1 / (1 + (rejected - chosen).exp()), torch.sigmoid(chosen - rejected)):
        close(line, p)
    loss, _ = pairwise_loss(chosen, rejected)
    for line in (-p.log(), -torch.sigmoid(chosen - rejected).log(), torch.log(1 + (rejected - chosen).exp())):
        close(loss, line.mean())
    far(pairwise_loss(rejected, chosen)[0], loss)


@pytest.mark.equation("eq:orm_token_loss", "eq:orm_loss")
def test_the_two_printed_losses_of_an_outcome_model_differ():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.3, 0.0, 0.0]], dtype=torch.float64)
    label, mask = torch.tensor([1.0, 0.0]), torch.tensor([[1, 1, 1], [1, 0, 0]])
    by_token = -(torch.sigmoid(logits[0]).log().mean() + torch.log(1 - torch.sigmoid(logits[1, 0]))) / 2
    close(outcome_loss(logits, label, mask)[0], by_token)
    by_answer = -(torch.sigmoid(logits[0].mean()).log() + torch.log(1 - torch.sigmoid(logits[1, 0]))) / 2
    far(by_answer, by_token)


# ---- DPO, from the objective to the gradient ----

BETA = 0.7


def world_of_two():
    world, model, reference = World(), exact_model(0), exact_model(1)
    reward = torch.randn(len(world), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return model, world.seq_logp(model), world.seq_logp(reference).detach(), reward


@pytest.mark.equation("eq:review_rlhf", "eq:rlhf_opt_eq", "eq:rlhf_opt_eq_repeat", "eq:rl_objective_retaining", "eq:rl_min_form",
                      "eq:rl_kl_form", "eq:optimal_policy_retaining", "eq:dpo_opt_policy", "eq:dpo_partition",
                      *(f"eq:dpo_deriv_{k}" for k in range(1, 12)))
def test_each_line_from_the_objective_to_the_tilted_policy():
    _, logp, ref, r = world_of_two()
    logp = logp.detach()
    p = logp.exp()
    z = (ref.exp() * (r / BETA).exp()).sum()
    best = ref + r / BETA - z.log()
    mean = lambda x: (p * x).sum()  # noqa: E731
    objective = mean(r) - BETA * mean(logp - ref)
    close(mean(r - BETA * (logp - ref)), objective)  # 1
    close(mean(r) - BETA * mean(logp - ref), objective)  # 2
    close(-mean(r) + BETA * mean(logp - ref), -objective)  # 3
    least = mean(logp - ref - r / BETA)  # 4: divided by beta
    close(least, -objective / BETA)
    close(mean((p / (ref.exp() * (r / BETA).exp() / z)).log() - z.log()), least)  # 5
    lines = [logp - ref - r / BETA, logp - ref - r / BETA + z.log() - z.log(), (logp - ref + z.log()) - z.log() - r / BETA,
             (p / (ref.exp() / z)).log() - z.log() - r / BETA]  # 6 to 9
    for line in lines:
        close(line, lines[0])
    close(mean((p / best.exp()).log()) - z.log(), least)  # 10
    close(F.kl_div(best, logp, log_target=True, reduction="sum") - z.log(), least)  # 11
    close(tilted(ref, r, BETA), best)
    close(free_energy(ref, r, BETA), BETA * z.log())
    assert objective < BETA * z.log() - 1e-3  # this policy is not the best one


@pytest.mark.equation("eq:dpo_reward_deriv1", "eq:dpo_reward_deriv2", "eq:dpo_reward_deriv3", "eq:dpo_reward_full", "eq:dpo_reward",
                      "eq:bradley_terry_dpo", *(f"eq:dpo_loss_deriv{k}" for k in range(5)), "eq:dpo_core")
def test_each_line_from_the_tilted_policy_to_the_loss():
    _, logp, ref, r = world_of_two()
    z = (ref.exp() * (r / BETA).exp()).sum()
    best = (ref.exp() * (r / BETA).exp() / z).log()
    close(best, -z.log() + ref + r / BETA)
    close(r / BETA, best - ref + z.log())
    full, reward = BETA * (best - ref) + BETA * z.log(), BETA * (best - ref)
    close(full, r)
    far(reward, r)  # without beta log Z only differences are right
    one, two = torch.triu_indices(len(r), len(r), 1)
    want = r.exp()[one] / (r.exp()[one] + r.exp()[two])
    for x in (full, reward):
        close(x.exp()[one] / (x.exp()[one] + x.exp()[two]), want)
    close(1 / (1 + (reward[two] - reward[one]).exp()), want)
    close(torch.sigmoid(reward[one] - reward[two]), want)
    loss, _ = dpo_loss(best[one], best[two], ref[one], ref[two], beta=BETA)
    close(loss, -want.log().mean())
    far(dpo_loss(logp.detach()[one], logp.detach()[two], ref[one], ref[two], beta=BETA)[0], loss)


@pytest.mark.equation("eq:dpo_grad_0", "eq:dpo_grad_2", "eq:dpo_grad_3", "eq:dpo_gradient", "K52", "K53")
def test_the_gradient_of_dpo_weighs_a_pair_by_how_wrong_it_is():
    model, logp, ref, _ = world_of_two()
    c, r = 3, 8
    whole = gradient(dpo_loss(logp[[c]], logp[[r]], ref[[c]], ref[[r]], beta=BETA)[0], model)
    u = BETA * (logp[c] - ref[c]) - BETA * (logp[r] - ref[r])
    s = torch.sigmoid(u).item()
    close(-gradient(u, model) * (s * (1 - s)) / s, whole)  # sigma'(u) / sigma(u)
    weight = torch.sigmoid(-u).item()
    apart = gradient(logp[c], model) - gradient(logp[r], model)
    close(-BETA * weight * apart, whole)
    far(-BETA * apart, whole)
    leaf = torch.tensor([[-1.0, -2.0]], requires_grad=True)  # each token of the answer gets the same weight
    slope = torch.autograd.grad(dpo_loss(leaf.sum(1), *torch.tensor([[-4.0], [-3.0], [-4.0]]))[0], leaf)[0]
    assert slope[0, 0] == slope[0, 1] != 0


# ---- choosing among samples: the book's matrix of five prompts and four completions ----

MATRIX = torch.tensor([[.7, .3, .5, .2], [.4, .8, .6, .5], [.9, .3, .4, .7], [.2, .5, .8, .6], [.5, .4, .3, .6]])


@pytest.mark.equation("eq:rs_example_matrix", "eq:rs_example_per_prompt", "eq:rs_example_selection_formula",
                      "eq:rs_example_selection_result", "eq:rs_selection_per_prompt", "eq:rs_chosen_completions",
                      "eq:selection_function", "eq:rewards_vector", "eq:rs_reward_matrix")
def test_the_best_completion_of_each_prompt():
    rows = select(MATRIX.flatten(), 4)
    assert (rows % 4 + 1).tolist() == [1, 2, 1, 3, 4] and (rows // 4).tolist() == [0, 1, 2, 3, 4]
    assert MATRIX.flatten()[rows].tolist() == MATRIX.max(1).values.tolist()


@pytest.mark.equation("eq:rs_example_flattened", "eq:rs_example_top_overall", "eq:rs_example_topk_result", "eq:rs_topk_selection",
                      "eq:rs_flattened_rewards")
def test_the_best_completions_of_all():
    assert top_overall(MATRIX.flatten(), 5).tolist() == [8, 5, 14, 0, 11]
    assert 4 not in (top_overall(MATRIX.flatten(), 5) // 4)  # the last prompt gets nothing


# ---- distillation ----


@pytest.mark.equation("eq:exposure_train", "eq:exposure_test", "eq:word_kd", "eq:kd_forward_kl")
def test_trained_on_the_teachers_prefixes_and_tested_on_its_own():
    world, student, teacher = World(), exact_model(0), exact_model(1)
    places = slice(len(world.prompt) - 1, -1)
    s, t = (m(world.ids).logits[:, places].detach() for m in (student, teacher))
    drawn = world.seq_logp(teacher).exp().detach()
    rows = torch.stack([word_level_loss(s[[i]], t[[i]], world.mask[[i]])[1]["kl"] * world.mask[i].sum() for i in range(len(world))])
    trained = (drawn * rows).sum()
    close(trained, world.kl(teacher, student).detach())  # the forward KL of whole texts
    task = (world.completions == 1).double().sum(1)  # any loss of a finished answer
    tested = world.expected(student, task)
    far(tested, (drawn * task).sum())


@pytest.mark.equation("eq:mopd_objective", "eq:opd_reverse_kl")
def test_several_teachers_are_a_weighted_sum_of_reverse_divergences():
    world, student, teachers, weights = World(), exact_model(0), (exact_model(1), exact_model(2)), (0.3, 0.7)
    places, own = slice(len(world.prompt) - 1, -1), world.seq_logp(student).exp().detach()
    s = student(world.ids).logits[:, places].detach()

    def at_its_prefixes(teacher):
        t = teacher(world.ids).logits[:, places].detach()
        return sum(own[i] * full_vocabulary_loss(s[[i]], t[[i]], world.mask[[i]])[0] for i in range(len(world)))

    got = sum(w * at_its_prefixes(teacher) for w, teacher in zip(weights, teachers, strict=True))
    close(got, sum(w * world.kl(student, teacher) for w, teacher in zip(weights, teachers, strict=True)).detach())


@pytest.mark.equation("eq:dagger_perstep", "eq:dagger_trajectory")
def test_an_error_that_is_never_repaired_costs_with_the_square_of_the_length():
    """A cliff: one wrong action, of chance epsilon in the teacher's states, and every later one is wrong too."""

    def cost(length, epsilon, repaired):
        off, total = 0.0, 0.0  # the chance to be off the teacher's path
        for _ in range(length):
            wrong = (1 - off) * epsilon + off * (epsilon if repaired else 1.0)
            total, off = total + wrong, (0.0 if repaired else wrong)
        return total

    for epsilon in (1e-3, 1e-2):
        for length in (4, 16, 64):
            assert cost(length, epsilon, repaired=False) <= epsilon * length ** 2
            close(cost(length, epsilon, repaired=True), epsilon * length)  # corrected on its own states: linear
    growth = cost(64, 1e-4, False) / cost(16, 1e-4, False)
    assert 15 < growth < 16.1  # four times the length, sixteen times the cost
