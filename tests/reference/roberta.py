"""What transformers' RoBERTa does with a cache."""

import models
import numpy as np
import torch


def continued(folder, config, ids, mask, start):
    """A checkpoint of a language model, and logits.npy: of tokens from `start` on, those before them in the cache."""
    model = models.build("RobertaForCausalLM", config)
    model.save_pretrained(folder)
    ids, mask = torch.tensor(ids), torch.tensor(mask)
    with torch.no_grad():
        cache = model(input_ids=ids[:, :start], attention_mask=mask[:, :start], use_cache=True).past_key_values
        outputs = model(input_ids=ids[:, start:], attention_mask=mask, past_key_values=cache)
    np.save(folder / "logits.npy", outputs.logits.numpy())
