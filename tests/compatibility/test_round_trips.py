"""Saving and loading: in this process, and in one that knows nothing but the files."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from backends import QUICK
from keras import ops
from random_weights import randomize
from rows import ROWS, row_of, rows


def weights_of(model):
    return [ops.convert_to_numpy(weight) for weight in model.weights]


def assert_equal(found, expected, tolerance=1e-6):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, tolerance, tolerance)


@pytest.fixture(scope="module")
def fresh(request, tmp_path_factory):
    """Folders, by the names of the rows, with what a fresh process found in their models' files."""
    trained = {  # which takes long: those for which the test below runs this time
        item.callspec.params["row"].name
        for item in request.session.items
        if getattr(item, "function", None) is test_training_goes_on_as_if_nothing_had_been
    }
    base = tmp_path_factory.mktemp("rows")
    folders = {row.name: base / str(n) for n, row in enumerate(ROWS)}
    for row in ROWS:
        folder, model, x = folders[row.name], row.model(), row.x()
        folder.mkdir()
        y = np.random.default_rng(1).standard_normal((len(x), *model.output_shape[1:]))
        np.savez(folder / "data.npz", x=x, y=y)
        if row.name in trained:
            model.compile("adam", "mse", **QUICK)
            model.train_on_batch(x, y)
        model.save(folder / "model.keras")
        model.save_weights(folder / "model.weights.h5")
        (folder / "model.json").write_text(model.to_json())
        layer = row.layer()
        (folder / "expected.json").write_text(json.dumps(layer.get_config()))
        pickled = pickle.dumps(keras.saving.serialize_keras_object(layer))
        (folder / "pickled").write_bytes(pickled)
        weights = {str(n): weight for n, weight in enumerate(weights_of(model))}
        np.savez(folder / "expected.npz", output=ops.convert_to_numpy(model(x)), **weights)
        if row.name in trained:
            model.train_on_batch(x, y)
            weights = {str(n): weight for n, weight in enumerate(weights_of(model))}
            np.savez(folder / "continued.npz", **weights)
    subprocess.run(
        [sys.executable, Path(__file__).with_name("fresh_process.py"), base],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    return folders


def files(folder, *names):
    return [dict(np.load(folder / f"{name}.npz")) for name in names]


@rows()
def test_files_in_a_fresh_process(row, fresh):
    expected, keras_file, h5_file = files(fresh[row.name], "expected", "keras", "h5")
    assert keras_file.keys() == expected.keys()
    assert_equal(keras_file.values(), expected.values())
    del expected["output"]
    assert h5_file.keys() == expected.keys()
    assert_equal(h5_file.values(), expected.values())


@rows()
def test_configs_in_a_fresh_process(row, fresh):
    folder = fresh[row.name]
    assert (folder / "config.json").read_text() == (folder / "expected.json").read_text()
    assert int((folder / "count").read_text()) == row.weights + row.parted


@rows(quick=("HyperLSTM", "two HyperDense of one generator"))
def test_training_goes_on_as_if_nothing_had_been(row, fresh):
    """With the optimizer's state."""
    start, expected, found = files(fresh[row.name], "expected", "continued", "trained")
    assert_equal(found.values(), expected.values())
    assert any(np.abs(start[n] - weight).max() > 1e-4 for n, weight in expected.items())


@rows()
def test_copies(row):
    """clone_model and from_config, which part what layers share (`row.parted`)."""
    model, x = row.model(), row.x()
    assert model.count_params() == row.weights
    for copy in (
        keras.models.clone_model(model),
        keras.Model.from_config(model.get_config()),
    ):
        assert copy.count_params() == row.weights + row.parted
        assert not any(one is other for one in copy.weights for other in model.weights)
    if not row.parted:
        copy.set_weights(model.get_weights())
        assert_equal([ops.convert_to_numpy(copy(x))], [ops.convert_to_numpy(model(x))])


@rows()
def test_config_of_the_layer(row):
    one = row.make()
    config = one.get_config()
    again = type(one).from_config(json.loads(json.dumps(config)))
    assert json.dumps(again.get_config()) == json.dumps(config)  # which has tuples as lists


def test_a_generator_that_files_keep_shared_can_be_loaded_from_weights_alone(tmp_path):
    model = row_of("two HyperDense of one generator").model()
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    weights = weights_of(model)
    randomize(model, seed=5)
    model.load_weights(path)
    assert_equal(weights_of(model), weights)
