"""What logits processors make of random scores. The first functions also run where there is no torch."""

import numpy as np


def draw(rows, vocab, length, seed, kinds=12):
    """Tokens (rows, length), of few kinds so that they repeat, and scores (rows, vocab)."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, kinds, (rows, length), dtype="int32")
    return ids, random.normal(0, 3, (rows, vocab)).astype("float32")


def spoil(scores, seed):
    """A copy with infinities and NaN in a tenth of the places each."""
    kind = np.random.default_rng(seed).integers(0, 10, scores.shape)
    return np.select([kind == 0, kind == 1, kind == 2], [np.inf, -np.inf, np.nan], scores).astype("float32")


def forbid(scores, seed):
    """A copy with most scores at minus infinity."""
    return np.where(np.random.default_rng(seed).random(scores.shape) < 0.9, -np.inf, scores).astype("float32")


def allowed(prompt, ids):
    """Tokens that may follow: a `prefix_allowed_tokens_fn`."""
    return [3, 5 + prompt, 9 + sum(ids.tolist()) % 20]


def user(input_ids, scores):
    """A user's processor, which writes to what it is given."""
    scores[:, 7] = input_ids[:, -1] + scores[:, 8]
    return scores


def run(folder, cases):
    """Writes results.npz: the scores that processors return, under the cases' names.

    Args:
        cases: name -> (class, arguments, arguments of `draw`, name of a function of scores or None).
    """
    import torch
    from transformers.generation import logits_process

    results = {}
    for name, (kind, arguments, drawn, change) in cases.items():
        ids, scores = draw(**drawn)
        scores = globals()[change](scores, drawn["seed"]) if change else scores
        tensors = {key: torch.tensor(value) for key, value in arguments.items() if key == "encoder_input_ids"}
        processor = getattr(logits_process, kind)(**(arguments | tensors))
        results[name] = processor(torch.tensor(ids).long(), torch.tensor(scores)).numpy()
    np.savez(folder / "results.npz", **results)


def groups(folder, diversity_penalty, num_beams, num_beam_groups, prompts, vocab, seed):
    """Writes results.npz: the scores of each group of beams, under its index."""
    import torch
    from transformers.generation.logits_process import HammingDiversityLogitsProcessor

    processor = HammingDiversityLogitsProcessor(diversity_penalty, num_beams, num_beam_groups)
    tokens = torch.tensor(draw(prompts * num_beams, 1, 1, seed, kinds=3)[0][:, 0]).long()
    results = {}
    for group in range(num_beam_groups):
        scores = torch.tensor(draw(prompts * num_beams // num_beam_groups, vocab, 1, seed + group)[1])
        results[str(group)] = processor(None, scores, tokens, group).numpy()
    np.savez(folder / "results.npz", **results)


def chain(folder, settings, rows, vocab, prompt_length, lengths, beams, prefix, users):
    """Writes results.npz: "names" of the processors that settings switch on, and, per length, what they return.

    Args:
        settings: of GenerationConfig.
        prefix, users: whether `allowed` and `user` are among the processors.
    """
    import torch
    from transformers import GenerationConfig, GenerationMixin

    config = GenerationConfig(**settings, num_beams=beams)
    ends = config.eos_token_id
    config._eos_token_tensor = None if ends is None else torch.tensor([ends] if isinstance(ends, int) else ends)
    prompt = torch.tensor(draw(rows // beams, vocab, prompt_length, seed=0)[0]).long()
    processors = GenerationMixin()._get_logits_processor(
        config,
        input_ids_seq_length=prompt_length,
        encoder_input_ids=prompt,
        prefix_allowed_tokens_fn=allowed if prefix else None,
        logits_processor=[user] if users else [],
    )
    results = {"names": np.array([type(each).__name__ for each in processors])}
    for length in lengths:
        ids, scores = draw(rows, vocab, length, seed=length)
        results[str(length)] = processors(torch.tensor(ids).long(), torch.tensor(scores)).numpy()
    np.savez(folder / "results.npz", **results)
