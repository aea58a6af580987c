"""A small classifier with its tokenizer in several forms, and what transformers says of it."""

import json

import models
import torch
import transformers


def classifier(folder, config, tokenizer, settings, texts):
    """Writes single (safetensors), bin (.bin in shards), half (float16) and bare (the model without its head).

    facts.json tells about the first, and results.json holds the scores of all labels for each text.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer, **settings)
    model = models.build("BertForSequenceClassification", config | {"vocab_size": len(tokenizer)})
    pipe = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)
    (folder / "results.json").write_text(json.dumps(pipe(texts)))
    facts = {
        "parameters": model.num_parameters(),
        "tensors": len(model.state_dict()),
        "limit": tokenizer.model_max_length,
    }
    (folder / "facts.json").write_text(json.dumps(facts))
    model.save_pretrained(folder / "single")
    model.save_pretrained(folder / "bin", max_shard_size="1MB", safe_serialization=False)
    model.bert.save_pretrained(folder / "bare")
    model.to(torch.float16).save_pretrained(folder / "half")
    for name in ("single", "bin", "half", "bare"):
        tokenizer.save_pretrained(folder / name)
