import math

import pytest
import torch

from rlhf_minimal import models, village
from rlhf_minimal.evaluate import comparisons
from rlhf_minimal.reward_model import RewardModel, last_states
from rlhf_minimal.tensors import pad_left, pad_right

NOISY = village.Annotator(name="noisy", temperature=1.5)
WORDY = village.Annotator(name="wordy", temperature=0.25, length_bias=2.5)
EXACT = village.Annotator(name="exact", temperature=0.0)


@pytest.fixture(scope="module")
def some():
    return comparisons.stored()


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def test_no_prompt_is_in_both_parts_and_all_answers_differ(some):
    learn, held = (set(some.answers.prompt[two[:, 0]].tolist()) for two in (some.train, some.test))
    assert not learn & held
    for two in (some.train, some.test):
        assert (some.answers.prompt[two[:, 0]] == some.answers.prompt[two[:, 1]]).all()
        assert (some.answers.ids[two[:, 0]] != some.answers.ids[two[:, 1]]).any(1).all()
    assert (some.gold[some.test[:, 0]] != some.gold[some.test[:, 1]]).all()


def test_people_choose_as_the_annotator_says(some):
    i, j = some.test[0].tolist()
    rows = [dict(zip(some.answers.feature_names, some.answers.features[k].tolist(), strict=True)) for k in (i, j)]
    for person in (NOISY, WORDY, village.Annotator(weights={"flattery": 1.0})):
        u = [person.utility_of(some.answers.family(k), row) for k, row in zip((i, j), rows, strict=True)]
        assert some.prefers(person, some.test[:1]).item() == pytest.approx(person.probability("", *u), abs=5e-3)
    with pytest.raises(ValueError, match="ties"):
        some.prefers(village.Annotator(tie=0.5), some.test)


def test_labels_are_pairs_and_more_labels_begin_with_the_same(some):
    few, more = (some.label(NOISY, n, dice()) for n in (50, 200))
    assert torch.equal(few, more[:50])
    pairs = {tuple(sorted(x)) for x in some.train.tolist()}
    assert {tuple(sorted(x)) for x in more.tolist()} <= pairs and len({tuple(sorted(x)) for x in more.tolist()}) == 200
    with pytest.raises(ValueError, match="to label"):
        some.label(NOISY, len(some.train) + 1, dice())


def test_who_sees_the_truth_is_always_right_and_a_coin_half_of_the_time(some):
    assert some.agreement(EXACT) == 1.0 and some.right(some.gold) == 1.0 and some.right(-some.gold) == 0.0
    assert some.right(torch.zeros(len(some.gold))) == 0.5
    assert 0.7 < some.agreement(NOISY) < 0.78 and 0.7 < some.agreement(WORDY) < 0.78
    assert some.confirmed(some.gold, EXACT) == (1.0, 0.0)
    assert some.confirmed(some.gold, NOISY)[0] == pytest.approx(some.agreement(NOISY))
    level = some.level(some.test)
    parts = [some.confirmed(some.words, WORDY, some.test[on]) for on in (level, ~level)]
    assert 0 < level.sum() < len(level) and parts[0][0] < 0.6 < parts[1][0]
    assert some.longer(some.words) == 1.0
    harm = some.of("harmful")
    assert 50 < len(harm) < 300 and {some.answers.family(i) for i in harm.flatten()} == {"harmful"}
    assert some.interval(some.gold, harm) == (1.0, 0.0)
    mean, half = some.interval(some.words)
    assert mean == pytest.approx(some.right(some.words)) and 0.01 < half < 0.06


def test_the_interval_counts_prompts_not_pairs(some):
    """By hand: the standard error of a mean over clusters."""
    score = some.words
    hits = {}
    for i, j in some.test.tolist():
        gap, real = float(score[i] - score[j]), float(some.gold[i] - some.gold[j])
        hits.setdefault(int(some.answers.prompt[i]), []).append(0.5 if gap == 0 else float(gap * real > 0))
    n = sum(map(len, hits.values()))
    mean = sum(map(sum, hits.values())) / n
    error = math.sqrt(sum((sum(x) - mean * len(x)) ** 2 for x in hits.values())) / n
    assert some.interval(score) == pytest.approx((mean, 1.96 * error))


def test_a_pupil_that_sees_the_facts_outdoes_a_noisy_teacher(some):
    found = some.students(NOISY, [16, 2048], x=some.truth(), l2=1e-3, seeds=[0])
    assert found.shape == (1, 2) and found[0, 1] > 0.85 > found[0, 0]
    weight = some.head(EXACT)
    assert weight.shape == (some.states.shape[1],) and some.right(some.states @ weight) > 0.6


def test_the_lesson_is_a_function_and_fast(some):
    import time
    compute = some.lesson()
    for bias in (0.0, 2.5):
        for noise in (0.25, 6.0):
            for pairs in (64, 4096):
                teacher, student = compute(bias=bias, noise=noise, pairs=pairs)
                assert 0.45 < teacher < 1 and 0.3 < student <= 1
    began = time.process_time()
    assert compute(0.0, 1.5, 512) == compute(0.0, 1.5, 512)
    assert time.process_time() - began < 2


def test_what_is_read_is_what_was_stored(some):
    model, tokenizer = models.load("village-3m-sft")
    rows = some.short(4)
    assert (some.words[rows] <= 12).all()
    texts, asked = some.answers.texts(rows, tokenizer), some.asked(rows)
    read = comparisons.states_of(model, tokenizer, asked, texts)
    assert (read - some.states[rows]).abs().max() < 0.05  # stored in half precision
    ids, on = pad_right([some.row(i, tokenizer) for i in rows], tokenizer.eos_token_id)
    assert (last_states(model, ids, on).double() - read).abs().max() < 1e-4
    prompt, cards = some.show(some.mistake(some.label(WORDY, 2000, dice())), tokenizer)
    assert prompt in some.answers.prompts and cards[1][2] - cards[0][2] >= 1


def test_four_places_and_what_they_cost(some):
    ids, on = torch.tensor([[9, 9, 5, 6, 9], [5, 6, 7, 9, 9]]), torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 0]])
    found = {name: x.tolist() for name, x in comparisons.places(ids, on, 9).items()}
    assert found == {"last real": [4, 3], "sum − 1": [2, 3], "last column": [4, 4], "not padding": [3, 2]}
    model, tokenizer = models.load("village-3m-sft")
    two = some.test[:8]
    weight = torch.linspace(-1, 1, some.states.shape[1], dtype=torch.float64)
    at = some.read_at(model, tokenizer, two, weight)
    judge = RewardModel(model, weight.float())
    with torch.no_grad():
        score = {int(i): judge(*pad_left([some.row(i, tokenizer)])).item() for i in two.unique()}
    hits = [(score[i] - score[j]) * (some.gold[i] - some.gold[j]).item() > 0 for i, j in two.tolist()]
    assert at["last real"] == at["last column"] and at["last real"][0] == pytest.approx(sum(hits) / 8)
    assert (comparisons.early_sums().gold < 3).any()


def test_a_cut_answer_is_read_at_an_end_token_as_it_was_stored(some):
    """One head has one accuracy: read again through left padding, it is that of the stored states."""
    model, tokenizer = models.load("village-3m-sft")
    cut = some.cut.unique()
    cut = cut[~some.answers.ended.bool()[cut]]
    assert len(some.cut) > 20 and len(cut) > 20
    closed, left_open = ([some.row(i, tokenizer, close=close) for i in cut[:16]] for close in (True, False))
    assert all(a == b + [tokenizer.eos_token_id] for a, b in zip(closed, left_open, strict=True))
    whole = some.short(1)[0]
    assert some.row(whole, tokenizer) == some.row(whole, tokenizer, close=False)  # it has its own end
    read, wrong = (last_states(model, *pad_left(rows, tokenizer.eos_token_id)).double() for rows in (closed, left_open))
    stored = some.states[cut[:16]]
    assert (read - stored).abs().max() < 0.05 < 2 < (wrong - stored).abs().amax(1).min()
    weight = some.head(NOISY)
    again = some.read_at(model, tokenizer, some.cut, weight)["last real"]
    assert again == pytest.approx(some.interval(some.states @ weight, some.cut))
    assert some.read_at(model, tokenizer, some.cut, weight, close=False)["last real"][0] < again[0] - 0.05
