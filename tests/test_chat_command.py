"""Chats: replies equal those without a cache, turns come and go, and the command does what is typed or piped in."""

import copy
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from contextlib import closing

import keras
import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from keras_models import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    cache,
    cli,
    inference,
)
from keras_models.chat import Chat, _Pieces
from tests.test_cli import ROOT, failure, invoke, misuse, program

TEMPLATE = (
    "{% for message in messages %}{% if message.content == 'bad' %}{{ raise_exception('no such words') }}{% endif %}"
    "<|start|>{{ message.role }}\n{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
SPECIAL = ["<s>", "<|start|>", "<|end|>"]
TEXTS = ["system user assistant", "Who are you, and what is your name?", "I am a cat.\n    So what?", "Be kind."]
TURNS = ["Who are you?", "Señor 🦄, what is\n    your name?", "So?"]
SAMPLING = {"temperature": 0.9, "top_k": 20, "top_p": 0.9, "do_sample": True}
GREEDY = {"max_new_tokens": 9, "do_sample": False}
AS_WRITTEN = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}


def make_tokenizer(kind):
    """A tokenizer of few tokens: with bytes for letters, as GPT-2's, or with spaces as letters, as Llama's."""
    if kind == "gpt2":
        tokenizer = tokenizers.Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        options = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet(), "special_tokens": SPECIAL}
    else:
        tokenizer = tokenizers.Tokenizer(models.BPE(byte_fallback=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        tokenizer.decoder = decoders.Sequence(parts)
        options = {"special_tokens": [f"<0x{byte:02X}>" for byte in range(256)]}
    trainer = trainers.BpeTrainer(vocab_size=340, show_progress=False, **options)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(json.loads(tokenizer.to_str()) | {"added_tokens": []}))
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def make(kind, folder):
    """Writes a tiny random model, loads it, and returns (folder, model, tokenizer)."""
    backend = make_tokenizer(kind)
    backend.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    ids = {"bos_token_id": backend.token_to_id("<s>"), "eos_token_id": backend.token_to_id("<|end|>")}
    shared = {"vocab_size": backend.get_vocab_size(), "initializer_range": 0.6, **ids}
    keras.utils.set_random_seed(1)
    if kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=128, **shared))
    else:
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
        model = LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=2, max_position_embeddings=256, **shared))
    # Bytes at random are no text; and no reply ends by chance, not even where tests let token 0 be the end.
    bytes_ = range(256) if kind == "llama" else [0]
    model.generation_config.suppress_tokens = [*bytes_, *map(backend.token_to_id, SPECIAL)]
    model.save_pretrained(folder)
    return folder, AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module", autouse=True)
def few_sizes():
    """Prompts and caches are filled up to few sizes, and fewer programs are compiled than usual."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "BUCKETS", (32, 128))
        patch.setattr(cache, "STEP", 256)
        yield


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return make("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return make("gpt2", tmp_path_factory.mktemp("gpt2"))


def expected(model, tokenizer, messages, **settings):
    """The reply to a conversation as `generate` writes it, from the first token on."""
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    pad = {"attention_mask": np.ones((1, len(ids)), int), "pad_token_id": tokenizer.eos_token_id}
    return tokenizer.decode(model.generate([ids], **pad, **settings)[0][len(ids) :], **AS_WRITTEN)


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def reused(model, monkeypatch, stops=False):
    """A list that grows by the number of positions whose keys and values each call of `generate` is given."""
    counts, generate = [], type(model).generate

    def spy(self, *args, past_key_values=None, **kwargs):
        counts.append(0 if past_key_values is None else past_key_values.length)
        if stops:
            raise ValueError("enough")
        return generate(self, *args, past_key_values=past_key_values, **kwargs)

    monkeypatch.setattr(type(model), "generate", spy)
    return counts


# Replies.


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_replies_equal_those_without_a_cache(request, kind, monkeypatch):
    _, model, tokenizer = request.getfixturevalue(kind)
    messages = [{"role": "system", "content": "Be kind."}]
    chat = Chat(model, tokenizer, system="Be kind.", **GREEDY)
    counts = reused(model, monkeypatch)
    for turn in TURNS:
        before = [*messages, user(turn)]
        pieces = list(chat.say(turn))
        assert "".join(pieces) == expected(model, tokenizer, before, **GREEDY)
        assert "" not in pieces and len(pieces) > 1
        messages = [*before, assistant("".join(pieces))]
        assert chat.messages == messages
        counts.pop()  # of `expected`
    rendered = [len(tokenizer.apply_chat_template(messages[:end], add_generation_prompt=True)) for end in (2, 4)]
    assert counts[0] == 0 and all(count >= length for count, length in zip(counts[1:], rendered, strict=True))


def test_settings_are_the_models_own_unless_given(llama, monkeypatch):
    _, model, tokenizer = llama
    own = SAMPLING | {"max_new_tokens": 3, "eos_token_id": tokenizer.eos_token_id}
    own["suppress_tokens"] = model.generation_config.suppress_tokens
    monkeypatch.setattr(model, "generation_config", GenerationConfig(**own))
    chat = Chat(model, tokenizer, seed=5)
    for number in range(2):
        assert "".join(chat.say("So?")) == expected(model, tokenizer, [user("So?")], seed=5 + number)
        chat.reset()
    chat.set(do_sample=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # none about the model's temperature, which has no effect now
        reply = "".join(chat.say("So?"))
    assert reply == expected(model, tokenizer, [user("So?")], **dict.fromkeys(SAMPLING) | {"do_sample": False})


def test_settings(llama):
    _, model, tokenizer = llama
    chat = Chat(model, tokenizer, max_new_tokens=5)
    for given, kept in [
        ({"temperature": 0.5}, {"max_new_tokens": 5, "temperature": 0.5, "do_sample": True}),
        ({"temperature": 0}, {"max_new_tokens": 5, "do_sample": False}),
        ({"top_p": 0.5, "max_new_tokens": None}, {"top_p": 0.5, "do_sample": True}),
        ({"do_sample": False, "top_p": None}, {"do_sample": False}),
        ({"penalty_alpha": 0.6, "top_k": 4}, {"penalty_alpha": 0.6, "top_k": 4, "do_sample": False}),
    ]:
        chat.set(**given)
        assert chat.settings == kept
    for wrong, error, message in [
        ({"temprature": 1}, TypeError, "Did you mean 'temperature'?"),
        ({"num_beams": 2}, ValueError, "drop num_beams=2"),
        ({"max_new_tokens": "x"}, ValueError, "max_new_tokens must be a positive integer"),
        ({"seed": "x"}, TypeError, "seed must be an integer of 0 or more, not 'x'"),
    ]:
        with pytest.raises(error, match=re.escape(message)):
            chat.set(**wrong)
        assert chat.settings == kept


def test_contrastive_search_starts_anew(llama, monkeypatch):
    _, model, tokenizer = llama
    chat = Chat(model, tokenizer, **GREEDY)
    list(chat.say("So?"))
    counts = reused(model, monkeypatch, stops=True)
    chat.set(penalty_alpha=0.6, top_k=3)
    for _ in range(2):
        with pytest.raises(ValueError, match="enough"):
            list(chat.say("So?"))
        chat.set(penalty_alpha=None, top_k=None)
    assert counts[0] == 0 and counts[1] > 5


def test_why_replies_end(llama):
    _, model, tokenizer = llama
    chat = Chat(model, tokenizer, **GREEDY, eos_token_id=0)
    assert chat.finish_reason is None
    assert list(chat.say("So?")) and chat.finish_reason == "length"
    chat.undo()
    first = int(chat._tokens[-9])
    chat.set(eos_token_id=first)
    assert "".join(chat.say("So?")) == tokenizer.decode([first]) and chat.finish_reason == "stop"
    assert chat.messages == [user("So?"), assistant(tokenizer.decode([first]))]


def test_the_tokenizers_end_counts_too(llama, monkeypatch):
    _, model, tokenizer = llama
    chat = Chat(model, tokenizer, **GREEDY, eos_token_id=0)
    list(chat.say("So?"))
    monkeypatch.setattr(tokenizer, "eos_token", tokenizer.convert_ids_to_tokens(int(chat._tokens[-9])))
    chat.undo()
    assert list(chat.say("So?")) and chat.finish_reason == "length"
    chat.undo()
    chat.set(eos_token_id=None)
    assert len(list(chat.say("So?"))) <= 1 and chat.finish_reason == "stop"


def test_undo_reset_and_system(llama):
    _, model, tokenizer = llama
    chat = Chat(model, tokenizer, **GREEDY)
    for turn in TURNS[:2]:
        list(chat.say(turn))
    both = list(chat.messages)
    chat.undo()
    assert chat.messages == both[:2]
    assert "".join(chat.say(TURNS[1])) == both[3]["content"] and chat.messages == both
    chat.system = "Be kind."
    assert chat.messages == [{"role": "system", "content": "Be kind."}, *both] and chat.system == "Be kind."
    chat.system = "Be brief."
    assert chat.messages == [{"role": "system", "content": "Be brief."}, *both]
    chat.undo()
    before = [*chat.messages, user("So?")]
    assert "".join(chat.say("So?")) == expected(model, tokenizer, before, **GREEDY)
    chat.reset()
    assert chat.messages == [{"role": "system", "content": "Be brief."}]
    with pytest.raises(ValueError, match="There is no turn to take back"):
        chat.undo()
    chat.system = None
    assert chat.messages == [] and chat.system is None


def test_messages_may_be_changed(llama):
    _, model, tokenizer = llama
    chat = Chat(model, tokenizer, **GREEDY)
    list(chat.say(TURNS[0]))
    chat.messages = [user("So?"), assistant("Who?"), *chat.messages[2:]]
    before = [*chat.messages, user("So?")]
    assert "".join(chat.say("So?")) == expected(model, tokenizer, before, **GREEDY)


def check_interrupted(chat, pieces):
    """Checks that the reply ended with the pieces, and that the next one to it is right."""
    assert chat.messages == [user(TURNS[0]), assistant("".join(pieces))]
    assert chat.finish_reason == "interrupted"
    chat.set(max_new_tokens=4)
    before = [*chat.messages, user("So?")]
    assert "".join(chat.say("So?")) == expected(chat.model, chat.tokenizer, before, **chat.settings)
    assert len(chat._tokens) < 100  # the thread stopped soon


def test_replies_that_are_left(llama):
    _, model, tokenizer = llama
    chat = Chat(model, tokenizer, max_new_tokens=100, do_sample=False, eos_token_id=0)
    with closing(chat.say(TURNS[0])) as reply:
        pieces = [next(reply), next(reply)]
    check_interrupted(chat, pieces)


def test_interrupted_replies(llama, monkeypatch):
    _, model, tokenizer = llama
    chat = Chat(model, tokenizer, max_new_tokens=100, do_sample=False, eos_token_id=0)
    send, sent, pieces = _Pieces.on_finalized_text, [], []

    def interrupt(streamer, text, stream_end=False):
        send(streamer, text, stream_end)
        sent.append(text)
        if len(sent) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(_Pieces, "on_finalized_text", interrupt)
    with pytest.raises(KeyboardInterrupt), closing(chat.say(TURNS[0])) as reply:
        pieces.extend(reply)
    assert len(chat.messages[1]["content"]) >= len("".join(pieces))
    check_interrupted(chat, [chat.messages[1]["content"]])


# Limits and errors.


def test_conversations_up_to_the_last_position(gpt2):
    _, model, tokenizer = gpt2
    chat = Chat(model, tokenizer, do_sample=False, max_new_tokens=3, eos_token_id=0)
    list(chat.say("Who are you? " * 18))
    before = [*chat.messages, user("So?")]
    chat.set(max_new_tokens=100)
    used = len(tokenizer.apply_chat_template(before, add_generation_prompt=True))
    assert 100 < used < 128
    left = {**chat.settings, "max_new_tokens": 128 - used}
    assert "".join(chat.say("So?")) == expected(model, tokenizer, before, **left)
    assert chat.finish_reason == "length" and len(chat._tokens) == 128
    before = list(chat.messages)
    with pytest.raises(ValueError, match=r"long by now, and GPT2LMHeadModel has positions for 128: reset"):
        list(chat.say("So?"))
    assert chat.messages == before
    chat.reset()
    chat.set(max_new_tokens=3)
    assert "".join(chat.say("So?")) == expected(model, tokenizer, [user("So?")], **chat.settings)


def test_rotary_models_have_a_limit_too(llama):
    chat = Chat(*llama[1:])
    with pytest.raises(ValueError, match="LlamaForCausalLM has positions for 256"):
        list(chat.say("Who are you? " * 80))
    chat.set(max_length=20)
    with pytest.raises(ValueError, match="and max_length allows 20"):
        list(chat.say("Who are you? " * 8))
    list(chat.say("So?"))
    assert len(chat._tokens) == 20 and chat.finish_reason == "length"


def test_failures_leave_the_conversation_as_it_was(llama):
    chat = Chat(*llama[1:], **GREEDY)
    list(chat.say("So?"))
    before = list(chat.messages)
    with pytest.raises(ValueError, match="The chat template refuses the conversation: no such words"):
        list(chat.say("bad"))
    chat.set(temperature=-1)
    with pytest.raises(ValueError, match="temperature must be above 0, not -1"):
        list(chat.say("So?"))
    assert chat.messages == before
    chat.set(temperature=0)
    assert list(chat.say("So?")) and len(chat.messages) == 4


# Without a template.


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_plain_text(request, kind):
    _, model, tokenizer = request.getfixturevalue(kind)
    tokenizer = copy.copy(tokenizer)
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="There is no chat template"):
        Chat(model, tokenizer)
    chat = Chat(model, tokenizer, "Be kind.", template=False, **GREEDY)
    text = "Be kind."
    for turn in ("Who", "So what"):
        text += "\n" + turn
        ids = tokenizer(text)["input_ids"]
        whole = tokenizer.decode(model.generate([ids], pad_token_id=0, **GREEDY)[0], **AS_WRITTEN)
        reply = "".join(chat.say(turn))
        assert text + reply == whole
        text = whole


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("text", ["Who?\n    So what?  \n\n\tSeñor 🦄我的猫. ", "  you", "🦄<|end|> are", " <|start|>"])
def test_pieces_are_the_whole_text(request, kind, text):
    *_, tokenizer = request.getfixturevalue(kind)
    prompt, ids = (np.array(tokenizer(each)["input_ids"]) for each in ("Be 猫", text))
    whole = tokenizer.decode([*prompt, *ids], **AS_WRITTEN).removeprefix("Be 猫")
    for skip_prompt, expected in ((True, tokenizer.decode(ids, **AS_WRITTEN)), (False, whole)):
        streamer = _Pieces(tokenizer, skip_prompt=skip_prompt, **AS_WRITTEN)
        streamer.put(prompt[None])
        for index in ids:
            streamer.put(np.array([index]))
        streamer.end()
        pieces = list(streamer)
        assert "".join(pieces) == expected and not any("\ufffd" in piece for piece in pieces)


# The command.


@pytest.fixture
def at_once(llama, monkeypatch):
    """Has the command take a model that is there, with its compiled programs; returns (folder, model, tokenizer)."""
    model = llama[1]
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: model)
    return llama


def replies(model, tokenizer, turns, system=None, **settings):
    """What a chat of these turns prints, and its messages."""
    chat = Chat(model, tokenizer, system, **settings)
    return "".join("".join(chat.say(turn)) + "\n" for turn in turns), chat.messages


def test_lines_of_standard_input(at_once, monkeypatch):
    folder, model, tokenizer = at_once
    found = invoke("chat", folder, "--greedy", "--max-new-tokens", "9", input="Who are you?\n\nSo?\r\n")
    printed, messages = replies(model, tokenizer, ["Who are you?", "So?"], **GREEDY)
    assert (found.exit_code, found.stdout, found.stderr) == (0, printed, "")
    found = invoke(
        "chat", folder, "--json", "-o", "do_sample=false", "--max-new-tokens", "9", input="Who are you?\nSo?"
    )
    rows = [message | {"finish_reason": "length"} for message in messages if message["role"] == "assistant"]
    assert (found.exit_code, found.stdout.splitlines()) == (0, [json.dumps(row, ensure_ascii=False) for row in rows])


def test_sampling_by_options(at_once):
    folder, model, tokenizer = at_once
    options = ["--temperature", 0.9, "--top-k", 20, "--top-p", 0.9, "--seed", 3, "--max-new-tokens", 4]
    found = invoke("chat", folder, "--system", "Be kind.", *options, input="So?")
    printed, _ = replies(model, tokenizer, ["So?"], "Be kind.", **SAMPLING, seed=3, max_new_tokens=4)
    assert (found.exit_code, found.stdout) == (0, printed)


def test_commands(at_once, tmp_path):
    folder, model, tokenizer = at_once
    lines = [
        "Who?", "/undo", "//set", "/reset", "/set do_sample=false", "/set max_new_tokens=9", "/system Be kind.", "So?",
        "Who?", "/undo", f"/save {tmp_path / 'a.json'}", "/exit", "not heard",
    ]  # fmt: skip
    found = invoke("chat", folder, "--max-new-tokens", "2", input="\n".join(lines))
    chat = Chat(model, tokenizer, **GREEDY | {"max_new_tokens": 2})
    printed = "".join(chat.say("Who?")) + "\n"
    chat.undo()
    printed += "".join(chat.say("/set")) + "\n"
    more, messages = replies(model, tokenizer, ["So?", "Who?"], "Be kind.", **GREEDY)
    assert (found.exit_code, found.stdout, found.stderr) == (0, printed + more, "")
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == messages[:3]


def test_errors_leave_the_chat_going(at_once):
    folder, model, tokenizer = at_once
    lines = ["/undo", "/sett x", "/set x", "/set x=1", "/save", "/save /none/a", "bad", "Who are you? " * 80, "So?"]
    found = invoke("chat", folder, "--greedy", "--max-new-tokens", "9", "--json", input="\n".join(lines))
    messages = [
        "There is no turn to take back.",
        "There is no command /sett; a text is written //sett x. Did you mean '/set'?",
        "'x' must have the form NAME=VALUE",
        "GenerationConfig has no setting 'x'.",
        "/save needs the name of a file.",
        "/none/a: No such file or directory",
        "The chat template refuses the conversation: no such words",
        "has positions for 256: reset it, undo a turn, or say less.",
    ]
    *errors, reply = map(json.loads, found.stdout.splitlines())
    assert found.exit_code == 1 and reply["content"] + "\n" == replies(model, tokenizer, ["So?"], **GREEDY)[0]
    told = found.stderr.splitlines()
    for message, error, line in zip(messages, errors, told, strict=True):
        assert message in error["error"] and line == f"error: {error['error']}"
    result = invoke("--debug", "chat", folder, input="/undo")
    assert isinstance(result.exception, ValueError)


def test_what_cannot_be_chatted_with(at_once, tmp_path):
    folder, *_ = at_once
    shutil.copytree(folder, tmp_path / "plain")
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"chat_template": None}
    (tmp_path / "plain" / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "plain" / "chat_template.jinja").unlink(missing_ok=True)
    message = failure("chat", tmp_path / "plain", input="So?")
    assert "plain has no chat template: with --no-template it continues plain text instead." in message
    found = invoke("chat", tmp_path / "plain", "--no-template", "--greedy", "--max-new-tokens", "9", input="So")
    printed, _ = replies(*at_once[1:], ["So"], template=False, **GREEDY)
    assert (found.exit_code, found.stdout) == (0, printed)
    assert "num_beams=3" in failure("chat", folder, "-o", "num_beams=3", input="So?")
    assert "it leaves no use for temperature, top_k" in misuse(
        "chat", folder, "--greedy", "--top-k", 3, "--temperature", 2
    )
    assert "'top_k' must have the form NAME=VALUE" in misuse("chat", folder, "-o", "top_k")


class Terminal(io.StringIO):
    """Lines as they are typed; ^C is an interruption."""

    def isatty(self):
        return True

    def readline(self, *args):
        line = super().readline(*args)
        if line == "^C\n":
            raise KeyboardInterrupt
        return line


def test_at_a_terminal(at_once, monkeypatch, capsys, tmp_path):
    folder, model, tokenizer = at_once
    lines = ["Who?", "", "^C", '"""So', 'what?"""', "/help", "/set", "/nonsense", f"/save {tmp_path / 'a'}", "/reset"]
    monkeypatch.setattr(sys, "stdin", Terminal("\n".join(lines)))
    monkeypatch.setenv("COLUMNS", "200")
    printed = []

    def show(text="", end="\n", flush=False):
        printed.append(text + end)
        if len(printed) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli, "print", show, raising=False)
    cli.app(["chat", str(folder), "--greedy", "--max-new-tokens", "9"], standalone_mode=False)
    chat = Chat(model, tokenizer, **GREEDY)
    with closing(chat.say("Who?")) as reply:
        said = [next(reply), next(reply)]
    assert printed[:3] == [*said, "\n"] and "".join(printed[3:]) == "".join(chat.say("So\nwhat?")) + "\n" + "\n"
    assert json.loads((tmp_path / "a").read_text("utf-8")) == chat.messages
    output = capsys.readouterr()
    assert re.search(r"/system TEXT +Tell the model", output.out) and re.search("max_new_tokens +9", output.out)
    assert output.err.splitlines() == [
        "/help lists commands, Ctrl-D ends the chat.",
        "Ctrl-D ends the chat.",
        "The reply is cut off: /set max_new_tokens=1000 or the like makes room for more.",
        "error: There is no command /nonsense; a text is written //nonsense.",
        f"4 messages are in {tmp_path / 'a'}.",
        "All turns are forgotten.",
    ]


def test_on_a_pipe(llama):
    folder, model, tokenizer = llama
    chat = Chat(model, tokenizer, **GREEDY)
    with program("chat", folder, "--greedy", "--max-new-tokens", 9, "--json", "--offline") as process:
        for turn in TURNS[::2]:
            process.stdin.write(turn + "\n")
            process.stdin.flush()
            found = json.loads(process.stdout.readline())
            assert found == assistant("".join(chat.say(turn))) | {"finish_reason": chat.finish_reason}
        process.stdin.close()
        assert (process.stdout.read(), process.wait()) == ("", 0), process.stderr.read()


def test_help_needs_no_keras():
    script = """
import sys
from keras_models.cli import app
app(["chat", "--help"], standalone_mode=False)
assert not {"keras", "jax", "torch", "tensorflow", "numpy", "tokenizers", "jinja2"} & set(sys.modules)
"""
    process = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0 and "Usage:" in process.stdout, process.stderr
