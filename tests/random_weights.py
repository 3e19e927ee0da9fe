"""Weights for tests that look at values and gradients."""

import numpy as np


def randomize(layer, seed=0, deviation=0.3):
    """Random values in every weight: those that start at zero would block gradients."""
    rng = np.random.default_rng(seed)
    for weight in layer.trainable_weights:
        centre = 1.0 if weight.name.endswith("gamma") else 0.0
        weight.assign(centre + deviation * rng.standard_normal(weight.shape))
