"""Sounds as pictures: the spectrogram, and what is said in it at which time.

Sounds are whatever `load_audio` reads; times are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from keras_models.preprocessing.audio_files import load_audio
from keras_models.visualize import GREY, INK, TRACK, WHITE, font_for, heat_of, shortened

SAMPLING_RATE = 16000
WINDOW = 400  # samples of a column of the spectrogram, 25 ms
RANGE = 80.0  # decibels from the darkest to the brightest
WIDTH, HEIGHT, UNIT = 1200, 200, 16  # pixels of a row of the spectrogram, and of its letters
SECONDS = 15.0  # that a row shows at most


def draw_spectrogram(sound: Any, *, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Draws how loud each frequency is at each time: low ones at the bottom, on the mel scale up to 8 kHz.

    Args:
        sound: a path, an address, bytes, samples (samples,) at 16 kHz, or {"array", "sampling_rate"}.
        width, height: of the picture, in pixels.

    Returns:
        a new picture, in which the loudest place is the brightest and silence is dark.

    Raises:
        ValueError: the sound is empty or damaged, or the picture would be.
    """
    if width < 1 or height < 1:
        raise ValueError(f"A picture of {width} x {height} pixels shows nothing: give it a width and a height.")
    return _spectrogram(load_audio(sound, SAMPLING_RATE), width, height)


def draw_speech(sound: Any, result: Mapping[str, Any], *, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Draws the spectrogram of speech and, under the times at which they are said, its words or segments.

    Args:
        sound: see `draw_spectrogram`.
        result: what a pipeline for speech recognition returned for it, best with `return_timestamps="word"`; without
            timestamps the text stands below the spectrogram.
        width, height: of a row in pixels; a long sound has several rows.

    Returns:
        a new picture.

    Raises:
        ValueError: the sound is empty or damaged.
    """
    samples = load_audio(sound, SAMPLING_RATE)
    total = len(samples) / SAMPLING_RATE
    count = max(1, int(np.ceil(total / SECONDS)))
    seconds = total / count
    rows = []
    for number in range(count):
        start, end = number * seconds, (number + 1) * seconds
        part = samples[int(start * SAMPLING_RATE) : max(int(end * SAMPLING_RATE), int(start * SAMPLING_RATE) + 1)]
        rows.append(_row(_spectrogram(part, width, height), result.get("chunks", ()), start, end))
    if "chunks" not in result:
        rows.append(_paragraph(result["text"], width))
    sheet = Image.new("RGB", (width, sum(row.height for row in rows)), WHITE)
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def _spectrogram(samples: np.ndarray, width: int, height: int) -> Image.Image:
    """A column for each pixel of width: the power of frequencies, in decibels below the loudest."""
    starts = np.linspace(0, max(len(samples) - WINDOW, 0), width).astype(int)
    padded = np.pad(samples, (0, max(WINDOW - len(samples), 0)))
    frames = padded[starts[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, 2 * WINDOW)) ** 2  # (width, frequencies)
    mels = np.linspace(0, 2595 * np.log10(1 + SAMPLING_RATE / 2 / 700), height)
    bins = (10 ** (mels / 2595) - 1) * 700 / (SAMPLING_RATE / 2) * (power.shape[1] - 1)
    below = np.minimum(bins.astype(int), power.shape[1] - 2)
    share = bins - below
    rows = power[:, below] * (1 - share) + power[:, below + 1] * share  # (width, height)
    decibels = 10 * np.log10(np.maximum(rows, 1e-12))
    loudest = max(decibels.max(), -40.0)  # what is far below speech is not drawn as if it were loud
    return Image.fromarray(heat_of(np.clip(1 + (decibels - loudest) / RANGE, 0, 1).T[::-1]))


def _row(spectrogram: Image.Image, chunks: Any, start: float, end: float) -> Image.Image:
    """A spectrogram over a ruler of seconds over the chunks that fall into it, in as many lines as they need."""
    width, line = spectrogram.width, round(1.8 * UNIT)
    font = font_for((chunk["text"] for chunk in chunks), UNIT)
    scale = width / (end - start)
    lines: list[float] = []  # where each line of words is free from
    placed = []
    for chunk in chunks:
        first, last = chunk["timestamp"]
        first = start if first is None else first
        last = end if last is None else last
        if first >= end or last < start or (last == start and start):
            continue
        left, right = max(first - start, 0) * scale, min(last - start, end - start) * scale
        room = max(right - left, 12 * UNIT if len(chunk["text"].split()) < 2 else 0)
        words = shortened(chunk["text"], font, min(room, width) - 0.4 * UNIT)
        x = min(left, width - font.getlength(words) - 0.4 * UNIT)
        number = next((index for index, free in enumerate(lines) if free <= x), len(lines))
        lines[number : number + 1] = [max(x + font.getlength(words) + 0.5 * UNIT, right)]
        placed.append((number, left, right, x, words))
    ruler = round(1.6 * UNIT)
    sheet = Image.new("RGB", (width, spectrogram.height + ruler + len(lines) * line + UNIT // 2), WHITE)
    sheet.paste(spectrogram, (0, 0))
    pen = ImageDraw.Draw(sheet)
    _draw_ruler(pen, spectrogram.height, start, end, width)
    top = spectrogram.height + ruler
    for number, left, right, x, words in placed:
        y = top + number * line
        pen.rectangle((left, y, max(right - 2, left), y + 2), fill=GREY)
        pen.text((x, y + line / 2 + 2), words, font=font, fill=INK, anchor="lm")
    return sheet


def _draw_ruler(pen: ImageDraw.ImageDraw, top: int, start: float, end: float, width: int):
    span = end - start
    step = next((each for each in (0.1, 0.2, 0.5, 1, 2, 5) if span / each <= 16), 5)
    font = font_for("0123456789:.", round(0.75 * UNIT))
    for number in range(int(np.ceil(start / step)), int(end / step) + 1):
        second = number * step
        x = (second - start) / span * width
        words = f"{int(second) // 60}:{second % 60:0{4 if step < 1 else 2}.{1 if step < 1 else 0}f}"
        pen.line((x, top, x, top + UNIT // 4), fill=GREY)
        anchor = "lm" if x < UNIT else "rm" if x > width - 1.5 * UNIT else "mm"
        pen.text((x, top + 0.9 * UNIT), words, font=font, fill=GREY, anchor=anchor)


def _paragraph(text: str, width: int) -> Image.Image:
    """A text in lines of this width."""
    font, line = font_for([text], UNIT), round(1.5 * UNIT)
    lines, room = [""], width - 2 * UNIT
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(shortened(word, font, room))
    sheet = Image.new("RGB", (width, len(lines) * line + 2 * UNIT), WHITE)
    pen = ImageDraw.Draw(sheet)
    pen.line((0, 0, width, 0), fill=TRACK)
    for number, words in enumerate(lines):
        pen.text((UNIT, UNIT + (number + 0.5) * line), words, font=font, fill=INK, anchor="lm")
    return sheet
