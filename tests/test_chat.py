"""Chats against the reference: texts, ids and masks; tools, files of templates, and what is said about mistakes."""

import copy
import json
import multiprocessing
import os
import subprocess
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from keras_models.hub import Repository
from keras_models.preprocessing import tokenizer as ours
from keras_models.preprocessing.chat import read_processor_templates
from keras_models.preprocessing.chat_tools import get_json_schema
from tests import reference
from tests.hub_server import HubServer
from tests.reference import chat as probe
from tests.reference import tokenizers_ as plain

SETTINGS = {"tokenizer_class": "GPT2Tokenizer"}
GPT2 = plain.tiny_bpe("<|endoftext|>") | {"tokenizer_config.json": json.dumps(SETTINGS)}
CHAT, MARKED = probe.SHORT, probe.MARKED
NAMED = {"default": "plain", "tool_use": "with tools", "rag": "with documents"}


@pytest.fixture
def folder(tmp_path) -> Path:
    """The files of a small tokenizer."""
    (tmp_path / "source").mkdir()
    return plain.folder_with(GPT2, None, tmp_path / "source")


@pytest.fixture
def tokenizer(folder) -> ours.Tokenizer:
    return probe.prepared(ours.GPT2Tokenizer.from_pretrained(folder))


def compare(name: str, source: str | dict[str, str], into: Path, observers: list[str]):
    """What functions of the probe see of our tokenizer and of the reference's has to be the same."""
    tokenizer = probe.prepared(getattr(ours, name).from_pretrained(plain.folder_with(source, None, into)))
    made = reference.make("chat.seen", name=name, source=source, observers=observers)
    for observer, expected in zip(observers, json.loads((made / "seen.json").read_text()), strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = getattr(probe, observer)(tokenizer)
        assert found.keys() == expected.keys()
        assert {case for case, value in expected.items() if value == "raised"} <= {*probe.HOSTILE, *probe.REFUSED}
        for case, value in expected.items():
            assert found[case] == value, case


@pytest.mark.parametrize(
    ("name", "files"), [("GPT2TokenizerFast", GPT2), ("BertTokenizerFast", plain.TINY_BERT)], ids=["bpe", "wordpiece"]
)
def test_equals_reference(tmp_path, name, files):
    compare(name, files, tmp_path, ["observe_texts", "observe_ids"])


REAL = ["gpt2", "t5-small", "bert-base-uncased", "llama2", "mistral", "../checkpoints/llama-stories260K"]


@pytest.mark.parametrize("source", REAL)
def test_real_tokenizers_equal_reference(shared, tmp_path, source):
    compare("AutoTokenizer", str(shared / "tokenizers" / source), tmp_path, ["observe_ids"])


def test_schemas_equal_reference():
    expected = json.loads((reference.make("chat.schemas") / "schemas.json").read_text())
    for name, tool in probe.TOOLS.items():
        # As text, since templates print the keys in their order.
        assert json.dumps(get_json_schema(tool)) == json.dumps(expected[name])
    sound = type("Tensor", (), {"__module__": "torch"})

    def listen(sound: sound):
        """Listens.

        Args:
            sound: what to hear
        """

    assert get_json_schema(listen) == expected["listen"]
    for name, tool in probe.BAD_TOOLS.items():
        assert expected[name] == "raised"
        with pytest.raises(ValueError, match=name):
            get_json_schema(tool)


def test_methods_are_tools(tokenizer):
    class Weather:
        def ask(self, city: str):
            """Asks.

            Args:
                city: where
            """

    template = "{{ tools | tojson }}"
    text = tokenizer.apply_chat_template(CHAT, [Weather().ask], chat_template=template, tokenize=False)
    assert json.loads(text)[0]["function"]["parameters"]["required"] == ["city"]


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        (probe.silent, "The tool 'silent' has no docstring"),
        (probe.untold, "The docstring of the tool 'untold' does not describe the argument 'a'"),
        (probe.hintless, "The argument 'a' of the tool 'hintless' has no type hint: add one, as in 'a: str'"),
        (probe.unnatural, r"because of 'a': the type hint set\[int\] has no counterpart in JSON"),
        (probe.lonely, r"because of 'a': tuple\[int\] has no fixed number"),
        (probe.uncountable, "may only list numbers"),
        (probe.unchosen, r"'\(choices: \[a, b\]\)' must hold a JSON list of strings"),
        (probe.unresolved, "A type hint of the tool 'unresolved' cannot be resolved: name 'Nowhere'"),
        ("weather", r"tools\[0\] must be a JSON schema \(a dictionary\) or a Python function, not str"),
    ],
)
def test_bad_tools(tokenizer, tool, message):
    with pytest.raises((TypeError, ValueError), match=message):
        tokenizer.apply_chat_template(CHAT, tools=[tool], chat_template=probe.CHATML)


def test_conversations_in_objects(tokenizer):
    tokenizer.chat_template = probe.CHATML
    one = tokenizer.apply_chat_template(CHAT)
    assert tokenizer.apply_chat_template(SimpleNamespace(messages=CHAT)) == one
    assert tokenizer.apply_chat_template([SimpleNamespace(messages=CHAT)] * 2) == [one, one]
    assert tokenizer.decode(one) == tokenizer.apply_chat_template(CHAT, tokenize=False)


def test_conversations_stay_as_they_are(tokenizer):
    chats = [copy.deepcopy(probe.PICTURES), copy.deepcopy(CHAT)]
    tokenizer.apply_chat_template(chats, chat_template=probe.BLOCKS, continue_final_message=True)
    assert chats == [probe.PICTURES, CHAT]
    for template in probe.HOSTILE:
        probe.attempt(tokenizer, chats, template)
    assert chats == [probe.PICTURES, CHAT]


def test_masks_as_tensors(tokenizer):
    import keras  # here, so that the clients of the hub below start without

    from keras_models.runtime import interop

    encoded = tokenizer.apply_chat_template(
        [CHAT, CHAT[:1]], chat_template=MARKED, padding=True, return_tensors="keras", **probe.MASKED
    )
    listed = tokenizer.apply_chat_template([CHAT, CHAT[:1]], chat_template=MARKED, padding=True, **probe.MASKED)
    assert list(encoded) == ["input_ids", "attention_mask", "assistant_masks"]
    assert interop.framework_of(encoded.assistant_masks) == interop.framework_of(encoded.input_ids) != "np"
    masks = keras.ops.convert_to_numpy(encoded.assistant_masks)
    assert masks.tolist() == listed.assistant_masks
    kept = np.array(listed.input_ids[0])[masks[0] == 1]
    assert tokenizer.decode(kept) == "the mat<|end|>\n" and not masks[1].any()


def test_time_of_day(tokenizer):
    template, form = "{{ strftime_now('%d %b %Y, %H') }}", "%d %b %Y, %H"
    before = datetime.now().strftime(form)
    text = tokenizer.apply_chat_template(CHAT, chat_template=template, tokenize=False)
    assert text in (before, datetime.now().strftime(form))


def test_threads_have_masks_of_their_own(tokenizer):
    chats = [probe.said("the", "cat " * count, "the", "cat") for count in range(1, 25)]

    def mask(chat):
        return tokenizer.apply_chat_template(chat, chat_template=MARKED, **probe.MASKED).assistant_masks

    expected = [mask(chat) for chat in chats]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(3):
                assert list(pool.map(mask, chats)) == expected
    finally:
        sys.setswitchinterval(interval)


def test_templates_may_call_back(tokenizer):
    """A variable that renders a chat of its own does not disturb the mask of the chat around it."""

    def inner() -> str:
        return tokenizer.apply_chat_template(CHAT, chat_template=MARKED, tokenize=False)

    template = "the {% if inner %}{{ inner() }}{% endif %}{% generation %}cat{% endgeneration %}"
    encoded = tokenizer.apply_chat_template(CHAT, chat_template=template, inner=inner, **probe.MASKED)
    assert sum(encoded.assistant_masks) == 1 and encoded.assistant_masks[-1] == 1


@pytest.mark.parametrize(
    ("templates", "wanted", "tools", "expected"),
    [
        ("only", None, None, "only"),
        ("only", None, [], "only"),
        ("only", "given", None, "given"),
        (None, "given", None, "given"),
        (NAMED, None, None, "plain"),
        (NAMED, None, [probe.bare], "with tools"),
        (NAMED, None, [], "with tools"),
        (NAMED, "rag", [probe.bare], "with documents"),
        (NAMED, "{{ messages }}", None, "{{ messages }}"),
        ({"default": "plain"}, None, [probe.bare], "plain"),
        ({"tool_use": "with tools"}, None, [], "with tools"),
    ],
)
def test_choice_of_template(tokenizer, templates, wanted, tools, expected):
    tokenizer.chat_template = templates
    assert tokenizer.get_chat_template(wanted, tools) == expected
    assert tokenizer.apply_chat_template(CHAT, tools, chat_template=wanted, tokenize=False) == (
        str(CHAT) if expected == "{{ messages }}" else expected
    )


CONTINUED, COUNTED = {"continue_final_message": True}, {"return_assistant_tokens_mask": True}
GOOD = {"chat_template": probe.CHATML}
MISTAKES = [
    (CHAT, {}, "There is no chat template.*pass a Jinja template as chat_template, or set tokenizer.chat_template"),
    (CHAT, {"chat_template": Path("x.jinja")}, "A chat template must be a string, Jinja or a name, not .*Path"),
    ([], GOOD, "The conversation has no messages"),
    ("Hello", GOOD, r"conversation must be a list of messages such as \[\{'role': 'user', .*\}\], not str"),
    (CHAT[0], GOOD, "conversation must be a list of messages such as .*, not dict"),
    (["Hello"], GOOD, r"conversation\[0\] must be a dictionary, as in .*, not str"),
    ([CHAT, ["Hello"]], GOOD, r"conversation\[1\]\[0\] must be a dictionary, as in .*, not str"),
    ([{"content": "Hello"}], GOOD, r"conversation\[0\] has no 'role', only \['content'\]"),
    ([*CHAT, {"role": "user", "text": "Hello"}], GOOD, r"conversation\[2\] has no 'content', only \['role', 'text'\]"),
    ([{"role": "assistant"}], GOOD, r"conversation\[0\] has no 'content', only \['role'\]"),
    (CHAT, GOOD | {"tools": probe.bare}, "tools must be a list of JSON schemas or functions, not function"),
    (CHAT, GOOD | {"tools": probe.SCHEMA}, "tools must be a list of JSON schemas or functions, not dict"),
    (CHAT, GOOD | {"documents": ["text"]}, "documents must be a list of dictionaries"),
    (CHAT, GOOD | {"documents": {"text": "a"}}, "documents must be a list of dictionaries"),
    (CHAT, {"chat_template": "a\n\n{% for x in %}"}, "The chat template cannot be compiled, line 3: Expected an"),
    (CHAT, {"chat_template": "{{ 1 | fold }}"}, "cannot be compiled, line 1: No filter named 'fold'"),
    (CHAT, {"chat_template": "a\n{{ messages[7].role }}"}, "The chat template fails in line 2 with UndefinedError: "),
    (CHAT, {"chat_template": "\n\n{{ 'a' + 1 }}"}, "The chat template fails in line 3 with TypeError: "),
    (CHAT, {"chat_template": "{{ tools.x.y }}"}, "fails in line 1 with UndefinedError: 'None' has no attribute 'x'"),
    (
        CHAT,
        {"chat_template": "{{ messages.append(1) }}"},
        "in line 1 with SecurityError: access to attribute 'append'",
    ),
    (CHAT, {"chat_template": "{{ ''.__class__.x }}"}, "line 1 with SecurityError: access to attribute '__class__'"),
    (
        CHAT,
        {"chat_template": "{{ raise_exception('No & no') }}"},
        "The chat template refuses the conversation: No & no$",
    ),
    (CHAT, {"chat_template": "broken"}, "The chat template 'broken' fails in line 1 with ZeroDivisionError"),
    (CHAT, {"chat_template": "silly"}, "The chat template 'silly' cannot be compiled, line 2: "),
    (CHAT, {"chat_template": "strict"}, "The chat template 'strict' refuses the conversation: never"),
    (CHAT, GOOD | CONTINUED | probe.PROMPT, "continue_final_message=True and add_generation_prompt=True contradict"),
    (CHAT, GOOD | CONTINUED | probe.MASKED, "continue_final_message=True and return_assistant_tokens_mask=True contra"),
    (CHAT, CONTINUED | {"chat_template": "{{ messages[0].content }}"}, "changes or drops the final message"),
    (CHAT, CONTINUED | {"chat_template": "{{ messages[-1].content | upper }}"}, "changes or drops the final message"),
    (CHAT, CONTINUED | {"chat_template": "{{ messages[-1].content | lower }}"}, "changes or drops the final message"),
    (probe.CALLS[:2], GOOD | CONTINUED, "needs a final message with text, and there is none to continue"),
    ([[]], GOOD | CONTINUED, "needs a final message with text, and there is none to continue"),
    (CHAT, GOOD | COUNTED, "return_assistant_tokens_mask=True needs return_dict=True"),
    (CHAT, GOOD | probe.MASKED, "needs a chat template that marks what the assistant says with {% generation %}"),
    (CHAT, probe.MASKED | {"chat_template": "{# {% generation %}{% endgeneration %} #}"}, "needs a chat template that"),
    (CHAT, GOOD | {"return_dict": True, "tokenize": False}, "return_dict=True needs tokenize=True"),
    (
        CHAT,
        {"chat_template": MARKED, "tokenizer_kwargs": {"return_overflowing_tokens": True}, **probe.MASKED},
        "cannot mask what overflows",
    ),
]


@pytest.mark.parametrize(("conversation", "options", "message"), MISTAKES)
def test_mistakes(tokenizer, conversation, options, message):
    if options.get("chat_template") in ("broken", "silly", "strict"):
        broken = {"broken": "{{ 1 / 0 }}", "silly": "a\n{{ a b }}", "strict": "{{ raise_exception('never') }}"}
        tokenizer.chat_template = broken
    with pytest.raises((TypeError, ValueError), match=message):
        tokenizer.apply_chat_template(conversation, **options)


def test_no_default_template(tokenizer):
    tokenizer.chat_template = {"rag": "a", "chat": "b"}
    with pytest.raises(
        ValueError, match=r"No chat template is the default: pass chat_template as one of \['chat', 'rag'"
    ):
        tokenizer.apply_chat_template(CHAT)


@pytest.mark.parametrize(
    "template", [probe.CHATML, {"default": probe.CHATML, "tool_use": "x", "a b": "y\n"}, {"rag": probe.MARKED}, ""]
)
def test_files_are_those_of_the_reference(tmp_path, folder, template):
    made = reference.make("chat.saved", source=GPT2, template=template) / "saved"
    tokenizer = probe.prepared(ours.AutoTokenizer.from_pretrained(folder))
    tokenizer.chat_template = template
    written = tokenizer.save_pretrained(tmp_path / "saved")

    def templates(folder: Path) -> dict[str, str]:
        return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.jinja")}

    assert templates(tmp_path / "saved") == templates(made)
    assert sorted(written) == sorted(str(path) for path in (tmp_path / "saved").rglob("*") if path.is_file())
    assert "chat_template" not in json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    assert ours.AutoTokenizer.from_pretrained(made).chat_template == template
    again = ours.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again.chat_template == template
    if "rag" not in template:
        results = [again.apply_chat_template(CHAT, tokenize=tokenize) for tokenize in (False, True)]
        assert reference.call("chat.reread", path=str(tmp_path / "saved")) == [template, *results]


def test_templates_in_the_settings_file(folder):
    settings = folder / "tokenizer_config.json"
    listed = [{"name": name, "template": template} for name, template in NAMED.items()]
    for stored, expected in ((listed, NAMED), ("only", "only")):
        settings.write_text(json.dumps(SETTINGS | {"chat_template": stored}))
        assert ours.AutoTokenizer.from_pretrained(folder).chat_template == expected
        assert reference.call("chat.reread", path=str(folder))[0] == expected
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("ä\r\nb")
    (folder / "additional_chat_templates" / "notes.txt").write_text("no template")
    assert ours.AutoTokenizer.from_pretrained(folder).chat_template == {"rag": "ä\nb"}
    (folder / "chat_template.jinja").write_text("of its own")
    assert ours.AutoTokenizer.from_pretrained(folder).chat_template == {"default": "of its own", "rag": "ä\nb"}
    assert reference.call("chat.reread", path=str(folder))[0] == {"default": "of its own", "rag": "ä\nb"}
    assert ours.AutoTokenizer.from_pretrained(folder, chat_template="given").chat_template == "given"


@pytest.mark.parametrize("stored", [3, [{"name": "default"}], ["x"], {"default": 3}, [{"name": 1, "template": "x"}]])
def test_damaged_settings(folder, stored):
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": stored}))
    with pytest.raises(ValueError, match="chat_template must"):
        ours.AutoTokenizer.from_pretrained(folder)


def test_damaged_files(folder):
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"chat_template\.jinja is no text .* download it again"):
        ours.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("name", ["../../outside", "a/b", "/etc/x", "a\\b"])
def test_names_lead_out_of_no_folder(tmp_path, tokenizer, name):
    tokenizer.chat_template = {"default": "a", name: "b"}
    with pytest.raises(ValueError, match="cannot be saved as a file: give it a name without slashes"):
        tokenizer.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_templates_of_processors(tmp_path):
    def expect(value):
        assert read_processor_templates(Repository(tmp_path)) == value
        assert reference.call("chat.reread_processor", path=str(tmp_path)) == value

    (tmp_path / "processor_config.json").write_text("{}")
    expect(None)
    (tmp_path / "chat_template.jinja").write_text("new")
    expect("new")
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "old"}))
    expect("old")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("more")
    with pytest.raises(ValueError, match="has both chat_template.json and additional_chat_templates/"):
        read_processor_templates(Repository(tmp_path))
    (tmp_path / "chat_template.json").write_text("{}")
    (tmp_path / "additional_chat_templates" / "rag.jinja").unlink()
    with pytest.raises(ValueError, match="has no 'chat_template'"):
        read_processor_templates(Repository(tmp_path))
    (tmp_path / "chat_template.json").unlink()
    expect("new")


def from_hub(environment: dict[str, str], **options):
    """In a process of its own, as huggingface_hub reads its settings when it is imported."""
    os.environ.update(environment)
    time.sleep = lambda _: None  # the client's retries need not wait
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ours.AutoTokenizer.from_pretrained("tester/model", **options).chat_template


def test_templates_on_the_hub(tmp_path):
    more = {"additional_chat_templates/rag.jinja": "more", "additional_chat_templates/deep/x.jinja": "not looked at"}
    files = GPT2 | {"chat_template.jinja": "a"} | more
    below = {f"below/{name}": text.replace("more", "less") for name, text in files.items()}
    spawn = multiprocessing.get_context("spawn")
    with HubServer(tmp_path / "hub") as hub, ProcessPoolExecutor(1, spawn) as client:
        environment = hub.environment(tmp_path / "home")
        hub.add("tester/model", GPT2)
        assert client.submit(from_hub, environment).result() is None
        assert not any("/api/models/" in request.path for request in hub.requests)  # spared where there are no chats
        hub.add("tester/model", files | below, revision="chat")
        for options, more in ({}, "more"), ({"subfolder": "below"}, "less"), ({"local_files_only": True}, "more"):
            found = client.submit(from_hub, environment, revision="chat", **options).result()
            assert found == {"default": "a", "rag": more}
    with ProcessPoolExecutor(1, spawn) as client:
        found = client.submit(from_hub, environment | {"HF_HUB_OFFLINE": "1"}, revision="chat").result()
        assert found == {"default": "a", "rag": "more"}


def test_jinja_is_loaded_on_use(folder):
    (folder / "chat_template.jinja").write_text("{{ messages[0].role }}")
    code = (
        "import sys; from keras_models.preprocessing.tokenizer import AutoTokenizer\n"
        f"tokenizer = AutoTokenizer.from_pretrained({str(folder)!r}); tokenizer(tokenizer.get_chat_template())\n"
        "before = 'jinja2' in sys.modules; tokenizer.apply_chat_template([{'role': 'user', 'content': ''}])\n"
        "print(before, 'jinja2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
