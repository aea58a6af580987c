"""Every logits processor against the reference's, alone and in the chains that settings make, compiled and not."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from keras_models.generation import processors
from keras_models.generation.processors import LogitsProcessor, LogitsProcessorList, build_processors
from tests import reference
from tests.reference import logits

ROWS, VOCAB, CAPACITY = 4, 211, 16
LENGTHS = (1, 6, 11)
PROMPT = logits.draw(2, VOCAB, 9, seed=99)[0].tolist()
PROMPTS = logits.draw(ROWS, VOCAB, 9, seed=98)[0].tolist()
SEQUENCES = [[[3], 1.5], [[1, 3], -2.0], [[2, 1, 4], 0.25], [[4], -1.0], [[5, 4], 3.0], [[1, 2, 3, 4, 5, 6, 7], 1.0]]
WORDS = [[3], [1, 4], [2], [6, 2, 8], [0, 5], [9, 9]]

# class -> lists of arguments; each meets tokens of several lengths
SETTINGS = {
    "MinLengthLogitsProcessor": [(6, 5), (7, [5, 200]), (12, [5, 300])],
    "MinNewTokensLengthLogitsProcessor": [(2, 4, 5), (2, 9, [5, 200])],
    "ForcedBOSTokenLogitsProcessor": [(17,)],
    "ForcedEOSTokenLogitsProcessor": [(12, 17), (7, [17, 200])],
    "ExponentialDecayLengthPenalty": [((3, 1.1), 5, 2), ((2, 1.01), [5, 200], 0), ((1, 0.8), 5, 1)],
    "SuppressTokensLogitsProcessor": [([1, 2, 3, 100],), ([1, 500],)],
    "SuppressTokensAtBeginLogitsProcessor": [([1, 2, 3, 100], 6), ([1, 210, 3, 100], 2)],
    "SequenceBiasLogitsProcessor": [(SEQUENCES,), (SEQUENCES[:1],)],
    "NoBadWordsLogitsProcessor": [(WORDS,), (WORDS, 3), (WORDS, [2, 3]), ([[4]], 4)],
    "RepetitionPenaltyLogitsProcessor": [(1.3,), (0.7,), (1.3, 3)],
    "EncoderRepetitionPenaltyLogitsProcessor": [(1.3, PROMPTS), (0.7, PROMPTS)],
    "NoRepeatNGramLogitsProcessor": [(1,), (2,), (3,), (7,), (20,)],
    "EncoderNoRepeatNGramLogitsProcessor": [(1, PROMPT), (2, PROMPT), (3, PROMPTS), (20, PROMPT)],
    "InfNanRemoveLogitsProcessor": [()],
    "LogitNormalization": [()],
    "TemperatureLogitsWarper": [(0.7,), (1.9,)],
    "TopKLogitsWarper": [(1,), (50,), (1000,)],
    "TopPLogitsWarper": [(0.0,), (0.3,), (0.9,), (0.999,), (1.0,)],
    "MinPLogitsWarper": [(0.0,), (0.02,), (0.9,), (1.0,)],
    "TypicalLogitsWarper": [(0.05,), (0.2,), (0.9,), (0.999,)],
    "EpsilonLogitsWarper": [(0.001,), (0.05,), (0.9,)],
    "EtaLogitsWarper": [(0.001,), (0.05,), (0.9,)],
}
# Names of arguments, in the order above.
ARGUMENTS = {
    "MinLengthLogitsProcessor": ("min_length", "eos_token_id"),
    "MinNewTokensLengthLogitsProcessor": ("prompt_length_to_skip", "min_new_tokens", "eos_token_id"),
    "ForcedBOSTokenLogitsProcessor": ("bos_token_id",),
    "ForcedEOSTokenLogitsProcessor": ("max_length", "eos_token_id"),
    "ExponentialDecayLengthPenalty": ("exponential_decay_length_penalty", "eos_token_id", "input_ids_seq_length"),
    "SuppressTokensLogitsProcessor": ("suppress_tokens",),
    "SuppressTokensAtBeginLogitsProcessor": ("begin_suppress_tokens", "begin_index"),
    "SequenceBiasLogitsProcessor": ("sequence_bias",),
    "NoBadWordsLogitsProcessor": ("bad_words_ids", "eos_token_id"),
    "RepetitionPenaltyLogitsProcessor": ("penalty", "prompt_ignore_length"),
    "EncoderRepetitionPenaltyLogitsProcessor": ("penalty", "encoder_input_ids"),
    "NoRepeatNGramLogitsProcessor": ("ngram_size",),
    "EncoderNoRepeatNGramLogitsProcessor": ("encoder_ngram_size", "encoder_input_ids"),
    "TemperatureLogitsWarper": ("temperature",),
    "TopKLogitsWarper": ("top_k",),
    "TopPLogitsWarper": ("top_p",),
    "MinPLogitsWarper": ("min_p",),
    "TypicalLogitsWarper": ("mass",),
    "EpsilonLogitsWarper": ("epsilon",),
    "EtaLogitsWarper": ("epsilon",),
}
CUTTING = [name for name in SETTINGS if name.endswith("Warper") and name != "TemperatureLogitsWarper"]
CHANGES = {"InfNanRemoveLogitsProcessor": "spoil"}


def cases(kind):
    """name -> (class, arguments, arguments of `draw`, name of a function of scores or None)"""
    of_kind = {}
    for number, values in enumerate(SETTINGS[kind]):
        arguments = dict(zip(ARGUMENTS.get(kind, ()), values, strict=False))
        for length in LENGTHS:
            drawn = {"rows": ROWS, "vocab": VOCAB, "length": length, "seed": 10 * number + length}
            of_kind[f"{number} {length}"] = (kind, arguments, drawn, CHANGES.get(kind))
        if kind in CUTTING:
            more = arguments | {"min_tokens_to_keep": 3}
            of_kind[f"{number} {length} keep 3"] = (kind, more, drawn, None)
            of_kind[f"{number} {length} keep 3 of few"] = (kind, more, drawn, "forbid")
    return of_kind


class Programs:
    """Compiled calls of `process`, one program per signature (on PyTorch, plain calls)."""

    def __init__(self):
        self.traced = 0
        self.programs = {}

    def __call__(self, processor, ids, length, scores):
        key = (processor.signature(), ids.shape, scores.shape)
        if key not in self.programs:

            def program(values, ids, length, scores):
                self.traced += 1
                return processor.bind(values).process(ids, length, scores)

            self.programs[key] = self.compile(program)
        arguments = (processor.values(), ids, np.int32(length), scores)
        arguments = keras.tree.map_structure(ops.convert_to_tensor, arguments)
        return ops.convert_to_numpy(self.programs[key](*arguments))

    def compile(self, program):
        if keras.config.backend() == "jax":
            import jax

            return jax.jit(program)
        if keras.config.backend() == "tensorflow":
            import tensorflow as tf

            return tf.function(program, jit_compile=True, autograph=False)
        return program


def filled(ids):
    """Tokens in a buffer, with what is no token behind them."""
    rest = np.random.default_rng(ids.size).choice(np.array([-7, 3, 10**6], "int32"), (len(ids), CAPACITY))
    return np.concatenate([ids, rest], axis=1)[:, :CAPACITY]


def check(found, expected, tolerance=2e-6):
    found = ops.convert_to_numpy(found)
    assert found.dtype == np.float32 and found.shape == expected.shape
    np.testing.assert_array_equal(np.isneginf(found), np.isneginf(expected))
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def results(function, **arguments):
    return np.load(reference.make(f"logits.{function}", **arguments) / "results.npz")


@pytest.mark.parametrize("kind", SETTINGS)
def test_equal_to_the_reference(kind):
    table = cases(kind)
    expected = results("run", cases=table)
    programs = Programs()
    for name, (_, arguments, drawn, change) in table.items():
        ids, scores = logits.draw(**drawn)
        scores = getattr(logits, change)(scores, drawn["seed"]) if change else scores
        processor = getattr(processors, kind)(**arguments)
        length, buffer = ids.shape[1], filled(ids)
        if name == f"0 {LENGTHS[-1]}":  # one call that is not compiled, with an int for the length
            found = processor.process(ops.convert_to_tensor(buffer), length, ops.convert_to_tensor(scores))
            check(found, expected[name])
        check(programs(processor, buffer, length, scores), expected[name])
    assert keras.config.backend() == "torch" or programs.traced == len(programs.programs)


# -------------------------------------------------------------------------------------------- signatures

# class -> arguments that one program serves, and arguments that need another
SAME_AND_OTHER = {
    "MinLengthLogitsProcessor": ([(6, 5), (9, 7)], (6, [5, 6])),
    "MinNewTokensLengthLogitsProcessor": ([(2, 6, 5), (3, 9, 7)], (2, 6, [5, 6])),
    "ForcedEOSTokenLogitsProcessor": ([(12, 17), (13, 18)], (12, [17, 18])),
    "ExponentialDecayLengthPenalty": ([((3, 1.1), 5, 2), ((4, 1.2), 6, 3)], ((3, 1.1), [5, 6], 2)),
    "SuppressTokensAtBeginLogitsProcessor": ([([1, 2], 6), ([3, 4], 7)], ([1], 6)),
    "SequenceBiasLogitsProcessor": ([([[[1, 2], 1.0]],), ([[[3, 4], 2.0]],)], ([[[1, 2, 3], 1.0]],)),
    "RepetitionPenaltyLogitsProcessor": ([(1.3,), (1.5, 4)], None),
    "EncoderRepetitionPenaltyLogitsProcessor": ([(1.3, PROMPT), (0.7, PROMPTS[:2])], (1.3, PROMPTS)),
    "NoRepeatNGramLogitsProcessor": ([(2,), (2,)], (3,)),
    "EncoderNoRepeatNGramLogitsProcessor": ([(2, PROMPT), (2, PROMPTS[:2])], (3, PROMPT)),
    "TemperatureLogitsWarper": ([(0.7,), (1.9,), (1,)], None),
    "TopKLogitsWarper": ([(2,), (1, 2)], (3,)),
    "TopPLogitsWarper": ([(0.3,), (0.9,), (1,)], (0.3, 2)),
    "TypicalLogitsWarper": ([(0.3,), (0.9,)], (0.3, 2)),
    "EtaLogitsWarper": ([(0.3,), (0.9,)], (0.3, 2)),
    "HammingDiversityLogitsProcessor": ([(0.3, 4, 2), (0.9, 4, 2)], (0.3, 4, 4)),
}


@pytest.mark.parametrize("kind", SAME_AND_OTHER)
def test_values_are_no_part_of_the_signature(kind):
    same, other = SAME_AND_OTHER[kind]
    made = [getattr(processors, kind)(*arguments) for arguments in same]
    assert len({processor.signature() for processor in made}) == 1
    assert len({LogitsProcessorList([processor]).signature() for processor in made}) == 1
    if other is not None:
        assert getattr(processors, kind)(*other).signature() != made[0].signature()
    for processor in made:
        assert all(value.dtype in ("float32", "int32", "bool") for value in processor.values().values())


def test_types_and_order_are_part_of_the_signature():
    temperature, top_k = processors.TemperatureLogitsWarper(0.5), processors.TopKLogitsWarper(3)
    signatures = [LogitsProcessorList(each).signature() for each in ([temperature], [temperature, top_k], [top_k])]
    signatures.append(LogitsProcessorList([top_k, temperature]).signature())
    assert len(set(signatures)) == 4


# --------------------------------------------------------------------------------- what the reference lacks


def test_top_p_keeps_equal_scores_together():
    scores = np.array([[1.0, 1.0, 1.0, 0.0], [2.0, 1.0, 1.0, 1.0]], "float32")
    kept = ops.convert_to_numpy(processors.TopPLogitsWarper(0.4)([[0], [0]], scores)) > -np.inf
    assert kept.tolist() == [[True, True, True, False], [True, False, False, False]]


@pytest.mark.parametrize("kind, arguments", [("TopPLogitsWarper", (0.9, 2)), ("TypicalLogitsWarper", (0.8, 3))])
def test_large_vocabularies(kind, arguments):
    """Against sorting in double precision."""
    ids, scores = logits.draw(3, 50257, 1, seed=5)
    found = Programs()(getattr(processors, kind)(*arguments), ids, 1, scores) > -np.inf
    exact = scores.astype("float64")
    chances = np.exp(exact - np.log(np.exp(exact).sum(axis=1, keepdims=True)))
    entropy = -(chances * np.log(chances)).sum(axis=1, keepdims=True)
    order = np.argsort(-exact if kind == "TopPLogitsWarper" else np.abs(np.log(chances) + entropy), axis=1)
    before = np.cumsum(np.take_along_axis(chances, order, axis=1), axis=1) - np.take_along_axis(chances, order, axis=1)
    expected = np.zeros_like(found)
    np.put_along_axis(expected, order, before < arguments[0], axis=1)
    assert (found != expected).sum() <= 2 and found.any(axis=1).all()  # on the border float32 may decide otherwise


def test_decay_leaves_a_forbidden_end_forbidden_and_stays_finite():
    processor = processors.ExponentialDecayLengthPenalty((1, 3.0), [2, 3, 4], 0)
    scores = np.array([[0.5, 1.0, -np.inf, 0.0, -2.0]], "float32")
    check(processor([[1] * 6], scores), np.array([[0.5, 1.0, -np.inf, 0.0, 2.0 * (3.0**5 - 2)]], "float32"))
    late = ops.convert_to_numpy(processor([[1] * 500], scores))
    assert np.isneginf(late[0, 2]) and late[0, 3] == 0.0 and 1e37 < late[0, 4] < np.inf


def test_masked_places_of_the_prompt_do_not_count():
    prompt = np.array(PROMPTS)
    longer = np.concatenate([prompt, np.full((ROWS, 3), 7)], axis=1)
    mask = np.arange(12) < np.full((ROWS, 1), 9)
    ids, scores = logits.draw(ROWS, VOCAB, CAPACITY, seed=1)
    run = Programs()
    for kind, first in (("EncoderRepetitionPenaltyLogitsProcessor", 1.4), ("EncoderNoRepeatNGramLogitsProcessor", 2)):
        make = getattr(processors, kind)
        check(run(make(first, longer, mask), ids, 6, scores), run(make(first, prompt), ids, 6, scores))


def test_the_encoders_penalty_reaches_every_beam():
    """The reference's stops at as many rows as there are prompts."""
    ids, scores = logits.draw(6, VOCAB, 1, seed=2)
    run = Programs()
    found = run(processors.EncoderRepetitionPenaltyLogitsProcessor(1.4, PROMPT), ids, 1, scores)
    each = processors.EncoderRepetitionPenaltyLogitsProcessor(1.4, np.repeat(PROMPT, 3, axis=0))
    check(found, run(each, ids, 1, scores))
    assert (found != scores).any(axis=1).all()


# ------------------------------------------------------------------------------------------ groups of beams


@pytest.mark.parametrize("beams, count", [(4, 2), (6, 3), (3, 3)])
def test_hamming_diversity(beams, count):
    arguments = {"diversity_penalty": 0.6, "num_beams": beams, "num_beam_groups": count}
    expected = results("groups", **arguments, prompts=2, vocab=50, seed=4)
    processor = processors.HammingDiversityLogitsProcessor(**arguments)
    tokens = logits.draw(2 * beams, 1, 1, 4, kinds=3)[0][:, 0]
    for group in range(count):
        _, scores = logits.draw(2 * beams // count, 50, 1, 4 + group)
        check(processor(None, scores, tokens, group), expected[str(group)])
        start = group * (beams // count)
        known = np.where(np.arange(beams) < start, tokens.reshape(2, beams), -9).astype("int32")
        chained = LogitsProcessorList([processor, processors.TemperatureLogitsWarper(0.5)])
        found = chained.process(None, 1, ops.convert_to_tensor(scores), ops.convert_to_tensor(known), start)
        check(found, expected[str(group)] / 0.5)


# --------------------------------------------------------------------------------------------------- chains

DEFAULTS = {"top_k": 50, "max_length": 20}
ENDS = {"eos_token_id": [5, 200]}
# name -> (settings, beams, whether prefix_allowed_tokens_fn is given, whether a user's processor is)
CHAINS = {
    "none": ({"top_k": None}, 1, False, False),
    "sampling by default": ({"do_sample": True}, 1, False, False),
    "greedy ignores warpers": ({"temperature": 0.5, "top_p": 0.5, "min_p": 0.1}, 1, False, False),
    "no end": ({"min_length": 9, "min_new_tokens": 4, "do_sample": True}, 2, False, False),
    "penalties": (
        ENDS
        | {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "encoder_no_repeat_ngram_size": 3}
        | {"encoder_repetition_penalty": 0.8, "sequence_bias": SEQUENCES, "bad_words_ids": [*WORDS, [5]]}
        | {"renormalize_logits": True},
        1,
        False,
        False,
    ),
    "lengths": (
        {"eos_token_id": 5, "min_length": 5, "min_new_tokens": 6, "forced_bos_token_id": 9, "forced_eos_token_id": 5}
        | {"max_length": 12, "exponential_decay_length_penalty": (2, 1.2), "remove_invalid_values": True},
        2,
        False,
        False,
    ),
    "tokens": (
        ENDS | {"suppress_tokens": [1, 7, 9], "begin_suppress_tokens": [3, 5], "forced_eos_token_id": [5, 6]},
        1,
        False,
        True,
    ),
    "warpers": (
        ENDS
        | {"do_sample": True, "temperature": 1.7, "top_k": 100, "top_p": 0.95, "min_p": 0.01, "typical_p": 0.9}
        | {"epsilon_cutoff": 0.004, "eta_cutoff": 0.01, "renormalize_logits": True},
        1,
        False,
        False,
    ),
    "warpers of beams": (
        ENDS | {"do_sample": True, "top_k": 1, "top_p": 0.01, "min_p": 0.99, "repetition_penalty": 1.2},
        2,
        False,
        False,
    ),
    "constrained": ({"eos_token_id": 5, "min_length": 3, "do_sample": True, "temperature": 0.6}, 2, True, True),
}


@pytest.mark.parametrize("name, prompt_length", [*((name, 4) for name in CHAINS), ("lengths", 1), ("tokens", 1)])
def test_chains(name, prompt_length):
    settings, beams, prefix, users = CHAINS[name]
    lengths = (1, 6) if prompt_length == 1 else (4, 11)
    expected = results(
        "chain", settings=settings, rows=ROWS, vocab=VOCAB, prompt_length=prompt_length, lengths=lengths, beams=beams,
        prefix=prefix, users=users,
    )  # fmt: skip
    chain = build_processors(
        SimpleNamespace(**(DEFAULTS | settings)),
        prompt_length=prompt_length,
        vocab_size=VOCAB,
        prompt_ids=logits.draw(ROWS // beams, VOCAB, prompt_length, seed=0)[0],
        num_beams=beams,
        prefix_allowed_tokens_fn=logits.allowed if prefix else None,
        extra=[logits.user] if users else [],
    )
    names = [type(processor).__name__ for processor in chain]
    assert names == ["PythonProcessor" if each == "function" else each for each in expected["names"]]
    assert chain.compiled == (not (prefix or users))
    programs = Programs()
    for length in lengths:
        ids, scores = logits.draw(ROWS, VOCAB, length, seed=length)
        if chain.compiled:
            check(programs(chain, filled(ids), length, scores), expected[str(length)])
        else:
            check(chain(ids, scores), expected[str(length)])
    assert len(programs.programs) <= 1


def test_groups_of_beams_are_diverse():
    config = SimpleNamespace(diversity_penalty=0.5, num_beam_groups=2, sequence_bias=SEQUENCES, repetition_penalty=2.0)
    names = [type(each).__name__ for each in build_processors(config, prompt_length=1, vocab_size=9, num_beams=4)]
    assert names == [
        "SequenceBiasLogitsProcessor", "HammingDiversityLogitsProcessor", "RepetitionPenaltyLogitsProcessor"
    ]  # fmt: skip


WRONG = [
    ({"do_sample": True, "temperature": 0.0}, "temperature must be above 0, not 0.0; do_sample=False"),
    ({"do_sample": True, "top_k": -1}, "top_k must be an integer of 1 or more, not -1"),
    ({"do_sample": True, "top_k": 2.5}, "top_k must be an integer of 1 or more, not 2.5"),
    ({"do_sample": True, "top_p": 1.5}, "top_p must be from 0 to 1, not 1.5"),
    ({"do_sample": True, "min_p": -0.1}, "min_p must be from 0 to 1, not -0.1"),
    ({"do_sample": True, "typical_p": 0.0}, "typical_p must be between 0 and 1, not 0.0"),
    ({"do_sample": True, "epsilon_cutoff": 1.0}, "epsilon_cutoff must be between 0 and 1, not 1.0"),
    ({"do_sample": True, "eta_cutoff": -1.0}, "eta_cutoff must be between 0 and 1, not -1.0"),
    ({"repetition_penalty": -1.0}, "repetition_penalty must be above 0, not -1.0"),
    ({"encoder_repetition_penalty": 0.0}, "encoder_repetition_penalty must be above 0, not 0.0"),
    ({"no_repeat_ngram_size": -2}, "no_repeat_ngram_size must be an integer of 1 or more, not -2"),
    ({"bad_words_ids": []}, "bad_words_ids must hold at least one list"),
    ({"bad_words_ids": [[1], []]}, "bad_words_ids must hold non-empty lists of token ids, not []"),
    ({"bad_words_ids": [3]}, "bad_words_ids must hold non-empty lists of token ids, not 3"),
    ({"bad_words_ids": [[1, -2]]}, "bad_words_ids must hold token ids of 0 or more, not [-2]"),
    ({"bad_words_ids": [[300, 3]]}, "bad_words_ids must hold token ids from 0 to 210, not [300]"),
    ({"sequence_bias": []}, "sequence_bias must hold at least one sequence"),
    ({"sequence_bias": {(3, 300): 1.0}}, "sequence_bias must hold token ids from 0 to 210, not [300]"),
    ({"eos_token_id": [-3], "min_length": 3}, "eos_token_id must hold token ids of 0 or more, not [-3]"),
    ({"eos_token_id": 5, "min_length": -3}, "min_length must be an integer of 0 or more, not -3"),
    ({"suppress_tokens": [1, -1]}, "suppress_tokens must hold token ids of 0 or more, not [-1]"),
    ({"forced_bos_token_id": 500}, "forced_bos_token_id must hold token ids from 0 to 210, not [500]"),
    ({"exponential_decay_length_penalty": (1, 1.2)}, "exponential_decay_length_penalty needs an eos_token_id"),
    ({"eos_token_id": 5, "exponential_decay_length_penalty": (1, 0)}, "must be above 0, not 0"),
    ({"diversity_penalty": -1.0, "num_beam_groups": 2}, "diversity_penalty must be above 0, not -1.0"),
    ({"diversity_penalty": 1.0, "num_beam_groups": 4}, "num_beam_groups must not exceed num_beams, but 4 > 2"),
]


@pytest.mark.parametrize("settings, message", WRONG)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError) as caught:
        build_processors(SimpleNamespace(**settings), prompt_length=3, vocab_size=VOCAB, num_beams=2, prompt_ids=PROMPT)
    assert message in str(caught.value)


def test_what_is_not_there():
    for settings in ({"guidance_scale": 2.0}, {"watermarking_config": {"bias": 2.0}}):
        with pytest.raises(NotImplementedError, match="is not supported; set it to"):
            build_processors(SimpleNamespace(**settings), prompt_length=3, vocab_size=VOCAB)
    with pytest.warns(UserWarning, match="encoder_repetition_penalty is ignored"):
        chain = build_processors(SimpleNamespace(encoder_repetition_penalty=2.0), prompt_length=3, vocab_size=VOCAB)
    assert chain == []


# --------------------------------------------------------------------------------------------- users' own


class Echo(LogitsProcessor):
    """Raises the score of the last token."""

    inputs = ("amount",)

    def __init__(self, amount, note=None):
        self.amount = amount
        self.note = note

    def process(self, ids, length, scores):
        last = ops.take(ids, length - 1, axis=1)[:, None]
        return ops.where(ops.arange(scores.shape[1])[None] == last, scores + self.amount, scores)


class Called(LogitsProcessor):
    """Written as for the reference."""

    def __call__(self, input_ids, scores):
        scores[:, 3] = -np.inf
        return scores


def build(*extra, **settings):
    return build_processors(SimpleNamespace(**settings), prompt_length=2, vocab_size=VOCAB, extra=extra)


def test_a_users_processor_is_compiled():
    chain = build(Echo(2.5), do_sample=True, temperature=0.5)
    assert chain.compiled and [type(each) for each in chain] == [Echo, processors.TemperatureLogitsWarper]
    ids, scores = logits.draw(ROWS, VOCAB, 6, seed=3)
    expected = scores.copy()
    expected[np.arange(ROWS), ids[:, -1]] += 2.5
    programs = Programs()
    check(programs(chain, filled(ids), 6, scores), expected / 0.5)
    check(
        programs(build(Echo(-1.5), do_sample=True, temperature=4.0), filled(ids), 6, scores)[0],
        (expected[0] + (np.arange(VOCAB) == ids[0, -1]) * -4.0) / 4.0,
    )
    assert len(programs.programs) == 1


def test_signatures_of_users_processors():
    notes = [[1, 2], [1, 3], {"a": np.arange(3)}, {"a": np.arange(4)}, "text", ops.convert_to_tensor([1.0])]
    signatures = [Echo(1.0, note).signature() for note in notes]
    assert len(set(signatures)) == len(notes)
    assert Echo(2.0, {"a": np.arange(3)}).signature() == signatures[2]


def test_users_code_in_python():
    ids, scores = logits.draw(ROWS, VOCAB, 6, seed=3)
    chain = build(Called(), lambda input_ids, scores: scores / 2)
    assert not chain.compiled
    expected = scores.copy()
    expected[:, 3] = -np.inf
    check(chain(ids, scores), expected / 2)
    tensor = ops.convert_to_tensor(scores)
    check(chain.process(ops.convert_to_tensor(filled(ids)), 6, tensor), expected / 2)
    check(tensor, scores)  # what was handed over was a copy
    with pytest.raises(TypeError, match=r"must be a function of \(input_ids, scores\), not 3"):
        build(3)
    with pytest.raises(ValueError, match="The logits processor <lambda> must return scores of shape .*, not None"):
        build(lambda input_ids, scores: None)(ids, scores)


def test_a_users_processor_takes_the_place_of_its_like():
    mine = processors.RepetitionPenaltyLogitsProcessor(3.0)
    chain = build(Echo(1.0), mine, repetition_penalty=1.5, no_repeat_ngram_size=2)
    kinds = [processors.RepetitionPenaltyLogitsProcessor, processors.NoRepeatNGramLogitsProcessor, Echo]
    assert chain[0] is mine and [type(each) for each in chain] == kinds


def test_what_a_prefix_function_may_not_return():
    processor = processors.PrefixConstrainedLogitsProcessor(lambda prompt, ids: [], 1)
    with pytest.raises(ValueError, match="prefix_allowed_tokens_fn allowed no token for prompt 0 after 2 tokens"):
        processor([[1, 2]], np.zeros((1, 5), "float32"))


def test_a_processor_must_define_process():
    with pytest.raises(NotImplementedError, match="LogitsProcessor must define process"):
        LogitsProcessor()([[1]], np.zeros((1, 5), "float32"))
