"""Pipelines that take a picture: its class, its features, the objects in it, and what each of its pixels shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from keras_models.model import ModelOutput
from keras_models.pipelines.base import (
    Pipeline,
    Row,
    classes_of,
    is_collection,
    one_of,
    positive,
    scores_of,
)
from keras_models.preprocessing.batch_encoding import tensor_kind
from keras_models.preprocessing.image import load_image
from keras_models.results import PictureResults

_FUNCTIONS = ("sigmoid", "softmax", "none")
_SUBTASKS = ("panoptic", "instance", "semantic")


class ImagePipeline(Pipeline):
    """Base of those that take pictures: paths, addresses, bytes, PIL images or arrays (height, width, 3).

    Pictures of one size share batches; those of other sizes go alone, so that a batch never changes results.
    """

    parts = ("image_processor",)
    takes = "a picture: a path, an address, bytes, a PIL image or an array"

    def are_many(self, inputs: Any) -> bool:
        if isinstance(inputs, Image.Image):
            return False
        if hasattr(inputs, "shape") and hasattr(inputs, "dtype"):
            return len(inputs.shape) > 3
        return not isinstance(inputs, (bytearray, memoryview)) and is_collection(inputs)

    def normalize(self, item: Any, where: str) -> Any:
        if item is None or isinstance(item, (dict, list, tuple, int, float)):
            raise TypeError(f"{where} must be {self.takes} for {self.task}, not {type(item).__name__}.")
        return item

    def read(self, item: Any, timeout: float | None) -> Image.Image:
        """The picture that an input stands for."""
        return load_image(item) if timeout is None else load_image(item, timeout=timeout)

    def picture_row(self, picture: Image.Image, **settings: Any) -> Row:
        """The row of a picture; `facts` are the picture itself."""
        features = self.image_processor(picture, return_tensors="np", **settings)
        return Row({name: value[0] for name, value in features.items() if name in self._input_names}, picture)

    def preprocess(self, item: Any, *, timeout: float | None = None) -> Iterator[Row]:
        yield self.picture_row(self.read(item, timeout))

    def forward(self, rows: list[Row]):
        """Runs rows of one size at a time through the model."""
        sizes = defaultdict(list)
        for row in rows:
            sizes[row.inputs["pixel_values"].shape].append(row)
        for same in sizes.values():
            super().forward(same)

    def _collate(self, rows: list[dict[str, Any]], left: bool = False) -> dict[str, np.ndarray]:
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def _check_length(self, rows: list[Row], where: str):
        """Pictures have no length."""

    @staticmethod
    def outputs_of(row: Row) -> ModelOutput:
        """The outputs of one row as a batch of one."""
        return ModelOutput({name: value[None] for name, value in row.outputs.items()})


class ImageClassificationPipeline(ImagePipeline):
    """Names what a picture shows.

    Options:
        top_k: how many classes to return, best first; 5 by default, None for all.
        function_to_apply: "softmax", "sigmoid" or "none", from logits to scores; by default what the configuration's
            problem_type and number of labels ask for.
        timeout: how many seconds to wait for a picture from the web.

    Returns a list of {"label", "score"}, which shows itself in notebooks.
    """

    heads = ("image-classification",)

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        if options.get("top_k") is not None:
            positive("top_k", options["top_k"])
        if options.get("function_to_apply") is not None:
            options["function_to_apply"] = one_of("function_to_apply", options["function_to_apply"], _FUNCTIONS)
        return options

    def postprocess(
        self, item: Any, rows: list[Row], *, top_k: int | None = 5, function_to_apply: str | None = None
    ) -> PictureResults:
        config = self.model.config
        several = config.problem_type == "multi_label_classification" or config.num_labels == 1
        function = function_to_apply or ("sigmoid" if several else "softmax")
        scores = scores_of(rows[0].outputs["logits"], function)
        return PictureResults(classes_of(scores, config.id2label, top_k), image=rows[0].facts)


class ImageFeatureExtractionPipeline(ImagePipeline):
    """Gives the first output of a model for a picture, for a bare model its last hidden states.

    Options:
        pool: give the pooled output, one vector, instead.
        image_processor_kwargs: further options of the image processor.
        return_tensors: True for a tensor of the active backend, or "np", "jax", "pt" or "tf"; lists by default.
        timeout: how many seconds to wait for a picture from the web.
    """

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        if isinstance(options.get("return_tensors"), str):
            options["return_tensors"] = tensor_kind(options["return_tensors"])
        return options

    def preprocess(
        self, item: Any, *, timeout: float | None = None, image_processor_kwargs: dict[str, Any] | None = None
    ) -> Iterator[Row]:
        yield self.picture_row(self.read(item, timeout), **(image_processor_kwargs or {}))

    def postprocess(
        self, item: Any, rows: list[Row], *, pool: bool = False, return_tensors: bool | str | None = None
    ) -> Any:
        outputs = rows[0].outputs
        if pool and "pooler_output" not in outputs:
            raise ValueError(f"{type(self.model).__name__} has no pooled output: drop pool=True.")
        features = outputs["pooler_output"] if pool else next(iter(outputs.values()))
        if not return_tensors:
            return [features.tolist()]
        from keras_models.runtime.interop import to_framework

        return to_framework(features[None], "keras" if return_tensors is True else return_tensors)


class ObjectDetectionPipeline(ImagePipeline):
    """Finds objects in a picture.

    Options:
        threshold: the least score of an object to be returned; 0.5 by default.
        timeout: how many seconds to wait for a picture from the web.

    Returns a list of {"score", "label", "box"}, which shows itself in notebooks; a box is {"xmin", "ymin", "xmax",
    "ymax"} in pixels.
    """

    heads = ("object-detection",)

    def postprocess(self, item: Any, rows: list[Row], *, threshold: float = 0.5) -> PictureResults:
        picture, labels = rows[0].facts, self.model.config.id2label
        (found,) = self.image_processor.post_process_object_detection(
            self.outputs_of(rows[0]), threshold=threshold, target_sizes=[(picture.height, picture.width)]
        )
        corners = ("xmin", "ymin", "xmax", "ymax")
        results = [
            {
                "score": float(score),
                "label": labels[int(label)],
                "box": dict(zip(corners, map(int, box), strict=True)),
            }
            for score, label, box in zip(found["scores"], found["labels"], found["boxes"], strict=True)
        ]
        return PictureResults(results, image=picture)


class ImageSegmentationPipeline(ImagePipeline):
    """Tells what each pixel of a picture shows.

    Options:
        subtask: "panoptic" (things and stuff, each pixel once), "instance" or "semantic"; by default the first of these
            that the model's image processor knows.
        threshold: the least score of a segment; 0.9 by default. mask_threshold, overlap_mask_area_threshold: of its
            mask, and of the share of it that other segments must leave; 0.5 by default. None of them is for "semantic".
        timeout: how many seconds to wait for a picture from the web.

    Returns a list of {"score", "label", "mask"}, which shows itself in notebooks; a mask is a grey PIL image of the
    picture's size, 255 inside; the score is None for "semantic".
    """

    heads = ("image-segmentation", "universal-segmentation", "semantic-segmentation")

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        known = [each for each in _SUBTASKS if hasattr(self.image_processor, f"post_process_{each}_segmentation")]
        if not known:
            raise ValueError(f"{type(self.image_processor).__name__} cannot segment: pass the model's image_processor.")
        asked = options.get("subtask")
        options["subtask"] = known[0] if asked is None else one_of("subtask", asked, known)
        return options

    def postprocess(
        self,
        item: Any,
        rows: list[Row],
        *,
        subtask: str | None = None,
        threshold: float = 0.9,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.5,
    ) -> PictureResults:
        picture, labels = rows[0].facts, self.model.config.id2label
        process = getattr(self.image_processor, f"post_process_{subtask}_segmentation")
        outputs, sizes = self.outputs_of(rows[0]), [(picture.height, picture.width)]
        if subtask == "semantic":
            (classes,) = process(outputs, target_sizes=sizes)
            results = [_segment(classes == label, labels[int(label)], None) for label in np.unique(classes)]
        else:
            (found,) = process(
                outputs,
                threshold=threshold,
                mask_threshold=mask_threshold,
                overlap_mask_area_threshold=overlap_mask_area_threshold,
                target_sizes=sizes,
            )
            numbers = found["segmentation"]
            results = [
                _segment(numbers == each["id"], labels[each["label_id"]], each["score"])
                for each in found["segments_info"]
            ]
        return PictureResults(results, image=picture)


def _segment(mask: np.ndarray, label: str, score: float | None) -> dict[str, Any]:
    return {"score": score, "label": label, "mask": Image.fromarray(mask.astype("uint8") * 255)}
