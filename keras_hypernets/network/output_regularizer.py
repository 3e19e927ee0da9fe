"""Holds a HyperNetwork to the weights that it wrote for earlier tasks."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_hypernets.validation import at_least_zero, positive_integer

PREFIX = "protected_"  # of its arrays in a file


class OutputRegularizer:
    """The distance of a generator's weights from those that it wrote before.

        strength / n * sum_j || theta(e_j) now - theta(e_j) then ||^2

    Args:
        conditions: of n tasks, a row for each.
        weights: the weights written for them, `(n, *shape)` each.
        strength: number of at least 0.
        tasks_per_step: how many of the tasks, drawn anew for each step, stand for all. `None`: all.

    Reference:
        [von Oswald et al., 2020](https://arxiv.org/abs/1906.00695), eq. 2, without look-ahead.
    """

    def __init__(
        self, conditions: Any, weights: list, strength: float, tasks_per_step: int | None = None
    ):
        self.conditions, self.weights = conditions, weights
        self.strength = at_least_zero("strength", strength)
        if tasks_per_step is not None:
            positive_integer("tasks_per_step", tasks_per_step)
        self.tasks_per_step = tasks_per_step
        self.tasks = len(keras.tree.flatten(conditions)[0])
        if not self.tasks:
            raise ValueError("`conditions` must have at least one row. Received: none")

    def loss(self, write, seed):
        """Returns the loss of the weights that `write` returns for conditions."""
        conditions, before, tasks = self.conditions, self.weights, self.tasks
        if self.tasks_per_step is not None and self.tasks_per_step < tasks:
            tasks = self.tasks_per_step
            drawn = keras.random.shuffle(ops.arange(self.tasks), seed=seed)[:tasks]
            conditions, before = keras.tree.map_structure(
                lambda rows: ops.take(rows, drawn, axis=0), (conditions, before)
            )
        pairs = zip(write(conditions), before, strict=True)
        squares = [ops.sum(ops.square(form.value() - value)) for form, value in pairs]
        return self.strength / tasks * sum(squares)

    def save(self, store) -> None:
        """Adds what the loss depends on to the arrays of a layer in a file."""
        store[f"{PREFIX}options"] = np.array([self.strength, self.tasks_per_step or 0])
        for name, arrays in (("condition", self.conditions), ("weight", self.weights)):
            for n, array in enumerate(keras.tree.flatten(arrays)):
                store[f"{PREFIX}{name}_{n}"] = ops.convert_to_numpy(array)

    @classmethod
    def load(cls, store, structure: Any) -> "OutputRegularizer | None":
        """Returns what `save` added, or `None`.

        Args:
            store: arrays by name.
            structure: of a condition.
        """
        if f"{PREFIX}options" not in store.keys():  # h5py's groups have no other way to ask
            return None

        def read(name, count):
            arrays = (np.array(store[f"{PREFIX}{name}_{n}"]) for n in range(count))
            return [ops.convert_to_tensor(array) for array in arrays]

        conditions = read("condition", len(keras.tree.flatten(structure)))
        weights = read("weight", sum(key.startswith(f"{PREFIX}weight") for key in store.keys()))
        strength, tasks_per_step = map(float, np.array(store[f"{PREFIX}options"]))
        conditions = keras.tree.pack_sequence_as(structure, conditions)
        return cls(conditions, weights, strength, int(tasks_per_step) or None)
