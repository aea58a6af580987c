"""What real checkpoints write."""

import json

import torch
import transformers


def texts(folder, source, architecture, prompts, settings):
    """Writes tokens.json: what a checkpoint makes of each prompt (a list of tokens), with each of the settings."""
    model = getattr(transformers, architecture).from_pretrained(source).eval()
    found = []
    for options in settings:
        rows = [model.generate(torch.tensor([prompt]), **options)[0].tolist() for prompt in prompts]
        found.append(rows)
    (folder / "tokens.json").write_text(json.dumps(found))
