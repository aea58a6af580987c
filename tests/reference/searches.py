"""Assisted decoding."""

import numpy as np
import torch
from models import build

INPUTS = ("input_ids", "attention_mask", "decoder_input_ids")
torch.set_num_threads(1)


def assisted(folder, architecture, config, noise, cases):
    """Writes a model, as model/, one that is much like it, as draft/, and what `generate` returns, as CASE.npz.

    Args:
        architecture: the class in transformers.
        config: settings of its configuration.
        noise: how much the two differ, relative to the size of each tensor.
        cases: name -> keyword arguments of `generate`; assistant=True stands for the other model.
    """
    model, draft = build(architecture, config), build(architecture, config)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter.add_(torch.randn_like(parameter) * parameter.std() * noise)
    model.save_pretrained(folder / "model")
    draft.save_pretrained(folder / "draft")
    for name, arguments in cases.items():
        options = {key: torch.tensor(value) if key in INPUTS else value for key, value in arguments.items()}
        if options.pop("assistant", False):
            options["assistant_model"] = draft
        with torch.no_grad():
            outputs = model.generate(**options, return_dict_in_generate=True, output_scores=True)
        scores = torch.cat(outputs.scores)
        np.savez(folder / f"{name}.npz", sequences=outputs.sequences.numpy(), scores=scores.numpy())
