"""What transformers' Llama computes beside a forward pass: rotary tables, 16 bits, greedy continuations."""

import numpy as np
import torch
import transformers
from models import build
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

torch.set_num_threads(1)


def rotary(folder, config, positions):
    """Writes tables.npz: frequencies, cos and sin (length, size) of a fresh LlamaRotaryEmbedding at `positions`."""
    module = LlamaRotaryEmbedding(transformers.LlamaConfig(**config))
    cos, sin = module(torch.zeros(1), torch.tensor([positions]))
    np.savez(folder / "tables.npz", frequencies=module.inv_freq.numpy(), cos=cos[0].numpy(), sin=sin[0].numpy())


def half(folder, checkpoint, input_ids):
    """Writes logits.npy, (batch, length, vocabulary) in float32, of the checkpoint computed in bfloat16."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.bfloat16, attn_implementation="eager"
    )
    with torch.no_grad():
        np.save(folder / "logits.npy", model(torch.tensor(input_ids)).logits.float().numpy())


def continuation(folder, checkpoint, input_ids, steps):
    """Writes results.npz: the logits of a prompt, and of `steps` steps after it, each with the likeliest token."""
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, attn_implementation="eager").eval()
    tokens, cache, logits, chosen = torch.tensor([input_ids]), None, [], []
    with torch.no_grad():
        for _ in range(steps + 1):
            outputs = model(tokens, past_key_values=cache, use_cache=True)
            cache = outputs.past_key_values
            logits.append(outputs.logits[0].numpy())
            tokens = outputs.logits[:, -1:].argmax(-1)
            chosen.append(tokens.item())
    np.savez(folder / "results.npz", logits=np.concatenate(logits), ids=np.array(chosen))


def generated(folder, architecture, config, cases):
    """Writes a checkpoint of random numbers, and what `generate` returns for each case's arguments, as CASE.npy."""
    build(architecture, config).save_pretrained(folder)
    for name, case in cases.items():
        arguments = {key: torch.tensor(value) if isinstance(value, list) else value for key, value in case.items()}
        model = build(architecture, config)  # a fresh one, as it remembers the longest text
        np.save(folder / f"{name}.npy", model.generate(**arguments).numpy())
