"""Records what the recurrent cells of a model generate while it runs."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_hypernets.layers_within import layers_within
from keras_hypernets.models.sequences.traced import traced


def generating_layers(model: keras.Model) -> dict[str, keras.layers.RNN]:
    """Returns the recurrent layers whose cell has `generated_weights`, by path."""
    return {
        path: layer
        for path, layer in layers_within(model)
        if isinstance(layer, keras.layers.RNN) and hasattr(layer.cell, "generated_weights")
    }


def watch(model: keras.Model, inputs: Any) -> dict:
    """Returns what a model's recurrent cells generate while it reads inputs.

    For each path of `generating_layers` whose layer reads anything, that is a dictionary from names
    to `(steps, gates, size)`: the steps of all sequences without those that are masked. The model
    runs as in inference, stateful layers from zeros, and stays as it is.
    """
    # Eager TensorFlow would take 100 ms for a step of time.
    calls = traced(_run, model)(keras.tree.map_structure(ops.convert_to_tensor, inputs))
    calls = keras.tree.map_structure(ops.convert_to_numpy, calls)
    return {
        path: {
            name: np.concatenate([generated[name][steps] for generated, steps in of_layer])
            for name in of_layer[0][0]
        }
        for path, of_layer in calls.items()
        if any(steps.any() for _, steps in of_layer)
    }


def _run(model, inputs):
    zeros = [
        (state, ops.zeros(state.shape, state.dtype))
        for _, layer in layers_within(model)
        if isinstance(layer, keras.layers.RNN)
        for state in keras.tree.flatten(layer.states or [])
    ]
    # In the scope no variable changes, neither states nor seeds.
    with keras.StatelessScope(zeros), _watched(generating_layers(model)) as calls:
        model(inputs, training=False)
    return calls


@contextlib.contextmanager
def _watched(layers) -> Iterator[dict]:
    """Yields a list per layer, to which its calls append what they generate and their mask.

    What a layer reads is only known while its model runs: inputs, states of other layers, masks.
    """
    calls = {path: [] for path in layers}
    try:
        for path, layer in layers.items():
            layer.inner_loop = _with_note(layer, calls[path])
        yield calls
    finally:
        for layer in layers.values():
            vars(layer).pop("inner_loop", None)


def _with_note(layer, calls):
    inner_loop = layer.inner_loop

    def note_and_loop(sequences, initial_state, mask, **options):
        x, steps = sequences, mask
        if layer.go_backwards:
            x = ops.flip(x, 1)
            steps = None if mask is None else ops.flip(mask, 1)
        generated = layer.cell.generated_weights(x, initial_state, steps)
        if steps is None:
            steps = ops.ones(ops.shape(x)[:2], "bool")
        calls.append((generated, ops.cast(steps, "bool")))
        return inner_loop(sequences, initial_state, mask, **options)

    return note_and_loop
