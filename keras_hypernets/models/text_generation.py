"""Writing text with a character language model."""

import weakref
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_hypernets.models.gumbel_noise import gumbel_noise
from keras_hypernets.models.stepping import (
    check_array,
    embedding_of,
    initial_states,
    prepared_step,
    run,
)
from keras_hypernets.validation import nonnegative_number, positive_integer, seed_integer


def sample(logits: Any, temperature: Any, seed: Any, position: Any) -> Any:
    """Draws from softmax(logits / temperature), the same for the same `(seed, position)`.

    By the Gumbel trick: argmax of logits + temperature * noise; a temperature of 0 takes the most
    likely character.

    Raises:
        ValueError: for numbers out of their range; those in tensors are not looked at.
    """
    if not ops.is_tensor(temperature):
        nonnegative_number("temperature", temperature)
    for name, number in (("seed", seed), ("position", position)):
        if not ops.is_tensor(number):
            seed_integer(name, number)
    check_array("logits", logits, "(..., characters)", "float", range(1, 10))
    logits = ops.cast(logits, "float32")
    noise = gumbel_noise(ops.shape(logits), seed, position)
    return ops.cast(ops.argmax(logits + temperature * noise, axis=-1), "int32")


def continue_text(
    model: keras.Model,
    ids: Any,
    lengths: Any,
    length: Any,
    temperature: Any,
    seed: Any,
    room: int | None = None,
) -> Any:
    """Continues texts, in keras.ops alone: what `generate` and an exported model run.

    Args:
        model: a model made by `char_language_model`.
        ids: `(batch, time)` prompts, padded at their ends.
        lengths: `(batch,)` lengths of the prompts, at least 1.
        length: number of characters to write.
        temperature: of the sampling.
        seed: of the sampling; character number k is drawn with `(seed, k)`.
        room: size of the result, where `length` is no number yet; default `length`.

    Returns:
        `(batch, room)` ids, zeros after `length`.
    """
    batch, time = ops.shape(ids)
    last = ops.cast(lengths, "int32")[:, None] - 1
    before_last = ops.arange(time, dtype="int32")[None] < last
    _, states = run(model, ids, initial_states(model, batch), before_last)
    last = ops.take_along_axis(ids, last, axis=1)[:, 0]
    step = prepared_step(model)

    def write(position, last, written, *states):
        logits, states = step(last, list(states))
        last = sample(logits, temperature, seed, position)
        written = ops.slice_update(written, (0, position), last[:, None])
        return position + 1, last, written, *states

    loop = (ops.cast(0, "int32"), last, ops.zeros((batch, room or length), "int32"), *states)
    return ops.while_loop(lambda position, *_: position < length, write, loop)[2]


def generate(
    model: keras.Model,
    prompt: str | list[str],
    length: int,
    temperature: float = 1.0,
    seed: int = 0,
) -> str | list[str]:
    """Writes text with a character language model.

    Args:
        model: a model made by `char_language_model`.
        prompt: text to continue, at least one character; or a list of such texts.
        length: positive integer, number of characters to add.
        temperature: number >= 0 by which logits are divided before the softmax; 0 takes the most
            likely character. Default 1.
        seed: integer; the same seed writes the same text. Default 0.

    Returns:
        The prompt with its continuation; a list of them for a list of prompts.

    Raises:
        ValueError: for an empty prompt, a character that is not in the vocabulary, or another
            argument out of its range.
    """
    embedding = embedding_of(model)
    prompts = prompt if isinstance(prompt, (list, tuple)) else [prompt]
    if not prompts or not all(isinstance(text, str) and text for text in prompts):
        raise ValueError(
            "`prompt` must be a string of at least one character, or a list of such strings. "
            f"Received: prompt={prompt!r}"
        )
    length = positive_integer("length", length)
    temperature = nonnegative_number("temperature", temperature)
    seed = seed_integer("seed", seed)

    encoded = [embedding.encode(text, "prompt") for text in prompts]
    ids = np.zeros((len(prompts), _power_of_two(max(map(len, encoded)))), np.int32)
    for row, text in zip(ids, encoded, strict=True):
        row[: len(text)] = text
    lengths = np.array([len(text) for text in encoded], np.int32)
    if keras.backend.backend() == "tensorflow":
        room = _power_of_two(length)
        write = _graph_writer(model, jit=length >= JIT_FROM)
        numbers = np.int32(length), np.float32(temperature), np.int32(seed)
        numbers = map(ops.convert_to_tensor, numbers)
        written = write(ops.convert_to_tensor(ids), ops.convert_to_tensor(lengths), *numbers, room)
    else:
        written = continue_text(model, ids, lengths, length, temperature, seed)
    written = ops.convert_to_numpy(written)[:, :length]
    texts = [text + embedding.decode(row) for text, row in zip(prompts, written, strict=True)]
    return texts[0] if isinstance(prompt, str) else texts


# The functions of each model, which go with it.
_WRITERS = weakref.WeakKeyDictionary()
JIT_FROM = 1024  # so many characters to write are worth some seconds of XLA's compiling


def _graph_writer(model, jit):
    """Returns `continue_text` of a model, traced once for all calls with arrays of one size."""
    writers = _WRITERS.setdefault(model, {})
    if jit not in writers:
        import tensorflow as tf

        reference = weakref.ref(model)

        def write(*arguments):
            return continue_text(reference(), *arguments)

        writers[jit] = tf.function(write, jit_compile=jit, autograph=False)
    return writers[jit]


def _power_of_two(size):
    """The next one: what is compiled for a size serves all sizes up to it."""
    return 1 << (size - 1).bit_length()
