"""Weight files as torch, safetensors and transformers write them, with their values for comparison."""

import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

SMALL = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
SEQUENCE = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
SEQUENCE |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
MODELS = {
    "bert": ("BertForMaskedLM", "BertConfig", {"vocab_size": 20, "max_position_embeddings": 12, **SMALL}),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {"vocab_size": 20, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_ctx": 9}),
    "bart": (
        "BartForConditionalGeneration",
        "BartConfig",
        {"vocab_size": 20, "max_position_embeddings": 9, **SEQUENCE},
    ),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        {"vocab_size": 20, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 2},
    ),
    "vit": ("ViTForImageClassification", "ViTConfig", {"image_size": 8, "patch_size": 4, **SMALL}),
    "resnet": (
        "ResNetForImageClassification",
        "ResNetConfig",
        {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 2], "layer_type": "basic"},
    ),
}


def model(folder: Path, name: str):
    """A tiny model saved as one safetensors file, in safetensors shards and in .bin shards."""
    make, config, arguments = MODELS[name]
    torch.manual_seed(0)
    made = getattr(transformers, make)(getattr(transformers, config)(**arguments))
    for value in made.state_dict().values():
        if value.is_floating_point():
            value.normal_()
    made.save_pretrained(folder / "single")
    made.save_pretrained(folder / "shards", max_shard_size="3KB")
    made.save_pretrained(folder / "bin", max_shard_size="3KB", safe_serialization=False)


def safetensors(folder: Path):
    """A file of every dtype that torch and safetensors share."""
    tensors = _tensors()
    tensors["c64"] = torch.randn(2, 3, dtype=torch.complex64)
    for name in ("uint16", "uint32", "uint64"):
        tensors[name] = torch.arange(6).to(getattr(torch, name)).reshape(2, 3)
    for name in ("float8_e4m3fn", "float8_e5m2"):
        tensors[name] = torch.randn(4, 4).to(getattr(torch, name))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt", "answer": "42"})
    _expect(folder, tensors)


def bins(folder: Path):
    """What torch.save makes: the zip and the older format, wrapped, with other things beside, of several protocols."""
    tensors = _tensors()
    shared = torch.randn(6, 8)
    tensors |= {
        "shared": shared,
        "transposed": shared.T,
        "slice": shared[1:4, 2:6],
        "row": shared[3],
        "strided": shared[::2, ::3],
        "expanded": torch.randn(1, 4).expand(3, 4),
        "permuted": torch.randn(2, 3, 4, 5).permute(2, 0, 3, 1),
        "ones": torch.randn(1, 4, 1).transpose(0, 2),
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
        "complex": torch.randn(2, 3, dtype=torch.complex64),
    }
    beside = {"epoch": 3, "name": "x", "loss": np.float64(0.5), "dtype": torch.float32, "device": torch.device("cpu")}
    beside |= {
        "size": torch.Size([2, 3]),
        "list": [torch.ones(2)],
        "optimizer": {"state": {0: {"step": torch.ones(3)}}},
    }
    tensors = OrderedDict(tensors)
    typed = {"eight": torch.randn(4, 4).to(torch.float8_e4m3fn), "uint16": torch.arange(5).to(torch.uint16)}
    old = {"_use_new_zipfile_serialization": False}
    torch.save(OrderedDict(tensors | typed), folder / "zip.bin")
    torch.save({**beside, **tensors, **typed}, folder / "zip_beside.bin", pickle_protocol=4)
    torch.save({**beside, "state_dict": tensors}, folder / "zip_wrapped.bin")
    torch.save(tensors, folder / "old.bin", **old)
    torch.save({**beside, **tensors}, folder / "old_beside.bin", pickle_protocol=4, **old)
    torch.save({**beside, "model": tensors}, folder / "old_wrapped.bin", **old)
    torch.save(torch.nn.Linear(2, 2), folder / "module.bin")
    _expect(folder, tensors | typed)


def contents(folder: str, index: str | None = None) -> dict:
    """What safetensors itself reads of a file or of the shards of an index: name -> [dtype, shape, bytes in hex]."""
    names = ["model.safetensors"]
    if index:
        names = sorted(set(json.loads((Path(folder) / index).read_text())["weight_map"].values()))
    found = {}
    for name in names:
        with safe_open(Path(folder) / name, framework="pt") as file:
            assert file.metadata()["format"] == "pt"
            for key in sorted(file.keys()):
                tensor = file.get_tensor(key)
                found[key] = [
                    str(tensor.dtype).removeprefix("torch."),
                    list(tensor.shape),
                    _bytes(tensor).tobytes().hex(),
                ]
    return found


def loads(folder: str) -> float:
    """Load a BERT that we saved: the sum of the absolute values of its parameters, each counted once."""
    made, information = transformers.BertForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not any(information.values()), information
    return float(sum(value.double().abs().sum() for value in made.parameters()))


def _tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    tensors = {
        name: torch.randn(3, 5).to(getattr(torch, name)) for name in ("float32", "float64", "float16", "bfloat16")
    }
    for name in ("int64", "int32", "int16", "int8", "uint8"):
        tensors[name] = torch.randint(0, 100, (4, 3)).to(getattr(torch, name))
    return tensors | {"bool": torch.rand(7) > 0.5, "scalar": torch.tensor(3.5), "empty": torch.zeros(0, 3)}


def _expect(folder: Path, tensors: dict[str, torch.Tensor]):
    kinds = {name: [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)] for name, tensor in tensors.items()}
    (folder / "kinds.json").write_text(json.dumps(kinds))
    np.savez(folder / "bytes.npz", **{name: _bytes(tensor) for name, tensor in tensors.items()})


def _bytes(tensor: torch.Tensor) -> np.ndarray:
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy() if flat.numel() else np.zeros(0, np.uint8)


def to_bin(source: str, target: str, zip_format: bool, prefix: str = ""):
    """Writes the tensors of a safetensors folder as pytorch_model.bin, in today's format or that before torch 1.6."""
    with safe_open(Path(source) / "model.safetensors", "pt") as file:
        names = file.keys()
        tensors = OrderedDict((prefix + name, file.get_tensor(name)) for name in names)
    torch.save(tensors, Path(target) / "pytorch_model.bin", _use_new_zipfile_serialization=zip_format)
