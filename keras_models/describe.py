"""Facts about what there is, and about a model by its files alone. Nothing here needs a backend."""

from __future__ import annotations

import os
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from keras_models.checkpoint.find import open_weights
from keras_models.config import read_config, read_json
from keras_models.hub import Repository
from keras_models.preprocessing.tokenizer import choose_class
from keras_models.registry import ARCHITECTURES, TASK_ALIASES, TASKS

PRESETS = Path(__file__).parent / "presets"


def tasks() -> list[dict[str, Any]]:
    """A row per pipeline task, with its other names and the model it loads when none is named."""
    aliases = {name: [alias for alias, task in TASK_ALIASES.items() if task == name] for name in TASKS}
    return [
        {"task": name, "aliases": aliases[name], "default": row.default, "revision": row.revision}
        for name, row in TASKS.items()
    ]


def architectures() -> list[dict[str, Any]]:
    """A row per architecture, with the classes there are for it."""
    return [
        {
            "model_type": name,
            "classes": row.class_names,
            "tokenizer": row.tokenizer,
            "image processor": row.image_processor,
        }
        for name, row in ARCHITECTURES.items()
    ]


def presets() -> list[dict[str, Any]]:
    """A row per model inside the package."""
    configs = {path.parent.name: read_json(path) for path in sorted(PRESETS.glob("*/config.json"))}
    return [
        {"preset": f"preset:{name}", "class": class_for(config), "labels": _labels(config)}
        for name, config in configs.items()
    ]


def describe(source: str | os.PathLike[str], **hub: Any) -> dict[str, Any]:
    """What a model is, by config.json, the headers of its weights and its tokenizer's files.

    Args:
        source: a folder or a hub id, whose weights are downloaded for it.
        **hub: hub options (`revision`, `subfolder`, `token`, `cache_dir`, `local_files_only`, `force_download`).

    Returns:
        `class` is the one of keras_models, None if there is none. `parameters` counts floating-point numbers as they
        are stored, and `dtypes` all numbers by their type. `files` gives sizes in bytes, on the hub of those in the
        cache, and `size` their sum. Limits that no file tells are None.

    Raises:
        ValueError: a file is damaged.
        OSError: config.json or the weights are not there, or cannot be reached.
    """
    repository = Repository(source, **hub)
    config = read_config(repository)
    with open_weights(repository) as weights:
        dtypes: Counter[str] = Counter()
        for tensor in weights.values():
            dtypes[tensor.dtype.name] += prod(tensor.shape)
        parameters = sum(prod(tensor.shape) for tensor in weights.values() if is_float(tensor.dtype))
    tokenizer, limit = _tokenizer(repository)
    folder = repository.file("config.json", required=True).parent
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
    return {
        "model": str(source),
        "model_type": config.get("model_type"),
        "architectures": config.get("architectures"),
        "class": class_for(config),
        "parameters": parameters,
        "dtypes": dict(dtypes),
        "tensors": len(weights),
        "format": weights.format,
        "labels": _labels(config),
        "tokenizer": tokenizer,
        "model_max_length": limit,
        "max_position_embeddings": config.get("max_position_embeddings"),
        "files": files,
        "size": sum(files.values()),
    }


def class_for(config: dict[str, Any]) -> str | None:
    """The class for a config.json: the one that it names, else the bare model; None for an unknown architecture."""
    named = [name.removeprefix("TF").removeprefix("Flax") for name in config.get("architectures") or ()]
    for model_type, row in ARCHITECTURES.items():
        found = next((name for name in named if name in row.class_names), None)
        if model_type == config.get("model_type") or (found and not config.get("model_type")):
            return found or row.classes["base"]
    return None


def is_float(dtype: np.dtype) -> bool:
    """Whether a tensor of this dtype holds floating-point numbers, bfloat16 and 8-bit ones included."""
    return dtype.kind in "fV"


def _labels(config: dict[str, Any]) -> list[str] | None:
    labels = config.get("id2label") or {}
    return [labels[index] for index in sorted(labels, key=int)] or None


def _tokenizer(repository: Repository) -> tuple[str | None, int | None]:
    """The class of a repository's tokenizer, and how many tokens it says that the model takes."""
    path = repository.file("tokenizer_config.json")
    stored = read_json(path) if path else {}
    kind, _ = choose_class(repository, stored)
    there = any(map(repository.file, ("tokenizer.json", *kind.vocabulary_files.values())))
    limit = stored.get("model_max_length")
    known = isinstance(limit, int) and limit < 10**20  # where there is no limit, files hold a huge number
    return kind.__name__ if there else None, limit if known else None
