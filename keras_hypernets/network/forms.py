"""The forms in which a generator writes a weight: whole, as low-rank factors, or as scales.

Each form has the weight's values for some conditions, one per row. `value()` puts the weights
together, `(rows, *shape)`. A rule of `per_sample` can do without that: a dense layer multiplies by
two thin factors, and scales its outputs instead of its kernel.
"""

from dataclasses import dataclass
from typing import Any

from keras import ops


@dataclass(frozen=True)
class Whole:
    """A weight written number by number.

    Attributes:
        whole: `(rows, *shape)`, the base included.
    """

    whole: Any

    def value(self):
        return self.whole


@dataclass(frozen=True)
class LowRank:
    """A weight written as `base + a b`, with all axes but the last flattened to one.

    Attributes:
        base: `(*shape)`, or `None`.
        a: `(rows, size of all axes but the last, rank)`.
        b: `(rows, rank, size of the last axis)`, the factor alpha / rank included.
        shape: of the weight.
    """

    base: Any
    a: Any
    b: Any
    shape: tuple[int, ...]

    def value(self):
        # Unlike `ops.matmul`, which makes float32 of float64 on PyTorch.
        product = ops.einsum("nir,nro->nio", self.a, self.b)
        product = ops.reshape(product, (-1, *self.shape))
        return product if self.base is None else self.base + product


@dataclass(frozen=True)
class Scaled:
    """A weight written as `base * scale`.

    Attributes:
        base: `(*shape)`.
        scale: `(rows, *scale_shape)`, where `scale_shape` is the weight's shape with 1 for each
            axis along which the scale is the same.
    """

    base: Any
    scale: Any

    def value(self):
        return self.base * self.scale
