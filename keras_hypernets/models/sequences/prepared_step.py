"""The step of a chain, with everything that does not depend on its inputs computed before."""

import itertools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_hypernets.dynamic.gated_cell import GatedCell
from keras_hypernets.dynamic.recurrence.step import prepared_cell
from keras_hypernets.models.sequences.stepping import chain, layers_of, recurrent_layers


def prepared_step(
    model: keras.Model, ids: int | None = None
) -> Callable[[Any, list], tuple[Any, list]]:
    """Returns `step` of a model, with everything independent of the inputs precomputed.

    The kernels of a `GatedCell` are joined to one per source. Later changes of the weights have no
    effect.

    Args:
        model: a chain of recurrent layers.
        ids: number of ids, for a model whose input is ids. Then the products of the first cell with
            its input kernel are tabulated by id. Default `None`: vectors.
    """
    layers = recurrent_layers(model)
    prepared = {
        layer: prepared_cell(layer.cell)
        for layer in layers
        if isinstance(layer.cell, GatedCell) and type(layer.cell).call is GatedCell.call
    }
    table = None
    if ids is not None and layers[0] in prepared:
        x = ops.arange(ids)
        for layer in itertools.takewhile(lambda one: one is not layers[0], layers_of(model)):
            x = layer(x)
        table = prepared[layers[0]][0](ops.cast(x, layers[0].cell.compute_dtype))

    def step(inputs, states):
        def recur(layer, x, layer_states):
            if layer not in prepared:
                return layer.cell(x, layer_states)
            of_inputs, cell_step = prepared[layer]
            if layer is layers[0] and table is not None:
                of_x = ops.take(table, inputs, axis=0)
            else:
                of_x = of_inputs(ops.cast(x, layer.cell.compute_dtype))
            return cell_step(of_x, layer_states)

        return chain(model, inputs, states, recur, time=False)

    return step
