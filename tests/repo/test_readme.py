"""The tour of the package, rlhf_minimal/README.md: every file, in import order, and what it shows runs."""

import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "rlhf_minimal"
TOUR = (PACKAGE / "README.md").read_text(encoding="utf-8")


def listed():
    """File and folder names of the tour's table, in its order."""
    lines = [line.split("|")[1] for line in TOUR.splitlines() if line.startswith("| `")]
    return [name for line in lines for name in re.findall(r"`([\w.]+?)(?:\.py|/)`", line)]


def test_the_tour_lists_every_file_once():
    names = listed()
    there = {p.stem for p in PACKAGE.glob("*.py")} | {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    assert len(names) == len(set(names)) and set(names) == there - {"__init__"}


def test_files_import_only_from_those_above():
    """The order in which data flows; `village` and `exercises` count as one each."""
    order = {name: i for i, name in enumerate(listed())}
    for name in order:
        paths = [PACKAGE / f"{name}.py"] if (PACKAGE / f"{name}.py").exists() else list((PACKAGE / name).glob("*.py"))
        for path in paths:
            inside = path.parent != PACKAGE
            text = path.read_text(encoding="utf-8")
            found = re.findall(rf"^from {'[.]' * (1 + inside)}(\w+)[\w.]* import", text, re.M)
            found += [x for names in re.findall(rf"^from {'[.]' * (1 + inside)} import (.+)", text, re.M)
                      for x in names.split(", ") if x in order]
            late = [x for x in found if order.get(x, -1) >= order[name]]
            assert not late, f"{path.relative_to(PACKAGE)} imports {late}, which the tour lists below it"


def test_the_ten_lines_of_the_tour_work():
    import torch

    code = re.search(r"```python\n(.*?)```", TOUR, re.S)[1]
    assert re.findall(r"# +(\d+)", code)[-1] == "10" and len(code.splitlines()) <= 14
    space = {}
    exec(code.replace("from .", "from rlhf_minimal."), space)
    logp = torch.tensor([[-1.0, -2.0], [-1.0, float("nan")]], requires_grad=True)
    loss, stats = space["mine_loss"](logp, torch.tensor([2.0, 1.0]), torch.tensor([[1, 1], [1, 0]]))
    loss.backward()
    assert loss.item() == stats["loss"].item() == 3.5
    assert torch.equal(logp.grad, -torch.tensor([[1.0, 1.0], [0.5, 0.0]]))


def test_the_commands_of_the_tour_exist():
    from rlhf_minimal.extract import extraction

    commands = re.findall(r"^python -m rlhf_minimal\.extract (\S+)", TOUR, re.M)
    assert {"ppo", "--list", "dpo"} == set(commands) and {"ppo", "dpo"} <= set(extraction.algorithms())
