"""Shared test set-up: the real checkpoints and data that may lie beside a clone, and one thread a process."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
SHARED = Path(__file__).resolve().parent.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real checkpoints, tokenizers and data."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder ../shared with real checkpoints, tokenizers and data, absent from this clone")
    return SHARED
