"""Calls of tokenizers: what they return, in which form, and what they say about bad input."""

import copy
import pickle
import threading
import warnings

import keras
import numpy as np
import pytest

from keras_models.preprocessing import tokenizer as ours
from keras_models.preprocessing.batch_encoding import BatchEncoding
from keras_models.runtime import interop
from tests.reference import tokenizers_ as probe

KIND = {"jax": "jax", "torch": "pt", "tensorflow": "tf"}[keras.config.backend()]


@pytest.fixture
def bert(tmp_path) -> ours.Tokenizer:
    return ours.BertTokenizer.from_pretrained(probe.folder_with(probe.TINY_BERT, None, tmp_path))


@pytest.fixture
def gpt2(tmp_path) -> ours.Tokenizer:
    return ours.GPT2Tokenizer.from_pretrained(probe.folder_with(probe.tiny_bpe("<|endoftext|>"), None, tmp_path))


def test_shapes_of_results(bert):
    one, batch = bert("the cat sat"), bert(["the cat sat", "hello"], ["on the mat", "world"])
    assert one.input_ids == [2, 5, 7, 8, 3]
    assert list(one) == ["input_ids", "token_type_ids", "attention_mask"]
    assert [len(row) for row in batch["input_ids"]] == [9, 5]
    assert batch.token_type_ids[0] == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert bert([]) == {"input_ids": [], "token_type_ids": [], "attention_mask": []}
    assert bert(np.array(["the cat", "a mat"])) == bert(["the cat", "a mat"])
    assert bert.encode("the cat", "a mat") == bert.encode_plus("the cat", "a mat").input_ids
    assert bert.batch_encode_plus([("the cat", "a mat")]).input_ids == [bert.encode("the cat", "a mat")]
    assert bert(text_target="the cat") == bert("the cat")


def test_it_is_a_dictionary(bert):
    encoded = bert(["the cat", "a"], padding=True)
    assert dict(encoded) == {**encoded} == encoded.data
    assert (lambda input_ids, **rest: (input_ids, list(rest)))(**encoded) == (
        encoded.input_ids,
        ["token_type_ids", "attention_mask"],
    )
    assert isinstance(encoded, dict) and "input_ids" in encoded and not hasattr(encoded, "labels")
    with pytest.raises(AttributeError, match="BatchEncoding has no 'labels'; it holds"):
        _ = encoded.labels
    for twin in (pickle.loads(pickle.dumps(encoded)), copy.deepcopy(encoded)):
        assert twin == encoded and twin.tokens(1) == encoded.tokens(1)
    assert BatchEncoding({"input_ids": [[1], [2]]})[:1] == {"input_ids": [[1]]}


def test_words_characters_and_tokens(bert):
    encoded = bert(["the cats", "hello"], ["sat on", "a mat"])
    assert encoded.is_fast and encoded.n_sequences == 2
    assert encoded.tokens() == ["[CLS]", "the", "cat", "##s", "[SEP]", "sat", "on", "[SEP]"]
    assert encoded[0].ids == encoded.input_ids[0] and [each.ids for each in encoded.encodings] == encoded.input_ids
    assert encoded.word_ids(0) == [None, 0, 1, 1, None, 0, 1, None]
    assert encoded.sequence_ids(0) == [None, 0, 0, 0, None, 1, 1, None]
    assert encoded.word_to_tokens(1) == encoded.word_to_tokens(0, 1) == (2, 4)
    assert encoded.word_to_tokens(0, 1, sequence_index=1) == (6, 7)
    assert encoded.word_to_tokens(0, 9) is None
    assert encoded.token_to_word(3) == encoded.token_to_word(0, 3) == 1
    assert encoded.token_to_word(0, -2) == 1 and encoded.token_to_word(0) is None
    assert encoded.token_to_sequence(0, 5) == 1 and encoded.token_to_sequence(-3) == 1
    assert encoded.token_to_chars(3) == (7, 8) and encoded.token_to_chars(0, 3).end == 8
    assert encoded.token_to_chars(0) is None
    assert encoded.char_to_token(5) == 2 and encoded.char_to_token(0, 3) is None
    assert encoded.char_to_token(1, 2, sequence_index=1) == encoded.word_to_tokens(1, 1, 1).start
    assert encoded.word_to_chars(1) == (4, 8) and encoded.word_to_chars(1, 1, sequence_index=1) == (2, 5)
    assert encoded.char_to_word(0, 6) == 1 and encoded.char_to_word(6) == 1
    with pytest.raises(ValueError, match="it is not a tokenizer's direct output"):
        bert.pad(encoded).tokens()


@pytest.mark.parametrize("kind", ["np", "keras", KIND, keras.config.backend()])
def test_tensors(bert, kind):
    encoded = bert(["the cat", "a"], padding=True, return_tensors=kind)
    expected = bert(["the cat", "a"], padding=True)
    for name, value in encoded.items():
        assert interop.framework_of(value) == ("np" if kind == "np" else KIND)
        assert "int" in keras.backend.standardize_dtype(value.dtype)
        assert np.array_equal(keras.ops.convert_to_numpy(value), expected[name])
    assert bert("the", return_tensors=kind).input_ids.shape == (1, 3)
    assert bert.decode(encoded.input_ids[0], skip_special_tokens=True) == "the cat"
    assert bert.batch_decode(encoded.input_ids, skip_special_tokens=True) == ["the cat", "a"]
    assert bert.convert_ids_to_tokens(encoded.input_ids[1]) == ["[CLS]", "a", "[SEP]", "[PAD]"]
    assert interop.framework_of(bert.pad(encoded, padding="max_length", max_length=9).input_ids) == (
        "np" if kind == "np" else KIND
    )
    assert encoded.to("cpu") is encoded


def test_numpy_integers_are_64_bits(bert):
    assert {value.dtype for value in bert("the cat", return_tensors="np").values()} == {np.dtype("int64")}
    assert bert("", add_special_tokens=False, return_tensors="np").input_ids.dtype == np.int64


def test_floats_become_tensors():
    tensors = BatchEncoding({"labels": [0.5, 1.0], "names": ["a", "b"]}, tensor_type="np")
    assert tensors.labels.dtype == np.float64 and tensors.names.tolist() == ["a", "b"]
    assert keras.backend.standardize_dtype(BatchEncoding({"labels": [0.5]}, None, "keras").labels.dtype) == "float32"
    with pytest.raises(ValueError, match=r"'names' holds .* values, which make no tensor"):
        BatchEncoding({"names": ["a", "b"]}, tensor_type="keras")


def test_missing_framework(bert, monkeypatch):
    def import_module(name):
        raise ImportError(name)

    monkeypatch.setattr(interop, "import_module", import_module)
    with pytest.raises(ImportError, match="return_tensors='tf' needs TensorFlow, which is not installed"):
        bert("the", return_tensors="tf")


def test_padding_of_results(bert):
    rows = [bert("the cat", return_special_tokens_mask=True), bert("a", return_special_tokens_mask=True)]
    padded = bert.pad([{**row, "labels": 1} for row in rows], return_tensors="np")
    assert padded.input_ids.tolist() == [[2, 5, 7, 3], [2, 6, 3, 0]]
    assert padded.special_tokens_mask.tolist() == [[1, 0, 0, 1], [1, 0, 1, 1]]
    assert padded.labels.tolist() == [1, 1]
    assert bert.pad({"input_ids": []}) == {"input_ids": [], "attention_mask": []}
    arrays = bert.pad({"input_ids": [np.array([2, 3]), np.array([2])]})
    assert isinstance(arrays.input_ids, np.ndarray) and arrays.input_ids.tolist() == [[2, 3], [2, 0]]


def test_warnings_come_once(bert, gpt2):
    bert.model_max_length = 4
    with pytest.warns(UserWarning, match="A text has 5 tokens, more than the 4 that the model takes"):
        bert("the cat sat")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bert(["the cat sat on"])
        gpt2("the cat", truncation=True, verbose=False)
    with pytest.warns(UserWarning, match="max_length was given without truncation"):
        assert len(gpt2("the cat sat on", max_length=2).input_ids) == 2
    with pytest.warns(UserWarning, match="max_length is unknown"):
        gpt2("the cat", truncation=True)
    with pytest.warns(UserWarning, match="max_length has no effect with padding=True"):
        bert("the cat", padding=True, max_length=9)


BAD_CALLS = [
    ((), {}, ValueError, "Nothing to tokenize: give `text`"),
    ((3,), {}, TypeError, r"`text` must be a string or a list, not int \(3\)"),
    (({"text": "a"},), {}, TypeError, "`text` must be a string or a list, not dict"),
    ((["a", 3],), {}, TypeError, r"text\[1\] must be a string, not int \(3\)"),
    ((["a", None],), {}, TypeError, r"text\[1\] must be a string, not None"),
    (([b"bytes"],), {}, TypeError, r"text\[0\] must be a string, not bytes"),
    (([("a", 3)],), {}, TypeError, r"text\[0\] must be a string, not int"),
    (([["a", "b", "c"]],), {}, TypeError, r"text\[0\] has 3 texts, where one or a pair"),
    (("a", 3), {}, TypeError, "`text_pair` must be a string or a list, not int"),
    ((["a", "b"], ["c"]), {}, ValueError, "`text` has 2 items and `text_pair` 1"),
    ((["a", "b"], "c"), {}, TypeError, "so `text_pair` must be a list of the same length"),
    (("a b",), {"is_split_into_words": True}, TypeError, "needs `text` as a list of words"),
    (([["a", 3]],), {"is_split_into_words": True}, TypeError, r"text\[0\] must be words, not int"),
    (([["a"], "b"],), {"is_split_into_words": True}, TypeError, r"text\[1\] must be a list of words, not str"),
    (("a",), {"padding": "longst"}, ValueError, "padding='longst' is unknown.*Did you mean 'longest'"),
    (("a",), {"truncation": "only_frist"}, ValueError, "truncation='only_frist' is unknown.*Did you mean 'only_first'"),
    (("a",), {"padding_side": "top"}, ValueError, "padding_side='top' is unknown; it can be one of"),
    (("a",), {"return_tensors": "tff"}, ValueError, "return_tensors='tff' is unknown.*Did you mean 'tf'"),
    (("a",), {"truncation": True, "max_length": -1}, ValueError, "max_length must not be negative"),
    (("a",), {"truncation": True, "max_length": 6, "stride": 4}, ValueError, "stride=4 must lie between 0 and 4"),
    (("a",), {"truncation": True, "max_length": 6, "stride": -1}, ValueError, "stride=-1 must lie between"),
    ((["a cat", "a"],), {"return_tensors": "np"}, ValueError, "pass padding=True and truncation=True"),
    (
        ("the cat sat on the mat", "a"),
        {"truncation": "only_second", "max_length": 5},
        ValueError,
        "cannot be encoded with truncation='only_second', max_length=5",
    ),
    (
        ("the cat", "hello world the cat sat"),
        {"truncation": "only_second", "max_length": 9, "stride": 5},
        ValueError,
        "cannot be encoded with truncation='only_second', max_length=9 and stride=5",
    ),
    (
        (["a"],),
        {"truncation": True, "padding": True, "max_length": 10, "pad_to_multiple_of": 8},
        ValueError,
        "max_length=10 needs it to be a multiple of 8",
    ),
]


@pytest.mark.parametrize(("arguments", "options", "error", "message"), BAD_CALLS)
def test_bad_calls(bert, arguments, options, error, message):
    with pytest.raises(error, match=message):
        bert(*arguments, **options)
    assert bert("the cat").input_ids == [2, 5, 7, 3]


def test_other_bad_input(bert, gpt2):
    with pytest.raises(ValueError, match="has no padding token: set one"):
        gpt2(["a", "the cat"], padding=True)
    with pytest.raises(ValueError, match=r"GPT2Tokenizer takes words .* add_prefix_space=True"):
        gpt2(["a", "cat"], is_split_into_words=True)
    with pytest.raises(ValueError, match=r"Token ids cannot be negative: .*-100"):
        bert.decode([2, -100])
    with pytest.raises(TypeError, match="Token ids must be integers"):
        bert.decode([[2, 3]])
    with pytest.raises(ValueError, match=r"pad\(\) needs 'input_ids', and was given \['labels'\]"):
        bert.pad({"labels": [1]})
    with pytest.raises(ValueError, match="different numbers of rows"):
        bert.pad({"input_ids": [[1], [2]], "labels": [1]})
    with pytest.raises(ValueError, match="'only_second' cannot remove 2 ids of a text with 1"):
        bert.truncate_sequences([1, 2, 3], [4], 2, "only_second")


def test_threads_do_not_disturb_each_other(bert):
    texts = ["the cat sat on the mat hello world a un good bad", "hello", "the cats"] * 4
    options = [
        {"truncation": True, "max_length": length, "padding": padding, "padding_side": side}
        for length in (4, 7, 12)
        for padding in ("max_length", True, False)
        for side in ("left", "right")
    ]
    expected = [bert(texts, **each) for each in options]
    wrong = []

    def work(first: int):
        for turn in range(40):
            index = (first + turn) % len(options)
            encoded = bert(texts, **options[index])
            if encoded != expected[index] or bert.decode(encoded.input_ids[1], skip_special_tokens=True) != "hello":
                wrong.append(options[index])

    threads = [threading.Thread(target=work, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_conversions(bert):
    assert bert.convert_tokens_to_ids("cat") == 7 and bert.convert_tokens_to_ids(["cat", "nonsense"]) == [7, 1]
    assert bert.convert_ids_to_tokens(7) == "cat" and bert.convert_ids_to_tokens(10_000) is None
    assert bert.convert_tokens_to_string(["cat", "##s", "sat"]) == "cats sat"
    assert bert.decode(7) == "cat"
    assert bert.vocab["cat"] == bert.get_vocab()["cat"] == 7
    assert bert.get_special_tokens_mask([5, 7], [8]) == [1, 0, 0, 1, 0, 1]
    assert "BertTokenizer(name_or_path=" in repr(bert) and "AddedToken" in repr(bert)
