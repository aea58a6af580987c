"""What the reference's image processors (those on Pillow and numpy) make of pictures, annotations and outputs."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

IMAGES = Path(__file__).resolve().parents[3] / "shared" / "data" / "images"


def picture(spec):
    """A picture by its name in the shared folder, or a random one: {"shape", "kind", "seed"}.

    The kinds: a PIL image "pil", or an array of bytes "bytes", of floats from 0 to 1 "unit", of whole floats "whole".
    """
    if isinstance(spec, str):
        return Image.open(IMAGES / spec).convert("RGB")
    random = np.random.default_rng(spec.get("seed", 0))
    values = random.integers(0, 256, spec["shape"], dtype=np.uint8)
    match spec.get("kind", "pil"):
        case "pil":
            return Image.fromarray(values)
        case "unit":
            return random.random(spec["shape"], dtype=np.float32)
        case "whole":
            return values.astype(np.float32)
        case "bytes":
            return values


def class_map(shape, seed=0, high=256):
    """Random class ids in patches, so that resizing keeps them recognizable."""
    small = np.random.default_rng(seed).integers(0, high, [-(-edge // 5) for edge in shape])
    return np.kron(small, np.ones((5, 5), int))[: shape[0], : shape[1]].astype("uint8" if high <= 256 else "int32")


def draws(shape, seed=0, scale=1.0):
    """Random normal numbers."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def masks(batch, queries, size, seed=0):
    """Logits of masks with one blob a query, some of which overlap."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    centers = random.random((batch, queries, 2, 1, 1)) * np.asarray(size)[:, None, None]
    radii = (0.1 + 0.3 * random.random((batch, queries, 1, 1))) * max(size)
    distance = np.hypot(y - centers[:, :, 0], x - centers[:, :, 1])
    return ((radii - distance) + random.standard_normal((batch, queries, *size))).astype(np.float32)


def processed(folder, name, settings, pictures, options, maps=None):
    """Every output of a processor for pictures, channels last."""
    processor = _processor(name, settings)
    options = dict(options) | ({"segmentation_maps": [class_map(*each) for each in maps]} if maps else {})
    given = [picture(spec) for spec in pictures]
    outputs = dict(processor(given, **options))
    outputs["pixel_values"] = np.stack([value.transpose(1, 2, 0) for value in outputs["pixel_values"]])
    np.savez(folder / "outputs.npz", **{name: np.asarray(value) for name, value in outputs.items()})


def saved(folder, name, settings, auto=False):
    """The file that a processor writes whose file has these settings."""
    import transformers

    (folder / "given").mkdir()
    (folder / "given" / "preprocessor_config.json").write_text(json.dumps(settings))
    kind = transformers.AutoImageProcessor if auto else getattr(transformers, name)
    options = {"use_fast": False} if auto else {}
    kind.from_pretrained(folder / "given", **options).save_pretrained(folder / "saved")


def read_back(into, source, pictures):
    """Writes into a folder what the processor in another makes of pictures."""
    import transformers

    folder = Path(into)
    processor = transformers.AutoImageProcessor.from_pretrained(source, use_fast=False)
    values = [value.transpose(1, 2, 0) for value in processor([picture(spec) for spec in pictures])["pixel_values"]]
    np.savez(folder / "outputs.npz", pixel_values=np.stack(values))
    (folder / "kind.txt").write_text(type(processor).__name__)


def annotated(folder, pictures, annotations, settings, options):
    """Labels of annotated pictures, one file a picture."""
    folder = Path(folder)
    processor = _processor("DetrImageProcessor", settings)
    options = {"return_tensors": "np"} | options
    outputs = processor([picture(spec) for spec in pictures], annotations=annotations, **options)
    for number, label in enumerate(outputs["labels"]):
        np.savez(folder / f"{number}.npz", **{name: np.asarray(value) for name, value in label.items()})
    if "pixel_mask" in outputs:
        np.save(folder / "pixel_mask.npy", outputs["pixel_mask"])


def drawn(folder, segmentations, size):
    """Masks of polygons and run lengths, by pycocotools, and their compressed run lengths."""
    from pycocotools import mask as coco

    pictures, texts = [], []
    for each in segmentations:
        runs = coco.frPyObjects(each, *size)
        runs = coco.merge(runs) if isinstance(runs, list) else runs
        pictures.append(coco.decode(runs))
        texts.append(runs["counts"].decode())
    np.savez(folder / "masks.npz", masks=np.stack(pictures))
    (folder / "compressed.json").write_text(json.dumps(texts))


def interpolated(folder, shape, size, mode):
    """PyTorch's resizing of random numbers (..., height, width)."""
    import torch

    options = {} if mode == "nearest" else {"align_corners": False}
    values = torch.from_numpy(draws(shape))
    np.save(folder / "values.npy", torch.nn.functional.interpolate(values, size=size, mode=mode, **options))


def post_processed(folder, name, method, outputs, options):
    """What a processor makes of outputs: {"logits": ["draws", arguments ...] ...}; results as JSON and arrays."""
    import torch

    tensors = {key: torch.from_numpy(globals()[kind](**arguments)) for key, (kind, arguments) in outputs.items()}
    results = getattr(_processor(name, {}), method)(SimpleNamespace(**tensors), **options)
    plain = []
    for number, result in enumerate(results):
        result = result if isinstance(result, dict) else {"map": result}
        for key, value in result.items():
            if isinstance(value, torch.Tensor):
                np.save(folder / f"{number}-{key}.npy", value)
        plain.append({key: _plain(value) for key, value in result.items() if not isinstance(value, torch.Tensor)})
    (folder / "results.json").write_text(json.dumps(plain))


def _processor(name, settings):
    import transformers

    return getattr(transformers, name)(**settings)


def _plain(value):
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.item() if hasattr(value, "item") else value
