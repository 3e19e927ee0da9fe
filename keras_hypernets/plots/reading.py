"""Reads a sequence and returns the states after each step, for plots of recurrent layers."""

from typing import Any

import keras
import numpy as np

from keras_hypernets.models.char_lm.char_language_model import (
    embedding_of,
    is_character_language_model,
)
from keras_hypernets.models.sequences.state_history import state_history
from keras_hypernets.models.sequences.stepping import recurrent_layers, state_sizes
from keras_hypernets.validation import integer

LONGEST = 5_000  # steps; no figure can be high enough for tens of thousands


def read(model: keras.Model, text: Any) -> dict[str, Any]:
    """Returns all states `(time, size)` after each step of a sequence, named as in `state_sizes`.

    Raises:
        ValueError: as for `check_sequence`.
    """
    states = state_history(model, check_sequence(model, text)[None])
    return {name: state[0] for name, state in zip(state_sizes(model), states, strict=True)}


def inputs_of(model: keras.Model, text: Any, argument: str = "text") -> Any:
    """Returns inputs `(batch, time, ...)`: a sequence, repeated if the batch size is fixed.

    Raises:
        ValueError: as for `check_sequence`.
    """
    steps = check_sequence(model, text, argument)
    return keras.ops.convert_to_tensor(np.stack([steps] * (model.inputs[0].shape[0] or 1)))


def check_sequence(model: keras.Model, text: Any, argument: str = "text") -> np.ndarray:
    """Returns the steps `(time, ...)` of a sequence, as a model's input has them.

    That is the ids of a text for a character language model, and the sequence itself for any other
    chain of recurrent layers.

    Raises:
        ValueError: if `model` is not of these kinds, or the sequence has fewer than 2 or more than
            5,000 steps, or one that the model cannot read.
    """
    characters = isinstance(text, str) or is_character_language_model(model)
    steps = (
        embedding_of(model).encode(text, argument) if characters else _steps(model, text, argument)
    )
    if not 2 <= len(steps) <= LONGEST:
        unit = "characters" if characters else "steps"
        raise ValueError(
            f"`{argument}` must have 2 to {LONGEST:,} {unit}. Received: {len(steps):,}"
        )
    return steps


def _steps(model, sequence, argument):
    recurrent_layers(model)
    (given,) = model.inputs
    try:
        steps = keras.ops.convert_to_numpy(sequence).astype(given.dtype)
    except (TypeError, ValueError):  # ragged, or not numbers
        steps = np.zeros(())
    if steps.shape[1:] != tuple(given.shape[2:]) or not steps.ndim or not np.isfinite(steps).all():
        axes = ", ".join(["time", *map(str, given.shape[2:])])
        raise ValueError(
            f"`{argument}` must be one sequence ({axes}) of finite numbers for {model.name}. "
            f"Received: shape {steps.shape or repr(sequence)}"
        )
    return steps


def cell_of(model: keras.Model, layer: Any) -> keras.Layer:
    """Returns the cell of one of a model's recurrent layers, by index.

    Raises:
        ValueError: if `model` is not a chain of recurrent layers, or has no such layer.
    """
    layers = recurrent_layers(model)
    rule = f"the number of a recurrent layer of {model.name}, 0 to {len(layers) - 1}"
    return layers[integer("layer", layer, rule, lambda n: 0 <= n < len(layers))].cell
