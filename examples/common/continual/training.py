"""Learning tasks one after the other: the work behind `continual.py`."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from common import training  # before Keras, so that TensorFlow starts without its notes

# isort: split
import keras
import numpy as np
import tensorflow as tf

from common import outputs
from common.continual.settings import Settings
from common.continual.tasks import Task
from common.images.training import trainable_parameters

EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class Learner:
    """A network that learns tasks.

    Attributes:
        model: from inputs, or from inputs and the numbers of their tasks.
        protect: holds what was learned of so many tasks, before the next one.
        knows_task: whether the model reads the numbers of the tasks.
    """

    model: keras.Model
    protect: Callable[[int], None] = lambda tasks: None
    knows_task: bool = False

    def inputs(self, x: np.ndarray, task: int) -> object:
        """Returns what the model reads for inputs of a task."""
        return (x, np.full(len(x), task, "int32")) if self.knows_task else x


def learn(
    make_learner: Callable[[], Learner],
    compile_model: Callable[[keras.Model], None],
    tasks: list[Task],
    joint: bool,
    settings: Settings,
    seed: int,
    output: Path,
) -> dict:
    """Trains on one task after the other, as far as that is not done, and returns the results.

    After each task the weights and the results so far are written to `output`. A run that was
    killed goes on after the last task that was learned.

    Args:
        make_learner: makes the network.
        compile_model: compiles it, anew for each task, with one metric.
        tasks: the tasks, in their order.
        joint: whether to train on all of them at once, for as many steps in all.
        settings: of the benchmark; a run continues only with the same.
        seed: of initial values and the order of the data.
        output: folder of the run.

    Returns:
        Among others `scores[t][j]`, the metric of task j on its test data after t + 1 tasks, and
        `inferred`, the accuracies where the model has to find out the task.
    """
    outputs.prepare_output(output, resume=True)
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    learner = make_learner()
    about = {**asdict(settings), "tasks": len(tasks), "seed": seed}
    results = _begin(learner, output, json.loads(json.dumps(about)))  # as what was saved
    lessons = [tasks] if joint else [[task] for task in tasks]
    for n in range(len(results["scores"]), len(lessons)):
        keras.utils.set_random_seed(1000 * seed + n)
        if n > 0:
            learner.protect(n)
        compile_model(learner.model)
        began = time.perf_counter()
        learner.model.fit(
            _batches(learner, lessons[n], n, settings.batch_size),
            shuffle=False,  # the batches are already
            steps_per_epoch=settings.steps * len(lessons[n]),
            verbose=1 if sys.stdout.isatty() else 2,
        )
        results["seconds"].append(round(time.perf_counter() - began, 1))
        results["scores"].append([_score(learner, task, j) for j, task in enumerate(tasks)])
        if learner.knows_task and results["metric"] == "accuracy":
            results["inferred"].append(_inferred(learner.model, tasks[: n + 1]))
        print(f"{output.name}, task {n + 1} of {len(lessons)}: {results['scores'][-1]}", flush=True)
        with outputs.replacing(_weights_file(output, n + 1)) as path:
            learner.model.save_weights(path)
        outputs.save_json(output / "results.json", results)
        _weights_file(output, n).unlink(missing_ok=True)
    return results


def _begin(learner, output, settings):
    """Returns the results so far; the model then has the weights of that time."""
    results = outputs.read_results(output)
    if results is None:
        return {
            "settings": settings,
            "parameters": trainable_parameters(learner.model),
            "metric": "error" if learner.model.output_shape[-1] == 1 else "accuracy",
            "scores": [],
            "inferred": [],
            "seconds": [],
            **training.environment(),
        }
    if results["settings"] != settings:
        raise ValueError(
            "`--output` holds a run with other settings: name another folder. "
            f"Received: {settings} (they were {results['settings']}) in {output}"
        )
    if results["scores"]:
        learner.model.load_weights(_weights_file(output, len(results["scores"])))
    return results


def _weights_file(output, tasks):
    return output / f"after_{tasks}.weights.h5"


def _batches(learner, lesson, first, batch_size):
    """Makes an endless data set of the tasks in a lesson, in random order."""
    parts = [(learner.inputs(task.x, first + n), task.y) for n, task in enumerate(lesson)]
    arrays = keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)
    data = tf.data.Dataset.from_tensor_slices(arrays).shuffle(len(arrays[1]))
    return data.repeat().batch(batch_size).prefetch(4)


def _score(learner, task, number):
    inputs = learner.inputs(task.test_x, number)
    _, score = learner.model.evaluate(inputs, task.test_y, batch_size=EVALUATION_BATCH, verbose=0)
    return round(float(score), 6)


def _inferred(model, tasks):
    """Returns the accuracy of each task if the least entropy of a prediction says which it is."""
    # Not `predict`, which each `compile` would trace again.
    run = tf.function(
        lambda x, guess: model([x, tf.fill(tf.shape(x)[:1], guess)], training=False),
        input_signature=[
            tf.TensorSpec(model.inputs[0].shape, tf.float32),
            tf.TensorSpec((), tf.int32),
        ],
    )
    scores = []
    for number, task in enumerate(tasks):
        predictions, entropies = [], []
        for guess in range(len(tasks)):
            logits = run(tf.constant(task.test_x, tf.float32), tf.constant(guess)).numpy()
            logs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
            predictions.append(np.argmax(logits, axis=1))
            entropies.append(-np.sum(np.exp(logs) * logs, axis=1))
        guessed = np.argmin(entropies, axis=0)
        found = np.choose(guessed, predictions)
        scores.append(_accuracy(found, guessed, task, number, tasks))
    return scores


def _accuracy(found, guessed, task, number, tasks):
    # Where all tasks have the same classes, the class is right whatever the task.
    same_classes = len(np.unique(tasks[0].y)) > 2
    right = (found == task.test_y) & (same_classes | (guessed == number))
    return round(100 * float(np.mean(right)), 3)
