"""Recorder: observes a recurrent cell at every step."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_hypernets.dynamic.gated_cell import GatedCell

HALF = ("float16", "bfloat16")


class Recorder(keras.Layer):
    """A cell that runs another one and outputs what `observe` returns.

    If the other cell has `float32_states` and half precision, the recorder's states are float32,
    since Keras' RNN casts all states to its cell's dtype. Its outputs are then float32 too.

    Args:
        cell: the cell.
        observe: function of the cell's output and its new states, in their order, to the output
            `(batch, output_size)`. Default `None`: the cell's output.
        output_size: size of what `observe` returns. Default `None`: the cell's.
    """

    def __init__(
        self, cell: keras.Layer, observe: Callable | None = None, output_size: int | None = None
    ):
        self.carries_float32 = carries_float32(cell)
        dtype = "float32" if self.carries_float32 else cell.dtype_policy
        super().__init__(dtype=dtype, name=cell.name)
        self.step = _StepOnFloat32(cell) if self.carries_float32 else cell
        self.observe = observe
        self.state_size = cell.state_size
        self.output_size = output_size or cell.output_size

    def call(self, inputs, states, training=False):
        output, states = self.step(inputs, states, training=training)
        output = output if self.observe is None else self.observe(output, states)
        if self.carries_float32:
            output, *states = (ops.cast(tensor, "float32") for tensor in (output, *states))
        return output, states


class _StepOnFloat32(keras.Layer):
    """Calls a cell in its own dtype, without casting states to it as every layer does."""

    def __init__(self, cell):
        super().__init__(dtype=cell.dtype_policy)
        self.cell = cell
        self.built = True  # as the cell is

    @property
    def input_dtype(self):
        return "float32"

    def call(self, inputs, states, training=False):
        return self.cell.call(inputs, carried_states(self.cell, states), training=training)


def carries_float32(cell: keras.Layer) -> bool:
    """Returns whether a cell in half precision carries states in float32 between steps."""
    as_base = isinstance(cell, GatedCell) and type(cell).call is GatedCell.call
    return as_base and cell.compute_dtype in HALF and bool(cell.float32_states)


def carried_states(cell: GatedCell, states: list) -> list:
    """Casts a cell's `float32_states` to float32 in half precision, all else to its dtype."""
    wide = cell.float32_states if cell.compute_dtype in HALF else ()
    return [
        ops.cast(state, "float32" if name in wide else cell.compute_dtype)
        for name, state in zip(cell.state_names, states, strict=True)
    ]


def recorded_state(
    cell: GatedCell, name: str, sequences: Any, initial_state: list | None, mask: Any
) -> Any:
    """Returns one state of a cell after every step, `(batch, time, size)`, without dropout.

    A masked step repeats the state of the previous one, or the initial state.
    """
    at = cell.state_names.index(name)
    size = cell.state_size[at]
    recorder = Recorder(cell, lambda output, states: states[at], size)
    rnn = keras.layers.RNN(
        recorder,
        return_sequences=True,
        zero_output_for_mask=True,  # otherwise JAX takes the first state for the first output
        dtype=recorder.dtype_policy,
    )
    values = rnn(sequences, initial_state=initial_state, mask=mask, training=False)
    if mask is None:
        return values
    before = ops.zeros((ops.shape(values)[0], size), values.dtype)
    before = before if initial_state is None else ops.cast(initial_state[at], before.dtype)
    return _repeated(values, before, mask)


def _repeated(values, before, mask):
    """Replaces every masked `(batch, time, size)` value with the last unmasked one."""
    time = ops.shape(values)[1]
    steps = ops.arange(time, dtype="int32")
    counting = ops.argsort(ops.where(mask, steps, time + steps), axis=1)  # unmasked steps first
    values = ops.take_along_axis(values, counting[..., None], axis=1)
    values = ops.concatenate([before[:, None], values], axis=1)
    counts = ops.cumsum(ops.cast(mask, "int32"), axis=1)
    return ops.take_along_axis(values, counts[..., None], axis=1)
