"""The stored comparison with outside implementations (`make oracle`): complete, within its tolerances, of this code."""

import copy
import hashlib
import importlib
import json
import math
import warnings
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.sft import sft_loss

ROOT = Path(__file__).resolve().parents[2]
# what the record has to compare, each with something outside that agrees
WANTED = """
advantages.gae advantages.group_normalize advantages.leave_one_out aggregate.aggregate
direct_alignment.apo_down_loss direct_alignment.apo_zero_loss direct_alignment.cpo_loss direct_alignment.dpo_loss
direct_alignment.hinge_loss direct_alignment.ipo_loss direct_alignment.kto_loss direct_alignment.orpo_loss
direct_alignment.rdpo_loss direct_alignment.simpo_loss
grpo.cispo_loss grpo.grpo_loss grpo.gspo_loss kl.exact_kl kl.k1 kl.k2 logprobs.entropy logprobs.sequence_logps
logprobs.token_logps ppo.policy_loss ppo.rewards ppo.value_loss process_reward.outcome_loss process_reward.process_loss
kl.penalized reinforce.reinforce_loss reward_model.RewardModel reward_model.finish_score
reward_model.pairwise_loss reward_model.rating_loss rloo.rloo_loss sft.sft_loss tensors.masked_mean tensors.masked_whiten
""".split()
DOCUMENTED = {"G3", "G4", "G6", "G7", "C1", "C3", "C6", "C8", "E4", "E5", "E12", "E14", "D4", "D6", "D7", "A2", "A3", "B2", "F1"}


@pytest.fixture(scope="module")
def record():
    return json.loads((ROOT / "benchmarks/oracle.json").read_text(encoding="utf-8"))


def exists(name):
    """Whether `module.function` is in the package."""
    module, _, attribute = name.partition(".")
    try:
        return hasattr(importlib.import_module(f"rlhf_minimal.{module}"), attribute)
    except ImportError:
        return False


def items(rows):
    """The ids of correctness that the disagreements settle."""
    return {item.strip() for row in rows if row["expected"] == "differs" for item in row["item"].split(",")}


def complaints(record):
    """What is wrong with a record, as a list of sentences."""
    rows, found = record["rows"], []
    agreed = {row["ours"] for row in rows if row["expected"] == "agrees"}
    found += [f"{name}: no row agrees" for name in WANTED if name not in agreed]
    found += [f"{item}: not measured" for item in sorted(DOCUMENTED - items(rows))]
    found += [f"{name}: gone from the package" for name in sorted({row["ours"] for row in rows}) if not exists(name)]
    found += [f"{name}: took no step on a file of ours" for name in ("SFTTrainer", "DPOTrainer", "RewardTrainer", "KTOTrainer")
              if not math.isfinite(record["files"].get(name, {}).get("loss", math.nan))]
    for row in rows:
        size = [number for part in (row["loss"], row["gradient"] or {}) for number in part.values()]
        limit = max(row["tolerance"].values())
        if not all(map(math.isfinite, size)) or limit > 1e-3 or row["cases"] < 10:
            found.append(f"{row['name']}: {row['cases']} cases, differences {size}, tolerance {limit}")
        pairs = [(part[key], row["tolerance"][key]) for part in (row["loss"], row["gradient"] or {}) for key in part]
        if row["expected"] == "agrees" and any(number > most for number, most in pairs):
            found.append(f"{row['name']}: {size} is not within {row['tolerance']}")
        if row["expected"] == "differs" and (max(size) <= limit or not row["why"] or not row["item"]):
            found.append(f"{row['name']}: a disagreement of {max(size)} with the reason {row['why']!r} ({row['item']!r})")
    return found


def test_the_record_is_complete_and_within_its_tolerances(record):
    assert not complaints(record)
    assert record["versions"]["trl"] == "1.12.0"


def test_the_page_has_every_row(record):
    page = (ROOT / "benchmarks/oracle.md").read_text(encoding="utf-8")
    assert not [row["name"] for row in record["rows"] if f"| {row['name']} |" not in page]
    assert len({row["name"] for row in record["rows"]}) == len(record["rows"])


@pytest.mark.parametrize("change", [
    lambda row: row["loss"].update(float64=1e-3), lambda row: row["loss"].update(float32=math.nan),
    lambda row: row.update(gradient={"float64": 0.0, "float32": 0.5}), lambda row: row.update(ours="direct_alignment.gone_loss"),
    lambda row: row.update(cases=0), lambda row: row["tolerance"].update(float32=1.0),
], ids=["loss", "nan", "gradient", "gone", "no cases", "tolerance"])
def test_a_wrong_record_is_found_out(record, change):
    wrong = copy.deepcopy(record)
    change(next(row for row in wrong["rows"] if row["expected"] == "agrees"))
    assert len(complaints(wrong)) > len(complaints(record))


def test_a_trainer_that_did_not_take_a_file_is_found_out(record):
    wrong = copy.deepcopy(record)
    wrong["files"]["DPOTrainer"]["loss"] = math.nan
    assert len(complaints(wrong)) == len(complaints(record)) + 1


def test_a_disagreement_that_has_gone_is_found_out(record):
    wrong = copy.deepcopy(record)
    row = next(row for row in wrong["rows"] if row["expected"] == "differs")
    row["loss"] = {"float64": 0.0, "float32": 0.0}
    row["gradient"] = None
    assert len(complaints(wrong)) > len(complaints(record))


def test_the_record_is_of_this_code(record):
    """Other code than was compared is a warning: the record may still hold. A file that is gone is an error."""
    paths = {name: ROOT / name for name in record["sources"]}
    assert not [name for name, path in paths.items() if not path.is_file()]
    assert {row["ours"].split(".")[0] for row in record["rows"]} <= {path.stem for path in paths.values()}
    now = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()}
    stale = [name for name in now if now[name] != record["sources"][name]]
    if stale:
        warnings.warn(f"benchmarks/oracle.md was measured with another {', '.join(stale)}; run `make oracle`", stacklevel=1)


@pytest.mark.equation("H3", "eq:nll")
def test_sft_loss_is_that_of_transformers():
    """H3: labels shift once. Loss and gradients equal `model(ids, labels=ids).loss`; unshifted labels do not."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=13, n_positions=16, n_embd=8, n_layer=1, n_head=2)).eval()
    ids = torch.randint(0, 13, (3, 9))
    mask = torch.ones_like(ids)
    ours = sft_loss(token_logps(model, ids, mask), mask[:, 1:])[0]
    theirs = model(ids, labels=ids).loss
    assert torch.allclose(ours, theirs, atol=1e-6)
    weights = list(model.parameters())
    for a, b in zip(torch.autograd.grad(ours, weights), torch.autograd.grad(theirs, weights), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    unshifted = torch.nn.functional.cross_entropy(model(ids).logits.flatten(0, 1), ids.flatten())
    assert not torch.allclose(ours, unshifted, atol=1e-3)


@pytest.mark.equation("H3")
def test_sft_loss_on_completions_is_that_of_transformers():
    """The mask is what labels of -100 are: prompt and padding off, the mean over the tokens of the batch."""
    torch.manual_seed(1)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=13, n_positions=16, n_embd=8, n_layer=1, n_head=2)).eval()
    ids = torch.randint(1, 13, (2, 8))
    attention, mask = torch.ones_like(ids), torch.ones_like(ids)
    attention[1, 6:] = 0
    mask[:, :3], mask[1, 6:] = 0, 0
    ours = sft_loss(token_logps(model, ids, attention), mask[:, 1:])[0]
    theirs = model(ids, attention_mask=attention, labels=torch.where(mask.bool(), ids, -100)).loss
    assert torch.allclose(ours, theirs, atol=1e-6)
    every = model(ids, attention_mask=attention, labels=ids).loss
    assert not torch.allclose(ours, every, atol=1e-3)
