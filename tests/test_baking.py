"""Models with generated kernels as plain Keras models."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from random_weights import randomize

from keras_hypernets import (
    HyperConv1D,
    HyperConv2D,
    HyperDense,
    HyperLSTM,
    HyperNetwork,
    KernelGenerator,
    callbacks,
    plots,
)
from keras_hypernets.export import bake
from keras_hypernets.models import hyper_cnn, hyper_resnet

LOAD_WITHOUT_PACKAGE = """
import sys
import keras, numpy as np

class Blocker:
    def find_spec(self, name, *_):
        if name.split(".")[0] == "keras_hypernets":
            raise ImportError(name)

sys.meta_path.insert(0, Blocker())
for path in sys.argv[1:]:
    model = keras.models.load_model(path + ".keras")
    np.save(path + ".output.npy", model.predict(np.load(path + ".npy"), verbose=0))
"""
SHAPE = (9, 9, 4)
flatten = keras.tree.flatten
ORDINARY = ("kernel", "bias", "gamma", "beta", "mean", "variance")


def inputs_for(model):
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal((2, *x.shape[1:])).astype("float32") for x in model.inputs]
    return inputs if len(inputs) > 1 else inputs[0]


def randomize_all(model):
    randomize(model)
    rng = np.random.default_rng(2)
    for weight in model.non_trainable_weights:  # statistics, and weights that are frozen
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))


def own_and_shared():
    shared = KernelGenerator((3, 3, 4, 4), 3)
    return [
        HyperConv2D(8, 3, shared, name="one"),
        layers.BatchNormalization(),
        HyperConv2D(4, 3, shared, name="two"),
        HyperConv2D(5, 3, embedding_dim=3, name="own"),
        layers.GlobalAveragePooling2D(),
        HyperDense(6, KernelGenerator((5, 3), 2), activation="tanh", name="dense"),
    ]


def sequential():
    return keras.Sequential([keras.Input(SHAPE), *own_and_shared()], name="sequential")


def target():
    """Two convolutions, one of which is called twice."""
    x = images = keras.Input(SHAPE, name="images")
    twice = layers.Conv2D(4, 3, padding="same", name="twice")
    x = twice(layers.BatchNormalization()(twice(x)))
    x = layers.Conv2D(8, 3, padding="same", kernel_regularizer="l2", name="once")(x)
    return keras.Model(images, x[..., :4] + 1.0, name="target")


def hyper_network():
    generator = KernelGenerator((3, 3, 4, 4), 3)
    return HyperNetwork(target(), generator=generator, base=None, name="hyper_network")


def sequential_target():
    return keras.Sequential([keras.Input((4,)), layers.Dense(4, "tanh"), layers.Dense(2)])


def functional_target():
    x = keras.Input((4,))
    return keras.Model(x, layers.Dense(2)(x))


@keras.saving.register_keras_serializable(package="test_baking")
class SubclassedTarget(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(2)

    def call(self, x):
        return self.dense(x)


def with_hyper_network(name="whole"):
    images = keras.Input(SHAPE)
    x = hyper_network()(layers.BatchNormalization()(images))
    return keras.Model(images, layers.Conv2D(4, 1)(x), name=name)


def nested():
    images, inner = keras.Input(SHAPE), with_hyper_network("inner")
    x = inner(inner(images), training=False)
    return keras.Model(images, [sequential()(x), inner(x)], name="nested")


def time_distributed():
    frames, stack = keras.Input((3, *SHAPE)), [with_hyper_network(), *own_and_shared()]
    stack = keras.Sequential([keras.Input(SHAPE), *stack])
    x = layers.TimeDistributed(stack, name="frames")(frames)
    return keras.Model(frames, layers.TimeDistributed(HyperDense(2), name="dense")(x))


@keras.saving.register_keras_serializable(package="test")
class Outer(layers.Layer):
    """A user's layer: 1x1 convolutions whose kernel is an outer product."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, inputs_shape):
        self.shape = inputs_shape
        self.left = self.add_weight(name="left", shape=(inputs_shape[-1], 1))
        self.right = self.add_weight(name="right", shape=(1, self.filters))

    def generated_weights(self):
        return {"kernel": (self.left @ self.right)[None, None]}

    def plain_layer(self):
        plain = layers.Conv2D(self.filters, 1, use_bias=False, name=self.name)
        plain.build(self.shape)
        plain.set_weights([*self.generated_weights().values()])
        return plain

    def call(self, inputs):
        return keras.ops.conv(inputs, self.generated_weights()["kernel"])

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


class Bake(tf.test.TestCase):
    def test_layers_of_ones_own(self):
        """They are baked, drawn and watched by their two methods alone."""
        images = keras.Input(SHAPE)
        model = keras.Model(images, Outer(5, name="own")(images))
        baked = self.check(model)
        self.assertIs(type(baked.layers[1]), layers.Conv2D)
        figure = plots.plot_filters(model)
        self.assertEqual([axes.get_title() for axes in figure.axes], ["own (1, 1, 4, 5)"])
        monitor = callbacks.GeneratedWeightsMonitor(self.get_temp_dir(), figures=False)
        model.compile("sgd", "mse")
        y = np.zeros((2, *model.output_shape[1:]))
        model.fit(np.zeros((2, *SHAPE)), y, callbacks=[monitor], verbose=0)
        self.assertEqual([*monitor.spreads], ["own"])

    def test_other_ranks(self):
        sequence = keras.Sequential([keras.Input((9, 4)), HyperConv1D(3, 3, padding="causal")])
        self.assertIs(type(self.check(sequence).layers[-1]), layers.Conv1D)

    def check(self, model):
        """Bakes a model of random weights; the copy computes the same and shares nothing."""
        randomize_all(model)
        x, before = inputs_for(model), model.get_weights()
        config = model.get_config()
        baked = bake(model)
        self.assertEqual(baked.name, model.name)
        for a, b in zip(flatten(model(x)), flatten(baked(x)), strict=True):
            self.assertAllClose(a, b, 1e-5, 1e-5)
        self.assertFalse({id(v) for v in model.variables} & {id(v) for v in baked.variables})
        for a, b in zip(before, model.get_weights(), strict=True):
            self.assertAllEqual(a, b)
        self.assertEqual(model.get_config(), config)
        for weight in baked.weights:
            self.assertIn(weight.name.removeprefix("moving_"), ORDINARY, weight.path)
        return baked

    def test_models_of_the_package(self):
        self.assertEqual(self.check(hyper_cnn()).count_params(), hyper_cnn(False).count_params())
        for options in ({}, {"shortcut": "pad", "conv_bias": True, "kernel_regularizer": "l2"}):
            plain = hyper_resnet(10, 1, hyper=False, input_shape=(8, 8, 3), **options)
            baked = self.check(hyper_resnet(10, 1, input_shape=(8, 8, 3), **options))
            self.assertEqual(baked.count_params(), plain.count_params())
            self.assertEqual([*map(type, baked.layers)], [*map(type, plain.layers)])
            names = [[layer.name for layer in model.layers] for model in (baked, plain)]
            self.assertEqual(*names)
            for layer in baked.layers:
                if isinstance(layer, layers.Conv2D):
                    self.assertEqual(layer.kernel_regularizer is None, not options)

    def test_sequential(self):
        model = sequential()
        baked = self.check(model)
        self.assertIsInstance(baked, keras.Sequential)
        names = [layer.name for layer in model.layers]
        self.assertEqual([layer.name for layer in baked.layers], names)
        self.assertIs(type(baked.get_layer("own")), layers.Conv2D)
        self.assertIs(type(baked.get_layer("dense")), layers.Dense)
        self.assertAllEqual(model.get_layer("two").kernel, baked.get_layer("two").kernel)
        built_by_call = keras.Sequential([HyperDense(3), layers.Dense(2)])
        built_by_call(np.ones((2, 4)))
        self.check(built_by_call)

    def test_nested(self):
        baked = self.check(nested())
        self.assertIsInstance(baked.get_layer("sequential"), keras.Sequential)
        self.assertEqual(
            len(baked.get_layer("inner").get_layer("hyper_network").layers), len(target().layers)
        )
        deep = keras.Sequential([keras.Input(SHAPE), with_hyper_network()], name="deep")
        self.check(keras.Sequential([keras.Input(SHAPE), deep, *own_and_shared()]))

    def test_time_distributed(self):
        baked = self.check(time_distributed())
        self.assertIs(type(baked.get_layer("dense").layer), layers.Dense)

    def test_many_inputs_and_outputs_and_one_layer_called_twice(self):
        one, two = keras.Input(SHAPE, name="one"), keras.Input(SHAPE, name="two")
        for layer in (HyperConv2D(8, 3), hyper_network()):
            baked = self.check(keras.Model([one, two], {"u": layer(one), "v": layer(two)}))
            self.assertEqual(set(baked.output), {"u", "v"})

    def test_a_hyper_network_and_nothing_else(self):
        """The baked model has the layers of the target, where that changes nothing."""
        for other, options in ((False, {}), (True, {}), (False, {"training": False})):
            images = keras.Input(SHAPE, name="other" if other else "images")
            layer = hyper_network()
            model = keras.Model(images, layer(images, **options), name="whole")
            baked = self.check(model)
            flat = not other and not options
            self.assertEqual("once" in [layer.name for layer in baked.layers], flat)
            self.assertEqual(baked.input.name, images.name)
        twice = keras.Model(images, layer(layer(images)))
        self.assertLen(self.check(twice).layers, 2)

    def test_hyper_networks_of_one_target(self):
        images, shared = keras.Input(SHAPE), target()
        x = HyperNetwork(shared, embedding_dim=2, hidden_units=(4,), name="one")(images)
        x = HyperNetwork(shared, embedding_dim=2, generation="scaling", name="two")(x)
        baked = self.check(keras.Model(images, x))
        self.assertEqual([layer.name for layer in baked.layers[1:]], ["one", "two"])

    def test_targets_of_any_kind(self):
        for kind in (sequential_target, functional_target, SubclassedTarget):
            images, shared = keras.Input((4,)), kind()
            shared(np.zeros((1, 4)))
            x = HyperNetwork(shared, embedding_dim=2, hidden_units=(3,), name="one")(images)
            baked = self.check(keras.Model(images, x))
            self.assertIs(type(baked.layers[1]), type(shared))
            two = HyperNetwork(shared, embedding_dim=2, hidden_units=(3,), name="two")(images)
            baked = self.check(keras.Model(images, x + two))
            self.assertIsNotNone(baked.get_layer("one") and baked.get_layer("two"))
            stack = HyperNetwork(shared, embedding_dim=2)
            self.check(keras.Sequential([keras.Input((4,)), stack]))

    def test_options_carry_over(self):
        bias = {"bias_regularizer": "l2", "bias_constraint": "non_neg", "activation": "relu"}
        for options in (
            {"strides": (2, 1), "padding": "same", **bias},
            {"dilation_rate": 2, "use_bias": False},
            {"groups": 2, "kernel_regularizer": "l2", "activity_regularizer": "l1"},
            {"trainable": False, "dtype": "mixed_float16"},
        ):
            layer = HyperConv2D(6, (3, 2), embedding_dim=3, name="layer", **options)
            model = keras.Sequential([keras.Input(SHAPE), layer])
            baked = self.check(model)
            plain = layers.Conv2D(6, (3, 2), name="layer", **options)
            config = plain.get_config()
            self.assertEqual(baked.layers[0].get_config(), config)
            losses = [sum(map(float, one.losses)) for one in (model, baked)]
            self.assertAllClose(*losses)
        layer = HyperConv2D(6, 3, data_format="channels_first")
        baked = bake(keras.Sequential([keras.Input((4, 9, 9)), layer]))  # no such kernel on CPUs
        self.assertEqual(baked.output_shape, (None, 6, 7, 7))
        self.assertAllEqual(baked.layers[0].kernel, layer.kernel)

    def test_trainable(self):
        inner = keras.Sequential([keras.Input((4,)), layers.Dense(4), HyperDense(4)])
        inner.trainable = False
        inner.layers[0].trainable = True
        model = keras.Sequential([keras.Input((4,)), inner, HyperDense(3)])
        baked = bake(model)
        self.assertFalse(baked.layers[0].trainable)
        self.assertEqual([layer.trainable for layer in baked.layers[0].layers], [True, False])
        self.assertTrue(baked.layers[1].trainable)
        model.trainable = False
        self.assertEqual(bake(model).trainable_weights, [])

    def test_mixed_precision(self):
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = with_hyper_network()
        finally:
            keras.config.set_dtype_policy("float32")
        once = self.check(model).get_layer("hyper_network").get_layer("once")
        self.assertEqual(once.dtype_policy.name, "mixed_float16")
        self.assertEqual(once.kernel.dtype, "float32")

    def test_other_layers_keep_what_they_hold(self):
        x = np.random.default_rng(0).standard_normal((8, 5, 4)).astype("float32")
        normalization = layers.Normalization()
        normalization.adapt(3 * x + 2)
        recurrent = HyperLSTM(6, hyper_units=3, embedding_dim=2)
        baked = self.check_unrandomized([normalization, recurrent, HyperDense(3)], x)
        self.assertIsInstance(baked.layers[1], HyperLSTM)
        text = layers.TextVectorization(output_mode="tf_idf")
        text.adapt(["a b c", "a a d"])
        self.check_unrandomized([text, HyperDense(3)], tf.constant(["d a b", "c"]))

    def check_unrandomized(self, stack, x):
        model = keras.Sequential([keras.Input(x.shape[1:], dtype=x.dtype), *stack])
        baked = bake(model)
        self.assertAllClose(model(x), baked(x), 1e-5, 1e-5)
        return baked

    def test_without_generated_kernels(self):
        self.check(hyper_cnn(hyper=False))

    def test_trains_and_quantizes(self):
        model = with_hyper_network()
        model.compile("adam", "mse")
        baked = bake(model)
        self.assertFalse(baked.compiled)
        twice = baked.get_layer("hyper_network").get_layer("twice")
        before = twice.kernel.numpy()
        baked.compile(keras.optimizers.SGD(0.1), "mse")
        x = inputs_for(model)
        baked.fit(x, np.zeros(x.shape), verbose=0)
        self.assertNotAllClose(before, twice.kernel)
        dense = bake(keras.Sequential([keras.Input((4,)), HyperDense(3)]))
        dense.quantize("int8")
        self.assertEqual(dense.layers[0].kernel.dtype, "int8")

    def test_loads_where_the_package_is_not_installed(self):
        paths, expected = [], []
        for number, model in enumerate((hyper_resnet(10, 1, shortcut="pad"), time_distributed())):
            baked = self.check(model)
            paths.append(str(Path(self.get_temp_dir(), str(number))))
            baked.save(f"{paths[-1]}.keras")
            x = inputs_for(model)
            np.save(f"{paths[-1]}.npy", x)
            expected.append(model.predict(x, verbose=0))
        done = subprocess.run(
            [sys.executable, "-c", LOAD_WITHOUT_PACKAGE, *paths],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        for path, output in zip(paths, expected, strict=True):
            self.assertAllClose(np.load(f"{path}.output.npy"), output, 1e-5, 1e-5)

    def test_errors(self):
        class Subclassed(keras.Model):
            def call(self, x):
                return x

        subclassed, several = Subclassed(), keras.Sequential([layers.Add(), HyperDense(3)])
        several([np.ones((2, 3)), np.ones((2, 3))])
        for model, message in (
            (subclassed, "`model` must be a functional or Sequential .*Received: <Subclassed"),
            (keras.Sequential([keras.Input((3,)), subclassed]), "functional or Sequential"),
            (layers.Dense(3), "functional or Sequential Keras model.*Received: <Dense"),
            ("model", "functional or Sequential Keras model.*Received: 'model'"),
            (keras.Sequential([HyperDense(3)]), "`model` must be built.*Received: <Sequential"),
            (several, "`model` must be built.*one tensor"),
            (
                conditioned(),
                "depend on an input: .*, bake\\(layer, condition\\). Received: hyper in",
            ),
        ):
            with self.assertRaisesRegex(ValueError, message):
                bake(model)


def conditioned():
    images, condition = keras.Input(SHAPE), keras.Input((2,))
    hyper = HyperNetwork(target(), hidden_units=(4,), name="hyper")
    return keras.Model([images, condition], hyper(images, condition))


if __name__ == "__main__":
    tf.test.main()
