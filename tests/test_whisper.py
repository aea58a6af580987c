"""Whisper against the reference: every head, every branch of the configuration, its cache, its files, training."""

import re
import shutil

import h5py
import keras
import msgpack
import numpy as np
import pytest

from keras_models import (
    AutoModelForSpeechSeq2Seq,
    WhisperConfig,
    WhisperForAudioClassification,
    WhisperForConditionalGeneration,
    WhisperModel,
)
from keras_models.checkpoint import open_checkpoint
from keras_models.nn import random_spans
from keras_models.outputs import ModelOutput
from tests import reference
from tests.cached import check_pieces
from tests.parity import FLAGS, check, check_defaults, check_old_names, compare, flatten, load
from tests.weight_files import flax_array

TINY = {
    "vocab_size": 60, "num_mel_bins": 5, "d_model": 24, "encoder_layers": 2, "decoder_layers": 1, "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 32, "encoder_attention_heads": 3, "decoder_attention_heads": 2, "max_source_positions": 14,
    "max_target_positions": 20, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 3,
    "begin_suppress_tokens": None,
}  # fmt: skip
SOUND = {"input_features": {"shape": [2, 5, 28]}}
TOKENS = {"decoder_input_ids": [[3, 7, 33, 2, 5, 59], [3, 9, 50, 1, 1, 1]]}  # 1 is padding
MASK = {"decoder_attention_mask": [[1] * 6, [1] * 3 + [0] * 3]}
WORDS = [[7, 5, -100, 9, 2], [4, 2, -100, -100, -100]]
HEAD = "WhisperForConditionalGeneration"


def made(architecture, inputs, **settings):
    """A reference's checkpoint."""
    config = {**TINY, **settings}
    return reference.make(
        "models.checkpoint", architecture=architecture, config=config, inputs=inputs, labels=None, save={}
    )


def arrays(folder, name):
    return dict(np.load(folder / f"{name}.npz"))


def to_numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def sounds(count=2, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 5, 28)).astype("float32")


@pytest.fixture(scope="module")
def whole():
    """A checkpoint, its inputs and outputs."""
    return made(HEAD, {**SOUND, **TOKENS})


def test_bare_model():
    check("WhisperModel", TINY, {**SOUND, **TOKENS})


def test_speech_to_text():
    """Other activations and numbers of layers; scale_embedding does nothing."""
    config = {**TINY, "activation_function": "relu", "init_std": 0.5, "encoder_layers": 1, "decoder_layers": 2}
    check(HEAD, {**config, "scale_embedding": True}, {**SOUND, **TOKENS, **MASK}, {"labels": [[*WORDS[0], 3]] * 2})


def test_labels_are_what_the_decoder_reads(whole):
    """Shifted, with padding for the numbers that stand for nothing."""
    model = load(HEAD, whole)
    features = arrays(whole, "inputs")["input_features"]
    outputs = model(features, labels=WORDS)
    expected = reference.call("whisper.loss", checkpoint=str(whole), labels=WORDS)
    np.testing.assert_allclose(to_numpy(outputs.loss), expected, atol=1e-4)
    given = model(features, decoder_input_ids=[[3, 7, 5, 1, 9], [3, 4, 2, 1, 1]])
    np.testing.assert_allclose(to_numpy(outputs.logits), to_numpy(given.logits), atol=1e-5)
    with pytest.raises(ValueError, match="labels reaches 21 positions, but Whisper's decoder has 20"):
        model(features, labels=np.ones((2, 21), "int32"))


def test_embeddings_and_positions_as_inputs():
    inputs = {
        **SOUND,
        "decoder_inputs_embeds": {"shape": [2, 5, 24]},
        "decoder_position_ids": [[0, 1, 2, 3, 4], [1, 1, 0, 1, 2]],
        "decoder_attention_mask": [[1] * 5, [0, 0, 1, 1, 1]],
    }
    check(HEAD, TINY, inputs)


def test_an_output_layer_of_its_own():
    """In old .bin files a tied one is stored too."""
    check(HEAD, {**TINY, "tie_word_embeddings": False}, {**SOUND, **TOKENS})


@pytest.mark.parametrize("weighted", [False, True])
def test_audio_classification(weighted):
    config = {**TINY, "use_weighted_layer_sum": weighted, "classifier_proj_size": 7, "num_labels": 4}
    model = check("WhisperForAudioClassification", config, SOUND, {"labels": [3, 1]})
    features = sounds()
    expected = model(features, output_hidden_states=True)
    outputs = (expected.hidden_states[-1], expected.hidden_states)
    np.testing.assert_allclose(
        to_numpy(model(encoder_outputs=outputs).logits), to_numpy(expected.logits), rtol=0, atol=1e-5
    )


def test_decoder_alone():
    ids = {"input_ids": TOKENS["decoder_input_ids"], "attention_mask": MASK["decoder_attention_mask"]}
    check("WhisperForCausalLM", TINY, ids, {"labels": [[4, 5, 6, 7, 8, -100]] * 2})


def test_decoder_behind_an_encoder():
    """Hidden states alone, or in a tuple or an encoder's outputs."""
    inputs = {"inputs_embeds": {"shape": [2, 4, 24]}, "encoder_outputs": {"shape": [2, 14, 24]}}
    # With a cache, the reference fails.
    model = check("WhisperForCausalLM", {**TINY, "decoder_layers": 2, "use_cache": False}, inputs)
    states, ids = np.ones((2, 14, 24), "float32"), [[3, 5], [3, 9]]
    expected = to_numpy(model(ids, encoder_outputs=states).logits)
    for given in ((states,), ModelOutput(last_hidden_state=states)):
        np.testing.assert_allclose(to_numpy(model(ids, encoder_outputs=given).logits), expected, rtol=0, atol=1e-6)
    check_pieces(model, {"input_ids": np.arange(22).reshape(2, 11)}, encoder_outputs=states)


def test_states_of_the_encoder_as_inputs(whole):
    model = load(HEAD, whole)
    inputs, expected = arrays(whole, "inputs"), arrays(whole, "outputs")
    states = model.encode(input_features=inputs["input_features"]).last_hidden_state
    np.testing.assert_allclose(to_numpy(states), expected["encoder_last_hidden_state"], atol=1e-4)
    not_run = {name for name in expected if name.startswith(("encoder_hidden_states", "encoder_attentions"))}
    for given in ((states,), ModelOutput(last_hidden_state=to_numpy(states))):
        outputs = model(decoder_input_ids=inputs["decoder_input_ids"], encoder_outputs=given, **FLAGS)
        compare({name: each for name, each in expected.items() if name not in not_run}, flatten(outputs))


@pytest.mark.parametrize("side", [None, "right", "left"])
def test_words_in_pieces(side):
    model = WhisperForConditionalGeneration(WhisperConfig(**{**TINY, "decoder_layers": 2}))
    mask = {
        "right": {"attention_mask": [[1] * 11, [1] * 7 + [0] * 4]},
        "left": {"attention_mask": [[0] * 4 + [1] * 7, [1] * 11]},
    }
    along = {"input_ids": np.arange(22).reshape(2, 11), **mask.get(side, {})}
    check_pieces(model, along, "decoder_", input_features=sounds())
    expected = to_numpy(model(sounds(), decoder_input_ids=along["input_ids"]).logits)
    found = to_numpy(model(sounds(), decoder_input_ids=along["input_ids"], logits_to_keep=2).logits)
    np.testing.assert_allclose(found, expected[:, -2:], atol=1e-5)


def test_batches_of_many_sizes():
    """Compiled programs serve other shapes than they were made for."""
    model = WhisperModel(WhisperConfig(**TINY))
    for batch, length in ((2, 6), (1, 3), (3, 20)):
        inputs = {"input_features": sounds(batch), "decoder_input_ids": np.full((batch, length), 5)}
        compare(flatten(model(**inputs, **FLAGS)), flatten(model.infer(**inputs, **FLAGS)), 1e-5)


@pytest.mark.parametrize("positions", [1200, 1031])
def test_long_sounds(positions):
    """Attention to many positions is computed in blocks where their number can be divided."""
    config = {**TINY, "encoder_layers": 1, "max_source_positions": positions}
    model = WhisperForAudioClassification(WhisperConfig(**config))
    features = np.random.default_rng(0).normal(size=(2, 5, 2 * positions)).astype("float32")
    expected = to_numpy(model(features, output_hidden_states=True, output_attentions=True).hidden_states[-1])
    for found in (model(features, output_hidden_states=True), model.infer(features, output_hidden_states=True)):
        np.testing.assert_allclose(to_numpy(found.hidden_states[-1]), expected, rtol=0, atol=1e-5)


def test_one_sound_without_a_batch():
    model = WhisperModel(WhisperConfig(**TINY))
    features = sounds(1)
    expected = model(features, decoder_input_ids=[[3, 5]])
    compare(flatten(expected), flatten(model(features[0].tolist(), decoder_input_ids=[3, 5])), 1e-6)


def test_half_precision(whole):
    """States beyond what the type holds are cut off, in the encoder."""
    model = WhisperForConditionalGeneration.from_pretrained(whole, dtype="float16")
    outputs = model(**arrays(whole, "inputs"))
    np.testing.assert_allclose(to_numpy(outputs.logits), arrays(whole, "outputs")["logits"], atol=0.1)  # float16
    layer = model.model.encoder.layers[0]
    x = keras.ops.full((1, 14, 24), 65000.0, "float16")
    assert to_numpy(layer(x)).max() <= 64504


def test_wrong_inputs():
    model = WhisperForConditionalGeneration(WhisperConfig(**TINY))
    for shape, found in (((2, 5, 27), "5 mels and 27 frames"), ((2, 8, 28), "8 mels and 28 frames")):
        with pytest.raises(ValueError, match=f"{found}, but WhisperModel takes exactly 5 and 28"):
            model(np.zeros(shape, "float32"), decoder_input_ids=[[3]] * 2)
    with pytest.raises(ValueError, match="takes exactly 5 and 28"):
        WhisperForAudioClassification(WhisperConfig(**TINY))(np.zeros((1, 5, 56), "float32"))
    with pytest.raises(ValueError, match="takes \\(batch, mels, frames\\)"):
        model(np.zeros((4, 2, 5, 28), "float32"), decoder_input_ids=[[3]])
    with pytest.raises(ValueError, match="decoder got neither tokens nor embeddings"):
        model(sounds())
    with pytest.raises(ValueError, match="decoder got both tokens and embeddings"):
        model(sounds(1), decoder_input_ids=[[3]], decoder_inputs_embeds=np.zeros((1, 1, 24), "float32"))
    with pytest.raises(ValueError, match="needs input_features"):
        model(decoder_input_ids=[[3]])
    with pytest.raises(ValueError, match="decoder_input_ids reaches 21 positions"):
        model(sounds(1), decoder_input_ids=np.ones((1, 21), "int32"))
    with pytest.raises(ValueError, match="d_model 24 is not a multiple of 5"):
        WhisperModel(WhisperConfig(**{**TINY, "decoder_attention_heads": 5}))
    with pytest.raises(ValueError, match="d_model is 21, but positions are pairs"):
        WhisperModel(WhisperConfig(**{**TINY, "d_model": 21, "decoder_attention_heads": 3}))


def test_first_positions():
    """New models have the reference's sines and cosines, and do not train them."""
    expected = np.array(reference.call("whisper.positions", config=TINY))
    model = WhisperForConditionalGeneration(WhisperConfig(**TINY))
    np.testing.assert_allclose(to_numpy(model.model.encoder.embed_positions.weight), expected, atol=1e-5)
    model.trainable = True
    model.compile("sgd")
    model.fit(sounds(), np.array(WORDS), verbose=0)
    np.testing.assert_allclose(to_numpy(model.model.encoder.embed_positions.weight), expected, atol=1e-5)


def test_training_with_a_frozen_encoder():
    """`fit` takes features and the tokens of what is said."""
    model = WhisperForConditionalGeneration(WhisperConfig(**TINY))
    model.freeze_encoder()
    model.compile(keras.optimizers.Adam(0.01))
    encoder = [to_numpy(each).copy() for each in model.model.encoder.variables]
    history = model.fit(sounds(), np.array(WORDS), epochs=20, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]
    for before, after in zip(encoder, model.model.encoder.variables, strict=True):
        np.testing.assert_array_equal(to_numpy(after), before)
    classifier = WhisperForAudioClassification(WhisperConfig(**TINY, num_labels=3))
    classifier.freeze_encoder()
    assert len(classifier.trainable_variables) == 4


def test_layers_are_left_out_in_training():
    model = WhisperModel(WhisperConfig(**TINY, encoder_layerdrop=1 - 1e-9, decoder_layerdrop=1 - 1e-9))
    for training in (True, False):
        outputs = model(sounds(), decoder_input_ids=[[3, 5]] * 2, training=training, output_hidden_states=True)
        first, second = (to_numpy(each) for each in outputs.encoder_hidden_states[:2])
        assert np.allclose(first, second) == training


@pytest.mark.parametrize("name", ["time", "feature"])
def test_spec_augment(name):
    """In training, and only there, spans are silent; of a shorter sound only its beginning."""
    settings = {"mask_time_prob": 0.0, f"mask_{name}_prob": 0.5, f"mask_{name}_length": 2}
    model = WhisperModel(WhisperConfig(**TINY, apply_spec_augment=True, **settings))
    x = np.ones((2, 5, 28), "float32")
    mask = np.ones((2, 28), "int32")
    mask[1, 10:] = 0
    found = to_numpy(model.augment(x, mask, training=True))
    hidden = (found == 0).all(axis=1 if name == "time" else 2)
    assert ((found == 0) == np.expand_dims(hidden, 1 if name == "time" else 2)).all()
    assert (hidden.sum(axis=1) >= 2).all()
    if name == "time":
        assert not hidden[1, 10:].any() and hidden[0].sum() <= 16
    np.testing.assert_array_equal(to_numpy(model.augment(x, mask)), x)
    off = WhisperModel(WhisperConfig(**TINY, **settings))
    np.testing.assert_array_equal(to_numpy(off.augment(x, mask, training=True)), x)


@pytest.mark.parametrize(
    ("size", "lengths", "chance", "span", "least"),
    [
        (50, [50, 23, 4], 0.3, 5, 0),
        (30, [30, 30, 8], 0.05, 10, 2),
        (12, [12, 6, 12], 1.0, 3, 0),
        (9, [9] * 3, 0.1, 9, 5),
    ],
)
def test_numbers_of_spans(size, lengths, chance, span, least):
    """There are as many spans as in the reference, on the average, and they lie where they may."""
    seed, total = keras.random.SeedGenerator(1), np.zeros(3)
    for _ in range(200):
        hidden = to_numpy(random_spans(np.array(lengths, "int32"), size, chance, span, least, seed))
        total += hidden.sum(axis=1)
        for row, length in zip(hidden, lengths, strict=True):
            assert not row[length:].any()
            runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], row, [0]]))))[::2]
            assert (runs >= span).all()
    arguments = {"lengths": lengths, "size": size, "chance": chance, "span": span, "least": least}
    expected = np.array(reference.call("whisper.spans", **arguments))
    np.testing.assert_allclose(total / 200, expected, rtol=0.1, atol=0.3)  # of random numbers
    with pytest.raises(ValueError, match="Spans of 61 cannot hide parts of 60"):
        random_spans(np.array([60]), 60, 0.5, 61, 0, seed)


def test_old_files(whole, tmp_path):
    """The tied output layer is stored too, and the file may lack `model.` in front."""
    assert (
        check_old_names(
            HEAD,
            whole,
            tmp_path / "tied",
            lambda old: {**old, "proj_out.weight": old["model.decoder.embed_tokens.weight"]},
        )
        == []
    )
    bare = {name: name.removeprefix("model.") for name in open_checkpoint(whole / "model.safetensors")}
    assert (
        check_old_names(HEAD, whole, tmp_path / "bare", lambda old: {bare[name]: each for name, each in old.items()})
        == []
    )


def test_one_checkpoint_for_all_heads(whole, tmp_path):
    inputs, expected = arrays(whole, "inputs"), arrays(whole, "outputs")
    assert type(AutoModelForSpeechSeq2Seq.from_pretrained(whole)) is WhisperForConditionalGeneration
    bare = load("WhisperModel", whole)
    np.testing.assert_allclose(
        to_numpy(bare(**inputs).encoder_last_hidden_state), expected["encoder_last_hidden_state"], atol=1e-4
    )
    decoder = load("WhisperForCausalLM", whole)
    found = decoder(inputs["decoder_input_ids"], encoder_outputs=expected["encoder_last_hidden_state"])
    np.testing.assert_allclose(to_numpy(found.logits), expected["logits"], atol=1e-4)
    with pytest.warns(UserWarning, match="classifier.*newly initialised"):
        classifier = WhisperForAudioClassification.from_pretrained(whole, num_labels=3)
    states = classifier(inputs["input_features"], output_hidden_states=True).hidden_states
    np.testing.assert_allclose(to_numpy(states[-1]), expected["encoder_last_hidden_state"], atol=1e-4)


def stored(name, array, kinds):
    """A tensor's path and values as other frameworks keep them; kinds are those of norms, tables and kernels."""
    *parts, kind = name.split(".")
    if kind == "weight":
        is_table = parts[-1] in ("embed_tokens", "embed_positions")
        kind = kinds[0] if array.ndim == 1 else kinds[1] if is_table else kinds[2]
        array = array.T if kind == kinds[2] else array
    return [*parts, kind], np.ascontiguousarray(array)


@pytest.mark.parametrize("kind", ["tf_model.h5", "flax_model.msgpack"])
def test_files_of_other_frameworks(whole, tmp_path, kind):
    """Layouts of transformers 4.57.6's TFWhisper... and FlaxWhisper..."""
    shutil.copy(whole / "config.json", tmp_path)
    tensors = {name: each.read() for name, each in open_checkpoint(whole / "model.safetensors").items()}
    if kind == "tf_model.h5":
        with h5py.File(tmp_path / kind, "w") as file:
            for name, array in tensors.items():
                parts, array = stored(name, array, ("gamma", "embeddings", "kernel"))
                if parts[-2] == "embed_positions":
                    parts[-1] = "weight"
                parts[-1] = "beta" if parts[-2].endswith("norm") and parts[-1] == "bias" else parts[-1]
                path = re.sub(r"layers/(\d)", r"layers.\1", "/".join(parts))
                file.create_dataset(f"model/tf_whisper_for_conditional_generation/{path}:0", data=array)
            file.attrs["layer_names"] = [b"model"]
    else:
        tree = {}
        for name, array in tensors.items():
            parts, array = stored(name, array, ("scale", "embedding", "kernel"))
            node = tree
            for part in parts[:-1]:
                node = node.setdefault(part, {})
            node[parts[-1]] = flax_array(array)
        (tmp_path / kind).write_bytes(msgpack.packb(tree))
    model = load(HEAD, tmp_path)
    compare(arrays(whole, "outputs"), flatten(model(**arrays(whole, "inputs"), **FLAGS)))


def test_settings(shared, tmp_path):
    check_defaults("WhisperConfig")
    config = WhisperConfig(**TINY)
    assert (config.num_hidden_layers, config.hidden_size, WhisperModel(config).max_length) == (2, 24, 20)
    config = WhisperConfig.from_pretrained(shared / "tokenizers" / "whisper-large-v3")
    assert (config.vocab_size, config.num_mel_bins, config.encoder_layers) == (51866, 128, 32)
    config.save_pretrained(tmp_path)
    assert WhisperConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()
