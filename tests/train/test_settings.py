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
    (dict(data="UTF16"), "utf16.jsonl is UTF-16"),
    (dict(data="LATIN"), "latin.jsonl is not UTF-8"),
    (dict(data="TWICE"), "stands twice"),
    (dict(data="TYPES"), "row 2, column id is str"),
    (dict(data="BIG"), "64 bits"),
    (dict(data="HALF"), "half of a character"),
    (dict(data="SYSTEM"), "row 2: the chat template refuses turns system, user"),
    (dict(data="OTHER"), "is the folder"),
    (dict(data="FILE.csv"), "no file"),
    (dict(data="my data"), "source is 'my data'"),
    (dict(columns="prompt"), "columns is 'prompt'"),
    (dict(columns="frage=prompt"), "ours are prompt"),
    (dict(columns="prompt=frage"), "there is no column frage"),
    (dict(data="village", columns="prompt=q"), "columns is given"),
    (dict(split="test"), "one set of rows"),
    (dict(data="village", split="dev"), "split must be"),
    (dict(split=3), "split is 3"),
    (dict(turns="first"), "choose one of all, last"),
    (dict(algorithm="dpo", turns="all"), "no setting 'turns'"),
    (dict(long="drop"), "choose one of cut, leave_out"),
    (dict(algorithm="rloo", long="cut"), "no setting 'long'"),
    (dict(max_len=1), "max_len is 1"),
    (dict(max_len=2.5), "max_len is 2.5"),
    (dict(data="LONG", max_len=16, long="leave_out"), "no row is left"),
    (dict(algorithm="dpo", data="ALIKE", max_len=16), "equal within max_len=16"),
    (dict(algorithm="reward", data="MARGIN"), "row 1: column margin is 'far'"),
    (dict(algorithm="kto", data="LABEL"), "row 2: label is 'maybe'"),
    (dict(algorithm="dpo", data="SAME"), "0 usable rows"),
    (dict(algorithm="rloo", data="ANSWERED"), "row 1: column prompt ends in a turn of the assistant"),
    (dict(data=3), "data is 3"),
    (dict(out=""), "out is ''"),
    (dict(out="NOJSON"), "run.json is no JSON"),
    (dict(warmup=-1), "warmup is -1"),
    (dict(schedule="step"), "choose one of constant"),
    (dict(max_norm=0.0), "max_norm is 0"),
    (dict(save_every=0), "save_every is 0"),
    (dict(weight_decay=math.inf), "weight_decay is inf"),
    (dict(progress="yes"), "progress is 'yes'"),
]


ROW = '{"prompt": "q", "completion": "a"'
MORE = {  # files of rows with one fault each
    "twice": '{"prompt": "q", "prompt": "r", "completion": "a"}', "types": ROW + ', "id": 1}\n' + ROW + ', "id": "x"}',
    "big": ROW + f', "id": {10**30}}}', "half": '{"prompt": "q", "completion": "\\ud800"}',
    "system": ROW + '}\n{"system": "s", "prompt": "q", "completion": "a"}',
    "long": '{"prompt": "q", "completion": "' + "word " * 50 + '"}',
    "alike": '{"prompt": "q", "chosen": "' + "word " * 50 + 'a", "rejected": "' + "word " * 50 + 'b"}',
    "margin": '{"prompt": "q", "chosen": "a", "rejected": "b", "margin": "far"}',
    "label": ROW + ', "label": 1}\n' + ROW + ', "label": "maybe"}', "same": '{"prompt": "q", "chosen": "a", "rejected": "a"}',
    "answered": '{"prompt": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}',
}


@pytest.fixture(scope="module")
def traps(home):
    """Names in WRONG that stand for a file or folder."""
    (home / "other").mkdir()
    (home / "other/something.txt").write_text("mine")
    (home / "run").mkdir()
    (home / "run/run.json").write_text("{}")
    (home / "nojson").mkdir()
    (home / "nojson/run.json").write_text("{")
    (home / "utf16.jsonl").write_bytes('{"prompt": "q"}'.encode("utf-16"))
    (home / "latin.jsonl").write_bytes(b'{"prompt": "\xfc"}')
    texts = MORE | {"empty": "", "columns": '{"a": 1}\n', "broken": "{\n", "strange": '{"prompt": "Who are you?"}\n'}
    for name, text in texts.items():
        (home / f"{name}.jsonl").write_text(text)
    names = {name.upper(): home / f"{name}.jsonl" for name in (*texts, "demonstrations", "utf16", "latin")}
    folders = {name.upper(): home / name for name in ("nojson", "other", "run", "model")}
    return names | folders | {"FILE": home / "empty.jsonl"}


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
