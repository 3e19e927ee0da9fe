"""A hypernetwork reads an image and writes the weights of the network that classifies it.

    python examples/weights_from_images.py
    python examples/weights_from_images.py --seeds 0 1 2

The networks are those of Keras' own introduction for researchers, where a training step reads one
image: https://keras.io/getting_started/intro_to_keras_for_researchers/. Here it reads 64.
"""

from common.command_line import run
from common.images.seeds import classify_with_seeds


def make_model(steps: int):
    """Makes the compiled classifier, from images of 0 to 255 to logits."""
    import keras
    from keras import layers

    from keras_hypernets import HyperNetwork

    images = keras.Input((28, 28, 1))
    pixels = layers.Flatten()(layers.Rescaling(1 / 255)(images))
    network = keras.Sequential([keras.Input((784,)), layers.Dense(64, "relu"), layers.Dense(10)])
    hyper = HyperNetwork(network, hidden_units=(16,), per_sample=True)
    model = keras.Model(images, hyper(pixels, pixels))
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.001, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def main(arguments: list[str] | None = None) -> None:
    """Trains with each seed, as far as that is not done, and prints the accuracies."""
    classify_with_seeds("weights_from_images.py", __doc__.splitlines()[0], 3, make_model, arguments)


if __name__ == "__main__":
    run(main)
