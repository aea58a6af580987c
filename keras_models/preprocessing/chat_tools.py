"""Tools that a chat offers to the model: the JSON schemas of Python functions, from their type hints and docstrings."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Tool = Mapping[str, Any] | Callable[..., Any]

_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
_MEDIA = {"PIL.Image.Image": "image", "torch.Tensor": "audio"}  # by name, as neither library has to be there
_DESCRIPTION = re.compile(r".*?(?=Args:|Returns:|Raises:|\Z)", re.DOTALL)
_ARGUMENTS = re.compile(r"\n\s*Args:\n(.*?)(?:Returns:|Raises:|\Z)", re.DOTALL)
_RETURNS = re.compile(r"\n\s*Returns:\n(.*?)(?:Raises:|\Z)", re.DOTALL)
_ARGUMENT = re.compile(r"(?:^|\n)\s*(\w+):")
_CHOICES = re.compile(r"\(choices:\s*(.*?)\)\s*$", re.IGNORECASE)


def tool_schemas(tools: Sequence[Tool] | None) -> list[Mapping[str, Any]] | None:
    """The JSON schemas of tools: dictionaries as they are, functions by `get_json_schema`.

    Raises:
        TypeError: this is no list, or one of the tools is neither a dictionary nor a function.
        ValueError: a function does not tell enough about itself.
    """
    if tools is None:
        return None
    if not isinstance(tools, (list, tuple)):
        raise TypeError(f"tools must be a list of JSON schemas or functions, not {type(tools).__name__}.")
    schemas = []
    for number, tool in enumerate(tools):
        function = inspect.isfunction(tool) or inspect.ismethod(tool)
        if not function and not isinstance(tool, Mapping):
            raise TypeError(
                f"tools[{number}] must be a JSON schema (a dictionary) or a Python function, not {type(tool).__name__}."
            )
        schemas.append(get_json_schema(tool) if function else tool)
    return schemas


def get_json_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """What a model has to know to call a Python function, as a JSON schema.

    The function needs type hints and a docstring in Google's style that describes each argument; a description may
    end with the values to choose from, as in `unit: The unit (choices: ["celsius", "kelvin"])`.

    Returns:
        {"type": "function", "function": {"name", "description", "parameters", "return" where that has a type hint}}

    Raises:
        ValueError: there is no docstring, or an argument lacks a description or a type hint that JSON can express.
    """
    name = function.__name__
    docstring = (inspect.getdoc(function) or "").strip()
    if not docstring:
        raise ValueError(f"The tool {name!r} has no docstring: describe it and its arguments there, in Google's style.")
    described = _described_arguments(docstring)
    hints = _type_hints(function)
    properties = {}
    for argument, hint in hints.items():
        try:
            properties[argument] = _schema(hint)
            if argument != "return":
                properties[argument] |= _described(described[argument])
        except KeyError as error:
            raise ValueError(
                f"The docstring of the tool {name!r} does not describe the argument {argument!r}: add a line "
                f"'{argument}: ...' below 'Args:'."
            ) from error
        except ValueError as error:
            raise ValueError(f"The tool {name!r} cannot be described, because of {argument!r}: {error}") from error
    returned = properties.pop("return", None)
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    signature = inspect.signature(function).parameters
    required = [argument for argument, each in signature.items() if each.default is inspect.Parameter.empty]
    if required:
        parameters["required"] = required
    description = _DESCRIPTION.match(docstring).group().strip()
    schema: dict[str, Any] = {"name": name, "description": description, "parameters": parameters}
    if returned is not None:
        found = _RETURNS.search(docstring)
        schema["return"] = returned | ({"description": found.group(1).strip()} if found else {})
    return {"type": "function", "function": schema}


def _type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    for argument, each in inspect.signature(function).parameters.items():
        if each.annotation is inspect.Parameter.empty:
            raise ValueError(
                f"The argument {argument!r} of the tool {function.__name__!r} has no type hint: add one, as in "
                f"'{argument}: str'."
            )
    try:
        return get_type_hints(function)
    except NameError as error:
        raise ValueError(f"A type hint of the tool {function.__name__!r} cannot be resolved: {error}.") from error


def _described_arguments(docstring: str) -> dict[str, str]:
    """The descriptions of arguments below "Args:", by name, each on one line."""
    found = _ARGUMENTS.search(docstring)
    _, *parts = _ARGUMENT.split(found.group(1)) if found else [""]
    texts = [re.sub(r"\s*\n\s*", " ", text.strip()) for text in parts[1::2]]
    return dict(zip(parts[::2], texts, strict=True))


def _described(text: str) -> dict[str, Any]:
    """The part of a schema that comes from a description."""
    choices = _CHOICES.search(text)
    if choices is None:
        return {"description": text}
    try:
        values = [value.strip() for value in json.loads(choices.group(1))]
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{choices.group()!r} must hold a JSON list of strings.") from error
    return {"enum": values, "description": text[: choices.start()].strip()}


def _schema(hint: Any) -> dict[str, Any]:
    """The JSON schema of a type hint."""
    kind, arguments = get_origin(hint), get_args(hint)
    if kind is None:
        return {} if hint is Any else {"type": _type(hint)}
    if kind in (Union, UnionType):
        return _union(arguments)
    if kind is Literal:
        if not all(type(value) in _TYPES for value in arguments):
            raise ValueError(f"{hint} may only list numbers, strings, truth values and None.")
        types = list(dict.fromkeys(_type(type(value)) for value in arguments))
        return {"type": types[0] if len(types) == 1 else types, "enum": list(arguments)}
    if kind in (list, tuple) and not arguments:
        return {"type": "array"}
    if kind is list:
        return {"type": "array", "items": _schema(arguments[0])}
    if kind is tuple:
        if len(arguments) == 1 or ... in arguments:
            raise ValueError(f"{hint} has no fixed number of items above one: use list[...], or the type of the item.")
        return {"type": "array", "prefixItems": [_schema(each) for each in arguments]}
    if kind is dict:
        return {"type": "object"} | ({"additionalProperties": _schema(arguments[1])} if arguments else {})
    raise ValueError(f"the type hint {hint} has no counterpart in JSON: use the types of JSON, list, dict and Literal.")


def _type(hint: Any) -> str:
    name = f"{getattr(hint, '__module__', '')}.{getattr(hint, '__qualname__', '')}"
    return _TYPES.get(hint) or _MEDIA.get(name, "object")


def _union(hints: Sequence[Any]) -> dict[str, Any]:
    schemas = [_schema(hint) for hint in hints if hint is not type(None)]
    types = [schema.get("type") for schema in schemas]
    if len(schemas) == 1:
        union = schemas[0]
    elif all(isinstance(each, str) for each in types):
        union = {"type": sorted(types)}
    else:
        union = {"anyOf": schemas}
    return union | ({"nullable": True} if len(schemas) < len(hints) else {})
