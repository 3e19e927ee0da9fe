"""Checks of arguments: each error names the argument, the rule and what was received."""

import numbers


def positive_integer(name, value):
    """Returns `value` as an int, or raises ValueError unless it is an integer above 0."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value <= 0:
        raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
    return int(value)


def rate(name, value):
    """Returns `value` as a float, or raises ValueError unless it lies in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= value < 1:
        raise ValueError(f"`{name}` must be a number in [0, 1). Received: {name}={value!r}")
    return float(value)


def positive_number(name, value):
    """Returns `value` as a float, or raises ValueError unless it is a finite number above 0."""
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Real)
        or not 0 < value < float("inf")
    ):
        raise ValueError(f"`{name}` must be a number above 0. Received: {name}={value!r}")
    return float(value)


def one_of(name, value, allowed):
    """Returns `value`, or raises ValueError unless it is one of the names in `allowed`."""
    if value not in allowed:
        names = ", ".join(repr(a) for a in allowed)
        raise ValueError(f"`{name}` must be one of {names}. Received: {name}={value!r}")
    return value
