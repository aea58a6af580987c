"""Datasets that `fit` takes: pictures in folders, and annotated pictures, read and prepared batch by batch."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_models.config import read_json
from keras_models.losses_detection import pack_targets
from keras_models.preprocessing.image import ImageProcessor, load_image
from keras_models.registry import PICTURE_SUFFIXES


class _Pictures(keras.utils.PyDataset):
    """Batches of numbered pictures, in another order each epoch if wanted."""

    def __init__(
        self,
        processor: ImageProcessor,
        batch_size: int,
        shuffle: bool,
        seed: int,
        augment: Callable[[Any], Any] | None,
        **options: Any,
    ):
        super().__init__(**options)
        if batch_size < 1:
            raise ValueError(f"batch_size must be a positive integer, not {batch_size}.")
        self.processor, self.batch_size, self.augment = processor, batch_size, augment
        self._random = np.random.default_rng(seed) if shuffle else None
        self._order = np.arange(self.count)
        self.on_epoch_end()

    @property
    def count(self) -> int:
        """The number of pictures."""
        raise NotImplementedError(f"{type(self).__name__} has no count.")

    def __len__(self) -> int:
        """The number of batches."""
        return math.ceil(self.count / self.batch_size)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} batches, 0 to {len(self) - 1}, and none {index}.")
        return self.batch(self._order[index * self.batch_size : (index + 1) * self.batch_size])

    def batch(self, numbers: Sequence[int]) -> Any:
        """Inputs and labels of the pictures with these numbers."""
        raise NotImplementedError(f"{type(self).__name__} has no batch().")

    def on_epoch_end(self):
        """Puts the pictures into another order."""
        if self._random is not None:
            self._random.shuffle(self._order)

    def read(self, path: Path) -> Any:
        """A picture, augmented if wanted."""
        picture = load_image(path)
        return picture if self.augment is None else self.augment(picture)


class ImageFolder(_Pictures):
    """Pictures in a folder that has a subfolder for each class, as `fit`, `evaluate` and `predict` take them.

    A batch is ({"pixel_values": (batch, height, width, 3)}, (batch,) integers).

    Example:
        >>> train = ImageFolder("photos/train", processor, batch_size=16)
        >>> model = AutoModelForImageClassification.from_pretrained(name, id2label=train.id2label,
        ...     ignore_mismatched_sizes=True)
        >>> model.compile(metrics=["accuracy"])
        >>> model.fit(train, validation_data=ImageFolder("photos/test", processor, shuffle=False), epochs=3)

    Args:
        folder: its subfolders are the classes, in alphabetical order.
        processor: the model's image processor.
        batch_size: how many pictures a batch has; the last one may have fewer.
        shuffle: whether each epoch has another order.
        seed: of that order.
        augment: a function of a PIL image that returns another, or an array (height, width, 3).
        **options: of `keras.utils.PyDataset`: `workers`, `use_multiprocessing`, `max_queue_size`.

    Raises:
        ValueError: there are no pictures.
        OSError: there is no such folder.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        processor: ImageProcessor,
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int = 0,
        augment: Callable[[Any], Any] | None = None,
        **options: Any,
    ):
        folder = Path(folder)
        names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        self.id2label = dict(enumerate(names))
        self.label2id = {name: index for index, name in self.id2label.items()}
        found = [(path, index) for index, name in self.id2label.items() for path in _pictures(folder / name)]
        if not found:
            raise ValueError(f"{folder} has no subfolders with pictures in them: make one for each class.")
        self.paths, labels = map(list, zip(*found, strict=True))
        self.labels = np.array(labels, "int32")
        super().__init__(processor, batch_size, shuffle, seed, augment, **options)

    @property
    def count(self) -> int:
        return len(self.paths)

    def batch(self, numbers: Sequence[int]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        inputs = self.processor([self.read(self.paths[each]) for each in numbers], return_tensors="np")
        return dict(inputs), self.labels[numbers]


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)


class CocoDetection(_Pictures):
    """Pictures with objects marked in COCO's format, as the `fit` of a detector takes them.

    A batch is the inputs with `labels`, what the image processor makes of the annotations, packed into arrays. On JAX
    every size of a batch is compiled for itself: give the processor a `pad_size`, or a `size` of exact height and
    width.

    Args:
        folder: where the pictures are.
        annotations: the JSON file, with `images`, `annotations` and `categories`.
        processor: the model's image processor, e.g. a `DetrImageProcessor`.
        batch_size, shuffle, seed, **options: those of `ImageFolder`.

    `id2label` has the names of the categories by their numbers in the file.

    Raises:
        ValueError: the file is not of that format, or an annotation is of a picture that it does not list.
        OSError: there is no such file.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        annotations: str | os.PathLike[str],
        processor: ImageProcessor,
        batch_size: int = 4,
        shuffle: bool = True,
        seed: int = 0,
        **options: Any,
    ):
        content = read_json(Path(annotations))
        missing = {"images", "annotations", "categories"} - content.keys()
        if missing:
            raise ValueError(f"{annotations} has no {', '.join(sorted(missing))}: it must be in COCO's format.")
        self.folder = Path(folder)
        self.images = content["images"]
        self.id2label = {each["id"]: each["name"] for each in content["categories"]}
        self.label2id = {name: index for index, name in self.id2label.items()}
        known = {each["id"] for each in self.images}
        self.objects = defaultdict(list)
        for each in content["annotations"]:
            if each["image_id"] not in known:
                raise ValueError(f"{annotations}: an annotation is of image {each['image_id']}, which is not listed.")
            self.objects[each["image_id"]].append(each)
        super().__init__(processor, batch_size, shuffle, seed, None, **options)

    @property
    def count(self) -> int:
        return len(self.images)

    def batch(self, numbers: Sequence[int]) -> tuple[dict[str, Any]]:
        chosen = [self.images[each] for each in numbers]
        pictures = [self.read(self.folder / each["file_name"]) for each in chosen]
        marked = [{"image_id": each["id"], "annotations": self.objects[each["id"]]} for each in chosen]
        inputs = dict(self.processor(pictures, annotations=marked, return_tensors="np"))
        most = max(map(len, self.objects.values()), default=1)
        return (inputs | {"labels": pack_targets(inputs["labels"], max(self.id2label) + 1, slots=most)},)
