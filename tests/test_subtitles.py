"""Transcripts as subtitles, text and JSON."""

import json

import pytest

from keras_models.results import SoundResult
from keras_models.subtitles import to_cues, write

SEGMENTS = {
    "text": " Ask not. What your country can do for you, ask what you can do for your country.",
    "chunks": [
        {"text": " Ask not.", "timestamp": (0.0, 1.5)},
        {"text": " What your country can do for you, ask what you can do for your country.", "timestamp": (1.5, None)},
    ],
}
WORDS = {
    "text": "ONE TWO THREE",
    "chunks": [
        {"text": "ONE", "timestamp": (0.25, 0.5)},
        {"text": "TWO", "timestamp": (0.75, 1.0)},
        {"text": "THREE", "timestamp": (3600.0, 3661.0625)},
    ],
}


def test_segments_are_cues():
    lines = write(SEGMENTS, "srt").split("\n")
    assert lines[:4] == ["1", "00:00:00,000 --> 00:00:01,500", "Ask not.", ""]
    assert lines[4:6] == ["2", "00:00:01,500 --> 00:00:03,500"]  # two seconds where the end is not known
    assert " ".join(lines[6:8]) == "What your country can do for you, ask what you can do for your country."
    assert max(map(len, lines)) <= 42 and lines[-1] == ""


def test_words_are_joined_until_a_pause():
    assert [tuple(cue) for cue in to_cues(WORDS)] == [(0.25, 1.0, "ONE TWO"), (3600.0, 3661.0625, "THREE")]
    assert write(WORDS, "vtt") == (
        "WEBVTT\n\n00:00:00.250 --> 00:00:01.000\nONE TWO\n\n01:00:00.000 --> 01:01:01.062\nTHREE\n"
    )


def test_words_that_bring_their_spaces_and_sentences():
    words = [" So", " it", " is.", " Yes"]
    result = {
        "text": "".join(words),
        "chunks": [{"text": text, "timestamp": (number / 2, number / 2 + 0.4)} for number, text in enumerate(words)],
    }
    assert [cue.text for cue in to_cues(result)] == ["So it is.", "Yes"]
    japanese = {"text": "東京へ", "chunks": [{"text": each, "timestamp": (0.0, 0.1)} for each in "東京へ"]}
    assert [cue.text for cue in to_cues(japanese)] == ["東京へ"]


def test_long_stretches_are_cut():
    chunks = [{"text": f" word{number}", "timestamp": (number * 0.3, number * 0.3 + 0.2)} for number in range(100)]
    cues = list(to_cues({"text": "".join(each["text"] for each in chunks), "chunks": chunks}))
    assert len(cues) > 4 and all(cue.end - cue.start <= 6 and len(cue.text) <= 84 for cue in cues)
    assert " ".join(cue.text for cue in cues).split() == [f"word{number}" for number in range(100)]


def test_unknown_starts_and_ends():
    chunks = [{"text": " a.", "timestamp": (None, None)}, {"text": " b.", "timestamp": (4.0, 3.0)}]
    cues = list(to_cues({"text": " a. b.", "chunks": chunks}))
    assert [tuple(cue) for cue in cues] == [(0.0, 4.0, "a."), (4.0, 4.0, "b.")]
    assert write({"text": "", "chunks": []}, "srt") == "" and write({"text": "", "chunks": []}, "vtt") == "WEBVTT\n"


def test_text_and_json():
    assert write(WORDS, "txt") == "ONE TWO THREE\n"
    assert json.loads(write(WORDS, "json"))["chunks"][0] == {"text": "ONE", "timestamp": [0.25, 0.5]}


def test_saving(tmp_path):
    result = SoundResult(WORDS, source=None)
    for kind in ("srt", "vtt", "txt", "json"):
        result.save(tmp_path / f"a.{kind}")
        assert (tmp_path / f"a.{kind}").read_text() == write(WORDS, kind)


def test_errors():
    with pytest.raises(ValueError, match="There is no format 'doc' for transcripts: use one of srt, vtt, txt, json"):
        write(WORDS, "doc")
    with pytest.raises(ValueError, match="A .srt file needs timestamps: call the pipeline with return_timestamps=True"):
        write({"text": "a"}, "srt")
