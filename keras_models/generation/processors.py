"""Logits processors and warpers: what changes the scores of the next token before one is chosen.

Each is a pure function in keras.ops on fixed shapes, so the loop that decodes stays one compiled program. Numbers that
a user may vary are inputs of that program: a new temperature does not compile anew.

A token is forbidden by a score of minus infinity. An "end" is a token that ends a text (eos_token_id). Thresholds on
cumulated probability are found by bisection: sorting a vocabulary is slow on CPUs.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from keras import ops

from keras_models.runtime.interop import framework_of

_NEVER = float("-inf")  # the score of a token that must not come next
_LARGEST = float(np.finfo("float32").max)


class LogitsProcessor:
    """A change of scores. Subclasses define `process`; those that do so in keras.ops stay in the compiled loop."""

    compiled: ClassVar[bool] = True  # False: needs Python between two tokens
    inputs: ClassVar[tuple[str, ...]] = ()  # attributes whose values may change without compiling anew

    def process(self, ids, length, scores):
        """The new scores, (rows, vocabulary) float32.

        Args:
            ids: (rows, capacity) int32. The first `length` columns are the tokens so far, with the prompt and its
                left padding; what lies behind is undefined.
            length: an int or a scalar int32 tensor.
            scores: (rows, vocabulary) float32.
        """
        raise NotImplementedError(f"{type(self).__name__} must define process(ids, length, scores).")

    def __call__(self, input_ids, scores):
        """`process` for arrays or lists: the tokens so far (rows, length), and scores (rows, vocabulary)."""
        return _process_all(self, input_ids, scores)

    def signature(self) -> Hashable:
        """What a compiled program depends on: the type, the attributes that are no inputs, the shapes of the inputs."""
        static = {name: _frozen(value) for name, value in vars(self).items() if name not in self.inputs}
        shapes = {name: (value.shape, value.dtype.name) for name, value in self.values().items()}
        return (type(self), tuple(sorted(static.items())), tuple(sorted(shapes.items())))

    def values(self) -> dict[str, np.ndarray]:
        """The inputs, as float32, int32 or bool arrays."""
        return {name: _plain(getattr(self, name)) for name in self.inputs}

    def bind(self, values: dict[str, Any]) -> Self:
        """A copy with other inputs, such as tensors of a program being compiled."""
        bound = copy.copy(self)
        vars(bound).update(values)
        return bound


def _process_all(processor, input_ids, scores):
    ids = ops.convert_to_tensor(input_ids, dtype="int32")
    return processor.process(ids, ids.shape[1], ops.convert_to_tensor(scores, dtype="float32"))


def _plain(value) -> np.ndarray:
    array = ops.convert_to_numpy(value)
    return array.astype({"f": "float32", "i": "int32"}.get(array.dtype.kind, array.dtype))


def _frozen(value) -> Hashable:
    """A hashable stand-in that is equal for equal values."""
    if isinstance(value, dict):
        return tuple((key, _frozen(each)) for key, each in value.items())
    if isinstance(value, list | tuple):
        return tuple(_frozen(each) for each in value)
    if isinstance(value, np.ndarray) or ops.is_tensor(value):
        array = ops.convert_to_numpy(value)
        return (array.shape, array.dtype.name, array.tobytes())
    return value


# ------------------------------------------------------------------------------------------ building blocks


def _token_list(name: str, tokens: int | Sequence[int], vocab_size: int | None = None) -> np.ndarray:
    """Token ids as an int32 array.

    Raises:
        ValueError: one is negative, or not below `vocab_size` where that is given.
    """
    array = np.atleast_1d(np.asarray(tokens, dtype="int32"))
    wrong = array[(array < 0) | (array >= (vocab_size or np.inf))]
    if wrong.size:
        limit = f"from 0 to {vocab_size - 1}" if vocab_size else "of 0 or more"
        raise ValueError(f"{name} must hold token ids {limit}, not {wrong.tolist()}.")
    return array


def _sums(tokens, amounts, vocab_size: int):
    """The sum of the amounts (rows, n) of tokens (rows, n), for every token: (rows, vocab_size)."""
    rows = tokens.shape[0]
    places = ops.arange(rows, dtype="int32")[:, None] * vocab_size + tokens
    sums = ops.segment_sum(ops.reshape(amounts, (-1,)), ops.reshape(places, (-1,)), num_segments=rows * vocab_size)
    return ops.reshape(sums, (rows, vocab_size))


def _mask(tokens, vocab_size: int):
    """Where the tokens (n,) are in the vocabulary, (vocab_size,) bool. What lies beyond it is ignored."""
    known = ops.less(tokens, vocab_size)[None]
    return _sums(ops.where(known, tokens, 0), ops.cast(known, "float32"), vocab_size)[0] > 0


def _forbid(scores, tokens, when=True):
    return ops.where(ops.logical_and(_mask(tokens, scores.shape[-1]), when), _NEVER, scores)


def _force(scores, tokens, when):
    return ops.where(when, ops.where(_mask(tokens, scores.shape[-1]), 0.0, _NEVER), scores)


def _rewrite(scores, tokens, chosen, change: Callable):
    """`scores` with `change(score)` in place of the scores of those tokens (rows, n) that are chosen (rows, n).

    What is not chosen repeats the largest that is, for duplicates write the same number and do no harm.
    """
    largest = ops.max(ops.where(chosen, tokens, -1), axis=1, keepdims=True)
    tokens = ops.where(chosen, tokens, ops.maximum(largest, 0))
    old = ops.take_along_axis(scores, tokens, axis=1)
    new = ops.where(largest >= 0, change(old), old)
    rows = ops.broadcast_to(ops.arange(tokens.shape[0], dtype="int32")[:, None], tokens.shape)
    places = ops.reshape(ops.stack([rows, tokens], axis=-1), (-1, 2))
    return ops.scatter_update(scores, places, ops.reshape(new, (-1,)))


def _last_tokens(ids, length, count: int):
    """The last `count` of the tokens so far, (rows, count); before the first token, the first again."""
    return ops.take(ids, ops.maximum(length - count + ops.arange(count, dtype="int32"), 0), axis=1)


def _forbid_repeats(scores, text, counted, ids, length, size: int):
    """Forbids tokens that would complete an n-gram of `text`.

    Args:
        text: (rows, n) tokens.
        counted: (rows or 1, n), whether a token of the text may be part of an n-gram.
        ids, length: the tokens so far.
        size: of the n-gram.
    """
    windows = text.shape[1] - size + 1
    if windows < 1:
        return scores
    last = _last_tokens(ids, length, size - 1)
    found = ops.logical_and(counted[:, size - 1 :], length >= size - 1)
    for offset in range(size - 1):
        same = ops.equal(text[:, offset : offset + windows], last[:, offset : offset + 1])
        found = ops.logical_and(found, ops.logical_and(same, counted[:, offset : offset + windows]))
    found = ops.broadcast_to(found, (scores.shape[0], windows))
    return _rewrite(scores, text[:, size - 1 :], found, lambda old: ops.full_like(old, _NEVER))


def _threshold(values, count: int):
    """The `count`-th largest value of each row, (rows, 1)."""
    count = min(count, values.shape[-1])
    if count == 1:
        return ops.max(values, axis=-1, keepdims=True)
    return ops.min(ops.top_k(values, count)[0], axis=-1, keepdims=True)  # to XLA, a slice of a top-k is one of a sort


def _ordered(values):
    """Integers that are in the same order as float32 values."""
    bits = ops.view(values, "int32")
    return ops.where(bits < 0, ops.bitwise_xor(bits, 0x7FFFFFFF), bits)


_BITS = np.array([-(2**31), *(2**bit for bit in range(30, -1, -1))], dtype="int32")


def _bisect(keys, weights, accepts: Callable):
    """The largest int32 for which the weights of smaller keys have a sum that is accepted, (rows, 1).

    Args:
        keys: (rows, n) int32.
        weights: (rows, n) float32.
        accepts: a function of sums (rows, 1); what it accepts is below some limit.
    """
    bits = ops.convert_to_tensor(_BITS)

    def decide_bit(index, found):
        larger = ops.bitwise_xor(found, bits[index])
        below = ops.sum(weights * ops.cast(keys < larger, "float32"), axis=-1, keepdims=True)
        return ops.where(accepts(below), larger, found)

    return ops.fori_loop(0, 32, decide_bit, ops.full((keys.shape[0], 1), -(2**31), dtype="int32"))


def _keep(scores, kept, minimum: int = 1):
    """Scores where they are kept, or are among the `minimum` largest."""
    return ops.where(ops.logical_or(kept, scores >= _threshold(scores, minimum)), scores, _NEVER)


def _entropy(log_probabilities):
    """Of distributions (rows, vocabulary), in nats: (rows, 1)."""
    terms = ops.exp(log_probabilities) * ops.maximum(log_probabilities, -_LARGEST)
    return -ops.sum(terms, axis=-1, keepdims=True)


# -------------------------------------------------------------------------------------------------- lengths


class MinLengthLogitsProcessor(LogitsProcessor):
    """No end before there are `min_length` tokens, those of a decoder's prompt included."""

    inputs = ("min_length", "eos_token_id")

    def __init__(self, min_length: int, eos_token_id: int | Sequence[int]):
        self.min_length = _count("min_length", min_length, 0)
        self.eos_token_id = _token_list("eos_token_id", eos_token_id)

    def process(self, ids, length, scores):
        return _forbid(scores, self.eos_token_id, length < self.min_length)


class MinNewTokensLengthLogitsProcessor(LogitsProcessor):
    """No end before there are `min_new_tokens` tokens behind the prompt."""

    inputs = ("prompt_length_to_skip", "min_new_tokens", "eos_token_id")

    def __init__(self, prompt_length_to_skip: int, min_new_tokens: int, eos_token_id: int | Sequence[int]):
        self.prompt_length_to_skip = _count("prompt_length_to_skip", prompt_length_to_skip, 0)
        self.min_new_tokens = _count("min_new_tokens", min_new_tokens, 0)
        self.eos_token_id = _token_list("eos_token_id", eos_token_id)

    def process(self, ids, length, scores):
        return _forbid(scores, self.eos_token_id, length - self.prompt_length_to_skip < self.min_new_tokens)


class ForcedBOSTokenLogitsProcessor(LogitsProcessor):
    """A given second token."""

    inputs = ("bos_token_id",)

    def __init__(self, bos_token_id: int):
        self.bos_token_id = _token_list("forced_bos_token_id", bos_token_id)

    def process(self, ids, length, scores):
        return _force(scores, self.bos_token_id, ops.equal(length, 1))


class ForcedEOSTokenLogitsProcessor(LogitsProcessor):
    """A given token, or one of several, as the last before `max_length` is reached."""

    inputs = ("max_length", "eos_token_id")

    def __init__(self, max_length: int, eos_token_id: int | Sequence[int]):
        self.max_length = _count("max_length", max_length, 1)
        self.eos_token_id = _token_list("forced_eos_token_id", eos_token_id)

    def process(self, ids, length, scores):
        return _force(scores, self.eos_token_id, ops.equal(length, self.max_length - 1))


class ExponentialDecayLengthPenalty(LogitsProcessor):
    """Raises the score of the end by |score| * (factor ** n - 1), n tokens after the start.

    An end that is forbidden stays so (the reference makes it NaN).

    Args:
        exponential_decay_length_penalty: the start, counted from the prompt's end, and the factor.
        eos_token_id: one end or several.
        input_ids_seq_length: the length of the prompt.
    """

    inputs = ("regulation_start", "log_factor", "eos_token_id")

    def __init__(
        self,
        exponential_decay_length_penalty: tuple[int, float],
        eos_token_id: int | Sequence[int],
        input_ids_seq_length: int,
    ):
        start, factor = exponential_decay_length_penalty
        if not factor > 0:
            raise ValueError(f"The factor of exponential_decay_length_penalty must be above 0, not {factor}.")
        self.regulation_start = start + input_ids_seq_length
        self.log_factor = math.log(factor)  # float32 keeps more of it than of the factor
        self.eos_token_id = _token_list("eos_token_id", eos_token_id)

    def process(self, ids, length, scores):
        steps = length - self.regulation_start
        growth = ops.expm1(ops.minimum(ops.cast(steps, "float32") * self.log_factor, 88.0))  # finite in float32
        applies = ops.logical_and(_mask(self.eos_token_id, scores.shape[-1]), steps > 0)
        applies = ops.logical_and(applies, scores > _NEVER)
        return ops.where(applies, scores + ops.abs(scores) * growth, scores)


# --------------------------------------------------------------------------------------------------- tokens


class SuppressTokensLogitsProcessor(LogitsProcessor):
    """Tokens that never come."""

    inputs = ("suppress_tokens",)

    def __init__(self, suppress_tokens: Sequence[int]):
        self.suppress_tokens = _token_list("suppress_tokens", suppress_tokens)

    def process(self, ids, length, scores):
        return _forbid(scores, self.suppress_tokens)


class SuppressTokensAtBeginLogitsProcessor(LogitsProcessor):
    """Tokens that do not come when there are just `begin_index` tokens."""

    inputs = ("begin_suppress_tokens", "begin_index")

    def __init__(self, begin_suppress_tokens: Sequence[int], begin_index: int):
        self.begin_suppress_tokens = _token_list("begin_suppress_tokens", begin_suppress_tokens)
        self.begin_index = _count("begin_index", begin_index, 0)

    def process(self, ids, length, scores):
        return _forbid(scores, self.begin_suppress_tokens, ops.equal(length, self.begin_index))


class SequenceBiasLogitsProcessor(LogitsProcessor):
    """Adds to the score of a token that would complete a sequence, once the tokens before it are there.

    A sequence of several tokens counts when there are at least as many tokens as it has, as in the reference.

    Args:
        sequence_bias: pairs of token ids and a number, or a dictionary from tuples of token ids to numbers.
    """

    inputs = ("prefixes", "ends", "biases")

    def __init__(self, sequence_bias: Sequence[Sequence] | dict[tuple[int, ...], float]):
        pairs = sequence_bias.items() if isinstance(sequence_bias, dict) else sequence_bias
        if not pairs:
            raise ValueError("sequence_bias must hold at least one sequence of token ids with its bias, not none.")
        self._prepare({tuple(_sequence("sequence_bias", ids)): float(bias) for ids, bias in pairs})

    def _prepare(self, bias: dict[tuple[int, ...], float]):
        ordered = sorted(bias, key=lambda ids: len(ids) > 1)  # single tokens first, for sums as in the reference
        width = max((len(ids) for ids in ordered), default=1) - 1
        rows = [[-1] * (width - len(ids) + 1) + list(ids[:-1]) for ids in ordered]
        self.prefixes = np.array(rows, dtype="int32").reshape(len(rows), width)  # -1: before the sequence
        self.ends = np.array([ids[-1] for ids in ordered], dtype="int32")
        self.biases = np.array([bias[ids] for ids in ordered], dtype="float32")

    def process(self, ids, length, scores):
        count, width = self.prefixes.shape
        if count == 0:
            return scores
        prefixes = ops.convert_to_tensor(self.prefixes)
        size = ops.sum(ops.cast(prefixes >= 0, "int32"), axis=1)
        found = ops.logical_or(ops.equal(size, 0), size < length)[None]  # (rows, count)
        last = _last_tokens(ids, length, width)
        for offset in range(width):
            expected = prefixes[:, offset][None]
            same = ops.logical_or(expected < 0, ops.equal(last[:, offset : offset + 1], expected))
            found = ops.logical_and(found, same)
        shape = (scores.shape[0], count)
        bias = ops.broadcast_to(ops.where(found, self.biases, 0.0), shape)
        ends = ops.broadcast_to(ops.convert_to_tensor(self.ends), shape)
        return scores + _sums(ends, bias, scores.shape[-1])


class NoBadWordsLogitsProcessor(SequenceBiasLogitsProcessor):
    """Sequences of tokens that never come. The end alone cannot be one of them.

    Args:
        bad_words_ids: lists of token ids.
        eos_token_id: one end or several, if there is any.
    """

    def __init__(self, bad_words_ids: Sequence[Sequence[int]], eos_token_id: int | Sequence[int] | None = None):
        if not bad_words_ids:
            raise ValueError("bad_words_ids must hold at least one list of token ids, not none.")
        ends = [] if eos_token_id is None else _token_list("eos_token_id", eos_token_id).tolist()
        words = [tuple(_sequence("bad_words_ids", word)) for word in bad_words_ids]
        self._prepare({word: _NEVER for word in words if not (len(word) == 1 and word[0] in ends)})


def _sequence(name: str, ids: Sequence[int]) -> list[int]:
    if np.ndim(ids) != 1 or not len(ids):
        raise ValueError(f"{name} must hold non-empty lists of token ids, not {ids!r}.")
    return _token_list(name, ids).tolist()


def _within(name: str, processor: SequenceBiasLogitsProcessor, vocab_size: int) -> SequenceBiasLogitsProcessor:
    """The processor, once its tokens are known to be in the vocabulary."""
    _token_list(name, processor.ends, vocab_size)
    _token_list(name, processor.prefixes[processor.prefixes >= 0], vocab_size)
    return processor


class PrefixConstrainedLogitsProcessor(LogitsProcessor):
    """Only tokens that a function allows.

    Args:
        prefix_allowed_tokens_fn: called with the index of the prompt and the tokens so far, (length,), an integer
            array (on PyTorch a tensor); returns the ids of the tokens that may follow.
        num_beams: rows per prompt.
    """

    compiled = False

    def __init__(self, prefix_allowed_tokens_fn: Callable[[int, Any], Sequence[int]], num_beams: int):
        self.prefix_allowed_tokens_fn = prefix_allowed_tokens_fn
        self.num_beams = num_beams

    def process(self, ids, length, scores):
        tokens, _ = _hand_over(ids, length, scores)
        mask = np.full(scores.shape, _NEVER, dtype="float32")
        for row in range(len(mask)):
            prompt = row // self.num_beams
            allowed = list(self.prefix_allowed_tokens_fn(prompt, tokens[row]))
            if not allowed:
                raise ValueError(
                    f"prefix_allowed_tokens_fn allowed no token for prompt {prompt} after {length} tokens; "
                    "it must allow at least one, such as the end."
                )
            mask[row, allowed] = 0.0
        return scores + ops.convert_to_tensor(mask)


# ---------------------------------------------------------------------------------------------- repetitions


class RepetitionPenaltyLogitsProcessor(LogitsProcessor):
    """Divides positive scores of tokens that are there already by the penalty, and multiplies negative ones.

    Args:
        penalty: above 1 discourages repetition, below 1 encourages it.
        prompt_ignore_length: how many of the first tokens do not count.

    Padding counts as a token, as in the reference. Source: Keskar et al. 2019, arXiv:1909.05858.
    """

    inputs = ("penalty", "prompt_ignore_length")

    def __init__(self, penalty: float, prompt_ignore_length: int | None = None):
        self.penalty = _above_zero("repetition_penalty", penalty)
        self.prompt_ignore_length = _count("prompt_ignore_length", prompt_ignore_length or 0, 0)

    def process(self, ids, length, scores):
        columns = ops.arange(ids.shape[1], dtype="int32")
        counted = ops.logical_and(columns >= self.prompt_ignore_length, columns < length)
        return _penalize(scores, ids, ops.broadcast_to(counted[None], ids.shape), self.penalty)


class EncoderRepetitionPenaltyLogitsProcessor(LogitsProcessor):
    """Multiplies positive scores of tokens of the prompt by the penalty, and divides negative ones.

    Args:
        penalty: above 1 encourages tokens of the prompt.
        encoder_input_ids: (prompts, n); each serves as many rows of scores as there are beams.
        mask: (prompts, n) bool, which of them count; all if None.
    """

    inputs = ("penalty", "encoder_input_ids", "mask")

    def __init__(self, penalty: float, encoder_input_ids, mask=None):
        self.penalty = 1 / _above_zero("encoder_repetition_penalty", penalty)
        self.encoder_input_ids, self.mask = _prompt(encoder_input_ids, mask)

    def process(self, ids, length, scores):
        text, counted = _per_row(self.encoder_input_ids, self.mask, scores.shape[0])
        return _penalize(scores, text, counted, self.penalty)


def _penalize(scores, tokens, chosen, penalty):
    return _rewrite(scores, tokens, chosen, lambda old: ops.where(old < 0, old * penalty, old / penalty))


class NoRepeatNGramLogitsProcessor(LogitsProcessor):
    """No n-gram of tokens comes twice, the prompt included."""

    def __init__(self, ngram_size: int):
        self.ngram_size = _count("no_repeat_ngram_size", ngram_size, 1)

    def process(self, ids, length, scores):
        counted = ops.arange(ids.shape[1], dtype="int32")[None] < length
        return _forbid_repeats(scores, ids, counted, ids, length, self.ngram_size)


class EncoderNoRepeatNGramLogitsProcessor(LogitsProcessor):
    """No n-gram of the prompt comes.

    Args:
        encoder_ngram_size: tokens in an n-gram.
        encoder_input_ids: (prompts, n), or (n,); each serves as many rows of scores as there are beams.
        mask: (prompts, n) bool, which of them count; all if None.
    """

    inputs = ("encoder_input_ids", "mask")

    def __init__(self, encoder_ngram_size: int, encoder_input_ids, mask=None):
        self.ngram_size = _count("encoder_no_repeat_ngram_size", encoder_ngram_size, 1)
        self.encoder_input_ids, self.mask = _prompt(encoder_input_ids, mask)

    def process(self, ids, length, scores):
        text, counted = _per_row(self.encoder_input_ids, self.mask, scores.shape[0])
        return _forbid_repeats(scores, text, counted, ids, length, self.ngram_size)


def _prompt(ids, mask) -> tuple[np.ndarray, np.ndarray]:
    ids = np.atleast_2d(ops.convert_to_numpy(ids)).astype("int32")
    return ids, np.ones(ids.shape, bool) if mask is None else np.atleast_2d(ops.convert_to_numpy(mask)).astype(bool)


def _per_row(text, counted, rows: int):
    """Prompts and their mask repeated for each of their rows."""
    repeats = rows // text.shape[0]
    return tuple(ops.repeat(ops.convert_to_tensor(each), repeats, axis=0) for each in (text, counted))


class HammingDiversityLogitsProcessor(LogitsProcessor):
    """Lowers the scores of tokens that earlier groups of beams chose at the same step, once per beam that did.

    Args:
        diversity_penalty: what is subtracted.
        num_beams: all beams of a prompt.
        num_beam_groups: groups they are divided into.

    Source: Vijayakumar et al. 2016, arXiv:1610.02424.
    """

    inputs = ("diversity_penalty",)

    def __init__(self, diversity_penalty: float, num_beams: int, num_beam_groups: int):
        self.diversity_penalty = _above_zero("diversity_penalty", diversity_penalty)
        self.num_beams = _count("num_beams", num_beams, 2)
        self.num_beam_groups = _count("num_beam_groups", num_beam_groups, 2)
        if num_beam_groups > num_beams:
            raise ValueError(f"num_beam_groups must not exceed num_beams, but {num_beam_groups} > {num_beams}.")

    def process(self, ids, length, scores):
        return scores  # a search without groups has none to differ from

    def process_group(self, scores, current_tokens, group_start):
        """The new scores of one group.

        Args:
            scores: (prompts * beams of the group, vocabulary) float32.
            current_tokens: (prompts, num_beams) int32. The first `group_start` columns are the tokens that earlier
                groups chose at this step; what lies behind is undefined.
            group_start: an int or a scalar int32 tensor.
        """
        prompts, vocab_size = current_tokens.shape[0], scores.shape[-1]
        chosen = ops.arange(current_tokens.shape[1], dtype="int32")[None] < group_start
        chosen = ops.broadcast_to(chosen, current_tokens.shape)
        counts = _sums(ops.where(chosen, current_tokens, 0), ops.cast(chosen, "float32"), vocab_size)
        grouped = ops.reshape(scores, (prompts, -1, vocab_size)) - (counts * self.diversity_penalty)[:, None]
        return ops.reshape(grouped, scores.shape)

    def __call__(self, input_ids, scores, current_tokens, beam_group_idx: int):
        """`process_group` as the reference calls it: `current_tokens` (prompts * num_beams,), and a group's index."""
        tokens = ops.reshape(ops.convert_to_tensor(current_tokens, dtype="int32"), (-1, self.num_beams))
        start = beam_group_idx * (self.num_beams // self.num_beam_groups)
        return self.process_group(ops.convert_to_tensor(scores, dtype="float32"), tokens, start)


# ---------------------------------------------------------------------------------------------- whole scores


class InfNanRemoveLogitsProcessor(LogitsProcessor):
    """0 for NaN, and float32's limits for the infinities."""

    def process(self, ids, length, scores):
        return ops.nan_to_num(scores, nan=0.0, posinf=_LARGEST, neginf=-_LARGEST)


class LogitNormalization(LogitsProcessor):
    """Logarithms of probabilities."""

    def process(self, ids, length, scores):
        return ops.log_softmax(scores, axis=-1)


# -------------------------------------------------------------------------------------------------- warpers


class TemperatureLogitsWarper(LogitsProcessor):
    """Divides scores by the temperature: below 1 sharpens the distribution, above 1 flattens it."""

    inputs = ("temperature",)

    def __init__(self, temperature: float):
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, not {temperature}; do_sample=False decodes greedily.")
        self.temperature = float(temperature)

    def process(self, ids, length, scores):
        return ops.divide(scores, self.temperature)


class TopKLogitsWarper(LogitsProcessor):
    """Keeps the k largest scores, and those equal to the least of them."""

    def __init__(self, top_k: int, min_tokens_to_keep: int = 1):
        self.top_k = max(_count("top_k", top_k, 1), min_tokens_to_keep)

    def process(self, ids, length, scores):
        return ops.where(scores >= _threshold(scores, self.top_k), scores, _NEVER)


class TopPLogitsWarper(LogitsProcessor):
    """Keeps the fewest tokens of the highest probability that together reach `top_p`, at least `min_tokens_to_keep`.

    Equal scores are kept or dropped together, where the reference lets its sort decide. Probabilities are summed in
    float32: a token on the border to within their rounding may fall on either side.

    Source: Holtzman et al. 2019, arXiv:1904.09751.
    """

    inputs = ("tail",)

    def __init__(self, top_p: float, min_tokens_to_keep: int = 1):
        if not 0 <= top_p <= 1:
            raise ValueError(f"top_p must be from 0 to 1, not {top_p}.")
        self.tail = float(1 - top_p)  # the probability that may be dropped
        self.min_tokens_to_keep = _count("min_tokens_to_keep", min_tokens_to_keep, 1)

    def process(self, ids, length, scores):
        keys = _ordered(scores)
        least = _bisect(keys, ops.softmax(scores, axis=-1), lambda below: below <= self.tail)
        return _keep(scores, keys >= least, self.min_tokens_to_keep)


class MinPLogitsWarper(LogitsProcessor):
    """Keeps tokens of at least `min_p` times the highest probability, and at least `min_tokens_to_keep`."""

    inputs = ("min_p",)

    def __init__(self, min_p: float, min_tokens_to_keep: int = 1):
        if not 0 <= min_p <= 1:
            raise ValueError(f"min_p must be from 0 to 1, not {min_p}.")
        self.min_p = float(min_p)
        self.min_tokens_to_keep = _count("min_tokens_to_keep", min_tokens_to_keep, 1)

    def process(self, ids, length, scores):
        probabilities = ops.softmax(scores, axis=-1)
        least = ops.max(probabilities, axis=-1, keepdims=True) * self.min_p
        return _keep(scores, probabilities >= least, self.min_tokens_to_keep)


class TypicalLogitsWarper(LogitsProcessor):
    """Keeps tokens whose information is nearest to the entropy until they have the probability `mass`.

    At least `min_tokens_to_keep` are kept. Rounding decides on the border: sums near 1 and the entropy are good to some
    1e-6 in float32, here and in the reference.

    Source: Meister et al. 2022, arXiv:2202.00666.
    """

    inputs = ("mass",)

    def __init__(self, mass: float = 0.9, min_tokens_to_keep: int = 1):
        self.mass = _fraction("typical_p", mass)
        self.min_tokens_to_keep = _count("min_tokens_to_keep", min_tokens_to_keep, 1)

    def process(self, ids, length, scores):
        log_probabilities = ops.log_softmax(scores, axis=-1)
        distance = ops.abs(log_probabilities + _entropy(log_probabilities))
        keys = _ordered(distance)
        farthest = _bisect(keys, ops.softmax(scores, axis=-1), lambda below: below < self.mass)
        nearest = -distance >= _threshold(-distance, self.min_tokens_to_keep)
        return ops.where(ops.logical_or(keys <= farthest, nearest), scores, _NEVER)


class EpsilonLogitsWarper(LogitsProcessor):
    """Keeps tokens of a probability of at least `epsilon`, and no fewer than `min_tokens_to_keep`.

    Source: Hewitt et al. 2022, arXiv:2210.15191.
    """

    inputs = ("epsilon",)

    def __init__(self, epsilon: float, min_tokens_to_keep: int = 1):
        self.epsilon = _fraction("epsilon_cutoff", epsilon)
        self.min_tokens_to_keep = _count("min_tokens_to_keep", min_tokens_to_keep, 1)

    def process(self, ids, length, scores):
        return _keep(scores, ops.softmax(scores, axis=-1) >= self.epsilon, self.min_tokens_to_keep)


class EtaLogitsWarper(LogitsProcessor):
    """Keeps tokens of a probability of at least min(epsilon, sqrt(epsilon) * exp(-entropy)).

    No fewer than `min_tokens_to_keep` are kept. Source: Hewitt et al. 2022, arXiv:2210.15191.
    """

    inputs = ("epsilon",)

    def __init__(self, epsilon: float, min_tokens_to_keep: int = 1):
        self.epsilon = _fraction("eta_cutoff", epsilon)
        self.min_tokens_to_keep = _count("min_tokens_to_keep", min_tokens_to_keep, 1)

    def process(self, ids, length, scores):
        epsilon = ops.convert_to_tensor(self.epsilon, dtype="float32")
        entropy = _entropy(ops.log_softmax(scores, axis=-1))
        least = ops.minimum(epsilon, ops.sqrt(epsilon) * ops.exp(-entropy))
        return _keep(scores, ops.softmax(scores, axis=-1) >= least, self.min_tokens_to_keep)


# ------------------------------------------------------------------------------------------- settings' checks


def _count(name: str, value: int, least: int) -> int:
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be an integer of {least} or more, not {value!r}.")
    return int(value)


def _above_zero(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name} must be above 0, not {value}.")
    return float(value)


def _fraction(name: str, value: float) -> float:
    if not 0 < value < 1:
        raise ValueError(f"{name} must be between 0 and 1, not {value}.")
    return float(value)


# ------------------------------------------------------------------------------------------------ in Python


class PythonProcessor(LogitsProcessor):
    """A user's function of (input_ids, scores) that returns new scores, called in Python for every token.

    The function may write to what it is given: the tokens so far (rows, length) and the scores (rows, vocabulary), on
    PyTorch int64 and float32 tensors, elsewhere NumPy arrays.
    """

    compiled = False

    def __init__(self, function: Callable[[Any, Any], Any]):
        self.function = function

    def process(self, ids, length, scores):
        changed = self.function(*_hand_over(ids, length, scores))
        expected, shape = tuple(scores.shape), tuple(np.shape(changed))
        if changed is None or shape != expected:
            name = getattr(self.function, "__name__", type(self.function).__name__)
            what = "None" if changed is None else f"shape {shape}"
            raise ValueError(f"The logits processor {name} must return scores of shape {expected}, not {what}.")
        return ops.convert_to_tensor(changed, dtype="float32")


def _hand_over(ids, length, scores) -> tuple:
    """Tokens so far and scores as a user's Python code may have them: copies, which can be written to."""
    length = int(length)
    if framework_of(scores) == "pt":
        return ops.cast(ids[:, :length], "int64"), ops.copy(scores)
    return np.array(ids, dtype="int64")[:, :length], np.array(scores)  # JAX would compile a slice of every length


# ---------------------------------------------------------------------------------------------------- lists


class LogitsProcessorList(list):
    """Processors, applied in order. Has the methods of a `LogitsProcessor`, with a list of inputs instead of one."""

    @property
    def compiled(self) -> bool:
        """Whether all of them are."""
        return all(processor.compiled for processor in self)

    def process(self, ids, length, scores, current_tokens=None, group_start=None):
        """The new scores; see `LogitsProcessor.process`.

        Searches in groups of beams also pass what `HammingDiversityLogitsProcessor.process_group` takes.
        """
        for processor in self:
            if current_tokens is not None and isinstance(processor, HammingDiversityLogitsProcessor):
                scores = processor.process_group(scores, current_tokens, group_start)
            else:
                scores = processor.process(ids, length, scores)
        return scores

    def __call__(self, input_ids, scores):
        """`process` for arrays or lists: the tokens so far (rows, length), and scores (rows, vocabulary)."""
        return _process_all(self, input_ids, scores)

    def signature(self) -> Hashable:
        """What a compiled program depends on."""
        return tuple(processor.signature() for processor in self)

    def values(self) -> list[dict[str, np.ndarray]]:
        """The inputs of each."""
        return [processor.values() for processor in self]

    def bind(self, values: Sequence[dict[str, Any]]) -> Self:
        """A list of copies with other inputs."""
        return type(self)(processor.bind(each) for processor, each in zip(self, values, strict=True))


def build_processors(
    config: Any,
    *,
    prompt_length: int,
    vocab_size: int,
    prompt_ids=None,
    prompt_mask=None,
    num_beams: int = 1,
    prefix_allowed_tokens_fn: Callable[[int, Any], Sequence[int]] | None = None,
    extra: Iterable[Callable] = (),
) -> LogitsProcessorList:
    """The processors that the settings switch on, in the reference's order.

    Args:
        config: generation settings, under the reference's names; those it lacks are off.
        prompt_length: tokens before the first new one.
        vocab_size: of the scores.
        prompt_ids: (prompts, n) tokens for the processors named after the encoder, or of a decoder's prompt.
        prompt_mask: (prompts, n), which of them count; all if None, padding included, as in the reference.
        num_beams: rows per prompt that compete.
        prefix_allowed_tokens_fn: see `PrefixConstrainedLogitsProcessor`.
        extra: the user's own, before the warpers: `LogitsProcessor` objects, or functions of (input_ids, scores). One
            of the type of a processor that the settings switch on takes its place.

    Raises:
        ValueError: a setting is out of its range, or a token that is forced, biased or in a bad word is not in the
            vocabulary. Ends and suppressed tokens beyond it can never come, and are ignored.
        NotImplementedError: the settings ask for guidance or a watermark.
    """

    def setting(name: str, *off: Any) -> Any:
        """The value of a setting, None if it is one of those that mean off."""
        value = getattr(config, name, None)
        return None if value in off else value

    def tokens(name: str, limit: int | None = None) -> list[int]:
        value = setting(name)
        return [] if value is None else _token_list(name, value, limit).tolist()

    def prompt(name: str) -> bool:
        if prompt_ids is None:
            warnings.warn(f"{name} is ignored, for the model's inputs are no token ids.", stacklevel=4)
        return prompt_ids is not None

    for name, off in (("guidance_scale", 1), ("watermarking_config", None)):
        if setting(name, off) is not None:
            raise NotImplementedError(f"{name} is not supported; set it to {off}.")

    ends = tokens("eos_token_id")
    chosen = LogitsProcessorList()
    if (bias := setting("sequence_bias")) is not None:
        chosen.append(_within("sequence_bias", SequenceBiasLogitsProcessor(bias), vocab_size))
    if (penalty := setting("diversity_penalty", 0)) is not None:
        chosen.append(HammingDiversityLogitsProcessor(penalty, num_beams, setting("num_beam_groups") or 1))
    if (penalty := setting("encoder_repetition_penalty", 1)) is not None and prompt("encoder_repetition_penalty"):
        chosen.append(EncoderRepetitionPenaltyLogitsProcessor(penalty, prompt_ids, prompt_mask))
    if (penalty := setting("repetition_penalty", 1)) is not None:
        chosen.append(RepetitionPenaltyLogitsProcessor(penalty))
    if (size := setting("no_repeat_ngram_size", 0)) is not None:
        chosen.append(NoRepeatNGramLogitsProcessor(size))
    if (size := setting("encoder_no_repeat_ngram_size", 0)) is not None and prompt("encoder_no_repeat_ngram_size"):
        chosen.append(EncoderNoRepeatNGramLogitsProcessor(size, prompt_ids, prompt_mask))
    if (words := setting("bad_words_ids")) is not None:
        chosen.append(_within("bad_words_ids", NoBadWordsLogitsProcessor(words, ends), vocab_size))
    if ends and (least := setting("min_length", 0)) is not None:
        chosen.append(MinLengthLogitsProcessor(least, ends))
    if ends and (least := setting("min_new_tokens", 0)) is not None:
        chosen.append(MinNewTokensLengthLogitsProcessor(prompt_length, least, ends))
    if prefix_allowed_tokens_fn is not None:
        chosen.append(PrefixConstrainedLogitsProcessor(prefix_allowed_tokens_fn, num_beams))
    if begin := tokens("forced_bos_token_id", vocab_size):
        chosen.append(ForcedBOSTokenLogitsProcessor(begin[0]))
    if forced := tokens("forced_eos_token_id", vocab_size):
        chosen.append(ForcedEOSTokenLogitsProcessor(config.max_length, forced))
    if setting("remove_invalid_values"):
        chosen.append(InfNanRemoveLogitsProcessor())
    if (decay := setting("exponential_decay_length_penalty")) is not None:
        if not ends:
            raise ValueError("exponential_decay_length_penalty needs an eos_token_id, and there is none.")
        chosen.append(ExponentialDecayLengthPenalty(decay, ends, prompt_length))
    if suppressed := tokens("suppress_tokens"):
        chosen.append(SuppressTokensLogitsProcessor(suppressed))
    if suppressed := tokens("begin_suppress_tokens"):
        begin_index = prompt_length + 1 if begin and prompt_length <= 1 else prompt_length
        chosen.append(SuppressTokensAtBeginLogitsProcessor(suppressed, begin_index))

    chosen = _merged(chosen, [_as_processor(each) for each in extra])
    if setting("do_sample"):
        # A search must find a token beside the ends, or a beam that could still improve has no continuation.
        minimum = (len(ends) + 1 if ends else 2) if num_beams > 1 else 1
        if (temperature := setting("temperature", 1)) is not None:
            chosen.append(TemperatureLogitsWarper(temperature))
        if (count := setting("top_k", 0)) is not None:
            chosen.append(TopKLogitsWarper(count, minimum))
        if (mass := setting("top_p", 1)) is not None:
            chosen.append(TopPLogitsWarper(mass, minimum))
        if (least := setting("min_p")) is not None:
            chosen.append(MinPLogitsWarper(least, minimum))
        if (mass := setting("typical_p", 1)) is not None:
            chosen.append(TypicalLogitsWarper(mass, minimum))
        if (least := setting("epsilon_cutoff", 0)) is not None:
            chosen.append(EpsilonLogitsWarper(least, minimum))
        if (least := setting("eta_cutoff", 0)) is not None:
            chosen.append(EtaLogitsWarper(least, minimum))
    if setting("renormalize_logits"):
        chosen.append(LogitNormalization())
    return chosen


def _as_processor(candidate: Callable) -> LogitsProcessor:
    """The user's processor itself if it can be compiled, else wrapped."""
    if isinstance(candidate, LogitsProcessor) and type(candidate).process is not LogitsProcessor.process:
        return candidate
    if not callable(candidate):
        raise TypeError(f"A logits processor must be a function of (input_ids, scores), not {candidate!r}.")
    return PythonProcessor(candidate)


def _merged(chosen: LogitsProcessorList, users: list[LogitsProcessor]) -> LogitsProcessorList:
    """The user's processors in place of those of their types, the others behind."""
    by_type = {type(processor): processor for processor in reversed(users)}
    merged = LogitsProcessorList(by_type.get(type(processor), processor) for processor in chosen)
    return LogitsProcessorList([*merged, *(processor for processor in users if processor not in merged)])
