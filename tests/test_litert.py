"""Keras' own export to LiteRT, with builtin operators only, of models with generated weights."""

import os

import keras
import numpy as np
import tensorflow as tf
from random_weights import randomize
from test_char_language_model import small

from keras_hypernets import HyperLSTM, export, models
from keras_hypernets.models import sequences

BUILTINS = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
SMALLER = {"optimizations": [tf.lite.Optimize.DEFAULT]}


def noise(*shape):
    return np.random.default_rng(0).random(shape, "float32")


class LiteRT(tf.test.TestCase):
    def converted(self, model, target_spec=BUILTINS, **options):
        """A function that runs the file, its only input's name or None, and the file's size."""
        path = os.path.join(self.get_temp_dir(), f"{self.id()}.tflite")
        model.export(path, format="litert", verbose=False, target_spec=target_spec, **options)
        interpreter = tf.lite.Interpreter(path)
        operators = {operator["op_name"] for operator in interpreter._get_ops_details()}
        self.assertNotEmpty(operators)
        # Names of TensorFlow's operators are in mixed case: FlexTensorListReserve.
        self.assertEqual([name for name in operators if name != name.upper()], [])
        self.assertNotIn("CUSTOM", operators)
        return interpreter.get_signature_runner(), os.path.getsize(path)

    def outputs(self, run, x):
        (name,) = run.get_input_details()
        return run(**{name: x})["output_0"]

    def check(self, model, x):
        run, _ = self.converted(model)
        for batch in (x[:1], x):
            self.assertAllClose(self.outputs(run, batch), model(batch), 1e-5, 1e-5)

    def test_images(self):
        cnn, resnet = models.hyper_cnn(), models.hyper_resnet(10, 1)
        for model in (cnn, resnet):
            randomize(model, deviation=0.05)
        self.check(export.bake(resnet), noise(3, 32, 32, 3))
        # TensorFlow 2.20's converter folds the generator to a wrong kernel.
        if tuple(map(int, tf.__version__.split(".")[:2])) >= (2, 21):
            self.check(cnn, noise(3, 28, 28, 1))

    def test_quantized(self):
        model, x = models.hyper_cnn(), noise(20, 28, 28, 1)
        randomize(model, deviation=0.05)
        plain, expected = export.bake(model), np.array(model(x))
        run, whole = self.converted(plain)
        self.assertAllClose(self.outputs(run, x), expected, 1e-5, 1e-5)
        half = {"target_spec": {**BUILTINS, "supported_types": [tf.float16]}}
        calibration = {"representative_dataset": lambda: ([image[None]] for image in x)}
        for options, least, most, share in (
            (half, 1e-7, 2e-3, 0.6),
            (calibration, 1e-4, 0.05, 0.4),
        ):
            run, size = self.converted(plain, **SMALLER, **options)
            error = np.abs(self.outputs(run, x) - expected).max() / np.abs(expected).max()
            self.assertBetween(error, least, most)
            self.assertLess(size, share * whole)

    def test_unrolled_layer(self):
        x = noise(3, 4, 5)
        layer = HyperLSTM(6, hyper_units=4, embedding_dim=2, return_sequences=True, unroll=True)
        model = keras.Sequential([keras.Input((4, 5)), layer])
        randomize(model)
        self.check(model, x)

    def test_step_of_a_language_model(self):
        ids = np.random.default_rng(0).integers(0, 6, (2, 4)).astype("int32")
        for cell in (
            "hyper_lstm",
            "hyper_gru",
            "lstm",
        ):  # the operations of others are among theirs
            model = small(cell, layers=2 if cell == "hyper_lstm" else 1, dropout=0.3)
            randomize(model)
            run, _ = self.converted(sequences.step_model(model))
            sizes = sequences.state_sizes(model)
            for rows in (1, 2):
                states = {name: np.zeros((rows, size), "float32") for name, size in sizes.items()}
                expected = model(ids[:rows])
                for t in range(4):
                    states = run(ids=ids[:rows, t], **states)
                    self.assertAllClose(states.pop("logits"), expected[:, t], 1e-5, 1e-5)
                    self.assertCountEqual(states, sizes)
