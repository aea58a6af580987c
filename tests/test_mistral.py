"""Mistral against the reference: every head, windows of several sizes, with a cache and in `generate`."""

import json

import pytest

from keras_models import MistralConfig, MistralForCausalLM
from tests import reference
from tests.parity import check
from tests.test_llama import DYNAMIC, LLAMA3, TEXT, WORDS, check_cache, check_generated
from tests.test_llama import TINY as LLAMA

TINY = {**LLAMA, "sliding_window": 4}


def test_bare_model():
    check("MistralModel", {**TINY, "num_hidden_layers": 1, "head_dim": 10, "num_key_value_heads": None}, TEXT)


@pytest.mark.parametrize("settings", [{"sliding_window": None, "tie_word_embeddings": True}, {"rope_scaling": LLAMA3}])
def test_language_model(settings):
    check("MistralForCausalLM", {**TINY, **settings}, TEXT, {"labels": WORDS})


def test_other_heads():
    config = {**TINY, "num_hidden_layers": 1, "num_labels": 3, "pad_token_id": 59}
    ids = [[5, 6, 7, 8, 59, 59], [59, 59, 5, 6, 7, 3]]
    check("MistralForSequenceClassification", config, {"input_ids": ids}, {"labels": [2, 0]})
    check("MistralForTokenClassification", config, TEXT, {"labels": {"shape": [2, 11], "high": 3}})
    check("MistralForQuestionAnswering", config, TEXT, {"start_positions": [2, 15], "end_positions": [4, 6]})


@pytest.mark.parametrize("window", [4, None])
def test_cache(window):
    check_cache("MistralForCausalLM", {**TINY, "sliding_window": window})


def test_texts_longer_than_the_window():
    check_generated("MistralForCausalLM", TINY, (20, 12))


def test_settings(tmp_path):
    expected = reference.call("text_models.defaults", config="MistralConfig")
    found = MistralConfig().to_dict()
    own = set(MistralConfig.field_names()) & set(expected["settings"])
    assert {name for name in found if name not in expected["settings"]} == {"model_type", "rope_scaling"}
    assert {name: found[name] for name in own & set(found)} == {
        name: expected["settings"][name] for name in own & set(found)
    }
    values = {"model_type": "mistral", "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}
    (tmp_path / "config.json").write_text(json.dumps(values))
    config = MistralConfig.from_pretrained(tmp_path, rope_scaling=DYNAMIC)
    assert (config.rope_theta, config.rope_scaling, config.sliding_window) == (1e6, DYNAMIC, 4096)


def test_heads_that_do_not_share():
    with pytest.raises(ValueError, match="num_attention_heads 4 is not a multiple of num_key_value_heads 3"):
        MistralForCausalLM(MistralConfig(**{**TINY, "num_key_value_heads": 3}))
