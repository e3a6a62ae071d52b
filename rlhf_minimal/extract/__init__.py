"""`python -m rlhf_minimal.extract ALGO`: one self-contained file with an algorithm and what it needs."""
