"""Finding layers, however deep they are in a model."""

from collections.abc import Iterator
from typing import Any

import keras


def layers_within(model: keras.Layer) -> Iterator[tuple[str, keras.Layer]]:
    """Yields a model or layer and all layers in it, each once, with its path within the model.

    A path has the names of the enclosing layers, such as `"block/first"`; the model's own is its
    name.
    """
    for path, layer in _walk(model, model.name, set()):
        yield path.removeprefix(f"{model.name}/"), layer


def _walk(layer, path, seen):
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield path, layer
    # Only models have a public list of the layers they are made of.
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
