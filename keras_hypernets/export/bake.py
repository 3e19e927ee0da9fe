"""From a model with generated kernels to a plain Keras model."""

import tempfile

import keras
import numpy as np

from keras_hypernets.static.hyper_conv2d import HyperConv2D
from keras_hypernets.static.hyper_dense import HyperDense
from keras_hypernets.static.kernel_bank import KernelBank

PLAIN = {HyperConv2D: keras.layers.Conv2D, HyperDense: keras.layers.Dense}
GENERATION_OPTIONS = ("generator", "embedding_dim", "hidden_units")


def bake(model: keras.Model) -> keras.Model:
    """Returns a copy of a model in which generated kernels are ordinary weights.

    Every `HyperConv2D` becomes a `keras.layers.Conv2D` and every `HyperDense` a
    `keras.layers.Dense` of the same name and options, with the generated kernel as a weight;
    `KernelBank`s are gone. The outputs are the same, and come sooner for small batches, since no
    kernels are written; the copy loads where keras_hypernets is not installed; quantisation and
    other tools for Keras' own layers apply. It has as many weights as the network without
    generators, and training changes these.

    Every other layer is copied with its weights. Recurrent layers, such as `HyperLSTM`, remain what
    they are: their weights change at each time step and cannot be baked. Models in the model and
    `TimeDistributed` are looked into, other wrappers and layers of your own are not. The copy
    shares no variables with the model and is not compiled.

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
    """Copies of layers, one of each, and the kernels that banks give them."""

    def __init__(self):
        self.copies, self.originals, self.kernels = {}, {}, {}
        self.banked = []  # kernels with the regularizers of their banks

    def of(self, layer):
        """The copy of a layer, a model or an operation, with weights yet to be set."""
        if layer not in self.copies:
            copy = self._make(layer)
            self.copies[layer], self.originals[copy] = copy, layer
        return self.copies[layer]

    def _make(self, layer):
        if isinstance(layer, keras.Model):
            return self._make_model(_checked(layer))
        if isinstance(layer, KernelBank):
            return layer
        config = layer.get_config()
        if isinstance(layer, keras.layers.TimeDistributed):
            del config["layer"]
            return type(layer)(self.of(layer.layer), **config)
        if type(layer) in PLAIN:
            config = {key: config[key] for key in config if key not in GENERATION_OPTIONS}
        return PLAIN.get(type(layer), type(layer)).from_config(config)

    def _make_model(self, model):
        if isinstance(model, keras.Sequential):
            (given,) = model.inputs
            start = keras.Input(batch_shape=given.shape, dtype=given.dtype, name=given.name)
            return keras.Sequential([start, *map(self.of, model.layers)], name=model.name)
        # The same graph in a model of its own, since a clone of a compiled model is compiled.
        graph = keras.Model(model.input, model.output, name=model.name)
        return keras.models.clone_model(graph, clone_function=self.of, call_function=self._call)

    def _call(self, copy, *args, **kwargs):
        layer = self.originals[copy]
        if isinstance(layer, KernelBank):
            # Values in place of symbols leave the bank out of the new graph.
            kernels = layer.kernels
            self.banked += [(kernel, layer.kernel_regularizer) for kernel in kernels.values()]
            return kernels
        if not any(isinstance(x, keras.KerasTensor) for x in keras.tree.flatten((args, kwargs))):
            return layer(*args, **kwargs)  # what is done to a kernel between bank and layer
        if type(layer) in PLAIN:
            return self._call_plain(copy, *args, **kwargs)
        return copy(*args, **kwargs)

    def _call_plain(self, copy, inputs, kernel=None):
        if isinstance(kernel, keras.KerasTensor):
            raise ValueError(
                "`model` must give its layers kernels that depend on no input, from a KernelBank "
                f"in the same graph. Received: {kernel!r} as the kernel of {copy.name}"
            )
        regularizers = [regularizer for made, regularizer in self.banked if made is kernel]
        if any(regularizers) and not copy.built:
            config = keras.regularizers.serialize(regularizers[0])
            copy.kernel_regularizer = keras.regularizers.deserialize(config)
        kernel = None if kernel is None else keras.ops.convert_to_numpy(kernel)
        if not np.array_equal(self.kernels.setdefault(copy, kernel), kernel):
            raise ValueError(
                "`model` must give a layer the same kernel in every call. "
                f"Received: different kernels for {copy.name}"
            )
        return copy(inputs)

    def set_state(self):
        # Backwards: models before what is in them, to which they hand `trainable` down.
        for layer, copy in reversed(self.copies.items()):
            if not isinstance(layer, keras.Layer) or copy is layer or not copy.built:
                continue
            if copy.trainable != layer.trainable:
                copy.trainable = layer.trainable
            if type(layer) in PLAIN:
                given = self.kernels.get(copy)
                kernel = layer.kernel if given is None else given
                copy.set_weights([kernel] if layer.bias is None else [kernel, layer.bias])
            elif not isinstance(layer, (keras.Model, keras.layers.TimeDistributed)):
                _set_state(layer, copy)


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
