"""rlhf_minimal: post-training of language models from scratch, small enough to read in an evening.

Nothing is imported here: `from rlhf_minimal.grpo import grpo_loss` loads what it needs and no more.
The files, in the order in which data flows, are listed in the README; each imports only from those above it.
"""

__version__ = "0.1.0"
