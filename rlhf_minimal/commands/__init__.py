"""What the command line offers: `python -m rlhf_minimal COMMAND`."""
