"""Writes model.safetensors, or its shards and index, so that a reader at any moment finds one whole checkpoint.

Readers prefer model.safetensors to the index. Everything is first written under temporary names and synced; then one
step switches from the old checkpoint to the new one:
- to a single file: replacing (or creating) model.safetensors;
- from a single file to shards: removing model.safetensors, after shards and index are in place;
- from shards, or nothing, to shards: replacing the index. Where a new shard has the name of an old one that the index
  still needs, the old index first moves to other names (hard links) of its shards.
What the old checkpoint leaves behind is removed after the switch.
"""

import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_models.checkpoint.safetensors import DTYPES
from keras_models.checkpoint.tensors import ALIGNMENT, CheckpointError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"model-\d{5}-of-\d{5}(-old)?\.safetensors")
TEMPORARY = ".saving-"
KINDS = {dtype: kind for kind, dtype in DTYPES.items()}
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


class Entry(NamedTuple):
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    value: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def save_weights(
    tensors: Iterable[tuple[str, tuple[int, ...], np.dtype, Callable[[], np.ndarray]]],
    folder: str | Path,
    max_shard_size: int | str = "5GB",
    metadata: dict[str, str] | None = None,
) -> list[Path]:
    """Write (name, shape, dtype, value) tensors to `folder` as the hub lays them out; returns the files written.

    One file, model.safetensors, if all fit into `max_shard_size` (bytes, or text such as "5GB", "200MB", "1GiB"); else
    shards and their index. Each `value()` is called once and its array let go of before the next. A save that is killed
    or fails leaves the folder's earlier checkpoint whole; files it is being read or mapped from are replaced, never
    written to. Raises CheckpointError for a value unlike its shape or dtype, a name given twice, a dtype unknown to
    safetensors.
    """
    entries = [Entry(name, tuple(shape), np.dtype(dtype), value) for name, shape, dtype, value in tensors]
    _check(entries)
    shards = _split(entries, parse_size(max_shard_size))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = [SINGLE] if len(shards) == 1 else [_shard_name(at, len(shards)) for at in range(len(shards))]
    finished: dict[str, Path] = {}  # final name -> temporary file
    try:
        for name, shard in zip(names, shards, strict=True):
            finished[name] = _temporary(folder)
            _write_file(finished[name], shard, {"format": "pt"} | (metadata or {}))
        if len(shards) > 1:
            finished[INDEX] = _temporary(folder)
            _write_index(finished[INDEX], dict(zip(names, shards, strict=True)))
            _free_names(folder, set(names))
        _sync(folder)
        for name, temporary in finished.items():  # the index is the last
            os.replace(temporary, folder / name)
            _sync(folder)
    finally:
        for temporary in finished.values():
            temporary.unlink(missing_ok=True)
    _remove_stale(folder, keep=set(finished))
    return [folder / name for name in finished]


def parse_size(size: int | str) -> int:
    """Bytes of a size such as 1000, "200MB" (10**6) or "1GiB" (2**30)."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Z]*)\s*", str(size).upper())
    if isinstance(size, bool) or not found or found[2] not in UNITS or float(found[1]) <= 0:
        raise ValueError(f'max_shard_size is {size!r}; give a number of bytes, or text such as "5GB", "200MB", "1GiB".')
    return int(float(found[1]) * UNITS[found[2]])


def _check(entries: list[Entry]):
    seen = set()
    for entry in entries:
        if entry.dtype not in KINDS:
            raise CheckpointError(f"{entry.name!r} has the dtype {entry.dtype}, which safetensors files cannot hold.")
        if entry.name in seen or entry.name == "__metadata__":
            raise CheckpointError(f"Two tensors to be saved are called {entry.name!r}, or the name is reserved.")
        seen.add(entry.name)


def _split(entries: list[Entry], limit: int) -> list[list[Entry]]:
    shards, room = [[]], limit
    for entry in entries:
        if entry.nbytes > room and shards[-1]:
            shards.append([])
            room = limit
        shards[-1].append(entry)
        room -= entry.nbytes
    return shards


def _shard_name(at: int, count: int) -> str:
    return f"model-{at + 1:05d}-of-{count:05d}.safetensors"


def _temporary(folder: Path) -> Path:
    return folder / f"{TEMPORARY}{uuid.uuid4().hex}"


def _write_file(path: Path, entries: list[Entry], metadata: dict[str, str]):
    entries = sorted(entries, key=lambda entry: (-entry.dtype.itemsize, entry.name))  # so that each is aligned
    header, position = {"__metadata__": {key: str(value) for key, value in metadata.items()}}, 0
    for entry in entries:
        span = [position, position + entry.nbytes]
        header[entry.name] = {"dtype": KINDS[entry.dtype], "shape": list(entry.shape), "data_offsets": span}
        position += entry.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with open(path, "xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for entry in entries:
            file.write(_bytes(entry))
        file.flush()
        os.fsync(file.fileno())


def _bytes(entry: Entry) -> memoryview:
    value = np.asarray(entry.value())
    if value.shape != entry.shape or value.dtype != entry.dtype:
        raise CheckpointError(
            f"{entry.name!r} was to be saved as {entry.dtype} of shape {entry.shape}, "
            f"but its value is {value.dtype} of shape {value.shape}."
        )
    return memoryview(np.ascontiguousarray(value).reshape(-1).view(np.uint8))


def _write_index(path: Path, shards: dict[str, list[Entry]]):
    weight_map = {entry.name: name for name, entries in shards.items() for entry in entries}
    total = sum(entry.nbytes for entries in shards.values() for entry in entries)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    _write_text(path, json.dumps(index, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def _write_text(path: Path, text: str):
    with open(path, "x", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _free_names(folder: Path, wanted: set[str]):
    """Let the index that readers now follow, if it needs shards called as the new ones will be, call them otherwise."""
    path = folder / INDEX
    if (folder / SINGLE).exists() or not path.exists():
        return  # readers do not look at the shards
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        weight_map = dict(index["weight_map"])
    except (ValueError, KeyError, TypeError):
        return  # unreadable already: nothing to keep alive
    aliases = {name: name.replace(".safetensors", "-old.safetensors") for name in wanted & set(weight_map.values())}
    if not aliases:
        return
    for name, alias in aliases.items():
        (folder / alias).unlink(missing_ok=True)
        try:
            os.link(folder / name, folder / alias)
        except OSError:  # a file system without hard links
            shutil.copyfile(folder / name, folder / alias)
    index["weight_map"] = {name: aliases.get(shard, shard) for name, shard in weight_map.items()}
    temporary = _temporary(folder)
    _write_text(temporary, json.dumps(index, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    _sync(folder)
    os.replace(temporary, path)
    _sync(folder)


def _remove_stale(folder: Path, keep: set[str]):
    """Remove what an earlier save left. The first removal may be the switch itself: model.safetensors, for shards."""
    order = [SINGLE, INDEX, *sorted(path.name for path in folder.iterdir() if SHARD.fullmatch(path.name))]
    order += [path.name for path in folder.iterdir() if path.name.startswith(TEMPORARY)]
    for name in order:
        if name not in keep:
            (folder / name).unlink(missing_ok=True)
    _sync(folder)


def _sync(folder: Path):
    """Make the renames so far outlast a power cut, where folders can be synced."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
