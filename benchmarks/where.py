"""Where the time of a step goes, operator by operator: `python -m benchmarks.where` -> benchmarks/where.md.

torch's profiler names every operator and how long it ran by itself; here they are gathered into a few kinds of work. The
rate of the matrix products is set against the machine's own best, measured in the same minute. Needs no peer, some two
minutes on one thread of a quiet machine.
"""

import argparse
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed_limits import peak
from benchmarks.speed_page import machine
from rlhf_minimal import data, direct_alignment, grpo, models, sft
from rlhf_minimal.direct_alignment import pair_logps
from rlhf_minimal.sampling import sample

PAGE = Path(__file__).with_suffix(".md")
KINDS = {  # the first kind one of whose words stands in the operator's name
    "attention": ("attention",),
    "matrix products": ("mm", "bmm", "addmm", "matmul", "linear"),
    "optimizer": ("adam", "foreach", "clip_grad"),
    "softmax, draws, losses": ("softmax", "logsumexp", "searchsorted", "cumsum", "exp", "gather", "isin", "log_sigmoid", "rand",
                               "argmax"),
    "norms, activations": ("norm", "gelu", "silu", "tanh", "pow", "rsqrt", "mean"),
    "copies, lookups": ("copy", "index", "cat", "pad", "embedding", "clone", "zeros", "fill", "scatter", "select", "empty"),
}
COLUMNS = (*KINDS, "other operators", "Python, dispatch")


def kind(name):
    """The kind of work of an operator's name."""
    name = name.removeprefix("aten::").lower()
    return next((k for k, words in KINDS.items() if any(w in name for w in words)), "other operators")


def measure(work):
    """Run unseen, by the clock, under the profiler -> {column: share of the time}, seconds, FLOP/s of matrix products.

    The profiler slows what is not arithmetic, so the operators' own times are set against the time without it.
    """
    work()
    begin = time.perf_counter()
    work()
    seconds = time.perf_counter() - begin
    with profile(activities=[ProfilerActivity.CPU], with_flops=True) as seen:
        work()
    spent, flops = dict.fromkeys(COLUMNS, 0.0), 0
    for event in seen.key_averages():
        if event.key.startswith(("aten::", "_")) or kind(event.key) == "optimizer":
            spent[kind(event.key)] += event.self_cpu_time_total / 1e6
            flops += event.flops if kind(event.key) == "matrix products" else 0
    spent["Python, dispatch"] = max(0.0, seconds - sum(spent.values()))
    total = sum(spent.values())
    return {k: v / total for k, v in spent.items()}, seconds, flops / max(spent["matrix products"], 1e-9)


def adamw(model, rate=1e-6):
    """A rate so small that every repetition does the same work."""
    return torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0, fused=True)


def works(large):
    """(name, a function that does it once) of each row."""
    model, tokenizer = models.load("village-3m-sft")
    generator = torch.Generator().manual_seed(0)
    prompts = data.prompts_ids(list(data.load_data("village", "prompts", n=8)), tokenizer)
    eos = tokenizer.eos_token_id

    def drawn(n=8, who=model, ids=prompts, new=64, end=eos):
        return sample(who, ids, n=n, max_new_tokens=new, eos_id=end, generator=generator)

    optimizer = adamw(model)
    rows = data.collate_demonstrations(list(data.load_data("village", "demonstrations", n=32)), tokenizer)
    ids = torch.randint(1, 1024, (32, 128), generator=generator)
    full = {"ids": ids, "attention": torch.ones_like(ids), "mask": torch.ones_like(ids)}
    pairs = data.collate_pairs(list(data.load_data("village", "pairs", n=16)), tokenizer)
    reference = models.frozen_copy(model)

    def dpo():
        with torch.no_grad():
            refs = pair_logps(reference, pairs)
        direct_alignment.step(model, optimizer, pairs | {"ref_chosen": refs[0], "ref_rejected": refs[1]}, beta=0.1)

    rollout = drawn()
    score = torch.randn(64, generator=generator)
    yield "sampling, 64 rows of up to 64 tokens", drawn
    yield "sampling, 256 rows", lambda: drawn(32)
    yield "SFT step, 32 full rows of 128", lambda: sft.step(model, optimizer, full)
    yield "SFT step, 32 short rows", lambda: sft.step(model, optimizer, rows)
    yield "DPO step, 16 pairs, reference included", dpo
    yield "GRPO update of 64 answers", lambda: grpo.step(model, optimizer, rollout, score, group_size=8)
    if large:
        big, words = models.load("smollm2-135m")
        asked = data.prompts_ids(list(data.load_data("village", "prompts", n=8)), words)
        yield "smollm2-135m, sampling, 64 rows of 16 tokens", lambda: drawn(8, big, asked, 16, words.eos_token_id)


def page(rows, top, about):
    """The text of where.md."""
    head = ("work", "seconds", *COLUMNS, "matrix products, of the peak")
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    lines += [f"| {name} | {seconds:.2f} | " + " | ".join(f"{shares[c]:.0%}" for c in COLUMNS) + f" | {rate / top:.0%} |"
              for name, shares, seconds, rate in rows]
    return HEAD.format(**about, top=top / 1e9) + "\n".join(lines) + "\n" + NEXT


HEAD = """# Where the time goes

Written by `python -m benchmarks.where` on {date}: {cpu}, torch threads {threads}, load {load} at the start, torch {torch},
Python {python}. The best large float32 matrix product of this machine in the same minutes: {top:.0f} GFLOP/s; "of the peak" is the
rate of a row's own matrix products against that. `village-3m-sft` unless another model is named.

"""
NEXT = """
How to read it: the first column of shares that is large is the next limit. Where matrix products fill the time and run near
the peak, only fewer products would help. No work is done on padding, on finished rows, on a prompt once for each sample, on
logits that nobody wants; a pair's prompt is still read with each of its two answers. Where products are far from the peak,
they are too small: more rows at once.
Where Python and dispatch are large, the model is so small that calling an operator costs as much as the operator.
The shares of the peak in speed.md are lower: they divide the useful products by all the time of a step, these rates by their own.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="leave smollm2-135m out")
    parser.add_argument("--dry", action="store_true", help="print, store nothing")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    about = machine() | {"threads": args.threads, "date": datetime.now(UTC).date(), "python": platform.python_version(),
                         "torch": torch.__version__.split("+")[0]}
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    top, rows = peak(), []
    for name, work in works(not args.small):
        rows.append((name, *measure(work)))
        print(f"{name}: {rows[-1][2]:.2f} s", flush=True)
    text = page(rows, max(top, peak()), about)
    print(text)
    if not args.dry:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
