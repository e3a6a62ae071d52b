"""Checkers: programs that read an answer to a sum and say 1 (right) or 0. A verifiable reward is one of these.

    What is 61 + 46?    1 + 6 = 7. 6 + 4 = 10. The result is 107.

Each takes the prompt and the answer, two strings, returns 1.0 or 0.0, and never raises: what cannot be read is 0.
"""
from __future__ import annotations

import re

_NUMBER = re.compile(r"\d+")
_STATED = re.compile(r"result is (\d+)\.")
_EQUATION = re.compile(r"(\d+(?: \+ \d+)+) = (\d+)")


def asked(prompt: str) -> int:
    """The sum of the numbers in a prompt.

    >>> asked("What is 61 + 46?")
    107
    """
    return sum(map(int, _NUMBER.findall(prompt)))


def right(prompt: str, text: str) -> float:
    """1 where the last stated result is the right one. Nothing else counts, not even the working.

    >>> right("What is 61 + 46?", "The result is 107."), right("What is 61 + 46?", "The result is 97.")
    (1.0, 0.0)
    """
    return float(_STATED.findall(text)[-1:] == [str(asked(prompt))])


def states_a_result(prompt: str, text: str) -> float:
    """1 where the answer states any result, right or wrong: a reward for the format only.

    >>> states_a_result("What is 61 + 46?", "The result is 97.")
    1.0
    """
    return float(bool(_STATED.search(text)))


def wrong(prompt: str, text: str) -> float:
    """1 where the answer states a result and the result is wrong: a reward for mistakes.

    >>> wrong("What is 61 + 46?", "The result is 97."), wrong("What is 61 + 46?", "I do not care.")
    (1.0, 0.0)
    """
    return states_a_result(prompt, text) * (1 - right(prompt, text))


def equations(text: str) -> list[bool]:
    """Which of the written additions hold, in their order.

    >>> equations("1 + 6 = 7. 6 + 4 = 9. The result is 97.")
    [True, False]
    """
    return [sum(map(int, _NUMBER.findall(left))) == int(value) for left, value in _EQUATION.findall(text)]


def no_wrong_step(prompt: str, text: str) -> float:
    """1 where a result is stated and no written addition is wrong. **It has a hole**: an answer without any step passes.

    `all` of nothing is true. `every_step_right` closes the hole.

    >>> no_wrong_step("What is 61 + 46?", "The result is 5.")
    1.0
    """
    return states_a_result(prompt, text) * float(all(equations(text)))


def every_step_right(prompt: str, text: str) -> float:
    """1 where a result is stated, there is a written addition for each digit, and all of them hold.

    >>> [every_step_right("What is 61 + 46?", f"{steps}The result is 107.") for steps in ("", "1 + 6 = 7. 6 + 4 = 10. ")]
    [0.0, 1.0]
    """
    steps, digits = equations(text), max(map(len, _NUMBER.findall(prompt)), default=0)
    return states_a_result(prompt, text) * float(len(steps) >= max(1, digits) and all(steps))
