"""Importing the package: quick, lazy, and clear about backends."""

import json
import os
import subprocess
import sys

import keras
import pytest


def run(code, home, **environment):
    """Runs Python code in a new process; returns (exit status, output, last line of errors)."""
    inherited = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, "KERAS_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.strip(), done.stderr.strip().splitlines()[-1:]


def test_the_package_loads_nothing_until_a_name_is_used(tmp_path):
    code = (
        "import sys, keras_models; print(sorted({'keras', 'huggingface_hub', 'tokenizers', 'rich'} & set(sys.modules)))"
    )
    assert run(code, tmp_path)[:2] == (0, "[]")


@pytest.mark.parametrize("settings", [None, "{}", '{"backend": "tensorflow"}', "not json"])
def test_a_backend_that_is_installed_is_found(tmp_path, settings):
    """Keras itself writes "tensorflow" into its settings, whatever is installed."""
    if settings is not None:
        (tmp_path / "keras.json").write_text(settings)
    status, output, _ = run("import keras_models, keras; print(keras.config.backend())", tmp_path)
    assert (status, output) == (0, keras.config.backend())


def test_a_choice_in_keras_settings_is_respected(tmp_path):
    (tmp_path / "keras.json").write_text(json.dumps({"backend": keras.config.backend()}))
    code = "import os, keras_models; print(os.environ.get('KERAS_BACKEND'))"
    assert run(code, tmp_path)[:2] == (0, "None")


def test_a_backend_that_is_not_installed_is_told(tmp_path):
    code = "import importlib.util as u\nfind = u.find_spec\nu.find_spec = lambda name: name != 'torch' and find(name)\n"
    status, _, errors = run(f"{code}from keras_models import pipeline", tmp_path, KERAS_BACKEND="torch")
    assert status == 1
    assert errors[0].startswith("ImportError: KERAS_BACKEND is 'torch', but torch is not installed: install it with")
    code = "import importlib.util as u\nu.find_spec = lambda name: None\nfrom keras_models import pipeline"
    status, _, errors = run(code, tmp_path)
    assert status == 1
    assert errors[0].startswith("ImportError: keras_models needs a backend: install one with `pip install")
