"""Contrastive search: of the likeliest tokens, one that is unlike all before (https://arxiv.org/abs/2202.06417).

All candidates of a text go through the model at once, as rows of one batch, so that the chosen one's hidden state,
logits and entry of the cache are there already. The rows share all that came before: only what the candidates add to
the cache differs, and the chosen one's is copied to the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from keras import ops

from keras_models import runtime
from keras_models.cache import Cache
from keras_models.generation.decoding import Decoding, Programs, records_of
from keras_models.generation.generate import Call, run
from keras_models.generation.search import Sampling

FORBIDDEN = float("-inf")


@dataclass(frozen=True)
class Contrastive(Sampling):
    """One token a row, chosen among `count` candidates.

    Besides what `Sampling` keeps, a state has `context` (rows, size, capacity), the hidden states so far, of length 1,
    and in compiled loops `logits` (rows, vocabulary) of the next token. `fixed` has the weight `penalty_alpha`.
    """

    count: int = 4

    def choose(self, best: Any, total: Any, states: Any, context: Any, seen: Any, alpha: Any) -> Any:
        """The places (rows,) of the best candidates.

        Args:
            best: (rows, count) scores of the candidates; those of forbidden ones are minus infinity.
            total: (rows, 1) the logarithm of the sum of exp(score) of all tokens.
            states: (rows, count, size) hidden states of the candidates, of length 1.
            context: (rows, size, capacity) those before.
            seen: (rows or 1, capacity) whether a state before counts.
            alpha: the weight of the likeness to what came before; 1 - alpha is that of the probability.
        """
        likeness = ops.where(seen[:, None], ops.matmul(states, context), -1.0)
        value = (1.0 - alpha) * ops.exp(best - total) - alpha * ops.max(likeness, axis=-1)
        return ops.cast(ops.argmax(ops.where(best > FORBIDDEN, value, FORBIDDEN), axis=1), "int32")


class ContrastivePrograms(Programs):
    """Programs whose state has a row for each text, but `search.count` rows of keys and values."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.choose = runtime.compile_program(self.model, self._choose, donated=(0,))

    def _states(self, records: dict) -> Any:
        """The last layer's hidden states, of length 1."""
        states = ops.cast(records["decoder_hidden_states" if self.encodes else "hidden_states"][-1], "float32")
        return states / ops.norm(states, axis=-1, keepdims=True)

    def _prefill(self, inputs: dict, prompt: dict, ids: Any, fixed: dict) -> tuple[Any, dict, dict, Any]:
        logits, records, state, source = super()._prefill(inputs, prompt, ids, fixed)
        states = ops.transpose(self._states(records), (0, 2, 1))
        state["context"] = ops.pad(states, [(0, 0), (0, 0), (0, ids.shape[1] - states.shape[2])])
        cache = Cache.of(state, state["length"], source).repeat(self.search.count)
        return logits, records, state | cache.state(), cache.source

    def _choose(self, state: dict, scores: Any, fixed: dict) -> tuple[dict, Any, dict]:
        """(state with one more token, logits of the next one, records of the new one)."""
        (texts, capacity), count, length = state["ids"].shape, self.search.count, state["length"]
        best, tokens = ops.top_k(scores, count)
        tokens = ops.cast(tokens, "int32")
        cache = Cache.of(state, length, fixed["source"])
        places = None if fixed["pads"] is None else length - fixed["pads"][:, None]
        outputs = self.call(ops.reshape(tokens, (-1, 1)), cache, fixed, fixed["mask"], places)
        records = records_of(outputs)
        states = self._states(records)

        seen = (ops.arange(capacity) < length)[None]
        if fixed["mask"] is not None:
            seen = ops.logical_and(seen, fixed["mask"][::count] > 0)
        chosen = self.search.choose(
            best, ops.logsumexp(scores, axis=-1, keepdims=True), ops.reshape(states, (texts, count, -1)),
            state["context"], seen, fixed["penalty_alpha"],
        )  # fmt: skip
        rows = chosen + count * ops.arange(texts, dtype="int32")
        state = self.search.append(state, ops.take(ops.reshape(tokens, (-1,)), rows), fixed)
        state["context"] = runtime.write_column(state["context"], length, ops.take(states, rows, axis=0)[:, 0])
        added, shared = cache.state(), ops.repeat(rows, count)
        for name, layers in added.items():
            state[name] = [_share(each, shared, length) for each in layers]
        records = {name: tuple(ops.take(each, rows, axis=0) for each in records[name]) for name in records}
        return state, ops.take(outputs.logits[:, -1], rows, axis=0), records

    def _start(self, inputs: dict, prompt: dict, ids: Any, fixed: dict) -> tuple[dict, Any, Any]:
        logits, _, state, source = self._prefill(inputs, prompt, ids, fixed)
        state = self._step({**state, "logits": logits}, {**fixed, "source": source})
        return state, source, self.search.going(state, fixed)

    def _step(self, state: dict, fixed: dict) -> dict:
        scores = self.scores(state, state["logits"], fixed)
        rest = {name: value for name, value in state.items() if name != "logits"}
        state, logits, _ = self._choose(rest, scores, fixed)
        return {**state, "logits": logits}


def _share(cache: Any, rows: Any, place: Any) -> Any:
    """The cache with what other rows have at a place: row i there becomes as rows[i] was."""
    added = ops.take(ops.take(cache, place, axis=2), rows, axis=0)
    return runtime.cache_write(cache, added[:, :, None], place)


class ContrastiveDecoding(Decoding):
    """Decoding with such programs."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.ids = self.ids[:: self.rows_each]

    def _grow(self, state: dict) -> dict:
        state = super()._grow(state)
        context = state["context"]
        state["context"] = ops.pad(context, [(0, 0), (0, 0), (0, self.capacity - context.shape[2])])
        return state

    def steps(self, hits: Callable | None = None) -> Iterator[tuple[dict, Any, Any, dict]]:
        programs = self.programs
        logits, records, state, self.fixed["source"] = programs.prefill(*self._first_inputs())
        while True:
            if int(state["length"]) == self.capacity:
                state = self._grow(state)
            scores = programs.scores(state, logits, self.fixed)
            state, following, new = programs.choose(state, scores, self.fixed)
            if hits is not None:
                state["finished"] = ops.logical_or(state["finished"], hits(state["ids"], state["length"]))
            yield state, logits, scores, records
            if not bool(programs.search.going(state, self.fixed)):
                return
            logits, records = following, new


def decode(call: Call) -> dict[str, Any]:
    """The result of a call whose settings ask for contrastive search."""
    settings = call.settings
    if call.prompt.cache is not None:
        raise ValueError(
            "Contrastive search needs the hidden states of all tokens, which past_key_values do not hold: "
            "drop them and give the whole text."
        )
    records = tuple(dict.fromkeys((*call.records, "output_hidden_states")))
    decoding = ContrastiveDecoding(
        ContrastivePrograms.of(call.model, Contrastive(count=settings.top_k), call.processors, records), call.prompt,
        limit=call.limit, rows_each=settings.top_k, eos=call.eos, pad=call.pad, fill=call.fill, seed=call.seed,
        settings={"penalty_alpha": settings.penalty_alpha},
    )  # fmt: skip
    state, collected = run(call, decoding, 1)
    result = {"sequences": ops.convert_to_numpy(state["ids"])[:, : int(state["length"])]}
    if not settings.return_dict_in_generate:
        return result
    texts = ops.arange(len(result["sequences"]), dtype="int32") * settings.top_k
    cache = decoding.cache(state).reorder(texts, sources=True)
    return result | collected.outputs() | {"past_key_values": cache}
