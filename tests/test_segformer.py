"""SegFormer against the reference: every head, every branch of the configuration."""

import keras
import numpy as np
import pytest

from keras_models import (
    AutoModelForImageClassification,
    AutoModelForSemanticSegmentation,
    SegformerConfig,
    SegformerForImageClassification,
    SegformerForSemanticSegmentation,
    SegformerModel,
)
from tests.parity import check, check_defaults, compare, flatten

TINY = {  # of two stages, which compile quickly
    "num_encoder_blocks": 2, "hidden_sizes": [8, 12], "depths": [1, 2], "num_attention_heads": [1, 2],
    "sr_ratios": [4, 3], "mlp_ratios": [2, 3], "decoder_hidden_size": 10, "drop_path_rate": 0.0,
}  # fmt: skip
FOUR = {
    "num_encoder_blocks": 4, "hidden_sizes": [8, 12, 15, 16], "depths": [1, 2, 1, 1],
    "num_attention_heads": [1, 2, 3, 4], "sr_ratios": [4, 3, 2, 1], "mlp_ratios": [2, 2, 1, 3],
}  # fmt: skip
PICTURES = {"pixel_values": {"shape": [2, 3, 45, 70]}}
MAPS = ("last_hidden_state", "hidden_states", "logits")
SEGMENTS = {"labels": {"shape": [2, 45, 70], "high": 5}}


def tiny(**settings):
    return SegformerConfig(**{**TINY, **settings})


def pixels(*shape):
    return np.random.default_rng(0).normal(size=(*shape, 3)).astype("float32")


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        (FOUR, [2, 3, 45, 70]),
        ({"reshape_last_stage": False}, [1, 3, 64, 39]),
        ({"hidden_act": "relu", "num_channels": 4, "sr_ratios": [1, 1], "mlp_ratios": [1.5] * 2}, [1, 4, 33, 31]),
        ({"strides": [3, 1], "patch_sizes": [4, 5], "layer_norm_eps": 0.1}, [1, 3, 41, 40]),
    ],
)
def test_bare_model(settings, shape):
    check("SegformerModel", {**TINY, **settings}, {"pixel_values": {"shape": shape}}, pictures=MAPS)


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({"num_labels": 3}, {"labels": [2, 0]}),
        ({"num_labels": 3, "reshape_last_stage": False}, {"labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]}),
    ],
)
def test_classification(settings, labels):
    check("SegformerForImageClassification", {**TINY, **settings}, PICTURES, labels, pictures=MAPS)


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({"num_labels": 5, **FOUR}, SEGMENTS),
        ({"num_labels": 6, "semantic_loss_ignore_index": 2}, {"labels": {"shape": [2, 20, 91], "high": 5}}),
        ({"num_labels": 1, "semantic_loss_ignore_index": 0}, {"labels": {"shape": [2, 45, 70], "high": 2}}),
    ],
)
def test_segmentation(settings, labels):
    check("SegformerForSemanticSegmentation", {**TINY, **settings}, PICTURES, labels, pictures=MAPS)


def test_segmentation_with_a_flat_last_stage():
    settings = {**TINY, "hidden_sizes": [8, 16], "num_labels": 4, "reshape_last_stage": False}
    inputs = {"pixel_values": {"shape": [1, 3, 32, 32]}}  # the reference needs as many places as channels
    labels = {"labels": {"shape": [1, 32, 32], "high": 4}}
    check("SegformerForSemanticSegmentation", settings, inputs, labels, pictures=MAPS)
    model = SegformerForSemanticSegmentation(tiny(reshape_last_stage=False))
    outputs = model(pixels(1, 70, 45), output_hidden_states=True)
    assert outputs.logits.shape == (1, 18, 12, 2) and outputs.hidden_states[-1].shape == (1, 9 * 6, 12)


def test_configuration(tmp_path):
    check_defaults("SegformerConfig")
    old = {"model_type": "segformer", "image_size": 224, "downsampling_rates": [1, 4, 8, 16], "decoder_hidden_size": 64}
    config = SegformerConfig.from_dict(old)
    assert (config.image_size, config.decoder_hidden_size) == (224, 64)
    config.save_pretrained(tmp_path)
    assert SegformerConfig.from_pretrained(tmp_path).downsampling_rates == [1, 4, 8, 16]
    with pytest.raises(ValueError, match=r"depths=\[1, 2\] must have a number for each of the 4 num_encoder_blocks"):
        tiny(num_encoder_blocks=4)
    with pytest.raises(ValueError, match=r"hidden_sizes=\[8, 12\] must be multiples of num_attention_heads"):
        tiny(num_attention_heads=[1, 5])


def test_a_classifier_lends_its_encoder(tmp_path):
    """What one starts from to segment: a checkpoint trained on ImageNet."""
    SegformerForImageClassification(tiny(reshape_last_stage=False)).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"decode_head\.classifier\.weight"):
        model = SegformerForSemanticSegmentation.from_pretrained(tmp_path, num_labels=7)
    pictures = pixels(1, 64, 64)
    expected = SegformerModel.from_pretrained(tmp_path)(pictures)
    compare(flatten(expected), flatten(model.segformer(pictures)), 1e-6)
    assert model(pictures).logits.shape == (1, 16, 16, 7)


def test_paths_are_dropped_more_and_more():
    model = SegformerModel(tiny(num_encoder_blocks=2, depths=[2, 3], drop_path_rate=0.4))
    rates = [block.drop_path.rate for stage in model.encoder.block for block in stage]
    np.testing.assert_allclose(rates, [0.0, 0.1, 0.2, 0.3, 0.4])
    pictures = pixels(1, 64, 64)
    plain, trained = (
        keras.ops.convert_to_numpy(model(pictures, training=training).last_hidden_state) for training in (False, True)
    )
    np.testing.assert_allclose(plain, model.infer(pictures).last_hidden_state, atol=1e-5)
    differences = [
        np.abs(keras.ops.convert_to_numpy(model(pictures, training=True).last_hidden_state) - trained).max()
        for _ in range(8)
    ]
    assert max(differences) > 1e-3


@pytest.mark.parametrize("kind", [SegformerForSemanticSegmentation, SegformerForImageClassification])
def test_pictures_of_any_size(kind):
    model = kind(tiny())
    for height, width in ((64, 64), (37, 52), (81, 33)):
        pictures = pixels(2, height, width)
        compare(flatten(model(pictures)), flatten(model.infer(pictures)), 1e-5)


def test_quantized_projections_compute_nearly_the_same():
    model = SegformerForSemanticSegmentation(tiny())
    pictures = pixels(1, 64, 64)
    expected = model.infer(pictures).logits
    for linear in model.decode_head.linear_c:
        linear["proj"].quantize("int8")
    found = model.infer(pictures).logits
    assert 0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("labels", ["integers", "probabilities"])
def test_training(labels):
    keras.utils.set_random_seed(0)
    model = SegformerForSemanticSegmentation(tiny(num_labels=1 if labels == "probabilities" else 3))
    pictures = np.zeros((4, 64, 48, 3), "float32")
    pictures[:, :32] = 1.0
    classes = np.full((4, 64, 48), 2)
    classes[:, :32], classes[:, :4] = 0, 255
    if labels == "probabilities":
        classes = np.where(classes == 255, 255.0, classes / 2)
    model.compile(keras.optimizers.Adam(1e-2), weighted_metrics=["accuracy"])
    history = model.fit(pictures, classes, epochs=20, verbose=0).history
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    if labels == "integers":
        within = model.fit({"pixel_values": pictures, "labels": classes}, verbose=0).history
        assert within["loss"][0] < history["loss"][0] and within["accuracy"][0] > 0.8
        evaluated = model.evaluate(pictures, classes, verbose=0, return_dict=True)
        logits = keras.ops.image.resize(model.predict(pictures, verbose=0).logits, (64, 48))
        found = keras.ops.convert_to_numpy(keras.ops.argmax(logits, axis=-1))
        counted = classes != 255
        assert evaluated["accuracy"] == pytest.approx((found == classes)[counted].mean(), abs=0.01)
        np.testing.assert_allclose(float(model(pictures, labels=classes).loss), evaluated["loss"], atol=1e-4)


def test_a_loss_given_to_compile_sees_logits_by_pixel():
    model = SegformerForSemanticSegmentation(tiny(num_labels=3))
    pictures, classes = pixels(2, 64, 64), np.random.default_rng(0).integers(0, 4, (2, 64, 64))
    classes[classes == 3] = 255
    own = float(model(pictures, labels=classes).loss)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    model.compile("sgd", loss)
    np.testing.assert_allclose(model.evaluate(pictures, classes, verbose=0), own, atol=1e-4)


@pytest.mark.parametrize("wrong", [3, -100, 256])
def test_wrong_classes_are_refused(wrong):
    model = SegformerForSemanticSegmentation(tiny(num_labels=3))
    pictures, classes = pixels(2, 32, 32), np.zeros((2, 32, 32), int)
    classes[1, 5, 5] = wrong
    model.compile("sgd")
    message = f"Label {wrong} is out of range: the model has 3 classes, 0 to 2"
    with pytest.raises(ValueError, match=message):
        model(pictures, labels=classes)
    with pytest.raises(ValueError, match=message):
        model.fit(pictures, classes)
    with pytest.raises(ValueError, match=message):
        model.fit({"pixel_values": pictures, "labels": classes})


def test_labels_of_another_shape_are_refused():
    model = SegformerForSemanticSegmentation(tiny(num_labels=3))
    pictures = pixels(2, 32, 32)
    with pytest.raises(ValueError, match=r"labels has the shape \(2, 32\), but must be \(batch, height, width\)"):
        model(pictures, labels=np.zeros((2, 32), int))


def test_wrong_pictures_are_refused():
    model = SegformerModel(tiny())
    with pytest.raises(ValueError, match="of 40 x 12 pixels, of which stage 1 sees 10 x 3 places and takes at least 4"):
        model(pixels(1, 40, 12))
    with pytest.raises(ValueError, match=r"shape \(1, 3, 32, 32\).*channels last; turn it with"):
        model(np.zeros((1, 3, 32, 32)))


def test_auto_classes():
    assert isinstance(AutoModelForSemanticSegmentation.from_config(tiny()), SegformerForSemanticSegmentation)
    assert isinstance(AutoModelForImageClassification.from_config(tiny()), SegformerForImageClassification)
