"""How long convolutions with generated kernels take, beside plain ones.

    python benchmarks/static.py
    python benchmarks/static.py --subjects mnist wrn --batches 1 32 --rounds 9

Subjects are the second convolution of `hyper_cnn`, three convolutions of `hyper_resnet(40, 2)` and
the whole of it. Training is forward, backward and Adam, with the gradient to the input where the
subject is one layer, since in a network it hands one on; inference is one call; neither uses XLA.
Every round takes some steps of each variant, in another order each time; printed are medians over
the rounds, and ratios to the plain variant in the same round with their quartiles. For CPUs, since
steps on a GPU return before they are done. Nothing else should run on the machine.

The arithmetic floor is the ratio of multiplications. Plain, each image has each weight of a
convolution multiplied once at each place of the output. A generated kernel adds, once per step
whatever the batch, for each of its tiles the product of the embedding with W, and of the rows that
makes, one for each input channel of the tile, with W_out. Training has three products for each of
the forward pass, in both, so that the floor is that of inference. `hyper_resnet(40, 2)`: 328
million for an image, 966 tiles of 0.213 million, thus 1 + 206 / 328 = 1.63 at batch 1. All else a
step does is left out, such as batch norm, and Adam, which has 14 times fewer weights to update
where kernels are generated: measured ratios can be lower.
"""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from common import training  # noqa: E402  before Keras, so that TensorFlow starts without its notes

# isort: split
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from rounds import measure, print_table, summarize  # noqa: E402

import keras_hypernets as hypernets  # noqa: E402
from common import outputs  # noqa: E402

# Resolution and channels of the convolutions in the three groups of hyper_resnet(40, 2).
GROUPS = ((32, 32), (16, 64), (8, 128))


def mnist() -> dict[str, dict[str, keras.Model]]:
    """Makes the second convolution of `hyper_cnn`."""
    options = {"padding": "same", "activation": "relu"}
    plain = keras.layers.Conv2D(16, 7, **options)
    hyper = hypernets.HyperConv2D(16, 7, embedding_dim=4, **options)
    return {"mnist 14 x 14 x 16": pair(plain, hyper, (14, 14, 16))}


def wrn() -> dict[str, dict[str, keras.Model]]:
    """Makes a convolution of each group of `hyper_resnet(40, 2)`, with a generator of its own."""
    options = {"padding": "same", "use_bias": False}
    subjects = {}
    for size, channels in GROUPS:
        plain = keras.layers.Conv2D(channels, 3, **options)
        generator = hypernets.KernelGenerator((3, 3, 16, 16), embedding_dim=64)
        hyper = hypernets.HyperConv2D(channels, 3, generator, **options)
        shape = (size, size, channels)
        subjects[f"wrn {size} x {size} x {channels}"] = pair(plain, hyper, shape)
    return subjects


def resnet() -> dict[str, dict[str, keras.Model]]:
    """Makes the whole `hyper_resnet(40, 2)`."""
    make = hypernets.models.hyper_resnet
    return {"hyper_resnet(40, 2)": {"plain": make(40, 2, hyper=False), "hyper": make(40, 2)}}


def pair(plain: keras.Layer, hyper: keras.Layer, shape: tuple) -> dict[str, keras.Model]:
    """Makes models of one layer each."""
    layers = {"plain": plain, "hyper": hyper}
    return {name: keras.Sequential([keras.Input(shape), one]) for name, one in layers.items()}


SUBJECTS = {make.__name__: make for make in (mnist, wrn, resnet)}


def floor(models: dict[str, keras.Model], batch: int) -> float:
    """Returns the ratio of multiplications, generated to plain."""
    plain = sum(
        math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1])
        for layer in models["plain"].layers
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)
    )
    generation = 0
    for layer in models["hyper"].layers:
        if hasattr(layer, "embedding"):  # a HyperNetwork, or a layer with a kernel of its own
            generator, tiles = layer.generator, layer.embedding.shape[0]
            first = math.prod(generator.projection_kernel.shape)
            second = generator.tile_shape[-2] * math.prod(generator.output_kernel.shape)
            generation += tiles * (first + second)
    return 1 + generation / (batch * plain)


def training_step(model: keras.Model, x: tf.Tensor) -> Callable[[], tf.Tensor]:
    """Makes a function of one training step."""
    weights = model.trainable_variables
    optimizer = keras.optimizers.Adam()
    optimizer.build(weights)

    @tf.function(jit_compile=False)
    def step(x, y):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_mean(tf.square(model(x, training=True) - y))
        to_x, *to_weights = tape.gradient(loss, [x, *weights])
        optimizer.apply(to_weights, weights)
        # TensorFlow computes the gradient to the input only if it is returned.
        return to_x if len(model.layers) == 1 else loss

    y = tf.random.normal((x.shape[0], *model.output_shape[1:]))
    return lambda: step(x, y)


def inference_step(model: keras.Model, x: tf.Tensor) -> Callable[[], tf.Tensor]:
    """Makes a function of one call."""
    call = tf.function(lambda x: model(x, training=False), jit_compile=False)
    return lambda: call(x)


def compare(models: dict[str, keras.Model], batch: int, rounds: int) -> dict[str, dict]:
    """Returns tables of training and of inference, where there is a baked variant too."""
    x = tf.random.normal((batch, *models["plain"].input_shape[1:]))
    baked = {**models, "baked": hypernets.export.bake(models["hyper"])}
    tasks = {
        "training": {name: training_step(model, x) for name, model in models.items()},
        "inference": {name: inference_step(model, x) for name, model in baked.items()},
    }
    return {name: summarize(measure(steps, rounds), "plain") for name, steps in tasks.items()}


def main() -> None:
    """Measures, prints and writes `results/static.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS), choices=list(SUBJECTS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32, 128])
    parser.add_argument("--rounds", type=int, default=15)
    path = Path(__file__).parent / "results" / "static.json"
    parser.add_argument("--output", type=Path, default=path)
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    results = {"subjects": {}, "rounds": options.rounds, **training.environment()}
    for make in map(SUBJECTS.get, options.subjects):
        keras.utils.clear_session()
        for name, models in make().items():
            batches = results["subjects"][name] = {}
            for batch in options.batches:
                least = round(floor(models, batch), 3)
                print(f"\n{name}, batch {batch}: arithmetic floor {least:.2f} x", flush=True)
                tables = compare(models, batch, options.rounds)
                batches[batch] = {"arithmetic_floor": least, **tables}
                for task, table in tables.items():
                    print_table({f"{task}, {variant}": row for variant, row in table.items()})
                outputs.save_json(options.output, results)


if __name__ == "__main__":
    main()
