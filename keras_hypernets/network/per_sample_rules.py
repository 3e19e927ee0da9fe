"""How layers without a convolution run with weights of each sample's own."""

import string

from keras import ops

from keras_hypernets.network.forms import LowRank, Scaled
from keras_hypernets.network.leaves import Leaf, along, scale_of_outputs


def dense(leaf: Leaf, inputs, training=None):
    return _product(leaf, "...x,xy->...y", inputs)


def einsum_dense(leaf: Leaf, inputs, training=None):
    return _product(leaf, leaf.layer.equation, inputs)


def _product(leaf, equation, inputs):
    layer = leaf.layer
    x, kernel, y = _expanded(equation, len(inputs.shape))
    outputs = _times_kernel(leaf, x, kernel, y, inputs)
    bias = leaf.value("bias")
    if bias is not None:
        outputs = outputs + along(bias, x[0] + y[len(y) + 1 - len(bias.shape) :], y)
    elif layer.bias is not None:
        outputs = ops.add(outputs, layer.bias)
    return outputs if layer.activation is None else layer.activation(outputs)


def _expanded(equation, rank):
    """Returns the letters of inputs, kernel and outputs, with one for each axis of the inputs."""
    inputs, rest = equation.split(",")
    free = [letter for letter in string.ascii_letters if letter not in equation]
    elided = "".join(free[: rank - len(inputs.replace("...", ""))])
    kernel, outputs = rest.split("->")
    return inputs.replace("...", elided), kernel, outputs.replace("...", elided)


def _times_kernel(leaf, x, kernel, y, inputs):
    form, batch = leaf.form("kernel"), x[0]
    if form is None:
        return ops.einsum(f"{x},{kernel}->{y}", inputs, leaf.layer.kernel)
    if isinstance(form, LowRank):
        outputs = _times_factors(form, x, kernel, y, inputs)
        if form.base is None:
            return outputs
        return outputs + ops.einsum(f"{x},{kernel}->{y}", inputs, form.base)
    kept = [axis for axis, letter in enumerate(kernel) if letter in y]
    scale = scale_of_outputs(form, kept)
    if scale is None:
        return ops.einsum(f"{x},{batch}{kernel}->{y}", inputs, form.value())
    scale = ops.reshape(scale, (-1, *[scale.shape[1 + axis] for axis in kept]))
    outputs = ops.einsum(f"{x},{kernel}->{y}", inputs, form.base)
    return outputs * along(scale, batch + "".join(kernel[axis] for axis in kept), y)


def _times_factors(form, x, kernel, y, inputs):
    """Multiplies by the two thin factors, first by the one that sums over axes of the inputs."""
    batch, *_ = x
    rank = next(letter for letter in string.ascii_letters if letter not in x + kernel + y)
    *rows, column = kernel
    rows = "".join(rows)
    a = ops.reshape(form.a, (-1, *form.shape[:-1], form.a.shape[-1]))
    factors = [(f"{batch}{rows}{rank}", a), (f"{batch}{rank}{column}", form.b)]
    if column in y:
        between = "".join(axis for axis in y if axis in x + rows)
    else:
        factors.reverse()
        between = x.replace(column, "")
    (first, one), (second, two) = factors
    outputs = ops.einsum(f"{x},{first}->{between}{rank}", inputs, one)
    return ops.einsum(f"{between}{rank},{second}->{y}", outputs, two)


def embedding(leaf: Leaf, inputs):
    ids, form = ops.cast(inputs, "int32"), leaf.form("embeddings")
    letters = string.ascii_letters[: len(ids.shape)]
    if isinstance(form, LowRank):
        rows = _rows_of_each(form.a, ids)
        outputs = ops.einsum(f"{letters}y,{letters[0]}yz->{letters}z", rows, form.b)
        if form.base is not None:
            outputs = outputs + ops.take(form.base, ids, axis=0)
        return outputs
    if isinstance(form, Scaled) and scale_of_outputs(form, (1,)) is not None:
        scale = along(form.scale[:, 0], f"{letters[0]}z", f"{letters}z")
        return ops.take(form.base, ids, axis=0) * scale
    return _rows_of_each(form.value(), ids)


def _rows_of_each(tables, ids):
    """Looks each sample's ids up in its own table, in one table of all samples' rows."""
    samples, size, features = ops.shape(tables)
    start = size * ops.arange(samples, dtype="int32")
    rows = ids + ops.reshape(start, (-1, *[1] * (len(ids.shape) - 1)))
    # An id out of range must not read another sample's row.
    inside = ops.logical_and(ids >= 0, ids < size)
    everything = ops.reshape(tables, (-1, features))
    return ops.take(everything, ops.where(inside, rows, samples * size), axis=0)


def normalization(leaf: Leaf, inputs, *args, **kwargs):
    """Normalizes by the layer's own call, whose scale is 1 and shift 0 where they are generated.

    So batch statistics are those of the batch, and moving statistics change once.
    """
    layer, dtype = leaf.layer, leaf.layer.variable_dtype
    shape = [-1, *[1] * (len(inputs.shape) - 1)]
    for axis in layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]:
        shape[axis] = inputs.shape[axis]
    outputs = ops.cast(leaf.call(inputs, *args, **kwargs), dtype)
    scale, shift = leaf.value("gamma", dtype), leaf.value("beta", dtype)
    scale = leaf.value("scale", dtype) if scale is None else scale
    shared = getattr(layer, "beta", None) if shift is None else None
    if scale is not None:
        scale = ops.reshape(scale, shape)
        if shared is None:
            outputs = outputs * scale
        else:
            shared = ops.reshape(shared, shape)
            outputs = (outputs - shared) * scale + shared
    if shift is not None:
        outputs = outputs + ops.reshape(shift, shape)
    return ops.cast(outputs, layer.compute_dtype)


def prelu(leaf: Leaf, inputs):
    return ops.relu(inputs) - leaf.value("alpha") * ops.relu(-inputs)
