"""Loads what test_round_trips.py has written, in a process of its own, and writes what it found."""

import json
import pickle
import sys
from pathlib import Path

import keras
import numpy as np
import rows  # noqa: F401  registers the package's layers, and a cell of one's own
from keras import ops


def numbered(model):
    return {str(n): ops.convert_to_numpy(weight) for n, weight in enumerate(model.weights)}


for folder in Path(sys.argv[1]).iterdir():
    layer = keras.saving.deserialize_keras_object(pickle.loads((folder / "pickled").read_bytes()))
    (folder / "config.json").write_text(json.dumps(layer.get_config()))

    model = keras.models.load_model(folder / "model.keras")
    with np.load(folder / "data.npz") as data:
        x, y = data["x"], data["y"]
    np.savez(folder / "keras.npz", output=ops.convert_to_numpy(model(x)), **numbered(model))

    again = keras.models.model_from_json((folder / "model.json").read_text())
    (folder / "count").write_text(str(again.count_params()))
    if again.count_params() != model.count_params():  # of layers that JSON has parted
        again = keras.models.load_model(folder / "model.keras")
        again.set_weights([np.zeros_like(weight) for weight in again.get_weights()])
    again.load_weights(folder / "model.weights.h5")
    np.savez(folder / "h5.npz", **numbered(again))

    if model.compiled:
        model.train_on_batch(x, y)
        np.savez(folder / "trained.npz", **numbered(model))
