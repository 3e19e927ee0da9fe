"""Two devices, and two processes, train every model to the weights of one device."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from backends import BACKEND, only

MODELS = "hyper_cnn", "hyper_resnet", "hyper_lstm"
# The same time loop, once for each cell
MORE_MODELS = "hyper_gru", "hyper_simple_rnn", "layer_norm_lstm", "lstm"

pytestmark = pytest.mark.skipif(BACKEND == "torch", reason="Keras has no distribution there")


def start(folder, optimizer, models, *more):
    script = Path(__file__).with_name("on_devices.py")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    return subprocess.Popen(
        [sys.executable, script, folder, optimizer, ",".join(models), *more],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "XLA_FLAGS": flags},
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """`trained(optimizer, models, devices)` is a folder with what `on_devices.py` wrote."""
    folders = {}

    def of(optimizer, models, devices="two"):
        if (key := (optimizer, models, devices)) in folders:
            return folders[key]
        folders[key] = folder = tmp_path_factory.mktemp("devices")
        if devices == "two":
            runs = [start(folder, optimizer, models)]
        else:
            with socket.socket() as free:
                free.bind(("localhost", 0))
                address = f"localhost:{free.getsockname()[1]}"
            runs = [start(folder, optimizer, models, address, "2", n) for n in "01"]
        try:
            assert [run.wait() for run in runs] == [0] * len(runs)
        finally:
            for run in runs:
                run.kill()
        return folder

    return of


def load(folder, model, devices):
    with np.load(folder / f"{model} on {devices}.npz") as file:
        losses, *weights = [file[name] for name in file.files]
    assert len(losses) == 5
    before, after = weights[: len(weights) // 2], weights[len(weights) // 2 :]
    return losses, before, after


def assert_same(one, other, same_weights=True):
    losses, before, after = one
    other_losses, other_before, other_after = other
    np.testing.assert_allclose(other_losses, losses, 1e-3)
    for weight, other_weight in zip(before, other_before, strict=True):
        np.testing.assert_array_equal(other_weight, weight)
    if same_weights:
        for old, weight, other_weight in zip(before, after, other_after, strict=True):
            assert np.abs(weight - old).max() > 1e-5  # far more than the tolerance
            np.testing.assert_allclose(other_weight, weight, 1e-5, 2e-6)


@pytest.mark.parametrize("model", MODELS)
def test_two_devices(model, trained):
    folder = trained("SGD", MODELS)
    assert_same(*(load(folder, model, devices) for devices in ("one", "two")))


@pytest.mark.slow
@pytest.mark.parametrize("model", MORE_MODELS)
def test_two_devices_with_other_cells(model, trained):
    folder = trained("SGD", MORE_MODELS)
    assert_same(*(load(folder, model, devices) for devices in ("one", "two")))


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS + MORE_MODELS)
def test_two_devices_with_adam(model, trained):
    folder = trained("Adam", MODELS + MORE_MODELS)
    assert_same(*(load(folder, model, devices) for devices in ("one", "two")), same_weights=False)


@only("jax", "on TensorFlow Keras' `fit` has no strategy for several processes")
@pytest.mark.parametrize("model", MODELS)
def test_two_processes_of_two_devices(model, trained):
    one = load(trained("SGD", MODELS), model, "one")
    folder = trained("SGD", MODELS, "processes")
    for process in (0, 1):
        assert_same(one, load(folder, model, f"process {process}"))
