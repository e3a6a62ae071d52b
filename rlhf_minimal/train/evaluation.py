"""What training changed, on rows that it did not see: two models side by side, every number with a 95 % interval.

The unit is the row. Several answers to one prompt are averaged before anything else, so intervals are clustered over
prompts; differences are paired, row by row. A share of yes and no has Wilson's interval, anything else a normal one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor, nn

from .. import models
from ..chat import end_ids
from ..data import collate_demonstrations, collate_pairs, load_data, prompts_ids, reads_alike
from ..direct_alignment import pair_logps
from ..evaluate.metrics import wilson
from ..logprobs import sequence_logps
from ..reward_model import RewardModel
from ..rollout import completion_logps
from ..sampling import sample
from .algorithms import ALGORITHMS
from .rewards import named, reward_function
from .settings import MEMORY

Column = tuple[Tensor, Tensor]  # of N rows: what is added up, and what its sum is divided by
Other = Callable[[], AbstractContextManager[nn.Module]] | None  # inside `with other() as model`, the model to compare with
BATCH = 16
KINDS = ("demonstrations", "pairs", "prompts")
MEANINGS = {
    "loss": "nats per learned token; of a reward model, per pair",
    "gap": "score of the chosen answer minus score of the rejected one",
    "prefers chosen": "share of pairs whose chosen answer has the higher probability",
    "margin": "nats by which the chosen answer gained more than the rejected one",
    "accuracy": "share of pairs that it orders rightly",
    "score": "the reward", "length": "tokens per answer", "ended": "share of answers that the model ended itself",
    "kl": "nats per answer, from the start", "win rate": "of an answer against one of the start; ties count half"}


# ---- intervals ----

def interval(column: Column) -> tuple[float, float, float]:
    """(mean, low, high) of a ratio of sums over N rows, by linearisation; of a share, Wilson's.

    >>> mean, low, high = interval((torch.tensor([0.0, 2.0]), torch.ones(2)))  # standard error 1
    >>> round(mean, 2), round(low, 2), round(high, 2)
    (1.0, -0.96, 2.96)
    """
    top, bottom = (x.double() for x in column)
    mean, n = (top.sum() / bottom.sum()).item(), len(top)
    if bool((bottom == 1).all()) and bool(((top == 0) | (top == 1)).all()):
        return mean, *wilson(mean, n)
    if n < 2:
        return mean, math.nan, math.nan
    half = 1.96 * residuals(column).std().item() / n ** 0.5
    return mean, mean - half, mean + half


def residuals(column: Column) -> Tensor:
    """What each row adds to the error of the ratio, (N,)."""
    top, bottom = (x.double() for x in column)
    return (top - top.sum() / bottom.sum() * bottom) / bottom.mean()


def difference(end: Column, start: Column) -> tuple[float, float, float]:
    """(end - start, low, high) over the same rows: what is common to both does not count as noise."""
    gap = interval(end)[0] - interval(start)[0]
    half = 1.96 * (residuals(end) - residuals(start)).std().item() / len(end[0]) ** 0.5 if len(end[0]) > 1 else math.nan
    return gap, gap - half, gap + half


# ---- measurements: {name: column} of N rows ----

def batches(rows: list[dict], size: int = BATCH) -> Iterator[list[dict]]:
    """`size` rows at a time."""
    for i in range(0, len(rows), size):
        yield rows[i:i + size]


def on_device(batch: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """A batch where the model computes."""
    device = next(model.parameters()).device
    return {name: x.to(device) for name, x in batch.items()}


@torch.no_grad()
def on_demonstrations(model: nn.Module, tokenizer: Any, rows: list[dict], max_len: int) -> dict[str, Column]:
    """Loss per learned token."""
    nll, tokens = [], []
    for some in batches(rows):
        batch = on_device(collate_demonstrations(some, tokenizer, max_len), model)
        nll.append(-sequence_logps(model, batch["ids"], batch["attention"], batch["mask"]))
        tokens.append(batch["mask"].sum(1))
    return {"loss": (torch.cat(nll).cpu(), torch.cat(tokens).cpu())}


@torch.no_grad()
def on_pairs(model: nn.Module, tokenizer: Any, rows: list[dict], max_len: int, other: Other = None) -> dict[str, Column]:
    """Of a reward model: accuracy, loss and gap of the scores. Of a policy: what it prefers, and its margin over `other`."""
    found: dict[str, list] = {}
    for some in batches(rows):
        batch = on_device(collate_pairs(some, tokenizer, max_len), model)
        if isinstance(model, RewardModel):
            chosen, rejected = model(batch["ids"], batch["attention"]).chunk(2)
            new = {"accuracy": (chosen > rejected).float(), "loss": -F.logsigmoid(chosen - rejected), "gap": chosen - rejected}
        else:
            chosen, rejected = pair_logps(model, batch)
            new = {"prefers chosen": (chosen > rejected).float()}
            if other is not None:
                with other() as reference:
                    ref_chosen, ref_rejected = pair_logps(reference, batch)
                margin = (chosen - ref_chosen) - (rejected - ref_rejected)
                new |= {"margin": margin, "accuracy": (margin > 0).float()}
        for name, x in new.items():
            found.setdefault(name, []).append(x)
    return {name: _per_row(torch.cat(x)) for name, x in found.items()}


@torch.no_grad()
def on_prompts(
    model: nn.Module, tokenizer: Any, rows: list[dict], *, reward: Any, n: int, seed: int, temperature: float, max_new_tokens: int,
    max_len: int, other: Other = None,
) -> tuple[dict[str, Column], list[list[str]], Tensor]:
    """n answers to each prompt -> (columns, the answers of each row, their scores (N, n))."""
    generator, texts, scores, parts = torch.Generator().manual_seed(seed), [], [], {}
    for some in batches(rows, max(1, 2 * BATCH // n)):
        ids = prompts_ids(some, tokenizer, max_len - max_new_tokens)
        rollout = sample(model, ids, n=n, max_new_tokens=max_new_tokens, eos_id=end_ids(tokenizer, model), temperature=temperature,
                         generator=generator)
        said = rollout.texts(tokenizer)
        columns = {name: [r[name] for r in some for _ in range(n)] for name in some[0]}
        each = reward.each(columns.pop("prompt"), said, rollout, columns)
        new = {"score": reward.total(each), "length": rollout.mask.sum(1).cpu(), "ended": rollout.ended.float().cpu()}
        new |= {f"score/{name}": x for name, x in each.items()} if len(each) > 1 else {}
        if other is not None:
            mine = completion_logps(model, rollout)
            with other() as reference:
                new["kl"] = ((mine - completion_logps(reference, rollout)) * rollout.mask).sum(1).cpu()
        for name, x in new.items():
            parts.setdefault(name, []).append(x.double().view(-1, n).mean(1))
        texts += [said[i:i + n] for i in range(0, len(said), n)]
        scores.append(new["score"].view(-1, n))
    return {name: _per_row(torch.cat(x)) for name, x in parts.items()}, texts, torch.cat(scores)


def during(
    model: nn.Module, other: Other, tokenizer: Any, rows: list[dict], kind: str, settings: Any, reward: Any = None,
) -> dict[str, float]:
    """One line of eval.jsonl: {measure, measure/low, measure/high} of a model in training."""
    if kind in ("demonstrations", "unpaired"):
        columns = on_demonstrations(model, tokenizer, rows, settings.max_len)
    elif kind == "pairs":
        columns = on_pairs(model, tokenizer, rows, settings.max_len, other)
    else:
        how = {name: getattr(settings, name) for name in ("temperature", "max_new_tokens", "max_len")}
        columns, _, _ = on_prompts(model, tokenizer, rows, reward=reward, n=settings.group_size, seed=0, other=other, **how)
    ends = ("", "/low", "/high")
    return {name + end: x for name, column in columns.items() for end, x in zip(ends, interval(column), strict=True)}


def wins(end: Tensor, start: Tensor) -> Column:
    """Of each prompt, the share of pairs of answers, one from each model, that `end` wins; (N, n) each."""
    gap = end[:, :, None] - start[:, None, :]
    return _per_row(((gap > 0).double() + (gap == 0).double() / 2).mean((1, 2)))


def _per_row(x: Tensor) -> Column:
    return x.cpu(), torch.ones(len(x), dtype=torch.float64)


# ---- a run, judged ----

def about(run: str | Path) -> dict:
    """run.json of a run. ValueError for a folder without one."""
    path = Path(run) / "run.json"
    if not path.exists():
        raise ValueError(f"{run} holds no run.json; give the --out of a training run")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record["algorithm"], record["settings"], record["model"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} was not written by a training run ({type(error).__name__}: {error})") from error
    if not record.get("finished"):
        raise ValueError(f"the run in {run} is not finished; go on with it: python -m rlhf_minimal.train resume --out {run}")
    return record


def load_rows(data: Any, kind: str, record: dict, limit: int, split: str, columns: str | None, seed: int) -> list[dict]:
    """The rows to measure on: of the village its other half, of a file all of it, at most `limit`."""
    settings, made = record["settings"], ("village", "pool", "templates")
    if data is None and record["data"] not in made:
        raise ValueError(f"the run learned from {record['data']}; give --data, rows that it did not learn from")
    data = record["data"] if data is None else data
    own = {"split": split} if isinstance(data, str) and data in made else {}
    families = settings["families"].split(",") if own and settings.get("families") else None
    names = columns or (None if own else settings.get("columns"))
    rows = load_data(data, kind, n=limit if own else None, families=families, columns=names, seed=seed, **own)
    return list(rows.select(range(min(limit, len(rows)))))


def evaluate(
    run: str | Path, data: Any = None, *, kind: str | None = None, against: str | None = None, reward: Any = None,
    columns: str | None = None, split: str = "test", rows: int = 200, n: int = 4, seed: int = 0, temperature: float = 1.0,
    max_new_tokens: int | None = None,
) -> dict:
    """Measure the model in `run` and the one it started from on rows, and return what the page and the JSON file hold.

    data: what --data takes, or rows; the village's test split where the run learned from the village. kind: demonstrations,
    pairs or prompts; if not given, that of the run (prompts for thumbs). against: another run or model instead of the
    starting one. reward: as in training, needed for prompts unless the run had one. n: answers to each prompt.
    ValueError or OSError, before anything is measured, for what cannot be had.
    """
    record = about(run)
    kind = check_request(run, record, kind, rows, n)
    found = load_rows(data, kind, record, rows, split, columns, seed)
    scores = ALGORITHMS[record["algorithm"]].head == "score"
    start = str(against or record["model"])
    made, tokenizer = both_models(run, start, scores)
    limit = min(models.context_length(m.model if scores else m) or 1_000_000 for m in made.values())
    columns_of, samples = {}, []
    if kind == "prompts":
        name, own = named(reward if reward is not None else record["settings"].get("reward") or "gold")
        judge = reward_function(name, Dataset.from_list(found), tokenizer, limit, "cpu", own)
        how = dict(reward=judge, n=n, seed=seed, max_len=limit, temperature=temperature,
                   max_new_tokens=max_new_tokens or record["settings"].get("max_new_tokens") or 64)
        columns_of["start"], before, low = on_prompts(made["start"], tokenizer, found, **how)
        columns_of["end"], after, high = on_prompts(made["end"], tokenizer, found, other=lambda: nullcontext(made["start"]), **how)
        columns_of["end"]["win rate"] = wins(high, low)
        samples = [{"prompt": row["prompt"], "start": [before[i][0], low[i, 0].item()], "end": [after[i][0], high[i, 0].item()]}
                   for i, row in enumerate(found[:12])]
    elif kind == "pairs":
        reference = None if scores else lambda: nullcontext(made["start"])
        columns_of = {name: on_pairs(m, tokenizer, found, limit, reference if name == "end" else None) for name, m in made.items()}
    else:
        columns_of = {name: on_demonstrations(m, tokenizer, found, limit) for name, m in made.items()}
    shown = data if data is not None else record["data"]
    return {"run": str(run), "against": None if scores else start, "kind": kind, "rows": len(found), "seed": seed,
            "data": str(shown) if isinstance(shown, (str, Path)) else MEMORY, "values": table(columns_of), "samples": samples,
            "answers per prompt": n if kind == "prompts" else None}


def check_request(run: str | Path, record: dict, kind: str | None, rows: int, n: int) -> str:
    """The kind of rows to measure on. ValueError for a kind that the model is not measured on, and for wrong numbers."""
    algorithm = ALGORITHMS[record["algorithm"]]
    kind = kind or ("prompts" if algorithm.rows == "unpaired" else algorithm.rows)
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
    if algorithm.head == "score" and kind != "pairs":
        raise ValueError(f"the run in {run} is a reward model, which is measured on pairs, not on {kind}")
    for name, x in (("rows", rows), ("n", n)):
        if isinstance(x, bool) or not isinstance(x, int) or x < 1:
            raise ValueError(f"{name} is {x!r}; give a whole number from 1 on")
    return kind


def both_models(run: str | Path, start: str, scores: bool) -> tuple[dict[str, nn.Module], Any]:
    """{"start", "end"} and the tokenizer; of a reward model the end alone. ValueError where they read other tokens."""
    if scores:
        from transformers import AutoTokenizer
        return {"end": RewardModel.from_pretrained(str(run)).eval()}, AutoTokenizer.from_pretrained(str(run))
    (before, old), (after, tokenizer) = models.load(start), models.load(str(run))
    if models.vocab_size(before) != models.vocab_size(after) or not reads_alike(old, tokenizer):
        raise ValueError(f"{start} and {run} read a conversation as different tokens, so they are not compared token by token; "
                         "give --against a model of the same family")
    return {"start": before, "end": after}, tokenizer


def table(columns: dict[str, dict[str, Column]]) -> dict[str, dict[str, list[float]]]:
    """{measure: {"start", "end", "difference": [mean, low, high]}} of what was measured; a model that lacks one is left out."""
    out: dict[str, dict] = {}
    for name, column in columns["end"].items():
        out[name] = {"end": list(interval(column))}
        if name in columns.get("start", {}):
            before = columns["start"][name]
            out[name] |= {"start": list(interval(before)), "difference": list(difference(column, before))}
    return out
