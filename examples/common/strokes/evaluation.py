"""What a trained stroke model costs and draws: the work behind `strokes.py evaluate, generate`."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from common.strokes import batching, datasets
from keras_hypernets import models

EVALUATION_BATCH = 100
NATS_PER_POINT = "nats_per_point"


def dataset_of(batches: Callable[[], Iterable[batching.Batch]], size: int) -> tf.data.Dataset:
    """Returns batches as a data set whose shapes vary, so that nothing is traced twice.

    Args:
        batches: makes an iterator over the batches.
        size: how many these are; `tf.data.INFINITE_CARDINALITY` is possible.
    """
    shapes = (None, None, 3), (None, None, 3), (None, None)
    signature = tuple(tf.TensorSpec(shape) for shape in shapes)
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(size)).prefetch(2)


def compile_model(model: keras.Model, optimizer=None, **options) -> None:
    """Compiles a model with the loss and the metric of stroke models, means over the points."""
    model.compile(
        optimizer,
        MeanOverPoints(),
        weighted_metrics=[NatsPerPoint(NATS_PER_POINT)],
        **options,
    )


class MeanOverPoints(keras.losses.Loss):
    """`stroke_loss` without padded points."""

    def __init__(self):
        super().__init__("nats", "mean_with_sample_weight")

    def call(self, y_true, y_pred):
        return models.stroke_loss(y_true, y_pred)


class NatsPerPoint(keras.metrics.Mean):
    """The mean of `stroke_loss` over all points of all batches."""

    def update_state(self, y_true, y_pred, sample_weight):
        # Flat: Keras takes means over time first, where batches differ in their padding.
        nats = keras.ops.reshape(models.stroke_loss(y_true, y_pred), [-1])
        return super().update_state(nats, keras.ops.reshape(sample_weight, [-1]))


def evaluate_parts(
    model: keras.Model, data: datasets.StrokeData, train_drawings: int
) -> dict[str, dict[str, float]]:
    """Prints and returns the nats per point and per drawing of the parts of the data.

    The density is that of offsets divided by `data.scale`. Where a drawing begins is given, and
    does not count. Of the training drawings the first `train_drawings` are read, 0 for all.
    """
    reader = keras.Model(model.input, model.output)
    compile_model(reader, jit_compile=False)
    results = {NATS_PER_POINT: {}, "nats_per_drawing": {}}
    for name in datasets.PARTS:
        drawings = getattr(data, name)[: train_drawings or None if name == "train" else None]
        batches = dataset_to_evaluate(data, drawings)
        nats = reader.evaluate(batches, verbose=int(sys.stdout.isatty()), return_dict=True)
        per_point = nats[NATS_PER_POINT]
        per_drawing = per_point * float(np.mean([len(drawing) - 1 for drawing in drawings]))
        results[NATS_PER_POINT][name] = per_point
        results["nats_per_drawing"][name] = per_drawing
        print(
            f"{name:10}  {per_point:.4f} nats per point, {per_drawing:.2f} per drawing "
            f"({len(drawings):,} drawings)"
        )
    return results


def dataset_to_evaluate(data: datasets.StrokeData, drawings: list) -> tf.data.Dataset:
    """Returns all of these drawings in batches, the same each time and for each seed."""
    size = min(EVALUATION_BATCH, len(drawings))
    batches = batching.StrokeBatches(drawings, size, 0, data.scale, data.resolution)
    return dataset_of(batches.evaluation_batches, batches.evaluation_steps)


def generate(
    model: keras.Model, lengths: list[int], temperature: float, seed: int
) -> list[np.ndarray]:
    """Returns one generated drawing for each length, which counts the point where it begins."""
    drawn = models.generate_strokes(
        model, max(lengths) - 1 or 1, temperature, seed, count=len(lengths)
    )
    drawn = np.concatenate([np.zeros_like(drawn[:, :1]), drawn], axis=1)
    return [drawing[:length] for drawing, length in zip(drawn, lengths, strict=True)]


def load(path: str | Path) -> keras.Model:
    """Loads a model that this script has saved.

    Raises:
        ValueError: if it is none.
    """
    try:
        model = keras.models.load_model(path)
        if not isinstance(model.layers[-1], models.strokes.MixtureDensity):
            raise ValueError(f"its last layer is {model.layers[-1].name}")
    except Exception as error:  # Keras, h5py and zipfile raise many kinds for a wrong file
        raise ValueError(
            f"`--checkpoint` must be a .keras file of a stroke model. Received: {path} ({error})"
        ) from error
    return model
