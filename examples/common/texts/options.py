"""The options of `char_lm.py`."""

import argparse

from common.command_line import (
    ArgumentParser,
    checked,
    count,
    factor,
    length,
    positive_integer,
    seed,
    tensorboard_option,
)
from common.recurrent_options import add_model_options, add_training_options, fill_in

CHECKPOINT = "runs/char_lm/best.keras"

temperature = checked(float, "a number in [0, 1e30]", lambda value: 0 <= value <= 1e30)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads a command line, `sys.argv` unless given, and fills in the options of the cell."""
    parser = ArgumentParser(
        prog="char_lm.py",
        description="A character language model: train it, evaluate it, let it write, export it.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train = commands.add_parser("train", help="train a model, then evaluate and export it")
    evaluate = commands.add_parser("evaluate", help="bits per character of a trained model")
    generate = commands.add_parser("generate", help="let a trained model write")
    export = commands.add_parser("export", help="write a trained model as a SavedModel")

    for command in (train, evaluate):
        _add_data_options(command)
        command.option(
            "--train-characters",
            count,
            100_000,
            "characters of the training text to evaluate, from its beginning; 0: all",
        )
    add_model_options(train, 160, "models.char_language_model")
    train.option(
        "--token-embedding-size",
        positive_integer,
        None,
        "size of learned character vectors (default: one-hot characters)",
    )
    _add_batching_options(train)
    add_training_options(train, "text", learning_rate=0.008, clip_norm=1.0)
    train.option("--output", str, "runs/char_lm", "folder for everything the run writes")
    train.add_argument(
        "--resume",
        action="store_true",
        help="resume the run in --output, to the same result, or start it",
    )
    tensorboard_option(train)
    for command in (evaluate, generate, export):
        command.option("--checkpoint", str, CHECKPOINT, "model to load, a .keras file")
    train.option(
        "--prompt", str, None, "beginning of the sample (default: that of the validation text)"
    )
    generate.option("--prompt", str, None, "text to continue", required=True)
    generate.option(
        "--top-k",
        positive_integer,
        None,
        "sample from this many most likely characters (default: all)",
    )
    generate.option(
        "--top-p",
        factor,
        None,
        "sample from the most likely characters of this total probability (default: all)",
    )
    generate.option("--stop", str, None, "text that ends the writing, such as $'\\n\\n'")
    for command in (train, generate):
        command.option("--length", length, 500, "characters to write, at most")
        command.option("--temperature", temperature, 0.8, "of the sampling; 0: most likely")
        command.option("--seed", seed, 0, "the same seed gives the same result")
    export.option(
        "--output", str, "runs/char_lm/saved_model", "folder to write, or SavedModel to replace"
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
        "python-stdlib",
        "python-stdlib, tiny_shakespeare, a folder with ptb.{train,valid,test}.txt, or any UTF-8 "
        "text file or folder of text files",
    )
    parser.option(
        "--validation-share",
        float,
        0.05,
        "share of a file or folder to use as validation text, and the same again as test text",
    )


def _add_batching_options(parser):
    parser.option(
        "--batching",
        str,
        "streams",
        "streams: contiguous, states carried from batch to batch (truncated backpropagation); "
        "windows: shuffled, states begin at zero",
        choices=("streams", "windows"),
    )
    parser.option("--sequence-length", positive_integer, 100, "characters of one row of a batch")
    parser.option("--batch-size", positive_integer, 32, "rows of a batch")
