"""Where the reward of a sampled completion comes from: the village's truth, or a reward model that was saved."""

import torch

from .. import models, village
from ..chat import encode_pair
from ..reward_model import RewardModel
from ..tensors import pad_right


def scorer(reward, rows, own_tokenizer, max_len, device):
    """(prompts, texts, rollout) -> (B,) scores: the village's true reward, or a saved reward model's."""
    if reward == "gold":
        strange = [r["prompt"] for r in rows.select(range(min(len(rows), 100)))
                   if not isinstance(r["prompt"], str) or village.parse(r["prompt"]).family == "other"]
        if strange:
            raise ValueError(f"reward gold knows the village's prompts only, not {str(strange[0])[:60]!r}; give the folder of "
                             "a reward model (made by `train reward`)")
        return lambda prompts, texts, rollout: gold(prompts, texts)
    judge, tokenizer = load_judge(reward)
    judge.to(device).requires_grad_(False)
    limit = models.context_length(judge.model)
    same = reads_alike(tokenizer, own_tokenizer) and (limit or max_len) >= max_len

    def score(prompts, texts, rollout):
        ids, attention = rollout.ids, rollout.attention
        if not same:  # it reads the same text through its own template (C10)
            both = zip(prompts, texts, strict=True)
            ids, attention = pad_right([encode_pair(tokenizer, p, x, max_len=limit)[0] for p, x in both])
        return judge(ids.to(device), attention.to(device)).float().cpu()
    return score


def reads_alike(a, b):
    """Whether two tokenizers make the same ids of a talk: same vocabulary, end and template."""
    return (a.eos_token_id, a.chat_template) == (b.eos_token_id, b.chat_template) and a.get_vocab() == b.get_vocab()


def load_judge(name):
    """(RewardModel, its tokenizer) from a folder or hub id. ValueError if what is there is no reward model."""
    from transformers import AutoConfig, AutoTokenizer
    where = models.locate(str(name))
    kinds = AutoConfig.from_pretrained(where).architectures or ["nothing named"]
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise ValueError(f"reward is {name}, which holds {', '.join(kinds)}; give gold, or a reward model "
                         "(`train reward` makes one)")
    return RewardModel.from_pretrained(where), AutoTokenizer.from_pretrained(where)


def gold(prompts, texts):
    """The village's true reward, (B,)."""
    return torch.tensor([village.gold(p, x) for p, x in zip(prompts, texts, strict=True)])
