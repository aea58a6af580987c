"""Sounds read from whatever holds one, and what is said of what does not."""

import base64
import io
import sys
import threading
import wave
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import av
import numpy as np
import pytest
import soundfile

from keras_models.preprocessing.audio import load_audio
from tests.reference import feature_extractors as probe

RATE = 16000
SOUND = np.round(probe.sound({"length": 8000}) * 32768).clip(-32768, 32767).astype("int16") / np.float32(32768)
STEREO = np.stack([SOUND, SOUND[::-1] / 2], axis=1)


def encoded(samples=SOUND, rate=RATE, kind="WAV", **options) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, **options)
    return file.getvalue()


def muxed(container: str, codec: str, rate: int = 48000, video: bool = False, sound: bool = True) -> bytes:
    """A second of a tone of 440 Hz by FFmpeg's encoders, perhaps with pictures."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        if video:
            stream = output.add_stream("mpeg4", rate=10, width=32, height=32, pix_fmt="yuv420p")
            frames = [
                av.VideoFrame.from_ndarray(np.full((32, 32, 3), 9 * i, "uint8"), format="rgb24") for i in range(9)
            ]
            packets = [packet for frame in frames for packet in stream.encode(frame)] + stream.encode(None)
        if sound:
            tone = np.repeat(np.sin(2 * np.pi * 440 * np.arange(rate, dtype="f") / rate)[None] * 0.5, 2, axis=0)
            voice = output.add_stream(codec, rate=rate, layout="stereo")
            frame = av.AudioFrame.from_ndarray(tone.astype("f"), format="fltp", layout="stereo")
            frame.sample_rate = rate
            output.mux(voice.encode(frame) + voice.encode(None))
        if video:
            output.mux(packets)
    return file.getvalue()


@contextmanager
def serving(content: bytes, status: int = 200):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/a%20sound.wav?size=1"
    finally:
        server.shutdown()
        server.server_close()


def check(samples, expected=SOUND, atol=0.0):
    assert samples.dtype == np.float32 and samples.ndim == 1
    np.testing.assert_allclose(samples, expected, atol=atol, rtol=0)


def check_tone(samples, pitch=440):
    """That samples at RATE are mostly a tone."""
    assert samples.dtype == np.float32 and 0.98 * RATE < len(samples) < 1.1 * RATE
    spectrum = np.abs(np.fft.rfft(samples[2000:14000]))
    assert abs(np.argmax(spectrum) * RATE / 12000 - pitch) < 2
    assert 0.45 < samples[2000:14000].max() < 0.55


def test_every_source(tmp_path, monkeypatch):
    content = encoded()
    path = tmp_path / "a sound.wav"
    path.write_bytes(content)
    text = base64.b64encode(content).decode()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    whole = (SOUND * 32768).astype("int16")
    for source in (
        path, str(path), "a sound.wav", "~/a sound.wav", content, bytearray(content), memoryview(content),
        io.BytesIO(content), f"data:audio/wav;base64,{text}", SOUND, SOUND.tolist(), SOUND.astype("float64"),
        SOUND[None], SOUND[:, None], whole, {"array": SOUND, "sampling_rate": RATE, "path": None},
        {"raw": whole, "sampling_rate": float(RATE)},
    ):  # fmt: skip
        check(load_audio(source))
    with path.open("rb") as file:
        check(load_audio(file))
    with serving(content) as address:
        check(load_audio(address))


@pytest.mark.parametrize(("kind", "subtype", "atol"), [
    ("WAV", "PCM_U8", 1 / 128), ("WAV", "PCM_16", 0), ("WAV", "PCM_24", 0), ("WAV", "PCM_32", 0), ("WAV", "FLOAT", 0),
    ("WAV", "DOUBLE", 0), ("WAV", "ULAW", 0.02), ("FLAC", "PCM_16", 0), ("FLAC", "PCM_24", 0), ("AIFF", "PCM_16", 0),
    ("AU", "PCM_16", 0), ("CAF", "PCM_16", 0), ("OGG", "VORBIS", 0.1), ("OGG", "OPUS", 0.1),
    ("MP3", "MPEG_LAYER_III", 0.1),
])  # fmt: skip
def test_formats(kind, subtype, atol):
    samples = load_audio(encoded(kind=kind, subtype=subtype))
    check(samples[: len(SOUND)], atol=atol)
    assert len(samples) < len(SOUND) + 2000  # MP3 fills its last frame


@pytest.mark.parametrize(("container", "codec", "video"), [
    ("mp4", "aac", False), ("mp4", "aac", True), ("webm", "libopus", False), ("matroska", "ac3", True),
    ("mpegts", "mp2", True),
])  # fmt: skip
def test_formats_of_ffmpeg(tmp_path, container, codec, video):
    content = muxed(container, codec, video=video)
    check_tone(load_audio(content))
    (tmp_path / "sound").write_bytes(content)
    check(load_audio(tmp_path / "sound"), load_audio(content))


def test_a_file_that_the_standard_library_wrote(tmp_path):
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setparams((2, 2, RATE, 0, "NONE", None))
        file.writeframes((STEREO * 32768).astype("<i2").tobytes())
    check(load_audio(tmp_path / "sound.wav"), STEREO.mean(axis=1), atol=1 / 32768)


def test_channels_are_mixed_down():
    check(load_audio(encoded(STEREO, subtype="FLOAT")), STEREO.mean(axis=1), atol=1e-7)
    six = np.stack([SOUND, *[np.zeros_like(SOUND)] * 5], axis=1)
    check(load_audio(encoded(six, subtype="FLOAT")), SOUND / 6, atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 192000])
def test_resampling(rate):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype("f")
    samples = load_audio(encoded(tone, rate, subtype="FLOAT"))
    assert len(samples) == RATE
    check_tone(samples)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    np.testing.assert_allclose(samples[500:-500], expected[500:-500], atol=1e-3)
    check(load_audio({"array": tone, "sampling_rate": rate}), samples)
    assert len(load_audio(encoded(), sampling_rate=rate)) == rate // 2 + (rate % 2)


def test_speech(shared):
    folder = shared / "data" / "audio"
    samples = load_audio(folder / "librispeech_1272-141231-0002.wav")
    check(samples, probe.sound("librispeech_1272-141231-0002.wav"))
    # Two conversions of one recording to 16 bits.
    check(load_audio(folder / "librispeech_1272-141231-0002.flac"), samples, atol=3e-4)
    assert load_audio(folder / "jfk.flac").shape == (176000,)


FLAC, WAV = encoded(np.tile(SOUND, 4), kind="FLAC"), encoded()
NAN = SOUND.copy()
NAN[23] = np.nan
BAD = {
    "missing": ("missing.wav", FileNotFoundError, "no file 'missing.wav'"),
    "long name": ("x/" * 3000, FileNotFoundError, "no file"),
    "a zero": ("a\0b", FileNotFoundError, "no file"),
    "no sound": (b"no sound", ValueError, "8 bytes hold is not a sound"),
    "no bytes": (b"", ValueError, "empty"),
    "a head alone": (WAV[:20], ValueError, "not a sound, or damaged"),
    "a file of no samples": (WAV[:44], ValueError, "no samples"),
    "half a FLAC": (FLAC[: len(FLAC) // 2], ValueError, "damaged sound"),
    "a hole in a FLAC": (FLAC[:5000] + b"?" * 5000 + FLAC[10000:], ValueError, "damaged sound"),
    "pictures alone": (muxed("mp4", "aac", video=True, sound=False), ValueError, "no sound in it"),
    "NaN in a file": (encoded(NAN, subtype="FLOAT"), ValueError, "nan as its sample 23"),
    "data": ("data:audio/wav;base64,", ValueError, "no data"),
    "data of none": ("data:audio/wav;base64,aGVsbG8=", ValueError, "not a sound"),
    "text": (io.StringIO("text"), TypeError, "mode 'rb'"),
    "stereo": (STEREO, ValueError, r"\(8000, 2\).*array\.mean\(axis=1\)"),
    "stereo, channels first": (STEREO.T, ValueError, r"\(2, 8000\).*array\.mean\(axis=0\)"),
    "NaN": (NAN, ValueError, "The sound has nan as its sample 23"),
    "no samples": (np.zeros(0), ValueError, "no samples"),
    "a number": (5, TypeError, "int"),
    "None": (None, TypeError, "NoneType"),
    "an empty dictionary": ({}, ValueError, "none"),
    "a dictionary of others": ({"array": SOUND, "rate": 1}, ValueError, "'array', 'rate'"),
    "a rate of 0": ({"array": SOUND, "sampling_rate": 0}, ValueError, "sampling_rate is 0"),
    "stereo in a dictionary": ({"raw": STEREO, "sampling_rate": 5}, ValueError, "'raw' has the shape"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said(case):
    source, error, words = BAD[case]
    with pytest.raises(error, match=words) as caught:
        load_audio(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", [0, -1, 16000.5, None, True])
def test_bad_rates(rate):
    with pytest.raises(ValueError, match=f"sampling_rate is {rate}"):
        load_audio(SOUND, sampling_rate=rate)


def test_bad_files(tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(ValueError, match=r"text\.wav.*not a sound"):
        load_audio(tmp_path / "text.wav")
    (tmp_path / "empty.wav").touch()
    with pytest.raises(ValueError, match=r"empty\.wav.*empty"):
        load_audio(tmp_path / "empty.wav")
    with pytest.raises(ValueError, match="folder"):
        load_audio(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.wav"):
        load_audio(tmp_path / "none.wav")


def test_bad_addresses():
    with serving(b"gone", 404) as address, pytest.raises(OSError, match=r"Cannot get http://.*404"):
        load_audio(address)
    with serving(b"<html>") as address, pytest.raises(ValueError, match="not a sound"):
        load_audio(address)
    with pytest.raises(OSError, match="Cannot get"):
        load_audio("http://127.0.0.1:1/sound.wav")


@pytest.mark.parametrize(("name", "source"), [
    ("soundfile", encoded()), ("soxr", encoded(rate=8000)), ("av", muxed("mp4", "aac")),
])  # fmt: skip
def test_missing_packages(monkeypatch, name, source):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"needs {name}: .*pip install -e '\.\[audio\]'"):
        load_audio(source)
    check(load_audio(SOUND))
