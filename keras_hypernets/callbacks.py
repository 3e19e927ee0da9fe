"""Monitors generated weights during training, with TensorBoard and warnings."""

import contextlib
import math
import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_hypernets import plots
from keras_hypernets.layers_within import generated_within
from keras_hypernets.models.sequences.stepping import recurrent_layers
from keras_hypernets.plots.cell_saturation import draw_cell_saturation, tanh_of
from keras_hypernets.plots.reading import inputs_of, read
from keras_hypernets.plots.watching import generating_layers, watch
from keras_hypernets.plots.weight_changes import change_norms, draw_weight_changes
from keras_hypernets.summaries import tensorflow, write_figure, write_histogram, write_scalar
from keras_hypernets.validation import boolean, path, positive_integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FAR = 10  # factor beyond the healthy range at which to warn


class GeneratedWeightsMonitor(keras.callbacks.Callback):
    r"""Writes generated weights to TensorBoard, and warns if they are far too large or small.

    The spread of generated weights w is their root mean square, sqrt(mean(w^2)). It is healthy

    - for a kernel of `HyperConv2D`, `HyperDense`, or a `HyperNetwork` without a base: from a third
      to three times sqrt(2 / fan-in), the deviation of He initialization;
    - for the scales d_x and d_h of a hyper cell: from 0.1, where they start, to 10. (HyperLSTMs
      with layer norm, trained on Python's library, had 5.8 and 0.93 at the best learning rate, 29
      and 6.0 at four times that.) For the mixtures z_x and z_h of full generation: from a third to
      three times 1 / sqrt(embedding_dim). The shifts b start at zero and have no healthy range.

    A warning names the weights when they are more than ten times beyond the range. It is repeated
    only if they recover and then leave the range that far again.

    At the end of an epoch, it writes `spread/...` (scalars) and `weights/...` (histograms) of all
    these weights, with the epoch as the step, and the figures of `keras_hypernets.plots` that apply
    to the model: `filters` of all its convolutions, `embedding_similarity`, and for a text
    `weight_changes/...` and `cell_saturation`.

    Writing the files needs TensorFlow on every backend; `figures` needs matplotlib. The package
    `tensorboard` shows the files: `tensorboard --logdir DIR`.

    Args:
        log_dir: folder to write to. A resumed training should write to the same folder.
        sample: what the model reads while its recurrent layers are watched: a text of 2 to 5,000
            characters for a model made by `char_language_model`, or inputs of any model, as for
            `fit`. This watches all layers with a hyper cell, also in nested models and wrappers
            (`bidirectional/forward_hyper_lstm`), at all unmasked steps. Stateful layers start from
            zeros. Default `None`: do not watch recurrent layers.
        every: positive integer. Write at the first epoch and every `every` epochs after it. Default
            1.
        figures: whether to draw figures. Default `True`. On 2 busy cores the end of an epoch then
            takes 0.5 seconds for a text of 128 characters, 0.9 for `hyper_resnet(16, 1)` and 7.4
            for `hyper_resnet(40, 2)`, otherwise at most 0.2.

    Raises:
        ValueError: if an argument is out of range; from `fit`, if the model cannot read `sample`.
        ImportError: if TensorFlow, or matplotlib for `figures`, is not installed.

    Example:

    >>> import tempfile
    >>> model = keras_hypernets.models.char_language_model(
    ...     "abc ", units=8, hyper_units=4, embedding_dim=2)
    >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> ids = keras.ops.ones((4, 5), "int32")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     monitor = keras_hypernets.callbacks.GeneratedWeightsMonitor(folder, sample="a cab")
    ...     history = model.fit(ids, ids, callbacks=[monitor], verbose=0)
    >>> {name: round(spread, 1) for name, spread in monitor.spreads.items()}
    {'recurrent_0/d_x': 0.1, 'recurrent_0/d_h': 0.1, 'recurrent_0/b': 0.0}
    """

    def __init__(
        self, log_dir: str | os.PathLike, sample: Any = None, every: int = 1, figures: bool = True
    ):
        super().__init__()
        self.log_dir = path("log_dir", log_dir)
        self.sample = sample
        self.every = positive_integer("every", every)
        self.figures = boolean("figures", figures)
        self.spreads = {}
        self._unhealthy = set()
        tensorflow()  # fails now, not during training, if it is missing
        if figures:
            import matplotlib.figure  # noqa: F401

    def on_train_begin(self, logs=None):
        if isinstance(self.sample, str):
            self._inputs = inputs_of(self.model, self.sample, "sample")
        elif self.sample is not None:
            if not self.model.built or not generating_layers(self.model):
                raise ValueError(
                    "`sample` must be None unless the model is built and has recurrent layers "
                    "with hyper cells. "
                    f"Received: {type(self.sample).__name__} for {self.model.name}"
                )
            self._inputs = self.sample
            try:
                watch(self.model, self.sample)
            except Exception as error:  # each backend has its own
                raise ValueError(
                    f"`sample` must be inputs of {self.model.name}. "
                    f"Received: {type(self.sample).__name__} ({error})"
                ) from error
        self._writer = tensorflow().summary.create_file_writer(self.log_dir)

    def on_epoch_end(self, epoch, logs=None):
        if epoch % self.every:
            return
        watched = {} if self.sample is None else watch(self.model, self._inputs)
        self.spreads = {}
        with self._writer.as_default(step=epoch):
            for name, weights, healthy in _ranges(self.model, watched):
                weights = ops.convert_to_numpy(ops.cast(weights, "float32"))
                squares = np.square(weights, dtype="float64")
                self.spreads[name] = spread = float(np.sqrt(np.mean(squares)))
                write_scalar(f"spread/{name}", spread)
                write_histogram(f"weights/{name}", weights)
                self._check(name, spread, healthy)
            for name, figure in _figures(self.model, self.sample, watched) if self.figures else ():
                write_figure(name, figure)

    def on_train_end(self, logs=None):
        self._writer.close()

    def _check(self, name, spread, healthy):
        low, high = healthy
        if low / FAR <= spread <= high * FAR:
            self._unhealthy.discard(name)
        elif name not in self._unhealthy:
            self._unhealthy.add(name)
            warnings.warn(
                f"The generated weights {name} of {self.model.name} have a spread of {spread:.3g}, "
                f"but {low:.3g} to {high:.3g} is healthy.",
                stacklevel=2,
            )


def _ranges(model: keras.Model, watched: dict) -> Iterator[tuple]:
    """Yields names of generated weights, the weights and the healthy range of their spread.

    Layers and cells may have a method `healthy_spreads`. It returns a dictionary like
    `generated_weights()`, with the lowest and the highest spread. Without it every spread is
    healthy.
    """
    for layer, key, name, weight in generated_within(model):
        yield name, weight, _healthy(layer, key)
    layers = generating_layers(model)
    for place, generated in watched.items():
        for key, values in generated.items():
            yield f"{place}/{key}", values, _healthy(layers[place].cell, key)


def _healthy(owner, key):
    ranges = owner.healthy_spreads() if hasattr(owner, "healthy_spreads") else {}
    return ranges.get(key, (0, math.inf))


def _figures(model: keras.Model, sample: Any, watched: dict) -> Iterator[tuple[str, "Figure"]]:
    """Yields the names and figures that apply to the model."""
    for name, plot in (
        ("filters", plots.plot_filters),
        ("embedding_similarity", plots.plot_embedding_similarity),
    ):
        with contextlib.suppress(ValueError):
            yield name, plot(model)
    if not isinstance(sample, str):
        return
    layers = generating_layers(model)
    for place, generated in watched.items():
        cell = layers[place].cell
        if hasattr(cell, "recurrent_kernel_changes"):
            norms = change_norms(cell, generated, sample)
            yield f"weight_changes/{place}", draw_weight_changes(cell, norms, sample)
    states = read(model, sample)
    saturation = {
        layer.name: tanh_of(states[f"state_{n}_c"])
        for n, layer in enumerate(recurrent_layers(model))
        if f"state_{n}_c" in states
    }
    if saturation:
        yield "cell_saturation", draw_cell_saturation(saturation)
