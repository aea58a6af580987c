"""Assisted decoding: something cheap drafts tokens, which the model then checks all at once.

The draft comes from a smaller model, with the same tokens or another tokenizer, or from the text so far
(https://github.com/apoorvumang/prompt-lookup-decoding). What is decoded is what the model alone would decode: its
own token at each place decides, and the first that is not the draft's ends the round. Only drafts that were drawn from
known distributions are judged by speculative sampling (https://arxiv.org/abs/2211.17192, algorithm 1), which keeps the
model's distribution.

A cache is rolled back by its length: what is behind is overwritten before it is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from keras_models import runtime
from keras_models.cache import Cache
from keras_models.generation.config import GenerationConfig
from keras_models.generation.decoding import PER_TOKEN, Decoding, Programs, Prompt, records_of
from keras_models.generation.generate import Call, Collected, encode
from keras_models.generation.processors import LogitsProcessorList
from keras_models.generation.search import Sampling, draw, uniforms

NOTHING = np.zeros((0,), "int32")
KEPT = ("ids", "length", "finished")  # what judging a draft changes in a state
CONTEXT = 10  # how many tokens before a draft are encoded with it, where tokenizers differ


# ---------------------------------------------------------------------------------------------------- programs


class WindowPrograms(Programs):
    """Programs that can read several tokens of one text at once."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.window = runtime.compile_program(self.model, self._window, donated=(0,))

    def _window(self, state: dict, tokens: Any, start: Any, end: Any, fixed: dict) -> tuple[Any, dict, dict]:
        """(logits, records, state) after a window has gone through the model.

        Args:
            tokens: (1, width), those of the positions from `start` on, of which those from `end` on are none.
        """
        cache, width = Cache.of(state, start, fixed["source"]), tokens.shape[1]
        places = None
        if fixed["pads"] is not None or not self.model.ignores_padding:
            pads = 0 if fixed["pads"] is None else fixed["pads"][:, None]
            places = ops.minimum(start + ops.arange(width, dtype="int32")[None], end - 1) - pads
            places = ops.maximum(places, 0)
        inputs = {name: ops.repeat(each, width, axis=1) for name, each in fixed["inputs"].items() if name in PER_TOKEN}
        outputs = self.call(tokens, cache, fixed, fixed["mask"], places, **inputs)
        return outputs.logits, records_of(outputs), state | cache.state()


@dataclass(frozen=True)
class Checking(Sampling):
    """The search of the model that checks; `speculative` if it is given the draft's distributions."""

    speculative: bool = False

    @property
    def draws(self) -> int:
        """How many uniform numbers a token takes."""
        return 2 if self.speculative else 1

    def judge(self, state: dict, scores: Any, drafted: Any, within: Any, chances: Any, fixed: dict) -> tuple[Any, Any]:
        """(the next token (1,), whether it is the drafted one).

        Args:
            scores: (1, vocabulary).
            drafted: (1,) token of the draft.
            within: whether the draft reaches so far.
            chances: (1, vocabulary) the distribution that it was drawn from, None without speculative sampling.
        """
        if not self.sample:
            token = ops.cast(ops.argmax(scores, axis=-1), "int32")
        elif chances is None:
            token = draw(ops.softmax(scores, axis=-1), uniforms(state, fixed)[:, 0])
        else:
            numbers, own = uniforms(state, fixed), ops.softmax(scores, axis=-1)
            chance, mine = (ops.take_along_axis(each, drafted[:, None], axis=1)[:, 0] for each in (chances, own))
            kept = ops.logical_and(within, numbers[:, 1] * chance < mine)
            rest = ops.where(within, ops.maximum(own - chances, 0.0), own)
            return ops.where(kept, drafted, draw(rest, numbers[:, 0])), kept
        return token, ops.logical_and(within, ops.equal(token, drafted))


class CheckPrograms(WindowPrograms):
    """Programs of the model that checks drafts."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.check = runtime.compile_program(self.model, self._check, donated=(0,))

    def _check(self, state: dict, tokens: Any, start: Any, count: Any, chances: Any, fixed: dict) -> dict:
        """The state after a window has been read, which ends in a draft of `count` tokens, and its tokens judged."""
        logits, _, state = self._window(state, tokens, start, state["length"] + count, fixed)
        return self.accept(state, logits, start, count, chances, fixed)

    def accept(
        self, state: dict, logits: Any, start: Any, count: Any, chances: Any, fixed: dict,
        loop: Callable = runtime.while_loop, judged: list | None = None,
    ) -> dict:  # fmt: skip
        """The state with those tokens of a draft that are accepted, and one more.

        Args:
            state: its `ids` have the draft behind its `length`.
            logits: (1, width, vocabulary) from the position `start` on.
            chances: (1, vocabulary, room) the distributions of the draft's tokens, or None.
            judged: collects the logits and the scores of each token, if Python loops.
        """
        first, drafted = state["length"], state["ids"]

        def step(now: dict) -> dict:
            place = now["length"] - first
            own = ops.take(logits, now["length"] - 1 - start, axis=1)
            scores = self.scores(now, own, fixed)
            if judged is not None:
                judged.append((own, scores))
            likely = None
            if chances is not None:
                likely = runtime.read_column(chances, ops.minimum(place, chances.shape[2] - 1))
            token = runtime.read_column(drafted, now["length"])
            token, kept = self.search.judge(now, scores, token, place < count, likely, fixed)
            now = {**now, **self.search.append({name: now[name] for name in KEPT}, token, fixed)}
            now["going"] = ops.all(ops.logical_and(kept, ops.logical_not(now["finished"])))
            return now

        now = {name: state[name] for name in KEPT} | {"going": ops.ones((), "bool")}
        now = loop(lambda now: now["going"], step, now)
        return state | {name: now[name] for name in KEPT}


@dataclass(frozen=True)
class Drafting(Sampling):
    """The search of the model that drafts: greedy, or sampling that keeps what it draws from."""

    speculative: bool = False


class DraftPrograms(WindowPrograms):
    """Programs of the model that drafts. `fixed` has the `threshold` of its confidence."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.draft = runtime.compile_program(self.model, self._draft, donated=(0,))

    def _draft(
        self, state: dict, tokens: Any, start: Any, stop: Any, numbers: Any, fixed: dict, by_hand: bool = False
    ) -> tuple[dict, Any]:
        """(state, chances) after a window has been read and tokens have been added up to the length `stop` at most.

        The draft ends early behind an end of the text or a token of a probability below the threshold.

        Args:
            numbers: (room,) uniform numbers, one for each token.
            by_hand: whether Python is needed between two tokens.

        Returns:
            The chances are those that each token was drawn from, (1, vocabulary, room), or None.
        """
        first = state["length"] + 0  # in memory of its own, for the state's is used again
        window, forward, loop = self._window, self._forward, self._while
        if by_hand:
            window, forward, loop = self.window, self.forward, while_loop

        def add(state: dict, logits: Any) -> dict:
            place, scores = state["length"] - first, self.scores(state, logits, fixed)
            likely = ops.softmax(scores, axis=-1)
            if self.search.speculative:
                token = draw(likely, ops.reshape(ops.take(numbers, place), (1,)))
                state = {**state, "chances": runtime.write_column(state["chances"], place, likely)}
            else:
                token = ops.cast(ops.argmax(scores, axis=-1), "int32")
            sure = ops.take_along_axis(likely, token[:, None], axis=1)[:, 0] >= fixed["threshold"]
            state = self.search.append(state, token, fixed)
            going = ops.all(ops.logical_and(sure, ops.logical_not(state["finished"])))
            return {**state, "going": ops.logical_and(going, state["length"] < stop)}

        def step(state: dict) -> dict:
            logits, _, state = forward(state, fixed)
            return add(state, logits)

        logits, _, state = window(state, tokens, start, first, fixed)
        logits = ops.take(logits, first - 1 - start, axis=1)
        if self.search.speculative:
            state = {**state, "chances": ops.zeros((*logits.shape, numbers.shape[0]))}
        state = loop(lambda state: state["going"], step, add(state, logits))
        state.pop("going")
        return state, state.pop("chances", None)


def while_loop(condition: Callable, body: Callable, state: Any) -> Any:
    """`runtime.while_loop` in Python."""
    while bool(condition(state)):
        state = body(state)
    return state


class WindowDecoding(Decoding):
    """Decoding of one text, several tokens at a time."""

    def __init__(self, programs: Programs, prompt: Prompt, **options: Any):
        super().__init__(programs, prompt, rows_each=1, fill=0, **options)
        self.state: dict = {}

    def load(self, ids: np.ndarray, length: int):
        """Puts tokens into the state, of which the first `length` are certain."""
        while len(ids) > self.capacity:
            self.state = self._grow(self.state)
        row = np.zeros((1, self.capacity), "int32")
        row[0, : len(ids)] = ids
        self.state = {**self.state, "ids": ops.convert_to_tensor(row), "length": runtime.number(length)}

    def window(self, ids: np.ndarray, known: int, width: int) -> tuple[Any, Any]:
        """(tokens, start) of a window that ends in ids, all but the first `known` of which it has to show.

        Args:
            width: of the window where programs are compiled: there it shows more than needed, on the left rather than
                beyond the last position. Tokens of the prompt are not read again, for it may be more than tokens.
        """
        start, width = known, max(width, len(ids) - known)
        if runtime.CACHE_IN_PLACE:
            width = len(ids) - known
        else:
            end = min(self.capacity, self.programs.model.max_length or self.capacity)
            start = max(min(known, end - width), min(known, self.length))
            width = min(width, end - start)
        tokens = np.zeros((1, width), "int32")
        shown = ids[start : start + width]
        tokens[0, : len(shown)] = shown
        return ops.convert_to_tensor(tokens), runtime.number(start)


def _size(count: int) -> int:
    """The next power of two, or three quarters of it: a shape for `count` tokens."""
    power = 1 << (count - 1).bit_length()
    return power * 3 // 4 if count <= power * 3 // 4 else power


# ------------------------------------------------------------------------------------------------------ drafts


class Lookup:
    """Drafts what followed the last tokens where they stood first.

    Args:
        count: tokens to draft.
        longest: the most of the last tokens to look for; fewer if they are not found.
    """

    speculative, often_empty = False, True

    def __init__(self, count: int, longest: int):
        self.count, self.longest = count, longest

    def propose(self, ids: np.ndarray, count: int) -> tuple[np.ndarray, Any]:
        """(up to `count` tokens that may follow ids, the distributions that they were drawn from, or None)."""
        for size in range(min(self.longest, len(ids) - 1), 0, -1):
            windows = np.lib.stride_tricks.sliding_window_view(ids[:-1], size)
            found = np.flatnonzero((windows == ids[-size:]).all(axis=1))
            if len(found):
                return ids[found[0] + size :][:count], None
        return NOTHING, None

    def learn(self, drafted: int, accepted: int):
        """Takes note of how many of the drafted tokens were accepted."""


class Assistant:
    """Drafts with a model that has the same tokens.

    Args:
        call: of the model that checks.
        prompt: what the assistant reads first.
        processors: of its scores.
        eos: its ends of a text.
        limit: the length that it need not go beyond.
        speculative: whether to draw tokens, and keep what they were drawn from.
    """

    often_empty = False

    def __init__(
        self, call: Call, prompt: Prompt, processors: LogitsProcessorList, eos: list[int] | None, limit: int,
        speculative: bool,
    ):  # fmt: skip
        model, self.speculative = call.assistant, speculative
        length = prompt.ids.shape[1]
        self.limit = min(limit, model.max_length or limit)
        if length > self.limit:
            raise ValueError(
                f"The assistant, a {type(model).__name__}, has positions for {model.max_length} tokens, and the prompt "
                f"is {length} long: shorten it, or generate without assistant."
            )
        self.schedule = _setting(call, "num_assistant_tokens_schedule")
        self.count = int(_setting(call, "num_assistant_tokens"))
        threshold = _setting(call, "assistant_confidence_threshold") or 0.0
        self.programs = DraftPrograms.of(model, Drafting(speculative=speculative), processors)
        self.decoding = WindowDecoding(
            self.programs, prompt, limit=self.limit, eos=eos, pad=0, seed=0, settings={"threshold": threshold}
        )
        self.numbers = np.random.default_rng((call.seed, 1))  # others than those that judge
        _, _, self.decoding.state, source = self.programs.prefill(*self.decoding._first_inputs())
        self.decoding.fixed["source"] = source
        self.read = prompt.ids[0]  # the tokens that the cache holds
        self.chances = None

    def propose(self, ids: np.ndarray, count: int) -> tuple[np.ndarray, Any]:
        """See `Lookup.propose`."""
        decoding, programs, length = self.decoding, self.programs, len(ids)
        count = min(count, self.limit - length)
        if count < 1:
            return NOTHING, self.chances  # whose shape is that of a compiled program
        known = min(_agreement(self.read, ids), length - 1)
        decoding.load(np.append(ids, np.zeros(count, "int32")), length)
        tokens, start = decoding.window(ids, known, _size(max(2, length - known)))
        numbers = self.numbers.random(_size(self.count), "float32")
        arguments = (decoding.state, tokens, start, runtime.number(length + count), ops.convert_to_tensor(numbers))
        compiled = programs.processors.compiled
        draft = programs.draft if compiled else lambda *given: programs._draft(*given, by_hand=True)
        decoding.state, self.chances = draft(*arguments, decoding.fixed)
        decoding.state["finished"] = ops.zeros((1,), "bool")
        found = ops.convert_to_numpy(decoding.state["ids"])[0, : int(decoding.state["length"])].copy()
        self.read = found[:-1]
        return found[length:], self.chances

    def learn(self, drafted: int, accepted: int):
        """Drafts more next time if all was accepted, else less, where the schedule is a heuristic."""
        if self.schedule != "constant" and drafted:
            self.count = self.count + 2 if accepted == drafted else max(1, self.count - 1)


class Translator:
    """Drafts with a model that has other tokens: by way of text.

    Args:
        call: of the model that checks.
    """

    speculative, often_empty = False, True

    def __init__(self, call: Call):
        self.call, self.assistant = call, None
        self.count = int(_setting(call, "num_assistant_tokens"))

    def propose(self, ids: np.ndarray, count: int) -> tuple[np.ndarray, Any]:
        """See `Lookup.propose`."""
        own, other, model = self.call.tokenizer, self.call.assistant_tokenizer, self.call.assistant
        read = np.array(other(_text(own, ids))["input_ids"], "int32")
        if not len(read) or (model.max_length is not None and len(read) > model.max_length):
            return NOTHING, None
        if self.assistant is None:
            eos = model.generation_config.eos_token_id
            eos = None if eos is None else np.ravel(eos).tolist()
            limit = model.max_length or np.iinfo("int32").max
            prompt = Prompt(read[None])
            processors = LogitsProcessorList()  # the call's are about the model's tokens
            self.assistant = Assistant(self.call, prompt, processors, eos, limit, speculative=False)
        drafted, _ = self.assistant.propose(read, count)
        before, after = _text(other, read), _text(other, np.append(read, drafted))
        last = _text(own, ids[-CONTEXT:])
        known = own(last, add_special_tokens=False)["input_ids"]
        found = own(last + after[len(before) :], add_special_tokens=False)["input_ids"]
        if not after.startswith(before) or found[: len(known)] != known:  # a character, or a token, is not complete
            return NOTHING, None
        return np.array(found[len(known) :][:count], "int32"), None

    def learn(self, drafted: int, accepted: int):
        """See `Assistant.learn`."""
        if self.assistant is not None:
            self.assistant.learn(drafted, accepted)
            self.count = self.assistant.count


def _text(tokenizer: Any, ids: np.ndarray) -> str:
    return tokenizer.decode(ids.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _agreement(first: np.ndarray, second: np.ndarray) -> int:
    """How many tokens at the start are the same."""
    length = min(len(first), len(second))
    differ = np.flatnonzero(first[:length] != second[:length])
    return int(differ[0]) if len(differ) else length


def _setting(call: Call, name: str) -> Any:
    """A setting of the assistant's own, unless the call gives it."""
    return getattr(call.settings if name in call.settings.given else call.assistant.generation_config, name)


def _drafts(call: Call) -> Lookup | Assistant | Translator:
    """What drafts in this call."""
    settings, model, assistant = call.settings, call.model, call.assistant
    if settings.prompt_lookup_num_tokens is not None:
        return Lookup(settings.prompt_lookup_num_tokens, settings.max_matching_ngram_size or 2)
    name = type(assistant).__name__
    if not assistant.can_generate():
        raise TypeError(f"The assistant, a {name}, has no head that predicts words: load it with AutoModelForCausalLM.")
    if not call.prompt.has_tokens:
        raise ValueError("An assistant reads tokens: pass input_ids rather than inputs_embeds.")
    if assistant.config.is_encoder_decoder and not model.config.is_encoder_decoder:
        raise ValueError(f"The assistant, a {name}, has an encoder, which nothing is there for: use a decoder alone.")
    if call.assistant_tokenizer is None:
        if assistant.config.vocab_size != model.config.vocab_size:
            raise ValueError(
                f"The assistant has {assistant.config.vocab_size} tokens, the model {model.config.vocab_size}: pass "
                "both tokenizers, as tokenizer= and assistant_tokenizer=, or an assistant with the same tokens."
            )
        speculative = bool(settings.do_sample)
        return Assistant(call, _assistant_prompt(call), call.processors, call.eos, call.limit, speculative)
    if call.tokenizer is None:
        raise ValueError("An assistant with its own tokenizer needs the model's too: pass it as tokenizer=.")
    if model.config.is_encoder_decoder:
        raise ValueError("Behind an encoder, an assistant needs the same tokens: drop assistant_tokenizer.")
    return Translator(call)


def _assistant_prompt(call: Call) -> Prompt:
    """What an assistant with the same tokens reads first."""
    prompt, assistant = call.prompt, call.assistant
    if not call.model.config.is_encoder_decoder:
        return Prompt(prompt.ids, prompt.mask)
    if assistant.config.is_encoder_decoder:
        if not set(call.encoder_inputs) - {"attention_mask"}:
            raise ValueError("The assistant has its own encoder: pass its inputs, such as input_ids, too.")
        outputs, inputs = encode(assistant, call.encoder_inputs, GenerationConfig())
        return Prompt(prompt.ids, prompt.mask, {}, outputs["last_hidden_state"], inputs.get("attention_mask"))
    states, name = prompt.encoder_states, type(assistant).__name__
    known = [each for each in ("encoder_hidden_states", "encoder_outputs") if each in assistant.input_names]
    if not known:
        raise ValueError(f"The assistant, a {name}, cannot attend to an encoder: use one that can, or has its own.")
    if states.shape[-1] != assistant.config.hidden_size:
        raise ValueError(
            f"The assistant, a {name}, attends to states of size {assistant.config.hidden_size}, the model's encoder "
            f"has {states.shape[-1]}: use an assistant with an encoder of its own."
        )
    inputs = {known[0]: states, "encoder_attention_mask": prompt.encoder_mask}
    inputs = {name: ops.convert_to_numpy(value) for name, value in inputs.items() if value is not None}
    return Prompt(prompt.ids, prompt.mask, inputs)


# ---------------------------------------------------------------------------------------------------- decoding


def decode(call: Call) -> dict[str, Any]:
    """The result of a call that has an assistant, or whose settings ask for prompt lookup."""
    settings, prompt = call.settings, call.prompt
    if len(prompt.ids) != 1:
        raise ValueError(f"Assisted generation continues one text, not a batch of {len(prompt.ids)}: go one by one.")
    drafts = _drafts(call)
    search = Checking(bool(settings.do_sample), drafts.speculative)
    programs = CheckPrograms.of(call.model, search, call.processors, call.records)
    decoding = WindowDecoding(
        programs, prompt, limit=call.limit, eos=call.eos, pad=call.pad, seed=call.seed, settings={}
    )
    by_hand = call.collects or not call.processors.compiled
    collected, length = Collected(call, 1), prompt.ids.shape[1]
    ids, seen = _begin(decoding, by_hand)
    while True:
        end = next((end for end in range(length + 1, len(ids) + 1) if _stops(call, ids[:end])), None)
        kept = end or len(ids)
        for step in seen[: kept - length]:
            collected.add(*step)
        if call.streamer is not None:
            call.put(ids[None, length:kept])
        length, ids = kept, ids[:kept]
        if end is not None or length == call.limit:
            break
        count = min(drafts.count, call.limit - length - 1)
        drafted, chances = drafts.propose(ids, count)
        width = 1 if not len(drafted) and drafts.often_empty else _size(drafts.count + 1)
        ids, seen = _round(decoding, np.append(ids, drafted), length, width, chances, by_hand)
        drafts.learn(len(drafted), len(ids) - length - 1)
    if isinstance(drafts, (Assistant, Translator)) and _setting(call, "num_assistant_tokens_schedule") == "heuristic":
        call.assistant.generation_config.num_assistant_tokens = drafts.count
    if not settings.return_dict_in_generate:
        return {"sequences": ids[None]}
    cache = Cache.of(decoding.state, length - 1, decoding.fixed["source"])
    return {"sequences": ids[None], **collected.outputs(), "past_key_values": cache}


def _stops(call: Call, ids: np.ndarray) -> bool:
    """Whether the text ends here."""
    return ids[-1] in (call.eos or ()) or bool(call.criteria and call.criteria(ids[None], None).any())


def _begin(decoding: WindowDecoding, by_hand: bool) -> tuple[np.ndarray, list[tuple]]:
    """The prompt and the first token, and what is to be collected of it."""
    programs, fixed, seen = decoding.programs, decoding.fixed, []
    if by_hand:
        logits, records, state, fixed["source"] = programs.prefill(*decoding._first_inputs())
        pick = programs.pick if programs.processors.compiled else programs._pick
        state, scores = pick(state, logits, fixed)
        seen = [(state, logits, scores, records)]
    else:
        state, fixed["source"], _ = programs.start(*decoding._first_inputs())
    decoding.state = state
    return ops.convert_to_numpy(state["ids"])[0, : decoding.length + 1].copy(), seen


def _round(
    decoding: WindowDecoding, ids: np.ndarray, length: int, width: int, chances: Any, by_hand: bool
) -> tuple[np.ndarray, list[tuple]]:
    """The tokens after one more round, and what is to be collected of those that are new.

    Args:
        ids: the tokens so far, of which the first `length` are certain; the others are drafted.
        width: how many tokens to read at once.
        chances: see `CheckPrograms.accept`.
    """
    programs, fixed, steps = decoding.programs, decoding.fixed, []
    decoding.load(ids, length)
    tokens, start = decoding.window(ids, length - 1, width)
    count = runtime.number(len(ids) - length)
    if by_hand:
        end, judged = runtime.number(len(ids)), []
        logits, records, state = programs.window(decoding.state, tokens, start, end, fixed)
        state = programs.accept(state, logits, start, count, chances, fixed, while_loop, judged)
        for index, seen in enumerate(judged):
            at = length - 1 + index - int(start)
            own = {name: tuple(each[..., at : at + 1, :] for each in layers) for name, layers in records.items()}
            steps.append(({"length": length + 1 + index}, *seen, own))
    else:
        state = programs.check(decoding.state, tokens, start, count, chances, fixed)
    decoding.state = state
    return ops.convert_to_numpy(state["ids"])[0, : int(state["length"])].copy(), steps
