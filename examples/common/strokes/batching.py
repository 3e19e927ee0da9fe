"""How the examples make batches of drawings, and change the drawings while they do.

Every batch is a function of the drawings, the seed and the step alone. Nothing is consumed, so a
run resumed at step n sees exactly what an uninterrupted run would have seen from step n on.
"""

from collections.abc import Iterator

import numpy as np

LENGTHS = 6  # to which batches are padded: each is another shape, which may be compiled anew
STRETCH = 0.1  # each drawing by a factor of its own in x and in y, from 0.9 to 1.1
Batch = tuple[np.ndarray, np.ndarray, np.ndarray]


class StrokeBatches:
    """Batches of drawings of similar length, `(inputs, targets, weights)`.

    A model reads the points `inputs` to predict the points after them, `targets`, both
    `(batch_size, time, 3)`. `weights`, `(batch_size, time)`, are 1, and 0 for padding.

    Each pass has its own order and leaves out what does not fill a batch. Its drawings are
    stretched at random. Coordinates get noise, see `load_drawings`.

    Args:
        drawings: arrays `(points, 3)`, of at least 2 points.
        batch_size: drawings per batch.
        seed: seed of the orders, the stretching and the noise.
        scale: number by which offsets are divided.
        resolution: width of the noise, before that.

    Raises:
        ValueError: if there are fewer drawings than `batch_size`.
    """

    def __init__(
        self,
        drawings: list[np.ndarray],
        batch_size: int,
        seed: int,
        scale: float,
        resolution: float,
    ):
        if len(drawings) < batch_size:
            raise ValueError(
                f"`--batch-size` must not exceed the {len(drawings)} training drawings. "
                f"Received: --batch-size {batch_size}"
            )
        self.drawings = drawings
        self.batch_size = batch_size
        self.seed = seed
        self.scale = scale
        self.resolution = resolution
        self.steps_per_pass = len(drawings) // batch_size
        points = np.array([len(drawing) - 1 for drawing in drawings])  # to predict
        step = -(-points.max() // LENGTHS)
        self._padded = -(-points // step) * step
        self._order = (-1, np.empty(0, int))
        self._evaluation_batches = []
        for length in np.unique(self._padded):
            same = np.flatnonzero(self._padded == length)
            self._evaluation_batches += np.split(same, range(batch_size, len(same), batch_size))
        self.evaluation_steps = len(self._evaluation_batches)

    def batch(self, step: int) -> Batch:
        """Returns the batch of a step. Steps count on over the passes."""
        number, position = divmod(step, self.steps_per_pass)
        if self._order[0] != number:
            self._order = (number, self._batches(np.random.default_rng([self.seed, 0, number])))
        chosen = self._order[1][position]
        rng = np.random.default_rng([self.seed, 1, step])
        stretch = rng.uniform(1 - STRETCH, 1 + STRETCH, (len(chosen), 2))
        return self._padded_batch(chosen, rng, stretch)

    def evaluation_batches(self) -> Iterator[Batch]:
        """Yields all drawings once, not stretched, in `evaluation_steps` batches, some not full."""
        rng = np.random.default_rng([self.seed, 2])
        for chosen in self._evaluation_batches:
            yield self._padded_batch(chosen, rng, np.ones((len(chosen), 2)))

    def _batches(self, rng):
        """Returns the drawings of each batch of a pass, `(batches, batch_size)`."""
        kept = rng.permutation(len(self.drawings))[: self.steps_per_pass * self.batch_size]
        kept = kept[np.argsort(self._padded[kept], kind="stable")]
        return rng.permutation(kept.reshape(-1, self.batch_size))

    def _padded_batch(self, chosen, rng, stretch):
        length = self._padded[chosen].max()
        points = np.zeros((len(chosen), 1 + length, 3), "float32")
        weights = np.zeros((len(chosen), length), "float32")
        for row, weight, number, factor in zip(points, weights, chosen, stretch, strict=True):
            drawing = self.drawings[number]
            row[: len(drawing)] = drawing
            weight[: len(drawing) - 1] = 1
            noise = rng.uniform(-0.5, 0.5, (len(drawing), 2)) * self.resolution
            row[1 : len(drawing), :2] += np.diff(noise, axis=0)
            row[:, :2] *= factor / self.scale
        return points[:, :-1], points[:, 1:], weights
