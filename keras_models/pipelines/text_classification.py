"""Text classification: labels with scores for a text or a pair of texts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from keras_models.pipelines.base import Pipeline, Row, classes_of, one_of, positive, scores_of, text_of

_FUNCTIONS = ("sigmoid", "softmax", "none")


class TextClassificationPipeline(Pipeline):
    """Labels a text, e.g. with the feeling that it expresses.

    Takes a string, or a dictionary of `text` and `text_pair`. Options:
        top_k: how many labels to return, best first; None for all. Where it is not given, the best one alone.
        function_to_apply: "softmax", "sigmoid" or "none", from logits to scores; by default what the configuration's
            problem_type and number of labels ask for.
        return_all_scores: the older name of top_k=None, without sorting.
        truncation, max_length, padding ...: the tokenizer's.

    Returns {"label", "score"} for an input; a list of them with top_k; and a list of one for a single string without.
    """

    heads = ("sequence-classification",)
    takes = 'a string or {"text": ..., "text_pair": ...}'

    def __call__(self, inputs: Any, **options: Any) -> Any:
        results = super().__call__(inputs, **options)
        return [results] if isinstance(inputs, str) and "top_k" not in options else results

    def normalize(self, item: Any, where: str) -> dict[str, str]:
        if isinstance(item, list):
            pair = item[0] if len(item) == 1 else None  # [[text, pair]] is an old way to write a pair
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise TypeError(
                    f'{where} must be {self.takes}, not a list: write a pair as {{"text": ..., "text_pair": ...}}.'
                )
            item = {"text": pair[0], "text_pair": pair[1]}
        if not isinstance(item, Mapping):
            return {"text": text_of(item, where, self)}
        if not {"text"} <= set(item) <= {"text", "text_pair"}:
            raise ValueError(f'{where} must have the keys "text" and, if need be, "text_pair"; it has {list(item)}.')
        text_of(item["text"], f'{where}["text"]', self)
        if not isinstance(item.get("text_pair", ""), str):
            raise TypeError(f'{where}["text_pair"] must be a string, not {type(item["text_pair"]).__name__}.')
        return dict(item)

    def rename(self, options: dict[str, Any]) -> dict[str, Any]:
        everything = options.pop("return_all_scores", None)
        if everything is not None:
            warnings.warn("return_all_scores is deprecated: use top_k=None for all labels, top_k=1 for the best.")
            options.setdefault("top_k", "unsorted" if everything else "best")
        return options

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        everything = getattr(self.model.config, "return_all_scores", False)
        options.setdefault("top_k", "unsorted" if everything else "best")
        if options["top_k"] not in (None, "best", "unsorted"):
            positive("top_k", options["top_k"])
        if options.get("function_to_apply") is not None:
            options["function_to_apply"] = one_of("function_to_apply", options["function_to_apply"], _FUNCTIONS)
        return options

    def preprocess(self, item: dict[str, str], **options: Any) -> Iterator[Row]:
        yield self.row(self.encode(item["text"], item.get("text_pair"), **options))

    def postprocess(
        self,
        item: dict[str, str],
        rows: list[Row],
        *,
        top_k: int | Literal["best", "unsorted"] | None = "best",
        function_to_apply: str | None = None,
    ) -> dict[str, Any] | list[dict[str, Any]]:
        scores = scores_of(rows[0].outputs["logits"], function_to_apply or self._usual_function())
        labels = self.model.config.id2label
        if top_k == "unsorted":
            return [{"label": labels[index], "score": float(score)} for index, score in enumerate(scores)]
        found = classes_of(scores, labels, None if top_k == "best" else top_k)
        return found[0] if top_k == "best" else found

    def _usual_function(self) -> str:
        config = self.model.config
        if config.problem_type == "regression":
            return "none"
        return "sigmoid" if config.problem_type == "multi_label_classification" or config.num_labels == 1 else "softmax"
