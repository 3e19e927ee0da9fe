"""Plots how similar the embeddings of layers that share a generator are."""

from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_hypernets.layers_within import generated_within, without_common_path
from keras_hypernets.static.kernel_generator import KernelGenerator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PIXELS = 64  # maximum on a side of a layer's field


def embedding_similarity(
    model: keras.Layer, generator: KernelGenerator | None = None
) -> tuple[dict[str, int], np.ndarray]:
    """Returns the cosine similarities of all tile embeddings of a shared generator.

        s_ij = z_i . z_j / (|z_i| |z_j|)

    Args:
        model: a built model or layer that contains `HyperConv2D`, `HyperDense` or a `HyperNetwork`
            with a `KernelGenerator`, such as a `hyper_resnet`.
        generator: `KernelGenerator` whose embeddings to compare. Default `None`: the only one in
            the model that generates kernels of several layers.

    Returns:
        A dictionary from the names of layers to their numbers of tiles, in the order of the model;
        and the matrix `(tiles, tiles)` of cosines, in the same order and row-major within a layer.
        A zero embedding has cosines of 0.

    Raises:
        ValueError: if there is no such generator, or several and `generator` is `None`.

    Example:

    >>> tiles, similarity = keras_hypernets.plots.embedding_similarity(
    ...     keras_hypernets.models.hyper_resnet(10, 1))
    >>> list(tiles.values()), similarity.shape
    ([1, 1, 2, 4, 8, 16], (32, 32))
    """
    if generator is not None and not isinstance(generator, KernelGenerator):
        raise ValueError(
            f"`generator` must be a KernelGenerator. Received: generator={generator!r}"
        )
    embeddings = _embeddings(model, generator)
    z = np.concatenate([*embeddings.values()])
    z = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), np.finfo(z.dtype).tiny)
    return {name: len(rows) for name, rows in embeddings.items()}, z @ z.T


def plot_embedding_similarity(
    model: keras.Layer, generator: KernelGenerator | None = None
) -> "Figure":
    """Plots the cosine similarities of the embeddings of all layers that share a generator.

    Every layer has a row and a column of equal size. The field of two layers shows each tile of one
    against each tile of the other. Blue means that embeddings point in the same direction, red in
    opposite directions, white at right angles.

    Args:
        model, generator: as for `embedding_similarity`.

    Returns:
        A `matplotlib.figure.Figure`. Save it with `figure.savefig("similarity.png")`.

    Raises:
        ValueError: if there is no such generator, or several and `generator` is `None`.

    Example:

    >>> figure = keras_hypernets.plots.plot_embedding_similarity(
    ...     keras_hypernets.models.hyper_resnet(10, 1))
    >>> figure.axes[0].get_yticklabels()[0].get_text()
    'group_1_block_1_conv_1'
    """
    from matplotlib.figure import Figure  # not pyplot, which may need a display

    tiles, similarity = embedding_similarity(model, generator)
    layers = len(tiles)
    # A layer has as many pixels as the largest has tiles.
    pixels = min(max(tiles.values()), PIXELS)
    starts = np.cumsum([0, *tiles.values()])[:-1, None]
    counts = np.array([*tiles.values()])[:, None]
    shown = (starts + np.arange(pixels) * counts // pixels).ravel()
    figure = Figure(dpi=150, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(
        similarity[np.ix_(shown, shown)],
        cmap="RdBu",
        vmin=-1,
        vmax=1,
        extent=(0, layers, layers, 0),
        interpolation="nearest",
    )
    for place in range(1, layers):
        axes.axhline(place, color="black", linewidth=0.4)
        axes.axvline(place, color="black", linewidth=0.4)
    labels = [name if count == 1 else f"{name}, {count} tiles" for name, count in tiles.items()]
    middles = np.arange(layers) + 0.5
    axes.set_xticks(middles, [*tiles], rotation=90, fontsize="small")
    axes.set_yticks(middles, labels, fontsize="small")
    figure.colorbar(image, ax=axes, label="cosine similarity of embeddings", shrink=0.6)
    # Leave room beside the field for labels of any length and the colour bar's.
    side = max(0.24 * layers, 2.4)
    beside = max(label.get_window_extent().width for label in axes.get_yticklabels())
    below = max(label.get_window_extent().height for label in axes.get_xticklabels())
    figure.set_size_inches(side + beside / figure.dpi + 1.4, side + below / figure.dpi + 0.3)
    return figure


def _embeddings(model, generator):
    """Returns the layers of one generator by name, with the embeddings of their tiles."""
    found = {}  # layers by generator
    rest = {}  # by layer, the rows of kernels yet to come
    for layer, _, name, kernel in generated_within(model) if isinstance(model, keras.Layer) else ():
        if not hasattr(layer, "embedding") or not hasattr(layer, "generator"):
            continue
        if layer not in rest:
            embedding = keras.ops.cast(layer.embedding, "float32")
            rest[layer] = keras.ops.convert_to_numpy(embedding)
        count = int(np.prod(layer.generator.count_tiles(kernel.shape, name)))
        rows, rest[layer] = rest[layer][:count], rest[layer][count:]
        found.setdefault(layer.generator, {})[name] = rows
    shared = {one: layers for one, layers in found.items() if len(layers) > 1}
    if len(shared) != 1 if generator is None else generator not in shared:
        which = "exactly one KernelGenerator" if generator is None else "`generator`"
        raise ValueError(
            f"`model` must be a built model or layer in which {which} generates kernels of several "
            f"layers. Received: {getattr(model, 'name', model)!r} with {len(shared)} of them"
        )
    layers = next(iter(shared.values())) if generator is None else shared[generator]
    return dict(zip(without_common_path([*layers]), layers.values(), strict=True))
