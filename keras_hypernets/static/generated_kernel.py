"""Base class of the layers with a generated kernel."""

import keras

from keras_hypernets.constructor_arguments import FullSignature
from keras_hypernets.static.kernel_generator import (
    KernelGenerator,
    check_generator,
    serialize_shared,
    with_generator,
)
from keras_hypernets.static.tile_embeddings import TileEmbeddings, spread_of_kernel
from keras_hypernets.validation import boolean, keras_object, positive_integer

EMBEDDING_DIM = 16  # default of a layer's own generator
GENERATION_OPTIONS = (
    "generator",
    "embedding_dim",
    "hidden_units",
    "embedding_initializer",
    "embedding_regularizer",
    "embedding_constraint",
)


class GeneratedKernelLayer(FullSignature, TileEmbeddings, keras.Layer):
    """Base class of the layers whose kernel a `KernelGenerator` generates.

    A kernel is cut into tiles along its two channel axes, row-major: `(input tiles, output tiles)`
    (eq. 3 of the paper). Each tile has its own row of `embedding`. Without a shared generator the
    layer creates its own, whose tile is the whole kernel. A layer called with a `kernel` from a
    `KernelBank` has no weight except its bias.

    A generator shared by several layers stays shared in `.keras` files. `clone_model`,
    `from_config` and a bare JSON config give each layer its own copy. The generator is a sublayer
    of each layer that uses it: freezing one layer freezes it for all. To train only the embeddings,
    pass a generator with `trainable=False`.

    A subclass sets `plain_class`, the Keras layer that replaces it when a model is baked.

    Args:
        generator: shared `KernelGenerator`. Default `None`: the layer creates its own.
        embedding_dim: size of the embedding of the layer's own generator. Default `None`: 16.
        hidden_units: hidden size of the layer's own generator. Default `None`: `embedding_dim`.
            Both must be `None` with a shared generator or a given kernel.
        activation, use_bias, bias_initializer, bias_regularizer, bias_constraint: as in Keras.
        embedding_initializer, embedding_regularizer, embedding_constraint: for `embedding`, see
            `TileEmbeddings`. Default `None`.
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
        **kwargs,
    ):
        super().__init__(**kwargs)
        if generator is not None:
            check_generator(generator, self.dtype_policy)
        self.shares_generator = generator is not None
        self.takes_kernel = False
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

    def build_kernel(self, kernel_shape, given_shape):
        """Creates the embedding of a kernel `(*window, in, out)`, and a generator if needed.

        Creates neither if the layer is given a kernel, of shape `given_shape`.

        Raises:
            ValueError: if the kernel does not consist of whole tiles, or has the wrong shape.
        """
        if None in kernel_shape:
            raise ValueError(
                f"The channels or features of the input of {self.name} must be known. "
                f"Received: an input that needs the kernel {tuple(kernel_shape)}"
            )
        self.kernel_shape = tuple(kernel_shape)
        self.takes_kernel = given_shape is not None
        if self.takes_kernel:
            self.check_given_kernel(given_shape)
            names = (*GENERATION_OPTIONS, "kernel_regularizer")
            given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
            if given:
                raise ValueError(
                    f"{', '.join(f'`{name}`' for name in given)} of {self.name} must be None with "
                    "a given `kernel`, whose KernelBank has its own. Received: "
                    + ", ".join(f"{name}={value!r}" for name, value in given.items())
                )
            return
        if self.generator is None:
            self.generator = KernelGenerator(
                kernel_shape,
                self.embedding_dim or EMBEDDING_DIM,
                self.hidden_units,
                dtype=self.dtype_policy,
                trainable=self.trainable,
            )
        self.embedding = self.add_embedding(self.generator, [self.kernel_shape])

    def check_given_kernel(self, shape):
        """Raises ValueError unless every call gets a kernel of the same shape, or none does."""
        if (shape is not None) != self.takes_kernel:
            raise ValueError(
                f"`kernel` must be given to {self.name} in every call or in none. "
                f"Received: {'none' if shape is None else f'one of shape {tuple(shape)}'}"
            )
        if shape is not None and tuple(shape) != self.kernel_shape:
            raise ValueError(
                f"`kernel` must have the shape {self.kernel_shape} in {self.name}. "
                f"Received: {tuple(shape)}"
            )

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
        if self.takes_kernel:
            raise AttributeError(f"The kernel of {self.name} is an input of its call.")
        return self.generator.kernels(self.embedding, [self.kernel_shape])[0]

    def generated_weights(self):
        """Returns `{"kernel": kernel}`, or `{}` if the layer is given its kernel."""
        return {} if self.takes_kernel else {"kernel": self.kernel}

    def plain_layer(self, kernel=None):
        """Returns a built Keras layer with the same outputs and the kernel as a weight.

        Args:
            kernel: the kernel passed to the layer's calls, if any.
        """
        config = self.get_config()
        config = {name: config[name] for name in config if name not in GENERATION_OPTIONS}
        plain = self.plain_class.from_config(config)
        shape = [None] * (self.input_spec.ndim or self.input_spec.min_ndim)
        for axis, size in self.input_spec.axes.items():
            shape[axis] = size
        plain.build(tuple(shape))
        kernel = self.kernel if kernel is None else kernel
        plain.set_weights([kernel] if self.bias is None else [kernel, self.bias])
        return plain

    def healthy_spreads(self):
        """Returns the healthy range of the kernel's spread: see `GeneratedWeightsMonitor`."""
        return {} if self.takes_kernel else {"kernel": spread_of_kernel(self.kernel_shape)}

    def kernel_of(self, given):
        """Returns the kernel of a call: `given`, or the generated one."""
        self.check_given_kernel(None if given is None else given.shape)
        return self.kernel if given is None else given

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
        }

    @classmethod
    def from_config(cls, config):
        config = with_generator(config)
        # Older files store the default as a number, even with a shared generator or a given kernel.
        if config.get("embedding_dim") == EMBEDDING_DIM:
            config["embedding_dim"] = None
        return cls(**config)
