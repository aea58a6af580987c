"""Zero-shot classification: any labels for a text, by asking whether the text entails them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_models.pipelines.base import Pipeline, Row, softmax


class ZeroShotClassificationPipeline(Pipeline):
    """Scores labels that the model was not trained for; needs a model for natural language inference.

    Options:
        candidate_labels: a list of labels, or one string with commas between them; may also be given by position.
        hypothesis_template: the sentence that a label is put into, at {}; "This example is {}." by default.
        multi_label: whether several labels may be true, each of which then gets a score of its own; else the scores of
            all labels add up to 1.

    Returns {"sequence", "labels", "scores"} for a text, best label first. Texts that are too long are cut.
    """

    heads = ("sequence-classification",)
    shorten = "the labels or the template leave no room for the text, make them shorter"

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        if self.entailment_id == -1:
            warnings.warn(
                "No label of the model starts with 'entail': the last one is taken. Set label2id in its config."
            )

    def __call__(self, inputs: Any, candidate_labels: str | Sequence[str] | None = None, **options: Any) -> Any:
        if candidate_labels is not None:
            options["candidate_labels"] = candidate_labels
        if not {**self.options, **options}.get("candidate_labels"):
            raise ValueError("candidate_labels is missing: give a list of labels to choose from.")
        return super().__call__(inputs, **options)

    @property
    def entailment_id(self) -> int:
        """The index of the label for entailment; -1, the last, if there is none by that name."""
        found = (index for label, index in self.model.config.label2id.items() if label.lower().startswith("entail"))
        return next(found, -1)

    def rename(self, options: dict[str, Any]) -> dict[str, Any]:
        several = options.pop("multi_class", None)
        if several is not None:
            warnings.warn("multi_class is deprecated: use multi_label.")
            options["multi_label"] = several
        return options

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        return check_labels(options)

    def preprocess(
        self, item: str, *, candidate_labels: list[str], hypothesis_template: str = "This example is {}."
    ) -> Iterator[Row]:
        for label in candidate_labels:
            pair = item, hypothesis_template.format(label)
            encoding = self.encode(*pair)
            excess = len(encoding["input_ids"][0]) - (self.limit or len(encoding["input_ids"][0]))
            if 0 < excess < encoding.sequence_ids().count(0):
                encoding = self.encode(*pair, truncation="only_first")
            yield self.row(encoding, facts=label)

    def postprocess(self, item: str, rows: list[Row], *, multi_label: bool = False) -> dict[str, Any]:
        logits = np.stack([row.outputs["logits"] for row in rows])  # (labels, classes)
        entailed = self.entailment_id
        if multi_label or len(rows) == 1:
            contradicted = -1 if entailed == 0 else 0
            scores = softmax(logits[:, [contradicted, entailed]])[:, 1]
        else:
            scores = softmax(logits[:, entailed])
        best = np.argsort(scores)[::-1]
        return {
            "sequence": item,
            "labels": [rows[index].facts for index in best],
            "scores": scores[best].tolist(),
        }


def check_labels(options: dict[str, Any]) -> dict[str, Any]:
    """Options whose candidate_labels are a list; raises ValueError where these, or the template, make no sense."""
    labels = options.get("candidate_labels", ["label"])
    if isinstance(labels, str):
        labels = [label.strip() for label in labels.split(",") if label.strip()]
    if not labels or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"candidate_labels must be strings, at least one, not {options['candidate_labels']!r}.")
    template = options.get("hypothesis_template", "{}")
    try:
        filled = template.format(labels[0])
    except (AttributeError, IndexError, KeyError, ValueError):
        filled = template
    if filled == template:
        raise ValueError(f"hypothesis_template must be a sentence with {{}} where the label goes, not {template!r}.")
    return {**options, "candidate_labels": list(labels)}
