import json

import keras
import numpy as np
import pytest

from common import training


def small_model(optimizer="adam", loss_weights=None):
    """Dropout, a carried state, an optimizer with momentum: each has something to resume."""
    keras.utils.set_random_seed(3)
    x = keras.Input((4, 3), batch_size=8)
    h = keras.layers.SimpleRNN(5, stateful=True, return_sequences=True)(x)
    model = keras.Model(x, keras.layers.Dense(1)(keras.layers.Dropout(0.3)(h)))
    model.compile(optimizer, "mse", loss_weights=loss_weights, jit_compile=False)
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
        for stop in (4, 6):
            folder = tmp_path / str(stop)
            folder.mkdir()
            with pytest.raises(KeyboardInterrupt):
                fit(folder, stop=stop)
            resumed_model, resumed = fit(folder, resume=True)
            assert without_times(resumed.history) == without_times(whole.history)
            assert resumed.seconds > resumed.history[0]["seconds"] > 0
            for one, other in zip(model.variables, resumed_model.variables, strict=True):
                np.testing.assert_array_equal(one, other)

    def test_steps_that_overflow_count(self, tmp_path):
        """A loss scale that is too large makes the optimizer pass over the first steps."""

        def model():
            adam = keras.optimizers.Adam()
            optimizer = keras.optimizers.LossScaleOptimizer(adam, initial_scale=2.0**127)
            return small_model(optimizer, loss_weights=1e3)

        (tmp_path / "killed").mkdir()
        one, whole = fit(tmp_path, model=model())
        assert int(one.optimizer.iterations) < whole.step == 3 * len(whole.history)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "killed", stop=2, model=model())
        other, resumed = fit(tmp_path / "killed", resume=True, model=model())
        assert without_times(resumed.history) == without_times(whole.history)
        for a, b in zip(one.variables, other.variables, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_the_step_is_traced_once(self, tmp_path):
        traces = []

        class Counted(keras.Model):
            def train_step(self, data):
                traces.append(data)
                return super().train_step(data)

        inputs = keras.Input((3,))
        for resume in (False, True):
            model = Counted(inputs, keras.layers.Dense(1)(inputs))
            model.compile("adam", "mse", jit_compile=False)
            checkpoint = training.ExactCheckpoint(tmp_path, {}, [], resume)
            x, y = np.ones((8, 3)), np.ones((8, 1))
            model.fit(x, y, batch_size=4, epochs=2 + resume, verbose=0, callbacks=[checkpoint],
                      initial_epoch=checkpoint.epoch)  # fmt: skip
            assert len(traces) == 1 + resume

    def test_last_step(self, tmp_path):
        model = small_model()
        checkpoint = training.ExactCheckpoint(tmp_path, {}, [], False)
        callbacks = [training.LastStep(checkpoint, 7), checkpoint]
        model.fit(batches(0), steps_per_epoch=3, epochs=9, verbose=0, callbacks=callbacks)
        assert [record["step"] for record in checkpoint.history] == [3, 6, 7]

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


def test_best_model_is_the_one_of_the_lowest_metric(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    best = training.BestModel(model, tmp_path / "best.keras", "val_error")
    for weight, error in ((1.0, 5.0), (2.0, 4.0), (3.0, 4.0), (4.0, float("nan")), (5.0, 4.5)):
        model.set_weights([np.array([[weight]])])
        best.on_epoch_end(0, {"val_error": error})
    assert keras.models.load_model(best.path).get_weights()[0] == 2
    assert best.best == 4


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


@pytest.mark.parametrize("output", [["--output", "/home/me/a b"], ["--output=/home/me/a b"]])
def test_the_card_leaves_out_where_its_run_was_written(monkeypatch, output):
    command = ["/home/me/mnist.py", "--seeds", "0", *output, "--schedule", "x y"]
    monkeypatch.setattr(training.sys, "argv", command)
    card = training.card_of({"error": 1.5, "settings": {}, "history": []}, "error")
    assert card["command"] == "python examples/mnist.py --seeds 0 --schedule 'x y'"
    assert card["error"] == 1.5
