"""HyperDense: a dense layer whose kernel is generated."""

import keras
from keras import ops

from keras_hypernets.static.generated_kernel import GeneratedKernelLayer
from keras_hypernets.validation import positive_integer


@keras.saving.register_keras_serializable(package="keras_hypernets")
class HyperDense(GeneratedKernelLayer):
    """Dense layer with a kernel K from a `KernelGenerator`: `activation(x K + b)`.

    Args:
        units: positive integer, size of the output.
        generator: shared `KernelGenerator` with a tile `(in, out)`. Default `None`: the layer
            creates its own, whose tile is the whole kernel.
        embedding_dim: size of the embedding z of the layer's own generator. Default `None`: 16.
        hidden_units: hidden size of the layer's own generator. Default `None`: `embedding_dim`.
            Both must be `None` with a shared generator.
        activation: activation function. Default `None`.
        use_bias: whether to add a bias, an ordinary weight. Default `True`.
        bias_initializer, bias_regularizer, bias_constraint: for the bias.
        embedding_initializer, embedding_regularizer, embedding_constraint: for the embeddings.
            Default `None`: the kernel starts with the variance of He initialization.
        kernel_regularizer: regularizer of the generated kernel. Default `None`.
        **kwargs: arguments of `keras.Layer`.

    Call arguments:
        inputs: `(batch, ..., features)`.

    Returns:
        `(batch, ..., units)`. `layer.kernel` is the generated kernel `(features, units)`.

    Raises:
        ValueError: if an argument is out of range, or the kernel does not consist of whole tiles.

    Example:

    >>> layer = keras_hypernets.HyperDense(10, embedding_dim=4)
    >>> tuple(layer(keras.ops.ones((2, 6))).shape)
    (2, 10)

    Reference:
        [Ha et al., 2016](https://arxiv.org/abs/1609.09106), section 3.1.
    """

    plain_class = keras.layers.Dense

    def __init__(self, units, generator=None, embedding_dim=None, hidden_units=None, **kwargs):
        super().__init__(
            generator=generator, embedding_dim=embedding_dim, hidden_units=hidden_units, **kwargs
        )
        self.units = positive_integer("units", units)
        self.supports_masking = True
        self.input_spec = keras.InputSpec(min_ndim=2)

    def build(self, inputs_shape):
        self.input_spec = keras.InputSpec(min_ndim=2, axes={-1: inputs_shape[-1]})
        self.build_kernel((inputs_shape[-1], self.units))
        self.build_bias(self.units)

    def call(self, inputs):
        return self.finish(ops.matmul(inputs, self.kernel), self.bias)

    def compute_output_shape(self, inputs_shape):
        return (*inputs_shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}
