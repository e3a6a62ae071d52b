"""Every cell of every notebook, executed and compared with what is stored: `python -m tools.gate`.

Runs pytest with nbval, and with this file as a plugin. Red unless exactly the code cells of all sources were collected,
and none was skipped or expected to fail: a lane that tests nothing is not green.
"""

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


def compare(paths, root, *options, cells):
    """Run nbval over notebooks that should have `cells` code cells in all -> exit code, 0 only if all agree."""
    from .execute import ROOT, environment
    env = environment(root, RLHF_EXPECT_CELLS=cells, OMP_NUM_THREADS=1, RLHF_SEED=0, RLHF_SCALE="village",
                      RLHF_REQUIRE_MODELS=1, RLHF_PROGRESS=None)
    env["PYTHONPATH"] += os.pathsep + str(ROOT)  # for this plugin, where root is another folder
    masks = ROOT / "tools/sanitize.cfg"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tools.gate", "-p", "no:cacheprovider", "--nbval",
               "--nbval-current-env", "--nbval-cell-timeout=300", f"--nbval-sanitize-with={masks}",
               "-n", str(min(2, len(paths) - 1)), "--dist", "loadscope", *options, *map(str, paths)]
    return subprocess.run(command, cwd=root, env=env).returncode


def gate(root):
    """Compare all chapters; red if one is not built, or if there is none."""
    from .build import generate
    from .chapters import name, notebook_path, sources
    chapters = sources(root)
    missing = [name(s) for s in chapters if not notebook_path(s).exists()]
    if missing or not chapters:
        print(f"nothing was tested: {len(chapters)} chapters in chapters/source, not built: {' '.join(missing) or '-'}")
        return 1
    cells = sum(c.cell_type == "code" for s in chapters for c in generate(s, root).cells)
    return compare([notebook_path(s) for s in chapters], root, cells=cells)


if __name__ == "__main__":
    sys.exit(gate(Path(__file__).resolve().parents[1]))
