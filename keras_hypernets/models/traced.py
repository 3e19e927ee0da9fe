"""Functions of a model that TensorFlow traces once, not at every call."""

import weakref
from collections.abc import Callable

import keras

_FUNCTIONS = weakref.WeakKeyDictionary()  # of each model, with which they go


def traced(function: Callable, model: keras.Model, **options: object) -> Callable:
    """Returns `function` with `model` as its first argument, the same one at every call.

    With TensorFlow it is a `tf.function` with these options, which knows its graphs for arrays of
    other sizes; elsewhere they mean nothing.
    """
    known = _FUNCTIONS.setdefault(model, {})
    key = function, *sorted(options.items())
    if key not in known:
        reference = weakref.ref(model)

        def call(*arguments):
            return function(reference(), *arguments)

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            call = tf.function(call, autograph=False, **options)
        known[key] = call
    return known[key]
