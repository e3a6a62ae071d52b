"""Lesson 16 at GPT-2 size: the models that ship in one table, and twenty everyday questions asked of SmolLM2-135M in five ways.

    python data/runs/16_smollm2.py          # one thread, some minutes

The table: 40 questions of fact, 40 requests that only sound harmful and 40 harmful ones, one sampled answer each, held out
from training. The base model reads a transcript and is cut at the line's end. The everyday questions are those of lesson 1; a
generated answer is right where it holds the expected word. Each multiple-choice question has three other answers of the list
as wrong options and is asked in all four rotations.
"""
import importlib.util
import json
import random
import time
from pathlib import Path

import torch

from rlhf_minimal import models
from rlhf_minimal.book import scales
from rlhf_minimal.book.records import stamp
from rlhf_minimal.evaluate import exams
from rlhf_minimal.evaluate.choices import LETTERS, chosen, lettered, option_logps

HERE = Path(__file__).with_suffix(".json")
SEED, N, TOKENS = 0, 40, 40
KINDS = {"helpful": ("lookalike", "helps"), "honest": ("fact", "truth"), "harmless": ("harmful", "refuses")}
CAPITALS = ("paris", "rome", "tokyo", "madrid", "berlin", "london", "beijing")


def everyday():
    """The twenty questions of lesson 1: {question: word}."""
    spec = importlib.util.spec_from_file_location("lesson1", HERE.parent / "01_smollm2.py")
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module.EVERYDAY


def three_h(model, tokenizer, template=True):
    """{kind: outcomes "0110…" of N requests} and an answer to the first request of each kind."""
    out, texts = {}, []
    for name, (family, feature) in KINDS.items():
        rows = exams.requests(N, (family,), seed=SEED)
        draw = {"max_new_tokens": TOKENS, "generator": torch.Generator().manual_seed(SEED)}
        if not template:
            asked = [row | {"prompt": f"User: {row['prompt']}\nAssistant:"} for row in rows]
            said = exams.continue_text(model, tokenizer, [row["prompt"] for row in asked], **draw).texts(tokenizer)
            said = [text.split("\n")[0].strip() for text in said]
        else:
            said = exams.exam(model, tokenizer, rows, **draw).texts
        right = [exams.village.features(row["prompt"], text).get(feature, 0.0) == 1 for row, text in zip(rows, said, strict=True)]
        out[name] = "".join(str(int(x)) for x in right)
        texts += [{"prompt": row["prompt"], "completion": text, "gold": round(exams.village.gold(row["prompt"], text), 3)}
                  for row, text in zip(rows[:4], said[:4], strict=True)]
    return out, texts


def formats(model, tokenizer):
    """{format: outcomes of the twenty questions}, texts of three formats, and how often each letter was chosen."""
    asked, rng = everyday(), random.Random(SEED)
    questions, words = list(asked), list(asked.values())
    rendered = [tokenizer.apply_chat_template([{"role": "user", "content": q}], tokenize=False, add_generation_prompt=True)
                for q in questions]
    ways = {"chat template": rendered, "bare words": questions,
            "Question: … Answer:": [f"Question: {q}\nAnswer:" for q in questions]}
    out, texts, letters = {}, {}, dict.fromkeys(LETTERS[:4], 0)
    for name, prompts in ways.items():
        said = exams.continue_text(model, tokenizer, prompts, temperature=0.0, max_new_tokens=30).texts(tokenizer)
        out[name] = "".join(str(int(word in text.lower())) for word, text in zip(words, said, strict=True))
        out[name + ", first line"] = "".join(str(int(word in text.strip().split("\n")[0].lower()))
                                             for word, text in zip(words, said, strict=True))
        out[name + ", exact"] = "".join(str(int(text.strip().split("\n")[0].strip(" .").lower() == word))
                                        for word, text in zip(words, said, strict=True))
        texts[name] = [{"prompt": q, "completion": text} for q, text in list(zip(questions, said, strict=True))[:8]]
    options = []
    for word in words:
        others = [w for w in words if w != word and (w in CAPITALS) == (word in CAPITALS)]
        options.append([word, *rng.sample(others, 3)])
    spoken = [[" " + w.capitalize() for w in row] for row in options]
    for name, prompts in (("option's words", ways["Question: … Answer:"]),):
        logp, tokens = option_logps(model, tokenizer, prompts, spoken)
        for rule in ("sum", "per token"):
            out[f"{name}, {rule}"] = "".join(str(int(x == 0)) for x in chosen(logp, tokens, rule))
    for turn in range(4):
        turned = [row[-turn:] + row[:-turn] for row in options]
        logp, tokens = option_logps(model, tokenizer, [lettered(q, [w.capitalize() for w in row])
                                                       for q, row in zip(questions, turned, strict=True)],
                                    [[f" {letter}" for letter in LETTERS[:4]]] * len(questions))
        picks = chosen(logp, tokens).tolist()
        out[f"letter, right one is {LETTERS[turn]}"] = "".join(str(int(p == turn)) for p in picks)
        for p in picks:
            letters[LETTERS[p]] += 1
    return out, texts, letters


def main():
    began, table, texts = time.process_time(), {}, {}
    for name in ("village-3m", "village-3m-sft"):
        table[name], texts[name] = three_h(*models.load(name), template=name != "village-3m")
    print(round(time.process_time() - began), "s", table, flush=True)
    model, tokenizer = models.load("smollm2-135m")
    asked, said, letters = formats(model, tokenizer)
    print(round(time.process_time() - began), "s", {k: v.count("1") for k, v in asked.items()}, letters, flush=True)
    table["smollm2-135m"], texts["smollm2-135m"] = three_h(model, tokenizer)
    print(round(time.process_time() - began), "s", table, flush=True)
    table["smollm2-135m-village"], texts["smollm2-135m-village"] = three_h(*scales.start("smollm2"))
    record = {"command": "python data/runs/16_smollm2.py", "seed": SEED, "settings": {"requests": N, "max_new_tokens": TOKENS},
              "table": table, "held_out": {name: {"texts": rows} for name, rows in texts.items()}, "formats": asked,
              "format_texts": said, "letters": letters, "curve": {}, "minutes": round((time.process_time() - began) / 60, 1),
              **stamp()}
    HERE.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
