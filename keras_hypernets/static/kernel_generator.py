"""KernelGenerator: the static hypernetwork, which maps an embedding to a kernel tile."""

import itertools
import math

import keras
from keras import ops

from keras_hypernets.validation import one_of, positive_integer, seed_integer

AROUND = 3  # a healthy spread is between a third and three times the initial one


@keras.saving.register_keras_serializable(package="keras_hypernets")
class KernelGenerator(keras.Layer):
    r"""Generates a tile of a kernel from an embedding z, in two linear stages.

    For every input channel i of the tile (eq. 2 of the paper; no activation):

        a_i = W_i z + B_i              W_i, B_i: `projection_kernel`, `projection_bias`
        K_i = W_out a_i + B_out        W_out, B_out: `output_kernel`, `output_bias`

    Each input channel has its own W_i; all share W_out. K_i, the part of the tile that reads input
    channel i, has the tile's window and output channels.

    One generator can serve many layers: pass it to each as `generator`, or to a `HyperNetwork`,
    which generates the kernels of a whole model in one product. Kernels are assembled from tiles
    along their channels. Each tile has its own embedding, which belongs to the layer.

    A generated kernel starts with the variance of He initialization, whatever the number of tiles
    (hyperfan-in, [Chang et al., 2020](https://arxiv.org/abs/2312.08399)):
    z ~ N(0, 1 / input tiles), W_i ~ N(0, 1 / embedding_dim), W_out ~ N(0, 2 / (fan-in of the tile
    * hidden_units)), biases 0.

    Args:
        tile_shape: `(*window, in, out)`, such as `(height, width, in, out)` for 2D convolutions and
            `(in, out)` for dense layers.
        embedding_dim: positive integer, size of z. Default 16.
        hidden_units: positive integer, size of a_i. Default `None`: `embedding_dim`.
        initializer: `"hyperfan_in"` (default), `"hyperfan_out"` for the variance 2 / fan-out, or
            `"notebook"` for the values of the author's MNIST notebook: z ~ truncated N(0.01, 1),
            both stages truncated N(0, 0.01^2). These make generated kernels start 200 times too
            small.
        seed: integer seed of the initial values. Default `None`: random.

    Call arguments:
        embeddings: `(tiles, embedding_dim)`.

    Returns:
        `(tiles, *tile_shape)`.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> generator = keras_hypernets.KernelGenerator((3, 3, 8, 16), embedding_dim=4)
    >>> tuple(generator(keras.ops.ones((2, 4))).shape)
    (2, 3, 3, 8, 16)

    Reference:
        [Ha et al., 2016](https://arxiv.org/abs/1609.09106), section 3.1.
    """

    def __init__(
        self,
        tile_shape,
        embedding_dim=16,
        hidden_units=None,
        initializer="hyperfan_in",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.tile_shape = kernel_shape("tile_shape", tile_shape)
        self.embedding_dim = positive_integer("embedding_dim", embedding_dim)
        self.hidden_units = (
            None if hidden_units is None else positive_integer("hidden_units", hidden_units)
        )
        self.initializer = one_of(
            "initializer", initializer, ("hyperfan_in", "hyperfan_out", "notebook")
        )
        self.seed = None if seed is None else seed_integer("seed", seed)
        self.input_spec = keras.InputSpec(ndim=2, axes={-1: self.embedding_dim})

    def build(self, input_shape=None):
        *window, inputs, outputs = self.tile_shape
        hidden = self.hidden_units or self.embedding_dim
        positions = math.prod(window)
        seeds = (None, None) if self.seed is None else (self.seed, self.seed + 1)
        if self.initializer == "notebook":
            normal, deviations = keras.initializers.TruncatedNormal, (0.01, 0.01)
        else:
            fan = positions * (inputs if self.initializer == "hyperfan_in" else outputs)
            normal = keras.initializers.RandomNormal
            deviations = (math.sqrt(1 / self.embedding_dim), math.sqrt(2 / (fan * hidden)))
        first, second = (
            normal(stddev=deviation, seed=seed)
            for deviation, seed in zip(deviations, seeds, strict=True)
        )
        self.projection_kernel = self.add_weight(
            name="projection_kernel", shape=(self.embedding_dim, inputs, hidden), initializer=first
        )
        self.projection_bias = self.add_weight(
            name="projection_bias", shape=(inputs, hidden), initializer="zeros"
        )
        self.output_kernel = self.add_weight(
            name="output_kernel", shape=(hidden, positions * outputs), initializer=second
        )
        self.output_bias = self.add_weight(
            name="output_bias", shape=(positions * outputs,), initializer="zeros"
        )

    def call(self, embeddings):
        *window, inputs, outputs = self.tile_shape
        hidden = ops.tensordot(embeddings, self.projection_kernel, 1) + self.projection_bias
        rows = ops.matmul(hidden, self.output_kernel) + self.output_bias
        rows = ops.reshape(rows, (-1, inputs, *window, outputs))
        channel_last = (0, *range(2, 2 + len(window)), 1, 2 + len(window))
        return ops.transpose(rows, channel_last)

    def count_tiles(self, kernel_shape, owner):
        """Returns how many tiles a kernel `(*window, in, out)` has along its two channel axes.

        Raises:
            ValueError: if the kernel of `owner`, a name, does not consist of whole tiles.
        """
        if not self.has_tiles(kernel_shape):
            raise ValueError(
                f"The kernel of {owner} must consist of whole tiles: as many axes, the same "
                "window, and channels that are multiples of the tile's. Received: a kernel "
                f"{tuple(kernel_shape)} and a generator of tiles {self.tile_shape}"
            )
        return tuple(n // m for n, m in zip(kernel_shape[-2:], self.tile_shape[-2:], strict=True))

    def has_tiles(self, kernel_shape):
        """Returns whether a weight of this shape consists of whole tiles."""
        if len(kernel_shape) != len(self.tile_shape):
            return False
        *tile_window, tile_in, tile_out = self.tile_shape
        *window, inputs, outputs = kernel_shape
        return tile_window == window and not (inputs % tile_in or outputs % tile_out)

    def embedding_initializer(self, input_tiles, output_tiles):
        """Returns the initializer for the embeddings of a kernel with this many tiles."""
        if self.initializer == "notebook":
            return keras.initializers.TruncatedNormal(mean=0.01, stddev=1.0)
        tiles = input_tiles if self.initializer == "hyperfan_in" else output_tiles
        return keras.initializers.RandomNormal(stddev=math.sqrt(1 / tiles))

    def kernels(self, embedding, kernel_shapes):
        """Generates kernels of these shapes from the rows of `embedding`, in one product."""
        tiles = self(embedding)
        counts = [math.prod(self.count_tiles(shape, self.name)) for shape in kernel_shapes]
        *ends, _ = itertools.accumulate(counts)
        parts = ops.split(tiles, ends) if ends else [tiles]  # TensorFlow rejects an empty list
        return [self._assemble(*pair) for pair in zip(parts, kernel_shapes, strict=True)]

    def _assemble(self, tiles, kernel_shape):
        # Row-major (eq. 3): the rows of the grid are input channels.
        *window, tile_in, tile_out = self.tile_shape
        grid = self.count_tiles(kernel_shape, self.name)
        tiles = ops.reshape(tiles, (*grid, *window, tile_in, tile_out))
        w = len(window)
        order = (*range(2, 2 + w), 0, 2 + w, 1, 3 + w)
        return ops.reshape(ops.transpose(tiles, order), kernel_shape)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.tile_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "tile_shape": self.tile_shape,
            "embedding_dim": self.embedding_dim,
            "hidden_units": self.hidden_units,
            "initializer": self.initializer,
            "seed": self.seed,
        }


def kernel_shape(name, shape):
    """Returns the shape of a kernel or tile as a tuple of integers.

    Raises:
        ValueError: unless it is `(*window, in, out)`.
    """
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else ()
    if len(sizes) < 2:
        raise ValueError(
            f"`{name}` must be (*window, in, out), such as (height, width, in, out). "
            f"Received: {name}={shape!r}"
        )
    return tuple(positive_integer(name, size) for size in sizes)


def spread_of_kernel(shape: tuple) -> tuple[float, float]:
    """Returns the healthy range of sqrt(mean(kernel^2)), around He's sqrt(2 / fan-in)."""
    he = math.sqrt(2 / math.prod(shape[:-1]))
    return he / AROUND, he * AROUND


def check_generator(generator, dtype_policy):
    """Raises ValueError unless `generator` can serve a layer with this dtype policy."""
    if not isinstance(generator, KernelGenerator):
        raise ValueError(
            f"`generator` must be a KernelGenerator. Received: generator={generator!r}"
        )
    if generator.dtype_policy != dtype_policy:
        raise ValueError(
            "`generator` must have the dtype of the layer. Received: a generator with "
            f"{generator.dtype_policy.name} and a layer with {dtype_policy.name}"
        )


def serialize_shared(one):
    """Returns a config of a layer or model that several layers in one `.keras` file can share."""
    # Keras marks an object as shared only from its second serialization on: without the first one
    # here, the first layer would load one of its own.
    keras.saving.serialize_keras_object(one)
    return keras.saving.serialize_keras_object(one)


def with_generator(config):
    """Returns a layer's config with its `generator`, if any, deserialized."""
    generator = config.get("generator")
    return {**config, "generator": keras.saving.deserialize_keras_object(generator)}
