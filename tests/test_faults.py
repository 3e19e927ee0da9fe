"""Trainings that are killed, run out of disk, read damaged files or meet numbers that are none."""

import contextlib
import errno
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import char_lm
import keras_hypernets  # noqa: F401  whose layers the saved models have
import mnist
from common import outputs, training
from common.images import training as image_training
from common.texts import datasets

TRAININGS = {
    "char_lm": (
        char_lm,
        """train --units 6 --hyper-units 4 --embedding-dim 2 --sequence-length 10 --batch-size 4
        --steps-per-epoch 8 --dropout 0.2 --recurrent-dropout 0.2 --learning-rate 0.02 --length 20
        --seed 7 --no-jit-compile""",
        ".",
    ),
    "mnist": (
        mnist,
        "--dataset digits --networks hyper --patience 0 --batch-size 400 --seeds 7",
        "hyper-7",
    ),
}


def kill_at_a_random_moment(process, checkpoint, rng, start_up):
    """Kills during start-up, or between two checkpoints, maybe while the second is written."""
    written = int(rng.integers(0, 3)) if start_up else 1
    if not written:
        wait_for_checkpoint(process, checkpoint, rng.uniform(0, start_up))
    else:
        for _ in range(written):
            wait_for_checkpoint(process, checkpoint)
        began = time.perf_counter()
        wait_for_checkpoint(process, checkpoint)
        time.sleep(rng.uniform(0, time.perf_counter() - began))
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it was done before it could be killed"


def wait_for_checkpoint(process, checkpoint, seconds=math.inf):
    """Waits until the next checkpoint is written, the process has ended or so long."""
    before, end = mtime(checkpoint), time.perf_counter() + seconds
    while mtime(checkpoint) == before and process.poll() is None and time.perf_counter() < end:
        time.sleep(0.002)


def mtime(path):
    return path.stat().st_mtime_ns if path.exists() else None


def check_kills(name, kills, folder):
    script, options, run = TRAININGS[name]
    arguments = [*options.split(), "--epochs", str(5 * kills + 5)]
    if name == "char_lm":
        words = np.random.default_rng(0).choice(["abba ", "cd.\n", "eé "], 1000)
        (folder / "text.txt").write_text("".join(words)[:3000], "utf-8")
        arguments += ["--data", str(folder / "text.txt")]
    whole, killed = folder / "whole", folder / "killed"
    rng, start_up = np.random.default_rng(kills), 0.0
    for number in range(kills):
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, script.__file__, *arguments, "--output", killed, "--resume"],
            stdout=subprocess.DEVNULL,
        )
        kill_at_a_random_moment(process, killed / run / outputs.CHECKPOINT, rng, start_up)
        start_up = start_up or time.perf_counter() - began
        with np.load(killed / run / outputs.CHECKPOINT) as file:
            print(f"{name}, kill {number + 1}: {len(file.files)} arrays are whole")
    script.main([*arguments, "--output", str(whole)])
    script.main([*arguments, "--output", str(killed), "--resume"])
    with (
        np.load(whole / run / outputs.CHECKPOINT) as one,
        np.load(killed / run / outputs.CHECKPOINT) as other,
    ):
        assert one.files == other.files
        for array in set(one.files) - {"record"}:
            np.testing.assert_array_equal(one[array], other[array], array)
    models = [keras.models.load_model(path / run / "best.keras") for path in (whole, killed)]
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(a, b)
    histories = [outputs.read_results(path / run)["history"] for path in (whole, killed)]
    for a, b in zip(*histories, strict=True):
        assert a | {"seconds": 0} == b | {"seconds": 0}


@pytest.mark.slow  # `test_char_lm` kills a training once
@pytest.mark.parametrize("name", TRAININGS)
def test_twenty_kills(name, tmp_path):
    check_kills(name, 20, tmp_path)


# A small run, in eager mode: nothing is traced


def good_batch(step):
    rng = np.random.default_rng(step)
    return rng.normal(size=(4, 2)).astype("float32"), np.ones((4, 1), "float32")


class Error(keras.callbacks.Callback):
    """Every epoch is better than the one before."""

    def on_epoch_end(self, epoch, logs=None):
        logs["error"] = -float(epoch)


def small_run(folder, epochs, batch=good_batch, resume=False, settings=None, callbacks=()):
    """Epochs of three steps, each with a checkpoint and a new best model."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", "mse", run_eagerly=True)
    best = training.BestModel(model, folder / "best.keras", "error")
    checkpoint = training.ExactCheckpoint(folder, settings or {}, [best], resume)
    model.fit(
        (batch(step) for step in itertools.count(checkpoint.step)),
        shuffle=False,
        steps_per_epoch=3,
        initial_epoch=checkpoint.epoch,
        epochs=epochs,
        verbose=0,
        callbacks=[*callbacks, Error(), best, checkpoint],
    )
    return checkpoint


class TestDamagedFiles:
    def test_checkpoints(self, tmp_path):
        small_run(tmp_path, 1, settings={"units": 3})
        path = tmp_path / outputs.CHECKPOINT
        whole, rng = path.read_bytes(), np.random.default_rng(0)
        expected = training.ExactCheckpoint(tmp_path, {"units": 3}, [], resume=True)
        refused = 0
        cuts = [whole[:size] for size in range(0, len(whole), len(whole) // 25)]
        flipped = np.repeat(np.frombuffer(whole, "uint8")[None], 200, axis=0)
        flipped[np.arange(200), rng.integers(0, len(whole), 200)] ^= rng.choice(
            [1, 8, 128], 200
        ).astype("uint8")
        for damaged in [*cuts, *(one.tobytes() for one in flipped)]:
            path.write_bytes(damaged)
            try:
                found = training.ExactCheckpoint(tmp_path, {"units": 3}, [], resume=True)
            except ValueError as error:
                assert str(path) in str(error) and "Without this file" in str(error)
                refused += 1
            else:  # a byte that means nothing, such as a time; or `fit` misses an array
                if len(found._saved) < len(expected._saved):
                    with pytest.raises(ValueError, match="a checkpoint of this model"):
                        small_run(tmp_path, 2, resume=True, settings={"units": 3})
                    continue
                assert found._record == expected._record
                for a, b in zip(found._saved, expected._saved, strict=True):
                    np.testing.assert_array_equal(a, b)
            assert path.read_bytes() == damaged
        assert refused > len(cuts) + 150

    @pytest.mark.parametrize("record", ['{"epoch": 1}', "[]", "{", "null"])
    def test_other_files_of_arrays(self, record, tmp_path):
        path = tmp_path / outputs.CHECKPOINT
        np.savez(path, record=np.array(record))
        with pytest.raises(ValueError, match="`--resume` needs a checkpoint of this script"):
            training.ExactCheckpoint(tmp_path, {}, [], resume=True)

    def test_results(self, tmp_path):
        path = tmp_path / "results.json"
        outputs.save_json(path, {"error": {"test": 0.5}, "seeds": ["ä", 1]})
        whole = path.read_bytes()
        for damaged in (*(whole[:size] for size in range(len(whole) - 2)), b"[]", whole + b"}"):
            path.write_bytes(damaged)
            for read in (outputs.read_results, lambda folder: outputs.prepare_output(folder, True)):
                with pytest.raises(ValueError, match="Without this file they are made") as caught:
                    read(tmp_path)
                assert str(path) in str(caught.value)
            assert path.read_bytes() == damaged

    def test_results_beside_a_model(self, tmp_path, capsys):
        sha256, path = "0" * 64, tmp_path / "results.json"
        for content, warning in (
            (None, ""),
            (json.dumps({"settings": {"sha256": sha256}}), ""),
            ('{"settings": {"sha256": "other"}}', "trained on another text"),
            ('{"settings": {', f"Received: {path}"),
        ):
            if content:
                path.write_text(content)
            outputs.warn_of_other_data(str(tmp_path / "best.keras"), sha256, "another text")
            error = capsys.readouterr().err
            assert warning in error if warning else not error

    def test_best_models(self, tmp_path):
        small_run(tmp_path, 1)
        path = tmp_path / "best.keras"
        whole = path.read_bytes()
        for damaged in (b"", whole[:100], whole[: len(whole) // 2], whole[:-1]):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match="The best model must be as it was written") as e:
                image_training.load(path)
            assert str(path) in str(e.value)

    def test_a_text_that_has_changed_is_no_text_to_resume_with(self, tmp_path):
        text = tmp_path / "text"
        text.write_text("abcdefgh" * 20)
        small_run(tmp_path, 1, settings={"sha256": datasets.load_text(str(text)).sha256})
        text.write_text("abcdefgh" * 19)
        with pytest.raises(ValueError, match="Another sha256 means that the data are not those"):
            small_run(
                tmp_path, 2, resume=True, settings={"sha256": datasets.load_text(str(text)).sha256}
            )

    def test_prepared_data(self, tmp_path, monkeypatch):
        pytest.importorskip("tensorflow_datasets")
        prepared = Path(os.environ.get("TFDS_DATA_DIR", ""), "tiny_shakespeare")
        if not prepared.is_dir():
            pytest.skip("tiny_shakespeare is not prepared in TFDS_DATA_DIR")
        shutil.copytree(prepared, tmp_path / "tiny_shakespeare")
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
        (record,) = tmp_path.rglob("*train.tfrecord*")
        content = bytearray(record.read_bytes())
        content[len(content) // 2] ^= 1
        for damaged in (bytes(content), bytes(content[: len(content) // 2]), b""):
            record.write_bytes(damaged)
            with pytest.raises(ValueError, match="'tiny_shakespeare' needs .* Received: "):
                datasets.load_text("tiny_shakespeare")
            assert record.read_bytes() == damaged


class TestFullDisk:
    """A limit on the size of files stands in for a disk that is full before the file is whole."""

    @contextlib.contextmanager
    def limit(self, size):
        resource = pytest.importorskip("resource")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @pytest.mark.parametrize("file", [outputs.CHECKPOINT, "best.keras"])
    @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
    def test_the_last_checkpoint_stays(self, file, share, tmp_path):
        small_run(tmp_path, 1)
        checkpoint, best = tmp_path / outputs.CHECKPOINT, tmp_path / "best.keras"
        before = checkpoint.read_bytes()
        size = int(share * (tmp_path / file).stat().st_size)
        with pytest.raises(OSError), self.limit(size):
            small_run(tmp_path, 2, resume=True)
        assert checkpoint.read_bytes() == before
        keras.models.load_model(best)
        assert {*tmp_path.iterdir()} == {checkpoint, best}
        assert small_run(tmp_path, 2, resume=True).step == 6

    def test_the_last_results_and_curves_stay(self, tmp_path):
        history = [{"step": 1, "loss": 2.0, "val_loss": 3.0}] * 2

        def write(value):
            outputs.save_json(tmp_path / "results.json", {"value": value * 100})
            outputs.save_learning_curves(tmp_path / "curve.png", {value: [history]}, "loss", value)

        write("a")
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        for size in (0, 50, 1000):
            with pytest.raises(OSError), self.limit(size):
                write("b")
            (tmp_path / "results.json").write_bytes(before["results.json"])
            assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_a_rename_that_fails(self, tmp_path, monkeypatch):
        small_run(tmp_path, 1)
        before = (tmp_path / outputs.CHECKPOINT).read_bytes()

        def replace(source, target):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as context:
            context.setattr(outputs.os, "replace", replace)
            with pytest.raises(OSError, match="No space left"):
                small_run(tmp_path, 2, resume=True)
        assert (tmp_path / outputs.CHECKPOINT).read_bytes() == before
        assert not list(tmp_path.glob(f"{outputs.UNFINISHED}*"))


class TestNumbersThatAreNone:
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("step", [1, 3, 5, 6])
    def test_training_ends_at_the_step(self, value, step, tmp_path):
        def batch(n):
            x, y = good_batch(n)
            return (np.full_like(x, value) if n + 1 == step else x), y

        with pytest.raises(training.Diverged, match=rf"loss is (nan|inf) at step {step}\."):
            small_run(tmp_path, 3, batch)
        if step <= 3:
            assert list(tmp_path.iterdir()) == []
        else:
            assert training.ExactCheckpoint(tmp_path, {}, [], resume=True).step == 3
            weights = keras.models.load_model(tmp_path / "best.keras").get_weights()
            assert all(np.isfinite(weight).all() for weight in weights)

    def test_weights_that_the_last_step_of_an_epoch_spoils(self, tmp_path):
        """Only validation sees them before they are saved."""

        class Validation(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                if epoch == 1:
                    logs["val_loss"] = math.nan

        small_run(tmp_path, 1)
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(training.Diverged, match="val_loss is nan at step 6.*up to step 3"):
            small_run(tmp_path, 3, resume=True, callbacks=[Validation()])
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
