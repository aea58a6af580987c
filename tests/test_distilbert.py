"""DistilBERT against the reference: every head, every branch of the configuration."""

import keras
import numpy as np
import pytest

from keras_models import DistilBertConfig, DistilBertForSequenceClassification, DistilBertModel
from tests import reference
from tests.parity import check, check_defaults, check_old_names, load

TINY = {
    "vocab_size": 60,
    "dim": 24,
    "n_layers": 2,
    "n_heads": 3,
    "hidden_dim": 40,
    "max_position_embeddings": 40,
}
TEXT = {"input_ids": {"shape": [2, 11], "high": 60}, "attention_mask": [[1] * 11, [1] * 7 + [0] * 4]}
WORDS = [[1, 5, -100, 9] + [-100] * 7, [-100] * 4 + [3, 8, 2] + [-100] * 4]

HEADS = {
    "DistilBertModel": None,
    "DistilBertForMaskedLM": {"labels": WORDS},
    "DistilBertForSequenceClassification": [{"labels": [2, 0]}, {"labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]}],
    "DistilBertForTokenClassification": {"labels": {"shape": [2, 11], "high": 3}},
    "DistilBertForQuestionAnswering": {"start_positions": [2, 15], "end_positions": [4, 6]},
}


def settings(head):
    return {**TINY, "num_labels": 3 if "Classification" in head else 2}


def folder(head):
    return reference.make(
        "models.checkpoint", architecture=head, config=settings(head), inputs=TEXT, labels=HEADS[head], save={}
    )


@pytest.mark.parametrize("head", HEADS)
def test_head(head):
    check(head, settings(head), TEXT, HEADS[head])


def test_multiple_choice():
    inputs = {"input_ids": {"shape": [2, 3, 9], "high": 60}}
    check("DistilBertForMultipleChoice", TINY, inputs, {"labels": [2, 0]})


def test_untied_weights_another_activation_and_embeddings_as_inputs():
    config = {**TINY, "tie_word_embeddings": False, "activation": "relu"}
    check("DistilBertForMaskedLM", config, {"inputs_embeds": {"shape": [2, 11, 24]}}, {"labels": WORDS})


def test_configuration():
    check_defaults("DistilBertConfig")
    config = DistilBertConfig(hidden_size=24, num_attention_heads=2, num_hidden_layers=3)
    assert (config.dim, config.n_heads, config.n_layers) == (24, 2, 3)
    with pytest.raises(ValueError, match="dim 24 is not a multiple of n_heads 5"):
        DistilBertModel(DistilBertConfig(**{**TINY, "n_heads": 5}))


def test_positions_may_start_as_sinusoids(tmp_path):
    config = {**TINY, "sinusoidal_pos_embds": True}
    model = DistilBertModel(DistilBertConfig(**config))
    table = model.embeddings.position_embeddings.embeddings
    expected = reference.call("text_models.fresh_positions", config=config)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(table), expected, atol=1e-6)
    table.assign(2 * table)
    model.save_pretrained(tmp_path)
    restored = load("DistilBertModel", tmp_path).embeddings.position_embeddings.embeddings
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(restored), keras.ops.convert_to_numpy(table))


def test_a_language_model_that_repeats_its_tied_weight(tmp_path):
    def change(tensors):
        old = {"distilbert.embeddings.position_ids": np.arange(40)[None]}
        old["vocab_projector.weight"] = tensors["distilbert.embeddings.word_embeddings.weight"]
        return {**tensors, **old}

    assert check_old_names("DistilBertForMaskedLM", folder("DistilBertForMaskedLM"), tmp_path / "old", change) == []


def test_a_language_model_loads_into_the_bare_model_and_into_another_head(tmp_path):
    source = folder("DistilBertForMaskedLM")
    arrays = dict(np.load(source / "inputs.npz"))
    bare = load("DistilBertModel", source)
    expected = np.load(source / "outputs.npz")["hidden_states.2"]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(bare(**arrays).last_hidden_state), expected, atol=1e-4)
    with pytest.warns(UserWarning, match="pre_classifier.weight, pre_classifier.bias, classifier.weight"):
        head = DistilBertForSequenceClassification.from_pretrained(source, num_labels=4)
    found = head(**arrays, output_hidden_states=True)
    assert found.logits.shape == (2, 4)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found.hidden_states[-1]), expected, atol=1e-4)
