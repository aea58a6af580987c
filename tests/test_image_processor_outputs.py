"""Outputs of models as boxes, maps and segments, and the resizing they need, as the reference has them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from keras_models.outputs import ModelOutput
from keras_models.preprocessing.image import DetrImageProcessor, DPTImageProcessor, SegformerImageProcessor
from keras_models.preprocessing.image_steps import interpolate
from tests import reference
from tests.reference import image_processors as probe

SIZES = [[37, 61], [20, 15]]
BOXES = {
    "logits": ["draws", {"shape": [2, 30, 8], "scale": 3.0}],
    "pred_boxes": ["draws", {"shape": [2, 30, 4], "seed": 1}],
}
SEGMENTS = {
    "logits": ["draws", {"shape": [2, 12, 6], "scale": 3.0, "seed": 2}],
    "pred_masks": ["masks", {"batch": 2, "queries": 12, "size": [24, 33]}],
}
NOTHING = SEGMENTS | {"logits": ["draws", {"shape": [2, 12, 6], "scale": 0.01}]}
PIXELS = {"logits": ["draws", {"shape": [2, 7, 12, 16]}]}
DEPTHS = {"predicted_depth": ["draws", {"shape": [2, 12, 16]}]}
PANOPTIC, INSTANCE = "post_process_panoptic_segmentation", "post_process_instance_segmentation"
SEMANTIC, DETECTION = "post_process_semantic_segmentation", "post_process_object_detection"

# (processor, method, outputs, options)
CASES = {
    "boxes": ("Detr", DETECTION, BOXES, {}),
    "boxes in pixels": ("Detr", DETECTION, BOXES, {"target_sizes": SIZES, "threshold": 0.2}),
    "all boxes": ("Detr", DETECTION, BOXES, {"threshold": 0.0}),
    "no boxes": ("Detr", DETECTION, BOXES, {"threshold": 1.0}),
    "classes of queries": ("Detr", SEMANTIC, SEGMENTS, {}),
    "classes of queries, resized": ("Detr", SEMANTIC, SEGMENTS, {"target_sizes": SIZES}),
    "classes": ("Segformer", SEMANTIC, PIXELS, {}),
    "classes, resized": ("Segformer", SEMANTIC, PIXELS, {"target_sizes": SIZES}),
    "classes of DPT": ("DPT", SEMANTIC, PIXELS, {"target_sizes": [[5, 6], [30, 40]]}),
    "depths": ("DPT", "post_process_depth_estimation", DEPTHS, {}),
    "depths, resized": ("DPT", "post_process_depth_estimation", DEPTHS, {"target_sizes": SIZES}),
    "instances": ("Detr", INSTANCE, SEGMENTS, {}),
    "instances, resized": ("Detr", INSTANCE, SEGMENTS, {"target_sizes": SIZES, "threshold": 0.3}),
    "instances, overlapping": ("Detr", INSTANCE, SEGMENTS, {"overlap_mask_area_threshold": 0.1, "mask_threshold": 0.3}),
    "instances as runs": ("Detr", INSTANCE, SEGMENTS, {"return_coco_annotation": True, "target_sizes": SIZES}),
    "no instances as runs": ("Detr", INSTANCE, NOTHING, {"return_coco_annotation": True}),
    "panoptic": ("Detr", PANOPTIC, SEGMENTS, {"overlap_mask_area_threshold": 0.0}),
    "panoptic, resized": ("Detr", PANOPTIC, SEGMENTS, {"target_sizes": SIZES}),
    "panoptic, fused": ("Detr", PANOPTIC, SEGMENTS, {
        "label_ids_to_fuse": [0, 1, 2, 3, 4], "threshold": 0.2, "overlap_mask_area_threshold": 0.1,
        "target_sizes": SIZES,
    }),
    "panoptic, some fused": ("Detr", PANOPTIC, SEGMENTS, {
        "label_ids_to_fuse": [1, 3], "threshold": 0.1, "mask_threshold": 0.1, "overlap_mask_area_threshold": 0.1,
    }),
    "panoptic, nothing": ("Detr", PANOPTIC, NOTHING, {"target_sizes": SIZES}),
}  # fmt: skip


def tensors(outputs):
    """The outputs that the reference got, with classes last."""
    arrays = {name: getattr(probe, kind)(**arguments) for name, (kind, arguments) in outputs.items()}
    if arrays.get("logits", np.zeros(0)).ndim == 4:
        arrays["logits"] = arrays["logits"].transpose(0, 2, 3, 1)
    return arrays


def post_process(name, method, outputs, options):
    kinds = {"Detr": DetrImageProcessor, "DPT": DPTImageProcessor, "Segformer": SegformerImageProcessor}
    return getattr(kinds[name](), method)(outputs, **options)


@pytest.mark.parametrize("case", CASES)
def test_results_are_those_of_the_reference(case):
    name, method, outputs, options = CASES[case]
    arguments = {"name": f"{name}ImageProcessor", "method": method, "outputs": outputs, "options": options}
    folder = reference.make("image_processors.post_processed", **arguments)
    results = post_process(name, method, tensors(outputs), options)
    expected = json.loads((folder / "results.json").read_text())
    assert len(results) == len(expected)
    for number, (result, plain) in enumerate(zip(results, expected, strict=True)):
        result = result if isinstance(result, dict) else {"map": result}
        arrays = {path.stem.partition("-")[2]: np.load(path) for path in folder.glob(f"{number}-*.npy")}
        assert set(result) == set(arrays) | set(plain)
        for key, array in arrays.items():
            assert result[key].shape == array.shape and result[key].dtype.kind in (array.dtype.kind, "i")
            if key in ("map", "segmentation", "labels"):
                # Where two classes are even in a pixel, rounding decides.
                assert np.sum(result[key] != array) <= (0 if key == "labels" else 2e-3 * array.size), key
            else:
                np.testing.assert_allclose(result[key], array, rtol=1e-5, atol=1e-5, err_msg=key)
        assert [*map(rounded, result.get("segments_info", []))] == [*map(rounded, plain.get("segments_info", []))]
        if "segmentation" in plain:
            assert result["segmentation"] == plain["segmentation"]
    if "panoptic" in case and "nothing" not in case:
        assert sum(len(result["segments_info"]) for result in results) > 3


def rounded(segment):
    return segment | {"score": round(segment["score"], 5)}


@pytest.mark.parametrize("kind", ["tensors", "attributes", "ModelOutput"])
def test_outputs_of_any_kind(kind):
    import keras

    arrays = tensors(SEGMENTS)
    expected = post_process("Detr", PANOPTIC, arrays, {"target_sizes": SIZES})
    values = {name: keras.ops.convert_to_tensor(array) for name, array in arrays.items()}
    outputs = {"tensors": values, "attributes": SimpleNamespace(**values), "ModelOutput": ModelOutput(values)}[kind]
    results = post_process("Detr", PANOPTIC, outputs, {"target_sizes": keras.ops.convert_to_tensor(SIZES)})
    for result, other in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result["segmentation"], other["segmentation"])
        assert result["segments_info"] == other["segments_info"]
    half = {name: keras.ops.cast(value, "bfloat16") for name, value in values.items()}
    assert post_process("Detr", SEMANTIC, half, {})[0].shape == (24, 33)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [[37, 61], [24, 33], [5, 7], [1, 100], [480, 9]])
def test_interpolation_is_that_of_pytorch(mode, size):
    shape = [2, 3, 24, 33]
    folder = reference.make("image_processors.interpolated", shape=shape, size=size, mode=mode)
    expected, values = np.load(folder / "values.npy"), probe.draws(shape)
    np.testing.assert_allclose(interpolate(values, size, mode), expected, atol=1e-5)
    last = interpolate(values.transpose(0, 2, 3, 1), size, mode, axes=(1, 2))
    np.testing.assert_allclose(last.transpose(0, 3, 1, 2), expected, atol=1e-5)


BAD = {
    "no such output": ("Segformer", SEMANTIC, {"last_hidden_state": np.zeros((1, 2, 3))}, {}, "no 'logits'"),
    "no attribute": ("Segformer", SEMANTIC, SimpleNamespace(), {}, "no 'logits'"),
    "axes": ("Segformer", SEMANTIC, {"logits": np.zeros((2, 3, 4))}, {}, "4 axes"),
    "count": ("Segformer", SEMANTIC, {"logits": np.zeros((2, 3, 4, 5))}, {"target_sizes": [(3, 4)]}, "1 target_sizes"),
    "one size": ("Segformer", SEMANTIC, {"logits": np.zeros((2, 3, 4, 5))}, {"target_sizes": (3, 4)}, r"\(height"),
    "no size": ("Segformer", SEMANTIC, {"logits": np.zeros((1, 3, 4, 5))}, {"target_sizes": [(0, 4)]}, r"\(0, 4\)"),
    "no boxes": ("Detr", DETECTION, {"logits": np.zeros((2, 3, 4))}, {}, "pred_boxes"),
    "no masks": ("Detr", PANOPTIC, {"logits": np.zeros((2, 3, 4))}, {}, "pred_masks"),
    "box sizes": ("Detr", DETECTION, {"logits": np.zeros((2, 3, 4)), "pred_boxes": np.zeros((2, 3, 4))},
                  {"target_sizes": [(3, 4)] * 3}, "3 target_sizes for 2"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said(case):
    name, method, outputs, options, words = BAD[case]
    with pytest.raises(ValueError, match=words):
        post_process(name, method, outputs, options)
