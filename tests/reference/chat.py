"""Chats put through templates. `observe` and the like run on both sides: the two tokenizers share their surface."""

import json
import tempfile
from pathlib import Path
from typing import Any, Literal, Optional, Union

# The shapes that templates of chat models have, in words of our own.
CHATML = """\
{%- if messages[0].role != 'system' %}{{ '<|start|>system\\nYou help.<|end|>\\n' }}{% endif %}
{% for message in messages %}
    {{- '<|start|>' + message['role'] + '\\n' + (message.content | trim) + '<|end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant\\n' }}
{%- endif %}
"""
HEADERS_AND_TOOLS = """\
{{- bos_token }}
{%- set ns = namespace(system='', n=0) %}
{%- set date = today if today is defined else '26 Jul 2024' %}
{%- if messages[0]['role'] == 'system' %}
    {%- set ns.system = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- endif %}
{%- macro head(role) %}{{ '<|head|>' ~ role ~ '<|body|>\\n\\n' }}{% endmacro %}
{{- head('system') }}{{ 'Today: ' + date + '\\n' }}{{ ns.system }}{{ '<|over|>' }}
{%- if tools is not none %}
    {{- head('user') + 'You may call these. ' }}
    {%- for tool in tools %}
        {{- tool | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
    {{- '<|over|>' }}
{%- endif %}
{%- for document in documents or [] %}
    {{- loop.index ~ '. ' ~ document.title ~ ': ' ~ document['text'] ~ '\\n' }}
{%- endfor %}
{%- for message in messages %}
    {%- if message.tool_calls is defined %}
        {%- if message.tool_calls | length != 1 %}
            {{- raise_exception('One call at a time, please: ' ~ message.tool_calls | length) }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- head('assistant') + '{"name": "' + call.name + '", "parameters": ' + call.arguments | tojson + '}' }}
        {{- '<|over|>' }}
    {%- elif message.role in ['tool', 'ipython'] %}
        {{- head('ipython') }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- '<|over|>' }}
    {%- else %}
        {{- head(message.role) }}{{ message.content | trim }}{{ '<|over|>' }}
    {%- endif %}
    {%- set ns.n = ns.n + 1 %}
{%- endfor %}
{%- if add_generation_prompt %}{{ head('assistant') }}{% endif %}
"""
MARKED = """\
{% for message in messages %}
    {% if message.role == 'assistant' %}
<|start|>assistant
        {% generation %}
{{ message.content }}<|end|>
        {% endgeneration %}
    {% else %}
<|start|>{{ message.role }}
{{ message.content }}<|end|>
    {% endif %}
{% endfor %}
"""
TIGHTLY_MARKED = """\
{%- for message in messages %}
    {%- if message.role == 'assistant' -%}
        {%- generation -%}{{ message.content }}{%- endgeneration -%}
    {%- else -%}
        {{ '[' + message.content + ']' }}
    {%- endif %}
{%- endfor %}"""
INSTRUCT = """\
{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system = messages[0]['content'] %}\
{% else %}{% set loop_messages = messages %}{% set system = false %}{% endif %}\
{% for message in loop_messages %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('After ' + message['role'] + ' comes the other one <&>') }}{% endif %}\
{% set content = '<<S>>\\n' + system + '\\n<</S>>\\n\\n' + message['content'] if loop.first and system \
else message['content'] %}\
{% if message['role'] == 'user' %}{{ bos_token ~ '[INST] ' ~ content.strip() ~ ' [/INST]' }}\
{% else %}{{ ' ' ~ content.strip() ~ ' ' ~ eos_token }}{% endif %}{% endfor %}"""
BLOCKS = """\
{% for message in messages %}{{ message.role | upper }}:{% if message.content is string %} {{ message.content }}
{% else %}{% for part in message.content %}{% if part.type == 'image' %}<image>{% continue %}{% endif %}
{% if part.text == 'stop' %}{% break %}{% endif %} {{ part.text }}
{% endfor %}

{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}

"""
FILTERS = """\
{{ messages | tojson }}
{{ messages[0] | tojson(ensure_ascii=True, sort_keys=true, separators=(',', ':')) }}
{{- messages | tojson(indent=2) }} {{ "<b>&'" | tojson }} {{ "<b>&'" }} {{ 'ü' | e }} {{ 1 / 3 }} {{ none }} {{ void }}
{{ messages | map(attribute='role') | join(',') }} {{ messages | selectattr('role', 'eq', 'user') | list | length }}
{{ extra | default('none given') }} {{ bos_token }} {{ pad_token }} {{ additional_special_tokens }} {{ tools }}
{{ documents }} {{ add_generation_prompt }} {{ strftime_now('%%') }} {{ range(3) | list }} {{ tools is defined }}
{{ '%s' % 3 }}{# gone #}
    {%+ if true %}kept{% endif %}
{{ dict(a=1) }} {{ lipsum is defined }} {{ cycler('a', 'b').next() }} {{ messages[-1].content[:3] }}

"""
TEMPLATES = {
    "chatml": CHATML, "headers": HEADERS_AND_TOOLS, "marked": MARKED, "tight": TIGHTLY_MARKED, "instruct": INSTRUCT,
    "blocks": BLOCKS, "filters": FILTERS,
}  # fmt: skip
SPECIAL = ["<|start|>", "<|end|>", "<|head|>", "<|body|>", "<|over|>"]


def said(*texts: str, system: str | None = None) -> list[dict]:
    """Messages of a user and an assistant in turn."""
    first = [{"role": "system", "content": system}] if system else []
    return first + [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]


TALK = said("Hello, the cat?", " It sat.\n", "  Über 我爱 <b>&'\"</b>  ", "Good 😀", system="Be brief.")
SHORT = said("the cat", "the mat")
PARTS = [{"type": "text", "text": "See:"}, {"type": "image", "url": "x.png"}, {"type": "text", "text": "a cat \n"}]
STOPPED = [{"type": "text", "text": "Then this."}, {"type": "text", "text": "stop"}, {"type": "text", "text": "never"}]
PICTURES = [
    {"role": "user", "content": STOPPED},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": PARTS},
]
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich", "days": 2}}}
CALLS = [
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "tool_calls": [CALL]},
    {"role": "tool", "name": "weather", "content": {"sky": "blue & <clear>"}},
    {"role": "tool", "content": "22.5"},
]
DOCUMENTS = [{"title": "One", "text": "First."}, {"title": "Zwei", "text": "Größe"}]
SCHEMA = {"type": "function", "function": {"name": "noop", "description": "<nothing>", "parameters": {}}}


def weather(city: str, days: int = 1, unit: str = "celsius") -> dict[str, float]:
    """
    The weather to come.

    It may be wrong.

    Args:
        city: Where, as in
            "Zürich" or
            "Bern"

        days: How many days
        unit: The unit (choices: ["celsius", " kelvin"])

    Returns:
        Temperatures
        by day

    Raises:
        ValueError: never
    """


def everything(
    whole: int,
    real: float,
    truth: bool,
    nothing: None,
    anything: Any,
    items: list,
    texts: list[str],
    nested: list[list[int]],
    pair: tuple[int, str],
    empty: tuple,
    plain: dict,
    mapping: dict[str, list[int]],
    maybe: Optional[int],  # noqa: UP045 - the old spellings are to be understood too
    either: Union[int, str, float],  # noqa: UP007
    new: int | str | None,
    mixed: list[int] | Literal["a", 1],
    choice: Literal["b", "a"],
    values: Literal[1, "x", None, True, 2],
    thing: Path,
    late: "str | None" = None,
    *rest: int,
    **named: "list[str]",
) -> None:
    """Everything at once. Args: none of these
    Args:
        whole: a
        real: b: with a colon
        truth: c (choices: ["x"]) not at the end
        nothing: d
        anything: e
        items: f
        texts: g
        nested: h
        pair: i
        empty: j
        plain: k
        mapping: l
        maybe: m
        either: n (Choices: ["1", "2"])
        new: o
        mixed: p
        choice: q
        values: r
        thing: s
        late: t
        rest: u
        named: v
    Returns: this line belongs to the one before
    """


def bare() -> str:
    """Needs nothing"""


def untold(a: int):
    """Says too little."""


def hintless(a, b: int):
    """Has no hint.

    Args:
        a: first
        b: second
    """


def silent(a: int):
    return a


def unnatural(a: set[int]):
    """Has a type beyond JSON.

    Args:
        a: a set
    """


def endless(a: tuple[int, ...]):
    """Has a type without an end.

    Args:
        a: numbers
    """


def lonely(a: tuple[int]):
    """Has a tuple of one.

    Args:
        a: a number
    """


def uncountable(a: Literal[b"x"]):
    """Lists what JSON has no word for.

    Args:
        a: bytes
    """


def unchosen(a: str):
    """Has choices that are none.

    Args:
        a: a letter (choices: [a, b])
    """


def unresolved(a: "Nowhere"):  # noqa: F821 - which is the point
    """Has a hint that leads nowhere.

    Args:
        a: what
    """


TOOLS = {each.__name__: each for each in (weather, everything, bare)}
BAD_TOOLS = {
    each.__name__: each
    for each in (untold, hintless, silent, unnatural, endless, lonely, uncountable, unchosen, unresolved)
}
PROMPT = {"add_generation_prompt": True}
GO_ON = {"continue_final_message": True}
ASKED = said("Hello", "Yes, the ", system="Be brief.")

# template, conversation, options
TEXTS = {
    "chatml": ("chatml", TALK, {}),
    "chatml, prompt": ("chatml", SHORT, PROMPT),
    "chatml, batch": ("chatml", [TALK, SHORT, SHORT[:1]], PROMPT),
    "chatml, tuples": ("chatml", (tuple(TALK), tuple(SHORT)), {}),
    "chatml, continued, trimmed": ("chatml", ASKED, GO_ON),
    "chatml, continued batch": ("chatml", [ASKED, SHORT], GO_ON),
    "no message": ("marked", [[]], {}),
    "headers": ("headers", TALK, PROMPT),
    "headers, bare": ("headers", SHORT, {}),
    "headers, tools": ("headers", CALLS, {"tools": [weather, SCHEMA, everything, bare], **PROMPT}),
    "headers, no tools": ("headers", SHORT, {"tools": []}),
    "headers, documents": ("headers", SHORT, {"documents": DOCUMENTS}),
    "headers, variable": ("headers", SHORT, {"today": "1 May 2025", "bos_token": "<other>"}),
    "headers, two calls": ("headers", [{"role": "assistant", "tool_calls": [CALL, CALL]}], {}),
    "headers, continued": ("headers", ASKED, GO_ON),
    "marked": ("marked", TALK, {}),
    "marked, continued": ("marked", ASKED, GO_ON),
    "tight": ("tight", TALK, {}),
    "tight, continued": ("tight", SHORT, GO_ON),
    "instruct": ("instruct", TALK, {}),
    "instruct, refused": ("instruct", SHORT[1:], {}),
    "instruct, continued": ("instruct", ASKED, GO_ON),
    "blocks": ("blocks", PICTURES, PROMPT),
    "blocks, continued": ("blocks", PICTURES, GO_ON),
    "blocks, no text to continue": ("blocks", [{"role": "user", "content": PARTS[1:2]}], GO_ON),
    "filters": ("filters", TALK, {}),
    "filters, more": ("filters", PICTURES, {"extra": {"a": [1]}, "tools": [bare], "documents": DOCUMENTS, **PROMPT}),
    "no content to join": ("chatml", CALLS, {}),
}
REFUSED = ("headers, two calls", "instruct, refused", "blocks, no text to continue")
MASKED = {"return_dict": True, "return_assistant_tokens_mask": True}
BATCH = [TALK, SHORT, said("a", "😀", "b", ""), said("the", "cat\n", "x", " 我爱 ")]
BATCHED = {"padding": True, "return_tensors": "np", "return_dict": True}
IDS = {
    "ids": ("chatml", TALK, {}),
    "ids, batch": ("chatml", BATCH, PROMPT),
    "dictionary": ("chatml", TALK, {"return_dict": True}),
    "padded": ("headers", BATCH, BATCHED),
    "padded, left": ("chatml", BATCH, {**BATCHED, "tokenizer_kwargs": {"padding_side": "left"}}),
    "array": ("chatml", SHORT, {"return_tensors": "np"}),
    "fixed length": ("chatml", BATCH, {"padding": "max_length", "truncation": True, "max_length": 30}),
    "no truncation": ("chatml", TALK, {"max_length": 5}),
    "offsets": ("tight", SHORT, {"return_dict": True, "tokenizer_kwargs": {"return_offsets_mapping": True}}),
    "tools": ("headers", CALLS, {"tools": [weather], "documents": DOCUMENTS, **PROMPT}),
    "continued": ("chatml", ASKED, GO_ON),
}
for _name in ("marked", "tight"):
    IDS |= {
        f"{_name}, mask": (_name, TALK, MASKED),
        f"{_name}, mask as array": (_name, SHORT, {**MASKED, "return_tensors": "np"}),
        f"{_name}, masks": (_name, BATCH, MASKED),
        f"{_name}, masks padded": (_name, BATCH, MASKED | BATCHED),
        f"{_name}, masks left": (_name, BATCH, MASKED | BATCHED | {"tokenizer_kwargs": {"padding_side": "left"}}),
        f"{_name}, masks cut": (_name, BATCH, MASKED | BATCHED | {"truncation": True, "max_length": 17}),
        f"{_name}, assistant first": (_name, SHORT[::-1], MASKED),
    }
# What a template of ill will may try.
HOSTILE = [
    "{{ ''.__class__.__mro__ }}",
    "{{ ''.__class__ }}|",
    "{{ messages.append({'role': 'x'}) }}",
    "{{ messages[0].update(role='x') }}",
    "{{ messages[0].clear() }}",
    "{% set _ = messages[0].__setitem__('role', 'x') %}{{ messages[0].role }}",
    "{{ raise_exception.__globals__['json'] }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}|",
    "{{ ('{0.__class__}' | format(messages)) }}|",
    "{{ messages | map(attribute='__class__') | list }}",
    "{{ messages | attr('__class__') }}|",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context.environment }}",
    "{% for x in range(10000000) %}{% endfor %}",
    "{% import 'os' as os %}",
    "{% include '/etc/passwd' %}",
    "{{ messages.sort() }}",
    "{{ tojson.__code__ }}",
    "{{ nothing.at.all }}",
    "{{ 1 / 0 }}",
    "{{ messages | tojson(indent=1) | unknown_filter }}",
    "{% for %}",
    "{{ messages[0",
    "{% generation %}a",
    "{% if true %}{% endgeneration %}",
]


def attempt(tokenizer, conversation, template: str, **options):
    """What `apply_chat_template` returns, in JSON's types; for an error just that there was one."""
    try:
        result = tokenizer.apply_chat_template(conversation, chat_template=template, **options)
    except Exception:
        return "raised"
    if hasattr(result, "items"):
        return {name: getattr(value, "tolist", lambda value=value: value)() for name, value in result.items()}
    return getattr(result, "tolist", lambda: result)()


def observe_texts(tokenizer) -> dict:
    """The texts of all conversations."""
    seen = {
        name: attempt(tokenizer, conversation, TEMPLATES[template], tokenize=False, **options)
        for name, (template, conversation, options) in TEXTS.items()
    }
    seen |= {template: attempt(tokenizer, SHORT, template, tokenize=False) for template in HOSTILE}
    return json.loads(json.dumps(seen))


def observe_ids(tokenizer) -> dict:
    """Ids, and masks of what the assistant says, of conversations."""
    return json.loads(
        json.dumps(
            {
                name: attempt(tokenizer, conversation, TEMPLATES[template], **options)
                for name, (template, conversation, options) in IDS.items()
            }
        )
    )


def prepared(tokenizer):
    """`tokenizer` with the special tokens of the templates, and one to pad with."""
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL})
    tokenizer.pad_token = tokenizer.pad_token or SPECIAL[-1]
    return tokenizer


def _load(name: str, source: str | dict[str, str], scratch: str):
    import transformers

    if isinstance(source, dict):
        for file, text in source.items():
            Path(scratch, file).write_text(text, encoding="utf-8")
        source = scratch
    return prepared(getattr(transformers, name).from_pretrained(source))


def seen(folder: Path, name: str, source: str | dict[str, str], observers: list[str]):
    """Writes what functions of this module see of a tokenizer."""
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = _load(name, source, scratch)
        results = [globals()[observer](tokenizer) for observer in observers]
        (folder / "seen.json").write_text(json.dumps(results))


def schemas(folder: Path):
    """Writes the JSON schemas of the tools."""
    import torch
    from transformers.utils import get_json_schema

    def listen(sound: torch.Tensor):
        """Listens.

        Args:
            sound: what to hear
        """

    made = {name: get_json_schema(tool) for name, tool in {**TOOLS, "listen": listen}.items()}
    for name, tool in BAD_TOOLS.items():
        try:
            made[name] = get_json_schema(tool)
        except Exception:
            made[name] = "raised"
    (folder / "schemas.json").write_text(json.dumps(made))


def saved(folder: Path, source: dict[str, str], template: str | dict[str, str]):
    """Saves a tokenizer with chat templates."""
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = _load("AutoTokenizer", source, scratch)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(folder / "saved")


def reread(path: str) -> list:
    """The chat template of a saved tokenizer, and the text and ids that it makes."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    results = [tokenizer.apply_chat_template(SHORT, tokenize=tokenize) for tokenize in (False, True)]
    return [tokenizer.chat_template, *results]


def reread_processor(path: str) -> str | dict[str, str]:
    """The chat template of the processor in a folder."""
    from transformers import ProcessorMixin

    return ProcessorMixin.get_processor_dict(path)[0].get("chat_template")
