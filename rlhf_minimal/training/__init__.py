"""What `train.py` is made of: settings, the job of one process, a step of each algorithm, checkpoints."""
