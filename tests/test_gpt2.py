"""GPT-2 against the reference: every head, every branch of the configuration."""

import numpy as np
import pytest

from keras_models import GPT2Config, GPT2LMHeadModel
from tests import reference
from tests.parity import check, check_defaults, check_old_names

TINY = {"vocab_size": 60, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 40}
IDS = {"shape": [2, 11], "high": 60}
MASK = [[1] * 11, [1] * 7 + [0] * 4]
TEXT = {"input_ids": IDS, "attention_mask": MASK}
WORDS = [[1, 5, -100, 9] + [-100] * 7, [-100] * 4 + [3, 8, 2] + [-100] * 4]


def test_bare_model():
    check("GPT2Model", TINY, {**TEXT, "token_type_ids": IDS, "position_ids": {"shape": [2, 11], "high": 40}})


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tie_word_embeddings": False, "n_inner": 31, "activation_function": "relu"},
        {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
        {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True, "layer_norm_epsilon": 1e-3},
    ],
)
def test_language_model(settings):
    check("GPT2LMHeadModel", {**TINY, **settings}, TEXT, {"labels": WORDS})


def test_decoder_behind_an_encoder():
    inputs = {
        **TEXT,
        "encoder_hidden_states": {"shape": [2, 6, 24]},
        "encoder_attention_mask": [[1] * 6, [1] * 4 + [0] * 2],
    }
    check("GPT2LMHeadModel", {**TINY, "add_cross_attention": True}, inputs, {"labels": WORDS})
    with pytest.raises(ValueError, match="encoder_hidden_states was given to a model without cross-attention"):
        GPT2LMHeadModel(GPT2Config(**TINY))(input_ids=[[1, 2]], encoder_hidden_states=np.zeros((1, 3, 24)))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"summary_type": "mean", "summary_activation": "tanh"},
        {"summary_type": "first", "summary_first_dropout": 0.0},
        {"summary_type": "last"},
    ],
)
def test_double_heads(settings):
    choices = {"input_ids": {"shape": [2, 3, 7], "high": 60}, "mc_token_ids": {"shape": [2, 3], "high": 7}}
    check("GPT2DoubleHeadsModel", {**TINY, **settings}, choices, {"labels": {"shape": [2, 3, 7], "high": 60}})


@pytest.mark.parametrize("pad", [0, 59])
def test_sequence_classification(pad):
    ids = [[5, 6, 7, 8, pad, pad], [pad, pad, 5, 6, 7, 3]]
    config = {**TINY, "num_labels": 3, "pad_token_id": pad}
    check("GPT2ForSequenceClassification", config, {"input_ids": ids}, {"labels": [2, 0]})


def test_several_texts_need_a_padding_token():
    check("GPT2ForSequenceClassification", TINY, {"input_ids": [[5, 6, 7]]}, {"labels": [1]})
    from keras_models import GPT2ForSequenceClassification

    with pytest.raises(ValueError, match="set config.pad_token_id"):
        GPT2ForSequenceClassification(GPT2Config(**TINY))(input_ids=[[1, 2], [3, 4]])


def test_tokens_and_answers():
    check("GPT2ForTokenClassification", {**TINY, "num_labels": 3}, TEXT, {"labels": {"shape": [2, 11], "high": 3}})
    check("GPT2ForQuestionAnswering", TINY, TEXT, {"start_positions": [2, 15], "end_positions": [4, 6]})


def test_files_of_the_first_release(tmp_path):
    """No `transformer.` in front, and masks among the weights."""

    def old(tensors):
        renamed = {name.removeprefix("transformer."): array for name, array in tensors.items()}
        for index in range(2):
            renamed[f"h.{index}.attn.bias"] = np.ones((1, 1, 40, 40), "float32")
            renamed[f"h.{index}.attn.masked_bias"] = np.array(-1e4, "float32")
        return renamed

    folder = reference.make(
        "models.checkpoint", architecture="GPT2LMHeadModel", config=TINY, inputs=TEXT, labels={"labels": WORDS}, save={}
    )
    assert check_old_names("GPT2LMHeadModel", folder, tmp_path / "old", old) == []


def test_settings():
    check_defaults("GPT2Config")
    with pytest.raises(ValueError, match="n_embd 24 is not a multiple of n_head 5"):
        GPT2LMHeadModel(GPT2Config(**{**TINY, "n_head": 5}))
