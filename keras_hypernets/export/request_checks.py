"""Checks of requests in the graph of a SavedModel, for `tf.control_dependencies`."""

from typing import Any

from keras_hypernets.models.sequences import sampling


def can_write(length: Any, beginnings: Any, name: str, most: int) -> list:
    """Returns assertions that a request does not write more than `most` steps altogether.

    Args:
        length: number of steps to write for each of the `beginnings`, a tensor.
        beginnings: tensor with one of them in each row.
        name: what to call them.
        most: `max_length` of the SavedModel.
    """
    import tensorflow as tf

    all_together = tf.cast(length, "int64") * tf.shape(beginnings, "int64")[0]
    rule = f"`length` times the number of {name} must be at most {most}."
    return [
        tf.debugging.assert_positive(length, "`length` must be at least 1."),
        tf.debugging.assert_less_equal(all_together, tf.constant(most, "int64"), rule),
    ]


def temperature_rule(temperature: Any) -> tuple[Any, str]:
    fulfilled = (temperature >= 0) & (temperature <= sampling.HOTTEST)
    return fulfilled, "`temperature` must be in [0, 1e30]."


def assertions(*rules: tuple[Any, str]) -> list:
    """Returns assertions of rules, each whether it is fulfilled and how it reads."""
    import tensorflow as tf

    return [tf.debugging.Assert(fulfilled, [rule]) for fulfilled, rule in rules]
