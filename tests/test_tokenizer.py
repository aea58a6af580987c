"""Tokenizers against the reference, over real files: every id, mask, offset, word and decoded text."""

import json
import warnings

import pytest

from keras_models.preprocessing import tokenizer as ours
from tests import reference
from tests.reference import tokenizers_ as probe

BPE = ["vocab.json", "merges.txt"]
PREFIX = {"add_prefix_space": True}
# (class, folder, files or None for all, overrides)
TOKENIZERS = [
    ("BertTokenizerFast", "bert-base-uncased", None, {}),
    ("BertTokenizerFast", "bert-base-uncased", ["vocab.txt"], {}),
    ("BertTokenizerFast", "bert-base-uncased", ["vocab.txt"], {"do_lower_case": False, "strip_accents": True}),
    ("BertTokenizerFast", "bert-base-uncased", ["tokenizer.json"], {"do_lower_case": False}),
    ("BertTokenizerFast", "bert-base-uncased", None, {"tokenize_chinese_chars": False, "strip_accents": False}),
    ("DistilBertTokenizerFast", "bert-base-uncased", None, {"mask_token": "[new]"}),
    ("AutoTokenizer", "bert-base-NER-cased", None, {}),
    ("AutoTokenizer", "bert-base-NER-cased", ["vocab.txt", "config.json", "tokenizer_config.json"], {}),
    ("AutoTokenizer", "electra-small", None, {}),
    ("ElectraTokenizerFast", "electra-small", ["vocab.txt"], {}),
    ("RobertaTokenizerFast", "roberta-base", None, {}),
    ("RobertaTokenizerFast", "roberta-base", None, {**PREFIX, "trim_offsets": False}),
    ("RobertaTokenizerFast", "roberta-base", BPE, PREFIX),
    ("AutoTokenizer", "distilroberta-base", None, PREFIX),
    ("AutoTokenizer", "bart-large-cnn", None, {}),
    ("BartTokenizerFast", "bart-large-cnn", BPE, PREFIX),
    ("AutoTokenizer", "gpt2", None, {}),
    ("AutoTokenizer", "gpt2", None, {**PREFIX, "pad_token": "<|pad|>"}),
    ("GPT2TokenizerFast", "gpt2", BPE, {"add_bos_token": True}),
    ("AutoTokenizer", "clip-vit-base-patch32", None, {}),
    ("CLIPTokenizerFast", "clip-vit-base-patch32", BPE, {}),
    ("T5TokenizerFast", "t5-small", None, {}),
    ("AutoTokenizer", "t5-base", None, {}),
    ("AutoTokenizer", "whisper-tiny", None, {}),
    ("AutoTokenizer", "whisper-large-v3", None, PREFIX),
    ("AutoTokenizer", "../checkpoints/llama-stories260K", None, {}),
    ("LlamaTokenizerFast", "../checkpoints/llama-stories260K", None, {"add_eos_token": True, "pad_token": "</s>"}),
]


@pytest.mark.parametrize(("name", "source", "files", "overrides"), TOKENIZERS)
def test_equals_reference(shared, tmp_path, name, source, files, overrides):
    source = str(shared / "tokenizers" / source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = getattr(ours, name).from_pretrained(probe.folder_with(source, files, tmp_path), **overrides)
        with_words = not tokenizer.words_need_prefix_space or tokenizer.add_prefix_space
        mine = probe.observe(tokenizer, with_words)
    arguments = {"name": name, "source": source, "files": files, "overrides": overrides, "with_words": with_words}
    expected = json.loads((reference.make("tokenizers_.seen", **arguments) / "seen.json").read_text())
    assert mine.keys() == expected.keys()
    for case, value in expected.items():
        assert mine[case] == value, case


TINY = [
    ("BertTokenizerFast", probe.TINY_BERT),
    ("DistilBertTokenizerFast", probe.TINY_BERT),
    ("RobertaTokenizerFast", probe.tiny_bpe("<s>", "<pad>", "</s>", "<unk>", "<mask>")),
    ("BartTokenizerFast", probe.tiny_bpe("<s>", "<pad>", "</s>", "<unk>")),  # <mask> is added
]


@pytest.mark.parametrize(("name", "files"), TINY)
@pytest.mark.parametrize("observer", ["observe", "observe_ids"])
def test_tiny_vocabulary_equals_reference(tmp_path, name, files, observer):
    options = {"with_words": "Bert" in name} if observer == "observe" else {}
    folder = reference.make("tokenizers_.seen", name=name, source=files, observer=observer, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = getattr(ours, name).from_pretrained(probe.folder_with(files, None, tmp_path))
        mine = getattr(probe, observer)(tokenizer, **options)
    expected = json.loads((folder / "seen.json").read_text())
    for case, value in expected.items():
        assert mine[case] == value, case


LEGACY = {
    "special_tokens_map.json": {
        "mask_token": {"content": "[M]", "lstrip": True, "rstrip": False, "normalized": True, "single_word": False},
        "pad_token": "[PAD]",
        "additional_special_tokens": ["[X1]", {"content": "[X2]", "lstrip": False, "rstrip": True}],
    },
    "added_tokens.json": {"[X1]": 62, "[M]": 60, "catlike": 61},
    "tokenizer_config.json": {
        "do_lower_case": True, "max_len": 77, "padding_side": "left", "truncation_side": "left",
        "clean_up_tokenization_spaces": False, "model_input_names": ["input_ids", "attention_mask"],
        "additional_special_tokens": ["[X0]"],
    },
}  # fmt: skip
MODERN = {
    "tokenizer_config.json": {
        "added_tokens_decoder": {
            "4": {"content": "[MASK]", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False,
                  "special": True},
            "50": {"content": "onthemat", "lstrip": False, "rstrip": False, "normalized": True, "single_word": True,
                   "special": False},
        },
        "bos_token": {"__type": "AddedToken", "content": "[CLS]", "lstrip": False, "rstrip": False,
                      "normalized": False, "single_word": False, "special": True},
        "extra_special_tokens": {"image_token": "[IMG]"}, "tokenizer_class": "BertTokenizer", "model_max_length": 40,
        "split_special_tokens": True,
    },
    "special_tokens_map.json": {"pad_token": "[ignored]"},
}  # fmt: skip


@pytest.mark.parametrize("extra", [LEGACY, MODERN])
@pytest.mark.parametrize("overrides", [{}, {"pad_token": "[NEW]", "padding_side": "right", "model_max_length": 9}])
def test_settings_files_equal_reference(tmp_path, extra, overrides):
    files = probe.TINY_BERT | {name: json.dumps(value) for name, value in extra.items()}
    arguments = {"name": "BertTokenizerFast", "source": files, "overrides": overrides}
    expected = json.loads((reference.make("tokenizers_.seen", **arguments) / "seen.json").read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = ours.BertTokenizer.from_pretrained(probe.folder_with(files, None, tmp_path), **overrides)
        mine = probe.observe(tokenizer)
    for case, value in expected.items():
        assert mine[case] == value, case


IDS = [
    ("BertTokenizerFast", "bert-base-uncased"),
    ("RobertaTokenizerFast", "roberta-base"),
    ("CLIPTokenizerFast", "clip-vit-base-patch32"),
    ("T5TokenizerFast", "t5-small"),
]


@pytest.mark.parametrize(("name", "source"), IDS)
def test_ids_equal_reference(shared, name, source):
    source = str(shared / "tokenizers" / source)
    folder = reference.make("tokenizers_.seen", name=name, source=source, observer="observe_ids")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine = probe.observe_ids(getattr(ours, name).from_pretrained(source))
    assert mine == json.loads((folder / "seen.json").read_text())
