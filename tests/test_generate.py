"""`generate` against the reference: searches, settings, outputs, caches, sampling, compiled programs, streams."""

import functools
import tempfile
import threading
import warnings
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_models
from keras_models import GenerationConfig, runtime
from keras_models.generation import decoding, search, streamers
from keras_models.generation.processors import LogitsProcessor
from tests import reference
from tests.reference import generation as probe
from tests.reference import tokenizers_

IDS = [[7, 21, 3, 44, 9, 30, 12], [50, 50, 50, 30, 2, 51, 8]]
MASK = [[1] * 7, [0] * 3 + [1] * 4]
BATCH = {"input_ids": IDS, "attention_mask": MASK, "pad_token_id": 50, "eos_token_id": [12, 28], "max_new_tokens": 12}
ENDLESS = {**BATCH, "eos_token_id": None}
ALL_REAL = {"attention_mask": None, "pad_token_id": 0}  # what padding itself sees is undefined
EVERYTHING = {"output_scores": True, "output_logits": True, "output_attentions": True, "output_hidden_states": True}
BEAMS = {**BATCH, "num_beams": 3, "num_return_sequences": 3, "output_scores": True}
TOKENIZER = tokenizers_.tiny_bpe("<|endoftext|>")

GPT2 = {
    "vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 320, "tie_word_embeddings": False,
    "bos_token_id": 58, "eos_token_id": None,
}  # fmt: skip
SCORES = {
    "repetition_penalty": 1.4, "no_repeat_ngram_size": 3, "bad_words_ids": [[55], [11, 30]], "suppress_tokens": [12],
    "sequence_bias": [[[30], 2.0], [[30, 28], 3.0]], "begin_suppress_tokens": [30], "renormalize_logits": True,
    "encoder_repetition_penalty": 0.7, "encoder_no_repeat_ngram_size": 2, "remove_invalid_values": True,
}  # fmt: skip
PYTHON = {"logits_processor": ["lower_last"], "prefix_allowed_tokens_fn": "odd_or_half"}
GPT2_CASES = {
    "greedy": ENDLESS,
    "default-length": {**ENDLESS, "max_new_tokens": None},
    "ends": BATCH,
    "without-cache": {**BATCH, "use_cache": False},
    "forced": {"input_ids": [[5], [6]], "pad_token_id": 0, "max_new_tokens": 8, "forced_bos_token_id": 9,
               "min_new_tokens": 3, "eos_token_id": 55, "forced_eos_token_id": 4, "begin_suppress_tokens": [11]},
    "scores": {**ENDLESS, **SCORES},
    "lengths": {**BATCH, "repetition_penalty": 1.4, "max_new_tokens": None, "max_length": 19, "min_length": 13,
                "exponential_decay_length_penalty": [7, 1.5]},
    "other-lengths": {**BATCH, "input_ids": [row[1:] for row in IDS], "attention_mask": [row[1:] for row in MASK],
                      "repetition_penalty": 1.1, "max_new_tokens": 20, "eos_token_id": [19, 55], "min_length": 9,
                      "exponential_decay_length_penalty": [5, 1.1]},
    "python": {**ENDLESS, **PYTHON},
    "criterion": {**ENDLESS, "stopping_criteria": ["after_ten"]},
    "criterion-without-end": {**ENDLESS, "stopping_criteria": ["large_sum"]},
    "criteria": {**BATCH, "stopping_criteria": ["large_sum"], "max_time": 1e9},
    "stop-strings": {**BATCH, "stop_strings": ["+W", "??>"], "tokenizer": TOKENIZER},
    "everything": {**ENDLESS, **ALL_REAL, "max_new_tokens": 4, **EVERYTHING},
    "embeds": {**BATCH, "give": "inputs_embeds", "repetition_penalty": 1.4, "max_new_tokens": None, "min_length": 9},
    "types": {**ENDLESS, "token_type_ids": [[3] * 4 + [4] * 3, [3] * 6 + [4]]},
    "start": {},
    **{f"prompt-of-{n}": {"input_ids": [([*range(3, 45), *range(50, 7, -1)] * 4)[:n]], "max_new_tokens": 3}
       for n in (1, 16, 17, 65, 300)},
    "long": {**ENDLESS, "max_new_tokens": 150},
    "beams": BEAMS,
    "beams-shorter": {**BEAMS, "length_penalty": -1.0},
    "beams-even": {**BEAMS, "length_penalty": 0.0, "num_return_sequences": 1},
    "beams-longer": {**BEAMS, "length_penalty": 2.0},
    "beams-pad-0": {**BEAMS, "pad_token_id": 0},
    "beams-early": {**BEAMS, "early_stopping": True, "length_penalty": 0.0},
    "beams-never": {**BEAMS, "early_stopping": "never", "length_penalty": 2.0},
    "beams-never-shorter": {**BEAMS, "early_stopping": "never", "length_penalty": -1.0},
    "beams-long": {**BEAMS, "num_beams": 5, "num_return_sequences": 5, "eos_token_id": [12, 28, 11, 30],
                   "min_new_tokens": 60, "max_new_tokens": 70, "output_scores": False},
    # Of several beams the reference penalizes the first ones only.
    "beams-scores": {**BEAMS, **SCORES, "eos_token_id": 28, "min_length": 10, "encoder_repetition_penalty": None},
    "beams-python": {**BEAMS, **PYTHON},
    "beams-criteria": {**BEAMS, "stopping_criteria": ["large_sum"], "output_scores": False},
    "beams-everything": {**BEAMS, **ALL_REAL, "eos_token_id": None, "max_new_tokens": 4, **EVERYTHING},
}  # fmt: skip

SOURCE = {
    "input_ids": [[7, 21, 3, 44, 9, 30, 12], [30, 2, 51, 8, 1, 1, 1]], "attention_mask": [[1] * 7, [1] * 4 + [0] * 3],
    "max_new_tokens": 12, "eos_token_id": [11, 17], "no_repeat_ngram_size": 2,
}  # fmt: skip
BART = {
    "vocab_size": 60, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 96,
    "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": None,
}  # fmt: skip
BART_CASES = {
    "greedy": {**SOURCE, "attention_mask": None},
    "given-decoder": {**SOURCE, "decoder_input_ids": [[5, 6, 7], [8, 9, 10]], "decoder_start_token_id": [6, 5]},
    "given-start": {**SOURCE, "decoder_input_ids": [[2, 6, 7], [2, 9, 10]],
                    "decoder_attention_mask": [[1, 1, 1], [1, 0, 1]]},
    "everything": {**SOURCE, "max_new_tokens": 4, "forced_bos_token_id": 16, **EVERYTHING},
    "beams": {**SOURCE, "num_beams": 3, "num_return_sequences": 2, **EVERYTHING, "give": "encoder_outputs"},
}  # fmt: skip
T5 = {
    "vocab_size": 60, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "pad_token_id": 1,
    "decoder_start_token_id": 0, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20,
    "tie_word_embeddings": False,
}  # fmt: skip
T5_CASES = {
    "scores": {**SOURCE, "encoder_repetition_penalty": 0.7, "encoder_no_repeat_ngram_size": 2},
    "far": {**SOURCE, "eos_token_id": None, "max_new_tokens": 70},
    "beams": {
        **SOURCE,
        "num_beams": 3,
        "num_return_sequences": 2,
        "eos_token_id": [25, 45],
        "encoder_no_repeat_ngram_size": 1,
        **EVERYTHING,
    },
}
LLAMA = {
    "vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 320, "bos_token_id": 58, "eos_token_id": 59,
}  # fmt: skip
LLAMA_CASES = {
    "padded": ENDLESS,
    "everything": {**ENDLESS, **ALL_REAL, "max_new_tokens": 4, **EVERYTHING},
}
MISTRAL_CASES = {
    "far": {**ENDLESS, "max_new_tokens": 70},
    "beams": {**BEAMS, "eos_token_id": [18, 26]},
}
# Beyond the positions that it was made for, its angles depend on the longest text.
DYNAMIC = {**LLAMA, "max_position_embeddings": 10, "rope_scaling": {"rope_type": "dynamic", "factor": 3.0}}
MODELS = {  # class, configuration, cases, seed
    "gpt2": ("GPT2LMHeadModel", GPT2, GPT2_CASES, 2),
    "bart": ("BartForConditionalGeneration", BART, BART_CASES, 0),
    "t5": ("T5ForConditionalGeneration", T5, T5_CASES, 0),
    "llama": ("LlamaForCausalLM", LLAMA, LLAMA_CASES, 0),
    "mistral": ("MistralForCausalLM", {**LLAMA, "sliding_window": 5}, MISTRAL_CASES, 0),
    "dynamic": ("LlamaForCausalLM", DYNAMIC, {"greedy": {**ENDLESS, **ALL_REAL}}, 0),
}


def checkpoint(name):
    """The folder of a model, with what the reference generates."""
    architecture, config, cases, seed = MODELS[name]
    return reference.make("generation.searches", architecture=architecture, config=config, cases=cases, seed=seed)


def load(name, **options):
    return getattr(keras_models, MODELS[name][0]).from_pretrained(checkpoint(name), **options)


shared_model = functools.cache(load)  # whose compiled programs the tests share


def expected(name, case):
    return dict(np.load(checkpoint(name) / f"{case}.npz"))


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def gpt2():
    return shared_model("gpt2")


@functools.cache
def tokenizer():
    with tempfile.TemporaryDirectory() as folder:
        return keras_models.GPT2Tokenizer.from_pretrained(tokenizers_.folder_with(TOKENIZER, None, Path(folder)))


def run(model, case, **changes):
    """What `generate` returns for a case."""
    case = probe.chosen({"return_dict_in_generate": True, **case, **changes})
    given = case.pop("give", None)
    if given == "inputs_embeds":
        case[given] = keras.ops.convert_to_numpy(model.bare_model().wte(np.array(case.pop("input_ids"))))
    elif given == "encoder_outputs":
        inputs = {name: case[name] for name in ("input_ids", "attention_mask")}
        states = model.infer(**inputs, decoder_input_ids=case.pop("input_ids")).encoder_last_hidden_state
        case[given] = (states,)
    if "tokenizer" in case:
        case["tokenizer"] = tokenizer()
    return model.generate(**case)


def flat(outputs):
    """All arrays by name; the parts of tuples as name.0.1."""
    found = {}

    def add(name, value):
        for index, part in enumerate(value if isinstance(value, tuple) else ()):
            add(f"{name}.{index}", part)
        if not isinstance(value, tuple):
            found[name] = keras.ops.convert_to_numpy(value)

    for name, value in outputs.items():
        if name != "past_key_values":
            add(name, value)
    return found


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in MODELS for case in MODELS[name][2]])
def test_reference(name, case, monkeypatch):
    """The same names in the same order, the same shapes and tokens, and numbers to 1e-4."""
    if "long" in case:
        monkeypatch.setattr(decoding, "FIRST_ROOM", 4)  # so that caches grow
    model, wanted = shared_model(name), expected(name, case)
    outputs = run(model, MODELS[name][2][case])
    if "scores" in outputs:
        chain = (outputs.sequences, outputs.scores, outputs.get("beam_indices"))
        found = model.compute_transition_scores(*chain)
        np.testing.assert_allclose(found, wanted.pop("transitions"), rtol=0, atol=1e-4)
        found = model.compute_transition_scores(*chain, normalize_logits=True)
        np.testing.assert_allclose(found, wanted.pop("normalized"), rtol=0, atol=1e-4)
    found = flat(outputs)
    assert list(found) == list(wanted)
    for part, array in wanted.items():
        assert found[part].shape == array.shape, part
        np.testing.assert_allclose(found[part], array, rtol=0, atol=1e-4, err_msg=part)
    cache = outputs.get("past_key_values")
    if MODELS[name][2][case].get("use_cache") is False:
        assert cache is None
    else:
        assert isinstance(cache, keras_models.Cache) and outputs[-1] is cache


def test_ends_are_met():
    """The cases above stop where they should, not only at the greatest length."""
    for name, case in (("gpt2", "ends"), ("gpt2", "beams"), ("bart", "beams"), ("t5", "beams"), ("mistral", "beams")):
        assert np.isin(expected(name, case)["sequences"][:, 1:-1], MODELS[name][2][case]["eos_token_id"]).any(), name
    assert expected("gpt2", "stop-strings")["sequences"].shape[1] < expected("gpt2", "ends")["sequences"].shape[1]


# -------------------------------------------------------------------------------------------------- prompts


def test_padding_changes_nothing(gpt2):
    tokens = run(gpt2, ENDLESS, input_ids=[IDS[1][3:]], attention_mask=None).sequences
    assert np.array_equal(tokens[0, 4:], expected("gpt2", "greedy")["sequences"][1, 7:])
    guessed = run(gpt2, ENDLESS, attention_mask=None).sequences  # from the padding token
    assert np.array_equal(guessed, expected("gpt2", "greedy")["sequences"])


def test_ways_to_give_a_prompt(gpt2):
    wanted = run(gpt2, BATCH).sequences
    settings = {"max_new_tokens": 12, "eos_token_id": [12, 28], "pad_token_id": 50}
    tensors = {
        "input_ids": keras.ops.convert_to_tensor(IDS),
        "attention_mask": np.array(MASK, bool),
        "token_type_ids": None,
    }
    for found in (
        gpt2.generate(tensors, **settings),
        gpt2.generate(IDS, attention_mask=np.array(MASK, float), **settings),
        gpt2.generate(np.array(IDS, "int64"), GenerationConfig(**settings)),
        gpt2.generate(**tensors, position_ids=np.maximum(np.cumsum(MASK, 1) - 1, 0), **settings),
    ):
        assert isinstance(found, np.ndarray) and np.array_equal(found, wanted)
    assert np.array_equal(gpt2.generate(IDS[0], **settings), wanted[:1])


def test_tokens_beside_embeddings(gpt2):
    embeds = keras.ops.convert_to_numpy(gpt2.bare_model().wte(np.array(IDS)))
    outputs = run(gpt2, BATCH, inputs_embeds=embeds)
    assert np.array_equal(outputs.sequences, expected("gpt2", "ends")["sequences"])


# -------------------------------------------------------------------------------------------------- caches


def turn(first, new, mask):
    """A prompt of what was said and what follows."""
    ids = np.concatenate([first.sequences, new], axis=1)
    return {"input_ids": ids, "attention_mask": np.concatenate([mask, np.ones((len(ids), ids.shape[1] - 7))], axis=1)}


def test_the_cache_of_an_earlier_call(gpt2):
    first = run(gpt2, ENDLESS)
    cache = first.past_key_values
    assert cache.get_seq_length() == 7 + 12 - 1  # the last token has not been through the model
    prompts = [turn(first, new, MASK) for new in ([[5, 6, 33], [7, 8, 9]], [[1], [2]])]
    flags = {"output_scores": True, "output_hidden_states": True}
    wanted = [run(gpt2, ENDLESS, **prompt, **flags) for prompt in prompts]
    for index in (0, 1, 0):  # it stays as it is, whatever is made of it
        found = run(gpt2, ENDLESS, **prompts[index], **flags, past_key_values=cache)
        assert np.array_equal(found.sequences, wanted[index].sequences)
        np.testing.assert_allclose(np.stack(found.scores), np.stack(wanted[index].scores), rtol=0, atol=1e-4)
        new = prompts[index]["input_ids"].shape[1] - 18
        states = wanted[index].hidden_states[0][-1][:, -new:]
        np.testing.assert_allclose(found.hidden_states[0][-1], states, rtol=0, atol=1e-4)
        assert cache.get_seq_length() == 18


def test_further_uses_of_a_cache(gpt2):
    first = run(gpt2, ENDLESS)
    prompt = turn(first, [[5, 6, 33], [7, 8, 9]], MASK)
    found = run(gpt2, BEAMS, **prompt, past_key_values=first.past_key_values)
    assert np.array_equal(found.sequences, run(gpt2, BEAMS, **prompt).sequences)
    empty = run(gpt2, ENDLESS, past_key_values=keras_models.Cache())
    assert np.array_equal(empty.sequences, first.sequences)
    whole = turn(first, np.zeros((2, 0), int), MASK)
    whole = {name: array[:, :-1] for name, array in whole.items()}  # all of which the cache holds
    for roomy in (False, True):
        if roomy:
            first.past_key_values.grow(256)
        again = run(gpt2, ENDLESS, **whole, max_new_tokens=1, past_key_values=first.past_key_values)
        assert np.array_equal(again.sequences, first.sequences)


def test_the_cache_of_an_encoder_decoder():
    model = shared_model("bart")
    first = run(model, SOURCE)
    longer = {"decoder_input_ids": np.concatenate([first.sequences, [[5], [6]]], axis=1)}
    found = run(model, SOURCE, **longer, past_key_values=first.past_key_values)
    assert np.array_equal(found.sequences, run(model, SOURCE, **longer).sequences)


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_float16"])
def test_other_types(dtype):
    outputs = run(load("gpt2", dtype=dtype), ENDLESS, max_new_tokens=2, output_logits=True)
    wanted = run(shared_model("gpt2"), ENDLESS, max_new_tokens=2, output_logits=True)
    assert outputs.sequences.shape == (2, 9) and outputs.logits[0].dtype == "float32"
    np.testing.assert_allclose(outputs.logits[0], wanted.logits[0], rtol=0, atol=0.15)


# ------------------------------------------------------------------------------------------------ sampling

WARPERS = {"do_sample": True, "temperature": 1.3, "top_k": 20, "top_p": 0.9, "typical_p": 0.95, "min_p": 0.02}


def test_draws(gpt2):
    """Places are where the running sum of probabilities passes the number, and never one without probability."""
    random = np.random.default_rng(0)
    weights = random.random((400, 53)) * (random.random((400, 53)) < 0.4)
    weights[0] = np.eye(53)[7]
    probabilities = (weights / weights.sum(1, keepdims=True)).astype("float32")
    uniforms = np.concatenate([[0.0, 1 - 2**-24, 0.0, 1 - 2**-24], random.random(396)]).astype("float32")

    def drawn(draw, *arrays):
        program = runtime.compile_program(gpt2, draw)
        return keras.ops.convert_to_numpy(program(*map(keras.ops.convert_to_tensor, arrays)))

    found = drawn(search.draw, probabilities, uniforms)
    sums = probabilities.astype("float64").cumsum(1)
    rows = np.arange(400)
    assert (probabilities[rows, found] > 0).all()
    assert (sums[rows, found] >= uniforms - 1e-6).all()
    assert (sums[rows, found] - probabilities[rows, found] <= uniforms + 1e-6).all()
    several = drawn(search.draw_several, probabilities, random.random((400, 3)).astype("float32"))[1:]
    assert (np.diff(np.sort(several, axis=1), axis=1) > 0).all() and (probabilities[rows[1:, None], several] > 0).all()


def test_sampling(gpt2):
    """The draw, computed again from the scores; and the scores are what the reference's warpers leave."""
    settings = {**ENDLESS, **WARPERS, "num_return_sequences": 4}
    outputs = run(gpt2, settings, seed=3, output_scores=True)
    uniforms = np.random.default_rng(3).random((12, 8, 1), "float32")
    for step, scores in enumerate(outputs.scores):
        weights = np.exp(scores.astype("float64") - scores.max(1, keepdims=True))
        sums = np.cumsum(weights / weights.sum(1, keepdims=True), axis=1)
        assert np.array_equal(outputs.sequences[:, 7 + step], (sums > uniforms[step]).argmax(1)), step
    folder = reference.make(
        "generation.warped", checkpoint=str(checkpoint("gpt2")), sequences=outputs.sequences.tolist(), prompt_length=7,
        mask=np.repeat(MASK, 4, axis=0).tolist(), settings=WARPERS,
    )  # fmt: skip
    wanted = np.load(folder / "scores.npy")
    assert 0.4 < np.isinf(wanted).mean() < 0.99
    np.testing.assert_allclose(np.stack(outputs.scores), wanted, rtol=0, atol=1e-4)
    for _ in range(2):  # in one compiled loop
        assert np.array_equal(run(gpt2, settings, seed=3).sequences, outputs.sequences)
    assert not np.array_equal(run(gpt2, settings, seed=4).sequences, outputs.sequences)
    found = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        found.append(run(gpt2, settings).sequences)
    assert np.array_equal(*found) and not np.array_equal(found[0], run(gpt2, settings).sequences)


def test_samples_have_the_distribution_of_the_model(gpt2):
    settings = {**ENDLESS, "do_sample": True, "top_k": 0, "max_new_tokens": 1, "temperature": 1.5}
    outputs = run(gpt2, settings, num_return_sequences=4000, output_scores=True, seed=1)
    for row in (0, 4000):
        weights = np.exp(outputs.scores[0][row].astype("float64"))
        wanted = 4000 * weights / weights.sum()
        found = np.bincount(outputs.sequences[row : row + 4000, -1], minlength=60)
        common = wanted > 5
        chi = ((found - wanted) ** 2 / wanted)[common].sum()
        assert common.sum() > 30 and chi < common.sum() + 4 * (2 * common.sum()) ** 0.5


def test_sampling_beams(gpt2):
    settings = {
        **ENDLESS,
        "do_sample": True,
        "num_beams": 3,
        "num_return_sequences": 3,
        "output_scores": True,
        "seed": 6,
    }
    first = run(gpt2, settings, max_new_tokens=1)
    uniforms = np.random.default_rng(6).random((1, 2, 6), "float32")[0]
    for text in range(2):
        weights, drawn = np.exp(first.scores[0][3 * text].astype("float64")), []
        for number in uniforms[text, :3]:  # the others are there to go on with
            drawn.append((np.cumsum(weights / weights.sum()) > number).argmax())
            weights[drawn[-1]] = 0.0
        best = sorted(drawn, key=lambda token: -first.scores[0][3 * text][token])
        assert first.sequences[3 * text : 3 * text + 3, -1].tolist() == best
    outputs = run(gpt2, settings)
    assert np.array_equal(run(gpt2, settings).sequences, outputs.sequences)
    assert not np.array_equal(run(gpt2, settings, seed=7).sequences, outputs.sequences)
    chosen = gpt2.compute_transition_scores(outputs.sequences, outputs.scores, outputs.beam_indices)
    np.testing.assert_allclose(chosen.sum(1) / 12, outputs.sequences_scores, rtol=0, atol=1e-4)


# ------------------------------------------------------------------------------------------------ programs


@pytest.fixture
def traces(monkeypatch):
    """How often models were called from Python: at every step on PyTorch, elsewhere while programs are compiled."""
    count = [0]

    def counted(function):
        def call(*args, **kwargs):
            count[0] += not runtime.CACHE_IN_PLACE
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(decoding.Programs, "call", counted(decoding.Programs.call))
    monkeypatch.setattr(keras_models.PreTrainedModel, "encode", counted(keras_models.PreTrainedModel.encode))
    return count


def test_other_numbers_need_no_other_program(gpt2, traces):
    sampled = {**ENDLESS, **WARPERS, "num_return_sequences": 4, "seed": 1}
    pairs = [
        (GPT2_CASES["lengths"], GPT2_CASES["other-lengths"]),
        (sampled, {**sampled, "seed": 2, "temperature": 0.7, "top_p": 0.5, "min_p": 0.1, "input_ids": [[5] * 9] * 2,
                   "attention_mask": [[0] + [1] * 8] * 2}),
        (BEAMS, {**BEAMS, "length_penalty": 0.3, "input_ids": [[5, 9], [8, 3]], "attention_mask": [[1, 1], [0, 1]]}),
    ]  # fmt: skip
    for first, second in pairs:
        run(gpt2, first)
        before = traces[0]
        run(gpt2, second)
        assert traces[0] == before, second
    bart = shared_model("bart")
    run(bart, SOURCE)
    before = traces[0]
    ids, mask = ([row[:5] for row in SOURCE[name]] for name in ("input_ids", "attention_mask"))
    assert np.array_equal(
        run(bart, SOURCE, input_ids=ids, attention_mask=mask).sequences[1:], run(bart, SOURCE).sequences[1:]
    )
    assert traces[0] == before


class Lower(LogitsProcessor):
    """Makes one token less likely."""

    inputs = ("amount",)

    def __init__(self, amount):
        self.amount = amount

    def process(self, ids, length, scores):
        return scores - self.amount * keras.ops.cast(keras.ops.arange(60) == 55, "float32")


def test_a_user_s_processor_stays_compiled(gpt2, traces):
    run(gpt2, BATCH, max_new_tokens=1)
    found = gpt2.generate(**BATCH, logits_processor=[Lower(100.0)])
    before = traces[0]
    same = gpt2.generate(**BATCH, logits_processor=[Lower(0.0)])
    assert traces[0] == before and 55 not in found
    assert np.array_equal(same, expected("gpt2", "ends")["sequences"])
    in_python = gpt2.generate(
        **BATCH, logits_processor=[lambda ids, scores: np.where(np.arange(60) == 55, -100.0, scores)]
    )
    assert np.array_equal(in_python, found)
    before = traces[0]
    same = gpt2.generate(**BATCH, logits_processor=[lambda ids, scores: scores])
    assert traces[0] == before and np.array_equal(same, expected("gpt2", "ends")["sequences"])


def test_changed_models():
    """LoRA, another vocabulary, other weights: what was compiled before does not count any more."""
    model = load("gpt2")

    def check(size):
        found = run(model, ENDLESS, max_new_tokens=1, output_logits=True).logits[0]
        assert found.shape == (2, size)
        return found

    found = [check(60)]
    model.transformer.h[0].mlp.c_fc.bias.assign(np.ones(128))
    found.append(check(60))
    model.transformer.h[1].mlp.c_fc.enable_lora(2)
    model.transformer.h[1].mlp.c_fc.lora_kernel_b.assign(np.ones((2, 128)))
    found.append(check(60))
    model.resize_token_embeddings(64)
    found.append(check(64)[:, :60])
    inputs = {"input_ids": IDS, "attention_mask": MASK, "position_ids": np.maximum(np.cumsum(MASK, 1) - 1, 0)}
    np.testing.assert_allclose(found[-1], model.infer(**inputs).logits[:, -1, :60], rtol=0, atol=1e-4)
    assert [np.abs(before - after).max() > 0.1 for before, after in pairwise(found)] == [True, True, False]


def test_threads(gpt2):
    """Several calls at once, with programs that are there and with new ones."""
    cases = ("ends", "beams", "greedy", "embeds", "python")
    results = {}

    def generate(case, repeats):
        results[case] = [run(gpt2, GPT2_CASES[case], num_return_sequences=1).sequences for _ in range(repeats)]

    threads = [threading.Thread(target=generate, args=(case, 3)) for case in cases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for case in cases:
        wanted = run(gpt2, GPT2_CASES[case], num_return_sequences=1).sequences
        assert len(results[case]) == 3 and all(np.array_equal(found, wanted) for found in results[case]), case


# ------------------------------------------------------------------------------------------------ settings


def test_settings_of_models(tmp_path, gpt2):
    wanted = expected("gpt2", "beams")["sequences"]
    settings = {name: value for name, value in BEAMS.items() if name not in probe.INPUTS}
    settings["return_dict_in_generate"] = True  # for the programs of other tests
    prompt = {"input_ids": IDS, "attention_mask": MASK}
    found = gpt2.generate(**prompt, generation_config=GenerationConfig(**settings))
    assert np.array_equal(found.sequences, wanted)
    before = gpt2.generation_config
    try:
        gpt2.generation_config = GenerationConfig(**settings)
        known = gpt2.generation_config.to_dict()
        assert np.array_equal(gpt2.generate(**prompt).sequences, wanted)
        one = gpt2.generate(**prompt, num_beams=1, num_return_sequences=1).sequences
        assert np.array_equal(one, expected("gpt2", "ends")["sequences"])
        assert gpt2.generation_config.to_dict() == known  # a call changes nothing
        gpt2.save_pretrained(tmp_path)
        gpt2.generation_config.num_beams = gpt2.generation_config.num_return_sequences = 1
        assert np.array_equal(gpt2.generate(**prompt).sequences, one)
    finally:
        gpt2.generation_config = before
    saved = keras_models.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert saved.generation_config == GenerationConfig(**settings)


def test_time_is_up(gpt2):
    assert run(gpt2, BATCH, max_time=1e-9).sequences.shape == (2, 8)
    assert run(gpt2, BEAMS, max_time=1e-9).sequences.shape == (6, 8)


def test_the_last_position(gpt2):
    with pytest.warns(UserWarning, match="has positions for 320 tokens, prompt included: generation stops there"):
        outputs = gpt2.generate([([*range(3, 45), *range(50, 7, -1)] * 4)[:300]], max_new_tokens=40)
    assert outputs.shape == (1, 320)
    assert np.array_equal(outputs[0, :303], expected("gpt2", "prompt-of-300")["sequences"][0])


# ------------------------------------------------------------------------------------------------- streams


class Recorder(streamers.BaseStreamer):
    def __init__(self, events):
        self.events = events

    def put(self, value):
        self.events.append(np.asarray(value).tolist())

    def end(self):
        self.events.append("end")


@pytest.mark.parametrize("settings", [{}, {"output_scores": True}, {"stopping_criteria": ["after_ten"]}])
def test_tokens_are_streamed(gpt2, settings):
    events = []
    case = {**ENDLESS, **settings, "input_ids": IDS[:1], "attention_mask": MASK[:1], "seed": 1}
    wanted = run(gpt2, case).sequences[0].tolist()
    assert np.array_equal(run(gpt2, case, streamer=Recorder(events)).sequences[0], wanted)
    assert events == [[wanted[:7]], *([token] for token in wanted[7:]), "end"]


def test_tokens_come_one_after_the_other(gpt2, monkeypatch):
    events, of = [], decoding.Programs.of

    def told(*args):
        programs = of(*args)
        loop = programs.loop
        programs.loop = lambda *args: events.append("loop") or loop(*args)
        return programs

    monkeypatch.setattr(decoding.Programs, "of", told)
    run(gpt2, ENDLESS, input_ids=IDS[:1], attention_mask=MASK[:1], streamer=Recorder(events))
    assert events[1] != "loop" and events.count("loop") > 1  # the first token is told before the second is computed
    assert events[2] == events[4] == "loop" and events[-2] != "loop"


def test_text_from_a_thread(gpt2):
    streamer = streamers.TextIteratorStreamer(tokenizer(), skip_prompt=True, timeout=60)
    settings = {**ENDLESS, "input_ids": IDS[:1], "attention_mask": MASK[:1], "streamer": streamer}
    thread = threading.Thread(target=run, args=(gpt2, settings))
    thread.start()
    text = "".join(streamer)
    thread.join(60)
    assert text == tokenizer().decode(expected("gpt2", "greedy")["sequences"][0, 7:])


def test_errors_reach_who_listens(gpt2):
    def broken(ids, scores):
        raise RuntimeError("the processor broke")

    streamer = streamers.TextIteratorStreamer(tokenizer(), timeout=60)
    with pytest.raises(RuntimeError, match="the processor broke"):
        gpt2.generate(IDS[0], streamer=streamer, logits_processor=[broken], max_new_tokens=3)
    with pytest.raises(RuntimeError, match="the processor broke"):
        list(streamer)
    with pytest.raises(ValueError, match="temperature must be above 0"):
        gpt2.generate(IDS[0], streamer=streamer, do_sample=True, temperature=-1.0)
    with pytest.raises(ValueError, match="temperature must be above 0"):
        list(streamer)
