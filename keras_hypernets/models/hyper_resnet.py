"""Wide residual networks whose kernels come from one small generator."""

from functools import partial

import keras
from keras import layers

from keras_hypernets.network.hyper_network import HyperNetwork
from keras_hypernets.static.kernel_generator import KernelGenerator
from keras_hypernets.validation import boolean, image_shape, keras_object, one_of, positive_integer

GROUPS = 3
STEM_FILTERS = 16
OF_BLOCKS = r"_conv_\d/kernel$"


def hyper_resnet(
    depth: int,
    width: int,
    hyper: bool = True,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    shortcut: str = "projection",
    conv_bias: bool = False,
    stem_norm: bool = False,
    embedding_dim: int = 64,
    tile_size: int = 16,
    kernel_regularizer: keras.regularizers.Regularizer | str | None = None,
    synchronized: bool = False,
    name: str | None = None,
) -> keras.Model:
    """Creates a wide residual network, as in the paper's CIFAR-10 experiment (section 4.2).

    A stem with 16 filters; three groups of (depth - 4) / 6 blocks with 16, 32 and 64 times `width`
    filters, where the second and third each halve the resolution; then batch norm, ReLU,
    global average pooling and a Dense layer for the logits. A block is batch norm, ReLU and 3 x 3
    convolution, twice, with a shortcut
    ([Zagoruyko & Komodakis, 2016](https://arxiv.org/abs/1605.07146)). With `hyper=True` this
    network is the target of a `HyperNetwork`: one `KernelGenerator` generates the kernels of all
    blocks in one product; the stem, shortcuts and logits have ordinary weights. Batch norm has
    momentum 0.9, because at Keras' 0.99 its moving averages lag behind generated kernels (measured
    in docs/guides/generated_convolutions.md).

    Trainable weights:

        |             | 40-1    | hyper 40-1 | 40-2      | hyper 40-2 |
        |-------------|---------|------------|-----------|------------|
        | default     | 563,930 | 97,770     | 2,243,546 | 155,626    |
        | the paper's | 562,762 | 96,602     | 2,235,530 | 147,610    |

    The second row, with `shortcut="pad", conv_bias=True, stem_norm=True`, rounds to the paper's
    four figures; the paper does not say how it counts.

    Args:
        depth: number of successive convolutions, 6n + 4 with n at least 1: 10, 16, 22, ...
        width: positive integer, multiplier of the number of filters.
        hyper: whether to generate the kernels of the blocks. Default `True`.
        input_shape: `(height, width, channels)` of the images, at least 4 x 4; height and width
            may be `None`, for images of any size.
        classes: positive integer, number of logits. Default 10.
        shortcut: for blocks that change the shape: `"projection"` (default) is a 1 x 1
            convolution, `"pad"` skips pixels and appends channels of zeros.
        conv_bias: whether convolutions have a bias. Default `False`.
        stem_norm: whether batch norm and ReLU follow the stem. Default `False`.
        embedding_dim: size of the embeddings and of the generator's hidden layer. Default 64.
        tile_size: channels of a tile, a divisor of 16. Default 16.
        kernel_regularizer: regularizer of all kernels, generated or not. Default `None`.
        synchronized: whether batch norm takes its statistics across all devices. Default `False`.
        name: name of the model. Default such as `"hyper_resnet_40_2"` or `"resnet_40_2"`.

    Returns:
        A functional `keras.Model` from images `(batch, height, width, channels)`, of about zero
        mean and unit variance, to logits `(batch, classes)`. With `hyper=True` its only layer is
        the `HyperNetwork`, `"hyper_network"`, whose `target` has the layers of the network.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> model = keras_hypernets.models.hyper_resnet(40, 1)
    >>> int(sum(keras.ops.size(weight) for weight in model.trainable_weights))
    97770
    """
    blocks, rest = divmod(positive_integer("depth", depth) - 4, 2 * GROUPS)
    if rest or blocks < 1:
        raise ValueError(
            f"`depth` must be 6n + 4 with n at least 1: 10, 16, 22, ... Received: depth={depth}"
        )
    width, classes = positive_integer("width", width), positive_integer("classes", classes)
    one_of("shortcut", shortcut, ("projection", "pad"))
    for argument, value in (
        ("hyper", hyper),
        ("conv_bias", conv_bias),
        ("stem_norm", stem_norm),
        ("synchronized", synchronized),
    ):
        boolean(argument, value)
    if STEM_FILTERS % positive_integer("tile_size", tile_size):
        raise ValueError(
            f"`tile_size` must be a divisor of {STEM_FILTERS}. Received: tile_size={tile_size}"
        )
    embedding_dim = positive_integer("embedding_dim", embedding_dim)
    kernel_regularizer = keras_object("kernel_regularizer", kernel_regularizer)
    input_shape = image_shape(input_shape, least=4, dynamic=True)
    convolve = partial(
        layers.Conv2D,
        padding="same",
        use_bias=conv_bias,
        data_format="channels_last",
        kernel_initializer="he_normal",
        kernel_regularizer=kernel_regularizer,
    )
    norm = partial(layers.BatchNormalization, -1, 0.9, 1e-5, synchronized=synchronized)

    def norm_relu(x, name):
        return layers.ReLU(name=f"{name}_relu")(norm(name=f"{name}_norm")(x))

    def block(x, filters, strides, name):
        first, second = f"{name}_conv_1", f"{name}_conv_2"
        straight = x
        x = norm_relu(x, first)
        if (inputs := x.shape[-1]) != filters or strides > 1:
            if shortcut == "projection":
                straight = convolve(filters, 1, strides, name=f"{name}_projection")(x)
            else:
                straight = straight[:, ::strides, ::strides]
                straight = keras.ops.pad(straight, [[0, 0]] * 3 + [[0, filters - inputs]])
        x = convolve(filters, 3, strides, name=first)(x)
        x = convolve(filters, 3, name=second)(norm_relu(x, second))
        return layers.Add(name=f"{name}_sum")([x, straight])

    x = images = keras.Input(input_shape, name="images")
    x = convolve(STEM_FILTERS, 3, name="stem")(x)
    if stem_norm:
        x = norm_relu(x, "stem")
    for group in range(1, GROUPS + 1):
        filters = STEM_FILTERS * 2 ** (group - 1) * width
        for number in range(1, blocks + 1):
            strides = 2 if group > 1 and number == 1 else 1
            x = block(x, filters, strides, f"group_{group}_block_{number}")
    x = norm_relu(x, "last")
    x = layers.GlobalAveragePooling2D(data_format="channels_last", name="average")(x)
    logits = layers.Dense(classes, kernel_regularizer=kernel_regularizer, name="logits")(x)
    plain_name = f"resnet_{depth}_{width}"
    if not hyper:
        return keras.Model(images, logits, name=name or plain_name)
    plain = keras.Model(images, logits, name=plain_name)
    tile = 3, 3, tile_size, tile_size
    generator = KernelGenerator(tile, embedding_dim, dtype=plain.variable_dtype, name="generator")
    hyper_network = HyperNetwork(plain, OF_BLOCKS, generator, base=None, name="hyper_network")
    images = keras.Input(input_shape, name="images")
    return keras.Model(images, hyper_network(images), name=name or f"hyper_{plain_name}")
