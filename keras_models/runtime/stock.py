"""Leaves in keras.ops: what JAX and TensorFlow run. Compiled, they are as fast as hand-written ones."""

import math

from keras import ops

FEW = 32  # queries of a step of decoding


def linear(x, kernel, bias, activation):
    return finish(ops.matmul(x, kernel), bias, activation)


def finish(x, bias, activation):
    """What follows a product."""
    if bias is not None:
        x = ops.add(x, bias)
    return x if activation is None else activation(x)


def layer_norm(x, gamma, beta, epsilon):
    return ops.cast(ops.layer_normalization(x, gamma, beta, axis=-1, epsilon=epsilon), x.dtype)


def rms_norm(x, scale, epsilon):
    exact = ops.cast(x, "float32")
    exact = exact * ops.rsqrt(ops.mean(ops.square(exact), axis=-1, keepdims=True) + epsilon)
    return ops.cast(exact, x.dtype) * ops.cast(scale, x.dtype)


def reshape(x, shape):
    return ops.reshape(x, shape)


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
