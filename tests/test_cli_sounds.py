"""The command line on sounds: files, subtitles, pictures, and speech that is still being spoken."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from tests.test_cli import documents, failure, invoke, misuse, output
from tests.test_pipelines_audio import made as classifier
from tests.test_pipelines_speech import CTC_CASES, ctc_folder, sounds_of, whisper_folder


@pytest.fixture(scope="module")
def ctc():
    return ctc_folder()


@pytest.fixture
def recorded(ctc, tmp_path):
    """A file of sound, a model's folder, and what the reference hears, its words with their times."""
    soundfile.write(tmp_path / "talk.wav", sounds_of(ctc)[2], 16000, subtype="FLOAT")
    results = json.loads((ctc / "results.json").read_text())
    heard = next(found for (_, options), found in zip(CTC_CASES, results, strict=True) if "word" in options.values())
    return tmp_path / "talk.wav", ctc, heard


def test_speech_as_tables_json_and_text(recorded):
    sound, model, heard = recorded
    run = ("run", "automatic-speech-recognition", sound, "-m", model)
    assert heard["text"].replace(" ", "") in "".join(output(*run).split())  # the table folds long lines
    assert documents(*run[1:]) == [{"text": heard["text"]}]
    assert invoke(*run, "--format", "txt").stdout == heard["text"].strip() + "\n"
    table = output(*run, "-o", "return_timestamps=word")
    rows = [line.split() for line in table.splitlines()[3:] if line.strip()]
    assert [row[2] for row in rows] == [chunk["text"] for chunk in heard["chunks"]]
    starts = [chunk["timestamp"][0] for chunk in heard["chunks"]]
    np.testing.assert_allclose([float(row[0]) for row in rows], starts, atol=0.0051)  # two decimals are shown
    assert json.loads(invoke(*run, "--format", "json").stdout) == {"text": heard["text"]}


def test_subtitles(recorded, tmp_path):
    sound, model, heard = recorded
    run = ("run", "automatic-speech-recognition", sound, "-m", model)
    for kind in ("srt", "vtt"):
        printed = invoke(*run, "--format", kind).stdout
        words = [line for line in printed.split("\n") if line and "-->" not in line and line != "WEBVTT"]
        words = [line for line in words if not line.isdigit()]
        assert " ".join(words).split() == heard["text"].split() and "-->" in printed
        found = invoke(*run, "--save", tmp_path / f"new.{kind}")
        assert found.exit_code == 0 and (tmp_path / f"new.{kind}").read_text() == printed
    shutil.copy(sound, tmp_path / "more.wav")
    invoke("run", "automatic-speech-recognition", tmp_path, "-m", model, "--format", "srt", "--save", tmp_path / "all")
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["more.srt", "talk.srt"]
    invoke(*run, "--save", tmp_path / "new.png")
    assert (tmp_path / "new.png").read_bytes()[:4] == b"\x89PNG"


def test_whisper_writes_segments(shared, tmp_path):
    whisper = whisper_folder(shared)
    soundfile.write(tmp_path / "a.wav", sounds_of(whisper)[3], 16000, subtype="FLOAT")
    options = ("-o", "language=en", "-o", "num_beams=1")
    found = invoke(
        "run", "automatic-speech-recognition", tmp_path / "a.wav", "-m", whisper, "--format", "srt", *options
    )
    assert found.exit_code == 0 and "-->" in found.stdout, found.stderr


@pytest.mark.parametrize("kind", ["s16le", "f32le"])
def test_speech_from_a_pipe(ctc, kind):
    sound = sounds_of(ctc)[3]
    content = sound.astype("<f4").tobytes() if kind == "f32le" else (sound * 32767).astype("<i2").tobytes()
    run = ("run", "automatic-speech-recognition", "-m", ctc, "--live", kind, "-o", "chunk_length_s=2")
    lines = invoke(*run, input=content).stdout.splitlines()
    assert len(lines) == 4  # each but the last gives way to the next by a third
    rows = [json.loads(line) for line in invoke(*run, "--json", input=content).stdout.splitlines()]
    assert [row["text"].strip() for row in rows if not row["partial"]] == lines and any(row["partial"] for row in rows)


def test_classes(tmp_path):
    model = classifier("ast")
    soundfile.write(tmp_path / "a.flac", sounds_of(model)[1], 16000)
    (rows,) = documents("audio-classification", tmp_path / "a.flac", "-m", model, "--top-k", "3")
    assert len(rows) == 3 and rows[0]["label"] in output(
        "run", "audio-classification", tmp_path / "a.flac", "-m", model
    )
    invoke("run", "audio-classification", tmp_path, "-m", model, "--save", tmp_path / "drawn")
    assert (tmp_path / "drawn" / "a.png").exists()


def test_mistakes(ctc, tmp_path):
    run = ("run", "automatic-speech-recognition", "-m", ctc)
    assert "There is no file" in failure(*run, tmp_path / "nowhere.wav")
    (tmp_path / "a.wav").write_bytes(b"RIFF but no more")
    assert "is not a sound, or damaged" in failure(*run, tmp_path / "a.wav")
    np.save(tmp_path / "numbers.npy", np.zeros(3))
    assert "is not a sound, or damaged" in failure(*run, tmp_path / "numbers.npy")
    assert "takes no speech" in misuse("run", "sentiment-analysis", "fine", "--format", "srt")
    assert "takes no speech" in misuse("run", "sentiment-analysis", "fine", "--live", "s16le")
    assert "ends in the middle of a sample" in failure(*run, "--live", "f32le", input=b"abc")
