"""Convolutions and the normalizations between them, channels last."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_models import runtime
from keras_models.nn.activations import get_activation
from keras_models.nn.layers import BareCall, Layer, normal
from keras_models.nn.pictures import is_padded, is_real, pair, without_padding


class Conv2D(BareCall, keras.layers.Conv2D):
    """`keras.layers.Conv2D` from `input_dim` to `filters` features: (batch, height, width, channels), channels last.

    Args:
        padding: zeros added at both ends of height and width, as PyTorch does: one number or (height, width).
    """

    def __init__(
        self,
        input_dim: int,
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation_rate: int | tuple[int, int] = 1,
        groups: int = 1,
        use_bias: bool = True,
        activation: str | Callable | None = None,
    ):
        super().__init__(
            filters, kernel_size, dilation_rate=dilation_rate, groups=groups, use_bias=use_bias,
            kernel_initializer=normal(), data_format="channels_last",
        )  # fmt: skip
        self.strides = pair(strides)  # past Keras' refusal of strides beside dilation
        self.activation = None if activation is None else get_activation(activation)
        self.pads = tuple((each, each) for each in pair(padding))
        self.build((None, None, None, input_dim))

    def call(self, inputs):
        kernel = self.kernel if self.lora_enabled else self._kernel
        return self.convolve(inputs, kernel, self.bias, self.activation)

    def convolve(self, x, kernel, bias, activation=None, residual=None):
        """The convolution with a kernel and a bias that stand in for the layer's own, and what follows it."""
        x = without_padding(x) if any(map(any, self.pads)) else x
        settings = (self.strides, self.pads, self.dilation_rate, self.groups)
        return runtime.conv2d(x, kernel, bias, *settings, activation, residual)

    def compute_output_shape(self, input_shape):
        """Keras' own, for the padded input."""
        padded = [n if n is None else n + sum(pads) for n, pads in zip(input_shape[1:3], self.pads, strict=True)]
        return super().compute_output_shape((input_shape[0], *padded, input_shape[3]))


class Conv1D(BareCall, keras.layers.Conv1D):
    """`keras.layers.Conv1D` from `input_dim` to `filters` features: (batch, length, channels).

    Args:
        padding: zeros added at both ends, as PyTorch does.
    """

    def __init__(
        self,
        input_dim: int,
        filters: int,
        kernel_size: int,
        strides: int = 1,
        padding: int = 0,
        dilation_rate: int = 1,
        groups: int = 1,
        use_bias: bool = True,
        activation: str | Callable | None = None,
    ):
        super().__init__(
            filters, kernel_size, dilation_rate=dilation_rate, groups=groups, use_bias=use_bias,
            kernel_initializer=normal(), data_format="channels_last",
        )  # fmt: skip
        self.strides = (strides,)  # past Keras' refusal of strides beside dilation
        self.activation = None if activation is None else get_activation(activation)
        self.pads = (padding, padding)
        self.build((None, None, input_dim))

    def call(self, inputs):
        kernel = self.kernel if self.lora_enabled else self._kernel
        return self.convolve(inputs, kernel, self.bias, self.activation)

    def convolve(self, x, kernel, bias, activation=None):
        """The convolution with a kernel and a bias that stand in for the layer's own."""
        (stride,), (dilation,) = self.strides, self.dilation_rate
        return runtime.conv1d(x, kernel, bias, stride, self.pads, dilation, self.groups, activation)

    def compute_output_shape(self, input_shape):
        """Keras' own, for the padded input."""
        batch, length, channels = input_shape
        return super().compute_output_shape((batch, length if length is None else length + sum(self.pads), channels))


class BatchNormalization(BareCall, keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the last axis of `size` features."""

    constants = {"num_batches_tracked": np.zeros((), "int64")}  # written to files because PyTorch asks for it

    def __init__(self, size: int, epsilon: float = 1e-5):
        super().__init__(momentum=0.9, epsilon=epsilon)
        self.build((None, None, None, size))

    def scale_and_offset(self):
        """What inference multiplies with and adds."""
        scale = self.gamma * ops.rsqrt(self.moving_variance + self.epsilon)
        return scale, self.beta - self.moving_mean * scale

    def fixed(self):
        """`scale_and_offset` for layers before it to do its work in plain inference, None elsewhere."""
        return self.scale_and_offset() if runtime.calls_are_bare() else None

    def call(self, inputs, training=None, mask=None):
        if not runtime.calls_are_bare():
            return super().call(inputs, training=training, mask=mask)
        scale, offset = self.scale_and_offset()
        return inputs * ops.cast(scale, inputs.dtype) + ops.cast(offset, inputs.dtype)


class FrozenBatchNormalization(Layer):
    """Batch normalization with statistics, scale and offset that never change, over the last axis of `size`."""

    def __init__(self, size: int, epsilon: float = 1e-5):
        super().__init__()
        self.epsilon = epsilon
        numbers = {"weight": "ones", "bias": "zeros", "running_mean": "zeros", "running_var": "ones"}
        for name, initializer in numbers.items():
            setattr(self, name, self.add_weight(shape=(size,), initializer=initializer, trainable=False))

    def scale_and_offset(self):
        """What it multiplies with and adds."""
        scale = self.weight * ops.rsqrt(self.running_var + self.epsilon)
        return scale, self.bias - self.running_mean * scale

    def call(self, inputs):
        scale, offset = self.scale_and_offset()
        return inputs * ops.cast(scale, inputs.dtype) + ops.cast(offset, inputs.dtype)


def convolve(
    convolution: Conv2D, norm: BatchNormalization | FrozenBatchNormalization, x, activation=None, residual=None
):
    """A convolution without activation, a batch normalization, what passes around both, and an activation function.

    In inference the first two are one convolution, with a kernel that is scaled at each call: the kernel is small
    beside the pictures.
    """
    if runtime.calls_are_bare() and convolution.bias is None:
        scale, offset = norm.scale_and_offset()
        kernel = convolution.kernel if convolution.lora_enabled else convolution._kernel
        kernel, bias = kernel * ops.cast(scale, x.dtype), ops.cast(offset, x.dtype)
        return convolution.convolve(x, kernel, bias, activation, residual)
    x = norm(convolution(x))
    x = x if residual is None else x + residual
    return x if activation is None else activation(x)


class GroupNormalization(BareCall, keras.layers.GroupNormalization):
    """`keras.layers.GroupNormalization` over groups of the last axis of `size` features."""

    def __init__(self, groups: int, size: int, epsilon: float = 1e-5):
        super().__init__(groups, epsilon=epsilon)
        self.build((None, None, None, size))

    def call(self, inputs):
        if not is_padded():
            return super().call(inputs)
        batch, height, width = ops.shape(inputs)[:3]
        x = runtime.reshape(inputs, (batch, height, width, self.groups, inputs.shape[3] // self.groups))
        real = ops.cast(is_real(height, width), x.dtype)[None, :, :, None, None]
        count = ops.sum(real) * x.shape[4]
        mean = ops.sum(x * real, axis=(1, 2, 4), keepdims=True) / count
        variance = ops.sum(ops.square(x - mean) * real, axis=(1, 2, 4), keepdims=True) / count
        x = runtime.reshape((x - mean) * ops.rsqrt(variance + self.epsilon), ops.shape(inputs))
        return x * ops.cast(self.gamma, x.dtype) + ops.cast(self.beta, x.dtype)
