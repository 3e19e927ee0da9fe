"""The HyperLSTM's construction for the GRU."""

import keras
from keras import ops

from keras_hypernets.dynamic.hyper_cell import HyperCell


@keras.saving.register_keras_serializable(package="keras_hypernets")
class HyperGRUCell(HyperCell):
    r"""GRU cell whose weights are generated at each step by a small GRU cell.

    The paper has no GRU; this is its construction for the GRU with the reset gate after the product
    (`reset_after=True` of `keras.layers.GRU`, same gate order u, r, g; Keras calls them z, r, h). A
    small GRU with state `hyper_h` (h^) reads x and the main h:

        u^ = sigma(LN(W^_u x_t + V^_u h_{t-1} + U^_u h^_{t-1} + b^_u)),    r^ likewise
        g^ = phi(LN(W^_g x_t + V^_g h_{t-1} + b^_g) + r^ * LN(U^_g h^_{t-1} + b^_gh))
        h^_t = u^ * h^_{t-1} + (1 - u^) * g^

    Its output gives embeddings z_x, z_h, z_b and from them d_x, d_h, b per gate as in
    `HyperLSTMCell` (eq. 11 and 12), which change the main GRU at the same step:

        u = sigma(LN(d_x * (W_u x_t) + d_h * (U_u h_{t-1}) + b_u(z_b) + b_u0)),    r likewise
        g = phi(LN(d_x * (W_g x_t) + b_g(z_b) + b_g0) + r * LN(d_h * (U_g h_{t-1}) + b_gh))
        h_t = u * h_{t-1} + (1 - u) * dropout(g)

    The candidate's two parts are normalised separately, since the reset gate stands between them.
    `bias`, `gate_gamma` and `gate_beta` have four rows: u, r, and the candidate's input and
    recurrent part.

    Args:
        units: positive integer, size of `h`.
        hyper_units: positive integer, size of `hyper_h`. Default `None`: an eighth of
            `units`, but at least 16 and at most `units`.
        embedding_dim: positive integer, size of every z. Default 16.
        weight_generation: `"scaling"` (default) or `"full"`, as for `HyperLSTMCell`.
        layer_norm: whether both cells are normalised. Default `True`.
        layer_norm_epsilon: added to the variance. Default 1e-3.
        recurrent_dropout: rate of the dropout on the candidate g, a new mask each step, only in
            training. It is not Keras' `recurrent_dropout`, which drops `h`. Default 0.
        hyper_recurrent_dropout: the same in the small cell. Default 0.
        **kwargs: as for `HyperLSTMCell`.

    Call arguments:
        inputs: `(batch, features)`.
        states: `[h, hyper_h]`, `(batch, units)` and `(batch, hyper_units)`.
        training: whether dropout is applied.

    Returns:
        `h` of shape `(batch, units)`, and `[h, hyper_h]`.

    Masking is `keras.layers.RNN`'s: a masked step keeps both states.

    Raises:
        ValueError: for an argument out of its range, or states of another number or shape.

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

    def gru(self, inputs, recurrent, h, small, mask=None, prefix=""):
        """Returns the new h.

        Args:
            inputs: `(3, batch, units)`, sums that the reset gate leaves alone.
            recurrent: `(3, batch, units)`, sums over the state.
            h: `(batch, units)`, of the step before.
            small: biases and weights of the layer norms by name.
            mask: dropout mask of the candidate, or None.
            prefix: of the names in `small`, `"hyper_"` for the small cell.
        """
        parts = ops.concatenate([inputs[:2] + recurrent[:2], inputs[2:], recurrent[2:]])
        parts = self.add_bias(parts, small, f"{prefix}bias")
        u, r, g_input, g_recurrent = ops.unstack(self.normalize(parts, small, f"{prefix}gate"), 4)
        u, r = self.recurrent_activation(u), self.recurrent_activation(r)
        g = self.activation(g_input + r * g_recurrent)
        g = g if mask is None else g * mask
        return u * h + (1 - u) * g

    def tail(self, pre, state, small, noise):
        hyper_h = self.gru(
            pre["hyper_input"],
            pre["hyper_recurrent"],
            state["hyper_h"],
            small,
            noise.get("hyper_candidate"),
            "hyper_",
        )
        inputs, recurrent, shift = self.modulated_sums(hyper_h, pre, small)
        h = self.gru(inputs + shift, recurrent, state["h"], small, noise.get("candidate"))
        return h, {"h": h, "hyper_h": hyper_h}
