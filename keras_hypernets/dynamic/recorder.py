"""Looking into a recurrent cell at every step."""

from collections.abc import Callable

import keras


class Recorder(keras.Layer):
    """A cell that makes the steps of another one, without dropout, and puts out something else.

    Args:
        cell: the cell.
        observe: function of the cell's output and its new states, in their order, to what to put
            out instead, `(batch, output_size)`.
        output_size: size of that.
    """

    def __init__(self, cell: keras.Layer, observe: Callable, output_size: int):
        super().__init__(dtype=cell.dtype_policy)
        self.cell = cell
        self.observe = observe
        self.state_size = cell.state_size
        self.output_size = output_size

    def call(self, inputs, states):
        output, states = self.cell(inputs, states, training=False)
        return self.observe(output, states), states
