"""A model that TensorFlow has saved loads on every backend; what is TensorFlow's own says so."""

from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest
from backends import BACKEND
from keras import ops
from rows import rows

from keras_hypernets import HyperLSTMCell, LayerNormLSTMCell, converters
from keras_hypernets.export import export_saved_model

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture(scope="module")
def outputs():
    """Those of all rows, `{row: (found here, found by TensorFlow)}`: ORIGIN.md says how."""
    model = keras.models.load_model(DATA / "backends" / "rows.keras")
    with np.load(DATA / "backends" / "outputs.npz") as data:
        names = [name.removesuffix(" x") for name in data if name.endswith(" x")]
        found = model([data[f"{name} x"] for name in names])
        return {
            name: (ops.convert_to_numpy(y), data[f"{name} y"])
            for name, y in zip(names, found, strict=True)
        }


@rows()
def test_outputs_of_a_model_of_tensorflow(row, outputs):
    np.testing.assert_allclose(*outputs[row.name], 1e-5, 1e-5)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="there it works: see test_export.py")
def test_saved_models_are_tensorflows_own(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(RuntimeError, match=f"needs its backend. Received: backend '{BACKEND}'"):
        export_saved_model(model, tmp_path / "model")


def test_checkpoints_load_on_every_backend():
    pytest.importorskip("tensorflow", reason="TensorFlow reads its checkpoints")
    folder = DATA / "supercell" / "lstm_layer_norm"
    cell = LayerNormLSTMCell(8)
    cell.build((None, 5))
    converters.load_supercell_checkpoint(cell, folder / "model.ckpt", "rnn/LSTMCell")
    layer = keras.layers.RNN(cell, return_sequences=True)
    with np.load(folder / "expected.npz") as expected:
        states = [ops.convert_to_tensor(expected[name]) for name in ("h0", "c0")]
        found = layer(ops.convert_to_tensor(expected["x"]), initial_state=states)
        np.testing.assert_allclose(ops.convert_to_numpy(found), expected["y"], 1e-5, 1e-5)


def test_checkpoints_need_tensorflow_to_be_installed():
    cell = HyperLSTMCell(4, 3, 2)
    cell.build((None, 5))
    with mock.patch.dict("sys.modules", tensorflow=None):
        with pytest.raises(ImportError, match="`load_supercell_checkpoint` needs TensorFlow"):
            converters.load_supercell_checkpoint(cell, "model.ckpt", "rnn")
