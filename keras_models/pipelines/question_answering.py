"""Question answering: the part of a text that answers a question."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Encoding

from keras_models.pipelines.base import Pipeline, Row, positive, softmax


class Example(NamedTuple):
    """A question, and the text to look for the answer in."""

    question: str
    context: str


class QuestionAnsweringPipeline(Pipeline):
    """Answers questions with parts of texts. Long texts are read in pieces that overlap.

    Takes `question=` and `context=`, each a string or both lists, or one context for several questions; or
    dictionaries of the two. Options:
        top_k: how many answers to return, if there are as many; 1 by default.
        max_answer_len: of an answer, in tokens; 15 by default.
        max_seq_len: of a piece with its question, in tokens; 384 by default, or as many as the model takes.
        doc_stride: how many tokens a piece shares with the next; 128 by default, or half of max_seq_len.
        max_question_len: cut questions to this many tokens; by default they stay whole.
        padding: the tokenizer's, if rows are to have one length.
        handle_impossible_answer: let the empty answer compete with the others.
        align_to_words: answers begin and end where words do; True by default.

    Returns {"score", "start", "end", "answer"} for a question, a list of them if there are several; start and end count
    the characters of the context. A list of one question gives what the question alone would.
    """

    heads = ("question-answering",)
    takes = 'a question with its context, as in {"question": ..., "context": ...},'
    shorten = "pass a smaller max_seq_len"

    def __call__(self, *inputs: Any, question: Any = None, context: Any = None, **options: Any) -> Any:
        if inputs and (question is not None or context is not None):
            raise TypeError("Pass question= and context= alone, without inputs before them.")
        if not inputs:
            inputs = ({"question": question, "context": context},)
        if len(inputs) == 2 and all(isinstance(each, str) for each in inputs):
            inputs = ({"question": inputs[0], "context": inputs[1]},)
        items = inputs[0] if len(inputs) == 1 else list(inputs)
        if isinstance(items, Mapping):
            items = _spread(items)
        if isinstance(items, (list, tuple)) and len(items) == 1:
            items = items[0]
        return super().__call__(items, **options)

    def normalize(self, item: Any, where: str) -> Example:
        if isinstance(item, Mapping):
            missing = [key for key in Example._fields if item.get(key) is None]
            if missing:
                raise ValueError(
                    f"{where} lacks {' and '.join(missing)}: question answering needs a question and a context."
                )
            item = Example(item["question"], item["context"])
        elif hasattr(item, "question_text") and hasattr(item, "context_text"):  # a SquadExample
            item = Example(item.question_text, item.context_text)
        if not isinstance(item, Example):
            raise TypeError(f"{where} must be {self.takes} not {type(item).__name__}.")
        for name, text in item._asdict().items():
            if not isinstance(text, str):
                raise TypeError(f"{name} of {where} must be a string, not {type(text).__name__}.")
            if not text.strip():
                raise ValueError(
                    f"{name} of {where} is an empty string: question answering needs a question and a context."
                )
        return item

    def rename(self, options: dict[str, Any]) -> dict[str, Any]:
        options = {name: value for name, value in options.items() if value is not None}
        if "topk" in options:
            warnings.warn("topk is deprecated: use top_k.")
            options.setdefault("top_k", options.pop("topk"))
        return options

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        for name in ("top_k", "max_answer_len", "max_seq_len", "max_question_len"):
            if name in options:
                positive(name, options[name])
        return options

    def preprocess(
        self,
        item: Example,
        *,
        padding: bool | str = False,
        doc_stride: int | None = None,
        max_question_len: int | None = None,
        max_seq_len: int | None = None,
    ) -> Iterator[Row]:
        length = max_seq_len or min(self.limit or 384, 384)
        stride = min(length // 2, 128) if doc_stride is None else doc_stride
        if stride > length:
            raise ValueError(f"doc_stride={stride} must not be larger than max_seq_len={length}.")
        question = item.question if max_question_len is None else self._shortened(item.question, max_question_len)
        # Whatever comes second is cut into pieces, and padding must not part the two.
        context = self._context_sequence
        pair = (question, item.context) if context == 1 else (item.context, question)
        encoding = self.encode(
            *pair,
            padding=padding,
            truncation="only_second" if context == 1 else "only_first",
            max_length=length,
            stride=stride,
            return_overflowing_tokens=True,
        )
        for index in range(len(encoding["input_ids"])):
            yield self.row(encoding, index, encoding[index])

    @property
    def _context_sequence(self) -> int:
        """Which of a pair of texts the context is: 1, the second, unless padding goes to the left."""
        return 1 if self.tokenizer.padding_side == "right" else 0

    def _shortened(self, question: str, length: int) -> str:
        offsets = self.tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return question if len(offsets) <= length else question[: offsets[length - 1][1]]

    def postprocess(
        self,
        item: Example,
        rows: list[Row],
        *,
        top_k: int = 1,
        handle_impossible_answer: bool = False,
        max_answer_len: int = 15,
        align_to_words: bool = True,
    ) -> dict[str, Any] | list[dict[str, Any]]:
        # Answers that become equal by aligning them are joined, so there have to be more at first.
        count = 2 * top_k + 10 if align_to_words else top_k
        answers: dict[str, dict[str, Any]] = {}
        null_score = np.inf
        for row in rows:
            start, end, score_of_none = self._probabilities(row)
            null_score = min(null_score, score_of_none)
            for first, last, score in _best_spans(start, end, count, max_answer_len):
                place = self._characters(row.facts, first, last, align_to_words)
                text = item.context[slice(*place)]
                answer = {"score": 0.0, "start": place[0], "end": place[1], "answer": text}
                answers.setdefault(text.lower(), answer)["score"] += score
        found = list(answers.values())
        if handle_impossible_answer:
            found.append({"score": null_score, "start": 0, "end": 0, "answer": ""})
        found = sorted(found, key=lambda each: each["score"], reverse=True)[:top_k]
        return found[0] if len(found) == 1 else found

    def _probabilities(self, row: Row) -> tuple[np.ndarray, np.ndarray, float]:
        """Of each token that it starts and that it ends the answer; and of there being none."""
        encoding = row.facts
        ids, mask = np.array(encoding.ids), np.array(encoding.attention_mask)
        in_context = np.array([each == self._context_sequence for each in encoding.sequence_ids])
        # The first token, which stands for having no answer, takes part in the probabilities.
        allowed = (in_context | (ids == self.tokenizer.cls_token_id)) & (mask == 1)
        start, end = (
            softmax(np.where(allowed, row.outputs[name][: row.length], np.float32(-10000.0))) * allowed
            for name in ("start_logits", "end_logits")
        )
        null_score = float(start[0] * end[0])
        start[0] = end[0] = 0.0
        return start, end, null_score

    def _characters(self, encoding: Encoding, first: int, last: int, align_to_words: bool) -> tuple[int, int]:
        """Where in the context the tokens from `first` to `last` start and end, or the words they are in."""
        if align_to_words:
            words = encoding.token_to_word(first), encoding.token_to_word(last)
            if None not in words:
                spans = [encoding.word_to_chars(word, self._context_sequence) for word in words]
                if None not in spans:
                    return spans[0][0], spans[1][1]
        return encoding.offsets[first][0], encoding.offsets[last][1]


def _spread(inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A dictionary of lists as a list of dictionaries; one context serves several questions."""
    question, context = inputs.get("question"), inputs.get("context")
    if not isinstance(question, (list, tuple)):
        return [dict(inputs)]
    contexts = [context] * len(question) if isinstance(context, str) else context
    if not isinstance(contexts, (list, tuple)) or len(contexts) != len(question):
        raise ValueError(f"There are {len(question)} questions: context must be one string, or a list of as many.")
    return [{"question": each, "context": text} for each, text in zip(question, contexts, strict=True)]


def _best_spans(start: np.ndarray, end: np.ndarray, count: int, max_length: int) -> Iterator[tuple[int, int, float]]:
    """(first token, last token, probability) of the likeliest spans of at most `max_length` tokens, best first."""
    chances = np.tril(np.triu(np.outer(start, end)), max_length - 1)
    flat = chances.ravel()
    best = np.argpartition(-flat, count - 1)[:count] if count < flat.size else np.arange(flat.size)
    for index in best[np.argsort(-flat[best], kind="stable")]:
        if flat[index] > 0:
            first, last = divmod(int(index), chances.shape[1])
            yield first, last, float(flat[index])
