"""Pictures read from files, addresses, bytes and arrays, and turned into RGB."""

from __future__ import annotations

import base64
import binascii
import http.client
import io
import os
import struct
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

LAYOUTS = ("channels_first", "channels_last")
_ORIENTATION = 0x0112  # the EXIF tag
_STRAIGHT = {"La": "LA", "RGBa": "RGBA"}
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error)  # what decoders raise


def load_image(source: Any, *, timeout: float = 30.0, input_data_format: str | None = None) -> Image.Image:
    """Reads a picture, upright and in RGB.

    Args:
        source: a path, an http(s) address, a `data:` address, base64 text, the bytes of a file, a PIL image, or an
            array or tensor (height, width), (height, width, 1, 3 or 4) or (1, 3 or 4, height, width) of bytes,
            booleans, floats from 0 to 1, or 16-bit values. Transparency is dropped, as the reference does.
        timeout: how many seconds to wait for an address to answer.
        input_data_format: "channels_first" or "channels_last", for arrays whose shape leaves it open.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file or the address cannot be read.
        ValueError: what was read is no picture, is damaged, empty or far too large, or an array has no picture's shape
            or values.
        TypeError: `source` is none of these.
    """
    if isinstance(source, str):
        image = _open_text(source, timeout)
    elif isinstance(source, os.PathLike):
        image = _open_file(Path(source))
    elif isinstance(source, bytes | bytearray | memoryview):
        image = _open_bytes(bytes(source), f"What these {len(source)} bytes hold")
    elif isinstance(source, Image.Image):
        image = _upright(source)
    else:
        values = picture_array(source, input_data_format)
        return Image.fromarray(to_bytes(values)[0])
    return to_rgb(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode in RGB; grey values of more than 8 bits are scaled down.

    Raises:
        ValueError: the picture has no pixels, or its values are in no known range.
    """
    if not (image.width and image.height):
        raise ValueError(f"The picture has no pixels (it is {image.width} wide, {image.height} high): pass another.")
    if image.mode == "RGB":
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(to_bytes(_three_channels(np.asarray(image)))[0])
    # Pillow has no way to RGB from premultiplied transparency, and warns of that of palettes.
    straight = "RGBA" if image.mode == "P" and "transparency" in image.info else _STRAIGHT.get(image.mode)
    return (image.convert(straight) if straight else image).convert("RGB")


def as_picture(item: Any, input_data_format: str | None = None) -> Image.Image | np.ndarray:
    """What an image processor starts from: an RGB image, or an array (height, width, 3) of bytes or of floats.

    PIL images stay as they lie: only what is read from files is turned upright, and floats stay unrounded.
    """
    if isinstance(item, Image.Image):
        return to_rgb(item)
    if isinstance(item, str | os.PathLike | bytes | bytearray | memoryview):
        return load_image(item)
    return picture_array(item, input_data_format)


def picture_array(values: Any, input_data_format: str | None = None) -> np.ndarray:
    """An array or tensor as (height, width, 3), of bytes, or of floats as they are.

    Raises:
        ValueError: this is not the shape of one picture, or there are no pixels, or NaN or infinity among them.
        TypeError: this is no array of numbers.
    """
    array = to_numpy(values)
    if array.dtype.kind not in "buif" and array.dtype.name != "bfloat16":
        raise TypeError(
            f"A picture cannot be a {type(values).__name__} of {array.dtype}: pass a path, an address, bytes, a PIL "
            "image, or an array (height, width, 3)."
        )
    if not array.size:
        raise ValueError(f"The picture has no pixels (its shape is {array.shape}): pass another.")
    if array.dtype.kind not in "buif" or array.dtype == np.float16:
        array = array.astype(np.float32)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("The picture has values that are NaN or infinite: replace them first.")
    return _three_channels(array if array.dtype.kind == "f" else to_bytes(array)[0], input_data_format)


def to_numpy(values: Any) -> np.ndarray:
    """An array, a tensor of any framework or nested lists, as an array."""
    if hasattr(values, "detach"):  # PyTorch
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    return np.asarray(values)


def to_bytes(array: np.ndarray) -> tuple[np.ndarray, bool]:
    """Values as bytes, and whether they were floats from 0 to 1.

    Whole numbers up to 255 stay what they are, and integers up to 65535 are 16-bit values. Fractions are cut off, as in
    the reference.

    Raises:
        ValueError: the values are in none of these ranges.
    """
    if array.dtype == np.uint8:
        return array, False
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255), False
    low, high = array.min(), array.max()
    whole = array.dtype.kind in "ui" or np.allclose(array, np.trunc(array))
    if whole and low >= 0 and high <= 255:
        return array.astype(np.uint8), False
    if array.dtype.kind in "ui" and low >= 0 and high <= 65535:
        return ((array.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8), False
    if low >= 0 and high <= 1:
        return (array.astype(np.float64) * 255).astype(np.float32).astype(np.uint8), True
    raise ValueError(
        f"The picture has values from {low:.6g} to {high:.6g}: pass bytes, floats from 0 to 1, or 16-bit values."
    )


def _three_channels(array: np.ndarray, layout: str | None = None) -> np.ndarray:
    """An array of pixels as (height, width, 3); `layout` is one of LAYOUTS, or None to find it out."""
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"input_data_format is {layout!r}: pass one of {', '.join(map(repr, LAYOUTS))}.")
    shape, grey = array.shape, array.ndim == 2
    if grey:
        array, layout = array[..., None], "channels_last"
    elif array.ndim == 3 and layout is None:
        # 3 before 4: few pictures are 4 pixels wide; and last before first: most pictures are like that here.
        ends = [(axis, channels) for channels in ((1, 3), (4,)) for axis in (-1, 0) if shape[axis] in channels]
        layout = LAYOUTS[-1 if ends and ends[0][0] == -1 else 0]
    array = array.transpose(1, 2, 0) if array.ndim == 3 and layout == "channels_first" else array
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"The picture has the shape {shape}: pass (height, width), or (height, width, channels) or (channels, "
            "height, width) with 1, 3 or 4 channels."
        )
    return np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array[..., :3]


def _open_text(source: str, timeout: float) -> Image.Image:
    """The picture that a string leads to or is."""
    start = source[:40].lower()
    if start.startswith(("http://", "https://")):
        return _open_bytes(download(source, timeout), f"What {source} sent")
    if start.startswith("data:"):
        return _open_bytes(data_of(source), f"What the address {shortened(source)} holds")
    if os.path.exists(source) or os.path.exists(os.path.expanduser(source)):
        return _open_file(Path(source))
    content = _base64(source)
    if content and len(content) > 16:
        try:
            return _open_bytes(content, "What this base64 text holds")
        except UnidentifiedImageError:
            pass  # the name of a missing file may well be spelled like base64
    raise FileNotFoundError(f"There is no file {shortened(source)}: check the path, seen from {str(Path.cwd())!r}.")


def data_of(address: str) -> bytes:
    """The bytes that a `data:` address holds."""
    head, _, body = address.partition(",")
    content = _base64(body) if head.lower().endswith(";base64") else urllib.parse.unquote_to_bytes(body)
    if not content:
        raise ValueError(f"The address {shortened(address)} holds no data: it should be data:...;base64,....")
    return content


def download(address: str, timeout: float) -> bytes:
    """The bytes that an http(s) address sends."""
    request = urllib.request.Request(address, headers={"User-Agent": "keras-models"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise OSError(f"Cannot get {address}: {error}; check the address and the connection.") from error


def _base64(text: str) -> bytes | None:
    """The bytes that base64 text stands for, or None if it is none."""
    text = "".join(urllib.parse.unquote(text).split())
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _open_file(path: Path) -> Image.Image:
    path = path if path.exists() else path.expanduser()
    if not path.exists():
        raise FileNotFoundError(f"There is no file {str(path)!r}: check the path, seen from {str(Path.cwd())!r}.")
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder: pass the path of a picture in it.")
    return _decode(path, f"The file {str(path)!r}")


def _open_bytes(content: bytes, what: str) -> Image.Image:
    return _decode(io.BytesIO(content), what)


class _NoPicture(ValueError, UnidentifiedImageError):
    """What was given is not a picture in any format that Pillow reads."""


def _decode(file: Path | io.BytesIO, what: str) -> Image.Image:
    """The picture in a file, upright; `what` names the file in errors."""
    try:
        with Image.open(file) as image:
            pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS
            if limit is not None and pixels > limit:
                raise Image.DecompressionBombError
            image.load()
            return _upright(image)
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{what} is a picture of more than {Image.MAX_IMAGE_PIXELS} pixels: make it smaller, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS if you trust it."
        ) from error
    except UnidentifiedImageError as error:
        raise _NoPicture(f"{what} is not a picture in a format that Pillow reads: pass a JPEG or PNG.") from error
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's own words, as for a file that may not be read
        raise ValueError(f"{what} is a damaged picture ({error}): get it again.") from error


def _upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF data say; Pillow's own function would copy it in any case."""
    return ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image


def shortened(text: str) -> str:
    """A text in quotes, its start alone where it is long."""
    return repr(text if len(text) <= 80 else f"{text[:80]}...")
