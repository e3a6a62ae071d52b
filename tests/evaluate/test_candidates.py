import pytest
import torch

from rlhf_minimal import models, sampling, village
from rlhf_minimal.evaluate import candidates
from rlhf_minimal.evaluate.comparisons import states_of
from rlhf_minimal.filtering import top_overall, top_per_prompt

HONEST = village.Annotator(name="honest", temperature=1.0)


@pytest.fixture(scope="module")
def some():
    return candidates.candidates(("story", "harmful"), each=5, seed=1)


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def test_prompts_of_each_family_with_their_answers(some):
    assert some.shape == (10, 4) and some.families == ["story"] * 5 + ["harmful"] * 5 and len(set(some.prompts)) == 10
    assert all(len({some.answers.prompt[place].item() for place in row}) == 1 for row in some.rows)
    for i in (0, 39):
        prompt, text = some.text(i, models.load("village-3m-sft")[1])
        assert prompt == some.prompts[i // 4] and some.gold[i].item() == pytest.approx(village.gold(prompt, text), abs=2e-3)
    assert some.of("story").tolist() == [True] * 5 + [False] * 5 and some.lengths.min() >= 1 and (some.logp < 0).all()
    assert candidates.candidates(("story",), each=5, seed=2).prompts != candidates.candidates(("story",), each=5, seed=3).prompts


def test_no_labelled_prompt_is_asked(some):
    labelled = some.labelled
    asked = {labelled.answers.prompts[i] for i in labelled.answers.prompt[labelled.train[:, 0]].tolist()}
    assert not asked & set(some.prompts)
    assert (labelled.gold[labelled.train[:, 0]] != labelled.gold[labelled.train[:, 1]]).all()


def test_a_judge_is_better_than_a_coin_and_labels_differ(some):
    many = candidates.candidates(n=64)
    assert many.shape == (128, 64) and len(set(many.families)) == 11
    draws = dice()
    one, two = (many.judge(HONEST, draws) for _ in range(2))
    assert not torch.equal(one, two)
    score, gold = many.score(one).view(128, 64), many.gold.view(128, 64)
    order = (score[:, ::2] - score[:, 1::2]) * (gold[:, ::2] - gold[:, 1::2])
    assert (order > 0).sum() > 2 * (order < 0).sum()


def test_new_answers_are_read_like_stored_ones(some):
    model, tokenizer = models.load("village-3m-sft")
    weight = some.judge(HONEST, dice())
    out = sampling.answer(model, tokenizer, some.prompts[5:8], max_new_tokens=48, generator=dice(3))
    assert out.ended.all()
    for i, text in enumerate(out.texts(tokenizer)):
        logp = [x for x, on in zip(out.logp_old[i].tolist(), out.mask[i].tolist(), strict=True) if on]
        state = states_of(model, tokenizer, [some.prompts[5 + i]], [text])[0].tolist()
        read = [sum(logp), sum(logp) / len(logp), len(logp), *state]
        by_hand = sum((x - c) / s * w for x, c, s, w in zip(read, some.centre.tolist(), some.spread.tolist(), weight.tolist(),
                                                            strict=True))
        assert some.score_new(weight, model, out)[i].item() == pytest.approx(by_hand, abs=1e-3)
    prompt, text = some.text(21, tokenizer)  # the stored state is that state, in half precision
    stored = some.answers.state[some.rows.flatten()[21]].double()
    assert torch.allclose(stored, states_of(model, tokenizer, [prompt], [text])[0], atol=0.02)


def test_counts_of_what_is_kept(some):
    best, race = top_per_prompt(some.gold, 4), top_overall(torch.arange(40.0), 10)
    assert some.count(best) == {"story": 5, "harmful": 5} and some.unheard(best) == 0
    assert some.count(race) == {"story": 0, "harmful": 10} and some.unheard(race) == 7
    rows = some.demonstrations(race[:2], models.load("village-3m-sft")[1])
    assert [row["family"] for row in rows] == ["harmful"] * 2 and rows[0]["prompt"] == some.prompts[9]


def test_the_highest_score_among_some(some):
    tokenizer = models.load("village-3m-sft")[1]
    among = torch.zeros(40, dtype=torch.bool)
    among[[3, 17, 30]] = True
    prompt, text, words = some.highest(torch.arange(40.0) - 20, among, tokenizer)
    assert (prompt, text) == some.text(30, tokenizer) and words.startswith("score 10.0 · true reward ")
    assert "score −3.0" in some.highest(torch.arange(40.0) - 20, among & (torch.arange(40) == 17), tokenizer)[2]
    with pytest.raises(ValueError, match="no answer"):
        some.highest(torch.arange(40.0), ~among & among, tokenizer)
    assert some.count(torch.tensor([0, 39]), {"story": "stories"}) == {"stories": 1, "harmful": 1}


def test_what_is_refused(some):
    with pytest.raises(ValueError, match="4 or 64"):
        candidates.candidates(n=5)
    with pytest.raises(ValueError, match="too few prompts: lookalike 110"):
        candidates.candidates(("lookalike",), each=500)
    with pytest.raises(ValueError, match="no prompt of 'sum'"):
        some.of("sum")
