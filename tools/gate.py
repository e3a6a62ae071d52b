"""Every cell of every notebook, executed and compared with what is stored: `python -m tools.gate [--root FOLDER]`.

Runs pytest with nbval, and with this file as a plugin. Red unless exactly the code cells of all sources were collected,
and none was skipped or expected to fail: a lane that tests nothing is not green.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest


def pytest_sessionfinish(session):
    """Count on the main process what came back from the workers."""
    expected = os.environ.get("RLHF_EXPECT_CELLS")
    if expected is None or hasattr(session.config, "workerinput"):
        return
    stats = session.config.pluginmanager.get_plugin("terminalreporter").stats
    count = {kind: len(stats.get(kind, [])) for kind in ("passed", "failed", "error", "skipped", "xfailed", "xpassed")}
    hidden = sum(count[kind] for kind in ("skipped", "xfailed", "xpassed"))
    print(f"\n{expected} code cells in the sources; {', '.join(f'{n} {kind}' for kind, n in count.items())}")
    if hidden or count["passed"] != int(expected):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """nbval counts code cells from 0: say which heading and which id that is."""
    report = (yield).get_result()
    if report.failed and hasattr(item, "cell"):
        from .execute import heading
        where = f"under “{heading(item.parent.nb, item.cell)}”, id {item.cell.get('id')}"
        report.sections.append(("which cell", where))


def main(words=None):
    from .build import generate, notebook_path, sources
    from .execute import ROOT, environment
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT)
    root = parser.parse_args(words).root.resolve()
    chapters = sources(root)
    paths = [notebook_path(s) for s in chapters]
    if missing := [p.name for p in paths if not p.exists()]:
        print(f"not built: {', '.join(missing)}")
    if missing or not paths:
        print(f"{len(paths)} chapters in chapters/source: nothing was tested")
        return 1
    cells = sum(c.cell_type == "code" for s in chapters for c in generate(s, root).cells)
    env = environment(root, RLHF_EXPECT_CELLS=cells, OMP_NUM_THREADS=1, RLHF_SEED=0, RLHF_SCALE="village",
                      RLHF_REQUIRE_MODELS=1, RLHF_PROGRESS=None)
    env["PYTHONPATH"] += os.pathsep + str(ROOT)  # for this plugin, where root is another folder
    masks = ROOT / "tools/sanitize.cfg"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tools.gate", "-p", "no:cacheprovider", "--nbval",
               "--nbval-current-env", "--nbval-cell-timeout=120", f"--nbval-sanitize-with={masks}",
               "-n", "2", "--dist", "loadscope", *map(str, paths)]
    return subprocess.run(command, cwd=root, env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
