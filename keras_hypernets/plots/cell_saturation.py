"""Plots how far the memory cells of recurrent networks saturate tanh."""

import math
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_hypernets.plots.reading import cell_of, read
from keras_hypernets.validation import positive_integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SATURATED = 0.9  # beyond this |tanh(c)|, less than a fifth of the gradient passes


def plot_cell_saturation(
    models: dict[str, keras.Model], text: Any, layer: int = 0, bins: int = 40
) -> "Figure":
    """Plots histograms of tanh(c) of one or more models, as in figure 5 of the paper.

    One panel per model shows the percentage of cells and steps at each value of tanh(c_t). c_t
    is the stored state, before layer norm. The title gives the percentage of saturated cells,
    |tanh(c_t)| > 0.9, through which less than a fifth of the gradient passes, since
    tanh' = 1 - tanh^2.

    Args:
        models: dictionary from names to models such as `char_language_model` and `stroke_model`
            create, whose cells have a state c: `"hyper_lstm"`, `"layer_norm_lstm"`, `"lstm"`.
        text: what every model reads, from zero states: 2 to 5,000 characters of its vocabulary, or
            for models without one as many steps of their input `(time, ...)`.
        layer: index of the recurrent layer. Default 0.
        bins: positive integer, number of bins between -1 and 1. Default 40.

    Returns:
        A `matplotlib.figure.Figure`. Save it with `figure.savefig("cell_saturation.png")`.

    Raises:
        ValueError: if a model is not of this kind, or another argument is out of range.

    Example:

    >>> models = {
    ...     cell: keras_hypernets.models.char_language_model("abc ", units=8, cell=cell)
    ...     for cell in ("lstm", "layer_norm_lstm")}
    >>> figure = keras_hypernets.plots.plot_cell_saturation(models, "a cab")
    >>> [axes.get_title().split(":")[0] for axes in figure.axes]
    ['lstm', 'layer_norm_lstm']

    Reference:
        [Ha et al., 2016](https://arxiv.org/abs/1609.09106), figure 5.
    """
    if not isinstance(models, dict) or not models or not all(isinstance(n, str) for n in models):
        raise ValueError(
            "`models` must be a dictionary from at least one name to a character language model. "
            f"Received: models={models!r}"
        )
    bins = positive_integer("bins", bins)
    values = {name: _tanh_c(name, model, text, layer) for name, model in models.items()}
    return draw_cell_saturation(values, bins)


def draw_cell_saturation(values: dict[str, np.ndarray], bins: int = 40) -> "Figure":
    """Draws a histogram of each array of tanh(c)."""
    from matplotlib.figure import Figure  # not pyplot, which may need a display

    columns = min(len(values), 4)
    rows = math.ceil(len(values) / columns)
    figure = Figure((3.2 * columns + 0.6, 2.8 * rows + 0.3), dpi=150, layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (name, tanh_c) in zip(panels, values.items(), strict=False):
        tanh_c = tanh_c.ravel()
        share = np.full(len(tanh_c), 100 / len(tanh_c))
        axes.hist(tanh_c, bins, range=(-1, 1), weights=share, color="#0072B2")
        saturated = 100 * np.mean(np.abs(tanh_c) > SATURATED)
        axes.set_title(f"{name}: {saturated:.1f} % saturated", fontsize="medium")
        axes.grid(axis="y", alpha=0.3)
    for axes in panels[len(values) :]:
        axes.set_visible(False)
    panels[0].set_xlim(-1, 1)
    panels[0].set_xticks([-1, -0.5, 0, 0.5, 1], [-1, "", 0, "", 1])
    figure.supxlabel(f"tanh(c), saturated beyond ± {SATURATED}", fontsize="medium")
    figure.supylabel("cells and steps, %", fontsize="medium")
    return figure


def _tanh_c(name, model, text, layer):
    try:
        cell, states = cell_of(model, layer), read(model, text)
    except ValueError as error:
        raise ValueError(f"{error} (in `models`: {name!r})") from error
    c = states.get(f"state_{layer}_c")
    if c is None:
        raise ValueError(
            "`models` must have cells with a state c. "
            f"Received: {name!r} with a {type(cell).__name__}"
        )
    return tanh_of(c)


def tanh_of(c) -> np.ndarray:
    return np.tanh(keras.ops.convert_to_numpy(keras.ops.cast(c, "float32")))
