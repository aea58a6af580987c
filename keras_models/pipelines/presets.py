"""Presets: small trained models inside the package, named "preset:NAME" where others have a hub id."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "presets"
PREFIX = "preset:"


def presets() -> list[str]:
    """The names of the presets there are, without "preset:"."""
    return sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def locate(source: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The folder of the preset that `source` names; `source` itself if it names none.

    Raises:
        ValueError: there is no such preset.
    """
    if not str(source).startswith(PREFIX):
        return source
    name = str(source).removeprefix(PREFIX)
    if name not in presets():
        raise ValueError(
            f"There is no preset {name!r}; there is: {', '.join(presets()) or 'none in this installation'}."
        )
    return FOLDER / name
