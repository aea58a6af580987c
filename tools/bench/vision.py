"""Forward passes of vision models and the preparation of pictures; see tasks.py."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

DETR = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None}
# task -> (class, settings of the configuration, {name of a measurement: shape of the pictures}, output to compare)
MODELS = {
    "vit": ("ViTForImageClassification", {}, {"1x224": (1, 224, 224), "8x224": (8, 224, 224)}, "logits"),
    "detr": ("DetrForObjectDetection", DETR, {"1x800x1066": (1, 800, 1066)}, "pred_boxes"),
    "segformer": ("SegformerForSemanticSegmentation", {"num_labels": 150}, {"1x512": (1, 512, 512)}, "logits"),
}
SIZES = [(800, 1066), (800, 1201), (1066, 800), (800, 1199), (800, 1333), (800, 1064), (1120, 800), (800, 1100)]
PHOTOS = {"640x480": (640, 480), "3000x2000": (3000, 2000)}
PROCESSORS = ("ViT", "CLIP", "Detr", "Segformer")


def make(task: str) -> Callable[[Path], None]:
    """A function that writes a checkpoint of random numbers, pictures, and what it computes of them."""
    architecture, settings, shapes, output = MODELS[task]

    def write(folder: Path):
        if (folder / task / "done").exists():
            return
        import numpy as np
        import torch
        import transformers

        torch.manual_seed(0)
        kind = getattr(transformers, architecture)
        if task == "detr":
            stages = ["stage1", "stage2", "stage3", "stage4"]
            settings["backbone_config"] = transformers.ResNetConfig(out_features=stages)
        model = kind(kind.config_class(**settings)).eval()
        model.save_pretrained(folder / task)
        sizes = {f"size {at}": (1, *size) for at, size in enumerate(SIZES)} if task == "detr" else {}
        for name, shape in {**shapes, **sizes}.items():
            pixels = np.random.default_rng(0).normal(size=(*shape, 3)).astype("float32")
            with torch.inference_mode():
                result = model(torch.from_numpy(pixels).permute(0, 3, 1, 2))[output].numpy()
            if output == "logits" and result.ndim == 4:
                result = np.moveaxis(result, 1, -1)
            np.savez(folder / f"{task}-{name}.npz", pixels=pixels, result=result)
        (folder / task / "done").touch()

    return write


def _load(name: str, task: str, folder: Path) -> Callable:
    """A function from pictures, channels last, to the output, as a user of this contestant would call it."""
    architecture, _, _, output = MODELS[task]
    if name == "transformers":
        import torch
        import transformers

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        model = getattr(transformers, architecture).from_pretrained(folder / task).eval()

        def run(pixels):
            with torch.inference_mode():  # the reference has its channels first: given so, without a copy to time
                found = model(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous())[output].numpy()
            return found.transpose(0, 2, 3, 1) if found.ndim == 4 else found

        return run
    import keras_models

    model = getattr(keras_models, architecture).from_pretrained(folder / task)
    return lambda pixels: model.infer(pixel_values=pixels)[output]


def start(task: str) -> Callable[[str, Path], Callable[[], dict]]:
    """A function that loads a model, compares what it computes, and returns what measures it once."""

    def begin(name: str, folder: Path) -> Callable[[], dict]:
        import numpy as np

        run = _load(name, task, folder)
        files = {shape: dict(np.load(folder / f"{task}-{shape}.npz")) for shape in MODELS[task][2]}
        before = time.perf_counter()
        for arrays in files.values():
            difference = np.abs(run(arrays["pixels"]) - arrays["result"]).max()
            if difference > 1e-3:
                raise SystemExit(f"{name} computes something else: {difference}")
        first = {"first_s": time.perf_counter() - before}
        if task == "detr":
            before = time.perf_counter()
            for at in range(len(SIZES)):
                arrays = dict(np.load(folder / f"{task}-size {at}.npz"))
                if np.abs(run(arrays["pixels"]) - arrays["result"]).max() > 1e-3:
                    raise SystemExit(f"{name} computes something else at {SIZES[at]}")
            first[f"{len(SIZES)} sizes, first time s"] = time.perf_counter() - before

        def measure() -> dict:
            times = dict(first)
            for shape, arrays in files.items():
                begun, work = time.perf_counter(), time.process_time()
                run(arrays["pixels"])
                times[f"{shape} s"] = time.perf_counter() - begun
                times[f"{shape} CPU s"] = time.process_time() - work
            return times

        return measure

    return begin


def make_photos(folder: Path):
    """Pictures of two sizes."""
    import numpy as np
    from PIL import Image

    for name, (width, height) in PHOTOS.items():
        rough = np.random.default_rng(0).integers(0, 256, (height // 20, width // 20, 3), "uint8")
        Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC).save(folder / f"photo-{name}.png")


def start_photos(name: str, folder: Path) -> Callable[[], dict]:
    """Milliseconds from a PIL image to what a model takes; transformers' processors are those of PIL and NumPy."""
    from PIL import Image

    photos = {shape: Image.open(folder / f"photo-{shape}.png").convert("RGB") for shape in PHOTOS}
    library = __import__("transformers" if name == "transformers" else "keras_models")
    processors = {kind: getattr(library, f"{kind}ImageProcessor")() for kind in PROCESSORS}

    def measure() -> dict:
        times = {}
        for kind, processor in processors.items():
            for shape, photo in photos.items():
                work = time.process_time()
                processor(photo, return_tensors="np")
                times[f"{kind} {shape} CPU ms"] = 1000 * (time.process_time() - work)
        return times

    measure()
    return lambda: {"first_s": 0.0, **measure()}
