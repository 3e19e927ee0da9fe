"""Tasks that are learned one after the other."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Task:
    """One task: inputs with targets, to train and to test."""

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def toy() -> list[Task]:
    """Three regressions in one dimension, of disjoint ranges (von Oswald et al., 2020)."""
    rng, tasks = np.random.default_rng(0), []
    for low, high, function in (
        (-4, -2, lambda x: x + 3),
        (-1, 1, lambda x: 2 * x**2 - 1),
        (2, 4, lambda x: (x - 3) ** 3),
    ):
        x, test_x = rng.uniform(low, high, (100, 1)), np.linspace(low, high, 100)[:, None]
        noise = rng.normal(0, 0.05, (100, 1))
        arrays = x, function(x) + noise, test_x, function(test_x)
        tasks.append(Task(*(array.astype("float32") for array in arrays)))
    return tasks


def split_mnist() -> list[Task]:
    """Five tasks of two digits each: 0 and 1, 2 and 3, ... The target says which of the two."""
    (x, y), (test_x, test_y) = _mnist()
    tasks = []
    for first in range(0, 10, 2):
        train, test = y // 2 == first // 2, test_y // 2 == first // 2
        tasks.append(Task(x[train], y[train] - first, test_x[test], test_y[test] - first))
    return tasks


def permuted_mnist(count: int) -> list[Task]:
    """All digits, in each task with the pixels in another order; the first is as it was."""
    (x, y), (test_x, test_y) = _mnist()
    orders = [np.arange(784)]
    orders += [np.random.default_rng(n).permutation(784) for n in range(1, count)]
    return [Task(x[:, order], y, test_x[:, order], test_y) for order in orders]


def _mnist():
    from common.images.datasets import load_images

    data = load_images("mnist")
    print(data.description)
    return [
        (images.reshape(-1, 784).astype("float32") / 255, labels)
        for images, labels in (data.train, data.test())
    ]
