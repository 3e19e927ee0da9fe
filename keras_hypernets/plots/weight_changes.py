"""Plots how much the weights of a recurrent network change with each step of a sequence."""

import math
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_hypernets.plots.reading import cell_of, inputs_of
from keras_hypernets.plots.watching import generating_layers, watch
from keras_hypernets.validation import positive_integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VISIBLE = str.maketrans({" ": "\u2423", "\n": "\u21b5", "\t": "\u21e5", "\r": "\u240d"})


def weight_changes(model: keras.Model, text: Any, layer: int = 0) -> np.ndarray:
    r"""Measures how much the generated recurrent kernels change from each step to the next.

    For every gate y, this is the Frobenius norm of the change of the kernel applied to h_{t-1},

        n_t^y = || W_h^y(z_t) - W_h^y(z_{t-1}) ||_F        t = 2 ... time

    With scaling, W_h^y(z_t) is W_h^y with the row of each unit j times d_h^y(z_t)_j (eq. 7 and 12
    of the paper); with full generation it is sum_k z_t[k] W_h^y[k] (eq. 5). The kernels are never
    built: with scaling

        (n_t^y)^2 = sum_j (d_h^y(z_t) - d_h^y(z_{t-1}))_j^2 || row j of W_h^y ||^2

    Args:
        model: a chain of recurrent layers as in `models.sequences`, such as `char_language_model`
            and `stroke_model` create, whose cell in this layer generates weights.
        text: what the model reads, from zero states: 2 to 5,000 characters of its vocabulary, or
            for a model without one as many steps of its input `(time, ...)`, such as strokes.
        layer: index of the recurrent layer. Default 0.

    Returns:
        `(time - 1, gates)`, gates in Keras' order: i, f, c, o; z, r, h; or one.

    Raises:
        ValueError: if `model` is not of this kind, or another argument is out of range.

    Example:

    >>> model = keras_hypernets.models.char_language_model(
    ...     "abc ", units=16, hyper_units=8, embedding_dim=4)
    >>> keras_hypernets.plots.weight_changes(model, "a cab").shape
    (4, 4)
    >>> model = keras_hypernets.models.stroke_model(16, hyper_units=8, embedding_dim=4)
    >>> strokes = [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [-1.0, 0.0, 1.0]]
    >>> keras_hypernets.plots.weight_changes(model, strokes).shape
    (2, 4)

    Reference:
        [Ha et al., 2016](https://arxiv.org/abs/1609.09106), figures 4 and 7.
    """
    inputs = inputs_of(model, text)
    path, cell = _generating_cell(model, layer)
    return change_norms(cell, watch(model, inputs)[path], text)


def plot_weight_changes(model: keras.Model, text: Any, layer: int = 0, width: int = 64) -> "Figure":
    """Plots the change of the generated weights at each character, as in the paper's figure 4.

    Under each character of the text is a column with a field for each gate. The lighter the field,
    the more the gate's recurrent kernel changed at that character: the norm that `weight_changes`
    computes, relative to the gate's largest, which the label gives. (Under layer norm a gate's
    kernel can grow without any effect.) The first character has no change. Spaces, line feeds, tabs
    and carriage returns have symbols of their own; unprintable characters become a question mark in
    a diamond. For a model without characters every tenth step has its number.

    Args:
        model, text: as for `weight_changes`. The text may be written by people or by `generate`.
        layer: index of the recurrent layer. Default 0.
        width: positive integer, number of steps in a line. Default 64.

    Returns:
        A `matplotlib.figure.Figure`. Save it with `figure.savefig("weight_changes.png")`.

    Raises:
        ValueError: if `model` is not of this kind, or another argument is out of range.

    Example:

    >>> model = keras_hypernets.models.char_language_model(
    ...     "abc ", units=16, hyper_units=8, embedding_dim=4)
    >>> figure = keras_hypernets.plots.plot_weight_changes(model, "a cab")
    >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
    ['a', '␣', 'c', 'a', 'b']

    Reference:
        [Ha et al., 2016](https://arxiv.org/abs/1609.09106), figures 4 and 7.
    """
    width = positive_integer("width", width)
    norms = weight_changes(model, text, layer)
    return draw_weight_changes(cell_of(model, layer), norms, text, width)


def change_norms(cell: keras.Layer, generated: dict, text: Any) -> np.ndarray:
    """Returns norms `(time - 1, gates)` for what a cell generated while it read a sequence."""
    time = len(text)  # a stateful model read it in every row of its batch
    one = {name: ops.convert_to_tensor(values[None, :time]) for name, values in generated.items()}
    return ops.convert_to_numpy(cell.recurrent_kernel_changes(one))[0]


def draw_weight_changes(
    cell: keras.Layer, norms: np.ndarray, text: Any, width: int = 64
) -> "Figure":
    """Draws norms `(time - 1, gates)` of a cell under the steps of a sequence."""
    from matplotlib.figure import Figure  # not pyplot, which may look for a screen

    gates = norms.shape[1]
    largest = norms.max(axis=0)
    field = np.concatenate([np.full((1, gates), np.nan), norms / np.where(largest > 0, largest, 1)])
    names = cell.gate_names or range(gates)
    labels = [f"{gate} ({n:.3g})" for gate, n in zip(names, largest, strict=True)]
    if isinstance(text, str):
        symbols = [c if c.isprintable() else "\ufffd" for c in text.translate(VISIBLE)]
    else:
        symbols = ["" if n % 10 else str(n) for n in range(len(text))]
    lines, width = math.ceil(len(text) / width), min(width, max(len(text), 24))
    size = (0.15 * width + 1.5, (0.2 * gates + 0.3) * lines + 0.8)
    figure = Figure(size, dpi=150, layout="constrained")
    panels = figure.subplots(lines, 1, squeeze=False)[:, 0]
    for n, axes in enumerate(panels):
        part = slice(n * width, (n + 1) * width)
        image = axes.imshow(field[part].T, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        axes.set_xlim(-0.5, width - 0.5)
        signs = symbols[part]
        axes.set_xticks(range(len(signs)), signs, family="monospace", parse_math=False)
        axes.set_yticks(range(gates), labels, fontsize="small")
        axes.tick_params(length=0, pad=2, top=False, bottom=False, labeltop=True, labelbottom=False)
        axes.spines[:].set_visible(False)
    shape = {"shrink": 3 / size[0], "aspect": 20, "pad": 0.1 / size[1]}
    bar = figure.colorbar(image, ax=panels, location="bottom", **shape)
    bar.set_label("change of $W_h$, Frobenius norm\nrelative to the gate's largest (in brackets)")
    return figure


def _generating_cell(model, layer):
    cell = cell_of(model, layer)
    for path, one in generating_layers(model).items():
        if one.cell is cell and hasattr(cell, "recurrent_kernel_changes"):
            return path, cell
    raise ValueError(
        f"`model` must have a cell that generates weights in its recurrent layer {layer}. "
        f"Received: model={model.name} with a {type(cell).__name__}"
    )
