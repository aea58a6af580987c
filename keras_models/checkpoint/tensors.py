"""Lazy tensors over files: nothing is read until asked for, and then once, straight into its place.

The two ways to a tensor's values have different costs. `view` maps the file privately: no copy, but touched pages count
as ours. `read` passes the values through read calls into a new array: the page cache serves them without ever being
mapped into this process, so reading a checkpoint tensor by tensor peaks at the size of the arrays alone.
"""

import io
import math
import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock

import ml_dtypes
import numpy as np

ALIGNMENT = 64  # bytes; what JAX and TensorFlow want of a buffer to take it without a copy
BLOCK = 1 << 18  # bytes read at a time where values are cast or transposed: stays in the cache
CACHE_LINE = 64


class CheckpointError(ValueError):
    """A weight file that cannot be used: missing, truncated, corrupt, unsafe or of an unknown kind."""


class File:
    """A file kept open for reads by position, from any thread, and for one private map."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file = io.FileIO(path)
        self._lock = Lock()
        self._map: mmap.mmap | None = None
        self.size = os.fstat(self._file.fileno()).st_size

    def read_into(self, target: np.ndarray, offset: int):
        """Fill `target`, a contiguous array, with the bytes at `offset`."""
        buffer = memoryview(target.reshape(-1).view(np.uint8))
        while buffer.nbytes:
            count = self._read_some(buffer, offset)
            if not count:
                raise CheckpointError(f"{self.path} ended early, at byte {offset}: it is truncated or was overwritten.")
            buffer, offset = buffer[count:], offset + count

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes at `offset`; fewer at the end of the file."""
        target = np.empty(max(0, min(size, self.size - offset)), np.uint8)
        self.read_into(target, offset)
        return target.tobytes()

    def map(self) -> mmap.mmap:
        """A copy-on-write map of the whole file: writable, and nothing written to it reaches the file."""
        with self._lock:
            if self._map is None:
                self._check_open()
                self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_COPY)
            return self._map

    def close(self):
        self._file.close()

    def _read_some(self, buffer: memoryview, offset: int) -> int:
        self._check_open()
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [buffer], offset)
        with self._lock:  # Windows has no reads by position
            self._file.seek(offset)
            return self._file.readinto(buffer)

    def _check_open(self):
        if self._file.closed:
            raise CheckpointError(f"{self.path} was closed before this tensor was read.")

    def __del__(self):
        if hasattr(self, "_file"):
            self._file.close()


class Stream(io.RawIOBase):
    """A File as the kind of object that zipfile, pickletools and h5py read from."""

    def __init__(self, file: File):
        self._source, self._position = file, 0

    def readinto(self, buffer) -> int:
        target = np.frombuffer(buffer, np.uint8)[: max(0, self._source.size - self._position)]
        self._source.read_into(target, self._position)
        self._position += len(target)
        return len(target)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._source.size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


class Tensor:
    """A tensor that still lies in its file: `shape` and `dtype` are known, values come by `view` or `read`.

    The file may hold another order of axes than PyTorch's; `axes` says which stored axis each axis of ours is.
    """

    def __init__(self, stored_shape: Sequence[int], dtype: np.dtype, axes: Sequence[int] | None = None):
        self._stored_shape = tuple(stored_shape)
        self._axes = tuple(range(len(self._stored_shape))) if axes is None else tuple(axes)
        self.dtype = np.dtype(dtype)
        self.shape = tuple(self._stored_shape[axis] for axis in self._axes)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def view(self) -> np.ndarray:
        """The values without a copy where the file allows it; writing to them never changes the file."""
        return self._stored().transpose(self._axes)

    def read(self, dtype: np.dtype | str | None = None, axes: Sequence[int] | None = None) -> np.ndarray:
        """A new C-contiguous, 64-byte aligned array of the values, its axes permuted by `axes` and cast to `dtype`."""
        order = self._axes if axes is None else tuple(self._axes[axis] for axis in axes)
        out = aligned_empty([self._stored_shape[axis] for axis in order], self.dtype if dtype is None else dtype)
        self._fill(out.transpose(np.argsort(order)) if order else out)
        return out

    def __repr__(self):
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype})"

    def _stored(self) -> np.ndarray:
        raise NotImplementedError

    def _fill(self, target: np.ndarray):
        """Write the values into `target`, an array of the stored shape with any strides and dtype."""
        raise NotImplementedError


class FileTensor(Tensor):
    """A tensor whose bytes lie in one piece, uncompressed, at `offset` of a file."""

    def __init__(self, file: File, offset: int, stored_shape, dtype, axes=None):
        super().__init__(stored_shape, dtype, axes)
        self._file, self._offset = file, offset
        if offset + self.nbytes > file.size:
            raise CheckpointError(f"{file.path} is truncated: it ends at byte {file.size}, in the middle of a tensor.")

    def _stored(self) -> np.ndarray:
        aligned = self._offset % self.dtype.itemsize == 0  # no framework takes elements that straddle words
        if not aligned or not self.nbytes:
            values = np.empty(self._stored_shape, self.dtype)
            self._file.read_into(values, self._offset)
            return values
        return np.ndarray(self._stored_shape, self.dtype, buffer=self._file.map(), offset=self._offset)

    def _fill(self, target: np.ndarray):
        target = target.squeeze()
        if target.flags.c_contiguous:
            target = target.reshape(-1)
            if target.dtype == self.dtype:
                return self._file.read_into(target, self._offset)
        # Transposing goes by as many rows as make a cache line of the result: 1.5-7x the speed of copying `a.T`.
        rows = max(1, CACHE_LINE // target.itemsize) if target.ndim > 1 else BLOCK // self.dtype.itemsize
        row_bytes = math.prod(target.shape[1:]) * self.dtype.itemsize
        step = max(1, BLOCK // max(1, row_bytes * rows)) * rows
        block = np.empty((min(step, len(target)), *target.shape[1:]), self.dtype)
        for start in range(0, len(target), step):
            part = block[: len(target) - start]
            self._file.read_into(part, self._offset + start * row_bytes)
            goal = target[start : start + step]
            if target.ndim == 1:
                copy_cast(goal, part)
                continue
            if target.dtype != self.dtype:  # cast in the cache: doing both in one copy is slower
                copy_cast(cast := np.empty(part.shape, target.dtype), part)
                part = cast
            for row in range(0, len(part), rows):
                goal[row : row + rows] = part[row : row + rows]


class LoadedTensor(Tensor):
    """A tensor that does not lie in one piece (compressed, chunked, odd strides): `load` makes it, in stored order."""

    def __init__(self, load: Callable[[], np.ndarray], stored_shape, dtype, axes=None):
        super().__init__(stored_shape, dtype, axes)
        self._stored = load

    def _fill(self, target: np.ndarray):
        copy_cast(target, self._stored())


class Checkpoint(Mapping[str, Tensor]):
    """The tensors of one weight file, or of all shards of an index, by their PyTorch names.

    `format` is "safetensors", "bin", "h5" or "msgpack"; `metadata` what the file says about itself, as strings.
    Closing it ends `read`; arrays got by `view` stay valid as long as they live.
    """

    def __init__(self, tensors: dict[str, Tensor], format: str, metadata: dict[str, str], closers: list[Callable]):
        self._tensors, self.format, self.metadata, self._closers = tensors, format, metadata, closers

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def close(self):
        for close in self._closers:
            close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def aligned_empty(shape: Sequence[int], dtype: np.dtype | str) -> np.ndarray:
    """An uninitialised C-contiguous array that begins at a multiple of 64 bytes."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + size].view(dtype).reshape(shape)


def copy_cast(target: np.ndarray, source: np.ndarray):
    """Copy with a cast. bfloat16 is the upper half of float32, which integers widen faster than ml_dtypes does."""
    if source.dtype == ml_dtypes.bfloat16 and target.dtype == np.float32:
        np.left_shift(source.view(np.uint16), 16, out=target.view(np.uint32), dtype=np.uint32)
    else:
        np.copyto(target, source, casting="unsafe")
