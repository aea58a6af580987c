"""What the tokenizers of speech models do with difficult ids and texts. The `observe` functions run on both sides."""

import json
import random
from functools import partial
from pathlib import Path

import numpy as np

SPEECH = [
    " And so, my fellow Americans: ask not what your country can do for you -- ask what you can do for your country.",
    " \"It's 'good'\", she said (twice) ... and, [laughs] 50% of 3.14 costs $5. ¿Qué? ¡No! “Oui” naïve café.",
    " 我爱北京天安门。你好! 東京タワーへ行きます、 สวัสดีครับ 🤗👩‍👩‍👧 ♪ мир",
    " the the the the cat cat sat on on the mat the the cat . . . ... 's n't 've",
]
ENGLISH = [
    "Mr. Smith paid twenty-five dollars and a half, two and a half million, nineteen eighty four.",
    "minus three point one four; double oh seven, triple five, one oh one, twenty twenty, twenty-first, the sixties",
    "two hundred and one thousand and five, one million two hundred thousand, three hundreds, fourth, zeroth",
    "$2 and 7 cents, twenty pounds and 50 cents, 10 percent, ten per cent, ten per person, €3.50, £0.05 1960s 274th",
    "He won't, can't, y'all shouldn't've gonna; she's been there, he'd gone, it's got I'ma [noise] (laughs) <x> hmm uh",
    "127.0.0.1 and 1,000,000 or 2.5 million, 1.50 thousand, 7 0 2, one two three, ten eleven, 3rd 2 nd, a1b2",
    "colour, organise theatre Œuvre straße Łódź naïve café ½ ² ٣ and point, plus plus minus and double the point five",
    "and a half", "", "   ", "one", "one hundred trillion and two sextillionth", "thousand thousand point thousand . %",
    "half past two and a half and a half", "four score and seven years ago, forty second street, fifty sixes o o oh",
]  # fmt: skip
NUMBER_WORDS = (
    "one two nine ten twelve nineteen twenty ninety hundred thousand million zero oh first third twelfth sixes "
    "twenties fiftieth thousands millionth minus plus pound dollars cents per percent cent and double triple point "
    "half a 3 42 100 1.5 2.50 0 1000 $5 £1.25 -7 ¢9 % apple it's mr. 5th 20s , ."
).split()


def tokenizer_from(name: str, source: str | dict[str, str], files: list[str] | None, overrides: dict, scratch: Path):
    """A tokenizer of the reference."""
    import tokenizers_
    import transformers

    return getattr(transformers, name).from_pretrained(tokenizers_.folder_with(source, files, scratch), **overrides)


def seen(folder: Path, name: str, source: str, observer: str, files=None, overrides=None, **options):
    """Writes what a function of this module sees of the class `name` with (some of) the files of `source`."""
    tokenizer = tokenizer_from(name, source, files, overrides or {}, folder)
    (folder / "seen.json").write_text(json.dumps(globals()[observer](tokenizer, **options)))


def observe_whisper(tokenizer, texts: list[str]) -> dict:
    """What is special about Whisper's tokenizer: prefixes, prompts, decoding with times, normalized texts."""
    ids = [tokenizer(text)["input_ids"] for text in SPEECH]
    seen = {"ids": ids, "prefix": tokenizer.prefix_tokens, "bare": tokenizer(SPEECH, add_special_tokens=False)}
    seen["pair"] = tokenizer(SPEECH[0], SPEECH[1])
    seen["prompts"] = [tokenizer.get_prompt_ids(text).tolist() for text in (SPEECH[0], "  Mr. Quilter", "")]
    rows = [*ids, *timed_rows(tokenizer, 40)]
    options = [
        {}, {"output_offsets": True}, {"decode_with_timestamps": True}, {"normalize": True}, {"basic_normalize": True},
        {"basic_normalize": True, "remove_diacritics": True}, {"output_offsets": True, "time_precision": 0.04},
        {"decode_with_timestamps": True, "time_precision": 0.04, "output_offsets": True},
    ]  # fmt: skip
    seen["decoded"] = [
        tokenizer.batch_decode(rows, skip_special_tokens=skip, **each) for skip in (False, True) for each in options
    ]
    seen["forced"] = [
        [tokenizer.get_decoder_prompt_ids(**each), tokenizer("a b")["input_ids"], tokenizer("a", "b")["input_ids"]]
        for each in (
            {"language": "French", "task": "transcribe"}, {"task": "translate", "no_timestamps": False},
            {"language": "he"}, {"language": "Castilian", "task": "transcribe"}, {"language": "haitian creole"},
        )
    ]  # fmt: skip
    tokenizer.set_prefix_tokens(predict_timestamps=True)
    seen["changed"] = [
        tokenizer.prefix_tokens,
        tokenizer.build_inputs_with_special_tokens([5, 6]),
        tokenizer.build_inputs_with_special_tokens([5, 6], [7]),
        tokenizer.get_special_tokens_mask([5, 6]),
        tokenizer.timestamp_ids()[:5],
    ]
    texts = [*ENGLISH, *texts, *SPEECH, *number_texts(150)]
    seen["normal"] = [tokenizer.normalize(text) for text in texts]
    seen["basic"] = [[tokenizer.basic_normalize(text, plain) for plain in (False, True)] for text in texts]
    return json.loads(json.dumps({name: dict(each) if hasattr(each, "items") else each for name, each in seen.items()}))


def number_texts(count: int, seed: int = 0) -> list[str]:
    """Texts of words that spell numbers, in any order."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(NUMBER_WORDS, k=draw.randint(1, 9))) for _ in range(count)]


def timed_rows(tokenizer, count: int, seed: int = 0) -> list[list[int]]:
    """Ids as Whisper generates them, times, prompts, repeated windows and all."""
    draw = random.Random(seed)
    return [_output(tokenizer, draw, _spoken(tokenizer, draw))[0] for _ in range(count)]


def observe_chunks(tokenizer, count: int, seed: int = 0, by_word: bool = True) -> list:
    """Transcripts of made-up outputs for overlapping stretches of sound."""
    decode = getattr(tokenizer, "decode_chunks", None) or tokenizer._decode_asr
    transcripts = []
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        outputs = _outputs(tokenizer, draw)
        results = []
        for timed in (False, True, "word") if by_word else (False, True):
            for language in (False, True):
                options = {"return_timestamps": timed, "return_language": language}
                options["time_precision"] = draw.choice([0.02, 0.02, 0.04])
                results.append(_or_none(decode, outputs, **options))
        transcripts.append(results)
    return json.loads(json.dumps(transcripts))


def observe_words(tokenizer, texts: list[str], count: int, seed: int = 0) -> list:
    """Tokens grouped by word."""
    combine = getattr(tokenizer, "combine_tokens_into_words", None)
    if combine is None:
        from transformers.models.whisper import tokenization_whisper

        combine = partial(tokenization_whisper._combine_tokens_into_words, tokenizer)
    draw = random.Random(seed)
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in SPEECH + texts]
    rows += [draw.choices(row, k=draw.randint(0, 12)) for row in rows if row for _ in range(count)]
    languages = None, "english", "thai"
    return json.loads(json.dumps([[_or_none(combine, row, language=each) for each in languages] for row in rows]))


def _or_none(function, *arguments, **options):
    """What a function returns, or None where the reference fails on characters that are not whole."""
    try:
        return function(*arguments, **options)
    except IndexError:
        return None


def _spoken(tokenizer, draw: random.Random) -> list[int]:
    """Ids of what is said."""
    pieces = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in draw.sample(SPEECH, 2)]
    ids = [index for piece in pieces for index in piece]
    kind = draw.random()
    if kind < 0.2:
        return draw.choices(ids[:4], k=60)  # much repetition
    if kind < 0.35:
        return draw.choices(range(50257), k=60)
    return ids


def _output(tokenizer, draw: random.Random, ids: list[int], seconds: float = 30.0) -> tuple[list[int], list[float]]:
    """What a model writes about a stretch with these ids: all ids, and the end of each in seconds."""
    special = tokenizer.convert_tokens_to_ids
    first = special("<|notimestamps|>") + 1
    row = []
    if draw.random() < 0.15:
        row = [special("<|startofprev|>"), *ids[:3]]
    if row or draw.random() < 0.7:
        row += [special("<|startoftranscript|>")] if draw.random() < 0.9 else []
        row += [special(f"<|{draw.choice(['en', 'en', 'en', 'fr', 'zh', 'ja'])}|>")] if draw.random() < 0.8 else []
        row += [special("<|transcribe|>")] if draw.random() < 0.8 else []
    style = draw.random()  # no times, well-formed ones, or any
    if style < 0.25:
        row += [special("<|notimestamps|>")] * (draw.random() < 0.5) + ids
    else:
        step, last = 0, int(seconds / 0.02)
        cuts = sorted(draw.sample(range(len(ids) + 1), min(draw.randint(0, 4), len(ids))))
        pieces = [ids[start:end] for start, end in zip([0, *cuts], [*cuts, len(ids)], strict=True)]
        for piece in pieces:
            if style > 0.85:
                step = draw.randint(0, 1500)
                row += [first + step] * draw.randint(0, 2) + piece
                continue
            if draw.random() < 0.12:
                step = draw.randint(0, 20)  # the next window
            row += [first + step, *piece]
            step = min(step + draw.randint(0, max(1, 2 * last // len(pieces))), 1500)
            row += [first + step] if draw.random() < 0.93 else []
            if draw.random() < 0.3:
                step = min(step + draw.randint(0, 30), 1500)
    row += [special("<|endoftext|>")] * draw.choice([0, 1, 1, 3])
    times = np.sort(np.float32([draw.uniform(0, seconds) for _ in row])).round(2)
    return row, times.tolist()


def _outputs(tokenizer, draw: random.Random) -> list[dict]:
    ids = _spoken(tokenizer, draw)
    if draw.random() < 0.1:
        ids = []
    count = draw.choice([1, 2, 2, 3, 4])
    strided = draw.random() < 0.8
    length = draw.choice([30.0, 30.0, 10.0, 29.97])
    stride = draw.choice([5.0, 5.0, length / 6, 1.0])
    size = len(ids) // count + 1
    outputs = []
    for number in range(count):
        extra = draw.randint(0, size)
        part = ids[max(0, number * size - extra) : (number + 1) * size + draw.randint(0, size)]
        part = [draw.choice(ids) if draw.random() < 0.05 else index for index in part if draw.random() < 0.97]
        row, times = _output(tokenizer, draw, part, length)
        output = {"tokens": np.array([row], "int64"), "token_timestamps": np.array([times], "float32")}
        if strided:
            left, right = stride * (number > 0), stride * (number < count - 1)
            output["stride"] = (length, left, right) if draw.random() < 0.95 else (length / 2, left, right)
        outputs.append(output)
    return outputs


def languages() -> list[dict[str, str]]:
    """Whisper's languages by code, and codes by name."""
    from transformers.models.whisper import tokenization_whisper

    return [tokenization_whisper.LANGUAGES, tokenization_whisper.TO_LANGUAGE_CODE]


def slow_ids(path: str, text: str) -> list[int]:
    """The ids that Whisper's slow tokenizer gives a text."""
    import transformers

    return transformers.WhisperTokenizer.from_pretrained(path)(text)["input_ids"]


# Wav2Vec2's tokenizer.

LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ", "CH"]
LETTER_IDS = {token: index for index, token in enumerate(LETTERS)}
CTC_TEXTS = ["HELLO WORLD", "a <s> b  </s> CHC H|X", "THE CHURCH  <pad><pad> A<unk>B", "\ufb01ne \u0130\u00df"]


def observe_ctc(tokenizer, texts: list[str]) -> dict:
    """What a tokenizer of characters does with texts, and with ids of frames."""
    draw = random.Random(0)
    texts = [*CTC_TEXTS, *texts]
    texts += ["".join(draw.choices([*"ABCDE\u00e9 \n\u6f22|", "<s>", "</s>", "<pad>"], k=12)) for _ in range(40)]
    kinds = [0, 0, 4, 4, 5, 6, 7, 8, 1, 2, 3, 31, 90]
    rows = [draw.choices(kinds[: draw.randint(2, 13)], k=draw.randint(0, 25)) for _ in range(60)]
    options = [{}, {"group_tokens": False}, {"spaces_between_special_tokens": True}]
    options += [{"clean_up_tokenization_spaces": True}]
    seen = {
        "ids": [tokenizer(text)["input_ids"] for text in texts],
        "padded": dict(tokenizer(texts[:4], padding=True, truncation=True, max_length=9)),
        "pair": tokenizer(texts[0], texts[1])["input_ids"],
        "words": tokenizer([["HELLO", "wo RLD"], ["<s>", "A"]], is_split_into_words=True)["input_ids"],
        "decoded": [
            tokenizer.batch_decode(rows, skip_special_tokens=skip, **each) for skip in (False, True) for each in options
        ],
        "offsets": [
            dict(tokenizer.decode(row, skip, output_char_offsets=True, output_word_offsets=True))
            for row in rows
            for skip in (False, True)
        ],
        "batch": dict(tokenizer.batch_decode(rows[:4], output_word_offsets=True)),
        "sizes": [tokenizer.vocab_size, len(tokenizer), tokenizer.all_special_ids, tokenizer.word_delimiter_token_id],
        "names": [tokenizer.special_tokens_map, tokenizer.model_input_names, tokenizer.get_vocab()],
        "added": [tokenizer.add_tokens(["<new>"]), tokenizer("A<new> B")["input_ids"], len(tokenizer)],
    }
    return json.loads(json.dumps(seen, default=int))


def observe_languages(tokenizer) -> list:
    """What a tokenizer with two vocabularies does in each."""
    seen = []
    for language in ("fra", "eng", "fra"):
        tokenizer.set_target_lang(language)
        seen.append([tokenizer("ABÉ C")["input_ids"], tokenizer.decode([5, 4, 6, 6, 7]), tokenizer.target_lang])
    return seen


def reread_ctc(path: str, texts: list[str]) -> dict:
    """What a saved tokenizer of characters does."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    return {"class": type(tokenizer).__name__, **observe_ctc(tokenizer, texts)}


# Processors.


def observe_processor(processor, kind: str) -> list:
    """What a processor makes of sounds, pictures and texts; of numbers the mean and the deviation."""
    draw = np.random.default_rng(0)
    if kind in ("CLIP", "Siglip"):
        picture = draw.integers(0, 255, (40, 50, 3), "uint8")
        small = {"size": {"shortest_edge": 20} if kind == "CLIP" else {"height": 20, "width": 20}}
        results = [
            processor(text=["the cat", "a cat the cat"], images=picture, padding=True),
            processor(text="the cat", padding="max_length", truncation=True),
            processor(text=["the cat " * 50], padding="max_length", truncation=True, return_tensors="np"),
            processor(images=[picture, picture], return_tensors="np"),
            processor([picture], ["the cat"], return_tensors="np", max_length=6, padding="max_length", **small),
            processor(
                text=["cat"], images=picture, common_kwargs={"return_tensors": "np"}, images_kwargs=dict(small),
                text_kwargs={"padding": "max_length", "max_length": 5},
            ),
        ]  # fmt: skip
        texts = [processor.batch_decode(results[0]["input_ids"], skip_special_tokens=True)]
    else:
        sound = draw.standard_normal(16000).astype("float32")
        options = {"sampling_rate": 16000, "padding": True, "return_tensors": "np"}
        results = [
            processor(sound, sampling_rate=16000),
            processor(audio=[sound, sound[:9000]], **options),
            processor(audio=[sound, sound[:9000]], text=["THE CAT", "A"], **options),
            processor(text="THE CAT"),
            processor(text=["THE", "CAT AT"], padding=True, return_tensors="np"),
        ]
        texts = [processor.batch_decode(results[4]["input_ids"]), processor.decode([5, 5, 6], skip_special_tokens=True)]
        if kind == "Wav2Vec2":
            sounds, labels = (
                [{"input_values": sound[:size]} for size in (8, 5)],
                [{"input_ids": [5, 6, 7]}, {"input_ids": [8]}],
            )
            results.append(processor.pad(sounds, labels=labels, padding=True, return_tensors="np"))
            results.append(processor.pad(labels=labels, padding="max_length", max_length=4))
            results.append(processor.pad(sounds, padding=True, return_tensors="np"))
            texts.append(
                processor(sound, text="CAT", text_kwargs={"return_length": True}, sampling_rate=16000)["labels"]
            )
        else:
            texts += [
                processor.get_decoder_prompt_ids(task="transcribe", language="de"),
                processor.tokenizer("a")["input_ids"],
            ]
            texts.append(processor.get_prompt_ids("the cat"))
    seen = [[type(processor).__name__, processor.model_input_names], [_plain(dict(each)) for each in results], texts]
    return json.loads(json.dumps(seen, default=lambda value: value.tolist()))


def _plain(result: dict) -> dict:
    plain = {}
    for name, value in result.items():
        array = np.asarray(value)
        is_float = array.dtype.kind == "f"
        plain[name] = [sorted(array.shape), float(array.mean()), float(array.std())] if is_float else value
    return plain


def processor(folder: Path, kind: str, tokenizer: str, source: str | dict[str, str]):
    """Saves a processor with a tokenizer of this class and these files, and writes what it does."""
    import transformers

    text = tokenizer_from(tokenizer, source, None, {}, folder)
    first = {"CLIP": "CLIPImageProcessor", "Siglip": "SiglipImageProcessor"}.get(kind, f"{kind}FeatureExtractor")
    whole = getattr(transformers, f"{kind}Processor")(getattr(transformers, first)(), text)
    whole.save_pretrained(folder / "saved")
    (folder / "seen.json").write_text(json.dumps(observe_processor(whole, kind)))


def reread_processor(path: str, kind: str) -> list:
    """What a saved processor does."""
    import transformers

    return observe_processor(transformers.AutoProcessor.from_pretrained(path), kind)
