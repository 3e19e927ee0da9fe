"""Turns generated weights into the ordinary weights of a plain Keras model."""

import tempfile
from typing import Any

import keras


def bake(model: keras.Layer, condition: Any = None) -> keras.Layer:
    """Returns a copy of a model in which generated weights are ordinary weights.

    Each layer with a method `plain_layer` is replaced by what it returns: `HyperConv2D` by a
    `keras.layers.Conv2D` and `HyperDense` by a `keras.layers.Dense`, with the generated kernel as a
    weight, a `HyperNetwork` by its target. The outputs are the same. The copy is faster for small
    batches, since it generates no kernels. It loads without keras_hypernets, and tools for Keras
    layers, such as quantization, apply to it. It has the weights of a network without
    generators, and training changes them directly.

    To have your own layer baked, give it a method `plain_layer()` that returns a built layer with
    the same outputs. All other layers are copied with their weights, including recurrent layers
    such as `HyperLSTM`, whose weights change at each time step. Layers inside nested models and
    `TimeDistributed` are baked; those inside other wrappers are not. The copy shares no variables
    with the model and is not compiled.

    Args:
        model: a built functional or Sequential model; nested models must be of these kinds too. Or
            a layer with a method `plain_layer`, such as a `HyperNetwork`.
        condition: one row of the condition from which a `HyperNetwork` generates weights. Each
            condition gives a plain model of its own. Default `None`.

    Returns:
        For a model, a functional or Sequential `keras.Model`. If its only layer is a `HyperNetwork`
        with a functional target, whose inputs have the same names, the result has the target's
        layers. For a layer, the layer that replaces it: for a `HyperNetwork`, a copy of its target.

    Raises:
        ValueError: if the model is not functional or Sequential, or not built; if a layer's weights
            depend on an input of the model.

    Example:

    >>> model = keras_hypernets.models.hyper_cnn()
    >>> plain = keras_hypernets.export.bake(model)
    >>> type(plain.get_layer("conv_2")).__name__
    'Conv2D'
    >>> model.count_params(), plain.count_params()
    (12910, 21210)
    """
    if hasattr(model, "plain_layer"):
        return model.plain_layer() if condition is None else model.plain_layer(condition)
    if condition is not None:
        raise ValueError(
            "`condition` must be None unless `model` is a HyperNetwork: bake that layer of the "
            f"model. Received: a condition and {model!r}"
        )
    copies = _Copies()
    copy = copies.of(_checked(model))
    copies.set_state()
    return copy


def _checked(model):
    known = isinstance(model, (keras.Sequential, keras.Function))
    if not known or not isinstance(model, keras.Model):
        raise ValueError(
            "`model` must be a functional or Sequential Keras model, and so must the models in it. "
            f"Received: {model!r}"
        )
    if not hasattr(model, "inputs"):
        raise ValueError(
            "`model` must be built: begin a Sequential model with a keras.Input, or call it on one "
            f"tensor. Received: {model!r}"
        )
    return model


class _Copies:
    """Copies of layers, one per layer."""

    def __init__(self):
        self.copies = {}

    def of(self, layer):
        """Returns the copy of a layer, model or operation, whose weights are set later."""
        if layer not in self.copies:
            self.copies[layer] = self._make(layer)
        return self.copies[layer]

    def _make(self, layer):
        if isinstance(layer, keras.Model):
            return self._make_model(_checked(layer))
        if hasattr(layer, "plain_layer"):
            return _plain(layer)
        config = layer.get_config()
        if isinstance(layer, keras.layers.TimeDistributed):
            del config["layer"]
            return type(layer)(self.of(layer.layer), **config)
        return type(layer).from_config(config)

    def _make_model(self, model):
        if isinstance(model, keras.Sequential):
            (given,) = model.inputs
            start = keras.Input(batch_shape=given.shape, dtype=given.dtype, name=given.name)
            return keras.Sequential([start, *map(self.of, model.layers)], name=model.name)
        # A new model of the same graph, since a clone of a compiled model is compiled.
        graph = keras.Model(model.input, model.output, name=model.name)
        calls = []

        def call(copy, *args, **kwargs):
            outputs = copy(*args, **kwargs)
            calls.append((copy, args, kwargs, outputs))
            return outputs

        copy = keras.models.clone_model(graph, clone_function=self.of, call_function=call)
        if len(calls) == 1 and hasattr(graph.layers[-1], "plain_layer"):
            ((plain, args, kwargs, outputs),) = calls
            whole = args[0] is copy.input and not kwargs and outputs is copy.output
            whole = whole and isinstance(plain, keras.Function)
            if whole and _described(plain.input) == _described(copy.input):
                return keras.Model(plain.input, plain.output, name=model.name)  # one level less
        return copy

    def set_state(self):
        # In reverse: a model passes `trainable` on to its layers, so it must come before them.
        for layer, copy in reversed(self.copies.items()):
            if not isinstance(layer, keras.Layer) or not copy.built:
                continue
            if copy.trainable != layer.trainable:
                copy.trainable = layer.trainable
            has_parts = isinstance(layer, (keras.Model, keras.layers.TimeDistributed))
            if not has_parts and not hasattr(layer, "plain_layer"):
                _set_state(layer, copy)


def _described(inputs):
    return keras.tree.map_structure(lambda x: (x.name, x.shape, x.dtype), inputs)


def _plain(layer):
    if getattr(layer, "depends_on_input", False):
        raise ValueError(
            "`model` must not have a layer whose weights depend on an input: bake that layer "
            f"itself, bake(layer, condition). Received: {layer.name} in the model"
        )
    plain = layer.plain_layer()
    plain.name = layer.name  # a model can have several HyperNetworks of one target
    return plain


def _set_state(layer, copy):
    copy.set_weights(layer.get_weights())
    # State beyond weights: a Normalization's statistics, a TextVectorization's words.
    store = {}
    layer.save_own_variables(store)
    copy.load_own_variables(store)
    if hasattr(layer, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            copy.load_assets(folder)
