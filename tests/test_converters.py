"""The cells against outputs and gradients of the original TensorFlow 1 code."""

import os

import keras
import numpy as np
import tensorflow as tf

from keras_hypernets import HyperGRUCell, HyperLSTMCell, LayerNormLSTMCell
from keras_hypernets.converters import load_keras_lstm, load_supercell_checkpoint

DATA = os.path.join(os.path.dirname(__file__), "data", "supercell")
GATES = (0, 2, 1, 3)


class Supercell(tf.test.TestCase):
    def reference(self, name):
        with np.load(os.path.join(DATA, name, "expected.npz")) as expected:
            return os.path.join(DATA, name, "model.ckpt"), dict(expected)

    def close(self, actual, expected):
        self.assertAllLessEqual(np.abs(actual - expected) - 1e-5 * (1 + np.abs(expected)), 0)

    def built(self, cell, inputs=5):
        cell.build((None, inputs))
        cell.built = True
        return cell

    def check(self, name, cell, scope, gradient_names):
        """Outputs, states, and the gradients of sum(y^2) for the input and every variable."""
        checkpoint, expected = self.reference(name)
        load_supercell_checkpoint(self.built(cell), checkpoint, scope)
        units = cell.units
        x = tf.constant(expected["x"])
        total_h, total_c = expected["h0"], expected["c0"]
        states = [total_h[:, :units], total_c[:, :units], total_h[:, units:], total_c[:, units:]]
        states = [tf.constant(state) for state in states[: len(cell.state_names)]]
        layer = keras.layers.RNN(cell, return_sequences=True, return_state=True)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, *new_states = layer(x, initial_state=states)
            loss = tf.reduce_sum(tf.square(y))
        weights = {weight.name: weight.value for weight in cell.weights}
        grad_x, gradients = tape.gradient(loss, [x, weights])
        self.close(y, expected["y"])
        self.close(np.concatenate(new_states[::2], axis=1), expected["h"])
        self.close(np.concatenate(new_states[1::2], axis=1), expected["c"])
        self.close(grad_x, expected["grad_x"])
        gradients = {key: np.array(value) for key, value in gradients.items()}
        names = {key[len("grad/") :] for key in expected if key.startswith("grad/")}
        self.assertEqual({f"{scope}/{name}" for name in gradient_names}, names)
        for name, ours in gradient_names.items():
            self.close(ours(gradients), expected[f"grad/{scope}/{name}"])

    @staticmethod
    def flat(*parts):
        """Gate-major (4, ..., units) back to (..., 4 * units), the rows of several stacked."""

        def convert(gradients):
            rows = np.concatenate([gradients[part] for part in parts], axis=-2)
            return np.concatenate([rows[gate] for gate in GATES], axis=-1)

        return convert

    @staticmethod
    def flat_vector(name):
        return lambda gradients: np.concatenate([gradients[name][gate] for gate in GATES])

    def lstm_names(self, prefix, kernel, recurrent, norm, hyper=""):
        return {
            f"{prefix}W_xh": self.flat(*kernel),
            f"{prefix}{recurrent}": self.flat(f"{hyper}recurrent_kernel"),
            f"{prefix}bias": self.flat_vector(f"{hyper}bias"),
            f"{prefix}{norm}/ln_gamma": self.flat_vector(f"{hyper}gate_gamma"),
            f"{prefix}{norm}/ln_beta": self.flat_vector(f"{hyper}gate_beta"),
            f"{prefix}ln_c/ln_gamma": lambda g: g[f"{hyper}cell_gamma"],
            f"{prefix}ln_c/ln_beta": lambda g: g[f"{hyper}cell_beta"],
        }

    def test_layer_norm_lstm(self):
        names = self.lstm_names("", ["kernel"], "W_hh_i", "ln")
        self.check("lstm_layer_norm", LayerNormLSTMCell(8), "rnn/LSTMCell", names)

    def test_hyper_lstm(self):
        names = self.lstm_names("", ["kernel"], "W_hh", "ln_all")
        small = ["hyper_kernel", "hyper_state_kernel"]
        names.update(self.lstm_names("LSTMCell/", small, "W_hh_i", "ln", "hyper_"))
        z = 4
        for p, path in enumerate("xhb"):
            for g, gate in enumerate("ifjo"):
                block = p * 4 + g
                columns = slice(block * z, (block + 1) * z)
                linear, scale = ("zb", "beta") if path == "b" else ("zw", "alpha")
                name = f"hyper_{gate}{path}"
                names[f"{name}/{linear}/super_linear_w"] = lambda gradients, c=columns: gradients[
                    "embedding_kernel"
                ][:, c]
                names[f"{name}/{scale}/super_linear_w"] = lambda gradients, b=block: gradients[
                    "scale_kernel"
                ][b]
                if path != "b":
                    names[f"{name}/zw/super_linear_b"] = lambda gradients, c=columns: gradients[
                        "embedding_bias"
                    ][c]
        self.check("hyper_lstm_layer_norm", HyperLSTMCell(8, 6, z), "rnn/HyperLSTMCell", names)

    def make_checkpoint(self, source, change):
        """Rewrites a reference checkpoint with other variables."""
        reader = tf.train.load_checkpoint(self.reference(source)[0])
        values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
        change(values)
        path = os.path.join(self.get_temp_dir(), "changed.ckpt")
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            variables = [
                tf.compat.v1.get_variable(name, initializer=value) for name, value in values.items()
            ]
            session.run(tf.compat.v1.global_variables_initializer())
            return tf.compat.v1.train.Saver(variables).save(session, path), values

    def test_without_layer_norm_and_with_another_forget_bias(self):
        """supercell gives its forget bias to the main LSTM alone; the small one's is 1.0."""

        def drop_norms(values):
            for name in [name for name in values if "/ln" in name]:
                del values[name]

        scope = "rnn/HyperLSTMCell"
        checkpoint, values = self.make_checkpoint("hyper_lstm_layer_norm", drop_norms)
        cell = self.built(HyperLSTMCell(8, 6, 4, layer_norm=False, forget_bias=0.3))
        load_supercell_checkpoint(cell, checkpoint, scope + "/")
        value = {name.removeprefix(f"{scope}/"): v.astype("float64") for name, v in values.items()}

        def sigmoid(a):
            return 1 / (1 + np.exp(-a))

        def lstm(i, j, f, o, c, forget_bias):
            c = c * sigmoid(f + forget_bias) + sigmoid(i) * np.tanh(j)
            return np.tanh(c) * sigmoid(o), c

        rng = np.random.default_rng(0)
        x, h, c, r, rc = (rng.standard_normal((3, n)) for n in (5, 8, 8, 6, 6))
        full = np.concatenate([value["LSTMCell/W_xh"], value["LSTMCell/W_hh_i"]])
        gates = np.concatenate([x, h, r], 1) @ full + value["LSTMCell/bias"]
        new_r, new_rc = lstm(*np.split(gates, 4, 1), rc, 1.0)
        of_x = np.split(x @ value["W_xh"], 4, 1)
        of_h = np.split(h @ value["W_hh"], 4, 1)
        bias = np.split(value["bias"], 4)
        gates = []
        for n, gate in enumerate("ijfo"):

            def linear(name, a):
                return a @ value[f"{name}/super_linear_w"] + value.get(f"{name}/super_linear_b", 0)

            x_scale = linear(f"hyper_{gate}x/alpha", linear(f"hyper_{gate}x/zw", new_r))
            h_scale = linear(f"hyper_{gate}h/alpha", linear(f"hyper_{gate}h/zw", new_r))
            shift = linear(f"hyper_{gate}b/beta", linear(f"hyper_{gate}b/zb", new_r))
            gates.append(x_scale * of_x[n] + h_scale * of_h[n] + shift + bias[n])
        new_h, new_c = lstm(*gates, c, 0.3)
        states = [tf.constant(s.astype("float32")) for s in (h, c, r, rc)]
        _, ours = cell(tf.constant(x.astype("float32")), states)
        for a, b in zip(ours, (new_h, new_c, new_r, new_rc), strict=True):
            self.close(a, b)

    def test_a_missing_or_misshapen_variable_is_named(self):
        checkpoint, _ = self.make_checkpoint(
            "lstm_layer_norm", lambda values: values.pop("rnn/LSTMCell/ln_c/ln_beta")
        )
        with self.assertRaisesRegex(ValueError, "no variable 'rnn/LSTMCell/ln_c/ln_beta'"):
            load_supercell_checkpoint(self.built(LayerNormLSTMCell(8)), checkpoint, "rnn/LSTMCell")
        checkpoint, _ = self.reference("lstm_layer_norm")
        cell = self.built(LayerNormLSTMCell(9))
        before = cell.get_weights()
        message = r"'rnn/LSTMCell/W_xh' must have the shape \(5, 36\) .* Received: \(5, 32\)"
        with self.assertRaisesRegex(ValueError, message):
            load_supercell_checkpoint(cell, checkpoint, "rnn/LSTMCell")
        for a, b in zip(before, cell.get_weights(), strict=True):
            self.assertAllEqual(a, b)
        with self.assertRaisesRegex(ValueError, "no variable 'wrong/W_xh'"):
            load_supercell_checkpoint(self.built(LayerNormLSTMCell(8)), checkpoint, "wrong")

    def test_every_misshapen_variable_is_named(self):
        scope = "rnn/HyperLSTMCell"
        for name, shape in (
            ("W_hh", (8, 30)),
            ("bias", ()),
            ("LSTMCell/W_xh", (12, 24)),
            ("hyper_ix/zw/super_linear_w", (6, 3)),
            ("hyper_fb/beta/super_linear_w", (4, 9)),
            ("ln_c/ln_gamma", (1, 8)),
        ):
            zeros = {f"{scope}/{name}": np.zeros(shape, "float32")}
            checkpoint, _ = self.make_checkpoint(
                "hyper_lstm_layer_norm", lambda v, z=zeros: v.update(z)
            )
            with self.assertRaisesRegex(ValueError, f"'{scope}/{name}' must have the shape"):
                load_supercell_checkpoint(self.built(HyperLSTMCell(8, 6, 4)), checkpoint, scope)

    def test_a_checkpoint_of_another_architecture(self):
        for name, cell, scope in (
            ("hyper_lstm_layer_norm", HyperLSTMCell(8, 6, 4, layer_norm=False), "HyperLSTMCell"),
            ("lstm_layer_norm", LayerNormLSTMCell(8, layer_norm=False), "LSTMCell"),
        ):
            with self.assertRaisesRegex(ValueError, "with or without layer norm. .*/ln"):
                load_supercell_checkpoint(
                    self.built(cell), self.reference(name)[0], f"/rnn/{scope}/"
                )

    def test_slots_of_an_optimizer_and_the_index_file(self):
        checkpoint, _ = self.make_checkpoint(
            "lstm_layer_norm",
            lambda v: v.update({f"{name}/Adam": value for name, value in v.copy().items()}),
        )
        cell = self.built(LayerNormLSTMCell(8))
        load_supercell_checkpoint(cell, f"{checkpoint}.index", "rnn/LSTMCell")
        other = self.built(LayerNormLSTMCell(8))
        load_supercell_checkpoint(other, self.reference("lstm_layer_norm")[0], "rnn/LSTMCell")
        for a, b in zip(cell.get_weights(), other.get_weights(), strict=True):
            self.assertAllEqual(a, b)

    def test_a_cut_off_checkpoint(self):
        checkpoint, _ = self.make_checkpoint("lstm_layer_norm", lambda values: None)
        data = f"{checkpoint}.data-00000-of-00001"
        with open(data, "r+b") as file:
            file.truncate(100)
        with self.assertRaisesRegex(ValueError, "must be the path prefix of a TensorFlow check"):
            load_supercell_checkpoint(self.built(LayerNormLSTMCell(8)), checkpoint, "rnn/LSTMCell")

    def test_bad_arguments(self):
        checkpoint, _ = self.reference("hyper_lstm_layer_norm")
        for cell, path, message in (
            (HyperLSTMCell(8, 6, 4), checkpoint, "must be a built HyperLSTMCell or LayerNormLSTM"),
            (self.built(HyperGRUCell(8, 6, 4)), checkpoint, "must be a built HyperLSTMCell"),
            (self.built(HyperLSTMCell(8, 6, 4, "full")), checkpoint, "weight_generation='full'"),
            (self.built(HyperLSTMCell(8, 6, 4, use_bias=False)), checkpoint, "use_bias=False"),
            (self.built(HyperLSTMCell(8, 6, 4)), checkpoint + "x", "must be the path prefix"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                load_supercell_checkpoint(cell, path, "rnn/HyperLSTMCell")
        with self.assertRaisesRegex(ValueError, "`scope` must be a string. Received: scope=None"):
            load_supercell_checkpoint(self.built(HyperLSTMCell(8, 6, 4)), checkpoint, None)


class KerasLSTM(tf.test.TestCase):
    """That the loaded cell computes the same is tested in test_recurrent_cells.py."""

    def test_bad_arguments(self):
        layer = keras.layers.LSTM(4)
        layer.build((None, None, 3))

        def cell(**options):
            one = LayerNormLSTMCell(4, **{"layer_norm": False, **options})
            one.build((None, 3))
            one.built = True
            return one

        for target, source, message in (
            (cell(layer_norm=True), layer, "must have `layer_norm=False`"),
            (LayerNormLSTMCell(4, layer_norm=False), layer, "must be a built LayerNormLSTMCell"),
            (cell(), keras.layers.LSTM(4), "must be a built keras.layers.LSTM"),
            (cell(), keras.layers.Dense(4), "must be a built keras.layers.LSTM"),
            (cell(activation="relu"), layer, "must have the `activation` of the layer"),
            (cell(use_bias=False, forget_bias=0.5), layer, "use_bias=False, forget_bias=0.5"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                load_keras_lstm(target, source)
        wide = keras.layers.LSTM(5)
        wide.build((None, None, 3))
        with self.assertRaisesRegex(
            ValueError, r"\(4, 3, 4\), but the Keras layer holds \(4, 3, 5"
        ):
            load_keras_lstm(cell(), wide)

    def test_no_bias_on_either_side(self):
        layer = keras.layers.LSTMCell(4, use_bias=False)
        layer.build((None, 3))
        cell = LayerNormLSTMCell(4, layer_norm=False, use_bias=False, forget_bias=0)
        x, h, c = tf.ones((2, 3)), tf.ones((2, 4)), tf.ones((2, 4))
        cell(x, [h, c])
        load_keras_lstm(cell, layer)
        self.assertAllClose(cell(x, [h, c])[0], layer(x, [h, c])[0])
