"""From a model with generated weights to a plain Keras model."""

import inspect
import tempfile

import keras
import numpy as np


def bake(model: keras.Model) -> keras.Model:
    """Returns a copy of a model in which generated weights are ordinary weights.

    Every layer with a method `plain_layer` is replaced by what that returns: `HyperConv2D` by a
    `keras.layers.Conv2D`, `HyperDense` by a `keras.layers.Dense`, with the generated kernel as a
    weight; a `KernelBank` by nothing. The outputs are the same. They come sooner for small batches,
    since no kernels are generated; the copy loads where keras_hypernets is not installed; tools for
    Keras' own layers apply, such as quantisation. It has as many weights as the network without
    generators, and training changes these.

    Your own layer is baked if it has

    - `plain_layer(**weights)`: returns a built layer that computes the same. Its parameters are
      those arguments of the layer's `call` that are generated weights. Or returns `None`: then the
      baked model has the values of `generated_weights()` in place of the layer's outputs.
    - `generated_weights()`: a dictionary of what the layer generates.

    Every other layer is copied with its weights. Recurrent layers, such as `HyperLSTM`, stay what
    they are, since their weights change at each time step. Models in the model and
    `TimeDistributed` are looked into, other wrappers are not. The copy shares no variables with the
    model and is not compiled.

    Args:
        model: a built functional or Sequential model; so must be the models in it.

    Returns:
        A functional or Sequential `keras.Model`.

    Raises:
        ValueError: if the model is neither functional nor Sequential or is not built; if a layer
            gets a kernel that depends on an input of its model, or different kernels in different
            calls.

    Example:

    >>> model = keras_hypernets.models.hyper_cnn()
    >>> plain = keras_hypernets.export.bake(model)
    >>> type(plain.get_layer("conv_2")).__name__
    'Conv2D'
    >>> model.count_params(), plain.count_params()
    (12910, 21210)
    """
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
            "`model` must be built: a Sequential model begins with a keras.Input, or is called on "
            f"one tensor. Received: {model!r}"
        )
    return model


class _Copies:
    """Copies of layers, one of each."""

    def __init__(self):
        self.copies, self.originals = {}, {}
        self.plain = {}  # of each layer that generates weights, with the weights it was given
        self.regularizers = []  # generated weights, each with the regularizer of its layer

    def of(self, layer):
        """The copy of a layer, a model or an operation, with weights yet to be set."""
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
        # The same graph in a model of its own, since a clone of a compiled model is compiled.
        graph = keras.Model(model.input, model.output, name=model.name)
        return keras.models.clone_model(
            graph, clone_function=self._of_node, call_function=self._call
        )

    def _of_node(self, layer):
        # What becomes of a layer that generates weights is known when it is called.
        return layer if hasattr(layer, "plain_layer") else self.of(layer)

    def _call(self, copy, *args, **kwargs):
        layer = self.originals.get(copy, copy)
        generates = hasattr(layer, "plain_layer")
        symbolic = any(isinstance(x, keras.KerasTensor) for x in keras.tree.flatten((args, kwargs)))
        if not generates and not symbolic:
            return layer(*args, **kwargs)  # what is done to a kernel between bank and layer
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
        # Values in place of symbols leave the layer out of the new graph.
        weights = layer.generated_weights()
        regularizer = getattr(layer, "kernel_regularizer", None)
        self.regularizers += [(weight, regularizer) for weight in weights.values()]
        return weights

    def _plain(self, layer, given):
        """The plain layer that takes the place of one which generates weights or is given them."""
        for name, weight in given.items():
            if isinstance(weight, keras.KerasTensor):
                raise ValueError(
                    "`model` must give its layers weights that depend on no input, from a "
                    f"KernelBank in the same graph. Received: {weight!r} as the {name} of "
                    f"{layer.name}"
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
                "`model` must give a layer the same kernel in every call. "
                f"Received: different kernels for {layer.name}"
            )
        return plain

    def _regularize(self, plain, given):
        """Gives given weights the regularizer of the layer that generates them."""
        for name, weight in given.items():
            for made, regularizer in self.regularizers:
                if made is weight and regularizer is not None:
                    config = keras.regularizers.serialize(regularizer)
                    regularizer = keras.regularizers.deserialize(config)
                    setattr(plain, f"{name}_regularizer", regularizer)
                    getattr(plain, name).regularizer = regularizer

    def set_state(self):
        # Backwards: models before what is in them, to which they hand `trainable` down.
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
    # What files hold beyond weights: a Normalization's statistics, a TextVectorization's words.
    store = {}
    layer.save_own_variables(store)
    copy.load_own_variables(store)
    if hasattr(layer, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            copy.load_assets(folder)
