"""Runs a target with other weights than its own, and copies it with them."""

import contextlib
import itertools
from typing import Any

import keras
from keras import ops

from keras_hypernets.network.forms import LowRank, Scaled, Whole
from keras_hypernets.network.leaves import stand_in, without
from keras_hypernets.network.per_sample import weights_per_sample
from keras_hypernets.network.plans import Generated
from keras_hypernets.network.target_weights import check_unassigned, finalize


def run_target(
    target: keras.Layer,
    generated: list[Generated],
    forms: list[Whole | LowRank | Scaled],
    per_sample: bool,
    inputs: Any,
    options: dict,
) -> tuple[Any, list]:
    """Calls a target with generated weights, and keeps what the call changes of its state.

    Args:
        target: a built layer or model.
        generated: the variables whose values are generated.
        forms: their values, with one row, or one for each sample.
        per_sample: whether they have a row for each sample.
        inputs, options: of the call, `training` among them.

    Returns:
        The outputs, and the losses that the target added.

    Raises:
        ValueError: if the target assigns to a generated variable.
    """
    written = [g.variable for g in generated]
    if per_sample:
        values = [stand_in(g.layer, g.variable) for g in generated]
        pairs = zip(written, forms, strict=True)
        context = weights_per_sample(target, pairs, compiled=options["training"] is True)
    else:
        values = [form.value()[0] for form in forms]
        context = contextlib.nullcontext()
    others = without(target.variables, written)
    # All variables: what is left out would be read past the scope of JAX' trainer.
    mapping = [*zip(written, values, strict=True), *((v, v.value) for v in others)]
    scope = keras.StatelessScope(mapping, collect_losses=True)
    before = [scope.get_current_value(v) for v in (*written, *others)]
    with scope, context:
        outputs = target(inputs, **options)
    after = [scope.get_current_value(v) for v in (*written, *others)]
    changed = [new is not old for new, old in zip(after, before, strict=True)]
    check_unassigned(list(itertools.compress(written, changed)))
    for variable, value, new in zip((*written, *others), after, changed, strict=True):
        if new:
            variable.assign(value)
    return outputs, scope.losses


def copy_target(target: keras.Layer, values: dict[int, Any]) -> keras.Layer:
    """Returns a copy of a target, with these values by the ids of its variables.

    Raises:
        ValueError: if Keras cannot copy the target.
    """
    config = keras.saving.serialize_keras_object(target)
    copy = keras.saving.deserialize_keras_object(config)
    if [v.shape for v in copy.variables] != [v.shape for v in target.variables]:
        raise ValueError(
            "`target` must be a model that Keras can copy, without layers that a model shares "
            f"with a model in it. Received: target={target!r}"
        )
    for variable, of_copy in zip(target.variables, copy.variables, strict=True):
        # Through NumPy, since JAX' trainer deletes arrays that it has used.
        of_copy.assign(ops.convert_to_numpy(values.get(id(variable), variable)))
    finalize(copy)
    return copy
