"""Generators and the layers whose kernels they write."""

import os

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from random_weights import randomize

import keras_hypernets
from keras_hypernets import HyperConv2D, HyperDense, HyperNetwork, KernelGenerator


def reference_tile(generator, z):
    """Eq. 2 in float64, one input channel after the other."""
    weights = {w.name: ops.convert_to_numpy(w).astype("float64") for w in generator.weights}
    *window, inputs, outputs = generator.tile_shape
    tile = np.zeros(generator.tile_shape)
    for i in range(inputs):
        a = weights["projection_kernel"][:, i].T @ z + weights["projection_bias"][i]
        k = weights["output_kernel"].T @ a + weights["output_bias"]
        tile[..., i, :] = k.reshape(*window, outputs)
    return tile


def built_generator(tile_shape, **options):
    generator = KernelGenerator(tile_shape, **options)
    generator.build(None)
    randomize(generator)
    return generator


class Generator(tf.test.TestCase):
    def test_equation(self):
        for tile_shape in ((3, 2, 4, 5), (4, 5)):
            generator = built_generator(
                tile_shape, embedding_dim=3, hidden_units=7, dtype="float64"
            )
            z = np.random.default_rng(0).standard_normal((6, 3))
            tiles = generator(z)
            self.assertEqual(tuple(tiles.shape), (6, *tile_shape))
            for one, embedding in zip(tiles, z, strict=True):
                self.assertAllClose(one, reference_tile(generator, embedding), 1e-12, 1e-12)

    def test_parameter_counts(self):
        """Those of the paper's two image models."""
        for shape, dim, count in (((7, 7, 16, 16), 4, 4240), ((3, 3, 16, 16), 64, 75920)):
            self.assertEqual(built_generator(shape, embedding_dim=dim).count_params(), count)

    def variance(self, initializer, embedding_dim, input_tiles, output_tiles, seeds=30):
        values = []
        for seed in range(seeds):
            keras.utils.set_random_seed(seed)
            generator = KernelGenerator((3, 3, 4, 6), embedding_dim, initializer=initializer)
            layer = HyperConv2D(6 * output_tiles, 3, generator)
            layer.build((None, 9, 9, 4 * input_tiles))
            values.append(np.var(layer.kernel))
        return np.mean(values)

    def test_kernels_start_with_the_variance_of_he(self):
        for dim, tiles in ((16, 1), (64, 2), (16, 4)):
            found = self.variance("hyperfan_in", dim, tiles, tiles)
            self.assertAllClose(found, 2 / (9 * 4 * tiles), 0.15, 0)
        found = self.variance("hyperfan_out", 16, 2, 3)
        self.assertAllClose(found, 2 / (9 * 6 * 3), 0.15, 0)

    def test_notebook_values(self):
        ratios = []
        for seed in range(20):
            keras.utils.set_random_seed(seed)
            generator = KernelGenerator((7, 7, 16, 16), 4, initializer="notebook")
            layer = HyperConv2D(64, 7, generator)
            layer.build((None, 9, 9, 64))
            ratios.append(np.sqrt(2 / (7 * 7 * 64)) / np.std(layer.kernel))
        self.assertBetween(np.mean(ratios), 50, 200)  # 200 for one tile, here for 4 of them
        self.assertAllClose(np.mean(layer.embedding), 0.01, atol=0.3)
        self.assertAllClose(np.std(layer.embedding), 0.88, 0.2)  # cut off at two deviations
        self.assertNotAllClose(
            np.ravel(generator.projection_kernel)[:50], np.ravel(generator.output_kernel)[:50]
        )

    def test_bad_arguments(self):
        for make, message in (
            (lambda: KernelGenerator((3,)), "`tile_shape` must be .*Received: tile_shape=\\("),
            (lambda: KernelGenerator(5), "`tile_shape` must be"),
            (lambda: KernelGenerator((3, 3, 0, 4)), "`tile_shape` must be a positive integer"),
            (lambda: KernelGenerator((3, 4), embedding_dim=0), "`embedding_dim` must be a pos"),
            (lambda: KernelGenerator((3, 4), hidden_units=-1), "`hidden_units` must be a pos"),
            (lambda: KernelGenerator((3, 4), initializer="he"), "`initializer` must be one of"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                make()


class Layers(tf.test.TestCase):
    def test_is_the_plain_convolution_with_its_kernel(self):
        x = np.random.default_rng(0).standard_normal((2, 9, 8, 4)).astype("float32")
        for options in (
            {},
            {"strides": (2, 1), "padding": "same"},
            {"dilation_rate": 2, "activation": "relu"},
            {"groups": 2, "use_bias": False},
        ):
            layer = HyperConv2D(6, (3, 2), embedding_dim=3, **options)
            layer(x)
            randomize(layer)
            plain = keras.layers.Conv2D(6, (3, 2), **options)
            plain.build(x.shape)
            plain.set_weights([layer.kernel, *([] if layer.bias is None else [layer.bias])])
            self.assertAllClose(layer(x), plain(x), 1e-5, 1e-5)

    def test_other_ranks_are_the_plain_convolutions_with_their_kernels(self):
        rng = np.random.default_rng(0)
        for rank, options in (
            (1, {"padding": "causal", "dilation_rate": 2}),
            (1, {"strides": 2, "activation": "relu"}),
            (3, {"padding": "same", "use_bias": False}),
            (3, {"groups": 2, "strides": (1, 2, 1)}),
        ):
            x = rng.standard_normal((2, *[7] * rank, 4)).astype("float32")
            hyper = getattr(keras_hypernets, f"HyperConv{rank}D")
            plain = getattr(keras.layers, f"Conv{rank}D")(6, 3, **options)
            generator = KernelGenerator((*[3] * rank, 2, 3), 2)
            layer = hyper(6, 3, generator, **options)
            layer(x)
            randomize(layer)
            plain.build(x.shape)
            plain.set_weights([layer.kernel, *([] if layer.bias is None else [layer.bias])])
            self.assertAllClose(layer(x), plain(x), 1e-5, 1e-5)
            self.assertEqual(layer.compute_output_shape(x.shape), tuple(plain(x).shape))

    def test_causal_convolution_with_channels_first(self):
        options = {"padding": "causal", "dilation_rate": 2}
        last = keras_hypernets.HyperConv1D(6, 3, **options)
        first = keras_hypernets.HyperConv1D(6, 3, data_format="channels_first", **options)
        shape = first.compute_output_shape((2, 4, 7))
        last.build((2, 7, 4))
        first.build((2, 4, 7))
        first.set_weights(last.get_weights())
        self.assertEqual(shape, (2, 6, 7))
        kernels = [layer.kernel for layer in (first, last)]
        self.assertAllClose(*kernels)

    def test_embeddings_have_their_own_options(self):
        layer = HyperConv2D(
            8,
            3,
            KernelGenerator((3, 3, 4, 4), 2),
            embedding_initializer="ones",
            embedding_regularizer=keras.regularizers.L2(0.1),
            embedding_constraint="non_neg",
            kernel_regularizer=keras.regularizers.L1(0.01),
        )
        layer.build((None, 5, 5, 8))
        self.assertAllEqual(layer.embedding, np.ones((4, 2)))
        penalty = 0.1 * 8 + 0.01 * np.abs(layer.kernel).sum()
        self.assertAllClose(sum(layer.losses), penalty)
        self.assertAllEqual(layer.embedding.constraint(-layer.embedding), np.zeros((4, 2)))
        again = HyperConv2D.from_config(layer.get_config())
        self.assertEqual(again.get_config(), layer.get_config())

    def test_a_seed_gives_a_generator_its_initial_values(self):
        a, b, c = (KernelGenerator((3, 4), 5, seed=seed) for seed in (1, 1, 2))
        for generator in (a, b, c):
            generator.build()
        self.assertAllEqual(a.projection_kernel, b.projection_kernel)
        self.assertAllEqual(a.output_kernel, b.output_kernel)
        self.assertNotAllClose(a.output_kernel, c.output_kernel)

    def test_channels_first_is_the_transposed_channels_last(self):
        last = HyperConv2D(6, 3, strides=2, groups=2)
        first = HyperConv2D(6, 3, strides=2, groups=2, data_format="channels_first")
        x = np.random.default_rng(0).standard_normal((2, 9, 8, 4)).astype("float32")
        last(x)
        symbolic = first(keras.KerasTensor((2, 4, 9, 8)))
        randomize(last)
        first.set_weights(last.get_weights())
        found, expected = first(x.transpose(0, 3, 1, 2)), last(x)
        self.assertEqual(tuple(found.shape), symbolic.shape)
        self.assertAllClose(np.transpose(found, (0, 2, 3, 1)), expected, 1e-5, 1e-5)

    def test_is_the_plain_dense_layer_with_its_kernel(self):
        x = np.random.default_rng(0).standard_normal((2, 5, 4)).astype("float32")
        layer = HyperDense(6, embedding_dim=3, activation="tanh")
        layer(x)
        randomize(layer)
        plain = keras.layers.Dense(6, activation="tanh")
        plain.build(x.shape)
        plain.set_weights([layer.kernel, layer.bias])
        self.assertAllClose(layer(x), plain(x), 1e-6, 1e-6)

    def test_tiles_are_row_major(self):
        """Eq. 3: K = [K1 K2 K3; K4 K5 K6], rows are input tiles, columns output tiles."""
        for window in ((3, 2), ()):
            generator = built_generator((*window, 2, 4), embedding_dim=3)
            layer = HyperConv2D(12, window, generator) if window else HyperDense(12, generator)
            layer.build((None, 9, 9, 4) if window else (None, 4))
            layer.embedding.assign(np.random.default_rng(1).standard_normal((6, 3)))
            kernel = ops.convert_to_numpy(layer.kernel)
            for n, z in enumerate(ops.convert_to_numpy(layer.embedding)):
                row, column = divmod(n, 3)
                tile = kernel[..., 2 * row : 2 * row + 2, 4 * column : 4 * column + 4]
                self.assertAllClose(tile, reference_tile(generator, z), 1e-5, 1e-6)

    def test_regularizer_counts_a_kernel_once(self):
        """However often a layer is called, as in Keras' own layers; not when it is frozen."""
        x = inputs = keras.Input((2, 4))
        layer = HyperDense(4, embedding_dim=3, kernel_regularizer="l2")
        for _ in range(2):
            x = layer(x)
        y = keras.layers.TimeDistributed(layer)(x)
        model = keras.Model(inputs, [x, y])
        model.compile("sgd", "mse")
        data = np.ones((3, 2, 4), "float32")
        expected = 0.01 * np.sum(np.square(layer.kernel))
        plain_loss = [np.mean(np.square(np.asarray(out) - 1)) for out in model(data)]
        loss = model.evaluate(data, [data, data], verbose=0)
        self.assertAllClose(loss[0], sum(plain_loss) + expected, 1e-5)
        model.fit(data, [data, data], verbose=0)
        self.assertLen(model.losses, 1)
        self.assertAllClose(float(model.losses[0]), 0.01 * np.sum(np.square(layer.kernel)), 1e-5)
        layer.trainable = False
        self.assertEmpty(model.losses)

    def test_regularizer_acts_on_the_generated_kernel(self):
        layer = HyperDense(6, embedding_dim=3, kernel_regularizer=keras.regularizers.L2(0.5))
        x = ops.ones((2, 4))
        layer(x)
        layer(x)
        expected = 0.5 * np.sum(np.square(layer.kernel))
        self.assertAllClose([float(loss) for loss in layer.losses], [expected])
        with tf.GradientTape() as tape:
            layer(x)
            loss = sum(layer.losses)
        self.assertGreater(np.abs(tape.gradient(loss, layer.embedding.value)).max(), 0)

    def test_hyper_dense_passes_masks_on(self):
        ids = keras.Input((None,))
        x = HyperDense(3)(keras.layers.Embedding(4, 2, mask_zero=True)(ids))
        model = keras.Model(ids, keras.layers.LSTM(2)(x))
        randomize(model)
        padded = model(np.array([[1, 2, 0, 0, 0]]))
        self.assertAllClose(padded, model(np.array([[1, 2]])), 1e-6, 1e-6)

    def test_default_of_the_embedding(self):
        """It is the layer's own generator's, and none of a layer that shares one."""
        alone, shared = HyperDense(4), HyperDense(4, KernelGenerator((4, 4), 3))
        old = shared.get_config() | {"embedding_dim": 16}  # before the default was None
        for layer, size in (
            (alone, 16),
            (HyperDense.from_config(alone.get_config()), 16),
            (HyperDense(4, embedding_dim=16), 16),
            (shared, 3),
            (HyperDense.from_config(shared.get_config()), 3),
            (HyperDense.from_config(old), 3),
        ):
            layer.build((None, 4))
            self.assertEqual(layer.embedding.shape, (1, size))

    def test_images_of_any_size(self):
        model = keras.Sequential([keras.Input((None, None, 2)), HyperConv2D(3, 3, padding="SAME")])
        self.assertEqual(model.output_shape, (None, None, None, 3))
        self.assertEqual(tuple(model(np.ones((1, 4, 6, 2))).shape), (1, 4, 6, 3))

    def test_frozen_layers_do_not_train(self):
        for layer in (HyperConv2D(3, 3, trainable=False), HyperConv2D(3, 3)):
            model = keras.Sequential([keras.Input((4, 4, 2)), layer])
            layer.trainable = False
            self.assertEmpty(model.trainable_weights)
            layer.trainable = True
            self.assertLen(model.trainable_weights, 6)
        model = keras.Sequential([keras.Input((4,)), HyperDense(3, trainable=False)])
        self.assertEmpty(model.trainable_weights)

    def test_bad_arguments(self):
        generator = KernelGenerator((3, 3, 4, 4))
        x = (None, 8, 8, 8)
        for make, shape, message in (
            (lambda: HyperConv2D(8, 5, generator), x, "whole tiles.*\\(5, 5, 8, 8\\) and a gen"),
            (lambda: HyperConv2D(6, 3, generator), x, "whole tiles.*\\(3, 3, 8, 6\\)"),
            (lambda: HyperConv2D(8, 3, generator), (None, 8, 8, 6), "whole tiles"),
            (lambda: HyperDense(8, generator), (None, 8), "whole tiles"),
            (lambda: HyperConv2D(8, 3, "small"), x, "`generator` must be a KernelGenerator"),
            (lambda: HyperConv2D(8, 3, generator, dtype="float64"), x, "must have the dtype"),
            (lambda: HyperConv2D(8, 3, generator, 4), x, "must be None with .* embedding_dim=4, h"),
            (lambda: HyperDense(8, generator, hidden_units=4), x, "must be .* hidden_units=4, g"),
            (lambda: HyperConv2D(8, (3, 3, 3)), x, "`kernel_size` must be one or 2 integers"),
            (lambda: HyperConv2D(8, 3, padding="full"), x, "`padding` must be one of"),
            (lambda: HyperConv2D(8, 3, groups=3), x, "`filters` must be a multiple of `groups`"),
            (lambda: HyperConv2D(9, 3, groups=3), x, "channels of the input must be a multiple"),
            (lambda: HyperConv2D(8, 3, strides=2, dilation_rate=2), x, "cannot both be above 1"),
            (lambda: HyperConv2D(0, 3), x, "`filters` must be a positive integer"),
            (lambda: HyperDense(0), x, "`units` must be a positive integer"),
            (lambda: HyperDense(3, embedding_dim=0), x, "`embedding_dim` must be a positive"),
            (lambda: HyperDense(3, hidden_units=0), x, "`hidden_units` must be a positive"),
            (lambda: HyperDense(3), (None, None), "features of the input of .* must be known"),
            (lambda: HyperConv2D(3, 3), (None, 8, 8, None), "input of .* must be known"),
            (lambda: HyperDense(8, generator), (None, 8), "as many axes"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                make().build(shape)


class Sharing(tf.test.TestCase):
    """One generator in several layers stays one, but where Keras parts them."""

    def layers(self):
        one, two = KernelGenerator((3, 3, 4, 4), 3), KernelGenerator((4, 4), 3)
        flatten = keras.layers.GlobalAveragePooling2D()
        return [
            HyperConv2D(4, 3, one),
            HyperConv2D(8, 3, one),
            flatten,
            HyperDense(8, two),
            HyperDense(4, two),
        ]

    def models(self):
        shape = (9, 9, 4)
        yield "sequential", keras.Sequential([keras.Input(shape), *self.layers()])
        x = inputs = keras.Input(shape)
        for layer in self.layers():
            x = layer(x)
        yield "functional", keras.Model(inputs, x)
        a, b, flatten, c, d = self.layers()
        inner = keras.Sequential([keras.Input(shape), a, b])
        yield "nested", keras.Sequential([keras.Input(shape), inner, flatten, c, d])
        shared = KernelGenerator((3, 3, 4, 4), 3)
        first = keras.Sequential([keras.Input(shape), HyperConv2D(4, 3, shared)])
        second = keras.Sequential([keras.Input((7, 7, 4)), HyperConv2D(4, 3, shared)])
        yield "across nested models", keras.Sequential([keras.Input(shape), first, second])
        a, b, *_ = self.layers()
        frames = keras.Input((2, *shape))
        x = keras.layers.TimeDistributed(b)(keras.layers.TimeDistributed(a)(frames))
        yield "time distributed", keras.Model(frames, x)

    def test_through_files(self):
        for name, model in self.models():
            randomize(model)
            x = np.random.default_rng(0).standard_normal((2, *model.input_shape[1:]))
            path = os.path.join(self.get_temp_dir(), name)
            model.save(f"{path}.keras")
            again = keras.models.load_model(f"{path}.keras")
            self.assertEqual(again.count_params(), model.count_params(), name)
            self.assertAllClose(again(x), model(x), 1e-6, 1e-6)
            model.save_weights(f"{path}.weights.h5")
            randomize(again, seed=5)
            again.load_weights(f"{path}.weights.h5")
            self.assertAllClose(again(x), model(x), 1e-6, 1e-6)
            again.compile("sgd", "mse", run_eagerly=True)
            again.train_on_batch(x, np.zeros(again.compute_output_shape(x.shape)))
            path = f"{path} again.keras"
            again.save(path)
            self.assertEqual(keras.models.load_model(path).count_params(), model.count_params())


FILTERS = {"one": 4, "two": 8, "three": 12}


def convolutions(layer, *arguments):
    stack = [layer(filters, 3, *arguments, name=name) for name, filters in FILTERS.items()]
    return keras.Sequential([keras.Input((9, 9, 4)), *stack], name="stack")


class WholeModel(tf.test.TestCase):
    """The kernels of a model from one generator, as a `HyperNetwork`."""

    def setUp(self):
        super().setUp()
        keras.utils.set_random_seed(0)
        self.x = np.random.default_rng(0).standard_normal((2, 9, 9, 4)).astype("float32")

    def hyper(self, embedding_dim=3):
        generator = KernelGenerator((3, 3, 4, 4), embedding_dim)
        hyper = HyperNetwork(convolutions(keras.layers.Conv2D), "kernel", generator, base=None)
        hyper.build(self.x.shape)
        return hyper

    def test_is_what_layers_with_a_shared_generator_are(self):
        hyper = self.hyper()
        randomize(hyper)
        generator = KernelGenerator((3, 3, 4, 4), 3)
        model = convolutions(HyperConv2D, generator)
        self.assertEqual(hyper.count_params(), model.count_params())
        pairs = [*zip(hyper.generator.weights, generator.weights, strict=True)]
        pairs += zip(hyper.kept_weights, [one.bias for one in model.layers], strict=True)
        for ours, other in pairs:
            other.assign(ours)
        embeddings = [layer.embedding for layer in model.layers]
        *ends, _ = np.cumsum([rows.shape[0] for rows in embeddings])
        for rows, ours in zip(
            embeddings, np.split(ops.convert_to_numpy(hyper.embedding), ends), strict=True
        ):
            rows.assign(ours)
        gradients = []
        ours, others = zip(*pairs, strict=True)
        for one, weights in ((hyper, [*ours, hyper.embedding]), (model, [*others, *embeddings])):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.square(one(self.x)))
            found = tape.gradient(loss, [weight.value for weight in weights])
            gradients.append([*found[: len(pairs)], np.concatenate(found[len(pairs) :])])
        self.assertAllClose(hyper(self.x), model(self.x), 1e-5, 1e-5)
        for one, other in zip(*gradients, strict=True):
            self.assertAllClose(one, other, 1e-4, 1e-6 * np.abs(other).max())

    def test_generates_all_tiles_in_one_call(self):
        hyper, calls = self.hyper(), []
        call = hyper.generator.call
        hyper.generator.call = lambda rows: calls.append(tuple(rows.shape)) or call(rows)
        hyper(self.x)
        self.assertEqual(calls, [(1 + 2 + 6, 3)])

    def test_kernels_start_with_the_variance_of_he(self):
        starts = [self.hyper(64).generated_weights() for _ in range(20)]
        for path, kernel in starts[0].items():
            variance = np.mean([np.var(start[path]) for start in starts])
            self.assertAllClose(variance, 2 / np.prod(kernel.shape[:-1]), 0.1, 0)

    def test_regularizer_counts_a_kernel_once(self):
        target = keras.layers.Dense(8, kernel_regularizer=keras.regularizers.L2(1))
        target.build((None, 8))
        hyper = HyperNetwork(target, generator=KernelGenerator((4, 4), 3), base=None)
        inputs = keras.Input((8,))
        model = keras.Model(inputs, hyper(hyper(inputs)))
        model(np.ones((2, 8)))
        (kernel,) = hyper.generated_weights().values()
        self.assertAllClose(sum(model.losses), np.sum(np.square(kernel)), 1e-5)
        model.trainable = False
        self.assertEqual(model.losses, [])

    def test_one_generator_for_two_and_a_layer(self):
        generator = KernelGenerator((4, 4), 3)
        x = inputs = keras.Input((8,))
        for name in ("first", "second"):
            target = keras.layers.Dense(8)
            target.build((None, 8))
            x = HyperNetwork(target, "kernel", generator, base=None, name=name)(x)
        model = keras.Model(inputs, HyperDense(4, generator)(x))
        randomize(model)
        path = os.path.join(self.get_temp_dir(), "two.keras")
        model.save(path)
        again = keras.models.load_model(path)
        self.assertEqual(again.count_params(), model.count_params())
        x = np.random.default_rng(0).standard_normal((2, 8))
        self.assertAllClose(again(x), model(x), 1e-6, 1e-6)
