"""The parts of a `GatedCell`'s step that all loops share.

A source is the input or a state of the previous step. All kernels that read it are joined side by
side, for one product.
"""

import itertools

import keras
from keras import ops

OUTPUT = "output of the step before"  # not a Python name, so it is not that of a state


def kernels_by_source(cell):
    """Returns `{source: {pre_activation: kernel}}`."""
    sources = {}
    for p, maps in cell.linear_maps.items():
        for source, kernel in maps.items():
            sources.setdefault(source, {})[p] = kernel
    return sources


def side_by_side(kernels):
    """Joins the kernels `(gates, in, units)` of one source to `(in, gates * units + ...)`."""
    flat = [ops.reshape(ops.transpose(W, (1, 0, 2)), (W.shape[1], -1)) for W in kernels.values()]
    return ops.concatenate(flat, axis=1)


def values_of(cell):
    """Returns the joined kernel of each source and the tail's weights, in the compute dtype."""
    value = cell.to_compute_dtype
    kernels = {
        source: side_by_side({p: value(W) for p, W in maps.items()})
        for source, maps in kernels_by_source(cell).items()
    }
    return kernels, {name: value(weight) for name, weight in cell.tail_weights.items()}


def split_by_gate(values, kernels):
    """Splits the columns of `(rows, gates * units + ...)` into `(gates, rows, units)` for each."""
    ends = list(itertools.accumulate(W.shape[0] * W.shape[2] for W in kernels.values()))
    columns = ops.split(values, ends[:-1], axis=1) if len(ends) > 1 else [values]
    parts = {}
    for (p, W), part in zip(kernels.items(), columns, strict=True):
        part = ops.reshape(part, (-1, W.shape[0], W.shape[2]))
        parts[p] = ops.transpose(part, (1, 0, 2))
    return parts


def pre_activations(products, sources):
    """Adds up the columns of all products: `{pre_activation: (gates, batch, units)}`."""
    pre = {}
    for source, kernels in sources.items():
        for p, part in split_by_gate(products[source], kernels).items():
            pre[p] = pre[p] + part if p in pre else part
    return pre


def masked_tail(cell, sequences):
    """Returns a function for the rest of a step, from the products on.

    Args:
        cell: a built `GatedCell`.
        sequences: whether to return the outputs of all steps.

    Returns:
        A function of the products `{source: (batch, gates * units + ...)}`, the states, the tail's
        weights, the dropout masks, and `(batch, 1)` booleans or `None`: where they are `False`, the
        step keeps its states and repeats the output. It returns the output, or `()` without
        `sequences`, and the new states. If `OUTPUT` is among the states, the output is too.
    """
    sources = kernels_by_source(cell)

    def tail(products, state, weights, dropout_masks, keep):
        pre = pre_activations(products, sources)
        output, new = cell.run_tail(pre, state, weights, dropout_masks)
        if keep is not None:
            new = {name: ops.where(keep, new[name], state[name]) for name in new}
            output = ops.where(keep, output, state[OUTPUT])
        if OUTPUT in state:
            new = {**new, OUTPUT: output}
        return output if sequences else (), new

    return tail


def active_dropout_rates(cell):
    """Returns `{name: (rate, units)}` of the masks that a step draws."""
    return {name: (rate, units) for name, (rate, units) in cell.dropout_rates.items() if rate > 0}


def step_of(cell, kernels, weights):
    """Returns a step of a cell from the products of its inputs, with what `values_of` returns."""
    sources = kernels_by_source(cell)

    def step(of_x, states):
        state = dict(zip(cell.state_names, states, strict=True))
        products = {s: ops.matmul(state[s], W) for s, W in kernels.items() if s != "x"}
        pre = pre_activations({"x": of_x, **products}, sources)
        output, new_state = cell.run_tail(pre, state, weights, {})
        return output, [new_state[name] for name in cell.state_names]

    return step


def without(name, values):
    return {key: value for key, value in values.items() if key != name}


def dtype_for_sums(values):
    """Returns the dtype for sums over many steps, which lose digits in half precision."""
    dtype = keras.backend.standardize_dtype(values.dtype)
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def zeros_for_sum(values):
    return ops.zeros(values.shape, dtype_for_sums(values))


def add(total, more):
    return total + ops.cast(more, total.dtype)
