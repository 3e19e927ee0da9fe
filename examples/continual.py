"""A network learns one task after the other, and a hypernetwork keeps it from forgetting.

    python examples/continual.py toy
    python examples/continual.py split-mnist --seeds 0 1 2
    python examples/continual.py permuted-mnist --tasks 10 --methods hyper fine-tune

A hypernetwork writes the weights of a small network from the embedding of a task, and is held to
the weights that it wrote for earlier tasks (von Oswald et al., 2020:
https://arxiv.org/abs/1906.00695). Beside it: the same without being held to them, one plain network
that is trained on each task in turn, and one on all of them at once. After an interruption the
command continues.
"""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from common.command_line import ArgumentParser, at_least_zero, positive_integer, run, seed

METHODS = ("hyper", "unprotected", "fine-tune", "joint")
WRITERS = ("chunks", "low_rank", "scaling")


@dataclass(frozen=True)
class Settings:
    """Those of one benchmark, from the authors' public code.

    For split-mnist the generator is that of permuted-mnist: the authors' of four layers of 10 units
    with chunks of 8,000 has too few features to learn a task while it is held to others.
    """

    units: tuple[int, ...]  # of the network that learns, then its outputs
    activation: str
    hyper_units: tuple[int, ...]
    hyper_activation: str
    chunk_size: int | None
    chunk_embedding_dim: int
    embedding_dim: int
    learning_rate: float
    steps: int
    batch_size: int
    strength: float
    clip: float | None = None
    inputs: int = 784


SETTINGS = {
    "toy": Settings(
        (10, 10, 1), "sigmoid", (10, 10), "sigmoid", None, 8, 2, 1e-2, 4000, 32, 0.005, inputs=1
    ),
    "split-mnist": Settings(
        (100, 100, 2), "relu", (100, 100), "relu", 750, 16, 32, 5e-4, 5000, 32, 10
    ),
    "permuted-mnist": Settings(
        (100, 100, 10), "relu", (100, 100), "relu", 750, 16, 32, 5e-4, 5000, 128, 250, 1.0
    ),
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads a command line, `sys.argv` unless given."""
    parser = ArgumentParser(prog="continual.py", description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", choices=list(SETTINGS))
    parser.option("--tasks", positive_integer, 10, "of permuted-mnist")
    parser.option("--methods", str, METHODS, "which to train", nargs="+", choices=METHODS)
    parser.option(
        "--writer",
        str,
        "chunks",
        "how weights are written: piece by piece, or as a change of trainable ones",
        choices=WRITERS,
    )
    parser.option("--strength", at_least_zero, None, "of the regularizer (default: the authors')")
    parser.option("--steps", positive_integer, None, "of each task (default: the authors')")
    parser.option("--seeds", seed, [0], "one run of each method for each seed", nargs="+")
    parser.option("--output", str, None, "folder (default: runs/continual/BENCHMARK)")
    parser.add_argument("--traceback", action="store_true", help="show where an error arose")
    options = parser.parse_args(arguments)
    settings = SETTINGS[options.benchmark]
    for name in ("strength", "steps"):
        if getattr(options, name) is None:
            setattr(options, name, getattr(settings, name))
    options.output = Path(options.output or f"runs/continual/{options.benchmark}")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Trains all methods, as far as that is not done, prints how they compare and draws it."""
    options = parse(arguments)
    from common import training  # noqa: F401  here, since TensorFlow takes seconds to load
    from common.continual import figures, tasks
    from common.continual.training import learn

    settings = SETTINGS[options.benchmark]
    made = {
        "toy": tasks.toy,
        "split-mnist": tasks.split_mnist,
        "permuted-mnist": partial(tasks.permuted_mnist, options.tasks),
    }[options.benchmark]()
    results = {}
    for method in dict.fromkeys(options.methods):
        for number in dict.fromkeys(options.seeds):
            hyper = method in ("hyper", "unprotected")
            name = f"{method}-{options.writer}" if hyper else method
            strength = options.strength if method == "hyper" else 0.0
            make = partial(make_hyper, settings, options.writer, strength, len(made))
            found = learn(
                make if hyper else partial(make_plain, settings),
                partial(compile_model, settings),
                made,
                method == "joint",
                options.steps,
                settings.batch_size,
                number,
                options.output / f"{name}-{number}",
                {
                    "strength": strength,
                    "writer": options.writer if hyper else None,
                    "tasks": len(made),
                },
            )
            results.setdefault(name, {})[str(number)] = found
    figures.print_table(results)
    figures.draw(results, options.output)


def make_network(settings: Settings):
    """Makes the network that learns."""
    import keras
    from keras.layers import Dense

    *hidden, outputs = settings.units
    layers = [Dense(units, settings.activation) for units in hidden]
    return keras.Sequential([keras.Input((settings.inputs,)), *layers, Dense(outputs)])


def make_plain(settings: Settings):
    """Makes a learner of the network alone."""
    from common.continual.training import Learner

    return Learner(make_network(settings))


def make_hyper(settings: Settings, writer: str, strength: float, tasks: int):
    """Makes a learner whose weights a hypernetwork writes, from the embedding of a task."""
    import keras

    from common.continual.training import Learner
    from keras_hypernets import HyperNetwork

    chunks = {
        "base": None,
        "chunk_size": settings.chunk_size,
        "chunk_embedding_dim": settings.chunk_embedding_dim,
    }
    how = {
        "chunks": chunks,
        "low_rank": {"generation": "low_rank", "rank": 4},
        "scaling": {"generation": "scaling"},
    }[writer]
    hyper = HyperNetwork(
        make_network(settings),
        hidden_units=settings.hyper_units,
        activation=settings.hyper_activation,
        **how,
    )
    normal = keras.initializers.RandomNormal(stddev=1.0)
    embedding = keras.layers.Embedding(tasks, settings.embedding_dim, normal)
    inputs, task = keras.Input((settings.inputs,)), keras.Input((), dtype="int32")
    model = keras.Model([inputs, task], hyper(inputs, embedding(task)))

    def protect(learned: int) -> None:
        if strength > 0:
            hyper.protect(embedding(keras.ops.arange(learned)), strength)

    return Learner(model, protect, knows_task=True)


def compile_model(settings: Settings, model) -> None:
    """Compiles a model for one task, with a new optimizer: Adam would move old embeddings."""
    import keras

    regression = settings.units[-1] == 1
    model.compile(
        keras.optimizers.Adam(settings.learning_rate, global_clipnorm=settings.clip),
        "mse" if regression else keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["mse" if regression else "accuracy"],
        steps_per_execution=10,
    )


if __name__ == "__main__":
    run(main, " (the same command continues)")
