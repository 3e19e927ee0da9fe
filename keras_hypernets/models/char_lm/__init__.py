"""Character language models and text generation."""

from keras_hypernets.models.char_lm.char_language_model import char_language_model
from keras_hypernets.models.char_lm.character_embedding import CharacterEmbedding
from keras_hypernets.models.char_lm.text_generation import generate, stream

__all__ = ["CharacterEmbedding", "char_language_model", "generate", "stream"]
