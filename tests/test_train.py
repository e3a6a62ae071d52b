"""The training loop in one process: each algorithm's step is that of its own file, what is saved loads, wrong calls."""

import copy
import json
import math
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from fixtures import train_small
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rlhf_minimal import direct_alignment, grpo, models, ppo, reinforce, reward_model, rloo, sft, train
from rlhf_minimal.book import notebook
from rlhf_minimal.data import collate_demonstrations, collate_pairs, load_data, prompts_ids
from rlhf_minimal.sampling import sample
from rlhf_minimal.train.checkpoint import read_log
from rlhf_minimal.train.cli import LESSONS
from rlhf_minimal.train.job import Job
from rlhf_minimal.train.rewards import reads_alike, scorer
from rlhf_minimal.train.settings import ALGORITHMS, settings_of

RL = train_small.RL
KIND = {name: a.data for name, a in ALGORITHMS.items()}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return train_small.make(tmp_path_factory.mktemp("small"))


def go(home, name, out, steps=2, **settings):
    settings = ({"reward": str(home / "judge")} | RL | settings) if KIND[name] == "prompts" else settings
    given = dict(model=str(home / "model"), data=str(home / f"{KIND[name]}.jsonl"), steps=steps, out=str(out))
    return train.run(name, **given | train_small.QUIET | settings)


# ---- every algorithm ----


@pytest.mark.parametrize("name", ALGORITHMS)
def test_runs_reports_and_saves(home, tmp_path, name):
    out = tmp_path / "run"
    record = go(home, name, out, sample_every=1)
    rows = read_log(out / "metrics.jsonl")
    assert [r["step"] for r in rows] == [1, 2] and all(math.isfinite(r["loss"]) for r in rows)
    assert all(r["tokens"] > 0 and r["grad_norm"] > 0 and r["seconds"] >= 0 for r in rows)
    assert record == json.loads((out / "run.json").read_text()) | {"out": str(out)}
    assert record["finished"] and record["curve"]["loss"] == [r["loss"] for r in rows]
    assert {r["step"] for r in read_log(out / "samples.jsonl")} == {1, 2}
    kind = AutoModelForSequenceClassification if name == "reward" else AutoModelForCausalLM
    model, info = kind.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    before, _ = models.load(home / "model")
    assert not torch.equal(model.transformer.h[0].mlp.c_fc.weight, before.transformer.h[0].mlp.c_fc.weight)
    assert AutoTokenizer.from_pretrained(out).eos_token_id == before.config.eos_token_id


def test_a_reward_model_is_loaded_and_optimised(home, tmp_path):
    go(home, "reward", tmp_path / "rm", steps=3, lr=1e-2)
    judge = reward_model.RewardModel.from_pretrained(tmp_path / "rm")
    policy, tokenizer = models.load(home / "model")
    rows = load_data(str(home / "prompts.jsonl"), "prompts")
    asked = rows["prompt"][:4]
    rollout = sample(policy, prompts_ids(rows.select(range(4)), tokenizer), max_new_tokens=8, eos_id=tokenizer.eos_token_id)
    texts = rollout.texts(tokenizer)
    found = scorer(str(tmp_path / "rm"), rows, tokenizer, 192, "cpu")(asked, texts, rollout)
    assert torch.allclose(found, judge(rollout.ids, rollout.attention)) and len(set(found.tolist())) == 4
    batch = collate_demonstrations([{"prompt": p, "completion": x} for p, x in zip(asked, texts, strict=True)], tokenizer)
    again = scorer(str(tmp_path / "rm"), rows, tokenizer, 500, "cpu")(asked, texts, rollout)  # tokenized anew, ended
    assert torch.allclose(again, judge(batch["ids"], batch["attention"]), atol=1e-5)
    record = go(home, "rloo", tmp_path / "rl", steps=2, reward=str(tmp_path / "rm"))
    assert all(abs(x) < 100 and x != -2 for x in record["curve"]["score"])  # -2 is the gold of all that it says


def test_F1_a_saved_judge_scores_padded_rows_right_in_plain_transformers(home, tmp_path):
    """Its own padding token is not EOS; with EOS, as the models have it, the same class reads another token."""
    go(home, "reward", tmp_path / "rm", steps=3, lr=1e-2)
    ours, theirs = (kind.from_pretrained(tmp_path / "rm") for kind in (reward_model.RewardModel,
                                                                      AutoModelForSequenceClassification))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "rm")
    rows = [{"prompt": p, "completion": x} for p, x in (("Who?", "The owl."), ("What does the owl eat at noon?", "Two plums."))]
    batch = collate_demonstrations(rows, tokenizer)
    texts = [tokenizer.decode(ids[on.bool()]) for ids, on in zip(batch["ids"], batch["attention"], strict=True)]
    read = tokenizer(texts, padding=True, padding_side="right", add_special_tokens=False, return_tensors="pt")
    with torch.no_grad():
        score = ours(batch["ids"], batch["attention"])
        assert torch.allclose(theirs(**read).logits[:, 0], score, atol=1e-5) and not read["attention_mask"].all()
        theirs.config.pad_token_id = tokenizer.eos_token_id
        assert not torch.allclose(theirs(**read).logits[:, 0], score, atol=1e-3)


def test_C10_a_judge_with_another_template_reads_the_text_anew(home):
    policy, tokenizer = models.load(home / "model")
    other = copy.deepcopy(tokenizer)
    assert reads_alike(tokenizer, other)
    other.chat_template = "{{ messages[0]['content'] }}"
    changed = copy.deepcopy(tokenizer)
    changed.eos_token = "<|user|>"
    assert not reads_alike(tokenizer, changed) and not reads_alike(tokenizer, other)


# ---- the step is that of the algorithm's own file ----


def by_hand(home, name, s):
    """One step with the functions of the package, on the batch of step 0 -> policy."""
    torch.manual_seed(0)
    policy, tokenizer = models.load(home / "model")
    optimizer = torch.optim.AdamW([{"params": [p for p in policy.parameters() if p.dim() > 1]},
                                   {"params": [p for p in policy.parameters() if p.dim() < 2]}], lr=1e-2, weight_decay=0.0)
    data = load_data(str(home / f"{KIND[name]}.jsonl"), KIND[name], families=("fact", "sum") if KIND[name] == "prompts" else None)
    job = Job(name, None, policy, tokenizer, data, settings(name, s), 0, "")
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
    s = job.s
    rollout = sample(policy, prompts_ids(rows, job.tokenizer), n=s.group_size, max_new_tokens=s.max_new_tokens,
                     eos_id=job.tokenizer.eos_token_id, generator=job.stream("sample", 0, 0))
    with torch.no_grad():
        score = reward_model.RewardModel.from_pretrained(home / "judge")(rollout.ids, rollout.attention)
        ref = rollout.completion_logps(reference, rollout)
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


@pytest.mark.parametrize("name", ["sft", "reward", "dpo", "simpo", "orpo", "kto"])
def test_E14_micro_batches_change_nothing(home, tmp_path, name):
    for size in (1, 8):
        go(home, name, tmp_path / str(size), micro_batch=size, dtype="float64", lr=1e-2, batch_size=8)
    a, b = (read_log(tmp_path / size / "metrics.jsonl") for size in ("1", "8"))
    for x, y in zip(a, b, strict=True):
        assert x["loss"] == pytest.approx(y["loss"], rel=1e-4) and x["grad_norm"] == pytest.approx(y["grad_norm"], rel=1e-4)
    load = AutoModelForSequenceClassification if name == "reward" else AutoModelForCausalLM
    x, y = (load.from_pretrained(tmp_path / size, dtype=torch.float64).state_dict() for size in ("1", "8"))
    assert max((x[k] - y[k]).abs().max() for k in x) < 1e-6


# ---- settings ----


def test_same_seed_same_bytes_other_seed_other_bytes(home, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        go(home, "rloo", tmp_path / name, seed=seed)
    a, b, c = ((tmp_path / x / "model.safetensors").read_bytes() for x in "abc")
    assert a == b != c


def test_data_goes_round_without_leaving_rows_out(home):
    job = Job("sft", None, None, None, list(range(7)), settings("sft", {"batch_size": 5}), 0, "")
    seen = [x for step in range(7) for x in job.batch(step)]
    assert all(sorted(seen[i:i + 7]) == list(range(7)) for i in range(0, 35, 7))
    assert seen[:7] != seen[7:14]


@pytest.mark.parametrize("name", ["sft", "dpo", "ppo", "reward"])
def test_lora_in_bfloat16_is_saved_merged(home, tmp_path, name):
    go(home, name, tmp_path / "run", lora=2, dtype="bfloat16", lr=1e-2, steps=3)
    load = AutoModelForSequenceClassification if name == "reward" else AutoModelForCausalLM
    model, info = load.from_pretrained(tmp_path / "run", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    before, _ = models.load(home / "model")
    delta = model.transformer.h[0].attn.c_attn.weight - before.transformer.h[0].attn.c_attn.weight.bfloat16().float()
    sizes = torch.linalg.svdvals(delta.detach().double())
    assert sizes[0] > 1e-3 and sizes[2] < 1e-5  # rank 2
    rest = model.transformer.h[0].mlp.c_fc.weight - before.transformer.h[0].mlp.c_fc.weight
    assert rest.abs().max() <= before.transformer.h[0].mlp.c_fc.weight.abs().max() / 128  # frozen, but for its rounding


def test_bfloat16_keeps_float32_weights(home, tmp_path):
    """H4: a step of 1e-5 on weights of 0.3 is below bfloat16's spacing of 1e-3, and is in the result all the same."""
    go(home, "sft", tmp_path / "run", dtype="bfloat16", lr=1e-5, steps=1)
    change = models.load(tmp_path / "run")[0].transformer.wpe.weight - models.load(home / "model")[0].transformer.wpe.weight
    assert 5e-6 < change.abs().max() < 2e-5


def test_learning_rates(home):
    s = settings("sft", {"lr": 1.0, "warmup": 2, "schedule": "linear"})
    assert [train.learning_rate(s, i, 6) for i in range(6)] == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    s.schedule = "cosine"
    assert [round(train.learning_rate(s, i, 6), 4) for i in range(2, 6)] == [1.0, 0.8536, 0.5, 0.1464]
    s.schedule, s.warmup = "constant", 0
    assert train.learning_rate(s, 0, 6) == train.learning_rate(s, 5, 6) == 1.0


def test_adaptive_kl_moves_beta(home, tmp_path):
    go(home, "rloo", tmp_path / "run", steps=3, kl_target=100.0, kl_horizon=10, lr=1e-2)
    betas = [r["beta"] for r in read_log(tmp_path / "run/metrics.jsonl")]  # KL far below the target: 0.8 times (1 - .2 * 8/10)
    assert betas == pytest.approx([0.05, 0.05 * 0.84, 0.05 * 0.84**2])


def test_a_run_can_be_recorded_and_drawn(home, tmp_path, monkeypatch):
    go(home, "rloo", tmp_path / "run", model="village-3m-sft", data="village", batch_size=2, rows=10, reward="gold")
    (tmp_path / "data/runs").mkdir(parents=True)
    (tmp_path / "run/run.json").rename(tmp_path / "data/runs/mine.json")
    monkeypatch.setattr(notebook.doctor, "ROOT", tmp_path)
    run = notebook.recorded("mine")
    assert run.curve["step"] == [1, 2] and len(run.curve["gold"]) == 2 and run.seed == 0
    assert run.command.startswith("python -m rlhf_minimal.train rloo --model village-3m-sft --data village --steps 2")
    assert str(tmp_path) not in json.dumps(vars(run))


def test_tensorboard_gets_every_number_and_goes_on_where_the_run_does(home, tmp_path, monkeypatch):
    written, opened = [], []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            opened.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            written.append((step, name, value))

        def close(self):
            opened.append("closed")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=SummaryWriter))
    out = tmp_path / "run"
    go(home, "sft", out, tensorboard=True)
    go(home, "sft", out, steps=3, tensorboard=True, resume=True)
    assert opened == [(str(out / "tensorboard"), 1), "closed", (str(out / "tensorboard"), 3), "closed"]
    rows = read_log(out / "metrics.jsonl")
    assert len(rows) == 3 and written == [(r["step"], k, v) for r in rows for k, v in r.items() if k != "step" and v is not None]


# ---- the command line ----


def test_help_of_an_algorithm_names_its_settings_and_no_others(capsys):
    for name in ("sft", "ppo", "dpo"):
        with pytest.raises(SystemExit) as end:
            train.main([name, "--help"])
        flags = set(re.findall(r"--([a-z][a-z-]*)", capsys.readouterr().out.split("options:")[1]))
        own = {key.replace("_", "-") for key in settings_of(name)}
        assert end.value.code == 0 and own <= flags
        others = {key.replace("_", "-") for a in ALGORITHMS for key in settings_of(a)} - own
        assert not {f for f in flags if f in others}, name


def test_help_of_an_algorithm_teaches_its_loss_and_where_to_read(capsys):
    assert LESSONS.keys() == ALGORITHMS.keys()
    for name, (loss, file, chapter, paper) in LESSONS.items():
        source = (models.SHIPPED.parents[1] / f"rlhf_minimal/{file}.py").read_text(encoding="utf-8")
        assert paper in source or file in ("sft", "reward_model", "reinforce")
        with pytest.raises(SystemExit):
            train.main([name, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert f"Minimises {loss}" in text and f"Chapter: {chapter}" in text and f"train {name} --steps" in text
        assert ("h = (log pi(chosen)" in text) == bool(re.search(r"\bh\b", loss)), name


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        train.main(["--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in ALGORITHMS) and "torchrun" in text and "--resume" in text


def test_command_line_runs_what_run_runs(home, tmp_path):
    words = ["sft", "--model", str(home / "model"), "--data", str(home / "demonstrations.jsonl"), "--steps", "2"]
    train.main([*words, "--out", str(tmp_path / "a"), "--batch-size", "4", "--no-progress", "--cpu"])
    go(home, "sft", tmp_path / "b", batch_size=4)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


# ---- wrong calls ----

WRONG = [
    (dict(algorithm="dop"), "choose one of sft, reward"),
    (dict(steps=0), "steps is 0"),
    (dict(steps=2.5), "steps is 2.5"),
    (dict(seed=-1), "seed is -1"),
    (dict(model=""), "model is ''"),
    (dict(model="no/such-folder-1234"), "no model"),
    (dict(data="none.jsonl"), "no file"),
    (dict(data="EMPTY"), "no rows"),
    (dict(data="COLUMNS"), "columns a; demonstrations need prompt"),
    (dict(data="BROKEN"), "line 1 is no JSON"),
    (dict(algorithm="dpo", data="DEMONSTRATIONS"), "pairs need prompt"),
    (dict(algorithm="kto", data="DEMONSTRATIONS"), "unpaired need"),
    (dict(out="OTHER"), "holds something.txt and no run"),
    (dict(out="RUN"), "holds another run"),
    (dict(out="FILE"), "is the file"),
    (dict(learning_rate=1), "no setting 'learning_rate'"),
    (dict(group_size=4), "no setting 'group_size'"),
    (dict(batchsize=4), "did you mean batch_size"),
    (dict(batch_size=0), "batch_size is 0"),
    (dict(batch_size=True), "batch_size is True"),
    (dict(batch_size=8, micro_batch=3), "8 is not divisible by micro_batch 3"),
    (dict(lr=-1.0), "lr is -1"),
    (dict(lr=math.nan), "lr is nan"),
    (dict(lr="fast"), "lr is 'fast'"),
    (dict(dtype="float16"), "choose one of float32"),
    (dict(rows=1000), "20 usable rows"),
    (dict(lora=-1), "lora is -1"),
    (dict(tensorboard=True), "pip install tensorboard"),
    (dict(algorithm="rloo", group_size=1), "group_size is 1"),
    (dict(algorithm="rloo", max_new_tokens=500), "no room for a prompt"),
    (dict(algorithm="rloo", temperature=0.0), "temperature is 0"),
    (dict(algorithm="rloo", reward="no/such-folder-1234"), "no model"),
    (dict(algorithm="rloo", reward="MODEL"), "holds GPT2LMHeadModel"),
    (dict(algorithm="rloo", data="STRANGE"), "knows the village's prompts only"),
    (dict(algorithm="rloo", beta=0.0, kl_target=1.0), "kl_target is given with beta 0"),
    (dict(algorithm="ppo", batch_size=4, minibatches=3), "not divisible into 3"),
    (dict(algorithm="grpo", mode="mean"), "choose one of sequence_mean"),
    (dict(algorithm="rdpo", label_smoothing=0.5), "label_smoothing is 0.5"),
    (dict(algorithm="dpo", beta=0.0), "beta is 0"),
    (dict(data="village", families="fact,fables"), "unknown families"),
]


@pytest.fixture(scope="module")
def traps(home):
    """Names in WRONG that stand for a file or folder."""
    (home / "other").mkdir()
    (home / "other/something.txt").write_text("mine")
    (home / "run").mkdir()
    (home / "run/run.json").write_text("{}")
    for name, text in (("empty", ""), ("columns", '{"a": 1}\n'), ("broken", "{\n"), ("strange", '{"prompt": "Who are you?"}\n')):
        (home / f"{name}.jsonl").write_text(text)
    return {"OTHER": home / "other", "RUN": home / "run", "FILE": home / "empty.jsonl", "MODEL": home / "model"} | {
        name.upper(): home / f"{name}.jsonl" for name in ("empty", "columns", "broken", "strange", "demonstrations")}


@pytest.mark.parametrize("wrong, message", WRONG, ids=[m[:30] for _, m in WRONG])
def test_wrong_calls_say_what_to_do_and_write_nothing(home, tmp_path, traps, monkeypatch, wrong, message):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if "tensorboard" in wrong:
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    given = {k: str(traps.get(v, v)) if isinstance(v, str) else v for k, v in wrong.items()}
    name = given.pop("algorithm", "sft")
    data = str(home / f"{KIND.get(name, 'prompts')}.jsonl")
    call = dict(model=str(home / "model"), data=data, steps=2, out=str(tmp_path / "run")) | train_small.QUIET | given
    before = sorted(home.rglob("*"))
    with pytest.raises((ValueError, OSError), match=re.escape(message)):
        train.run(name, **call)
    assert not (tmp_path / "run").exists() and sorted(home.rglob("*")) == before


@pytest.mark.parametrize("name, value, said", [("ACCELERATE_MIXED_PRECISION", "fp16", "--dtype"),
                                               ("ACCELERATE_MIXED_PRECISION", "bf16", "--dtype"),
                                               ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "--micro-batch")])
def test_what_the_launcher_asks_for_in_vain_is_refused(home, tmp_path, monkeypatch, name, value, said):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name} is {value}.*{said}"):
        go(home, "sft", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_wrong_command_line_ends_with_status_2_and_one_message(capsys, tmp_path):
    calls = [(["dop"], "invalid choice: 'dop'"), (["sft", "--steps", "0", "--out", str(tmp_path / "x")], "steps is 0"),
             (["sft", "--out", "x"], "required: --steps"), (["sft", "--steps", "1", "--out", "x", "--clip", "1"], "--clip")]
    for words, message in calls:
        with pytest.raises(SystemExit) as end:
            train.main(words)
        assert end.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
