"""What the examples share: exact resume, the best model, records of a run."""

import argparse
import contextlib
import json
import math
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from common.outputs import CHECKPOINT, replacing


@contextlib.contextmanager
def _native_stderr_hidden() -> Iterator[None]:
    """Drops what compiled code writes to stderr."""
    saved = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


# TensorFlow's notes at start-up obey no log level; a user's mistake must stand out on one line.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with _native_stderr_hidden():
    import keras
    import numpy as np
    import tensorflow as tf

    import keras_hypernets

# What callbacks count with: Keras' ReduceLROnPlateau and EarlyStopping, and our own.
COUNTERS = ("best", "wait", "cooldown_counter")


class Diverged(ValueError):
    """Training met a number that is none; the message names it and the step."""


class ExactCheckpoint(keras.callbacks.Callback):
    """Saves at the end of each epoch all that training depends on, and continues from there.

    A run that was killed and continues is the run that was not killed, to the last bit (on one
    machine; GPUs add numbers up in any order unless told otherwise). One file holds weights and
    seed generators, the optimizer with its step number and learning rate, the carried states of
    stateful layers, the counters of other callbacks, the history, the time spent and the settings.
    The data's position must follow from the step alone. Keras' `BackupAndRestore` keeps less, and
    overwrites its file in place.

    Use:

        checkpoint = ExactCheckpoint(folder, settings, callbacks, resume)
        model.fit(batches_from(checkpoint.step), initial_epoch=checkpoint.epoch, ...,
                  callbacks=[*callbacks, checkpoint])

    It comes last, since callbacks reset their counters as training begins and count as epochs end.
    It counts the steps, and ends training at the first whose loss is not finite: what is saved are
    numbers.

    Args:
        folder: where `checkpoint.npz` is or will be.
        settings: what must be the same when the run continues; of JSON's types.
        callbacks: those whose counters (`COUNTERS`) belong to the run.
        resume: whether to continue from `checkpoint.npz`, if it is there.

    Attributes:
        epoch, step: how far the run is.
        history: for each epoch a dictionary of its logs, `epoch`, `step` and `seconds` of training.
        seconds: wall time of the run, without what was lost when it was killed.

    Raises:
        ValueError: if the checkpoint is of other settings, or no checkpoint.
        Diverged: from `fit`, if the loss or another value in the logs is NaN or infinite.
    """

    def __init__(self, folder: Path, settings: dict, callbacks: list, resume: bool):
        super().__init__()
        self.path = Path(folder) / CHECKPOINT
        self.settings = json.loads(json.dumps(settings))
        self.callbacks = callbacks
        self.epoch = self.step = 0
        self.seconds = 0.0
        self.history = []
        self._saved = None
        if resume and self.path.exists():
            self._read()

    def _read(self):
        try:
            with np.load(self.path, allow_pickle=False) as file:
                self._saved = [file[f"variable_{n}"] for n in range(len(file.files) - 1)]
                self._record = record = json.loads(str(file["record"]))
            for name in ("epoch", "step", "history", "seconds"):
                setattr(self, name, record[name])
            saved, _ = record["settings"], record["counters"]
        except Exception as error:  # NumPy and zipfile raise many kinds for a damaged file
            raise ValueError(
                "`--resume` needs a checkpoint of this script. Without this file the run begins "
                f"again. Received: {self.path} ({type(error).__name__}: {error})"
            ) from error
        different = [
            f"{name}={self.settings.get(name)!r} (was {saved.get(name)!r})"
            for name in sorted({*self.settings, *saved})
            if self.settings.get(name) != saved.get(name)
        ]
        if different:
            raise ValueError(
                f"`--resume` needs the settings of the run in {self.path.parent}; another "
                "`--output` begins a new run. Another sha256 means that the data are not those the "
                f"run began with. Received: {', '.join(different)}"
            )

    def on_train_begin(self, logs=None):
        self._began = time.perf_counter() - self.seconds
        # Also for a new run: a step that makes its optimizer's variables is traced twice.
        self.model.optimizer.build(self.model.trainable_variables)
        if self._saved is None:
            return
        variables = self._variables()
        same = [v.shape for v in variables] == [v.shape for v in self._saved]
        if not same or len(self.callbacks) != len(self._record["counters"]):
            raise ValueError(f"`--resume` needs a checkpoint of this model. Received: {self.path}")
        for variable, value in zip(variables, self._saved, strict=True):
            variable.assign(value)
        for callback, counters in zip(self.callbacks, self._record["counters"], strict=True):
            vars(callback).update(counters)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        # Counted here: the optimizer's own count leaves out steps whose float16 gradients overflow.
        self.step += 1
        self._batch_ended = time.perf_counter()
        self._check(logs)

    def _check(self, logs):
        for name, value in logs.items():
            if not math.isfinite(value):
                last = self.history[-1]["step"] if self.history else 0
                kept = f"{self.path.parent} holds the run up to step {last}"
                raise Diverged(
                    f"Training diverged: {name} is {value} at step {self.step}. A lower learning "
                    f"rate may help. {kept if last else 'Nothing was saved'}."
                )

    def on_epoch_end(self, epoch, logs=None):
        self._check(logs)
        optimizer = self.model.optimizer
        self.epoch = epoch + 1
        self.seconds = time.perf_counter() - self._began
        self.history.append(
            {
                "epoch": self.epoch,
                "step": self.step,
                "learning_rate": float(keras.ops.convert_to_numpy(optimizer.learning_rate)),
                **{name: float(value) for name, value in logs.items()},
                "seconds": self._batch_ended - self._epoch_began,
            }
        )
        counters = [
            {name: vars(callback)[name] for name in COUNTERS if name in vars(callback)}
            for callback in self.callbacks
        ]
        record = {name: getattr(self, name) for name in ("epoch", "step", "history", "seconds")}
        record = json.dumps({**record, "counters": counters, "settings": self.settings})
        arrays = {
            f"variable_{n}": keras.ops.convert_to_numpy(v) for n, v in enumerate(self._variables())
        }
        with replacing(self.path) as unfinished:
            np.savez(unfinished, record=np.array(record), **arrays)

    def _variables(self) -> list:
        # Keras counts carried states neither as weights nor as anything else that it saves.
        stateful = [layer for layer in self.model.layers if getattr(layer, "stateful", False)]
        states = keras.tree.flatten([layer.states for layer in stateful])
        return [*self.model.variables, *self.model.optimizer.variables, *states]


class BestModel(keras.callbacks.Callback):
    """Keeps the best model so far in a file.

    Args:
        portable: the model to save, which has the weights of the model in training by then.
        path: the `.keras` file.
        metric: name in the logs; less is better.
    """

    def __init__(self, portable: keras.Model, path: Path, metric: str):
        super().__init__()
        self.portable = portable
        self.path = path
        self.metric = metric
        self.best = math.inf

    def on_epoch_end(self, epoch, logs=None):
        # NaN weights still classify: everything as the first class.
        if logs[self.metric] < self.best and all(map(math.isfinite, logs.values())):
            self.best = logs[self.metric]
            with replacing(self.path) as unfinished:
                self.portable.save(unfinished)


def learning_rate_schedule(
    options: argparse.Namespace, metric: str
) -> list[keras.callbacks.Callback]:
    """Returns the callback that lets the learning rate decay, in a list, if there is one.

    Args:
        options: with `learning_rate_decay` and `patience`.
        metric: name in the logs; less is better.
    """
    decay = options.learning_rate_decay
    if decay == 1:
        return []
    if options.patience == 0:
        return [keras.callbacks.LearningRateScheduler(lambda n, rate: rate * decay if n else rate)]
    plateau = keras.callbacks.ReduceLROnPlateau(
        metric, factor=decay, patience=options.patience, mode="min"
    )
    return [plateau]


class LastStep(keras.callbacks.Callback):
    """Ends training at a step, wherever in an epoch that is."""

    def __init__(self, checkpoint: ExactCheckpoint, last_step: int):
        super().__init__()
        self.checkpoint = checkpoint
        self.last_step = last_step

    def on_train_batch_begin(self, batch, logs=None):
        # The checkpoint, which comes last, counts a step when it ends.
        if self.checkpoint.step + 1 >= self.last_step:
            self.model.stop_training = True


def epochs_since_best(history: list[dict], metric: str) -> int:
    """Returns how many epochs came after the one with the lowest value of a metric."""
    values = [record[metric] for record in history]
    return len(values) - 1 - values.index(min(values)) if values else 0


class EarlyStopping(keras.callbacks.Callback):
    """Ends training after so many epochs without a better value of a metric.

    Unlike Keras' callback of this name it keeps no count: it comes after the checkpoint and reads
    its history.
    """

    def __init__(self, checkpoint: ExactCheckpoint, metric: str, patience: int):
        super().__init__()
        self.checkpoint = checkpoint
        self.metric = metric
        self.patience = patience

    @property
    def finished(self) -> bool:
        """Whether so many epochs have passed."""
        return epochs_since_best(self.checkpoint.history, self.metric) >= self.patience > 0

    def on_epoch_end(self, epoch, logs=None):
        if self.finished:
            self.model.stop_training = True


def milliseconds_per_step(history: list[dict]) -> float:
    """Returns the median over the epochs but the first, which compiles, if there are more."""
    steps = np.diff([0, *(record["step"] for record in history)])
    times = np.array([record["seconds"] for record in history]) / steps
    return float(np.median(times[1:] if len(times) > 1 else times) * 1000)


def card_of(results: dict, score: str) -> dict:
    """What the card of a model says of the run: its score, its settings, and how to repeat it."""
    script, *options = sys.argv
    for number, option in reversed([*enumerate(options)]):
        name, equals, _ = option.partition("=")
        if name == "--output":  # a folder of whoever trained it
            del options[number : number + (1 if equals else 2)]
    return {
        "command": shlex.join(["python", f"examples/{Path(script).name}", *options]),
        score: results[score],
        "settings": results["settings"],
    }


def environment() -> dict:
    """Returns the versions and the machine that a result depends on."""
    cpu = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), cpu)
    return {
        "versions": {
            "python": platform.python_version(),
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
            "keras_hypernets": keras_hypernets.__version__,
        },
        "machine": {
            "system": platform.platform(),
            "cpu": cpu,
            "cores": os.cpu_count(),
            "gpus": [device.name for device in tf.config.list_physical_devices("GPU")],
        },
    }
