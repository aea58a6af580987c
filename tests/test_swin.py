"""Swin against the reference: every head, every branch of the configuration."""

import keras
import numpy as np
import pytest

from keras_models import (
    AutoBackbone,
    AutoModelForImageClassification,
    SwinBackbone,
    SwinConfig,
    SwinForImageClassification,
    SwinForMaskedImageModeling,
    SwinModel,
    nn,
)
from tests import reference
from tests.parity import check, check_defaults, check_old_names, compare, flatten

# At 50 x 38 pixels the stages' maps are 13 x 10, 7 x 5 and 4 x 3 places.
TINY = {"image_size": 48, "embed_dim": 8, "depths": [2, 1, 2], "num_heads": [2, 4, 1], "window_size": 3, "mlp_ratio": 2}
PICTURES = {"pixel_values": {"shape": [2, 3, 50, 38]}}
MAPS = ("reshaped_hidden_states", "feature_maps", "reconstruction")
SMALL = {"depths": [2, 1], "num_heads": [2, 4]}  # two stages, where all is computed twice or for several sizes
OTHERS = {"window_size": 4, "qkv_bias": False, "layer_norm_eps": 0.1, "hidden_act": "relu"}
STAGES = {"out_features": ["stem", "stage1", "stage2", "stage3"]}


def tiny(**settings):
    return SwinConfig(**{**TINY, **settings})


def small(**settings):
    return tiny(**SMALL, **settings)


def pixels(*shape):
    return np.random.default_rng(0).normal(size=(*shape, 3)).astype("float32")


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({}, [2, 3, 50, 38]),
        ({**STAGES, "patch_size": [3, 5], "num_channels": 4, "image_size": [30, 60], "mlp_ratio": 1.5}, [1, 4, 43, 61]),
    ],
)
def test_bare_model(settings, shape):
    check("SwinModel", {**TINY, **settings}, {"pixel_values": {"shape": shape}}, pictures=MAPS)


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({"num_labels": 3}, [{"labels": [2, 0]}, {"labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]}]),
        ({**SMALL, **OTHERS, "num_labels": 1}, {"labels": [0.3, -1.2]}),
    ],
)
def test_classification(settings, labels):
    settings = {**TINY, "drop_path_rate": 0.0, **settings}
    check("SwinForImageClassification", settings, PICTURES, labels, pictures=MAPS)


def test_masked_image_modeling():
    settings = {**TINY, **SMALL, "image_size": 32, "encoder_stride": 8, "drop_path_rate": 0.0}
    hidden = np.random.default_rng(0).integers(0, 2, (2, 64)).tolist()
    inputs = {"pixel_values": {"shape": [2, 3, 32, 32]}, "bool_masked_pos": hidden}
    check("SwinForMaskedImageModeling", settings, inputs, {}, pictures=MAPS)
    inputs = {"pixel_values": {"shape": [1, 3, 29, 31]}}
    check("SwinForMaskedImageModeling", {**settings, "encoder_stride": 5}, inputs, pictures=MAPS)


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({**STAGES, "window_size": 5}, [2, 3, 33, 51]),  # the last map is 3 x 4
        ({**SMALL, "window_size": 8}, [1, 3, 9, 21]),
        ({**SMALL, "out_indices": [1], "window_size": 2}, [1, 3, 16, 32]),
    ],
)
def test_backbone(settings, shape):
    check("SwinBackbone", {**TINY, **settings}, {"pixel_values": {"shape": shape}}, pictures=MAPS)


@pytest.mark.parametrize("kind", [SwinModel, SwinBackbone])
def test_pictures_of_any_size(kind):
    model = randomized(kind(small(window_size=4)))
    for height, width in ((32, 32), (50, 43), (11, 70)):
        pictures = pixels(2, height, width)
        compare(flatten(model(pictures)), flatten(model.infer(pictures)), 1e-5)


def test_a_window_shrinks_to_a_smaller_map():
    """As if the model had been made with windows of that size and the middle of its tables."""
    model = randomized(SwinModel(tiny(depths=[2], num_heads=[2], window_size=5)))
    other = SwinModel(tiny(depths=[2], num_heads=[2], window_size=3))
    for target, source in zip(other.variables, model.variables, strict=True):
        value = keras.ops.convert_to_numpy(source)
        if target.shape != source.shape:
            value = value.reshape(9, 9, 2)[2:7, 2:7].reshape(25, 2)
        target.assign(value)
    pictures = pixels(2, 12, 33)
    expected = flatten(other(pictures))
    compare(expected, flatten(model(pictures)), 1e-5)
    compare(expected, flatten(model.infer(pictures)), 1e-5)


def test_absolute_embeddings(tmp_path):
    """The reference has a class token's position among them, and so cannot add them up."""
    settings = {"depths": [1], "num_heads": [2], "image_size": [48, 36]}
    model = randomized(SwinModel(tiny(**settings, use_absolute_embeddings=True)))
    model.save_pretrained(tmp_path)
    model, plain = SwinModel.from_pretrained(tmp_path), SwinModel(tiny(**settings))
    shared = [each for each in model.variables if each is not model.embeddings.position_embeddings]
    for target, source in zip(plain.variables, shared, strict=True):
        target.assign(source)
    table = np.random.default_rng(0).normal(size=(1, 1 + 12 * 9, 8)).astype("float32")

    def added(pictures, **flags):
        """What is different with positions."""
        with_positions, without = (
            each.infer(pictures, output_hidden_states=True, **flags).hidden_states[0] for each in (model, plain)
        )
        return with_positions - without

    model.embeddings.position_embeddings.assign(table)
    np.testing.assert_allclose(added(pixels(1, 48, 36)), table[:, 1:], atol=1e-5)
    other = pixels(1, 33, 50)
    with pytest.raises(ValueError, match="of 33 x 50 pixels and the model takes 48 x 36: .*interpolate_pos_encoding"):
        model(other)
    resized = nn.resize(keras.ops.convert_to_tensor(table[:, 1:].reshape(1, 12, 9, 8)), (9, 13), "bicubic")
    resized = keras.ops.convert_to_numpy(resized).reshape(1, 9 * 13, 8)
    np.testing.assert_allclose(added(other, interpolate_pos_encoding=True), resized, atol=1e-5)


def test_masked_rectangles():
    model = randomized(SwinForMaskedImageModeling(small(encoder_stride=8)))
    for rows, columns in ((8, 16), (10, 4)):
        pictures = pixels(2, 4 * rows, 4 * columns)
        hidden = np.random.default_rng(0).integers(0, 2, (2, rows * columns))
        found = model.infer(pictures, hidden)
        places = hidden.reshape(2, rows, columns).repeat(4, axis=1).repeat(4, axis=2).astype(bool)
        expected = np.abs(found.reconstruction - pictures)[places].mean()
        np.testing.assert_allclose(found.loss, expected, rtol=1e-4)


def test_paths_are_dropped_more_and_more():
    keras.utils.set_random_seed(0)
    model = randomized(SwinModel(tiny(drop_path_rate=0.5)))
    rates = [block.drop_path.rate for stage in model.encoder.layers_ for block in stage.blocks]
    np.testing.assert_allclose(rates, [0.0, 0.125, 0.25, 0.375, 0.5])
    pictures = np.repeat(pixels(1, 32, 32), 16, axis=0)
    trained, plain = (
        keras.ops.convert_to_numpy(model(pictures, training=training).last_hidden_state) for training in (True, False)
    )
    assert np.ptp(plain, axis=0).max() < 1e-4 < np.ptp(trained, axis=0).max()


def test_training():
    keras.utils.set_random_seed(0)
    model = SwinForImageClassification(small(num_labels=2))
    pictures = pixels(8, 40, 32) * 0.1
    pictures[4:] += 1.0
    model.compile(keras.optimizers.Adam(1e-2), metrics=["accuracy"])
    history = model.fit(pictures, np.repeat([0, 1], 4), epochs=6, batch_size=4, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]


def test_a_checkpoint_of_a_head_becomes_a_backbone(tmp_path):
    model = randomized(SwinForImageClassification(small()))
    model.save_pretrained(tmp_path)
    assert isinstance(AutoModelForImageClassification.from_pretrained(tmp_path), SwinForImageClassification)
    with pytest.warns(UserWarning, match="hidden_states_norms.stage1.weight.* newly initialised"):
        backbone = AutoBackbone.from_pretrained(tmp_path, out_features=["stage1", "stage2"])
    assert isinstance(backbone, SwinBackbone)
    assert (backbone.channels, backbone.out_indices) == ([8, 16], [1, 2])
    with pytest.warns(UserWarning, match=r"decoder.0.weight.* newly initialised"):
        SwinForMaskedImageModeling.from_pretrained(tmp_path, encoder_stride=8).save_pretrained(tmp_path / "masked")
    with pytest.warns(UserWarning, match="classifier.weight"):
        SwinForImageClassification.from_pretrained(tmp_path / "masked")
    pictures = pixels(1, 50, 70)
    last = model.infer(pictures, output_hidden_states=True).reshaped_hidden_states[-1]
    found = backbone.infer(pictures).feature_maps[-1]
    expected = (last - last.mean(-1, keepdims=True)) / np.sqrt(last.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_files_without_the_index_of_offsets(tmp_path):
    case = {"architecture": "SwinModel", "config": TINY, "inputs": PICTURES, "labels": None, "save": {}}
    folder = reference.make("models.checkpoint", **case)

    def drop(tensors):
        return {name: array for name, array in tensors.items() if not name.endswith("relative_position_index")}

    assert check_old_names("SwinModel", folder, tmp_path / "old", drop, pictures=MAPS) == []


@pytest.mark.parametrize(("kind", "output"), [(SwinBackbone, "feature_maps"), (SwinForImageClassification, "logits")])
def test_a_functional_model_takes_pictures_of_any_size(kind, output):
    model = kind(small(out_indices=[1, 2], num_labels=16))
    inputs = keras.Input((None, None, 3))
    outputs = model(inputs)
    assert keras.tree.flatten(outputs[output])[-1].shape[-1] == 16
    functional = keras.Model(inputs, outputs[output])
    pictures = pixels(1, 50, 38)
    compare(flatten({"x": model.infer(pictures)[output]}), flatten({"x": functional(pictures)}), 1e-5)


def test_configuration():
    check_defaults("SwinConfig")
    written = {"model_type": "swin", "path_norm": True, "hidden_size": 1, "num_layers": 9, "embed_dim": 12}
    config = SwinConfig.from_dict(written)
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (96, 4, [3, 6, 12, 24])
    written = config.to_dict()
    assert (written["hidden_size"], written["num_layers"], written["path_norm"]) == (96, 4, True)
    with pytest.raises(ValueError, match=r"depths=\[1, 2\] must have a number for each stage"):
        SwinConfig(depths=[1, 2])
    with pytest.raises(ValueError, match=r"sizes \[8, 16, 32\], .* must be multiples of num_heads=\[2, 3, 4\]"):
        tiny(num_heads=[2, 3, 4])


def test_wrong_inputs_are_refused():
    hidden = np.zeros((1, 80))
    with pytest.raises(ValueError, match=r"shape \(1, 3, 32, 32\).*channels last; turn it with"):
        SwinModel(tiny())(np.zeros((1, 3, 32, 32)))
    with pytest.raises(ValueError, match="needs a model with a mask token: make it with use_mask_token=True"):
        SwinModel(tiny())(pixels(1, 32, 40), hidden)
    model = SwinModel(small(), use_mask_token=True)
    assert tuple(model(pixels(1, 31, 37), hidden).last_hidden_state.shape) == (1, 20, 16)
    with pytest.raises(ValueError, match=r"shape \(1, 80\), but the pictures have 8 x 8 patches: give \(batch, 64\)"):
        model(pixels(1, 31, 32), hidden)
    with pytest.raises(
        ValueError, match="needs an encoder_stride of 16, the patch_size doubled at each .* not 8: only"
    ):
        SwinForMaskedImageModeling(tiny(encoder_stride=8))(pixels(1, 32, 40), hidden)
    with pytest.raises(ValueError, match="needs pictures of multiples of 16 pixels, not of 32 x 40: resize them"):
        SwinForMaskedImageModeling(tiny(encoder_stride=16))(pixels(1, 32, 40), hidden)


def randomized(model):
    """With random numbers in all that starts at 0, such as the tables of biases."""
    generator = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(variable + generator.normal(size=variable.shape) * 0.2)
    return model
