"""Small SentencePiece models, and what the reference's tokenizers make of them and of real ones."""

import json
import random
import tempfile
from pathlib import Path

CORPUS = [
    "the quick brown fox jumps over the lazy dog, and then it sleeps.",
    "How many tokens are there in 12,345 texts? Nobody knows (yet)!",
    "Crème brûlée à la carte; Ångström, naïve façade: it's déjà vu.",
    "I'm don't we've they're user@mail.org https://example.com/a_b?c=1&d=2",
    "def f(x):  return x ** 2  # a comment   with   spaces",
    "Das Übermaß an Größe; Zażółć gęślą jaźń. Привет, мир!",
    "one two three four five six seven eight nine ten eleven twelve",
]
# SentencePiece's options -> what T5, Llama, XLM-RoBERTa and SigLIP were trained with, in small.
COMMON = {"num_threads": 1, "hard_vocab_limit": False, "minloglevel": 2}
MODELS = {
    "t5": {"model_type": "unigram", "vocab_size": 260, "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    "llama": {
        "model_type": "bpe", "vocab_size": 560, "byte_fallback": True, "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False, "split_digits": True, "user_defined_symbols": ["[INST]", "[/INST]"],
        "control_symbols": ["<control>"],
    },
    "xlm_roberta": {"model_type": "unigram", "vocab_size": 250, "normalization_rule_name": "nmt_nfkc"},
    "siglip": {
        "model_type": "unigram", "vocab_size": 240, "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1,
        "normalization_rule_name": "nmt_nfkc",
    },
    "word": {"model_type": "word", "vocab_size": 60},
}  # fmt: skip
FILES = {"t5": "spiece.model", "llama": "tokenizer.model", "xlm_roberta": "sentencepiece.bpe.model",
         "siglip": "spiece.model", "word": "tokenizer.model"}  # fmt: skip

SOME = [
    "", " ", "  ", "\n", "▁", "a", " a", "  a", "a ", "a  b", "a   b", "the\nquick\n\nfox ", "the\tquick", "▁the ▁ fox",
    "ﬁne \uff26\uff4c\uff59 ①②③ ½ ㌔ ｶﾞ e\u0301 ẞ", "zero\u200bwidth\u00a0nbsp\u3000wide\u00adsoft",
    "😀\U0001f469\u200d\U0001f467🇩🇪☃\ufe0f", "人工知能 한국어 नमस्ते ไทย", "<s> the fox</s> <unk> <pad><mask> quick",
    "<extra_id_0> the <extra_id_1>. Hello <extra_id_99>!", "Hello <s>.", "[INST] the quick [/INST] fox [INST]dog",
    "<control>the <0x0A> fox", "a" * 60, "\x00\x01\x7f\ufffd\ufeff", "The!? ...dog's  ,\"quoted\" ; _under_",
    "!leading", "! leading", " ! a", "...", "12,345 1000 3.14",
]  # fmt: skip
TOKENS = ["<s>", "</s>", "<unk>", "<extra_id_3>", "<mask>", "[INST]", "▁", "\n", "\t", "  "]
MARKS = range(0x300, 0x370)  # that go over and under letters
BLOCKS = [
    (0x20, 0x7F), (0xA0, 0x24F), (MARKS.start, MARKS.stop), (0x370, 0x500), (0x600, 0x700), (0x900, 0xE80),
    (0x1F00, 0x2100), (0x2000, 0x2070), (0x2100, 0x2600), (0x3000, 0x3100), (0x4E00, 0x5000), (0xAC00, 0xAD00),
    (0xF900, 0xFB50), (0xFE00, 0xFFF0), (0x1F300, 0x1F700),
]  # fmt: skip


def random_texts(count: int = 150, seed: int = 0) -> list[str]:
    """Texts of all sorts of characters, words and special tokens in a row, the same everywhere."""
    draw = random.Random(seed)
    words = [*" ".join(CORPUS).split(), *TOKENS]

    def part() -> str:
        if draw.random() < 0.5:
            return draw.choice(words)
        block = draw.choice(BLOCKS)
        return "".join(chr(draw.randrange(*block)) for _ in range(draw.randint(1, 5)))

    parts = ([part() + draw.choice(["", " ", " ", "  "]) for _ in range(draw.randint(1, 8))] for _ in range(count))
    return ["".join(each) for each in parts]


def look(tokenizer, offsets: bool = True) -> dict:
    """What a tokenizer does with many texts, in JSON's types; runs on both sides."""
    texts = SOME + random_texts()
    options = {"return_offsets_mapping": True} if offsets else {}
    pairs = list(zip(texts[:40], texts[40:80], strict=True))
    ids = [tokenizer(text)["input_ids"] for text in texts]
    seen = {"texts": [dict(tokenizer(text, **options)) for text in texts]}
    seen["pairs"] = [dict(tokenizer(*pair, **options)) for pair in pairs]
    seen["bare"] = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    seen["tokens"] = [tokenizer.tokenize(text) for text in texts]
    seen["skipped"] = [tokenizer.decode(row, skip_special_tokens=True) for row in ids]
    if offsets:
        seen["decoded"] = [tokenizer.decode(row) for row in ids]
        seen["cleaned"] = [tokenizer.decode(row, clean_up_tokenization_spaces=True) for row in ids]
        seen["one by one"] = [tokenizer.decode([index]) for row in ids[:60] for index in row]
        seen["strings"] = [tokenizer.convert_tokens_to_string(tokenizer.tokenize(text)) for text in texts]
        seen["prefix"] = tokenizer.add_prefix_space
    seen["flags"] = {str(index): token.__getstate__() for index, token in tokenizer.added_tokens_decoder.items()}
    seen["special"] = [tokenizer.special_tokens_map, tokenizer.all_special_ids, tokenizer.padding_side]
    seen["size"] = [tokenizer.vocab_size, len(tokenizer), tokenizer.model_max_length]
    return json.loads(json.dumps(seen))


def trained(folder: Path, name: str, **more):
    """Trains one of MODELS and writes it under the name it has on the hub."""
    import sentencepiece

    with open(folder / FILES[name], "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS * 4), model_writer=file, **COMMON | MODELS[name] | more
        )


def prepared(source: str, into: str, keep: list[str] | None, extra: dict) -> Path:
    """A folder with files of `source`, all if `keep` is None, and further ones made of JSON values."""
    for path in Path(source).iterdir():
        if keep is None or path.name in keep:
            Path(into, path.name).write_bytes(path.read_bytes())
    for name, value in extra.items():
        Path(into, name).write_text(json.dumps(value))
    return Path(into)


def _load(name: str, source: str, keep: list[str] | None, extra: dict, overrides: dict, scratch: str):
    import transformers

    return getattr(transformers, name).from_pretrained(prepared(source, scratch, keep, extra), **overrides)


def seen(folder: Path, name: str, source: str, keep: list[str] | None, extra: dict, overrides: dict):
    """Writes what the class `name` does with (some of) the files of `source`, and what it saves."""
    from tokenizers_ import observe

    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = _load(name, source, keep, extra, overrides, scratch)
        values = {"look": look(tokenizer, tokenizer.is_fast)}
        if tokenizer.is_fast:
            values["observe"] = observe(tokenizer)
        (folder / "seen.json").write_text(json.dumps(values))
        tokenizer.save_pretrained(folder / "saved")


def extend(tokenizer) -> list:
    """What becomes of added tokens that the normalizer changes; runs on both sides."""
    from tokenizers import AddedToken

    tokenizer.add_tokens(["<Mixed CASE>", AddedToken("ﬁ", rstrip=True), AddedToken("<Plain>", normalized=False)])
    tokenizer.add_tokens([AddedToken("<SPECIAL>", normalized=True)], special_tokens=True)
    texts = ["the <Mixed CASE> fox<SPECIAL>.", "<SPECIAL> ﬁ fi fox <plain><Plain> <mixed case>"]
    ids = [tokenizer(text)["input_ids"] for text in texts]
    decoded = [[tokenizer.decode(row, skip_special_tokens=skip) for row in ids] for skip in (False, True)]
    tokens = [tokenizer.convert_ids_to_tokens(row, skip_special_tokens=skip) for row in ids for skip in (False, True)]
    return [
        ids,
        decoded,
        tokens,
        [tokenizer.decode(index) for index in ids[0]],
        tokenizer.convert_ids_to_tokens(ids[0][1]),
    ]


def retrained(tokenizer) -> list:
    """A tokenizer learned from CORPUS in the manner of another; runs on both sides."""
    new = tokenizer.train_new_from_iterator(CORPUS * 4, 330, new_special_tokens=["<new>"])
    return [new.get_vocab(), new(SOME)["input_ids"], new.special_tokens_map, new.padding_side]


def added(folder: Path, name: str, source: str, observer: str):
    """Writes what a function of this module sees of a tokenizer."""
    import transformers

    values = globals()[observer](getattr(transformers, name).from_pretrained(source))
    (folder / "seen.json").write_text(json.dumps(values))


def reread(source: str, name: str, **slow_only) -> dict:
    """What the classes of the reference do with a folder: the fast one of this name, and the slow one."""
    import transformers

    fast, slow = getattr(transformers, f"{name}Fast", None), getattr(transformers, name)
    seen = {"slow": look(slow.from_pretrained(source, **slow_only), offsets=False)}
    return seen | ({"fast": look(fast.from_pretrained(source))} if fast else {})
