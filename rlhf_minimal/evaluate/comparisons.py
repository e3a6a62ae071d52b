"""Stored answers of the village model, compared by people: how often the people are right, and how often a score is.

The answers are those of the pool in which every prompt has four. Nothing is sampled and no network runs, so that a linear
reward on the stored hidden states costs milliseconds. People see the true reward; a score sees only what they chose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import village
from ..chat import encode_completion, encode_prompt
from ..data import collate_demonstrations
from ..data.pool import Pool, pool
from ..forward import hidden_states
from ..reward_model import fit_head, last_states
from ..tensors import last_index, pad_left

FILLER = ("That is what people say in the village.", "You can ask me again tomorrow.",
          "I have thought about it for a long time.", "There is much more to say about it.")  # they say nothing


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Pairs of different answers to one prompt: some to learn from, and of other prompts some to test on."""

    answers: Pool
    train: Tensor  # (N, 2) places in `answers`
    test: Tensor  # (M, 2) places in `answers`; the two true rewards differ, and no prompt of `train` is among them

    @property
    def gold(self) -> Tensor:
        """(A,) float64, true reward of every answer."""
        return self.answers.gold.double()

    @property
    def words(self) -> Tensor:
        """(A,) float64, number of words of every answer."""
        return self.answers.features[:, self.answers.feature_names.index("words")].double()

    @property
    def states(self) -> Tensor:
        """(A, H) float64, last hidden state of the model that wrote the answer, at its end token."""
        return self.answers.state.double()

    @property
    def logp(self) -> Tensor:
        """(A,) float64, log-probability of the answer under the model that wrote it: mean over its tokens, nats."""
        return self.answers.logp.double().sum(1) / self.answers.lengths

    def prefers(self, person, two: Tensor) -> Tensor:
        """(N,) float64: the probability that a person picks the first answer of each pair (N, 2). No ties, no flips."""
        if person.tie or person.flip or person.position_bias or person.drift:
            raise ValueError(f"{person.name!r} has ties, flips, a position bias or drift; give a plain village.Annotator")
        worth = person.gold_weight * self.gold + person.length_bias * self.words / 10
        if person.weights:
            worth = self.answers.utilities(person).double()
        worth = worth[two]
        return torch.sigmoid((worth[:, 0] - worth[:, 1]) / max(person.temperature, 1e-9))

    def label(self, person, n: int, generator: torch.Generator) -> Tensor:
        """n different training pairs as this person chooses -> (n, 2) places: chosen, rejected.

        The same generator state draws the same pairs for every person and every n: a larger n adds pairs. ValueError for an n
        that is not from 1 to the number of pairs.
        """
        if not 1 <= n <= len(self.train):
            raise ValueError(f"n={n}: there are {len(self.train)} pairs to label; give 1 to {len(self.train)}")
        order = torch.randperm(len(self.train), generator=generator)
        luck = torch.rand(len(self.train), generator=generator, dtype=torch.float64)[:n]
        two = self.train[order[:n]]
        return torch.where((luck < self.prefers(person, two))[:, None], two, two.flip(1))

    def agreement(self, person) -> float:
        """How often a person picks the truly better answer of a test pair, on average: a probability, not a draw."""
        first = self.prefers(person, self.test)
        better = self.gold[self.test[:, 0]] > self.gold[self.test[:, 1]]
        return torch.where(better, first, 1 - first).mean().item()

    def right(self, score: Tensor, two: Tensor | None = None) -> float:
        """Share of the test pairs (or of `two`) that a score (A,) orders as the true reward does; a tie counts one half."""
        two = self.test if two is None else two
        return self._same(score, self.gold, two)

    def of(self, family: str) -> Tensor:
        """(n, 2) the test pairs of prompts of one family, such as "harmful"."""
        wanted = torch.tensor([name == family for name in self.answers.families])
        return self.test[wanted[self.answers.prompt[self.test[:, 0]]]]

    def interval(self, score: Tensor, two: Tensor | None = None) -> tuple[float, float]:
        """(`right`, half width of its 95 % interval) over prompts: pairs of one prompt share answers, and are no new evidence."""
        two = self.test if two is None else two
        gap, real = (x[two[:, 0]] - x[two[:, 1]] for x in (score.double(), self.gold))
        return self._over_prompts((gap * real > 0).double() + 0.5 * (gap == 0).double(), two)

    def _over_prompts(self, hit, two):
        _, prompt = self.answers.prompt[two[:, 0]].unique(return_inverse=True)
        off = torch.zeros(int(prompt.max()) + 1, dtype=hit.dtype).index_add_(0, prompt, hit - hit.mean())
        return hit.mean().item(), 1.96 * off.square().sum().sqrt().item() / len(hit)

    def confirmed(self, score: Tensor, person, two: Tensor | None = None) -> tuple[float, float]:
        """How often a score (A,) agrees with new labels of a person on the test pairs (or `two`), on average over the
        person's noise, and half the width of its 95 % interval over prompts."""
        two = self.test if two is None else two
        first, gap = self.prefers(person, two), score[two[:, 0]] - score[two[:, 1]]
        return self._over_prompts(torch.where(gap > 0, first, torch.where(gap < 0, 1 - first, 0.5)), two)

    def level(self, two: Tensor) -> Tensor:
        """(N,) bool: the pairs of two answers that have the same number of words, within one."""
        return (self.words[two[:, 0]] - self.words[two[:, 1]]).abs() <= 1

    def longer(self, score: Tensor) -> float:
        """Share of the test pairs of unequal length in which a score (A,) prefers the answer with more words."""
        return self._same(score, self.words, self.test[self.words[self.test[:, 0]] != self.words[self.test[:, 1]]])

    def _same(self, score, value, two):
        gap, real = (x[two[:, 0]] - x[two[:, 1]] for x in (score.double(), value))
        return ((gap * real > 0).double() + 0.5 * (gap == 0).double()).mean().item()

    def students(self, person, sizes, *, x: Tensor | None = None, l2: float = 0.1, seeds) -> Tensor:
        """Linear rewards on `x` (A, F), the states unless given, fitted to the labels of a person.

        -> (len(seeds), len(sizes)) float64: share of the test pairs right, for each set of labels and number of labels.
        """
        x = self.states if x is None else x.double()
        rows = []
        for seed in seeds:
            labels = self.label(person, max(sizes), torch.Generator().manual_seed(seed))
            rows.append([self.right(x @ fit_head(*(x[side] for side in labels[:n].T), l2=l2)) for n in sizes])
        return torch.tensor(rows, dtype=torch.float64)

    def head(self, person, seed: int = 0, l2: float = 0.1) -> Tensor:
        """The linear reward on the states fitted to all training pairs as a person labels them: its weight (H,) float64."""
        labels = self.label(person, len(self.train), torch.Generator().manual_seed(seed))
        return fit_head(self.states[labels[:, 0]], self.states[labels[:, 1]], l2=l2)

    def lesson(self, seed: int = 0) -> Callable[..., tuple[float, float]]:
        """A function (bias, noise, pairs) -> how often a teacher is right on test pairs, and a pupil that sees `truth`.

        bias: points for ten words; noise: temperature; the same pairs and the same luck for every teacher.
        """
        x = self.truth()

        def compute(bias: float, noise: float, pairs: int) -> tuple[float, float]:
            person = village.Annotator(temperature=noise, length_bias=bias)
            labels = self.label(person, pairs, torch.Generator().manual_seed(seed))
            return self.agreement(person), self.right(x @ fit_head(x[labels[:, 0]], x[labels[:, 1]], l2=1e-3))
        return compute

    def mistake(self, labels: Tensor, least: float = 1.0, most: int = 40) -> Tensor:
        """The first labelled pair (2,) whose chosen answer is truly worse by at least `least`, both of at most `most` words.

        ValueError where there is none.
        """
        wrong = self.gold[labels[:, 1]] - self.gold[labels[:, 0]] >= least
        found = labels[wrong & (self.words[labels] <= most).all(1)]
        if not len(found):
            raise ValueError(f"no pair among {len(labels)} whose chosen answer is worse by {least}")
        return found[0]

    def row(self, place: int, tokenizer, *, close: bool = True) -> list[int]:
        """The ids that a reward model reads: prompt, text of the answer and an end token, as for the stored states.

        An answer that was cut at its last token has no end token of its own; close=False leaves it so.
        """
        text = self.answers.texts(torch.tensor([int(place)]), tokenizer)[0]
        prompt = encode_prompt(tokenizer, self.answers.prompts[int(self.answers.prompt[place])])
        return prompt + encode_completion(tokenizer, text, eos=close or bool(self.answers.ended[place]))[0]

    @property
    def cut(self) -> Tensor:
        """(n, 2) the test pairs in which an answer was cut at its last token, before it had ended."""
        return self.test[(~self.answers.ended.bool())[self.test].any(1)]

    @torch.no_grad()
    def read_at(self, model: nn.Module, tokenizer, two: Tensor, weight: Tensor, *, close: bool = True,
                batch: int = 64) -> dict[str, tuple[float, float]]:
        """Pairs (N, 2) padded on the left, scored by one head at four places -> `interval` of each; a tie counts one half.

        model: the one whose states the weight (H,) was fitted to. The places: the last real token; the sum of the attention
        minus 1; the last column; the last id that is not the end token. close: as in `row`.
        """
        needed, place = two.unique(return_inverse=True)
        found: dict[str, list] = {}
        for some in needed.split(batch):
            ids, on = pad_left([self.row(i, tokenizer, close=close) for i in some], tokenizer.eos_token_id)
            states, rows = hidden_states(model, ids, on).double(), torch.arange(len(ids))
            for name, at in places(ids, on, tokenizer.eos_token_id).items():
                found.setdefault(name, []).append(states[rows, at] @ weight.double())
        out = {}
        for name, parts in found.items():
            score = torch.cat(parts)
            gap = score[place[:, 0]] - score[place[:, 1]]
            gap = torch.where(gap.abs() < 1e-5 * score.std(), 0.0, gap)  # a tie but for rounding
            real = self.gold[two[:, 0]] - self.gold[two[:, 1]]
            out[name] = self._over_prompts((gap * real > 0).double() + 0.5 * (gap == 0).double(), two)
        return out

    def show(self, two: Tensor, tokenizer) -> tuple[str, list[tuple[str, str, float]]]:
        """One pair (2,) of chosen and rejected, for `book.cards`."""
        texts = self.answers.texts(two, tokenizer)
        names = [f"{side}, {int(self.words[i])} words" for side, i in zip(("chosen", "rejected"), two, strict=True)]
        return self.answers.prompts[int(self.answers.prompt[two[0]])], [
            (name, text, self.gold[i].item()) for name, text, i in zip(names, texts, two, strict=True)]

    def truth(self) -> Tensor:
        """(A, F) float64: what the true reward is a weighted sum of, and the number of words, which it does not count."""
        column = dict(zip(self.answers.feature_names, self.answers.features.double().T, strict=True))
        family = [self.answers.families[i] for i in self.answers.prompt.tolist()]
        parts = []
        for name, points in village.POINTS.items():
            here = torch.tensor([f == name for f in family]).double() * column["grammar"]
            parts += [here * column[feature] for feature in points]
        return torch.stack([*parts, *(column[feature] for feature in village.WEIGHTS)], 1)

    def short(self, n: int, most: int = 12) -> Tensor:
        """(n,) places of the first n test answers of at most `most` words that ended by themselves."""
        ended = self.answers.ended.bool()
        found = [i for i in self.test[:, 0].unique().tolist() if self.words[i] <= most and ended[i]]
        if len(found) < n:
            raise ValueError(f"{n} answers of at most {most} words asked for, there are {len(found)}")
        return torch.tensor(found[:n])

    def asked(self, rows: Tensor) -> list[str]:
        """The prompts of some answers."""
        return [self.answers.prompts[i] for i in self.answers.prompt[rows].tolist()]


def stored(every: int = 4, path=None) -> Comparisons:
    """All pairs of different answers to one prompt of the pool; every `every`-th prompt is kept for the test."""
    answers = pool(path).select(source="wide")
    two = torch.cat([rows[torch.combinations(torch.arange(len(rows)))] for rows in answers.groups().values()])
    two = two[(answers.ids[two[:, 0]] != answers.ids[two[:, 1]]).any(1)]
    held = answers.prompt[two[:, 0]] % every == every - 1
    test = two[held]
    return Comparisons(answers, two[~held], test[answers.gold[test[:, 0]] != answers.gold[test[:, 1]]])


def states_of(model: nn.Module, tokenizer, prompts: list[str], texts: list[str]) -> Tensor:
    """Last hidden state of each answer, read after its prompt and with its end token: (B, H) float64."""
    rows = [{"prompt": p, "completion": t} for p, t in zip(prompts, texts, strict=True)]
    batch = collate_demonstrations(rows, tokenizer)
    return last_states(model, batch["ids"], batch["attention"]).double()


def places(ids: Tensor, attention: Tensor, end: int) -> dict[str, Tensor]:
    """Four opinions on the column of a row's last token, (B, L), (B, L), the end token's id -> {name: (B,)}.

    Only the first is right wherever the padding is.
    """
    column = torch.arange(ids.shape[1])
    return {"last real": last_index(attention), "sum − 1": attention.sum(1).long() - 1,
            "last column": column[-1].expand(len(ids)), "not padding": (column * (ids != end)).argmax(1)}


def early_sums(path=None) -> Pool:
    """Every second stored sum of an early checkpoint: it is mostly wrong, and another policy than the village's own model."""
    early = pool(path).select(source="sft-early", family="sum")
    return early.take(torch.arange(0, len(early), 2))
