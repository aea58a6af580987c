"""What a tokenizer returns: model inputs by name, which also know which character, word and token belong together."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from tokenizers import Encoding

from keras_models.config import nearest

TENSOR_KINDS = {
    "np": "np", "jax": "jax", "pt": "pt", "tf": "tf", "keras": "keras",
    "numpy": "np", "torch": "pt", "tensorflow": "tf",
}  # fmt: skip


class TokenSpan(NamedTuple):
    """Tokens from `start` up to, not including, `end`."""

    start: int
    end: int


class CharSpan(NamedTuple):
    """Characters from `start` up to, not including, `end`."""

    start: int
    end: int


class BatchEncoding(dict):
    """Model inputs by name (`input_ids`, `attention_mask` ...), which can be read as attributes too.

    Values are lists (one per text; or flat, for a single text) until `convert_to_tensors`. Indexed by an integer, it
    gives the `tokenizers.Encoding` of that text. Methods that look at one token, word or character take
    `(batch index, index)`, or the index alone for the first text.

    Args:
        data: the model inputs.
        encoding: the `tokenizers.Encoding` of each text, which `word_ids()` and the like need.
        tensor_type: convert to this kind of tensor, see `convert_to_tensors`.
        prepend_batch_axis: add a leading axis of 1 while converting.
    """

    def __init__(
        self,
        data: dict[str, Any] | None = None,
        encoding: Encoding | list[Encoding] | None = None,
        tensor_type: str | None = None,
        prepend_batch_axis: bool = False,
    ):
        super().__init__(data or {})
        self._encodings = [encoding] if isinstance(encoding, Encoding) else encoding
        self.convert_to_tensors(tensor_type, prepend_batch_axis)

    def __getitem__(self, item: str | int | slice) -> Any:
        if isinstance(item, str):
            return super().__getitem__(item)
        if self._encodings is not None:
            return self._encodings[item]
        if isinstance(item, slice):
            return {name: value[item] for name, value in self.items()}
        raise KeyError(f"This BatchEncoding holds {list(self)} and no encodings to index with {item!r}.")

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"BatchEncoding has no {name!r}; it holds {list(self)}.")

    @property
    def data(self) -> dict[str, Any]:
        """The model inputs."""
        return self

    @property
    def encodings(self) -> list[Encoding] | None:
        """The `tokenizers.Encoding` of each text; None if this did not come straight from a tokenizer."""
        return self._encodings

    @property
    def is_fast(self) -> bool:
        """Whether `encodings` are there, and with them the methods that need them."""
        return self._encodings is not None

    @property
    def n_sequences(self) -> int | None:
        """1 for texts, 2 for pairs of texts; None if unknown."""
        return self._encodings[0].n_sequences if self._encodings else None

    def tokens(self, batch_index: int = 0) -> list[str]:
        """The tokens of one text."""
        return self._encoding(batch_index).tokens

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token the word it is a part of; None for special tokens."""
        return self._encoding(batch_index).word_ids

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token 0 for the first text of a pair, 1 for the second; None for special tokens."""
        return self._encoding(batch_index).sequence_ids

    def token_to_sequence(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """0 or 1: the text of a pair that a token comes from; None for special tokens."""
        encoding, index = self._locate(batch_or_token_index, token_index)
        return encoding.token_to_sequence(index % len(encoding))

    def token_to_word(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """The word that a token is a part of; None for special tokens."""
        encoding, index = self._locate(batch_or_token_index, token_index)
        return encoding.token_to_word(index % len(encoding))

    def token_to_chars(self, batch_or_token_index: int, token_index: int | None = None) -> CharSpan | None:
        """The characters of the text that a token stands for; None for special tokens."""
        encoding, index = self._locate(batch_or_token_index, token_index)
        span = encoding.token_to_chars(index)
        return CharSpan(*span) if span is not None else None

    def word_to_tokens(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> TokenSpan | None:
        """The tokens of a word of the text `sequence_index` of a pair; None if it has none."""
        encoding, index = self._locate(batch_or_word_index, word_index)
        span = encoding.word_to_tokens(index, sequence_index)
        return TokenSpan(*span) if span is not None else None

    def word_to_chars(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> CharSpan | None:
        """The characters of a word of the text `sequence_index` of a pair; None if it has no token."""
        encoding, index = self._locate(batch_or_word_index, word_index)
        span = encoding.word_to_chars(index, sequence_index)
        return CharSpan(*span) if span is not None else None

    def char_to_token(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """The token that a character of the text `sequence_index` of a pair is in; None for white space."""
        encoding, index = self._locate(batch_or_char_index, char_index)
        return encoding.char_to_token(index, sequence_index)

    def char_to_word(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """The word that a character of the text `sequence_index` of a pair is in; None for white space."""
        encoding, index = self._locate(batch_or_char_index, char_index)
        return encoding.char_to_word(index, sequence_index)

    def convert_to_tensors(self, tensor_type: str | None = None, prepend_batch_axis: bool = False) -> Self:
        """Turns the values into tensors, in place.

        Args:
            tensor_type: "np", "jax", "pt", "tf", or "keras" for the active backend; None leaves the values as they are.
            prepend_batch_axis: add a leading axis of 1.

        Raises:
            ValueError: the kind of tensor is unknown, or rows have different lengths.
            ImportError: that framework is not installed.
        """
        if tensor_type is None:
            return self
        kind = tensor_kind(tensor_type)
        for name, value in self.items():
            array = _array(name, [value] if prepend_batch_axis else value, for_numpy=kind == "np")
            if kind != "np":
                from keras_models.runtime.interop import to_framework  # imports Keras, which lists and numpy do without

                array = to_framework(array, kind)
            self[name] = array
        return self

    def to(self, device: Any) -> Self:
        """Moves PyTorch tensors to a device, in place; other values stay where they are."""
        for name, value in self.items():
            if type(value).__module__.partition(".")[0] == "torch":
                self[name] = value.to(device)
        return self

    def _encoding(self, batch_index: int) -> Encoding:
        if self._encodings is None:
            raise ValueError(
                "This BatchEncoding knows no tokens, words and characters: it is not a tokenizer's direct output."
            )
        return self._encodings[batch_index]

    def _locate(self, first: int, second: int | None) -> tuple[Encoding, int]:
        return (self._encoding(0), first) if second is None else (self._encoding(first), second)


def tensor_kind(name: str) -> str:
    """The short name of a kind of tensor: "np", "jax", "pt", "tf" or "keras".

    Raises:
        ValueError: there is no such kind.
    """
    if name not in TENSOR_KINDS:
        known = list(TENSOR_KINDS)
        raise ValueError(f"return_tensors={name!r} is unknown; use one of {known} or None.{nearest(str(name), known)}")
    return TENSOR_KINDS[name]


def to_list(value: Any) -> Any:
    """A tensor of any framework as (nested) lists or a number; anything else unchanged."""
    if not hasattr(value, "shape"):
        return value
    return np.asarray(value.cpu() if hasattr(value, "cpu") else value).tolist()


def _array(name: str, value: Any, for_numpy: bool) -> np.ndarray:
    value = value.cpu() if hasattr(value, "cpu") else value
    try:
        array = np.asarray(value)
    except ValueError as error:  # numpy's word for rows of different lengths
        raise ValueError(
            f"The rows of {name!r} have different lengths and make no tensor: pass padding=True and truncation=True."
        ) from error
    if array.dtype.kind not in "biuf" and not (for_numpy and array.dtype.kind == "U"):
        raise ValueError(
            f"{name!r} holds {array.dtype} values, which make no tensor: take it out, or make them numbers."
        )
    if array.size == 0:
        return array.astype("int64")
    return array if for_numpy or array.dtype != np.float64 else array.astype("float32")
