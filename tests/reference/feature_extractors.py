"""What the reference's feature extractors make of sounds."""

import json
import wave
from pathlib import Path

import numpy as np

AUDIO = Path(__file__).resolve().parents[3] / "shared" / "data" / "audio"


def sound(spec):
    """A sound: the name of a WAV file in the shared folder, or {"length", "kind", "seed", "as"}.

    The kinds: "noise", "tone", "speech" (tones and noise that come and go), "click", "silence", "tail" (silence after
    a third). `as` makes it a "list", or an array of "float64", "float16".
    """
    if isinstance(spec, str):
        with wave.open(str(AUDIO / spec)) as file:
            return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / np.float32(32768)
    length, kind = spec["length"], spec.get("kind", "speech")
    random = np.random.default_rng(spec.get("seed", 0))
    time = np.arange(length) / 16000
    noise = random.standard_normal(length)
    tones = sum(np.sin(2 * np.pi * pitch * time) / pitch for pitch in random.uniform(80, 3000, 5)) * 60
    values = {
        "noise": 0.1 * noise,
        "tone": 0.9 * np.sin(2 * np.pi * 440 * time),
        "speech": 0.2 * (tones + 0.05 * noise) * np.abs(np.sin(2 * np.pi * 1.7 * time)),
        "click": np.eye(1, length, length // 2)[0],
        "silence": np.zeros(length),
        "tail": np.where(np.arange(length) < length // 3, 0.1 * noise, 0),
    }[kind].astype(np.float32)
    match spec.get("as"):
        case None:
            return values
        case "list":
            return values.tolist()
        case name:
            return values.astype(name)


def random_call(seed):
    """A call drawn at random: class, settings, sounds, options."""
    random = np.random.default_rng(seed)

    def pick(*values):
        return values[random.integers(len(values))]

    name = pick("AST", "Wav2Vec2", "Whisper")
    settings, options = {}, {}
    lengths = random.integers(3000, 30000, random.integers(1, 4)).tolist()
    if random.random() < 0.3:
        lengths = lengths[:1] * len(lengths)
    sounds = [
        {"length": length, "kind": pick("noise", "tone", "speech", "click", "silence", "tail"),
         "seed": int(random.integers(1000)), "as": pick(None, None, "list", "float64")}
        for length in lengths
    ]  # fmt: skip
    if name == "AST":
        settings = {"max_length": pick(1024, 30, 97), "num_mel_bins": pick(128, 40), "do_normalize": pick(True, False)}
        settings |= pick({}, {"mean": 1.5, "std": 3.0})
        return name, settings, sounds, options
    options["padding"] = pick(True, "longest", "max_length")
    if random.random() < 0.5 or (name == "Wav2Vec2" and options["padding"] == "max_length"):
        options["max_length"] = int(random.integers(2000, 30000))
        options["truncation"] = pick(True, False) if options["padding"] != "max_length" else True
    if random.random() < 0.4:
        options["pad_to_multiple_of"] = pick(64, 1000, 16000)
    if random.random() < 0.6:
        options["return_attention_mask"] = pick(True, False)
    settings["padding_value"] = pick(0.0, 0.0, -0.5)
    if name == "Wav2Vec2":
        settings |= {"do_normalize": pick(True, True, False), "return_attention_mask": pick(True, False)}
        if options["padding"] is True and len(set(lengths)) == 1 and random.random() < 0.5:
            options["padding"] = False
    else:
        settings |= {"feature_size": pick(80, 128), "chunk_length": pick(1, 2), **pick({}, {"n_fft": 512})}
        settings |= pick({}, {"hop_length": 128})
        if options["padding"] == "max_length":
            options["truncation"] = True
        if random.random() < 0.4:
            options |= {"do_normalize": True, "return_attention_mask": True}
    return name, settings, sounds, options


def extracted(folder, name, settings, sounds, options, path="torch"):
    """Every output of an extractor; `path` "numpy" is Whisper's own way without PyTorch."""
    np.savez(folder / "outputs.npz", **_outputs(name, settings, sounds, options, path))


def random_calls(folder, seeds):
    """The outputs of random calls, a file each."""
    for seed in seeds:
        np.savez(folder / f"{seed}.npz", **_outputs(*random_call(seed), "numpy"))


def padded(folder, settings, lengths, options):
    """What `pad` makes of sequences of features."""
    import transformers

    extractor = transformers.Wav2Vec2FeatureExtractor(**settings)
    outputs = extractor.pad([{"input_values": each} for each in features(lengths, settings)], **options)
    np.savez(folder / "outputs.npz", **{key: np.asarray(value) for key, value in outputs.items()})


def features(lengths, settings):
    """Random sequences of features, of one number each where feature_size is 1."""
    size = settings.get("feature_size", 1)
    random = np.random.default_rng(0)
    return [random.standard_normal((length, size) if size > 1 else length).astype(np.float32) for length in lengths]


def saved(folder, name, settings, auto=False, config=None):
    """The file that an extractor writes whose file has these settings."""
    import transformers

    given = folder / "given"
    given.mkdir()
    (given / "preprocessor_config.json").write_text(json.dumps(settings))
    if config:
        (given / "config.json").write_text(json.dumps(config))
    kind = transformers.AutoFeatureExtractor if auto else getattr(transformers, f"{name}FeatureExtractor")
    kind.from_pretrained(given).save_pretrained(folder / "saved")


def read_back(into, source, sounds, options):
    """Writes into a folder what the extractor in another makes of sounds."""
    import transformers

    extractor = transformers.AutoFeatureExtractor.from_pretrained(source)
    outputs = extractor([sound(spec) for spec in sounds], sampling_rate=16000, return_tensors="np", **options)
    np.savez(Path(into) / "outputs.npz", **outputs)
    return type(extractor).__name__


def _outputs(name, settings, sounds, options, path):
    import transformers
    from transformers.models.whisper import feature_extraction_whisper as whisper

    extractor = getattr(transformers, f"{name}FeatureExtractor")(**settings)
    given = [sound(spec) for spec in sounds]
    has_torch = whisper.is_torch_available
    whisper.is_torch_available = lambda: path == "torch"
    try:
        options = {"sampling_rate": extractor.sampling_rate} | options
        outputs = extractor(given if len(given) > 1 else given[0], return_tensors="np", **options)
    finally:
        whisper.is_torch_available = has_torch
    return {key: np.asarray(value) for key, value in outputs.items()}
