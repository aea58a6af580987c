"""Feature extraction: the hidden states that a model computes for a text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras_models.pipelines.base import Pipeline, Row
from keras_models.preprocessing.batch_encoding import tensor_kind


class FeatureExtractionPipeline(Pipeline):
    """Gives the first output of a model, for a bare model its last hidden states.

    Options:
        truncation: cut texts that are too long.
        tokenize_kwargs: further options of the tokenizer.
        return_tensors: True for a tensor of the active backend, or "np", "jax", "pt" or "tf"; lists by default.

    Returns nested lists (1, tokens, size), special tokens included, or a tensor of this shape.
    """

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        if isinstance(options.get("return_tensors"), str):
            options["return_tensors"] = tensor_kind(options["return_tensors"])
        return options

    def preprocess(
        self, item: str, *, truncation: bool | str | None = None, tokenize_kwargs: dict[str, Any] | None = None
    ) -> Iterator[Row]:
        options = dict(tokenize_kwargs or {})
        if truncation is not None:
            if "truncation" in options:
                raise ValueError("truncation is given twice: pass it either by itself or inside tokenize_kwargs.")
            options["truncation"] = truncation
        yield self.row(self.encode(item, **options))

    def postprocess(self, item: str, rows: list[Row], *, return_tensors: bool | str | None = None) -> Any:
        features = next(iter(rows[0].outputs.values()))
        if features.ndim == 2:
            features = features[: rows[0].length]  # without the padding of its batch
        if not return_tensors:
            return [features.tolist()]
        from keras_models.runtime.interop import to_framework

        return to_framework(features[None], "keras" if return_tensors is True else return_tensors)
