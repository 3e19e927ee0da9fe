"""Functional models in the style of keras.applications."""

from keras_hypernets.models import char_lm, sequences
from keras_hypernets.models.char_lm.char_language_model import char_language_model
from keras_hypernets.models.hyper_cnn import hyper_cnn
from keras_hypernets.models.hyper_resnet import hyper_resnet

__all__ = ["char_language_model", "char_lm", "hyper_cnn", "hyper_resnet", "sequences"]
