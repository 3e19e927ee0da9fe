"""The options of the examples that train recurrent models."""

import argparse

from common.command_line import (
    ArgumentParser,
    count,
    factor,
    name_and_value,
    positive,
    positive_integer,
    rate,
)

# What the layer decides unless the command line does, but for these values of a hyper cell.
CELL_OPTIONS = ("hyper_units", "embedding_dim", "layer_norm", "recurrent_dropout")
HYPER_CELL = {"hyper_units": 32, "embedding_dim": 8}


def add_model_options(parser: ArgumentParser, units: int, model: str) -> None:
    """Adds the options of recurrent layers; `model` is the function that makes them."""
    parser.option("--cell", str, "hyper_lstm", f"lstm, layer_norm_lstm, ...: any of {model}")
    parser.option("--units", positive_integer, units, "units of each recurrent layer")
    parser.option("--layers", positive_integer, 1, "recurrent layers")
    parser.option(
        "--dropout",
        rate,
        0.0,
        "dropout rate between and after the layers; for text also before them",
    )
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
        help="layer normalization (default: as the layer has it)",
    )
    group.add_argument(
        "--cell-option",
        type=name_and_value,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other argument of the recurrent layer, such as weight_generation=full",
    )


def fill_in(parser: ArgumentParser, options: argparse.Namespace) -> None:
    """Fills in the epochs, and moves what not every cell has to the `options.cell_options`."""
    if options.epochs is None and options.steps is None:
        options.epochs = 5
    found = vars(options)
    given = {name: found.pop(name) for name in CELL_OPTIONS}
    more = dict(found.pop("cell_option"))
    for name in more:
        if name in found or name in given or name == "stateful":
            parser.error(f"--cell-option {name}: other options decide that")
    defaults = HYPER_CELL if options.cell.startswith("hyper_") else {}
    given = {name: value for name, value in given.items() if value is not None}
    options.cell_options = {**defaults, **given, **more}


def add_training_options(
    parser: ArgumentParser, data: str, learning_rate: float, clip_norm: float
) -> None:
    """Adds how long and how fast to train; `data` is what an epoch passes over."""
    duration = parser.add_mutually_exclusive_group()
    duration.add_argument("--epochs", type=positive_integer, help="epochs to train (default: 5)")
    duration.add_argument(
        "--steps", type=positive_integer, help="steps to train, instead of --epochs"
    )
    parser.option(
        "--steps-per-epoch",
        positive_integer,
        None,
        f"steps between two validations and checkpoints (default: one pass over the {data})",
    )
    parser.option("--learning-rate", positive, learning_rate, "initial learning rate of Adam")
    parser.option("--learning-rate-decay", factor, 0.5, "factor for the learning rate")
    parser.option(
        "--patience",
        count,
        1,
        "epochs without improvement on validation before the rate decays; 0: after each epoch",
    )
    parser.option(
        "--early-stopping",
        count,
        0,
        "epochs without improvement on validation before training ends; 0: it never ends early",
    )
    parser.option("--clip-norm", positive, clip_norm, "maximum norm of all gradients together")
    parser.switch(
        "--jit-compile",
        None,
        "compile training with XLA (default: as Keras decides; on a CPU it does not, and the "
        "layers compile their own loop)",
    )
