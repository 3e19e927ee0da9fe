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
    KernelBank,
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


def banked(name="banked", **options):
    """One bank for two layers, one of which is called twice."""
    x = images = keras.Input(SHAPE)
    shapes = {"twice": (3, 3, 4, 4), "once": (3, 3, 4, 8)}
    kernels = KernelBank(KernelGenerator((3, 3, 4, 4), 3), shapes, name="bank")(images)
    twice = HyperConv2D(4, 3, padding="same", name="twice", **options)
    x = layers.BatchNormalization()(twice(x, kernels["twice"]))
    x = twice(inputs=x, kernel=kernels["twice"])
    x = HyperConv2D(8, 3, padding="same", name="once", **options)(x, kernel=kernels["once"])
    return keras.Model(images, x[..., :4] + 1.0, name=name)


def nested():
    images, inner = keras.Input(SHAPE), banked("inner")
    x = inner(inner(images), training=False)
    return keras.Model(images, [sequential()(x), inner(x)], name="nested")


def time_distributed():
    frames, stack = keras.Input((3, *SHAPE)), [banked(), *own_and_shared()]
    stack = keras.Sequential([keras.Input(SHAPE), *stack])
    x = layers.TimeDistributed(stack, name="frames")(frames)
    return keras.Model(frames, layers.TimeDistributed(HyperDense(2), name="dense")(x))


@keras.saving.register_keras_serializable(package="test")
class Outer(layers.Layer):
    """A user's layer: 1x1 convolutions whose kernel is an outer product, one own and one given."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, inputs_shape, kernel_shape=None):
        self.shape = inputs_shape
        self.left = self.add_weight(name="left", shape=(inputs_shape[-1], 1))
        self.right = self.add_weight(name="right", shape=(1, self.filters))

    def generated_weights(self):
        return {"kernel": (self.left @ self.right)[None, None]}

    def plain_layer(self, kernel=None):
        plain = layers.Conv2D(self.filters, 1, use_bias=False, name=self.name)
        plain.build(self.shape)
        plain.set_weights([self.generated_weights()["kernel"] if kernel is None else kernel])
        return plain

    def call(self, inputs, kernel=None):
        kernel = self.generated_weights()["kernel"] if kernel is None else kernel
        return keras.ops.conv(inputs, kernel)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


class Bake(tf.test.TestCase):
    def test_layers_of_ones_own(self):
        """They are baked, drawn and watched by their two methods alone."""
        images = keras.Input(SHAPE)
        bank = KernelBank(KernelGenerator((1, 1, 4, 4), 3), {"one": (1, 1, 4, 4)}, name="bank")
        x = Outer(4, name="given")(images, bank(images)["one"])
        model = keras.Model(images, Outer(5, name="own")(x))
        model(np.zeros((1, *SHAPE), "float32"))
        baked = self.check(model)
        self.assertEqual([type(layer) for layer in baked.layers[1:]], [layers.Conv2D] * 2)
        figure = plots.plot_filters(model)
        titles = [axes.get_title() for axes in figure.axes]
        self.assertEqual(titles[-1], "own (1, 1, 4, 5)")
        monitor = callbacks.GeneratedWeightsMonitor(self.get_temp_dir(), figures=False)
        model.compile("sgd", "mse")
        y = np.zeros((2, *model.output_shape[1:]))
        model.fit(np.zeros((2, *SHAPE)), y, callbacks=[monitor], verbose=0)
        self.assertIn("own", monitor.spreads)
        self.assertIn("bank/one", monitor.spreads)

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
            with self.assertRaisesRegex(ValueError, "No such layer"):
                baked.get_layer("kernels")
            for layer in plain.layers:
                if isinstance(layer, layers.Conv2D):
                    again = baked.get_layer(layer.name)
                    self.assertIs(type(again), layers.Conv2D)
                    self.assertEqual(again.kernel_regularizer is None, not options)

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
        names = [layer.name for layer in baked.get_layer("inner").layers]
        self.assertContainsSubset(["once", "twice"], names)
        self.assertNotIn("bank", names)
        deep = keras.Sequential([keras.Input(SHAPE), banked()], name="deep")
        self.check(keras.Sequential([keras.Input(SHAPE), deep, *own_and_shared()]))

    def test_time_distributed(self):
        baked = self.check(time_distributed())
        self.assertIs(type(baked.get_layer("dense").layer), layers.Dense)

    def test_many_inputs_and_outputs_and_one_bank_called_twice(self):
        one, two = keras.Input(SHAPE, name="one"), keras.Input(SHAPE, name="two")
        bank = KernelBank(KernelGenerator((3, 3, 4, 4), 3), {"a": (3, 3, 4, 8)})
        convolution = HyperConv2D(8, 3)
        outputs = {name: convolution(x, bank(x)["a"]) for name, x in (("u", one), ("v", two))}
        baked = self.check(keras.Model([one, two], outputs))
        self.assertEqual(set(baked.output), {"u", "v"})

    def test_what_is_done_to_a_kernel_is_baked(self):
        images = keras.Input(SHAPE)
        kernel = KernelBank(KernelGenerator((3, 3, 4, 4), 3), {"a": (3, 3, 4, 4)})(images)["a"]
        kernel = kernel - keras.ops.mean(kernel, axis=(0, 1, 2), keepdims=True)
        kernel = layers.LayerNormalization(name="norm")(layers.Dense(8, name="map")(kernel))
        baked = self.check(keras.Model(images, HyperConv2D(8, 3)(images, kernel)))
        self.assertLen(baked.layers, 2)

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
            model = banked()
        finally:
            keras.config.set_dtype_policy("float32")
        once = self.check(model).get_layer("once")
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
        model = banked()
        model.compile("adam", "mse")
        baked = bake(model)
        self.assertFalse(baked.compiled)
        before = baked.get_layer("twice").kernel.numpy()
        baked.compile(keras.optimizers.SGD(0.1), "mse")
        x = inputs_for(model)
        baked.fit(x, np.zeros(x.shape), verbose=0)
        self.assertNotAllClose(before, baked.get_layer("twice").kernel)
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
            (HyperDense(3), "functional or Sequential Keras model.*Received: <HyperDense"),
            ("model", "functional or Sequential Keras model.*Received: 'model'"),
            (keras.Sequential([HyperDense(3)]), "`model` must be built.*Received: <Sequential"),
            (several, "`model` must be built.*one tensor"),
            (self.fed("a", "b"), "the same kernel in every call. Received: .*for layer"),
            (self.fed("a", None), "depend on an input.* Received: .*as the kernel of layer"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                bake(model)

    def fed(self, *names):
        """One layer called with the kernels of these names, or with an input as its kernel."""
        images, given = keras.Input(SHAPE), keras.Input(batch_shape=(3, 3, 4, 4))
        shapes = {"a": (3, 3, 4, 4), "b": (3, 3, 4, 4)}
        kernels = KernelBank(KernelGenerator((3, 3, 4, 4), 3), shapes)(images)
        x, layer = images, HyperConv2D(4, 3, name="layer")
        for name in names:
            x = layer(x, given if name is None else kernels[name])
        return keras.Model([images, given], x)


if __name__ == "__main__":
    tf.test.main()
