"""Processors, which unite a tokenizer with what prepares pictures or sounds, and `AutoProcessor`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

from keras_models.config import nearest, read_json
from keras_models.hub import Repository, push_saved, split_options
from keras_models.preprocessing.base import BatchFeature
from keras_models.preprocessing.batch_encoding import BatchEncoding
from keras_models.registry import ARCHITECTURES

__all__ = ["AutoProcessor", "CLIPProcessor", "Processor", "SiglipProcessor", "Wav2Vec2Processor", "WhisperProcessor"]

_PARTS = {  # where a processor's parts are found, and the name of their options in a call
    "image_processor": ("image", "ImageProcessor", "images_kwargs"),
    "tokenizer": ("tokenizer", "Tokenizer", "text_kwargs"),
    "feature_extractor": ("audio", "FeatureExtractor", "audio_kwargs"),
}
_COMMON = "common_kwargs"


class Processor:
    """Two preprocessors in one: a tokenizer, and an image processor or a feature extractor.

    `AutoProcessor.from_pretrained` (or this class's own) reads one from a folder or the hub. The parts are attributes
    of the names in `attributes`.

    Args:
        *parts: the parts, in the order of `attributes`.
        **named: parts by name.

    Raises:
        TypeError: a part is missing, is there twice, or is something else.
    """

    attributes: ClassVar[tuple[str, ...]]
    classes: ClassVar[dict[str, str]] = {}  # parts that are of this class whatever the files say

    def __init__(self, *parts: Any, **named: Any):
        given = dict(zip(self.attributes, parts, strict=False))
        if len(parts) > len(self.attributes) or given.keys() & named.keys() or named.keys() - set(self.attributes):
            raise TypeError(f"{type(self).__name__} takes each of {list(self.attributes)} once, and nothing else.")
        given |= named
        for name in self.attributes:
            part = given.get(name)
            if not isinstance(part, _class(name)):
                raise TypeError(f"{type(self).__name__} needs a {_PARTS[name][1]} as {name}, not {_described(part)}.")
            setattr(self, name, part)

    def __repr__(self) -> str:
        parts = "".join(f"\n- {name}: {getattr(self, name)!r}" for name in self.attributes)
        return f"{type(self).__name__}:{parts}"

    # Reading and writing.

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str], **options: Any) -> Processor:
        """Reads a processor from a folder or a hub repository.

        Args:
            source: a folder or a hub id.
            **options: hub options (`revision`, `subfolder`, `token`, `cache_dir`, `local_files_only`,
                `force_download`), and settings of the parts that take precedence over the files.

        Returns:
            A processor of this class; called on `Processor` itself, of the class that fits the repository.

        Raises:
            ValueError: a part is missing or of a kind that keras_models does not have, or no class fits.
            OSError: the repository cannot be found or read.
        """
        hub, settings = split_options(options)
        for name in ("use_fast", "trust_remote_code"):  # there is one implementation, and no code is ever fetched
            settings.pop(name, None)
        if cls is Processor:
            chosen = choose_class(Repository(source, **hub), settings.pop("config", None))
            if chosen is None:
                raise ValueError(f"Nothing in {source} says which processor it has: load its parts one by one.")
            return chosen.from_pretrained(source, **hub, **settings)
        parts = {}
        for name in cls.attributes:
            if name == "tokenizer":
                parts[name] = _class(name).from_pretrained(source, **hub, **settings)
                continue
            kind = _class(name, cls.classes.get(name))
            known = vars(kind.from_pretrained(source, **hub)).keys()
            own = {option: value for option, value in settings.items() if option in known}
            parts[name] = kind.from_pretrained(source, **hub, **own)
        return cls(**parts)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> tuple[str, ...]:
        """Writes the files of all parts, which name this class, as transformers 4.57 reads them; returns their paths.

        There is no processor_config.json, for these processors have no settings of their own.
        """
        paths: list[str] = []
        for name in self.attributes:
            part = getattr(self, name)
            settings = part.init_kwargs if name == "tokenizer" else vars(part)
            settings["processor_class"] = type(self).__name__
            paths += part.save_pretrained(folder)
        return tuple(paths)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Uploads the files of all parts to a hub repository; returns the commit's URL. Options: `hub.push_folder`."""
        return push_saved(self.save_pretrained, repo_id, **options)

    # Use.

    @property
    def model_input_names(self) -> list[str]:
        """The names of what a call returns."""
        return [name for attribute in self.attributes for name in getattr(self, attribute).model_input_names]

    def decode(self, *arguments: Any, **options: Any) -> Any:
        """The tokenizer's `decode`."""
        return self.tokenizer.decode(*arguments, **options)

    def batch_decode(self, *arguments: Any, **options: Any) -> Any:
        """The tokenizer's `batch_decode`."""
        return self.tokenizer.batch_decode(*arguments, **options)

    def __call__(self, images: Any = None, text: Any = None, **options: Any) -> BatchFeature:
        """Prepares pictures and texts, or one of the two.

        Args:
            images: what the image processor takes.
            text: what the tokenizer takes.
            **options: options of both, each for the part that has it (`return_tensors` for both), or dictionaries of
                them: `text_kwargs`, `images_kwargs` and, for both, `common_kwargs`.

        Returns:
            `pixel_values` (images, height, width, 3) and `input_ids` with `attention_mask` (texts, tokens), as far as
            they were asked for.

        Raises:
            ValueError: there are neither pictures nor texts, or an option is there twice.
            TypeError: an option is not known.
        """
        inputs = {"image_processor": images, "tokenizer": text}
        outputs = self._outputs(inputs, self._sorted(options, with_settings=True))
        return BatchFeature({name: value for output in outputs.values() for name, value in output.items()})

    def _outputs(self, inputs: Mapping[str, Any], options: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """What the parts make of those of their inputs that are there."""
        if all(given is None for given in inputs.values()):
            words = {"image_processor": "`images`", "feature_extractor": "`audio`", "tokenizer": "`text`"}
            raise ValueError(f"There is nothing to process: give {' or '.join(words[name] for name in inputs)}.")
        return {
            name: getattr(self, name)(given, **options[name]) for name, given in inputs.items() if given is not None
        }

    def _sorted(self, options: Mapping[str, Any], with_settings: bool) -> dict[str, dict[str, Any]]:
        """The options of a call by the part that they are for.

        With settings, what the tokenizer was made with counts where a call says nothing, as it does in the reference.
        """
        flat, common = dict(options), options.get(_COMMON) or {}
        flat.pop(_COMMON, None)
        named = {name: dict(flat.pop(_PARTS[name][2], None) or {}) for name in self.attributes}
        names = {name: _option_names(getattr(self, name)) for name in self.attributes}
        known = set().union(*names.values())
        unknown = next((option for option in flat if option not in known), None)
        if unknown:
            text = f"{type(self).__name__} has no option {unknown!r}."
            raise TypeError(text + nearest(unknown, sorted(known)))
        settings = self.tokenizer.init_kwargs if with_settings else {}
        result = {}
        for name in self.attributes:
            twice = named[name].keys() & flat.keys()
            if twice:
                raise ValueError(f"The option {min(twice)!r} is there twice: by itself and in {_PARTS[name][2]}.")
            made_with = {key: getattr(self.tokenizer, key, value) for key, value in settings.items()}
            parts = (made_with if name != "image_processor" else {}), flat
            result[name] = {key: value for part in parts for key, value in part.items() if key in names[name]}
            result[name] |= named[name] | common
        return result


class CLIPProcessor(Processor):
    """CLIP's image processor and tokenizer."""

    attributes: ClassVar = ("image_processor", "tokenizer")
    classes: ClassVar = {"image_processor": "CLIPImageProcessor"}


class SiglipProcessor(Processor):
    """SigLIP's image processor and tokenizer; its models were trained with `padding="max_length"`."""

    attributes: ClassVar = ("image_processor", "tokenizer")
    classes: ClassVar = {"image_processor": "SiglipImageProcessor"}


class _SpeechProcessor(Processor):
    """A feature extractor and a tokenizer, whose ids are labels of the sounds."""

    attributes: ClassVar = ("feature_extractor", "tokenizer")
    with_settings: ClassVar[bool]  # see `Processor._sorted`

    def __call__(self, audio: Any = None, text: Any = None, **options: Any) -> BatchFeature | BatchEncoding:
        """Prepares sounds, or texts, or sounds with their texts as labels.

        Args:
            audio: what the feature extractor takes; `raw_speech` is its older name.
            text: what the tokenizer takes.
            **options: options of both, each for the parts that have it, such as `sampling_rate`, `padding` and
                `return_tensors`, or dictionaries of them: `audio_kwargs`, `text_kwargs` and, for both, `common_kwargs`.

        Returns:
            What the feature extractor returns, with the ids of the texts as `labels` if there are any; for texts alone
            what the tokenizer returns.

        Raises:
            ValueError: there are neither sounds nor texts, or an option is there twice.
            TypeError: an option is not known.
        """
        inputs = {"feature_extractor": options.pop("raw_speech", audio), "tokenizer": text}
        outputs = self._outputs(inputs, self._sorted(options, self.with_settings))
        if len(outputs) == 2:
            outputs["feature_extractor"]["labels"] = outputs["tokenizer"]["input_ids"]
        return next(iter(outputs.values()))


class WhisperProcessor(_SpeechProcessor):
    """Whisper's feature extractor and tokenizer."""

    classes: ClassVar = {"feature_extractor": "WhisperFeatureExtractor"}
    with_settings = False

    def get_decoder_prompt_ids(
        self, task: str | None = None, language: str | None = None, no_timestamps: bool = True
    ) -> list[tuple[int, int]]:
        """The tokenizer's `get_decoder_prompt_ids`."""
        return self.tokenizer.get_decoder_prompt_ids(task, language, no_timestamps)

    def get_prompt_ids(self, text: str, return_tensors: str | None = "np") -> Any:
        """The tokenizer's `get_prompt_ids`."""
        return self.tokenizer.get_prompt_ids(text, return_tensors)


class Wav2Vec2Processor(_SpeechProcessor):
    """Wav2Vec2's feature extractor and a tokenizer."""

    classes: ClassVar = {"feature_extractor": "Wav2Vec2FeatureExtractor"}
    with_settings = True

    @property
    def model_input_names(self) -> list[str]:
        """The names of what a call returns."""
        return [*self.feature_extractor.model_input_names, "labels"]

    def pad(self, input_features: Any = None, labels: Any = None, **options: Any) -> BatchFeature | BatchEncoding:
        """Pads sounds and labels, each for themselves; the options go to both.

        Args:
            input_features: what the feature extractor's `pad` takes.
            labels: what the tokenizer's `pad` takes.
            **options: such as `padding`, `max_length` and `return_tensors`.

        Raises:
            ValueError: there is nothing to pad.
        """
        if input_features is None and labels is None:
            raise ValueError("There is nothing to pad: give `input_features` or `labels`.")
        ids = self.tokenizer.pad(labels, **options) if labels is not None else None
        if input_features is None:
            return ids
        batch = self.feature_extractor.pad(input_features, **options)
        if ids is not None:
            batch["labels"] = ids["input_ids"]
        return batch


CLASSES: dict[str, type[Processor]] = {
    each.__name__: each for each in (CLIPProcessor, SiglipProcessor, Wav2Vec2Processor, WhisperProcessor)
}
MODEL_TYPES: dict[str, type[Processor]] = {  # config.json's model_type, where no file names a class
    model_type: CLASSES[row.processor] for model_type, row in ARCHITECTURES.items() if row.processor
}


class AutoProcessor:
    """Finds the class of a processor; there are no objects of this class."""

    def __init__(self):
        raise TypeError("AutoProcessor makes no objects: call AutoProcessor.from_pretrained(folder or hub id).")

    @staticmethod
    def from_pretrained(source: str | os.PathLike[str], **options: Any) -> Any:
        """Reads a processor of whichever class fits from a folder or the hub; see `Processor.from_pretrained`.

        Returns:
            A processor; where a model needs none its tokenizer, else its image processor, else its feature extractor.
        """
        hub, settings = split_options(options)
        config = settings.pop("config", None)
        chosen = choose_class(Repository(source, **hub), config)
        if chosen is not None:
            return chosen.from_pretrained(source, **options)
        reasons = []
        for name in ("tokenizer", "image_processor", "feature_extractor"):
            try:
                return _class(name).from_pretrained(source, config=config, **hub, **settings)
            except (ValueError, TypeError) as error:
                reasons.append(str(error))
        raise ValueError(f"There is no preprocessor in {source}: {' '.join(reasons)}")

    @staticmethod
    def register(model_type: str | type, processor_class: type[Processor]):
        """Makes a class of one's own known, by its name and for a model type.

        Args:
            model_type: config.json's `model_type`, or a configuration class that has it.
            processor_class: a subclass of `Processor`.
        """
        MODEL_TYPES[model_type if isinstance(model_type, str) else model_type.model_type] = processor_class
        CLASSES[processor_class.__name__] = processor_class


def choose_class(repository: Repository, config: Any = None) -> type[Processor] | None:
    """The class for the processor of a repository; None if there is no sign of a processor.

    Args:
        repository: whose files name a class, or config.json a model type.
        config: the model's configuration, instead of config.json.

    Raises:
        ValueError: a file names a class that keras_models does not have.
    """
    for file in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json", "config.json"):
        path = repository.file(file)
        name = read_json(path).get("processor_class") if path else None
        if name:
            if name not in CLASSES:
                text = f"keras_models has no {name}, which {file} in {repository} asks for: load the parts one by one."
                raise ValueError(text + nearest(name, list(CLASSES)))
            return CLASSES[name]
    path = repository.file("config.json") if config is None else None
    model_type = read_json(path).get("model_type") if path else getattr(config, "model_type", None)
    return MODEL_TYPES.get(model_type)


def _class(attribute: str, name: str | None = None) -> type:
    """The class of this name, or the base class, for a part; its module is imported only now."""
    module, base, _ = _PARTS[attribute]
    return getattr(import_module(f"keras_models.preprocessing.{module}"), name or base)


def _option_names(part: Any) -> set[str]:
    """The options of a call of a part, the settings that a call may override among them."""
    parameters = list(inspect.signature(type(part).__call__).parameters.values())[2:]  # without self and the input
    names = {parameter.name for parameter in parameters if parameter.kind != parameter.VAR_KEYWORD}
    return names | (vars(part).keys() if len(names) < len(parameters) else set())


def _described(part: Any) -> str:
    return type(part).__name__ if part is not None else "None"
