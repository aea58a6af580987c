"""Pipelines that take a sound: what they share, and the classes of sounds."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_models.pipelines.base import Pipeline, Row, classes_of, is_collection, one_of, positive, scores_of
from keras_models.preprocessing.audio import load_audio
from keras_models.results import SoundResults

_FUNCTIONS = ("softmax", "sigmoid", "none")


class AudioPipeline(Pipeline):
    """Base of those that take sounds: paths, addresses, binary files or their bytes, arrays (samples,), or
    dictionaries.

    A dictionary is {"array" or "raw": samples, "sampling_rate": in Hz}, and is resampled as files are; an array alone
    has the sampling rate of the feature extractor. Sounds of one length share batches; those of other lengths go alone,
    so that a batch never changes results.
    """

    parts = ("feature_extractor",)
    takes = 'a sound: a path, an address, bytes, an array (samples,) or {"array": ..., "sampling_rate": ...}'

    @property
    def sampling_rate(self) -> int:
        """Samples a second that the model takes."""
        return self.feature_extractor.sampling_rate

    def are_many(self, inputs: Any) -> bool:
        is_array = hasattr(inputs, "shape") and hasattr(inputs, "dtype")
        is_file = hasattr(inputs, "read") and not isinstance(inputs, io.TextIOBase)  # lines of text may be paths
        if is_array or is_file or isinstance(inputs, (bytearray, memoryview)):
            return False
        return is_collection(inputs)

    def normalize(self, item: Any, where: str) -> Any:
        if item is None or isinstance(item, (list, tuple, bool, int, float)):
            raise TypeError(f"{where} must be {self.takes} for {self.task}, not {type(item).__name__}.")
        if isinstance(item, Mapping) and not ("sampling_rate" in item and {"array", "raw"} & set(item)):
            raise ValueError(
                f"{where} is a dictionary of {', '.join(map(repr, item)) or 'nothing'}: it needs 'array' (or 'raw'), "
                "the samples, and 'sampling_rate', in Hz."
            )
        return item

    def read(self, item: Any) -> np.ndarray:
        """The samples of a sound at the model's sampling rate: (samples,)."""
        return load_audio(item, sampling_rate=self.sampling_rate)

    def sound_row(self, samples: np.ndarray, facts: Any = None, **settings: Any) -> Row:
        """The row of a sound."""
        features = self.feature_extractor(samples, sampling_rate=self.sampling_rate, return_tensors="np", **settings)
        return Row({name: value[0] for name, value in features.items()}, facts)

    def forward(self, rows: list[Row]):
        """Runs rows of one length at a time through the model."""
        groups = defaultdict(list)
        for row in rows:
            groups[tuple(value.shape for value in row.inputs.values())].append(row)
        for same in groups.values():
            super().forward(same)

    def _collate(self, rows: list[dict[str, Any]], left: bool = False) -> dict[str, np.ndarray]:
        names = [
            name for name in rows[0] if name in self._input_names and name != "attention_mask"
        ]  # which is all ones
        return {name: np.stack([row[name] for row in rows]) for name in names}

    def _check_length(self, rows: list[Row], where: str):
        """The model's own message tells of sounds that are too short or too long."""


class AudioClassificationPipeline(AudioPipeline):
    """Names what a sound is.

    Options:
        top_k: how many classes to return, best first; 5 by default, None for all.
        function_to_apply: "softmax" (the default), "sigmoid" or "none", from logits to scores.

    Returns a list of {"score", "label"}, which shows itself in notebooks.
    """

    heads = ("audio-classification",)

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        if options.get("top_k") is not None:
            positive("top_k", options["top_k"])
        if options.get("function_to_apply") is not None:
            options["function_to_apply"] = one_of("function_to_apply", options["function_to_apply"], _FUNCTIONS)
        return options

    def preprocess(self, item: Any) -> Iterator[Row]:
        yield self.sound_row(self.read(item))

    def postprocess(
        self, item: Any, rows: list[Row], *, top_k: int | None = 5, function_to_apply: str | None = None
    ) -> SoundResults:
        scores = scores_of(rows[0].outputs["logits"], function_to_apply or "softmax")
        return SoundResults(classes_of(scores, self.model.config.id2label, top_k), source=item)
