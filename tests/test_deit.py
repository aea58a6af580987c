"""DeiT against the reference: every head, every branch of the configuration."""

import json

import keras
import numpy as np
import pytest

import keras_models
from keras_models import (
    AutoConfig,
    AutoModelForImageClassification,
    DeiTConfig,
    DeiTForImageClassification,
    DeiTForImageClassificationWithTeacher,
    DeiTForMaskedImageModeling,
    DeiTModel,
    pipeline,
)
from keras_models.describe import class_for
from tests.parity import check, check_defaults, compare, flatten

TINY = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "image_size": 20,
    "patch_size": 5, "encoder_stride": 5,
}  # fmt: skip
PICTURES = {"pixel_values": {"shape": [2, 3, 20, 20]}}
HIDDEN = [[1, 0, 0, 1] * 4, [0, 1, 0, 0] * 4]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"qkv_bias": False, "hidden_act": "gelu_new"},
        {"pooler_output_size": 10, "pooler_act": "relu", "layer_norm_eps": 0.1},
    ],
)
def test_bare_model(settings):
    check("DeiTModel", {**TINY, **settings}, PICTURES)


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({"num_labels": 3}, {"labels": [2, 0]}),
        ({"num_labels": 1}, {"labels": [0.3, -1.2]}),
        ({"num_labels": 3}, {"labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]}),
    ],
)
def test_classification(settings, labels):
    check("DeiTForImageClassification", {**TINY, **settings}, PICTURES, labels)


def test_classification_with_teacher():
    check("DeiTForImageClassificationWithTeacher", {**TINY, "num_labels": 5}, PICTURES)


def test_masked_image_modeling():
    check("DeiTForMaskedImageModeling", TINY, {**PICTURES, "bool_masked_pos": HIDDEN}, {}, pictures=("reconstruction",))
    check("DeiTForMaskedImageModeling", {**TINY, "encoder_stride": 3}, PICTURES, pictures=("reconstruction",))


@pytest.mark.parametrize("shape", [[1, 3, 20, 20], [2, 3, 33, 20], [1, 3, 11, 47]])
@pytest.mark.parametrize("head", ["DeiTModel", "DeiTForImageClassificationWithTeacher"])
def test_positions_for_other_sizes(head, shape):
    check(head, TINY, {"pixel_values": {"shape": shape}, "interpolate_pos_encoding": True})


def test_rectangles_and_other_channels():
    settings = {**TINY, "image_size": [12, 30], "patch_size": [4, 5], "num_channels": 4}
    check("DeiTForImageClassification", settings, {"pixel_values": {"shape": [2, 4, 12, 30]}}, {"labels": [1, 0]})


@pytest.mark.parametrize("kind", [DeiTModel, DeiTForImageClassificationWithTeacher, DeiTForMaskedImageModeling])
def test_pictures_of_any_size(kind):
    model = kind(DeiTConfig(**TINY))
    for height, width in ((20, 20), (35, 20), (11, 48)):
        pixels = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype("float32")
        inputs = {"pixel_values": pixels, "interpolate_pos_encoding": True}
        compare(flatten(model(**inputs)), flatten(model.infer(**inputs)), 1e-5)


def test_hidden_patches_of_pictures_of_any_size():
    model = DeiTForMaskedImageModeling(DeiTConfig(**TINY))
    for height, width in ((20, 20), (35, 20), (10, 45)):
        pixels = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype("float32")
        hidden = np.random.default_rng(1).integers(0, 2, (2, height * width // 25))
        inputs = {"pixel_values": pixels, "bool_masked_pos": hidden, "interpolate_pos_encoding": True}
        found = flatten(model.infer(**inputs))
        compare(flatten(model(**inputs)), found, 1e-5)
        mask = np.kron(hidden.reshape(2, height // 5, width // 5), np.ones((1, 5, 5)))[..., None]
        expected = (np.abs(pixels - found["reconstruction"]) * mask).sum() / mask.sum() / 3
        assert found["loss"] == pytest.approx(expected, abs=1e-5)


def test_the_class_is_the_one_that_the_checkpoint_names(tmp_path):
    heads = (DeiTForImageClassification, DeiTForImageClassificationWithTeacher)
    for kind in heads:
        kind(DeiTConfig(**TINY)).save_pretrained(tmp_path / kind.__name__)
        assert type(AutoModelForImageClassification.from_pretrained(tmp_path / kind.__name__)) is kind
        values = json.loads((tmp_path / kind.__name__ / "config.json").read_text())
        assert class_for(values) == kind.__name__
        del values["model_type"]  # the class tells it
        (tmp_path / kind.__name__ / "config.json").write_text(json.dumps(values))
        assert AutoConfig.from_pretrained(tmp_path / kind.__name__).model_type == "deit"
        assert getattr(keras_models, kind.__name__) is kind
    others = ([], None, ["DeiTModel"], ["DeiTForMaskedImageModeling"])
    for names in others:
        config = DeiTConfig(**TINY, architectures=names)
        assert type(AutoModelForImageClassification.from_config(config)) is DeiTForImageClassification
    config = DeiTConfig(**TINY, architectures=["TFDeiTForImageClassificationWithTeacher"])
    assert type(AutoModelForImageClassification.from_config(config)) is DeiTForImageClassificationWithTeacher


def test_a_class_of_ones_own_takes_the_place_of_both(monkeypatch):
    monkeypatch.setattr("keras_models.auto._models", {})

    class Own(DeiTForImageClassification):
        pass

    AutoModelForImageClassification.register(DeiTConfig, Own, exist_ok=True)
    config = DeiTConfig(**TINY, architectures=["DeiTForImageClassificationWithTeacher"])
    assert type(AutoModelForImageClassification.from_config(config)) is Own


def test_classification_by_a_pipeline(tmp_path):
    model = DeiTForImageClassificationWithTeacher(DeiTConfig(**TINY, num_labels=3))
    model.save_pretrained(tmp_path)
    settings = {"image_processor_type": "DeiTImageProcessor", "size": 24, "crop_size": 20}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    classify = pipeline(model=str(tmp_path))  # config.json's class tells the task
    picture = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype("uint8")
    logits = flatten(model(**classify.image_processor(picture, return_tensors="np")))["logits"][0]
    expected = np.exp(logits) / np.exp(logits).sum()
    found = {each["label"]: each["score"] for each in classify(picture)}
    np.testing.assert_allclose([found[f"LABEL_{index}"] for index in range(3)], expected, atol=1e-5)


def test_a_head_with_teacher_trains_with_a_given_loss():
    model = DeiTForImageClassificationWithTeacher(DeiTConfig(**TINY, num_labels=3))
    pixels = np.random.default_rng(0).normal(size=(6, 20, 20, 3)).astype("float32")
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(pixels, np.array([0, 1, 2] * 2), epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    model = DeiTForImageClassificationWithTeacher(DeiTConfig(**TINY, num_labels=3))
    model.compile("adam")
    with pytest.raises(TypeError, match="WithTeacher has no loss of its own: give it one with compile"):
        model.fit(pixels, np.array([0, 1, 2] * 2), verbose=0)


def test_wrong_inputs_are_refused():
    model = DeiTModel(DeiTConfig(**TINY), use_mask_token=True)
    with pytest.raises(ValueError, match="pictures of 20 x 25 pixels and the model takes 20 x 20: resize them"):
        model(np.zeros((2, 20, 25, 3)))
    with pytest.raises(ValueError, match=r"bool_masked_pos has the shape \(1, 16\).* have 4 x 5 patches: give"):
        model(np.zeros((1, 20, 25, 3)), HIDDEN[:1], interpolate_pos_encoding=True)
    with pytest.raises(ValueError, match="bool_masked_pos needs a model with a mask token"):
        DeiTForImageClassification(DeiTConfig(**TINY)).deit(np.zeros((1, 20, 20, 3)), HIDDEN[:1])
    with pytest.raises(ValueError, match="encoder_stride"):
        DeiTForMaskedImageModeling(DeiTConfig(**{**TINY, "encoder_stride": 3}))(np.zeros((1, 20, 20, 3)), HIDDEN[:1])
    with pytest.raises(ValueError, match="needs pictures of whole patches of 5 pixels, not of 22 x 20 pixels: resize"):
        model = DeiTForMaskedImageModeling(DeiTConfig(**TINY))
        model(np.zeros((1, 22, 20, 3)), HIDDEN[:1], interpolate_pos_encoding=True)


def test_configuration():
    check_defaults("DeiTConfig")
