"""Sound as it comes: chunks with context at their ends."""

import io

import numpy as np
import pytest

from keras_models.preprocessing import audio_stream
from keras_models.preprocessing.audio_stream import microphone, pcm_chunks, sound_chunks

SAMPLES = (np.random.default_rng(0).normal(size=2750) * 3000).astype("<i2")
RATE = 100  # samples a second, so that seconds are round numbers


def kept(chunks):
    """The middles of whole chunks, which are what was not told before."""
    return np.concatenate([c["raw"][c["stride"][0] : len(c["raw"]) - c["stride"][1]] for c in chunks])


def test_chunks_cover_the_sound_once():
    chunks = list(pcm_chunks(io.BytesIO(SAMPLES.tobytes()), RATE, 6.0))
    assert [c["stride"] for c in chunks[:2]] == [(0, 100), (100, 100)] and chunks[-1]["stride"][1] == 0
    assert not any(c["partial"] for c in chunks) and all(c["sampling_rate"] == RATE for c in chunks)
    np.testing.assert_array_equal(kept(chunks), SAMPLES.astype("float32") / 32768)
    assert {len(c["raw"]) for c in chunks[:-1]} == {600}


def test_floats_and_odd_reads():
    class Slow(io.BytesIO):
        def read1(self, size=-1):
            return super().read1(min(size, 7))

    samples = SAMPLES.astype("<f4")
    chunks = list(pcm_chunks(Slow(samples.tobytes()), RATE, 3.0, stride_length_s=(0.5, 0.25), format="f32le"))
    np.testing.assert_array_equal(kept(chunks), samples)


def test_partial_chunks():
    chunks = list(pcm_chunks(io.BytesIO(SAMPLES[:900].tobytes()), RATE, 6.0, stream_chunk_s=2.0))
    partial = [c for c in chunks if c["partial"]]
    assert [len(c["raw"]) for c in partial] == [200, 400, 400]
    np.testing.assert_array_equal(kept(c for c in chunks if not c["partial"]), SAMPLES[:900].astype("float32") / 32768)


def test_nothing_comes_of_nothing():
    assert list(sound_chunks([], RATE, 1.0)) == []
    assert list(pcm_chunks(io.BytesIO(b""), RATE, 1.0)) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "u8"}, "no format 'u8' of samples: use one of s16le, f32le"),
        ({"stride_length_s": 0.5}, "contexts must leave something of a chunk"),
        ({"stream_chunk_s": 2.0}, "stream_chunk_s must be positive and not above it"),
        ({"format": "f32le"}, "ends in the middle of a sample: is it f32le, or rather s16le?"),
    ],
)
def test_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        list(pcm_chunks(io.BytesIO(SAMPLES[:111].tobytes()), RATE, 1.0, **settings))


def test_microphone(tmp_path, monkeypatch):
    """A file stands in for the device: what is decoded and resampled is the same."""
    import av
    import soundfile

    soundfile.write(tmp_path / "a.wav", np.stack([SAMPLES, SAMPLES], axis=1), 8000)
    opened = av.open
    monkeypatch.setattr(av, "open", lambda device, format: opened(str(tmp_path / device)))
    chunks = list(microphone(8000, 0.2, device="a.wav"))
    np.testing.assert_allclose(kept(chunks), SAMPLES.astype("float32") / 32768, atol=1e-4)


def test_a_device_that_is_not_there():
    with pytest.raises(OSError):
        list(microphone(16000, 1.0, device="/no/such/device"))


def test_microphone_needs_a_package(monkeypatch):
    def missing(name, purpose):
        raise ImportError(f"{purpose} needs {name}")

    monkeypatch.setattr(audio_stream, "package", missing)
    with pytest.raises(ImportError, match="Listening to a microphone needs av"):
        list(microphone(16000, 1.0))
