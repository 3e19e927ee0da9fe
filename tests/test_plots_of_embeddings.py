"""Similarity of layer embeddings."""

import io

import keras
import numpy as np
import tensorflow as tf
from figures import assert_complete
from keras import layers
from random_weights import randomize

from keras_hypernets import HyperConv2D, HyperDense, HyperNetwork, KernelGenerator
from keras_hypernets.models import hyper_cnn, hyper_resnet
from keras_hypernets.plots import embedding_similarity, plot_embedding_similarity


def of_layers(names):
    """A HyperNetwork that generates the kernels of these dense layers."""
    stack = [layers.Dense(4, name=name) for name in names]
    target = keras.Sequential([keras.Input((4,)), *stack])
    hyper = HyperNetwork(target, generator=KernelGenerator((4, 4), 2), base=None)
    hyper(np.ones((1, 4)))
    return hyper


def cosines(z):
    z = z.numpy().astype("float64")
    return np.array([[a @ b / np.sqrt(a @ a * (b @ b)) for a in z] for b in z])


class EmbeddingSimilarity(tf.test.TestCase):
    def test_hyper_resnet_within_a_model(self):
        resnet = hyper_resnet(10, 1, embedding_dim=5)
        images = keras.Input((32, 32, 3))
        model = keras.Model(images, resnet(layers.Rescaling(1 / 255)(images)))
        randomize(model)
        tiles, similarity = embedding_similarity(model)
        names = [f"group_{n}_block_1_conv_{k}" for n in (1, 2, 3) for k in (1, 2)]
        self.assertEqual(tiles, dict(zip(names, (1, 1, 2, 4, 8, 16), strict=True)))
        self.assertAllClose(
            similarity, cosines(resnet.get_layer("hyper_network").embedding), atol=1e-5
        )
        self.assertLess(similarity.min(), -0.5)

    def test_layers_that_share_a_generator(self):
        generator, other = KernelGenerator((4, 4), 3), KernelGenerator((4, 4), 2)
        model = keras.Sequential(
            [
                keras.Input((4,)),
                HyperDense(8, generator, name="first"),
                HyperDense(4, other, name="other"),
                layers.Dense(4),
                HyperDense(4, generator, name="second"),
                HyperDense(3, embedding_dim=3, name="alone"),
            ]
        )
        randomize(model)
        tiles, similarity = embedding_similarity(model)
        self.assertEqual(tiles, {"first": 2, "second": 1})
        z = tf.concat([model.get_layer(name).embedding for name in tiles], axis=0)
        self.assertAllClose(similarity, cosines(z), atol=1e-5)

    def test_zeros(self):
        hyper = of_layers("ab")
        hyper.embedding.assign([[0, 0], [0, 3]])
        tiles, similarity = embedding_similarity(hyper)
        self.assertEqual(tiles, {"a": 1, "b": 1})
        self.assertAllEqual(similarity, [[0, 0], [0, 1]])

    def test_several_generators(self):
        one, two = (KernelGenerator((4, 4), name=name) for name in ("one", "two"))
        stack = [HyperDense(4, g, name=f"{g.name}_{n}") for n in range(2) for g in (one, two)]
        model = keras.Sequential([keras.Input((4,)), *stack])
        self.assertEqual(embedding_similarity(model, two)[0], {"two_0": 1, "two_1": 1})
        with self.assertRaisesRegex(ValueError, "exactly one .* with 2 of them"):
            embedding_similarity(model)

    def test_figure(self):
        model = hyper_resnet(10, 1, embedding_dim=5)
        randomize(model)
        axes, colour_bar = plot_embedding_similarity(model).axes
        tiles, similarity = embedding_similarity(model)
        image = axes.images[0]
        repeats = np.repeat([16, 8, 4, 2, 1], [2, 2, 4, 8, 16])  # every layer is 16 pixels wide
        self.assertAllClose(
            image.get_array(), np.repeat(np.repeat(similarity, repeats, 0), repeats, 1)
        )
        self.assertEqual(image.get_clim(), (-1, 1))
        self.assertEqual(image.get_extent(), [0, 6, 6, 0])
        self.assertEqual([label.get_text() for label in axes.get_xticklabels()], [*tiles])
        labels = [label.get_text() for label in axes.get_yticklabels()]
        self.assertEqual(labels[1:3], ["group_1_block_1_conv_2", "group_2_block_1_conv_1, 2 tiles"])
        self.assertAllClose(axes.get_yticks(), np.arange(6) + 0.5)
        self.assertGreater(*axes.get_ylim())  # the first layer above
        self.assertIn("cosine", colour_bar.get_ylabel())
        axes.figure.savefig(io.BytesIO())

    def test_labels_of_any_length_are_complete(self):
        for depth, width in ((10, 1), (40, 2)):
            assert_complete(plot_embedding_similarity(hyper_resnet(depth, width)))
        for count, length in ((2, 1), (2, 60), (8, 20), (20, 60)):
            names = [f"{n:0{length}}" for n in range(count)]
            assert_complete(plot_embedding_similarity(of_layers(names)))

    def test_bad_arguments(self):
        without_tiles = HyperNetwork(hyper_cnn(False), embedding_dim=2)
        without_tiles.build((None, 28, 28, 1))
        for wrong, message in (
            ((None,), "`model` must be a built model .* Received: None"),
            ((hyper_cnn(),), "Received: 'hyper_cnn' with 0 of them"),
            ((hyper_resnet(10, 1, hyper=False),), "`model` must be"),
            ((without_tiles,), "with 0 of them"),
            ((keras.Sequential([HyperConv2D(3, 3)]),), "`model` must be"),
            ((hyper_resnet(10, 1), 3), "`generator` must be a KernelGenerator. Received: .*=3"),
            ((hyper_resnet(10, 1), KernelGenerator((4, 4))), "`model` must be .* `generator`"),
        ):
            for function in (embedding_similarity, plot_embedding_similarity):
                with self.assertRaisesRegex(ValueError, message):
                    function(*wrong)
