"""Feature extractors by the names transformers gives them, and `AutoFeatureExtractor`, which finds the right one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from keras_models.hub import Repository
from keras_models.preprocessing import base
from keras_models.preprocessing.audio_base import FeatureExtractor, cut, normalize
from keras_models.preprocessing.audio_files import load_audio
from keras_models.preprocessing.audio_steps import frame_length, kaldi_features, log_mel
from keras_models.preprocessing.base import BatchFeature
from keras_models.registry import ARCHITECTURES

__all__ = [
    "ASTFeatureExtractor", "AutoFeatureExtractor", "FeatureExtractor", "Wav2Vec2FeatureExtractor",
    "WhisperFeatureExtractor", "load_audio",
]  # fmt: skip


class Wav2Vec2FeatureExtractor(FeatureExtractor):
    """Wav2Vec2's: the samples themselves, with a mean of 0 and a variance of 1.

    Settings of its own: `do_normalize`. Models with group normalization (`feat_extract_norm` "group") were trained
    without attention masks, the others with; `return_attention_mask` says so.
    """

    defaults: ClassVar = FeatureExtractor.defaults | {"do_normalize": True}

    def __call__(
        self,
        raw_speech: Any,
        *,
        padding: bool | str = False,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        sampling_rate: int | None = None,
    ) -> BatchFeature:
        """Prepares one sound or several.

        Args:
            raw_speech: samples as an array, tensor or list of floats from -1 to 1 (whole numbers are scaled as in
                files), or whatever else `load_audio` reads; or several sounds: a list of these, or an array (batch,
                samples).
            padding: as all options in this place: see `pad`.
            sampling_rate: of the arrays; an error if it is not the extractor's own, a warning if it is not given.

        Returns:
            `input_values` (batch, samples), float32, or a list of arrays where lengths differ; `attention_mask` (batch,
            samples), int32, if asked for.

        Raises:
            ValueError: there is no sound, it is empty, has several channels, NaN or infinity among its samples, or
                another sampling rate; or options do not fit.
            TypeError: something is no sound.
        """
        sounds = self._sounds(raw_speech, sampling_rate)
        lengths, length = self._lengths(sounds, padding, max_length, truncation, pad_to_multiple_of)
        values = self._batch(cut(sounds, lengths), length, self.padding_value)
        masked = self.return_attention_mask if return_attention_mask is None else return_attention_mask
        if self.do_normalize:
            # Models without masks know padding as part of the sound.
            parts = self._unpadded(values, lengths) if masked or not length else values
            for part in parts:
                normalize(part)
        batch = {"input_values": values}
        if masked:
            batch["attention_mask"] = self._batch([np.ones(kept, np.int32) for kept in lengths], length, 0)
        return self._finished(batch, return_tensors)


class WhisperFeatureExtractor(FeatureExtractor):
    """Whisper's: log-mel spectrograms of 30 seconds.

    Settings of its own: `chunk_length`, those seconds; `n_fft` and `hop_length`, samples in a frame and from one to the
    next; `feature_size` is the number of mel bands, and `dither` the deviation of noise that is added to the samples,
    drawn by NumPy's global generator.
    """

    defaults: ClassVar = FeatureExtractor.defaults | {
        "feature_size": 80, "hop_length": 160, "chunk_length": 30, "n_fft": 400, "dither": 0.0,
    }  # fmt: skip
    model_input_names: ClassVar = ["input_features"]

    @classmethod
    def _completed(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        # What follows from other settings is not one; the first releases' files hold the filters too.
        derived = ("mel_filters", "n_samples", "nb_max_frames")
        return super()._completed({name: value for name, value in settings.items() if name not in derived})

    @property
    def n_samples(self) -> int:
        """Samples in a spectrogram of `chunk_length`."""
        return self.chunk_length * self.sampling_rate

    @property
    def nb_max_frames(self) -> int:
        """Frames in a spectrogram of `chunk_length`."""
        return self.n_samples // self.hop_length

    def to_dict(self) -> dict[str, Any]:
        """The contents of preprocessor_config.json, with the keys of the file it was read from that are not its own."""
        return super().to_dict() | {"n_samples": self.n_samples, "nb_max_frames": self.nb_max_frames}

    def __call__(
        self,
        raw_speech: Any,
        *,
        truncation: bool = True,
        pad_to_multiple_of: int | None = None,
        return_tensors: str | None = None,
        return_attention_mask: bool | None = None,
        padding: bool | str = "max_length",
        max_length: int | None = None,
        sampling_rate: int | None = None,
        do_normalize: bool | None = None,
        device: str | None = None,
        return_token_timestamps: bool | None = None,
    ) -> BatchFeature:
        """Prepares one sound or several; what is not explained here is in `Wav2Vec2FeatureExtractor.__call__`.

        For sounds of more than `chunk_length` seconds: `truncation=False, padding="longest",
        return_attention_mask=True`.

        Args:
            max_length: in samples; None is `chunk_length` seconds.
            do_normalize: give the samples a mean of 0 and a variance of 1 first.
            device: has no effect.
            return_token_timestamps: add `num_frames` (batch,), the frames of each sound itself.

        Returns:
            `input_features` (batch, feature_size, frames), float32; `attention_mask` (batch, frames), int32, if asked
            for.
        """
        sounds = self._sounds(raw_speech, sampling_rate)
        frames = np.asarray([len(sound) // self.hop_length for sound in sounds])
        options = (padding, self.n_samples if max_length is None else max_length, truncation, pad_to_multiple_of)
        lengths, length = self._lengths(sounds, *options)
        samples = self._batch(cut(sounds, lengths), length, self.padding_value)
        if isinstance(samples, list):
            raise ValueError("Sounds of different lengths make no batch of spectrograms: pass padding='longest'.")
        if samples.shape[1] < self.hop_length + self.n_fft % 2:
            raise ValueError(
                f"The sound has {samples.shape[1]} samples, too few for a frame ({self.hop_length}): pad it, as "
                "padding='max_length' does."
            )
        if do_normalize:
            for part in self._unpadded(samples, lengths):
                normalize(part)
        if self.dither:
            samples += self.dither * np.random.standard_normal(samples.shape).astype(np.float32)
        settings = (self.sampling_rate, self.feature_size, self.n_fft, self.hop_length)
        batch = {"input_features": np.stack([log_mel(row, *settings) for row in samples])}
        if self.return_attention_mask if return_attention_mask is None else return_attention_mask:
            mask = self._batch([np.ones(kept, np.int32) for kept in lengths], length, 0)
            batch["attention_mask"] = mask[:, :: self.hop_length][:, : batch["input_features"].shape[-1]]
        if return_token_timestamps:
            batch["num_frames"] = frames
        return self._finished(batch, return_tensors)


class ASTFeatureExtractor(FeatureExtractor):
    """AST's: Kaldi's log-mel filter banks, cut or filled up with zeros to `max_length` frames of 10 ms.

    Settings of its own: `num_mel_bins`, `max_length`, `do_normalize`, and the `mean` and `std` of AudioSet's values,
    which become 0 and 1/2.
    """

    defaults: ClassVar = FeatureExtractor.defaults | {
        "num_mel_bins": 128, "max_length": 1024, "do_normalize": True, "mean": -4.2677393, "std": 4.5689974,
    }  # fmt: skip

    def __call__(
        self,
        raw_speech: Any,
        *,
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        padding: bool | str | None = None,
        max_length: int | None = None,
        truncation: bool | None = None,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
    ) -> BatchFeature:
        """Prepares one sound or several; what is not explained here is in `Wav2Vec2FeatureExtractor.__call__`.

        Args:
            padding: has no effect, as all options from here on, which others' calls have: the setting `max_length`
                is the length of every spectrogram.

        Returns:
            `input_values` (batch, max_length, num_mel_bins), float32.

        Raises:
            ValueError: as there, or a sound is shorter than a frame of 25 ms.
        """
        sounds = self._sounds(raw_speech, sampling_rate)
        values = np.zeros((len(sounds), self.max_length, self.num_mel_bins), np.float32)
        shortest = frame_length(self.sampling_rate)
        for row, sound in zip(values, sounds, strict=True):
            if len(sound) < shortest:
                raise ValueError(
                    f"A sound has {len(sound)} samples, too few for a frame of 25 ms ({shortest}): pass a longer one."
                )
            features = kaldi_features(sound, self.sampling_rate, self.num_mel_bins)[: self.max_length]
            row[: len(features)] = features
        if self.do_normalize:
            values -= self.mean
            values /= 2 * self.std
        return self._finished({"input_values": values}, return_tensors)


# Names found in preprocessor_config.json.
CLASSES: dict[str, type[FeatureExtractor]] = {
    kind.__name__: kind for kind in (ASTFeatureExtractor, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor)
}
# config.json's model_type, for repositories whose file names no class: the architectures' own, and others'.
MODEL_TYPES: dict[str, type[FeatureExtractor]] = {
    **dict.fromkeys(
        ["data2vec-audio", "hubert", "moonshine", "sew", "sew-d", "unispeech", "unispeech-sat", "wav2vec2-conformer",
         "wavlm"],
        Wav2Vec2FeatureExtractor,
    ),
    **{kind: CLASSES[row.feature_extractor] for kind, row in ARCHITECTURES.items() if row.feature_extractor},
}  # fmt: skip


class AutoFeatureExtractor:
    """Finds the class of a feature extractor; there are no objects of this class."""

    def __init__(self):
        raise TypeError(
            "AutoFeatureExtractor makes no objects: call AutoFeatureExtractor.from_pretrained(folder or hub id)."
        )

    @staticmethod
    def from_pretrained(source: str | os.PathLike[str], **options: Any) -> FeatureExtractor:
        """Reads a feature extractor of whichever class fits from a folder or the hub.

        See `FeatureExtractor.from_pretrained`.
        """
        return FeatureExtractor.from_pretrained(source, **options)

    @staticmethod
    def register(model_type: str | type, feature_extractor_class: type[FeatureExtractor]):
        """Makes a class of one's own known, by its name and for a model type.

        Args:
            model_type: config.json's `model_type`, or a configuration class that has it.
            feature_extractor_class: a subclass of `FeatureExtractor`.
        """
        MODEL_TYPES[model_type if isinstance(model_type, str) else model_type.model_type] = feature_extractor_class
        CLASSES[feature_extractor_class.__name__] = feature_extractor_class


def choose_class(repository: Repository, stored: Mapping[str, Any], config: Any = None) -> type[FeatureExtractor]:
    """The class for the feature extractor of a repository; see `base.choose_class`."""
    name = stored.get("feature_extractor_type") or stored.get("image_processor_type")
    return base.choose_class("feature extractor", name, repository, config, CLASSES, MODEL_TYPES)
