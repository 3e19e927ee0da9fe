"""CharacterEmbedding: the layer that holds a language model's vocabulary."""

import keras
import numpy as np
from keras import ops

from keras_hypernets.validation import positive_integer


@keras.saving.register_keras_serializable(package="keras_hypernets")
class CharacterEmbedding(keras.Layer):
    """Turns character ids into one-hot or learned vectors, and holds the vocabulary.

    The vocabulary is part of the layer's config, so it is saved with the model.

    Args:
        vocabulary: string of at least two different characters; a character's id is its position.
        size: positive integer, size of the learned vectors; `None` (default) for one-hot vectors.

    Call arguments:
        ids: integer tensor of any shape.

    Returns:
        `(*ids.shape, size or len(vocabulary))`.

    Raises:
        ValueError: if `vocabulary` is not such a string, or `size` is out of range.

    Example:

    >>> embedding = keras_hypernets.models.char_lm.CharacterEmbedding("abc")
    >>> embedding.encode("cab").tolist()
    [2, 0, 1]
    >>> embedding.decode([2, 0, 1])
    'cab'
    >>> keras.ops.convert_to_numpy(embedding(embedding.encode("b"))).tolist()
    [[0.0, 1.0, 0.0]]
    """

    stepwise = True  # treats every step alike: see `models.sequences`

    def __init__(self, vocabulary, size=None, **kwargs):
        super().__init__(**kwargs)
        if (
            not isinstance(vocabulary, str)
            or len(vocabulary) < 2
            or len(set(vocabulary)) < len(vocabulary)
        ):
            raise ValueError(
                "`vocabulary` must be a string of at least two different characters. "
                f"Received: vocabulary={vocabulary!r}"
            )
        self.vocabulary = vocabulary
        self.size = None if size is None else positive_integer("size", size)

    def build(self, input_shape):
        if self.size is not None:
            self.embeddings = self.add_weight(
                name="embeddings", shape=(len(self.vocabulary), self.size), initializer="uniform"
            )

    def call(self, ids):
        if self.size is None:
            return ops.one_hot(ids, len(self.vocabulary), dtype=self.compute_dtype)
        return ops.take(self.embeddings, ids, axis=0)

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.size or len(self.vocabulary))

    def encode(self, text, argument="text"):
        """Returns the ids of a text's characters as a NumPy array of int32.

        Error messages call the text `argument`.

        Raises:
            ValueError: if `text` is not a string, or a character is not in the vocabulary.
        """
        if not isinstance(text, str):
            raise ValueError(f"`{argument}` must be a string. Received: {argument}={text!r}")
        ids = {character: n for n, character in enumerate(self.vocabulary)}
        unknown = sorted(set(text) - set(ids))
        if unknown:
            raise ValueError(
                f"Every character of `{argument}` must be in the vocabulary of {len(ids)}. "
                f"Received: unknown {', '.join(map(repr, unknown[:5]))}"
                + (", ..." if len(unknown) > 5 else "")
            )
        return np.fromiter((ids[character] for character in text), np.int32, len(text))

    def decode(self, ids):
        """Returns the text of a sequence of ids.

        Raises:
            ValueError: if `ids` are not positions in the vocabulary.
        """
        try:
            numbers = np.asarray(ids)
        except (ValueError, TypeError):  # ragged lists, or str mixed with bytes
            numbers = np.array(None)
        known = numbers.size == 0 or numbers.dtype.kind in "iu"
        if (
            numbers.ndim != 1
            or not known
            or np.any((numbers < 0) | (numbers >= len(self.vocabulary)))
        ):
            raise ValueError(
                f"`ids` must be a sequence of integers from 0 to {len(self.vocabulary) - 1}. "
                f"Received: ids={ids!r}"
            )
        return "".join(self.vocabulary[n] for n in numbers)

    def get_config(self):
        return {**super().get_config(), "vocabulary": self.vocabulary, "size": self.size}
