"""Drawing the next character."""

from typing import Any

from keras import ops

from keras_hypernets.models.sequences.gumbel_noise import gumbel_noise
from keras_hypernets.validation import array, number, positive_integer, seed_integer, share

HOTTEST = 1e30  # a temperature at which every character is as likely, and float32 holds the product


def sample(
    logits: Any,
    temperature: Any,
    seed: Any,
    position: Any,
    top_k: Any = None,
    top_p: Any = None,
) -> Any:
    """Draws from softmax(logits / temperature), the same for the same `(seed, position)`.

    By the Gumbel trick: argmax of logits + temperature * noise; a temperature of 0 takes the most
    likely character.

    Args:
        logits: `(..., characters)`.
        temperature: number in [0, 1e30].
        seed: integer of 32 bits.
        position: integer of 32 bits; another one draws anew.
        top_k: positive integer; only so many of the most likely characters can be drawn. Default
            `None`, all; in a tensor 0 is all.
        top_p: number in (0, 1]; of these only the fewest most likely ones can be drawn that have so
            much of their probability together. Default `None`, all. With both, characters as likely
            as the last that is left are left as well.

    Returns:
        `(...)` int32.

    Raises:
        ValueError: for numbers out of their range; those in tensors are not looked at.

    References:
        [Fan et al., 2018](https://arxiv.org/abs/1805.04833) (top k),
        [Holtzman et al., 2020](https://arxiv.org/abs/1904.09751) (top p).
    """
    check_sampling(temperature, seed, top_k, top_p)
    if not ops.is_tensor(position):
        seed_integer("position", position)
    array("logits", logits, "(..., characters)", "float", range(1, 10))
    logits, temperature = ops.cast(logits, "float32"), ops.cast(temperature, "float32")
    if top_k is not None or top_p is not None:
        top_k = 0 if top_k is None else top_k
        top_p = 1.0 if top_p is None else top_p
        logits = ops.cond(
            (top_k < 1) & (top_p >= 1),
            lambda: logits,
            lambda: _most_likely(logits, temperature, top_k, top_p),
        )
    noise = gumbel_noise(ops.shape(logits), seed, position)
    return ops.cast(ops.argmax(logits + temperature * noise, axis=-1), "int32")


def check_sampling(temperature: Any, seed: Any, top_k: Any, top_p: Any) -> None:
    """Raises ValueError for numbers out of their range; those in tensors are not looked at."""
    checks = [("temperature", temperature, _temperature), ("seed", seed, seed_integer)]
    if top_k is not None:
        checks.append(("top_k", top_k, positive_integer))
    if top_p is not None:
        checks.append(("top_p", top_p, share))
    for name, value, check in checks:
        if not ops.is_tensor(value):
            check(name, value)


def _temperature(name, value):
    return number(name, value, "a number in [0, 1e30]", lambda value: 0 <= value <= HOTTEST)


def _most_likely(logits, temperature, top_k, top_p):
    """Puts minus infinity for the logits of all characters that cannot be drawn."""
    descending = ops.flip(ops.sort(logits, axis=-1), axis=-1)
    allowed = (ops.arange(logits.shape[-1]) < top_k) | (top_k < 1)
    # At a temperature of 0 the most likely character has all of the probability.
    scaled = (descending - descending[..., :1]) / ops.maximum(temperature, 1e-30)
    likely = ops.where(allowed, ops.exp(scaled), 0.0)
    before = ops.cumsum(likely, axis=-1) - likely
    needed = before < top_p * ops.sum(likely, axis=-1, keepdims=True)
    allowed = allowed & (needed | (top_p >= 1))
    last = ops.sum(ops.cast(allowed, "int32"), axis=-1, keepdims=True) - 1
    # In float32 a top_p may be 0, and nothing needed.
    least = ops.take_along_axis(descending, ops.maximum(last, 0), axis=-1)
    return ops.where(logits >= least, logits, -float("inf"))
