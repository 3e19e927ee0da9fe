"""Exports models as SavedModels for serving."""

import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_hypernets import validation
from keras_hypernets.export import files
from keras_hypernets.export.signatures_of import signatures_of
from keras_hypernets.layers_within import layers_within


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
    """Writes a SavedModel that any TensorFlow can serve without keras_hypernets.

    The folder appears complete or not at all. An existing SavedModel is replaced by two renames. An
    export killed between them leaves the old one beside `path`, with the prefix `.replaced-`; the
    next export to `path` first restores it. Batch and time are dynamic.

    A character language model gets four signatures. Their states are named as in
    `models.sequences.state_sizes` and start at zero.

    - `serving_default`: `text` (batch) strings -> `logits` (batch, time, characters), where `time`
      is the length of the longest text and logits beyond the end of a shorter one are meaningless,
      and `lengths` (batch), in characters.
    - `tokens`: `ids` (batch, time) int32 -> `logits`.
    - `step`: `ids` (batch) int32, `seed` and `position` int32, `temperature` float32, `top_k` int32
      (0: all), `top_p` float32 (1: all) and the states -> `logits` (batch, characters), `next_id`
      (batch), drawn with (seed, position), and the new states. For streaming: the first character
      after a prompt has position 0, the next one 1.
    - `generate`: `prompt` (batch) strings, `length` int32, `temperature` float32, `seed` int32,
      `top_k` and `top_p` as in `step`, `stop` string (empty: none) -> `text` (batch), prompts with
      their continuations. It draws with the noise of `models.char_lm.generate`, but without XLA,
      which TensorFlow Serving turns off by default. So it is slower, and rounding may change the
      text.

    A stroke model gets three signatures. States work in the same way.

    - `serving_default`: `strokes` (batch, time, 3) float32 -> `parameters` of the next points
      (batch, time, 6 mixtures + 1).
    - `step`: `strokes` (batch, 3), `seed`, `position`, `temperature` and the states ->
      `parameters`, `next_point` (batch, 3), and the new states. A drawing begins after the point
      (0, 0, 0); its first point has position 0.
    - `generate`: `prime` (batch, time, 3), the points to continue (`time` is 0 for new drawings),
      `length` int32, `temperature` float32, `seed` int32 -> `strokes` (batch, length, 3), the
      points added.

    A model with `class_names` gets

    - `serving_default`: `images` (batch, height, width, channels) uint8 -> `probabilities`
      (batch, classes) float32 and `class_name` (batch) strings, the most likely one.

    Any other functional or Sequential model gets its call as `serving_default`, with its input
    names, and its outputs named after their layers. A subclassed model gets what `model.export`
    writes.

    Layers with `stateful=True` keep their states from one request to the next; a warning then says
    what to do. Only the signatures of language models and stroke models start from zeros at every
    request.

    The folder also holds a `card.json` with the model's name, number of parameters and signatures,
    the class names, or the vocabulary (characters in the order of the logits) or number of mixtures
    and `max_length`, and the versions of the libraries.

    Args:
        model: a built Keras model.
        path: folder to write.
        class_names: names of the classes of a model that maps images, with pixel values of 0 to
            255, to a score for each class. Default `None`: not a classifier.
        from_logits: whether these scores are logits, not probabilities. Default `True`, an error
            for a model that ends in a softmax.
        version: positive integer, to write the folder `path/version`, as servers expect it, or
            `"next"` for one more than the highest that exists. Default `None`: `path` itself.
        card: dictionary of JSON values to add to `card.json`, such as data and score. Its entries
            override those above. Default `None`.
        warm_up: whether to write a request for each signature to `assets.extra`, which TensorFlow
            Serving uses to warm up. Needs tensorflow-serving-api. Default `False`.
        max_length: positive integer, maximum number of characters or points that a request of
            `generate` may write, summed over its texts or drawings, to limit memory and time. Only
            for character language models and stroke models. Default `None`: 100,000.

    Returns:
        The path of the folder.

    Raises:
        RuntimeError: if the backend is not TensorFlow.
        ImportError: if `warm_up` is `True` and tensorflow-serving-api is not installed.
        ValueError: if another argument is out of range, or if the folder exists and is not a
            SavedModel, or cannot be written.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "A SavedModel is a format of TensorFlow and needs its backend. "
            f"Received: backend {keras.backend.backend()!r}"
        )
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a Keras model. Received: model={model!r}")
    validation.boolean("from_logits", from_logits)
    card = files.check_card(card)
    if validation.boolean("warm_up", warm_up):
        files.prediction_logs()
    path = _folder(path, version)
    signatures, facts = signatures_of(model, class_names, from_logits, max_length)
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
            archive.track(_resources_of(model))
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


def _resources_of(model):
    """Returns what tracks a model's lookup tables; the signatures track its weights.

    A model that is tracked itself has its weights written, and loaded, twice:
    https://github.com/keras-team/keras/issues/23553.
    """
    import tensorflow as tf

    resources = tf.Module()
    resources.model = model
    return resources


def _warn_of_states(model):
    stateful = [path for path, layer in layers_within(model) if getattr(layer, "stateful", False)]
    if stateful:
        warnings.warn(
            "The SavedModel will start from the current states and keep them from one request to "
            "the next, whoever sends it. For independent requests, export a stateless twin: build "
            "the same model without `stateful=True`, then call "
            f"`twin.set_weights(model.get_weights())`. Received: stateful layers {stateful}",
            stacklevel=3,
        )


def _folder(path, version):
    """Returns the folder to write, which must be new or a SavedModel."""
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
    """Moves a folder to the next version that no concurrent export has taken."""
    while True:
        path = _next_version(folder)
        try:
            return new.rename(path)
        except OSError:
            if not path.exists():
                raise


def _workspace(path):
    """Creates a folder beside `path`, from where one rename moves the result there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".export-", dir=path.parent))
    except OSError as error:
        raise ValueError(
            "`path` must be in a folder that can be written. "
            f"Received: path={str(path)!r} ({error.strerror})"
        ) from error


def _replaced(path):
    """Returns where the old SavedModel waits while the new one takes its place."""
    return path.with_name(f".replaced-{path.name}")


def _put_back(path):
    """Restores the old SavedModel if a kill interrupted its replacement."""
    if _replaced(path).exists() and not path.exists():
        _replaced(path).rename(path)


def _replace(path, workspace):
    """Moves `new` from the workspace to `path`, and what it replaces to the workspace."""
    old = _replaced(path)
    if path.exists():
        if old.exists():  # left by an earlier kill, and replaced since
            old.rename(workspace / "older")
        path.rename(old)
    try:
        (workspace / "new").rename(path)
    except BaseException:
        _put_back(path)
        raise
    if old.exists():
        old.rename(workspace / "old")
