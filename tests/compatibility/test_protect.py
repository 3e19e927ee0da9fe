"""Holding a HyperNetwork to the weights that it wrote for earlier tasks."""

import keras
import numpy as np
import pytest
from backends import QUICK
from keras import layers, ops
from random_weights import randomize

from keras_hypernets import HyperNetwork

CONDITIONS = np.random.default_rng(1).standard_normal((3, 2)).astype("float32")
OPTIONS = (
    {"base": None},
    {"base": None, "chunk_size": 7},
    {},
    {"base": "frozen"},
    {"generation": "low_rank", "rank": 1},
    {"generation": "scaling"},
)


def make(**options):
    """A HyperNetwork of random weights, and a model that reads its condition."""
    target = keras.Sequential([keras.Input((3,)), layers.Dense(4, "tanh"), layers.Dense(2)])
    hyper = HyperNetwork(target, hidden_units=(5,), **options)
    x, condition = keras.Input((3,)), keras.Input((2,))
    model = keras.Model([x, condition], hyper(x, condition))
    randomize(model)
    return hyper, model


def written(hyper):
    """The weights for each condition, as one vector each."""
    rows = []
    for condition in CONDITIONS:
        weights = hyper.generated_weights(condition[None]).values()
        weights = [ops.convert_to_numpy(w) for w in weights]
        rows.append(np.concatenate([w.ravel() for w in weights]))
    return np.stack(rows).astype("float64")


def loss_added(model):
    """What a training step reports beside an error of zero."""
    x = np.zeros((2, 3), "float32")
    condition = np.tile(CONDITIONS[:1], (2, 1))
    y = model.predict([x, condition], verbose=0)
    model.compile(keras.optimizers.SGD(0.0), "mse", **QUICK)
    return model.fit([x, condition], y, verbose=0).history["loss"][0]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_loss_is_the_distance_from_what_was_written(options):
    hyper, model = make(**options)
    before = written(hyper)
    hyper.protect(CONDITIONS, 0.7)
    assert abs(loss_added(model)) < 1e-6
    randomize(model, seed=1)
    distances = np.sum((written(hyper) - before) ** 2, axis=1)
    np.testing.assert_allclose(loss_added(model), 0.7 * np.mean(distances), 1e-4)
    model.compile(loss="mse", **QUICK)
    x = [np.zeros((2, 3)), np.tile(CONDITIONS[:1], (2, 1))]
    assert model.evaluate(x, model.predict(x, verbose=0), verbose=0) < 1e-6  # not in evaluation


def test_some_tasks_stand_for_all():
    hyper, model = make(base=None)
    before = written(hyper)
    hyper.protect(CONDITIONS, 1.0, tasks_per_step=1)
    randomize(model, seed=1)
    distances = np.sum((written(hyper) - before) ** 2, axis=1)
    drawn = [loss_added(model) for _ in range(8)]
    nearest = np.argmin(np.abs(np.subtract.outer(drawn, distances)), axis=1)
    np.testing.assert_allclose(drawn, distances[nearest], 1e-4)
    assert len(set(nearest)) > 1


def test_the_last_protection_counts():
    hyper, model = make()
    hyper.protect(CONDITIONS, 5.0)
    randomize(model, seed=1)
    hyper.protect(CONDITIONS[:1], 2.0)
    assert abs(loss_added(model)) < 1e-6


def test_through_files(tmp_path):
    hyper, model = make(base=None)
    hyper.protect(CONDITIONS, 0.5, tasks_per_step=3)
    randomize(model, seed=1)
    expected = loss_added(model)
    assert expected > 0.1
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loss_added(again), expected, 1e-5)
    _, other = make(base=None)
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_allclose(loss_added(other), expected, 1e-5)


def test_a_structure_as_the_condition(tmp_path):
    task, level = keras.Input((), dtype="int32"), keras.Input((1,))
    embedded = layers.Embedding(4, 3)(task)
    generator = keras.Model({"task": task, "level": level}, layers.Concatenate()([embedded, level]))
    target = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    hyper = HyperNetwork(target, generator=generator)
    condition = {"task": np.arange(3), "level": np.ones((3, 1), "float32")}
    x, inputs = keras.Input((3,)), {"task": task, "level": level}
    model = keras.Model([x, inputs], hyper(x, inputs))
    hyper.protect(condition, 1.0)
    model.save_weights(tmp_path / "model.weights.h5")
    hyper.protect({name: rows[:1] for name, rows in condition.items()}, 0.0)
    model.load_weights(tmp_path / "model.weights.h5")
    assert hyper.protected.strength == 1.0
    found = hyper.protected.conditions
    assert {name: tuple(rows.shape) for name, rows in found.items()} == {
        "task": (3,),
        "level": (3, 1),
    }


def test_bad_arguments():
    hyper, _ = make()
    for arguments, message in (
        ((np.ones((3, 5), "float32"), 1.0), r"`conditions` must have the shape \(rows, 2\)"),
        ((np.ones((3, 2), "int32"), 1.0), "`conditions` must be floating"),
        ((CONDITIONS, -1), "`strength` must be a number of at least 0. Received: strength=-1"),
        ((CONDITIONS, float("nan")), "`strength` must be"),
        ((CONDITIONS, 1.0, 0), "`tasks_per_step` must be a positive integer"),
        ((CONDITIONS[:0], 1.0), "`conditions` must have at least one row"),
    ):
        with pytest.raises(ValueError, match=message):
            hyper.protect(*arguments)
    assert hyper.protected is None
    target = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="`protect` needs a HyperNetwork.*not built"):
        HyperNetwork(target).protect(CONDITIONS, 1.0)
    learned = HyperNetwork(target, embedding_dim=3)
    learned(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="`protect` needs a HyperNetwork.*without one"):
        learned.protect(CONDITIONS, 1.0)
