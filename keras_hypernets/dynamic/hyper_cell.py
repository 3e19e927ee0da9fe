"""A recurrent cell whose weights are generated at each step by a smaller recurrent cell."""

import math

import keras
from keras import ops

from keras_hypernets.dynamic.gated_cell import GatedCell
from keras_hypernets.validation import one_of, positive_integer, rate

INITIAL_SCALE = 0.1  # d(z) of every unit at the start (Cooijmans et al., arXiv 1603.09025)

# Deviation of the initial map from the small cell to z. The paper's zeros give all coordinates of
# z_x and z_h equal gradients for ever, and its 0.01 for z_b hardly parts them: after 600 steps on
# text the second singular value of a scale map was 0.02 of the first; with 0.1 it was 0.2.
EMBEDDING_DEVIATION = 0.1


class HyperCell(GatedCell):
    r"""Base of the cells with a hypernetwork: from the small cell's output to generated weights.

    With h^_t the output of the small cell at the same step, for each gate y and each path (eq. 11):

        z_x = A_x h^_t + a_x        z_h = A_h h^_t + a_h        z_b = A_b h^_t

    `weight_generation="scaling"` scales the rows of fixed kernels, which is the same as scaling
    their products (eq. 7, 8 and 12):

        y_t = d_x(z_x) * (W_x x_t) + d_h(z_h) * (W_h h_{t-1}) + b(z_b)
        d_x(z) = D_x z              d_h(z) = D_h z              b(z) = B z + b_0

    `weight_generation="full"` mixes whole kernels (eq. 5, memory grows with `embedding_dim`):

        y_t = sum_k z_x[k] W_x[k] x_t + sum_k z_h[k] W_h[k] h_{t-1} + b(z_b)

    All embeddings come from one product with `embedding_kernel`, all of d and b from one batched
    product with `scale_kernel`.

    Subclasses set `gates` (of a kernel) and `bias_rows`, and say in `hyper_maps`, `add_layer_norms`
    and `tail` what the two recurrent networks are.

    Args:
        units: positive integer, size of the main network.
        hyper_units: positive integer, size of the small cell. Default 128.
        embedding_dim: positive integer, size of every z. Default 16.
        weight_generation: `"scaling"` or `"full"`.
        hyper_initializer: `"default"`, or `"paper"` for the values of the paper's appendix A.2.3,
            under which the coordinates of a scaling embedding never differ (see the README).
        kernel_initializer, hyper_kernel_initializer: default `None`, which is `"glorot_uniform"`,
            or `"orthogonal"` with `hyper_initializer="paper"`.
        hyper_recurrent_initializer, hyper_bias_initializer, and hyper_..._regularizer, _constraint:
            as for the main network.
        hyper_recurrent_dropout: rate of the small cell's recurrent dropout. Default 0.
        **kwargs: those of `GatedCell`.
    """

    gates = None
    bias_rows = None

    def __init__(
        self,
        units,
        hyper_units=128,
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
        super().__init__(units, kernel_initializer=kernel_initializer or usual, **kwargs)
        self.hyper_units = positive_integer("hyper_units", hyper_units)
        self.embedding_dim = positive_integer("embedding_dim", embedding_dim)
        self.weight_generation = one_of("weight_generation", weight_generation, ("scaling", "full"))
        self.hyper_initializer = hyper_initializer
        self.hyper_kernel_initializer = keras.initializers.get(hyper_kernel_initializer or usual)
        self.hyper_recurrent_initializer = keras.initializers.get(hyper_recurrent_initializer)
        self.hyper_bias_initializer = keras.initializers.get(hyper_bias_initializer)
        self.hyper_kernel_regularizer = keras.regularizers.get(hyper_kernel_regularizer)
        self.hyper_recurrent_regularizer = keras.regularizers.get(hyper_recurrent_regularizer)
        self.hyper_bias_regularizer = keras.regularizers.get(hyper_bias_regularizer)
        self.hyper_kernel_constraint = keras.constraints.get(hyper_kernel_constraint)
        self.hyper_recurrent_constraint = keras.constraints.get(hyper_recurrent_constraint)
        self.hyper_bias_constraint = keras.constraints.get(hyper_bias_constraint)
        self.hyper_recurrent_dropout = rate("hyper_recurrent_dropout", hyper_recurrent_dropout)

    @property
    def state_size(self):
        return [
            self.hyper_units if name.startswith("hyper_") else self.units
            for name in self.state_names
        ]

    @property
    def noise_rates(self):
        return {
            "candidate": (self.recurrent_dropout, self.units),
            "hyper_candidate": (self.hyper_recurrent_dropout, self.hyper_units),
        }

    def build(self, input_shape):
        inputs, units, hyper_units = input_shape[-1], self.units, self.hyper_units
        gates, z = self.gates, self.embedding_dim
        full = self.weight_generation == "full"
        blocks = gates * z if full else gates
        add = self.add_gate_weight
        self.kernel = add("kernel", (blocks, inputs, units))
        self.recurrent_kernel = add("recurrent_kernel", (blocks, units, units), "recurrent")
        if self.use_bias:
            add("bias", (self.bias_rows, units), "bias")
        self.hyper_kernel = add("hyper_kernel", (gates, inputs, hyper_units), "hyper_kernel")
        self.hyper_state_kernel = add(
            "hyper_state_kernel", (gates, units, hyper_units), "hyper_kernel"
        )
        self.hyper_recurrent_kernel = add(
            "hyper_recurrent_kernel", (gates, hyper_units, hyper_units), "hyper_recurrent"
        )
        if self.use_bias:
            add("hyper_bias", (self.bias_rows, hyper_units), "hyper_bias")
        self.add_weight(
            name="embedding_kernel",
            shape=(hyper_units, 3 * gates * z),
            initializer=self._initial_embedding_kernel,
        )
        self.add_weight(
            name="embedding_bias",
            shape=(2 * gates * z,),
            # A mix of z kernels with these weights has the variance of one of them.
            initializer=keras.initializers.Constant(1 / math.sqrt(z) if full else 1.0),
        )
        self.add_weight(
            name="scale_kernel",
            shape=(gates if full else 3 * gates, z, units),
            initializer="zeros" if full else self._initial_scale_kernel,
        )
        self.add_layer_norms(units)
        self.add_layer_norms(hyper_units, "hyper_")

    def _initial_embedding_kernel(self, shape, dtype=None):
        normal = keras.initializers.RandomNormal
        if self.hyper_initializer == "default":
            return normal(stddev=EMBEDDING_DEVIATION)(shape, dtype)
        rows, of_b = shape[0], shape[1] // 3
        zeros = ops.zeros((rows, 2 * of_b), dtype)
        return ops.concatenate([zeros, normal(stddev=0.01)((rows, of_b), dtype)], axis=1)

    def _initial_scale_kernel(self, shape, dtype=None):
        shape = (self.gates, *shape[1:])
        scale = ops.full(shape, INITIAL_SCALE / self.embedding_dim, dtype)
        return ops.concatenate([scale, scale, ops.zeros(shape, dtype)])

    @property
    def hyper_maps(self):
        """The linear maps of the small cell, as in `linear`."""
        return {
            "hyper": {
                "x": self.hyper_kernel,
                "h": self.hyper_state_kernel,
                "hyper_h": self.hyper_recurrent_kernel,
            }
        }

    @property
    def linear(self):
        return {
            "input": {"x": self.kernel},
            "recurrent": {"h": self.recurrent_kernel},
            **self.hyper_maps,
        }

    def generate(self, hyper_h, small):
        """Generates the weights of one step.

        Args:
            hyper_h: `(batch, hyper_units)`, output of the small cell.
            small: the weights of the tail by name.

        Returns:
            What modulates the input's products, what modulates the state's products, and the shift
            b. With scaling d_x, d_h and b, each `(gates, batch, units)`; with full generation z_x
            and z_h, each `(gates, batch, embedding_dim)`, and b.
        """
        no_bias = self.gates * self.embedding_dim
        z = ops.matmul(hyper_h, small["embedding_kernel"])
        z += ops.pad(small["embedding_bias"], [[0, no_bias]])
        z = ops.transpose(ops.reshape(z, (-1, 3 * self.gates, self.embedding_dim)), (1, 0, 2))
        if self.weight_generation == "scaling":
            return ops.split(ops.matmul(z, small["scale_kernel"]), 3)
        z_x, z_h, z_b = ops.split(z, 3)
        return z_x, z_h, ops.matmul(z_b, small["scale_kernel"])

    def modulate(self, products, weights):
        """Scales `(gates, batch, units)` products, or mixes those of `embedding_dim` kernels."""
        if self.weight_generation == "scaling":
            return weights * products
        shape = (self.gates, self.embedding_dim, -1, self.units)
        return ops.einsum("gzbu,gbz->gbu", ops.reshape(products, shape), weights)

    def modulated_sums(self, hyper_h, pre, small):
        """Returns the modulated products of x and of h and the shift b, `(gates, batch, units)`."""
        for_x, for_h, shift = self.generate(hyper_h, small)
        return self.modulate(pre["input"], for_x), self.modulate(pre["recurrent"], for_h), shift

    def generated_weights(self, sequences, initial_state=None, mask=None):
        """Runs the cell over sequences and returns what it generated at every step.

        Args:
            sequences: `(batch, time, features)`.
            initial_state: list of states, default zeros.
            mask: `(batch, time)` booleans; a masked step repeats what the step before generated.

        Returns:
            `(x, h, b)`: with scaling d_x(z), d_h(z) and b(z), each `(batch, time, gates, units)`,
            gates in the order of the kernels, b without the constant b_0; with full generation z_x
            and z_h, each `(batch, time, gates, embedding_dim)`, and b.
        """
        if not self.built:
            self.build(sequences.shape)
            self.built = True
        recorder = keras.layers.RNN(_Recorder(self), return_sequences=True, dtype=self.dtype_policy)
        record = recorder(sequences, initial_state=initial_state, mask=mask)
        sizes = [self.units] * 3
        if self.weight_generation == "full":
            sizes[:2] = [self.embedding_dim] * 2
        ends = [self.gates * sum(sizes[:n]) for n in (1, 2)]
        batch, time = ops.shape(record)[:2]
        return tuple(
            ops.reshape(part, (batch, time, self.gates, size))
            for part, size in zip(ops.split(record, ends, axis=-1), sizes, strict=True)
        )

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


class _Recorder(keras.Layer):
    """A cell that outputs the weights which another one generates, one row per example."""

    def __init__(self, cell):
        super().__init__(dtype=cell.dtype_policy)
        self.cell = cell
        self.state_size = cell.state_size
        sizes = [cell.units] * 3
        if cell.weight_generation == "full":
            sizes[:2] = [cell.embedding_dim] * 2
        self.output_size = cell.gates * sum(sizes)

    def call(self, inputs, states):
        _, states = self.cell(inputs, states)
        hyper_h = states[self.cell.state_names.index("hyper_h")]
        small = {name: ops.convert_to_tensor(w) for name, w in self.cell.small.items()}
        parts = self.cell.generate(hyper_h, small)
        rows = [
            ops.reshape(ops.transpose(part, (1, 0, 2)), (-1, part.shape[0] * part.shape[2]))
            for part in parts
        ]
        return ops.concatenate(rows, axis=-1), states
