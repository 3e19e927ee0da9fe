"""In how many parts a batch runs, and with how many rows: as many as there is code for.

XLA compiles for one size of batch, which takes seconds. A smaller batch, such as the last one of an
epoch, can be filled up and run the same code, in the time of a full batch.
"""

import functools
import itertools
import weakref

import tensorflow as tf

from keras_hypernets.dynamic.recurrence.step import OUTPUT

nest = tf.nest
PATIENCE = 30  # steps of a batch twice as large take about as long as compiling
_NUMBERS = weakref.WeakKeyDictionary()  # of the cells
_next_number = itertools.count().__next__


class Parts:
    """Splits a batch into parts that run in parallel, all with the same number of rows.

    Attributes:
        count: number of parts, an integer.
        rows: of each part, a tensor.

    Args:
        x: `(time, batch, features)`.
        cell: the cell that runs.
        training: whether the cell trains. An evaluation must not change what training computes,
            not even in the last bit.
    """

    def __init__(self, x, cell, training):
        self.shape = x.shape[:2]
        self.batch = tf.shape(x)[1]
        # XLA's code uses one core.
        self.count = 1 if x.shape[1] == 1 or tf.config.list_logical_devices("GPU") else 2
        self.rows = ceil_div(self.batch, self.count)
        if not inside_xla():
            self.rows = rows_with_code(self.rows, cell, training)

    def padded(self, values, axis):
        """Repeats rows until all parts are full.

        The repeated rows get no gradient, and cannot overflow if the others do not.
        """
        places = tf.range(self.batch, self.count * self.rows) % self.batch
        more = tf.stop_gradient(tf.gather(values, places, axis=axis))
        return tf.concat([values, more], axis)

    def split(self, values, axis):
        """Returns the parts of a structure of tensors with the batch at an axis, padded."""
        parts = [tf.split(self.padded(v, axis), self.count, axis) for v in nest.flatten(values)]
        return [nest.pack_sequence_as(values, part) for part in zip(*parts, strict=True)]

    def results(self, states, outputs):
        """Returns the outputs and the last states of the whole batch.

        Args:
            states: for each part the dictionary of its last states.
            outputs: for each part `(time, rows, units)`; `None`: the output is among the states.
        """
        time, batch = self.shape
        last = {}
        for name in states[0]:
            last[name] = tf.concat([of_part[name] for of_part in states], 0)[: self.batch]
            last[name].set_shape((batch, None))
        output = last.pop(OUTPUT, None)
        if outputs is not None:
            output = tf.concat(outputs, 1)[:, : self.batch]
            output.set_shape((time, batch, None))
        return output, last


def ceil_div(count, size):
    """Returns `count / size`, rounded up."""
    return -(-count // size)


def inside_xla():
    """Returns whether XLA compiles all of this, once for each shape."""
    return tf.__internal__.get_enclosing_xla_context() is not None


def rows_with_code(least, cell, training):
    """Returns the rows to run: the last number, or `least` if it is larger or much smaller."""
    with tf.init_scope(), tf.device("CPU"):
        known = _known()
    key = tf.constant(2 * _NUMBERS.setdefault(cell, _next_number()) + training)
    with tf.device("CPU"):
        compiled, wasted = tf.unstack(known.lookup(key), 2)
        wasted = tf.where(2 * least <= compiled, wasted + 1, 0)
        fits = (0 < least) & (least <= compiled) & (wasted < PATIENCE)
        rows = tf.where(fits, compiled, least)
        known.insert(key, tf.stack([rows, tf.where(fits, wasted, 0)]))
        return rows


@functools.cache
def _known():
    """Returns a table from keys to rows and how often half of them were unused."""
    # Not a variable: these belong to a model and its replicas.
    return tf.lookup.experimental.MutableHashTable(tf.int32, tf.int32, [0, 0])
