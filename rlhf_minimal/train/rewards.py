"""Rewards: what a policy-gradient run maximises, as a function of prompts and completions.

The one place where a reward is chosen: the village's true reward, or a reward model that was saved.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from .. import models, village
from ..chat import encode_pair
from ..data import check_prompts, fingerprint, reads_alike
from ..reward_model import RewardModel
from ..rollout import Rollout
from ..tensors import pad_right

# (B prompts, B completions as text, and the same completions as ids) -> one score per completion, (B,), on the CPU
Reward = Callable[[list[str], list[str], Rollout], Tensor]


def reward_function(reward: str, rows: Any, tokenizer: Any, max_len: int, device: torch.device | str) -> Reward:
    """The function behind the setting `reward`; rows, tokenizer and max_len are those of the policy.

    ValueError for "gold" with prompts from elsewhere, and for a model that is no reward model; OSError for no model.
    """
    if reward == "gold":
        strange = [r["prompt"] for r in rows.select(range(min(len(rows), 100)))
                   if not isinstance(r["prompt"], str) or village.parse(r["prompt"]).family == "other"]
        if strange:
            raise ValueError(f"reward gold knows the village's prompts only, not {str(strange[0])[:60]!r}; give the folder of "
                             "a reward model (made by `train reward`)")
        return true_reward
    return model_reward(reward, tokenizer, max_len, device, rows["prompt"])


def true_reward(prompts: list[str], texts: list[str], rollout: Rollout | None = None) -> Tensor:
    """The village's true reward, (B,)."""
    return torch.tensor([village.gold(p, x) for p, x in zip(prompts, texts, strict=True)])


def model_reward(name: str, policy_tokenizer: Any, max_len: int, device: torch.device | str, prompts: Iterable = ()) -> Reward:
    """The scores of a saved reward model, which may have a tokenizer and a chat template of its own.

    ValueError where that template refuses one of the prompts of the run.
    """
    judge, tokenizer = load_judge(name)
    judge.to(device).requires_grad_(False)
    limit = models.context_length(judge.model)
    same = reads_alike(tokenizer, policy_tokenizer) and (limit or max_len) >= max_len

    def score(prompts: list[str], texts: list[str], rollout: Rollout) -> Tensor:
        ids, attention = rollout.ids, rollout.attention
        if not same:  # it reads the same text through its own template
            both = zip(prompts, texts, strict=True)
            ids, attention = pad_right([encode_pair(tokenizer, p, x, max_len=limit)[0] for p, x in both])
        return judge(ids.to(device), attention.to(device)).float().cpu()
    if not same:
        check_prompts(list(prompts), tokenizer, f"the judge {name}", room=limit)
    score.fingerprints = {"judge": fingerprint.of_weights(judge), "judge's tokenizer": fingerprint.of_tokenizer(tokenizer)}
    return score


def load_judge(name: str) -> tuple[RewardModel, Any]:
    """A reward model and its tokenizer, from a folder or hub id. ValueError if what is there is no reward model."""
    from transformers import AutoConfig, AutoTokenizer
    where = models.locate(str(name))
    kinds = AutoConfig.from_pretrained(where).architectures or ["nothing named"]
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise ValueError(f"reward is {name}, which holds {', '.join(kinds)}; give gold, or a reward model "
                         "(`train reward` makes one)")
    return RewardModel.from_pretrained(where), AutoTokenizer.from_pretrained(where)
