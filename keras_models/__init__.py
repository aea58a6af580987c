"""keras_models: Hugging Face's models as Keras layers, on JAX, PyTorch or TensorFlow as KERAS_BACKEND says."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from typing import Any

from keras_models.registry import public_names

__version__ = "0.1.0"

BACKENDS = ("tensorflow", "jax", "torch")


def _choose_backend() -> str | None:
    """Takes a backend that is installed where none was chosen; says what is wrong where there is none to take."""
    if "keras" in sys.modules:
        return None
    chosen = os.environ.get("KERAS_BACKEND")
    installed = [name for name in BACKENDS if importlib.util.find_spec(name)]
    if chosen in BACKENDS and chosen not in installed:
        return (
            f"KERAS_BACKEND is {chosen!r}, but {chosen} is not installed: install it with "
            f"`pip install -e '.[{chosen}]'` in the clone, or set KERAS_BACKEND to another of {', '.join(BACKENDS)}."
        )
    if not installed:
        return (
            "keras_models needs a backend: install one with `pip install -e '.[jax]'`, `'.[torch]'` or "
            "`'.[tensorflow]'` in the clone."
        )
    # Keras writes a settings file that says tensorflow, whether or not that is installed.
    if not chosen and _backend_in_settings() not in installed:
        os.environ["KERAS_BACKEND"] = installed[0]
    return None


def _backend_in_settings() -> str | None:
    """The backend that Keras' own settings file names."""
    home = os.environ.get("KERAS_HOME", os.path.join(os.path.expanduser("~"), ".keras"))
    try:
        with open(os.path.join(home, "keras.json"), encoding="utf-8") as file:
            return json.load(file).get("backend")
    except (OSError, ValueError):
        return None


_problem = _choose_backend()

_HOMES = {
    **public_names(),
    **dict.fromkeys(
        ["AutoTokenizer", "BatchEncoding", "PreTrainedTokenizerFast", "Tokenizer"],
        "keras_models.preprocessing.tokenizer",
    ),
    **dict.fromkeys(
        ["BaseStreamer", "TextStreamer", "TextIteratorStreamer", "AsyncTextIteratorStreamer"],
        "keras_models.generation.streamers",
    ),
    **dict.fromkeys(
        [
            "EosTokenCriteria",
            "MaxLengthCriteria",
            "MaxTimeCriteria",
            "StopStringCriteria",
            "StoppingCriteria",
            "StoppingCriteriaList",
        ],
        "keras_models.generation.stopping",
    ),
    **dict.fromkeys(["LogitsProcessor", "LogitsProcessorList"], "keras_models.generation.processors"),
    "Cache": "keras_models.cache",
    "Chat": "keras_models.chat",
    "CheckpointError": "keras_models.checkpoint",
    "Config": "keras_models.config",
    "GenerationConfig": "keras_models.generation.config",
    "get_json_schema": "keras_models.preprocessing.chat_tools",
    "HubError": "keras_models.hub",
    "ModelOutput": "keras_models.outputs",
    "PreTrainedModel": "keras_models.model",
    **dict.fromkeys(["CocoDetection", "ImageFolder"], "keras_models.training.data"),
    **dict.fromkeys(["BatchFeature", "ImageProcessor", "load_image", "to_rgb"], "keras_models.preprocessing.image"),
    **dict.fromkeys(["FeatureExtractor", "load_audio"], "keras_models.preprocessing.audio"),
    "Processor": "keras_models.preprocessing.processor",
    "Wav2Vec2CTCTokenizer": "keras_models.preprocessing.ctc_tokenizer",
    **dict.fromkeys(["KeyDataset", "Pipeline", "pipeline", "register_pipeline"], "keras_models.pipelines"),
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'keras_models' has no attribute {name!r}")
    if _problem:
        raise ImportError(_problem)
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
