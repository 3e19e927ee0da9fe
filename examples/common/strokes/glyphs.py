"""The outlines of the letters in matplotlib's own fonts, as drawings."""

import unicodedata
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import ft2font

FONTS = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral")  # with bold and italic
LAST_LETTER = 0x52F  # of the Latin, Greek and Cyrillic blocks
EM = 100  # the size of the letters, whose points have whole numbers as coordinates
MOVE_TO, CURVE_TO, CLOSE = 1, 3, 79  # codes of matplotlib's paths; these fonts have no others but 2
# Its name until matplotlib 3.10 and since.
NO_HINTING = getattr(ft2font, "LoadFlags", None) or ft2font
NO_HINTING = getattr(NO_HINTING, "NO_HINTING", None) or NO_HINTING.LOAD_NO_HINTING


def outlines_of_letters() -> dict[str, list[np.ndarray]]:
    """Returns for each base letter, such as "e" for "é" and "E", its outlines in all fonts.

    An outline is an array of `(dx, dy, pen lifted)`, y downward, whose strokes are closed
    contours. Curves become straight lines between their ends and middles. Letters that look alike
    to the last point, such as the Latin and the Greek A, are there once.
    """
    letters, seen = {}, set()
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    for file in sorted(folder.glob("*.ttf")):
        if not file.name.startswith(FONTS) or "Display" in file.name:
            continue
        font = ft2font.FT2Font(str(file))
        font.set_size(EM, 72)
        for code in sorted(font.get_charmap()):
            letter = chr(code)
            if code > LAST_LETTER or not unicodedata.category(letter).startswith("L"):
                continue
            font.load_char(code, flags=NO_HINTING)
            outline = _outline(*font.get_path())
            if outline is not None and outline.tobytes() not in seen:
                seen.add(outline.tobytes())
                base = unicodedata.normalize("NFKD", letter)[0].lower()
                letters.setdefault(base, []).append(outline)
    return letters


def _outline(vertices, codes):
    points, ends = [], []
    starts = [*np.flatnonzero(codes == MOVE_TO), len(codes)]
    for start, end in zip(starts, starts[1:], strict=False):
        contour = vertices[start:end].copy()
        # The points between the ends of a curve: its control point comes before its end.
        middles = np.flatnonzero(codes[start:end] == CURVE_TO)[::2]
        before, control, after = (contour[middles + n] for n in (-1, 0, 1))
        contour[middles] = before / 4 + control / 2 + after / 4
        contour[codes[start:end] == CLOSE] = contour[0]
        contour = np.round(contour).astype("int16")
        contour = contour[[True, *np.any(contour[1:] != contour[:-1], axis=1)]]
        if len(contour) > 1:
            points.append(contour)
            ends.append(np.arange(1, len(contour) + 1) == len(contour))
    if not points:
        return None
    points = np.concatenate(points) * np.array([1, -1], "int16")
    offsets = np.diff(points, axis=0, prepend=points[:1])
    return np.column_stack([offsets, np.concatenate(ends)]).astype("int16")
