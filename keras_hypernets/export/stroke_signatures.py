"""Signatures of stroke models."""

import keras

from keras_hypernets.export.request_checks import assertions, can_write, temperature_rule
from keras_hypernets.export.signature import Signature, state_inputs
from keras_hypernets.models.sequences import generation, stepping


def signatures_of_stroke_model(model: keras.Model, max_length: int) -> dict[str, Signature]:
    """Returns signatures to read drawings, and to draw at once or point by point."""
    import tensorflow as tf

    sizes = stepping.state_sizes(model)
    head = stepping.layers_of(model)[-1]

    def drawn(points, name):
        pens = points[..., 2]
        rules = (
            (tf.reduce_all(tf.math.is_finite(points)), f"`{name}` must have finite offsets."),
            (tf.reduce_all((pens == 0) | (pens == 1)), f"`{name}` must have pens that are 0 or 1."),
        )
        with tf.control_dependencies(assertions(*rules)):
            return tf.identity(points)

    def serving_default(strokes):
        states = stepping.initial_states(model, tf.shape(strokes)[0])
        return {"parameters": stepping.run(model, drawn(strokes, "strokes"), states)[0]}

    def step(strokes, seed, position, temperature, *states):
        with tf.control_dependencies(assertions(temperature_rule(temperature))):
            parameters, states = stepping.step(model, drawn(strokes, "strokes"), list(states))
        next_point = head.sample(parameters, temperature, seed, position)
        states = dict(zip(sizes, states, strict=True))
        return {"parameters": parameters, "next_point": next_point, **states}

    def generate(prime, length, temperature, seed):
        checks = can_write(length, prime, "primes", max_length)
        with tf.control_dependencies([*checks, *assertions(temperature_rule(temperature))]):
            prime, length = drawn(prime, "prime"), tf.identity(length)
        count, time = tf.unstack(tf.shape(prime)[:2])
        points = tf.concat([tf.zeros((count, 1, 3)), prime], axis=1)
        beginning = generation.begin(model, points, tf.fill((count,), time + 1))
        written, _ = generation.continue_sequences(model, beginning, 0, length, temperature, seed)
        return {"strokes": written}

    seed, temperature = ("int32", (), 0), ("float32", (), 1)
    sampling = {"seed": seed, "position": seed, "temperature": temperature}
    return {
        "serving_default": Signature(
            serving_default, {"strokes": ("float32", (None, None, 3), [[[0, 0, 0]]])}
        ),
        "step": Signature(
            step,
            {"strokes": ("float32", (None, 3), [[0, 0, 0]]), **sampling, **state_inputs(model)},
        ),
        "generate": Signature(
            generate,
            {
                "prime": ("float32", (None, None, 3), [[[0, 0, 0]]]),
                "length": ("int32", (), min(16, max_length)),
                "temperature": temperature,
                "seed": seed,
            },
        ),
    }
