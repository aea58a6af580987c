"""BART against the reference: every head, every branch of the configuration, its cache, its files, real weights."""

import json
import shutil

import keras
import msgpack
import numpy as np
import pytest

from keras_models import (
    AutoModelForMaskedLM,
    BartConfig,
    BartForCausalLM,
    BartForConditionalGeneration,
    BartForSequenceClassification,
    BartModel,
)
from keras_models.checkpoint import open_checkpoint
from keras_models.outputs import ModelOutput
from tests import reference
from tests.cached import check_pieces
from tests.parity import (
    FLAGS,
    TOLERANCE,
    check,
    check_defaults,
    check_gradients,
    check_losses,
    check_old_names,
    check_saving,
    compare,
    flatten,
    load,
)
from tests.test_checkpoint_files import flax_tree, write_tf

TINY = {
    "vocab_size": 60, "d_model": 24, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 32, "encoder_attention_heads": 3, "decoder_attention_heads": 2, "max_position_embeddings": 20,
}  # fmt: skip
IDS = [[0, 7, 33, 2, 5, 59, 18, 12, 40, 6, 2], [0, 9, 2, 50, 3, 8, 2, 1, 1, 1, 1]]  # 1 is padding, 2 an end
TEXT = {"input_ids": IDS, "attention_mask": [[1] * 11, [1] * 7 + [0] * 4]}
TARGET = {"decoder_input_ids": {"shape": [2, 5], "high": 60}, "decoder_attention_mask": [[1] * 5, [1] * 3 + [0] * 2]}
WORDS = [[1, 5, -100, 9, 2], [4, 2, -100, -100, -100]]
HEAD = "BartForConditionalGeneration"


def made(architecture, inputs=TEXT, labels=None, **settings):
    """A reference's checkpoint."""
    config = {**TINY, **settings}
    return reference.make(
        "models.checkpoint", architecture=architecture, config=config, inputs=inputs, labels=labels, save={}
    )


def arrays(folder, name):
    return dict(np.load(folder / f"{name}.npz"))


def to_numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def test_bare_model():
    """Without a text of its own, the decoder reads the encoder's."""
    check("BartModel", {**TINY, "scale_embedding": True}, TEXT)


def test_language_model():
    config = {**TINY, "activation_function": "relu", "init_std": 0.5, "encoder_layers": 2, "pad_token_id": 5}
    check(HEAD, config, {**TEXT, **TARGET}, {"labels": WORDS})


def test_embeddings_as_inputs():
    """They are not scaled."""
    inputs = {
        "inputs_embeds": {"shape": [2, 7, 24]},
        "attention_mask": [[1] * 7, [1] * 4 + [0] * 3],
        "decoder_inputs_embeds": {"shape": [2, 5, 24]},
    }
    # With a cache, the reference fails where the decoder has more layers.
    config = {**TINY, "scale_embedding": True, "decoder_layers": 2, "use_cache": False}
    check(HEAD, config, inputs, {"labels": WORDS})


def test_labels_are_what_the_decoder_reads():
    """Shifted, with padding for the numbers that stand for nothing, in a call and in training: `check` does both."""
    labels = {"labels": [[*WORDS[0], 2, *[-100] * 5], [*WORDS[1], *[-100] * 6]]}
    check(HEAD, TINY, TEXT, labels)
    source = made(HEAD, TEXT, labels)
    model = load(HEAD, source)
    outputs = model(**arrays(source, "inputs"), labels=WORDS)
    assert outputs.logits.shape == (2, 5, 60)
    given = model(**arrays(source, "inputs"), decoder_input_ids=[[2, 1, 5, 1, 9], [2, 4, 2, 1, 1]])
    np.testing.assert_allclose(to_numpy(outputs.logits), to_numpy(given.logits), atol=1e-5)
    with pytest.raises(ValueError, match="need config.pad_token_id and config.decoder_start_token_id"):
        BartForConditionalGeneration(BartConfig(**TINY, decoder_start_token_id=None))(input_ids=IDS)


def test_an_output_layer_of_its_own():
    """All but saving is compared: the reference cannot read what it saves itself with these settings."""
    source = made(HEAD, {**TEXT, **TARGET}, {"labels": WORDS}, tie_word_embeddings=False)
    model = load(HEAD, source)
    inputs = arrays(source, "inputs")
    compare(arrays(source, "outputs"), flatten(model(**inputs, **FLAGS)))
    check_losses(model, source, inputs, TOLERANCE)
    check_gradients(model, source, inputs, TOLERANCE)


@pytest.fixture(scope="module")
def biased():
    """A language model whose final_logits_bias is not zero."""
    inputs = {**TEXT, "decoder_input_ids": [[2, 9, 8], [2, 4, 1]]}
    return reference.make("bart.biased", config=TINY, inputs=inputs)


def test_a_bias_of_logits(biased, tmp_path):
    """It is read, written, kept as it is in training, and has a place for each entry of the vocabulary."""
    model = load(HEAD, biased)
    before = to_numpy(model.final_logits_bias).copy()
    assert np.abs(before).max() > 0.5
    compare(arrays(biased, "outputs"), flatten(model(**arrays(biased, "inputs"), **FLAGS)))
    check_saving(model, HEAD, biased, TOLERANCE)
    model.compile("sgd")
    model.train_on_batch({**arrays(biased, "inputs"), "labels": [[3, 4, 5]] * 2})
    np.testing.assert_array_equal(to_numpy(model.final_logits_bias), before)
    for size in (64, 50):
        model.resize_token_embeddings(size)
        bias = to_numpy(model.final_logits_bias)
        np.testing.assert_array_equal(bias[:, :50], before[:, :50])
        assert bias.shape == (1, size) and not bias[:, 60:].any()
        assert model(input_ids=[[0, 5, 2]]).logits.shape == (1, 3, size)
        model.save_pretrained(tmp_path / str(size))
        np.savez(tmp_path / "ids.npz", input_ids=np.array([[0, 5, 2]]))
        report = reference.call(
            "models.forward", architecture=HEAD, checkpoint=str(tmp_path / str(size)), inputs=str(tmp_path / "ids.npz")
        )
        assert report["missing_keys"] == report["unexpected_keys"] == report["mismatched_keys"] == []
        expected = np.load(tmp_path / str(size) / "outputs.npz")["logits"]
        np.testing.assert_allclose(to_numpy(model(input_ids=[[0, 5, 2]]).logits), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({"classifier_dropout": 0.3}, [{"labels": [2, 0]}, {"labels": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]}]),
        ({"num_labels": 1, "eos_token_id": 7}, {"labels": [0.3, -1.2]}),
    ],
)
def test_sequence_classification(settings, labels):
    ids = [[0, 7, 33, 2, 5, 2, 7], [0, 2, 7, 50, 7, 2, 1]]
    check("BartForSequenceClassification", {**TINY, **settings}, {"input_ids": ids}, labels)


def test_ends_of_texts_must_be_the_same_in_number():
    """Their place may differ, and padding after the last one changes nothing."""
    model = BartForSequenceClassification(BartConfig(**TINY))
    alone = [to_numpy(model(input_ids=ids).logits) for ids in ([[0, 5, 2, 9, 2]], [[0, 2, 6, 7, 8, 9, 2]])]
    batch = {
        "input_ids": [[0, 5, 2, 9, 2, 1, 1], [0, 2, 6, 7, 8, 9, 2]],
        "attention_mask": [[1] * 5 + [0] * 2, [1] * 7],
    }
    for found in (model(**batch), model.infer(**batch)):
        np.testing.assert_allclose(to_numpy(found.logits), np.concatenate(alone), atol=1e-5)
    for ids, counts in (([[0, 5, 2], [2, 5, 2]], "1 and 2 times"), ([[0, 5, 6]], "0 times")):
        with pytest.raises(ValueError, match=f"hold token 2, config.eos_token_id, {counts}"):
            model(input_ids=ids)
        with pytest.raises(ValueError, match="give all the same number of it, at least one"):
            model.infer(np.array(ids))
    with pytest.raises(ValueError, match="finds the end of a text in its tokens: give input_ids"):
        model(inputs_embeds=np.zeros((1, 3, 24)), decoder_input_ids=[[2, 5, 6]])


def test_question_answering():
    check("BartForQuestionAnswering", TINY, TEXT, {"start_positions": [2, 15], "end_positions": [4, 6]})


def test_decoder_alone():
    """Its loss does not shift the labels."""
    config = {**TINY, "tie_word_embeddings": False, "scale_embedding": True}
    check("BartForCausalLM", config, TEXT, {"labels": {"shape": [2, 11], "high": 60}})


def test_decoder_behind_another_encoder():
    inputs = {
        "inputs_embeds": {"shape": [2, 7, 24]},
        "encoder_hidden_states": {"shape": [2, 6, 24]},
        "encoder_attention_mask": [[1] * 6, [1] * 4 + [0] * 2],
    }
    check("BartForCausalLM", TINY, inputs, {"labels": {"shape": [2, 7], "high": 60}})
    decoder = BartForCausalLM(BartConfig(**TINY))
    decoder.compile("sgd")
    decoder.train_on_batch({"input_ids": IDS, "encoder_hidden_states": np.ones((2, 6, 24), "float32")}, IDS)


def test_states_of_the_encoder_as_inputs(biased):
    model = load(HEAD, biased)
    inputs, expected = arrays(biased, "inputs"), arrays(biased, "outputs")
    mask = inputs["attention_mask"]
    states = model.get_encoder()(*(keras.ops.convert_to_tensor(each) for each in (inputs["input_ids"], mask)))
    np.testing.assert_allclose(to_numpy(states), expected["encoder_last_hidden_state"], atol=1e-4)
    decoder = {"attention_mask": mask, "decoder_input_ids": inputs["decoder_input_ids"]}
    not_run = {name for name in expected if name.startswith(("encoder_hidden_states", "encoder_attentions"))}
    for given in ((states,), ModelOutput(last_hidden_state=to_numpy(states))):
        outputs = model(**decoder, encoder_outputs=given, **FLAGS)
        compare({name: each for name, each in expected.items() if name not in not_run}, flatten(outputs))
    with pytest.raises(ValueError, match="give decoder_input_ids or decoder_inputs_embeds"):
        model(encoder_outputs=(states,))
    with pytest.raises(ValueError, match="BartEncoder got neither tokens nor embeddings"):
        model(decoder_input_ids=[[2, 5]])


@pytest.mark.parametrize("side", [None, "right", "left"])
def test_a_text_in_pieces(side):
    model = BartForConditionalGeneration(BartConfig(**{**TINY, "decoder_layers": 2}))
    mask = {
        "right": {"attention_mask": [[1] * 11, [1] * 7 + [0] * 4]},
        "left": {"attention_mask": [[0] * 4 + [1] * 7, [1] * 11]},
    }
    along = {"input_ids": np.arange(22).reshape(2, 11), **mask.get(side, {})}
    check_pieces(model, along, "decoder_", **TEXT)
    decoder = BartForCausalLM(BartConfig(**TINY))
    check_pieces(decoder, along)
    source = np.random.default_rng(0).normal(size=(2, 6, 24)).astype("float32")
    check_pieces(decoder, along, encoder_hidden_states=source, encoder_attention_mask=[[1] * 6, [1] * 4 + [0] * 2])


def test_logits_of_the_last_tokens():
    for model in (BartForConditionalGeneration(BartConfig(**TINY)), BartForCausalLM(BartConfig(**TINY))):
        expected = to_numpy(model(input_ids=IDS).logits)
        np.testing.assert_allclose(to_numpy(model(input_ids=IDS, logits_to_keep=2).logits), expected[:, -2:], atol=1e-5)


def test_lengths_of_many_kinds():
    """Compiled programs serve other lengths than they were made for."""
    model = BartModel(BartConfig(**TINY))
    for length in (11, 7, 1, 20):
        inputs = {"input_ids": np.full((2, length), 5)}
        found, expected = model.infer(**inputs, **FLAGS), model(**inputs, **FLAGS)
        compare(flatten(expected), flatten(found), 1e-5)


def test_half_precision_with_a_cache(biased):
    model = BartForConditionalGeneration.from_pretrained(biased, dtype="float16")
    inputs = arrays(biased, "inputs")
    ids = inputs.pop("decoder_input_ids")
    first = model(**inputs, decoder_input_ids=ids[:, :2], use_cache=True)
    last = model(**inputs, decoder_input_ids=ids[:, 2:], past_key_values=first.past_key_values)
    found = np.concatenate([to_numpy(each.logits) for each in (first, last)], axis=1)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, arrays(biased, "outputs")["logits"], atol=0.05)  # half precision


def test_layers_are_left_out_in_training():
    config = {**TINY, "dropout": 0.0, "encoder_layerdrop": 1 - 1e-9, "decoder_layerdrop": 1 - 1e-9}
    model = BartModel(BartConfig(**config))
    for training, same in ((True, True), (False, False)):
        outputs = model(input_ids=IDS, training=training, output_hidden_states=True)
        for states in (outputs.encoder_hidden_states, outputs.decoder_hidden_states):
            assert np.allclose(to_numpy(states[0]), to_numpy(states[-1])) == same


def as_bart_base(tensors):
    """No `model.` in front, tied tables under all their names, and no bias of logits."""
    tables = dict.fromkeys(
        ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"), tensors["model.shared.weight"]
    )
    rest = {name.removeprefix("model."): array for name, array in tensors.items() if name != "final_logits_bias"}
    versions = dict.fromkeys(("encoder.version", "decoder.version"), np.array([3.0], "float32"))
    return {**rest, **tables, **versions}


def as_bart_cnn(tensors):
    """The tied table is where the output layer or the decoder would have it."""
    tensors = dict(tensors)
    table = tensors.pop("model.shared.weight")
    return {**tensors, "lm_head.weight": table, "model.decoder.embed_tokens.weight": table}


@pytest.mark.parametrize("change", [as_bart_base, as_bart_cnn])
def test_files_of_the_first_releases(tmp_path, change):
    assert check_old_names(HEAD, made(HEAD), tmp_path / "old", change) == []


def test_one_checkpoint_for_other_heads(tmp_path):
    source = made(HEAD)
    expected = arrays(source, "outputs")
    bare = load("BartModel", source)
    compare(
        {
            "last_hidden_state": expected["decoder_hidden_states.1"],
            "encoder_last_hidden_state": expected["encoder_last_hidden_state"],
        },
        flatten(bare(**arrays(source, "inputs"))),
    )
    bare.save_pretrained(tmp_path / "bare")
    again = load(HEAD, tmp_path / "bare")  # nothing of the head is left to train
    np.testing.assert_allclose(to_numpy(again(**arrays(source, "inputs")).logits), expected["logits"], atol=1e-4)
    assert type(AutoModelForMaskedLM.from_pretrained(source)) is BartForConditionalGeneration
    with pytest.warns(UserWarning, match="classification_head.*newly initialised"):
        BartForSequenceClassification.from_pretrained(source)


@pytest.mark.parametrize("whole", [lambda tensors: tensors, as_bart_base])
def test_the_decoder_of_a_whole_checkpoint(tmp_path, whole):
    """It has the table of words, which the reference draws anew where the file has it as `shared` alone."""
    source = made("BartForCausalLM")

    def change(tensors):
        tensors = {("model.shared.weight" if "embed_tokens" in name else name): a for name, a in tensors.items()}
        return whole({**tensors, "model.encoder.layernorm_embedding.bias": np.ones(24, "float32")})

    left = check_old_names("BartForCausalLM", source, tmp_path / "whole", change)
    assert [name.removeprefix("model.") for name in left] in (
        ["encoder.layernorm_embedding.bias"],
        ["encoder.embed_tokens.weight", "encoder.layernorm_embedding.bias"],
    )


@pytest.mark.parametrize("kind", ["tf_model.h5", "flax_model.msgpack"])
def test_files_of_other_frameworks(biased, tmp_path, kind):
    shutil.copy(biased / "config.json", tmp_path)
    tensors = {name: each.read() for name, each in open_checkpoint(biased / "model.safetensors").items()}
    if kind == "tf_model.h5":
        write_tf(tmp_path / kind, "bart", tensors)
    else:
        (tmp_path / kind).write_bytes(msgpack.packb(flax_tree("bart", tensors)))
    model = load(HEAD, tmp_path)
    compare(arrays(biased, "outputs"), flatten(model(**arrays(biased, "inputs"), **FLAGS)))


def test_settings():
    check_defaults("BartConfig")
    config = BartConfig(**TINY)
    assert (config.num_hidden_layers, config.num_labels, config.hidden_size) == (1, 3, 24)
    assert BartModel(config).max_length == 20
    with pytest.raises(ValueError, match="d_model 24 is not a multiple of 5, the number of attention heads"):
        BartModel(BartConfig(**{**TINY, "decoder_attention_heads": 5}))


def test_settings_of_old_files(shared, tmp_path):
    """Keys that nothing reads are kept, and what forced the first token forces it still."""
    values = json.loads((shared / "tokenizers" / "bart-large-cnn" / "config.json").read_text())
    del values["forced_bos_token_id"]
    config = BartConfig.from_dict(values)
    assert (config.forced_bos_token_id, config.num_labels, config.vocab_size) == (0, 3, 50264)
    config.save_pretrained(tmp_path)
    assert BartConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()
    written = json.loads((tmp_path / "config.json").read_text())
    junk = ("add_final_layer_norm", "classif_dropout", "force_bos_token_to_be_generated", "length_penalty", "prefix")
    assert {key: written[key] for key in junk} == {key: values[key] for key in junk}


def spell(model, text):
    """What a model writes behind a row of tokens, the likeliest token a step, with a cache."""
    source = model.get_encoder()(keras.ops.convert_to_tensor([text]))
    written, cache = [model.config.decoder_start_token_id], None
    while written[-1] != model.config.eos_token_id and len(written) < 40:
        inputs = {"decoder_input_ids": [written[-1:]], "encoder_outputs": (source,)}
        outputs = model(**inputs, past_key_values=cache, use_cache=True)
        cache = outputs.past_key_values
        written.append(int(to_numpy(outputs.logits)[0, -1].argmax()))
    return written


def test_letters_to_phonemes(shared):
    """Real weights spell words as the reference does."""
    folder = shared / "checkpoints" / "bart-g2p-en_us"
    model = load(HEAD, folder)
    letters, sounds = model.config.grapheme_chars, model.config.phoneme_chars
    texts = [[1, *map(letters.index, word), 2] for word in ("transformer", "keras", "banana")]
    found = [spell(model, text) for text in texts]
    assert found == reference.call("bart.greedy", checkpoint=str(folder), texts=texts)
    assert "".join(sounds[index] for index in found[0] if index > 3) == "tɹænsf\u02c8ɔɹməɹ"
