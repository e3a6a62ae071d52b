"""Data: prompts, demonstrations, preference pairs, thumbs and conversations behind one function, in the usual columns."""

from .collate import batches, collate_demonstrations, collate_pairs, compare_answers, prompts_ids
from .columns import last_common_turn
from .load import load_data, save_jsonl
from .pool import Pool, pool, write_pool

__all__ = ["Pool", "batches", "collate_demonstrations", "collate_pairs", "compare_answers", "last_common_turn", "load_data", "pool",
           "prompts_ids", "save_jsonl", "write_pool"]
