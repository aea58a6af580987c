"""T5 against the reference: every head, every branch of the configuration, its cache, its files."""

import shutil

import keras
import msgpack
import numpy as np
import pytest

import keras_models
from keras_models import (
    AutoModelForTextEncoding,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
    T5ForQuestionAnswering,
    T5ForSequenceClassification,
    T5Model,
)
from keras_models.checkpoint import CheckpointError, open_checkpoint
from keras_models.models.t5 import buckets
from tests import reference
from tests.cached import check_pieces
from tests.parity import FLAGS, check, check_defaults, check_old_names, compare, flatten
from tests.test_checkpoint_files import flax_tree, write_tf

TINY = {
    "vocab_size": 60, "d_model": 24, "d_kv": 6, "d_ff": 36, "num_layers": 2, "num_heads": 3,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 10, "decoder_start_token_id": 0,
}  # fmt: skip
SOURCE = {"input_ids": {"shape": [2, 13], "low": 2, "high": 60}, "attention_mask": [[1] * 13, [1] * 8 + [0] * 5]}
TARGET = {"decoder_input_ids": {"shape": [2, 11], "high": 60}, "decoder_attention_mask": [[1] * 11, [1] * 7 + [0] * 4]}
WORDS = [[1, 5, -100, 9] + [-100] * 7, [-100] * 4 + [3, 8, 2] + [-100] * 4]


def test_bare_model():
    check("T5Model", {**TINY, "num_decoder_layers": 1}, {**SOURCE, **TARGET})


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"},
        {
            "num_layers": 1,
            "feed_forward_proj": "gated-gelu",
            "dense_act_fn": "gelu",
            "relative_attention_num_buckets": 32,
            "relative_attention_max_distance": 128,
        },
        {  # with a cache the reference fails where the decoder has more layers
            "tie_word_embeddings": False,
            "feed_forward_proj": "gated-silu",
            "layer_norm_epsilon": 1e-3,
            "num_layers": 1,
            "num_decoder_layers": 2,
            "use_cache": False,
        },
    ],
)
def test_conditional_generation(settings):
    check("T5ForConditionalGeneration", {**TINY, **settings}, {**SOURCE, **TARGET}, {"labels": WORDS})


def test_encoder():
    check("T5EncoderModel", TINY, SOURCE)


def test_embeddings_in_place_of_tokens():
    inputs = {"inputs_embeds": {"shape": [2, 13, 24]}, "decoder_inputs_embeds": {"shape": [2, 11, 24]}}
    check("T5ForConditionalGeneration", {**TINY, "num_layers": 1}, inputs)


def test_sequence_classification():
    ids = [[5, 6, 1, 7, 8, 1, 2, 3, 0, 0, 0, 0, 0], [1, 4, 5, 6, 7, 3, 9, 8, 7, 6, 5, 4, 1]]
    inputs = {"input_ids": ids, "attention_mask": [[1] * 8 + [0] * 5, [1] * 13]}
    check("T5ForSequenceClassification", {**TINY, "num_layers": 1, "num_labels": 3}, inputs, {"labels": [2, 0]})
    with pytest.raises(ValueError, match="give input_ids"):
        T5ForSequenceClassification(T5Config(**TINY))(inputs_embeds=np.zeros((1, 3, 24)))


def test_tokens_and_answers():
    classes = {"labels": {"shape": [2, 13], "high": 3}}
    check("T5ForTokenClassification", {**TINY, "num_layers": 1, "num_labels": 3}, SOURCE, classes)
    ends = {"start_positions": [2, 15], "end_positions": [4, 6]}
    check("T5ForQuestionAnswering", {**TINY, "num_layers": 1}, SOURCE, ends)


def test_buckets():
    cases = [(n, far, both) for n, far in ((32, 128), (8, 10), (20, 33), (64, 1000)) for both in (True, False)]
    for case, expected in zip(cases, reference.call("t5.buckets", cases=cases, reach=1200), strict=True):
        count, furthest, both = case
        np.testing.assert_array_equal(buckets(np.arange(-1200, 1201), count, furthest, both), expected)


@pytest.fixture(scope="module")
def saved():
    return made("T5ForConditionalGeneration", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False})


def made(architecture, settings):
    inputs = {**SOURCE, **TARGET}
    config = {**TINY, **settings}
    return reference.make(
        "models.checkpoint", architecture=architecture, config=config, inputs=inputs, labels={"labels": WORDS}, save={}
    )


def to_numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def test_a_text_in_pieces(saved):
    """With masks and without, for a given source, and for its states from the encoder."""
    model = T5ForConditionalGeneration.from_pretrained(saved)
    inputs = dict(np.load(saved / "inputs.npz"))
    ids, mask = inputs.pop("decoder_input_ids"), inputs.pop("decoder_attention_mask")
    check_pieces(model, {"input_ids": ids}, "decoder_", **inputs)
    source = model.get_encoder()(keras.ops.convert_to_tensor(inputs["input_ids"]), inputs["attention_mask"])
    given = {"encoder_outputs": (source,), "attention_mask": inputs["attention_mask"]}
    for ends in (mask, mask[:, ::-1]):
        check_pieces(model, {"input_ids": ids, "attention_mask": ends}, "decoder_", **given)
    kept = model(**given, decoder_input_ids=ids, decoder_attention_mask=mask, logits_to_keep=2)
    expected = np.load(saved / "outputs.npz")
    np.testing.assert_allclose(to_numpy(kept.logits), expected["logits"][:, -2:], atol=1e-4)
    np.testing.assert_allclose(
        to_numpy(kept.encoder_last_hidden_state), expected["encoder_last_hidden_state"], atol=1e-4
    )


def test_padding_on_either_side(saved):
    model = T5ForConditionalGeneration.from_pretrained(saved)
    texts = dict(np.load(saved / "inputs.npz"))
    source, target = texts["input_ids"][:1, :7], texts["decoder_input_ids"][:1, :7]
    expected = model.infer(input_ids=source, decoder_input_ids=target).logits  # of one length: padded on JAX
    for before, after in ((0, 0), (6, 4)):
        pads, ends = ((0, 0), (before, 6 - before)), ((0, 0), (after, 4 - after))
        outputs = model.infer(
            input_ids=np.pad(source, pads),
            attention_mask=np.pad(np.ones_like(source), pads),
            decoder_input_ids=np.pad(target, ends),
            decoder_attention_mask=np.pad(np.ones_like(target), ends),
        )
        np.testing.assert_allclose(outputs.logits[:, after:][:, :7], expected, atol=5e-5)


def test_overflow_of_float16():
    """Infinite sums are clipped as the reference clips them."""
    inputs = {"input_ids": [[5, 6, 7, 8]], "decoder_input_ids": [[0, 9, 10]]}
    folder = reference.make("t5.overflow", config=TINY, inputs=inputs, scale=2e4)
    outputs = T5Model.from_pretrained(folder, dtype="float16")(**inputs, output_hidden_states=True)
    expected = dict(np.load(folder / "outputs.npz"))
    assert any((np.abs(each) == np.float16(64504)).any() for each in expected.values())
    found = flatten(outputs)
    for name, array in expected.items():
        scale = np.abs(array).max()
        np.testing.assert_allclose(found[name] / scale, array / scale, atol=0.01, err_msg=name)  # of float16


def test_files_of_the_first_release(tmp_path):
    """Tied tables under all their names, and biases of distances that cross-attention never used."""

    def old(tensors):
        copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
        unused = {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": np.ones((8, 3), "float32")}
        return {**tensors, **dict.fromkeys(copies, tensors["shared.weight"]), **unused}

    folder = made("T5ForConditionalGeneration", {})
    left = check_old_names("T5ForConditionalGeneration", folder, tmp_path / "old", old)
    assert left == ["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"]

    def older(tensors):
        return {("decoder.embed_tokens.weight" if name == "shared.weight" else name): a for name, a in tensors.items()}

    assert check_old_names("T5ForConditionalGeneration", folder, tmp_path / "older", older) == []


@pytest.mark.parametrize("kind", ["tf_model.h5", "flax_model.msgpack"])
def test_files_of_other_frameworks(saved, tmp_path, kind):
    shutil.copy(saved / "config.json", tmp_path)
    tensors = {name: each.read() for name, each in open_checkpoint(saved / "model.safetensors").items()}
    if kind == "tf_model.h5":
        write_tf(tmp_path / kind, "t5", tensors)
    else:
        (tmp_path / kind).write_bytes(msgpack.packb(flax_tree("t5", tensors)))
    model, report = T5ForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert report["missing_keys"] == report["unexpected_keys"] == []
    compare(dict(np.load(saved / "outputs.npz")), flatten(model(**dict(np.load(saved / "inputs.npz")), **FLAGS)))


def test_one_checkpoint_for_other_heads(saved, tmp_path):
    encoder = AutoModelForTextEncoding.from_pretrained(saved)
    assert type(encoder) is T5EncoderModel
    inputs = dict(np.load(saved / "inputs.npz"))
    expected = np.load(saved / "outputs.npz")["encoder_last_hidden_state"]
    text = {name: inputs[name] for name in SOURCE}
    np.testing.assert_allclose(encoder.infer(**text).last_hidden_state, expected, atol=1e-4)
    with pytest.warns(
        UserWarning, match="qa_outputs.bias, qa_outputs.weight not in|qa_outputs.weight, qa_outputs.bias"
    ):
        T5ForQuestionAnswering.from_pretrained(saved)
    with pytest.warns(UserWarning, match="classification_head"):
        classifier = T5ForSequenceClassification.from_pretrained(saved)
    classifier.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="classifier"):
        tokens = keras_models.T5ForTokenClassification.from_pretrained(tmp_path)
    again = to_numpy(tokens.transformer(**text).last_hidden_state)
    np.testing.assert_allclose(again, expected, atol=1e-4)
    with pytest.raises(CheckpointError, match="missing from the checkpoint: decoder"):
        encoder.save_pretrained(tmp_path / "encoder")
        T5ForConditionalGeneration.from_pretrained(tmp_path / "encoder")


def test_fresh_weights():
    """As wide as the reference draws them, so that training starts well."""
    config = T5Config(d_model=64, d_kv=32, d_ff=256, num_layers=1, vocab_size=200, tie_word_embeddings=False)
    model = T5ForConditionalGeneration(config)
    attention = model.encoder.block[0].layer[0].SelfAttention
    feed = model.encoder.block[0].layer[1].DenseReluDense
    drawn = [
        (model.shared.embeddings, 1.0), (model.lm_head.kernel, 1.0), (attention.q.kernel, (64 * 32) ** -0.5),
        (attention.k.kernel, 64**-0.5), (attention.o.kernel, (8 * 32) ** -0.5), (feed.wi.kernel, 64**-0.5),
        (feed.wo.kernel, 256**-0.5), (attention.relative_attention_bias.embeddings, 64**-0.5),
    ]  # fmt: skip
    for variable, deviation in drawn:
        assert 0.85 < np.std(to_numpy(variable)) / deviation < 1.15


def test_settings():
    check_defaults("T5Config")
    config = T5Config(feed_forward_proj="gated-gelu", num_layers=3)
    assert (config.dense_act_fn, config.is_gated_act, config.num_decoder_layers) == ("gelu_new", True, 3)
    with pytest.raises(ValueError, match="Unknown feed_forward_proj 'swift-gelu'"):
        T5Config(feed_forward_proj="swift-gelu")
    with pytest.raises(ValueError, match="give decoder_input_ids or decoder_inputs_embeds"):
        T5ForConditionalGeneration(T5Config(**TINY))(input_ids=[[5, 6]])
