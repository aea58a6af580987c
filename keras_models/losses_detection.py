"""The set loss of detectors (https://arxiv.org/abs/2005.12872): each object is matched with one query, and compared.

Targets are packed: a dictionary of `class_labels` (batch, slots), -1 in slots without an object, `boxes` (batch, slots,
4) as (center x, center y, width, height) in shares of the picture, and for segmentation `masks` (batch, slots, height,
width).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_models import nn, runtime
from keras_models.losses import binary_cross_entropy_per_element

SLOTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # few sizes, so that few programs are compiled


def pack_targets(labels: Any, num_labels: int, slots: int | None = None) -> dict[str, Any]:
    """Objects of each picture, as image processors give them, as arrays of one size.

    Args:
        labels: for each picture a dictionary with `class_labels` (objects,), `boxes` (objects, 4) and, for
            segmentation, `masks` (objects, height, width); or packed targets, which stay as they are.
        num_labels: how many classes there are.
        slots: room for so many objects; by default for those of the fullest picture, rounded up.

    Raises:
        TypeError: labels are no dictionaries.
        ValueError: labels are those of one picture alone; or a picture lacks classes or boxes, has not as many of one
            as of the other, a class that does not exist, or boxes that are not shares of the picture.
    """
    if isinstance(labels, Mapping):
        if len(np.shape(labels.get("class_labels"))) != 2:
            raise ValueError("labels is a dictionary for one picture: give a list, of one for each picture.")
        return dict(labels)
    if not isinstance(labels, Sequence) or not all(isinstance(each, Mapping) for each in labels):
        raise TypeError(
            "labels must be a dictionary of class_labels and boxes for each picture, such as the image processor makes "
            f"of annotations, not {type(labels).__name__}."
        )
    pictures = [_checked(each, f"labels[{index}]", num_labels) for index, each in enumerate(labels)]
    most = max(len(each["class_labels"]) for each in pictures)
    slots = slots or next((size for size in SLOTS if size >= most), most)
    if most > slots:
        raise ValueError(f"A picture has {most} objects, and there is room for {slots}: give more slots.")
    packed = {
        "class_labels": np.full((len(pictures), slots), -1, "int32"),
        "boxes": np.zeros((len(pictures), slots, 4), "float32"),
    }
    if all("masks" in each for each in pictures):
        sizes = [np.shape(each["masks"])[1:] for each in pictures if len(each["class_labels"])]
        height, width = map(max, zip(*sizes, strict=True)) if sizes else (1, 1)
        packed["masks"] = np.zeros((len(pictures), slots, height, width), "uint8")
    for index, each in enumerate(pictures):
        count = len(each["class_labels"])
        packed["class_labels"][index, :count] = each["class_labels"]
        packed["boxes"][index, :count] = each["boxes"]
        if "masks" in packed and count:
            masks = np.asarray(each["masks"])
            packed["masks"][index, :count, : masks.shape[1], : masks.shape[2]] = masks
    return packed


def _checked(picture: Mapping[str, Any], where: str, num_labels: int) -> dict[str, np.ndarray]:
    missing = [name for name in ("class_labels", "boxes") if name not in picture]
    if missing:
        raise ValueError(f"{where} has no {' and no '.join(missing)}; it has {', '.join(picture)}.")
    found = {
        name: ops.convert_to_numpy(picture[name]) if ops.is_tensor(picture[name]) else np.asarray(picture[name])
        for name in ("class_labels", "boxes", "masks")
        if name in picture
    }
    classes = found["class_labels"] = found["class_labels"].reshape(-1)
    boxes = found["boxes"] = found["boxes"].reshape(-1, 4).astype("float32")
    for name, array in found.items():
        if len(array) != len(classes):
            raise ValueError(
                f"{where} has {len(classes)} class_labels and {len(array)} {name}: give one of each for an object."
            )
    wrong = classes[(classes < 0) | (classes >= num_labels)]
    if wrong.size:
        raise ValueError(
            f"{where} has the class {wrong[0]}, and the model has {num_labels} classes, 0 to {num_labels - 1}: load it "
            "with num_labels= or id2label= as the data needs."
        )
    if not np.all((boxes >= -1e-4) & (boxes <= 1 + 1e-4)):  # NaN too
        raise ValueError(
            f"{where} has boxes that are not (center x, center y, width, height) in shares of the picture, 0 to 1: "
            "let the image processor make them of the annotations."
        )
    return found


def match(logits: np.ndarray, boxes: np.ndarray, classes: np.ndarray, targets: np.ndarray, costs) -> np.ndarray:
    """For each slot the query that it is matched with at the least cost, -1 for slots without an object.

    Args:
        logits: (batch, queries, classes + 1).
        boxes: (batch, queries, 4).
        classes, targets: (batch, slots) and (batch, slots, 4).
        costs: of a class's probability, of the distance and of the overlap of boxes.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError("Training a detector needs scipy to match objects: pip install scipy.") from error
    matched = np.full(classes.shape, -1, "int32")
    for index, own in enumerate(classes):
        real = np.flatnonzero(own >= 0)
        if not real.size:
            continue
        powers = np.exp(logits[index] - logits[index].max(-1, keepdims=True))
        probabilities = (powers / powers.sum(-1, keepdims=True))[:, own[real]]
        distance = np.abs(boxes[index][:, None] - targets[index][None, real]).sum(-1)
        overlap = _overlap(np, boxes[index][:, None], targets[index][None, real])
        matrix = costs[1] * distance - costs[0] * probabilities - costs[2] * overlap  # (queries, objects)
        queries, objects = linear_sum_assignment(np.nan_to_num(matrix, nan=1e9))
        matched[index, real[objects]] = queries
    return matched


def _overlap(library, one, other):
    """Generalized intersection over union (https://arxiv.org/abs/1902.09630) of boxes given by centre and size."""
    low, high, area = [], [], []
    for boxes in (one, other):
        center, size = boxes[..., :2], boxes[..., 2:]
        low.append(center - 0.5 * size)
        high.append(center + 0.5 * size)
        area.append((high[-1] - low[-1])[..., 0] * (high[-1] - low[-1])[..., 1])
    inside = library.maximum(library.minimum(*high) - library.maximum(*low), 0.0)
    around = library.maximum(library.maximum(*high) - library.minimum(*low), 0.0)
    common, hull = inside[..., 0] * inside[..., 1], around[..., 0] * around[..., 1]
    union = area[0] + area[1] - common
    return common / union - (hull - union) / hull


def set_loss(outputs: Mapping[str, Any], targets: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """The losses of one layer's predictions, by the reference's names.

    Args:
        outputs: `logits` (batch, queries, classes + 1), `pred_boxes` (batch, queries, 4) and maybe `pred_masks`
            (batch, queries, height, width).
        targets: packed ones.
        config: with the costs of the matching, `eos_coefficient` and `num_labels`.

    Raises:
        ValueError: predictions and targets are not for as many pictures.
    """
    logits, boxes = (ops.cast(outputs[name], "float32") for name in ("logits", "pred_boxes"))
    classes, wanted = ops.cast(targets["class_labels"], "int32"), ops.cast(targets["boxes"], "float32")
    given, pictures = classes.shape[0], logits.shape[0]
    if None not in (given, pictures) and given != pictures:
        raise ValueError(f"There are labels for {given} pictures, and {pictures} pictures: give a dictionary for each.")
    costs = (config.class_cost, config.bbox_cost, config.giou_cost)
    (matched,) = runtime.host_call(
        lambda *arrays: [match(*arrays, costs)], [(tuple(classes.shape), "int32")], logits, boxes, classes, wanted
    )
    is_matched = matched >= 0
    weight = ops.cast(is_matched, "float32")  # (batch, slots)
    count = ops.maximum(ops.sum(ops.cast(classes >= 0, "float32")), 1.0)
    query = ops.maximum(matched, 0)

    hits = ops.one_hot(matched, logits.shape[1], dtype="int32")  # (batch, slots, queries); -1 hits none
    nothing = config.num_labels
    labels = nothing + ops.sum(hits * ops.expand_dims(classes - nothing, -1), axis=1)
    nll = -ops.take_along_axis(ops.log_softmax(logits, axis=-1), labels[..., None], axis=-1)[..., 0]
    importance = ops.where(labels == nothing, config.eos_coefficient, 1.0)
    found = {"loss_ce": ops.sum(nll * importance) / ops.sum(importance)}

    predicted = ops.take_along_axis(boxes, query[..., None], axis=1)
    difference = ops.sum(ops.abs(predicted - wanted), axis=-1)
    found["loss_bbox"] = ops.sum(difference * weight) / count
    whole = ops.convert_to_tensor([0.5, 0.5, 1.0, 1.0])  # in the place of no box, whose overlap has no gradient
    pairs = [ops.where(is_matched[..., None], each, whole) for each in (predicted, wanted)]
    found["loss_giou"] = ops.sum((1.0 - _overlap(ops, *pairs)) * weight) / count

    guessed = ops.sum(ops.cast(ops.argmax(logits, axis=-1) != logits.shape[-1] - 1, "float32"), axis=1)
    real = ops.sum(ops.cast(classes >= 0, "float32"), axis=1)
    found["cardinality_error"] = ops.stop_gradient(ops.mean(ops.abs(guessed - real)))
    if "pred_masks" in outputs:
        found |= _mask_losses(outputs["pred_masks"], targets, query, weight, count)
    return found


def _mask_losses(masks, targets, query, weight, count):
    wanted = ops.cast(targets["masks"], "float32")
    slots, height, width = wanted.shape[1:]
    masks = ops.take_along_axis(ops.cast(masks, "float32"), query[:, :, None, None], axis=1)
    masks = nn.resize(ops.reshape(masks, (-1, *masks.shape[2:], 1)), (height, width))
    masks = ops.reshape(masks, (-1, slots, height * width))
    wanted = ops.reshape(wanted, (-1, slots, height * width))
    probability = ops.sigmoid(masks)
    # Focal loss, https://arxiv.org/abs/1708.02002, with its alpha of 0.25 and gamma of 2.
    right = probability * wanted + (1.0 - probability) * (1.0 - wanted)
    focal = binary_cross_entropy_per_element(masks, wanted) * ops.square(1.0 - right)
    focal = ops.mean(focal * (0.25 * wanted + 0.75 * (1.0 - wanted)), axis=-1)
    common = 2.0 * ops.sum(probability * wanted, axis=-1)
    dice = 1.0 - (common + 1.0) / (ops.sum(probability, axis=-1) + ops.sum(wanted, axis=-1) + 1.0)
    return {"loss_mask": ops.sum(focal * weight) / count, "loss_dice": ops.sum(dice * weight) / count}


def total(found: Mapping[str, Any], config: Any) -> Any:
    """The weighted sum of losses by name, those of earlier layers (`..._0`) included."""
    weights = {
        "loss_ce": 1.0,
        "loss_bbox": config.bbox_loss_coefficient,
        "loss_giou": config.giou_loss_coefficient,
        "loss_mask": config.mask_loss_coefficient,
        "loss_dice": config.dice_loss_coefficient,
    }
    parts = {name: name.rstrip("0123456789").rstrip("_") for name in found}
    return sum(found[name] * weights[kind] for name, kind in parts.items() if kind in weights)
