"""Runs a model with weights of each sample's own."""

import contextlib
from collections.abc import Iterable, Iterator

import keras

from keras_hypernets.network.forms import LowRank, Scaled, Whole


@contextlib.contextmanager
def weights_per_sample(
    target: keras.Layer,
    weights: Iterable[tuple[keras.Variable, Whole | LowRank | Scaled]],
    compiled: bool = False,
) -> Iterator[None]:
    """A context in which a call of the target runs each sample with weights of its own.

    Args:
        target: a built model or layer.
        weights: variables of the target, each with a form that has a row per sample.
        compiled: whether XLA may compile convolutions on TensorFlow. It is faster, and meant for
            training: a server refuses a SavedModel with operations of XLA unless it is told
            otherwise.
    """
    raise NotImplementedError
    yield
