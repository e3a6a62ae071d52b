"""The wheel works outside a checkout: models, Pool, recorded runs, extraction and training, from an empty folder."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

USE = """
import sys
import rlhf_minimal as rlhf

assert rlhf.__file__.startswith(sys.argv[1]), rlhf.__file__
assert str(rlhf.SHIPPED).startswith(sys.argv[1]), rlhf.SHIPPED
model, tokenizer = rlhf.models.load("village-3m")
print("parameters", model.num_parameters(), "stored answers", len(rlhf.data.pool().source))
print("recorded", len(rlhf.book.recorded("smollm2_dpo").curve["step"]))
"""


def installed_only(folder, *args):
    """Run Python in an empty folder, with the unpacked wheel first on the path -> the finished process."""
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    env = os.environ | {"PYTHONPATH": str(folder / "site"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *args], cwd=empty, env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    path, = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "site"), str(path)], check=True, capture_output=True)
    return folder


def test_what_is_shipped_is_found(wheel):
    done = installed_only(wheel, "-c", USE, str(wheel))
    assert done.returncode == 0, done.stderr
    assert "stored answers" in done.stdout and "recorded" in done.stdout


def test_commands_work(wheel):
    assert "extract" in installed_only(wheel, "-m", "rlhf_minimal").stdout
    done = installed_only(wheel, "-m", "rlhf_minimal.extract", "dpo", "-o", "mine.py")
    assert done.returncode == 0 and (wheel / "empty/mine.py").exists(), done.stderr
    two_steps = ["dpo", "--model", "village-3m-sft", "--data", "village", "--steps", "2", "--batch-size", "2", "--out", "out"]
    done = installed_only(wheel, "-m", "rlhf_minimal.train", *two_steps)
    assert done.returncode == 0 and (wheel / "empty/out/run.json").exists(), done.stderr


def test_a_wheel_without_its_data_is_noticed(wheel):
    os.rename(wheel / "site/rlhf_minimal/shipped", wheel / "site/rlhf_minimal/elsewhere")
    try:
        assert installed_only(wheel, "-c", USE, str(wheel)).returncode != 0
    finally:
        os.rename(wheel / "site/rlhf_minimal/elsewhere", wheel / "site/rlhf_minimal/shipped")


def test_every_folder_of_the_package_is_in_the_wheel():
    found = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "rlhf_minimal").rglob("*.py")}
    assert found | {"rlhf_minimal.shipped"} == set(PROJECT["tool"]["setuptools"]["packages"])


def test_the_floors_of_the_wheel_are_those_of_the_requirements():
    lines = [x for x in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if x and not x.startswith("#")]
    project = PROJECT["project"]
    assert set(project["dependencies"]) | set(project["optional-dependencies"]["notebooks"]) <= set(lines)


@pytest.mark.parametrize("args, status, said", [
    ([], 0, "train"), (["--help"], 0, "extract"), (["trian"], 2, "there is no command 'trian'"),
    (["doctor", "--help"], 0, "doctor"),
])
def test_the_command_line_lists_what_there_is(args, status, said):
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "rlhf_minimal", *args], capture_output=True, text=True, env=env, cwd=ROOT)
    assert done.returncode == status and said in done.stdout + done.stderr
