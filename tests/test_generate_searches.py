"""Contrastive search, groups of beams and assisted decoding against the reference."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_models
from keras_models.generation import assisted, decoding
from tests import reference
from tests.reference.tokenizers_ import folder_with, tiny_bpe

GPT2 = {
    "vocab_size": 60, "n_embd": 24, "n_layer": 1, "n_head": 3, "n_positions": 80, "bos_token_id": 58,
    "eos_token_id": None, "pad_token_id": 57,
}  # fmt: skip
BART = {
    "vocab_size": 60, "d_model": 24, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 3,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 40, "max_position_embeddings": 48,
    "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": None,
}  # fmt: skip
TEXTS = [[7, 21, 3, 44, 9], [30, 2, 51, 8, 17], [5, 5, 6, 33, 40]]
LEFT = {"input_ids": [[0, 0, 7, 21, 3], [30, 2, 51, 8, 17]], "attention_mask": [[0, 0, 1, 1, 1], [1] * 5]}
RIGHT = {"input_ids": [[7, 21, 3, 1, 1], [30, 2, 51, 8, 17]], "attention_mask": [[1, 1, 1, 0, 0], [1] * 5]}
EVERYTHING = {"output_scores": True, "output_logits": True, "output_attentions": True, "output_hidden_states": True}
PROCESSED = {"repetition_penalty": 1.2, "no_repeat_ngram_size": 3}
TO_THE_END = {"max_new_tokens": 75}  # as far as there are positions

CONTRASTIVE = {"penalty_alpha": 0.6, "top_k": 4}
GROUPS = {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.7}
FREE = {**GROUPS, "input_ids": TEXTS, "max_new_tokens": 12, "eos_token_id": [24, 33]}
GPT2_CASES = {
    "contrastive": {**CONTRASTIVE, "input_ids": TEXTS, **TO_THE_END, "eos_token_id": [11, 15]},
    "contrastive, all": {
        **CONTRASTIVE, "input_ids": TEXTS, "max_new_tokens": 5, "penalty_alpha": 0.3, **PROCESSED, **EVERYTHING,
    },
    "contrastive, alone": {**CONTRASTIVE, "input_ids": [LEFT["input_ids"][0][2:]], "max_new_tokens": 12},
    "groups": {**FREE, "num_return_sequences": 6},
    "groups, early": {**FREE, "early_stopping": True, "length_penalty": 2.0},
    "groups, late": {**FREE, "early_stopping": "never", "num_return_sequences": 3},
    "groups, late and short": {**FREE, "early_stopping": "never", "length_penalty": -0.5},
    "groups, padded": {
        **GROUPS, **LEFT, "max_new_tokens": 20, "num_return_sequences": 3, "num_beam_groups": 2,
        "diversity_penalty": 3.0, "min_new_tokens": 3, "eos_token_id": 24, **PROCESSED,
    },
    "groups, all": {**GROUPS, "input_ids": TEXTS, "max_new_tokens": 4, **EVERYTHING},
}  # fmt: skip
BART_CASES = {
    "contrastive": {**CONTRASTIVE, **RIGHT, "max_new_tokens": 16},
    "groups, all": {**GROUPS, **RIGHT, "max_new_tokens": 4, "num_return_sequences": 2, **EVERYTHING},
    "greedy": {"input_ids": [[7, 21, 3, 1, 1]], "attention_mask": [[1, 1, 1, 0, 0]], "max_new_tokens": 19},
}
ONE = {"input_ids": [[5, 5, 6, 33, 40, 5, 5]], "eos_token_id": 59}
FIVE = {"num_assistant_tokens": 5, "assistant_confidence_threshold": 0.0}
ASSISTED_CASES = {
    "assistant": {**ONE, "max_new_tokens": 73, "assistant": True},
    "lookup": {**ONE, "max_new_tokens": 55, "prompt_lookup_num_tokens": 4, "max_matching_ngram_size": 3},
}


@pytest.fixture(autouse=True)
def little_room(monkeypatch):
    """Caches that have to grow in the middle of a text."""
    monkeypatch.setattr(decoding, "FIRST_ROOM", 16)


@pytest.fixture(scope="module")
def gpt2():
    return made("GPT2LMHeadModel", GPT2, GPT2_CASES)


@pytest.fixture(scope="module")
def bart():
    return made("BartForConditionalGeneration", BART, BART_CASES)


def made(architecture, config, cases):
    """A folder with what the reference found, and the model."""
    folder = reference.make("legacy.searches", architecture=architecture, config=config, cases=cases)
    return folder, getattr(keras_models, architecture).from_pretrained(folder)


@pytest.fixture(scope="module")
def pair():
    """A folder with what the reference found, a model, and one that is much like it."""
    arguments = {"architecture": "GPT2LMHeadModel", "config": GPT2, "noise": 0.05, "cases": ASSISTED_CASES}
    folder = reference.make("searches.assisted", **arguments)
    return folder, *(keras_models.GPT2LMHeadModel.from_pretrained(folder / name) for name in ("model", "draft"))


def arrays(outputs):
    """Outputs as arrays by name, the parts of tuples as name.0.1; caches are left out."""
    found = {}

    def add(name, value):
        if isinstance(value, tuple):
            for index, part in enumerate(value):
                add(f"{name}.{index}", part)
        elif not isinstance(value, keras_models.Cache):
            found[name] = ops.convert_to_numpy(value)

    for name, value in outputs.items():
        add(name, value)
    return found


def compare(found, wanted):
    assert found.keys() == wanted.keys(), sorted(found.keys() ^ wanted.keys())
    for name, array in wanted.items():
        assert found[name].shape == array.shape, (name, found[name].shape, array.shape)
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-4, err_msg=name)


def check(folder, model, name, case):
    """Compares a call with the reference's, but for rows of beams, which that mixes up between groups."""
    outputs = model.generate(**case, return_dict_in_generate=True)
    found = {key: value for key, value in arrays(outputs).items() if key != "beam_indices"}
    with np.load(folder / f"{name}.npz") as stored:
        compare(found, {key: stored[key] for key in stored if key != "beam_indices"})
    return outputs


def rounds(monkeypatch):
    """A list that grows by one whenever a model checks a draft."""
    seen, check_draft = [], assisted._round
    monkeypatch.setattr(assisted, "_round", lambda *given: seen.append(1) or check_draft(*given))
    return seen


# ------------------------------------------------------------------------------------------ contrastive search


@pytest.mark.parametrize("name", ["contrastive", "contrastive, all"])
def test_contrastive_search(gpt2, name):
    check(*gpt2, name, GPT2_CASES[name])


def test_contrastive_search_does_not_see_padding(gpt2):
    folder, model = gpt2
    found = model.generate(**CONTRASTIVE, **LEFT, max_new_tokens=12)
    wanted = np.load(folder / "contrastive, alone.npz")["sequences"]
    np.testing.assert_array_equal(found[0, 2:], wanted[0])


def test_contrastive_search_obeys_criteria(gpt2):
    _, model = gpt2
    case = GPT2_CASES["contrastive"]
    whole = model.generate(**case)
    stopped = model.generate(**case, stopping_criteria=[lambda ids, scores: ids[:, -1] == whole[:, 9]])
    ends = [int(np.flatnonzero(row[5:] == row[9])[0]) + 6 for row in whole]
    assert stopped.shape[1] == max(ends)
    for row, full, end in zip(stopped, whole, ends, strict=True):
        np.testing.assert_array_equal(row[:end], full[:end])
        assert (row[end:] == 57).all()


def test_contrastive_search_needs_the_whole_text(gpt2):
    _, model = gpt2
    found = model.generate(**{**GPT2_CASES["contrastive"], "max_new_tokens": 3}, return_dict_in_generate=True)
    assert found.past_key_values.length == found.sequences.shape[1] - 1
    with pytest.raises(ValueError, match="Contrastive search needs the hidden states of all tokens"):
        model.generate(found.sequences, past_key_values=found.past_key_values, max_new_tokens=1, **CONTRASTIVE)


# ---------------------------------------------------------------------------------------------- groups of beams


@pytest.mark.parametrize("name", [name for name in GPT2_CASES if "groups" in name])
def test_groups_of_beams(gpt2, name):
    check(*gpt2, name, GPT2_CASES[name])


def test_rows_of_beams_lead_to_the_scores(gpt2):
    _, model = gpt2
    case = {**GPT2_CASES["groups"], "output_scores": True, "length_penalty": 0.0, "return_dict_in_generate": True}
    found = model.generate(**case)
    each = model.compute_transition_scores(found.sequences, found.scores, found.beam_indices)
    np.testing.assert_allclose(each.sum(axis=1), found.sequences_scores, atol=1e-4)
    assert (found.beam_indices[:, 0] % 2 == 0).all()  # the first beam of a group


def test_groups_of_beams_obey_criteria(gpt2):
    _, model = gpt2
    case = GPT2_CASES["groups"]
    wanted = model.generate(**{**case, "max_new_tokens": 4})
    found = model.generate(**case, stopping_criteria=[lambda ids, scores: ids.shape[1] > 8])
    np.testing.assert_array_equal(found[:, :9], wanted)


@pytest.mark.parametrize("name", ["contrastive", "groups, all"])
def test_behind_an_encoder(bart, name):
    check(*bart, name, BART_CASES[name])


# -------------------------------------------------------------------------------------------- assisted decoding


@pytest.mark.parametrize("name", ASSISTED_CASES)
def test_assisted_decoding(pair, monkeypatch, name):
    folder, model, draft = pair
    case, seen = dict(ASSISTED_CASES[name]), rounds(monkeypatch)
    if case.pop("assistant", False):
        case |= {"assistant_model": draft, "num_assistant_tokens": 5}
    found = model.generate(**case)
    with np.load(folder / f"{name}.npz") as wanted:
        # Lookup overshoots the limit in the reference.
        np.testing.assert_array_equal(found, wanted["sequences"][:, : 7 + case["max_new_tokens"]])
    assert len(seen) < 30  # for more than twice as many tokens


def test_an_assistant_changes_nothing_but_time(pair):
    _, model, draft = pair

    def prefer(ids, scores):
        scores[:, 40] += 2.0 * (ids.shape[1] % 3 == 0)
        return scores

    case = {**ONE, "max_new_tokens": 30, **PROCESSED, "logits_processor": [prefer], **EVERYTHING}
    case |= {"return_dict_in_generate": True, "stopping_criteria": [lambda ids, scores: ids.shape[1] > 18]}
    case |= {"attention_mask": [[0, 1, 1, 1, 1, 1, 1]]}
    told = [Told(), Told()]
    wanted = model.generate(**case, streamer=told[0])
    found = model.generate(**case, streamer=told[1], assistant_model=draft, num_assistant_tokens=5)
    compare(arrays(found), arrays(wanted))
    assert told[0].tokens == told[1].tokens and told[1].ended
    assert int(found.past_key_values.length) == int(wanted.past_key_values.length)


class Told:
    """A streamer that keeps what it gets."""

    def __init__(self):
        self.tokens, self.ended = [], False

    def put(self, tokens):
        self.tokens += np.ravel(tokens).tolist()

    def end(self):
        self.ended = True


def test_drafts_end_where_the_text_does(pair):
    folder, model, draft = pair
    wanted = np.load(folder / "assistant.npz")["sequences"][0].tolist()
    found = model.generate(**{**ONE, "eos_token_id": wanted[18]}, max_new_tokens=20, assistant_model=draft, **FIVE)
    np.testing.assert_array_equal(found[0], wanted[: wanted.index(wanted[18], 7) + 1])


def test_a_perfect_assistant_is_always_right(pair, monkeypatch):
    _, model, _ = pair
    seen = rounds(monkeypatch)
    model.generate(**ONE, max_new_tokens=37, assistant_model=model, **FIVE)
    assert len(seen) == 6  # after the first token, six at a time
    for schedule, count in {"heuristic": 7, "heuristic_transient": 20, "constant": 20}.items():
        model.generation_config.num_assistant_tokens = None
        settings = {**FIVE, "num_assistant_tokens_schedule": schedule}
        model.generate(**ONE, max_new_tokens=7, assistant_model=model, **settings)
        assert model.generation_config.num_assistant_tokens == count
    model.generation_config.num_assistant_tokens = None


def test_sampled_lookup_draws_what_plain_sampling_does(pair):
    _, model, _ = pair
    case = {**ONE, "max_new_tokens": 40, "do_sample": True, "top_k": 3, "seed": 4}
    found = model.generate(**case, prompt_lookup_num_tokens=4, max_matching_ngram_size=1)
    np.testing.assert_array_equal(found, model.generate(**case))


def test_speculative_sampling_keeps_the_distribution():
    random = np.random.default_rng(0)
    scores, draft = random.normal(0, 1.5, (2, 1, 8)).astype("float32")
    own, likely = (np.exp(each) / np.exp(each).sum() for each in (scores, draft))
    rows = 40000
    drafted = random.choice(8, rows, p=likely[0] / likely.sum()).astype("int32")
    fixed = {"uniforms": random.random((1, rows, 2), "float32"), "prompt": 0}
    tokens, kept = assisted.Checking(True, True).judge(
        {"length": 0}, ops.convert_to_tensor(np.repeat(scores, rows, axis=0)), ops.convert_to_tensor(drafted),
        ops.convert_to_tensor(True), ops.convert_to_tensor(np.repeat(likely, rows, axis=0)),
        keras.tree.map_structure(ops.convert_to_tensor, fixed),
    )  # fmt: skip
    tokens, kept = ops.convert_to_numpy(tokens), ops.convert_to_numpy(kept)
    np.testing.assert_array_equal(tokens[kept], drafted[kept])
    np.testing.assert_allclose(kept.mean(), np.minimum(own, likely).sum(), atol=0.01)
    np.testing.assert_allclose(np.bincount(tokens, minlength=8) / rows, own[0], atol=0.01)


def test_speculative_sampling_from_end_to_end(pair):
    """How many tokens are even is told by the model's distributions, whatever the draft's are."""
    _, model, _ = pair
    draft = keras_models.GPT2LMHeadModel(keras_models.GPT2Config(**GPT2))
    case = {"input_ids": ONE["input_ids"], "max_new_tokens": 50, "do_sample": True, "top_k": 0, **FIVE}
    case |= {"assistant_model": draft}
    texts = np.concatenate([model.generate(**case, seed=seed) for seed in range(8)])
    np.testing.assert_array_equal(model.generate(**case, seed=7), texts[7:])
    even, likely = texts[:, 7:] % 2 == 0, []
    for each in (model, draft):
        logits = ops.convert_to_numpy(each.infer(input_ids=texts).logits)[:, 6:-1].astype("float64")
        likely.append(np.exp(logits)[..., ::2].sum(axis=-1) / np.exp(logits).sum(axis=-1))
    sign = np.sign(likely[0] - likely[1])
    deviation = (likely[0] * (1 - likely[0])).sum() ** 0.5
    assert (sign * (likely[0] - likely[1])).sum() > 10 * deviation  # what drawing from the draft would be off by
    assert abs((sign * (even - likely[0])).sum()) < 3 * deviation


@pytest.mark.parametrize("kind", ["BartForConditionalGeneration", "BartForCausalLM"])
def test_assistants_behind_an_encoder(bart, monkeypatch, kind):
    folder, model = bart
    assistant = getattr(keras_models, kind).from_pretrained(folder)
    seen = rounds(monkeypatch)
    found = model.generate(**BART_CASES["greedy"], assistant_model=assistant, **FIVE)
    np.testing.assert_array_equal(found, np.load(folder / "greedy.npz")["sequences"])
    assert len(seen) == 3  # after the first token, six at a time


def test_assistants_with_other_tokens(tmp_path, monkeypatch):
    own = keras_models.GPT2Tokenizer.from_pretrained(folder_with(tiny_bpe("<|endoftext|>"), None, tmp_path))
    for folder in (tmp_path / "other", tmp_path / "model"):
        folder.mkdir()
    files = tiny_bpe("<|endoftext|>", "<pad>") | {"merges.txt": "#version: 0.2\nt h\n"}
    other = keras_models.GPT2Tokenizer.from_pretrained(folder_with(files, None, tmp_path / "other"))
    model, assistant = (
        keras_models.GPT2LMHeadModel(keras_models.GPT2Config(**{**GPT2, "vocab_size": len(each)}))
        for each in (own, other)
    )
    case = {**own("the cat on the mat on", return_tensors="np"), "max_new_tokens": 9, "eos_token_id": None}
    tokenizers = {"tokenizer": own, "assistant_tokenizer": other}
    wanted = model.generate(**case)
    np.testing.assert_array_equal(model.generate(**case, assistant_model=assistant, **tokenizers), wanted)

    # What an assistant writes arrives in the model's tokens.
    written = {"the cat": " on the", "the ca": "t on", "the cat on": "\u00e9"}
    monkeypatch.setattr(assisted.Assistant, "propose", lambda self, ids, count: (ids_of(other, written, ids), None))
    call = type(
        "Call", (), {"settings": keras_models.GenerationConfig(), "assistant": assistant, "seed": 0, **tokenizers}
    )
    drafts = assisted.Translator(call)
    drafted = {
        text: own.convert_ids_to_tokens(drafts.propose(np.array(own(text)["input_ids"]), 9)[0]) for text in written
    }
    assert drafted == {"the cat": ["Ġ", "on", "Ġthe"], "the ca": [], "the cat on": ["Ã", "©"]}


def ids_of(tokenizer, written, ids):
    """The tokens of what follows on a text."""
    return np.array(tokenizer(written[tokenizer.decode(ids.tolist())])["input_ids"], "int32")


def test_errors_of_assistants(pair, bart):
    _, model, draft = pair
    _, other = bart
    small = keras_models.GPT2LMHeadModel(keras_models.GPT2Config(**{**GPT2, "vocab_size": 50, "n_positions": 6}))
    short = keras_models.GPT2LMHeadModel(keras_models.GPT2Config(**{**GPT2, "n_positions": 6}))
    bare = keras_models.GPT2Model(keras_models.GPT2Config(**GPT2))
    for message, arguments in {
        "one text, not a batch of 3": {"input_ids": TEXTS, "assistant_model": draft},
        "The assistant has 50 tokens, the model 60": {"assistant_model": small},
        "needs the model's too": {"assistant_model": small, "assistant_tokenizer": object()},
        "has positions for 6 tokens, and the prompt is 7 long": {"assistant_model": short},
        "has an encoder": {"assistant_model": other},
        "not num_return_sequences=2": {"assistant_model": draft, "num_return_sequences": 2, "do_sample": True},
    }.items():
        with pytest.raises(ValueError, match=message):
            model.generate(**{**ONE, "max_new_tokens": 3, **arguments})
    with pytest.raises(TypeError, match="a GPT2Model, has no head that predicts words"):
        model.generate(**ONE, max_new_tokens=3, assistant_model=bare)
    with pytest.raises(ValueError, match="cannot attend to an encoder|without cross-attention"):
        other.generate(input_ids=[[7, 21, 3]], max_new_tokens=3, assistant_model=model)
