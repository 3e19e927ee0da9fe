"""The step of a chain, with everything that does not depend on its inputs computed before."""

import itertools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_hypernets.dynamic.gated_cell import GatedCell
from keras_hypernets.dynamic.recurrence.step import step_of, values_of
from keras_hypernets.models.sequences.stepping import (
    chain,
    layers_of,
    of_one_step,
    recurrent_layers,
)


def prepared_weights(model: keras.Model, ids: int | None = None) -> tuple:
    """Returns what `prepared_step` needs of a model's weights, independent of its inputs.

    The kernels of each `GatedCell` are joined to one per source. Later changes of the weights have
    no effect.

    Args:
        model: a chain of recurrent layers.
        ids: number of ids, for a model whose input is ids. Then the products of the first cell with
            its input kernel are tabulated by id. Default `None`: vectors.
    """
    layers = recurrent_layers(model)
    cells = [layer.cell for layer in layers]
    values = [values_of(cell) if _can_be_prepared(cell) else None for cell in cells]
    if ids is None or values[0] is None:
        return values, None
    x = ops.arange(ids)
    for layer in itertools.takewhile(lambda one: one is not layers[0], layers_of(model)):
        x = of_one_step(layer)(x)
    kernels, _ = values[0]
    return values, ops.matmul(ops.cast(x, cells[0].compute_dtype), kernels["x"])


def _can_be_prepared(cell):
    return isinstance(cell, GatedCell) and type(cell).call is GatedCell.call


def prepared_step(
    model: keras.Model, values: list, table: Any
) -> Callable[[Any, list], tuple[Any, list]]:
    """Returns `step` of a model, with what `prepared_weights` returned."""
    layers = recurrent_layers(model)

    def step(inputs, states):
        def recur(layer, x, layer_states):
            of_layer = values[layers.index(layer)]
            if of_layer is None:
                return layer.cell(x, layer_states)
            if layer is layers[0] and table is not None:
                of_x = ops.take(table, inputs, axis=0)
            else:
                kernels, _ = of_layer
                of_x = ops.matmul(ops.cast(x, layer.cell.compute_dtype), kernels["x"])
            return step_of(layer.cell, *of_layer)(of_x, layer_states)

        return chain(model, inputs, states, recur, time=False)

    return step
