"""SavedModels for serving: files, names of inputs and outputs, replacing what is there."""

import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_hypernets import validation
from keras_hypernets.export import files
from keras_hypernets.export.model_signatures import signatures_of_classifier, signatures_of_model
from keras_hypernets.export.text_signatures import signatures_of_language_model
from keras_hypernets.layers_within import layers_within
from keras_hypernets.models.char_lm.char_language_model import (
    embedding_of,
    is_character_language_model,
)

MAX_LENGTH = 100_000


def export_saved_model(
    model: keras.Model,
    path: str | os.PathLike,
    class_names: Sequence[str] | None = None,
    from_logits: bool = True,
    version: int | str | None = None,
    card: dict | None = None,
    warm_up: bool = False,
    max_length: int | None = None,
) -> str:
    """Writes a SavedModel that any TensorFlow serves, without keras_hypernets.

    The folder appears whole or not at all; a SavedModel that is there already is replaced, by two
    renames. An export that is killed between them leaves the old one beside `path`, with the prefix
    `.replaced-`, and the next export to `path` puts it back before anything else. Batch and time
    are dynamic. A character language model gets four signatures, whose states have the names of
    `models.sequences.state_sizes` and start as zeros:

    - `serving_default`: `text` (batch) strings -> `logits` (batch, time, characters), where `time`
      is the longest text's length and what follows a shorter text's end means nothing, and
      `lengths` (batch), in characters.
    - `tokens`: `ids` (batch, time) int32 -> `logits`.
    - `step`: `ids` (batch) int32, `seed` and `position` int32, `temperature` float32, `top_k` int32
      (0: all), `top_p` float32 (1: all) and the states -> `logits` (batch, characters), `next_id`
      (batch), drawn with (seed, position), and the states: streaming. The first character after a
      prompt has position 0, the next one 1.
    - `generate`: `prompt` (batch) strings, `length` int32, `temperature` float32, `seed` int32,
      `top_k` and `top_p` as in `step`, `stop` string (empty: none) -> `text` (batch), prompts with
      their continuations. It draws with the noise of `models.char_lm.generate` but without XLA,
      which TensorFlow Serving turns off by default: it is slower, and where rounding decides it
      may write another text.

    A model with `class_names` gets

    - `serving_default`: `images` (batch, height, width, channels) uint8 -> `probabilities`
      (batch, classes) float32 and `class_name` (batch) strings, the most likely one.

    Any other functional or sequential model gets its call as `serving_default`, with the names of
    its inputs, and of the layers its outputs come from. One of neither kind gets what
    `model.export` gives it.

    Layers with `stateful=True` keep their states from one request to the next, of which a warning
    says what to do; only the signatures of language models start from zeros at every request.

    In the folder is a `card.json` with the model's name and parameters, the signatures, the class
    names or the vocabulary (characters in the order of the logits) and `max_length`, and the
    versions of the libraries.

    Args:
        model: a built Keras model.
        path: folder to write.
        class_names: names of the classes of a model from images, in pixel values of 0 to 255, to a
            number for each class. Default `None`, no classifier.
        from_logits: whether these numbers are logits; else they are probabilities. Default `True`.
        version: positive integer, to write the folder `path/version`, as servers expect it;
            `"next"` is one more than the highest that is there. Default `None`, `path` itself.
        card: what else `card.json` shall say, such as data and score: a dictionary for JSON, whose
            entries replace those above.
        warm_up: whether to write a request of each signature to `assets.extra`, with which
            TensorFlow Serving warms up. Needs tensorflow-serving-api. Default `False`.
        max_length: positive integer, the most characters that a request of `generate` may write,
            those of all its texts together, which limits its memory and time. Only for character
            language models. Default `None`, 100,000 for these.

    Returns:
        The folder that was written.

    Raises:
        RuntimeError: on another backend than TensorFlow.
        ImportError: for `warm_up` without tensorflow-serving-api.
        ValueError: for another argument out of its range, or if the folder exists and is no
            SavedModel, or cannot be written.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "A SavedModel with signatures is TensorFlow's own and needs its backend. "
            f"Received: backend {keras.backend.backend()!r}"
        )
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a Keras model. Received: model={model!r}")
    validation.boolean("from_logits", from_logits)
    card = files.check_card(card)
    if validation.boolean("warm_up", warm_up):
        files.prediction_logs()
    path = _folder(path, version)
    signatures, facts = _signatures(model, class_names, from_logits, max_length)
    if not signatures and warm_up:
        raise ValueError(
            "`warm_up` is for functional and sequential models. Received: warm_up=True"
        )
    if "generate" not in signatures:
        _warn_of_states(model)

    workspace = _workspace(path)
    try:
        _put_back(path)
        new = workspace / "new"
        graphs = {name: signature.traced() for name, signature in signatures.items()}
        if graphs:
            archive = keras.export.ExportArchive()
            archive.track(model)
            for name, graph in graphs.items():
                archive.add_endpoint(name, graph)
            archive.write_out(str(new), verbose=False)
        else:
            model.export(str(new), verbose=False)
        files.write_card(new, {**files.facts_of(model, graphs), **facts, **card})
        if warm_up:
            files.write_warm_up_requests(new, signatures)
        if version == "next":
            path = _add(path.parent, new)
        else:
            _replace(path, workspace)
    finally:
        shutil.rmtree(workspace)
    return str(path)


def _signatures(model, class_names, from_logits, max_length):
    """The signatures of a model, and what its card says of them."""
    if max_length is not None:
        validation.positive_integer("max_length", max_length)
    if is_character_language_model(model) and class_names is None:
        max_length = int(max_length or MAX_LENGTH)
        vocabulary = embedding_of(model).vocabulary
        facts = {"vocabulary": vocabulary, "max_length": max_length}
        return signatures_of_language_model(model, max_length), facts
    if max_length is not None:
        raise ValueError(
            f"`max_length` is for character language models. Received: max_length={max_length!r}"
        )
    if not getattr(model, "inputs", None):
        if class_names is not None:
            raise ValueError(
                "`class_names` is for functional and sequential models. "
                f"Received: class_names={class_names!r}"
            )
        return {}, {}
    if class_names is not None:
        signatures = signatures_of_classifier(model, class_names, from_logits)
        return signatures, {"class_names": list(class_names)}
    return signatures_of_model(model), {}


def _warn_of_states(model):
    stateful = [path for path, layer in layers_within(model) if getattr(layer, "stateful", False)]
    if stateful:
        warnings.warn(
            "The SavedModel will keep its states from one request to the next, whoever asks, and "
            "begins with what they are now. For requests on their own export a stateless twin: the "
            "same model built without `stateful=True`, after "
            f"`twin.set_weights(model.get_weights())`. Received: stateful layers {stateful}",
            stacklevel=3,
        )


def _folder(path, version):
    """The folder to write, which is new or a SavedModel."""
    path = Path(validation.path("path", path))
    if version is not None and (path / "saved_model.pb").exists():
        raise ValueError(
            "`path` must be a folder of versions, not a SavedModel itself. "
            f"Received: path={str(path)!r}, version={version!r}"
        )
    if version == "next":
        path = _next_version(path)
    elif version is not None:
        rule = 'a positive integer or "next"'
        path = path / str(validation.integer("version", version, rule, lambda n: 0 < n < 2**63))
    if path.resolve() == Path.cwd() or (path.exists() and not (path / "saved_model.pb").exists()):
        raise ValueError(
            f"`path` must be new, or a SavedModel to replace. Received: path={str(path)!r}"
        )
    return path


def _next_version(folder):
    there = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
    return folder / str(max(there, default=0) + 1)


def _add(folder, new):
    """Moves a folder to the next version that no other export has taken meanwhile."""
    while True:
        path = _next_version(folder)
        try:
            return new.rename(path)
        except OSError:
            if not path.exists():
                raise


def _workspace(path):
    """A folder beside another one to write, from which the result can be moved in one step."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".export-", dir=path.parent))
    except OSError as error:
        raise ValueError(
            "`path` must be in a folder that can be written. "
            f"Received: path={str(path)!r} ({error.strerror})"
        ) from error


def _replaced(path):
    """Where a SavedModel waits while another one takes its place."""
    return path.with_name(f".replaced-{path.name}")


def _put_back(path):
    """Ends what a kill has interrupted: the model that was there is there again."""
    if _replaced(path).exists() and not path.exists():
        _replaced(path).rename(path)


def _replace(path, workspace):
    """Moves `new` from the workspace, where nothing may lie that is still needed, to `path`."""
    old = _replaced(path)
    if path.exists():
        if old.exists():  # of a kill before this export, and replaced since
            old.rename(workspace / "older")
        path.rename(old)
    try:
        (workspace / "new").rename(path)
    except BaseException:
        _put_back(path)
        raise
    if old.exists():
        old.rename(workspace / "old")
