"""Checks of arguments: each error names the argument, the rule and what was received."""

import math
import numbers


def positive_integer(name, value):
    """Returns `value` as an int, or raises ValueError unless it is an integer above 0."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value <= 0:
        raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
    return int(value)


def number(name, value, rule="a finite number", allowed=lambda value: True):
    """Returns `value` as a float, or raises ValueError unless it is finite and allowed."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not math.isfinite(value) or not allowed(value):
        raise ValueError(f"`{name}` must be {rule}. Received: {name}={value!r}")
    return float(value)


def positive_number(name, value):
    return number(name, value, "a number above 0", lambda value: value > 0)


def nonnegative_number(name, value):
    return number(name, value, "a number of at least 0", lambda value: value >= 0)


def rate(name, value):
    return number(name, value, "a number in [0, 1)", lambda value: 0 <= value < 1)


def one_of(name, value, allowed):
    """Returns `value`, or raises ValueError unless it is one of the names in `allowed`."""
    if value not in allowed:
        names = ", ".join(repr(a) for a in allowed)
        raise ValueError(f"`{name}` must be one of {names}. Received: {name}={value!r}")
    return value
