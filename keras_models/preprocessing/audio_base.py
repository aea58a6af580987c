"""What feature extractors have in common: settings, checks of sounds, padding."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from keras_models.hub import Repository
from keras_models.preprocessing.audio_files import as_samples, as_sounds, load_audio
from keras_models.preprocessing.base import BatchFeature, Preprocessor
from keras_models.preprocessing.image_files import to_numpy

_COUNTS = ("feature_size", "sampling_rate", "hop_length", "chunk_length", "n_fft", "num_mel_bins", "max_length")
_STRATEGIES = {True: "longest", "longest": "longest", "max_length": "max_length", False: None, "do_not_pad": None}
_SIDES = ("right", "left")
_SOURCES = (str, os.PathLike, bytes, bytearray, memoryview, Mapping)  # what load_audio reads, beside arrays and files


class FeatureExtractor(Preprocessor):
    """Turns sound into model inputs.

    `AutoFeatureExtractor.from_pretrained` (or this class's own) reads one from a folder or the hub. The settings are
    those of preprocessor_config.json under the same names, and are attributes of the extractor.

    Args:
        **settings: `sampling_rate`, `feature_size`, `padding_value`, `padding_side`, `return_attention_mask`, and what
            a subclass adds. Settings that the class does not know are kept and saved.

    Raises:
        ValueError: a setting has a value that makes no sense.
    """

    kind: ClassVar = "feature_extractor"
    defaults: ClassVar[dict[str, Any]] = {
        "feature_size": 1, "sampling_rate": 16000, "padding_value": 0.0, "padding_side": "right",
        "return_attention_mask": False,
    }  # fmt: skip
    model_input_names: ClassVar[list[str]] = ["input_values", "attention_mask"]

    @classmethod
    def _completed(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        values = super()._completed(settings)
        for name in _COUNTS:
            value = values[name] if name in cls.defaults else 1
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value <= 0:
                raise ValueError(f"{name} is {value!r}: give a whole number above 0.")
        if values["padding_side"] not in _SIDES:
            raise ValueError(f"padding_side is {values['padding_side']!r}: give one of {', '.join(map(repr, _SIDES))}.")
        return values

    @classmethod
    def _chosen(cls, repository: Repository, stored: Mapping[str, Any], config: Any) -> type[FeatureExtractor]:
        from keras_models.preprocessing.audio import choose_class  # which knows the subclasses

        return cls if cls is not FeatureExtractor else choose_class(repository, stored, config)

    def pad(
        self,
        processed_features: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        padding: bool | str = True,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Makes a batch of inputs of different lengths.

        Args:
            processed_features: a list of examples, or the examples' values by name: sequences (length,), or (length,
                features), under the first of `model_input_names`, and perhaps an `attention_mask`.
            padding: True or "longest" to the longest of them, "max_length" to that length, False not at all.
            max_length: the length for "max_length" and for truncation.
            truncation: whether to cut off what is beyond `max_length`.
            pad_to_multiple_of: round the length up to a multiple of this.
            return_attention_mask: add `attention_mask` (batch, length), int32, 1 where there is input; None does as the
                setting says.
            return_tensors: "np" (as is None), "jax", "pt", "tf", or "keras" for the active backend.

        Returns:
            The batch; lists of arrays where lengths differ.

        Raises:
            ValueError: the input or a length is missing, or lengths differ where tensors are asked for.
        """
        name = self.model_input_names[0]
        if not isinstance(processed_features, Mapping):
            examples = list(processed_features)
            names = examples[0] if examples else ()
            processed_features = {each: [example[each] for example in examples] for each in names}
        if not len(processed_features.get(name, ())):
            raise ValueError(f"There is no {name!r} to pad among {list(processed_features)}: pass at least one.")
        values = {each: [to_numpy(value) for value in given] for each, given in processed_features.items()}
        if values[name][0].ndim == 0:  # one example
            values = {each: [np.asarray(value)] for each, value in values.items()}
        sequences = [each.astype(np.float32) if each.dtype == np.float64 else each for each in values.pop(name)]
        masks = values.pop("attention_mask", None) or [np.ones(len(each), np.int32) for each in sequences]
        lengths, length = self._lengths(sequences, padding, max_length, truncation, pad_to_multiple_of)
        batch = {each: _unite(value) for each, value in values.items()}
        batch[name] = self._batch(cut(sequences, lengths), length, self.padding_value)
        if self.return_attention_mask if return_attention_mask is None else return_attention_mask:
            batch["attention_mask"] = self._batch(cut(masks, lengths), length, 0)
        return self._finished(batch, return_tensors)

    def _sounds(self, raw_speech: Any, sampling_rate: int | None) -> list[np.ndarray]:
        """Sounds as arrays (samples,), float32, after the checks that all extractors make.

        Args:
            raw_speech: one sound or several, see `__call__`.
            sampling_rate: that of the arrays among them.
        """
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise ValueError(
                f"The sound has a sampling_rate of {sampling_rate} and {type(self).__name__} needs "
                f"{self.sampling_rate}: resample it, as load_audio(path, sampling_rate={self.sampling_rate}) does with "
                "files, and with an array as {'array': ..., 'sampling_rate': " + f"{sampling_rate}}}."
            )
        sounds = as_sounds(raw_speech)
        named = [
            (sound, f"raw_speech[{index}]" if len(sounds) > 1 else "raw_speech") for index, sound in enumerate(sounds)
        ]
        arrays, unsure = [], False
        for sound, name in named:
            if isinstance(sound, _SOURCES) or hasattr(sound, "read"):
                arrays.append(load_audio(sound, self.sampling_rate))
            else:
                arrays.append(as_samples(sound, name))
                unsure = sampling_rate is None
        if unsure:
            warnings.warn(
                f"{type(self).__name__} takes the sound to have {self.sampling_rate} samples a second: pass its "
                "sampling_rate, so that another one is noticed.",
                stacklevel=3,
            )
        return arrays

    @staticmethod
    def _lengths(
        sequences: Sequence[np.ndarray],
        padding: bool | str,
        max_length: int | None,
        truncation: bool,
        multiple: int | None,
    ) -> tuple[list[int], int]:
        """How much to keep of each sequence, and the length to fill it up to, which is 0 for none."""
        if padding not in _STRATEGIES:
            known = ", ".join(map(repr, _STRATEGIES))
            raise ValueError(f"padding is {padding!r}: give one of {known}.")
        for name, number in (("max_length", max_length), ("pad_to_multiple_of", multiple)):
            if number is not None and number <= 0:
                raise ValueError(f"{name} is {number!r}: give a whole number above 0.")
        strategy = _STRATEGIES[padding]
        if max_length is None and (truncation or strategy == "max_length"):
            asked = "truncation=True" if truncation else "padding='max_length'"
            raise ValueError(f"{asked} needs a length: pass max_length, in samples.")
        kept = [len(each) for each in sequences]
        if truncation:
            limit = _rounded(max_length, multiple)
            kept = [min(length, limit) for length in kept]
        length = {"longest": max(kept), "max_length": max_length, None: 0}[strategy]
        return kept, _rounded(length, multiple)

    def _batch(self, sequences: Sequence[np.ndarray], length: int, value: float) -> np.ndarray | list[np.ndarray]:
        """Sequences filled up to a length with a value: an array, or a list where some are longer still."""
        longest = max(length, *map(len, sequences))
        if any(len(each) != longest for each in sequences) and longest > length:
            return [self._batch([each], length, value)[0] for each in sequences]
        batch = np.full((len(sequences), longest, *sequences[0].shape[1:]), value, np.result_type(*sequences))
        for part, sequence in zip(self._unpadded(batch, list(map(len, sequences))), sequences, strict=True):
            part[:] = sequence
        return batch

    def _unpadded(self, rows: Sequence[np.ndarray], lengths: Sequence[int]) -> list[np.ndarray]:
        """Views of what is not padding in the rows of a batch."""
        left = self.padding_side == "left"
        return [row[len(row) - kept if left else 0 :][:kept] for row, kept in zip(rows, lengths, strict=True)]

    def _finished(self, batch: dict[str, Any], return_tensors: str | None) -> BatchFeature:
        """What a call returns."""
        name = self.model_input_names[0]
        if return_tensors not in (None, "np", "numpy") and isinstance(batch[name], list):
            raise ValueError(
                f"{name} has different lengths ({', '.join(str(len(each)) for each in batch[name][:8])} ...), which "
                "make no tensor: pass padding=True, or sounds one by one."
            )
        return BatchFeature(batch).to_tensors(return_tensors)


def normalize(samples: np.ndarray):
    """Gives samples a mean of 0 and a variance of 1, in place; silence stays silent."""
    samples -= samples.mean()
    samples /= np.sqrt(np.square(samples).mean() + np.float32(1e-7))


def cut(sequences: Sequence[np.ndarray], lengths: Sequence[int]) -> list[np.ndarray]:
    """The first values of each sequence, as many as its length says."""
    return [each[:length] for each, length in zip(sequences, lengths, strict=True)]


def _unite(values: list[np.ndarray]) -> np.ndarray | list[np.ndarray]:
    return np.stack(values) if len({each.shape for each in values}) == 1 else values


def _rounded(length: int, multiple: int | None) -> int:
    return -(-length // multiple) * multiple if multiple else length
