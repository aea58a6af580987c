"""Feature extractors: values as the reference's, every form of sound, files in both directions."""

import copy
import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

from keras_models import hub
from keras_models.preprocessing import audio as ours
from tests import reference
from tests.reference import feature_extractors as probe

TOLERANCE = 1e-4
NAMES = ("AST", "Wav2Vec2", "Whisper")
RATE = 16000
KINDS = ("noise", "tone", "speech", "click", "silence", "tail")
LONG, SHORT, NOISE = {"length": 21000}, {"length": 8000, "seed": 1}, {"length": 12345, "kind": "noise"}
SOUNDS = [LONG, SHORT, NOISE]
WHOLE = {"truncation": False, "padding": "longest", "return_attention_mask": True}

# (class without "FeatureExtractor", settings, sounds, options of the call)
CASES = {
    **{f"{name} {kind}": (name, {}, [{"length": 30000, "kind": kind}], {}) for name in NAMES for kind in KINDS},
    "Wav2Vec2 longest": ("Wav2Vec2", {}, SOUNDS, {"padding": True}),
    "Wav2Vec2 longest, masked": ("Wav2Vec2", {"return_attention_mask": True}, SOUNDS, {"padding": "longest"}),
    "Wav2Vec2 mask of the call": ("Wav2Vec2", {}, SOUNDS, {"padding": True, "return_attention_mask": True}),
    "Wav2Vec2 no mask of the call": ("Wav2Vec2", {"return_attention_mask": True}, SOUNDS, {
        "padding": True, "return_attention_mask": False,
    }),
    "Wav2Vec2 max_length": ("Wav2Vec2", {}, SOUNDS, {
        "padding": "max_length", "max_length": 10000, "truncation": True, "return_attention_mask": True,
    }),
    "Wav2Vec2 max_length, multiple": ("Wav2Vec2", {}, SOUNDS, {
        "padding": "max_length", "max_length": 10000, "truncation": True, "pad_to_multiple_of": 640,
    }),
    "Wav2Vec2 multiple": ("Wav2Vec2", {}, SOUNDS, {"padding": True, "pad_to_multiple_of": 1000}),
    "Wav2Vec2 cut": ("Wav2Vec2", {}, SOUNDS, {"max_length": 7000, "truncation": True, "return_attention_mask": True}),
    "Wav2Vec2 padding_value": ("Wav2Vec2", {"padding_value": -1.0}, SOUNDS, {
        "padding": True, "return_attention_mask": True,
    }),
    "Wav2Vec2 padding_value, no mask": ("Wav2Vec2", {"padding_value": -1.0}, SOUNDS, {"padding": True}),
    "Wav2Vec2 as it is": ("Wav2Vec2", {"do_normalize": False}, SOUNDS, {"padding": True}),
    "Wav2Vec2 padded on the left": ("Wav2Vec2", {"do_normalize": False, "padding_side": "left"}, SOUNDS, {
        "padding": True, "return_attention_mask": True,
    }),
    "Wav2Vec2 8 kHz": ("Wav2Vec2", {"sampling_rate": 8000}, [LONG], {}),
    "Whisper 128 bands": ("Whisper", {"feature_size": 128}, SOUNDS, {}),
    "Whisper mask": ("Whisper", {"chunk_length": 2}, SOUNDS, {"return_attention_mask": True}),
    "Whisper cut": ("Whisper", {"chunk_length": 1}, SOUNDS, {"return_attention_mask": True}),
    "Whisper max_length": ("Whisper", {}, SOUNDS, {"max_length": 10000}),
    "Whisper whole": ("Whisper", {"chunk_length": 1}, SOUNDS, WHOLE),
    "Whisper multiple": ("Whisper", {"chunk_length": 1}, SOUNDS, WHOLE | {"pad_to_multiple_of": 480}),
    "Whisper normalized": ("Whisper", {"chunk_length": 2}, SOUNDS, {
        "do_normalize": True, "return_attention_mask": True,
    }),
    "Whisper padding_value": ("Whisper", {"chunk_length": 2, "padding_value": 0.1}, SOUNDS, {}),
    "Whisper frames": ("Whisper", {"n_fft": 512, "hop_length": 128, "chunk_length": 2}, SOUNDS, {}),
    "Whisper odd frames": ("Whisper", {"n_fft": 401, "chunk_length": 2}, SOUNDS, {}),
    "Whisper 8 kHz": ("Whisper", {"sampling_rate": 8000, "chunk_length": 2, "feature_size": 40}, SOUNDS, {}),
    "Whisper num_frames": ("Whisper", {"chunk_length": 1}, SOUNDS, {"return_token_timestamps": True}),
    "Whisper on the left": ("Whisper", {"chunk_length": 2, "padding_side": "left"}, SOUNDS, {
        "return_attention_mask": True,
    }),
    "AST batch": ("AST", {"max_length": 100}, SOUNDS, {}),
    "AST as it is": ("AST", {"do_normalize": False, "max_length": 200, "num_mel_bins": 64}, SOUNDS, {}),
    "AST other mean": ("AST", {"mean": 1.5, "std": 2.5}, [NOISE], {}),
    "AST with what it ignores": ("AST", {}, [NOISE], {"padding": True, "max_length": 5, "truncation": True}),
    "AST one frame": ("AST", {}, [{"length": 400}], {}),
}  # fmt: skip


def extract(name, settings, sounds, options, **more):
    extractor = getattr(ours, f"{name}FeatureExtractor")(**settings)
    given = [probe.sound(spec) for spec in sounds]
    more = {"sampling_rate": extractor.sampling_rate} | more
    return extractor(given if len(given) > 1 else given[0], **options, **more)


def check(outputs, expected):
    assert set(outputs) == set(expected)
    for name in expected:
        assert outputs[name].shape == expected[name].shape, name
        assert outputs[name].dtype == expected[name].dtype, name
        np.testing.assert_allclose(outputs[name], expected[name], atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_the_reference(case):
    name, settings, sounds, options = CASES[case]
    for path in ("torch", "numpy") if name == "Whisper" else ("numpy",):
        folder = reference.make(
            "feature_extractors.extracted",
            name=name, settings=settings, sounds=sounds, options=options, path=path,
        )  # fmt: skip
        check(extract(name, settings, sounds, options), np.load(folder / "outputs.npz"))


def test_random_calls():
    seeds = list(range(40))
    folder = reference.make("feature_extractors.random_calls", seeds=seeds)
    for seed in seeds:
        check(extract(*probe.random_call(seed)), np.load(folder / f"{seed}.npz"))


@pytest.mark.parametrize("name", NAMES)
def test_speech(shared, name):
    file = "librispeech_1272-141231-0002.wav"
    folder = reference.make("feature_extractors.extracted", name=name, settings={}, sounds=[file], options={})
    expected = np.load(folder / "outputs.npz")
    check(extract(name, {}, [file], {}), expected)
    extractor = getattr(ours, f"{name}FeatureExtractor")()
    path = shared / "data" / "audio" / file
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for source in (path, str(path), path.read_bytes(), bytearray(path.read_bytes()), memoryview(path.read_bytes())):
            check(extractor(source), expected)


@pytest.mark.parametrize("name", NAMES)
def test_forms_of_one_sound(name):
    import keras

    extractor = getattr(ours, f"{name}FeatureExtractor")()
    sound = probe.sound(SHORT)
    expected = extractor(sound, sampling_rate=RATE)
    for same in (
        sound.tolist(), tuple(sound.tolist()), list(sound), sound.astype("float64"), [sound], [sound.tolist()],
        sound[None], sound[:, None], [sound[None]], keras.ops.convert_to_tensor(sound),
        [keras.ops.convert_to_tensor(sound)], {"array": sound, "sampling_rate": RATE},
        [{"raw": sound, "sampling_rate": RATE}], sound[::-1][::-1],
    ):  # fmt: skip
        check(extractor(same, sampling_rate=RATE), expected)
    half = extractor(sound.astype("float16"), sampling_rate=RATE)
    check(half, extractor(sound.astype("float16").astype("float32"), sampling_rate=RATE))
    np.testing.assert_array_equal(sound, probe.sound(SHORT))  # what is passed stays as it was


@pytest.mark.parametrize("name", NAMES)
def test_forms_of_several_sounds(name):
    extractor = getattr(ours, f"{name}FeatureExtractor")()
    sounds = np.stack([probe.sound({"length": 5000, "seed": seed}) for seed in range(3)])
    expected = extractor(list(sounds), sampling_rate=RATE)
    assert len(expected[extractor.model_input_names[0]]) == 3
    for same in (sounds, sounds.tolist(), sounds.astype("float64"), tuple(sounds), [sounds[0], *sounds[1:].tolist()]):
        check(extractor(same, sampling_rate=RATE), expected)
    alone = extractor(sounds[1], sampling_rate=RATE)
    check(alone, {name: value[1:2] for name, value in expected.items()})


@pytest.mark.parametrize("name", NAMES)
def test_whole_numbers_are_scaled_as_in_files(name):
    extractor = getattr(ours, f"{name}FeatureExtractor")()
    whole = np.round(probe.sound(SHORT) * 100)
    for kind, scale, silence in (("int8", 128, 0), ("uint8", 128, 128), ("int16", 2**15, 0), ("int32", 2**31, 0)):
        given = np.round(whole / 100 * (scale - 1)) + silence
        expected = extractor(((given - silence) / scale).astype("float32"), sampling_rate=RATE)
        check(extractor(given.astype(kind), sampling_rate=RATE), expected)
    check(extractor([0] * 3000, sampling_rate=RATE), extractor(np.zeros(3000), sampling_rate=RATE))


def test_lists_where_lengths_differ():
    sounds = [probe.sound(spec) for spec in SOUNDS]
    extractor = ours.Wav2Vec2FeatureExtractor()
    for options in ({}, {"return_tensors": "np"}, {"padding": "max_length", "max_length": 9000}):
        outputs = extractor(sounds, sampling_rate=RATE, return_attention_mask=True, **options)
        assert [len(each) for each in outputs.input_values] == [21000, 9000 if "padding" in options else 8000, 12345]
        for value, mask, sound in zip(outputs.input_values, outputs.attention_mask, sounds, strict=True):
            assert len(mask) == len(value) and mask.sum() == len(sound)
            alone = extractor(sound, sampling_rate=RATE).input_values[0]
            np.testing.assert_array_equal(value[: len(sound)], alone)
            assert not value[len(sound) :].any()


def test_padding_on_the_left_is_not_normalized():
    sounds = [probe.sound(spec) for spec in SOUNDS]
    options = {"padding": True, "return_attention_mask": True, "sampling_rate": RATE}
    right = ours.Wav2Vec2FeatureExtractor()(sounds, **options)
    left = ours.Wav2Vec2FeatureExtractor(padding_side="left")(sounds, **options)
    for row, sound in enumerate(sounds):
        np.testing.assert_array_equal(left.input_values[row, -len(sound) :], right.input_values[row, : len(sound)])
        assert not left.input_values[row, : -len(sound) or None].any() or len(sound) == 21000
    np.testing.assert_array_equal(left.attention_mask, right.attention_mask[:, ::-1])


def test_masks_of_spectrograms_count_frames():
    options = {"sampling_rate": RATE, "do_normalize": True}
    asked = ours.WhisperFeatureExtractor(return_attention_mask=True)(probe.sound(SHORT), **options)
    assert asked.attention_mask.shape == (1, 3000) and asked.attention_mask.sum() == 50
    assert set(ours.WhisperFeatureExtractor()(probe.sound(SHORT), **options)) == {"input_features"}


def test_dither():
    extractor = ours.WhisperFeatureExtractor(dither=0.01, chunk_length=1)
    outputs = []
    for _ in range(2):
        np.random.seed(3)
        outputs.append(extractor(np.zeros(RATE), sampling_rate=RATE, device="cuda").input_features)
    np.testing.assert_array_equal(*outputs)
    plain = ours.WhisperFeatureExtractor(chunk_length=1)(np.zeros(RATE), sampling_rate=RATE).input_features
    np.testing.assert_allclose(plain, -1.5, atol=1e-6)
    assert outputs[0].std() > 0.05
    loud = extractor(probe.sound({"length": RATE, "kind": "noise"}), sampling_rate=RATE).input_features
    quiet = ours.WhisperFeatureExtractor(chunk_length=1)(
        probe.sound({"length": RATE, "kind": "noise"}), sampling_rate=RATE
    ).input_features
    assert 0 < np.abs(loud - quiet).mean() < 0.05


def test_silence_is_finite():
    for name in NAMES:
        for outputs in (
            extract(name, {}, [{"length": 5000, "kind": "silence"}], {}),
            extract(
                name, {}, [{"length": 5000, "kind": "silence"}, NOISE], {"padding": "max_length", "max_length": 13000}
            ),
        ):
            assert all(np.isfinite(value).all() for value in outputs.values()), name


@pytest.mark.parametrize(("settings", "lengths", "options"), [
    ({}, [7, 4, 9], {}),
    ({}, [7, 4, 9], {"padding": "max_length", "max_length": 12, "return_attention_mask": True}),
    ({"padding_side": "left", "padding_value": 2.0}, [7, 4, 9], {"pad_to_multiple_of": 8}),
    ({"return_attention_mask": True}, [7, 4, 9], {"max_length": 5, "truncation": True, "pad_to_multiple_of": 3}),
    ({"feature_size": 3, "return_attention_mask": True}, [7, 4, 9], {"padding": "longest"}),
    ({"feature_size": 3, "padding_side": "left"}, [7, 4, 9], {"max_length": 6, "truncation": True}),
    ({"feature_size": 3}, [5, 5], {"padding": False}),
])  # fmt: skip
def test_pad(settings, lengths, options):
    folder = reference.make("feature_extractors.padded", settings=settings, lengths=lengths, options=options)
    expected = np.load(folder / "outputs.npz")
    extractor = ours.Wav2Vec2FeatureExtractor(**settings)
    features = probe.features(lengths, settings)
    check(extractor.pad([{"input_values": each} for each in features], **options), expected)
    check(extractor.pad({"input_values": features}, **options), expected)
    check(extractor.pad({"input_values": [each.tolist() for each in features]}, **options), expected)


def test_pad_keeps_masks_and_other_values():
    extractor = ours.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    examples = [
        {"input_values": [1.0, 2.0, 3.0], "attention_mask": [0, 1, 1], "labels": [4, 5]},
        {"input_values": [6.0], "attention_mask": [1], "labels": [7, 8]},
    ]
    outputs = extractor.pad(examples)
    assert outputs.input_values.tolist() == [[1, 2, 3], [6, 0, 0]]
    assert outputs.attention_mask.tolist() == [[0, 1, 1], [1, 0, 0]]
    assert outputs.labels.tolist() == [[4, 5], [7, 8]]
    assert extractor.pad({"input_values": [1.0, 2.0]}, pad_to_multiple_of=4).input_values.tolist() == [[1, 2, 0, 0]]


@pytest.mark.parametrize("kind", ["np", "keras", None])
@pytest.mark.parametrize("name", NAMES)
def test_kinds_of_tensors(kind, name):
    import keras

    options = {} if name == "AST" else {"return_attention_mask": True}
    plain = extract(name, {}, [SHORT], options)
    outputs = extract(name, {}, [SHORT], options, return_tensors=kind)
    tensor = keras.ops.is_tensor if kind == "keras" else lambda value: isinstance(value, np.ndarray)
    assert all(map(tensor, outputs.values()))
    check({key: keras.ops.convert_to_numpy(value) for key, value in outputs.items()}, plain)
    assert set(pickle.loads(pickle.dumps(plain))) == set(plain)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_sampling_rate_is_reported(name):
    extractor = getattr(ours, f"{name}FeatureExtractor")()
    with pytest.warns(UserWarning, match=r"16000 samples a second: pass its sampling_rate") as caught:
        extractor(probe.sound(SHORT))
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extractor(probe.sound(SHORT), sampling_rate=RATE)
        extractor([{"array": probe.sound(SHORT), "sampling_rate": RATE}])
    resampled = extractor({"array": probe.sound(SHORT), "sampling_rate": RATE // 2})
    doubled = ours.load_audio({"array": probe.sound(SHORT), "sampling_rate": RATE // 2})
    check(resampled, extractor(doubled, sampling_rate=RATE))


def test_floats_that_are_whole_numbers_are_reported():
    with pytest.warns(UserWarning, match="reaches 32767"):
        ours.WhisperFeatureExtractor()(np.full(5000, 32767.0), sampling_rate=RATE)


# Files.

# (class, the file's contents), as found in old and new repositories
FILES = {
    "old Whisper": ("Whisper", {
        "chunk_length": 30, "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 80, "hop_length": 160,
        "mel_filters": [[0.5, 0.25], [0.0, 1.0]], "n_fft": 400, "n_samples": 480000, "nb_max_frames": 3000,
        "padding_side": "right", "padding_value": 0.0, "processor_class": "WhisperProcessor",
        "return_attention_mask": False, "sampling_rate": 16000,
    }),
    "Whisper v3": ("Whisper", {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 128}),
    "Whisper of 10 seconds": ("Whisper", {"chunk_length": 10, "n_samples": 5, "nb_max_frames": 6}),
    "Wav2Vec2": ("Wav2Vec2", {
        "do_normalize": True, "feature_extractor_type": "Wav2Vec2FeatureExtractor", "feature_size": 1,
        "padding_side": "right", "padding_value": 0, "return_attention_mask": True, "sampling_rate": 16000,
    }),
    "AST": ("AST", {
        "do_normalize": True, "feature_extractor_type": "ASTFeatureExtractor", "feature_size": 1, "max_length": 1024,
        "mean": -4.2677393, "num_mel_bins": 128, "padding_side": "right", "padding_value": 0.0,
        "return_attention_mask": False, "sampling_rate": 16000, "std": 4.5689974,
    }),
    "others": ("Wav2Vec2", {"processor_class": "Wav2Vec2Processor", "my_own": [1, 2]}),
    **{name: (name, {}) for name in NAMES},
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_saved_files_are_those_of_the_reference(tmp_path, case):
    name, settings = FILES[case]
    folder = reference.make("feature_extractors.saved", name=name, settings=settings)
    extractor = getattr(ours, f"{name}FeatureExtractor").from_pretrained(folder / "given")
    assert extractor.save_pretrained(tmp_path / "new") == (str(tmp_path / "new" / "preprocessor_config.json"),)
    expected = json.loads((folder / "saved" / "preprocessor_config.json").read_text())
    assert json.loads((tmp_path / "new" / "preprocessor_config.json").read_text()) == expected
    again = ours.AutoFeatureExtractor.from_pretrained(folder / "saved")
    assert type(again) is type(extractor) and again.to_dict() == extractor.to_dict() == expected
    copied = copy.deepcopy(pickle.loads(pickle.dumps(extractor)))
    assert copied.to_dict() == expected and repr(copied) == repr(extractor)


@pytest.mark.parametrize(("name", "settings", "changed", "options"), [
    ("Whisper", {"feature_size": 128}, {"chunk_length": 2}, {}),
    ("Wav2Vec2", {"return_attention_mask": True}, {"do_normalize": False}, {"padding": True}),
    ("AST", {"max_length": 77}, {"mean": 0.5}, {}),
])  # fmt: skip
def test_the_reference_reads_what_is_saved(tmp_path, name, settings, changed, options):
    extractor = getattr(ours, f"{name}FeatureExtractor")(**settings)
    for key, value in changed.items():
        setattr(extractor, key, value)
    extractor.save_pretrained(tmp_path / "saved")
    (tmp_path / "out").mkdir()
    kind = reference.call(
        "feature_extractors.read_back",
        into=str(tmp_path / "out"), source=str(tmp_path / "saved"), sounds=SOUNDS, options=options,
    )  # fmt: skip
    assert kind == type(extractor).__name__
    outputs = extractor([probe.sound(spec) for spec in SOUNDS], sampling_rate=RATE, **options)
    check(outputs, np.load(tmp_path / "out" / "outputs.npz"))


def write(folder, **files):
    for name, values in files.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize("model_type", ["audio-spectrogram-transformer", "hubert", "wav2vec2", "wavlm", "whisper"])
def test_files_without_a_class(tmp_path, model_type):
    config = {"model_type": model_type}
    arguments = {"name": "", "settings": {"sampling_rate": 16000}, "auto": True, "config": config}
    folder = reference.make("feature_extractors.saved", **arguments)
    extractor = ours.AutoFeatureExtractor.from_pretrained(folder / "given")
    assert extractor.to_dict() == json.loads((folder / "saved" / "preprocessor_config.json").read_text())


def test_where_the_settings_may_lie(tmp_path):
    from keras_models.config import Config

    load = ours.AutoFeatureExtractor.from_pretrained
    write(tmp_path, processor_config={"feature_extractor": {"feature_extractor_type": "ASTFeatureExtractor", "std": 2}})
    assert type(load(tmp_path)) is ours.ASTFeatureExtractor and load(tmp_path).std == 2
    write(tmp_path, preprocessor_config={"feature_size": 40})
    config = Config()
    config.model_type = "whisper"
    assert type(load(tmp_path, config=config)) is ours.WhisperFeatureExtractor


def test_overrides_of_from_pretrained(tmp_path):
    ours.WhisperFeatureExtractor(kept=1).save_pretrained(tmp_path)
    load = ours.AutoFeatureExtractor.from_pretrained
    changed = load(tmp_path, chunk_length=5, kept=2)
    assert changed.n_samples == 80000 and changed.nb_max_frames == 500 and changed.kept == 2
    assert load(tmp_path, sampling_rate=None).to_dict() == load(tmp_path).to_dict()
    assert (
        ours.ASTFeatureExtractor.from_dict({"std": 3}, mean=2).to_dict()
        == ours.ASTFeatureExtractor(std=3, mean=2).to_dict()
    )
    assert ours.FeatureExtractor.from_pretrained(tmp_path).to_dict() == load(tmp_path).to_dict()


def test_register(tmp_path, monkeypatch):
    for name in ("CLASSES", "MODEL_TYPES"):
        monkeypatch.setattr(ours, name, dict(getattr(ours, name)))

    class MyFeatureExtractor(ours.Wav2Vec2FeatureExtractor):
        pass

    ours.AutoFeatureExtractor.register("mine", MyFeatureExtractor)
    MyFeatureExtractor(padding_value=5.0).save_pretrained(tmp_path)
    assert type(ours.AutoFeatureExtractor.from_pretrained(tmp_path)) is MyFeatureExtractor
    write(tmp_path, preprocessor_config={"padding_value": 6.0}, config={"model_type": "mine"})
    assert type(ours.AutoFeatureExtractor.from_pretrained(tmp_path)) is MyFeatureExtractor


def test_pushed_files(monkeypatch):
    pushed = {}

    def push_folder(folder, repo_id, **options):
        pushed[repo_id] = sorted(path.name for path in Path(folder).iterdir()), options
        return "address"

    monkeypatch.setattr(hub, "push_folder", push_folder)
    assert ours.ASTFeatureExtractor().push_to_hub("me/mine", private=True) == "address"
    assert pushed == {"me/mine": (["preprocessor_config.json"], {"private": True})}


# What is wrong.

S = probe.sound({"length": 3000})
NAN, INFINITE = S.copy(), S.copy()
NAN[17], INFINITE[2999] = np.nan, np.inf


def call(name, sound, **options):
    return lambda: getattr(ours, f"{name}FeatureExtractor")()(sound, **{"sampling_rate": RATE} | options)


BAD = {
    "no sound": (call("AST", []), ValueError, "no sound"),
    "no samples": (call("Whisper", []), ValueError, "no sound"),
    "an empty array": (call("Whisper", np.zeros(0)), ValueError, "raw_speech has no samples"),
    "an empty list among others": (call("Wav2Vec2", [S, []]), ValueError, r"raw_speech\[1\] has no samples"),
    "an array without samples": (call("Wav2Vec2", np.zeros((2, 0))), ValueError, r"raw_speech\[0\] has no samples"),
    "None": (call("AST", None), TypeError, "NoneType"),
    "a number": (call("AST", 5), TypeError, "int"),
    "words": (call("AST", np.asarray(["a"])), TypeError, "pass a path"),
    "yes and no": (call("AST", np.zeros(500, bool)), TypeError, "bool"),
    "complex": (call("AST", np.zeros(500, complex)), TypeError, "complex128"),
    "ragged": (call("AST", [[1.0, [2.0]]]), ValueError, "different lengths"),
    "NaN": (call("AST", NAN), ValueError, "raw_speech has nan as its sample 17"),
    "NaN in a batch": (call("Wav2Vec2", [S, S, NAN]), ValueError, r"raw_speech\[2\] has nan as its sample 17"),
    "infinity": (call("Whisper", INFINITE.tolist()), ValueError, "inf as its sample 2999"),
    "minus infinity": (call("Whisper", -INFINITE), ValueError, "-inf as its sample 2999"),
    "large doubles": (call("Whisper", np.full(500, 1e300)), ValueError, "inf as its sample 0"),
    "channels last": (call("AST", np.zeros((3000, 2))), ValueError, r"mean\(axis=1\)"),
    "channels first": (call("AST", [np.zeros((2, 3000))]), ValueError, r"mean\(axis=0\)"),
    "three axes": (call("Wav2Vec2", np.zeros((2, 2, 3000))), ValueError, r"\(2, 2, 3000\)"),
    "whole numbers": (call("Wav2Vec2", [3, 10000]), ValueError, "from 3 to 10000"),
    "unsigned": (call("Wav2Vec2", np.full(9, 70, "uint16")), ValueError, "uint16 from 70 to 70"),
    "missing file": (call("AST", "missing.wav"), FileNotFoundError, r"missing\.wav"),
    "missing file in a batch": (call("AST", [S, Path("missing.wav")]), FileNotFoundError, r"missing\.wav"),
    **{f"{name} rate": (call(name, S, sampling_rate=8000), ValueError,
                        r"8000 and .* needs 16000: .*load_audio\(path, sampling_rate=16000\)") for name in NAMES},
    "padding": (call("Wav2Vec2", S, padding="max"), ValueError, "'max': give one of True, 'longest'"),
    "no max_length": (call("Wav2Vec2", S, padding="max_length"), ValueError, "pass max_length"),
    "no max_length to cut": (call("Wav2Vec2", S, truncation=True), ValueError, "truncation=True needs"),
    "max_length": (call("Whisper", S, max_length=0), ValueError, "max_length is 0"),
    "multiple": (call("Whisper", S, pad_to_multiple_of=-1), ValueError, "pad_to_multiple_of is -1"),
    "option": (call("Wav2Vec2", S, maxlength=5), TypeError, "maxlength"),
    "tensors": (call("AST", S, return_tensors="torhc"), ValueError, "Did you mean 'torch'"),
    "lengths": (call("Wav2Vec2", [S, S[:99]], return_tensors="keras"), ValueError, "3000, 99.*padding=True"),
    "lengths of spectrograms": (call("Whisper", [S, S[:999]], padding=False), ValueError, "padding='longest'"),
    "no frame": (call("Whisper", S[:159], padding=True), ValueError, "159 samples, too few"),
    "no frame of 25 ms": (call("AST", [S, S[:399]]), ValueError, "399 samples, too few"),
    "sampling_rate": (lambda: ours.ASTFeatureExtractor(sampling_rate=0), ValueError, "sampling_rate is 0"),
    "n_fft": (lambda: ours.WhisperFeatureExtractor(n_fft=400.5), ValueError, "n_fft is 400.5"),
    "side": (lambda: ours.WhisperFeatureExtractor(padding_side="top"), ValueError, "'top'"),
    "pad nothing": (lambda: ours.ASTFeatureExtractor().pad([]), ValueError, "'input_values'"),
    "pad without input": (lambda: ours.ASTFeatureExtractor().pad({"labels": [1]}), ValueError, r"\['labels'\]"),
    "Auto": (lambda: ours.AutoFeatureExtractor(), TypeError, "from_pretrained"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said(case):
    function, error, words = BAD[case]
    with pytest.raises(error, match=words) as caught:
        function()
    assert "\n" not in str(caught.value)


def test_missing_and_unknown_files(tmp_path):
    load = ours.AutoFeatureExtractor.from_pretrained
    with pytest.raises(ValueError, match=r"no feature extractor in .*preprocessor_config\.json"):
        load(tmp_path)
    with pytest.raises(ValueError, match="'ClapFeatureExtractor'"):
        load(write(tmp_path, preprocessor_config={"feature_extractor_type": "ClapFeatureExtractor"}))
    with pytest.raises(ValueError, match="'ViTImageProcessor'"):
        load(write(tmp_path, preprocessor_config={"image_processor_type": "ViTImageProcessor"}))
    with pytest.raises(ValueError, match=r"'whispr'.*Did you mean 'whisper'"):
        load(write(tmp_path, preprocessor_config={}, config={"model_type": "whispr"}))
    with pytest.raises(TypeError, match=r"'chunklength'.*Did you mean 'chunk_length'"):
        ours.WhisperFeatureExtractor.from_pretrained(tmp_path, chunklength=5)
