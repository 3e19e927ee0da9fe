"""Initializers for weights of several gates, with one (in, units) block per gate."""

from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_hypernets.validation import number, seed_integer


def per_gate(initializer: Callable, name: str = "") -> Callable:
    """Makes an initializer fill each gate's block of a gate-major weight separately.

    Keras' initializers compute fan-in and fan-out from the whole shape, and take
    `(gates, in, units)` for a convolution kernel: `glorot_uniform` would have half its deviation or
    less.

    Args:
        initializer: any Keras initializer object, or a function of `(shape, dtype)`.
        name: name of the weight, mixed into the seed so that weights that share an initializer with
            a seed differ.

    Returns:
        A function of `(shape, dtype)` that calls `initializer` on `shape[1:]` once per gate, with
        a different seed each time, and stacks the blocks along axis 0.

    Raises:
        ValueError: if `initializer` is not callable.
    """
    if not callable(initializer):
        raise ValueError(f"`initializer` must be callable. Received: initializer={initializer!r}")

    def initialize(shape, dtype=None):
        blocks = _independent(initializer, shape[0], name)
        return ops.stack([block(tuple(shape[1:]), dtype=dtype) for block in blocks])

    return initialize


def _independent(initializer: Callable, count: int, name: str) -> list[Callable]:
    """Returns `count` copies with different seeds, since one would repeat its values."""
    if not isinstance(initializer, keras.initializers.Initializer):
        return [initializer] * count
    config = initializer.get_config()
    seed = config.get("seed")
    if "seed" not in config or not (seed is None or isinstance(seed, int)):
        return [initializer] * count  # not random, or with a SeedGenerator, which advances
    seeds = [None] * count
    if seed is not None:
        entropy = np.random.SeedSequence([seed % 2**32, *name.encode()])
        seeds = [int(s) for s in entropy.generate_state(count)]
    return [type(initializer).from_config({**config, "seed": s}) for s in seeds]


@keras.saving.register_keras_serializable(package="keras_hypernets")
class GateOrthogonal(keras.initializers.Orthogonal):
    """Initializer that makes each gate's block orthogonal.

    Keras' `"orthogonal"` on an LSTM's `(units, 4 * units)` kernel makes one matrix with orthonormal
    rows, in which each gate's square block has a root mean square singular value of 0.5. Here each
    `(in, units)` block is (semi-)orthogonal: all its singular values equal `gain`.

    Args:
        gain: float, multiplies each block. Default 1.0.
        seed: integer or `keras.random.SeedGenerator`, from which each gate's seed is derived.

    Call arguments:
        shape: `(gates, in, units)`, or `(in, units)` for a single block.
        dtype: data type of the values.

    Example:

    >>> import numpy as np
    >>> kernel = keras_hypernets.initializers.GateOrthogonal(seed=1)((4, 3, 3))
    >>> singular_values = np.linalg.svd(keras.ops.convert_to_numpy(kernel), compute_uv=False)
    >>> bool(np.allclose(singular_values, 1.0, atol=1e-5))
    True

    Reference:
        [Ha et al., 2016](https://arxiv.org/abs/1609.09106), appendix A.2.3.
    """

    def __init__(self, gain=1.0, seed=None):
        of_file = isinstance(seed, dict) and "class_name" in seed  # a SeedGenerator's config
        if seed is not None and not isinstance(seed, keras.random.SeedGenerator) and not of_file:
            seed = seed_integer("seed", seed, 2**32)
        super().__init__(gain=number("gain", gain), seed=seed)

    def __call__(self, shape, dtype=None):
        if len(shape) == 3:
            block = keras.initializers.Orthogonal(gain=self.gain, seed=self.seed)
            return per_gate(block)(shape, dtype=dtype)
        return super().__call__(shape, dtype=dtype)
