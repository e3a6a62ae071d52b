"""Rewards: what a policy-gradient run maximises, as a function of prompts and completions.

The one place where a reward is chosen: the village's true reward, a reward model that was saved, a function of your own,
or a weighted sum of such. A function of your own has parameters named `completions` and, where it needs them, `prompts` and
columns of the rows (one that was written for TRL works if it takes texts); it gets a list of each, one entry per completion,
and returns one number per completion:

    def right(completions, answer):                     # in checks.py; the rows have a column `answer`
        return [float(a in text) for text, a in zip(completions, answer)]

    train.run("grpo", ..., reward=right)                # or --reward checks.py:right, or gold, or runs/rm
    train.run("grpo", ..., reward={right: 1.0, brief: 0.2})              # or --reward checks.py:right,checks.py:brief=0.2
"""

import hashlib
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import models, village
from ..chat import encode_pair
from ..data import check_prompts, fingerprint, reads_alike
from ..reward_model import RewardModel
from ..rollout import Rollout
from ..tensors import pad_right

# (B prompts, B completions as text, the same completions as ids, {column: B values}) -> B scores, (B,), on the CPU
Score = Callable[[list, list[str], Rollout, dict[str, list]], Tensor]


@dataclass(frozen=True)
class Reward:
    """One or more scores and their weights; called, it gives their weighted sum."""

    scores: dict[str, tuple[float, Score]]
    fingerprints: dict[str, str] = field(default_factory=dict)

    def __call__(self, prompts: list, texts: list[str], rollout: Rollout, columns: dict[str, list] | None = None) -> Tensor:
        """The weighted sum, (B,)."""
        return self.total(self.each(prompts, texts, rollout, columns))

    def each(self, prompts: list, texts: list[str], rollout: Rollout, columns: dict[str, list] | None = None) -> dict[str, Tensor]:
        """Every score by itself, without its weight: {name: (B,)}."""
        return {name: score(prompts, texts, rollout, columns or {}) for name, (_, score) in self.scores.items()}

    @property
    def judges(self) -> list[RewardModel]:
        """The reward models among the scores."""
        return [score.judge for _, score in self.scores.values() if hasattr(score, "judge")]

    def total(self, parts: dict[str, Tensor]) -> Tensor:
        """The weighted sum of what `each` returned."""
        return sum(self.scores[name][0] * part for name, part in parts.items())


def reward_function(
    reward: str, rows: Any, tokenizer: Any, max_len: int, device: torch.device | str, own: dict[str, Callable] | None = None,
) -> Reward:
    """The function behind the setting `reward`; rows, tokenizer and max_len are those of the policy.

    own: functions that were given as such, by name. ValueError for "gold" with prompts from elsewhere, for a model that is
    no reward model, for a file or function that cannot be had or called; OSError for no model.
    """
    scores, marks = {}, {}
    for name, weight in parsed(reward):
        if name in (own or {}) or is_function(name):
            fn = own[name] if name in (own or {}) else from_file(name)
            score, found = own_score(fn, name, rows), {f"reward {name}": code_of(fn)}
        elif name == "gold":
            score, found = gold_score(rows), {}
        else:
            score, found = model_score(name, tokenizer, max_len, device, rows["prompt"])
        if name in scores:
            raise ValueError(f"reward names {name} twice; give it one weight")
        found = {key if key not in marks else f"{key} of {name}": mark for key, mark in found.items()}
        scores[name], marks = (weight, score), marks | found
    return Reward(scores, marks)


# ---- what the setting says ----

def parsed(reward: str) -> list[tuple[str, float]]:
    """The setting `reward` as (name, weight), weight 1 where none is given. ValueError for a weight that is no number.

    >>> parsed("checks.py:right,checks.py:brief=0.2")
    [('checks.py:right', 1.0), ('checks.py:brief', 0.2)]
    """
    if Path(reward).exists():  # a folder whose name has a comma or an equals sign
        return [(reward, 1.0)]
    out = []
    for part in reward.split(","):
        name, found, weight = part.strip().rpartition("=")
        try:
            name, value = (name, float(weight)) if found else (weight, 1.0)
        except ValueError as error:
            raise ValueError(f"reward is {reward!r}: {weight!r} is no weight; write NAME=0.5") from error
        if not name or not math.isfinite(value):
            raise ValueError(f"reward is {reward!r}; give names with commas between them, each with a finite weight or none")
        out.append((name, value))
    return out


def named(reward: Any) -> tuple[str, dict[str, Callable]]:
    """What was given to `run` as `reward` -> (the setting as a text, the functions in it by name).

    reward: a text, a function, a list of such, or {text or function: weight}. Two functions of one name are told apart.
    """
    if isinstance(reward, str):
        return reward, {}
    weighted = reward if isinstance(reward, dict) else dict.fromkeys(reward if isinstance(reward, (list, tuple)) else [reward], 1.0)
    if not weighted:
        raise ValueError("reward is empty; give a function, gold, or the folder of a reward model")
    own, words = {}, []
    for one, weight in weighted.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise ValueError(f"the weight of reward {one} is {weight!r}; give a number")
        if not isinstance(one, str) and not callable(one):
            raise ValueError(f"reward is {one!r}; give a function, gold, or the folder of a reward model")
        name = one if isinstance(one, str) else getattr(one, "__name__", type(one).__name__)
        if callable(one):
            name = name if name not in own else f"{name}-{len(own) + 1}"
            own[name] = one
        words.append(name if weight == 1 else f"{name}={float(weight)!r}")
    return ",".join(words), own


def is_function(name: str) -> bool:
    """Is it written like FILE.py:FUNCTION?"""
    return name.rpartition(":")[0].endswith(".py")


def from_file(name: str) -> Callable:
    """The function of "FILE.py:FUNCTION". Files beside FILE can be imported by it. ValueError says what is missing."""
    file, _, function = name.rpartition(":")
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise ValueError(f"reward is {name}, but there is no file {file}; give FILE.py:FUNCTION")
    spec = importlib.util.spec_from_file_location(f"reward_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"reward is {name}, but {file} does not run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.parent))
    fn = getattr(module, function, None)
    if not callable(fn):
        there = [x for x, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == module.__name__]
        raise ValueError(f"reward is {name}, but {file} has no function {function!r}; it has {', '.join(there) or 'none'}")
    return fn


def code_of(fn: Callable) -> str:
    """A fingerprint of a function's source, "" where there is none to be had: a run that goes on must not change its reward."""
    try:
        return hashlib.sha256(inspect.getsource(inspect.unwrap(fn)).encode()).hexdigest()[:16]
    except (OSError, TypeError):
        return ""


# ---- a function of one's own ----

def own_score(fn: Callable, name: str, rows: Any) -> Score:
    """A function of the user's as a score: given what its parameters name, and looked at before the first step.

    It is tried on empty completions of the first two rows, since a policy may say nothing. ValueError for parameters that
    nothing fills, an exception, a wrong number of scores, or a score that is no finite number; each names where.
    """
    has = [column for column in rows.column_names if column != "prompt"]
    try:
        taken = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        taken = [inspect.Parameter("more", inspect.Parameter.VAR_KEYWORD)]
    everything = any(p.kind is p.VAR_KEYWORD for p in taken)
    wanted = {p.name for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    needed = {p.name for p in taken if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    if strange := sorted(needed - {"prompts", "completions", *has}):
        raise ValueError(f"reward {name} asks for {', '.join(strange)}; it can have completions, prompts and the columns of the "
                         f"rows ({', '.join(has) or 'there are none but prompt'})")
    if "completions" not in wanted and not everything:
        raise ValueError(f"reward {name} has no parameter `completions`; write def {name.rpartition(':')[2]}(completions, ...)")

    def call(prompts: list, texts: list[str], columns: dict[str, list]) -> Any:
        offered = {**columns, "prompts": prompts, "completions": texts}
        return fn(**{key: value for key, value in offered.items() if everything or key in wanted})

    def score(prompts: list, texts: list[str], rollout: Rollout | None, columns: dict[str, list]) -> Tensor:
        try:
            found = call(prompts, texts, columns)
        except Exception as error:
            raise ValueError(f"reward {name} raised {type(error).__name__}: {error}, "
                             f"at {_first_bad(call, prompts, texts, columns)}") from error
        return checked(found, name, prompts, texts)

    first = [rows[i] for i in range(min(2, len(rows)))]
    score([row["prompt"] for row in first], [""] * len(first), None, {column: [row[column] for row in first] for column in has})
    return score


def _first_bad(call: Callable, prompts: list, texts: list[str], columns: dict[str, list]) -> str:
    """The first completion that a function fails at when it stands alone, in words."""
    for i, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
        try:
            call([prompt], [text], {name: [values[i]] for name, values in columns.items()})
        except Exception:
            return f"the completion {text[:60]!r} of the prompt {str(prompt)[:60]!r}"
    return f"{len(texts)} completions together; each alone passes"


def checked(found: Any, name: str, prompts: list, texts: list[str]) -> Tensor:
    """What a function returned as (B,) float32. ValueError for another length, or for what is no finite number."""
    values = found.tolist() if hasattr(found, "tolist") else found
    if not isinstance(values, (list, tuple)) or len(values) != len(texts):
        said = f"{len(values)} values" if isinstance(values, (list, tuple)) else f"{type(found).__name__} {str(found)[:40]}"
        raise ValueError(f"reward {name} gave {said} for {len(texts)} completions; return a list with one number for each")
    for value, prompt, text in zip(values, prompts, texts, strict=True):
        if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
            raise ValueError(f"reward {name} gave {value!r} for the completion {text[:60]!r} of the prompt {str(prompt)[:60]!r}; "
                             "return a finite number")
    return torch.tensor([float(value) for value in values])


# ---- the village's true reward, and models ----

def gold_score(rows: Any) -> Score:
    """The village's true reward. ValueError where one of the first hundred prompts is not the village's."""
    strange = [r["prompt"] for r in rows.select(range(min(len(rows), 100)))
               if not isinstance(r["prompt"], str) or village.parse(r["prompt"]).family == "other"]
    if strange:
        raise ValueError(f"reward gold knows the village's prompts only, not {str(strange[0])[:60]!r}; give a function of yours "
                         "(FILE.py:FUNCTION), or the folder of a reward model (made by `train reward`)")
    return true_reward


def true_reward(prompts: list[str], texts: list[str], rollout: Rollout | None = None, columns: dict | None = None) -> Tensor:
    """The village's true reward, (B,)."""
    return torch.tensor([village.gold(p, x) for p, x in zip(prompts, texts, strict=True)])


def model_score(
    name: str, policy_tokenizer: Any, max_len: int, device: torch.device | str, prompts: Iterable = (),
) -> tuple[Score, dict[str, str]]:
    """The scores of a saved reward model, which may have a tokenizer and a chat template of its own, and its fingerprints.

    ValueError where that template refuses one of the prompts of the run.
    """
    judge, tokenizer = load_judge(name)
    judge.to(device).requires_grad_(False)
    limit = models.context_length(judge.model)
    same = reads_alike(tokenizer, policy_tokenizer) and (limit or max_len) >= max_len

    def score(prompts: list[str], texts: list[str], rollout: Rollout, columns: dict | None = None) -> Tensor:
        ids, attention = rollout.ids, rollout.attention
        if not same:  # it reads the same text through its own template
            both = zip(prompts, texts, strict=True)
            ids, attention = pad_right([encode_pair(tokenizer, p, x, max_len=limit)[0] for p, x in both])
        return judge(ids.to(device), attention.to(device)).float().cpu()
    score.judge = judge  # whoever plans a run counts its weights
    if not same:
        check_prompts(list(prompts), tokenizer, f"the judge {name}", room=limit)
    return score, {"judge": fingerprint.of_weights(judge), "judge's tokenizer": fingerprint.of_tokenizer(tokenizer)}


def load_judge(name: str) -> tuple[RewardModel, Any]:
    """A reward model and its tokenizer, from a folder or hub id. ValueError if what is there is no reward model."""
    from transformers import AutoConfig, AutoTokenizer
    where = models.locate(str(name))
    kinds = AutoConfig.from_pretrained(where).architectures or ["nothing named"]
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise ValueError(f"reward is {name}, which holds {', '.join(kinds)}; give gold, a function of yours (FILE.py:FUNCTION), "
                         "or a reward model (`train reward` makes one)")
    return RewardModel.from_pretrained(where), AutoTokenizer.from_pretrained(where)
