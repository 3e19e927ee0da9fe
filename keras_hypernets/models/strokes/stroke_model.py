"""Stroke models: recurrent networks that predict the next point of a drawing."""

import keras

from keras_hypernets.models.sequences.recurrent_stack import check_options, recurrent_stack
from keras_hypernets.models.sequences.stepping import is_chain, layers_of
from keras_hypernets.models.strokes.mixture_density import MixtureDensity


def stroke_model(
    units: int,
    layers: int = 1,
    cell: str = "hyper_lstm",
    mixtures: int = 20,
    dropout: float = 0.0,
    batch_size: int | None = None,
    stateful: bool = False,
    seed: int | None = None,
    name: str = "stroke_model",
    **cell_options,
) -> keras.Model:
    """Creates a model of handwriting or drawings: recurrent layers and a mixture density.

    The set-up of the paper's section 4.5. The output at each point is the distribution of the next
    one, as the parameters of a `models.strokes.MixtureDensity`: train with `models.stroke_loss`,
    draw with `models.generate_strokes`. Offsets should have a deviation of about 1: divide by that
    of the training data.

    Args:
        units: positive integer, units of each recurrent layer.
        layers: positive integer, number of recurrent layers. Default 1.
        cell: `"hyper_lstm"` (default), `"layer_norm_lstm"`, `"lstm"`, `"hyper_gru"` or
            `"hyper_simple_rnn"`.
        mixtures: positive integer, number of Gaussians. Default 20.
        dropout: rate in [0, 1) of the dropout on the output of each recurrent layer. As in the
            paper, none on the points. Default 0.
        batch_size: fixed batch size, or `None` (default) for any.
        stateful: whether the last states of a batch are the initial states of the next. Requires
            `batch_size`. Default `False`.
        seed: integer seed of all dropout masks. Default `None`: random.
        name: name of the model.
        **cell_options: arguments of the recurrent layer or cell, such as `hyper_units`,
            `embedding_dim`, `layer_norm`, `recurrent_dropout`.

    Returns:
        A functional `keras.Model` from points `(batch, time, 3)`, (dx, dy, 1 if the pen is lifted
        after the point, else 0), to parameters `(batch, time, 6 mixtures + 1)`.

    Raises:
        ValueError: if an argument is out of range, or a cell option is unknown to the cell.

    Example:

    >>> models = keras_hypernets.models
    >>> model = models.stroke_model(900, hyper_units=128, embedding_dim=4, layer_norm=False)
    >>> model.count_params()
    3941181
    >>> model = models.stroke_model(16, cell="lstm")
    >>> model.compile("adam", loss=models.stroke_loss)
    >>> drawings = keras.random.normal((8, 5, 3)) * [1, 1, 0]
    >>> history = model.fit(models.strokes.previous_points(drawings), drawings, verbose=0)
    >>> models.generate_strokes(model, length=10, seed=1).shape
    (10, 3)

    References:
        [Ha et al., 2016](https://arxiv.org/abs/1609.09106), section 4.5,
        [Graves, 2013](https://arxiv.org/abs/1308.0850).
    """
    options = (units, layers, cell, dropout)
    check_options("a stroke model", *options, batch_size, stateful, seed, cell_options)
    strokes = keras.Input((None, 3), batch_size=batch_size, name="strokes")
    x = recurrent_stack(strokes, *options, stateful, seed, cell_options, drops_input=False)
    return keras.Model(strokes, MixtureDensity(mixtures, name="parameters")(x), name=name)


def is_stroke_model(model: keras.Model) -> bool:
    """Returns whether a model is a stroke model, such as `stroke_model` creates.

    That is a chain of recurrent layers from points `(batch, time, 3)` to a MixtureDensity.
    """
    if not is_chain(model):
        return False
    (given,) = model.inputs
    last = layers_of(model)[-1]
    return isinstance(last, MixtureDensity) and tuple(given.shape[2:]) == (3,)


def check_stroke_model(model: keras.Model) -> None:
    """Raises ValueError unless a model is a stroke model."""
    if not is_stroke_model(model):
        raise ValueError(
            "`model` must be a stroke model, such as `stroke_model` creates: a chain of recurrent "
            f"layers from points (batch, time, 3) to a MixtureDensity. Received: model={model!r}"
        )
