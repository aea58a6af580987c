"""DETR against the reference: every head, both kinds of backbones, the set loss, training, and pictures of any size."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from keras_models import (
    CocoDetection,
    DetrConfig,
    DetrForObjectDetection,
    DetrForSegmentation,
    DetrImageProcessor,
    DetrModel,
)
from keras_models.losses_detection import pack_targets
from tests import reference
from tests.parity import check, check_defaults, check_old_names, compare, flatten, load

BACKBONE = {
    "model_type": "resnet", "embedding_size": 8, "hidden_sizes": [12, 16, 20, 24], "depths": [1, 1, 1, 1],
    "layer_type": "basic", "out_features": ["stage1", "stage2", "stage3", "stage4"],
}  # fmt: skip
TINY = {
    "use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None, "backbone_config": BACKBONE,
    "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 8,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 40, "decoder_ffn_dim": 36, "num_queries": 7, "num_labels": 3,
}  # fmt: skip
PICTURES = {"pixel_values": {"shape": [2, 3, 70, 101]}}
MASK = [[[1] * 101] * 70, [[1] * 65 + [0] * 36] * 50 + [[0] * 101] * 20]
BOXES = [[[0.5, 0.5, 0.4, 0.6], [0.3, 0.6, 0.2, 0.1]], [[0.25, 0.5, 0.5, 1.0]]]
LABELS = [{"class_labels": [2, 0], "boxes": BOXES[0]}, {"class_labels": [1], "boxes": BOXES[1]}]
NOTHING = [LABELS[0], {"class_labels": {"shape": [0], "high": 3}, "boxes": {"shape": [0, 4]}}]
MASKS = [{**each, "masks": {"shape": [len(each["boxes"]), 70, 101], "high": 2}} for each in LABELS]
TOLERANCE = 1e-3  # features of the random backbone reach 50, scores of its attention hundreds


def test_bare_model():
    check("DetrModel", TINY, PICTURES, tolerance=TOLERANCE)


@pytest.mark.parametrize(
    "settings",
    [
        {"position_embedding_type": "learned", "auxiliary_loss": True},
        {"activation_function": "gelu", "decoder_layers": 3, "encoder_layers": 1},
        {"backbone_config": {**BACKBONE, "layer_type": "bottleneck", "out_features": ["stage4"]}},
    ],
)
def test_settings(settings):
    check("DetrModel", {**TINY, **settings}, {**PICTURES, "pixel_mask": MASK}, tolerance=TOLERANCE)


@pytest.mark.parametrize("settings", [{}, {"auxiliary_loss": True, "decoder_layers": 3}])
def test_detection(settings):
    losses = [{"labels": LABELS}, {"labels": NOTHING}]
    extra = ("intermediate_hidden_states",)
    inputs = {**PICTURES, "pixel_mask": MASK}
    check("DetrForObjectDetection", {**TINY, **settings}, inputs, losses, TOLERANCE, extra=extra)


def test_costs_and_weights_of_the_loss():
    settings = {
        "class_cost": 3, "bbox_cost": 1, "giou_cost": 4, "bbox_loss_coefficient": 2, "giou_loss_coefficient": 3,
        "mask_loss_coefficient": 4, "dice_loss_coefficient": 0.5, "eos_coefficient": 0.4,
    }  # fmt: skip
    check("DetrForSegmentation", {**TINY, **settings}, PICTURES, {"labels": MASKS}, TOLERANCE)


@pytest.mark.parametrize(
    ("inputs", "settings"), [(PICTURES, {}), ({**PICTURES, "pixel_mask": MASK}, {"auxiliary_loss": True})]
)
def test_segmentation(inputs, settings):
    extra = ("intermediate_hidden_states",)
    check("DetrForSegmentation", {**TINY, **settings}, inputs, {"labels": MASKS}, TOLERANCE, extra=extra)


def test_a_backbone_of_timm():
    settings = {**TINY, "use_timm_backbone": True, "backbone": "resnet18", "backbone_config": None}
    inputs = {"pixel_values": {"shape": [1, 3, 65, 97]}}
    check("DetrForObjectDetection", settings, inputs, {"labels": LABELS[:1]}, TOLERANCE, module="timm_")


def test_a_dilated_backbone_of_timm_with_bottlenecks():
    settings = {
        **TINY, "use_timm_backbone": True, "backbone": "resnet50", "backbone_config": None, "dilation": True,
        "backbone_kwargs": {"output_stride": 8, "out_indices": [1, 2, 3, 4], "in_chans": 3},
    }  # fmt: skip
    check("DetrModel", settings, {"pixel_values": {"shape": [1, 3, 65, 97]}}, tolerance=TOLERANCE, module="timm_")


def test_configuration():
    check_defaults("DetrConfig")
    assert DetrConfig.from_dict({"model_type": "detr", "dilation": None, "backbone": "resnet101"}).dilation is None
    assert "dilation" not in DetrConfig(**TINY).to_dict()


def test_old_files(tmp_path):
    """They count the batches that batch normalizations have seen."""
    folder = reference.make(
        "models.checkpoint", architecture="DetrModel", config=TINY, inputs=PICTURES, labels=None, save={}
    )

    def older(tensors):
        counts = {key.replace("running_mean", "num_batches_tracked"): np.array(3) for key in tensors if "_mean" in key}
        return {f"model.{key}": value for key, value in {**tensors, **counts}.items()}

    assert check_old_names("DetrModel", folder, tmp_path / "old", older) == []


def test_encoder_outputs_spare_the_encoder():
    model = DetrForObjectDetection(DetrConfig(**TINY))
    pixels = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    expected = model(pixels)
    states = {"last_hidden_state": expected.encoder_last_hidden_state}
    found = model(pixels, encoder_outputs=states)
    compare({"boxes": flatten(expected)["pred_boxes"]}, {"boxes": flatten(found)["pred_boxes"]}, 1e-6)
    np.testing.assert_allclose(
        model.infer(pixels, encoder_outputs=states).pred_boxes, flatten(expected)["pred_boxes"], atol=1e-5
    )


@pytest.mark.parametrize(
    ("kind", "is_strided"),
    [(DetrForObjectDetection, False), (DetrForObjectDetection, True), (DetrForSegmentation, False)],
)
def test_pictures_of_any_size(kind, is_strided, monkeypatch):
    """Results are those of the picture alone, however many programs there are for so many sizes."""
    config = {**TINY, "backbone_config": {**BACKBONE, "downsample_in_first_stage": is_strided}}
    folder = reference.make(
        "models.checkpoint", architecture=kind.__name__, config=config, inputs=PICTURES, labels=None, save={}
    )
    model = load(kind.__name__, folder)
    traces = []
    run = DetrModel.read
    sizes = [(96, 128), (90, 121), (67, 128), (130, 97), (191, 170)]
    pictures = [np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32") for size in sizes]
    expected = [flatten(model(each)) for each in pictures]
    monkeypatch.setattr(DetrModel, "read", lambda *args, **kwargs: traces.append(1) or run(*args, **kwargs))
    for pixels, outputs in zip(pictures, expected, strict=True):
        compare(outputs, flatten(model.infer(pixels)), TOLERANCE)
    if keras.config.backend() != "torch":
        assert len(traces) <= 4


def squares(count, size=64):
    """Pictures with one or two coloured squares on grey, and their annotations in COCO's format."""
    random, pictures, annotations = np.random.default_rng(0), [], []
    for number in range(count):
        picture, objects = np.full((size, size, 3), 128, "uint8"), []
        for side in range(number % 2 + 1):
            kind, left, top = int(random.integers(2)), 4 + 30 * side, int(random.integers(4, 34))
            picture[top : top + 24, left : left + 24] = ((250, 20, 20), (20, 20, 250))[kind]
            box = [left, top, 24, 24]
            objects.append(
                {"bbox": box, "category_id": kind, "area": 576, "iscrowd": 0, "image_id": number, "id": side}
            )
        pictures.append(picture)
        annotations.append({"image_id": number, "annotations": objects})
    return pictures, annotations


def test_fit_lowers_the_loss():
    keras.utils.set_random_seed(0)
    pictures, annotations = squares(8)
    processor = DetrImageProcessor(size={"height": 64, "width": 64})
    inputs = processor(pictures, annotations=annotations)
    model = DetrForObjectDetection(DetrConfig(**{**TINY, "num_labels": 2, "dropout": 0.0}))
    model.compile(keras.optimizers.Adam(2e-3))
    history = model.fit(inputs, epochs=25, batch_size=4, verbose=0).history["loss"]
    assert np.isfinite(history).all() and history[-1] < 0.7 * history[0]
    labels = inputs.pop("labels")
    in_y = model.evaluate(inputs, labels, batch_size=8, verbose=0)
    np.testing.assert_allclose(in_y, float(flatten(model(**inputs, labels=labels))["loss"]), rtol=1e-4)


def test_a_file_of_annotations_is_learnt(tmp_path):
    pictures, annotations = squares(6)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    content = {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in range(6)],
        "annotations": [each for picture in annotations for each in picture["annotations"]],
        "categories": [{"id": 0, "name": "red"}, {"id": 1, "name": "blue"}],
    }
    (tmp_path / "all.json").write_text(json.dumps(content))
    data = CocoDetection(tmp_path, tmp_path / "all.json", DetrImageProcessor(size={"height": 64, "width": 64}), 2)
    assert data.id2label == {0: "red", 1: "blue"}
    model = DetrForObjectDetection(DetrConfig(**{**TINY, "num_labels": 2}, id2label=data.id2label))
    model.compile("adam")
    assert np.isfinite(model.fit(data, epochs=2, verbose=0).history["loss"]).all()


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([{"class_labels": [3], "boxes": [[0.5, 0.5, 0.1, 0.1]]}], ValueError, "class 3, and the model has 3 classes"),
        ([{"class_labels": [1], "boxes": [[50, 50, 10, 10]]}], ValueError, "in shares of the picture, 0 to 1"),
        ([{"class_labels": [1], "boxes": [[np.nan] * 4]}], ValueError, "in shares of the picture"),
        ([{"class_labels": [1, 2], "boxes": [[0.5, 0.5, 0.1, 0.1]]}], ValueError, "2 class_labels and 1 boxes"),
        ([{"boxes": [[0.5, 0.5, 0.1, 0.1]]}], ValueError, r"labels\[0\] has no class_labels; it has boxes"),
        ([1, 2], TypeError, "a dictionary of class_labels and boxes for each picture"),
        (LABELS, ValueError, "labels for 2 pictures, and 1 pictures"),
        (LABELS[0], ValueError, "a dictionary for one picture: give a list"),
    ],
)
def test_labels_that_do_not_fit_are_told(labels, error, message):
    with pytest.raises(error, match=message):
        DetrForObjectDetection(DetrConfig(**TINY))(np.zeros((1, 64, 64, 3)), labels=labels)


def test_settings_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="Unknown backbone 'resnet51': there is resnet18"):
        DetrModel(DetrConfig(backbone="resnet51"))
    with pytest.raises(ValueError, match="Unknown position_embedding_type 'rotary': use sine or learned"):
        DetrConfig(position_embedding_type="rotary")
    with pytest.raises(ValueError, match="needs four feature maps"):
        DetrForSegmentation(DetrConfig(**{**TINY, "backbone_config": {**BACKBONE, "out_features": ["stage4"]}}))
    with pytest.raises(ValueError, match="is 66, which must be a multiple of 8"):
        DetrForSegmentation(DetrConfig(**{**TINY, "encoder_attention_heads": 2}))
    with pytest.raises(ValueError, match="Segmentation learns from masks"):
        DetrForSegmentation(DetrConfig(**TINY))(np.zeros((1, 64, 64, 3)), labels=LABELS[1:])
    with pytest.raises(ValueError, match=r"pixel_mask has the shape \(64, 64\), but must have .* \(1, 64, 64\)"):
        DetrModel(DetrConfig(**TINY))(np.zeros((64, 64, 3)), pixel_mask=np.ones((64, 64)))
    with pytest.raises(ValueError, match="is 1 x 51, and there are learned positions for 50 x 50"):
        DetrModel(DetrConfig(**TINY, position_embedding_type="learned"))(np.zeros((1, 32, 1632, 3)))
    with pytest.raises(ValueError, match="DetrModel needs pixel_values; it was given pixel_mask"):
        DetrModel(DetrConfig(**TINY))(pixel_mask=np.ones((1, 64, 64)))
    with pytest.raises(ValueError, match="A picture has 2 objects, and there is room for 1"):
        pack_targets(LABELS, 3, slots=1)
