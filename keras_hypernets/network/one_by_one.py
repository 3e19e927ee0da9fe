"""Runs a layer of any kind once per sample, each time with that sample's weights."""

import inspect

import keras
from keras import ops, tree

from keras_hypernets.network.leaves import Leaf

PER_SAMPLE = {"mask", "initial_state"}  # arguments with a row for each sample, beside the first


def one_by_one(leaf: Leaf, *args, **kwargs):
    """Calls a leaf's layer for each sample by `keras.ops.vectorized_map`.

    The tensors in the first argument, in `mask` and in `initial_state` have a row for each sample,
    or one for all: they are cut to the sample's row. All other arguments, such as a table, are the
    same for all samples, however many rows they have.

    Raises:
        ValueError: if the call changes a variable, as a layer with moving statistics or dropout
            does; if it returns more than the sample's row, since another argument has a row for
            each sample too.
    """
    layer, bound = leaf.layer, inspect.signature(leaf.call).bind(*args, **kwargs)
    structure, (first, *_) = bound.arguments, bound.arguments
    variables, forms = zip(*leaf.weights, strict=True)
    generated = {id(variable) for variable in variables}
    others = [(v, ops.convert_to_tensor(v)) for v in layer.variables if id(v) not in generated]
    paths, flat = zip(*tree.flatten_with_path(structure), strict=True)
    cut = [
        n
        for n, (path, value) in enumerate(zip(paths, flat, strict=True))
        if (path[0] == first or PER_SAMPLE.intersection(path))
        and ops.is_tensor(value)
        and len(value.shape)
        and value.shape[0] != 1
    ]

    def of_sample(elements):
        values, rows = elements
        arguments = list(flat)
        for n, row in zip(cut, rows, strict=True):
            arguments[n] = ops.expand_dims(row, 0)
        bound.arguments = tree.pack_sequence_as(structure, arguments)
        mapping = [*zip(variables, values, strict=True), *others]
        error = None
        with keras.StatelessScope(state_mapping=mapping) as scope:
            before = dict(scope.state_mapping)
            try:
                outputs = leaf.call(*bound.args, **bound.kwargs)
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
        for output in tree.flatten(outputs):
            if output.shape[0] not in (1, None):
                raise ValueError(
                    "`target` has a layer without a rule for weights per sample, which must have "
                    "all that differs between samples in its first argument, `mask` or "
                    f"`initial_state`. Received: layer={layer.name!r} of {type(layer)}, which "
                    f"returns {output.shape[0]} rows for one"
                )
        return tree.map_structure(lambda output: output[0], outputs)

    values = [form.value() for form in forms]
    return ops.vectorized_map(of_sample, (values, [flat[n] for n in cut]))
