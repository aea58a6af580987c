"""DETR's image processor: pictures padded to one size, annotations as targets, boxes and segments from outputs."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from keras_models.preprocessing.image_annotations import (
    FORMATS,
    Target,
    detection_target,
    normalized_target,
    padded_target,
    panoptic_target,
    resized_target,
)
from keras_models.preprocessing.image_base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    BatchFeature,
    ImageProcessor,
    scaling,
)
from keras_models.preprocessing.image_segments import (
    center_to_corners,
    output_array,
    panoptic_segments,
    run_lengths,
    semantic_maps,
    sigmoid,
    softmax,
    target_list,
)
from keras_models.preprocessing.image_steps import Size, assemble, size_of


class DetrImageProcessor(ImageProcessor):
    """DETR's: the shortest edge is resized to 800, the longest to at most 1333, and pictures are padded to one size.

    Settings of its own: `format` of annotations, "coco_detection" or "coco_panoptic"; `do_convert_annotations`, whether
    boxes become (center x, center y, width, height) in parts of the picture; `do_pad`, and `pad_size` where it is not
    to be the largest height and width of the batch.
    """

    defaults: ClassVar = {
        "format": "coco_detection", "do_resize": True, "size": {"shortest_edge": 800, "longest_edge": 1333},
        "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD, "do_convert_annotations": None, "do_pad": True,
        "pad_size": None,
    }  # fmt: skip
    square = False
    longest = 1333
    model_input_names: ClassVar = ["pixel_values", "pixel_mask"]

    @classmethod
    def _completed(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        values = super()._completed(settings)
        if values["do_convert_annotations"] is None:
            values["do_convert_annotations"] = values["do_normalize"]
        if values["format"] not in FORMATS:
            raise ValueError(f"format is {values['format']!r}: give one of {', '.join(map(repr, FORMATS))}.")
        return values

    def __call__(
        self,
        images: Any,
        annotations: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        return_segmentation_masks: bool | None = None,
        masks_path: str | os.PathLike[str] | None = None,
        *,
        return_tensors: str | None = None,
        input_data_format: str | None = None,
        **overrides: Any,
    ) -> BatchFeature:
        """Prepares pictures, and COCO's annotations as labels; see `ImageProcessor.__call__`.

        Args:
            annotations: one a picture; see `detection_target` and `panoptic_target` for the two formats.
            return_segmentation_masks: whether labels hold masks; None for those of panoptic annotations alone.
            masks_path: the folder with the PNG files of panoptic annotations.

        Returns:
            `pixel_values` (batch, height, width, 3), float32; `pixel_mask` (batch, height, width), int64, 1 where the
            picture is and 0 where it was padded, unless `do_pad` is off; with annotations `labels`, a dictionary a
            picture: `class_labels` and `boxes` (objects, 4) and what else the annotations told.

        Raises:
            ValueError: as there, or annotations and pictures do not fit.
        """
        steps = self._steps(overrides)
        pictures = self._pictures(images, steps, input_data_format)
        old = [size_of(picture) for picture in pictures]
        targets = None
        if annotations is not None:
            targets = self._targets(annotations, old, steps, return_segmentation_masks, masks_path)
        pictures = [self._prepared(picture, steps) for picture in pictures]
        new = [size_of(picture) for picture in pictures]
        size, corners = self.canvas(new, steps)
        batch = BatchFeature(pixel_values=assemble(pictures, size, corners, *scaling(steps)))
        if steps.do_pad:
            batch["pixel_mask"] = np.zeros(batch["pixel_values"].shape[:-1], np.int64)
            for mask, (height, width) in zip(batch["pixel_mask"], new, strict=True):
                mask[:height, :width] = 1
        if targets is not None:
            batch["labels"] = [
                BatchFeature(self._fitted(target, *sizes, size, steps))
                for target, *sizes in zip(targets, old, new, strict=True)
            ]
        return batch.to_tensors(return_tensors)

    def canvas(self, sizes: Sequence[Size], steps: SimpleNamespace) -> tuple[Size, list[tuple[int, int]]]:
        if not steps.do_pad:
            return super().canvas(sizes, steps)
        height, width = (max(lengths) for lengths in zip(*sizes, strict=True))
        if steps.pad_size is not None:
            wanted = steps.pad_size["height"], steps.pad_size["width"]
            if height > wanted[0] or width > wanted[1]:
                raise ValueError(f"pad_size is {wanted} and a picture {(height, width)}: make it at least as large.")
            height, width = wanted
        return (height, width), [(0, 0)] * len(sizes)

    def _targets(
        self,
        annotations: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        sizes: list[Size],
        steps: SimpleNamespace,
        with_masks: bool | None,
        masks_path: str | os.PathLike[str] | None,
    ) -> list[Target]:
        """The targets that annotations make of pictures of these sizes."""
        annotations = [annotations] if isinstance(annotations, Mapping) else list(annotations)
        if len(annotations) != len(sizes):
            raise ValueError(f"There are {len(sizes)} pictures and {len(annotations)} annotations: pass as many.")
        pairs = zip(annotations, sizes, strict=True)
        if steps.format == "coco_detection":
            return [detection_target(*pair, bool(with_masks)) for pair in pairs]
        return [panoptic_target(*pair, masks_path, with_masks is not False) for pair in pairs]

    def _fitted(self, target: Target, old: Size, new: Size, padded: Size, steps: SimpleNamespace) -> Target:
        """A target that went with its picture from one size to the next."""
        if steps.do_resize:
            target = resized_target(target, old, new)
        if steps.do_convert_annotations:
            target = normalized_target(target, new)
        return padded_target(target, new, padded, boxes=steps.do_convert_annotations)

    # Outputs.

    def post_process_object_detection(
        self, outputs: Any, threshold: float = 0.5, target_sizes: Any = None
    ) -> list[dict[str, np.ndarray]]:
        """The objects that a detection model found.

        Args:
            outputs: what the model returned, with `logits` (batch, queries, labels + 1) and `pred_boxes`.
            threshold: the probability that an object needs.
            target_sizes: a (height, width) a picture, in whose pixels boxes then are; None for parts of the picture.

        Returns:
            `scores`, `labels` and `boxes` (objects, 4) of (left, top, right, bottom), a dictionary a picture.

        Raises:
            ValueError: there are more or fewer sizes than pictures, or these are no such outputs.
        """
        probabilities = softmax(output_array(outputs, "logits", 3))[..., :-1]
        scores, labels = probabilities.max(axis=-1), probabilities.argmax(axis=-1)
        boxes = center_to_corners(output_array(outputs, "pred_boxes", 3))
        results = []
        for number, size in enumerate(target_list(target_sizes, len(scores))):
            kept = scores[number] > threshold
            found = boxes[number][kept]
            if size is not None:
                found = found * np.asarray([size[1], size[0]] * 2, np.float32)
            results.append({"scores": scores[number][kept], "labels": labels[number][kept], "boxes": found})
        return results

    def post_process_semantic_segmentation(self, outputs: Any, target_sizes: Any = None) -> list[np.ndarray]:
        """The most likely class of each pixel, of all queries' classes and masks.

        Args:
            outputs: what the model returned, with `logits` (batch, queries, labels + 1) and `pred_masks` (batch,
                queries, height, width).
            target_sizes: a (height, width) a picture, to which the scores are resized first.

        Returns:
            a map (height, width) of class ids a picture, int64.

        Raises:
            ValueError: there are more or fewer sizes than pictures, or these are no such outputs.
        """
        classes = softmax(output_array(outputs, "logits", 3))[..., :-1]  # (batch, queries, labels)
        masks = sigmoid(output_array(outputs, "pred_masks", 4))
        batch, queries, height, width = masks.shape
        scores = masks.reshape(batch, queries, height * width).swapaxes(1, 2) @ classes
        return semantic_maps(scores.reshape(batch, height, width, -1), target_sizes)

    def post_process_instance_segmentation(
        self,
        outputs: Any,
        threshold: float = 0.5,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.8,
        target_sizes: Any = None,
        return_coco_annotation: bool = False,
    ) -> list[dict[str, Any]]:
        """The segments of things, each by itself; see `post_process_panoptic_segmentation`.

        Args:
            return_coco_annotation: give `segmentation` as a list of run lengths an id, unless there is no segment.
        """
        results = self.post_process_panoptic_segmentation(
            outputs, threshold, mask_threshold, overlap_mask_area_threshold, (), target_sizes
        )
        for result in results if return_coco_annotation else ():
            if result["segmentation"].min() >= 0:
                result["segmentation"] = run_lengths(result["segmentation"])
        return results

    def post_process_panoptic_segmentation(
        self,
        outputs: Any,
        threshold: float = 0.5,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.8,
        label_ids_to_fuse: Collection[int] | None = None,
        target_sizes: Any = None,
    ) -> list[dict[str, Any]]:
        """The segments that cover a picture.

        Args:
            outputs: what the model returned, with `logits` (batch, queries, labels + 1) and `pred_masks` (batch,
                queries, height, width).
            threshold: the probability of the class that a segment needs.
            mask_threshold: the probability that makes a pixel part of a query's mask.
            overlap_mask_area_threshold: the part of a mask that must not be covered by others.
            label_ids_to_fuse: classes whose segments are one, such as the sky.
            target_sizes: a (height, width) a picture, to which masks are resized first.

        Returns:
            a dictionary a picture: `segmentation` (height, width), int32, of segment ids, 0 for none, or -1 everywhere
            if there is no segment; `segments_info`, a dictionary of `id`, `label_id`, `was_fused` and `score` each.

        Raises:
            ValueError: there are more or fewer sizes than pictures, or these are no such outputs.
        """
        logits, masks = output_array(outputs, "logits", 3), output_array(outputs, "pred_masks", 4)
        results = []
        for *each, size in zip(logits, masks, target_list(target_sizes, len(logits)), strict=True):
            segmentation, segments = panoptic_segments(
                *each,
                threshold=threshold,
                mask_threshold=mask_threshold,
                overlap_mask_area_threshold=overlap_mask_area_threshold,
                label_ids_to_fuse=label_ids_to_fuse or (),
                target_size=size,
            )
            results.append({"segmentation": segmentation, "segments_info": segments})
        return results
