"""Chooses the variables of a target whose values are generated."""

import re
from collections import Counter
from collections.abc import Callable, Sequence

import keras

from keras_hypernets.layers_within import layers_within
from keras_hypernets.network.leaves import without
from keras_hypernets.static.kernel_generator import KernelGenerator

SHOWN = 20  # paths in an error
ASSIGNED = "not choose variables that a layer assigns to in its call"
SPECTRAL = keras.layers.SpectralNormalization

Choice = str | Sequence[str] | Callable[[keras.Variable], bool] | None


def check_target(target: keras.Layer) -> keras.Layer:
    """Returns `target`, or raises ValueError unless it is a built layer or model with weights."""
    if not isinstance(target, keras.Layer):
        raise ValueError(f"`target` must be a Keras model or layer. Received: target={target!r}")
    if not target.built or not target.weights:
        raise ValueError(
            "`target` must be built and have weights: call it once, or begin a Sequential model "
            f"with a keras.Input. Received: target={target!r}"
        )
    return target


def choose(
    target: keras.Layer, target_weights: Choice, tiles: KernelGenerator | None = None
) -> list[keras.Variable]:
    """Returns the variables of `target` that `target_weights` chooses, in the target's order.

    Args:
        target: a built layer or model.
        target_weights: a regular expression that `re.search` looks for in a variable's path, a list
            of them, or a predicate of the variable. `None` chooses all trainable weights.
        tiles: what generates tiles. Then `None` chooses the trainable weights that consist of them.

    Raises:
        ValueError: if it chooses nothing, or a variable that cannot be generated.
    """
    if target_weights is not None:
        what = repr(target_weights)
        chosen = list(filter(_predicate(target_weights), target.variables))
    else:
        what = "None, which chooses trainable weights: choose frozen ones by their paths"
        chosen = [v for v in target.weights if v.trainable or getattr(v, "is_frozen_base", False)]
        if tiles is not None and chosen:
            what = f"None, which chooses weights that consist of tiles {tiles.tile_shape}"
            chosen = [v for v in chosen if tiles.has_tiles(v.shape)]
    if not chosen:
        raise ValueError(
            "`target_weights` must choose a weight of the target. Received: "
            f"target_weights={what}. The target has {_listed(target.weights)}"
        )
    weights = {id(weight) for weight in target.weights}
    numbers = [v for v in chosen if id(v) in weights and keras.backend.is_float_dtype(v.dtype)]
    _reject("be floating-point weights", without(chosen, numbers))
    assigned = _assigned(target)
    _reject(ASSIGNED, [v for v in chosen if id(v) in assigned])
    _check_paths(chosen)
    return chosen


def regularizer_of(variable: keras.Variable) -> Callable | None:
    """Returns a variable's regularizer, also if a HyperNetwork has taken it."""
    return getattr(variable, "regularizer_of_generated", variable.regularizer)


def take_regularizers(variables: Sequence[keras.Variable]) -> None:
    """Keeps Keras from applying the variables' regularizers to their own values.

    Another HyperNetwork of the same target still finds them.
    """
    for variable in variables:
        variable.regularizer_of_generated = regularizer_of(variable)
        variable.regularizer = None


def freeze_bases(target: keras.Layer, variables: Sequence[keras.Variable] = ()) -> None:
    """Freezes variables of a target, and those that a HyperNetwork of it has frozen before."""
    for variable in variables:
        variable.is_frozen_base = True
    for variable in target.variables:
        if getattr(variable, "is_frozen_base", False):
            variable.trainable = False


def finalize(target: keras.Layer) -> None:
    """Tells layers that have read their weights into constants that these have changed."""
    for _, layer in layers_within(target):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def check_unassigned(variables: list[keras.Variable]) -> None:
    """Raises ValueError if there are variables, those that a call of the target assigned to."""
    _reject(ASSIGNED, variables)


def _reject(rule, variables):
    if variables:
        raise ValueError(
            f"`target_weights` must {rule}. Received: a choice of {_listed(variables)}"
        )


def _check_paths(variables):
    counts = Counter(variable.path for variable in variables)
    twice = [path for path, count in counts.items() if count > 1]
    if twice:
        raise ValueError(
            "`target_weights` must have different paths: give the target's layers different names. "
            f"Received: {', '.join(twice)} more than once"
        )


def _predicate(target_weights):
    if callable(target_weights):
        return target_weights
    patterns = [target_weights] if isinstance(target_weights, str) else target_weights
    try:
        compiled = [re.compile(pattern) for pattern in patterns]
    except (TypeError, re.error) as error:
        raise ValueError(
            "`target_weights` must be a regular expression, a list of them or a function of a "
            f"variable. Received: target_weights={target_weights!r} ({error})"
        ) from error
    return lambda variable: any(pattern.search(variable.path) for pattern in compiled)


def _assigned(target):
    """Returns the ids of the variables that Keras' layers assign to in their calls."""
    layers = [layer for _, layer in layers_within(target)]
    found = [layer.kernel for layer in layers if isinstance(layer, SPECTRAL)]
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            found.extend((layer.moving_mean, layer.moving_variance))
    return {id(variable) for variable in found}


def _listed(variables):
    paths = [variable.path for variable in variables]
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more
