"""The pipeline for speech recognition gives the reference's results, for sounds of any kind and length."""

import io
import json
import warnings

import numpy as np
import pytest
import soundfile

from keras_models import AutoModelForCTC, AutoProcessor, PreTrainedModel, pipeline
from keras_models.pipelines.speech import AutomaticSpeechRecognitionPipeline, CTCPipeline, WhisperPipeline
from tests import reference

LENGTHS = [0.7, 1.1, 3.3, 5.21]
LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAOINSHRDLU'"]
WAV2VEC2 = {
    "vocab_size": len(LETTERS), "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 32, "conv_dim": [16, 16, 16], "conv_kernel": [10, 3, 3], "conv_stride": [5, 4, 4],
    "num_feat_extract_layers": 3, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
    "num_codevector_groups": 2, "codevector_dim": 8, "proj_codevector_dim": 8,
}  # fmt: skip
WHISPER = {
    "vocab_size": 51865, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "num_mel_bins": 8,
    "max_source_positions": 100, "max_target_positions": 64, "pad_token_id": 50257, "bos_token_id": 50257,
    "eos_token_id": 50257, "decoder_start_token_id": 50258,
}  # fmt: skip
LANGUAGES = {"<|en|>": 50259, "<|zh|>": 50260, "<|de|>": 50261, "<|fr|>": 50265, "<|ja|>": 50266}
GENERATION = {
    "is_multilingual": True, "lang_to_id": LANGUAGES, "task_to_id": {"transcribe": 50359, "translate": 50358},
    "no_timestamps_token_id": 50363, "prev_sot_token_id": 50361, "max_initial_timestamp_index": 20,
    "suppress_tokens": [1, 2, 7], "begin_suppress_tokens": [220, 50257], "alignment_heads": [[0, 0], [1, 1]],
    "max_length": 40, "decoder_start_token_id": 50258, "eos_token_id": 50257, "pad_token_id": 50257,
    "return_timestamps": False,
}  # fmt: skip
EXTRACTOR = {"feature_size": 8, "chunk_length": 2}
ENGLISH = {"language": "en", "task": "transcribe"}
GREEDY = {"num_beams": 1, **ENGLISH}
CTC_CASES = [
    [0, {}], [[1, 2], {}], [2, {"return_timestamps": "char"}], [2, {"return_timestamps": "word"}],
    [3, {"chunk_length_s": 1.0}], [3, {"chunk_length_s": 1.5, "stride_length_s": 0.2, "return_timestamps": "word"}],
    [3, {"chunk_length_s": 2.0, "stride_length_s": [0.5, 0.1], "return_timestamps": "char"}],
    [1, {"facts": {"stride": [2000, 1000], "partial": True}}],
]  # fmt: skip
WHISPER_CASES = [
    [0, {"generate_kwargs": GREEDY}], [[0, 1], {"generate_kwargs": ENGLISH}],
    [1, {"generate_kwargs": {"language": "french", "task": "translate", "num_beams": 1}}],
    [1, {"generate_kwargs": {"num_beams": 1}, "return_timestamps": True}],
    [0, {"generate_kwargs": GREEDY, "return_timestamps": True, "return_language": True}],
    [1, {"generate_kwargs": GREEDY, "return_timestamps": "word"}],
    [[2, 3], {"generate_kwargs": GREEDY, "return_timestamps": True}],
    [3, {"generate_kwargs": GREEDY, "return_timestamps": "word", "return_language": True}],
    [3, {"generate_kwargs": GREEDY, "chunk_length_s": 2.0, "ignore_warning": True}],
    [3, {"generate_kwargs": GREEDY, "chunk_length_s": 1.5, "stride_length_s": 0.3, "return_timestamps": True,
         "ignore_warning": True}],
    [3, {"generate_kwargs": GREEDY, "chunk_length_s": 2.0, "return_timestamps": "word", "ignore_warning": True}],
]  # fmt: skip


def ctc_folder():
    """A folder with a Wav2Vec2 for letters, sounds and what the reference makes of them."""
    return reference.make(
        "pipelines_audio.run", task="automatic-speech-recognition", architecture="Wav2Vec2ForCTC", config=WAV2VEC2,
        extractor="Wav2Vec2FeatureExtractor", settings={}, lengths=LENGTHS, cases=CTC_CASES, vocabulary=LETTERS,
    )  # fmt: skip


def whisper_folder(shared):
    """The same with a Whisper whose windows are 2 seconds."""
    return reference.make(
        "pipelines_audio.run", task="automatic-speech-recognition", architecture="WhisperForConditionalGeneration",
        config=WHISPER, extractor="WhisperFeatureExtractor", settings=EXTRACTOR, lengths=LENGTHS, cases=WHISPER_CASES,
        tokenizer=str(shared / "tokenizers" / "whisper-tiny"), generation=GENERATION, scale=2.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def ctc():
    return ctc_folder()


@pytest.fixture(scope="module")
def whisper(shared):
    return whisper_folder(shared)


def sounds_of(folder):
    with np.load(folder / "sounds.npz") as arrays:
        return [arrays[str(number)] for number in range(len(arrays.files))]


def compare_cases(folder, cases):
    """Every case gives what the reference gave."""
    pipe = pipeline("automatic-speech-recognition", model=folder)
    sounds, results = sounds_of(folder), json.loads((folder / "results.json").read_text())
    for (chosen, options), expected in zip(cases, results, strict=True):
        options = dict(options)
        facts = options.pop("facts", {})
        inputs = [{"raw": sounds[number], "sampling_rate": 16000, **facts} for number in np.ravel(chosen)]
        found = pipe(inputs if isinstance(chosen, list) else inputs[0], **options)
        same(found, expected)
        if isinstance(chosen, list):
            same(pipe(inputs, batch_size=2, **options), expected)


def same(found, expected):
    """Texts are equal, and times but for rounding."""
    if isinstance(expected, dict):
        assert set(found) == set(expected)
        for name in expected:
            same(found[name], expected[name])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for each, other in zip(found, expected, strict=True):
            same(each, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-6)
    else:
        assert found == expected


def test_ctc_equals_reference(ctc):
    compare_cases(ctc, CTC_CASES)


def test_whisper_equals_reference(whisper):
    compare_cases(whisper, WHISPER_CASES)


def test_each_model_has_its_class(ctc, whisper):
    assert type(pipeline("automatic-speech-recognition", model=ctc)) is CTCPipeline
    assert type(pipeline(model=whisper)) is WhisperPipeline  # the task follows from the model


def test_parts_as_objects(ctc, tmp_path):
    model, processor = AutoModelForCTC.from_pretrained(ctc), AutoProcessor.from_pretrained(ctc)
    sound = sounds_of(ctc)[1]
    expected = pipeline("automatic-speech-recognition", model=ctc)(sound)
    assert pipeline("automatic-speech-recognition", model=model, processor=processor)(sound) == expected
    parts = {"tokenizer": processor.tokenizer, "feature_extractor": processor.feature_extractor}
    pipe = pipeline("automatic-speech-recognition", model=model, **parts)
    assert isinstance(model, PreTrainedModel) and pipe(sound) == expected
    pipe.save_pretrained(tmp_path)
    assert pipeline("automatic-speech-recognition", model=tmp_path)(sound) == expected
    with pytest.raises(TypeError, match="does not tell its tokenizer: pass tokenizer= too"):
        pipeline("automatic-speech-recognition", model=model)


def test_a_sound_in_every_form(ctc, tmp_path):
    sound, pipe = sounds_of(ctc)[2], pipeline("automatic-speech-recognition", model=ctc)
    soundfile.write(tmp_path / "a.wav", sound, 16000, subtype="FLOAT")
    content = (tmp_path / "a.wav").read_bytes()
    expected = pipe(sound)
    forms = [
        str(tmp_path / "a.wav"),
        tmp_path / "a.wav",
        content,
        io.BytesIO(content),
        {"array": sound, "sampling_rate": 16000},
    ]
    assert [pipe(form) for form in forms] == [expected] * len(forms)
    assert pipe(iter(forms[:2])).__next__() == expected
    twice = {"array": np.repeat(sound, 3), "sampling_rate": 48000}
    assert isinstance(pipe(twice)["text"], str)


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        (np.full(9000, np.nan, "float32"), ValueError, "nan as its sample 0"),
        (np.zeros(0, "float32"), ValueError, "no samples"),
        (np.zeros((2, 9000), "float32"), ValueError, "one channel: mix it down"),
        ("no/such.wav", FileNotFoundError, "There is no file"),
        (b"not a sound at all", ValueError, "is not a sound, or damaged"),
        ({"array": np.zeros(9)}, ValueError, "'sampling_rate', in Hz"),
        ([3], TypeError, r"inputs\[0\] must be a sound.*not int"),
        ({"raw": np.zeros(900), "sampling_rate": 16000, "stride": (800, 200)}, ValueError, "leaves nothing of 900"),
    ],
)  # fmt: skip
def test_bad_sounds(ctc, item, error, message):
    pipe = pipeline("automatic-speech-recognition", model=ctc)
    with pytest.raises(error, match=message):
        pipe(item)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"return_timestamps": True}, "return_timestamps=True is not for Wav2Vec2ForCTC: pass 'char' or 'word'"),
        ({"chunk_length_s": -1}, "chunk_length_s must be a number of seconds"),
        ({"chunk_length_s": 1.0, "stride_length_s": 0.5}, "leaves nothing of chunks of 1.0 s"),
    ],
)  # fmt: skip
def test_bad_options(ctc, options, message):
    with pytest.raises(ValueError, match=message):
        pipeline("automatic-speech-recognition", model=ctc)(np.zeros(16000, "float32"), **options)
    with pytest.raises(TypeError, match="has no option 'language'"):
        pipeline("automatic-speech-recognition", model=ctc, language="en")


def test_silence(ctc, whisper):
    """It gives some text, and no failure."""
    silence = np.zeros(20000, "float32")
    for folder in (ctc, whisper):
        assert isinstance(pipeline("automatic-speech-recognition", model=folder)(silence)["text"], str)


def test_whisper_is_told_what_it_cannot_do(whisper):
    pipe = pipeline("automatic-speech-recognition", model=whisper)
    sound = sounds_of(whisper)[0]
    with pytest.raises(ValueError, match="return_timestamps='char' is not for Whisper.*pass True or 'word'"):
        pipe(sound, return_timestamps="char")
    with pytest.raises(ValueError, match="(?i)klingon"):
        pipe(sound, language="klingon")
    with pytest.warns(UserWarning, match="chunk_length_s cuts words"):
        pipe(sound, chunk_length_s=2.0, num_beams=1, language="en", max_new_tokens=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        options = {"num_beams": 1, "language": "en", "max_new_tokens": 3}
        expected = pipe(sound, **options)
        made = AutomaticSpeechRecognitionPipeline(
            pipe.model, pipe.tokenizer, feature_extractor=pipe.feature_extractor, **options
        )
        assert made(sound) == expected
