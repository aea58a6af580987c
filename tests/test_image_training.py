"""Training on pictures: folders, arrays, augmentation before the model."""

import keras
import numpy as np
import pytest
from PIL import Image

from keras_models import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    CocoDetection,
    DetrImageProcessor,
    ImageFolder,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)
from tests.test_vit import TINY

COLOURS = {"blue": (30, 40, 220), "green": (20, 200, 50), "red": (230, 30, 20)}


@pytest.fixture
def folder(tmp_path):
    """A folder of twelve pictures of each colour, a little noisy, of several sizes and modes."""
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(12):
            noise = random.integers(-20, 20, (24 + number, 30, 3))
            picture = Image.fromarray(np.clip(noise + colour, 0, 255).astype("uint8"))
            picture = picture.convert("P") if number % 4 == 0 else picture
            picture.save(tmp_path / "train" / name / f"{number}.png")
    (tmp_path / "train" / "notes.txt").write_text("no picture")
    return tmp_path / "train"


@pytest.fixture
def processor():
    return ViTImageProcessor(size={"height": 20, "width": 20})


def test_a_folder_of_pictures_is_learnt(folder, processor, tmp_path):
    keras.utils.set_random_seed(0)
    data = ImageFolder(folder, processor, batch_size=8)
    assert data.id2label == {0: "blue", 1: "green", 2: "red"} and len(data) == 5
    model = ViTForImageClassification(ViTConfig(**TINY, id2label=data.id2label))
    model.compile(keras.optimizers.Adam(3e-3), metrics=["accuracy"])
    still = ImageFolder(folder, processor, batch_size=16, shuffle=False)
    history = model.fit(data, validation_data=still, epochs=6, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0] and history["val_accuracy"][-1] > 0.9
    _, accuracy = model.evaluate(still, verbose=0)
    classes = model.predict(still, verbose=0).logits.argmax(-1)
    assert np.mean(classes == still.labels) == pytest.approx(accuracy)
    model.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    again = AutoModelForImageClassification.from_pretrained(tmp_path / "saved")
    inputs = AutoImageProcessor.from_pretrained(tmp_path / "saved")(str(folder / "red" / "3.png"))
    assert again.config.id2label[int(again.infer(**inputs).logits.argmax())] == "red"


def test_epochs_differ_in_order_and_nothing_else(folder, processor):
    def seen(data):
        return [label for index in range(len(data)) for label in data[index][1]]

    data, same = (ImageFolder(folder, processor, batch_size=7, seed=3) for _ in range(2))
    first = seen(data)
    assert first == seen(same) and sorted(first) == sorted(data.labels.tolist())
    data.on_epoch_end()
    assert seen(data) != first and sorted(seen(data)) == sorted(first)
    still = ImageFolder(folder, processor, batch_size=7, shuffle=False)
    assert seen(still) == still.labels.tolist()
    with pytest.raises(IndexError, match="There are 6 batches, 0 to 5, and none 6"):
        still[6]


def test_pictures_are_augmented(folder, processor):
    def mirrored(picture):
        return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    plain, turned = (
        ImageFolder(folder, processor, shuffle=False, augment=each)[0][0]["pixel_values"] for each in (None, mirrored)
    )
    np.testing.assert_allclose(plain[:, :, ::-1], turned, atol=1e-5)


def test_arrays_are_learnt(processor):
    pictures = [Image.new("RGB", (25, 22), colour) for colour in COLOURS.values()]
    model = ViTForImageClassification(ViTConfig(**TINY, num_labels=3))
    model.compile("sgd")
    inputs = processor(pictures)
    with_labels = model.train_on_batch({**inputs, "labels": np.array([0, 1, 2])})
    assert np.isfinite(with_labels)
    assert np.isfinite(model.fit(inputs["pixel_values"], [0, 1, 2], verbose=0).history["loss"][0])
    with pytest.raises(ValueError, match="Label 3 is out of range: the model has 3 classes"):
        model.fit(inputs, [0, 1, 3])


def test_layers_of_keras_before_the_model():
    model = ViTForImageClassification(ViTConfig(**TINY, num_labels=3))
    inputs = keras.Input((24, 24, 3))
    x = keras.layers.RandomFlip("horizontal")(inputs)
    x = keras.layers.CenterCrop(20, 20)(x)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(x)
    whole = keras.Model(inputs, model(pixel_values=x).logits)
    whole.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    pixels = np.random.default_rng(0).integers(0, 256, (6, 24, 24, 3)).astype("uint8")
    before = keras.ops.convert_to_numpy(model.classifier.kernel).copy()
    whole.fit(pixels, np.array([0, 1, 2, 0, 1, 2]), batch_size=3, verbose=0)
    assert np.abs(keras.ops.convert_to_numpy(model.classifier.kernel) - before).max() > 0
    expected = model(pixels[:, 2:22, 2:22] / 127.5 - 1.0).logits
    np.testing.assert_allclose(whole.predict(pixels, verbose=0), keras.ops.convert_to_numpy(expected), atol=1e-4)


def test_folders_without_pictures_are_told(tmp_path, processor):
    with pytest.raises(FileNotFoundError):
        ImageFolder(tmp_path / "nowhere", processor)
    with pytest.raises(ValueError, match="no subfolders with pictures in them: make one for each class"):
        ImageFolder(tmp_path, processor)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(ValueError, match=r"1\.png"):
        ImageFolder(tmp_path, processor)[0]
    with pytest.raises(ValueError, match="batch_size must be a positive integer, not 0"):
        ImageFolder(tmp_path, processor, batch_size=0)


def test_annotations_are_checked(tmp_path):
    (tmp_path / "a.json").write_text('{"images": []}')
    with pytest.raises(ValueError, match=r"a\.json has no annotations, categories: it must be in COCO's format"):
        CocoDetection(tmp_path, tmp_path / "a.json", DetrImageProcessor())
    (tmp_path / "a.json").write_text('{"images": [], "categories": [], "annotations": [{"image_id": 7}]}')
    with pytest.raises(ValueError, match="an annotation is of image 7, which is not listed"):
        CocoDetection(tmp_path, tmp_path / "a.json", DetrImageProcessor())
