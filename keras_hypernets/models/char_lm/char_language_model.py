"""Character language models: a recurrent network that predicts the next character."""

import keras

from keras_hypernets.models.char_lm.character_embedding import CharacterEmbedding
from keras_hypernets.models.sequences.recurrent_stack import check_options, recurrent_stack
from keras_hypernets.models.sequences.stepping import is_chain, layers_of
from keras_hypernets.validation import positive_integer


def char_language_model(
    vocabulary: str,
    units: int,
    layers: int = 1,
    cell: str = "hyper_lstm",
    token_embedding_size: int | None = None,
    dropout: float = 0.0,
    batch_size: int | None = None,
    stateful: bool = False,
    seed: int | None = None,
    name: str = "char_language_model",
    **cell_options,
) -> keras.Model:
    """Creates a character language model: embedding, recurrent layers and Dense logits.

    The character-level setup of the paper (section 4.3): the logits at each position predict the
    next character. The vocabulary is saved with the model. `char_lm.generate` generates text.

    Args:
        vocabulary: string of different characters; a character's id is its position.
        units: positive integer, units of each recurrent layer.
        layers: positive integer, number of recurrent layers. Default 1.
        cell: `"hyper_lstm"` (default), `"layer_norm_lstm"`, `"lstm"`, `"hyper_gru"` or
            `"hyper_simple_rnn"`.
        token_embedding_size: size of learned character vectors, or `None` (default) for one-hot.
        dropout: rate in [0, 1) of the dropout on the input of each recurrent layer and on the
            output of the last. Default 0.
        batch_size: fixed batch size, or `None` (default) for any.
        stateful: whether the last states of a batch are the initial states of the next, as in
            truncated backpropagation through time. Requires `batch_size`. Default `False`.
        seed: integer seed of all dropout masks. Default `None`: random.
        name: name of the model.
        **cell_options: arguments of the recurrent layer or cell, such as `hyper_units`,
            `embedding_dim`, `layer_norm`, `recurrent_dropout`.

    Returns:
        A functional `keras.Model` from ids `(batch, time)` to logits `(batch, time, characters)`.

    Raises:
        ValueError: if an argument is out of range, or a cell option is unknown to the cell.

    Example:

    >>> model = keras_hypernets.models.char_language_model(
    ...     "abc ", units=16, hyper_units=8, embedding_dim=4)
    >>> tuple(model(model.get_layer("embedding").encode("a cab")[None]).shape)
    (1, 5, 4)
    >>> len(keras_hypernets.models.char_lm.generate(model, "a ", length=10, seed=1))
    12
    """
    options = (units, layers, cell, dropout)
    check_options("a character language model", *options, batch_size, stateful, seed, cell_options)
    if token_embedding_size is not None:
        positive_integer("token_embedding_size", token_embedding_size)
    ids = keras.Input((None,), batch_size=batch_size, dtype="int32", name="ids")
    x = CharacterEmbedding(vocabulary, token_embedding_size, name="embedding")(ids)
    x = recurrent_stack(x, *options, stateful, seed, cell_options)
    logits = keras.layers.Dense(len(vocabulary), name="logits")(x)
    return keras.Model(ids, logits, name=name)


def is_character_language_model(model: keras.Model) -> bool:
    """Returns whether a model is a character language model, such as `char_language_model` creates.

    That is a chain of recurrent layers from a CharacterEmbedding to a Dense layer of logits, one
    unit per character without an activation.
    """
    if not is_chain(model):
        return False
    embedding, *_, output = layers_of(model)
    return (
        isinstance(embedding, CharacterEmbedding)
        and isinstance(output, keras.layers.Dense)
        and output.activation is keras.activations.linear
        and output.units == len(embedding.vocabulary)
    )


def embedding_of(model: keras.Model) -> CharacterEmbedding:
    """Returns the layer that holds the vocabulary of a model made by `char_language_model`.

    Raises:
        ValueError: if `model` is not a character language model.
    """
    if not is_character_language_model(model):
        raise ValueError(
            "`model` must be a character language model, such as `char_language_model` makes: a "
            "chain of recurrent layers from a CharacterEmbedding to a Dense layer of logits, one "
            "for each character, without activation. "
            f"Received: model={model!r}"
        )
    return next(layer for layer in model.layers if isinstance(layer, CharacterEmbedding))
