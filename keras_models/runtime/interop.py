"""Arrays handed over to, and recognised from, the frameworks a user may work with, active backend or not."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import keras
import numpy as np

_LIBRARIES = {"jax": ("jax.numpy", "JAX"), "pt": ("torch", "PyTorch"), "tf": ("tensorflow", "TensorFlow")}
_PACKAGES = {"numpy": "np", "jax": "jax", "jaxlib": "jax", "torch": "pt", "tensorflow": "tf"}


def to_framework(array: np.ndarray, kind: str) -> Any:
    """`array` as a tensor of one framework, on the CPU or wherever that framework puts new tensors.

    Args:
        array: any numpy array.
        kind: "np", "jax", "pt", "tf", or "keras" for the active backend.

    Integers become 64-bit on PyTorch and 32-bit on JAX and TensorFlow, as models there expect.

    Raises:
        ImportError: the framework is not installed.
    """
    if kind == "np":
        return array
    if kind == "keras":
        long = keras.config.backend() == "torch"
        return keras.ops.convert_to_tensor(array if long else _shortened(array))
    module, name = _LIBRARIES[kind]
    try:
        library = import_module(module)
    except ImportError as error:
        raise ImportError(
            f"return_tensors={kind!r} needs {name}, which is not installed; use 'keras' or 'np'."
        ) from error
    if kind == "pt":
        return library.tensor(array)
    return library.asarray(_shortened(array)) if kind == "jax" else library.constant(_shortened(array))


def _shortened(array: np.ndarray) -> np.ndarray:
    return array.astype("int32") if array.dtype == np.int64 else array


def framework_of(value: Any) -> str | None:
    """The kind of tensor (see `to_framework`) that `value` is, or None if it is none."""
    return _PACKAGES.get(type(value).__module__.partition(".")[0]) if hasattr(value, "shape") else None
