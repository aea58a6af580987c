"""Whisper's languages, and how transcripts are normalized before they are compared (arXiv:2212.04356, appendix C)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from fractions import Fraction

LANGUAGES = {
    "en": "english", "zh": "chinese", "de": "german", "es": "spanish", "ru": "russian", "ko": "korean",
    "fr": "french", "ja": "japanese", "pt": "portuguese", "tr": "turkish", "pl": "polish", "ca": "catalan",
    "nl": "dutch", "ar": "arabic", "sv": "swedish", "it": "italian", "id": "indonesian", "hi": "hindi",
    "fi": "finnish", "vi": "vietnamese", "he": "hebrew", "uk": "ukrainian", "el": "greek", "ms": "malay",
    "cs": "czech", "ro": "romanian", "da": "danish", "hu": "hungarian", "ta": "tamil", "no": "norwegian",
    "th": "thai", "ur": "urdu", "hr": "croatian", "bg": "bulgarian", "lt": "lithuanian", "la": "latin",
    "mi": "maori", "ml": "malayalam", "cy": "welsh", "sk": "slovak", "te": "telugu", "fa": "persian",
    "lv": "latvian", "bn": "bengali", "sr": "serbian", "az": "azerbaijani", "sl": "slovenian", "kn": "kannada",
    "et": "estonian", "mk": "macedonian", "br": "breton", "eu": "basque", "is": "icelandic", "hy": "armenian",
    "ne": "nepali", "mn": "mongolian", "bs": "bosnian", "kk": "kazakh", "sq": "albanian", "sw": "swahili",
    "gl": "galician", "mr": "marathi", "pa": "punjabi", "si": "sinhala", "km": "khmer", "sn": "shona",
    "yo": "yoruba", "so": "somali", "af": "afrikaans", "oc": "occitan", "ka": "georgian", "be": "belarusian",
    "tg": "tajik", "sd": "sindhi", "gu": "gujarati", "am": "amharic", "yi": "yiddish", "lo": "lao",
    "uz": "uzbek", "fo": "faroese", "ht": "haitian creole", "ps": "pashto", "tk": "turkmen", "nn": "nynorsk",
    "mt": "maltese", "sa": "sanskrit", "lb": "luxembourgish", "my": "myanmar", "bo": "tibetan", "tl": "tagalog",
    "mg": "malagasy", "as": "assamese", "tt": "tatar", "haw": "hawaiian", "ln": "lingala", "ha": "hausa",
    "ba": "bashkir", "jw": "javanese", "su": "sundanese", "yue": "cantonese",
}  # fmt: skip
"""Names by code, in the order of the language tokens."""

TO_LANGUAGE_CODE = {name: code for code, name in LANGUAGES.items()} | {
    "burmese": "my", "valencian": "ca", "flemish": "nl", "haitian": "ht", "letzeburgesch": "lb", "pushto": "ps",
    "panjabi": "pa", "moldavian": "ro", "moldovan": "ro", "sinhalese": "si", "castilian": "es", "mandarin": "zh",
}  # fmt: skip
"""Codes by name, other names of some languages included."""

_LETTERS = {  # letters that no decomposition takes apart
    "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "AE", "ß": "ss", "ẞ": "SS", "đ": "d", "Đ": "D",
    "ð": "d", "Ð": "D", "þ": "th", "Þ": "th", "ł": "l", "Ł": "L",
}  # fmt: skip
_CONTRACTIONS = {
    "won't": "will not", "can't": "can not", "let's": "let us", "ain't": "aint", "y'all": "you all",
    "wanna": "want to", "gotta": "got to", "gonna": "going to", "i'ma": "i am going to", "imma": "i am going to",
    "woulda": "would have", "coulda": "could have", "shoulda": "should have", "ma'am": "madam",
}  # fmt: skip
_TITLES = {
    "mr": "mister", "mrs": "missus", "st": "saint", "dr": "doctor", "prof": "professor", "capt": "captain",
    "gov": "governor", "ald": "alderman", "gen": "general", "sen": "senator", "rep": "representative",
    "pres": "president", "rev": "reverend", "hon": "honorable", "asst": "assistant", "assoc": "associate",
    "lt": "lieutenant", "col": "colonel", "jr": "junior", "sr": "senior", "esq": "esquire",
}  # fmt: skip
_ENDINGS = {
    "'d been": "had been", "'s been": "has been", "'d gone": "had gone", "'s gone": "has gone",
    "'d done": "had done", "'s got": "has got", "n't": "not", "'re": "are", "'s": "is", "'d": "would",
    "'ll": "will", "'t": "not", "'ve": "have", "'m": "am",
}  # fmt: skip
# In this order: a later pattern sees what an earlier one has made of the text.
_REWRITINGS = [
    *((re.compile(rf"\b{short}\b"), long) for short, long in _CONTRACTIONS.items()),
    *((re.compile(rf"\b{short}\b"), f"{long} ") for short, long in _TITLES.items()),
    *((re.compile(rf"{short}\b"), f" {long}") for short, long in _ENDINGS.items()),
]


def basic_normalize(text: str, remove_diacritics: bool = False) -> str:
    """Text in lower case, without what stands in brackets, and with spaces for symbols and punctuation.

    Args:
        text: a transcript in any language.
        remove_diacritics: also take accents off letters; languages lose information by it.
    """
    text = _without_brackets(text.lower())
    text = _plain_letters(text) if remove_diacritics else _without_symbols(text)
    return re.sub(r"\s+", " ", text.lower())


def english_normalize(text: str, spellings: Mapping[str, str] | None = None) -> str:
    """English text with contractions written out, numbers in digits and one spelling of each word.

    Args:
        text: a transcript.
        spellings: American spellings by British ones, from a checkpoint's normalizer.json.
    """
    text = _without_brackets(text.lower())
    text = re.sub(r"\b(hmm|mm|mhm|mmm|uh|um)\b", "", text)
    text = re.sub(r"\s+'", "'", text)
    for pattern, replacement in _REWRITINGS:
        text = pattern.sub(replacement, text)
    text = re.sub(r"(\d),(\d)", r"\1\2", text)
    text = re.sub(r"\.([^0-9]|$)", r" \1", text)  # only decimal points stay
    text = _plain_letters(text, keep=".%$¢€£")
    text = _digits(text)
    text = " ".join((spellings or {}).get(word, word) for word in text.split())
    text = re.sub(r"[.$¢€£]([^0-9])", r" \1", text)
    text = re.sub(r"([^0-9])%", r"\1 ", text)
    return re.sub(r"\s+", " ", text)


def _without_brackets(text: str) -> str:
    return re.sub(r"\([^)]+?\)", "", re.sub(r"[<\[][^>\]]*[>\]]", "", text))


def _without_symbols(text: str) -> str:
    text = unicodedata.normalize("NFKC", text)
    return "".join(" " if unicodedata.category(char)[0] in "MSP" else char for char in text)


def _plain_letters(text: str, keep: str = "") -> str:
    """`text` with spaces for symbols, and without diacritics."""

    def plain(char: str) -> str:
        if char in keep:
            return char
        if char in _LETTERS:
            return _LETTERS[char]
        category = unicodedata.category(char)
        return "" if category == "Mn" else " " if category[0] in "MSP" else char

    return "".join(map(plain, unicodedata.normalize("NFKD", text)))


# Spelled-out English numbers.

_ZEROS = {"o", "oh", "zero"}
_ONES = {
    name: number
    for number, name in enumerate(
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen".split(),
        start=1,
    )
}
_TENS = {
    name: 10 * number
    for number, name in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)
}
_MULTIPLIERS = {"hundred": 100} | {
    name: 1000**power
    for power, name in enumerate(
        "thousand million billion trillion quadrillion quintillion sextillion septillion octillion nonillion "
        "decillion".split(),
        start=1,
    )
}
_IRREGULAR = {1: "first", 2: "second", 3: "third", 5: "fifth", 12: "twelfth"}
_ENDED_ONES = {
    **{f"{name}es" if name == "six" else f"{name}s": (number, "s") for name, number in _ONES.items()},
    "zeroth": (0, "th"),
    **{
        _IRREGULAR.get(number, f"{name}h" if name.endswith("t") else f"{name}th"): (
            number, {1: "st", 2: "nd", 3: "rd"}.get(number, "th"),
        )
        for name, number in _ONES.items()
    },
}  # fmt: skip
_ENDED_TENS = {
    name.replace("y", ending): (number, suffix)
    for ending, suffix in (("ies", "s"), ("ieth", "th"))
    for name, number in _TENS.items()
}
_ENDED_MULTIPLIERS = {
    f"{name}{suffix}": (number, suffix) for suffix in ("s", "th") for name, number in _MULTIPLIERS.items()
}
_SIGNS = {"minus": "-", "negative": "-", "plus": "+", "positive": "+"}
_CURRENCIES = {
    name + plural: symbol
    for name, symbol in {"pound": "£", "euro": "€", "dollar": "$", "cent": "¢"}.items()
    for plural in ("", "s")
}
_REPEATS = {"double": 2, "triple": 3}
_NUMBER_WORDS = {
    *_ZEROS, *_ONES, *_ENDED_ONES, *_TENS, *_ENDED_TENS, *_MULTIPLIERS, *_ENDED_MULTIPLIERS, *_SIGNS, *_CURRENCIES,
    *_REPEATS, "per", "percent", "and", "point",
}  # fmt: skip
_DECIMALS = {*_ZEROS, *_ONES, *_TENS}


def _digits(text: str) -> str:
    """`text` with its numbers in digits: "twenty five dollars" becomes "$25", "one oh one" 101, "sixties" 60s."""
    text = " ".join(_halves(text))
    text = re.sub(r"([a-z])([0-9])", r"\1 \2", text)
    text = re.sub(r"([0-9])([a-z])", r"\1 \2", text)
    text = re.sub(r"([0-9])\s+(st|nd|rd|th|s)\b", r"\1\2", text)
    text = " ".join(_Numbers(text.split()).rewritten())
    text = re.sub(r"([€£$])([0-9]+) (?:and )?¢([0-9]{1,2})\b", lambda m: f"{m[1]}{m[2]}.{int(m[3]):02d}", text)
    text = re.sub(r"[€£$]0.([0-9]{1,2})\b", lambda m: f"¢{int(m[1])}", text)
    return re.sub(r"\b1(s?)\b", r"one\1", text)  # "one of the big ones" reads better


def _halves(text: str) -> Iterator[str]:
    """The parts of a text, "and a half" after a number written as "point five"."""
    *parts, last = re.split(r"\band\s+a\s+half\b", text)
    for part in parts:
        if part.strip():
            yield part
            yield "point five" if part.split()[-1] in _DECIMALS | _MULTIPLIERS.keys() else "and a half"
    if last.strip():
        yield last


class _Numbers:
    """Reads words from left to right and holds the number that they have spelled so far.

    `value` is an int while further words may still be added to it, and a string of digits once they are merely
    appended, as in "nineteen eighty four". `prefix` is a sign or currency for the next output.
    """

    def __init__(self, words: list[str]):
        self.words = words
        self.value: int | str | None = None
        self.prefix = ""

    def rewritten(self) -> Iterator[str]:
        skip = False
        for before, word, after in zip([None, *self.words], self.words, [*self.words[1:], None], strict=False):
            if skip:
                skip = False
                continue
            counts = after in _NUMBER_WORDS or _is_number(after)
            symbol, digits = (word[0], word[1:]) if word[0] in "-+£€$¢" else ("", word)
            if _is_number(digits):
                if isinstance(self.value, str) and self.value.endswith("."):
                    self.value += word
                    continue
                yield from self.finished()
                self.prefix = symbol or self.prefix
                number = Fraction(digits)
                self.value = number.numerator if number.denominator == 1 else digits
            elif word in _ZEROS:
                self.value = f"{self.value or ''}0"
            elif word in _ONES:
                self.value = self.with_ones(_ONES[word], before)
            elif word in _ENDED_ONES:
                number, suffix = _ENDED_ONES[word]
                yield self.output(f"{self.with_ones(number, before)}{suffix}")
            elif word in _TENS:
                self.value = self.with_tens(_TENS[word])
            elif word in _ENDED_TENS:
                number, suffix = _ENDED_TENS[word]
                yield self.output(f"{self.with_tens(number)}{suffix}")
            elif word in _MULTIPLIERS:
                product = self.times(_MULTIPLIERS[word])
                if product is None:
                    yield from self.finished()
                self.value = _MULTIPLIERS[word] if product is None else product
            elif word in _ENDED_MULTIPLIERS:
                number, suffix = _ENDED_MULTIPLIERS[word]
                product = self.times(number)
                if product is None:
                    yield from self.finished()
                yield self.output(f"{number if product is None else product}{suffix}")
            elif word in _SIGNS and counts:
                yield from self.finished()
                self.prefix = _SIGNS[word]
            elif word in _CURRENCIES and self.value is not None:
                self.prefix = _CURRENCIES[word]
                yield self.output(self.value)
            elif self.value is not None and (word == "percent" or (word, after) == ("per", "cent")):
                skip = word == "per"
                yield self.output(f"{self.value}%")
            elif word == "and" and counts and before in _MULTIPLIERS:
                pass  # "one hundred and one"
            elif word in _REPEATS and (after in _ONES or after in _ZEROS):
                self.value = f"{self.value or ''}{str(_ONES.get(after, 0)) * _REPEATS[word]}"
                skip = True
            elif word == "point" and counts:
                if after in _DECIMALS or _is_number(after):
                    self.value = f"{self.value or ''}."
            else:
                yield from self.finished()
                yield self.output(word)
        yield from self.finished()

    def output(self, text: int | str) -> str:
        result = f"{self.prefix}{text}"
        self.value, self.prefix = None, ""
        return result

    def finished(self) -> Iterator[str]:
        if self.value is not None:
            yield self.output(self.value)

    def with_ones(self, number: int, before: str | None) -> int | str:
        """The value with a number below 20 after it."""
        value = self.value
        if value is None:
            return number
        if isinstance(value, str) or before in _ONES:
            return f"{value[:-1] if before in _TENS and number < 10 else value}{number}"
        return value + number if value % (10 if number < 10 else 100) == 0 else f"{value}{number}"

    def with_tens(self, number: int) -> int | str:
        """The value with one of 20, 30 ... 90 after it."""
        value = self.value
        if value is None:
            return number
        return f"{value}{number}" if isinstance(value, str) or value % 100 else value + number

    def times(self, multiplier: int) -> int | None:
        """The value multiplied, or its thousands kept and the rest multiplied; None if that is no whole number."""
        value = self.value
        if value is None:
            return multiplier
        if isinstance(value, int):
            return value // 1000 * 1000 + value % 1000 * multiplier
        try:
            product = Fraction(value) * multiplier
        except ValueError:  # two points, as in an address
            return None
        return product.numerator if product.denominator == 1 else None


def _is_number(word: str | None) -> bool:
    return word is not None and re.fullmatch(r"\d+(\.\d+)?", word) is not None
