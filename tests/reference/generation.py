"""What transformers' `generate` finds. The first functions also run where there is no torch."""

import tempfile
from pathlib import Path

import numpy as np

INPUTS = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask", "token_type_ids")


def lower_last(input_ids, scores):
    """A user's processor: what has just come seldom comes again, and token 7 is as likely as token 8."""
    for row, token in enumerate(input_ids[:, -1].tolist()):
        scores[row, token] -= 4.0
    scores[:, 7] = scores[:, 8]
    return scores


def odd_or_half(index, ids):
    """A `prefix_allowed_tokens_fn`: odd tokens for one text, even ones for the other, and half of the last token."""
    return [*range(index % 2, 57, 2), int(ids[-1]) // 2]


def after_ten(input_ids, scores):
    """A user's criterion for all rows."""
    return input_ids.shape[1] >= 10


def large_sum(input_ids, scores):
    """A user's criterion for each row."""
    return input_ids.sum(-1) > 320


def chosen(case):
    """Keyword arguments of `generate` with the functions above in place of their names."""
    lists = {
        name: [globals()[each] for each in case.get(name, ())] for name in ("logits_processor", "stopping_criteria")
    }
    prefix = case.get("prefix_allowed_tokens_fn")
    return {**case, **lists, "prefix_allowed_tokens_fn": globals()[prefix] if prefix else None}


def searches(folder, architecture, config, cases, seed=0):
    """Writes a checkpoint of random numbers, and what `generate` returns, as CASE.npz.

    No case may depend on rounding: with weights that differ by some 1e-5 its tokens must be the same.

    Args:
        architecture: the class in transformers.
        config: settings of its configuration.
        cases: name -> keyword arguments of `generate`. Functions are given by name, a GPT-2 tokenizer by its files;
            `give` names what to compute from input_ids in advance and to pass in their place, "inputs_embeds" or
            "encoder_outputs".
    """
    import torch
    from models import build

    torch.set_num_threads(1)
    model = build(architecture, config, seed)
    model.save_pretrained(folder)
    found = {name: _generate(model, case) for name, case in cases.items()}
    for parameter in model.parameters():
        parameter.data.mul_(1 + 1e-5 * torch.randn_like(parameter))
    for name, case in cases.items():
        tokens, others = found[name]["sequences"], _generate(model, case)["sequences"]
        if not np.array_equal(tokens, others):
            raise ValueError(f"Rounding decides in {name}: {tokens} or {others}.")
        np.savez(folder / f"{name}.npz", **found[name])


def _generate(model, case):
    import torch
    from tokenizers_ import folder_with
    from transformers import GPT2TokenizerFast

    inputs = {name: torch.tensor(value) for name, value in case.items() if name in INPUTS and value}
    arguments = {name: value for name, value in chosen(case).items() if name not in (*INPUTS, "give")}
    if "tokenizer" in case:
        with tempfile.TemporaryDirectory() as files:
            arguments["tokenizer"] = GPT2TokenizerFast.from_pretrained(
                folder_with(case["tokenizer"], None, Path(files))
            )
    with torch.no_grad():
        if case.get("give") == "inputs_embeds":
            inputs["inputs_embeds"] = model.get_input_embeddings()(inputs.pop("input_ids"))
        elif case.get("give") == "encoder_outputs":
            mask = inputs.get("attention_mask")
            inputs["encoder_outputs"] = model.get_encoder()(inputs.pop("input_ids"), attention_mask=mask)
        outputs = model.generate(**inputs, **{"return_dict_in_generate": True, **arguments})
        if case.get("output_scores"):
            chain = (outputs.sequences, outputs.scores, outputs.get("beam_indices"))
            outputs["transitions"] = model.compute_transition_scores(*chain)
            outputs["normalized"] = model.compute_transition_scores(*chain, normalize_logits=True)
    return dict(_flat(outputs))


def _flat(outputs):
    """(name, array) of all tensors; the parts of tuples as name.0.1."""
    for name, value in outputs.items():
        yield from _parts(name, value) if name != "past_key_values" else ()


def _parts(name, value):
    if isinstance(value, tuple):
        for index, part in enumerate(value):
            yield from _parts(f"{name}.{index}", part)
    elif value is not None:
        yield name, value.numpy()


def warped(folder, checkpoint, sequences, prompt_length, mask, settings):
    """Writes scores.npy: what processors make of the logits before each new token of sequences, (new, rows, tokens).

    Args:
        checkpoint: a GPT2LMHeadModel.
        sequences: (rows, length).
        mask: (rows, prompt_length).
        settings: of GenerationConfig.
    """
    import torch
    from transformers import GenerationConfig, GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(checkpoint, attn_implementation="eager").eval()
    ids, new = torch.tensor(sequences), len(sequences[0]) - prompt_length
    mask = torch.cat([torch.tensor(mask), torch.ones(len(ids), new, dtype=torch.long)], dim=1)
    places = (mask.cumsum(-1) - 1).masked_fill(mask == 0, 1)
    config = GenerationConfig(**settings)
    config._eos_token_tensor = None
    processors = model._get_logits_processor(config, input_ids_seq_length=prompt_length)
    with torch.no_grad():
        logits = model(ids, attention_mask=mask, position_ids=places).logits
    scores = [processors(ids[:, :end], logits[:, end - 1]).numpy() for end in range(prompt_length, len(ids[0]))]
    np.save(folder / "scores.npy", np.stack(scores))
