"""One check for every model: it computes, learns, saves and restores exactly what the reference does."""

import json
import shutil
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np

import keras_models
from keras_models.checkpoint import open_checkpoint, save_weights
from keras_models.checkpoint.names import by_variable, entries
from keras_models.config import Config
from tests import reference

TOLERANCE = 1e-4
FLAGS = {"output_hidden_states": True, "output_attentions": True}


def check(
    architecture, config, inputs, labels=None, tolerance=TOLERANCE, pictures=(), module="models", extra=(), **save
):
    """Compares our class of this name with the reference's on a tiny random checkpoint.

    All outputs, hidden states and attentions; all losses; gradients of the first loss for every variable; a compiled
    pass and an eager one; what we save, re-read by the reference; a round trip through a `.keras` file.

    Args:
        architecture, config, inputs, labels, save: see tests/reference/models.py.
        tolerance: absolute, on values of order one.
        pictures: outputs whose channels the reference has first, as it has those of pixel_values.
        module: in tests/reference, that has `checkpoint` and `forward`.
        extra: outputs of ours, or parts of them, that the reference does not have.
    """
    folder = reference.make(
        f"{module}.checkpoint", architecture=architecture, config=config, inputs=inputs, labels=labels, save=save
    )
    model = load(architecture, folder)
    arrays = inputs_of(folder)
    expected = channels_last(dict(np.load(folder / "outputs.npz")), pictures)
    compare(expected, without(extra, model(**arrays, **FLAGS)), tolerance)
    compare(expected, without(extra, model.infer(**arrays, **FLAGS)), tolerance)
    check_saving(model, architecture, folder, tolerance, module)
    check_keras_file(model, arrays, expected, tolerance, extra)
    if labels is not None:
        check_losses(model, folder, arrays, tolerance)
        check_gradients(model, folder, arrays, tolerance)
    return model


def load(architecture, folder):
    """The model, with no warning of tensors that are missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return getattr(keras_models, architecture).from_pretrained(folder)


def inputs_of(folder):
    """The inputs of a reference checkpoint as our models take them; flags are no arrays."""
    arrays = channels_last(dict(np.load(folder / "inputs.npz")), ("pixel_values",))
    return {name: bool(array) if array.dtype == bool and array.ndim == 0 else array for name, array in arrays.items()}


def labels_of(folder, index):
    """Labels of a reference checkpoint; name.0.key are those of the first picture."""
    labels = {}
    for name, array in np.load(folder / f"labels-{index}.npz").items():
        name, *place = name.split(".")
        if not place:
            labels[name] = array
            continue
        pictures = labels.setdefault(name, [])
        pictures += [{} for _ in range(int(place[0]) + 1 - len(pictures))]
        pictures[int(place[0])][place[1]] = array
    return labels


def channels_last(arrays, names):
    """Arrays of which those called so, or so and a number, have their channels last instead of third from the end."""
    moved = {name for name in arrays if set(names) & {name, name.split(".")[0], name.rsplit(".", 1)[-1]}}
    moved = {name for name in moved if arrays[name].ndim > 3}
    return {name: np.moveaxis(array, -3, -1) if name in moved else array for name, array in arrays.items()}


def flatten(outputs):
    """Outputs as arrays by name; the parts of a tuple as name.0, name.1 ..."""
    found = {}
    for name, value in outputs.items():
        if isinstance(value, dict):
            parts = flatten({f"{name}.{key}": part for key, part in value.items()})
        elif isinstance(value, (tuple, list)):
            parts = flatten({f"{name}.{index}": part for index, part in enumerate(value)})
        else:
            parts = {name: keras.ops.convert_to_numpy(value)}
        found |= parts
    return found


def compare(expected, found, tolerance=TOLERANCE):
    """Asserts that two dictionaries of arrays have the same names, shapes and values."""
    assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())
    for name, array in expected.items():
        assert found[name].shape == array.shape, (name, found[name].shape, array.shape)
        np.testing.assert_allclose(found[name], array, rtol=0, atol=tolerance, err_msg=name)


def check_losses(model, folder, arrays, tolerance):
    for name, loss in np.load(folder / "losses.npz").items():
        name, index = name.rsplit("-", 1)
        labels = labels_of(folder, index)
        found = flatten(model(**arrays, **labels))[name]
        np.testing.assert_allclose(found, loss, rtol=0, atol=tolerance, err_msg=f"{name} of {list(labels)}")


def check_gradients(model, folder, arrays, tolerance):
    """One step of plain gradient descent moves every variable by the reference's gradient."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    labels = labels_of(folder, 0)
    before = {group[0].key: group[0].array().copy() for group in by_variable(entries(model))}
    model.compile(keras.optimizers.SGD(1.0), jit_compile=keras.config.backend() == "jax")
    model.train_on_batch({**arrays, **labels})
    gradients = dict(np.load(folder / "gradients.npz"))
    for group in by_variable(entries(model)):
        if group[0].variable.trainable:
            gradient = next((gradients.pop(each.key) for each in group if each.key in gradients), 0.0)
            moved = before[group[0].key] - group[0].array()
            scale = max(1.0, float(np.abs(gradient).max()))
            np.testing.assert_allclose(moved / scale, gradient / scale, rtol=0, atol=tolerance, err_msg=group[0].key)
    assert not gradients, f"the reference also trains {sorted(gradients)}"


def check_saving(model, architecture, folder, tolerance, module="models"):
    """The reference reads what we write, finds nothing missing or left over, and computes the same."""
    with tempfile.TemporaryDirectory() as saved:
        model.save_pretrained(saved)
        theirs, ours = (json.loads((Path(each) / "config.json").read_text()) for each in (folder, saved))
        assert changed(theirs, ours) == {}
        report = reference.call(
            f"{module}.forward", architecture=architecture, checkpoint=saved, inputs=str(folder / "inputs.npz")
        )
        assert report["missing_keys"] == report["unexpected_keys"] == report["mismatched_keys"] == [], report
        compare(dict(np.load(folder / "outputs.npz")), dict(np.load(Path(saved) / "outputs.npz")), tolerance)
        stored = set(open_checkpoint(Path(saved) / "model.safetensors"))
        if (folder / "model.safetensors").exists():
            assert stored == set(open_checkpoint(folder / "model.safetensors"))


def changed(theirs, ours):
    """What is in both configurations, and differs."""
    found = {}
    for key in theirs.keys() & ours.keys() - {"dtype"}:
        nested = key.endswith("_config") and isinstance(theirs[key], dict)
        if changed(theirs[key], ours[key]) if nested else theirs[key] != ours[key]:
            found[key] = (theirs[key], ours[key])
    return found


def without(names, outputs):
    """Outputs as arrays by name, some of them, or parts such as text_model_output.attentions, left out."""
    arrays = flatten(outputs)
    return {name: arrays[name] for name in arrays if not f"{name}.".startswith(tuple(f"{each}." for each in names))}


def check_keras_file(model, arrays, expected, tolerance, extra):
    with tempfile.TemporaryDirectory() as saved:
        path = Path(saved) / "model.keras"
        model.save(path)
        compare(expected, without(extra, keras.saving.load_model(path)(**arrays, **FLAGS)), tolerance)


def check_defaults(config, extra=()):
    """The configuration class of this name has the reference's settings, with its defaults, under its common names.

    Configurations of parts have checks of their own.

    Args:
        extra: settings that the reference reads from files but has no default for.
    """
    kind = getattr(keras_models, config)
    expected = reference.call("text_models.defaults", config=config)
    own = set(kind.field_names()) - set(Config.field_names()) - set(kind.parts) - set(extra)
    assert own <= set(expected["settings"]), own - set(expected["settings"])
    found = kind().to_dict()
    assert {name: expected["settings"][name] for name in own} == {name: found[name] for name in own}
    special = [name for name in Config.field_names() if name.endswith("_token_id")]
    assert {name: expected["settings"][name] for name in special} == {name: getattr(kind(), name) for name in special}
    assert kind.attribute_map == expected["map"]


def rewrite(folder, target, change):
    """A copy of a checkpoint whose tensors went through `change`, a function of a dictionary of arrays."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.npz", "*.safetensors"))
    tensors = change({name: tensor.read() for name, tensor in open_checkpoint(folder / "model.safetensors").items()})
    save_weights([(name, a.shape, a.dtype, lambda a=a: a) for name, a in tensors.items()], target)
    return target


def check_old_names(architecture, folder, target, change, pictures=()):
    """A reference checkpoint whose tensors went through `change` loads without a warning and computes the same.

    Returns:
        The names of tensors that the model has no place for.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        source = rewrite(folder, target, change)
        model, report = getattr(keras_models, architecture).from_pretrained(source, output_loading_info=True)
    expected = channels_last(dict(np.load(folder / "outputs.npz")), pictures)
    compare(expected, flatten(model(**inputs_of(folder), **FLAGS)))
    assert report["missing_keys"] == report["mismatched_keys"] == []
    return sorted(report["unexpected_keys"])
