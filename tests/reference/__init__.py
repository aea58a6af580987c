"""Expected values, computed by transformers in an environment of its own.

The tests run where only one Keras backend is installed; this module talks to a worker process in the reference
environment (torch + transformers). `make` caches what a function writes under a hash of its arguments and of its
module's source, so all backends share one set of references; `call` asks a question and is never cached.
Functions of the modules `legacy` and `timm_` run in workers of their own, which also see the packages in the folders
`legacy` (an older transformers) and `timm` of the environment.
"""

import atexit
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("KERAS_MODELS_REFERENCES", ROOT / ".references"))


def python() -> str:
    """The reference environment's interpreter: KERAS_MODELS_REFERENCE_PYTHON, else the one that nox made."""
    given = os.environ.get("KERAS_MODELS_REFERENCE_PYTHON")
    path = Path(given) if given else ROOT / ".nox" / "reference" / "bin" / "python"
    if not path.exists():
        raise RuntimeError(
            f"No reference environment at {path}: run `nox -s reference` once, "
            "or set KERAS_MODELS_REFERENCE_PYTHON to a Python that has torch and transformers."
        )
    return str(path)


def packages(kind: str) -> str:
    """A folder of further packages: KERAS_MODELS_REFERENCE_LEGACY (_TIMM), else that in the reference environment."""
    name = f"KERAS_MODELS_REFERENCE_{kind.upper()}"
    path = Path(os.environ.get(name, Path(python()).parents[1] / kind))
    if not path.exists():
        raise RuntimeError(
            f"There is no folder {path}: run `nox -s reference` once, or set {name} to a folder that "
            "`pip install --no-deps --target` has put the packages into which noxfile.py names."
        )
    return str(path)


def make(function: str, **arguments) -> Path:
    """The folder that `function` ("module.name" in this package) filled when called with (folder, **arguments)."""
    request = json.dumps({"function": function, "arguments": arguments}, sort_keys=True)
    folder = CACHE / hashlib.sha256((_source(function) + request).encode()).hexdigest()[:24]
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=CACHE, prefix="tmp-"))
        _ask({"function": function, "arguments": arguments, "folder": str(scratch)})
        try:
            scratch.rename(folder)
        except OSError:  # another test process was faster
            shutil.rmtree(scratch)
    return folder


def call(function: str, **arguments):
    """What `function` ("module.name" in this package) returns in the reference environment, through JSON."""
    return _ask({"function": function, "arguments": arguments})


@lru_cache
def _source(function: str) -> str:
    return (Path(__file__).parent / f"{function.rsplit('.', 1)[0]}.py").read_text()


@lru_cache
def _worker(kind: str) -> subprocess.Popen:
    environment = {key: value for key, value in os.environ.items() if key not in ("KERAS_BACKEND", "PYTHONPATH")}
    environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment |= {"PYTHONPATH": packages(kind)} if kind in ("legacy", "timm") else {}
    worker = subprocess.Popen(
        [python(), str(Path(__file__).parent / "worker.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    atexit.register(worker.kill)
    return worker


def _ask(request: dict):
    worker = _worker({"legacy": "legacy", "timm_": "timm"}.get(request["function"].split(".")[0], "current"))
    worker.stdin.write(json.dumps(request) + "\n")
    worker.stdin.flush()
    line = worker.stdout.readline()
    if not line:
        raise RuntimeError(f"The reference worker died on {request['function']}; see its output above.")
    answer = json.loads(line)
    if "error" in answer:
        raise RuntimeError(f"The reference failed on {request}:\n{answer['error']}")
    return answer["result"]
