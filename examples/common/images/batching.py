"""How the examples make batches of images, and change the images while they do.

Every batch is a function of the images, the seed and the step alone. Nothing is consumed, so a run
resumed at step n sees exactly what an uninterrupted run would have seen from step n on.
"""

from collections.abc import Callable

import numpy as np

Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class ImageBatches:
    """Shuffled batches; each pass has its own order and leaves out what does not fill a batch.

    Args:
        images: `(images, height, width, channels)`.
        labels: `(images,)`.
        batch_size: Images per batch.
        seed: Seed of the orders and of the augmentation.
        augment: Takes a batch of images and a generator of random numbers and returns changed
            images of the same shape.

    Raises:
        ValueError: If there are fewer images than `batch_size`.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        seed: int,
        augment: Augmentation,
    ):
        if len(images) < batch_size:
            raise ValueError(
                f"`--batch-size` must not exceed the {len(images)} training images. "
                f"Received: --batch-size {batch_size}"
            )
        self.images = images
        self.labels = labels
        self.batch_size = batch_size
        self.seed = seed
        self.augment = augment
        self.steps_per_pass = len(images) // batch_size
        self._order = (-1, np.empty(0, int))

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the images and labels of a step. Steps count on over the passes."""
        number, position = divmod(step, self.steps_per_pass)
        if self._order[0] != number:
            order = np.random.default_rng([self.seed, 0, number]).permutation(len(self.images))
            self._order = (number, order)
        chosen = self._order[1][position * self.batch_size :][: self.batch_size]
        rng = np.random.default_rng([self.seed, 1, step])
        return self.augment(self.images[chosen], rng), self.labels[chosen]


def random_crop(images: np.ndarray, rng: np.random.Generator, padding: int) -> np.ndarray:
    """Pads each side with `padding` rows and columns of zeros and cuts out the old size."""
    border = (padding, padding)
    padded = np.pad(images, ((0, 0), border, border, (0, 0)))
    return _cut(padded, images.shape, rng)


def random_flip(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turns left and right round in every second image, on average."""
    flip = rng.random(len(images)) < 0.5
    images = images.copy()
    images[flip] = images[flip, :, ::-1]
    return images


def crop_and_flip(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Does what the paper does with CIFAR-10: pads each side by 2, crops, turns round."""
    return random_flip(random_crop(images, rng, 2), rng)


def random_stretch(images: np.ndarray, rng: np.random.Generator, amount: int = 2) -> np.ndarray:
    """Inserts rows and columns at random places and cuts out the old size at random.

    A new row is the mean of the rows before and after it. This is what the author's MNIST notebook
    does, with 2 rows and 2 columns.
    """
    stretched = images
    for axis in (1, 2) * amount:
        stretched = _insert(stretched, axis, rng)
    return _cut(stretched, images.shape, rng)


def _insert(images: np.ndarray, axis: int, rng: np.random.Generator) -> np.ndarray:
    count, size = len(images), images.shape[axis]
    place = rng.integers(1, size, count)[:, np.newaxis]
    target = np.arange(size + 1)
    before, after = target - (target >= place), target - (target > place)
    shape = [1] * images.ndim
    shape[0], shape[axis] = count, size + 1
    one, other = (np.take_along_axis(images, rows.reshape(shape), axis) for rows in (before, after))
    mean = (one.astype("float32") + other) / 2
    return np.round(mean).astype(images.dtype)


def _cut(images: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(images, shape[1:3], axis=(1, 2))
    top, left = (rng.integers(size, size=len(images)) for size in windows.shape[1:3])
    # (images, channels, height, width): the window's axes come last.
    cut = windows[np.arange(len(images)), top, left]
    return np.ascontiguousarray(np.moveaxis(cut, 1, -1))
