"""Pictures of drawings, as matplotlib's figures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from common import outputs
from keras_hypernets import plots

CELL = 0.9  # inches
MARGIN = 1.15  # of a drawing
# From a grey that can be seen on white to what stands out most.
CHANGES = LinearSegmentedColormap.from_list("changes", ["#C8C8C8", "#E69F00", "#D55E00", "#7A0177"])
STRONG = 95  # percentile of the changes that has the last colour


def save(figure: Figure, path: Path) -> None:
    """Writes a picture."""
    with outputs.replacing(path) as unfinished:
        figure.savefig(unfinished)


def draw_grid(drawings: Sequence[np.ndarray], columns: int = 8) -> Figure:
    """Draws drawings `(points, 3)` in a grid, each as large as its field."""
    rows = -(-len(drawings) // columns)
    figure = Figure((CELL * columns, CELL * rows), dpi=200)
    _fill(_grid(figure, rows, columns, 0, 1, 1), drawings)
    return figure


def draw_beside(
    real: Sequence[np.ndarray], generated: Sequence[np.ndarray], columns: int = 6
) -> Figure:
    """Draws real drawings on the left and generated ones on the right, each as large as a field."""
    rows = -(-len(real) // columns)
    width, height, title, gap = CELL * columns, CELL * rows, 0.35, 0.4
    whole = 2 * width + gap
    figure = Figure((whole, height + title), dpi=200)
    top = height / (height + title)
    for n, (name, drawings) in enumerate((("real", real), ("generated", generated))):
        left = n * (width + gap) / whole
        right = left + width / whole
        _fill(_grid(figure, rows, columns, left, right, top), drawings)
        figure.text((left + right) / 2, top, name, size="large", ha="center", va="bottom")
    return figure


def draw_weight_changes(model, drawings: Sequence[np.ndarray]) -> Figure:
    """Colours drawings by how much each gate's recurrent kernel changes from point to point.

    As the paper's figure 7: a row for each gate, a column for each drawing. A line has the colour
    of the change when the model reads the point where it ends. The few strongest changes, such as
    the first ones, have one colour.
    """
    cell = model.get_layer("recurrent_0").cell
    norms = [plots.weight_changes(model, drawing) for drawing in drawings]
    strong = np.percentile(np.concatenate(norms), STRONG, axis=0)
    gates, size = len(strong), 1.5 * CELL
    figure = Figure((size * len(drawings) + 1.3, size * gates + 0.8), dpi=200, layout="constrained")
    panels = figure.subplots(gates, len(drawings), squeeze=False)
    for gate, row in enumerate(panels):
        for axes, drawing, changes in zip(row, drawings, norms, strict=True):
            _draw(axes, drawing, CHANGES(changes[:, gate] / max(strong[gate], 1e-30)))
        name = (cell.gate_names or range(gates))[gate]
        label = f"{name} ({strong[gate]:.3g})"
        row[0].set_ylabel(label, rotation=0, ha="right", va="center")
    bar = figure.colorbar(
        ScalarMappable(cmap=CHANGES), ax=panels, location="bottom", aspect=40, extend="max"
    )
    bar.set_label(
        "change of $W_h$, Frobenius norm,\n"
        f"relative to the gate's {STRONG}th percentile (in brackets)"
    )
    return figure


def _grid(figure, rows, columns, left, right, top):
    edges = {"left": left + 0.005, "right": right - 0.005, "bottom": 0.01, "top": top - 0.01}
    return figure.add_gridspec(rows, columns, **edges, wspace=0, hspace=0)


def _fill(grid, drawings):
    fields = grid.subplots(squeeze=False).ravel()
    for axes in fields:
        axes.axis("off")
    for axes, drawing in zip(fields, drawings, strict=False):
        _draw(axes, drawing)


def _draw(axes, drawing, colours=None):
    """Draws a drawing; `colours` are those of its lines from the second point on."""
    points, lifted = np.cumsum(drawing[:, :2], axis=0), drawing[:, 2] > 0.5
    drawn = ~lifted[:-1]
    lines = np.stack([points[:-1], points[1:]], axis=1)[drawn]
    colours = "black" if colours is None else colours[drawn]
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=1.2, capstyle="round"))
    dots = points[lifted & np.append(True, lifted[:-1])]  # strokes of one point
    axes.scatter(*dots.T, s=1.2, color="black")
    low, high = points.min(axis=0), points.max(axis=0)
    (x, y), half = (low + high) / 2, MARGIN * max(high - low) / 2 or 1
    axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half), aspect="equal")  # y downward
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
