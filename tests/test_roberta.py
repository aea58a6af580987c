"""RoBERTa against the reference: every head, every branch of the configuration."""

import keras
import numpy as np
import pytest

from keras_models import RobertaConfig, RobertaForCausalLM, RobertaForMaskedLM, RobertaModel
from tests import reference
from tests.cached import check_pieces
from tests.parity import check, check_defaults, check_old_names

TINY = {
    "vocab_size": 60,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 20,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}
# With a cache, the reference mistakes every query for the last one when it computes relative positions.
DECODER = {**TINY, "is_decoder": True, "use_cache": False}
RELATIVE = {**DECODER, "position_embedding_type": "relative_key"}
IDS = [[0, 7, 33, 1, 5, 59, 18, 12, 40, 6, 2], [0, 9, 21, 50, 3, 8, 2, 1, 1, 1, 1]]  # 1 is padding
TEXT = {"input_ids": IDS, "attention_mask": [[1] * 11, [1] * 7 + [0] * 4]}
WORDS = [[1, 5, -100, 9] + [-100] * 7, [-100] * 4 + [3, 8, 2] + [-100] * 4]

HEADS = {
    "RobertaForMaskedLM": {"labels": WORDS},
    "RobertaForSequenceClassification": [{"labels": [2, 0]}, {"labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]}],
    "RobertaForTokenClassification": {"labels": {"shape": [2, 11], "high": 3}},
}


HEAD = {**TINY, "num_labels": 3}


def folder(head, config=HEAD, labels=None):
    """The reference's checkpoint that `check` compares with."""
    labels = HEADS[head] if labels is None else labels
    return reference.make("models.checkpoint", architecture=head, config=config, inputs=TEXT, labels=labels, save={})


@pytest.mark.parametrize("head", HEADS)
def test_head(head):
    check(head, HEAD, TEXT, HEADS[head])


def test_configuration():
    check_defaults("RobertaConfig")


def test_bare_model_at_its_longest_text():
    check("RobertaModel", {**TINY, "hidden_act": "gelu_new"}, {"input_ids": {"shape": [2, 18], "low": 2, "high": 60}})


def test_multiple_choice():
    inputs = {
        "input_ids": {"shape": [2, 3, 9], "high": 60},
        "attention_mask": {"shape": [2, 3, 9], "low": 1, "high": 2},
    }
    check("RobertaForMultipleChoice", TINY, inputs, {"labels": [2, 0]})


def test_embeddings_as_inputs():
    inputs = {"inputs_embeds": {"shape": [2, 11, 24]}, "attention_mask": TEXT["attention_mask"]}
    check("RobertaForQuestionAnswering", TINY, inputs, {"start_positions": [2, 15], "end_positions": [4, 6]})


def test_positions_and_types_as_inputs_and_untied_weights():
    inputs = {**TEXT, "position_ids": {"shape": [2, 11], "high": 20}, "token_type_ids": [[0] * 5 + [1] * 6] * 2}
    config = {**TINY, "type_vocab_size": 2, "tie_word_embeddings": False, "hidden_act": "relu"}
    check("RobertaForMaskedLM", config, inputs, {"labels": WORDS})


def test_causal_language_model_with_relative_positions():
    check("RobertaForCausalLM", RELATIVE, TEXT, {"labels": WORDS})


def test_relative_positions_in_mixed_precision():
    source = folder("RobertaForCausalLM", RELATIVE, {"labels": WORDS})
    model = RobertaForCausalLM.from_pretrained(source, dtype="mixed_float16")
    logits = model(**dict(np.load(source / "inputs.npz"))).logits
    assert keras.backend.standardize_dtype(logits.dtype) == "float16"
    expected = np.load(source / "outputs.npz")["logits"]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(logits), expected, atol=0.05)  # half precision


def test_decoder_behind_an_encoder():
    inputs = {
        **TEXT,
        "encoder_hidden_states": {"shape": [2, 6, 24]},
        "encoder_attention_mask": [[1] * 6, [1] * 4 + [0] * 2],
    }
    config = {**DECODER, "add_cross_attention": True, "position_embedding_type": "relative_key_query"}
    check("RobertaForCausalLM", config, inputs, {"labels": WORDS})


@pytest.mark.parametrize("kind", ["absolute", "relative_key_query"])
def test_a_text_in_pieces(kind):
    """Positions count on from the cache, as the reference has it: all that is in it counts, padding too."""
    decoder = {"add_cross_attention": True, "position_embedding_type": kind, "initializer_range": 0.3}
    model = RobertaForCausalLM(RobertaConfig(**{**DECODER, **decoder}))
    ids = np.arange(2, 24).reshape(2, 11)
    check_pieces(model, {"input_ids": ids})
    source = np.random.default_rng(0).normal(size=(2, 6, 24)).astype("float32")
    mask = [[1] * 6, [1] * 4 + [0] * 2]
    check_pieces(model, {"input_ids": ids}, encoder_hidden_states=source, encoder_attention_mask=mask)
    check_pieces(model, {**TEXT, "position_ids": np.arange(22).reshape(2, 11) % 18})
    check_pieces(model, {"inputs_embeds": np.random.default_rng(1).normal(size=(2, 11, 24)).astype("float32")})


def test_positions_behind_a_cache_that_holds_padding():
    ids, mask = np.array([IDS[0], [*IDS[1][:9], 5, 6]]), np.array([[1] * 11, [1] * 7 + [0, 0, 1, 1]])
    config = {**DECODER, "use_cache": True}
    source = reference.make("roberta.continued", config=config, ids=ids.tolist(), mask=mask.tolist(), start=9)
    model = RobertaForCausalLM.from_pretrained(source)
    cache = model(input_ids=ids[:, :9], attention_mask=mask[:, :9], use_cache=True).past_key_values
    found = model(input_ids=ids[:, 9:], attention_mask=mask, past_key_values=cache).logits
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), np.load(source / "logits.npy"), atol=1e-4)


def test_positions_do_not_count_padding():
    model = RobertaModel(RobertaConfig(**TINY))
    expected = model(input_ids=[[0, 9, 21, 2]]).last_hidden_state
    padded = {"input_ids": [[1, 1, 0, 9, 21, 2, 1]], "attention_mask": [[0, 0, 1, 1, 1, 1, 0]]}
    for found in (model(**padded), model.infer(**padded)):
        found = keras.ops.convert_to_numpy(found.last_hidden_state)[:, 2:6]
        np.testing.assert_allclose(found, keras.ops.convert_to_numpy(expected), atol=1e-5)


def test_a_text_longer_than_the_positions_is_refused():
    model = RobertaForMaskedLM(RobertaConfig(**TINY))
    assert model.max_length == 18
    with pytest.raises(ValueError, match="19 tokens long and RobertaForMaskedLM has positions for 18"):
        model(input_ids=[[5] * 19])


def test_a_classifier_that_keeps_its_pooler(tmp_path):
    def change(tensors):
        pooler = {"dense.weight": np.ones((24, 24), "float32"), "dense.bias": np.ones(24, "float32")}
        old = {f"roberta.pooler.{name}": array for name, array in pooler.items()}
        return {**tensors, **old, "roberta.embeddings.position_ids": np.arange(20)[None]}

    head = "RobertaForSequenceClassification"
    left_over = check_old_names(head, folder(head), tmp_path / "old", change)
    assert left_over == ["roberta.pooler.dense.bias", "roberta.pooler.dense.weight"]


@pytest.mark.parametrize("alone", [False, True])
def test_tied_weights_under_their_other_names(tmp_path, alone):
    twins = {
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    }

    def change(tensors):
        return {**tensors, **{name: tensors.pop(twin) if alone else tensors[twin] for name, twin in twins.items()}}

    assert check_old_names("RobertaForMaskedLM", folder("RobertaForMaskedLM"), tmp_path / "old", change) == []


def test_a_language_model_loads_into_the_bare_model():
    source = folder("RobertaForMaskedLM")
    with pytest.warns(UserWarning, match="pooler.dense.weight, pooler.dense.bias not in the checkpoint"):
        model = RobertaModel.from_pretrained(source)
    found = keras.ops.convert_to_numpy(model(**dict(np.load(source / "inputs.npz"))).last_hidden_state)
    np.testing.assert_allclose(found, np.load(source / "outputs.npz")["hidden_states.2"], atol=1e-4)
