"""Reading with a trained character language model: the work behind `char_lm.py evaluate`."""

import math
import sys
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np

from common.texts import batching, datasets
from keras_hypernets import models

EVALUATION_CHUNK = 1000  # characters that are read at once


def bits_per_character(targets, logits):
    """The bits that predicting each character costs."""
    nats = keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)
    return nats / math.log(2)


def reader_of(model: keras.Model) -> keras.Model:
    """Returns a compiled model `[ids, *states] -> [logits, *states]` with the same weights."""
    reader = models.sequences.with_states(model)
    reader.compile(jit_compile=True)
    return reader


def mean_bits(reader: keras.Model, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Returns the mean bits per character of a text in batches, states carried through all."""
    total, characters, states = 0.0, 0, None
    for ids, targets in batches:
        if states is None:
            # As what follows: states of another dtype would have the step traced twice.
            states = [np.zeros((len(ids), x.shape[-1]), x.dtype) for x in reader.inputs[1:]]
        logits, *states = reader.predict_on_batch([ids, *states])
        bits = keras.ops.convert_to_numpy(bits_per_character(targets, logits))
        total += bits.sum(dtype="float64")
        characters += bits.size
    return float(total / characters)


def evaluate_parts(
    model: keras.Model, text: datasets.TextData, train_characters: int
) -> dict[str, float]:
    """Prints and returns the bits per character of the parts of a text.

    Each part is one contiguous stream with carried states, in which every character but the first
    is predicted once. Of the training text the first `train_characters` are read, 0 for all.
    """
    parts = {
        "train": text.train[: train_characters or None],
        "validation": text.validation,
        "test": text.test,
    }
    encode = model.get_layer("embedding").encode
    ids = {name: encode(part, "--data") for name, part in parts.items()}
    reader, results = reader_of(model), {}
    for name in parts:
        chunks = list(batching.evaluation_chunks(ids[name], EVALUATION_CHUNK))
        results[name] = mean_bits(reader, with_progress_bar(chunks))
        print(
            f"{name:10}  {results[name]:.4f} bits per character ({len(ids[name]) - 1:,} predicted)"
        )
    return results


def with_progress_bar(batches: list) -> Iterable:
    """Yields the batches and shows how far they are, on a terminal."""
    bar = keras.utils.Progbar(len(batches), unit_name="chunk", verbose=int(sys.stdout.isatty()))
    for n, batch in enumerate(batches):
        yield batch
        bar.update(n + 1)


def load(path: str | Path) -> keras.Model:
    """Loads a model that this script has saved.

    Raises:
        ValueError: if it is none.
    """
    try:
        model = keras.models.load_model(path)
        models.sequences.state_sizes(model), model.get_layer("embedding").vocabulary
    except Exception as error:  # Keras, h5py and zipfile raise many kinds for a wrong file
        raise ValueError(
            "`--checkpoint` must be a .keras file of a character language model. "
            f"Received: {path} ({error})"
        ) from error
    return model


def check_prompt(model: keras.Model, prompt: str) -> None:
    """Raises ValueError if a model cannot continue a prompt."""
    if not prompt:
        raise ValueError("`--prompt` must have at least one character. Received: ''")
    model.get_layer("embedding").encode(prompt, "--prompt")
