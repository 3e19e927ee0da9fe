"""LayerNormLSTM: a replacement for `keras.layers.LSTM`."""

import keras

from keras_hypernets.dynamic.cell_layer import CellLayer
from keras_hypernets.dynamic.layer_norm_lstm_cell import LayerNormLSTMCell


@keras.saving.register_keras_serializable(package="keras_hypernets")
class LayerNormLSTM(CellLayer):
    """LSTM layer with layer normalization of each gate and dropout without memory loss.

    Runs a `LayerNormLSTMCell`, which documents the equations, over sequences, with the fast
    loop of `GatedRNN`. The weights are those of
    `keras.layers.RNN(LayerNormLSTMCell(...))`: move them with `get_weights` and `set_weights`.

    Args:
        units: positive integer, size of the output.
        dropout: rate in [0, 1) of the dropout on the inputs, in training only. Each call draws one
            mask `(batch, features)` for all steps. Default 0.
        return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask: as in
            `keras.layers.LSTM`. Default `False`.
        activity_regularizer, name: likewise. Default `None`.
        checkpoint_every: number of steps between two states kept for the gradient, to save memory
            with long sequences: see `GatedRNN`. Default `None`.
        **kwargs: all other arguments, as in `LayerNormLSTMCell`. `dtype`, `trainable` and `seed`
            apply to layer and cell.

    Call arguments:
        sequences: `(batch, time, features)`.
        initial_state: list of the states `[h, c]`, default zeros.
        mask: `(batch, time)` booleans, `False` at masked steps, which keep all states.
        training: whether to apply dropout.

    Returns:
        `(batch, time, units)` if `return_sequences`, else `(batch, units)`; with `return_state`
        followed by the last states.

    Raises:
        ValueError: if an argument is out of range, or the states have the wrong number or shape.

    Example:

    >>> layer = keras_hypernets.LayerNormLSTM(32, return_sequences=True)
    >>> tuple(layer(keras.ops.ones((2, 10, 5))).shape)
    (2, 10, 32)

    Reference:
        [Ha et al., 2016](https://arxiv.org/abs/1609.09106), appendix A.2.2.
    """

    cell_class = LayerNormLSTMCell
    forwarded = (
        "units",
        "layer_norm",
        "layer_norm_epsilon",
        "forget_bias",
        "activation",
        "recurrent_activation",
        "use_bias",
        "recurrent_dropout",
    )
