"""The cache of keys and values that lets a decoder compute only what is new."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_models import runtime

STEP = 64  # how many positions a cache grows by, at least


def bucket(length: int) -> int:
    """The number of positions to make room for where `length` are needed: one of few sizes."""
    if length <= 4 * STEP:
        return -(-length // STEP) * STEP
    step = 1 << ((length - 1).bit_length() - 2)  # a quarter to a half of the length
    return -(-length // step) * step


class Cache:
    """Keys and values of past positions, layer by layer, in memory that is allocated in advance.

    A layer's keys and values are (batch, key-value heads, capacity, size), of which the first `length` positions are
    filled. PyTorch writes them in place and attends to the filled part; compiled programs of JAX and TensorFlow attend
    to all of them and mask the rest. Attention to an encoder's states keeps its keys and values in `source`.

    Pass one as `past_key_values` to a decoder; each call appends the positions that it is given.

    Args:
        capacity: positions to make room for; it grows as needed.
    """

    def __init__(self, capacity: int = 0):
        self.capacity = capacity
        self.length: Any = 0  # positions filled: an integer, or a scalar tensor within a compiled program
        self.keys: list[Any] = []
        self.values: list[Any] = []
        self.source: list[tuple[Any, Any]] = []
        self._pending: Any = 0

    def get_seq_length(self) -> Any:
        """The number of positions filled."""
        return self.length

    # For model files.

    def reserve(self, count: Any) -> Any:
        """Makes room for `count` new positions; returns how many keys a query will find, those unfilled included."""
        self._pending = count
        if isinstance(self.length, int) and self.length + count > self.capacity:
            self.grow(bucket(self.length + count))
        return self.length + count if runtime.CACHE_IN_PLACE else self.capacity

    def extend(self, layer: int, keys: Any, values: Any) -> tuple[Any, Any]:
        """Appends the keys and values of a layer, (batch, heads, new, size); returns all there are by now."""
        if layer == len(self.keys):
            self.keys.append(runtime.cache_empty(keys, self.capacity))
            self.values.append(runtime.cache_empty(values, self.capacity))
        elif layer > len(self.keys):
            raise ValueError(f"Layer {layer} extends a cache of {len(self.keys)} layers: layers come in order.")
        self.keys[layer] = runtime.cache_write(self.keys[layer], keys, self.length)
        self.values[layer] = runtime.cache_write(self.values[layer], values, self.length)
        end = self.length + self._pending
        return runtime.cache_read(self.keys[layer], end), runtime.cache_read(self.values[layer], end)

    def from_source(self, layer: int, compute: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
        """The keys and values of an encoder's states for a layer, computed at the first call."""
        if layer == len(self.source):
            self.source.append(compute())
        return self.source[layer]

    def advance(self):
        """Counts the positions of the call that has just ended as filled."""
        self.length, self._pending = self.length + self._pending, 0

    # For those who decode.

    def grow(self, capacity: int):
        """Makes room for more positions; what is there is kept."""
        self.capacity = capacity
        self.keys = [runtime.cache_grow(each, capacity) for each in self.keys]
        self.values = [runtime.cache_grow(each, capacity) for each in self.values]

    def crop(self, length: int):
        """Forgets all positions from `length` on."""
        self.length = length

    def repeat(self, times: int) -> Cache:
        """This cache with every row of the batch repeated, for several continuations of each."""
        rows = ops.repeat(ops.arange(self.keys[0].shape[0], dtype="int32"), times)
        return self.reorder(rows, sources=True)

    def reorder(self, rows: Any, sources: bool = False) -> Cache:
        """This cache with rows (indices into the batch) chosen anew; those of an encoder only if `sources`."""
        changed = Cache(self.capacity)
        changed.length = self.length
        changed.keys = [runtime.cache_rows(each, rows, self.length) for each in self.keys]
        changed.values = [runtime.cache_rows(each, rows, self.length) for each in self.values]
        changed.source = list(self.source)
        if sources:
            changed.source = [(ops.take(k, rows, axis=0), ops.take(v, rows, axis=0)) for k, v in self.source]
        return changed

    # For compiled programs.

    def state(self) -> dict[str, Any]:
        """What changes from step to step, as a structure of tensors."""
        return {"keys": list(self.keys), "values": list(self.values)}

    @classmethod
    def of(cls, state: dict[str, Any], length: Any, source: list[tuple[Any, Any]] | None = None) -> Cache:
        """The cache whose `state` this is."""
        cache = cls(state["keys"][0].shape[2] if state["keys"] else 0)
        cache.length, cache.keys, cache.values = length, list(state["keys"]), list(state["values"])
        cache.source = list(source or [])
        return cache
