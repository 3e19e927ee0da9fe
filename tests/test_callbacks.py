"""Generated weights in TensorBoard's files, and warnings about them."""

import math
import sys
import tempfile
import unittest.mock
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from random_weights import randomize

from keras_hypernets import HyperConv2D, HyperDense, HyperLSTM, KernelGenerator, models
from keras_hypernets.callbacks import GeneratedWeightsMonitor
from keras_hypernets.summaries import write_histogram

TEXT = "a cab abc"


def read_events(folder):
    """What TensorBoard finds: `{tag: {step: (plugin, value)}}`, over all files of the folder."""
    found = {}
    for file in sorted(Path(folder).iterdir()):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                content = value.metadata.plugin_data.plugin_name, tf.make_ndarray(value.tensor)
                steps = found.setdefault(value.tag, {})
                assert event.step not in steps, f"{value.tag} written twice"
                steps[event.step] = content
    return found


def frozen(model, loss="mse"):
    """Compiled so that training leaves the weights as they are."""
    model.compile(keras.optimizers.SGD(0.0), loss, run_eagerly=True)
    return model


def image_model():
    generator = KernelGenerator((3, 3, 4, 4), 2)
    return frozen(
        keras.Sequential(
            [
                keras.Input((6, 6, 4)),
                HyperConv2D(4, 3, generator, name="first"),
                HyperConv2D(8, 3, generator, name="second"),
                keras.layers.Flatten(),
                HyperDense(1, name="third"),
            ],
            name="small",
        )
    )


def language_model(cell="hyper_lstm", **options):
    if cell != "lstm":
        options = {"hyper_units": 3, "embedding_dim": 2, **options}
    model = models.char_language_model("abc ", 4, cell=cell, seed=0, **options)
    return frozen(model, keras.losses.SparseCategoricalCrossentropy(from_logits=True))


IMAGES = np.zeros((2, 6, 6, 4), "float32"), np.zeros((2, 1), "float32")
IDS = np.zeros((2, 3), "int32"), np.zeros((2, 3), "int32")


class Monitor(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        keras.utils.set_random_seed(0)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def fit(self, model, data, epochs=1, initial_epoch=0, **options):
        """Trains and returns the monitor."""
        monitor = GeneratedWeightsMonitor(self.folder, **options)
        epochs = {"epochs": epochs, "initial_epoch": initial_epoch}
        model.fit(*data, verbose=0, callbacks=[monitor], **epochs)
        return monitor

    def warnings_of(self, monitor, model):
        """What the monitor says as an epoch ends."""
        monitor.set_model(model)
        monitor.on_train_begin()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            monitor.on_epoch_end(0)
        return [str(w.message) for w in caught if "spread" in str(w.message)]

    def check_weights(self, name, values):
        """Compares what is in the files with the values."""
        events = read_events(self.folder)
        plugin, spread = events[f"spread/{name}"][0]
        self.assertEqual(plugin, "scalars")
        self.assertAllClose(spread, np.sqrt(np.mean(np.square(values))), rtol=1e-4)
        plugin, histogram = events[f"weights/{name}"][0]
        self.assertEqual(plugin, "histograms")
        counts, ends = np.histogram(values, 30)
        self.assertAllClose(histogram[:, 2].sum(), values.size)
        self.assertAllClose(histogram[:, 0], ends[:-1], atol=1e-4)
        self.assertAllClose(histogram[:, 1], ends[1:], atol=1e-4)
        self.assertLess(np.abs(histogram[:, 2] - counts).sum(), 0.1 * values.size + 3)

    def check_picture(self, tag, step=0):
        plugin, (width, height, file) = read_events(self.folder)[tag][step]
        self.assertEqual(plugin, "images")
        self.assertEqual(tf.io.decode_png(file).shape[:2], (int(height), int(width)))

    def test_kernels(self):
        model = image_model()
        monitor = self.fit(model, IMAGES)
        self.assertEqual([*monitor.spreads], ["first", "second", "third"])
        for name in monitor.spreads:
            self.check_weights(name, model.get_layer(name).kernel.numpy())
        events = read_events(self.folder)
        self.assertEqual(
            {tag for tag in events if "/" not in tag}, {"filters", "embedding_similarity"}
        )
        self.check_picture("filters")
        self.check_picture("embedding_similarity")

    def test_kernels_of_a_hyper_network(self):
        model = frozen(models.hyper_resnet(10, 1, input_shape=(4, 4, 4), classes=1))
        data = np.zeros((2, 4, 4, 4), "float32"), IMAGES[1]
        monitor = self.fit(model, data, figures=False)
        self.assertEqual([*monitor.spreads][0], "hyper_network/group_1_block_1_conv_1")
        self.assertLen(monitor.spreads, 6)
        hyper = model.get_layer("hyper_network")
        kernel = hyper.generated_weights()["group_3_block_1_conv_2/kernel"]
        self.check_weights("hyper_network/group_3_block_1_conv_2", kernel.numpy())
        self.assertLen(read_events(self.folder), 12)

    def test_text(self):
        model = language_model(layers=2)
        randomize(model)
        self.fit(model, IDS, sample=TEXT)
        embedding, first = model.get_layer("embedding"), model.get_layer("recurrent_0")
        vectors = embedding(embedding.encode(TEXT)[None])
        for layer, x in ((first, vectors), (model.get_layer("recurrent_1"), first(vectors))):
            for name, values in layer.cell.generated_weights(x).items():
                self.check_weights(f"{layer.name}/{name}", values.numpy())
            self.check_picture(f"weight_changes/{layer.name}")
        self.check_picture("cell_saturation")
        self.assertLen(read_events(self.folder), 2 * 6 + 3)

    def test_sequences(self):
        """Of the inputs of any other model."""
        inputs = keras.Input((5, 2))
        x = HyperLSTM(3, hyper_units=2, embedding_dim=2, return_sequences=True, name="a")(inputs)
        options = {"weight_generation": "full", "hyper_units": 2, "embedding_dim": 4}
        x = HyperLSTM(1, name="b", **options)(x)
        model = frozen(keras.Model(inputs, x))
        randomize(model)
        sample = np.random.default_rng(0).normal(size=(3, 5, 2)).astype("float32")
        data = sample, np.zeros((3, 1))
        monitor = self.fit(model, data, sample=sample)
        self.assertEqual([*monitor.spreads], ["a/d_x", "a/d_h", "a/b", "b/z_x", "b/z_h", "b/b"])
        generated = model.get_layer("b").cell.generated_weights(model.get_layer("a")(sample))
        self.check_weights("b/z_x", generated["z_x"].numpy())
        self.check_weights("b/z_h", generated["z_h"].numpy())

    def test_warns_of_kernels(self):
        """When they are 100 times too large or too small, once, and again after a recovery."""
        model = image_model()
        layer = model.get_layer("first")
        healthy = layer.embedding.numpy()
        monitor = GeneratedWeightsMonitor(self.folder, figures=False)
        for factor, count in ((1, 0), (100, 1), (100, 0), (1, 0), (0.01, 1), (1, 0), (np.nan, 1)):
            layer.embedding.assign(factor * healthy)
            warned = self.warnings_of(monitor, model)
            self.assertLen(warned, count, factor)
            for text in warned:
                he, spread = math.sqrt(2 / 36), monitor.spreads["first"]
                self.assertRegex(text, f"weights first of small have a spread of {spread:.3g}, ")
                self.assertIn(f"but {he / 3:.3g} to {he * 3:.3g} is healthy.", text)

    def test_warns_of_scales(self):
        for options, of_x, start, healthy in (
            ({}, "d_x", 0.1, "0.1 to 10"),
            ({"weight_generation": "full", "embedding_dim": 4}, "z_x", 0.5, "0.167 to 1.5"),
        ):
            model = language_model("hyper_simple_rnn", **options)
            monitor = GeneratedWeightsMonitor(self.folder, sample=TEXT, figures=False)
            self.assertEqual(self.warnings_of(monitor, model), [])
            self.assertAllClose(monitor.spreads[f"recurrent_0/{of_x}"], start, rtol=1.0)
            cell = model.get_layer("recurrent_0").cell
            for weight in (cell.embedding_kernel, cell.embedding_bias, cell.scale_kernel):
                weight.assign(100 * weight)
            warned = self.warnings_of(monitor, model)
            self.assertLen(warned, 2)
            self.assertRegex(warned[0], f"recurrent_0/{of_x} .* but {healthy} is healthy.")

    def test_every_second_epoch_and_resume(self):
        self.fit(image_model(), IMAGES, epochs=4, every=2, figures=False)
        self.assertEqual([*read_events(self.folder)["spread/first"]], [0, 2])
        self.fit(image_model(), IMAGES, epochs=7, initial_epoch=4, every=2, figures=False)
        self.assertEqual([*read_events(self.folder)["spread/first"]], [0, 2, 4, 6])

    def test_all_is_on_disk_after_each_epoch(self):
        class Killed(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                raise KeyboardInterrupt

        monitor = GeneratedWeightsMonitor(self.folder, figures=False)
        with self.assertRaises(KeyboardInterrupt):
            image_model().fit(*IMAGES, verbose=0, callbacks=[monitor, Killed()])
        self.assertLen(read_events(self.folder), 6)

    def test_states_of_a_stateful_model_stay(self):
        model = language_model("hyper_simple_rnn", stateful=True, batch_size=2)
        states = model.get_layer("recurrent_0").states
        alone = language_model("hyper_simple_rnn", stateful=True, batch_size=2)
        alone.set_weights(model.get_weights())
        alone.fit(*IDS, epochs=2, verbose=0, batch_size=2)
        self.fit(model, IDS, epochs=2, sample=TEXT, figures=False)
        self.assertAllClose(states[0], alone.get_layer("recurrent_0").states[0])

    def test_nothing_is_generated(self):
        monitor = self.fit(language_model("lstm"), IDS, sample=TEXT)
        self.assertEqual(monitor.spreads, {})
        self.assertEqual([*read_events(self.folder)], ["cell_saturation"])

    def test_bad_arguments(self):
        for wrong, message in (
            ({"log_dir": ""}, "`log_dir` must be a path"),
            ({"every": 0}, "`every` must be a positive integer"),
            ({"figures": 1}, "`figures` must be True or False"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                GeneratedWeightsMonitor(**{"log_dir": self.folder, **wrong})
        x = np.ones((3, 5, 2), "float32")
        hyper = HyperLSTM(1, hyper_units=2, embedding_dim=2)
        of_vectors = frozen(keras.Sequential([keras.Input((None, 2)), hyper], name="vectors"))
        for model, data, sample, message in (
            (language_model("lstm"), IDS, "a", "`sample` must have 2 to 5,000 characters"),
            (language_model("lstm"), IDS, "ax", "`sample` must be in the vocabulary"),
            (image_model(), IMAGES, "ab", "must be a character language model"),
            (image_model(), IMAGES, IMAGES[0], "`sample` must be None.* ndarray for small"),
            (of_vectors, (x, x[:, 0, :1]), x[..., :1], "`sample` must be inputs of vectors. Rec"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                self.fit(model, data, sample=sample)

    def test_values_that_hardly_differ_and_huge_ones(self):
        one = np.float32(0.1)
        writer = tf.summary.create_file_writer(self.folder)
        with writer.as_default(step=0):
            for n, ends in enumerate(([one, np.nextafter(one, np.float32(1))], [-3e38, 3e38])):
                write_histogram(f"h{n}", np.array(ends, "float32"))
        for record in read_events(self.folder).values():
            self.assertEqual(record[0][1][:, 2].sum(), 2)

    def test_without_tensorflow(self):
        missing = unittest.mock.patch.dict(sys.modules, {"tensorflow": None})
        with missing, self.assertRaisesRegex(ImportError, "pip install tensorflow"):
            GeneratedWeightsMonitor(self.folder)
