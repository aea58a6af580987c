"""Whisper's tokenizer: text with the language, task and times that the model writes beside it."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import tokenizers
from tokenizers import processors

from keras_models.config import nearest, read_json
from keras_models.hub import Repository
from keras_models.preprocessing.batch_encoding import to_list
from keras_models.preprocessing.tokenizer_base import Tokenizer
from keras_models.preprocessing.tokenizer_calls import checked
from keras_models.preprocessing.tokenizer_files import byte_level_bpe
from keras_models.preprocessing.whisper_chunks import SEGMENT, Clock, Transcript, combine_tokens_into_words
from keras_models.preprocessing.whisper_text import LANGUAGES, TO_LANGUAGE_CODE, basic_normalize, english_normalize

TASKS = ("transcribe", "translate")
_TIMESTAMP = re.compile(r"<\|\d+\.\d+\|>")


class WhisperTokenizer(Tokenizer):
    """Whisper's byte-level BPE, with `<|startoftranscript|>`, language, task and `<|notimestamps|>` before a text.

    Args:
        *files: paths of vocab.json, merges.txt and, if there is one, normalizer.json.
        normalizer_file: the path of a normalizer.json: American spellings of English words, by British ones.
        language: the language of texts, by name or code; None for none, or for that of a tokenizer.json.
        task: "transcribe" or "translate"; None likewise.
        predict_timestamps: leave out `<|notimestamps|>`.
        **settings: see `Tokenizer`.

    Raises:
        ValueError: the language or the task is unknown.
    """

    vocabulary_files: ClassVar = {"vocab_file": "vocab.json", "merges_file": "merges.txt"}
    defaults: ClassVar = {
        "unk_token": "<|endoftext|>", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>",
        "add_prefix_space": False,
    }  # fmt: skip
    build_defaults: ClassVar = {"errors": "replace"}
    token_flags: ClassVar = {
        name: {"normalized": False, "special": True} for name in ("unk_token", "bos_token", "eos_token")
    }
    model_input_names = ["input_ids", "attention_mask"]
    saved_as = "WhisperTokenizer"
    words_need_prefix_space = True

    def __init__(
        self,
        *files: str | os.PathLike[str],
        normalizer_file: str | os.PathLike[str] | None = None,
        language: str | None = None,
        task: str | None = None,
        predict_timestamps: bool = False,
        **settings: Any,
    ):
        normalizer_file = files[2] if len(files) > 2 else normalizer_file
        self.english_spelling_normalizer: dict[str, str] | None = (
            read_json(normalizer_file) if normalizer_file else None
        )
        self.language, self.task, self.predict_timestamps = language, task, predict_timestamps
        super().__init__(*files[:2], **settings)

    @classmethod
    def find_files(cls, repository: Repository) -> dict[str, Path | None]:
        return super().find_files(repository) | {"normalizer_file": repository.file("normalizer.json")}

    @classmethod
    def build(cls, files: Mapping[str, Path], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
        return byte_level_bpe(files, settings)

    def post_processor(self, settings: Mapping[str, Any]) -> processors.PostProcessor:
        ids = self.prefix_tokens
        prefix = self.convert_ids_to_tokens(ids)
        before, eos = " ".join(f"{token}:0" for token in prefix), self.eos_token
        return processors.TemplateProcessing(
            single=f"{before} $A:0 {eos}:0",
            pair=f"{before} $A:0 $B:1 {eos}:1",
            special_tokens=[(eos, self.eos_token_id), *zip(prefix, ids, strict=True)],
        )

    def align(self, settings: Mapping[str, Any]):
        if self._prefix_settings():  # else the prefix of tokenizer.json stays
            self._backend.post_processor = self.post_processor(settings)

    def _prefix_settings(self) -> dict[str, Any]:
        """Those of the settings of the prefix that are not as they usually are."""
        settings = {"language": self.language, "task": self.task, "predict_timestamps": self.predict_timestamps}
        return {name: value for name, value in settings.items() if value}

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | self._prefix_settings()

    def _vocabulary_texts(self) -> dict[str, str]:
        spellings = self.english_spelling_normalizer
        text = json.dumps(spellings, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        return super()._vocabulary_texts() | ({"normalizer.json": text} if spellings is not None else {})

    # What stands before a text.

    def set_prefix_tokens(
        self, language: str | None = None, task: str | None = None, predict_timestamps: bool | None = None
    ):
        """Changes what is put before texts from now on; None leaves a setting as it is.

        Args:
            language: a name or code, as in `LANGUAGES`.
            task: "transcribe" or "translate".
            predict_timestamps: leave out `<|notimestamps|>`.

        Raises:
            ValueError: the language or the task is unknown.
        """
        before = self.language, self.task, self.predict_timestamps
        given = language, task, predict_timestamps
        chosen = [old if new is None else new for old, new in zip(before, given, strict=True)]
        self.language, self.task, self.predict_timestamps = chosen
        try:
            self._backend.post_processor = self.post_processor({})
        except ValueError:
            self.language, self.task, self.predict_timestamps = before
            raise

    @property
    def prefix_tokens(self) -> list[int]:
        """The ids of `<|startoftranscript|>`, language, task and `<|notimestamps|>`, those of them that are set."""
        start = self.convert_tokens_to_ids("<|startoftranscript|>")
        ids = [start]
        if self.language is not None:
            code = language_code(self.language)
            index = start + 1 + list(LANGUAGES).index(code)  # not by text: old files call Hebrew <|iw|>
            if index == self.convert_tokens_to_ids("<|translate|>"):
                raise ValueError(
                    f"This checkpoint has no token for the language {self.language!r}: choose another one."
                )
            ids.append(index)
        if self.task is not None:
            ids.append(self.convert_tokens_to_ids(f"<|{checked('task', self.task, TASKS)}|>"))
        return ids if self.predict_timestamps else [*ids, self.convert_tokens_to_ids("<|notimestamps|>")]

    def get_decoder_prompt_ids(
        self, task: str | None = None, language: str | None = None, no_timestamps: bool = True
    ) -> list[tuple[int, int]]:
        """Sets the prefix, and returns it as pairs of position and id, from position 1 on.

        Args:
            task: see `set_prefix_tokens`.
            language: see `set_prefix_tokens`.
            no_timestamps: whether the model is to write no times.
        """
        self.set_prefix_tokens(language, task, not no_timestamps)
        return list(enumerate(self.prefix_tokens))[1:]

    def get_prompt_ids(self, text: str, return_tensors: str | None = "np") -> Any:
        """The ids of a text that came before the recording, for `prompt_ids` of generation: (tokens).

        Args:
            text: the text, without special tokens.
            return_tensors: see a call.

        Raises:
            ValueError: the text has a special token or a timestamp.
        """
        encoded = self("<|startofprev|>", f" {text.strip()}", add_special_tokens=False)
        wrong = next((index for index in encoded["input_ids"][1:] if index >= self.all_special_ids[0]), None)
        if wrong is not None:
            raise ValueError(f"A prompt cannot hold {self.convert_ids_to_tokens(wrong)}: leave it out.")
        return encoded.convert_to_tensors(return_tensors)["input_ids"]

    # Decoding.

    @property
    def timestamp_begin(self) -> int:
        """The id of `<|0.00|>`, the first of the timestamps; old files do not list them, but models write them."""
        return self.convert_tokens_to_ids("<|notimestamps|>") + 1

    def timestamp_ids(self, time_precision: float = 0.02) -> list[int]:
        """The ids of the timestamps of one window, `time_precision` seconds apart."""
        return self.convert_tokens_to_ids([f"<|{step * time_precision:.2f}|>" for step in range(SEGMENT + 1)])

    def strip_prompt(self, token_ids: Any) -> list[int]:
        """Ids from `<|startoftranscript|>` on, if a prompt (`<|startofprev|>` ...) comes before it."""
        ids = to_list(token_ids)
        if not ids or ids[0] != self.convert_tokens_to_ids("<|startofprev|>"):
            return ids
        start = self.convert_tokens_to_ids("<|startoftranscript|>")
        return ids[ids.index(start) :] if start in ids else []

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        output_offsets: bool = False,
        time_precision: float = 0.02,
        decode_with_timestamps: bool = False,
        normalize: bool = False,
        basic_normalize: bool = False,
        remove_diacritics: bool = False,
    ) -> str | dict[str, Any]:
        """The text that token ids stand for.

        Args:
            token_ids: one id or a sequence of ids, as a list or a tensor of any framework.
            skip_special_tokens: leave special tokens out, and the prompt with them.
            clean_up_tokenization_spaces: see `Tokenizer.decode`.
            output_offsets: return the text between each two timestamps too.
            time_precision: seconds between two timestamp tokens.
            decode_with_timestamps: write timestamps as `<|1.08|>`, counted on where a new window starts.
            normalize: see `normalize`; not together with `decode_with_timestamps`, which leaves text as it is.
            basic_normalize: see `basic_normalize`; likewise.
            remove_diacritics: see `basic_normalize`.

        Returns:
            The text; with `output_offsets` a dictionary of `text` and `offsets`, a list of
            `{"text": ..., "timestamp": (start, end)}` in seconds.
        """
        ids = to_list(token_ids)
        ids = [ids] if isinstance(ids, int) else ids
        kept = self.strip_prompt(ids) if skip_special_tokens else ids
        plain = partial(self._plain, skip=skip_special_tokens, clean=clean_up_tokenization_spaces)
        if decode_with_timestamps:
            text = self._with_timestamps(kept, time_precision, plain)
        else:
            text = super().batch_decode([kept], skip_special_tokens, clean_up_tokenization_spaces)[0]
            if normalize:
                text = self.normalize(text)
            elif basic_normalize:
                text = self.basic_normalize(text, remove_diacritics)
            text = _TIMESTAMP.sub("", text)
        if not output_offsets:
            return text
        return {"text": text, "offsets": self._offsets(ids, time_precision, clean_up_tokenization_spaces)}

    def batch_decode(
        self,
        sequences: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **options: Any,
    ) -> list[str] | list[dict[str, Any]]:
        """The texts that several sequences of ids stand for; see `decode`."""
        rows = to_list(sequences)
        return [self.decode(row, skip_special_tokens, clean_up_tokenization_spaces, **options) for row in rows]

    def _plain(self, ids: list[int], skip: bool = False, clean: bool | None = None) -> str:
        """The text of ids, without timestamps."""
        ids = self.strip_prompt(ids) if skip else ids
        return _TIMESTAMP.sub("", super().batch_decode([ids], skip, clean)[0])

    def _with_timestamps(self, ids: list[int], precision: float, plain: Any) -> str:
        clock = Clock(ids, self.timestamp_begin, precision)
        parts: list[str | list[int]] = [[]]
        for position, index in enumerate(ids):
            if index < self.timestamp_begin:
                parts[-1].append(index)
                continue
            seconds, repeated = clock.read(position)
            if repeated:
                parts = parts[:-2]
            parts += [f"<|{seconds + clock.passed:.2f}|>", []]
        return "".join(part if isinstance(part, str) else plain(part) for part in parts)

    def _offsets(self, ids: list[int], precision: float, clean: bool | None) -> list[dict[str, Any]]:
        """Texts and times from each timestamp to the next one that is followed by another."""
        first = self.timestamp_begin
        stamps = [position for position, index in enumerate(ids) if index >= first]
        ends = [later for earlier, later in itertools.pairwise(stamps) if later == earlier + 1]
        if len(stamps) < 2:
            return []
        if stamps[-1] + 1 not in ends:
            ends.append(stamps[-1] + 1)
        offsets: list[dict[str, Any]] = []
        begin, latest, passed = stamps[0], 0, 0
        for end in ends:
            part = ids[begin:end]
            if len(part) > 1:
                start, stop = part[0] - first, part[-1] - first
                if start < latest:  # the next window has started
                    alone = begin >= 2 and min(ids[begin - 2 : begin]) < first
                    passed += SEGMENT if alone else latest
                latest = stop
                times = tuple(step * precision + passed * precision for step in (start, stop))
                offsets.append({"text": self._plain(part, clean=clean), "timestamp": times})
            begin = end
        return offsets

    def decode_chunks(
        self,
        model_outputs: Iterable[Mapping[str, Any]],
        return_timestamps: bool | str = False,
        return_language: bool = False,
        time_precision: float = 0.02,
    ) -> tuple[str, dict[str, Any]]:
        """One transcript of what the model wrote about overlapping stretches of a recording.

        Args:
            model_outputs: a dictionary per stretch, in order: `tokens` (1, tokens); `stride`, the seconds (length,
                left overlap, right overlap), if the recording was cut; `token_timestamps` (1, tokens), the end of each
                token in seconds, for times of words.
            return_timestamps: True for the times of pieces of text, "word" for those of words.
            return_language: whether each chunk names its language.
            time_precision: seconds between two timestamp tokens.

        Returns:
            The text, and `{"chunks": [{"text": ..., "timestamp": (start, end), "language": ...}, ...]}`, or an empty
            dictionary if neither times nor languages are wanted. An end that the model did not write is None.

        Raises:
            ValueError: times of words are asked for and an output has no `token_timestamps`.
        """
        transcript = Transcript(self, return_timestamps, return_language, time_precision)
        for output in model_outputs:
            transcript.read(output)
        return transcript.finish()

    def combine_tokens_into_words(
        self, tokens: Any, language: str | None = None
    ) -> tuple[list[str], list[list[int]], list[list[int]]]:
        """Groups the ids of a text by word; see `whisper_chunks.combine_tokens_into_words`."""
        return combine_tokens_into_words(self, to_list(tokens), language)

    # Normalization.

    def normalize(self, text: str) -> str:
        """English text as error rates compare it: numbers in digits, one spelling, no punctuation.

        British spellings become American ones if the tokenizer came with a normalizer.json.
        """
        return english_normalize(text, self.english_spelling_normalizer)

    @staticmethod
    def basic_normalize(text: str, remove_diacritics: bool = False) -> str:
        """Text of any language as error rates compare it: lower case, no punctuation, and no accents if asked."""
        return basic_normalize(text, remove_diacritics)


def language_code(language: str) -> str:
    """The code of a language that is given by name or code, in any case.

    Raises:
        ValueError: Whisper does not know it.
    """
    name = language.lower()
    code = TO_LANGUAGE_CODE.get(name, name)
    if code not in LANGUAGES:
        known = list(LANGUAGES) if len(name) <= 3 else list(TO_LANGUAGE_CODE)
        raise ValueError(f"The language {language!r} is unknown; it can be one of {known}.{nearest(name, known)}")
    return code
