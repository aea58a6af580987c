"""Weight files: every format is read as the reference wrote it, and broken ones are refused with a reason."""

import gc
import json
import random
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import h5py
import ml_dtypes
import msgpack
import numpy as np
import pytest

from keras_models.checkpoint import WEIGHT_FILES, CheckpointError, open_checkpoint, save_weights
from tests import reference
from tests.weight_files import (
    arrays,
    as_written,
    entries,
    equal_checkpoints,
    expected_bytes,
    flax_array,
    old_of,
    same,
    some_tensors,
    tensor_pickle,
    zip_of,
)

ROOT = Path(__file__).resolve().parents[1]


def test_every_dtype_of_safetensors():
    folder = reference.make("checkpoint_files.safetensors")
    assert not as_written(folder / "model.safetensors", expected_bytes(folder))
    checkpoint = open_checkpoint(folder / "model.safetensors")
    assert (checkpoint.format, checkpoint.metadata) == ("safetensors", {"format": "pt", "answer": "42"})


@pytest.mark.parametrize("source", ["float32", "float16", "bfloat16", "int64"])
@pytest.mark.parametrize("target", [None, "float32", "float16", "bfloat16", "float64"])
def test_read_casts_and_transposes(tmp_path, source, target):
    generator = np.random.default_rng(0)
    shapes = {
        "vector": (70_000,),
        "matrix": (301, 517),
        "conv": (3, 5, 37, 41),
        "row": (1, 999),
        "scalar": (),
        "none": (0, 4),
    }
    tensors = {name: (generator.standard_normal(shape) * 100).astype(source) for name, shape in shapes.items()}
    save_weights(entries(tensors), tmp_path)
    with open_checkpoint(tmp_path / "model.safetensors") as checkpoint:
        for name, array in tensors.items():
            order = tuple(range(array.ndim))
            for axes in {None, order, order[::-1], (*order[1:], *order[:1])}:
                found = checkpoint[name].read(target, axes)
                assert found.flags.c_contiguous and found.flags.writeable
                assert found.size == 0 or found.ctypes.data % 64 == 0
                same(found, (array if axes is None else array.transpose(axes)).astype(target or source))


def test_view_is_private(tmp_path):
    tensors = some_tensors(0)
    path = save_weights(entries(tensors), tmp_path)[0]
    content = path.read_bytes()
    checkpoint = open_checkpoint(path)
    views = {name: tensor.view() for name, tensor in checkpoint.items()}
    views["layer.0.weight"] += 1
    assert path.read_bytes() == content
    same(checkpoint["layer.0.weight"].read(), tensors["layer.0.weight"])
    checkpoint.close()
    del checkpoint
    gc.collect()
    same(views["layer.1.weight"], tensors["layer.1.weight"])


def test_reading_after_close_says_so(tmp_path):
    save_weights(entries(some_tensors(0)), tmp_path)
    with open_checkpoint(tmp_path / "model.safetensors") as checkpoint:
        tensor = checkpoint["layer.0.weight"]
    for act in (tensor.read, tensor.view):
        with pytest.raises(CheckpointError, match="was closed"):
            act()


MEMORY = """
import sys
from keras_models.checkpoint import open_checkpoint
def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) * 1024
with open_checkpoint(sys.argv[1]) as checkpoint:
    size = sum(tensor.nbytes for tensor in checkpoint.values())
    before = status("VmRSS")
    axes = eval(sys.argv[2])
    kept = [tensor.read(axes=axes) for tensor in checkpoint.values()]
print((status("VmHWM") - before) / size)
"""


@pytest.mark.parametrize("axes", ["None", "(1, 0)"])
def test_reading_peaks_at_the_size_of_the_arrays(tmp_path, axes):
    tensors = some_tensors(0, (2048, 1024), 8)  # 64 MiB
    save_weights(entries(tensors), tmp_path)
    run = [sys.executable, "-c", MEMORY, str(tmp_path / "model.safetensors"), axes]
    share = float(subprocess.run(run, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    assert share < 1.05


TF_KINDS = {  # by model: the kind that a variable has in TensorFlow, where its PyTorch name ends with the pattern
    "bert": {
        r"LayerNorm\.weight": "gamma",
        r"LayerNorm\.bias": "beta",
        r"word_embeddings\.weight": "weight",
        r"_embeddings\.weight": "embeddings",
    },
    "gpt2": {r"ln_\w\.weight": "gamma", r"ln_\w\.bias": "beta", r"w[tp]e\.weight": "embeddings", r"\.weight": "weight"},
    "bart": {
        r"norm(_embedding)?\.weight": "gamma",
        r"norm(_embedding)?\.bias": "beta",
        r"(shared|embed_positions)\.weight": "embeddings",
    },
    "t5": {r"norm\.weight": "weight", r"(shared|relative_attention_bias)\.weight": "embeddings"},
    "vit": {r"layernorm\w*\.weight": "gamma", r"layernorm\w*\.bias": "beta"},
    "resnet": {
        r"normalization\.weight": "gamma",
        r"normalization\.bias": "beta",
        "running_mean": "moving_mean",
        "running_var": "moving_variance",
    },
}


def tf_variable(model: str, name: str, array: np.ndarray) -> tuple[list[str], np.ndarray]:
    """A PyTorch tensor as the TensorFlow class holds it: the parts of its path, its values."""
    *parts, kind = name.split(".")
    path: list[str] = []
    for part in parts:
        if part.isdigit():
            path[-1] += ("." if model in ("bart", "resnet") else "_._") + part
        else:
            path.append("mlm___cls" if part == "cls" else part)
    kinds = [kind for pattern, kind in TF_KINDS[model].items() if re.search(pattern + "$", name)]
    kind = [*kinds, "kernel" if kind == "weight" else kind][0]
    if kind == "kernel":
        array = array.transpose({2: (1, 0), 4: (2, 3, 1, 0)}[array.ndim])
    if model == "gpt2" and kind == "bias":
        array = array[None]
    return [*path, kind], array


def write_tf(path: Path, model: str, tensors: dict[str, np.ndarray]):
    """The layout of transformers 4.57.6's TFPreTrainedModel.save_pretrained, tf_keras 2.21:

    /<layer>/<class>/<layer>/.../<kind>:0, where layer is a direct attribute of the model, and class is the snake-cased
    class name, tf_bert_for_masked_lm; lists are layer_._0 or layers.0. A tied head repeats the embeddings that it uses
    under its own layer. Shared embeddings have no class: /model/model.shared/model.shared/embeddings:0 (BART),
    /shared/shared/shared/embeddings:0, again under /encoder and /decoder (T5); a weight of the model itself has
    no class either: /final_logits_bias/final_logits_bias:0.
    """
    with h5py.File(path, "w") as file:
        layers = []
        for name, array in tensors.items():
            parts, array = tf_variable(model, name, array)
            if name == "final_logits_bias":
                places = ["final_logits_bias/final_logits_bias"]
            elif name == "model.shared.weight":
                places = ["model/model.shared/model.shared/embeddings"]
            elif name == "shared.weight":
                places = [f"{layer}/shared/shared/embeddings" for layer in ("shared", "encoder", "decoder")]
            else:
                places = [f"{parts[0]}/tf_some_class_1/{'/'.join(parts)}"]
            if name.startswith("bert.embeddings"):
                places.append(f"mlm___cls/tf_some_class_1/{'/'.join(parts)}")
            for place in places:
                file.create_dataset(place + ":0", data=array)
            layers.append(places[0].split("/")[0])
        file.attrs["layer_names"] = [layer.encode() for layer in dict.fromkeys(layers)]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.21.0"


@pytest.mark.parametrize("model", TF_KINDS)
def test_tf_h5(tmp_path, model):
    folder = reference.make("checkpoint_files.model", name=model)
    expected = arrays(folder / "single" / "model.safetensors")
    expected = {name: array for name, array in expected.items() if "num_batches_tracked" not in name}
    write_tf(tmp_path / "tf_model.h5", model, expected)
    equal_checkpoints(tmp_path / "tf_model.h5", expected)
    assert open_checkpoint(tmp_path / "tf_model.h5").format == "h5"


@pytest.mark.parametrize("model", ["bert", "bart"])
def test_tf_h5_sharded(tmp_path, model):
    """Shards leave out layer and class, unless the name has a "model." in it or one part alone; layer_names lists the
    variables; the index has the class in its names."""
    expected = arrays(reference.make("checkpoint_files.model", name=model) / "single" / "model.safetensors")
    weight_map, shards = {}, {}
    for at, (name, array) in enumerate(expected.items()):
        parts, array = tf_variable(model, name, array)
        path = "model.shared/model.shared/embeddings" if name == "model.shared.weight" else "/".join(parts)
        shard = f"tf_model-{at % 3 + 1:05d}-of-00003.h5"
        weight_map[f"tf_some_class/{path}:0"] = shard
        shards.setdefault(shard, {})[path + ":0"] = array
    for shard, variables in shards.items():
        with h5py.File(tmp_path / shard, "w") as file:
            for path, array in variables.items():
                file.create_dataset(path, data=array)
            file.attrs["layer_names"] = [path.encode() for path in variables]
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (tmp_path / "tf_model.h5.index.json").write_text(json.dumps(index))
    equal_checkpoints(tmp_path / "tf_model.h5.index.json", expected)


def test_h5_compressed_chunked_and_big_endian(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a/c/a/kernel:0", data=array, compression="gzip")
        file.create_dataset("b/c/b/kernel:0", data=array, dtype=">f4")
        file.create_dataset("c/c/c/bias:0", data=array[:1], chunks=(1, 2))
        file.create_dataset("d/c/d/text:0", data="not a tensor")
    equal_checkpoints(tmp_path / "x.h5", {"a.weight": array.T, "b.weight": array.T, "c.bias": array[0]})


def test_h5_that_points_to_other_files(tmp_path):
    (tmp_path / "secret").write_bytes(b"0123456789abcdef")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a/c/a/bias:0", (4,), "f4", external=[(str(tmp_path / "secret"), 0, 16)])
    with pytest.raises(CheckpointError, match="in other files"):
        open_checkpoint(tmp_path / "x.h5")


def flax_tree(model: str, tensors: dict[str, np.ndarray]) -> dict:
    """The layout of transformers 4.57.6's FlaxPreTrainedModel.save_pretrained, flax 0.12.8.

    Nested maps by the parts of the PyTorch name; kernel (in, out), conv (h, w, in, out), scale, embedding. A T5 norm
    keeps "weight". GPT-2's kernels are (out, in). Models with running statistics hold them as batch_stats, beside
    params; ResNet's list of convolutions is layer/layer_0.
    """
    tree: dict = {}
    for name, array in tensors.items():
        *parts, kind = name.split(".")
        if model == "resnet":
            parts = re.sub(r"layer\.(\d)", r"layer.layer_\1", ".".join(parts)).split(".")
            parts = ["batch_stats" if kind.startswith("running") else "params", *parts]
        if kind == "weight" and re.search(r"shared|embed_positions|_embeddings$|w[tp]e$|relative", parts[-1]):
            kind = "embedding"
        elif kind == "weight" and array.ndim == 1:
            kind = "weight" if model == "t5" else "scale"
        elif kind == "weight":
            kind, array = "kernel", array.transpose({2: (1, 0), 4: (2, 3, 1, 0)}[array.ndim])
        node = tree
        for part in parts:
            node = node.setdefault(part, {})
        node[{"running_mean": "mean", "running_var": "var"}.get(kind, kind)] = flax_array(array)
    return tree


@pytest.mark.parametrize("model", TF_KINDS)
def test_flax_msgpack(tmp_path, model):
    expected = arrays(reference.make("checkpoint_files.model", name=model) / "single" / "model.safetensors")
    expected = {name: array for name, array in expected.items() if "num_batches_tracked" not in name}
    tree = flax_tree(model, expected)
    path = tmp_path / "flax_model.msgpack"
    path.write_bytes(msgpack.packb(tree, strict_types=True))
    equal_checkpoints(path, expected)
    assert open_checkpoint(path).format == "msgpack"
    halves = {"a.msgpack": dict(list(tree.items())[::2]), "b.msgpack": dict(list(tree.items())[1::2])}
    for name, half in halves.items():
        (tmp_path / name).write_bytes(msgpack.packb(half, strict_types=True))
    weight_map = {f"{key}/x": name for name, half in halves.items() for key in half}
    index = tmp_path / "flax_model.msgpack.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    equal_checkpoints(index, expected)


def test_flax_scalars_chunks_and_small_floats(tmp_path):
    array = np.arange(20, dtype=np.float32).reshape(4, 5)
    brain = array.astype(ml_dtypes.bfloat16)
    parts = {str(at): flax_array(part) for at, part in enumerate(np.split(array.reshape(-1), [8, 16]))}
    chunked = {"__msgpack_chunked_array__": True, "shape": {"0": 4, "1": 5}, "chunks": parts}
    tree = {
        "logit_scale": flax_array(np.float32(2.5).reshape(()), 3),
        "big": {"kernel": chunked},
        "small": {"kernel": flax_array(brain), "bias": flax_array(brain[0])},
        "step": 3, "rate": 0.5, "complex": msgpack.ExtType(2, b"x" * 8), "none": None,
        "list": ["a", -1, -70000, 2**40, True],
    }  # fmt: skip
    path = tmp_path / "flax_model.msgpack"
    path.write_bytes(msgpack.packb(tree, strict_types=True))
    expected = {"logit_scale": np.array(2.5, np.float32), "big.weight": array.T}
    equal_checkpoints(path, expected | {"small.weight": brain.T, "small.bias": brain[0]})


@pytest.mark.parametrize(
    "array",
    [
        ((2, 2), "float32", b"123"),
        ((2,), "no dtype", b"12345678"),
        ((2,), "object", b"x" * 16),
        ((-2,), "float32", b""),
        (),
        7,
    ],
)
def test_flax_array_described_wrongly(tmp_path, array):
    path = tmp_path / "flax_model.msgpack"
    path.write_bytes(msgpack.packb({"a": {"kernel": msgpack.ExtType(1, msgpack.packb(array))}}))
    with pytest.raises(CheckpointError, match=r"the array at byte .* is described wrongly"):
        open_checkpoint(path)


@pytest.mark.parametrize("name", ["shards/model.safetensors.index.json", "bin/pytorch_model.bin.index.json"])
def test_shards_of_the_reference(name):
    folder = reference.make("checkpoint_files.model", name="bert")
    expected = arrays(folder / "single" / "model.safetensors")
    assert len(list((folder / name).parent.glob("*-of-*"))) > 2
    with open_checkpoint(folder / name) as checkpoint:
        assert int(checkpoint.metadata["total_size"]) >= sum(array.nbytes for array in expected.values())
        for key, array in expected.items():
            same(checkpoint[key].read(), array)
        assert not {key for key in set(checkpoint) - set(expected) if "decoder" not in key}  # .bin has tied copies


def test_shards_are_fetched_by_name(tmp_path):
    tensors = some_tensors(0)
    save_weights(entries(tensors), tmp_path / "made", max_shard_size=1024)
    (tmp_path / "index").mkdir()
    index = shutil.move(tmp_path / "made" / "model.safetensors.index.json", tmp_path / "index")
    asked = []

    def fetch(name: str) -> Path:
        asked.append(name)
        return tmp_path / "made" / name

    with open_checkpoint(index, fetch) as checkpoint:
        same(checkpoint["layer.5.weight"].read(), tensors["layer.5.weight"])
    assert asked == [f"model-{at:05d}-of-00003.safetensors" for at in (1, 2, 3)]
    with pytest.raises(
        CheckpointError, match=r"shard 'model-00001-of-00003\.safetensors' that .*index\.json names is missing"
    ):
        open_checkpoint(index)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", 'not JSON with a "weight_map"'),
        ("{}", 'not JSON with a "weight_map"'),
        ('{"weight_map": [1]}', 'not JSON with a "weight_map"'),
        ('{"weight_map": {"a": "../x"}}', "lies outside its folder"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "lies outside its folder"),
        ('{"weight_map": {"a": "C:\\\\x"}}', "lies outside its folder"),
        ('{"weight_map": {"a": "x.index.json"}}', "is an index itself"),
        ('{"weight_map": {"a": "model.safetensors"}}', r"promises tensors that its shards do not hold: a \(in model"),
    ],
)
def test_bad_index(tmp_path, index, message):
    save_weights(entries(some_tensors(0)), tmp_path)
    path = tmp_path / "x.index.json"
    path.write_text(index)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(path)


def test_formats_are_told_by_content(tmp_path):
    folder = reference.make("checkpoint_files.bins")
    save_weights(entries(some_tensors(0)), tmp_path)
    write_tf(tmp_path / "x.h5", "bert", {"bert.pooler.dense.bias": np.ones(3, np.float32)})
    (tmp_path / "x.msgpack").write_bytes(msgpack.packb({"a": {"kernel": flax_array(np.ones((2, 2)))}}))
    sources = {
        tmp_path / "model.safetensors": "safetensors", folder / "zip.bin": "bin", folder / "old.bin": "bin",
        tmp_path / "x.h5": "h5", tmp_path / "x.msgpack": "msgpack",
    }  # fmt: skip
    copies = tmp_path / "copies"
    copies.mkdir()
    for source, kind in sources.items():
        for name in WEIGHT_FILES[::2]:
            shutil.copy(source, copies / name)
            with open_checkpoint(copies / name) as checkpoint:
                assert checkpoint.format == kind


@pytest.mark.parametrize("name", WEIGHT_FILES[::2])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html><html>404</html>", "web page"),
        (b"<html>404</html>", "web page"),
        (b"", "is empty"),
        (b"Entry not found", "not a safetensors file|no weight file"),
        (b"\x00" * 100, "not a safetensors file|no weight file"),
    ],
)
def test_no_weights(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path / name)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "model.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match=f"Cannot open the weight file {re.escape(str(path))}: "):
            open_checkpoint(path)


def safetensors_of(path: Path, header, data: bytes = bytes(64)) -> Path:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content + data)
    return path


FLOATS = {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{not json}", "header is not JSON"),
        (b"[1]", "not a safetensors file|not a JSON object"),
        (b"{}" + b"\xff" * 6, "header is not JSON"),
        ({"a": FLOATS | {"dtype": "F3"}}, "'a' has the dtype 'F3'"),
        ({"a": FLOATS | {"shape": [4, 5]}}, r"'a', F32 of shape \[4, 5\], needs 80 bytes but is given 64"),
        ({"a": FLOATS | {"data_offsets": [0, 65]}}, "needs 64 bytes but is given 65"),
        ({"a": FLOATS | {"shape": [-4, -4]}}, "entry for 'a'"),
        ({"a": FLOATS | {"shape": [4.0, 4]}}, "entry for 'a'"),
        ({"a": FLOATS | {"data_offsets": [64]}}, "entry for 'a'"),
        ({"a": 3}, "entry for 'a'"),
        ({"__metadata__": "pt", "a": FLOATS}, "the metadata in it, is not a JSON object"),
        ({"a": FLOATS, "b": FLOATS}, "'b' overlaps the tensor before it"),
        ({"a": FLOATS | {"shape": [4], "data_offsets": [16, 32]}}, "'a' leaves a gap before it"),
        ({"a": FLOATS | {"shape": [4], "data_offsets": [0, 16]}}, "48 bytes after its tensors"),
        (
            {"a": FLOATS | {"shape": [4, 8], "data_offsets": [0, 128]}},
            "is truncated: its tensors need 128 bytes and 64",
        ),
    ],
)
def test_corrupt_safetensors(tmp_path, header, message):
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(safetensors_of(tmp_path / "model.safetensors", header))


def good_files(folder: Path) -> list[Path]:
    tensors = some_tensors(0, (4, 6), 3)
    save_weights(entries(tensors), folder)
    write_tf(folder / "tf_model.h5", "bert", {f"bert.{name}": array for name, array in tensors.items()})
    tree = {name: {"kernel": flax_array(array)} for name, array in tensors.items()}
    (folder / "flax_model.msgpack").write_bytes(msgpack.packb(tree))
    zip_of(folder / "zip.bin", tensor_pickle(0, (2, 4), (4, 1)))
    old_of(folder / "old.bin", tensor_pickle(0, (2, 4), (4, 1)))
    return [folder / name for name in ("model.safetensors", "tf_model.h5", "flax_model.msgpack", "zip.bin", "old.bin")]


def test_truncated_anywhere(tmp_path):
    for path in good_files(tmp_path):
        content = path.read_bytes()
        assert len(arrays(path)) in (1, 3)
        for size in {*range(0, len(content), max(1, len(content) // 50)), len(content) - 1}:
            path.write_bytes(content[:size])
            with pytest.raises(CheckpointError):
                arrays(path)


def test_flipped_bytes_give_an_error_or_tensors(tmp_path):
    chance = random.Random(0)
    for path in good_files(tmp_path):
        content = path.read_bytes()
        refused = 0
        for _ in range(150):
            broken = bytearray(content)
            broken[chance.randrange(len(content))] = chance.randrange(256)
            path.write_bytes(broken)
            try:
                arrays(path)
            except CheckpointError as error:
                assert path.name in str(error)
                refused += 1
        assert 0 < refused < 150
