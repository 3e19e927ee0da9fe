"""The plots of recurrent layers, for a model that reads vectors and not characters."""

import io

import numpy as np
import tensorflow as tf
from random_weights import randomize

from keras_hypernets import models
from keras_hypernets.plots import plot_cell_saturation, plot_weight_changes, weight_changes

POINTS = np.concatenate([np.random.default_rng(0).normal(size=(13, 2)), np.ones((13, 1))], -1)


def make(cell="hyper_lstm", **options):
    if cell.startswith("hyper"):
        options = {"hyper_units": 3, "embedding_dim": 2, **options}
    model = models.stroke_model(4, cell=cell, mixtures=2, **options)
    randomize(model)
    return model


class PlotsOfStrokes(tf.test.TestCase):
    def test_weight_changes(self):
        """Norms of the differences of all kernels, made one by one."""
        for options in ({}, {"layers": 2}, {"stateful": True, "batch_size": 3}):
            model = make(**options)
            cell = model.get_layer("recurrent_0").cell
            d_h = cell.generated_weights(POINTS[None].astype("float32"))["d_h"][0]
            kernels = np.einsum("giu,tgu->tgiu", cell.recurrent_kernel, d_h)
            expected = np.sqrt(np.sum(np.diff(kernels, axis=0) ** 2, axis=(2, 3)))
            for points in (POINTS, tf.constant(POINTS), POINTS.tolist()):
                self.assertAllClose(weight_changes(model, points), expected, 1e-4)

    def test_figures(self):
        model = make()
        figure = plot_weight_changes(model, POINTS, width=8)
        *panels, _ = figure.axes
        norms = weight_changes(model, POINTS)
        drawn = np.concatenate([axes.images[0].get_array().filled(np.nan) for axes in panels], 1)
        self.assertAllClose(drawn[:, 1:], (norms / norms.max(0)).T)
        labels = [t.get_text() for axes in panels for t in axes.get_xticklabels()]
        self.assertEqual(labels, ["0", *[""] * 9, "10", "", ""])
        figure.savefig(io.BytesIO())
        figure = plot_cell_saturation({"a": model, "b": make("lstm")}, POINTS)
        self.assertLen(figure.axes, 2)
        figure.savefig(io.BytesIO())

    def test_bad_sequences(self):
        model = make()
        for wrong, message in (
            (POINTS[:1], "`text` must have 2 to 5,000 steps. Received: 1"),
            (np.zeros((5001, 3)), "`text` must have 2 to 5,000 steps. Received: 5,001"),
            (
                POINTS[:, :2],
                r"`text` must be one sequence \(time, 3\) .* Received: shape \(13, 2\)",
            ),
            (POINTS[None], r"one sequence \(time, 3\) of finite numbers for stroke_model"),
            (POINTS * np.nan, r"one sequence \(time, 3\) of finite numbers"),
            ([[1, 2, 0], [1, 2]], r"one sequence \(time, 3\)"),
            (3.0, r"one sequence \(time, 3\)"),
            ("abc", "`model` must be a character language model"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                weight_changes(model, wrong)
