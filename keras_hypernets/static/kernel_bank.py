"""KernelBank: the kernels of many layers from one generator, in one product."""

import keras

from keras_hypernets.static.kernel_generator import (
    check_generator,
    kernel_shape,
    serialize_generator,
    with_generator,
)
from keras_hypernets.validation import keras_object


@keras.saving.register_keras_serializable(package="keras_hypernets")
class KernelBank(keras.Layer):
    """Writes the kernels of many layers at once.

    Layers that share a generator as `generator` call it one after the other. A bank calls it once,
    for the embeddings of all tiles of all kernels (eq. 2 of the paper), and the layers take their
    kernels in the call. It is one layer of the model, so that what its kernels share stays shared
    wherever the model goes, through `clone_model` and `from_config` too.

    Args:
        generator: `KernelGenerator` whose tiles the kernels consist of.
        kernel_shapes: dictionary from a name to the shape of its kernel, `(*window, in, out)`.
        kernel_regularizer: applied to each generated kernel, once however often it is used. Default
            `None`.
        **kwargs: those of `keras.Layer`.

    Call arguments:
        inputs: any tensor of the model, most simply its input. The kernels do not depend on it;
            functional models of Keras need it as a place to begin.

    Returns:
        A dictionary from names to kernels. `bank.kernels` is the same without a call.

    Raises:
        ValueError: if a kernel is not made of whole tiles, or for an argument of another kind.

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

    def __init__(self, generator, kernel_shapes, kernel_regularizer=None, **kwargs):
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
        self.kernel_regularizer = keras_object("kernel_regularizer", kernel_regularizer)

    def build(self, input_shape):
        self.embedding = self.generator.add_embedding(
            self, list(self.kernel_shapes.values()), self.kernel_regularizer
        )

    @property
    def kernels(self):
        """Dictionary from names to generated kernels."""
        if not self.built:
            raise AttributeError(f"{self.name} has no kernels before it is built.")
        kernels = self.generator.kernels(self.embedding, list(self.kernel_shapes.values()))
        return dict(zip(self.kernel_shapes, kernels, strict=True))

    def call(self, inputs):
        return self.kernels

    def compute_output_shape(self, input_shape):
        return dict(self.kernel_shapes)

    def get_config(self):
        return {
            **super().get_config(),
            "generator": serialize_generator(self.generator),
            "kernel_shapes": self.kernel_shapes,
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**with_generator(config))
