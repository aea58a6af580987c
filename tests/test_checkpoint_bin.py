"""PyTorch's .bin files: both containers read without torch, damaged and hostile pickles refused."""

import os
import pickle
import re
import struct
import zipfile
from pathlib import Path

import pytest

from keras_models.checkpoint import CheckpointError, open_checkpoint
from tests import reference
from tests.weight_files import as_written, expected_bytes, old_of, tensor_pickle, zip_of

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["zip", "zip_beside", "zip_wrapped", "old", "old_beside", "old_wrapped"])
def test_bin(name):
    folder = reference.make("checkpoint_files.bins")
    expected = expected_bytes(folder)
    if name not in ("zip", "zip_beside"):  # torch itself cannot read these types back from the older format
        del expected["eight"], expected["uint16"]
    assert not as_written(folder / f"{name}.bin", expected)
    with open_checkpoint(folder / f"{name}.bin") as checkpoint:
        assert checkpoint.format == "bin"
        checkpoint["shared"].view()[:] = 0  # a private copy
        assert checkpoint["shared"].read().any()


def rezip(source: Path, target: Path, compression=zipfile.ZIP_STORED, root: str = "archive", **changes: bytes | None):
    """A copy of a .bin with another root, compression, or content of some entries (None leaves one out)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for entry in old.infolist():
            name = entry.filename.split("/", 1)[1]
            content = changes.get(name, old.read(entry))
            if content is not None:
                new.writestr(f"{root}/{name}", content)


def test_bin_archive_variants(tmp_path):
    folder = reference.make("checkpoint_files.bins")
    expected = expected_bytes(folder)
    rezip(folder / "zip.bin", tmp_path / "a.bin", root="some name")
    rezip(folder / "zip.bin", tmp_path / "b.bin", zipfile.ZIP_DEFLATED)
    rezip(folder / "zip.bin", tmp_path / "c.bin", byteorder=None)
    for name in "abc":
        assert not as_written(tmp_path / f"{name}.bin", expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"byteorder": b"big"}, "big-endian"),
        ({"data.pkl": None}, "no data.pkl"),
        ({"data/0": None}, "storage '0' are missing or short"),
        ({"data/0": b"123"}, "storage '0' are missing or short"),
    ],
)
def test_bin_archive_damaged(tmp_path, changes, message):
    rezip(reference.make("checkpoint_files.bins") / "zip.bin", tmp_path / "a.bin", **changes)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path / "a.bin")


@pytest.mark.parametrize("pack", [zip_of, old_of])
@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(1, (2, 4), (4, 1)), (0, (3, 4), (4, 1)), (0, (2, 4), (5, 1)), (8, (1,), (1,)), (-1, (2,), (1,)), (4, (2,), (-1,)),
     (0, (-2,), (1,)), (0, (2, 2), (1,)), (0, (2**31 - 1,) * 3, (1, 1, 1))],
)  # fmt: skip
def test_bin_strides_out_of_range(tmp_path, pack, offset, shape, strides):
    assert open_checkpoint(pack(tmp_path / "good.bin", tensor_pickle(0, (2, 4), (4, 1))))["x"].read().shape == (2, 4)
    with pytest.raises(CheckpointError, match="truncated or corrupt: a tensor"):
        open_checkpoint(pack(tmp_path / "bad.bin", tensor_pickle(offset, shape, strides)))


class Call:
    """Pickles to a call of `function`."""

    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.parts


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def hostile(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Pickles that would create `marker`, or meddle with what exists, if they were run; and the sentence's reason."""
    command, code = f"touch {marker}", f"open({str(marker)!r}, 'w')"
    system = text("posix") + text("system") + b"\x93"
    return {
        "os.system": (pickle.dumps({"x": Call(os.system, command)}), "posix.system"),
        "old protocol": (b"\x80\x02cos\nsystem\n(" + text(command) + b"tR.", "os.system"),
        "builtins.eval": (pickle.dumps({"x": Call(eval, code)}), "builtins.eval"),
        "python 2 eval": (b"\x80\x02c__builtin__\neval\n(" + text(code) + b"tR.", "__builtin__.eval"),
        "nested": (pickle.dumps({"x": [({"y": Call(eval, code)},)]}, protocol=2), "__builtin__.eval"),
        "getattr": (pickle.dumps(Call(getattr, Call(__import__, "os"), "system")), "builtins.getattr"),
        "partial": (pickle.dumps(Call(__import__("functools").partial, eval, code)), "functools.partial"),
        "stack global": (b"\x80\x04" + system + text(command) + b"\x85R.", "posix.system"),
        "name by memo": (
            b"\x80\x04" + text("posix") + b"\x94" + text("collections") + b"\x940h\x00" + text("system") + b"\x93"
            + text(command) + b"\x85R.", "posix.system",
        ),
        "dotted": (b"\x80\x04" + text("torch") + text("serialization.os.system") + b"\x93)R.", "os.system"),
        "globals": (
            b"\x80\x04" + text("torch._utils") + text("_rebuild_tensor_v2.__globals__") + b"\x93.", "__globals__",
        ),
        "name is no text": (b"\x80\x04" + text("torch") + b"K\x01\x93.", "what is no name"),
        "inst": (b"\x80\x02(" + text(command) + b"ios\nsystem\n.", "instruction INST"),
        "obj": (b"\x80\x02(cos\nsystem\n" + text(command) + b"o.", "os.system"),
        "newobj": (b"\x80\x02cposix\nsystem\n" + text(command) + b"\x85\x81.", "posix.system"),
        "ext": (b"\x80\x02\x82\x01.", "instruction EXT1"),
        "persid": (b"\x80\x02Pos.system\n.", "instruction PERSID"),
        "setstate": (pickle.dumps(Call(pytest.Config, state={"x": 1})), "Config"),
        "state of a function": (
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(N}" + text("__defaults__") + b"Nst" + b"b.", "sets the state",
        ),
        "state of a class": (b"\x80\x02ccollections\nOrderedDict\n}" + text("get") + b"Nsb.", "sets the state"),
        "call a storage": (b"\x80\x02ctorch\nFloatStorage\n(K\x01tR.", "calls torch.FloatStorage"),
        "call a tensor": (tensor_pickle(0, (2,), (1,))[:-2] + b"(" + text(command) + b"tR.", "what is no function"),
        "call by a subclass": (
            b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._tensor\n_rebuild_from_type_v2\nNNNtR.",
            "calls torch._tensor._rebuild_from_type_v2",
        ),
        "memo renamed": (
            b"\x80\x02ccollections\nOrderedDict\nq\x000cos\nsystem\nq\x000h\x00(" + text(command) + b"tR.", "os.system",
        ),
        "items of no dictionary": (b"\x80\x02]" + text("a") + b"K\x01s.", "what is no dictionary"),
        "append to no list": (b"\x80\x02}K\x01a.", "what is no list"),
    }  # fmt: skip


@pytest.mark.parametrize("pack", [zip_of, old_of])
@pytest.mark.parametrize("name", hostile(Path("x")))
def test_hostile_pickle_is_refused(tmp_path, pack, name):
    marker = tmp_path / "executed"
    content, reason = hostile(marker)[name]
    with pytest.raises(CheckpointError, match=rf"is refused: its pickle .*{re.escape(reason)}.*nothing of it was run"):
        open_checkpoint(pack(tmp_path / "bad.bin", content))
    assert not marker.exists()


def test_whole_module_is_refused_by_name():
    with pytest.raises(CheckpointError, match=r"asks for torch\.nn\.modules\.linear\.Linear"):
        open_checkpoint(reference.make("checkpoint_files.bins") / "module.bin")


@pytest.mark.parametrize("depth", [40, 4000])
def test_pickle_that_doubles_ends(tmp_path, depth):
    doubled = b"\x80\x02)" + b"2\x86" * depth  # t = (t, t), again and again: its repr or hash would take for ever
    for content in (
        doubled + b".",
        doubled + b"Q.",
        doubled + b"R.",
        b"\x80\x02}" + doubled[2:] + b"K\x01s.",
        doubled + b"b.",
    ):
        with pytest.raises(CheckpointError):
            open_checkpoint(zip_of(tmp_path / "bad.bin", content))


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x02", b"\x80\x02.", b"\x80\x02h\x05.", b"\x80\x02t.", b"\x80\x02K", b"\xff", b"\x80\x02N."]
)
def test_damaged_pickle(tmp_path, content):
    with pytest.raises(CheckpointError, match=r"corrupt|holds no tensors"):
        open_checkpoint(zip_of(tmp_path / "bad.bin", content))


def test_bin_without_names(tmp_path):
    with pytest.raises(CheckpointError, match="holds no tensors by name"):
        open_checkpoint(zip_of(tmp_path / "bad.bin", b"\x80\x02}."))
