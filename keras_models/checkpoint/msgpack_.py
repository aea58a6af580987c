"""flax_model.msgpack: nested maps of arrays, under PyTorch's names and in its layout.

Flax writes an array as the extension type 1 that packs (shape, dtype name, bytes) once more, a numpy scalar as type 3
likewise, and an array beyond 1 GiB as a map of flat chunks. The scanner below passes over the bytes without reading
them, which the msgpack library cannot.
"""

import math
import re
from itertools import pairwise
from typing import NamedTuple

import ml_dtypes
import numpy as np

from keras_models.checkpoint.tensors import Checkpoint, CheckpointError, File, FileTensor, LoadedTensor, Tensor

COLLECTIONS = ("params", "batch_stats")
KINDS = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
STATISTICS = {"mean": "running_mean", "var": "running_var"}
KERNEL_AXES = {2: (1, 0), 3: (2, 1, 0), 4: (3, 2, 0, 1)}  # (in, out), (w, in, out), (h, w, in, out) to (out, in, ...)
EXTENDED = {name: np.dtype(getattr(ml_dtypes, name)) for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")}
ARRAY, SCALAR = 1, 3
CHUNKED = "__msgpack_chunked_array__"
MAX_DEPTH = 64


class Bytes(NamedTuple):
    """Bytes that still lie in the file."""

    start: int
    size: int


class Array(NamedTuple):
    """An array that still lies in the file."""

    shape: tuple[int, ...]
    dtype: np.dtype
    start: int


def looks_like(head: bytes) -> bool:
    """Whether a file that begins with `head` may be one of these: a map whose first key is a string."""
    skipped = {0xDE: 3, 0xDF: 5}.get(head[0], 1 if 0x81 <= head[0] <= 0x8F else 0)
    first = head[skipped : skipped + 1] if skipped else b""
    return bool(first) and (0xA0 <= first[0] <= 0xBF or 0xD9 <= first[0] <= 0xDB)


def read(file: File) -> Checkpoint:
    """The tensors of a Flax weight file; CheckpointError says what is wrong with a broken one."""
    tree = Scanner(file).value()
    if not isinstance(tree, dict):
        raise CheckpointError(f"{file.path} is no Flax checkpoint: it is not a map of names.")
    tensors: dict[str, Tensor] = {}
    _collect(file, tree, (), tensors)
    return Checkpoint(tensors, "msgpack", {}, [file.close])


def convert(path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[str, tuple[int, ...] | None]:
    """A parameter's PyTorch name, and the axes of its array in PyTorch's layout."""
    collection = path[0] if path[0] in COLLECTIONS and len(path) > 1 else None
    *parts, kind = path[1:] if collection else path
    renamed = STATISTICS.get(kind, kind) if collection == "batch_stats" else KINDS.get(kind, kind)
    for at, (outer, inner) in enumerate(pairwise(parts), 1):  # ResNet's layer/layer_0 is a numbered list
        parts[at] = re.sub(rf"^{re.escape(outer)}_(\d+)$", r"\1", inner)
    return ".".join([*parts, renamed]), KERNEL_AXES.get(len(shape)) if kind == "kernel" else None


def _collect(file: File, tree: dict, path: tuple[str, ...], tensors: dict[str, Tensor]):
    for key, item in tree.items():
        here = (*path, str(key))
        if isinstance(item, Array):
            name, axes = convert(here, item.shape)
            tensors[name] = FileTensor(file, item.start, item.shape, item.dtype, axes)
        elif isinstance(item, dict) and CHUNKED in item:
            name, tensor = _chunked(file, here, item)
            tensors[name] = tensor
        elif isinstance(item, dict):
            _collect(file, item, here, tensors)


def _chunked(file: File, path: tuple[str, ...], item: dict) -> tuple[str, Tensor]:
    try:
        shape = tuple(item["shape"][str(axis)] for axis in range(len(item["shape"])))
        chunks = [item["chunks"][str(at)] for at in range(len(item["chunks"]))]
        parts = [FileTensor(file, chunk.start, chunk.shape, chunk.dtype) for chunk in chunks]
        if sum(part.nbytes for part in parts) != math.prod(shape) * parts[0].dtype.itemsize:
            raise ValueError("its chunks do not fill it")
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{file.path} is corrupt: the array {'/'.join(path)} in chunks: {error!r}.") from None
    name, axes = convert(path, shape)

    def load() -> np.ndarray:
        return np.concatenate([part.view().reshape(-1) for part in parts]).reshape(shape)

    return name, LoadedTensor(load, shape, parts[0].dtype, axes)


class Scanner:
    """Reads msgpack from a file, arrays as their shape, dtype and place."""

    def __init__(self, file: File, position: int = 0):
        self.file, self.position = file, position

    def value(self, depth: int = 0):
        """The next value; a `Bytes` for bytes, an `Array` for an array."""
        tag = self._take(1)[0]
        if depth > MAX_DEPTH:
            raise CheckpointError(f"{self.file.path} is corrupt: it nests deeper than any model.")
        match tag:
            case _ if tag <= 0x7F:
                return tag
            case _ if tag <= 0x8F:
                return self._map(tag & 0x0F, depth)
            case _ if tag <= 0x9F:
                return self._list(tag & 0x0F, depth)
            case _ if tag <= 0xBF:
                return self._text(tag & 0x1F)
            case 0xC0 | 0xC2 | 0xC3:
                return {0xC0: None, 0xC2: False, 0xC3: True}[tag]
            case 0xC4 | 0xC5 | 0xC6:
                return self._bytes(self._number(1 << tag - 0xC4))
            case 0xC7 | 0xC8 | 0xC9:
                return self._extension(self._number(1 << tag - 0xC7))
            case 0xCA | 0xCB:
                return np.frombuffer(self._take(4 if tag == 0xCA else 8), ">f4" if tag == 0xCA else ">f8")[0].item()
            case 0xCC | 0xCD | 0xCE | 0xCF:
                return self._number(1 << tag - 0xCC)
            case 0xD0 | 0xD1 | 0xD2 | 0xD3:
                return int.from_bytes(self._take(1 << tag - 0xD0), "big", signed=True)
            case 0xD4 | 0xD5 | 0xD6 | 0xD7 | 0xD8:
                return self._extension(1 << tag - 0xD4)
            case 0xD9 | 0xDA | 0xDB:
                return self._text(self._number(1 << tag - 0xD9))
            case 0xDC | 0xDD:
                return self._list(self._number(2 << tag - 0xDC), depth)
            case 0xDE | 0xDF:
                return self._map(self._number(2 << tag - 0xDE), depth)
            case _ if tag >= 0xE0:
                return tag - 0x100
        raise CheckpointError(f"{self.file.path} is corrupt: byte {self.position - 1} begins no msgpack value.")

    def _take(self, size: int) -> bytes:
        content = self.file.read(self.position, size)
        if len(content) < size:
            raise CheckpointError(f"{self.file.path} is truncated: it ends at byte {self.file.size}, within a value.")
        self.position += size
        return content

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def _text(self, size: int) -> str:
        return self._take(size).decode(errors="replace")

    def _list(self, count: int, depth: int) -> list:
        return [self.value(depth + 1) for _ in range(count)]

    def _map(self, count: int, depth: int) -> dict:
        pairs = ((self.value(depth + 1), self.value(depth + 1)) for _ in range(count))
        return {key: item for key, item in pairs if isinstance(key, str | int)}

    def _bytes(self, size: int) -> Bytes:
        start, self.position = self.position, self.position + size
        if self.position > self.file.size:
            raise CheckpointError(f"{self.file.path} is truncated: it ends at byte {self.file.size}, within a tensor.")
        return Bytes(start, size)

    def _extension(self, size: int) -> Array | None:
        kind, start, _ = self._number(1), self.position, self._bytes(size)
        if kind not in (ARRAY, SCALAR):
            return None
        try:
            shape, name, content = Scanner(self.file, start).value()
            name = self.file.read(*name).decode() if isinstance(name, Bytes) else name
            dtype = EXTENDED.get(name) or np.dtype(name)
            sound = dtype.kind in "biufcV" and content.size == math.prod(shape) * dtype.itemsize
            sound = sound and all(axis >= 0 for axis in shape) and content.start + content.size <= start + size
        except (TypeError, ValueError, AttributeError):
            sound = False
        if not sound:
            raise CheckpointError(f"{self.file.path} is corrupt: the array at byte {start} is described wrongly.")
        return Array(tuple(shape), dtype, content.start)
