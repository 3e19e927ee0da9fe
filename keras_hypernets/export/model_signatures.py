"""Signatures of models in general, and of image classifiers."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_hypernets.export.signature import Signature


def signatures_of_model(model: keras.Model) -> dict[str, Signature]:
    """Returns the signature of a functional or Sequential model's call.

    Outputs are named by their keys if they are a flat dictionary, else by the layers they come
    from, or `output_0` and so on if these repeat.
    """
    flat = keras.Model(model.inputs, model.outputs)
    names = _output_names(model, flat)

    def serving_default(*inputs):
        outputs = flat(list(inputs), training=False)
        return dict(zip(names, keras.tree.flatten(outputs), strict=True))

    inputs = {
        x.name: (x.dtype, x.shape, _example([size or 1 for size in x.shape], x.dtype))
        for x in model.inputs
    }
    return {"serving_default": Signature(serving_default, inputs)}


def _example(shape, dtype):
    return np.full(shape, "" if dtype == "string" else 0)


def _output_names(model, flat):
    names = flat.output_names
    structure = getattr(model, "output", None)  # a Sequential may have none
    if isinstance(structure, dict):
        keys = {id(tensor): key for key, tensor in structure.items()}
        names = [keys.get(id(tensor)) for tensor in model.outputs]
    if None in names or len(set(names)) < len(names):
        names = [f"output_{n}" for n in range(len(names))]
    return names


def signatures_of_classifier(
    model: keras.Model, class_names: Sequence[str], from_logits: bool
) -> dict[str, Signature]:
    """Returns the signature from images of 0 to 255 to probabilities and the likeliest class."""
    import tensorflow as tf

    class_names = _checked(class_names, model)
    if from_logits and _ends_in_softmax(model):
        raise ValueError(
            "`from_logits` must be False for a model that ends in a softmax. "
            f"Received: from_logits={from_logits}"
        )

    def serving_default(images):
        scores = model(ops.cast(images, model.inputs[0].dtype), training=False)
        scores = ops.cast(scores, "float32")
        probabilities = ops.softmax(scores) if from_logits else scores
        return {
            "probabilities": probabilities,
            "class_name": tf.gather(class_names, tf.argmax(probabilities, axis=-1)),
        }

    shape = model.inputs[0].shape
    example = np.zeros([size or 1 for size in shape])
    return {"serving_default": Signature(serving_default, {"images": ("uint8", shape, example)})}


def _checked(class_names, model):
    names = list(class_names) if isinstance(class_names, (list, tuple)) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"`class_names` must be a list of strings. Received: class_names={class_names!r}"
        )
    inputs, outputs = ([tuple(t.shape) for t in ts] for ts in (model.inputs, model.outputs))
    if (
        len(inputs) != 1
        or len(inputs[0]) != 4
        or [shape[1:] for shape in outputs] != [(len(names),)]
    ):
        raise ValueError(
            "`class_names` is for models from images (batch, height, width, channels) to a number "
            f"(batch, classes) for each name. Received: {len(names)} names, a model from {inputs} "
            f"to {outputs}"
        )
    return names


def _ends_in_softmax(model):
    last = getattr(model, "operations", model.layers)[-1]  # `layers` lacks what follows them
    if isinstance(last, keras.Model):
        return _ends_in_softmax(last)
    softmax = keras.activations.softmax
    return isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) is softmax
