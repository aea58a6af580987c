"""DINOv2 against the reference: every head, every branch of the configuration."""

import keras
import numpy as np
import pytest

from keras_models import (
    AutoBackbone,
    AutoModelForImageClassification,
    Dinov2Backbone,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
)
from keras_models.models import vit_layers
from tests.parity import check, check_defaults, compare, flatten

TINY = {
    "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "mlp_ratio": 2, "image_size": 21,
    "patch_size": 5,
}  # fmt: skip
PICTURES = {"pixel_values": {"shape": [2, 3, 21, 21]}}
HIDDEN = [[True, False, False, True] * 4, [False, True, False, False] * 4]
MAPS = ("feature_maps",)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_swiglu_ffn": True},
        {"use_swiglu_ffn": True, "hidden_size": 30, "mlp_ratio": 4},
        {"use_mask_token": False, "qkv_bias": False, "layer_norm_eps": 0.1},
        {"hidden_act": "relu", "drop_path_rate": 0.5, "layerscale_value": 0.1, "mlp_ratio": 1.5},
    ],
)
def test_bare_model(settings):
    check("Dinov2Model", {**TINY, **settings}, PICTURES)


@pytest.mark.parametrize("shape", [[1, 3, 24, 22], [2, 3, 33, 21], [1, 3, 11, 48], [1, 4, 40, 10], [1, 3, 5, 7]])
def test_positions_for_other_sizes(shape):
    check("Dinov2Model", {**TINY, "num_channels": shape[1]}, {"pixel_values": {"shape": shape}})


def test_positions_are_resized_before_they_are_rounded():
    table = np.random.default_rng(0).normal(size=(1, 17, 8)).astype("float32")
    half, full = (
        vit_layers.add_positions(
            keras.ops.zeros((1, 31, 8), dtype), keras.ops.convert_to_tensor(table), 1, (4, 4), 5, 6
        )
        for dtype in ("bfloat16", "float32")
    )
    compare(flatten({"x": keras.ops.cast(full, "bfloat16")}), flatten({"x": half}), 0)


@pytest.mark.parametrize("shape", [[2, 3, 21, 21], [2, 3, 10, 42]])
def test_hidden_patches(shape):
    check("Dinov2Model", TINY, {"pixel_values": {"shape": shape}, "bool_masked_pos": HIDDEN})


@pytest.mark.parametrize(
    ("settings", "shape", "labels"),
    [
        ({"num_labels": 3}, [2, 3, 21, 21], {"labels": [2, 0]}),
        ({"num_labels": 1, "use_swiglu_ffn": True}, [2, 3, 17, 32], {"labels": [0.3, -1.2]}),
        ({"num_labels": 3}, [2, 3, 30, 10], {"labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]}),
    ],
)
def test_classification(settings, shape, labels):
    check("Dinov2ForImageClassification", {**TINY, **settings}, {"pixel_values": {"shape": shape}}, labels)


@pytest.mark.parametrize("shape", [[2, 3, 21, 21], [1, 3, 33, 18]])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"out_features": ["stem", "stage1", "stage2", "stage3"]},
        {"out_indices": [1, 3], "apply_layernorm": False},
        {"out_indices": [-2, -1], "reshape_hidden_states": False},
        {"out_indices": [2], "reshape_hidden_states": False, "apply_layernorm": False, "use_swiglu_ffn": True},
    ],
)
def test_backbone(settings, shape):
    check("Dinov2Backbone", {**TINY, **settings}, {"pixel_values": {"shape": shape}}, pictures=MAPS)


@pytest.mark.parametrize("kind", [Dinov2Model, Dinov2ForImageClassification, Dinov2Backbone])
def test_pictures_of_any_size(kind):
    model = kind(Dinov2Config(**TINY, out_indices=[1, 3]))
    for height, width in ((21, 21), (33, 18), (12, 47)):
        pixels = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype("float32")
        compare(flatten(model(pixels)), flatten(model.infer(pixels)), 1e-5)


def test_training_drops_branches_of_whole_samples():
    keras.utils.set_random_seed(0)
    config = Dinov2Config(**{**TINY, "num_hidden_layers": 1, "drop_path_rate": 0.5})
    model = Dinov2Model(config)
    pixels = np.repeat(np.random.default_rng(0).normal(size=(1, 21, 21, 3)), 32, axis=0).astype("float32")
    found = keras.ops.convert_to_numpy(model(pixels, training=True).last_hidden_state)
    kinds = np.unique(found.round(4).reshape(32, -1), axis=0)
    assert len(kinds) == 4  # each of two branches there or not
    assert np.ptp(keras.ops.convert_to_numpy(model(pixels).last_hidden_state), axis=0).max() < 1e-5


def test_layer_scale_starts_as_configured():
    model = Dinov2Model(Dinov2Config(**TINY, layerscale_value=0.25))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.encoder.layer[2].layer_scale2.lambda1), 0.25)


def test_a_checkpoint_of_a_head_becomes_a_backbone(tmp_path):
    model = Dinov2ForImageClassification(Dinov2Config(**TINY))
    model.save_pretrained(tmp_path)
    assert isinstance(AutoModelForImageClassification.from_pretrained(tmp_path), Dinov2ForImageClassification)
    backbone = AutoBackbone.from_pretrained(tmp_path, out_features=["stage1", "stage3"])
    assert isinstance(backbone, Dinov2Backbone)
    assert (backbone.channels, backbone.out_indices) == ([24, 24], [1, 3])
    pixels = np.random.default_rng(0).normal(size=(1, 15, 31, 3)).astype("float32")
    maps = backbone(pixels).feature_maps
    assert [tuple(x.shape) for x in maps] == [(1, 3, 6, 24)] * 2
    patches = model.dinov2(pixels).last_hidden_state[:, 1:]
    compare(flatten({"map": patches}), flatten({"map": keras.ops.reshape(maps[1], (1, 18, 24))}), 1e-5)


def test_the_mask_token_may_be_in_a_checkpoint_or_not(tmp_path):
    Dinov2Model(Dinov2Config(**TINY)).save_pretrained(tmp_path / "with")
    Dinov2Model(Dinov2Config(**TINY, use_mask_token=False)).save_pretrained(tmp_path / "without")
    assert Dinov2Model.from_pretrained(tmp_path / "with", use_mask_token=False).embeddings.mask_token is None
    with pytest.warns(UserWarning, match="embeddings.mask_token not in the checkpoint, newly initialised"):
        model = Dinov2Model.from_pretrained(tmp_path / "without", use_mask_token=True)
    assert tuple(model.embeddings.mask_token.shape) == (1, 24)


def test_wrong_inputs_are_refused():
    model = Dinov2Model(Dinov2Config(**TINY))
    with pytest.raises(ValueError, match="pictures of 4 x 20 pixels, less than a patch of 5 x 5: resize them"):
        model(np.zeros((1, 4, 20, 3)))
    with pytest.raises(ValueError, match=r"bool_masked_pos has the shape \(1, 16\).* have 4 x 6 patches: give"):
        model(np.zeros((1, 20, 30, 3)), HIDDEN[:1])
    with pytest.raises(ValueError, match="bool_masked_pos needs a model with a mask token"):
        Dinov2Model(Dinov2Config(**TINY, use_mask_token=False))(np.zeros((1, 20, 20, 3)), HIDDEN[:1])
    with pytest.raises(ValueError, match="no stage 'stage4'"):
        Dinov2Config(**TINY, out_features=["stage4"])


def test_configuration():
    check_defaults("Dinov2Config")
