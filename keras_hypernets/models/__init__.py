"""Functional models in the style of keras.applications."""

from keras_hypernets.models import char_lm, sequences, strokes
from keras_hypernets.models.char_lm.char_language_model import char_language_model
from keras_hypernets.models.hyper_cnn import hyper_cnn
from keras_hypernets.models.hyper_resnet import hyper_resnet
from keras_hypernets.models.strokes.stroke_generation import generate_strokes
from keras_hypernets.models.strokes.stroke_loss import stroke_loss
from keras_hypernets.models.strokes.stroke_model import stroke_model

__all__ = [
    "char_language_model",
    "char_lm",
    "generate_strokes",
    "hyper_cnn",
    "hyper_resnet",
    "sequences",
    "stroke_loss",
    "stroke_model",
    "strokes",
]
