"""Wav2Vec2's tokenizer of characters against the reference."""

import json
import pickle
import warnings

import numpy as np
import pytest

from keras_models.preprocessing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from keras_models.preprocessing.tokenizer import AutoTokenizer
from tests import reference
from tests.reference import speech_tokenizers as probe
from tests.reference import tokenizers_

CONFIGS = [
    {},
    {"do_lower_case": True},
    {"replace_word_delimiter_char": "_", "word_delimiter_token": "'", "clean_up_tokenization_spaces": True},
    {"bos_token": None, "eos_token": "[END]", "model_max_length": 7, "padding_side": "left"},
]
NESTED = {
    language: {token: index for index, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *letters])}
    for language, letters in (("eng", "ABC"), ("fra", "CBAÉ"))
}


def folder_of(tmp_path, vocabulary: dict, config: dict):
    config = {"tokenizer_class": "Wav2Vec2CTCTokenizer"} | config
    texts = {"vocab.json": json.dumps(vocabulary), "tokenizer_config.json": json.dumps(config)}
    return texts, tokenizers_.folder_with(texts, None, tmp_path)


def observe(tokenizer) -> dict:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return probe.observe_ctc(tokenizer, tokenizers_.TEXTS)


@pytest.mark.parametrize("config", CONFIGS)
def test_equals_reference(tmp_path, config):
    source, folder = folder_of(tmp_path, probe.LETTER_IDS, config)
    arguments = {"name": "AutoTokenizer", "source": source, "observer": "observe_ctc", "texts": tokenizers_.TEXTS}
    expected = json.loads((reference.make("speech_tokenizers.seen", **arguments) / "seen.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(tokenizer) is Wav2Vec2CTCTokenizer
    tokenizer.save_pretrained(tmp_path / "saved")
    mine = observe(tokenizer)
    for case, value in expected.items():
        assert mine[case] == value, case
    assert {path.name for path in (tmp_path / "saved").iterdir()} >= {"vocab.json", "tokenizer_config.json"}
    assert not (tmp_path / "saved" / "tokenizer.json").exists()
    again = reference.call("speech_tokenizers.reread_ctc", path=str(tmp_path / "saved"), texts=tokenizers_.TEXTS)
    assert again.pop("class") == "Wav2Vec2CTCTokenizer"
    assert again == expected
    assert observe(AutoTokenizer.from_pretrained(tmp_path / "saved")) == mine


def test_several_languages_equal_reference(tmp_path):
    source, folder = folder_of(tmp_path, NESTED, {"target_lang": "eng"})
    arguments = {"name": "AutoTokenizer", "source": source, "observer": "observe_languages"}
    expected = json.loads((reference.make("speech_tokenizers.seen", **arguments) / "seen.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.target_lang == "eng"
    assert probe.observe_languages(tokenizer) == expected
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert (again.target_lang, again("É")["input_ids"], again.vocab_size) == ("fra", [8], 9)
    with pytest.raises(ValueError, match=r"'frq' is none of \['eng', 'fra'\].*Did you mean 'fra'"):
        tokenizer.set_target_lang("frq")
    assert tokenizer.target_lang == "fra"
    with pytest.raises(ValueError, match="target_lang=None is none of"):
        AutoTokenizer.from_pretrained(folder, target_lang=None)


def test_one_language_has_no_other(tmp_path):
    _, folder = folder_of(tmp_path, probe.LETTER_IDS, {})
    with pytest.raises(ValueError, match="was given for a vocabulary of one language"):
        Wav2Vec2CTCTokenizer.from_pretrained(folder, target_lang="eng")


def test_found_by_its_files_or_made_of_a_path(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps(probe.LETTER_IDS))
    for tokenizer in (AutoTokenizer.from_pretrained(tmp_path), Wav2Vec2CTCTokenizer(tmp_path / "vocab.json")):
        assert type(tokenizer) is Wav2Vec2CTCTokenizer
        assert pickle.loads(pickle.dumps(tokenizer))("A CAT").input_ids == tokenizer("A CAT")["input_ids"]


def test_arrays_and_attributes(tmp_path):
    _, folder = folder_of(tmp_path, probe.LETTER_IDS, {})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    row = [7, 7, 0, 7, 4, 6]
    assert tokenizer.batch_decode(np.array([row])) == ["AA T"]
    output = tokenizer.decode(np.array(row), output_word_offsets=True)
    assert output.text == "AA T"
    assert output.word_offsets == [
        {"word": "AA", "start_offset": 0, "end_offset": 4},
        {"word": "T", "start_offset": 5, "end_offset": 6},
    ]
    batch = tokenizer(["A", "CAT"], padding=True, return_tensors="np")
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 3)
