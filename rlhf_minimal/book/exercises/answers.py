"""What the checks of all chapters do with an answer first: is it a number, or an array of the right shape?"""

import math

import numpy
import torch

from . import Misconception


def tensors(*arrays):
    """Arrays as float64 tensors, for the reader's function."""
    return [torch.as_tensor(a, dtype=torch.float64) for a in arrays]


def number(x, what):
    """The answer as one finite float, or a Misconception."""
    try:
        value = float(x)
    except (TypeError, ValueError):
        said = f"{what} is a {type(x).__name__}, expected one number"
        raise Misconception(said, "the wrong kind of answer") from None
    if not math.isfinite(value):
        raise Misconception(f"{what} is {value}, expected a finite number", "the wrong kind of answer")
    return value


def array(x, shape, what):
    """The answer as a float64 array of a shape, or a Misconception."""
    try:
        x = x.detach().double().numpy() if torch.is_tensor(x) else numpy.asarray(x, dtype=float)
    except (TypeError, ValueError):
        raise Misconception(f"{what} is a {type(x).__name__}, expected numbers", "the wrong kind of answer") from None
    if x.shape != shape:
        raise Misconception(f"{what} has shape {x.shape}, expected {shape}", "the wrong shape")
    return x


def letter(answer, example="a"):
    """The letter that the reader's function returns, in the case of the example, or a Misconception."""
    found = answer()
    if not isinstance(found, str):
        raise Misconception(f'return a letter, such as "{example}"', "the wrong kind of answer")
    found = found.strip().strip("()")
    return found.upper() if example.isupper() else found.lower()


def like(cases, formula, atol=1e-8):
    """Do all answers agree with a formula of their arguments? cases: [(arguments, answer)]"""
    return all(numpy.allclose(got, formula(*arguments), rtol=1e-6, atol=atol) for arguments, got in cases)


def sigmoid(x):
    """1 / (1 + e^-x) of a number or an array."""
    return 1 / (1 + numpy.exp(-numpy.asarray(x, dtype=float)))
