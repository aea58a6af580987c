"""Text to text: summaries, translations, and whatever else models with an encoder and a decoder can write."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

from keras_models.generation.config import GenerationConfig
from keras_models.pipelines.base import Row
from keras_models.pipelines.generation import GeneratingPipeline
from keras_models.preprocessing.batch_encoding import tensor_kind


class Text2TextGenerationPipeline(GeneratingPipeline):
    """Writes a text for a text.

    The prefix that a model's configuration gives for the task is put before each text. Options:
        max_new_tokens, num_beams, do_sample, num_return_sequences, streamer, seed ...: whatever `generate` takes. By
            default there are four beams and at most 256 tokens; with `seed`, each batch of a call adds one to it.
        generate_kwargs: a dictionary of such settings.
        stop_sequence: a text whose first token ends what is written.
        truncation: cut texts that are too long.
        return_tensors: True for token ids as a tensor of the active backend instead of text; or "np", "jax", "pt" or
            "tf".
        clean_up_tokenization_spaces: True to drop spaces before punctuation.

    Returns a list of {"generated_text"} for a text, one for each sequence; in a list of texts {"generated_text"} alone
    where there is one each. Summaries are {"summary_text"}, translations {"translation_text"}; with `return_tensors`
    the keys end in _token_ids.
    """

    heads = ("seq2seq-lm",)
    defaults = {"max_new_tokens": 256, "num_beams": 4}
    writes: ClassVar[str] = "generated"  # how the keys of results begin

    def __call__(self, inputs: Any, **options: Any) -> Any:
        results = super().__call__(inputs, **options)
        if isinstance(inputs, (list, tuple)) and all(len(each) == 1 for each in results):
            return [each[0] for each in results]
        return results

    def rename(self, options: dict[str, Any]) -> dict[str, Any]:
        options = super().rename(options)
        options.pop("return_text", None)  # as it is
        return options

    def stop_tokens(self, stop: str | list[str]) -> list[int]:
        tokens = super().stop_tokens(stop)
        if len(tokens) > 1:
            warnings.warn(f"stop_sequence={stop!r} is {len(tokens)} tokens: the first of them ends a text.")
        return tokens[:1]

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        if isinstance(options.get("return_tensors"), str):
            options["return_tensors"] = tensor_kind(options["return_tensors"])
        return super().check(options)

    def preprocess(
        self, item: str, *, generation_config: GenerationConfig, truncation: bool | str | None = None
    ) -> Iterator[Row]:
        encoding = self.encode(self.prefix + item, truncation=truncation)
        encoding.pop("token_type_ids", None)
        row = self.row(encoding)
        self.warn_of_length(row.length, generation_config.max_new_tokens or generation_config.max_length)
        yield row

    def warn_of_length(self, length: int, longest: int):
        """Warns where a text of this length and what may be written for it do not go together."""

    def postprocess(
        self,
        item: str,
        rows: list[Row],
        *,
        return_tensors: bool | str | None = None,
        clean_up_tokenization_spaces: bool = False,
    ) -> list[dict[str, Any]]:
        sequences = rows[0].outputs["sequences"]
        if return_tensors:
            from keras_models.runtime.interop import to_framework

            kind = "keras" if return_tensors is True else return_tensors
            return [{f"{self.writes}_token_ids": to_framework(tokens, kind)} for tokens in sequences]
        spaces = {"clean_up_tokenization_spaces": clean_up_tokenization_spaces}
        texts = [self.tokenizer.decode(tokens, skip_special_tokens=True, **spaces) for tokens in sequences]
        return [{f"{self.writes}_text": text} for text in texts]


class SummarizationPipeline(Text2TextGenerationPipeline):
    """Summarizes texts; see `Text2TextGenerationPipeline`."""

    writes = "summary"

    def warn_of_length(self, length: int, longest: int):
        if length < longest:
            warnings.warn(
                f"A summary may have {longest} tokens, but the text has {length} itself: pass a smaller number of "
                f"max_new_tokens, e.g. {max(length // 2, 1)}."
            )


class TranslationPipeline(Text2TextGenerationPipeline):
    """Translates texts; see `Text2TextGenerationPipeline`.

    The task is translation_en_to_fr, for instance, by which a model such as T5 tells what to do, or translation for a
    model that knows one pair of languages.
    """

    writes = "translation"

    def prepare(self):
        known = [name for name in self.model.config.task_specific_params or () if name.startswith("translation")]
        if self.task == "translation" and known:
            warnings.warn(f"translation is taken for {known[0]}: pass the task that you want of {', '.join(known)}.")
            self.task = known[0]
        super().prepare()

    def warn_of_length(self, length: int, longest: int):
        if length > 0.9 * longest:
            warnings.warn(
                f"A translation may have {longest} tokens, and the text has {length} itself: pass a larger number of "
                "max_new_tokens, or the end may be missing."
            )
