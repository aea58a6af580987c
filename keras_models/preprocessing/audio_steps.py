"""From samples to spectra: mel filters, Whisper's log-mel spectrogram, Kaldi's filter banks."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

# Frames that go through all steps together: as many as stay in a core's cache.
_BLOCK = 64
_EPSILON = float(np.finfo(np.float32).eps)  # Kaldi's floor of energies
_PREEMPHASIS = 0.97


def log_mel(samples: np.ndarray, sampling_rate: int, bands: int, length: int, hop: int) -> np.ndarray:
    """Whisper's spectrogram: log10 of the energy in mel bands, of the loudest 80 dB, scaled to about -1 to 1.

    Args:
        samples: (samples,), float32.
        sampling_rate: samples a second.
        bands: how many mel bands.
        length: samples in a frame.
        hop: samples from one frame to the next; the first is centred on the first sample.

    Returns:
        (bands, frames), float32; a frame per `hop` samples.
    """
    frames = (len(samples) - length % 2) // hop
    # Frames of padding alone hold nothing: they are filled in, not computed.
    end = len(samples) - int(np.argmax((samples != 0)[::-1]))
    heard = min(frames, -(-(end + length // 2) // hop))
    levels = np.full((bands, frames), np.float32(1e-10))
    padded = np.pad(samples, length // 2, mode="reflect")
    filters = _slaney_filters(bands, length, sampling_rate)
    levels[:, :heard] = _energies(padded, np.hanning(length + 1)[:-1], length, hop, heard, filters)
    np.log10(np.maximum(levels, 1e-10, out=levels), out=levels)
    np.maximum(levels, levels.max() - 8, out=levels)
    levels += 4
    levels /= 4
    return levels


def kaldi_features(samples: np.ndarray, sampling_rate: int, bands: int) -> np.ndarray:
    """Kaldi's log-mel filter banks: frames of 25 ms every 10 ms, no offset, more treble, a symmetric Hann window.

    Args:
        samples: (samples,), float32; at least a frame.
        sampling_rate: samples a second.
        bands: how many mel bands.

    Returns:
        (frames, bands), float32: whole frames only.
    """
    length, hop = frame_length(sampling_rate), sampling_rate // 100
    size = 1 << (length - 1).bit_length()

    def prepared(frames: np.ndarray) -> np.ndarray:
        frames = frames - frames.mean(axis=-1, keepdims=True)
        before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=-1)
        return frames - _PREEMPHASIS * before

    count = 1 + (len(samples) - length) // hop
    filters = _kaldi_filters(bands, size, sampling_rate)
    levels = _energies(samples.astype(np.float64), np.hanning(length), size, hop, count, filters, prepared)
    return np.log(np.maximum(levels, _EPSILON, out=levels), out=levels).T


def frame_length(sampling_rate: int) -> int:
    """How many samples Kaldi's frames of 25 ms have."""
    return sampling_rate // 40


def _energies(
    samples: np.ndarray,
    window: np.ndarray,
    size: int,
    hop: int,
    count: int,
    filters: np.ndarray,
    prepared: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """The energy in each band (bands, frames) of `count` frames, each `prepared`, windowed, and filled up to `size`.

    Computed with the precision of the samples.
    """
    window = window.astype(samples.dtype)
    frames = np.lib.stride_tricks.sliding_window_view(samples, len(window))[::hop][:count]
    energies = np.empty((len(filters), count), np.float32)
    for start in range(0, count, _BLOCK):
        block = frames[start : start + _BLOCK]
        spectrum = np.fft.rfft((prepared(block) if prepared else block) * window, size)
        power = np.square(spectrum.real)
        power += np.square(spectrum.imag)
        np.matmul(filters, power.astype(np.float32, copy=False).T, out=energies[:, start : start + _BLOCK])
    return energies


@lru_cache(maxsize=8)
def _slaney_filters(bands: int, length: int, sampling_rate: int) -> np.ndarray:
    """Triangles of equal area (bands, frequencies) up to 8 kHz, on the scale of Slaney's Auditory Toolbox.

    That is linear up to 1 kHz, which is 15 mels, and logarithmic above, 27 mels for a factor of 6.4.
    """
    step = np.log(6.4) / 27
    mels = np.linspace(0, 15 + np.log(8000 / 1000) / step, bands + 2)
    edges = np.where(mels < 15, mels * (200 / 3), 1000 * np.exp(step * (mels - 15)))
    filters = _triangles(np.linspace(0, sampling_rate // 2, 1 + length // 2), edges)
    return (filters * (2 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


@lru_cache(maxsize=8)
def _kaldi_filters(bands: int, size: int, sampling_rate: int) -> np.ndarray:
    """Triangles (bands, frequencies) from 20 Hz to the highest frequency, with straight sides on the mel scale."""

    def mels(frequency: np.ndarray | float) -> np.ndarray:
        return 1127 * np.log(1 + frequency / 700)

    edges = np.linspace(mels(20), mels(sampling_rate // 2), bands + 2)
    return _triangles(mels(np.arange(1 + size // 2) * (sampling_rate / size)), edges).astype(np.float32)


def _triangles(points: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Triangles over neighbouring edges, 1 at the middle of three, evaluated at points: (edges - 2, points)."""
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.maximum(0, np.minimum((points - low) / (middle - low), (high - points) / (high - middle)))
