"""HyperConv3D: a 3D convolution whose kernel is generated."""

import keras

from keras_hypernets.static.hyper_conv import HyperConv


@keras.saving.register_keras_serializable(package="keras_hypernets")
class HyperConv3D(HyperConv):
    """3D convolution with a generated kernel: see `HyperConv2D`.

    Args:
        filters: positive integer, channels of the output.
        kernel_size: integer or three integers; that of the generator's tile.
        generator: `KernelGenerator` with a tile `(depth, height, width, in, out)` to share, or
            `None` (default): the layer makes its own, whose tile is the whole kernel.
        All other arguments: as in `HyperConv2D` and `keras.layers.Conv3D`.

    Call arguments:
        inputs: `(batch, depth, height, width, channels)`, or channels first with that
            `data_format`.
        kernel: `(depth, height, width, channels / groups, filters)` from a `KernelBank`.
            Default `None`: the layer generates its own.

    Returns:
        `(batch, new_depth, new_height, new_width, filters)`, or channels first.

    Raises:
        ValueError: for an argument out of its range, or a kernel that is not made of whole tiles.

    Example:

    >>> layer = keras_hypernets.HyperConv3D(16, 3, embedding_dim=4)
    >>> tuple(layer(keras.ops.ones((2, 6, 6, 6, 4))).shape)
    (2, 4, 4, 4, 16)

    Reference:
        [Ha et al., 2016](https://arxiv.org/abs/1609.09106), section 3.1.
    """

    rank = 3
    plain_class = keras.layers.Conv3D
