"""The layers that own a target's weights, and what is particular to each kind's weights."""

from collections.abc import Iterator

import keras
from keras import layers, ops

from keras_hypernets.layers_within import layers_within

NORMALIZATIONS = (
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.GroupNormalization,
    layers.RMSNormalization,
)
TRANSPOSED = layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose
DEPTHWISE = layers.DepthwiseConv1D, layers.DepthwiseConv2D


def owners(target: keras.Layer) -> Iterator[tuple[keras.Layer, list[keras.Variable]]]:
    """Yields each layer in a built target that has variables of its own, with those variables.

    Variables of a layer's sublayers are not its own.
    """
    for _, layer in layers_within(target):
        inner = {
            id(variable)
            for _, part in layers_within(layer)
            if part is not layer
            for variable in part.variables
        }
        own = [variable for variable in layer.variables if id(variable) not in inner]
        if own:
            yield layer, own


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


def is_like(layer: keras.Layer, kinds: tuple[type, ...]) -> bool:
    """Whether a layer's `call` is that of one of these classes, not one of its own."""
    return type(layer).call in [kind.call for kind in kinds]


def stand_in(layer: keras.Layer, variable: keras.Variable):
    """Returns what a generated variable is for code that does not know the values per sample.

    The scale of a normalization is one and its shift zero: the layer's own call then normalizes
    only. Everything else is not a number, so that such code cannot give plausible results.
    """
    value = float("nan")
    if is_like(layer, NORMALIZATIONS):
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
