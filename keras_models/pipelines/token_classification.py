"""Token classification: labels for the words of a text, such as the names of persons and places in it."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_models.pipelines.base import Pipeline, Row, one_of, softmax, text_of
from keras_models.preprocessing.batch_encoding import BatchEncoding

STRATEGIES = ("none", "simple", "first", "average", "max")
_OF_WORDS = STRATEGIES[2:]


class Token(NamedTuple):
    """A token with its place in the text, and the probability of each label."""

    word: str
    start: int
    end: int
    index: int
    continues: bool  # the word that the token before it is of
    scores: np.ndarray


class TokenClassificationPipeline(Pipeline):
    """Finds entities, such as names, in a text.

    Options:
        aggregation_strategy: "none" gives an entity for each token; the others join neighbours of one label to one:
            "simple" looks at tokens, while "first", "average" and "max" give all tokens of a word one label, by the
            first token, the average of its tokens, or the surest of them. Words are exact for tokenizers that mark
            continued words, such as BERT's, and told by spaces for others.
        ignore_labels: labels to leave out; ["O"] by default.
        stride: read a long text to its end, in pieces that share this many tokens; without it, it is cut.
        is_split_into_words: texts are lists of words.
        delimiter: what to put between these words, for `start` and `end`; a space by default.
        grouped_entities, ignore_subwords: older ways to choose "simple" and "first".

    Returns a list of {"entity", "score", "index", "word", "start", "end"} for a text, with an aggregation strategy of
    {"entity_group", "score", "word", "start", "end"}.
    """

    heads = ("token-classification",)

    def __call__(self, inputs: Any, **options: Any) -> Any:
        split = {**self.options, **options}.get("is_split_into_words")
        if split and isinstance(inputs, (list, tuple)) and not all(isinstance(each, (list, tuple)) for each in inputs):
            inputs = [inputs]
        return super().__call__(inputs, **options)

    def normalize(self, item: Any, where: str) -> str | list[str]:
        if not isinstance(item, (list, tuple)):
            return text_of(item, where, self)
        if not item:
            raise ValueError(f"{where} is an empty list of words: give {self.task} some.")
        wrong = next((number for number, word in enumerate(item) if not isinstance(word, str)), None)
        if wrong is not None:
            raise TypeError(f"{where}[{wrong}] must be a word, not {type(item[wrong]).__name__}.")
        return list(item)

    def rename(self, options: dict[str, Any]) -> dict[str, Any]:
        grouped, first = options.pop("grouped_entities", None), options.pop("ignore_subwords", None)
        if grouped is not None or first is not None:
            strategy = ("first" if first else "simple") if grouped else "none"
            warnings.warn(
                f"grouped_entities and ignore_subwords are deprecated: use aggregation_strategy={strategy!r}."
            )
            options["aggregation_strategy"] = strategy
        return {name: value for name, value in options.items() if value is not None}

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        if "aggregation_strategy" in options:
            options["aggregation_strategy"] = one_of(
                "aggregation_strategy", options["aggregation_strategy"], STRATEGIES
            )
        if "stride" in options:
            if options.get("aggregation_strategy") == "none":
                raise ValueError("stride needs an aggregation_strategy other than 'none', to join what pieces share.")
            if self.limit is not None and options["stride"] >= self.limit:
                raise ValueError(f"stride={options['stride']} must be less than the {self.limit} tokens of a piece.")
        return options

    def preprocess(
        self,
        item: str | list[str],
        *,
        stride: int | None = None,
        is_split_into_words: bool = False,
        delimiter: str = " ",
    ) -> Iterator[Row]:
        if is_split_into_words == isinstance(item, str):
            wrong, right = ("a string", "a list of words") if is_split_into_words else ("a list of words", "a string")
            raise TypeError(f"With is_split_into_words={is_split_into_words}, a text must be {right}, not {wrong}.")
        pieces = {} if stride is None else {"return_overflowing_tokens": True, "stride": stride}
        encoding = self.encode(
            item,
            truncation=self.limit is not None,
            is_split_into_words=is_split_into_words,
            return_special_tokens_mask=True,
            return_offsets_mapping=True,
            **pieces,
        )
        text = delimiter.join(item) if is_split_into_words else item
        starts = _word_starts(item, delimiter) if is_split_into_words else None
        for index in range(len(encoding["input_ids"])):
            yield self.row(encoding, index, (text, _places(encoding, index, starts)))

    def postprocess(
        self,
        item: str | list[str],
        rows: list[Row],
        *,
        aggregation_strategy: str = "none",
        ignore_labels: Sequence[str] = ("O",),
    ) -> list[dict[str, Any]]:
        entities = []
        for row in rows:
            tokens = self._tokens(row)
            if aggregation_strategy in _OF_WORDS:
                found = [self._word_entity(word, aggregation_strategy) for word in _words(tokens)]
            else:
                found = [self._token_entity(token) for token in tokens]
            if aggregation_strategy != "none":
                found = [self._group_entity(group) for group in _groups(found)]
            entities += [each for each in found if each.get("entity", each.get("entity_group")) not in ignore_labels]
        return entities if len(rows) == 1 else _without_overlaps(entities)

    def _tokens(self, row: Row) -> list[Token]:
        text, places = row.facts
        scores = softmax(row.outputs["logits"])
        marked = bool(getattr(self.tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None))
        tokens = []
        for index, start, end in places:
            token = row.inputs["input_ids"][index]
            word, in_text = self.tokenizer.convert_ids_to_tokens(token), text[start:end]
            # A mark makes a token longer than what it stands for. Without marks, words end at spaces.
            continues = len(word) != len(in_text) if marked else start > 0 and " " not in text[start - 1 : start + 1]
            if token == self.tokenizer.unk_token_id:
                word, continues = in_text, False
            tokens.append(Token(word, start, end, index, continues, scores[index]))
        return tokens

    def _label(self, scores: np.ndarray) -> dict[str, Any]:
        best = int(scores.argmax())
        return {"entity": self.model.config.id2label[best], "score": float(scores[best])}

    def _token_entity(self, token: Token) -> dict[str, Any]:
        place = {"index": token.index, "word": token.word, "start": token.start, "end": token.end}
        return self._label(token.scores) | place

    def _word_entity(self, tokens: list[Token], strategy: str) -> dict[str, Any]:
        if strategy == "average":
            scores = np.mean([token.scores for token in tokens], axis=0)
        else:
            chosen = tokens[0] if strategy == "first" else max(tokens, key=lambda token: token.scores.max())
            scores = chosen.scores
        word = self.tokenizer.convert_tokens_to_string([token.word for token in tokens])
        return self._label(scores) | {"word": word, "start": tokens[0].start, "end": tokens[-1].end}

    def _group_entity(self, entities: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "entity_group": entities[0]["entity"].split("-", 1)[-1],
            "score": float(np.mean([entity["score"] for entity in entities])),
            "word": self.tokenizer.convert_tokens_to_string([entity["word"] for entity in entities]),
            "start": entities[0]["start"],
            "end": entities[-1]["end"],
        }


def _word_starts(words: list[str], delimiter: str) -> list[int]:
    """Where each word starts in the text that the words make with a delimiter between them."""
    return [0, *itertools.accumulate(len(word) + len(delimiter) for word in words)]


def _places(encoding: BatchEncoding, row: int, word_starts: list[int] | None) -> list[tuple[int, int, int]]:
    """(index, start, end) of the tokens that stand for a part of the text, in a row of an encoding."""
    places = []
    for index, (start, end) in enumerate(encoding["offset_mapping"][row]):
        if not encoding["special_tokens_mask"][row][index]:
            shift = 0 if word_starts is None else word_starts[encoding.word_ids(row)[index]]
            places.append((index, start + shift, end + shift))
    return places


def _words(tokens: list[Token]) -> list[list[Token]]:
    words: list[list[Token]] = []
    for token in tokens:
        if words and token.continues:
            words[-1].append(token)
        else:
            words.append([token])
    return words


def _groups(entities: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Runs of neighbours with one label; a B- starts a new run, and an I- without one before it as well."""
    groups: list[list[dict[str, Any]]] = []
    for entity in entities:
        begins, tag = _tag(entity["entity"])
        if groups and not begins and tag == _tag(groups[-1][-1]["entity"])[1]:
            groups[-1].append(entity)
        else:
            groups.append([entity])
    return groups


def _tag(label: str) -> tuple[bool, str]:
    """Whether a label says that an entity begins, and the label without its B- or I-."""
    return label.startswith("B-"), label[2:] if label.startswith(("B-", "I-")) else label


def _without_overlaps(entities: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entities of pieces that share tokens: of those that overlap, the longest, then the surest."""
    kept: list[dict[str, Any]] = []
    for entity in sorted(entities, key=lambda each: each["start"]):
        if not kept or entity["start"] >= kept[-1]["end"]:
            kept.append(entity)
        elif _weight(entity) > _weight(kept[-1]):
            kept[-1] = entity
    return kept


def _weight(entity: dict[str, Any]) -> tuple[int, float]:
    return entity["end"] - entity["start"], entity["score"]
