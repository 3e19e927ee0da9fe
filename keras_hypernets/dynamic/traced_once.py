"""Functions of a cell that are traced and compiled once, not at every call."""

import weakref
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

FEW = 16  # steps that run sooner one by one than a function of them is traced
_MADE = weakref.WeakKeyDictionary()  # by cell, and dropped with it


def traced_once(make: Callable, cell: keras.Layer, *arguments: Any) -> Any:
    """Returns `make(weak reference to the cell, *arguments)`, the same object at every call.

    So functions are traced and compiled once for all models and functions in which the cell runs,
    until an attribute of the cell changes.
    """
    made = known(cell)
    key = make, *arguments
    if key not in made:
        made[key] = make(weakref.ref(cell), *arguments)
    return made[key]


def known(cell: keras.Layer) -> dict:
    """Returns what has been made for a cell with its present attributes."""
    simple = (bool, int, float, str, tuple, type(None))
    attributes = {name: v if type(v) in simple else id(v) for name, v in vars(cell).items()}
    attributes.pop("_called", None)  # Keras sets it in the first call
    before, made = _MADE.get(cell, (None, {}))
    if before != attributes:
        made = {}
        _MADE[cell] = attributes, made
    return made


def compiled_if_eager(
    function: Callable, cell: keras.Layer, sequences: Any, *tensors: Any, static: tuple = ()
) -> Any:
    """Returns `function(cell, *static, sequences, *tensors)`.

    Eager TensorFlow takes 15 ms for a step of a cell, and eager JAX compiles the loop at every
    call. There this traces the function once and calls it with the current weights. The function
    must not change variables.
    """
    if not _runs_eagerly(sequences):
        return function(cell, *static, sequences, *tensors)
    # `convert_to_tensor` would keep variables.
    values = [ops.cast(weight, weight.dtype) for weight in cell.weights]
    return traced_once(_compiled, cell, function, static)(values, sequences, *tensors)


def _runs_eagerly(sequences):
    backend = keras.backend.backend()
    if isinstance(sequences, keras.KerasTensor):
        return False
    if backend == "tensorflow":
        import tensorflow as tf

        return not tf.inside_function() and sequences.shape[1] > FEW
    if backend == "jax":
        import jax

        return not isinstance(sequences, jax.core.Tracer)
    return False


def _compiled(reference, function, static):
    def run(values, *tensors):
        cell = reference()
        with keras.StatelessScope(list(zip(cell.weights, values, strict=True))):
            return function(cell, *static, *tensors)

    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(run)
    import tensorflow as tf

    return tf.function(run, autograph=False, reduce_retracing=True)
