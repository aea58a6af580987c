"""SentencePiece models: the files read without the sentencepiece library, and the tokenizers built from them."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from keras_models.hub import Repository
from keras_models.preprocessing.tokenizer_base import Tokenizer

SPACE = "▁"  # stands for a space in pieces
_CONTROL, _USER_DEFINED = 3, 4  # kinds of pieces that are never found by splitting words
_UNIGRAM, _BPE = 1, 2


@dataclass(frozen=True)
class SentencePieceModel:
    """What a SentencePiece model file holds, as far as tokenizers depend on it."""

    pieces: list[tuple[str, float]]  # texts and scores, by id
    kinds: list[int]  # of the pieces
    is_bpe: bool
    unk_id: int
    unk_piece: str
    charsmap: bytes  # the normalization of characters, compiled


def read_model(path: Path) -> SentencePieceModel:
    """Reads a SentencePiece model file, such as spiece.model or tokenizer.model.

    Raises:
        ValueError: it is damaged, something else, or of a kind other than Unigram and BPE.
    """
    try:
        return _parsed(path.read_bytes())
    except (ValueError, TypeError, LookupError, AttributeError, struct.error) as error:
        raise ValueError(
            f"{path} cannot be read as a SentencePiece model of the kind Unigram or BPE ({error}); download it again."
        ) from error


def _parsed(data: bytes) -> SentencePieceModel:
    # The numbers are those of sentencepiece_model.proto, and the values the defaults it gives.
    pieces, kinds = [], []
    trainer: dict[int, Any] = {3: _UNIGRAM, 40: 0, 45: b"<unk>"}  # model_type, unk_id, unk_piece
    normalizer: dict[int, Any] = {2: b""}  # precompiled_charsmap
    numbers = set()
    for number, value in _fields(data):
        if number == 1:
            piece = {2: b"\0\0\0\0", 3: 1, **dict(_fields(value))}  # text, score, kind
            pieces.append((piece[1].decode(), struct.unpack("<f", piece[2])[0]))
            kinds.append(piece[3])
        elif number in (2, 3):
            (trainer if number == 2 else normalizer).update(_fields(value))
        numbers.add(number)
    if not {1, 2} <= numbers:
        raise ValueError("there are no pieces in it, or nothing about their training")
    if trainer[3] not in (_UNIGRAM, _BPE):
        raise ValueError(f"its model_type is {trainer[3]}")
    return SentencePieceModel(pieces, kinds, trainer[3] == _BPE, trainer[40], trainer[45].decode(), normalizer[2])


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message in protobuf's wire format: their numbers, and integers or raw bytes."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
        elif kind in (1, 2, 5):
            size, at = (8, at) if kind == 1 else (4, at) if kind == 5 else _varint(message, at)
            value, at = message[at : at + size], at + size
            if at > end:
                raise ValueError("it ends too early")
        else:
            raise ValueError(f"there is no field of type {kind}")
        yield key >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """An integer of 7 bits a byte, lowest first, and where the next field starts."""
    value = 0
    for shift in range(0, 70, 7):  # ten bytes at most
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("there is an integer of more than ten bytes")


def t5(files: Mapping[str, Path], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """T5's tokenizer from a SentencePiece model; `extra_ids` sentinels count down to the end of the vocabulary."""
    model = read_model(files["vocab_file"])
    sentinels = [(f"<extra_id_{index}>", 0.0) for index in reversed(range(settings["extra_ids"]))]
    return _spaced(_backend(model, model.pieces + sentinels, model.unk_id), model, _prepend_scheme(settings))


def xlm_roberta(files: Mapping[str, Path], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """XLM-RoBERTa's tokenizer from a SentencePiece model, whose first three pieces give way to fairseq's four."""
    model = read_model(files["vocab_file"])
    first = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    return _spaced(_backend(model, [*first, *model.pieces[3:], ("<mask>", 0.0)], unk_id=3), model, "always")


def llama(files: Mapping[str, Path], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """Llama's tokenizer from a SentencePiece model: what is in no piece becomes bytes, and spaces are all kept."""
    model = read_model(files["vocab_file"])
    pieces = [(text, 0.0) for text, _ in model.pieces[:3]] + model.pieces[3:]
    backend = _backend(model, pieces, unk_id=0, byte_fallback=True)
    scheme = _prepend_scheme(settings)
    if settings["legacy"]:
        prefix = [normalizers.Prepend(SPACE)] if scheme != "never" else []
        backend.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", SPACE)])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme=scheme, split=False)
    strip = [decoders.Strip(" ", 1, 0)] if scheme != "never" else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return backend


def siglip(files: Mapping[str, Path], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """SigLIP's tokenizer from a SentencePiece model: lower case (`do_lower_case`), no ASCII punctuation."""
    model = read_model(files["vocab_file"])
    backend = tokenizers.Tokenizer(models.Unigram(model.pieces, model.unk_id))
    lower = [normalizers.Lowercase()] if settings["do_lower_case"] else []
    spaces, punctuation = r"\s\x1c-\x1f", r"!-/:-@\[-`{-~"
    replacements = [  # the space put at the start is how the pre-tokenizer knows it for the start
        (SPACE, " "), (Regex(f"^[{spaces}{punctuation}]+"), " "), (Regex(f"[{punctuation}]"), ""),
        (Regex(f"[{spaces}]+"), " "),
    ]  # fmt: skip
    characters = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    end = [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip(left=False, right=True)]
    steps = [normalizers.Replace(*each) for each in replacements]
    backend.normalizer = normalizers.Sequence([*lower, *steps, *characters, *end])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="first")
    backend.decoder = decoders.Metaspace(SPACE, prepend_scheme="first")
    return backend


def _prepend_scheme(settings: Mapping[str, Any]) -> str:
    """Where a space is put before text: nowhere, at the start, or (`legacy`) after each added token too."""
    if not settings.get("add_prefix_space", True):
        return "never"
    return "always" if settings["legacy"] else "first"


def _spaced(backend: tokenizers.Tokenizer, model: SentencePieceModel, scheme: str) -> tokenizers.Tokenizer:
    """`backend` with a model's own normalization of characters and SentencePiece's treatment of spaces."""
    characters = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    spaces = [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), SPACE)]
    backend.normalizer = normalizers.Sequence(characters + spaces)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme=scheme)
    backend.decoder = decoders.Metaspace(SPACE, prepend_scheme=scheme)
    return backend


def _backend(
    model: SentencePieceModel, pieces: list[tuple[str, float]], unk_id: int, byte_fallback: bool = False
) -> tokenizers.Tokenizer:
    """A backend that splits by `pieces`, the model's with changes, and knows the model's pieces that are tokens."""
    if model.is_bpe:
        ids = {piece: index for index, (piece, _) in enumerate(pieces)}
        merges = _merges(dict(pieces), {piece for piece, _ in model.pieces})
        options = {"unk_token": model.unk_piece, "fuse_unk": True, "byte_fallback": byte_fallback}
        backend = tokenizers.Tokenizer(models.BPE(ids, merges, **options))
    else:
        backend = tokenizers.Tokenizer(models.Unigram(pieces, unk_id, byte_fallback))
    named = [(text, kind) for (text, _), kind in zip(model.pieces, model.kinds, strict=True)]
    backend.add_tokens(
        [
            AddedToken(text, normalized=False, special=kind == _CONTROL)
            for text, kind in named
            if kind in (_CONTROL, _USER_DEFINED)
        ]
    )
    return backend


def _merges(scores: Mapping[str, float], known: set[str]) -> list[tuple[str, str]]:
    """The pairs of pieces that make up a piece, those of high score first, then those with a long first part."""
    merges = [
        (piece[:cut], piece[cut:], score)
        for piece, score in scores.items()
        for cut in range(1, len(piece))
        if piece[:cut] in known and piece[cut:] in known
    ]
    merges.sort(key=lambda merge: (merge[2], len(merge[0]), len(merge[1])), reverse=True)
    return [(left, right) for left, right, _ in merges]


class SentencePieceTokenizer(Tokenizer):
    """A tokenizer made from a SentencePiece model, which stays beside tokenizer.json when it is saved.

    Args:
        *files: path of the model file (`vocab_file`).
        tokenizer_file: path of a tokenizer.json, used as it is unless `from_slow` or `add_prefix_space` is set.
        from_slow: build from the model file even if there is a tokenizer.json.
        add_prefix_space: whether a space is put before texts, by default yes. With tokenizer.json None stands for what
            that says; without it, as in the reference, for no.
        legacy: whether text after an added token gets that space too; for tokenizers built from the model file.
        **settings: see `Tokenizer`.

    Raises:
        ValueError: see `Tokenizer`, and where `from_slow` or `add_prefix_space` needs a model file that is not there.
    """

    build_flags: ClassVar = {f"{name}_token": {"special": True} for name in ("bos", "eos", "unk", "pad")}
    model_input_names = ["input_ids", "attention_mask"]

    def __init__(
        self,
        *files: str | os.PathLike[str],
        tokenizer_object: tokenizers.Tokenizer | None = None,
        tokenizer_file: str | os.PathLike[str] | None = None,
        from_slow: bool = False,
        **settings: Any,
    ):
        path = files[0] if files else settings.get("vocab_file")
        self.vocab_file = Path(path) if path else None
        prefix = settings.get("add_prefix_space")
        if settings.get("legacy", True) is None:
            del settings["legacy"]
        if (from_slow or prefix is not None) and path:
            tokenizer_file = None
        elif from_slow:
            raise ValueError(f"{type(self).__name__} needs {self._model_name()} to be built with from_slow=True.")
        super().__init__(*files, tokenizer_object=tokenizer_object, tokenizer_file=tokenizer_file, **settings)
        if tokenizer_file is not None and prefix is not None and prefix != self._prefixes():
            raise ValueError(
                f"add_prefix_space={prefix} does not fit {tokenizer_file}: put {self._model_name()} beside it, from "
                "which it can be built anew, or leave add_prefix_space out."
            )

    @classmethod
    def find_files(cls, repository: Repository) -> dict[str, Path | None]:
        names = {"tokenizer_file": "tokenizer.json", **cls.vocabulary_files}
        return {key: repository.file(name) for key, name in names.items()}

    @classmethod
    def _model_name(cls) -> str:
        return cls.vocabulary_files["vocab_file"]

    def _prefixes(self) -> bool:
        return self._backend.encode("a", add_special_tokens=False).tokens[0].startswith(SPACE)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> tuple[str, ...]:
        """Writes the tokenizer's files, see `Tokenizer.save_pretrained`, and the SentencePiece model if it is there."""
        written = super().save_pretrained(folder)
        if not self._has_model():
            return written
        copy = Path(folder, self._model_name())
        if not (copy.exists() and copy.samefile(self.vocab_file)):
            shutil.copyfile(self.vocab_file, copy)
        return (*written, str(copy))

    def _has_model(self) -> bool:
        return self.vocab_file is not None and self.vocab_file.is_file()

    def _settings(self) -> dict[str, Any]:
        settings = super()._settings()
        if self._has_model():  # the reference's slow tokenizers can read it then
            settings["tokenizer_class"] = settings["tokenizer_class"].removesuffix("Fast")
        return settings

    def _vocabulary_texts(self) -> dict[str, str]:
        return self._added_tokens_text() if self._has_model() else {}
