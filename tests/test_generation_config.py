"""Settings of generation against the reference: values, files, merging, modes, lengths, special tokens, errors."""

import copy
import json
import pickle
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from keras_models import hub
from keras_models.config import Config
from keras_models.generation.config import UNSUPPORTED, GenerationConfig
from keras_models.hub import Repository
from tests import reference

METADATA = ("transformers_version", "_from_model_config")


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def same_values(config: GenerationConfig, expected: dict) -> bool:
    """Whether all settings of the reference have the same values here."""
    values = {name: getattr(config, name) for name in expected if name not in METADATA}
    return json.loads(json.dumps(values)) == {name: expected[name] for name in values}


def test_defaults_equal_reference():
    assert same_values(GenerationConfig(), reference.call("generation_settings.defaults"))
    assert GenerationConfig().to_dict() == {} and GenerationConfig().given == set()


SETTINGS = [
    {},
    {"max_length": 20, "do_sample": False},
    {"max_length": 142, "min_length": 56, "num_beams": 4, "length_penalty": 2.0, "early_stopping": True},
    {"max_new_tokens": 5, "min_new_tokens": 2, "max_time": 1.5, "stop_strings": ["a", "b"]},
    {"do_sample": True, "temperature": 0.7, "top_k": None, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.5},
    {"do_sample": True, "epsilon_cutoff": 3e-4, "eta_cutoff": 1e-3, "num_return_sequences": 3},
    {"do_sample": True, "num_beams": 3, "num_return_sequences": 2, "early_stopping": "never"},
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
    {"num_beams": 4, "num_return_sequences": 4},
    {"penalty_alpha": 0.6},
    {"penalty_alpha": 0.6, "top_k": 1},
    {"prompt_lookup_num_tokens": 3, "max_matching_ngram_size": 2},
    {"prompt_lookup_num_tokens": 3, "num_beams": 2},
    {"num_assistant_tokens": 7, "num_assistant_tokens_schedule": "heuristic", "assistant_confidence_threshold": None},
    {"eos_token_id": [1, 2], "pad_token_id": 0, "bos_token_id": 3, "decoder_start_token_id": [4, 5]},
    {"bad_words_ids": [[1], [2, 3]], "suppress_tokens": [4], "begin_suppress_tokens": [5], "forced_eos_token_id": [6]},
    {"exponential_decay_length_penalty": [3, 1.2], "renormalize_logits": True, "remove_invalid_values": True},
    {"sequence_bias": [[[1, 2], -3.0]], "no_repeat_ngram_size": 3, "encoder_no_repeat_ngram_size": 2},
    {"repetition_penalty": 1.3, "encoder_repetition_penalty": 1.1, "forced_bos_token_id": 9},
    {"return_dict_in_generate": True, "output_scores": True, "output_logits": True, "output_attentions": True},
    {"use_cache": False},
    {"cache_implementation": "static"},
    {"guidance_scale": 1.5, "token_healing": True, "low_memory": True, "force_words_ids": [[[7]]]},
    {"is_multilingual": False, "lang_to_id": {"<|en|>": 3}, "task": "translate"},
    # What has no effect is not saved.
    {"temperature": 0.7},
    {"top_k": 3},
    {"min_p": 0.1},
    {"epsilon_cutoff": 0.1},
    {"num_beams": 1, "early_stopping": True},
    {"length_penalty": 0.5},
    {"use_cache": False, "cache_implementation": "static"},
    {"output_scores": True},
    {"output_logits": False},
    # What makes no sense is refused.
    {"num_return_sequences": 2},
    {"num_beams": 2, "num_return_sequences": 3},
    {"early_stopping": "soon"},
    {"max_new_tokens": 0},
    {"cache_implementation": "magic"},
]


def test_groups_of_settings_equal_reference(tmp_path):
    for settings, expected in zip(
        SETTINGS, reference.call("generation_settings.described", table=SETTINGS), strict=True
    ):
        if expected is None:
            with pytest.raises(ValueError):
                GenerationConfig(**settings)
            continue
        config = GenerationConfig(**settings)
        assert same_values(config, expected["values"]), settings
        assert json.loads(config.to_json_string()) == expected["file"], settings
        assert config.given == set(settings)
        if "force_words_ids" not in settings:  # a mode of its own there, a feature that is missing here
            assert [config.generation_mode(each) for each in (None, "a model")] == expected["modes"], settings
        assert config.get_generation_mode() == config.generation_mode()
        if expected["is_saved"]:
            config.save_pretrained(tmp_path)
            assert GenerationConfig.from_pretrained(tmp_path) == config
            assert same_values(config, reference.call("generation_settings.read", path=str(tmp_path))), settings
        else:
            with pytest.raises(ValueError, match=r"not saved: .*: drop what you do not want\.$"):
                config.save_pretrained(tmp_path)


@pytest.mark.parametrize("settings", [SETTINGS[2], SETTINGS[4], SETTINGS[14], SETTINGS[22], SETTINGS[23]])
def test_files_of_the_reference_are_read(tmp_path, settings):
    folder = reference.make("generation_settings.write", settings=settings)
    config = GenerationConfig.from_pretrained(folder, max_time=3.0)
    config.save_pretrained(tmp_path, "other.json")
    assert same_values(config, reference.call("generation_settings.read", path=str(folder)) | {"max_time": 3.0})
    written = json.loads((tmp_path / "other.json").read_text())
    assert written == {**json.loads((folder / "generation_config.json").read_text()), "max_time": 3.0}
    assert GenerationConfig.from_pretrained(tmp_path, "other.json") == config


def test_unknown_keys_of_files_are_kept():
    values = {"_from_model_config": True, "transformers_version": "4.27.0", "strange": {"a": [1]}, "num_beams": None}
    config = GenerationConfig.from_dict(values, top_k=3, do_sample=True)
    assert config.strange == {"a": [1]} and config.num_beams == 1 and config.transformers_version == "4.27.0"
    kept = {"strange": {"a": [1]}, "transformers_version": "4.27.0", "top_k": 3, "do_sample": True}
    assert config.to_dict() == kept
    config.strange, config.language = 4, "en"
    assert config.merged(strange=5, language="de", input_ids=6)[1] == {"input_ids": 6}
    assert config.merged(strange=5)[0].to_dict() == kept | {"strange": 5, "language": "en"}
    assert GenerationConfig.from_dict({"num_return_sequences": 3}).num_return_sequences == 3  # refused when it is used


def test_settings_are_given_or_not():
    config = GenerationConfig(max_length=20, num_beams=np.int64(2), eos_token_id=np.array([1, 2]), top_k=None)
    assert config.given == {"max_length", "num_beams", "eos_token_id", "top_k"}
    assert config.top_k is None and type(config.num_beams) is int and config.eos_token_id == [1, 2]
    config.update(num_beams=None, max_length=None)
    assert config.num_beams == 1 and config.max_length is None and "num_beams" not in config.given
    assert repr(config) == "GenerationConfig(max_length=None, eos_token_id=[1, 2], top_k=None)"
    for twin in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert twin == config and twin.given == config.given
        twin.eos_token_id.append(3)
        assert twin != config
    assert config != {} and GenerationConfig(max_length=20) == GenerationConfig()


def test_merging_leaves_the_original_alone():
    base = GenerationConfig(num_beams=4, suppress_tokens=[1])
    config, rest = base.merged(max_new_tokens=3, attention_mask=[1], num_beams=2, guidance_scale=None, foo=None)
    assert rest == {"attention_mask": [1], "foo": None}
    assert (config.num_beams, config.max_new_tokens, base.num_beams, base.max_new_tokens) == (2, 3, 4, None)
    config.suppress_tokens.append(2)
    assert base.suppress_tokens == [1]
    t5 = {"prefix": "translate: ", "max_length": 300, "num_beams": 4, "early_stopping": True}
    assert base.with_task(t5).to_dict() == {"num_beams": 4, "suppress_tokens": [1]} | {
        "max_length": 300, "early_stopping": True,
    }  # fmt: skip


NEW, OLD = "4.57.0", "4.27.0.dev0"
MODEL = {"max_length": 99, "num_beams": 3, "eos_token_id": [5, 6], "pad_token_id": 0, "bos_token_id": 7, "own": 1}
CALLS = [
    {"model": MODEL, "call": {"max_new_tokens": 3, "num_beams": 1, "top_k": None, "input_ids": 4}},
    {"model": MODEL, "given": {}, "call": {"own": 2}},
    {"model": MODEL, "given": {"max_length": 9, "eos_token_id": 2}},
    {"model": MODEL, "given": {"max_length": 9, "eos_token_id": 2}, "use_model_defaults": False},
    {"model": {**MODEL, "transformers_version": OLD}, "given": {"num_beams": 2}},
    {"model": {**MODEL, "transformers_version": OLD}, "given": {"num_beams": 2}, "use_model_defaults": True},
    {"model": {**MODEL, "transformers_version": NEW}, "given": {"pad_token_id": 8}},
    {"model": {"do_sample": True, "temperature": 0.5}, "given": {"temperature": 0.0}},
    {"model": {"do_sample": True, "temperature": 0.5}, "given": {"top_k": 3}},
    {"model": {"return_dict_in_generate": True}, "call": {"output_scores": True}},
]


def test_calls_equal_reference():
    for case, (expected, expected_rest) in zip(
        CALLS, reference.call("generation_settings.prepared", table=CALLS), strict=True
    ):
        model = GenerationConfig.from_dict(case["model"])
        base = GenerationConfig(**case["given"]) if "given" in case else None
        base = base.with_model_defaults(model, case.get("use_model_defaults")) if base else model
        config, rest = base.merged(**case.get("call", {}))
        assert same_values(config, expected), case
        assert rest == expected_rest, case


def test_what_a_user_sets_explicitly_stays():
    model = GenerationConfig.from_dict({"do_sample": True, "num_beams": 4, "top_k": 9})
    with pytest.warns(UserWarning, match=r"model's own settings apply .*: top_k=9\.$"):
        config = GenerationConfig(do_sample=False, num_beams=1).with_model_defaults(model)
    assert (config.do_sample, config.num_beams, config.top_k) == (False, 1, 9)
    assert model.given == {"do_sample", "num_beams", "top_k"}


OLD_CONFIGS = [
    ("GPT2Config", {"max_length": 50, "do_sample": True, "unused": 3, "output_attentions": True, "top_k": None}),
    ("BartConfig", {"num_beams": 4, "length_penalty": 2.0, "force_bos_token_to_be_generated": True}),
    ("BartConfig", {"num_beams": 4, "forced_bos_token_id": 5, "force_bos_token_to_be_generated": True}),
    ("T5Config", {"task_specific_params": {"summarization": {"num_beams": 4}}, "early_stopping": True}),
    ("LlavaConfig", {"text_config": {"model_type": "llama", "top_k": 7, "bos_token_id": 1, "eos_token_id": 2}}),
    ("WhisperConfig", {"suppress_tokens": [1, 2], "begin_suppress_tokens": [3], "max_length": 448}),
]  # fmt: skip


# What config.json holds besides if it leaves out no default that counts here.
CLASS_DEFAULTS = {
    "GPT2Config": {"bos_token_id": 50256, "eos_token_id": 50256},
    "BartConfig": {
        "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": 2,
    },
    "T5Config": {"pad_token_id": 0, "eos_token_id": 1},
    "LlavaConfig": {},
    "WhisperConfig": {
        "bos_token_id": 50256, "pad_token_id": 50256, "eos_token_id": 50256, "decoder_start_token_id": 50257,
    },
}  # fmt: skip


@dataclass(kw_only=True)
class TextConfig(Config):
    model_type = "text"

    bos_token_id: int | None = 1
    forced_eos_token_id: int | None = 2


@dataclass(kw_only=True)
class CompositeConfig(Config):
    model_type = "composite"

    text_config: TextConfig = field(default_factory=TextConfig)


def test_configurations_of_models_equal_reference():
    expected = reference.call("generation_settings.from_model_configs", table=OLD_CONFIGS)
    for (name, values), each in zip(OLD_CONFIGS, expected, strict=True):
        assert same_values(GenerationConfig.from_model_config(CLASS_DEFAULTS[name] | values), each), name


def test_configurations_as_objects():
    config = TextConfig.from_dict({"num_beams": 3, "use_cache": False, "junk": 1, "top_k": None})
    assert GenerationConfig.from_model_config(config).to_dict() == {
        "bos_token_id": 1, "forced_eos_token_id": 2, "num_beams": 3, "use_cache": False,
    }  # fmt: skip
    whole = CompositeConfig(text_config=config, eos_token_id=8, extra={"num_beams": 2})
    found = GenerationConfig.from_model_config(whole)
    assert (found.bos_token_id, found.eos_token_id, found.num_beams, found.use_cache) == (1, 8, 2, False)


@pytest.mark.parametrize(
    "generation",
    [None, {}, {"max_length": 7}, {"_from_model_config": True, "num_beams": 2, "eos_token_id": 3}],
)
def test_models_equal_reference(tmp_path, generation):
    config = {"eos_token_id": 5, "bos_token_id": 4, "num_beams": 4, "no_repeat_ngram_size": 2}
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    mine = GenerationConfig.for_model(Repository(tmp_path), config)
    assert same_values(mine, reference.call("generation_settings.of_model", config=config, generation=generation))


def test_real_files(shared):
    bart = GenerationConfig.from_pretrained(shared / "tokenizers" / "bart-large-cnn")
    assert bart.generation_mode() == "beam_search" and bart.forced_bos_token_id == 0 and bart.max_length == 142
    old = json.loads((shared / "tokenizers" / "bart-large-cnn" / "config.json").read_text())
    assert GenerationConfig.from_model_config(old) == bart
    t5 = json.loads((shared / "tokenizers" / "t5-base" / "config.json").read_text())
    summary = GenerationConfig.from_model_config(t5).with_task(t5["task_specific_params"]["summarization"])
    assert (summary.num_beams, summary.length_penalty, summary.eos_token_id) == (4, 2.0, 1)


LENGTHS = [
    {"settings": settings, "prompt_length": prompt, "call": call, **rest}
    for settings in (
        {}, {"max_length": 30, "min_length": 12}, {"max_new_tokens": 4}, {"max_length": 25, "max_new_tokens": 6},
        {"min_new_tokens": 3, "min_length": 2}, {"max_length": 20, "min_length": 0},
    )
    for call in ({}, {"max_length": 10}, {"max_length": None, "max_new_tokens": 5}, {"max_new_tokens": None},
                 {"max_length": 40, "min_length": 8}, {"min_new_tokens": 9}, {"max_length": 20},
                 {"max_length": None, "max_new_tokens": None})
    for prompt, rest in (
        (1, {"is_encoder_decoder": True}), (1, {}), (12, {}), (30, {}), (12, {"max_positions": 16}),
        (12, {"max_positions": 20}), (9, {"max_positions": 8}), (0, {}), (0, {"embeds_length": 6}),
        (3, {"embeds_length": 3}), (0, {"embeds_length": 6, "is_encoder_decoder": True}),
    )
]  # fmt: skip


def test_lengths_equal_reference():
    expected = reference.call("generation_settings.lengths", table=LENGTHS)
    assert sum(each is None for each in expected) > 50
    for case, each in zip(LENGTHS, expected, strict=True):
        settings, prompt, call = case["settings"], case["prompt_length"], case["call"]
        rest = {name: value for name, value in case.items() if name not in ("settings", "prompt_length", "call")}
        config = GenerationConfig(**settings).merged(**call)[0]
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                found = config.resolve_length(prompt, call, **rest)
            except ValueError:
                found = None
        assert (found and [*found, bool(warned)]) == each, case


def test_messages_about_length():
    assert GenerationConfig(min_length=None).resolve_length(3) == (23, 0)
    with pytest.raises(ValueError, match=r"^A prompt of 20 positions leaves no room below max_length=20: raise it, or"):
        GenerationConfig().resolve_length(20, {"max_length": 20})
    with pytest.raises(ValueError, match=r"^A prompt of 30 positions leaves no room below max_length=20"):
        GenerationConfig().resolve_length(0, embeds_length=30)
    with pytest.raises(ValueError, match=r"^A prompt of 5 decoder_input_ids leaves no room below max_length=4"):
        GenerationConfig(max_length=4).resolve_length(5, is_encoder_decoder=True)
    with pytest.raises(ValueError, match="max_length=None and max_new_tokens=None leave no end: set max_new_tokens"):
        GenerationConfig(max_length=None).resolve_length(5)
    with pytest.warns(UserWarning, match="^max_new_tokens=3 takes precedence over max_length=9: set one of them"):
        assert GenerationConfig(max_new_tokens=3, max_length=9).resolve_length(1, {"max_length": 9}) == (4, 0)
    with pytest.warns(
        UserWarning, match="^A minimum length of 56 is above the maximum of 30, at which generation stops"
    ):
        GenerationConfig.from_dict({"min_length": 56}).merged(max_length=30)[0].resolve_length(1, {"max_length": 30})


TOKENS = [
    {"settings": settings, "has_attention_mask": mask, "is_encoder_decoder": whole}
    for settings in ({}, {"eos_token_id": 3}, {"eos_token_id": [4, 3], "bos_token_id": 1}, {"eos_token_id": -1},
                     {"eos_token_id": 3, "pad_token_id": 3, "decoder_start_token_id": 2}, {"pad_token_id": 0},
                     {"eos_token_id": 3, "pad_token_id": 0, "bos_token_id": 1, "decoder_start_token_id": [5, 6]})
    for mask in (None, False, True)
    for whole in (False, True)
]  # fmt: skip


def test_special_tokens_equal_reference():
    for case, expected in zip(TOKENS, reference.call("generation_settings.special_tokens", table=TOKENS), strict=True):
        config = GenerationConfig.from_dict(case["settings"])
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                found = config.special_tokens(case["is_encoder_decoder"], case["has_attention_mask"])
            except ValueError as error:
                assert "set decoder_start_token_id or bos_token_id" in str(error)
                found = None
        assert (found and [*found, bool(warned)]) == expected, case


ERRORS = [
    ({"max_new_tokens": -1}, "max_new_tokens must be a positive integer, not -1."),
    ({"max_new_tokens": "5"}, "max_new_tokens must be a positive integer, not '5'."),
    ({"num_beams": 0}, "num_beams must be a positive integer, not 0."),
    ({"num_beams": 2.0}, "num_beams must be a positive integer, not 2.0."),
    ({"num_return_sequences": 3}, "num_return_sequences=3 needs num_beams=3 or more, or do_sample=True."),
    ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences=3 is above num_beams=2: raise num_beams to 3."),
    ({"early_stopping": "now"}, "early_stopping must be True, False or 'never', not 'now'."),
    ({"cache_implementation": "big"}, "cache_implementation='big' is unknown; use one of static, "),
    ({"num_assistant_tokens_schedule": "x"}, "num_assistant_tokens_schedule='x' is unknown; use one of constant, "),
    ({"assistant_confidence_threshold": 2}, "assistant_confidence_threshold must be between 0 and 1, not 2."),
    ({"num_assistant_tokens": 0}, "num_assistant_tokens must be a positive integer, not 0."),
    ({"prompt_lookup_num_tokens": 0}, "prompt_lookup_num_tokens must be a positive integer, not 0."),
    ({"max_matching_ngram_size": -2}, "max_matching_ngram_size must be a positive integer, not -2."),
    ({"num_beams": 3, "num_beam_groups": 2}, "num_beams=3 cannot be split into num_beam_groups=2: make it a multiple"),
    ({"num_beams": 4, "num_beam_groups": 2}, "num_beam_groups=2 needs diversity_penalty above 0"),
    ({"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0, "do_sample": True},
     "num_beam_groups=2 and do_sample=True exclude each other: drop one of them."),
    ({"penalty_alpha": 0.6, "do_sample": True}, "penalty_alpha=0.6 and do_sample=True exclude each other"),
    ({"penalty_alpha": 0.6, "num_beams": 2}, "penalty_alpha=0.6 and num_beams=2 exclude each other"),
    ({"min_length": 9, "max_length": 5}, "min_length=9 is above max_length=5: lower the one or raise the other."),
    ({"min_new_tokens": 9, "max_new_tokens": 5}, "min_new_tokens=9 is above max_new_tokens=5"),
    ({"pad_token_id": -1}, "pad_token_id=-1 is no token: give the id of one, or None for none."),
    ({"eos_token_id": [2, -1]}, "eos_token_id=[2, -1] is no token"),
    ({"eos_token_id": "</s>"}, "eos_token_id='</s>' is no token"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), ERRORS)
def test_what_makes_no_sense_is_refused(settings, message):
    for refused in (
        lambda: GenerationConfig(**settings),
        lambda: GenerationConfig().update(**settings),
        lambda: GenerationConfig().merged(**settings),
        lambda: GenerationConfig.from_dict({}, **settings),
    ):
        with pytest.raises(ValueError) as error:
            refused()
        assert str(error.value).startswith(message)


WARNINGS = [
    (
        {"temperature": 0.7, "top_p": 0.9},
        "Without do_sample=True there is no effect of temperature=0.7, top_p=0.9: drop",
    ),
    ({"early_stopping": True}, "Without num_beams above 1 there is no effect of early_stopping=True"),
    ({"diversity_penalty": 0.5}, "Without num_beam_groups above 1 there is no effect of diversity_penalty=0.5"),
    ({"use_cache": False, "cache_config": {"a": 1}}, "Without use_cache=True there is no effect of cache_config="),
    ({"output_scores": True}, "Without return_dict_in_generate=True there is no effect of output_scores=True"),
]


@pytest.mark.parametrize(("settings", "message"), WARNINGS)
def test_what_has_no_effect_is_told(tmp_path, settings, message):
    with pytest.warns(UserWarning, match=f"^{message}"):
        config = GenerationConfig(**settings)
    with pytest.raises(ValueError, match="^Such settings are not saved: Without "):
        config.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_files_may_hold_nonsense_until_they_are_used(tmp_path):
    config = GenerationConfig.from_dict({"pad_token_id": -1, "max_length": 5, "min_length": 9, "num_beams": 0})
    with pytest.raises(ValueError, match="num_beams must be"):
        config.merged()
    with pytest.warns(UserWarning, match=r"^pad_token_id=-1 is no token: set it to the id of one\.$"):
        config, _ = config.merged(num_beams=1)
    with pytest.raises(ValueError, match="^Such settings are not saved: pad_token_id=-1"):
        config.save_pretrained(tmp_path)


def test_unknown_names_are_refused():
    for call in (
        GenerationConfig,
        GenerationConfig().update,
        lambda **settings: GenerationConfig.from_dict({}, **settings),
    ):
        with pytest.raises(
            TypeError, match=r"^GenerationConfig has no setting 'num_beam'\. Did you mean 'num_beams'\?$"
        ):
            call(num_beam=3)
    with pytest.raises(TypeError, match="^streamer is an argument of generate, not a setting of GenerationConfig"):
        GenerationConfig(streamer=None)
    config = GenerationConfig()
    with pytest.raises(AttributeError, match=r"no setting 'max_new_token'\. Did you mean 'max_new_tokens'\?"):
        config.max_new_token = 3
    with pytest.raises(AttributeError, match="no setting 'tempreature'"):
        _ = config.tempreature
    with pytest.raises(TypeError):
        config.update(num_beams=3, nonsense=4)
    assert config == GenerationConfig()


def test_features_that_are_missing_are_refused_in_calls():
    for name, (default, *harmless) in UNSUPPORTED.items():
        for value in (default, *harmless):
            GenerationConfig(**{name: value}).check_call()
        wish = {"return_legacy_cache": True, "token_healing": True}.get(name, 3)
        config = GenerationConfig(**{name: wish})
        assert config.to_dict() == {name: wish} and getattr(config, name) == wish
        if name not in ("disable_compile", "low_memory"):
            with pytest.raises(ValueError, match=f"^generate has no {name}: drop {name}={wish}."):
                config.check_call()
    with pytest.raises(ValueError, match="generate has no quantized cache"):
        GenerationConfig(cache_implementation="quantized").check_call()


def test_other_arguments_of_calls():
    GenerationConfig(stop_strings="a").check_call(streamer="s", tokenizer="t")
    with pytest.raises(ValueError, match="stop_strings are found in text: pass generate the tokenizer too"):
        GenerationConfig(stop_strings="a").check_call()
    with pytest.raises(ValueError, match="A streamer cannot follow num_beams=2 at once"):
        GenerationConfig(num_beams=2).check_call(streamer="s")
    several = GenerationConfig(do_sample=True, num_return_sequences=2)
    several.check_call()
    with pytest.raises(ValueError, match="Assisted generation returns one sequence, not num_return_sequences=2"):
        several.check_call(assistant_model="a")
    with pytest.warns(UserWarning, match="There is no assistance in beam_sample"):
        assert GenerationConfig(num_beams=2, do_sample=True).generation_mode("a") == "beam_sample"


def test_bias_of_sequences_can_be_written():
    config = GenerationConfig(sequence_bias={(1, 2): -3.0, (4,): 1.0})
    assert config.sequence_bias == {(1, 2): -3.0, (4,): 1.0}
    assert json.loads(config.to_json_string()) == {"sequence_bias": [[[1, 2], -3.0], [[4], 1.0]]}


def test_push_to_hub(monkeypatch):
    pushed = {}

    def push(folder, repo_id, **options):
        pushed.update({path.name: json.loads(path.read_text()) for path in Path(folder).iterdir()}, **options)
        return repo_id

    monkeypatch.setattr(hub, "push_folder", push)
    assert GenerationConfig(max_new_tokens=3).push_to_hub("me/model", private=True) == "me/model"
    assert pushed == {"generation_config.json": {"max_new_tokens": 3}, "private": True}
