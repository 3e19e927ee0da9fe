import math
import os

import keras
import numpy as np
import tensorflow as tf
from random_weights import randomize

from keras_hypernets import HyperNetwork
from keras_hypernets.models import hyper_resnet


def trainable(model):
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


class HyperResNet(tf.test.TestCase):
    def test_parameter_counts(self):
        """Exact ones, of which the second set rounds to the paper's table 2."""
        as_paper = {"shortcut": "pad", "conv_bias": True, "stem_norm": True}
        for options, expected in (
            ({}, (97_770, 563_930, 155_626, 2_243_546)),
            (as_paper, (96_602, 562_762, 147_610, 2_235_530)),
        ):
            found = tuple(
                trainable(hyper_resnet(40, width, hyper, **options))
                for width in (1, 2)
                for hyper in (True, False)
            )
            self.assertEqual(found, expected)
        rounded = [f"{count / 1e6:.3f}" for count in expected]
        self.assertEqual(rounded, ["0.097", "0.563", "0.148", "2.236"])

    def test_other_sizes(self):
        for depth, width, shape, classes, options in (
            (10, 1, (32, 32, 3), 10, {}),
            (16, 3, (9, 13, 1), 5, {"tile_size": 8, "embedding_dim": 6}),
            (10, 2, (9, 13, 4), 5, {"shortcut": "pad", "stem_norm": True}),
            (10, 1, (None, None, 3), 5, {"shortcut": "pad"}),
        ):
            for hyper in (True, False):
                model = hyper_resnet(depth, width, hyper, shape, classes, **options)
                images = np.zeros((2, *(size or 12 for size in shape)))
                self.assertEqual(tuple(model(images).shape), (2, classes))
                generated = [layer for layer in model.layers if isinstance(layer, HyperNetwork)]
                self.assertLen(generated, int(hyper))

    def test_generated_layers_compute_what_ordinary_ones_do(self):
        """The plain network with the generated kernels is the same function."""
        for shortcut in ("projection", "pad"):
            options = {"shortcut": shortcut, "input_shape": (9, 9, 3), "conv_bias": True}
            hyper = hyper_resnet(16, 2, True, **options)
            plain = hyper_resnet(16, 2, False, **options)
            randomize(hyper)
            kernels = hyper.get_layer("hyper_network").generated_weights()
            self.assertLen(kernels, 12)
            values = {weight.path: weight for weight in hyper.weights} | kernels
            for weight in plain.weights:
                weight.assign(values[weight.path])
            x = np.random.default_rng(0).standard_normal((2, 9, 9, 3))
            self.assertAllClose(hyper(x), plain(x), 1e-4, 1e-4)

    def test_pad_shortcut_leaves_out_pixels_and_adds_zeros(self):
        model = hyper_resnet(10, 1, False, (5, 5, 3), shortcut="pad")
        x = np.random.default_rng(0).standard_normal((1, 5, 5, 3))
        total = model.get_layer("group_2_block_1_sum")
        outputs = [model.get_layer("group_1_block_1_sum").output, total.input[1]]
        before, straight = keras.Model(model.input, outputs)(x)
        self.assertEqual(tuple(straight.shape), (1, 3, 3, 32))
        self.assertAllEqual(straight[..., :16], before[:, ::2, ::2])
        self.assertAllEqual(straight[..., 16:], np.zeros((1, 3, 3, 16)))

    def test_through_a_file(self):
        for options in ({}, {"shortcut": "pad", "kernel_regularizer": "l2"}):
            model = hyper_resnet(10, 1, input_shape=(8, 8, 3), **options)
            randomize(model)
            path = os.path.join(self.get_temp_dir(), "resnet.keras")
            model.save(path)
            again = keras.models.load_model(path)
            self.assertEqual(trainable(again), trainable(model))
            x = np.random.default_rng(0).standard_normal((2, 8, 8, 3))
            self.assertAllClose(again(x), model(x), 1e-6, 1e-6)
            self.assertIsInstance(again.get_layer("hyper_network"), HyperNetwork)

    def test_regularizer_acts_on_all_kernels(self):
        for hyper in (True, False):
            model = hyper_resnet(
                10, 1, hyper, (8, 8, 3), kernel_regularizer=keras.regularizers.L2(1)
            )
            model(np.zeros((1, 8, 8, 3)))
            kernels = [weight for weight in model.weights if weight.name == "kernel"]
            if hyper:
                kernels += model.get_layer("hyper_network").generated_weights().values()
            self.assertLen(kernels, 6 + 1 + 2 + 1)
            expected = sum(np.sum(np.square(kernel)) for kernel in kernels)
            self.assertAllClose(sum(model.losses), expected, 1e-5)

    def test_regularizer_under_mixed_precision(self):
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = hyper_resnet(10, 1, input_shape=(8, 8, 3), kernel_regularizer="l2")
        finally:
            keras.config.set_dtype_policy("float32")
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss)
        x = np.random.default_rng(0).standard_normal((2, 8, 8, 3))
        self.assertTrue(np.isfinite(model.train_on_batch(x, np.arange(2))))
        self.assertEqual({penalty.dtype for penalty in model.losses}, {tf.float32})
        kernels = model.get_layer("hyper_network").generated_weights().values()
        expected = sum(0.01 * np.sum(np.square(kernel)) for kernel in kernels)
        self.assertAllClose(model.losses[-1], expected, 1e-5)

    def test_images_are_channels_last_whatever_keras_is_set_to(self):
        keras.config.set_image_data_format("channels_first")
        try:
            for hyper in (True, False):
                model = hyper_resnet(10, 1, hyper=hyper)
                self.assertEqual(tuple(model(np.zeros((2, 32, 32, 3))).shape), (2, 10))
        finally:
            keras.config.set_image_data_format("channels_last")

    def test_learns(self):
        keras.utils.set_random_seed(0)
        rng = np.random.default_rng(0)
        labels = np.arange(60) % 3
        images = rng.standard_normal((60, 8, 8, 3))
        images[np.arange(60), :, :, labels] += 1
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        for hyper in (True, False):
            model = hyper_resnet(10, 1, hyper, (8, 8, 3), 3)
            optimizer = keras.optimizers.Adam(2e-3)
            model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
            model.fit(images, labels, epochs=15, batch_size=20, verbose=0)
            self.assertGreater(model.evaluate(images, labels, verbose=0)[1], 0.9)

    def test_bad_arguments(self):
        for arguments, options, message in (
            ((17, 1), {}, "`depth` must be 6n \\+ 4.*Received: depth=17"),
            ((4, 1), {}, "`depth` must be 6n \\+ 4"),
            ((10, 0), {}, "`width` must be a positive integer"),
            ((10, 1), {"shortcut": "none"}, "`shortcut` must be one of"),
            ((10, 1), {"classes": 0}, "`classes` must be a positive integer"),
            ((10, 1), {"input_shape": (32, 32)}, "`input_shape` must be \\(height, width"),
            ((10, 1), {"input_shape": (3, 32, 3)}, "`input_shape` must be"),
            ((10, 1), {"input_shape": (32, 32, 0)}, "`input_shape` must be"),
            ((10, 1), {"input_shape": (32, 32, None)}, "`input_shape` must be"),
            ((10, 1), {"input_shape": 32}, "`input_shape` must be.*Received: input_shape=32"),
            ((10, 1), {"tile_size": 12}, "`tile_size` must be a divisor of 16"),
            ((10, 1), {"hyper": 1}, "`hyper` must be True or False"),
            ((10, 1), {"conv_bias": "no"}, "`conv_bias` must be True or False"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                hyper_resnet(*arguments, **options)
