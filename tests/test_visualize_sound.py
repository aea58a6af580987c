"""Spectrograms, and speech drawn under them."""

import numpy as np
import pytest
from PIL import Image

from keras_models.results import SoundResult
from keras_models.visualize_sound import draw_spectrogram, draw_speech

RATE = 16000
TIME = np.arange(2 * RATE) / RATE


def brightness(picture):
    return np.asarray(picture.convert("L")).astype(int)


def test_a_tone_is_a_line_at_its_height_while_it_lasts():
    tones = {hertz: np.sin(2 * np.pi * hertz * TIME) * (TIME < 1.0) for hertz in (300.0, 3000.0)}
    rows = {}
    for hertz, samples in tones.items():
        light = brightness(draw_spectrogram(samples.astype("float32"), width=100, height=80))
        assert light.shape == (80, 100)
        rows[hertz] = light[:, :45].mean(axis=1).argmax()
        assert light[rows[hertz], :45].min() > light[:, 55:].max()  # silence is darker
    mel = {hertz: 2595 * np.log10(1 + hertz / 700) / (2595 * np.log10(1 + 8000 / 700)) for hertz in rows}
    assert all(abs(rows[hertz] - 79 * (1 - mel[hertz])) <= 2 for hertz in rows)


def test_short_and_silent_sounds():
    assert draw_spectrogram(np.ones(3, "float32")).size == (1200, 200)
    assert len(set(brightness(draw_spectrogram(np.zeros(RATE, "float32"))).flat)) == 1
    with pytest.raises(ValueError, match="shows nothing: give it a width and a height"):
        draw_spectrogram(np.ones(9, "float32"), width=0)
    with pytest.raises(ValueError, match="no samples"):
        draw_spectrogram(np.zeros(0, "float32"))


def test_words_stand_under_their_times():
    words = [{"text": " one", "timestamp": (0.5, 0.9)}, {"text": " two", "timestamp": (1.5, None)}]
    sound = {"array": np.sin(900 * TIME), "sampling_rate": RATE}
    picture = draw_speech(sound, {"text": " one two", "chunks": words}, width=800, height=100)
    below = brightness(picture)[126:129]  # the bars over the words
    dark = np.flatnonzero((below < 160).any(axis=0)) / 800 * 2
    assert dark.min() == pytest.approx(0.5, abs=0.05) and not ((dark > 1.0) & (dark < 1.45)).any()
    assert dark.max() > 1.9  # a word without an end reaches to that of the sound


def test_words_at_one_time_take_lines_of_their_own():
    def height(chunks):
        return draw_speech(np.ones(RATE, "float32"), {"text": "", "chunks": chunks}, width=400, height=50).height

    word = {"text": " everything", "timestamp": (0.2, 0.3)}
    assert height([word, word, word]) - height([word, word]) == height([word, word]) - height([word]) > 10
    assert height([{"text": " late", "timestamp": (9.0, 9.5)}]) == height([])


def test_long_sounds_have_rows_and_texts_without_times_a_paragraph():
    long = np.zeros(40 * RATE, "float32")
    rows = draw_speech(long, {"text": "", "chunks": []}, height=60)
    assert rows.size == (1200, 3 * draw_speech(long[: 10 * RATE], {"text": "", "chunks": []}, height=60).height)
    short = draw_speech(long[:RATE], {"text": "word " * 90}, height=60)
    assert short.height > draw_speech(long[:RATE], {"text": "word"}, height=60).height


def test_results_draw_themselves(tmp_path):
    result = SoundResult({"text": "a"}, source=np.zeros(RATE, "float32"))
    assert result == {"text": "a"} and result._repr_png_()[:4] == b"\x89PNG"
    result.save(tmp_path / "a.png", width=300)
    assert Image.open(tmp_path / "a.png").width == 300
