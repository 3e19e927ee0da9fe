"""HyperConv2D: a 2D convolution whose kernel is generated."""

import keras

from keras_hypernets.static.hyper_conv import HyperConv


@keras.saving.register_keras_serializable(package="keras_hypernets")
class HyperConv2D(HyperConv):
    """2D convolution with a generated kernel.

    `activation(conv(x, K) + b)` with K from a `KernelGenerator` (eq. 2 of the paper), assembled
    from tiles along its channels (eq. 3) where the generator's tile is smaller. Only the kernel is
    generated; the bias is an ordinary weight.

    Args:
        filters: positive integer, channels of the output.
        kernel_size: integer or two integers; that of the generator's tile.
        generator: `KernelGenerator` with a tile `(height, width, in, out)` to share, or `None`
            (default): the layer makes its own, whose tile is the whole kernel.
        embedding_dim: size of the embedding z of the layer's own generator. Default `None`: 16.
        hidden_units: of the layer's own generator. Default `None`: as `embedding_dim`. Both must be
            `None` with a shared generator or a kernel from a `KernelBank`.
        strides, padding, data_format, dilation_rate, groups, activation, use_bias,
        bias_initializer, bias_regularizer, bias_constraint: as in `keras.layers.Conv2D`.
        embedding_initializer, embedding_regularizer, embedding_constraint: of the embeddings.
            Default `None`: initial values with which the kernel has the variance of He's.
        kernel_regularizer: applied to the generated kernel. Default `None`.
        **kwargs: those of `keras.Layer`.

    Call arguments:
        inputs: `(batch, height, width, channels)`, or channels first with that `data_format`.
        kernel: `(height, width, channels / groups, filters)` from a `KernelBank`. Default `None`:
            the layer generates its own.

    Returns:
        `(batch, new_height, new_width, filters)`, or channels first. `layer.kernel` is the
        generated kernel `(height, width, channels / groups, filters)`.

    Raises:
        ValueError: for an argument out of its range, or a kernel that is not made of whole tiles.

    Example:

    >>> generator = keras_hypernets.KernelGenerator((3, 3, 8, 8), embedding_dim=4)
    >>> narrow = keras_hypernets.HyperConv2D(16, 3, generator)
    >>> wide = keras_hypernets.HyperConv2D(32, 3, generator, strides=2)
    >>> tuple(wide(narrow(keras.ops.ones((1, 9, 9, 8)))).shape)
    (1, 3, 3, 32)
    >>> tuple(wide.kernel.shape)
    (3, 3, 16, 32)

    Reference:
        [Ha et al., 2016](https://arxiv.org/abs/1609.09106), section 3.1.
    """

    rank = 2
    plain_class = keras.layers.Conv2D
