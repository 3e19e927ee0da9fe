"""What every recurrent cell and layer does; the equations are in test_equations.py."""

import inspect
import os
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from random_weights import randomize

from keras_hypernets import (
    HyperGRUCell,
    HyperLSTM,
    HyperLSTMCell,
    HyperSimpleRNN,
    HyperSimpleRNNCell,
    LayerNormLSTMCell,
)
from keras_hypernets.converters import load_keras_lstm

SMALL = {"hyper_units": 4, "embedding_dim": 2}


def rnn(cell, **options):
    return keras.layers.RNN(cell, return_sequences=True, **options)


class PlainLimits(tf.test.TestCase):
    """With the hypernetwork off, each cell is the Keras layer of its kind."""

    def switch_off(self, cell):
        """d = 1 and b = b_0, whatever the small cell says."""
        weights = {weight.name: weight for weight in cell.weights}
        gates, z = cell.gates, cell.embedding_dim
        for name in ("embedding_kernel", "embedding_bias", "scale_kernel"):
            weights[name].assign(ops.zeros_like(weights[name]))
        weights["embedding_bias"].assign(ops.ones_like(weights["embedding_bias"]))
        scale = np.zeros((3 * gates, z, cell.units))
        scale[: 2 * gates] = 1 / z
        weights["scale_kernel"].assign(scale)
        return weights

    def compare(self, cell, plain, set_weights):
        x = np.random.default_rng(0).standard_normal((3, 7, 5)).astype(cell.compute_dtype)
        layer = rnn(cell, dtype=cell.dtype_policy)
        layer(x), plain(x)
        randomize(cell)
        set_weights()
        tolerance = 1e-12 if cell.compute_dtype == "float64" else 1e-6
        self.assertAllClose(layer(x), plain(x), tolerance, tolerance)

    def test_layer_norm_lstm_cell_is_the_lstm(self):
        for dtype in ("float32", "float64"):
            for options in ({}, {"use_bias": False}, {"unit_forget_bias": False}):
                cell = LayerNormLSTMCell(6, layer_norm=False, dtype=dtype)
                plain = keras.layers.LSTM(6, return_sequences=True, dtype=dtype, **options)
                self.compare(cell, plain, lambda c=cell, p=plain: load_keras_lstm(c, p))

    def test_hyper_lstm_cell(self):
        cell = HyperLSTMCell(6, 4, 3, layer_norm=False, dtype="float64")
        plain = keras.layers.LSTM(6, return_sequences=True, dtype="float64")

        def set_weights():
            weights = self.switch_off(cell)
            lstm = LayerNormLSTMCell(6, layer_norm=False, dtype="float64")
            lstm.build((None, 5))
            load_keras_lstm(lstm, plain)
            for weight in lstm.weights:
                weights[weight.name].assign(weight)

        self.compare(cell, plain, set_weights)

    def test_hyper_gru_cell(self):
        cell = HyperGRUCell(6, 4, 3, layer_norm=False, dtype="float64")
        plain = keras.layers.GRU(6, return_sequences=True, dtype="float64")

        def set_weights():
            weights = self.switch_off(cell)
            randomize(plain)
            kernel, recurrent, (of_x, of_h) = plain.get_weights()
            weights["kernel"].assign(np.split(kernel, 3, axis=1))
            weights["recurrent_kernel"].assign(np.split(recurrent, 3, axis=1))
            (u, r, g), (u_h, r_h, g_h) = np.split(of_x, 3), np.split(of_h, 3)
            weights["bias"].assign([u + u_h, r + r_h, g, g_h])

        self.compare(cell, plain, set_weights)

    def test_hyper_simple_rnn_cell(self):
        cell = HyperSimpleRNNCell(6, 4, 3, dtype="float64")
        plain = keras.layers.SimpleRNN(6, return_sequences=True, dtype="float64")

        def set_weights():
            weights = self.switch_off(cell)
            randomize(plain)
            for name, value in zip(
                ("kernel", "recurrent_kernel", "bias"), plain.get_weights(), strict=True
            ):
                weights[name].assign(value[None])

        self.compare(cell, plain, set_weights)


class HyperLSTMTest(tf.test.TestCase):
    def test_weights_have_the_names_and_order_of_rnn_of_the_cell(self):
        layer, around = HyperLSTM(8, **SMALL), keras.layers.RNN(HyperLSTMCell(8, **SMALL))
        for one in (layer, around):
            one.build((None, None, 3))
        self.assertEqual([w.name for w in layer.weights], [w.name for w in around.weights])

    def test_tensorflow_checkpoints_hold_every_weight(self):
        models = [keras.Sequential([keras.Input((None, 3)), HyperLSTM(8, **SMALL)]) for _ in "ab"]
        randomize(models[0])
        path = os.path.join(self.get_temp_dir(), "checkpoint")
        tf.train.Checkpoint(model=models[0]).write(path)
        tf.train.Checkpoint(model=models[1]).read(path).assert_consumed()
        for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
            self.assertAllEqual(a, b)

    def test_every_argument_is_in_the_config(self):
        names = ("kernel", "recurrent", "bias", "hyper_kernel", "hyper_recurrent", "hyper_bias")
        options = {
            "hyper_units": 5,
            "embedding_dim": 3,
            "weight_generation": "full",
            "layer_norm": False,
            "layer_norm_epsilon": 1e-5,
            "forget_bias": 0.5,
            "hyper_forget_bias": 0.7,
            "activation": "relu",
            "recurrent_activation": "hard_sigmoid",
            "use_bias": False,
            "hyper_initializer": "paper",
            "recurrent_dropout": 0.1,
            "hyper_recurrent_dropout": 0.2,
            "seed": 7,
            **{
                f"{name}_initializer": keras.initializers.Constant(n)
                for n, name in enumerate(names)
            },
            **{f"{name}_regularizer": keras.regularizers.L2(n + 1) for n, name in enumerate(names)},
            **{f"{name}_constraint": keras.constraints.MaxNorm(n) for n, name in enumerate(names)},
        }
        of_layer = {
            "dropout": 0.3,
            "return_sequences": True,
            "return_state": True,
            "go_backwards": True,
            "stateful": True,
            "unroll": True,
            "zero_output_for_mask": True,
            "checkpoint_every": 50,
            "activity_regularizer": keras.regularizers.L1(3),
        }
        for make, given in ((HyperLSTMCell, options), (HyperLSTM, {**options, **of_layer})):
            config = make(6, **given).get_config()
            usual = make(6).get_config()
            for name in given:
                self.assertNotEqual(config[name], usual[name], name)
            self.assertEqual(make.from_config(config).get_config(), config)
            arguments = set(config) - {"name", "trainable", "dtype"}
            self.assertEqual(arguments, {"units", *given})
            shown = set(inspect.signature(make).parameters)
            self.assertEqual(shown, {"units", *given, "kwargs"})

    def test_signatures_of_subclasses(self):
        class Wider(HyperLSTM):
            def __init__(self, units, factor=2, **kwargs):
                super().__init__(factor * units, **kwargs)

        self.assertEqual(Wider(4, dropout=0.1).units, 8)
        shown = list(inspect.signature(Wider).parameters)
        self.assertEqual(shown[:3], ["units", "factor", "dropout"])
        names = list(inspect.signature(HyperLSTM).parameters)
        self.assertEqual(names[:3], ["units", "hyper_units", "embedding_dim"])
        self.assertNotIn("cell", names)
        # Of a layer it is that of its call, which tf.function reads.
        of_call = inspect.signature(keras.layers.LSTM(4))
        self.assertEqual(inspect.signature(HyperLSTM(4)), of_call)

    def test_attributes_of_the_layer(self):
        layer = HyperLSTM(6, 5, 3, forget_bias=0.5, activation="relu")
        self.assertEqual((layer.units, layer.hyper_units, layer.embedding_dim), (6, 5, 3))
        self.assertEqual((layer.forget_bias, layer.activation), (0.5, keras.activations.relu))

    def test_hyper_units_follow_units(self):
        for units, hyper_units in ((8, 8), (64, 16), (256, 32), (1000, 125)):
            self.assertEqual(HyperLSTM(units).hyper_units, hyper_units)
            self.assertEqual(HyperGRUCell(units).hyper_units, hyper_units)
        layer = HyperLSTM(64)
        layer.build((None, None, 32))
        self.assertEqual(layer.count_params(), 48_352)
        self.assertEqual(sum(w.numpy().size for w in layer.main_weights), 25_472)

    def test_main_and_hyper_weights(self):
        for cell in (HyperLSTMCell(8, **SMALL), HyperGRUCell(8, weight_generation="full")):
            cell.build((None, 3))
            main = {weight.name for weight in cell.main_weights}
            norms = {"gate_gamma", "gate_beta"}
            norms |= {"cell_gamma", "cell_beta"} if isinstance(cell, HyperLSTMCell) else set()
            self.assertEqual(main, {"kernel", "recurrent_kernel", "bias", *norms})
            both = [*cell.main_weights, *cell.hyper_weights]
            self.assertEqual(sorted(map(id, both)), sorted(map(id, cell.weights)))

    def test_there_are_no_weights_to_freeze_before_the_cell_is_built(self):
        for name in ("main_weights", "hyper_weights"):
            with self.assertRaisesRegex(ValueError, f"`{name}` need a built cell"):
                getattr(HyperLSTM(8), name)

    def test_the_hypernetwork_trains_alone(self):
        layer = HyperLSTM(8, **SMALL)
        model = keras.Sequential([keras.Input((4, 3)), layer, keras.layers.Dense(1)])
        for weight in layer.main_weights:
            weight.trainable = False
        before = [[w.numpy() for w in ws] for ws in (layer.main_weights, layer.hyper_weights)]
        model.compile(keras.optimizers.Adam(0.1), "mse", run_eagerly=True)
        model.fit(np.ones((2, 4, 3)), np.ones((2, 1)), verbose=0)
        for old, weight in zip(before[0], layer.main_weights, strict=True):
            self.assertAllEqual(old, weight)
        changed = [
            np.any(o != w.numpy()) for o, w in zip(before[1], layer.hyper_weights, strict=True)
        ]
        self.assertTrue(all(changed))

    def test_errors_name_what_the_user_made(self):
        with self.assertRaisesRegex(ValueError, "passed to HyperLSTM: {'hidden': 3}"):
            HyperLSTM(8, hidden=3)
        with self.assertRaisesRegex(
            ValueError, "`recurrent_dropout` must be 0, since a simple RNN"
        ):
            HyperSimpleRNN(8, recurrent_dropout=0.1)

    def test_dropout_draws_one_input_mask_per_sequence(self):
        layer = HyperLSTM(4, dropout=0.5, seed=2, return_sequences=True, **SMALL)
        seen = []
        original = keras.layers.RNN.inner_loop

        def spy(self, sequences, *args, **kwargs):
            seen.append(np.array(sequences))
            return original(self, sequences, *args, **kwargs)

        x = np.ones((5, 6, 40), "float32")
        with mock.patch.object(keras.layers.RNN, "inner_loop", spy):
            layer(x, training=True)
            layer(x, training=True)
            layer(x, training=False)
        first, second, none = seen
        self.assertAllEqual(first, np.broadcast_to(first[:, :1], first.shape))
        self.assertAllEqual(np.unique(first), [0, 2])
        self.assertNotAllEqual(first, second)
        self.assertNotAllEqual(first[0], first[1])
        self.assertAllEqual(none, x)

    def test_activity_regularizer(self):
        layer = HyperLSTM(4, activity_regularizer=keras.regularizers.L2(0.5), **SMALL)
        x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("float32")
        expected = 0.5 * np.sum(np.square(layer(x))) / 2
        self.assertAllClose([float(loss) for loss in layer.losses], [expected])

    def test_regularizer_and_constraint_in_fit(self):
        x = np.random.default_rng(0).standard_normal((4, 5, 3)).astype("float32")
        layer = HyperLSTM(
            4,
            kernel_regularizer=keras.regularizers.L2(0.5),
            hyper_recurrent_constraint=keras.constraints.MaxNorm(0.3),
            **SMALL,
        )
        model = keras.Sequential([keras.Input((5, 3)), layer])
        model.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
        target = np.array(model(x))
        expected = 0.5 * np.sum(np.square(layer.cell.kernel))
        self.assertAllClose(model.evaluate(x, target, verbose=0), expected, 1e-5)
        model.fit(x, target, verbose=0)
        norms = np.linalg.norm(layer.cell.hyper_recurrent_kernel, axis=1)
        self.assertAllLessEqual(norms, 0.3 + 1e-5)


class InitialValues(tf.test.TestCase):
    def weights(self, cell, inputs=5):
        cell.build((None, inputs))
        return {w.name: keras.ops.convert_to_numpy(w) for w in cell.weights}

    def test_weights_that_share_a_seeded_initializer_differ(self):
        initializer = keras.initializers.RandomNormal(seed=1)
        cell = HyperLSTMCell(5, 4, 2, hyper_kernel_initializer=initializer)
        weights = self.weights(cell)
        self.assertNotAllClose(weights["hyper_kernel"], weights["hyper_state_kernel"])
        again = HyperLSTMCell(5, 4, 2, hyper_kernel_initializer=initializer)
        self.assertAllEqual(self.weights(again)["hyper_kernel"], weights["hyper_kernel"])

    def test_paper(self):
        """Appendix A.2.3."""
        cell = HyperLSTMCell(64, 32, 4, hyper_initializer="paper")
        weights = self.weights(cell, inputs=64)
        for name in ("kernel", "recurrent_kernel", "hyper_recurrent_kernel"):
            values = np.linalg.svd(weights[name], compute_uv=False)
            self.assertAllClose(values, np.ones_like(values), 1e-4, 1e-4)
        for name in ("hyper_kernel", "hyper_state_kernel"):
            values = np.linalg.svd(weights[name], compute_uv=False)
            self.assertAllClose(values, np.ones_like(values), 1e-4, 1e-4)
        self.assertAllEqual(weights["embedding_kernel"][:, :32], np.zeros((32, 32)))
        self.assertAllClose(weights["embedding_kernel"][:, 32:].std(), 0.01, 0.15)
        self.assertAllEqual(weights["embedding_bias"], np.ones(32))
        self.assertAllClose(weights["scale_kernel"][:8], np.full((8, 4, 64), 0.025))
        self.assertAllEqual(weights["scale_kernel"][8:], np.zeros((4, 4, 64)))
        generated = cell.generated_weights(np.ones((2, 3, 64), "float32"))
        self.assertAllClose(generated["d_x"], np.full((2, 3, 4, 64), 0.1))
        self.assertAllClose(generated["d_h"], np.full((2, 3, 4, 64), 0.1))
        self.assertAllEqual(generated["b"], np.zeros((2, 3, 4, 64)))

    def test_full_generation_starts_with_the_variance_of_one_kernel(self):
        cell = HyperLSTMCell(100, 32, 16, "full", hyper_initializer="paper")
        weights = self.weights(cell, inputs=100)
        z = weights["embedding_bias"][:64].reshape(4, 16)
        kernel = np.einsum("gz,gziu->giu", z, weights["kernel"].reshape(4, 16, 100, 100))
        self.assertAllClose(kernel.std(), 0.1, 0.02)  # an orthogonal matrix of 100 units

    def test_the_papers_scale_maps_stay_of_rank_one_and_the_defaults_do_not(self):
        """With equal coordinates at the start all coordinates get equal gradients for ever."""
        keras.utils.set_random_seed(0)
        rng = np.random.default_rng(0)
        x = rng.standard_normal((32, 8, 3)).astype("float32")
        y = np.cumsum(x, axis=1) * x
        cell = HyperLSTMCell(8, 4, 4)
        model = keras.Sequential([keras.Input((8, 3)), rnn(cell), keras.layers.Dense(3)])
        model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
        ratios = []
        for hyper_initializer in ("paper", "default"):
            start = HyperLSTMCell(8, 4, 4, hyper_initializer=hyper_initializer)
            start.build((None, 3))
            cell.set_weights(start.get_weights())
            model.fit(x, y, epochs=20, verbose=0)
            scale = {w.name: keras.ops.convert_to_numpy(w) for w in cell.weights}["scale_kernel"]
            values = np.linalg.svd(scale[:8], compute_uv=False)
            ratios.append(values[:, 1] / values[:, 0])
        self.assertAllLess(ratios[0], 1e-5)
        self.assertAllGreater(ratios[1], 0.05)
