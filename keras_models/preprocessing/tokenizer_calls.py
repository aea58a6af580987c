"""Calling a tokenizer: texts to ids, with padding, truncation and overflow."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from tokenizers import Encoding

from keras_models.config import nearest
from keras_models.preprocessing.batch_encoding import BatchEncoding, tensor_kind, to_list

Text = str | Sequence[str]  # one text, or the words of one text
PADDING = ("longest", "max_length", "do_not_pad")
TRUNCATION = ("longest_first", "only_first", "only_second", "do_not_truncate")
SIDES = ("right", "left")
_LONGEST_KNOWN = int(1e20)  # a model_max_length above this says that there is none
_OUTPUTS = {  # the results by name, and where an Encoding has them
    "input_ids": "ids", "token_type_ids": "type_ids", "attention_mask": "attention_mask",
    "special_tokens_mask": "special_tokens_mask", "offset_mapping": "offsets",
}  # fmt: skip


class Shape(NamedTuple):
    """How long results are to be."""

    padding: str = "do_not_pad"
    truncation: str = "do_not_truncate"
    length: int | None = None  # what to pad or truncate to
    stride: int = 0
    multiple: int | None = None
    side: str = "right"  # where padding goes


_AS_IT_IS = Shape()


class Calls:
    """Encoding; a part of `Tokenizer`, whose attributes it uses."""

    def __call__(
        self,
        text: Text | Sequence[Text] | Sequence[tuple[Text, Text]] | None = None,
        text_pair: Text | Sequence[Text] | None = None,
        text_target: Text | Sequence[Text] | None = None,
        text_pair_target: Text | Sequence[Text] | None = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        split_special_tokens: bool | None = None,
        verbose: bool = True,
    ) -> BatchEncoding:
        """Turns text into model inputs.

        Args:
            text: one text, a list of texts, or a list of pairs of texts.
            text_pair: the second texts of pairs: one text, or a list as long as `text`.
            text_target: texts whose ids are returned as `labels`, or alone if there is no `text`.
            text_pair_target: the second texts of pairs of targets.
            add_special_tokens: add what the model expects around texts, such as [CLS] and [SEP].
            padding: True or "longest" (to the longest of the batch), "max_length", False or "do_not_pad".
            truncation: True or "longest_first" (from the longer text of a pair), "only_first", "only_second", False or
                "do_not_truncate". None truncates if `max_length` is given and there is no padding.
            max_length: tokens of a result, for padding="max_length" and for truncation; None for the model's limit.
            stride: tokens that a piece of a truncated text shares with the next one.
            is_split_into_words: each text is a list of words.
            pad_to_multiple_of: make the padded length a multiple of this.
            padding_side: "right" or "left"; None for the tokenizer's own.
            return_tensors: "np", "jax", "pt", "tf", or "keras" for the active backend; None for lists.
            return_token_type_ids: None returns them if they are among `model_input_names`.
            return_attention_mask: None returns it if it is among `model_input_names`.
            return_overflowing_tokens: return the rest of truncated texts as further rows, and
                `overflow_to_sample_mapping`, the text that each row is from.
            return_special_tokens_mask: return `special_tokens_mask`, 1 for tokens that no text stands behind.
            return_offsets_mapping: return `offset_mapping`, the characters (start, end) of each token.
            return_length: return `length`, the number of tokens.
            split_special_tokens: treat special tokens inside the text as text; None for the tokenizer's own setting.
            verbose: whether to warn.

        Returns:
            `input_ids` and what else was asked for: (tokens) for a single text as lists, else (texts, tokens).

        Raises:
            TypeError: an input is no text.
            ValueError: an option has an unknown value, or options or inputs do not fit together.
        """
        if text is None and text_target is None:
            raise ValueError("Nothing to tokenize: give `text`, or `text_target`.")
        shape = self._shape(padding, truncation, max_length, stride, pad_to_multiple_of, padding_side, verbose)
        asked = {
            "input_ids": True,
            "token_type_ids": return_token_type_ids,
            "attention_mask": return_attention_mask,
            "special_tokens_mask": return_special_tokens_mask,
            "offset_mapping": return_offsets_mapping,
        }
        encode = partial(
            self._encode,
            shape=shape,
            names=[name for name, yes in asked.items() if (name in self.model_input_names if yes is None else yes)],
            kind=tensor_kind(return_tensors) if return_tensors is not None else None,
            pretokenized=is_split_into_words,
            add_special_tokens=add_special_tokens,
            split_special_tokens=self.split_special_tokens if split_special_tokens is None else split_special_tokens,
            overflow=return_overflowing_tokens,
            lengths=return_length,
            verbose=verbose,
        )
        if text is None:
            return encode(text_target, text_pair_target)
        encoded = encode(text, text_pair)
        if text_target is not None:
            encoded["labels"] = encode(text_target, text_pair_target)["input_ids"]
        return encoded

    def encode_plus(self, text: Text, text_pair: Text | None = None, **options: Any) -> BatchEncoding:
        """The older name of calling the tokenizer with one text."""
        return self(text, text_pair, **options)

    def batch_encode_plus(self, batch_text_or_text_pairs: Sequence[Any], **options: Any) -> BatchEncoding:
        """The older name of calling the tokenizer with a list of texts or of pairs of texts."""
        return self(batch_text_or_text_pairs, **options)

    def encode(self, text: Text, text_pair: Text | None = None, **options: Any) -> list[int]:
        """The ids of a text, as a list or the kind of tensor asked for. Options are those of a call."""
        return self(text, text_pair, **options)["input_ids"]

    def tokenize(
        self, text: str, pair: str | None = None, add_special_tokens: bool = False, **options: Any
    ) -> list[str]:
        """The tokens of a text."""
        return self(text, pair, add_special_tokens=add_special_tokens, **options).tokens()

    def _encode(
        self,
        text: Any,
        pair: Any,
        *,
        shape: Shape,
        names: list[str],
        kind: str | None,
        pretokenized: bool,
        add_special_tokens: bool,
        split_special_tokens: bool,
        overflow: bool,
        lengths: bool,
        verbose: bool,
    ) -> BatchEncoding:
        inputs, batched = self._inputs(text, pair, pretokenized)
        paired = bool(inputs) and _is_pair(inputs[0], pretokenized)
        self._check_stride(shape, paired, add_special_tokens)
        encodings = self._run(inputs, shape, pretokenized, add_special_tokens, split_special_tokens)
        samples = list(range(len(encodings)))
        if overflow:
            rows = [[encoding, *encoding.overflowing] for encoding in encodings]
            samples = [sample for sample, row in enumerate(rows) for _ in row]
            encodings = list(itertools.chain.from_iterable(rows))
        data: dict[str, Any] = {name: [getattr(each, _OUTPUTS[name]) for each in encodings] for name in names}
        if lengths:
            data["length"] = [len(each) for each in encodings]
        if overflow:
            data["overflow_to_sample_mapping"] = samples
        longest = max(map(len, encodings), default=0)
        if shape.length is None and longest > self.model_max_length:
            self._warn(
                f"A text has {longest} tokens, more than the {self.model_max_length} that the model takes: "
                "pass truncation=True to shorten it.",
                "too long",
                verbose,
            )
        if not batched and not overflow and kind is None:
            data = {name: value[0] if isinstance(value[0], list) else value for name, value in data.items()}
        return BatchEncoding(data, encodings, kind)

    def _inputs(self, text: Any, pair: Any, pretokenized: bool) -> tuple[list[Any], bool]:
        """What the backend takes as a batch, and whether the caller gave a batch."""
        text, pair = to_list(text), to_list(pair)  # arrays of strings are lists
        for name, value in (("text", text), ("text_pair", pair)):
            if not isinstance(value, (str, list, tuple)) and (value is not None or name == "text"):
                raise TypeError(f"`{name}` must be a string or a list, not {_described(value)}.")
        if pretokenized:
            if isinstance(text, str):
                raise TypeError("is_split_into_words=True needs `text` as a list of words: pass text.split(), say.")
            if self.words_need_prefix_space and not self.add_prefix_space:
                raise ValueError(
                    f"{type(self).__name__} takes words (is_split_into_words=True) only if it was made with "
                    "add_prefix_space=True: pass that to from_pretrained."
                )
        batched = isinstance(text, (list, tuple))
        if pretokenized and batched:
            batched = bool(text) and isinstance(text[0], (list, tuple))
        if not batched:
            # An empty second text counts as none, as it does in the reference.
            return [(text, pair) if pair else text], False
        if pair is None:
            return list(text), True
        if isinstance(pair, str):
            raise TypeError("`text` is a list, so `text_pair` must be a list of the same length, not one string.")
        if len(text) != len(pair):
            raise ValueError(f"`text` has {len(text)} items and `text_pair` {len(pair)}: they must come in pairs.")
        return list(zip(text, pair, strict=True)), True

    def _run(
        self,
        inputs: list[Any],
        shape: Shape = _AS_IT_IS,
        pretokenized: bool = False,
        add_special_tokens: bool = True,
        split_special_tokens: bool = False,
    ) -> list[Encoding]:
        """Encodes a batch; the one place where the backend's padding and truncation are set."""
        options = {"add_special_tokens": add_special_tokens, "is_pretokenized": pretokenized}
        with self._lock:
            self._set_shape(shape)
            if self._backend.encode_special_tokens != split_special_tokens:
                self._backend.encode_special_tokens = split_special_tokens
            try:
                return self._backend.encode_batch(inputs, **options)
            except TypeError as error:
                raise TypeError(_complaint(inputs, pretokenized)) from error
            except BaseException as error:  # the library raises bare Exceptions, and panics for a stride without room
                if type(error) is not Exception and type(error).__name__ != "PanicException":
                    raise
                raise ValueError(
                    f"The text cannot be encoded with truncation={shape.truncation!r}, max_length={shape.length} and "
                    f"stride={shape.stride}: {error}"
                ) from error

    def _set_shape(self, shape: Shape):
        truncation, padding = self._backend.truncation, self._backend.padding
        if shape.truncation == "do_not_truncate":
            wanted = None
        else:
            wanted = {"max_length": shape.length, "stride": shape.stride}
            wanted |= {"strategy": shape.truncation, "direction": self.truncation_side}
        if wanted is None and truncation is not None:
            self._backend.no_truncation()
        elif truncation != wanted:
            self._backend.enable_truncation(**wanted)
        if shape.padding == "do_not_pad":
            wanted = None
        else:
            wanted = {"length": shape.length if shape.padding == "max_length" else None, "direction": shape.side}
            wanted |= {"pad_id": self.pad_token_id, "pad_token": self.pad_token}
            wanted |= {"pad_type_id": self.pad_token_type_id, "pad_to_multiple_of": shape.multiple}
        if wanted is None and padding is not None:
            self._backend.no_padding()
        elif padding != wanted:
            self._backend.enable_padding(**wanted)

    def _shape(
        self,
        padding: bool | str,
        truncation: bool | str | None,
        max_length: int | None,
        stride: int,
        multiple: int | None,
        side: str | None,
        verbose: bool,
    ) -> Shape:
        if max_length is not None and max_length < 0:
            raise ValueError(f"max_length must not be negative, as {max_length} is.")
        if truncation is None and padding is False and max_length is not None:
            self._warn(
                "max_length was given without truncation: texts are truncated (truncation='longest_first').",
                "implied truncation",
                verbose,
            )
            truncation = True
        padding = checked("padding", _named(padding, PADDING), PADDING)
        truncation = checked("truncation", _named(truncation, TRUNCATION), TRUNCATION)
        checked("truncation_side", self.truncation_side, SIDES)
        side = checked("padding_side", self.padding_side if side is None else side, SIDES)
        if max_length is None and (padding == "max_length" or truncation != "do_not_truncate"):
            if self.model_max_length > _LONGEST_KNOWN:
                self._warn("max_length is unknown, so nothing is padded or truncated to it.", "no limit", verbose)
                padding = "do_not_pad" if padding == "max_length" else padding
                truncation = "do_not_truncate"
            else:
                max_length = self.model_max_length
        if padding == "longest" and truncation == "do_not_truncate" and max_length is not None:
            self._warn("max_length has no effect with padding=True: use padding='max_length'.", "longest", verbose)
        if padding != "do_not_pad":
            self._check_padding(truncation, max_length, multiple)
        return Shape(padding, truncation, max_length, stride, multiple, side)

    def _check_padding(self, truncation: str, max_length: int | None, multiple: int | None):
        if self.pad_token is None:
            raise ValueError(
                "This tokenizer has no padding token: set one, as in tokenizer.pad_token = tokenizer.eos_token."
            )
        if multiple and max_length is not None and truncation != "do_not_truncate" and max_length % multiple:
            raise ValueError(f"Truncation to max_length={max_length} needs it to be a multiple of {multiple} too.")

    def _check_stride(self, shape: Shape, paired: bool, add_special_tokens: bool):
        if shape.truncation == "do_not_truncate" or not shape.stride:
            return
        special = self.num_special_tokens_to_add(paired) if add_special_tokens else 0
        room = min(shape.length - special, shape.length - self.num_special_tokens_to_add() + 1)
        if not 0 < shape.stride < room:
            raise ValueError(
                f"stride={shape.stride} must lie between 0 and {room}, the room that max_length={shape.length} leaves "
                "for text."
            )

    def _warn(self, message: str, topic: str, verbose: bool):
        """Warns once per tokenizer and topic."""
        if verbose and topic not in self._warned:
            self._warned.add(topic)
            warnings.warn(message, stacklevel=4)


def checked(name: str, value: Any, known: Sequence[str]) -> str:
    """`value`, which has to be one of the known ones."""
    if value not in known:
        raise ValueError(
            f"{name}={value!r} is unknown; it can be one of {list(known)}.{nearest(str(value), list(known))}"
        )
    return value


def _named(value: Any, known: Sequence[str]) -> Any:
    """True stands for the first of the known values, False and None for the last, which is off."""
    if value is None or value is False:
        return known[-1]
    return known[0] if value is True else value


def _is_pair(item: Any, pretokenized: bool) -> bool:
    if not isinstance(item, (list, tuple)):
        return False
    return not pretokenized or (bool(item) and isinstance(item[0], (list, tuple)))


def _described(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} ({text if len(text) < 40 else text[:36] + ' ...'})" if value is not None else "None"


def _complaint(inputs: list[Any], pretokenized: bool) -> str:
    """Which of the inputs is no text."""
    for number, item in enumerate(inputs):
        parts = item if _is_pair(item, pretokenized) else [item]
        if len(parts) not in (1, 2):
            return f"text[{number}] has {len(parts)} texts, where one or a pair of two is expected."
        for part in parts:
            words = part if pretokenized and isinstance(part, (list, tuple)) else [part]
            wrong = [word for word in words if not isinstance(word, str)]
            if pretokenized and words is not part:
                return f"text[{number}] must be a list of words, not {_described(part)}."
            if wrong:
                return f"text[{number}] must be {'words' if pretokenized else 'a string'}, not {_described(wrong[0])}."
    return "Each text must be a string, or with is_split_into_words=True a list of strings."
