"""`python -m rlhf_minimal.doctor`: the same as `python -m rlhf_minimal doctor`."""

from .commands.doctor import main

if __name__ == "__main__":
    main()
