"""Llama against the reference: every head, all kinds of rotary positions, caches, 16 bits, real files."""

import json

import numpy as np
import pytest
from keras import ops

from keras_models import LlamaConfig, LlamaForCausalLM, LlamaForQuestionAnswering, LlamaModel
from keras_models.models.llama_layers import Rotary
from tests import reference
from tests.parity import FLAGS, check, check_defaults, check_old_names, compare, flatten, load

TINY = {
    "vocab_size": 60, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 8,
}  # fmt: skip
IDS = {"shape": [2, 11], "high": 60}
MASK = [[1] * 11, [1] * 8 + [0] * 3]
TEXT = {"input_ids": IDS, "attention_mask": MASK}
WORDS = [[1, 5, -100, 9] + [-100] * 7, [-100] * 4 + [3, 8, 2] + [-100] * 4]
LLAMA3 = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 6,
}  # fmt: skip
DYNAMIC = {"type": "dynamic", "factor": 2.0}
YARN = {"type": "yarn", "factor": 16.0, "original_max_position_embeddings": 512}
LONG = {"short_factor": [1.0 + i / 7 for i in range(32)], "long_factor": [2.0 + i for i in range(32)]}
ROPES = {  # settings of configurations with 2048 positions and heads of 64 features
    "default": {"rope_scaling": {"rope_type": "default"}},
    "theta": {"rope_theta": 1e6},
    "linear": {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_theta": 100000},
    "dynamic": {"rope_scaling": DYNAMIC},
    "llama3": {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 512}, "rope_theta": 500000.0},
    "yarn": {"rope_scaling": YARN},
    "yarn-of-all-positions": {"rope_scaling": {"rope_type": "yarn", "factor": 0.5}},
    "yarn-factor": {"rope_scaling": {**YARN, "attention_factor": 0.9, "beta_fast": 8.0, "beta_slow": 2.0}},
    "yarn-scales": {"rope_scaling": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.2, "truncate": False}},
    "yarn-step": {"rope_scaling": {**YARN, "beta_fast": 0.001, "beta_slow": 0.001}},
    "longrope": {"rope_scaling": {"rope_type": "longrope", "factor": 4.0, **LONG}},
    "longrope-short": {"rope_scaling": {"rope_type": "longrope", "factor": 1.0, **LONG}},
    "longrope-given": {"rope_scaling": {"rope_type": "longrope", "attention_factor": 1.3, **LONG}},
    "longrope-original": {
        "rope_scaling": {"rope_type": "longrope", **LONG}, "original_max_position_embeddings": 512,
    },
}  # fmt: skip


def in_pieces(model, input_ids, mask, sizes):
    """The logits for texts that are fed to a model piece by piece with one cache."""
    cache, start, logits = None, 0, []
    for size in sizes:
        piece = slice(start, start := start + size)
        given = None if mask is None else mask[:, :start]
        outputs = model(input_ids[:, piece], attention_mask=given, past_key_values=cache, use_cache=True)
        cache = outputs.past_key_values
        logits.append(ops.convert_to_numpy(outputs.logits))
    assert int(cache.length) == start == input_ids.shape[1]
    return np.concatenate(logits, axis=1)


def check_cache(architecture, config):
    """Texts in pieces give the reference's logits; rows padded on the left give those of the rows alone."""
    folder = reference.make("models.checkpoint", architecture=architecture, config=config, inputs=TEXT)
    model, arrays = load(architecture, folder), dict(np.load(folder / "inputs.npz"))
    expected, ids, mask = np.load(folder / "outputs.npz")["logits"], arrays["input_ids"], arrays["attention_mask"]
    np.testing.assert_allclose(in_pieces(model, ids, mask, [6, 1, 4]), expected, rtol=0, atol=1e-4)
    left, seen = np.roll(ids[1:], 3, axis=1), mask[1:, ::-1].copy()
    positions = np.maximum(seen.cumsum(axis=1) - 1, 0)
    outputs = model(left, attention_mask=seen, position_ids=positions, logits_to_keep=8)
    np.testing.assert_allclose(ops.convert_to_numpy(outputs.logits), expected[1:, :8], rtol=0, atol=1e-4)


def check_generated(architecture, config, lengths):
    """`generate` finds what the reference finds, for one text and for two."""
    one, two = {"input_ids": [[5, 9, 2, 7, 3]]}, {"input_ids": [[5, 9, 2, 7, 3], [0, 0, 8, 2, 1]]}
    two |= {"attention_mask": [[1] * 5, [0, 0, 1, 1, 1]], "pad_token_id": 0}
    cases = {"one": {**one, "max_new_tokens": lengths[0]}, "two": {**two, "max_new_tokens": lengths[1]}}
    settings = {**config, "eos_token_id": None}
    folder = reference.make("llama.generated", architecture=architecture, config=settings, cases=cases)
    model = load(architecture, folder)
    for name, case in cases.items():
        found = ops.convert_to_numpy(model.generate(**case))
        np.testing.assert_array_equal(found, np.load(folder / f"{name}.npy"), err_msg=name)


def test_bare_model():
    inputs = {"inputs_embeds": {"shape": [2, 11, 32]}, "position_ids": {"shape": [2, 11], "high": 40}}
    check("LlamaModel", {**TINY, "num_key_value_heads": None}, {**inputs, "attention_mask": MASK})


@pytest.mark.parametrize(
    "settings",
    [
        {"tie_word_embeddings": True, "pad_token_id": 3, "num_key_value_heads": 1},
        {"attention_bias": True, "mlp_bias": True, "rope_scaling": LLAMA3, "head_dim": 6, "hidden_act": "gelu"},
        {"rope_scaling": {**LLAMA3, "rope_type": "dynamic"}, "rms_norm_eps": 0.1},
    ],
)
def test_language_model(settings):
    check("LlamaForCausalLM", {**TINY, **settings}, TEXT, {"labels": WORDS})


def test_other_heads():
    config = {**TINY, "num_hidden_layers": 1, "num_labels": 3}
    check("LlamaForTokenClassification", config, TEXT, {"labels": {"shape": [2, 11], "high": 3}})
    check("LlamaForQuestionAnswering", config, TEXT, {"start_positions": [2, 15], "end_positions": [4, 6]})


@pytest.mark.parametrize("pad", [59, -1])
def test_sequence_classification(pad):
    ids = [[5, 6, 7, 8, 59, 0], [0, 59, 5, 6, 7, 3], [5, 4, 3, 2, 59, 59]]
    config = {**TINY, "num_hidden_layers": 1, "num_labels": 3, "pad_token_id": pad}
    check("LlamaForSequenceClassification", config, {"input_ids": ids}, {"labels": [2, 0, 1]})


def test_a_new_head_on_other_files(tmp_path):
    folder = reference.make("models.checkpoint", architecture="LlamaForQuestionAnswering", config=TINY, inputs=TEXT)
    arrays, answers = dict(np.load(folder / "inputs.npz")), load("LlamaForQuestionAnswering", folder)
    state = flatten(answers(**arrays, **FLAGS))["hidden_states.2"]
    with pytest.warns(UserWarning, match=r"lm_head.weight not in the checkpoint"):
        LlamaForCausalLM.from_pretrained(folder).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"qa_outputs"):
        again = LlamaForQuestionAnswering.from_pretrained(tmp_path)
    bare = LlamaModel.from_pretrained(tmp_path)
    compare({"x": state}, {"x": flatten(bare(**arrays))["last_hidden_state"]})
    compare({"x": state}, {"x": flatten(again(**arrays, **FLAGS))["hidden_states.2"]})


@pytest.mark.parametrize("name", ROPES)
def test_rotary_positions(name):
    config = {"hidden_size": 256, "num_attention_heads": 4, "max_position_embeddings": 2048, **ROPES[name]}
    for positions in ([0, 1, 7, 300], [9, 2047, 5, 1], [6, 2, 2048, 3], [3000, 6, 1, 2]):
        tables = np.load(reference.make("llama.rotary", config=config, positions=positions) / "tables.npz")
        rotary = Rotary(LlamaConfig.from_dict(config))
        places = ops.convert_to_tensor([positions])
        np.testing.assert_allclose(
            ops.convert_to_numpy(rotary.frequencies_for(places)), tables["frequencies"], rtol=1e-6, atol=0
        )
        cos, sin = (ops.convert_to_numpy(each)[0, 0] for each in rotary(places, "float32"))
        sin[:, :32] *= -1
        # The angle of position 3000 inherits the rounding of the frequency, 1e-7 of it.
        np.testing.assert_allclose(cos, tables["cos"], rtol=0, atol=1e-6 if max(positions) < 400 else 1e-3)
        np.testing.assert_allclose(sin, tables["sin"], rtol=0, atol=1e-6 if max(positions) < 400 else 1e-3)


def test_cache():
    check_cache("LlamaForCausalLM", {**TINY, "rope_scaling": LLAMA3})


def test_frequencies_that_follow_the_length():
    """What is cached keeps the frequencies of its time."""
    check_generated("LlamaForCausalLM", {**TINY, "rope_scaling": DYNAMIC}, (20, 12))
    factors = {"short_factor": [1.0, 1.2, 2.0, 3.0], "long_factor": [2.0, 3.0, 9.0, 20.0]}
    check_generated(
        "LlamaForCausalLM", {**TINY, "rope_scaling": {"type": "longrope", "factor": 4.0, **factors}}, (20, 12)
    )


def test_padding_that_would_change_frequencies_is_not_added():
    model = LlamaForCausalLM(LlamaConfig(**TINY, rope_scaling=DYNAMIC))
    ids = np.arange(9)[None]
    compare({"logits": flatten(model(ids))["logits"]}, {"logits": model.infer(ids)["logits"]})
    assert not model.ignores_padding
    assert LlamaForCausalLM(LlamaConfig(**TINY, rope_scaling=LLAMA3)).ignores_padding


def test_any_length():
    model = LlamaForCausalLM(LlamaConfig(**TINY))
    assert model.max_length is None
    assert model.config.max_position_embeddings == 8
    assert tuple(model(np.ones((1, 50), "int32")).logits.shape) == (1, 50, 60)


def test_files_of_first_releases(tmp_path):
    """Frequencies among the weights, an old name of the kind of positions, of the type."""

    def old(tensors):
        frequencies = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": np.ones(4, "float32") for i in range(2)}
        return tensors | frequencies

    config = {**TINY, "rope_scaling": {"type": "linear", "factor": 2.0}}
    folder = reference.make("models.checkpoint", architecture="LlamaForCausalLM", config=config, inputs=TEXT)
    assert check_old_names("LlamaForCausalLM", folder, tmp_path / "old", old) == []


def test_settings_of_later_releases(tmp_path):
    values = LlamaConfig(**TINY).to_dict()
    for name in ("rope_theta", "rope_scaling"):
        del values[name]
    values["rope_parameters"] = {"rope_theta": 5e5, **LLAMA3}
    (tmp_path / "config.json").write_text(json.dumps(values))
    config = LlamaConfig.from_pretrained(tmp_path)
    assert (config.rope_theta, config.rope_scaling) == (5e5, LLAMA3)
    config = LlamaConfig.from_pretrained(tmp_path, rope_scaling=None, rope_theta=100.0)
    assert (config.rope_theta, config.rope_scaling) == (100.0, None)
    assert "rope_parameters" not in config.to_dict()
    config = LlamaConfig.from_dict({"rope_parameters": {"rope_theta": 7.0, "rope_type": "default"}})
    assert (config.rope_theta, config.rope_scaling) == (7.0, None)


def test_bfloat16_in_shards(tmp_path):
    """As near to the outputs in float32 as the reference's in bfloat16 are."""
    folder = reference.make("models.checkpoint", architecture="LlamaForCausalLM", config=TINY, inputs=TEXT)
    ids, exact = np.load(folder / "inputs.npz")["input_ids"][:1], np.load(folder / "outputs.npz")["logits"][:1]
    half = np.load(reference.make("llama.half", checkpoint=str(folder), input_ids=ids.tolist()) / "logits.npy")
    LlamaForCausalLM.from_pretrained(folder, dtype="bfloat16").save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    model = LlamaForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert {variable.dtype for variable in model.variables} == {"bfloat16"}
    for logits in (model.infer(ids).logits, in_pieces(model, ids, None, [11])):
        logits = logits.astype("float32")
        assert np.abs(logits - exact).mean() < 1.1 * np.abs(half - exact).mean()
        assert np.abs(logits - half).mean() < np.abs(half - exact).mean()


def test_real_weights(shared):
    source = shared / "checkpoints" / "llama-stories260K"
    prompt, steps = [1, 403, 407, 261, 378], 40
    arguments = {"checkpoint": str(source), "input_ids": prompt, "steps": steps}
    expected = np.load(reference.make("llama.continuation", **arguments) / "results.npz")
    model = LlamaForCausalLM.from_pretrained(source)
    tokens, cache, logits, chosen = np.array([prompt]), None, [], []
    for _ in range(steps + 1):
        outputs = model(tokens, past_key_values=cache, use_cache=True)
        cache = outputs.past_key_values
        logits.append(ops.convert_to_numpy(outputs.logits)[0])
        tokens = logits[-1][-1:].argmax(axis=-1)[None]
        chosen.append(tokens.item())
    assert chosen == expected["ids"].tolist()
    np.testing.assert_allclose(np.concatenate(logits), expected["logits"], rtol=0, atol=1e-4)
    generated = model.generate([prompt], attention_mask=[[1] * len(prompt)], pad_token_id=0, max_new_tokens=steps + 1)
    assert ops.convert_to_numpy(generated)[0, len(prompt) :].tolist() == chosen


def test_settings():
    check_defaults("LlamaConfig")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
        ({"rope_scaling": {"rope_type": "alibi"}}, "Unknown rope_type 'alibi' in rope_scaling: use default, linear"),
        ({"rope_scaling": {"type": "llama3", "factor": 2.0}}, "'llama3' lacks low_freq_factor, high_freq_factor, orig"),
        ({"rope_scaling": {"type": "longrope", **LONG}}, "'longrope' lacks factor"),
    ],
)
def test_settings_that_do_not_work(settings, message):
    with pytest.raises(ValueError, match=message):
        LlamaForCausalLM(LlamaConfig(**{**TINY, **settings}))
