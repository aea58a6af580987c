"""CLIP against the reference: both towers, each head, every branch of the configuration."""

import functools
import json
import re
import shutil

import h5py
import keras
import msgpack
import numpy as np
import pytest

import keras_models
from keras_models import AutoConfig, AutoModel, CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPVisionModel
from keras_models.checkpoint import open_checkpoint
from tests import reference
from tests.parity import FLAGS, check, check_defaults, check_old_names, compare, flatten, inputs_of, load
from tests.weight_files import flax_array

TEXT = {
    "vocab_size": 60, "hidden_size": 24, "intermediate_size": 40, "projection_dim": 12, "num_hidden_layers": 2,
    "num_attention_heads": 3, "max_position_embeddings": 10, "bos_token_id": 58, "eos_token_id": 59, "pad_token_id": 0,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 36, "projection_dim": 12, "num_hidden_layers": 3,
    "num_attention_heads": 2, "image_size": 20, "patch_size": 5,
}  # fmt: skip
EAGER = {"attn_implementation": "eager"}  # so that the reference returns attentions
TINY = {"text_config": {**TEXT, **EAGER}, "vision_config": {**VISION, **EAGER}, "projection_dim": 12}
TEXTS = {
    "input_ids": [[58, 3, 4, 59, 0, 0], [58, 9, 59, 59, 59, 59], [58, 20, 30, 40, 50, 59]],
    "attention_mask": [[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]],
}
PICTURES = {"pixel_values": {"shape": [2, 3, 20, 20]}}


def folder():
    """A whole model of the reference, with what it computes."""
    inputs = {**TEXTS, **PICTURES}
    return reference.make(
        "models.checkpoint", architecture="CLIPModel", config=TINY, inputs=inputs, labels=None, save={}
    )


def test_texts_and_pictures():
    check("CLIPModel", TINY, {**TEXTS, **PICTURES})


def test_pairs():
    pairs = {**TEXTS, "pixel_values": {"shape": [3, 3, 20, 20]}, "return_loss": True}
    check("CLIPModel", {**TINY, "logit_scale_init_value": 1.0}, pairs, {})


@pytest.mark.parametrize("name", ["CLIPTextModel", "CLIPTextModelWithProjection"])
def test_text_tower(name):
    check(name, TEXT, TEXTS)


@pytest.mark.parametrize(
    ("settings", "inputs"),
    [
        ({"eos_token_id": 2}, {"input_ids": [[58, 3, 2, 59, 0, 0], [58, 59, 2, 0, 59, 0]]}),
        ({"hidden_act": "gelu", "layer_norm_eps": 0.1}, {"input_ids": [[58, 3, 4, 59], [58, 5, 6, 7]]}),
        ({}, {"input_ids": [[58, 3, 4, 59]], "position_ids": [[5, 2, 9, 0]]}),
        ({}, {"input_ids": [[0, 0, 3, 59]], "attention_mask": [[1, 0, 1, 1]]}),
    ],
)
def test_texts(settings, inputs):
    check("CLIPTextModel", {**TEXT, **settings}, inputs)


@pytest.mark.parametrize("name", ["CLIPVisionModel", "CLIPVisionModelWithProjection"])
def test_vision_tower(name):
    check(name, VISION, PICTURES)


def test_other_pictures():
    settings = {**VISION, "hidden_act": "gelu", "num_channels": 1, "image_size": 23}
    pictures = {"pixel_values": {"shape": [2, 1, 23, 23]}}
    check("CLIPVisionModel", settings, pictures)
    large = {"vision_config": {**settings, **EAGER, "patch_size": 9}}  # patches that are cut without a convolution
    check("CLIPModel", {**TINY, **large}, {**TEXTS, **pictures})
    check("CLIPForImageClassification", {**TINY, **large}, pictures, {"labels": [1, 0]})


@pytest.mark.parametrize("shape", [[1, 3, 20, 20], [2, 3, 33, 20], [1, 3, 11, 47]])
def test_positions_for_other_sizes(shape):
    pictures = {"pixel_values": {"shape": shape}, "interpolate_pos_encoding": True}
    check("CLIPVisionModel", VISION, pictures)


def test_positions_for_other_sizes_in_both_towers():
    check("CLIPModel", TINY, {**TEXTS, "pixel_values": {"shape": [2, 3, 33, 20]}, "interpolate_pos_encoding": True})


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({"num_labels": 3}, {"labels": [2, 0]}),
        ({"num_labels": 1}, {"labels": [0.3, -1.2]}),
        ({"num_labels": 3}, {"labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]}),
    ],
)
def test_classification(settings, labels):
    check("CLIPForImageClassification", {**TINY, **settings}, PICTURES, labels)


def test_configuration():
    check_defaults("CLIPTextConfig")
    check_defaults("CLIPVisionConfig")
    check_defaults("CLIPConfig")
    text = CLIPTextConfig(**TEXT)
    assert CLIPConfig.from_text_vision_configs(text, CLIPConfig().vision_config, projection_dim=3).text_config is text


def test_a_whole_model_loads_into_each_tower(tmp_path):
    model, arrays = load("CLIPModel", folder()), inputs_of(folder())
    outputs = model(**arrays, **FLAGS)
    pictures, texts = {"pixel_values": arrays.pop("pixel_values")}, arrays
    for name, inputs, tower in (("CLIPTextModel", texts, "text"), ("CLIPVisionModel", pictures, "vision")):
        bare = load(name, folder())
        compare(flatten(outputs[f"{tower}_model_output"]), flatten(bare(**inputs, **FLAGS)))
        bare.save_pretrained(tmp_path / name)
        assert json.loads((tmp_path / name / "config.json").read_text())["model_type"] == f"clip_{tower}_model"
        again = AutoModel.from_pretrained(tmp_path / name)
        assert type(again).__name__ == name
        compare(flatten(bare(**inputs)), flatten(again(**inputs)))
    text, vision = (load(f"CLIP{tower}ModelWithProjection", folder()) for tower in ("Text", "Vision"))
    expected = {"text": model.get_text_features(**texts), "image": model.get_image_features(**pictures)}
    compare(flatten(expected), flatten({"text": text(**texts).text_embeds, "image": vision(**pictures).image_embeds}))
    with pytest.warns(UserWarning, match="classifier.*newly initialised"):
        keras_models.CLIPForImageClassification.from_pretrained(folder())
    with pytest.warns(UserWarning, match="text_projection.*newly initialised"):
        keras_models.CLIPTextModelWithProjection.from_pretrained(tmp_path / "CLIPTextModel")
    with pytest.raises(keras_models.checkpoint.tensors.CheckpointError, match="missing.*vision_model"):
        CLIPModel.from_pretrained(tmp_path / "CLIPTextModel", config=model.config)


def test_old_names(tmp_path):
    def change(tensors):
        ids = {f"{tower}_model.embeddings.position_ids": np.arange(9)[None] for tower in ("text", "vision")}
        return tensors | ids

    assert check_old_names("CLIPModel", folder(), tmp_path / "old", change) == []


def write_tensorflow(folder, tensors):
    """The layout of transformers 4.57.6's TFCLIPModel.save_pretrained."""
    with h5py.File(folder / "tf_model.h5", "w") as file:
        for name, array in tensors.items():
            path, _, kind = re.sub(r"layers/(\d)", r"layers_._\1", name.replace(".", "/")).rpartition("/")
            if re.search("norm|position_embedding", path):
                kind = {"weight": "gamma" if "norm" in path else "embeddings", "bias": "beta"}[kind]
            elif kind == "weight" and "token_embedding" not in path:
                kind, array = "kernel", array.transpose({2: (1, 0), 4: (2, 3, 1, 0)}[array.ndim])
            array = array[None] if kind == "logit_scale" else array
            file["/".join(["clip/tf_clip_model/clip", *filter(None, [path]), f"{kind}:0"])] = array
        file.attrs["layer_names"] = [b"clip"]


def write_flax(folder, tensors):
    """The layout of transformers 4.57.6's FlaxCLIPModel.save_pretrained."""
    tree = {}
    for name, array in tensors.items():
        *parts, kind = name.split(".")
        if kind == "weight" and re.search("norm|(token|position)_embedding", parts[-1]):
            kind = "scale" if "norm" in parts[-1] else "embedding"
        elif kind == "weight":
            kind, array = "kernel", array.transpose({2: (1, 0), 4: (2, 3, 1, 0)}[array.ndim])
        functools.reduce(lambda node, part: node.setdefault(part, {}), parts, tree)[kind] = flax_array(array)
    (folder / "flax_model.msgpack").write_bytes(msgpack.packb(tree, strict_types=True))


@pytest.mark.parametrize("write", [write_tensorflow, write_flax])
def test_files_of_tensorflow_and_flax(tmp_path, write):
    shutil.copy(folder() / "config.json", tmp_path)
    write(tmp_path, {name: tensor.read() for name, tensor in open_checkpoint(folder() / "model.safetensors").items()})
    arrays = inputs_of(folder())
    compare(dict(np.load(folder() / "outputs.npz")), flatten(load("CLIPModel", tmp_path)(**arrays, **FLAGS)))
    pictures = {"pixel_values": arrays["pixel_values"]}
    expected = load("CLIPVisionModel", folder())(**pictures)
    compare(flatten(expected), flatten(load("CLIPVisionModel", tmp_path)(**pictures)))


def test_old_configurations(tmp_path):
    """Early files have each part twice, of which the second counts."""
    shutil.copytree(folder(), tmp_path / "old")
    values = json.loads((folder() / "config.json").read_text())
    values |= {f"{name}_dict": values[name] for name in ("text_config", "vision_config")}
    values |= {"text_config": {"hidden_size": 7}, "vision_config": None}
    (tmp_path / "old" / "config.json").write_text(json.dumps(values))
    arrays = inputs_of(folder())
    compare(dict(np.load(folder() / "outputs.npz")), flatten(load("CLIPModel", tmp_path / "old")(**arrays, **FLAGS)))
    assert load("CLIPTextModel", tmp_path / "old").config.hidden_size == TEXT["hidden_size"]
    assert load("CLIPVisionModel", tmp_path / "old").config.image_size == VISION["image_size"]
    assert isinstance(AutoConfig.from_pretrained(tmp_path / "old"), CLIPConfig)


def test_only_texts_or_only_pictures():
    model, arrays = load("CLIPModel", folder()), inputs_of(folder())
    whole = model(**arrays)
    pictures, texts = {"pixel_values": arrays.pop("pixel_values")}, arrays
    for inputs, names in (
        (texts, ["text_embeds", "text_model_output"]), (pictures, ["image_embeds", "vision_model_output"])
    ):  # fmt: skip
        for outputs in (model(**inputs), model.infer(**inputs)):
            assert list(outputs) == names
            compare(flatten({name: whole[name] for name in names}), flatten(outputs))
    for inputs in (texts, {**texts, **pictures}):  # three texts, and two pictures
        with pytest.raises(ValueError, match="return_loss needs pairs: give as many texts"):
            model(**inputs, return_loss=True)
    with pytest.raises(ValueError, match="CLIPModel needs input_ids or pixel_values, or both to compare them"):
        model(attention_mask=texts["attention_mask"])


def test_numbers_of_texts_and_pictures_may_vary():
    model = load("CLIPModel", folder())
    draw = np.random.default_rng(0)
    for texts, length, pictures in ((3, 6, 2), (2, 9, 2), (1, 4, 3), (5, 6, 1)):
        inputs = {
            "input_ids": draw.integers(0, 60, (texts, length)), "attention_mask": np.ones((texts, length), "int32"),
            "pixel_values": draw.normal(size=(pictures, 20, 20, 3)).astype("float32"),
        }  # fmt: skip
        expected = flatten(model(**inputs, **FLAGS))
        compare(expected, flatten(model.infer(**inputs, **FLAGS)))
        assert expected["logits_per_image"].shape == (pictures, texts)


def test_a_vision_tower_takes_pictures_of_any_size():
    model = CLIPVisionModel.from_pretrained(folder())
    for size in ((20, 20), (31, 17), (12, 40)):
        picture = np.random.default_rng(0).normal(size=(1, *size, 3)).astype("float32")
        expected = model(picture, interpolate_pos_encoding=True)
        compare(flatten(expected), flatten(model.infer(picture, interpolate_pos_encoding=True)))


def small():
    """A model of one layer a tower, fresh."""
    one = {"num_hidden_layers": 1}
    return CLIPModel(CLIPConfig(text_config=TEXT | one, vision_config=VISION | one, projection_dim=12))


def test_training_on_pairs():
    model = small()
    draw = np.random.default_rng(0)
    pairs = {
        "input_ids": np.concatenate([draw.integers(1, 50, (6, 5)), np.full((6, 1), 59)], axis=1),
        "pixel_values": draw.normal(size=(6, 20, 20, 3)).astype("float32"),
    }
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=keras.config.backend() == "jax")
    before = model.evaluate(pairs, batch_size=6, verbose=0)
    history = model.fit(
        {**pairs, "return_loss": True}, batch_size=6, epochs=6, verbose=0, validation_data=(pairs, None)
    )
    assert {"loss", "val_loss"} <= history.history.keys()
    after = model.evaluate(pairs, batch_size=6, verbose=0)
    assert after < before
    found = float(keras.ops.convert_to_numpy(model(**pairs, return_loss=True).loss))
    np.testing.assert_allclose(model.infer(**pairs, return_loss=True).loss, after, rtol=1e-4)
    np.testing.assert_allclose(found, after, rtol=1e-4)


def test_fresh_weights():
    model = CLIPModel(CLIPConfig(**TINY))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model.logit_scale), 2.6592)
    spread = keras.ops.convert_to_numpy(model.vision_model.encoder.layers[0].mlp.fc2.kernel).std()
    np.testing.assert_allclose(spread, 16**-0.5 * 6**-0.5, rtol=0.2)  # of a few random numbers


def test_wrong_inputs_are_refused():
    model = CLIPModel(CLIPConfig(**TINY))
    ids, pictures = np.ones((2, 4), "int32"), np.zeros((2, 20, 20, 3))
    with pytest.raises(ValueError, match="pictures of 20 x 25 pixels and the model takes 20 x 20"):
        model(ids, np.zeros((2, 20, 25, 3)))
    with pytest.raises(ValueError, match="input_ids is 11 tokens long and CLIPModel has positions for 10"):
        model(np.ones((2, 11), "int32"), pictures)
    with pytest.raises(ValueError, match="pictures of 19 x 20 pixels"):
        keras_models.CLIPForImageClassification(CLIPConfig(**TINY))(np.zeros((2, 19, 20, 3)))
    with pytest.raises(ValueError, match="input_ids is 11 tokens long and CLIPTextModel has positions for 10"):
        CLIPTextModel(CLIPTextConfig(**TEXT))(np.ones((2, 11), "int32"))
    with pytest.raises(ValueError, match="hidden_size 24 is not a multiple of num_attention_heads 5"):
        CLIPTextModel(CLIPTextConfig(**{**TEXT, "num_attention_heads": 5}))


def test_auto_classes():
    for name in ("AutoModel", "AutoModelForZeroShotImageClassification"):
        assert type(getattr(keras_models, name).from_pretrained(folder())) is CLIPModel
    with pytest.warns(UserWarning, match="newly initialised"):
        head = keras_models.AutoModelForImageClassification.from_pretrained(folder())
    assert type(head).__name__ == "CLIPForImageClassification"
