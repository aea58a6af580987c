"""What pipelines make of sounds, with tiny random models."""

import copy
import json
from pathlib import Path

import models
import numpy as np
import torch
import transformers


def sounds(folder, lengths, seed=0):
    """Made-up sounds at 16 kHz: tones that come and go, and noise. Written as sounds.npz."""
    np.savez(
        folder / "sounds.npz", **{str(number): _sound(length, seed + number) for number, length in enumerate(lengths)}
    )


def _sound(length, seed):
    draw = np.random.default_rng(seed)
    time = np.arange(int(16000 * length)) / 16000
    tones = sum(
        np.sin(2 * np.pi * draw.uniform(80, 3000) * time) * (np.sin(time * draw.uniform(1, 9)) > 0) for _ in range(6)
    )
    return (0.1 * tones + 0.02 * draw.normal(size=len(time))).astype("float32")


def run(
    folder,
    task,
    architecture,
    config,
    extractor,
    settings,
    lengths,
    cases,
    tokenizer=None,
    vocabulary=None,
    generation=None,
    scale=1.0,
):
    """Writes a checkpoint with its preprocessors, sounds.npz, and results.json: the results of the cases, in order.

    Args:
        task: the pipeline's.
        architecture: the model's class.
        config: settings of its configuration.
        extractor: the class of its feature extractor, and `settings` of that.
        lengths: of the sounds in seconds.
        cases: lists of a number of a sound, or a list of those, and keyword arguments of the call.
        tokenizer: a folder to load it from; or `vocabulary`, of a CTC tokenizer.
        generation: attributes of the generation configuration.
        scale: that the words' vectors are multiplied with, so that a random model is surer of what it says.
    """
    model = models.build(architecture, config)
    if generation is not None:
        with torch.no_grad():
            words = model.model.decoder.embed_tokens.weight  # of one length, or the longest would be all that is said
            words.copy_(scale * torch.nn.functional.normalize(words, dim=-1))
            model.model.decoder.embed_positions.weight.mul_(8.0)  # nor is a word repeated for being there
            for name, parameter in model.model.decoder.named_parameters():
                if name.endswith("bias"):
                    parameter.mul_(0.1)
        for name, value in {**generation, "_from_model_config": False}.items():
            setattr(model.generation_config, name, value)
    parts = {"feature_extractor": getattr(transformers, extractor)(**settings)}
    if vocabulary is not None:
        with torch.no_grad():  # no letter is said much more often than others
            model.lm_head.bias -= model(torch.from_numpy(_sound(3.0, 99))[None]).logits[0].mean(dim=0)
            model.lm_head.bias[1:4] -= 4.0  # special tokens are said seldom
            model.lm_head.bias[4] += 0.8  # and spaces often
        (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(vocabulary)}))
        parts["tokenizer"] = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    if tokenizer is not None:
        parts["tokenizer"] = transformers.AutoTokenizer.from_pretrained(tokenizer)
    for each in (model, *parts.values()):
        each.save_pretrained(folder)
    sounds(folder, lengths)
    with np.load(Path(folder) / "sounds.npz") as arrays:
        heard = [arrays[str(number)] for number in range(len(lengths))]
    results = []
    for chosen, options in cases:
        pipe = transformers.pipeline(task, model=copy.deepcopy(model), **parts)
        options = dict(options)
        facts = options.pop("facts", {})
        inputs = [{"raw": heard[number], "sampling_rate": 16000, **facts} for number in np.ravel(chosen)]
        found = [pipe(each, **options) for each in inputs]
        results.append(found if isinstance(chosen, list) else found[0])
    (folder / "results.json").write_text(json.dumps(results))
