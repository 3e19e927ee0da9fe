"""A network learns one task after the other, and a hypernetwork keeps it from forgetting.

    python examples/continual.py toy
    python examples/continual.py split-mnist --seeds 0 1 2
    python examples/continual.py permuted-mnist --tasks 10 --methods hyper fine-tune

A hypernetwork generates the weights of a small network from the embedding of a task, and a second
loss protects the weights for earlier tasks (von Oswald et al., 2020:
https://arxiv.org/abs/1906.00695). For comparison: the same without protection, one plain network
trained on each task in turn, and one trained on all of them at once. After an interruption, the
same command resumes.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

from common.command_line import ArgumentParser, at_least_zero, positive_integer, run, seed
from common.continual.settings import SETTINGS, Settings
from experiments.definitions import RESULTS

WRITERS = {
    "hyper": "whole weights, those of earlier tasks protected",
    "low-rank": "low-rank changes of one network, protected",
    "scaling": "scales of one network, protected",
    "unprotected": "as hyper, but not protected",
}
METHODS = {
    **WRITERS,
    "fine-tune": "one plain network, trained on each task in turn",
    "joint": "one plain network, trained on all of them at once",
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads a command line, `sys.argv` unless given."""
    parser = ArgumentParser(prog="continual.py", description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", choices=list(SETTINGS))
    parser.option("--tasks", positive_integer, 10, "number of tasks of permuted-mnist")
    explained = "; ".join(f"{name}: {text}" for name, text in METHODS.items())
    default = ["hyper", "unprotected", "fine-tune", "joint"]
    parser.option("--methods", str, default, explained, nargs="+", choices=list(METHODS))
    parser.option(
        "--strength", at_least_zero, None, "of the regularizer (default: the benchmark's)"
    )
    parser.option("--steps", positive_integer, None, "of each task (default: the benchmark's)")
    parser.option("--seeds", seed, [0], "one run of each method for each seed", nargs="+")
    parser.option("--output", str, None, "folder (default: runs/continual/BENCHMARK)")
    parser.add_argument(
        "--check", action="store_true", help="compare the order of methods with RESULTS.md"
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error arose")
    options = parser.parse_args(arguments)
    options.settings = replace(
        SETTINGS[options.benchmark],
        **{
            name: getattr(options, name)
            for name in ("strength", "steps")
            if getattr(options, name) is not None
        },
    )
    options.output = Path(options.output or f"runs/continual/{options.benchmark}")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Trains all methods, as far as that is not done, prints how they compare and draws it."""
    options = parse(arguments)
    from common import outputs, training  # noqa: F401  here: TensorFlow takes seconds to load
    from common.continual import comparison, tasks
    from common.continual.training import learn

    made = {
        "toy": tasks.toy,
        "split-mnist": tasks.split_mnist,
        "permuted-mnist": partial(tasks.permuted_mnist, options.tasks),
    }[options.benchmark]()
    results = {}
    for method in dict.fromkeys(options.methods):
        settings = options.settings
        if method not in ("hyper", "low-rank", "scaling"):
            settings = replace(settings, strength=0.0)
        make = partial(make_plain, settings)
        if method in WRITERS:
            make = partial(make_hyper, settings, method, len(made))
        for number in dict.fromkeys(options.seeds):
            folder = options.output / f"{method}-{number}"
            found = learn(
                make,
                partial(compile_model, settings),
                made,
                method == "joint",
                settings,
                number,
                folder,
            )
            results.setdefault(method, {})[str(number)] = found
    comparison.print_table(results)
    comparison.draw(results, options.output)
    outputs.save_json(options.output / "results.json", results)
    if options.check:
        kept = outputs.read_results(RESULTS, f"continual_{options.benchmark}.json")
        comparison.check(results, kept or {})


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


def make_hyper(settings: Settings, method: str, tasks: int):
    """Makes a learner whose weights a hypernetwork writes, from the embedding of a task."""
    import keras

    from common.continual.training import Learner
    from keras_hypernets import HyperNetwork

    # Beside a network of its own, what is written for a task is linear in the task's embedding.
    how = {
        "low-rank": {"generation": "low_rank", "rank": 4, "hidden_units": ()},
        "scaling": {"generation": "scaling", "hidden_units": ()},
    }.get(
        method,
        {
            "base": None,
            "hidden_units": settings.hyper_units,
            "activation": settings.hyper_activation,
            "chunk_size": settings.chunk_size,
            "chunk_embedding_dim": settings.chunk_embedding_dim,
        },
    )
    hyper = HyperNetwork(make_network(settings), **how)
    normal = keras.initializers.RandomNormal(stddev=1.0)
    embedding = keras.layers.Embedding(tasks, settings.embedding_dim, normal)
    inputs, task = keras.Input((settings.inputs,)), keras.Input((), dtype="int32")
    model = keras.Model([inputs, task], hyper(inputs, embedding(task)))

    def protect(learned: int) -> None:
        if settings.strength > 0:
            hyper.protect(embedding(keras.ops.arange(learned)), settings.strength)

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
