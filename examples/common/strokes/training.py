"""Training a stroke model: the work behind `strokes.py train`."""

import argparse
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
from common.strokes import batching, datasets, evaluation, pictures
from keras_hypernets import callbacks, export

VALIDATION = f"val_{evaluation.NATS_PER_POINT}"
NOT_SETTINGS = ("command", "output", "resume", "tensorboard", "traceback", "cell_options")
MAY_CHANGE = ("data", "epochs", "steps", "temperature", "train_drawings")  # to resume a run
SHOWN = 24  # real drawings, beside as many generated ones
WATCHED = 8  # validation drawings that TensorBoard shows
COLOURED = 5  # drawings coloured by the changes of the weights


class Run:
    """A training run, new or resumed. Making it checks all input; `fit` and `report` do the work.

    Args:
        options: what `common.strokes.options.parse(["train", ...])` returns.
        make_model: makes the model.

    Attributes:
        model: the model in training.
    """

    def __init__(self, options: argparse.Namespace, make_model: Callable[[], keras.Model]):
        self.options = options
        self.output = Path(options.output)
        self.data = data = datasets.load_drawings(
            options.data, options.min_points, options.max_points, options.resolution
        )
        self.batches = batching.StrokeBatches(
            data.train, options.batch_size, options.seed, data.scale, data.resolution
        )
        self.steps_per_epoch = options.steps_per_epoch or self.batches.steps_per_pass
        self.steps = options.steps or options.epochs * self.steps_per_epoch
        self.settings = {name: v for name, v in vars(options).items() if name not in NOT_SETTINGS}
        self.settings |= options.cell_options
        self.settings |= {
            "steps_per_epoch": self.steps_per_epoch,
            "sha256": data.sha256,
            "scale": data.scale,
            "resolution": data.resolution,
        }
        keras.utils.clear_session()
        keras.utils.set_random_seed(options.seed)
        self.model = make_model()
        evaluation.compile_model(
            self.model,
            keras.optimizers.Adam(options.learning_rate, global_clipnorm=options.clip_norm),
            jit_compile="auto" if options.jit_compile is None else options.jit_compile,
        )
        outputs.prepare_output(self.output, options.resume)
        # Without the optimizer, which is of no use to whoever loads the file.
        portable = keras.Model(self.model.input, self.model.output, name=self.model.name)
        self.best = training.BestModel(portable, self.output / "best.keras", VALIDATION)
        schedule = training.learning_rate_schedule(options, VALIDATION)
        self.callbacks = [self.best, *schedule]
        self.checkpoint = training.ExactCheckpoint(
            self.output,
            {name: value for name, value in self.settings.items() if name not in MAY_CHANGE},
            self.callbacks,
            options.resume,
        )
        self.monitors = []
        if options.tensorboard is not None:
            (watched, *_), *_ = evaluation.dataset_to_evaluate(data, data.validation[:WATCHED])
            monitor = callbacks.GeneratedWeightsMonitor(options.tensorboard, watched.numpy())
            self.monitors = [monitor]

    @property
    def generates_weights(self) -> bool:
        """Whether the cell is one with a hypernetwork."""
        return "hyper_units" in self.options.cell_options

    def fit(self) -> list[dict]:
        """Trains up to the last step, unless that is done already, and returns the history."""
        checkpoint = self.checkpoint
        print(
            f"{self.options.cell}, {self.model.count_params():,} parameters, into {self.output}: "
            f"{self.steps:,} steps of {self.options.batch_size} drawings, "
            f"{min(checkpoint.step, self.steps):,} of them done"
        )
        if checkpoint.step < self.steps:
            left, first = self.steps - checkpoint.step, checkpoint.step
            self.model.fit(
                evaluation.dataset_of(
                    lambda: map(self.batches.batch, itertools.count(first)),
                    tf.data.INFINITE_CARDINALITY,
                ),
                shuffle=False,  # shuffled already
                validation_data=evaluation.dataset_to_evaluate(self.data, self.data.validation),
                steps_per_epoch=min(left, self.steps_per_epoch),
                initial_epoch=checkpoint.epoch,
                epochs=checkpoint.epoch + math.ceil(left / self.steps_per_epoch),
                verbose=1 if sys.stdout.isatty() else 2,
                callbacks=[
                    training.LastStep(checkpoint, self.steps),
                    *self.callbacks,
                    checkpoint,
                    *self.monitors,
                ],
            )
        return checkpoint.history

    def score(self) -> dict:
        """Evaluates the best model and returns all that is known of the run in numbers."""
        history = self.checkpoint.history
        nats = [record[VALIDATION] for record in history]
        model = evaluation.load(self.best.path)
        return {
            **evaluation.evaluate_parts(model, self.data, self.options.train_drawings),
            "parameters": model.count_params(),
            "best_step": history[nats.index(min(nats))]["step"],
            "milliseconds_per_step": training.milliseconds_per_step(history),
            "wall_seconds": self.checkpoint.seconds,
            "settings": {**self.settings, "steps": self.steps},
            **training.environment(),
            "history": history,
        }

    def report(self) -> dict:
        """Evaluates the best model, lets it draw, writes all results and returns them."""
        results = {**self.score(), "model_sha256": outputs.sha256_of(self.best.path)}
        outputs.save_json(self.output / "results.json", results)
        outputs.save_learning_curves(
            self.output / "curve.png",
            {self.options.cell: [results["history"]]},
            evaluation.NATS_PER_POINT,
            "nats per point",
        )
        self.draw()
        card = training.card_of(results, "nats_per_drawing")
        model = evaluation.load(self.best.path)
        export.export_saved_model(model, self.output / "saved_model", card=card)
        return results

    def draw(self) -> None:
        """Draws real drawings of the test beside generated ones, and what changes the weights."""
        model, options = evaluation.load(self.best.path), self.options
        chosen = np.random.default_rng(0).permutation(len(self.data.test))[:SHOWN]
        scale = np.array([self.data.scale, self.data.scale, 1], "float32")
        real = [self.data.test[n] / scale for n in chosen]
        lengths = [len(drawing) for drawing in real]
        generated = evaluation.generate(model, lengths, options.temperature, options.seed)
        pictures.save(pictures.draw_beside(real, generated), self.output / "drawings.png")
        if self.generates_weights:
            figure = pictures.draw_weight_changes(model, generated[:COLOURED])
            pictures.save(figure, self.output / "weight_changes.png")
