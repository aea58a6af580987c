"""Tokenizer files: settings gathered from a repository, and backends built from plain vocabularies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from keras_models.config import read_json
from keras_models.hub import Repository
from keras_models.preprocessing.chat import read_templates
from keras_models.preprocessing.special_tokens import MORE_SPECIAL_TOKENS, SPECIAL_TOKENS

# What old files record about their own making.
_NOT_SETTINGS = (
    "tokenizer_class",
    "tokenizer_file",
    "special_tokens_map_file",
    "name_or_path",
    "init_inputs",
    "auto_map",
)
_CLIP_MERGES = 49152 - 256 - 2  # what follows in CLIP's merges.txt is not used


def read_settings(repository: Repository, config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """All that the files of a repository say about a tokenizer besides its vocabulary.

    Args:
        repository: where special_tokens_map.json, added_tokens.json, tokenizer.json and chat templates may lie.
        config: the contents of tokenizer_config.json.
        overrides: settings that take precedence over the files.

    Returns:
        Settings for a tokenizer's constructor, special tokens as strings or AddedToken and `added_tokens_decoder` as
        {id: AddedToken}.
    """
    settings = {name: _revived(value) for name, value in config.items() if name not in _NOT_SETTINGS}
    templates = read_templates(repository)
    if templates is not None:
        settings["chat_template"] = templates
    if "added_tokens_decoder" in settings:
        added = {int(index): _token(token) for index, token in settings["added_tokens_decoder"].items()}
        flags = {str(token): token for token in added.values()}
        settings |= overrides
    else:  # files older than this key
        settings |= overrides
        settings |= _special_tokens_map(repository, settings, overrides)
        added = _added_tokens(repository, settings)
        in_backend = _tokenizer_json_tokens(repository)
        flags = {str(token): token for token in in_backend.values()}
        added |= in_backend
    for name in SPECIAL_TOKENS:
        if settings.get(name) is not None:
            settings[name] = flags.get(str(settings[name]), settings[name])
    return settings | {"added_tokens_decoder": added}


def load_backend(path: Path) -> tokenizers.Tokenizer:
    """Reads a tokenizer.json.

    Raises:
        ValueError: it is damaged, or newer than the installed tokenizers library.
    """
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more specific
        raise ValueError(
            f"{path} cannot be read as a tokenizer.json ({error}); download it again, or update the tokenizers library."
        ) from error


def wordpiece(files: Mapping[str, Path], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """BERT's tokenizer from a vocab.txt with one token a line."""
    with open(files["vocab_file"], encoding="utf-8") as lines:  # not splitlines(), which splits at more than line ends
        vocabulary = {line.rstrip("\n"): index for index, line in enumerate(lines)}
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=str(settings["unk_token"])))
    backend.normalizer = normalizers.BertNormalizer(
        handle_chinese_chars=settings["tokenize_chinese_chars"],
        strip_accents=settings["strip_accents"],
        lowercase=settings["do_lower_case"],
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    return backend


def byte_level_bpe(files: Mapping[str, Path], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """GPT-2's and RoBERTa's tokenizer from vocab.json and merges.txt."""
    vocabulary, merges = read_json(files["vocab_file"]), _merges(files["merges_file"])
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix=""))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=settings["add_prefix_space"])
    backend.decoder = decoders.ByteLevel()
    return backend


def clip_bpe(files: Mapping[str, Path], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """CLIP's lower-casing tokenizer from vocab.json and merges.txt."""
    vocabulary, merges = read_json(files["vocab_file"]), _merges(files["merges_file"])[:_CLIP_MERGES]
    affixes = {"continuing_subword_prefix": "", "end_of_word_suffix": "</w>", "unk_token": str(settings["unk_token"])}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges, **affixes))
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def patch(backend: tokenizers.Tokenizer, component: str, **changes: Any):
    """Changes options of a backend's normalizer, pre_tokenizer or post_processor, those of them that it has."""
    part = getattr(backend, component)
    state = json.loads(part.__getstate__()) if part is not None else {}
    if any(name in state and state[name] != value for name, value in changes.items()):
        state |= {name: value for name, value in changes.items() if name in state}
        part.__setstate__(json.dumps(state).encode())
        setattr(backend, component, part)


def written(value: Any, with_type: bool = True) -> Any:
    """`value` for a JSON file, with AddedTokens as dictionaries, in lists and dictionaries too."""
    if isinstance(value, AddedToken):
        state = value.__getstate__()
        # special_tokens_map.json has never held these two.
        return state | {"__type": "AddedToken"} if with_type else {k: v for k, v in state.items() if k != "special"}
    if isinstance(value, (list, tuple)):
        return [written(each, with_type) for each in value]
    if isinstance(value, dict):
        return {name: written(each, with_type) for name, each in value.items()}
    return value


def _merges(path: Path) -> list[tuple[str, ...]]:
    lines = path.read_text(encoding="utf-8").split("\n")[1:-1]  # the first line is the version, the last is empty
    merges = [tuple(line.split()) for line in lines]
    wrong = next((number for number, merge in enumerate(merges, start=2) if len(merge) != 2), None)
    if wrong is not None:
        raise ValueError(f"Line {wrong} of {path} should hold two tokens, not {lines[wrong - 2]!r}; download it again.")
    return merges


def _token(token: dict[str, Any] | AddedToken, **flags: Any) -> AddedToken:
    """An AddedToken of what a JSON file holds of it."""
    if isinstance(token, AddedToken):
        return token
    return AddedToken(**{name: value for name, value in token.items() if name not in ("__type", "id")} | flags)


def _revived(value: Any) -> Any:
    """`value` with the dictionaries that stand for an AddedToken replaced by one."""
    if isinstance(value, dict):
        if value.get("__type") == "AddedToken":
            return _token(value)
        return {name: _revived(each) for name, each in value.items()}
    return [_revived(each) for each in value] if isinstance(value, list) else value


def _special_tokens_map(
    repository: Repository, settings: Mapping[str, Any], overrides: Mapping[str, Any]
) -> dict[str, Any]:
    path = repository.file("special_tokens_map.json")
    tokens = {}
    for name, value in (read_json(path) if path else {}).items():
        if overrides.get(name):
            continue
        if name == MORE_SPECIAL_TOKENS and isinstance(value, list):
            present = list(settings.get(name) or [])
            value = [_token(each, special=True) if isinstance(each, dict) else each for each in value]
            value = present + [each for each in value if each not in present]
        elif isinstance(value, dict):
            value = _token(value, special=True)
        tokens[name] = value
    return tokens


def _added_tokens(repository: Repository, settings: Mapping[str, Any]) -> dict[int, AddedToken]:
    path = repository.file("added_tokens.json")
    special = {str(settings[name]) for name in SPECIAL_TOKENS if settings.get(name) is not None}
    special |= {str(token) for token in settings.get(MORE_SPECIAL_TOKENS) or []}
    entries = (read_json(path) if path else {}).items()
    return {i: AddedToken(text, normalized=text not in special, special=text in special) for text, i in entries}


def _tokenizer_json_tokens(repository: Repository) -> dict[int, AddedToken]:
    path = repository.file("tokenizer.json")
    tokens = read_json(path).get("added_tokens", []) if path else []
    return {token["id"]: _token(token) for token in tokens}
