"""What transformers' T5 does beyond a plain forward pass."""

import models
import numpy as np
import torch
from transformers.models.t5.modeling_t5 import T5Attention


def buckets(cases, reach):
    """The buckets of all distances from -reach to reach; cases are (count, furthest, both ways)."""
    distances = torch.arange(-reach, reach + 1)
    return [T5Attention._relative_position_bucket(distances, both, n, far).tolist() for n, far, both in cases]


def overflow(folder, config, inputs, scale):
    """A checkpoint and outputs.npz of a model all in float16 with weights large enough to overflow."""
    model = models.build("T5Model", config)
    for name, parameter in model.named_parameters():
        parameter.data.mul_(scale if name.endswith("wo.weight") else 1.0)
    model.half().save_pretrained(folder)
    with torch.no_grad():
        outputs = model(**{name: torch.tensor(value) for name, value in inputs.items()}, output_hidden_states=True)
    found = {
        f"{name}.{index}": each.numpy()
        for name in ("encoder_hidden_states", "decoder_hidden_states")
        for index, each in enumerate(outputs[name])
    }
    np.savez(folder / "outputs.npz", **found)
