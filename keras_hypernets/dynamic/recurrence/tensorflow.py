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

nest = tf.nest
ROWS = 1024  # of a block, steps times batch: enough for a good product


def recur(cell, x, state, mask=None, seed=None, sequences=True, checkpoint_every=None):
    """Runs a cell over sequences.

    Args:
        cell: a built `GatedCell`.
        x: `(time, batch, features)`.
        state: dictionary of the initial states, `(batch, size)`.
        mask: `(time, batch, 1)` booleans, `False` at masked steps, or `None`.
        seed: two integers that seed the dropout masks of all steps, or `None` for no dropout.
        sequences: whether to return the outputs of all steps, or only the last.
        checkpoint_every: number of steps between two kept states, or `None` to keep every step.

    Returns:
        The outputs `(time, batch, units)`, or the last `(batch, units)` without `sequences`, and
        the dictionary of last states. Gradients reach x, the initial states and all weights of the
        cell; they cannot be differentiated again.
    """
    carries_output = mask is not None or not sequences
    if carries_output:
        state = {**state, OUTPUT: tf.zeros((tf.shape(x)[1], cell.output_size), x.dtype)}
    kernels, weights = values_of(cell)
    steps = compiled_steps(cell, sequences)
    seeds = [None, None]
    if seed is not None:  # calls' and steps' seeds both differ by 1: hashing separates them
        seeds = tf.unstack(
            tf.random.stateless_uniform([2, 2], seed, minval=None, maxval=None, dtype=tf.int32)
        )
    parts = []
    for n, rows in enumerate(_parts_of_batch(x)):
        values = x[:, rows], {name: value[rows] for name, value in state.items()}
        keep = None if mask is None else mask[:, rows]
        output = spec_of_output(values[0], cell, sequences)
        parts.append(
            _run(steps, output, *values, kernels, weights, keep, seeds[n], checkpoint_every)
        )
    last = {name: tf.concat([end[name] for end, _ in parts], 0) for name in state}
    if not sequences:
        return last.pop(OUTPUT), last
    last.pop(OUTPUT, None)
    outputs = tf.concat([outputs for _, outputs in parts], 1)
    outputs.set_shape((*x.shape[:2], cell.output_size))
    return outputs, last


def _parts_of_batch(x):
    """Returns the slices of the batch that run in parallel."""
    if x.shape[1] == 1 or tf.config.list_logical_devices("GPU"):
        return [slice(None)]
    half = (x.shape[1] or tf.shape(x)[1]) // 2
    return [slice(None, half), slice(half, None)]


def _block_size(x):
    """Returns the steps in a block, the same for all lengths so that XLA compiles once."""
    size = _parts(ROWS, tf.maximum(tf.shape(x)[1], 1))
    # If the length is fixed, a size that divides it well.
    return size if x.shape[0] is None else _parts(x.shape[0], _parts(x.shape[0], size))


def _parts(count, size):
    """Returns `count / size`, rounded up."""
    return -(-count // size)


def _run(steps, output, x, state, kernels, weights, mask, seed, checkpoint_every):
    """Runs rows of the batch; returns the last state and the outputs, with their gradient."""
    forward, backward = steps
    time, size = tf.shape(x)[0], checkpoint_every or _block_size(x)
    blocks = _parts(time, size)

    def in_blocks(values):
        padded = tf.pad(values, [[0, blocks * size - time], [0, 0], [0, 0]])
        return tf.reshape(padded, tf.concat([[blocks, size], tf.shape(values)[1:]], 0))

    def joined(array):
        values = array.stack()
        return tf.reshape(values, tf.concat([[blocks * size], tf.shape(values)[2:]], 0))[:time]

    keep = None if mask is None else in_blocks(mask)

    def at(n):
        """Returns the first step of block n, the number of steps, their mask, and the seed."""
        count = tf.minimum(size, time - n * size)
        return n * size, count, None if keep is None else keep[n], seed

    arguments = x, state, kernels, weights
    results = state, output

    @tf.custom_gradient
    def run(*tensors):
        x, state, kernels, weights = nest.pack_sequence_as(arguments, tensors)
        x = in_blocks(x)

        def run_block(n, state):
            of_x = tf.tensordot(x[n], kernels["x"], 1)
            last, outputs, kept = forward(of_x, state, without("x", kernels), weights, *at(n))
            return last, outputs, ({"x": of_x, **kept[0]}, kept[1])

        def forward_block(n, state):
            last, outputs, kept = run_block(n, state)
            return last, (outputs, state if checkpoint_every else kept)

        states = nest.map_structure(spec_of, state)
        kept = specs_of_products(x, kernels), without(OUTPUT, states)
        specs = specs_of_block(results[1]), states if checkpoint_every else specs_of_block(kept)
        last, (outputs, kept) = loop(blocks, blocks, forward_block, state, specs)
        outputs = nest.map_structure(joined, outputs)

        def gradient(*upstream):
            dlast, doutputs = nest.pack_sequence_as(results, upstream)
            doutputs = nest.map_structure(in_blocks, doutputs)

            def backward_block(n, carry):
                dstate, dkernels, dweights = carry
                saved = nest.map_structure(lambda array: array.read(n), kept)
                products, before = run_block(n, saved)[-1] if checkpoint_every else saved
                doutput = nest.map_structure(lambda values: values[n], doutputs)
                recurrent = without("x", kernels)
                dproducts, dstate, dweights = backward(
                    products, before, doutput, dstate, recurrent, weights, dweights, *at(n)
                )
                sources = {**before, "x": x[n]}
                dkernels = {
                    s: add(dkernel, tf.tensordot(sources[s], dproducts[s], [[0, 1], [0, 1]]))
                    for s, dkernel in dkernels.items()
                }
                dx = tf.tensordot(dproducts["x"], kernels["x"], [2, 1])
                return (dstate, dkernels, dweights), dx

            zeros = nest.map_structure(zeros_for_sum, (kernels, weights))
            (dstate, dkernels, dweights), dx = loop(
                blocks, blocks, backward_block, (dlast, *zeros), spec_of(x[0]), reverse=True
            )
            found = joined(dx), dstate, dkernels, dweights
            found = nest.map_structure(lambda d, v: tf.cast(d, v.dtype), found, arguments)
            return _differentiable_once(*nest.flatten(found))

        return nest.flatten((last, outputs)), gradient

    return nest.pack_sequence_as(results, run(*nest.flatten(arguments)))


@tf.custom_gradient
def _differentiable_once(*gradients):
    def second(*_):
        raise NotImplementedError(
            "Gradients of a GatedRNN in training cannot be differentiated again. "
            "Use `keras.layers.RNN(cell)`, or call the layer with `training=False`."
        )

    return [tf.identity(gradient) for gradient in gradients], second
