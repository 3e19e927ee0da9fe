"""Plots kernels, generated or not, as grids of filters."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_hypernets.layers_within import (
    generated_within,
    layers_within,
    without_common_path,
)
from keras_hypernets.validation import positive_integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINES = "#0072B2"  # not grey, so that lines stand out from weights
PANEL = 5  # inches: width and maximum height of a panel


def plot_filters(model_or_kernel: Any, channels: int = 16) -> "Figure":
    """Plots the kernels of 2D convolutions as grids of filters, as in figure 2 of the paper.

    One panel per kernel `(height, width, in, out)`, titled with the layer's name and the shape. The
    rows of a panel are input channels, the columns output channels, from the top left. Black and
    white are minus and plus the kernel's largest absolute value, given below the panel; mid-grey is
    zero. NaN and infinity have the colour of the lines.

    For a model, this plots each kernel of rank 4 once: all `generated_weights()` of layers such as
    `HyperConv2D`, and the `kernel` of `keras.layers.Conv2D`, `DepthwiseConv2D` and any other layer
    with a `kernel_size`. (That of `Conv2DTranspose`, `(height, width, out, in)` in Keras, is
    transposed to match.) In the target of a `HyperNetwork` these are the generated kernels, unless
    they depend on a condition: then they are left out.

    Args:
        model_or_kernel: a built model or layer, including those nested in it, or one kernel
            `(height, width, in, out)` as an array, tensor or variable.
        channels: positive integer, maximum number of input and of output channels to draw of each
            kernel; the title says if there are more. Default 16.

    Returns:
        A `matplotlib.figure.Figure`. Save it with `figure.savefig("filters.png")`.

    Raises:
        ValueError: if an argument is out of range, or there is no such kernel.

    Example:

    >>> figure = keras_hypernets.plots.plot_filters(keras_hypernets.models.hyper_cnn())
    >>> [axes.get_title() for axes in figure.axes]
    ['conv_1 (7, 7, 1, 16)', 'conv_2 (7, 7, 16, 16)']

    Reference:
        [Ha et al., 2016](https://arxiv.org/abs/1609.09106), figure 2.
    """
    from matplotlib.figure import Figure  # not pyplot, which may need a display

    channels = positive_integer("channels", channels)
    kernels = _kernels_to_draw(model_or_kernel)
    columns = _columns(len(kernels))
    # A panel is as wide as its column and at most as high as wide.
    pictures = [_picture(kernel[:, :, :channels, :channels]) for _, kernel in kernels]
    tallness = [min(picture.shape[0] / picture.shape[1], 1) for picture in pictures]
    rows = [max(tallness[n : n + columns]) for n in range(0, len(kernels), columns)]
    figure = Figure(dpi=150)
    grid = figure.add_gridspec(len(rows), columns, height_ratios=rows)
    for n, ((name, kernel), picture) in enumerate(zip(kernels, pictures, strict=True)):
        height, width, inputs, outputs = kernel.shape
        title = f"{name} {kernel.shape}"
        sizes = {"input": inputs, "output": outputs}.items()
        cut = [f"{channels} of {size} {side} channels" for side, size in sizes if size > channels]
        if cut:
            title += f"\nfirst {' and '.join(cut)}"
        limit = np.abs(kernel[np.isfinite(kernel)]).max(initial=0) or 1.0
        axes = figure.add_subplot(grid[n], facecolor=LINES)
        axes.imshow(picture, cmap="gray", vmin=-limit, vmax=limit)
        axes.set_xticks(np.arange(width, picture.shape[1], width) - 0.5, labels=[])
        axes.set_yticks(np.arange(height, picture.shape[0], height) - 0.5, labels=[])
        axes.tick_params(length=0)
        axes.grid(color=LINES, linewidth=min(2, 24 / min(channels, max(inputs, outputs))))
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel(f"black {-limit:.3g}, white {limit:.3g}", fontsize="small")
    # Matplotlib's layouts do not know how high panels with equal scales are, so use inches.
    titles = np.array([axes.title.get_window_extent().size for axes in figure.axes]) / figure.dpi
    beside, above = titles.max(axis=0) + (0.1 - PANEL, 0.2)
    beside, below, edge = max(beside, 0.1), 0.25, 0.27
    width = edge + columns * (PANEL + beside)
    height = edge + PANEL * sum(rows) + len(rows) * (above + below)
    figure.set_size_inches(width, height)
    figure.subplots_adjust(
        left=(edge + beside / 2) / width,
        right=1 - beside / 2 / width,
        bottom=(edge + below) / height,
        top=1 - above / height,
        wspace=beside / PANEL,
        hspace=(above + below) / (PANEL * np.mean(rows)),
    )
    figure.supxlabel("output channels", y=0.05 / height, fontsize="medium")
    figure.supylabel("input channels", x=0.05 / width, fontsize="medium")
    return figure


def _columns(count: int) -> int:
    """Returns a number of columns for a nearly square grid with the fullest last row."""
    root = math.sqrt(count)
    return min(range(round(root), math.ceil(1.5 * root) + 1), key=lambda n: -count % n / n)


def _picture(kernel: np.ndarray) -> np.ndarray:
    """Puts the filters side by side: a row per input channel, a column per output channel."""
    height, width, inputs, outputs = kernel.shape
    return kernel.transpose(2, 0, 3, 1).reshape(inputs * height, outputs * width)


def _kernels_to_draw(model_or_kernel: Any) -> list[tuple[str, np.ndarray]]:
    shape = getattr(model_or_kernel, "shape", ())
    received = f"{type(model_or_kernel).__name__} of shape {tuple(shape)}"
    dtype = str(getattr(model_or_kernel, "dtype", ""))
    numeric = ("float" in dtype or "int" in dtype) and 0 not in shape
    kernels = [("kernel", model_or_kernel)] if len(shape) == 4 and numeric else []
    if isinstance(model_or_kernel, keras.Layer):
        received = f"{model_or_kernel.name} (built={model_or_kernel.built})"
        kernels = list(_kernels_within(model_or_kernel))
    if not kernels:
        raise ValueError(
            "`model_or_kernel` must be a built model or layer with kernels of 2D convolutions, or "
            f"one kernel (height, width, in, out). Received: {received}"
        )
    names, kernels = zip(*kernels, strict=True)
    arrays = map(keras.ops.convert_to_numpy, kernels)
    return list(zip(without_common_path(names), arrays, strict=True))


def _kernels_within(model: keras.Layer) -> Iterator[tuple[str, Any]]:
    """Yields the paths and kernels of rank 4."""
    generated = {}
    for layer, key, name, kernel in generated_within(model):
        generated.setdefault(layer, {})[key] = name, kernel
    in_targets = {}  # by variable
    for path, layer in layers_within(model):
        found = generated.get(layer, {})
        for one in getattr(layer, "generated", ()):  # the layers of its target come next
            _, in_targets[id(one.variable)] = found.pop(one.variable.path, (None, None))
        if not found and hasattr(layer, "kernel_size"):
            kernel = getattr(layer, "kernel", None)  # if the layer is built
            kernel = in_targets.get(id(kernel), kernel)
            if isinstance(layer, keras.layers.Conv2DTranspose) and kernel is not None:
                kernel = keras.ops.swapaxes(kernel, 2, 3)
            found = {"kernel": (path, kernel)}
        for name, kernel in found.values():
            if kernel is not None and len(kernel.shape) == 4:
                yield name, kernel
