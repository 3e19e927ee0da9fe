"""The options of `char_lm.py`."""

import argparse

from common.command_line import (
    ArgumentParser,
    checked,
    count,
    factor,
    length,
    name_and_value,
    positive,
    positive_integer,
    rate,
    seed,
    tensorboard_option,
)

# What the layer decides unless the command line does, but for these values of a hyper cell.
CELL_OPTIONS = ("hyper_units", "embedding_dim", "layer_norm", "recurrent_dropout")
HYPER_CELL = {"hyper_units": 32, "embedding_dim": 8}
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
    _add_model_options(train)
    _add_training_options(train)
    train.option("--output", str, "runs/char_lm", "folder for everything the run writes")
    train.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in --output as if it had not been stopped, or begin it",
    )
    tensorboard_option(train)
    for command in (evaluate, generate, export):
        command.option("--checkpoint", str, CHECKPOINT, "model to load, a .keras file")
    train.option("--prompt", str, None, "beginning of the sample (default: of the validation text)")
    generate.option("--prompt", str, None, "text to continue", required=True)
    generate.option(
        "--top-k", positive_integer, None, "draw from so many characters (default: all)"
    )
    generate.option(
        "--top-p", factor, None, "draw from the most likely characters of this share (default: all)"
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
        _fill_in_cell_options(train, options)
        if options.epochs is None and options.steps is None:
            options.epochs = 5
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
        "share of a file or folder that is validation text, and as much again test text",
    )


def _add_model_options(parser):
    parser.option(
        "--cell", str, "hyper_lstm", "lstm, layer_norm_lstm, ...: any of models.char_language_model"
    )
    parser.option("--units", positive_integer, 160, "units of each recurrent layer")
    parser.option("--layers", positive_integer, 1, "recurrent layers")
    parser.option("--dropout", rate, 0.0, "rate on the input of each layer and the last output")
    parser.option("--token-embedding-size", positive_integer, None, "default: one-hot characters")
    group = parser.add_argument_group("options that not every cell has")
    group.add_argument(
        "--hyper-units", type=positive_integer, help="units of the hyper cell (default: 32)"
    )
    group.add_argument(
        "--embedding-dim", type=positive_integer, help="size of each embedding z (default: 8)"
    )
    group.add_argument(
        "--recurrent-dropout", type=rate, help="rate of the layer's recurrent dropout (default: 0)"
    )
    group.add_argument(
        "--layer-norm",
        action=argparse.BooleanOptionalAction,
        help="layer normalisation (default: as the layer has it)",
    )
    group.add_argument(
        "--cell-option",
        type=name_and_value,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other argument of the recurrent layer, such as weight_generation=full",
    )


def _add_training_options(parser):
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
    duration = parser.add_mutually_exclusive_group()
    duration.add_argument("--epochs", type=positive_integer, help="epochs to train (default: 5)")
    duration.add_argument("--steps", type=positive_integer, help="or: steps to train")
    parser.option(
        "--steps-per-epoch",
        positive_integer,
        None,
        "steps between two validations and checkpoints (default: one pass over the text)",
    )
    parser.option("--learning-rate", positive, 0.008, "of Adam, at the beginning")
    parser.option("--learning-rate-decay", factor, 0.5, "factor for the learning rate")
    parser.option(
        "--patience",
        count,
        1,
        "epochs without a better validation before the rate decays; 0: it decays after each epoch",
    )
    parser.option("--clip-norm", positive, 1.0, "largest norm of all gradients together")
    parser.switch(
        "--jit-compile",
        None,
        "compile training with XLA (default: as Keras decides; on a CPU it does not, and the "
        "layers compile their own loop)",
    )


def _fill_in_cell_options(parser, options):
    """Moves the options that not every cell has to the dictionary `options.cell_options`."""
    found = vars(options)
    given = {name: found.pop(name) for name in CELL_OPTIONS}
    more = dict(found.pop("cell_option"))
    for name in more:
        if name in found or name in given or name == "stateful":
            parser.error(f"--cell-option {name}: other options decide that")
    defaults = HYPER_CELL if options.cell.startswith("hyper_") else {}
    given = {name: value for name, value in given.items() if value is not None}
    options.cell_options = {**defaults, **given, **more}
