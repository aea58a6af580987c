"""`generate`: a user's wishes become a prompt, settings and a search; what the search finds becomes the result."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from keras import ops

from keras_models import nn, runtime
from keras_models.cache import Cache, bucket
from keras_models.config import nearest
from keras_models.generation.config import GenerationConfig
from keras_models.generation.decoding import Decoding, Programs, Prompt
from keras_models.generation.processors import LogitsProcessorList, RepetitionPenaltyLogitsProcessor, build_processors
from keras_models.generation.search import Beams, Sampling
from keras_models.generation.stopping import EosTokenCriteria, MaxLengthCriteria, StoppingCriteriaList
from keras_models.generation.streamers import failures_told
from keras_models.outputs import ModelOutput
from keras_models.training.heads import to_array

RECORDS = {"output_attentions": ("attentions", "cross_attentions"), "output_hidden_states": ("hidden_states",)}
OUTPUTS = (
    "sequences", "sequences_scores", "scores", "logits", "beam_indices", "encoder_attentions", "encoder_hidden_states",
    "attentions", "decoder_attentions", "cross_attentions", "hidden_states", "decoder_hidden_states", "past_key_values",
)  # fmt: skip


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
    search: Any = None  # in place of the one that the settings ask for
    numbers: dict[str, float] = field(default_factory=dict)  # that this search needs

    @property
    def records(self) -> tuple[str, ...]:
        """The flags of what the model is to hand out besides logits."""
        wanted = self.settings.return_dict_in_generate
        return tuple(flag for flag in RECORDS if wanted and getattr(self.settings, flag))

    @property
    def collects(self) -> bool:
        """Whether the call asks for anything of single steps."""
        flags = ("output_scores", "output_logits", *RECORDS)
        return self.settings.return_dict_in_generate and any(getattr(self.settings, flag) for flag in flags)

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
    logits_processor: Sequence[Callable] = (),
    stopping_criteria: Sequence[Callable] = (),
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
        seed = np.random.randint(2**31) if seed is None else seed
        check_arguments(seed, streamer, logits_processor, stopping_criteria, prefix_allowed_tokens_fn)
        settings, given = call_settings(model, generation_config, use_model_defaults, kwargs)
        settings.check_call(streamer=streamer, assistant_model=assistant_model, tokenizer=tokenizer)
        given = _arrays(model, inputs, given, settings)
        special = settings.special_tokens(model.config.is_encoder_decoder, "attention_mask" in given)
        prompt, encoder_inputs, encoded = _prompt(model, given, settings, special)
        if streamer is not None and prompt.ids.shape[0] != 1:
            raise ValueError(f"A streamer follows one text, not a batch of {prompt.ids.shape[0]}: stream them in turn.")
        call = resolve(
            model, settings, prompt, kwargs, special, encoder_inputs, tokenizer, logits_processor, stopping_criteria,
            prefix_allowed_tokens_fn, streamer=streamer, assistant=assistant_model, seed=int(seed),
            assistant_tokenizer=assistant_tokenizer,
        )  # fmt: skip
        unseen = 0 if prompt.has_tokens else prompt.ids.shape[1]
        if streamer is not None:
            streamer.put(prompt.ids[:, unseen:])
        result = mode(settings.generation_mode(assistant_model))(call)
        if streamer is not None:
            streamer.end()
    result["sequences"] = result["sequences"][:, unseen:]
    if not settings.return_dict_in_generate:
        return result["sequences"]
    result |= encoded
    if not settings.use_cache:
        del result["past_key_values"]
    return ModelOutput(**{name: result[name] for name in OUTPUTS if result.get(name) is not None})


def check_arguments(seed, streamer, logits_processor, stopping_criteria, prefix_allowed_tokens_fn):
    """Raises TypeError or ValueError where an argument of `generate` is not what its name promises."""
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed must be an integer of 0 or more, not {seed!r}.")
    if streamer is not None and not (hasattr(streamer, "put") and hasattr(streamer, "end")):
        raise TypeError(f"A streamer needs methods put(ids) and end(), which {type(streamer).__name__} lacks.")
    for name, each in (("logits_processor", logits_processor), ("stopping_criteria", stopping_criteria)):
        if not isinstance(each or (), Sequence) or not all(map(callable, each or ())):
            raise TypeError(f"{name} must be a list of functions, not {each!r}.")
    if not callable(prefix_allowed_tokens_fn or len):
        raise TypeError(f"prefix_allowed_tokens_fn must be a function, not {prefix_allowed_tokens_fn!r}.")


def call_settings(model, generation_config, use_model_defaults, kwargs) -> tuple[GenerationConfig, dict[str, Any]]:
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
    names = {*model.input_names} - {"logits_to_keep"}
    return names | {*_encoder_names(model)} if model.config.is_encoder_decoder else names


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
        if array.dtype.kind in "iu":
            array = array.astype("int32") if array.ndim != 1 else array[None].astype("int32")
        arrays[name] = array
    start = settings.bos_token_id
    if not set(arrays) - {"past_key_values", "attention_mask"}:
        if start is None:
            raise ValueError("generate got no inputs, and there is no bos_token_id to start with: pass input_ids.")
        arrays["input_ids"] = np.full((1, 1), start)
    for name in ("input_ids", "decoder_input_ids"):
        if name in arrays and (arrays[name].size or name != "input_ids" or "inputs_embeds" not in arrays):
            _check_tokens(model, name, arrays[name])
    embeds, types = arrays.get("inputs_embeds"), arrays.get("token_type_ids")
    if embeds is not None and embeds.ndim != 3:
        raise ValueError(f"inputs_embeds must be of shape (batch, length, size), not {embeds.shape}.")
    if types is not None and types.shape != (arrays["input_ids"] if embeds is None else embeds).shape[:2]:
        raise ValueError(f"token_type_ids is of shape {types.shape}, which is not that of the tokens.")
    return arrays


def _check_tokens(model: Any, name: str, ids: np.ndarray):
    size = model.config.vocab_size if "vocab_size" in model.config.field_names() else None
    if ids.size == 0:
        raise ValueError(f"{name} is empty, of shape {ids.shape}: give at least one token.")
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers of shape (batch, length), not {ids.dtype} of {ids.shape}.")
    if size is not None and not 0 <= ids.min() <= ids.max() < size:
        wrong = ids.max() if ids.max() >= size else ids.min()
        raise ValueError(f"{name} holds {wrong}, but the vocabulary has {size} tokens: use the model's own tokenizer.")


def _prompt(model, given, settings, special) -> tuple[Prompt, dict | None, dict[str, Any]]:
    """What a decoder is to continue; what its encoder was given; and what to return of the encoder's outputs."""
    cache = given.pop("past_key_values", None)
    if not model.config.is_encoder_decoder:
        ids, mask = given.pop("input_ids", None), given.pop("attention_mask", None)
        embeds = given.get("inputs_embeds")
        has_tokens = ids is not None and ids.size > 0
        if not has_tokens:  # something takes their place, which `generate` cuts off again
            ids = np.full(embeds.shape[:2], special.pad or 0)
        elif embeds is not None and embeds.shape[:2] != ids.shape:
            raise ValueError(f"inputs_embeds are for tokens of {embeds.shape[:2]}, not {ids.shape}: make them agree.")
        mask = _mask(ids, mask, special, has_tokens)
        last = ids[:, -1] == special.pad if mask is None else mask[:, -1] == 0
        if len(ids) > 1 and special.pad is not None and last.any():
            warnings.warn(
                "A decoder continues the last token, and some texts end in padding: set tokenizer.padding_side='left'."
            )
        places, real = given.pop("position_ids", None), np.ones_like(ids) if mask is None else mask
        if places is not None and not np.array_equal(places * real, (real.cumsum(axis=1) - 1) * real):
            raise ValueError("generate counts positions itself, without those that are masked: drop position_ids.")
        return Prompt(ids, mask, given, cache=_past(cache, ids), has_tokens=has_tokens), None, {}
    names = _encoder_names(model)
    encoder_inputs = {name: given.pop(name) for name in list(given) if name in names}
    ids = encoder_inputs.get("input_ids")
    if "attention_mask" in names and ids is not None:
        mask = _mask(ids, encoder_inputs.pop("attention_mask", None), special)
        encoder_inputs |= {} if mask is None else {"attention_mask": mask}
    outputs, length = given.pop("encoder_outputs", None), None
    if outputs is None:
        if ids is not None and "inputs_embeds" in encoder_inputs:
            raise ValueError("generate got both input_ids and inputs_embeds: drop one of them.")
        outputs, encoder_inputs = encode(model, encoder_inputs, settings)
        length = None if ids is None else ids.shape[1]
    if isinstance(outputs, Mapping):
        states = outputs.get("last_hidden_state")
    else:
        states = outputs[0] if isinstance(outputs, (tuple, list)) else None
    if len(np.shape(states)) != 3:
        raise ValueError(
            "encoder_outputs must be what model.encode returns, or a tuple that begins with hidden states (batch, "
            f"length, size), not {type(outputs).__name__}."
        )
    tokens, mask = (given.pop(f"decoder_{name}", None) for name in ("input_ids", "attention_mask"))
    if given:
        raise ValueError(f"generate has no use for {', '.join(given)}: give decoder_input_ids, or nothing.")
    tokens, mask = _started(model, tokens, mask, special.decoder_start, states.shape[0])
    prompt = Prompt(
        tokens, mask, {}, states, encoder_inputs.get("attention_mask"), length or states.shape[1], _past(cache, tokens)
    )
    extra = {"hidden_states": "encoder_hidden_states", "attentions": "encoder_attentions"}
    encoded = {new: outputs.get(old) for old, new in extra.items()} if isinstance(outputs, Mapping) else {}
    return prompt, encoder_inputs, encoded


def _started(model, tokens, mask, start, batch: int) -> tuple[np.ndarray, np.ndarray | None]:
    """What a decoder is to continue: its start token, before the tokens that were given unless these begin with it."""
    start = np.array(start, "int32").reshape(-1, 1)
    if len(start) not in (1, batch):
        raise ValueError(f"decoder_start_token_id has {len(start)} tokens for {batch} texts: give one, or one each.")
    start = np.broadcast_to(start, (batch, 1))
    _check_tokens(model, "decoder_start_token_id", start)
    tokens = start if tokens is None else tokens
    if len(tokens) != batch:
        raise ValueError(f"decoder_input_ids are for {len(tokens)} texts, the encoder's inputs for {batch}.")
    mask = np.ones_like(tokens) if mask is None else mask
    if mask.shape != tokens.shape:
        raise ValueError(f"decoder_attention_mask is of shape {mask.shape}, the tokens of {tokens.shape}.")
    if model.starts_decoder and (tokens[:, :1] != start).all():
        tokens = np.concatenate([start, tokens], axis=1)
        mask = np.concatenate([np.ones_like(start), mask], axis=1)
    return tokens, None if mask.all() else mask


def _past(cache: Any, ids: np.ndarray) -> Cache | None:
    """A cache of what comes before the last token, of its own so that the given one stays as it is; None if empty."""
    if cache is None:
        return None
    if not isinstance(cache, Cache):
        raise TypeError(
            "past_key_values must be a keras_models.Cache, such as generate returns with return_dict_in_generate=True, "
            f"not {type(cache).__name__}."
        )
    if not cache.keys:
        return None
    rows, length = cache.keys[0].shape[0], int(cache.length)
    if rows != len(ids) or length > ids.shape[1]:
        raise ValueError(
            f"past_key_values holds {length} positions of {rows} texts, and the tokens are of {ids.shape}: give the "
            "whole texts, what the cache holds included."
        )
    return Cache.of(cache.state(), min(length, ids.shape[1] - 1), cache.source)


def _mask(ids: np.ndarray, mask: Any, special: Any, has_tokens: bool = True) -> np.ndarray | None:
    """Which tokens count: as given, else all but padding if that can be told from the rest; None for all."""
    if mask is None and has_tokens and special.pad is not None and special.pad not in (special.eos or ()):
        mask = ids != special.pad
    if mask is not None and mask.ndim != 2:
        raise ValueError(f"attention_mask must be of shape (batch, length) for generate, not {mask.shape}.")
    if mask is not None and mask.shape != ids.shape:
        raise ValueError(f"attention_mask is of shape {mask.shape}, the tokens of {ids.shape}: make them agree.")
    return None if mask is None or mask.all() else mask.astype("int32")


def encode(model: Any, inputs: dict[str, Any], settings: GenerationConfig) -> tuple[ModelOutput, dict[str, Any]]:
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
    for stale in [each for each in list(known) if each[0] != key[0]]:
        known.pop(stale, None)
    program = known.get(key) or runtime.compile_program(model, lambda inputs: model.encode(**inputs, **records))
    outputs = known.setdefault(key, program)(model.prepare_inputs(**inputs))
    if real is not None:
        cut = {"hidden_states": (slice(None), slice(real)), "attentions": (..., slice(real), slice(real))}
        for name, places in cut.items():
            if name in outputs:
                outputs[name] = tuple(ops.convert_to_numpy(each)[places] for each in outputs[name])
    return outputs, inputs


def resolve(
    model, settings, prompt, kwargs, special, encoder_inputs, tokenizer, logits_processor, stopping_criteria,
    prefix_allowed_tokens_fn, **rest,
) -> Call:  # fmt: skip
    """The processors, criteria and lengths that the settings ask for."""
    length = prompt.ids.shape[1]
    unseen = 0 if prompt.has_tokens else length
    positions = getattr(model.config, "max_position_embeddings", None)
    if model.max_length is not None and length >= model.max_length:
        raise ValueError(
            f"The prompt is {length} tokens long and {type(model).__name__} has positions for {model.max_length}: "
            "shorten it, e.g. with tokenizer(..., truncation=True, max_length=...)."
        )
    limit, shortest = settings.resolve_length(
        length - unseen, kwargs, max_positions=positions, embeds_length=unseen or None,
        is_encoder_decoder=model.config.is_encoder_decoder,
    )  # fmt: skip
    limit, shortest = limit + unseen, shortest + unseen
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
    source, mask = None if unseen else prompt.ids, None
    if encoder_inputs is not None:
        source = encoder_inputs.get("input_ids")
        mask = None if source is None else np.indices(source.shape)[1] < prompt.encoder_length
    processors = build_processors(
        settings, prompt_length=length, vocab_size=model.config.vocab_size, prompt_ids=source, prompt_mask=mask,
        num_beams=settings.num_beams, prefix_allowed_tokens_fn=prefix_allowed_tokens_fn, extra=logits_processor or (),
    )  # fmt: skip
    for each in processors:
        if unseen and isinstance(each, RepetitionPenaltyLogitsProcessor):
            each.prompt_ignore_length = unseen
    return Call(
        model, settings, prompt, processors, StoppingCriteriaList(inner), limit, special.eos, special.pad,
        tokenizer=tokenizer, encoder_inputs=encoder_inputs, **rest,
    )  # fmt: skip


def mode(name: str) -> Callable[[Call], dict[str, Any]]:
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
        search = call.search or Sampling(bool(settings.do_sample))
    decoding = Decoding(
        Programs.of(call.model, search, call.processors, call.records), call.prompt, limit=call.limit,
        rows_each=max(beams, settings.num_return_sequences), eos=call.eos, pad=call.pad, fill=call.fill,
        seed=call.seed, settings={"length_penalty": settings.length_penalty} if beams > 1 else call.numbers,
    )  # fmt: skip
    state, collected = run(call, decoding, decoding.rows_each, by_hand=beams > 1 and bool(call.criteria))
    if beams > 1:
        result = _best_beams(call, state)
    else:
        result = {"sequences": ops.convert_to_numpy(state["ids"])[:, : int(state["length"])]}
        result |= {name: ops.convert_to_numpy(state[name]) for name in search.measures}
    if not settings.return_dict_in_generate:
        return result
    return result | collected.outputs() | {"past_key_values": decoding.cache(state)}


def run(call: Call, decoding: Decoding, rows_each: int, by_hand: bool = False) -> tuple[dict, Collected]:
    """Decodes, telling the streamer; returns the last state, and what the call hands out besides sequences.

    Args:
        rows_each: how many rows of the state each prompt has.
        by_hand: whether to go step by step even if nothing else asks for it.
    """
    told = call.prompt.ids.shape[1]

    def news(state):
        nonlocal told
        length = int(state["length"])
        call.put(ops.convert_to_numpy(state["ids"])[:, told:length])
        told = length

    collected = Collected(call, rows_each)
    if by_hand or call.collects or not call.processors.compiled:
        for state, logits, scores, records in decoding.steps(_hits(call) if call.criteria else None):
            collected.add(state, logits, scores, records)
            if call.streamer is not None:
                news(state)
    else:
        criteria = (lambda ids: call.criteria(ids, None)) if call.criteria else None
        state = decoding.run(None if call.streamer is None else news, criteria)
    return state, collected


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
        queries = keys - self.call.prompt.known if first else 1
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
            array = array[..., : keys if name == "attentions" else self.call.prompt.encoder_length]
        return np.repeat(array, self.rows_each, axis=0) if first and self.rows_each > 1 else array

    def _keep(self, name: str, value: Any):
        self.steps.setdefault(name, []).append(value)

    def outputs(self) -> dict[str, Any]:
        """All that was kept, by the names of the outputs."""
        return {name: tuple(values) for name, values in self.steps.items() if not name.startswith("_")}


def transition_scores(
    sequences: Any, scores: Sequence[Any], beam_indices: Any = None, normalize_logits: bool = False
) -> np.ndarray:
    """The scores of chosen tokens; see `PreTrainedModel.compute_transition_scores`."""
    table = np.stack([ops.convert_to_numpy(each) for each in scores])  # (steps, rows, vocabulary)
    if normalize_logits:
        table = table - np.logaddexp.reduce(table, axis=-1, keepdims=True)
    if beam_indices is None:
        beam_indices = np.repeat(np.arange(table.shape[1])[:, None], len(table), axis=1)
    beams = ops.convert_to_numpy(beam_indices)
    beams = beams[:, : (beams >= 0).sum(axis=1).max()]
    steps = beams.shape[1]
    tokens = ops.convert_to_numpy(sequences)[:, -steps:]
    return np.where(beams < 0, 0.0, table[np.arange(steps), beams, tokens]).astype("float32")
