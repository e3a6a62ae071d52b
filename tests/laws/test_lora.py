"""LoRA with every algorithm on the shipped model: only adapters and heads move, the reference is the adapters off."""

import pytest
import torch

from benchmarks import lora_memory
from rlhf_minimal import direct_alignment as da
from rlhf_minimal import distillation, grpo, models, optim, p3o, ppo, reinforce, reward_model, rloo, sft, trpo
from rlhf_minimal.logprobs import sequence_logps
from rlhf_minimal.models import adapters_off, frozen_copy, lora
from rlhf_minimal.rollout import completion_logps
from rlhf_minimal.sampling import sample
from rlhf_minimal.tensors import pad_right

PAIRWISE = ["dpo", "rdpo", "ipo", "hinge", "simpo", "cpo", "orpo", "apo_zero", "apo_down", "dpo_nll"]
HEADS = ("head.weight", "model.score.weight")  # of a critic and of a reward model
AVERAGED = ("ipo", "simpo", "orpo")
ALGORITHMS = ["sft", "reward_model", "reinforce", "rloo", "ppo", "ppo shared", "grpo", "p3o", "trpo", "kto",
              "distillation", *PAIRWISE]


@pytest.fixture(scope="module")
def shipped():
    """(the base model, untouched, rollout of 2 prompts x 4, scores, batch of 2 pairs)."""
    base, tokenizer = models.load("village-3m")
    prompts = [tokenizer(text)["input_ids"] for text in ("Tell a story about a fox.", "What is 2 + 3?")]
    draw = dict(max_new_tokens=6, eos_id=tokenizer.eos_token_id, generator=torch.Generator().manual_seed(0))
    rollout = sample(base, prompts, n=4, **draw)
    rows = [[*prompts[i % 2], *rollout.completion_ids[4 * (i % 2) + i // 2].tolist()] for i in range(4)]
    ids, attention = pad_right(rows)
    mask, _ = pad_right([[0] * len(prompts[i % 2]) + [1] * rollout.mask.shape[1] for i in range(4)])
    return base, rollout, torch.arange(8) / 8.0, dict(ids=ids, attention=attention, mask=mask.float())


def adam(*modules, lr=1e-3):
    return torch.optim.Adam([p for m in modules for p in m.parameters() if p.requires_grad], lr=lr)


def one_step(name, policy, rollout, score, batch):
    """One update -> modules that hold what is trained. Every reference is the policy itself with its adapters off."""
    with adapters_off(policy), torch.no_grad():
        ref = completion_logps(policy, rollout)
        batch = dict(batch)
        batch["ref_chosen"], batch["ref_rejected"] = da.pair_logps(policy, batch, average=name in AVERAGED)
    kl = dict(logp_ref=ref, beta=0.1)
    if name == "sft":
        sft.step(policy, adam(policy), batch)
    elif name == "reward_model":
        judge = reward_model.RewardModel(policy)
        reward_model.step(judge, adam(judge), batch)  # the head starts at 0, and so do the adapters' gradients
        reward_model.step(judge, adam(judge), batch)
        return (judge,)
    elif name == "reinforce":
        reinforce.step(policy, adam(policy), rollout, score, baseline=0.5, **kl)
    elif name == "rloo":
        rloo.step(policy, adam(policy), rollout, score, group_size=4, **kl)
    elif name.startswith("ppo"):
        critic = ppo.SharedCritic(policy) if name.endswith("shared") else ppo.Critic(policy)
        ppo.step(policy, adam(policy, critic), rollout, score, critic=critic, epochs=1, **kl)
        return policy, critic
    elif name == "grpo":
        grpo.step(policy, adam(policy), rollout, score, group_size=4, **kl)
    elif name == "p3o":
        p3o.step(policy, adam(policy), rollout, score, **kl)
    elif name == "trpo":  # no exemption: `natural_step` works on the weights that require a gradient
        assert trpo.step(policy, rollout, score, group_size=4, cg_steps=3, **kl)["step"] > 0
    elif name == "kto":
        logps = sequence_logps(policy, batch["ids"], batch["attention"], batch["mask"])
        ratio = logps - torch.cat([batch["ref_chosen"], batch["ref_rejected"]])
        loss, _ = da.kto_loss(ratio, torch.tensor([1, 1, 0, 0]), torch.zeros(4))
        optim.update(loss, adam(policy))
    elif name == "distillation":
        distillation.step(policy, adam(policy), rollout, ref - torch.linspace(0, 1, 6)[: ref.shape[1]])
    else:
        settings = dict(loss_fn=getattr(da, f"{name}_loss"), average=name in AVERAGED)
        da.step(policy, adam(policy), batch, **settings)
    return (policy,)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_one_step_moves_adapters_and_heads_alone(shipped, name):
    base, rollout, score, batch = shipped
    policy = lora(frozen_copy(base), r=4)  # it changes its argument in place
    before = {n: p.detach().clone() for n, p in policy.named_parameters()}
    moved_heads = 0
    for module in one_step(name, policy, rollout, score, batch):
        for n, p in module.named_parameters():
            kind = "adapter" if "lora_" in n else "head" if n in HEADS else "frozen"
            assert p.requires_grad == (kind != "frozen"), n
            assert kind != "frozen" or p.grad is None, n
            moved_heads += kind == "head" and bool(p.detach().any())
        if module is not policy:
            assert moved_heads
            frozen = [p for n, p in module.named_parameters() if "lora_" not in n and n not in HEADS]
            assert name == "ppo shared" or len(frozen) > 40
        if name == "reward_model":
            drawn = [p for n, p in module.named_parameters() if "lora_B" in n]
            assert drawn and all(p.any() for p in drawn)
    changed = {n for n, p in policy.named_parameters() if not torch.equal(p, before[n])}
    assert all("lora_" in n for n in changed)
    assert bool(changed) != (name == "reward_model")  # its trunk is a copy
    with adapters_off(policy), torch.no_grad():  # after the step, too, the reference is the base model
        off = completion_logps(policy, rollout)
    with torch.no_grad():
        want, on = completion_logps(base, rollout), completion_logps(policy, rollout)
    assert (off - want).abs().max() < 1e-6
    assert ((on - want).abs().max() > 1e-5) != (name == "reward_model")


def test_a_reference_with_the_adapters_on_is_another(shipped):
    """Negative control: after a step the policy is no reference of itself, and full training moves frozen weights."""
    base, rollout, score, batch = shipped
    policy = frozen_copy(base).requires_grad_(True)
    before = {n: p.detach().clone() for n, p in policy.named_parameters()}
    rloo.step(policy, adam(policy), rollout, score, group_size=4)
    assert sum(not torch.equal(p, before[n]) for n, p in policy.named_parameters()) > 40
    with pytest.raises(ValueError, match="no adapters"), adapters_off(policy):
        pass


def test_memory_is_counted_as_by_hand(shipped):
    """float32, Adam: 16 bytes a trained weight, 4 a frozen one, and a copy of the model as reference where it is full."""
    base = shipped[0]
    n = sum(p.numel() for p in base.parameters())
    full, small = (lora_memory.measure(frozen_copy(base), kind) for kind in lora_memory.KINDS)
    assert full["parameters"] == full["gradients"] == full["reference"] == 4 * n and abs(full["optimizer"] / (8 * n) - 1) < 1e-3
    policy = lora(frozen_copy(base))
    r = sum(p.numel() for p in policy.parameters() if p.requires_grad)
    assert small["parameters"] == 4 * (n + r) and small["gradients"] == 4 * r and small["reference"] == 0
    assert abs(small["optimizer"] / (8 * r) - 1) < 0.05 and r < 0.05 * n
    assert all(x["total"] == sum(x[k] for k in lora_memory.PARTS) for x in (full, small))
    assert full["total"] > 4 * small["total"]


def test_the_stored_table_has_the_numbers_of_today(shipped):
    stored = lora_memory.STORED.read_text(encoding="utf-8").splitlines()
    for row in lora_memory.rows("village-3m", shipped[0]):
        assert row in stored, f"{lora_memory.STORED.name} is stale; run: python -m benchmarks.lora_memory --store"
