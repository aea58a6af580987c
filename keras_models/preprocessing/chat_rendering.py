"""Chat templates at work: Jinja in a sandbox, since a template comes with a checkpoint and may be anybody's."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from keras_models.preprocessing.chat_tools import Tool, tool_schemas

Message = Mapping[str, Any]
Span = tuple[int, int]  # characters of a text, from the first up to, not including, the second
_SELF_CONTAINED = ("system", "user")  # roles whose messages say nothing but their content
_END = "END_OF_THE_FINAL_MESSAGE "  # ends in a space to show whether the template trims messages


class Refusal(jinja2.TemplateError):
    """What a template has to say against a conversation."""


class _Record(NamedTuple):
    """A rendering in progress: what there is of it, and where its `{% generation %}` blocks are."""

    pieces: list[str]
    spans: list[Span]


_record: ContextVar[_Record] = ContextVar("_record")


class _Generation(Extension):
    """`{% generation %} ... {% endgeneration %}`, around what the model itself is to say."""

    tags = {"generation"}

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("note"), [], [], body).set_lineno(line)

    def note(self, caller: Any) -> str:
        text = caller()
        pieces, spans = _record.get()
        if pieces or spans:  # a block that nothing was rendered before is not seen by the reference either
            start = sum(map(len, pieces))
            spans.append((start, start + len(text)))
        return text


def render(
    conversations: Sequence[Any],
    template: str,
    variables: Mapping[str, Any],
    *,
    name: str | None = None,
    tools: Sequence[Tool] | None = None,
    documents: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = False,
    continue_final_message: bool = False,
) -> tuple[list[str], list[list[Span]]]:
    """The texts that a template makes of conversations.

    Args:
        conversations: lists of messages, or objects that have one as `messages`.
        template: a Jinja template.
        variables: what it sees besides the arguments below and `messages`.
        name: the name of the template, for errors.
        tools: JSON schemas, or functions that `get_json_schema` turns into some.
        documents: dictionaries, usually with `title` and `text`.
        add_generation_prompt: have the text end with the start of the model's answer.
        continue_final_message: have the text end with that of the last message, for the model to go on.

    Returns:
        A text per conversation, and where its `{% generation %}` blocks are.

    Raises:
        TypeError, ValueError: messages, tools or documents are not what they should be; the template cannot be
            compiled, fails, or refuses the conversation; or it drops the final message that is to be continued.
    """
    compiled, _ = _compiled(template, name)
    if documents is not None and not _are_dictionaries(documents):
        raise TypeError("documents must be a list of dictionaries, as in [{'title': ..., 'text': ...}].")
    variables = {**variables, "tools": tool_schemas(tools), "documents": documents}
    texts, spans = [], []
    for number, conversation in enumerate(conversations):
        messages = _checked(conversation, f"conversation[{number}]" if len(conversations) > 1 else "conversation")
        final = ""
        if continue_final_message:
            messages, final = _marked(messages)
        values = {**variables, "messages": messages, "add_generation_prompt": add_generation_prompt}
        try:
            record = _rendered(compiled, values)
        except Refusal as error:
            raise ValueError(f"{_called(name)} refuses the conversation: {error}") from error
        except Exception as error:  # a template can raise whatever Python can
            raise ValueError(f"{_called(name)} fails{_line(error)} with {type(error).__name__}: {error}") from error
        text = "".join(record.pieces)
        texts.append(_cut(text, final, name) if continue_final_message else text)
        spans.append(record.spans)
    return texts, spans


def has_generation_blocks(template: str, name: str | None = None) -> bool:
    """Whether a template says, with `{% generation %}` blocks, what the model itself is to say."""
    return _compiled(template, name)[1]


def _rendered(template: jinja2.Template, values: Mapping[str, Any]) -> _Record:
    record = _Record([], [])
    before = _record.set(record)
    try:
        for piece in template.generate(values):
            record.pieces.append(piece)
    finally:
        _record.reset(before)
    return record


def _compiled(template: str, name: str | None) -> tuple[jinja2.Template, bool]:
    try:
        return _compile(template)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"{_called(name)} cannot be compiled, line {error.lineno}: {error.message}") from error


@lru_cache
def _compile(template: str) -> tuple[jinja2.Template, bool]:
    environment = _environment()
    tree = environment.parse(template)
    calls = tree.find_all(nodes.ExtensionAttribute)
    return environment.from_string(tree), any(call.identifier == _Generation.identifier for call in calls)


@lru_cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(raise_exception=_refuse, strftime_now=_now)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Unlike Jinja's own filter, this leaves the characters of HTML as they are."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str):
    raise Refusal(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def _called(name: str | None) -> str:
    return f"The chat template {name!r}" if name else "The chat template"


def _line(error: Exception) -> str:
    """Where in the template an error arose, as a part of a sentence."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<template>"]
    return f" in line {lines[-1]}" if lines else ""


def _are_dictionaries(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and all(isinstance(value, Mapping) for value in values)


def _checked(conversation: Any, place: str) -> Sequence[Message]:
    """The messages of a conversation, which have to be some."""
    messages = getattr(conversation, "messages", conversation)
    form = "[{'role': 'user', 'content': 'Hello'}]"
    if not isinstance(messages, (list, tuple)):
        raise TypeError(f"{place} must be a list of messages such as {form}, not {type(messages).__name__}.")
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise TypeError(f"{place}[{number}] must be a dictionary, as in {form}, not {type(message).__name__}.")
        missing = [key for key in ("role", "content") if key not in message]
        # What the model and its tools say may consist of calls and the like alone.
        if missing == ["content"] and len(message) > 1 and message["role"] not in _SELF_CONTAINED:
            continue
        if missing:
            raise ValueError(f"{place}[{number}] has no {missing[0]!r}, only {list(message)}: write it as in {form}.")
    return messages


def _marked(messages: Sequence[Message]) -> tuple[list[Message], str]:
    """`messages` with a mark behind the text of the last one, and that text."""
    *before, last = messages or [{}]
    content = last.get("content")
    if isinstance(content, str):
        return [*before, {**last, "content": content + _END}], content
    blocks = list(content) if _are_dictionaries(content) else []
    for number in reversed(range(len(blocks))):
        text = blocks[number].get("text")
        if isinstance(text, str):
            blocks[number] = {**blocks[number], "text": text + _END}
            return [*before, {**last, "content": blocks}], text
    raise ValueError("continue_final_message=True needs a final message with text, and there is none to continue.")


def _cut(text: str, final: str, name: str | None) -> str:
    """A rendered conversation up to the mark behind its final message."""
    end = text.rfind(_END.strip())
    if end < 0 or final.strip() not in text:
        raise ValueError(
            f"{_called(name)} changes or drops the final message, so continue_final_message=True finds no place to "
            "continue from: leave it out, or pass another template or message."
        )
    return text[:end] if text.startswith(_END, end) else text[:end].rstrip()
