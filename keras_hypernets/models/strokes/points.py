"""Drawings as sequences of points (dx, dy, pen), and their checks."""

from typing import Any

import numpy as np
from keras import ops


def previous_points(strokes: Any) -> Any:
    """Returns what a stroke model reads to predict each point: the point before it.

    The first point follows (0, 0, 0), where `generate_strokes` starts too.

    Args:
        strokes: `(batch, time, 3)`.

    Returns:
        A tensor of the same shape; for anything else a NumPy array.

    Example:

    >>> strokes = [[[3.0, 1.0, 0.0], [2.0, 0.0, 1.0]]]
    >>> keras_hypernets.models.strokes.previous_points(strokes)[0].tolist()
    [[0.0, 0.0, 0.0], [3.0, 1.0, 0.0]]
    """
    if ops.is_tensor(strokes):
        return ops.concatenate([ops.zeros_like(strokes[:, :1]), strokes[:, :-1]], axis=1)
    strokes = np.asarray(strokes)
    return np.concatenate([np.zeros_like(strokes[:, :1]), strokes[:, :-1]], axis=1)


def check_strokes(name: str, strokes: Any) -> np.ndarray:
    """Returns one drawing as an array `(time, 3)` of floats.

    Args:
        name: what error messages call the drawing, between backticks.
        strokes: one drawing, a point (dx, dy, pen lifted after it) in each row.

    Raises:
        ValueError: unless it has at least one point, all offsets are finite and all pens 0 or 1.
    """
    try:
        points = np.asarray(ops.convert_to_numpy(strokes))
    except (TypeError, ValueError, OverflowError):  # ragged
        points = np.zeros(())
    if points.dtype.kind != "f":
        points = points.astype("float32") if points.dtype.kind in "biu" else np.zeros(())
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise ValueError(
            f"`{name}` must have at least one point and be (time, 3): dx, dy, pen lifted. "
            f"Received: shape {np.shape(points) or repr(strokes)}"
        )
    for rule, wrong in (
        ("finite offsets", ~np.isfinite(points[:, :2]).all(axis=1)),
        ("pens that are 0 or 1", ~np.isin(points[:, 2], (0, 1))),
    ):
        if wrong.any():
            place = int(wrong.argmax())
            raise ValueError(
                f"`{name}` must have {rule}. Received: {points[place].tolist()} at point {place}"
            )
    return points
