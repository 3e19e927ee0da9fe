"""The products of a step, one for each source: all kernels of the source side by side."""

import itertools

from keras import ops


def by_source(cell):
    """The kernels by what they are multiplied with: `{source: {pre_activation: kernel}}`."""
    sources = {}
    for p, maps in cell.linear.items():
        for source, kernel in maps.items():
            sources.setdefault(source, {})[p] = kernel
    return sources


def side_by_side(kernels):
    """The kernels `(gates, in, units)` of one source as one, `(in, gates * units + ...)`."""
    flat = [ops.reshape(ops.transpose(W, (1, 0, 2)), (W.shape[1], -1)) for W in kernels.values()]
    return ops.concatenate(flat, axis=1)


def weights_of(cell):
    """The kernels of each source side by side, and the small weights, in the compute dtype."""

    value = cell.computable
    kernels = {
        source: side_by_side({p: value(W) for p, W in maps.items()})
        for source, maps in by_source(cell).items()
    }
    return kernels, {name: value(weight) for name, weight in cell.small.items()}


def apart(values, kernels):
    """Takes the columns of `(rows, gates * units + ...)` apart to `(gates, rows, units)` each."""
    sizes = [W.shape[0] * W.shape[2] for W in kernels.values()]
    ends = itertools.accumulate(sizes)
    parts = {}
    for (p, W), size, end in zip(kernels.items(), sizes, ends, strict=True):
        part = ops.reshape(values[:, end - size : end], (-1, W.shape[0], W.shape[2]))
        parts[p] = ops.transpose(part, (1, 0, 2))
    return parts


def pre_activations(products, sources):
    """Adds up the columns of all products: `{pre_activation: (gates, batch, units)}`."""
    pre = {}
    for source, kernels in sources.items():
        for p, part in apart(products[source], kernels).items():
            pre[p] = pre[p] + part if p in pre else part
    return pre


def prepared_cell(cell):
    """Returns functions for the products of inputs and, from there, for a step of a GatedCell."""
    sources = by_source(cell)
    kernels, small = weights_of(cell)

    def of_inputs(x):
        return ops.matmul(x, kernels["x"])

    def step(of_x, states):
        state = dict(zip(cell.state_names, states, strict=True))
        products = {s: ops.matmul(state[s], W) for s, W in kernels.items() if s != "x"}
        pre = pre_activations({"x": of_x, **products}, sources)
        output, new_state = cell.run_tail(pre, state, small, {})
        return output, [new_state[name] for name in cell.state_names]

    return of_inputs, step
