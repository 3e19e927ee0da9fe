"""GatedCell: base class of recurrent cells, a table of linear maps and a pure tail."""

import keras
from keras import ops

from keras_hypernets.constructor_arguments import FullSignature
from keras_hypernets.dynamic.weights_of_tail import WeightsOfTail
from keras_hypernets.initializers import per_gate
from keras_hypernets.validation import (
    boolean,
    keras_object,
    positive_integer,
    positive_number,
    rate,
    seed_integer,
)


class GatedCell(FullSignature, keras.Layer):
    r"""Base class of recurrent cells: a table of linear maps and a pure function `tail`.

    One step of any gated recurrent network is

        p_t = sum over sources s of W_ps s_t        (`linear_maps`: pre-activation p, source s)
        y_t, state_t = tail(p_t, state_{t-1})       (everything else)

    A source is the input `"x"` or a state of the previous step. A subclass defines the maps and the
    tail; this class applies them. So the same cell runs inside `keras.layers.RNN` and in the faster
    loops of `GatedRNN`.

    Kernels are gate-major, `(gates, in, units)`: `x @ W` gives `(gates, batch, units)`, whose gates
    are contiguous.

    A subclass defines

    - `state_names`: names of the states, starting with `"h"`, the output.
    - `state_size`: list with the size of each state. Default: `units` for each.
    - `build(input_shape)`: creates the weights with `add_gate_weight` and `add_weight`.
    - `linear_maps`: property, `{pre_activation: {source: kernel}}`.
    - `tail(pre, state, weights, dropout_masks)`: pure function of four dictionaries. `pre` holds
      the sums `(gates, batch, units)`; `state` the previous states; `weights` all weights outside
      `linear_maps`, by name (`self.name` reads the same value); `dropout_masks` the masks of this
      step, empty outside training. Returns the output `(batch, units)` and a dictionary of all new
      states.
    - `dropout_rates` (optional): property, `{name: (rate, units)}` of the masks that `tail` gets.
    - `float32_states` (optional): names of states that add up over many steps and are not in a
      linear map. In half precision `GatedRNN` passes them to `tail` in float32, and `tail` returns
      them in float32.

    Args:
        units: positive integer, size of the output.
        activation: activation of candidates and outputs. Default `"tanh"`.
        recurrent_activation: activation of gates. Default `"sigmoid"`.
        use_bias: whether to use biases. Default `True`.
        layer_norm: whether `normalize` has an effect. Default `False`.
        layer_norm_epsilon: positive number added to the variance. Default 1e-3.
        kernel_initializer: initializer of the input's kernels. Default `"glorot_uniform"`. All
            initializers, regularizers and constraints act on each gate's block separately.
        recurrent_initializer: initializer of the states' kernels. Default `"orthogonal"`, for each
            gate, like `keras_hypernets.initializers.GateOrthogonal`.
        bias_initializer: initializer of the bias. Default `"zeros"`.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: regularizers. Default `None`.
        kernel_constraint, recurrent_constraint, bias_constraint: constraints. Default `None`.
        recurrent_dropout: rate in [0, 1) of the dropout inside the recurrence. Default 0.
        seed: integer seed of the dropout masks. Default `None`: random.

    Call arguments:
        inputs: `(batch, features)`, one time step.
        states: list of `(batch, size)` tensors, in the order of `state_names`.
        training: whether to apply dropout.

    Returns:
        The output `(batch, units)` and the list of new states.

    Raises:
        ValueError: if an argument is out of range, inputs or states have the wrong shape, or a
            subclass breaks these rules.

    Each step draws a new dropout mask. On the JAX backend `keras.layers.RNN` runs its steps in
    `jax.lax.scan`, which cannot update the seed: there recurrent dropout needs `unroll=True`, or
    `GatedRNN`.

    Example:

    >>> @keras.saving.register_keras_serializable(package="example")
    ... class MinimalGatedCell(keras_hypernets.GatedCell):
    ...     state_names = ("h",)
    ...
    ...     def build(self, input_shape):
    ...         self.kernel = self.add_gate_weight("kernel", (2, input_shape[-1], self.units))
    ...         self.recurrent_kernel = self.add_gate_weight(
    ...             "recurrent_kernel", (2, self.units, self.units), "recurrent")
    ...         if self.use_bias:
    ...             self.add_gate_weight("bias", (2, self.units), "bias")
    ...         self.add_layer_norm("gate", (2, self.units))
    ...
    ...     @property
    ...     def linear_maps(self):
    ...         return {"gates": {"x": self.kernel, "h": self.recurrent_kernel}}
    ...
    ...     def tail(self, pre, state, weights, dropout_masks):
    ...         gates = self.add_bias(pre["gates"], weights, "bias")
    ...         f, c = keras.ops.unstack(self.normalize(gates, weights, "gate"), 2)
    ...         f = self.recurrent_activation(f)
    ...         c = self.activation(c) * dropout_masks.get("candidate", 1.0)
    ...         h = f * state["h"] + (1 - f) * c
    ...         return h, {"h": h}
    >>> layer = keras.layers.RNN(MinimalGatedCell(8), return_sequences=True)
    >>> tuple(layer(keras.ops.ones((2, 5, 3))).shape)
    (2, 5, 8)
    """

    state_names = ("h",)
    float32_states = ()
    bias = None

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias=True,
        layer_norm=False,
        layer_norm_epsilon=1e-3,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        recurrent_dropout=0.0,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = positive_integer("units", units)
        self.activation = keras_object("activation", activation)
        self.recurrent_activation = keras_object("recurrent_activation", recurrent_activation)
        self.use_bias = boolean("use_bias", use_bias)
        self.layer_norm = boolean("layer_norm", layer_norm)
        self.layer_norm_epsilon = positive_number("layer_norm_epsilon", layer_norm_epsilon)
        self.kernel_initializer = keras_object("kernel_initializer", kernel_initializer)
        self.recurrent_initializer = keras_object("recurrent_initializer", recurrent_initializer)
        self.bias_initializer = keras_object("bias_initializer", bias_initializer)
        self.kernel_regularizer = keras_object("kernel_regularizer", kernel_regularizer)
        self.recurrent_regularizer = keras_object("recurrent_regularizer", recurrent_regularizer)
        self.bias_regularizer = keras_object("bias_regularizer", bias_regularizer)
        self.kernel_constraint = keras_object("kernel_constraint", kernel_constraint)
        self.recurrent_constraint = keras_object("recurrent_constraint", recurrent_constraint)
        self.bias_constraint = keras_object("bias_constraint", bias_constraint)
        self.recurrent_dropout = rate("recurrent_dropout", recurrent_dropout)
        self.seed = None if seed is None else seed_integer("seed", seed, 2**32)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    @property
    def state_size(self):
        return [self.units] * len(self.state_names)

    @property
    def output_size(self):
        return self.units

    @property
    def linear_maps(self):
        """The linear maps of a step, `{pre_activation: {source: kernel}}`."""
        raise NotImplementedError(f"{type(self).__name__} must define the property `linear_maps`.")

    def tail(self, pre, state, weights, dropout_masks):
        """Computes the rest of a step from the sums `pre`: the output and the new states."""
        raise NotImplementedError(f"{type(self).__name__} must define `tail`.")

    @property
    def tail_weights(self):
        """All weights outside `linear_maps`, by name: what `tail` reads."""
        large = {id(kernel) for maps in self.linear_maps.values() for kernel in maps.values()}
        weights = {}
        for weight in self.weights:
            if id(weight) in large:
                continue
            if weight.name in weights:
                raise ValueError(
                    f"The weights of {type(self).__name__} outside `linear_maps` must have "
                    f"different names. Received: {weights[weight.name].path!r} and {weight.path!r}"
                )
            weights[weight.name] = weight
        return weights

    @property
    def dropout_rates(self):
        return {"candidate": (self.recurrent_dropout, self.units)}

    def draw_dropout_masks(self, batch_size):
        """Draws the dropout masks of one training step, `{name: (batch, units)}`."""
        return {
            name: keras.random.dropout(
                ops.ones((batch_size, units), self.compute_dtype), r, seed=self.seed_generator
            )
            for name, (r, units) in self.dropout_rates.items()
            if r > 0
        }

    def add_weight(self, *args, **kwargs):
        """Adds a weight, also as an attribute, where TensorFlow's checkpoints find it."""
        weight = super().add_weight(*args, **kwargs)
        taken = getattr(type(self), weight.name, None) is not None
        if taken or vars(self).get(weight.name) is not None:
            raise ValueError(
                f"`name` of a weight must not be that of another attribute of "
                f"{type(self).__name__}. Received: name={weight.name!r}"
            )
        setattr(self, weight.name, weight)
        return weight

    def add_gate_weight(self, name, shape, options="kernel"):
        """Adds a weight of shape `(gates, ...)`, whose gates are initialized separately.

        Args:
            name: name of the weight.
            shape: `(gates, in, units)` or `(gates, units)`.
            options: prefix of its initializer, regularizer and constraint: `"kernel"` means
                `self.kernel_initializer` and so on.
        """
        regularizer = getattr(self, f"{options}_regularizer")
        constraint = getattr(self, f"{options}_constraint")
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=per_gate(getattr(self, f"{options}_initializer"), name),
            regularizer=regularizer and (lambda w: sum(map(regularizer, ops.unstack(w, shape[0])))),
            constraint=constraint
            and (lambda w: ops.stack([constraint(block) for block in ops.unstack(w, shape[0])])),
        )

    def add_layer_norm(self, name, shape):
        """Adds the gain `{name}_gamma` and the offset `{name}_beta`, if `layer_norm`."""
        if self.layer_norm:
            self.add_weight(name=f"{name}_gamma", shape=shape, initializer="ones")
            self.add_weight(name=f"{name}_beta", shape=shape, initializer="zeros")

    def normalize(self, x, weights, name):
        """Normalizes over the units with the gain and offset of `name`, if `layer_norm`.

        `gamma * (x - mean) / sqrt(variance + epsilon) + beta`, with the statistics of
        half-precision values in float32.
        """
        if not self.layer_norm:
            return x
        gamma, beta = weights[f"{name}_gamma"], weights[f"{name}_beta"]
        if len(gamma.shape) == 2:
            gamma, beta = gamma[:, None], beta[:, None]
        wide = ops.cast(x, "float32") if ops.dtype(x) in ("float16", "bfloat16") else x
        centred = wide - ops.mean(wide, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
        normalized = centred * ops.rsqrt(variance + self.layer_norm_epsilon)
        return ops.cast(normalized, ops.dtype(gamma)) * gamma + beta

    def add_bias(self, gates, weights, name):
        """Adds the bias `(gates, units)` of that name, if `use_bias`."""
        return gates + weights[name][:, None] if self.use_bias else gates

    def get_initial_state(self, batch_size=None):
        return [ops.zeros((batch_size, size), self.compute_dtype) for size in self.state_size]

    def call(self, inputs, states, training=False):
        self.check_shapes(inputs, states)
        # A stateful layer's states are variables, which `convert_to_tensor` would keep.
        states = [ops.cast(state, state.dtype) for state in states]
        state = dict(zip(self.state_names, states, strict=True))
        sources = {**state, "x": inputs}
        value = self.to_compute_dtype
        pre = {
            name: sum(ops.matmul(value(sources[s]), value(kernel)) for s, kernel in maps.items())
            for name, maps in self.linear_maps.items()
        }
        weights = {name: value(weight) for name, weight in self.tail_weights.items()}
        dropout_masks = self.draw_dropout_masks(ops.shape(inputs)[0]) if training else {}
        output, new_state = self.checked(self.tail(pre, state, weights, dropout_masks))
        return output, [new_state[name] for name in self.state_names]

    def to_compute_dtype(self, tensor):
        """Casts a tensor or variable to the compute dtype."""
        return ops.cast(ops.convert_to_tensor(tensor), self.compute_dtype)

    def run_tail(self, pre, state, weights, dropout_masks):
        """Runs `tail` in a loop that keeps the weights in `weights`, not in variables."""
        with WeightsOfTail(self, weights):
            return self.checked(self.tail(pre, state, weights, dropout_masks))

    def checked(self, results):
        """Returns the results of `tail`, or raises ValueError unless they have all states."""
        output, new_state = results
        if set(new_state) != set(self.state_names):
            raise ValueError(
                f"`tail` of {type(self).__name__} must return the output and a dictionary of all "
                f"new states {self.state_names}. Received: states {tuple(new_state)}"
            )
        return output, new_state

    def check_shapes(self, inputs, states):
        """Raises ValueError for inputs or states of a wrong shape, and for unknown sources."""
        sources = {s: kernel for maps in self.linear_maps.values() for s, kernel in maps.items()}
        if "x" not in sources or not set(sources) <= {"x", *self.state_names}:
            raise ValueError(
                f'The sources in `linear_maps` of {type(self).__name__} must be the input "x" and '
                f"any of its states {self.state_names}. Received: sources {tuple(sources)}"
            )
        features = sources["x"].shape[1]
        if len(inputs.shape) != 2 or inputs.shape[1] not in (features, None):
            raise ValueError(
                f"`inputs` of {type(self).__name__} must be (batch, {features}). "
                f"Received: shape {tuple(inputs.shape)}"
            )
        sizes = dict(zip(self.state_names, self.state_size, strict=True))
        shapes = [tuple(state.shape) for state in states]
        batches = {inputs.shape[0], *(shape[0] for shape in shapes if shape), None}
        if [shape[1:] for shape in shapes] != [(n,) for n in sizes.values()] or len(batches) > 2:
            raise ValueError(
                f"`states` of {type(self).__name__} must be {len(sizes)} tensors (batch, size) "
                f"with the sizes {sizes} and the batch of the inputs. "
                f"Received: shapes {shapes} and inputs of shape {tuple(inputs.shape)}"
            )

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "recurrent_activation": keras.activations.serialize(self.recurrent_activation),
            "use_bias": self.use_bias,
            "layer_norm": self.layer_norm,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            **self._weight_options_config("kernel", "recurrent", "bias"),
            "recurrent_dropout": self.recurrent_dropout,
            "seed": self.seed,
        }

    def _weight_options_config(self, *groups):
        kinds = {
            "initializer": keras.initializers,
            "regularizer": keras.regularizers,
            "constraint": keras.constraints,
        }
        return {
            f"{group}_{kind}": module.serialize(getattr(self, f"{group}_{kind}"))
            for kind, module in kinds.items()
            for group in groups
        }
