"""Two devices, and two processes, train every model to the weights of one device."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from backends import BACKEND, only

from keras_hypernets.models.char_lm import generate

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


def finish(runs):
    try:
        assert [run.wait() for run in runs] == [0] * len(runs)
    finally:
        for run in runs:
            run.kill()


def free_address():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """`trained(optimizer, models, devices)` is a folder with what `on_devices.py` wrote."""
    folders = {}

    def of(optimizer, models, devices="two"):
        if (key := (optimizer, models, devices)) in folders:
            return folders[key]
        folders[key] = folder = tmp_path_factory.mktemp("devices")
        if devices == "two":
            finish([start(folder, optimizer, models)])
        else:
            address = free_address()
            finish([start(folder, optimizer, models, address, "2", n) for n in "01"])
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
            difference = np.linalg.norm(other_weight - weight)
            # A bias that starts at zero is as small as its change: it has the second bound.
            assert difference <= 1e-5 * max(np.linalg.norm(weight), 1.0)
            assert difference <= 1e-2 * np.linalg.norm(weight - old)


def test_two_devices(trained):
    folder = trained("SGD", MODELS)
    for model in MODELS:
        assert_same(*(load(folder, model, devices) for devices in ("one", "two")))


@pytest.mark.slow
def test_two_devices_with_other_cells(trained):
    folder = trained("SGD", MORE_MODELS)
    for model in MORE_MODELS:
        assert_same(*(load(folder, model, devices) for devices in ("one", "two")))


@pytest.mark.slow
def test_two_devices_with_adam(trained):
    folder = trained("Adam", MODELS + MORE_MODELS)
    for model in MODELS + MORE_MODELS:
        found = (load(folder, model, devices) for devices in ("one", "two"))
        assert_same(*found, same_weights=False)


@only("jax", "on TensorFlow Keras' `fit` has no strategy for several processes")
def test_two_processes_of_two_devices(trained):
    alone, together = trained("SGD", MODELS), trained("SGD", MODELS, "processes")
    for model in MODELS:
        one = load(alone, model, "one")
        for process in (0, 1):
            assert_same(one, load(together, model, f"process {process}"))


@only("jax", "the example is for JAX")
def test_example_in_two_processes(tmp_path):
    text, output = tmp_path / "text.txt", tmp_path / "runs" / "model.keras"
    text.write_text("to be or not to be, " * 200)
    command = f"--processes 2 --data {text} --output {output} --units 8 --batch-size 4"
    command += f" --sequence-length 10 --steps-per-epoch 3 --epochs 2 --address {free_address()}"
    script = Path(__file__).parents[2] / "examples" / "multi_process.py"
    finish(
        [
            subprocess.Popen([sys.executable, script, *command.split(), "--process", process])
            for process in "01"
        ]
    )
    model = keras.models.load_model(output)
    assert generate(model, "to be", 3, temperature=0).startswith("to be")
