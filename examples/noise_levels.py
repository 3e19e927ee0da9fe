"""One denoiser for all levels of noise, beside denoisers trained for one level each.

    python examples/noise_levels.py
    python examples/noise_levels.py --seeds 0 1 2

A hypernetwork reads the standard deviation of the noise, a number from 0 to 1 for each image, and
writes the weights of a small convolutional network. It reads it as it is, or encoded by its cosine
and sine (Ortiz et al., 2023: https://arxiv.org/abs/2304.07645). Beside it the same network learns
all levels, without knowing them or with the level as a second channel of its input, and others one
level each.
"""

import math
import statistics
from functools import partial
from pathlib import Path

from common.command_line import run
from common.images.seeds import parser_of, train_seeds

BATCH_SIZE = 64
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the networks trained for one
TESTED = [n / 10 for n in range(1, 11)]


def make_denoiser(channels: int = 1):
    """Makes a network from noisy images, of pixels from 0 to 1, to clean ones."""
    import keras
    from keras import layers

    options = {"padding": "same", "activation": "relu"}
    return keras.Sequential(
        [
            keras.Input((28, 28, channels)),
            layers.Conv2D(32, 4, strides=2, **options),
            layers.Conv2D(32, 3, **options),
            layers.Conv2D(32, 3, **options),
            layers.Conv2DTranspose(1, 4, strides=2, padding="same"),
        ]
    )


def make_model(reads: str, encoding: str | None, steps: int):
    """Makes a compiled model from noisy images and their deviations to clean images.

    Args:
        reads: the level: `"hypernetwork"`, `"network"` or `"nothing"`.
        encoding: of the level for a hypernetwork.
        steps: of the training.
    """
    import keras

    from keras_hypernets import HyperNetwork

    images, deviation = keras.Input((28, 28, 1)), keras.Input((1,))
    if reads == "hypernetwork":
        hyper = HyperNetwork(
            make_denoiser(), hidden_units=(32, 32), per_sample=True, condition_encoding=encoding
        )
        outputs = hyper(images, deviation)
    elif reads == "network":
        level = keras.ops.ones_like(images) * deviation[:, :, None, None]
        outputs = make_denoiser(2)(keras.ops.concatenate([images, level], axis=-1))
    else:
        outputs = make_denoiser()(images)
    model = keras.Model([images, deviation], outputs)
    schedule = keras.optimizers.schedules.CosineDecay(0.002, steps)
    model.compile(keras.optimizers.Adam(schedule), "mse")
    return model


def noisy(images, low: float, high: float, seed: int):
    """Makes batches of noisy images with their deviations, uniform in a range, and clean images."""
    import tensorflow as tf

    def add_noise(number, clean):
        seeds = tf.random.split((seed, number))
        clean = tf.cast(clean, "float32") / 255
        deviation = tf.random.stateless_uniform((len(clean), 1), seeds[0], low, high)
        noise = tf.random.stateless_normal(clean.shape, seeds[1])
        return (clean + deviation[:, :, None, None] * noise, deviation), clean

    data = tf.data.Dataset.from_tensor_slices(images).shuffle(len(images), seed)
    return data.batch(BATCH_SIZE, drop_remainder=True).enumerate().map(add_noise).prefetch(2)


def train(data, seed: int, epochs: int) -> dict:
    """Trains all networks; returns their peak signal-to-noise ratios, in dB, at levels of noise."""
    import keras

    # What reads the level, how it is encoded, and the levels of noise in training.
    networks = {
        "hyper": ("hypernetwork", None, 0, 1),
        "hyper, cos_sin": ("hypernetwork", "cos_sin", 0, 1),
        "level as input": ("network", None, 0, 1),
        "no condition": ("nothing", None, 0, 1),
        **{f"level {level}": ("nothing", None, level, level) for level in LEVELS},
    }
    results = {}
    for name, (reads, encoding, low, high) in networks.items():
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        steps = epochs * (len(data.train[0]) // BATCH_SIZE)
        model = make_model(reads, encoding, steps)
        for epoch in range(epochs):
            batches = noisy(data.train[0], low, high, 1000 * seed + epoch)
            model.fit(batches, shuffle=False, verbose=2)  # shuffled already
        # Other seeds than in training, the same for all networks.
        tests = [noisy(data.test()[0], level, level, -1 - seed) for level in TESTED]
        errors = [model.evaluate(test, verbose=0) for test in tests]
        results[name] = [round(-10 * math.log10(error), 3) for error in errors]
        print(f"{name}: {results[name]}", flush=True)
    return results


def plot(results: dict[str, dict], path: Path) -> None:
    """Draws the means over the seeds."""
    from matplotlib.figure import Figure

    figure = Figure((7, 4.5), layout="constrained")
    axes = figure.subplots()
    networks = next(iter(results.values()))
    levels = {f"level {level}": level for level in LEVELS}
    for network in networks:
        of_seeds = [of_seed[network] for of_seed in results.values()]
        mean = [statistics.mean(values) for values in zip(*of_seeds, strict=True)]
        single = network in levels
        axes.plot(
            TESTED,
            mean,
            label=None if single else network,
            color="0.7" if single else None,
            linewidth=1 if single else 2,
        )
        if single:
            level = levels[network]
            label = "one level each" if level == LEVELS[0] else None
            axes.plot(level, mean[TESTED.index(level)], "o", color="0.4", label=label)
    axes.set_xlabel("standard deviation of the noise")
    axes.set_ylabel("peak signal-to-noise ratio, dB")
    axes.legend()
    figure.savefig(path)


def main(arguments: list[str] | None = None) -> None:
    """Trains with each seed, as far as that is not done, and draws the curves."""
    parser = parser_of("noise_levels.py", __doc__.splitlines()[0], epochs=1)
    options = parser.parse_args(arguments)
    from common import training  # noqa: F401  here, since TensorFlow takes seconds to load
    from common.images import datasets

    data = datasets.load_images("mnist")
    print(data.description)
    results = train_seeds(options, partial(train, data, epochs=options.epochs))
    path = Path(options.output) / "noise_levels.png"
    plot(results, path)
    print(f"plot     {path}\nresults  {path.with_name('results.json')}")


if __name__ == "__main__":
    run(main)
