"""What transformers' wav2vec 2.0 does beyond a plain forward pass."""

from unittest import mock

import models
import numpy as np
import torch
from safetensors.torch import save_file
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices


def ctc(folder, cases):
    """losses.npz and gradients.npz, by case: logits, labels, lengths, blank, reduction, zero_infinity."""
    losses, gradients = {}, {}
    for index, (logits, labels, lengths, blank, reduction, zero_infinity) in enumerate(cases):
        logits, labels = torch.tensor(logits, requires_grad=True), torch.tensor(labels)
        counted = labels >= 0
        loss = torch.nn.functional.ctc_loss(
            logits.log_softmax(-1).transpose(0, 1), labels.masked_select(counted), torch.tensor(lengths),
            counted.sum(-1), blank=blank, reduction=reduction, zero_infinity=zero_infinity,
        )  # fmt: skip
        loss.backward()
        losses[str(index)], gradients[str(index)] = loss.detach().numpy(), logits.grad.numpy()
    np.savez(folder / "losses.npz", **losses)
    np.savez(folder / "gradients.npz", **gradients)


def adapters(folder, config, inputs, sizes):
    """A checkpoint of MMS and adapters beside it, {language: number of characters}; outputs.npz has logits by language.

    The first language has a .bin file, the others have safetensors.
    """
    model = models.build("Wav2Vec2ForCTC", config)
    model.save_pretrained(folder)
    generator = torch.Generator().manual_seed(1)
    for index, (language, size) in enumerate(sizes.items()):
        tensors = {name: torch.randn(each.shape, generator=generator) for name, each in model._get_adapters().items()}
        tensors["lm_head.weight"] = torch.randn(size, config["hidden_size"], generator=generator)
        tensors["lm_head.bias"] = torch.randn(size, generator=generator)
        if index:
            save_file(tensors, folder / f"adapter.{language}.safetensors")
        else:
            torch.save(tensors, folder / f"adapter.{language}.bin")
    kind, values, found = type(model), torch.tensor(inputs), {}
    with torch.no_grad():
        for language in sizes:
            other = kind.from_pretrained(
                folder, target_lang=language, ignore_mismatched_sizes=True, attn_implementation="eager"
            )
            found[language] = other.eval()(values).logits.numpy()
    np.savez(folder / "outputs.npz", **found)


def pretraining(folder, config, inputs):
    """A step of pre-training, with no noise in the quantizer: a checkpoint, inputs.npz, outputs.npz, gradients.npz."""
    model = models.build("Wav2Vec2ForPreTraining", config)
    model.save_pretrained(folder)
    generator = np.random.default_rng(0)
    arrays = {name: models._array(spec, generator) for name, spec in inputs.items()}
    np.savez(folder / "inputs.npz", **arrays)
    model.quantizer.train()
    with mock.patch.object(torch.Tensor, "exponential_", lambda tensor: tensor.fill_(1.0)):
        outputs = model(**models._tensors(arrays))
    outputs.loss.backward()
    np.savez(folder / "outputs.npz", **dict(models._parts(outputs)))
    found = {name: each.grad.numpy() for name, each in model.named_parameters() if each.grad is not None}
    np.savez(folder / "gradients.npz", **found)


def hidden_shares(shape, probability, length, least, real=None, draws=2000):
    """The mean share of hidden places, by place, and its standard deviation over calls."""
    np.random.seed(0)
    mask = None if real is None else torch.arange(shape[1])[None] < torch.tensor(real)[:, None]
    found = np.stack([_compute_mask_indices(shape, probability, length, mask, least) for _ in range(draws)])
    found = found if mask is None else found & mask.numpy()
    return {"by place": found.mean((0, 1)).tolist(), "deviation": float(found.mean((1, 2)).std())}
