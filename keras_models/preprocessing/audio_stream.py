"""Sound as it comes, from a microphone or a pipe, in chunks for the pipeline for speech recognition."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np

from keras_models.preprocessing.audio_files import package

_TYPES = {"s16le": ("<i2", 32768.0), "f32le": ("<f4", 1.0)}
_DEVICES = {"linux": ("alsa", "default"), "darwin": ("avfoundation", ":default"), "win32": ("dshow", "audio=default")}
_READ = 0.1  # seconds that are read at once


def microphone(
    sampling_rate: int,
    chunk_length_s: float,
    stream_chunk_s: float | None = None,
    stride_length_s: float | tuple[float, float] | None = None,
    device: str | None = None,
) -> Iterator[dict[str, Any]]:
    """What a microphone hears, for a pipeline for speech recognition, until whoever iterates stops.

    Example:
        >>> for result in transcribe(microphone(16000, chunk_length_s=5, stream_chunk_s=1)):
        ...     print(result["text"], end="\\r" if result["partial"][0] else "\\n")

    Args:
        sampling_rate: in Hz.
        chunk_length_s, stream_chunk_s, stride_length_s: see `pcm_chunks`.
        device: what FFmpeg calls it; the system's default otherwise.

    Raises:
        ImportError: PyAV is not installed.
        OSError: there is no such device, or it cannot be read.
    """
    av = package("av", "Listening to a microphone")
    kind, default = _DEVICES.get(sys.platform, _DEVICES["linux"])
    with av.open(device or default, format=kind) as container:
        yield from sound_chunks(
            _decoded(av, container, sampling_rate), sampling_rate, chunk_length_s, stream_chunk_s, stride_length_s
        )


def pcm_chunks(
    stream: BinaryIO,
    sampling_rate: int,
    chunk_length_s: float,
    stream_chunk_s: float | None = None,
    stride_length_s: float | tuple[float, float] | None = None,
    format: str = "s16le",
) -> Iterator[dict[str, Any]]:
    """Raw samples of one channel from a file or pipe, such as `sys.stdin.buffer`, for speech recognition.

    Args:
        stream: an open binary file.
        sampling_rate: in Hz.
        chunk_length_s: how many seconds a whole chunk has.
        stream_chunk_s: give the chunk that is being filled every so many seconds too, as a partial one.
        stride_length_s: how much of a chunk's ends, one number or (left, right), is there as context only, and part of
            the neighbouring chunk too; a sixth of the chunk by default.
        format: "s16le", 16-bit integers, or "f32le", floats from -1 to 1; both little-endian.

    Yields:
        {"raw": (samples,), "sampling_rate", "stride": samples (left, right), "partial": bool}, which pipelines take.

    Raises:
        ValueError: the format is unknown, a length makes no sense, or the stream ends in the middle of a sample.
    """
    if format not in _TYPES:
        raise ValueError(f"There is no format {format!r} of samples: use one of {', '.join(_TYPES)}.")
    yield from sound_chunks(
        _samples(stream, format, sampling_rate), sampling_rate, chunk_length_s, stream_chunk_s, stride_length_s
    )


def sound_chunks(
    pieces: Iterable[np.ndarray],
    sampling_rate: int,
    chunk_length_s: float,
    stream_chunk_s: float | None = None,
    stride_length_s: float | tuple[float, float] | None = None,
) -> Iterator[dict[str, Any]]:
    """Joins pieces of sound, each (samples,), to chunks that overlap; see `pcm_chunks`."""
    context = np.broadcast_to(chunk_length_s / 6 if stride_length_s is None else stride_length_s, 2)
    length, left, right = (round(each * sampling_rate) for each in (chunk_length_s, *context))
    step = length if stream_chunk_s is None else round(stream_chunk_s * sampling_rate)
    if min(left, right) < 0 or left + right >= length or not 0 < step <= length:
        raise ValueError(
            f"Chunks of {chunk_length_s} s, given every {step / sampling_rate} s, with {context.tolist()} s of context "
            "make no sense: the contexts must leave something of a chunk, and stream_chunk_s must be positive and not "
            "above it."
        )
    held, before, told = np.zeros(0, "float32"), 0, 0

    def chunk(samples: np.ndarray, after: int, partial: bool) -> dict[str, Any]:
        return {"raw": samples, "sampling_rate": sampling_rate, "stride": (before, after), "partial": partial}

    for piece in pieces:
        held = np.concatenate([held, piece])
        while len(held) >= length:
            yield chunk(held[:length], right, False)
            held, before, told = held[length - left - right :], left, left + right
        if stream_chunk_s is not None and len(held) - told >= step:
            told = len(held)
            yield chunk(held, 0, True)
    if len(held) > before:
        yield chunk(held, 0, False)


def _samples(stream: BinaryIO, format: str, sampling_rate: int) -> Iterator[np.ndarray]:
    kind, scale = _TYPES[format]
    size, rest = np.dtype(kind).itemsize, b""
    read = getattr(stream, "read1", stream.read)  # what is there, without waiting for more
    while data := read(int(_READ * sampling_rate) * size):
        data = rest + data
        whole = len(data) // size * size
        rest = data[whole:]
        yield np.frombuffer(data[:whole], kind).astype("float32") / scale
    if rest:
        raise ValueError(f"The sound ends in the middle of a sample: is it {format}, or rather {_other(format)}?")


def _other(format: str) -> str:
    return next(name for name in _TYPES if name != format)


def _decoded(av: Any, container: Any, sampling_rate: int) -> Iterator[np.ndarray]:
    resampler = av.AudioResampler(format="fltp", rate=sampling_rate)  # whose own mix of channels is louder
    for frame in container.decode(audio=0):
        for each in resampler.resample(frame):
            yield each.to_ndarray().mean(axis=0)
