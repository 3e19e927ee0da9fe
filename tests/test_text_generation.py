import functools
import gc
import string
import weakref
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from test_char_language_model import CELLS, small

import keras_hypernets.dynamic.recurrence.tensorflow_inference as inference
from keras_hypernets import LayerNormLSTM, models
from keras_hypernets.models import char_lm, sequences
from keras_hypernets.models.char_lm import text_generation
from keras_hypernets.models.sequences.gumbel_noise import gumbel_noise


def joined(prompts, pieces):
    return ["".join(parts) for parts in zip(prompts, *pieces, strict=True)]


class Product(keras.layers.Layer):
    stepwise = True

    def call(self, x, y=1.0):
        return x * y


class TextGeneration(tf.test.TestCase):
    def test_states_have_names_and_start_at_zero(self):
        sizes = sequences.state_sizes(small(layers=2))
        self.assertEqual(
            sizes,
            {
                "state_0_h": 7, "state_0_c": 7, "state_0_hyper_h": 5, "state_0_hyper_c": 5,
                "state_1_h": 7, "state_1_c": 7, "state_1_hyper_h": 5, "state_1_hyper_c": 5,
            },
        )  # fmt: skip
        self.assertEqual(list(sequences.state_sizes(small("lstm"))), ["state_0_h", "state_0_c"])
        states = sequences.initial_states(small(layers=2), 3)
        for state, size in zip(states, sizes.values(), strict=True):
            self.assertAllEqual(state, np.zeros((3, size)))

    def test_run_step_and_models_with_states_equal_the_model(self):
        ids = np.random.default_rng(0).integers(0, 6, (2, 6))
        for cell in CELLS:
            model = small(cell, layers=2, token_embedding_size=4, dropout=0.3)
            expected = model(ids)
            start = sequences.initial_states(model, 2)
            logits, states = sequences.run(model, ids[:, :2], start)
            self.assertAllClose(logits, expected[:, :2])
            twin = sequences.with_states(model)
            logits, *states = twin([tf.constant(ids[:, 2:4]), *states])
            self.assertAllClose(logits, expected[:, 2:4])
            stepper = sequences.step_model(model)
            for t in (4, 5):
                names = dict(zip(sequences.state_sizes(model), states, strict=True))
                logits, states = sequences.step(model, ids[:, t], states)
                self.assertAllClose(logits, expected[:, t])
                named = stepper({"ids": tf.constant(ids[:, t]), **names})
                self.assertAllClose(
                    named, {"logits": logits, **dict(zip(names, states, strict=True))}
                )
            for other in (twin, stepper):
                self.assertEqual(other.count_params(), model.count_params())

    def test_predict_with_states_equals_the_model_and_takes_the_fast_loop(self):
        ids = np.random.default_rng(0).integers(0, 6, (2, 40))
        for cell in CELLS:
            model = small(cell)
            expected = model(ids)
            for jit_compile in (False, True):
                reader = sequences.with_states(model)
                reader.compile(jit_compile=jit_compile)
                states = sequences.initial_states(model, 2)
                with mock.patch.object(inference, "infer", wraps=inference.infer) as fast:
                    first, *states = reader.predict_on_batch([ids[:, :20], *states])
                    second, *_ = reader.predict_on_batch([ids[:, 20:], *states])
                self.assertAllClose(np.concatenate([first, second], 1), expected, 5e-5, 5e-5)
                self.assertEqual(fast.called, cell != "lstm")  # Keras' own cell has Keras' loop

    def test_a_masked_step_keeps_the_states(self):
        model = small(layers=2)
        ids = np.array([[1, 2, 3, 4]])
        start = sequences.initial_states(model, 1)
        _, short = sequences.run(model, ids[:, :2], start)
        _, masked = sequences.run(model, ids, start, np.array([[True, True, False, False]]))
        for a, b in zip(short, masked, strict=True):
            self.assertAllClose(a, b)

    def test_generate_equals_stepping_by_hand(self):
        for cell in ("hyper_lstm", "lstm"):  # the steps of every cell are tried above
            model = small(cell, layers=2)
            embedding = model.get_layer("embedding")
            states = sequences.initial_states(model, 1)
            for n in embedding.encode("ab "):
                logits, states = sequences.step(model, np.array([n]), states)
            text = "ab "
            for position in range(12):
                n = sequences.sample(logits, 0.8, 5, position)
                text += embedding.decode(n)
                logits, states = sequences.step(model, n, states)
            self.assertEqual(char_lm.generate(model, "ab ", 12, 0.8, 5), text)

    def test_seed_and_temperature(self):
        model = small()
        first = char_lm.generate(model, "a", 40, seed=1)
        self.assertEqual(first, char_lm.generate(model, "a", 40, seed=1))
        self.assertNotEqual(first, char_lm.generate(model, "a", 40, seed=2))
        cold = char_lm.generate(model, "a", 40, temperature=0, seed=1)
        self.assertEqual(cold, char_lm.generate(model, "a", 40, temperature=0, seed=2))

    def test_layers_between_the_embedding_and_the_recurrent_one(self):
        """They are in the table of the first cell's products too."""
        for between in (
            keras.layers.LayerNormalization(),
            keras.layers.TimeDistributed(keras.layers.Dense(3)),  # as many as there are ids
        ):
            model = keras.Sequential(
                [
                    keras.Input((None,), dtype="int32"),
                    char_lm.CharacterEmbedding("abc", 5),
                    between,
                    LayerNormLSTM(6, return_sequences=True),
                    keras.layers.Dense(3),
                ]
            )
            states, last, text = sequences.initial_states(model, 1), np.array([1]), "b"
            for _ in range(30):
                logits, states = sequences.step(model, last, states)
                last = np.argmax(logits, -1)
                text += "abc"[last[0]]
            self.assertEqual(char_lm.generate(model, "b", 30, temperature=0), text)

    def test_several_prompts_of_different_lengths(self):
        model = small()
        texts = char_lm.generate(model, ["a", "bc é", "ab"], 9, temperature=0)
        self.assertEqual(
            texts,
            [char_lm.generate(model, p, 9, temperature=0) for p in ("a", "bc é", "ab")],
        )
        one, two = char_lm.generate(model, ["a", "a"], 40)
        self.assertNotEqual(one, two)

    def test_samples_follow_the_distribution(self):
        logits = np.log(np.array([[0.1, 0.2, 0.7]] * 20_000, "float32"))
        for temperature in (1.0, 0.5):
            drawn = np.bincount(sequences.sample(logits, temperature, 3, 4), minlength=3) / 20_000
            expected = np.array([0.1, 0.2, 0.7]) ** (1 / temperature)
            self.assertAllClose(drawn, expected / expected.sum(), atol=0.015)
        self.assertAllEqual(sequences.sample(logits[:5], 0.0, 3, 4), np.full(5, 2))
        hottest = sequences.sample(np.repeat(logits[:1], 20_000, 0), 1e30, 3, 4)
        self.assertAllClose(np.bincount(hottest) / 20_000, np.full(3, 1 / 3), atol=0.015)

    def test_top_k_and_top_p_draw_from_the_most_likely(self):
        rng = np.random.default_rng(0)
        for logits in rng.normal(0, 2, (20, 9)).astype("float32"):
            temperature, k, p = rng.choice([0.5, 1.0, 2.0]), rng.integers(1, 10), rng.uniform()
            probabilities = np.exp(np.float64(logits) / temperature)
            order = np.argsort(-logits)[:k]
            total = np.cumsum(probabilities[order]) / probabilities[order].sum()
            expected = np.zeros(9)
            kept = order[: np.searchsorted(total, p) + 1]  # until they have p together
            expected[kept] = probabilities[kept] / probabilities[kept].sum()
            rows = np.tile(logits, (20_000, 1))
            drawn = sequences.sample(rows, temperature, 3, 4, top_k=int(k), top_p=p)
            drawn = np.bincount(drawn, minlength=9) / 20_000
            self.assertAllClose(drawn, expected, atol=0.015)
            self.assertAllEqual(drawn[expected == 0], np.zeros(9 - len(kept)))

    def test_top_k_and_top_p_at_their_limits(self):
        logits = np.random.default_rng(0).normal(0, 9, (500, 60)).astype("float32")
        plain = sequences.sample(logits, 2.0, 1, 2)
        for options in ({"top_k": 60}, {"top_k": 1000}, {"top_p": 1.0}, {"top_p": 1}):
            self.assertAllEqual(sequences.sample(logits, 2.0, 1, 2, **options), plain)
        best = np.argmax(logits, -1)
        for temperature, options in (
            (2.0, {"top_k": 1}),
            (2.0, {"top_p": 1e-9}),
            (2.0, {"top_p": 1e-50}),
            (0.0, {"top_k": 5, "top_p": 0.9}),
        ):
            self.assertAllEqual(sequences.sample(logits, temperature, 1, 2, **options), best)
        for wrong, rule in (
            ({"top_k": 0}, "`top_k` must be a positive integer"),
            ({"top_k": 1.5}, "`top_k` must be a positive integer"),
            ({"top_p": 0.0}, r"`top_p` must be a number in \(0, 1\]"),
            ({"top_p": 1.1}, r"`top_p` must be a number in \(0, 1\]"),
        ):
            with self.assertRaisesRegex(ValueError, rule):
                sequences.sample(logits, 1.0, 1, 2, **wrong)

    def test_pieces_are_the_text(self):
        model = small("hyper_simple_rnn", layers=2)
        for options in ({}, {"top_k": 3, "top_p": 0.9, "temperature": 0.7}):
            text = char_lm.generate(model, "ab", 21, seed=3, **options)
            pieces = list(char_lm.stream(model, "ab", 21, seed=3, piece=8, **options))
            self.assertEqual([len(piece) for piece in pieces], [8, 8, 5])
            self.assertEqual("ab" + "".join(pieces), text)
        several = list(char_lm.stream(model, ["ab", "c"], 12, seed=3, piece=5))
        texts = char_lm.generate(model, ["ab", "c"], 12, seed=3)
        for prompt, text, pieces in zip(("ab", "c"), texts, np.transpose(several), strict=True):
            self.assertEqual(prompt + "".join(pieces), text)
        self.assertNotEqual(char_lm.generate(model, "ab", 21, seed=3, top_k=2)[2:], text[2:])

    def test_a_text_ends_with_stop(self):
        model = small("hyper_simple_rnn")
        prompts = ["ab", "c", "ba"]
        whole = char_lm.generate(model, prompts, 60, seed=4)
        for stop in ("a", "bc", "ca "):
            texts = char_lm.generate(model, prompts, 60, seed=4, stop=stop)
            for prompt, text, unstopped in zip(prompts, texts, whole, strict=True):
                end = unstopped.find(stop, len(prompt))  # that in the prompt does nothing
                self.assertEqual(text, unstopped[: end + len(stop)] if end >= 0 else unstopped)
            for piece in (1, 4):
                pieces = list(char_lm.stream(model, prompts, 60, seed=4, stop=stop, piece=piece))
                self.assertEqual(joined(prompts, pieces), texts)
                self.assertNotEqual("".join(pieces[-1]), "")
        self.assertLess(len(char_lm.generate(model, "ab", 60, seed=4, stop="a")), 60)

    def test_a_stateful_model_generates_too_and_keeps_its_own_states(self):
        model = small(stateful=True, batch_size=4)
        model(np.ones((4, 3), int))
        layer = model.get_layer("recurrent_0")
        before = [np.array(state) for state in layer.states]
        free = small()
        free.set_weights(model.get_weights())
        self.assertEqual(char_lm.generate(model, "ab", 9), char_lm.generate(free, "ab", 9))
        for a, b in zip(before, layer.states, strict=True):
            self.assertAllEqual(a, b)

    def test_precision(self):
        for cell in ("hyper_lstm", "lstm"):  # one loop for all cells but Keras' own
            for dtype in ("float64", "mixed_bfloat16"):
                text = char_lm.generate(small(cell, layers=2, dtype=dtype), "ab", 5)
                self.assertLen(text, 7)
        keras.config.set_floatx("float64")
        try:
            self.assertLen(char_lm.generate(small(), "ab", 5), 7)
        finally:
            keras.config.set_floatx("float32")

    def test_traced_once_for_many_calls(self):
        model = small()
        original, calls = text_generation.continue_text, []
        text_generation.continue_text = lambda *a: calls.append(1) or original(*a)
        try:
            first = char_lm.generate(model, "abc", 5)
            char_lm.generate(model, "abcé", 8, temperature=0.5, seed=3)  # sizes 4 and 8 as before
            self.assertLen(calls, 1)
            model.set_weights([2 * weight for weight in model.get_weights()])
            self.assertNotEqual(char_lm.generate(model, "abc", 8)[:8], first)
            self.assertLen(calls, 1)
        finally:
            text_generation.continue_text = original
        reference = weakref.ref(model)
        del model
        gc.collect()
        self.assertIsNone(reference())

    def test_few_graphs_for_many_sizes(self):
        model = small()
        original, calls = text_generation.begin_text, []
        text_generation.begin_text = lambda *a: calls.append(1) or original(*a)
        try:
            for prompt in ("a", "ab", "abc", "abcabc", "abc" * 4, ["a"], ["a", "abc"], ["a"] * 3):
                char_lm.generate(model, prompt, 5)
        finally:
            text_generation.begin_text = original
        self.assertLessEqual(len(calls), 3)  # one size, any length, any length and batch

    def test_long_texts_begin_like_short_ones(self):
        """Without training a model makes much of the least difference."""
        keras.utils.set_random_seed(0)
        sizes = {"units": 160, "hyper_units": 32, "embedding_dim": 8}
        model = models.char_language_model(string.printable[:50], **sizes)
        prompts = ["ab", "0"]
        long = char_lm.generate(model, prompts, 1100, seed=1)
        for text in (
            char_lm.generate(model, prompts, 1000, seed=1),
            char_lm.generate(model, prompts, 1024, seed=1),
            char_lm.generate(model, prompts, 600, seed=1, stop="0123456"),
            joined(prompts, char_lm.stream(model, prompts, 600, seed=1, piece=32)),
        ):
            self.assertEqual([a[: len(b)] for a, b in zip(long, text, strict=True)], list(text))

    def test_noise_is_the_same_compiled_and_not(self):
        """Also uniform, and unlike that of other seeds and positions."""
        noise = gumbel_noise
        compiled = tf.function(noise, jit_compile=True)
        drawn = {}
        for seed, position in ((0, 0), (0, 1), (1, 0), (-7, 2**31 - 1)):
            drawn[seed, position] = noise((100, 200), seed, position).numpy()
            again = compiled((100, 200), tf.constant(seed), tf.constant(position))
            self.assertAllClose(drawn[seed, position], again, 1e-5, 1e-5)
        for key, values in drawn.items():
            uniform = np.exp(-np.exp(-values))
            counts, _ = np.histogram(uniform, 20, (0, 1))
            self.assertLess(np.sum((counts - 1000) ** 2) / 1000, 45)  # 19 degrees of freedom
            for other, more in drawn.items():
                if other != key:
                    self.assertLess(abs(np.corrcoef(values.ravel(), more.ravel())[0, 1]), 0.03)

    def test_numpy_integers_are_integers(self):
        model = small()
        text = char_lm.generate(model, "a", np.int64(5), seed=np.int64(3))
        self.assertEqual(text, char_lm.generate(model, "a", 5, seed=3))

    def test_other_models_are_refused(self):
        ids = keras.Input((None,), dtype="int32")
        x = char_lm.CharacterEmbedding("abc")(ids)
        h = keras.layers.LSTM(4, return_sequences=True)(x)
        dense, tanh = keras.layers.Dense(3), keras.layers.Activation("tanh")
        for output in (
            dense(h + h),
            dense(keras.ops.tanh(h)),
            dense(tanh(keras.layers.LSTM(4, return_sequences=True)(tanh(x)))),
            dense(Product()(h, h)),
            keras.layers.Dense(3, "softmax")(h),
            dense(keras.layers.LSTM(4)(x)),
            keras.layers.Dense(2)(h),
            dense(keras.layers.Add()([h, keras.layers.Dense(4)(x)])),
            keras.layers.Dense(3)(keras.layers.GRU(4, return_sequences=True)(x)),
            keras.layers.Dense(3)(
                keras.layers.LSTM(4, return_sequences=True, go_backwards=True)(x)
            ),
        ):
            with self.assertRaisesRegex(ValueError, "`model` must be a character language model"):
                char_lm.generate(keras.Model(ids, output), "a", 3)
        twice = keras.layers.LSTM(3, return_sequences=True)
        embedding = char_lm.CharacterEmbedding("abc")
        layers = [embedding, twice, twice, keras.layers.Dense(3)]
        model = keras.Sequential([keras.Input((None,)), *layers])
        with self.assertRaisesRegex(ValueError, "`model` must be a character language model"):
            char_lm.generate(model, "a", 3)

    def test_layers_of_other_models_and_functions_as_activations(self):
        """What else the layers are in, and whether Keras can save them, makes no difference."""
        embedding, dense = char_lm.CharacterEmbedding("abc"), keras.layers.Dense(3)
        activation = functools.partial(keras.activations.leaky_relu, negative_slope=0.1)
        between = keras.layers.Dense(4, activation)
        lstm = keras.layers.LSTM(4, return_sequences=True)
        texts = []
        for _ in range(2):
            ids = keras.Input((None,), dtype="int32")
            model = keras.Model(ids, dense(lstm(between(embedding(ids)))))
            texts.append(char_lm.generate(model, "a", 9, seed=1))
        self.assertEqual(texts[0], texts[1])
        self.assertLen(texts[0], 10)

    def test_bad_arguments(self):
        model = small()
        for options, message in (
            ({"prompt": ""}, "`prompt` must be a string of at least one .* Received: prompt=''"),
            ({"prompt": []}, "`prompt` must be a string of at least one character, or a list"),
            ({"prompt": None}, "`prompt` must be a string"),
            ({"prompt": b"ab"}, "`prompt` must be a string"),
            ({"prompt": ["a", 3]}, "`prompt` must be a string"),
            ({"prompt": "axb"}, "unknown 'x'"),
            ({"length": 0}, "`length` must be a positive integer"),
            ({"temperature": -1}, r"`temperature` must be a number in \[0, 1e30\]"),
            ({"temperature": float("nan")}, "`temperature` must be a number in"),
            ({"temperature": float("inf")}, "`temperature` must be a number in"),
            ({"temperature": 1e31}, "`temperature` must be a number in"),
            ({"seed": 0.5}, "`seed` must be an integer"),
            ({"seed": 2**31}, "`seed` must be an integer"),
            ({"top_k": 0}, "`top_k` must be a positive integer"),
            ({"top_p": 2}, "`top_p` must be a number in"),
            ({"stop": ""}, "`stop` must have at least one character, or be None"),
            ({"stop": 3}, "`stop` must be a string"),
            ({"stop": "x"}, "Every character of `stop` .* unknown 'x'"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                char_lm.generate(model, **{"prompt": "a", "length": 3, **options})
        with self.assertRaisesRegex(ValueError, "`piece` must be a positive integer"):
            char_lm.stream(model, "a", 3, piece=0)  # before anything is asked of it
        with self.assertRaisesRegex(ValueError, "must be a character language model"):
            char_lm.generate(keras.Sequential([keras.layers.Dense(1)]), "a", 3)
