import keras
import numpy as np
import tensorflow as tf

from keras_hypernets import HyperConv2D
from keras_hypernets.models import hyper_cnn


class HyperCNN(tf.test.TestCase):
    def test_parameter_counts_of_the_paper(self):
        self.assertEqual(hyper_cnn().count_params(), 12_910)
        self.assertEqual(hyper_cnn(hyper=False).count_params(), 21_210)
        second = hyper_cnn().get_layer("conv_2")
        self.assertIsInstance(second, HyperConv2D)
        self.assertEqual(second.count_params() - second.bias.shape[0], 4_244)
        self.assertEqual(np.prod(second.kernel.shape), 12_544)

    def test_other_sizes(self):
        model = hyper_cnn(input_shape=(32, 20, 3), classes=7)
        self.assertEqual(tuple(model(np.zeros((2, 32, 20, 3))).shape), (2, 7))

    def test_images_are_channels_last_whatever_keras_is_set_to(self):
        keras.config.set_image_data_format("channels_first")
        try:
            for hyper in (True, False):
                model = hyper_cnn(hyper=hyper)
                self.assertEqual(tuple(model(np.zeros((2, 28, 28, 1))).shape), (2, 10))
        finally:
            keras.config.set_image_data_format("channels_last")

    def test_learns(self):
        keras.utils.set_random_seed(0)
        images = np.random.default_rng(0).random((40, 8, 8, 1)) * 0.2
        labels = np.arange(40) % 4
        for image, label in zip(images, labels, strict=True):
            image[4 * (label // 2) :, 4 * (label % 2) :] += 1
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        for hyper in (True, False):
            model = hyper_cnn(hyper, (8, 8, 1), 4)
            optimizer = keras.optimizers.Adam(3e-3)
            model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
            model.fit(images, labels, epochs=30, verbose=0)
            self.assertGreater(model.evaluate(images, labels, verbose=0)[1], 0.9)

    def test_bad_arguments(self):
        for options, message in (
            ({"input_shape": (28, 28)}, "`input_shape` must be \\(height, width, channels\\)"),
            ({"input_shape": (3, 28, 1)}, "`input_shape` must be"),
            ({"input_shape": (None, None, 1)}, "`input_shape` must be"),
            ({"input_shape": (28, 28, None)}, "`input_shape` must be"),
            ({"classes": 0}, "`classes` must be a positive integer"),
            ({"hyper": "yes"}, "`hyper` must be True or False"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                hyper_cnn(**options)
