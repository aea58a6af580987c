"""Tokenizers read, written, chosen, extended and trained."""

import copy
import json
import pickle
import warnings
from pathlib import Path

import pytest
from tokenizers import AddedToken

from keras_models import hub
from keras_models.preprocessing import tokenizer as ours
from tests import reference
from tests.reference import tokenizers_ as probe

ROBERTA = probe.tiny_bpe("<s>", "<pad>", "</s>", "<unk>", "<mask>")
GPT2 = probe.tiny_bpe("<|endoftext|>")
# (class in the reference, folder, overrides)
SAVED = [
    ("AutoTokenizer", "electra-small", {}),
    ("AutoTokenizer", "bart-large-cnn", {"add_prefix_space": True, "model_max_length": 88}),
    ("AutoTokenizer", "gpt2", {"padding_side": "left"}),
    ("AutoTokenizer", "clip-vit-base-patch32", {}),
]


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def bert(tmp_path) -> ours.Tokenizer:
    return ours.BertTokenizer.from_pretrained(probe.folder_with(probe.TINY_BERT, None, tmp_path))


def read(folder: Path) -> dict:
    """What the JSON files of a folder hold, and which others there are."""
    names = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    values = {name: json.loads(texts[name]) for name in names if name in texts}
    # What the reference keeps of blocks in tokenizer.json, or notes beside: none of it is ever read.
    for name in (
        "max_length",
        "stride",
        "truncation_strategy",
        "pad_to_multiple_of",
        "pad_token_type_id",
        "truncation_side",
    ):
        values["tokenizer_config.json"].pop(name, None)
    others = {name: text for name, text in texts.items() if name not in (*names, "tokenizer.json")}
    return values | others | {"files": sorted(texts)}


@pytest.mark.parametrize(("name", "source", "overrides"), SAVED)
def test_saved_files_are_those_of_the_reference(shared, tmp_path, name, source, overrides):
    source = str(shared / "tokenizers" / source)
    folder = reference.make("tokenizers_.saved", name=name, source=source, overrides=overrides)
    tokenizer = getattr(ours, name).from_pretrained(source, **overrides)
    mine = json.loads(json.dumps([probe.add_some(tokenizer), probe.observe_added(tokenizer)]))
    assert mine == json.loads((folder / "seen.json").read_text())
    written = tokenizer.save_pretrained(tmp_path / "saved")
    assert sorted(written) == sorted(str(path) for path in (tmp_path / "saved").iterdir())
    assert read(tmp_path / "saved") == read(folder / "saved")
    from_reference = ours.AutoTokenizer.from_pretrained(folder / "saved")
    assert type(from_reference) is type(tokenizer)
    assert json.loads(json.dumps(probe.observe_added(from_reference))) == mine[1]
    again = ours.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert probe.observe_added(again) == probe.observe_added(tokenizer)
    assert again.init_kwargs["model_max_length"] == tokenizer.model_max_length


def test_reference_reads_saved_files(shared, tmp_path):
    tokenizer = ours.AutoTokenizer.from_pretrained(shared / "tokenizers" / "bert-base-uncased")
    probe.add_some(tokenizer)
    tokenizer("used", padding="max_length", max_length=9, truncation=True)
    tokenizer.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["padding"] is None
    name, added, seen = reference.call("tokenizers_.reread", path=str(tmp_path), name="AutoTokenizer", with_words=True)
    assert name == "BertTokenizerFast"
    assert added == json.loads(json.dumps(probe.observe_added(tokenizer)))
    assert seen == probe.observe(tokenizer)


CHOICES = [
    ({"tokenizer_config.json": {"tokenizer_class": "DistilBertTokenizerFast"}}, ours.DistilBertTokenizer),
    ({"tokenizer_config.json": {"tokenizer_class": "LayoutLMTokenizer"}}, ours.BertTokenizer),
    (
        {"tokenizer_config.json": {"do_lower_case": False}, "config.json": {"model_type": "electra"}},
        ours.ElectraTokenizer,
    ),
    ({"config.json": {"tokenizer_class": "ElectraTokenizer", "model_type": "bert"}}, ours.ElectraTokenizer),
    ({"config.json": {"model_type": "distilbert"}}, ours.DistilBertTokenizer),
    ({}, ours.BertTokenizer),
]


@pytest.mark.parametrize(("files", "expected"), CHOICES)
def test_class_is_chosen_by_the_files(tmp_path, files, expected):
    files = {name: json.dumps(value) for name, value in files.items()}
    folder = probe.folder_with(probe.TINY_BERT | files, None, tmp_path)
    tokenizer = ours.AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
    assert type(tokenizer) is expected
    assert type(ours.PreTrainedTokenizerFast.from_pretrained(str(folder))) is expected
    assert tokenizer.tokenize("the cats") == ["the", "cat", "##s"]


@pytest.mark.parametrize(("files", "expected"), [(ROBERTA, ours.RobertaTokenizer), (GPT2, ours.GPT2Tokenizer)])
def test_class_is_chosen_by_the_vocabulary(tmp_path, files, expected):
    tokenizer = ours.AutoTokenizer.from_pretrained(probe.folder_with(files, None, tmp_path))
    assert type(tokenizer) is expected
    assert (
        tokenizer.decode(tokenizer("the cat and ünïcode 😀").input_ids, skip_special_tokens=True)
        == "the cat and ünïcode 😀"
    )


def test_class_is_chosen_by_a_configuration(tmp_path):
    folder = probe.folder_with(probe.TINY_BERT, None, tmp_path)
    config = type("Config", (), {"model_type": "distilbert"})()
    assert type(ours.AutoTokenizer.from_pretrained(folder, config=config)) is ours.DistilBertTokenizer


def test_registered_class_is_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr(ours, "CLASSES", dict(ours.CLASSES))
    monkeypatch.setattr(ours, "MODEL_TYPES", dict(ours.MODEL_TYPES))

    class Mine(ours.BertTokenizer):
        saved_as = "Mine"

    ours.AutoTokenizer.register(type("Config", (), {"model_type": "mine"}), Mine)
    files = probe.TINY_BERT | {"config.json": json.dumps({"model_type": "mine"})}
    tokenizer = ours.AutoTokenizer.from_pretrained(probe.folder_with(files, None, tmp_path))
    assert type(tokenizer) is Mine
    tokenizer.save_pretrained(tmp_path / "saved")
    assert type(ours.AutoTokenizer.from_pretrained(tmp_path / "saved")) is Mine
    with pytest.raises(TypeError, match="AutoTokenizer makes no objects"):
        ours.AutoTokenizer()


def test_stored_class_name_survives_saving(tmp_path):
    files = probe.TINY_BERT | {"tokenizer_config.json": json.dumps({"tokenizer_class": "LayoutLMTokenizer"})}
    ours.AutoTokenizer.from_pretrained(probe.folder_with(files, None, tmp_path)).save_pretrained(tmp_path / "saved")
    assert (
        json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())["tokenizer_class"] == "LayoutLMTokenizer"
    )


def test_made_from_parts(tmp_path, bert):
    by_path = ours.BertTokenizerFast(tmp_path / "vocab.txt", do_lower_case=False)
    assert by_path.tokenize("The cat") == ["[UNK]", "cat"]
    bert.save_pretrained(tmp_path / "saved")
    by_file = ours.PreTrainedTokenizerFast(tokenizer_file=tmp_path / "saved" / "tokenizer.json", pad_token="[PAD]")
    assert by_file(["the", "a cat"], padding=True).input_ids == bert(["the", "a cat"], padding=True).input_ids
    by_object = ours.Tokenizer(tokenizer_object=bert.backend_tokenizer, mask_token="[MASK]")
    by_object.add_tokens("wholly new")
    assert len(by_object) == len(bert) + 1
    assert by_object.mask_token_id == bert.mask_token_id


def test_chat_templates(tmp_path, bert):
    bert.chat_template = "{{ messages }}"
    bert.save_pretrained(tmp_path / "one")
    assert (tmp_path / "one" / "chat_template.jinja").read_text() == "{{ messages }}"
    assert ours.AutoTokenizer.from_pretrained(tmp_path / "one").chat_template == "{{ messages }}"
    bert.chat_template = {"default": "a", "tools": "b"}
    bert.save_pretrained(tmp_path / "two")
    assert ours.AutoTokenizer.from_pretrained(tmp_path / "two").chat_template == {"default": "a", "tools": "b"}


def test_special_tokens_are_attributes(bert):
    bert.pad_token = bert.sep_token
    assert (bert.pad_token, bert.pad_token_id) == ("[SEP]", 3)
    bert.cls_token_id = 4
    assert bert.cls_token == "[MASK]"
    bert.mask_token = None
    assert bert.mask_token is None and bert.mask_token_id is None and "mask_token" not in bert.special_tokens_map
    bert.additional_special_tokens = ["cat", AddedToken("mat")]
    assert bert.additional_special_tokens_ids == bert.convert_tokens_to_ids(["cat", "mat"])
    assert bert.bos_token is None and bert.bos_token_id is None
    with pytest.raises(TypeError, match="sep_token must be a string"):
        bert.sep_token = 3
    with pytest.raises(TypeError, match="must be a list of strings"):
        bert.additional_special_tokens = "cat"
    with pytest.raises(AttributeError, match="BertTokenizer has no attribute 'image_token'"):
        _ = bert.image_token


def test_a_model_has_its_own_special_tokens(tmp_path):
    folder = probe.folder_with(probe.TINY_BERT, None, tmp_path)
    tokenizer = ours.BertTokenizer.from_pretrained(folder, extra_special_tokens={"image_token": "<image>"})
    assert tokenizer.image_token == "<image>"
    assert tokenizer.image_token_id == len(tokenizer) - 1
    assert tokenizer.tokenize("a<image>cat") == ["a", "<image>", "cat"]
    tokenizer.save_pretrained(tmp_path / "saved")
    assert ours.AutoTokenizer.from_pretrained(tmp_path / "saved").image_token == "<image>"
    listed = ours.BertTokenizer.from_pretrained(folder, extra_special_tokens=["<one>", "<two>"])
    assert listed.additional_special_tokens == ["<one>", "<two>"]


@pytest.mark.parametrize("duplicate", [lambda each: pickle.loads(pickle.dumps(each)), copy.deepcopy])
def test_copies_are_equal_and_apart(bert, duplicate):
    twin = duplicate(bert)
    assert repr(twin) == repr(bert)
    assert twin("a cat and").input_ids == bert("a cat and").input_ids
    twin.add_tokens("catnip")
    assert len(twin) == len(bert) + 1


def test_pushed_files(bert, monkeypatch):
    pushed = {}

    def push_folder(folder, repo_id, **options):
        pushed[repo_id] = sorted(path.name for path in Path(folder).iterdir()), options
        return "address"

    monkeypatch.setattr(hub, "push_folder", push_folder)
    assert bert.push_to_hub("me/mine", private=True) == "address"
    files = ["special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    assert pushed == {"me/mine": (files, {"private": True})}


def test_trained_bpe_equals_reference(shared):
    source = str(shared / "tokenizers" / "roberta-base")
    folder = reference.make("tokenizers_.seen", name="RobertaTokenizerFast", source=source, observer="train")
    trained = probe.train(ours.RobertaTokenizer.from_pretrained(source))
    assert json.loads(json.dumps(trained)) == json.loads((folder / "seen.json").read_text())


@pytest.mark.parametrize(
    ("name", "source"), [("ElectraTokenizerFast", "electra-small"), ("T5TokenizerFast", "t5-small")]
)
def test_trained_tokenizers_resemble_the_reference(shared, name, source):
    # These two kinds of training break ties at random, so that no two vocabularies are equal.
    source = str(shared / "tokenizers" / source)
    folder = reference.make("tokenizers_.seen", name=name, source=source, observer="train")
    expected = json.loads((folder / "seen.json").read_text())
    trained = json.loads(json.dumps(probe.train(getattr(ours, name).from_pretrained(source))))
    for (vocabulary, _, *special), (expected_vocabulary, _, *expected_special) in zip(trained, expected, strict=True):
        assert special == expected_special
        assert len(vocabulary) == len(expected_vocabulary)
        assert len(vocabulary.keys() & expected_vocabulary.keys()) > 0.8 * len(vocabulary)


DAMAGED = [
    ({}, ours.AutoTokenizer, r"There is no tokenizer in .*: Tokenizer needs tokenizer\.json\."),
    ({}, ours.BertTokenizer, r"BertTokenizer needs tokenizer\.json, or vocab\.txt\."),
    ({"vocab.json": "{}"}, ours.RobertaTokenizer, r"needs tokenizer\.json, or vocab\.json with merges\.txt\."),
    (
        probe.TINY_BERT | {"tokenizer_config.json": '{"do_lower_case": tru'},
        ours.BertTokenizer,
        "tokenizer_config.json is not",
    ),
    (probe.TINY_BERT | {"config.json": "no"}, ours.AutoTokenizer, r"config\.json is not valid JSON"),
    (probe.TINY_BERT | {"special_tokens_map.json": "[]"}, ours.AutoTokenizer, "special_tokens_map.json should hold"),
    ({"tokenizer.json": '{"version": "1.0", "model"'}, ours.AutoTokenizer, r"tokenizer\.json "),
    (
        {"tokenizer.json": '{"version": "1.0", "added_tokens": []}'},
        ours.AutoTokenizer,
        "cannot be read as a tokenizer.json",
    ),
    (
        GPT2 | {"merges.txt": "#version: 0.2\nt h\nthe\n"},
        ours.GPT2Tokenizer,
        "Line 3 of .*merges.txt should hold two tokens",
    ),
    (
        probe.TINY_BERT | {"tokenizer_config.json": '{"padding_side": "lfet"}'},
        ours.AutoTokenizer,
        "Did you mean 'left'",
    ),
    (probe.TINY_BERT | {"tokenizer_config.json": '{"sep_token": 3}'}, ours.AutoTokenizer, "sep_token must be a string"),
]


@pytest.mark.parametrize(("files", "loader", "message"), DAMAGED)
def test_damaged_folders(tmp_path, files, loader, message):
    with pytest.raises((ValueError, TypeError), match=message):
        loader.from_pretrained(probe.folder_with(files, None, tmp_path))


def test_nothing_to_build_from():
    with pytest.raises(ValueError, match=r"BertTokenizer needs tokenizer\.json, or vocab\.txt to be built from"):
        ours.BertTokenizer(do_lower_case=False)


def test_bad_tokens(bert):
    with pytest.raises(TypeError, match="A token must be a string or an AddedToken, not 3"):
        bert.add_tokens(["fine", 3])
    with pytest.raises(ValueError, match="'padding_token' is not the name of a special token"):
        bert.add_special_tokens({"padding_token": "x"})
    assert bert.add_tokens([]) == 0


def test_notes_of_old_files_are_not_settings(tmp_path):
    notes = {"vocab_file": "elsewhere/vocab.txt", "tokenizer_file": "elsewhere.json", "init_inputs": [], "max_len": 20}
    files = probe.TINY_BERT | {"tokenizer_config.json": json.dumps(notes)}
    tokenizer = ours.BertTokenizer.from_pretrained(probe.folder_with(files, None, tmp_path))
    assert tokenizer.model_max_length == 20 and tokenizer.tokenize("the cat") == ["the", "cat"]


def test_added_role_of_a_models_own_token(tmp_path):
    folder = probe.folder_with(probe.TINY_BERT, None, tmp_path)
    tokenizer = ours.BertTokenizer.from_pretrained(folder, extra_special_tokens={"image_token": "<image>"})
    assert tokenizer.add_special_tokens({"image_token": "<picture>"}) == 1
    assert (tokenizer.image_token, tokenizer.image_token_id) == ("<picture>", len(tokenizer) - 1)
