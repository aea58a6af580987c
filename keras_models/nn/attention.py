"""Attention, and what there is to do around it."""

from __future__ import annotations

from typing import Any

import keras
import ml_dtypes
from keras import ops

from keras_models import runtime
from keras_models.nn.observe import record, recording


def split_heads(x, heads: int):
    """(batch, length, heads * size) -> (batch, heads, length, size)."""
    batch, length = ops.shape(x)[:2]
    return ops.transpose(runtime.reshape(x, (batch, length, heads, x.shape[-1] // heads)), (0, 2, 1, 3))


def merge_heads(x):
    """(batch, heads, length, size) -> (batch, length, heads * size)."""
    batch, _, length, _ = ops.shape(x)
    return runtime.reshape(ops.transpose(x, (0, 2, 1, 3)), (batch, length, x.shape[1] * x.shape[3]))


def attend(query, key, value, bias=None, scale: float | None = None, dropout=None, record_as: str = "attentions"):
    """Scaled dot-product attention.

    Args:
        query: (batch, heads, queries, size).
        key, value: (batch, heads, keys, size); with fewer heads, each serves a group of the query's.
        bias: added to the scaled scores, broadcastable to (batch, heads, queries, keys): masks, relative positions.
        scale: of the scores; 1 / sqrt(size) by default.
        dropout: layer applied to the probabilities in training.
        record_as: the output that collects the probabilities when the caller asks for attentions.

    Returns:
        (batch, heads, queries, size).
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    heads, groups = query.shape[1], query.shape[1] // key.shape[1]
    folded = groups > 1 and query.shape[2] == 1  # one query a head: those of a group become the queries of its key head
    if folded:
        query = runtime.reshape(query, (-1, key.shape[1], groups, query.shape[3]))
    elif groups > 1:
        key, value = ops.repeat(key, groups, axis=1), ops.repeat(value, groups, axis=1)
    if runtime.calls_are_bare() and not recording(record_as):
        x = runtime.attention(query, key, value, bias, scale)
    else:
        scores = ops.matmul(query * scale, ops.transpose(key, (0, 1, 3, 2)))  # (batch, heads, queries, keys)
        if bias is not None:
            scores = scores + ops.cast(bias, scores.dtype)
        probabilities = ops.softmax(scores, axis=-1)
        record(record_as, ops.reshape(probabilities, (-1, heads, 1, key.shape[2])) if folded else probabilities)
        if dropout is not None:
            probabilities = dropout(probabilities)
        x = ops.matmul(probabilities, value)
    return runtime.reshape(x, (-1, heads, 1, value.shape[3])) if folded else x


def attention_bias(x, mask=None, causal: bool = False, cache=None, window: int | None = None):
    """What attention to a sequence adds to its scores: 0 where it may look, the type's lowest number where it may not.

    Args:
        x: (batch, queries, features); without a cache also what is attended to.
        mask: ones and zeros; (batch, keys), (batch, queries, keys) or (batch, heads or 1, queries, keys).
        causal: no position sees what comes after it.
        cache: the `Cache` that layers are about to extend by x: what is attended to.
        window: a position sees so many, itself included, and no earlier ones.

    Returns:
        None if everything may be seen, else broadcastable to (batch, heads, queries, keys).
    """
    dtype = keras.backend.standardize_dtype(x.dtype)
    queries = ops.shape(x)[1]
    past, keys = (0, queries) if cache is None else (cache.length, cache.reserve(queries))
    allowed = None
    if mask is not None:
        axes = {2: (1, 2), 3: (1,), 4: ()}[len(mask.shape)]
        allowed = ops.cast(ops.expand_dims(mask, axes) if axes else mask, "bool")
        if cache is not None and allowed.shape[-1] != keys:
            allowed = _fit(allowed, keys)
    # The only query may see all keys where there are none after it and no window.
    alone = x.shape[1] == 1 and window is None and (cache is None or runtime.CACHE_IN_PLACE)
    if causal and not alone and (mask is None or len(mask.shape) == 2):
        steps, positions = ops.arange(keys)[None, :], ops.arange(queries)[:, None] + past
        past_only = steps <= positions
        if window is not None:
            past_only = ops.logical_and(past_only, steps > positions - window)
        past_only = past_only[None, None]
        allowed = past_only if allowed is None else ops.logical_and(allowed, past_only)
    return None if allowed is None else ops.where(allowed, ops.cast(0.0, dtype), ops.cast(lowest(dtype), dtype))


def _fit(mask, keys):
    """A mask cut, or filled up with zeros, to the number of keys."""
    mask = mask[..., :keys]
    return ops.pad(mask, [(0, 0)] * (len(mask.shape) - 1) + [(0, keys - mask.shape[-1])])


def positions(x, cache=None):
    """The places of x (batch, length, ...) in its sequence, (1, length): 0, 1, 2 ..., after what the cache holds."""
    return ops.arange(ops.shape(x)[1])[None] + (0 if cache is None else cache.length)


def kept(x, logits_to_keep=None):
    """The states that logits are wanted for: the last `logits_to_keep`, those at its indices, or all (None or 0)."""
    if logits_to_keep is None or (isinstance(logits_to_keep, int) and logits_to_keep == 0):
        return x
    return x[:, -logits_to_keep:] if isinstance(logits_to_keep, int) else ops.take(x, logits_to_keep, axis=1)


def last_token(x, input_ids=None, pad_token_id: int | None = None):
    """The states of the last token of each text that is no padding: (batch, length, size) -> (batch, size).

    Without a padding token, or without ids, that is the last one. A batch without a padding token is an error.
    """
    if pad_token_id is None and x.shape[0] not in (1, None):
        raise ValueError(
            "Several texts in a batch need a padding token to tell their ends: set config.pad_token_id, "
            "e.g. to the tokenizer's."
        )
    if pad_token_id is None or input_ids is None:
        return x[:, -1]
    places = ops.arange(ops.shape(input_ids)[1]) * ops.cast(input_ids != pad_token_id, "int32")
    return ops.squeeze(ops.take_along_axis(x, ops.argmax(places, axis=1)[:, None, None], axis=1), 1)


def flatten_choices(inputs: dict) -> tuple[dict, Any]:
    """Inputs of (batch, choices, ...) as (batch * choices, ...), and the number of choices."""
    first = next(iter(inputs.values()))
    flat = {name: ops.reshape(x, (-1, *ops.shape(x)[2:])) for name, x in inputs.items()}
    return flat, ops.shape(first)[1]


def lowest(dtype: str) -> float:
    """The lowest finite number of a floating point type."""
    return float(ml_dtypes.finfo(keras.backend.standardize_dtype(dtype)).min)
