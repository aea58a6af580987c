"""Pictures and feature maps: (batch, height, width, channels)."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from keras import ops

from keras_models import runtime


class _Settings(threading.local):
    real_size: tuple[Any, tuple[int, int]] | None = None


_settings = _Settings()


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) of a setting that may be one number for both."""
    return (value, value) if isinstance(value, int) else tuple(value)


def resize(x, size, method: str = "bilinear", align_corners: bool = False):
    """Resizes (batch, height, width, channels) as PyTorch's `interpolate` does, without antialiasing.

    Args:
        size: (height, width), integers or scalar tensors.
        method: "nearest", "bilinear" or "bicubic".
        align_corners: whether the middles of the corner pixels stay the middles of the corner pixels.
    """
    return runtime.resize(x, tuple(size), method, align_corners)


def max_pool(x, size: int, strides: int, padding: int = 0):
    """The largest number in each window of (batch, height, width, channels); borders are padded with nothing."""
    x = without_padding(x, fill=-math.inf)
    x = runtime.max_pool(x, pair(size), pair(strides), tuple((each, each) for each in pair(padding)))
    return without_padding(x)  # windows of nothing but padding are infinite, and would become NaN further on


def sizes(x):
    """Height and width of (batch, height, width, channels), integers where they are known."""
    return tuple(ops.shape(x)[1:3])


@contextmanager
def real_size(size, padded: tuple[int, int]) -> Iterator[None]:
    """Within it, pictures of `padded` size stand for smaller ones, whose results they give.

    They have been padded at the bottom and on the right, so that a program for one size serves for others. What the
    padding became inside a network must look like the border that it hides: zeros to convolutions, nothing to pooling.

    Args:
        size: (height, width) of the real pictures, a tensor.
        padded: of the padded ones, multiples of every stride in the network.
    """
    before, _settings.real_size = _settings.real_size, (size, padded)
    try:
        yield
    finally:
        _settings.real_size = before


def real_length():
    """How many samples of padded sounds are real, a tensor, or None where sounds are what they are."""
    return None if _settings.real_size is None else _settings.real_size[0][0]


def is_padded() -> bool:
    """Whether pictures stand for smaller ones; see `real_size`."""
    return _settings.real_size is not None


def is_real(height: int, width: int):
    """Which places of a feature map (height, width) are no padding; see `real_size`."""
    size, padded = _settings.real_size
    rows, columns = (
        ops.arange(length) < -(-size[axis] // (padded[axis] // length)) for axis, length in enumerate((height, width))
    )
    return ops.logical_and(rows[:, None], columns[None, :])


def without_padding(x, fill: float = 0.0):
    """(batch, height, width, channels) with `fill` in the place of padding; see `real_size`."""
    if not is_padded():
        return x
    return ops.where(is_real(*x.shape[1:3])[None, :, :, None], x, ops.cast(fill, x.dtype))


def to_sequence(x):
    """(batch, height, width, channels) -> (batch, height * width, channels)."""
    batch, height, width = ops.shape(x)[:3]
    return runtime.reshape(x, (batch, height * width, x.shape[3]))


def to_picture(x, height, width):
    """(batch, height * width, channels) -> (batch, height, width, channels)."""
    return runtime.reshape(x, (ops.shape(x)[0], height, width, x.shape[2]))


def pad_to_multiples(x, factors: tuple[int, int]):
    """(batch, height, width, channels) with zeros at the bottom and on the right, up to multiples of the factors."""
    # Not -size % factor: JAX's shape inference must see that the sum is a multiple.
    missing = [-(-size // factor) * factor - size for size, factor in zip(sizes(x), factors, strict=True)]
    if all(isinstance(each, int) and each == 0 for each in missing):
        return x
    return ops.pad(x, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))


def to_windows(x, size, grid):
    """(batch, rows * size, columns * size, channels) -> (batch * rows * columns, size * size, channels).

    Args:
        grid: (rows, columns) of windows.
    """
    batch, (rows, columns) = ops.shape(x)[0], grid
    x = ops.transpose(runtime.reshape(x, (batch, rows, size, columns, size, x.shape[3])), (0, 1, 3, 2, 4, 5))
    return runtime.reshape(x, (batch * rows * columns, size * size, x.shape[5]))


def from_windows(x, size, grid, batch):
    """The reverse of `to_windows`."""
    rows, columns = grid
    x = ops.transpose(runtime.reshape(x, (batch, rows, columns, size, size, x.shape[2])), (0, 1, 3, 2, 4, 5))
    return runtime.reshape(x, (batch, rows * size, columns * size, x.shape[5]))


def pixel_shuffle(x, factor: int):
    """(batch, height, width, channels * factor^2) -> (batch, height * factor, width * factor, channels).

    The offset inside a block of pixels varies fastest along the channels, as in PyTorch's.
    """
    batch, height, width = ops.shape(x)[:3]
    channels = x.shape[3] // factor**2
    x = runtime.reshape(x, (batch, height, width, channels, factor, factor))
    x = ops.transpose(x, (0, 1, 4, 2, 5, 3))
    return runtime.reshape(x, (batch, height * factor, width * factor, channels))
