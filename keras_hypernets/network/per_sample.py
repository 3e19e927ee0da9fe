"""Runs a model with weights of each sample's own.

The model itself runs, nested and subclassed models and composite layers included. Only the `call`
of each layer that owns generated weights is replaced meanwhile, by the rule for layers of its kind.
A layer without a rule runs once per sample.
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace

import keras
from keras import layers

from keras_hypernets.layers_within import layers_within
from keras_hypernets.network.convolutions import (
    convolution,
    depthwise_convolution,
    separable_convolution,
    transposed_convolution,
)
from keras_hypernets.network.forms import LowRank, Scaled, Whole
from keras_hypernets.network.leaves import (
    CONVOLUTIONS,
    DEPTHWISE,
    NORMALIZATIONS,
    SEPARABLE,
    TRANSPOSED,
    Leaf,
    own_variables,
    works_like,
)
from keras_hypernets.network.one_by_one import one_by_one
from keras_hypernets.network.per_sample_rules import (
    dense,
    einsum_dense,
    embedding,
    normalization,
    prelu,
)

_LINEAR = {"kernel", "bias"}
_SEPARABLE = {"depthwise_kernel", "pointwise_kernel", "bias"}
_SCALES = {"gamma", "beta", "scale"}
# The rule for a class of layers, and the names of the weights that it knows.
RULES = {
    layers.Dense: (dense, _LINEAR),
    layers.EinsumDense: (einsum_dense, _LINEAR),
    layers.Embedding: (embedding, {"embeddings"}),
    layers.PReLU: (prelu, {"alpha"}),
    **dict.fromkeys(NORMALIZATIONS, (normalization, _SCALES)),
    **dict.fromkeys(CONVOLUTIONS, (convolution, _LINEAR)),
    **dict.fromkeys(TRANSPOSED, (transposed_convolution, _LINEAR)),
    **dict.fromkeys(DEPTHWISE, (depthwise_convolution, _LINEAR)),
    **dict.fromkeys(SEPARABLE, (separable_convolution, _SEPARABLE)),
}

_LOCK = threading.Lock()
_OF_THREAD = threading.local()


@contextlib.contextmanager
def weights_per_sample(
    target: keras.Layer,
    weights: Iterable[tuple[keras.Variable, Whole | LowRank | Scaled]],
    compiled: bool = False,
) -> Iterator[None]:
    """A context in which a call of the target runs each sample with weights of its own.

    The target's variables must have values in a `keras.StatelessScope` meanwhile, the generated
    ones those of `stand_in`. A layer without a rule must give the same outputs for a sample in any
    batch. On TensorFlow, recurrent layers do not run where XLA compiles the whole model.

    Args:
        target: a built model or layer.
        weights: variables of the target, each with a form that has a row per sample.
        compiled: whether XLA may compile convolutions on TensorFlow. It is faster, and meant for
            training: a server refuses a SavedModel with operations of XLA unless it is told
            otherwise.

    Raises:
        ValueError: if a variable is not of a layer in the target, or a layer cannot run with
            weights per sample.
    """
    leaves, installed = _leaves(target, list(weights), compiled), []
    before = _active()
    try:
        for leaf in leaves:
            _install(leaf.layer)
            installed.append(leaf.layer)
        _OF_THREAD.leaves = before | {id(leaf.layer): _with_outer(leaf, before) for leaf in leaves}
        yield
    finally:
        _OF_THREAD.leaves = before
        for layer in installed:
            _remove(layer)


def _active():
    """Returns the leaves of the contexts that this thread is in, by their layers' identity."""
    return getattr(_OF_THREAD, "leaves", {})


def _with_outer(leaf, before):
    """Adds what an outer context generates for the same layer, where this one does not."""
    outer = before.get(id(leaf.layer))
    if outer is None:
        return leaf
    own = {id(variable) for variable, _ in leaf.weights}
    more = [pair for pair in outer.weights if id(pair[0]) not in own]
    return replace(leaf, weights=[*leaf.weights, *more])


def _leaves(target, weights, compiled):
    generated, leaves, found = {id(pair[0]): pair for pair in weights}, [], set()
    for _, layer in layers_within(target):
        # A recurrent layer reads the weights of its cell, at every step.
        variables = layer.variables if isinstance(layer, layers.RNN) else own_variables(layer)
        if any(id(variable) in generated for variable in variables):
            if getattr(layer, "quantization_mode", None):  # it runs another method than `call`
                raise ValueError(
                    "`target` must not have quantized layers with weights per sample. "
                    f"Received: layer={layer.name!r} in {layer.quantization_mode}"
                )
            inside = [generated[id(v)] for v in layer.variables if id(v) in generated]
            leaves.append(Leaf(layer, inside, compiled))
            found.update(id(variable) for variable, _ in inside)
    missing = [pair[0].path for key, pair in generated.items() if key not in found]
    if missing:
        raise ValueError(
            "`weights` must be of variables of layers in the target. "
            f"Received: target={target.name!r}, others={missing}"
        )
    return leaves


class _Dispatcher:
    """Stands in for a layer's `call`, in all threads, and knows what to do in each of them.

    Threads may take turns within a call, as those of a `tf.distribute` strategy do: one lock for
    the length of a call would stop them.
    """

    def __init__(self, layer):
        self.layer, self.call, self.contexts = layer, layer.call, 0
        self.replaced = vars(layer).get("call")

    def __call__(self, *args, **kwargs):
        leaf = _active().get(id(self.layer))
        if leaf is None:
            return self.call(*args, **kwargs)
        leaf = replace(leaf, call=self.call)
        leaf.check_rows((*args, *kwargs.values())[0])
        rule = rule_for(leaf)
        if rule is not None:
            return rule(leaf, *args, **kwargs)
        before, _OF_THREAD.leaves = _active(), {}
        try:
            return one_by_one(leaf, *args, **kwargs)
        finally:
            _OF_THREAD.leaves = before


def rule_for(leaf):
    """Returns the rule by which a leaf runs, or None."""
    layer, names = leaf.layer, {variable.name for variable, _ in leaf.weights}
    if getattr(layer, "lora_enabled", False):
        return None
    for kind, (rule, known) in RULES.items():
        if works_like(layer, kind) and names <= known:
            return rule
    return None


# What Keras would do for an attribute, such as tracking, is not for this one: hence `vars`.
def _install(layer):
    with _LOCK:
        if not isinstance(vars(layer).get("call"), _Dispatcher):
            vars(layer)["call"] = _Dispatcher(layer)
        dispatcher = vars(layer)["call"]
        dispatcher.contexts = dispatcher.contexts + 1


def _remove(layer):
    with _LOCK:
        dispatcher = vars(layer)["call"]
        dispatcher.contexts = dispatcher.contexts - 1
        if not dispatcher.contexts:
            del vars(layer)["call"]
            if dispatcher.replaced is not None:
                vars(layer)["call"] = dispatcher.replaced
