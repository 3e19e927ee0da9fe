"""Traces functions of a model once, not at every call."""

import functools
import weakref
from collections.abc import Callable

import keras

_FUNCTIONS = weakref.WeakKeyDictionary()  # by model, and dropped with it


def traced(function: Callable, model: keras.Model, **options: object) -> Callable:
    """Returns `function` with `model` bound as its first argument, the same one at every call.

    On TensorFlow it is a `tf.function` with these options, which keeps its graphs and generalizes
    them when shapes change. Other backends ignore the options.
    """
    known = _FUNCTIONS.setdefault(model, {})
    key = function, *sorted(options.items())
    if key not in known:
        # TensorFlow counts the graphs of each partial separately. For a function defined here it
        # would add them up over all functions and models, and warn of retracing at the fifth.
        call = functools.partial(_call, function, weakref.ref(model))
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            call = tf.function(call, autograph=False, reduce_retracing=True, **options)
        known[key] = call
    return known[key]


def _call(function, reference, *arguments):
    return function(reference(), *arguments)
