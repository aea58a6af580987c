"""What the zero-shot pipeline makes of pictures, with tiny random models."""

import json
import warnings

import models
import transformers


def run(folder, architecture, config, tokenizer, source, processor, settings, pictures, cases):
    """Writes a checkpoint with tokenizer and image processor, and results.json: the results of the cases, in order.

    Args:
        architecture: the model's class.
        config: settings of its configuration.
        tokenizer: the class of its tokenizer, and the folder with its files in `source`.
        processor: the class of its image processor, and `settings` of that.
        pictures: paths.
        cases: lists of a list of numbers of pictures (or a single one), labels, and keyword arguments of the call.
    """
    warnings.simplefilter("ignore")
    model = models.build(architecture, config)
    tokenizer = getattr(transformers, tokenizer).from_pretrained(source)
    processor = getattr(transformers, processor)(**settings)
    for part in (model, tokenizer, processor):
        part.save_pretrained(folder)
    task = "zero-shot-image-classification"
    pipe = transformers.pipeline(task, model=model, tokenizer=tokenizer, image_processor=processor)
    results = []
    for chosen, labels, options in cases:
        one = isinstance(chosen, int)
        found = pipe([pictures[index] for index in ([chosen] if one else chosen)], labels, **options)
        results.append(found[0] if one else found)
    (folder / "results.json").write_text(json.dumps(results))


def failure(source, picture, labels):
    """What the pipeline says to labels that it cannot take."""
    processor = transformers.AutoImageProcessor.from_pretrained(source, use_fast=False)
    pipe = transformers.pipeline("zero-shot-image-classification", model=source, image_processor=processor)
    try:
        pipe(picture, labels)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
