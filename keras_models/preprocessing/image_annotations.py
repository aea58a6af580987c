"""COCO's annotations as targets of detection models: boxes and masks, clipped, resized and checked.

A target is a dictionary of arrays: `boxes` (objects, 4), `class_labels`, `area`, `iscrowd`, `masks` (objects, height,
width), `image_id`, `orig_size` and `size`. Sizes are (height, width).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_models.preprocessing.image_steps import Size

FORMATS = ("coco_detection", "coco_panoptic")
Target = dict[str, np.ndarray]
_POLYGON_SCALE = 5  # the steps that COCO divides a pixel into while it draws polygons


def detection_target(annotation: Mapping[str, Any], size: Size, with_masks: bool) -> Target:
    """The target that a detection annotation makes: crowds left out, boxes (left, top, right, bottom) clipped.

    Args:
        annotation: `{"image_id", "annotations"}`, the latter a dictionary an object of `bbox` (left, top, width,
            height), `category_id`, `area`, and perhaps `iscrowd`, `keypoints` and `segmentation`.
        size: the size of the picture.
        with_masks: whether to draw the masks of `segmentation` too.

    Raises:
        ValueError: something is missing, or is no box or mask of this picture.
    """
    where = _checked(annotation, ("image_id", "annotations"), "coco_detection")
    objects = [_object(each, f"object {number} of {where}") for number, each in enumerate(annotation["annotations"])]
    objects = [each for each in objects if not each.get("iscrowd", 0)]
    for each in objects:
        _keys(each, ("bbox", "category_id", "area"), f"An object of {where}")
    boxes = np.stack([_box(each["bbox"], size, where) for each in objects]) if objects else np.zeros((0, 4), np.float32)
    kept = (boxes[:, 3] > boxes[:, 1]) & (boxes[:, 2] > boxes[:, 0])
    target = {
        "image_id": np.asarray([annotation["image_id"]], np.int64),
        "class_labels": np.asarray([each["category_id"] for each in objects], np.int64)[kept],
        "boxes": boxes[kept],
        "area": np.asarray([each["area"] for each in objects], np.float32)[kept],
        "iscrowd": np.zeros(np.count_nonzero(kept), np.int64),
        "orig_size": np.asarray(size, np.int64),
    }
    if objects and "keypoints" in objects[0]:
        target["keypoints"] = np.asarray([each["keypoints"] for each in objects], np.float32)[kept].reshape(-1, 3)
    if with_masks:
        chosen = [each for each, keep in zip(objects, kept, strict=True) if keep]
        for each in chosen:
            _keys(each, ("segmentation",), f"An object of {where}")
        masks = [draw_segmentation(each["segmentation"], size) for each in chosen]
        target["masks"] = np.stack(masks) if masks else np.zeros((0, *size), bool)
    return target


def panoptic_target(annotation: Mapping[str, Any], size: Size, folder: Any, with_masks: bool) -> Target:
    """The target that a panoptic annotation makes, crowds and all.

    Args:
        annotation: `{"image_id", "file_name", "segments_info"}`, the latter a dictionary a segment of `id`,
            `category_id`, `area`, and perhaps `iscrowd`.
        size: the size of the picture.
        folder: where the PNG `file_name` lies, whose colours are ids (red + 256 green + 65536 blue).
        with_masks: whether the masks are wanted too.

    Raises:
        ValueError: something is missing, or the PNG does not fit.
        FileNotFoundError: there is no such PNG.
    """
    where = _checked(annotation, ("image_id", "file_name", "segments_info"), "coco_panoptic")
    if folder is None:
        raise ValueError("Panoptic annotations need masks_path=, the folder that their PNG files lie in.")
    segments = annotation["segments_info"]
    for number, each in enumerate(segments):
        _keys(_object(each, f"segment {number} of {where}"), ("id", "category_id", "area"), f"A segment of {where}")
    path = Path(folder, annotation["file_name"])
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r} with the masks of {where}: check masks_path.")
    with Image.open(path) as image:
        colors = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"), np.int64)
    ids = colors @ [1, 256, 65536] if colors.ndim == 3 else colors
    if ids.shape != tuple(size):
        raise ValueError(f"The masks in {str(path)!r} are {ids.shape} and the picture {tuple(size)}: they must agree.")
    wanted = np.asarray([each["id"] for each in segments], np.int64)
    masks = ids == wanted[:, None, None]
    empty = wanted[~masks.any(axis=(1, 2))]
    if empty.size:
        raise ValueError(f"Segment {empty[0]} of {where} has no pixel in {str(path)!r}: remove it, or check the file.")
    target = {
        "image_id": np.asarray([annotation["image_id"]], np.int64),
        "size": np.asarray(size, np.int64),
        "orig_size": np.asarray(size, np.int64),
        "masks": masks,
        "boxes": mask_boxes(masks),
        "class_labels": np.asarray([each["category_id"] for each in segments], np.int64),
        "iscrowd": np.asarray([each.get("iscrowd", 0) for each in segments], np.int64),
        "area": np.asarray([each["area"] for each in segments], np.float32),
    }
    return target if with_masks else {name: value for name, value in target.items() if name != "masks"}


def mask_boxes(masks: np.ndarray) -> np.ndarray:
    """The boxes (left, top, right, bottom) of masks (objects, height, width); the last pixel is at right and bottom."""
    columns, rows = masks.any(axis=1), masks.any(axis=2)
    ends = [(line.argmax(axis=-1), line.shape[-1] - 1 - line[:, ::-1].argmax(axis=-1)) for line in (columns, rows)]
    return np.stack([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], axis=-1).astype(np.float32)


def resized_target(target: Target, old: Size, new: Size) -> Target:
    """A target whose picture was resized: boxes, areas and masks with it."""
    height, width = (float(after) / float(before) for after, before in zip(new, old, strict=True))
    result = {"size": np.asarray(new, np.int64), **target, "area": target["area"] * np.float32(width * height)}
    result["boxes"] = target["boxes"] * np.asarray([width, height, width, height], np.float32)
    result["size"] = np.asarray(new, np.int64)
    if "masks" in target:
        masks = [Image.fromarray(mask).resize((new[1], new[0]), Image.Resampling.NEAREST) for mask in target["masks"]]
        result["masks"] = np.stack([np.asarray(mask) for mask in masks]) if masks else np.zeros((0, *new), bool)
    return result


def normalized_target(target: Target, size: Size) -> Target:
    """A target with boxes as (center x, center y, width, height) in parts of the picture."""
    left, top, right, bottom = target["boxes"].T
    boxes = np.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], axis=-1)
    height, width = size
    return target | {"boxes": boxes / np.asarray([width, height, width, height], np.float32)}


def padded_target(target: Target, old: Size, new: Size, boxes: bool) -> Target:
    """A target whose picture was padded at the bottom and at the right; `boxes` says that boxes are parts of it."""
    result = {**target, "size": np.asarray(new, np.int64)}
    if "masks" in target:
        result["masks"] = np.pad(target["masks"], ((0, 0), (0, new[0] - old[0]), (0, new[1] - old[1])))
    if boxes:
        height, width = (before / after for before, after in zip(old, new, strict=True))
        result["boxes"] = target["boxes"] * np.asarray([width, height, width, height], np.float32)
    return result


def draw_segmentation(segmentation: Any, size: Size) -> np.ndarray:
    """A mask (height, width) of COCO's polygons or run lengths (listed or compressed), the very pixels that COCO draws.

    Raises:
        ValueError: it is none of these, or belongs to a picture of another size.
    """
    if isinstance(segmentation, Mapping):
        _keys(segmentation, ("counts", "size"), "A segmentation")
        if tuple(segmentation["size"]) != tuple(size):
            raise ValueError(
                f"A segmentation is for a picture of {tuple(segmentation['size'])}, and this one is {tuple(size)}: "
                "they must agree."
            )
        counts = segmentation["counts"]
        counts = _uncompressed(counts) if isinstance(counts, str | bytes) else np.asarray(counts, np.int64)
        if counts.ndim != 1 or (counts < 0).any() or counts.sum() != size[0] * size[1]:
            raise ValueError(f"The counts of a segmentation make {counts.sum()} pixels, not {size[0]} x {size[1]}.")
        flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    elif isinstance(segmentation, Sequence) and len(segmentation) and not isinstance(segmentation, str):
        flat = np.zeros(size[0] * size[1], bool)
        for polygon in segmentation:
            flat |= _draw_polygon(polygon, size)
    else:
        raise ValueError(
            f"A segmentation is {segmentation!r}: it should be polygons [[x, y, x, y, ...]] or run lengths."
        )
    return flat.reshape(size[1], size[0]).T  # COCO counts down the columns


def _draw_polygon(polygon: Any, size: Size) -> np.ndarray:
    """The pixels, column by column, of the polygon [x, y, x, y ...], drawn as COCO's rleFrPoly does.

    The outline is followed in fifths of a pixel. Where it crosses from one column of fifths to the next, in the middle
    of a pixel, inside turns to outside or back from that row downwards, so the parity of crossings tells which it is.
    """
    points = np.asarray(polygon, np.float64) if np.ndim(polygon) == 1 else np.zeros(0)
    if len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
        raise ValueError(f"A polygon is {polygon!r}: it should be at least 3 points, as a flat list [x, y, x, y, ...].")
    height, width = size
    x, y = np.trunc(_POLYGON_SCALE * points.reshape(-1, 2) + 0.5).astype(np.int64).T
    (x0, x1), (y0, y1) = ((values, np.roll(values, -1)) for values in (x, y))
    across, down = np.abs(x1 - x0), np.abs(y1 - y0)
    flat = across >= down
    lengths = np.maximum(across, down)
    flipped = np.where(flat, x0 > x1, y0 > y1)
    x0, x1 = np.where(flipped, x1, x0), np.where(flipped, x0, x1)
    y0, y1 = np.where(flipped, y1, y0), np.where(flipped, y0, y1)
    slopes = np.where(flat, y1 - y0, x1 - x0) / np.maximum(lengths, 1)
    # All points of all edges in one row.
    edges = np.repeat(np.arange(len(x)), lengths + 1)
    steps = np.arange(len(edges)) - np.repeat(np.cumsum(lengths + 1) - lengths - 1, lengths + 1)
    steps = np.where(flipped[edges], lengths[edges] - steps, steps)
    other = np.trunc(np.where(flat, y0, x0)[edges] + slopes[edges] * steps + 0.5).astype(np.int64)
    u, v = np.where(flat[edges], steps + x0[edges], other), np.where(flat[edges], other, steps + y0[edges])
    crossed = u[1:] != u[:-1]
    columns = (np.where(u[1:] < u[:-1], u[1:], u[1:] - 1)[crossed] + 0.5) / _POLYGON_SCALE - 0.5
    rows = (np.minimum(v[1:], v[:-1])[crossed] + 0.5) / _POLYGON_SCALE - 0.5
    inside = (np.floor(columns) == columns) & (columns >= 0) & (columns <= width - 1)
    rows = np.ceil(np.clip(rows[inside], 0, height)).astype(np.int64)
    turns = np.bincount(columns[inside].astype(np.int64) * height + rows, minlength=width * height + 1)
    return np.cumsum(turns[: width * height]) % 2 == 1


def _uncompressed(text: str | bytes) -> np.ndarray:
    """Run lengths of COCO's compressed form: 5 bits a character, from the third on differences to the last but one."""
    counts: list[int] = []
    value = shift = 0
    for code in text if isinstance(text, bytes) else text.encode():
        bits = code - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= (1 << shift) if bits & 16 else 0
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return np.asarray(counts, np.int64)


def _checked(annotation: Any, keys: Sequence[str], form: str) -> str:
    """What to call an annotation in errors, once it has these keys, the last a list."""
    if not isinstance(annotation, Mapping):
        raise ValueError(f"An annotation is a {type(annotation).__name__}: pass a dictionary with {', '.join(keys)}.")
    _keys(annotation, keys, f"An annotation (format {form!r})")
    if not isinstance(annotation[keys[-1]], list | tuple):
        raise ValueError(f"{keys[-1]!r} of an annotation is {annotation[keys[-1]]!r}: it should be a list.")
    return f"the annotation of picture {annotation['image_id']!r}"


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{what[0].upper()}{what[1:]} is a {type(value).__name__}: it should be a dictionary.")
    return value


def _keys(value: Mapping[str, Any], keys: Sequence[str], what: str):
    missing = [key for key in keys if key not in value]
    if missing:
        raise ValueError(
            f"{what} lacks {', '.join(map(repr, missing))}; it has {', '.join(map(repr, value)) or 'none'}."
        )


def _box(bbox: Any, size: Size, where: str) -> np.ndarray:
    """A box (left, top, width, height) as (left, top, right, bottom), clipped to the picture."""
    try:
        box = np.asarray(bbox, np.float32)
    except (TypeError, ValueError):
        box = np.zeros(0)
    if box.shape != (4,) or not np.isfinite(box).all() or (box[2:] < 0).any():
        raise ValueError(
            f"The box {bbox!r} in {where} is none: it should be [left, top, width, height], none negative."
        )
    height, width = size
    box = np.concatenate([box[:2], box[:2] + box[2:]])
    if box[0] > width or box[1] > height or (box[2:] < 0).any():
        raise ValueError(f"The box {bbox!r} in {where} lies outside the picture, {width} wide and {height} high.")
    return box.clip(0, np.asarray([width, height, width, height], np.float32))
