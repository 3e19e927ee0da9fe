"""Images for the examples: where they come from and how they are split."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from common.prepared_data import prepared_builder

# Of the training images, the last so many are for validation.
VALIDATION = 5_000
SPLIT_SEED = 0  # of `digits`, which comes without a split

HOSTS = {
    "mnist": "https://storage.googleapis.com",
    "fashion_mnist": "https://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    "cifar10": "https://www.cs.toronto.edu",
}
ALTERNATIVES = {
    "mnist": "; --dataset digits needs no download, fashion_mnist another one",
    "fashion_mnist": "; --dataset digits needs no download, mnist another one",
}


@dataclass(frozen=True)
class ImageData:
    """Labelled images: uint8 `(images, height, width, channels)` and int32 `(images,)`.

    The test images are what `test` returns, so that nothing is chosen on them by mistake.
    """

    name: str
    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: Callable[[], tuple[np.ndarray, np.ndarray]]
    class_names: tuple[str, ...]
    sha256: str

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)`."""
        return self.train[0].shape[1:]

    @property
    def description(self) -> str:
        """Two lines for people."""
        size = " x ".join(map(str, self.image_shape))
        return (
            f"{self.name}: {self.classes} classes of {size}, {len(self.train[0]):,} images to "
            f"train, {len(self.validation[0]):,} to validate\nSHA-256 {self.sha256}"
        )


def load_images(name: str) -> ImageData:
    """Loads a data set of images and splits it into training and validation images.

    Args:
        name: One of
            - `"mnist"`, `"fashion_mnist"`, `"cifar10"`: through tensorflow-datasets, which honours
              `TFDS_DATA_DIR` and downloads what has not been prepared there. The last 5,000
              training images are for validation.
            - `"digits"`: the 1,797 handwritten digits of 8 x 8 that come with scikit-learn, in a
              fixed random order: 1,258 to train, 180 to validate, 359 to test.

    Returns:
        The images.

    Raises:
        ValueError: If `name` is unknown or the data cannot be had.
    """
    if name == "digits":
        train, validation, test = _digits()
        class_names = tuple("0123456789")

        def load_test():
            return test
    elif name in HOSTS:
        images, labels, class_names = _prepared(name, "train")
        train, validation = (
            (images[part], labels[part]) for part in (slice(-VALIDATION), slice(-VALIDATION, None))
        )

        def load_test():
            return _prepared(name, "test")[:2]
    else:
        known = ", ".join([*HOSTS, "digits"])
        raise ValueError(f"`--dataset` must be one of {known}. Received: {name!r}")
    digest = hashlib.sha256()
    for array in (*train, *validation):
        digest.update(np.ascontiguousarray(array))
    return ImageData(name, train, validation, load_test, class_names, digest.hexdigest())


def _prepared(name: str, split: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    with prepared_builder(name, HOSTS[name], ALTERNATIVES.get(name, "")) as builder:
        import tensorflow_datasets as tfds

        dataset = builder.as_dataset(split=split, batch_size=-1, as_supervised=True)
        images, labels = tfds.as_numpy(dataset)
        class_names = tuple(builder.info.features["label"].names)
    return images, labels.astype("int32"), class_names


def _digits() -> list[tuple[np.ndarray, np.ndarray]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError(
            "`--dataset` 'digits' needs scikit-learn (pip install scikit-learn); 'mnist' and "
            f"'fashion_mnist' need tensorflow-datasets instead. Received: {error}"
        ) from error
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype("uint8")[..., np.newaxis]
    labels = digits.target.astype("int32")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(images))
    size = len(images)
    cuts = [round(0.7 * size), round(0.8 * size)]
    return [(images[part], labels[part]) for part in np.split(order, cuts)]
