"""SavedModels for serving."""

import os
import shutil
import tempfile

import keras
import numpy as np

from keras_hypernets.models import text_generation
from keras_hypernets.models.character_embedding import CharacterEmbedding


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
        ValueError: if `path` exists and is no SavedModel.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "A SavedModel with signatures is TensorFlow's own and needs its backend. "
            f"Received: backend {keras.backend.backend()!r}"
        )
    path = os.fspath(path)
    if os.path.lexists(path) and not os.path.exists(os.path.join(path, "saved_model.pb")):
        raise ValueError(f"`path` must be new, or a SavedModel to replace. Received: path={path!r}")
    parent = os.path.dirname(os.path.abspath(path))
    os.makedirs(parent, exist_ok=True)
    workspace = tempfile.mkdtemp(prefix=".export-", dir=parent)
    try:
        written = os.path.join(workspace, "new")
        if any(isinstance(layer, CharacterEmbedding) for layer in model.layers):
            _write_character_language_model(model, written)
        else:
            model.export(written, verbose=False)
        if os.path.exists(path):
            os.rename(path, os.path.join(workspace, "old"))
        os.rename(written, path)
    finally:
        shutil.rmtree(workspace)


def _write_character_language_model(model, path):
    import tensorflow as tf

    def spec(dtype, *shape, name):
        return tf.TensorSpec(shape, dtype, name)

    sizes = text_generation.state_sizes(model)
    encode, decode = _text_codec(text_generation.embedding_of(model).vocabulary)

    def serving_default(text):
        ids, lengths = encode(text, "text")
        return {"logits": read(ids), "lengths": lengths}

    def tokens(ids):
        return {"logits": read(ids)}

    def read(ids):
        states = text_generation.initial_states(model, tf.shape(ids)[0])
        return text_generation.run(model, ids, states)[0]

    def step(ids, seed, position, temperature, *states):
        logits, states = text_generation.step(model, ids, list(states))
        next_id = text_generation.sample(logits, temperature, seed, position)
        return {"logits": logits, "next_id": next_id, **dict(zip(sizes, states, strict=True))}

    def generate(prompt, length, temperature, seed):
        ids, lengths = encode(prompt, "prompt")
        written = text_generation.continue_text(model, ids, lengths, length, temperature, seed)
        return {"text": tf.strings.join([prompt, decode(written)])}

    scalars = {
        "seed": spec("int32", name="seed"),
        "position": spec("int32", name="position"),
        "temperature": spec("float32", name="temperature"),
        "length": spec("int32", name="length"),
    }
    states = [spec(model.compute_dtype, None, size, name=name) for name, size in sizes.items()]
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
