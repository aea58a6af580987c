"""Real checkpoints write what they write in transformers: a speller, a story teller, a planner of processes."""

import json
import threading
import time

import numpy as np

import keras_models
from keras_models import AutoTokenizer, LlamaForCausalLM, TextIteratorStreamer
from tests import reference

GREEDY = {"max_new_tokens": 40, "do_sample": False}
BEAMS = {"max_new_tokens": 24, "do_sample": False, "num_beams": 4, "length_penalty": 0.8}
PENALTIES = {"max_new_tokens": 40, "do_sample": False, "repetition_penalty": 1.2, "no_repeat_ngram_size": 3}


def check(architecture, source, prompts, settings, **more):
    """Asserts that a checkpoint writes the reference's tokens; returns those of the first settings."""
    settings = [{**each, **more} for each in settings]
    arguments = {"architecture": architecture, "prompts": prompts, "settings": settings}
    expected = json.loads(
        (reference.make("real_generation.texts", source=str(source), **arguments) / "tokens.json").read_text()
    )
    model = getattr(keras_models, architecture).from_pretrained(source)
    for options, rows in zip(settings, expected, strict=True):
        for prompt, row in zip(prompts, rows, strict=True):
            found = model.generate(np.array([prompt]), **options)[0].tolist()
            assert found == row, (options, prompt)
    return expected[0]


def test_speller(shared):
    source = shared / "checkpoints" / "bart-g2p-en_us"
    config = json.loads((source / "config.json").read_text())
    letters = {letter: index for index, letter in enumerate(config["grapheme_chars"])}
    words = ["transformer", "keras", "through"]
    prompts = [[config["bos_token_id"], *(letters[each] for each in word), config["eos_token_id"]] for word in words]
    tokens = check("BartForConditionalGeneration", source, prompts, [GREEDY, BEAMS])
    special = (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"])
    spoken = "".join(config["phoneme_chars"][each] for each in tokens[0] if each not in special)
    assert spoken == "tɹænsf\u02c8ɔɹməɹ"


def test_story_teller(shared):
    source = shared / "checkpoints" / "llama-stories260K"
    tokenizer = AutoTokenizer.from_pretrained(source)
    prompts = [tokenizer(text)["input_ids"] for text in ("Once upon a time", "Lily and Tom")]
    tokens = check("LlamaForCausalLM", source, prompts, [GREEDY, BEAMS, PENALTIES], pad_token_id=0)
    assert tokenizer.decode(tokens[0], skip_special_tokens=True).startswith("Once upon a time, there was a little girl")


def test_planner(shared):
    source = shared / "checkpoints" / "gpt2-capp"
    prompts = [[5, 6, 7, 8, 9], [3, 4, 5, 6, 7, 8, 9, 10]]
    check("GPT2LMHeadModel", source, prompts, [GREEDY, BEAMS, PENALTIES], eos_token_id=None, pad_token_id=0)


def test_words_come_before_the_last_is_computed(shared):
    source = shared / "checkpoints" / "llama-stories260K"
    tokenizer, model = AutoTokenizer.from_pretrained(source), LlamaForCausalLM.from_pretrained(source)
    prompt = {"input_ids": np.array([tokenizer("Once upon a time")["input_ids"]])}
    settings = {"max_new_tokens": 200, "eos_token_id": None, "pad_token_id": 0}
    whole = model.generate(**prompt, **settings)[0]
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=60)
    ended = []

    def write():
        model.generate(**prompt, **settings, streamer=streamer)
        ended.append(time.perf_counter())

    thread = threading.Thread(target=write)
    thread.start()
    pieces = [(time.perf_counter(), next(streamer))]
    pieces += [(time.perf_counter(), piece) for piece in streamer]
    thread.join()
    assert pieces[0][0] < ended[0] and len(pieces) > 20
    assert (
        "".join(piece for _, piece in pieces).strip() == tokenizer.decode(whole[prompt["input_ids"].shape[1] :]).strip()
    )
