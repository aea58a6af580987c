"""What pipelines make of pictures, with tiny random models."""

import json

import models
import numpy as np
import torch
import transformers
from PIL import Image


def run(folder, task, architecture, config, processor, settings, pictures, cases):
    """Writes a checkpoint with its image processor, and results.json: the results of the cases, in order.

    Args:
        task: the pipeline's.
        architecture: the model's class.
        config: settings of its configuration.
        processor: the class of its image processor, and `settings` of that.
        pictures: paths.
        cases: lists of a list of numbers of pictures (or a single one) and keyword arguments of the call.
    """
    if "backbone_config" in config:
        config = config | {"backbone_config": transformers.ResNetConfig(**config["backbone_config"])}
    model = models.build(architecture, config)
    if hasattr(model, "class_labels_classifier"):
        with torch.no_grad():  # scores that differ, or else there is nothing to find
            model.class_labels_classifier.weight.mul_(4.0)
    model.save_pretrained(folder)
    processor = getattr(transformers, processor)(**settings)
    processor.save_pretrained(folder)
    pipe = transformers.pipeline(task, model=model, image_processor=processor)
    results = []
    for chosen, options in cases:
        one = isinstance(chosen, int)
        found = pipe([pictures[index] for index in ([chosen] if one else chosen)], **options)
        results.append(found[0] if one else found)
    (folder / "results.json").write_text(json.dumps(results, default=_plain))


def _plain(value):
    """Masks become the numbers of their pixels, run by run, and their size."""
    if isinstance(value, Image.Image):
        flat = np.asarray(value).ravel()
        ends = np.flatnonzero(np.diff(flat)) + 1
        return {"size": value.size, "first": int(flat[0]), "ends": ends.tolist()}
    return value.tolist() if hasattr(value, "tolist") else value.item()


def classify(source, pictures):
    """What a real classifier sees in pictures."""
    processor = transformers.AutoImageProcessor.from_pretrained(source, use_fast=False)
    return transformers.pipeline("image-classification", model=source, image_processor=processor)(pictures)
