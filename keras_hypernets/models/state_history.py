"""Reading a text with a character language model, every state on the way kept."""

import itertools
from typing import Any

import keras
from keras import ops

from keras_hypernets.dynamic.recorder import Recorder
from keras_hypernets.models.stepping import chain, check_states, initial_states
from keras_hypernets.models.traced import traced
from keras_hypernets.validation import array


def state_history(model: keras.Model, ids: Any, states: list | None = None) -> list:
    """Reads texts and returns all recurrent states after each of their characters.

    Args:
        model: a model made by `char_language_model`, stateful or not; its own states stay.
        ids: `(batch, time)` integers.
        states: list of states `(batch, size)` before the first character, in the order of
            `state_sizes`. Default `None`: zeros.

    Returns:
        A list of arrays `(batch, time, size)`, in the order of `state_sizes`.

    Raises:
        ValueError: for a model of another kind, or ids or states of another shape or dtype.

    Example:

    >>> models = keras_hypernets.models
    >>> model = models.char_language_model("abc ", units=16, hyper_units=8, embedding_dim=4)
    >>> history = models.state_history(model, model.get_layer("embedding").encode("a cab")[None])
    >>> [tuple(states.shape) for states in history]  # h, c, hyper_h, hyper_c
    [(1, 5, 16), (1, 5, 16), (1, 5, 8), (1, 5, 8)]
    """
    array("ids", ids, "(batch, time)", "int", [2])
    if states is None:
        states = initial_states(model, ops.shape(ids)[0])
    check_states(model, states)
    # TensorFlow's eager loop would take 100 ms for a character.
    return traced(_read, model)(ops.convert_to_tensor(ids), states)


def _read(model, ids, states):
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

    chain(model, ids, states, read_all)
    return history
