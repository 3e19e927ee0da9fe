"""The time loop of a `GatedCell` in TensorFlow for `predict` and `evaluate`.

A step is TensorFlow's products for the whole batch, and the tail, which XLA compiles:

    q_x = x_t W_x  ────┐
                       ├──> tails of both halves of the batch, in parallel ──> y_t, state_t
    q_h = h_{t-1} W_h ─┘

TensorFlow multiplies faster than XLA, and on all cores. XLA joins the many small operations of the
tail, and uses one core. With a gradient, blocks of steps that XLA compiles as a whole are faster
(`tensorflow.py`); differentiating this loop gives the right values, at the cost of Keras' loop.
"""

import tensorflow as tf

from keras_hypernets.dynamic.recurrence.step import OUTPUT, masked_tail, values_of, without
from keras_hypernets.dynamic.recurrence.tensorflow_block import loop
from keras_hypernets.dynamic.recurrence.tensorflow_rows import Parts
from keras_hypernets.dynamic.traced_once import traced_once

nest = tf.nest


def infer(cell, x, state, mask=None, sequences=True):
    """Runs a cell over sequences.

    Args:
        cell, x, state, mask, sequences: as in `recur` of `tensorflow.py`.

    Returns:
        The outputs and the last states, as `recur` does.
    """
    if mask is not None or not sequences:
        state = {**state, OUTPUT: tf.zeros((tf.shape(x)[1], cell.output_size), x.dtype)}
    kernels, weights = values_of(cell)
    tail = traced_once(_compiled_tail, cell, sequences)
    parts = Parts(x, cell, training=False)
    inputs, states = parts.padded(x, 1), parts.split(state, 0)
    masks = [None] * parts.count if mask is None else parts.split(mask, 1)

    def step(t, states):
        sources = {s: tf.concat([part[s] for part in states], 0) for s in without("x", kernels)}
        sources["x"] = inputs[t]
        products = {s: tf.split(tf.matmul(sources[s], W), parts.count) for s, W in kernels.items()}
        found = [
            tail(
                {s: values[n] for s, values in products.items()},
                states[n],
                weights,
                None if mask is None else masks[n][t],
            )
            for n in range(parts.count)
        ]
        return [new for _, new in found], [output for output, _ in found]

    time = tf.shape(x)[0]
    spec = tf.TensorSpec((None, cell.output_size), x.dtype) if sequences else ()
    last, outputs = loop(time, time, step, states, [spec] * parts.count)
    return parts.results(last, [array.stack() for array in outputs] if sequences else None)


def _compiled_tail(reference, sequences):
    """Returns the tail of a part of the batch."""

    def tail(products, state, weights, keep):
        return masked_tail(reference(), sequences)(products, state, weights, {}, keep)

    return tf.function(tail, jit_compile=True, autograph=False)
