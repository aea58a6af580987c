"""AST against the reference: both classes, every branch of the configuration."""

import numpy as np
import pytest

from keras_models import ASTConfig, ASTForAudioClassification, ASTModel, AutoModelForAudioClassification
from tests.parity import check, check_defaults

TINY = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "patch_size": 4,
    "frequency_stride": 3, "time_stride": 2, "max_length": 21, "num_mel_bins": 16,
}  # fmt: skip
SOUNDS = {"input_values": {"shape": [2, 21, 16]}}


def test_bare_model():
    check("ASTModel", TINY, SOUNDS)


@pytest.mark.parametrize(
    "settings",
    [
        {"qkv_bias": False},
        {"hidden_act": "relu", "layer_norm_eps": 0.1},
        {"frequency_stride": 4, "time_stride": 4, "num_hidden_layers": 1},
    ],
)
def test_settings(settings):
    check("ASTForAudioClassification", {**TINY, **settings}, SOUNDS)


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({"num_labels": 3}, {"labels": [2, 0]}),
        ({"num_labels": 1}, {"labels": [0.3, -1.2]}),
        ({"num_labels": 3}, {"labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]}),
    ],
)
def test_classification(settings, labels):
    check("ASTForAudioClassification", {**TINY, **settings}, SOUNDS, labels)


def test_configuration():
    check_defaults("ASTConfig")


def test_wrong_sounds_are_refused():
    model = ASTModel(ASTConfig(**TINY))
    with pytest.raises(ValueError, match="spectrograms of 20 frames and 16 mels and the model takes 21 and 16: make"):
        model(np.zeros((2, 20, 16)))
    with pytest.raises(ValueError, match=r"input_values has the shape \(2, 3, 21, 16\)"):
        model(np.zeros((2, 3, 21, 16)))


def test_one_sound_needs_no_batch_axis():
    model = ASTForAudioClassification(ASTConfig(**TINY))
    sound = np.random.default_rng(0).normal(size=(21, 16)).astype("float32")
    np.testing.assert_allclose(model.infer(sound).logits, model.infer(sound[None]).logits, atol=1e-6)


def test_a_class_that_the_head_lacks_is_refused():
    model = ASTForAudioClassification(ASTConfig(**TINY, num_labels=3))
    model.compile()
    with pytest.raises(ValueError, match="Label 3 is out of range: the model has 3 classes"):
        model.fit(np.zeros((2, 21, 16), "float32"), np.array([3, 0]), verbose=0)


def test_auto_class():
    assert isinstance(AutoModelForAudioClassification.from_config(ASTConfig(**TINY)), ASTForAudioClassification)
