import json
import sys

import command_line
import keras
import numpy as np
import pytest
import tensorflow as tf
import training


def small_model():
    """Dropout, a carried state, an optimizer with momentum: each has something to resume."""
    keras.utils.set_random_seed(3)
    x = keras.Input((4, 3), batch_size=8)
    h = keras.layers.SimpleRNN(5, stateful=True, return_sequences=True)(x)
    model = keras.Model(x, keras.layers.Dense(1)(keras.layers.Dropout(0.3)(h)))
    model.compile("adam", "mse", jit_compile=False)
    return model


def batches(first):
    while True:
        rng = np.random.default_rng(first)
        yield rng.normal(size=(8, 4, 3)), rng.normal(size=(8, 4, 1))
        first += 1


class Validation(keras.callbacks.Callback):
    """Gets worse from the third epoch on."""

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = abs(2.0 - epoch)


class Stop(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def fit(folder, resume=False, stop=None, settings=None, model=None):
    model = model or small_model()
    plateau = keras.callbacks.ReduceLROnPlateau("val_loss", 0.5, patience=2, cooldown=1)
    callbacks = [plateau, keras.callbacks.EarlyStopping("val_loss", patience=5)]
    checkpoint = training.ExactCheckpoint(folder, settings or {}, callbacks, resume)
    model.fit(
        batches(checkpoint.step),
        shuffle=False,
        steps_per_epoch=3,
        initial_epoch=checkpoint.epoch,
        epochs=20,
        verbose=0,
        callbacks=[Validation(), *callbacks, checkpoint, *([Stop(stop)] if stop else [])],
    )
    return model, checkpoint


def without_times(history):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in history]


class TestExactCheckpoint:
    def test_an_interrupted_run_continues_as_if_it_had_not_been(self, tmp_path):
        model, whole = fit(tmp_path)
        assert len(whole.history) == 8  # stopped early
        assert whole.history[5]["learning_rate"] < whole.history[0]["learning_rate"]
        for stop in (1, 4, 6):
            folder = tmp_path / str(stop)
            folder.mkdir()
            with pytest.raises(KeyboardInterrupt):
                fit(folder, stop=stop)
            resumed_model, resumed = fit(folder, resume=True)
            assert without_times(resumed.history) == without_times(whole.history)
            assert resumed.seconds > resumed.history[0]["seconds"] > 0
            for one, other in zip(model.variables, resumed_model.variables, strict=True):
                np.testing.assert_array_equal(one, other)

    @pytest.fixture
    def saved(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path, stop=2, settings={"units": 5, "rate": 0.1})
        return tmp_path

    def test_without_resume_it_begins_again(self, saved):
        assert training.ExactCheckpoint(saved, {}, [], resume=False).step == 0

    def test_other_settings_are_named(self, saved):
        with pytest.raises(
            ValueError, match=r"Received: rate=0.2 \(was 0.1\), seed=1 \(was None\)"
        ):
            fit(saved, resume=True, settings={"units": 5, "rate": 0.2, "seed": 1})

    def test_another_model_is_refused(self, saved):
        model = keras.Sequential([keras.Input((4, 3)), keras.layers.Dense(1)])
        model.compile("adam", "mse")
        with pytest.raises(ValueError, match="a checkpoint of this model"):
            fit(saved, resume=True, settings={"units": 5, "rate": 0.1}, model=model)

    def test_a_damaged_file_is_refused(self, saved):
        path = saved / training.CHECKPOINT
        for content in (b"", b"PK", path.read_bytes()[:-200]):
            path.write_bytes(content)
            with pytest.raises(ValueError, match="`--resume` needs a checkpoint"):
                training.ExactCheckpoint(saved, {}, [], resume=True)


class TestFiles:
    def test_a_failed_write_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "results.json"
        training.save_json(path, {"ä": 1})
        with pytest.raises(TypeError):
            training.save_json(path, {"ä": {1, 2}})
        with pytest.raises(RuntimeError), training.replacing(path) as unfinished:
            unfinished.write_text("half")
            assert json.loads(path.read_text("utf-8")) == {"ä": 1}
            raise RuntimeError
        assert json.loads(path.read_text("utf-8")) == {"ä": 1}
        assert list(tmp_path.iterdir()) == [path]

    def test_prepare_output(self, tmp_path):
        folder = tmp_path / "a" / "b"
        training.prepare_output(folder, resume=False)
        assert list(folder.iterdir()) == []
        (folder / training.CHECKPOINT).touch()
        (folder / f"{training.UNFINISHED}best.keras").touch()
        with pytest.raises(ValueError, match="holds a run"):
            training.prepare_output(folder, resume=False)
        training.prepare_output(folder, resume=True)
        assert [path.name for path in folder.iterdir()] == [training.CHECKPOINT]

    def test_an_output_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").touch()
        for folder in (tmp_path / "file", tmp_path / "file" / "folder"):
            with pytest.raises(ValueError, match="`--output` must be a folder that can be written"):
                training.prepare_output(folder, resume=False)

    def test_learning_curves(self, tmp_path):
        history = [
            {"step": 10, "loss": 2.0, "val_loss": 2.5},
            {"step": 20, "loss": 1, "val_loss": 2},
        ]
        path = tmp_path / "curve.png"
        histories = {"one": history, "other": history[:1]}
        training.save_learning_curves(path, histories, "loss", "loss (nats)")
        assert path.read_bytes().startswith(b"\x89PNG")
        assert list(tmp_path.iterdir()) == [path]


def test_milliseconds_per_step_leaves_compilation_out():
    history = [{"step": 10, "seconds": 9.0}, {"step": 20, "seconds": 0.5}]
    assert training.milliseconds_per_step(history) == pytest.approx(50)
    assert training.milliseconds_per_step(history[:1]) == pytest.approx(900)
    history += [{"step": 25, "seconds": 0.35}]
    assert training.milliseconds_per_step(history) == pytest.approx(60)


def test_environment_is_json():
    record = training.environment()
    assert json.loads(json.dumps(record)) == record
    assert record["versions"]["keras"] == keras.__version__
    assert record["machine"]["cpu"]


class TestCommandLine:
    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (ValueError("bad\n  value"), "bad value"),
            (OSError(28, "No space", "x"), "[Errno 28] No space: 'x'"),
            (tf.errors.ResourceExhaustedError(None, None, "disk full"), "disk full"),
            (
                ImportError("no x"),
                "no x (pip install '.[examples]' installs what the examples need)",
            ),
        ],
    )
    def test_errors_of_users_are_one_line(self, error, expected, capsys, monkeypatch):
        def main():
            raise error

        monkeypatch.setattr(sys, "argv", ["/a/b.py", "train"])
        with pytest.raises(SystemExit) as caught:
            command_line.run(main)
        assert caught.value.code == 2
        assert capsys.readouterr() == ("", f"b.py: error: {expected}\n")
        monkeypatch.setattr(sys, "argv", ["b.py", "train", "--traceback"])
        with pytest.raises(type(error)):
            command_line.run(main)

    def test_other_errors_are_bugs(self):
        with pytest.raises(ZeroDivisionError):
            command_line.run(lambda: 1 / 0)

    @pytest.mark.parametrize(
        ("kind", "good", "bad"),
        [
            (command_line.positive_integer, "1", ["0", "-1", "1.5", "x", ""]),
            (command_line.count, "0", ["-1", "0.5"]),
            (command_line.seed, "0", ["-1", "2147483648", "1e3"]),
            (command_line.rate, "0", ["1", "-0.1", "nan", "x"]),
            (command_line.factor, "1", ["0", "1.1", "nan"]),
            (command_line.positive, "0.1", ["0", "inf", "nan", "-1"]),
            (command_line.at_least_zero, "0", ["-1", "inf", "nan"]),
        ],
    )
    def test_types(self, kind, good, bad, capsys):
        parser = command_line.ArgumentParser(prog="p")
        parser.option("--size", kind, None, "of it")
        assert parser.parse_args(["--size", good]).size == float(good)
        for text in bad:
            with pytest.raises(SystemExit) as caught:
                parser.parse_args([f"--size={text}"])
            assert caught.value.code == 2
            error = capsys.readouterr().err
            assert error.count("\n") == 1
            assert error.startswith("p: error: argument --size: must be a")
            assert f"Received: {text} (" in error
