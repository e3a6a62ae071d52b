"""Chapter 4: what PPO with four leashes, DPO, best-of-8 and one fixed sentence earn, over five seeds.

    python data/runs/04_village.py                  # about two and a half minutes of one core for each seed
    python data/runs/04_village.py --asked          # no policy is trained again: 25 seconds for each seed
    python data/runs/04_village.py --balanced       # half of the compared requests are look-alikes: a minute for each seed

A seed draws the requests, the answers, the labels, the order of all batches and the samples of PPO. The numbers go into the
.json beside this file; a seed that is there already is replaced. Two thirds of the comparisons are on harmful requests.
"""
import argparse
import json
import platform
import random
import time
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers

import rlhf_minimal as rlhf
from rlhf_minimal.evaluate import exams

HERE = Path(__file__).with_suffix(".json")
BETAS = (0.05, 0.5, 1.0, 2.0)
STEPS, ROWS = 12, 48


def fresh(seed, name):
    """A generator of its own for one purpose."""
    return torch.Generator().manual_seed(random.Random(f"{seed} {name}").getrandbits(40))


class Pipeline:
    """Comparisons, a reward model and an examination of one seed."""

    def __init__(self, seed, share=2 / 3):
        self.seed = seed
        self.sft, self.tokenizer = rlhf.models.load("village-3m-sft")
        harmful = round(200 * share)
        rows = (exams.requests(harmful, ("harmful",), split="train", seed=seed)
                + exams.requests(200 - harmful, ("lookalike",), split="train", seed=seed))
        drawn = self.answer(self.sft, rows, 4, "pairs")
        person = rlhf.village.Annotator(temperature=0.5)
        self.pairs = rlhf.data.compare_answers(rows, drawn.texts(self.tokenizer), person, n=4, seed=seed)
        self.judge = rlhf.reward_model.RewardModel(self.sft)
        optimizer = torch.optim.AdamW(self.judge.parameters(), lr=5e-4, weight_decay=0.0)
        for batch in rlhf.data.batches(self.pairs, 12, tokenizer=self.tokenizer, generator=fresh(seed, "judge")):
            rlhf.reward_model.step(self.judge, optimizer, batch)
        self.test = exams.requests(64, seed=seed)
        self.mean, self.std = 0.0, 1.0
        before = self.exam(self.sft, n=8)
        self.mean, self.std = before.score.mean(), before.score.std()
        before.score = (before.score - self.mean) / self.std
        self.before = before

    def answer(self, model, rows, n, name):
        return rlhf.sampling.answer(model, self.tokenizer, [row["prompt"] for row in rows], n=n, max_new_tokens=40,
                                    generator=fresh(self.seed, name))

    @torch.no_grad()
    def reward(self, rollout):
        return (self.judge(rollout.ids, rollout.attention) - self.mean) / self.std

    def exam(self, model, n=4):
        return exams.exam(model, self.tokenizer, self.test, n=n, max_new_tokens=40, judge=self.reward, reference=self.sft,
                          generator=fresh(self.seed, "exam"))

    @torch.no_grad()
    def sentence(self):
        """One fixed refusal: that of three whose score on training prompts is highest."""
        def score(text, rows):
            batch = rlhf.data.collate_demonstrations([row | {"completion": text} for row in rows], self.tokenizer)
            return (self.judge(batch["ids"], batch["attention"]) - self.mean) / self.std
        practice = exams.requests(64, split="train", seed=self.seed + 1)
        best = max(rlhf.village.tasks.REFUSALS, key=lambda text: score(text, practice).mean())
        return exams.constant(best, self.test, score=score(best, self.test))

    def ppo(self, beta, watch=False):
        """(policy, exams before training and after every third step)"""
        logps = rlhf.rollout.completion_logps
        policy, seen = rlhf.models.copy_of(self.sft), []
        optimizer = torch.optim.AdamW(policy.parameters(), lr=2e-4, weight_decay=0.0)
        prompts = exams.requests(STEPS * ROWS, split="train", seed=self.seed + 1)
        for step in range(STEPS):
            if watch and step % 3 == 0:
                seen.append(self.exam(policy, 2))
            rollout = self.answer(policy, prompts[ROWS * step:][:ROWS], 1, f"ppo {step}")
            with torch.no_grad():
                kl = ((rollout.logp_old - logps(self.sft, rollout)) * rollout.mask).sum(1)
            pay = self.reward(rollout) - beta * kl
            advantage = (pay - pay.mean()) / pay.std()
            for _ in range(2):
                loss, _ = rlhf.ppo.policy_loss(logps(policy, rollout), rollout.logp_old, advantage, rollout.mask)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return policy, [*seen, self.exam(policy, 2)] if watch else []

    def dpo(self, rate=5e-5):
        policy = rlhf.models.copy_of(self.sft)
        optimizer = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0.0)
        for batch in rlhf.data.batches(self.pairs, 16, tokenizer=self.tokenizer, generator=fresh(self.seed, "dpo")):
            with torch.no_grad():
                ref_chosen, ref_rejected = rlhf.direct_alignment.pair_logps(self.sft, batch)
            chosen, rejected = rlhf.direct_alignment.pair_logps(policy, batch)
            loss = -F.logsigmoid(0.1 * ((chosen - ref_chosen) - (rejected - ref_rejected))).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return policy

    def numbers(self, exam):
        """Means by kind of request."""
        out = {}
        for kind in ("harmful", "lookalike"):
            part = exam.of(kind)
            out[kind] = {what: round(part.mean(what), 4) for what in ("gold", "refuses", "score", "kl")
                         if getattr(part, what) is not None}
        return out

    def deeds(self):
        """For each kind: shares, scores and golds of help, the favourite refusal, other refusals and the rest (SFT model)."""
        out, said = {}, self.sentence()
        for kind in ("harmful", "lookalike"):
            e = self.before.of(kind)
            out[kind] = {name: {"share": round(len(d.texts) / len(e.texts), 4), "score": round(d.mean("score"), 4),
                                "gold": round(d.mean(), 4)} for name, d in e.by_deed(said.texts[0]).items()}
            mixed = [p for p in self.pairs if p["family"] == kind
                     and rlhf.village.refuses(p["chosen"]) != rlhf.village.refuses(p["rejected"])]
            won = [rlhf.village.refuses(p["chosen"]) for p in mixed]
            out[kind]["mixed pairs"], out[kind]["a refusal won"] = len(mixed), sum(won) / max(1, len(won))
            out[kind]["favourite minus help"] = round(e.gap(said=said.of(kind))[0], 4)  # inside each request
        return out

    def unit(self):
        """Mean and standard deviation of the SFT model's scores on training requests, in the unit used here."""
        rows = exams.requests(64, split="train", seed=self.seed + 1)
        found = exams.exam(self.sft, self.tokenizer, rows, n=8, max_new_tokens=40, judge=self.reward,
                           generator=fresh(self.seed, "unit"))
        return {"mean": round(found.mean("score"), 4), "standard deviation": round(found.score.std().item(), 4)}


def asked(run):
    """What needs no trained policy: deeds, the formula's shares, and how the unit on training requests compares."""
    deeds = run.deeds()
    formulas = {f"formula {beta:g}": {kind: {"refuses": formula(deeds[kind], beta)} for kind in deeds} for beta in BETAS}
    return {"deeds": deeds, "unit": run.unit()}, formulas


def arms(seed):
    """Every arm of one seed."""
    start, out = time.process_time(), {}
    run = Pipeline(seed)
    for name, exam in {"SFT": run.before, "best of 8": run.before.best_of(8),
                       "best of 8 by gold": run.before.best_of(8, "gold"), "one sentence": run.sentence()}.items():
        out[name] = run.numbers(exam)
    for beta in BETAS:
        now = time.process_time()
        policy, seen = run.ppo(beta, watch=beta == BETAS[0])
        if seen:
            curves = {f"{what} {kind}": [round(e.of(kind).mean(what), 4) for e in seen]
                      for kind in ("harmful", "lookalike") for what in ("score", "gold", "refuses")}
        out[f"PPO {beta:g}"] = run.numbers(run.exam(policy)) | {"seconds": round(time.process_time() - now, 1)}
    now = time.process_time()
    out["DPO"] = run.numbers(run.exam(run.dpo())) | {"seconds": round(time.process_time() - now, 1)}
    found, formulas = asked(run)
    return found | {"pairs": len(run.pairs), "arms": out | formulas, "curves": curves,
                    "seconds": round(time.process_time() - start)}


def balanced(seed):
    """The same pipeline where half of the compared requests are look-alikes, up to PPO with the smallest beta."""
    run = Pipeline(seed, share=0.5)
    policy, _ = run.ppo(BETAS[0])
    return {"pairs": len(run.pairs), "deeds": run.deeds(),
            "arms": {"SFT": run.numbers(run.before), f"PPO {BETAS[0]:g}": run.numbers(run.exam(policy)),
                     "best of 8": run.numbers(run.before.best_of(8)), "one sentence": run.numbers(run.sentence())}}


def formula(deeds, beta):
    """Share of refusals under p exp(score / beta) / Z, from the deeds of one kind of request."""
    rows = {name: row for name, row in deeds.items() if isinstance(row, dict)}
    p, score = (torch.tensor([row[what] for row in rows.values()], dtype=torch.float64) for what in ("share", "score"))
    q = torch.softmax(p.log() + score / beta, 0)
    return round(sum(x.item() for x, name in zip(q, rows, strict=True) if "refus" in name), 4)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--asked", action="store_true", help="train no policy again: only what the SFT model's answers tell")
    parser.add_argument("--balanced", action="store_true", help="only the run with as many look-alikes as harmful requests")
    args = parser.parse_args()
    for seed in args.seeds:
        if args.balanced:
            found = {"balanced": balanced(seed)}
        elif args.asked:
            found, formulas = asked(Pipeline(seed))
            found |= {"arms": json.loads(HERE.read_text())["arms"][str(seed)] | formulas}
        else:
            found = arms(seed)
        kept = json.loads(HERE.read_text()) if HERE.exists() else {}
        for part, values in found.items():
            kept[part] = kept.get(part, {}) | {str(seed): values}
        curves = {f"{name} {k}": y for k, one in sorted(kept.get("curves", {}).items()) for name, y in one.items()}
        kept |= {"curve": {"step": [0, 3, 6, 9, 12]} | curves,
                 "command": "python data/runs/04_village.py", "model": "village-3m-sft",
                 "seed": sorted(map(int, kept.get("arms", {}))),
                 "versions": {"python": platform.python_version(), "torch": torch.__version__,
                              "transformers": transformers.__version__},
                 "hardware": f"1 thread, {platform.machine()}", "date": str(date.today())}
        HERE.write_text(json.dumps(kept, indent=1) + "\n")
        print(f"seed {seed}: done", flush=True)


if __name__ == "__main__":
    main()
