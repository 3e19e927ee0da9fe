"""Functional models in the style of keras.applications."""

from keras_hypernets.models.char_language_model import char_language_model
from keras_hypernets.models.character_embedding import CharacterEmbedding
from keras_hypernets.models.hyper_cnn import hyper_cnn
from keras_hypernets.models.hyper_resnet import hyper_resnet
from keras_hypernets.models.sampling import sample
from keras_hypernets.models.state_history import state_history
from keras_hypernets.models.stepping import (
    initial_states,
    run,
    state_sizes,
    step,
    step_model,
    with_states,
)
from keras_hypernets.models.text_generation import generate, stream

__all__ = [
    "CharacterEmbedding",
    "char_language_model",
    "generate",
    "hyper_cnn",
    "hyper_resnet",
    "initial_states",
    "run",
    "sample",
    "state_history",
    "state_sizes",
    "step",
    "step_model",
    "stream",
    "with_states",
]
