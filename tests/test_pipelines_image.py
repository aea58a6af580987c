"""Pipelines that take pictures give the reference's results, and take pictures of any kind."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from keras_models import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    PreTrainedModel,
    pipeline,
)
from keras_models.results import PictureResults
from tests import reference
from tests.test_pipelines_tasks import compare

PICTURES = ("wolves.jpg", "bus.jpg", "pineapple.jpg", "coco_000000039769.png")
VIT = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "image_size": 32,
    "patch_size": 8, "id2label": {"0": "cat", "1": "dog", "2": "cow", "3": "pig", "4": "hen", "5": "bee"},
}  # fmt: skip
DETR = {
    "use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None, "d_model": 64, "encoder_layers": 1,
    "decoder_layers": 2, "encoder_attention_heads": 8, "decoder_attention_heads": 8, "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40, "num_queries": 12, "id2label": {"0": "cat", "1": "remote", "2": "sofa"},
    "backbone_config": {
        "embedding_size": 8, "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1], "layer_type": "basic",
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
}  # fmt: skip
SEGFORMER = {
    "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 4],
    "decoder_hidden_size": 16, "id2label": {str(index): f"thing {index}" for index in range(9)},
}  # fmt: skip
SMALL = {"size": {"height": 32, "width": 32}}
DETECTING = {"size": {"shortest_edge": 90, "longest_edge": 130}}
CASES = {
    "classes": (
        "image-classification", "ViTForImageClassification", VIT, "ViTImageProcessor", SMALL,
        [[0, {}], [[1, 2], {"top_k": 2}], [3, {"function_to_apply": "sigmoid", "top_k": 9}],
         [3, {"function_to_apply": "none"}]],
    ),
    "multi-label": (
        "image-classification", "ViTForImageClassification", {**VIT, "problem_type": "multi_label_classification"},
        "ViTImageProcessor", SMALL, [[0, {}]],
    ),
    "features": (
        "image-feature-extraction", "ViTModel", VIT, "ViTImageProcessor", SMALL, [[0, {}], [[1, 2], {"pool": True}]],
    ),
    "boxes": (
        "object-detection", "DetrForObjectDetection", DETR, "DetrImageProcessor", DETECTING,
        [[0, {"threshold": 0.2}], [[3, 1], {"threshold": 0.3}], [2, {"threshold": 1.0}]],
    ),
    "panoptic": (
        "image-segmentation", "DetrForSegmentation", DETR, "DetrImageProcessor", DETECTING,
        [[0, {"threshold": 0.2}], [1, {"threshold": 0.1, "subtask": "panoptic", "mask_threshold": 0.4}],
         [2, {"threshold": 0.1, "overlap_mask_area_threshold": 0.1}], [3, {"threshold": 1.0}]],
    ),
    "instances": (
        "image-segmentation", "DetrForSegmentation", DETR, "DetrImageProcessor", DETECTING,
        [[0, {"threshold": 0.2, "subtask": "instance"}], [1, {"subtask": "semantic"}]],
    ),
    "semantic": (
        "image-segmentation", "SegformerForSemanticSegmentation", SEGFORMER, "SegformerImageProcessor",
        {"size": {"height": 64, "width": 96}}, [[0, {}], [[1, 3], {"subtask": "semantic"}]],
    ),
}  # fmt: skip


def paths(shared):
    return [str(shared / "data" / "images" / name) for name in PICTURES]


def made(shared, case):
    """A folder with a model, and the reference's results for it."""
    task, architecture, config, processor, settings, cases = CASES[case]
    return reference.make(
        "pipelines_image.run", task=task, architecture=architecture, config=config, processor=processor,
        settings=settings, pictures=paths(shared), cases=cases,
    )  # fmt: skip


@pytest.fixture(scope="module")
def classify(shared):
    return pipeline("image-classification", made(shared, "classes"))


@pytest.fixture
def forwards(monkeypatch):
    """The sizes of the batches that went through a model."""
    sizes = []
    infer = PreTrainedModel.infer

    def counting(model, **inputs):
        sizes.append(len(inputs["pixel_values"]))
        return infer(model, **inputs)

    monkeypatch.setattr(PreTrainedModel, "infer", counting)
    return sizes


@pytest.mark.parametrize("case", CASES)
def test_results(shared, case):
    folder, cases = made(shared, case), CASES[case][-1]
    expected = json.loads((folder / "results.json").read_text())
    pipe = pipeline(CASES[case][0], folder)
    sources = paths(shared)
    for (chosen, options), results in zip(cases, expected, strict=True):
        found = pipe(sources[chosen] if isinstance(chosen, int) else [sources[each] for each in chosen], **options)
        compare_pictures(found, results, f"{case}, pictures {chosen}, {options}")


def compare_pictures(found, expected, where):
    """Compares results whose masks may differ at a few pixels, where two numbers are equal but for rounding."""
    if isinstance(expected, list) and expected and isinstance(expected[0], dict) and "mask" in expected[0]:
        assert len(found) == len(expected), where
        for one, other in zip(found, expected, strict=True):
            mask = other.pop("mask")
            pixels = np.asarray(one["mask"]).ravel()
            assert one["mask"].mode == "L" and one["mask"].size == tuple(mask["size"])
            flips = np.zeros(pixels.size + 1, "int64")
            flips[mask["ends"]] = 1
            wanted = np.where(np.cumsum(flips)[:-1] % 2, 255 - mask["first"], mask["first"])
            assert np.mean(pixels != wanted) < 1e-4, where
        compare([{name: each[name] for name in each if name != "mask"} for each in found], expected, 1e-4, where)
    elif isinstance(expected, list) and expected and isinstance(expected[0], list) and isinstance(found[0], list):
        assert len(found) == len(expected), where
        for one, other in zip(found, expected, strict=True):
            compare_pictures(one, other, where)
    else:
        compare(list(found), expected, 1e-4, where)


def test_pictures_of_any_kind(classify, shared):
    path = shared / "data" / "images" / PICTURES[0]
    picture = Image.open(path)
    array = np.asarray(picture)
    expected = list(classify(str(path)))
    for source in (path, path.read_bytes(), picture, array, np.moveaxis(array, -1, 0)):
        assert classify(source) == expected, type(source)
    assert classify([str(path), picture]) == list(classify(np.stack([array, array]))) == [expected, expected]
    streamed = classify(each for each in [path, array])
    assert iter(streamed) is streamed and list(streamed) == [expected, expected]
    assert classify([]) == []


def test_batches_hold_pictures_of_one_size(shared, forwards):
    detect = pipeline("object-detection", made(shared, "boxes"), threshold=0.2)
    sources = [path for path in paths(shared)[:2] for _ in range(3)]
    expected = [detect(source) for source in sources]
    forwards.clear()
    found = detect(sources, batch_size=6)
    assert sorted(forwards) == [3, 3]
    compare_pictures(found, [list(each) for each in expected], "in batches")


def test_results_show_themselves(classify, shared, tmp_path):
    results = classify(paths(shared)[0])
    assert isinstance(results, PictureResults) and json.loads(json.dumps(results)) == results
    assert Image.open(io.BytesIO(results._repr_png_())).height <= 1600
    results.save(tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").size == results.draw().size


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (None, TypeError, "inputs must be a picture: a path, an address.* not NoneType"),
        ({"image": 1}, TypeError, "not dict"),
        ("no/such/file.png", FileNotFoundError, "no/such/file.png"),
        (b"nothing that is a picture", ValueError, "picture"),
        (np.zeros((0, 4, 3), "uint8"), ValueError, "no pixels"),
        (np.zeros((5, 6, 7), "uint8"), ValueError, r"shape \(5, 6, 7\)"),
    ],
)
def test_bad_pictures_are_told_in_a_sentence(classify, source, error, message):
    with pytest.raises(error, match=message):
        classify(source)


def test_bad_options(classify, shared):
    with pytest.raises(ValueError, match="top_k must be a positive integer, not 0"):
        classify(paths(shared)[0], top_k=0)
    with pytest.raises(ValueError, match="function_to_apply='max' is unknown"):
        classify(paths(shared)[0], function_to_apply="max")
    with pytest.raises(ValueError, match="subtask='semantics' is unknown.*Did you mean 'semantic'"):
        pipeline("image-segmentation", made(shared, "semantic"), subtask="semantics")
    with pytest.raises(ValueError, match="cannot do object-detection"):
        pipeline("object-detection", classify.model, image_processor=classify.image_processor)
    with pytest.raises(TypeError, match="does not tell its image processor: pass image_processor="):
        pipeline("image-classification", classify.model)
    with pytest.raises(ValueError, match="has no pooled output"):
        features = pipeline("image-feature-extraction", classify.model, image_processor=classify.image_processor)
        features(paths(shared)[0], pool=True)


def test_models_tell_their_tasks(shared, tmp_path):
    for case, (task, *_) in CASES.items():
        assert pipeline(model=made(shared, case)).task == task
    classify = pipeline("image-classification", made(shared, "classes"))
    classify.save_pretrained(tmp_path)
    again = pipeline(model=tmp_path)
    assert again(paths(shared)[0]) == classify(paths(shared)[0])
    parts = {"image_processor": AutoImageProcessor.from_pretrained(tmp_path)}
    model = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert pipeline("image-classification", model, **parts)(paths(shared)[0]) == again(paths(shared)[0])
    assert pipeline("image-classification", model, feature_extractor=str(tmp_path))(paths(shared)[0])
    assert "image_processor=ViTImageProcessor" in repr(again)


def test_the_class_that_fits_the_checkpoint_is_loaded(shared):
    for case, kind in (("panoptic", "DetrForSegmentation"), ("semantic", "SegformerForSemanticSegmentation")):
        assert type(pipeline("image-segmentation", made(shared, case)).model).__name__ == kind
    assert type(pipeline("image-feature-extraction", made(shared, "features")).model).__name__ == "ViTModel"


def test_features_as_tensors(shared):
    extract = pipeline("image-feature-extraction", made(shared, "features"))
    found = extract(paths(shared)[0], return_tensors="np")
    assert found.shape == (1, 17, 24) and found.tolist() == extract(paths(shared)[0])
    larger = {"image_processor_kwargs": {"do_resize": False}}
    with pytest.raises(ValueError, match="pixels and the model takes 32 x 32"):
        extract(paths(shared)[0], **larger)


def test_a_real_classifier_names_what_it_sees(shared):
    folder = shared / "checkpoints" / "vit-tiny-patch16-224"
    classify = pipeline("image-classification", folder)
    found = classify(paths(shared), batch_size=2)
    expected = reference.call("pipelines_image.classify", source=str(folder), pictures=paths(shared))
    for one, other in zip(found, expected, strict=True):
        compare(list(one), other, 1e-4, "a real picture")
    assert [each[0]["label"] for each in found] == ["white wolf", "minibus", "pineapple", "tabby"]


def test_a_damaged_settings_file_is_told(shared, tmp_path):
    shutil.copytree(made(shared, "classes"), tmp_path / "broken")
    (tmp_path / "broken" / "preprocessor_config.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        pipeline("image-classification", tmp_path / "broken")
