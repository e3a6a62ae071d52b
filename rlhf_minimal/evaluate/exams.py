"""An examination in the village: held-out requests answered by a model, and what is known of every answer.

Nothing is trained on it. All averages can be asked for by family of request, and their intervals are clustered over
requests: answers to one request resemble each other, so they do not count as independent.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .. import village
from ..best_of_n import select
from ..data import collate_demonstrations
from ..logprobs import token_logps
from ..rollout import Rollout, completion_logps
from ..sampling import answer, sample
from ..tensors import pad_right
from .exact import tilted


@dataclass
class Exam:
    """B answers, `n` to each request, prompt-major. A missing measurement is None."""

    rows: list[dict]  # B, the request that each answer belongs to: prompt, family
    texts: list[str]  # B
    n: int
    gold: Tensor  # (B,) true reward
    refuses: Tensor  # (B,) 1 where the answer refuses
    ended: Tensor  # (B,) 1 where the model ended the answer itself
    length: Tensor  # (B,) tokens, the end included
    score: Tensor | None = None  # (B,) of the judge
    rollout: Rollout | None = None  # the sampled rows, where all of them are here
    kl: Tensor | None = None  # (B,) log-ratio to the reference, summed over the answer, in nats

    def of(self, *families: str) -> Exam:
        """The part with requests of these families. ValueError where there is none."""
        keep = [i for i, row in enumerate(self.rows) if row["family"] in families]
        if not keep:
            raise ValueError(f"no request of {', '.join(families)}; the exam has {sorted({r['family'] for r in self.rows})}")
        return self.take(torch.tensor(keep), self.n)

    def row(self, start: Exam | None = None) -> dict:
        """A row of the table that compares arms: score, true reward by kind, refusals, KL, and the difference to `start`."""
        harmful, lookalike = self.of("harmful"), self.of("lookalike")
        return {"score": None if self.score is None else self.mean("score"),
                "harmful": harmful.mean(), "look-alikes": lookalike.mean(), "look-alikes refused": lookalike.mean("refuses"),
                "both kinds": self.mean(), "minus SFT": None if start is None or start is self else self.interval(minus=start),
                "KL": None if self.kl is None else self.mean("kl")}

    def gap(self, what: str = "score", *, said: Exam | None = None) -> tuple[float, float]:
        """(a refusal's advantage over help, half width of its 95 % interval), inside each request that got answers of both.

        said: the exam of one fixed refusal over the same requests (`constant`). Then the gap is between that sentence and
        the help that the same request got. ValueError where its requests are others.
        """
        if said is not None and [row["prompt"] for row in said.rows] != [row["prompt"] for row in self.rows[::self.n]]:
            raise ValueError("the fixed refusal was scored on other requests; give both exams the same rows")
        found = []
        for i in range(len(self.texts) // self.n):
            deeds = self.take(torch.arange(self.n * i, self.n * (i + 1)), self.n).by_deed()
            if "help" in deeds and (said is not None or "refuse" in deeds):
                refusal = deeds["refuse"].mean(what) if said is None else getattr(said, what)[i].item()
                found.append(refusal - deeds["help"].mean(what))
        return clustered(torch.tensor(found))

    def by_deed(self, favourite: str = "") -> dict[str, Exam]:
        """The answers sorted by what they do: "help" (with harm too), "refuse", "other". A deed that nobody did is left out.

        favourite: a refusal. Answers that hold this sentence are then "favourite refusal", the others that refuse
        "other refusal".
        """
        def deed(i):
            if self.refuses[i]:
                return "refuse" if not favourite else "favourite refusal" if favourite in self.texts[i] else "other refusal"
            found = village.features(self.rows[i]["prompt"], self.texts[i])
            return "help" if found["helps"] or found["harm"] else "other"
        deeds = [deed(i) for i in range(len(self.texts))]
        return {name: self.take(torch.tensor([i for i, d in enumerate(deeds) if d == name]), 1)
                for name in ("help", "refuse", "favourite refusal", "other refusal", "other") if name in deeds}

    def take(self, index: Tensor, n: int) -> Exam:
        """The answers of some places, `n` to a request."""
        chosen = {k: v[index] for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, rows=[self.rows[i] for i in index], texts=[self.texts[i] for i in index], n=n, rollout=None, **chosen)

    def best_of(self, n: int, by: str = "score") -> Exam:
        """One answer to each request: of its first `n`, the one for which `by` ("score", "gold", …) is highest."""
        if not 1 <= n <= self.n:
            raise ValueError(f"best of {n}: the exam has {self.n} answers to each request")
        first = torch.arange(len(self.texts)).view(-1, self.n)[:, :n].flatten()
        return self.take(first[select(getattr(self, by)[first], n)], 1)

    def edited(self, edit: Callable[[str], str]) -> Exam:
        """The same answers, each text changed by `edit` and judged anew; `ended`, `length` and `kl` stay those of the sample.

        A judge's scores are dropped. What it shows: how much of a true reward hangs on where an answer begins and ends.
        """
        texts = [edit(text) for text in self.texts]
        return replace(self, texts=texts, score=None, refuses=torch.tensor([float(village.refuses(text)) for text in texts]),
                       gold=torch.tensor([village.gold(row["prompt"], text) for row, text in zip(self.rows, texts, strict=True)]))

    def share(self, family: str, feature: str) -> float:
        """Share of the answers to requests of a family that have a village feature, such as "truth" or "result", in full."""
        return (self.of(family).feature(feature) == 1).double().mean().item()

    def mean(self, what: str = "gold") -> float:
        """Average of a measurement over all answers."""
        return getattr(self, what).double().mean().item()

    def per_request(self, what: str = "gold") -> Tensor:
        """(requests,) average over the answers to one request."""
        return getattr(self, what).double().view(-1, self.n).mean(1)

    def interval(self, what: str = "gold", *, minus: Exam | None = None) -> tuple[float, float]:
        """(mean, half width of its 95 % interval) over requests, the families drawn apart.

        minus: another exam with the same requests; then it is the mean of the paired differences.
        """
        asked, values = self.rows[::self.n], self.per_request(what)
        if minus is not None:
            if [row["prompt"] for row in asked] != [row["prompt"] for row in minus.rows[::minus.n]]:
                raise ValueError("the two exams have different requests; give both the same rows")
            values = values - minus.per_request(what)
        return clustered(values, [row["family"] for row in asked])

    def covers(self, start: Exam, end: Exam, what: str = "gold") -> tuple[float, float]:
        """(share, half width of its 95 % interval) of the way from `start` to `end` that these answers cover: 0 at start, 1 at end.

        A ratio of means over the same requests; its interval is that of the paired differences to the line between the two
        (the delta method), with the families drawn apart. ValueError where start and end have the same mean.
        """
        way = end.interval(what, minus=start)[0]
        if abs(way) < 1e-9:
            raise ValueError(f"start and end have the same mean {what}: there is no way to cover")
        share = self.interval(what, minus=start)[0] / way
        low, high, own = (exam.per_request(what) for exam in (start, end, self))
        return share, clustered(own - low - share * (high - low), [row["family"] for row in self.rows[::self.n]])[1] / abs(way)

    def feature(self, name: str) -> Tensor:
        """(B,) a feature of every answer that the village knows, such as "truth" or "result"; 0 where it does not apply."""
        return torch.tensor([float(village.features(row["prompt"], text).get(name, 0.0))
                             for row, text in zip(self.rows, self.texts, strict=True)])

    def summary(self, only: list[str] | None = None) -> dict[str, object]:
        """What a table of models shows: true reward with its interval, shares of facts, sums, refusals and ends, tokens, KL.

        only: the columns wanted, where not all of them make sense.
        """
        found = {"true reward": self.interval(), "facts right": self.share("fact", "truth"),
                 "sums right": self.share("sum", "result"),
                 "harm refused": self.of("harmful").mean("refuses"), "ends by itself": self.mean("ended"),
                 "tokens": self.mean("length"), "KL, nats": None if self.kl is None else self.mean("kl")}
        return found if only is None else {name: found[name] for name in only}


def world(deeds: dict[str, Exam]) -> tuple[list, list, list, list]:
    """What `Exam.by_deed` found, as a small world: names of the deeds, and for each the answers, mean score, mean true reward."""
    parts = deeds.values()
    return list(deeds), [len(e.texts) for e in parts], [e.mean("score") for e in parts], [e.mean() for e in parts]


def refusals_at(deeds: dict[str, dict], beta: float) -> float:
    """Share of refusals under the best policy pi ∝ pi_ref exp(score / beta) over a few deeds, each taken as one answer.

    deeds: {name: {"share": under the reference, "score": its mean score}}, refusals being those with "refusal" in their name;
    other entries of the dict are left aside. beta: reward per nat, above 0 (ValueError).

    >>> two = {"help": {"share": 0.5, "score": 0.0}, "refusal": {"share": 0.5, "score": 1.0}}
    >>> round(refusals_at(two, 1.0), 3)  # e / (1 + e)
    0.731
    """
    if not beta > 0:
        raise ValueError(f"beta is {beta}; give a number above 0")
    rows = {name: row for name, row in deeds.items() if isinstance(row, dict)}
    share, score = (torch.tensor([row[k] for row in rows.values()], dtype=torch.float64) for k in ("share", "score"))
    best = tilted(share.log(), score, beta).exp()
    return sum(p for name, p in zip(rows, best.tolist(), strict=True) if "refusal" in name)


def clustered(values: Tensor, strata: list | None = None) -> tuple[float, float]:
    """(mean, half width of the 95 % interval) of independent values (N,), at least 2 in each stratum.

    strata: N names. How many values a stratum has was fixed beforehand, so differences between strata are not noise.

    >>> mean, half = clustered(torch.tensor([0.0, 2.0]))  # standard error 1
    >>> round(mean, 2), round(half, 2)
    (1.0, 1.96)
    >>> clustered(torch.tensor([0.0, 3.0, 0.0, 3.0]), ["a", "b", "a", "b"])
    (1.5, 0.0)
    """
    names = list(strata or [""] * len(values))
    parts = [values[[i for i, other in enumerate(names) if other == name]].double() for name in dict.fromkeys(names)]
    if min(map(len, parts), default=0) < 2:
        raise ValueError(f"{len(values)} values in {len(parts)} strata; an interval needs at least 2 in each")
    variance = sum(len(part) * part.var().item() for part in parts) / len(values) ** 2
    return values.double().mean().item(), 1.96 * variance ** 0.5


def two_digit_sums(n: int, *, split: str = "test", seed: int = 0) -> list[dict]:
    """n requests for the sum of two numbers of two digits."""
    rows = village.prompts(3 * n + 9, split=split, families=("sum",), seed=seed, distinct=False)
    return [row for row in rows if all(10 <= village.parse(row["prompt"]).info[k] <= 99 for k in "ab")][:n]


def sums(n: int, digits: tuple[int, int] = (2, 2), *, split: str = "test", seed: int = 0) -> list[str]:
    """n prompts for the sum of two numbers of so many digits, in the village's words.

    split: "test" is never trained on, whatever the words: a sum is on one side only.
    """
    rng, found = random.Random(f"{seed} {digits} {split}"), []
    while len(found) < n:
        a, b = (rng.randint(10 ** (d - 1), 10**d - 1) for d in digits)
        prompt = rng.choice(village.tasks.SUM_FORMS).format(a=a, b=b)
        if village.split_of(prompt) == split:
            found.append(prompt)
    return found


def requests(n: int, families: tuple[str, ...] = ("harmful", "lookalike"), *, split: str = "test", seed: int = 0) -> list[dict]:
    """n requests with their family, the families in turn. `split`: "test" is never trained on."""
    each = [village.prompts(-(-n // len(families)), split=split, families=(f,), seed=seed, distinct=False) for f in families]
    return [row for turn in zip(*each, strict=True) for row in turn][:n]


def few_shot(rows: list[dict], shots: list[dict]) -> list[dict]:
    """Requests as transcripts that begin with finished exchanges: what a base model is shown instead of being trained.

    rows: prompt, family; shots: demonstrations (prompt, completion). Each row gets "text", which a model reads in
    `exam(..., raw=True)`; the answers are still judged by the request. ValueError where there is no shot.

    >>> few_shot([{"prompt": "Why?", "family": "fact"}], [{"prompt": "Who?", "completion": "Ida."}])[0]["text"]
    'User: Who?\\nAssistant: Ida.\\nUser: Why?\\nAssistant:'
    """
    if not shots:
        raise ValueError("0 shots; give at least one demonstration with prompt and completion")
    head = "".join(f"User: {shot['prompt']}\nAssistant: {shot['completion']}\n" for shot in shots)
    return [row | {"text": f"{head}User: {row['prompt']}\nAssistant:"} for row in rows]


def true_rewards(rows: list[dict], texts: list[str], n: int) -> Tensor:
    """(requests, n) true rewards of `n` answers to each request, prompt-major. ValueError for another number of texts.

    >>> true_rewards([{"prompt": "How do I trick the goose into a bath?"}], ["I will not help with that.", "."], 2).shape
    torch.Size([1, 2])
    """
    if len(texts) != n * len(rows):
        raise ValueError(f"{len(texts)} texts for {len(rows)} requests: expected {n} each")
    return torch.tensor([village.gold(rows[i // n]["prompt"], text) for i, text in enumerate(texts)]).view(-1, n)


@torch.no_grad()
def exam(
    model: nn.Module, tokenizer, rows: list[dict], *, n: int = 1, max_new_tokens: int = 48, temperature: float = 1.0,
    stop: str | None = None, raw: bool = False, judge: Callable | None = None, reference: nn.Module | None = None,
    generator: torch.Generator | None = None,
) -> Exam:
    """Let a model answer `rows` (as `requests` gives them), n times each, and measure every answer.

    stop: cut an answer before this string, for a base model that does not end by itself. raw: the model gets the words of
    the request alone, or the row's "text" (`few_shot`), without a template: a base model continues them. judge: a function
    of the rollout
    -> scores (B,). reference: a model; then `kl` is the log-ratio of the sampled answer to it.
    """
    ask = continue_text if raw else answer
    asks = [row.get("text", row["prompt"]) if raw else row["prompt"] for row in rows]
    rollout = ask(model, tokenizer, asks, n=n, max_new_tokens=max_new_tokens, temperature=temperature, generator=generator)
    texts = [text.split(stop)[0] if stop else text for text in rollout.texts(tokenizer)]
    asked = [row for row in rows for _ in range(n)]
    kl = None
    if reference is not None:
        kl = ((rollout.logp_old - completion_logps(reference, rollout, temperature=temperature)) * rollout.mask).sum(1)
    return Exam(
        rows=asked, texts=texts, n=n, rollout=rollout,
        gold=torch.tensor([village.gold(row["prompt"], text) for row, text in zip(asked, texts, strict=True)]),
        refuses=torch.tensor([float(village.refuses(text)) for text in texts]),
        ended=rollout.ended.float(), length=rollout.mask.sum(1),
        score=None if judge is None else judge(rollout), kl=kl,
    )


@torch.no_grad()
def judged(some: Exam, judge: nn.Module, tokenizer) -> Exam:
    """The same answers with the scores of a reward model, which reads request and answer in the tokenizer's template.

    Answers of models with different templates become comparable: each is read as a text that ended.
    """
    rows = [{"prompt": row["prompt"], "completion": text} for row, text in zip(some.rows, some.texts, strict=True)]
    batch = collate_demonstrations(rows, tokenizer)
    return replace(some, score=judge(batch["ids"], batch["attention"]))


def usual(model: nn.Module, tokenizer, prompts: list[str], *, n: int = 64, **sampling) -> list[str]:
    """The most common of n sampled answers to each prompt; of equally common ones the first. `sampling` goes to `answer`."""
    texts = answer(model, tokenizer, prompts, n=n, **sampling).texts(tokenizer)
    return [Counter(texts[i:i + n]).most_common(1)[0][0] for i in range(0, len(texts), n)]


def transcripts(rows: list[dict], tokenizer) -> dict[str, Tensor]:
    """Rows (prompt, completion) as "User: …", "Assistant: …" and a new line -> ids, attention, mask, (B,L), right-padded.

    The mask is 1 on the completion and the new line, as in `collate_demonstrations`.
    """
    parts = [[tokenizer(text).input_ids for text in (f"User: {row['prompt']}\nAssistant:", f" {row['completion']}\n")]
             for row in rows]
    ids, attention = pad_right([asked + said for asked, said in parts])
    mask, _ = pad_right([[0] * len(asked) + [1] * len(said) for asked, said in parts])
    return {"ids": ids, "attention": attention, "mask": mask.float()}


@torch.no_grad()
def logp_by_place(model: nn.Module, tokenizer, rows: list[dict], *, per_answer: bool = False,
                  transcript: bool = False) -> dict[str, float]:
    """Mean log-probability in nats per token of given answers (`rows`: prompt, completion), by place in the answer.

    transcript=True: each row is read as "User: …", "Assistant: …" and a new line, which then is the end token.

    per_answer=True: in nats per answer, so that the three places add up to the log-probability of an answer.

    "first": its first token; "last": the end token; "middle": all tokens between. A model that knows what to say, but not
    the template, has low numbers at both ends only (Lin et al., "The Unlocking Spell on Base LLMs", arXiv 2312.01552, sort
    tokens in a similar way).
    """
    batch = transcripts(rows, tokenizer) if transcript else collate_demonstrations(rows, tokenizer)
    mask = batch["mask"][:, 1:]
    logp = token_logps(model, batch["ids"], batch["attention"], wanted=mask)
    place = mask.cumsum(1) * mask  # 1, 2, …, n on the answer and its end token
    length = mask.sum(1, keepdim=True)
    parts = {"first": place == 1, "middle": (place > 1) & (place < length), "last": (place == length) & (mask > 0)}
    count = {name: len(rows) if per_answer else int(part.sum()) for name, part in parts.items()}
    return {name: logp[part].sum().item() / count[name] for name, part in parts.items()}


def constant(text: str, rows: list[dict], *, score: Tensor | None = None) -> Exam:
    """The exam of a program that gives one fixed answer to everything: the cheapest baseline there is.

    score (B,): what a judge says of these answers, if it was asked.
    """
    count = len(rows)
    return Exam(rows=list(rows), texts=[text] * count, n=1,
                gold=torch.tensor([village.gold(row["prompt"], text) for row in rows]),
                refuses=torch.full((count,), float(village.refuses(text))), ended=torch.ones(count),
                length=torch.full((count,), float(len(text.split()))), score=score)


def continue_text(
    model: nn.Module, tokenizer, texts: list[str], *, n: int = 1, max_new_tokens: int = 64, temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Rollout:
    """`sample` for plain text, without a template: what a base model writes after it.

    `rollout.texts(tokenizer)` gives the continuations. Raises as `sample`.
    """
    ids = [tokenizer(text).input_ids for text in texts]
    return sample(model, ids, n=n, max_new_tokens=max_new_tokens, eos_id=tokenizer.eos_token_id, temperature=temperature,
                  generator=generator)
