"""Weights for tests that look at values and gradients."""

import numpy as np


def randomize(layer, seed=0, deviation=0.3):
    """Random values in every weight, also those that start at zero; returns them by name.

    `seed` is an integer or a NumPy generator.
    """
    rng, values = np.random.default_rng(seed), {}
    for weight in layer.trainable_weights:
        centre = 1.0 if weight.name.endswith("gamma") else 0.0
        values[weight.name] = centre + deviation * rng.standard_normal(weight.shape)
        weight.assign(values[weight.name])
    return values
