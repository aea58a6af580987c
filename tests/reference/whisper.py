"""What transformers' Whisper does beyond a forward pass: first numbers, hidden spans, transcriptions."""

import copy

import numpy as np
import torch
import transformers
from generation import chosen
from models import build
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperForConditionalGeneration,
    WhisperTimeStampLogitsProcessor,
)
from transformers.models.whisper.generation_whisper import _dynamic_time_warping, _median_filter
from transformers.models.whisper.modeling_whisper import _compute_mask_indices


def positions(config):
    """The encoder's table of positions in a new model."""
    return WhisperForConditionalGeneration(WhisperConfig(**config)).model.encoder.embed_positions.weight.tolist()


def spans(lengths, size, chance, span, least, draws=1000):
    """How much of each row is hidden on the average."""
    mask = torch.arange(size)[None] < torch.tensor(lengths)[:, None]
    np.random.seed(0)
    found = [_compute_mask_indices((len(lengths), size), chance, span, mask, least) for _ in range(draws)]
    return np.mean(
        (found & mask.numpy()).sum(axis=2), axis=0
    ).tolist()  # where a row is too short, what pads it counts not


def loss(checkpoint, labels):
    """The loss of a model that is given sounds and labels alone."""
    model = WhisperForConditionalGeneration.from_pretrained(checkpoint).eval()
    with np.load(f"{checkpoint}/inputs.npz") as inputs, torch.no_grad():
        return model(torch.from_numpy(inputs["input_features"]), labels=torch.tensor(labels)).loss.item()


def sounds(case, generator):
    """Features, and a mask where there are lengths, of a case: {"batch": n, "frames": n, "lengths": [...]}."""
    batch, lengths = case.pop("batch", 2), case.pop("lengths", None)
    frames = case.pop("frames", max([40, *(lengths or [])]))
    arrays = {"input_features": generator.normal(size=(batch, 5, frames)).astype("float32")}
    if lengths:
        arrays["attention_mask"] = (np.arange(frames)[None] < np.array(lengths)[:, None]).astype("int64")
    return arrays


def generated(folder, config, generation, cases, seed=0):
    """Writes a checkpoint of random numbers, and what `generate` returns for each case, as CASE.npz.

    No case may depend on rounding: with weights that differ by some 1e-5 its tokens must be the same.

    Args:
        config: settings of the configuration.
        generation: settings of generation.
        cases: name -> keyword arguments of `generate`, and those of `sounds`; "settings" change those of generation,
            None takes one away; "assistant" is the class of an assistant of other random numbers.
    """
    model = build("WhisperForConditionalGeneration", config, seed)
    model.generation_config = GenerationConfig(**generation)
    model.save_pretrained(folder)
    for kind in ("WhisperForConditionalGeneration", "WhisperForCausalLM"):
        build(kind, config, seed + 1).save_pretrained(folder / kind)
    found = {name: _generate(model, case, folder) for name, case in cases.items()}
    for parameter in model.parameters():
        parameter.data.mul_(1 + 1e-5 * torch.randn_like(parameter))
    for name, case in cases.items():
        tokens, others = found[name]["sequences"], _generate(model, case, folder)["sequences"]
        if not np.array_equal(tokens, others):
            raise ValueError(f"Rounding decides in {name}: {tokens} or {others}.")
        np.savez(folder / f"{name}.npz", **found[name])


def _generate(model, case, folder):
    case = {**case, **{name: chosen(case)[name] for name in ("logits_processor", "stopping_criteria")}}
    inputs = {name: torch.from_numpy(value) for name, value in sounds(case, np.random.default_rng(0)).items()}
    settings = copy.deepcopy(model.generation_config)
    for name, value in case.pop("settings", {}).items():
        if value is None and name not in GenerationConfig().to_dict():
            delattr(settings, name)
        else:
            setattr(settings, name, value)
    for name in ("prompt_ids", "decoder_input_ids"):
        if name in case:
            case[name] = torch.tensor(case[name])
    if "num_frames" in case:
        case["num_frames"] = torch.tensor(case["num_frames"])
    if "assistant" in case:
        kind = case.pop("assistant")
        case["assistant_model"] = getattr(transformers, kind).from_pretrained(folder / kind).eval()
    if case.pop("encoded", False):
        case["encoder_outputs"] = model.model.encoder(inputs.pop("input_features"))
    kept, model.generation_config = model.generation_config, settings
    model.config.forced_decoder_ids = case.pop("old_forced", None)
    with torch.no_grad():
        outputs = model.generate(**inputs, **case)
    model.generation_config = kept
    return dict(_parts(outputs if isinstance(outputs, dict) else {"sequences": outputs}))


def _parts(outputs, prefix=""):
    """(name, array) of all tensors and numbers; segments' own results are left out."""
    for name, value in outputs.items() if hasattr(outputs, "items") else enumerate(outputs):
        if name in ("past_key_values", "result") or value is None:
            continue
        if isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value.detach().numpy()
        elif isinstance(value, (int, float)):
            yield f"{prefix}{name}", np.array(value)
        else:
            yield from _parts(value, f"{prefix}{name}.")


def stamped(settings, begin, ids, scores):
    """Scores after the rules of timestamps; ids and scores are (rows, ...)."""
    processor = WhisperTimeStampLogitsProcessor(GenerationConfig(**settings), begin)
    return processor(torch.tensor(ids), torch.tensor(scores)).tolist()


def warped(costs):
    """The way that dynamic time warping takes."""
    return [each.tolist() for each in _dynamic_time_warping(np.array(costs))]


def filtered(x, width):
    """The medians of windows."""
    return _median_filter(torch.tensor(x), width).tolist()


def language(checkpoint, frames):
    """The tokens of the languages of two sounds."""
    model = WhisperForConditionalGeneration.from_pretrained(checkpoint).eval()
    features = sounds({"frames": frames}, np.random.default_rng(0))["input_features"]
    return model.detect_language(torch.from_numpy(features), num_segment_frames=40).tolist()
