"""Validation accuracy early in training, by the momentum of batch normalization.

    python benchmarks/batch_norm.py    # CIFAR-10; half an hour on a core

`hyper_resnet(16, 1)` with generated and with plain kernels is trained for one pass over CIFAR-10
(Adam 0.002, batches of 128). Momentum changes the moving averages only, not the training: one
training of each network and seed serves all momenta. "batch" classifies by the statistics of the
validation batch itself, which shows what the weights are worth.

These are numbers, not times: other work on the machine does no harm.
"""

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from common import training  # noqa: E402  before Keras, so that TensorFlow starts without its notes

# isort: split
import keras  # noqa: E402
import numpy as np  # noqa: E402

from common import outputs  # noqa: E402
from common.images import batching, datasets  # noqa: E402
from keras_hypernets import models  # noqa: E402

MOMENTA = (0.99, 0.9, 0.8)
STEPS = (88, 176, 351)  # a quarter, a half and the whole of a pass
BATCH, VALIDATION = 128, 2000
MEAN, DEVIATION = np.array([125.3, 123.0, 113.9]), np.array([63.0, 62.1, 66.7])


class MovingAverages:
    """The moving statistics that every momentum would have, of layers with momentum 0.

    Those leave the statistics of the last batch.
    """

    def __init__(self, model: keras.Model):
        layers = [
            layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)
        ]
        for layer in layers:
            layer.momentum = 0.0
        self.variables = [v for layer in layers for v in (layer.moving_mean, layer.moving_variance)]
        self.averages = {m: [v.numpy() for v in self.variables] for m in MOMENTA}

    def update(self) -> None:
        """Adds the last batch to all averages."""
        for momentum, averages in self.averages.items():
            for average, variable in zip(averages, self.variables, strict=True):
                average *= momentum
                average += (1 - momentum) * variable.numpy()

    def use(self, momentum: float) -> None:
        """Gives the model the averages of one momentum."""
        for average, variable in zip(self.averages[momentum], self.variables, strict=True):
            variable.assign(average)


def train(hyper: bool, seed: int, data: datasets.ImageData) -> dict[int, dict]:
    """Trains a network and returns its accuracies by step and momentum."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = models.hyper_resnet(16, 1, hyper)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.002), loss)
    averages = MovingAverages(model)
    batches = batching.ImageBatches(*data.train, BATCH, seed, batching.crop_and_flip)
    images, labels = (part[:VALIDATION] for part in data.validation)
    images = normalized(images)

    found = {}
    for step in range(max(STEPS)):
        x, y = batches.batch(step)
        model.train_on_batch(normalized(x), y)
        averages.update()
        if step + 1 in STEPS:
            found[step + 1] = {"batch": accuracy(model(images, training=True), labels)}
            for momentum in MOMENTA:
                averages.use(momentum)
                logits = model.predict(images, batch_size=500, verbose=0)
                found[step + 1][str(momentum)] = accuracy(logits, labels)
    return found


def normalized(images: np.ndarray) -> np.ndarray:
    return ((images - MEAN) / DEVIATION).astype("float32")


def accuracy(logits: object, labels: np.ndarray) -> float:
    """Returns the percentage of right answers."""
    return 100 * float(np.mean(np.argmax(np.asarray(logits), axis=-1) == labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "batch_norm.json"
    )
    options = parser.parse_args()
    data = datasets.load_images("cifar10")
    results = {
        name: {str(seed): train(hyper, seed, data) for seed in options.seeds}
        for name, hyper in (("hyper", True), ("plain", False))
    }
    print("| network | steps | batch | " + " | ".join(f"momentum {m}" for m in MOMENTA) + " |")
    print("|---" * (3 + len(MOMENTA)) + "|")
    for name, runs in results.items():
        for step in STEPS:
            columns = [
                [run[step][c] for run in runs.values()] for c in ("batch", *map(str, MOMENTA))
            ]
            print(f"| {name} | {step} | " + " | ".join(map(mean_and_range, columns)) + " |")
    outputs.save_json(options.output, {"accuracies": results, **training.environment()})


def mean_and_range(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
