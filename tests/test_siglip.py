"""SigLIP against the reference: both towers, each head, every branch of the configuration."""

import keras
import numpy as np
import pytest

import keras_models
from keras_models import AutoModel, SiglipConfig, SiglipModel, SiglipTextConfig, SiglipTextModel
from tests import reference
from tests.parity import FLAGS, check, check_defaults, check_old_names, compare, flatten, inputs_of, load, without

TEXT = {
    "vocab_size": 60, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3,
    "max_position_embeddings": 8, "projection_size": 16, "bos_token_id": 58, "eos_token_id": 59, "pad_token_id": 1,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 36, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 20,
    "patch_size": 5,
}  # fmt: skip
EAGER = {"attn_implementation": "eager"}  # so that the reference returns attentions
TINY = {"text_config": {**TEXT, **EAGER}, "vision_config": {**VISION, **EAGER}}
TEXTS = {"input_ids": {"shape": [3, 8], "high": 60}}
# The reference returns these of a tower alone, and not of both.
EXTRA = [f"{tower}_model_output.{name}" for tower in ("text", "vision") for name in ("hidden_states", "attentions")]
PICTURES = {"pixel_values": {"shape": [2, 3, 20, 20]}}


def folder():
    """A whole model of the reference, with what it computes."""
    inputs = {**TEXTS, **PICTURES}
    return reference.make(
        "models.checkpoint", architecture="SiglipModel", config=TINY, inputs=inputs, labels=None, save={}
    )


def test_texts_and_pictures():
    check("SiglipModel", TINY, {**TEXTS, **PICTURES}, extra=EXTRA)


def test_pairs():
    pairs = {**TEXTS, "pixel_values": {"shape": [3, 3, 20, 20]}, "return_loss": True}
    check("SiglipModel", TINY, pairs, {}, extra=EXTRA)


@pytest.mark.parametrize(
    ("settings", "inputs"),
    [
        ({}, TEXTS),
        ({"projection_size": None, "hidden_act": "relu", "layer_norm_eps": 0.1}, {"input_ids": [[3, 4, 59]]}),
        ({}, {"input_ids": [[3, 4, 59, 1], [5, 59, 1, 1]], "attention_mask": [[1, 1, 1, 0], [1, 1, 0, 0]]}),
        ({}, {"input_ids": [[3, 4, 59]], "position_ids": [[5, 2, 7]]}),
    ],
)
def test_text_tower(settings, inputs):
    settings = {name: value for name, value in {**TEXT, **settings}.items() if value is not None}
    check("SiglipTextModel", settings, inputs)


@pytest.mark.parametrize("settings", [{}, {"vision_use_head": False}, {"num_channels": 1, "image_size": 23}])
def test_vision_tower(settings):
    settings = {**VISION, **settings}
    size = settings["image_size"]
    check("SiglipVisionModel", settings, {"pixel_values": {"shape": [2, settings.get("num_channels", 3), size, size]}})


@pytest.mark.parametrize("shape", [[1, 3, 20, 20], [2, 3, 33, 20], [1, 3, 11, 47]])
def test_positions_for_other_sizes(shape):
    pictures = {"pixel_values": {"shape": shape}, "interpolate_pos_encoding": True}
    check("SiglipVisionModel", VISION, pictures)


def test_positions_for_other_sizes_in_heads():
    pictures = {"pixel_values": {"shape": [2, 3, 33, 20]}, "interpolate_pos_encoding": True}
    check("SiglipForImageClassification", TINY, pictures)
    check("SiglipModel", TINY, {**TEXTS, **pictures}, extra=EXTRA)


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({"num_labels": 3}, {"labels": [2, 0]}),
        ({"num_labels": 1}, {"labels": [0.3, -1.2]}),
        ({"num_labels": 3}, {"labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]}),
    ],
)
def test_classification(settings, labels):
    check("SiglipForImageClassification", {**TINY, **settings}, PICTURES, labels)


def test_classification_without_a_pooling_head():
    config = {**TINY, "vision_config": {**TINY["vision_config"], "vision_use_head": False}}
    check("SiglipForImageClassification", config, PICTURES)


def test_configuration():
    check_defaults("SiglipTextConfig")
    check_defaults("SiglipVisionConfig", extra=("vision_use_head",))
    check_defaults("SiglipConfig")
    assert SiglipTextConfig(hidden_size=24).projection_size == 24


def test_a_whole_model_loads_into_each_tower(tmp_path):
    model, arrays = load("SiglipModel", folder()), inputs_of(folder())
    outputs = model(**arrays, **FLAGS)
    pictures, texts = {"pixel_values": arrays.pop("pixel_values")}, arrays
    for name, inputs, tower in (("SiglipTextModel", texts, "text"), ("SiglipVisionModel", pictures, "vision")):
        bare = load(name, folder())
        compare(flatten(outputs[f"{tower}_model_output"]), flatten(bare(**inputs, **FLAGS)))
        bare.save_pretrained(tmp_path / name)
        again = AutoModel.from_pretrained(tmp_path / name)
        assert type(again).__name__ == name
        compare(flatten(bare(**inputs)), flatten(again(**inputs)))
    expected = {"text": outputs.text_model_output.pooler_output, "image": outputs.vision_model_output.pooler_output}
    found = {"text": model.get_text_features(**texts), "image": model.get_image_features(**pictures)}
    compare(flatten(expected), flatten(found))
    headless = keras_models.SiglipVisionModel.from_pretrained(folder(), vision_use_head=False)
    compare(flatten({"x": outputs.vision_model_output.last_hidden_state}), flatten({"x": headless(**pictures)[0]}))


def test_old_names(tmp_path):
    ids = {f"{tower}_model.embeddings.position_ids": np.arange(9)[None] for tower in ("text", "vision")}
    assert check_old_names("SiglipTextModel", text_folder(), tmp_path / "old", lambda tensors: tensors | ids) == []


def text_folder():
    return reference.make(
        "models.checkpoint", architecture="SiglipTextModel", config=TEXT, inputs=TEXTS, labels=None, save={}
    )


def test_compiled_passes():
    """Texts of no other length may stand for these, as their last place is what counts."""
    model = load("SiglipModel", folder())
    draw = np.random.default_rng(0)
    for texts, length, pictures in ((3, 8, 2), (2, 5, 1)):
        inputs = {
            "input_ids": draw.integers(0, 60, (texts, length)),
            "pixel_values": draw.normal(size=(pictures, 20, 20, 3)).astype("float32"),
        }
        compare(flatten(model(**inputs, **FLAGS)), flatten(model.infer(**inputs, **FLAGS)))
        text = {"input_ids": inputs["input_ids"], "attention_mask": np.ones((texts, length), "int32")}
        compare(without(["text_model_output"], model(**text)), without(["text_model_output"], model.infer(**text)))
    bare = load("SiglipTextModel", folder())
    compare(flatten(bare(**text)), flatten(bare.infer(**text)))


def test_training_on_pairs():
    one = {"num_hidden_layers": 1}
    model = SiglipModel(SiglipConfig(text_config=TEXT | one, vision_config=VISION | one))
    draw = np.random.default_rng(0)
    pairs = {
        "input_ids": draw.integers(1, 60, (4, 8)), "pixel_values": draw.normal(size=(4, 20, 20, 3)).astype("float32"),
    }  # fmt: skip
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=keras.config.backend() == "jax")
    losses = model.fit(pairs, batch_size=4, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_wrong_inputs_are_refused():
    model = SiglipModel(SiglipConfig(**TINY))
    with pytest.raises(ValueError, match="pictures of 20 x 25 pixels and the model takes 20 x 20"):
        model(pixel_values=np.zeros((2, 20, 25, 3)))
    with pytest.raises(ValueError, match="input_ids is 9 tokens long and SiglipTextModel has positions for 8"):
        SiglipTextModel(SiglipTextConfig(**TEXT))(np.ones((2, 9), "int32"))
    with pytest.raises(ValueError, match="projection_size is 24 and vision_config.hidden_size 16"):
        SiglipModel(SiglipConfig(text_config={**TEXT, "projection_size": 24}, vision_config=VISION))
    with pytest.raises(ValueError, match="it needs vision_config.vision_use_head=True"):
        SiglipModel(SiglipConfig(text_config=TEXT, vision_config={**VISION, "vision_use_head": False}))


def test_auto_classes():
    for name in ("AutoModel", "AutoModelForZeroShotImageClassification"):
        assert type(getattr(keras_models, name).from_pretrained(folder())) is SiglipModel
    with pytest.warns(UserWarning, match="newly initialised"):
        head = keras_models.AutoModelForImageClassification.from_pretrained(folder())
    assert type(head).__name__ == "SiglipForImageClassification"
