"""The tokenizer of Wav2Vec2 and its kin: characters, decoded from a token per frame of sound."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import tokenizers
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers

from keras_models.config import nearest, read_json
from keras_models.outputs import ModelOutput
from keras_models.preprocessing.batch_encoding import to_list
from keras_models.preprocessing.tokenizer_base import Tokenizer
from keras_models.preprocessing.tokenizer_calls import Shape

Offsets = list[dict[str, Any]]


class Wav2Vec2CTCTokenizerOutput(ModelOutput):
    """`text`, and those of `char_offsets` and `word_offsets` that were asked for; lists of them for a batch."""


class Wav2Vec2CTCTokenizer(Tokenizer):
    """A tokenizer of characters for connectionist temporal classification; its padding token is the blank.

    Text is not changed to upper case, in which most vocabularies are, unless `do_lower_case` is set.

    Args:
        *files: path of a vocab.json: ids by character, or such dictionaries by language.
        word_delimiter_token: the token that stands for a space.
        replace_word_delimiter_char: what it becomes in decoded text.
        do_lower_case: take text in any case, and decode to lower case.
        target_lang: the language to start with, for a vocabulary that has several.
        **settings: see `Tokenizer`.

    Raises:
        ValueError: the vocabulary has several languages and `target_lang` is none of them.
    """

    vocabulary_files: ClassVar = {"vocab_file": "vocab.json"}
    defaults: ClassVar = {
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>",
        "word_delimiter_token": "|", "replace_word_delimiter_char": " ", "do_lower_case": False, "target_lang": None,
    }  # fmt: skip
    model_input_names = ["input_ids", "attention_mask"]
    saved_as = "Wav2Vec2CTCTokenizer"
    is_fast = False

    def __init__(self, *files: str | os.PathLike[str], **settings: Any):
        settings = {**self.defaults, **dict(zip(self.vocabulary_files, files, strict=False)), **settings}
        path = settings.pop("vocab_file", None)
        if path is None:
            raise ValueError(f"{type(self).__name__} needs a vocab.json to be built from.")
        for name in ("tokenizer_file", "tokenizer_object"):
            settings.pop(name, None)
        self.word_delimiter_token: str = settings["word_delimiter_token"]
        self.replace_word_delimiter_char: str = settings["replace_word_delimiter_char"]
        self.do_lower_case: bool = settings["do_lower_case"]
        self.target_lang: str | None = settings["target_lang"]
        self._vocabularies: dict[str, Any] = read_json(path)
        backend, added = self._built(settings["unk_token"])
        added = (settings.pop("added_tokens_decoder", None) or {}) | added
        super().__init__(tokenizer_object=backend, added_tokens_decoder=added, **settings)

    def _built(self, unk_token: str) -> tuple[tokenizers.Tokenizer, dict[int, AddedToken]]:
        """A backend for the present language, and those of its tokens that have several characters."""
        vocabulary = self._vocabularies
        languages = [name for name, value in vocabulary.items() if isinstance(value, dict)]
        if languages or self.target_lang is not None:
            if self.target_lang not in languages:
                known = f"is none of {languages}" if languages else "was given for a vocabulary of one language"
                raise ValueError(
                    f"target_lang={self.target_lang!r} {known}.{nearest(str(self.target_lang), languages)}"
                )
            vocabulary = vocabulary[self.target_lang]
        backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=str(unk_token)))
        backend.normalizer = normalizers.Replace(" ", self.word_delimiter_token)
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        long = {index: token for token, index in vocabulary.items() if len(token) > 1}
        if self.do_lower_case:  # text is in lower case when it is searched for tokens, and raised to upper case after
            long = {index: token for index, token in long.items() if token == token.lower()}
        added = {i: AddedToken(token, lstrip=True, rstrip=True, normalized=False) for i, token in long.items()}
        return backend, added

    @property
    def vocab_size(self) -> int:
        return len(self._vocabularies[self.target_lang] if self.target_lang is not None else self._vocabularies)

    @property
    def word_delimiter_token_id(self) -> int:
        """The id of the token that stands for a space."""
        return self.convert_tokens_to_ids(self.word_delimiter_token)

    def set_target_lang(self, target_lang: str):
        """Changes to another language of the vocabulary; the model needs that language's adapter too.

        Raises:
            ValueError: the vocabulary does not have it.
        """
        before, self.target_lang = self.target_lang, target_lang
        try:
            backend, added = self._built(self.unk_token)
        except ValueError:
            self.target_lang = before
            raise
        with self._lock:
            self.init_kwargs["target_lang"] = target_lang
            self._backend = backend
            self._add_missing_tokens(added)

    def add_tokens(
        self, new_tokens: str | AddedToken | Sequence[str | AddedToken], special_tokens: bool = False
    ) -> int:
        tokens = [new_tokens] if isinstance(new_tokens, (str, AddedToken)) else list(new_tokens)
        tokens = [AddedToken(token, normalized=False) if isinstance(token, str) else token for token in tokens]
        return super().add_tokens(tokens, special_tokens)

    def _run(
        self, inputs: list[Any], shape: Shape | None = None, pretokenized: bool = False, *options: Any, **named: Any
    ) -> list[tokenizers.Encoding]:
        inputs = self._prepared(inputs, " " if pretokenized else "")  # words have a delimiter before them
        return super()._run(inputs, shape or Shape(), pretokenized, *options, **named)

    def _prepared(self, text: Any, prefix: str) -> Any:
        """A text, or texts in lists or pairs, in upper case if need be, but for the added tokens in it."""
        if isinstance(text, (list, tuple)):
            return type(text)(self._prepared(each, prefix) for each in text)
        if not isinstance(text, str):
            return text
        if not self.do_lower_case:
            return prefix + text
        added = "|".join(map(re.escape, sorted(self.added_tokens_encoder, key=len, reverse=True)))
        parts = re.split(f"({added})", text) if added else [text]
        return prefix + "".join(part if at % 2 else part.lower().upper() for at, part in enumerate(parts))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> tuple[str, ...]:
        """Writes vocab.json, tokenizer_config.json, special_tokens_map.json and, if needed, added_tokens.json."""
        paths = super().save_pretrained(folder)
        Path(folder, "tokenizer.json").unlink()  # which the reference does not have, and which knows one language
        return tuple(path for path in paths if Path(path).name != "tokenizer.json")

    def _vocabulary_texts(self) -> dict[str, str]:
        text = json.dumps(self._vocabularies, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        return {"vocab.json": text, **self._added_tokens_text()}

    # Decoding.

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        output_char_offsets: bool = False,
        output_word_offsets: bool = False,
        group_tokens: bool = True,
        spaces_between_special_tokens: bool = False,
    ) -> str | Wav2Vec2CTCTokenizerOutput:
        """The text that the most likely token of each frame stands for: repetitions count once, blanks not at all.

        Args:
            token_ids: one id per frame, as a list or a tensor of any framework.
            skip_special_tokens: leave special tokens out, the blank among them, which also separates two equal
                characters: for ids of labels, not of frames.
            clean_up_tokenization_spaces: see `Tokenizer.decode`.
            output_char_offsets: return where each character starts and ends too, in frames.
            output_word_offsets: return where each word starts and ends too, in frames.
            group_tokens: count repetitions once; False for ids of labels.
            spaces_between_special_tokens: put a space between each two characters.

        Returns:
            The text; with offsets an output of `text`, `char_offsets` (`{"char": ..., "start_offset": ...,
            "end_offset": ...}`) and `word_offsets` (`"word"` in place of `"char"`).
        """
        ids = to_list(token_ids)
        tokens = self.convert_ids_to_tokens([ids] if isinstance(ids, int) else ids, skip_special_tokens)
        tokens = [self.unk_token if token is None else token for token in tokens]
        if skip_special_tokens:
            tokens = [token for token in tokens if token == self.pad_token or token not in self.all_special_tokens]
        text, characters = self._grouped(tokens, group_tokens, spaces_between_special_tokens)
        clean = clean_up_tokenization_spaces
        if self.clean_up_tokenization_spaces if clean is None else clean:
            text = self.clean_up_tokenization(text)
        if not (output_char_offsets or output_word_offsets):
            return text
        output = Wav2Vec2CTCTokenizerOutput(text=text)
        if output_char_offsets:
            output["char_offsets"] = characters
        if output_word_offsets:
            output["word_offsets"] = self._words(characters)
        return output

    def batch_decode(
        self,
        sequences: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        output_char_offsets: bool = False,
        output_word_offsets: bool = False,
        **options: Any,
    ) -> list[str] | Wav2Vec2CTCTokenizerOutput:
        """The texts that several sequences of ids stand for; with offsets one output that holds lists. See `decode`."""
        options |= {"output_char_offsets": output_char_offsets, "output_word_offsets": output_word_offsets}
        rows = to_list(sequences)
        texts = [self.decode(row, skip_special_tokens, clean_up_tokenization_spaces, **options) for row in rows]
        if not (output_char_offsets or output_word_offsets):
            return texts
        return Wav2Vec2CTCTokenizerOutput({name: [each[name] for each in texts] for name in texts[0]} if texts else {})

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """The text that tokens of frames stand for."""
        return self._grouped(tokens, True, False)[0]

    def _grouped(self, tokens: list[str], group: bool, spaced: bool) -> tuple[str, Offsets]:
        """The text of tokens, and where its characters are."""
        characters: Offsets = []
        position = 0
        for token, run in itertools.groupby(tokens) if group else ((token, [token]) for token in tokens):
            start, position = position, position + len(list(run))
            if token != self.pad_token:
                character = self.replace_word_delimiter_char if token == self.word_delimiter_token else token
                characters.append({"char": character, "start_offset": start, "end_offset": position})
        text = (" " if spaced else "").join(each["char"] for each in characters).strip()
        return text.lower() if self.do_lower_case else text, characters

    def _words(self, characters: Offsets) -> Offsets:
        """Runs of characters between delimiters."""
        runs = itertools.groupby(characters, lambda each: each["char"] == self.replace_word_delimiter_char)
        words = [list(run) for is_delimiter, run in runs if not is_delimiter]
        return [
            {
                "word": "".join(each["char"] for each in word),
                "start_offset": word[0]["start_offset"],
                "end_offset": word[-1]["end_offset"],
            }
            for word in words
        ]
