"""Training an image classifier: the work behind `mnist.py` and `cifar10.py`."""

import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path

from common import training  # before Keras, so that TensorFlow starts without its notes

# isort: split
import keras
import numpy as np
import tensorflow as tf

from common import outputs
from common.images import batching
from common.images.datasets import ImageData
from keras_hypernets import callbacks, export

EVALUATION_BATCH = 500


class Run:
    """A training run, new or resumed. Making it checks all input; `fit` and `report` do the work.

    After each epoch the validation images are classified, and the model with the fewest errors so
    far is kept. The test images are read by that model, when training is over.

    Args:
        make_model: makes the network, from images as the data set has them to logits, compiled
            with the metric `accuracy`.
        data: the images.
        augment: what is done to a batch of images in training.
        settings: what describes the run; it must be the same when the run is resumed.
        output: folder for everything the run writes.
        batch_size, seed: of the training.
        epochs: passes over the images, at most.
        steps: or steps; the last epoch ends there.
        patience: epochs without improvement on validation after which training ends; 0: never.
        resume: whether to continue the run in `output`, if there is one.
        tensorboard: folder in which TensorBoard finds the run, by the name of `output`, or `None`.
    """

    def __init__(
        self,
        make_model: Callable[[], keras.Model],
        data: ImageData,
        augment: batching.Augmentation,
        settings: dict,
        output: Path,
        batch_size: int,
        seed: int,
        epochs: int | None = None,
        steps: int | None = None,
        patience: int = 0,
        resume: bool = False,
        tensorboard: str | None = None,
    ):
        self.data = data
        self.output = Path(output)
        self.diverged = False
        self.patience = patience
        self.batches = batching.ImageBatches(*data.train, batch_size, seed, augment)
        self.steps_per_epoch = self.batches.steps_per_pass
        self.epochs = epochs or math.ceil(steps / self.steps_per_epoch)
        self.steps = steps or self.epochs * self.steps_per_epoch
        self.settings = {
            **settings,
            "dataset": data.name,
            "sha256": data.sha256,
            "batch_size": batch_size,
            "steps_per_epoch": self.steps_per_epoch,
            "seed": seed,
        }
        outputs.prepare_output(self.output, resume)
        if resume:
            results = outputs.results_of(self.output / "best.keras") or {}
            self.diverged = results.get("diverged", False)
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        with distribution().scope():
            self.model = make_model()
        # Without the optimizer, which is of no use to whoever loads the file.
        portable = keras.Model(self.model.input, self.model.output, name=self.model.name)
        self.best = training.BestModel(portable, self.output / "best.keras", "val_error")
        self.callbacks = [ErrorRates(), self.best]
        if patience:
            stop = keras.callbacks.EarlyStopping("val_error", patience=patience, mode="min")
            self.callbacks.append(stop)
        self.checkpoint = training.ExactCheckpoint(
            self.output, self.settings, self.callbacks, resume
        )
        self.monitors = []
        if tensorboard is not None:
            folder = Path(tensorboard) / self.output.name
            self.monitors = [callbacks.GeneratedWeightsMonitor(folder)]

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or `patience` since the best one, or the loss diverged."""
        waited = training.epochs_since_best(self.checkpoint.history, "val_error")
        impatient = 0 < self.patience <= waited
        return self.checkpoint.epoch >= self.epochs or impatient or self.diverged

    def fit(self) -> list[dict]:
        """Trains to the end, unless that is done already, and returns the history.

        Raises:
            Diverged: if that happens before there is any model to report on.
        """
        checkpoint = self.checkpoint
        print(
            f"{self.model.name}, {trainable_parameters(self.model):,} trainable parameters, into "
            f"{self.output}: at most {self.epochs:,} epochs, {checkpoint.epoch:,} of them done"
        )
        if self.finished:
            return checkpoint.history
        try:
            self.model.fit(
                self._dataset(checkpoint.step),
                shuffle=False,  # the batches are shuffled already
                steps_per_epoch=self.steps_per_epoch,
                initial_epoch=checkpoint.epoch,
                epochs=self.epochs,
                validation_data=self.data.validation,
                validation_batch_size=EVALUATION_BATCH,
                verbose=1 if sys.stdout.isatty() else 2,
                callbacks=[
                    training.LastStep(checkpoint, self.steps),
                    *self.callbacks,
                    checkpoint,
                    *self.monitors,
                ],
            )
        except training.Diverged as error:
            if not checkpoint.history:
                raise
            self.diverged = True
            print(error)
        return checkpoint.history

    def _dataset(self, first_step: int) -> tf.data.Dataset:
        # With several devices Keras reads a batch to build the model and begins again: a plain
        # generator would have lost what it read.
        shape = self.batches.batch_size, *self.data.image_shape
        return tf.data.Dataset.from_generator(
            lambda: map(self.batches.batch, itertools.count(first_step)),
            output_signature=(
                tf.TensorSpec(shape, "uint8"),
                tf.TensorSpec(shape[:1], "int32"),
            ),
        ).prefetch(2)

    def report(self) -> dict:
        """Classifies the test images with the best model, writes all results and returns them."""
        history = self.checkpoint.history
        errors = [record["val_error"] for record in history]
        model = load(self.best.path)
        results = {
            "error": {
                "validation": error_rate(model, *self.data.validation),
                "test": error_rate(model, *self.data.test()),
            },
            "parameters": trainable_parameters(model),
            "best_epoch": history[errors.index(min(errors))]["epoch"],
            "epochs": len(history),
            "diverged": self.diverged,
            "milliseconds_per_step": training.milliseconds_per_step(history),
            "wall_seconds": self.checkpoint.seconds,
            "model_sha256": outputs.sha256_of(self.best.path),
            "settings": self.settings,
            **training.environment(),
            "history": history,
        }
        export.export_saved_model(
            model,
            self.output / "saved_model",
            self.data.class_names,
            card=training.card_of(results, "error"),
        )
        outputs.save_json(self.output / "results.json", results)
        return results


class ErrorRates(keras.callbacks.Callback):
    """Adds `error` and `val_error`, in percent, to the logs."""

    def on_epoch_end(self, epoch, logs=None):
        for part in ("", "val_"):
            logs[f"{part}error"] = 100 * (1 - logs[f"{part}accuracy"])


@keras.saving.register_keras_serializable(package="keras_hypernets_examples")
class FlooredExponentialDecay(keras.optimizers.schedules.ExponentialDecay):
    """`max(floor, initial_learning_rate * decay_rate ^ (step / decay_steps))`."""

    def __init__(self, *arguments, floor: float, **more):
        super().__init__(*arguments, **more)
        self.floor = floor

    def __call__(self, step):
        return keras.ops.maximum(super().__call__(step), self.floor)

    def get_config(self):
        return {**super().get_config(), "floor": self.floor}


def load(path: Path) -> keras.Model:
    """Loads the best model of a run.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras, h5py and zipfile raise many kinds for a damaged file
        raise ValueError(
            "The best model must be as it was written. Another `--output` begins a new run. "
            f"Received: {path} ({type(error).__name__}: {error})"
        ) from error


def error_rate(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> float:
    """Returns how many of the images are classified wrongly, in percent."""
    wrong = 0
    for start in range(0, len(images), EVALUATION_BATCH):
        rows = slice(start, start + EVALUATION_BATCH)
        # `predict` would trace every network for every size of batch, to run a few times.
        logits = model(images[rows], training=False)
        wrong += np.sum(np.argmax(keras.ops.convert_to_numpy(logits), -1) != labels[rows])
    return float(100 * wrong / len(images))


def trainable_parameters(model: keras.Model) -> int:
    """Returns the number of trainable weights."""
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def distribution() -> tf.distribute.Strategy:
    """Returns a strategy for all GPUs if there are several, otherwise one that does nothing."""
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()
