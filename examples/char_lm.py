"""A character language model on real text: train it, evaluate it, let it write, export it.

    python examples/char_lm.py train                   # reads the standard library of your Python
    python examples/char_lm.py train --data my_text.txt --cell lstm --output runs/mine
    python examples/char_lm.py evaluate --data my_text.txt --checkpoint runs/mine/best.keras
    python examples/char_lm.py generate --prompt "def "
    python examples/char_lm.py export --output my_saved_model

The task is that of HyperNetworks (Ha et al., 2016), section 4.3: https://arxiv.org/abs/1609.09106.
"""

import argparse
from functools import partial
from pathlib import Path

from common.command_line import run
from common.texts.options import parse


def train(options: argparse.Namespace) -> None:
    """Trains a model and writes all that comes of it."""
    run = make_run(options)
    if run.steps < run.checkpoint.step:
        raise ValueError(
            "`--epochs` or `--steps` must not be less than the steps already trained. "
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
        if (run.output / name).exists():  # a SavedModel only on the TensorFlow backend
            print(f"{what:10}  {run.output / name}")


def make_run(options: argparse.Namespace):
    """Makes a training run, new or resumed: `fit` trains the model, `report` tests it."""
    import keras

    from common.texts.evaluation import bits_per_character
    from common.texts.training import Run

    run = Run(options, partial(make_model, options))
    run.model.compile(
        keras.optimizers.Adam(options.learning_rate, global_clipnorm=options.clip_norm),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[bits_per_character],
        jit_compile="auto" if options.jit_compile is None else options.jit_compile,
    )
    return run


def make_model(options: argparse.Namespace, vocabulary: str, **more):
    """Makes the model that the options describe."""
    from keras_hypernets import models

    return models.char_language_model(
        vocabulary,
        options.units,
        layers=options.layers,
        cell=options.cell,
        token_embedding_size=options.token_embedding_size,
        dropout=options.dropout,
        seed=options.seed,
        **options.cell_options,
        **more,
    )


def evaluate(options: argparse.Namespace) -> None:
    """Prints the bits per character of a trained model."""
    from common import outputs
    from common.texts import datasets, evaluation

    text = datasets.load_text(options.data, options.validation_share)
    model = evaluation.load(options.checkpoint)
    print(text.description)
    evaluation.evaluate_parts(model, text, options.train_characters)
    other = "another text, or another split of this one"
    outputs.warn_of_other_data(options.checkpoint, text.sha256, other)


def generate(options: argparse.Namespace) -> None:
    """Prints what a trained model writes, as it writes."""
    from common.texts import evaluation
    from keras_hypernets import models

    model = evaluation.load(options.checkpoint)
    evaluation.check_prompt(model, options.prompt)
    names = ("prompt", "length", "temperature", "seed", "top_k", "top_p", "stop")
    pieces = models.char_lm.stream(model, **{name: getattr(options, name) for name in names})
    print(options.prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def export(options: argparse.Namespace) -> None:
    """Writes a trained model as a SavedModel, with what is known of its training."""
    from common import exporting
    from common.texts import evaluation

    checkpoint = Path(options.checkpoint)
    exporting.export(evaluation.load(checkpoint), checkpoint, "bits_per_character", options.output)


def main(arguments: list[str] | None = None) -> None:
    """Carries out one command."""
    options = parse(arguments)
    from common import training  # noqa: F401  here, since TensorFlow takes seconds to load

    commands = {"train": train, "evaluate": evaluate, "generate": generate, "export": export}
    commands[options.command](options)


if __name__ == "__main__":
    run(main, " (train goes on with --resume)")
