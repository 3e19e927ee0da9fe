"""The paper's CIFAR-10 experiment: residual networks with and without generated kernels.

    python examples/cifar10.py --depth 16 --width 1 --steps 14040    # small: 40 epochs
    python examples/cifar10.py --depth 40 --width 2                  # the paper's, for a GPU

In one network a small generator writes the kernels of all blocks. HyperNetworks (Ha et al., 2016),
section 4.2: https://arxiv.org/abs/1609.09106.
"""

import argparse
from functools import partial
from pathlib import Path

from common.command_line import ArgumentParser, at_least_zero, checked, positive_integer, run
from common.images import comparison

# The paper's learning rates, each up to a step (A.3.2); plain networks as Zagoruyko & Komodakis.
SCHEDULES = {
    "hyper": {168_000: 0.002, 336_000: 0.001, 504_000: 0.0002, 672_000: 0.00005},
    "plain": {28_000: 0.1, 56_000: 0.02, 84_000: 0.004, 112_000: 0.0008, 140_000: 0.00016},
}
# Of the training images' red, green and blue, 0 to 255: https://arxiv.org/abs/1605.07146's code.
MEAN = (125.3, 123.0, 113.9)
DEVIATION = (63.0, 62.1, 66.7)
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")

depth = checked(int, "6n + 4 with n at least 1: 10, 16, 22, ...", lambda n: n >= 10 and n % 6 == 4)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads a command line, `sys.argv` unless given."""
    parser = ArgumentParser(prog="cifar10.py", description=__doc__.splitlines()[0])
    parser.option("--depth", depth, 40, "layers, 6n + 4")
    parser.option("--width", positive_integer, 2, "factor of the filters")
    parser.option("--embedding-dim", positive_integer, 64, "size of the embeddings")
    parser.option("--tile-size", positive_integer, 16, "channels of a tile, a divisor of 16")
    parser.option(
        "--steps",
        positive_integer,
        None,
        "training steps; the steps at which the learning rate changes are scaled with them "
        "(default: the paper's, 672000 for hyper and 140000 for plain)",
    )
    parser.option(
        "--weight-decay", at_least_zero, 5e-4, "factor of half the squared norm of all kernels"
    )
    parser.option("--precision", str, "float32", "of Keras' layers", choices=PRECISIONS)
    parser.switch(
        "--sync-batch-norm",
        True,
        "with several GPUs, compute batch norm's statistics over all of them; otherwise a resumed "
        "run continues with those of the first GPU (default: yes)",
    )
    parser.switch("--jit-compile", "auto", "compile training with XLA (default: as Keras decides)")
    comparison.add_options(parser, "128", "runs/cifar10")
    parser.set_defaults(batch_size=128)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Trains the networks, as far as that is not done, and prints how they compare."""
    options = parse(arguments)
    from common import training  # noqa: F401  here, since TensorFlow takes seconds to load
    from common.images import datasets

    data = datasets.load_images("cifar10")
    print(data.description)
    results = comparison.compare(options, partial(make_run, options, data))
    comparison.print_table(results)
    plots = comparison.draw(options, "embedding_similarity", ["hyper"])
    comparison.print_outputs(options, plots)


def make_run(options: argparse.Namespace, data, network: str, seed: int, output: Path):
    """Makes the run of one network and seed."""
    from common.images import batching, training

    steps = options.steps or max(SCHEDULES[network])
    described = ["depth", "width", "weight_decay", "precision", "sync_batch_norm"]
    if network == "hyper":
        described += ["embedding_dim", "tile_size"]
    settings = {name: getattr(options, name) for name in described}
    return training.Run(
        partial(make_model, options, data, network, steps),
        data,
        batching.crop_and_flip,
        settings={"network": network, "steps": steps, **settings},
        output=output,
        batch_size=options.batch_size,
        steps=steps,
        seed=seed,
        resume=options.resume,
        tensorboard=options.tensorboard,
    )


def make_model(options: argparse.Namespace, data, network: str, steps: int):
    """Makes a classifier, from images of 0 to 255 to logits in float32, and its optimizer."""
    import keras

    from keras_hypernets import models

    keras.config.set_dtype_policy(options.precision)
    images = keras.Input(data.image_shape, dtype="uint8", name="images")
    resnet = models.hyper_resnet(
        options.depth,
        options.width,
        network == "hyper",
        data.image_shape,
        data.classes,
        embedding_dim=options.embedding_dim,
        tile_size=options.tile_size,
        # Weight decay is the gradient of half the squared norm, Keras' L2 has no half.
        kernel_regularizer=keras.regularizers.L2(options.weight_decay / 2),
        synchronized=options.sync_batch_norm,
    )
    variance = [deviation**2 for deviation in DEVIATION]
    logits = resnet(keras.layers.Normalization(mean=MEAN, variance=variance)(images))
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(logits)
    model = keras.Model(images, logits, name=f"{resnet.name}_classifier")
    model.compile(
        make_optimizer(network, steps),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=options.jit_compile,
    )
    return model


def make_optimizer(network: str, steps: int):
    """Makes the optimizer of the paper, its schedule scaled to the steps."""
    import keras

    schedule = SCHEDULES[network]
    scale = steps / max(schedule)
    # Keras' schedule goes on with a rate at the boundary itself, the paper's ends before it.
    boundaries = [round(step * scale) - 1 for step in schedule][:-1]
    rate = keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, [*schedule.values()])
    if network == "hyper":
        return keras.optimizers.Adam(rate)
    return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)


if __name__ == "__main__":
    run(main, " (it goes on with --resume)")
