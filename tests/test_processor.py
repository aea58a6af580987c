"""Processors against the reference."""

import json
import warnings

import numpy as np
import pytest

from keras_models.preprocessing import processor as ours
from keras_models.preprocessing.audio import Wav2Vec2FeatureExtractor
from keras_models.preprocessing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from keras_models.preprocessing.image import CLIPImageProcessor, ViTImageProcessor
from keras_models.preprocessing.tokenizer import BertTokenizer, CLIPTokenizer
from tests import reference
from tests.reference import speech_tokenizers as probe
from tests.reference import tokenizers_
from tests.test_whisper_tokenizer import tiny_whisper


def tiny_clip() -> dict[str, str]:
    """Files of CLIP's tokenizer with few merges."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    merges = ["t h", "th e</w>", "c a", "ca t</w>"]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 12, "return_attention_mask": True}
    return {
        "vocab.json": json.dumps({token: index for index, token in enumerate(tokens)}),
        "merges.txt": "\n".join(["#version: 0.2", *merges]) + "\n",
        "tokenizer_config.json": json.dumps(config),
    }


def files_of(kind: str) -> tuple[str, str | dict[str, str]]:
    """The class and the files of a processor's tokenizer."""
    if kind == "Whisper":
        return "WhisperTokenizerFast", tiny_whisper()
    if kind == "CLIP":
        return "CLIPTokenizerFast", tiny_clip()
    if kind == "Siglip":
        return "SiglipTokenizer", str(reference.make("sentencepiece_.trained", name="siglip"))
    config = {"return_attention_mask": True, "tokenizer_class": "Wav2Vec2CTCTokenizer"}
    return "Wav2Vec2CTCTokenizer", {
        "vocab.json": json.dumps(probe.LETTER_IDS), "tokenizer_config.json": json.dumps(config),
    }  # fmt: skip


def observe(processor, kind: str) -> list:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return probe.observe_processor(processor, kind)


def assert_same(mine, expected):
    if isinstance(expected, dict):
        assert mine.keys() == expected.keys()
        for name, value in expected.items():
            assert_same(mine[name], value)
    elif isinstance(expected, list):
        assert len(mine) == len(expected)
        for one, other in zip(mine, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, float):
        assert mine == pytest.approx(expected, abs=1e-5)
    else:
        assert mine == expected


@pytest.mark.parametrize("kind", ["CLIP", "Siglip", "Wav2Vec2", "Whisper"])
def test_equals_reference(tmp_path, kind):
    tokenizer, source = files_of(kind)
    folder = reference.make("speech_tokenizers.processor", kind=kind, tokenizer=tokenizer, source=source)
    expected = json.loads((folder / "seen.json").read_text())
    processor = ours.AutoProcessor.from_pretrained(folder / "saved")
    assert type(processor) is getattr(ours, f"{kind}Processor")
    assert_same(observe(processor, kind), expected)
    processor = ours.AutoProcessor.from_pretrained(folder / "saved")
    paths = processor.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"preprocessor_config.json", "tokenizer_config.json"}
    assert len(paths) == len(set(paths)) == len(list(tmp_path.iterdir()))
    assert_same(reference.call("speech_tokenizers.reread_processor", path=str(tmp_path), kind=kind), expected)
    assert_same(observe(ours.Processor.from_pretrained(tmp_path), kind), expected)


def test_real_tokenizers(shared, tmp_path):
    clip = ours.CLIPProcessor(
        CLIPImageProcessor(), CLIPTokenizer.from_pretrained(shared / "tokenizers" / "clip-vit-base-patch32")
    )
    batch = clip(text=["a photo of a cat", "word " * 100], padding="max_length", truncation=True, return_tensors="np")
    assert batch.input_ids.shape == (2, 77)
    assert batch.input_ids[0, :7].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407]
    whisper = ours.AutoProcessor.from_pretrained(
        shared / "tokenizers" / "whisper-large-v3", language="french", task="translate"
    )
    ids = whisper(text="bonjour").input_ids
    names = ["<|startoftranscript|>", "<|fr|>", "<|translate|>", "<|notimestamps|>"]
    assert whisper.tokenizer.convert_ids_to_tokens(ids[:4]) == names
    assert whisper.feature_extractor.feature_size == 128


# What names the class: (file, key, value), or nothing
SIGNS = [
    ("processor_config.json", "processor_class", "WhisperProcessor"),
    ("preprocessor_config.json", "processor_class", "WhisperProcessor"),
    ("tokenizer_config.json", "processor_class", "WhisperProcessor"),
    ("config.json", "processor_class", "WhisperProcessor"),
    ("config.json", "model_type", "whisper"),
]


@pytest.mark.parametrize(("file", "key", "value"), SIGNS)
def test_class_is_found(tmp_path, file, key, value):
    texts = tiny_whisper() | {"preprocessor_config.json": "{}", "tokenizer_config.json": "{}"}
    if file != "config.json":
        texts["config.json"] = json.dumps({"model_type": "clip"})
    texts[file] = json.dumps({key: value})
    tokenizers_.folder_with(texts, None, tmp_path)
    assert ours.choose_class(ours.Repository(tmp_path)) is ours.WhisperProcessor


def test_without_a_processor_its_part_is_read(tmp_path):
    BertTokenizer.from_pretrained(tokenizers_.folder_with(tokenizers_.TINY_BERT, None, tmp_path)).save_pretrained(
        tmp_path / "text"
    )
    ViTImageProcessor().save_pretrained(tmp_path / "picture")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "sound")
    kinds = {"text": BertTokenizer, "picture": ViTImageProcessor, "sound": Wav2Vec2FeatureExtractor}
    for name, kind in kinds.items():
        assert type(ours.AutoProcessor.from_pretrained(tmp_path / name)) is kind
        with pytest.raises(ValueError, match="says which processor it has"):
            ours.Processor.from_pretrained(tmp_path / name)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match="There is no preprocessor in .*nothing"):
        ours.AutoProcessor.from_pretrained(tmp_path / "nothing")


def test_unknown_class(tmp_path):
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "WisperProcessor"}))
    with pytest.raises(ValueError, match="no WisperProcessor, which processor_config.json .*'WhisperProcessor'"):
        ours.AutoProcessor.from_pretrained(tmp_path)


@pytest.fixture
def letters(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps(probe.LETTER_IDS))
    return Wav2Vec2CTCTokenizer(tmp_path / "vocab.json")


def test_parts_are_checked(letters):
    extractor = Wav2Vec2FeatureExtractor()
    with pytest.raises(TypeError, match="needs a FeatureExtractor as feature_extractor, not Wav2Vec2CTCTokenizer"):
        ours.Wav2Vec2Processor(letters, extractor)
    with pytest.raises(TypeError, match="needs a Tokenizer as tokenizer, not None"):
        ours.Wav2Vec2Processor(extractor)
    with pytest.raises(TypeError, match="takes each of"):
        ours.Wav2Vec2Processor(extractor, letters, tokenizer=letters)


def test_errors_of_calls(letters):
    processor = ours.Wav2Vec2Processor(feature_extractor=Wav2Vec2FeatureExtractor(), tokenizer=letters)
    sound = np.zeros(400, "float32")
    with pytest.raises(ValueError, match="give `audio` or `text`"):
        processor()
    with pytest.raises(ValueError, match="give `input_features` or `labels`"):
        processor.pad()
    with pytest.raises(TypeError, match="no option 'sampling_rat'. Did you mean 'sampling_rate'"):
        processor(sound, sampling_rat=16000)
    with pytest.raises(ValueError, match="'padding' is there twice: by itself and in text_kwargs"):
        processor(text="A", padding=True, text_kwargs={"padding": True})
    old = processor(raw_speech=sound, sampling_rate=16000, return_tensors="np")
    assert np.array_equal(old["input_values"], processor(sound, sampling_rate=16000, return_tensors="np").input_values)


def test_settings_of_the_parts(tmp_path, letters):
    ours.Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), letters).save_pretrained(tmp_path / "saved")
    read = ours.AutoProcessor.from_pretrained(tmp_path / "saved", do_normalize=False, do_lower_case=True)
    assert not read.feature_extractor.do_normalize
    assert read.tokenizer("cat")["input_ids"] == letters("CAT")["input_ids"]


def test_registered_class(tmp_path, letters, monkeypatch):
    class OtherProcessor(ours.Wav2Vec2Processor):
        """A processor of one's own."""

    monkeypatch.setattr(ours, "CLASSES", dict(ours.CLASSES))
    monkeypatch.setattr(ours, "MODEL_TYPES", dict(ours.MODEL_TYPES))
    ours.AutoProcessor.register("other", OtherProcessor)
    OtherProcessor(Wav2Vec2FeatureExtractor(), letters).save_pretrained(tmp_path / "saved")
    assert type(ours.AutoProcessor.from_pretrained(tmp_path / "saved")) is OtherProcessor
    with pytest.raises(TypeError, match="makes no objects"):
        ours.AutoProcessor()
