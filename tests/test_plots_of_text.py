"""Changes of generated weights and saturation of memory cells, over a text."""

import io

import keras
import numpy as np
import tensorflow as tf
from random_weights import randomize

from keras_hypernets import models
from keras_hypernets.models import sequences
from keras_hypernets.plots import plot_cell_saturation, plot_weight_changes, weight_changes

TEXT = "ab b\nca $\tcab"
VOCABULARY = "abc $\n\t\x00"


def make(cell="hyper_lstm", **options):
    if cell.startswith("hyper"):
        options = {"hyper_units": 3, "embedding_dim": 2, **options}
    model = models.char_language_model(VOCABULARY, 4, cell=cell, **options)
    randomize(model)
    return model


def one_hot(model):
    return model.get_layer("embedding")(model.get_layer("embedding").encode(TEXT)[None])


def stepwise(model, name):
    """A state after each character, from one step after the other."""
    states, history = sequences.initial_states(model, 1), []
    for n in model.get_layer("embedding").encode(TEXT):
        _, states = sequences.step(model, np.array([n], "int32"), states)
        history.append(states[[*sequences.state_sizes(model)].index(name)][0])
    return np.array(history, "float64")


class WeightChanges(tf.test.TestCase):
    def check(self, cell, generated, norms):
        """Makes all kernels and compares with the norms of their differences."""
        kernel = cell.recurrent_kernel.numpy().astype("float64")
        kernel = kernel.reshape(cell.gates, -1, *kernel.shape[1:])  # (gates, 1 or z, in, units)
        name = "d_h" if cell.weight_generation == "scaling" else "z_h"
        generated = generated[name].numpy().astype("float64")[0]
        self.assertEqual(norms.shape, (len(TEXT) - 1, cell.gates))
        if cell.weight_generation == "scaling":
            kernels = kernel[None, :, 0] * generated[:, :, None]
        else:
            kernels = np.einsum("gkiu,tgk->tgiu", kernel, generated)
        expected = np.sqrt(np.sum(np.diff(kernels, axis=0) ** 2, axis=(2, 3)))
        self.assertAllClose(norms, expected, rtol=1e-4)
        self.assertGreater(expected.min(), 1e-4)

    def test_every_cell(self):
        for cell, options in (
            ("hyper_lstm", {}),
            ("hyper_lstm", {"weight_generation": "full", "layer_norm": False}),
            ("hyper_gru", {"token_embedding_size": 3}),
            ("hyper_simple_rnn", {"weight_generation": "full"}),
        ):
            model = make(cell, **options)
            cell = model.get_layer("recurrent_0").cell
            self.check(cell, cell.generated_weights(one_hot(model)), weight_changes(model, TEXT))

    def test_second_layer_of_a_stateful_model(self):
        options = {"layers": 2, "stateful": True, "batch_size": 3, "dropout": 0.5}
        model = make("hyper_simple_rnn", **options)
        first, second = (model.get_layer(f"recurrent_{n}").cell for n in range(2))
        states, outputs = first.get_initial_state(1), []
        for x in tf.unstack(one_hot(model), axis=1):
            output, states = first(x, states)
            outputs.append(output)
        generated = second.generated_weights(tf.stack(outputs, axis=1))
        self.check(second, generated, weight_changes(model, TEXT, layer=1))

    def test_figure(self):
        model = make()
        figure = plot_weight_changes(model, TEXT, width=5)
        *panels, colour_bar = figure.axes
        self.assertLen(panels, 3)
        norms = weight_changes(model, TEXT)
        drawn = np.concatenate([axes.images[0].get_array().filled(np.nan) for axes in panels], 1)
        self.assertAllClose(drawn[:, 1:], (norms / norms.max(0)).T)
        self.assertTrue(np.all(np.isnan(drawn[:, 0])))
        for axes in panels:
            self.assertEqual(axes.images[0].get_clim(), (0, 1))
            gates = ("i, input", "f, forget", "c, candidate", "o, output")
            labels = [f"{gate} ({n:.3g})" for gate, n in zip(gates, norms.max(0), strict=True)]
            self.assertEqual([label.get_text() for label in axes.get_yticklabels()], labels)
            self.assertEqual(axes.get_xlim(), panels[0].get_xlim())
        signs = "".join(t.get_text() for axes in panels for t in axes.get_xticklabels())
        self.assertEqual(signs, "ab␣b↵ca␣$⇥cab")
        self.assertIn("change of", colour_bar.get_xlabel())
        figure.savefig(io.BytesIO())

    def test_gates_of_other_cells(self):
        for cell, gates in (
            ("hyper_gru", ["z, update", "r, reset", "h, candidate"]),
            ("hyper_simple_rnn", ["h"]),
        ):
            axes = plot_weight_changes(make(cell), "ab\x00").axes[0]
            labels = [label.get_text().split(" (")[0] for label in axes.get_yticklabels()]
            self.assertEqual(labels, gates)
            self.assertEqual([label.get_text() for label in axes.get_xticklabels()], [*"ab\ufffd"])

    def test_weights_that_do_not_change(self):
        model = make("hyper_simple_rnn")
        model.get_layer("recurrent_0").cell.embedding_kernel.assign(np.zeros((3, 6)))
        image = plot_weight_changes(model, TEXT).axes[0].images[0]
        self.assertEqual(image.get_clim(), (0, 1))
        self.assertEqual(image.get_array().max(), 0)

    def test_half_precision(self):
        keras.config.set_dtype_policy("mixed_bfloat16")
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        norms = weight_changes(make("hyper_simple_rnn"), TEXT)
        self.assertEqual(norms.dtype, "float32")
        self.assertTrue(np.all(np.isfinite(norms)))

    def test_bad_arguments(self):
        model = make("hyper_simple_rnn")
        for wrong, message in (
            ({"model": keras.Sequential()}, "`model` must be a character language model"),
            ({"model": make("lstm")}, "`model` must have a cell that generates .* LSTMCell"),
            ({"text": "a"}, "`text` must have 2 to 5,000 characters. Received: 1"),
            ({"text": "ab" * 2501}, "`text` must have 2 to 5,000 characters. Received: 5,002"),
            ({"text": "ax"}, "`text` must be in the vocabulary"),
            ({"layer": 1}, "`layer` must be the number of a recurrent layer .* Received: layer=1"),
            ({"layer": -1}, "`layer` must be"),
        ):
            arguments = {"model": model, "text": TEXT, **wrong}
            with self.assertRaisesRegex(ValueError, message):
                weight_changes(**arguments)
            with self.assertRaisesRegex(ValueError, message):
                plot_weight_changes(**arguments)
        with self.assertRaisesRegex(ValueError, "`width` must be a positive integer"):
            plot_weight_changes(model, TEXT, width=0)


class CellSaturation(tf.test.TestCase):
    def test_histograms(self):
        made = {name: make(name, layers=2) for name in ("lstm", "layer_norm_lstm", "hyper_lstm")}
        figure = plot_cell_saturation(made, TEXT, layer=1, bins=10)
        for axes, (name, model) in zip(figure.axes, made.items(), strict=True):
            tanh_c = np.tanh(stepwise(model, "state_1_c"))
            counts, ends = np.histogram(tanh_c, 10, (-1, 1))
            self.assertEqual(tanh_c.size, 4 * len(TEXT))
            self.assertAllClose(
                [bar.get_height() for bar in axes.patches], 100 * counts / tanh_c.size
            )
            self.assertAllClose([bar.get_x() for bar in axes.patches], ends[:-1])
            saturated = 100 * np.mean(np.abs(tanh_c) > 0.9)
            self.assertEqual(axes.get_title(), f"{name}: {saturated:.1f} % saturated")
        figure.savefig(io.BytesIO())

    def test_five_models(self):
        model = make("lstm")
        figure = plot_cell_saturation({name: model for name in "abcde"}, TEXT)
        self.assertEqual([axes.get_visible() for axes in figure.axes], 5 * [True] + 3 * [False])

    def test_bad_arguments(self):
        lstm = make("lstm")
        for wrong, message in (
            ({"models": lstm}, "`models` must be a dictionary"),
            ({"models": {}}, "`models` must be a dictionary .* Received: models={}"),
            ({"models": {"a": keras.Sequential()}}, "model.*in `models`: 'a'"),
            ({"models": {"a": lstm, "g": make("hyper_gru")}}, "a state c. Received: 'g' .*GRUCell"),
            ({"text": "a"}, "`text` must have 2 to 5,000 characters"),
            ({"layer": 1}, "`layer` must be the number"),
            ({"bins": 0}, "`bins` must be a positive integer"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                plot_cell_saturation(**{"models": {"LSTM": lstm}, "text": TEXT, **wrong})
