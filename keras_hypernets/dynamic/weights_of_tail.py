"""Lets a tail read its weights as attributes of the cell."""

import keras
from keras import ops


class WeightsOfTail(keras.StatelessScope):
    """A scope in which the weights of a cell have the values that `tail` is given.

    A fast loop differentiates `tail` with respect to its arguments, not to variables. In this scope
    `self.name` reads the value of `weights["name"]`. Reading any other variable raises an error,
    since it would get no gradient.

    Args:
        cell: a built `GatedCell`.
        weights: values of the weights in `cell.tail_weights`, by the same names.
    """

    def __init__(self, cell, weights):
        super().__init__(initialize_variables=False)
        self.cell = cell
        # Layers in the cell cast their weights themselves, from the dtype of their variables.
        self.values = {
            id(weight): weights[name]
            if getattr(cell, name, None) is weight
            else ops.cast(weights[name], cell.variable_dtype)
            for name, weight in cell.tail_weights.items()
        }

    def get_current_value(self, variable):
        if id(variable) not in self.values:
            names = ", ".join(f"`{name}`" for name in self.cell.tail_weights) or "none"
            raise ValueError(
                f"`tail` of {type(self.cell).__name__} can read only the cell's weights outside "
                f"`linear_maps`: {names}. Received: a tail that reads {variable.path!r}"
            )
        return self.values[id(variable)]

    def add_update(self, update):
        raise ValueError(
            f"`tail` of {type(self.cell).__name__} must not change variables: return what changes "
            f"as a state. Received: a tail that assigns to {update[0].path!r}"
        )
