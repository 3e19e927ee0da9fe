"""A model of handwriting and drawings: train it, evaluate it, let it draw, export it.

    python examples/strokes.py train                  # reads the letters of matplotlib's fonts
    python examples/strokes.py train --data kanji.rdp100.npz --output runs/kanji
    python examples/strokes.py train --data lineStrokes --min-points 300 --max-points 2000
    python examples/strokes.py evaluate --data kanji.rdp100.npz --checkpoint runs/kanji/best.keras
    python examples/strokes.py generate --checkpoint runs/kanji/best.keras --temperature 0.3
    python examples/strokes.py export --checkpoint runs/kanji/best.keras --output my_saved_model

Files such as kanji.rdp100.npz are at https://github.com/hardmaru/sketch-rnn-datasets. The task is
that of HyperNetworks (Ha et al., 2016), section 4.5: https://arxiv.org/abs/1609.09106.
"""

import argparse
from functools import partial
from pathlib import Path

from common.command_line import run
from common.strokes.options import parse


def train(options: argparse.Namespace) -> None:
    """Trains a model and writes all that comes of it."""
    run = make_run(options)
    if run.steps < run.checkpoint.step:
        raise ValueError(
            "`--epochs` or `--steps` must not be less than the steps already trained. "
            f"Received: {run.steps} steps, {run.checkpoint.step} of which are done"
        )
    print(run.data.description)
    run.fit()
    run.report()
    written = {
        "model": "best.keras",
        "SavedModel": "saved_model",
        "results": "results.json",
        "plot": "curve.png",
        "drawings": "drawings.png",
    }
    if run.generates_weights:
        written["changes"] = "weight_changes.png"
    for what, name in written.items():
        if (run.output / name).exists():  # a SavedModel only on the TensorFlow backend
            print(f"{what:10}  {run.output / name}")


def make_run(options: argparse.Namespace):
    """Makes a training run, new or resumed: `fit` trains the model, `report` tests it."""
    from common.strokes.training import Run

    return Run(options, partial(make_model, options))


def make_model(options: argparse.Namespace):
    """Makes the model that the options describe."""
    from keras_hypernets import models

    return models.stroke_model(
        options.units,
        layers=options.layers,
        cell=options.cell,
        mixtures=options.mixtures,
        dropout=options.dropout,
        seed=options.seed,
        **options.cell_options,
    )


def evaluate(options: argparse.Namespace) -> None:
    """Prints the nats per point and per drawing of a trained model."""
    from common import outputs
    from common.strokes import datasets, evaluation

    data = datasets.load_drawings(
        options.data, options.min_points, options.max_points, options.resolution
    )
    model = evaluation.load(options.checkpoint)
    print(data.description)
    evaluation.evaluate_parts(model, data, options.train_drawings)
    other = "other drawings, or another choice of these"
    outputs.warn_of_other_data(options.checkpoint, data.sha256, other)


def generate(options: argparse.Namespace) -> None:
    """Writes pictures of what a trained model draws."""
    from common.strokes import evaluation, pictures

    model = evaluation.load(options.checkpoint)
    lengths = [options.length] * options.count
    drawings = evaluation.generate(model, lengths, options.temperature, options.seed)
    figure = pictures.draw_grid(drawings)
    for ending in (".svg", ".png"):
        path = Path(options.output + ending)
        path.parent.mkdir(parents=True, exist_ok=True)
        pictures.save(figure, path)
        print(f"drawings  {path}")


def export(options: argparse.Namespace) -> None:
    """Writes a trained model as a SavedModel, with what is known of its training."""
    from common import exporting
    from common.strokes import evaluation

    checkpoint = Path(options.checkpoint)
    exporting.export(evaluation.load(checkpoint), checkpoint, "nats_per_drawing", options.output)


def main(arguments: list[str] | None = None) -> None:
    """Carries out one command."""
    options = parse(arguments)
    from common import training  # noqa: F401  here, since TensorFlow takes seconds to load

    commands = {"train": train, "evaluate": evaluate, "generate": generate, "export": export}
    commands[options.command](options)


if __name__ == "__main__":
    run(main, " (train goes on with --resume)")
