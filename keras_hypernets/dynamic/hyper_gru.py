"""HyperGRU: a replacement for `keras.layers.GRU`."""

import keras

from keras_hypernets.dynamic.cell_layer import HyperCellLayer
from keras_hypernets.dynamic.hyper_gru_cell import HyperGRUCell


@keras.saving.register_keras_serializable(package="keras_hypernets")
class HyperGRU(HyperCellLayer):
    """GRU layer whose weights a smaller GRU, the hyper cell, changes at every step.

    Runs a `HyperGRUCell`, which documents the equations, over sequences, with the fast loop of
    `GatedRNN`. The weights are those of `keras.layers.RNN(HyperGRUCell(...))`: move
    them with `get_weights` and `set_weights`.

    Args:
        units: positive integer, size of the output.
        hyper_units: positive integer, size of the hyper cell. Default `None`: an eighth of
            `units`, but at least 16 and at most `units`.
        embedding_dim: positive integer, size of the embeddings z. Default 16.
        dropout: rate in [0, 1) of the dropout on the inputs, in training only. Each call draws one
            mask `(batch, features)` for all steps. Default 0.
        return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask: as in
            `keras.layers.GRU`. Default `False`.
        activity_regularizer, name: likewise. Default `None`.
        checkpoint_every: number of steps between two states kept for the gradient, to save memory
            with long sequences: see `GatedRNN`. Default `None`.
        **kwargs: all other arguments, as in `HyperGRUCell`. `dtype`, `trainable` and `seed`
            apply to layer and cell.

    Call arguments:
        sequences: `(batch, time, features)`.
        initial_state: list of the states `[h, hyper_h]`, default zeros.
        mask: `(batch, time)` booleans, `False` at masked steps, which keep all states.
        training: whether to apply dropout.

    Returns:
        `(batch, time, units)` if `return_sequences`, else `(batch, units)`; with `return_state`
        followed by the last states.

    Raises:
        ValueError: if an argument is out of range, or the states have the wrong number or shape.

    Example:

    >>> layer = keras_hypernets.HyperGRU(32, hyper_units=8, return_sequences=True)
    >>> tuple(layer(keras.ops.ones((2, 10, 5))).shape)
    (2, 10, 32)

    Reference:
        [Ha et al., 2016](https://arxiv.org/abs/1609.09106), whose construction this follows.
    """

    cell_class = HyperGRUCell
    forwarded = (
        "units",
        "hyper_units",
        "embedding_dim",
        "weight_generation",
        "layer_norm",
        "layer_norm_epsilon",
        "activation",
        "recurrent_activation",
        "use_bias",
        "recurrent_dropout",
        "hyper_recurrent_dropout",
        "hyper_initializer",
        "main_weights",
        "hyper_weights",
    )
