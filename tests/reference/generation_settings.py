"""What the settings, stopping criteria and streamers of generation do in transformers."""

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

SENTENCES = (
    "The operator stopped the topper. Do not stop at the stop sign!",
    "one, two and three; the cat sat on the mat\nand then\n\nit stopped. The end",
    "User: hello world\nAssistant: the cats were unable to stop</s> and the end of it",
)
STOP_STRINGS = (["stop"], ["the cat", "\n"], [" and"], ["on the mat", "end", "t"], ["</s>", "l"], ["not in it!"])
STREAMED = (
    "Hello world, this is a sentence. It has\ntwo lines\n\nand then some",
    "我爱北京天安门, yes 東京タワー。 done",
    "a smile 😀👩‍👧 and a flag 🇩🇪 naïve café\n😀\n",
    "  spaces   and\ttabs \n x",
    "one",
)


def defaults() -> dict:
    """Every setting's default."""
    from transformers import GenerationConfig

    return GenerationConfig().to_dict()


def described(table: list[dict]) -> list[dict | None]:
    """For each group of settings its values, those for a file, its modes and whether it is saved; None if refused."""
    from transformers import GenerationConfig

    described = []
    for settings in table:
        try:
            config = GenerationConfig(**settings)
        except ValueError:
            described.append(None)
            continue
        try:
            config.validate(strict=True)
            is_saved = True
        except ValueError:
            is_saved = False
        facts = {"values": config.to_dict(), "file": json.loads(config.to_json_string(ignore_metadata=True))}
        facts["modes"] = [config.get_generation_mode(assistant).value for assistant in (None, "a model")]
        described.append(facts | {"is_saved": is_saved})
    return described


def write(folder: Path, settings: dict):
    """A generation_config.json."""
    from transformers import GenerationConfig

    GenerationConfig(**settings).save_pretrained(folder)


def read(path: str) -> dict:
    """All values of the settings in a folder."""
    from transformers import GenerationConfig

    return GenerationConfig.from_pretrained(path).to_dict()


def from_model_configs(table: list[tuple[str, dict]]) -> list[dict]:
    """What is found in configurations of models."""
    import transformers

    configs = [getattr(transformers, name)(**values) for name, values in table]
    return [transformers.GenerationConfig.from_model_config(config).to_dict() for config in configs]


def of_model(config: dict, generation: dict | None) -> dict:
    """The settings of a GPT-2 whose repository has these contents of config.json and generation_config.json."""
    from transformers import GPT2Config, GPT2LMHeadModel

    with tempfile.TemporaryDirectory() as folder:
        sizes = {"n_layer": 1, "n_head": 1, "n_embd": 4, "vocab_size": 9, "n_positions": 8}
        GPT2LMHeadModel(GPT2Config(**sizes)).save_pretrained(folder)
        path = Path(folder, "config.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | config))
        Path(folder, "generation_config.json").unlink()
        if generation is not None:
            Path(folder, "generation_config.json").write_text(json.dumps(generation))
        return GPT2LMHeadModel.from_pretrained(folder).generation_config.to_dict()


def prepared(table: list[dict]) -> list:
    """The settings of calls, and the arguments that are none: of {"model", "given", "use_model_defaults", "call"}."""
    from transformers import GenerationConfig
    from transformers.generation import GenerationMixin

    prepared = []
    for case in table:
        model = SimpleNamespace(generation_config=GenerationConfig(**case["model"]), config=None)
        given = GenerationConfig(**case["given"]) if "given" in case else None
        call = case.get("call", {})
        config, rest = GenerationMixin._prepare_generation_config(model, given, case.get("use_model_defaults"), **call)
        prepared.append([config.to_dict(), rest])
    return prepared


def lengths(table: list[dict]) -> list:
    """[maximum, minimum, whether there was a warning] for each case, or None where there is an error."""
    import warnings

    import numpy as np
    from transformers import GenerationConfig
    from transformers.generation import GenerationMixin
    from transformers.utils import logging

    found = []
    for case in table:
        call, positions = case.get("call", {}), case.get("max_positions")
        config = GenerationConfig(**case["settings"])
        config.update(**call)
        facts = {"is_encoder_decoder": case.get("is_encoder_decoder", False), "max_position_embeddings": positions}
        model = SimpleNamespace(config=SimpleNamespace(**facts))
        embeds = case.get("embeds_length")
        is_default = call.get("max_length") is None and config.max_length is not None
        logged = []
        logger = logging.get_logger("transformers.generation.utils")
        logger.addFilter(logged.append)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                config = GenerationMixin._prepare_generated_length(
                    model,
                    generation_config=config,
                    has_default_max_length=is_default,
                    has_default_min_length=call.get("min_length") is None and config.min_length is not None,
                    model_input_name="input_ids" if embeds is None else "inputs_embeds",
                    input_ids_length=case["prompt_length"],
                    inputs_tensor=np.zeros((1, case["prompt_length"] if embeds is None else embeds)),
                )
                GenerationMixin._validate_generated_length(model, config, case["prompt_length"], is_default)
                found.append([config.max_length, config.min_length or 0, bool(warned or logged)])
            except (ValueError, TypeError):
                found.append(None)
        logger.removeFilter(logged.append)
    return found


def special_tokens(table: list[dict]) -> list:
    """[bos, eos, pad, decoder start, number of warnings] for each case, or None where there is an error."""
    from transformers import GenerationConfig
    from transformers.generation import GenerationMixin
    from transformers.utils import logging

    found = []
    for case in table:
        config = GenerationConfig(**case["settings"])
        model = SimpleNamespace(config=SimpleNamespace(is_encoder_decoder=case.get("is_encoder_decoder", False)))
        logged = []
        logger = logging.get_logger("transformers.generation.utils")
        logger.addFilter(logged.append)
        logger.warning_once.__func__.cache_clear()
        try:
            GenerationMixin._prepare_special_tokens(model, config, case.get("has_attention_mask"), device="cpu")
        except ValueError:
            found.append(None)
            continue
        finally:
            logger.removeFilter(logged.append)
        tokens = [getattr(config, f"_{name}_token_tensor") for name in ("bos", "eos", "pad", "decoder_start")]
        found.append([*(None if token is None else token.tolist() for token in tokens), bool(logged)])
    return found


def stop_decisions(folder: Path, name: str, source: str | dict[str, str]):
    """Rows of ids, which end like texts or in tokens that occur in stop strings, and which of them are stopped."""
    import random

    import torch
    from transformers.generation import StopStringCriteria

    tokenizer = _tokenizer(name, source)
    draw = random.Random(0)
    vocabulary = sorted(tokenizer.get_vocab().values())
    cases = []
    for strings in STOP_STRINGS:
        parts = {text[i:j] for text in strings for i in range(len(text)) for j in range(i + 1, len(text) + 1)}
        texts = sorted(parts | {f"a{part}" for part in parts} | {f"{part}pper" for part in parts})
        near = sorted({index for text in texts for index in _ids(tokenizer, text)})
        rows = []
        for _ in range(400):
            sentence = _ids(tokenizer, draw.choice(SENTENCES))
            cut = draw.randrange(1, len(sentence))
            kinds = (sentence[:cut], draw.choices(near, k=12), draw.choices([*near, *vocabulary[:6]], k=12))
            rows.append([*draw.choices(vocabulary, k=12), *draw.choice(kinds)][-12:])
        rows[:3] = [[*row[:-2], max(vocabulary) + 3, row[-1]] for row in rows[:3]]
        decisions = StopStringCriteria(tokenizer, strings)(torch.tensor(rows), None).tolist()
        cases.append({"strings": strings, "rows": rows, "decisions": decisions})
    (folder / "cases.json").write_text(json.dumps(cases))


def streamed(folder: Path, name: str, source: str | dict[str, str]):
    """What a streamer makes of each chunk of ids, the first of which is the prompt."""
    import torch
    from transformers import TextStreamer

    class Recorder(TextStreamer):
        def on_finalized_text(self, text, stream_end=False):
            pieces.append([text, stream_end])

    tokenizer = _tokenizer(name, source)
    cases = []
    for text in STREAMED:
        ids = tokenizer(text)["input_ids"]
        for chunks in ([ids[:2], *([each] for each in ids[2:])], [ids[:1], ids[1:6], ids[6:7], ids[7:]]):
            for options in ({}, {"skip_prompt": True, "skip_special_tokens": True}):
                pieces = []
                streamer = Recorder(tokenizer, **options)
                for _ in range(2):  # a streamer can be used again
                    for index, chunk in enumerate(chunks):
                        chunk = torch.tensor(chunk, dtype=torch.long)
                        streamer.put(chunk if index else chunk[None])
                    streamer.end()
                cases.append({"chunks": chunks, "options": options, "pieces": pieces})
    (folder / "cases.json").write_text(json.dumps(cases))


def _tokenizer(name: str, source: str | dict[str, str]):
    import transformers
    from tokenizers_ import folder_with

    with tempfile.TemporaryDirectory() as scratch:
        return getattr(transformers, name).from_pretrained(folder_with(source, None, Path(scratch)))


def _ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]
