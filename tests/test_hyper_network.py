"""HyperNetwork: initial values, errors, and what only TensorFlow has."""

import os
import warnings
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import onnxruntime
import tensorflow as tf
from keras import layers
from random_weights import randomize

from keras_hypernets import HyperNetwork, KernelGenerator, export
from keras_hypernets.network import generators


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def dense(units=3):
    return keras.Sequential([keras.Input((4,)), layers.Dense(units, name="dense")], name="target")


def convolutional():
    return keras.Sequential(
        [keras.Input((5, 5, 2)), layers.Conv2D(4, 3), layers.BatchNormalization()], name="target"
    )


def built(target=None, features=2, **options):
    hyper = HyperNetwork(target or dense(), hidden_units=(3,), name="hyper", **options)
    hyper(noise(2, 4), noise(1, features))
    return hyper


class InitialValues(tf.test.TestCase):
    def spread(self, activation, initializer, naive=False, **options):
        """The deviation of the last of 12 layers relative to the first, median of 20 conditions.

        Also that of the target with its own weights.
        """
        keras.utils.set_random_seed(1)
        x = start = keras.Input((256,))
        outputs = []
        for _ in range(12):
            x = layers.Dense(256, activation, kernel_initializer=initializer)(x)
            outputs.append(x)
        target = keras.Model(start, [outputs[0], outputs[-1]])
        hyper = HyperNetwork(target, hidden_units=(16,), base=None, **options)
        hyper.build((None, 256), (None, 8))
        if naive:  # as if the generator ended in a keras.layers.Dense
            kernel = hyper.writer.output_kernel
            kernel.assign(keras.initializers.GlorotUniform()(kernel.shape))
        run, x = tf.function(hyper), noise(64, 256)
        found = [run(x, noise(1, 8, seed=seed)) for seed in range(20)]
        ratios = [np.std(last) / np.std(first) for first, last in [*found, target(x)]]
        return np.median(ratios[:-1]), ratios[-1]

    def test_activations_keep_their_scale(self):
        for activation, initializer in (("relu", "he_normal"), ("linear", "glorot_uniform")):
            for options in ({}, {"chunk_size": 8192}):
                found, _ = self.spread(activation, initializer, **options)
                self.assertBetween(found, 0.5, 2, f"{activation} {options}")
            naive, _ = self.spread(activation, initializer, naive=True)
            self.assertFalse(0.4 < naive < 2.5, f"{activation}: {naive}")
        # tanh shrinks them in any network
        found, expected = self.spread("tanh", "glorot_uniform")
        self.assertBetween(found, 0.7 * expected, 1.4 * expected)

    def test_vectors_start_at_the_values_of_the_target(self):
        lstm = layers.LSTM(4)
        lstm.build((None, 3, 4))
        normalization = layers.LayerNormalization()
        normalization.build((None, 3, 4))
        target = keras.Sequential([keras.Input((3, 4)), normalization, lstm])
        for options in ({}, {"chunk_size": 10}, {"generation": "low_rank", "rank": 1}):
            hyper = HyperNetwork(target, base=None, **options)
            hyper(noise(2, 3, 4), noise(1, 2))
            weights = hyper.generated_weights(noise(1, 2))
            found = {path.rpartition("/")[2]: weight for path, weight in weights.items()}
            self.assertAllEqual(found["gamma"], np.ones(4))
            self.assertAllEqual(found["beta"], np.zeros(4))
            bias = np.repeat([0.0, 1.0, 0.0, 0.0], 4)
            if options.get("chunk_size"):  # a vector has one offset there
                bias = np.full(16, 0.25)
            self.assertAllClose(found["bias"], bias)
            self.assertNotAllClose(found["kernel"], np.zeros((4, 16)), atol=0.1)

    def test_with_a_base_the_target_starts_as_it_is(self):
        target = convolutional()
        randomize(target)
        x, condition = noise(2, 5, 5, 2), noise(1, 2)
        for base in ("trainable", "frozen"):
            for options in (
                {},
                {"generation": "low_rank", "rank": 1},
                {"generation": "scaling"},
                {"chunk_size": 7},
            ):
                hyper = HyperNetwork(target, base=base, **options)
                self.assertAllEqual(hyper(x, condition), target(x))


@keras.saving.register_keras_serializable(package="test")
class Counter(layers.Layer):
    """Assigns to its weights in its call."""

    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=())
        self.calls = self.add_weight(name="calls", shape=(), dtype="int32", trainable=False)

    def call(self, x):
        self.scale.assign(self.scale + 1)
        return x * self.scale


class Twins(keras.Model):
    """Has two layers of the same name."""

    def __init__(self):
        super().__init__()
        self.twins = [layers.Dense(4, name="twin"), layers.Dense(4, name="twin")]

    def call(self, x):
        return self.twins[1](self.twins[0](x))


@keras.saving.register_keras_serializable(package="test")
class Scaled(keras.Model):
    """Keras cannot build it from the shape of its first input."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3)

    def call(self, x, scale):
        return self.dense(x) * scale


class Errors(tf.test.TestCase):
    def test_options(self):
        tiles = KernelGenerator((3, 3, 2, 2))
        for options, message in (
            ({"hidden_units": 16}, "`hidden_units` must be a tuple of pos.*hidden_units=16"),
            ({"hidden_units": (0,)}, "`hidden_units` must be a positive.*hidden_units=0"),
            ({"activation": "rellu"}, "`activation` must be an.*activation='rellu'"),
            ({"embedding_dim": 0}, "`embedding_dim` must be a positive.*embedding_dim=0"),
            ({"per_sample": 1}, "`per_sample` must be True or False.*per_sample=1"),
            ({"generation": "whole"}, "`generation` must be one of 'full'.*generation='whole'"),
            ({"chunk_size": -1}, "`chunk_size` must be a positive integer.*chunk_size=-1"),
            ({"chunk_size": 2.5}, "`chunk_size` must be a positive integer.*chunk_size=2.5"),
            ({"chunk_embedding_dim": 0}, "`chunk_embedding_dim` must be a pos.*dim=0"),
            ({"base": "fixed"}, "`base` must be 'trainable', 'frozen' or None.*base='fixed'"),
            ({"condition_encoding": "sin"}, "`condition_encoding` must be one of 'cos_sin'.*'sin'"),
            ({"generator": "mlp"}, "`generator` must be a Keras layer.*generator='mlp'"),
            ({"rank": 2}, "`rank` must be None unless generation='low_rank'.*rank=2"),
            ({"alpha": 2}, "`alpha` must be None unless generation='low_rank'.*alpha=2"),
            ({"generation": "low_rank"}, "`rank` must be a positive integer.*rank=None"),
            (
                {"generation": "low_rank", "rank": 1, "alpha": 0},
                "`alpha` must be a number above 0.*alpha=0",
            ),
            (
                {"generation": "low_rank", "rank": 1, "chunk_size": 3},
                "`chunk_size` must be None with generation='low_rank'.*chunk_size=3",
            ),
            (
                {"generation": "low_rank", "rank": 2},
                "`rank` must make .* smaller.*rank=2 for weights of shapes \\(4, 3\\), \\(3,\\)",
            ),
            ({"generation": "scaling", "base": None}, "`base` must be 'trainable'.*base=None"),
            (
                {"per_sample": True, "embedding_dim": 2},
                "`embedding_dim` must be None with per_sample=True.*embedding_dim=2",
            ),
            (
                {"condition_encoding": "cos_sin", "embedding_dim": 2},
                "`condition_encoding` must be None with an `embedding_dim`.*'cos_sin'",
            ),
            ({"generator": tiles}, "`base` must be None with a KernelGen.*base='trainable'"),
            *(
                (
                    {"generator": tiles, "base": None, name: value},
                    f"`{name}` must be .* with a KernelGenerator.*{name}=",
                )
                for name, value in (
                    ("chunk_size", 3),
                    ("embedding_dim", 3),
                    ("condition_encoding", "cos_sin"),
                    ("generation", "scaling"),
                    ("per_sample", True),
                )
            ),
        ):
            if options.get("generation") == "scaling" and "generator" in options:
                message = "`base` must be 'trainable'"  # which comes first
            with self.assertRaisesRegex(ValueError, message, msg=str(options)):
                HyperNetwork(dense(), **options)

    def test_target(self):
        for target, message in (
            (None, "`target` must be a Keras model or layer. Received: target=None"),
            (layers.Dense, "`target` must be a Keras model or layer"),
            (layers.Dense(3), "`target` must be built and have weights.*target=<Dense"),
            (keras.Sequential([layers.Dense(3)]), "`target` must be built and have weights"),
            (keras.Sequential([keras.Input((3,)), layers.ReLU()]), "`target` must be built and"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                HyperNetwork(target)

    def test_an_error_leaves_the_target_as_it_was(self):
        for options in (
            {"generation": "low_rank", "rank": 9},
            {"base": "frozen", "generation": "low_rank", "rank": 9},
            {"target_weights": "bias", "base": None, "generator": KernelGenerator((2, 2))},
        ):
            target = keras.Sequential(
                [keras.Input((4,)), layers.Dense(3, kernel_regularizer="l2", name="dense")]
            )
            with self.assertRaises(ValueError):
                HyperNetwork(target, **options)
            self.assertLen(target.trainable_weights, 2)
            self.assertLen(target.losses, 1)

    def test_target_weights(self):
        spectral = keras.Sequential(
            [keras.Input((4,)), layers.SpectralNormalization(layers.Dense(3))]
        )
        counter = Counter()
        counter.build((2,))
        dropout = keras.Sequential([keras.Input((4,)), layers.Dense(2), layers.Dropout(0.5)])
        twins = Twins()
        twins(noise(1, 4))
        frozen = dense()
        frozen.trainable = False
        for target, choice, message in (
            (
                dense(),
                "kernle",
                "must choose a weight.*='kernle'. The target has target/dense/kernel, tar",
            ),
            (dense(), [], "must choose a weight of the target. Received: target_weights=\\[\\]"),
            (
                frozen,
                None,
                "must choose a weight .*None, which .* trainable .*: choose frozen ones",
            ),
            (dense(), "(", "must be a regular expression.*target_weights='\\('"),
            (dense(), 3, "must be a regular expression.*target_weights=3"),
            (dense(), [3], "must be a regular expression.*target_weights=\\[3\\]"),
            (counter, "calls", "must be floating-point weights. Received: a choice of .*calls"),
            (dropout, "seed", "must be floating-point weights. Received: a choice of .*seed"),
            (spectral, None, "must not choose variables that a layer assigns to.*kernel"),
            (convolutional(), "moving", "must not choose variables that.*moving_mean.*moving_v"),
            (twins, None, "must have different paths.*Received: .*twin/kernel.* more than once"),
        ):
            with self.assertRaisesRegex(ValueError, "`target_weights` " + message):
                HyperNetwork(target, choice)
        with self.assertRaisesRegex(ValueError, "`target_weights` must not choose var.*scale"):
            HyperNetwork(counter, base=None)(noise(2, 2), noise(1, 2))

    def test_tiles(self):
        generator = KernelGenerator((3, 3, 2, 3))
        with self.assertRaisesRegex(ValueError, "kernel of target/.*/kernel must consist of whole"):
            HyperNetwork(convolutional(), "kernel", generator=generator, base=None)
        with self.assertRaisesRegex(ValueError, "`target_weights` .* tiles \\(3, 3, 2, 3\\)"):
            HyperNetwork(convolutional(), generator=generator, base=None)
        hyper = HyperNetwork(
            convolutional(), generator=KernelGenerator((3, 3, 2, 4)), base=None, name="hyper"
        )
        with self.assertRaisesRegex(ValueError, "`condition` must be None with a KernelGenerator"):
            hyper(noise(1, 5, 5, 2), noise(1, 2))

    def test_conditions(self):
        x, one = noise(3, 4), noise(1, 2)
        for options, condition, message in (
            ({}, None, "must be given to hyper without an `embedding_dim`. Received: none"),
            ({"per_sample": True}, None, "must be given to hyper with per_sample=True"),
            (
                {"condition_encoding": "cos_sin", "chunk_size": 3},
                None,
                "must be given to hyper with a `condition_encoding`",
            ),
            ({"embedding_dim": 2}, one, "must be None with an `embedding_dim`.*\\(1, 2\\)"),
            ({}, noise(2), "must have the shape \\(rows, features\\).*of shape \\(2,\\)"),
            ({}, noise(1, 2, 2), "must have the shape \\(rows, features\\).*\\(1, 2, 2\\)"),
            ({}, [one, one], "must have the shape \\(rows, features\\) unless"),
            ({}, noise(2, 2), "must have one row, or one per sample.*\\(2, 2\\) for a batch of 3"),
            ({"per_sample": True}, one, "must have a row for each sample.*\\(1, 2\\).*batch of 3"),
            ({}, np.ones((1, 2), int), "must be floating-point numbers.*Embedding.*int"),
        ):
            hyper = HyperNetwork(dense(), hidden_units=(3,), name="hyper", **options)
            with self.assertRaisesRegex(ValueError, "`condition` " + message):
                hyper(x, condition)
        hyper = built()
        for condition, message in (
            (None, "must be given: hyper was built with one. Received: none"),
            (noise(1, 3), "must have the shape \\(rows, 2\\) in hyper.*\\(1, 3\\)"),
            (noise(3, 2), "must have equal rows without per_sample=True.*rows that differ"),
        ):
            with self.assertRaisesRegex(ValueError, "`condition` " + message):
                hyper(x, condition)
        with self.assertRaisesRegex(ValueError, "`condition` must be given"):
            hyper.generated_weights()
        with self.assertRaisesRegex(ValueError, "`condition` must have one row.*\\(2, 2\\)"):
            hyper.plain_layer(np.tile(one, (2, 1)))
        with self.assertRaisesRegex(ValueError, "begin with an axis of rows. Received: a scalar"):
            export.bake(hyper, 0.5)
        with self.assertRaisesRegex(ValueError, "`condition` must be given: hyper was built with"):
            export.bake(hyper)
        without = HyperNetwork(dense(), embedding_dim=2, name="hyper")
        without(x)
        with self.assertRaisesRegex(
            ValueError, "`condition` must be None: hyper was built without one"
        ):
            without(x, one)

    def test_the_rest(self):
        for method in ("generated_weights", "plain_layer"):
            with self.assertRaisesRegex(ValueError, "must be built before it generates.*call it"):
                getattr(HyperNetwork(dense()), method)()
        flat = HyperNetwork(dense(), generator=layers.Reshape((1, 2)))
        with self.assertRaisesRegex(ValueError, "`generator` must map a condition to `\\(rows, "):
            flat(noise(1, 4), noise(1, 2))
        path = os.path.join(self.get_temp_dir(), "one.weights.h5")
        inputs = keras.Input((4,)), keras.Input((2,))
        for target_weights, error in (("kernel", None), (None, ValueError)):
            target = dense()
            hyper = HyperNetwork(target, target_weights, base=None, hidden_units=(3,))
            model = keras.Model(inputs, hyper(*inputs))
            if error is None:
                model.save_weights(path)
                continue
            with self.assertRaises(error):
                model.load_weights(path)
        with self.assertRaisesRegex(ValueError, "must be built before its weights are loaded"):
            HyperNetwork(dense()).load_own_variables({})

    def test_a_target_that_keras_does_not_build_again(self):
        target = Scaled()
        target(noise(1, 4), noise(1, 1))
        hyper = HyperNetwork(target, hidden_units=(3,))
        config = hyper.get_config()
        with self.assertRaisesRegex(ValueError, "`target` must be .* `build_from_config`.*=<Scal"):
            HyperNetwork.from_config(config)

    def test_a_large_generator_warns(self):
        with mock.patch.object(generators, "MANY", 50):
            with self.assertWarnsRegex(UserWarning, "hyper/writer .* map of 60 weights.*`chunk_si"):
                built(dense(4))
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                built()

    def test_a_condition_that_is_not_a_number(self):
        for options in ({}, {"base": None}, {"chunk_size": 4}, {"generation": "scaling"}):
            hyper = built(**options)
            randomize(hyper)
            output = hyper(noise(2, 4), np.full((2, 2), np.nan, "float32"))
            self.assertAllEqual(np.isnan(output), np.ones((2, 3), bool))

    def test_rows_that_differ_in_fit(self):
        inputs = keras.Input((4,)), keras.Input((2,))
        model = keras.Model(inputs, built()(*inputs))
        x, y = [noise(4, 4), noise(4, 2)], noise(4, 3)
        model.compile("sgd", "mse", jit_compile=False)
        with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "`condition` must have equal"):
            model.fit(x, y, verbose=0)
        model.compile("sgd", "mse", run_eagerly=True)
        with self.assertRaisesRegex(ValueError, "`condition` must have equal rows"):
            model.fit(x, y, verbose=0)


class Summary(tf.test.TestCase):
    def test_counts_what_is_there(self):
        inputs = keras.Input((5, 5, 2)), keras.Input((2,))
        # 2 * 3 + 3 hidden, (3 + 1) * 84 written, 8 statistics
        for base, total, trained in ((None, 353, 345), ("frozen", 353, 261)):
            hyper = HyperNetwork(convolutional(), base=base, hidden_units=(3,), name="hyper")
            lines = []
            keras.Model(inputs, hyper(*inputs)).summary(print_fn=lines.append)
            text = "\n".join(lines)
            self.assertIn(f"Total params: {total} ", text)
            self.assertIn(f"Trainable params: {trained} ", text)


class Compiled(tf.test.TestCase):
    def test_xla_is_left_out_where_it_cannot_compile(self):
        hashing = keras.Sequential(
            [
                keras.Input((4,), dtype="int32"),
                layers.Hashing(9),
                layers.Embedding(9, 2),
                layers.Flatten(),
                layers.Dense(3),
            ]
        )
        recurrent = keras.Sequential([keras.Input((4, 2)), layers.SimpleRNN(2), layers.Dense(3)])
        for target, choice, options, expected in (
            (hashing, "dense", {"base": None}, False),
            (recurrent, None, {"per_sample": True, "base": None}, False),
            (recurrent, "dense", {"per_sample": True}, True),
            (recurrent, None, {}, True),
        ):
            hyper = HyperNetwork(target, choice, hidden_units=(3,), **options)
            self.assertIs(hyper.supports_jit, expected)


class Exports(tf.test.TestCase):
    def test_saved_model_and_onnx(self):
        """With the condition as a named input."""
        inputs = keras.Input((5, 5, 2), name="images"), keras.Input((2,), name="setting")
        hyper = HyperNetwork(convolutional(), base=None, hidden_units=(3,), chunk_size=30)
        model = keras.Model(dict(zip(("images", "setting"), inputs, strict=True)), hyper(*inputs))
        randomize(model)
        given = {"images": noise(3, 5, 5, 2), "setting": np.tile(noise(1, 2), (3, 1))}
        expected, folder = model(given), self.get_temp_dir()

        path = os.path.join(folder, "model")
        export.export_saved_model(model, path)
        serve = tf.saved_model.load(path).signatures["serving_default"]
        (output,) = serve(**{name: tf.constant(value) for name, value in given.items()}).values()
        self.assertAllClose(output, expected, 1e-5, 1e-5)
        # It calls no Python: other processes have it as well.
        self.assertNotIn(b"PyFunc", Path(path, "saved_model.pb").read_bytes())

        path = os.path.join(folder, "model.onnx")
        model.export(path, format="onnx", verbose=False)
        (output,) = onnxruntime.InferenceSession(path).run(None, given)
        self.assertAllClose(output, expected, 1e-5, 1e-5)


if __name__ == "__main__":
    tf.test.main()
