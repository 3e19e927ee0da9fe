"""All states of a chain of recurrent layers after each step of a sequence."""

import itertools
from typing import Any

import keras
from keras import ops

from keras_hypernets.dynamic.recorder import Recorder
from keras_hypernets.models.sequences.stepping import (
    chain,
    check_inputs,
    check_states,
    initial_states,
    recurrent_layers,
)
from keras_hypernets.models.sequences.traced import traced


def state_history(model: keras.Model, inputs: Any, states: list | None = None) -> list:
    """Runs a model over sequences and returns all recurrent states after each step.

    Args:
        model: a chain of recurrent layers, stateful or not; its own states do not change.
        inputs: the model's input `(batch, time, ...)`, ids or vectors.
        states: list of states `(batch, size)` before the first step, in the order of
            `state_sizes`. Default `None`: zeros.

    Returns:
        A list of arrays `(batch, time, size)`, in the order of `state_sizes`.

    Raises:
        ValueError: if `model` is not a chain, or inputs or states have the wrong shape or dtype.

    Example:

    >>> models = keras_hypernets.models
    >>> model = models.char_language_model("abc ", units=16, hyper_units=8, embedding_dim=4)
    >>> ids = model.get_layer("embedding").encode("a cab")[None]
    >>> history = models.sequences.state_history(model, ids)
    >>> [tuple(states.shape) for states in history]  # h, c, hyper_h, hyper_c
    [(1, 5, 16), (1, 5, 16), (1, 5, 8), (1, 5, 8)]
    """
    recurrent_layers(model)
    check_inputs(model, inputs)
    if states is None:
        states = initial_states(model, ops.shape(inputs)[0])
    check_states(model, states)
    # TensorFlow's eager loop would take 100 ms per character.
    return traced(_read, model)(ops.convert_to_tensor(inputs), states)


def _read(model, inputs, states):
    history = []

    def read_all(layer, x, layer_states):
        cell = layer.cell
        sizes = [cell.output_size, *cell.state_size]
        recorder = Recorder(
            cell, lambda output, states: ops.concatenate([output, *states], axis=-1), sum(sizes)
        )
        recorder = keras.layers.RNN(recorder, return_sequences=True, dtype=recorder.dtype_policy)
        record = recorder(x, initial_state=layer_states, training=False)
        record = ops.cast(record, layer.compute_dtype)
        ends = itertools.accumulate(sizes[:-1])
        output, *recorded = ops.split(record, list(ends), axis=-1)
        history.extend(recorded)
        return output, []

    chain(model, inputs, states, read_all)
    return history
