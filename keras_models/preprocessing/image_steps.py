"""The steps that image processors are made of: sizes, resizing, cropping, scaling values, and resizing of outputs.

A picture is an RGB PIL image, or an array (height, width, 3) of bytes or of floats. Sizes are (height, width).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from keras_models.preprocessing.image_files import to_bytes

Size = tuple[int, int]
Picture = Image.Image | np.ndarray
SIZE_KEYS = (
    ("height", "width"), ("shortest_edge",), ("shortest_edge", "longest_edge"), ("longest_edge",),
    ("max_height", "max_width"),
)  # fmt: skip
_BLOCK = 1 << 16  # values that are worked on at a time, so that they stay in the processor's cache


def size_dict(name: str, value: Any, square: bool, longest: int | None = None) -> dict[str, int]:
    """A size as preprocessor_config.json spells it today.

    Args:
        name: the setting, for errors.
        value: a number, a list [height, width], or a dictionary with one of SIZE_KEYS.
        square: whether a number means height and width, rather than the shortest edge.
        longest: the limit of the longest edge where `value` gives the shortest alone.

    Raises:
        ValueError: `value` is none of these.
    """
    given = value
    if isinstance(value, list | tuple) and len(value) == 2:
        value = dict(zip(("height", "width"), value, strict=True))
    elif not isinstance(value, Mapping):
        value = {"height": value, "width": value} if square else {"shortest_edge": value}
    sizes = {key: number for key, number in value.items() if number is not None}
    if longest is not None and set(sizes) == {"shortest_edge"}:
        sizes["longest_edge"] = longest
    if not any(set(sizes) == set(keys) for keys in SIZE_KEYS) or not all(map(_is_length, sizes.values())):
        forms = ", ".join(f"{{{', '.join(keys)}}}" for keys in SIZE_KEYS)
        raise ValueError(f"{name} is {given!r}: give a positive integer, [height, width], or a dictionary of {forms}.")
    return {key: int(number) for key, number in sizes.items()}


def _is_length(value: Any) -> bool:
    return isinstance(value, int | float | np.integer) and not isinstance(value, bool) and value >= 1 and value % 1 == 0


def size_of(picture: Picture) -> Size:
    """(height, width) of a picture."""
    return (picture.height, picture.width) if isinstance(picture, Image.Image) else picture.shape[:2]


def resized_size(size: Size, wanted: Mapping[str, int]) -> Size:
    """The size that a picture of `size` is resized to, by the keys of `wanted`; never less than 1 pixel."""
    height, width = size
    match wanted:
        case {"height": new_height, "width": new_width}:
            return new_height, new_width
        case {"shortest_edge": shortest}:
            new_height, new_width = _shortest_edge(size, shortest, wanted.get("longest_edge"))
        case {"longest_edge": longest}:
            scale = longest / max(size)
            new_height, new_width = int(height * scale + 0.5), int(width * scale + 0.5)
        case {"max_height": max_height, "max_width": max_width}:
            scale = min(max_height / height, max_width / width)
            new_height, new_width = int(height * scale), int(width * scale)
    return max(new_height, 1), max(new_width, 1)


def _shortest_edge(size: Size, shortest: int, limit: int | None) -> Size:
    """The size whose shorter edge is `shortest`, or shorter so that the longer one stays within `limit`."""
    small, large = min(size), max(size)
    exact: float = shortest
    if limit is not None and large / small * shortest > limit:
        exact = limit * small / large
        shortest = round(exact)
    if small == shortest:
        return size
    # The longer edge follows from the unrounded shorter one, which is how the reference keeps the limit.
    longest = int(exact * large / small)
    return (shortest, longest) if size[0] <= size[1] else (longest, shortest)


def multiple_size(size: Size, wanted: Size, keep_aspect_ratio: bool, multiple: int) -> Size:
    """The size next to `wanted` whose edges are multiples of a number, with the picture's proportions if asked for.

    The proportions are those of the edge that changes least, so the other may end up longer than `wanted`.
    """
    scales = [new / old for new, old in zip(wanted, size, strict=True)]
    if keep_aspect_ratio:
        scales = [scales[1] if abs(1 - scales[1]) < abs(1 - scales[0]) else scales[0]] * 2
    height, width = (max(round(scale * old / multiple), 1) * multiple for scale, old in zip(scales, size, strict=True))
    return height, width


def resize(picture: Picture, size: Size, resample: int) -> Picture:
    """A picture resized by Pillow with one of its filters.

    Floats from 0 to 1 go through bytes and come back as float32, as in the reference.

    Raises:
        ValueError: the floats are outside that range.
    """
    height, width = size
    if isinstance(picture, Image.Image):
        return picture.resize((width, height), resample)
    values, scaled = to_bytes(picture)
    resized = np.asarray(Image.fromarray(values).resize((width, height), resample))
    return (resized * (1 / 255)).astype(np.float32) if scaled else resized


def center_crop(picture: Picture, size: Size) -> Picture:
    """The middle of a picture; where it is smaller than `size`, it lies in the middle of zeros."""
    (height, width), (new_height, new_width) = size_of(picture), size
    top, left = (height - new_height) // 2, (width - new_width) // 2
    if isinstance(picture, Image.Image):
        return picture.crop((left, top, left + new_width, top + new_height))
    result = np.zeros((new_height, new_width, *picture.shape[2:]), picture.dtype)
    inside = picture[max(top, 0) : top + new_height, max(left, 0) : left + new_width]
    place(result, inside, max(-top, 0), max(-left, 0))[...] = inside
    return result


def place(canvas: np.ndarray, picture: Picture, top: int, left: int) -> np.ndarray:
    """The part of a canvas (height, width, ...) that a picture takes up whose corner lies at (top, left)."""
    height, width = size_of(picture)
    return canvas[top : top + height, left : left + width]


def assemble(
    pictures: Sequence[Picture],
    size: Size,
    corners: Sequence[tuple[int, int]],
    scale: np.ndarray,
    offset: np.ndarray,
) -> np.ndarray:
    """A batch (pictures, height, width, 3) of `picture * scale + offset` in float32.

    Args:
        pictures: what is to lie in the batch.
        size: the size of the batch.
        corners: where the upper left corner of each picture comes to lie; what none covers is 0.
        scale: 3 factors, one a channel.
        offset: 3 numbers that are added.
    """
    covered = all(size_of(picture) == size for picture in pictures)
    batch = (np.empty if covered else np.zeros)((len(pictures), *size, 3), np.float32)
    for canvas, picture, corner in zip(batch, pictures, corners, strict=True):
        _write_scaled(place(canvas, picture, *corner), np.asarray(picture), scale, offset)
    return batch


def _write_scaled(out: np.ndarray, values: np.ndarray, scale: np.ndarray, offset: np.ndarray):
    """Writes values (height, width, 3), scaled, into `out`, row by row: numpy is slow on axes as short as 3."""
    height, width, channels = values.shape
    scales, offsets = np.tile(scale, width), np.tile(offset, width)
    out, values = out.reshape(height, width * channels), values.reshape(height, width * channels)
    rows = max(_BLOCK // (width * channels), 1)
    for start in range(0, height, rows):
        block = out[start : start + rows]
        block[...] = values[start : start + rows]
        block *= scales
        block += offsets


def interpolate(values: np.ndarray, size: Size, mode: str = "bilinear", axes: tuple[int, int] = (-2, -1)) -> np.ndarray:
    """Values resized along two axes, as PyTorch's `interpolate` does with align_corners=False and no antialiasing.

    Args:
        values: an array of floats.
        size: the new lengths of the two axes.
        mode: "nearest", "bilinear" or "bicubic".
        axes: the axes of height and width.
    """
    for length, axis in zip(size, axes, strict=True):
        indices, weights = taps(values.shape[axis], length, mode)
        values = blend(values, indices, weights, axis)
    return values


def taps(old: int, new: int, mode: str = "bilinear") -> tuple[np.ndarray, np.ndarray]:
    """Which of `old` values make up each of `new` ones: indices and weights, both (values per new one, new)."""
    if mode == "nearest":
        # In float32, whose rounding decides between neighbours in PyTorch too.
        indices = np.floor(np.arange(new, dtype=np.float32) * np.float32(old / new)).astype(np.int64)
        return np.minimum(indices, old - 1)[None], np.ones((1, new), np.float32)
    ratio = np.float32(old / new)
    centers = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * ratio - np.float32(0.5)
    if mode == "bilinear":
        centers = np.maximum(centers, 0)
        first = np.floor(centers)
        fraction = centers - first
        indices, weights = np.stack([first, first + 1]), np.stack([1 - fraction, fraction])
    else:
        first = np.floor(centers)
        indices = first + np.arange(-1, 3, dtype=np.float32)[:, None]
        weights = _cubic(np.abs(indices - centers))
    return np.clip(indices, 0, old - 1).astype(np.int64), weights.astype(np.float32)


def _cubic(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Weights of bicubic interpolation at distances from 0 to 2, with PyTorch's coefficient."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return np.where(distance <= 1, near, far)


def blend(values: np.ndarray, indices: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """Weighted sums of slices along an axis; see `taps`."""
    shape = [1] * values.ndim
    shape[axis] = -1
    total = np.take(values, indices[0], axis)
    if len(indices) > 1:
        total *= weights[0].reshape(shape)
    for index, weight in zip(indices[1:], weights[1:], strict=True):
        part = np.take(values, index, axis)
        part *= weight.reshape(shape)
        total += part
    return total


def padded_length(length: int, divisor: int) -> int:
    """The next multiple of a number."""
    return math.ceil(length / divisor) * divisor
