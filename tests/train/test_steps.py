"""Each algorithm's step in the trainer is the step of its own file; micro-batches change nothing."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf_minimal import direct_alignment, grpo, models, ppo, reinforce, reward_model, rloo, sft, train
from rlhf_minimal.data import collate_demonstrations, collate_pairs, load_data, prompts_ids
from rlhf_minimal.rollout import completion_logps
from rlhf_minimal.sampling import sample
from rlhf_minimal.train.algorithms import ALGORITHMS, settings_of
from rlhf_minimal.train.checkpoint import read_log
from rlhf_minimal.train.job import Job
from tests.fixtures import train_small

RL = train_small.RL
KIND = {name: a.rows for name, a in ALGORITHMS.items()}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return train_small.make(tmp_path_factory.mktemp("small"))


def go(home, name, out, steps=2, **settings):
    settings = ({"reward": str(home / "judge")} | RL | settings) if KIND[name] == "prompts" else settings
    given = dict(model=str(home / "model"), data=str(home / f"{KIND[name]}.jsonl"), steps=steps, out=str(out))
    return train.run(name, **given | train_small.QUIET | settings)


def by_hand(home, name, s):
    """One step with the functions of the package, on the batch of step 0 -> policy."""
    torch.manual_seed(0)
    policy, tokenizer = models.load(home / "model")
    optimizer = torch.optim.AdamW([{"params": [p for p in policy.parameters() if p.dim() > 1]},
                                   {"params": [p for p in policy.parameters() if p.dim() < 2]}], lr=1e-2, weight_decay=0.0)
    data = load_data(str(home / f"{KIND[name]}.jsonl"), KIND[name], families=("fact", "sum") if KIND[name] == "prompts" else None)
    job = Job(ALGORITHMS[name], settings(name, s), None, policy, tokenizer, data, 0, "")
    rows, reference = job.batch(0), models.frozen_copy(policy)
    if name == "sft":
        sft.step(policy, optimizer, collate_demonstrations(rows, tokenizer))
    elif name == "dpo":
        batch = collate_pairs(rows, tokenizer)
        with torch.no_grad():
            batch["ref_chosen"], batch["ref_rejected"] = direct_alignment.pair_logps(reference, batch)
        direct_alignment.step(policy, optimizer, batch)
    else:
        policy_step(home, name, policy, optimizer, reference, job, rows)
    return policy


def settings(name, given):
    return SimpleNamespace(**{k: x.default for k, x in settings_of(name).items()} | given)


def policy_step(home, name, policy, optimizer, reference, job, rows):
    s = job.settings
    rollout = sample(policy, prompts_ids(rows, job.tokenizer), n=s.group_size, max_new_tokens=s.max_new_tokens,
                     eos_id=job.tokenizer.eos_token_id, generator=job.generator("sample", 0, 0))
    with torch.no_grad():
        score = reward_model.RewardModel.from_pretrained(home / "judge")(rollout.ids, rollout.attention)
        ref = completion_logps(reference, rollout)
    shared = dict(logp_ref=ref, beta=s.beta)
    if name == "reinforce":
        reinforce.step(policy, optimizer, rollout, score, **shared)
    elif name == "ppo":
        critic = ppo.Critic(policy)
        for group, more in zip(optimizer.param_groups, (lambda p: p.dim() > 1, lambda p: p.dim() < 2), strict=True):
            group["params"] += [p for p in critic.parameters() if more(p)]
        ppo.step(policy, optimizer, rollout, score, critic=critic, epochs=2, **shared)
    else:
        {"rloo": rloo, "grpo": grpo}[name].step(policy, optimizer, rollout, score, group_size=s.group_size, **shared)


@pytest.mark.parametrize("name", ["sft", "dpo", "reinforce", "rloo", "grpo", "ppo"])
def test_one_step_is_the_step_of_the_algorithms_own_file(home, tmp_path, name):
    """The whole batch in one micro-batch, against step() of sft, direct_alignment, rloo, ...; Adam's eps is 1e-8, and
    where a gradient is rounding alone (the bias of the keys) its step is not determined: those are left out."""
    s = dict(lr=1e-2, batch_size=4, micro_batch=4, max_norm=1.0)
    s |= {k: v for k, v in RL.items() if k != "families"} if KIND[name] == "prompts" else {}
    s |= {"group_size": 1} if name == "ppo" else {}
    go(home, name, tmp_path / "run", steps=1, **s)
    expected, found = by_hand(home, name, s), models.load(tmp_path / "run")[0]
    start = models.load(home / "model")[0].state_dict()
    for key, x in expected.state_dict().items():
        keys = slice(16, 32) if key.endswith("c_attn.bias") else slice(0)
        keep = torch.ones_like(x, dtype=torch.bool)
        keep[keys] = False if x.dim() == 1 else keep[keys]
        gap = (found.state_dict()[key] - x).abs()[keep]
        assert gap.max() < 2e-4, (key, gap.max())
        if x.dim() > 1:
            assert (x - start[key]).abs().max() > 5e-3  # the step itself is that large


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if KIND[name] != "prompts"])
def test_E14_micro_batches_change_nothing(home, tmp_path, name):
    for size in (1, 8):
        go(home, name, tmp_path / str(size), micro_batch=size, dtype="float64", lr=1e-2, batch_size=8)
    a, b = (read_log(tmp_path / size / "metrics.jsonl") for size in ("1", "8"))
    for x, y in zip(a, b, strict=True):
        assert x["loss"] == pytest.approx(y["loss"], rel=1e-4) and x["grad_norm"] == pytest.approx(y["grad_norm"], rel=1e-4)
    load = AutoModelForSequenceClassification if name == "reward" else AutoModelForCausalLM
    x, y = (load.from_pretrained(tmp_path / size, dtype=torch.float64).state_dict() for size in ("1", "8"))
    assert max((x[k] - y[k]).abs().max() for k in x) < 1e-6
