"""wav2vec 2.0 against the reference: every head, every branch of the configuration, adapters, losses, training."""

import math
import re

import h5py
import keras
import msgpack
import numpy as np
import pytest
from keras import ops

from keras_models import (
    AutoModelForAudioClassification,
    AutoModelForCTC,
    Wav2Vec2Config,
    Wav2Vec2ForAudioFrameClassification,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2ForXVector,
    Wav2Vec2Model,
    losses,
)
from keras_models.checkpoint import open_checkpoint
from keras_models.checkpoint.names import by_variable, entries
from keras_models.models.wav2vec2_layers import SpecAugment
from tests import reference
from tests.parity import FLAGS, check, check_defaults, check_old_names, compare, flatten, inputs_of, load
from tests.weight_files import flax_array

TINY = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "vocab_size": 9,
    "conv_dim": [16, 12, 20], "conv_stride": [5, 2, 2], "conv_kernel": [10, 3, 2], "num_conv_pos_embeddings": 6,
    "num_conv_pos_embedding_groups": 3, "classifier_proj_size": 14, "tdnn_dim": [10, 12, 14], "tdnn_kernel": [3, 2, 1],
    "tdnn_dilation": [1, 2, 1], "xvector_output_dim": 8, "num_codevectors_per_group": 6, "codevector_dim": 8,
    "proj_codevector_dim": 10, "layerdrop": 0.0, "apply_spec_augment": False,
}  # fmt: skip
LARGE = {**TINY, "feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
SOUNDS = {"input_values": {"shape": [2, 403]}}  # 19 frames
PADDED = {**SOUNDS, "attention_mask": [[1] * 403, [1] * 250 + [0] * 153]}
TEXTS = {"labels": [[1, 2, 2, 5, 8], [7, 3, -100, -100, -100]]}
SHORT = {"labels": [[1, 2], [7, -100]]}
CLASSES = {"labels": [2, 0]}
HIDDEN = [[index % 7 in (2, 3, 4) for index in range(19)], [index % 5 == 1 for index in range(19)]]
CHOICE = {"mask_time_indices": HIDDEN, "sampled_negative_indices": {"shape": [2, 19, 5], "high": 38}}
FRAMES = {"labels": [[[int(index % 3 == each) for each in range(3)] for index in range(19)]] * 2}

JITS = keras.config.backend() == "jax"  # TensorFlow would take long to, PyTorch cannot


@pytest.mark.parametrize(("config", "inputs"), [(TINY, SOUNDS), (TINY, PADDED), (LARGE, SOUNDS)])
def test_bare_model(config, inputs):
    check("Wav2Vec2Model", config, inputs)


@pytest.mark.parametrize(
    "settings",
    [
        {**TINY, "conv_bias": True, "num_conv_pos_embeddings": 5, "num_conv_pos_embedding_groups": 1},
        {**TINY, "do_stable_layer_norm": True, "feat_extract_activation": "relu", "hidden_act": "gelu_new"},
        {**LARGE, "conv_bias": False, "do_stable_layer_norm": False, "layer_norm_eps": 0.01, "mask_time_prob": 0.0},
        {**LARGE, "adapter_attn_dim": 6, "num_conv_pos_embeddings": 128, "num_conv_pos_embedding_groups": 8},
        {**TINY, "add_adapter": True},
        {**LARGE, "add_adapter": True, "output_hidden_size": 16, "num_adapter_layers": 2, "adapter_stride": 3},
        {**TINY, "add_adapter": True, "adapter_kernel_size": 4, "num_adapter_layers": 1, "adapter_stride": 1},
    ],
)
def test_settings(settings):
    labels = SHORT if "add_adapter" in settings else TEXTS
    # With a kernel of 4 the reference counts a frame more than there is, and then refuses its own count.
    check("Wav2Vec2ForCTC", settings, PADDED, None if "adapter_kernel_size" in settings else labels)


@pytest.mark.parametrize("settings", [{"ctc_loss_reduction": "mean"}, {"ctc_zero_infinity": True, "pad_token_id": 4}])
def test_ctc(settings):
    long = {"labels": [[1, 2] * 10, [3] * 20]}
    check("Wav2Vec2ForCTC", {**TINY, **settings}, SOUNDS, [TEXTS, long])


@pytest.mark.parametrize(("weighted", "inputs"), [(False, SOUNDS), (True, PADDED)])
def test_classification(weighted, inputs):
    config = {**(LARGE if weighted else TINY), "num_labels": 3, "use_weighted_layer_sum": weighted}
    check("Wav2Vec2ForSequenceClassification", config, inputs, CLASSES)
    check("Wav2Vec2ForAudioFrameClassification", config, inputs, FRAMES)
    check("Wav2Vec2ForXVector", config, inputs, CLASSES)


@pytest.mark.parametrize("config", [TINY, LARGE])
def test_pretraining(config):
    config = {**config, "apply_spec_augment": True}
    check("Wav2Vec2ForPreTraining", config, PADDED)
    check("Wav2Vec2ForPreTraining", config, {**PADDED, **CHOICE})


def test_hidden_frames_are_left_alone_without_augmentation():
    check("Wav2Vec2Model", {**TINY, "mask_feature_prob": 0.1}, {**SOUNDS, "mask_time_indices": HIDDEN})


def test_a_step_of_pretraining(monkeypatch):
    """Gradients, with the noise of the choice of codevectors at zero on both sides."""
    config = {**TINY, "apply_spec_augment": True}
    folder = reference.make("wav2vec2.pretraining", config=config, inputs={**PADDED, **CHOICE})
    model = load("Wav2Vec2ForPreTraining", folder)
    model.set_gumbel_temperature(2.0)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    monkeypatch.setattr(keras.random, "uniform", lambda shape, *args, **kwargs: ops.full(shape, math.exp(-1.0)))
    before = {group[0].key: group[0].array().copy() for group in by_variable(entries(model))}
    model.compile(keras.optimizers.SGD(1.0), jit_compile=JITS)
    loss = model.train_on_batch(inputs_of(folder))
    np.testing.assert_allclose(loss, np.load(folder / "outputs.npz")["loss"], rtol=1e-5)
    gradients = dict(np.load(folder / "gradients.npz"))
    assert set(gradients) == {key for key in before if key in gradients}
    for group in by_variable(entries(model)):
        gradient = gradients.get(group[0].key, 0.0)
        scale = max(1.0, float(np.abs(gradient).max()))
        found = (before[group[0].key] - group[0].array()) / scale
        np.testing.assert_allclose(found, gradient / scale, rtol=0, atol=1e-4, err_msg=group[0].key)


def test_configuration():
    check_defaults("Wav2Vec2Config")
    assert Wav2Vec2Config().inputs_to_logits_ratio == 320
    assert Wav2Vec2Config(hidden_size=48).output_hidden_size == 48


def test_old_names(tmp_path):
    """Weight normalization as PyTorch called it, and what a checkpoint of pre-training has beside the bare model."""
    arguments = {"architecture": "Wav2Vec2ForCTC", "config": TINY, "inputs": PADDED, "labels": TEXTS, "save": {}}
    folder = reference.make("models.checkpoint", **arguments)

    def change(tensors):
        named = {old_name(name): array for name, array in tensors.items()}
        return {**named, "quantizer.codevectors": np.zeros((1, 2, 3), "f"), "project_q.bias": np.zeros(3, "f")}

    assert check_old_names("Wav2Vec2ForCTC", folder, tmp_path / "old", change) == [
        "project_q.bias", "quantizer.codevectors"
    ]  # fmt: skip


def flax_tree(tensors):
    """The layout of FlaxWav2Vec2ForCTC: kernels (..., in, out), but for the normalized one, which is as in PyTorch."""
    tree = {}
    for name, array in tensors.items():
        *parts, kind = old_name(name).split(".")
        if kind == "weight":
            kind = "scale" if array.ndim == 1 else "kernel"
            array = array.transpose(*range(array.ndim)[::-1])
        node = tree
        for part in parts:
            node = node.setdefault(part, {})
        node[kind] = flax_array(np.ascontiguousarray(array))
    return tree


def write_tensorflow(path, tensors):
    """The layout of TFWav2Vec2ForSequenceClassification: lists are layers.0, weight_g is (taps, 1, 1)."""
    with h5py.File(path, "w") as file:
        for name, array in tensors.items():
            *parts, kind = re.sub(r"(layers)\.(\d+)", r"\1_\2", old_name(name)).split(".")
            parts = [re.sub(r"layers_(\d+)", r"layers.\1", part) for part in parts]
            if kind == "weight":
                kind = "gamma" if array.ndim == 1 else "kernel"
            elif kind == "bias" and "norm" in parts[-1]:
                kind = "beta"
            array = array.transpose(*range(array.ndim)[::-1]) if kind in ("kernel", "weight_g") else array
            layer = parts[0] if parts else "top_level_model_weights"
            file.create_dataset("/".join([layer, "tf_wav2_vec2_for_some", *parts, kind]) + ":0", data=array)
        file.attrs["layer_names"] = [b"wav2vec2", b"projector", b"classifier"]


def old_name(name):
    """The parts of the normalized kernel as they were called."""
    end = {"original0": "weight_g", "original1": "weight_v"}
    return re.sub(r"parametrizations\.weight\.(\w+)", lambda match: end[match[1]], name)


@pytest.mark.parametrize(
    ("head", "settings"),
    [("Wav2Vec2ForCTC", LARGE), ("Wav2Vec2ForSequenceClassification", {**TINY, "use_weighted_layer_sum": True})],
)
def test_files_of_tensorflow_and_flax(head, settings, tmp_path):
    folder = reference.make(
        "models.checkpoint", architecture=head, config=settings, inputs=PADDED, labels=None, save={}
    )
    tensors = {name: each.read() for name, each in open_checkpoint(folder / "model.safetensors").items()}
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    if "CTC" in head:
        (tmp_path / "flax_model.msgpack").write_bytes(msgpack.packb(flax_tree(tensors), strict_types=True))
    else:
        write_tensorflow(tmp_path / "tf_model.h5", tensors)
    compare(dict(np.load(folder / "outputs.npz")), flatten(load(head, tmp_path)(**inputs_of(folder), **FLAGS)))


def test_heads_and_bare_models_exchange_checkpoints(tmp_path):
    Wav2Vec2ForXVector(Wav2Vec2Config(**TINY)).save_pretrained(tmp_path)
    bare, report = Wav2Vec2Model.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert "feature_extractor.weight" in report["unexpected_keys"]
    with pytest.warns(UserWarning, match="lm_head.weight"):
        model = Wav2Vec2ForCTC.from_pretrained(tmp_path)
    sound = np.random.default_rng(0).normal(size=(1, 300)).astype("float32")
    found = model.wav2vec2(input_values=sound).last_hidden_state
    np.testing.assert_array_equal(*map(ops.convert_to_numpy, (found, bare(sound).last_hidden_state)))


def test_a_checkpoint_that_never_hid_anything(tmp_path):
    Wav2Vec2ForCTC(Wav2Vec2Config(**{**TINY, "mask_time_prob": 0.0})).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="wav2vec2.masked_spec_embed not in the checkpoint, newly initialised"):
        Wav2Vec2ForCTC.from_pretrained(tmp_path, mask_time_prob=0.05)


# ------------------------------------------------------------------------------------------ adapters of languages

MMS = {**LARGE, "adapter_attn_dim": 6}
LANGUAGES = {"fra": 13, "deu": 9, "eng": 4}


@pytest.fixture(scope="module")
def mms():
    sounds = np.random.default_rng(0).normal(size=(1, 300)).round(3)
    return reference.make("wav2vec2.adapters", config=MMS, inputs=sounds.tolist(), sizes=LANGUAGES)


def test_languages(mms):
    sounds = np.random.default_rng(0).normal(size=(1, 300)).round(3)
    expected = dict(np.load(mms / "outputs.npz"))
    model = AutoModelForCTC.from_pretrained(mms, target_lang="fra", ignore_mismatched_sizes=True)
    for language in ("fra", "deu", "eng", "fra"):
        model.load_adapter(language)
        assert (model.target_lang, model.config.vocab_size) == (language, LANGUAGES[language])
        np.testing.assert_allclose(model.infer(sounds).logits, expected[language], rtol=0, atol=1e-4)
        np.testing.assert_allclose(ops.convert_to_numpy(model(sounds).logits), expected[language], rtol=0, atol=1e-4)


def test_the_same_language_again_needs_no_file(mms):
    model = Wav2Vec2ForCTC.from_pretrained(mms, target_lang="eng")
    before = ops.convert_to_numpy(model.lm_head.kernel)
    model.init_adapter_layers()
    assert np.abs(ops.convert_to_numpy(model.lm_head.kernel) - before).max() > 0.01
    drawn = ops.convert_to_numpy(model.lm_head.kernel)
    model.load_adapter("eng", force_load=False)
    np.testing.assert_array_equal(ops.convert_to_numpy(model.lm_head.kernel), drawn)
    model.load_adapter("eng")
    np.testing.assert_array_equal(ops.convert_to_numpy(model.lm_head.kernel), before)


def test_a_language_is_saved_with_the_model(mms, tmp_path):
    sounds = np.random.default_rng(0).normal(size=(1, 300)).round(3)
    Wav2Vec2ForCTC.from_pretrained(mms, target_lang="fra").save_pretrained(tmp_path)
    found = Wav2Vec2ForCTC.from_pretrained(tmp_path).infer(sounds).logits
    np.testing.assert_allclose(found, np.load(mms / "outputs.npz")["fra"], rtol=0, atol=1e-4)


def test_adapters_that_are_not_there(mms, tmp_path):
    model = Wav2Vec2ForCTC.from_pretrained(mms)
    with pytest.raises(OSError, match="no adapter for 'xyz': looked for adapter.xyz.safetensors and adapter.xyz.bin"):
        model.load_adapter("xyz")
    with pytest.raises(ValueError, match="no place for the adapter of 'fra'"):
        Wav2Vec2ForCTC(Wav2Vec2Config(**TINY)).load_adapter("fra")
    with pytest.raises(ValueError, match="load the model with from_pretrained"):
        Wav2Vec2ForCTC(Wav2Vec2Config(**MMS)).load_adapter("fra")
    Wav2Vec2ForCTC(Wav2Vec2Config(**{**MMS, "num_hidden_layers": 1})).save_pretrained(tmp_path)
    (tmp_path / "adapter.fra.bin").write_bytes((mms / "adapter.fra.bin").read_bytes())
    with pytest.raises(ValueError, match="adapter.fra.bin is no adapter of this model"):
        Wav2Vec2ForCTC.from_pretrained(tmp_path, target_lang="fra")
    Wav2Vec2ForCTC(Wav2Vec2Config(**{**MMS, "adapter_attn_dim": 5})).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="linear_1.weight.* is of another size"):
        Wav2Vec2ForCTC.from_pretrained(tmp_path, target_lang="fra")


# ------------------------------------------------------------------------------------------------- losses, training


def ctc_cases():
    """Sounds and texts of many lengths, with repeated labels, texts that do not fit, and empty ones."""
    generator, cases = np.random.default_rng(0), []
    for index in range(8):
        frames, classes, length = ((23, 6, 8), (7, 4, 5))[index // 4]
        logits = generator.normal(0.0, (1.0, 8.0)[index % 2], (3, frames, classes)).round(2)
        labels = generator.integers(1, classes, (3, length))
        labels[0, :] = labels[0, 0]
        labels[1, generator.integers(0, length + 1) :] = -100
        labels[2, 1] = (-1, 1)[index % 2]
        lengths = [frames, frames, int(generator.integers(1, frames + 1))]
        blank = 0 if index % 3 else classes - 1
        labels = np.where(labels == blank, 1, labels)
        cases.append([logits.tolist(), labels.tolist(), lengths, blank, ("sum", "mean")[index % 2], index % 4 < 3])
    return cases


class Texts(keras.Model):
    """The losses of several logits, which are its weights."""

    def __init__(self, cases):
        super().__init__()
        self.cases = [[*map(np.array, case[1:3]), *case[3:]] for case in cases]
        self.points = [self.add_weight(shape=np.shape(logits)) for logits, *_ in cases]
        for point, (logits, *_) in zip(self.points, cases, strict=True):
            point.assign(logits)

    def call(self, x):
        pairs = zip(self.points, self.cases, strict=True)
        found = [losses.ctc(ops.convert_to_tensor(point), *case) for point, case in pairs]
        return ops.stack(found) + ops.sum(x)


def test_ctc_loss():
    cases = ctc_cases()
    folder = reference.make("wav2vec2.ctc", cases=cases)
    expected, slopes = dict(np.load(folder / "losses.npz")), np.load(folder / "gradients.npz")
    model, nothing = Texts(cases), np.zeros((1, 1))
    found = model.predict_on_batch(nothing)
    infinite = np.isinf(found)
    assert 0 < infinite.sum() < 4
    np.testing.assert_allclose(found, list(expected.values()), rtol=1e-5, atol=1e-4)
    model.compile(keras.optimizers.SGD(1.0), loss=lambda true, found: ops.sum(found), jit_compile=JITS)
    model.train_on_batch(nothing, nothing)
    for index, (point, (logits, *_)) in enumerate(zip(model.points, cases, strict=True)):
        if not infinite[index]:
            gradient = np.array(logits) - ops.convert_to_numpy(point)
            np.testing.assert_allclose(gradient, slopes[str(index)], rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="Unknown ctc_loss_reduction 'none'"):
        losses.ctc(ops.ones((1, 3, 2)), ops.ones((1, 1)), None, 0, "none")


FIT = {**TINY, "mask_time_prob": 0.2, "mask_time_length": 4, "mask_feature_prob": 0.2, "mask_feature_length": 3}
FIT |= {"apply_spec_augment": True, "layerdrop": 0.3, "num_labels": 3, "num_hidden_layers": 1}


def test_training_on_texts():
    keras.utils.set_random_seed(0)
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**{**FIT, "ctc_zero_infinity": True}))
    sounds = np.random.default_rng(0).normal(size=(5, 403)).astype("float32")  # batches of 2, 2 and 1
    mask = np.arange(403)[None] < np.array([[403], [250], [300], [403], [280]])
    labels = np.array([[1, 2, 2, -100], [3, -100, -100, -100], [4, 1, -100, -100], [-1, -1, -1, -1], [8, 7, 6, 5]])
    model.compile(keras.optimizers.Adam(3e-3))
    data = {"input_values": sounds, "attention_mask": mask.astype("int32")}
    history = model.fit(data, labels, epochs=6, batch_size=2, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < history[0]
    with pytest.raises(ValueError, match="Label 9 is out of range: the model has 9 characters"):
        model.fit(data, labels + 1, verbose=0)
    with pytest.raises(ValueError, match="Label 9 is out of range"):
        model(**data, labels=labels + 1)


def test_training_on_classes():
    keras.utils.set_random_seed(0)
    model = Wav2Vec2ForSequenceClassification(Wav2Vec2Config(**FIT))
    model.freeze_feature_encoder()
    model.compile(keras.optimizers.Adam(3e-3), metrics=["accuracy"])
    times = np.arange(403) / 403
    sounds = np.stack([np.sin(times * 2 * np.pi * (20, 60)[index % 2] + index) for index in range(8)]).astype("float32")
    before = ops.convert_to_numpy(model.wav2vec2.feature_extractor.conv_layers[1].conv.kernel)
    labels = np.arange(8) % 2
    history = model.fit(sounds, labels, epochs=10, batch_size=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    after = ops.convert_to_numpy(model.wav2vec2.feature_extractor.conv_layers[1].conv.kernel)
    np.testing.assert_array_equal(before, after)
    model.freeze_base_model()
    assert {each.path for each in model.trainable_variables} == {
        each.path for layer in (model.projector, model.classifier) for each in layer.variables
    }
    with pytest.raises(ValueError, match="Label 3 is out of range"):
        model.fit(sounds, labels + 2, verbose=0)


def test_pretraining_draws_codevectors():
    keras.utils.set_random_seed(0)
    model = Wav2Vec2ForPreTraining(Wav2Vec2Config(**{**TINY, "apply_spec_augment": True}))
    model.compile("sgd")
    negatives = np.random.default_rng(0).integers(0, 38, (2, 19, 5))
    sounds = np.random.default_rng(0).normal(size=(2, 403)).astype("float32")
    data = {"input_values": sounds, "mask_time_indices": np.array(HIDDEN), "sampled_negative_indices": negatives}
    found = [model.train_on_batch(data) for _ in range(4)]
    assert np.isfinite(found).all()
    assert len(set(map(float, found))) == 4


@pytest.mark.parametrize(
    ("rate", "length", "least", "real"), [(0.3, 5, 0, None), (0.3, 5, 0, [40, 17, 9]), (0.05, 10, 2, [40, 17, 9])]
)
def test_what_is_hidden_in_training(rate, length, least, real):
    """Spans are as many and lie where the reference's do."""
    arguments = {"shape": [3, 40], "probability": rate, "length": length, "least": least, "real": real}
    expected = reference.call("wav2vec2.hidden_shares", **arguments)
    settings = {"mask_time_prob": rate, "mask_time_length": length, "mask_time_min_masks": least}
    layer = SpecAugment(Wav2Vec2Config(**settings))
    x, embedding = np.ones((3, 40, 2), "float32"), np.array([2.0, 3.0], "float32")
    attended = None if real is None else ops.convert_to_tensor(np.arange(40)[None] < np.array(real)[:, None])
    found = []
    for _ in range(300):
        states = ops.convert_to_numpy(layer(ops.convert_to_tensor(x), embedding, attended=attended, training=True))
        assert (states == np.where(states[..., :1] == 1.0, x, embedding)).all()
        found.append(states[..., 0] == 2.0)
    found = np.stack(found) if real is None else np.stack(found) & ops.convert_to_numpy(attended)
    np.testing.assert_allclose(found.mean((0, 1)), expected["by place"], atol=0.05)  # of 300 random draws
    np.testing.assert_allclose(found.mean((1, 2)).std(), expected["deviation"], atol=0.015)  # likewise


def test_features_are_hidden_in_training():
    layer = SpecAugment(Wav2Vec2Config(mask_time_prob=0.0, mask_feature_prob=0.4, mask_feature_length=2))
    x = ops.ones((2, 7, 30))
    found = ops.convert_to_numpy(layer(x, training=True))
    assert (found == found[:, :1]).all()
    assert set(np.unique(found)) == {0.0, 1.0}
    assert (ops.convert_to_numpy(layer(x)) == 1.0).all()


def test_sounds_shorter_than_what_is_hidden_are_refused():
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**{**FIT, "mask_time_length": 30}))
    with pytest.raises(ValueError, match="Spans of 30 cannot hide parts of 19 places: train with longer"):
        model(np.zeros((2, 403), "float32"), training=True)


# --------------------------------------------------------------------------------------------- lengths, wrong inputs


@pytest.mark.parametrize(
    ("head", "config"),
    [
        (Wav2Vec2Model, TINY),
        (Wav2Vec2ForCTC, LARGE),
        (Wav2Vec2ForCTC, {**TINY, "add_adapter": True}),
        (Wav2Vec2ForSequenceClassification, {**TINY, "use_weighted_layer_sum": True}),
        (Wav2Vec2ForXVector, LARGE),
    ],
)
def test_sounds_of_any_length(head, config):
    """A few compiled programs serve all lengths, and results are those of the sound alone."""
    keras.utils.set_random_seed(0)
    model = head(Wav2Vec2Config(**{**config, "initializer_range": 0.3}))
    generator = np.random.default_rng(0)
    for rows, samples, padding in ((1, 400, None), (2, 333, None), (2, 370, 97)):
        inputs = {"input_values": 0.3 + generator.normal(size=(rows, samples)).astype("float32")}  # not of mean zero
        if padding is not None:
            inputs["attention_mask"] = np.arange(samples)[None] < np.array([[samples], [samples - padding]])
        compare(flatten(model(**inputs, **FLAGS)), flatten(model.infer(**inputs, **FLAGS)))


def test_quiet_high_tones_are_not_lost():
    """Channels that only hear what is a thousandth of the loudest are normalized as exactly as others."""
    model = Wav2Vec2Model(Wav2Vec2Config(**TINY))
    first = model.feature_extractor.conv_layers[0]
    kernel = np.random.default_rng(0).normal(size=(10, 1, 16))
    kernel[:, 0, :8] = np.array([1, -4, 6, -4, 1, 0, 0, 0, 0, 0])[:, None] * np.arange(1, 9)
    first.conv.kernel.assign(kernel)
    times = np.arange(4000)
    sound = 3 * np.sin(times / 40) + 1e-3 * np.sin(times * 2.9) + 0.5
    frames = np.lib.stride_tricks.sliding_window_view(sound.astype("float32").astype("float64"), 10)[::5]
    expected = frames @ kernel[:, 0].astype("float32").astype("float64")
    expected = (expected - expected.mean(0)) / np.sqrt(expected.var(0) + 1e-5)
    found = ops.convert_to_numpy(first(ops.convert_to_tensor(sound.astype("float32")[None, :, None])))
    expected = 0.5 * expected * (1 + np.vectorize(math.erf)(expected / math.sqrt(2)))
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-3)  # what float32 leaves of the tones themselves


def test_lengths():
    model = Wav2Vec2Model(Wav2Vec2Config(**TINY, add_adapter=True))
    for samples in (60, 301, 400):
        outputs = model(np.zeros((1, samples), "float32"))
        assert outputs.extract_features.shape[1] == model.output_lengths(samples, adapter=False)
        assert outputs.last_hidden_state.shape[1] == model.output_lengths(samples)
    np.testing.assert_array_equal(model.output_lengths(np.array([301, 60]), adapter=False), [14, 2])


def test_one_sound_needs_no_batch_axis():
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**TINY))
    sound = np.random.default_rng(0).normal(size=400).astype("float32")
    np.testing.assert_array_equal(model.infer(sound).logits, model.infer(sound[None]).logits)
    assert isinstance(AutoModelForCTC.from_config(model.config), Wav2Vec2ForCTC)
    assert isinstance(AutoModelForAudioClassification.from_config(model.config), Wav2Vec2ForSequenceClassification)


def test_wrong_inputs_are_refused():
    model = Wav2Vec2ForAudioFrameClassification(Wav2Vec2Config(**{**TINY, "mask_time_prob": 0.0}))
    sounds = np.zeros((2, 400), "float32")
    with pytest.raises(
        ValueError, match="has 29 samples, too few for a single frame: give sounds of at least 30 samples"
    ):
        model(sounds[:, :29])
    assert model(sounds[:, :30]).logits.shape == (2, 1, 2)
    with pytest.raises(ValueError, match=r"attention_mask has the shape \(2, 20\), but input_values \(2, 400\)"):
        model(sounds, attention_mask=np.ones((2, 20), "int32"))
    with pytest.raises(ValueError, match="needs input_values"):
        model(attention_mask=np.ones((2, 20), "int32"))
    with pytest.raises(ValueError, match=r"must be \(2, 19, 2\), with a 1 for the class of each frame"):
        model(sounds, labels=np.zeros((2, 19), "int32"))
    with pytest.raises(ValueError, match="mask_time_indices needs a model with mask_time_prob > 0"):
        model.wav2vec2(sounds, mask_time_indices=np.zeros((2, 19), bool))
    with pytest.raises(ValueError, match="sampled_negative_indices needs mask_time_indices too"):
        Wav2Vec2ForPreTraining(Wav2Vec2Config(**TINY))(sounds, sampled_negative_indices=np.zeros((2, 19, 3), "int32"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"feat_extract_norm": "batch"}, "Unknown feat_extract_norm 'batch': use group or layer"),
        ({"num_attention_heads": 5}, "hidden_size 24 is not a multiple of num_attention_heads 5"),
        ({"num_conv_pos_embedding_groups": 7}, "is not a multiple of num_conv_pos_embedding_groups 7"),
        ({"codevector_dim": 9}, "codevector_dim 9 is not a multiple of num_codevector_groups 2"),
        ({"conv_dim": [8, 8]}, "conv_dim, conv_stride and conv_kernel are of 2, 3 and 3 layers"),
        ({"vocab_size": None}, "needs vocab_size"),
        ({"add_adapter": True}, "Wav2Vec2ForXVector cannot have an adapter: set add_adapter=False"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    head = {"vocab_size": Wav2Vec2ForCTC, "add_adapter": Wav2Vec2ForXVector}.get(*settings, Wav2Vec2ForPreTraining)
    with pytest.raises(ValueError, match=message):
        head(Wav2Vec2Config(**{**TINY, **settings}))
