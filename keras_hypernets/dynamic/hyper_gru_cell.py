"""HyperGRUCell: the construction of the HyperLSTM applied to the GRU."""

import keras
from keras import ops

from keras_hypernets.dynamic.hyper_cell import HyperCell


@keras.saving.register_keras_serializable(package="keras_hypernets")
class HyperGRUCell(HyperCell):
    r"""GRU cell whose weights a smaller GRU cell, the hyper cell, changes at every step.

    The paper has no GRU. This is its construction for the GRU that applies the reset gate after the
    product (`reset_after=True` of `keras.layers.GRU`), with Keras' gates z, r, h. The hyper cell
    with state `hyper_h` (h^) reads x and the main h:

        z^ = sigma(LN(W^_z x_t + V^_z h_{t-1} + U^_z h^_{t-1} + b^_z)),    r^ likewise
        h~^ = phi(LN(W^_h x_t + V^_h h_{t-1} + b^_h) + r^ * LN(U^_h h^_{t-1} + b^_hh))
        h^_t = z^ * h^_{t-1} + (1 - z^) * h~^

    Its output gives d_x, d_h and b for each gate, as in `HyperLSTMCell` (eq. 11 and 12). These
    change the main cell at the same step:

        z = sigma(LN(d_x * (W_z x_t) + d_h * (U_z h_{t-1}) + b)),    r likewise
        h~ = phi(LN(d_x * (W_h x_t) + b) + r * LN(d_h * (U_h h_{t-1}) + b_hh))
        h_t = z * h_{t-1} + (1 - z) * dropout(h~)

    The candidate's two parts are normalized separately, since the reset gate comes between them.
    `bias`, `gate_gamma` and `gate_beta` have four rows: z, r, and the candidate's input and
    recurrent part.

    Args:
        units: positive integer, size of `h`.
        hyper_units: positive integer, size of `hyper_h`. Default `None`: an eighth of
            `units`, but at least 16 and at most `units`.
        embedding_dim: positive integer, size of every z. Default 16.
        weight_generation: `"scaling"` (default) or `"full"`, as for `HyperLSTMCell`.
        layer_norm: whether to normalize both cells. Default `True`.
        layer_norm_epsilon: positive number added to the variance. Default 1e-3.
        recurrent_dropout: rate in [0, 1) of the dropout on the candidate h~, with a new mask at
            each step, in training only. Keras' `recurrent_dropout` drops `h` instead. Default 0.
        hyper_recurrent_dropout: the same in the hyper cell. Default 0.
        **kwargs: as for `HyperLSTMCell`.

    Call arguments:
        inputs: `(batch, features)`.
        states: `[h, hyper_h]`, `(batch, units)` and `(batch, hyper_units)`.
        training: whether to apply dropout.

    Returns:
        `h` of shape `(batch, units)`, and `[h, hyper_h]`.

    `keras.layers.RNN` handles masking: a masked step keeps both states.

    Raises:
        ValueError: if an argument is out of range, or the states have the wrong number or shape.

    Example:

    >>> layer = keras.layers.RNN(keras_hypernets.HyperGRUCell(32, hyper_units=8))
    >>> tuple(layer(keras.ops.ones((2, 10, 5))).shape)
    (2, 32)

    Reference:
        - [Ha et al., 2016](https://arxiv.org/abs/1609.09106)
        - [Cho et al., 2014](https://arxiv.org/abs/1406.1078)
    """

    state_names = ("h", "hyper_h")
    gates = 3
    gate_names = ("z, update", "r, reset", "h, candidate")
    bias_rows = 4

    def __init__(
        self,
        units,
        hyper_units=None,
        embedding_dim=16,
        weight_generation="scaling",
        layer_norm=True,
        layer_norm_epsilon=1e-3,
        **kwargs,
    ):
        super().__init__(
            units,
            hyper_units=hyper_units,
            embedding_dim=embedding_dim,
            weight_generation=weight_generation,
            layer_norm=layer_norm,
            layer_norm_epsilon=layer_norm_epsilon,
            **kwargs,
        )

    def add_layer_norms(self, units, prefix=""):
        self.add_layer_norm(f"{prefix}gate", (4, units))

    @property
    def hyper_maps(self):
        return {
            "hyper_input": {"x": self.hyper_kernel, "h": self.hyper_state_kernel},
            "hyper_recurrent": {"hyper_h": self.hyper_recurrent_kernel},
        }

    def gru(self, inputs, recurrent, h, weights, mask=None, prefix=""):
        """Returns the new h.

        Args:
            inputs: `(3, batch, units)`, sums that the reset gate does not affect.
            recurrent: `(3, batch, units)`, sums over the state.
            h: `(batch, units)`, from the previous step.
            weights: biases and weights of the layer norms by name.
            mask: dropout mask of the candidate, or None.
            prefix: prefix of the names in `weights`, `"hyper_"` for the hyper cell.
        """
        parts = ops.concatenate([inputs[:2] + recurrent[:2], inputs[2:], recurrent[2:]])
        parts = self.add_bias(parts, weights, f"{prefix}bias")
        z, r, of_input, of_state = ops.unstack(self.normalize(parts, weights, f"{prefix}gate"), 4)
        z, r = self.recurrent_activation(z), self.recurrent_activation(r)
        candidate = self.activation(of_input + r * of_state)
        candidate = candidate if mask is None else candidate * mask
        return z * h + (1 - z) * candidate

    def tail(self, pre, state, weights, dropout_masks):
        hyper_h = self.gru(
            pre["hyper_input"],
            pre["hyper_recurrent"],
            state["hyper_h"],
            weights,
            dropout_masks.get("hyper_candidate"),
            "hyper_",
        )
        inputs, recurrent, shift = self.modulated_sums(hyper_h, pre, weights)
        h = self.gru(inputs + shift, recurrent, state["h"], weights, dropout_masks.get("candidate"))
        return h, {"h": h, "hyper_h": hyper_h}
