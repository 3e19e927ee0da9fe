"""How convolutions run with weights of each sample's own."""

import math

import keras
from keras import ops

from keras_hypernets.network.convolve import (
    SPACE,
    convolve,
    convolve_depthwise,
    convolve_transposed,
)
from keras_hypernets.network.leaves import Leaf, along, scale_of_outputs

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
        return _quickest(leaf, shared, each)(inputs, form.value())
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


def _quickest(leaf, shared, each):
    """Returns `each`, or on TensorFlow a function that does the same in less time.

    In training XLA compiles it in place; without that a step takes two to four times as long. In
    inference, where a SavedModel must not have operations of XLA, it is a loop over the samples.
    """
    if keras.backend.backend() != "tensorflow":
        return each
    import tensorflow as tf

    if tf.executing_eagerly():  # each call would compile again
        return each
    if leaf.compiled:
        return tf.function(each, jit_compile=True, autograph=False)

    def of_sample(pair):
        return shared(pair[0][None], pair[1])[0]

    return lambda x, kernels: tf.map_fn(of_sample, (x, kernels), fn_output_signature=x.dtype)
