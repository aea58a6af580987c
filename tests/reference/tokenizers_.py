"""What tokenizers do with difficult texts. `observe` runs on both sides: the two tokenizers share their surface."""

import json
import shutil
import tempfile
from pathlib import Path

TEXTS = [
    "Hello world, this is a plain sentence.",
    "Crème brûlée à la naïve façade; Ångström, ﬁne, İstanbul, Straße, e\u0301",
    "我爱北京天安门 and 東京タワー。 한국어도 있어요",
    "Zażółć gęślą jaźń — привет, мир! שלום עולם مرحبا नमस्ते ไทย",
    "😀👩‍👩‍👧‍👦 flag 🇩🇪 and ☃️ snow",
    "tabs\tand\nnew lines\r\n and  double   spaces ",
    "  leading and trailing  ",
    "control\x00\x01\x1f chars\u200b zero\u00a0nbsp \ufffd \u2028 line",
    "",
    "   ",
    "a" * 130 + " " + "supercalifragilistic" * 4,
    "[CLS] inside [MASK] and [SEP]; <s> x<mask> y </s> <|endoftext|> <pad> <unk> <extra_id_0>.",
    "I'm don't we've they're it 's 'tis O'Neil's , end . what ? yes ! n't",
    "https://example.com/a_b?c=1&d=%20 user@mail.org #tag 3.14159 1,000,000 $5 50% C++",
    "MiXeD CaSe ALLCAPS camelCase snake_case",
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen",
]
SECOND = list(reversed(TEXTS))
LONG = [TEXTS[15], TEXTS[11], TEXTS[13], TEXTS[8]]
LONG_SECOND = ["short question?", TEXTS[15], TEXTS[1], TEXTS[0]]
WORDS = [["Hello", "wörld", "it's", "unbelievable"], ["我爱", "北京", "😀"], ["a"], ["two words", "", "New\nYork"], []]
EVERYTHING = {
    "return_token_type_ids": True,
    "return_attention_mask": True,
    "return_special_tokens_mask": True,
    "return_offsets_mapping": True,
    "return_length": True,
}
OVERFLOW = {**EVERYTHING, "truncation": True, "return_overflowing_tokens": True}

# (arguments, options, attributes of the tokenizer set for the call)
CASES = {
    "plain": ((TEXTS,), {}, {}),
    "everything": ((TEXTS,), EVERYTHING, {}),
    "bare": ((TEXTS,), {"add_special_tokens": False, **EVERYTHING}, {}),
    "pairs": ((TEXTS, SECOND), EVERYTHING, {}),
    "tuples": ((list(zip(TEXTS[:4], SECOND[:4], strict=True)),), EVERYTHING, {}),
    "one": ((TEXTS[1],), EVERYTHING, {}),
    "one pair": ((TEXTS[1], TEXTS[3]), EVERYTHING, {}),
    "empty second": ((TEXTS[0], ""), EVERYTHING, {}),
    "split special": ((TEXTS[11:12],), {"split_special_tokens": True, **EVERYTHING}, {}),
    "target": ((TEXTS[:3],), {"text_target": TEXTS[3:6]}, {}),
    "implied truncation": ((TEXTS,), {"max_length": 9}, {}),
    "short": ((LONG,), {**OVERFLOW, "max_length": 8}, {}),
    "stride": ((LONG,), {**OVERFLOW, "max_length": 9, "stride": 3}, {}),
    "stride from the left": ((LONG,), {**OVERFLOW, "max_length": 9, "stride": 3}, {"truncation_side": "left"}),
    "one with stride": ((LONG[0],), {**OVERFLOW, "max_length": 9, "stride": 2}, {}),
    "longest first": ((LONG, LONG_SECOND), {**EVERYTHING, "truncation": True, "max_length": 14}, {}),
    "only first": ((LONG[:3], LONG_SECOND[:1] * 3), {**OVERFLOW, "truncation": "only_first", "max_length": 24}, {}),
    "only second": (
        (LONG_SECOND[:1] * 3, LONG[:3]),
        {**OVERFLOW, "truncation": "only_second", "max_length": 26, "stride": 4},
        {},
    ),
    "only second, left": (
        (LONG_SECOND[:1] * 3, LONG[:3]),
        {**OVERFLOW, "truncation": "only_second", "max_length": 26, "stride": 4},
        {"truncation_side": "left"},
    ),
    "shorter than the special tokens": ((LONG,), {"truncation": True, "max_length": 1}, {}),
}
PADDED_CASES = {
    "longest": ((TEXTS,), {"padding": True, **EVERYTHING}, {}),
    "longest pairs": ((TEXTS, SECOND), {"padding": "longest", **EVERYTHING}, {}),
    "left": ((TEXTS,), {"padding": True, "padding_side": "left", **EVERYTHING}, {}),
    "left by attribute": ((LONG,), {"padding": True, **EVERYTHING}, {"padding_side": "left"}),
    "multiple": ((LONG,), {"padding": True, "pad_to_multiple_of": 8, **EVERYTHING}, {}),
    "fixed": ((LONG,), {"padding": "max_length", "truncation": True, "max_length": 12, **EVERYTHING}, {}),
    "fixed, not truncated": ((LONG,), {"padding": "max_length", "max_length": 12, **EVERYTHING}, {}),
    "fixed, overflowing": ((LONG,), {**OVERFLOW, "padding": "max_length", "max_length": 12, "stride": 4}, {}),
    "to the model's limit": ((LONG[:2],), {"padding": "max_length", "truncation": True}, {"model_max_length": 33}),
}
WORD_CASES = {
    "words": ((WORDS,), {"is_split_into_words": True, **EVERYTHING}, {}),
    "words of one": ((WORDS[0],), {"is_split_into_words": True, **EVERYTHING}, {}),
    "words in pairs": ((WORDS[:3], WORDS[1:4]), {"is_split_into_words": True, **EVERYTHING}, {}),
    "words with stride": ((WORDS,), {"is_split_into_words": True, **OVERFLOW, "max_length": 6, "stride": 1}, {}),
}


# A small vocabulary of each kind, for what needs no real one.
WORDPIECES = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] the a cat sat on mat hello world un ##able ##s ##ed ##ing good bad . , ! ' ?"
)
TINY_BERT = {"vocab.txt": "\n".join([*WORDPIECES.split(), *"bcdefgh", *(f"##{c}" for c in "abcdefghijklmnop")]) + "\n"}


def tiny_bpe(*special: str) -> dict[str, str]:
    """vocab.json and merges.txt of a byte-level BPE with a few merges."""
    from tokenizers.pre_tokenizers import ByteLevel

    merges = ["t h", "th e", "Ġ the", "c a", "ca t", "Ġ cat", "l l", "e ll", "o n"]
    tokens = [*special, *sorted(ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in merges)]
    vocabulary = json.dumps({token: index for index, token in enumerate(tokens)})
    return {"vocab.json": vocabulary, "merges.txt": "\n".join(["#version: 0.2", *merges]) + "\n"}


def folder_with(source: str | dict[str, str], files: list[str] | None, into: Path) -> Path:
    """A folder with just these files of `source`, all if they are not named. A dictionary holds texts of files."""
    if isinstance(source, dict):
        for name, text in source.items():
            (into / name).write_text(text, encoding="utf-8")
        return into
    if files is None:
        return Path(source)
    into.mkdir(parents=True, exist_ok=True)
    for name in files:
        shutil.copy(Path(source, name), into / name)
    return into


def observe(tokenizer, with_words: bool = True) -> dict:
    """All that can be seen of a tokenizer, in JSON's types."""
    cases = CASES | (PADDED_CASES if tokenizer.pad_token else {}) | (WORD_CASES if with_words else {})
    seen = {name: _call(tokenizer, *case) for name, case in cases.items()}
    seen["attributes"] = {
        "size": [tokenizer.vocab_size, len(tokenizer)],
        "special": [tokenizer.special_tokens_map, tokenizer.all_special_tokens, tokenizer.all_special_ids],
        "added": tokenizer.get_added_vocab(),
        "flags": {str(index): token.__getstate__() for index, token in tokenizer.added_tokens_decoder.items()},
        "limit": tokenizer.model_max_length,
        "sides": [tokenizer.padding_side, tokenizer.truncation_side],
        "inputs": tokenizer.model_input_names,
        "clean": tokenizer.clean_up_tokenization_spaces,
        "surrounding": [tokenizer.num_special_tokens_to_add(pair) for pair in (False, True)],
    }
    ids = [tokenizer.encode(text) for text in TEXTS]
    seen["decoded"] = [
        [
            tokenizer.batch_decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=clean),
            tokenizer.decode(ids[0]),
        ]
        for skip in (False, True)
        for clean in (False, True, None)
    ]
    tokens = [tokenizer.tokenize(text) for text in TEXTS]
    seen["converted"] = [
        tokens,
        [tokenizer.convert_ids_to_tokens(row, skip_special_tokens=True) for row in ids],
        [tokenizer.convert_tokens_to_ids(row) for row in tokens],
        [tokenizer.convert_tokens_to_string(row) for row in tokens],
        [tokenizer.get_special_tokens_mask(row, already_has_special_tokens=True) for row in ids],
    ]
    return json.loads(json.dumps(seen))


def _call(tokenizer, arguments: tuple, options: dict, attributes: dict) -> dict:
    before = {name: getattr(tokenizer, name) for name in attributes}
    for name, value in attributes.items():
        setattr(tokenizer, name, value)
    encoded = tokenizer(*arguments, **options)
    for name, value in before.items():
        setattr(tokenizer, name, value)
    rows = range(len(encoded.encodings))
    known = {"tokens": encoded.tokens, "word_ids": encoded.word_ids, "sequence_ids": encoded.sequence_ids}
    return {"data": dict(encoded), **{name: [method(row) for row in rows] for name, method in known.items()}}


def observe_ids(tokenizer) -> dict:
    """What a tokenizer does with ids, in JSON's types."""
    first, second = list(range(5, 17)), list(range(20, 26))
    single = [tokenizer(text) for text in TEXTS[:4]]
    batch = tokenizer(TEXTS[:4], return_special_tokens_mask=True)
    labelled = [{"input_ids": first[:n], "labels": n} for n in (2, 5, 3)]
    padded = [
        tokenizer.pad(single),
        tokenizer.pad(batch, padding_side="left"),
        tokenizer.pad(batch, pad_to_multiple_of=16),
        tokenizer.pad(labelled, padding="max_length", max_length=7),
        tokenizer.pad(labelled, return_attention_mask=False),
        tokenizer.pad(labelled, padding=False),
        tokenizer.pad(single[0], padding="max_length", max_length=30),
        tokenizer.pad(batch, return_tensors="np")["input_ids"].tolist(),
    ]
    options = {"return_special_tokens_mask": False, "return_length": True, "max_length": 13}
    prepared = []
    for side in ("right", "left"):
        tokenizer.truncation_side = side
        for pair in (None, second):
            prepared.append(tokenizer.prepare_for_model(first, pair, truncation=True, **options))
            prepared.append(tokenizer.prepare_for_model(second, first, truncation=True, **options))
            prepared.append(tokenizer.prepare_for_model(first, pair, padding="max_length", max_length=30))
        overflow = {"return_overflowing_tokens": True, "stride": 2, **options}
        prepared.append(tokenizer.prepare_for_model(first, second, truncation="only_first", **overflow))
        prepared.append(tokenizer.prepare_for_model(second, first, truncation="only_second", **overflow))
        prepared.append(tokenizer.prepare_for_model(first, truncation=True, add_special_tokens=False, **overflow))
    tokenizer.truncation_side = "right"
    around = [
        [
            tokenizer.build_inputs_with_special_tokens(first, pair),
            tokenizer.create_token_type_ids_from_sequences(first, pair),
        ]
        for pair in (None, second)
    ]
    plain = {"padded": [dict(each) if hasattr(each, "items") else each for each in padded], "around": around}
    return json.loads(json.dumps(plain | {"prepared": [dict(each) for each in prepared]}))


def add_some(tokenizer) -> list:
    """Adds tokens of all sorts."""
    from tokenizers import AddedToken

    return [
        tokenizer.add_tokens(["newword", AddedToken("stripped", lstrip=True, rstrip=True), "the"]),
        tokenizer.add_tokens("onemore"),
        tokenizer.add_tokens(["<special>"], special_tokens=True),
        tokenizer.add_special_tokens({"sep_token": "<sep>", "additional_special_tokens": ["<x>", AddedToken("<y>")]}),
        tokenizer.add_special_tokens(
            {"additional_special_tokens": ["<x>", "<z>"]}, replace_additional_special_tokens=False
        ),
        tokenizer.add_special_tokens({"pad_token": "<pad2>"}),
        [tokenizer.sep_token, tokenizer.sep_token_id, tokenizer.pad_token_id, tokenizer.additional_special_tokens],
    ]


def observe_added(tokenizer) -> dict:
    """What a tokenizer does with the tokens of `add_some`."""
    texts = ["a newword and x stripped y, newwords", "<x><y> <z> <sep>the<special>", "ONEMORE onemore Stripped"]
    ids = tokenizer(texts, padding=True)["input_ids"]
    texts = [tokenizer.batch_decode(ids, skip_special_tokens=skip) for skip in (False, True)]
    added = {text: index for index, text in ((i, t.content) for i, t in tokenizer.added_tokens_decoder.items())}
    names = [
        tokenizer.special_tokens_map,
        tokenizer.all_special_ids,
        len(tokenizer),
        added,
        tokenizer.get_added_vocab(),
    ]
    return json.loads(json.dumps([ids, texts, names]))


def train(tokenizer) -> list:
    """Vocabularies learned from a few texts, and what becomes of special tokens."""
    corpus = [TEXTS[index : index + 4] for index in range(0, len(TEXTS), 4)] * 3
    renamed = {tokenizer.unk_token: "<unknown>"}
    plain = tokenizer.train_new_from_iterator(iter(corpus), 400)
    other = tokenizer.train_new_from_iterator(
        iter(corpus), 400, new_special_tokens=["<new>"], special_tokens_map=renamed
    )
    return [
        [trained.get_vocab(), trained(TEXTS, TEXTS)["input_ids"], trained.special_tokens_map, trained.all_special_ids]
        for trained in (plain, other)
    ]


def _load(name: str, source: str | dict[str, str], files: list[str] | None, overrides: dict, scratch: str):
    import transformers

    return getattr(transformers, name).from_pretrained(folder_with(source, files, Path(scratch)), **overrides)


def seen(
    folder: Path,
    name: str,
    source: str | dict[str, str],
    files: list[str] | None = None,
    overrides: dict | None = None,
    observer: str = "observe",
    **options,
):
    """Writes what a function of this module sees of the class `name` with (some of) the files of `source`."""
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = _load(name, source, files, overrides or {}, scratch)
        (folder / "seen.json").write_text(json.dumps(globals()[observer](tokenizer, **options)))


def saved(folder: Path, name: str, source: str, overrides: dict):
    """Saves a tokenizer with added tokens, and writes what it does."""
    tokenizer = _load(name, source, None, overrides, "")
    added = add_some(tokenizer)
    tokenizer.save_pretrained(folder / "saved")
    (folder / "seen.json").write_text(json.dumps([added, observe_added(tokenizer)]))


def reread(path: str, name: str, with_words: bool) -> list:
    """What a saved tokenizer does."""
    tokenizer = _load(name, path, None, {}, "")
    return [type(tokenizer).__name__, observe_added(tokenizer), observe(tokenizer, with_words)]
