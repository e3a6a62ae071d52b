"""The names that notebooks and other people's code rely on: here, with these parameters, documented, tested."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

from rlhf_minimal import ppo
from rlhf_minimal.grpo import cispo_loss, grpo_loss, gspo_loss
from rlhf_minimal.ppo import policy_loss, value_loss
from rlhf_minimal.reinforce import reinforce_loss
from rlhf_minimal.rloo import rloo_loss

PAIR = "pi_chosen, pi_rejected, ref_chosen, ref_rejected, *, beta=0.1, label_smoothing=0.0"


# module.name and its parameters. Further keyword-only parameters with defaults may follow; nothing else may change.
CONTRACT = {
    "tensors.masked_mean": "x, mask, dim=None",
    "tensors.masked_sum": "x, mask, dim=None",
    "tensors.masked_whiten": "x, mask, shift_mean=True",
    "tensors.mask_through_first": "ids, eos_id",
    "tensors.last_index": "mask",
    "tensors.positions": "attention",
    "logprobs.token_logps": "model, ids, attention, *, temperature=1.0",
    "logprobs.sequence_logps": "model, ids, attention, mask, *, average=False",
    "sampling.sample": "model, prompts, *, n=1, max_new_tokens, eos_id, temperature=1.0, generator=None",
    "kl.k1": "logp, logp_ref",
    "kl.k2": "logp, logp_ref",
    "kl.k3": "logp, logp_ref",
    "kl.exact_kl": "logits, logits_ref",
    "kl.AdaptiveKL": "beta, target, horizon",
    "kl.AdaptiveKL.update": "self, kl, n",
    "advantages.returns_to_go": "reward, mask, gamma=1.0",
    "advantages.gae": "reward, value, mask, *, gamma=1.0, lam=0.95",
    "advantages.leave_one_out": "score, group_size",
    "advantages.group_normalize": "score, group_size, *, scale=True",
    "aggregate.aggregate": "x, mask, mode, *, denominator=None",
    "sft.sft_loss": "logp, mask",
    "reward_model.pairwise_loss": "chosen, rejected, *, margin=None, label_smoothing=0.0, center=0.0",
    "reward_model.plackett_luce_loss": "scores, ranking",
    "process_reward.outcome_loss": "logits, label, mask",
    "process_reward.process_loss": "logits, labels",
    "reinforce.reinforce_loss": "logp, adv, mask",
    "rloo.rloo_loss": "logp, score, mask, *, group_size",
    "ppo.policy_loss": "logp, logp_old, adv, mask, *, clip=0.2",
    "ppo.value_loss": "value, value_old, ret, mask, *, clip=0.2",
    "grpo.grpo_loss": "logp, logp_old, score, mask, *, group_size, clip=0.2, clip_high=None, scale=True, "
                      "mode='sequence_mean', logp_ref=None, beta=0.0",
    "direct_alignment.dpo_loss": PAIR,
    "direct_alignment.rdpo_loss": PAIR,
    "direct_alignment.ipo_loss": PAIR,
    "direct_alignment.hinge_loss": PAIR,
    "direct_alignment.simpo_loss": "avg_chosen, avg_rejected, *, beta=2.0, gamma=1.0",
    "direct_alignment.orpo_loss": "avg_chosen, avg_rejected, *, beta=0.1",
    "direct_alignment.kto_loss": "logratio, desirable, kl_reference, *, beta=0.1, w_desirable=1.0, w_undesirable=1.0",
    "best_of_n.select": "score, group_size",
    "best_of_n.kl_bound": "n",
    "evaluate.pass_at_k": "n, correct, k",
    "evaluate.win_rate": "a, b",
    "models.load": "name",
    "reward_model.RewardModel.forward": "self, ids, attention",
    "reward_model.RewardModel.save_pretrained": "self, path",
    "reward_model.RewardModel.from_pretrained": "path",
}
MEASURED = re.compile(  # a shape, a unit, or a range of values
    r"\((?:2?B|N|M)[,/)]|\(\.\.\.|\bnats\b|(one|any) shape|0 to 1|[Nn]umbers\b"
)


def get(path):
    module, *names = path.split(".")
    thing = importlib.import_module(f"rlhf_minimal.{module}")
    for name in names:
        thing = getattr(thing, name)
    return thing


def parameters(text):
    """[(name, kind, default)] of a written-out signature."""
    space = {}
    exec(f"def f({text}): pass", space)
    return [(p.name, p.kind, p.default) for p in inspect.signature(space["f"]).parameters.values()]


@pytest.mark.parametrize("path", CONTRACT)
def test_signature(path):
    got = [(p.name, p.kind, p.default) for p in inspect.signature(get(path)).parameters.values()]
    want = parameters(CONTRACT[path])
    assert got[: len(want)] == want, f"{path}{inspect.signature(get(path))}, the contract says ({CONTRACT[path]})"
    for name, kind, default in got[len(want):]:
        assert kind is inspect.Parameter.KEYWORD_ONLY and default is not inspect.Parameter.empty, f"{path}: {name}"


def test_the_comparison_notices_changes():
    """Negative control: another name, default, order or kind is another signature."""
    base = parameters("a, b, *, c=1")
    for other in ("a, b, *, c=2", "b, a, *, c=1", "a, b, c=1", "a, b, *, c", "a, x, *, c=1", "a, b=0, *, c=1"):
        assert parameters(other) != base


def test_rollout_fields():
    from dataclasses import fields

    from rlhf_minimal.rollout import Rollout

    assert [f.name for f in fields(Rollout)] == ["ids", "attention", "prompt_len", "mask", "logp_old", "group", "ended"]


@pytest.mark.parametrize("path", CONTRACT)
def test_docstring(path):
    """A line of purpose, somewhere a shape or a unit, and when it raises."""
    text = (inspect.getdoc(get(path)) or "").split(">>>")[0]
    assert len(text.splitlines()[0]) > 15, f"{path} does not say what it does"
    if not path.startswith(("reward_model.RewardModel.", "models.load")):
        assert MEASURED.search(text), f"{path} names neither shape nor unit"
        whole = text + (importlib.import_module(f"rlhf_minimal.{path.split('.')[0]}").__doc__ or "")
        assert "ValueError" in whole, f"neither {path} nor its file says when it raises"


def test_losses_name_an_equation_or_a_paper():
    for path in CONTRACT:
        fn = get(path)
        if path.endswith("_loss"):
            named = getattr(fn, "__equations__", ()) or re.search(r"https://|eq:|\b[A-K]\d+\b", fn.__doc__)
            assert named, f"{path} names neither the book's equation, nor a paper, nor the rule that it follows"


def uses():
    """{word: test files that hold it}, of all the files that test behaviour."""
    found = {}
    for path in sorted(Path(__file__).parents[1].rglob("test_*.py")):
        if path.name not in (Path(__file__).name, "test_bad_input.py", "test_doctests.py"):
            for name in set(re.findall(r"\w+", path.read_text(encoding="utf-8"))):
                found.setdefault(name, []).append(path.name)
    return found


def test_every_name_has_a_proving_test():
    """Some test file other than those of bad input and of examples names it (ruff refuses unused imports)."""
    found = uses()
    missing = [path for path in CONTRACT if path.split(".")[-1] not in found and path.split(".")[-1] != "forward"]
    assert not missing, f"no test names {missing}"
    assert "no_such" + "_function_anywhere" not in found


def test_stats_are_detached_scalars():
    """Each loss gives (loss, stats): a scalar with a graph, a dict of scalars without."""
    import torch

    x, mask, row = torch.randn(4, 3), torch.ones(4, 3), torch.randn(4)
    live, rows = x.clone().requires_grad_(), row.clone().requires_grad_()
    minus, labels = (-row.exp()).requires_grad_(), torch.tensor([1, 0, 1, 0])
    calls = {
        "sft.sft_loss": (live, mask), "reinforce.reinforce_loss": (live, row, mask),
        "ppo.policy_loss": (live, x, row, mask), "ppo.value_loss": (live, x, x + 1, mask),
        "rloo.rloo_loss": (live, row, mask), "grpo.grpo_loss": (live, x, row, mask),
        "reward_model.pairwise_loss": (rows, row + 1), "process_reward.outcome_loss": (live, labels, mask),
        "reward_model.plackett_luce_loss": (live, torch.tensor([[2, 0, 1]] * 4)),
        "process_reward.process_loss": (live, labels[:, None].expand(4, 3)),
        "direct_alignment.kto_loss": (rows, labels, row), "direct_alignment.orpo_loss": (minus, -row.exp() - 1),
        "direct_alignment.simpo_loss": (rows, row + 1),
    }
    calls |= {p: (rows, row + 1, row, row) for p, want in CONTRACT.items() if want == PAIR}
    assert {p for p in CONTRACT if p.endswith("_loss")} == set(calls)
    for path, args in calls.items():
        loss, stats = get(path)(*args, **({"group_size": 2} if "group_size" in CONTRACT[path] else {}))
        assert loss.dim() == 0 and loss.requires_grad and torch.isfinite(loss), path
        assert stats and all(torch.is_tensor(s) and s.dim() == 0 and not s.requires_grad for s in stats.values()), path
        loss.backward()


def test_stats_of_policy_losses_are_detached_scalars(policy_batch):
    logp, old, score, mask = policy_batch
    every = [
        reinforce_loss(logp, score, mask), rloo_loss(logp, score, mask, group_size=2),
        policy_loss(logp, old, score, mask), value_loss(logp, old, old, mask),
        grpo_loss(logp, old, score, mask, group_size=2, logp_ref=old, beta=0.1),
        gspo_loss(logp, old, score, mask, group_size=2), cispo_loss(logp, old, score, mask, group_size=2),
    ]
    for loss, stats in every:
        assert loss.requires_grad and stats
        assert all(v.dim() == 0 and not v.requires_grad for v in stats.values())
    assert ppo.policy_loss.__equations__ == ("eq:PPO_EQN", "eq:PPO_POL_RATIO")
