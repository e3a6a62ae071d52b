import pytest
import torch

from rlhf_minimal import village
from rlhf_minimal.evaluate import tastes
from rlhf_minimal.models import load
from rlhf_minimal.village import Crowd, Reader

N = 40_000


@pytest.fixture(scope="module")
def world():
    """Eight stories whose states say nothing but the ending and a little noise."""
    ends = ["happy", "sad"] * 4
    states = torch.tensor([[1.0 if end == "happy" else -1.0] for end in ends]) * torch.ones(8, 2)
    states[:, 1] = torch.tensor([1.0, 1, -1, -1, 1, 1, -1, -1])
    return tastes.Stories(["r"] * 8, list("abcdefgh"), ends, states, torch.tensor([3.0, 1, 2, 2, 1, 3, 2, 2]))


def crowd(share=0.6, first=0.1, second=0.1, strength=1.0, **knobs):
    return Crowd((Reader(group="happy", likes=("happy", "sad"), temperature=first, **knobs),
                  Reader(group="sad", likes=("sad", "happy"), temperature=second, strength=strength, **knobs)), (share, 1 - share))


def near(share, expected, n=N):
    assert abs(share - expected) < 4 * (0.25 / n) ** 0.5


@pytest.mark.parametrize("people", [crowd(), crowd(0.6, 1.0, 0.3), crowd(0.3, 2.0, 1.0, 2.0)])
def test_comparisons_and_thumbs_have_the_readers_probabilities(world, people):
    chosen, rejected, who = tastes.compare(world, people, N, seed=0)
    assert all(world.ends[i] != world.ends[j] for i, j in zip(chosen.tolist(), rejected.tolist(), strict=True))
    share = people.shares[0]
    near(who.count("happy") / N, share)
    exact = sum(w * r.probability("", r.worth("happy"), r.worth("sad"))
                for w, r in zip(people.shares, people.annotators, strict=True))
    near(world.happy[chosen].mean().item(), exact)
    rows, up = tastes.thumbs(world, people, N, seed=1)
    for end in ("happy", "sad"):
        exact = sum(w * r.thumbs_probability("", r.worth(end), threshold=0.0)
                    for w, r in zip(people.shares, people.annotators, strict=True))
        near(up[[world.ends[i] == end for i in rows.tolist()]].mean().item(), exact, N // 2)


def test_quality_enters_with_its_weight(world):
    people = crowd(0.5, 1.0, 1.0, gold_weight=1.0)
    chosen, rejected, _ = tastes.compare(world, people, N, seed=0)
    pair = [(i, j) for i, j in zip(chosen.tolist(), rejected.tolist(), strict=True) if {i, j} == {0, 1}]
    exact = sum(0.5 * r.probability("", r.worth("happy", 3.0), r.worth("sad", 1.0)) for r in people.annotators)
    near(sum(i == 0 for i, _ in pair) / len(pair), exact, len(pair))


def test_rankings_are_plackett_luce(world):
    reader = Reader(likes=("happy", "sad"), temperature=0.7)
    order = tastes.rank(world, Crowd((reader,), (1.0,)), N, seed=0, size=2)
    mixed = [row for row in order.tolist() if world.ends[row[0]] != world.ends[row[1]]]
    near(sum(world.ends[a] == "happy" for a, _ in mixed) / len(mixed), reader.probability("", 0.5, -0.5), len(mixed))
    assert all(len(set(row)) == 4 for row in tastes.rank(world, crowd(), 50, seed=0).tolist())


def test_ratings_stay_on_the_scale_and_follow_worth(world):
    sure = Crowd((Reader(likes=("happy", "sad"), temperature=0.0, strength=2.4),), (1.0,))
    rows, stars = tastes.rate(world, sure, 100, seed=0, levels=8)   # worth 1.2 and -1.2 on -2 to 2: levels 7 and 2
    assert {(world.ends[i], y) for i, y in zip(rows.flatten().tolist(), stars.flatten().tolist(), strict=True)} == {
        ("happy", 7.0), ("sad", 2.0)}
    _, stars = tastes.rate(world, crowd(0.6, 5.0, 5.0), 2_000, seed=0, levels=5)
    assert set(stars.flatten().tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0}
    generous = Crowd((Reader(likes=("happy", "sad"), temperature=0.0, strength=2.4, offset=1.0),), (1.0,))
    assert tastes.rate(world, generous, 100, seed=0, levels=8)[1].mean() == 6.0   # levels 8 and 4


def test_two_crowds_with_equal_comparisons_and_other_ratings(world):
    noise, cares = crowd(0.6, 1.0, 0.3), crowd(0.6, 1.0, 1.0, 1 / 0.3)
    a, b = (tastes.compare(world, c, N, seed=0)[0] for c in (noise, cares))
    assert torch.equal(a, b)                        # the same draws, the same probabilities

    def gap(people):
        rows, stars = tastes.rate(world, people, N, seed=0, levels=8)
        return (stars * (2 * world.happy[rows] - 1)).sum(1).mean().item()

    assert gap(noise) > 0.1 and gap(cares) < -0.3


def test_fit_finds_the_log_odds(world):
    chosen, rejected, _ = tastes.compare(world, crowd(), N, seed=0)
    found = tastes.scores(world, world, crowd(), [0], n=N, l2=1e-6)[0]
    margin = (found[world.happy > 0].mean() - found[world.happy < 1].mean()).item()
    share = world.happy[chosen].mean().item()
    assert abs(margin - torch.tensor(share).logit().item()) < 0.02
    weight = tastes.fit(world.states, lambda s: -(s[chosen] - s[rejected]).sigmoid().log().mean(), l2=1e-6)
    assert abs(2 * weight[0].item() - margin) < 0.02


def test_four_questions(world):
    found = tastes.four_questions(world, crowd(), 2_000, 0)
    assert list(found) == ["comparison", "ranking of four", "thumb", "rating, 1 to 8"]
    assert all(w[0] > 0 for w, _ in found.values()) and found["thumb"][1] is None and 0 <= found["rating, 1 to 8"][1] < 1


def test_best_of_and_tilt(world):
    score = world.happy.double()
    assert tastes.best_of(world, score, 4, [1, 4]).tolist() == [[0.5, 1.0]] * 2
    share = tastes.tilted_share(world, score, 4, 1.0)
    assert torch.allclose(share, torch.ones(2).double().sigmoid())
    one = tastes.served(0.9, 0.6)
    assert list(one.values()) == pytest.approx([0.9, 0.1, 0.58])
    assert list(tastes.served({"happy": 0.9, "sad": 0.2}, 0.6).values()) == pytest.approx([0.9, 0.2, 0.62])
    said = tastes.spread(torch.ones(5, 12))
    assert said == {"best of 16": "100 %", "95 % interval": "76 to 100 %", "five sets of labels": "100 to 100 %"}
    assert tastes.spread(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))["five sets of labels"] == "0 to 50 %"


def test_the_interval_over_subjects():
    """Copies of a request add nothing: the subject is the unit."""
    once = tastes.share_of(torch.tensor([[1.0, 0.5, 0.8]]), ["a", "b", "c"])
    assert tastes.share_of(torch.tensor([[1.0, 1.0, 0.5, 0.5, 0.8, 0.8]]), list("aabbcc")) == once
    assert tastes.share_of(torch.ones(5, 4), list("aabb")) == {"best of 16": "100 %", "95 % interval": "100 to 100 %"}
    with pytest.raises(ValueError, match="1 group"):
        tastes.share_of(torch.ones(5, 2), ["a", "a"])
    read = tastes.stored(load("village-3m-sft")[1])
    asked = [row["prompt"] for row in tastes.unjudged_requests(read, 36)]
    told = tastes.Stories(asked, asked, ["sad"] * 36, torch.zeros(36, 1), torch.zeros(36))
    names = tastes.subjects(told, 1)
    assert len(set(names)) == 36 and all(name in request for name, request in zip(names, asked, strict=True))
    assert not set(asked) & set(read.requests)


def test_each_camp_is_served_by_its_own_reward(world):
    labels = tastes.compare(world, crowd(), 4_000, seed=0)
    new = tastes.Stories(["r"] * 4 + ["s"] * 4, world.texts, world.ends, world.states, world.gold)
    assert [tastes.own_reward(world, new, *labels, camp) for camp in ("happy", "sad")] == [1.0, 1.0]


def test_stored_stories_and_an_example():
    some = tastes.stored(load("village-3m-sft")[1])
    assert len(some) > 2_000 and set(some.ends) == {"happy", "sad"} and abs(some.happy.mean() - 0.5) < 0.05
    request, pair = tastes.example(some)
    assert [village.ending(text) for _, text, _ in pair] == ["happy", "sad"] and not village.parse(request).info["mood"]
    assert all(gold == pytest.approx(3.0, abs=0.01) for *_, gold in pair)
    assert some.standardised(some).states.mean().abs() < 1e-4
    with pytest.raises(ValueError, match="more stories"):
        tastes.example(some.take([0]))


def test_written_stories_come_request_by_request():
    model, tokenizer = load("village-3m-sft")
    rows, generator = tastes.open_requests(2), torch.Generator().manual_seed(0)
    some = tastes.write(model, tokenizer, rows, keep=2, draws=12, generator=generator)
    assert some.requests == [row["prompt"] for row in rows for _ in range(2)] and some.states.shape == (4, 192)
    with pytest.raises(ValueError, match="raise draws"):
        tastes.write(model, tokenizer, rows[:1], keep=5, draws=2, generator=generator)
    with pytest.raises(ValueError, match="of this kind"):
        tastes.open_requests(500)


def test_what_does_not_fit_is_refused(world):
    with pytest.raises(ValueError, match="one of each"):
        tastes.compare(world.take([0, 2]), crowd(), 5, 0)
    with pytest.raises(ValueError, match="plain village.Reader"):
        tastes.compare(world, village.panel(["ordinary"]), 5, 0)
    with pytest.raises(ValueError, match="plain village.Reader"):
        tastes.compare(world, Crowd((Reader(tie=1.0),), (1.0,)), 5, 0)
    for levels in (1, 2.5, True):
        with pytest.raises(ValueError, match="levels"):
            tastes.rate(world, crowd(), 5, 0, levels=levels)
