"""HyperLSTMCell: an LSTM cell whose weights a smaller LSTM cell changes at every step."""

import keras

from keras_hypernets.dynamic.hyper_cell import HyperCell
from keras_hypernets.dynamic.lstm_tail import LSTMTail
from keras_hypernets.validation import number


@keras.saving.register_keras_serializable(package="keras_hypernets")
class HyperLSTMCell(LSTMTail, HyperCell):
    r"""LSTM cell whose weights a smaller LSTM cell, the hyper cell, changes at every step.

    The hyper cell with states `hyper_h` (h^) and `hyper_c` (c^) reads x and the main h (eq. 10).
    Its output gives three embeddings for each gate y in i, f, c~, o (eq. 11), which change the
    weights of the main cell at the same step (eq. 12 and 13):

        y^_t = LN(W^_y x_t + V^_y h_{t-1} + U^_y h^_{t-1} + b^_y)
        c^_t = sigma(f^ + hyper_forget_bias) c^_{t-1} + sigma(i^) phi(c~^)
        h^_t = sigma(o^) phi(LN(c^_t))

        z_x = A_x h^_t + a_x        z_h = A_h h^_t + a_h        z_b = A_b h^_t
        y_t = LN(d_x(z_x) * (W_y x_t) + d_h(z_h) * (U_y h_{t-1}) + b(z_b))
        c_t = sigma(f + forget_bias) c_{t-1} + sigma(i) dropout(phi(c~))
        h_t = sigma(o) phi(LN(c_t))

    where d(z) = D z has no bias, b(z) = B z + b_0, and LN is layer normalization over the units.
    The stored `c` is not normalized. With `weight_generation="full"` the embeddings mix whole
    kernels instead (the analogue of eq. 5): sum_k z_x[k] W_y[k] x_t, and likewise for h.

    Differences from the paper, all as in the author's code: `h^_t`, not `h^_{t-1}`, generates the
    weights (as the paper's prose says), a forget bias is added after layer normalization, and layer
    normalization has a gain and an offset.

    Args:
        units: positive integer, size of `h` and `c`.
        hyper_units: positive integer, size of `hyper_h` and `hyper_c`. Default `None`: an eighth of
            `units`, but at least 16 and at most `units`.
        embedding_dim: positive integer, size of every z. Default 16.
        weight_generation: `"scaling"` (default) or `"full"`.
        layer_norm: whether to normalize both cells. Default `True`.
        layer_norm_epsilon: positive number added to the variance. Default 1e-3.
        forget_bias: number added to the forget gate of the main cell. Default 1.0.
        hyper_forget_bias: the same for the hyper cell. Default 1.0, the only value in the author's
            code.
        recurrent_dropout: rate in [0, 1) of the dropout on the main cell's candidate phi(c~), with
            a new mask at each step, in training only. Unlike Keras' `recurrent_dropout`, which
            drops `h`, it does not lose memory. Default 0.
        hyper_recurrent_dropout: the same in the hyper cell. Default 0.
        hyper_initializer: `"default"`, or `"paper"` for the values of the paper's appendix A.2.3:
            all coordinates of a scaling embedding then get the same gradient, so they stay equal
            (see docs/guides/recurrent_layers.md). Full generation, which is not in the paper,
            starts z_x and z_h at 1 / sqrt(embedding_dim).
        **kwargs: `activation`, `recurrent_activation`, `use_bias`, `seed`; the initializers,
            regularizers and constraints of `kernel`, `recurrent`, `bias` (main cell) and
            `hyper_kernel`, `hyper_recurrent`, `hyper_bias` (hyper cell), such as
            `hyper_kernel_regularizer`: see `GatedCell`. Also those of `keras.Layer`.

    Call arguments:
        inputs: `(batch, features)`.
        states: `[h, c, hyper_h, hyper_c]`, `(batch, units)` twice and `(batch, hyper_units)` twice.
        training: whether to apply dropout.

    Returns:
        `h` of shape `(batch, units)`, and `[h, c, hyper_h, hyper_c]`.

    `keras.layers.RNN` handles masking: a masked step keeps all four states.

    Weights, each the attribute of its name, with Z = `embedding_dim` and H = `hyper_units`:

    | name | shape | what it is |
    |---|---|---|
    | `kernel` | (4, features, units) | W_y, with full generation Z of them for each gate |
    | `recurrent_kernel` | (4, units, units) | U_y, likewise |
    | `bias` | (4, units) | b_0 |
    | `gate_gamma`, `gate_beta` | (4, units) | layer norm of the gates |
    | `cell_gamma`, `cell_beta` | (units) | layer norm of c |
    | `hyper_kernel` | (4, features, H) | W^_y |
    | `hyper_state_kernel` | (4, units, H) | V^_y, from the main h |
    | `hyper_recurrent_kernel` | (4, H, H) | U^_y |
    | `hyper_bias`, `hyper_gate_gamma`, ... | | the hyper cell's, like the main cell's |
    | `embedding_kernel` | (H, 12 Z) | A_x, A_h, A_b for each gate |
    | `embedding_bias` | (8 Z) | a_x, a_h for each gate |
    | `scale_kernel` | (12, Z, units) | D_x, D_h, B for each gate; (4, Z, units), B, if full |

    `main_weights` lists the first five rows, `hyper_weights` the others, the hypernetwork. To train
    only one of the two, set `trainable = False` on each weight of the other, then compile. (Keras
    does not save this: freeze again after loading a model.) With few units the hypernetwork can be
    the larger part: `HyperLSTM(64)` on 32 features has 48,352 weights, 25,472 of them in the main
    cell; with `embedding_dim=4` it has 36,736.

    Raises:
        ValueError: if an argument is out of range, or the states have the wrong number or shape.

    Example:

    >>> cell = keras_hypernets.HyperLSTMCell(32, hyper_units=8, embedding_dim=4)
    >>> layer = keras.layers.RNN(cell, return_sequences=True)
    >>> x = keras.random.normal((2, 10, 5), seed=0)
    >>> tuple(layer(x).shape)
    (2, 10, 32)
    >>> generated = cell.generated_weights(x)
    >>> {name: tuple(values.shape) for name, values in generated.items()}
    {'d_x': (2, 10, 4, 32), 'd_h': (2, 10, 4, 32), 'b': (2, 10, 4, 32)}

    Reference:
        [Ha et al., 2016](https://arxiv.org/abs/1609.09106), appendix A.2.2.
    """

    state_names = ("h", "c", "hyper_h", "hyper_c")
    float32_states = ("c", "hyper_c")
    gates = 4
    gate_names = ("i, input", "f, forget", "c, candidate", "o, output")

    def __init__(
        self,
        units,
        hyper_units=None,
        embedding_dim=16,
        weight_generation="scaling",
        layer_norm=True,
        layer_norm_epsilon=1e-3,
        forget_bias=1.0,
        hyper_forget_bias=1.0,
        **kwargs,
    ):
        super().__init__(
            units,
            hyper_units=hyper_units,
            embedding_dim=embedding_dim,
            weight_generation=weight_generation,
            layer_norm=layer_norm,
            layer_norm_epsilon=layer_norm_epsilon,
            forget_bias=forget_bias,
            **kwargs,
        )
        self.hyper_forget_bias = number("hyper_forget_bias", hyper_forget_bias)

    def tail(self, pre, state, weights, dropout_masks):
        gates = self.add_bias(pre["hyper"], weights, "hyper_bias")
        hyper_h, hyper_c = self.lstm(
            gates,
            state["hyper_c"],
            weights,
            self.hyper_forget_bias,
            dropout_masks.get("hyper_candidate"),
            "hyper_",
        )
        gates = self.add_bias(sum(self.modulated_sums(hyper_h, pre, weights)), weights, "bias")
        h, c = self.lstm(
            gates, state["c"], weights, self.forget_bias, dropout_masks.get("candidate")
        )
        return h, {"h": h, "c": c, "hyper_h": hyper_h, "hyper_c": hyper_c}

    def get_config(self):
        return {**super().get_config(), "hyper_forget_bias": self.hyper_forget_bias}
