"""Image processors: values as the reference's, settings in all their spellings, files in both directions."""

import copy
import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_models import hub
from keras_models.preprocessing import image as ours
from tests import reference
from tests.reference import image_processors as probe

TOLERANCE = 2e-5
NAMES = ("Bit", "CLIP", "ConvNext", "DPT", "DeiT", "Detr", "Segformer", "Siglip", "ViT")
WIDE, TALL, SMALL = {"shape": [37, 61, 3]}, {"shape": [53, 29, 3], "seed": 1}, {"shape": [9, 13, 3], "seed": 2}
PICTURES = [WIDE, TALL, SMALL]
EXACT = {"height": 31, "width": 26}

# (class without "ImageProcessor", settings, pictures, options of the call)
CASES = {
    **{f"{name} resample {filter_}": (name, {"size": EXACT, "resample": filter_}, PICTURES, {})
       for name, filter_ in [("ViT", 0), ("ViT", 1), ("DPT", 4), ("Segformer", 5), ("Siglip", 3)]},
    "ViT larger": ("ViT", {"size": 80}, PICTURES, {}),
    "ViT overrides": ("ViT", {"size": 99}, PICTURES, {
        "size": [20, 30], "resample": 3, "rescale_factor": 1 / 127.5, "image_mean": [1, 2, 3], "image_std": [4, 5, 6],
    }),
    "ViT one mean": ("ViT", {"size": 20, "image_mean": 0.1, "image_std": 0.7}, PICTURES, {}),
    "ViT without resizing": ("ViT", {"do_resize": False}, [WIDE, {**WIDE, "seed": 5}], {}),
    "ViT without rescaling": ("ViT", {"size": 20, "do_rescale": False}, PICTURES, {}),
    "ViT without normalizing": ("ViT", {"size": 20}, PICTURES, {"do_normalize": False}),
    "ViT resized only": ("ViT", {"size": 20, "do_rescale": False, "do_normalize": False}, PICTURES, {}),
    "ViT floats": ("ViT", {"size": 20}, [{**WIDE, "kind": "unit"}], {"do_rescale": False}),
    "ViT whole floats": ("ViT", {"size": 20}, [{**WIDE, "kind": "whole"}], {}),
    "ViT scaled twice": ("ViT", {"size": 20}, [{**WIDE, "kind": "unit"}], {}),
    "ViT floats as they are": ("ViT", {"do_resize": False, "do_rescale": False}, [{**WIDE, "kind": "unit"}], {}),
    "ViT channels first": ("ViT", {"size": 20}, [{"shape": [3, 37, 61], "kind": "bytes"}], {}),
    "ViT floats, channels first": ("ViT", {"size": 20}, [{"shape": [3, 37, 61], "kind": "unit"}],
                                   {"do_rescale": False}),
    "ViT three pixels wide": ("ViT", {"size": 20}, [{"shape": [3, 8, 3], "kind": "bytes"}],
                              {"input_data_format": "channels_last"}),
    "ViT three channels first": ("ViT", {"size": 20}, [{"shape": [3, 8, 3], "kind": "bytes"}],
                                 {"input_data_format": "channels_first"}),
    "DeiT small": ("DeiT", {"size": 40, "crop_size": 32}, PICTURES, {}),
    "DeiT odd crop": ("DeiT", {"size": [40, 33], "crop_size": [31, 24]}, PICTURES, {}),
    "DeiT crop beyond": ("DeiT", {"size": [40, 33], "crop_size": [51, 24]}, PICTURES, {}),
    "DeiT odd crop beyond": ("DeiT", {"size": [40, 33], "crop_size": [53, 40]}, PICTURES, {}),
    "DeiT crop alone": ("DeiT", {"do_resize": False, "crop_size": 30}, PICTURES, {}),
    "DeiT crop of floats": ("DeiT", {"do_resize": False, "crop_size": 30}, [{**SMALL, "kind": "unit"}],
                            {"do_rescale": False}),
    "DeiT without crop": ("DeiT", {"size": 30}, PICTURES, {"do_center_crop": False}),
    "CLIP small": ("CLIP", {"size": 32, "crop_size": 30}, PICTURES, {}),
    "CLIP exact": ("CLIP", {"size": EXACT, "crop_size": 30}, PICTURES, {}),
    "CLIP shortest edge": ("CLIP", {}, PICTURES, {"size": {"shortest_edge": 45}, "crop_size": 33}),
    "Bit small": ("Bit", {"size": {"shortest_edge": 32}, "crop_size": {"height": 30, "width": 20}}, PICTURES, {}),
    "ConvNext crop": ("ConvNext", {"size": 30}, PICTURES, {}),
    "ConvNext crop_pct": ("ConvNext", {"size": {"shortest_edge": 224}, "crop_pct": 0.95}, [WIDE, TALL], {}),
    "ConvNext crop_pct of the call": ("ConvNext", {"size": 30}, PICTURES, {"crop_pct": 0.6}),
    "ConvNext null": ("ConvNext", {"size": 30, "crop_pct": None}, PICTURES, {}),
    "ConvNext warped": ("ConvNext", {"size": 384}, [WIDE, TALL], {}),
    "Segformer list": ("Segformer", {"size": [33, 44]}, PICTURES, {}),
    "DPT multiple": ("DPT", {"size": 50, "ensure_multiple_of": 14}, PICTURES, {}),
    "DPT padded": ("DPT", {"size": [45, 50], "do_pad": True, "size_divisor": 16}, PICTURES, {}),
    **{f"DPT proportions of {shape}": (
        "DPT", {"size": size, "keep_aspect_ratio": True, "ensure_multiple_of": multiple}, [{"shape": [*shape, 3]}], {}
    ) for shape, size, multiple in [((37, 61), 50, 14), ((61, 37), 50, 14), ((100, 20), [70, 56], 4),
                                    ((64, 64), [42, 70], 32), ((70, 71), 71, 1)]},
    **{f"Detr {shape} {size}": ("Detr", {"size": size}, [{"shape": [*shape, 3]}], {}) for shape, size in [
        ((37, 61), {"shortest_edge": 40, "longest_edge": 50}),
        ((61, 37), {"shortest_edge": 40, "longest_edge": 50}),
        ((61, 37), {"shortest_edge": 30, "longest_edge": 300}),
        ((37, 61), {"shortest_edge": 37, "longest_edge": 100}),
        ((50, 50), {"shortest_edge": 37, "longest_edge": 100}),
        ((13, 97), {"shortest_edge": 40, "longest_edge": 67}),
        ((97, 13), {"shortest_edge": 41, "longest_edge": 66}),
        ((37, 61), EXACT),
        ((37, 61), {"max_height": 50, "max_width": 50}),
        ((61, 37), {"max_height": 20, "max_width": 50}),
        ((37, 61), 45),
    ]},
    "Detr batch": ("Detr", {"size": 40, "max_size": 50}, PICTURES, {}),
    "Detr pad_size": ("Detr", {"size": EXACT, "pad_size": {"height": 40, "width": 35}}, PICTURES, {}),
    "Detr pad_size of the call": ("Detr", {"size": EXACT}, PICTURES, {"pad_size": {"height": 40, "width": 35}}),
    "Detr without padding": ("Detr", {"size": EXACT, "pad_and_return_pixel_mask": False}, PICTURES, {}),
    "Detr only padding": ("Detr", {}, PICTURES, {"do_resize": False, "do_normalize": False}),
    "Detr floats": ("Detr", {"size": 40, "max_size": 50}, [{**WIDE, "kind": "unit"}, {**TALL, "kind": "unit"}],
                    {"do_rescale": False}),
}  # fmt: skip


def process(name, settings, pictures, options, **more):
    processor = getattr(ours, f"{name}ImageProcessor")(**settings)
    return processor([probe.picture(spec) for spec in pictures], **options, **more)


def check(outputs, folder):
    expected = np.load(folder / "outputs.npz")
    assert set(outputs) == set(expected.files)
    for name in expected.files:
        assert outputs[name].shape == expected[name].shape, name
        # Large values, those that are not rescaled, have float32's rounding.
        np.testing.assert_allclose(outputs[name], expected[name], rtol=2e-6, atol=TOLERANCE, err_msg=name)
    assert outputs.pixel_values.dtype == np.float32


@pytest.mark.filterwarnings("ignore:The picture's floats")
@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_the_reference(case):
    name, settings, pictures, options = CASES[case]
    folder = reference.make(
        "image_processors.processed",
        name=f"{name}ImageProcessor", settings=settings, pictures=pictures, options=options,
    )  # fmt: skip
    check(process(name, settings, pictures, options), folder)


@pytest.mark.parametrize("name", NAMES)
def test_defaults_on_photos(shared, name):
    pictures = ["bus.jpg", "pineapple.jpg"] if name == "Detr" else ["bus.jpg", "wolves.jpg", "pineapple.jpg"]
    kind = f"{name}ImageProcessor"
    folder = reference.make("image_processors.processed", name=kind, settings={}, pictures=pictures, options={})
    check(process(name, {}, pictures, {}), folder)
    paths = [shared / "data" / "images" / each for each in pictures]
    from_paths = getattr(ours, kind)()([paths[0], str(paths[1]), *(path.read_bytes() for path in paths[2:])])
    check(from_paths, folder)


@pytest.mark.parametrize("reduce", [False, True])
@pytest.mark.parametrize("high", [256, 3000])
@pytest.mark.parametrize("resize", [False, True])
def test_segmentation_maps(reduce, high, resize):
    options = {"do_reduce_labels": reduce, "do_resize": resize}
    shape = [37, 61]
    maps = [[shape, 3, high], [shape, 4, high]]
    given = [probe.class_map(*each) for each in maps]
    labels = process("Segformer", {"size": [21, 34]}, [WIDE, WIDE], options, segmentation_maps=given).labels
    assert labels.dtype == np.int64
    if high <= 256:  # the reference resizes no more classes
        arguments = {"name": "SegformerImageProcessor", "settings": {"size": [21, 34]}, "pictures": [WIDE, WIDE]}
        folder = reference.make("image_processors.processed", **arguments, options=options, maps=maps)
        np.testing.assert_array_equal(labels, np.load(folder / "outputs.npz")["labels"])
    else:
        assert set(np.unique(labels)) <= {255, *(np.unique(given) - reduce)}
        assert labels.shape == ((2, 21, 34) if resize else (2, 37, 61))
    processor = ours.SegformerImageProcessor(size=[21, 34], reduce_labels=reduce, do_resize=resize)
    pictures = [probe.picture(WIDE)] * 2
    for same in (
        np.stack(given), [Image.fromarray(each.astype("int32")) for each in given], [each[None] for each in given],
        [each[..., None] for each in given],
    ):  # fmt: skip
        np.testing.assert_array_equal(processor(pictures, same).labels, labels)


def test_a_palette_gives_its_indices():
    classes = probe.class_map([12, 20], high=5)
    image = Image.fromarray(classes, mode="P")
    image.putpalette([255, 0, 0] * 256)
    processor = ours.SegformerImageProcessor(do_resize=False)
    np.testing.assert_array_equal(processor(np.zeros((12, 20, 3), "uint8"), image).labels[0], classes)


def test_one_picture_and_batches_of_arrays():
    processor = ours.ViTImageProcessor(size=24)
    arrays = [probe.picture({"shape": [17, 19, 3], "kind": "bytes", "seed": seed}) for seed in range(3)]
    expected = processor([Image.fromarray(array) for array in arrays]).pixel_values
    assert expected.shape == (3, 24, 24, 3)
    for same in (
        arrays,
        tuple(arrays),
        np.stack(arrays),
        np.stack(arrays).transpose(0, 3, 1, 2),
        [*arrays[:2], arrays[2] / 1.0],
    ):
        np.testing.assert_array_equal(processor(same).pixel_values, expected)
    np.testing.assert_array_equal(processor.preprocess(arrays[1]).pixel_values, expected[1:2])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "RGBX", "RGBa"])
def test_any_mode_is_read_as_rgb(mode):
    given = probe.picture(WIDE)
    given = given.convert("RGBA").convert("RGBa") if mode == "RGBa" else given.convert(mode)
    expected = ours.ViTImageProcessor(size=24)((given.convert("RGBA") if mode == "RGBa" else given).convert("RGB"))
    np.testing.assert_array_equal(ours.ViTImageProcessor(size=24)(given).pixel_values, expected.pixel_values)


def test_grey_arrays_get_three_channels():
    grey = probe.picture({"shape": [17, 19], "kind": "bytes"})
    expected = ours.ViTImageProcessor(size=24)(Image.fromarray(grey).convert("RGB")).pixel_values
    for same in (grey, grey[..., None], grey[None], np.stack([grey] * 4, axis=-1)):
        np.testing.assert_array_equal(ours.ViTImageProcessor(size=24)([same]).pixel_values, expected)


def test_longest_edge():
    outputs = process("CLIP", {"do_center_crop": False, "size": {"longest_edge": 30}}, [WIDE], {})
    assert outputs.pixel_values.shape == (1, 18, 30, 3)


def test_extreme_proportions_keep_a_pixel():
    outputs = process("Detr", {"size": 800, "max_size": 20}, [{"shape": [1, 900, 3]}], {})
    assert outputs.pixel_values.shape == (1, 1, 20, 3)


@pytest.mark.parametrize("kind", ["np", "keras", None])
def test_kinds_of_tensors(kind):
    import keras

    maps = [probe.class_map([37, 61])]
    outputs = process("Segformer", {"size": 24}, [WIDE], {"return_tensors": kind}, segmentation_maps=maps)
    tensor = keras.ops.is_tensor if kind == "keras" else lambda value: isinstance(value, np.ndarray)
    assert tensor(outputs.pixel_values) and tensor(outputs["labels"])
    plain = process("Segformer", {"size": 24}, [WIDE], {}, segmentation_maps=maps)
    for name in outputs:
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(outputs[name]), plain[name])
    again = ours.SegformerImageProcessor(size=24)(keras.ops.convert_to_tensor(np.asarray(probe.picture(WIDE))))
    np.testing.assert_array_equal(again.pixel_values, plain.pixel_values)
    assert pickle.loads(pickle.dumps(plain)).pixel_values.shape == plain.pixel_values.shape


def test_floats_that_are_scaled_already_are_reported():
    with pytest.warns(UserWarning, match="do_rescale=False"):
        ours.ViTImageProcessor(size=8)(np.full((9, 9, 3), 0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.ViTImageProcessor(size=8)(np.full((9, 9, 3), 0.5), do_rescale=False)
        ours.ViTImageProcessor(size=8)(np.full((9, 9, 3), 77.0))


# Files.

# (class that the reference has, the file's contents), as found in old and new repositories
FILES = {
    "old ViT": ("AutoImageProcessor", {
        "do_normalize": True, "do_resize": True, "feature_extractor_type": "ViTFeatureExtractor",
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 2, "size": 224,
    }),
    "old DETR": ("AutoImageProcessor", {
        "do_normalize": True, "do_resize": True, "feature_extractor_type": "DetrFeatureExtractor",
        "format": "coco_detection", "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
        "max_size": 1333, "size": 800,
    }),
    "old DETR without max_size": ("DetrImageProcessor", {"size": 600, "pad_and_return_pixel_mask": False}),
    "old ResNet": ("AutoImageProcessor", {
        "crop_pct": 0.875, "do_normalize": True, "do_resize": True, "image_mean": [0.485, 0.456, 0.406],
        "feature_extractor_type": "ConvNextFeatureExtractor", "image_std": [0.229, 0.224, 0.225], "resample": 3,
        "size": 224,
    }),
    "old CLIP": ("AutoImageProcessor", {
        "crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3, "size": 224,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }),
    "DINOv2": ("AutoImageProcessor", {
        "crop_size": {"height": 224, "width": 224}, "do_center_crop": True, "do_convert_rgb": True,
        "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "BitImageProcessor", "image_std": [0.229, 0.224, 0.225], "resample": 3,
        "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 256},
    }),
    "Depth Anything": ("AutoImageProcessor", {
        "do_normalize": True, "do_pad": False, "do_rescale": True, "do_resize": True, "ensure_multiple_of": 14,
        "image_mean": [0.485, 0.456, 0.406], "image_processor_type": "DPTImageProcessor", "keep_aspect_ratio": True,
        "image_std": [0.229, 0.224, 0.225], "resample": 3, "rescale_factor": 0.00392156862745098,
        "size": {"height": 518, "width": 518}, "size_divisor": None,
    }),
    "nulls and others": ("ViTImageProcessor", {"image_mean": None, "processor_class": "XProcessor", "my_own": [1, 2]}),
    "a list": ("SegformerImageProcessor", {"size": [100, 200], "do_reduce_labels": True}),
    **{name: (f"{name}ImageProcessor", {}) for name in NAMES},
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_saved_files_are_those_of_the_reference(tmp_path, case):
    name, settings = FILES[case]
    folder = reference.make("image_processors.saved", name=name, settings=settings, auto=name == "AutoImageProcessor")
    processor = getattr(ours, name).from_pretrained(folder / "given")
    assert processor.save_pretrained(tmp_path / "new") == (str(tmp_path / "new" / "preprocessor_config.json"),)
    expected = json.loads((folder / "saved" / "preprocessor_config.json").read_text())
    assert json.loads((tmp_path / "new" / "preprocessor_config.json").read_text()) == expected
    again = ours.AutoImageProcessor.from_pretrained(folder / "saved")
    assert type(again) is type(processor) and again.to_dict() == processor.to_dict() == expected
    copied = copy.deepcopy(pickle.loads(pickle.dumps(processor)))
    assert copied.to_dict() == expected and repr(copied) == repr(processor)


@pytest.mark.parametrize(("name", "settings"), [
    ("ViT", {"size": 20, "resample": 0, "image_mean": 0.3}), ("Detr", {"size": 40, "max_size": 50}),
    ("DPT", {"size": 40, "ensure_multiple_of": 14, "keep_aspect_ratio": True}), ("ConvNext", {"size": 30}),
    ("CLIP", {"size": 20, "crop_size": 18}), ("Segformer", {"size": [20, 30]}), ("Siglip", {"size": 20}),
])  # fmt: skip
def test_the_reference_reads_what_is_saved(tmp_path, name, settings):
    processor = getattr(ours, f"{name}ImageProcessor")(**settings)
    processor.do_normalize = False  # an attribute that changes later counts too
    processor.save_pretrained(tmp_path / "saved")
    pictures = [WIDE, {**WIDE, "seed": 7}]
    (tmp_path / "out").mkdir()
    source = str(tmp_path / "saved")
    reference.call("image_processors.read_back", into=str(tmp_path / "out"), source=source, pictures=pictures)
    assert (tmp_path / "out" / "kind.txt").read_text() == type(processor).__name__
    expected = np.load(tmp_path / "out" / "outputs.npz")["pixel_values"]
    outputs = processor([probe.picture(spec) for spec in pictures])
    np.testing.assert_allclose(outputs.pixel_values, expected, atol=TOLERANCE)


def write(folder, **files):
    for name, values in files.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize(("files", "kind"), [
    ({"preprocessor_config": {"image_processor_type": "ViTImageProcessorFast"}}, "ViTImageProcessor"),
    ({"preprocessor_config": {"image_processor_type": "SiglipImageProcessor", "feature_extractor_type": "X"}},
     "SiglipImageProcessor"),
    ({"preprocessor_config": {"feature_extractor_type": "DeiTFeatureExtractor"}}, "DeiTImageProcessor"),
    ({"preprocessor_config": {"size": 224}, "config": {"model_type": "vit"}}, "ViTImageProcessor"),
    ({"preprocessor_config": {}, "config": {"model_type": "resnet"}}, "ConvNextImageProcessor"),
    ({"preprocessor_config": {}, "config": {"model_type": "dinov2"}}, "BitImageProcessor"),
    ({"preprocessor_config": {}, "config": {"model_type": "detr"}}, "DetrImageProcessor"),
    ({"preprocessor_config": {}, "config": {"model_type": "segformer"}}, "SegformerImageProcessor"),
    ({"preprocessor_config": {}, "config": {"model_type": "depth_anything"}}, "DPTImageProcessor"),
    ({"processor_config": {"image_processor": {"image_processor_type": "CLIPImageProcessor"}}}, "CLIPImageProcessor"),
])  # fmt: skip
def test_the_right_class_is_chosen(tmp_path, files, kind):
    assert type(ours.AutoImageProcessor.from_pretrained(write(tmp_path, **files), use_fast=True)).__name__ == kind


def test_a_fast_processors_file(tmp_path):
    size = {"height": 24, "width": 24, "longest_edge": None}
    values = {
        "crop_size": None, "data_format": "channels_first", "default_to_square": True, "device": None,
        "disable_grouping": None, "do_center_crop": None, "do_convert_rgb": None, "do_normalize": True, "do_pad": None,
        "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        "image_processor_type": "ViTImageProcessorFast", "input_data_format": None, "pad_size": None, "resample": 2,
        "rescale_factor": 1 / 255, "return_tensors": None, "size": size,
    }  # fmt: skip
    processor = ours.AutoImageProcessor.from_pretrained(write(tmp_path, preprocessor_config=values))
    plain = ours.ViTImageProcessor(size=24)
    picture = probe.picture(WIDE)
    np.testing.assert_array_equal(processor(picture).pixel_values, plain(picture).pixel_values)


def test_overrides_of_from_pretrained(tmp_path):
    folder = write(
        tmp_path, preprocessor_config={"size": 800, "max_size": 1333, "kept": 1}, config={"model_type": "detr"}
    )
    load = ours.AutoImageProcessor.from_pretrained
    assert load(folder).size == {"shortest_edge": 800, "longest_edge": 1333}
    assert load(folder, size=600).size == {"shortest_edge": 600, "longest_edge": 1333}
    assert load(folder, max_size=900).size == {"shortest_edge": 800, "longest_edge": 900}
    assert load(folder, size=600, max_size=700).size == {"shortest_edge": 600, "longest_edge": 700}
    assert load(folder, size={"height": 5, "width": 6}).size == {"height": 5, "width": 6}
    assert load(folder, do_pad=False, kept=2).to_dict() == load(folder).to_dict() | {"do_pad": False, "kept": 2}
    assert ours.DetrImageProcessor.from_dict({"size": 50}, do_normalize=False).do_normalize is False


def test_register(tmp_path, monkeypatch):
    for name in ("CLASSES", "MODEL_TYPES"):
        monkeypatch.setattr(ours, name, dict(getattr(ours, name)))

    class MyImageProcessor(ours.ViTImageProcessor):
        pass

    ours.AutoImageProcessor.register("mine", MyImageProcessor)
    MyImageProcessor(size=5).save_pretrained(tmp_path)
    assert type(ours.AutoImageProcessor.from_pretrained(tmp_path)) is MyImageProcessor
    write(tmp_path, preprocessor_config={"size": 6}, config={"model_type": "mine"})
    assert type(ours.AutoImageProcessor.from_pretrained(tmp_path)) is MyImageProcessor


def test_pushed_files(monkeypatch):
    pushed = {}

    def push_folder(folder, repo_id, **options):
        pushed[repo_id] = sorted(path.name for path in Path(folder).iterdir()), options
        return "address"

    monkeypatch.setattr(hub, "push_folder", push_folder)
    assert ours.ViTImageProcessor().push_to_hub("me/mine", private=True) == "address"
    assert pushed == {"me/mine": (["preprocessor_config.json"], {"private": True})}


def test_a_configuration_chooses_where_no_file_does(tmp_path):
    from keras_models.models.vit import ViTConfig

    write(tmp_path, preprocessor_config={"size": 33})
    assert type(ours.AutoImageProcessor.from_pretrained(tmp_path, config=ViTConfig())) is ours.ViTImageProcessor


def test_a_real_checkpoints_processor(shared):
    processor = ours.AutoImageProcessor.from_pretrained(shared / "checkpoints" / "vit-tiny-patch16-224")
    assert type(processor) is ours.ViTImageProcessor and processor.resample == 3
    assert processor(shared / "data" / "images" / "wolves.jpg").pixel_values.shape == (1, 224, 224, 3)


# What is wrong.

P = probe.picture(SMALL)
ARRAY = np.zeros((9, 13, 3), "uint8")
VIT, DETR, SEGFORMER = ours.ViTImageProcessor, ours.DetrImageProcessor, ours.SegformerImageProcessor
BAD = {
    "no picture": (lambda: VIT()([]), ValueError, "no picture"),
    "None": (lambda: VIT()(None), TypeError, "NoneType"),
    "a dictionary": (lambda: VIT()([{"image": 1}]), TypeError, "dict"),
    "words": (lambda: VIT()(np.asarray([["a"]])), TypeError, "pass a path"),
    "one axis": (lambda: VIT()(np.zeros(5)), ValueError, "shape"),
    "two channels": (lambda: VIT()(np.zeros((5, 6, 2))), ValueError, r"\(5, 6, 2\)"),
    "a video": (lambda: VIT()([np.zeros((2, 5, 6, 3))]), ValueError, "shape"),
    "layout": (lambda: VIT()(ARRAY, input_data_format="last"), ValueError, "channels_last"),
    "the other layout": (lambda: VIT()(ARRAY, input_data_format="channels_first"), ValueError, "shape"),
    "NaN": (lambda: VIT()(np.full((5, 6, 3), np.nan)), ValueError, "NaN"),
    "infinity": (lambda: VIT()(np.full((5, 6, 3), np.inf)), ValueError, "infinite"),
    "no pixels": (lambda: VIT()(np.zeros((0, 6, 3))), ValueError, "no pixels"),
    "no height": (lambda: VIT()(Image.new("RGB", (5, 0))), ValueError, "no pixels"),
    "range": (lambda: VIT()(np.full((5, 6, 3), 300.5)), ValueError, "300.5"),
    "negative": (lambda: VIT()(np.full((5, 6, 3), -1)), ValueError, "-1"),
    "missing file": (lambda: VIT()("missing.jpg"), FileNotFoundError, "missing.jpg"),
    "sizes differ": (lambda: VIT(do_resize=False)([P, probe.picture(WIDE)]), ValueError, "9x13, 37x61"),
    "override": (lambda: VIT()(P, sise=5), TypeError, "Did you mean 'size'"),
    "data_format": (lambda: VIT()(P, data_format="channels_first"), TypeError, "data_format"),
    "size": (lambda: VIT(size=0), ValueError, "size is 0"),
    "size keys": (lambda: VIT(size={"height": 5}), ValueError, "size is"),
    "size words": (lambda: VIT()(P, size="large"), ValueError, "'large'"),
    "size of halves": (lambda: VIT(size=[5.5, 6]), ValueError, "size is"),
    "crop_size": (lambda: ours.CLIPImageProcessor(crop_size={"shortest_edge": 5}), ValueError, "crop_size"),
    "mean": (lambda: VIT(image_mean=[1, 2]), ValueError, "image_mean"),
    "mean words": (lambda: VIT(image_mean="grey"), ValueError, "image_mean"),
    "std": (lambda: VIT(image_std=[1, 0, 1]), ValueError, "image_std"),
    "filter": (lambda: VIT(resample=9), ValueError, "2 bilinear"),
    "filter words": (lambda: VIT(resample="cubic"), ValueError, "resample"),
    "tensors": (lambda: VIT()(P, return_tensors="torhc"), ValueError, "Did you mean 'torch'"),
    "convnext size": (lambda: ours.ConvNextImageProcessor()(P, size=[5, 6]), ValueError, "shortest_edge"),
    "dpt size": (lambda: ours.DPTImageProcessor()(P, size={"shortest_edge": 6}), ValueError, "height and width"),
    "dpt divisor": (lambda: ours.DPTImageProcessor()(P, do_pad=True), ValueError, "size_divisor"),
    "pad_size": (lambda: DETR(size=EXACT)(P, pad_size=[30, 30]), ValueError, "pad_size"),
    "not padded": (lambda: DETR(size=40, do_pad=False)([P, probe.picture(TALL)]), ValueError, "different sizes"),
    "maps": (lambda: SEGFORMER()([P, P], [np.zeros((9, 13), int)]), ValueError, "2 pictures and 1"),
    "map's size": (lambda: SEGFORMER()(P, np.zeros((9, 14), int)), ValueError, "same size"),
    "map's shape": (lambda: SEGFORMER()(P, [np.zeros((9, 13, 3), int)]), ValueError, "shape"),
    "map's halves": (lambda: SEGFORMER()(P, np.full((9, 13), 0.5)), ValueError, "whole numbers"),
    "map's sign": (lambda: SEGFORMER()(P, np.full((9, 13), -1)), ValueError, "-1"),
    "Auto": (lambda: ours.AutoImageProcessor(), TypeError, "from_pretrained"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said(case):
    function, error, words = BAD[case]
    with pytest.raises(error, match=words) as caught:
        function()
    assert "\n" not in str(caught.value) and str(caught.value)[-1] in ".?"


def test_missing_and_unknown_files(tmp_path):
    load = ours.AutoImageProcessor.from_pretrained
    with pytest.raises(ValueError, match=r"no image processor in .*preprocessor_config\.json"):
        load(tmp_path)
    with pytest.raises(ValueError, match="'SwinImageProcessor'"):
        load(write(tmp_path, preprocessor_config={"image_processor_type": "SwinImageProcessor"}))
    with pytest.raises(ValueError, match=r"'vitt'.*Did you mean 'vit'"):
        load(write(tmp_path, preprocessor_config={}, config={"model_type": "vitt"}))
    with pytest.raises(TypeError, match=r"'sizes'.*Did you mean 'size'"):
        ours.ViTImageProcessor.from_pretrained(tmp_path, sizes=5)
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        load(tmp_path)
