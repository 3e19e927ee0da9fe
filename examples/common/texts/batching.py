"""How the examples cut a text into batches.

Every batch is a function of the text, the seed and the step alone. Nothing is consumed, so a run
resumed at step n sees exactly what an uninterrupted run would have seen from step n on.
"""

from collections.abc import Iterator

import numpy as np

from keras_hypernets.validation import integer, positive_integer


class _Batches:
    """What both ways of cutting a text into batches share."""

    carries_state: bool

    def __init__(self, ids: np.ndarray, batch_size: int, sequence_length: int):
        self.ids = np.asarray(ids, np.int32)
        self.batch_size = positive_integer("batch_size", batch_size)
        self.sequence_length = positive_integer("sequence_length", sequence_length)
        self.steps_per_pass = (len(self.ids) - 1) // (batch_size * sequence_length)
        if self.steps_per_pass < 1:
            raise ValueError(
                "`batch_size` * `sequence_length` must be less than the length of the text. "
                f"Received: batch_size={batch_size}, sequence_length={sequence_length}, "
                f"a text of {len(self.ids)} characters"
            )

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns inputs and targets of a step, int32 `(batch_size, sequence_length)` each.

        Targets are the inputs moved on by one character. Steps count on over the passes.
        """
        starts = self._starts(*divmod(step, self.steps_per_pass))
        block = self.ids[starts[:, np.newaxis] + np.arange(self.sequence_length + 1)]
        return block[:, :-1], block[:, 1:]


class Streams(_Batches):
    """Contiguous streams, for truncated backpropagation through time.

    The text is cut into `batch_size` streams of equal length, one per row. Until a pass ends, each
    batch continues the rows of the one before it, so the final state of one is the initial state of
    the next. Of the characters at the end of the text, those that do not fill a batch (fewer than
    `batch_size * sequence_length`) are never predicted in training, nor is the very first one.

    Args:
        ids: The text, int32 `(characters,)`.
        batch_size: Number of streams.
        sequence_length: Characters per row of a batch.

    Raises:
        ValueError: If the text does not fill one batch, or a size is not a positive integer.
    """

    carries_state = True

    def starts_pass(self, step: int) -> bool:
        """Tells whether the state must be reset before this step."""
        return step % self.steps_per_pass == 0

    def _starts(self, _: int, position: int) -> np.ndarray:
        first = np.arange(self.batch_size) * (self.steps_per_pass * self.sequence_length)
        return first + position * self.sequence_length


class Windows(_Batches):
    """Shuffled windows, each with a state that begins at zero.

    In each pass the windows lie side by side, without gap or overlap, and come in a new order. What
    does not fill a batch (fewer than `batch_size * sequence_length` characters) is left out, partly
    at the beginning and partly at the end of the text; the share of each end is drawn anew for each
    pass, which moves the cuts. The draws depend on the seed and the number of the pass only.

    Args:
        ids: The text, int32 `(characters,)`.
        batch_size: Windows per batch.
        sequence_length: Characters per window.
        seed: Seed of the draws, 0 or more.

    Raises:
        ValueError: If the text does not fill one batch, a size is not a positive integer or the
            seed is not an integer of 0 or more.
    """

    carries_state = False

    def __init__(self, ids: np.ndarray, batch_size: int, sequence_length: int, seed: int):
        super().__init__(ids, batch_size, sequence_length)
        self.seed = integer("seed", seed, "an integer of at least 0", lambda seed: seed >= 0)
        self._drawn = (-1, np.empty(0, int))

    def starts_pass(self, step: int) -> bool:
        """Tells whether the state must be reset before this step: always."""
        return True

    def _starts(self, number: int, position: int) -> np.ndarray:
        drawn = self._drawn
        if drawn[0] != number:
            generator = np.random.default_rng([self.seed, number])
            windows = self.steps_per_pass * self.batch_size
            spare = len(self.ids) - 1 - windows * self.sequence_length
            offset = generator.integers(spare + 1)
            drawn = (number, offset + generator.permutation(windows) * self.sequence_length)
            self._drawn = drawn
        return drawn[1][position * self.batch_size :][: self.batch_size]


def evaluation_chunks(
    ids: np.ndarray, chunk_length: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cuts one stream into chunks that predict every character but the first exactly once.

    Args:
        ids: The text, int32 `(characters,)`.
        chunk_length: Characters per chunk; the last chunk may be shorter.

    Returns:
        Iterator over inputs and targets, int32 `(1, time)` each.

    Raises:
        ValueError: If the text has fewer than 2 characters, or `chunk_length` is not a positive
            integer.
    """
    chunk_length = positive_integer("chunk_length", chunk_length)
    ids = np.asarray(ids, np.int32)
    if len(ids) < 2:
        raise ValueError(
            f"`ids` must have at least 2 characters to evaluate. Received: {len(ids)} characters"
        )
    inputs, targets = ids[np.newaxis, :-1], ids[np.newaxis, 1:]
    chunks = (slice(start, start + chunk_length) for start in range(0, len(ids) - 1, chunk_length))
    return ((inputs[:, chunk], targets[:, chunk]) for chunk in chunks)
