"""Convolutions with a kernel of each sample's own.

The inputs beside each position of the kernel, side by side, make one matrix per sample: the rest is
a product with each sample's kernel as a matrix. As a grouped convolution, or mapped over the
samples' kernels, the same takes up to hundreds of times as long on a CPU.
"""

import itertools
import math

from keras import ops

from keras_hypernets.network.leaves import along

SPACE = "xyz"  # letters of these axes in equations


def convolve(
    inputs, kernels, strides=None, dilation_rate=None, padding="valid", groups=1, backwards=False
):
    """Convolves each sample with its own kernel.

    Args:
        inputs: `(batch, *space, channels)`.
        kernels: `(batch, *size, channels / groups, filters)`.
        strides, dilation_rate: one number per axis, default 1 each.
        padding: `"valid"`, `"same"`, or a pair of numbers per axis.
        groups: number of groups of channels and filters.
        backwards: whether to go through the kernels' positions from the last to the first.

    Returns:
        `(batch, *space, filters)`.
    """
    size, (channels, filters) = kernels.shape[1:-2], kernels.shape[-2:]
    views = _views(inputs, size, strides, dilation_rate, padding)
    space, group, shape = SPACE[: len(size)], "", (channels, filters)
    if groups > 1:
        group, shape = "g", (channels, groups, filters // groups)
        views = [_split(view, groups) for view in views]
    views = ops.concatenate(views[::-1] if backwards else views, -1)
    kernels = ops.reshape(kernels, (-1, math.prod(size) * channels, *shape[1:]))
    equation = f"b{space}{group}k,bk{group}o->b{space}{group}o"
    outputs = ops.einsum(equation, views, kernels)
    return _merged(outputs) if groups > 1 else outputs


def convolve_depthwise(inputs, kernels, strides, dilation_rate, padding):
    """Convolves each channel of each sample with its own kernels.

    The arguments are those of `convolve`, except the kernels, which are
    `(batch, *size, channels, multiplier)`. Outputs have `channels * multiplier` channels.
    """
    size = kernels.shape[1:-2]
    views = _views(inputs, size, strides, dilation_rate, padding)
    space = SPACE[: len(size)]
    kernels = ops.reshape(kernels, (-1, math.prod(size), *kernels.shape[-2:]))
    products = [
        ops.expand_dims(view, -1) * along(kernels[:, n], "bcm", f"b{space}cm")
        for n, view in enumerate(views)
    ]
    return _merged(sum(products[1:], products[0]))


def convolve_transposed(inputs, kernels, strides, dilation_rate, padding, output_padding):
    """Does what `keras.ops.conv_transpose` does, for each sample with its own kernel.

    As many outputs as strides belong to each input. A convolution without strides has them all as
    filters, and they then take their places side by side.

    Args:
        inputs: `(batch, *space, channels)`.
        kernels: `(batch, *size, filters, channels)`.
        strides, dilation_rate: one number per axis.
        padding: `"valid"` or `"same"`.
        output_padding: one number per axis, or `None`.

    Returns:
        `(batch, *space, filters)`.
    """
    *size, filters, channels = kernels.shape[1:]
    rank = len(size)
    # A kernel's position along an axis is one of the taps and one of the strides.
    taps = [-(-k // s) for k, s in zip(size, strides, strict=True)]
    more = [t * s - k for t, s, k in zip(taps, strides, size, strict=True)]
    kernels = ops.pad(kernels, [(0, 0), *[(0, n) for n in more], (0, 0), (0, 0)])
    pairs = [n for pair in zip(taps, strides, strict=True) for n in pair]
    kernels = ops.reshape(kernels, (-1, *pairs, filters, channels))
    of_taps, of_strides = range(1, 2 * rank, 2), range(2, 2 * rank + 1, 2)
    order = (0, *of_taps, 2 * rank + 2, *of_strides, 2 * rank + 1)
    kernels = ops.transpose(kernels, order)
    kernels = ops.reshape(kernels, (-1, *taps, channels, math.prod(strides) * filters))
    reach = [(t - 1) * d for t, d in zip(taps, dilation_rate, strict=True)]
    # The last block is for what `output_padding` adds.
    padding_of_blocks = [(n, n + 1) for n in reach]
    blocks = convolve(inputs, kernels, None, dilation_rate, padding_of_blocks, backwards=True)
    batch, *space, _ = ops.shape(blocks)
    blocks = ops.reshape(blocks, (batch, *space, *strides, filters))
    order = [axis for n in range(rank) for axis in (1 + n, 1 + rank + n)]
    blocks = ops.transpose(blocks, (0, *order, 2 * rank + 1))
    long = [n * s for n, s in zip(space, strides, strict=True)]
    outputs = ops.reshape(blocks, (batch, *long, filters))
    return outputs[
        _window(ops.shape(inputs)[1:-1], size, strides, dilation_rate, padding, output_padding)
    ]


def _window(space, size, strides, dilation_rate, padding, output_padding):
    """Returns what a transposed convolution keeps of all outputs that it could write."""
    slices = []
    for axis, (n, k, s, d) in enumerate(zip(space, size, strides, dilation_rate, strict=True)):
        reach = (k - 1) * d + 1
        more = None if output_padding is None else output_padding[axis]
        if padding == "valid":
            start, beyond = 0, reach + (max(s - reach, 0) if more is None else more)
        else:
            beyond = s if more is None else reach % 2 + more
            start = max(reach - beyond, 0) // 2
        slices.append(slice(start, start + (n - 1) * s + beyond))
    return slice(None), *slices


def _views(inputs, size, strides, dilation_rate, padding):
    """Returns the inputs beside each position of a kernel, each `(batch, *outputs, channels)`."""
    ones = [1] * len(size)
    strides, dilation_rate = strides or ones, dilation_rate or ones
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilation_rate, strict=True)]
    if padding == "same":
        pairs = zip(ops.shape(inputs)[1:-1], reach, strides, strict=True)
        padding = [_padding_of_same(*sizes) for sizes in pairs]
    if padding != "valid":
        inputs = ops.pad(inputs, [(0, 0), *padding, (0, 0)])
    pairs = zip(ops.shape(inputs)[1:-1], reach, strides, strict=True)
    lengths = [(n - r) // s * s + 1 for n, r, s in pairs]
    views = []
    for position in itertools.product(*map(range, size)):
        starts = [p * d for p, d in zip(position, dilation_rate, strict=True)]
        axes = zip(starts, lengths, strides, strict=True)
        slices = [slice(start, start + length, s) for start, length, s in axes]
        views.append(inputs[(slice(None), *slices)])
    return views


def _padding_of_same(n, reach, stride):
    total = (-(-n // stride) - 1) * stride + reach - n
    # Where the size is unknown it is a tensor.
    total = max(total, 0) if isinstance(total, int) else ops.maximum(total, 0)
    return total // 2, total - total // 2


def _split(inputs, groups):
    *shape, channels = ops.shape(inputs)
    return ops.reshape(inputs, (*shape, groups, channels // groups))


def _merged(outputs):
    *shape, a, b = ops.shape(outputs)
    return ops.reshape(outputs, (*shape, a * b))
