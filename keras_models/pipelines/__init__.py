"""Pipelines: a model, its tokenizer and what goes on around them, as one function from inputs to results."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from keras_models import auto
from keras_models.auto import refuse_remote_code
from keras_models.config import Config, nearest, read_config
from keras_models.hub import Repository, split_options
from keras_models.model import PreTrainedModel
from keras_models.pipelines.base import KeyDataset, Pipeline, Row, device_name, on_device
from keras_models.pipelines.presets import locate, presets
from keras_models.preprocessing.audio import AutoFeatureExtractor, FeatureExtractor
from keras_models.preprocessing.image import AutoImageProcessor, ImageProcessor
from keras_models.preprocessing.tokenizer import AutoTokenizer, Tokenizer
from keras_models.registry import ARCHITECTURES, AUTO_CLASSES, TASK_ALIASES, TASKS, Task

__all__ = ["KeyDataset", "Pipeline", "Row", "pipeline", "presets", "register_pipeline"]

_NEEDLESS = ("framework", "device_map", "use_fast", "num_workers")  # what transformers takes and needs no choice here
_CARD_TASK = re.compile(r"\A---\n(?:.*\n)*?pipeline_tag: *([\w-]+)")  # in the block that opens a model card
_TRANSLATION = re.compile("translation_[^_]+_to_[^_]+")  # other pairs of languages than the default model knows
_PARTS = {
    "tokenizer": (Tokenizer, AutoTokenizer),
    "image_processor": (ImageProcessor, AutoImageProcessor),
    "feature_extractor": (FeatureExtractor, AutoFeatureExtractor),
}
_custom: dict[str, type[Pipeline]] = {}  # classes that users registered, by name


def pipeline(
    task: str | None = None,
    model: str | os.PathLike[str] | PreTrainedModel | None = None,
    config: str | os.PathLike[str] | Config | None = None,
    tokenizer: Any = None,
    feature_extractor: Any = None,
    image_processor: Any = None,
    processor: Any = None,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    dtype: Any = None,
    device: int | str | None = None,
    batch_size: int | None = None,
    model_kwargs: dict[str, Any] | None = None,
    pipeline_class: type[Pipeline] | None = None,
    trust_remote_code: bool = False,
    **options: Any,
) -> Pipeline:
    """A function from inputs, such as texts, to results; the README lists the tasks there are.

    Example:
        >>> classify = pipeline("sentiment-analysis")
        >>> classify("We are very happy to introduce pipelines.")
        [{'label': 'POSITIVE', 'score': 0.99...}]

    Args:
        task: what to do; found out from the model if it is not given.
        model: a folder, a hub id or a model; by default the task's own.
        config: a configuration, or the folder or hub id of one, instead of the one beside the model.
        tokenizer: a tokenizer, or the folder or hub id of one, or this with a dictionary of its options in a tuple;
            by default the one beside the model.
        feature_extractor: the same for a feature extractor; where pictures go in, an older name of image_processor.
        image_processor: the same for an image processor.
        processor: a processor that unites them, instead.
        revision: branch, tag or commit of a model on the hub.
        token: an access token for the hub.
        dtype: see `PreTrainedModel.from_pretrained`; Keras' own policy, usually float32, by default.
        device: where to load the model and run it: -1 or "cpu", 0 or "cuda" for the first accelerator if there is one,
            "cuda:1" ... for a certain one. By default Keras' choice, which is the first accelerator. A model that is
            given as an object stays where it is, since Keras does not move variables.
        batch_size: how many rows run through the model at once; 1 by default.
        model_kwargs: further arguments of the model's `from_pretrained`, such as `cache_dir` or `num_labels`.
        pipeline_class: instead of the task's own.
        trust_remote_code: True is refused, as code that comes with a checkpoint is never executed.
        **options: the task's, which every call can override; see the classes of keras_models.pipelines. `framework`,
            `device_map`, `use_fast` and `num_workers` are accepted without effect: KERAS_BACKEND and Keras decide.

    Raises:
        ValueError: the task is unknown or cannot be told from the model, or the model cannot do it.
        TypeError: an option is unknown, or a model is given as an object without a tokenizer.
        OSError: a file is not there, or the hub cannot be reached.
    """
    refuse_remote_code(trust_remote_code)
    options = {name: value for name, value in options.items() if name not in _NEEDLESS}
    dtype = options.pop("torch_dtype", None) if dtype is None else dtype
    hub, model_kwargs = split_options({**(model_kwargs or {}), **_given(token=token, revision=revision)})
    model_kwargs |= _given(dtype=dtype)
    if task is None and model is None:
        raise ValueError(f"pipeline() needs a task or a model; the tasks are {', '.join(TASKS)}.")
    parts = {"tokenizer": tokenizer, "image_processor": image_processor, "feature_extractor": feature_extractor}
    parts = {name: getattr(processor, name, None) if part is None else part for name, part in parts.items()}
    if model is None and not all(part is None for part in (config, *parts.values())):
        raise ValueError(
            "pipeline() got a preprocessor or a config but not the model that they belong to: pass model=."
        )
    source, where = None, None
    if isinstance(model, PreTrainedModel):
        task = task or _task_of([kind.__name__ for kind in type(model).__mro__])
    else:
        source, hub = _source(task, model, hub)
        task = task or _task_at(source, hub)
        where = device_name(device)
    row = find_task(task)
    if source is not None:
        with on_device(where):
            model = _load(row, source, config, hub, model_kwargs)
    kind = pipeline_class or _class_of(row)
    if parts["image_processor"] is None and "feature_extractor" not in kind.parts:
        parts["image_processor"] = parts["feature_extractor"]
    parts = {name: _part(name, parts[name], source, model.config, hub) for name in kind.parts}
    return kind(model, task=task, batch_size=batch_size, device=where, **parts, **options)


def register_pipeline(
    task: str, pipeline_class: type[Pipeline], default: str | None = None, auto_class: str = "AutoModel"
):
    """Makes a task of one's own known to `pipeline`.

    Args:
        task: its name; one that exists already is replaced.
        pipeline_class: a subclass of `Pipeline`.
        default: a hub id, the model to load where none is named.
        auto_class: the Auto class that loads its models.

    Raises:
        TypeError: `pipeline_class` is none.
        ValueError: there is no such Auto class.
    """
    if not (isinstance(pipeline_class, type) and issubclass(pipeline_class, Pipeline)):
        raise TypeError(
            f"pipeline_class must be a subclass of keras_models.pipelines.Pipeline, not {pipeline_class!r}."
        )
    if auto_class not in AUTO_CLASSES:
        raise ValueError(f"There is no Auto class {auto_class!r}.{nearest(auto_class, list(AUTO_CLASSES))}")
    TASKS[task] = Task("", pipeline_class.__name__, auto_class, default)
    _custom[pipeline_class.__name__] = pipeline_class


def find_task(name: str) -> Task:
    """A task by its name or another name of it.

    Raises:
        ValueError: there is no such task.
    """
    row = TASKS.get(name) or TASKS.get(TASK_ALIASES.get(name, ""))
    if row is None and _TRANSLATION.fullmatch(str(name)):
        return replace(TASKS["translation"], default=None)
    if row is None:
        known = [*TASKS, *TASK_ALIASES]
        raise ValueError(f"There is no task {name!r}.{nearest(str(name), known)} There is {', '.join(known)}.")
    return row


def _source(task: str | None, model: Any, hub: dict[str, Any]) -> tuple[str | os.PathLike[str], dict[str, Any]]:
    """Where to load a model from, with hub options: what is named, else the default of the task."""
    if model is None:
        row = find_task(task)
        if row.default is None:
            raise ValueError(f"{task} has no model of its own: pass model=.")
        return locate(row.default), _given(revision=row.revision) | hub
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(f"model must be a folder, a hub id or a model of keras_models, not {type(model).__name__}.")
    return locate(model), hub


def _load(row: Task, source: Any, config: Any, hub: dict[str, Any], model_kwargs: dict[str, Any]) -> PreTrainedModel:
    if config is not None and not isinstance(config, Config):
        config = auto.AutoConfig.from_pretrained(config, **hub)
    name, *others = row.autos
    if others:
        values = config.to_dict() if config is not None else read_config(Repository(source, **hub))
        heads = auto.heads_for(auto.model_type_of(values, source))
        name = next((each for each in row.autos if AUTO_CLASSES[each] in heads), name)
    return getattr(auto, name).from_pretrained(source, config=config, **hub, **model_kwargs)


def _part(kind: str, part: Any, source: Any, config: Config, hub: dict[str, Any]) -> Any:
    """The tokenizer or image processor that was given, or named, or lies beside the model."""
    base, loader = _PARTS[kind]
    what = kind.replace("_", " ")
    name, settings = part if isinstance(part, tuple) else (part, {})
    if isinstance(name, base):
        return name
    if name is None:
        if source is None:
            raise TypeError(f"A model given as an object does not tell its {what}: pass {kind}= too.")
        return loader.from_pretrained(source, config=config, **hub, **settings)
    if not isinstance(name, (str, os.PathLike)):
        raise TypeError(
            f"{kind} must be a folder, a hub id or one of keras_models' {what}s, not {type(name).__name__}."
        )
    elsewhere = {key: value for key, value in hub.items() if key not in ("revision", "subfolder")}
    return loader.from_pretrained(locate(name), **elsewhere, **settings)


def _class_of(row: Task) -> type[Pipeline]:
    if not row.file:
        return _custom[row.pipeline]
    return getattr(import_module(f"keras_models.pipelines.{row.file}"), row.pipeline)


def _task_of(classes: Sequence[str]) -> str:
    """The task that a model of one of these classes is for."""
    heads = auto.heads_of(classes)
    task = next((name for name, row in TASKS.items() if heads & {AUTO_CLASSES[each] for each in row.autos}), None)
    if task == "feature-extraction" and any(
        row.image_processor and set(row.classes.values()) & set(classes) for row in ARCHITECTURES.values()
    ):
        return "image-feature-extraction"
    if task is None:
        what = classes[0] if classes else "this model"
        raise ValueError(f"It is not clear what {what} is to be used for: pass task=, one of {', '.join(TASKS)}.")
    return task


def _task_at(source: Any, hub: dict[str, Any]) -> str:
    """The task of a model in a folder or on the hub: what its card says, else what its class is for."""
    repository = Repository(source, **hub)
    classes = auto.architectures(read_config(repository).get("architectures"))
    card = repository.file("README.md")
    named = _CARD_TASK.search(card.read_text(encoding="utf-8")) if card else None
    return named[1] if named and named[1] in {**TASKS, **TASK_ALIASES} else _task_of(sorted(classes))


def _given(**options: Any) -> dict[str, Any]:
    """Those options that are not None."""
    return {name: value for name, value in options.items() if value is not None}
