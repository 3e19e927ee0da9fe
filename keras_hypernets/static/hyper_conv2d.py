"""HyperConv2D: a 2D convolution whose kernel is generated."""

import keras

from keras_hypernets.static.hyper_conv import HyperConv


@keras.saving.register_keras_serializable(package="keras_hypernets")
class HyperConv2D(HyperConv):
    """2D convolution with a generated kernel.

    Computes `activation(conv(x, K) + b)`. A `KernelGenerator` generates K (eq. 2 of the paper). If
    its tile is smaller than K, several tiles make up K along the channels (eq. 3). The bias is an
    ordinary weight.

    Args:
        filters: positive integer, number of output channels.
        kernel_size: integer or two integers, equal to that of the generator's tile.
        generator: shared `KernelGenerator` with a tile `(height, width, in, out)`. Default `None`:
            the layer creates its own, whose tile is the whole kernel.
        embedding_dim: size of the embedding z of the layer's own generator. Default `None`: 16.
        hidden_units: hidden size of the layer's own generator. Default `None`: `embedding_dim`.
            Both must be `None` with a shared generator.
        strides, padding, data_format, dilation_rate, groups, activation, use_bias: as in
            `keras.layers.Conv2D`.
        bias_initializer, bias_regularizer, bias_constraint: likewise.
        embedding_initializer, embedding_regularizer, embedding_constraint: for the embeddings.
            Default `None`: the kernel starts with the variance of He initialization.
        kernel_regularizer: regularizer of the generated kernel. Default `None`.
        **kwargs: arguments of `keras.Layer`.

    Call arguments:
        inputs: `(batch, height, width, channels)`, or channels first, as `data_format` says.

    Returns:
        `(batch, new_height, new_width, filters)`, or channels first, like the inputs.
        `layer.kernel` is the generated kernel `(height, width, channels / groups, filters)`.

    Raises:
        ValueError: if an argument is out of range, or the kernel does not consist of whole tiles.

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
