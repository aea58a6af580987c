"""Speech to text, forward passes of sounds and of two towers, and the preparation of sounds; see tasks.py."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RATE = 16000
TOKENS = 100  # that are written for a window of speech, about as many as people say in 30 seconds
LENGTHS = {"30 s": 30, "5 min": 300}
CLIP_BASE = {"vision_config": {"patch_size": 32}}  # all else is the default
# task -> (class, settings of the configuration)
MODELS = {
    "whisper": (
        "WhisperForConditionalGeneration",
        {"d_model": 512, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 8,
         "decoder_attention_heads": 8, "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048},
    ),
    "wav2vec2": ("Wav2Vec2ForCTC", {}),
    "clip": ("CLIPModel", CLIP_BASE),
}  # fmt: skip
EXTRACTORS = ("Whisper", "Wav2Vec2", "AST")


def make(task: str) -> Callable[[Path], None]:
    """A function that writes a checkpoint of random numbers, inputs, and what it computes of them."""
    architecture, settings = MODELS[task]

    def write(folder: Path):
        if (folder / task / "done").exists():
            return
        import numpy as np
        import torch
        import transformers

        torch.manual_seed(0)
        kind = getattr(transformers, architecture)
        model = kind(kind.config_class(**settings)).eval()
        if task == "whisper":
            _make_speaker(model)
        model.save_pretrained(folder / task)
        arrays = _inputs(task, np.random.default_rng(0))
        for name, inputs in arrays.items():
            np.savez(folder / f"{task}-{name}.npz", **inputs)
        _, run = _runner("transformers", task, folder)
        for name, inputs in arrays.items():
            np.savez(folder / f"{task}-{name}.npz", **inputs, result=run(inputs))
        (folder / task / "done").touch()

    return write


def _make_speaker(model: Any):
    """A Whisper with weights that are random, but settled on what comes next, and never on the end of the text."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "embed_positions" not in name:
                parameter.normal_(0.0, 1.5 * parameter[0].numel() ** -0.5)
        # Sure of its words, and unsure of timestamps, which would end windows early.
        model.model.decoder.embed_tokens.weight[:50364].mul_(4.0)
        model.model.decoder.embed_tokens.weight[50364:].mul_(0.2)
    settings = {
        "is_multilingual": False, "no_timestamps_token_id": 50363, "max_initial_timestamp_index": 50,
        "return_timestamps": False, "suppress_tokens": [50257, 50258], "begin_suppress_tokens": [220],
        "decoder_start_token_id": 50258, "forced_decoder_ids": None, "max_length": 448, "prev_sot_token_id": 50361,
        "eos_token_id": 50257, "pad_token_id": 50257, "alignment_heads": [[5, 3]],
        "_from_model_config": False,
    }  # fmt: skip
    for name, value in settings.items():
        setattr(model.generation_config, name, value)


def _inputs(task: str, generator: Any) -> dict[str, dict[str, Any]]:
    """What is measured: inputs by name."""
    import numpy as np

    if task == "clip":
        pixels = generator.normal(size=(8, 224, 224, 3)).astype("float32")
        ids = generator.integers(1000, 40000, (8, 16))
        ids[:, 0], ids[:, -1] = 49406, 49407
        return {
            "1 picture, 4 texts": {"pixel_values": pixels[:1], "input_ids": ids[:4]},
            "8 pictures, 8 texts": {"pixel_values": pixels, "input_ids": ids},
        }
    if task == "wav2vec2":
        rows = {"1 x 10 s": 1, "4 x 10 s": 4}
        return {
            name: {"input_values": generator.normal(size=(count, 10 * RATE)).astype("float32")}
            for name, count in rows.items()
        }
    return {
        name: {"input_features": generator.normal(0.0, 0.5, (1, 80, 100 * seconds)).astype(np.float32)}
        for name, seconds in LENGTHS.items()
    }


def _runner(name: str, task: str, folder: Path) -> tuple[Any, Callable[[dict[str, Any]], Any]]:
    """A model, and a function from inputs to its output, as a user of this contestant would call it."""
    import numpy as np

    architecture, _ = MODELS[task]
    if name == "transformers":
        import torch
        import transformers

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
        model = getattr(transformers, architecture).from_pretrained(folder / task).eval()

        def run(inputs):
            tensors = {key: torch.from_numpy(value) for key, value in inputs.items()}
            if "pixel_values" in tensors:
                tensors["pixel_values"] = tensors["pixel_values"].permute(0, 3, 1, 2).contiguous()
            with torch.inference_mode():
                if task == "whisper":
                    return model.generate(**_transcribing(tensors)).numpy()
                return model(**tensors)[_output(task)].numpy()

        return model, run
    import keras_models

    model = getattr(keras_models, architecture).from_pretrained(folder / task)
    if task == "whisper":
        return model, lambda inputs: np.asarray(model.generate(**_transcribing(inputs)))
    return model, lambda inputs: model.infer(**inputs)[_output(task)]


def _transcribing(inputs: dict[str, Any]) -> dict[str, Any]:
    """What `generate` is called with: timestamps, which alone move the window on, for more than one."""
    frames = inputs["input_features"].shape[-1]
    more = {"attention_mask": inputs["input_features"][:, 0] * 0 + 1} if frames > 3000 else {}
    return {**inputs, **more, "max_new_tokens": TOKENS, "return_timestamps": frames > 3000}


def _output(task: str) -> str:
    return "logits_per_image" if task == "clip" else "logits"


def start(task: str) -> Callable[[str, Path], Callable[[], dict]]:
    """A function that loads a model, compares what it computes, and returns what measures it once."""

    def begin(name: str, folder: Path) -> Callable[[], dict]:
        import numpy as np

        _, run = _runner(name, task, folder)
        files = {each: dict(np.load(folder / f"{task}-{each}.npz")) for each in _inputs(task, np.random.default_rng(0))}
        expected = {each: arrays.pop("result") for each, arrays in files.items()}
        before = time.perf_counter()
        for each, inputs in files.items():
            found = run(inputs)
            if found.shape != expected[each].shape or np.abs(found - expected[each]).max() > 2e-3:
                raise SystemExit(f"{name} computes something else for {each}")
        first = {"first_s": time.perf_counter() - before}

        def measure() -> dict:
            times = dict(first)
            for each, inputs in files.items():
                begun, work = time.perf_counter(), time.process_time()
                run(inputs)
                times[f"{each}, s"] = time.perf_counter() - begun
                times[f"{each}, CPU s"] = time.process_time() - work
            return times

        return measure

    return begin


def start_features(name: str, folder: Path) -> Callable[[], dict]:
    """Milliseconds from samples to what a model takes."""
    import numpy as np

    if name == "transformers":
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    library = __import__("transformers" if name == "transformers" else "keras_models")
    extractors = {kind: getattr(library, f"{kind}FeatureExtractor")() for kind in EXTRACTORS}
    sounds = list(np.random.default_rng(0).normal(0.0, 0.1, (8, 30 * RATE)).astype("float32"))
    cases = {"1 x 30 s": sounds[:1], "8 x 30 s": sounds}

    def measure() -> dict:
        times = {}
        for kind, extractor in extractors.items():
            for case, given in cases.items():
                work = time.process_time()
                extractor(given, sampling_rate=RATE, return_tensors="np")
                times[f"{kind} {case}, CPU ms"] = 1000 * (time.process_time() - work)
        return times

    measure()
    return lambda: {"first_s": 0.0, **measure()}
