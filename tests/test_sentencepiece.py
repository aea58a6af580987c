"""Tokenizers built from SentencePiece models, against the reference: small models trained for this, and real ones."""

import json
import warnings
from pathlib import Path

import pytest

import keras_models
from keras_models.preprocessing import tokenizer as ours
from keras_models.preprocessing.sentencepiece import read_model
from tests import reference
from tests.reference import sentencepiece_ as probe
from tests.reference import tokenizers_

NO_PREFIX, NOT_LEGACY = {"add_prefix_space": False}, {"legacy": False}
CONFIG = "tokenizer_config.json"
NORMALIZED = {
    name: {"__type": "AddedToken", "content": token, "lstrip": False, "normalized": True, "rstrip": False,
           "single_word": False}
    for name, token in (("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>"))
}  # fmt: skip
ADDED = {
    "bos_token": "<s>", "pad_token": "<pad>", "chat_template": "{{ messages }}", "model_max_length": 99,
    "added_tokens_decoder": {
        "1": {"content": "<s>", "lstrip": False, "normalized": False, "rstrip": True, "single_word": False,
              "special": True},
        "600": {"content": "<pad>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                "special": True},
    },
}  # fmt: skip
# (class in the reference, model, further files, overrides)
SMALL = [
    ("T5TokenizerFast", "t5", {}, {}),
    ("T5TokenizerFast", "t5", {}, NOT_LEGACY),
    ("T5TokenizerFast", "t5", {}, {"extra_ids": 3, **NO_PREFIX}),
    ("T5TokenizerFast", "t5", {CONFIG: {"additional_special_tokens": ["<x>"], "legacy": None}}, {"extra_ids": 0}),
    ("LlamaTokenizerFast", "llama", {}, {}),
    ("LlamaTokenizerFast", "llama", {}, NOT_LEGACY),
    ("LlamaTokenizerFast", "llama", {}, NO_PREFIX),
    ("LlamaTokenizerFast", "llama", {CONFIG: {"add_prefix_space": None}}, NOT_LEGACY),
    ("LlamaTokenizerFast", "llama", {}, {"pad_token": "</s>", "add_bos_token": False, "add_eos_token": True}),
    ("LlamaTokenizerFast", "llama", {CONFIG: ADDED}, {"add_prefix_space": True}),
    ("XLMRobertaTokenizerFast", "xlm_roberta", {}, {}),
]
# (class in the reference, folder, files, overrides)
REAL = [
    ("AutoTokenizer", "llama2", ["tokenizer.model", CONFIG], NOT_LEGACY),
    ("AutoTokenizer", "mistral", ["tokenizer.model", CONFIG], {}),
    ("AutoTokenizer", "t5-base", ["spiece.model", "tokenizer.json", "config.json"], {"from_slow": True}),
    ("T5TokenizerFast", "t5-base", ["spiece.model", "tokenizer.json"], {"add_prefix_space": True, **NOT_LEGACY}),
    ("T5TokenizerFast", "t5-base", ["spiece.model"], {}),
]


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def small(name: str, **options) -> str:
    """The folder of a small model."""
    return str(reference.make("sentencepiece_.trained", name=name, **options))


def expected(name: str, source: str, keep: list[str] | None, extra: dict, overrides: dict) -> tuple[dict, Path]:
    """What the reference does, and the folder it saved."""
    arguments = {"name": name, "source": source, "keep": keep, "extra": extra, "overrides": overrides}
    folder = reference.make("sentencepiece_.seen", **arguments)
    return json.loads((folder / "seen.json").read_text()), folder / "saved"


def compare(tokenizer: ours.Tokenizer, seen: dict, without: tuple[str, ...] = ()):
    mine = {"look": probe.look(tokenizer), "observe": tokenizers_.observe(tokenizer)}
    for part, values in seen.items():
        for case, value in values.items():
            assert case in without or mine[part][case] == value, (part, case)


def settings_of(folder: Path) -> dict:
    """What tokenizer_config.json says, without what stands for nothing."""
    ignored = ("sp_model_kwargs", "spaces_between_special_tokens", "use_default_system_prompt")
    settings = json.loads((folder / CONFIG).read_text())
    return {name: value for name, value in settings.items() if name not in ignored and value is not None}


@pytest.mark.parametrize(("name", "model", "extra", "overrides"), SMALL)
def test_small_models_equal_the_reference(tmp_path, name, model, extra, overrides):
    seen, saved = expected(name, small(model), None, extra, overrides)
    folder = probe.prepared(small(model), tmp_path, None, extra)
    tokenizer = getattr(ours, name).from_pretrained(folder, **overrides)
    compare(tokenizer, seen)
    written = [Path(path) for path in tokenizer.save_pretrained(tmp_path / "saved")]
    assert sorted(path.name for path in written) == sorted(path.name for path in saved.iterdir())
    model_file = probe.FILES[model]
    assert (tmp_path / "saved" / model_file).read_bytes() == (folder / model_file).read_bytes()
    assert settings_of(tmp_path / "saved") == settings_of(saved)
    assert json.loads((tmp_path / "saved" / "special_tokens_map.json").read_text()) == json.loads(
        (saved / "special_tokens_map.json").read_text()
    )
    for each in (saved, tmp_path / "saved"):
        again = ours.AutoTokenizer.from_pretrained(each)
        assert type(again) is type(tokenizer)
        assert probe.look(again) == seen["look"]


@pytest.mark.parametrize(("name", "source", "keep", "overrides"), REAL)
def test_real_models_equal_the_reference(shared, tmp_path, name, source, keep, overrides):
    source = str(shared / "tokenizers" / source)
    seen, _ = expected(name, source, keep, {}, overrides)
    compare(getattr(ours, name).from_pretrained(probe.prepared(source, tmp_path, keep, {}), **overrides), seen)


def test_other_files_of_mistral_are_ignored(shared):
    """The reference takes the one of them for the model that the system happens to list first."""
    tokenizer = ours.AutoTokenizer.from_pretrained(shared / "tokenizers" / "mistral")
    assert tokenizer.vocab_file.name == "tokenizer.model" and len(tokenizer) == 32000


def test_a_token_of_the_model_is_never_normalized(tmp_path):
    """The reference says that it is if the settings do, and does not act like it."""
    seen, _ = expected("LlamaTokenizerFast", small("llama"), None, {CONFIG: NORMALIZED}, {})
    folder = probe.prepared(small("llama"), tmp_path, None, {CONFIG: NORMALIZED})
    tokenizer = ours.LlamaTokenizer.from_pretrained(folder)
    compare(tokenizer, seen, without=("flags", "attributes"))
    assert [seen["look"]["flags"][index]["normalized"] for index in "012"] == [True, True, True]
    assert [token.normalized for token in tokenizer.added_tokens_decoder.values()][:3] == [True, False, False]
    tokenizer.save_pretrained(tmp_path / "saved")
    assert ours.AutoTokenizer.from_pretrained(tmp_path / "saved")(probe.SOME) == tokenizer(probe.SOME)


SAVED = [("T5Tokenizer", "t5", {}), ("LlamaTokenizer", "llama", NOT_LEGACY), ("XLMRobertaTokenizer", "xlm_roberta", {}),
         ("SiglipTokenizer", "siglip", {})]  # fmt: skip


@pytest.mark.parametrize(("name", "model", "overrides"), SAVED)
def test_reference_reads_what_is_saved(tmp_path, name, model, overrides):
    tokenizer = getattr(ours, name)(Path(small(model), probe.FILES[model]), **overrides)
    tokenizer.save_pretrained(tmp_path)
    _, saved = expected(name if model == "siglip" else f"{name}Fast", small(model), None, {}, overrides)
    # What the reference saves itself makes its slow tokenizers put no space before texts.
    read, own = (
        reference.call("sentencepiece_.reread", source=str(each), name=name, add_prefix_space=True)
        for each in (tmp_path, saved)
    )
    assert read == own
    assert model == "siglip" or read["fast"] == probe.look(tokenizer)


def test_siglip_equals_the_reference(tmp_path):
    """Which is a slow tokenizer: it has no offsets, and reads marks over letters and special tokens another way."""
    seen, _ = expected("SiglipTokenizer", small("siglip"), None, {}, {})
    tokenizer = ours.SiglipTokenizer.from_pretrained(small("siglip"))
    texts = probe.SOME + probe.random_texts()
    plain = [n for n, text in enumerate(texts) if not any(c in text for c in ("</s>", "<unk>", *map(chr, probe.MARKS)))]
    assert len(plain) > 120
    for number in plain:
        encoded = tokenizer(texts[number])
        assert dict(encoded) == seen["look"]["texts"][number], texts[number]
        assert tokenizer.decode(encoded.input_ids, skip_special_tokens=True) == seen["look"]["skipped"][number]
    for case in ("flags", "special", "size"):
        assert probe.look(tokenizer)[case] == seen["look"][case]
    cased = ours.SiglipTokenizer.from_pretrained(small("siglip"), do_lower_case=False, model_max_length=9)
    assert cased.tokenize("A, a") == ["▁", "A", "▁", "a"] and cased.model_max_length == 9
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "spiece.model").unlink()  # then it reads tokenizer.json, which the reference does not
    assert ours.AutoTokenizer.from_pretrained(tmp_path)(texts).input_ids == tokenizer(texts).input_ids


@pytest.mark.parametrize(("name", "model"), [("LlamaTokenizerFast", "llama"), ("T5TokenizerFast", "t5")])
def test_added_tokens_equal_the_reference(name, model):
    folder = reference.make("sentencepiece_.added", name=name, source=small(model), observer="extend")
    mine = probe.extend(getattr(ours, name).from_pretrained(small(model)))
    assert json.loads(json.dumps(mine)) == json.loads((folder / "seen.json").read_text())


def test_added_tokens_of_a_lower_casing_tokenizer_equal_the_reference(shared):
    source = str(shared / "tokenizers" / "bert-base-uncased")
    folder = reference.make("sentencepiece_.added", name="BertTokenizerFast", source=source, observer="extend")
    mine = probe.extend(ours.BertTokenizer.from_pretrained(source))
    assert json.loads(json.dumps(mine)) == json.loads((folder / "seen.json").read_text())


def test_retrained_equals_the_reference(tmp_path):
    arguments = {"name": "LlamaTokenizerFast", "source": small("llama"), "observer": "retrained"}
    tokenizer = ours.LlamaTokenizer.from_pretrained(small("llama"))
    mine = json.loads(json.dumps(probe.retrained(tokenizer)))
    assert mine == json.loads((reference.make("sentencepiece_.added", **arguments) / "seen.json").read_text())
    new = tokenizer.train_new_from_iterator(probe.CORPUS, 300)
    new.save_pretrained(tmp_path)
    assert not (tmp_path / "tokenizer.model").exists()  # which would be that of the old vocabulary
    again = ours.AutoTokenizer.from_pretrained(tmp_path)
    assert type(again) is ours.LlamaTokenizer
    assert again(probe.SOME) == new(probe.SOME)


def test_legacy_acts_where_there_is_a_tokenizer_json(tmp_path):
    ours.LlamaTokenizer.from_pretrained(small("llama")).save_pretrained(tmp_path)
    text = "the <s>fox"
    assert ours.AutoTokenizer.from_pretrained(tmp_path, legacy=False).tokenize(text)[-1] == "▁fox"
    for more in ({"from_slow": True}, {"add_prefix_space": True}):
        tokenizer = ours.AutoTokenizer.from_pretrained(tmp_path, legacy=False, **more)
        assert tokenizer.tokenize(text)[-1] == "x"


def test_without_the_model_file(tmp_path):
    tokenizer = ours.LlamaTokenizer.from_pretrained(small("llama"))
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.model").unlink()
    ours.LlamaTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again" / "tokenizer.model").exists()
    read = ours.LlamaTokenizer.from_pretrained(tmp_path, add_prefix_space=True)  # as it is anyway
    assert read(probe.SOME) == tokenizer(probe.SOME)
    with pytest.raises(ValueError, match=r"add_prefix_space=False does not fit .*: put tokenizer\.model beside it"):
        ours.LlamaTokenizer.from_pretrained(tmp_path, add_prefix_space=False)
    with pytest.raises(ValueError, match=r"LlamaTokenizer needs tokenizer\.model to be built with from_slow=True"):
        ours.LlamaTokenizer.from_pretrained(tmp_path, from_slow=True)


def test_saved_over_itself(tmp_path):
    probe.prepared(small("t5"), tmp_path, None, {})
    before = (tmp_path / "spiece.model").read_bytes()
    ours.T5Tokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    assert (tmp_path / "spiece.model").read_bytes() == before


def test_tokens_around_texts_may_change():
    tokenizer = ours.LlamaTokenizer.from_pretrained(small("llama"))
    ids = tokenizer("fox").input_ids[1:]
    tokenizer.add_bos_token, tokenizer.add_eos_token = False, True
    assert (tokenizer.add_bos_token, tokenizer.add_eos_token) == (False, True)
    assert tokenizer("fox").input_ids == [*ids, 2]
    tokenizer.eos_token = "<control>"
    tokenizer.update_post_processor()
    assert tokenizer("fox").input_ids == [*ids, tokenizer.convert_tokens_to_ids("<control>")]
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="add_eos_token is set, but eos_token is None"):
        tokenizer.update_post_processor()


def test_sentinels_are_all_named_or_none():
    with pytest.raises(ValueError, match="has 1 of the tokens <extra_id_0> ... where extra_ids is 100"):
        ours.T5Tokenizer.from_pretrained(small("t5"), additional_special_tokens=["<extra_id_0>"])
    tokenizer = ours.T5Tokenizer.from_pretrained(small("t5"))
    assert tokenizer.convert_tokens_to_ids(["<extra_id_0>", "<extra_id_99>"]) == [
        len(tokenizer) - 1,
        len(tokenizer) - 100,
    ]


CHOICES = [
    ("t5", {CONFIG: {"tokenizer_class": "MT5TokenizerFast"}}, "T5Tokenizer"),
    ("t5", {"config.json": {"model_type": "mt5"}}, "MT5Tokenizer"),
    ("t5", {}, "T5Tokenizer"),
    ("llama", {"config.json": {"model_type": "mistral"}, "tokenizer.model.v3": "other"}, "LlamaTokenizer"),
    ("llama", {}, "LlamaTokenizer"),
    ("xlm_roberta", {CONFIG: {"tokenizer_class": "XLMRobertaTokenizer"}}, "XLMRobertaTokenizerFast"),
    ("siglip", {"config.json": {"model_type": "siglip"}}, "SiglipTokenizer"),
]


@pytest.mark.parametrize(("model", "extra", "name"), CHOICES)
def test_class_is_chosen(tmp_path, model, extra, name):
    tokenizer = keras_models.AutoTokenizer.from_pretrained(probe.prepared(small(model), tmp_path, None, extra))
    assert type(tokenizer) is getattr(keras_models, name)
    assert tokenizer.vocab_file == tmp_path / probe.FILES[model]


DAMAGED = [
    (lambda data: data[:-1], "it ends too early"),
    (lambda data: data[:3], "it ends too early|index out of range"),
    (lambda data: b"", "there are no pieces in it"),
    (lambda data: data[: 2 + data[1]], "or nothing about their training"),  # cut after the first piece
    (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "there is no field of type 6"),
    (lambda data: b"\xff" * 20, "there is an integer of more than ten bytes"),
    (lambda data: b"\x08\x01", "cannot be read as a SentencePiece model"),
    (lambda data: b"\x0a\x02\x08\x01", "cannot be read as a SentencePiece model"),
    (lambda data: Path(small("word"), "tokenizer.model").read_bytes(), "its model_type is 3"),
]


@pytest.mark.parametrize(("change", "message"), DAMAGED)
def test_damaged_files(tmp_path, change, message):
    path = tmp_path / "tokenizer.model"
    path.write_bytes(change(Path(small("llama"), "tokenizer.model").read_bytes()))
    with pytest.raises(ValueError, match=message) as caught:
        read_model(path)
    assert str(caught.value).startswith(f"{path} cannot be read as a SentencePiece model of the kind Unigram or BPE (")
    with pytest.raises(ValueError, match="download it again"):
        ours.LlamaTokenizer(path)
    with pytest.raises(ValueError, match=r"T5Tokenizer needs tokenizer\.json, or spiece\.model"):
        ours.T5Tokenizer.from_pretrained(tmp_path)
