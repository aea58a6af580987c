"""From the tokens that Whisper writes about stretches of a recording to one transcript with times."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_models.preprocessing.batch_encoding import to_list
from keras_models.preprocessing.whisper_text import LANGUAGES

if TYPE_CHECKING:
    from keras_models.preprocessing.whisper_tokenizer import WhisperTokenizer

SEGMENT = 1500  # steps of time in a window of the model
_NO_SPACES = {"chinese", "japanese", "thai", "lao", "myanmar", "cantonese"}  # languages that do not separate words
_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_OPENING = "\"'“¡¿([{-"  # stays with the word after it
_CLOSING = "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001 - stays with the word before it


class Token(NamedTuple):
    """A token of text, and the seconds in which it was spoken (0 where they are not wanted)."""

    index: int
    start: float = 0.0
    end: float = 0.0


class Clock:
    """Reads the timestamp tokens of one output, which start anew with each window of a long recording.

    Args:
        ids: all ids of the output.
        first: the id of <|0.00|>.
        precision: seconds between two timestamp tokens.
    """

    def __init__(self, ids: list[int], first: int, precision: float):
        self.ids, self.first, self.precision = ids, first, precision
        self.passed = 0.0  # seconds in earlier windows
        self._latest = self._earlier = 0.0

    def read(self, position: int) -> tuple[float, bool]:
        """The seconds that the timestamp at a position names, and whether it repeats the end of the last window."""
        seconds = float((self.ids[position] - self.first) * self.precision)
        repeated = False
        if seconds < self._latest:  # the next window has started
            pair = self.ids[max(position - 2, 0) : position]
            if len(pair) == 2 and min(pair) < self.first:  # the last one ended where its sound did
                self.passed += self.precision * SEGMENT
            else:
                self._latest = self._earlier
                self.passed += self._earlier
                repeated = True
        self._earlier, self._latest = self._latest, seconds
        return seconds, repeated


class Transcript:
    """Puts together the outputs for overlapping stretches of one recording.

    Args:
        tokenizer: the tokenizer of the model.
        return_timestamps: whether the chunks of text have times, or "word" for a chunk per word.
        return_language: whether each chunk has its language.
        time_precision: seconds between two timestamp tokens.
    """

    def __init__(
        self, tokenizer: WhisperTokenizer, return_timestamps: bool | str, return_language: bool, time_precision: float
    ):
        self.tokenizer, self.precision = tokenizer, time_precision
        self.timed, self.by_word, self.with_language = return_timestamps, return_timestamps == "word", return_language
        self.first = tokenizer.timestamp_begin
        self.special = set(tokenizer.all_special_ids)
        self.language: str | None = None
        self.offset = 0.0  # seconds before the present output
        self.chunks: list[dict[str, Any]] = []
        self.pending: list[list[Token]] = []  # overlapping versions of the text since the last chunk
        self.skip = False  # the next timestamp is the partner of one that was put off
        self.begin()

    def begin(self):
        """Starts a new chunk."""
        self.chunk: dict[str, Any] = {"language": self.language, "timestamp": [None, None], "text": ""}
        self.pending = []

    def finish(self) -> tuple[str, dict[str, Any]]:
        """The whole text, and the chunks if something about them was asked for."""
        if self.pending:
            if self.timed:
                warnings.warn(
                    "Whisper ended without a timestamp, as it does where sound is cut off within a word, or where "
                    "generation was not asked for timestamps.",
                    stacklevel=3,
                )
            self.close()
        text = "".join(chunk["text"] for chunk in self.chunks)
        if not (self.timed or self.with_language):
            return text, {}
        if self.by_word:
            return text, {"chunks": [word for chunk in self.chunks for word in chunk["words"]]}
        for chunk in self.chunks:
            chunk["timestamp"] = tuple(chunk["timestamp"])
            if not self.timed:
                del chunk["timestamp"]
            if not self.with_language:
                del chunk["language"]
        return text, {"chunks": self.chunks}

    def close(self):
        """Ends the chunk with what is pending."""
        tokens = merge(self.pending)
        ids = [token.index for token in tokens]
        self.chunk["text"] = self.tokenizer.decode(ids)
        if self.by_word:
            words, _, positions = combine_tokens_into_words(self.tokenizer, ids, self.language)
            self.chunk["words"] = [
                {"text": word, "timestamp": (tokens[where[0]].start, tokens[where[-1]].end)}
                | ({"language": self.language} if self.with_language else {})
                for word, where in zip(words, positions, strict=True)
            ]
        self.chunks.append(self.chunk)
        self.begin()

    def read(self, output: Mapping[str, Any]):
        """Takes in the output for the next stretch."""
        ids = self.tokenizer.strip_prompt(to_list(to_list(output["tokens"])[0]))
        times = self.times(output) if self.by_word else None
        clock = Clock(ids, self.first, self.precision)
        opening, closing = self.first, None  # timestamps before the one and from the other on lie in strides
        if "stride" in output:
            length, left, right = output["stride"]
            self.offset -= left
            if left:
                opening = left / self.precision + self.first
            if right:
                closing = self.first_in_right_stride(ids, length - right)
        current: list[Token] = []
        for position, index in enumerate(ids):
            if index in self.special:
                current = self.read_special(index, current)
            elif index >= self.first:
                seconds, _ = clock.read(position)
                seconds = round(seconds + self.offset + clock.passed, 2)
                if closing is not None and index >= closing:
                    self.skip = True  # put off, as is the next one: they come in pairs
                elif self.skip or (self.pending and index < opening):
                    self.skip = False
                elif self.chunk["timestamp"][0] is None:
                    self.chunk["timestamp"][0] = seconds
                elif seconds != self.chunk["timestamp"][0]:  # an end at the start is taken for the start
                    self.chunk["timestamp"][1] = seconds
                    self.pending.append(current)
                    self.close()
                    current = []
            elif times is None:
                current.append(Token(index))
            else:
                start = times[position - 1] if position else 0.0
                current.append(Token(index, round(start + self.offset, 2), round(times[position] + self.offset, 2)))
        if "stride" in output:
            self.offset += length - right
        if current:
            self.pending.append(current)
        elif not any(self.pending):
            self.begin()

    def read_special(self, index: int, current: list[Token]) -> list[Token]:
        """Notes the language of a language token; returns the tokens that still wait for a chunk."""
        language = LANGUAGES.get(self.tokenizer.convert_ids_to_tokens(index)[2:-2])
        if language is None:
            return current
        if self.language and language != self.language and not self.timed:
            self.pending.append(current)
            self.close()
            current = []
        self.chunk["language"] = self.language = language
        return current

    def first_in_right_stride(self, ids: list[int], end: float) -> int | None:
        """The first of the timestamps from `end` seconds on; the last timestamp, if none is that late."""
        first = None
        for index in reversed(ids):
            if index >= self.first:
                if first is not None and (index - self.first) * self.precision < end:
                    break
                first = index
        return first

    @staticmethod
    def times(output: Mapping[str, Any]) -> list[float]:
        if output.get("token_timestamps") is None:
            raise ValueError(
                "Times of words need token_timestamps in each output: generate with return_token_timestamps=True."
            )
        return to_list(to_list(output["token_timestamps"])[0])


def merge(sequences: list[list[Token]]) -> list[Token]:
    """One sequence of several that overlap, each the one before it, at the end of one and the start of the next.

    The overlap is where most tokens are equal (and in the order of their times); its left half is taken from the
    left sequence and its right half from the right one.
    """
    left, *others = sequences
    merged: list[Token] = []
    for right in others:
        same = _equal(left, right)
        best, cut, start = 0.0, len(left), 0
        for shift in range(1, len(left) + len(right)):
            matches = np.trace(same, offset=shift - len(left))
            quality = matches / shift + shift / 10000.0  # among good overlaps a long one is better
            if matches > 1 and quality > best:
                best = quality
                cut = (max(0, len(left) - shift) + min(len(left), len(left) + len(right) - shift)) // 2
                start = (max(0, shift - len(left)) + min(len(right), shift)) // 2
        merged += left[:cut]
        left = right[start:]
    return merged + left


def _equal(left: list[Token], right: list[Token]) -> np.ndarray:
    """(left, right) whether two tokens are the same, the left one not later than the right one."""
    index, start, end = np.array(left, "float64").reshape(-1, 3).T[:, :, None]
    other_index, other_start, other_end = np.array(right, "float64").reshape(-1, 3).T[:, None]
    return (index == other_index) & ((start < other_start) | ((start == other_start) & (end <= other_end)))


def combine_tokens_into_words(
    tokenizer: WhisperTokenizer, tokens: list[int], language: str | None = None
) -> tuple[list[str], list[list[int]], list[list[int]]]:
    """Groups the tokens of a text by word, punctuation with the word it belongs to.

    Args:
        tokenizer: the tokenizer of the model.
        tokens: ids.
        language: the name of a language, such as "english"; None for the tokenizer's own, or English.

    Returns:
        The words, the ids of each, and their positions in `tokens`.
    """
    parts = _characters(tokenizer, tokens)
    if (language or tokenizer.language or "english") not in _NO_SPACES:
        parts = _joined(
            parts,
            lambda _, part, where: (
                tokens[where[0]] < tokenizer.eos_token_id
                and not part.startswith(" ")
                and part.strip() not in _PUNCTUATION
            ),
        )
    parts = _joined(  # from right to left
        [(part, where) for part, where in reversed(parts)],
        lambda _, part, where: part.startswith(" ") and part.strip() in _OPENING,
        backwards=True,
    )[::-1]
    parts = _joined(parts, lambda word, part, where: not word.endswith(" ") and part in _CLOSING)
    return (
        [word for word, _ in parts],
        [[tokens[i] for i in where] for _, where in parts],
        [where for _, where in parts],
    )


Part = tuple[str, list[int]]  # a text, and the positions of its tokens


def _joined(parts: Iterable[Part], belongs: Any, backwards: bool = False) -> list[Part]:
    """Parts joined with the one before where `belongs(text before, text, positions)`; the order may be backwards."""
    joined: list[Part] = []
    for part, where in parts:
        if joined and belongs(joined[-1][0], part, where):
            word, positions = joined[-1]
            joined[-1] = (part + word, where + positions) if backwards else (word + part, positions + where)
        else:
            joined.append((part, where))
    return joined


def _characters(tokenizer: WhisperTokenizer, tokens: list[int]) -> list[Part]:
    """The smallest parts of a text that are whole characters."""
    text = tokenizer.decode(tokens, decode_with_timestamps=True)
    parts: list[Part] = []
    where: list[int] = []
    position = 0
    for number in range(len(tokens)):
        where.append(number)
        part = tokenizer.decode([tokens[i] for i in where], decode_with_timestamps=True)
        broken = part.find("\ufffd")
        # A broken character may be whole with the next token, unless the text has it broken too.
        if broken < 0 or text[position + broken : position + broken + 1] == "\ufffd":
            parts.append((part, where))
            where = []
            position += len(part)
    if where and position + broken >= len(text):  # a place at which the reference fails
        parts.append((part, where))
    return parts
