"""Files that `data.save_jsonl` writes, given to TRL's trainers as they are: each takes a step on one of them.

    python -m benchmarks.oracle_files            in the environment of `make oracle`; prints the losses
"""

import tempfile
from pathlib import Path

from benchmarks.speed_trainers import config
from rlhf_minimal import models
from rlhf_minimal.data import load_data, save_jsonl

ROWS = 8


def trainers():
    """{trainer: (class, its settings, kind of rows)}."""
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

    return {"SFTTrainer": (SFTTrainer, SFTConfig, "demonstrations"), "DPOTrainer": (DPOTrainer, DPOConfig, "pairs"),
            "RewardTrainer": (RewardTrainer, RewardConfig, "pairs"), "KTOTrainer": (KTOTrainer, KTOConfig, "unpaired")}


def one_step(name, folder):
    """A trainer's loss after one step on a file of the village -> {"rows", "columns", "loss"}."""
    from datasets import load_dataset
    from transformers import AutoModelForSequenceClassification

    kind, settings, rows = trainers()[name]
    path = save_jsonl(load_data("village", rows, n=ROWS), Path(folder) / f"{rows}.jsonl")
    data = load_dataset("json", data_files=str(path), split="train")
    model, tokenizer = models.load("village-3m-sft")
    if name == "RewardTrainer":
        model = AutoModelForSequenceClassification.from_pretrained(models.SHIPPED / "village-3m-sft", num_labels=1)
        model.config.pad_token_id = tokenizer.pad_token_id
    args = config(settings, max_steps=1, per_device_train_batch_size=ROWS)
    trainer = kind(model=model, args=args, train_dataset=data, processing_class=tokenizer)
    return {"rows": rows, "columns": data.column_names, "loss": trainer.train().training_loss}


def measure():
    """{trainer: what one step gave}; a trainer that cannot take the file raises."""
    with tempfile.TemporaryDirectory() as folder:
        return {name: one_step(name, folder) for name in trainers()}


if __name__ == "__main__":
    for name, found in measure().items():
        print(f"{name}: {found['rows']}.jsonl, loss {found['loss']:.4f}")
