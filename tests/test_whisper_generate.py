"""Whisper's `generate` against the reference: languages, timestamps, windows, fallbacks, times of tokens, errors."""

import copy

import keras
import numpy as np
import pytest

from keras_models import GenerationConfig, WhisperConfig, WhisperForCausalLM, WhisperForConditionalGeneration
from tests import reference
from tests.parity import flatten

TINY = {
    "vocab_size": 72, "num_mel_bins": 5, "d_model": 24, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 32, "encoder_attention_heads": 3, "decoder_attention_heads": 2, "max_source_positions": 20,
    "max_target_positions": 40, "pad_token_id": 40, "bos_token_id": 40, "eos_token_id": 40,
    "decoder_start_token_id": 41, "begin_suppress_tokens": None, "median_filter_width": 3,
    "tie_word_embeddings": False,
}  # fmt: skip
# As in the releases, but for fewer words and languages: words to 39, the end, the start, three languages, two tasks,
# four others, timestamps from 51 on.
SETTINGS = {
    "eos_token_id": 40, "pad_token_id": 40, "bos_token_id": 40, "decoder_start_token_id": 41, "max_length": 30,
    "lang_to_id": {"<|en|>": 42, "<|zh|>": 43, "<|de|>": 44}, "task_to_id": {"translate": 45, "transcribe": 46},
    "prev_sot_token_id": 48, "no_timestamps_token_id": 50, "is_multilingual": True, "return_timestamps": False,
    "suppress_tokens": [3, 41, 42, 43, 44, 45, 46, 47, 48, 49], "begin_suppress_tokens": [7, 40],
    "max_initial_timestamp_index": 6, "alignment_heads": [[0, 1], [1, 0], [1, 1]],
}  # fmt: skip
FREE = {"suppress_tokens": None, "begin_suppress_tokens": None, "max_initial_timestamp_index": None}
WORDS = {"suppress_tokens": [*range(41, 72)]}
ENGLISH = {"language": "en"}
STAMPS = {**ENGLISH, "return_timestamps": True}
TIMES = {**ENGLISH, "return_token_timestamps": True}
SEGMENTS = {"return_segments": True, "return_timestamps": True, "language": "de"}
LONG = {**SEGMENTS, "frames": 130}
SILENCE = {"logprob_threshold": -1.5, "no_speech_threshold": 0.0022}
AGAIN = {"temperature": [0.0, 0.8], "top_k": 1}  # sampling that has no choice
CASES = {
    "detected": {"batch": 3},
    "english": {**ENGLISH, "batch": 2},
    "names": {"batch": 3, "language": ["<|en|>", "German", "mandarin"], "task": "translate"},
    "translated": {"batch": 2, "task": "translate"},
    "short": {**ENGLISH, "frames": 23},
    "new-tokens": {**ENGLISH, "max_new_tokens": 5, "min_new_tokens": 5},
    "processors": {**ENGLISH, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "max_new_tokens": 20},
    "forced": {"settings": {"forced_decoder_ids": [[1, None], [2, 45]]}, "batch": 2},
    "forced-all": {"settings": {"forced_decoder_ids": [[1, 44], [2, 45], [3, 50]]}},
    "forced-stamps": {"settings": {"forced_decoder_ids": [[1, 44], [2, 45], [3, 50]]}, "return_timestamps": True},
    "forced-later": {"settings": {"forced_decoder_ids": [[2, 45]]}},
    "old-forced": {"old_forced": [[1, 43], [2, 46]]},
    "old": {"settings": dict.fromkeys(("lang_to_id", "task_to_id", "no_timestamps_token_id", "is_multilingual",
                                       "return_timestamps", "prev_sot_token_id"))},
    "free": {**ENGLISH, "settings": FREE},
    "encoded": {**ENGLISH, "batch": 2, "encoded": True, "settings": WORDS},
    "prompt": {**ENGLISH, "prompt_ids": [48, 9, 11, 20], "batch": 2},
    "given": {"decoder_input_ids": [[41, 44, 46, 50, 12, 13]], **ENGLISH},
    "beams": {**ENGLISH, "num_beams": 3, "batch": 2},
    "beams-stamps": {**STAMPS, "num_beams": 3, "batch": 2},
    "several": {**ENGLISH, "num_beams": 3, "num_return_sequences": 2, "batch": 2},
    "stamps": {**STAMPS, "batch": 3},
    "stamps-free": {**STAMPS, "batch": 2, "settings": FREE},
    "stamps-prompt": {**STAMPS, "prompt_ids": [48, 9, 11, 20]},
    "segments": {**SEGMENTS, "batch": 2},
    "outputs": {**ENGLISH, "batch": 2, "return_dict_in_generate": True, "output_scores": True, "output_logits": True,
                "output_attentions": True, "output_hidden_states": True, "max_new_tokens": 5},
    "outputs-beams": {**ENGLISH, "batch": 2, "return_dict_in_generate": True, "output_scores": True, "num_beams": 2,
                      "max_new_tokens": 5},
    "unique": {**STAMPS, "batch": 2, "force_unique_generate_call": True},
    "unique-outputs": {**STAMPS, "force_unique_generate_call": True, "return_dict_in_generate": True,
                       "output_scores": True},
    "times": {**TIMES, "batch": 2},
    "times-one": {**TIMES, "max_new_tokens": 1},
    "times-two": {**TIMES, "max_new_tokens": 2, "min_new_tokens": 2},
    "times-frames": {**TIMES, "batch": 2, "num_frames": [33, 40]},
    "times-masked": {**TIMES, "batch": 2, "lengths": [40, 17], "settings": WORDS},
    "times-beams": {**TIMES, "num_beams": 3},
    "times-stamps": {**TIMES, "return_timestamps": True, "return_segments": True, "batch": 2, "lengths": [36, 40]},
    "times-outputs": {**TIMES, "return_dict_in_generate": True},
    "times-prompt": {**TIMES, "prompt_ids": [48, 9, 11, 20]},
    "long": LONG,
    "long-batch": {**LONG, "batch": 3, "lengths": [130, 50, 97]},
    "long-detected": {"return_timestamps": True, "frames": 90},
    "long-beams": {**LONG, "num_beams": 2},
    "long-times": {**LONG, "return_token_timestamps": True, "lengths": [128]},
    "long-conditioned": {**LONG, "condition_on_prev_tokens": True},
    "long-conditioned-batch": {**LONG, "condition_on_prev_tokens": True, "batch": 2, "lengths": [130, 125]},
    "long-prompt": {**LONG, "prompt_ids": [48, 9, 11, 20]},
    "long-prompt-first": {**LONG, "prompt_ids": [48, 9, 11, 20], "condition_on_prev_tokens": True},
    "long-prompt-all": {**LONG, "prompt_ids": [48, 9, 11, 20], "condition_on_prev_tokens": True,
                        "prompt_condition_type": "all-segments"},
    "long-precision": {**LONG, "time_precision": 0.04, "time_precision_features": 0.02},
    "long-thresholds": {**LONG, "compression_ratio_threshold": 2.0, "logprob_threshold": -9.0, "temperature": [0.0]},
    "long-silence": {**LONG, **SILENCE, "temperature": [0.0]},
    "long-silence-beams": {**LONG, **SILENCE, "temperature": [0.0], "num_beams": 2},
    "long-silence-conditioned": {**LONG, **SILENCE, "temperature": [0.0], "condition_on_prev_tokens": True},
    "long-repeats": {**LONG, **AGAIN, "compression_ratio_threshold": 1.05, "condition_on_prev_tokens": True},
    "long-repeats-batch": {**LONG, **AGAIN, "compression_ratio_threshold": 1.05, "condition_on_prev_tokens": True,
                           "batch": 2, "lengths": [130, 125]},
    "long-unlikely": {**LONG, **AGAIN, "logprob_threshold": -1.5, "condition_on_prev_tokens": True},
    "unlikely-beams": {**ENGLISH, **AGAIN, "logprob_threshold": -1.0, "num_beams": 2, "settings": WORDS},
    "unlikely": {**ENGLISH, **AGAIN, "logprob_threshold": -1.5, "return_token_timestamps": True, "batch": 2},
    "assisted": {**ENGLISH, "assistant": "WhisperForCausalLM"},
    "assisted-whole": {**ENGLISH, "assistant": "WhisperForConditionalGeneration"},
}  # fmt: skip


@pytest.fixture(scope="module")
def source():
    return reference.make("whisper.generated", config=TINY, generation=SETTINGS, cases=CASES)


@pytest.fixture(scope="module")
def model(source):
    return WhisperForConditionalGeneration.from_pretrained(source)


def sounds(case):
    """What tests/reference/whisper.py makes of a case."""
    batch, frames = case.get("batch", 1), case.get("frames", 40)
    arrays = {"input_features": np.random.default_rng(0).normal(size=(batch, 5, frames)).astype("float32")}
    if "lengths" in case:
        arrays["attention_mask"] = (np.arange(frames)[None] < np.array(case["lengths"])[:, None]).astype("int32")
    return arrays


def run(model, source, case):
    """What our `generate` returns for a case."""
    inputs = sounds(case)
    arguments = {name: value for name, value in case.items() if name not in ("batch", "frames", "lengths")}
    settings = copy.deepcopy(model.generation_config)
    for name, value in arguments.pop("settings", {}).items():
        if value is None:
            settings.extra.pop(name, None)
        if value is not None or name in GenerationConfig.__annotations__:
            setattr(settings, name, value)
    if "assistant" in arguments:
        kind = {each.__name__: each for each in (WhisperForCausalLM, WhisperForConditionalGeneration)}[
            arguments.pop("assistant")
        ]
        arguments["assistant_model"] = kind.from_pretrained(source / kind.__name__)
    if arguments.pop("encoded", False):
        arguments["encoder_outputs"] = model.encode(input_features=inputs.pop("input_features"))
    kept, model.generation_config = model.generation_config, settings
    model.config.extra["forced_decoder_ids"] = arguments.pop("old_forced", None)
    try:
        outputs = model.generate(**inputs, **arguments)
    finally:
        model.generation_config = kept
    return outputs if isinstance(outputs, dict) else {"sequences": outputs}


def parts(outputs):
    """Outputs as arrays by name, without segments' own results."""
    if "segments" in outputs:
        rows = [[{k: v for k, v in each.items() if k != "result"} for each in row] for row in outputs["segments"]]
        outputs = {**outputs, "segments": rows}
    return flatten({name: value for name, value in outputs.items() if name != "past_key_values"})


@pytest.mark.parametrize("name", CASES)
def test_transcription(model, source, name):
    expected, found = dict(np.load(source / f"{name}.npz")), parts(run(model, source, CASES[name]))
    if name.startswith("times-outputs"):  # the reference also returns what it needs to find times
        expected = {key: each for key, each in expected.items() if key in found}
    assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())
    for key, array in expected.items():
        assert found[key].shape == array.shape, (key, found[key], array)
        np.testing.assert_allclose(found[key], array, rtol=0, atol=1e-4, err_msg=key)
