"""The paper's MNIST experiment: a generated kernel beside an ordinary one.

    python examples/mnist.py                        # both networks, one seed
    python examples/mnist.py --seeds 0 1 2 --resume
    python examples/mnist.py --dataset digits       # small, quick, needs no download

Both networks have two convolutions of 7 x 7 and 16 filters; in one of them the second kernel is
generated. HyperNetworks (Ha et al., 2016), section 4.1: https://arxiv.org/abs/1609.09106.
"""

import argparse
from functools import partial
from pathlib import Path

from common.command_line import ArgumentParser, count, positive_integer, run
from common.images import comparison


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads a command line, `sys.argv` unless given."""
    parser = ArgumentParser(prog="mnist.py", description=__doc__.splitlines()[0])
    parser.option(
        "--dataset",
        str,
        "mnist",
        "digits: 1,797 images of 8 x 8 that come with scikit-learn",
        choices=("mnist", "fashion_mnist", "digits"),
    )
    parser.option(
        "--schedule",
        str,
        "paper",
        "paper: Adam 0.001, images moved by up to a pixel; notebook: that of the author's "
        "notebook, Adam 0.005 * 0.999^step but at least 0.0001, gradients clipped at 100, images "
        "stretched by two pixels",
        choices=("paper", "notebook"),
    )
    parser.option("--epochs", positive_integer, None, "at most (default: 300; notebook: 50)")
    parser.option(
        "--patience",
        count,
        None,
        "end training after this many epochs without improvement on validation; 0: train all "
        "epochs (default: 30; notebook: 0)",
    )
    comparison.add_options(parser, "1000; digits: 100", "runs/mnist")
    options = parser.parse_args(arguments)
    notebook = options.schedule == "notebook"
    if options.epochs is None:
        options.epochs = 50 if notebook else 300
    if options.patience is None:
        options.patience = 0 if notebook else 30
    if options.batch_size is None:
        options.batch_size = 100 if options.dataset == "digits" else 1000
    return options


def main(arguments: list[str] | None = None) -> None:
    """Trains the networks, as far as that is not done, and prints how they compare."""
    options = parse(arguments)
    from common import training  # noqa: F401  here, since TensorFlow takes seconds to load
    from common.images import datasets

    data = datasets.load_images(options.dataset)
    print(data.description)
    results = comparison.compare(options, partial(make_run, options, data))
    in_kernel = {network: weights_of_second_kernel(network == "hyper", data) for network in results}
    comparison.print_table(results, **{"of them in 2nd kernel": in_kernel})
    plots = comparison.draw(options, "filters", comparison.NETWORKS)
    comparison.print_outputs(options, plots)


def make_run(options: argparse.Namespace, data, network: str, seed: int, output: Path):
    """Makes the run of one network and seed."""
    from common.images import training

    return training.Run(
        partial(make_model, options.schedule, data, network),
        data,
        augmentation(options.schedule),
        settings={
            "network": network,
            "schedule": options.schedule,
            "epochs": options.epochs,
            "patience": options.patience,
        },
        output=output,
        batch_size=options.batch_size,
        epochs=options.epochs,
        patience=options.patience,
        seed=seed,
        resume=options.resume,
        tensorboard=options.tensorboard,
    )


def make_model(schedule: str, data, network: str):
    """Makes a classifier, from images of 0 to 255 to logits, and its optimizer."""
    import keras

    from keras_hypernets import models

    images = keras.Input(data.image_shape, dtype="uint8", name="images")
    cnn = models.hyper_cnn(network == "hyper", data.image_shape, data.classes)
    logits = cnn(keras.layers.Rescaling(1 / 255)(images))
    model = keras.Model(images, logits, name=f"{cnn.name}_classifier")
    model.compile(
        make_optimizer(schedule),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def make_optimizer(schedule: str):
    """Makes the optimizer of the paper (A.3.1) or of its author's notebook."""
    import keras

    from common.images import training

    if schedule == "paper":
        return keras.optimizers.Adam(1e-3)
    decay = training.FlooredExponentialDecay(5e-3, 1, 0.999, floor=1e-4)
    return keras.optimizers.Adam(decay, clipvalue=100)


def augmentation(schedule: str):
    """Returns the augmentation of the paper (A.3.1) or of its author's notebook."""
    from common.images import batching

    if schedule == "paper":
        return partial(batching.random_crop, padding=1)
    return batching.random_stretch


def weights_of_second_kernel(hyper: bool, data) -> str:
    """Returns how many weights the second kernel has, or what generates it."""
    from keras_hypernets import models

    layer = models.hyper_cnn(hyper, data.image_shape, data.classes).get_layer("conv_2")
    return f"{layer.count_params() - layer.filters:,}"  # but for the bias


if __name__ == "__main__":
    run(main, " (it goes on with --resume)")
