"""What a tail reads when it reads a weight as an attribute of its cell."""

import keras
from keras import ops


class WeightsOfTail(keras.StatelessScope):
    """Within it, a cell's weights have the values that its tail is given.

    A tail is a pure function of what it is given, since a loop differentiates it for the weights in
    `small`. So that `self.weight` means the same as `small["weight"]`, this scope answers with the
    value; what a loop would not see is an error.

    Args:
        cell: a built `GatedCell`.
        small: values of the weights in `cell.small`, by the same names.
    """

    def __init__(self, cell, small):
        super().__init__(initialize_variables=False)
        self.cell = cell
        # Layers in the cell cast their weights themselves, from the dtype of their variables.
        self.values = {
            id(weight): small[name]
            if getattr(cell, name, None) is weight
            else ops.cast(small[name], cell.variable_dtype)
            for name, weight in cell.small.items()
        }

    def get_current_value(self, variable):
        if id(variable) not in self.values:
            names = ", ".join(f"`{name}`" for name in self.cell.small) or "none"
            raise ValueError(
                f"`tail` of {type(self.cell).__name__} can read only the cell's weights outside "
                f"`linear`: {names}. Received: a tail that reads {variable.path!r}"
            )
        return self.values[id(variable)]

    def add_update(self, update):
        raise ValueError(
            f"`tail` of {type(self.cell).__name__} must not change variables: return what changes "
            f"as a state. Received: a tail that assigns to {update[0].path!r}"
        )
