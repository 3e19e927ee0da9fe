"""The networks that write weights: from a condition or an embedding to the forms of all weights."""

import itertools
import math
import warnings

import keras
import numpy as np
from keras import ops

from keras_hypernets.network.forms import Whole

MANY = 100_000_000  # weights


class WeightWriter(keras.Layer):
    """Writes the blocks of all plans: a hidden network, then one linear map.

        h = hidden(condition)                   or hidden(embedding), one row
        numbers = h output_kernel (+ output_bias)

    With a `chunk_size`, the hidden network reads the condition beside the embedding of a chunk, and
    the linear map writes one chunk; the chunks follow each other. Then a `scale` and an `offset`
    for each block take the place of the bias. Each chunk has signs of its own for the features of
    h: without them chunks start alike, and so do the rows of a kernel that they write, whose
    outputs then add up from layer to layer.

    Without a base, h is divided by its root mean square, and `output_kernel` starts such that every
    block starts with the deviation of its plan (hyperfan-in, Chang et al., 2020, in spirit).

    Args:
        plans: of all weights, in their order.
        has_base: whether bases are added to what is written. Then there is no bias, and
            blocks that start at zero do so exactly.
        generator: a layer from the condition to `(rows, features)`, in place of the hidden layers.
        hidden_units, activation: of the hidden layers.
        embedding_dim: size of the learned embedding. `None`: there is a condition, or chunks alone.
        chunk_size, chunk_embedding_dim: see above. `None`: no chunks.
        cos_sin: whether the condition is encoded as its cosine and sine.
    """

    def __init__(
        self,
        plans,
        *,
        has_base,
        generator,
        hidden_units,
        activation,
        embedding_dim,
        chunk_size,
        chunk_embedding_dim,
        cos_sin,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.plans = plans
        self.blocks = [block for plan in plans for block in plan.blocks]
        self.total = sum(block.size for block in self.blocks)
        self.has_base = has_base
        self.embedding_dim = embedding_dim
        self.chunk_size = chunk_size
        self.chunk_embedding_dim = chunk_embedding_dim
        self.chunks = math.ceil(self.total / chunk_size) if chunk_size else 1
        self.cos_sin = cos_sin
        if generator is None:
            self.hidden = [
                keras.layers.Dense(units, activation, dtype=self.dtype_policy, name=f"hidden_{n}")
                for n, units in enumerate(hidden_units, 1)
            ]
        else:
            self.hidden = [generator]
        # A condition that is used as it is keeps its size.
        self.normalized = not has_base and len(self.hidden) > 0

    def build(self, condition_shape=None):
        if condition_shape is None and self.embedding_dim is not None:
            self.embedding = self.add_weight(
                name="embedding",
                shape=(1, self.embedding_dim),
                initializer=keras.initializers.RandomNormal(stddev=1.0),
            )
            condition_shape = (1, self.embedding_dim)
        if self.cos_sin:
            condition_shape = (*condition_shape[:-1], 2 * condition_shape[-1])
        width = self.total
        if self.chunk_size:
            width = self.chunk_size
            self.chunk_embedding = self.add_weight(
                name="chunk_embedding",
                shape=(self.chunks, self.chunk_embedding_dim),
                initializer=keras.initializers.RandomNormal(stddev=1.0),
            )
            features = 0 if condition_shape is None else condition_shape[-1]
            condition_shape = (None, features + self.chunk_embedding_dim)
        features = self._build_hidden(condition_shape)
        if self.chunk_size:
            # Without signs of their own, chunks start alike: the vectors h of all chunks point in
            # similar directions. Fixed, and not saved: NumPy keeps what this old generator draws.
            random = np.random.RandomState(0)
            self.chunk_signs = random.choice([-1.0, 1.0], (self.chunks, features))
        if features * width > MANY:
            warnings.warn(
                f"{self.path} has a linear map of {features * width:,} weights, {features} for "
                f"each of {width:,} numbers. `chunk_size`, a low `rank`, fewer `target_weights` or "
                "fewer `hidden_units` make it smaller.",
                stacklevel=2,
            )
        self.output_kernel = self.add_weight(
            name="output_kernel",
            shape=(features, width),
            initializer=self._kernel_initializer(features),
        )
        if self.has_base:
            return
        if self.chunk_size:
            # Blocks that start constant are scaled by zero at first.
            self.scale = self._add_vector("scale", [block.deviation for block in self.blocks])
            offsets = [np.mean(block.offset) for block in self.blocks]
            self.offset = self._add_vector("offset", offsets)
        else:
            starts = [
                np.broadcast_to(block.offset / block.unit, block.shape).ravel()
                for block in self.blocks
            ]
            self.output_bias = self._add_vector("output_bias", np.concatenate(starts))

    @property
    def learned(self):
        """The learned embedding that takes the place of a condition, or those of the chunks."""
        return self.chunk_embedding if self.embedding_dim is None else self.embedding

    def _build_hidden(self, shape):
        """Builds the hidden layers, and returns the number of features of the last."""
        symbolic = keras.tree.map_shape_structure(
            lambda shape: keras.KerasTensor(shape, self.compute_dtype), shape
        )
        for layer in self.hidden:
            symbolic = layer(symbolic)
        shape = getattr(symbolic, "shape", ())
        if len(shape) != 2 or shape[-1] is None:
            raise ValueError(
                "`generator` must map a condition to `(rows, features)`. "
                f"Received: a generator with the output {symbolic!r}"
            )
        return shape[-1]

    def _kernel_initializer(self, features):
        if self.chunk_size:
            shares = 0.0 if self.has_base else 1.0
        else:
            shares = np.concatenate(
                [np.full(block.size, block.deviation / block.unit) for block in self.blocks]
            )

        def initialize(shape, dtype=None):
            normal = keras.random.normal(shape, 0.0, 1 / math.sqrt(features), dtype)
            return normal * ops.cast(shares, dtype)

        return initialize

    def _add_vector(self, name, values):
        def initialize(shape, dtype=None):
            return ops.reshape(ops.convert_to_tensor(np.asarray(values), dtype), shape)

        return self.add_weight(name=name, shape=(len(values),), initializer=initialize)

    def write(self, condition, bases, valid=None):
        """Returns the forms of all weights, `None` or a base for each given.

        Args:
            condition: tensor or structure of tensors with an axis of rows, or `None`.
            bases: a list of values of the weights, or of `None`.
            valid: a boolean tensor; if it is false, all values are NaN, an error that no compiler
                leaves out. Default `None`: as if true.
        """
        numbers = self._numbers(condition)
        if valid is not None:
            numbers = numbers + ops.cast(ops.where(valid, 0.0, float("nan")), numbers.dtype)
        blocks = iter(self._blocks(numbers))
        return [
            plan.form(*itertools.islice(blocks, len(plan.blocks)), base=base)
            for plan, base in zip(self.plans, bases, strict=True)
        ]

    def _blocks(self, numbers):
        *ends, _ = itertools.accumulate(block.size for block in self.blocks)
        parts = ops.split(numbers, ends, axis=1) if ends else [numbers]
        shared = self.chunk_size and not self.has_base
        for n, (part, block) in enumerate(zip(parts, self.blocks, strict=True)):
            part = self.offset[n] + self.scale[n] * part if shared else block.unit * part
            yield ops.reshape(part, (-1, *block.shape))

    def _numbers(self, condition):
        if condition is None and self.embedding_dim is not None:
            condition = ops.convert_to_tensor(self.embedding)
        if self.cos_sin:
            angle = condition * (math.pi / 2)
            condition = ops.concatenate([ops.cos(angle), ops.sin(angle)], axis=-1)
        if self.chunk_size:
            condition = self._beside_chunks(condition)
        for layer in self.hidden:
            condition = layer(condition)
        hidden = ops.cast(condition, self.compute_dtype)
        if self.normalized:
            square = ops.mean(ops.square(hidden), axis=-1, keepdims=True)
            hidden = hidden * ops.rsqrt(square + keras.config.epsilon())
        if not self.chunk_size:
            numbers = ops.matmul(hidden, self.output_kernel)
            return numbers if self.has_base else numbers + self.output_bias
        signs = ops.cast(self.chunk_signs, self.compute_dtype)
        hidden = ops.reshape(hidden, (-1, *signs.shape)) * signs
        numbers = ops.matmul(hidden, self.output_kernel)
        return ops.reshape(numbers, (-1, self.chunks * self.chunk_size))[:, : self.total]

    def _beside_chunks(self, condition):
        """Returns a row for each condition and chunk: the condition, then the chunk's embedding."""
        chunks = ops.convert_to_tensor(self.chunk_embedding)
        if condition is None:
            return chunks
        rows = ops.shape(condition)[0]
        conditions = ops.repeat(condition, self.chunks, axis=0)
        return ops.concatenate([conditions, ops.tile(chunks, (rows, 1))], axis=-1)


class TileWriter(keras.Layer):
    """Writes kernels from the learned embeddings of their tiles, by a `KernelGenerator`.

    Args:
        generator: a `KernelGenerator`.
        kernel_shapes: of all kernels, in their order.
    """

    def __init__(self, generator, kernel_shapes, **kwargs):
        super().__init__(**kwargs)
        self.generator = generator
        self.kernel_shapes = kernel_shapes

    def build(self, condition_shape=None):
        generator = self.generator
        if not generator.built:
            generator.build()
        grids = [generator.count_tiles(shape, self.name) for shape in self.kernel_shapes]

        def initialize(shape, dtype=None):
            return ops.concatenate(
                [
                    generator.embedding_initializer(*grid)((math.prod(grid), shape[-1]), dtype)
                    for grid in grids
                ]
            )

        self.embedding = self.add_weight(
            name="embedding",
            shape=(sum(map(math.prod, grids)), generator.embedding_dim),
            initializer=initialize,
        )

    @property
    def learned(self):
        """The learned embeddings."""
        return self.embedding

    def write(self, condition, bases, valid=None):
        """Returns the forms of all kernels, in one row. There is no condition and no base."""
        kernels = self.generator.kernels(self.embedding, self.kernel_shapes)
        # From a generator in half precision they would have its dtype.
        return [Whole(ops.cast(kernel[None], self.compute_dtype)) for kernel in kernels]
