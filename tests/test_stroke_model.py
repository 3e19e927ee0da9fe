import keras
import numpy as np
import tensorflow as tf

from keras_hypernets import models
from keras_hypernets.models import sequences, strokes
from keras_hypernets.models.strokes import MixtureDensity

CELLS = ("hyper_lstm", "layer_norm_lstm", "lstm", "hyper_gru", "hyper_simple_rnn")
RNG = np.random.default_rng(0)
POINTS = np.concatenate([RNG.normal(size=(4, 6, 2)), RNG.integers(0, 2, (4, 6, 1))], -1)
POINTS = POINTS.astype("float32")


def small(cell="hyper_lstm", **options):
    if cell.startswith("hyper"):
        options = {"hyper_units": 5, "embedding_dim": 3, **options}
    return models.stroke_model(7, cell=cell, **{"mixtures": 3, "seed": 1, **options})


class ParameterCounts(tf.test.TestCase):
    """Exact counts of the models in the paper's table 5, with 20 mixtures."""

    def check(self, expected, units, **options):
        options["recurrent_initializer"] = "zeros"  # orthogonal ones of this size take seconds
        if "hyper_units" in options:
            options["hyper_recurrent_initializer"] = "zeros"
        model = models.stroke_model(units, **options)
        self.assertEqual(model.count_params(), expected)
        self.assertEqual(model.output_shape, (None, None, 121))

    def test_iam(self):
        hyper = {"hyper_units": 128, "embedding_dim": 4}
        self.check(3_363_421, 900, cell="lstm")
        self.check(4_137_121, 1000, cell="lstm")
        self.check(3_258_121, 400, layers=3, cell="lstm")
        self.check(5_161_771, 650, layers=2, cell="lstm")
        self.check(3_941_181, 900, layer_norm=False, **hyper)
        self.check(3_951_461, 900, **hyper)

    def test_iam_layer_norm_lstm(self):
        """With biases the second is 4.15M, without both are as in the paper: 3.37M and 4.14M."""
        self.check(3_372_421, 900, cell="layer_norm_lstm")
        self.check(4_147_121, 1000, cell="layer_norm_lstm")
        self.check(3_368_821, 900, cell="layer_norm_lstm", use_bias=False)
        self.check(4_143_121, 1000, cell="layer_norm_lstm", use_bias=False)


class StrokeModel(tf.test.TestCase):
    def test_every_cell_saves(self):
        for cell in CELLS:
            model = small(cell, layers=2, dropout=0.1)
            path = f"{self.get_temp_dir()}/{cell}.keras"
            model.save(path)
            again = keras.models.load_model(path)
            self.assertAllEqual(again(POINTS), model(POINTS))
            self.assertEqual(again.layers[-1].mixtures, 3)
            self.assertEqual(
                [layer.name for layer in again.layers],
                ["strokes", "recurrent_0", "dropout_1", "recurrent_1", "dropout_2",
                 "parameters"],
            )  # fmt: skip

    def test_a_compiled_model_loads_with_its_loss(self):
        model = small("lstm")
        model.compile("adam", models.stroke_loss)
        model.save(f"{self.get_temp_dir()}/model.keras")
        again = keras.models.load_model(f"{self.get_temp_dir()}/model.keras")
        x = strokes.previous_points(POINTS)
        self.assertAllClose(again.evaluate(x, POINTS, verbose=0), model.evaluate(x, POINTS))
        self.assertAllClose(
            again.evaluate(x, POINTS, verbose=0), np.mean(models.stroke_loss(POINTS, model(x)))
        )

    def test_learns_a_drawing(self):
        """A square, round and round, with the pen lifted at one corner."""
        square = [[2, 0, 0], [0, 2, 0], [-2, 0, 0], [0, -2, 1]]
        drawings = np.float32([square * 5] * 2)
        previous = strokes.previous_points(drawings)
        keras.utils.set_random_seed(1)
        model = small("layer_norm_lstm", mixtures=1)
        self.assertGreater(np.mean(models.stroke_loss(drawings, model(previous))), 4)
        rates = keras.optimizers.schedules.CosineDecay(0.03, 300)
        model.compile(keras.optimizers.Adam(rates, clipnorm=1.0), models.stroke_loss)
        data = tf.data.Dataset.from_tensors((previous, drawings)).repeat()  # an epoch takes 20 ms
        options = {"steps_per_epoch": 100, "shuffle": False, "verbose": 0}
        losses = model.fit(data, epochs=3, **options).history["loss"]
        self.assertLess(losses[-1], -2)
        drawn = models.generate_strokes(model, 8, temperature=0)
        self.assertAllClose(drawn, square * 2, atol=0.3)
        drawn = models.generate_strokes(model, 8, temperature=0, prime=square[:2])
        self.assertAllClose(drawn, (square * 3)[2:10], atol=0.3)

    def test_stateful_equals_one_long_sequence(self):
        stateful = small(layers=2, stateful=True, batch_size=4)
        free = small(layers=2)
        free.set_weights(stateful.get_weights())
        parts = [stateful(POINTS[:, :4]), stateful(POINTS[:, 4:])]
        self.assertAllClose(np.concatenate(parts, axis=1), free(POINTS))

    def test_seed_reaches_every_mask(self):
        first, second, other = (
            small(dropout=0.2, recurrent_dropout=0.2, seed=seed) for seed in (1, 1, 2)
        )
        for model in (second, other):
            model.set_weights(first.get_weights())
        output = first(POINTS, training=True)
        self.assertAllEqual(second(POINTS, training=True), output)
        self.assertNotAllClose(other(POINTS, training=True), output)

    def test_states(self):
        """Windows, steps and histories are those of the model."""
        for cell in CELLS:
            model = small(cell, layers=2, dropout=0.3)
            expected = model(POINTS)
            start = sequences.initial_states(model, 4)
            first, states = sequences.run(model, POINTS[:, :3], start)
            self.assertAllClose(first, expected[:, :3])
            history = sequences.state_history(model, POINTS)
            for t in range(3, 6):
                found, states = sequences.step(model, POINTS[:, t], states)
                self.assertAllClose(found, expected[:, t])
                for recorded, state in zip(history, states, strict=True):
                    self.assertAllClose(recorded[:, t], state, atol=1e-5)

    def test_mixture_density_takes_options_of_dense(self):
        layer = MixtureDensity(4, use_bias=False, kernel_regularizer="l2", dtype="float64")
        again = MixtureDensity.from_config(layer.get_config())
        self.assertEqual(again.get_config(), layer.get_config())
        self.assertEqual(again(np.ones((2, 5))).shape, (2, 25))
        self.assertEqual((again.mixtures, again.use_bias), (4, False))

    def test_bad_arguments(self):
        for options, message in (
            ({"cell": "rnn"}, "`cell` must be one of 'hyper_lstm', .*Received: cell='rnn'"),
            ({"layers": 0}, "`layers` must be a positive integer"),
            ({"mixtures": 0}, "`mixtures` must be a positive integer"),
            ({"mixtures": 2.0}, "`mixtures` must be a positive integer"),
            ({"dropout": 1}, "`dropout` must be a number in"),
            ({"units": -3}, "`units`"),
            ({"stateful": True}, "`stateful=True` needs a fixed `batch_size`"),
            ({"hyper_size": 3}, "hyper_size"),
            ({"seed": "x"}, "`seed` must be an integer"),
            ({"recurrent_dropout": 3.0, "cell": "lstm"}, "`recurrent_dropout` must be a number"),
            ({"go_backwards": True}, "`go_backwards` is not an option of a stroke model"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                models.stroke_model(**{"units": 4, **options})


class Points(tf.test.TestCase):
    def test_previous_points(self):
        expected = np.concatenate([np.zeros((4, 1, 3)), POINTS[:, :-1]], axis=1)
        for given in (POINTS, tf.constant(POINTS), POINTS.tolist()):
            found = strokes.previous_points(given)
            self.assertEqual(tf.is_tensor(found), tf.is_tensor(given))
            self.assertAllClose(found, expected)

    def test_good_strokes(self):
        for good in (POINTS[0], tf.constant(POINTS[0]), [[1, 2, 0]], [[0.5, -2, True]]):
            found = strokes.check_strokes("drawing", good)
            self.assertAllClose(found, np.array(good, "float32"))
            self.assertEqual(found.dtype.kind, "f")

    def test_bad_strokes(self):
        for wrong, message in (
            ([], r"`drawing` must have at least one point .* Received: shape \(0,\)"),
            (np.zeros((0, 3)), r"must have at least one point .* Received: shape \(0, 3\)"),
            ([[1, 2]], r"must .* be \(time, 3\): dx, dy, pen lifted. Received: shape \(1, 2\)"),
            ([1, 2, 0], r"\(time, 3\)"),
            ([POINTS[0]], r"\(time, 3\).* Received: shape \(1, 6, 3\)"),
            ([[1, 2, 0], [1, 2]], r"\(time, 3\)"),
            ("abc", r"\(time, 3\).* Received: shape 'abc'"),
            (None, r"\(time, 3\)"),
            (
                [[1, 2, 0], [1, np.nan, 0]],
                r"finite offsets. Received: \[1.0, nan, 0.0\] at point 1",
            ),
            ([[np.inf, 2, 0]], r"`drawing` must have finite offsets"),
            ([[1, 2, 0], [1, 2, 0.5]], r"pens that are 0 or 1. Received: .* at point 1"),
            ([[1, 2, np.nan]], "pens that are 0 or 1"),
            ([[1, 2, -1]], "pens that are 0 or 1"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                strokes.check_strokes("drawing", wrong)
