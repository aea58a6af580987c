"""What `generate` says to inputs and settings that make no sense: at once, precisely, in one sentence."""

import warnings

import numpy as np
import pytest

import keras_models
from keras_models import BartConfig, GPT2Config, TextStreamer

IDS = [[1, 2, 3]]


@pytest.fixture(scope="module")
def models():
    gpt2 = GPT2Config(
        vocab_size=60, n_embd=8, n_layer=1, n_head=2, n_positions=32, bos_token_id=None, eos_token_id=None
    )
    bart = BartConfig(
        vocab_size=60, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=24,
    )  # fmt: skip
    return {
        "gpt2": keras_models.GPT2LMHeadModel(gpt2),
        "bart": keras_models.BartForConditionalGeneration(bart),
        "bare": keras_models.GPT2Model(gpt2),
    }


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def ids(length, rows=1):
    return np.full((rows, length), 5)


def embeds(*shape):
    return np.zeros(shape, "float32")


# Keyword arguments of `generate`, whose `inputs` are IDS by default, and what it says.
GPT2_ERRORS = [
    ({"inputs": ids(40)}, "The prompt is 40 tokens long and GPT2LMHeadModel has positions for 32: shorten it"),
    ({"inputs": ids(32)}, "The prompt is 32 tokens long"),
    ({"inputs": None, "inputs_embeds": embeds(1, 40, 8)}, "The prompt is 40 tokens long"),
    ({"inputs": [[]]}, r"input_ids is empty, of shape \(1, 0\): give at least one token"),
    ({"inputs": ids(3, rows=0)}, r"input_ids is empty, of shape \(0, 3\)"),
    ({"inputs": None}, "generate got no inputs, and there is no bos_token_id to start with: pass input_ids"),
    ({"inputs": None, "bos_token_id": 60}, "input_ids holds 60, but the vocabulary has 60 tokens"),
    ({"inputs": [[1, 60]]}, "input_ids holds 60, but the vocabulary has 60 tokens: use the model's own tokenizer"),
    ({"inputs": [[1, -1]]}, "input_ids holds -1, but the vocabulary has 60 tokens"),
    ({"inputs": [[1, 2], [3]]}, "input_ids has rows of different lengths: pad them"),
    ({"inputs": [[[1, 2]]]}, r"input_ids must be integers of shape \(batch, length\), not int32 of \(1, 1, 2\)"),
    ({"inputs": 5}, "input_ids must be integers of shape"),
    ({"inputs": [[1.0, 2.0]]}, "input_ids must be integers of shape .*, not float64"),
    ({"inputs": [[True, False]]}, "input_ids must be integers of shape .*, not bool"),
    ({"inputs": "a text"}, "input_ids holds str of .*, not numbers; pass what a preprocessor returns"),
    ({"inputs": ["a text"]}, "input_ids holds list of .*, not numbers"),
    ({"input_ids": IDS}, "generate got input_ids twice, by name and by position: drop one of them"),
    ({"inputs": None, "inputs_embeds": embeds(3, 8)}, r"inputs_embeds must be of shape \(batch, length, size\)"),
    ({"inputs_embeds": embeds(1, 2, 8)}, r"inputs_embeds are for tokens of \(1, 2\), not \(1, 3\): make them agree"),
    ({"attention_mask": [[1, 1]]}, r"attention_mask is of shape \(1, 2\), the tokens of \(1, 3\): make them agree"),
    ({"attention_mask": [[[1, 1, 1]]]}, r"attention_mask must be of shape \(batch, length\) for generate"),
    ({"token_type_ids": [[1]]}, r"token_type_ids is of shape \(1, 1\), which is not that of the tokens"),
    ({"position_ids": [[3, 4, 5]]}, "counts positions itself, without those that are masked: drop position_ids"),
    ({"past_key_values": ((1, 2),)}, "past_key_values must be a keras_models.Cache, such as .*, not tuple"),
    ({"num_beam": 2}, "generate has no setting, and GPT2LMHeadModel no input, 'num_beam'. Did you mean 'num_beams'"),
    ({"attention_masks": [[1] * 3]}, "no input, 'attention_masks'. Did you mean 'attention_mask'"),
    ({"max_new_token": 3}, "no input, 'max_new_token'. Did you mean 'max_new_tokens'"),
    ({"inputs": {"input_ids": IDS, "foo": 3}}, "GPT2LMHeadModel no input, 'foo'"),
    ({"labels": IDS}, "no input, 'labels'"),
    ({"logits_to_keep": 1}, "no input, 'logits_to_keep'"),
    ({"negative_prompt_ids": IDS}, "generate has no negative_prompt_ids: drop it"),
    ({"guidance_scale": 2.0}, "generate has no guidance_scale: drop"),
    ({"max_new_tokens": 0}, "max_new_tokens must be a positive integer, not 0"),
    ({"max_new_tokens": -3}, "max_new_tokens must be a positive integer, not -3"),
    ({"max_new_tokens": 2.5}, "max_new_tokens must be a positive integer, not 2.5"),
    ({"max_length": 3}, "A prompt of 3 positions leaves no room below max_length=3: raise it"),
    ({"num_beams": 0}, "num_beams must be a positive integer, not 0"),
    ({"num_return_sequences": 2}, "num_return_sequences=2 needs num_beams=2 or more, or do_sample=True"),
    ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences=3 is above num_beams=2"),
    ({"min_new_tokens": 9, "max_new_tokens": 3}, "min_new_tokens=9 is above max_new_tokens=3"),
    ({"do_sample": True, "temperature": 0.0}, "temperature must be above 0, not 0.0; do_sample=False decodes greedily"),
    ({"do_sample": True, "top_k": -1}, "top_k must be an integer of 1 or more, not -1"),
    ({"do_sample": True, "top_p": 1.5}, "top_p must be from 0 to 1, not 1.5"),
    ({"repetition_penalty": -1.0}, "repetition_penalty must be above 0, not -1.0"),
    ({"bad_words_ids": [[99]]}, r"bad_words_ids must hold token ids from 0 to 59, not \[99\]"),
    ({"eos_token_id": -5}, "eos_token_id=-5 is no token"),
    ({"seed": 1.5}, "seed must be an integer of 0 or more, not 1.5"),
    ({"seed": -1}, "seed must be an integer of 0 or more, not -1"),
    ({"generation_config": {"num_beams": 2}}, "generation_config must be a GenerationConfig, not dict"),
    ({"stop_strings": "a"}, "pass generate the tokenizer too, as tokenizer="),
    (
        {"num_beams": 2, "streamer": TextStreamer(None)},
        "A streamer cannot follow num_beams=2 at once: drop one of them",
    ),
    ({"inputs": ids(3, rows=2), "streamer": TextStreamer(None)}, "A streamer follows one text, not a batch of 2"),
    ({"streamer": object()}, r"A streamer needs methods put\(ids\) and end\(\), which object lacks"),
    ({"logits_processor": len}, "logits_processor must be a list of functions"),
    ({"logits_processor": [3]}, r"logits_processor must be a list of functions, not \[3\]"),
    ({"stopping_criteria": [3]}, r"stopping_criteria must be a list of functions, not \[3\]"),
    ({"prefix_allowed_tokens_fn": 3}, "prefix_allowed_tokens_fn must be a function, not 3"),
]
BART_ERRORS = [
    ({"inputs": ids(30)}, "input_ids is 30 tokens long and BartForConditionalGeneration has positions for 24"),
    (
        {"decoder_input_ids": ids(24)},
        "The prompt is 25 tokens long and BartForConditionalGeneration has positions for 24",
    ),
    ({"decoder_input_ids": [[]]}, "decoder_input_ids is empty"),
    ({"decoder_input_ids": [[99]]}, "decoder_input_ids holds 99, but the vocabulary has 60 tokens"),
    ({"decoder_input_ids": ids(2, rows=2)}, "decoder_input_ids are for 2 texts, the encoder's inputs for 1"),
    ({"decoder_start_token_id": 99}, "decoder_start_token_id holds 99, but the vocabulary has 60 tokens"),
    ({"decoder_start_token_id": [1, 2]}, "decoder_start_token_id has 2 tokens for 1 texts: give one, or one each"),
    ({"decoder_attention_mask": [[1, 1]]}, r"decoder_attention_mask is of shape \(1, 2\), the tokens of \(1, 1\)"),
    (
        {"decoder_inputs_embeds": embeds(1, 1, 8)},
        "no use for decoder_inputs_embeds: give decoder_input_ids, or nothing",
    ),
    ({"attention_mask": [[1, 1]]}, r"attention_mask is of shape \(1, 2\), the tokens of \(1, 3\): make them agree"),
    ({"inputs_embeds": embeds(1, 3, 8)}, "generate got both input_ids and inputs_embeds: drop one of them"),
    ({"encoder_outputs": 3}, "encoder_outputs must be what model.encode returns, .*, not int"),
    ({"encoder_outputs": embeds(1, 3, 8)}, "encoder_outputs must be what model.encode returns, .*, not ndarray"),
    (
        {"encoder_outputs": {"logits": embeds(1, 3, 8)}},
        "encoder_outputs must be what model.encode returns, .*, not dict",
    ),
]
BARE_ERRORS = [({}, "GPT2Model has no head that predicts words: load the checkpoint with AutoModelForCausalLM")]
TYPES = (  # the arguments whose errors are TypeErrors
    "num_beam", "attention_masks", "max_new_token", "labels", "logits_to_keep", "past_key_values", "generation_config",
    "logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (name, *case)
        for name, cases in (("gpt2", GPT2_ERRORS), ("bart", BART_ERRORS), ("bare", BARE_ERRORS))
        for case in cases
    ],
)
def test_bad_inputs_are_told_in_a_sentence(models, name, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message) as told:
        models[name].generate(**{"inputs": IDS, **arguments})
    assert "\n" not in str(told.value) and len(str(told.value)) < 300
    if set(arguments) & set(TYPES):
        assert told.type is TypeError


def test_functions_that_return_nonsense(models):
    def generate(**arguments):
        models["gpt2"].generate(IDS, max_new_tokens=2, **arguments)

    with pytest.raises(ValueError, match="allowed no token for prompt 0 after 3 tokens; it must allow at least one"):
        generate(prefix_allowed_tokens_fn=lambda index, ids: [])
    with pytest.raises(ValueError, match=r"The logits processor <lambda> must return scores of shape .*, not None"):
        generate(logits_processor=[lambda ids, scores: None])
    with pytest.raises(ValueError, match=r"criterion <lambda> returned an array \(3,\) for 1 rows"):
        generate(stopping_criteria=[lambda ids, scores: np.ones(3, bool)])


def test_caches_that_do_not_fit(models):
    model = models["gpt2"]
    cache = model.generate(IDS, max_new_tokens=2, return_dict_in_generate=True).past_key_values
    for prompt in ([[1, 2, 3], [4, 5, 6]], [[1, 2]]):
        with pytest.raises(ValueError, match=r"past_key_values holds 4 positions of 1 texts, and the tokens are of"):
            model.generate(prompt, max_new_tokens=2, past_key_values=cache)


def test_warnings(models):
    def warned(message, *args, **arguments):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            models["gpt2"].generate(*args, **arguments)
        assert any(message in str(each.message) for each in caught), [str(each.message) for each in caught]

    warned("generation stops there rather than at 43", IDS, max_new_tokens=40)
    warned(
        "set tokenizer.padding_side='left'",
        [[1, 2, 3], [1, 2, 3]],
        attention_mask=[[1, 1, 1], [1, 1, 0]],
        pad_token_id=0,
    )
    warned("no effect of temperature=0.5: drop", IDS, max_new_tokens=2, temperature=0.5)
