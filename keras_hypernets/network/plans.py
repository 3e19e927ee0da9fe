"""How the numbers that a generator writes become the weights of a target.

A plan says which blocks of numbers a weight needs, how they start, and which form of `forms` they
make together.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from keras_hypernets.network.forms import LowRank, Scaled, Whole
from keras_hypernets.network.leaves import output_axes

VECTOR_UNIT = 0.3
SMALL = 0.1  # unit of scales, and of the second factor of a product


@dataclass(frozen=True)
class Block:
    """A block of numbers that a generator writes.

    Attributes:
        shape: of the block.
        unit: what the numbers, which are of order one, are multiplied by. With it, a step of Adam
            changes each weight by a similar share of its size.
        deviation: standard deviation of the block's initial values.
        offset: their mean, a number or an array of this shape.
    """

    shape: tuple[int, ...]
    unit: float
    deviation: float = 0.0
    offset: float | np.ndarray = 0.0

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class WholePlan:
    """Writes a weight number by number.

    With a base it starts at the base. Without one, a kernel starts with the standard deviation of
    the target's own initial value, and a vector or constant at its own initial value, or in chunks
    at the mean of it.
    """

    def __init__(self, variable: keras.Variable, output_axes: tuple[int, ...], has_base: bool):
        shape = tuple(variable.shape)
        unit = VECTOR_UNIT
        if len(shape) > 1:
            inputs = [size for axis, size in enumerate(shape) if axis not in output_axes]
            unit = 1 / math.sqrt(math.prod(inputs))
        deviation, offset = (0.0, 0.0) if has_base else _initial(variable)
        self.blocks = [Block(shape, unit, deviation, offset)]

    def form(self, whole, base=None):
        return Whole(whole if base is None else base + whole)


class LowRankPlan:
    """Writes two factors `a` and `b`. The weight is the base plus alpha / rank times `a b`.

    All axes but the last are flattened to one, as Keras' `enable_lora` does. As there, `a` starts
    with the deviation of He initialization and, with a base, `b` at zero. Without a base, `b` gives
    the product the deviation of the target's own initial value.
    """

    def __init__(self, variable: keras.Variable, rank: int, alpha: float, has_base: bool):
        self.shape = tuple(variable.shape)
        self.scale = alpha / rank
        *rest, outputs = self.shape
        inputs = math.prod(rest)
        he = math.sqrt(2 / inputs)
        deviation = 0.0
        if not has_base:
            deviation = _initial(variable)[0] / (he * math.sqrt(rank) * self.scale)
        a = Block((inputs, rank), 1 / math.sqrt(inputs), he)
        self.blocks = [a, Block((rank, outputs), SMALL, deviation)]

    @staticmethod
    def largest_rank(shape: tuple[int, ...]) -> int:
        """Returns the largest rank whose factors are smaller than the weight, 0 for vectors."""
        if len(shape) < 2:
            return 0
        *rest, outputs = shape
        inputs = math.prod(rest)
        return (inputs * outputs - 1) // (inputs + outputs)

    def form(self, a, b, base=None):
        return LowRank(base, a, self.scale * b, self.shape)


class ScalePlan:
    """Writes a scale along the axes of a weight that outputs have too; it starts at 1."""

    def __init__(self, variable: keras.Variable, output_axes: tuple[int, ...]):
        sizes = enumerate(variable.shape)
        shape = tuple(size if axis in output_axes else 1 for axis, size in sizes)
        self.blocks = [Block(shape, SMALL)]

    def form(self, change, base):
        return Scaled(base, 1 + change)


def _initial(variable):
    """Returns the deviation and the offset with which a weight without a base starts."""
    values = ops.convert_to_numpy(ops.cast(variable.value, "float32"))
    deviation = float(values.std())
    if values.ndim > 1 and deviation > 0:
        return deviation, 0.0
    return 0.0, values


@dataclass(frozen=True)
class Generated:
    """A variable whose values are generated, the layer that owns it, and their regularizer."""

    variable: keras.Variable
    layer: keras.Layer
    regularizer: Callable | None = None


def make_plans(
    generated: list[Generated],
    generation: str,
    rank: int | None,
    alpha: float | None,
    has_base: bool,
) -> list[WholePlan | LowRankPlan | ScalePlan]:
    """Returns a plan for each variable.

    Raises:
        ValueError: if `rank` is too large for all of them.
    """
    shapes = [tuple(g.variable.shape) for g in generated]
    ranks = [LowRankPlan.largest_rank(shape) for shape in shapes]
    low_rank = [generation == "low_rank" and rank <= largest for largest in ranks]
    if generation == "low_rank" and not any(low_rank):
        raise ValueError(
            "`rank` must make the two factors of a generated weight smaller than the weight: here "
            f"at most {max(ranks)}. Received: rank={rank} for weights of shapes "
            f"{', '.join(map(str, shapes))}"
        )
    alpha = rank if alpha is None else alpha
    plans = []
    for g, has_factors in zip(generated, low_rank, strict=True):
        axes = output_axes(g.layer, g.variable)
        if generation == "scaling":
            plans.append(ScalePlan(g.variable, axes))
        elif has_factors:
            plans.append(LowRankPlan(g.variable, rank, alpha, has_base))
        else:
            plans.append(WholePlan(g.variable, axes, has_base))
    return plans
