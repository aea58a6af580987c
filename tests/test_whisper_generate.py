"""Whisper's `generate` against the reference: languages, timestamps, windows, fallbacks, times of tokens, errors."""

import copy
import json

import keras
import numpy as np
import pytest

from keras_models import (
    GenerationConfig,
    TextStreamer,
    WhisperConfig,
    WhisperForCausalLM,
    WhisperForConditionalGeneration,
)
from keras_models.generation.whisper_processors import WhisperTimeStampLogitsProcessor
from keras_models.generation.whisper_prompts import first_tokens, released, take_wishes
from keras_models.generation.whisper_timing import median_filter, warp
from keras_models.preprocessing.whisper_text import LANGUAGES
from tests import reference
from tests.parity import flatten
from tests.reference import generation as probe

TINY = {
    "vocab_size": 72, "num_mel_bins": 5, "d_model": 24, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 40,
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
FREE = {"suppress_tokens": None, "begin_suppress_tokens": None, "max_initial_timestamp_index": None}
OLD = dict.fromkeys(
    ("lang_to_id", "task_to_id", "no_timestamps_token_id", "is_multilingual", "return_timestamps", "prev_sot_token_id")
)
FORCED = {"forced_decoder_ids": [[1, 44], [2, 45], [3, 50]]}
ENGLISH = {"language": "en"}
STAMPS = {**ENGLISH, "return_timestamps": True}
TIMES = {**ENGLISH, "return_token_timestamps": True}
SEGMENTS = {"return_segments": True, "return_timestamps": True, "language": "de"}
LONG = {**SEGMENTS, "lengths": [130, 125]}
PROMPT = {"prompt_ids": [48, 9, 11, 20]}
SILENCE = {"logprob_threshold": -0.9, "no_speech_threshold": 0.0147, "temperature": [0.0]}
AGAIN = {"temperature": [0.0, 0.8], "top_k": 1}  # sampling that has no choice
READING = {"condition_on_prev_tokens": True}
EVERYTHING = {"output_scores": True, "output_logits": True, "output_attentions": True, "output_hidden_states": True}
# Two sounds of 40 frames, a window, if nothing else is said.
CASES = {
    "detected": {},
    "names": {"language": ["German", "mandarin"], "task": "translate"},
    "tokens": {"language": "<|en|>", "batch": 1, "frames": 23},
    "task": {"task": "translate"},
    "lengths": {**ENGLISH, "max_new_tokens": 5, "min_new_tokens": 5},
    "processors": {**ENGLISH, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
    "python": {**ENGLISH, "logits_processor": ["lower_last"]},
    "criterion": {**ENGLISH, "stopping_criteria": ["after_ten"]},
    "forced": {"settings": {"forced_decoder_ids": [[1, None], [2, 45]]}},
    "forced-all": {"settings": FORCED},
    "forced-stamps": {"settings": FORCED, "return_timestamps": True},
    "forced-later": {"settings": {"forced_decoder_ids": [[2, 45]]}},
    "forced-by-config": {"old_forced": [[1, 43], [2, 46]]},
    "old": {"settings": OLD},
    "free": {**STAMPS, "settings": FREE},
    "encoded": {**ENGLISH, "encoded": True, "settings": WORDS},
    "prompt": {**ENGLISH, **PROMPT},
    "given": {"decoder_input_ids": [[41, 44, 46, 50, 12, 13]] * 2, **ENGLISH},
    "beams": {**STAMPS, "num_beams": 2},
    "several": {**ENGLISH, "num_beams": 2, "num_return_sequences": 2, "batch": 1},
    "stamps": STAMPS,
    "stamps-prompt": {**STAMPS, **PROMPT},
    "segments": SEGMENTS,
    "outputs": {**ENGLISH, "return_dict_in_generate": True, **EVERYTHING, "max_new_tokens": 5},
    "outputs-beams": {**ENGLISH, "return_dict_in_generate": True, "output_scores": True, "num_beams": 2,
                      "max_new_tokens": 5},
    "unique": {**STAMPS, "force_unique_generate_call": True},
    "unique-outputs": {**STAMPS, "force_unique_generate_call": True, "return_dict_in_generate": True},
    "times": TIMES,
    "times-one": {**TIMES, "max_new_tokens": 1},
    "times-frames": {**TIMES, "num_frames": [33, 40]},
    "times-masked": {**TIMES, "lengths": [40, 17], "settings": WORDS},
    "times-beams": {**TIMES, "num_beams": 2, "batch": 1},
    "times-stamps": {**TIMES, "return_timestamps": True, "return_segments": True, "lengths": [36, 40]},
    "times-outputs": {**TIMES, "return_dict_in_generate": True},
    "times-prompt": {**TIMES, **PROMPT},
    "long": LONG,
    "long-shorter": {**LONG, "lengths": [50, 130]},
    "long-alone": {"return_timestamps": True, "lengths": [90], "batch": 1},
    "long-times": {**LONG, "return_token_timestamps": True},
    "long-reading": {**LONG, **READING},
    "long-prompt": {**LONG, **PROMPT},
    "long-prompt-first": {**LONG, **PROMPT, **READING},
    "long-prompt-all": {**LONG, **PROMPT, **READING, "prompt_condition_type": "all-segments"},
    "long-precision": {**LONG, "time_precision": 0.04, "time_precision_features": 0.02},
    "long-silence": {**LONG, **SILENCE, **READING, "batch": 1, "lengths": [130]},
    "long-repeats": {**LONG, **AGAIN, **READING, "compression_ratio_threshold": 1.05},
    "unlikely": {**TIMES, **AGAIN, "logprob_threshold": -1.5},
    "unlikely-beams": {**ENGLISH, **AGAIN, "logprob_threshold": -1.0, "num_beams": 2, "settings": WORDS},
    "assisted": {**ENGLISH, "assistant": "WhisperForCausalLM", "batch": 1},
    "assisted-whole": {**ENGLISH, "assistant": "WhisperForConditionalGeneration", "batch": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def source():
    return reference.make("whisper.generated", config=TINY, generation=SETTINGS, cases=CASES)


@pytest.fixture(scope="module")
def model(source):
    return WhisperForConditionalGeneration.from_pretrained(source)


def sounds(case):
    """What tests/reference/whisper.py makes of a case."""
    batch, lengths = case.get("batch", 2), case.get("lengths")
    frames = case.get("frames", max([40, *(lengths or [])]))
    arrays = {"input_features": np.random.default_rng(0).normal(size=(batch, 5, frames)).astype("float32")}
    if lengths:
        arrays["attention_mask"] = (np.arange(frames)[None] < np.array(lengths)[:, None]).astype("int32")
    return arrays


def run(model, source, case):
    """What our `generate` returns for a case."""
    inputs = sounds(case)
    arguments = {name: value for name, value in case.items() if name not in ("batch", "frames", "lengths")}
    arguments |= {name: probe.chosen(case)[name] for name in ("logits_processor", "stopping_criteria")}
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


def test_one_window_is_unlike_another(source):
    """Else the cases above would compare less than they seem to: windows are skipped, and heard again."""
    texts = {name: np.load(source / f"{name}.npz")["sequences"] for name in CASES if name.startswith("long-")}
    texts = {name: [row[row != 40].tolist() for row in rows] for name, rows in texts.items()}
    for name in ("long-silence", "long-repeats", "long-prompt-first"):
        assert texts[name] != texts["long-reading"][: len(texts[name])], name
    assert texts["long-prompt-first"] != texts["long-prompt-all"]


def test_timestamps_follow_their_rules():
    """On random tokens and scores, at their beginning and later."""
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(150, 40)).astype("float32")
    scores[::3, 24:] += 1.5
    ids = np.where(generator.random((150, 9)) < 0.5, generator.integers(0, 20, (150, 9)), 0)
    ids = np.where(ids == 0, generator.integers(24, 40, (150, 9)), ids)
    settings = {"no_timestamps_token_id": 23, "eos_token_id": 20, "max_initial_timestamp_index": 5}
    for begin in (3, 7, 8, 9):
        expected = reference.call(
            "whisper.stamped", settings=settings, begin=begin, ids=ids.tolist(), scores=scores.tolist()
        )
        config = GenerationConfig(**settings)
        found = keras.ops.convert_to_numpy(WhisperTimeStampLogitsProcessor(config, begin)(ids, scores))
        np.testing.assert_array_equal(found, np.array(expected, "float32"))


def test_ways_through_what_is_heard():
    """Where sums are equal the reference's way is taken too."""
    generator = np.random.default_rng(0)
    for costs in (generator.normal(size=(12, 40)), generator.integers(0, 3, (9, 7)).astype("float64"), np.ones((1, 5))):
        expected = reference.call("whisper.warped", costs=costs.tolist())
        assert [each.tolist() for each in warp(costs)] == expected
    x = generator.normal(size=(2, 3, 11)).astype("float32")
    for width in (1, 3, 7):
        np.testing.assert_array_equal(
            median_filter(x, width), reference.call("whisper.filtered", x=x.tolist(), width=width)
        )
    np.testing.assert_array_equal(median_filter(x[..., :2], 7), x[..., :2])
    with pytest.raises(ValueError, match="median_filter_width must be a positive odd number, not 4"):
        median_filter(x, 4)


@pytest.mark.parametrize("name", ["whisper-tiny", "whisper-large-v3"])
def test_settings_that_the_vocabulary_tells(shared, name):
    """Checkpoints of old have no generation_config.json."""
    folder = shared / "tokenizers" / name
    tokens = json.loads((folder / "added_tokens.json").read_text())
    config = WhisperConfig.from_pretrained(folder)
    found = released(config)
    hebrew = tokens.get("<|iw|>", tokens.get("<|he|>"))  # the first releases call it by an old code
    languages = {f"<|{code}|>" for code in LANGUAGES} & set(tokens)
    assert found["lang_to_id"] == {"<|he|>": hebrew, **{token: tokens[token] for token in languages}}
    assert found["task_to_id"] == {"transcribe": tokens["<|transcribe|>"], "translate": tokens["<|translate|>"]}
    assert found["no_timestamps_token_id"] == tokens["<|notimestamps|>"]
    assert found["is_multilingual"]
    settings = GenerationConfig(eos_token_id=50257, decoder_start_token_id=50258)
    take_wishes(settings, config, "french", "translate", None)
    settings.extra["return_timestamps"] = False
    expected = [tokens[f"<|{each}|>"] for each in ("startoftranscript", "fr", "translate")]
    assert first_tokens(settings, config, 2, None).tolist() == [expected] * 2
    config.vocab_size = 51864
    with pytest.raises(ValueError, match="knows English only: drop language and task"):
        take_wishes(settings, config, None, "translate", None)


def test_settings_that_are_missing(model):
    kept = model.generation_config
    model.generation_config = GenerationConfig(eos_token_id=40, pad_token_id=40, decoder_start_token_id=41)
    features = sounds({})["input_features"]
    try:
        for wish, name in (
            ({"language": "en"}, "lang_to_id"),
            ({"task": "translate"}, "task_to_id"),
            ({"return_timestamps": True}, "no_timestamps_token_id"),
            ({"no_speech_threshold": 0.5, "logprob_threshold": -1.0}, "no_timestamps_token_id"),
            ({"return_token_timestamps": True}, "alignment_heads"),
        ):
            with pytest.raises(ValueError, match=f"generation_config has no {name}, which .* needs"):
                model.generate(features, **wish)
        with pytest.raises(ValueError, match="generation_config has no lang_to_id, which detecting a language needs"):
            model.detect_language(features)
        model.generation_config.extra["is_multilingual"] = False
        for wish in ({"language": "en"}, {"task": "transcribe"}):
            with pytest.raises(ValueError, match="knows English only: drop language and task"):
                model.generate(features, **wish)
    finally:
        model.generation_config = kept


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"language": "klingon"}, ValueError, "There is no language 'klingon'"),
        ({"language": "frensh"}, ValueError, "Did you mean 'french'"),
        ({"language": "fr"}, ValueError, "does not know 'fr', for generation_config.lang_to_id has no <.fr.>"),
        ({"language": ["en"]}, ValueError, "language holds 1 languages for 2 sounds"),
        ({"language": ["en", None]}, TypeError, "language must be a name, or a list with a name for each sound"),
        ({"task": "summarize"}, ValueError, "There is no task 'summarize': use one of translate, transcribe"),
        ({"lengths": [50, 45], "return_timestamps": False}, ValueError, "of 50 frames is longer than the 40"),
        ({"frames": 50}, ValueError, "Long sounds in a batch need an attention_mask"),
        ({"lengths": [40]}, ValueError, "attention_mask is for 1 sounds, and there are 2"),
        ({"prompt_condition_type": "all-segments"}, ValueError, "needs condition_on_prev_tokens=True"),
        ({"prompt_condition_type": "none"}, ValueError, "must be 'first-segment' or 'all-segments', not 'none'"),
        ({"no_speech_threshold": 0.5}, ValueError, "tells silence only beside logprob_threshold"),
        ({"max_new_tokens": 37, "language": "en"}, ValueError, "lower max_new_tokens to 36"),
        ({"max_new_tokens": 8, "prompt_ids": list(range(36))}, ValueError, "39 tokens of the prompt and"),
        ({"settings": {"forced_decoder_ids": [[1, 42], [3, 45]]}}, ValueError, "for the places \\[1, 3\\]"),
        ({"streamer": TextStreamer(None)}, ValueError, "A streamer follows one sound, not a batch of 2"),
        ({"decoder_attention_mask": [[1]]}, ValueError, "has no use for decoder_attention_mask"),
        ({"langauge": "en"}, TypeError, "Did you mean 'language'|no input, 'langauge'"),
        (
            {"encoder_outputs": np.zeros((2, 20, 24), "float32")},
            ValueError,
            "got both input_features and encoder_outputs",
        ),
    ],
)
def test_errors(model, source, arguments, error, message):
    with pytest.raises(error, match=message):
        run(model, source, arguments)


def test_inputs_of_other_kinds(model):
    """A feature extractor's dictionary, one sound without a batch, and none at all."""
    features = sounds({"batch": 1})["input_features"]
    expected = model.generate(features, language="en")
    mask = np.ones((1, 40), "int32")
    for found in (
        model.generate({"input_features": features, "attention_mask": mask}, language="en"),
        model.generate(inputs=features[0].tolist(), language="english"),
    ):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="got neither input_features nor encoder_outputs"):
        model.generate(language="en")
    with pytest.raises(ValueError, match="must be of shape \\(batch, mels, frames\\)"):
        model.generate(np.zeros((1, 2, 5, 40), "float32"), language="en")


def test_languages_are_detected(model, source):
    features = sounds({"frames": 90})["input_features"]
    expected = np.array(reference.call("whisper.language", checkpoint=str(source), frames=90))
    np.testing.assert_array_equal(model.detect_language(features), expected)
    states = model.encode(input_features=features[..., :40])
    np.testing.assert_array_equal(model.detect_language(encoder_outputs=states), expected)


def test_sampling(model):
    """The same seed gives the same tokens, another one others; each return is drawn by itself."""
    inputs = {**sounds({}), **ENGLISH, "temperature": [0.9, 1.5], "logprob_threshold": 0.0}
    first, same, other = (model.generate(**inputs, seed=seed).tolist() for seed in (1, 1, 2))
    assert first == same != other
    features = sounds({"batch": 1})["input_features"]
    drawn = model.generate(features, **ENGLISH, do_sample=True, num_return_sequences=2, seed=3)
    assert drawn[0].tolist() != drawn[1].tolist()


def test_progress_and_streams(model):
    seen, streamed = [], []

    class Streamer:
        def put(self, ids):
            streamed.append(np.ravel(ids).tolist())

        def end(self):
            streamed.append("end")

    inputs = sounds({"lengths": [90], "batch": 1})
    expected = model.generate(**inputs, **STAMPS, monitor_progress=lambda each: seen.append(each.tolist()))
    assert seen[0] == [[0, 90]] and all(0 <= at < 90 for ((at, _),) in seen)
    model.generate(inputs["input_features"][..., :40], language="en", max_new_tokens=3, streamer=Streamer())
    assert streamed[0] == [41, 42, 46, 50] and streamed[-1] == "end"
    tokens = model.generate(inputs["input_features"][..., :40], language="en", max_new_tokens=3)
    assert [each[0] for each in streamed[1:-1]][: tokens.shape[1]] == tokens[0].tolist()
    assert expected.shape[1] > 3


def test_programs_serve_all_windows(model):
    """A second, longer sound compiles nothing new."""
    model.generate(**sounds({"lengths": [90, 70]}), **STAMPS)
    programs = len(model._programs), len(model._encoders)
    model.generate(**sounds({"lengths": [200, 90]}), **STAMPS)
    assert (len(model._programs), len(model._encoders)) == programs
