"""The settings of `generate`: what generation_config.json holds, how calls change it, and what goes together."""

from __future__ import annotations

import copy
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from keras_models.config import Config, nearest, read_json, write_atomically
from keras_models.hub import Repository, push_saved, split_options

FILE = "generation_config.json"
CACHES = (
    "static", "offloaded_static", "sliding_window", "hybrid", "hybrid_chunked", "offloaded_hybrid",
    "offloaded_hybrid_chunked", "dynamic", "dynamic_full", "offloaded", "quantized",
)  # fmt: skip
SCHEDULES = ("constant", "heuristic", "heuristic_transient")
# Settings of features that `generate` does not have, with the values that ask for nothing, the default first.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "assistant_early_exit": (None,),
    "assistant_lookbehind": (10,),
    "cache_config": (None,),
    "compile_config": (None,),
    "constraints": (None,),
    "disable_compile": (False, True),
    "dola_layers": (None,),
    "force_words_ids": (None,),
    "guidance_scale": (None, 1),
    "low_memory": (None, False, True),
    "prefill_chunk_size": (None,),
    "return_legacy_cache": (None, False),
    "target_lookbehind": (10,),
    "token_healing": (False,),
    "watermarking_config": (None,),
}
# Settings of single architectures (Whisper) that users set though files need not have them; they live in `extra`.
_SPECIAL = (
    "alignment_heads", "forced_decoder_ids", "is_multilingual", "lang_to_id", "language", "max_initial_timestamp_index",
    "median_filter_width", "no_timestamps_token_id", "prev_sot_token_id", "return_timestamps", "task", "task_to_id",
)  # fmt: skip
_ARGUMENTS = (
    "assistant_model", "logits_processor", "negative_prompt_attention_mask", "negative_prompt_ids",
    "prefix_allowed_tokens_fn", "stopping_criteria", "streamer", "synced_gpus", "use_model_defaults",
)  # fmt: skip
# Notes on a file's origin. Readers of old ignore a file that says _from_model_config, whatever else it says.
_NOT_KEPT = ("_commit_hash", "_from_model_config", "_original_object_hash")
_COUNTS = (
    "max_new_tokens", "num_beams", "num_beam_groups", "num_return_sequences", "num_assistant_tokens",
    "prompt_lookup_num_tokens", "max_matching_ngram_size",
)  # fmt: skip
_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "forced_bos_token_id",
        "forced_eos_token_id")  # fmt: skip
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
_OUTPUTS = ("output_attentions", "output_hidden_states", "output_scores", "output_logits")


class TokenIds(NamedTuple):
    """The special tokens of a call of `generate`."""

    bos: int | None
    eos: list[int] | None
    pad: int | None
    decoder_start: int | list[int] | None


class GenerationConfig:
    """How `generate` continues sequences; names and defaults are those of generation_config.json.

    A setting that nobody gave has its default and is not in `given`. None takes a setting back where it is no value of
    its own. Keys of a file that are no settings are kept in `extra`, can be read as attributes, and are written back,
    as are settings of features that keras_models does not have, which `check_call` refuses.

    Raises:
        TypeError: a name is no setting.
        ValueError: the settings make no sense, or contradict each other.
    """

    # How long.
    max_length: int | None = 20  # of prompt and new tokens together
    max_new_tokens: int | None = None  # takes precedence over max_length
    min_length: int | None = 0
    min_new_tokens: int | None = None
    early_stopping: bool | str = False  # of beam search: True, False (a heuristic) or "never"
    max_time: float | None = None  # seconds
    stop_strings: str | list[str] | None = None
    # By which strategy.
    do_sample: bool = False
    num_beams: int = 1
    num_beam_groups: int = 1
    diversity_penalty: float | None = 0.0
    penalty_alpha: float | None = None  # of contrastive search
    use_cache: bool = True
    cache_implementation: str | None = None
    # What becomes of the scores.
    temperature: float | None = 1.0
    top_k: int | None = 50
    top_p: float | None = 1.0
    min_p: float | None = None
    typical_p: float | None = 1.0
    epsilon_cutoff: float | None = 0.0
    eta_cutoff: float | None = 0.0
    repetition_penalty: float | None = 1.0
    encoder_repetition_penalty: float | None = 1.0
    length_penalty: float = 1.0
    no_repeat_ngram_size: int | None = 0
    encoder_no_repeat_ngram_size: int | None = 0
    bad_words_ids: list[list[int]] | None = None
    sequence_bias: dict[tuple[int, ...], float] | list | None = None
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | list[int] | None = None
    exponential_decay_length_penalty: tuple[int, float] | None = None  # (start, factor)
    renormalize_logits: bool = False
    remove_invalid_values: bool = False
    # What is returned.
    num_return_sequences: int = 1
    output_attentions: bool = False
    output_hidden_states: bool = False
    output_scores: bool = False
    output_logits: bool | None = None
    return_dict_in_generate: bool = False
    # Special tokens.
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | list[int] | None = None
    # Assisted generation.
    is_assistant: bool = False
    num_assistant_tokens: int = 20
    num_assistant_tokens_schedule: str = "constant"
    assistant_confidence_threshold: float | None = 0.4
    prompt_lookup_num_tokens: int | None = None
    max_matching_ngram_size: int | None = None

    def __init__(self, **settings: Any):
        self.__dict__["extra"] = {}
        self.update(**settings)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what copy and pickle look for, even before there is an `extra`
            raise AttributeError(name)
        if name in self.extra:
            return self.extra[name]
        if name in UNSUPPORTED:
            return UNSUPPORTED[name][0]
        raise AttributeError(_unknown(name))

    def __setattr__(self, name: str, value: Any):
        value = _plain(value)
        if name in _DEFAULTS:
            if value is None and name not in _NULLABLE:
                self.__dict__.pop(name, None)
            else:
                self.__dict__[name] = value
        elif self._knows(name):
            self.extra[name] = value
        else:
            raise AttributeError(_unknown(name))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GenerationConfig):
            return NotImplemented
        mine, its = (config.to_dict() | {"transformers_version": None} for config in (self, other))
        return mine == its

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.to_dict().items())
        return f"{type(self).__name__}({settings})"

    def _knows(self, name: str) -> bool:
        return name in _DEFAULTS or name in UNSUPPORTED or name in _SPECIAL or name in self.extra

    @property
    def given(self) -> set[str]:
        """The settings that were given, by a file or by a user."""
        return {*self.__dict__, *self.extra} - {"extra"}

    def update(self, **settings: Any):
        """Changes settings.

        Raises:
            TypeError: a name is no setting; nothing is changed then.
            ValueError: the settings make no sense, or contradict each other.
        """
        for name in settings:
            if not self._knows(name):
                raise TypeError(_unknown(name))
        _check_given(settings)
        for name, value in settings.items():
            setattr(self, name, value)
        self.validate()

    def merged(self, **overrides: Any) -> tuple[Self, dict[str, Any]]:
        """A copy with the settings of one call, and those overrides that are no settings (inputs of the model)."""
        config = copy.deepcopy(self)
        known = {name for name in overrides if name in _DEFAULTS or name in UNSUPPORTED or name in self.extra}
        config.update(**{name: overrides[name] for name in known})
        return config, {name: value for name, value in overrides.items() if name not in known}

    def with_task(self, parameters: Mapping[str, Any]) -> Self:
        """A copy with an entry of config.json's `task_specific_params`; what is no setting there is ignored."""
        return self.merged(**parameters)[0]

    def with_model_defaults(self, model: GenerationConfig, use_model_defaults: bool | None = None) -> Self:
        """A copy of this object, given in a call, in which a model's own settings fill what it leaves open.

        Args:
            model: the model's settings.
            use_model_defaults: True for all settings, False for special tokens alone; None for all, with a warning,
                unless the model's settings were saved before transformers 4.50.
        """
        config = copy.deepcopy(self)
        if use_model_defaults is None:
            version = re.match(r"(\d+)\.(\d+)", str(model.extra.get("transformers_version", "")))
            everything = version is None or tuple(map(int, version.groups())) >= (4, 50)
        else:
            everything = use_model_defaults
        if not everything:
            for name in ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"):
                if getattr(config, name) is None:
                    setattr(config, name, getattr(model, name))
            return config
        added = {name: getattr(model, name) for name in sorted(model.given - self.given - {"transformers_version"})}
        changes = {name: value for name, value in added.items() if value != _default(name)}
        for name, value in changes.items():
            (config.__dict__ if name in _DEFAULTS else config.extra)[name] = copy.deepcopy(value)
        if config.temperature == 0.0:
            config.do_sample = False
        if changes and use_model_defaults is None:
            settings = ", ".join(f"{name}={value!r}" for name, value in changes.items())
            warnings.warn(f"The model's own settings apply where generation_config leaves them open: {settings}.")
        return config

    # Reading and writing.

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **overrides: Any) -> Self:
        """Builds settings from the contents of a generation_config.json.

        Raises:
            TypeError: one of `overrides` names no setting.
            ValueError: the settings with `overrides` make no sense.
        """
        config = cls()
        for name, value in copy.deepcopy(dict(values)).items():
            if name in _DEFAULTS:
                setattr(config, name, value)
            elif name not in _NOT_KEPT:
                config.extra[name] = value
        if overrides:
            config.update(**overrides)
        return config

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str], config_file_name: str = FILE, **options: Any) -> Self:
        """Reads the settings of a folder or a hub repository.

        Args:
            source: a folder or a hub id.
            config_file_name: the file to read; a repository may have several.
            **options: hub options (`revision`, `subfolder`, `token`, `cache_dir`, `local_files_only`,
                `force_download`) and settings to override.

        Raises:
            ValueError: the file is not JSON.
            TypeError: an override names no setting.
            OSError: there is no such file.
        """
        hub, overrides = split_options(options)
        return cls.from_dict(read_json(Repository(source, **hub).file(config_file_name, required=True)), **overrides)

    @classmethod
    def from_model_config(cls, config: Config | Mapping[str, Any]) -> Self:
        """The settings that a model's configuration, or the contents of a config.json, holds as old ones do.

        What the whole leaves open is taken from the part that generates (`decoder`, `generator`, `text_config`).
        """
        values = _values(config)
        if values.get("forced_bos_token_id") is None and values.get("force_bos_token_to_be_generated"):
            values["forced_bos_token_id"] = values.get("bos_token_id")
        part = next((part for key in ("decoder", "generator", "text_config") if (part := _values(values.get(key)))), {})
        settings = cls()
        for name in (*_DEFAULTS, *UNSUPPORTED):
            for value in (part.get(name), values.get(name)):
                if value is not None and value != _default(name):
                    setattr(settings, name, copy.deepcopy(value))
        if any(getattr(settings, name) for name in _OUTPUTS):
            settings.return_dict_in_generate = True
        return settings

    @classmethod
    def for_model(cls, repository: Repository, config: Config | Mapping[str, Any]) -> Self:
        """The settings of a model: its repository's generation_config.json, or what its configuration holds.

        Where there is a file it alone counts, even for special tokens.
        """
        path = repository.file(FILE)
        return cls.from_dict(read_json(path)) if path else cls.from_model_config(config)

    def to_dict(self) -> dict[str, Any]:
        """The contents of generation_config.json: what is not a default, and the keys kept from a file."""
        values = {name: value for name, value in {**self.__dict__, **self.extra}.items() if name != "extra"}
        values = {name: copy.deepcopy(value) for name, value in values.items() if value != _default(name)}
        if isinstance(values.get("sequence_bias"), dict):  # JSON has no tuples for keys
            values["sequence_bias"] = [[list(ids), bias] for ids, bias in values["sequence_bias"].items()]
        return values

    def to_json_string(self) -> str:
        """`to_dict()` as the text of a generation_config.json."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def save_pretrained(self, folder: str | os.PathLike[str], config_file_name: str = FILE):
        """Writes generation_config.json into `folder`, replacing an older one in one step.

        Raises:
            ValueError: the settings make no sense, or some of them have no effect beside the others.
        """
        self.validate(strict=True)
        write_atomically(Path(folder) / config_file_name, self.to_json_string())

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Uploads generation_config.json to a hub repository; returns the commit's URL. Options: `hub.push_folder`."""
        return push_saved(self.save_pretrained, repo_id, **options)

    # What goes together.

    def validate(self, strict: bool = False):
        """Checks the settings among themselves, and warns of those that have no effect.

        Args:
            strict: raise an error instead of warning.

        Raises:
            ValueError: the settings make no sense, or contradict each other.
        """
        for problem in self._contradictions():
            raise ValueError(problem)
        doubts = " ".join(self._doubts())
        if doubts and strict:
            raise ValueError(f"Such settings are not saved: {doubts}")
        if doubts:
            warnings.warn(doubts)

    def _contradictions(self) -> Iterator[str]:
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                yield f"{name} must be a positive integer, not {value!r}."
        if self.early_stopping not in (True, False, "never"):
            yield f"early_stopping must be True, False or 'never', not {self.early_stopping!r}."
        choices = {"cache_implementation": (*CACHES, None), "num_assistant_tokens_schedule": SCHEDULES}
        for name, known in choices.items():
            value = getattr(self, name)
            if value not in known:
                yield f"{name}={value!r} is unknown; use one of {', '.join(filter(None, known))}."
        threshold = self.assistant_confidence_threshold
        if threshold is not None and not 0 <= threshold <= 1:
            yield f"assistant_confidence_threshold must be between 0 and 1, not {threshold!r}."
        beams, groups, sequences = self.num_beams, self.num_beam_groups, self.num_return_sequences
        if beams == 1 and sequences > 1 and not self.do_sample:
            yield f"num_return_sequences={sequences} needs num_beams={sequences} or more, or do_sample=True."
        if 1 < beams < sequences:
            yield f"num_return_sequences={sequences} is above num_beams={beams}: raise num_beams to {sequences}."
        if beams % groups:
            yield f"num_beams={beams} cannot be split into num_beam_groups={groups}: make it a multiple of that."
        if groups > 1 and self.do_sample:
            yield f"num_beam_groups={groups} and do_sample=True exclude each other: drop one of them."
        if groups > 1 and not (self.diversity_penalty or 0) > 0:
            yield f"num_beam_groups={groups} needs diversity_penalty above 0, or all groups find the same."
        if (self.penalty_alpha or 0) > 0 and (self.do_sample or beams > 1):
            other = "do_sample=True" if self.do_sample else f"num_beams={beams}"
            yield f"penalty_alpha={self.penalty_alpha!r} and {other} exclude each other: drop one of them."

    def _doubts(self) -> Iterator[str]:
        sampling = [name for name in SAMPLING if name != "top_k" or not self._is_contrastive()]
        outputs = [name for name in _OUTPUTS if getattr(self, name)]
        for idle, names, remedy in (
            (not self.do_sample, sampling, "do_sample=True"),
            (self.num_beams == 1, ("early_stopping", "length_penalty"), "num_beams above 1"),
            (self.num_beam_groups == 1, ("diversity_penalty",), "num_beam_groups above 1"),
            (not self.use_cache, ("cache_implementation", "cache_config", "return_legacy_cache"), "use_cache=True"),
            (not self.return_dict_in_generate, outputs, "return_dict_in_generate=True"),
        ):
            values = {name: getattr(self, name) for name in names}
            found = [f"{name}={value!r}" for name, value in values.items() if value not in (None, _default(name))]
            if idle and found:
                yield f"Without {remedy} there is no effect of {', '.join(found)}: drop what you do not want."
        if self.pad_token_id is not None and self.pad_token_id < 0:
            yield f"pad_token_id={self.pad_token_id} is no token: set it to the id of one."

    def check_call(self, *, streamer: Any = None, assistant_model: Any = None, tokenizer: Any = None):
        """Checks the settings against the other arguments of a call of `generate`.

        Raises:
            ValueError: they do not go together, or a setting is of a feature that keras_models does not have.
        """
        for name, harmless in UNSUPPORTED.items():
            if name in self.extra and self.extra[name] not in harmless:
                raise ValueError(f"generate has no {name}: drop {name}={self.extra[name]!r}.")
        if self.cache_implementation == "quantized":
            raise ValueError("generate has no quantized cache: drop cache_implementation='quantized'.")
        if streamer is not None and self.num_beams > 1:
            raise ValueError(f"A streamer cannot follow num_beams={self.num_beams} at once: drop one of them.")
        if self.stop_strings is not None and tokenizer is None:
            raise ValueError("stop_strings are found in text: pass generate the tokenizer too, as tokenizer=.")
        if self.num_return_sequences > 1 and self.generation_mode(assistant_model) == "assisted_generation":
            raise ValueError(
                f"Assisted generation returns one sequence, not num_return_sequences={self.num_return_sequences}: "
                "drop that, or the assistant."
            )

    def generation_mode(self, assistant_model: Any = None) -> str:
        """The strategy that the settings ask for.

        Returns:
            "greedy_search", "sample", "contrastive_search", "assisted_generation", "beam_search", "beam_sample" or
            "group_beam_search".
        """
        if self.num_beams > 1:
            plain = "beam_sample" if self.do_sample else "beam_search"
            mode = "group_beam_search" if self.num_beam_groups > 1 else plain
        elif self.do_sample:
            mode = "sample"
        else:
            mode = "contrastive_search" if self._is_contrastive() else "greedy_search"
        if assistant_model is None and self.prompt_lookup_num_tokens is None:
            return mode
        if mode in ("greedy_search", "sample"):
            return "assisted_generation"
        warnings.warn(f"There is no assistance in {mode}: assistant_model and prompt_lookup_num_tokens are ignored.")
        return mode

    get_generation_mode = generation_mode

    def _is_contrastive(self) -> bool:
        return (self.top_k or 0) > 1 and (self.penalty_alpha or 0) > 0

    # What follows for one prompt.

    def resolve_length(
        self,
        prompt_length: int,
        call: Mapping[str, Any] | None = None,
        *,
        max_positions: int | None = None,
        embeds_length: int | None = None,
        is_encoder_decoder: bool = False,
    ) -> tuple[int, int]:
        """How long sequences may and must become.

        Args:
            prompt_length: the number of input ids, or of decoder input ids, that there are.
            call: the keyword arguments of the call, in which a max_length or min_length may be.
            max_positions: the longest sequence that the model has positions for, which limits the default.
            embeds_length: the number of positions in `inputs_embeds`, if the prompt comes as these.
            is_encoder_decoder: whether the prompt is the decoder's.

        Returns:
            The maximum and the minimum number of ids, prompt included.

        Raises:
            ValueError: there is no maximum, or the prompt is as long already.
        """
        call = call or {}
        from_call = {name: call.get(name) is not None for name in ("max_length", "min_length")}
        longest, shortest = self.max_length, self.min_length or 0
        before = 0  # positions that count, but have no ids
        if embeds_length is not None and embeds_length != prompt_length and not is_encoder_decoder:
            before = embeds_length
        if self.max_new_tokens is not None:
            if from_call["max_length"]:
                warnings.warn(_both("max", self.max_new_tokens, longest))
            longest = prompt_length + self.max_new_tokens
        elif longest is None:
            raise ValueError("max_length=None and max_new_tokens=None leave no end: set max_new_tokens.")
        elif before:
            longest -= before
        elif not from_call["max_length"] and longest == _DEFAULTS["max_length"]:
            longest = min(longest + prompt_length, max_positions or longest + prompt_length)
        if self.min_new_tokens is not None:
            if from_call["min_length"]:
                warnings.warn(_both("min", self.min_new_tokens, shortest))
            shortest = prompt_length + self.min_new_tokens
        else:
            shortest = max(shortest - before, 0)
        if prompt_length >= longest:
            what = "decoder_input_ids" if is_encoder_decoder else "positions"
            raise ValueError(
                f"A prompt of {prompt_length + before} {what} leaves no room below max_length={longest + before}: "
                "raise it, or set max_new_tokens."
            )
        if not from_call["max_length"] and self.max_new_tokens is None and longest == _DEFAULTS["max_length"]:
            warnings.warn(f"max_length={longest} is nobody's choice but a default: set max_new_tokens.")
        if shortest > longest:
            warnings.warn(
                f"A minimum length of {shortest} is above the maximum of {longest}, at which generation stops: "
                "lower min_length or min_new_tokens, or raise max_length or max_new_tokens."
            )
        return longest, shortest

    def special_tokens(self, is_encoder_decoder: bool = False, has_attention_mask: bool | None = None) -> TokenIds:
        """The special tokens as a call uses them: the first eos pads where there is no pad, bos may start a decoder.

        Args:
            is_encoder_decoder: whether a decoder has to be started.
            has_attention_mask: whether the call has an attention mask; None where that does not matter.

        Raises:
            ValueError: there is no token to start a decoder with.
        """
        eos, pad, start = self.eos_token_id, self.pad_token_id, self.decoder_start_token_id
        eos = [eos] if isinstance(eos, (int, float)) else eos
        if is_encoder_decoder and start is None:
            start = self.bos_token_id
            if start is None:
                raise ValueError("The decoder has nothing to start with: set decoder_start_token_id or bos_token_id.")
        if eos and pad is None:
            pad = eos[0]
            warnings.warn(f"pad_token_id is not set: the first eos_token_id, {pad}, pads sequences that end early.")
        if eos and pad in eos and has_attention_mask is False:
            warnings.warn(
                f"Whether {pad} pads the input or is a part of it cannot be told without an attention mask, as it is "
                "an eos_token_id too: pass attention_mask."
            )
        if any(isinstance(each, float) or each < 0 for each in eos or ()):
            warnings.warn(f"eos_token_id={eos} are no tokens: only the maximum length ends a sequence.")
        return TokenIds(self.bos_token_id, eos, pad, start)


_DEFAULTS: dict[str, Any] = {name: getattr(GenerationConfig, name) for name in GenerationConfig.__annotations__}
_NULLABLE = {name for name, kind in GenerationConfig.__annotations__.items() if kind.endswith("| None")}


def _default(name: str) -> Any:
    """What a setting is if nobody gives it; for a key that is none, a value that nothing equals."""
    return _DEFAULTS[name] if name in _DEFAULTS else UNSUPPORTED.get(name, (object(),))[0]


def _unknown(name: str) -> str:
    if name in _ARGUMENTS:
        return f"{name} is an argument of generate, not a setting of GenerationConfig: pass it there."
    return f"GenerationConfig has no setting {name!r}.{nearest(name, [*_DEFAULTS, *UNSUPPORTED, *_SPECIAL])}"


def _both(side: str, tokens: int, length: int | None) -> str:
    return f"{side}_new_tokens={tokens} takes precedence over {side}_length={length}: set one of them."


def _check_given(settings: Mapping[str, Any]):
    """Refuses what a user gives at once though it makes no sense; from files it is met with a warning."""
    for low, high in (("min_length", "max_length"), ("min_new_tokens", "max_new_tokens")):
        least, most = settings.get(low), settings.get(high)
        if least is not None and most is not None and least > most:
            raise ValueError(f"{low}={least} is above {high}={most}: lower the one or raise the other.")
    for name in _IDS:
        value = _plain(settings.get(name))
        ids = value if isinstance(value, (list, tuple)) else [value]
        if not all(each is None or (isinstance(each, int) and each >= 0) for each in ids):
            raise ValueError(f"{name}={value!r} is no token: give the id of one, or None for none.")


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's, which JSON knows."""
    return value.tolist() if hasattr(value, "tolist") else value


def _values(config: Any) -> dict[str, Any]:
    """A configuration's settings by name; none of what is no configuration."""
    if isinstance(config, Config):
        return {**config.extra, **{name: getattr(config, name) for name in config.field_names()}}
    return dict(config) if isinstance(config, Mapping) else {}
