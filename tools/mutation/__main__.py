"""Mutation testing: one small error at a time is put into the package, and the tests have to notice.

    python -m tools.mutation [--files kl ppo ...] [--sample N --seed S] [--jobs 2] [--store [--again]]

torch is imported once, a module's tests are collected once, and a traced run notes which test executes which lines.
Then each mutant gets a fork, in which the functions' code is swapped and the tests that reach the line run until one
fails: first those that killed other mutants of the function, then the quickest. Not mutated: docstrings, annotations,
decorators, messages, what leads up to a `raise`. What a test file computes while it is imported stays that of the right
code. `equivalent.json` lists mutants that no test can tell from the original, each with its reason: they are
left out.
`--again` runs the stored survivors only, after tests were added; it wants the module as it was when it was measured.
"""

import argparse
import ast
import collections
import importlib
import os
import pickle
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from . import report as stored_report
from . import sites as mutation_sites

ROOT, PACKAGE = Path(__file__).resolve().parents[2], "rlhf_minimal"
MODULES = (
    "tensors", "logprobs", "kl", "advantages", "aggregate", "sampling", "decoding", "rollout", "sft", "reinforce", "rloo", "ppo",
    "grpo", "reward_model", "process_reward", "best_of_n", "evaluate.metrics", "direct_alignment", "trpo", "p3o", "ilql",
    "distillation", "filtering", "forward", "optim", "families", "templates",
)
ALSO = {  # tests of the nearest users of a module, where they say more about it than its own file
    "tensors": ["aggregate", "advantages"], "logprobs": ["forward"], "decoding": ["sampling", "laws.families"],
    "rollout": ["sampling"], "grpo": ["ppo"], "rloo": ["grpo"], "forward": ["logprobs", "laws.families"],
    "families": ["models", "laws.families"], "templates": ["chat", "laws.templates"],
}
SLOW = ("learns", "chi_square", "keeps_the_laws")  # tests that take seconds are left out; that can only lower the score
LAWS = ("bad_input", "contract", "defaults", "denominators", "doctests", "empty_and_infinite", "padding", "steps")


def test_file(module):
    """tests/test_kl.py for kl, tests/evaluate/test_metrics.py for evaluate.metrics."""
    *folders, name = module.split(".")
    return ROOT.joinpath("tests", *folders, f"test_{name}.py")


def test_files(module):
    """The test files of a module: its own, those of its nearest users, and the laws (but for the slow ones)."""
    files = [test_file(name) for name in [module, *ALSO.get(module, ())]]
    return [str(file) for file in [*files, *(ROOT / "tests/laws" / f"test_{law}.py" for law in LAWS)]]


class Runner:
    """A pytest plugin that takes the place of the loop over the tests; verdicts {number: word} in `results`."""
    def __init__(self, module, numbers, jobs, no_tests):
        self.path, self.live = stored_report.source_of(module), f"{PACKAGE}.{module}"
        self.numbers, self.jobs, self.no_tests = numbers, jobs, no_tests
        self.results, self.failing = {}, []

    def pytest_collection_modifyitems(self, items):  # of the examples in docstrings only the module's own
        items[:] = [i for i in items if "test_examples_run" not in i.name or f"{self.live}]" in i.name]
        items[:] = [i for i in items if not any(word in i.name for word in SLOW)]

    def pytest_runtestloop(self, session):
        tree = ast.parse(self.path.read_text(encoding="utf-8"))
        found, live = mutation_sites.sites(tree), importlib.import_module(self.live)
        reached, seconds = ({}, {}) if self.no_tests else in_fork(lambda: baseline(session, live.__file__))
        self.failing = [session.items[i].nodeid for i in seconds if seconds[i] is None]
        good = sorted((i for i in seconds if seconds[i] is not None), key=seconds.get)
        waiting, running, kills, notes = list(self.numbers), {}, collections.Counter(), tempfile.mkdtemp()
        while waiting or running:
            while waiting and len(running) < self.jobs:
                site = found[waiting[0]]
                picked = [i for i in good if not site.lines or reached[i] & site.lines]
                picked.sort(key=lambda i, f=site.function: -kills[f, i])
                limit = int(10 + 4 * sum(seconds[i] for i in picked))
                note = Path(notes, str(waiting[0]))
                pid = fork(lambda s=site, p=picked, t=limit, n=note: judge(session, tree, s, live, p, t, n))
                running[pid] = waiting.pop(0), time.time() + 3600
            pid, status = wait_any(running)
            number = running.pop(pid)[0]
            self.results[number] = {0: "survived", 1: "killed"}.get(status, "timeout")
            note = Path(notes, str(number))
            kills.update([(found[number].function, int(note.read_text()))] if note.is_file() else [])
        shutil.rmtree(notes)
        return True  # the loop is done


def run_item(session, i, after):
    """Run one test; whether it passes (or skips)."""
    failed = session.testsfailed
    after = None if after is None else session.items[after]
    session.items[i].config.hook.pytest_runtest_protocol(item=session.items[i], nextitem=after)
    return session.testsfailed == failed


def judge(session, tree, site, live, picked, limit, note):
    """In a fork: 0 if all the picked tests pass on the mutant, else 1 (`note`: which one); SIGXCPU ends an endless loop."""
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    site.apply()
    fresh = {"__name__": live.__name__, "__package__": live.__package__, "__file__": live.__file__}
    exec(compile(ast.fix_missing_locations(tree), live.__file__, "exec"), fresh)
    swap(vars(live), fresh, live.__name__)
    for i, after in zip(picked, [*picked[1:], None], strict=False):
        if not run_item(session, i, after):
            note.write_text(str(i))
            return 1
    return 0


def baseline(session, path):
    """In a fork, on the right code: the lines that each test executes and its seconds, None where it fails.

    A test that reaches the module runs twice, in the file's order and backwards: one that needs another is not used.
    """
    reached, seconds, now, count = {}, {}, set(), len(session.items)
    stem, heads = Path(path).stem, mutation_sites.heads(ast.parse(Path(path).read_text(encoding="utf-8")))
    readers = f"test_default[{stem}.", f"test_signature[{stem}."  # they read what stands in a function's first line

    def local(frame, event, arg):
        now.add(frame.f_lineno)
        return local

    def trace(frame, event, arg):
        return local(frame, event, arg) if frame.f_code.co_filename == path else None

    for i in range(count):
        now.clear()
        sys.settrace(trace)
        passed = run_item(session, i, i + 1 if i + 1 < count else None)
        sys.settrace(None)
        now |= heads if session.items[i].name.startswith(readers) else set()
        reached[i], seconds[i] = set(now), 0.0 if passed else None  # tracing is slow: timed below
    order = [i for i in reversed(range(count)) if reached[i]]
    for i, after in zip(order, [*order[1:], None], strict=False):
        start, passed = time.process_time(), run_item(session, i, after)
        seconds[i] = time.process_time() - start if passed and seconds[i] is not None else None
    return reached, {i: seconds[i] for i in order}


def swap(old, new, module):
    """Put the code, defaults and plain constants of a mutated module into the one that everybody has imported."""
    for name, x in list(new.items()):
        was = old.get(name)
        if x is was or was is None:
            continue
        if isinstance(x, type):
            if x.__module__ == module:
                swap(vars(was), vars(x), module)
        elif isinstance(x, (int, float, str, tuple)) and isinstance(old, dict) and not name.startswith("__"):
            old[name] = x
        else:
            pair = (getattr(f, "fget", None) or getattr(f, "__func__", f) for f in (was, x))
            to, source = (getattr(f, "__wrapped__", f) for f in pair)
            if getattr(source, "__module__", "") == module and hasattr(source, "__code__"):
                for part in ("__code__", "__defaults__", "__kwdefaults__"):
                    setattr(to, part, getattr(source, part))


def fork(job):
    """Run job() in a child that ends with its result as exit status, 1 where it raises -> pid."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(job())
        finally:
            os._exit(1)
    return pid


def in_fork(job):
    """Run job() in a child and return its result."""
    with tempfile.NamedTemporaryFile() as file:
        status = os.waitpid(fork(lambda: Path(file.name).write_bytes(pickle.dumps(job())) * 0), 0)[1]
        if status:
            raise RuntimeError(f"a child ended with status {status}; run these tests by themselves first")
        return pickle.load(file)


def wait_any(running):
    """(pid, exit status) of the first child that ends; one that sleeps for ever is killed."""
    while True:
        for pid, (_, deadline) in running.items():
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return pid, os.waitstatus_to_exitcode(status)
            if time.time() > deadline:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def run_module(module, numbers, jobs, no_tests):
    """In a fork: verdicts {number of the mutant: word} of one module, and the tests that fail without any mutant."""
    import pytest

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    runner = Runner(module, numbers, jobs, no_tests)
    options = ["-x", "-s", "-p", "no:cacheprovider", "-p", "no:terminal", f"--rootdir={ROOT}"]
    pytest.main([*options, *test_files(module)], plugins=[runner])
    return runner.results, runner.failing


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", nargs="+", choices=MODULES, default=list(MODULES), metavar="NAME", help="all")
    parser.add_argument("--sample", type=int, metavar="N", help="N mutants, drawn from all of these files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--no-tests", action="store_true", help="a control: against an empty set of tests all survive")
    parser.add_argument("--store", action="store_true", help="put these files' results into score.*")
    parser.add_argument("--again", action="store_true", help="only the mutants that are stored as survivors")
    parser.add_argument("--json", metavar="PATH", help="write the results there")
    args = parser.parse_args(argv)
    importlib.import_module("transformers.models.gpt2.modeling_gpt2")  # once, before all the forks
    importlib.import_module("torch").set_num_threads(1)
    work, left_out = stored_report.work(args.files, args.sample, args.seed, again=args.again)
    some = [] if len(args.files) == len(MODULES) else ["--files", *args.files]
    drawn = None if args.sample is None else " ".join([*some, f"--sample {args.sample} --seed {args.seed}"])
    results = {}
    for module, numbers in work.items():
        verdicts, failing = {}, []
        if numbers:
            verdicts, failing = in_fork(lambda m=module, n=numbers: run_module(m, n, args.jobs, args.no_tests))
        results[module] = stored_report.summary(module, numbers, verdicts, left_out[module], again=args.again)
        stored_report.report(results, module, failing, store=args.store, path=args.json,
                             drawn=stored_report.stored()[module]["drawn"] if args.again else drawn)
    killed, run = (sum(r[key] for r in results.values()) for key in ("killed", "mutants"))
    print(stored_report.table(results), f"{killed + sum(r['timeout'] for r in results.values())} of {run} killed", sep="\n\n")


if __name__ == "__main__":
    main()
