"""`python -m rlhf_minimal.extract ALGO`: one self-contained file with an algorithm and what it needs."""
from .extraction import main

if __name__ == "__main__":
    main()
