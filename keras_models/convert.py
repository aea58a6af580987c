"""Conversion: a checkpoint of any format written anew, as safetensors in the hub's layout with what lies beside it."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_models.checkpoint import Checkpoint, save_weights
from keras_models.checkpoint.find import open_weights
from keras_models.config import read_config, write_atomically
from keras_models.describe import class_for, is_float
from keras_models.hub import Repository

if TYPE_CHECKING:
    from keras_models.model import PreTrainedModel

BESIDE = (
    "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model",
    "chat_template.jinja", "chat_template.json", "preprocessor_config.json", "video_preprocessor_config.json",
    "processor_config.json", "README.md", "LICENSE",
)  # fmt: skip
KERAS_FLOATS = {"float64", "float32", "float16", "bfloat16"}


def convert(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    dtype: str | None = None,
    max_shard_size: int | str = "5GB",
    **hub: Any,
) -> str | None:
    """Writes a model's weights as safetensors, with its configuration and tokenizer or preprocessor files.

    Where keras_models has a class with a place for every tensor, they get the names they have today; else each is
    copied under the name that it has. What the class computes, or ties to another tensor, is left out with a warning.

    Args:
        source: a folder or a hub id.
        folder: where to write; created if need be.
        dtype: of floating-point tensors, such as "float16"; by default each keeps its own.
        max_shard_size: larger weights are split into several files.
        **hub: hub options (`revision`, `subfolder`, `token`, `cache_dir`, `local_files_only`, `force_download`).

    Returns:
        The class that the weights went through; None where they were copied by name.

    Raises:
        ValueError: a file is damaged, the checkpoint is not of the class that config.json names, `folder` is `source`,
            or the architecture is unknown and the format has other names than PyTorch's.
        OSError: a file is not there, cannot be reached or written.
    """
    repository, folder = Repository(source, **hub), Path(folder)
    if repository.folder is not None and repository.folder.resolve() == folder.resolve():
        raise ValueError(f"{folder} is the model's own folder: give another one to write to.")
    config = read_config(repository)
    name = class_for(config)
    with open_weights(repository) as weights:
        if name is None and weights.format in ("h5", "msgpack"):
            raise ValueError(
                f"{source} is a {config.get('model_type')!r} model, which keras_models has no class for, and only such "
                f"a class can tell PyTorch's names for all in a .{weights.format} file: take its .bin or safetensors."
            )
        model = _model_for_all(name, source, hub, weights, dtype) if name is not None else None
        if model is not None:
            model.save_pretrained(folder, max_shard_size)
        else:
            _copy(weights, folder, dtype, max_shard_size)
            changes = {key: dtype for key in ("dtype", "torch_dtype") if dtype and key in config}
            write_atomically(folder / "config.json", json.dumps(config | changes, indent=2, ensure_ascii=False) + "\n")
    for path in filter(None, map(repository.file, BESIDE)):
        shutil.copyfile(path, folder / path.name)
    return None if model is None else name


def _model_for_all(
    name: str, source: Any, hub: dict[str, Any], weights: Checkpoint, dtype: str | None
) -> PreTrainedModel | None:
    """The model, if it has a place for every tensor, the checkpoint one for every place, and both one dtype."""
    import keras_models
    from keras_models.checkpoint.names import by_variable, entries, rename

    stored = {tensor.dtype.name for tensor in weights.values() if is_float(tensor.dtype)}
    if dtype is None and (len(stored) != 1 or not stored <= KERAS_FLOATS):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report says what is missing
        model, report = getattr(keras_models, name).from_pretrained(
            source, dtype=dtype or stored.pop(), output_loading_info=True, **hub
        )
    differing = [key for key in ("missing_keys", "unexpected_keys") if report[key]]
    if differing:
        what = "; ".join(f"{key.replace('_', ' ')}: {', '.join(report[key])}" for key in differing)
        warnings.warn(
            f"The weights are not exactly those of {name} ({what}): each tensor is copied under its own name."
        )
        return None
    found = list(entries(model))
    known = rename(weights, {entry.key for entry in found}, model.base_model_prefix, model.renames)
    written = {next(known[entry.key] for entry in group if entry.key in known) for group in by_variable(found)}
    needless = sorted(set(weights) - written)
    if needless:
        warnings.warn(f"Not written, as {name} computes them or ties them to others: {', '.join(needless)}.")
    return model


def _copy(weights: Checkpoint, folder: Path, dtype: str | None, max_shard_size: int | str):
    def kind(tensor):
        return np.dtype(dtype) if dtype is not None and is_float(tensor.dtype) else tensor.dtype

    tensors = [(name, each.shape, kind(each), partial(each.read, kind(each))) for name, each in weights.items()]
    save_weights(tensors, folder, max_shard_size)
