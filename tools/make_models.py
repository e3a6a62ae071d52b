"""Build the shipped models from a seed: tokenizer, `village-3m` (base), `village-3m-sft`, their cards, and the Pool of samples.

    make models                         # about 25 minutes on 2 cores
    python -m tools.make_models --help
"""
from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import tempfile
import time
from datetime import date
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from rlhf_minimal import village
from rlhf_minimal.chat import VILLAGE_TEMPLATE, encode_pair, encode_prompt
from rlhf_minimal.data.pool import write_pool
from rlhf_minimal.forward import hidden_states
from rlhf_minimal.logprobs import token_logps
from rlhf_minimal.models import load
from rlhf_minimal.sampling import sample
from rlhf_minimal.sft import sft_loss
from rlhf_minimal.tensors import last_index, pad_right
from tools.table import measure, show

ROOT = Path(__file__).parent.parent
SPECIAL = ["<|end|>", "<|user|>", "<|assistant|>", "<call>", "</call>", "<out>", "</out>"]
CONTEXT = 256


def make_tokenizer(seed: int, size: int = 1152) -> PreTrainedTokenizerFast:
    """Byte-level BPE; digits stay single, so that sums can be learned column by column."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                 pre_tokenizers.ByteLevel(add_prefix_space=False)])
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    raw.train_from_iterator(islice(village.documents(seed), 6000), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>", pad_token="<|end|>", model_max_length=CONTEXT,
                                   clean_up_tokenization_spaces=False)


def new_model(vocab: int, seed: int) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=vocab, n_positions=CONTEXT, n_embd=192, n_layer=6, n_head=6, activation_function="gelu_pytorch_tanh",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0, pad_token_id=0))


def optimizer_for(model, lr: float):
    """AdamW without weight decay on biases and LayerNorm (H5)."""
    decay = [p for p in model.parameters() if p.dim() > 1]
    other = [p for p in model.parameters() if p.dim() <= 1]
    return torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": other, "weight_decay": 0.0}],
                             lr=lr, betas=(0.9, 0.98))


def set_rate(optimizer, peak: float, done: float, warm: float = 0.04) -> None:
    """Linear warm-up, then a cosine down to a fiftieth; `done` in [0, 1]."""
    rate = done / warm if done < warm else 0.02 + 0.49 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))
    for group in optimizer.param_groups:
        group["lr"] = peak * rate


def pretrain(tokenizer, seed: int, steps: int, batch: int = 8) -> tuple[GPT2LMHeadModel, list]:
    """Next-token prediction on packed documents; returns the model and its curve."""
    model, curve = new_model(len(tokenizer), seed), []
    optimizer, stream, buffer = optimizer_for(model, 3e-3), village.documents(seed), []
    need, bar = batch * CONTEXT, tqdm(range(steps), desc="pretrain", unit="step")
    for step in bar:
        while len(buffer) < need:
            texts = list(islice(stream, 64))
            for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
                buffer += ids + [tokenizer.eos_token_id]
        ids, buffer = torch.tensor(buffer[:need]).view(batch, CONTEXT), buffer[need:]
        set_rate(optimizer, 3e-3, step / steps)
        loss = model(ids, labels=ids, use_cache=False).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 20 == 0:
            curve.append((step, round(loss.item(), 4)))
            bar.set_postfix(loss=f"{loss.item():.3f}")
    return model, curve


def finetune(model, tokenizer, seed: int, rows: int, epochs: int, snapshots: dict[int, str], batch: int = 32,
             lr: float = 1e-3) -> tuple[list, dict]:
    """Completion-only SFT in random batches; `model` is changed in place. Returns the curve and snapshots."""
    data = [encode_pair(tokenizer, r["prompt"], r["completion"]) for r in village.demonstrations(rows, seed=seed)]
    generator, optimizer, curve = torch.Generator().manual_seed(seed), optimizer_for(model, lr), []
    kept: dict[str, dict] = {}
    order = torch.cat([torch.randperm(len(data), generator=generator) for _ in range(epochs)]).tolist()
    total = len(order) // batch
    bar = tqdm(range(total), desc="sft", unit="step")
    for step in bar:
        if step in snapshots:
            kept[snapshots[step]] = {k: v.clone() for k, v in model.state_dict().items()}
        rows_ = [data[i] for i in order[step * batch:(step + 1) * batch]]
        ids, attention = pad_right([r[0] for r in rows_])
        mask, _ = pad_right([r[1] for r in rows_])
        set_rate(optimizer, lr, step / total)
        loss, _ = sft_loss(token_logps(model, ids, attention), mask[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 20 == 0:
            curve.append((step, round(loss.item(), 4)))
            bar.set_postfix(loss=f"{loss.item():.3f}")
    return curve, kept


def save(folder: Path, model, tokenizer, chat: bool, record: dict) -> None:
    """Weights in half precision, tokenizer, training record: all of it or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.chat_template = VILLAGE_TEMPLATE if chat else None
    for name in ("is_local", "local_files_only"):    # where it was read from is no business of the reader's
        tokenizer.init_kwargs.pop(name, None)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        done = Path(temporary) / "done"
        GPT2LMHeadModel(model.config).half().save_pretrained(done, state_dict={k: v.half() for k, v in model.state_dict().items()})
        tokenizer.save_pretrained(done)
        (done / "training.json").write_text(json.dumps(record, indent=1) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(done, folder)


def difference(old: Path, model) -> float | None:
    """Largest difference between a model's weights and those that are shipped; None where there is nothing to compare."""
    try:
        shipped, _ = load(str(old))
    except (OSError, ValueError):
        return None
    ours, theirs = model.state_dict(), shipped.state_dict()
    if {k: v.shape for k, v in ours.items()} != {k: v.shape for k, v in theirs.items()}:
        return math.inf
    return max((ours[k].half().float() - theirs[k]).abs().max().item() for k in ours)


def report_difference(old: Path, model) -> None:
    """Say whether a rebuilt model is the one that is shipped (other threads or processors round differently)."""
    drift = difference(old, model)
    print(f"{old.name}: " + ("nothing shipped to compare with" if drift is None else "equal to what is shipped" if drift == 0
                             else f"differs from what is shipped, by up to {drift:.2g} in a weight"))


def card(name: str, record: dict, table: str) -> str:
    base = name == "village-3m"
    data = ("base text of the village (`rlhf_minimal.village.documents`): stories, almanac pages, sums, worksheets and transcripts "
            "with good and bad behaviour" if base else
            "`village-3m` finetuned on imperfect demonstrations (`rlhf_minimal.village.demonstrations`), loss on completions only")
    curve = ", ".join(f"{s}: {x:.2f}" for s, x in record["curve"][:: max(1, len(record["curve"]) // 8)])
    return (f"# {name}\n\nGPT-2 architecture, {record['parameters']:,} parameters, vocabulary {record['vocabulary']}, "
            f"context {CONTEXT}, float16 safetensors. Trained on {data}. No text from anywhere else. Licence: MIT.\n\n"
            f"- seed {record['seed']}, {record['tokens']:,} tokens, {record['minutes']:.1f} minutes on {record['machine']}, "
            f"{record['date']}, torch {record['torch']}\n- loss by step: {curve}\n- rebuild: `make models`\n"
            f"- chat format: {'none; lines of `User:` and `Assistant:`' if base else '`<|user|>…<|end|><|assistant|>…<|end|>`'}\n\n"
            f"A toy for teaching: it knows one village and nothing else.\n\n`python -m tools.table` prints:\n\n```\n{table}\n```\n")


def write_cards(folders: dict[str, Path]) -> None:
    """Measure the models in these folders, print the table, and write it into a card beside each."""
    table = show({name: measure(*load(str(folder))) for name, folder in folders.items()})
    print(table)
    for name, folder in folders.items():
        (folder / "README.md").write_text(card(name, json.loads((folder / "training.json").read_text()), table))


def states(model, rows: list[tuple[list[int], list[int]]], batch: int = 128) -> torch.Tensor:
    """(N,H) hidden state at the last token of each row of ids."""
    out = []
    with torch.no_grad():
        for start in tqdm(range(0, len(rows), batch), desc="states", unit="batch"):
            ids, attention = pad_right([r[0] for r in rows[start:start + batch]])
            hidden = hidden_states(model, ids, attention)
            out.append(hidden[torch.arange(len(ids)), last_index(attention)])
    return torch.cat(out)


def build_pool(folder: Path, sources: dict, seed: int) -> None:
    """Sample the Pool: `sources` is {name: (model, tokenizer, [(prompts, n), ...])}; the states are those of village-3m-sft."""
    scorer, chat = sources["village-3m-sft"][:2]
    generator, rows = torch.Generator().manual_seed(seed), []
    prompts = list(dict.fromkeys(p for _, _, parts in sources.values() for texts, _ in parts for p in texts))
    number = {p: i for i, p in enumerate(prompts)}
    for name, (model, tokenizer, parts) in sources.items():
        for texts, n in parts:
            size = max(1, 512 // n)
            for start in tqdm(range(0, len(texts), size), desc=f"pool {name} x {n}", unit="batch"):
                some = texts[start:start + size]
                out = sample(model, [encode_prompt(tokenizer, p)[-190:] for p in some], n=n, max_new_tokens=64,
                             eos_id=tokenizer.eos_token_id, generator=generator)
                told = out.texts(tokenizer)
                for i in range(len(out)):
                    length = int(out.mask[i].sum())
                    rows.append({"prompt": number[some[int(out.group[i])]], "source": name, "ended": bool(out.ended[i]),
                                 "ids": out.completion_ids[i, :length].tolist(), "logp": out.logp_old[i, :length].tolist(),
                                 "text": told[i]})
    last = states(scorer, [encode_pair(chat, prompts[r["prompt"]], r["text"], max_len=CONTEXT) for r in rows])
    write_pool(folder, prompts=prompts, rows=rows, states=last, seed=seed, command="make models")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1900, help="pretraining steps of 8 x 256 tokens (default %(default)s)")
    parser.add_argument("--rows", type=int, default=9600, help="demonstrations for SFT (default %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of SFT (default %(default)s)")
    parser.add_argument("--base", type=Path, help="skip pretraining and take the base model from this folder")
    parser.add_argument("--no-pool", action="store_true", help="leave the Pool of samples as it is")
    parser.add_argument("--only-pool", action="store_true", help="only rebuild the Pool, from the shipped models")
    parser.add_argument("--only-cards", action="store_true", help="only measure the shipped models and write their cards")
    parser.add_argument("--out", type=Path, default=ROOT / "data", help="folder with models/ and pool/ (default: the repository's)")
    args = parser.parse_args()
    models = args.out / "models"
    if args.only_pool:
        return pool(args.out, args.seed)
    if args.only_cards:
        return write_cards({name: models / name for name in ("village-3m", "village-3m-sft")})
    print("about 25 minutes on 2 cores: pretraining 12, SFT 6, table 2, Pool 5")
    built = {}
    begin = time.time()
    about = {"seed": args.seed, "machine": f"{os.cpu_count()} CPU cores ({platform.machine()})", "date": date.today().isoformat(),
             "torch": torch.__version__.split("+")[0]}
    if args.base:
        model, tokenizer = load(str(args.base))
        record = json.loads((args.base / "training.json").read_text()) if (args.base / "training.json").exists() else None
    else:
        tokenizer = make_tokenizer(args.seed)
        model, curve = pretrain(tokenizer, args.seed, args.steps)
        record = about | {"curve": curve, "tokens": args.steps * 8 * CONTEXT, "minutes": (time.time() - begin) / 60,
                          "parameters": model.num_parameters(), "vocabulary": len(tokenizer)}
        report_difference(models / "village-3m", model)
        save(models / "village-3m", model, tokenizer, False, record)
    built["village-3m"] = record
    begin, total = time.time(), args.rows * args.epochs // 32
    tokenizer.chat_template = VILLAGE_TEMPLATE
    early = {total // 16: "sft-early", total // 4: "sft-middle"}
    curve, kept = finetune(model, tokenizer, args.seed, args.rows, args.epochs, early)
    report_difference(models / "village-3m-sft", model)
    built["village-3m-sft"] = about | {
        "curve": curve, "tokens": args.rows * args.epochs * 40, "minutes": (time.time() - begin) / 60,
        "parameters": model.num_parameters(), "vocabulary": len(tokenizer)}
    save(models / "village-3m-sft", model, tokenizer, True, built["village-3m-sft"])
    for name, weights in kept.items():
        stage = GPT2LMHeadModel(model.config)
        stage.load_state_dict(weights)
        save(models.parent / "checkpoints" / name, stage, tokenizer, True, about)
    folders = {name: models / name for name in built} | ({"village-3m": args.base} if args.base else {})
    write_cards(folders)
    if not args.no_pool:
        pool(args.out, args.seed)


def pool(out: Path, seed: int) -> None:
    """128 prompts x 64 and 16 x 512 from village-3m-sft, 2,048 x 4 ("wide"), 32 x 64 from the base and two early checkpoints."""
    def ask(n, at):
        return [r["prompt"] for r in village.prompts(n, seed=1000 + at, split="train")]
    sft = load(str(out / "models" / "village-3m-sft"))
    shared = ask(128, 0)
    sources = {"village-3m-sft": (*sft, [(shared, 64), (ask(16, 1), 512)]), "wide": (*sft, [(ask(2048, 2), 4)])}
    for name, folder in (("village-3m", "models"), ("sft-early", "checkpoints"), ("sft-middle", "checkpoints")):
        if (out / folder / name).exists():
            sources[name] = (*load(str(out / folder / name)), [(shared[:32], 64)])
    build_pool(out / "pool", sources, seed)


if __name__ == "__main__":
    main()
