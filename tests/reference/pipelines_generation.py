"""What pipelines that write text make of texts and chats, with tiny random models and real tokenizers."""

import copy
import json

import models
import torch
import transformers


def run(folder, task, architecture, config, tokenizer, settings, cases):
    """Writes a checkpoint with its tokenizer, and results.json: the results of the cases, in order.

    Args:
        task: the pipeline's.
        architecture: the model's class.
        config: settings of its configuration and of generation; the vocabulary follows the tokenizer.
        tokenizer: a folder.
        settings: of the tokenizer, instead of those in the folder.
        cases: lists of arguments of a call, keyword arguments of it, and keyword arguments of `pipeline`.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer, **settings)
    model = models.build(architecture, {"vocab_size": len(tokenizer)} | config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    results = [_result(task, model, tokenizer, *case) for case in cases]
    (folder / "results.json").write_text(json.dumps(results, default=torch.Tensor.tolist))


def real(folder, source, task, cases):
    """Writes results.json: the results of the cases, as in `run`, for the model in a folder."""
    model = transformers.AutoModelForCausalLM.from_pretrained(source)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    results = [_result(task, model, tokenizer, *case) for case in cases]
    (folder / "results.json").write_text(json.dumps(results))


def _result(task, model, tokenizer, arguments, options, making):
    if "stop_strings" in options:
        options = options | {"tokenizer": tokenizer}
    params = copy.deepcopy(model.config.task_specific_params)
    pipe = transformers.pipeline(**{"task": task, **making}, model=model, tokenizer=tokenizer)
    model.config.task_specific_params = params  # from which the pipeline has taken the prefix
    return pipe(*copy.deepcopy(arguments), **options)
