"""Saving weights: the hub's layout, one tensor at a time, and atomic whatever happens."""

import json
import os
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

from keras_models.checkpoint import CheckpointError, open_checkpoint, save_weights
from keras_models.checkpoint.writer import parse_size
from tests import reference
from tests.weight_files import arrays, entries, equal_checkpoints, raw, same, some_tensors

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1000, 1000), ("5GB", 5 * 10**9), ("200MB", 2 * 10**8), ("1GiB", 2**30), ("1.5 kb", 1500), ("7", 7)],
)
def test_sizes(size, expected):
    assert parse_size(size) == expected


@pytest.mark.parametrize("size", ["", "GB", "5 parsecs", -1, 0, "0GB", True, None])
def test_bad_sizes(tmp_path, size):
    with pytest.raises(ValueError, match="max_shard_size is"):
        save_weights(entries(some_tensors(0)), tmp_path / "new", max_shard_size=size)
    assert not (tmp_path / "new").exists()


def test_saved_file_is_read_by_safetensors(tmp_path):
    generator = np.random.default_rng(0)
    kinds = (
        "float32",
        "bfloat16",
        "float16",
        "float64",
        "int64",
        "int8",
        "uint8",
        "bool",
        "float8_e4m3fn",
        "float8_e5m2",
    )
    tensors = {f"{kind}.ü": generator.standard_normal((3, 5)).astype(kind) for kind in kinds}
    tensors |= {
        "scalar": np.array(2.0, np.float32),
        "empty": np.zeros((0, 3), np.int32),
        "strided": np.ones((4, 6))[::2, ::3],
    }
    for size, index in (("5GB", None), (200, "model.safetensors.index.json")):
        paths = save_weights(entries(tensors), tmp_path, size, {"step": 3})
        assert size != "5GB" or open_checkpoint(paths[0]).metadata == {"format": "pt", "step": "3"}
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
        assert paths[-1].name == (index or "model.safetensors")
        found = reference.call("checkpoint_files.contents", folder=str(tmp_path), index=index)
        assert found == {
            name: [array.dtype.name, list(array.shape), raw(array).tobytes().hex()] for name, array in tensors.items()
        }
        equal_checkpoints(paths[-1], tensors)
    index = json.loads(paths[-1].read_text())
    assert index["metadata"] == {"total_size": sum(array.nbytes for array in tensors.values())}
    assert list(index["weight_map"]) == sorted(tensors)
    shards = [path.name for path in paths[:-1]]
    assert shards == [f"model-{at + 1:05d}-of-{len(shards):05d}.safetensors" for at in range(len(shards))]


@pytest.mark.parametrize("size", ["5GB", "2KB"])
def test_saved_model_is_read_by_transformers(tmp_path, size):
    source = reference.make("checkpoint_files.model", name="bert") / "single"
    tensors = arrays(source / "model.safetensors")
    save_weights(entries(tensors), tmp_path, size)
    shutil.copy(source / "config.json", tmp_path)
    total = sum(float(np.abs(array.astype(np.float64)).sum()) for array in tensors.values())
    assert reference.call("checkpoint_files.loads", folder=str(tmp_path)) == pytest.approx(total, rel=1e-12)


def test_one_tensor_in_memory_at_a_time(tmp_path):
    alive: list[weakref.ref] = []

    def value(at: int) -> np.ndarray:
        assert not any(other() is not None for other in alive)
        array = np.full((64, 64), at, np.float32)
        alive.append(weakref.ref(array))
        return array

    tensors = [(f"t{at}", (64, 64), np.float32, lambda at=at: value(at)) for at in range(5)]
    save_weights(tensors, tmp_path)
    assert len(alive) == 5


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([("a", (2,), np.float32, lambda: np.ones(3, np.float32))], r"saved as float32 of shape \(2,\), but .*\(3,\)"),
        ([("a", (2,), np.float32, lambda: np.ones(2))], "its value is float64"),
        ([("a", (2,), np.dtype("S3"), lambda: None)], "which safetensors files cannot hold"),
        ([("a", (1,), np.float32, lambda: np.ones(1, np.float32))] * 2, "Two tensors to be saved are called 'a'"),
    ],
)
def test_failed_save_leaves_everything(tmp_path, tensors, message):
    old = some_tensors(0)
    save_weights(entries(old), tmp_path, 1024)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match=message):
        save_weights([*entries(some_tensors(1)), *tensors], tmp_path, 1024)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("size", ["5GB", 1024])
def test_saving_over_files_that_are_mapped(tmp_path, size):
    old = some_tensors(0)
    path = save_weights(entries(old), tmp_path, size)[-1]
    checkpoint = open_checkpoint(path)
    views = {name: tensor.view() for name, tensor in checkpoint.items()}
    changed = [(name, view.shape, view.dtype, lambda view=view: view + 1) for name, view in views.items()]
    equal_checkpoints(save_weights(changed, tmp_path, size)[-1], {name: array + 1 for name, array in old.items()})
    for name, view in views.items():
        same(view, old[name])
        same(checkpoint[name].read(), old[name])


@pytest.mark.parametrize("size", ["5GB", 1024])
def test_files_are_synced_before_they_are_renamed(tmp_path, monkeypatch, size):
    synced, sync, replace = set(), os.fsync, os.replace

    def note_sync(handle: int):
        synced.add(os.fstat(handle).st_ino)
        sync(handle)

    def check_replace(source: Path, target: Path):
        assert os.stat(source).st_ino in synced
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", check_replace)
    for seed in (0, 1):
        paths = save_weights(entries(some_tensors(seed)), tmp_path, size)
    assert {path.stat().st_ino for path in paths} | {tmp_path.stat().st_ino} <= synced


KILLED_SAVES = """
import os, shutil, sys
from pathlib import Path
import numpy as np
from keras_models.checkpoint import WEIGHT_FILES, open_checkpoint, save_weights

def entries(seed):
    for at in range(6):
        yield f"layer.{at}.weight", (16, 8), np.float32, lambda at=at: np.full((16, 8), seed + at, np.float32)

def whole(folder):
    path = next(folder / name for name in WEIGHT_FILES if (folder / name).exists())
    found = {name: set(tensor.read().reshape(-1)) for name, tensor in open_checkpoint(path).items()}
    return next((seed for seed in (0, 10) if found == {f"layer.{at}.weight": {seed + at} for at in range(6)}), None)

def count(event, arguments):
    global left
    if event in ("open", "os.rename", "os.link", "os.remove") and left is not None:
        left -= 1
        if left < 0:
            os._exit(9)

os.fsync = lambda handle: None  # a killed process loses nothing that it has written
sys.addaudithook(count)
left, step, seen = None, 0, set()
old, new, no_links, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True", Path(sys.argv[4])
if old:
    save_weights(entries(0), folder / "old", old)
else:
    (folder / "old").mkdir()
if no_links:
    def refuse(*arguments): raise OSError("no links here")
    os.link = refuse
while True:
    work = folder / f"work{step}"
    shutil.copytree(folder / "old", work)
    child = os.fork()
    if not child:
        left = step
        save_weights(entries(10), work, new)
        left = None
        os._exit(0)
    died = os.waitpid(child, 0)[1]
    assert died or whole(work) == 10, "the save did not replace the old checkpoint"
    if old or any((work / name).exists() for name in WEIGHT_FILES):
        state = whole(work)
        assert state is not None, f"killed at step {step}: neither old nor new: {sorted(os.listdir(work))}"
        seen.add(state)
    save_weights(entries(10), work, new)  # the next save finds its way and clears up
    assert whole(work) == 10
    kept = sorted(path.name for path in save_weights(entries(10), folder / "clean", new))
    assert sorted(os.listdir(work)) == kept, (sorted(os.listdir(work)), kept)
    if not died:
        break
    step += 1
print(step, sorted(seen))
"""


@pytest.mark.parametrize(
    ("old", "new", "no_links"),
    [
        (10**6, 10**6, False),  # one file to one
        (10**6, 1024, False),  # one file to three shards
        (1024, 10**6, False),  # three shards to one file
        (1024, 1024, False),  # three shards to three of the same names
        (1024, 1024, True),  # the same where the file system has no hard links
        (1024, 512, False),  # three shards to six
        (0, 1024, False),  # nothing to three shards
    ],
)
def test_killed_at_any_step(tmp_path, old, new, no_links):
    """A save that dies at any opening, renaming, linking or removing of a file leaves the old checkpoint or the new."""
    run = [sys.executable, "-c", KILLED_SAVES, str(old), str(new), str(no_links), str(tmp_path)]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    steps, seen = done.stdout.split(" ", 1)
    assert int(steps) >= 2
    assert seen.strip() == ("[10]" if not old else "[0, 10]")
