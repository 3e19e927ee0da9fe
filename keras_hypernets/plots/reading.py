"""Reads a text and returns the states after each character, for plots of recurrent layers."""

from typing import Any

import keras
import numpy as np

from keras_hypernets.models.char_lm.char_language_model import embedding_of
from keras_hypernets.models.sequences.state_history import state_history
from keras_hypernets.models.sequences.stepping import recurrent_layers, state_sizes
from keras_hypernets.validation import integer

LONGEST = 5_000  # characters; no figure can be high enough for tens of thousands


def read(model: keras.Model, text: str) -> dict[str, Any]:
    """Returns all states `(time, size)` after each character of a text, named as in `state_sizes`.

    Raises:
        ValueError: as for `check_text`.
    """
    states = state_history(model, check_text(model, text)[None])
    return {name: state[0] for name, state in zip(state_sizes(model), states, strict=True)}


def inputs_of(model: keras.Model, text: str, argument: str = "text") -> Any:
    """Returns ids `(batch, time)` of a text, repeated if the batch size is fixed.

    Raises:
        ValueError: as for `check_text`.
    """
    ids = check_text(model, text, argument)
    return keras.ops.convert_to_tensor(np.tile(ids, (model.inputs[0].shape[0] or 1, 1)))


def check_text(model: keras.Model, text: str, argument: str = "text") -> np.ndarray:
    """Returns the ids of a text.

    Raises:
        ValueError: if `model` is not a character language model, or the text has fewer than 2 or
            more than 5,000 characters, or one that is not in the vocabulary.
    """
    ids = embedding_of(model).encode(text, argument)
    if not 2 <= len(ids) <= LONGEST:
        raise ValueError(
            f"`{argument}` must have 2 to {LONGEST:,} characters. Received: {len(ids):,}"
        )
    return ids


def cell_of(model: keras.Model, layer: Any) -> keras.Layer:
    """Returns the cell of one of a model's recurrent layers, by index.

    Raises:
        ValueError: if `model` is not a chain of recurrent layers, or has no such layer.
    """
    layers = recurrent_layers(model)
    rule = f"the number of a recurrent layer of {model.name}, 0 to {len(layers) - 1}"
    return layers[integer("layer", layer, rule, lambda n: 0 <= n < len(layers))].cell
