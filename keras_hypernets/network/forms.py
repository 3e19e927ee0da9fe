"""The forms in which a generator writes a weight: whole, as low-rank factors, or as scales.

Each form has the weight's values for some conditions, one per row. `value()` puts the weights
together, `(rows, *shape)`; `rows` is their number, as far as it is known, and `cast` returns the
form in another dtype. A rule of `per_sample` can do without that: a dense layer multiplies by
two thin factors, and scales its outputs instead of its kernel.
"""

from dataclasses import dataclass, replace
from typing import Any

from keras import ops


@dataclass(frozen=True)
class Whole:
    """A weight written number by number.

    Attributes:
        whole: `(rows, *shape)`, the base included.
    """

    whole: Any

    @property
    def rows(self) -> int | None:
        return self.whole.shape[0]

    def cast(self, dtype: str) -> "Whole":
        return Whole(ops.cast(self.whole, dtype))

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

    @property
    def rows(self) -> int | None:
        return self.a.shape[0]

    def cast(self, dtype: str) -> "LowRank":
        base = None if self.base is None else ops.cast(self.base, dtype)
        return replace(self, base=base, a=ops.cast(self.a, dtype), b=ops.cast(self.b, dtype))

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

    @property
    def rows(self) -> int | None:
        return self.scale.shape[0]

    def cast(self, dtype: str) -> "Scaled":
        return Scaled(ops.cast(self.base, dtype), ops.cast(self.scale, dtype))

    def value(self):
        return self.base * self.scale
