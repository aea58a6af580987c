"""Text generation: what comes next, in a text or in a chat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_models.generation.config import GenerationConfig
from keras_models.pipelines.base import Row, one_of, text_of
from keras_models.pipelines.generation import GeneratingPipeline
from keras_models.preprocessing.batch_encoding import BatchEncoding

_RETURNS = ("return_full_text", "return_text", "return_tensors")
_MESSAGE = '{"role": "user", "content": "Hello"}'


@dataclass
class Chat:
    """A conversation as one input: a list would be many."""

    messages: list[Mapping[str, Any]]

    @property
    def ends_in_an_answer(self) -> bool:
        """Whether the model has had the last word."""
        return self.messages[-1]["role"] == "assistant"


class TextGenerationPipeline(GeneratingPipeline):
    """Continues texts, or answers in chats, which are lists of messages {"role", "content"}.

    Options:
        max_new_tokens, do_sample, num_beams, num_return_sequences, stop_strings, streamer, seed ...: whatever
            `generate` takes. By default up to 256 tokens are sampled at a temperature of 0.7; with `seed`, each batch
            of a call adds one to it.
        generate_kwargs: a dictionary of such settings.
        stop_sequence: a text, or several, each of whose tokens ends what is written.
        return_full_text: False for the new text alone.
        return_tensors: True for token ids instead of text.
        prefix: put this before each text, but not into the result.
        handle_long_generation: "hole" drops the beginning of a text that would leave no room for what is to come.
        continue_final_message: continue a chat's last message instead of adding one; by default where it is the
            assistant's.
        tools, documents: what a chat's template is to tell the model of.
        truncation, padding, add_special_tokens: the tokenizer's, as is `max_length` besides what it means to generate.
        tokenizer_encode_kwargs: further options of the tokenizer, for chats of `apply_chat_template`.
        clean_up_tokenization_spaces: True, the default, drops spaces before punctuation.
        skip_special_tokens: False to keep them in the text.

    Returns a list of {"generated_text"}, one for each sequence, with texts that begin with their prompt, or chats that
    begin with theirs; with `return_tensors` of {"generated_token_ids"}. If scores are asked for, they are beside it.
    """

    heads = ("causal-lm",)
    takes = f"a string or a chat, a list of messages such as {_MESSAGE},"
    shorten = 'pass handle_long_generation="hole" to drop its beginning'
    spare = 1
    defaults = {"max_new_tokens": 256, "do_sample": True, "temperature": 0.7}

    def __call__(self, text_inputs: Any, **options: Any) -> Any:
        listed = isinstance(text_inputs, (list, tuple)) and len(text_inputs) > 0
        is_chat = listed and isinstance(text_inputs[0], Mapping)
        return super().__call__(Chat(list(text_inputs)) if is_chat else text_inputs, **options)

    def normalize(self, item: Any, where: str) -> str | Chat:
        messages = item.messages if isinstance(item, Chat) else item
        if not isinstance(messages, (list, tuple)):
            return text_of(item, where, self)
        if not messages:
            raise ValueError(f"{where} is a chat without messages: give at least one, such as {_MESSAGE}.")
        for number, message in enumerate(messages):
            if not isinstance(message, Mapping):
                kind = type(message).__name__
                raise TypeError(f"{where}[{number}] must be a message such as {_MESSAGE}, not {kind}.")
            if not {"role", "content"} <= message.keys():
                raise ValueError(f'{where}[{number}] must have the keys "role" and "content"; it has {list(message)}.')
        return Chat(list(messages))

    def rename(self, options: dict[str, Any]) -> dict[str, Any]:
        options = super().rename(options)
        given = [name for name in _RETURNS if options.get(name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: drop one of them.")
        options.pop("return_text", None)
        # What one of them says in a call replaces what the other said before it.
        return dict.fromkeys(("return_full_text", "return_tensors")) | options if given else options

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        new_tokens_given = {"max_new_tokens", "min_new_tokens"} & options.keys()
        options = super().check(options)
        if options.get("handle_long_generation") is not None:
            one_of("handle_long_generation", options["handle_long_generation"], ("hole",))
        options["prefix"] = self.prefix if options.get("prefix") is None else options["prefix"]
        if options["prefix"]:
            special = bool(options.get("add_special_tokens"))
            length = len(self.tokenizer.encode(options["prefix"], add_special_tokens=special))
            config = options["generation_config"]
            if config.max_new_tokens is None and "max_new_tokens" not in new_tokens_given:
                config.max_length += length
            if "min_length" in options and "min_new_tokens" not in new_tokens_given:
                config.min_length += length
        return options

    def preprocess(
        self,
        item: str | Chat,
        *,
        generation_config: GenerationConfig,
        prefix: str = "",
        handle_long_generation: str | None = None,
        add_special_tokens: bool | None = None,
        truncation: bool | str | None = None,
        padding: bool | str | None = None,
        max_length: int | None = None,
        continue_final_message: bool | None = None,
        tokenizer_encode_kwargs: dict[str, Any] | None = None,
        tools: Sequence[Any] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
    ) -> Iterator[Row]:
        lengths = {"truncation": truncation, "padding": padding, "max_length": max_length}
        options = {name: value for name, value in lengths.items() if value is not None}
        if isinstance(item, Chat):
            told = {"tools": tools, "documents": documents} | options | (tokenizer_encode_kwargs or {})
            encoding = self._encode_chat(item, continue_final_message, told)
        else:
            special = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
            encoding = self.encode(prefix + item, **special, **options, **(tokenizer_encode_kwargs or {}))
        encoding.pop("token_type_ids", None)
        row = self.row(encoding)
        if handle_long_generation is not None:
            kept = self._room(generation_config, row.length)
            row.inputs = {name: values[-kept:] for name, values in row.inputs.items()}
        yield row

    def _encode_chat(self, chat: Chat, continued: bool | None, options: dict[str, Any]) -> BatchEncoding:
        continued = chat.ends_in_an_answer if continued is None else continued
        options.pop("add_special_tokens", None)  # templates write them
        return self.tokenizer.apply_chat_template(
            [chat.messages],
            add_generation_prompt=not continued,
            continue_final_message=continued,
            return_dict=True,
            **options,
        )

    def _room(self, config: GenerationConfig, length: int) -> int:
        """How many tokens of a prompt of this length can stay, for what is to be written to have its place."""
        new = config.max_length - length if config.max_new_tokens is None else config.max_new_tokens
        if self.limit is None or (new > 0 and length + new <= self.limit):
            return length
        if not 0 < new < self.limit:
            raise ValueError(
                f'handle_long_generation="hole" makes room for 1 to {self.limit - 1} new tokens, not for {new}: pass '
                "another number of max_new_tokens."
            )
        return self.limit - new

    def postprocess(
        self,
        item: str | Chat,
        rows: list[Row],
        *,
        return_full_text: bool | None = None,
        return_tensors: bool | None = None,
        clean_up_tokenization_spaces: bool = True,
        continue_final_message: bool | None = None,
        skip_special_tokens: bool = True,
    ) -> list[dict[str, Any]]:
        (row,) = rows
        sequences = row.outputs["sequences"]
        if return_tensors:
            return [{"generated_token_ids": tokens} for tokens in sequences.tolist()]
        options = {
            "clean_up_tokenization_spaces": clean_up_tokenization_spaces,
            "skip_special_tokens": skip_special_tokens,
        }
        length = len(self.tokenizer.decode(row.inputs["input_ids"], **options))
        records = []
        for index, tokens in enumerate(sequences):
            text: Any = self.tokenizer.decode(tokens, **options)[length:]
            if return_full_text is not False:
                text = _joined(item, text, continue_final_message)
            others = {name: each[index].tolist() for name, each in row.outputs.items() if name != "sequences"}
            records.append({"generated_text": text, **others})
        return records


def _joined(prompt: str | Chat, text: str, continued: bool | None) -> str | list[Mapping[str, Any]]:
    """A prompt with what comes next, in the form that it has."""
    if isinstance(prompt, str):
        return prompt + text
    if prompt.ends_in_an_answer if continued is None else continued:
        *before, last = prompt.messages
        return [*before, {"role": last["role"], "content": last["content"] + text}]
    return [*prompt.messages, {"role": "assistant", "content": text}]
