"""What the pipelines that write text share: their settings, and batches that go through the model's `generate`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, ClassVar

import numpy as np

from keras_models.generation.config import UNSUPPORTED, GenerationConfig
from keras_models.generation.generate import generate
from keras_models.generation.stopping import EosTokenCriteria, StoppingCriteriaList, StopStringCriteria
from keras_models.pipelines.base import Pipeline, Row, on_device, option_names

SETTINGS = frozenset({*GenerationConfig.__annotations__, *UNSUPPORTED})
_LENGTHS = ("max_length", "min_length")
_IDLE = {  # (setting, value) -> settings that have no effect beside it
    ("do_sample", False): ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"),
    ("num_beams", 1): ("early_stopping", "length_penalty"),
}
_COMPARED = ("repetition_penalty", "no_repeat_ngram_size", "sequence_bias", "bad_words_ids")
_OWN = ("logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn")


class GeneratingPipeline(Pipeline):
    """Base of the pipelines that write text.

    A row's outputs are `sequences` (sequences, tokens), with a decoder's prompt and as long as if the row had been
    alone, and what else `generate` returns for each sequence.

    `generation_config` has the settings that a call starts from. Those given to `pipeline` come first, then those in
    `task_specific_params` of the configuration, the `defaults` of the pipeline, and the model's own; but a `max_length`
    of the model, or one given to `pipeline`, comes before the default of `max_new_tokens`.
    """

    settings = SETTINGS | option_names(generate, frozenset()) | {"generate_kwargs", "stop_sequence"}
    defaults: ClassVar[dict[str, Any]] = {"max_new_tokens": 256}
    generation_config: GenerationConfig
    prefix: str  # what the model wants before every text

    def prepare(self):
        given = {name: self.options.pop(name) for name in list(self.options) if name in SETTINGS}
        own = self.options.pop("generation_config", None)
        start = GenerationConfig(**self.defaults) if own is None else own
        config = start.with_model_defaults(self.model.generation_config, use_model_defaults=True)
        limited = given.get("max_length", config.max_length) not in (None, GenerationConfig.max_length)
        if limited and config.max_new_tokens == self.defaults["max_new_tokens"]:
            config.max_new_tokens = None
        task = (self.model.config.task_specific_params or {}).get(self.task, {})
        for name, value in {**task, **given}.items():
            if name in SETTINGS and (name in given or own is None or name not in own.given):
                setattr(config, name, value)
        if config.pad_token_id is None:
            config.pad_token_id = self.tokenizer.pad_token_id
        self.generation_config = config
        self.prefix = task.get("prefix", getattr(self.model.config, "prefix", None)) or ""

    def rename(self, options: dict[str, Any]) -> dict[str, Any]:
        options = {**(options.pop("generate_kwargs", None) or {}), **options}
        stop = options.pop("stop_sequence", None)
        return options if stop is None else options | {"eos_token_id": self.stop_tokens(stop)}

    def stop_tokens(self, stop: str | list[str]) -> list[int]:
        """The tokens of a stop sequence, or of several, each of which ends a text."""
        texts = [stop] if isinstance(stop, str) else stop
        return [token for text in texts for token in self.tokenizer.encode(text, add_special_tokens=False)]

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        given = {name: options.pop(name) for name in list(options) if name in SETTINGS}
        start, use_defaults = options.get("generation_config"), options.pop("use_model_defaults", None)
        if start is None:
            start = self.generation_config
        elif not isinstance(start, GenerationConfig):
            raise TypeError(f"generation_config must be a GenerationConfig, not {type(start).__name__}.")
        else:
            start = start.with_model_defaults(self.model.generation_config, use_defaults)
        for (name, value), names in _IDLE.items():
            if given.get(name, getattr(start, name)) == value:  # then nobody is to be warned of what others chose
                given = dict.fromkeys(names) | given
        if given.get("top_k", 0) is None and given.get("penalty_alpha", start.penalty_alpha):
            given["top_k"] = start.top_k  # of contrastive search
        config, _ = start.merged(**given)
        if config.pad_token_id is None and config.eos_token_id is not None:
            config.pad_token_id = int(np.ravel(config.eos_token_id)[0])
        if options.get("seed") is not None:
            options["seed"] = count(int(options["seed"]))  # one for each batch of a call
        lengths = {name: given[name] for name in _LENGTHS if given.get(name) is not None}
        if "max_length" in lengths and config.max_new_tokens is not None:
            warnings.warn(
                f"max_length={config.max_length} has no effect beside max_new_tokens={config.max_new_tokens}: "
                "pass max_new_tokens instead."
            )
        return {**options, **lengths, "generation_config": config}

    def forward(
        self,
        rows: list[Row],
        *,
        generation_config: GenerationConfig,
        seed: Iterator[int] | None = None,
        **arguments: Any,
    ):
        """Continues rows, or answers them, as one batch, and gives each its sequences."""
        continues = not self.model.config.is_encoder_decoder
        lengths = sorted({row.length for row in rows})
        if continues and len(lengths) > 1 and _sees_padding(generation_config, arguments):
            for length in lengths:
                same = [row for row in rows if row.length == length]
                self.forward(same, generation_config=generation_config, seed=seed, **arguments)
            return
        inputs = self._collate([row.inputs for row in rows], left=continues)
        if generation_config.max_new_tokens is not None:
            arguments.pop("max_length", None)
        arguments |= {name: getattr(generation_config, name) for name in _LENGTHS if name in arguments}
        arguments = {"tokenizer": self.tokenizer, "use_model_defaults": False, **arguments}
        seed = None if seed is None else next(seed)
        with on_device(self.device):
            found = self.model.generate(**inputs, generation_config=generation_config, seed=seed, **arguments)
        found = found if isinstance(found, Mapping) else {"sequences": found}
        sequences, others = found["sequences"], dict(_of_sequences(found, len(rows)))
        each, start = len(sequences) // len(rows), inputs["input_ids"].shape[1] if continues else 1
        ends = np.full(len(sequences), sequences.shape[1])
        if len(rows) > 1:
            ends = _ends(sequences, start, generation_config, arguments["tokenizer"])
        for index, row in enumerate(rows):
            own = slice(index * each, (index + 1) * each)
            padding, end = start - row.length if continues else 0, ends[own].max()
            row.outputs = {name: values[own, : end - start] for name, values in others.items()}
            row.outputs["sequences"] = sequences[own, padding:end]


def _sees_padding(config: GenerationConfig, arguments: dict[str, Any]) -> bool:
    """Whether tokens before a prompt would count, or be compared with others, and so change what is written."""
    counted = config.max_new_tokens is None or (config.min_new_tokens is None and config.min_length)
    compared = any(getattr(config, name) not in (None, 0, 1) for name in _COMPARED)
    return bool(counted or compared or any(arguments.get(name) for name in _OWN))


def _ends(sequences: np.ndarray, start: int, config: GenerationConfig, tokenizer: Any) -> np.ndarray:
    """Where each of the sequences, whose new tokens begin at `start`, ended before others of its batch did."""
    criteria = StoppingCriteriaList()
    if config.eos_token_id is not None:
        criteria.append(EosTokenCriteria(config.eos_token_id))
    if config.stop_strings is not None:
        criteria.append(StopStringCriteria(tokenizer, config.stop_strings))
    ends = np.full(len(sequences), sequences.shape[1])
    for length in range(start + 1, sequences.shape[1]):
        stopped = criteria(sequences[:, :length], None)
        ends[stopped] = np.minimum(ends[stopped], length)
    return ends


def _of_sequences(found: Mapping[str, Any], rows: int) -> Iterator[tuple[str, np.ndarray]]:
    """What `generate` tells of each sequence, such as scores: arrays (sequences, steps, ...) or (sequences, 1, ...).

    As in the reference, what it tells of a sequence as a whole is left out where there are several for a row.
    """
    count = len(found["sequences"])
    for name, value in found.items():
        if isinstance(value, tuple) and value and isinstance(value[0], np.ndarray) and len(value[0]) == count:
            yield name, np.stack(value, axis=1)
        elif isinstance(value, np.ndarray) and name != "sequences" and len(value) == count == rows:
            yield name, value[:, None]
