"""Image processors by the names transformers gives them, and `AutoImageProcessor`, which finds the right one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from keras_models.hub import Repository
from keras_models.preprocessing import base
from keras_models.preprocessing.base import BatchFeature
from keras_models.preprocessing.image_base import HALF, IMAGENET_MEAN, IMAGENET_STD, ImageProcessor, list_images
from keras_models.preprocessing.image_detr import DetrImageProcessor
from keras_models.preprocessing.image_files import load_image, to_numpy, to_rgb
from keras_models.preprocessing.image_segments import output_array, semantic_maps, target_list
from keras_models.preprocessing.image_steps import (
    Picture,
    Size,
    center_crop,
    interpolate,
    multiple_size,
    padded_length,
    resize,
    resized_size,
    size_of,
)
from keras_models.registry import ARCHITECTURES

__all__ = [
    "AutoImageProcessor", "BatchFeature", "BitImageProcessor", "BitImageProcessorFast", "CLIPImageProcessor",
    "CLIPImageProcessorFast", "ConvNextImageProcessor", "ConvNextImageProcessorFast", "DPTImageProcessor",
    "DPTImageProcessorFast", "DeiTImageProcessor", "DeiTImageProcessorFast", "DetrImageProcessor",
    "DetrImageProcessorFast", "ImageProcessor", "SegformerImageProcessor", "SegformerImageProcessorFast",
    "SiglipImageProcessor", "SiglipImageProcessorFast", "ViTImageProcessor", "ViTImageProcessorFast", "load_image",
    "to_rgb",
]  # fmt: skip

NEAREST, BILINEAR, BICUBIC = 0, 2, 3
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
_SCALING = {
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": HALF, "image_std": HALF,
}  # fmt: skip


class ViTImageProcessor(ImageProcessor):
    """ViT's: resized to an exact size (224 x 224), values from -1 to 1."""

    defaults: ClassVar = {
        "do_resize": True, "size": {"height": 224, "width": 224}, "resample": BILINEAR, **_SCALING,
        "do_convert_rgb": None,
    }  # fmt: skip


class SiglipImageProcessor(ViTImageProcessor):
    """SigLIP's: ViT's with bicubic resizing."""

    defaults: ClassVar = ViTImageProcessor.defaults | {"resample": BICUBIC}


class DeiTImageProcessor(ImageProcessor):
    """DeiT's: resized to 256 x 256, of which the middle 224 x 224 are kept."""

    defaults: ClassVar = {
        "do_resize": True, "size": {"height": 256, "width": 256}, "resample": BICUBIC, "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224}, **_SCALING,
    }  # fmt: skip


class CLIPImageProcessor(ImageProcessor):
    """CLIP's: the shortest edge is resized to 224, and the middle square kept."""

    defaults: ClassVar = {
        "do_resize": True, "size": {"shortest_edge": 224}, "resample": BICUBIC, "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224}, **_SCALING, "image_mean": CLIP_MEAN, "image_std": CLIP_STD,
        "do_convert_rgb": True,
    }  # fmt: skip
    square = False


class BitImageProcessor(CLIPImageProcessor):
    """CLIP's by another name, which DINOv2 goes by."""


class ConvNextImageProcessor(ImageProcessor):
    """ConvNeXT's and ResNet's: `crop_pct` of the picture is kept, resized to a square; all of it from 384 pixels on.

    The shortest edge is resized to size / `crop_pct`, and the middle square of that size cropped.
    """

    defaults: ClassVar = {
        "do_resize": True, "size": {"shortest_edge": 384}, "crop_pct": 224 / 256, "resample": BILINEAR, **_SCALING,
    }  # fmt: skip
    square = False

    def resize(self, picture: Picture, steps: SimpleNamespace) -> Picture:
        if set(steps.size) != {"shortest_edge"}:
            raise ValueError(f"size is {steps.size}: {type(self).__name__} needs an integer, or shortest_edge alone.")
        edge = steps.size["shortest_edge"]
        if edge >= 384:
            return resize(picture, (edge, edge), steps.resample)
        larger = resized_size(size_of(picture), {"shortest_edge": int(edge / steps.crop_pct)})
        return center_crop(resize(picture, larger, steps.resample), (edge, edge))


class _SemanticSegmentation:
    """What processors of models have in common that name each pixel's class."""

    def post_process_semantic_segmentation(self, outputs: Any, target_sizes: Any = None) -> list[np.ndarray]:
        """The most likely class of each pixel.

        Args:
            outputs: what the model returned, with `logits` (batch, height, width, labels).
            target_sizes: a (height, width) a picture, to which the logits are resized first.

        Returns:
            a map (height, width) of class ids a picture, int64.

        Raises:
            ValueError: there are more or fewer sizes than pictures, or these are no such outputs.
        """
        return semantic_maps(output_array(outputs, "logits", 4), target_sizes)


class SegformerImageProcessor(_SemanticSegmentation, ImageProcessor):
    """SegFormer's: resized to an exact size (512 x 512), maps of classes along with the pictures.

    Settings of its own: `do_reduce_labels`, for data whose class 0 is the background that is not to be learned: 0
    becomes 255, which the loss ignores, and all others go down by one.
    """

    defaults: ClassVar = {
        "do_resize": True, "size": {"height": 512, "width": 512}, "resample": BILINEAR, **_SCALING,
        "image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD, "do_reduce_labels": False,
    }  # fmt: skip

    def __call__(
        self,
        images: Any,
        segmentation_maps: Any = None,
        *,
        return_tensors: str | None = None,
        input_data_format: str | None = None,
        **overrides: Any,
    ) -> BatchFeature:
        """Prepares pictures, and maps of classes as labels; see `ImageProcessor.__call__`.

        Args:
            segmentation_maps: for each picture its class ids by pixel: an array (height, width), a PIL image or the
                path of one; or an array (batch, height, width).

        Returns:
            `pixel_values` (batch, height, width, 3), float32, and with maps `labels` (batch, height, width), int64.

        Raises:
            ValueError: as there, or maps and pictures do not fit.
        """
        steps = self._steps(overrides)
        pictures = self._pictures(images, steps, input_data_format)
        batch = BatchFeature(self._batch(pictures, steps))
        if segmentation_maps is not None:
            maps = list_images(segmentation_maps, dimensions=2)
            if len(maps) != len(pictures):
                raise ValueError(f"There are {len(pictures)} pictures and {len(maps)} segmentation maps: pass as many.")
            sizes = [size_of(picture) for picture in pictures]
            batch["labels"] = np.stack([self._labels(*each, steps) for each in zip(maps, sizes, strict=True)])
        return batch.to_tensors(return_tensors)

    def _labels(self, item: Any, size: Size, steps: SimpleNamespace) -> np.ndarray:
        """The class ids (height, width) of a picture of `size`, resized like it."""
        labels = class_map(item)
        if labels.shape != size:
            raise ValueError(
                f"A segmentation map is {labels.shape} and its picture {size}: they must be the same size."
            )
        if steps.do_reduce_labels:
            labels = np.where((labels == 0) | (labels == 255), 255, labels - 1)
        if steps.do_resize:
            height, width = resized_size(size, steps.size)
            labels = np.asarray(image_of(labels).resize((width, height), NEAREST))
        return labels.astype(np.int64)


class DPTImageProcessor(_SemanticSegmentation, ImageProcessor):
    """DPT's, and Depth Anything's: resized to a size that suits the patches, with its proportions if asked for.

    Settings of its own: `ensure_multiple_of`, which height and width become multiples of; `keep_aspect_ratio`; `do_pad`
    with `size_divisor`, which puts zeros around pictures up to the next multiple of it.
    """

    defaults: ClassVar = {
        "do_resize": True, "size": {"height": 384, "width": 384}, "resample": BICUBIC, "keep_aspect_ratio": False,
        "ensure_multiple_of": 1, **_SCALING, "do_pad": False, "size_divisor": None, "do_reduce_labels": False,
    }  # fmt: skip

    def resize(self, picture: Picture, steps: SimpleNamespace) -> Picture:
        if set(steps.size) != {"height", "width"}:
            raise ValueError(f"size is {steps.size}: {type(self).__name__} needs an integer, or height and width.")
        wanted = steps.size["height"], steps.size["width"]
        size = multiple_size(size_of(picture), wanted, steps.keep_aspect_ratio, steps.ensure_multiple_of)
        return resize(picture, size, steps.resample)

    def canvas(self, sizes: Sequence[Size], steps: SimpleNamespace) -> tuple[Size, list[tuple[int, int]]]:
        size, corners = super().canvas(sizes, steps)
        if not steps.do_pad:
            return size, corners
        if not steps.size_divisor:
            raise ValueError("do_pad=True needs size_divisor, the number that height and width are to be multiples of.")
        height, width = (padded_length(length, steps.size_divisor) for length in size)
        return (height, width), [((height - size[0]) // 2, (width - size[1]) // 2)] * len(sizes)

    def post_process_depth_estimation(self, outputs: Any, target_sizes: Any = None) -> list[dict[str, np.ndarray]]:
        """The depth of each pixel, resized to a (height, width) a picture, if given.

        Args:
            outputs: what the model returned, with `predicted_depth` (batch, height, width).
            target_sizes: the sizes.

        Returns:
            `{"predicted_depth": (height, width)}` a picture, float32.

        Raises:
            ValueError: there are more or fewer sizes than pictures, or these are no such outputs.
        """
        depths = output_array(outputs, "predicted_depth", 3)
        sizes = target_list(target_sizes, len(depths))
        depths = [
            depth if size is None else interpolate(depth, size, "bicubic")
            for depth, size in zip(depths, sizes, strict=True)
        ]
        return [{"predicted_depth": depth} for depth in depths]


def class_map(item: Any) -> np.ndarray:
    """A map (height, width) of class ids, of an array, a tensor, a PIL image (of a palette the indices) or a path.

    Raises:
        ValueError: this is no map of whole numbers from 0 on.
    """
    if isinstance(item, str | os.PathLike):
        with Image.open(item) as image:
            values = np.asarray(image)
    else:
        values = to_numpy(item)
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[-1]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or not values.size:
        raise ValueError(f"A segmentation map has the shape {values.shape}: pass (height, width) class ids.")
    if values.dtype.kind not in "bui" and not (values.dtype.kind == "f" and (values == np.trunc(values)).all()):
        raise ValueError(f"A segmentation map holds {values.dtype} values: pass class ids, whole numbers from 0 on.")
    if values.min() < 0:
        raise ValueError(f"A segmentation map holds {values.min()}: class ids are whole numbers from 0 on.")
    return values.astype(np.int32)


def image_of(labels: np.ndarray) -> Image.Image:
    """Class ids as a PIL image, of 32-bit integers where bytes do not hold them."""
    return Image.fromarray(labels.astype(np.uint8 if labels.max() <= 255 else np.int32))


ViTImageProcessorFast = ViTImageProcessor
SiglipImageProcessorFast = SiglipImageProcessor
DeiTImageProcessorFast = DeiTImageProcessor
CLIPImageProcessorFast = CLIPImageProcessor
BitImageProcessorFast = BitImageProcessor
ConvNextImageProcessorFast = ConvNextImageProcessor
DetrImageProcessorFast = DetrImageProcessor
SegformerImageProcessorFast = SegformerImageProcessor
DPTImageProcessorFast = DPTImageProcessor

# Names found in preprocessor_config.json, without "Fast" and with "ImageProcessor" for "FeatureExtractor".
CLASSES: dict[str, type[ImageProcessor]] = {
    kind.__name__: kind
    for kind in (
        BitImageProcessor, CLIPImageProcessor, ConvNextImageProcessor, DPTImageProcessor, DeiTImageProcessor,
        DetrImageProcessor, SegformerImageProcessor, SiglipImageProcessor, ViTImageProcessor,
    )
}  # fmt: skip
# config.json's model_type, for repositories whose file names no class: the architectures' own, and others'.
MODEL_TYPES: dict[str, type[ImageProcessor]] = {
    **dict.fromkeys(["bit", "dinov2", "focalnet", "hiera"], BitImageProcessor),
    **dict.fromkeys(["clip", "git", "groupvit", "kosmos-2", "vipllava", "xclip"], CLIPImageProcessor),
    **dict.fromkeys(["convnext", "convnextv2", "cvt", "regnet", "resnet", "van"], ConvNextImageProcessor),
    **dict.fromkeys(["depth_anything", "dpt"], DPTImageProcessor),
    "deit": DeiTImageProcessor,
    **dict.fromkeys(["detr", "table-transformer"], DetrImageProcessor),
    **dict.fromkeys(["segformer", "upernet"], SegformerImageProcessor),
    **dict.fromkeys(["paligemma", "siglip"], SiglipImageProcessor),
    **dict.fromkeys(["clipseg", "dinat", "mgp-str", "nat", "swiftformer", "swin", "swinv2"], ViTImageProcessor),
    **dict.fromkeys(["vit", "vit_mae", "vit_msn"], ViTImageProcessor),
    **{kind: CLASSES[row.image_processor] for kind, row in ARCHITECTURES.items() if row.image_processor},
}


class AutoImageProcessor:
    """Finds the class of an image processor; there are no objects of this class."""

    def __init__(self):
        raise TypeError(
            "AutoImageProcessor makes no objects: call AutoImageProcessor.from_pretrained(folder or hub id)."
        )

    @staticmethod
    def from_pretrained(source: str | os.PathLike[str], **options: Any) -> ImageProcessor:
        """Reads an image processor of whichever class fits from a folder or the hub.

        See `ImageProcessor.from_pretrained`.
        """
        return ImageProcessor.from_pretrained(source, **options)

    @staticmethod
    def register(model_type: str | type, image_processor_class: type[ImageProcessor]):
        """Makes a class of one's own known, by its name and for a model type.

        Args:
            model_type: config.json's `model_type`, or a configuration class that has it.
            image_processor_class: a subclass of `ImageProcessor`.
        """
        MODEL_TYPES[model_type if isinstance(model_type, str) else model_type.model_type] = image_processor_class
        CLASSES[image_processor_class.__name__.removesuffix("Fast")] = image_processor_class


def choose_class(repository: Repository, stored: Mapping[str, Any], config: Any = None) -> type[ImageProcessor]:
    """The class for the image processor of a repository; see `base.choose_class`."""
    name = stored.get("image_processor_type") or stored.get("feature_extractor_type") or ""
    name = name.removesuffix("Fast").replace("FeatureExtractor", "ImageProcessor")
    return base.choose_class("image processor", name, repository, config, CLASSES, MODEL_TYPES)
