"""Training a stroke model: the work behind `strokes.py train`."""

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path

from common import sequence_training  # before Keras, so that TensorFlow starts without its notes

# isort: split
import keras
import numpy as np
import tensorflow as tf

from common.strokes import batching, datasets, evaluation, pictures

SHOWN = 24  # real drawings, beside as many generated ones
WATCHED = 8  # validation drawings that TensorBoard shows
COLOURED = 5  # drawings coloured by the changes of the weights


class Run(sequence_training.Run):
    """A training of a model of drawings.

    Args:
        options: what `common.strokes.options.parse(["train", ...])` returns.
        make_model: makes the model.
    """

    score = evaluation.NATS_PER_POINT
    axis = "nats per point"
    card_score = "nats_per_drawing"
    batch = "{batch_size} drawings"
    may_change = ("data", "epochs", "steps", "early_stopping", "temperature", "train_drawings")

    def __init__(self, options: argparse.Namespace, make_model: Callable[[], keras.Model]):
        self.data = data = datasets.load_drawings(
            options.data, options.min_points, options.max_points, options.resolution
        )
        self.batches = batching.StrokeBatches(
            data.train, options.batch_size, options.seed, data.scale, data.resolution
        )
        own = {"sha256": data.sha256, "scale": data.scale, "resolution": data.resolution}
        super().__init__(options, self.batches.steps_per_pass, own)
        self.model = make_model()
        evaluation.compile_model(
            self.model,
            keras.optimizers.Adam(options.learning_rate, global_clipnorm=options.clip_norm),
            jit_compile="auto" if options.jit_compile is None else options.jit_compile,
        )
        # Without the optimizer, which is of no use to whoever loads the file.
        self.prepare(keras.Model(self.model.input, self.model.output, name=self.model.name))

    def fit_model(self, **arguments) -> None:
        self.model.fit(
            evaluation.dataset_of(
                lambda: map(self.batches.batch, itertools.count(self.checkpoint.step)),
                tf.data.INFINITE_CARDINALITY,
            ),
            shuffle=False,  # shuffled already
            validation_data=evaluation.dataset_to_evaluate(self.data, self.data.validation),
            **arguments,
        )

    def watched(self) -> np.ndarray:
        drawings = self.data.validation[:WATCHED]
        (watched, *_), *_ = evaluation.dataset_to_evaluate(self.data, drawings)
        return watched.numpy()

    def load(self, path: Path) -> keras.Model:
        return evaluation.load(path)

    def evaluate(self, model: keras.Model) -> dict:
        return evaluation.evaluate_parts(model, self.data, self.options.train_drawings)

    def draw(self, model: keras.Model) -> dict:
        """Draws real drawings of the test beside generated ones, and what changes the weights."""
        options = self.options
        chosen = np.random.default_rng(0).permutation(len(self.data.test))[:SHOWN]
        scale = np.array([self.data.scale, self.data.scale, 1], "float32")
        real = [self.data.test[n] / scale for n in chosen]
        lengths = [len(drawing) for drawing in real]
        generated = evaluation.generate(model, lengths, options.temperature, options.seed)
        pictures.save(pictures.draw_beside(real, generated), self.output / "drawings.png")
        if self.generates_weights:
            figure = pictures.draw_weight_changes(model, generated[:COLOURED])
            pictures.save(figure, self.output / "weight_changes.png")
        return {}
