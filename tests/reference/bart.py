"""What transformers' BART does beyond a plain forward pass."""

import models
import numpy as np
import torch
import transformers


def biased(folder, config, inputs):
    """A checkpoint of a language model whose final_logits_bias is not zero, inputs.npz and outputs.npz."""
    model = models.build("BartForConditionalGeneration", config)
    torch.nn.init.normal_(model.final_logits_bias)
    model.save_pretrained(folder)
    arrays = {name: np.array(value) for name, value in inputs.items()}
    np.savez(folder / "inputs.npz", **arrays)
    np.savez(folder / "outputs.npz", **models._outputs(model, arrays))


def greedy(checkpoint, texts):
    """What a real model writes behind each row of tokens, given by itself, up to its end."""
    model = transformers.BartForConditionalGeneration.from_pretrained(checkpoint).eval()
    return [model.generate(torch.tensor([row]), max_length=40, num_beams=1).tolist()[0] for row in texts]
