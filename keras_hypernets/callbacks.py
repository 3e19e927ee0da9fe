"""Watching generated weights during training, in TensorBoard and by warnings."""

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
from keras_hypernets.dynamic.hyper_cell import INITIAL_SCALE, HyperCell
from keras_hypernets.models.stepping import recurrent_layers
from keras_hypernets.plots.cell_saturation import draw_cell_saturation, tanh_of
from keras_hypernets.plots.layers_within import layers_within
from keras_hypernets.plots.reading import check_text, read
from keras_hypernets.plots.weight_changes import change_norms, draw_weight_changes, generated_by
from keras_hypernets.static.generated_kernel import GeneratedKernelLayer
from keras_hypernets.static.kernel_bank import KernelBank
from keras_hypernets.summaries import tensorflow, write_figure, write_histogram, write_scalar
from keras_hypernets.validation import boolean, path, positive_integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GROWTH = 100  # of scales d in good training: 9 and 58 measured
AROUND = 3  # factor and divisor of what kernels begin with, and mixtures of kernels
FAR = 10  # times beyond the healthy range


class GeneratedWeightsMonitor(keras.callbacks.Callback):
    r"""Writes generated weights to TensorBoard, and warns if they are far too large or too small.

    The spread of generated weights w is their deviation around zero, sqrt(mean(w^2)). Healthy is

    - for a kernel of `HyperConv2D`, `HyperDense` or `KernelBank`: a third to three times
      sqrt(2 / fan-in), the deviation of He's initialisation, with which it begins;
    - for scales d_x and d_h of a hyper cell: 0.1, with which they begin, to 10. (HyperLSTMs with
      layer norm, trained on Python's library, had 5.8 and 0.93 at the best learning rate, 29 and
      6.0 at four times that.) For mixtures z_x and z_h of full generation: a third to three times
      1 / sqrt(embedding_dim). Shifts b begin at zero and have no range.

    A warning names the weights once as they are more than ten times beyond the range, and again if
    that comes back after it was over.

    At the end of an epoch, with its number as the step, are written for all of these weights
    `spread/...` (scalars) and `weights/...` (histograms), and the figures of
    `keras_hypernets.plots` that the model has: `filters` of all its convolutions,
    `embedding_similarity`, and for a text `weight_changes/...` and `cell_saturation`.

    It needs TensorFlow on every backend, to write the files, and with `figures` matplotlib. The
    package `tensorboard` shows them: `tensorboard --logdir DIR`.

    Args:
        log_dir: folder to write to. A training that is resumed writes to the same.
        sample: what the recurrent layers read: a text of 2 to 5,000 characters, if the model is
            one that `char_language_model` makes; the inputs `(batch, time, features)` of any other
            functional or sequential model, of which the recurrent layers in the model itself are
            watched, not those in other layers. Default `None`: none are.
        every: positive integer; written are the first epoch and every so many after it. Default 1.
        figures: whether figures are drawn. Default `True`. On 2 busy cores an epoch's end then
            takes 1.5 seconds for a text of 128 characters, 4 for `hyper_resnet(16, 1)` and 17 for
            `hyper_resnet(40, 2)`, otherwise 0.1, 0.1 and 0.4.

    Raises:
        ValueError: for an argument out of its range; from `fit`, for a sample that the model cannot
            read.
        ImportError: if there is no TensorFlow, or no matplotlib for `figures`.

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
        tensorflow()  # what is missing shows before any training
        if figures:
            import matplotlib.figure  # noqa: F401

    def on_train_begin(self, logs=None):
        if isinstance(self.sample, str):
            check_text(self.model, self.sample, "sample")
        elif self.sample is not None:
            _check_inputs(self.model, self.sample)
            self._generate = _generator_of(self.model)
            try:
                self._generate(self.sample)
            except Exception as error:  # each backend has its own
                raise ValueError(
                    f"`sample` must be inputs of {self.model.name}. "
                    f"Received: {type(self.sample).__name__} ({error})"
                ) from error
        self._writer = tensorflow().summary.create_file_writer(self.log_dir)

    def on_epoch_end(self, epoch, logs=None):
        if epoch % self.every:
            return
        states, generated = {}, {}
        if isinstance(self.sample, str):
            states = read(self.model, self.sample)
            generated = _generated_from(self.model, states)
        elif self.sample is not None:
            generated = self._generate(self.sample)
        self.spreads = {}
        with self._writer.as_default(step=epoch):
            for name, weights, healthy in (*_kernels(self.model), *_scales(self.model, generated)):
                weights = ops.convert_to_numpy(ops.cast(weights, "float32"))
                squares = np.square(weights, dtype="float64")
                self.spreads[name] = spread = float(np.sqrt(np.mean(squares)))
                write_scalar(f"spread/{name}", spread)
                write_histogram(f"weights/{name}", weights)
                self._check(name, spread, healthy)
            for name, figure in _figures(self.model, self.sample, states) if self.figures else ():
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
                f"healthy is {low:.3g} to {high:.3g}.",
                stacklevel=2,
            )


def _kernels(model: keras.Model) -> Iterator[tuple]:
    """Yields the names of generated kernels, the kernels and the range of a healthy spread."""
    for place, layer in layers_within(model):
        kernels = {}
        if isinstance(layer, KernelBank) and layer.built:
            kernels = {f"{place}/{name}": kernel for name, kernel in layer.kernels.items()}
        elif isinstance(layer, GeneratedKernelLayer) and hasattr(layer, "embedding"):
            kernels = {place: layer.kernel}
        for name, kernel in kernels.items():
            he = math.sqrt(2 / math.prod(kernel.shape[:-1]))
            yield name, kernel, (he / AROUND, he * AROUND)


def _scales(model: keras.Model, generated: list) -> Iterator[tuple]:
    """Yields names of what hyper cells generate, the values and the range of a healthy spread."""
    for layer, (of_x, of_h, shift) in zip(_hyper_layers(model), generated, strict=True):
        letter, healthy = "d", (INITIAL_SCALE, INITIAL_SCALE * GROWTH)
        if layer.cell.weight_generation == "full":
            start = 1 / math.sqrt(layer.cell.embedding_dim)
            letter, healthy = "z", (start / AROUND, start * AROUND)
        yield f"{layer.name}/{letter}_x", of_x, healthy
        yield f"{layer.name}/{letter}_h", of_h, healthy
        yield f"{layer.name}/b", shift, (0, math.inf)


def _generated_from(model, states):
    layers = enumerate(recurrent_layers(model))
    hyper = [(n, layer.cell) for n, layer in layers if isinstance(layer.cell, HyperCell)]
    return [generated_by(cell, states[f"state_{n}_hyper_h"]) for n, cell in hyper]


def _generator_of(model):
    """Returns a function from a model's inputs to what each of its hyper cells generates."""
    layers = _hyper_layers(model)
    inputs_of = keras.Model(model.inputs, [layer.input for layer in layers])

    def generate(sample):
        inputs = keras.tree.flatten(inputs_of(keras.tree.flatten(sample)))
        return [layer.cell.generated_weights(x) for layer, x in zip(layers, inputs, strict=True)]

    # Eager TensorFlow would take 100 ms for a step of time.
    on_tensorflow = keras.backend.backend() == "tensorflow"
    return tensorflow().function(generate, autograph=False) if on_tensorflow else generate


def _figures(model: keras.Model, sample: Any, states: dict) -> Iterator[tuple[str, "Figure"]]:
    """Yields names and figures, those that there is something to draw in."""
    for name, plot in (
        ("filters", plots.plot_filters),
        ("embedding_similarity", plots.plot_embedding_similarity),
    ):
        with contextlib.suppress(ValueError):
            yield name, plot(model)
    if states:
        for n, layer in enumerate(recurrent_layers(model)):
            if isinstance(layer.cell, HyperCell):
                norms = change_norms(layer.cell, states[f"state_{n}_hyper_h"])
                yield f"weight_changes/{layer.name}", draw_weight_changes(norms, sample)
        saturation = {
            layer.name: tanh_of(states[f"state_{n}_c"])
            for n, layer in enumerate(recurrent_layers(model))
            if f"state_{n}_c" in states
        }
        if saturation:
            yield "cell_saturation", draw_cell_saturation(saturation)


def _hyper_layers(model):
    layers = getattr(model, "layers", ())
    rnns = [layer for layer in layers if isinstance(layer, keras.layers.RNN)]
    return [layer for layer in rnns if isinstance(layer.cell, HyperCell)]


def _check_inputs(model, sample):
    layers = _hyper_layers(model)
    if not layers or not getattr(model, "inputs", None) or any(layer.stateful for layer in layers):
        raise ValueError(
            "`sample` must be None, unless the model is functional or sequential and has layers "
            "with hyper cells that are not stateful, or makes a text. "
            f"Received: {type(sample).__name__} for {model.name}"
        )
