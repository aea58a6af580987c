"""A conversation with a model, turn by turn; `keras-models chat` is one at a terminal."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import numpy as np

from keras_models.generation.config import SAMPLING, GenerationConfig
from keras_models.generation.streamers import TextIteratorStreamer

MAX_NEW_TOKENS = 512  # of a reply, where neither the user nor the model has a limit
AS_WRITTEN = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}


class Chat:
    """A conversation with a model. What was computed in earlier turns is not computed again.

    `messages` is the conversation so far, a list of {"role", "content"} that may be changed. `finish_reason` tells why
    the last reply ended: "stop" where the model ended it, "length" or "interrupted".

    Example:
        >>> chat = Chat(model, tokenizer, system="Be brief.", temperature=0.7)
        >>> for piece in chat.say("Who was Ada Lovelace?"):
        ...     print(piece, end="", flush=True)

    Args:
        model: one that predicts the next word, as AutoModelForCausalLM loads it.
        tokenizer: its tokenizer.
        system: what the model is told before all else.
        template: False for a model without a chat template: it continues plain text then, in which each turn begins a
            line and the reply to it follows at once.
        **settings: see `set`.

    Raises:
        ValueError: there is no chat template, or a setting makes no sense here.
        TypeError: a setting is unknown.
    """

    def __init__(
        self, model: Any, tokenizer: Any, system: str | None = None, *, template: bool = True, **settings: Any
    ):
        if template:
            tokenizer.get_chat_template()
        self.model, self.tokenizer, self.template = model, tokenizer, template
        self.messages: list[dict[str, Any]] = []
        self.system = system
        self.settings: dict[str, Any] = {}
        self.set(**settings)
        self.finish_reason: str | None = None
        self._replies = 0
        self._thread: Thread | None = None  # which writes the last reply
        self._tokens, self._cache = np.zeros(0, "int32"), None  # of the last turn: prompt and reply

    @property
    def system(self) -> str | None:
        """What the model is told before all else."""
        first = self.messages[:1]
        return first[0]["content"] if first and first[0]["role"] == "system" else None

    @system.setter
    def system(self, text: str | None):
        self.messages[: self.system is not None] = [{"role": "system", "content": text}] if text else []

    def set(self, **settings: Any):
        """Changes settings of `generate`, such as `max_new_tokens`; None takes one back to the model's own.

        A `temperature`, `top_k`, `top_p` or the like turns sampling on, a temperature of 0 turns it off. `seed` is that
        of the first reply, and one more for each that follows.

        Raises:
            TypeError: a name is no setting; nothing is changed then, nor after other errors.
            ValueError: the settings make no sense, or contradict each other or a chat.
        """
        wanted = self.settings | settings
        samples = any(settings.get(name) is not None for name in SAMPLING) and not wanted.get("penalty_alpha")
        if settings.get("temperature") == 0:
            wanted |= {"temperature": None, "do_sample": False}
        elif samples and "do_sample" not in settings:
            wanted["do_sample"] = True
        wanted = {name: value for name, value in wanted.items() if value is not None}
        for name in ("num_beams", "num_return_sequences"):
            if wanted.get(name, 1) != 1:
                raise ValueError(f"A chat is one text, written word by word: drop {name}={wanted[name]!r}.")
        seed = wanted.get("seed", 0)
        if not isinstance(seed, (int, np.integer)) or seed < 0:
            raise TypeError(f"seed must be an integer of 0 or more, not {seed!r}.")
        GenerationConfig(**{name: value for name, value in wanted.items() if name != "seed"})
        self.settings = wanted

    def say(self, text: str) -> Iterator[str]:
        """Adds a turn to the conversation: yields the reply in pieces, while the model writes it in another thread.

        Closing the iterator, or Ctrl-C, ends the reply with the piece that came last. After an error the conversation
        is as it was.

        Raises:
            ValueError: the conversation is longer than the model can read, or the chat template refuses it.
        """
        if self._thread is not None:
            self._thread.join()  # after an interruption it ends the step that it is in
        turn = {"role": "user", "content": text}
        ids = self._encode([*self.messages, turn])
        config = self._config(len(ids))
        streamer, stop = _Pieces(self.tokenizer, skip_prompt=self.template, **AS_WRITTEN), Event()
        self._thread = Thread(target=self._write, args=(ids, config, streamer, stop))
        reply, reason = "", "interrupted"
        try:
            self._thread.start()
            for piece in streamer:
                if piece:
                    reply += piece
                    yield piece
            self._thread.join()
            is_full = len(self._tokens) == len(ids) + config.max_new_tokens
            reason = "length" if is_full and self._tokens[-1] not in (config.eos_token_id or ()) else "stop"
        except Exception:
            reason = None
            raise
        finally:
            stop.set()
            if reason is not None:
                self.messages += [turn, {"role": "assistant", "content": reply}]
                self.finish_reason = reason

    def undo(self):
        """Takes the last turn back: what the user said and what came after it.

        Raises:
            ValueError: there is none.
        """
        turns = [index for index, message in enumerate(self.messages) if message["role"] == "user"]
        if not turns:
            raise ValueError("There is no turn to take back.")
        del self.messages[turns[-1] :]

    def reset(self):
        """Forgets the conversation, but not `system`."""
        del self.messages[self.system is not None :]

    def _encode(self, messages: list[dict[str, Any]]) -> np.ndarray:
        """The tokens that are to be continued, (length,)."""
        if self.template:
            return np.array(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True), "int32")
        text = ""
        for message in messages:
            text += "\n" if text and message["role"] != "assistant" else ""
            text += message["content"]
        return np.array(self.tokenizer(text)["input_ids"], "int32")

    def _config(self, length: int) -> GenerationConfig:
        """The settings for a reply to a prompt of this length."""
        config = copy.deepcopy(self.model.generation_config)
        settings = {name: value for name, value in self.settings.items() if name != "seed"}
        if not settings.get("do_sample", config.do_sample):  # what the model says of sampling is idle then
            contrasts = settings.get("penalty_alpha", config.penalty_alpha)
            settings |= {name: None for name in SAMPLING if name != "top_k" or not contrasts}
        config.update(**{"num_beams": 1, "num_return_sequences": 1, **settings})

        ends = [] if config.eos_token_id is None else np.ravel(config.eos_token_id).tolist()
        own = self.tokenizer.eos_token_id
        if "eos_token_id" not in settings and own not in (None, *ends):
            ends.append(own)  # what replies were trained to end with, though the model's settings may not tell
        pads = (config.pad_token_id, self.tokenizer.pad_token_id, *ends)
        config.eos_token_id = ends or None
        config.pad_token_id = next((each for each in pads if each is not None), None)

        positions = self.model.max_length or getattr(self.model.config, "max_position_embeddings", None) or math.inf
        limit, why = positions, f"{type(self.model).__name__} has positions for"
        if config.max_new_tokens is None and config.max_length is not None and "max_length" in config.given:
            limit, why = min((limit, why), (config.max_length, "max_length allows"))
        elif config.max_new_tokens is None:
            config.max_new_tokens = MAX_NEW_TOKENS
        if length >= limit:
            raise ValueError(
                f"The conversation is {length} tokens long by now, and {why} {limit}: "
                "reset it, undo a turn, or say less."
            )
        config.max_new_tokens = min(config.max_new_tokens or math.inf, limit - length)
        return config

    def _write(self, ids: np.ndarray, config: GenerationConfig, streamer: _Pieces, stop: Event):
        """Generates a reply, and keeps its tokens and their cache for the next turn."""
        seed = self.settings.get("seed")
        try:
            result = self.model.generate(
                ids[None], config, attention_mask=np.ones_like(ids)[None], streamer=streamer, tokenizer=self.tokenizer,
                past_key_values=None if config.penalty_alpha else self._past(ids), return_dict_in_generate=True,
                stopping_criteria=[lambda ids, scores: stop.is_set()], use_model_defaults=False,
                seed=None if seed is None else seed + self._replies,
            )  # fmt: skip
            self._tokens, self._cache = result.sequences[0], result.past_key_values
            self._replies += 1
        except BaseException as error:  # for whoever reads the reply
            streamer.fail(error)

    def _past(self, ids: np.ndarray) -> Any:
        """The cache of the last turn, as far as that has the same tokens; None if there is none."""
        if self._cache is None:
            return None
        known = self._tokens[: self._cache.length]
        shared = min(len(known), len(ids))
        others = np.flatnonzero(known[:shared] != ids[:shared])
        self._cache.crop(int(others[0]) if others.size else shared)
        return self._cache if self._cache.length else None


class _Pieces(TextIteratorStreamer):
    """Text token by token, each decoded behind those before it: alone it may lose a space, or be half a character.

    With `skip_prompt=False` the reply goes on from the prompt in that sense, which is never handed out.
    """

    def put(self, value: np.ndarray):
        tokens = np.asarray(value).reshape(-1).tolist()
        if self.next_tokens_are_prompt:
            self.next_tokens_are_prompt = False
            self._go_on_from([] if self.skip_prompt else tokens)
            return
        self.token_cache += tokens
        piece = self._decoded()[self.print_len :]
        if piece and not piece.endswith("\ufffd"):
            self.on_finalized_text(piece)
            self._go_on_from(self.token_cache[self.told :])

    def _go_on_from(self, tokens: list[int]):
        self.token_cache, self.told = tokens, len(tokens)
        self.print_len = len(self._decoded())
