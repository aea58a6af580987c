"""Chats: conversations turned into text, and into ids, by the template that comes with a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tokenizers import Encoding

from keras_models.config import read_json
from keras_models.hub import Repository
from keras_models.preprocessing.batch_encoding import BatchEncoding
from keras_models.preprocessing.chat_tools import Tool

if TYPE_CHECKING:
    from keras_models.preprocessing.chat_rendering import Span  # at run time only where it is used, for it loads Jinja

Templates = str | dict[str, str] | None  # the only one, several by name, or none
TEMPLATE_FILE = "chat_template.jinja"
MORE_TEMPLATES = "additional_chat_templates"
PROCESSOR_TEMPLATE_FILE = "chat_template.json"


class ChatTemplates:
    """Conversations as model inputs; a part of `Tokenizer`, whose attributes it uses."""

    chat_template: Templates

    def apply_chat_template(
        self,
        conversation: Any,
        tools: Sequence[Tool] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = True,
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        return_dict: bool = False,
        return_assistant_tokens_mask: bool = False,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        **template_variables: Any,
    ) -> Any:
        """Turns a conversation, or several, into text as the model was trained on, and that into ids.

        Args:
            conversation: messages such as `{"role": "user", "content": "Hello"}`, a list of such lists, or objects that
                hold one as `messages`.
            tools: what the model may call: JSON schemas, or Python functions with type hints and a docstring in
                Google's style.
            documents: what the model may quote: dictionaries, usually with `title` and `text`.
            chat_template: a Jinja template, or the name of one of the tokenizer's; see `get_chat_template`.
            add_generation_prompt: end with what starts an answer of the model.
            continue_final_message: end with the text of the last message, which the model then continues.
            tokenize: False to return text.
            padding: see a call of the tokenizer, as for the next three.
            truncation: True, False or a strategy.
            max_length: tokens of a result.
            return_tensors: the kind of tensor, None for lists.
            return_dict: return all that a call of the tokenizer returns, not the ids alone.
            return_assistant_tokens_mask: return `assistant_masks` too, with 1 for tokens from the template's
                `{% generation %}` blocks and 0 for others.
            tokenizer_kwargs: further options of the call of the tokenizer.
            **template_variables: further variables for the template, besides `messages`, `tools`, `documents`,
                `add_generation_prompt` and the special tokens by name (`bos_token` ...).

        Returns:
            Ids, a BatchEncoding (with `return_dict`) or text (without `tokenize`); of each in a batch.

        Raises:
            TypeError, ValueError: there is no template, it fails or refuses the conversation; messages, tools or
                documents are not what they should be; or options contradict each other.
        """
        from keras_models.preprocessing.chat_rendering import has_generation_blocks, render

        options = dict(tokenizer_kwargs or {})
        masked = return_assistant_tokens_mask
        _check_options(tokenize, return_dict, masked, add_generation_prompt, continue_final_message, options)
        name, template = choose_template(self.chat_template, chat_template, tools)
        if masked and not has_generation_blocks(template, name):
            raise ValueError(
                "return_assistant_tokens_mask=True needs a chat template that marks what the assistant says with "
                "{% generation %} ... {% endgeneration %}: pass one as chat_template, or leave the option out."
            )
        conversations, batched = as_batch(conversation)
        texts, spans = render(
            conversations,
            template,
            self.special_tokens_map | template_variables,
            name=name,
            tools=tools,
            documents=documents,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
        )
        text = texts if batched else texts[0]
        if not tokenize:
            return text
        lengths = {"padding": padding, "truncation": truncation, "max_length": max_length}
        encoded = self(text, add_special_tokens=False, return_tensors=return_tensors, **lengths, **options)
        if masked:
            masks = [assistant_mask(*each) for each in zip(encoded.encodings, spans, strict=True)]
            flat = not batched and return_tensors is None
            mask = BatchEncoding({"assistant_masks": masks[0] if flat else masks}, tensor_type=return_tensors)
            encoded.update(mask)
        return encoded if return_dict else encoded["input_ids"]

    def get_chat_template(self, chat_template: str | None = None, tools: Sequence[Tool] | None = None) -> str:
        """The Jinja template that `apply_chat_template` uses.

        Args:
            chat_template: the name of one of the tokenizer's templates, or a template, which is returned as it is; None
                for the tokenizer's only one, or its "default".
            tools: given, "tool_use" comes before "default".

        Raises:
            ValueError: there is none.
        """
        return choose_template(self.chat_template, chat_template, tools)[1]


def choose_template(templates: Templates, wanted: str | None, tools: Any = None) -> tuple[str | None, str]:
    """The template to use, and its name if it has one; see `ChatTemplates.get_chat_template`."""
    if wanted is None and isinstance(templates, dict):
        names = ["default"] if tools is None else ["tool_use", "default"]
        wanted = next((name for name in names if name in templates), None)
        if wanted is None:
            raise ValueError(f"No chat template is the default: pass chat_template as one of {sorted(templates)}.")
    named = isinstance(templates, dict) and wanted in templates
    template = templates[wanted] if named else templates if wanted is None else wanted
    if template is None:
        raise ValueError(
            "There is no chat template, for this is not the tokenizer of a chat model: pass a Jinja template as "
            "chat_template, or set tokenizer.chat_template."
        )
    if not isinstance(template, str):
        raise TypeError(f"A chat template must be a string, Jinja or a name, not {type(template).__name__}.")
    return wanted if named else None, template


def as_batch(conversation: Any) -> tuple[Sequence[Any], bool]:
    """Conversations, and whether several were given rather than one."""
    if not isinstance(conversation, (list, tuple)):
        return [conversation], False
    if not conversation:
        raise ValueError("The conversation has no messages: give at least one.")
    batched = isinstance(conversation[0], (list, tuple)) or hasattr(conversation[0], "messages")
    return (conversation, True) if batched else ([conversation], False)


def assistant_mask(encoding: Encoding, spans: Sequence[Span]) -> list[int]:
    """1 for the tokens of a text that come from these spans of characters, 0 for others."""
    mask = [0] * len(encoding)
    for start, end in spans:
        first, last = encoding.char_to_token(start), encoding.char_to_token(end - 1)
        if first is None:  # truncated away; the reference looks no further either
            break
        stop = last + 1 if last else len(mask)
        mask[first:stop] = [1] * (stop - first)
    return mask


def _check_options(
    tokenize: bool, return_dict: bool, masked: bool, prompt: bool, continued: bool, options: Mapping[str, Any]
):
    if return_dict and not tokenize:
        raise ValueError("return_dict=True needs tokenize=True: text alone makes no dictionary.")
    if masked and not return_dict:
        raise ValueError("return_assistant_tokens_mask=True needs return_dict=True, to have a place for the mask.")
    if masked and options.get("return_overflowing_tokens"):
        raise ValueError(
            "return_assistant_tokens_mask=True cannot mask what overflows: drop return_overflowing_tokens."
        )
    if continued and (prompt or masked):
        other = "add_generation_prompt" if prompt else "return_assistant_tokens_mask"
        raise ValueError(f"continue_final_message=True and {other}=True contradict each other: drop one of them.")


# Files.


def named_templates(stored: Any) -> Templates:
    """The value of `chat_template` in a settings file, with a list of named templates as a dictionary.

    Raises:
        ValueError: it is none of what it can be.
    """
    if stored is None or isinstance(stored, str):
        return stored
    try:
        pairs = stored.items() if isinstance(stored, Mapping) else [(each["name"], each["template"]) for each in stored]
        templates = dict(pairs)
    except (TypeError, KeyError) as error:
        raise ValueError(
            "chat_template must be a template, or a list such as [{'name': 'default', 'template': ...}]."
        ) from error
    if not all(isinstance(each, str) for pair in templates.items() for each in pair):
        raise ValueError(f"chat_template must hold strings, not {templates!r:.80}.")
    return templates


def template_files(templates: Templates) -> dict[str, str]:
    """The files that hold chat templates, by path: chat_template.jinja, and those with names of their own elsewhere.

    Raises:
        ValueError: a name cannot be that of a file.
    """
    named = {"default": templates} if isinstance(templates, str) else templates or {}
    wrong = next((name for name in named if name != Path(name).name or "\\" in name or "\0" in name), None)
    if wrong is not None:
        raise ValueError(f"The chat template {wrong!r} cannot be saved as a file: give it a name without slashes.")
    paths = {name: TEMPLATE_FILE if name == "default" else f"{MORE_TEMPLATES}/{name}.jinja" for name in named}
    return {paths[name]: template for name, template in named.items()}


def read_templates(repository: Repository) -> Templates:
    """The chat templates in the .jinja files of a repository."""
    default = repository.file(TEMPLATE_FILE)
    templates = {"default": _text(default)} if default else {}
    for file in _more_template_files(repository, default):
        path = repository.file(f"{MORE_TEMPLATES}/{file}")
        if path:
            templates[file.removesuffix(".jinja")] = _text(path)
    return templates if set(templates) - {"default"} else templates.get("default")


def read_processor_templates(repository: Repository) -> Templates:
    """The chat templates of a multi-modal processor: in the older chat_template.json, or as `read_templates` has them.

    Raises:
        ValueError: chat_template.json is damaged, or there are named templates besides it.
    """
    path = repository.file(PROCESSOR_TEMPLATE_FILE)
    templates = read_templates(repository)
    if path is None:
        return templates
    if isinstance(templates, dict):
        raise ValueError(
            f"{repository} has both {PROCESSOR_TEMPLATE_FILE} and {MORE_TEMPLATES}/: put the template of the former "
            f"into {TEMPLATE_FILE} and delete it."
        )
    values = read_json(path)
    if "chat_template" not in values:
        raise ValueError(f"{path} has no 'chat_template', only {list(values)}; download it again.")
    return named_templates(values["chat_template"])


def _more_template_files(repository: Repository, default: Path | None) -> list[str]:
    """The names of the files in additional_chat_templates/.

    On the hub these are looked for only beside a chat_template.jinja, to spare all other models a request.
    """
    folder = repository.folder or (default.parent if default else None)
    if folder is None:
        return []
    names = {path.name for path in (folder / MORE_TEMPLATES).glob("*.jinja")}
    if not repository.is_local and not repository.local_files_only:
        names |= _listed(repository)
    return sorted(names)


def _listed(repository: Repository) -> set[str]:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    try:
        info = HfApi(token=repository.token).model_info(repository.name, revision=repository.revision)
    except (OSError, HTTPError):  # the hub is out of reach, where cached files have to do
        return set()
    paths = [PurePosixPath(sibling.rfilename) for sibling in info.siblings or []]
    folder = PurePosixPath(repository.subfolder, MORE_TEMPLATES)
    return {path.name for path in paths if path.parent == folder and path.suffix == ".jinja"}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text ({error}); download it again.") from error
