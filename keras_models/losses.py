"""Losses, one per kind of head. All return a scalar, the mean that the reference computes."""

from __future__ import annotations

import math

import keras
from keras import ops

from keras_models import nn

IGNORE = -100  # the label of a position that does not count


def cross_entropy(logits, labels, ignore: int = IGNORE):
    """Mean cross entropy of integer labels, over the positions whose label is not `ignore`.

    Args:
        logits: (..., classes).
        labels: (...), integers.
    """
    logits = ops.cast(logits, "float32") if keras.backend.standardize_dtype(logits.dtype) == "float16" else logits
    labels = ops.cast(labels, "int32")
    counted = ops.not_equal(labels, ignore)
    log_probabilities = ops.log_softmax(logits, axis=-1)
    chosen = ops.expand_dims(ops.where(counted, labels, 0), -1)
    losses = -ops.squeeze(ops.take_along_axis(log_probabilities, chosen, axis=-1), -1)
    counted = ops.cast(counted, losses.dtype)
    return ops.sum(losses * counted) / ops.maximum(ops.sum(counted), 1.0)


def causal_lm(logits, labels):
    """Cross entropy of each next token: logits (..., length, vocabulary), labels (..., length)."""
    return cross_entropy(logits[..., :-1, :], labels[..., 1:])


def binary_cross_entropy(logits, labels, mask=None):
    """Mean binary cross entropy of logits against labels between 0 and 1, where the mask is 1 if there is one.

    All are of one shape.
    """
    losses = binary_cross_entropy_per_element(logits, ops.cast(labels, logits.dtype))
    if mask is None:
        return ops.mean(losses)
    counted = ops.cast(ops.equal(mask, 1), losses.dtype)
    return ops.sum(losses * counted) / ops.maximum(ops.sum(counted), 1.0)


def binary_cross_entropy_per_element(logits, labels):
    """Binary cross entropy of each logit against its label between 0 and 1."""
    return ops.maximum(logits, 0.0) - logits * labels + ops.softplus(-ops.abs(logits))


def mean_squared_error(predictions, labels):
    """Mean squared error of tensors of equal size."""
    return ops.mean(
        ops.square(ops.reshape(predictions, (-1,)) - ops.cast(ops.reshape(labels, (-1,)), predictions.dtype))
    )


def masked_pictures(pictures, reconstruction, mask, patch_size: int):
    """Mean absolute difference of the pixels of those patches that `mask` hid.

    Args:
        pictures, reconstruction: (batch, height, width, channels).
        mask: (batch, patches), row by row.
    """
    rows, columns = (size // patch_size for size in ops.shape(pictures)[1:3])
    mask = ops.cast(ops.reshape(mask, (-1, rows, columns, 1)), pictures.dtype)
    mask = ops.repeat(ops.repeat(mask, patch_size, axis=1), patch_size, axis=2)
    return ops.sum(ops.abs(pictures - reconstruction) * mask) / (ops.sum(mask) + 1e-5) / pictures.shape[-1]


def sequence_classification(logits, labels, config):
    """What `config.problem_type` says: regression, single_label_classification or multi_label_classification.

    Unset, it follows from the labels: one output is a regression, integer labels are classes, others are multi-label.

    Args:
        logits: (batch, labels).
        labels: (batch,) classes, (batch,) or (batch, labels) numbers for a regression, (batch, labels) for multi-label.
    """
    kind = config.problem_type
    if kind is None and config.num_labels == 1:
        kind = "regression"
    elif kind is None:
        several = len(labels.shape) == 2 and labels.shape[-1] == config.num_labels
        classes = keras.backend.is_int_dtype(labels.dtype) and not several
        kind = "single_label_classification" if classes else "multi_label_classification"
    if kind == "regression":
        return mean_squared_error(logits, labels)
    if kind == "single_label_classification":
        return cross_entropy(logits, ops.reshape(labels, (-1,)))
    if kind == "multi_label_classification":
        return binary_cross_entropy(logits, labels)
    raise ValueError(
        f"Unknown problem_type {kind!r} in the configuration: use 'regression', 'single_label_classification' "
        "or 'multi_label_classification'."
    )


def semantic_segmentation(logits, labels, ignore: int):
    """Mean cross entropy of the classes of pixels; with a single class, binary cross entropy.

    Args:
        logits: (batch, height / n, width / n, classes), resized to the labels.
        labels: (batch, height, width).
        ignore: the label of pixels that do not count; in the mean of the binary cross entropy they do, as zeros.

    Raises:
        ValueError: the labels have no height and width.
    """
    if len(labels.shape) != 3:
        raise ValueError(f"labels has the shape {tuple(labels.shape)}, but must be (batch, height, width), by pixel.")
    logits = at_labels(logits, labels)
    if logits.shape[-1] > 1:
        return cross_entropy(logits, labels, ignore)
    counted = ops.cast(ops.logical_and(labels >= 0, labels != ignore), logits.dtype)
    losses = binary_cross_entropy_per_element(ops.squeeze(logits, -1), ops.cast(labels, logits.dtype))
    return ops.mean(losses * counted)


def at_labels(logits, labels):
    """Logits (batch, h, w, classes) resized to the pixels of labels (batch, height, width); others as they are."""
    if len(logits.shape) != 4 or len(labels.shape) != 3:
        return logits
    return nn.resize(logits, ops.shape(labels)[1:3])


def question_answering(start_logits, end_logits, start_positions, end_positions):
    """Mean cross entropy of the two ends of an answer; positions behind the text do not count.

    Args:
        start_logits, end_logits: (batch, length).
        start_positions, end_positions: (batch,) or (batch, 1) token positions.
    """
    length = ops.shape(start_logits)[1]
    start, end = (ops.clip(ops.reshape(each, (-1,)), 0, length) for each in (start_positions, end_positions))
    return (cross_entropy(start_logits, start, ignore=length) + cross_entropy(end_logits, end, ignore=length)) / 2


def ctc(logits, labels, lengths, blank: int, reduction: str = "sum", zero_infinity: bool = False):
    """Connectionist temporal classification (https://doi.org/10.1145/1143844.1143891), as PyTorch computes it.

    Args:
        logits: (batch, frames, classes).
        labels: (batch, length), integers; negative ones do not count, wherever they are.
        lengths: (batch,), how many frames are of each sound, or None for all of them.
        blank: the class of frames that stand for no label.
        reduction: "sum", or "mean" of the losses per label.
        zero_infinity: let sounds that are too short for their labels count as nothing, not as infinitely wrong.

    Raises:
        ValueError: another reduction.
    """
    if reduction not in ("sum", "mean"):
        raise ValueError(f"Unknown ctc_loss_reduction {reduction!r} in the configuration: use 'sum' or 'mean'.")
    labels = ops.cast(labels, "int32")
    (batch, frames), size = ops.shape(logits)[:2], ops.shape(labels)[1]
    lengths = ops.full((batch,), frames, "int32") if lengths is None else ops.cast(lengths, "int32")
    counted = labels >= 0
    places = ops.arange(size)[None]
    labels = ops.take_along_axis(labels, ops.argsort(ops.where(counted, places, places + size), axis=1), axis=1)
    counts = ops.sum(ops.cast(counted, "int32"), axis=1)
    inside = places < counts[:, None]
    labels = ops.where(inside, labels, 0)
    again = ops.logical_and(labels[:, 1:] == labels[:, :-1], inside[:, 1:])  # needs a blank in between
    fits = lengths >= counts + ops.sum(ops.cast(again, "int32"), axis=1)
    exact = ops.cast(logits, "float32")
    found = ops.ctc_loss(labels, exact, ops.where(fits, counts, 0), ops.where(fits, lengths, 1), mask_index=blank)
    found = ops.where(fits, found, 0.0 if zero_infinity else math.inf)
    if reduction == "sum":
        return ops.sum(found)
    return ops.mean(found / ops.cast(ops.maximum(counts, 1), "float32"))


def contrastive(predictions, targets, negatives, counted, temperature: float):
    """The sum of cross entropies of telling each frame's target from those of other frames, by their angles.

    Args:
        predictions, targets: (batch, frames, size).
        negatives: (batch, frames, count), numbers of the other frames among those of the whole batch.
        counted: (batch, frames), 1 for frames that count.
    """
    predictions, targets = (ops.cast(each, "float32") for each in (predictions, targets))
    others = ops.take(ops.reshape(targets, (-1, targets.shape[-1])), negatives, axis=0)  # (batch, frames, count, size)
    same = ops.all(others == targets[:, :, None], axis=-1)
    right, wrong = cosine(predictions, targets), cosine(predictions[:, :, None], others)
    wrong = ops.where(same, -math.inf, wrong / temperature)
    scores = ops.concatenate([right[..., None] / temperature, wrong], axis=-1)
    return -ops.sum(ops.log_softmax(scores, axis=-1)[..., 0] * ops.cast(counted, "float32"))


def cosine(x, y, epsilon: float = 1e-8):
    """The cosine of the angle between vectors along the last axis."""
    lengths = [ops.sqrt(ops.sum(ops.square(each), axis=-1)) for each in (x, y)]
    return ops.sum(x * y, axis=-1) / (ops.maximum(lengths[0], epsilon) * ops.maximum(lengths[1], epsilon))
