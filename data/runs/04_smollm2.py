"""Lesson 4 at GPT-2 size: SmolLM2-135M, which learned the village's manner, gets a reward model and eight steps of PPO.

    python data/runs/04_smollm2.py          # one thread, some nine minutes
    python data/runs/04_smollm2.py --steps 2 --adapter FOLDER     # a trial: seconds of each part are printed, nothing is stored

As in the lesson: two thirds of the compared requests are harmful, one third only looks so; the exam, half and half, is
never trained on. Policy and reward model train LoRA adapters; the reference is the policy with its adapters off.
"""
import argparse
import json
import platform
import time
from datetime import date
from pathlib import Path

import torch
import transformers

import rlhf_minimal as rlhf
from rlhf_minimal.book import scales
from rlhf_minimal.evaluate import exams

HERE = Path(__file__).with_suffix(".json")
KINDS = ("harmful", "lookalike")
SETTINGS = {"compared": 48, "answers": 4, "pairs_a_step": 6, "judge_lr": 1e-3, "lora": 16,
            "steps": 8, "prompts_a_step": 12, "epochs": 2, "lr": 1.5e-3, "clip": 0.2, "beta": 0.05,
            "exam_requests": 32, "exam_answers": 2, "look_every": 2, "max_new_tokens": 24}
LONGEST = {"max_new_tokens": SETTINGS["max_new_tokens"]}


class Pipeline:
    """The parts that every stage needs. `unit`: mean and standard deviation of the SFT model's raw scores in training."""

    def __init__(self, model, tokenizer, seed):
        self.model, self.tokenizer, self.seed, self.unit = model, tokenizer, seed, (0.0, 1.0)
        self.noise = torch.Generator().manual_seed(seed)

    def compare(self):
        """Rows of pairs that a simulated person decided."""
        harmful = round(SETTINGS["compared"] * 2 / 3)
        rows = (exams.requests(harmful, ("harmful",), split="train", seed=self.seed)
                + exams.requests(SETTINGS["compared"] - harmful, ("lookalike",), split="train", seed=self.seed))
        drawn = exams.exam(self.model, self.tokenizer, rows, n=SETTINGS["answers"], generator=self.noise, **LONGEST)
        person = rlhf.village.Annotator(temperature=0.5)
        return rlhf.data.compare_answers(rows, drawn.texts, person, n=SETTINGS["answers"], seed=self.seed)

    def learn(self, pairs):
        """Train the reward model for one pass -> its agreement with the person in the second half."""
        self.judge = rlhf.reward_model.RewardModel(rlhf.models.lora(rlhf.models.copy_of(self.model), r=SETTINGS["lora"]))
        weights = [p for p in self.judge.parameters() if p.requires_grad]
        optimizer, right = torch.optim.AdamW(weights, lr=SETTINGS["judge_lr"], weight_decay=0.0), []
        for batch in rlhf.data.batches(pairs, SETTINGS["pairs_a_step"], tokenizer=self.tokenizer, seed=self.seed):
            right.append(rlhf.reward_model.step(self.judge, optimizer, batch)["accuracy"].item())
        return sum(right[len(right) // 2:]) / len(right[len(right) // 2:])

    @torch.no_grad()
    def score(self, rollout):
        mean, std = self.unit
        return (self.judge(rollout.ids, rollout.attention) - mean) / std

    def exam(self, model, rows, n):
        """Always the same noise, so that two policies differ by their weights alone."""
        return exams.exam(model, self.tokenizer, rows, n=n, judge=self.score,
                          generator=torch.Generator().manual_seed(self.seed + 7), **LONGEST)

    def step(self, policy, optimizer, prompts):
        """One step of PPO, as the lesson types it -> mean KL of its samples, in nats per answer."""
        logps = rlhf.rollout.completion_logps
        rollout = rlhf.sampling.answer(policy, self.tokenizer, prompts, generator=self.noise, **LONGEST)
        with torch.no_grad(), rlhf.models.adapters_off(policy):
            kl = ((rollout.logp_old - logps(policy, rollout)) * rollout.mask).sum(1)
        pay = self.score(rollout) - SETTINGS["beta"] * kl
        advantage = (pay - pay.mean()) / pay.std()
        for _ in range(SETTINGS["epochs"]):
            loss, _ = rlhf.ppo.policy_loss(logps(policy, rollout), rollout.logp_old, advantage, rollout.mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return kl.mean().item()


def measured(exam):
    """{kind: {"mean", "standard_error", "n", "refuses", "score"}}: true reward, its error clustered over requests."""
    out = {}
    for kind in KINDS:
        part = exam.of(kind)
        gold, half = part.interval()
        out[kind] = {"mean": round(gold, 4), "standard_error": round(half / 1.96, 4), "n": len(part.texts) // part.n,
                     "refuses": round(part.mean("refuses"), 4), "score": round(part.mean("score"), 4)}
    return out


def texts(exam, most=4):
    """The first answer to the first requests of each kind, the kinds in turn."""
    rows = []
    for k in range(most):
        for kind in KINDS:
            part = exam.of(kind)
            rows.append({"prompt": part.rows[k * part.n]["prompt"], "completion": part.texts[k * part.n],
                         "gold": round(part.gold[k * part.n].item(), 3)})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=SETTINGS["steps"], help="fewer: a trial that stores nothing")
    parser.add_argument("--adapter", type=Path, help="folder of another adapter: a trial that stores nothing")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.process_time()

    def say(what, value=""):
        print(f"{time.process_time() - begin:6.0f} s  {what}  {value}", flush=True)

    model, tokenizer = (scales.with_adapter(*rlhf.models.load("smollm2-135m"), args.adapter) if args.adapter
                        else scales.start("smollm2"))
    run = Pipeline(model, tokenizer, args.seed)
    pairs = run.compare()
    say("pairs", len(pairs))
    agreement = run.learn(pairs)
    say("agreement of the reward model with the person, second half", round(agreement, 2))
    test = exams.requests(SETTINGS["exam_requests"], seed=args.seed)
    practice = exams.requests(SETTINGS["exam_requests"], split="train", seed=args.seed + 1)
    raw = run.exam(model, practice, 1).score
    run.unit = (raw.mean().item(), raw.std().item())
    before = run.exam(model, test, SETTINGS["exam_answers"])
    say("before", measured(before))

    def sentence(text, rows):
        batch = rlhf.data.collate_demonstrations([row | {"completion": text} for row in rows], tokenizer)
        with torch.no_grad():
            return (run.judge(batch["ids"], batch["attention"]) - run.unit[0]) / run.unit[1]

    favourite = max(rlhf.village.tasks.REFUSALS, key=lambda text: sentence(text, practice).mean())
    said = exams.constant(favourite, test, score=sentence(favourite, test))
    cheap = {"one sentence": measured(said), f"best of {before.n}": measured(before.best_of(before.n))}
    say(favourite, cheap)

    policy = rlhf.models.lora(model, r=SETTINGS["lora"])
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=SETTINGS["lr"], weight_decay=0.0)
    size = SETTINGS["prompts_a_step"]
    prompts = [row["prompt"] for row in exams.requests(args.steps * size, split="train", seed=args.seed + 1)]
    curve, kls, exam = {"step": [0]}, [], before
    for kind, found in measured(before).items():
        curve |= {f"{what} {kind}": [found[key]] for what, key in (("score", "score"), ("gold", "mean"), ("refuses", "refuses"))}
    for step in range(args.steps):
        kls.append(round(run.step(policy, optimizer, prompts[size * step:][:size]), 3))
        last = step + 1 == args.steps
        if last or (step + 1) % SETTINGS["look_every"] == 0:
            exam = run.exam(policy, test, SETTINGS["exam_answers"] if last else 1)
            curve["step"].append(step + 1)
            for kind, found in measured(exam).items():
                for what, key in (("score", "score"), ("gold", "mean"), ("refuses", "refuses")):
                    curve[f"{what} {kind}"].append(found[key])
        say(f"step {step + 1}", {k: v[-1] for k, v in curve.items()} | {"KL of the batch": kls[-1]})
    for row in texts(before) + texts(exam):
        print(f"  {row['gold']:5.1f}  {row['prompt']}  |  {row['completion']}")
    if args.adapter or args.steps != SETTINGS["steps"]:
        return
    record = {"command": "python data/runs/04_smollm2.py", "model": "smollm2-135m with smollm2-135m-village", "seed": args.seed,
              "settings": SETTINGS, "pairs": len(pairs), "agreement": round(agreement, 3), "favourite": favourite, "cheap": cheap,
              "curve": curve, "kl": kls, "held_out": {"before": measured(before) | {"texts": texts(before)},
                                                      "after": measured(exam) | {"texts": texts(exam)}},
              "versions": {"python": platform.python_version(), "torch": torch.__version__,
                           "transformers": transformers.__version__},
              "hardware": f"1 thread, {platform.machine()}", "date": str(date.today()),
              "seconds": round(time.process_time() - begin)}
    HERE.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
