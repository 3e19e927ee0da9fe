"""A generator of 7,052 weights writes the 77,066 weights of a CNN, piece by piece.

    python examples/chunked_cnn.py
    python examples/chunked_cnn.py --seeds 0 1 2

The CNN and the size are those of hyper-nn's notebook on MNIST (512 pieces, embeddings of 4, 32
hidden units), which reaches 94.64 % after 7 epochs: https://github.com/shyamsn97/hyper-nn.
"""

from functools import partial

from common.command_line import run
from common.images.seeds import classify_with_seeds


def make_model(steps: int):
    """Makes the compiled classifier, from images of 0 to 255 to logits."""
    import keras
    from keras import layers

    from keras_hypernets import HyperNetwork

    convolution = partial(
        layers.Conv2D, 64, 3, strides=2, activation="relu", kernel_initializer="he_normal"
    )
    cnn = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            *(convolution() for _ in range(3)),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    hyper = HyperNetwork(
        cnn,
        hidden_units=(32,),
        activation="tanh",
        chunk_size=151,
        chunk_embedding_dim=4,
        base=None,
    )
    images = keras.Input((28, 28, 1))
    model = keras.Model(images, hyper(images))
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.002, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def main(arguments: list[str] | None = None) -> None:
    """Trains with each seed, as far as that is not done, and prints the accuracies."""
    classify_with_seeds("chunked_cnn.py", __doc__.splitlines()[0], 7, make_model, arguments)


if __name__ == "__main__":
    run(main)
