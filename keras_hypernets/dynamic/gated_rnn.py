"""GatedRNN: a faster `keras.layers.RNN` for any GatedCell."""

import keras
from keras import ops

from keras_hypernets.dynamic.gated_cell import GatedCell
from keras_hypernets.dynamic.recorder import Recorder, carried_states, carries_float32
from keras_hypernets.dynamic.traced_once import FEW, compiled_if_eager
from keras_hypernets.validation import boolean, keras_object, positive_integer

# The functions that a TensorFlow model of Keras compiles, by their names.
STEPS_OF_MODELS = ("one_step_on_data", "one_step_on_data_distributed", "multi_step_on_data")


@keras.saving.register_keras_serializable(package="keras_hypernets")
class GatedRNN(keras.layers.RNN):
    """`keras.layers.RNN` for a `GatedCell`, with a faster loop.

    The loop computes each kernel's gradient in one product over many steps
    (`dynamic/recurrence/tensorflow.py` explains how). Values and gradients are those of
    `keras.layers.RNN(cell)`. The faster loop runs in training. TensorFlow has another loop for
    calls without a gradient: it runs in `predict`, in `evaluate`, and where `fit` calls the layer
    with `training=False`, if there are more than 16 steps. Everywhere else, such as in a
    SavedModel, Keras' own loop runs. It also runs with `unroll=True`, in eager TensorFlow, on
    PyTorch, and for cells that override `call` or `draw_dropout_masks` or whose dtype differs from
    the layer's. Eager calls outside training compile Keras' loop once, on TensorFlow for more than
    16 steps.

    On TensorFlow, XLA compiles the loop, in parts that run in parallel. On a CPU, leave the model's
    `jit_compile` at its default, off.

    Three things differ from Keras' loop. On TensorFlow, second derivatives through training steps
    raise an error; on JAX they work, but not in forward mode. Dropout masks differ in values, not
    in statistics. In half precision the cell's `float32_states`, such as c, stay in float32
    between the steps, in training and inference; states that enter or leave a call have the compute
    dtype.

    Args:
        cell: a `GatedCell`, or several as a list or `keras.layers.StackedRNNCells`, each of which
            reads the outputs of the one before.
        return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask: as in
            `keras.layers.RNN`. Default `False`.
        activity_regularizer: likewise. Default `None`.
        checkpoint_every: number of steps between two states that the faster loop keeps for the
            gradient. It recomputes the states in between, which saves memory with sequences of
            thousands of steps. Default `None`: keep every step.
        **kwargs: arguments of `keras.Layer`.

    Call arguments:
        sequences: `(batch, time, features)`.
        initial_state: list of the cell's states `(batch, size)`, default zeros.
        mask: `(batch, time)` booleans, `False` at masked steps, which keep all states.
        training: whether to apply dropout.

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
        cells = cells_of(cell)
        if not cells or not all(isinstance(one, GatedCell) for one in cells):
            raise ValueError(
                f"`cell` must be a GatedCell or a list of them. Received: cell={cell!r}"
            )
        for one in cells:
            if not set(one.float32_states) <= set(one.state_names):
                raise ValueError(
                    f"`float32_states` of a cell must be some of its states {one.state_names}. "
                    f"Received: float32_states={one.float32_states!r}"
                )
        if len(cells) == 1:
            (cell,) = cells
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

    @property
    def cells(self):
        """The list of cells, each of which reads the outputs of the one before."""
        return cells_of(self.cell)

    def reset_state(self):
        for state in keras.tree.flatten(self.states or []):  # Keras fails with several cells
            state.assign(ops.zeros_like(state.value))

    def inner_loop(self, sequences, initial_state, mask, training=False):
        cells = self.cells
        as_base = all(
            type(cell).call is GatedCell.call and cell.compute_dtype == self.compute_dtype
            for cell in cells
        )
        if not as_base:
            return super().inner_loop(sequences, initial_state, mask, training=training)
        # Then `linear_maps`, `tail` and `dropout_rates` define a cell, unless it draws other masks.
        known = all(type(cell).draw_dropout_masks is GatedCell.draw_dropout_masks for cell in cells)
        fast = known and not self.unroll
        if mask is not None:
            mask = ops.cast(mask, "bool")
            mask = mask if len(mask.shape) == 3 else mask[..., None]
        if self.go_backwards:
            sequences = ops.flip(sequences, 1)
            mask = None if mask is None else ops.flip(mask, 1)
        if self.stateful:  # PyTorch must not change what it needs for the gradient
            initial_state = keras.tree.map_structure(ops.copy, initial_state)
        stacked = cells[0] is not self.cell
        states = []
        given = initial_state if stacked else [initial_state]
        for n, (cell, of_cell) in enumerate(zip(cells, given, strict=True)):
            last = n == len(cells) - 1
            options = {
                "return_sequences": self.return_sequences or not last,
                "zero_output_for_mask": self.zero_output_for_mask and last,
                "unroll": self.unroll,
            }
            arguments = sequences, of_cell, mask
            loop = _fast_loop(cell, training, sequences.shape[1]) if fast else None
            if loop is not None:
                found = self._fast(loop, cell, options, *arguments, training)
            elif training or self.unroll:
                found = _loop_of_keras(cell, options, *arguments, training=training)
            else:
                static = (tuple(options.items()),)
                found = compiled_if_eager(_loop_of_keras, cell, *arguments, static=static)
            output, sequences, of_cell = found
            states.append(of_cell)
        return output, sequences, states if stacked else states[0]

    def _fast(self, loop, cell, options, sequences, initial_state, mask, training):
        cell.check_shapes(sequences[:, 0], initial_state)
        x = ops.cast(ops.transpose(sequences, (1, 0, 2)), cell.compute_dtype)
        state = dict(zip(cell.state_names, carried_states(cell, initial_state), strict=True))
        mask = None if mask is None else ops.transpose(mask, (1, 0, 2))
        drops = training and any(rate > 0 for rate, _ in cell.dropout_rates.values())
        all_steps = options["return_sequences"]
        more = {}
        if training:
            more["seed"] = cell.seed_generator.next() if drops else None
            more["checkpoint_every"] = self.checkpoint_every
        outputs, last = loop(cell, x, state, mask, all_steps, **more)
        if mask is not None and options["zero_output_for_mask"]:
            keep = mask if all_steps else mask[-1]
            outputs = ops.where(keep, outputs, ops.zeros_like(outputs))
        states = [last[name] for name in cell.state_names]
        if not all_steps:
            return outputs, outputs[:, None], states
        return outputs[-1], ops.transpose(outputs, (1, 0, 2)), states

    def get_config(self):
        return {**super().get_config(), "checkpoint_every": self.checkpoint_every}


def cells_of(cell):
    """Returns the cells of a stack or a list, or a list of the one cell."""
    cells = cell.cells if isinstance(cell, keras.layers.StackedRNNCells) else cell
    return list(cells) if isinstance(cells, (list, tuple)) else [cells]


def _loop_of_keras(cell, options, sequences, initial_state, mask, training=False):
    if not carries_float32(cell):
        rnn = keras.layers.RNN(cell, **dict(options))
        return rnn.inner_loop(sequences, initial_state, mask, training=training)
    rnn = keras.layers.RNN(Recorder(cell), dtype="float32", return_state=True, **dict(options))
    output, *states = rnn(sequences, initial_state, mask, training=training)
    if not rnn.return_sequences:
        return output, output[:, None], states
    return output[:, -1], output, states


def _fast_loop(cell, training, time):
    """Returns the backend's `recur` or `infer`, or None for Keras' loop.

    Args:
        cell: the cell to run.
        training: whether the layer trains.
        time: number of steps, None if unknown.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        # In eager mode, as with `run_eagerly=True`, compiling the pieces would not pay.
        if tf.inside_function() and training:
            from keras_hypernets.dynamic.recurrence.tensorflow import recur

            return recur
        if (time is None or time > FEW) and _in_step_of_model():
            from keras_hypernets.dynamic.recurrence.tensorflow_inference import infer

            return infer
    if backend == "jax" and training:
        from keras_hypernets.dynamic.recurrence.jax import recur

        return recur
    return None


def _in_step_of_model():
    """Returns whether TensorFlow traces a step of a model's `predict`, `evaluate` or `fit`.

    Other functions may be traced for a SavedModel, LiteRT or ONNX, where XLA's code cannot go.
    """
    import tensorflow as tf

    graph, names = tf.compat.v1.get_default_graph(), set()
    while graph is not None:
        names.add(getattr(graph, "name", ""))
        graph = getattr(graph, "outer_graph", None)
    return not names.isdisjoint(STEPS_OF_MODELS)
