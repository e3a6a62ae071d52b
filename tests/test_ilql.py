"""ILQL: the losses by loops, the expectile's limits, stitching on a tree of listed texts, the exact tilt."""

import math

import pytest
import torch

from rlhf_minimal.evaluate.exact import World, exact_model, tilted
from rlhf_minimal.ilql import Heads, expectile, ilql_loss, step, tilted_logits

# ---- losses ----


@pytest.fixture
def batch():
    torch.manual_seed(0)
    q, slow = (torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    value = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    ids, reward = torch.tensor([[1, 0, 2, 2], [2, 1, 0, 0]]), torch.randn(2, 4, dtype=torch.float64)
    mask = torch.tensor([[1, 0, 1, 1], [1, 1, 0, 0]])  # a gap in the first row, padding in the second
    return q, slow, value, ids, reward, mask


def naive(q, slow, value, ids, reward, mask, tau, gamma, alpha):
    total, count = 0.0, int(mask.sum())
    for b in range(len(mask)):
        places = mask[b].nonzero().flatten().tolist()
        for t, after in zip(places, [*places[1:], None], strict=True):
            target = reward[b, t].item() + (gamma * value[b, after].item() if after is not None else 0.0)
            total += 0.5 * (target - q[b, t, ids[b, t]].item()) ** 2
            gap = slow[b, t, ids[b, t]].item() - value[b, t].item()
            total += abs(tau - (gap < 0)) * gap**2
            total -= alpha * (q[b, t, ids[b, t]] - q[b, t].exp().sum().log()).item()
    return total / count


@pytest.mark.parametrize("tau, gamma, alpha", [(0.7, 1.0, 0.1), (0.5, 0.9, 0.0), (0.95, 0.5, 2.0)])
def test_loss_equals_a_loop(batch, tau, gamma, alpha):
    loss, stats = ilql_loss(*batch, tau=tau, gamma=gamma, alpha=alpha)
    assert abs(loss.item() - naive(*batch, tau, gamma, alpha)) < 1e-12
    assert abs(stats["q_loss"] + stats["v_loss"] + alpha * stats["cql_loss"] - loss) < 1e-12
    swapped = naive(*batch, 1 - tau, gamma, alpha)  # the mutant: the expectile's other side
    assert tau == 0.5 or abs(loss.item() - swapped) > 1e-2


def test_D12_each_part_moves_its_own_head_alone(batch):
    q, slow, value, *_ = batch
    loss, _ = ilql_loss(*batch, alpha=0.0)
    g_q, g_slow, g_v = torch.autograd.grad(loss, [q, slow, value], allow_unused=True)
    assert g_slow is None
    ids, mask = batch[3], batch[5]
    taken = torch.nn.functional.one_hot(ids, 3).bool() & mask.bool()[..., None]
    assert (g_q[~taken] == 0).all() and (g_q[taken] != 0).all()
    gap = slow.gather(2, ids[..., None])[..., 0] - value
    want = -2 * torch.where(gap < 0, 0.3, 0.7) * gap * mask / mask.sum()
    assert torch.allclose(g_v, want)  # nothing from the Q loss's target


def test_E11_and_errors(batch):
    q, slow, value, ids, reward, mask = batch
    clean, _ = ilql_loss(*batch)
    for junk in (math.nan, math.inf, -math.inf, 1e30):
        wide = mask.bool()[..., None].expand_as(q)
        x = torch.where(wide, q.detach(), junk).requires_grad_()
        heads = [x, torch.where(wide, slow, junk), torch.where(mask.bool(), value, junk)]
        rest = [torch.where(mask.bool(), ids, 99), torch.where(mask.bool(), reward, junk)]
        loss, stats = ilql_loss(*heads, *rest, mask)
        slope = torch.autograd.grad(loss, x)[0]
        assert torch.equal(loss, clean) and torch.isfinite(slope).all() and (slope[~wide] == 0).all()
        assert all(torch.isfinite(v) for v in stats.values())
    for bad in (dict(tau=0.0), dict(tau=1.0), dict(gamma=1.5), dict(alpha=-1.0)):
        with pytest.raises(ValueError):
            ilql_loss(*batch, **bad)
    with pytest.raises(ValueError, match="vocabulary has 3"):
        ilql_loss(q, slow, value, ids + 2, reward, mask)
    with pytest.raises(ValueError, match="empty"):
        ilql_loss(q, slow, value, ids, reward, mask * 0)
    for args in ((q[:, :3], slow, value), (q[:, :3], slow[:, :3], value), (q, slow, value[:1])):
        with pytest.raises(ValueError):
            ilql_loss(*args, ids, reward, mask)


def minimiser(x, tau):
    """Of the mean expectile loss over the numbers x, by bisection of its slope."""
    low, high = x.min(), x.max()
    for _ in range(50):
        v = ((low + high) / 2).requires_grad_()
        slope = torch.autograd.grad(expectile(x - v, tau).mean(), v)[0]
        low, high = (v.detach(), high) if slope < 0 else (low, v.detach())
    return low.item()


def test_expectile_is_the_mean_at_half_and_climbs_to_the_maximum():
    x = torch.tensor([0.0, 1.0, 5.0, 2.0], dtype=torch.float64)
    found = [minimiser(x, tau) for tau in (0.01, 0.5, 0.7, 0.9, 0.999)]
    assert found == sorted(found) and abs(found[1] - x.mean().item()) < 1e-10
    assert found[0] < 0.2 and 4.97 < found[-1] < 5
    assert abs(minimiser(x, 0.75) - x.quantile(0.75).item()) > 0.1  # an expectile is no quantile


# ---- a tree of texts ----


def solved(tau, *, alpha=0.0, start=0.0):
    """Tables of Q and V per prefix, fitted to four texts of tokens {0, 1, 2} -> {prefix: V}, {prefix: Q (3,)}.

    1 1 (reward 0), 1 2 (reward 4), 2 1 (reward 1), 2 2 (reward 0), in equal shares; token 0 is never written.
    """
    texts, rewards = torch.tensor([[1, 1], [1, 2], [2, 1], [2, 2]]), torch.tensor([0.0, 4.0, 1.0, 0.0])
    prefix = torch.tensor([[0, 1], [0, 1], [0, 2], [0, 2]])  # number of the state: root, after 1, after 2
    q = torch.full((3, 3), start, dtype=torch.float64, requires_grad=True)
    v = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    reward = torch.stack([torch.zeros(4), rewards], 1).double()
    for _ in range(120):
        args = (q[prefix], q[prefix].detach(), v[prefix], texts, reward, torch.ones(4, 2))
        loss, _ = ilql_loss(*args, tau=tau, alpha=alpha)
        for x, g in zip((q, v), torch.autograd.grad(loss, [q, v]), strict=True):
            x.data -= 1.2 * g
    return v.detach(), q.detach()


def test_tau_one_half_is_the_value_of_the_data():
    v, q = solved(0.5)
    assert torch.allclose(v, torch.tensor([1.25, 2.0, 0.5], dtype=torch.float64), atol=1e-6)
    assert torch.allclose(q[0, 1:], torch.tensor([2.0, 0.5], dtype=torch.float64), atol=1e-6)


def test_V_rises_with_tau_towards_the_best_text_in_the_data():
    roots = [solved(tau)[0][0].item() for tau in (0.5, 0.8, 0.99)]
    assert roots == sorted(roots) and roots[0] < 1.3 and 3.5 < roots[-1] < 4


def test_naive_maximum_trusts_a_token_that_nobody_wrote_and_the_conservative_term_does_not():
    """Q of the unseen token stays where it started, 9: max over the vocabulary takes it, V does not, CQL buries it."""
    v, q = solved(0.9, start=9.0)
    assert q[0].argmax() == 0 and abs(q[0, 0].item() - 9) < 1e-12 and v[0] < 4
    _, safe = solved(0.9, start=9.0, alpha=0.3)
    assert safe[0, 0] < safe[0, 1:].min() and safe[0].argmax() == 1


# ---- sampling ----


def test_tilted_logits_of_the_soft_values_are_the_exact_best_policy():
    """Q* = r + V*, V* = beta log sum pi_ref exp(Q* / beta): at eta = 1 / beta the law is pi_ref e^(r/beta) / Z."""
    world, model, beta = World(), exact_model(1), 0.5
    reward = torch.randn(len(world), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = {tuple(c[m.bool()].tolist()): i for i, (c, m) in enumerate(zip(world.completions, world.mask, strict=True))}
    values = {}

    def value(prefix):
        if prefix in rows:
            return reward[rows[prefix]]
        if prefix not in values:
            ids = torch.tensor([[*world.prompt, *prefix]])
            logits = model(input_ids=ids).logits[0, -1].detach()
            q = torch.stack([value((*prefix, token)) for token in range(3)])
            values[prefix] = beta * (logits.log_softmax(0) + q / beta).logsumexp(0), logits, q
        return values[prefix][0]

    value(())
    best = tilted(world.seq_logp(model).detach(), reward, beta)

    def along(row, eta):
        total = 0.0
        for t in range(len(row)):
            v, logits, q = values[row[:t]]
            total += tilted_logits(logits, q, v, eta=eta).log_softmax(0)[row[t]].item()
        return total

    assert all(abs(along(row, 1 / beta) - best[i].item()) < 1e-10 for row, i in rows.items())
    assert max(abs(along(row, 2 / beta) - best[i].item()) for row, i in rows.items()) > 0.1
    assert all(abs(along(row, 0.0) - world.seq_logp(model)[i].item()) < 1e-10 for row, i in rows.items())


def test_tilted_logits_ignore_V_and_check_their_shapes():
    logits, q = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    a, b = (tilted_logits(logits, q, torch.full((2, 3), v), eta=1.5).softmax(-1) for v in (0.0, 7.0))
    assert torch.allclose(a, b, atol=1e-6)
    zero = torch.zeros(2, 3)
    for bad in ((logits[:1], q, zero), (logits, q, zero[0]), (logits, q * math.nan, zero)):
        with pytest.raises(ValueError):
            tilted_logits(*bad)


def test_heads_start_at_zero_keep_the_policy_apart_and_learn(tiny_gpt2):
    model = tiny_gpt2()
    before = [w.clone() for w in model.parameters()]
    heads = Heads(model)
    ids = torch.tensor([[3, 4, 5, 6], [3, 4, 7, 0]])
    attention = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    mask, reward = attention * torch.tensor([0, 0, 1, 1]), torch.tensor([[0.0, 0, 0, 2], [0, 0, -1, 0]])
    assert all((x == 0).all() for x in heads(ids, attention))
    optimizer = torch.optim.Adam([w for w in heads.parameters() if w.requires_grad], lr=1e-2)
    batch = dict(ids=ids, attention=attention, mask=mask, reward=reward)
    stats = [step(heads, optimizer, batch, rate=0.5, alpha=0.0) for _ in range(60)]
    assert stats[-1]["q_loss"] < 0.2 * stats[0]["q_loss"]  # V keeps its spread: one state, two outcomes
    q, slow, value = heads(ids, attention)
    assert q[0, 1, 5] > 0.5 > -0.3 > q[1, 1, 7]  # place 1 judges token 2: the next token decides
    assert (slow - q).abs().max() < 1
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not any(w.requires_grad for w in heads.q_target.parameters())


def test_the_target_follows_at_its_rate(tiny_gpt2):
    heads = Heads(tiny_gpt2(n_layer=1))
    torch.nn.init.ones_(heads.q.weight)
    heads.follow(0.25)
    assert (heads.q_target.weight == 0.25).all()
    heads.follow(0.25)
    assert torch.allclose(heads.q_target.weight, torch.tensor(0.4375))


ONE = torch.ones(1, 2)


def small():
    """q, q_target, value, ids, reward, mask of two written tokens and one of padding."""
    q = torch.tensor([[[0.0, 2.0], [4.0, 0.0], [9.0, 9.0]]], requires_grad=True)
    value = torch.tensor([[1.0, 2.0, 9.0]], requires_grad=True)
    return [q, q.detach(), value, torch.tensor([[1, 0, 1]]), torch.tensor([[0.0, 5.0, 9.0]]), torch.tensor([[1, 1, 0]])]


def test_stats_by_hand():
    """Q of the written tokens is 2 and 4, V is 1 and 2; the mean is over the mask alone, and all is detached."""
    _, stats = ilql_loss(*small())
    assert stats["q"].item() == 3.0 and stats["value"].item() == 1.5
    assert all(not x.requires_grad and x.dim() == 0 for x in stats.values())


def test_shapes_are_told_by_name():
    q, slow, value, ids, reward, mask = small()
    with pytest.raises(ValueError, match=r"value \(1, 2\), ids \(1, 3\), reward \(1, 3\), mask \(1, 3\)"):
        ilql_loss(q, slow, value[:, :2], ids, reward, mask)
    wider = torch.zeros(1, 3, 5)  # a target over another vocabulary would be gathered from without a word
    with pytest.raises(ValueError, match=r"q \(1, 3, 2\), q_target \(1, 3, 5\)"):
        ilql_loss(q, wider, value, ids, reward, mask)


def test_A3_padding_is_an_id_of_every_vocabulary():
    """With one token in the vocabulary, padding of any id becomes 0; the conservative term is -log 1."""
    q, value = torch.zeros(1, 2, 1), torch.zeros(1, 2)
    mask, ids = torch.tensor([[1, 0]]), torch.tensor([[0, -100]])
    loss, stats = ilql_loss(q, q, value, ids, torch.tensor([[2.0, 0.0]]), mask)
    assert loss.item() == 2.0 and stats["cql_loss"] == 0  # 1/2 (2 - 0)^2


def test_tilted_logits_by_hand():
    """log pi + eta (Q - V): log 1/2 + 2 (3 - 1), log 1/2 + 2 (0 - 1); V keeps the numbers small."""
    got = tilted_logits(torch.zeros(2), torch.tensor([3.0, 0.0]), torch.tensor(1.0), eta=2.0)
    assert got.tolist() == pytest.approx([4 - math.log(2), -2 - math.log(2)])
    assert tilted_logits(torch.zeros(1), torch.tensor([3.0]), torch.tensor(1.0)).tolist() == [2.0]  # V = 1 token


def test_heads_cover_the_vocabulary_and_stay_in_eval_mode(tiny_gpt2):
    heads = Heads(tiny_gpt2(vocab=20).train())
    q, slow, value = heads(torch.tensor([[3, 4]]), ONE)
    assert q.shape == slow.shape == (1, 2, 20) and value.shape == (1, 2)
    assert not any(m.training for m in heads.modules())


def test_a_step_moves_the_target_by_its_rate(tiny_gpt2):
    """One SGD step from 0, then the target goes rate of the way: rate 1/4 leaves a quarter of Q in it."""
    heads = Heads(tiny_gpt2(n_layer=1))
    ids = torch.tensor([[3, 4, 5]])
    batch = dict(ids=ids, attention=torch.ones(1, 3), mask=torch.tensor([[0, 1, 1]]), reward=torch.ones(1, 3))
    step(heads, torch.optim.SGD([w for w in heads.parameters() if w.requires_grad], lr=1.0), batch, rate=0.25)
    assert heads.q.weight.abs().max() > 0.01 and torch.allclose(heads.q_target.weight, heads.q.weight / 4)
