"""Drawing with a stroke model."""

import random
from typing import Any

import keras
import numpy as np

from keras_hypernets.models.sequences.generation import generate
from keras_hypernets.models.strokes.points import check_strokes
from keras_hypernets.models.strokes.stroke_model import check_stroke_model
from keras_hypernets.validation import positive_integer


def generate_strokes(
    model: keras.Model,
    length: int,
    temperature: float = 1.0,
    seed: int | None = None,
    prime: Any = None,
    count: int | None = None,
) -> np.ndarray:
    """Draws with a stroke model.

    As for text, the first call compiles on TensorFlow, and so does a call with another number of
    drawings, or a prime or length beyond the next power of two.

    Args:
        model: a stroke model, such as `stroke_model` creates.
        length: positive integer, number of points to add.
        temperature: number in [0, 1e30]. It divides the logits of the mixture and of the pen, and
            multiplies sigma squared; 0 always takes the mean of the most probable Gaussian and the
            more probable pen. Default 1.
        seed: integer. The same seed gives the same drawing, and a greater `length` extends it.
            Default `None`: random, by Python's generator, as for the layers of Keras.
        prime: points to continue, `(time, 3)`, or a list of such arrays, which may differ in
            length. Default `None`: a new drawing.
        count: positive integer, number of different drawings, all from the same prime. Default
            `None`: one, without an axis for it.

    Returns:
        The points added, without the prime: `(length, 3)`, (dx, dy, 1 if the pen is lifted after
        the point, else 0); with `count` or a list of primes `(drawings, length, 3)`.

    Raises:
        ValueError: if `model` is not a stroke model, a prime has no points, offsets that are not
            finite or pens that are not 0 or 1, or another argument is out of range.

    Example:

    >>> models = keras_hypernets.models
    >>> model = models.stroke_model(16, mixtures=5, hyper_units=8, embedding_dim=4)
    >>> models.generate_strokes(model, length=10, seed=1, count=4).shape
    (4, 10, 3)
    >>> models.generate_strokes(model, length=10, prime=[[1.0, 0.0, 0.0], [0.0, 2.0, 1.0]]).shape
    (10, 3)
    """
    check_stroke_model(model)
    primes, several = _primes(prime, count)
    seed = random.randrange(2**31) if seed is None else seed
    # Every drawing begins after a point (0, 0, 0), as in training.
    lengths = [1 + len(points) for points in primes]
    inputs = np.zeros((len(primes), max(lengths), 3), "float32")
    for row, points in zip(inputs, primes, strict=True):
        row[1 : 1 + len(points)] = points
    points = generate(model, inputs, length, temperature, seed, lengths)
    return points if several else points[0]


def _primes(prime, count):
    """Returns the points of each drawing to continue, and whether there is an axis for them."""
    if count is not None:
        count = positive_integer("count", count)
    if prime is None:
        return [np.zeros((0, 3))] * (count or 1), count is not None
    if isinstance(prime, (list, tuple)) and prime and np.ndim(prime[0]) == 2:
        if count is not None:
            raise ValueError(
                f"`count` must be None with a list of primes. Received: {len(prime)}, count={count}"
            )
        return [check_strokes("prime", points) for points in prime], True
    return [check_strokes("prime", prime)] * (count or 1), count is not None
