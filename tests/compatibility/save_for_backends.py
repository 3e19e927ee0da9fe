"""Writes tests/data/backends, whose ORIGIN.md says what it is."""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops

TESTS = Path(__file__).parent.parent
sys.path.append(str(TESTS))

from rows import ROWS  # noqa: E402

keras.utils.set_random_seed(0)
models = [row.model() for row in ROWS]
together = keras.Model([model.input for model in models], [model.output for model in models])
arrays = {}
for row, model in zip(ROWS, models, strict=True):
    arrays[f"{row.name} x"] = row.x()
    arrays[f"{row.name} y"] = ops.convert_to_numpy(model(row.x()))
folder = TESTS / "data" / "backends"
together.save(folder / "rows.keras")
np.savez_compressed(folder / "outputs.npz", **arrays)
