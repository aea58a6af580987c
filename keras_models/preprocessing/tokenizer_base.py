"""The tokenizer: what surrounds the `tokenizers` library, which does the splitting."""

from __future__ import annotations

import copy
import json
import os
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tokenizers
from tokenizers import AddedToken, processors

from keras_models.config import read_json, write_atomically
from keras_models.hub import Repository, push_saved, split_options
from keras_models.preprocessing.batch_encoding import to_list
from keras_models.preprocessing.chat import ChatTemplates, named_templates, template_files
from keras_models.preprocessing.special_tokens import SPECIAL_TOKENS, SpecialTokens
from keras_models.preprocessing.tokenizer_calls import SIDES, checked
from keras_models.preprocessing.tokenizer_files import load_backend, patch, read_settings, written
from keras_models.preprocessing.tokenizer_ids import Ids
from keras_models.preprocessing.tokenizer_training import retrain

UNLIMITED = int(1e30)  # the model_max_length of a tokenizer that names none
_CLEAN_UP = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")  # what loses its spaces


class Tokenizer(Ids, ChatTemplates, SpecialTokens):
    """Turns text into token ids and back.

    `AutoTokenizer.from_pretrained` (or this class's own) reads one from a folder or the hub. Calling it gives a
    `BatchEncoding` that goes straight into a model. Subclasses say how to build one from plain vocabulary files, and
    what to assume where a repository says nothing. Calls may come from several threads at once.

    Args:
        *files: paths of the vocabulary files, in the order of `vocabulary_files`, if the class has any.
        tokenizer_object: a `tokenizers.Tokenizer`, which is copied.
        tokenizer_file: path of a tokenizer.json.
        added_tokens_decoder: tokens to add to the vocabulary, by id.
        **settings: special tokens by name, `model_max_length`, `padding_side`, `truncation_side`, `model_input_names`,
            `clean_up_tokenization_spaces`, `split_special_tokens`, `add_prefix_space`, `chat_template`, and what a
            subclass names in `defaults`; others are kept and saved.

    Raises:
        ValueError: there is nothing to build a tokenizer from, or a file is damaged.
    """

    vocabulary_files: ClassVar[dict[str, str]] = {}
    defaults: ClassVar[dict[str, Any]] = {}
    build_defaults: ClassVar[dict[str, Any]] = {}  # further ones where there is no tokenizer.json
    token_flags: ClassVar[dict[str, dict[str, bool]]] = {}  # of special tokens that are given as plain strings
    build_flags: ClassVar[dict[str, dict[str, bool]]] = {}  # further ones where there is no tokenizer.json
    saved_as: ClassVar[str] = "PreTrainedTokenizerFast"  # the name of the class in transformers
    model_input_names: list[str] = ["input_ids", "token_type_ids", "attention_mask"]
    padding_side: str = "right"
    truncation_side: str = "right"
    pad_token_type_id: int = 0
    add_prefix_space: bool | None = False
    words_need_prefix_space: ClassVar[bool] = False  # words given one by one then need add_prefix_space=True
    is_fast: ClassVar[bool] = True

    def __init__(
        self,
        *files: str | os.PathLike[str],
        tokenizer_object: tokenizers.Tokenizer | None = None,
        tokenizer_file: str | os.PathLike[str] | None = None,
        added_tokens_decoder: Mapping[int, AddedToken] | None = None,
        **settings: Any,
    ):
        settings = {**self.defaults, **dict(zip(self.vocabulary_files, files, strict=False)), **settings}
        paths = {name: settings.pop(name, None) for name in self.vocabulary_files}
        self._lock = threading.RLock()  # around calls that change the backend's state or let go of the GIL
        self._warned: set[str] = set()
        self._altered: dict[int, AddedToken] = {}  # added tokens that tokenizers from 0.23 on decodes normalized
        self._stored_class = settings.pop("tokenizer_class", None)
        build = False
        if tokenizer_object is not None:
            self._backend = copy.deepcopy(tokenizer_object)
        elif tokenizer_file is not None:
            self._backend = load_backend(Path(tokenizer_file))
        elif paths and all(paths.values()):
            build, settings = True, self.build_defaults | settings
            self._backend = self.build({name: Path(path) for name, path in paths.items()}, settings)
        else:
            raise ValueError(f"{type(self).__name__} needs {wanted_files(type(self))} to be built from.")
        self._set_up(self._flagged(settings, build), added_tokens_decoder or {}, build)

    @classmethod
    def build(cls, files: Mapping[str, Path], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
        """For subclasses with `vocabulary_files`: a backend from them, still without its post-processor."""
        raise NotImplementedError(f"{cls.__name__} cannot be built from vocabulary files.")

    def post_processor(self, settings: Mapping[str, Any]) -> processors.PostProcessor:
        """For subclasses with `vocabulary_files`: what adds the special tokens, whose ids are known by now."""
        raise NotImplementedError(f"{type(self).__name__} cannot be built from vocabulary files.")

    def align(self, settings: Mapping[str, Any]):
        """For subclasses: makes a backend agree with settings that it was not built or saved with."""

    def _flagged(self, settings: dict[str, Any], build: bool) -> dict[str, Any]:
        """`settings` with the flags that special tokens get which are plain strings."""
        flags = dict(self.build_flags) if build else {}
        flags |= {name: flags.get(name, {}) | more for name, more in self.token_flags.items()}
        plain = {name: settings[name] for name in flags if isinstance(settings.get(name), str)}
        return settings | {name: AddedToken(token, **flags[name]) for name, token in plain.items()}

    def _set_up(self, settings: dict[str, Any], added_tokens: Mapping[int, AddedToken], build: bool):
        padding, truncation = self._backend.padding or {}, self._backend.truncation or {}
        stored = {"pad_token": padding.get("pad_token"), "padding_side": padding.get("direction")}
        stored["truncation_side"] = truncation.get("direction")
        settings = {name: value for name, value in stored.items() if value is not None} | settings
        self.init_kwargs = settings
        self.name_or_path = str(settings.get("name_or_path", ""))
        limit = settings.get("model_max_length", settings.get("max_len"))
        self.model_max_length = UNLIMITED if limit is None else limit
        self.padding_side = checked("padding_side", settings.get("padding_side", self.padding_side), SIDES)
        self.truncation_side = checked("truncation_side", settings.get("truncation_side", self.truncation_side), SIDES)
        self.model_input_names = list(settings.get("model_input_names") or self.model_input_names)
        self.clean_up_tokenization_spaces = settings.get("clean_up_tokenization_spaces", False)
        self.split_special_tokens = settings.get("split_special_tokens", False)
        self.add_prefix_space = settings.get("add_prefix_space", self.add_prefix_space)
        self.chat_template = named_templates(settings.get("chat_template"))
        self._set_up_special_tokens(settings)
        self._add_missing_tokens(added_tokens)
        if build:
            self._backend.post_processor = self.post_processor(settings)
        if self.add_prefix_space is not None:
            patch(self._backend, "pre_tokenizer", add_prefix_space=self.add_prefix_space)
        self.align(settings)

    def _add_missing_tokens(self, added_tokens: Mapping[int, AddedToken]):
        """Adds the tokens that the settings name and the backend lacks, or has with other flags."""
        present = {token.content: token for token in self.added_tokens_decoder.values()}
        known = {repr(token) for token in present.values()}
        new: list[str | AddedToken] = [token for _, token in sorted(added_tokens.items()) if repr(token) not in known]
        texts = {*self.added_tokens_encoder, *map(str, new)}
        new += [
            token
            for token in self.all_special_tokens_extended
            if token not in new and (isinstance(token, AddedToken) or token not in texts)
        ]
        special = set(self.all_special_tokens)
        tokens = []
        for token in new:
            is_special = str(token) in special or getattr(token, "special", False)
            token = token if isinstance(token, AddedToken) else AddedToken(token, special=is_special)
            flags = token.__getstate__() | {"special": is_special}
            old = present.get(token.content)
            # `normalized` stays as it was in the releases of tokenizers that the reference runs on, before 0.23.
            if old is not None and self._backend.normalizer is not None:
                flags["normalized"] = old.normalized and (old.special or token.normalized)
            tokens.append(AddedToken(**flags))
        self.add_tokens(tokens)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]):
        self.__dict__.update(state, _lock=threading.RLock())

    def __repr__(self) -> str:
        added = "".join(f"\n\t{index}: {token!r}," for index, token in self.added_tokens_decoder.items())
        return (
            f"{type(self).__name__}(name_or_path={self.name_or_path!r}, vocab_size={self.vocab_size}, "
            f"model_max_length={self.model_max_length}, padding_side={self.padding_side!r}, "
            f"truncation_side={self.truncation_side!r}, special_tokens={self.special_tokens_map}, "
            f"clean_up_tokenization_spaces={self.clean_up_tokenization_spaces}, added_tokens_decoder={{{added}\n}})"
        )

    # Reading and writing.

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str], *, config: Any = None, **options: Any) -> Tokenizer:
        """Reads a tokenizer from a folder or a hub repository.

        Args:
            source: a folder or a hub id.
            config: a model's configuration, to choose the class by where the tokenizer's own files do not name it.
            **options: hub options (`revision`, `subfolder`, `token`, `cache_dir`, `local_files_only`,
                `force_download`), and settings that take precedence over the files.

        Returns:
            A tokenizer of this class; called on `Tokenizer` itself, of the class that fits the repository.

        Raises:
            ValueError: the repository has nothing to build a tokenizer from, or a file is damaged.
            OSError: the repository cannot be found or read.
        """
        from keras_models.preprocessing.tokenizer import choose_class  # which knows the subclasses

        hub, overrides = split_options(options)
        for name in ("use_fast", "trust_remote_code"):  # there is one implementation, and no code is ever fetched
            overrides.pop(name, None)
        repository = Repository(source, **hub)
        path = repository.file("tokenizer_config.json")
        stored = read_json(path) if path else {}
        chosen, name = (cls, None) if cls is not Tokenizer else choose_class(repository, stored, config)
        settings = read_settings(repository, stored, overrides)
        files = chosen.find_files(repository)
        vocabulary = [files.get(key) for key in chosen.vocabulary_files]
        if not files["tokenizer_file"] and not (vocabulary and all(vocabulary)):
            raise ValueError(
                f"There is no tokenizer in {repository}: {name or chosen.__name__} needs {wanted_files(chosen)}."
            )
        return chosen(**settings | {"name_or_path": os.fspath(source), "tokenizer_class": name} | files)

    @classmethod
    def find_files(cls, repository: Repository) -> dict[str, Path | None]:
        """Paths, None for missing files, by argument of the constructor: tokenizer.json, or else vocabulary files."""
        path = repository.file("tokenizer.json")
        names = {} if path else cls.vocabulary_files
        return {"tokenizer_file": path, **{key: repository.file(name) for key, name in names.items()}}

    def save_pretrained(self, folder: str | os.PathLike[str]) -> tuple[str, ...]:
        """Writes the tokenizer's files as transformers 4.57 names and reads them, and returns their paths.

        These are tokenizer.json, tokenizer_config.json and special_tokens_map.json, plus chat_template.jinja, further
        templates in additional_chat_templates/, and the plain vocabulary files with added_tokens.json where there are
        any.
        """
        texts = self._vocabulary_texts() if self.vocabulary_files else {}
        with self._lock:
            self._backend.no_padding()
            self._backend.no_truncation()
            texts["tokenizer.json"] = self._backend.to_str(pretty=True)
        texts["special_tokens_map.json"] = _json(written(self.special_tokens_map_extended, with_type=False))
        texts["tokenizer_config.json"] = _json(self._settings())
        texts |= template_files(self.chat_template)
        for name, text in texts.items():
            write_atomically(Path(folder, name), text)
        return tuple(str(Path(folder, name)) for name in texts)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Uploads the tokenizer's files to a hub repository; returns the commit's URL. Options: `hub.push_folder`."""
        return push_saved(self.save_pretrained, repo_id, **options)

    def _settings(self) -> dict[str, Any]:
        """The contents of tokenizer_config.json."""
        settings = {name: getattr(self, name, value) for name, value in self.init_kwargs.items()}
        for name in ("model_max_length", "clean_up_tokenization_spaces", "extra_special_tokens"):
            settings[name] = getattr(self, name)
        settings |= self.special_tokens_map
        settings["tokenizer_class"] = self._stored_class or self.saved_as
        settings.pop("name_or_path", None)
        settings.pop("chat_template", None)
        settings = written(settings)
        added = {str(index): token.__getstate__() for index, token in self.added_tokens_decoder.items()}
        return settings | {"added_tokens_decoder": added}

    def _vocabulary_texts(self) -> dict[str, str]:
        """The plain vocabulary files by name, and added_tokens.json if there are tokens beyond them."""
        with tempfile.TemporaryDirectory() as folder:
            self._backend.model.save(folder)
            texts = {path.name: path.read_text(encoding="utf-8") for path in Path(folder).iterdir()}
        return texts | self._added_tokens_text()

    def _added_tokens_text(self) -> dict[str, str]:
        """added_tokens.json, if there are tokens beyond the vocabulary."""
        added = {text: index for text, index in self.get_added_vocab().items() if index >= self.vocab_size}
        return {"added_tokens.json": _json(added)} if added else {}

    # The vocabulary.

    @property
    def backend_tokenizer(self) -> tokenizers.Tokenizer:
        """The `tokenizers.Tokenizer` at work. Its padding and truncation change with every call."""
        return self._backend

    @property
    def vocab_size(self) -> int:
        """The size of the vocabulary without the added tokens."""
        return self._backend.get_vocab_size(with_added_tokens=False)

    def __len__(self) -> int:
        return self._backend.get_vocab_size(with_added_tokens=True)

    def get_vocab(self) -> dict[str, int]:
        """Ids by token, with the added tokens."""
        return self._backend.get_vocab(with_added_tokens=True)

    vocab = property(get_vocab)

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """The added tokens by id."""
        return dict(sorted(self._backend.get_added_tokens_decoder().items()))

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        """The ids of the added tokens."""
        return {token.content: index for index, token in self.added_tokens_decoder.items()}

    def get_added_vocab(self) -> dict[str, int]:
        """The ids of the added tokens."""
        return self.added_tokens_encoder

    def add_tokens(
        self, new_tokens: str | AddedToken | Sequence[str | AddedToken], special_tokens: bool = False
    ) -> int:
        """Adds tokens that are never split to the vocabulary.

        Args:
            new_tokens: one token or several; an `AddedToken` says how white space around it is treated, and more.
            special_tokens: whether decoding may skip them, and text is not normalized to match them.

        Returns:
            How many were not there before; call `model.resize_token_embeddings(len(tokenizer))` if there were any.

        Raises:
            TypeError: a token is neither a string nor an AddedToken.
        """
        tokens = [new_tokens] if isinstance(new_tokens, (str, AddedToken)) else list(new_tokens)
        wrong = next((token for token in tokens if not isinstance(token, (str, AddedToken))), None)
        if wrong is not None:
            raise TypeError(f"A token must be a string or an AddedToken, not {wrong!r}.")
        with self._lock:
            add = self._backend.add_special_tokens if special_tokens else self._backend.add_tokens
            count = add(tokens) if tokens else 0
            added = self._backend.get_added_tokens_decoder().items()
            self._altered = {i: token for i, token in added if self._backend.id_to_token(i) != token.content}
            return count

    def convert_tokens_to_ids(self, tokens: str | Iterable[str]) -> int | list[int] | None:
        """The id of a token, or those of several; tokens that do not exist have the id of the unknown token, if any."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        index = self._backend.token_to_id(tokens)
        if index is None and self.unk_token is not None:
            index = self._backend.token_to_id(self.unk_token)
        return index

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> str | list[str] | None:
        """The token of an id, or those of several, without special ones if asked; None where there is no such id."""
        ids = to_list(ids)
        if isinstance(ids, int):
            return self._token(ids)
        skipped = set(self.all_special_ids) if skip_special_tokens else set()
        return [self._token(int(index)) for index in ids if int(index) not in skipped]

    def _token(self, index: int) -> str | None:
        return self._altered[index].content if index in self._altered else self._backend.id_to_token(index)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """The text that tokens stand for."""
        decoder = self._backend.decoder
        return decoder.decode(tokens) if decoder is not None else " ".join(tokens)

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> str:
        """The text that token ids stand for.

        Args:
            token_ids: one id or a sequence of ids, as a list or a tensor of any framework.
            skip_special_tokens: leave special tokens out.
            clean_up_tokenization_spaces: remove spaces before punctuation and English contractions; None for the
                tokenizer's own setting.

        Raises:
            TypeError, ValueError: these are no token ids.
        """
        ids = to_list(token_ids)
        ids = [ids] if isinstance(ids, int) else ids
        return self.batch_decode([ids], skip_special_tokens, clean_up_tokenization_spaces)[0]

    def batch_decode(
        self, sequences: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> list[str]:
        """The texts that several sequences of ids stand for; see `decode`."""
        rows = [to_list(row) for row in to_list(sequences)]
        rows = [[row] if isinstance(row, int) else row for row in rows]
        try:
            with self._lock:
                texts = self._backend.decode_batch(rows, skip_special_tokens=skip_special_tokens)
        except OverflowError as error:
            raise ValueError("Token ids cannot be negative: leave out, or replace, values such as -100.") from error
        except TypeError as error:
            raise TypeError(
                "Token ids must be integers: decode() takes one sequence, batch_decode() several."
            ) from error
        clean = clean_up_tokenization_spaces
        clean = self.clean_up_tokenization_spaces if clean is None else clean
        for number, row in enumerate(rows if self._altered else ()):
            if not self._altered.keys().isdisjoint(row):
                added = self._backend.get_added_tokens_decoder() if skip_special_tokens else {}
                tokens = [self._token(index) for index in row if not (index in added and added[index].special)]
                texts[number] = self.convert_tokens_to_string([token for token in tokens if token is not None])
        texts = [self._finish_text(text) for text in texts]
        return [self.clean_up_tokenization(text) for text in texts] if clean else texts

    def _finish_text(self, text: str) -> str:
        """For subclasses: decoded text as it leaves the decoder, tidied."""
        return text

    @staticmethod
    def clean_up_tokenization(text: str) -> str:
        """Removes the spaces before punctuation and English contractions that splitting leaves behind."""
        for each in _CLEAN_UP:
            text = text.replace(each, each.strip())
        return text

    def train_new_from_iterator(
        self,
        text_iterator: Iterable[str] | Iterable[list[str]],
        vocab_size: int,
        length: int | None = None,
        new_special_tokens: Sequence[str | AddedToken] | None = None,
        special_tokens_map: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Tokenizer:
        """A tokenizer that works like this one, with a vocabulary learned from texts.

        Args:
            text_iterator: texts, or lists of texts.
            vocab_size: the size of the new vocabulary, special tokens included.
            length: the number of items in `text_iterator`, for the progress bar.
            new_special_tokens: special tokens to have besides those of this tokenizer.
            special_tokens_map: new texts of special tokens, by their present text.
            **options: arguments of the trainer in `tokenizers`, such as `min_frequency`.
        """
        renamed, new = dict(special_tokens_map or {}), list(new_special_tokens or [])
        backend = retrain(self._backend, text_iterator, vocab_size, length, new, renamed, options)
        settings = dict(self.init_kwargs)
        for name in SPECIAL_TOKENS:
            token = self._special[name]
            if str(token) in renamed:
                flags = token.__getstate__() if isinstance(token, AddedToken) else {}
                text = renamed[str(token)]
                token = AddedToken(**flags | {"content": text}) if flags else text
            settings[name] = token
        settings["additional_special_tokens"] = [*self._special["additional_special_tokens"], *new]
        return type(self)(tokenizer_object=backend, **settings)


def wanted_files(tokenizer: type[Tokenizer]) -> str:
    """The files that a class of tokenizers can be built from, in words."""
    vocabulary = " with ".join(tokenizer.vocabulary_files.values())
    return f"tokenizer.json, or {vocabulary}" if vocabulary else "tokenizer.json"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
