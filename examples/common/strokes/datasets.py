"""Drawings for the examples: where they come from and how they are split."""

import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from common.strokes import array_files, glyphs, handwriting
from keras_hypernets.models.strokes import check_strokes

NPZ_PARTS = ("train", "valid", "test")
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class StrokeData:
    """Drawings in three parts, with a digest that tells whether two runs saw the same ones.

    A drawing is an array `(points, 3)` of dx, dy and whether the pen is lifted after the point.
    Where a drawing begins means nothing: its first point has no offset.

    Attributes:
        resolution: width of the grid on which the coordinates lie, 0 for none.
        left_out: how many drawings had too few or too many points.
    """

    name: str
    train: list[np.ndarray]
    validation: list[np.ndarray]
    test: list[np.ndarray]
    resolution: float
    left_out: int

    @cached_property
    def scale(self) -> float:
        """The standard deviation of the offsets of the training drawings."""
        return float(np.concatenate([drawing[1:, :2] for drawing in self.train]).std())

    @cached_property
    def sha256(self) -> str:
        """The digest of all drawings."""
        digest = hashlib.sha256()
        for part in PARTS:
            for drawing in getattr(self, part):
                digest.update(len(drawing).to_bytes(8, "little") + drawing.tobytes())
            digest.update(b"|")
        return digest.hexdigest()

    @property
    def description(self) -> str:
        """Two lines for people."""
        lengths = [len(drawing) for part in PARTS for drawing in getattr(self, part)]
        return (
            f"{self.name}: {len(self.train):,} drawings to train, {len(self.validation):,} to "
            f"validate, {len(self.test):,} to test, {min(lengths)} to {max(lengths)} points each "
            f"({self.left_out:,} others left out)\nSHA-256 {self.sha256}"
        )


def load_drawings(
    source: str = "glyphs",
    min_points: int = 2,
    max_points: int = 200,
    resolution: float | None = None,
) -> StrokeData:
    """Loads drawings in three parts.

    Args:
        source: One of
            - `"glyphs"`: the outlines of letters in the fonts that matplotlib has. All letters of
              one base, such as e, É and ë, are in the same part.
            - An `.npz` file of https://github.com/hardmaru/sketch-rnn-datasets, or of QuickDraw's
              sketch-rnn files, with the arrays `train`, `valid` and `test`.
            - A folder with the `.xml` files of IAM-OnDB's `lineStrokes`. All lines of one text are
              in the same part; a twentieth of the texts validate, another tests. (This is not the
              database's own split.)
        min_points, max_points: Drawings with fewer or more points are left out. At least 2.
        resolution: Width of the grid on which the coordinates lie, in the source's unit. Models
            are trained with noise of this width: their densities could grow without limit on a
            grid. `None`: 1 if all offsets are whole numbers, else 0.

    Returns:
        The drawings.

    Raises:
        ValueError: If `source` is unknown or has another form, a drawing in it is none, or a part
            is empty.
    """
    path = Path(source)
    if min_points > max_points:
        raise ValueError(
            "`--min-points` must not exceed `--max-points`. "
            f"Received: --min-points {min_points} --max-points {max_points}"
        )
    if source == "glyphs":
        parts = _split(
            {
                base: [(f"{base!r}", one) for one in drawings]
                for base, drawings in glyphs.outlines_of_letters().items()
            }
        )
    elif path.is_dir():
        parts = _split(handwriting.read_lines(path))
    elif path.is_file():
        parts = [
            [(f"{source}, drawing {n} of {name!r}", drawing) for n, drawing in enumerate(array)]
            for name, array in zip(NPZ_PARTS, array_files.read_arrays(path, NPZ_PARTS), strict=True)
        ]
    else:
        raise ValueError(
            "`--data` must be 'glyphs', an .npz file or IAM's folder lineStrokes. "
            f"Received: {source!r}"
        )
    parts = [[_as_drawing(place, drawing) for place, drawing in part] for part in parts]
    kept = [
        [drawing for drawing in part if min_points <= len(drawing) <= max_points] for part in parts
    ]
    for name, part in zip(PARTS, kept, strict=True):
        if not part:
            raise ValueError(
                f"`--data` must have drawings for each part with {min_points} to {max_points} "
                f"points. Received: {source}, without one for {name}"
            )
    if resolution is None:
        whole = all(np.all(drawing == np.round(drawing)) for part in parts for drawing in part)
        resolution = float(whole)
    left_out = sum(map(len, parts)) - sum(map(len, kept))
    data = StrokeData(path.name, *kept, resolution, left_out)
    if not 0 < data.scale < np.inf:
        raise ValueError(
            "`--data` must have offsets with a deviation that is neither 0 nor infinite. "
            f"Received: {source}, {data.scale}"
        )
    return data


def _as_drawing(place, drawing):
    drawing = check_strokes(place, drawing).astype("float32")
    drawing[0, :2] = 0
    return drawing


def _split(groups: dict[str, Iterable]) -> list[list]:
    parts = [], [], []
    for name, group in groups.items():
        # Of the name alone, so that other fonts or files do not move a group to another part.
        number = zlib.crc32(name.encode()) % 20
        parts[{0: 1, 1: 2}.get(number, 0)].extend(group)
    return parts
