"""`generate`: a user's wishes become a prompt, settings and a search; what the search finds becomes the result."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from keras_models import nn, runtime
from keras_models.cache import bucket
from keras_models.config import nearest
from keras_models.generation.config import GenerationConfig
from keras_models.generation.decoding import Decoding, Programs, Prompt
from keras_models.generation.processors import LogitsProcessorList, build_processors
from keras_models.generation.search import Beams, Sampling
from keras_models.generation.stopping import EosTokenCriteria, MaxLengthCriteria, StoppingCriteriaList
from keras_models.generation.streamers import failures_told
from keras_models.outputs import ModelOutput
from keras_models.training.heads import to_array

RECORDS = {"output_attentions": ("attentions", "cross_attentions"), "output_hidden_states": ("hidden_states",)}


@dataclass
class Call:
    """A call of `generate`, all settings resolved."""

    model: Any
    settings: GenerationConfig
    prompt: Prompt
    processors: LogitsProcessorList
    criteria: StoppingCriteriaList  # those that need Python
    limit: int  # the length at which to stop
    eos: list[int] | None
    pad: int | None
    seed: int
    streamer: Any = None
    assistant: Any = None
    tokenizer: Any = None
    assistant_tokenizer: Any = None
    encoder_inputs: dict[str, Any] | None = None  # what an assistant's encoder is given too

    @property
    def records(self) -> tuple[str, ...]:
        """The flags of what the model is to hand out besides logits."""
        wanted = self.settings.return_dict_in_generate
        return tuple(flag for flag in RECORDS if wanted and getattr(self.settings, flag))

    @property
    def fill(self) -> int:
        """The token in columns behind the end of a beam: as in the reference, a pad of 0 counts as none."""
        return (self.pad or self.eos[0]) if self.eos else -1

    def put(self, tokens: np.ndarray):
        """Hands new tokens (rows, new) of the only row to the streamer."""
        for column in tokens.T:
            self.streamer.put(column)


def generate(
    model: Any,
    inputs: Any = None,
    generation_config: GenerationConfig | None = None,
    *,
    logits_processor: Iterable[Callable] = (),
    stopping_criteria: Iterable[Callable] = (),
    prefix_allowed_tokens_fn: Callable[[int, Any], Sequence[int]] | None = None,
    assistant_model: Any = None,
    streamer: Any = None,
    tokenizer: Any = None,
    assistant_tokenizer: Any = None,
    use_model_defaults: bool | None = None,
    seed: int | None = None,
    **kwargs: Any,
) -> np.ndarray | ModelOutput:
    """Continues prompts; see `PreTrainedModel.generate`."""
    with failures_told(streamer):
        if isinstance(inputs, Mapping):
            kwargs, inputs = {**inputs, **kwargs}, None
        for name in ("synced_gpus", "negative_prompt_ids", "negative_prompt_attention_mask", "custom_generate"):
            if kwargs.pop(name, None) is not None:
                raise ValueError(f"generate has no {name}: drop it.")
        settings, given = _settings(model, generation_config, use_model_defaults, kwargs)
        settings.check_call(streamer=streamer, assistant_model=assistant_model, tokenizer=tokenizer)
        given = _arrays(model, inputs, given, settings)
        special = settings.special_tokens(model.config.is_encoder_decoder, "attention_mask" in given)
        prompt, encoder_inputs, encoded = _prompt(model, given, settings, special)
        if streamer is not None and prompt.ids.shape[0] != 1:
            raise ValueError(f"A streamer follows one text, not a batch of {prompt.ids.shape[0]}: stream them in turn.")
        call = _resolve(
            model, settings, prompt, kwargs, special, encoder_inputs, tokenizer, logits_processor, stopping_criteria,
            prefix_allowed_tokens_fn, streamer=streamer, assistant=assistant_model,
            seed=int(np.random.randint(2**31)) if seed is None else int(seed), assistant_tokenizer=assistant_tokenizer,
        )  # fmt: skip
        if streamer is not None:
            streamer.put(prompt.ids)
        result = _mode(settings.generation_mode(assistant_model))(call)
        if streamer is not None:
            streamer.end()
    if prompt.inputs.get("inputs_embeds") is not None:
        result["sequences"] = result["sequences"][:, prompt.ids.shape[1] :]
    if not settings.return_dict_in_generate:
        return result["sequences"]
    return ModelOutput(**{name: value for name, value in {**result, **encoded}.items() if value is not None})


def _settings(model, generation_config, use_model_defaults, kwargs) -> tuple[GenerationConfig, dict[str, Any]]:
    """The settings of a call, and those of its keyword arguments that are inputs of the model."""
    base = model.generation_config
    if generation_config is not None:
        if not isinstance(generation_config, GenerationConfig):
            raise TypeError(f"generation_config must be a GenerationConfig, not {type(generation_config).__name__}.")
        base = generation_config.with_model_defaults(model.generation_config, use_model_defaults)
    settings, given = base.merged(**kwargs)
    names = _input_names(model)
    for name in given:
        if name not in names and name != "token_type_ids":
            known = [*GenerationConfig.__annotations__, *names]
            raise TypeError(
                f"generate has no setting, and {type(model).__name__} no input, {name!r}.{nearest(name, known)}"
            )
    return settings, {name: value for name, value in given.items() if value is not None and name in names}


def _input_names(model: Any) -> set[str]:
    names = set(model.input_names)
    if model.config.is_encoder_decoder:
        names |= set(_encoder_names(model))
    return names


def _encoder_names(model: Any) -> list[str]:
    encoder = model.get_encoder()
    if hasattr(encoder, "input_names"):
        return list(encoder.input_names)
    return [name for name in inspect.signature(type(encoder).call).parameters if name not in ("self", "training")]


def _arrays(model: Any, inputs: Any, given: dict[str, Any], settings: GenerationConfig) -> dict[str, Any]:
    """The model's inputs as NumPy arrays, by name."""
    if inputs is not None:
        main = next(iter(_encoder_names(model))) if model.config.is_encoder_decoder else "input_ids"
        if main in given:
            raise ValueError(f"generate got {main} twice, by name and by position: drop one of them.")
        given = {main: inputs, **given}
    arrays = {}
    for name, value in given.items():
        if name in ("past_key_values", "encoder_outputs"):
            arrays[name] = value
            continue
        array = to_array(name, value)
        arrays[name] = array[None] if array.ndim == 1 and array.dtype.kind in "iu" else array
    start = settings.bos_token_id
    if not set(arrays) - {"past_key_values", "attention_mask"}:
        if start is None:
            raise ValueError("generate got no inputs, and there is no bos_token_id to start with: pass input_ids.")
        arrays["input_ids"] = np.full((1, 1), start)
    size = model.config.vocab_size if "vocab_size" in model.config.field_names() else None
    for name in ("input_ids", "decoder_input_ids"):
        ids = arrays.get(name)
        if ids is None:
            continue
        if ids.size == 0 and (name != "input_ids" or "inputs_embeds" not in arrays):
            raise ValueError(f"{name} is empty, of shape {ids.shape}: give at least one token.")
        if ids.ndim != 2 or ids.dtype.kind not in "iu":
            raise ValueError(f"{name} must be integers of shape (batch, length), not {ids.dtype} of {ids.shape}.")
        if size is not None and ids.size and not 0 <= ids.min() <= ids.max() < size:
            wrong = ids.max() if ids.max() >= size else ids.min()
            raise ValueError(
                f"{name} holds {wrong}, but the vocabulary has {size} tokens: use the model's own tokenizer."
            )
    return arrays


def _prompt(model, given, settings, special) -> tuple[Prompt, dict | None, dict[str, Any]]:
    """What a decoder is to continue; what its encoder was given; and what to return of the encoder's outputs."""
    cache = given.pop("past_key_values", None)
    if not model.config.is_encoder_decoder:
        ids, mask = given.pop("input_ids", None), given.pop("attention_mask", None)
        if "inputs_embeds" in given:  # they take the place of tokens, which `generate` cuts off again
            ids = np.full(given["inputs_embeds"].shape[:2], special.pad or 0)
        mask = _mask(ids, mask, special, "inputs_embeds" in given)
        last = ids[:, -1] == special.pad if mask is None else mask[:, -1] == 0
        if len(ids) > 1 and special.pad is not None and last.any():
            warnings.warn(
                "A decoder continues the last token, and some texts end in padding: set tokenizer.padding_side='left'."
            )
        given.pop("position_ids", None)
        return Prompt(ids, mask, given, cache=cache), None, {}
    names = _encoder_names(model)
    encoder_inputs = {name: given.pop(name) for name in list(given) if name in names}
    ids = encoder_inputs.get("input_ids")
    if "attention_mask" in names and ids is not None:
        mask = _mask(ids, encoder_inputs.pop("attention_mask", None), special, False)
        encoder_inputs |= {} if mask is None else {"attention_mask": mask}
    outputs = given.pop("encoder_outputs", None)
    if outputs is None:
        outputs, encoder_inputs = _encode(model, encoder_inputs, settings)
    states = outputs["last_hidden_state"] if isinstance(outputs, Mapping) else outputs[0]
    start = given.pop("decoder_input_ids", None)
    mask = given.pop("decoder_attention_mask", None)
    first = np.full((states.shape[0], 1), special.start)
    if start is None:
        start = first
    elif start.shape[0] != states.shape[0]:
        raise ValueError(
            f"decoder_input_ids are for {start.shape[0]} texts, the encoder's inputs for {states.shape[0]}."
        )
    elif (start[:, 0] != special.start).all() and model.starts_decoder:
        start = np.concatenate([first, start], axis=1)
        mask = None if mask is None else np.concatenate([np.ones_like(mask[:, :1]), mask], axis=1)
    mask = None if mask is None or mask.all() else mask
    prompt = Prompt(start, mask, {}, states, encoder_inputs.get("attention_mask"), cache)
    extra = {"hidden_states": "encoder_hidden_states", "attentions": "encoder_attentions"}
    encoded = {new: outputs.get(old) for old, new in extra.items()} if isinstance(outputs, Mapping) else {}
    return prompt, encoder_inputs, encoded


def _mask(ids: Any, mask: Any, special: Any, embeds: bool) -> np.ndarray | None:
    """Which tokens count: as given, else all but padding if that can be told from the rest; None for all."""
    if mask is None and not embeds and special.pad is not None and special.pad not in (special.eos or ()):
        mask = ids != special.pad
    if mask is None or mask.all():
        return None
    if mask.ndim != 2:
        raise ValueError(f"attention_mask must be of shape (batch, length) for generate, not {mask.shape}.")
    if ids is not None and mask.shape != ids.shape:
        raise ValueError(f"attention_mask is of shape {mask.shape}, the tokens of {ids.shape}: make them agree.")
    return mask.astype("int32")


def _encode(model: Any, inputs: dict[str, Any], settings: GenerationConfig) -> tuple[ModelOutput, dict[str, Any]]:
    """The encoder's outputs as tensors, and the inputs as it got them, padded to a bucket where that is compiled."""
    records = {flag: bool(settings.return_dict_in_generate and getattr(settings, flag)) for flag in RECORDS}
    ids, real = inputs.get("input_ids"), None
    if not runtime.CACHE_IN_PLACE and ids is not None and "attention_mask" in _encoder_names(model):
        real = ids.shape[1]
        room = max(real, min(bucket(real), model.max_length or bucket(real)))
        widths = [(0, 0), (0, room - real)]
        mask = inputs.get("attention_mask", np.ones(ids.shape, "int32"))
        inputs = {**inputs, "input_ids": np.pad(ids, widths), "attention_mask": np.pad(mask, widths)}
    known = model.__dict__.setdefault("_encoders", {})
    key = (nn.structure_version(), *records.values())
    if key not in known:
        known.clear()
        known[key] = runtime.compile_program(model, lambda inputs: model.encode(**inputs, **records))
    tensors = {
        name: ops.convert_to_tensor(value.astype("int32") if value.dtype.kind in "iu" else value)
        for name, value in inputs.items()
    }
    outputs = known[key](tensors)
    if real is not None:
        cut = {"hidden_states": (slice(None), slice(real)), "attentions": (..., slice(real), slice(real))}
        for name, places in cut.items():
            if name in outputs:
                outputs[name] = tuple(ops.convert_to_numpy(each)[places] for each in outputs[name])
    return outputs, inputs


def _resolve(
    model, settings, prompt, kwargs, special, encoder_inputs, tokenizer, logits_processor, stopping_criteria,
    prefix_allowed_tokens_fn, **rest,
) -> Call:  # fmt: skip
    """The processors, criteria and lengths that the settings ask for."""
    length = prompt.ids.shape[1]
    positions = getattr(model.config, "max_position_embeddings", None)
    embeds = prompt.inputs.get("inputs_embeds")
    limit, shortest = settings.resolve_length(
        length, kwargs, max_positions=positions, is_encoder_decoder=model.config.is_encoder_decoder,
    )  # fmt: skip
    if model.max_length is not None and length >= model.max_length:
        raise ValueError(
            f"The prompt is {length} tokens long and {type(model).__name__} has positions for {model.max_length}: "
            "shorten it, e.g. with tokenizer(..., truncation=True, max_length=...)."
        )
    if model.max_length is not None and limit > model.max_length:
        warnings.warn(
            f"{type(model).__name__} has positions for {model.max_length} tokens, prompt included: "
            f"generation stops there rather than at {limit}.", stacklevel=4,
        )  # fmt: skip
        limit = model.max_length
    settings.max_length, settings.min_length = limit, shortest
    criteria = StoppingCriteriaList.for_call(
        settings, max_length=limit, eos=special.eos, tokenizer=tokenizer, max_positions=positions,
        custom=stopping_criteria or (),
    )  # fmt: skip
    limit = min(limit, criteria.max_length or limit)
    inner = [each for each in criteria if not isinstance(each, (MaxLengthCriteria, EosTokenCriteria))]
    source = encoder_inputs if encoder_inputs is not None else {"input_ids": None if embeds is not None else prompt.ids}
    beams = settings.num_beams if settings.num_beams > 1 else 1
    processors = build_processors(
        settings, prompt_length=length, vocab_size=model.config.vocab_size, prompt_ids=source.get("input_ids"),
        prompt_mask=source.get("attention_mask"), num_beams=beams, prefix_allowed_tokens_fn=prefix_allowed_tokens_fn,
        extra=logits_processor or (),
    )  # fmt: skip
    return Call(
        model, settings, prompt, processors, StoppingCriteriaList(inner), limit, special.eos, special.pad,
        tokenizer=tokenizer, encoder_inputs=encoder_inputs, **rest,
    )  # fmt: skip


def _mode(name: str) -> Callable[[Call], dict[str, Any]]:
    """The function that decodes in this mode."""
    if name in ("greedy_search", "sample", "beam_search", "beam_sample"):
        return _search
    if name == "contrastive_search":
        from keras_models.generation.contrastive import decode
    elif name == "group_beam_search":
        from keras_models.generation.groups import decode
    else:
        from keras_models.generation.assisted import decode
    return decode


def _search(call: Call) -> dict[str, Any]:
    """Greedy search, sampling, beam search and beam sampling."""
    settings, beams = call.settings, call.settings.num_beams
    if beams > 1:
        search = Beams(beams, bool(settings.do_sample), settings.early_stopping, len(call.eos or ()))
    else:
        search = Sampling(bool(settings.do_sample))
    decoding = Decoding(
        Programs.of(call.model, search, call.processors, call.records), call.prompt, limit=call.limit,
        rows_each=max(beams, settings.num_return_sequences), eos=call.eos, pad=call.pad, fill=call.fill,
        seed=call.seed, settings={"length_penalty": settings.length_penalty} if beams > 1 else {},
    )  # fmt: skip
    told = call.prompt.ids.shape[1]

    def news(state):
        nonlocal told
        length = int(state["length"])
        call.put(ops.convert_to_numpy(state["ids"])[:, told:length])
        told = length

    collected = Collected(call, decoding.rows_each)
    by_hand = settings.return_dict_in_generate and any(
        getattr(settings, flag) for flag in ("output_scores", "output_logits", *RECORDS)
    )
    if by_hand or not call.processors.compiled or (beams > 1 and call.criteria):
        for state, logits, scores, records in decoding.steps(_hits(call) if call.criteria else None):
            collected.add(state, logits, scores, records)
            if call.streamer is not None:
                news(state)
    else:
        criteria = (lambda ids: call.criteria(ids, None)) if call.criteria else None
        state = decoding.run(None if call.streamer is None else news, criteria)
    if beams > 1:
        result = _best_beams(call, state)
    else:
        result = {"sequences": ops.convert_to_numpy(state["ids"])[:, : int(state["length"])]}
    if not settings.return_dict_in_generate:
        return result
    return result | collected.outputs() | {"past_key_values": decoding.cache(state)}


def _hits(call: Call) -> Callable:
    """The Python criteria as a search takes them."""

    def hits(ids, length):
        stopped = call.criteria(ops.convert_to_numpy(ids)[:, : int(length)], None)
        return ops.convert_to_tensor(stopped, "bool")

    return hits


def _best_beams(call: Call, state: dict) -> dict[str, Any]:
    """The best finished beams of each input, as far as the longest of them goes."""
    count, prompt = call.settings.num_return_sequences, call.prompt.ids.shape[1]
    done = {name: ops.convert_to_numpy(value)[:, :count] for name, value in state["done"].items()}
    parents = done["parents"][..., prompt:].reshape(len(done["ids"]) * count, -1)
    longest = int((parents >= 0).sum(axis=1).max())
    sequences = done["ids"].reshape(len(parents), -1)[:, : prompt + longest]
    if not call.settings.return_dict_in_generate:
        return {"sequences": sequences}
    scores = done["scores"].reshape(-1) if call.settings.output_scores else None
    return {"sequences": sequences, "sequences_scores": scores, "beam_indices": parents[:, :longest]}


class Collected:
    """What a call hands out besides sequences, step by step: scores, logits, attentions, hidden states."""

    def __init__(self, call: Call, rows_each: int):
        self.call, self.rows_each = call, rows_each
        self.steps: dict[str, list] = {}

    def add(self, state: dict, logits: Any, scores: Any, records: dict[str, Any]):
        """Keeps what one step has to offer, cut to the real lengths."""
        settings = self.call.settings
        if not settings.return_dict_in_generate:
            return
        if settings.output_scores:
            self._keep("scores", ops.convert_to_numpy(scores))
        if settings.output_logits:
            self._keep("logits", ops.convert_to_numpy(ops.cast(logits, "float32")))
        first = not self.steps.get("_lengths")
        self._keep("_lengths", int(state["length"]))
        keys = int(state["length"]) - 1  # the last token has not been through the model
        queries = keys if first else 1
        prefix = "decoder_" if self.call.model.config.is_encoder_decoder else ""
        for flag in self.call.records:
            for name in RECORDS[flag]:
                own = name if name == "cross_attentions" else prefix + name
                if own in records:
                    self._keep(own, tuple(self._cut(each, name, queries, keys, first) for each in records[own]))

    def _cut(self, tensor: Any, name: str, queries: int, keys: int, first: bool) -> np.ndarray:
        array = ops.convert_to_numpy(tensor)
        if name == "hidden_states":
            array = array[:, :queries]
        else:
            array = array[:, :, :queries]
            array = array[..., :keys] if name == "attentions" else array[..., : self._source_length(array.shape[-1])]
        return np.repeat(array, self.rows_each, axis=0) if first and self.rows_each > 1 else array

    def _source_length(self, padded: int) -> int:
        mask = self.call.prompt.encoder_mask
        return padded if mask is None else self.call.encoder_inputs.get("_length", padded)

    def _keep(self, name: str, value: Any):
        self.steps.setdefault(name, []).append(value)

    def outputs(self) -> dict[str, Any]:
        """All that was kept, by the names of the outputs."""
        return {name: tuple(values) for name, values in self.steps.items() if not name.startswith("_")}
