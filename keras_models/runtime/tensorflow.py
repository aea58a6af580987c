"""The TensorFlow backend: forward passes are graphs with free lengths, so one graph serves all of them."""

from __future__ import annotations

from functools import lru_cache

import tensorflow as tf
from keras import ops
from tensorflow.compiler.tf2xla.python import xla

from keras_models.runtime import stock
from keras_models.runtime.stock import (
    cache_grow,
    cache_pack,
    cache_read,
    cache_rows,
    cache_unpack,
    embedding,
    finish,
    gelu,
    layer_norm,
    max_pool,
    reshape,
    resize,
    rms_norm,
    table_product,
)

__all__ = [
    "CACHE_IN_PLACE", "HOST_CALLS_COMPILE", "PAD_LENGTHS", "adopt", "attention", "cache_empty", "cache_grow",
    "cache_pack", "cache_read", "cache_rows", "cache_unpack", "cache_write", "compile_forward", "compile_program",
    "conv1d", "conv2d", "embedding", "frames", "gelu", "host_call", "layer_norm", "linear", "max_pool", "number",
    "read_column", "reshape", "resize", "rms_norm", "table_product", "while_loop", "write_column",
]  # fmt: skip

PAD_LENGTHS = False
CACHE_IN_PLACE = False
HOST_CALLS_COMPILE = False


def attention(query, key, value, bias, scale):
    """`stock.attention`, in blocks on a CPU."""
    in_blocks = query.shape.is_fully_defined() and not _has_gpu()
    return (stock.attention_in_blocks if in_blocks else stock.attention)(query, key, value, bias, scale)


@lru_cache
def _has_gpu():
    return bool(tf.config.list_logical_devices("GPU"))


def conv2d(x, kernel, bias, strides, pads, dilation, groups, activation=None, residual=None):
    """A convolution; with a group per channel it is TensorFlow's depthwise one, which has gradients on a CPU."""
    kernel = tf.cast(tf.convert_to_tensor(kernel), x.dtype)
    if groups > 1 and groups == x.shape[-1]:
        x = tf.pad(x, ((0, 0), *pads, (0, 0))) if any(map(any, pads)) else x
        kernel = tf.reshape(kernel, (*kernel.shape[:2], groups, kernel.shape[3] // groups))
        x = tf.nn.depthwise_conv2d(x, kernel, (1, *strides, 1), "VALID", dilations=dilation)
    elif groups > 1:
        parts = zip(tf.split(x, groups, axis=-1), tf.split(kernel, groups, axis=-1), strict=True)
        x = tf.concat([conv2d(part, own, None, strides, pads, dilation, 1) for part, own in parts], axis=-1)
    else:
        x = tf.nn.conv2d(x, kernel, strides, ((0, 0), *pads, (0, 0)), dilations=dilation)
    x = x if bias is None else tf.nn.bias_add(x, tf.cast(bias, x.dtype))
    return finish(x, None, activation, residual)


def linear(x, kernel, bias, activation):
    """A product of two matrices, since only with them TensorFlow unites what follows, even the exact gelu."""
    kernel = ops.convert_to_tensor(kernel)
    rows = x if len(x.shape) == 2 else ops.reshape(x, (-1, kernel.shape[0]))
    rows = ops.matmul(rows, kernel)
    rows = rows if bias is None else tf.nn.bias_add(rows, tf.cast(bias, rows.dtype))
    rows = rows if activation is None else activation(rows)
    return rows if len(x.shape) == 2 else ops.reshape(rows, (*ops.shape(x)[:-1], kernel.shape[1]))


def frames(x, size, stride, dilation=1):
    """(batch, length, channels) -> (batch, frames, size * channels), a frame of `size` places at every stride."""
    batch, length, channels = ops.shape(x)
    count = (length - (size - 1) * dilation - 1) // stride + 1
    places = tf.range(count)[:, None] * stride + tf.range(0, size * dilation, dilation)
    return ops.reshape(tf.gather(x, places, axis=1), (batch, count, size * channels))


def conv1d(x, kernel, bias, stride, pads, dilation, groups, activation=None):
    """A convolution; with strides it is a product of overlapping frames, which is faster, activation and all.

    So it is with dilation, for which a CPU has no gradients otherwise.
    """
    if groups == 1 and (stride > 1 or dilation > 1):
        x = tf.pad(x, ((0, 0), pads, (0, 0))) if any(pads) else x
        kernel = tf.convert_to_tensor(kernel)
        flat = tf.cast(tf.reshape(kernel, (-1, kernel.shape[2])), x.dtype)
        return linear(frames(x, kernel.shape[0], stride, dilation), flat, bias, activation)
    x, kernel = x[:, None], tf.convert_to_tensor(kernel)[None]
    return conv2d(x, kernel, bias, (1, stride), ((0, 0), pads), (1, dilation), groups, activation)[:, 0]


def host_call(function, results, *tensors):
    """`function` of NumPy arrays, run by Python in the middle of a graph; no gradients flow through it."""
    found = tf.numpy_function(function, [tf.stop_gradient(each) for each in tensors], [dtype for _, dtype in results])
    found = found if isinstance(found, list) else [found]  # what it makes of a list of one, but not in graphs
    return [tf.ensure_shape(each, shape) for each, (shape, _) in zip(found, results, strict=True)]


def adopt(tensor, axes, variable):
    """One aligned copy of a stored tensor, which TensorFlow then uses in place."""
    array = tensor.read(dtype=variable.dtype, axes=axes)
    if array.dtype.isbuiltin == 1 and array.size:
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())  # tf.convert_to_tensor would copy
    return tf.convert_to_tensor(array)  # bfloat16 and its like, which NumPy cannot hand over


def compile_forward(model, call):
    """`call`, a function of a dictionary of tensors, as a graph, traced anew only for new ranks."""

    @tf.function(reduce_retracing=True, autograph=False)
    def forward(inputs):
        return call(inputs)

    return forward


def compile_program(model, function, donated=()):
    """`function` of structures of tensors as an XLA program per shapes."""
    return tf.function(function, jit_compile=True, autograph=False)


def while_loop(condition, body, state):
    """`body` again and again, as long as the condition holds, inside a compiled program."""
    flat = tf.nest.flatten(state)

    def step(*leaves):
        return tf.nest.flatten(body(tf.nest.pack_sequence_as(state, leaves)))

    def going(*leaves):
        return condition(tf.nest.pack_sequence_as(state, leaves))

    return tf.nest.pack_sequence_as(state, tf.while_loop(going, step, flat))


def write_column(array, index, column):
    """`array` (..., columns) with the column at `index` replaced."""
    return _write(array, tf.cast(column[..., None], array.dtype), index, axis=len(array.shape) - 1)


def cache_write(cache, update, start):
    """The cache with `update` from position `start` on, in the same memory where XLA may."""
    packed, update = cache_pack(cache), cache_pack(tf.cast(update, cache.dtype))
    return tf.reshape(_write(packed, update, start, axis=len(packed.shape) - 2), cache.shape)


def cache_empty(like, capacity):
    """Zeros for (batch, heads, capacity, size)."""
    return tf.zeros((*like.shape[:2], capacity, like.shape[3]), like.dtype)


def _write(array, update, start, axis):
    if tf.executing_eagerly():  # the operation below is XLA's
        before, after = [slice(None)] * axis, [slice(None)] * axis
        parts = array[(*before, slice(0, start))], update, array[(*after, slice(start + update.shape[axis], None))]
        return tf.concat(parts, axis)
    starts = [0] * len(array.shape)
    starts[axis] = start
    return xla.dynamic_update_slice(array, update, tf.stack([tf.cast(each, tf.int32) for each in starts]))


def number(value):
    """A scalar, so that another value does not compile anew."""
    return tf.constant(value, "int32")


def read_column(array, index):
    """The column of `array` (..., columns) at `index`."""
    return tf.gather(array, index, axis=-1)
