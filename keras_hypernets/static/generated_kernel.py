"""What layers with a generated kernel have in common."""

import keras
from keras import ops

from keras_hypernets.static.kernel_generator import KernelGenerator


class GeneratedKernelLayer(keras.Layer):
    """Base of the layers whose kernel comes from a `KernelGenerator`.

    A kernel is cut into tiles along its two channel axes, row-major: `(input tiles, output tiles)`
    (eq. 3 of the paper). Each tile has its own row of `embedding`. Without a shared generator the
    layer makes its own, whose tile is the whole kernel.

    A generator shared by several layers stays shared through `.keras` files; `clone_model`,
    `from_config` and a bare JSON config give each layer a copy of its own.

    Args:
        generator: `KernelGenerator` to share, or `None` (default).
        embedding_dim, hidden_units: of the layer's own generator, if it has one.
        activation, use_bias, bias_initializer, bias_regularizer, bias_constraint: as in Keras.
        kernel_regularizer: applied to the generated kernel. Default `None`.
        **kwargs: those of `keras.Layer`.
    """

    def __init__(
        self,
        generator=None,
        embedding_dim=16,
        hidden_units=None,
        activation=None,
        use_bias=True,
        bias_initializer="zeros",
        bias_regularizer=None,
        bias_constraint=None,
        kernel_regularizer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if generator is not None and not isinstance(generator, KernelGenerator):
            raise ValueError(
                f"`generator` must be a KernelGenerator or None. Received: generator={generator!r}"
            )
        if generator is not None and generator.dtype_policy != self.dtype_policy:
            raise ValueError(
                "`generator` must have the dtype of the layer. Received: a generator with "
                f"{generator.dtype_policy.name} and a layer with {self.dtype_policy.name}"
            )
        self.shares_generator = generator is not None
        self.generator = generator
        self.embedding_dim = embedding_dim
        self.hidden_units = hidden_units
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build_kernel(self, kernel_shape):
        """Makes the embeddings of a kernel `(*window, in, out)`, and a generator if needed.

        Raises:
            ValueError: if the kernel cannot be made of the generator's tiles.
        """
        if self.generator is None:
            self.generator = KernelGenerator(
                kernel_shape, self.embedding_dim, self.hidden_units, dtype=self.dtype_policy
            )
        *tile_window, tile_in, tile_out = self.generator.tile_shape
        *window, inputs, outputs = kernel_shape
        if tile_window != window or inputs % tile_in or outputs % tile_out:
            raise ValueError(
                f"The kernel of {self.name} must consist of whole tiles: the same window, and "
                "channels that are multiples of the tile's. Received: a kernel "
                f"{tuple(kernel_shape)} and a generator of tiles {self.generator.tile_shape}"
            )
        self.kernel_shape = tuple(kernel_shape)
        self.tiles = (inputs // tile_in, outputs // tile_out)
        if not self.generator.built:
            self.generator.build()
            self.generator.built = True
        self.embedding = self.add_weight(
            name="embedding",
            shape=(self.tiles[0] * self.tiles[1], self.generator.embedding_dim),
            initializer=self.generator.embedding_initializer(*self.tiles),
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
        return self.assemble(self.generator(self.embedding))

    def assemble(self, tiles):
        """Puts `(input tiles * output tiles, *window, in, out)` together."""
        *window, tile_in, tile_out = self.generator.tile_shape
        tiles = ops.reshape(tiles, (*self.tiles, *window, tile_in, tile_out))
        w = len(window)
        order = (*range(2, 2 + w), 0, 2 + w, 1, 3 + w)
        return ops.reshape(ops.transpose(tiles, order), self.kernel_shape)

    def regularized_kernel(self):
        """The generated kernel; its regularisation is added to the losses."""
        kernel = self.kernel
        if self.kernel_regularizer is not None:
            self.add_loss(self.kernel_regularizer(kernel))
        return kernel

    def finish(self, outputs, bias):
        """Adds the bias, if there is one, and applies the activation."""
        return self.activation(outputs if bias is None else outputs + bias)

    def get_config(self):
        generator = None
        if self.shares_generator:
            # Keras marks an object as shared only where it meets it again: serialized once, a
            # generator's first layer would not carry the mark, and loading would part the layers.
            for _ in range(2):
                generator = keras.saving.serialize_keras_object(self.generator)
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
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["generator"] = keras.saving.deserialize_keras_object(config["generator"])
        return cls(**config)
