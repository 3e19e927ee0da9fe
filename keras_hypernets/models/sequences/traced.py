"""Functions of a model that TensorFlow traces once, not at every call."""

import functools
import weakref
from collections.abc import Callable

import keras

_FUNCTIONS = weakref.WeakKeyDictionary()  # of each model, with which they go


def traced(function: Callable, model: keras.Model, **options: object) -> Callable:
    """Returns `function` with `model` as its first argument, the same one at every call.

    With TensorFlow it is a `tf.function` with these options, which knows its graphs and makes a
    general one when sizes of arrays change; elsewhere the options mean nothing.
    """
    known = _FUNCTIONS.setdefault(model, {})
    key = function, *sorted(options.items())
    if key not in known:
        # Of a partial TensorFlow counts the graphs by itself. Those of a function defined here it
        # would add up for all functions and models, and warn of retracing at the fifth.
        call = functools.partial(_call, function, weakref.ref(model))
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            call = tf.function(call, autograph=False, reduce_retracing=True, **options)
        known[key] = call
    return known[key]


def _call(function, reference, *arguments):
    return function(reference(), *arguments)
