"""Data: prompts, demonstrations, preference pairs, thumbs and conversations behind one function, in the usual columns."""

from .check import check_prompts, check_rows, reads_alike, ready
from .collate import batches, collate_demonstrations, collate_pairs, compare_answers, encode_row, prompts_ids
from .columns import last_common_turn
from .load import load_data, load_numbered, save_jsonl
from .pool import Pool, pool, write_pool

__all__ = ["Pool", "batches", "check_prompts", "check_rows", "collate_demonstrations", "collate_pairs", "compare_answers",
           "encode_row", "last_common_turn", "load_data", "load_numbered", "pool", "prompts_ids", "reads_alike", "ready",
           "save_jsonl", "write_pool"]
