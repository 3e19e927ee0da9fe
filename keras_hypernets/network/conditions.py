"""Checks of the condition of a HyperNetwork."""

import keras
from keras import ops

from keras_hypernets.static.kernel_generator import KernelGenerator


def check_condition_shape(hyper: keras.Layer, shape) -> int | None:
    """Returns how many features a condition of this shape has, `None` if a `generator` reads it.

    Raises:
        ValueError: unless a condition of this shape, or none, fits the options.
    """
    learned = hyper.embedding_dim is not None or isinstance(hyper.generator, KernelGenerator)
    if shape is None:
        needed_by = {
            "with per_sample=True": hyper.per_sample,
            "with a `condition_encoding`": hyper.condition_encoding is not None,
            "without an `embedding_dim`": not (learned or hyper.chunk_size),
        }
        for rule, needed in needed_by.items():
            if needed:
                raise ValueError(
                    f"`condition` must be given to {hyper.name} {rule}. Received: none"
                )
        return None
    if learned:
        what = "an `embedding_dim`" if hyper.embedding_dim else "a KernelGenerator"
        raise ValueError(
            f"`condition` must be None with {what}, whose embeddings take its place. "
            f"Received: a condition of shape {shape}"
        )
    if hyper.generator is not None and not hyper.chunk_size and not hyper.condition_encoding:
        return None
    if not _is_matrix(shape):
        raise ValueError(
            "`condition` must have the shape (rows, features) unless a `generator` reads it. "
            f"Received: a condition of shape {shape}"
        )
    return shape[-1]


def _is_matrix(shape):
    sizes = shape if isinstance(shape, (tuple, list)) else ()
    return len(sizes) == 2 and isinstance(sizes[-1], int)


def as_tensors(hyper: keras.Layer, condition, name: str = "condition"):
    """Returns a condition given as arrays, or as a list of numbers for each row, as tensors.

    Raises:
        ValueError: unless the layer is built, and the condition fits; it has the name of the
            argument.
    """
    if not hyper.built:
        raise ValueError(
            f"{hyper.name} must be built before it generates weights: call it once on inputs and, "
            f"if there is one, a condition. Received: {hyper!r}, not built"
        )
    if condition is not None and hyper.depends_on_input:
        if keras.tree.is_nested(hyper.condition_structure):
            condition = keras.tree.map_structure(ops.convert_to_tensor, condition)
        else:
            condition = ops.convert_to_tensor(condition)
    check_condition(hyper, condition, [], name)
    return condition


def check_condition(hyper: keras.Layer, condition, inputs, name: str = "condition") -> None:
    """Raises ValueError unless a condition has the size and dtype that the layer was built for.

    Its rows must fit the batch of `inputs`, as far as both are known.
    """
    if condition is None and hyper.depends_on_input:
        raise ValueError(f"`{name}` must be given: {hyper.name} was built with one. Received: none")
    if condition is None:
        return
    if not hyper.depends_on_input:
        raise ValueError(
            f"`{name}` must be None: {hyper.name} was built without one. Received: a condition"
        )
    batch = {x.shape[0] for x in keras.tree.flatten(inputs) if len(x.shape) > 0} - {None}
    allowed = batch if hyper.per_sample else batch | {1}
    for part in keras.tree.flatten(condition):
        shape = tuple(part.shape)
        if not shape:
            raise ValueError(f"`{name}` must begin with an axis of rows. Received: a scalar")
        if batch and shape[0] is not None and shape[0] not in allowed:
            rows = "a row for each sample" if hyper.per_sample else "one row, or one per sample"
            raise ValueError(
                f"`{name}` must have {rows}. Received: a condition of shape {shape} for a batch "
                f"of {', '.join(map(str, sorted(batch)))}"
            )
    features = hyper.condition_features
    if features is None:
        return
    if len(condition.shape) != 2 or condition.shape[-1] != features:
        raise ValueError(
            f"`{name}` must have the shape (rows, {features}) in {hyper.name}. "
            f"Received: a condition of shape {tuple(condition.shape)}"
        )
    dtype = keras.backend.standardize_dtype(condition.dtype)
    if not keras.backend.is_float_dtype(dtype):
        raise ValueError(
            f"`{name}` must be floating-point numbers: pass an integer through an Embedding "
            f"layer of your own first, or in a `generator`. Received: a condition of {dtype}"
        )


def check_rows_equal(condition):
    """Raises an error if the rows of a condition differ, where the backend can tell.

    TensorFlow can in eager mode and in a graph, unless XLA compiles it; PyTorch in eager mode; JAX
    outside `jit`.

    Returns:
        `None` if the rows are equal or were checked here; otherwise a boolean tensor, whether they
        are equal, which tells only when the compiled code runs.
    """
    same = None
    for part in keras.tree.flatten(condition):
        if part.shape[0] == 1:
            continue
        first = part[:1]
        equal = ops.equal(part, first)
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(part.dtype)):
            equal = ops.logical_or(equal, ops.logical_and(ops.isnan(part), ops.isnan(first)))
        equal = ops.all(equal)
        same = equal if same is None else ops.logical_and(same, equal)
    return None if same is None else _required(same)


def _required(same):
    message = (
        "`condition` must have equal rows without per_sample=True: the first one serves the whole "
        "batch. Received: rows that differ"
    )
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        if not tf.executing_eagerly():
            tf.debugging.Assert(same, [message])  # XLA leaves it out
            return same
    elif backend == "jax":
        import jax

        if isinstance(same, jax.core.Tracer):
            return same
    elif backend == "torch":
        import torch

        if same.device.type == "meta" or torch.compiler.is_compiling():
            return same
    if not bool(same):
        raise ValueError(message)
    return None
