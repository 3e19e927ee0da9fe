"""Reads the folder `lineStrokes` of the IAM On-Line Handwriting Database.

Whoever registers gets it at https://fki.tic.heia-fr.ch/databases/iam-on-line-handwriting-database.
"""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np


def read_lines(folder: Path) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Returns the lines of each form, such as "a01-000", with the paths of their files.

    A line is an array of `(dx, dy, pen lifted)`, y downward.

    Raises:
        ValueError: if there are no files, or one has another form.
    """
    forms = {}
    for path in sorted(folder.rglob("*.xml")):
        form = path.parent.name[:7]  # without the letter of the writer
        forms.setdefault(form, []).append((str(path), _line(path)))
    if not forms:
        raise ValueError(
            "`--data` must be an .npz file or a folder with the .xml files of IAM's lineStrokes. "
            f"Received: {folder}, without .xml files"
        )
    return forms


def _line(path):
    try:
        strokes = ElementTree.parse(path).findall("StrokeSet/Stroke")
        strokes = [
            [(float(p.get("x")), float(p.get("y"))) for p in s.iter("Point")] for s in strokes
        ]
    except (OSError, ElementTree.ParseError, TypeError, ValueError) as error:
        raise ValueError(
            "Every .xml file of `--data` must have strokes of points, "
            "<StrokeSet><Stroke><Point x='1' y='2'/>. "
            f"Received: {path} ({type(error).__name__}: {error})"
        ) from error
    points = np.array([point for stroke in strokes for point in stroke]).reshape(-1, 2)
    ends = [n == len(stroke) for stroke in strokes for n in range(1, len(stroke) + 1)]
    return np.column_stack([np.diff(points, axis=0, prepend=points[:1]), ends])
