"""The examples of HyperNetwork, small: on few images, for few steps."""

import json

import keras
import numpy as np
import pytest
from keras import ops

import continual
import noise_levels
import weights_from_images
from chunked_cnn import make_model
from common.continual import comparison, training
from common.continual import tasks as continual_tasks
from common.continual.tasks import Task
from common.images import datasets


@pytest.fixture
def few_images(monkeypatch):
    """MNIST cannot be downloaded everywhere: noise takes its place."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (128, 28, 28, 1)).astype("uint8")
    labels = rng.integers(0, 10, 128).astype("int32")
    part = images, labels
    data = datasets.ImageData("mnist", part, part, lambda: part, tuple("0123456789"), "0")
    monkeypatch.setattr(datasets, "load_images", lambda name: data)


def results_in(folder):
    return json.loads((folder / "results.json").read_text())


def test_weights_from_images(few_images, tmp_path, capsys):
    command = ["--epochs", "1", "--output", str(tmp_path)]
    weights_from_images.main(command)
    assert results_in(tmp_path)["seeds"]["0"]["parameters"] == 877_690
    before = (tmp_path / "results.json").read_bytes()
    weights_from_images.main(command)  # has nothing left to do
    assert (tmp_path / "results.json").read_bytes() == before
    assert "877,690 weights" in capsys.readouterr().out
    with pytest.raises(ValueError, match="`--output` holds results with other settings"):
        weights_from_images.main(["--epochs", "2", "--output", str(tmp_path)])


def test_the_chunks_of_the_cnn():
    model = make_model(steps=1)
    assert model.count_params() == 7_052
    assert model.layers[-1].target.count_params() == 77_066


@pytest.mark.slow
def test_noise_levels(few_images, tmp_path, monkeypatch):
    monkeypatch.setattr(noise_levels, "LEVELS", (0.5,))
    monkeypatch.setattr(noise_levels, "TESTED", [0.5, 1.0])
    noise_levels.main(["--epochs", "1", "--output", str(tmp_path)])
    networks = results_in(tmp_path)["seeds"]["0"]
    assert set(networks) == {
        "hyper",
        "hyper, cos_sin",
        "level as input",
        "no condition",
        "level 0.5",
    }
    assert all(len(ratios) == 2 for ratios in networks.values())
    assert (tmp_path / "noise_levels.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_stopped_run_of_tasks_continues(tmp_path, monkeypatch, capsys):
    """Of two tasks."""
    monkeypatch.setattr(continual_tasks, "toy", lambda toy=continual_tasks.toy: toy()[:2])

    def main(folder, methods):
        command = f"toy --steps 50 --output {folder} --methods {methods}"
        continual.main(command.split())
        return results_in(folder / "hyper-0")["scores"]

    whole = main(tmp_path / "whole", "hyper joint")
    assert [len(scores) for scores in whole] == [2, 2]
    assert {path.name for path in (tmp_path / "whole").iterdir()} >= {
        "first_task.png",
        "all_tasks.png",
        "joint-0",
    }
    calls = iter(range(10))

    def score(*arguments, original=training._score):
        if next(calls) == 2:  # the second task is trained, but not written
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(training, "_score", score)
    with pytest.raises(KeyboardInterrupt):
        main(tmp_path / "stopped", "hyper")
    assert len(results_in(tmp_path / "stopped" / "hyper-0")["scores"]) == 1
    assert main(tmp_path / "stopped", "hyper") == whole
    assert "hyper " in capsys.readouterr().out.split("mean of all tasks")[-1]
    with pytest.raises(ValueError, match="`--output` holds a run with other settings"):
        continual.main(f"toy --steps 60 --methods hyper --output {tmp_path / 'stopped'}".split())


def test_the_order_of_methods_is_checked():
    def runs(*means):
        return {str(n): {"metric": "error", "scores": [[mean]]} for n, mean in enumerate(means)}

    kept = {"hyper": runs(0.1, 0.2), "joint": runs(0.15, 0.3), "fine-tune": runs(1.0, 2.0)}
    # Of hyper and joint the seeds overlap.
    comparison.check({"hyper": runs(0.4), "joint": runs(0.3), "fine-tune": runs(0.5)}, kept)
    with pytest.raises(ValueError, match="hyper is not better than fine-tune"):
        comparison.check({"hyper": runs(0.6), "fine-tune": runs(0.5)}, kept)
    with pytest.raises(ValueError, match="no two methods to compare"):
        comparison.check({"hyper": runs(0.6)}, kept)


def test_a_task_inferred_from_the_entropy():
    """Inputs are a task's number and a class; a model is sure where the task is the right one."""
    x, task = keras.Input((2,)), keras.Input((), dtype="int32")
    right = ops.cast(ops.equal(x[:, 0], ops.cast(task, "float32")), "float32")
    score = (1 + 4 * right) * (2 * x[:, 1] - 1)
    model = keras.Model([x, task], ops.stack([-score, score], axis=1))
    tasks = []
    for number in range(3):
        inputs = np.array([[number, 0], [number, 1]], "float32")
        tasks.append(Task(inputs, np.array([0, 1]), inputs, np.array([0, 1])))
    assert training._inferred(model, tasks) == [100.0] * 3
    wrong = Task(inputs, np.array([0, 1]), inputs - [[1, 0]], np.array([0, 1]))  # looks like task 1
    assert training._inferred(model, [*tasks[:2], wrong]) == [100.0, 100.0, 0.0]
