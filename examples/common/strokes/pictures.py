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
MARGIN = 1.15  # of the largest drawing
# From a grey that can be seen on white to what stands out most.
CHANGES = LinearSegmentedColormap.from_list("changes", ["#C8C8C8", "#E69F00", "#D55E00", "#7A0177"])


def save(figure: Figure, path: Path) -> None:
    """Writes a picture."""
    with outputs.replacing(path) as unfinished:
        figure.savefig(unfinished)


def draw_grid(drawings: Sequence[np.ndarray], columns: int = 8) -> Figure:
    """Draws drawings `(points, 3)` in a grid, all to one scale."""
    rows = -(-len(drawings) // columns)
    figure = Figure((CELL * columns, CELL * rows), dpi=200)
    _fill(figure, drawings, rows, columns, _span(drawings))
    return figure


def draw_beside(
    real: Sequence[np.ndarray], generated: Sequence[np.ndarray], columns: int = 6
) -> Figure:
    """Draws real drawings on the left and generated ones on the right, all to one scale."""
    rows = -(-len(real) // columns)
    figure = Figure((2 * CELL * columns + 0.4, CELL * rows + 0.4), dpi=200, layout="constrained")
    span = _span([*real, *generated])
    halves = zip(figure.subfigures(1, 2, wspace=0.05), (real, generated), strict=True)
    for title, (half, drawings) in zip(("real", "generated"), halves, strict=True):
        half.suptitle(title)
        _fill(half, drawings, rows, columns, span)
    return figure


def draw_weight_changes(model, drawings: Sequence[np.ndarray]) -> Figure:
    """Colours drawings by how much each gate's recurrent kernel changes from point to point.

    As the paper's figure 7: a row for each gate, a column for each drawing. A line has the colour
    of the change when the model reads the point where it ends.
    """
    cell = model.get_layer("recurrent_0").cell
    norms = [plots.weight_changes(model, drawing) for drawing in drawings]
    largest = np.concatenate(norms).max(axis=0)
    gates, span = len(largest), _span(drawings)
    size = CELL * 1.5
    figure = Figure((size * len(drawings) + 1.2, size * gates), dpi=200, layout="constrained")
    panels = figure.subplots(gates, len(drawings), squeeze=False)
    for gate, row in enumerate(panels):
        for axes, drawing, changes in zip(row, drawings, norms, strict=True):
            colours = CHANGES(changes[:, gate] / max(largest[gate], 1e-30))
            _draw(axes, drawing, span, colours)
        name = (cell.gate_names or range(gates))[gate]
        row[0].set_ylabel(f"{name} ({largest[gate]:.3g})", rotation=0, ha="right", va="center")
    bar = figure.colorbar(ScalarMappable(cmap=CHANGES), ax=panels, aspect=40)
    bar.set_label("change of $W_h$, Frobenius norm\nrelative to the gate's largest (in brackets)")
    return figure


def _points(drawing):
    return np.cumsum(drawing[:, :2], axis=0)


def _span(drawings):
    return MARGIN * max(max(np.ptp(_points(drawing), axis=0)) for drawing in drawings) or 1.0


def _fill(figure, drawings, rows, columns, span):
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    if not figure.get_layout_engine():
        figure.subplots_adjust(0, 0, 1, 1, 0, 0)
    for axes in panels:
        axes.axis("off")
    for axes, drawing in zip(panels, drawings, strict=False):
        _draw(axes, drawing, span)


def _draw(axes, drawing, span, colours=None):
    """Draws a drawing; `colours` are those of its lines from the second point on."""
    points, lifted = _points(drawing), drawing[:, 2] > 0.5
    drawn = ~lifted[:-1]
    lines = np.stack([points[:-1], points[1:]], axis=1)[drawn]
    colours = "black" if colours is None else colours[drawn]
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=1.2, capstyle="round"))
    dots = points[lifted & np.append(True, lifted[:-1])]  # strokes of one point
    axes.scatter(*dots.T, s=1.2, color="black")
    low, high = points.min(axis=0), points.max(axis=0)
    (x, y), half = (low + high) / 2, span / 2
    axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half), aspect="equal")  # y downward
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
