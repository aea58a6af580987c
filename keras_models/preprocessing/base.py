"""What image processors and feature extractors have in common: settings, their file, and what a call returns."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from keras_models.config import nearest, read_json, write_atomically
from keras_models.hub import Repository, push_saved, split_options
from keras_models.preprocessing.batch_encoding import tensor_kind

FILE = "preprocessor_config.json"
_KIND_NAMES = ("image_processor_type", "feature_extractor_type")


class BatchFeature(dict):
    """Model inputs by name (`pixel_values`, `pixel_mask`, `labels` ...), which can be read as attributes too."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"BatchFeature has no {name!r}; it holds {list(self)}.")

    def to_tensors(self, kind: str | None) -> Self:
        """Turns numpy arrays into tensors, in place, also those in lists of dictionaries such as `labels`.

        Args:
            kind: "np", "jax", "pt", "tf", or "keras" for the active backend; None leaves the values as they are.

        Raises:
            ValueError: there is no such kind.
            ImportError: that framework is not installed.
        """
        if kind is None or tensor_kind(kind) == "np":
            return self
        from keras_models.runtime.interop import to_framework  # imports Keras, which arrays do without

        def converted(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                return to_framework(value, tensor_kind(kind))
            if isinstance(value, dict):
                return type(value)({name: converted(each) for name, each in value.items()})
            return [converted(each) for each in value] if isinstance(value, list) else value

        self.update({name: converted(value) for name, value in self.items()})
        return self

    def to(self, device: Any) -> Self:
        """Moves PyTorch tensors to a device, in place; other values stay where they are."""

        def moved(value: Any) -> Any:
            if type(value).__module__.partition(".")[0] == "torch":
                return value.to(device)
            if isinstance(value, dict):
                return type(value)({name: moved(each) for name, each in value.items()})
            return [moved(each) for each in value] if isinstance(value, list) else value

        self.update({name: moved(value) for name, value in self.items()})
        return self


class Preprocessor:
    """Settings, which are attributes, and preprocessor_config.json, which holds them under the same names.

    Subclasses say in `defaults` which settings they have, and in `kind` what they are. Where `from_pretrained` has to
    find the subclass that fits, `_chosen` does.

    Raises:
        ValueError: a setting has a value that makes no sense.
    """

    kind: ClassVar[str]  # "image_processor" or "feature_extractor", as the files say
    defaults: ClassVar[dict[str, Any]] = {}
    model_input_names: ClassVar[list[str]]

    def __init__(self, **settings: Any):
        named = {name: value for name, value in settings.items() if name not in _KIND_NAMES}
        self.__dict__.update(self._completed(named))

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string().rstrip()}"

    @classmethod
    def _completed(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a preprocessor: defaults where there is none, or null; and those it does not know."""
        given = {name: value for name, value in settings.items() if value is not None or name not in cls.defaults}
        return copy.deepcopy(cls.defaults | given)

    def _known(self, overrides: Mapping[str, Any], *more: str) -> dict[str, Any]:
        """The overrides that are not None; each has to be a setting, or one of the names in `more`."""
        overrides = {name: value for name, value in overrides.items() if value is not None}
        known = {*self.defaults, *self.__dict__, *more}
        for name in overrides:
            if name not in known:
                text = f"{type(self).__name__} has no setting {name!r}."
                raise TypeError(text + nearest(name, sorted(known)))
        return overrides

    def _overridden(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """This preprocessor's settings, with others for those in `overrides` that are not None."""
        return self._completed(self.__dict__ | self._known(overrides))

    @classmethod
    def _chosen(cls, repository: Repository, stored: Mapping[str, Any], config: Any) -> type[Preprocessor]:
        """The class for a repository whose preprocessor_config.json has the contents `stored`."""
        return cls

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str], *, config: Any = None, **options: Any) -> Self:
        """Reads a preprocessor from a folder or a hub repository.

        Args:
            source: a folder or a hub id.
            config: a model's configuration, to choose the class by where the preprocessor's own file does not name it.
            **options: hub options (`revision`, `subfolder`, `token`, `cache_dir`, `local_files_only`,
                `force_download`), and settings that take precedence over the file.

        Returns:
            A preprocessor of this class; called on `ImageProcessor` or `FeatureExtractor` itself, of the class that
            fits the repository.

        Raises:
            ValueError: the repository has no such preprocessor, or one that keras_models does not know.
            TypeError: an option is neither for the hub nor a setting.
            OSError: the repository cannot be found or read.
        """
        hub, overrides = split_options(options)
        for name in ("use_fast", "trust_remote_code"):  # there is one implementation, and no code is ever fetched
            overrides.pop(name, None)
        repository = Repository(source, **hub)
        stored = cls._stored(repository)
        return cls._chosen(repository, stored, config).from_dict(stored, **overrides)

    @classmethod
    def _stored(cls, repository: Repository) -> dict[str, Any]:
        """The contents of preprocessor_config.json, or the part of processor_config.json that stands for it."""
        path = repository.file(FILE)
        if path:
            return read_json(path)
        path = repository.file("processor_config.json")
        values = read_json(path).get(cls.kind) if path else None
        if not values:
            raise ValueError(f"There is no {cls.kind.replace('_', ' ')} in {repository}: it needs a {FILE}.")
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **overrides: Any) -> Self:
        """One from the contents of a preprocessor_config.json; see `from_pretrained` for the overrides."""
        preprocessor = cls(**values)
        return cls(**preprocessor._overridden(overrides)) if overrides else preprocessor

    def to_dict(self) -> dict[str, Any]:
        """The contents of preprocessor_config.json, with the keys of the file it was read from that are not its own."""
        return self._completed(self.__dict__) | {f"{self.kind}_type": type(self).__name__}

    def to_json_string(self) -> str:
        """`to_dict()` as the text of a preprocessor_config.json."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def save_pretrained(self, folder: str | os.PathLike[str]) -> tuple[str, ...]:
        """Writes preprocessor_config.json as transformers 4.57 names and reads it, and returns its path."""
        path = Path(folder, FILE)
        write_atomically(path, self.to_json_string())
        return (str(path),)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Uploads preprocessor_config.json to the hub; returns the commit's URL. Options: `hub.push_folder`."""
        return push_saved(self.save_pretrained, repo_id, **options)


def choose_class(
    kind: str,
    name: str | None,
    repository: Repository,
    config: Any,
    classes: Mapping[str, type[Preprocessor]],
    model_types: Mapping[str, type[Preprocessor]],
) -> type[Preprocessor]:
    """The class for the preprocessor of a repository.

    Args:
        kind: "image processor" or "feature extractor".
        name: what preprocessor_config.json says, in the form of `classes`.
        repository: where config.json may lie, which counts where there is no name.
        config: the model's configuration, instead of config.json.
        classes: classes by name.
        model_types: classes by config.json's `model_type`.

    Raises:
        ValueError: nothing says which class it is, or it is one that keras_models does not have.
    """
    known = classes
    if not name:
        known, name = model_types, getattr(config, "model_type", None)
        if name is None:
            path = repository.file("config.json")
            name = read_json(path).get("model_type") if path else None
    if name not in known:
        raise ValueError(
            f"keras_models has no {kind} for {name!r}, which {repository} asks for.{nearest(str(name), list(known))}"
        )
    return known[name]
