"""Searches: what to do with the logits of the next token. Pure functions of tensors, which compiled loops may hold.

A search keeps a state, a dictionary of tensors: `ids` (rows, capacity), of which the first `length` columns are tokens,
and what it needs besides. What does not change during a call is in a second dictionary, `fixed`: the numbers `prompt`,
`limit` (the length at which to stop) and `pad`, the tokens `eos` (n,) or None, and `uniforms`, random numbers for each
step, (steps, rows or inputs, draws).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from keras import ops

from keras_models import runtime

LOW = -1.0e9  # what the score of a beam that must not be chosen is lowered by


@dataclass(frozen=True)
class Sampling:
    """Greedy search, or with `sample` multinomial sampling: one token for each row."""

    sample: bool = False
    rows_each = 1  # how many rows an input's continuations are searched with
    draws = 1  # how many uniform numbers each row and step takes
    measures = ()  # what else of the last state is a result

    def signature(self) -> Hashable:
        """What a compiled program depends on."""
        return self

    def begin(self, ids: Any, length: Any) -> dict[str, Any]:
        """The state at the end of the prompts."""
        return {"ids": ids, "length": length, "finished": ops.zeros((ids.shape[0],), "bool")}

    def select(self, state: dict, scores: Any, fixed: dict, hits: Callable | None = None) -> dict:
        """The state after the token that follows from scores (rows, vocabulary)."""
        if self.sample:
            tokens = draw(ops.softmax(scores, axis=-1), uniforms(state, fixed)[:, 0])
        else:
            tokens = ops.argmax(scores, axis=-1)
        return self.append(state, tokens, fixed, hits)

    def append(self, state: dict, tokens: Any, fixed: dict, hits: Callable | None = None) -> dict:
        """The state with one more token (rows,) each, padding where a row has ended."""
        length, tokens = state["length"], ops.cast(tokens, "int32")
        if fixed["eos"] is not None:  # without one, rows that criteria stopped go on, as in the reference
            tokens = ops.where(state["finished"], fixed["pad"], tokens)
        state = {**state, "ids": runtime.write_column(state["ids"], length, tokens), "length": length + 1}
        if fixed["eos"] is not None:
            state["finished"] = ops.logical_or(state["finished"], is_any_of(tokens, fixed["eos"]))
        if hits is not None:
            state["finished"] = ops.logical_or(state["finished"], hits(state["ids"], length + 1))
        return state

    def going(self, state: dict, fixed: dict) -> Any:
        """Whether there is a row to go on with."""
        unfinished = ops.logical_not(ops.all(state["finished"]))
        return ops.logical_and(state["length"] < fixed["limit"], unfinished)

    def parents(self, state: dict) -> Any | None:
        """The rows that the state's rows continue, where these are others than before."""
        return None


@dataclass(frozen=True)
class Beams:
    """Beam search, or with `sample` beam sampling: the best of several continuations of each input.

    Follows the reference from version 4.50 on: all inputs' beams move at once, finished ones are kept apart.
    """

    count: int
    sample: bool = False
    early: bool | str = False  # config's early_stopping
    ends: int = 0  # how many end-of-sequence tokens there are

    @property
    def rows_each(self) -> int:
        """How many rows an input's continuations are searched with."""
        return self.count

    @property
    def draws(self) -> int:
        """How many candidates an input has at each step: enough to go on, should all the best be at their end."""
        return max(2, 1 + self.ends) * self.count

    def signature(self) -> Hashable:
        """What a compiled program depends on."""
        return self

    def begin(self, ids: Any, length: Any) -> dict[str, Any]:
        """The state at the end of the prompts; of an input's beams, which are the same still, only the first counts."""
        rows, capacity = ids.shape
        batch = rows // self.count
        first = ops.cast(ops.arange(self.count) > 0, "float32")[None] * LOW
        parents = ops.full((rows, capacity), -1, "int32")
        done = {
            "ids": ops.reshape(ids, (batch, self.count, capacity)) + 0,  # in place elsewhere
            "scores": ops.full((batch, self.count), LOW, "float32"),
            "parents": ops.full((batch, self.count, capacity), -1, "int32"),
            "finished": ops.zeros((batch, self.count), "bool"),
        }
        return {
            "ids": ids, "length": length, "scores": ops.repeat(first, batch, axis=0), "parents": parents,
            "done": done, "hopeful": ops.ones((batch, 1), "bool"), "all_ended": ops.zeros((), "bool"),
        }  # fmt: skip

    def select(self, state: dict, scores: Any, fixed: dict, hits: Callable | None = None) -> dict:
        """The state after the tokens that follow from log-probabilities (rows, vocabulary)."""
        length, (rows, capacity) = state["length"], state["ids"].shape
        vocabulary, batch = scores.shape[-1], rows // self.count
        total = ops.reshape(scores, (batch, self.count, vocabulary)) + state["scores"][:, :, None]
        total = ops.reshape(total, (batch, self.count * vocabulary))
        if self.sample:
            places = draw_several(ops.softmax(total, axis=-1), uniforms(state, fixed))
            best = ops.take_along_axis(total, places, axis=1)
        else:
            best, places = ops.top_k(total, self.draws)
            places = ops.cast(places, "int32")
        beams, tokens = places // vocabulary, places % vocabulary  # (batch, draws)

        # The candidates as they would be, and which of them end here.
        chosen = beams + ops.arange(batch, dtype="int32")[:, None] * self.count
        ids = runtime.write_column(ops.take(state["ids"], chosen, axis=0), length, tokens)  # (batch, draws, capacity)
        parents = runtime.write_column(ops.take(state["parents"], chosen, axis=0), length, chosen)
        ended = ops.broadcast_to(ops.convert_to_tensor(length + 1 >= fixed["limit"], "bool"), beams.shape)
        if fixed["eos"] is not None:
            ended = ops.logical_or(ended, is_any_of(tokens, fixed["eos"]))
        if hits is not None:
            found = hits(ops.reshape(ids, (-1, capacity)), length + 1)
            ended = ops.logical_or(ended, ops.reshape(found, beams.shape))

        # The best of those that do not end go on.
        running = best + ops.cast(ended, "float32") * LOW
        running, kept = ops.top_k(running, self.count)
        going = {
            "ids": ops.reshape(gather(ids, kept), (rows, capacity)),
            "parents": ops.reshape(gather(parents, kept), (rows, capacity)),
            "scores": running,
        }
        # The best of those that have ended, now or before, are kept.
        done, penalty = state["done"], fixed["length_penalty"]
        ended_now = ops.logical_and(ended, ops.arange(self.draws)[None] < self.count)
        final = best / power(length + 1 - fixed["prompt"], penalty)
        lowered = ops.logical_not(ended_now)
        closed = ops.logical_not(state["hopeful"])
        if self.early is True:
            full = ops.all(done["finished"], axis=1, keepdims=True)
            final = final + ops.cast(full, "float32") * LOW
        final = final + ops.cast(closed, "float32") * LOW + ops.cast(lowered, "float32") * LOW
        merged = ops.concatenate([done["scores"], final], axis=1)
        merged, kept = ops.top_k(merged, self.count)
        done = {
            "ids": gather(ops.concatenate([done["ids"], ids], axis=1), kept),
            "parents": gather(ops.concatenate([done["parents"], parents], axis=1), kept),
            "finished": gather(ops.concatenate([done["finished"], ended_now], axis=1), kept),
            "scores": merged,
        }
        # Could those that go on still be better?
        reach = fixed["limit"] if self.early == "never" else length + 1
        reach = ops.where(penalty > 0.0, reach, length + 1) - fixed["prompt"]
        possible = running[:, :1] / power(reach, penalty)
        worst = ops.where(done["finished"], ops.min(done["scores"], axis=1, keepdims=True), LOW)
        better = ops.any(possible > worst, axis=1, keepdims=True)
        return {
            **state, **going, "length": length + 1, "done": done,
            "hopeful": ops.logical_and(state["hopeful"], better), "all_ended": ops.all(ended),
        }  # fmt: skip

    def going(self, state: dict, fixed: dict) -> Any:
        """Whether there is an input whose beams could still get better."""
        going = ops.logical_and(ops.any(state["hopeful"]), ops.logical_not(state["all_ended"]))
        if self.early is True:
            going = ops.logical_and(going, ops.logical_not(ops.all(state["done"]["finished"])))
        return going

    def parents(self, state: dict) -> Any:
        """The rows that the state's rows continue."""
        return runtime.read_column(state["parents"], state["length"] - 1)


def uniforms(state: dict, fixed: dict) -> Any:
    """The uniform numbers of this step, (rows or inputs, draws)."""
    return ops.take(fixed["uniforms"], state["length"] - fixed["prompt"], axis=0)


def draw(probabilities: Any, numbers: Any) -> Any:
    """A place in each row of probabilities (rows, entries), as numbers (rows,), uniform in [0, 1), decide."""
    rows, entries = probabilities.shape
    size = max(1, int(entries**0.5))
    blocks = -(-entries // size)
    parts = ops.reshape(ops.pad(probabilities, [(0, 0), (0, blocks * size - entries)]), (rows, blocks, size))
    sums = ops.sum(parts, axis=2)
    target = numbers * ops.sum(sums, axis=1)
    block, before = _crossing(sums, target)
    part = ops.squeeze(ops.take_along_axis(parts, block[:, None, None], axis=1), 1)
    inner, _ = _crossing(part, target - before)
    return block * size + inner


def _crossing(weights: Any, target: Any) -> tuple[Any, Any]:
    """Where in each row the running sum of weights first exceeds the target, and that sum before this place."""
    count = weights.shape[1]
    earlier = ops.cast(ops.arange(count)[:, None] < ops.arange(count)[None], weights.dtype)
    before = ops.matmul(weights, earlier)  # the sums of all entries before each
    # Rounding must not lead to an entry that has no weight.
    possible = ops.logical_and(before <= target[:, None], weights > 0)
    place = ops.max(ops.where(possible, ops.arange(count, dtype="int32")[None], -1), axis=1)
    place = ops.where(place < 0, ops.cast(ops.argmax(weights, axis=1), "int32"), place)
    return place, ops.squeeze(ops.take_along_axis(before, place[:, None], axis=1), 1)


def draw_several(probabilities: Any, numbers: Any) -> Any:
    """Different places in each row of probabilities (rows, entries), in order; numbers are (rows, draws)."""
    places = []
    for index in range(numbers.shape[1]):
        places.append(draw(probabilities, numbers[:, index]))
        hit = ops.arange(probabilities.shape[1], dtype="int32")[None] == places[-1][:, None]
        probabilities = ops.where(hit, 0.0, probabilities)
    return ops.stack(places, axis=1)


def is_any_of(tokens: Any, known: Any) -> Any:
    """Whether each token is one of the known ones."""
    return ops.any(tokens[..., None] == known, axis=-1)


def gather(values: Any, places: Any) -> Any:
    """values (batch, entries, ...) at places (batch, chosen)."""
    return ops.take_along_axis(values, ops.reshape(places, (*places.shape, *[1] * (len(values.shape) - 2))), axis=1)


def power(base: Any, exponent: Any) -> Any:
    """`base` ** `exponent` as a float."""
    return ops.power(ops.cast(base, "float32"), exponent)
