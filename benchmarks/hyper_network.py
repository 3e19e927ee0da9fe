"""How long a network takes with weights from a HyperNetwork, beside the network alone.

    python benchmarks/hyper_network.py
    python benchmarks/hyper_network.py --targets cnn --batches 64 --rounds 9
    python benchmarks/hyper_network.py --memory             # peak memory, a process for each

Targets are an MLP (784-64-10), a CNN (3 convolutions of 16, 32 and 64 filters on 32 x 32 x 3) and
MobileNetV2 (96 x 96). The generator has 32 hidden units and reads 16 numbers for each sample.
"batch" is one set of weights for the whole batch, "per sample" one for each sample. "writing" is
the generator alone, for each sample, "loop" a Python loop over the samples of a batch, and
"vectorized_map" keras.ops.vectorized_map over them: what one would write without per_sample. The
two are left out for MobileNetV2, whose batch normalization needs the batch.

Training is forward, backward and Adam; inference is one call; neither compiles the whole step by
XLA. Every round takes some steps of each variant, in another order each time; printed are medians
over the rounds, and ratios to the target alone in the same round with their quartiles. For CPUs.
Nothing else should run on the machine.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from common import training  # noqa: E402  before Keras, so that TensorFlow starts without its notes

# isort: split
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers, ops  # noqa: E402
from memory import megabytes  # noqa: E402
from rounds import measure, print_table, summarize  # noqa: E402

import keras_hypernets as hypernets  # noqa: E402
from common import outputs  # noqa: E402

CONDITION = 16
ALONE = "alone"


def mlp() -> keras.Model:
    """Makes an MLP of 50,890 weights."""
    return keras.Sequential(
        [keras.Input((784,)), layers.Dense(64, "relu"), layers.Dense(10)], name="mlp"
    )


def cnn() -> keras.Model:
    """Makes a CNN of 24,234 weights."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(64, 3, strides=2, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ],
        name="cnn",
    )


def mobilenet_v2() -> keras.Model:
    """Makes a MobileNetV2 with 10 classes."""
    return keras.applications.MobileNetV2((96, 96, 3), weights=None, classes=10)


SHAPES = {mlp: (784,), cnn: (32, 32, 3), mobilenet_v2: (96, 96, 3)}
TARGETS = {make.__name__: make for make in SHAPES}
GENERATIONS = {"full": {}, "low_rank": {"rank": 4}, "scaling": {}}


def variants(make: Callable[[], keras.Model]) -> dict[str, Callable[[], keras.Layer]]:
    """Returns makers of networks, by name: of the inputs and one condition for each sample."""

    def around(**options):
        return hypernets.HyperNetwork(make(), hidden_units=(32,), **options)

    makers = {ALONE: lambda: Alone(make())}
    large = make is mobilenet_v2
    for per_sample in (False, True):
        for generation, options in GENERATIONS.items():
            if not (large and generation == "full"):
                name = f"{'per sample' if per_sample else 'batch'}, {generation}"
                options = {"generation": generation, "per_sample": per_sample, **options}
                makers[name] = partial(around, **options)
    if not large:
        for name, kind in (("writing", Writing), ("loop", Loop), ("vectorized_map", VectorizedMap)):
            makers[f"full, {name}"] = lambda kind=kind: kind(around(per_sample=True))
    return makers


class Alone(layers.Layer):
    """The target with its own weights."""

    def __init__(self, target):
        super().__init__()
        self.target = target

    def call(self, inputs, condition):
        return self.target(inputs)


class Around(layers.Layer):
    """Base class of what one can do with the weights that a HyperNetwork generates."""

    def __init__(self, hyper):
        super().__init__()
        self.hyper = hyper

    def build(self, inputs_shape, condition_shape):
        self.hyper.build(inputs_shape, condition_shape)

    def run(self, image, weights):
        """Runs the target on one sample with its weights."""
        target = self.hyper.target
        of_path = {variable.path: variable for variable in target.variables}
        mapping = [(of_path[path], weight) for path, weight in weights.items()]
        with keras.StatelessScope(mapping):
            return target(image[None])[0]


class Writing(Around):
    """Writes the weights and does nothing with them."""

    def call(self, inputs, condition):
        weights = self.hyper.generated_weights(condition)
        return sum(ops.mean(weight) for weight in weights.values())


class Loop(Around):
    """A Python loop over the samples."""

    def call(self, inputs, condition):
        weights = self.hyper.generated_weights(condition)
        samples = range(inputs.shape[0])
        return ops.stack(
            [self.run(inputs[n], {path: w[n] for path, w in weights.items()}) for n in samples]
        )


class VectorizedMap(Around):
    """`keras.ops.vectorized_map` over the samples."""

    def call(self, inputs, condition):
        weights = self.hyper.generated_weights(condition)
        return ops.vectorized_map(lambda one: self.run(*one), (inputs, weights))


def steps_of(layer: keras.Layer, shape: tuple, batch: int) -> dict[str, Callable[[], tf.Tensor]]:
    """Makes functions of one training step and of one call."""
    x = tf.random.normal((batch, *shape))
    # Equal rows, which weights for the batch need.
    condition = tf.repeat(tf.random.normal((1, CONDITION)), batch, axis=0)
    layer(x, condition)
    weights = layer.trainable_variables
    optimizer = keras.optimizers.Adam()
    optimizer.build(weights)

    @tf.function(jit_compile=False)
    def train():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(layer(x, condition, training=True)))
        optimizer.apply(tape.gradient(loss, weights), weights)
        return loss

    call = tf.function(lambda: layer(x, condition, training=False), jit_compile=False)
    return {"training": train, "inference": call}


def compare(make: Callable[[], keras.Model], batch: int, rounds: int) -> dict[str, dict]:
    """Returns the tables of training and of inference."""
    shape = SHAPES[make]
    steps = {name: steps_of(maker(), shape, batch) for name, maker in variants(make).items()}
    return {
        task: summarize(measure({name: both[task] for name, both in steps.items()}, rounds), ALONE)
        for task in ("training", "inference")
    }


def peak(make: Callable[[], keras.Model], name: str, batch: int) -> float:
    """Returns the megabytes that three training steps of a variant add to this process."""
    keras.ops.convert_to_numpy(keras.ops.ones((2, 2)) @ keras.ops.ones((2, 2)))
    before = megabytes("VmRSS")
    layer = variants(make)[name]()
    step = steps_of(layer, SHAPES[make], batch)["training"]
    for _ in range(3):
        step()
    return megabytes("VmHWM") - before


def compare_memory(make: Callable[[], keras.Model], batch: int) -> dict[str, float]:
    """Returns the peaks of all variants, each in a process of its own."""
    found = {}
    for name in variants(make):
        command = [sys.executable, __file__, "--measure", name, "--targets", make.__name__]
        command += ["--batches", str(batch)]
        run = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        found[name] = json.loads(run.stdout)
        print(f"{name:34} {found[name]:8.0f} MB", flush=True)
    return found


def main() -> None:
    """Measures, prints and writes `results/hyper_network.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--memory", action="store_true", help="peak memory in place of time")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # a variant, in this process
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(peak(TARGETS[options.targets[0]], options.measure, options.batches[0])))
        return
    name = "hyper_network_memory.json" if options.memory else "hyper_network.json"
    path = options.output or Path(__file__).parent / "results" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    results = {"targets": {}, "rounds": options.rounds, **training.environment()}
    for make in map(TARGETS.get, options.targets):
        weights = sum(math.prod(v.shape) for v in make().trainable_variables)
        of_target = results["targets"][make.__name__] = {"weights": weights, "batches": {}}
        for batch in options.batches:
            keras.utils.clear_session()
            print(f"\n{make.__name__}, {weights:,} weights, batch {batch}", flush=True)
            if options.memory:
                of_target["batches"][batch] = compare_memory(make, batch)
            else:
                tables = of_target["batches"][batch] = compare(make, batch, options.rounds)
                for task, table in tables.items():
                    print_table({f"{task}, {variant}": row for variant, row in table.items()})
            outputs.save_json(path, results)


if __name__ == "__main__":
    main()
