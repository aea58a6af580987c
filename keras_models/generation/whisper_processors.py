"""What Whisper's `generate` changes of the scores of the next token, and how it measures what is chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras import ops

from keras_models import runtime
from keras_models.generation.processors import LogitsProcessor
from keras_models.generation.search import Sampling

NEVER = float("-inf")


class WhisperTimeStampLogitsProcessor(LogitsProcessor):
    """The rules of timestamps (arXiv:2212.04356, section 3.8).

    They come in pairs, except for the first and for the last before an end; they never decrease; the first token is
    one; and one comes wherever all of them together are likelier than any other token.

    Args:
        generate_config: settings of generation, of which it reads `no_timestamps_token_id`, behind which the timestamps
            begin, `eos_token_id` (or `bos_token_id`), below which ordinary words are, and
            `max_initial_timestamp_index`, the latest that may be first.
        begin_index: the number of tokens before the first new one.
    """

    inputs = ("begin_index",)

    def __init__(self, generate_config: Any, begin_index: int):
        eos = generate_config.eos_token_id or generate_config.bos_token_id
        self.eos_token_id = int(eos[0] if isinstance(eos, (list, tuple)) else eos)
        self.no_timestamps_token_id = int(generate_config.no_timestamps_token_id)
        self.timestamp_begin = self.no_timestamps_token_id + 1
        self.max_initial_timestamp_index = getattr(generate_config, "max_initial_timestamp_index", None)
        self.begin_index = int(begin_index)

    def process(self, ids, length, scores):
        begin, first = self.timestamp_begin, self.begin_index
        text, stamps = scores[:, :begin], scores[:, begin:]
        text_places = ops.arange(begin, dtype="int32")[None]
        stamp_places = ops.arange(begin, scores.shape[-1], dtype="int32")[None]
        places = ops.arange(ids.shape[1], dtype="int32")[None]
        new = length - first

        def is_stamp(back):
            """Whether the token that many places before the next one is a timestamp, (rows, 1)."""
            tokens = ops.take(ids, ops.maximum(length - back, 0), axis=1)
            return ops.expand_dims(ops.logical_and(tokens >= begin, new >= back), 1)

        one = is_stamp(1)
        two = ops.logical_or(is_stamp(2), new < 2)
        pending = ops.logical_and(one, ops.logical_not(two))  # the second of a pair, or an end, must follow
        # No timestamp before the last; itself again only as the second of a pair.
        counted = ops.logical_and(places >= first, places < length)
        counted = ops.logical_and(counted, ids >= begin)
        latest = ops.max(ops.where(counted, places, -1), axis=1, keepdims=True)
        lowest = ops.take_along_axis(ids, ops.maximum(latest, 0), axis=1) + ops.cast(ops.logical_not(pending), "int32")
        too_early = ops.logical_and(latest >= 0, stamp_places < lowest)
        forbidden = ops.logical_or(too_early, ops.logical_and(one, two))
        if self.max_initial_timestamp_index is not None:
            late = stamp_places > begin + self.max_initial_timestamp_index
            forbidden = ops.logical_or(forbidden, ops.logical_and(late, ops.equal(new, 0)))
        stamps = ops.where(forbidden, NEVER, stamps)

        silent = ops.logical_or(text_places == self.no_timestamps_token_id, ops.equal(new, 0))
        silent = ops.logical_or(silent, ops.logical_and(pending, text_places < self.eos_token_id))
        text = ops.where(silent, NEVER, text)
        likelier = ops.logsumexp(stamps, axis=-1, keepdims=True) > ops.max(text, axis=-1, keepdims=True)
        return ops.concatenate([ops.where(likelier, NEVER, text), stamps], axis=1)


@dataclass(frozen=True)
class Measured(Sampling):
    """Greedy search or sampling that adds up how likely the chosen tokens of each row are, its end included.

    The state's `log_probabilities` (rows,) are of scores times `fixed["temperature"]`.
    """

    measures = ("log_probabilities",)

    def begin(self, ids: Any, length: Any) -> dict[str, Any]:
        """See `Sampling.begin`."""
        return super().begin(ids, length) | {"log_probabilities": ops.zeros((ids.shape[0],), "float32")}

    def select(self, state: dict, scores: Any, fixed: dict, hits: Callable | None = None) -> dict:
        """See `Sampling.select`."""
        chosen = super().select(state, scores, fixed, hits)
        tokens = runtime.read_column(chosen["ids"], state["length"])[:, None]
        exact = ops.log_softmax(scores * fixed["temperature"], axis=-1)
        gained = ops.squeeze(ops.take_along_axis(exact, tokens, axis=1), 1)
        total = state["log_probabilities"] + ops.where(state["finished"], 0.0, gained)
        return {**chosen, "log_probabilities": total}
