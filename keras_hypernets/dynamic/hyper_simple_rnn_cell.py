"""HyperSimpleRNNCell: the paper's HyperRNN."""

import keras

from keras_hypernets.dynamic.hyper_cell import HyperCell


@keras.saving.register_keras_serializable(package="keras_hypernets")
class HyperSimpleRNNCell(HyperCell):
    r"""Simple RNN cell whose weights a smaller cell, the hyper cell, changes at every step.

    With h^ the state of the hyper cell (eq. 6):

        h^_t = phi(W^ x_t + V^ h_{t-1} + U^ h^_{t-1} + b^)
        z_x = A_x h^_t + a_x        z_h = A_h h^_t + a_h        z_b = A_b h^_t

    `weight_generation="scaling"` (eq. 7 and 8), with d(z) = D z and b(z) = B z + b_0:

        h_t = phi(d_x(z_x) * (W x_t) + d_h(z_h) * (U h_{t-1}) + b(z_b))

    `weight_generation="full"` (eq. 5):

        h_t = phi(sum_k z_x[k] W[k] x_t + sum_k z_h[k] U[k] h_{t-1} + b(z_b))

    With `layer_norm=True` both sums are normalized before phi. As in the paper's prose, h^_t, not
    h^_{t-1}, generates the weights.

    Args:
        units: positive integer, size of `h`.
        hyper_units: positive integer, size of `hyper_h`. Default `None`: an eighth of
            `units`, but at least 16 and at most `units`.
        embedding_dim: positive integer, size of every z. Default 16.
        weight_generation: `"scaling"` (default) or `"full"`.
        layer_norm: whether to normalize both cells. Default `False`.
        layer_norm_epsilon: positive number added to the variance. Default 1e-3.
        **kwargs: as for `HyperLSTMCell`. `recurrent_activation` has no effect without gates, and
            the two recurrent dropouts must be 0, since there is no candidate to drop.

    Call arguments:
        inputs: `(batch, features)`.
        states: `[h, hyper_h]`, `(batch, units)` and `(batch, hyper_units)`.
        training: unused.

    Returns:
        `h` of shape `(batch, units)`, and `[h, hyper_h]`.

    `keras.layers.RNN` handles masking: a masked step keeps both states.

    Raises:
        ValueError: if an argument is out of range, or the states have the wrong number or shape.

    Example:

    >>> layer = keras.layers.RNN(keras_hypernets.HyperSimpleRNNCell(32, hyper_units=8))
    >>> tuple(layer(keras.ops.ones((2, 10, 5))).shape)
    (2, 32)

    Reference:
        [Ha et al., 2016](https://arxiv.org/abs/1609.09106), section 3.2.
    """

    state_names = ("h", "hyper_h")
    gates = 1
    gate_names = ("h",)

    def __init__(
        self,
        units,
        hyper_units=None,
        embedding_dim=16,
        weight_generation="scaling",
        layer_norm=False,
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
        for name in ("recurrent_dropout", "hyper_recurrent_dropout"):
            if getattr(self, name):
                raise ValueError(
                    f"`{name}` must be 0, since a simple RNN has no candidate to drop. "
                    f"Received: {name}={getattr(self, name)!r}"
                )

    def add_layer_norms(self, units, prefix=""):
        self.add_layer_norm(f"{prefix}gate", (1, units))

    def tail(self, pre, state, weights, dropout_masks):
        hyper_h = self.simple_rnn(pre["hyper"], weights, "hyper_")
        h = self.simple_rnn(sum(self.modulated_sums(hyper_h, pre, weights)), weights)
        return h, {"h": h, "hyper_h": hyper_h}

    def simple_rnn(self, gates, weights, prefix=""):
        """Returns the new h from the sums `(1, batch, units)`."""
        gates = self.add_bias(gates, weights, f"{prefix}bias")
        return self.activation(self.normalize(gates, weights, f"{prefix}gate"))[0]
