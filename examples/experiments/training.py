"""One training of the experiments of RESULTS.md: the work behind `results.py train`."""

import argparse
from importlib import import_module
from pathlib import Path

from common import training  # before Keras, so that TensorFlow starts without its notes

# isort: split
import keras
import numpy as np

import char_lm
import strokes
from common import outputs
from common.images import datasets as image_datasets
from common.sequence_training import choose_learning_rate
from common.texts import evaluation
from experiments.definitions import EXPERIMENTS, Drawings, Sequences, Text, folder_of, kept_results


def train(name: str, row: str, seed: int, options: argparse.Namespace) -> None:
    """Trains a row of an experiment with a seed, as far as that is not done, and writes results."""
    experiment = EXPERIMENTS[name]
    output = folder_of(options.output, name, row, seed, options.small)
    results = outputs.read_results(output)
    if results is None:
        kind = train_sequences if isinstance(experiment, Sequences) else train_images
        results = kind(name, row, seed, options)
        outputs.save_json(output / "results.json", results)
    best = min(record[experiment.validation] for record in results["history"])
    print(f"{name}, {row}, seed {seed}: {experiment.validation} {best:.4f}")


def train_sequences(name: str, row: str, seed: int, options: argparse.Namespace) -> dict:
    """Trains a model of texts or of drawings."""
    experiment = EXPERIMENTS[name]
    folder = folder_of(options.output, name, row, seed, options.small)
    script, data = char_lm, options.ptb if experiment.data == "ptb" else experiment.data
    if isinstance(experiment, Drawings):
        script, data = strokes, str(Path(options.drawings, experiment.data))
    command = ["train", *experiment.shared.split(), *experiment.rows[row].split()]

    def make_run(rate, epochs):
        more = f"--seed {seed} --learning-rate {rate} --epochs {epochs} --resume".split()
        more += ["--data", data, "--output", str(folder / str(rate))]
        run = script.make_run(script.parse([*command, *more]))
        if row in experiment.starts:  # what is resumed overwrites that
            experiment.starts[row](run.model.get_layer("recurrent_0").cell)
        return run

    choice = {}
    if experiment.rate:
        rate = experiment.rate
    elif options.small or seed != experiment.seeds[0]:
        rate = chosen_rate(name, row, options.output)
    else:
        rate, scores, _ = choose_learning_rate(make_run, experiment.rates, experiment.short)
        choice = {"short_runs": scores}
    run = make_run(rate, experiment.small if options.small else experiment.epochs)
    results = results_of(run, options.small) | choice
    if not options.small:
        results |= singular_values(run.best.path) if isinstance(experiment, Text) else {}
        if isinstance(experiment, Drawings):
            run.draw(run.load(run.best.path))
    results["settings"] |= {"data": experiment.data}
    results["settings"].pop("prompt", None)
    return results


def results_of(run, small: bool) -> dict:
    """Trains as long as numbers are numbers, and returns the results, the history if `small`."""
    diverged = False
    try:
        run.fit()
    except training.Diverged as error:
        if not run.checkpoint.history:
            raise
        diverged = True
        print(error)
    history = {"history": run.checkpoint.history, "settings": run.settings}
    results = history if small else run.results()
    results["settings"] |= {"diverged": diverged}
    return results


def chosen_rate(name: str, row: str, output: str) -> float:
    """Returns the learning rate of the first training of a row, here or in docs/results.

    Raises:
        ValueError: if that is not done.
    """
    folder = folder_of(output, name, row, EXPERIMENTS[name].seeds[0])
    found = [outputs.read_results(folder), *kept_results(name).get(row, ())]
    rates = [results["settings"]["learning_rate"] for results in found if results]
    if not rates:
        raise ValueError(
            "The first seed must have chosen a learning rate. "
            f"Received: {name}, {row}, with results neither in docs/results nor in {folder}"
        )
    return rates[0]


def singular_values(path: Path) -> dict:
    """Returns those of the scale maps, (paths x and h, gates, embedding_dim), if there are any."""
    cell = evaluation.load(path).get_layer("recurrent_0").cell
    if getattr(cell, "weight_generation", None) != "scaling":
        return {}
    maps = keras.ops.convert_to_numpy(cell.scale_kernel)[: 2 * cell.gates]
    values = np.linalg.svd(maps, compute_uv=False)
    return {"singular_values": values.reshape(2, cell.gates, -1).tolist()}


def train_images(name: str, row: str, seed: int, options: argparse.Namespace) -> dict:
    """Trains an image classifier."""
    experiment = EXPERIMENTS[name]
    script = import_module(experiment.data)
    network, own = experiment.rows[row]
    small = experiment.small if options.small else ""
    command = f"{experiment.shared} {own} {small} --resume".split()
    data = image_datasets.load_images(experiment.data)
    output = folder_of(options.output, name, row, seed, options.small)
    run = script.make_run(script.parse(command), data, network, seed, output / "run")
    run.fit()
    return run.report()
