"""Turns generated weights into the ordinary weights of a plain Keras model."""

import inspect
import tempfile
from typing import Any

import keras
import numpy as np


def bake(model: keras.Layer, condition: Any = None) -> keras.Layer:
    """Returns a copy of a model in which generated weights are ordinary weights.

    Each layer with a method `plain_layer` is replaced by what it returns: `HyperConv2D` by a
    `keras.layers.Conv2D` and `HyperDense` by a `keras.layers.Dense`, with the generated kernel as a
    weight, a `HyperNetwork` by its target. A `KernelBank` is removed. The outputs are the same. The
    copy is faster for small batches, since it generates no kernels. It loads without
    keras_hypernets, and tools for Keras layers, such as quantisation, apply to it. It has as many
    weights as the network without generators, and training changes these.

    To have your own layer baked, define

    - `plain_layer(**weights)`: returns a built layer with the same outputs. Its parameters are the
      arguments of `call` that take generated weights. If it returns `None`, the values of
      `generated_weights()` replace the layer's outputs in the baked model.
    - `generated_weights()`: returns a dictionary of what the layer generates.

    All other layers are copied with their weights. So are recurrent layers such as `HyperLSTM`,
    whose weights change at each time step. Layers inside nested models and `TimeDistributed` are
    baked, those inside other wrappers are not. The copy shares no variables with the model and is
    not compiled.

    Args:
        model: a built functional or Sequential model; nested models must be of these kinds too. Or
            a layer with a method `plain_layer`, such as a `HyperNetwork`.
        condition: one row of the condition from which a `HyperNetwork` generates weights. Each
            condition gives a plain model of its own. Default `None`.

    Returns:
        A functional or Sequential `keras.Model`. For a layer, what takes its place: for a
        `HyperNetwork` a copy of its target, of whatever kind.

    Raises:
        ValueError: if the model is not functional or Sequential, or not built; if a layer's
            weights depend on an input of the model, or differ between calls.

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
        self.copies, self.originals = {}, {}
        self.plain = {}  # by layer: its plain layer and the weights it was given
        self.regularizers = []  # pairs of a generated weight and its layer's regularizer

    def of(self, layer):
        """Returns the copy of a layer, model or operation, whose weights are set later."""
        if layer not in self.copies:
            copy = self._make(layer)
            self.copies[layer], self.originals[copy] = copy, layer
        return self.copies[layer]

    def _make(self, layer):
        if isinstance(layer, keras.Model):
            return self._make_model(_checked(layer))
        if hasattr(layer, "plain_layer"):
            return self._plain(layer, {})
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
        return keras.models.clone_model(
            graph, clone_function=self._of_node, call_function=self._call
        )

    def _of_node(self, layer):
        # What replaces a layer that generates weights is only known when it is called.
        return layer if hasattr(layer, "plain_layer") else self.of(layer)

    def _call(self, copy, *args, **kwargs):
        layer = self.originals.get(copy, copy)
        generates = hasattr(layer, "plain_layer")
        symbolic = any(isinstance(x, keras.KerasTensor) for x in keras.tree.flatten((args, kwargs)))
        if not generates and not symbolic:
            return layer(*args, **kwargs)  # an operation on a kernel between bank and layer
        if not generates:
            return copy(*args, **kwargs)
        arguments = inspect.signature(layer.call).bind(*args, **kwargs).arguments
        given = {
            name: arguments.pop(name)
            for name in inspect.signature(layer.plain_layer).parameters
            if arguments.get(name) is not None
        }
        plain = self._plain(layer, given)
        if plain is not None:
            return plain(**arguments)
        # Values instead of symbolic tensors leave the layer out of the new graph.
        weights = layer.generated_weights()
        regularizer = getattr(layer, "kernel_regularizer", None)
        self.regularizers += [(weight, regularizer) for weight in weights.values()]
        return weights

    def _plain(self, layer, given):
        """Returns the plain layer that replaces one with generated or given weights."""
        for name, weight in given.items():
            if isinstance(weight, keras.KerasTensor):
                raise ValueError(
                    f"`model` must not pass {layer.name} a {name} that depends on an input of the "
                    "model: bake a HyperNetwork itself, with one condition, and take kernels from "
                    f"a KernelBank in the same graph. Received: {weight!r}"
                )
        values = {name: keras.ops.convert_to_numpy(weight) for name, weight in given.items()}
        if layer not in self.plain:
            plain = layer.plain_layer(**values)
            if plain is not None:
                plain.trainable = layer.trainable
                self._regularize(plain, given)
            self.plain[layer] = plain, values
        plain, before = self.plain[layer]
        same = before.keys() == values.keys()
        if not same or not all(np.array_equal(before[name], values[name]) for name in values):
            raise ValueError(
                "`model` must pass a layer the same kernel in every call. "
                f"Received: different kernels for {layer.name}"
            )
        return plain

    def _regularize(self, plain, given):
        """Gives the plain layer the regularizers of the layers that generated its weights."""
        for name, weight in given.items():
            for made, regularizer in self.regularizers:
                if made is weight and regularizer is not None:
                    config = keras.regularizers.serialize(regularizer)
                    regularizer = keras.regularizers.deserialize(config)
                    setattr(plain, f"{name}_regularizer", regularizer)
                    getattr(plain, name).regularizer = regularizer

    def set_state(self):
        # In reverse: a model passes `trainable` on to its layers, so it must come before them.
        for layer, copy in reversed(self.copies.items()):
            if not isinstance(layer, keras.Layer) or not copy.built or layer in self.plain:
                continue
            if copy.trainable != layer.trainable:
                copy.trainable = layer.trainable
            if not isinstance(layer, (keras.Model, keras.layers.TimeDistributed)):
                _set_state(layer, copy)
        for layer, (plain, _) in self.plain.items():
            if plain is not None and plain.trainable != layer.trainable:
                plain.trainable = layer.trainable


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
