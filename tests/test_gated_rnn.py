"""The fast loop does what Keras' loop does: values, gradients, masks, states, saving."""

import os
from functools import partial
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_hypernets.dynamic.recurrence.tensorflow as engine
import keras_hypernets.dynamic.recurrence.tensorflow_inference as inference
from keras_hypernets import (
    GatedRNN,
    HyperGRU,
    HyperGRUCell,
    HyperLSTMCell,
    HyperSimpleRNNCell,
    LayerNormLSTM,
    LayerNormLSTMCell,
    dynamic,
)
from keras_hypernets.dynamic import traced_once
from keras_hypernets.dynamic.recurrence.tensorflow_rows import PATIENCE, rows_with_code

SMALL = {"hyper_units": 3, "embedding_dim": 2}
CELLS = {
    "hyper LSTM": lambda **o: HyperLSTMCell(6, **SMALL, **o),
    "hyper LSTM, full": lambda **o: HyperLSTMCell(
        6, weight_generation="full", layer_norm=False, **SMALL, **o
    ),
    "layer norm LSTM": lambda **o: LayerNormLSTMCell(6, **o),
    "LSTM without bias": lambda **o: LayerNormLSTMCell(6, layer_norm=False, use_bias=False, **o),
    "hyper GRU": lambda **o: HyperGRUCell(6, **SMALL, **o),
    "hyper simple RNN": lambda **o: HyperSimpleRNNCell(6, **SMALL, **o),
    "stack": lambda **o: [HyperLSTMCell(6, **SMALL, **o), HyperGRUCell(5, **SMALL, **o)],
}
MASK = np.array([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 0, 1, 1, 0], [1, 1, 0, 1, 1]], bool)
WAYS = (
    {},
    {"return_sequences": False},
    {"mask": MASK},
    {"mask": MASK, "zero_output_for_mask": True, "go_backwards": True},
    {"mask": MASK.astype("int32")[..., None], "return_sequences": False},
    {"mask": MASK, "zero_output_for_mask": True, "return_sequences": False},
)


def pair(make, batch_size=None, checkpoint_every=None, **options):
    """Keras' RNN and ours around cells with the same random weights."""
    layers = (
        keras.layers.RNN(make(), **options),
        GatedRNN(make(), checkpoint_every=checkpoint_every, **options),
    )
    rng = np.random.default_rng(1)
    for layer in layers:
        layer.build((batch_size, None, 4))
    for one, other in zip(*(layer.weights for layer in layers), strict=True):
        one.assign(0.5 * rng.standard_normal(one.shape))
        other.assign(one)
    return layers


def values_and_gradients(layer, x, initial_state, mask, jit):
    """Of a function of all outputs and states, for x, the states and all weights.

    Keras' loop, the reference, runs step by step, which takes no time to compile.
    """

    def run(x, initial_state):
        with tf.GradientTape() as tape:
            tape.watch((x, initial_state))
            results = layer(x, initial_state=initial_state, mask=mask, training=True)
            loss = sum(
                tf.reduce_sum(tf.sin((n + 1) * y)) for n, y in enumerate(tf.nest.flatten(results))
            )
        weights = [weight.value for weight in layer.trainable_weights]
        return results, tape.gradient(loss, (x, initial_state, weights))

    if isinstance(layer, GatedRNN):
        run = tf.function(run, jit_compile=jit)
    return tf.nest.flatten(run(x, initial_state))


class SameAsKeras(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        keras.config.set_floatx("float64")  # of losses
        keras.config.set_dtype_policy("float64")  # of layers
        rng = np.random.default_rng(0)
        self.x = tf.constant(rng.standard_normal((4, 5, 4)))
        # Of two rows of the batch: blocks of two steps and a last one of one.
        self.rows, engine.ROWS = engine.ROWS, 4

    def tearDown(self):
        engine.ROWS = self.rows
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
        super().tearDown()

    def test_values_and_gradients(self):
        rng = np.random.default_rng(0)
        for m, (name, make) in enumerate(CELLS.items()):
            for n, way in enumerate(WAYS):
                if name != "layer norm LSTM" and (m + n) % len(WAYS) != 0:
                    continue  # one loop for all cells: one way for each of the others
                options = {"return_sequences": True, "return_state": True, **way}
                mask = options.pop("mask", None)
                layers = pair(make, **options)
                states = tf.nest.map_structure(
                    lambda size: tf.constant(rng.standard_normal((4, size))), layers[0].state_size
                )
                jit = name == "layer norm LSTM" and n == 4
                keras_found, ours = (
                    values_and_gradients(layer, self.x, states, mask, jit) for layer in layers
                )
                for a, b in zip(keras_found, ours, strict=True):
                    self.assertAllClose(a, b, 1e-10, 1e-10, msg=f"{name}, {way}")

    def test_checkpoints(self):
        """The same with a part of the states kept; blocks as long as the sequence and longer."""
        ways = [
            ("layer norm LSTM", 2, False, {}),
            ("layer norm LSTM", 3, True, WAYS[3]),
            ("hyper LSTM", 9, False, WAYS[4]),
        ]
        for name, every, jit, way in ways:
            options = {"return_sequences": True, "return_state": True, **way}
            mask = options.pop("mask", None)
            layers = pair(CELLS[name], checkpoint_every=every, **options)
            states = layers[0].get_initial_state(4)
            found = [values_and_gradients(layer, self.x, states, mask, jit) for layer in layers]
            for a, b in zip(*found, strict=True):
                self.assertAllClose(a, b, 1e-10, 1e-10, msg=f"{every}, {way}")

    def test_other_batches_and_lengths_after_the_first(self):
        """A smaller batch is filled up, and blocks have the same number of steps at all lengths."""
        layers = pair(CELLS["layer norm LSTM"], return_sequences=True, return_state=True)
        x = np.random.default_rng(2).standard_normal((4, 7, 4))
        for batch, length in ((4, 5), (3, 5), (1, 7), (4, 1), (0, 3)):
            part = tf.constant(x[:batch, :length])
            mask = tf.constant(np.arange(batch * length).reshape(batch, length) % 3 != 1)
            states = layers[0].get_initial_state(batch)
            found = [values_and_gradients(layer, part, states, mask, False) for layer in layers]
            for a, b in zip(*found, strict=True):
                self.assertAllClose(a, b, 1e-10, 1e-10, msg=f"{batch}, {length}")

    def test_rows_that_have_code(self):
        """The last number serves fewer rows, until too many of them are unused too often."""
        cell = LayerNormLSTMCell(2)
        rows = tf.function(lambda least: rows_with_code(least, cell, True))
        found = [int(rows(tf.constant(least))) for least in (8, 5, 8, 1, 0, 9, 8, 12)]
        self.assertEqual(found, [8, 8, 8, 8, 0, 9, 9, 12])
        found = [int(rows(tf.constant(6))) for _ in range(PATIENCE + 1)]
        self.assertEqual(found, [12] * (PATIENCE - 1) + [6, 6])

    def test_predict_and_evaluate(self):
        """In batches of which the last is smaller, without changing the rows that training runs."""
        for name, all_steps in (("layer norm LSTM", True), ("stack", False)):
            layers = pair(CELLS[name], return_sequences=all_steps)
            x = np.random.default_rng(2).standard_normal((5, traced_once.FEW + 3, 4))
            models = []
            for layer in layers:
                inputs = keras.Input((None, 4))
                models.append(keras.Model(inputs, layer(keras.layers.Masking()(inputs))))
                models[-1].compile(loss="mse")
            x[1, 4:], x[2, :2] = 0, 0
            found = [model.predict(x, batch_size=2, verbose=0) for model in models]
            self.assertAllClose(*found, 1e-10, 1e-10, msg=name)
            found = [model.evaluate(x, found[0] + 1, batch_size=3, verbose=0) for model in models]
            self.assertAllClose(*found, 1e-10, 1e-10, msg=name)
        options = {"return_sequences": True, "go_backwards": True, "zero_output_for_mask": True}
        layers = pair(CELLS["layer norm LSTM"], **options)
        inputs, masking = keras.Input((None, 4)), keras.layers.Masking()
        models = [keras.Model(inputs, layer(masking(inputs))) for layer in layers]
        self.assertAllClose(*(model.predict(x, verbose=0) for model in models), 1e-10, 1e-10)
        cell = LayerNormLSTMCell(2)
        rows = tf.function(lambda n, training: rows_with_code(n, cell, training))
        self.assertEqual([int(rows(*p)) for p in ((2, True), (3, False), (1, True))], [2, 3, 2])

    def test_frozen_mode_in_fit(self):
        """`training=False` in a model that trains: the loop without a gradient of its own."""
        x = np.random.default_rng(2).standard_normal((4, traced_once.FEW + 3, 4))
        weights = []
        for layer in pair(CELLS["layer norm LSTM"]):
            inputs = keras.Input((None, 4))
            model = keras.Model(inputs, layer(inputs, training=False))
            model.compile(keras.optimizers.SGD(0.5), "mse")
            model.fit(x, np.ones((4, layer.cell.units)), verbose=0)
            weights.append(model.get_weights())
        for one, other in zip(*weights, strict=True):
            self.assertAllClose(one, other, 1e-10, 1e-10)

    def test_where_the_loops_of_models_run(self):
        """Not in a user's function, which may be exported: XLA's code cannot go there."""
        layer = LayerNormLSTM(3)
        x = tf.zeros((2, traced_once.FEW + 1, 4))
        layer(x)

        def one_step_on_gpu(x):
            return layer(x)

        model = keras.Sequential([keras.Input((None, 4)), layer])
        with mock.patch.object(inference, "infer", side_effect=inference.infer) as infer:
            tf.function(one_step_on_gpu)(x)
            self.assertEqual(infer.call_count, 0)
            for n, options in enumerate(({}, {"steps_per_execution": 2}, {"jit_compile": True}), 1):
                model.compile(loss="mse", **options)
                model.predict(x, verbose=0)
                model.evaluate(x, tf.zeros((2, 3)), verbose=0)
                self.assertEqual(infer.call_count, 2 * n)

    def test_one_step_and_one_row(self):
        for shape in ((3, 1, 4), (1, 5, 4)):
            x = tf.constant(np.random.default_rng(2).standard_normal(shape))
            layers = pair(CELLS["layer norm LSTM"], return_sequences=True, return_state=True)
            states = layers[0].get_initial_state(shape[0])
            found = [values_and_gradients(layer, x, states, None, False) for layer in layers]
            for a, b in zip(*found, strict=True):
                self.assertAllClose(a, b, 1e-10, 1e-10)

    def test_training(self):
        """fit with a last batch of one row, regularizers, a frozen weight, by XLA and eagerly."""
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((9, 7, 4)), rng.standard_normal((9, 7, 2))

        def make():
            return HyperLSTMCell(6, kernel_regularizer="l2", hyper_bias_regularizer="l1", **SMALL)

        by_keras, ours = pair(make, return_sequences=True)
        start = by_keras.get_weights()
        weights = []
        for layer, mode in (
            (by_keras, {"run_eagerly": True}),
            (ours, {"jit_compile": True}),
            (ours, {"run_eagerly": True}),
        ):
            layer.set_weights(start)
            inputs = keras.Input((None, 4))
            outputs = keras.layers.Dense(2, kernel_initializer="ones")(layer(inputs))
            model = keras.Model(inputs, outputs)
            layer.cell.recurrent_kernel.trainable = False
            model.compile(keras.optimizers.SGD(0.05), "mse", **mode)
            model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
            weights.append(model.get_weights())
        first, *others = weights
        for other in others:
            for a, b in zip(first, other, strict=True):
                self.assertAllClose(a, b, 1e-9, 1e-9)


class AsALayer(tf.test.TestCase):
    def test_layers_that_make_their_cell(self):
        for make in dynamic.LAYERS.values():
            layer = make(8, return_sequences=True, dropout=0.1, seed=3)
            layer.build((None, None, 2))
            self.assertIsInstance(layer.cell, make.cell_class)
            self.assertEqual((layer.dropout, layer.cell.seed), (0.1, 3))
            for name in layer.forwarded:
                self.assertEqual(getattr(layer, name), getattr(layer.cell, name))

    def test_where_the_fast_loop_runs(self):
        def trace(function):
            tf.function(function, autograph=False).get_concrete_function(tf.ones((2, 3, 4)))

        calls = []
        patches = [
            mock.patch.object(
                module, name, lambda *a, run=run, **k: calls.append(1) or run(*a, **k)
            )
            for module, name, run in (
                (engine, "recur", engine.recur),
                (inference, "infer", inference.infer),
            )
        ]
        with patches[0], patches[1]:
            for options, fast in (
                ({"training": True}, True),
                ({"training": False}, False),
                ({}, False),
            ):
                layer = GatedRNN(LayerNormLSTMCell(4))
                trace(lambda x, layer=layer, o=options: layer(x, **o))
                self.assertEqual(bool(calls), fast, options)
                calls.clear()
            layer = GatedRNN(LayerNormLSTMCell(4), unroll=True)
            trace(lambda x: layer(x, training=True))
            GatedRNN(LayerNormLSTMCell(4))(tf.ones((2, 3, 4)), training=True)

            class OwnNoise(LayerNormLSTMCell):
                def draw_dropout_masks(self, batch_size):
                    return {}

            for cell in (OwnNoise(4), LayerNormLSTMCell(4, dtype="mixed_bfloat16")):
                layer = GatedRNN(cell)
                trace(lambda x, layer=layer: layer(x, training=True))
            self.assertEmpty(calls)
            for length, fast in ((traced_once.FEW, False), (traced_once.FEW + 1, True)):
                x, y = np.ones((2, length, 4)), np.ones((2, 4))
                model = keras.Sequential([keras.Input((None, 4)), LayerNormLSTM(4)])
                model.compile("sgd", "mse", steps_per_execution=1 + fast)
                model.export(os.path.join(self.get_temp_dir(), "model"), verbose=False)
                tf.function(model)(x)
                self.assertEmpty(calls)
                for run in (model.predict, partial(model.evaluate, y=y)):
                    run(x, verbose=0)
                    self.assertEqual(bool(calls), fast)
                    calls.clear()
                model.fit(x, y, verbose=0)
                self.assertNotEmpty(calls)
                calls.clear()

    def test_eager_calls_are_traced_once(self):
        """With current weights, gradients, other shapes, and in a scope of other weights."""
        way = {"go_backwards": True, "zero_output_for_mask": True, "return_sequences": True}
        for make in (CELLS["layer norm LSTM"], CELLS["stack"]):
            by_keras, ours = pair(make, **way)
            rng = np.random.default_rng(0)
            for batch, length in ((2, 17), (3, 20), (3, 18)):
                x = tf.constant(rng.standard_normal((batch, length, 4)).astype("float32"))
                mask = tf.constant(rng.random((batch, length)) < 0.7)
                found = []
                for layer in (by_keras, ours):
                    layer.weights[1].assign(0.9 * layer.weights[1])
                    weights = [weight.value for weight in layer.weights]
                    with tf.GradientTape() as tape:
                        y = layer(x, mask=mask)
                    found.append([y, *tape.gradient(y, weights)])
                self.assertAllClose(*found, 1e-4, 1e-4)
            ones = [(weight, tf.ones(weight.shape)) for weight in ours.weights]
            with keras.StatelessScope(ones):
                scoped = ours(x, mask=mask)
            self.assertNotAllClose(scoped, y)
            self.assertAllClose(ours(x, mask=mask), y)
            for cell in ours.cells:
                (function,) = traced_once.known(cell).values()
                self.assertLessEqual(function.experimental_get_tracing_count(), 3)

    def test_stateful(self):
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((4, 5, 4)), rng.standard_normal((4, 6))
        found = []
        for layer in pair(CELLS["hyper LSTM"], batch_size=4, stateful=True):
            model = keras.Sequential([keras.Input((5, 4), batch_size=4), layer])
            mode = {"jit_compile": False} if isinstance(layer, GatedRNN) else {"run_eagerly": True}
            model.compile(keras.optimizers.SGD(0.1), "mse", **mode)
            for _ in range(3):
                model.train_on_batch(x, y)
            found.append([*layer.states, *layer.weights])
        for a, b in zip(*found, strict=True):
            self.assertAllClose(a, b, 1e-5, 1e-5)

    def test_stateful_with_several_cells(self):
        layer = GatedRNN([LayerNormLSTMCell(3), HyperGRUCell(2, **SMALL)], stateful=True)
        x = tf.ones((2, 5, 4))
        first = layer(x)
        self.assertNotAllClose(layer(x), first)
        layer.reset_state()
        self.assertAllClose(layer(x), first)

    def test_dropout_masks(self):
        """New ones for each step and call, one for forward and backward, kept at their rate."""
        keras.utils.set_random_seed(0)
        for jit, checkpoint_every in ((False, None), (True, None), (False, 4)):
            cell = LayerNormLSTMCell(
                400, layer_norm=False, recurrent_dropout=0.25, activation="relu", use_bias=False
            )
            layer = GatedRNN(cell, return_sequences=True, checkpoint_every=checkpoint_every)
            layer.build((None, None, 1))
            kernel = np.zeros((4, 1, 400))
            kernel[2] = 1  # the candidate is the input, the gates are open by half
            cell.kernel.assign(kernel)
            cell.recurrent_kernel.assign(np.zeros((4, 400, 400)))
            cell.forget_bias = -1e9  # nothing is kept from the step before

            @tf.function(jit_compile=jit)
            def run(x, layer=layer):
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    y = layer(x, training=True)
                return y, tape.gradient(y, x)

            x = tf.ones((8, 6, 1))
            (first, gradient), (second, _) = run(x), run(x)
            kept = np.asarray(first) > 0
            self.assertAllClose(kept.mean(), 0.75, atol=0.02)
            for other in (np.asarray(second) > 0, np.roll(kept, 1, axis=1), np.roll(kept, 1, 0)):
                self.assertAllClose((kept == other).mean(), 0.75**2 + 0.25**2, atol=0.02)
            # y = sigma(0) relu(sigma(0) mask x): the same mask decides over the gradient
            self.assertAllClose(np.asarray(gradient)[..., 0], np.asarray(first).sum(-1), 1e-4, 1e-3)

    def test_second_gradients_are_refused(self):
        layer = GatedRNN(LayerNormLSTMCell(4))
        layer.build((None, None, 4))

        @tf.function
        def second(x, training):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    y = tf.reduce_sum(layer(x, training=training) ** 2)
                loss = tf.reduce_sum(inner.gradient(y, x) ** 2)
            return outer.gradient(loss, x)

        x = tf.constant(np.random.default_rng(0).standard_normal((2, 3, 4)).astype("float32"))
        with self.assertRaisesRegex(NotImplementedError, "cannot be differentiated again"):
            second(x, True)
        self.assertGreater(np.abs(second(x, False)).max(), 0)

    def test_mixed_precision(self):
        """No less exact than Keras' loop with the same cell, measured against float32."""
        x = np.random.default_rng(0).standard_normal((4, 30, 4)).astype("float32")
        options = {"return_sequences": True, "return_state": True}
        wide = pair(CELLS["hyper LSTM"], **options)[0]
        for policy in ("mixed_bfloat16", "mixed_float16"):
            keras.config.set_dtype_policy(policy)
            try:
                narrow = pair(CELLS["hyper LSTM"], **options)
            finally:
                keras.config.set_dtype_policy("float32")
            truth, by_keras, ours = (
                values_and_gradients(
                    layer, tf.constant(x), layer.get_initial_state(4), None, jit=False
                )
                for layer in (wide, *narrow)
            )
            errors = [
                sum(
                    np.linalg.norm(np.subtract(tf.cast(b, "float32"), a)) / np.linalg.norm(a)
                    for a, b in zip(truth, found, strict=True)
                )
                for found in (by_keras, ours)
            ]
            self.assertLess(errors[1], 1.3 * errors[0], policy)

    def test_shared_and_exported(self):
        """Before training and after it."""
        keras.utils.set_random_seed(0)
        layer = GatedRNN(LayerNormLSTMCell(6, recurrent_dropout=0.2), return_sequences=True)
        inputs = keras.Input((None, 4))
        model = keras.Model(inputs, layer(keras.layers.Dense(4)(layer(inputs)[..., :4])))
        model.compile(keras.optimizers.SGD(0.3), "mse")
        rng = np.random.default_rng(0)
        data = rng.standard_normal((4, 7, 4)).astype("float32")
        path = os.path.join(self.get_temp_dir(), "model")
        for _ in range(2):
            model.export(path, verbose=False)
            loaded = tf.saved_model.load(path)
            self.assertAllClose(loaded.serve(data), model(data), 1e-5, 1e-5)
            losses = model.fit(data, np.ones((4, 7, 6)), epochs=3, verbose=0).history["loss"]
            self.assertLess(losses[-1], losses[0])

    def test_bad_cell(self):
        with self.assertRaisesRegex(
            ValueError, "`cell` must be a GatedCell or a list of them. Received: cell=<LSTM"
        ):
            GatedRNN(keras.layers.LSTMCell(3))
        with pytest.raises(ValueError, match="`dropout` must be a number"):
            HyperGRU(3, dropout=2)

    def test_float32_states_are_states(self):
        cell = LayerNormLSTMCell(4)
        cell.float32_states = ("memory",)
        with self.assertRaisesRegex(ValueError, "`float32_states` .*Received: .*'memory'"):
            GatedRNN(cell)
