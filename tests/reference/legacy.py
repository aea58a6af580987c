"""Searches that transformers 4.40 still has built in."""

import numpy as np
import torch
from models import build

INPUTS = ("input_ids", "attention_mask", "decoder_input_ids")
torch.set_num_threads(1)


def searches(folder, architecture, config, cases):
    """Writes a checkpoint of random numbers, and what `generate` returns, as CASE.npz.

    Args:
        architecture: the class in transformers.
        config: settings of its configuration.
        cases: name -> keyword arguments of `generate`; lists are inputs.
    """
    model = build(architecture, config)
    model.save_pretrained(folder)
    for name, arguments in cases.items():
        options = {key: torch.tensor(value) if key in INPUTS else value for key, value in arguments.items()}
        with torch.no_grad():
            outputs = model.generate(**options, return_dict_in_generate=True)
        np.savez(folder / f"{name}.npz", **dict(_flat(outputs)))


def _flat(outputs):
    """(name, array) of all tensors; the parts of tuples as name.0.1."""
    for name, value in outputs.items():
        yield from _parts(name, value) if name != "past_key_values" else ()


def _parts(name, value):
    if isinstance(value, tuple):
        for index, part in enumerate(value):
            yield from _parts(f"{name}.{index}", part)
    elif value is not None:
        yield name, value.numpy()
