"""GatedRNN: `keras.layers.RNN`, but faster in training, for any GatedCell."""

import keras
from keras import ops

from keras_hypernets.dynamic.gated_cell import GatedCell
from keras_hypernets.dynamic.recorder import Recorder, carried_states, carries_float32
from keras_hypernets.validation import boolean, keras_object, positive_integer

LOOP_OPTIONS = (
    "return_sequences",
    "return_state",
    "go_backwards",
    "stateful",
    "unroll",
    "zero_output_for_mask",
)


@keras.saving.register_keras_serializable(package="keras_hypernets")
class GatedRNN(keras.layers.RNN):
    """`keras.layers.RNN` for a `GatedCell`, with a faster loop in training.

    The loop computes each kernel's gradient in one product over many steps
    (`dynamic/recurrence/tensorflow.py` explains how). Values and gradients are those of
    `keras.layers.RNN(cell)`. Keras' own loop runs outside training, with `unroll=True`, in eager
    TensorFlow, on PyTorch, and for a cell that overrides `call` or `draw_dropout_masks` or whose
    dtype is not the layer's.

    On TensorFlow, XLA compiles the loop, in parts that run in parallel. On a CPU, leave the model's
    `jit_compile` at its default, off.

    Three things differ from Keras' loop. On TensorFlow, second derivatives through training steps
    raise an error; on JAX they work, but not in forward mode. Dropout masks differ in values, not
    in statistics. In half precision the cell's `float32_states`, such as c, stay in float32
    between the steps, in training and inference; states that enter or leave a call have the compute
    dtype.

    Args:
        cell: a `GatedCell`.
        return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask,
        activity_regularizer: as in `keras.layers.RNN`. Default `False` or `None`.
        checkpoint_every: number of steps between two states that the faster loop keeps for the
            gradient. It recomputes the states in between, which saves memory with sequences of
            thousands of steps. Default `None`: keep every step.
        **kwargs: arguments of `keras.Layer`.

    Call arguments:
        sequences: `(batch, time, features)`.
        initial_state: list of the cell's states `(batch, size)`, default zeros.
        mask: `(batch, time)` booleans, `False` at masked steps, which keep all states.
        training: whether to apply dropout and run the faster loop.

    Returns:
        `(batch, time, units)` if `return_sequences`, else `(batch, units)`; with `return_state`
        followed by the last states.

    Raises:
        ValueError: if `cell` is not a `GatedCell`, or another argument is out of range.

    Example:

    >>> layer = keras_hypernets.GatedRNN(keras_hypernets.HyperGRUCell(16), return_sequences=True)
    >>> tuple(layer(keras.ops.ones((2, 5, 3))).shape)
    (2, 5, 16)
    """

    def __init__(
        self,
        cell,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        zero_output_for_mask=False,
        checkpoint_every=None,
        activity_regularizer=None,
        **kwargs,
    ):
        if not isinstance(cell, GatedCell):
            raise ValueError(f"`cell` must be a GatedCell. Received: cell={cell!r}")
        if not set(cell.float32_states) <= set(cell.state_names):
            raise ValueError(
                f"`float32_states` of a cell must be some of its states {cell.state_names}. "
                f"Received: float32_states={cell.float32_states!r}"
            )
        super().__init__(
            cell,
            return_sequences=boolean("return_sequences", return_sequences),
            return_state=boolean("return_state", return_state),
            go_backwards=boolean("go_backwards", go_backwards),
            stateful=boolean("stateful", stateful),
            unroll=boolean("unroll", unroll),
            zero_output_for_mask=boolean("zero_output_for_mask", zero_output_for_mask),
            activity_regularizer=keras_object("activity_regularizer", activity_regularizer),
            **kwargs,
        )
        if checkpoint_every is not None:
            checkpoint_every = positive_integer("checkpoint_every", checkpoint_every)
        self.checkpoint_every = checkpoint_every
        self.supports_masking = True  # later versions of Keras turn it off in RNN

    def inner_loop(self, sequences, initial_state, mask, training=False):
        cell = self.cell
        as_base = type(cell).call is GatedCell.call and cell.compute_dtype == self.compute_dtype
        # Then `linear_maps`, `tail` and `dropout_rates` define the cell.
        known = as_base and type(cell).draw_dropout_masks is GatedCell.draw_dropout_masks
        recur = _fast_loop() if known and training and not self.unroll else None
        if recur is None:
            wide = as_base and carries_float32(cell)
            loop = self._loop_with_wide_states if wide else super().inner_loop
            return loop(sequences, initial_state, mask, training=training)
        cell.check_shapes(sequences[:, 0], initial_state)
        x = ops.cast(ops.transpose(sequences, (1, 0, 2)), cell.compute_dtype)
        state = dict(zip(cell.state_names, carried_states(cell, initial_state), strict=True))
        if mask is not None:
            mask = ops.cast(mask, "bool")
            mask = ops.transpose(mask if len(mask.shape) == 3 else mask[..., None], (1, 0, 2))
        if self.go_backwards:
            x = ops.flip(x, 0)
            mask = None if mask is None else ops.flip(mask, 0)
        drops = any(rate > 0 for rate, _ in cell.dropout_rates.values())
        seed = cell.seed_generator.next() if drops else None
        outputs, last = recur(
            cell, x, state, mask, seed, self.return_sequences, self.checkpoint_every
        )
        if mask is not None and self.zero_output_for_mask:
            keep = mask if self.return_sequences else mask[-1]
            outputs = ops.where(keep, outputs, ops.zeros_like(outputs))
        states = [last[name] for name in cell.state_names]
        if not self.return_sequences:
            return outputs, outputs[:, None], states
        return outputs[-1], ops.transpose(outputs, (1, 0, 2)), states

    def get_config(self):
        return {**super().get_config(), "checkpoint_every": self.checkpoint_every}

    def _loop_with_wide_states(self, sequences, initial_state, mask, training):
        options = {name: getattr(self, name) for name in LOOP_OPTIONS}
        options = {**options, "stateful": False, "return_state": True}
        recorder = Recorder(self.cell)
        rnn = keras.layers.RNN(recorder, dtype="float32", name=self.name, **options)
        output, *states = rnn(sequences, initial_state, mask, training=training)
        if not self.return_sequences:
            return output, output[:, None], states
        return output[:, -1], output, states


def _fast_loop():
    """Returns the backend's `recur`, or None for Keras' loop."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        # In eager mode, as with `run_eagerly=True`, compiling the pieces would not pay.
        if tf.inside_function():
            from keras_hypernets.dynamic.recurrence.tensorflow import recur

            return recur
    if backend == "jax":
        from keras_hypernets.dynamic.recurrence.jax import recur

        return recur
    return None
