"""Signatures of character language models."""

import keras
import numpy as np

from keras_hypernets.export.request_checks import assertions, can_write, temperature_rule
from keras_hypernets.export.signature import Signature, state_inputs
from keras_hypernets.models.char_lm import text_generation
from keras_hypernets.models.char_lm.char_language_model import embedding_of
from keras_hypernets.models.sequences import sampling, stepping


def signatures_of_language_model(model: keras.Model, max_length: int) -> dict[str, Signature]:
    """Returns signatures to read text or ids, and to write text at once or step by step."""
    import tensorflow as tf

    sizes = stepping.state_sizes(model)
    vocabulary = embedding_of(model).vocabulary
    encode, encode_stop, decode = _text_codec(vocabulary)

    def serving_default(text):
        ids, lengths = encode(text, "text")
        return {"logits": read(ids), "lengths": lengths}

    def tokens(ids):
        with tf.control_dependencies(known(ids)):
            return {"logits": read(tf.identity(ids))}

    def read(ids):
        states = stepping.initial_states(model, tf.shape(ids)[0])
        return stepping.run(model, ids, states)[0]

    def known(ids):
        rule = "`ids` must be positions in the vocabulary."
        return [
            tf.debugging.assert_non_negative(ids, rule),
            tf.debugging.assert_less(ids, len(vocabulary), rule),
        ]

    def can_sample(temperature, top_k, top_p):
        return assertions(  # NaN violates all
            temperature_rule(temperature),
            (top_k >= 0, "`top_k` must be at least 1, or 0 for all characters."),
            ((top_p > 0) & (top_p <= 1), "`top_p` must be above 0 and at most 1."),
        )

    def step(ids, seed, position, temperature, top_k, top_p, *states):
        with tf.control_dependencies([*known(ids), *can_sample(temperature, top_k, top_p)]):
            logits, states = stepping.step(model, tf.identity(ids), list(states))
        next_id = sampling.sample(logits, temperature, seed, position, top_k, top_p)
        return {"logits": logits, "next_id": next_id, **dict(zip(sizes, states, strict=True))}

    def generate(prompt, length, temperature, seed, top_k, top_p, stop):
        with tf.control_dependencies(
            [
                *can_write(length, prompt, "prompts", max_length),
                *can_sample(temperature, top_k, top_p),
            ]
        ):
            prompt, length = tf.identity(prompt), tf.identity(length)
        ids, lengths = encode(prompt, "prompt")
        stop = encode_stop(stop)
        beginning = text_generation.begin_text(model, ids, lengths, stop)
        prepared = text_generation.prepared_weights(model)
        written, counts, _ = text_generation.continue_text(
            model, prepared, beginning, stop, 0, length, temperature, seed, top_k, top_p
        )
        return {"text": tf.strings.join([prompt, decode(written, counts)])}

    text = ("string", (None,), [vocabulary[0]])
    ids = ("int32", (None,), [0])
    seed, length = ("int32", (), 0), ("int32", (), min(16, max_length))
    draw = {"temperature": ("float32", (), 1), "top_k": ("int32", (), 0)}
    draw["top_p"] = ("float32", (), 1)
    return {
        "serving_default": Signature(serving_default, {"text": text}),
        "tokens": Signature(tokens, {"ids": ("int32", (None, None), [[0]])}),
        "step": Signature(
            step, {"ids": ids, "seed": seed, "position": seed, **draw, **state_inputs(model)}
        ),
        "generate": Signature(
            generate,
            {
                "prompt": text,
                "length": length,
                "temperature": draw["temperature"],
                "seed": seed,
                "top_k": draw["top_k"],
                "top_p": draw["top_p"],
                "stop": ("string", (), ""),
            },
        ),
    }


def _text_codec(vocabulary):
    """Returns functions between strings and ids without lookup tables, which a graph must own."""
    import tensorflow as tf

    codes = np.array([ord(character) for character in vocabulary], np.int32)
    order = np.argsort(codes).astype(np.int32)

    def ids_of(characters, argument):
        rank = tf.searchsorted(codes[order], characters)
        rank = tf.minimum(rank, len(codes) - 1)
        known = tf.equal(tf.gather(codes[order], rank), characters)
        unknown = tf.unique(tf.boolean_mask(characters, ~known)).y
        message = f"Every character of `{argument}` must be in the vocabulary. Unknown:"
        unknown = tf.strings.unicode_encode(unknown[:, None], "UTF-8")
        with tf.control_dependencies(
            [tf.debugging.Assert(tf.size(unknown) == 0, [message, unknown])]
        ):
            return tf.gather(order, rank)

    def encode(text, argument):
        characters = tf.strings.unicode_decode(text, "UTF-8", errors="strict")
        lengths = tf.cast(characters.row_lengths(), "int32")
        tf.debugging.assert_greater(tf.size(text), 0, f"`{argument}` must have at least one text.")
        tf.debugging.assert_positive(lengths, f"`{argument}` must have at least one character.")
        ids = ids_of(characters.flat_values, argument)
        return characters.with_flat_values(ids).to_tensor(), lengths

    def encode_stop(stop):
        characters = tf.strings.unicode_decode(stop, "UTF-8", errors="strict")
        never = tf.constant([text_generation.NEVER])
        return tf.cond(tf.size(characters) > 0, lambda: ids_of(characters, "stop"), lambda: never)

    def decode(ids, lengths):
        ids = tf.RaggedTensor.from_tensor(ids, lengths)
        return tf.strings.unicode_encode(
            ids.with_flat_values(tf.gather(codes, ids.flat_values)), "UTF-8"
        )

    return encode, encode_stop, decode
