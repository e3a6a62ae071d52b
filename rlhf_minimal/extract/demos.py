"""One update of each algorithm on a random tiny GPT-2, or one call on hand-made numbers -> stats.

What `python -m rlhf_minimal.extract` puts at the end of a file. Imports stand inside the functions, so that a copy takes
only what its own demo needs.
"""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

PROMPTS = [[3, 4], [5, 6, 7, 8]]  # two prompts, as ids; id 0 ends a text


def tiny_model(seed=0):
    """A random GPT-2 of one layer, vocabulary 16; exactly the same for the same seed."""
    torch.manual_seed(seed)
    size = dict(vocab_size=16, n_positions=32, n_embd=16, n_layer=1, n_head=2, initializer_range=0.3)
    return GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=0)).eval()


def adam(*models, lr=1e-3):
    """Adam over the trainable weights of all the models."""
    return torch.optim.Adam([p for model in models for p in model.parameters() if p.requires_grad], lr=lr)


def draw(policy, n=4):
    """(rollout, score): `n` samples a prompt, and the share of even ids in each as its reward."""
    from ..sampling import sample

    rollout = sample(policy, PROMPTS, n=n, max_new_tokens=6, eos_id=0, generator=torch.Generator().manual_seed(0))
    even = (rollout.completion_ids % 2 == 0) * rollout.mask
    return rollout, even.sum(1) / rollout.mask.sum(1)


def reference_logps(rollout, seed=1):
    """(B, T) log-probabilities of a rollout under another model, for a KL penalty."""
    from ..models import frozen_copy
    from ..rollout import completion_logps

    with torch.no_grad():
        return completion_logps(frozen_copy(tiny_model(seed)), rollout)


def text_batch():
    """Four rows, prompt and completion, as two pairs: even ids chosen, odd ids rejected. Mask 1 on the completions."""
    from ..tensors import pad_right

    rows = [[3, 4, 2, 8, 0], [5, 6, 7, 8, 4, 0], [3, 4, 9, 0], [5, 6, 7, 8, 1, 3, 0]]
    ids, attention = pad_right(rows)
    prompt = (2, 4, 2, 4)
    mask, _ = pad_right([[0] * p + [1] * (len(row) - p) for p, row in zip(prompt, rows, strict=True)])
    return {"ids": ids, "attention": attention, "mask": mask.float()}


def demo_sft():
    from ..sft import step

    model = tiny_model()
    return step(model, adam(model), text_batch())


def demo_reward_model():
    from ..reward_model import RewardModel, step

    model = RewardModel(tiny_model())
    return step(model, adam(model), text_batch())


def demo_process_reward():
    from ..process_reward import answer_score, outcome_loss, process_loss

    logits, mask = torch.tensor([[2.0, 0.0, -1.0], [1.0, 3.0, 0.0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    outcome, _ = outcome_loss(logits, torch.tensor([0, 1]), mask)
    process, stats = process_loss(logits, torch.tensor([[1, -100, 0], [-100, 1, -100]]))
    return stats | {"outcome_loss": outcome, "process_loss": process, "lowest step": answer_score(logits, mask).min()}


def demo_best_of_n():
    from ..best_of_n import kl_bound, select

    score = torch.tensor([0.1, 0.9, 0.3, 0.2, 0.8, 0.7, 0.6, 0.5])  # two prompts, four samples each
    best = score[select(score, 4)]
    return {"score of all": score.mean(), "score of the best": best.mean(), "KL at most": kl_bound(4)}


def demo_filtering():
    from ..filtering import accept, top_per_prompt

    score = torch.tensor([0.1, 0.9, 0.3, 0.2, 0.8, 0.7, 0.6, 0.5])  # two prompts, four samples each
    kept = accept(score, 0.5, highest=1.0, generator=torch.Generator().manual_seed(0))
    best = score[top_per_prompt(score, 4)]
    return {"score of all": score.mean(), "score of the best": best.mean(), "accepted": len(kept)}


def demo_reinforce():
    from ..reinforce import step

    policy = tiny_model()
    rollout, score = draw(policy)
    return step(policy, adam(policy), rollout, score, logp_ref=reference_logps(rollout), beta=0.05, baseline=0.5)


def demo_rloo():
    from ..rloo import step

    policy = tiny_model()
    rollout, score = draw(policy)
    return step(policy, adam(policy), rollout, score, group_size=4, logp_ref=reference_logps(rollout), beta=0.05)


def demo_ppo():
    from ..ppo import Critic, step

    policy = tiny_model()
    critic = Critic(policy)
    rollout, score = draw(policy)
    settings = dict(logp_ref=reference_logps(rollout), beta=0.05, generator=torch.Generator().manual_seed(0))
    return step(policy, adam(policy, critic), rollout, score, critic=critic, minibatches=2, **settings)


def demo_grpo():
    from ..grpo import step

    policy = tiny_model()
    rollout, score = draw(policy)
    return step(policy, adam(policy), rollout, score, group_size=4, logp_ref=reference_logps(rollout), beta=0.05)


def demo_trpo():
    from ..trpo import step

    policy = tiny_model()
    rollout, score = draw(policy)
    return step(policy, rollout, score, group_size=4)


def demo_p3o():
    from ..p3o import step

    policy = tiny_model()
    rollout, score = draw(policy, n=2)
    return step(policy, adam(policy), rollout, score)


def demo_direct_alignment():
    from ..direct_alignment import pair_logps, step
    from ..models import frozen_copy

    policy, batch = tiny_model(), text_batch()
    with torch.no_grad():
        batch["ref_chosen"], batch["ref_rejected"] = pair_logps(frozen_copy(policy), batch)
    return step(policy, adam(policy), batch, beta=0.1)


def demo_ilql():
    from ..ilql import Heads, step

    heads, batch = Heads(tiny_model()), text_batch()
    end = (batch["ids"] == 0) * batch["mask"]
    return step(heads, adam(heads), batch | {"reward": end * torch.tensor([[1.0], [1.0], [0.0], [0.0]])})


def demo_distillation():
    from ..distillation import step

    student = tiny_model()
    rollout, _ = draw(student)
    return step(student, adam(student), rollout, reference_logps(rollout))


def demo_active():
    from ..active import disagreement, most_disputed

    margins = torch.tensor([[0.0, 2.0, 1.0], [0.0, -2.0, 2.0]])
    return {"label first": most_disputed(margins, 1)[0], "spread": disagreement(margins).max()}


def demo_ai_feedback():
    from ..ai_feedback import both_orders, prefer_first, rubric_score

    there, back = prefer_first(torch.tensor([-1.0, -1.0]), torch.tensor([-2.0, -3.0]))  # log p of "A" and of "B"
    score = rubric_score(torch.tensor([[1, 0]]), torch.tensor([2, 1]))
    return {"preference": both_orders(there, back), "rubric": score}
