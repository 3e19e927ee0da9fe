"""LayerNormLSTMCell: the hyper cell of a HyperLSTM on its own, and a baseline for it."""

import keras

from keras_hypernets.dynamic.gated_cell import GatedCell
from keras_hypernets.dynamic.lstm_tail import LSTMTail


@keras.saving.register_keras_serializable(package="keras_hypernets")
class LayerNormLSTMCell(LSTMTail, GatedCell):
    r"""LSTM cell with layer normalization of each gate and dropout without memory loss.

    With sigma the recurrent activation, phi the activation and LN layer normalization over the
    units (eq. 9 and 10 of the paper; Ba et al.; Semeniuta et al.):

        y = LN(W_y x_t + U_y h_{t-1} + b_y)        for y in i, f, c~, o, each separately
        c_t = sigma(f + forget_bias) c_{t-1} + sigma(i) dropout(phi(c~))
        h_t = sigma(o) phi(LN(c_t))

    The stored `c` is not normalized. The forget bias is added after layer normalization, which
    would otherwise cancel it. With `layer_norm=False` this is `keras.layers.LSTMCell`
    (`converters.load_keras_lstm` moves the weights).

    `tfa.rnn.LayerNormLSTMCell` of TensorFlow Addons, now discontinued, differs: it normalizes the
    products with x and with h separately, each over all four gates, then adds the bias (with
    `unit_forget_bias`), stores the normalized `c`, and drops inputs and states (`dropout`,
    `recurrent_dropout`), not the candidate. Its weights do not carry over.

    Args:
        units: positive integer, size of `h` and `c`.
        layer_norm: whether to normalize gates and cell state. Default `True`.
        layer_norm_epsilon: positive number added to the variance. Default 1e-3.
        forget_bias: number added to the forget gate's pre-activation. Default 1.0.
        recurrent_dropout: rate in [0, 1) of the dropout on the candidate, with a new mask at each
            step, in training only. Keras' `recurrent_dropout` drops `h` instead. Default 0.
        **kwargs: `activation`, `recurrent_activation`, `use_bias`, `seed`, and the initializers,
            regularizers and constraints of `kernel`, `recurrent` and `bias`: see `GatedCell`. Also
            those of `keras.Layer`.

    Call arguments:
        inputs: `(batch, features)`.
        states: `[h, c]`, each `(batch, units)`.
        training: whether to apply dropout.

    Returns:
        `h` of shape `(batch, units)`, and `[h, c]`.

    `keras.layers.RNN` handles masking: a masked step keeps both states.

    Raises:
        ValueError: if an argument is out of range, or the states have the wrong number or shape.

    Example:

    >>> layer = keras.layers.RNN(keras_hypernets.LayerNormLSTMCell(16), return_sequences=True)
    >>> tuple(layer(keras.ops.ones((2, 10, 8))).shape)
    (2, 10, 16)

    Reference:
        - [Ha et al., 2016](https://arxiv.org/abs/1609.09106), appendix A.2.2
        - [Ba et al., 2016](https://arxiv.org/abs/1607.06450)
        - [Semeniuta et al., 2016](https://arxiv.org/abs/1603.05118)
    """

    state_names = ("h", "c")
    float32_states = ("c",)

    def __init__(self, units, layer_norm=True, layer_norm_epsilon=1e-3, forget_bias=1.0, **kwargs):
        super().__init__(
            units,
            layer_norm=layer_norm,
            layer_norm_epsilon=layer_norm_epsilon,
            forget_bias=forget_bias,
            **kwargs,
        )

    def build(self, input_shape):
        units = self.units
        self.kernel = self.add_gate_weight("kernel", (4, input_shape[-1], units))
        self.recurrent_kernel = self.add_gate_weight(
            "recurrent_kernel", (4, units, units), "recurrent"
        )
        if self.use_bias:
            self.bias = self.add_gate_weight("bias", (4, units), "bias")
        self.add_layer_norms(units)

    @property
    def linear_maps(self):
        return {"gates": {"x": self.kernel, "h": self.recurrent_kernel}}

    def tail(self, pre, state, weights, dropout_masks):
        gates = self.add_bias(pre["gates"], weights, "bias")
        h, c = self.lstm(
            gates, state["c"], weights, self.forget_bias, dropout_masks.get("candidate")
        )
        return h, {"h": h, "c": c}
