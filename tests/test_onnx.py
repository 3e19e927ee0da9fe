"""Keras' own export to ONNX equals the models, in onnxruntime."""

import os

import numpy as np
import onnxruntime
import tensorflow as tf
from random_weights import randomize
from test_char_language_model import small

from keras_hypernets import export, models
from keras_hypernets.models import sequences


def noise(*shape):
    return np.random.default_rng(0).random(shape, "float32")


class ONNX(tf.test.TestCase):
    def check(self, model, *batches):
        """Compares the outputs for batches, each a list of inputs."""
        path = os.path.join(self.get_temp_dir(), f"{self.id()}.onnx")
        model(batches[0] if len(batches[0]) > 1 else batches[0][0])  # Keras wants a call before
        model.export(path, format="onnx", verbose=False)
        session = onnxruntime.InferenceSession(path)
        names = [given.name for given in session.get_inputs()]
        for batch in batches:
            outputs = session.run(None, dict(zip(names, batch, strict=True)))
            expected = tf.nest.flatten(model(batch if len(batch) > 1 else batch[0]))
            for output, value in zip(outputs, expected, strict=True):
                self.assertAllClose(output, value, 1e-5, 1e-5)
        return names

    def test_images(self):
        for model, x in (
            (models.hyper_cnn(), noise(3, 28, 28, 1)),
            (models.hyper_resnet(10, 1), noise(3, 32, 32, 3)),
        ):
            randomize(model, deviation=0.05)
            self.check(model, [x], [x[:1]])
            self.check(export.bake(model), [x], [x[:1]])

    def test_language_model_with_texts_of_any_length_and_number(self):
        model = small(dropout=0.3)
        randomize(model)
        ids = np.random.default_rng(0).integers(0, 6, (2, 7)).astype("int32")
        states = [noise(2, size) for size in sequences.state_sizes(model).values()]
        first = [state[:1] for state in states]
        names = self.check(sequences.with_states(model), [ids, *states], [ids[:1, :3], *first])
        self.assertEqual(names, ["ids", *sequences.state_sizes(model)])
