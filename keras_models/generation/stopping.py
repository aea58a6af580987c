"""When generation stops: criteria that are asked after every new token."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

if TYPE_CHECKING:
    from keras_models.generation.config import GenerationConfig

Criterion = Callable[..., Any]  # (input_ids, scores, **kwargs) -> a bool, or one for each row


class StoppingCriteria:
    """Base of criteria. Any callable of the same form is one too."""

    def __call__(self, input_ids: np.ndarray, scores: Any, **kwargs: Any) -> bool | np.ndarray:
        """Whether to stop.

        Args:
            input_ids: (rows, length), with the prompt and the newest tokens.
            scores: what generation keeps of the scores so far, None if it keeps none.
            **kwargs: whatever else the caller of the list passes on.

        Returns:
            A bool for all rows, or an array (rows,) of them.
        """
        raise NotImplementedError(f"{type(self).__name__} has no __call__(input_ids, scores, **kwargs).")


class MaxLengthCriteria(StoppingCriteria):
    """Stops all rows at `max_length` tokens, prompt included; warns once beyond the model's last position."""

    def __init__(self, max_length: int, max_position_embeddings: int | None = None):
        self.max_length = max_length
        self.max_position_embeddings = max_position_embeddings

    def __call__(self, input_ids: np.ndarray, scores: Any, **kwargs: Any) -> bool:
        length = input_ids.shape[1]
        if length >= self.max_length:
            return True
        if self.max_position_embeddings is not None and length > self.max_position_embeddings:
            warnings.warn(
                f"The sequence is longer than the model was made for: it has {self.max_position_embeddings} positions."
            )
            self.max_position_embeddings = None  # said once
        return False


class MaxTimeCriteria(StoppingCriteria):
    """Stops all rows `max_time` seconds after `initial_timestamp`, a time.time(); by default that of the making."""

    def __init__(self, max_time: float, initial_timestamp: float | None = None):
        self.max_time = max_time
        self.initial_timestamp = time.time() if initial_timestamp is None else initial_timestamp

    def __call__(self, input_ids: np.ndarray, scores: Any, **kwargs: Any) -> bool:
        return time.time() - self.initial_timestamp > self.max_time


class EosTokenCriteria(StoppingCriteria):
    """Stops the rows that end in an end-of-sequence token, of which there may be several."""

    def __init__(self, eos_token_id: int | Sequence[int] | np.ndarray):
        self.eos_token_id = np.atleast_1d(np.asarray(eos_token_id))

    def __call__(self, input_ids: np.ndarray, scores: Any, **kwargs: Any) -> np.ndarray:
        return np.isin(input_ids[:, -1], self.eos_token_id)


class StopStringCriteria(StoppingCriteria):
    """Stops the rows whose text has a stop string that ends inside their last token.

    So "stop" is found in "st" + "op", "st" + "opera" and "las" + "topper", but not in "st" + "op" + "at": what ended in
    an earlier token was found when that was the last one, or stands in the prompt. Text is compared as UTF-8, thus a
    character may be spread over tokens.

    Args:
        tokenizer: what the ids are from.
        stop_strings: one string, or several.

    Raises:
        ValueError: there is no stop string, or one is empty.
    """

    def __init__(self, tokenizer: Any, stop_strings: str | Iterable[str]):
        self.stop_strings = (stop_strings,) if isinstance(stop_strings, str) else tuple(stop_strings)
        if not self.stop_strings or not all(isinstance(each, str) and each for each in self.stop_strings):
            raise ValueError(
                f"stop_strings must be a text or a list of texts, none of them empty, not {stop_strings!r}."
            )
        self._stops = [text.encode() for text in self.stop_strings]
        self._tokenizer = tokenizer
        # Decoders drop the space before a first token and treat it specially otherwise: none is decoded as the first.
        self._start = tokenizer.convert_ids_to_tokens(tokenizer("abcdef", add_special_tokens=False)["input_ids"])
        self._start_length = len(tokenizer.convert_tokens_to_string(self._start))
        self._pieces: dict[int, bytes] = {}

    def __call__(self, input_ids: np.ndarray, scores: Any, **kwargs: Any) -> np.ndarray:
        reach = max(map(len, self._stops))  # tokens; those without text aside, one adds at least a byte
        return np.array([self._is_stopped(row) for row in np.asarray(input_ids)[:, -reach:].tolist()], bool)

    def _is_stopped(self, ids: list[int]) -> bool:
        pieces = [self._piece(index) for index in ids]
        text, last = b"".join(pieces), len(pieces[-1])
        return any(stop in text[max(0, len(text) - last - len(stop) + 1) :] for stop in self._stops)

    def _piece(self, index: int) -> bytes:
        """What a token adds to a text."""
        if index not in self._pieces:
            self._pieces[index] = self._decode(self._tokenizer.convert_ids_to_tokens([index])[0])
        return self._pieces[index]

    def _decode(self, token: str | None) -> bytes:
        if token is None:
            return b"\xff"  # which no text has
        text = self._tokenizer.convert_tokens_to_string([*self._start, token])[self._start_length :]
        if "\ufffd" in text:  # a part of a character
            if re.fullmatch("<0x[0-9A-F]{2}>", token):
                return bytes([int(token[3:5], 16)])
            if all(each in _BYTES for each in token):
                return bytes(_BYTES[each] for each in token)
        return text.encode()


class StoppingCriteriaList(list):
    """Criteria, one of which is enough to stop a row."""

    def __call__(self, input_ids: np.ndarray, scores: Any, **kwargs: Any) -> np.ndarray:
        """Which rows to stop, as bools (rows,).

        Raises:
            ValueError: a criterion returns neither a bool nor one for each row.
        """
        stopped = np.zeros(len(input_ids), bool)
        for criterion in self:
            answer = criterion(input_ids, scores, **kwargs)
            answer = np.asarray(ops.convert_to_numpy(answer) if hasattr(answer, "shape") else answer)
            if answer.size not in (1, len(stopped)):
                name = getattr(criterion, "__name__", type(criterion).__name__)
                raise ValueError(
                    f"The stopping criterion {name} returned an array {answer.shape} for {len(stopped)} rows: "
                    "return a bool, or one for each row."
                )
            stopped |= answer.reshape(-1).astype(bool)
        return stopped

    @property
    def max_length(self) -> int | None:
        """The limit of the first MaxLengthCriteria; None if there is none."""
        return next((each.max_length for each in self if isinstance(each, MaxLengthCriteria)), None)

    @classmethod
    def for_call(
        cls,
        settings: GenerationConfig,
        *,
        max_length: int,
        eos: Sequence[int] | None = None,
        tokenizer: Any = None,
        max_positions: int | None = None,
        custom: Iterable[Criterion] = (),
    ) -> StoppingCriteriaList:
        """The criteria that the settings of a call ask for, and a user's own, which replace those of their class.

        Args:
            settings: those of the call, which `check_call` approved.
            max_length: the maximum that `settings.resolve_length` found.
            eos: the end-of-sequence tokens that `settings.special_tokens` found.
            tokenizer: the user's, for stop strings.
            max_positions: the number of positions that the model has.
            custom: the user's own criteria.
        """
        criteria: list[Criterion] = [MaxLengthCriteria(max_length, max_positions)]
        if settings.max_time is not None:
            criteria.append(MaxTimeCriteria(settings.max_time))
        if settings.stop_strings is not None:
            criteria.append(StopStringCriteria(tokenizer, settings.stop_strings))
        if eos is not None:
            criteria.append(EosTokenCriteria(eos))
        custom = list(custom)
        own = {type(each): each for each in reversed(custom)}
        criteria = [own.get(type(each), each) for each in criteria]
        return cls(criteria + [each for each in custom if not any(each is known for known in criteria)])


def _byte_alphabet() -> dict[str, int]:
    """The bytes that the characters of byte-level BPE stand for: printable ones for themselves."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_alphabet()
