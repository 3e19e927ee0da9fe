"""What `mnist.py` and `cifar10.py` share: a network with generated kernels beside a plain one."""

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from common.command_line import ArgumentParser, positive_integer, seed, tensorboard_option

NETWORKS = ("hyper", "plain")


def add_options(parser: ArgumentParser, batch_size: str, output: str) -> None:
    """Adds the options that say which networks are trained and where results go."""
    parser.option(
        "--batch-size", positive_integer, None, f"images in a step (default: {batch_size})"
    )
    parser.option("--networks", str, NETWORKS, "which to train", nargs="+", choices=NETWORKS)
    parser.option("--seeds", seed, [0], "one run of each network for each seed", nargs="+")
    parser.option("--output", str, output, "folder for everything that is written")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="resume the runs in --output, to the same results, or start them",
    )
    tensorboard_option(parser)
    parser.add_argument("--traceback", action="store_true", help="show where an error arose")


def compare(options: argparse.Namespace, make_run: Callable) -> dict[str, list[dict]]:
    """Trains each network with each seed, as far as that is not done, and writes all results.

    Args:
        options: those of `add_options`.
        make_run: makes the `Run` of a network and a seed, to write to a folder.

    Returns:
        For each network the results of its runs, with those of other seeds in the same folder.

    Raises:
        ValueError: in the end, if a run diverged before it had any results.
    """
    # Here, since mistakes on the command line should show at once.
    from common import outputs, training

    output = Path(options.output)
    # All runs are made before any begins: making them finds what is wrong with the settings.
    runs = [
        make_run(network, number, output / f"{network}-{number}")
        for number in dict.fromkeys(options.seeds)
        for network in dict.fromkeys(options.networks)
    ]
    failed = []
    for run in runs:
        result = outputs.results_of(run.best.path) if run.finished else None
        if result is None:  # else the test images have been read already
            try:
                run.fit()
            except training.Diverged as error:
                failed.append(f"{run.output.name}: {error}")
                continue
            result = run.report()
        error = result["error"]
        print(
            f"{run.output.name}: validation error {error['validation']:.2f} %, test error "
            f"{error['test']:.2f} % at epoch {result['best_epoch']} of {result['epochs']}"
            f"{', where training diverged' if result['diverged'] else ''}"
        )
    results = {network: _all_results(output, network) for network in NETWORKS}
    results = {network: found for network, found in results.items() if found}
    if results:
        _save(output, results)
    if failed:
        raise ValueError(" ".join(failed))
    return results


def _save(output: Path, results: dict[str, list[dict]]) -> None:
    from common import outputs

    outputs.save_json(output / "results.json", results)
    histories = {name: [run["history"] for run in found] for name, found in results.items()}
    outputs.save_learning_curves(
        output / "curves.png", histories, "error", "error, %", logarithmic=True
    )


def _all_results(output: Path, network: str) -> list[dict]:
    """Returns the results of all seeds, also of those that an earlier call has trained."""
    from common import outputs

    found = map(outputs.read_results, output.glob(f"{network}-*"))
    return sorted(filter(None, found), key=lambda result: result["settings"]["seed"])


def print_table(results: dict[str, list[dict]], **columns: dict[str, str]) -> None:
    """Prints for each network its size, mean errors, time, and the test error of each seed.

    Args:
        results: what `compare` returns.
        **columns: more columns: for each heading the entry of each network.
    """
    table = []
    for network, runs in results.items():
        validation, test = ([run["error"][part] for run in runs] for part in ("validation", "test"))
        minutes = statistics.mean(run["wall_seconds"] for run in runs) / 60
        table.append(
            {
                "network": network,
                "weights": f"{runs[0]['parameters']:,}",
                **{heading: column[network] for heading, column in columns.items()},
                "validation error, %": f"{statistics.mean(validation):.2f}",
                "test error, %": f"{statistics.mean(test):.2f}",
                "test error of each seed": ", ".join(f"{error:.2f}" for error in test),
                "ms per step": f"{statistics.median(x['milliseconds_per_step'] for x in runs):.0f}",
                "minutes": f"{minutes:.1f}",
            }
        )
    widths = {name: max(len(name), *(len(row[name]) for row in table)) for name in table[0]}
    print()
    for row in ({name: name for name in widths}, *table):
        print("  ".join(f"{row[name]:>{width}}" for name, width in widths.items()))
    print()


def draw(options: argparse.Namespace, what: str, networks: Sequence[str]) -> list[Path]:
    """Draws the trained networks of the first seed and returns the files.

    Args:
        options: those of `add_options`.
        what: `"filters"` or `"embedding_similarity"`, for the function of `keras_hypernets.plots`.
        networks: which to draw, if they were trained.
    """
    from common import outputs
    from common.images import training
    from keras_hypernets import plots

    output, paths = Path(options.output), []
    for network in [name for name in options.networks if name in networks]:
        model = training.load(output / f"{network}-{options.seeds[0]}" / "best.keras")
        paths.append(output / f"{network}_{what}.png")
        with outputs.replacing(paths[-1]) as unfinished:
            getattr(plots, f"plot_{what}")(model).savefig(unfinished)
    return paths


def print_outputs(options: argparse.Namespace, plots: Sequence[Path]) -> None:
    """Prints where the results are."""
    output = Path(options.output)
    print(f"results     {output / 'results.json'}")
    for plot in (output / "curves.png", *plots):
        print(f"plot        {plot}")
    for network in options.networks:
        print(f"SavedModel  {output / f'{network}-{options.seeds[0]}' / 'saved_model'}")
