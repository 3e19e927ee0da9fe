"""HyperConv: base class of HyperConv1D, HyperConv2D and HyperConv3D."""

import keras
from keras import ops

from keras_hypernets.static.generated_kernel import GeneratedKernelLayer
from keras_hypernets.validation import one_of, positive_integer


class HyperConv(GeneratedKernelLayer):
    """Base class of convolutions with a generated kernel. A subclass sets `rank`.

    Args:
        filters: positive integer, number of output channels.
        kernel_size: integer or `rank` integers.
        generator: shared `KernelGenerator` with a tile `(*window, in, out)`. Default `None`.
        strides, padding, data_format, dilation_rate, groups: as in `keras.layers.Conv2D`.
        **kwargs: arguments of `GeneratedKernelLayer`.
    """

    rank = None
    paddings = ("valid", "same")

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
        **kwargs,
    ):
        super().__init__(
            generator=generator, embedding_dim=embedding_dim, hidden_units=hidden_units, **kwargs
        )
        self.filters = positive_integer("filters", filters)
        self.kernel_size = self._sizes("kernel_size", kernel_size)
        self.strides = self._sizes("strides", strides)
        self.padding = one_of("padding", str(padding).lower(), self.paddings)
        self.data_format = one_of(
            "data_format",
            keras.config.image_data_format() if data_format is None else data_format,
            ("channels_last", "channels_first"),
        )
        self.dilation_rate = self._sizes("dilation_rate", dilation_rate)
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
        self.input_spec = keras.InputSpec(ndim=self.rank + 2)

    def build(self, inputs_shape):
        axis = -1 if self.data_format == "channels_last" else 1
        channels = inputs_shape[axis]
        self.input_spec = keras.InputSpec(ndim=self.rank + 2, axes={axis: channels})
        if channels is not None and channels % self.groups:
            raise ValueError(
                "The channels of the input must be a multiple of `groups`. "
                f"Received: an input of shape {tuple(inputs_shape)}, groups={self.groups}"
            )
        channels = None if channels is None else channels // self.groups
        self.build_kernel((*self.kernel_size, channels, self.filters))
        self.build_bias(self.filters)

    def call(self, inputs):
        outputs = self.convolve(inputs, self.kernel)
        bias = self.bias
        if bias is not None and self.data_format == "channels_first":
            bias = ops.reshape(bias, (-1, *[1] * self.rank))
        return self.finish(outputs, bias)

    def convolve(self, inputs, kernel):
        padding = self.padding
        if padding == "causal":
            before = self.dilation_rate[0] * (self.kernel_size[0] - 1)
            of_steps = [[before, 0], [0, 0]]
            last = self.data_format == "channels_last"
            inputs = ops.pad(inputs, [[0, 0], *(of_steps if last else of_steps[::-1])])
            padding = "valid"
        return ops.conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )

    def compute_output_shape(self, inputs_shape):
        channels = inputs_shape[-1 if self.data_format == "channels_last" else 1]
        # Groups do not change the shape, and `ops.conv` rejects them for symbolic tensors.
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

    def _sizes(self, name, value):
        values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * self.rank
        if len(values) != self.rank:
            numbers = "an integer" if self.rank == 1 else f"one or {self.rank} integers"
            raise ValueError(f"`{name}` must be {numbers}. Received: {name}={value!r}")
        return tuple(positive_integer(name, v) for v in values)
