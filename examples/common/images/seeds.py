"""Short training runs with several seeds: the work behind the examples of HyperNetwork."""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from common.command_line import ArgumentParser, positive_integer
from common.command_line import seed as seed_integer

BATCH_SIZE = 64


def parser_of(prog: str, description: str, epochs: int) -> ArgumentParser:
    """Makes the parser of an example: its options are `--epochs`, `--seeds` and `--output`."""
    parser = ArgumentParser(prog=prog, description=description)
    parser.option("--epochs", positive_integer, epochs, "passes over the images")
    parser.option("--seeds", seed_integer, [0], "one training run for each", nargs="+")
    name = prog.removesuffix(".py")
    parser.option("--output", str, f"runs/{name}", "folder for everything that is written")
    parser.add_argument("--traceback", action="store_true", help="show where an error arose")
    return parser


def train_seeds(options: argparse.Namespace, train: Callable[..., dict]) -> dict:
    """Trains with each seed that `results.json` does not have yet, and writes it after each.

    Args:
        options: those of `parser_of`.
        train: trains with a `seed` and returns its results.

    Returns:
        The results of all seeds in the file, by seed.

    Raises:
        ValueError: if the file has results with other settings.
    """
    from common import outputs, training

    output, settings = Path(options.output), {"epochs": options.epochs}
    outputs.prepare_output(output, resume=True)
    results = outputs.read_results(output) or {"settings": settings, "seeds": {}}
    if results["settings"] != settings:
        raise ValueError(
            "`--output` holds results with other settings: name another folder. "
            f"Received: {settings} (they had {results['settings']})"
        )
    for seed in dict.fromkeys(options.seeds):
        if str(seed) not in results["seeds"]:
            results["seeds"][str(seed)] = train(seed=seed)
            results = {**results, **training.environment()}
            outputs.save_json(output / "results.json", results)
    return results["seeds"]


def classify(
    make_model: Callable[[int], object], data: object, seed: int, epochs: int, batch_size: int
) -> dict:
    """Trains a classifier and returns its test accuracy in percent, its size and the time.

    Args:
        make_model: makes the compiled model, given the number of training steps.
        data: an `ImageData`.
        seed, epochs, batch_size: of the training.
    """
    import keras

    from common.images.training import trainable_parameters

    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = make_model(epochs * -(-len(data.train[0]) // batch_size))
    began = time.perf_counter()
    model.fit(
        *data.train,
        batch_size=batch_size,
        epochs=epochs,
        validation_data=data.validation,
        validation_batch_size=batch_size,
        verbose=2,
    )
    seconds = time.perf_counter() - began
    _, accuracy = model.evaluate(*data.test(), batch_size=batch_size, verbose=0)
    return {
        "test_accuracy": round(100 * accuracy, 2),
        "parameters": trainable_parameters(model),
        "seconds": round(seconds, 1),
    }


def classify_with_seeds(prog: str, description: str, epochs: int, make_model: Callable, arguments):
    """Reads a command line, trains a classifier of MNIST with each seed, and prints accuracies.

    Args:
        prog, description, epochs: as for `parser_of`.
        make_model: as for `classify`.
        arguments: the command line, `None` for `sys.argv`.
    """
    options = parser_of(prog, description, epochs).parse_args(arguments)
    from common import training  # noqa: F401  here, since TensorFlow takes seconds to load
    from common.images import datasets

    data = datasets.load_images("mnist")
    print(data.description)
    train = partial(classify, make_model, data, epochs=options.epochs, batch_size=BATCH_SIZE)
    print_accuracies(train_seeds(options, train), options.output)


def print_accuracies(results: dict[str, dict], output: str) -> None:
    """Prints a line for each seed, the mean, and where the results are."""
    for seed, result in results.items():
        print(f"seed {seed}: test accuracy {result['test_accuracy']:.2f} %", end=", ")
        print(f"{result['parameters']:,} weights, {result['seconds']:.0f} s of training")
    mean = statistics.mean(result["test_accuracy"] for result in results.values())
    print(f"mean: {mean:.2f} %\nresults  {Path(output) / 'results.json'}")
