"""The options of `strokes.py`."""

import argparse

from common.command_line import (
    ArgumentParser,
    at_least_zero,
    checked,
    count,
    length,
    positive_integer,
    seed,
    tensorboard_option,
)
from common.recurrent_options import add_model_options, add_training_options, fill_in

points = checked(int, "an integer of at least 2", lambda value: value >= 2)
temperature = checked(float, "a number in [0, 1e30]", lambda value: 0 <= value <= 1e30)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads a command line, `sys.argv` unless given, and fills in the options of the cell."""
    parser = ArgumentParser(
        prog="strokes.py",
        description="A model of drawings: train it, evaluate it, let it draw, export it.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train = commands.add_parser("train", help="train a model, then evaluate and export it")
    evaluate = commands.add_parser("evaluate", help="nats per point and drawing of a model")
    generate = commands.add_parser("generate", help="let a trained model draw")
    export = commands.add_parser("export", help="write a trained model as a SavedModel")

    for command in (train, evaluate):
        _add_data_options(command)
    add_model_options(train, 220, "models.stroke_model")
    train.option("--mixtures", positive_integer, 20, "Gaussians for the next point")
    train.option("--batch-size", positive_integer, 32, "drawings in a batch")
    add_training_options(train, "drawings", learning_rate=0.002, clip_norm=5.0)
    train.option("--output", str, "runs/strokes", "folder for everything the run writes")
    train.add_argument(
        "--resume",
        action="store_true",
        help="resume the run in --output, to the same result, or start it",
    )
    tensorboard_option(train)
    for command in (evaluate, generate, export):
        command.option(
            "--checkpoint", str, "runs/strokes/best.keras", "model to load, a .keras file"
        )
    generate.option("--count", positive_integer, 40, "drawings to make")
    generate.option("--length", length, 50, "points of each")
    generate.option("--output", str, "runs/strokes/generated", "name of the .svg and .png to write")
    for command in (train, generate):
        command.option("--temperature", temperature, 0.4, "of the sampling; 0: most likely")
        command.option("--seed", seed, 0, "the same seed gives the same result")
    export.option(
        "--output", str, "runs/strokes/saved_model", "folder to write, or SavedModel to replace"
    )
    for command in (train, evaluate, generate, export):
        command.add_argument("--traceback", action="store_true", help="show where an error arose")

    options = parser.parse_args(arguments)
    if options.command == "train":
        fill_in(train, options)
    return options


def _add_data_options(parser):
    parser.option(
        "--data",
        str,
        "glyphs",
        "glyphs (the letters of matplotlib's fonts), an .npz file of "
        "https://github.com/hardmaru/sketch-rnn-datasets, or IAM-OnDB's folder lineStrokes",
    )
    parser.option("--min-points", points, 2, "drawings with fewer points are left out")
    parser.option("--max-points", points, 200, "drawings with more points are left out")
    parser.option(
        "--resolution",
        at_least_zero,
        None,
        "grid spacing of the coordinates, and width of the uniform noise added to them (default: 1 "
        "if all are whole numbers, else 0)",
    )
    parser.option(
        "--train-drawings", count, 1000, "training drawings to evaluate, the first ones; 0: all"
    )
