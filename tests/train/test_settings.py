"""Wrong settings say what to do and write nothing."""

import math
import re
import sys
from types import SimpleNamespace

import pytest

from rlhf_minimal import train
from rlhf_minimal.train.algorithms import ALGORITHMS, settings_of
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


def settings(name, given):
    return SimpleNamespace(**{k: x.default for k, x in settings_of(name).items()} | given)


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
