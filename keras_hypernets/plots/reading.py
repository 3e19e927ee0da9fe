"""What the pictures of recurrent layers have in common: a text, and states after each character."""

from typing import Any

import keras
import numpy as np

from keras_hypernets.models.char_lm.char_language_model import embedding_of
from keras_hypernets.models.sequences.state_history import state_history
from keras_hypernets.models.sequences.stepping import recurrent_layers, state_sizes
from keras_hypernets.validation import integer

LONGEST = 5_000  # characters; no picture can be high enough for some ten thousands


def read(model: keras.Model, text: str) -> dict[str, Any]:
    """Returns all states `(time, size)` after each character of a text, named as in `state_sizes`.

    Raises:
        ValueError: as `check_text`.
    """
    states = state_history(model, check_text(model, text)[None])
    return {name: state[0] for name, state in zip(state_sizes(model), states, strict=True)}


def inputs_of(model: keras.Model, text: str, argument: str = "text") -> Any:
    """Returns ids `(batch, time)` of a text: once, or in every row of a fixed batch.

    Raises:
        ValueError: as `check_text`.
    """
    ids = check_text(model, text, argument)
    return keras.ops.convert_to_tensor(np.tile(ids, (model.inputs[0].shape[0] or 1, 1)))


def check_text(model: keras.Model, text: str, argument: str = "text") -> np.ndarray:
    """Returns the ids of a text.

    Raises:
        ValueError: if `model` is no character language model, or the text has less than two
            characters, more than 5,000, or one that is not in its vocabulary.
    """
    ids = embedding_of(model).encode(text, argument)
    if not 2 <= len(ids) <= LONGEST:
        raise ValueError(
            f"`{argument}` must have 2 to {LONGEST:,} characters. Received: {len(ids):,}"
        )
    return ids


def cell_of(model: keras.Model, layer: Any) -> keras.Layer:
    """Returns the cell of one of a model's recurrent layers, by its number.

    Raises:
        ValueError: if `model` is no character language model, or has no such layer.
    """
    layers = recurrent_layers(model)
    rule = f"the number of a recurrent layer of {model.name}, 0 to {len(layers) - 1}"
    return layers[integer("layer", layer, rule, lambda n: 0 <= n < len(layers))].cell
