"""Decoding: the prompt in one program, then the search step by step, in a compiled loop where nothing needs Python.

Prompts are padded on the right to a few lengths, and the caches made in a few sizes, so that a new length seldom
compiles anew; causal masks hide the padding until it is overwritten. Real lengths are run-time numbers.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from keras import ops

from keras_models import inference, nn, runtime
from keras_models.cache import Cache, bucket
from keras_models.generation.processors import LogitsProcessorList

FIRST_ROOM = 256  # new positions that a cache has room for at first
STREAM_SECONDS = 0.1  # how long a streamer waits for news, roughly
PER_TOKEN = ("inputs_embeds", "token_type_ids")  # further inputs that go with a prompt's tokens


@dataclass
class Prompt:
    """What a model is to continue, as NumPy arrays."""

    ids: np.ndarray  # (batch, length), the decoder's
    mask: np.ndarray | None = None  # (batch, length) ones and zeros; None if all count
    inputs: dict[str, Any] = field(default_factory=dict)  # further inputs
    encoder_states: Any = None  # (batch, source length, size)
    encoder_mask: np.ndarray | None = None  # (batch, source length)
    encoder_length: int = 0  # of the source, without what fills up a bucket
    cache: Cache | None = None  # keys and values of the first positions
    has_tokens: bool = True  # whether the ids are tokens; else `inputs_embeds` stand for them

    @property
    def known(self) -> int:
        """How many positions have their keys and values already."""
        return 0 if self.cache is None else self.cache.length


class Programs:
    """The programs of one model for one kind of search: functions of structures of tensors, compiled at first use."""

    def __init__(self, model: Any, search: Any, processors: LogitsProcessorList, records: tuple[str, ...] = ()):
        self.model, self.search, self.processors, self.records = model, search, processors, records
        self.encodes = model.config.is_encoder_decoder
        self.positions = "decoder_position_ids" if self.encodes else "position_ids"
        self.keeps_logits = "logits_to_keep" in model.input_names
        self.start = runtime.compile_program(model, self._start)
        self.loop = runtime.compile_program(model, self._loop, donated=(0,))
        self.prefill = runtime.compile_program(model, self._prefill)
        self.forward = runtime.compile_program(model, self._forward, donated=(0,))
        self.pick = runtime.compile_program(model, self._pick, donated=(0,))

    @classmethod
    def of(cls, model: Any, search: Any, processors: LogitsProcessorList, records: tuple[str, ...] = ()) -> Programs:
        """Those that the model has already for such a call, or new ones; with the call's own processors."""
        known = model.__dict__.setdefault("_programs", {})
        kind = processors.signature() if processors.compiled else None  # else they run between two programs
        key = (nn.structure_version(), search.signature(), kind, records)
        for stale in [each for each in list(known) if each[0] != key[0]]:
            known.pop(stale, None)  # another thread may have been faster
        programs = copy.copy(known.get(key) or known.setdefault(key, cls(model, search, processors, records)))
        programs.processors = processors
        return programs

    def call(self, tokens: Any, cache: Cache, fixed: dict, mask: Any, places: Any, **inputs: Any) -> Any:
        """The model's outputs for tokens (rows, new); their cache's length has grown by `new` afterwards."""
        names = ("decoder_input_ids", "decoder_attention_mask") if self.encodes else ("input_ids", "attention_mask")
        inputs = {names[0]: tokens, **fixed["inputs"], **inputs}
        if self.encodes:
            inputs["encoder_outputs"] = (fixed["encoder_states"],)
            inputs["attention_mask"] = fixed["encoder_mask"]
        if mask is not None and names[1] in self.model.input_names:
            inputs[names[1]] = mask
        if places is not None and self.positions in self.model.input_names:
            inputs[self.positions] = places
        flags = dict.fromkeys(self.records, True)
        return self.model(**inputs, **flags, past_key_values=cache)

    def _prefill(self, inputs: dict, prompt: dict, ids: Any, fixed: dict) -> tuple[Any, dict, dict, Any]:
        """(logits of the last token, records, state, keys and values of an encoder) for the prompts, a row each."""
        cache = Cache(ids.shape[1])
        if prompt["past"] is not None:
            cache = Cache.of(prompt["past"], prompt["past_length"], prompt["past_source"])
        keep = {"logits_to_keep": ops.reshape(prompt["last"], (1,))} if self.keeps_logits else {}
        once = {**fixed, "encoder_mask": prompt["encoder_mask"]}
        outputs = self.call(prompt["ids"], cache, once, prompt["mask"], prompt["places"], **inputs, **keep)
        logits = outputs.logits[:, 0] if keep else ops.take(outputs.logits, prompt["last"], axis=1)
        records = records_of(outputs)
        each = ids.shape[0] // logits.shape[0]
        if each > 1:  # several continuations of each prompt
            logits, cache = ops.repeat(logits, each, axis=0), cache.repeat(each)
        state = self.search.begin(ids, fixed["prompt"]) | cache.state()
        return logits, records, state, cache.source

    def _forward(self, state: dict, fixed: dict) -> tuple[Any, dict, dict]:
        """(logits of the next token, records, state) after the state's last tokens have gone through the model."""
        at = state["length"] - 1
        cache = Cache.of(state, at, fixed["source"])
        places = None if fixed["pads"] is None else at - fixed["pads"][:, None]
        tokens = runtime.read_column(state["ids"], at)[:, None]
        outputs = self.call(tokens, cache, fixed, fixed["mask"], places)
        records = records_of(outputs)
        return outputs.logits[:, -1], records, state | cache.state()

    def scores(self, state: dict, logits: Any, fixed: dict) -> Any:
        """What the search chooses by: logits, or log-probabilities of beams, after all processors."""
        scores = ops.cast(logits, "float32")
        if self.search.rows_each > 1:
            scores = ops.log_softmax(scores, axis=-1)
        return self.processors.bind(fixed["processors"]).process(state["ids"], state["length"], scores)

    def advance(self, state: dict, scores: Any, fixed: dict, hits: Callable | None = None) -> dict:
        """The state after the search has chosen, caches in the order of their rows' new owners."""
        state = self.search.select(state, scores, fixed, hits)
        rows = self.search.parents(state)
        if rows is not None:
            for name in ("keys", "values"):
                state[name] = [runtime.cache_rows(each, rows, state["length"] - 1) for each in state[name]]
        return state

    def _pick(self, state: dict, logits: Any, fixed: dict) -> tuple[dict, Any]:
        """(state, scores) after the search has chosen by these logits."""
        scores = self.scores(state, logits, fixed)
        return self.advance(state, scores, fixed), scores

    def _start(self, inputs: dict, prompt: dict, ids: Any, fixed: dict) -> tuple[dict, Any, Any]:
        """(state, keys and values of an encoder, whether to go on) after the first new token."""
        logits, _, state, source = self._prefill(inputs, prompt, ids, fixed)
        state = self.advance(state, self.scores(state, logits, fixed), fixed)
        return state, source, self.search.going(state, fixed)

    def _loop(self, state: dict, fixed: dict, stop: Any) -> tuple[dict, Any]:
        """(state, whether to go on) after steps up to the length `stop`, or the end."""

        def going(state):
            return ops.logical_and(state["length"] < stop, self.search.going(state, fixed))

        state = self._while(going, lambda state: self._step(state, fixed), state)
        return state, self.search.going(state, fixed)

    def _while(self, going: Callable, step: Callable, state: dict) -> dict:
        """The state after steps as long as it is `going`, all in one program."""
        shapes = {name: state[name][0].shape for name in ("keys", "values") if state[name]}

        def packed(state):
            return self._with_caches(step(self._with_caches(state, shapes)))

        state = runtime.while_loop(going, packed, self._with_caches(state))
        return self._with_caches(state, shapes)

    @staticmethod
    def _with_caches(state: dict, shapes: dict | None = None) -> dict:
        """The state with caches as a loop carries them, or in these shapes again."""
        changed = {}
        for name in ("keys", "values"):
            pack = runtime.cache_pack if shapes is None else partial(runtime.cache_unpack, shape=shapes[name])
            changed[name] = [pack(each) for each in state[name]]
        return {**state, **changed}

    def _step(self, state: dict, fixed: dict) -> dict:
        """The state after one more token."""
        logits, _, state = self._forward(state, fixed)
        return self.advance(state, self.scores(state, logits, fixed), fixed)


class Decoding:
    """One call of `generate` whose search moves by a token a step.

    Args:
        programs: the model's.
        prompt: what to continue.
        limit: the length at which to stop.
        rows_each: how many rows to decode for each prompt.
        special: the tokens `eos` and `pad`.
        fill: the token for unused columns.
        seed: of the random numbers.
        settings: further numbers that the search needs.
    """

    def __init__(
        self, programs: Programs, prompt: Prompt, *, limit: int, rows_each: int, eos: list[int] | None, pad: int | None,
        fill: int, seed: int | None, settings: dict[str, float],
    ):  # fmt: skip
        self.programs, self.prompt, self.limit, self.rows_each = programs, prompt, limit, rows_each
        batch, self.length = prompt.ids.shape
        rows = batch * rows_each
        self.room = self._bucket(self.length - prompt.known)
        self.capacity = bucket(max(prompt.known + self.room, min(limit, self.length + FIRST_ROOM)))
        if prompt.cache is not None:
            self.capacity = max(self.capacity, prompt.cache.capacity)
        mask = None if prompt.mask is None else np.repeat(prompt.mask, rows_each, axis=0).astype("int32")
        search = programs.search
        self.uniforms = None
        if search.sample:
            shape = (limit - self.length, rows // search.rows_each, search.draws)
            self.uniforms = np.random.default_rng(seed).random(shape, "float32")
        later = {name: value for name, value in prompt.inputs.items() if name != "inputs_embeds"}
        later = {name: value[:, -1:] if name in PER_TOKEN else value for name, value in later.items()}
        self.fixed = {
            "prompt": runtime.number(self.length),
            "limit": runtime.number(limit),
            "eos": None if not eos else np.array(eos, "int32"),
            "pad": np.array(0 if pad is None else pad, "int32"),
            "uniforms": self._uniforms(),
            "processors": programs.processors.values(),
            "inputs": self._prepared({name: np.repeat(value, rows_each, axis=0) for name, value in later.items()}),
            "mask": None if mask is None else _widened(mask, self.capacity, 1),
            "pads": None if mask is None else (self.length - mask.sum(axis=1)).astype("int32"),
            "encoder_states": prompt.encoder_states,
            "encoder_mask": _repeated(prompt.encoder_mask, rows_each),
            "source": None,
            **{name: np.array(value, "float32") for name, value in settings.items()},
        }
        self.fixed = _tensors(self.fixed)
        self.ids = _tensors(_widened(np.repeat(prompt.ids, rows_each, axis=0).astype("int32"), self.capacity, fill))
        self.fill = fill

    def _prepared(self, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
        return self.programs.model.prepare_inputs(**inputs) if inputs else {}

    def _bucket(self, length: int) -> int:
        if runtime.CACHE_IN_PLACE:
            return length
        room = next((size for size in inference.BUCKETS if size >= length), bucket(length))
        end = self.programs.model.max_length  # beyond which there are no positions, not even for padding
        return room if end is None else max(length, min(room, end - self.prompt.known))

    def _uniforms(self) -> np.ndarray | None:
        """Those that the capacity has room for, and some more so that the shape does not depend on the prompt."""
        return None if self.uniforms is None else _filled(self.uniforms[: self.capacity], self.capacity, axis=0)

    def _first_inputs(self) -> tuple[dict, dict, Any, dict]:
        """The arguments of the first program."""
        prompt, model = self.prompt, self.programs.model
        known, new = prompt.known, self.length - prompt.known
        places, mask = None, prompt.mask
        if mask is None and not model.ignores_padding:  # then no position may be higher than those of real tokens
            mask = np.ones_like(prompt.ids)
        if mask is not None:
            counted = mask.cumsum(axis=1) - 1
            places = _widened(np.where(mask == 0, 1, counted)[:, known:].astype("int32"), self.room, 1)
        past = None
        if prompt.cache is not None:
            prompt.cache.grow(self.capacity)
            past = prompt.cache.state()
        arrays = {
            "ids": _widened(prompt.ids[:, known:].astype("int32"), self.room, 0),
            "mask": None if prompt.mask is None else _widened(prompt.mask.astype("int32"), known + self.room, 1),
            "places": places,
            "encoder_mask": prompt.encoder_mask,
        }
        arrays = _tensors(arrays) | {
            "last": runtime.number(new - 1),
            "past": past,
            "past_length": None if past is None else runtime.number(known),
            "past_source": None if past is None else prompt.cache.source,
        }
        arrays["last"] = ops.convert_to_tensor(arrays["last"], "int32")
        inputs = {
            name: _filled(value[:, known:], self.room, axis=1) if name in PER_TOKEN else value
            for name, value in prompt.inputs.items()
        }
        return self._prepared(inputs), arrays, self.ids, self.fixed

    def run(self, news: Callable | None = None, criteria: Callable | None = None) -> dict:
        """Decodes in compiled loops; returns the last state.

        Args:
            news: called with the state whenever a streamer should get what is new.
            criteria: called with the ids (rows, length) so far; which rows it stops. Not for beams.
        """
        state, self.fixed["source"], going = self.programs.start(*self._first_inputs())
        chunk = 1
        while True:
            if criteria is not None:
                length = int(state["length"])
                stopped = criteria(ops.convert_to_numpy(state["ids"])[:, :length])
                state["finished"] = ops.logical_or(state["finished"], ops.convert_to_tensor(stopped, "bool"))
                going = self.programs.search.going(state, self.fixed)
            if news is not None:
                news(state)
            if not bool(going):
                return state
            length = int(state["length"])
            if length == self.capacity:
                state = self._grow(state)
            stop = min(self.limit, self.capacity)
            if criteria is not None:
                stop = length + 1
            elif news is not None:
                stop = min(stop, length + chunk)
            start = time.perf_counter()
            state, going = self.programs.loop(state, self.fixed, runtime.number(stop))
            if news is not None:
                bool(going)  # JAX computes while we go on
                chunk = 2 * chunk if time.perf_counter() - start < STREAM_SECONDS / 2 else max(1, chunk)
                chunk = min(chunk, 8)

    def steps(self, hits: Callable | None = None) -> Iterator[tuple[dict, Any, Any, dict]]:
        """Decodes token by token, for what needs Python in between; yields (state, logits, scores, records) of each.

        Args:
            hits: see `search.select`.
        """
        search, programs = self.programs.search, self.programs
        logits, records, state, self.fixed["source"] = programs.prefill(*self._first_inputs())
        while True:
            if hits is None and programs.processors.compiled:
                state, scores = programs.pick(state, logits, self.fixed)
            else:
                scores = programs.scores(state, logits, self.fixed)
                state = programs.advance(state, scores, self.fixed, hits)
            yield state, logits, scores, records
            if not bool(search.going(state, self.fixed)):
                return
            if int(state["length"]) == self.capacity:
                state = self._grow(state)
            logits, records, state = programs.forward(state, self.fixed)

    def _grow(self, state: dict) -> dict:
        """The state with room for more positions."""
        before, self.capacity = self.capacity, bucket(min(self.limit, 2 * self.capacity))

        def widened(array: Any, value: int) -> Any:
            widths = [(0, 0)] * (len(array.shape) - 1) + [(0, self.capacity - before)]
            return ops.pad(array, widths, constant_values=value)

        if self.fixed["mask"] is not None:
            self.fixed["mask"] = widened(self.fixed["mask"], 1)
        self.fixed["uniforms"] = _tensors(self._uniforms())
        for name in ("keys", "values"):
            state[name] = [runtime.cache_grow(each, self.capacity) for each in state[name]]
        state["ids"] = widened(state["ids"], self.fill)
        if "parents" in state:
            state["parents"] = widened(state["parents"], -1)
            done = state["done"]
            state["done"] = {**done, "ids": widened(done["ids"], self.fill), "parents": widened(done["parents"], -1)}
        return state

    def cache(self, state: dict) -> Cache:
        """The keys and values of all tokens but the last, which has not been through the model."""
        cache = Cache.of(state, int(state["length"]) - 1, self.fixed["source"])
        return cache


def records_of(outputs: Any) -> dict[str, tuple]:
    """Hidden states and attentions among a model's outputs."""
    return {name: value for name, value in outputs.items() if isinstance(value, tuple)}


def _repeated(array: Any, times: int) -> Any:
    return None if array is None else np.repeat(array, times, axis=0)


def _widened(array: np.ndarray, columns: int, value: int) -> np.ndarray:
    """`array` (..., columns), filled up on the right."""
    return _filled(array, columns, axis=-1, value=value)


def _filled(array: np.ndarray, size: int, axis: int, value: int = 0) -> np.ndarray:
    """`array`, filled up to a size along an axis."""
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, size - array.shape[axis])
    return np.pad(array, widths, constant_values=value)


def _tensors(structure: Any) -> Any:
    """Arrays as tensors of this backend; Python numbers and None as they are."""
    if isinstance(structure, dict):
        return {name: _tensors(value) for name, value in structure.items()}
    if isinstance(structure, (list, tuple)):
        return [_tensors(value) for value in structure]
    return ops.convert_to_tensor(structure) if isinstance(structure, (np.ndarray, np.generic)) else structure
