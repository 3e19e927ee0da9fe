"""The mixture of Gaussians that a stroke model predicts for the next point."""

from typing import Any, NamedTuple

from keras import ops

from keras_hypernets.dynamic.recurrence.step import dtype_for_sums

# Within these limits no value or gradient overflows float32, for offsets of up to 1e10.
LIMIT_LOG_SIGMA = 10.0  # sigma from 4.5e-5 to 22,026
LIMIT_CORRELATION = 8.0  # |rho| up to 1 - 2.3e-7


class Mixture(NamedTuple):
    """Parameters `(..., mixtures)`, and of the pen `(...)`, in float32 or float64."""

    logits: Any
    mean_x: Any
    mean_y: Any
    log_sigma_x: Any
    log_sigma_y: Any
    correlation: Any  # the inverse hyperbolic tangent of rho
    pen: Any  # logit


def mixture_of(parameters: Any) -> Mixture:
    """Splits the output of a stroke model `(..., 6 mixtures + 1)` and limits its parameters."""
    parameters = ops.cast(parameters, dtype_for_sums(parameters))
    mixtures = parameters.shape[-1] // 6
    *six, pen = ops.split(parameters, [n * mixtures for n in range(1, 7)], axis=-1)
    logits, mean_x, mean_y, log_sigma_x, log_sigma_y, correlation = six
    return Mixture(
        logits,
        mean_x,
        mean_y,
        ops.clip(log_sigma_x, -LIMIT_LOG_SIGMA, LIMIT_LOG_SIGMA),
        ops.clip(log_sigma_y, -LIMIT_LOG_SIGMA, LIMIT_LOG_SIGMA),
        ops.clip(correlation, -LIMIT_CORRELATION, LIMIT_CORRELATION),
        pen[..., 0],
    )
