"""What differs between the backends: the one place where jax, torch or tensorflow is imported.

`jax.py`, `torch.py` and `tensorflow.py` offer the same functions; this module offers those of the active backend,
and what they share.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any

import keras
import optree

from keras_models.outputs import ModelOutput

_backend = import_module(f"keras_models.runtime.{keras.config.backend()}")

# Leaves of a forward pass: (inputs, parameters as Keras variables ...) -> tensor.
linear: Callable = _backend.linear  # (x, kernel, bias or None, activation or None), kernel (in, out)
table_product: Callable = _backend.table_product  # (x, table of rows) -> products of x with each row
layer_norm: Callable = _backend.layer_norm  # (x, gamma, beta, epsilon), over the last axis
rms_norm: Callable = _backend.rms_norm  # (x, scale, epsilon), over the last axis, normalised in float32
embedding: Callable = _backend.embedding  # (table, ids)
gelu: Callable = _backend.gelu  # x -> the exact gelu of x
reshape: Callable = _backend.reshape  # (x, shape)
attention: Callable = _backend.attention  # (query, key, value, bias or None, scale), fused; see nn.attend
conv2d: Callable = (
    _backend.conv2d
)  # (x, kernel, bias, strides, pads, dilation, groups, activation, residual), three may be None; see nn.convolve
conv1d: Callable = (
    _backend.conv1d
)  # (x, kernel, bias or None, stride, pads, dilation, groups, activation or None), (batch, length, channels)
frames: Callable = _backend.frames  # (x, size, stride) -> overlapping pieces of (batch, length, channels), flat
max_pool: Callable = _backend.max_pool  # (x, size, strides, pads) -> the largest of each window, channels last
resize: Callable = _backend.resize  # (x, (height, width), method, align_corners), channels last; see nn.resize
host_call: Callable = (
    _backend.host_call
)  # (function of arrays, [(shape, dtype)], *tensors) -> tensors, without gradients
HOST_CALLS_COMPILE: bool = _backend.HOST_CALLS_COMPILE  # whether host_call may stand inside what XLA compiles

# Memory and calls.
adopt: Callable = (
    _backend.adopt
)  # (stored tensor, axes or None, variable) -> a value for a variable, with the fewest copies
compile_forward: Callable = _backend.compile_forward  # (model, function of a dictionary of tensors) -> compiled
PAD_LENGTHS: bool = _backend.PAD_LENGTHS  # whether every new shape compiles anew, so that lengths go in buckets

# Generation. Caches are (batch, heads, capacity, size).
CACHE_IN_PLACE: bool = _backend.CACHE_IN_PLACE  # whether a cache is written in place and read as far as it is filled
cache_empty: Callable = _backend.cache_empty  # (keys or values, capacity) -> zeros like them, with that many positions
cache_write: Callable = _backend.cache_write  # (cache, keys or values, start) -> the cache with them written
cache_read: Callable = _backend.cache_read  # (cache, end) -> what a query attends to
cache_grow: Callable = _backend.cache_grow  # (cache, capacity) -> one with room for more
cache_pack: Callable = _backend.cache_pack  # cache -> the same memory in the form that a loop updates in place
cache_unpack: Callable = _backend.cache_unpack  # (what cache_pack gave, shape) -> cache
cache_rows: Callable = _backend.cache_rows  # (cache, rows, length) -> one with those rows
compile_program: Callable = (
    _backend.compile_program
)  # (model, function of structures of tensors, indices of arguments to reuse the memory of) -> the function, compiled
while_loop: Callable = _backend.while_loop  # (condition, body, state) -> state, inside a program
number: Callable = _backend.number  # an integer as programs take it: a scalar tensor where they are compiled
read_column: Callable = _backend.read_column  # ((..., columns), index) -> (...)
write_column: Callable = _backend.write_column  # ((..., columns), index, (...)) -> the former with a column replaced

output_spec: Callable = keras.src.backend.compute_output_spec  # (function, **KerasTensors) -> KerasTensors

optree.register_pytree_node(
    ModelOutput,
    lambda outputs: (tuple(outputs.values()), tuple(outputs), tuple(outputs)),
    lambda names, values: ModelOutput(zip(names, values, strict=True)),
    namespace="keras",
)


class _State(threading.local):
    bare_type: str | None = None


_state = _State()


@contextmanager
def bare_calls(dtype: str | None, is_mixed: bool = False) -> Iterator[None]:
    """Within it, nested layers are called without Keras' per-call bookkeeping, which plain inference has no use for.

    Args:
        dtype: what they compute in; layers with another one go Keras' way, as all do where it is None.
        is_mixed: whether variables are of another type, and to be read in this one.
    """
    before, _state.bare_type = _state.bare_type, dtype
    try:
        with keras.src.backend.AutocastScope(dtype) if dtype and is_mixed else nullcontext():
            yield
    finally:
        _state.bare_type = before


def bare_type() -> str | None:
    """The type that layers compute in, if this thread is within `bare_calls`."""
    return _state.bare_type


def calls_are_bare() -> bool:
    """Whether this thread is within `bare_calls`."""
    return _state.bare_type is not None


def in_keras_call() -> bool:
    """Whether a Keras layer is calling us: a user's own model around ours, which may be training."""
    return keras.src.backend.common.global_state.get_global_attribute("current_call_ctx") is not None


def is_symbolic(structure: Any) -> bool:
    """Whether any of the tensors stands for shape and dtype only (`keras.Input`, shape inference)."""
    in_scope = keras.src.backend.common.symbolic_scope.in_symbolic_scope()
    return in_scope or any(isinstance(leaf, keras.KerasTensor) for leaf in keras.tree.flatten(structure))
