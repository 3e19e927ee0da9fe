"""The products of a step, one for each source: all kernels of the source side by side."""

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


def apart(values, kernels):
    """Takes the columns of `(rows, gates * units + ...)` apart to `(gates, rows, units)` each."""
    parts, start = {}, 0
    for p, W in kernels.items():
        gates, _, units = W.shape
        part = values[:, start : start + gates * units]
        parts[p] = ops.transpose(ops.reshape(part, (-1, gates, units)), (1, 0, 2))
        start += gates * units
    return parts


def pre_activations(products, sources):
    """Adds up the columns of all products: `{pre_activation: (gates, batch, units)}`."""
    pre = {}
    for source, kernels in sources.items():
        for p, part in apart(products[source], kernels).items():
            pre[p] = pre[p] + part if p in pre else part
    return pre
