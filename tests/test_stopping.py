"""Stopping criteria: stop strings as the reference finds them, and the rest of the list."""

import json
import time
import warnings

import keras
import numpy as np
import pytest

from keras_models.generation import stopping
from keras_models.generation.config import GenerationConfig
from keras_models.preprocessing import tokenizer as tokenizers
from tests import reference
from tests.reference import tokenizers_ as probe

IDS = np.array([[5, 6, 7], [5, 7, 6]])
TINY_BPE = probe.tiny_bpe("<|endoftext|>")
REAL = [
    ("GPT2TokenizerFast", "tokenizers/gpt2"),
    ("BartTokenizerFast", "tokenizers/bart-large-cnn"),
    ("BertTokenizerFast", "tokenizers/bert-base-uncased"),
    ("T5TokenizerFast", "tokenizers/t5-small"),
    ("LlamaTokenizerFast", "checkpoints/llama-stories260K"),
]


@pytest.fixture
def gpt2(tmp_path) -> tokenizers.Tokenizer:
    return tokenizers.GPT2Tokenizer.from_pretrained(probe.folder_with(TINY_BPE, None, tmp_path))


def compare(tokenizer: tokenizers.Tokenizer, **arguments):
    folder = reference.make("generation_settings.stop_decisions", **arguments)
    cases = json.loads((folder / "cases.json").read_text())
    assert {True, False} == {decision for case in cases for decision in case["decisions"]}
    for case in cases:
        decisions = stopping.StopStringCriteria(tokenizer, case["strings"])(np.array(case["rows"]), None)
        assert decisions.dtype == bool and decisions.tolist() == case["decisions"], case["strings"]


@pytest.mark.parametrize(("name", "files"), [("GPT2TokenizerFast", TINY_BPE), ("BertTokenizerFast", probe.TINY_BERT)])
def test_stop_strings_equal_reference(tmp_path, name, files):
    tokenizer = getattr(tokenizers, name).from_pretrained(probe.folder_with(files, None, tmp_path))
    compare(tokenizer, name=name, source=files)


@pytest.mark.parametrize(("name", "source"), REAL)
def test_stop_strings_of_real_tokenizers_equal_reference(shared, name, source):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = getattr(tokenizers, name).from_pretrained(shared / source)
    compare(tokenizer, name=name, source=str(shared / source))


@pytest.mark.parametrize(
    ("tokens", "found"),
    [
        ("st op", True), ("stop", True), ("st opera", True), ("las topper", True), ("s to pped", True),
        ("stop at", False), ("st op at", False), ("st opera tion", False), ("sto", False),
    ],
)  # fmt: skip
def test_a_stop_string_ends_in_the_last_token(gpt2, tokens, found):
    gpt2.add_tokens(tokens.split())
    ids = np.array([gpt2.convert_tokens_to_ids(tokens.split())])
    assert stopping.StopStringCriteria(gpt2, "stop")(ids, None).tolist() == [found]


@pytest.mark.parametrize(
    ("text", "strings", "found"),
    [
        ("a cup of café", "é", True), ("café!", "é", False), ("a 😀", ["x", " 😀"], True), ("a 😀", "😀!", False),
        ("中文。", "文。", True), ("中文。a", "文。", False), ("中文。", "中文", False),
    ],
)  # fmt: skip
def test_characters_may_be_spread_over_tokens(gpt2, text, strings, found):
    """Here they always are; the reference finds none of them, as it compares what each token is by itself."""
    ids = gpt2(text).input_ids
    assert any(gpt2.decode([index]) == "\ufffd" for index in ids)
    assert stopping.StopStringCriteria(gpt2, strings)(np.array([ids]), None).tolist() == [found]


def test_characters_may_be_spread_over_byte_tokens(shared):
    llama = tokenizers.AutoTokenizer.from_pretrained(shared / "checkpoints" / "llama-stories260K")
    ids = np.array([llama("so 文。").input_ids])
    assert "<0xE3>" in llama.convert_ids_to_tokens(ids[0])
    assert stopping.StopStringCriteria(llama, "文。")(ids, None).tolist() == [True]
    assert stopping.StopStringCriteria(llama, "文。")(ids[:, :-1], None).tolist() == [False]


@pytest.mark.parametrize("strings", ["", [], ["a", ""], [3]])
def test_stop_strings_must_be_texts(gpt2, strings):
    with pytest.raises(ValueError, match="stop_strings must be a text or a list of texts, none of them empty, not"):
        stopping.StopStringCriteria(gpt2, strings)


def test_length_and_time():
    assert not stopping.MaxLengthCriteria(4)(IDS, None) and stopping.MaxLengthCriteria(3)(IDS, None)
    beyond = stopping.MaxLengthCriteria(9, max_position_embeddings=2)
    with pytest.warns(UserWarning, match="longer than the model was made for: it has 2 positions"):
        assert not beyond(IDS, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not beyond(IDS, None) and stopping.MaxLengthCriteria(3, 2)(IDS, None)
    assert not stopping.MaxTimeCriteria(60)(IDS, None)
    assert stopping.MaxTimeCriteria(5, initial_timestamp=time.time() - 6)(IDS, None)


@pytest.mark.parametrize("eos", [7, [7], [7, 9], np.array(7), (9, 7)])
def test_end_of_sequence(eos):
    assert stopping.EosTokenCriteria(eos)(IDS, None).tolist() == [True, False]


def test_lists_take_any_callable():
    seen = []

    def mine(input_ids, scores, **kwargs):
        seen.append((input_ids.shape, scores, kwargs))
        return len(seen) > 1

    criteria = stopping.StoppingCriteriaList([stopping.MaxLengthCriteria(8), stopping.EosTokenCriteria(6), mine])
    assert criteria.max_length == 8 and stopping.StoppingCriteriaList().max_length is None
    first, second = criteria(IDS, "scores", more=1), criteria(IDS, None)
    assert first.dtype == bool and first.tolist() == [False, True] and second.tolist() == [True, True]
    assert seen[0] == ((2, 3), "scores", {"more": 1})
    assert stopping.StoppingCriteriaList()(IDS, None).tolist() == [False, False]


@pytest.mark.parametrize("answer", [[[True], [False]], [True, False], np.array([1, 0])])
def test_lists_take_tensors(answer):
    answer = answer if isinstance(answer, np.ndarray) else keras.ops.convert_to_tensor(answer)
    assert stopping.StoppingCriteriaList([lambda *_: answer])(IDS, None).tolist() == [True, False]


def test_lists_say_what_is_wrong():
    def wrong(input_ids, scores):
        return np.zeros((3,), bool)

    with pytest.raises(ValueError, match=r"criterion wrong returned an array \(3,\) for 2 rows: return a bool, or one"):
        stopping.StoppingCriteriaList([wrong])(IDS, None)
    with pytest.raises(NotImplementedError, match="StoppingCriteria has no __call__"):
        stopping.StoppingCriteria()(IDS, None)


def test_criteria_of_a_call(gpt2):
    settings = GenerationConfig(max_time=5.0, stop_strings=["cat"])
    made = stopping.StoppingCriteriaList.for_call(settings, max_length=9, eos=[3], tokenizer=gpt2, max_positions=7)
    assert [type(each).__name__ for each in made] == [
        "MaxLengthCriteria", "MaxTimeCriteria", "StopStringCriteria", "EosTokenCriteria",
    ]  # fmt: skip
    assert (made.max_length, made[0].max_position_embeddings, made[1].max_time) == (9, 7, 5.0)
    assert made(np.array([gpt2("a cat").input_ids]), None).tolist() == [True]
    mine, other = stopping.MaxLengthCriteria(4), stopping.MaxLengthCriteria(5)
    plain = stopping.StoppingCriteriaList.for_call(GenerationConfig(), max_length=9, custom=[max, mine, other])
    assert plain == [mine, max, other] and plain.max_length == 4
