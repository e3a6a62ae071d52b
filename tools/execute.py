"""Execute a notebook in memory, on a fresh kernel of this very interpreter."""

import os
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

ROOT = Path(__file__).resolve().parents[1]
PEAK = """\
import resource, sys
peaks = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(max(peaks) * (1 if sys.platform == "darwin" else 1024))
"""
CLAIM = re.compile(r"^claim ([EST]) (holds|fails): (.*)$(?:\n  measured: (.*)$)?", re.MULTILINE)
RAISED = re.compile(r"claim ([EST]) fails: (.*?)(?: \[(.*)\]|\n  measured: (?:.*))?\Z", re.DOTALL)


class ThisPython(AsyncKernelManager):
    """Whatever kernels a user has installed elsewhere, `python3` is the interpreter that runs this."""

    @property
    def kernel_spec(self):
        argv = [sys.executable, "-m", "ipykernel_launcher", "--log-level=40", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


@dataclass
class Result:
    """What one execution took: seconds, per cell too, peak bytes of the kernel, and the error if there was one."""

    seconds: float = 0.0
    per_cell: dict = field(default_factory=dict)  # cell id -> seconds
    peak: int = 0
    error: str = ""


def environment(root=ROOT, **switches):
    """The kernel's environment: this one, the repository importable, and switches (None removes one)."""
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")])))
    env.update({k: str(v) for k, v in switches.items() if v is not None})
    return {k: v for k, v in env.items() if switches.get(k, v) is not None}


def execute(nb, folder, env, *, timeout=600, allow_errors=False, tell=lambda done, of, seconds: None):
    """Run all cells of `nb` in place, in `folder`; `tell` is called before each code cell."""
    result, started, began = Result(), {}, time.perf_counter()
    of = sum(c.cell_type == "code" for c in nb.cells)

    def on_start(cell, cell_index):
        if cell.cell_type == "code" and cell.id != "peak":
            tell(len(started) + 1, of, time.perf_counter() - began)
            started[cell.id] = time.perf_counter()

    def on_executed(cell, cell_index, execute_reply):
        if cell.id in started:
            result.per_cell[cell.id] = time.perf_counter() - started[cell.id]

    nb.cells.append(nbformat.v4.new_code_cell(PEAK, id="peak", metadata={"tags": ["raises-exception"]}))
    client = NotebookClient(
        nb, kernel_manager_class=ThisPython, kernel_name="python3", timeout=timeout, allow_errors=allow_errors,
        record_timing=False, coalesce_streams=True, on_cell_start=on_start, on_cell_executed=on_executed,
        resources={"metadata": {"path": str(folder)}})
    try:
        client.execute(env=env)
        if nb.cells[-1].outputs[0].output_type == "stream":  # an error on Windows, which has no such module
            result.peak = int(nb.cells[-1].outputs[0].text)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        result.error = explain(nb, len(started), error)
    finally:
        nb.cells.pop()
        result.seconds = time.perf_counter() - began
    return result


def heading(nb, cell):
    """The last heading above a cell."""
    above = nb.cells[:[other.id for other in nb.cells].index(cell.id)]
    text = "\n".join(other.source for other in above if other.cell_type == "markdown")
    return (re.findall(r"^#+ +(.+)$", text, re.MULTILINE) or ["the start"])[-1]


def explain(nb, number, error):
    """A failing cell, readable in a terminal."""
    cell = [c for c in nb.cells if c.cell_type == "code"][max(number - 1, 0)]
    name = getattr(error, "ename", type(error).__name__)
    value = getattr(error, "evalue", None) or str(error).splitlines()[0]
    text = re.sub(r"\x1b\[[0-9;]*m", "", getattr(error, "traceback", "") or "")
    arrow = [line.strip() for line in text.splitlines() if re.match(r"-+> *\d+", line)]
    return "\n".join([f"code cell {number}, section “{heading(nb, cell)}”, id {cell.id}", f"{name}: {value}", *arrow])


def printed(nb):
    """Everything that the cells printed, and the messages of the errors they raised."""
    outputs = [o for c in nb.cells if c.cell_type == "code" for o in c.get("outputs", [])]
    return "\n".join(o.get("text") or o.get("evalue") or "" for o in outputs)


def claims(nb):
    """All claims of an executed notebook, in order: [(kind, "holds" or "fails", text, detail)].

    A claim is an output with metadata {"rlhf": {"claim": {"kind", "text", "detail", "held"}}}. The printed form of older
    notebooks ("claim E holds: …") and the message of a claim that raised are read too.
    """
    found = []
    for out in (o for c in nb.cells if c.cell_type == "code" for o in c.get("outputs", [])):
        if made := out.get("metadata", {}).get("rlhf", {}).get("claim"):
            found.append((made["kind"], "holds" if made["held"] else "fails", made["text"], one_line(made.get("detail", ""))))
        elif raised := RAISED.match(out.get("evalue") or ""):
            found.append((raised[1], "fails", raised[2], raised[3] or ""))
        else:
            found += CLAIM.findall(out.get("text") or "")
    return found


def one_line(detail):
    """A claim's detail (a text, or {name: number}) on one line."""
    if isinstance(detail, dict):
        detail = ", ".join(f"{k} {v:.4g}" if isinstance(v, (int, float)) else f"{k} {v}" for k, v in detail.items())
    return " ".join(str(detail).split())
