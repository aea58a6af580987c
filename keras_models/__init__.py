"""keras_models: Hugging Face's models as Keras layers, on JAX, PyTorch or TensorFlow as KERAS_BACKEND says."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

__version__ = "0.1.0"

_PACKAGES = {"jax": "jax", "torch": "torch", "tensorflow": "tensorflow"}


def _choose_backend():
    """Without KERAS_BACKEND, Keras wants TensorFlow; where that is not installed, take what is."""
    chosen = os.environ.get("KERAS_BACKEND")
    if chosen in _PACKAGES and importlib.util.find_spec(chosen) is None:
        raise ImportError(
            f"KERAS_BACKEND is {chosen!r}, but {chosen} is not installed: install it with "
            f"`pip install -e '.[{chosen}]'` in the clone, or set KERAS_BACKEND to another of {', '.join(_PACKAGES)}."
        )
    settings = os.path.join(os.environ.get("KERAS_HOME", os.path.expanduser("~/.keras")), "keras.json")
    if chosen or os.path.exists(settings):
        return
    installed = [name for name in ("tensorflow", "jax", "torch") if importlib.util.find_spec(name)]
    if not installed:
        raise ImportError(
            "keras_models needs a backend: install one with `pip install -e '.[jax]'`, `'.[torch]'` or "
            "`'.[tensorflow]'` in the clone."
        )
    os.environ["KERAS_BACKEND"] = installed[0]


_choose_backend()

from keras_models.registry import AUTO_CLASSES, public_names  # noqa: E402 - the backend has to be chosen first

_HOMES = {
    **public_names(),
    **dict.fromkeys(["AutoConfig", *AUTO_CLASSES], "keras_models.auto"),
    **dict.fromkeys(["AutoTokenizer", "BatchEncoding"], "keras_models.preprocessing.tokenizer"),
    "CheckpointError": "keras_models.checkpoint",
    "Config": "keras_models.config",
    "HubError": "keras_models.hub",
    "ModelOutput": "keras_models.outputs",
    "PreTrainedModel": "keras_models.model",
    "pipeline": "keras_models.pipelines",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'keras_models' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
