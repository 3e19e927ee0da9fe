"""Noise that is the same in Python, in a graph, under XLA and in a SavedModel."""

import keras
import numpy as np
from keras import ops


def gumbel_noise(shape, seed, position):
    """Returns standard Gumbel noise that depends only on shape, seed and position.

    A loop in a graph needs a tensor as the seed, which Keras' random functions do not accept.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        # TensorFlow's stateless functions draw different numbers when compiled.
        seed, position = (tf.bitcast(tf.cast(n, "int32"), "uint32") for n in (seed, position))
        key = _mixed(tf.bitwise.bitwise_xor(_mixed(seed), position))
        count = tf.range(tf.reduce_prod(shape))
        bits = _mixed(key + tf.reshape(tf.cast(count, "uint32"), shape))
        uniform = (tf.cast(tf.bitwise.right_shift(bits, np.uint32(9)), "float32") + 0.5) * 2**-23
        return -tf.math.log(-tf.math.log(uniform))
    if backend == "jax":
        import jax

        return jax.random.gumbel(jax.random.fold_in(jax.random.key(seed), position), shape)
    key = np.random.SeedSequence([int(seed) % 2**32, int(position)])
    return ops.convert_to_tensor(np.random.default_rng(key).gumbel(size=tuple(shape)), "float32")


def _mixed(bits):
    """Hashes 32-bit integers: lowbias32 of https://github.com/skeeto/hash-prospector."""
    import tensorflow as tf

    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        shifted = tf.bitwise.right_shift(bits, np.uint32(shift))
        bits = tf.bitwise.bitwise_xor(bits, shifted) * np.uint32(factor)
    return bits
