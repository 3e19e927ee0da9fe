import gc
import weakref

import keras
import numpy as np
import tensorflow as tf
from test_stroke_model import CELLS, POINTS, small

from keras_hypernets import HyperLSTM, LayerNormLSTM, models
from keras_hypernets.models import generate_strokes, sequences, strokes
from keras_hypernets.models.sequences import generation


class StrokeGeneration(tf.test.TestCase):
    def test_every_cell(self):
        for cell in CELLS:
            drawn = generate_strokes(small(cell, dropout=0.2), 5, seed=1)
            self.assertEqual((drawn.shape, drawn.dtype), ((5, 3), np.float32))
            self.assertAllInSet(drawn[:, 2], (0, 1))
            self.assertTrue(np.isfinite(drawn).all())

    def test_a_chain_of_your_own(self):
        model = keras.Sequential(
            [
                keras.Input((None, 3)),
                keras.layers.Dense(5, "tanh"),
                HyperLSTM(4, 3, 2, return_sequences=True),
                keras.layers.LayerNormalization(),
                keras.layers.LSTM(4, return_sequences=True),
                strokes.MixtureDensity(2, name="y"),
            ]
        )
        states = sequences.initial_states(model, 1)
        point, expected = np.zeros((1, 3), "float32"), []
        for position in range(6):
            parameters, states = sequences.step(model, point, states)
            point = model.layers[-1].sample(parameters, 1.0, 2, position)
            expected.append(point[0])
        self.assertAllClose(generate_strokes(model, 6, seed=2), expected, 1e-4, 1e-4)

    def test_seed_temperature_and_length(self):
        model = small()
        first = generate_strokes(model, 40, seed=1)
        self.assertAllEqual(first, generate_strokes(model, 40, seed=1))
        self.assertAllEqual(first[:9], generate_strokes(model, 9, seed=1))
        self.assertAllClose(first, generate_strokes(model, 100, seed=1)[:40], 1e-4, 1e-4)
        self.assertNotAllClose(first, generate_strokes(model, 40, seed=2))
        cold = generate_strokes(model, 40, temperature=0, seed=1)
        self.assertAllEqual(cold, generate_strokes(model, 40, temperature=0, seed=2))

    def test_without_a_seed_it_is_python_that_draws(self):
        model = small("lstm")
        keras.utils.set_random_seed(3)
        first, second = generate_strokes(model, 5), generate_strokes(model, 5)
        self.assertNotAllClose(first, second)
        keras.utils.set_random_seed(3)
        self.assertAllEqual(first, generate_strokes(model, 5))

    def test_several_drawings(self):
        model = small()
        drawn = generate_strokes(model, 9, seed=1, count=3)
        self.assertEqual(drawn.shape, (3, 9, 3))
        self.assertNotAllClose(drawn[0], drawn[1])
        same = generate_strokes(model, 9, temperature=0, seed=1, count=3, prime=POINTS[0])
        one = generate_strokes(model, 9, temperature=0, prime=POINTS[0])
        self.assertAllClose(same, [one] * 3, 1e-4, 1e-4)
        primes = [POINTS[0], POINTS[1, :1], POINTS[2, :4].tolist()]
        drawn = generate_strokes(model, 9, temperature=0, prime=primes)
        alone = [generate_strokes(model, 9, temperature=0, prime=prime) for prime in primes]
        self.assertAllClose(drawn, alone, 1e-4, 1e-4)

    def test_a_stateful_model_draws_too_and_keeps_its_own_states(self):
        model = small(stateful=True, batch_size=4)
        model(POINTS)
        before = [np.array(state) for state in model.get_layer("recurrent_0").states]
        free = small()
        free.set_weights(model.get_weights())
        self.assertAllClose(generate_strokes(model, 9, seed=1), generate_strokes(free, 9, seed=1))
        for a, b in zip(before, model.get_layer("recurrent_0").states, strict=True):
            self.assertAllEqual(a, b)

    def test_traced_once_for_many_calls(self):
        model = small()
        original, calls = generation.continue_sequences, []
        generation.continue_sequences = lambda *a: calls.append(1) or original(*a)
        try:
            for n in range(1, 5):
                generate_strokes(model, 10 * n, seed=n, temperature=1 / n, prime=POINTS[0, :n])
            self.assertLen(calls, 1)
        finally:
            generation.continue_sequences = original
        reference = weakref.ref(model)
        del model
        gc.collect()
        self.assertIsNone(reference())

    def test_bad_arguments(self):
        model = small("lstm")
        for options, message in (
            ({"length": 0}, "`length` must be a positive integer"),
            ({"temperature": -1}, r"`temperature` must be a number in \[0, 1e30\]"),
            ({"temperature": float("nan")}, "`temperature` must be a number in"),
            ({"seed": 0.5}, "`seed` must be an integer"),
            ({"count": 0}, "`count` must be a positive integer"),
            ({"prime": []}, "`prime` must have at least one point"),
            ({"prime": [[1, 2, 3]]}, "`prime` must have pens that are 0 or 1"),
            ({"prime": [POINTS[0], []]}, "`prime` must have at least one point"),
            ({"prime": [POINTS[0]], "count": 2}, "`count` must be None with a list of primes"),
            ({"prime": [[np.nan, 0, 0]]}, "`prime` must have finite offsets"),
            ({"prime": "abc"}, "`prime` must have at least one point"),
            ({"model": keras.Sequential()}, "`model` must be a stroke model"),
            ({"model": models.char_language_model("ab", 3)}, "`model` must be a stroke model"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                generate_strokes(**{"model": model, "length": 3, **options})


@keras.saving.register_keras_serializable(package="tests")
class Wave(keras.layers.Dense):
    """A head of one number, whose sample is its output and a known shift."""

    stepwise = True

    def sample(self, outputs, temperature, seed, position):
        shift = keras.ops.cast(seed + position, outputs.dtype)
        return outputs + temperature * shift


class Generation(tf.test.TestCase):
    """An encoder and a head that the package does not know."""

    def make(self, *before):
        keras.utils.set_random_seed(0)
        return keras.Sequential(
            [
                keras.Input((None, 1)),
                *before,
                LayerNormLSTM(4, return_sequences=True),
                Wave(1),
            ]
        )

    def check(self, model):
        x = np.random.default_rng(0).normal(size=(2, 5, 1)).astype("float32")
        found = sequences.generate(model, x, 4, temperature=0.5, seed=3, lengths=[5, 2])
        self.assertEqual(found.shape, (2, 4, 1))
        for row, length in ((0, 5), (1, 2)):
            read = x[row : row + 1, :length]
            for position in range(4):
                last = np.array(model(read))[:, -1:] + 0.5 * (3 + position)
                self.assertAllClose(found[row, position], last[0, 0], 1e-4, 1e-4)
                read = np.concatenate([read, last], axis=1)
        whole = sequences.generate(model, x, 4, temperature=0.5, seed=3)
        self.assertAllClose(whole[0], found[0], 1e-4, 1e-4)

    def test_encoders(self):
        class Double(keras.layers.Layer):
            stepwise = True

            def call(self, x):
                return keras.ops.concatenate([x, x * x], axis=-1)

        for encoder in (
            (),
            (Double(),),
            (keras.layers.TimeDistributed(keras.layers.Dense(3, "tanh")),),
            (keras.layers.Dense(3), keras.layers.LayerNormalization()),
        ):
            self.check(self.make(*encoder))

    def test_time_distributed_in_a_step(self):
        model = self.make(keras.layers.TimeDistributed(keras.layers.Dense(3)))
        x, states = np.ones((2, 1), "float32"), sequences.initial_states(model, 2)
        y, _ = sequences.step(model, x, states)
        self.assertAllClose(y, model(x[:, None])[:, 0])
        states = dict(zip(sequences.state_sizes(model), states, strict=True))
        name = model.inputs[0].name
        of_model = sequences.step_model(model)({name: tf.constant(x), **states})
        self.assertAllClose(of_model[model.layers[-1].name], y)

    def test_bad_arguments(self):
        model, x = self.make(), np.ones((2, 5, 1), "float32")
        dense = keras.Sequential([*model.layers[:-1], keras.layers.Dense(1, name="out")])
        dense.build((None, None, 1))
        for options, message in (
            ({"model": dense}, "last layer with a method `sample`. Received: out, a Dense"),
            ({"model": keras.Sequential()}, "`model` must be a chain of recurrent layers"),
            ({"inputs": x[:, :, 0]}, r"`inputs` must be an array \(batch, time, features\)"),
            ({"inputs": np.ones((2, 5, 2), "float32")}, r"with features \(1,\). Received: shape"),
            ({"inputs": x[:, :0]}, r"`inputs` must have at least one step. .* shape \(2, 0, 1\)"),
            ({"lengths": [5, 6]}, "`lengths` must be 2 numbers of steps, 1 to 5"),
            ({"lengths": [5]}, "`lengths` must be 2 numbers"),
            ({"lengths": [0, 1]}, "`lengths` must be 2 numbers"),
            ({"length": 0}, "`length` must be a positive integer"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                sequences.generate(**{"model": model, "inputs": x, "length": 3, **options})
