"""Runs a layer of any kind once per sample, each time with that sample's weights."""

import keras
from keras import ops, tree

from keras_hypernets.network.leaves import Leaf


def one_by_one(leaf: Leaf, *args, **kwargs):
    """Calls a leaf's layer for each sample by `keras.ops.vectorized_map`.

    Tensors among the arguments that have as many rows as the first are cut to the sample's row.

    Raises:
        ValueError: if the call changes a variable, as a layer with moving statistics or dropout
            does.
    """
    layer, structure = leaf.layer, (args, kwargs)
    variables, forms = zip(*leaf.weights, strict=True)
    generated = {id(variable) for variable in variables}
    others = [(v, ops.convert_to_tensor(v)) for v in layer.variables if id(v) not in generated]
    flat = tree.flatten(structure)
    cut = [
        n
        for n, argument in enumerate(flat)
        if ops.is_tensor(argument) and len(argument.shape) and argument.shape[0] == flat[0].shape[0]
    ]

    def of_sample(elements):
        values, rows = elements
        arguments = list(flat)
        for n, row in zip(cut, rows, strict=True):
            arguments[n] = ops.expand_dims(row, 0)
        args, kwargs = tree.pack_sequence_as(structure, arguments)
        mapping = [*zip(variables, values, strict=True), *others]
        error = None
        with keras.StatelessScope(state_mapping=mapping) as scope:
            before = dict(scope.state_mapping)
            try:
                outputs = leaf.call(*args, **kwargs)
            except Exception as caught:  # PyTorch does not draw random numbers here
                error = caught
            after = scope.state_mapping
        if after.keys() != before.keys() or any(after[key] is not before[key] for key in after):
            raise ValueError(
                "`target` has a layer without a rule for weights per sample, which runs once per "
                "sample only if its call changes no variable, such as a seed or a moving mean. "
                f"Received: layer={layer.name!r} of {type(layer)}"
            ) from error
        if error is not None:
            raise error
        return tree.map_structure(lambda output: output[0], outputs)

    values = [form.value() for form in forms]
    return ops.vectorized_map(of_sample, (values, [flat[n] for n in cut]))
