"""Kernels of many layers from one generator, in one product."""

import os

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from random_weights import randomize

from keras_hypernets import HyperConv2D, HyperDense, KernelBank, KernelGenerator

SHAPES = {"one": (3, 3, 4, 4), "two": (3, 3, 4, 8), "three": (3, 3, 8, 12)}


def banked(**options):
    images = keras.Input((9, 9, 4))
    kernels = KernelBank(KernelGenerator((3, 3, 4, 4), 3), SHAPES, name="bank", **options)(images)
    x = images
    for name, (*_, filters) in SHAPES.items():
        x = HyperConv2D(filters, 3, name=name)(x, kernels[name])
    return keras.Model(images, x)


def one_by_one():
    generator = KernelGenerator((3, 3, 4, 4), 3)
    layers = [HyperConv2D(filters, 3, generator, name=n) for n, (*_, filters) in SHAPES.items()]
    return keras.Sequential([keras.Input((9, 9, 4)), *layers])


class Bank(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.x = np.random.default_rng(0).standard_normal((2, 9, 9, 4)).astype("float32")

    def test_is_what_layers_with_a_shared_generator_are(self):
        model, layers = banked(), one_by_one()
        randomize(model)
        self.assertEqual(model.count_params(), layers.count_params())
        bank, generator = model.get_layer("bank"), layers.layers[0].generator
        pairs = list(zip(bank.generator.weights, generator.weights, strict=True))
        pairs += [(model.get_layer(one.name).bias, one.bias) for one in layers.layers]
        self.assertLen(pairs, len(model.weights) - 1)
        for ours, other in pairs:
            other.assign(ours)
        rows = [layer.embedding.shape[0] for layer in layers.layers]
        parts = np.split(ops.convert_to_numpy(bank.embedding), np.cumsum(rows)[:-1])
        for layer, part in zip(layers.layers, parts, strict=True):
            layer.embedding.assign(part)
        gradients = []
        for one, weights in zip((model, layers), zip(*pairs, strict=True), strict=True):
            embeddings = [bank.embedding] if one is model else [x.embedding for x in layers.layers]
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.square(one(self.x)))
            found = tape.gradient(loss, [weight.value for weight in (*weights, *embeddings)])
            *found, of_embeddings = [*found[: len(pairs)], np.concatenate(found[len(pairs) :])]
            gradients.append([*found, of_embeddings])
        self.assertAllClose(model(self.x), layers(self.x), 1e-5, 1e-5)
        for ours, other in zip(*gradients, strict=True):
            self.assertAllClose(ours, other, 1e-4, 1e-3)
        for layer in layers.layers:
            self.assertAllClose(bank.generated_weights()[layer.name], layer.kernel, 1e-6, 1e-6)

    def test_generates_all_tiles_in_one_call(self):
        model = banked()
        calls = []
        generator = model.get_layer("bank").generator
        call = generator.call
        generator.call = lambda rows: calls.append(rows.shape) or call(rows)
        model(self.x)
        self.assertEqual([tuple(shape) for shape in calls], [(1 + 2 + 6, 3)])

    def test_kernels_start_with_the_variance_of_he(self):
        found = {name: [] for name in SHAPES}
        for seed in range(200):
            keras.utils.set_random_seed(seed)
            bank = KernelBank(KernelGenerator((3, 3, 4, 4), 16), SHAPES)
            bank.build(None)
            for name, kernel in bank.generated_weights().items():
                found[name].append(np.var(kernel))
        for name, (height, width, inputs, _) in SHAPES.items():
            self.assertAllClose(np.mean(found[name]), 2 / (height * width * inputs), 0.1, 0)

    def test_one_generator_in_two_banks_and_a_layer(self):
        generator = KernelGenerator((4, 4), 3)
        x = inputs = keras.Input((8,))
        for name in ("first", "second"):
            kernel = KernelBank(generator, {"kernel": (8, 8)}, name=name)(inputs)["kernel"]
            x = HyperDense(8, name=f"{name}_dense")(x, kernel)
        model = keras.Model(inputs, HyperDense(4, generator)(x))
        randomize(model)
        path = os.path.join(self.get_temp_dir(), "two.keras")
        model.save(path)
        again = keras.models.load_model(path)
        self.assertEqual(again.count_params(), model.count_params())
        x = np.random.default_rng(0).standard_normal((2, 8))
        self.assertAllClose(again(x), model(x), 1e-6, 1e-6)

    def test_layers_with_a_given_kernel_from_their_configuration(self):
        """Also from those of before the default of `embedding_dim` was None."""
        images, kernel = keras.Input((9, 9, 4)), keras.Input(batch_shape=(3, 3, 4, 4))
        config = HyperConv2D(4, 3).get_config()
        for given in (None, 16):
            layer = HyperConv2D.from_config({**config, "embedding_dim": given})
            layer(images, kernel)
            self.assertEqual(layer.get_config(), config)

    def test_trains_under_mixed_precision_with_a_regularizer(self):
        for policy in ("mixed_bfloat16", "mixed_float16"):
            keras.config.set_dtype_policy(policy)
            try:
                model = banked(kernel_regularizer="l2")
            finally:
                keras.config.set_dtype_policy("float32")
            model.compile("adam", "mse")
            loss = model.train_on_batch(self.x, np.ones(model.compute_output_shape(self.x.shape)))
            self.assertTrue(np.isfinite(loss))
            (penalty,) = model.losses
            kernels = model.get_layer("bank").generated_weights().values()
            expected = sum(0.01 * np.sum(np.square(ops.cast(k, "float32"))) for k in kernels)
            self.assertAllClose(penalty, expected, 1e-2)
            self.assertEqual(penalty.dtype, tf.float32)

    def test_bad_input(self):
        generator = KernelGenerator((3, 3, 4, 4), 3)
        images = keras.KerasTensor((None, 9, 9, 4))

        def conv(kernel_shape, generator=None, **options):
            return HyperConv2D(4, 3, generator, **options)(images, keras.KerasTensor(kernel_shape))

        for make, message in (
            (lambda: KernelBank("small", SHAPES), "`generator` must be a KernelGenerator"),
            (lambda: KernelBank(generator, {}), "from at least one name to a shape"),
            (lambda: KernelBank(generator, [(3, 3, 4, 4)]), "must be a dictionary"),
            (lambda: KernelBank(generator, {1: (3, 3, 4, 4)}), "must be a dictionary"),
            (lambda: KernelBank(generator, {"a": (4,)}), "`kernel_shapes` must be \\(\\*window"),
            (lambda: KernelBank(generator, {"a": 3}), "`kernel_shapes` must be \\(\\*window"),
            (lambda: KernelBank(generator, {"a": (3, 3, 0, 4)}), "must be a positive integer"),
            (lambda: KernelBank(generator, {"odd": (3, 3, 4, 6)}), "kernel of odd must consist"),
            (lambda: KernelBank(generator, SHAPES, dtype="float64"), "must have the dtype"),
            (lambda: conv((3, 3, 4, 8)), "`kernel` must have the shape \\(3, 3, 4, 4\\)"),
            (lambda: conv((3, 3, 4, 4), generator), "`generator` of .* must be None with"),
            (
                lambda: conv((3, 3, 4, 4), embedding_dim=4),
                "must be None with a given.*embedding_dim=4",
            ),
            (
                lambda: conv((3, 3, 4, 4), hidden_units=4),
                "must be None with a given.*hidden_units=4",
            ),
            (lambda: conv((3, 3, 4, 4), kernel_regularizer="l2"), "whose KernelBank has its own"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                make()
        for layer, wrong, message in (
            (HyperConv2D(4, 3), (3, 3, 4, 4), "in every call or in none"),
            (HyperDense(4), (4, 4), "in every call or in none"),
        ):
            layer(self.x)
            for given in (np.ones(wrong), keras.KerasTensor(wrong)):
                with self.assertRaisesRegex(ValueError, message):
                    layer(self.x if isinstance(given, np.ndarray) else images, given)
        layer = HyperConv2D(4, 3)
        layer(images, keras.KerasTensor((3, 3, 4, 4)))
        for given in (np.ones((1, 1, 4, 4)), keras.KerasTensor((1, 1, 4, 4))):
            with self.assertRaisesRegex(ValueError, "`kernel` must have the shape .*\\(1, 1, 4, 4"):
                layer(self.x if isinstance(given, np.ndarray) else images, given)
        with self.assertRaisesRegex(ValueError, "in every call or in none.*none"):
            layer(images)
        model = banked()
        with self.assertRaisesRegex(AttributeError, "kernel of one is an input"):
            model.get_layer("one").kernel  # noqa: B018
        with self.assertRaisesRegex(AttributeError, "no kernels before it is built"):
            KernelBank(generator, SHAPES).generated_weights()  # noqa: B018
