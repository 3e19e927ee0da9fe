"""What the examples share: files that are whole or absent, exact resume, records of a run."""

import contextlib
import json
import math
import os
import platform
import shutil
import time
from collections.abc import Iterator
from pathlib import Path


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
    from matplotlib.figure import Figure  # not pyplot, which may look for a screen

    import keras_hypernets

UNFINISHED = ".unfinished-"
CHECKPOINT = "checkpoint.npz"

# What callbacks count with: Keras' ReduceLROnPlateau and EarlyStopping, and our own.
COUNTERS = ("best", "wait", "cooldown_counter")


# Files


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Gives a path beside `path` to write to, and renames it to `path` once it is written.

    Whoever reads `path` sees the old file or the new one, whenever the writer is killed.
    """
    path = Path(path)
    unfinished = path.with_name(UNFINISHED + path.name)
    try:
        yield unfinished
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def save_json(path: Path, value: object) -> None:
    """Writes JSON that people can read."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as unfinished:
        unfinished.write_text(f"{text}\n", "utf-8")


def _finite(value: object) -> object:
    """Puts None for what is no number in JSON, NaN and infinity."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def prepare_output(folder: Path, resume: bool) -> None:
    """Makes the folder of a run, so that what cannot be written is known before any work.

    Raises:
        ValueError: if the folder cannot be written, or holds a run that is not to be resumed.
    """
    if (folder / CHECKPOINT).exists() and not resume:
        raise ValueError(
            "`--output` holds a run: continue it with --resume, or name another folder. "
            f"Received: --output {folder}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(UNFINISHED + "*"):  # of a run that was killed while writing
            if leftover.is_file():
                leftover.unlink()
        for leftover in folder.glob(".export-*"):
            shutil.rmtree(leftover)
        trial = folder / f"{UNFINISHED}trial"
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise ValueError(
            f"`--output` must be a folder that can be written. Received: --output {folder} "
            f"({error.strerror})"
        ) from error


def save_learning_curves(
    path: Path, histories: dict[str, list[dict]], metric: str, y_label: str
) -> None:
    """Draws training (dashed) and validation (solid) of one or more runs over the steps.

    Args:
        path: PNG file to write.
        histories: by the name of a run, the `history` of its `ExactCheckpoint`.
        metric: drawn are `metric` and `val_` + `metric`.
        y_label: the metric's name for people, with its unit.
    """
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito's, safe for all eyes
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.subplots()
    for (name, history), colour in zip(histories.items(), colours, strict=False):
        steps = [record["step"] for record in history]
        for key, part, style in ((f"val_{metric}", "validation", "-"), (metric, "training", "--")):
            values = [record[key] for record in history]
            axes.plot(steps, values, style, color=colour, marker=".", label=f"{name}, {part}")
    axes.set_xlabel("training steps")
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as unfinished:
        figure.savefig(unfinished)


# Exact resume


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
                self._record = json.loads(str(file["record"]))
        except Exception as error:  # NumPy and zipfile raise many kinds for a damaged file
            raise ValueError(
                f"`--resume` needs a checkpoint of this script. Received: {self.path} ({error})"
            ) from error
        saved = self._record["settings"]
        different = [
            f"{name}={self.settings.get(name)!r} (was {saved.get(name)!r})"
            for name in sorted({*self.settings, *saved})
            if self.settings.get(name) != saved.get(name)
        ]
        if different:
            raise ValueError(
                f"`--resume` needs the settings of the run in {self.path.parent}; another "
                "`--output` begins a new run. "
                f"Received: {', '.join(different)}"
            )
        for name in ("epoch", "step", "history", "seconds"):
            setattr(self, name, self._record[name])

    def on_train_begin(self, logs=None):
        self._began = time.perf_counter() - self.seconds
        if self._saved is None:
            return
        self.model.optimizer.build(self.model.trainable_variables)
        variables = self._variables()
        if [v.shape for v in variables] != [v.shape for v in self._saved]:
            raise ValueError(f"`--resume` needs a checkpoint of this model. Received: {self.path}")
        for variable, value in zip(variables, self._saved, strict=True):
            variable.assign(value)
        for callback, counters in zip(self.callbacks, self._record["counters"], strict=True):
            vars(callback).update(counters)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self._batch_ended = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        optimizer = self.model.optimizer
        self.epoch, self.step = epoch + 1, int(optimizer.iterations)
        self.seconds = time.perf_counter() - self._began
        self.history.append(
            {
                "epoch": self.epoch,
                "step": self.step,
                "learning_rate": float(optimizer.learning_rate),
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


def milliseconds_per_step(history: list[dict]) -> float:
    """Returns the median over the epochs but the first, which compiles, if there are more."""
    steps = np.diff([0, *(record["step"] for record in history)])
    times = np.array([record["seconds"] for record in history]) / steps
    return float(np.median(times[1:] if len(times) > 1 else times) * 1000)


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
