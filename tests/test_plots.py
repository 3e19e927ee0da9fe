"""Grids of filters."""

import io

import keras
import numpy as np
import tensorflow as tf
from figures import assert_complete
from keras import layers
from random_weights import randomize

from keras_hypernets import HyperConv2D, HyperDense, HyperNetwork, KernelGenerator
from keras_hypernets.models import hyper_cnn, hyper_resnet
from keras_hypernets.plots import plot_filters
from keras_hypernets.plots.filters import _columns


def kernel_of(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


class PlotFilters(tf.test.TestCase):
    def check_panel(self, axes, kernel):
        """Checks that filter (i, o) is at row i and column o, with all of its values."""
        picture = axes.images[0].get_array()
        height, width, inputs, outputs = kernel.shape
        self.assertEqual(picture.shape, (inputs * height, outputs * width))
        for i in range(inputs):
            for o in range(outputs):
                rows, columns = slice(i * height, (i + 1) * height), slice(o * width, None)
                self.assertAllClose(picture[rows, columns][:, :width], kernel[:, :, i, o], 0, 0)

    def test_places_of_the_filters(self):
        kernel = kernel_of(3, 2, 4, 5)
        for given in (kernel, tf.constant(kernel), tf.Variable(kernel), keras.Variable(kernel)):
            figure = plot_filters(given)
            self.assertEqual(titles(figure), ["kernel (3, 2, 4, 5)"])
            self.check_panel(figure.axes[0], kernel)

    def test_lines_are_between_the_filters(self):
        (axes,) = plot_filters(kernel_of(3, 2, 4, 5)).axes
        self.assertAllEqual(axes.get_xticks(), [1.5, 3.5, 5.5, 7.5])
        self.assertAllEqual(axes.get_yticks(), [2.5, 5.5, 8.5])
        self.assertTrue(all(line.get_visible() for line in axes.get_xgridlines()))
        self.assertTrue(all(line.get_visible() for line in axes.get_ygridlines()))

    def test_each_kernel_has_a_range_around_zero(self):
        model = keras.Sequential([keras.Input((9, 9, 2)), layers.Conv2D(3, 3), layers.Conv2D(4, 3)])
        small, large = (layer.kernel for layer in model.layers)
        small.assign(np.clip(kernel_of(3, 3, 2, 3), -0.25, 0.125))
        large.assign(np.clip(kernel_of(3, 3, 3, 4), -0.5, 1.5))
        for axes, limit in zip(plot_filters(model).axes, (0.25, 1.5), strict=True):
            self.assertEqual(axes.images[0].get_clim(), (-limit, limit))
            self.assertEqual(axes.get_xlabel(), f"black {-limit}, white {limit}")

    def test_the_range_is_that_of_the_whole_kernel(self):
        kernel = np.zeros((3, 3, 2, 2), "float32")
        kernel[0, 0, 1, 1] = 2
        self.assertEqual(plot_filters(kernel, 1).axes[0].images[0].get_clim(), (-2, 2))

    def test_values_without_a_range(self):
        kernel = np.full((3, 3, 1, 1), 0.5, "float32")
        kernel[0, 0], kernel[0, 1] = np.nan, -np.inf
        image = plot_filters(kernel).axes[0].images[0]
        self.assertEqual(image.get_clim(), (-0.5, 0.5))
        self.assertEqual(plot_filters(0 * kernel[1:]).axes[0].images[0].get_clim(), (-1, 1))

    def test_ordinary_and_generated_kernels(self):
        model = hyper_cnn()
        randomize(model)
        figure = plot_filters(model)
        self.assertEqual(titles(figure), ["conv_1 (7, 7, 1, 16)", "conv_2 (7, 7, 16, 16)"])
        for axes, name in zip(figure.axes, ("conv_1", "conv_2"), strict=True):
            kernel = keras.ops.convert_to_numpy(model.get_layer(name).kernel)
            self.check_panel(axes, kernel)
        file = io.BytesIO()
        figure.savefig(file)
        self.assertEqual(file.getvalue()[1:4], b"PNG")

    def test_one_layer(self):
        layer = HyperConv2D(5, 3, name="one")
        layer.build((None, 9, 9, 4))
        figure = plot_filters(layer)
        self.assertEqual(titles(figure), ["one (3, 3, 4, 5)"])
        self.check_panel(figure.axes[0], keras.ops.convert_to_numpy(layer.kernel))

    def test_bfloat16(self):
        layer = HyperConv2D(5, 3, dtype="bfloat16")
        layer.build((None, 9, 9, 4))
        figure = plot_filters(layer)
        self.check_panel(figure.axes[0], keras.ops.convert_to_numpy(layer.kernel))
        figure.savefig(io.BytesIO())

    def test_other_layers_with_a_kernel(self):
        """Only 2D convolutions are drawn, all of them as (height, width, in, out)."""
        transpose = layers.Conv2DTranspose(6, 3, name="transpose")
        attention = layers.EinsumDense("bhwc,hwcd->bd", 5, name="rank_4_but_no_convolution")
        model = keras.Sequential(
            [
                keras.Input((9, 9, 2)),
                layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise"),
                transpose,
                attention,
                HyperDense(8, name="dense"),
                layers.Reshape((4, 2)),
                layers.Conv1D(3, 2, name="conv1d"),
            ]
        )
        self.assertLen(attention.kernel.shape, 4)
        figure = plot_filters(model)
        self.assertEqual(titles(figure), ["depthwise (3, 3, 2, 2)", "transpose (3, 3, 4, 6)"])
        kernel = keras.ops.convert_to_numpy(transpose.kernel)
        self.check_panel(figure.axes[1], kernel.swapaxes(2, 3))

    def test_layers_within_layers(self):
        class Block(keras.Layer):
            def __init__(self):
                super().__init__(name="block")
                first, second = layers.Conv2D(4, 3, name="first"), HyperConv2D(4, 3, name="second")
                self.convolutions = [first, second]

            def call(self, x):
                for layer in self.convolutions:
                    x = layer(x)
                return x

        shared = HyperConv2D(4, 3, padding="same", name="shared")
        inner = keras.Sequential([keras.Input((9, 9, 4)), shared], name="inner")
        middle = keras.Sequential([keras.Input((9, 9, 4)), inner, Block()], name="middle")
        frames = keras.Input((2, 9, 9, 4))
        x = layers.TimeDistributed(shared, name="again")(frames)
        x = layers.TimeDistributed(middle, name="frames")(x)
        x = layers.TimeDistributed(layers.Conv2D(2, 1, name="last"), name="end")(x)
        self.assertEqual(
            titles(plot_filters(keras.Model(frames, x))),
            [
                "again/shared (3, 3, 4, 4)",
                "frames/middle/block/first (3, 3, 4, 4)",
                "frames/middle/block/second (3, 3, 4, 4)",
                "end/last (1, 1, 4, 2)",
            ],
        )
        self.assertEqual(
            titles(plot_filters(middle)),
            [
                "inner/shared (3, 3, 4, 4)",
                "block/first (3, 3, 4, 4)",
                "block/second (3, 3, 4, 4)",
            ],
        )

    def test_the_target_of_a_hyper_network(self):
        """It is drawn with the kernels that it runs with, each once, where its layers stand."""
        target = keras.Sequential(
            [
                keras.Input((9, 9, 4)),
                layers.Conv2D(4, 1, name="kept"),
                layers.Conv2DTranspose(8, 3, name="transpose"),
                layers.Conv2D(4, 3, name="conv"),
                layers.Dense(8, name="dense"),
            ],
            name="target",
        )
        drawn = ["kept (1, 1, 4, 4)", "transpose (3, 3, 4, 8)", "conv (3, 3, 8, 4)"]
        tiles = KernelGenerator((3, 3, 4, 4), 3)
        for options in (
            {"generator": tiles, "base": None},
            {"embedding_dim": 2, "target_weights": ["transpose/", "conv/"]},
        ):
            hyper = HyperNetwork(target, **options)
            images = keras.Input((9, 9, 4))
            model = keras.Model(images, hyper(images))
            randomize(model)
            kernel = hyper.generated_weights()["target/transpose/kernel"]
            for one in (model, hyper):
                figure = plot_filters(one)
                self.assertEqual(titles(figure), drawn)
                self.check_panel(figure.axes[1], kernel.numpy().swapaxes(2, 3))

    def test_kernels_that_depend_on_a_condition_are_left_out(self):
        stack = [layers.Conv2D(4, 1, name="kept"), layers.Conv2D(4, 3, name="generated")]
        target = keras.Sequential([keras.Input((9, 9, 4)), *stack])
        for base in ("trainable", None):
            hyper = HyperNetwork(target, "generated/", hidden_units=(2,), base=base)
            hyper(np.ones((1, 9, 9, 4)), np.ones((1, 2)))
            self.assertEqual(titles(plot_filters(hyper)), ["kept (1, 1, 4, 4)"])

    def test_hyper_resnet(self):
        names = [
            [title.split()[0] for title in titles(plot_filters(hyper_resnet(10, 1, hyper)))]
            for hyper in (True, False)
        ]
        self.assertEqual(*names)
        self.assertContainsSubset(["stem", "group_1_block_1_conv_1"], names[0])

    def test_layers_of_layers_with_other_attributes(self):
        class Block(layers.Layer):
            def __init__(self):
                super().__init__(name="block")
                self.table = {1: 2, "a": [layers.Conv2D(2, 3, name="inner")]}

            def build(self, input_shape):
                self.table["a"][0].build(input_shape)

        block = Block()
        block.build((None, 5, 5, 1))
        self.assertEqual(titles(plot_filters(block)), ["inner (3, 3, 1, 2)"])

    def test_dense_kernels_are_left_out(self):
        dense = HyperDense(8)
        dense.build((None, 4))
        with self.assertRaisesRegex(ValueError, "`model_or_kernel` must be"):
            plot_filters(dense)

    def test_number_of_channels(self):
        for shape, channels, drawn, said in (
            ((3, 3, 64, 64), {}, 16, "first 16 of 64 input channels and 16 of 64 output channels"),
            ((3, 3, 2, 5), {"channels": 4}, 4, "first 4 of 5 output channels"),
            ((3, 3, 5, 2), {"channels": 4}, 4, "first 4 of 5 input channels"),
            ((3, 3, 20, 18), {"channels": 20}, 20, None),
        ):
            kernel = kernel_of(*shape)
            figure = plot_filters(kernel, **channels)
            self.check_panel(figure.axes[0], kernel[:, :, :drawn, :drawn])
            self.assertEqual(titles(figure)[0].split("\n")[1:], [said] if said else [])

    def test_many_kernels_are_drawn_side_by_side(self):
        convolutions = [layers.Conv2D(4, 1, name=f"c{n}") for n in range(7)]
        model = keras.Sequential([keras.Input((9, 9, 4)), *convolutions])
        figure = plot_filters(model)
        self.assertEqual(titles(figure), [f"c{n} (1, 1, 4, 4)" for n in range(7)])
        places = [axes.get_subplotspec() for axes in figure.axes]
        places = [(place.rowspan.start, place.colspan.start) for place in places]
        self.assertEqual(places, [divmod(n, 4) for n in range(7)])

    def test_the_last_row_is_no_less_than_half_full(self):
        for count in range(1, 42):
            columns = _columns(count)
            self.assertGreaterEqual((count - 1) % columns + 1, columns / 2, count)
            self.assertBetween(columns / np.sqrt(count), 0.7, 1.8, count)

    def test_everything_has_its_place(self):
        def stack(*names, shape=(3, 3, 4, 4)):
            *window, inputs, filters = shape
            convolutions = [layers.Conv2D(filters, window, name=name) for name in names]
            return keras.Sequential([keras.Input((15, 15, inputs)), *convolutions])

        for given in (
            stack("one"),
            stack("one", "two"),
            stack(*"abcde"),
            stack(*"abcdefg"),
            stack("long" * 25, "very" * 40),
            stack("flat", shape=(1, 1, 1, 16)),
            kernel_of(3, 3, 40, 1),
            kernel_of(3, 3, 64, 64),
            hyper_cnn(),
        ):
            figure = plot_filters(given)
            assert_complete(figure)
            boxes = [axes.get_tightbbox() for axes in figure.axes]
            for n, box in enumerate(boxes):
                self.assertFalse(any(box.overlaps(other) for other in boxes[:n]))
            of_rows, of_columns = (text.get_window_extent() for text in figure.texts[::-1])
            gaps = min(b.x0 for b in boxes) - of_rows.x1, min(b.y0 for b in boxes) - of_columns.y1
            self.assertBetween(gaps[1] / figure.dpi, 0, 0.2)
            self.assertGreater(gaps[0], 0)

    def test_bad_arguments(self):
        dense = keras.Sequential([keras.Input((4,)), HyperDense(3), layers.Dense(3)], name="dense")
        for wrong, received in (
            (None, "NoneType"),
            ("model.keras", "str"),
            ([[1.0]], "list"),
            (kernel_of(3, 4), "ndarray of shape \\(3, 4\\)"),
            (kernel_of(2, 3, 3, 4, 4), "ndarray of shape \\(2, 3, 3, 4, 4\\)"),
            (dense, "dense \\(built=True\\)"),
            (keras.Sequential([HyperConv2D(3, 3)], name="new"), "new \\(built=False\\)"),
            (HyperConv2D(3, 3, name="new"), "new \\(built=False\\)"),
            (layers.Conv2D(3, 3, name="new"), "new \\(built=False\\)"),
            (layers.Conv2DTranspose(3, 3, name="new"), "new \\(built=False\\)"),
        ):
            rule = "`model_or_kernel` must be .* \\(height, width, in, out\\). Received: "
            with self.assertRaisesRegex(ValueError, rule + received):
                plot_filters(wrong)
        for wrong in (0, 2.5, None):
            with self.assertRaisesRegex(ValueError, "`channels` must be a positive integer"):
                plot_filters(kernel_of(3, 3, 1, 1), channels=wrong)
