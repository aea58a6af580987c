"""Sound read from files, addresses, bytes and arrays, as one channel of floats at the sampling rate that is wanted."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from keras_models.preprocessing.image_files import data_of, download, shortened, to_numpy

# Whole numbers as files hold them: what is silence, and what is divided by.
_PCM = {"uint8": (128, 128), "int8": (0, 128), "int16": (0, 1 << 15), "int32": (0, 1 << 31)}
_NO_FLOAT = 100  # samples beyond this were whole numbers once
_FEW_CHANNELS = 16  # an array of shape (samples, no more than this) holds channels, not sounds


def load_audio(source: Any, sampling_rate: int = 16000, *, timeout: float = 30.0) -> np.ndarray:
    """Reads a sound, mixes its channels down to one and resamples it.

    Files need the optional packages soundfile (WAV, FLAC, OGG, MP3 ...) and av (all else, such as M4A, WebM, or the
    sound of a video); another sampling rate needs soxr. All three come with `pip install -e '.[audio]'` in the clone.

    Args:
        source: a path, an http(s) or `data:` address, the bytes of a file, a file opened in binary mode; an array or
            tensor (samples,), which is taken to have the sampling rate already; or a dictionary with "sampling_rate"
            and "array" or "raw", as data sets have. Arrays hold floats from -1 to 1, or the whole numbers of
            8, 16 or 32 bits that stand for them in files.
        sampling_rate: samples a second of the result.
        timeout: how many seconds to wait for an address to answer.

    Returns:
        (samples,), float32, from -1 to 1.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file or the address cannot be read.
        ValueError: what was read is no sound, damaged or empty; or an array has several channels, no samples, or NaN or
            infinity among them.
        TypeError: `source` is none of these.
        ImportError: an optional package is missing.
    """
    if isinstance(sampling_rate, bool) or not isinstance(sampling_rate, int | np.integer) or sampling_rate <= 0:
        raise ValueError(f"sampling_rate is {sampling_rate!r}: give a whole number of samples a second, such as 16000.")
    if isinstance(source, Mapping):
        samples, rate = _of_dictionary(source)
    elif isinstance(source, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(source, "read"):
        file, name = _opened(source, timeout)
        samples, rate = _decoded(file, name)
        samples = as_samples(samples.mean(axis=0), name)
    else:
        samples, rate = as_samples(source, "The sound"), sampling_rate
    if rate == sampling_rate:
        return samples
    return package("soxr", "Resampling sound").resample(samples, rate, int(sampling_rate))


def as_samples(values: Any, name: str) -> np.ndarray:
    """One channel of sound (samples,), float32, from an array, a tensor or a list; errors say `name`.

    Raises:
        ValueError: it has several channels, no samples, NaN or infinity among them, or numbers too large to be sound.
        TypeError: these are no numbers.
    """
    try:
        array = to_numpy(values)
    except ValueError as error:
        raise ValueError(f"{name} is a list of lists of different lengths: pass numbers, a sample each.") from error
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind not in "fiu" or not array.ndim:
        raise TypeError(
            f"{name} is {type(values).__name__} of {array.dtype}: pass a path, or samples as an array of floats."
        )
    if array.ndim == 2 and 1 in array.shape:
        array = array.reshape(-1)
    if array.ndim != 1:
        raise ValueError(f"{name} has the shape {array.shape}, and a sound has one channel: {_mix_down(array)}.")
    if not len(array):
        raise ValueError(f"{name} has no samples: pass a sound that is not empty.")
    array = _floats(array, name)
    peak = max(-array.min(), array.max())
    if not np.isfinite(peak):
        place = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"{name} has {array[place]} as its sample {place}: put a number in its place, such as 0.")
    if peak > _NO_FLOAT:
        warnings.warn(f"{name} reaches {peak:.6g}, but floats go from -1 to 1: divide samples of 16 bits by 32768.")
    return array


def as_sounds(values: Any) -> list[Any]:
    """One sound or several as a list; an array (sounds, samples) and a list of whatever `load_audio` reads are several.

    Raises:
        ValueError: there is no sound, or an array has other axes.
    """
    if isinstance(values, list | tuple):
        if not values:
            raise ValueError("There is no sound: pass at least one.")
        return [values] if isinstance(values[0], int | float | np.number) else list(values)
    shape = getattr(values, "shape", ())
    channels = len(shape) == 2 and shape[1] <= _FEW_CHANNELS < shape[0]
    if len(shape) < 2 or (channels and shape[1] == 1):
        return [values]
    if len(shape) > 2 or channels:
        raise ValueError(
            f"The array has the shape {tuple(shape)}: pass (samples,) or (sounds, samples), and of sounds with several "
            f"channels one: {_mix_down(values)}."
        )
    return list(values)


def _mix_down(array: Any) -> str:
    """How to make one channel of several."""
    axis = int(np.argmin(array.shape)) if array.ndim == 2 else -1
    return f"mix it down with array.mean(axis={axis}), or pass the file, of which load_audio does so"


def _floats(array: np.ndarray, name: str) -> np.ndarray:
    """Samples as float32; whole numbers are scaled as they are in files."""
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    if array.dtype.name in _PCM:
        silence, scale = _PCM[array.dtype.name]
        return ((array.astype(np.float64) - silence) / scale).astype(np.float32)
    if array.min() < -1 or array.max() > 1:  # lists of whole numbers, which may be silence
        raise ValueError(
            f"{name} holds numbers of {array.dtype} from {array.min()} to {array.max()}: pass floats from -1 to 1, or "
            "an array of int16 or int32."
        )
    return array.astype(np.float32)


def _of_dictionary(source: Mapping[str, Any]) -> tuple[np.ndarray, int]:
    """The samples and the sampling rate of a dictionary."""
    key = next((key for key in ("array", "raw") if key in source), None)
    if key is None or "sampling_rate" not in source:
        raise ValueError(
            f"The dictionary has the keys {', '.join(map(repr, source)) or 'none'}: a sound needs 'sampling_rate', and "
            "its samples as 'array' or 'raw'."
        )
    rate = source["sampling_rate"]
    if isinstance(rate, bool) or not isinstance(rate, int | float | np.number) or not 0 < rate < float("inf"):
        raise ValueError(f"The dictionary's sampling_rate is {rate!r}: give the samples a second that its array has.")
    return as_samples(source[key], f"The dictionary's {key!r}"), rate


def _opened(source: Any, timeout: float) -> tuple[str | BinaryIO, str]:
    """What a decoder reads, and its name in errors."""
    if isinstance(source, bytes | bytearray | memoryview):
        return _buffer(bytes(source), f"What these {len(source)} bytes hold")
    if hasattr(source, "read"):
        content = source.read()
        if not isinstance(content, bytes):
            raise TypeError(f"The file gives {type(content).__name__}, not bytes: open it with mode 'rb'.")
        return _buffer(content, f"The file {getattr(source, 'name', 'that was passed')!r}")
    text = os.fspath(source)
    if text[:8].lower().startswith(("http://", "https://")):
        return _buffer(download(text, timeout), f"What {text} sent")
    if text[:5].lower() == "data:":
        return _buffer(data_of(text), f"What the address {shortened(text)} holds")
    path = Path(text) if os.path.exists(text) else Path(os.path.expanduser(text))
    if not os.path.exists(path):
        raise FileNotFoundError(f"There is no file {shortened(text)}: check the path, seen from {str(Path.cwd())!r}.")
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder: pass the path of a sound in it.")
    with path.open("rb") as file:  # for the system's own words where it may not be read
        if not file.read(1):
            raise ValueError(f"The file {str(path)!r} is empty: get it again.")
    return str(path), f"The file {str(path)!r}"


def _buffer(content: bytes, name: str) -> tuple[BinaryIO, str]:
    if not content:
        raise ValueError(f"{name} is empty: get it again.")
    return io.BytesIO(content), name


def _decoded(file: str | BinaryIO, name: str) -> tuple[np.ndarray, int]:
    """The samples (channels, samples) of a file, float32, and its sampling rate."""
    soundfile = package("soundfile", "Reading sound")
    try:
        opened = soundfile.SoundFile(file)
    except soundfile.LibsndfileError:  # none of its formats
        if not isinstance(file, str):
            file.seek(0)
        return _decoded_by_av(file, name)
    try:
        with opened:
            samples, rate = opened.read(dtype="float32", always_2d=True), opened.samplerate
    except soundfile.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ").rstrip(".")
        raise ValueError(f"{name} is a damaged sound ({reason}): get it again.") from error
    return samples.T, rate


def _decoded_by_av(file: str | BinaryIO, name: str) -> tuple[np.ndarray, int]:
    """The same with the decoders of FFmpeg."""
    av = package("av", f"{name} is in no format that soundfile reads; trying others")
    try:
        with av.open(file) as container:
            if not container.streams.audio:
                raise ValueError(f"{name} has no sound in it: pass another.")
            rate = container.streams.audio[0].codec_context.sample_rate
            planar = av.AudioResampler(format="fltp", rate=rate)
            frames = [each for frame in container.decode(audio=0) for each in planar.resample(frame)]
            frames += planar.resample(None) if frames else []
            pieces = [frame.to_ndarray() for frame in frames]
    except av.FFmpegError as error:
        raise ValueError(
            f"{name} is not a sound, or damaged ({error.strerror}): pass a WAV, FLAC, OGG, MP3 or M4A."
        ) from error
    if not pieces:
        raise ValueError(f"{name} has no samples: pass a sound that is not empty.")
    return np.concatenate(pieces, axis=1), rate


def package(name: str, purpose: str) -> ModuleType:
    """An optional package."""
    try:
        return __import__(name)
    except (ImportError, OSError) as error:  # OSError: soundfile without its library
        raise ImportError(
            f"{purpose} needs {name}: install it with `pip install -e '.[audio]'` in the clone."
        ) from error
