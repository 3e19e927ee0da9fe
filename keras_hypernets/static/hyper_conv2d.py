"""HyperConv2D: a convolution whose kernel is generated."""

import keras
from keras import ops

from keras_hypernets.static.generated_kernel import GeneratedKernelLayer
from keras_hypernets.validation import one_of, positive_integer


@keras.saving.register_keras_serializable(package="keras_hypernets")
class HyperConv2D(GeneratedKernelLayer):
    """2D convolution with a generated kernel.

    `activation(conv(x, K) + b)` with K from a `KernelGenerator` (eq. 2 of the paper), assembled
    from tiles along its channels (eq. 3) where the generator's tile is smaller. Only the kernel is
    generated; the bias is an ordinary weight.

    Args:
        filters: positive integer, channels of the output.
        kernel_size: integer or two integers; that of the generator's tile.
        generator: `KernelGenerator` with a tile `(height, width, in, out)` to share, or `None`
            (default): the layer makes its own, whose tile is the whole kernel.
        embedding_dim: size of the embedding z of the layer's own generator. Default `None`: 16.
        hidden_units: of the layer's own generator. Default `None`: as `embedding_dim`. Both must be
            `None` with a shared generator or a kernel from a `KernelBank`.
        strides, padding, data_format, dilation_rate, groups, activation, use_bias,
        bias_initializer, bias_regularizer, bias_constraint: as in `keras.layers.Conv2D`.
        kernel_regularizer: applied to the generated kernel. Default `None`.
        **kwargs: those of `keras.Layer`.

    Call arguments:
        inputs: `(batch, height, width, channels)`, or channels first with that `data_format`.
        kernel: `(height, width, channels / groups, filters)` from a `KernelBank`. Default `None`:
            the layer generates its own.

    Returns:
        `(batch, new_height, new_width, filters)`, or channels first. `layer.kernel` is the
        generated kernel `(height, width, channels / groups, filters)`.

    Raises:
        ValueError: for an argument out of its range, or a kernel that is not made of whole tiles.

    Example:

    >>> generator = keras_hypernets.KernelGenerator((3, 3, 8, 8), embedding_dim=4)
    >>> narrow = keras_hypernets.HyperConv2D(16, 3, generator)
    >>> wide = keras_hypernets.HyperConv2D(32, 3, generator, strides=2)
    >>> tuple(wide(narrow(keras.ops.ones((1, 9, 9, 8)))).shape)
    (1, 3, 3, 32)
    >>> tuple(wide.kernel.shape)
    (3, 3, 16, 32)

    Reference:
        [Ha et al., 2016](https://arxiv.org/abs/1609.09106), section 3.1.
    """

    def __init__(
        self,
        filters,
        kernel_size,
        generator=None,
        embedding_dim=None,
        hidden_units=None,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        groups=1,
        activation=None,
        use_bias=True,
        bias_initializer="zeros",
        bias_regularizer=None,
        bias_constraint=None,
        kernel_regularizer=None,
        **kwargs,
    ):
        super().__init__(
            generator=generator,
            embedding_dim=embedding_dim,
            hidden_units=hidden_units,
            activation=activation,
            use_bias=use_bias,
            bias_initializer=bias_initializer,
            bias_regularizer=bias_regularizer,
            bias_constraint=bias_constraint,
            kernel_regularizer=kernel_regularizer,
            **kwargs,
        )
        self.filters = positive_integer("filters", filters)
        self.kernel_size = _pair("kernel_size", kernel_size)
        self.strides = _pair("strides", strides)
        self.padding = one_of("padding", str(padding).lower(), ("valid", "same"))
        self.data_format = one_of(
            "data_format",
            keras.config.image_data_format() if data_format is None else data_format,
            ("channels_last", "channels_first"),
        )
        self.dilation_rate = _pair("dilation_rate", dilation_rate)
        self.groups = positive_integer("groups", groups)
        if self.filters % self.groups:
            raise ValueError(
                "`filters` must be a multiple of `groups`. "
                f"Received: filters={filters}, groups={groups}"
            )
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                "`strides` and `dilation_rate` cannot both be above 1. "
                f"Received: strides={strides}, dilation_rate={dilation_rate}"
            )
        self.input_spec = keras.InputSpec(ndim=4)

    def build(self, inputs_shape, kernel_shape=None):
        axis = -1 if self.data_format == "channels_last" else 1
        channels = inputs_shape[axis]
        self.input_spec = keras.InputSpec(ndim=4, axes={axis: channels})
        if channels is not None and channels % self.groups:
            raise ValueError(
                "The channels of the input must be a multiple of `groups`. "
                f"Received: an input of shape {tuple(inputs_shape)}, groups={self.groups}"
            )
        channels = None if channels is None else channels // self.groups
        self.build_kernel((*self.kernel_size, channels, self.filters), kernel_shape)
        self.build_bias(self.filters)

    def call(self, inputs, kernel=None):
        outputs = self.convolve(inputs, self.kernel_of(kernel))
        bias = self.bias
        if bias is not None and self.data_format == "channels_first":
            bias = ops.reshape(bias, (-1, 1, 1))
        return self.finish(outputs, bias)

    def convolve(self, inputs, kernel):
        return ops.conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )

    def compute_output_shape(self, inputs_shape, kernel_shape=None):
        if self.built:
            self.check_given_kernel(kernel_shape)
        channels = inputs_shape[-1 if self.data_format == "channels_last" else 1]
        # Groups do not change the shape, and `ops.conv` takes none with symbolic tensors.
        kernel = keras.KerasTensor((*self.kernel_size, channels, self.filters))
        return self.convolve(keras.KerasTensor(inputs_shape), kernel).shape

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
            "groups": self.groups,
        }


def _pair(name, value):
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2:
        raise ValueError(f"`{name}` must be one or two integers. Received: {name}={value!r}")
    return tuple(positive_integer(name, v) for v in values)
