"""HyperCell: a recurrent cell whose weights a smaller recurrent cell changes at every step."""

import math

import keras
from keras import ops

from keras_hypernets.dynamic.gated_cell import GatedCell
from keras_hypernets.dynamic.recorder import recorded_state
from keras_hypernets.dynamic.traced_once import compiled_if_eager
from keras_hypernets.validation import keras_object, one_of, positive_integer, rate

INITIAL_SCALE = 0.1  # d(z) of every unit at the start (Cooijmans et al., arXiv 1603.09025)
GROWTH = 100  # of the scales d in good training: 9 and 58 measured
AROUND = 3  # factor around the initial value of mixtures of kernels
OF_HYPERNETWORK = ("hyper_", "embedding_", "scale_")  # prefixes of its weights' names


class HyperCell(GatedCell):
    r"""Base class of recurrent cells with a hypernetwork.

    A small recurrent network, the hyper cell, reads the input and the state of the main cell. Its
    output h^_t gives three embeddings for each gate y of the main cell at the same step (eq. 11):

        z_x = A_x h^_t + a_x        z_h = A_h h^_t + a_h        z_b = A_b h^_t

    `weight_generation="scaling"` scales the rows of fixed kernels, which is the same as scaling
    their products (eq. 7, 8 and 12):

        y_t = d_x(z_x) * (W_x x_t) + d_h(z_h) * (W_h h_{t-1}) + b(z_b)
        d_x(z) = D_x z              d_h(z) = D_h z              b(z) = B z + b_0

    `weight_generation="full"` mixes whole kernels (eq. 5; memory grows with `embedding_dim`):

        y_t = sum_k z_x[k] W_x[k] x_t + sum_k z_h[k] W_h[k] h_{t-1} + b(z_b)

    All embeddings come from one product with `embedding_kernel`, all d and b from one batched
    product with `scale_kernel`.

    This class creates the weights. A subclass defines the two networks:

    - `state_names`: `"h"` first; the hyper cell's states begin with `"hyper_"`, and one of them is
      `"hyper_h"`.
    - `gates`: number of gates of the main cell, which is the first axis of its kernels.
    - `gate_names` (optional): their names, for figures.
    - `bias_rows` (optional): number of rows of its bias. Default: `gates`.
    - `hyper_gates`, `hyper_bias_rows` (optional): the same for the hyper cell. Default: the main
      cell's.
    - `add_layer_norms(units, prefix)`: adds layer norms with `add_layer_norm`; called once with the
      prefix `""` and once with `"hyper_"`.
    - `hyper_maps` (optional): the hyper cell's part of `linear_maps`. Default: one pre-activation
      `"hyper"`, the sum over x, h and hyper_h.
    - `tail`: as in `GatedCell`. `pre` holds `"input"` and `"recurrent"`, the main cell's products
      with x and h, and the hyper cell's sums. First it updates the hyper cell; then
      `modulated_sums(hyper_h, pre, weights)` gives the main cell's sums under the new weights,
      without the bias b_0.

    Args:
        units: positive integer, size of the main cell.
        hyper_units: positive integer, size of the hyper cell. Default `None`: an eighth of
            `units`, but at least 16 and at most `units`.
        embedding_dim: positive integer, size of every z. Default 16.
        weight_generation: `"scaling"` (default) or `"full"`.
        hyper_initializer: `"default"`, or `"paper"` for the initial values of the paper's appendix
            A.2.3: all coordinates of a scaling embedding then get the same gradient, so they stay
            equal (see docs/guides/recurrent_layers.md). Full generation, which is not in the paper,
            starts z_x and z_h at 1 / sqrt(embedding_dim).
        kernel_initializer, hyper_kernel_initializer: default `None`, which means
            `"glorot_uniform"`, or `"orthogonal"` with `hyper_initializer="paper"`.
        hyper_recurrent_initializer, hyper_bias_initializer: default `"orthogonal"` and `"zeros"`.
        hyper_kernel_regularizer, hyper_recurrent_regularizer, hyper_bias_regularizer: for the
            hyper cell. Default `None`.
        hyper_kernel_constraint, hyper_recurrent_constraint, hyper_bias_constraint: likewise.
        hyper_recurrent_dropout: rate in [0, 1) of the hyper cell's recurrent dropout. Default 0.
        **kwargs: arguments of `GatedCell`.

    Call arguments, returns and errors: as in `GatedCell`.

    Example: a minimal gated unit, whose weights a simple RNN changes.

    >>> @keras.saving.register_keras_serializable(package="example")
    ... class HyperMGUCell(keras_hypernets.HyperCell):
    ...     state_names = ("h", "hyper_h")
    ...     gates, hyper_gates = 2, 1
    ...
    ...     def add_layer_norms(self, units, prefix=""):
    ...         self.add_layer_norm(f"{prefix}gate", (1 if prefix else 2, units))
    ...
    ...     def tail(self, pre, state, weights, dropout_masks):
    ...         hyper = self.add_bias(pre["hyper"], weights, "hyper_bias")
    ...         hyper_h = self.activation(self.normalize(hyper, weights, "hyper_gate"))[0]
    ...         gates = sum(self.modulated_sums(hyper_h, pre, weights))
    ...         gates = self.normalize(self.add_bias(gates, weights, "bias"), weights, "gate")
    ...         f, c = keras.ops.unstack(gates, 2)
    ...         f = self.recurrent_activation(f)
    ...         h = f * state["h"] + (1 - f) * self.activation(c)
    ...         return h, {"h": h, "hyper_h": hyper_h}
    >>> layer = keras_hypernets.GatedRNN(HyperMGUCell(32, hyper_units=8))
    >>> tuple(layer(keras.ops.ones((2, 10, 5))).shape)
    (2, 32)

    Reference:
        [Ha et al., 2016](https://arxiv.org/abs/1609.09106), section 3.2 and appendix A.2.
    """

    gates = None
    gate_names = None
    bias_rows = None
    hyper_gates = None
    hyper_bias_rows = None
    hyper_bias = None

    def __init__(
        self,
        units,
        hyper_units=None,
        embedding_dim=16,
        weight_generation="scaling",
        hyper_initializer="default",
        kernel_initializer=None,
        hyper_kernel_initializer=None,
        hyper_recurrent_initializer="orthogonal",
        hyper_bias_initializer="zeros",
        hyper_kernel_regularizer=None,
        hyper_recurrent_regularizer=None,
        hyper_bias_regularizer=None,
        hyper_kernel_constraint=None,
        hyper_recurrent_constraint=None,
        hyper_bias_constraint=None,
        hyper_recurrent_dropout=0.0,
        **kwargs,
    ):
        one_of("hyper_initializer", hyper_initializer, ("default", "paper"))
        usual = "orthogonal" if hyper_initializer == "paper" else "glorot_uniform"
        super().__init__(
            units,
            kernel_initializer=usual if kernel_initializer is None else kernel_initializer,
            **kwargs,
        )
        if hyper_units is None:
            hyper_units = min(self.units, max(16, self.units // 8))
        self.hyper_units = positive_integer("hyper_units", hyper_units)
        self.embedding_dim = positive_integer("embedding_dim", embedding_dim)
        self.weight_generation = one_of("weight_generation", weight_generation, ("scaling", "full"))
        self.hyper_initializer = hyper_initializer
        self.hyper_kernel_initializer = keras_object(
            "hyper_kernel_initializer",
            usual if hyper_kernel_initializer is None else hyper_kernel_initializer,
        )
        self.hyper_recurrent_initializer = keras_object(
            "hyper_recurrent_initializer", hyper_recurrent_initializer
        )
        self.hyper_bias_initializer = keras_object("hyper_bias_initializer", hyper_bias_initializer)
        self.hyper_kernel_regularizer = keras_object(
            "hyper_kernel_regularizer", hyper_kernel_regularizer
        )
        self.hyper_recurrent_regularizer = keras_object(
            "hyper_recurrent_regularizer", hyper_recurrent_regularizer
        )
        self.hyper_bias_regularizer = keras_object("hyper_bias_regularizer", hyper_bias_regularizer)
        self.hyper_kernel_constraint = keras_object(
            "hyper_kernel_constraint", hyper_kernel_constraint
        )
        self.hyper_recurrent_constraint = keras_object(
            "hyper_recurrent_constraint", hyper_recurrent_constraint
        )
        self.hyper_bias_constraint = keras_object("hyper_bias_constraint", hyper_bias_constraint)
        self.hyper_recurrent_dropout = rate("hyper_recurrent_dropout", hyper_recurrent_dropout)

    @property
    def state_size(self):
        return [
            self.hyper_units if name.startswith("hyper_") else self.units
            for name in self.state_names
        ]

    @property
    def dropout_rates(self):
        return {
            "candidate": (self.recurrent_dropout, self.units),
            "hyper_candidate": (self.hyper_recurrent_dropout, self.hyper_units),
        }

    def build(self, input_shape):
        inputs, units, hyper_units = input_shape[-1], self.units, self.hyper_units
        gates, hyper_gates = self.gates, self.hyper_gates or self.gates
        bias_rows = self.bias_rows or gates
        blocks = gates if self.weight_generation == "scaling" else gates * self.embedding_dim
        add = self.add_gate_weight
        self.kernel = add("kernel", (blocks, inputs, units))
        self.recurrent_kernel = add("recurrent_kernel", (blocks, units, units), "recurrent")
        if self.use_bias:
            self.bias = add("bias", (bias_rows, units), "bias")
        self.hyper_kernel = add("hyper_kernel", (hyper_gates, inputs, hyper_units), "hyper_kernel")
        self.hyper_state_kernel = add(
            "hyper_state_kernel", (hyper_gates, units, hyper_units), "hyper_kernel"
        )
        self.hyper_recurrent_kernel = add(
            "hyper_recurrent_kernel", (hyper_gates, hyper_units, hyper_units), "hyper_recurrent"
        )
        if self.use_bias:
            rows = self.hyper_bias_rows or self.hyper_gates or bias_rows
            self.hyper_bias = add("hyper_bias", (rows, hyper_units), "hyper_bias")
        self._add_generation_weights()
        self.add_layer_norms(units)
        self.add_layer_norms(hyper_units, "hyper_")

    @property
    def hyper_maps(self):
        """The hyper cell's part of `linear_maps`."""
        return {
            "hyper": {
                "x": self.hyper_kernel,
                "h": self.hyper_state_kernel,
                "hyper_h": self.hyper_recurrent_kernel,
            }
        }

    @property
    def linear_maps(self):
        return {
            "input": {"x": self.kernel},
            "recurrent": {"h": self.recurrent_kernel},
            **self.hyper_maps,
        }

    def _add_generation_weights(self):
        gates, z = self.gates, self.embedding_dim
        full = self.weight_generation == "full"
        self.embedding_kernel = self.add_weight(
            name="embedding_kernel",
            shape=(self.hyper_units, 3 * gates * z),
            initializer=self._initial_embedding_kernel,
        )
        self.embedding_bias = self.add_weight(
            name="embedding_bias",
            shape=(2 * gates * z,),
            # A mix of z kernels with these weights has the variance of one of them.
            initializer=keras.initializers.Constant(1 / math.sqrt(z) if full else 1.0),
        )
        self.scale_kernel = self.add_weight(
            name="scale_kernel",
            shape=(gates if full else 3 * gates, z, self.units),
            initializer="zeros" if full else self._initial_scale_kernel,
        )

    def _initial_embedding_kernel(self, shape, dtype=None):
        # The paper's zeros give all coordinates of z_x and z_h equal gradients forever, and its
        # deviation of 0.01 for z_b hardly separates them (ratios of singular values of 0.02).
        normal = keras.initializers.RandomNormal
        if self.hyper_initializer == "default":
            return normal(stddev=1 / math.sqrt(self.hyper_units))(shape, dtype)
        rows, of_b = shape[0], shape[1] // 3
        zeros = ops.zeros((rows, 2 * of_b), dtype)
        return ops.concatenate([zeros, normal(stddev=0.01)((rows, of_b), dtype)], axis=1)

    def _initial_scale_kernel(self, shape, dtype=None):
        shape = (self.gates, *shape[1:])
        scale = ops.full(shape, INITIAL_SCALE / self.embedding_dim, dtype)
        return ops.concatenate([scale, scale, ops.zeros(shape, dtype)])

    def generate(self, hyper_h, weights):
        """Generates the weights of one step.

        Args:
            hyper_h: `(batch, hyper_units)`, output of the hyper cell.
            weights: the tail's weights by name.

        Returns:
            With scaling d_x, d_h and b, each `(gates, batch, units)`; with full generation z_x and
            z_h, each `(gates, batch, embedding_dim)`, and b.
        """
        bias = ops.pad(weights["embedding_bias"], [[0, self.gates * self.embedding_dim]])  # not z_b
        z = ops.matmul(hyper_h, weights["embedding_kernel"])
        z = z + ops.cast(bias, z.dtype)  # on PyTorch products of float64 are float32
        z = ops.transpose(ops.reshape(z, (-1, 3 * self.gates, self.embedding_dim)), (1, 0, 2))
        if self.weight_generation == "scaling":
            return ops.split(ops.matmul(z, weights["scale_kernel"]), 3)
        z_x, z_h, z_b = ops.split(z, 3)
        return z_x, z_h, ops.matmul(z_b, weights["scale_kernel"])

    def modulate(self, products, generated):
        """Scales products `(gates, batch, units)`, or mixes those of `embedding_dim` kernels."""
        if self.weight_generation == "scaling":
            return generated * products
        shape = (self.gates, self.embedding_dim, -1, self.units)
        return ops.einsum("gzbu,gbz->gbu", ops.reshape(products, shape), generated)

    def modulated_sums(self, hyper_h, pre, weights):
        """Returns the modulated products of x and of h, and b, each `(gates, batch, units)`."""
        for_x, for_h, shift = self.generate(hyper_h, weights)
        return self.modulate(pre["input"], for_x), self.modulate(pre["recurrent"], for_h), shift

    @property
    def main_weights(self):
        """The weights of the main cell: kernels, bias and layer norms."""
        self._check_built("main_weights")
        return [w for w in self.weights if not w.name.startswith(OF_HYPERNETWORK)]

    @property
    def hyper_weights(self):
        """The weights of the hypernetwork: the hyper cell, and the maps from its output."""
        self._check_built("hyper_weights")
        return [w for w in self.weights if w.name.startswith(OF_HYPERNETWORK)]

    def _check_built(self, name):
        if not self.built:
            raise ValueError(f"`{name}` need a built cell. Received: cell={self!r}")

    depends_on_input = True

    def generated_weights(self, sequences, initial_state=None, mask=None):
        """Runs the cell over sequences, without dropout, and returns the weights it generates.

        In half precision c stays in float32 between the steps, as in `GatedRNN`.

        Args:
            sequences: `(batch, time, features)`.
            initial_state: list of states, default zeros.
            mask: `(batch, time)` booleans; a masked step repeats what the previous step generated,
                or what the initial state generates.

        Returns:
            A dictionary. With scaling `"d_x"`, `"d_h"` and `"b"`, each `(batch, time, gates,
            units)`, gates in the order of the kernels, b without the constant b_0. With full
            generation `"z_x"` and `"z_h"`, each `(batch, time, gates, embedding_dim)`, and `"b"`.
        """
        if len(sequences.shape) != 3:
            raise ValueError(
                "`sequences` must be (batch, time, features). "
                f"Received: shape {tuple(sequences.shape)}"
            )
        if not self.built:
            self.build((sequences.shape[0], sequences.shape[2]))

        hyper_h = compiled_if_eager(
            recorded_state, self, sequences, initial_state, mask, static=("hyper_h",)
        )
        batch, time, _ = ops.shape(hyper_h)
        weights = {name: self.to_compute_dtype(w) for name, w in self.tail_weights.items()}
        rows = self.to_compute_dtype(ops.reshape(hyper_h, (-1, self.hyper_units)))
        names = ("d_x", "d_h", "b") if self.weight_generation == "scaling" else ("z_x", "z_h", "b")
        return {
            name: ops.reshape(
                ops.transpose(part, (1, 0, 2)), (batch, time, self.gates, part.shape[2])
            )
            for name, part in zip(names, self.generate(rows, weights), strict=True)
        }

    def recurrent_kernel_changes(self, generated):
        """Returns how much the recurrent kernel of each gate changes from step to step.

        The Frobenius norm of W_h(z_t) - W_h(z_{t-1}), without building a kernel: see
        `keras_hypernets.plots.weight_changes`.

        Args:
            generated: what `generated_weights` returns.

        Returns:
            `(batch, time - 1, gates)`.
        """
        scaling = self.weight_generation == "scaling"
        values = generated["d_h" if scaling else "z_h"]
        change = ops.cast(values[:, 1:] - values[:, :-1], "float32")
        kernel = ops.cast(ops.convert_to_tensor(self.recurrent_kernel), "float32")
        if scaling:
            rows = ops.sum(ops.square(kernel), axis=1)
            squares = ops.einsum("btgu,gu->btg", ops.square(change), rows)
        else:
            kernels = ops.reshape(kernel, (self.gates, self.embedding_dim, -1))
            products = ops.matmul(kernels, ops.swapaxes(kernels, 1, 2))
            squares = ops.einsum("btgk,gkl,btgl->btg", change, products, change)
        return ops.sqrt(ops.maximum(squares, 0))

    def healthy_spreads(self):
        """Returns the healthy ranges of spreads: see `GeneratedWeightsMonitor`.

        Scales start at 0.1. They had up to 5.8 in good training, and 29 at four times the best
        learning rate. The shift b starts at zero and has no healthy range.
        """
        if self.weight_generation == "scaling":
            return dict.fromkeys(("d_x", "d_h"), (INITIAL_SCALE, INITIAL_SCALE * GROWTH))
        start = 1 / math.sqrt(self.embedding_dim)
        return dict.fromkeys(("z_x", "z_h"), (start / AROUND, start * AROUND))

    def get_config(self):
        return {
            **super().get_config(),
            "hyper_units": self.hyper_units,
            "embedding_dim": self.embedding_dim,
            "weight_generation": self.weight_generation,
            "hyper_initializer": self.hyper_initializer,
            **self._weight_options_config("hyper_kernel", "hyper_recurrent", "hyper_bias"),
            "hyper_recurrent_dropout": self.hyper_recurrent_dropout,
        }
