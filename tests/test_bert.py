"""BERT against the reference: every head, every branch of the configuration."""

import keras
import numpy as np
import pytest

from keras_models import BertConfig, BertLMHeadModel, BertModel
from tests.cached import check_pieces
from tests.parity import check, check_defaults

TINY = {
    "vocab_size": 60,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 40,
}
IDS = {"shape": [2, 11], "high": 60}
MASK = [[1] * 11, [1] * 7 + [0] * 4]
TYPES = [[0] * 5 + [1] * 6] * 2
TEXT = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": TYPES}
WORDS = [[1, 5, -100, 9] + [-100] * 7, [-100] * 4 + [3, 8, 2] + [-100] * 4]
CLASSES = {"shape": [2, 11], "high": 3}

HEADS = {
    "BertModel": None,
    "BertForPreTraining": {"labels": WORDS, "next_sentence_label": [0, 1]},
    "BertForMaskedLM": {"labels": WORDS},
    "BertForNextSentencePrediction": {"labels": [1, 0]},
    "BertForSequenceClassification": {"labels": [2, 0]},
    "BertForTokenClassification": {"labels": CLASSES},
    "BertForQuestionAnswering": {"start_positions": [2, 15], "end_positions": [4, 6]},
}


@pytest.mark.parametrize("head", HEADS)
def test_head(head):
    labels = 3 if "Classification" in head else 2
    check(head, {**TINY, "num_labels": labels}, TEXT, HEADS[head])


def test_multiple_choice():
    inputs = {"input_ids": {"shape": [2, 3, 9], "high": 60}, "token_type_ids": {"shape": [2, 3, 9], "high": 2}}
    check("BertForMultipleChoice", TINY, inputs, {"labels": [2, 0]})


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_relative_positions(kind):
    check("BertForMaskedLM", {**TINY, "position_embedding_type": kind}, TEXT, {"labels": WORDS})


def test_causal_language_model():
    check("BertLMHeadModel", {**TINY, "is_decoder": True}, TEXT, {"labels": {"shape": [2, 11], "high": 60}})


def test_decoder_behind_an_encoder():
    inputs = {
        **TEXT,
        "encoder_hidden_states": {"shape": [2, 6, 24]},
        "encoder_attention_mask": [[1] * 6, [1] * 4 + [0] * 2],
    }
    # With a cache, the reference mistakes every query for the last one when it computes relative positions.
    decoder = {"is_decoder": True, "add_cross_attention": True, "use_cache": False}
    config = {**TINY, **decoder, "position_embedding_type": "relative_key"}
    check("BertLMHeadModel", config, inputs, {"labels": WORDS})


@pytest.mark.parametrize("kind", ["absolute", "relative_key_query"])
def test_a_text_in_pieces(kind):
    decoder = {"is_decoder": True, "add_cross_attention": True, "position_embedding_type": kind}
    model = BertLMHeadModel(BertConfig(**{**TINY, **decoder, "initializer_range": 0.3}))
    along = {"input_ids": np.arange(22).reshape(2, 11), "token_type_ids": np.array(TYPES)}
    check_pieces(model, {**along, "attention_mask": MASK})
    check_pieces(model, {**along, "attention_mask": np.array(MASK)[:, ::-1]})
    source = np.random.default_rng(0).normal(size=(2, 6, 24)).astype("float32")
    check_pieces(model, along, encoder_hidden_states=source, encoder_attention_mask=[[1] * 6, [1] * 4 + [0] * 2])


def test_padding_on_the_left():
    model = BertLMHeadModel(BertConfig(**TINY, is_decoder=True))
    expected = model(input_ids=[[5, 6, 7, 8]]).logits
    padded = {"input_ids": [[0, 0, 5, 6, 7, 8]], "attention_mask": [[0, 0, 1, 1, 1, 1]]}
    places = [[0, 0, 0, 1, 2, 3]]
    first = {name: np.array(each)[:, :5] for name, each in {**padded, "position_ids": places}.items()}
    cache = model(**first, use_cache=True).past_key_values
    last = model(input_ids=[[8]], attention_mask=padded["attention_mask"], position_ids=[[3]], past_key_values=cache)
    for found in (model(**padded, position_ids=places).logits[:, 2:], last.logits):
        length = found.shape[1]
        np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (found, expected[:, -length:])), atol=1e-5)


def test_training_a_decoder_behind_an_encoder_without_masks():
    model = BertLMHeadModel(BertConfig(**TINY, is_decoder=True, add_cross_attention=True))
    model.compile("sgd")
    states = np.ones((2, 6, 24), "float32")
    assert np.isfinite(
        model.train_on_batch({"input_ids": [[1, 2, 3]] * 2, "encoder_hidden_states": states}, [[1, 2, 3]] * 2)
    )


def test_settings_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="Unknown position_embedding_type 'rotary': use absolute, relative_key or"):
        BertModel(BertConfig(**TINY, position_embedding_type="rotary"))
    with pytest.raises(ValueError, match="is_decoder=True as well"):
        BertModel(BertConfig(**TINY, add_cross_attention=True))
    with pytest.raises(ValueError, match="encoder_hidden_states was given to a model without cross-attention"):
        BertModel(BertConfig(**TINY))(input_ids=[[1, 2]], encoder_hidden_states=np.zeros((1, 3, 24)))
    with pytest.raises(ValueError, match="use_cache or past_key_values was given to a model that is no decoder"):
        BertModel(BertConfig(**TINY))(input_ids=[[1, 2]], use_cache=True)


def test_configuration():
    check_defaults("BertConfig")


@pytest.mark.parametrize("activation", ["relu", "gelu_new", "silu"])
def test_activations_and_untied_weights(activation):
    config = {**TINY, "hidden_act": activation, "tie_word_embeddings": False, "layer_norm_eps": 1e-5}
    check("BertForMaskedLM", config, {"input_ids": IDS}, {"labels": WORDS})


def test_embeddings_and_positions_as_inputs():
    positions = {"shape": [2, 11], "high": 40}
    check(
        "BertModel",
        {**TINY, "type_vocab_size": 1},
        {"inputs_embeds": {"shape": [2, 11, 24]}, "position_ids": positions},
    )


def test_a_mask_per_query():
    check("BertModel", TINY, {"input_ids": IDS, "attention_mask": [[[1] * 11] * 5 + [[1] * 6 + [0] * 5] * 6] * 2})


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({"num_labels": 1}, {"labels": [0.3, -1.2]}),
        ({"num_labels": 3}, {"labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]}),
        ({"num_labels": 2, "problem_type": "regression"}, {"labels": [[0.3, 2.0], [-1.0, 0.5]]}),
        ({"num_labels": 4, "classifier_dropout": 0.3, "hidden_dropout_prob": 0.0}, {"labels": [3, 1]}),
    ],
)
def test_problem_types(settings, labels):
    check("BertForSequenceClassification", {**TINY, **settings}, TEXT, labels)
