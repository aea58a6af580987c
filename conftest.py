"""Shared test set-up: the real checkpoints and data that may lie beside a clone, and one thread a process."""

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# Programs that JAX compiled in an earlier run of the tests are read back instead of being compiled again.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent / ".references" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# XLA, which compiles many small programs here that run once each, need not try hard.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false",
)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in background jobs of a shell; some tests interrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)
SHARED = Path(__file__).resolve().parent.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real checkpoints, tokenizers and data."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder ../shared with real checkpoints, tokenizers and data, absent from this clone")
    return SHARED
