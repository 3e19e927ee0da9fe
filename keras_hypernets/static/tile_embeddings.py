"""The embeddings from which a layer's kernels are generated, one row per tile."""

import math

import keras
from keras import ops

from keras_hypernets.static.kernel_generator import KernelGenerator
from keras_hypernets.validation import keras_object

AROUND = 3  # a healthy spread is between a third and three times the initial one


class TileEmbeddings:
    """Mixin for layers that own the embeddings of generated kernels.

    Args:
        embedding_initializer: initializer of `embedding`, `(tiles, embedding_dim)`. Default `None`:
            the generator's, which gives kernels the variance of He initialisation.
        embedding_regularizer, embedding_constraint: for `embedding`. Default `None`.
        kernel_regularizer: regularizer of each generated kernel, applied once however often the
            kernel is used, unless its embedding is frozen. Default `None`.
    """

    def __init__(
        self,
        *args,
        embedding_initializer=None,
        embedding_regularizer=None,
        embedding_constraint=None,
        kernel_regularizer=None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.embedding_initializer = embedding_initializer
        if embedding_initializer is not None:
            self.embedding_initializer = keras_object(
                "embedding_initializer", embedding_initializer
            )
        self.embedding_regularizer = keras_object("embedding_regularizer", embedding_regularizer)
        self.embedding_constraint = keras_object("embedding_constraint", embedding_constraint)
        self.kernel_regularizer = keras_object("kernel_regularizer", kernel_regularizer)

    def add_embedding(self, generator: KernelGenerator, kernel_shapes: list[tuple]):
        """Adds the weight `embedding`, with a row for each tile of these kernels, in order.

        Raises:
            ValueError: if a kernel does not consist of whole tiles.
        """
        if not generator.built:
            generator.build()
        grids = [generator.count_tiles(shape, self.name) for shape in kernel_shapes]

        def matching(shape, dtype=None):
            parts = [
                generator.embedding_initializer(*grid)((math.prod(grid), shape[-1]), dtype)
                for grid in grids
            ]
            return ops.concatenate(parts)

        def penalty(embedding):
            total = self.embedding_regularizer(embedding) if self.embedding_regularizer else 0.0
            if self.kernel_regularizer is None:
                return total
            # Losses are summed in the variables' dtype, which is wider under mixed precision.
            kernels = generator.kernels(embedding, kernel_shapes)
            kernels = (ops.cast(kernel, self.variable_dtype) for kernel in kernels)
            return total + sum(map(self.kernel_regularizer, kernels))

        penalized = self.embedding_regularizer or self.kernel_regularizer
        return self.add_weight(
            name="embedding",
            shape=(sum(map(math.prod, grids)), generator.embedding_dim),
            initializer=self.embedding_initializer or matching,
            regularizer=penalized and penalty,
            constraint=self.embedding_constraint,
        )

    def get_config(self):
        initializer = self.embedding_initializer
        return {
            **super().get_config(),
            "embedding_initializer": initializer and keras.initializers.serialize(initializer),
            "embedding_regularizer": keras.regularizers.serialize(self.embedding_regularizer),
            "embedding_constraint": keras.constraints.serialize(self.embedding_constraint),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


def spread_of_kernel(shape: tuple) -> tuple[float, float]:
    """Returns the healthy range of sqrt(mean(kernel^2)), around He's sqrt(2 / fan-in)."""
    he = math.sqrt(2 / math.prod(shape[:-1]))
    return he / AROUND, he * AROUND
