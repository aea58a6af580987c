"""Pipelines that write text against the reference, with tiny random models and real tokenizers, and a real model."""

import copy
import json
import re
import sys
import warnings

import keras
import pytest
from keras import ops

import keras_models
from keras_models import GenerationConfig, pipeline
from keras_models.generation.streamers import TextStreamer
from keras_models.pipelines import KeyDataset, register_pipeline
from keras_models.pipelines.text_generation import TextGenerationPipeline
from keras_models.registry import TASKS
from tests import reference
from tests.test_cli import documents, failure, misuse, output
from tests.test_pipelines_tasks import compare

IS_EAGER = keras.config.backend() == "torch"
TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}> {{ message.content }}\n{% endfor %}"
    "{% if tools %}Tools: {{ tools | length }}\n{% endif %}{% for each in documents or () %}{{ each.text }}\n"
    "{% endfor %}{% if mood %}Be {{ mood }}.\n{% endif %}{% if add_generation_prompt %}<assistant> {% endif %}"
)
# name -> (architecture, settings of the configuration, tokenizer, settings of the tokenizer)
MODELS = {
    "gpt2": (
        "GPT2LMHeadModel",
        {"n_embd": 24, "n_layer": 1, "n_head": 2, "n_positions": 64},
        "tokenizers/gpt2",
        {"model_max_length": 64, "chat_template": TEMPLATE},
    ),
    "padded": (
        "GPT2LMHeadModel",
        {"n_embd": 24, "n_layer": 1, "n_head": 2, "n_positions": 512, "vocab_size": 50258, "do_sample": False,
         "num_beams": 2, "max_length": 12, "prefix": "Once ",
         "task_specific_params": {"text-generation": {"min_length": 8, "prefix": "Well, "}}},
        "tokenizers/gpt2",
        {"pad_token": "<pad>"},
    ),
    "llama": (
        "LlamaForCausalLM",
        {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
         "max_position_embeddings": 64},
        "checkpoints/llama-stories260K",
        {"chat_template": TEMPLATE},
    ),
    "bart": (
        "BartForConditionalGeneration",
        {"d_model": 24, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
         "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 64,
         "vocab_size": 50265, "max_length": 14, "min_length": 5, "num_beams": 3, "length_penalty": 2.0,
         "early_stopping": True, "no_repeat_ngram_size": 3, "forced_bos_token_id": 0,
         "prefix": " "},
        "tokenizers/bart-large-cnn",
        {"model_max_length": 64},
    ),
    "t5": (
        "T5ForConditionalGeneration",
        {"d_model": 24, "d_kv": 12, "d_ff": 32, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0,
         "task_specific_params": {
            "summarization": {"max_length": 20, "min_length": 4, "num_beams": 4, "prefix": "summarize: "},
            "translation_en_to_de": {"max_length": 30, "num_beams": 2, "prefix": "translate English to German: "},
            "translation_en_to_fr": {"max_length": 30, "num_beams": 2, "prefix": "translate English to French: "},
         }},
        "tokenizers/t5-small",
        {},
    ),
}  # fmt: skip
G = {"do_sample": False, "max_new_tokens": 6}
USER, ANSWER = {"role": "user", "content": "Hi, who are you?"}, {"role": "assistant", "content": "I am"}
CHAT = [{"role": "system", "content": "Be kind."}, USER]
LONG = "The quick brown fox jumps over the lazy dog. " * 7
PROMPTS = ["Hello there", "Once upon a time , there was n't", "b c d"]
TOOL = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}}
TOLD = {"tools": [TOOL], "documents": [{"text": "A book."}]}
BEAMS = {"num_beams": 3}
STOPPED = BEAMS | {"num_return_sequences": 3, "stop_sequence": " Runtimetd"}
SCORES = {"return_dict_in_generate": True, "output_scores": True}
# name -> cases for every backend, and more of them for PyTorch alone: elsewhere each kind of search is compiled first
CASES = {
    "gpt2": (
        [
            (["Hello there"], G, {}),
            ([PROMPTS], G, {}),
            ([PROMPTS[:1]], G, {}),
            ([PROMPTS[1]], G | {"clean_up_tokenization_spaces": False}, {}),
            ([PROMPTS[1]], G | {"return_full_text": False}, {}),
            ([PROMPTS[1]], {}, G | {"return_full_text": False}),
            ([PROMPTS[1]], {"return_tensors": True}, G | {"return_full_text": False}),
            ([PROMPTS[1]], G | {"return_full_text": True}, {"return_full_text": False}),
            ([PROMPTS], G | {"return_tensors": True}, {}),
            ([PROMPTS[0]], G | {"return_text": True}, {}),
            ([PROMPTS[0]], {"return_tensors": True}, {"max_length": 8, "do_sample": False}),
            ([PROMPTS[1]], G | {"max_length": 14, "max_new_tokens": None, "return_tensors": True}, {}),
            ([LONG], G | {"max_length": 4, "return_tensors": True}, {}),
            ([LONG], G | {"truncation": True, "max_length": 9, "return_tensors": True}, {}),
            ([LONG], G | {"tokenizer_encode_kwargs": {"truncation": True, "max_length": 3}}, {}),
            ([PROMPTS[0]], G | {"add_special_tokens": False}, {}),
            ([PROMPTS], G | {"prefix": "Well, "}, {}),
            ([PROMPTS[0]], {"return_tensors": True}, {"prefix": "Well, ", "max_length": 9, "do_sample": False}),
            ([PROMPTS[0]], G | {"prefix": ""}, {"prefix": "Well, "}),
            ([PROMPTS[0]], G | {"stop_sequence": " Runtime"}, {}),
            ([PROMPTS[0]], G, {"stop_sequence": " Runtime"}),
            ([LONG], G | {"handle_long_generation": "hole", "return_tensors": True}, {}),
            ([PROMPTS[0]], G | {"handle_long_generation": "hole"}, {}),
            ([LONG], G | {"return_full_text": False, "max_new_tokens": 33}, {"handle_long_generation": "hole"}),
            ([[USER]], G, {}),
            ([CHAT], G, {}),
            ([[CHAT, [USER]]], G, {}),
            ([CHAT], G | {"return_full_text": False}, {}),
            ([CHAT], G | {"return_tensors": True}, {}),
            ([[USER, ANSWER]], G, {}),
            ([[USER, ANSWER]], G | {"return_full_text": False}, {}),
            ([[USER, ANSWER]], G | {"continue_final_message": False}, {}),
            ([CHAT], G | {"continue_final_message": True}, {}),
            ([CHAT], G, {"continue_final_message": True}),
            ([CHAT], G | {"add_special_tokens": True}, {}),
            ([CHAT], G | {"truncation": True, "max_length": 5}, {}),
            ([CHAT], G | {"tokenizer_encode_kwargs": TOLD | {"mood": "brief"}}, {}),
        ],
        [
            ([PROMPTS[0]], G | {"stop_sequence": "Oh Runtimetd", "return_tensors": True}, {}),
            ([PROMPTS[0]], G | {"stop_sequence": [" Runtime", " a"], "return_tensors": True}, {}),
            ([PROMPTS[0]], G | {"stop_strings": ["time"]}, {}),
            ([PROMPTS[0]], G | {"stop_strings": ["e r", "zz"]}, {}),
            ([PROMPTS], G | BEAMS, {}),
            ([PROMPTS], G | BEAMS | {"num_return_sequences": 2, "return_tensors": True}, {}),
            ([PROMPTS[0]], G | STOPPED, {}),
            ([PROMPTS[0]], G | STOPPED | {"return_tensors": True}, {}),
            ([PROMPTS], G | {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "min_new_tokens": 3}, {}),
            ([PROMPTS], {"do_sample": True, "top_k": 1, "max_new_tokens": 5}, {}),
            ([PROMPTS], {"top_k": 1, "max_new_tokens": 5, "temperature": 2.0}, {}),
            ([PROMPTS], {"top_k": 1, "max_new_tokens": 5, "num_return_sequences": 2}, {}),
        ],
    ),
    "padded": (
        [],
        [
            (["Hello"], {}, {"do_sample": False}),
            ([PROMPTS], {"return_tensors": True}, {"do_sample": False}),
            ([PROMPTS], {"return_full_text": False}, {"do_sample": False}),
            ([PROMPTS[0]], G | {"padding": "max_length", "max_length": 9, "return_tensors": True}, {}),
            ([PROMPTS[0]], G | STOPPED | {"return_tensors": True}, {}),
        ],
    ),
    "llama": (
        [],
        [
            ([PROMPTS], G, {}),
            ([PROMPTS], G | {"skip_special_tokens": False}, {}),
            ([CHAT], G, {}),
            ([PROMPTS[0]], G | SCORES | {"output_logits": True}, {}),
            ([PROMPTS[0]], G | SCORES | {"num_beams": 2}, {}),
            ([PROMPTS[0]], G | SCORES | {"num_beams": 2, "num_return_sequences": 2}, {}),
            ([PROMPTS[2]], {"do_sample": False}, {}),
        ],
    ),
}
ANSWERS = {
    ("bart", "text2text-generation"): (
        [
            (["Hello there"], {}, {}),
            ([PROMPTS], {}, {}),
            ([PROMPTS], {"max_new_tokens": 5}, {}),
            ([PROMPTS], {}, {"max_length": 9}),
            ([PROMPTS], {"return_tensors": True}, {}),
            ([PROMPTS[0]], {"return_tensors": True}, {}),
            ([PROMPTS], {"num_return_sequences": 2}, {}),
            ([PROMPTS], {"num_return_sequences": 3, "return_tensors": True}, {}),
            ([PROMPTS[1]], {"clean_up_tokenization_spaces": True}, {}),
            ([LONG], {"truncation": True}, {}),
            ([LONG], {"truncation": "only_first"}, {}),
        ],
        [
            ([PROMPTS], {"num_beams": 1}, {}),
            ([PROMPTS], {"num_beams": 1, "return_text": False}, {}),
            ([PROMPTS[0]], {"stop_sequence": "Oh well", "num_beams": 1}, {}),
            ([PROMPTS[0]], {"do_sample": True, "top_k": 1, "num_beams": 1}, {}),
        ],
    ),
    ("bart", "summarization"): (
        [([[LONG[:200], LONG[:100]]], {}, {})],
        [
            ([LONG[:200]], {"min_length": 8, "max_length": 20}, {}),
            ([LONG[:200]], {"min_length": 8, "max_length": 10, "return_tensors": True}, {}),
        ],
    ),
    ("bart", "translation"): ([([PROMPTS], {}, {})], []),
    ("bart", "translation_en_to_ja"): ([([PROMPTS], {"max_new_tokens": 4}, {})], []),
    ("t5", "text2text-generation"): (
        [],
        [
            ([PROMPTS], {"max_new_tokens": 7}, {}),
            ([PROMPTS], {"max_new_tokens": 7, "num_return_sequences": 2, "return_tensors": True}, {}),
            ([LONG * 3], {"truncation": True, "max_new_tokens": 5}, {}),
        ],
    ),
    ("t5", "summarization"): (
        [],
        [([PROMPTS], {"max_new_tokens": 7}, {}), ([PROMPTS[0]], {"max_length": 7}, {})],
    ),
    ("t5", "translation"): ([], [([PROMPTS], {"max_new_tokens": 7}, {})]),
    ("t5", "translation_en_to_fr"): (
        [],
        [
            ([PROMPTS], {"max_new_tokens": 7}, {}),
            ([PROMPTS], {"max_new_tokens": 7, "return_tensors": True}, {}),
            ([PROMPTS[0]], {"max_new_tokens": None}, {}),
            ([PROMPTS[0]], {"max_new_tokens": None, "max_length": 6}, {}),
            ([PROMPTS[0]], {}, {"max_new_tokens": 5}),
        ],
    ),
    ("t5", "translation_en_to_ja"): ([], [([PROMPTS], {"max_new_tokens": 7}, {})]),
}


def checkpoint(shared, name, task="text-generation", cases=()):
    """A folder with a tiny checkpoint, its tokenizer, and the reference's results for the cases."""
    architecture, config, tokenizer, settings = MODELS[name]
    return reference.make(
        "pipelines_generation.run", task=task, architecture=architecture, config=config,
        tokenizer=str(shared / tokenizer), settings=settings, cases=cases,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pipe(shared):
    """A function from a model and a task to a pipeline, each made once."""
    made = {}

    def find(name="gpt2", task="text-generation"):
        if (name, task) not in made:
            others = [each for (other, _), each in made.items() if other == name]
            model = {"model": others[0].model, "tokenizer": others[0].tokenizer} if others else {}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made[name, task] = pipeline(task, **(model or {"model": checkpoint(shared, name)}))
        return made[name, task]

    return find


def check(shared, pipe, name, task, cases):
    """Runs cases, (arguments, options, options of `pipeline`), and compares them with the reference's results."""
    cases, more = cases
    expected = json.loads((checkpoint(shared, name, task, cases + more) / "results.json").read_text())
    assert len(expected) == len(cases) + len(more)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what there is to warn of has its test elsewhere
        for (arguments, options, making), result in zip(cases + more if IS_EAGER else cases, expected, strict=IS_EAGER):
            one = pipeline(task, pipe.model, tokenizer=pipe.tokenizer, **making) if making else pipe
            found = one(*copy.deepcopy(arguments), **options)
            compare(plain(found), result, 1e-4, f"{arguments} {options} {making}")


def plain(results):
    """Results with tensors as lists."""
    return json.loads(json.dumps(results, default=lambda tensor: ops.convert_to_numpy(tensor).tolist()))


@pytest.mark.parametrize("name", [each for each, (first, _) in CASES.items() if first or IS_EAGER])
def test_text_generation(shared, pipe, name):
    check(shared, pipe(name), name, "text-generation", CASES[name])


@pytest.mark.parametrize(("name", "task"), [each for each, (first, _) in ANSWERS.items() if first or IS_EAGER])
def test_text_to_text(shared, pipe, name, task):
    check(shared, pipe(name, task), name, task, ANSWERS[name, task])


def test_a_real_story(shared):
    source = shared / "checkpoints" / "llama-stories260K"
    greedy = {"do_sample": False, "max_new_tokens": 120}
    cases = [
        ([["Once upon a time", "Tim and his dog"]], greedy, {}),
        (["One day, a bird"], greedy | BEAMS | {"num_return_sequences": 2}, {}),
    ]
    folder = reference.make("pipelines_generation.real", source=str(source), task="text-generation", cases=cases)
    expected = json.loads((folder / "results.json").read_text())
    write = pipeline(model=source)
    assert "little girl named Lily" in expected[0][0][0]["generated_text"]
    for (arguments, options, _), result in zip(cases if IS_EAGER else cases[:1], expected, strict=IS_EAGER):
        assert write(*arguments, **options) == result


# Batches, streams and seeds.


BATCHES = [("gpt2", "text-generation", G | {"return_tensors": True})]
MORE_BATCHES = [
    ("bart", "summarization", {"return_tensors": True}),
    ("gpt2", "text-generation", G | {"stop_sequence": " Runtime closet", "return_tensors": True}),
    ("gpt2", "text-generation", G | {"stop_strings": ["time", "BUS"], "return_tensors": True}),
    ("gpt2", "text-generation", G | BEAMS | {"num_return_sequences": 2}),
    ("gpt2", "text-generation", G | {"repetition_penalty": 1.5}),
    ("gpt2", "text-generation", {"do_sample": False, "max_new_tokens": None, "max_length": 16}),
    ("llama", "text-generation", G | SCORES),
    ("bart", "text2text-generation", {"num_beams": 1, "return_tensors": True}),
    ("t5", "translation_en_to_de", {"max_new_tokens": 7, "return_tensors": True, "num_return_sequences": 2}),
]


@pytest.mark.parametrize(("name", "task", "options"), BATCHES + MORE_BATCHES * IS_EAGER)
@pytest.mark.filterwarnings("ignore")
def test_batches_change_nothing(pipe, name, task, options):
    one = pipe(name, task)
    compare(plain(one(PROMPTS, batch_size=2, **options)), plain(one(PROMPTS, **options)), 1e-4, options)


def test_batches_run_at_once(pipe, monkeypatch):
    sizes = []
    run = keras_models.PreTrainedModel.generate

    def counting(model, **inputs):
        sizes.append(inputs["input_ids"].shape)
        return run(model, **inputs)

    monkeypatch.setattr(keras_models.PreTrainedModel, "generate", counting)
    write = pipe()
    read = []

    def prompts():
        for prompt in [*PROMPTS, CHAT]:
            read.append(prompt)
            yield prompt

    results = write(prompts(), batch_size=2, **G)
    assert read == [] and next(results)[0]["generated_text"].startswith(PROMPTS[0])
    assert (len(read), sizes) == (2, [(2, 9)])
    assert [each[0]["generated_text"][: len(CHAT)] for each in results] == [*(p[:2] for p in PROMPTS[1:]), CHAT]


def test_inputs_of_any_kind(pipe):
    write = pipe()
    expected = write([CHAT, [USER]], **G)
    rows = [{"chat": CHAT}, {"chat": [USER]}]
    for inputs in (iter([CHAT, [USER]]), KeyDataset(rows, "chat")):
        assert list(write(inputs, **G)) == expected
    assert write((CHAT, (USER,)), **G) == expected
    assert write(tuple(PROMPTS[:2]), **G) == write(text_inputs=PROMPTS[:2], **G) and write([]) == []
    assert CHAT[-1] == USER  # a chat that was given stays as it was
    kwargs = {"tokenizer_encode_kwargs": TOLD}
    assert write(CHAT, **TOLD, **G) == write(CHAT, **kwargs, **G) != write(CHAT, **G)
    answer = pipe("bart", "text2text-generation")
    assert [each[0] for each in answer(iter(PROMPTS))] == answer(PROMPTS) == answer(tuple(PROMPTS))


def test_seeds(pipe):
    write = pipe()
    sampled = {"max_new_tokens": 8, "seed": 3}
    texts = write([PROMPTS[0]] * 2, **sampled)
    assert texts == write([PROMPTS[0]] * 2, **sampled) and texts[0] != texts[1]
    assert write(PROMPTS[0], **sampled) == texts[0]
    inputs = write.tokenizer(PROMPTS[0], return_tensors="np")
    tokens = write.model.generate(**inputs, do_sample=True, temperature=0.7, pad_token_id=0, **sampled)
    assert write.tokenizer.decode(tokens[0]) == texts[0][0]["generated_text"]


def test_streamer(pipe, capsys):
    write = pipe()
    expected = write(PROMPTS[::2], **G)
    assert write(PROMPTS[::2], streamer=TextStreamer(write.tokenizer), **G) == expected
    assert capsys.readouterr().out == "".join(each[0]["generated_text"] + "\n" for each in expected)
    with pytest.raises(ValueError, match="streamer follows one text"):
        write(PROMPTS[:2], streamer=TextStreamer(write.tokenizer), batch_size=2, **G)


# Settings.


def test_what_a_user_says_comes_first(pipe):
    """Where transformers 4.57 lets the model's settings, or those of the task, override what `pipeline` was given."""
    write = pipe()
    model, settings = write.model, write.model.generation_config
    greedy = write(PROMPTS[0], **G)
    try:
        model.generation_config = GenerationConfig(do_sample=True, eos_token_id=50256)
        model.config.task_specific_params = {"text-generation": {"do_sample": True, "max_length": 50, "top_p": 0.9}}
        one = pipeline("text-generation", model, tokenizer=write.tokenizer, do_sample=False, max_new_tokens=6)
        assert one(PROMPTS[0]) == one(PROMPTS[0]) == greedy
        assert (one.generation_config.top_p, one.generation_config.max_length) == (0.9, 50)
        one.generation_config.max_new_tokens = 2
        assert len(one(PROMPTS[0], return_tensors=True)[0]["generated_token_ids"]) == 4
        other = GenerationConfig(max_new_tokens=6, do_sample=False)
        other.top_p = 0.5
        with pytest.warns(UserWarning, match="own settings apply.*eos_token_id=50256"):
            assert one(PROMPTS[0], generation_config=other) == greedy
        assert one(PROMPTS[0], generation_config=other, use_model_defaults=False) == greedy
        kept = pipeline("text-generation", model, tokenizer=write.tokenizer, generation_config=other, num_beams=2)
        assert (kept.generation_config.top_p, kept.generation_config.num_beams) == (0.5, 2)
    finally:
        model.generation_config, model.config.task_specific_params = settings, None
    assert write(PROMPTS[0], generate_kwargs=G) == write(PROMPTS[0], return_tensors=False, **G) == greedy
    assert write(PROMPTS[0], generate_kwargs=G, max_new_tokens=3) != greedy


def test_nothing_to_warn_of(pipe):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for name, task, options in (
            ("gpt2", "text-generation", G),
            ("gpt2", "text-generation", {"max_new_tokens": 8, "seed": 3}),
            ("bart", "text2text-generation", {"num_beams": 1}),
            ("bart", "text2text-generation", {}),
        ):
            pipe(name, task)(PROMPTS[:2], **options)


def test_warnings(pipe):
    write, translate = pipe(), pipe("bart", "translation")
    t5 = pipe("t5", "translation_en_to_de")
    objects = {"model": t5.model, "tokenizer": t5.tokenizer}
    for call, says in [
        (lambda: write(PROMPTS[0], max_length=9, **G), "max_length=9 has no effect beside max_new_tokens=6"),
        (lambda: write(LONG[:45], do_sample=False), "stops there rather than at"),
        (lambda: write(PROMPTS[0], max_new_tokens=1, temperature=0.5, do_sample=False), "no effect of temperature=0.5"),
        (lambda: pipe("bart", "summarization")("Short."), "summary may have 14 tokens, but the text has"),
        (lambda: translate(PROMPTS[0], max_new_tokens=3), "translation may have 3 tokens, and the text has"),
        (lambda: translate("a", max_new_tokens=3, stop_sequence="Oh dear"), "the first of them ends"),
        (lambda: pipeline("translation", **objects), "taken for translation_en_to_de: .*, translation_en_to_fr"),
    ]:
        with pytest.warns(UserWarning, match=says):
            call()


@pytest.mark.parametrize(
    ("inputs", "options", "error", "says"),
    [
        ("", {}, ValueError, "^inputs is an empty string: give text-generation some text"),
        ([PROMPTS[0], ""], G, ValueError, r"^inputs\[1\] is an empty string"),
        (3, {}, TypeError, "^inputs must be a string or a chat.* for text-generation, not int"),
        ([[]], {}, ValueError, r"^inputs\[0\] is a chat without messages"),
        ([["a", "b"]], {}, TypeError, r"^inputs\[0\]\[0\] must be a message such as .* not str"),
        ([{"role": "user"}], {}, ValueError, r"""^inputs\[0\] must have the keys .* it has \['role'\]"""),
        (LONG, {}, ValueError, "^inputs is 71 tokens long and .* for 64: pass handle_long_generation=.hole"),
        ("a " * 63 + "b", {}, ValueError, "^inputs is 64 tokens long"),
        (LONG, {"handle_long_generation": "hole"}, ValueError, "room for 1 to 63 new tokens, not for 256"),
        (LONG, {"handle_long_generation": "holes"}, ValueError, "Did you mean 'hole'"),
        ("a", {"max_new_token": 3}, TypeError, "no option 'max_new_token'. Did you mean 'max_new_tokens'"),
        ("a", {"stop_sequenc": "."}, TypeError, "Did you mean 'stop_sequence'.* and what generate takes"),
        ("a", {"input_ids": [1]}, TypeError, "no option 'input_ids'"),
        ("a", {"return_text": True, "return_tensors": True}, ValueError, "return_text and return_tensors exclude"),
        ("a", {"num_return_sequences": 2, "do_sample": False}, ValueError, "needs num_beams=2 or more, or do_sample"),
        ("a", {"max_new_tokens": 0}, ValueError, "max_new_tokens must be a positive integer"),
        ("a", {"generation_config": {}}, TypeError, "must be a GenerationConfig, not dict"),
        ("a b c", {"max_new_tokens": None, "max_length": 2}, ValueError, "leaves no room below max_length=2"),
        ("a", {"guidance_scale": 2.0}, ValueError, "generate has no guidance_scale"),
    ],
)
def test_bad_inputs_and_options(pipe, inputs, options, error, says):
    with pytest.raises(error, match=says):
        pipe()(inputs, **options)


def test_bad_models_and_tasks(shared, pipe):
    write, answer = pipe(), pipe("bart", "text2text-generation")
    with pytest.raises(ValueError, match="no chat template"):
        pipe("padded")([USER])
    with pytest.raises(ValueError, match=r"^inputs\[1\] is .* positions for 64: pass truncation=True"):
        answer(["a", LONG])
    with pytest.raises(ValueError, match="GPT2LMHeadModel cannot do summarization: it needs a model for seq2seq-lm"):
        pipeline("summarization", write.model, tokenizer=write.tokenizer)
    with pytest.raises(TypeError, match="no option 'max_lenght'. Did you mean 'max_length'"):
        pipeline("text-generation", write.model, tokenizer=write.tokenizer, max_lenght=3)
    with pytest.raises(ValueError, match="translation_en_to_ja has no model of its own: pass model="):
        pipeline("translation_en_to_ja")
    with pytest.raises(ValueError, match="Did you mean 'translation_en_to_fr'"):
        pipeline("translation_en_fr")


# Loading, saving, tasks of one's own.


def test_saved_and_loaded(pipe, tmp_path):
    for name, task in (("bart", "text2text-generation"), ("gpt2", "text-generation")):
        made = pipe(name, task)
        made.save_pretrained(tmp_path / name)
        again = pipeline(model=tmp_path / name)
        assert (again.task, type(again)) == (task, type(made))
        assert again.generation_config == made.generation_config and again.prefix == made.prefix
    (tmp_path / "bart" / "README.md").write_text("---\npipeline_tag: summarization\n---\n")
    assert pipeline(model=tmp_path / "bart").task == "summarization"


def test_a_task_of_ones_own(pipe, monkeypatch):
    class Shout(TextGenerationPipeline):
        defaults = {"max_new_tokens": 4}

        def postprocess(self, item, rows, *, mark="!"):
            return super().postprocess(item, rows)[0]["generated_text"].upper() + mark

    monkeypatch.setattr(sys.modules["keras_models.pipelines"], "TASKS", dict(TASKS))
    register_pipeline("shout", Shout, auto_class="AutoModelForCausalLM")
    write = pipe()
    shout = pipeline("shout", write.model, tokenizer=write.tokenizer, mark="?")
    text = write(PROMPTS[0], do_sample=False, max_new_tokens=4)[0]["generated_text"]
    assert shout(PROMPTS[0]) == text.upper() + "?" and shout(PROMPTS[0], mark=".") == text.upper() + "."


# The command line.


@pytest.fixture
def loaded(pipe, monkeypatch):
    """Has commands use the models of `pipe`, by these names, instead of loading them."""

    def instead(task, model, **settings):
        known = pipe(model, "text-generation" if model == "gpt2" else "text2text-generation")
        return pipeline(task, known.model, tokenizer=known.tokenizer, **settings)

    monkeypatch.setattr(keras_models.pipelines, "pipeline", instead)


def test_text_is_printed_as_it_comes(loaded, pipe):
    write, answer = pipe(), pipe("bart", "text2text-generation")
    greedy = ("-o", "do_sample=false", "-o", "max_new_tokens=6")
    run = ("run", "text-generation", "-m", "gpt2", *greedy)
    texts = [write(prompt, clean_up_tokenization_spaces=False, **G)[0]["generated_text"] for prompt in PROMPTS]
    assert output(*run, *PROMPTS, "--stream") == "".join(text + "\n" for text in texts)
    new = write(PROMPTS[0], return_full_text=False, **G)[0]["generated_text"]
    assert output(*run, PROMPTS[0], "--stream", "-o", "return_full_text=false") == new + "\n"
    assert documents(*run[1:], PROMPTS[0]) == [write(PROMPTS[0], **G)]
    told = output("run", "text2text-generation", "-m", "bart", *PROMPTS, "--stream")
    assert told == "".join(each["generated_text"] + "\n" for each in answer(PROMPTS, num_beams=1))
    assert "generated_text" in output(*run, PROMPTS[0]) and texts[0][-8:] in output(*run, PROMPTS[0])


def test_chats_of_the_command_line(loaded, pipe, tmp_path):
    (tmp_path / "chats.jsonl").write_text(json.dumps(CHAT) + "\n")
    greedy = ("-o", "do_sample=false", "-o", "max_new_tokens=6")
    run = ("text-generation", "-m", "gpt2", *greedy, "-f", tmp_path / "chats.jsonl")
    expected = pipe()(CHAT, **G)
    assert documents(*run) == [expected]
    assert output("run", *run, "--stream") == expected[0]["generated_text"][-1]["content"] + "\n"


def test_what_cannot_be_streamed(loaded):
    run = ("run", "text-generation", "x", "-m", "gpt2", "--stream")
    assert "--stream: it prints one text word by word: drop --json" in misuse(*run, "--json")
    assert "drop num_beams, num_return_sequences" in misuse(*run, "-o", "num_return_sequences=2", "-o", "num_beams=3")
    assert "drop batch_size" in misuse(*run, "--batch-size", "2")
    assert "--stream: fill-mask writes no text" in misuse("run", "fill-mask", "x", "--stream")
    assert "'max_new_tokens'" in failure(*run, "-o", "max_new_token=3")


def test_lists():
    shown = output("list", "tasks")
    assert re.search(r"text-generation +openai-community/gpt2 +607a30d", shown)
    assert re.search(r"summarization +sshleifer/distilbart-cnn-12-6 +a4f8f3e", shown)
    assert re.search(r"translation +translation_en_to_de, .*translation_en_to_ro +google-t5/t5-base +a9723ea", shown)
