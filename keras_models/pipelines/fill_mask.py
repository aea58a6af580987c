"""Fill-mask: words for the gaps in a text."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_models.pipelines.base import Pipeline, Row, positive, softmax


class FillMaskPipeline(Pipeline):
    """Fills the masks in a text, each on its own.

    Options:
        top_k: how many tokens to return for a mask, best first; 5 by default.
        targets: the words to choose from; of one that is no token of its own, the first piece counts.
        tokenizer_kwargs: options of the tokenizer, such as {"truncation": True}.

    Returns a list of {"score", "token", "token_str", "sequence"} for a text, or for one with several masks a list of
    such lists. A list of one text gives what the text alone would.
    """

    heads = ("masked-lm",)
    takes = "a string with a mask"
    shorten = 'pass tokenizer_kwargs={"truncation": True} to cut it'

    def __call__(self, inputs: Any, **options: Any) -> Any:
        results = super().__call__(inputs, **options)
        return results[0] if isinstance(inputs, list) and len(inputs) == 1 else results

    def rename(self, options: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in options.items() if value is not None}

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        if self.tokenizer.mask_token_id is None:
            raise ValueError("fill-mask needs a tokenizer with a mask token: set tokenizer.mask_token.")
        if "top_k" in options:
            positive("top_k", options["top_k"])
        if "targets" in options:
            targets = options["targets"]
            options["targets"] = self._target_ids([targets] if isinstance(targets, str) else targets)
        return options

    def preprocess(self, item: str, *, tokenizer_kwargs: dict[str, Any] | None = None) -> Iterator[Row]:
        row = self.row(self.encode(item, **(tokenizer_kwargs or {})))
        if self.tokenizer.mask_token_id not in row.inputs["input_ids"]:
            raise ValueError(
                f"There is no {self.tokenizer.mask_token} to fill in {item[:80]!r}: put one where a word is missing."
            )
        yield row

    def postprocess(
        self, item: str, rows: list[Row], *, top_k: int = 5, targets: list[int] | None = None
    ) -> list[dict[str, Any]] | list[list[dict[str, Any]]]:
        ids = np.array(rows[0].inputs["input_ids"])
        masks = np.flatnonzero(ids == self.tokenizer.mask_token_id)
        scores = softmax(rows[0].outputs["logits"][masks])  # (masks, vocabulary)
        choices = np.arange(scores.shape[1]) if targets is None else np.array(targets)
        results = []
        for mask, chances in zip(masks, scores[:, choices], strict=True):
            best = np.argsort(-chances, kind="stable")[:top_k]
            results.append([self._filled(ids, mask, choices[i], chances[i], len(masks) == 1) for i in best])
        return results[0] if len(results) == 1 else results

    def _filled(self, ids: np.ndarray, mask: int, token: int, score: float, alone: bool) -> dict[str, Any]:
        filled = ids.copy()
        filled[mask] = token
        filled = filled[filled != self.tokenizer.pad_token_id]
        # Where there are other masks, they and with them all special tokens stay visible.
        text = self.tokenizer.decode(filled, skip_special_tokens=alone)
        text_of_token = self.tokenizer.decode([int(token)])
        return {"score": float(score), "token": int(token), "token_str": text_of_token, "sequence": text}

    def _target_ids(self, targets: list[str]) -> list[int]:
        vocabulary, found = self.tokenizer.get_vocab(), []
        for target in targets:
            ids = (
                [vocabulary[target]]
                if target in vocabulary
                else self.tokenizer.encode(target, add_special_tokens=False)
            )
            if target not in vocabulary:
                instead = (
                    f"{self.tokenizer.convert_ids_to_tokens(ids[0])!r} is used instead" if ids else "it is left out"
                )
                warnings.warn(f"The target {target!r} is no token of the vocabulary: {instead}.")
            found += ids[:1]
        if not found:
            raise ValueError("targets must hold at least one word that the tokenizer knows.")
        return sorted(set(found))
