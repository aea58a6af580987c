"""Configurations: a dataclass per architecture whose fields are the keys of config.json."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from keras_models.hub import Repository, push_saved, split_options

_NOT_WRITTEN = ("transformers_version", "_name_or_path", "_commit_hash", "torch_dtype", "_num_labels")


class _ConfigType(type):
    """Lets the constructor take what users of the reference write: `num_labels=3`, settings by their common name."""

    def __call__(cls, *, extra: dict[str, Any] | None = None, num_labels: int | None = None, **settings: Any):
        fields = cls.field_names()
        settings = {cls.attribute_map.get(name, name): value for name, value in settings.items()}
        for name in settings:
            if name not in fields:
                raise TypeError(f"{cls.__name__} has no setting {name!r}.{nearest(name, cls.setting_names())}")
        config = super().__call__(extra=dict(extra or {}), **settings)
        if num_labels is not None:
            config.num_labels = num_labels
        return config


@dataclass(kw_only=True)
class Config(metaclass=_ConfigType):
    """Base of all configurations.

    Fields are the names of config.json with the reference's defaults; keys that no field stands for are kept in
    `extra`, can be read as attributes, and are written back by `save_pretrained`.

    `num_labels`, `id2label` and `label2id` are one thing: setting the number alone gives LABEL_0, LABEL_1 ...
    """

    model_type: ClassVar[str] = ""
    attribute_map: ClassVar[dict[str, str]] = {}  # a setting's common name -> its name in this architecture
    parts: ClassVar[dict[str, type[Config]]] = {}  # settings that are configurations themselves, of parts of the model
    part_of: ClassVar[tuple[str, str]] = (
        "",
        "",
    )  # model_type of a larger architecture -> the setting there that is one

    id2label: dict[int, str] = field(default_factory=lambda: {0: "LABEL_0", 1: "LABEL_1"})
    label2id: dict[str, int] | None = None
    architectures: list[str] | None = None
    problem_type: str | None = None
    dtype: str | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    sep_token_id: int | None = None
    decoder_start_token_id: int | None = None
    is_decoder: bool = False
    is_encoder_decoder: bool = False
    add_cross_attention: bool = False
    tie_word_embeddings: bool = True
    use_cache: bool = True
    output_hidden_states: bool = False
    output_attentions: bool = False
    task_specific_params: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self):
        for name, kind in self.parts.items():
            value = getattr(self, name)
            setattr(self, name, value if isinstance(value, kind) else kind.from_dict(value or {}))
        self.id2label = {int(index): label for index, label in self.id2label.items()}
        if not self.label2id:
            self.label2id = {label: index for index, label in self.id2label.items()}
        self.label2id = {label: int(index) for label, index in self.label2id.items()}

    def __getattr__(self, name: str) -> Any:
        if name in type(self).attribute_map:
            return getattr(self, type(self).attribute_map[name])
        if name in self.__dict__.get("extra", ()):
            return self.extra[name]
        raise AttributeError(f"{type(self).__name__} has no setting {name!r}.{nearest(name, self.setting_names())}")

    def __setattr__(self, name: str, value: Any):
        object.__setattr__(self, type(self).attribute_map.get(name, name), value)

    @property
    def num_labels(self) -> int:
        """The number of classes of a classification head."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, count: int):
        if count != len(self.id2label):
            self.id2label = {index: f"LABEL_{index}" for index in range(count)}
            self.label2id = {label: index for index, label in self.id2label.items()}

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """The settings that config.json holds, by their names there."""
        return tuple(each.name for each in dataclasses.fields(cls) if each.name != "extra")

    @classmethod
    def setting_names(cls) -> list[str]:
        """All names a setting can be given by."""
        return [*cls.field_names(), *cls.attribute_map, "num_labels"]

    @classmethod
    def from_dict(cls, values: dict[str, Any], **overrides: Any) -> Self:
        """Builds a configuration from the contents of a config.json.

        Raises:
            TypeError: one of `overrides` names no setting, neither of this class nor of `values`.
        """
        for name in overrides:
            if name not in values and name not in cls.setting_names():
                raise TypeError(f"{cls.__name__} has no setting {name!r}.{nearest(name, cls.setting_names())}")
        # Null means unset for these two, and old files spell the others differently.
        values = {key: value for key, value in values.items() if key != "model_type"}
        values = {
            key: value for key, value in values.items() if value is not None or key not in ("id2label", "label2id")
        }
        values.setdefault("dtype", values.get("torch_dtype"))
        for name, kind in cls.parts.items():  # old files have each part twice, of which the second counts
            again = values.pop(f"{name}_dict", None)
            if again:
                values[name] = {**(values.get(name) or {}), **kind.from_dict(again).to_dict()}
        if "id2label" not in values and "_num_labels" in values:
            values.setdefault("num_labels", values["_num_labels"])
        if "id2label" in values:
            values.pop("num_labels", None)
        if "id2label" in overrides and "label2id" not in overrides:
            values.pop("label2id", None)
        values = {cls.attribute_map.get(key, key): value for key, value in copy.deepcopy(values | overrides).items()}
        count = values.pop("num_labels", None)
        settings = {key: values.pop(key) for key in cls.field_names() if key in values}
        return cls(**settings, extra=values, num_labels=count)

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike, **options: Any) -> Self:
        """Reads config.json from a folder or a hub repository.

        Args:
            source: a folder or a hub id.
            **options: hub options (`revision`, `subfolder`, `token`, `cache_dir`, `local_files_only`,
                `force_download`) and settings to override.

        Raises:
            ValueError: config.json is not JSON, or describes another architecture.
            TypeError: an override names no setting.
            OSError: there is no such file.
        """
        hub, overrides = split_options(options)
        values = read_config(Repository(source, **hub))
        found = values.get("model_type")
        whole, part = cls.part_of
        if found and found == whole:
            values = {**(values.get(part) or {}), **(values.get(f"{part}_dict") or {})}
        elif cls.model_type and found and found != cls.model_type:
            raise ValueError(
                f"{source} holds a {found!r} model, not a {cls.model_type!r} one; "
                f"use an Auto class (AutoConfig, AutoModel...) or the classes of {found!r}."
            )
        return cls.from_dict(values, **overrides)

    def to_dict(self) -> dict[str, Any]:
        """The contents of config.json: the architecture's fields, and the keys kept from the file it was read from.

        Fields that all architectures share are left out where they hold their default.
        """
        shared = {each.name for each in dataclasses.fields(Config)}
        defaults = {each.name: each.default for each in dataclasses.fields(self)}
        values = {key: value for key, value in self.extra.items() if key not in _NOT_WRITTEN}
        for name in self.field_names():
            value = getattr(self, name)
            if name not in shared or value != defaults[name]:
                values[name] = value.to_dict() if isinstance(value, Config) else value
        values["id2label"] = {str(index): label for index, label in self.id2label.items()}
        return copy.deepcopy({"model_type": type(self).model_type, **values})

    def to_json_string(self) -> str:
        """`to_dict()` as the text of a config.json."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def save_pretrained(self, folder: str | os.PathLike):
        """Writes config.json into `folder`, replacing an older one in one step."""
        write_atomically(Path(folder) / "config.json", self.to_json_string())

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Uploads config.json to a hub repository; returns the commit's URL."""
        return push_saved(self.save_pretrained, repo_id, **options)


def read_config(repository: Repository) -> dict[str, Any]:
    """The contents of a repository's config.json."""
    return read_json(repository.file("config.json", required=True))


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object from a file.

    Raises:
        ValueError: the file is not JSON, or not an object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); download or write the file again.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} should hold a JSON object, not {type(values).__name__}.")
    return values


def write_atomically(path: Path, text: str):
    """Writes a text file so that a reader, or a crash, meets the old contents or the new ones, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)


def nearest(name: str, known: list[str]) -> str:
    """The closest of the known names as a sentence to end an error message with, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
