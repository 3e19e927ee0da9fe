"""A recurrent cell whose weights are generated at each step by a smaller recurrent cell."""

import keras
from keras import ops

from keras_hypernets.dynamic.gated_cell import GatedCell
from keras_hypernets.dynamic.recorder import Recorder
from keras_hypernets.dynamic.weight_generation import WeightGeneration
from keras_hypernets.validation import by_keras, one_of, positive_integer, rate

OF_HYPERNETWORK = ("hyper_", "embedding_", "scale_")  # how its weights' names begin


class HyperCell(WeightGeneration, GatedCell):
    """Base of the cells with a hypernetwork.

    The small cell reads the input and the state of the main cell; what its output does to the main
    cell's weights stands in `WeightGeneration`.

    Subclasses set `gates` (of a kernel) and `bias_rows`, and say in `hyper_maps`, `add_layer_norms`
    and `tail` what the two recurrent networks are.

    Args:
        units: positive integer, size of the main network.
        hyper_units: positive integer, size of the small cell. Default `None`: an eighth of
            `units`, but at least 16 and at most `units`.
        embedding_dim: positive integer, size of every z. Default 16.
        weight_generation: `"scaling"` or `"full"`.
        hyper_initializer: `"default"`, or `"paper"` for the values of the paper's appendix A.2.3,
            under which the coordinates of a scaling embedding never differ (see the README). Full
            generation is not in the paper: its z_x and z_h start at 1 / sqrt(embedding_dim).
        kernel_initializer, hyper_kernel_initializer: default `None`, which is `"glorot_uniform"`,
            or `"orthogonal"` with `hyper_initializer="paper"`.
        hyper_recurrent_initializer, hyper_bias_initializer, and hyper_..._regularizer, _constraint:
            as for the main network.
        hyper_recurrent_dropout: rate of the small cell's recurrent dropout. Default 0.
        **kwargs: those of `GatedCell`.
    """

    gates = None
    bias_rows = None
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
        if kernel_initializer is None:
            kernel_initializer = usual
        if hyper_kernel_initializer is None:
            hyper_kernel_initializer = usual
        super().__init__(units, kernel_initializer=kernel_initializer, **kwargs)
        if hyper_units is None:
            hyper_units = min(self.units, max(16, self.units // 8))
        self.hyper_units = positive_integer("hyper_units", hyper_units)
        self.embedding_dim = positive_integer("embedding_dim", embedding_dim)
        self.weight_generation = one_of("weight_generation", weight_generation, ("scaling", "full"))
        self.hyper_initializer = hyper_initializer
        self.hyper_kernel_initializer = by_keras(
            "hyper_kernel_initializer", hyper_kernel_initializer
        )
        self.hyper_recurrent_initializer = by_keras(
            "hyper_recurrent_initializer", hyper_recurrent_initializer
        )
        self.hyper_bias_initializer = by_keras("hyper_bias_initializer", hyper_bias_initializer)
        self.hyper_kernel_regularizer = by_keras(
            "hyper_kernel_regularizer", hyper_kernel_regularizer
        )
        self.hyper_recurrent_regularizer = by_keras(
            "hyper_recurrent_regularizer", hyper_recurrent_regularizer
        )
        self.hyper_bias_regularizer = by_keras("hyper_bias_regularizer", hyper_bias_regularizer)
        self.hyper_kernel_constraint = by_keras("hyper_kernel_constraint", hyper_kernel_constraint)
        self.hyper_recurrent_constraint = by_keras(
            "hyper_recurrent_constraint", hyper_recurrent_constraint
        )
        self.hyper_bias_constraint = by_keras("hyper_bias_constraint", hyper_bias_constraint)
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
        gates = self.gates
        blocks = gates if self.weight_generation == "scaling" else gates * self.embedding_dim
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
        self.add_generation_weights()
        self.add_layer_norms(units)
        self.add_layer_norms(hyper_units, "hyper_")

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

    @property
    def main_weights(self):
        """The weights of the main cell: kernels, bias and layer norms."""
        return [w for w in self.weights if not w.name.startswith(OF_HYPERNETWORK)]

    @property
    def hyper_weights(self):
        """The weights of the hypernetwork: the small cell, and the maps from its output."""
        return [w for w in self.weights if w.name.startswith(OF_HYPERNETWORK)]

    def generated_weights(self, sequences, initial_state=None, mask=None):
        """Runs the cell over sequences, without dropout, and returns what it generates.

        In half precision c goes from step to step in float32, as in `GatedRNN`.

        Args:
            sequences: `(batch, time, features)`.
            initial_state: list of states, default zeros.
            mask: `(batch, time)` booleans; a masked step repeats what the step before generated.

        Returns:
            `(x, h, b)`: with scaling d_x(z), d_h(z) and b(z), each `(batch, time, gates, units)`,
            gates in the order of the kernels, b without the constant b_0; with full generation z_x
            and z_h, each `(batch, time, gates, embedding_dim)`, and b.
        """
        if len(sequences.shape) != 3:
            raise ValueError(
                "`sequences` must be (batch, time, features). "
                f"Received: shape {tuple(sequences.shape)}"
            )
        if not self.built:
            self.build((sequences.shape[0], sequences.shape[2]))

        def row_of(output, states):
            small = {name: self.computable(w) for name, w in self.small.items()}
            hyper_h = states[self.state_names.index("hyper_h")]
            rows = [
                ops.reshape(ops.transpose(part, (1, 0, 2)), (-1, part.shape[0] * part.shape[2]))
                for part in self.generate(hyper_h, small)
            ]
            return ops.concatenate(rows, axis=-1)

        recorder = Recorder(self, row_of, self.gates * sum(self.generated_sizes))
        recorder = keras.layers.RNN(recorder, return_sequences=True, dtype=recorder.dtype_policy)
        record = recorder(sequences, initial_state=initial_state, mask=mask, training=False)
        record = ops.cast(record, self.compute_dtype)
        x, h, _ = self.generated_sizes
        parts = ops.split(record, [self.gates * x, self.gates * (x + h)], axis=-1)
        shape = (*ops.shape(record)[:2], self.gates)
        return tuple(
            ops.reshape(part, (*shape, size))
            for part, size in zip(parts, self.generated_sizes, strict=True)
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
