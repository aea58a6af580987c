"""Learning a new vocabulary for an existing tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import AddedToken, pre_tokenizers, trainers

_TRAINERS = {
    "BPE": trainers.BpeTrainer,
    "Unigram": trainers.UnigramTrainer,
    "WordLevel": trainers.WordLevelTrainer,
    "WordPiece": trainers.WordPieceTrainer,
}


def retrain(
    backend: tokenizers.Tokenizer,
    texts: Iterable[Any],
    vocab_size: int,
    length: int | None,
    new_special_tokens: Sequence[str | AddedToken],
    renamed: Mapping[str, str],
    options: Mapping[str, Any],
) -> tokenizers.Tokenizer:
    """A copy of `backend` with a vocabulary learned from `texts`; see `Tokenizer.train_new_from_iterator`."""
    state = json.loads(backend.to_str())
    added, post_processor = state.pop("added_tokens"), state.pop("post_processor")
    model = state["model"]
    options = {**_trainer_options(state, renamed), **options}
    _empty(model, renamed)
    special = [
        AddedToken(**_renamed(token, renamed)) for token in added if token["special"] or model["type"] == "Unigram"
    ]
    special += new_special_tokens
    trained = tokenizers.Tokenizer.from_str(json.dumps(state))
    trainer = _TRAINERS[model["type"]](vocab_size=vocab_size, special_tokens=special, **options)
    trained.train_from_iterator(texts, trainer=trainer, length=length)
    if post_processor is None:
        return trained
    _point_to_new_ids(post_processor, trained, renamed)
    return tokenizers.Tokenizer.from_str(json.dumps(json.loads(trained.to_str()) | {"post_processor": post_processor}))


def _renamed(token: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """An added token as its flags and new text; that it is special is for the trainer to say."""
    flags = {name: value for name, value in token.items() if name not in ("id", "special")}
    return flags | {"content": renamed.get(token["content"], token["content"])}


def _trainer_options(state: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """What a trainer has to know of the tokenizer it trains for."""
    model, options = state["model"], {}
    if model["type"] == "BPE":
        affixes = ("continuing_subword_prefix", "end_of_word_suffix")
        options |= {name: model[name] for name in affixes if model.get(name) is not None}
    if model["type"] == "Unigram" and model["unk_id"] is not None:
        unknown = model["vocab"][model["unk_id"]][0]
        options["unk_token"] = renamed.get(unknown, unknown)
    first = state["pre_tokenizer"] or {}
    if any(each["type"] == "ByteLevel" for each in [first, *first.get("pretokenizers", [])] if each):
        options["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
    return options


def _empty(model: dict[str, Any], renamed: Mapping[str, str]):
    """Takes the vocabulary out of a serialized model."""
    if model["type"] == "Unigram":
        if model["unk_id"] is not None:
            unknown = model["vocab"][model["unk_id"]][0]
            model |= {"unk_id": 0, "vocab": [[renamed.get(unknown, unknown), 0.0]]}
        return
    model["vocab"] = {}
    if model["type"] == "BPE":
        model["merges"] = []
    if model.get("unk_token") in renamed:
        model["unk_token"] = renamed[model["unk_token"]]


def _point_to_new_ids(post_processor: dict[str, Any], trained: tokenizers.Tokenizer, renamed: Mapping[str, str]):
    """Gives a serialized post-processor the new texts and ids of the tokens it adds."""
    for entry in post_processor.get("special_tokens", {}).values():
        entry["tokens"] = [renamed.get(token, token) for token in entry["tokens"]]
        entry["ids"] = [trained.token_to_id(token) for token in entry["tokens"]]
    for name in ("cls", "sep"):
        if name in post_processor:
            token = renamed.get(post_processor[name][0], post_processor[name][0])
            post_processor[name] = [token, trained.token_to_id(token)]
