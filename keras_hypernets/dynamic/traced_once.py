"""Functions of a cell that are traced and compiled once, not at every call."""

import weakref
from collections.abc import Callable
from typing import Any

import keras

_MADE = weakref.WeakKeyDictionary()  # by cell, and dropped with it


def traced_once(make: Callable, cell: keras.Layer, *arguments: Any) -> Any:
    """Returns `make(weak reference to the cell, *arguments)`, the same object at every call.

    So functions are traced and compiled once for all models and functions in which the cell runs,
    until an attribute of the cell changes.
    """
    simple = (bool, int, float, str, tuple, type(None))
    attributes = {name: v if type(v) in simple else id(v) for name, v in vars(cell).items()}
    attributes.pop("_called", None)  # Keras sets it in the first call
    before, made = _MADE.get(cell, (None, {}))
    if before != attributes:
        made = {}
        _MADE[cell] = attributes, made
    key = make, *arguments
    if key not in made:
        made[key] = make(weakref.ref(cell), *arguments)
    return made[key]
