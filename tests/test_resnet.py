"""ResNet against the reference: every head, every branch of the configuration."""

import numpy as np
import pytest

from keras_models import AutoBackbone, ResNetBackbone, ResNetConfig, ResNetForImageClassification
from tests.parity import check, check_defaults, compare, flatten

TINY = {"embedding_size": 6, "hidden_sizes": [8, 12, 16, 20], "depths": [1, 2, 1, 1]}
PICTURES = {"pixel_values": {"shape": [2, 3, 45, 38]}}
TOLERANCE = 1e-3  # the random networks' features reach 50
MAPS = ("last_hidden_state", "pooler_output", "hidden_states", "feature_maps")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"layer_type": "basic"},
        {"layer_type": "basic", "downsample_in_first_stage": True, "hidden_act": "silu"},
        {"downsample_in_bottleneck": True, "downsample_in_first_stage": True},
        {"num_channels": 4, "hidden_act": "gelu", "depths": [2, 1], "hidden_sizes": [8, 8]},
    ],
)
def test_bare_model(settings):
    shape = [2, settings.get("num_channels", 3), 45, 38]
    check("ResNetModel", {**TINY, **settings}, {"pixel_values": {"shape": shape}}, tolerance=TOLERANCE, pictures=MAPS)


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({"num_labels": 3}, {"labels": [2, 0]}),
        ({"num_labels": 3, "layer_type": "basic"}, {"labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]}),
        ({"num_labels": 1}, {"labels": [0.3, -1.2]}),
    ],
)
def test_classification(settings, labels):
    check("ResNetForImageClassification", {**TINY, **settings}, PICTURES, labels, TOLERANCE, pictures=MAPS)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"out_features": ["stem", "stage1", "stage2", "stage3", "stage4"]},
        {"out_indices": [2, 4], "layer_type": "basic"},
        {"out_indices": [-1]},
    ],
)
def test_backbone(settings):
    inputs = {"pixel_values": {"shape": [1, 3, 33, 51]}}
    check("ResNetBackbone", {**TINY, **settings}, inputs, tolerance=TOLERANCE, pictures=MAPS)


def test_a_bare_checkpoint_becomes_a_backbone(tmp_path):
    model = ResNetForImageClassification(ResNetConfig(**TINY))
    model.save_pretrained(tmp_path)
    backbone = AutoBackbone.from_pretrained(tmp_path, out_features=["stage2", "stage4"])
    assert isinstance(backbone, ResNetBackbone)
    assert (backbone.channels, backbone.out_indices) == ([12, 20], [2, 4])
    pixels = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    expected = flatten({"map": model.resnet(pixels).last_hidden_state})
    compare(expected, flatten({"map": backbone(pixels).feature_maps[-1]}), 1e-6)


@pytest.mark.parametrize("size", [(32, 32), (45, 70), (67, 41)])
def test_pictures_of_any_size(size):
    model = ResNetForImageClassification(ResNetConfig(**TINY))
    for height, width in ((64, 64), size):
        pixels = np.random.default_rng(0).normal(size=(1, height, width, 3)).astype("float32")
        compare(flatten(model(pixels)), flatten(model.infer(pixels)), 1e-5)


def test_stages_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match=r"no stage 'stage5' in out_features=\['stage5'\]. Did you mean 'stage4'"):
        ResNetConfig(out_features=["stage5"])
    with pytest.raises(ValueError, match="must name stages once, in the order of"):
        ResNetConfig(out_features=["stage2", "stage1"])
    with pytest.raises(ValueError, match="the stages of this backbone are 0 to 4"):
        ResNetConfig(out_indices=[5])
    with pytest.raises(ValueError, match="name different stages: drop one"):
        ResNetConfig(out_features=["stage1"], out_indices=[2])
    with pytest.raises(ValueError, match="Unknown layer_type 'narrow': use basic or bottleneck"):
        ResNetConfig(layer_type="narrow")


def test_configuration():
    check_defaults("ResNetConfig")
