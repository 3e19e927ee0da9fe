"""What the live page runs and shows of a character language model: the work of `live_page.py`."""

import inspect
import json
import warnings
from pathlib import Path

from common import training  # noqa: F401  before Keras, so that TensorFlow starts without its notes

# isort: split
import keras
import numpy as np
import tensorflow as tf
from keras import ops

from common import outputs
from common.texts import evaluation
from keras_hypernets import models, plots
from keras_hypernets.models.sequences.recurrent_stack import RECURRENT_LAYERS

LARGEST = 2e6  # bytes: a page should not be slow for its model
SAMPLE = 500  # characters under which the largest changes are measured


def write(checkpoint: Path, folder: Path, prompt: str, temperature: float, about: str) -> None:
    """Writes `model.onnx` and `model.json`, which the page reads, to a folder.

    Raises:
        ValueError: if the model generates no recurrent weights, takes more than 2 MB, or cannot
            read the prompt.
    """
    model = load(checkpoint)
    evaluation.check_prompt(model, prompt)
    sample = models.char_lm.generate(model, prompt, SAMPLE, temperature)
    changes = plots.weight_changes(model, sample)
    cell = first_cell(model)
    facts = {
        "vocabulary": model.get_layer("embedding").vocabulary,
        "states": models.sequences.state_sizes(model),
        "gates": list(cell.gate_names or map(str, range(cell.gates))),
        "largest": changes.max(axis=0).tolist(),
        "prompt": prompt,
        "temperature": temperature,
        "about": about,
        "parameters": model.count_params(),
    }
    step = step_with_changes(model)
    path = folder / "model.onnx"
    with outputs.replacing(path) as unfinished:
        export_onnx(step, unfinished)
        size = unfinished.stat().st_size
        if size > LARGEST:
            raise ValueError(
                f"The model must take at most {LARGEST / 1e6:g} MB as ONNX. "
                f"Received: {size / 1e6:.1f} MB of {checkpoint}"
            )
    outputs.save_json(folder / "model.json", facts)


def load(path: Path) -> keras.Model:
    """Loads a model from a .keras file, or from a SavedModel that `char_lm.py` exported.

    Raises:
        ValueError: if it is neither.
    """
    if not path.is_dir():
        return evaluation.load(path)
    try:
        card = json.loads((path / "card.json").read_text("utf-8"))
        options = model_options(card["settings"])
        model = models.char_language_model(card["vocabulary"], **options)
        loaded = tf.saved_model.load(str(path))  # which owns the variables
        variables = loaded.signatures["tokens"].variables
        stored = {v.name.removesuffix(":0"): v for v in variables}
        for weight in model.weights:
            weight.assign(stored[weight.path])
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(
            "`--checkpoint` must be a .keras file of a character language model, or a SavedModel "
            f"of one with the settings of its training. Received: {path} ({error!r})"
        ) from error
    return model


def model_options(settings: dict) -> dict:
    """Returns the arguments of `char_language_model` among the settings of a training run."""
    of_layer = inspect.signature(RECURRENT_LAYERS[settings["cell"]]).parameters
    names = {"units", "layers", "cell", "token_embedding_size", *of_layer}
    return {name: value for name, value in settings.items() if name in names}


def step_with_changes(model: keras.Model) -> keras.Model:
    """Returns `[ids, *states] -> [logits, changes, *states]`, one step that shares all weights.

    `changes` (batch, gates) are those of `plots.weight_changes` in the first recurrent layer.
    """
    step = models.sequences.step_model(model)
    after = step(step.input)
    cell = first_cell(model)
    changes = KernelChanges(cell)(step.input["state_0_hyper_h"], after["state_0_hyper_h"])
    states = [after[name] for name in models.sequences.state_sizes(model)]
    return keras.Model(list(step.input.values()), [after["logits"], changes, *states])


def first_cell(model: keras.Model) -> keras.Layer:
    """Returns the cell of the first recurrent layer."""
    return next(layer.cell for layer in model.layers if isinstance(layer, keras.layers.RNN))


class KernelChanges(keras.Layer):
    """How much a cell's recurrent kernels change from one output of its hyper cell to the next."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def call(self, before, after):
        weights = {
            name: self.cell.to_compute_dtype(weight)
            for name, weight in self.cell.tail_weights.items()
        }
        for_h = [self.cell.generate(hyper_h, weights)[1] for hyper_h in (before, after)]
        name = "d_h" if self.cell.weight_generation == "scaling" else "z_h"
        generated = {name: ops.transpose(ops.stack(for_h), (2, 0, 1, 3))}
        return self.cell.recurrent_kernel_changes(generated)[:, 0]


def export_onnx(step: keras.Model, path: Path) -> None:
    """Writes a step as ONNX."""
    step([np.zeros((1, *x.shape[1:]), x.dtype) for x in step.inputs])  # Keras wants a call before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # tf2onnx and NumPy's old names
        step.export(str(path), format="onnx", verbose=False)
