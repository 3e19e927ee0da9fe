"""KernelBank: generates the kernels of many layers in one product."""

import keras

from keras_hypernets.constructor_arguments import FullSignature
from keras_hypernets.static.kernel_generator import (
    check_generator,
    kernel_shape,
    serialize_shared,
    with_generator,
)
from keras_hypernets.static.tile_embeddings import TileEmbeddings, spread_of_kernel


@keras.saving.register_keras_serializable(package="keras_hypernets")
class KernelBank(FullSignature, TileEmbeddings, keras.Layer):
    """Generates the kernels of many layers in one product.

    Layers with the same `generator` call it one after the other. A bank calls it once, on the
    embeddings of all tiles of all kernels (eq. 2 of the paper). Pass each layer its kernel when you
    call it. Since the bank is a single layer, its kernels still share a generator after
    `clone_model` and `from_config`.

    Args:
        generator: `KernelGenerator` whose tiles the kernels consist of.
        kernel_shapes: dictionary from names to kernel shapes `(*window, in, out)`.
        kernel_regularizer: regularizer of each generated kernel, applied once however often the
            kernel is used. Default `None`.
        embedding_initializer, embedding_regularizer, embedding_constraint: for the embeddings.
            Default `None`: kernels start with the variance of He initialisation.
        **kwargs: arguments of `keras.Layer`.

    Call arguments:
        inputs: any tensor of the model, such as its input. The kernels do not depend on it; it
            only connects the bank to a functional model.

    Returns:
        A dictionary from names to kernels, like `bank.generated_weights()`.

    Raises:
        ValueError: if a kernel does not consist of whole tiles, or an argument is invalid.

    Example:

    >>> generator = keras_hypernets.KernelGenerator((3, 3, 8, 8), embedding_dim=4)
    >>> shapes = {"narrow": (3, 3, 8, 16), "wide": (3, 3, 16, 32)}
    >>> images = keras.Input((9, 9, 8))
    >>> kernels = keras_hypernets.KernelBank(generator, shapes)(images)
    >>> x = keras_hypernets.HyperConv2D(16, 3)(images, kernels["narrow"])
    >>> x = keras_hypernets.HyperConv2D(32, 3)(x, kernels["wide"])
    >>> model = keras.Model(images, x)

    Reference:
        [Ha et al., 2016](https://arxiv.org/abs/1609.09106), section 3.1.
    """

    def __init__(self, generator, kernel_shapes, **kwargs):
        super().__init__(**kwargs)
        check_generator(generator, self.dtype_policy)
        names = list(kernel_shapes) if isinstance(kernel_shapes, dict) else []
        if not names or not all(isinstance(name, str) for name in names):
            raise ValueError(
                "`kernel_shapes` must be a dictionary from at least one name to a shape. "
                f"Received: kernel_shapes={kernel_shapes!r}"
            )
        self.generator = generator
        self.kernel_shapes = {
            name: kernel_shape("kernel_shapes", shape) for name, shape in kernel_shapes.items()
        }
        for name, shape in self.kernel_shapes.items():
            generator.count_tiles(shape, name)

    def build(self, input_shape):
        self.embedding = self.add_embedding(self.generator, list(self.kernel_shapes.values()))

    def generated_weights(self):
        """Returns a dictionary from names to generated kernels."""
        if not self.built:
            raise AttributeError(f"{self.name} has no kernels before it is built.")
        kernels = self.generator.kernels(self.embedding, list(self.kernel_shapes.values()))
        return dict(zip(self.kernel_shapes, kernels, strict=True))

    def call(self, inputs):
        return self.generated_weights()

    def plain_layer(self):
        """Returns `None`: in a baked model, the layers that use the kernels own them."""
        return None

    def healthy_spreads(self):
        """Returns the healthy range of each kernel's spread: see `GeneratedWeightsMonitor`."""
        return {name: spread_of_kernel(shape) for name, shape in self.kernel_shapes.items()}

    def compute_output_shape(self, input_shape):
        return dict(self.kernel_shapes)

    def get_config(self):
        return {
            **super().get_config(),
            "generator": serialize_shared(self.generator),
            "kernel_shapes": self.kernel_shapes,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**with_generator(config))
