"""pytorch_model.bin: a pickle of tensors, in a zip archive or (before torch 1.6) followed by the bare storages.

A pickle is a program. This one is never given to pickle: `Machine` interprets the few instructions that tensors need
over plain Python values, with names of a short list standing for themselves. Nothing is imported, called or set, so
there is nothing for a hostile file to reach; what it asks for beyond the list is refused by name.
"""

import io
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import BinaryIO, NamedTuple, NoReturn

import ml_dtypes
import numpy as np

from keras_models.checkpoint.tensors import Checkpoint, CheckpointError, File, FileTensor, LoadedTensor, Stream, Tensor

ZIP_MAGIC = b"PK\x03\x04"
PROTOCOLS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")  # what training scripts put the weights under
TENSORS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3")
PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
SUBCLASS = "torch._tensor._rebuild_from_type_v2"
DTYPES: dict[str, np.dtype] = {
    **{name: np.dtype(name) for name in ("uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64")},
    **{name: np.dtype(name) for name in ("bool", "float16", "float32", "float64", "complex64", "complex128")},
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}
STORAGES: dict[str, np.dtype] = {
    "DoubleStorage": DTYPES["float64"],
    "FloatStorage": DTYPES["float32"],
    "HalfStorage": DTYPES["float16"],
    "BFloat16Storage": DTYPES["bfloat16"],
    "LongStorage": DTYPES["int64"],
    "IntStorage": DTYPES["int32"],
    "ShortStorage": DTYPES["int16"],
    "CharStorage": DTYPES["int8"],
    "ByteStorage": DTYPES["uint8"],
    "BoolStorage": DTYPES["bool"],
    "ComplexFloatStorage": DTYPES["complex64"],
    "ComplexDoubleStorage": DTYPES["complex128"],
    "UntypedStorage": DTYPES["uint8"],
    "_UntypedStorage": DTYPES["uint8"],
}
# Found beside weights and no danger: their results are dropped.
IGNORED = {
    "torch.device", "torch.strided", "torch.contiguous_format", "torch.serialization._get_layout",
    "torch.Tensor", "torch.nn.parameter.Parameter", "_codecs.encode", "numpy.dtype",
    "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar",
}  # fmt: skip
KNOWN = {"collections.OrderedDict", "torch.Size", SUBCLASS, *TENSORS, *PARAMETERS, *IGNORED}
KNOWN |= {f"torch.{name}" for name in DTYPES}
KNOWN |= {f"{module}.{name}" for module in ("torch", "torch.cuda", "torch.storage") for name in STORAGES}


class Global(NamedTuple):
    """A name of the list above, standing for itself."""

    name: str


class Storage(NamedTuple):
    """A run of elements: which one, of what type, how many, and where in it a view begins."""

    key: str
    dtype: np.dtype
    count: int
    start: int = 0


class Strided(NamedTuple):
    """A tensor as the pickle describes it."""

    storage: Storage
    dtype: np.dtype
    start: int  # bytes into the storage
    span: int  # elements from the first to the last
    shape: tuple[int, ...]
    strides: tuple[int, ...]


# What zipfile raises for broken archives, encrypted ones and unknown compressions.
DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, LookupError, RuntimeError, ValueError)
MARK, DROPPED = object(), object()
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": (), "EMPTY_SET": DROPPED, "MARK": MARK}
LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip


class Machine:
    """Interprets pickles of tensors; `storages` collects all that they mention, by key."""

    def __init__(self, file: File):
        self.path = file.path
        self.storages: dict[str, Storage] = {}

    def run(self, stream: BinaryIO):
        """The value of the pickle that begins here; reads no further than its end."""
        self._stack, self._memo = [], {}
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "STOP":
                    return self._stack.pop()
                self._step(opcode.name, argument)
        except CheckpointError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError, struct.error) as error:
            raise CheckpointError(f"{self.path} is truncated or corrupt: {error or type(error).__name__}.") from None

    def _step(self, name: str, argument):
        stack, memo = self._stack, self._memo
        match name:
            case "PROTO" | "FRAME":
                pass
            case _ if name in LITERALS:
                stack.append(argument)
            case _ if name in CONSTANTS:
                stack.append(CONSTANTS[name])
            case "EMPTY_LIST" | "EMPTY_DICT":
                stack.append([] if name == "EMPTY_LIST" else {})
            case "TUPLE" | "LIST":
                stack.append(tuple(self._items()) if name == "TUPLE" else self._items())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(name[-1])
                stack[-size:] = [tuple(stack[-size:])]
            case "DICT":
                stack.append(_dictionary(self._items()))
            case "FROZENSET":
                stack.append((self._items(), DROPPED)[1])
            case "APPEND" | "APPENDS" | "ADDITEMS":
                self._extend([stack.pop()] if name == "APPEND" else self._items())
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._update([key, value])
            case "SETITEMS":
                self._update(self._items())
            case "POP" | "POP_MARK":
                stack.pop() if name == "POP" else self._items()
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(self._global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(self._global(module, attribute))
            case "BINPERSID":
                stack.append(self._storage(*stack.pop()))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self._call(function, arguments))
            case "BUILD":  # gives a state dict its attribute _metadata
                stack.pop()
                if not isinstance(stack[-1], dict) and stack[-1] is not DROPPED:
                    self._refuse("sets the state of an object")
            case _:
                self._refuse(f"uses the instruction {name}")

    def _items(self) -> list:
        items = []
        while (item := self._stack.pop()) is not MARK:
            items.append(item)
        return items[::-1]

    def _extend(self, items: list):
        if isinstance(self._stack[-1], list):
            self._stack[-1].extend(items)
        elif self._stack[-1] is not DROPPED:
            self._refuse("appends to what is no list")

    def _update(self, items: list):
        if isinstance(self._stack[-1], dict):
            self._stack[-1].update(_dictionary(items))
        elif self._stack[-1] is not DROPPED:
            self._refuse("sets items of what is no dictionary")

    def _global(self, module: str, name: str) -> Global:
        path = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "what is no name"
        if path not in KNOWN:
            self._refuse(f"asks for {path}")
        return Global(path)

    def _storage(self, kind: str, storage: Global, key: str, _location: str, count: int, view=None) -> Storage:
        name = storage.name.rpartition(".")[2]
        if kind != "storage" or name not in STORAGES or not isinstance(key, str) or not _natural(count):
            raise ValueError("a storage is described wrongly")
        found = Storage(key, STORAGES[name], count)
        if self.storages.setdefault(key, found) != found:
            raise ValueError(f"storage {key!r} is described in two ways")
        return found if view is None else found._replace(start=view[1])  # views: torch 0.4 and older

    def _call(self, function: Global, arguments: tuple):
        if isinstance(function, Global) and function.name == SUBCLASS:
            function, _, arguments, *_ = arguments
        match function:
            case Global(name) if name in IGNORED:
                return DROPPED
            case Global(name) if name in TENSORS:
                return _strided(*arguments)
            case Global(name) if name in PARAMETERS:
                return arguments[0]
            case Global("torch.Size"):
                return tuple(*arguments)
            case Global("collections.OrderedDict"):
                return _dictionary([part for pair in arguments[0] for part in pair] if arguments else [])
        self._refuse(f"calls {function.name if isinstance(function, Global) else 'what is no function'}")

    def _refuse(self, what: str) -> NoReturn:
        raise CheckpointError(
            f"{self.path} is refused: its pickle {what}, which no tensor needs; nothing of it was run. "
            "Only load it, with torch, if you trust where it comes from, and save its tensors as safetensors."
        )


def _dictionary(items: list) -> dict:
    """A dictionary of alternating keys and values, less the keys that cannot name a tensor."""
    pairs = zip(items[::2], items[1::2], strict=True)
    return {key: value for key, value in pairs if key is None or isinstance(key, str | int | float | bytes)}


def _natural(*numbers) -> bool:
    return all(type(number) is int and number >= 0 for number in numbers)


def _strided(storage: Storage, offset: int, shape: tuple, strides: tuple, *others) -> Strided:
    """The arguments of torch's _rebuild_tensor functions; v3, for types without a storage class, has the dtype 7th."""
    dtype = DTYPES[others[2].name.removeprefix("torch.")] if len(others) > 2 and isinstance(others[2], Global) else None
    dtype = dtype or storage.dtype
    if not _natural(offset, storage.start, *shape, *strides) or len(shape) != len(strides) or len(shape) > 32:
        raise ValueError("a tensor is described wrongly")
    start = storage.start * storage.dtype.itemsize + offset * dtype.itemsize
    span = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) if 0 not in shape else 0
    if start + span * dtype.itemsize > storage.count * storage.dtype.itemsize:
        raise ValueError(f"a tensor of shape {shape} and strides {strides} reaches beyond its storage")
    return Strided(storage, dtype, start, span, tuple(shape), tuple(strides))


def read_zip(file: File) -> Checkpoint:
    """The tensors of a torch.save archive; CheckpointError if it is damaged or holds more than weights."""
    try:
        archive = zipfile.ZipFile(io.BufferedReader(Stream(file)))
    except DAMAGED as error:
        raise CheckpointError(f"{file.path} is truncated or corrupt: {error}.") from None
    entries = {entry.filename: entry for entry in archive.infolist()}
    root = next((name.removesuffix("data.pkl") for name in entries if name.split("/")[1:] == ["data.pkl"]), None)
    if root is None:
        raise CheckpointError(f"{file.path} is a zip archive, but no PyTorch checkpoint: it holds no data.pkl.")
    if f"{root}byteorder" in entries and _unpack(file, archive, f"{root}byteorder").strip() != b"little":
        raise CheckpointError(f"{file.path} was saved on a big-endian machine: save it anew on a common one.")
    content = Machine(file).run(io.BytesIO(_unpack(file, archive, f"{root}data.pkl")))

    def place(storage: Storage) -> int | Callable[[], bytes]:
        entry = entries.get(f"{root}data/{storage.key}")
        if entry is None or entry.file_size < storage.count * storage.dtype.itemsize:
            raise CheckpointError(f"{file.path} is corrupt: the data of storage {storage.key!r} are missing or short.")
        if entry.compress_type != zipfile.ZIP_STORED:
            return lambda: _unpack(file, archive, entry)
        head = file.read(entry.header_offset, 30)
        if not head.startswith(ZIP_MAGIC) or len(head) < 30:
            raise CheckpointError(f"{file.path} is corrupt: {entry.filename!r} is not where the archive says.")
        return entry.header_offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")

    return _checkpoint(file, content, place)


def _unpack(file: File, archive: zipfile.ZipFile, entry: zipfile.ZipInfo | str) -> bytes:
    try:
        return archive.read(entry)
    except CheckpointError:
        raise
    except DAMAGED as error:
        raise CheckpointError(f"{file.path} is truncated or corrupt: {error}.") from None


def read_legacy(file: File) -> Checkpoint:
    """The tensors of a file of torch.save before 1.6: five pickles, then the storages one after another."""
    stream, machine = io.BufferedReader(Stream(file)), Machine(file)
    if machine.run(stream) != LEGACY_MAGIC or machine.run(stream) != LEGACY_PROTOCOL:
        raise CheckpointError(f"{file.path} is a pickle, but not one of torch.save.")
    system, content, keys = (machine.run(stream) for _ in range(3))
    if not isinstance(system, dict) or system.get("little_endian") is not True or not isinstance(keys, list):
        raise CheckpointError(f"{file.path} is corrupt, or was saved with big-endian numbers.")
    starts, position = {}, stream.tell()
    for key in keys:
        storage = machine.storages.get(key) if isinstance(key, str) else None
        if storage is None or int.from_bytes(file.read(position, 8), "little") != storage.count:
            raise CheckpointError(f"{file.path} is truncated or corrupt: storage {key!r} is not where it should be.")
        starts[key] = position + 8
        position += 8 + storage.count * storage.dtype.itemsize
    if position > file.size:
        raise CheckpointError(f"{file.path} is truncated: its storages need {position} bytes, {file.size} are there.")
    if machine.storages.keys() != starts.keys():
        raise CheckpointError(f"{file.path} is corrupt: its list of storages is incomplete.")
    return _checkpoint(file, content, lambda storage: starts[storage.key])


def _checkpoint(file: File, content, place: Callable[[Storage], int | Callable[[], bytes]]) -> Checkpoint:
    """Name the tensors; `place` gives a storage's position in the file, or a function that unpacks it."""
    while isinstance(content, dict) and (inner := [key for key in WRAPPERS if isinstance(content.get(key), dict)]):
        content = content[inner[0]]
    pairs = content.items() if isinstance(content, dict) else ()
    named = {str(key): item for key, item in pairs if isinstance(item, Strided)}
    if not named:
        raise CheckpointError(f"{file.path} holds no tensors by name.")
    places = {storage.key: place(storage) for storage in {item.storage for item in named.values()}}
    tensors = {name: _tensor(file, item, places[item.storage.key]) for name, item in named.items()}
    return Checkpoint(tensors, "bin", {}, [file.close])


def _tensor(file: File, item: Strided, place: int | Callable[[], bytes]) -> Tensor:
    # Axes of length 1 have strides that mean nothing; the others in one piece are a permuted C-contiguous array.
    order = sorted(range(len(item.shape)), key=lambda axis: (item.shape[axis] == 1, -item.strides[axis]))
    stored, expected, dense = [item.shape[axis] for axis in order], 1, True
    for axis in reversed(order):
        dense = dense and (item.shape[axis] == 1 or item.strides[axis] == expected)
        expected *= item.shape[axis]
    if (dense or not item.span) and isinstance(place, int):
        return FileTensor(file, place + item.start, stored, item.dtype, np.argsort(order).tolist())

    def load() -> np.ndarray:
        if isinstance(place, int):
            file.read_into(flat := np.empty(item.span, item.dtype), place + item.start)
        else:
            flat = np.frombuffer(place(), item.dtype, item.span, item.start)
        strides = [stride * item.dtype.itemsize for stride in item.strides]
        return np.lib.stride_tricks.as_strided(flat, item.shape, strides).copy()

    return LoadedTensor(load, item.shape, item.dtype)
