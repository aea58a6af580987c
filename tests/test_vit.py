"""ViT against the reference: every head, every branch of the configuration."""

import numpy as np
import pytest

from keras_models import AutoModelForImageClassification, ViTConfig, ViTForImageClassification, ViTModel
from tests.parity import check, check_defaults

TINY = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "image_size": 20,
    "patch_size": 5, "encoder_stride": 5,
}  # fmt: skip
PICTURES = {"pixel_values": {"shape": [2, 3, 20, 20]}}
HIDDEN = [[1, 0, 0, 1] * 4, [0, 1, 0, 0] * 4]


def test_bare_model():
    check("ViTModel", TINY, PICTURES)


@pytest.mark.parametrize("settings", [{"qkv_bias": False}, {"hidden_act": "gelu_new"}, {"layer_norm_eps": 0.1}])
def test_settings(settings):
    check("ViTForImageClassification", {**TINY, **settings}, PICTURES)


def test_another_pooler():
    check("ViTModel", {**TINY, "pooler_output_size": 10, "pooler_act": "relu", "layer_norm_eps": 1e-3}, PICTURES)


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({"num_labels": 3}, {"labels": [2, 0]}),
        ({"num_labels": 1}, {"labels": [0.3, -1.2]}),
        ({"num_labels": 3}, {"labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]}),
    ],
)
def test_classification(settings, labels):
    check("ViTForImageClassification", {**TINY, **settings}, PICTURES, labels)


def test_masked_image_modeling():
    check("ViTForMaskedImageModeling", TINY, {**PICTURES, "bool_masked_pos": HIDDEN}, {}, pictures=("reconstruction",))
    check("ViTForMaskedImageModeling", {**TINY, "encoder_stride": 3}, PICTURES, pictures=("reconstruction",))


@pytest.mark.parametrize("shape", [[1, 3, 20, 20], [2, 3, 33, 20], [1, 3, 11, 47]])
def test_positions_for_other_sizes(shape):
    check("ViTModel", TINY, {"pixel_values": {"shape": shape}, "interpolate_pos_encoding": True})


def test_rectangles_and_other_channels():
    settings = {**TINY, "image_size": [12, 30], "patch_size": [4, 5], "num_channels": 4}
    check("ViTForImageClassification", settings, {"pixel_values": {"shape": [2, 4, 12, 30]}}, {"labels": [1, 0]})


def test_configuration():
    check_defaults("ViTConfig")


def test_wrong_pictures_are_refused():
    model = ViTModel(ViTConfig(**TINY))
    with pytest.raises(ValueError, match=r"shape \(2, 3, 20, 20\).*channels last; turn it with"):
        model(np.zeros((2, 3, 20, 20)))
    with pytest.raises(ValueError, match="pictures of 20 x 25 pixels and the model takes 20 x 20: resize them"):
        model(np.zeros((2, 20, 25, 3)))
    with pytest.raises(ValueError, match="pixel_values is empty"):
        model(np.zeros((0, 20, 20, 3)))
    with pytest.raises(ValueError, match="encoder_stride"):
        from keras_models import ViTForMaskedImageModeling

        ViTForMaskedImageModeling(ViTConfig(**{**TINY, "encoder_stride": 3}))(np.zeros((1, 20, 20, 3)), HIDDEN[:1])


def test_one_picture_needs_no_batch_axis():
    model = ViTForImageClassification(ViTConfig(**TINY))
    picture = np.random.default_rng(0).normal(size=(20, 20, 3)).astype("float32")
    np.testing.assert_allclose(model.infer(picture).logits, model.infer(picture[None]).logits, atol=1e-6)


def test_a_smaller_batch_gives_the_same_results():
    model = ViTForImageClassification(ViTConfig(**TINY))
    pictures = np.random.default_rng(0).normal(size=(4, 20, 20, 3)).astype("float32")
    expected = model.infer(pictures).logits
    for rows in (3, 2, 1):
        np.testing.assert_allclose(model.infer(pictures[:rows]).logits, expected[:rows], atol=1e-5)


def test_auto_class():
    assert isinstance(AutoModelForImageClassification.from_config(ViTConfig(**TINY)), ViTForImageClassification)
