"""Every cell against its equations, written out once in plain NumPy (`numpy_reference`)."""

from dataclasses import replace

import keras
import numpy as np
import numpy_reference as reference
import tensorflow as tf
from absl.testing import parameterized
from random_weights import randomize

import keras_hypernets

BATCH, TIME, N_IN, UNITS, HYPER_UNITS, N_Z = 2, 4, 3, 5, 4, 3
EPSILON = 1e-5
FORGET_BIAS, HYPER_FORGET_BIAS = 0.6, 0.9

# class, step of the reference, sizes of the states, gates, rows of bias and layer norm
LAYER_NORM_LSTM = ("LayerNormLSTMCell", reference.lstm_step, [UNITS] * 2, 4, 4)
HYPER_LSTM = (
    "HyperLSTMCell",
    reference.hyper_lstm_step,
    [UNITS, UNITS, HYPER_UNITS, HYPER_UNITS],
    4,
    4,
)
HYPER_GRU = ("HyperGRUCell", reference.hyper_gru_step, [UNITS, HYPER_UNITS], 3, 4)
HYPER_SIMPLE_RNN = (
    "HyperSimpleRNNCell",
    reference.hyper_simple_rnn_step,
    [UNITS, HYPER_UNITS],
    1,
    1,
)


def every_case():
    kinds = [(LAYER_NORM_LSTM, (None,))]
    kinds += [(kind, ("scaling", "full")) for kind in (HYPER_LSTM, HYPER_GRU, HYPER_SIMPLE_RNN)]
    for kind, generations in kinds:
        for generation in generations:
            for layer_norm in (True, False):
                for use_bias in (True, False):
                    words = [kind[0], generation, "layer_norm" if layer_norm else "plain"]
                    words += [] if use_bias else ["no_bias"]
                    name = "_".join(word for word in words if word)
                    yield name, kind, generation, layer_norm, use_bias


CASES = list(every_case())
GENERATING_CASES = [case for case in CASES if case[2]]


def make_cell(kind, generation, layer_norm, use_bias, **more):
    options = more | {"layer_norm": layer_norm, "layer_norm_epsilon": EPSILON, "use_bias": use_bias}
    if generation:
        options |= {"hyper_units": HYPER_UNITS, "embedding_dim": N_Z}
        options |= {"weight_generation": generation}
    if "LSTM" in kind[0]:
        options["forget_bias"] = FORGET_BIAS
        if generation:
            options["hyper_forget_bias"] = HYPER_FORGET_BIAS
    cell = getattr(keras_hypernets, kind[0])(UNITS, dtype="float64", **options)
    cell.build((BATCH, N_IN))
    return cell


def make_settings(generation):
    return reference.Settings(
        weight_generation=generation,
        layer_norm_epsilon=EPSILON,
        forget_bias=FORGET_BIAS,
        hyper_forget_bias=HYPER_FORGET_BIAS,
    )


def expected_shapes(kind, generation, layer_norm, use_bias):
    """Names and shapes of all weights, in their order."""
    name, _, _, gates, rows = kind
    blocks = gates * N_Z if generation == "full" else gates
    shapes = {
        "kernel": (blocks, N_IN, UNITS),
        "recurrent_kernel": (blocks, UNITS, UNITS),
        "bias": (rows, UNITS),
    }
    if generation:
        shapes |= {
            "hyper_kernel": (gates, N_IN, HYPER_UNITS),
            "hyper_state_kernel": (gates, UNITS, HYPER_UNITS),
            "hyper_recurrent_kernel": (gates, HYPER_UNITS, HYPER_UNITS),
            "hyper_bias": (rows, HYPER_UNITS),
            "embedding_kernel": (HYPER_UNITS, 3 * gates * N_Z),
            "embedding_bias": (2 * gates * N_Z,),
            "scale_kernel": ((1 if generation == "full" else 3) * gates, N_Z, UNITS),
        }
    if layer_norm:
        for prefix, units in [("", UNITS)] + ([("hyper_", HYPER_UNITS)] if generation else []):
            shapes |= {f"{prefix}gate_gamma": (rows, units), f"{prefix}gate_beta": (rows, units)}
            if "LSTM" in name:
                shapes |= {f"{prefix}cell_gamma": (units,), f"{prefix}cell_beta": (units,)}
    return {k: v for k, v in shapes.items() if use_bias or k not in ("bias", "hyper_bias")}


def complex_step(function, arrays, name, direction):
    """The derivative of a real function along a direction, without a difference of two values.

    f(x + i e v) = f(x) + i e f'(x) v up to e^2 < 1e-59, so the result is as exact as f itself.
    """
    moved = dict(arrays)
    moved[name] = arrays[name] + 1e-30j * direction
    return function(moved).imag / 1e-30


class ReferenceTest(tf.test.TestCase):
    """The reference itself: against Keras' own layers, and with its hypernetwork off."""

    def setUp(self):
        super().setUp()
        self.rng = np.random.default_rng(1)
        self.inputs = self.rng.normal(size=(BATCH, TIME, N_IN))
        self.h = self.rng.normal(size=(BATCH, UNITS))
        self.c = self.rng.normal(size=(BATCH, UNITS))

    def ordinary_weights(self, gates, rows):
        return {
            "kernel": self.rng.normal(size=(gates, N_IN, UNITS)),
            "recurrent_kernel": self.rng.normal(size=(gates, UNITS, UNITS)),
            "bias": self.rng.normal(size=(rows, UNITS)),
        }

    def check_against_keras(self, step, states, layer, weights, bias, settings=None):
        expected, expected_states, _ = reference.run(step, self.inputs, states, weights, settings)
        layer.build(self.inputs.shape)
        layer.set_weights(
            [np.hstack(weights["kernel"]), np.hstack(weights["recurrent_kernel"]), bias]
        )
        states = [keras.ops.convert_to_tensor(s) for s in states]
        output, *final = layer(self.inputs, initial_state=states)
        self.assertAllClose(output, expected, rtol=1e-12, atol=1e-12)
        for state, expected_state in zip(final, expected_states, strict=True):
            self.assertAllClose(state, expected_state, rtol=1e-12, atol=1e-12)

    def test_lstm_is_keras_lstm(self):
        weights = self.ordinary_weights(4, 4)
        layer = keras.layers.LSTM(
            UNITS, return_sequences=True, return_state=True, dtype="float64", use_cudnn=False
        )
        bias = weights["bias"].copy()
        bias[1] += 1.0
        states = [self.h, self.c]
        self.check_against_keras(reference.lstm_step, states, layer, weights, bias.ravel())

    def test_gru_is_keras_gru(self):
        weights = self.ordinary_weights(3, 4)
        layer = keras.layers.GRU(
            UNITS, return_sequences=True, return_state=True, dtype="float64", use_cudnn=False
        )
        z, r, x, h = weights["bias"]
        bias = np.stack([np.hstack([0.3 * z, r, x]), np.hstack([0.7 * z, 0.0 * r, h])])
        self.check_against_keras(reference.gru_step, [self.h], layer, weights, bias)

    def test_simple_rnn_is_keras_simple_rnn(self):
        weights = self.ordinary_weights(1, 1)
        layer = keras.layers.SimpleRNN(
            UNITS, return_sequences=True, return_state=True, dtype="float64"
        )
        bias = weights["bias"][0]
        self.check_against_keras(reference.simple_rnn_step, [self.h], layer, weights, bias)

    def test_layer_norm_is_keras_layer_normalization(self):
        x, gamma, beta = self.rng.normal(size=(3, UNITS))
        layer = keras.layers.LayerNormalization(epsilon=EPSILON, dtype="float64")
        layer.build((1, UNITS))
        layer.set_weights([gamma, beta])
        expected = keras.ops.convert_to_numpy(layer(x[None]))[0]
        actual = reference.layer_norm(x, gamma, beta, EPSILON)
        # Keras computes gamma / sqrt(..) and beta - mean * gamma / sqrt(..) first.
        self.assertAllClose(actual, expected, rtol=1e-11, atol=1e-11)

    def test_hypernetwork_off_is_the_ordinary_cell(self):
        ordinary = {
            "HyperLSTMCell": reference.lstm_step,
            "HyperGRUCell": reference.gru_step,
            "HyperSimpleRNNCell": reference.simple_rnn_step,
        }
        for kind in (HYPER_LSTM, HYPER_GRU, HYPER_SIMPLE_RNN):
            name, step, sizes, gates, rows = kind
            for generation in ("scaling", "full"):
                for layer_norm in (True, False):
                    shapes = expected_shapes(kind, generation, layer_norm, True)
                    weights = {k: self.rng.normal(size=shape) for k, shape in shapes.items()}
                    weights["embedding_kernel"] *= 0.0
                    weights["embedding_bias"] = np.ones(shapes["embedding_bias"])
                    plain = {k: v for k, v in weights.items() if "hyper" not in k}
                    if generation == "scaling":
                        weights["scale_kernel"][: 2 * gates] = 1.0 / N_Z
                    else:
                        for k in ("kernel", "recurrent_kernel"):
                            block = weights[k].reshape((gates, N_Z, *weights[k].shape[1:]))
                            plain[k] = block.sum(axis=1)
                    states = [self.rng.normal(size=(BATCH, size)) for size in sizes]
                    settings = make_settings(generation)
                    y, _, _ = reference.run(step, self.inputs, states, weights, settings)
                    main = states[: len(states) // 2]
                    expected, _, _ = reference.run(
                        ordinary[name], self.inputs, main, plain, settings
                    )
                    self.assertAllClose(y, expected, rtol=1e-12, atol=1e-12)


class EquationsTest(tf.test.TestCase, parameterized.TestCase):
    def prepare(self, kind, generation, layer_norm, use_bias):
        rng = np.random.default_rng(7)
        cell = make_cell(kind, generation, layer_norm, use_bias)
        weights = randomize(cell, rng, 0.7)
        inputs = rng.normal(size=(BATCH, TIME, N_IN))
        states = [rng.normal(size=(BATCH, size)) for size in kind[2]]
        return cell, weights, inputs, states, rng

    @parameterized.named_parameters(*CASES)
    def test_weights(self, kind, generation, layer_norm, use_bias):
        cell = make_cell(kind, generation, layer_norm, use_bias)
        actual = [(weight.name, tuple(weight.shape)) for weight in cell.weights]
        expected = expected_shapes(kind, generation, layer_norm, use_bias)
        self.assertEqual(actual, list(expected.items()))

    @parameterized.named_parameters(*CASES)
    def test_outputs_and_states(self, kind, generation, layer_norm, use_bias):
        cell, weights, inputs, states, _ = self.prepare(kind, generation, layer_norm, use_bias)
        layer = keras.layers.RNN(cell, return_sequences=True, return_state=True, dtype="float64")
        initial = [keras.ops.convert_to_tensor(state) for state in states]
        output, *final = layer(inputs, initial_state=initial)

        expected, expected_final, _ = reference.run(
            kind[1], inputs, states, weights, make_settings(generation)
        )
        self.assertEqual(keras.backend.standardize_dtype(output.dtype), "float64")
        self.assertAllClose(output, expected, rtol=1e-12, atol=1e-12)
        for state, expected_state in zip(final, expected_final, strict=True):
            self.assertAllClose(state, expected_state, rtol=1e-12, atol=1e-12)

    @parameterized.named_parameters(*GENERATING_CASES)
    def test_generated_weights(self, kind, generation, layer_norm, use_bias):
        cell, weights, inputs, states, _ = self.prepare(kind, generation, layer_norm, use_bias)
        generated = cell.generated_weights(keras.ops.convert_to_tensor(inputs))

        zeros = [np.zeros_like(state) for state in states]
        _, _, expected = reference.run(kind[1], inputs, zeros, weights, make_settings(generation))
        names = ("d_x", "d_h", "b") if generation == "scaling" else ("z_x", "z_h", "b")
        self.assertEqual(tuple(generated), names)
        for name, actual in generated.items():
            self.assertEqual(tuple(actual.shape), expected[name].shape)
            self.assertAllClose(actual, expected[name], rtol=1e-12, atol=1e-12, msg=name)

    @parameterized.named_parameters(*CASES)
    def test_gradients(self, kind, generation, layer_norm, use_bias):
        if keras.backend.backend() != "tensorflow":
            self.skipTest("takes gradients with tf.GradientTape")
        cell, weights, inputs, states, rng = self.prepare(kind, generation, layer_norm, use_bias)
        layer = keras.layers.RNN(cell, return_sequences=True, dtype="float64")
        x = tf.constant(inputs)
        initial = [tf.constant(state) for state in states]
        with tf.GradientTape() as tape:
            tape.watch([x, *initial])
            loss = tf.reduce_sum(tf.square(layer(x, initial_state=initial)))
        sources = {weight.name: weight.value for weight in cell.weights}
        sources |= {"inputs": x}
        sources |= {f"state_{n}": state for n, state in enumerate(initial)}
        gradients = tape.gradient(loss, sources)

        def reference_loss(arrays):
            named_states = [arrays[f"state_{n}"] for n in range(len(states))]
            y, _, _ = reference.run(
                kind[1], arrays["inputs"], named_states, arrays, make_settings(generation)
            )
            return np.sum(y * y)

        arrays = dict(weights)
        arrays |= {"inputs": inputs}
        arrays |= {f"state_{n}": state for n, state in enumerate(states)}
        self.assertEqual(set(gradients), set(arrays))
        for name, array in arrays.items():
            gradient = gradients[name].numpy()
            # All entries at once, then a few by themselves.
            directions = [rng.normal(size=array.shape)]
            for entry in rng.choice(array.size, size=2, replace=False):
                directions.append(np.zeros(array.shape))
                directions[-1].flat[entry] = 1.0
            scale = np.max(np.abs(gradient))
            self.assertGreater(scale, 0.0, msg=name)
            for direction in directions:
                expected = complex_step(reference_loss, arrays, name, direction)
                actual = np.sum(gradient * direction)
                error = abs(actual - expected)
                self.assertLessEqual(error, 1e-9 * (scale + abs(expected)), msg=name)

    @parameterized.named_parameters(
        (kind[0], kind) for kind in (LAYER_NORM_LSTM, HYPER_LSTM, HYPER_GRU, HYPER_SIMPLE_RNN)
    )
    def test_other_activations(self, kind):
        generation = None if kind is LAYER_NORM_LSTM else "scaling"
        options = {"activation": "softsign"}
        settings = {"activation": lambda x: x / (1.0 + np.abs(x))}
        if kind is not HYPER_SIMPLE_RNN:
            options["recurrent_activation"] = "hard_sigmoid"
            settings["recurrent_activation"] = lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0)
        rng = np.random.default_rng(3)
        cell = make_cell(kind, generation, True, True, **options)
        weights = randomize(cell, rng, 0.7)
        inputs = rng.normal(size=(BATCH, TIME, N_IN))
        zeros = [np.zeros((BATCH, size)) for size in kind[2]]
        expected, _, _ = reference.run(
            kind[1], inputs, zeros, weights, replace(make_settings(generation or ""), **settings)
        )
        output = keras.layers.RNN(cell, return_sequences=True, dtype="float64")(inputs)
        self.assertAllClose(output, expected, rtol=1e-12, atol=1e-12)

    @parameterized.named_parameters(
        # where the candidate ends up: the state c, or h for the GRU
        ("LayerNormLSTMCell", LAYER_NORM_LSTM, 1, None),
        ("HyperLSTMCell", HYPER_LSTM, 1, 3),
        ("HyperGRUCell", HYPER_GRU, 0, 1),
    )
    def test_recurrent_dropout(self, kind, main, hyper):
        """The masks are read off the cell's own new states; all the rest must then agree."""
        rate, batch = 0.5, 16
        rng = np.random.default_rng(5)
        options = {"recurrent_dropout": rate, "seed": 1}
        generation = None
        if hyper is not None:
            options["hyper_recurrent_dropout"] = rate
            generation = "scaling"
        cell = make_cell(kind, generation, True, True, **options)
        weights = randomize(cell, rng, 0.7)
        inputs = rng.normal(size=(batch, 1, N_IN))
        states = [rng.normal(size=(batch, size)) for size in kind[2]]
        layer = keras.layers.RNN(cell, return_state=True, dtype="float64")
        initial = [keras.ops.convert_to_tensor(state) for state in states]
        actual = [
            keras.ops.convert_to_numpy(a)
            for a in layer(inputs, initial_state=initial, training=True)[1:]
        ]

        def final_states(masks, hyper_masks):
            settings = make_settings(generation or "")
            return reference.run(kind[1], inputs, states, weights, settings, masks, hyper_masks)[1]

        def read_mask(index, final_states):
            shape = (batch, 1, kind[2][index])
            dropped, kept = (final_states(fill(shape))[index] for fill in (np.zeros, np.ones))
            mask = (actual[index] - dropped) / (kept - dropped)
            rounded = np.where(mask < 0.5 / (1.0 - rate), 0.0, 1.0 / (1.0 - rate))
            self.assertAllClose(mask, rounded, rtol=1e-6, atol=1e-6)
            self.assertLen(np.unique(rounded), 2)
            return rounded[:, None]

        hyper_masks = None
        if hyper is not None:
            hyper_masks = read_mask(hyper, lambda masks: final_states(None, masks))
        masks = read_mask(main, lambda masks: final_states(masks, hyper_masks))
        for a, e in zip(actual, final_states(masks, hyper_masks), strict=True):
            self.assertAllClose(a, e, rtol=1e-12, atol=1e-12)


class ParameterCountTest(tf.test.TestCase, parameterized.TestCase):
    """Counts of cells with 3 inputs, 8 units, 4 hyper units and 2 embedding dimensions."""

    @parameterized.parameters(
        ("HyperLSTMCell", "scaling", False, 944),
        ("HyperLSTMCell", "scaling", True, 1064),
        ("HyperLSTMCell", "full", False, 1168),
        ("HyperSimpleRNNCell", "scaling", False, 236),
        ("HyperSimpleRNNCell", "full", False, 292),
        # 3*8*(3+8) + 4*8, 3*4*(3+8+4) + 4*4, 4*3*3*2 + 2*3*2, 3*3*2*8; gains and offsets 2*4*(8+4)
        ("HyperGRUCell", "scaling", False, 720),
        ("HyperGRUCell", "scaling", True, 816),
    )
    def test_tiny_cell(self, name, generation, layer_norm, count):
        cell = getattr(keras_hypernets, name)(
            8,
            hyper_units=4,
            embedding_dim=2,
            weight_generation=generation,
            layer_norm=layer_norm,
        )
        cell.build((None, 3))
        self.assertEqual(cell.count_params(), count)


if __name__ == "__main__":
    tf.test.main()
