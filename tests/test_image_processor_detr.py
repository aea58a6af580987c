"""DETR's annotations: targets as the reference makes them, masks pixel by pixel, and what does not fit."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_models.preprocessing.image import DetrImageProcessor
from keras_models.preprocessing.image_annotations import draw_segmentation
from tests import reference
from tests.reference import image_processors as probe

WIDE, TALL = {"shape": [37, 61, 3]}, {"shape": [53, 29, 3], "seed": 1}
SIZE = {"size": {"shortest_edge": 40, "longest_edge": 55}}


def circle(x, y, radius, points=12):
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=-1).ravel().round(2).tolist()


def thing(bbox, category, **more):
    return {"bbox": bbox, "category_id": category, "area": bbox[2] * bbox[3] / 2, **more}


def things():
    return [
        {
            "image_id": 39769,
            "annotations": [
                thing([3, 4.5, 20, 15.25], 17, iscrowd=0, segmentation=[circle(12, 11, 8), circle(20, 15, 3)]),
                thing([50, 20, 30, 30], 3, segmentation=[circle(58, 30, 9)]),  # reaches beyond the picture
                thing([-5, -3, 15, 12], 5, segmentation=[circle(2, 2, 7.3)]),
                thing([10, 10, 0, 5], 1, segmentation=[circle(10, 10, 2)]),  # has no width
                thing([1, 1, 50, 30], 8, iscrowd=1, segmentation={"counts": [5, 37 * 61 - 5], "size": [37, 61]}),
                thing([0, 0, 9, 9], 2, segmentation={"counts": [40, 8, 29, 8, 37 * 61 - 85], "size": [37, 61]}),
            ],
        },
        {"image_id": 7, "annotations": [thing([4, 6, 20, 40], 90, iscrowd=0, segmentation=[circle(14, 26, 12)])]},
    ]


def panoptic(folder):
    """Annotations of the two pictures, and the PNG files that belong to them."""
    annotations = []
    for number, spec in enumerate((WIDE, TALL)):
        ids = probe.class_map(spec["shape"][:2], seed=number, high=3).astype("int64") * 70001 + 1000
        colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype("uint8")
        Image.fromarray(colors).save(folder / f"{number}.png")
        segments = [
            {"id": 70001 * place + 1000, "category_id": 5 * place + number, "area": 10 + place, "iscrowd": place % 2}
            for place in range(3)
        ]
        annotations.append({"image_id": number, "file_name": f"{number}.png", "segments_info": segments})
    return annotations


def check(outputs, folder):
    for number, label in enumerate(outputs.labels):
        expected = np.load(folder / f"{number}.npz")
        assert set(label) >= set(expected.files)
        for name in label.keys() & set(expected.files):
            assert label[name].shape == expected[name].shape, name
            if name != "masks":
                assert label[name].dtype == expected[name].dtype, name
            np.testing.assert_allclose(label[name], expected[name], rtol=1e-6, atol=1e-6, err_msg=name)
    if "pixel_mask" in outputs:
        np.testing.assert_array_equal(outputs.pixel_mask, np.load(folder / "pixel_mask.npy"))


OPTIONS = {
    "plain": {},
    "not converted": {"do_convert_annotations": False},
    "not resized": {"do_resize": False},
    "pad_size": {"pad_size": {"height": 80, "width": 70}},
    "neither": {"do_resize": False, "do_pad": False, "size": {"height": 30, "width": 40}},
}


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("case", OPTIONS)
def test_detection_targets(case, masks):
    pictures, annotations = [WIDE, TALL], things()
    if case == "neither":
        pictures, annotations = pictures[:1], annotations[:1]
    options = OPTIONS[case] | {"return_segmentation_masks": masks}
    arguments = {"pictures": pictures, "annotations": annotations, "settings": SIZE, "options": options}
    folder = reference.make("image_processors.annotated", **arguments)
    outputs = DetrImageProcessor(**SIZE)([probe.picture(spec) for spec in pictures], annotations, **options)
    check(outputs, folder)
    assert all(("masks" in label) == masks for label in outputs.labels)


def test_real_annotations(shared):
    boxes = [[13.24, 52.05, 304.78, 418.3], [345.4, 23.16, 294.6, 346.56], [40.15, 72.45, 135.6, 45.57]]
    annotation = {"image_id": 39769, "annotations": [
        thing(box, 17, segmentation=[circle(box[0] + box[2] / 2, box[1] + box[3] / 2, min(box[2:]) / 2, 90)])
        for box in boxes
    ]}  # fmt: skip
    pictures, options = ["coco_000000039769.png"], {"return_segmentation_masks": True}
    arguments = {"pictures": pictures, "annotations": [annotation], "settings": {}, "options": options}
    folder = reference.make("image_processors.annotated", **arguments)
    path = shared / "data" / "images" / pictures[0]
    check(DetrImageProcessor()(path, annotation, return_segmentation_masks=True), folder)


@pytest.mark.parametrize("masks", [None, False])
@pytest.mark.parametrize("case", ["plain", "not converted", "not resized"])
def test_panoptic_targets(tmp_path, case, masks):
    annotations = panoptic(tmp_path)
    settings = SIZE | {"format": "coco_panoptic"}
    options = (
        OPTIONS[case] | {"masks_path": str(tmp_path)} | ({} if masks is None else {"return_segmentation_masks": masks})
    )
    arguments = {"pictures": [WIDE, TALL], "annotations": annotations, "settings": settings, "options": options}
    folder = tmp_path / "expected"
    folder.mkdir()
    reference.call("image_processors.annotated", folder=str(folder), **arguments)
    outputs = DetrImageProcessor(**settings)([probe.picture(WIDE), probe.picture(TALL)], annotations, **options)
    check(outputs, folder)
    assert all(("masks" in label) == (masks is None) for label in outputs.labels)


def test_keypoints():
    annotation = {"image_id": 1, "annotations": [
        thing([1, 1, 5, 5], 1, keypoints=[1, 2, 2, 3, 4, 1]), thing([1, 1, 0, 5], 1, keypoints=[0] * 6),
        thing([2, 1, 5, 5], 1, keypoints=[5, 2, 2, 3, 4, 0]),
    ]}  # fmt: skip
    arguments = {"pictures": [WIDE], "annotations": [annotation], "settings": SIZE, "options": {}}
    folder = reference.make("image_processors.annotated", **arguments)
    check(DetrImageProcessor(**SIZE)(probe.picture(WIDE), annotation), folder)


def test_pictures_without_objects(tmp_path):
    processor = DetrImageProcessor(**SIZE)
    empty = {"image_id": 1, "annotations": []}
    label = processor(probe.picture(WIDE), empty, return_segmentation_masks=True).labels[0]
    assert {name: value.shape for name, value in label.items()} == {
        "size": (2,), "image_id": (1,), "class_labels": (0,), "boxes": (0, 4), "area": (0,), "iscrowd": (0,),
        "orig_size": (2,), "masks": (0, 33, 55),
    }  # fmt: skip
    Image.fromarray(np.zeros((37, 61, 3), "uint8")).save(tmp_path / "0.png")
    empty = {"image_id": 1, "file_name": "0.png", "segments_info": []}
    label = processor(probe.picture(WIDE), [empty], masks_path=tmp_path, format="coco_panoptic").labels[0]
    assert label.boxes.shape == (0, 4) and label.masks.shape == (0, 33, 55)


def test_labels_become_tensors():
    import keras

    pictures = [probe.picture(WIDE), probe.picture(TALL)]
    outputs = DetrImageProcessor(**SIZE)(pictures, things(), True, return_tensors="keras")
    plain = DetrImageProcessor(**SIZE)(pictures, things(), True)
    for label, expected in zip(outputs.labels, plain.labels, strict=True):
        for name, value in label.items():
            assert keras.ops.is_tensor(value)
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(value), expected[name])


# Masks.


def polygons():
    """Difficult ones: random, thin, large, beyond the picture, with repeated points, on pixels' borders."""
    random = np.random.default_rng(0)
    fixed = [
        circle(30, 20, 15), circle(0, 0, 9), circle(61, 37, 20, 50), circle(30, 18, 200), circle(5, 5, 0.4, 3),
        [0, 0, 61, 0, 61, 37, 0, 37], [5, 5, 10, 5, 10, 10, 5, 10], [5.5, 5.5, 10.5, 5.5, 10.5, 10.5, 5.5, 10.5],
        [1, 1, 1, 1, 20, 3, 20, 3, 4, 30, 4, 30], [-10, -10, 70, 5, 10, 60], [3, 3, 50, 3, 30, 3],
        [10, 0, 10, 37, 10.2, 37, 10.2, 0], [0, 10, 61, 10, 61, 10.1, 0, 10.1],
    ]  # fmt: skip
    drawn = [random.uniform(-5, 66, 2 * count).round(3).tolist() for count in (3, 3, 4, 5, 6, 8, 13, 30)]
    return [[each] for each in fixed + drawn] + [[drawn[0], drawn[3]], [fixed[0], fixed[6], fixed[6]]]


def test_segmentations_are_drawn_as_coco_does():
    size = [37, 61]
    listed = [{"counts": [0, 5, 37 * 61 - 5], "size": size}, {"counts": [37 * 61], "size": size}]
    folder = reference.make("image_processors.drawn", segmentations=polygons() + listed, size=size)
    expected = np.load(folder / "masks.npz")["masks"]
    texts = json.loads((folder / "compressed.json").read_text())
    assert expected[0].sum() > 100
    for mask, given, text in zip(expected, polygons() + listed, texts, strict=True):
        np.testing.assert_array_equal(draw_segmentation(given, (37, 61)), mask, err_msg=str(given))
        for counts in (text, text.encode()):
            np.testing.assert_array_equal(draw_segmentation({"counts": counts, "size": size}, (37, 61)), mask)


# What does not fit.

ONE = thing([1, 2, 3, 4], 5, segmentation=[circle(5, 5, 3)])
BAD = {
    "count": ([{"image_id": 1, "annotations": []}] * 2, {}, "1 pictures and 2 annotations"),
    "a list": ([[ONE]], {}, "a list: pass a dictionary"),
    "no id": ({"annotations": []}, {}, "lacks 'image_id'"),
    "other format": ({"image_id": 1, "segments_info": []}, {}, "coco_detection"),
    "no list": ({"image_id": 1, "annotations": ONE}, {}, "should be a list"),
    "no dictionary": ({"image_id": 1, "annotations": [[1, 2, 3, 4]]}, {}, "Object 0 .* dictionary"),
    **{f"no {key}": ({"image_id": 1, "annotations": [{k: v for k, v in ONE.items() if k != key}]},
                     {"return_segmentation_masks": True}, f"lacks '{key}'")
       for key in ("bbox", "category_id", "area", "segmentation")},
    **{f"box {box}": ({"image_id": 9, "annotations": [ONE | {"bbox": box}]}, {}, f"picture 9.*{words}")
       for box, words in [
           ([1, 2, 3], "left, top, width, height"), ([1, 2, -3, 4], "negative"), ([1, 2, float("nan"), 4], "left"),
           ("1234", "left"), (None, "left"), ([70, 2, 3, 4], "61 wide"), ([1, 38, 3, 4], "outside"),
           ([-9, 2, 3, 4], "outside"),
       ]},
    **{f"segmentation {each}": ({"image_id": 1, "annotations": [ONE | {"segmentation": each}]},
                                {"return_segmentation_masks": True}, words)
       for each, words in [
           ([], "polygons"), ("text", "polygons"), ([[1, 2, 3, 4]], "3 points"), ([[1, 2, 3, 4, 5, 6, 7]], "3 points"),
           ([1, 2, 3, 4, 5, 6], "3 points"), ([[1, 2, 3, 4, 5, float("nan")]], "3 points"),
           ({"counts": [5]}, "'size'"), ({"counts": [5], "size": [37, 62]}, r"\(37, 62\)"),
           ({"counts": [5], "size": [37, 61]}, "5 pixels"),
       ]},
    "format": ({"image_id": 1, "annotations": []}, {"format": "coco"}, "'coco_detection'"),
    "no folder": ({"image_id": 1, "file_name": "0.png", "segments_info": []}, {"format": "coco_panoptic"},
                  "masks_path"),
    "no file_name": ({"image_id": 1, "segments_info": []}, {"format": "coco_panoptic"}, "'file_name'"),
    "detection": ({"image_id": 1, "annotations": []}, {"format": "coco_panoptic"}, "coco_panoptic"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_said(case):
    annotations, options, words = BAD[case]
    with pytest.raises(ValueError, match=words) as caught:
        DetrImageProcessor(**SIZE)(probe.picture(WIDE), annotations, **options)
    assert "\n" not in str(caught.value)


def test_panoptic_files_that_do_not_fit(tmp_path):
    first, second = panoptic(tmp_path)
    processor = DetrImageProcessor(**SIZE, format="coco_panoptic")
    picture = probe.picture(WIDE)
    with pytest.raises(ValueError, match=r"1\.png.*\(53, 29\).*\(37, 61\)"):
        processor(picture, second, masks_path=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        processor(picture, first | {"file_name": "missing.png"}, masks_path=tmp_path)
    with pytest.raises(ValueError, match=r"Segment 5 .*no pixel"):
        processor(picture, first | {"segments_info": [{"id": 5, "category_id": 1, "area": 2}]}, masks_path=tmp_path)
    with pytest.raises(ValueError, match="lacks 'category_id'"):
        processor(picture, first | {"segments_info": [{"id": 5, "area": 2}]}, masks_path=tmp_path)
