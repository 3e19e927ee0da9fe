"""All states on the way through a text."""

import keras
import numpy as np
import tensorflow as tf
from random_weights import randomize

from keras_hypernets import HyperLSTM, models
from keras_hypernets.models import sequences

NAMES = [f"state_0_{name}" for name in ("h", "c", "hyper_h", "hyper_c")]
NAMES += ["state_1_h", "state_1_c"]


class StateHistory(tf.test.TestCase):
    def check(self, cell, **options):
        """Compares with the states of one step after the other."""
        model = models.char_language_model("abc", 4, layers=2, cell=cell, **options)
        randomize(model)
        ids = np.array([[0, 1, 2, 1], [2, 0, 0, 1]], "int32")
        rng = np.random.default_rng(0)
        sizes = sequences.state_sizes(model).values()
        states = [rng.normal(size=(2, size)).astype("float32") for size in sizes]
        history = sequences.state_history(model, ids, states)
        self.assertLen(history, len(states))
        for t in range(4):
            _, states = sequences.step(model, ids[:, t], states)
            for recorded, state in zip(history, states, strict=True):
                self.assertAllClose(recorded[:, t], state, atol=1e-5)

    def test_hyper_lstm(self):
        self.check("hyper_lstm", hyper_units=3, embedding_dim=2)

    def test_c_in_half_precision(self):
        """As in the layer, c is float32 between the steps: small additions are not lost."""
        ids, policy = np.zeros((1, 200), "int32"), keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            model = models.char_language_model("ab", 4, cell="layer_norm_lstm", layer_norm=False)
        finally:
            keras.config.set_dtype_policy(policy)
        layer = model.get_layer("recurrent_0")
        bias = np.zeros((4, 4))
        bias[0], bias[1], bias[2] = -3.0, 20.0, 0.05  # c grows by 0.0024 a step
        layer.cell.set_weights([np.zeros_like(w) for w in layer.cell.get_weights()])
        layer.cell.bias.assign(bias)
        _, c = sequences.state_history(model, ids)
        growth = 200 / (1 + np.exp(3)) * np.tanh(0.05)
        self.assertAllClose(np.array(c, "float32")[0, -1], np.full(4, growth), rtol=0.02)

    def test_any_chain_of_recurrent_layers(self):
        """Vectors in, not characters: windows, steps and states are those of the model."""
        model = keras.Sequential(
            [
                keras.Input((None, 3), name="x"),
                keras.layers.Dense(5, "tanh"),
                HyperLSTM(4, 3, 2, return_sequences=True),
                keras.layers.LayerNormalization(),
                keras.layers.LSTM(4, return_sequences=True),
                keras.layers.Dense(2, name="y"),
            ]
        )
        randomize(model)
        x = np.random.default_rng(0).standard_normal((2, 22, 3)).astype("float32")
        states = sequences.initial_states(model, 2)
        first, states = sequences.run(model, x[:, :20], states)
        y, states = sequences.step(model, x[:, 20], states)
        of_step = sequences.step_model(model)(
            {"x": tf.constant(x[:, 21]), **dict(zip(NAMES, states, strict=True))}
        )
        found = np.concatenate([first, y[:, None], of_step["y"][:, None]], axis=1)
        self.assertAllClose(found, model(x), atol=1e-5)
        history = sequences.state_history(model, x)
        for recorded, name in zip(history, NAMES, strict=True):
            self.assertAllClose(recorded[:, -1], of_step[name], atol=1e-5)
        with self.assertRaisesRegex(ValueError, r"`inputs` must be an array \(batch, time, feat"):
            sequences.run(model, x[:, 0], states)
        with self.assertRaisesRegex(ValueError, "`model` must be a chain of recurrent layers"):
            sequences.state_sizes(keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(2)]))
        masks = keras.layers.Embedding(3, 2, mask_zero=True)
        model = keras.Sequential([keras.Input((None,)), masks, HyperLSTM(4, return_sequences=True)])
        with self.assertRaisesRegex(ValueError, "`model` must be a chain .* none may make masks"):
            sequences.state_sizes(model)

    def test_keras_lstm(self):
        self.check("lstm")

    def test_states_begin_at_zero_and_those_of_the_model_stay(self):
        options = {"hyper_units": 3, "stateful": True, "batch_size": 2}
        model = models.char_language_model("abc", 4, cell="hyper_simple_rnn", **options)
        randomize(model)
        ids = np.array([[0, 1]], "int32")
        model(np.zeros((2, 3), "int32"))
        before = [state.numpy() for state in model.get_layer("recurrent_0").states]
        self.assertGreater(np.abs(before[0]).max(), 0)
        given = sequences.state_history(model, ids, sequences.initial_states(model, 1))
        self.assertAllClose(sequences.state_history(model, ids), given)
        self.assertAllEqual(before[0], model.get_layer("recurrent_0").states[0])
