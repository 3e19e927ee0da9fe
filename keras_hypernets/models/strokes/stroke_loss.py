"""The negative log-likelihood of drawings."""

import math
from typing import Any

import keras
from keras import ops

from keras_hypernets.models.strokes.mixture import mixture_of


@keras.saving.register_keras_serializable(package="keras_hypernets")
def stroke_loss(strokes: Any, parameters: Any) -> Any:
    """Returns the negative log-likelihood of each point of drawings, in nats.

        loss = - log sum_k pi_k N(dx, dy | mu_k, sigma_k, rho_k) - log p(pen)

    A density may exceed 1, so a loss may be negative. It is computed in float64 for
    float64 parameters, otherwise in float32.

    As a loss function, `model.compile(loss=stroke_loss)`, it takes a weight for each point: pad
    drawings to equal lengths with any finite values, and pass a `sample_weight` `(batch, time)` of
    1 for points and 0 for padding. Keras then reports the mean over all places, padded ones too.
    `nats_per_drawing` gives the sum over each drawing, as in the paper.

    Args:
        strokes: `(..., 3)` the true points: dx, dy, and 1 where the pen is lifted after the
            point, else 0.
        parameters: `(..., 6 mixtures + 1)` what a `stroke_model` predicted for them.

    Returns:
        `(...)` nats.

    Raises:
        ValueError: if a shape is wrong. Values are not checked.

    Example:

    >>> models = keras_hypernets.models
    >>> model = models.stroke_model(16, mixtures=5, hyper_units=8, embedding_dim=4)
    >>> strokes = keras.ops.convert_to_tensor([[[1.0, 2.0, 0.0], [0.5, -1.0, 1.0]]])
    >>> parameters = model(models.strokes.previous_points(strokes))
    >>> tuple(models.stroke_loss(strokes, parameters).shape)
    (1, 2)

    Reference:
        [Graves, 2013](https://arxiv.org/abs/1308.0850), equations 23 to 26.
    """
    parameters = ops.convert_to_tensor(parameters)
    _check_shapes(strokes, parameters)
    mixture = mixture_of(parameters)
    strokes = ops.cast(strokes, mixture.pen.dtype)
    x, y, pen = strokes[..., :1], strokes[..., 1:2], strokes[..., 2]
    # With z = (x - mu) / sigma and rho = tanh(r), the exponent
    #     (z_x^2 - 2 rho z_x z_y + z_y^2) / (1 - rho^2)
    # equals one that cancels no digits where rho is close to 1 or -1:
    #     ((1 + exp(2 r)) (z_x - z_y)^2 + (1 + exp(-2 r)) (z_x + z_y)^2) / 4
    z_x = (x - mixture.mean_x) * ops.exp(-mixture.log_sigma_x)
    z_y = (y - mixture.mean_y) * ops.exp(-mixture.log_sigma_y)
    r = mixture.correlation
    apart = (1.0 + ops.exp(2.0 * r)) * ops.square(z_x - z_y)
    alike = (1.0 + ops.exp(-2.0 * r)) * ops.square(z_x + z_y)
    log_cosh = r + ops.softplus(-2.0 * r) - math.log(2)  # that is -log sqrt(1 - rho^2)
    log_sigmas = mixture.log_sigma_x + mixture.log_sigma_y
    log_normal = log_cosh - log_sigmas - math.log(2 * math.pi) - (apart + alike) / 8.0
    log_point = ops.logsumexp(ops.log_softmax(mixture.logits) + log_normal, axis=-1)
    log_pen = -ops.softplus((1.0 - 2.0 * pen) * mixture.pen)
    return -(log_point + log_pen)


def nats_per_drawing(strokes: Any, parameters: Any, mask: Any = None) -> Any:
    """Returns the negative log-likelihood of each drawing: the sum of `stroke_loss`.

    Args:
        strokes, parameters: as for `stroke_loss`, `(batch, time, ...)`.
        mask: `(batch, time)`, true or 1 for points, false or 0 for padding. Default `None`: all
            are points.

    Returns:
        `(batch)` nats.
    """
    nats = stroke_loss(strokes, parameters)
    if mask is not None:
        nats = ops.where(ops.cast(mask, "bool"), nats, 0.0)
    return ops.sum(nats, axis=-1)


def _check_shapes(strokes, parameters):
    given, predicted = tuple(ops.shape(strokes)), tuple(ops.shape(parameters))
    sizes = predicted[-1] if predicted else 0
    if (
        len(given) != len(predicted)
        or given[-1:] != (3,)
        or not isinstance(sizes, int)
        or sizes < 7
        or sizes % 6 != 1
        or any(
            isinstance(a, int) and isinstance(b, int) and a != b
            for a, b in zip(given[:-1], predicted[:-1], strict=True)
        )
    ):
        raise ValueError(
            "`strokes` must be (..., 3) and `parameters` (..., 6 mixtures + 1). "
            f"Received: shapes {given} and {predicted}"
        )
