"""Tiny random checkpoints of transformers, with everything they compute."""

import json
import os

import numpy as np
import torch
import transformers

torch.set_num_threads(1)


def checkpoint(folder, architecture, config, inputs, labels=None, save=None, seed=0):
    """Writes a checkpoint of random numbers, and inputs.npz, outputs.npz, and with labels losses.npz and gradients.npz.

    Args:
        architecture: the class in transformers.
        config: settings of its configuration.
        inputs: {name: nested list | {"shape": [...]} for normal numbers | {"shape": [...], "high": n} for integers}.
        labels: the same for labels; a list of such dictionaries gives several losses, gradients of the first.
        save: keyword arguments of save_pretrained.
    """
    model = build(architecture, config, seed)
    model.save_pretrained(folder, **(save or {}))
    generator = np.random.default_rng(seed)
    arrays = {name: _array(spec, generator) for name, spec in inputs.items()}
    np.savez(folder / "inputs.npz", **arrays)
    np.savez(folder / "outputs.npz", **_outputs(model, arrays))
    losses = {}
    for index, each in enumerate([labels] if isinstance(labels, dict) else labels or []):
        targets = {name: _label(spec, generator) for name, spec in each.items()}
        np.savez(folder / f"labels-{index}.npz", **dict(_parts(targets)))
        model.zero_grad()
        model.config.problem_type = config.get("problem_type")
        outputs = model(**_tensors(arrays), **_tensors(targets))
        outputs.loss.backward()
        losses[f"loss-{index}"] = outputs.loss.detach().numpy()
        more = {name: outputs[name] for name in ("loss_dict", "auxiliary_outputs") if name in outputs}
        losses |= {f"{name}-{index}": value for name, value in _parts(more)}
        if index == 0:
            if _uses_batch_statistics(model):  # as training does
                model.zero_grad()
                model(**_tensors(arrays), **_tensors(targets)).loss.backward()
            found = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
            np.savez(folder / "gradients.npz", **found)
    np.savez(folder / "losses.npz", **losses)


def _uses_batch_statistics(model):
    """Puts batch normalizations, and nothing else, into training; tells whether there are any."""
    norms = [each for each in model.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    for each in norms:
        each.train()
    return bool(norms)


def build(architecture, config, seed=0):
    """A model in eval mode, all of whose parameters and buffers of statistics are drawn anew."""
    kind = getattr(transformers, architecture)
    torch.manual_seed(seed)
    model = kind(kind.config_class(**config, attn_implementation="eager")).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.5 if parameter.ndim < 2 else 1.5 * parameter[0].numel() ** -0.5
            parameter.normal_(0.0, scale)
            if parameter.ndim < 2 and name.endswith("weight"):
                parameter.add_(1.0)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0.0, 0.5)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return model


def forward(architecture, checkpoint, inputs):
    """What transformers computes from a folder that we wrote, as outputs.npz in it; returns what was missing."""
    kind = getattr(transformers, architecture)
    model, report = kind.from_pretrained(checkpoint, output_loading_info=True, attn_implementation="eager")
    with np.load(inputs) as arrays:
        np.savez(os.path.join(checkpoint, "outputs.npz"), **_outputs(model.eval(), dict(arrays)))
    return json.loads(json.dumps({key: sorted(map(str, names)) for key, names in report.items()}))


def _outputs(model, arrays):
    flags = {"output_hidden_states": True, "output_attentions": True}
    if type(model).__name__.startswith("ResNet"):
        del flags["output_attentions"]  # it has none, and does not take the question
    with torch.no_grad():
        outputs = model(**_tensors(arrays), **flags)
    return dict(_parts(outputs))


def _parts(outputs, prefix=""):
    """(name, array) of all tensors; the parts of tuples and dictionaries are called name.0, name.key."""
    for name, value in outputs.items() if hasattr(outputs, "items") else enumerate(outputs):
        if isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value.detach().numpy()
        elif isinstance(value, np.ndarray):
            yield f"{prefix}{name}", value
        elif isinstance(value, (tuple, list, dict)):
            yield from _parts(value, f"{prefix}{name}.")


def _tensors(arrays):
    return {name: _tensor(array) for name, array in arrays.items()}


def _tensor(value):
    if isinstance(value, list):  # a dictionary of arrays for each picture
        return [_tensors(each) for each in value]
    return bool(value) if value.dtype == bool and value.ndim == 0 else torch.from_numpy(np.asarray(value))


def _label(spec, generator):
    if isinstance(spec, list) and spec and isinstance(spec[0], dict):
        return [{name: _array(each, generator) for name, each in picture.items()} for picture in spec]
    return _array(spec, generator)


def _array(spec, generator):
    if not isinstance(spec, dict):
        array = np.array(spec)
        return array.astype(np.float32) if array.dtype.kind == "f" else array
    if "high" in spec:
        return generator.integers(spec.get("low", 0), spec["high"], spec["shape"])
    return generator.normal(size=spec["shape"]).astype(np.float32)
