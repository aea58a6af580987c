"""The JAX backend: forward passes are jit-compiled with the parameters passed in, lengths go in buckets."""

from __future__ import annotations

import functools
import math
import os

import jax
import jax.numpy as jnp
import keras
import numpy as np

from keras_models.outputs import ModelOutput
from keras_models.runtime import stock
from keras_models.runtime.stock import (
    cache_grow,
    cache_pack,
    cache_read,
    cache_rows,
    cache_unpack,
    embedding,
    frames,
    layer_norm,
    reshape,
    resize,
    rms_norm,
)

__all__ = [
    "CACHE_IN_PLACE", "HOST_CALLS_COMPILE", "PAD_LENGTHS", "adopt", "attention", "cache_empty", "cache_grow",
    "cache_pack", "cache_read", "cache_rows", "cache_unpack", "cache_write", "compile_forward", "compile_program",
    "conv1d", "conv2d", "embedding", "frames", "gelu", "host_call", "layer_norm", "linear", "max_pool", "number",
    "read_column", "reshape", "resize", "rms_norm", "table_product", "while_loop", "write_column",
]  # fmt: skip

PAD_LENGTHS = True
CACHE_IN_PLACE = False
HOST_CALLS_COMPILE = True

# What takes long to compile is kept for the next process, unless the user has chosen a place, or set
# JAX_ENABLE_COMPILATION_CACHE=0.
if jax.config.jax_compilation_cache_dir is None:
    _caches = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    jax.config.update("jax_compilation_cache_dir", os.path.join(_caches, "keras_models", "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

jax.tree_util.register_pytree_node(
    ModelOutput,
    lambda outputs: (tuple(outputs.values()), tuple(outputs)),
    lambda names, values: ModelOutput(zip(names, values, strict=True)),
)


def gelu(x):
    """By the error function, as PyTorch does; JAX's own takes its complement, which costs several times as much."""
    if x.dtype != jnp.float32:
        return stock.gelu(x)
    return 0.5 * x * (1.0 + jax.lax.erf(x * math.sqrt(0.5)))


def linear(x, kernel, bias, activation):
    """`stock.linear`; on a CPU bfloat16 is multiplied such that XLA need not make a 32-bit copy of the kernel."""
    if _is_short(x):
        product = _short_product(x, kernel, axis=0)
        return stock.finish(product, bias, activation)
    return stock.linear(x, kernel, bias, activation)


def table_product(x, table):
    """`stock.table_product`, bfloat16 as in `linear`."""
    if _is_short(x):
        return _short_product(x, table, axis=1)
    return stock.table_product(x, table)


def _is_short(x):
    return x.dtype == jnp.bfloat16 and _is_on_cpu(x)


def _is_on_cpu(x):
    known = all(isinstance(size, int) for size in x.shape)  # in shape inference they are symbols
    return known and jax.default_backend() == "cpu"


def _short_product(x, weights, axis):
    """Sums over the last axis of x and an axis of weights, in x's type."""
    rows = x.reshape(-1, x.shape[-1])
    rows = jnp.concatenate([rows, rows]) if rows.shape[0] == 1 else rows  # XLA's fast routine is not for a single one
    sums = jax.lax.dot_general(
        rows, jnp.asarray(weights), (((1,), (axis,)), ((), ())), preferred_element_type="float32"
    )
    rows = math.prod(x.shape[:-1])
    return sums[:rows].reshape(*x.shape[:-1], sums.shape[-1]).astype(x.dtype)


def attention(query, key, value, bias, scale):
    """`stock.attention`, in blocks on a CPU."""
    return (stock.attention_in_blocks if _is_on_cpu(query) else stock.attention)(query, key, value, bias, scale)


def conv2d(x, kernel, bias, strides, pads, dilation, groups, activation=None, residual=None):
    """A convolution; XLA's CPU is much faster at those over single pixels, or channels, if they are written out."""
    kernel = jnp.asarray(kernel, x.dtype)
    if kernel.shape[:2] == (1, 1) and groups == 1 and not any(map(any, pads)):
        x = jnp.matmul(x[:, :: strides[0], :: strides[1]], kernel[0, 0])
    elif _cuts_patches(x, kernel, strides, pads, dilation, groups):
        x = _patches(x, kernel)
    elif groups == x.shape[3] == kernel.shape[3] and groups > 1 and _is_on_cpu(x):
        x = _depthwise(x, kernel[:, :, 0], strides, pads, dilation)
    else:
        x = jax.lax.conv_general_dilated(
            x, kernel, strides, pads, rhs_dilation=dilation, feature_group_count=groups,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
    return stock.finish(x, None if bias is None else jnp.asarray(bias, x.dtype), activation, residual)


def _cuts_patches(x, kernel, strides, pads, dilation, groups):
    """Whether windows neither overlap nor leave gaps, and are so large that a product is the faster way."""
    size = kernel.shape[:2]
    is_plain = groups == 1 and not any(map(any, pads)) and max(dilation) == 1
    return size == tuple(strides) and min(size) >= 8 and is_plain and _is_on_cpu(x)


def _patches(x, kernel):
    """A convolution that cuts patches: the product of these with the kernel."""
    height, width, channels, filters = kernel.shape
    rows, columns = x.shape[1] // height, x.shape[2] // width
    x = x[:, : rows * height, : columns * width].reshape(-1, rows, height, columns, width, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, rows, columns, height * width * channels)
    return jnp.matmul(x, kernel.reshape(-1, filters))


def conv1d(x, kernel, bias, stride, pads, dilation, groups, activation=None):
    """A convolution of one axis, at which XLA is faster than at pictures of one row."""
    kernel = jnp.asarray(kernel, x.dtype)
    if kernel.shape[0] == 1 and groups == 1 and not any(pads):
        x = jnp.matmul(x[:, ::stride], kernel[0])
    else:
        x = jax.lax.conv_general_dilated(
            x, kernel, (stride,), (pads,), rhs_dilation=(dilation,), feature_group_count=groups,
            dimension_numbers=("NHC", "HIO", "NHC"),
        )  # fmt: skip
    return stock.finish(x, None if bias is None else jnp.asarray(bias, x.dtype), activation)


@functools.partial(jax.jit, static_argnames=("strides", "pads", "dilation"))
def _depthwise(x, kernel, strides, pads, dilation):
    """The sum of shifted pictures, each times a row (channels) of the kernel (height, width, channels)."""
    # A barrier, or XLA might compute what comes before it anew for each shift.
    x = jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), *pads, (0, 0))))
    spans = [
        (full - step * (size - 1) - 1) // stride * stride + 1
        for full, step, size, stride in zip(x.shape[1:3], dilation, kernel.shape, strides, strict=False)
    ]
    exact = jnp.promote_types(x.dtype, "float32")
    total = 0.0
    for row in range(kernel.shape[0]):
        for column in range(kernel.shape[1]):
            top, left = row * dilation[0], column * dilation[1]
            shifted = x[:, top : top + spans[0] : strides[0], left : left + spans[1] : strides[1]]
            total = total + shifted.astype(exact) * kernel[row, column].astype(exact)
    return total.astype(x.dtype)


def max_pool(x, size, strides, pads):
    """The largest number of each window; what is added at borders is never it."""
    window = (1, *size, 1), (1, *strides, 1), ((0, 0), *pads, (0, 0))
    return jax.lax.reduce_window(x, np.asarray(-np.inf, x.dtype), jax.lax.max, *window)


def host_call(function, results, *tensors):
    """`function` of NumPy arrays, run by Python in the middle of a compiled program; no gradients flow through it."""
    kinds = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in results]
    tensors = [jax.lax.stop_gradient(each) for each in tensors]
    return jax.pure_callback(lambda *arrays: function(*map(np.asarray, arrays)), kinds, *tensors)


def adopt(tensor, axes, variable):
    """One aligned copy of a stored tensor, which JAX then uses in place."""
    return jax.device_put(tensor.read(dtype=variable.dtype, axes=axes))


def compile_forward(model, call):
    """`call`, a function of a dictionary of tensors, as one compiled program per input shape."""
    variables = model.variables

    @jax.jit
    def forward(values, inputs):
        with keras.StatelessScope(zip(variables, values, strict=True)):
            return call(inputs)

    return lambda inputs: forward([variable.value for variable in variables], inputs)


def compile_program(model, function, donated=()):
    """`function` of structures of tensors as a compiled program per shapes; parameters of the model are passed in."""
    variables = model.variables
    donated = tuple(index + 1 for index in donated)

    @functools.partial(jax.jit, donate_argnums=donated)
    def program(values, *arguments):
        with keras.StatelessScope(zip(variables, values, strict=True)):
            return function(*arguments)

    return lambda *arguments: program([variable.value for variable in variables], *arguments)


def while_loop(condition, body, state):
    """`body` again and again, as long as the condition holds, inside a compiled program."""
    return jax.lax.while_loop(condition, body, state)


def write_column(array, index, column):
    """`array` (..., columns) with the column at `index` replaced."""
    return jax.lax.dynamic_update_slice_in_dim(array, column[..., None].astype(array.dtype), index, axis=-1)


def cache_write(cache, update, start):
    """The cache with `update` from position `start` on, in the same memory where XLA may."""
    packed, update = cache_pack(cache), cache_pack(update.astype(cache.dtype))
    return jax.lax.dynamic_update_slice_in_dim(packed, update, start, axis=packed.ndim - 2).reshape(cache.shape)


def cache_empty(like, capacity):
    """Zeros for (batch, heads, capacity, size)."""
    return jnp.zeros((*like.shape[:2], capacity, like.shape[3]), like.dtype)


def number(value):
    """A scalar, so that another value does not compile anew."""
    return jnp.asarray(value, "int32")


def read_column(array, index):
    """The column of `array` (..., columns) at `index`."""
    return jax.lax.dynamic_index_in_dim(array, index, axis=-1, keepdims=False)
