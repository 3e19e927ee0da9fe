"""Convolutions with a kernel of each sample's own.

The inputs beside each position of the kernel, side by side, make one matrix per sample: the rest is
a product with each sample's kernel as a matrix. As a grouped convolution, or mapped over the
samples' kernels, the same takes up to hundreds of times as long on a CPU.
"""

import itertools
import math

import keras
from keras import ops

from keras_hypernets.network.leaves import Leaf, along, scale_of_outputs

SPACE = "xyz"
LAST = {"data_format": "channels_last"}  # of all here, whatever the layer's


def convolution(leaf: Leaf, inputs):
    layer, padding = leaf.layer, leaf.layer.padding
    inputs = _channels_last(leaf, inputs)
    if padding == "causal":
        before = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
        inputs, padding = ops.pad(inputs, [(0, 0), (before, 0), (0, 0)]), "valid"
    options = {"strides": layer.strides, "dilation_rate": layer.dilation_rate, "padding": padding}
    outputs = _applied(
        leaf,
        "kernel",
        (-1,),
        inputs,
        lambda x, kernel: ops.conv(x, kernel, **options, **LAST),
        lambda x, kernels: convolve(x, kernels, groups=layer.groups, **options),
    )
    return _finished(leaf, outputs)


def depthwise_convolution(leaf: Leaf, inputs):
    return _finished(leaf, _depthwise(leaf, "kernel", _channels_last(leaf, inputs)))


def separable_convolution(leaf: Leaf, inputs):
    between = _depthwise(leaf, "depthwise_kernel", _channels_last(leaf, inputs))
    outputs = _applied(
        leaf,
        "pointwise_kernel",
        (-1,),
        between,
        lambda x, kernel: ops.conv(x, kernel, **LAST),
        convolve,
    )
    return _finished(leaf, outputs)


def transposed_convolution(leaf: Leaf, inputs):
    layer = leaf.layer
    options = {
        "strides": layer.strides,
        "padding": layer.padding,
        "output_padding": layer.output_padding,
        "dilation_rate": layer.dilation_rate,
    }
    outputs = _applied(
        leaf,
        "kernel",
        (-2,),
        _channels_last(leaf, inputs),
        lambda x, kernel: ops.conv_transpose(x, kernel, **options, **LAST),
        lambda x, kernels: convolve_transposed(x, kernels, **options),
    )
    return _finished(leaf, outputs)


def _channels_last(leaf, inputs):
    return inputs if leaf.layer.data_format == "channels_last" else ops.moveaxis(inputs, 1, -1)


def _depthwise(leaf, name, inputs):
    layer = leaf.layer
    options = {
        "strides": layer.strides,
        "dilation_rate": layer.dilation_rate,
        "padding": layer.padding,
    }
    return _applied(
        leaf,
        name,
        (-2, -1),
        inputs,
        lambda x, kernel: ops.depthwise_conv(x, kernel, **options, **LAST),
        lambda x, kernels: convolve_depthwise(x, kernels, **options),
    )


def _applied(leaf, name, axes, inputs, shared, each):
    """Returns the outputs of a convolution, without its bias.

    Args:
        leaf: a convolution.
        name: the name of its kernel.
        axes: those of the kernel along which the outputs differ.
        inputs: `(batch, *space, channels)`.
        shared: the convolution of inputs with one kernel.
        each: the convolution of inputs with a kernel per sample.
    """
    form = leaf.form(name)
    if form is None:
        return shared(inputs, getattr(leaf.layer, name))
    scale = scale_of_outputs(form, axes)
    if scale is None:
        return (_compiled(each) if leaf.compiled else each)(inputs, form.value())
    axes = [axis % len(form.base.shape) for axis in axes]
    # A scale that is the same along one of them has size 1 there.
    sizes = [n if axis in axes else 1 for axis, n in enumerate(form.base.shape)]
    scale = ops.reshape(scale * ops.ones(sizes, scale.dtype), (-1, math.prod(sizes)))
    return shared(inputs, form.base) * _of_channels(leaf, scale)


def _finished(leaf, outputs):
    layer, bias = leaf.layer, leaf.value("bias")
    if bias is not None:
        outputs = outputs + _of_channels(leaf, bias)
    elif layer.bias is not None:
        outputs = ops.add(outputs, layer.bias)
    if layer.data_format == "channels_first":
        outputs = ops.moveaxis(outputs, -1, 1)
    return outputs if layer.activation is None else layer.activation(outputs)


def _of_channels(leaf, values):
    """Returns values `(batch, channels)` in a shape that broadcasts with inputs or outputs."""
    return along(values, "bc", f"b{SPACE[: leaf.layer.rank]}c")


def _compiled(function):
    """On TensorFlow, within a graph, a function that XLA compiles in place.

    Without XLA a step of training takes two to four times as long. Outside a graph each call would
    compile again.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if not tf.executing_eagerly():
            return tf.function(function, jit_compile=True, autograph=False)
    return function


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

    The arguments are those of `convolve`, but for the kernels, which are
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
    """The transpose of a convolution, such as `keras.ops.conv_transpose`, per sample.

    It writes `strides` outputs for each input. So it is a convolution without strides that has
    `prod(strides)` times as many filters, whose outputs then take their places side by side.

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
    # Axes b, then taps and stride of each axis of space, then filters and channels.
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
