"""What every layer and cell must pass, in one place."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

LOAD_IN_FRESH_PROCESS = """
import importlib, sys
import keras, numpy as np
folder, modules, sys.path[:0] = sys.argv[1], sys.argv[2].split(","), sys.argv[3:]
for module in modules:
    importlib.import_module(module)
model = keras.models.load_model(folder + "/model.keras")
np.save(folder + "/output.npy", model.predict(np.load(folder + "/input.npy"), verbose=0))
print(model.count_params())
"""


TESTS = str(Path(__file__).parent)


def randomize(layer, seed=0, deviation=0.3):
    """Random values in every weight: those that start at zero would block gradients."""
    rng = np.random.default_rng(seed)
    for weight in layer.trainable_weights:
        centre = 1.0 if weight.name.endswith("gamma") else 0.0
        weight.assign(centre + deviation * rng.standard_normal(weight.shape))


class LayerTestCase(tf.test.TestCase):
    """A `tf.test.TestCase` with the checks that hold for any layer here."""

    modules = "keras_hypernets"  # what a process that loads the layer must import

    def check_layer(self, make_layer, input_shape, weight_count):
        """Checks a layer made by `make_layer()` on inputs `(batch, ...)` of that shape."""
        x = np.random.default_rng(1).standard_normal(input_shape).astype("float32")
        self._check_config(make_layer, x)
        self._check_shapes_and_count(make_layer, x, weight_count)
        self._check_fresh_process(make_layer, x)
        self._check_mixed_precision(make_layer, x)
        self._check_training(make_layer, x)
        self._check_gradients(make_layer, x)

    def _check_config(self, make_layer, x):
        layer = make_layer()
        config = layer.get_config()
        again = type(layer).from_config(json.loads(json.dumps(config)))
        self.assertEqual(again.get_config(), config)
        layer(x), again(x)
        randomize(layer)
        again.set_weights(layer.get_weights())
        self.assertAllEqual(layer(x), again(x))

    def _check_shapes_and_count(self, make_layer, x, weight_count):
        layer = make_layer()
        symbolic = layer(keras.KerasTensor(x.shape))
        eager = layer(x)
        self.assertEqual(tuple(symbolic.shape), tuple(eager.shape))
        self.assertEqual(layer.count_params(), weight_count)
        unknown = make_layer()(keras.KerasTensor((None, *[None] * (x.ndim - 2), x.shape[-1])))
        self.assertEqual(len(unknown.shape), len(eager.shape))

    def _check_fresh_process(self, make_layer, x):
        model = keras.Sequential([keras.Input(x.shape[1:]), make_layer()])
        randomize(model)
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder, "model.keras"))
            np.save(Path(folder, "input.npy"), x)
            done = subprocess.run(
                [sys.executable, "-c", LOAD_IN_FRESH_PROCESS, folder, self.modules, TESTS],
                capture_output=True,
                text=True,
                check=False,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(int(done.stdout), model.count_params())
            self.assertAllClose(
                np.load(Path(folder, "output.npy")), model.predict(x, verbose=0), 1e-6, 1e-6
            )

    def _check_mixed_precision(self, make_layer, x):
        wide = make_layer()
        expected = wide(x)
        for name in ("bfloat16", "float16"):
            keras.config.set_dtype_policy(f"mixed_{name}")
            try:
                layer = make_layer()
                layer.build(x.shape)
            finally:
                keras.config.set_dtype_policy("float32")
            self.assertTrue(all(w.dtype == "float32" for w in layer.weights), name)
            layer.set_weights(wide.get_weights())
            output = layer(x)
            self.assertEqual(output.dtype, name)
            self.assertAllClose(tf.cast(output, "float32"), expected, 0.05, 0.05)

    def _check_training(self, make_layer, x):
        model = keras.Sequential([keras.Input(x.shape[1:]), make_layer()])
        model.compile(keras.optimizers.Adam(0.01), "mse")
        before = [w.copy() for w in model.get_weights()]
        target = np.random.default_rng(2).standard_normal(model.output_shape[1:])
        target = np.broadcast_to(target, (len(x), *target.shape))
        losses = model.fit(x, target, epochs=5, verbose=0).history["loss"]
        self.assertLess(losses[-1], losses[0])
        changed = [np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True)]
        self.assertIn(True, changed)

    def _check_gradients(self, make_layer, x):
        layer = make_layer()
        layer(x)
        randomize(layer)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(layer(x)))
        gradients = tape.gradient(loss, [w.value for w in layer.trainable_weights])
        for weight, gradient in zip(layer.trainable_weights, gradients, strict=True):
            self.assertIsNotNone(gradient, weight.path)
            self.assertGreater(np.mean(np.abs(gradient) > 0), 0.9, weight.path)
