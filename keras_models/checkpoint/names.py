"""Names and layouts: the path of attributes to a variable is its name in a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

# Per class of layer: attribute -> (name in the file, axes of the variable in the file's order). Files keep PyTorch's
# layouts: (out, in) for Dense, (out, in, height, width) for Conv.
_DENSE = {"kernel": ("weight", (1, 0)), "bias": ("bias", None)}
_NORM = {"gamma": ("weight", None), "beta": ("bias", None)}
_RULES: dict[type, dict[str, tuple[str, tuple[int, ...] | None]]] = {
    layers.Dense: _DENSE,
    layers.Conv1D: {"kernel": ("weight", (2, 1, 0)), "bias": ("bias", None)},
    layers.Conv2D: {"kernel": ("weight", (3, 2, 0, 1)), "bias": ("bias", None)},
    layers.Conv3D: {"kernel": ("weight", (4, 3, 0, 1, 2)), "bias": ("bias", None)},
    layers.Conv1DTranspose: {"kernel": ("weight", (2, 1, 0)), "bias": ("bias", None)},
    layers.Conv2DTranspose: {"kernel": ("weight", (3, 2, 0, 1)), "bias": ("bias", None)},
    layers.DepthwiseConv2D: {"kernel": ("weight", (2, 3, 0, 1)), "bias": ("bias", None)},
    layers.Embedding: {"embeddings": ("weight", None)},
    layers.LayerNormalization: _NORM,
    layers.GroupNormalization: _NORM,
    layers.RMSNormalization: {"scale": ("weight", None)},
    layers.BatchNormalization: {
        **_NORM,
        "moving_mean": ("running_mean", None),
        "moving_variance": ("running_var", None),
    },
}  # fmt: skip

# Tensors that old files carry and no model needs: tables that are computed, counters, training state.
_IGNORED = re.compile(
    r"(^|\.)(position_ids|num_batches_tracked|inv_freq|relative_position_index|masked_bias|_float_tensor|version)$"
    r"|(^|\.)criterion\.|\.attn\.bias$"
)


@dataclass
class Entry:
    """A variable and what a checkpoint calls it."""

    key: str
    layer: Any
    attribute: str
    axes: tuple[int, ...] | None = None  # of the variable, in the file's order
    alias: bool = False  # another name of a variable that is at home elsewhere

    @property
    def variable(self) -> keras.Variable:
        """The variable itself (of a layer with LoRA, the frozen one)."""
        # Keras keeps kernels and tables under a private name, behind a property that merges LoRA's product into them.
        private = f"_{self.attribute}"
        return getattr(self.layer, private if hasattr(self.layer, private) else self.attribute)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape in a file."""
        shape = self.variable.shape
        return tuple(shape) if self.axes is None else tuple(shape[axis] for axis in self.axes)

    @property
    def reading_axes(self) -> tuple[int, ...] | None:
        """The axes of the stored tensor in the variable's order."""
        return None if self.axes is None else tuple(int(axis) for axis in np.argsort(self.axes))

    def array(self) -> np.ndarray:
        """The value as a file holds it, with LoRA's product merged."""
        value = keras.ops.convert_to_numpy(getattr(self.layer, self.attribute))
        return value if self.axes is None else value.transpose(self.axes)


def entries(layer: keras.layers.Layer, prefix: str = "") -> Iterator[Entry]:
    """Walks the attributes of a layer and of its sub-layers: one entry per name, aliases of tied variables included.

    A trailing underscore, which stands for a name that Keras reserves, is dropped.
    """
    tied = getattr(layer, "tied_to", None)
    if tied is not None:
        yield Entry(f"{prefix}weight", tied, "embeddings", alias=True)
        if layer.bias is not None:
            yield Entry(f"{prefix}bias", layer, "bias")
        return
    for kind in type(layer).__mro__:
        rules = vars(kind).get("stored_as", _RULES.get(kind))
        if rules:
            for attribute, (name, axes) in rules.items():
                if getattr(layer, attribute, None) is not None:
                    yield Entry(prefix + name, layer, attribute, axes)
            return
    # The torch backend keeps sub-layers apart from other attributes.
    for name, value in {**vars(layer), **vars(layer).get("_modules", {})}.items():
        if not name.startswith("_"):
            yield from _member(layer, name, value, f"{prefix}{name.removesuffix('_')}")


def _member(owner, name, value, key) -> Iterator[Entry]:
    if isinstance(value, keras.Variable):
        yield Entry(key, owner, name)
    elif isinstance(value, keras.layers.Layer):
        yield from entries(value, f"{key}.")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _member(owner, name, item, f"{key}.{index}")
    elif isinstance(value, dict):
        for index, item in value.items():
            yield from _member(owner, name, item, f"{key}.{index}")


def by_variable(found: Iterable[Entry]) -> list[list[Entry]]:
    """Groups entries by variable; the first of each group is the name to write."""
    groups: dict[int, list[Entry]] = {}
    for entry in found:
        groups.setdefault(id(entry.variable), []).append(entry)
    return [sorted(group, key=lambda entry: (entry.alias, len(entry.key))) for group in groups.values()]


def rename(keys: Iterable[str], expected: set[str], prefix: str, renames: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Maps the model's names to a checkpoint's: {expected or left-over name: key in the checkpoint}.

    Args:
        keys: of the checkpoint.
        expected: the model's names.
        prefix: of the bare model inside a model with a head ("bert"); added or removed as the model needs.
        renames: (regular expression, replacement) pairs from old spellings to the model's.
    """
    names = {}
    for key in keys:
        if _IGNORED.search(key) and key not in expected:
            continue
        name = key.removeprefix("module.")  # torch.nn.DataParallel's
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        if name not in expected:
            name = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))
        names[name] = key
    dot = f"{prefix}."
    model_has_head = any(name.startswith(dot) for name in expected)
    file_has_prefix = any(name.startswith(dot) for name in names)
    if model_has_head and not file_has_prefix:
        return {dot + name if dot + name in expected else name: key for name, key in names.items()}
    if file_has_prefix and not model_has_head:
        return {name.removeprefix(dot): key for name, key in names.items()}
    return names
