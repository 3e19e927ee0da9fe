"""Writes files for TensorBoard with TensorFlow only.

`tf.summary.scalar` and the like need the package `tensorboard`; `tf.summary.write` does not.
"""

import contextlib
import io
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DATA_CLASSES = {"scalars": 1, "histograms": 2, "images": 3}  # scalar, tensor, sequence of blobs
PIXELS = 1600  # maximum on a side of a figure


def tensorflow() -> Any:
    """Returns the module `tensorflow`, which writes the files on every backend.

    Raises:
        ImportError: if TensorFlow is not installed.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            "Writing files for TensorBoard needs TensorFlow on every backend: "
            "pip install tensorflow"
        ) from error
    if keras.backend.backend() != "tensorflow":
        with contextlib.suppress(RuntimeError):  # if TensorFlow is in use already
            tf.config.set_visible_devices([], "GPU")  # else it would take their memory
    return tf


def write_scalar(name: str, value: float) -> None:
    _write(name, "scalars", value)


def write_histogram(name: str, values: np.ndarray) -> None:
    """Writes left end, right end and count of 30 bins, leaving out NaN and infinity."""
    values = values[np.isfinite(values)].astype("float64")  # float32 bins may have zero width
    counts, ends = np.histogram(values, 30)
    _write(name, "histograms", np.stack([ends[:-1], ends[1:], counts], axis=1))


def write_figure(name: str, figure: "Figure") -> None:
    file = io.BytesIO()
    dpi = min(figure.dpi, PIXELS / max(figure.get_size_inches()))
    figure.savefig(file, format="png", dpi=dpi)
    image = file.getvalue()
    sizes = [int.from_bytes(image[n : n + 4]) for n in (16, 20)]  # in the header of every PNG
    _write(name, "images", [*(str(size).encode() for size in sizes), image])


def _write(name, plugin, value):
    tf = tensorflow()
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = plugin
    metadata.data_class = DATA_CLASSES[plugin]
    tf.summary.write(name, value, metadata=metadata)
