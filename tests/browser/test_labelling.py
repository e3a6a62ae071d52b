"""The labelling interface in a real browser: forty labels by clicks and keys in JupyterLab, across a restart of the kernel.

Skipped where there is no browser. What was clicked, and what stood on the page when it was, is compared with the bytes of the
files.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAIRS = [{"prompt": f"Question {i}?", "response_a": f"Left {i}.", "response_b": f"Right {i}."} for i in range(40)]
CELL = "import json\nfrom rlhf_minimal.book import labelling\n" \
       "mine = labelling.label(json.load(open('pairs.json')), 'mine.jsonl', seed=3)"
NAMES = {"1": "first", "2": "second", "t": "tie", "s": "skip", "u": "undo"}
# what the hand does: k a key, d the same key twice at once, c a click; four labels are taken back; the kernel restarts at the bar
ACTS = ("d1 k2 c1 ct ks ku k2 c2 c1 cs cu c1 k2 kt k1 k1 c2 c2 k1 k2 k2 kt "
        "| d2 k1 ku k1 c1 c2 k2 k1 k2 cu c1 k1 ks c2 ct k1 k2 k2 c1 k1 k2 k1 c2 kt k1 c1")


@pytest.fixture
def lab(tmp_path):
    """A JupyterLab server in a folder with one notebook -> (its address, the folder)."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed: the labelling interface was not tried in a browser")
    (tmp_path / "pairs.json").write_text(json.dumps(PAIRS))
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nb, tmp_path / "labels.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path / "home"
    home.mkdir()
    environment = os.environ | {"HOME": str(home), "JUPYTER_CONFIG_DIR": str(home), "JUPYTER_DATA_DIR": str(home),
                                "JUPYTER_RUNTIME_DIR": str(home), "IPYTHONDIR": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.port={port}",
               "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--ServerApp.password=", "--ServerApp.ip=127.0.0.1",
               f"--ServerApp.root_dir={tmp_path}", "--ServerApp.disable_check_xsrf=True", "--LabApp.news_url="]
    with open(tmp_path / "server.txt", "w") as said:
        server = subprocess.Popen(command, stdout=said, stderr=said, env=environment, cwd=tmp_path)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/api/status", timeout=2).read()
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "server.txt").read_text()[-2000:]
                time.sleep(0.25)
        yield address, tmp_path
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def opened(page):
    """Run the notebook's cell and wait until the interface stands there."""
    page.get_by_text("(ipykernel) | Idle").wait_for(timeout=40_000)  # a cell that is run before the kernel is there is not run
    page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Control+Enter")
    page.locator(".rlhf-labelling .rlhf-pair").wait_for(timeout=40_000)


def seen(page):
    """(number, first, second) of the pair that the page shows; None after the last."""
    pair = page.locator(".rlhf-pair")
    number = pair.get_attribute("data-pair")
    return None if number is None else (int(number), *pair.locator(".rlhf-text").all_inner_texts())


def act(page, how, key, before, seconds=10):
    """One click or key, and a wait until the page shows what follows from it."""
    if how == "d":  # two keys at once: the second was meant for a pair that nobody saw, and labels nothing
        page.locator("input.rlhf-keys").evaluate("(e, key) => { for (let i = 0; i < 2; i++) e.dispatchEvent("
                                                 "new KeyboardEvent('keydown', {key: key, bubbles: true})) }", key)
    elif how == "c":
        page.locator(f".rlhf-{NAMES[key]}").click()
    else:
        page.locator("input.rlhf-keys").press(key)
    end = time.monotonic() + seconds
    while seen(page) == before:
        assert time.monotonic() < end, f"{how}{key} changed nothing: {page.locator('.rlhf-labelling').inner_text()}"
        time.sleep(0.02)


def restart(address):
    """Restart the only kernel, as the menu does."""
    kernel, = json.load(urllib.request.urlopen(f"{address}/api/kernels"))
    urllib.request.urlopen(urllib.request.Request(f"{address}/api/kernels/{kernel['id']}/restart", method="POST", data=b"")).read()


def test_forty_labels_by_clicks_and_keys_across_a_restart(browser, lab):
    address, folder = lab
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{address}/lab/tree/labels.ipynb", wait_until="domcontentloaded")
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
    opened(page)
    log, standing = [], []
    for a in ACTS.split():
        if a == "|":
            saved = (folder / "mine.log.jsonl").read_bytes()
            restart(address)
            page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
            page.evaluate("document.querySelectorAll('.rlhf-labelling').forEach(e => e.remove())")  # it hangs on a dead kernel
            opened(page)
            assert (folder / "mine.log.jsonl").read_bytes() == saved and seen(page)[0] == len(standing)
            continue
        before = seen(page)
        act(page, a[0], a[1], before)
        if a[1] == "u":
            log.append({"pair": standing.pop()["pair"], "answer": "undo"})
        else:
            pair, first, second = before
            standing.append({"pair": pair, "prompt": PAIRS[pair]["prompt"], "first": first, "second": second,
                             "answer": NAMES[a[1]]})
            log.append(standing[-1])
    assert len(standing) == 40 and seen(page) is None and page.get_by_text("All pairs have a label").is_visible()
    page.close()

    stored = [json.loads(line) for line in (folder / "mine.log.jsonl").read_bytes().decode().splitlines()]
    assert [{k: v for k, v in row.items() if k not in ("seconds", "seed", "rater")} for row in stored] == log
    assert all(0 < row["seconds"] < 60 for row in stored if row["answer"] != "undo")
    rows = [{"prompt": r["prompt"], "chosen": r[r["answer"]], "rejected": r["second" if r["answer"] == "first" else "first"]}
            for r in standing if r["answer"] in ("first", "second")]
    assert (folder / "mine.jsonl").read_bytes() == "".join(json.dumps(row) + "\n" for row in rows).encode()
    assert {row["first"].split()[0] for row in standing} == {"Left", "Right"}  # both orders were shown


def test_the_comparison_sees_a_label_that_went_astray(tmp_path):
    """Negative control: the bytes of another answer to one pair are other bytes."""
    from rlhf_minimal.data.labels import Labels
    for name, answers in (("a", "12"), ("b", "11")):
        labels = Labels(PAIRS, tmp_path / f"{name}.jsonl", seed=3)
        for key in answers:
            labels.press(key, 1.0)
    assert (tmp_path / "a.jsonl").read_bytes() != (tmp_path / "b.jsonl").read_bytes()


