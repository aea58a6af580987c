"""Models load from every format of the hub, from folders and from a hub."""

import json
import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor

import msgpack
import numpy as np
import pytest

from keras_models import AutoModelForMaskedLM, BertForMaskedLM, BertModel
from keras_models.checkpoint import open_checkpoint
from tests import reference
from tests.hub_server import HubServer
from tests.test_checkpoint_files import flax_tree, write_tf

IDS = np.arange(10)[None]


@pytest.fixture(scope="module")
def saved():
    """Folders of one BertForMaskedLM: `single`, `shards` and `bin` (in shards)."""
    return reference.make("checkpoint_files.model", name="bert")


@pytest.fixture(scope="module")
def expected(saved):
    return BertForMaskedLM.from_pretrained(saved / "single").infer(IDS).logits


def tensors_of(folder):
    return {name: tensor.read() for name, tensor in open_checkpoint(folder / "model.safetensors").items()}


def write_h5(saved, folder):
    write_tf(folder / "tf_model.h5", "bert", tensors_of(saved / "single"))


def write_msgpack(saved, folder):
    content = msgpack.packb(flax_tree("bert", tensors_of(saved / "single")))
    (folder / "flax_model.msgpack").write_bytes(content)


def write_single_bin(saved, folder):
    reference.call("checkpoint_files.to_bin", source=str(saved / "single"), target=str(folder), zip_format=True)


def write_old_bin(saved, folder):
    reference.call("checkpoint_files.to_bin", source=str(saved / "single"), target=str(folder), zip_format=False)


def copy_bin_shards(saved, folder):
    shutil.copytree(saved / "bin", folder, dirs_exist_ok=True)


def copy_shards(saved, folder):
    shutil.copytree(saved / "shards", folder, dirs_exist_ok=True)


def write_parallel_bin(saved, folder):
    """What torch.nn.DataParallel makes of names."""
    source = str(saved / "single")
    reference.call("checkpoint_files.to_bin", source=source, target=str(folder), zip_format=True, prefix="module.")


@pytest.mark.parametrize(
    "write",
    [write_h5, write_msgpack, write_single_bin, write_old_bin, write_parallel_bin, copy_bin_shards, copy_shards],
)
def test_every_format_gives_the_same_model(saved, expected, tmp_path, write):
    shutil.copy(saved / "single" / "config.json", tmp_path)
    write(saved, tmp_path)
    found, report = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert report["missing_keys"] == report["mismatched_keys"] == []
    np.testing.assert_allclose(found.infer(IDS).logits, expected, rtol=0, atol=1e-4)
    found.save_pretrained(tmp_path / "again")
    again = tensors_of(tmp_path / "again")
    for name, array in tensors_of(saved / "single").items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)


def test_a_bare_model_reads_files_of_tensorflow_and_flax(saved, tmp_path):
    shutil.copy(saved / "single" / "config.json", tmp_path)
    write_h5(saved, tmp_path)
    with pytest.warns(UserWarning, match="pooler"):
        bare = BertModel.from_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="pooler"):
        same = BertModel.from_pretrained(saved / "single")
    np.testing.assert_allclose(bare.infer(IDS).last_hidden_state, same.infer(IDS).last_hidden_state, atol=1e-4)


def from_hub(environment, repo, **options):
    """In a process of its own, as huggingface_hub reads its settings when it is imported."""
    os.environ.update(environment)
    from keras_models import AutoModelForMaskedLM

    try:
        return AutoModelForMaskedLM.from_pretrained(repo, **options).infer(IDS).logits
    except OSError as error:
        return str(error)


def to_hub(environment, folder, repo):
    os.environ.update(environment)
    from keras_models import AutoModelForMaskedLM

    return AutoModelForMaskedLM.from_pretrained(folder).push_to_hub(repo, max_shard_size="3KB")


def test_models_come_from_a_hub(saved, expected, tmp_path):
    """Whole and in shards, by branch, and then with no hub at all."""

    def files(folder):
        return {path.name: path.read_bytes() for path in (saved / folder).iterdir()}

    with HubServer(tmp_path / "hub") as hub, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as client:
        hub.add("tester/model", files("single"))
        hub.add("tester/model", files("shards"), revision="sharded")
        environment = {**hub.environment(tmp_path / "home"), "HF_TOKEN": hub.token}
        for options in ({}, {"revision": "sharded"}, {"local_files_only": True}):
            found = client.submit(from_hub, environment, "tester/model", **options).result()
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
        assert "tester/new" in client.submit(to_hub, environment, saved / "single", "tester/new").result()
        assert {"config.json", "model.safetensors.index.json"} < set(hub.files("tester/new"))
        found = client.submit(from_hub, environment, "tester/new").result()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
        assert "tester/nothing" in client.submit(from_hub, environment, "tester/nothing").result()


def test_a_config_of_another_time(saved, expected, tmp_path):
    """An old file has few keys, and some that mean nothing any more."""
    shutil.copytree(saved / "single", tmp_path, dirs_exist_ok=True)
    values = json.loads((tmp_path / "config.json").read_text())
    kept = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    old = {key: values[key] for key in (*kept, "max_position_embeddings")}
    old |= {"architectures": ["BertForMaskedLM"], "output_past": True, "_num_labels": 5, "finetuning_task": None}
    (tmp_path / "config.json").write_text(json.dumps(old))
    model = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert model.config.num_labels == 5
    np.testing.assert_allclose(model.infer(IDS).logits, expected, rtol=0, atol=1e-4)
