"""What a tokenizer does with ids that exist already: truncation, special tokens around them, padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_models.preprocessing.batch_encoding import BatchEncoding, to_list
from keras_models.preprocessing.tokenizer_calls import TRUNCATION, Calls, Shape, checked


class Ids(Calls):
    """Padding, truncation and special tokens for ids; a part of `Tokenizer`, whose attributes it uses."""

    def pad(
        self,
        encoded_inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        verbose: bool = True,
    ) -> BatchEncoding:
        """Pads what calls of the tokenizer returned to one length; other entries, such as labels, stay as they are.

        Args:
            encoded_inputs: one result of a call, or a list of results for single texts.
            padding: see a call.
            max_length: the length for padding="max_length".
            pad_to_multiple_of: make the length a multiple of this.
            padding_side: "right" or "left"; None for the tokenizer's own.
            return_attention_mask: see a call.
            return_tensors: see a call; None gives tensors if the inputs are some, else lists.
            verbose: whether to warn.

        Raises:
            ValueError: the input ids are missing, or entries differ in their number of rows.
        """
        if isinstance(encoded_inputs, Mapping):
            data = dict(encoded_inputs)
        else:
            data = {
                name: [each[name] for each in encoded_inputs] for name in (encoded_inputs[0] if encoded_inputs else ())
            }
        main = self.model_input_names[0]
        if main not in data:
            raise ValueError(f"pad() needs {main!r}, and was given {list(data)}.")
        ids = data[main]
        first = ids if hasattr(ids, "shape") else next(iter(ids), None)
        if return_tensors is None and hasattr(first, "shape"):
            from keras_models.runtime.interop import framework_of  # imports Keras, which lists do without

            return_tensors = framework_of(first)
        data = {name: [to_list(each) for each in value] if isinstance(value, (list, tuple)) else to_list(value)
                for name, value in data.items()}  # fmt: skip
        shape = self._shape(padding, False, max_length, 0, pad_to_multiple_of, padding_side, verbose)
        if return_attention_mask is None:
            return_attention_mask = "attention_mask" in self.model_input_names
        single = bool(data[main]) and not isinstance(data[main][0], (list, tuple))
        rows = {name: [value] for name, value in data.items()} if single else data
        counts = {name: len(value) for name, value in rows.items()}
        if len(set(counts.values())) > 1:
            raise ValueError(f"The entries to pad have different numbers of rows: {counts}.")
        if return_attention_mask and "attention_mask" not in rows:
            rows["attention_mask"] = [[1] * len(row) for row in rows[main]]
        if shape.padding != "do_not_pad":
            self._fill(rows, main, shape)
        return BatchEncoding({name: value[0] for name, value in rows.items()} if single else rows, None, return_tensors)

    def _fill(self, rows: dict[str, Any], main: str, shape: Shape):
        lengths = [len(row) for row in rows[main]]
        length = max(lengths, default=0) if shape.padding == "longest" else shape.length
        length = -(-length // (shape.multiple or 1)) * (shape.multiple or 1)
        fillers = {"attention_mask": 0, "token_type_ids": self.pad_token_type_id, "special_tokens_mask": 1}
        for name, filler in {**fillers, main: self.pad_token_id}.items():
            if name in rows:
                extra = [[filler] * (length - count) for count in lengths]
                pairs = zip(rows[name], extra, strict=True)
                rows[name] = [[*row, *more] if shape.side == "right" else [*more, *row] for row, more in pairs]

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """How many special tokens surround a text, or a pair of texts."""
        return self._backend.num_special_tokens_to_add(pair)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """The ids of a text, or of a pair of texts, with special tokens around them."""
        return self._surrounded(token_ids_0, token_ids_1)[0]

    def create_token_type_ids_from_sequences(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """The token type ids that go with `build_inputs_with_special_tokens`."""
        return self._surrounded(token_ids_0, token_ids_1)[1]

    def get_special_tokens_mask(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """1 for special tokens and 0 for others.

        Args:
            token_ids_0: the ids of a text.
            token_ids_1: the ids of the second text of a pair.
            already_has_special_tokens: `token_ids_0` are the ids of the whole input, and all special tokens count;
                otherwise those that `build_inputs_with_special_tokens` adds.
        """
        if not already_has_special_tokens:
            return self._surrounded(token_ids_0, token_ids_1)[2]
        special = set(self.all_special_ids)
        return [int(index in special) for index in token_ids_0]

    def _surrounded(self, first: list[int], second: list[int] | None) -> tuple[list[int], list[int], list[int]]:
        """Ids, token type ids and special tokens mask, as the backend would have arranged them."""
        sample = self._run(["a" if second is None else ("a", "a")])[0]
        texts = [first, second]
        ids, types, special = [], [], []
        before = None
        for sequence, index, kind in zip(sample.sequence_ids, sample.ids, sample.type_ids, strict=True):
            if sequence is not None and sequence == before:
                continue  # a further token of the same "a"
            before = sequence
            part = [index] if sequence is None else texts[sequence]
            ids += part
            types += [kind] * len(part)
            special += [int(sequence is None)] * len(part)
        return ids, types, special

    def prepare_for_model(
        self,
        ids: list[int],
        pair_ids: list[int] | None = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_length: bool = False,
        prepend_batch_axis: bool = False,
        verbose: bool = True,
    ) -> BatchEncoding:
        """Turns the ids of a text, or of a pair of texts, into model inputs; the options are those of a call.

        With `return_overflowing_tokens` the result has `overflowing_tokens`, the ids that were cut off (none for a
        pair truncated by "longest_first"), and `num_truncated_tokens`.

        Raises:
            ValueError: an option has an unknown value, or the text to truncate is too short for it.
        """
        shape = self._shape(padding, truncation, max_length, stride, pad_to_multiple_of, padding_side, verbose)
        special = self.num_special_tokens_to_add(pair_ids is not None) if add_special_tokens else 0
        excess = len(ids) + len(pair_ids or []) + special - (shape.length or 0)
        data: dict[str, Any] = {}
        overflow: list[int] = []
        if shape.truncation != "do_not_truncate" and shape.length:
            ids, pair_ids, overflow = self.truncate_sequences(ids, pair_ids, excess, shape.truncation, stride)
        if return_overflowing_tokens:
            data |= {"overflowing_tokens": overflow, "num_truncated_tokens": excess}
        if add_special_tokens:
            data["input_ids"], types, mask = self._surrounded(ids, pair_ids)
        else:
            data["input_ids"] = [*ids, *(pair_ids or [])]
            types = mask = [0] * len(data["input_ids"])
        if "token_type_ids" in self.model_input_names if return_token_type_ids is None else return_token_type_ids:
            data["token_type_ids"] = types
        if return_special_tokens_mask:
            data["special_tokens_mask"] = mask
        options = {"pad_to_multiple_of": pad_to_multiple_of, "return_attention_mask": return_attention_mask}
        data = self.pad(data, shape.padding, shape.length, padding_side=padding_side, verbose=verbose, **options)
        if return_length:
            data["length"] = len(data["input_ids"])
        return BatchEncoding(data, None, return_tensors, prepend_batch_axis)

    def truncate_sequences(
        self,
        ids: list[int],
        pair_ids: list[int] | None = None,
        num_tokens_to_remove: int = 0,
        truncation_strategy: str = "longest_first",
        stride: int = 0,
    ) -> tuple[list[int], list[int] | None, list[int]]:
        """Removes ids at `truncation_side`.

        Returns:
            Both texts, and what was removed with `stride` ids of what was not; for a pair truncated by
            "longest_first" that part is empty.

        Raises:
            ValueError: the text to truncate has too few ids.
        """
        strategy, count = checked("truncation_strategy", truncation_strategy, TRUNCATION), num_tokens_to_remove
        if count <= 0 or strategy == "do_not_truncate":
            return ids, pair_ids, []
        if strategy == "longest_first" and pair_ids is not None:
            uneven = min(abs(len(ids) - len(pair_ids)), count)
            first = (count - uneven) // 2 + (uneven if len(ids) > len(pair_ids) else 0)
            return self._cut(ids, first), self._cut(pair_ids, count - first), []
        cut = pair_ids if strategy == "only_second" else ids
        if cut is None or len(cut) <= count:
            raise ValueError(
                f"truncation={strategy!r} cannot remove {count} ids of a text with {len(cut or [])}: choose another "
                "strategy or a longer max_length."
            )
        window = min(len(cut), stride + count)
        overflow = cut[-window:] if self.truncation_side == "right" else cut[:window]
        cut = self._cut(cut, count)
        return (ids, cut, overflow) if strategy == "only_second" else (cut, pair_ids, overflow)

    def _cut(self, ids: list[int], count: int) -> list[int]:
        return ids[: len(ids) - count] if self.truncation_side == "right" else ids[count:]
