"""Checks of arguments. Each error names the argument, the rule and the received value."""

import math
import numbers
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras


def integer(name: str, value: Any, rule: str, allowed: Callable[[int], bool]) -> int:
    """Returns `value` as an int, or raises ValueError unless it is an integer and allowed."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not allowed(value):
        raise ValueError(f"`{name}` must be {rule}. Received: {name}={value!r}")
    return int(value)


def positive_integer(name: str, value: Any) -> int:
    value = integer(name, value, "a positive integer", lambda value: value > 0)
    # No tensor has a larger axis, and later errors would not name the argument.
    return integer(name, value, "below 2**31", lambda value: value < 2**31)


def positive_integers(name: str, values: Any) -> tuple[int, ...]:
    """Returns `values` as a tuple, or raises ValueError unless they are positive integers."""
    if not isinstance(values, (list, tuple)):
        raise ValueError(
            f"`{name}` must be a tuple of positive integers. Received: {name}={values!r}"
        )
    return tuple(positive_integer(name, value) for value in values)


def seed_integer(name: str, value: Any, end: int = 2**31) -> int:
    return integer(name, value, "an integer of 32 bits", lambda value: -(2**31) <= value < end)


def number(
    name: str,
    value: Any,
    rule: str = "a finite number",
    allowed: Callable[[float], bool] = lambda value: True,
) -> float:
    """Returns `value` as a float, or raises ValueError unless it is finite and allowed."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not _is_finite(value) or not allowed(value):
        raise ValueError(f"`{name}` must be {rule}. Received: {name}={value!r}")
    return float(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def positive_number(name: str, value: Any) -> float:
    return number(name, value, "a number above 0", lambda value: value > 0)


def at_least_zero(name: str, value: Any) -> float:
    return number(name, value, "a number of at least 0", lambda value: value >= 0)


def rate(name: str, value: Any) -> float:
    return number(name, value, "a number in [0, 1)", lambda value: 0 <= value < 1)


def share(name: str, value: Any) -> float:
    return number(name, value, "a number in (0, 1]", lambda value: 0 < value <= 1)


def boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be True or False. Received: {name}={value!r}")
    return value


def one_of(name: str, value: Any, allowed: Sequence) -> Any:
    """Returns `value`, or raises ValueError unless it is one of the names in `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        names = ", ".join(repr(a) for a in allowed)
        raise ValueError(f"`{name}` must be one of {names}. Received: {name}={value!r}")
    return value


def keras_object(name: str, value: Any) -> Any:
    """Returns the activation, initializer, regularizer or constraint that Keras gets for `value`.

    The last word of the argument's name says which of these it is. `None` is not an initializer.
    """
    kind = name.rpartition("_")[2]
    try:
        found = getattr(keras, f"{kind}s").get(value)
        if found is None and kind == "initializer":
            raise ValueError("none given")
    except Exception as error:  # of many kinds, which do not name the argument
        article = "an" if kind[0] in "ai" else "a"
        raise ValueError(
            f"`{name}` must be {article} {kind} of Keras, its name or a function. "
            f"Received: {name}={value!r} ({error})"
        ) from error
    return found


def path(name: str, value: Any) -> str:
    """Returns a path as a string, or raises ValueError if it is not a path."""
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else ""
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"`{name}` must be a path. Received: {name}={value!r}")
    return text


def image_shape(value: object, least: int, dynamic: bool = False) -> tuple:
    """Returns `(height, width, channels)`, at least `least` x `least`, or None if `dynamic`."""
    shape = tuple(value) if isinstance(value, (tuple, list)) else ()
    sizes = [size for size in shape[:2] if not (dynamic and size is None)]
    whole = all(
        isinstance(n, numbers.Integral) and not isinstance(n, bool) and n < 2**31
        for n in (*sizes, *shape[2:])
    )
    if len(shape) != 3 or not whole or min(sizes, default=least) < least or shape[2] < 1:
        raise ValueError(
            f"`input_shape` must be (height, width, channels) of at least {least} x {least}. "
            f"Received: input_shape={value!r}"
        )
    return shape


def array(name: str, value: Any, layout: str, kind: str, ranks: Sequence[int]) -> Any:
    """Returns `value`, or raises ValueError unless it is an array of this kind and rank."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is None or len(shape) not in ranks or kind not in str(dtype):
        raise ValueError(
            f"`{name}` must be an array {layout} of {kind}. Received: {name}={value!r}"
        )
    return value
