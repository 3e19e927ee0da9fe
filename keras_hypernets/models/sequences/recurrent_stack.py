"""The recurrent layers of a sequence model, with the options that all such models have."""

from typing import Any

import keras

from keras_hypernets.dynamic import LAYERS
from keras_hypernets.validation import boolean, one_of, positive_integer, rate, seed_integer

# These decide how a model reads its sequences, so the user cannot set them.
FIXED_OPTIONS = ("go_backwards", "return_sequences", "return_state", "time_major", "unroll")
# A new layer belongs in `keras_hypernets.dynamic.LAYERS`.
RECURRENT_LAYERS = {**LAYERS, "lstm": keras.layers.LSTM}


def check_options(
    kind: str,
    units: int,
    layers: int,
    cell: str,
    dropout: float,
    batch_size: int | None,
    stateful: bool,
    seed: int | None,
    cell_options: dict,
) -> None:
    """Raises ValueError if an option of a sequence model, such as "a stroke model", is wrong."""
    one_of("cell", cell, tuple(RECURRENT_LAYERS))
    positive_integer("units", units)
    positive_integer("layers", layers)
    rate("dropout", dropout)
    rate("recurrent_dropout", cell_options.get("recurrent_dropout", 0.0))
    if batch_size is not None:
        positive_integer("batch_size", batch_size)
    if seed is not None:
        seed_integer("seed", seed)
    for option in FIXED_OPTIONS:
        if option in cell_options:
            raise ValueError(
                f"`{option}` is not an option of {kind}. "
                f"Received: {option}={cell_options[option]!r}"
            )
    if boolean("stateful", stateful) and batch_size is None:
        raise ValueError("`stateful=True` needs a fixed `batch_size`. Received: batch_size=None")


def recurrent_stack(
    x: Any,
    units: int,
    layers: int,
    cell: str,
    dropout: float,
    stateful: bool,
    seed: int | None,
    cell_options: dict,
    drops_input: bool = True,
) -> Any:
    """Returns the output of the recurrent layers, with dropout between and after them.

    `drops_input` adds dropout before the first.
    """

    def dropped(x, n):
        if not dropout or (n == 0 and not drops_input):
            return x
        return keras.layers.Dropout(dropout, seed=seeded(2 * n), name=f"dropout_{n}")(x)

    def seeded(n):
        return None if seed is None else int(seed) + n

    for n in range(layers):
        x = RECURRENT_LAYERS[cell](
            int(units),
            name=f"recurrent_{n}",
            return_sequences=True,
            stateful=stateful,
            seed=seeded(2 * n + 1),
            **cell_options,
        )(dropped(x, n))
    return dropped(x, layers)
