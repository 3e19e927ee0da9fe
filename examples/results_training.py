"""One training of the experiments of RESULTS.md: the work behind `results.py train`."""

import argparse
import json
import shlex
from importlib import import_module
from pathlib import Path

import training  # noqa: F401  before Keras, so that TensorFlow starts without its notes

# isort: split
import char_lm_evaluation
import char_lm_options
import char_lm_training
import image_datasets
import keras
import learning_rates
import numpy as np
import outputs
from experiments import EXPERIMENTS, RATES, Images, Text, folder_of

RESULTS = Path(__file__).parent.parent / "docs" / "results"


def train(name: str, row: str, seed: int, options: argparse.Namespace) -> None:
    """Trains a row of an experiment with a seed, as far as that is not done, and writes results."""
    experiment = EXPERIMENTS[name]
    output = folder_of(options.output, name, row, seed)
    results = outputs.read_results(output)
    if results is None:
        kind = train_text if isinstance(experiment, Text) else train_images
        results = kind(name, experiment, row, seed, options)
        outputs.save_json(output / "results.json", results)
    best = min(record[experiment.validation] for record in results["history"])
    print(f"{name}, {row}, seed {seed}: {experiment.validation} {best:.4f}")


def train_text(
    name: str, experiment: Text, row: str, seed: int, options: argparse.Namespace
) -> dict:
    """Trains a language model."""
    folder = folder_of(options.output, name, row, seed)
    data = options.ptb if experiment.data == "ptb" else experiment.data
    command = ["train", *experiment.shared.split(), *experiment.rows[row].split()]

    def run(rate, epochs):
        more = f"--seed {seed} --learning-rate {rate} --epochs {epochs} --resume".split()
        more += ["--data", data, "--output", str(folder / str(rate))]
        made = char_lm_training.Run(char_lm_options.parse([*command, *more]))
        if row in experiment.starts:
            experiment.starts[row](made.model.get_layer("recurrent_0").cell)
        return made

    chosen = {}
    if options.small:
        rate = chosen_rate(RESULTS / f"{name}.json", row)
        made = run(rate, experiment.small)
        return {"history": made.fit(), "settings": {**made.settings, "data": experiment.data}}
    if seed == experiment.seeds[0]:
        made, grid, seconds = learning_rates.fit_at_best_rate(
            run, RATES, experiment.short, experiment.epochs
        )
        chosen = {"short_runs": grid, "seconds_of_all_runs": seconds}
    else:
        first = outputs.read_results(folder_of(options.output, name, row, experiment.seeds[0]))
        made = run(first["settings"]["learning_rate"], experiment.epochs)
        made.fit()
    results = made.score()
    results["settings"]["data"] = experiment.data  # wherever that was
    del results["settings"]["prompt"]
    return {**results, **chosen, **singular_values(made.best.path)}


def chosen_rate(path: Path, row: str) -> float:
    """Returns the learning rate with which a row of RESULTS.md was trained."""
    return json.loads(path.read_text("utf-8"))[row][0]["settings"]["learning_rate"]


def singular_values(path: Path) -> dict:
    """Returns those of the scale maps, (paths x and h, gates, embedding_dim), if there are any."""
    cell = char_lm_evaluation.load(path).get_layer("recurrent_0").cell
    if getattr(cell, "weight_generation", None) != "scaling":
        return {}
    maps = keras.ops.convert_to_numpy(cell.scale_kernel)[: 2 * cell.gates]
    values = np.linalg.svd(maps, compute_uv=False)
    return {"singular_values": values.reshape(2, cell.gates, -1).tolist()}


def train_images(
    name: str, experiment: Images, row: str, seed: int, options: argparse.Namespace
) -> dict:
    """Trains an image classifier."""
    script = import_module(experiment.script)
    network, own = experiment.rows[row]
    small = experiment.small if options.small else ""
    command = shlex.split(f"{experiment.shared} {own} {small} --resume")
    data = image_datasets.load_images(experiment.script)
    output = folder_of(options.output, name, row, seed)
    made = script.make_run(script.parse(command), data, network, seed, output)
    made.fit()
    return made.report()
