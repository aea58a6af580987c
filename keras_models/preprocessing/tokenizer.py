"""Tokenizers by the names transformers gives them, and `AutoTokenizer`, which finds the right one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import tokenizers
from tokenizers import processors

from keras_models.config import read_json
from keras_models.hub import Repository
from keras_models.preprocessing.batch_encoding import BatchEncoding, CharSpan, TokenSpan
from keras_models.preprocessing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from keras_models.preprocessing.sentencepiece import SentencePieceTokenizer, llama, read_model, siglip, t5, xlm_roberta
from keras_models.preprocessing.special_tokens import SPECIAL_TOKENS
from keras_models.preprocessing.tokenizer_base import Tokenizer
from keras_models.preprocessing.tokenizer_files import byte_level_bpe, clip_bpe, patch, wordpiece
from keras_models.preprocessing.whisper_tokenizer import WhisperTokenizer
from keras_models.registry import ARCHITECTURES

__all__ = [
    "AutoTokenizer", "BartTokenizer", "BartTokenizerFast", "BatchEncoding", "BertTokenizer", "BertTokenizerFast",
    "CLIPTokenizer", "CLIPTokenizerFast", "CharSpan", "DistilBertTokenizer", "DistilBertTokenizerFast",
    "ElectraTokenizer", "ElectraTokenizerFast", "GPT2Tokenizer", "GPT2TokenizerFast", "LlamaTokenizer",
    "LlamaTokenizerFast", "MT5Tokenizer", "MT5TokenizerFast", "PreTrainedTokenizerFast", "RobertaTokenizer",
    "RobertaTokenizerFast", "SiglipTokenizer", "SiglipTokenizerFast", "T5Tokenizer", "T5TokenizerFast", "TokenSpan",
    "Tokenizer", "Wav2Vec2CTCTokenizer", "WhisperTokenizer", "WhisperTokenizerFast", "XLMRobertaTokenizer",
    "XLMRobertaTokenizerFast",
]  # fmt: skip

IDS_AND_MASK = ["input_ids", "attention_mask"]
PLAIN: dict[str, dict[str, bool]] = {name: {} for name in SPECIAL_TOKENS}  # flags of tokens normalized like text


class BertTokenizer(Tokenizer):
    """BERT's WordPiece: text is lower-cased (unless `do_lower_case=False`), split at punctuation, then into pieces."""

    vocabulary_files: ClassVar = {"vocab_file": "vocab.txt"}
    defaults: ClassVar = {
        "do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True, "unk_token": "[UNK]",
        "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]",
    }  # fmt: skip
    build_defaults: ClassVar = {"clean_up_tokenization_spaces": True}
    saved_as = "BertTokenizer"

    @classmethod
    def build(cls, files: Mapping[str, Path], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
        return wordpiece(files, settings)

    def post_processor(self, settings: Mapping[str, Any]) -> processors.PostProcessor:
        cls, sep = self.cls_token, self.sep_token
        return processors.TemplateProcessing(
            single=f"{cls}:0 $A:0 {sep}:0",
            pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
            special_tokens=[(cls, self.cls_token_id), (sep, self.sep_token_id)],
        )

    def align(self, settings: Mapping[str, Any]):
        self.do_lower_case = settings["do_lower_case"]
        patch(
            self._backend,
            "normalizer",
            lowercase=settings["do_lower_case"],
            strip_accents=settings["strip_accents"],
            handle_chinese_chars=settings["tokenize_chinese_chars"],
        )


class DistilBertTokenizer(BertTokenizer):
    """BERT's tokenizer for a model without token type ids."""

    model_input_names = IDS_AND_MASK
    saved_as = "DistilBertTokenizer"


class ElectraTokenizer(BertTokenizer):
    """BERT's tokenizer by another name."""

    saved_as = "ElectraTokenizer"


class GPT2Tokenizer(Tokenizer):
    """GPT-2's byte-level BPE: a space is a part of the word that follows it. There is no padding token."""

    vocabulary_files: ClassVar = {"vocab_file": "vocab.json", "merges_file": "merges.txt"}
    defaults: ClassVar = {
        "unk_token": "<|endoftext|>", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>",
        "add_prefix_space": False,
    }  # fmt: skip
    build_defaults: ClassVar = {"errors": "replace", "add_bos_token": False}
    build_flags: ClassVar = PLAIN
    model_input_names = IDS_AND_MASK
    saved_as = "GPT2Tokenizer"
    words_need_prefix_space = True

    @classmethod
    def build(cls, files: Mapping[str, Path], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
        return byte_level_bpe(files, settings)

    def post_processor(self, settings: Mapping[str, Any]) -> processors.PostProcessor:
        if not settings["add_bos_token"]:
            return processors.ByteLevel(trim_offsets=False)
        bos = self.bos_token
        pair, tokens = f"{bos}:0 $A:0 $B:1", [(bos, self.bos_token_id)]
        return processors.TemplateProcessing(single=f"{bos}:0 $A:0", pair=pair, special_tokens=tokens)


class RobertaTokenizer(GPT2Tokenizer):
    """RoBERTa's byte-level BPE: `<s>text</s>`, and `<s>text</s></s>second text</s>` for a pair."""

    defaults: ClassVar = {
        "errors": "replace", "bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>",
        "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>", "add_prefix_space": False,
        "trim_offsets": True,
    }  # fmt: skip
    build_defaults: ClassVar = {}
    token_flags: ClassVar = {"mask_token": {"lstrip": True, "normalized": False}}  # <mask> takes the space before it
    saved_as = "RobertaTokenizer"

    def post_processor(self, settings: Mapping[str, Any]) -> processors.PostProcessor:
        return processors.RobertaProcessing(
            (self.sep_token, self.sep_token_id),
            (self.cls_token, self.cls_token_id),
            add_prefix_space=settings["add_prefix_space"],
        )

    def align(self, settings: Mapping[str, Any]):
        changes = {name: settings[name] for name in ("add_prefix_space", "trim_offsets")}
        patch(self._backend, "post_processor", **changes)


class BartTokenizer(RobertaTokenizer):
    """RoBERTa's tokenizer by another name."""

    token_flags: ClassVar = {"mask_token": {"lstrip": True, "normalized": True, "special": True}}
    saved_as = "BartTokenizer"


class CLIPTokenizer(Tokenizer):
    """CLIP's BPE: text is lower-cased, and words end in `</w>`. The end-of-text token pads too."""

    vocabulary_files: ClassVar = {"vocab_file": "vocab.json", "merges_file": "merges.txt"}
    defaults: ClassVar = {
        "unk_token": "<|endoftext|>", "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }  # fmt: skip
    build_defaults: ClassVar = {"errors": "replace"}
    build_flags: ClassVar = PLAIN
    model_input_names = IDS_AND_MASK
    saved_as = "CLIPTokenizer"

    @classmethod
    def build(cls, files: Mapping[str, Path], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
        return clip_bpe(files, settings)

    def post_processor(self, settings: Mapping[str, Any]) -> processors.PostProcessor:
        ends = (self.eos_token, self.eos_token_id), (self.bos_token, self.bos_token_id)
        return processors.RobertaProcessing(*ends, add_prefix_space=False, trim_offsets=False)

    def _finish_text(self, text: str) -> str:
        return text.replace(self._backend.model.end_of_word_suffix, " ").strip()


class T5Tokenizer(SentencePieceTokenizer):
    """T5's unigrams, with `extra_ids` sentinel tokens `<extra_id_0>` ... and `</s>` after each text."""

    vocabulary_files: ClassVar = {"vocab_file": "spiece.model"}
    defaults: ClassVar = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "extra_ids": 100}
    build_defaults: ClassVar = {"legacy": True}
    add_prefix_space = None
    saved_as = "T5TokenizerFast"

    def __init__(self, *files: str | os.PathLike[str], **settings: Any):
        more = list(settings.get("additional_special_tokens") or [])
        count = settings.get("extra_ids", self.defaults["extra_ids"])
        given = sum("<extra_id_" in str(token) for token in more)
        if given not in (0, count) and count:
            raise ValueError(
                f"additional_special_tokens has {given} of the tokens <extra_id_0> ... where extra_ids is {count}: "
                "name all of them or none, or change extra_ids."
            )
        if not given:
            more += [f"<extra_id_{index}>" for index in range(count)]
        super().__init__(*files, **settings | {"additional_special_tokens": more})

    @classmethod
    def build(cls, files: Mapping[str, Path], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
        return t5(files, settings)

    def post_processor(self, settings: Mapping[str, Any]) -> processors.PostProcessor:
        eos = "</s>"
        return processors.TemplateProcessing(
            single=["$A", eos],
            pair=["$A", eos, "$B", eos],
            special_tokens=[(eos, self.convert_tokens_to_ids(eos))],
        )


class LlamaTokenizer(SentencePieceTokenizer):
    """Llama's BPE, with `<s>` (`add_bos_token`) and `</s>` (`add_eos_token`) around texts; no token pads."""

    vocabulary_files: ClassVar = {"vocab_file": "tokenizer.model"}
    defaults: ClassVar = {
        "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True, "add_eos_token": False,
        "legacy": True,
    }  # fmt: skip
    padding_side = "left"
    add_prefix_space = None
    saved_as = "LlamaTokenizerFast"

    @classmethod
    def build(cls, files: Mapping[str, Path], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
        return llama(files, settings)

    def post_processor(self, settings: Mapping[str, Any]) -> processors.PostProcessor:
        before, after = ([name] if settings[f"add_{name}"] else [] for name in ("bos_token", "eos_token"))
        tokens = {name: getattr(self, name) for name in before + after}
        missing = next((name for name, token in tokens.items() if token is None), None)
        if missing:
            raise ValueError(f"add_{missing} is set, but {missing} is None: set that too, or add_{missing}=False.")

        def around(text: str, kind: int) -> list[str]:
            return [f"{tokens.get(each, each)}:{kind}" for each in (*before, text, *after)]

        return processors.TemplateProcessing(
            single=around("$A", 0),
            pair=around("$A", 0) + around("$B", 1),
            special_tokens=[(token, getattr(self, f"{name}_id")) for name, token in tokens.items()],
        )

    def align(self, settings: Mapping[str, Any]):
        self._add_bos_token, self._add_eos_token = settings["add_bos_token"], settings["add_eos_token"]
        self.update_post_processor()

    def update_post_processor(self):
        """Puts the present `bos_token` and `eos_token` around texts; call it after changing one of them."""
        added = {"add_bos_token": self.add_bos_token, "add_eos_token": self.add_eos_token}
        self._backend.post_processor = self.post_processor(added)

    @property
    def add_bos_token(self) -> bool:
        """Whether `bos_token` is put before each text; may be changed."""
        return self._add_bos_token

    @add_bos_token.setter
    def add_bos_token(self, value: bool):
        self._add_bos_token = value
        self.update_post_processor()

    @property
    def add_eos_token(self) -> bool:
        """Whether `eos_token` is put after each text; may be changed."""
        return self._add_eos_token

    @add_eos_token.setter
    def add_eos_token(self, value: bool):
        self._add_eos_token = value
        self.update_post_processor()


class XLMRobertaTokenizer(SentencePieceTokenizer):
    """XLM-RoBERTa's unigrams: `<s>text</s>`, and `<s>text</s></s>second text</s>` for a pair."""

    vocabulary_files: ClassVar = {"vocab_file": "sentencepiece.bpe.model"}
    defaults: ClassVar = {
        "bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>",
        "pad_token": "<pad>", "mask_token": "<mask>",
    }  # fmt: skip
    token_flags: ClassVar = {"mask_token": {"lstrip": True}}
    build_flags: ClassVar = {"mask_token": {"special": True}}
    saved_as = "XLMRobertaTokenizerFast"

    @classmethod
    def build(cls, files: Mapping[str, Path], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
        return xlm_roberta(files, settings)

    def post_processor(self, settings: Mapping[str, Any]) -> processors.PostProcessor:
        return processors.TemplateProcessing(
            single="<s> $A </s>",
            pair="<s> $A </s> </s> $B </s>",
            special_tokens=[(token, self.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")],
        )


class SiglipTokenizer(SentencePieceTokenizer):
    """SigLIP's unigrams: text loses its ASCII punctuation and (unless `do_lower_case=False`) capitals; `</s>` after it.

    The reference has a slow tokenizer alone, which reads no tokenizer.json; this one does so only in want of the model.
    """

    vocabulary_files: ClassVar = {"vocab_file": "spiece.model"}
    defaults: ClassVar = {
        "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>", "model_max_length": 64, "do_lower_case": True,
    }  # fmt: skip
    token_flags: ClassVar = {
        f"{name}_token": {"lstrip": True, "rstrip": True, "special": True} for name in ("eos", "unk", "pad")
    }
    saved_as = "SiglipTokenizer"

    def __init__(self, *files: str | os.PathLike[str], **settings: Any):
        super().__init__(*files, **settings | {"from_slow": bool(files or settings.get("vocab_file"))})

    @classmethod
    def build(cls, files: Mapping[str, Path], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
        return siglip(files, settings)

    post_processor = T5Tokenizer.post_processor

    def _finish_text(self, text: str) -> str:
        return text.strip()


PreTrainedTokenizerFast = Tokenizer
BertTokenizerFast = BertTokenizer
DistilBertTokenizerFast = DistilBertTokenizer
ElectraTokenizerFast = ElectraTokenizer
GPT2TokenizerFast = GPT2Tokenizer
RobertaTokenizerFast = RobertaTokenizer
BartTokenizerFast = BartTokenizer
CLIPTokenizerFast = CLIPTokenizer
T5TokenizerFast = MT5Tokenizer = MT5TokenizerFast = T5Tokenizer
LlamaTokenizerFast = LlamaTokenizer
XLMRobertaTokenizerFast = XLMRobertaTokenizer
SiglipTokenizerFast = SiglipTokenizer
WhisperTokenizerFast = WhisperTokenizer

# Names found in tokenizer_config.json, without "Fast". Several are one of the above in all but name.
CLASSES: dict[str, type[Tokenizer]] = {
    "PreTrainedTokenizer": Tokenizer,
    "BertTokenizer": BertTokenizer,
    "ConvBertTokenizer": BertTokenizer,
    "LayoutLMTokenizer": BertTokenizer,
    "LxmertTokenizer": BertTokenizer,
    "MobileBertTokenizer": BertTokenizer,
    "SqueezeBertTokenizer": BertTokenizer,
    "DistilBertTokenizer": DistilBertTokenizer,
    "ElectraTokenizer": ElectraTokenizer,
    "GPT2Tokenizer": GPT2Tokenizer,
    "RobertaTokenizer": RobertaTokenizer,
    "LongformerTokenizer": RobertaTokenizer,
    "BartTokenizer": BartTokenizer,
    "LEDTokenizer": BartTokenizer,
    "MvpTokenizer": BartTokenizer,
    "CLIPTokenizer": CLIPTokenizer,
    "T5Tokenizer": T5Tokenizer,
    "MT5Tokenizer": T5Tokenizer,
    "LlamaTokenizer": LlamaTokenizer,
    "XLMRobertaTokenizer": XLMRobertaTokenizer,
    "SiglipTokenizer": SiglipTokenizer,
    "WhisperTokenizer": WhisperTokenizer,
    "Wav2Vec2CTCTokenizer": Wav2Vec2CTCTokenizer,
}
# config.json's model_type, for repositories whose tokenizer files name no class: the architectures' own, and others'.
MODEL_TYPES: dict[str, type[Tokenizer]] = {
    **{model_type: CLASSES[row.tokenizer] for model_type, row in ARCHITECTURES.items() if row.tokenizer},
    **dict.fromkeys(["align", "blip", "chinese_clip", "git", "grounding-dino", "layoutlm", "vilt"], BertTokenizer),
    **dict.fromkeys(["convbert", "lxmert", "megatron-bert", "mobilebert", "squeezebert", "visual_bert"], BertTokenizer),
    **dict.fromkeys(["gpt2", "gptj", "gpt_neo", "gpt_bigcode", "opt", "blip-2", "instructblip"], GPT2Tokenizer),
    **dict.fromkeys(["roberta-prelayernorm", "longformer", "bridgetower", "clap"], RobertaTokenizer),
    **dict.fromkeys(["bart", "led", "mvp"], BartTokenizer),
    **dict.fromkeys(["clip", "clipseg", "groupvit", "oneformer", "owlvit", "owlv2", "xclip"], CLIPTokenizer),
    **dict.fromkeys(["t5", "mt5", "longt5", "switch_transformers", "umt5", "musicgen", "pix2struct"], T5Tokenizer),
    **dict.fromkeys(["llama", "mistral", "mixtral", "llava", "llava_next", "paligemma", "phi3"], LlamaTokenizer),
    **dict.fromkeys(["xlm-roberta", "xlm-roberta-xl", "xmod"], XLMRobertaTokenizer),
    "siglip": SiglipTokenizer,
    "whisper": WhisperTokenizer,
    **dict.fromkeys(
        ["wav2vec2", "hubert", "wavlm", "unispeech", "sew", "data2vec-audio", "mctct"], Wav2Vec2CTCTokenizer
    ),
}


class AutoTokenizer:
    """Finds the class of a tokenizer; there are no objects of this class."""

    def __init__(self):
        raise TypeError("AutoTokenizer makes no objects: call AutoTokenizer.from_pretrained(folder or hub id).")

    @staticmethod
    def from_pretrained(source: str | os.PathLike[str], **options: Any) -> Tokenizer:
        """Reads a tokenizer of whichever class fits from a folder or the hub; see `Tokenizer.from_pretrained`."""
        return Tokenizer.from_pretrained(source, **options)

    @staticmethod
    def register(model_type: str | type, tokenizer_class: type[Tokenizer]):
        """Makes a class of one's own known, by its name and for a model type.

        Args:
            model_type: config.json's `model_type`, or a configuration class that has it.
            tokenizer_class: a subclass of `Tokenizer`.
        """
        MODEL_TYPES[model_type if isinstance(model_type, str) else model_type.model_type] = tokenizer_class
        CLASSES[tokenizer_class.__name__.removesuffix("Fast")] = tokenizer_class


def choose_class(
    repository: Repository, stored: Mapping[str, Any], config: Any = None
) -> tuple[type[Tokenizer], str | None]:
    """The class for the tokenizer of a repository, and its name there.

    Args:
        repository: where config.json and vocabulary files may lie.
        stored: the contents of tokenizer_config.json.
        config: the model's configuration, instead of config.json.
    """
    name = stored.get("tokenizer_class")
    model_type = getattr(config, "model_type", None)
    name = name or getattr(config, "tokenizer_class", None)
    if name is None and model_type is None:
        path = repository.file("config.json")
        values = read_json(path) if path else {}
        name, model_type = values.get("tokenizer_class"), values.get("model_type")
    if name is None and model_type is None:
        return _by_files(repository), None
    return CLASSES.get((name or "").removesuffix("Fast")) or MODEL_TYPES.get(model_type, Tokenizer), name


def _by_files(repository: Repository) -> type[Tokenizer]:
    """The class that fits the vocabulary files of a repository which says nothing about them."""
    if repository.file("vocab.txt"):
        return BertTokenizer
    path = repository.file("vocab.json")
    vocabulary = read_json(path) if path else {}
    if vocabulary and repository.file("merges.txt"):
        return RobertaTokenizer if "<s>" in vocabulary else GPT2Tokenizer
    if "|" in vocabulary:
        return Wav2Vec2CTCTokenizer
    for name, kind, first in (
        ("spiece.model", T5Tokenizer, ["<pad>", "</s>", "<unk>"]),
        ("tokenizer.model", LlamaTokenizer, ["<unk>", "<s>", "</s>"]),
    ):
        path = repository.file(name)
        if path and [piece for piece, _ in read_model(path).pieces[:3]] == first:
            return kind
    return Tokenizer
