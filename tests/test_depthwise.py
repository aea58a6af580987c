"""Convolutions with a group per channel, which backends compute in ways of their own."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_models import nn

CHANNELS = 6


def depthwise(x, kernel, bias, strides, padding, dilation):
    """The definition: (batch, height, width, channels) with a kernel (rows, columns, channels)."""
    (down, right), (rows, columns) = strides, dilation
    x = np.pad(x, ((0, 0), (padding[0], padding[0]), (padding[1], padding[1]), (0, 0)))
    reach = (kernel.shape[0] - 1) * rows + 1, (kernel.shape[1] - 1) * columns + 1
    found = [
        [
            np.sum(x[:, top : top + reach[0] : rows, left : left + reach[1] : columns] * kernel, axis=(1, 2))
            for left in range(0, x.shape[2] - reach[1] + 1, right)
        ]
        for top in range(0, x.shape[1] - reach[0] + 1, down)
    ]
    return np.moveaxis(np.array(found), 2, 0) + bias


@pytest.mark.parametrize(
    ("size", "strides", "padding", "dilation"),
    [
        ((3, 3), (1, 1), (1, 1), (1, 1)),
        ((3, 3), (2, 2), (1, 1), (1, 1)),
        ((7, 7), (1, 1), (3, 3), (1, 1)),
        ((5, 2), (3, 3), (0, 1), (1, 1)),
        ((3, 3), (1, 1), (2, 2), (2, 2)),
        ((1, 1), (2, 2), (0, 0), (1, 1)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_depthwise(size, strides, padding, dilation, dtype):
    random = np.random.default_rng(0)
    layer = nn.Conv2D(CHANNELS, CHANNELS, size, strides, padding, dilation, groups=CHANNELS)
    x, kernel, bias = (random.normal(size=shape) for shape in ((2, 13, 10, CHANNELS), (*size, CHANNELS), CHANNELS))
    layer.kernel.assign(kernel[:, :, None])
    layer.bias.assign(bias)
    x = ops.cast(ops.convert_to_tensor(x.astype("float32")), dtype)
    found = layer.convolve(x, layer.kernel, layer.bias)
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    exact = ops.convert_to_numpy(ops.cast(x, "float32"))
    expected = depthwise(exact, kernel, bias, strides, padding, dilation)
    tolerance = 1e-4 if dtype == "float32" else 0.02 * np.abs(expected).max()
    assert found.shape == expected.shape
    np.testing.assert_allclose(ops.convert_to_numpy(ops.cast(found, "float32")), expected, rtol=0, atol=tolerance)


def test_gradients_of_the_kernel():
    """Of a weighted sum of outputs: the same sum for kernels that are 1 at one place."""
    random = np.random.default_rng(1)
    inputs = keras.Input((9, 8, CHANNELS))
    layer = nn.Conv2D(CHANNELS, CHANNELS, 3, 2, 1, groups=CHANNELS)
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == (None, 5, 4, CHANNELS)
    x = random.normal(size=(2, 9, 8, CHANNELS)).astype("float32")
    weights = random.normal(size=model.output_shape[1:]).astype("float32")
    old = ops.convert_to_numpy(layer.kernel).copy()
    model.compile(keras.optimizers.SGD(1.0), lambda y, found: ops.sum(found * y, axis=(1, 2, 3)))
    model.train_on_batch(x, np.stack([weights, weights]))
    gradient = old - ops.convert_to_numpy(layer.kernel)
    zero, expected = np.zeros(CHANNELS), np.zeros_like(old)
    for row in range(3):
        for column in range(3):
            unit = np.zeros((3, 3, CHANNELS))
            unit[row, column] = 1.0
            shifted = depthwise(x, unit, zero, (2, 2), (1, 1), (1, 1))
            expected[row, column, 0] = np.sum(shifted * weights, axis=(0, 1, 2)) / 2
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-4)
