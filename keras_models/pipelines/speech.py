"""Speech to text: models that label frames (CTC), and Whisper, which writes."""

from __future__ import annotations

import inspect
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from keras_models.generation.config import GenerationConfig
from keras_models.generation.whisper import generate as generate_whisper
from keras_models.model import PreTrainedModel
from keras_models.pipelines.audio import AudioPipeline
from keras_models.pipelines.base import Row, on_device
from keras_models.pipelines.generation import GeneratingPipeline
from keras_models.results import SoundResult


class AutomaticSpeechRecognitionPipeline(AudioPipeline):
    """Writes down what is said in a sound of any length.

    Options:
        return_timestamps: with a CTC model "char" or "word", with Whisper "word" or True for segments: adds "chunks", a
            list of {"text", "timestamp": (start, end)} in seconds.
        chunk_length_s: cut sounds into chunks of so many seconds, which go through the model in batches of
            `batch_size`; 0, the default, for the whole sound at once. Whisper then goes through it window by window.
        stride_length_s: how much of a chunk's two ends, one number or (left, right), only serves as context for its
            middle; a sixth of the chunk by default.
        return_language: with Whisper, add "language" to chunks.
        language, task, temperature, num_beams ...: whatever Whisper's `generate` takes; by default there are five beams
            and at most 256 tokens for a window, unless the model has a `max_length` of its own.
        generate_kwargs: a dictionary of such settings.
        ignore_warning: True for no warning where chunks and Whisper do not go well together.

    A dictionary as input may also have "stride", the number of samples on the left and on the right that are context
    only, and further entries, which are added to the result as lists; see `microphone` and `pcm_chunks`.

    Returns {"text"} and what the options ask for. It draws itself, and saves itself as subtitles.
    """

    parts = ("tokenizer", "feature_extractor")
    heads = ("ctc", "speech-seq2seq")
    stamps: ClassVar[tuple[Any, ...]] = ()  # the kinds of timestamps there are

    def __new__(cls, model: PreTrainedModel, *args: Any, **options: Any):
        if cls is AutomaticSpeechRecognitionPipeline:
            can_generate = isinstance(model, PreTrainedModel) and model.can_generate()
            cls = WhisperPipeline if can_generate else CTCPipeline
        return super().__new__(cls)

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        stamps = options.get("return_timestamps")
        if stamps and stamps not in self.stamps:
            known = " or ".join(map(repr, self.stamps))
            raise ValueError(
                f"return_timestamps={stamps!r} is not for {type(self.model).__name__}: pass {known}, or None."
            )
        for name in ("chunk_length_s", "stride_length_s"):
            values = np.ravel(options.get(name) or 0)
            if values.dtype.kind not in "iuf" or len(values) > 2 or (values < 0).any():
                raise ValueError(f"{name} must be a number of seconds, 0 or more, not {options[name]!r}.")
        return super().check(options)

    def preprocess(
        self, item: Any, *, chunk_length_s: float = 0, stride_length_s: float | tuple[float, float] | None = None
    ) -> Iterator[Row]:
        facts, stride = {}, None
        if isinstance(item, Mapping):
            known = ("array", "raw", "sampling_rate", "stride", "path")
            facts = {name: value for name, value in item.items() if name not in known}
            stride = item.get("stride")
        samples = self.read(item)
        if stride is not None:
            ratio = self.sampling_rate / item["sampling_rate"]
            stride = tuple(round(each * ratio) for each in stride)
            if sum(stride) > len(samples):
                raise ValueError(f"stride={item['stride']} leaves nothing of {len(samples)} samples: make it smaller.")
        if not chunk_length_s:
            yield self.whole_row(samples, stride, facts)
            return
        for chunk, *ends in self._chunks(samples, chunk_length_s, stride_length_s):
            yield self.part_row(chunk, tuple(ends), facts)

    def _chunks(self, samples: np.ndarray, seconds: float, context: Any) -> Iterator[tuple[np.ndarray, int, int]]:
        """(samples, how many on the left, and on the right, are context only) for each chunk."""
        context = np.broadcast_to(seconds / 6 if context is None else context, 2)
        unit = self.frame_samples
        length, left, right = (round(each * self.sampling_rate / unit) * unit for each in (seconds, *context))
        step = length - left - right
        if step <= 0:
            raise ValueError(
                f"stride_length_s={tuple(map(float, context))} leaves nothing of chunks of {seconds} s: pass less."
            )
        for start in range(0, len(samples), step):
            chunk, is_last = samples[start : start + length], start + length >= len(samples)
            before = left if start else 0
            if len(chunk) > before:
                yield chunk, before, 0 if is_last else right
            if is_last:
                return

    @property
    def frame_samples(self) -> int:
        """How many samples the model makes one output of, which chunks are aligned to."""
        return 1

    def whole_row(self, samples: np.ndarray, stride: tuple[int, int] | None, facts: dict[str, Any]) -> Row:
        """The row of a sound that is not cut."""
        return self.part_row(samples, stride, facts)

    def part_row(self, samples: np.ndarray, stride: tuple[int, int] | None, facts: dict[str, Any]) -> Row:
        """The row of a chunk."""
        size = None if stride is None else (len(samples), *stride)
        return self.sound_row(samples, {"stride": size, "facts": facts}, return_attention_mask=True)

    @staticmethod
    def result(item: Any, rows: list[Row], text: str, **others: Any) -> SoundResult:
        """The result, with what the input's dictionary had besides."""
        facts = defaultdict(list)
        for row in rows:
            for name, value in row.facts["facts"].items():
                facts[name].append(value)
        return SoundResult({"text": text, **others, **facts}, source=item)


class CTCPipeline(AutomaticSpeechRecognitionPipeline):
    """Speech to text with a model that labels each frame (https://www.cs.toronto.edu/~graves/icml_2006.pdf)."""

    stamps = ("char", "word")

    @property
    def frame_samples(self) -> int:
        return self.model.config.inputs_to_logits_ratio

    def postprocess(
        self, item: Any, rows: list[Row], *, return_timestamps: str | None = None, ignore_warning: bool = False
    ) -> SoundResult:
        tokens = np.concatenate([self._own_tokens(row) for row in rows])
        if not return_timestamps:
            return self.result(item, rows, self.tokenizer.decode(tokens, skip_special_tokens=False))
        word = return_timestamps == "word"
        found = self.tokenizer.decode(
            tokens, skip_special_tokens=False, output_char_offsets=not word, output_word_offsets=word
        )
        seconds = self.frame_samples / self.sampling_rate
        chunks = [
            {
                "text": each[return_timestamps],
                "timestamp": (each["start_offset"] * seconds, each["end_offset"] * seconds),
            }
            for each in (found.word_offsets if word else found.char_offsets)
        ]
        return self.result(item, rows, found.text, chunks=chunks)

    def _own_tokens(self, row: Row) -> np.ndarray:
        """The likeliest token of each frame that is no context."""
        tokens = row.outputs["logits"].argmax(axis=-1)
        if row.facts["stride"] is None:
            return tokens
        samples, left, right = row.facts["stride"]
        frames = round(samples / self.frame_samples)
        left, right = (round(each / samples * frames) for each in (left, right))
        return tokens[left : frames - right]


class WhisperPipeline(AutomaticSpeechRecognitionPipeline, GeneratingPipeline):
    """Speech to text with Whisper (https://arxiv.org/abs/2212.04356)."""

    stamps = (True, "word")
    own = frozenset(
        name for name, each in inspect.signature(generate_whisper).parameters.items() if each.kind == each.KEYWORD_ONLY
    ) - {"return_timestamps", "return_token_timestamps", "return_segments", "return_dict_in_generate"}
    settings = GeneratingPipeline.settings | own
    defaults = {"max_new_tokens": 256, "num_beams": 5}

    def prepare(self):
        kept = {name: self.options.pop(name) for name in list(self.options) if name in self.own}
        super().prepare()
        self.options |= kept

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        if options.get("chunk_length_s") and not options.get("ignore_warning"):
            warnings.warn(
                "chunk_length_s cuts words, and Whisper takes long sounds without it: leave it out, or pass "
                "ignore_warning=True."
            )
        own = {name: options.pop(name) for name in list(options) if name in self.own}
        if options.get("return_timestamps") is None:
            options["return_timestamps"] = getattr(self.generation_config, "return_timestamps", None)
        return {**super().check(options), **own}

    def whole_row(self, samples: np.ndarray, stride: tuple[int, int] | None, facts: dict[str, Any]) -> Row:
        if len(samples) <= self.feature_extractor.n_samples:
            return self.part_row(samples, stride, facts)
        row = self.sound_row(samples, truncation=False, padding="longest", return_attention_mask=True)
        return Row(row.inputs, {"stride": None, "facts": facts})

    def forward(
        self,
        rows: list[Row],
        *,
        generation_config: GenerationConfig,
        seed: Iterator[int] | None = None,
        return_timestamps: bool | str | None = None,
        **arguments: Any,
    ):
        """Writes down rows as batches, and gives each its tokens."""
        if return_timestamps:
            arguments["return_timestamps"] = True
        if return_timestamps == "word":
            arguments |= {"return_token_timestamps": True, "return_segments": True}
        window = self.feature_extractor.nb_max_frames
        for same in filter(None, ([row for row in rows if (_frames(row) > window) is long] for long in (False, True))):
            frames = max(map(_frames, same))
            inputs = {name: np.stack([_filled(row.inputs[name], frames) for row in same]) for name in same[0].inputs}
            with on_device(self.device):
                found = self.model.generate(
                    **inputs, generation_config=generation_config, seed=None if seed is None else next(seed),
                    **arguments,
                )  # fmt: skip
            for index, row in enumerate(same):
                row.outputs = _outputs_of(found, index)

    def postprocess(
        self,
        item: Any,
        rows: list[Row],
        *,
        return_timestamps: bool | str | None = None,
        return_language: bool | None = None,
        ignore_warning: bool = False,
    ) -> SoundResult:
        outputs = []
        for row in rows:
            stride = row.facts["stride"]
            seconds = {} if stride is None else {"stride": tuple(each / self.sampling_rate for each in stride)}
            outputs.append({**row.outputs, **seconds})
        text, others = self.tokenizer.decode_chunks(
            outputs,
            return_timestamps=return_timestamps,
            return_language=return_language,
            time_precision=self.feature_extractor.chunk_length / self.model.config.max_source_positions,
        )
        return self.result(item, rows, text, **others)


def _frames(row: Row) -> int:
    return row.inputs["input_features"].shape[-1]


def _filled(array: np.ndarray, frames: int) -> np.ndarray:
    """Features (mels, frames), or a mask (frames,), with zeros up to a number of frames."""
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, frames - array.shape[-1])])


def _outputs_of(found: Any, index: int) -> dict[str, np.ndarray]:
    """The tokens (1, length) of one row of what `generate` returned, with their times if it has them."""
    if not isinstance(found, Mapping):
        return {"tokens": found[index][None]}
    outputs = {"tokens": found["sequences"][index][None]}
    if "segments" in found:
        times = [segment["token_timestamps"] for segment in found["segments"][index]]
        return outputs | {"token_timestamps": np.concatenate(times)[None]} if times else outputs
    return outputs | {"token_timestamps": found["token_timestamps"][index][None]}
