"""Continues sequences with a chain: what is drawn from its output is its next input."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_hypernets.models.sequences.prepared_step import prepared_step, prepared_weights
from keras_hypernets.models.sequences.sampling import check_sampling
from keras_hypernets.models.sequences.stepping import (
    check_inputs,
    initial_states,
    layers_of,
    recurrent_layers,
    run,
)
from keras_hypernets.models.sequences.traced import traced
from keras_hypernets.validation import positive_integer

ROOM = 64


class Writing(NamedTuple):
    """State of generation between two steps, one row per sequence."""

    last: Any  # (batch, ...) the last step, which the model has not read yet
    states: tuple
    # Empty if sequences do not end by themselves; else the last entry is (batch,) booleans.
    ending: tuple = ()


def begin(model: keras.Model, inputs: Any, lengths: Any) -> Writing:
    """Reads all but the last step of each sequence, with keras.ops only.

    Args:
        model: a chain of recurrent layers.
        inputs: `(batch, time, ...)`, padded at the end.
        lengths: `(batch,)` lengths of the sequences, at least 1.
    """
    batch, time = ops.shape(inputs)[:2]
    last = ops.cast(lengths, "int32")[:, None] - 1
    before_last = ops.arange(time, dtype="int32")[None] < last
    _, states = run(model, inputs, initial_states(model, batch), before_last)
    for _ in inputs.shape[2:]:
        last = last[..., None]
    last = ops.take_along_axis(inputs, last, axis=1)[:, 0]
    return Writing(last, tuple(states))


def go_on(
    step: Callable[[Any, list], tuple[Any, list]],
    draw: Callable[[Any, Any], Any],
    writing: Writing,
    length: Any,
    room: int | None = None,
    end: Callable[[tuple, Any], tuple] | None = None,
) -> tuple[Any, Writing]:
    """Continues sequences in one loop, with keras.ops only.

    Args:
        step: function of one step of the inputs `(batch, ...)` and the states, to the model's
            output and the new states.
        draw: function of that output and the number of steps written, to the next inputs.
        writing: what `begin` or the previous call returned.
        length: number of steps to write, unless all sequences end earlier.
        room: static size of the result, if `length` is a tensor. Default `length`.
        end: function of `writing.ending` and the inputs just written, to the new ending.

    Returns:
        `(batch, room, ...)` inputs, and a new `Writing`.
    """

    def write(n, written, writing):
        output, states = step(writing.last, list(writing.states))
        last = ops.cast(draw(output, n), written.dtype)
        # Not `slice_update`, an operation of XLA's, which not every server has.
        places = ops.stack([rows, ops.full_like(rows, n)], axis=1)
        written = ops.scatter_update(written, places, last)
        ending = end(writing.ending, last) if writing.ending else ()
        return n + 1, written, Writing(last, tuple(states), ending)

    def goes_on(n, written, writing):
        return (n < length) & ~ops.all(writing.ending[-1]) if writing.ending else n < length

    batch = ops.shape(writing.last)[0]
    rows = ops.arange(batch, dtype="int32")
    written = ops.zeros((batch, room or length, *writing.last.shape[1:]), writing.last.dtype)
    _, written, after = ops.while_loop(goes_on, write, (ops.cast(0, "int32"), written, writing))
    return written, after


def continue_sequences(
    model: keras.Model,
    writing: Writing,
    position: Any,
    length: Any,
    temperature: Any,
    seed: Any,
    room: int | None = None,
) -> tuple[Any, Writing]:
    """Continues sequences with the `sample` of a model's last layer, with keras.ops only.

    Args:
        model: a chain of recurrent layers whose last layer has a method `sample`.
        writing: what `begin` or the previous call returned.
        position: number of steps written so far; step k is drawn with `(seed, k)`.
        length, room: as for `go_on`.
        temperature, seed: as for `generate`.

    Returns:
        As `go_on`.
    """
    head = layers_of(model)[-1]

    def draw(output, n):
        return head.sample(output, temperature, seed, position + n)

    step = prepared_step(model, *prepared_weights(model))
    return go_on(step, draw, writing, length, room)


def generate(
    model: keras.Model,
    inputs: Any,
    length: int,
    temperature: float = 1.0,
    seed: int = 0,
    lengths: Any = None,
) -> np.ndarray:
    """Continues sequences with a chain of recurrent layers whose last layer can sample.

    That layer has a method `sample(outputs, temperature, seed, position)`, which draws the next
    step of the inputs `(batch, ...)` from the outputs `(batch, ...)` of one step. It uses keras.ops
    only, and the same numbers give the same draw. `MixtureDensity` is such a layer. (Text has
    `char_lm.generate`, with options of its own.)

    On TensorFlow the first call for a model compiles for about a second. `length`
    is rounded up to a power of two, at least to 64: a call compiles again if this number or the
    number of sequences is new, and once when `inputs` has another number of time steps.

    Args:
        model: a chain of recurrent layers.
        inputs: `(batch, time, ...)` beginnings of sequences, at least one step, padded at the end.
        length: positive integer, number of steps to add.
        temperature: number in [0, 1e30], for `sample`: 0 takes what is most likely. Default 1.
        seed: integer. The same seed gives the same sequences, and a greater `length` extends them.
            With another batch size, machine or library version they may differ by rounding.
            Default 0.
        lengths: `(batch,)` lengths of the beginnings. Default `None`: none is padded.

    Returns:
        A NumPy array `(batch, length, ...)`, the steps added.

    Raises:
        ValueError: if `model` is not of this kind, or another argument is out of range.

    Example:

    >>> model = keras_hypernets.models.stroke_model(16, cell="lstm", mixtures=5)
    >>> start = keras.ops.zeros((2, 1, 3))
    >>> keras_hypernets.models.sequences.generate(model, start, length=10).shape
    (2, 10, 3)
    """
    recurrent_layers(model)
    head = layers_of(model)[-1]
    if not callable(getattr(head, "sample", None)):
        raise ValueError(
            "`model` must have a last layer with a method `sample`. "
            f"Received: {head.name}, a {type(head).__name__}"
        )
    check_inputs(model, inputs)
    length = positive_integer("length", length)
    check_sampling(temperature, seed, None, None)
    batch, time = (int(size) for size in inputs.shape[:2])
    if not time:
        raise ValueError(
            f"`inputs` must have at least one step. Received: shape {tuple(inputs.shape)}"
        )
    given = [time] * batch if lengths is None else np.asarray(ops.convert_to_numpy(lengths))
    if np.shape(given) != (batch,) or not np.all((np.array(given) > 0) & (np.array(given) <= time)):
        raise ValueError(
            f"`lengths` must be {batch} numbers of steps, 1 to {time}. Received: lengths={lengths}"
        )

    inputs = ops.cast(inputs, model.inputs[0].dtype)
    more = power_of_two(time) - time
    inputs = ops.pad(inputs, [(0, 0), (0, more)] + [(0, 0)] * (len(inputs.shape) - 2))
    writing = traced(begin, model)(inputs, ops.convert_to_tensor(given, "int32"))
    numbers = [np.int32(0), np.int32(length), np.float32(temperature), np.int32(seed)]
    # Always: without XLA rounding differs, and soon what is drawn would too.
    go_on_compiled = traced(continue_sequences, model, jit_compile=True)
    room = power_of_two(max(length, ROOM))
    written, _ = go_on_compiled(writing, *map(ops.convert_to_tensor, numbers), room)
    return ops.convert_to_numpy(written)[:, :length]


def power_of_two(size: int) -> int:
    """Returns the next power of two: code compiled for it serves all sizes up to it."""
    return 1 << (size - 1).bit_length()
