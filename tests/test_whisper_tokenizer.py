"""Whisper's tokenizer against the reference: prefixes, times, transcripts of overlapping sounds, normalized texts."""

import json
import pickle
import warnings

import numpy as np
import pytest

from keras_models.preprocessing.tokenizer import AutoTokenizer, WhisperTokenizer
from keras_models.preprocessing.whisper_text import LANGUAGES, TO_LANGUAGE_CODE
from tests import reference
from tests.reference import speech_tokenizers as probe
from tests.reference import tokenizers_

PLAIN = ["vocab.json", "merges.txt", "normalizer.json", "added_tokens.json", "special_tokens_map.json"]
# (folder, files or None for all)
FOLDERS = [
    ("whisper-tiny", None),
    ("whisper-large-v3", None),
    ("whisper-tiny", PLAIN),
    ("whisper-large-v3", [*PLAIN, "tokenizer_config.json"]),
]


def tiny_whisper() -> dict[str, str]:
    """Files of a small vocabulary of the first kind, which does not list the timestamps."""
    files = tokenizers_.tiny_bpe()
    names = ["startoftranscript", *list(LANGUAGES)[:99], "translate", "transcribe", "startoflm", "startofprev"]
    special = ["<|endoftext|>", *(f"<|{name}|>" for name in [*names, "nocaptions", "notimestamps"])]
    size = len(json.loads(files["vocab.json"]))
    files["added_tokens.json"] = json.dumps({token: size + index for index, token in enumerate(special)})
    files["special_tokens_map.json"] = json.dumps(
        {"additional_special_tokens": special[1:], "pad_token": "<|endoftext|>"}
    )
    files["normalizer.json"] = json.dumps({"colour": "color", "organise": "organize"})
    return files


def read(source, files, tmp_path) -> WhisperTokenizer:
    return WhisperTokenizer.from_pretrained(tokenizers_.folder_with(source, files, tmp_path))


def both(source, files, tmp_path, observer: str, **options) -> tuple:
    """What a function of the probe sees of our tokenizer, and of the reference's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine = getattr(probe, observer)(read(source, files, tmp_path), **options)
    arguments = {"name": "WhisperTokenizerFast", "source": source, "files": files, "observer": observer, **options}
    folder = reference.make("speech_tokenizers.seen", **arguments)
    return mine, json.loads((folder / "seen.json").read_text())


@pytest.mark.parametrize(("name", "files"), FOLDERS)
def test_equals_reference(shared, tmp_path, name, files):
    mine, expected = both(
        str(shared / "tokenizers" / name), files, tmp_path, "observe_whisper", texts=tokenizers_.TEXTS
    )
    for case, value in expected.items():
        assert mine[case] == value, case


@pytest.mark.parametrize("name", ["whisper-tiny", "whisper-large-v3"])
def test_chunks_equal_reference(shared, tmp_path, name):
    mine, expected = both(str(shared / "tokenizers" / name), None, tmp_path, "observe_chunks", count=60)
    compared = [(got, want) for pair in zip(mine, expected, strict=True) for got, want in zip(*pair, strict=True)]
    known = [(got, want) for got, want in compared if want is not None]
    assert len(known) > 0.95 * len(compared)
    for got, want in known:
        assert got == want
    assert all(got is not None for got, _ in compared)


def test_words_equal_reference(shared, tmp_path):
    mine, expected = both(
        str(shared / "tokenizers" / "whisper-tiny"), None, tmp_path, "observe_words", texts=tokenizers_.TEXTS, count=4
    )
    for got, want in zip(mine, expected, strict=True):
        for one, other in zip(got, want, strict=True):
            assert other is None or one == other


def test_vocabulary_without_timestamps_equals_reference(tmp_path):
    source = tiny_whisper()
    mine, expected = both(source, None, tmp_path, "observe_whisper", texts=tokenizers_.TEXTS)
    for case, value in expected.items():
        if case != "changed":  # timestamp_ids, which look for tokens that are not there
            assert mine[case] == value, case
    assert mine["changed"][:4] == expected["changed"][:4]


def test_chunks_of_vocabulary_without_timestamps(tmp_path):
    tokenizer = read(tiny_whisper(), None, tmp_path)
    first = tokenizer.timestamp_begin
    assert first == len(tokenizer)
    ids = [
        *tokenizer.prefix_tokens[:1],
        first,
        *tokenizer("the cat", add_special_tokens=False)["input_ids"],
        first + 75,
    ]
    text, more = tokenizer.decode_chunks([{"tokens": np.array([ids])}], return_timestamps=True)
    assert (text, more) == ("the cat", {"chunks": [{"timestamp": (0.0, 1.5), "text": "the cat"}]})
    assert tokenizer.decode(ids, decode_with_timestamps=True, skip_special_tokens=True) == "<|0.00|>the cat<|1.50|>"


def test_language_and_task_of_a_tokenizer(shared, tmp_path):
    folder = shared / "tokenizers" / "whisper-tiny"
    ids = {}
    for files in (None, PLAIN):
        source = tokenizers_.folder_with(str(folder), files, tmp_path / "files")
        tokenizer = AutoTokenizer.from_pretrained(source, language="Hindi", task="transcribe") if files is None else (
            WhisperTokenizer.from_pretrained(source, language="Hindi", task="transcribe")
        )  # fmt: skip
        ids[files is None] = tokenizer("hello")["input_ids"]
        assert ids[files is None][:4] == tokenizer.prefix_tokens
    assert ids[True] == ids[False]
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert (again.language, again.task, again("hello")["input_ids"]) == ("Hindi", "transcribe", ids[True])
    assert again.normalize("colour") == "color"
    # the reference's slow tokenizer does what ours does; its other one ignores the language until it is set again
    assert reference.call("speech_tokenizers.slow_ids", path=str(tmp_path / "saved"), text="hello") == ids[True]
    copy = pickle.loads(pickle.dumps(again))
    copy.set_prefix_tokens(language="fr")
    assert copy("hello")["input_ids"][1] == copy.convert_tokens_to_ids("<|fr|>")
    assert again("hello")["input_ids"] == ids[True]


def test_errors_say_what_is_wrong(shared, tmp_path):
    folder = shared / "tokenizers" / "whisper-tiny"
    with pytest.raises(ValueError, match="'frensh' is unknown.*Did you mean 'french'"):
        WhisperTokenizer.from_pretrained(folder, language="frensh")
    tokenizer = read(str(folder), None, tmp_path)
    before = tokenizer("a")["input_ids"]
    with pytest.raises(ValueError, match="task='transcript' is unknown.*Did you mean 'transcribe'"):
        tokenizer.set_prefix_tokens(language="french", task="transcript")
    with pytest.raises(ValueError, match="no token for the language 'cantonese'"):
        tokenizer.get_decoder_prompt_ids(language="cantonese")
    assert (tokenizer.language, tokenizer("a")["input_ids"]) == (None, before)
    with pytest.raises(ValueError, match=r"prompt cannot hold <\|fr\|>"):
        tokenizer.get_prompt_ids("a <|fr|> b")
    with pytest.raises(ValueError, match="need token_timestamps"):
        tokenizer.decode_chunks([{"tokens": np.array([[1, 2]])}], return_timestamps="word")


def test_unfinished_transcript_warns(shared, tmp_path):
    tokenizer = read(str(shared / "tokenizers" / "whisper-tiny"), None, tmp_path)
    with pytest.warns(UserWarning, match="ended without a timestamp"):
        text, more = tokenizer.decode_chunks([{"tokens": [[50364, 1002]]}], return_timestamps=True)
    assert more["chunks"] == [{"timestamp": (0.0, None), "text": text}]


def test_languages_equal_reference():
    languages, codes = reference.call("speech_tokenizers.languages")
    assert list(LANGUAGES.items()) == list(languages.items())
    assert codes == TO_LANGUAGE_CODE
