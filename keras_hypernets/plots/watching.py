"""Looking into the hyper cells of any model while it runs."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_hypernets.dynamic.hyper_cell import HyperCell
from keras_hypernets.dynamic.recorder import Recorder
from keras_hypernets.layers_within import layers_within


def hyper_layers(model: keras.Model) -> list[tuple[str, keras.layers.RNN]]:
    """Returns the recurrent layers around one hyper cell, with their paths within a model."""
    return [
        (path, layer)
        for path, layer in layers_within(model)
        if isinstance(layer, keras.layers.RNN) and isinstance(layer.cell, HyperCell)
    ]


def watcher_of(model: keras.Model) -> Callable[[Any], list]:
    """Returns a function from a model's inputs to the outputs of its small cells.

    The function returns the path and the cell of each of the `hyper_layers` that reads anything,
    with hyper_h `(steps, hyper_units)` after the steps of all sequences that are not masked. The
    model runs as in inference, stateful layers from zeros, and stays as it is.
    """
    paths, layers = zip(*hyper_layers(model), strict=True)
    states = [
        state
        for _, layer in layers_within(model)
        if isinstance(layer, keras.layers.RNN)
        for state in keras.tree.flatten(layer.states or [])
    ]

    def run(inputs):
        zeros = [(state, ops.zeros(state.shape, state.dtype)) for state in states]
        # In the scope no variable changes, neither states nor seeds.
        with keras.StatelessScope(zeros), _watched(layers) as calls:
            model(inputs, training=False)
        return calls

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Eager TensorFlow would take 100 ms for a step of time.
        run = tf.function(run, autograph=False)

    def watch(inputs):
        calls = keras.tree.map_structure(ops.convert_to_numpy, run(inputs))
        return [
            (path, layer.cell, np.concatenate([hyper_h[steps] for hyper_h, steps in of_layer]))
            for path, layer, of_layer in zip(paths, layers, calls, strict=True)
            if any(steps.any() for _, steps in of_layer)
        ]

    return watch


@contextlib.contextmanager
def _watched(layers) -> Iterator[list]:
    """Gives a list for each layer, in which its calls leave hyper_h and which steps count.

    What a layer reads is only known while its model runs: inputs, states of other layers, masks.
    """
    calls = [[] for _ in layers]
    try:
        for layer, of_layer in zip(layers, calls, strict=True):
            layer.inner_loop = _with_note(layer, of_layer)
        yield calls
    finally:
        for layer in layers:
            vars(layer).pop("inner_loop", None)


def _with_note(layer, calls):
    inner_loop, cell = layer.inner_loop, layer.cell
    place = cell.state_names.index("hyper_h")

    def note_and_loop(sequences, initial_state, mask, **options):
        recorder = Recorder(cell, lambda output, states: states[place], cell.hyper_units)
        rnn = keras.layers.RNN(
            recorder,
            return_sequences=True,
            go_backwards=layer.go_backwards,
            zero_output_for_mask=True,  # else JAX needs the first state to be the output
            dtype=recorder.dtype_policy,
        )
        hyper_h = rnn(sequences, initial_state=initial_state, mask=mask)
        steps = ops.ones(ops.shape(hyper_h)[:2], "bool") if mask is None else mask
        if layer.go_backwards:
            steps = ops.flip(steps, 1)
        calls.append((hyper_h, ops.cast(steps, "bool")))
        return inner_loop(sequences, initial_state, mask, **options)

    return note_and_loop
