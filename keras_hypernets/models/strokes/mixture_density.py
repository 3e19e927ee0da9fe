"""MixtureDensity: the head of a stroke model."""

import keras
from keras import ops

from keras_hypernets.models.sequences.gumbel_noise import gumbel_noise
from keras_hypernets.models.strokes.mixture import mixture_of
from keras_hypernets.validation import positive_integer


@keras.saving.register_keras_serializable(package="keras_hypernets")
class MixtureDensity(keras.layers.Dense):
    r"""Predicts where the next point of a drawing is, and whether the pen is lifted after it.

    A Dense layer for the parameters of a mixture of bivariate Gaussians and a Bernoulli variable,

        p(dx, dy, pen) = sum_k pi_k N(dx, dy | mu_k, sigma_k, rho_k) p(pen)

    Its outputs are, in this order, `mixtures` values each: the logits of pi, mu_x, mu_y,
    log sigma_x, log sigma_y and arctanh rho; and one value, the logit of the lifted pen.
    `stroke_loss` and `sample` limit log sigma to \[-10, 10\] and arctanh rho to \[-8, 8\].

    Args:
        mixtures: positive integer, number of Gaussians. Default 20.
        **kwargs: arguments of `keras.layers.Dense`, except `units` and `activation`.

    Call arguments:
        inputs: `(..., features)`.

    Returns:
        `(..., 6 mixtures + 1)`.

    Raises:
        ValueError: if `mixtures` is out of range.

    Example:

    >>> head = keras_hypernets.models.strokes.MixtureDensity(20)
    >>> parameters = head(keras.ops.ones((2, 5, 8)))
    >>> tuple(parameters.shape)
    (2, 5, 121)
    >>> tuple(head.sample(parameters[:, -1], temperature=0.5, seed=1, position=0).shape)
    (2, 3)

    Reference:
        [Graves, 2013](https://arxiv.org/abs/1308.0850), section 4.1.
    """

    def __init__(self, mixtures=20, **kwargs):
        self.mixtures = positive_integer("mixtures", mixtures)
        super().__init__(6 * self.mixtures + 1, **kwargs)

    def sample(self, outputs, temperature, seed, position):
        """Draws the next point `(..., 3)`, reproducibly for each `(seed, position)`.

        The temperature divides the logits of pi and of the pen, and multiplies sigma squared. At 0
        the point is the mean of the most probable Gaussian, with the more probable pen.

        Args:
            outputs: parameters `(..., 6 mixtures + 1)`.
            temperature: number of at least 0.
            seed: 32-bit integer.
            position: 32-bit integer; each position has independent noise.
        """
        mixture = mixture_of(outputs)
        dtype = mixture.pen.dtype
        temperature = ops.cast(temperature, dtype)
        noise = gumbel_noise((*ops.shape(mixture.pen), self.mixtures + 4), seed, position)
        noise = ops.cast(noise, dtype)

        # The Gumbel-max trick, as for characters.
        logits = mixture.logits + temperature * noise[..., :-4]
        chosen = ops.argmax(logits, axis=-1)[..., None]
        x, y, log_sigma_x, log_sigma_y, correlation = (
            ops.take_along_axis(values, chosen, axis=-1)[..., 0] for values in mixture[1:6]
        )
        pen = mixture.pen + temperature * (noise[..., -4] - noise[..., -3]) > 0

        # Box-Muller: exp(-noise) has an exponential distribution, exp(-exp(-noise)) a uniform one.
        radius = ops.sqrt(2.0 * temperature * ops.exp(-noise[..., -2]))
        angle = 6.283185307179586 * ops.exp(-ops.exp(-noise[..., -1]))
        first, second = radius * ops.cos(angle), radius * ops.sin(angle)
        second = ops.tanh(correlation) * first + second / ops.cosh(correlation)
        x = x + ops.exp(log_sigma_x) * first
        y = y + ops.exp(log_sigma_y) * second
        return ops.stack([x, y, ops.cast(pen, dtype)], axis=-1)

    def get_config(self):
        config = {**super().get_config(), "mixtures": self.mixtures}
        del config["units"]
        return config
