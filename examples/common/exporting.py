"""Exports the models of the examples that train recurrent models."""

import sys
from pathlib import Path

import keras

from common import outputs
from keras_hypernets.export import export_saved_model


def export(model: keras.Model, checkpoint: Path, score: str, output: str) -> None:
    """Writes a trained model as a SavedModel, with what is known of its training.

    Args:
        model: what `checkpoint` holds.
        checkpoint: a .keras file; the results beside it, if of this model, go into the card.
        score: name of the score in the results.
        output: folder to write.
    """
    results = outputs.results_of(checkpoint) or {}
    card = {key: results[key] for key in (score, "settings") if key in results}
    export_saved_model(model, output, card=card)
    print(f"SavedModel  {output}")
    if not card:
        sys.stderr.write(
            "warning: card.json has no scores, because "
            f"{checkpoint.parent / 'results.json'} has none for this model. To write them, repeat "
            "the training command with --resume, then export again.\n"
        )
