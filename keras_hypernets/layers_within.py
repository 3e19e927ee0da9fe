"""Finds layers, and what they generate, at any depth of a model."""

import os
from collections.abc import Iterator
from typing import Any

import keras


def layers_within(model: keras.Layer) -> Iterator[tuple[str, keras.Layer]]:
    """Yields a model or layer and all layers in it, each once, with its path within the model.

    A path joins the names of the enclosing layers, such as `"block/first"`. The model's own path is
    its name.
    """
    for path, layer in _walk(model, model.name, set()):
        yield path.removeprefix(f"{model.name}/"), layer


def _walk(layer, path, seen):
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield path, layer
    # Only models have a public list of their layers.
    parts = layer.layers if isinstance(layer, keras.Model) else _layers_in(vars(layer))
    for part in parts:
        yield from _walk(part, f"{path}/{part.name}", seen)


def _layers_in(value: Any) -> Iterator[keras.Layer]:
    """Yields the layers in lists, tuples and dictionaries, whatever their keys."""
    if isinstance(value, keras.Layer):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _layers_in(one)


def generated_without_input(layer: keras.Layer) -> dict[str, Any]:
    """Returns a built layer's generated weights, or `{}` if it has none or they need an input.

    A layer that generates weights has a method `generated_weights`, which returns a dictionary from
    names to tensors. If they depend on an input, the method takes it as an argument, and the layer
    has an attribute `depends_on_input`, which is true.
    """
    if not layer.built or getattr(layer, "depends_on_input", False):
        return {}
    return layer.generated_weights() if hasattr(layer, "generated_weights") else {}


def generated_within(model: keras.Layer) -> Iterator[tuple[keras.Layer, str, str, Any]]:
    """Yields the layer, key, name and value of weights that are generated without an input.

    The name is unique in the model: the layer's path and the key, without a `"kernel"` at its end.
    """
    for path, layer in layers_within(model):
        prefix = "" if layer is model else f"{path}/"
        for key, weight in generated_without_input(layer).items():
            name = path if key == "kernel" else prefix + key.removesuffix("/kernel")
            yield layer, key, name, weight


def without_common_path(names: list[str]) -> list[str]:
    """Returns paths without the enclosing layers that they all share."""
    shared = os.path.commonprefix(names).rpartition("/")[0]
    return [name.removeprefix(f"{shared}/") for name in names]
