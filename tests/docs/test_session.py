"""docs/commands.md: the session runs as it is written, from raw rows to a compared and evaluated model."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from rlhf_minimal import __main__ as top

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/commands.md").read_text(encoding="utf-8")


def blocks(page):
    """The shell blocks of a page, in order."""
    return re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_the_session_runs_as_written(tmp_path):
    python = f'python() {{ "{sys.executable}" "$@"; }}\n'
    env = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    said = []
    for block in blocks(PAGE):
        done = subprocess.run(["bash", "-ec", python + block], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{block}\n{done.stderr[-800:]}"
        said.append(done.stdout)
    _, _, plan, measured, compared, talk = said
    assert "peak" in plan and all(name in measured for name in ("score/checks.py:right", "win rate", "kl", "difference"))
    assert "--reward" not in compared
    assert re.search(r"^reward +checks.py:right,checks.py:brief=0.5 +checks.py:brief$", compared, re.M)
    found = json.loads((tmp_path / "runs/both/evaluation/evaluation.json").read_text())
    right = found["values"]["score/checks.py:right"]
    assert found["rows"] == 60 and right["end"][0] > right["start"][0] > 0.4  # it learned what it was paid for
    assert len(talk.strip().splitlines()) == 3 and (tmp_path / "comparison/compare.html").exists()


def test_every_command_stands_on_the_page():
    named = set(re.findall(r"python -m rlhf_minimal (\w+)", PAGE))
    assert named == set(top.COMMANDS), named ^ set(top.COMMANDS)
    assert blocks("text\n```sh\na\n```\n```python\nb\n```\n") == ["a\n"]
