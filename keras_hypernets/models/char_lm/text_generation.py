"""Generating text with a character language model."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_hypernets.models.char_lm.char_language_model import embedding_of
from keras_hypernets.models.sequences import prepared_step
from keras_hypernets.models.sequences.generation import ROOM, Writing, begin, go_on, power_of_two
from keras_hypernets.models.sequences.sampling import check_sampling, sample
from keras_hypernets.models.sequences.traced import traced
from keras_hypernets.validation import positive_integer

NEVER = -1  # not a character's id


def begin_text(model: keras.Model, ids: Any, lengths: Any, stop: Any) -> Writing:
    """Reads prompts, with keras.ops only: `generate` and exported models run this.

    Args:
        model: a model made by `char_language_model`.
        ids: `(batch, time)` prompts, padded at the end.
        lengths: `(batch,)` lengths of the prompts, at least 1.
        stop: `(characters,)` ids, at least one, that end a text, or None.
    """
    writing = begin(model, ids, lengths)
    if stop is None:
        return writing
    batch = ops.shape(ids)[0]
    recent = ops.full((batch, ops.shape(stop)[0]), NEVER, "int32")
    # The latest len(stop) characters, how many were written, and whether stop was.
    ending = (recent, ops.zeros((batch,), "int32"), ops.zeros((batch,), "bool"))
    return writing._replace(ending=ending)


def continue_text(
    model: keras.Model,
    prepared: tuple,
    writing: Writing,
    stop: Any,
    position: Any,
    length: Any,
    temperature: Any,
    seed: Any,
    top_k: Any = None,
    top_p: Any = None,
    room: int | None = None,
) -> tuple[Any, Any, Writing]:
    """Continues texts, with keras.ops only, like `begin_text`.

    Args:
        model: a model made by `char_language_model`.
        prepared: what `prepared_weights` returned.
        writing: what `begin_text` or the previous call returned.
        stop: as for `begin_text`; only text after the prompt is compared with it.
        position: number of characters written so far; character k is drawn with `(seed, k)`.
        length: number of characters to write, unless all texts end earlier.
        temperature, seed, top_k, top_p: as for `sample`.
        room: static size of the result, if `length` is a tensor. Default `length`.

    Returns:
        `(batch, room)` ids, the number `(batch,)` of them that each text has, and a new `Writing`.
    """
    step = prepared_step.prepared_step(model, *prepared)

    def draw(logits, n):
        return sample(logits, temperature, seed, position + n, top_k, top_p)

    def end(ending, last):
        recent, count, ended = ending
        recent = ops.concatenate([recent[:, 1:], last[:, None]], axis=1)
        return recent, count + ops.cast(~ended, "int32"), ended | ops.all(recent == stop, axis=1)

    written, after = go_on(step, draw, writing, length, room, end)
    if not writing.ending:
        return written, ops.full((ops.shape(written)[0],), length, "int32"), after
    return written, after.ending[1] - writing.ending[1], after


def prepared_weights(model: keras.Model) -> tuple:
    """Returns all that `continue_text` can compute before it writes."""
    return prepared_step.prepared_weights(model, ids=len(embedding_of(model).vocabulary))


def generate(
    model: keras.Model,
    prompt: str | list[str],
    length: int,
    temperature: float = 1.0,
    seed: int = 0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: str | None = None,
) -> str | list[str]:
    """Generates text with a character language model.

    On TensorFlow the first call for a model compiles for about a second. `length`
    is rounded up to a power of two, at least to 64: a call compiles again if this number or the
    number of prompts is new, and once when a prompt has another length.

    Args:
        model: a model made by `char_language_model`.
        prompt: text to continue, at least one character; or a list of such texts.
        length: positive integer, number of characters to add.
        temperature: number in [0, 1e30] that divides the logits before the softmax; 0 always takes
            the most likely character. Default 1.
        seed: integer. The same seed gives the same text, and a greater `length` extends it. With
            another number of prompts, machine or library version, rounding may change the text.
            Default 0.
        top_k: positive integer. Sample from the `top_k` most likely characters. Default `None`:
            all.
        top_p: number in (0, 1]. Sample from the smallest set of characters whose probabilities,
            among the `top_k`, sum to at least `top_p`. Default `None`: all.
        stop: string that ends a text once generated, and stays in it. It has no effect in the
            prompt. Default `None`: all texts get `length` characters.

    Returns:
        The prompt with its continuation, or a list of them for a list of prompts.

    Raises:
        ValueError: if a prompt is empty, a character is not in the vocabulary, or an argument is
            out of range.
    """
    pieces = stream(model, prompt, length, temperature, seed, top_k, top_p, stop, piece=length)
    written = next(pieces)
    if isinstance(prompt, str):
        return prompt + written
    return [text + more for text, more in zip(prompt, written, strict=True)]


def stream(
    model: keras.Model,
    prompt: str | list[str],
    length: int,
    temperature: float = 1.0,
    seed: int = 0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: str | None = None,
    piece: int = 16,
) -> Iterator[str | list[str]]:
    """Generates text like `generate`, and yields it piece by piece.

    Args:
        model, prompt, length, temperature, seed, top_k, top_p, stop: as for `generate`. The joined
            pieces are its text without the prompt.
        piece: positive integer, number of characters in a piece; the last one may be shorter.
            Default 16. On JAX every piece compiles for a second or more.

    Returns:
        An iterator of strings, or of lists of strings for a list of prompts. Texts that have ended
        yield empty strings.

    Raises:
        ValueError: as for `generate`, before the first piece.
    """
    embedding = embedding_of(model)
    prompts = prompt if isinstance(prompt, (list, tuple)) else [prompt]
    if not prompts or not all(isinstance(text, str) and text for text in prompts):
        raise ValueError(
            "`prompt` must be a string of at least one character, or a list of such strings. "
            f"Received: prompt={prompt!r}"
        )
    length = positive_integer("length", length)
    piece = min(positive_integer("piece", piece), length)
    room = power_of_two(max(piece, ROOM))
    check_sampling(temperature, seed, top_k, top_p)
    if stop == "":
        raise ValueError("`stop` must have at least one character, or be None. Received: stop=''")
    stop = None if stop is None else embedding.encode(stop, "stop")

    encoded = [embedding.encode(text, "prompt") for text in prompts]
    ids = np.zeros((len(prompts), power_of_two(max(map(len, encoded)))), np.int32)
    for row, text in zip(ids, encoded, strict=True):
        row[: len(text)] = text
    lengths = np.array([len(text) for text in encoded], np.int32)
    top_k = None if top_k is None else np.int32(top_k)
    top_p = None if top_p is None else np.float32(top_p)
    sampling = (np.float32(temperature), np.int32(seed), top_k, top_p)

    def pieces():
        begin = traced(begin_text, model)
        # Always: without XLA rounding differs, and soon the text would too.
        go_on = traced(continue_text, model, jit_compile=True)
        stops = None if stop is None else ops.convert_to_tensor(stop)
        prepared = traced(prepared_weights, model)()
        writing = begin(ops.convert_to_tensor(ids), ops.convert_to_tensor(lengths), stops)
        for position in range(0, length, piece):
            size = min(piece, length - position)
            numbers = [
                value if value is None else ops.convert_to_tensor(value)
                for value in (np.int32(position), np.int32(size), *sampling)
            ]
            written, counts, writing = go_on(prepared, writing, stops, *numbers, room)
            rows = zip(ops.convert_to_numpy(written), ops.convert_to_numpy(counts), strict=True)
            texts = [embedding.decode(row[:count]) for row, count in rows]
            yield texts[0] if isinstance(prompt, str) else texts
            if writing.ending and ops.all(writing.ending[2]):
                return

    return pieces()
