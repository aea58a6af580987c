"""What a model's outputs mean: boxes, maps of classes, and segments, as numpy arrays and plain Python values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from keras_models.preprocessing.image_files import to_numpy
from keras_models.preprocessing.image_steps import Size, blend, interpolate, taps

_BLOCK = 1 << 19  # floats that are worked on at a time: resized scores of all classes would fill the memory


def output_array(outputs: Any, name: str, dimensions: int) -> np.ndarray:
    """One of a model's outputs, a tensor of any framework, as a float32 array.

    Raises:
        ValueError: there is no such output, or it has another number of axes.
    """
    value = outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)
    if value is None:
        raise ValueError(f"The outputs have no {name!r}: pass what a model with a head for this task returned.")
    array = to_numpy(value).astype(np.float32, copy=False)
    if array.ndim != dimensions:
        raise ValueError(f"{name!r} has the shape {array.shape}, which should have {dimensions} axes, a batch first.")
    return array


def target_list(target_sizes: Any, count: int) -> list[Size | None]:
    """A (height, width) a picture, or None for each if none are given.

    Raises:
        ValueError: there are more or fewer than pictures, or these are no sizes.
    """
    if target_sizes is None:
        return [None] * count
    sizes = [tuple(np.asarray(to_numpy(size)).reshape(-1).tolist()) for size in target_sizes]
    if len(sizes) != count:
        raise ValueError(f"There are {len(sizes)} target_sizes for {count} pictures: pass one (height, width) each.")
    for size in sizes:
        if len(size) != 2 or not all(edge >= 1 for edge in size):
            raise ValueError(f"target_sizes has {size}: pass a (height, width) of at least one pixel for each picture.")
    return [(int(height), int(width)) for height, width in sizes]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """The probability of each logit by itself."""
    return 0.5 * np.tanh(0.5 * logits) + 0.5  # which does not overflow


def center_to_corners(boxes: np.ndarray) -> np.ndarray:
    """Boxes (..., 4) of (center x, center y, width, height) as (left, top, right, bottom)."""
    center, half = boxes[..., :2], 0.5 * boxes[..., 2:]
    return np.concatenate([center - half, center + half], axis=-1)


def semantic_maps(scores: np.ndarray, target_sizes: Any = None) -> list[np.ndarray]:
    """The best class of each pixel, of scores (batch, height, width, classes): a map (height, width), int64, a picture.

    With `target_sizes`, the scores are resized first, bilinearly, a few rows at a time.
    """
    return [
        np.argmax(picture, axis=-1) if size is None else _resized_argmax(picture, size)
        for picture, size in zip(scores, target_list(target_sizes, len(scores)), strict=True)
    ]


def _resized_argmax(scores: np.ndarray, size: Size) -> np.ndarray:
    rows, columns = (taps(old, new) for old, new in zip(scores.shape[:2], size, strict=True))
    best = np.empty(size, np.int64)
    count = max(_BLOCK // (size[1] * scores.shape[-1]), 1)
    for start in range(0, size[0], count):
        part = blend(scores, *(each[:, start : start + count] for each in rows), axis=0)
        best[start : start + count] = np.argmax(blend(part, *columns, axis=1), axis=-1)
    return best


def panoptic_segments(
    logits: np.ndarray,
    masks: np.ndarray,
    *,
    threshold: float,
    mask_threshold: float,
    overlap_mask_area_threshold: float,
    label_ids_to_fuse: Collection[int],
    target_size: Size | None,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The segments of one picture of a model that predicts a class and a mask a query.

    Args:
        logits: (queries, classes + 1), the last for no object.
        masks: (queries, height, width) logits.
        threshold: the probability of the class that a segment needs.
        mask_threshold: the probability, weighted with that of the class, that makes a pixel part of a query's mask.
        overlap_mask_area_threshold: the part of a mask that must not be covered by others.
        label_ids_to_fuse: classes whose segments are one.
        target_size: the (height, width) that masks are resized to; None for theirs.

    Returns:
        a map (height, width) of segment ids, int32, 0 for none, or -1 everywhere if no query is sure enough; and a
        dictionary a segment of `id`, `label_id`, `was_fused` and `score`.
    """
    probabilities = softmax(logits)
    labels, scores = probabilities.argmax(axis=-1), probabilities.max(axis=-1)
    kept = (labels != logits.shape[-1] - 1) & (scores > threshold)
    size = target_size or masks.shape[1:]
    if not kept.any():
        return np.full(size, -1, np.int32), []
    labels, scores, masks = labels[kept], scores[kept], sigmoid(masks[kept])
    masks = interpolate(masks, size) if target_size else masks
    masks *= scores[:, None, None]
    owners = masks.argmax(axis=0)
    owned = np.bincount(owners.ravel(), minlength=len(masks))
    segmentation, segments, fused = np.zeros(size, np.int32), [], {}
    number = 0
    for query, (label, score) in enumerate(zip(labels.tolist(), scores.tolist(), strict=True)):
        whole = np.count_nonzero(masks[query] >= mask_threshold)
        if not (owned[query] and whole and owned[query] / whole > overlap_mask_area_threshold):
            continue
        # As in the reference: a segment that joins an earlier one lets the count go on from there.
        number = fused[label] if label in fused else number + 1
        segmentation[owners == query] = number
        was_fused = label in label_ids_to_fuse
        segments.append({"id": number, "label_id": label, "was_fused": was_fused, "score": round(score, 6)})
        if was_fused:
            fused[label] = number
    return segmentation, segments


def run_lengths(segmentation: np.ndarray) -> list[list[int]]:
    """For each id of a map, in order, the runs of its pixels row by row: start (from 1), length, start, length ..."""
    flat = segmentation.ravel()
    edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    starts, lengths, ids = edges[:-1] + 1, np.diff(edges), flat[edges[:-1]]
    runs = np.stack([starts, lengths], axis=1)
    return [runs[ids == each].ravel().tolist() for each in np.unique(ids)]
