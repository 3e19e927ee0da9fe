"""HyperConv3D: a 3D convolution whose kernel is generated."""

import keras

from keras_hypernets.static.hyper_conv import HyperConv


@keras.saving.register_keras_serializable(package="keras_hypernets")
class HyperConv3D(HyperConv):
    """3D convolution with a generated kernel: see `HyperConv2D`.

    Args:
        filters: positive integer, number of output channels.
        kernel_size: integer or three integers, equal to that of the generator's tile.
        generator: shared `KernelGenerator` with a tile `(depth, height, width, in, out)`. Default
            `None`: the layer creates its own, whose tile is the whole kernel.
        **kwargs: all other arguments, as in `HyperConv2D` and `keras.layers.Conv3D`.

    Call arguments:
        inputs: `(batch, depth, height, width, channels)`, or channels first, as `data_format` says.

    Returns:
        `(batch, new_depth, new_height, new_width, filters)`, or channels first, like the inputs.

    Raises:
        ValueError: if an argument is out of range, or the kernel does not consist of whole tiles.

    Example:

    >>> layer = keras_hypernets.HyperConv3D(16, 3, embedding_dim=4)
    >>> tuple(layer(keras.ops.ones((2, 6, 6, 6, 4))).shape)
    (2, 4, 4, 4, 16)

    Reference:
        [Ha et al., 2016](https://arxiv.org/abs/1609.09106), section 3.1.
    """

    rank = 3
    plain_class = keras.layers.Conv3D
