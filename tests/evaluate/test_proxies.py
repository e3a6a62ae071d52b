"""Proxies fitted to labels of stored answers, and what best-of-n makes of them."""

import pytest
import torch

from rlhf_minimal.evaluate import proxies
from rlhf_minimal.village import Annotator


@pytest.fixture(scope="module")
def bench():
    """The stored answers."""
    return proxies.bench()


def sure(**knobs):
    """An annotator who hardly ever errs."""
    return Annotator(name="sure", temperature=0.01, **knobs)


def test_no_prompt_is_both_labelled_and_pushed(bench):
    labelled = {bench.wide.prompts[i] for i in bench.wide.prompt[bench.pairs].flatten().tolist()}
    assert not labelled & {bench.prompt(i) for i in range(len(bench.gold))}
    assert bench.gold.shape == bench.surprise.shape == bench.rows.shape == bench.state.shape[:2] == (16, 512)
    assert (bench.wide.prompt[bench.pairs[:, 0]] == bench.wide.prompt[bench.pairs[:, 1]]).all()


def test_what_stands_beside_an_answer_is_its_own(bench):
    row = bench.rows[3, 7]
    assert bench.gold[3, 7] == bench.asked.gold[row].double()
    count = int(bench.asked.lengths[row])
    assert bench.surprise[3, 7].item() == pytest.approx(-bench.asked.logp[row, :count].double().mean().item())


def test_labels_follow_the_person(bench):
    chosen, rejected = bench.labels(sure(), 400, torch.Generator().manual_seed(0)).T
    assert (bench.wide.gold[chosen] >= bench.wide.gold[rejected] - 0.1).all()
    coin = Annotator(name="coin", temperature=1e6)
    chosen, rejected = bench.labels(coin, 4000, torch.Generator().manual_seed(0)).T
    differ = bench.wide.gold[chosen] != bench.wide.gold[rejected]
    share = (bench.wide.gold[chosen] > bench.wide.gold[rejected])[differ].double().mean().item()
    assert 0.45 < share < 0.55


def test_neighbours_are_pairs_of_the_answers_to_push_on(bench):
    two = bench.neighbours(sure(), torch.Generator().manual_seed(0))
    assert (two[:, 0] // 512 == two[:, 1] // 512).all() and len(two.flatten().unique()) == two.numel() <= 16 * 512
    assert (bench.gold.flatten()[two[:, 0]] >= bench.gold.flatten()[two[:, 1]] - 0.1).all()
    chance = torch.rand(16, 512)
    assert proxies.agreement(bench.gold, two) > proxies.agreement(chance, two)
    both = [bench.gold, chance]
    assert proxies.agreement(both, two) == pytest.approx(sum(proxies.agreement(one, two) for one in both) / 2)


def test_pairs_that_must_not_be_labelled_again_are_not(bench):
    generator = torch.Generator().manual_seed(0)
    first = bench.labels(sure(), 5000, generator)
    second = bench.labels(sure(), 5000, generator, without=first)
    seen = {tuple(sorted(x)) for x in first.tolist()}
    assert not seen & {tuple(sorted(x)) for x in second.tolist()}
    with pytest.raises(ValueError, match="pairs to label"):
        bench.labels(sure(), len(bench.pairs), generator, without=first)


def test_a_proxy_of_the_truth_never_hurts_and_its_opposite_does(bench):
    up = proxies.pushed(bench.gold, bench.gold, [1, 4, 512])
    down = proxies.pushed(-bench.gold, bench.gold, [1, 4, 512])
    assert up[0] < up[1] < up[2] and down[0] > down[1] > down[2]
    assert up[0].item() == pytest.approx(bench.gold.mean().item())
    assert up[2].item() == pytest.approx(bench.gold.amax(1).mean().item())


def test_a_fitted_head_is_in_standard_units_and_better_than_none(bench):
    score, labels = proxies.fitted(bench, Annotator(name="honest", temperature=1.0), 800, torch.Generator().manual_seed(0))
    assert score.shape == (16, 512) and labels.shape == (800, 2)
    assert score.mean(1).abs().max() < 1e-6 and score.std(1).mean().item() == pytest.approx(1)
    centred = bench.gold - bench.gold.mean(1, keepdim=True)
    assert (score * centred).sum() > 0


def test_a_bench_needs_prompts_with_so_many_answers():
    with pytest.raises(ValueError, match="no prompt has 5 answers"):
        proxies.bench(5)


def test_a_head_that_was_told_the_truth_follows_it_for_small_n(bench):
    weak, crushed = (proxies.standardised(bench.state.double() @ proxies.told_the_truth(bench, x)) for x in (0.1, 1e9))
    first, gain = proxies.pushed(weak, bench.gold, [1, 2])
    assert weak.shape == bench.gold.shape and gain > first + 0.1
    assert not torch.allclose(weak, crushed, atol=0.1)


def test_the_quarters_share_the_winners(bench):
    rank = bench.surprise.argsort(1).argsort(1)  # without the ties that surprise has
    quarter = rank // 128
    usual = proxies.by_quarter(bench, [-rank.double(), -rank.double()], quarter, "abcd")
    assert [row["share of the best-of-512"].item() for row in usual.values()] == [1, 0, 0, 0]
    assert usual["d"]["true reward"].item() == pytest.approx(bench.gold[quarter == 3].mean().item())
    mixed = proxies.by_quarter(bench, [-rank.double(), rank.double()], quarter, "abcd")
    assert [row["share of the best-of-512"].item() for row in mixed.values()] == [0.5, 0, 0, 0.5]


def test_the_truth_agrees_with_sure_labels_and_not_with_their_opposite(bench):
    labels = bench.labels(sure(), 400, torch.Generator().manual_seed(0))
    assert proxies.agreement(bench.wide.gold, labels) > 0.85 > 0.15 > proxies.agreement(-bench.wide.gold, labels)


def test_a_pool_leaves_answers_out():
    value, pool = torch.tensor([[0.0, 1.0, 9.0], [4.0, 2.0, 0.0]]), torch.tensor([[1, 1, 0], [0, 1, 1]]).bool()
    assert proxies.pushed(value, value, [1, 2], pool).tolist() == [0.75, 1.5]
    assert proxies.pushed([value, -value], value, [2], pool).tolist() == [[1.5], [0.0]]
    for wrong in (pool[:1], torch.tensor([[1, 1, 0], [0, 0, 1]]).bool()):
        with pytest.raises(ValueError, match="equally many"):
            proxies.pushed(value, value, [1], wrong)


def test_the_law_is_found_again_and_a_kink_is_missed():
    ns = [1, 2, 4, 8, 64]
    root = torch.tensor([proxies.kl_bound(n) for n in ns], dtype=torch.float64).sqrt()
    alpha, beta, miss = proxies.gao_fit(ns, 1.5 + root * (0.4 - 0.3 * root))
    assert (alpha, beta, miss) == pytest.approx((0.4, 0.3, 0), abs=1e-9)
    assert proxies.gao_fit(ns, torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0]))[2] > 0.2
    for wrong in ([2, 4, 8], [1, 2], [1, 2, 4, 8]):
        with pytest.raises(ValueError, match="1 first"):
            proxies.gao_fit(wrong, torch.zeros(3))


def test_the_smallest_n_that_reaches_a_score(bench):
    score, value = bench.gold, -bench.gold
    n, worth = proxies.reaching(score, value, 2.5)
    reached = proxies.pushed(score, score, [n - 1, n])
    assert n > 1 and reached[0] < 2.5 <= reached[1] and worth == pytest.approx(-reached[1].item())
    assert proxies.reaching(score[:, :8], value[:, :8], 99.0)[0] == 8


def test_the_answers_that_lie_furthest_apart():
    a, b = torch.tensor([[3.0, 3.0], [0.0, 3.0]]), torch.tensor([[3.0, 2.0], [0.0, -1.0]])
    logs = {"proxy": [({"true": b}, list("abcd"))], "true": [({"true": a}, list("efgh"))]}
    prompt, answers = proxies.most_apart(["first", "second"], logs)
    assert prompt == "second" and answers == [("last step, proxy reward", "d", -1.0), ("last step, true reward", "h", 3.0)]


def test_heads_agree_with_fresh_labels_more_than_heads_of_turned_labels(bench):
    labels = [bench.labels(sure(), 800, torch.Generator().manual_seed(k)) for k in range(3)]
    right, turned = (proxies.accuracy(bench, read, labels[2]) for read in (labels[:2], [x.flip(1) for x in labels[:2]]))
    assert right > 0.55 and right + turned == pytest.approx(1, abs=0.02)


def test_errors_that_are_dealt_out_anew_are_the_same_ones_elsewhere(bench):
    score, _ = proxies.fitted(bench, sure(), 800, torch.Generator().manual_seed(0))
    dealt = proxies.dealt_out_anew(bench, score, torch.Generator().manual_seed(1))
    centred = bench.gold - bench.gold.mean(1, keepdim=True)
    slope = (score * centred).sum() / centred.square().sum()
    then, now = (score - slope * centred).sort(1).values, (dealt - slope * centred).sort(1).values
    assert torch.allclose(then, now) and not torch.allclose(score, dealt, atol=0.1)
    assert proxies.dealt_out_anew(bench, bench.gold, torch.Generator()).sub(bench.gold).abs().max() < 1e-9


def test_a_judge_scores_sampled_answers_as_its_head_does(bench):
    from rlhf_minimal.models import load
    from rlhf_minimal.reward_model import fit_head, last_state
    from rlhf_minimal.sampling import answer

    model, tokenizer = load("village-3m-sft")
    score = proxies.judge(bench, model, sure(), 300, torch.Generator().manual_seed(0))
    drawn = answer(model, tokenizer, ["What does the fox eat?"], n=3, max_new_tokens=12, generator=torch.Generator().manual_seed(1))
    found = score(drawn)
    head = fit_head(*bench.states(bench.labels(sure(), 300, torch.Generator().manual_seed(0))), l2=0.03).float()
    wanted = last_state(model, drawn.ids, drawn.attention) @ head / (bench.state.float() @ head).std(1).mean()
    assert found.shape == (3,) and not found.requires_grad
    assert torch.allclose(found, wanted, atol=1e-5)
    with pytest.raises(ValueError, match="pairs to label"):
        proxies.judge(bench, model, sure(), 10**9, torch.Generator())
