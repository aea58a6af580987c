"""Whisper's `generate`: a window of sound after the other becomes tokens (arXiv:2212.04356, sections 2 and 3.8).

A window is as long as the encoder listens. Where there are timestamps, the next window begins at the last of them;
without any, a sound is a single window. Each window's tokens are found as those of other models are.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from keras import ops

from keras_models import runtime
from keras_models.generation import whisper_prompts as prompts
from keras_models.generation.config import GenerationConfig
from keras_models.generation.decoding import Prompt
from keras_models.generation.generate import OUTPUTS, call_settings, check_arguments, mode, resolve
from keras_models.generation.processors import LogitsProcessor
from keras_models.generation.streamers import failures_told
from keras_models.generation.whisper_hearing import STRIDE, Ears, Sound, detect_language
from keras_models.generation.whisper_processors import Measured, WhisperTimeStampLogitsProcessor
from keras_models.generation.whisper_timing import token_timestamps
from keras_models.outputs import ModelOutput
from keras_models.training.heads import to_array

THRESHOLDS = ("compression_ratio_threshold", "logprob_threshold", "no_speech_threshold")
PER_STEP = ("scores", "logits")
RECORDS = ("decoder_attentions", "cross_attentions", "decoder_hidden_states")
PER_LAYER = ("encoder_attentions", "encoder_hidden_states")


def generate(
    model: Any,
    input_features: Any = None,
    generation_config: GenerationConfig | None = None,
    *,
    attention_mask: Any = None,
    language: str | Sequence[str] | None = None,
    task: str | None = None,
    is_multilingual: bool | None = None,
    return_timestamps: bool | None = None,
    return_token_timestamps: bool | None = None,
    num_frames: Any = None,
    return_segments: bool = False,
    return_dict_in_generate: bool | None = None,
    prompt_ids: Any = None,
    prompt_condition_type: str | None = None,
    condition_on_prev_tokens: bool | None = None,
    temperature: float | Sequence[float] | None = None,
    compression_ratio_threshold: float | None = None,
    logprob_threshold: float | None = None,
    no_speech_threshold: float | None = None,
    time_precision: float = 0.02,
    time_precision_features: float = 0.01,
    force_unique_generate_call: bool | None = None,
    monitor_progress: Callable[[np.ndarray], None] | None = None,
    use_model_defaults: bool | None = None,
    seed: int | None = None,
    logits_processor: Sequence[Callable] = (),
    stopping_criteria: Sequence[Callable] = (),
    prefix_allowed_tokens_fn: Callable[[int, Any], Sequence[int]] | None = None,
    streamer: Any = None,
    tokenizer: Any = None,
    assistant_model: Any = None,
    assistant_tokenizer: Any = None,
    **kwargs: Any,
) -> np.ndarray | ModelOutput:
    """Writes down what is said; see `WhisperForConditionalGeneration.generate`."""
    with failures_told(streamer):
        seed = np.random.randint(2**31) if seed is None else seed
        check_arguments(seed, streamer, logits_processor, stopping_criteria, prefix_allowed_tokens_fn)
        settings, given = call_settings(model, generation_config, use_model_defaults, kwargs)
        settings.check_call(streamer=streamer, assistant_model=assistant_model, tokenizer=tokenizer)
        sound = Sound.of(model, input_features, attention_mask, given)
        if streamer is not None and sound.batch > 1:
            raise ValueError(f"A streamer follows one sound, not a batch of {sound.batch}: stream them in turn.")
        if assistant_model is not None:
            if "decoder_input_ids" in given:
                raise ValueError("An assistant reads prompt_ids, not decoder_input_ids: pass these.")
            settings.begin_suppress_tokens = None  # it may find an end at once
        if return_dict_in_generate is not None:
            settings.return_dict_in_generate = return_dict_in_generate
        if temperature is None:
            temperature = settings.temperature if settings.do_sample else 0.0
        thresholds = (compression_ratio_threshold, logprob_threshold, no_speech_threshold)
        _take_times(settings, model.config, sound, return_timestamps, return_token_timestamps)
        _take_thresholds(settings, model.config, thresholds)
        _take_conditions(settings, condition_on_prev_tokens, prompt_condition_type)
        if force_unique_generate_call is not None:
            settings.extra["force_unique_generate_call"] = force_unique_generate_call
        prompts.take_wishes(settings, model.config, language, task, is_multilingual)
        ears = Ears(model, settings)
        starts = prompts.first_tokens(
            settings, model.config, sound.batch, lambda: detect_language(model, ears, sound, settings)
        )
        times, settings.num_return_sequences = settings.num_return_sequences, 1
        frames = sound.mask_lengths if num_frames is None else to_array("num_frames", num_frames).reshape(-1)
        transcription = Transcription(
            model=model,
            settings=settings,
            ears=ears,
            sound=sound.repeated(times),
            starts=np.repeat(starts, times, axis=0),
            temperatures=[each or 0.0 for each in np.ravel(temperature).tolist()],
            seeds=np.random.default_rng(int(seed)),
            prompt_ids=None if prompt_ids is None else _tokens("prompt_ids", prompt_ids)[0],
            decoder_input_ids=_tokens("decoder_input_ids", given.get("decoder_input_ids")),
            reads_prompt=bool(condition_on_prev_tokens),
            precision=time_precision,
            frame_precision=time_precision_features,
            frames=None if frames is None else np.repeat(np.broadcast_to(frames, (sound.batch,)), times),
            progress=monitor_progress,
            processors=list(logits_processor or ()),
            arguments={
                "tokenizer": tokenizer,
                "stopping_criteria": stopping_criteria,
                "prefix_allowed_tokens_fn": prefix_allowed_tokens_fn,
                "streamer": streamer,
                "assistant": assistant_model,
                "assistant_tokenizer": assistant_tokenizer,
            },
        )
        transcription.run()
        return transcription.result(return_segments)


def _take_times(settings: GenerationConfig, config: Any, sound: Sound, stamps: bool | None, of_tokens: bool | None):
    """Puts among the settings what times are to be found.

    Raises:
        ValueError: a long sound is to have none, or the settings lack what finding them needs.
    """
    extra = settings.extra
    stamps = extra.get("return_timestamps") if stamps is None else stamps
    if sound.is_long and stamps is False:
        raise ValueError(
            f"A sound of {sound.frames} frames is longer than the {sound.window} that Whisper listens to at once, and "
            "timestamps tell its parts apart: pass return_timestamps=True, or a shorter sound."
        )
    extra["return_timestamps"] = bool(stamps) or sound.is_long
    if extra["return_timestamps"]:
        prompts.needed(settings, config, "no_timestamps_token_id", "return_timestamps=True")
    extra["return_token_timestamps"] = bool(of_tokens)
    if of_tokens and extra.get("alignment_heads") is None:
        raise ValueError(
            "generation_config has no alignment_heads, which return_token_timestamps=True needs: set "
            "model.generation_config.alignment_heads to pairs of a layer and a head, as the generation_config.json of "
            "the checkpoint's release has them."
        )


def _take_thresholds(settings: GenerationConfig, config: Any, values: Sequence[float | None]):
    """Puts thresholds among the settings; ValueError where one of them needs another."""
    extra = settings.extra
    for name, value in zip(THRESHOLDS, values, strict=True):
        extra[name] = extra.get(name) if value is None else value
    if extra["no_speech_threshold"] is not None:
        prompts.needed(settings, config, "no_timestamps_token_id", "no_speech_threshold")
        if extra["logprob_threshold"] is None:
            raise ValueError("no_speech_threshold tells silence only beside logprob_threshold: set both.")


def _take_conditions(settings: GenerationConfig, reads: bool | None, kind: str | None):
    """Puts among the settings what windows read of those before them; ValueError where that makes no sense."""
    extra, kind = settings.extra, kind or prompts.CONDITIONS[0]
    extra["condition_on_prev_tokens"] = bool(extra.get("condition_on_prev_tokens") if reads is None else reads)
    extra["prompt_condition_type"] = kind
    if kind not in prompts.CONDITIONS:
        known = " or ".join(map(repr, prompts.CONDITIONS))
        raise ValueError(f"prompt_condition_type must be {known}, not {kind!r}.")
    if kind == "all-segments" and not extra["condition_on_prev_tokens"]:
        raise ValueError("prompt_condition_type='all-segments' needs condition_on_prev_tokens=True: set it.")


def _tokens(name: str, values: Any) -> np.ndarray | None:
    """Tokens (rows, length)."""
    return None if values is None else np.atleast_2d(to_array(name, values)).astype("int32")


# ---------------------------------------------------------------------------------------------------- transcribing


@dataclass
class Found:
    """What a window of one sound says."""

    tokens: np.ndarray  # without prompt, end and padding
    result: dict[str, Any]  # all that the search has found
    place: int  # of the sound in `result`
    prompt: int  # how many tokens of it are the prompt's
    skipped: bool = False  # as silence
    conditions: bool = False  # whether the next window is to read it

    def part(self) -> dict[str, Any] | np.ndarray:
        """What `result` holds of this sound."""
        if set(self.result) == {"sequences"}:
            return self.result["sequences"][self.place]
        beams = self.result.get("beam_indices")
        each = 1 if beams is None else _rows(self.result) // len(beams)
        part = {}
        for name, value in self.result.items():
            if name in PER_STEP:
                rows = [self.place] * len(value) if beams is None else beams[self.place]
                part[name] = [step[row] for step, row in zip(value, rows, strict=False) if row >= 0]
            elif name in PER_LAYER:
                part[name] = [layer[self.place] for layer in value]
            elif name in RECORDS:
                row = slice(self.place * each, self.place * each + 1)
                part[name] = tuple(tuple(layer[row] for layer in step) for step in value)
            elif name != "past_key_values":
                part[name] = value[self.place]
        return ModelOutput(part)


def _rows(result: dict[str, Any]) -> int:
    """How many rows a search has gone on with, if it tells."""
    steps = [result[name][0] for name in PER_STEP if name in result]
    steps += [result[name][0][0] for name in RECORDS if name in result]
    return len(steps[0]) if steps else len(result["beam_indices"])


@dataclass
class Transcription:
    """A call of `generate`, all wishes resolved."""

    model: Any
    settings: GenerationConfig
    ears: Ears
    sound: Sound
    starts: np.ndarray  # (batch, tokens), see `prompts.first_tokens`
    temperatures: list[float]
    seeds: np.random.Generator
    prompt_ids: np.ndarray | None
    decoder_input_ids: np.ndarray | None  # of the first window
    reads_prompt: bool  # whether the first window reads the prompt as what was said before it
    precision: float  # seconds for each timestamp
    frame_precision: float  # seconds for each frame
    frames: np.ndarray | None  # (batch,), which count for the times of tokens
    progress: Callable[[np.ndarray], None] | None
    processors: list[Any]  # a user's
    arguments: dict[str, Any]  # of `resolve`
    segments: list[list[dict[str, Any]]] = field(default_factory=list)
    last: list[Found] = field(default_factory=list)

    def __post_init__(self):
        self.segments = [[] for _ in range(self.sound.batch)]
        silent = self.settings.extra.get("no_timestamps_token_id")
        self.stamps = self.model.config.vocab_size + 1 if silent is None else silent + 1
        opens = self.settings.extra.get("prev_sot_token_id")
        if opens is None and len(self.settings.suppress_tokens or ()) >= 2:
            opens = self.settings.suppress_tokens[-2]
        self.opening = np.array([] if opens is None else [opens], "int32")
        self.spoken = None  # what counts as the first segment
        if self.prompt_ids is not None:
            if self.settings.extra["prompt_condition_type"] == "first-segment":
                begins = opens is not None and self.prompt_ids[:1].tolist() == [opens]
                self.spoken = self.prompt_ids[1:] if begins else self.prompt_ids
            else:
                self.opening = self.prompt_ids
        eos, pad = self.settings.eos_token_id, self.settings.pad_token_id
        self.ends = [] if eos is None else np.ravel(eos).tolist()
        self.pad = (self.ends[0] if self.ends else 0) if pad is None else pad
        python = [*self.processors, *(self.arguments["stopping_criteria"] or ())]
        python += [
            each for each in map(self.arguments.get, ("prefix_allowed_tokens_fn", "streamer")) if each is not None
        ]
        compiled = all(isinstance(each, LogitsProcessor) and each.compiled for each in python)
        self.keeps_batch = compiled and not runtime.CACHE_IN_PLACE  # so that no other shape is compiled

    @property
    def is_one(self) -> bool:
        """Whether there is one window alone, of which all tokens are returned."""
        return bool(self.settings.extra.get("force_unique_generate_call"))

    def run(self):
        """Listens to the end of all sounds."""
        sound = self.sound
        seek, ends = np.zeros(sound.batch, "int64"), sound.lengths.astype("int64")
        conditioned = [self.reads_prompt] * sound.batch
        while (seek < ends).any():
            if self.progress is not None:
                self.progress(np.stack([seek, ends], axis=1))
            rows = [row for row in range(sound.batch) if seek[row] < ends[row]]
            lengths = np.minimum(ends - seek, sound.window)
            features = sound.cut(rows, seek, seek + lengths)
            tokens, mask = self.prompt(rows, conditioned)
            frames = None if self.frames is None else (self.frames - seek)[rows]
            self.last = self.window(features, tokens, mask, frames)
            for row, found in zip(rows, self.last, strict=True):
                conditioned[row] = found.conditions
                if found.skipped:
                    seek[row] += lengths[row]
                else:
                    seek[row] += self.add_segments(row, found, seek[row], lengths[row])
            if self.is_one or features is None:
                break

    def prompt(self, rows: list[int], conditioned: list[bool]) -> tuple[np.ndarray, np.ndarray | None]:
        """What the decoder reads first for these sounds, and its mask.

        Raises:
            ValueError: it leaves no room for new tokens.
        """
        before, most = None, self.model.max_length // 2 - 1
        if any(conditioned[row] and (self.segments[row] or self.spoken is not None) for row in rows):
            before = [self._said(row) if conditioned[row] else [] for row in rows]
        if self.decoder_input_ids is not None:
            tokens, mask = np.broadcast_to(self.decoder_input_ids, (len(rows), self.decoder_input_ids.shape[1])), None
            self.decoder_input_ids = None
        else:
            tokens, mask = prompts.with_previous(
                self.starts[rows], before, self.prompt_ids, self.opening, self.pad, most
            )
        new, room = self.settings.max_new_tokens or 0, self.model.max_length
        if tokens.shape[1] + new > room:
            raise ValueError(
                f"The decoder has {room} positions, which {tokens.shape[1]} tokens of the prompt and "
                f"max_new_tokens={new} exceed: shorten the prompt, or lower max_new_tokens to {room - tokens.shape[1]}."
            )
        return tokens.astype("int32"), mask

    def _said(self, row: int) -> list[np.ndarray]:
        """The tokens of all segments of a sound, with one timestamp at the end where there are two."""
        said = [] if self.spoken is None else [self.spoken]
        for segment in self.segments[row]:
            tokens = segment["tokens"]
            said.append(tokens[:-1] if len(tokens) > 2 and tokens[-2] >= self.stamps else tokens)
        return said

    def window(
        self, features: np.ndarray | None, tokens: np.ndarray, mask: np.ndarray | None, frames: np.ndarray | None
    ) -> list[Found]:
        """What a window of each sound says, found with the first temperature at which nothing speaks against it.

        Args:
            features: (sounds, mels, frames).
            tokens, mask: what the decoder reads first, (sounds, length).
            frames: (sounds,), see `token_timestamps`.
        """
        count, extra = len(tokens), self.settings.extra
        width = self.sound.batch if self.keeps_batch else count
        if features is None:
            heard = ModelOutput(self.sound.outputs)
        else:
            heard = self.ears.listen(features[_filled(range(count), width)])
        silence = None
        if extra["no_speech_threshold"] is not None:
            silence = self._silence(heard["last_hidden_state"], tokens, mask, width)
        found: list[Any] = [None] * count
        pending = list(range(count))
        for attempt, temperature in enumerate(self.temperatures):
            places = _filled(pending, width)
            states = heard["last_hidden_state"]
            if places != list(range(states.shape[0])):
                states = ops.take(ops.convert_to_tensor(states), np.array(places, "int32"), axis=0)
            masks = None if mask is None else mask[places]
            sounds = None if features is None else features[places]
            result = self.decode(states, tokens[places], masks, temperature, sounds)
            if self.settings.extra["return_token_timestamps"]:
                real = None if frames is None else frames[places]
                result["token_timestamps"] = self._times(result["sequences"], tokens.shape[1], states, masks, real)
            for old, new in (("hidden_states", "encoder_hidden_states"), ("attentions", "encoder_attentions")):
                if self.settings.return_dict_in_generate and heard.get(old) is not None:
                    result[new] = tuple(ops.convert_to_numpy(each)[places] for each in heard[old])
            retried = []
            for place, index in enumerate(pending):
                entry = Found(
                    self._spoken(result["sequences"][place, tokens.shape[1] :]), result, place, tokens.shape[1]
                )
                doubtful, entry.skipped = self._judge(entry, None if silence is None else silence[index], temperature)
                if entry.tokens.size and entry.tokens[-1] in self.ends:
                    entry.tokens = entry.tokens[:-1]
                entry.conditions = extra["condition_on_prev_tokens"] and temperature < 0.5
                found[index] = entry
                retried += [index] if doubtful else []
            pending = retried
            if not pending or attempt == len(self.temperatures) - 1:
                break
        for entry in found:
            entry.result.pop("log_probabilities", None)
        return found

    def decode(
        self, states: Any, tokens: np.ndarray, mask: np.ndarray | None, temperature: float, features: np.ndarray | None
    ) -> dict[str, Any]:
        """What one search finds."""
        settings = copy.copy(self.settings)
        settings.__dict__["extra"] = dict(settings.extra)
        settings.do_sample, settings.temperature = temperature > 0, temperature or 1.0
        if settings.do_sample:
            settings.num_beams = settings.num_beam_groups = 1
        processors = list(self.processors)
        if settings.extra["return_timestamps"]:
            processors.insert(0, WhisperTimeStampLogitsProcessor(settings, tokens.shape[1]))
        kind = settings.generation_mode(self.arguments["assistant"])
        measured = settings.extra["logprob_threshold"] is not None
        simple = kind in ("greedy_search", "sample")
        if measured and not simple:
            settings.return_dict_in_generate = settings.output_scores = True
        prompt = Prompt(tokens, None if mask is None or mask.all() else mask, {}, states, None, states.shape[1])
        call = resolve(
            self.model, settings, prompt, {}, settings.special_tokens(True),
            {} if features is None else {"input_features": features}, logits_processor=processors,
            seed=int(self.seeds.integers(2**31)), **self.arguments,
        )  # fmt: skip
        if measured and simple:
            call.search, call.numbers = Measured(settings.do_sample), {"temperature": settings.temperature}
        if call.streamer is not None:
            call.streamer.put(tokens)
        result = mode(kind)(call)
        if call.streamer is not None:
            call.streamer.end()
        if not self.settings.use_cache:
            result.pop("past_key_values", None)
        return {name: value for name, value in result.items() if value is not None}

    def _spoken(self, tokens: np.ndarray) -> np.ndarray:
        """New tokens without padding; one stays where padding looks like an end."""
        count = int((tokens == self.pad).sum()) if tokens[-1] == self.pad else 0
        count -= bool(count and self.pad in self.ends)
        return tokens[: len(tokens) - count]

    def _silence(self, states: Any, tokens: np.ndarray, mask: np.ndarray | None, width: int) -> np.ndarray:
        """How likely it is that nothing is said, (sounds,)."""
        places = _filled(range(len(tokens)), width)
        start = tokens.shape[1] - self.starts.shape[1]
        logits = self.ears.logits(states, tokens[places], None if mask is None else mask[places], start)
        logits = logits - logits.max(axis=-1, keepdims=True)
        chances = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        return chances[:, self.settings.extra["no_timestamps_token_id"] - 1]

    def _judge(self, found: Found, silence: float | None, temperature: float) -> tuple[bool, bool]:
        """Whether a higher temperature should be tried, and whether the window is to be skipped."""
        extra, tokens = self.settings.extra, found.tokens
        doubtful = False
        if extra["compression_ratio_threshold"] is not None:
            doubtful = compression_ratio(tokens, self.model.config.vocab_size) > extra["compression_ratio_threshold"]
        if extra["logprob_threshold"] is None:
            return doubtful, False
        if "log_probabilities" in found.result:
            mean = found.result["log_probabilities"][found.place] / len(tokens)
        else:
            scores = np.stack(found.part()["scores"][: len(tokens)]) * (temperature or 1.0)
            exact = scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True)
            mean = exact[np.arange(len(scores)), tokens[-len(scores) :]].mean()
        unlikely = mean < extra["logprob_threshold"]
        if unlikely and silence is not None and silence > extra["no_speech_threshold"]:
            return False, True
        return doubtful or bool(unlikely), False

    def _times(
        self, sequences: np.ndarray, prompt: int, states: Any, mask: np.ndarray | None, frames: np.ndarray | None
    ) -> np.ndarray:
        """When each token is said, (sounds, length)."""
        if mask is not None:
            more = sequences.shape[1] - mask.shape[1] - 1
            mask = np.pad(mask, [(0, 0), (0, more)], constant_values=1)
        heads = self.settings.extra["alignment_heads"]
        weights = self.ears.attention(states, sequences[:, :-1], mask, heads)[:, :, prompt:]
        return token_timestamps(weights, frames, prompt, self.model.config.median_filter_width)

    def add_segments(self, row: int, found: Found, seek: int, length: int) -> int:
        """Adds what a window says to the segments of a sound; returns by how many frames to go on."""
        offset = seek * self.precision / STRIDE
        pieces, advance = split(found.tokens, self.stamps, length, self.precision, self.frame_precision)
        part = found.part()
        for first, last, start, end in pieces:
            segment = {
                "start": offset + start, "end": offset + end, "tokens": found.tokens[first:last],
                "idxs": (found.prompt + first, found.prompt + last), "result": part,
            }  # fmt: skip
            if self.settings.extra["return_token_timestamps"]:
                segment["token_timestamps"] = part["token_timestamps"][slice(*segment["idxs"])] + np.float32(offset)
            self.segments[row].append(segment)
        return advance if advance > 0 else length

    def result(self, wants_segments: bool) -> np.ndarray | ModelOutput:
        """What `generate` returns."""
        wants_all = self.settings.return_dict_in_generate
        if wants_all and (self.is_one or not self.settings.extra["return_timestamps"]):
            return self._all_outputs()
        if self.is_one:
            found = self._all_outputs()
            sequences, times = found["sequences"], found.get("token_timestamps")
        else:
            sequences = _stacked([[each["tokens"] for each in row] for row in self.segments], self.pad, "int32")
            times = None
            if self.settings.extra["return_token_timestamps"]:
                cuts = [
                    [each["result"]["token_timestamps"][slice(*each["idxs"])] for each in row] for row in self.segments
                ]
                times = _stacked(cuts, None, "float32")
        if not (wants_all or wants_segments or self.settings.extra["return_token_timestamps"]):
            return sequences
        outputs = ModelOutput(sequences=sequences)
        if times is not None:
            outputs["token_timestamps"] = times
        if wants_all or wants_segments:
            outputs["segments"] = self.segments
        return outputs

    def _all_outputs(self) -> ModelOutput:
        """The outputs of the only window, prompts included, as other models return them."""
        parts = [found.part() for found in self.last]
        parts = [part if isinstance(part, dict) else {"sequences": part} for part in parts]
        outputs = {}
        for name in (*OUTPUTS, "token_timestamps"):
            values = [part[name] for part in parts if name in part]
            if not values:
                continue
            if name in PER_STEP or name in PER_LAYER:
                outputs[name] = tuple(np.stack(each) for each in zip(*values, strict=False))
            elif name in RECORDS:
                steps = zip(*values, strict=False)
                outputs[name] = tuple(
                    tuple(np.concatenate(layers) for layers in zip(*step, strict=True)) for step in steps
                )
            else:
                outputs[name] = (
                    np.stack(values) if np.ndim(values[0]) == 0 else _stacked([[each] for each in values], self.pad)
                )
        first = self.last[0].result
        if all(found.result is first for found in self.last) and len(first["sequences"]) == len(self.last):
            outputs |= {name: first[name] for name in ("past_key_values",) if name in first}
        return ModelOutput(outputs)


def _filled(places: Sequence[int], width: int) -> list[int]:
    """Places, the last of them again until there are so many."""
    places = list(places)
    return places + places[-1:] * (width - len(places))


def _stacked(rows: list[list[np.ndarray]], pad: int | None, dtype: str | None = None) -> np.ndarray:
    """Rows of pieces as one array, filled up on the right with `pad`, or with a row's last number."""
    joined = [np.concatenate(pieces) if pieces else np.zeros(0) for pieces in rows]
    width = max(map(len, joined))
    filled = []
    for row in joined:
        value = pad if pad is not None else (row[-1] if len(row) else 0.0)
        filled.append(np.pad(row, (0, width - len(row)), constant_values=value))
    return np.stack(filled).astype(dtype or joined[0].dtype)


def compression_ratio(tokens: np.ndarray, vocab_size: int) -> float:
    """How much shorter the tokens become when compressed: repetitions do by far."""
    size = int(np.log2(vocab_size) / 8) + 1
    content = b"".join(int(token).to_bytes(size, "little") for token in tokens)
    return len(content) / len(zlib.compress(content))


def split(
    tokens: np.ndarray, stamps: int, length: int, precision: float, frame_precision: float
) -> tuple[list[tuple[int, int, float, float]], int]:
    """The segments of a window's tokens, as timestamps tell, and the frames after which to go on.

    Args:
        tokens: (n,).
        stamps: the first token that is a timestamp.
        length: of the window, in frames.
        precision, frame_precision: seconds for each timestamp and for each frame.

    Returns:
        Where each segment begins and ends among the tokens, and in seconds; and the frames.
    """
    is_stamp = tokens >= stamps
    pairs = (np.flatnonzero(is_stamp[:-1] & is_stamp[1:]) + 1).tolist()
    if not pairs:
        end = int(length * frame_precision / precision)
        if is_stamp.any() and tokens[is_stamp][-1] != stamps:
            end = int(tokens[is_stamp][-1]) - stamps
        return [(0, len(tokens), 0.0, end * precision)], int(length)
    ended = is_stamp[-2:].tolist() == [False, True]  # nothing is said behind a single timestamp at the end
    cuts = [*pairs, len(tokens)] if ended else [*pairs[:-1], pairs[-1] + 1]
    pieces = []
    for first, last in zip([0, *cuts[:-1]], cuts, strict=True):
        closing = last - 2 if last == cuts[-1] and not ended else last - 1
        start, end = (int(tokens[place]) - stamps for place in (first, closing))
        pieces.append((first, last, start * precision, end * precision))
    # Without an end, what is behind the last pair is cut off in its middle: it is heard again.
    advance = int(length) if ended else (int(tokens[cuts[-1] - 2]) - stamps) * STRIDE
    return pieces, advance
