"""The layers that own a target's weights, and what is particular to each kind's weights."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from keras_hypernets.layers_within import layers_within
from keras_hypernets.network.forms import LowRank, Scaled, Whole

NORMALIZATIONS = (
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.GroupNormalization,
    layers.RMSNormalization,
)
CONVOLUTIONS = layers.Conv1D, layers.Conv2D, layers.Conv3D
SEPARABLE = layers.SeparableConv1D, layers.SeparableConv2D
TRANSPOSED = layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose
DEPTHWISE = layers.DepthwiseConv1D, layers.DepthwiseConv2D


def owners(target: keras.Layer) -> Iterator[tuple[keras.Layer, list[keras.Variable]]]:
    """Yields each layer in a built target that has variables of its own, with those variables."""
    for _, layer in layers_within(target):
        own = own_variables(layer)
        if own:
            yield layer, own


def own_variables(layer: keras.Layer) -> list[keras.Variable]:
    """Returns a layer's variables but those of its sublayers."""
    parts = [part for _, part in layers_within(layer) if part is not layer]
    inner = {id(variable) for part in parts for variable in part.variables}
    return [variable for variable in layer.variables if id(variable) not in inner]


def output_axes(layer: keras.Layer, variable: keras.Variable) -> tuple[int, ...]:
    """Returns the axes of a layer's variable along which the layer's outputs differ.

    A scale along these axes alone is a scale of outputs, such as that of FiLM.
    """
    rank = len(variable.shape)
    if isinstance(layer, layers.EinsumDense) and variable.name == "kernel":
        kernel, outputs = layer.equation.split(",")[1].split("->")
        return tuple(axis for axis, letter in enumerate(kernel) if letter in outputs)
    if variable.name in ("bias", "gamma", "beta", "scale", "alpha"):
        return tuple(range(rank))
    if isinstance(layer, TRANSPOSED):
        return (rank - 2,)
    if isinstance(layer, DEPTHWISE) or variable.name == "depthwise_kernel":
        return rank - 2, rank - 1
    return (rank - 1,) if rank else ()


def works_like(layer: keras.Layer, kind: type) -> bool:
    """Whether a layer's outputs are computed as this class of Keras does, of the same weights."""
    return isinstance(layer, kind) and all(
        getattr(type(layer), name, None) is getattr(kind, name, None)
        for name in ("call", "kernel", "embeddings", "convolution_op")
    )


def stand_in(layer: keras.Layer, variable: keras.Variable):
    """Returns what a generated variable is for code that does not know the values per sample.

    The scale of a normalization is one and its shift zero: the layer's own call then normalizes
    only. Everything else is not a number, so that such code cannot give plausible results.
    """
    value = float("nan")
    if any(works_like(layer, kind) for kind in NORMALIZATIONS):
        value = {"gamma": 1.0, "scale": 1.0, "beta": 0.0}.get(variable.name, value)
    return ops.full(variable.shape, value, variable.dtype)


def seed_generators(target: keras.Layer) -> list[keras.random.SeedGenerator]:
    """Returns the seed generators of all layers in a target."""
    values = [value for _, layer in layers_within(target) for value in vars(layer).values()]
    found = [value for value in values if isinstance(value, keras.random.SeedGenerator)]
    return list({id(seed): seed for seed in found}.values())


def without(variables: list[keras.Variable], left_out: list[keras.Variable]) -> list:
    """Returns `variables` without those in `left_out`, by identity."""
    ids = {id(variable) for variable in left_out}
    return [variable for variable in variables if id(variable) not in ids]


@dataclass(frozen=True)
class Leaf:
    """A layer that runs with weights of each sample's own.

    Attributes:
        layer: the layer.
        weights: generated variables in it, each with its form.
        compiled: whether XLA may compile convolutions on TensorFlow.
        call: the layer's own `call`.
    """

    layer: keras.Layer
    weights: list[tuple[keras.Variable, Whole | LowRank | Scaled]]
    compiled: bool
    call: Callable | None = None

    def form(self, name: str, dtype: str | None = None) -> Whole | LowRank | Scaled | None:
        """Returns a variable's form in the compute dtype or another, or None without one."""
        for variable, form in self.weights:
            if variable.name == name:
                return form.cast(dtype or self.layer.compute_dtype)
        return None

    def value(self, name: str, dtype: str | None = None) -> Any:
        """Returns a variable's values, `(rows, *shape)`, or None if it is not generated."""
        form = self.form(name, dtype)
        return None if form is None else form.value()

    def check_rows(self, inputs: Any):
        """Raises ValueError unless the inputs have as many samples as the weights have rows."""
        rows = self.weights[0][1].rows
        for x in filter(ops.is_tensor, keras.tree.flatten(inputs)):
            samples = x.shape[0] if len(x.shape) else None
            if None not in (rows, samples) and rows != samples:
                raise ValueError(
                    "`inputs` of a layer with weights per sample must have a row for each. "
                    f"Received: layer={self.layer.name!r}, inputs.shape={tuple(x.shape)}, "
                    f"samples={rows}"
                )


def scale_of_outputs(form: Any, axes: tuple[int, ...]) -> Any:
    """Returns a form's scale if it is one along these axes of the weight alone, or None."""
    if not isinstance(form, Scaled):
        return None
    kept = [axis % len(form.base.shape) for axis in axes]
    sizes = form.scale.shape[1:]
    return form.scale if all(n == 1 or axis in kept for axis, n in enumerate(sizes)) else None


def along(values: Any, axes: str, outputs: str) -> Any:
    """Returns values with these axes in such a shape that they broadcast along the outputs' axes.

    Axes are letters, as in an equation of einsum. The first of `axes` is the batch.
    """
    order = sorted(range(len(axes)), key=lambda n: outputs.index(axes[n]))
    sizes = dict(zip(axes, (-1, *values.shape[1:]), strict=True))
    return ops.reshape(ops.transpose(values, order), [sizes.get(axis, 1) for axis in outputs])
