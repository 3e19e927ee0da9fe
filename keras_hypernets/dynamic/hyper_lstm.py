"""HyperLSTM: a replacement for `keras.layers.LSTM`."""

import keras

from keras_hypernets.dynamic.cell_layer import HyperCellLayer
from keras_hypernets.dynamic.hyper_lstm_cell import HyperLSTMCell


@keras.saving.register_keras_serializable(package="keras_hypernets")
class HyperLSTM(HyperCellLayer):
    """LSTM layer whose weights a smaller LSTM, the hyper cell, changes at every step.

    Runs a `HyperLSTMCell`, which documents the equations, over sequences, with the fast loop of
    `GatedRNN`. The weights are those of `keras.layers.RNN(HyperLSTMCell(...))`: move
    them with `get_weights` and `set_weights`.

    Args:
        units: positive integer, size of the output.
        hyper_units: positive integer, size of the hyper cell. Default `None`: an eighth of
            `units`, but at least 16 and at most `units`.
        embedding_dim: positive integer, size of the embeddings z. Default 16.
        dropout: rate in [0, 1) of the dropout on the inputs, in training only. Each call draws one
            mask `(batch, features)` for all steps. Default 0.
        return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask: as in
            `keras.layers.LSTM`. Default `False`.
        activity_regularizer, name: likewise. Default `None`.
        checkpoint_every: number of steps between two states kept for the gradient, to save memory
            with long sequences: see `GatedRNN`. Default `None`.
        **kwargs: all other arguments, as in `HyperLSTMCell`. `dtype`, `trainable` and `seed`
            apply to layer and cell.

    Call arguments:
        sequences: `(batch, time, features)`.
        initial_state: list of the states `[h, c, hyper_h, hyper_c]`, default zeros.
        mask: `(batch, time)` booleans, `False` at masked steps, which keep all states.
        training: whether to apply dropout.

    Returns:
        `(batch, time, units)` if `return_sequences`, else `(batch, units)`; with `return_state`
        followed by the last states.

    Raises:
        ValueError: if an argument is out of range, or the states have the wrong number or shape.

    `main_weights` and `hyper_weights` list the weights of the main cell and of the hypernetwork, to
    freeze one of them: see `HyperLSTMCell`.

    Example:

    >>> layer = keras_hypernets.HyperLSTM(32, hyper_units=8, return_sequences=True)
    >>> tuple(layer(keras.ops.ones((2, 10, 5))).shape)
    (2, 10, 32)

    Reference:
        [Ha et al., 2016](https://arxiv.org/abs/1609.09106), appendix A.2.2.
    """

    cell_class = HyperLSTMCell
    forwarded = (
        "units",
        "hyper_units",
        "embedding_dim",
        "weight_generation",
        "layer_norm",
        "layer_norm_epsilon",
        "forget_bias",
        "hyper_forget_bias",
        "activation",
        "recurrent_activation",
        "use_bias",
        "recurrent_dropout",
        "hyper_recurrent_dropout",
        "hyper_initializer",
        "main_weights",
        "hyper_weights",
    )
