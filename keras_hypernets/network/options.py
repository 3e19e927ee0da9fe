"""Checks which options of a HyperNetwork go together."""

import keras

from keras_hypernets.static.kernel_generator import KernelGenerator
from keras_hypernets.validation import one_of, positive_integer, positive_number


def check_options(hyper: keras.Layer) -> None:
    """Raises ValueError if an option of a HyperNetwork is out of range, or another excludes it."""
    if hyper.base not in ("trainable", "frozen", None):
        raise ValueError(
            f"`base` must be 'trainable', 'frozen' or None. Received: base={hyper.base!r}"
        )
    for name in ("embedding_dim", "rank", "chunk_size"):
        value = getattr(hyper, name)
        if value is not None:
            positive_integer(name, value)
    if hyper.alpha is not None:
        positive_number("alpha", hyper.alpha)
    if hyper.condition_encoding is not None:
        one_of("condition_encoding", hyper.condition_encoding, ("cos_sin",))
    if hyper.generator is not None and not isinstance(hyper.generator, keras.Layer):
        raise ValueError(
            "`generator` must be a Keras layer or model, or a KernelGenerator. "
            f"Received: generator={hyper.generator!r}"
        )
    if hyper.generation == "low_rank":
        _require_none(hyper, "with generation='low_rank'", "chunk_size")
        positive_integer("rank", hyper.rank)
    else:
        _require_none(hyper, "unless generation='low_rank'", "rank", "alpha")
    if hyper.generation == "scaling" and hyper.base is None:
        raise ValueError(
            "`base` must be 'trainable' or 'frozen' with generation='scaling', which scales it. "
            "Received: base=None"
        )
    if hyper.embedding_dim is not None:
        _require_none(hyper, "with an `embedding_dim`, which has no range", "condition_encoding")
    if hyper.per_sample:
        _require_none(hyper, "with per_sample=True, which needs a condition", "embedding_dim")
    if isinstance(hyper.generator, KernelGenerator):
        names = "base", "chunk_size", "embedding_dim", "condition_encoding"
        _require_none(hyper, "with a KernelGenerator as the generator", *names)
        for name, needed in (("generation", "full"), ("per_sample", False)):
            if getattr(hyper, name) != needed:
                raise ValueError(
                    f"`{name}` must be {needed!r} with a KernelGenerator as the generator. "
                    f"Received: {name}={getattr(hyper, name)!r}"
                )


def _require_none(hyper, when, *names):
    for name in names:
        value = getattr(hyper, name)
        if value is not None:
            raise ValueError(f"`{name}` must be None {when}. Received: {name}={value!r}")
