"""Base class of the layers with a generated kernel."""

import math

import keras
from keras import ops

from keras_hypernets.constructor_arguments import FullSignature
from keras_hypernets.static.kernel_generator import (
    KernelGenerator,
    check_generator,
    serialize_shared,
    spread_of_kernel,
    with_generator,
)
from keras_hypernets.validation import boolean, keras_object, positive_integer

EMBEDDING_DIM = 16  # default of a layer's own generator
GENERATION = "generator", "hidden_units", "embedding_"  # begins what no plain layer has


class GeneratedKernelLayer(FullSignature, keras.Layer):
    """Base class of the layers whose kernel a `KernelGenerator` generates.

    A kernel is cut into tiles along its two channel axes, row-major: `(input tiles, output tiles)`
    (eq. 3 of the paper). Each tile has its own row of `embedding`. Without a shared generator the
    layer creates its own, whose tile is the whole kernel.

    A generator shared by several layers stays shared in `.keras` files. `clone_model`,
    `from_config` and a bare JSON config give each layer its own copy. The generator is a sublayer
    of each layer that uses it: freezing one layer freezes it for all. To train only the embeddings,
    pass a generator with `trainable=False`.

    A subclass sets `plain_class`, the Keras layer that replaces it when a model is baked.

    Args:
        generator: shared `KernelGenerator`. Default `None`: the layer creates its own.
        embedding_dim: size of the embedding of the layer's own generator. Default `None`: 16.
        hidden_units: hidden size of the layer's own generator. Default `None`: `embedding_dim`.
            Both must be `None` with a shared generator.
        activation, use_bias, bias_initializer, bias_regularizer, bias_constraint: as in Keras.
        embedding_initializer: initializer of `embedding`, `(tiles, embedding_dim)`. Default `None`:
            the generator's, which gives kernels the variance of He initialization.
        embedding_regularizer, embedding_constraint: for `embedding`. Default `None`.
        kernel_regularizer: regularizer of the generated kernel, applied once however often the
            layer is called, unless its embedding is frozen. Default `None`.
        **kwargs: arguments of `keras.Layer`.
    """

    plain_class = None

    def __init__(
        self,
        generator=None,
        embedding_dim=None,
        hidden_units=None,
        activation=None,
        use_bias=True,
        bias_initializer="zeros",
        bias_regularizer=None,
        bias_constraint=None,
        embedding_initializer=None,
        embedding_regularizer=None,
        embedding_constraint=None,
        kernel_regularizer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if generator is not None:
            check_generator(generator, self.dtype_policy)
        self.shares_generator = generator is not None
        self.generator = generator
        if embedding_dim is not None:
            embedding_dim = positive_integer("embedding_dim", embedding_dim)
        if hidden_units is not None:
            hidden_units = positive_integer("hidden_units", hidden_units)
        self.embedding_dim = embedding_dim
        self.hidden_units = hidden_units
        if self.shares_generator and (embedding_dim, hidden_units) != (None, None):
            raise ValueError(
                "`embedding_dim` and `hidden_units` must be None with a `generator`, which has its "
                f"own. Received: embedding_dim={embedding_dim}, hidden_units={hidden_units}, "
                f"generator={generator!r}"
            )
        self.activation = keras_object("activation", activation)
        self.use_bias = boolean("use_bias", use_bias)
        self.bias_initializer = keras_object("bias_initializer", bias_initializer)
        self.bias_regularizer = keras_object("bias_regularizer", bias_regularizer)
        self.bias_constraint = keras_object("bias_constraint", bias_constraint)
        if embedding_initializer is not None:
            embedding_initializer = keras_object("embedding_initializer", embedding_initializer)
        self.embedding_initializer = embedding_initializer
        self.embedding_regularizer = keras_object("embedding_regularizer", embedding_regularizer)
        self.embedding_constraint = keras_object("embedding_constraint", embedding_constraint)
        self.kernel_regularizer = keras_object("kernel_regularizer", kernel_regularizer)

    def build_kernel(self, kernel_shape):
        """Creates the embedding of a kernel `(*window, in, out)`, and a generator if needed.

        Raises:
            ValueError: if the kernel does not consist of whole tiles.
        """
        if None in kernel_shape:
            raise ValueError(
                f"The channels or features of the input of {self.name} must be known. "
                f"Received: an input that needs the kernel {tuple(kernel_shape)}"
            )
        self.kernel_shape = tuple(kernel_shape)
        if self.generator is None:
            self.generator = KernelGenerator(
                kernel_shape,
                self.embedding_dim or EMBEDDING_DIM,
                self.hidden_units,
                dtype=self.dtype_policy,
                trainable=self.trainable,
            )
        generator = self.generator
        if not generator.built:
            generator.build()
        grid = generator.count_tiles(self.kernel_shape, self.name)
        penalized = self.embedding_regularizer or self.kernel_regularizer
        self.embedding = self.add_weight(
            name="embedding",
            shape=(math.prod(grid), generator.embedding_dim),
            initializer=self.embedding_initializer or generator.embedding_initializer(*grid),
            regularizer=penalized and self._penalty,
            constraint=self.embedding_constraint,
        )

    def _penalty(self, embedding):
        penalty = self.embedding_regularizer(embedding) if self.embedding_regularizer else 0.0
        if self.kernel_regularizer is None:
            return penalty
        (kernel,) = self.generator.kernels(embedding, [self.kernel_shape])
        # Losses are summed in the variables' dtype, which is wider under mixed precision.
        return penalty + self.kernel_regularizer(ops.cast(kernel, self.variable_dtype))

    def build_bias(self, size):
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(size,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    @property
    def kernel(self):
        """The generated kernel `(*window, in, out)`."""
        if not self.built:
            raise AttributeError(f"{self.name} has no kernel before it is built.")
        return self.generator.kernels(self.embedding, [self.kernel_shape])[0]

    def generated_weights(self):
        """Returns `{"kernel": kernel}`."""
        return {"kernel": self.kernel}

    def plain_layer(self):
        """Returns a built Keras layer with the same outputs and the kernel as a weight."""
        config = self.get_config()
        config = {name: config[name] for name in config if not name.startswith(GENERATION)}
        plain = self.plain_class.from_config(config)
        shape = [None] * (self.input_spec.ndim or self.input_spec.min_ndim)
        for axis, size in self.input_spec.axes.items():
            shape[axis] = size
        plain.build(tuple(shape))
        plain.set_weights([self.kernel] if self.bias is None else [self.kernel, self.bias])
        return plain

    def healthy_spreads(self):
        """Returns the healthy range of the kernel's spread: see `GeneratedWeightsMonitor`."""
        return {"kernel": spread_of_kernel(self.kernel_shape)}

    def finish(self, outputs, bias):
        """Adds the bias, if any, and applies the activation."""
        return self.activation(outputs if bias is None else outputs + bias)

    def get_config(self):
        generator = serialize_shared(self.generator) if self.shares_generator else None
        return {
            **super().get_config(),
            "generator": generator,
            "embedding_dim": self.embedding_dim,
            "hidden_units": self.hidden_units,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
            "embedding_initializer": keras.initializers.serialize(self.embedding_initializer),
            "embedding_regularizer": keras.regularizers.serialize(self.embedding_regularizer),
            "embedding_constraint": keras.constraints.serialize(self.embedding_constraint),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }

    @classmethod
    def from_config(cls, config):
        config = with_generator(config)
        # Older files store the default as a number, even with a shared generator.
        if config.get("embedding_dim") == EMBEDDING_DIM:
            config["embedding_dim"] = None
        return cls(**config)
