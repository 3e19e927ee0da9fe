"""A character language model on real text: train it, evaluate it, let it write, export it.

    python examples/char_lm.py train                   # reads the standard library of your Python
    python examples/char_lm.py train --data my_text.txt --cell lstm --output runs/mine
    python examples/char_lm.py evaluate --data my_text.txt --checkpoint runs/mine/best.keras
    python examples/char_lm.py generate --prompt "def "
    python examples/char_lm.py export --output my_saved_model

The task is that of HyperNetworks (Ha et al., 2016), section 4.3: https://arxiv.org/abs/1609.09106.
This file is the command line; the work is in char_lm_training.py and char_lm_evaluation.py.
"""

import argparse
from pathlib import Path

from command_line import (
    ArgumentParser,
    at_least_zero,
    count,
    factor,
    length,
    name_and_value,
    positive,
    positive_integer,
    rate,
    run,
    seed,
    tensorboard_option,
)

# The options that each cell has, and their values unless the command line says otherwise.
HYPER = {"hyper_units": 32, "embedding_dim": 8}
CELL_OPTIONS = {
    "hyper_lstm": {**HYPER, "layer_norm": True, "recurrent_dropout": 0.0},
    "hyper_gru": {**HYPER, "layer_norm": True, "recurrent_dropout": 0.0},
    "hyper_simple_rnn": {**HYPER, "layer_norm": False},
    "layer_norm_lstm": {"layer_norm": True, "recurrent_dropout": 0.0},
    "lstm": {},
}
CHECKPOINT = "runs/char_lm/best.keras"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads a command line, `sys.argv` unless given, and fills in the options of the cell."""
    parser = ArgumentParser(prog="char_lm.py", description=__doc__.splitlines()[0])
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
        command.option("--temperature", at_least_zero, 0.8, "of the sampling; 0: most likely")
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
    parser.option("--cell", str, "hyper_lstm", "recurrent cell", choices=tuple(CELL_OPTIONS))
    parser.option("--units", positive_integer, 160, "units of each recurrent layer")
    parser.option("--layers", positive_integer, 1, "recurrent layers")
    parser.option("--dropout", rate, 0.0, "rate on the input of each layer and the last output")
    parser.option("--token-embedding-size", positive_integer, None, "default: one-hot characters")
    group = parser.add_argument_group("options that not every cell has")
    for name, kind, text in (
        ("hyper_units", positive_integer, "units of the small cell"),
        ("embedding_dim", positive_integer, "size of each embedding z"),
        ("recurrent_dropout", rate, "rate on the candidate, without memory loss"),
    ):
        defaults = {cell: have[name] for cell, have in CELL_OPTIONS.items() if name in have}
        default = next(iter(defaults.values()))
        text += f" ({', '.join(defaults)}; default: {default})"
        group.add_argument("--" + name.replace("_", "-"), type=kind, help=text)
    group.add_argument(
        "--layer-norm",
        action=argparse.BooleanOptionalAction,
        help="layer normalisation (all cells but lstm; default: yes, no for hyper_simple_rnn)",
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
    parser.add_argument(
        "--jit-compile",
        action=argparse.BooleanOptionalAction,
        help="compile training with XLA (default: as Keras decides; on a CPU it does not, and the "
        "layers compile their own loop)",
    )


def _fill_in_cell_options(parser, options):
    """Moves the options that not every cell has to the dictionary `options.cell_options`."""
    available = dict(CELL_OPTIONS[options.cell])
    for name in CELL_OPTIONS["hyper_lstm"]:
        value = vars(options).pop(name)
        if value is not None and name not in available:
            flag = "--" + name.replace("_", "-")
            parser.error(f"{flag} is no option of --cell {options.cell}")
        if value is not None:
            available[name] = value
    options.cell_options = {**available, **dict(vars(options).pop("cell_option"))}


def train(options: argparse.Namespace) -> None:
    """Trains a model and writes all that comes of it."""
    from char_lm_training import Run  # here, since TensorFlow takes seconds to load

    run = Run(options)
    if run.steps < run.checkpoint.step:
        raise ValueError(
            "`--epochs` or `--steps` must not be less than what --resume finds done. "
            f"Received: {run.steps} steps, {run.checkpoint.step} of which are done"
        )
    print(run.text.description)
    run.fit()
    print(f"\n{run.report()['sample']}\n")
    written = {
        "model": "best.keras",
        "SavedModel": "saved_model",
        "results": "results.json",
        "plot": "curve.png",
    }
    if run.generates_weights:
        written["changes"] = "weight_changes.png"
    for what, name in written.items():
        print(f"{what:10}  {run.output / name}")


def evaluate(options: argparse.Namespace) -> None:
    """Prints the bits per character of a trained model."""
    import char_lm_evaluation as evaluation
    import datasets

    text = datasets.load_text(options.data, options.validation_share)
    model = evaluation.load(options.checkpoint)
    print(text.description)
    evaluation.evaluate_parts(model, text, options.train_characters)
    evaluation.warn_of_another_text(options.checkpoint, text)


def generate(options: argparse.Namespace) -> None:
    """Prints what a trained model writes, as it writes."""
    import char_lm_evaluation as evaluation

    from keras_hypernets import models

    model = evaluation.load(options.checkpoint)
    evaluation.check_prompt(model, options.prompt)
    names = ("prompt", "length", "temperature", "seed", "top_k", "top_p", "stop")
    pieces = models.stream(model, **{name: getattr(options, name) for name in names})
    print(options.prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def export(options: argparse.Namespace) -> None:
    """Writes a trained model as a SavedModel, with what is known of its training."""
    import char_lm_evaluation as evaluation
    import outputs

    from keras_hypernets.export import export_saved_model

    card, checkpoint = {}, Path(options.checkpoint)
    if checkpoint.name == "best.keras":  # beside which the results of its training lie
        results = outputs.read_results(checkpoint.parent) or {}
        card = {key: results[key] for key in ("bits_per_character", "settings") if key in results}
    export_saved_model(evaluation.load(options.checkpoint), options.output, card=card)
    print(f"SavedModel  {options.output}")


def main(arguments: list[str] | None = None) -> None:
    """Carries out one command."""
    options = parse(arguments)
    commands = {"train": train, "evaluate": evaluate, "generate": generate, "export": export}
    commands[options.command](options)


if __name__ == "__main__":
    run(main)
