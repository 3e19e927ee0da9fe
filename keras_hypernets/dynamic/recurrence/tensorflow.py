"""The time loop of a `GatedCell` in TensorFlow, with its gradient.

A step of a cell is one product per source, with all kernels of the source side by side, and the
tail, which is everything else and starts by adding up the columns:

    x_t ─────> q_x = x_t W_x ─────┐
                                  ├──> tail ──> y_t, state_t
    h_{t-1} ─> q_h = h_{t-1} W_h ─┘     ^
                             state_{t-1}┘

Automatic differentiation of such a loop adds a gradient to every kernel at every step, which costs
more than the products themselves. A loop with its own gradient is cheaper:

    forward     for each block of steps: all q_x in one product; then, for t = 1, 2, ..., the rest
                of the step, keeping only state_{t-1} and the q
    backward    for each block, last to first, and each step in it, last to first: the gradient of
                the tail, which is recomputed, gives all dq_t and dstate_{t-1}; then the product
                dh_{t-1} += dq_h W_h^T. After the block, one product adds its share of
                dW_s = sum over t of s^T dq_s

Automatic differentiation gives the tail's gradient. XLA compiles the steps of a block, forward and
backward, to one operation each. On a CPU this uses one core, so two halves of the batch run in
parallel. Masking is part of the tail: a masked step keeps the states and repeats the output, which
is carried as an extra state. With `checkpoint_every` a block has that many steps, only the states
between blocks are kept, and the backward pass first runs each block forward again.
"""

import tensorflow as tf

from keras_hypernets.dynamic.recurrence.step import OUTPUT, add, values_of, without, zeros_for_sum
from keras_hypernets.dynamic.recurrence.tensorflow_block import (
    compiled_steps,
    loop,
    spec_of,
    spec_of_output,
    specs_of_block,
    specs_of_products,
)
from keras_hypernets.dynamic.recurrence.tensorflow_rows import Parts, ceil_div, inside_xla
from keras_hypernets.dynamic.traced_once import traced_once

nest = tf.nest
ROWS = 2048  # of a block, steps times batch: enough for a good product
STEPS = 64  # of a block at most, which is enough with few rows


def recur(cell, x, state, mask=None, sequences=True, seed=None, checkpoint_every=None):
    """Runs a cell over sequences.

    Args:
        cell: a built `GatedCell`.
        x: `(time, batch, features)`.
        state: dictionary of the initial states, `(batch, size)`.
        mask: `(time, batch, 1)` booleans, `False` at masked steps, or `None`.
        sequences: whether to return the outputs of all steps, or only the last.
        seed: two integers that seed the dropout masks of all steps, or `None` for no dropout.
        checkpoint_every: number of steps in a block, of which only the first state is kept, or
            `None` to keep every step for the gradient.

    Returns:
        The outputs `(time, batch, units)`, or the last `(batch, units)` without `sequences`, and
        the dictionary of last states. Gradients reach x, the initial states and all weights of the
        cell; they cannot be differentiated again.
    """
    if mask is not None or not sequences:
        state = {**state, OUTPUT: tf.zeros((tf.shape(x)[1], cell.output_size), x.dtype)}
    kernels, weights = values_of(cell)
    passes = traced_once(_passes, cell, sequences, checkpoint_every, inside_xla())
    seeds = [None, None]
    if seed is not None:  # calls' and steps' seeds both differ by 1: hashing separates them
        seeds = tf.unstack(
            tf.random.stateless_uniform([2, 2], seed, minval=None, maxval=None, dtype=tf.int32)
        )
    parts = Parts(x, cell, training=True)
    xs, states = parts.split(_of_any_length(x), 1), parts.split(state, 0)
    masks = [None] * parts.count if mask is None else parts.split(_of_any_length(mask), 1)
    found = [
        _differentiable(passes, (part, of_part, kernels, weights), (mask, seed), sequences)
        for part, of_part, mask, seed in zip(xs, states, masks, seeds[: parts.count], strict=True)
    ]
    last, outputs = zip(*found, strict=True)
    return parts.results(last, outputs if sequences else None)


def _block_size(x, inside_xla):
    """Returns the steps in a block, the same for all lengths."""
    time, rows = tf.unstack(tf.shape(x)[:2])
    size = tf.minimum(STEPS, ceil_div(ROWS, tf.maximum(rows, 1)))
    # Code for one length only: blocks that divide it well.
    return ceil_div(time, ceil_div(time, size)) if inside_xla else size


def _transposed(kernels):
    """Returns the transposed kernels of the states."""
    return nest.map_structure(tf.transpose, without("x", kernels))


def _of_any_length(values):
    """Hides the length, so that the functions below are traced once."""
    return tf.raw_ops.PlaceholderWithDefault(input=values, shape=(None, *values.shape[1:]))


def _differentiable(passes, part, constants, sequences):
    """Runs a part of the batch; returns the last state and the outputs, with their gradient."""
    forward, backward = passes
    results = []

    @tf.custom_gradient
    def run(*tensors):
        part_of = nest.pack_sequence_as(part, tensors)
        last, outputs, kept = forward(part_of, constants)
        results.append((last, outputs))

        def gradient(*upstream):
            dlast, doutputs = nest.pack_sequence_as((last, outputs), upstream)
            doutputs = nest.map_structure(_of_any_length, doutputs)
            found = backward(part_of, constants, kept, dlast, doutputs)
            return _differentiable_once(*nest.flatten(found))

        return nest.flatten((last, outputs)), gradient

    found = run(*nest.flatten(part))
    return nest.pack_sequence_as(results[0], found)


def _passes(reference, sequences, checkpoint_every, inside_xla):
    """Returns the forward and the backward pass of a part of the batch.

    Args:
        reference: weak reference to the cell.
        sequences, checkpoint_every: as in `recur`.
        inside_xla: whether XLA compiles all of this, once for each shape.
    """
    keeps_steps = checkpoint_every is None
    forward_steps, backward_steps = compiled_steps(reference, sequences)

    class Blocks:
        """The blocks of one pass.

        Args:
            x, mask, seed: as in `recur`.
        """

        def __init__(self, x, mask, seed):
            self.time = tf.shape(x)[0]
            self.size = checkpoint_every or _block_size(x, inside_xla)
            self.count = ceil_div(self.time, self.size)
            self.mask = None if mask is None else self.of(mask)
            self.seed = seed

        def of(self, values):
            padded = tf.pad(values, [[0, self.count * self.size - self.time], [0, 0], [0, 0]])
            shape = tf.concat([[self.count, self.size], tf.shape(values)[1:]], 0)
            return tf.reshape(padded, shape)

        def joined(self, array):
            values = array.stack()
            shape = tf.concat([[self.count * self.size], tf.shape(values)[2:]], 0)
            return tf.reshape(values, shape)[: self.time]

        def at(self, n):
            """Returns the first step of block n, the number of steps, their mask, and the seed."""
            first = n * self.size
            count = tf.minimum(self.size, self.time - first)
            return first, count, None if self.mask is None else self.mask[n], self.seed

        # The last block may have fewer steps than its arrays. These are cut off in the products
        # outside of XLA's code.
        def cut(self, values, n):
            return values if inside_xla else values[: self.time - n * self.size]

        def filled(self, values):
            if inside_xla:
                return values
            return tf.pad(values, [[0, self.size - tf.shape(values)[0]], [0, 0], [0, 0]])

        def run(self, n, x, state, kernels, transposed, weights, keeps_steps):
            of_x = self.filled(tf.tensordot(self.cut(x[n], n), kernels["x"], 1))
            last, outputs, kept = forward_steps(
                of_x, state, transposed, weights, *self.at(n), keeps_steps
            )
            return last, outputs, ({"x": of_x, **kept[0]}, kept[1]) if keeps_steps else state

    def specs_of_kept(x, state, kernels):
        states = nest.map_structure(spec_of, state)
        if not keeps_steps:
            return states
        return specs_of_block((specs_of_products(x, kernels), without(OUTPUT, states)))

    @tf.function(autograph=False)
    def forward(part, constants):
        x, state, kernels, weights = part
        blocks = Blocks(x, *constants)
        x, transposed = blocks.of(x), _transposed(kernels)

        def step(n, state):
            last, *kept = blocks.run(n, x, state, kernels, transposed, weights, keeps_steps)
            return last, tuple(kept)

        outputs = specs_of_block(spec_of_output(x, reference(), sequences))
        specs = outputs, specs_of_kept(x, state, kernels)
        last, (outputs, kept) = loop(blocks.count, blocks.count, step, state, specs)
        outputs = nest.map_structure(blocks.joined, outputs)
        return last, outputs, nest.map_structure(lambda array: array.flow, kept)

    @tf.function(autograph=False)
    def backward(part, constants, kept, dlast, doutputs):
        x, state, kernels, weights = part
        specs = specs_of_kept(x, state, kernels)
        blocks = Blocks(x, *constants)
        x, doutputs = blocks.of(x), nest.map_structure(blocks.of, doutputs)
        transposed = None if keeps_steps else _transposed(kernels)

        def step(n, carry):
            dstate, dkernels, dweights = carry
            saved = nest.map_structure(
                lambda spec, flow: tf.ensure_shape(
                    tf.TensorArray(spec.dtype, flow=flow).read(n), spec.shape
                ),
                specs,
                kept,
            )
            if not keeps_steps:
                saved = blocks.run(n, x, saved, kernels, transposed, weights, True)[-1]
            products, before = saved
            doutput = nest.map_structure(lambda values: values[n], doutputs)
            recurrent = without("x", kernels)
            dproducts, dstate, dweights = backward_steps(
                products, before, doutput, dstate, recurrent, weights, dweights, *blocks.at(n)
            )
            sources, dproducts = nest.map_structure(
                lambda values: blocks.cut(values, n), ({**before, "x": x[n]}, dproducts)
            )
            dkernels = {
                s: add(dkernel, tf.tensordot(sources[s], dproducts[s], [[0, 1], [0, 1]]))
                for s, dkernel in dkernels.items()
            }
            dx = tf.tensordot(dproducts["x"], kernels["x"], [2, 1])
            return (dstate, dkernels, dweights), blocks.filled(dx)

        zeros = nest.map_structure(zeros_for_sum, (kernels, weights))
        (dstate, dkernels, dweights), dx = loop(
            blocks.count, blocks.count, step, (dlast, *zeros), spec_of(x[0]), reverse=True
        )
        found = blocks.joined(dx), dstate, dkernels, dweights
        return nest.map_structure(lambda d, v: tf.cast(d, v.dtype), found, part)

    return forward, backward


@tf.custom_gradient
def _differentiable_once(*gradients):
    def second(*_):
        raise NotImplementedError(
            "Gradients of a GatedRNN in training cannot be differentiated again. "
            "Use `keras.layers.RNN(cell)`, or call the layer with `training=False`."
        )

    return [tf.identity(gradient) for gradient in gradients], second
