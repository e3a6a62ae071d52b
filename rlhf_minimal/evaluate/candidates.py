"""Stored answers to choose from: M prompts with N answers each, and a linear reward model that was fitted on other prompts.

Nothing is sampled and no network runs: answers, true rewards and hidden states come from the pool. The reward model sees what
people chose; the true reward is for the reader.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data.pool import Pool, pool
from ..reward_model import fit_head, last_state
from ..rollout import Rollout
from .comparisons import Comparisons

STORED = {4: "wide", 64: "village-3m-sft"}  # answers a prompt: part of the pool


@dataclass(frozen=True, eq=False)
class Candidates:
    """M prompts with N answers each, prompt-major, and pairs of answers to *other* prompts for people to label."""

    answers: Pool
    rows: Tensor  # (M, N) places in `answers`
    labelled: Comparisons  # the answers that people compare, no prompt in common with `rows`
    centre: Tensor  # (F,) mean of what the reward model reads of the labelled answers
    spread: Tensor  # (F,) its standard deviation

    @property
    def shape(self) -> tuple[int, int]:
        """(M, N)"""
        return tuple(self.rows.shape)

    @property
    def gold(self) -> Tensor:
        """(M * N,) float64, true reward of every answer."""
        return self.answers.gold[self.rows.flatten()].double()

    @property
    def logp(self) -> Tensor:
        """(M * N,) float64, log-probability under the model that wrote the answer: mean over its tokens, nats."""
        rows = self.rows.flatten()
        return self.answers.logp[rows].double().sum(1) / self.answers.lengths[rows]

    @property
    def lengths(self) -> Tensor:
        """(M * N,) tokens of every answer, its end token included."""
        return self.answers.lengths[self.rows.flatten()]

    @property
    def prompts(self) -> list[str]:
        """The M prompts."""
        return [self.answers.prompts[i] for i in self.answers.prompt[self.rows[:, 0]].tolist()]

    @property
    def families(self) -> list[str]:
        """The family of each of the M prompts."""
        return [self.answers.family(i) for i in self.rows[:, 0]]

    def of(self, family: str) -> Tensor:
        """(M,) bool: the prompts of a family. ValueError where there is none."""
        found = torch.tensor([name == family for name in self.families])
        if not found.any():
            raise ValueError(f"no prompt of {family!r}; there are {', '.join(sorted(set(self.families)))}")
        return found

    def judge(self, person, generator: torch.Generator, *, l2: float = 1e-2) -> Tensor:
        """A linear reward model fitted to a person's labels of all pairs of other prompts -> its weight, (F,) float64.

        Two calls with one generator give two sets of labels, and so two reward models.
        """
        two = self.labelled.label(person, len(self.labelled.train), generator)
        read = (readings(self.labelled.answers) - self.centre) / self.spread
        return fit_head(read[two[:, 0]], read[two[:, 1]], l2=l2)

    def score(self, weight: Tensor) -> Tensor:
        """The scores of a reward model (F,) for every answer: (M * N,) float64."""
        return ((readings(self.answers.take(self.rows.flatten())) - self.centre) / self.spread) @ weight

    @torch.no_grad()
    def score_new(self, weight: Tensor, model: nn.Module, rollout: Rollout) -> Tensor:
        """The scores of the same reward model for answers that `model`, the writer of the stored ones, has just sampled: (B,)."""
        total, length = (rollout.logp_old * rollout.mask).sum(1), rollout.mask.sum(1)
        state = last_state(model, rollout.ids, rollout.attention)
        read = torch.cat([torch.stack([total, total / length, length], 1), state], 1).double()
        return ((read - self.centre) / self.spread) @ weight

    def count(self, kept: Tensor, names: dict | None = None) -> dict[str, int]:
        """How many of the kept answers (places among the M * N) belong to each family, in the order of the families.

        names {family: what it is called in the answer}.
        """
        found = Counter(self.families[i] for i in (kept // self.shape[1]).tolist())
        return {(names or {}).get(name, name): found[name] for name in dict.fromkeys(self.families)}

    def unheard(self, kept: Tensor) -> int:
        """How many of the M prompts have no answer among the kept ones."""
        return self.shape[0] - (kept // self.shape[1]).unique().numel()

    def text(self, place: int, tokenizer) -> tuple[str, str]:
        """(prompt, answer) at one of the M * N places."""
        place = int(place)
        return self.prompts[place // self.shape[1]], self.answers.texts([self.rows.flatten()[place]], tokenizer)[0]

    def highest(self, score: Tensor, among: Tensor, tokenizer) -> tuple[str, str, str]:
        """The answer with the highest score (M * N,) among some of them (M * N,) bool -> (prompt, text, its score and true reward).

        ValueError where there is none among them.
        """
        if not among.any():
            raise ValueError("no answer to choose from: `among` is False everywhere")
        at = int(torch.where(among, score, -torch.inf).argmax())
        words = f"score {score[at]:.1f} · true reward {self.gold[at]:.1f}".replace("-", "−")
        return *self.text(at, tokenizer), words

    def demonstrations(self, kept: Tensor, tokenizer) -> list[dict]:
        """The kept answers as rows for supervised finetuning: prompt, completion, family."""
        prompts, families, places = self.prompts, self.families, (kept // self.shape[1]).tolist()
        texts = self.answers.texts(self.rows.flatten()[kept], tokenizer)
        return [{"prompt": prompts[i], "completion": text, "family": families[i]} for i, text in zip(places, texts, strict=True)]


def readings(some: Pool) -> Tensor:
    """What the reward model reads of each answer, (N, 3 + H) float64: log-probability, its mean per token, length, hidden state."""
    total, length = (some.logp * some.mask).sum(1), some.lengths.float()
    return torch.cat([torch.stack([total, total / length, length], 1), some.state], 1).double()


def candidates(families=None, each: int = 64, *, n: int = 4, seed: int = 0, path=None) -> Candidates:
    """`each` prompts of every family, with n stored answers of `village-3m-sft`; the other prompts are there to be labelled.

    families: names; None takes every prompt that has n answers. n: 4 or 64. ValueError for another n, and for a family
    that has fewer prompts than `each`.
    """
    if n not in STORED:
        raise ValueError(f"n={n}: the pool has prompts with {' or '.join(map(str, STORED))} answers")
    stored = pool(path)
    wide, asked = stored.select(source="wide"), stored.select(source=STORED[n])
    groups = [rows for rows in asked.groups().values() if len(rows) == n]
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist() if families else range(len(groups))
    chosen = {name: [] for name in families or dict.fromkeys(asked.families)}
    for i in order:
        rows = chosen.get(asked.family(groups[i][0]))
        if rows is not None and (not families or len(rows) < each):
            rows.append(groups[i])
    if families and (few := [f"{name} {len(rows)}" for name, rows in chosen.items() if len(rows) < each]):
        raise ValueError(f"each={each}, but there are too few prompts: {', '.join(few)}")
    rows = torch.stack([row for some in chosen.values() for row in some])
    reserved = {asked.prompts[i] for i in asked.prompt[rows[:, 0]].tolist()}
    free = torch.tensor([text not in reserved for text in wide.prompts])
    two = torch.cat([g[torch.combinations(torch.arange(len(g)))] for g in wide.groups().values()])
    two = two[free[wide.prompt[two[:, 0]]] & (wide.gold[two[:, 0]] != wide.gold[two[:, 1]])]
    read = readings(wide)
    return Candidates(asked, rows, Comparisons(wide, two, two[:0]), read.mean(0), read.std(0))
