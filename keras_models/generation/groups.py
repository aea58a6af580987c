"""Beam search in groups that keep away from each other's tokens (https://arxiv.org/abs/1610.02424).

Programs run the model and find each group's best continuations; which of them go on and which have ended is decided
here, as in transformers 4.40.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from keras_models import runtime
from keras_models.generation.decoding import Decoding, Programs
from keras_models.generation.generate import Call, run
from keras_models.generation.search import LOW


@dataclass(frozen=True)
class Groups:
    """What the programs depend on: the beams of a text, their groups, and how many tokens end a text."""

    beams: int
    groups: int
    ends: int
    sample = False
    draws = 1

    @property
    def rows_each(self) -> int:
        """How many rows a text's continuations are searched with."""
        return self.beams

    @property
    def size(self) -> int:
        """The beams of a group."""
        return self.beams // self.groups

    def signature(self) -> Hashable:
        """What a compiled program depends on."""
        return self

    def begin(self, ids: Any, length: Any) -> dict[str, Any]:
        """The state at the end of the prompts."""
        return {"ids": ids, "length": length}


class GroupPrograms(Programs):
    """Programs for `GroupDecoding`."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.rank = runtime.compile_program(self.model, self._rank)
        self.follow = runtime.compile_program(self.model, self._follow, donated=(0,))

    def _rank(self, ids: Any, length: Any, logits: Any, chosen: dict, start: Any, fixed: dict) -> tuple[Any, Any, Any]:
        """The best continuations of the group whose beams begin at `start`.

        Args:
            ids, logits: (texts * beams, capacity) and (texts * beams, vocabulary).
            chosen: `scores` of the beams and the `tokens` that earlier groups chose at this step, (texts, beams).

        Returns:
            Their scores, (texts, continuations); their beams within the group, times the vocabulary, plus their tokens;
            and the processed log-probabilities (texts, size, vocabulary).
        """
        search, texts = self.search, chosen["scores"].shape[0]

        def group(array: Any) -> Any:
            places = start + ops.arange(search.size, dtype="int32")
            return ops.take(ops.reshape(array, (texts, search.beams, -1)), places, axis=1)

        def rows(array: Any) -> Any:
            return ops.reshape(array, (texts * search.size, array.shape[2]))

        scores = ops.log_softmax(ops.cast(rows(group(logits)), "float32"), axis=-1)
        processors = self.processors.bind(fixed["processors"])
        scores = processors.process(rows(group(ids)), length, scores, chosen["tokens"], start)
        scores = ops.reshape(scores, (texts, search.size, -1))
        totals = ops.reshape(scores + group(chosen["scores"]), (texts, -1))
        best, places = ops.top_k(totals, max(2, 1 + search.ends) * search.size)
        return best, places, scores

    def _follow(self, state: dict, rows: Any, fixed: dict) -> tuple[Any, dict, dict]:
        """`_forward` after beams have taken the places of others: row i continues what was in rows[i]."""
        before = state["length"] - 1
        caches = {name: [runtime.cache_rows(each, rows, before) for each in state[name]] for name in ("keys", "values")}
        return self._forward({**state, **caches}, fixed)


class Ended:
    """The best continuations of a text in one group that have ended, with their scores.

    Args:
        size: how many to keep.
        early: config's early_stopping.
        penalty: config's length_penalty.
    """

    def __init__(self, size: int, early: bool | str, penalty: float):
        self.size, self.early, self.penalty = size, early, penalty
        self.beams: list[tuple[float, np.ndarray, list[int]]] = []  # (score, tokens, rows that they were in)
        self.closed = False

    def add(self, total: float, tokens: np.ndarray, rows: list[int], new: int):
        """Adds one with `new` tokens behind the prompt and log-probabilities of this sum, if it is good enough."""
        score = total / new**self.penalty
        if len(self.beams) < self.size or score > self.worst:
            self.beams.append((score, tokens, rows))
            if len(self.beams) > self.size:
                del self.beams[min(range(len(self.beams)), key=lambda index: self.beams[index][0])]

    @property
    def worst(self) -> float:
        """The lowest score."""
        return min(score for score, _, _ in self.beams)

    def close(self, total: float, new: int, most: int):
        """Closes the group if it is full, and what goes on, with `total` at best, cannot become better.

        Args:
            new, most: how many tokens there are behind the prompt, and how many there can be.
        """
        if self.closed or len(self.beams) < self.size:
            return
        reach = most if self.early == "never" and self.penalty > 0 else new
        self.closed = self.early is True or self.worst >= total / reach**self.penalty


class GroupDecoding(Decoding):
    """Decoding with groups of beams; `ended` (texts, groups) holds what was found once `steps` is through."""

    def __init__(self, programs: GroupPrograms, *args: Any, early: bool | str, penalty: float, **kwargs: Any):
        super().__init__(programs, *args, **kwargs)
        search = programs.search
        self.texts = self.prompt.ids.shape[0]
        self.ended = [[Ended(search.size, early, penalty) for _ in range(search.groups)] for _ in range(self.texts)]
        self.scores = np.full((self.texts, search.beams), LOW, "float32")
        self.scores[:, :: search.size] = 0.0  # the beams of a group are the same still: the first counts
        self.rows: list[list[int]] = [[] for _ in range(self.texts * search.beams)]  # that each beam's tokens were in
        self.parents = np.arange(len(self.rows), dtype="int32")  # the last of them
        self.pad, self.eos = int(self.fixed["pad"]), [] if kwargs["eos"] is None else kwargs["eos"]

    def steps(self, hits: Callable | None = None) -> Iterator[tuple[dict, Any, Any, dict]]:
        programs = self.programs
        logits, records, state, self.fixed["source"] = programs.prefill(*self._first_inputs())
        while True:
            ids, self.parents, scores = self._choose(state, logits)
            going = not all(each.closed for groups in self.ended for each in groups)
            state = {**state, "ids": ops.convert_to_tensor(ids), "length": state["length"] + 1}
            length = int(state["length"])
            if hits is not None:
                stopped = ops.convert_to_numpy(hits(state["ids"], length)) | np.isin(ids[:, length - 1], self.eos)
                going = going and not stopped.all()
            yield state, logits, scores, records
            if not going or length == self.limit:
                self._end(ids[:, :length])
                return
            if length == self.capacity:
                state = self._grow(state)
            logits, records, state = programs.follow(state, ops.convert_to_tensor(self.parents), self.fixed)

    def _choose(self, state: dict, logits: Any) -> tuple[np.ndarray, np.ndarray, Any]:
        """(ids with one more token, the rows that they continue, processed scores) of all beams."""
        programs, search, length = self.programs, self.programs.search, int(state["length"])
        rank = programs.rank if programs.processors.compiled else programs._rank
        before = ops.convert_to_numpy(state["ids"])
        parents = np.zeros((self.texts, search.beams), "int32")
        tokens = np.zeros((self.texts, search.beams), "int32")
        scores = []
        for index in range(search.groups):
            start = index * search.size
            chosen = {"scores": ops.convert_to_tensor(self.scores), "tokens": ops.convert_to_tensor(tokens)}
            found = rank(state["ids"], state["length"], logits, chosen, runtime.number(start), self.fixed)
            scores.append(found[2])
            best, places = (ops.convert_to_numpy(each) for each in found[:2])
            for text in range(self.texts):
                here, first = (text, slice(start, start + search.size)), text * search.beams + start
                rows, following = np.divmod(places[text], found[2].shape[2])
                self.scores[here], parents[here], tokens[here] = self._continue(
                    self.ended[text][index], best[text], first + rows, following, before[:, :length]
                )
        parents, tokens = parents.reshape(-1), tokens.reshape(-1)
        self.rows = [[*self.rows[parent], int(parent)] for parent in parents]
        ids = before[parents]
        ids[:, length] = tokens
        return ids, parents, ops.reshape(ops.concatenate(scores, axis=1), logits.shape)

    def _continue(
        self, ended: Ended, scores: np.ndarray, rows: np.ndarray, tokens: np.ndarray, ids: np.ndarray
    ) -> tuple[Any, Any, Any]:
        """(scores, parents, tokens) of a group's beams, given its best continuations, the best of them first."""
        size, new = self.programs.search.size, ids.shape[1] + 1 - self.length
        if ended.closed:
            return 0.0, rows[0], self.pad
        final = np.isin(tokens, self.eos)
        for index in np.flatnonzero(final[:size]):
            row = int(rows[index])
            ended.add(float(scores[index]), ids[row], [*self.rows[row], row], new)
        ended.close(float(scores[0]), new, self.limit - self.length)
        on = np.flatnonzero(~final)[:size]
        return scores[on], rows[on], tokens[on]

    def _end(self, ids: np.ndarray):
        """Adds the beams that have not ended."""
        size = self.programs.search.size
        for text, groups in enumerate(self.ended):
            for index, ended in enumerate(groups):
                for beam in range(index * size, (index + 1) * size) if not ended.closed else ():
                    row = text * self.programs.search.beams + beam
                    ended.add(float(self.scores[text, beam]), ids[row], self.rows[row], ids.shape[1] - self.length)

    def best(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(sequences, scores, rows that their tokens were in) of the `count` best continuations of each text."""
        found = []
        for groups in self.ended:
            beams = sorted((beam for ended in groups for beam in ended.beams), key=lambda beam: beam[0])
            found += beams[::-1][:count]
        longest = max(len(tokens) for _, tokens, _ in found) + len(self.eos[:1])
        sequences = np.full((len(found), min(longest, self.limit)), self.pad, "int32")
        places = np.full((len(found), sequences.shape[1] - self.length), -1, "int32")
        for row, (_, tokens, rows) in enumerate(found):
            sequences[row, : len(tokens)] = tokens
            places[row, : len(rows)] = rows
            if len(tokens) < sequences.shape[1]:
                sequences[row, len(tokens)] = self.eos[0]
        return sequences, np.array([score for score, _, _ in found], "float32"), places


def decode(call: Call) -> dict[str, Any]:
    """The result of a call whose settings ask for groups of beams."""
    settings = call.settings
    search = Groups(settings.num_beams, settings.num_beam_groups, len(call.eos or ()))
    decoding = GroupDecoding(
        GroupPrograms.of(call.model, search, call.processors, call.records), call.prompt, limit=call.limit,
        rows_each=search.beams, eos=call.eos, pad=call.pad, fill=call.fill, seed=call.seed, settings={},
        early=settings.early_stopping, penalty=settings.length_penalty,
    )  # fmt: skip
    state, collected = run(call, decoding, search.beams, by_hand=True)
    sequences, scores, rows = decoding.best(settings.num_return_sequences)
    if not settings.return_dict_in_generate:
        return {"sequences": sequences}
    result = {"sequences": sequences, "sequences_scores": scores if settings.output_scores else None}
    cache = decoding.cache(state).reorder(ops.convert_to_tensor(decoding.parents))
    return result | {"beam_indices": rows} | collected.outputs() | {"past_key_values": cache}
