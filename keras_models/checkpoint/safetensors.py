"""model.safetensors: eight bytes of header length, a JSON header, then the tensors' bytes without gaps."""

import json
import math

import ml_dtypes
import numpy as np

from keras_models.checkpoint.tensors import Checkpoint, CheckpointError, File, FileTensor

MAX_HEADER = 100_000_000  # bytes, as in the format's own library
DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "C64": np.dtype(np.complex64),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}


def looks_like(head: bytes) -> bool:
    """Whether a file that begins with `head` is one of these: a plausible header length and an opening brace."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER


def read(file: File) -> Checkpoint:
    """The tensors of a safetensors file; CheckpointError says what is wrong with a broken one."""
    start, header = _header(file)
    metadata = header.pop("__metadata__", {})
    entries = {name: _entry(file, name, entry) for name, entry in header.items()}
    spans = sorted((begin, end, name) for name, (_, _, begin, end) in entries.items())
    _check_spans(file, spans, file.size - start)
    tensors = {
        name: FileTensor(file, start + begin, shape, dtype) for name, (dtype, shape, begin, _) in entries.items()
    }
    return Checkpoint(tensors, "safetensors", metadata, [file.close])


def _header(file: File) -> tuple[int, dict]:
    size = int.from_bytes(file.read(0, 8), "little")
    if file.size < 8 or not 2 <= size <= MAX_HEADER:
        raise CheckpointError(f"{file.path} is not a safetensors file: its header length is {size} bytes.")
    if 8 + size > file.size:
        raise CheckpointError(f"{file.path} is truncated: its header alone needs {8 + size} of {file.size} bytes.")
    try:
        header = json.loads(file.read(8, size))
    except ValueError as error:
        raise CheckpointError(f"{file.path} is corrupt: its header is not JSON ({error}).") from None
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise CheckpointError(f"{file.path} is corrupt: its header, or the metadata in it, is not a JSON object.")
    return 8 + size, header


def _entry(file: File, name: str, entry: dict) -> tuple[np.dtype, list[int], int, int]:
    try:
        kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        sound = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
    except (TypeError, KeyError, ValueError):
        sound = False
    if not sound:
        raise CheckpointError(f"{file.path} is corrupt: its header's entry for {name!r} is {entry!r}.")
    if kind not in DTYPES:
        raise CheckpointError(f"{file.path}: {name!r} has the dtype {kind!r}; readable are {', '.join(DTYPES)}.")
    size = math.prod(shape) * DTYPES[kind].itemsize
    if end - begin != size:
        raise CheckpointError(
            f"{file.path} is corrupt: {name!r}, {kind} of shape {shape}, needs {size} bytes but is given {end - begin}."
        )
    return DTYPES[kind], shape, begin, end


def _check_spans(file: File, spans: list[tuple[int, int, str]], size: int):
    position = 0
    for begin, end, name in spans:
        if begin != position:
            what = "overlaps the tensor before it" if begin < position else "leaves a gap before it"
            raise CheckpointError(f"{file.path} is corrupt: {name!r} {what} (it begins at {begin}, not {position}).")
        position = end
    if position > size:
        raise CheckpointError(f"{file.path} is truncated: its tensors need {position} bytes and {size} are there.")
    if position < size:
        raise CheckpointError(f"{file.path} is corrupt: {size - position} bytes after its tensors belong to none.")
