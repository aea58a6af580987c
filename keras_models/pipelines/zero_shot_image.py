"""Zero-shot image classification: any labels for a picture, by how well sentences about them fit it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_models.pipelines.base import Row, classes_of, on_device, scores_of
from keras_models.pipelines.image import ImagePipeline
from keras_models.pipelines.zero_shot import check_labels
from keras_models.results import PictureResults

_TEXTS_AT_ONCE = 64


class _Labels(list):
    """The labels of one call, and what the model makes of their sentences, once it has."""

    embeds: np.ndarray | None = None  # (labels, size)


class ZeroShotImageClassificationPipeline(ImagePipeline):
    """Scores labels that the model was not trained for, by the likeness of a picture and a sentence with the label.

    Options:
        candidate_labels: a list of labels, or one string with commas between them; may also be given by position.
        hypothesis_template: the sentence that a label is put into, at {}; "This is a photo of {}." by default.
        tokenizer_kwargs: further options of the tokenizer, such as truncation=True where sentences are too long.
        timeout: how many seconds to wait for a picture from the web.

    Returns a list of {"label", "score"}, best first, which shows itself in notebooks. The scores of CLIP add up to 1;
    those of SigLIP each tell by themselves whether a label fits. Sentences run through the model once a call, however
    many pictures there are.
    """

    parts = ("tokenizer", "image_processor")
    heads = ("zero-shot-image-classification",)

    def __call__(self, image: Any = None, candidate_labels: str | Sequence[str] | None = None, **options: Any) -> Any:
        if candidate_labels is not None:
            options["candidate_labels"] = candidate_labels
        if {**self.options, **options}.get("candidate_labels") is None:
            raise ValueError("candidate_labels is missing: give a list of labels to choose from.")
        return super().__call__(options.pop("images", image), **options)

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        options = check_labels(options)
        return {**options, "candidate_labels": _Labels(options["candidate_labels"])}

    def postprocess(
        self,
        item: Any,
        rows: list[Row],
        *,
        candidate_labels: _Labels,
        hypothesis_template: str = "This is a photo of {}.",
        tokenizer_kwargs: dict[str, Any] | None = None,
    ) -> PictureResults:
        if candidate_labels.embeds is None:
            sentences = [hypothesis_template.format(label) for label in candidate_labels]
            candidate_labels.embeds = self._embeds(sentences, tokenizer_kwargs or {})
        with on_device(self.device):
            logits = self.model.compare(candidate_labels.embeds, rows[0].outputs["image_embeds"][None])
        scores = scores_of(ops.convert_to_numpy(logits)[:, 0], "sigmoid" if self._is_siglip else "softmax")
        results = classes_of(scores, dict(enumerate(candidate_labels)), None)
        return PictureResults(results, image=rows[0].facts)

    @property
    def _is_siglip(self) -> bool:
        return "siglip" in self.model.config.model_type

    def _embeds(self, sentences: list[str], settings: dict[str, Any]) -> np.ndarray:
        padding = {"padding": True}
        if self._is_siglip:
            padding = {"padding": "max_length", "max_length": 64, "truncation": True}
        encoding = self.tokenizer(sentences, **{"verbose": False, **padding, **settings, "return_tensors": "np"})
        inputs = {name: array for name, array in encoding.items() if name in self._input_names}
        length, limit = inputs["input_ids"].shape[1], self.model.max_length
        if length > limit:
            longest = max(sentences, key=lambda sentence: len(self.tokenizer(sentence, verbose=False)["input_ids"]))
            raise ValueError(
                f"The sentence {longest!r} makes a text of {length} tokens and {type(self.model).__name__} has "
                f'positions for {limit}: shorten it, or pass tokenizer_kwargs={{"truncation": True}}.'
            )
        with on_device(self.device):
            found = [
                self.model.infer(**{name: array[start : start + _TEXTS_AT_ONCE] for name, array in inputs.items()})
                for start in range(0, len(sentences), _TEXTS_AT_ONCE)
            ]
        return np.concatenate([outputs.text_embeds for outputs in found])
