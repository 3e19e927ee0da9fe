"""SavedModels for serving, and plain models."""

import os
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_hypernets import validation
from keras_hypernets.baking import bake
from keras_hypernets.models import stepping, text_generation

__all__ = ["bake", "export_saved_model"]


def export_saved_model(model: keras.Model, path: str | os.PathLike) -> None:
    """Writes a SavedModel that any TensorFlow serves, without keras_hypernets.

    The folder appears whole or not at all; a SavedModel that is there already is replaced. Batch
    and time are dynamic. A character language model gets four signatures, whose states have the
    names of `models.state_sizes` and start as zeros:

    - `serving_default`: `text` (batch) strings -> `logits` (batch, time, characters), where `time`
      is the longest text's length and what follows a shorter text's end means nothing, and
      `lengths` (batch), in characters.
    - `tokens`: `ids` (batch, time) int32 -> `logits`.
    - `step`: `ids` (batch) int32, `seed` and `position` int32, `temperature` float32 and the states
      -> `logits` (batch, characters), `next_id` (batch), drawn with (seed, position), and the
      states: streaming. The first character after a prompt has position 0, the next one 1.
    - `generate`: `prompt` (batch) strings, `length` int32, `temperature` float32, `seed` int32 ->
      `text` (batch), prompts with their continuations, the same as `models.generate` writes.

    Any other model gets what `model.export` gives it.

    Args:
        model: a built Keras model.
        path: folder to write.

    Raises:
        RuntimeError: on another backend than TensorFlow.
        ValueError: if `path` exists and is no SavedModel, or cannot be written.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "A SavedModel with signatures is TensorFlow's own and needs its backend. "
            f"Received: backend {keras.backend.backend()!r}"
        )
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a Keras model. Received: model={model!r}")
    path = Path(validation.path("path", path))
    if path.resolve() == Path.cwd() or (path.exists() and not (path / "saved_model.pb").exists()):
        raise ValueError(
            f"`path` must be new, or a SavedModel to replace. Received: path={str(path)!r}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        workspace = Path(tempfile.mkdtemp(prefix=".export-", dir=path.parent))
    except OSError as error:
        raise ValueError(
            "`path` must be in a folder that can be written. "
            f"Received: path={str(path)!r} ({error.strerror})"
        ) from error
    try:
        if stepping.is_character_language_model(model):
            _write_character_language_model(model, str(workspace / "new"))
        else:
            model.export(str(workspace / "new"), verbose=False)
        _replace(path, workspace)
    finally:
        shutil.rmtree(workspace)


def _replace(path, workspace):
    if not path.exists():
        (workspace / "new").rename(path)
        return
    path.rename(workspace / "old")
    try:
        (workspace / "new").rename(path)
    except BaseException:
        (workspace / "old").rename(path)
        raise


def _write_character_language_model(model, path):
    import tensorflow as tf

    def spec(dtype, *shape, name):
        return tf.TensorSpec(shape, dtype, name)

    sizes = stepping.state_sizes(model)
    vocabulary = stepping.embedding_of(model).vocabulary
    encode, decode = _text_codec(vocabulary)

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

    def can_sample(temperature):
        # assert_non_negative would let NaN pass.
        return [tf.debugging.Assert(temperature >= 0, ["`temperature` must be at least 0."])]

    def step(ids, seed, position, temperature, *states):
        with tf.control_dependencies([*known(ids), *can_sample(temperature)]):
            logits, states = stepping.step(model, tf.identity(ids), list(states))
        next_id = text_generation.sample(logits, temperature, seed, position)
        return {"logits": logits, "next_id": next_id, **dict(zip(sizes, states, strict=True))}

    def generate(prompt, length, temperature, seed):
        ids, lengths = encode(prompt, "prompt")
        positive = tf.debugging.assert_positive(length, "`length` must be at least 1.")
        with tf.control_dependencies([positive, *can_sample(temperature)]):
            length = tf.identity(length)
        written = text_generation.continue_text(model, ids, lengths, length, temperature, seed)
        return {"text": tf.strings.join([prompt, decode(written)])}

    scalars = {
        "seed": spec("int32", name="seed"),
        "position": spec("int32", name="position"),
        "temperature": spec("float32", name="temperature"),
        "length": spec("int32", name="length"),
    }
    states = [
        spec(state.dtype, None, size, name=name)
        for (name, size), state in zip(
            sizes.items(), stepping.initial_states(model, 1), strict=True
        )
    ]
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", serving_default, [spec("string", None, name="text")])
    archive.add_endpoint("tokens", tokens, [spec("int32", None, None, name="ids")])
    archive.add_endpoint(
        "step",
        step,
        [
            spec("int32", None, name="ids"),
            scalars["seed"],
            scalars["position"],
            scalars["temperature"],
            *states,
        ],
    )
    archive.add_endpoint(
        "generate",
        generate,
        [
            spec("string", None, name="prompt"),
            scalars["length"],
            scalars["temperature"],
            scalars["seed"],
        ],
    )
    archive.write_out(path, verbose=False)


def _text_codec(vocabulary):
    """Functions between strings and ids without lookup tables, which a graph would have to own."""
    import tensorflow as tf

    codes = np.array([ord(character) for character in vocabulary], np.int32)
    order = np.argsort(codes).astype(np.int32)

    def encode(text, argument):
        characters = tf.strings.unicode_decode(text, "UTF-8", errors="strict")
        lengths = tf.cast(characters.row_lengths(), "int32")
        tf.debugging.assert_greater(tf.size(text), 0, f"`{argument}` must have at least one text.")
        tf.debugging.assert_positive(lengths, f"`{argument}` must have at least one character.")
        rank = tf.searchsorted(codes[order], characters.flat_values)
        rank = tf.minimum(rank, len(codes) - 1)
        known = tf.equal(tf.gather(codes[order], rank), characters.flat_values)
        unknown = tf.unique(tf.boolean_mask(characters.flat_values, ~known)).y
        message = f"Every character of `{argument}` must be in the vocabulary. Unknown:"
        unknown = tf.strings.unicode_encode(unknown[:, None], "UTF-8")
        with tf.control_dependencies(
            [tf.debugging.Assert(tf.size(unknown) == 0, [message, unknown])]
        ):
            ids = tf.gather(order, rank)
        return characters.with_flat_values(ids).to_tensor(), lengths

    def decode(ids):
        return tf.strings.unicode_encode(tf.gather(codes, ids), "UTF-8")

    return encode, decode
