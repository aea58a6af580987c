"""Leaves in keras.ops: what JAX and TensorFlow run. Compiled, they are as fast as hand-written ones."""

import math

from keras import ops

FEW = 32  # queries of a step of decoding
MANY = 1 << 20  # scores of a head, which are too many for a processor's cache
BLOCK = 256  # queries at a time where that is so
LOWEST = -3.0e38  # stands for no number where the largest is sought; bfloat16 holds it too


def linear(x, kernel, bias, activation):
    return finish(ops.matmul(x, kernel), bias, activation)


def finish(x, bias, activation, residual=None):
    """What follows a product."""
    if bias is not None:
        x = ops.add(x, bias)
    if residual is not None:
        x = ops.add(x, residual)
    return x if activation is None else activation(x)


def layer_norm(x, gamma, beta, epsilon):
    return ops.cast(ops.layer_normalization(x, gamma, beta, axis=-1, epsilon=epsilon), x.dtype)


def rms_norm(x, scale, epsilon):
    exact = ops.cast(x, "float32")
    exact = exact * ops.rsqrt(ops.mean(ops.square(exact), axis=-1, keepdims=True) + epsilon)
    return ops.cast(exact, x.dtype) * ops.cast(scale, x.dtype)


def gelu(x):
    return ops.gelu(x, approximate=False)


def reshape(x, shape):
    return ops.reshape(x, shape)


def frames(x, size, stride):
    """(batch, length, channels) -> (batch, frames, size * channels), a frame of `size` places at every stride."""
    batch, length, channels = ops.shape(x)
    count, whole = (length - size) // stride + 1, size // stride * stride
    starts = range(0, whole, stride)  # of as many places as lie between two frames, which are as they are in memory
    parts = [ops.reshape(x[:, at : at + count * stride], (batch, count, stride * channels)) for at in starts]
    parts += [x[:, at : at + (count - 1) * stride + 1 : stride] for at in range(whole, size)]
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)


def max_pool(x, size, strides, pads):
    if any(map(any, pads)):
        x = ops.pad(x, ((0, 0), *pads, (0, 0)), constant_values=LOWEST)
    return ops.max_pool(x, size, strides, padding="valid", data_format="channels_last")


def resize(x, size, method, align_corners):
    """One axis after the other: a weighted sum of a few neighbours for each new place."""
    for axis, new in zip((1, 2), size, strict=True):
        old = ops.shape(x)[axis]
        if not (isinstance(old, int) and isinstance(new, int) and old == new):
            x = _resize_axis(x, axis, old, new, method, align_corners)
    return x


def _resize_axis(x, axis, old, new, method, align_corners):
    places = ops.cast(ops.arange(new), "float32")
    scale = ops.cast(old, "float32") / ops.cast(new, "float32")
    if method == "nearest":
        return ops.take(x, ops.minimum(ops.cast(ops.floor(places * scale), "int32"), old - 1), axis=axis)
    if align_corners:
        places = places * (ops.cast(old - 1, "float32") / ops.cast(ops.maximum(new - 1, 1), "float32"))
    else:
        places = (places + 0.5) * scale - 0.5
        places = ops.maximum(places, 0.0) if method == "bilinear" else places
    first = ops.floor(places)
    weights = (_linear if method == "bilinear" else _cubic)(places - first)
    shape = [-1 if each == axis else 1 for each in range(len(x.shape))]
    total = None
    for offset, weight in weights.items():
        rows = ops.take(x, ops.clip(ops.cast(first, "int32") + offset, 0, old - 1), axis=axis)
        term = rows * ops.cast(ops.reshape(weight, shape), x.dtype)
        total = term if total is None else total + term
    return total


def _linear(distance):
    return {0: 1.0 - distance, 1: distance}


def _cubic(distance, sharpness=-0.75):
    """Keys' kernel (https://doi.org/10.1109/TASSP.1981.1163711), with PyTorch's parameter."""
    a = sharpness

    def near(d):
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d):
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return {-1: far(distance + 1), 0: near(distance), 1: near(1 - distance), 2: far(2 - distance)}


def embedding(table, ids):
    return ops.take(table, ids, axis=0)


def table_product(x, table):
    """(..., size) with the rows of a (count, size) table: (..., count)."""
    sizes = x.shape[:-1]
    rows = math.prod(sizes) if all(isinstance(each, int) for each in sizes) else None
    if rows is None or rows > FEW:
        return ops.matmul(x, ops.transpose(table))
    # XLA would copy the table to transpose it; a few rows of x cost nothing to transpose.
    flat = ops.matmul(table, ops.transpose(ops.reshape(x, (rows, x.shape[-1]))))
    return ops.reshape(ops.transpose(flat), (*x.shape[:-1], table.shape[0]))


def attention(query, key, value, bias, scale):
    if isinstance(query.shape[2], int) and query.shape[2] <= FEW:  # for the same reason
        scores = ops.swapaxes(ops.matmul(key, ops.swapaxes(query * scale, 2, 3)), 2, 3)
    else:
        scores = ops.matmul(query * scale, ops.swapaxes(key, 2, 3))  # (batch, heads, queries, keys)
    if bias is not None:
        scores = scores + bias
    return ops.matmul(ops.softmax(scores, axis=-1), value)


def attention_in_blocks(query, key, value, bias, scale):
    """`attention`, to long sequences for a few queries at a time: their scores need not go through memory.

    For processors alone: others compute as much at once as they can.
    """
    queries, keys = query.shape[2], key.shape[2]
    known = isinstance(queries, int) and isinstance(keys, int)
    block = next((each for each in range(BLOCK, BLOCK // 4, -1) if queries % each == 0), None) if known else None
    if bias is not None or block is None or queries * keys < MANY:
        return attention(query, key, value, bias, scale)
    batch, heads, _, size = query.shape
    blocks = ops.reshape(query * scale, (batch, heads, queries // block, block, size))
    turned = ops.swapaxes(key, 2, 3)

    def attend(query):
        scores = ops.matmul(query, turned)
        weights = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
        return ops.matmul(weights, value) / ops.sum(weights, axis=-1, keepdims=True)

    found = ops.map(attend, ops.transpose(blocks, (2, 0, 1, 3, 4)))
    return ops.reshape(ops.transpose(found, (1, 2, 0, 3, 4)), (batch, heads, queries, value.shape[3]))


def cache_read(cache, end):
    """All positions: shapes are fixed, and what is not filled yet is masked."""
    return cache


def cache_pack(cache):
    """A cache without a batch or heads of one, as XLA multiplies it, so that it need not reshape what is just updated.

    It would fuse the reshaping with the update, do the update twice, and copy the whole cache for that.
    """
    return ops.reshape(cache, (*[each for each in cache.shape[:2] if each != 1], *cache.shape[2:]))


def cache_unpack(packed, shape):
    return ops.reshape(packed, shape)


def cache_grow(cache, capacity):
    return ops.pad(cache, [(0, 0), (0, 0), (0, capacity - cache.shape[2]), (0, 0)])


def cache_rows(cache, rows, length):
    return ops.take(cache, rows, axis=0)
