"""A function that a SavedModel offers, with named inputs and outputs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_hypernets.models.sequences import stepping


class Signature(NamedTuple):
    """A function from tensors to a dictionary of tensors.

    Its inputs are `{name: (dtype, shape, example)}` in the order of the function's arguments; an
    example is a small valid value.
    """

    function: Callable[..., dict]
    inputs: dict[str, tuple[str, tuple, Any]]

    def traced(self) -> Any:
        """Traces the function to a graph for inputs of all sizes: this is where it runs."""
        import tensorflow as tf

        specs = [tf.TensorSpec(shape, kind, name) for name, (kind, shape, _) in self.inputs.items()]
        graph = tf.function(self.function, input_signature=specs, autograph=False)
        graph.get_concrete_function()
        return graph


def state_inputs(model: keras.Model) -> dict[str, tuple[str, tuple, Any]]:
    """Returns the inputs of a signature that takes the states of a chain of recurrent layers."""
    states = zip(
        stepping.state_sizes(model).items(), stepping.initial_states(model, 1), strict=True
    )
    return {
        name: (state.dtype, (None, size), np.zeros((1, size))) for (name, size), state in states
    }
