"""What image processors have in common: settings, and the steps from pictures to a batch."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from keras_models.hub import Repository
from keras_models.preprocessing.base import BatchFeature, Preprocessor
from keras_models.preprocessing.image_files import as_picture
from keras_models.preprocessing.image_steps import (
    Picture,
    Size,
    assemble,
    center_crop,
    resize,
    resized_size,
    size_dict,
    size_of,
)

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HALF = [0.5, 0.5, 0.5]
# What old files and calls say, and what it is called now.
_OLD_NAMES = {"reduce_labels": "do_reduce_labels", "pad_and_return_pixel_mask": "do_pad"}
_NO_STEPS = {"do_resize": False, "do_center_crop": False, "do_rescale": False, "do_normalize": False, "do_pad": False}


class ImageProcessor(Preprocessor):
    """Turns pictures into `pixel_values` (batch, height, width, 3), float32.

    `AutoImageProcessor.from_pretrained` (or this class's own) reads one from a folder or the hub. The settings are
    those of preprocessor_config.json under the same names; they are attributes of the processor, and any of them can be
    given to a call, for that call.

    Subclasses say in `defaults` which settings they have, and with them which steps they take: resize, center crop,
    rescale, normalize, pad. They override `resize` or `canvas` where theirs is another way.

    Args:
        **settings: `do_resize`, `size` and `resample` (a filter of Pillow); `do_center_crop` and `crop_size`;
            `do_rescale` and `rescale_factor`; `do_normalize`, `image_mean` and `image_std`; and what a subclass adds.
            Sizes may be spelled as in old files: an integer, [height, width], with `max_size`. Settings that the class
            does not know are kept and saved.

    Raises:
        ValueError: a setting has a value that makes no sense.
    """

    kind: ClassVar = "image_processor"
    square: ClassVar[bool] = True  # what an integer as size means: height and width, or the shortest edge
    longest: ClassVar[int | None] = None  # the limit of the longest edge where a file names only the shortest
    model_input_names: ClassVar[list[str]] = ["pixel_values"]

    # Settings.

    @classmethod
    def _completed(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a processor: defaults where there is none, or null, and old spellings made new."""
        values = copy.deepcopy(cls.defaults)
        for name, value in cls._renamed(settings).items():
            if value is not None or name not in cls.defaults:
                values[name] = copy.deepcopy(value)
        limit = values.pop("max_size", cls.longest)
        if "size" in cls.defaults:
            values["size"] = size_dict("size", values["size"], cls.square, limit)
        if values.get("crop_size") is not None and "crop_size" in cls.defaults:
            values["crop_size"] = _exact("crop_size", values["crop_size"])
        if values.get("pad_size") is not None and "pad_size" in cls.defaults:
            values["pad_size"] = _exact("pad_size", values["pad_size"])
        for name in ("image_mean", "image_std"):
            if name in cls.defaults:
                values[name] = _three(name, values[name])
        if "resample" in cls.defaults:
            values["resample"] = _filter(values["resample"])
        return values

    @classmethod
    def _renamed(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        new = {old: name for old, name in _OLD_NAMES.items() if name in cls.defaults}
        old = {new[name]: value for name, value in settings.items() if name in new}
        return old | {name: value for name, value in settings.items() if name not in new}

    def _overridden(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        overrides = self._known(overrides, *_OLD_NAMES, "max_size")
        if "max_size" in overrides and "size" not in overrides:
            overrides["size"] = self.size.get("shortest_edge", self.size)
        return self._completed(self.__dict__ | self._renamed(overrides))

    def _steps(self, overrides: Mapping[str, Any]) -> SimpleNamespace:
        """What the steps of one call go by. Settings of other classes, which a file may hold too, are none of them."""
        values = self._overridden(overrides)
        return SimpleNamespace(**_NO_STEPS | {name: values[name] for name in self.defaults})

    @classmethod
    def _chosen(cls, repository: Repository, stored: Mapping[str, Any], config: Any) -> type[ImageProcessor]:
        from keras_models.preprocessing.image import choose_class  # which knows the subclasses

        return cls if cls is not ImageProcessor else choose_class(repository, stored, config)

    # Pictures.

    def __call__(
        self,
        images: Any,
        *,
        return_tensors: str | None = None,
        input_data_format: str | None = None,
        **overrides: Any,
    ) -> BatchFeature:
        """Prepares one picture or several.

        Args:
            images: a picture or a list of pictures: whatever `load_image` reads, or an array (batch, height, width, 3).
                Floats keep their values: from 0 to 255 as bytes have, or from 0 to 1 with `do_rescale=False`. Only
                what is read from a file or an address is turned upright by its EXIF data.
            return_tensors: "np" (as is None), "jax", "pt", "tf", or "keras" for the active backend.
            input_data_format: "channels_first" or "channels_last", for arrays whose shape leaves it open.
            **overrides: any setting, for this call.

        Returns:
            `pixel_values` (batch, height, width, 3), float32.

        Raises:
            ValueError: there is no picture, something is none, a setting makes no sense, or sizes differ in the end.
            TypeError: an override is no setting.
        """
        steps = self._steps(overrides)
        return BatchFeature(self._batch(self._pictures(images, steps, input_data_format), steps)).to_tensors(
            return_tensors
        )

    def preprocess(self, images: Any, *more: Any, **options: Any) -> BatchFeature:
        """The same as calling the processor."""
        return self(images, *more, **options)

    def resize(self, picture: Picture, steps: SimpleNamespace) -> Picture:
        """A picture resized as the settings of the call say."""
        return resize(picture, resized_size(size_of(picture), steps.size), steps.resample)

    def canvas(self, sizes: Sequence[Size], steps: SimpleNamespace) -> tuple[Size, list[tuple[int, int]]]:
        """The size of the batch, and where the upper left corner of each picture of these sizes comes to lie in it.

        Raises:
            ValueError: the sizes differ.
        """
        if len(set(sizes)) > 1:
            different = ", ".join(f"{height}x{width}" for height, width in dict.fromkeys(sizes))
            raise ValueError(
                f"Pictures of different sizes ({different}, height x width) make no batch: set do_resize=True with an "
                "exact size, crop or pad, or pass them one by one."
            )
        return sizes[0], [(0, 0)] * len(sizes)

    def _pictures(self, images: Any, steps: SimpleNamespace, input_data_format: str | None) -> list[Picture]:
        pictures = [as_picture(item, input_data_format) for item in list_images(images)]
        if steps.do_rescale and any(_is_scaled(picture) for picture in pictures):
            warnings.warn(
                "The picture's floats are from 0 to 1 already and will be rescaled once more: pass do_rescale=False."
            )
        return pictures

    def _prepared(self, picture: Picture, steps: SimpleNamespace) -> Picture:
        """A picture after the steps that leave its values alone."""
        picture = self.resize(picture, steps) if steps.do_resize else picture
        if steps.do_center_crop:
            picture = center_crop(picture, (steps.crop_size["height"], steps.crop_size["width"]))
        return picture

    def _batch(self, pictures: list[Picture], steps: SimpleNamespace) -> dict[str, Any]:
        """The model inputs that pictures make."""
        pictures = [self._prepared(picture, steps) for picture in pictures]
        size, corners = self.canvas([size_of(picture) for picture in pictures], steps)
        return {"pixel_values": assemble(pictures, size, corners, *scaling(steps))}


def list_images(images: Any, dimensions: int = 3) -> list[Any]:
    """One picture or several as a list; arrays with one more than `dimensions` axes are several.

    Raises:
        ValueError: there is no picture.
    """
    if isinstance(images, list | tuple):
        images = list(images)
    else:
        images = list(images) if getattr(images, "ndim", 0) == dimensions + 1 else [images]
    if not images:
        raise ValueError("There is no picture: pass at least one.")
    return images


def scaling(steps: SimpleNamespace) -> tuple[np.ndarray, np.ndarray]:
    """Rescaling and normalizing as one factor and one addend a channel."""
    scale, offset = np.ones(3), np.zeros(3)
    if steps.do_rescale:
        scale = scale * steps.rescale_factor
    if steps.do_normalize:
        std = np.asarray(steps.image_std, np.float64)
        scale, offset = scale / std, offset - np.asarray(steps.image_mean, np.float64) / std
    return scale.astype(np.float32), offset.astype(np.float32)


def _is_scaled(picture: Picture) -> bool:
    if isinstance(picture, Image.Image) or picture.dtype.kind != "f":
        return False
    return picture.min() >= 0 and picture.max() <= 1


def _exact(name: str, value: Any) -> dict[str, int]:
    size = size_dict(name, value, square=True)
    if set(size) != {"height", "width"}:
        raise ValueError(f"{name} is {value!r}: give an integer, [height, width], or a dictionary with both by name.")
    return size


def _three(name: str, value: Any) -> list[float] | float:
    """The mean or deviation of the channels: one number for all, or a list of three."""
    number = np.ndim(value) == 0
    try:
        values = [float(each) for each in ([value] if number else value)]
    except (TypeError, ValueError):
        values = []
    if len(values) not in ((1,) if number else (3,)) or not np.isfinite(values).all():
        raise ValueError(f"{name} is {value!r}: give 3 numbers, one a channel, or one for all.")
    if name == "image_std" and not all(values):
        raise ValueError(f"{name} is {value!r}: what is divided by cannot be 0.")
    return values[0] if number else values


def _filter(value: Any) -> int:
    try:
        return int(Image.Resampling(value))
    except ValueError as error:
        known = ", ".join(f"{each.value} {each.name.lower()}" for each in sorted(Image.Resampling))
        raise ValueError(f"resample is {value!r}: give one of Pillow's filters ({known}).") from error
