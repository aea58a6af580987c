"""What pipelines make of texts, with tiny random models and real tokenizers."""

import json

import models
import torch
import transformers


def run(folder, task, architecture, config, tokenizer, settings, cases):
    """Writes a checkpoint with its tokenizer, and results.json: the results of the cases, in order.

    Args:
        task: the pipeline's.
        architecture: the model's class.
        config: settings of its configuration; those of the vocabulary follow the tokenizer.
        tokenizer: a folder.
        settings: of the tokenizer, instead of those in the folder.
        cases: lists of arguments of a call, keyword arguments of it, and keyword arguments of `pipeline`.
    """
    kind = getattr(transformers, architecture)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer, config=kind.config_class(), **settings)
    settings = config | {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if "id2label" in config:
        settings["label2id"] = {label: int(index) for index, label in config["id2label"].items()}
    model = models.build(architecture, settings)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    results = []
    for arguments, options, making in cases:
        pipe = transformers.pipeline(task, model=model, tokenizer=tokenizer, **making)
        results.append(pipe(*arguments, **options))
    (folder / "results.json").write_text(json.dumps(results, default=_plain))


def features(folder, source, texts):
    """Writes features.json: the last hidden states of a real model for texts."""
    pipe = transformers.pipeline("feature-extraction", model=source)
    (folder / "features.json").write_text(json.dumps(pipe(texts)))


def _plain(value):
    return value.tolist() if isinstance(value, torch.Tensor) else value.item()
