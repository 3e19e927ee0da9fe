"""Sampling the next character."""

from typing import Any

from keras import ops

from keras_hypernets.models.sequences.gumbel_noise import gumbel_noise
from keras_hypernets.validation import array, number, positive_integer, seed_integer, share

HOTTEST = 1e30  # makes all characters equally likely, without overflow in float32


def sample(
    logits: Any,
    temperature: Any,
    seed: Any,
    position: Any,
    top_k: Any = None,
    top_p: Any = None,
) -> Any:
    """Samples from softmax(logits / temperature), reproducibly for each `(seed, position)`.

    The Gumbel-max trick: argmax of logits + temperature * noise. A temperature of 0 takes the most
    likely character.

    Args:
        logits: `(..., characters)`.
        temperature: number in [0, 1e30].
        seed: 32-bit integer.
        position: 32-bit integer; each position has independent noise.
        top_k: positive integer. Sample from the `top_k` most likely characters. Default `None`:
            all. In a tensor, 0 means all.
        top_p: number in (0, 1]. Sample from the smallest set of characters whose probabilities,
            among the `top_k`, sum to at least `top_p`. Default `None`: all. Both keep characters
            tied with the last one kept.

    Returns:
        int32 ids `(...)`.

    Raises:
        ValueError: if a number is out of range; tensors are not checked.

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
    """Raises ValueError if a number is out of range; tensors are not checked."""
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
    """Sets the logits of excluded characters to minus infinity."""
    descending = ops.flip(ops.sort(logits, axis=-1), axis=-1)
    allowed = (ops.arange(logits.shape[-1]) < top_k) | (top_k < 1)
    # At a temperature of 0 the most likely character has all the probability.
    scaled = (descending - descending[..., :1]) / ops.maximum(temperature, 1e-30)
    likely = ops.where(allowed, ops.exp(scaled), 0.0)
    before = ops.cumsum(likely, axis=-1) - likely
    needed = before < top_p * ops.sum(likely, axis=-1, keepdims=True)
    allowed = allowed & (needed | (top_p >= 1))
    last = ops.sum(ops.cast(allowed, "int32"), axis=-1, keepdims=True) - 1
    # In float32 a tiny top_p may be 0, and then nothing is needed.
    least = ops.take_along_axis(descending, ops.maximum(last, 0), axis=-1)
    return ops.where(logits >= least, logits, -float("inf"))
