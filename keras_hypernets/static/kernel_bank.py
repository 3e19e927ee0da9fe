"""KernelBank: the kernels of many layers from one generator, in one product."""

import itertools

import keras
from keras import ops

from keras_hypernets.static.kernel_generator import check_generator, serialize_generator


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
        **kwargs: those of `keras.Layer`.

    Call arguments:
        inputs: any tensor of the model, most simply its input. The kernels do not depend on it;
            functional models of Keras need it as a place to begin.

    Returns:
        A dictionary from names to kernels. `bank.kernels` is the same without a call.

    Raises:
        ValueError: if a kernel is not made of whole tiles, or `generator` is none.

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
        self.generator = generator
        self.kernel_shapes = {name: tuple(shape) for name, shape in kernel_shapes.items()}
        if not self.kernel_shapes:
            raise ValueError(
                "`kernel_shapes` must name at least one kernel. "
                f"Received: kernel_shapes={kernel_shapes!r}"
            )
        self._tiles = {
            name: generator.count_tiles(shape, name) for name, shape in self.kernel_shapes.items()
        }

    def build(self, input_shape):
        if not self.generator.built:
            self.generator.build()
            self.generator.built = True
        self.embeddings = {
            name: self.add_weight(
                name=f"{name}_embedding",
                shape=(tiles[0] * tiles[1], self.generator.embedding_dim),
                initializer=self.generator.embedding_initializer(*tiles),
            )
            for name, tiles in self._tiles.items()
        }

    @property
    def kernels(self):
        """Dictionary from names to generated kernels."""
        if not self.built:
            raise AttributeError(f"{self.name} has no kernels before it is built.")
        names = list(self.kernel_shapes)
        tiles = self.generator(ops.concatenate([self.embeddings[name] for name in names]))
        *ends, _ = itertools.accumulate(rows * columns for rows, columns in self._tiles.values())
        parts = ops.split(tiles, ends) if ends else [tiles]  # TensorFlow cannot split at no place
        return {
            name: self.generator.assemble(part, self.kernel_shapes[name])
            for name, part in zip(names, parts, strict=True)
        }

    def call(self, inputs):
        return self.kernels

    def compute_output_shape(self, input_shape):
        return dict(self.kernel_shapes)

    def get_config(self):
        return {
            **super().get_config(),
            "generator": serialize_generator(self.generator),
            "kernel_shapes": self.kernel_shapes,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["generator"] = keras.saving.deserialize_keras_object(config["generator"])
        return cls(**config)
