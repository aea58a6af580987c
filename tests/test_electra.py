"""ELECTRA against the reference: every head, every branch of the configuration."""

import keras
import numpy as np
import pytest

from keras_models import ElectraConfig, ElectraForCausalLM, ElectraForMultipleChoice, ElectraModel
from tests import reference
from tests.cached import check_pieces
from tests.parity import check, check_defaults, check_old_names, load

TINY = {
    "vocab_size": 60,
    "embedding_size": 16,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 40,
}
MASK = [[1] * 11, [1] * 7 + [0] * 4]
TYPES = [[0] * 5 + [1] * 6] * 2
TEXT = {"input_ids": {"shape": [2, 11], "high": 60}, "attention_mask": MASK, "token_type_ids": TYPES}
WORDS = [[1, 5, -100, 9] + [-100] * 7, [-100] * 4 + [3, 8, 2] + [-100] * 4]

HEADS = {
    "ElectraModel": None,
    "ElectraForPreTraining": {"labels": {"shape": [2, 11], "high": 2}},
    "ElectraForMaskedLM": {"labels": WORDS},
    "ElectraForSequenceClassification": [{"labels": [2, 0]}, {"labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]}],
    "ElectraForTokenClassification": {"labels": {"shape": [2, 11], "high": 3}},
}


def folder(head):
    config = {**TINY, "num_labels": 3}
    return reference.make(
        "models.checkpoint", architecture=head, config=config, inputs=TEXT, labels=HEADS[head], save={}
    )


@pytest.mark.parametrize("head", HEADS)
def test_head(head):
    check(head, {**TINY, "num_labels": 3}, TEXT, HEADS[head])


def test_configuration():
    check_defaults("ElectraConfig")


def test_pretraining_without_a_mask_and_with_embeddings_of_full_size():
    config = {**TINY, "embedding_size": 24, "hidden_act": "relu", "position_embedding_type": "relative_key"}
    inputs = {"inputs_embeds": {"shape": [2, 11, 24]}, "token_type_ids": TYPES}
    check("ElectraForPreTraining", config, inputs, HEADS["ElectraForPreTraining"])


def test_pretraining_loss_leaves_out_padding_in_training_too():
    source = folder("ElectraForPreTraining")
    model = load("ElectraForPreTraining", source)
    model.compile("sgd")
    labels = np.load(source / "labels-0.npz")["labels"]
    found = model.test_on_batch(dict(np.load(source / "inputs.npz")), labels)
    np.testing.assert_allclose(found, np.load(source / "losses.npz")["loss-0"], atol=1e-4)


def test_question_answering_with_given_positions():
    inputs = {**TEXT, "position_ids": {"shape": [2, 11], "high": 40}}
    check("ElectraForQuestionAnswering", TINY, inputs, {"start_positions": [2, 15], "end_positions": [4, 6]})


def test_causal_language_model_with_untied_weights_and_relative_positions():
    config = {**TINY, "tie_word_embeddings": False, "position_embedding_type": "relative_key_query", "is_decoder": True}
    check("ElectraForCausalLM", config, TEXT, {"labels": WORDS})


def test_decoder_behind_an_encoder():
    inputs = {
        **TEXT,
        "encoder_hidden_states": {"shape": [2, 6, 24]},
        "encoder_attention_mask": [[1] * 6, [1] * 4 + [0] * 2],
    }
    config = {**TINY, "is_decoder": True, "add_cross_attention": True, "position_embedding_type": "relative_key"}
    check("ElectraForCausalLM", config, inputs, {"labels": WORDS})


@pytest.mark.parametrize("kind", ["absolute", "relative_key"])
def test_a_text_in_pieces(kind):
    decoder = {"is_decoder": True, "add_cross_attention": True, "position_embedding_type": kind}
    model = ElectraForCausalLM(ElectraConfig(**{**TINY, **decoder, "initializer_range": 0.3}))
    along = {"input_ids": np.arange(22).reshape(2, 11), "attention_mask": MASK, "token_type_ids": TYPES}
    check_pieces(model, along)
    source = np.random.default_rng(0).normal(size=(2, 6, 24)).astype("float32")
    check_pieces(model, along, encoder_hidden_states=source)


@pytest.mark.parametrize(
    "summary",
    [
        {},
        {"summary_type": "mean", "summary_use_proj": False, "summary_activation": None},
        {"summary_type": "last", "summary_activation": "tanh", "summary_last_dropout": 0.0},
    ],
)
def test_multiple_choice(summary):
    inputs = {"input_ids": {"shape": [2, 3, 9], "high": 60}, "token_type_ids": {"shape": [2, 3, 9], "high": 2}}
    check("ElectraForMultipleChoice", {**TINY, **summary}, inputs, {"labels": [2, 0]})


def test_an_unknown_summary_is_refused():
    with pytest.raises(ValueError, match="Unknown summary_type 'attn' in the configuration: use first, last"):
        ElectraForMultipleChoice(ElectraConfig(**TINY, summary_type="attn"))


def test_a_generator_that_repeats_its_tied_weight(tmp_path):
    def change(tensors):
        old = {"electra.embeddings.position_ids": np.arange(40)[None]}
        old["generator_lm_head.weight"] = tensors["electra.embeddings.word_embeddings.weight"]
        return {**tensors, **old}

    assert check_old_names("ElectraForMaskedLM", folder("ElectraForMaskedLM"), tmp_path / "old", change) == []


def test_a_tagger_with_old_names_of_norms(tmp_path):
    def change(tensors):
        old = {"electra.embeddings.position_ids": np.arange(40)[None]}
        for name, array in tensors.items():
            name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            old[name] = array
        return old

    head = "ElectraForTokenClassification"
    assert check_old_names(head, folder(head), tmp_path / "old", change) == []


def test_a_discriminator_loads_into_the_bare_model():
    source = folder("ElectraForPreTraining")
    found = load("ElectraModel", source)(**dict(np.load(source / "inputs.npz"))).last_hidden_state
    expected = np.load(source / "outputs.npz")["hidden_states.2"]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, atol=1e-4)
    assert isinstance(load("ElectraModel", folder("ElectraForMaskedLM")), ElectraModel)
