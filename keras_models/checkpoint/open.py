"""Opens a weight file of any format, told by its first bytes, or the shards that an index names."""

import json
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from keras_models.checkpoint import hdf5, msgpack_, pickle_, safetensors
from keras_models.checkpoint.tensors import Checkpoint, CheckpointError, File

WEIGHT_FILES: tuple[str, ...] = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
    "tf_model.h5.index.json",
    "flax_model.msgpack",
    "flax_model.msgpack.index.json",
)


def open_checkpoint(path: str | Path, fetch: Callable[[str], Path] | None = None) -> Checkpoint:
    """Open a weight file, or the index of a sharded checkpoint; only headers are read.

    `fetch(name)` gives the local path of a shard that the index names; by default it lies beside the index. The format
    is told from the content, whatever the file is called. Raises CheckpointError, naming the file, for one that is
    missing, truncated, corrupt, unsafe (a pickle of more than tensors) or no weight file at all.
    """
    path = Path(path)
    try:
        file = File(path)
    except OSError as error:
        raise CheckpointError(f"Cannot open the weight file {path}: {error.strerror}.") from None
    try:
        head = file.read(0, 512)
        if not safetensors.looks_like(head) and head.lstrip()[:1] == b"{":
            content = file.read(0, file.size)
            file.close()
            return _open_index(path, content, fetch or (lambda name: path.parent / name))
        return _reader(path, head)(file)
    except BaseException:
        file.close()
        raise


def _reader(path: Path, head: bytes) -> Callable[[File], Checkpoint]:
    if not head:
        raise CheckpointError(f"{path} is empty.")
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        raise CheckpointError(f"{path} is a Git LFS pointer, not weights: run `git lfs pull`, or download the file.")
    if re.match(rb"\s*<(!doctype|html|\?xml)", head, re.IGNORECASE):
        raise CheckpointError(f"{path} is a web page, not weights: the download answered with one; download it again.")
    if safetensors.looks_like(head):
        return safetensors.read
    if head.startswith(hdf5.MAGIC):
        return hdf5.read
    if head.startswith(pickle_.ZIP_MAGIC):
        return pickle_.read_zip
    if head.startswith(pickle_.PROTOCOLS):
        return pickle_.read_legacy
    if msgpack_.looks_like(head):
        return msgpack_.read
    if path.suffix == ".safetensors":  # it says best what is wrong
        return safetensors.read
    raise CheckpointError(f"{path} is no weight file: neither safetensors, nor a PyTorch .bin, HDF5 or Flax msgpack.")


def _open_index(path: Path, content: bytes, fetch: Callable[[str], Path]) -> Checkpoint:
    try:
        index = json.loads(content)
        weight_map = {str(name): str(shard) for name, shard in index["weight_map"].items()}
        metadata = {key: str(value) for key, value in (index.get("metadata") or {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f'{path} is no index of weights: it is not JSON with a "weight_map".') from None
    shards: dict[str, Checkpoint] = {}
    try:
        for name in dict.fromkeys(weight_map.values()):
            shards[name] = _open_shard(path, name, fetch)
    except BaseException:
        for shard in shards.values():
            shard.close()
        raise
    kind = next(iter(shards.values())).format if shards else "safetensors"
    if kind in ("safetensors", "bin"):  # the other formats' indices spell names as TensorFlow and Flax do
        _check_map(path, weight_map, shards)
    tensors = {name: shard[name] for shard in shards.values() for name in shard}
    return Checkpoint(tensors, kind, metadata, [shard.close for shard in shards.values()])


def _open_shard(index: Path, name: str, fetch: Callable[[str], Path]) -> Checkpoint:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in name:
        raise CheckpointError(f"{index} names the shard {name!r}, which lies outside its folder.")
    path = Path(fetch(name))
    if not path.is_file():
        raise CheckpointError(f"The shard {name!r} that {index} names is missing ({path}).")
    with path.open("rb") as file:
        if file.read(1) == b"{":
            raise CheckpointError(f"The shard {name!r} that {index} names is an index itself.")
    return open_checkpoint(path)


def _check_map(path: Path, weight_map: dict[str, str], shards: dict[str, Checkpoint]):
    lost = [f"{name} (in {shard})" for name, shard in weight_map.items() if name not in shards[shard]]
    if lost:
        raise CheckpointError(f"{path} promises tensors that its shards do not hold: {', '.join(lost)}.")
