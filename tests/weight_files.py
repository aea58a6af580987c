"""What the tests of weight files share: comparing, and making small files by hand."""

import json
import pickle
import struct
import zipfile
from pathlib import Path

import msgpack
import numpy as np

from keras_models.checkpoint import open_checkpoint


def raw(array: np.ndarray) -> np.ndarray:
    """The bytes of an array in C order, so that NaN and 8-bit floats compare."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def same(found: np.ndarray, expected: np.ndarray):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(raw(found), raw(expected))


def equal_checkpoints(path: Path, expected: dict[str, np.ndarray]):
    with open_checkpoint(path) as checkpoint:
        assert set(checkpoint) == set(expected)
        for name, array in expected.items():
            assert checkpoint[name].shape == array.shape, name
            same(checkpoint[name].read(), array)
            same(np.ascontiguousarray(checkpoint[name].view()).reshape(array.shape), array)


def arrays(path: Path) -> dict[str, np.ndarray]:
    with open_checkpoint(path) as checkpoint:
        return {name: tensor.read() for name, tensor in checkpoint.items()}


def expected_bytes(folder: Path) -> dict[str, tuple[str, list[int], np.ndarray]]:
    kinds = json.loads((folder / "kinds.json").read_text())
    with np.load(folder / "bytes.npz") as content:
        return {name: (dtype, shape, content[name]) for name, (dtype, shape) in kinds.items()}


def as_written(path: Path, expected: dict[str, tuple[str, list[int], np.ndarray]]):
    """Every expected tensor is read with its dtype, shape and bytes; returns the names found beyond them."""
    with open_checkpoint(path) as checkpoint:
        for name, (dtype, shape, content) in expected.items():
            tensor = checkpoint[name]
            assert (tensor.dtype.name, list(tensor.shape)) == (dtype, shape), name
            for array in (tensor.view(), tensor.read()):
                assert list(array.shape) == shape, name
                np.testing.assert_array_equal(raw(array), content, err_msg=name)
        return set(checkpoint) - set(expected)


def entries(tensors: dict[str, np.ndarray]):
    return [(name, array.shape, array.dtype, lambda array=array: array) for name, array in tensors.items()]


def some_tensors(seed: int, shape=(16, 8), count: int = 6) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {f"layer.{at}.weight": generator.standard_normal(shape, dtype=np.float32) for at in range(count)}


def tensor_pickle(offset: int, shape: tuple, strides: tuple, count: int = 8) -> bytes:
    """The pickle of {"x": tensor} over a storage of `count` floats, by hand."""

    def tuple_of(numbers):
        return b"(" + b"".join(b"J" + struct.pack("<i", number) for number in numbers) + b"t"

    storage = (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + b"K%ctQ" % count
    )
    arguments = storage + b"J" + struct.pack("<i", offset) + tuple_of(shape) + tuple_of(strides) + b"\x89}"
    return b"\x80\x02}X\x01\x00\x00\x00xctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tRs."


def zip_of(path: Path, content: bytes, data: bytes = bytes(range(32))) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/data/0", data)
    return path


def old_of(path: Path, content: bytes) -> Path:
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = [pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    storage = struct.pack("<q", 8) + bytes(range(32))
    path.write_bytes(b"".join(head) + content + pickle.dumps(["0"], protocol=2) + storage)
    return path


def flax_array(array: np.ndarray, kind: int = 1) -> msgpack.ExtType:
    return msgpack.ExtType(kind, msgpack.packb((array.shape, array.dtype.name, array.tobytes()), use_bin_type=True))
