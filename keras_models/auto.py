"""Auto classes: they read a checkpoint's config.json and hand over to the class it is for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib import import_module
from typing import Any, ClassVar

from keras_models.config import Config, nearest, read_config
from keras_models.hub import Repository, split_options
from keras_models.model import PreTrainedModel
from keras_models.registry import ARCHITECTURES, AUTO_CLASSES

_configs: dict[str, type[Config]] = {}  # what users registered, by model_type
_models: dict[str, dict[str, type]] = {}  # and by model_type and head
# What a model's from_pretrained takes besides hub options; all else overrides the configuration.
_LOADING = {
    "dtype", "torch_dtype", "ignore_mismatched_sizes", "output_loading_info", "target_lang",
    "from_tf", "from_flax", "from_pt", "use_safetensors", "low_cpu_mem_usage",
}  # fmt: skip


class AutoConfig:
    """Reads or makes a configuration of whichever architecture; there are no objects of this class."""

    def __init__(self):
        raise TypeError("AutoConfig makes no objects: call AutoConfig.from_pretrained(folder or hub id) or for_model.")

    @staticmethod
    def from_pretrained(source: str | os.PathLike[str], **options: Any) -> Config:
        """Reads config.json from a folder or a hub repository.

        Args:
            source: a folder or a hub id.
            **options: hub options (`revision`, `subfolder`, `token`, `cache_dir`, `local_files_only`,
                `force_download`) and settings to override.

        Raises:
            ValueError: config.json is not JSON, or does not name an architecture that keras_models has.
            TypeError: an override names no setting.
            OSError: there is no such file.
        """
        refuse_remote_code(options.pop("trust_remote_code", False))
        hub, overrides = split_options(options)
        values = read_config(Repository(source, **hub))
        return config_class(model_type_of(values, source), source).from_dict(values, **overrides)

    @staticmethod
    def for_model(model_type: str, **settings: Any) -> Config:
        """A configuration of this model_type, with the defaults of its class apart from `settings`."""
        return config_class(model_type)(**settings)

    @staticmethod
    def register(model_type: str, config: type[Config], exist_ok: bool = False):
        """Makes a configuration class of one's own known.

        Raises:
            ValueError: the model_type is not that of the class, or is taken and not `exist_ok`.
        """
        if config.model_type != model_type:
            raise ValueError(
                f"{config.__name__}.model_type is {config.model_type!r}, not {model_type!r}: make them agree."
            )
        if model_type in {*ARCHITECTURES, *_configs} and not exist_ok:
            raise ValueError(f"There is a configuration for {model_type!r} already: pass exist_ok=True to replace it.")
        _configs[model_type] = config


class _AutoModel:
    """Base of the Auto classes for models; `head` is what registry.py calls the models' task."""

    head: ClassVar[str]

    def __init__(self):
        name = type(self).__name__
        raise TypeError(
            f"{name} makes no objects: call {name}.from_pretrained(folder or hub id) or from_config(config)."
        )

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike[str], *, config: Config | None = None, **options: Any
    ) -> PreTrainedModel | tuple[PreTrainedModel, dict[str, list]]:
        """Loads a checkpoint from a folder or the hub into the class that fits; see `PreTrainedModel.from_pretrained`.

        Raises:
            ValueError: config.json does not name an architecture that keras_models has with this head.
        """
        refuse_remote_code(options.pop("trust_remote_code", False))
        hub, rest = split_options(options)
        if config is None:
            overrides = {name: rest.pop(name) for name in list(rest) if name not in _LOADING}
            config = AutoConfig.from_pretrained(source, **hub, **overrides)
        return cls._class_for(config).from_pretrained(source, config=config, **hub, **rest)

    @classmethod
    def from_config(cls, config: Config, **options: Any) -> PreTrainedModel:
        """A model with fresh weights.

        Raises:
            ValueError: this architecture has no such head.
        """
        return cls._class_for(config).from_config(config, **options)

    @classmethod
    def register(cls, config: type[Config] | str, model: type, exist_ok: bool = False):
        """Makes a model class of one's own known.

        Args:
            config: its configuration class, or the model_type of that.
            model: the class.
            exist_ok: replace a class that is there already.

        Raises:
            ValueError: there is one already, and not `exist_ok`.
        """
        model_type = config if isinstance(config, str) else config.model_type
        if cls.head in heads_for(model_type) and not exist_ok:
            raise ValueError(
                f"{cls.__name__} has a class for {model_type!r} already: pass exist_ok=True to replace it."
            )
        _models.setdefault(model_type, {})[cls.head] = model

    @classmethod
    def _class_for(cls, config: Config) -> type:
        if not isinstance(config, Config):
            raise TypeError(f"config must be a configuration such as AutoConfig makes, not {type(config).__name__}.")
        heads = heads_for(config.model_type)
        if cls.head not in heads:
            has = ", ".join(name for name, head in AUTO_CLASSES.items() if head in heads)
            raise ValueError(f"{config.model_type!r} has no class for {cls.__name__}; use one of: {has or 'none'}.")
        found = heads[cls.head]
        if not isinstance(found, str):
            return found
        named = architectures(config.architectures)
        variants = ARCHITECTURES[config.model_type].variants.items()
        found = next((name for name, head in variants if head == cls.head and name in named), found)
        return getattr(import_module(_module(config.model_type)), found)


for _name, _head in AUTO_CLASSES.items():
    _text = f"Loads or makes the class for {_head} of whichever architecture; there are no objects of this class."
    globals()[_name] = type(_name, (_AutoModel,), {"head": _head, "__doc__": _text, "__module__": __name__})


def refuse_remote_code(trusted: bool):
    """Raises ValueError where a user asks for code from a checkpoint to be run."""
    if trusted:
        raise ValueError("trust_remote_code=True is refused: code that comes with a checkpoint is never executed.")


def config_class(model_type: str, source: str | os.PathLike[str] | None = None) -> type[Config]:
    """The configuration class of a model_type; `source` is named in the error if there is none."""
    if model_type in _configs:
        return _configs[model_type]
    if model_type not in ARCHITECTURES:
        known = sorted({*ARCHITECTURES, *_configs})
        what = f"model_type {model_type!r}" + (f", which {source} is of," if source is not None else "")
        raise ValueError(
            f"{what} is none that keras_models has.{nearest(model_type, known)} It has {', '.join(known)}."
        )
    return getattr(import_module(_module(model_type)), ARCHITECTURES[model_type].config)


def model_type_of(values: dict[str, Any], source: str | os.PathLike[str]) -> str:
    """The model_type that the contents of a config.json name, or that its `architectures` are of.

    Raises:
        ValueError: they tell neither.
    """
    if values.get("model_type"):
        return values["model_type"]
    named = architectures(values.get("architectures"))
    for model_type in {**ARCHITECTURES, **_models}:
        if named & {name for name, _ in _heads_by_name(model_type)}:
            return model_type
    raise ValueError(
        f"config.json of {source} does not tell its architecture: add a model_type, one of {', '.join(ARCHITECTURES)}."
    )


def heads_of(classes: Iterable[str]) -> set[str]:
    """What registry.py calls the tasks of model classes with these names."""
    names = set(classes)
    return {
        head
        for model_type in {**ARCHITECTURES, **_models}
        for name, head in _heads_by_name(model_type)
        if name in names
    }


def architectures(names: Iterable[str] | None) -> set[str]:
    """The classes that config.json's `architectures` lists, TensorFlow's and Flax's by their names without a prefix."""
    return {name.removeprefix("TF").removeprefix("Flax") for name in names or ()}


def heads_for(model_type: str) -> dict[str, str | type]:
    """The classes of a model_type by head, or their names."""
    known = ARCHITECTURES[model_type].classes if model_type in ARCHITECTURES else {}
    return {**known, **_models.get(model_type, {})}


def _module(model_type: str) -> str:
    return f"keras_models.models.{ARCHITECTURES[model_type].file}"


def _heads_by_name(model_type: str) -> list[tuple[str, str]]:
    """The classes of a model_type by name, each with its head, of which a class may have several."""
    variants = ARCHITECTURES[model_type].variants if model_type in ARCHITECTURES else {}
    found = [(each if isinstance(each, str) else each.__name__, head) for head, each in heads_for(model_type).items()]
    return [*found, *variants.items()]
