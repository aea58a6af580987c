"""The pipeline for classes of sounds gives the reference's results."""

import json

import numpy as np
import pytest

from keras_models import DetrImageProcessor, pipeline
from keras_models.results import SoundResults
from tests import reference
from tests.test_pipelines_speech import WAV2VEC2, sounds_of

LENGTHS = [0.7, 1.1, 3.3]
LABELS = {"id2label": {str(number): name for number, name in enumerate("yes no up down left right".split())}}
AST = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 32, "patch_size": 8,
    "frequency_stride": 6, "time_stride": 6, "max_length": 100, "num_mel_bins": 20, **LABELS,
}  # fmt: skip
WHISPER = {
    "vocab_size": 60, "d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "num_mel_bins": 8,
    "max_source_positions": 100, "max_target_positions": 20, "classifier_proj_size": 12, "pad_token_id": 1,
    "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 2, **LABELS,
}  # fmt: skip
CASES = [  # without top_k the reference means five and returns all
    [0, {"top_k": 5}], [[1, 2], {"top_k": 2}], [2, {"function_to_apply": "sigmoid", "top_k": 99}],
    [2, {"function_to_apply": "none", "top_k": None}],
]  # fmt: skip
MODELS = {
    "wav2vec2": ("Wav2Vec2ForSequenceClassification", {**WAV2VEC2, **LABELS}, "Wav2Vec2FeatureExtractor", {}),
    "ast": ("ASTForAudioClassification", AST, "ASTFeatureExtractor", {"max_length": 100, "num_mel_bins": 20}),
    "whisper": (
        "WhisperForAudioClassification", WHISPER, "WhisperFeatureExtractor", {"feature_size": 8, "chunk_length": 2},
    ),
}  # fmt: skip


def made(name):
    architecture, config, extractor, settings = MODELS[name]
    return reference.make(
        "pipelines_audio.run", task="audio-classification", architecture=architecture, config=config,
        extractor=extractor, settings=settings, lengths=LENGTHS, cases=CASES,
    )  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_equals_reference(name):
    folder = made(name)
    pipe, sounds = pipeline("audio-classification", model=folder), sounds_of(folder)
    results = json.loads((folder / "results.json").read_text())
    for (chosen, options), expected in zip(CASES, results, strict=True):
        inputs = [{"array": sounds[number], "sampling_rate": 16000} for number in np.ravel(chosen)]
        found = pipe(inputs, batch_size=2, **options) if isinstance(chosen, list) else [pipe(inputs[0], **options)]
        expected = expected if isinstance(chosen, list) else [expected]
        for each, other in zip(found, expected, strict=True):
            assert [row["label"] for row in each] == [row["label"] for row in other]
            np.testing.assert_allclose([row["score"] for row in each], [row["score"] for row in other], atol=1e-5)


def test_results_are_lists_that_draw_themselves(tmp_path):
    folder = made("ast")
    sound, pipe = sounds_of(folder)[0], pipeline(model=folder)  # the task follows from the model
    result = pipe(sound)
    assert isinstance(result, SoundResults) and result == [*result] and json.loads(json.dumps(result)) == result
    result.save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:4] == result._repr_png_()[:4] == b"\x89PNG"


def test_five_classes_by_default():
    folder = made("ast")
    pipe, sound = pipeline("audio-classification", model=folder), sounds_of(folder)[0]
    assert pipe(sound) == pipe(sound, top_k=5) == pipe(sound, top_k=None)[:5]


def test_mistakes():
    pipe = pipeline("audio-classification", model=made("ast"))
    with pytest.raises(ValueError, match="function_to_apply='max' is unknown; use one of softmax, sigmoid, none"):
        pipe(np.zeros(16000, "float32"), function_to_apply="max")
    with pytest.raises(ValueError, match="top_k must be a positive integer"):
        pipe(np.zeros(16000, "float32"), top_k=0)
    with pytest.raises(ValueError, match="no samples"):
        pipe(np.zeros(0, "float32"))
    with pytest.raises(ValueError, match="cannot do object-detection"):
        pipeline("object-detection", model=pipe.model, image_processor=DetrImageProcessor())
