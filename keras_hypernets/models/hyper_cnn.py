"""The paper's small convolutional network for MNIST."""

import keras

from keras_hypernets.static.hyper_conv2d import HyperConv2D
from keras_hypernets.validation import boolean, image_shape, positive_integer


def hyper_cnn(
    hyper: bool = True,
    input_shape: tuple[int, int, int] = (28, 28, 1),
    classes: int = 10,
    name: str | None = None,
) -> keras.Model:
    """Creates the network of the paper's MNIST experiment (section 4.1).

    Two convolutions with 16 filters of 7 x 7 and ReLU, each followed by 2 x 2 max pooling, and a
    Dense layer for the logits. With `hyper=True` the second kernel is generated (embedding and
    hidden size 4). It takes 4,244 weights instead of 12,544, the model 12,910 instead of 21,210.

    Args:
        hyper: whether to generate the second kernel. Default `True`.
        input_shape: `(height, width, channels)` of the images, at least 4 x 4.
        classes: positive integer, number of logits. Default 10.
        name: name of the model. Default `"hyper_cnn"`, or `"cnn"` with `hyper=False`.

    Returns:
        A functional `keras.Model` from images `(batch, height, width, channels)` to logits
        `(batch, classes)`.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> model = keras_hypernets.models.hyper_cnn()
    >>> model.count_params()
    12910
    """
    boolean("hyper", hyper)
    classes = positive_integer("classes", classes)
    input_shape = image_shape(input_shape, least=4)
    channels_last = {"data_format": "channels_last"}
    options = {"padding": "same", "activation": "relu", **channels_last}
    x = images = keras.Input(input_shape, name="images")
    x = keras.layers.Conv2D(16, 7, name="conv_1", **options)(x)
    x = keras.layers.MaxPooling2D(name="pool_1", **channels_last)(x)
    if hyper:
        x = HyperConv2D(16, 7, embedding_dim=4, name="conv_2", **options)(x)
    else:
        x = keras.layers.Conv2D(16, 7, name="conv_2", **options)(x)
    x = keras.layers.MaxPooling2D(name="pool_2", **channels_last)(x)
    logits = keras.layers.Dense(classes, name="logits")(keras.layers.Flatten(name="flatten")(x))
    return keras.Model(images, logits, name=name or ("hyper_cnn" if hyper else "cnn"))
