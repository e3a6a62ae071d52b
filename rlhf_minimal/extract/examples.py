"""An example for each algorithm, with a tokenizer, prompts and a reward or labels: what `extract` puts at the end of a file.

Each runs in seconds on a random tiny GPT-2 that reads bytes, or on a model of yours, by its name. Imports stand inside the
functions, so that a file takes only what its own example needs.
"""

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, ByT5Tokenizer, GPT2Config, GPT2LMHeadModel


def load(name: str | None, seed: int = 0):
    """(model, tokenizer) by name, from the hub or a folder; without a name, a random tiny GPT-2 that reads bytes."""
    torch.manual_seed(seed)
    if name:
        return AutoModelForCausalLM.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    tokenizer = ByT5Tokenizer(extra_ids=0)
    tiny = GPT2Config(vocab_size=len(tokenizer), n_embd=64, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=1)
    return GPT2LMHeadModel(tiny).eval(), tokenizer


def encode(tokenizer, texts: list[str]) -> list[list[int]]:
    """The ids of each text, nothing added. For a chat model, put the text into its template first."""
    return [tokenizer.encode(text, add_special_tokens=False) for text in texts]


def batch_of(tokenizer, rows: list[tuple[str, str]]) -> dict[str, Tensor]:
    """Rows of (prompt, answer) -> ids, attention, mask, (B,L) each; the mask is 1 on the answer and the end token after it."""
    from ..tensors import pad_right

    prompts = encode(tokenizer, [prompt for prompt, _ in rows])
    answers = [ids + [tokenizer.eos_token_id] for ids in encode(tokenizer, [answer for _, answer in rows])]
    ids, attention = pad_right([p + a for p, a in zip(prompts, answers, strict=True)])
    mask, _ = pad_right([[0] * len(p) + [1] * len(a) for p, a in zip(prompts, answers, strict=True)])
    return {"ids": ids, "attention": attention, "mask": mask.float()}


# ---- demonstrations, comparisons, labels ----

def example_sft(name: str | None = None, *, steps: int = 10) -> dict[str, Tensor]:
    """Learn to answer as in a few demonstrations. Put yours here."""
    from ..sft import step

    model, tokenizer = load(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5 if name else 3e-3)
    demonstrations = [("Name a fruit.", " An apple."), ("Say hello.", " Hello to you."), ("Count to three.", " One, two, three.")]
    batch = batch_of(tokenizer, demonstrations)
    for i in range(steps):
        stats = step(model, optimizer, batch)
        print(f"step {i}: loss {stats['loss']:.3f} nats per token, perplexity {stats['perplexity']:.2f}")
    return stats


def example_reward_model(name: str | None = None, *, steps: int = 10) -> dict[str, Tensor]:
    """Learn which of two answers people prefer. Put your labelled pairs here."""
    from ..reward_model import RewardModel, step

    language_model, tokenizer = load(name)
    model = RewardModel(language_model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5 if name else 1e-3)
    pairs = [("Name a fruit.", " An apple.", " A stone."), ("Say hello.", " Hello to you.", " Go away.")]  # chosen, rejected
    chosen, rejected = [(p, good) for p, good, _ in pairs], [(p, bad) for p, _, bad in pairs]
    batch = batch_of(tokenizer, chosen + rejected)
    for i in range(steps):
        stats = step(model, optimizer, batch)
        print(f"step {i}: loss {stats['loss']:.3f}, accuracy {stats['accuracy']:.2f}")
    with torch.no_grad():
        print("scores:", model(batch["ids"], batch["attention"]).tolist())
    return stats


def example_process_reward(name: str | None = None, *, steps: int = 10) -> dict[str, Tensor]:
    """Learn which steps of an answer are right. Put your labelled steps here; a step ends with its line."""
    from ..forward import hidden_states
    from ..models import ScalarHead
    from ..process_reward import process_loss

    model, tokenizer = load(name)
    head = ScalarHead(model.config.hidden_size)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=1e-5 if name else 1e-3)
    lines = ["2 + 3 = 5\n", "5 + 4 = 9\n", "9 + 1 = 11\n"]
    right = [1, 1, 0]
    ids = [encode(tokenizer, [text])[0] for text in lines]
    labels = torch.tensor([sum(([-100] * (len(x) - 1) + [y] for x, y in zip(ids, right, strict=True)), [])])
    ids = torch.tensor([sum(ids, [])])
    for i in range(steps):
        loss, stats = process_loss(head(hidden_states(model, ids, torch.ones_like(ids))), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {i}: loss {stats['loss']:.3f}, accuracy {stats['accuracy']:.2f}")
    return stats


# ---- sampled answers and a reward ----

def example_best_of_n(name: str | None = None) -> dict[str, Tensor]:
    """Draw eight answers to each prompt and keep the best. Put your prompts and your reward here."""
    from ..best_of_n import kl_bound, select
    from ..sampling import sample

    model, tokenizer = load(name)
    prompts = ["Name a fruit.", "Say hello."]

    def reward(prompt, answer):
        return sum(letter.isalpha() for letter in answer) / max(len(answer), 1)

    rollout = sample(model, encode(tokenizer, prompts), n=8, max_new_tokens=16, eos_id=tokenizer.eos_token_id)
    answers = rollout.texts(tokenizer)
    score = torch.tensor([reward(prompts[g], text) for g, text in zip(rollout.group, answers, strict=True)])
    best = select(score, 8)
    for i in best.tolist():
        print(f"{prompts[rollout.group[i]]} -> {answers[i]!r}, score {score[i]:.3f}")
    stats = {"score": score.mean(), "best": score[best].mean(), "KL at most": torch.tensor(kl_bound(8))}
    print(", ".join(f"{key} {value:.3f}" for key, value in stats.items()))
    return stats


def example_filtering(name: str | None = None) -> dict[str, Tensor]:
    """Choose which sampled answers go on to fine-tuning. Put your prompts and your reward here."""
    from ..filtering import accept, top_per_prompt
    from ..sampling import sample

    model, tokenizer = load(name)
    prompts = ["Name a fruit.", "Say hello."]

    def reward(prompt, answer):
        return sum(letter.isalpha() for letter in answer) / max(len(answer), 1)

    rollout = sample(model, encode(tokenizer, prompts), n=8, max_new_tokens=16, eos_id=tokenizer.eos_token_id)
    answers = rollout.texts(tokenizer)
    score = torch.tensor([reward(prompts[g], text) for g, text in zip(rollout.group, answers, strict=True)])
    best, kept = top_per_prompt(score, 8, k=2), accept(score, 0.2, highest=1.0)
    for i in best.tolist():
        print(f"{prompts[rollout.group[i]]} -> {answers[i]!r}, score {score[i]:.3f}")
    stats = {"score": score.mean(), "best two": score[best].mean(), "accepted": torch.tensor(len(kept))}
    print(", ".join(f"{key} {value:.3f}" for key, value in stats.items()))
    return stats


def example_reinforce(name: str | None = None, *, steps: int = 10) -> dict[str, Tensor]:
    """Train on prompts and a reward of your own."""
    from ..reinforce import step
    from ..sampling import sample

    policy, tokenizer = load(name)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-6 if name else 1e-2)
    prompts, baseline = ["Name a fruit.", "Say hello."], 0.0

    def reward(prompt, answer):  # the share of letters
        return sum(letter.isalpha() for letter in answer) / max(len(answer), 1)

    for i in range(steps):
        rollout = sample(policy, encode(tokenizer, prompts), n=8, max_new_tokens=16, eos_id=tokenizer.eos_token_id)
        answers = zip(rollout.group, rollout.texts(tokenizer), strict=True)
        score = torch.tensor([reward(prompts[g], text) for g, text in answers])
        stats = step(policy, optimizer, rollout, score, baseline=baseline)
        baseline = score.mean()  # of the batch before
        print(f"batch {i}: score {stats['score']:.3f}")
    return stats


def example_rloo(name: str | None = None, *, steps: int = 10) -> dict[str, Tensor]:
    """Train on prompts and a reward of your own, held near the start by a KL penalty."""
    from ..models import frozen_copy
    from ..rloo import step
    from ..rollout import completion_logps
    from ..sampling import sample

    policy, tokenizer = load(name)
    reference, optimizer = frozen_copy(policy), torch.optim.AdamW(policy.parameters(), lr=1e-6 if name else 1e-2)
    prompts = ["Name a fruit.", "Say hello."]

    def reward(prompt, answer):  # the share of letters
        return sum(letter.isalpha() for letter in answer) / max(len(answer), 1)

    for i in range(steps):
        rollout = sample(policy, encode(tokenizer, prompts), n=8, max_new_tokens=16, eos_id=tokenizer.eos_token_id)
        answers = zip(rollout.group, rollout.texts(tokenizer), strict=True)
        score = torch.tensor([reward(prompts[g], text) for g, text in answers])
        with torch.no_grad():
            logp_ref = completion_logps(reference, rollout)
        stats = step(policy, optimizer, rollout, score, group_size=8, logp_ref=logp_ref, beta=0.01)
        print(f"batch {i}: score {stats['score']:.3f}, KL {stats['kl']:.3f}")
    return stats


def example_ppo(name: str | None = None, *, steps: int = 10) -> dict[str, Tensor]:
    """Train on prompts and a reward of your own, held near the start by a KL penalty."""
    from ..models import frozen_copy
    from ..ppo import Critic, step
    from ..rollout import completion_logps
    from ..sampling import sample

    policy, tokenizer = load(name)
    critic, reference = Critic(policy), frozen_copy(policy)
    optimizer = torch.optim.AdamW([*policy.parameters(), *critic.parameters()], lr=1e-6 if name else 3e-3)
    prompts = ["Name a fruit.", "Say hello."]

    def reward(prompt, answer):  # the share of letters
        return sum(letter.isalpha() for letter in answer) / max(len(answer), 1)

    for i in range(steps):
        rollout = sample(policy, encode(tokenizer, prompts), n=8, max_new_tokens=16, eos_id=tokenizer.eos_token_id)
        answers = zip(rollout.group, rollout.texts(tokenizer), strict=True)
        score = torch.tensor([reward(prompts[g], text) for g, text in answers])
        with torch.no_grad():
            logp_ref = completion_logps(reference, rollout)
        stats = step(policy, optimizer, rollout, score, critic=critic, logp_ref=logp_ref, beta=0.01, minibatches=2)
        print(f"batch {i}: score {stats['score']:.3f}, KL {stats['kl']:.3f}, value loss {stats['value_loss']:.3f}")
    return stats


def example_grpo(name: str | None = None, *, steps: int = 10) -> dict[str, Tensor]:
    """Train on prompts and a reward of your own, held near the start by a KL penalty."""
    from ..grpo import step
    from ..models import frozen_copy
    from ..rollout import completion_logps
    from ..sampling import sample

    policy, tokenizer = load(name)
    reference, optimizer = frozen_copy(policy), torch.optim.AdamW(policy.parameters(), lr=1e-6 if name else 1e-2)
    prompts = ["Name a fruit.", "Say hello."]

    def reward(prompt, answer):  # the share of letters
        return sum(letter.isalpha() for letter in answer) / max(len(answer), 1)

    for i in range(steps):
        rollout = sample(policy, encode(tokenizer, prompts), n=8, max_new_tokens=16, eos_id=tokenizer.eos_token_id)
        answers = zip(rollout.group, rollout.texts(tokenizer), strict=True)
        score = torch.tensor([reward(prompts[g], text) for g, text in answers])
        with torch.no_grad():
            logp_ref = completion_logps(reference, rollout)
        stats = step(policy, optimizer, rollout, score, group_size=8, logp_ref=logp_ref, beta=0.01)
        print(f"batch {i}: score {stats['score']:.3f}, KL {stats['kl']:.3f}")
    return stats


def example_drgrpo(name: str | None = None, *, steps: int = 10) -> dict[str, Tensor]:
    """Dr. GRPO is GRPO without the division by the group's spread and by each answer's length."""
    from ..grpo import step
    from ..sampling import sample

    policy, tokenizer = load(name)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-6 if name else 1e-2)
    prompts = ["Name a fruit.", "Say hello."]

    def reward(prompt, answer):  # the share of letters
        return sum(letter.isalpha() for letter in answer) / max(len(answer), 1)

    for i in range(steps):
        rollout = sample(policy, encode(tokenizer, prompts), n=8, max_new_tokens=16, eos_id=tokenizer.eos_token_id)
        answers = zip(rollout.group, rollout.texts(tokenizer), strict=True)
        score = torch.tensor([reward(prompts[g], text) for g, text in answers])
        stats = step(policy, optimizer, rollout, score, group_size=8, scale=False, mode="fixed")
        print(f"batch {i}: score {stats['score']:.3f}")
    return stats


def example_gspo(name: str | None = None, *, steps: int = 10) -> dict[str, Tensor]:
    """Train on prompts and a reward of your own."""
    from ..grpo import gspo_loss
    from ..models import disable_dropout
    from ..optim import update
    from ..rollout import completion_logps
    from ..sampling import sample

    policy, tokenizer = load(name)
    optimizer = torch.optim.AdamW(disable_dropout(policy).parameters(), lr=1e-6 if name else 1e-2)
    prompts = ["Name a fruit.", "Say hello."]

    def reward(prompt, answer):  # the share of letters
        return sum(letter.isalpha() for letter in answer) / max(len(answer), 1)

    for i in range(steps):
        rollout = sample(policy, encode(tokenizer, prompts), n=8, max_new_tokens=16, eos_id=tokenizer.eos_token_id)
        answers = zip(rollout.group, rollout.texts(tokenizer), strict=True)
        score = torch.tensor([reward(prompts[g], text) for g, text in answers])
        logp = completion_logps(policy, rollout)
        loss, stats = gspo_loss(logp, rollout.logp_old, score, rollout.mask, group_size=8)
        update(loss, optimizer)
        print(f"batch {i}: score {score.mean():.3f}")
    return stats | {"score": score.mean()}


def example_trpo(name: str | None = None, *, steps: int = 3) -> dict[str, Tensor]:
    """Train on prompts and a reward of your own; each batch moves the policy by at most half a nat."""
    from ..sampling import sample
    from ..trpo import step

    policy, tokenizer = load(name)
    prompts = ["Name a fruit.", "Say hello."]

    def reward(prompt, answer):  # the share of letters
        return sum(letter.isalpha() for letter in answer) / max(len(answer), 1)

    for i in range(steps):
        rollout = sample(policy, encode(tokenizer, prompts), n=8, max_new_tokens=16, eos_id=tokenizer.eos_token_id)
        answers = zip(rollout.group, rollout.texts(tokenizer), strict=True)
        score = torch.tensor([reward(prompts[g], text) for g, text in answers])
        stats = step(policy, rollout, score, group_size=8, delta=0.5)
        print(f"batch {i}: score {stats['score']:.3f}, moved by {stats['kl_old']:.4f} nats")
    return stats


def example_p3o(name: str | None = None, *, steps: int = 10) -> dict[str, Tensor]:
    """Train on prompts and a reward of your own; two answers to each prompt."""
    from ..p3o import step
    from ..sampling import sample

    policy, tokenizer = load(name)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-6 if name else 1e-2)
    prompts = ["Name a fruit.", "Say hello.", "Count to three.", "What is the time?"]

    def reward(prompt, answer):  # the share of letters
        return sum(letter.isalpha() for letter in answer) / max(len(answer), 1)

    for i in range(steps):
        rollout = sample(policy, encode(tokenizer, prompts), n=2, max_new_tokens=16, eos_id=tokenizer.eos_token_id)
        answers = zip(rollout.group, rollout.texts(tokenizer), strict=True)
        score = torch.tensor([reward(prompts[g], text) for g, text in answers])
        stats = step(policy, optimizer, rollout, score)
        print(f"batch {i}: score {stats['score']:.3f}")
    return stats


def example_distillation(name: str | None = None, teacher_name: str | None = None, *, steps: int = 10) -> dict[str, Tensor]:
    """Correct a student on its own texts by a teacher with the same vocabulary. Put your prompts here."""
    from ..distillation import step
    from ..rollout import completion_logps
    from ..sampling import sample

    teacher, _ = load(teacher_name or name, seed=1)
    student, tokenizer = load(name)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-6 if name else 3e-3)
    prompts = ["Name a fruit.", "Say hello."]
    for i in range(steps):
        rollout = sample(student, encode(tokenizer, prompts), n=8, max_new_tokens=16, eos_id=tokenizer.eos_token_id)
        with torch.no_grad():
            logp_teacher = completion_logps(teacher, rollout)
        stats = step(student, optimizer, rollout, logp_teacher)
        print(f"batch {i}: KL to the teacher {stats['kl']:.3f} nats per text")
    return stats


# ---- pairs, thumbs, rewards of texts that exist already ----

def example_dpo(name: str | None = None, *, steps: int = 10) -> dict[str, Tensor]:
    """Train on pairs of your own."""
    from ..direct_alignment import dpo_loss, pair_logps, step
    from ..models import frozen_copy

    policy, tokenizer = load(name)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-6 if name else 1e-3)
    pairs = [("Name a fruit.", " An apple.", " A stone."), ("Say hello.", " Hello to you.", " Go away.")]  # chosen, rejected
    chosen, rejected = [(p, good) for p, good, _ in pairs], [(p, bad) for p, _, bad in pairs]
    batch = batch_of(tokenizer, chosen + rejected)
    with torch.no_grad():
        batch["ref_chosen"], batch["ref_rejected"] = pair_logps(frozen_copy(policy), batch)
    for i in range(steps):
        stats = step(policy, optimizer, batch, loss_fn=dpo_loss, beta=0.1)
        print(f"step {i}: loss {stats['loss']:.3f}, margin {stats['margin']:.3f}, accuracy {stats['accuracy']:.2f}")
    return stats


def example_length_dpo(name: str | None = None, *, steps: int = 10) -> dict[str, Tensor]:
    """Train on pairs of your own, without paying for length."""
    from ..direct_alignment import length_dpo_loss, pair_logps, step
    from ..models import frozen_copy

    policy, tokenizer = load(name)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-6 if name else 1e-3)
    pairs = [("Name a fruit.", " An apple.", " A stone."), ("Say hello.", " Hello to you.", " Go away.")]  # chosen, rejected
    chosen, rejected = [(p, good) for p, good, _ in pairs], [(p, bad) for p, _, bad in pairs]
    batch = batch_of(tokenizer, chosen + rejected)
    with torch.no_grad():
        batch["ref_chosen"], batch["ref_rejected"] = pair_logps(frozen_copy(policy), batch)
    lengths = dict(zip(("len_chosen", "len_rejected"), batch["mask"].sum(1).chunk(2), strict=True))
    for i in range(steps):
        stats = step(policy, optimizer, batch, loss_fn=length_dpo_loss, **lengths)
        print(f"step {i}: loss {stats['loss']:.3f}, margin {stats['margin']:.3f}, accuracy {stats['accuracy']:.2f}")
    return stats


def example_simpo(name: str | None = None, *, steps: int = 10) -> dict[str, Tensor]:
    """Train on pairs of your own, without a reference."""
    from ..direct_alignment import simpo_loss, step

    policy, tokenizer = load(name)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-6 if name else 1e-3)
    pairs = [("Name a fruit.", " An apple.", " A stone."), ("Say hello.", " Hello to you.", " Go away.")]  # chosen, rejected
    chosen, rejected = [(p, good) for p, good, _ in pairs], [(p, bad) for p, _, bad in pairs]
    batch = batch_of(tokenizer, chosen + rejected)
    for i in range(steps):
        stats = step(policy, optimizer, batch, loss_fn=simpo_loss, average=True)  # a mean per token
        print(f"step {i}: loss {stats['loss']:.3f}, margin {stats['margin']:.3f}, accuracy {stats['accuracy']:.2f}")
    return stats


def example_cpo(name: str | None = None, *, steps: int = 10) -> dict[str, Tensor]:
    """Train on pairs of your own, without a reference."""
    from ..direct_alignment import cpo_loss, step

    policy, tokenizer = load(name)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-6 if name else 3e-3)
    pairs = [("Name a fruit.", " An apple.", " A stone."), ("Say hello.", " Hello to you.", " Go away.")]  # chosen, rejected
    chosen, rejected = [(p, good) for p, good, _ in pairs], [(p, bad) for p, _, bad in pairs]
    batch = batch_of(tokenizer, chosen + rejected)
    for i in range(steps):
        stats = step(policy, optimizer, batch, loss_fn=cpo_loss)
        print(f"step {i}: loss {stats['loss']:.3f}, margin {stats['margin']:.3f}, accuracy {stats['accuracy']:.2f}")
    return stats


def example_cpl(name: str | None = None, *, steps: int = 10) -> dict[str, Tensor]:
    """Train on pairs of your own, without a reference."""
    from ..direct_alignment import cpl_loss
    from ..logprobs import token_logps
    from ..models import disable_dropout
    from ..optim import update

    policy, tokenizer = load(name)
    optimizer = torch.optim.AdamW(disable_dropout(policy).parameters(), lr=1e-6 if name else 1e-3)
    pairs = [("Name a fruit.", " An apple.", " A stone."), ("Say hello.", " Hello to you.", " Go away.")]  # chosen, rejected
    chosen, rejected = [(p, good) for p, good, _ in pairs], [(p, bad) for p, _, bad in pairs]
    batch = batch_of(tokenizer, chosen + rejected)
    mask = batch["mask"][:, 1:]
    for i in range(steps):
        logps = token_logps(policy, batch["ids"], batch["attention"], wanted=mask)
        loss, stats = cpl_loss(*logps.chunk(2), *mask.chunk(2))
        update(loss, optimizer)
        print(f"step {i}: loss {stats['loss']:.3f}, margin {stats['margin']:.3f}, accuracy {stats['accuracy']:.2f}")
    return stats


def example_kto(name: str | None = None, *, steps: int = 10) -> dict[str, Tensor]:
    """Train on single answers of your own, each with a thumb up or down."""
    from ..direct_alignment import kto_loss
    from ..logprobs import sequence_logps
    from ..models import disable_dropout, frozen_copy
    from ..optim import update

    policy, tokenizer = load(name)
    reference, optimizer = frozen_copy(policy), torch.optim.AdamW(policy.parameters(), lr=1e-6 if name else 1e-3)
    rows = [("Name a fruit.", " An apple.", 1), ("Say hello.", " Go away.", 0), ("Count to three.", " One, two, three.", 1)]
    batch = batch_of(tokenizer, [(prompt, answer) for prompt, answer, _ in rows])
    mismatched = batch_of(tokenizer, [(rows[i - 1][0], answer) for i, (_, answer, _) in enumerate(rows)])
    desirable = torch.tensor([thumb for _, _, thumb in rows])
    with torch.no_grad():
        ref, ref_mismatched = sequence_logps(reference, **batch), sequence_logps(reference, **mismatched)
    for i in range(steps):
        with torch.no_grad():
            kl_reference = sequence_logps(policy, **mismatched) - ref_mismatched
        loss, stats = kto_loss(sequence_logps(disable_dropout(policy), **batch) - ref, desirable, kl_reference)
        update(loss, optimizer)
        print(f"step {i}: loss {stats['loss']:.3f}, rewards {stats['rewards/desirable']:.3f}, {stats['rewards/undesirable']:.3f}")
    return stats


def example_direct_alignment(name: str | None = None, *, steps: int = 5) -> dict[str, Tensor]:
    """Train on pairs of your own, with one loss after another; each begins with the same model."""
    from ..direct_alignment import dpo_loss, hinge_loss, ipo_loss, pair_logps, step
    from ..models import frozen_copy

    pairs = [("Name a fruit.", " An apple.", " A stone."), ("Say hello.", " Hello to you.", " Go away.")]  # chosen, rejected
    chosen, rejected = [(p, good) for p, good, _ in pairs], [(p, bad) for p, _, bad in pairs]
    for loss_fn in (hinge_loss, ipo_loss, dpo_loss):
        policy, tokenizer = load(name)
        optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-6 if name else 1e-3)
        batch = batch_of(tokenizer, chosen + rejected)
        with torch.no_grad():
            batch["ref_chosen"], batch["ref_rejected"] = pair_logps(frozen_copy(policy), batch)
        for _ in range(steps):
            stats = step(policy, optimizer, batch, loss_fn=loss_fn, beta=0.1)
        print(f"{loss_fn.__name__}: {stats['loss']:.3f}, margin {stats['margin']:.3f}, accuracy {stats['accuracy']:.2f}")
    return stats


def example_ilql(name: str | None = None, *, steps: int = 10) -> dict[str, Tensor]:
    """Learn what answers are worth from texts and their rewards. Put yours here."""
    from ..ilql import Heads, step

    model, tokenizer = load(name)
    heads = Heads(model)
    optimizer = torch.optim.AdamW([p for p in heads.parameters() if p.requires_grad], lr=1e-5 if name else 1e-3)
    rows = [("Name a fruit.", " An apple.", 1.0), ("Name a fruit.", " A stone.", 0.0), ("Say hello.", " Hello to you.", 1.0)]
    batch = batch_of(tokenizer, [(prompt, answer) for prompt, answer, _ in rows])
    last = batch["attention"].sum(1).long() - 1  # a reward stands on the token that earns it
    reward = torch.zeros_like(batch["attention"])
    reward[torch.arange(len(rows)), last] = torch.tensor([reward for _, _, reward in rows])
    for i in range(steps):
        stats = step(heads, optimizer, batch | {"reward": reward})
        print(f"step {i}: loss {stats['loss']:.3f}, value {stats['value']:.3f}")
    return stats


# ---- which pairs to label, and labels by a model ----

def example_active(name: str | None = None) -> dict[str, Tensor]:
    """Find the pair about which three reward models differ most. Put your pairs here."""
    from ..active import disagreement, most_disputed
    from ..reward_model import RewardModel

    model, tokenizer = load(name)
    pairs = [("Name a fruit.", " An apple.", " A stone."), ("Say hello.", " Hello to you.", " Go away.")]
    first, second = [(p, a) for p, a, _ in pairs], [(p, b) for p, _, b in pairs]
    batch = batch_of(tokenizer, first + second)
    heads = torch.randn(3, model.config.hidden_size)  # stand in for three that were trained from different seeds
    with torch.no_grad():
        scores = [RewardModel(model, head)(batch["ids"], batch["attention"]) for head in heads]
    margins = torch.stack([a - b for a, b in (score.chunk(2) for score in scores)])
    ask = most_disputed(margins, 1)[0]
    print(f"label first: {pairs[ask]}, margins {margins[:, ask].tolist()}")
    return {"label first": ask, "spread": disagreement(margins).max()}


def example_ai_feedback(name: str | None = None) -> dict[str, Tensor]:
    """Let a model say which of two answers is better. Put your questions and answers here."""
    from ..ai_feedback import judge

    model, tokenizer = load(name)
    asks, first, second = ["Name a fruit.", "Say hello."], ["An apple.", "Go away."], ["A stone.", "Hello to you."]
    preference = judge(model, tokenizer, asks, first, second, principle="Which answer is more helpful?")
    for ask, a, b, p in zip(asks, first, second, preference.tolist(), strict=True):
        print(f"{ask} {a!r} is better than {b!r} with probability {p:.3f}")
    return {"preference": preference[0], "the other": preference[1]}
