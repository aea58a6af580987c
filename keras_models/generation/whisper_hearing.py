"""What Whisper listens to, and its ears: the encoder, and short looks at what the decoder makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from keras_models import nn, runtime
from keras_models.cache import bucket
from keras_models.generation.config import GenerationConfig
from keras_models.generation.generate import encode
from keras_models.generation.whisper_prompts import needed
from keras_models.outputs import ModelOutput
from keras_models.training.heads import to_array

STRIDE = 2  # frames for each position of the encoder


@dataclass
class Sound:
    """What there is to listen to."""

    features: np.ndarray | None  # (batch, mels, frames); None where `outputs` stand for them
    outputs: Any  # the encoder's
    batch: int
    frames: int  # of the longest
    window: int  # frames that are listened to at once
    lengths: np.ndarray  # (batch,), frames of each
    mask_lengths: np.ndarray | None = None  # the same as an attention mask says

    @property
    def is_long(self) -> bool:
        """Whether it takes several windows."""
        return self.frames > self.window

    @classmethod
    def of(cls, model: Any, features: Any, mask: Any, given: dict[str, Any]) -> Sound:
        """The sounds among the arguments of a call.

        Raises:
            ValueError: there are none, or both features and what an encoder made of them, or long ones without a mask.
        """
        window = STRIDE * model.config.max_source_positions
        outputs = given.get("encoder_outputs")
        others = [name for name in given if name not in ("encoder_outputs", "decoder_input_ids")]
        if others:
            raise ValueError(f"Whisper's generate has no use for {', '.join(others)}: drop it.")
        if (features is None) == (outputs is None):
            what = "neither input_features nor" if features is None else "both input_features and"
            raise ValueError(f"generate got {what} encoder_outputs: give one of the two.")
        if features is None:
            states = outputs["last_hidden_state"] if isinstance(outputs, Mapping) else outputs
            states = states[0] if isinstance(states, (tuple, list)) else states
            batch, frames = states.shape[0], states.shape[1] * STRIDE
            features, outputs = None, {**(outputs if isinstance(outputs, Mapping) else {}), "last_hidden_state": states}
        else:
            features = to_array("input_features", features)
            features = features[None] if features.ndim == 2 else features
            if features.ndim != 3 or not features.size:
                raise ValueError(f"input_features must be of shape (batch, mels, frames), not {features.shape}.")
            batch, frames = features.shape[0], features.shape[2]
        lengths, mask_lengths = np.full(batch, frames), None
        if mask is not None:
            mask = to_array("attention_mask", mask)
            mask = mask.reshape(-1, mask.shape[-1])
            if mask.shape[0] != batch:
                raise ValueError(f"attention_mask is for {mask.shape[0]} sounds, and there are {batch}.")
            mask_lengths = mask.sum(axis=-1).astype("int64")
        if frames > window and batch > 1:
            if mask_lengths is None:
                raise ValueError(
                    "Long sounds in a batch need an attention_mask that tells how long each is: pass what the feature "
                    "extractor returns with return_attention_mask=True."
                )
            lengths = mask_lengths
        return cls(features, outputs, batch, frames, window, lengths, mask_lengths)

    def repeated(self, times: int) -> Sound:
        """Each sound several times."""
        if times == 1:
            return self
        outputs = self.outputs
        if outputs is not None:
            outputs = {
                "last_hidden_state": np.repeat(ops.convert_to_numpy(outputs["last_hidden_state"]), times, axis=0)
            }
        features = None if self.features is None else np.repeat(self.features, times, axis=0)
        lengths = np.repeat(self.lengths, times)
        return Sound(features, outputs, self.batch * times, self.frames, self.window, lengths)

    def cut(self, rows: Sequence[int], starts: np.ndarray, ends: np.ndarray) -> np.ndarray | None:
        """A window of each of these sounds, silent behind its end; None where there are no features."""
        if self.features is None:
            return None
        cut = np.zeros((len(rows), self.features.shape[1], self.window), self.features.dtype)
        for place, row in enumerate(rows):
            cut[place, :, : ends[row] - starts[row]] = self.features[row, :, starts[row] : ends[row]]
        return cut


class Ears:
    """A model's encoder, which remembers what it has heard last, and short looks at its decoder."""

    def __init__(self, model: Any, settings: GenerationConfig):
        self.model, self.settings = model, settings
        self.features, self.outputs = None, None

    def listen(self, features: np.ndarray) -> ModelOutput:
        """The encoder's outputs for a window of features (batch, mels, frames)."""
        if self.features is None or not np.array_equal(self.features, features):
            self.outputs, _ = encode(self.model, {"input_features": features}, self.settings)
            self.features = features
        return self.outputs

    def _program(self, name: str, function: Callable) -> Callable:
        """A compiled program of the model, made once."""
        known = self.model.__dict__.setdefault("_looks", {})
        key = (nn.structure_version(), name)
        for stale in [each for each in list(known) if each[0] != key[0]]:
            known.pop(stale, None)
        program = known.get(key) or runtime.compile_program(self.model, function)
        return known.setdefault(key, program)

    def _inputs(self, tokens: np.ndarray, mask: np.ndarray | None) -> dict[str, Any]:
        """Tokens, and where padding is before them, as a decoder's inputs; padded behind so that few lengths occur."""
        length = tokens.shape[1]
        room = length if runtime.CACHE_IN_PLACE else max(length, min(bucket(length), self.model.max_length))
        widths = [(0, 0), (0, room - length)]
        inputs = {"decoder_input_ids": np.pad(tokens, widths)}
        if mask is not None and not mask.all():
            inputs["decoder_attention_mask"] = np.pad(mask, widths, constant_values=1)
            places = inputs["decoder_attention_mask"].cumsum(axis=1) - 1
            inputs["decoder_position_ids"] = np.clip(places, 0, self.model.max_length - 1)
        return {name: ops.convert_to_tensor(value.astype("int32")) for name, value in inputs.items()}

    def logits(self, states: Any, tokens: np.ndarray, mask: np.ndarray | None, place: int) -> np.ndarray:
        """What may follow the token at this place, (batch, vocabulary)."""

        def look(states, inputs, place):
            return self.model(encoder_outputs=(states,), **inputs, logits_to_keep=place).logits[:, 0]

        place = ops.convert_to_tensor([place], "int32")
        found = self._program("logits", look)(states, self._inputs(tokens, mask), place)
        return ops.convert_to_numpy(ops.cast(found, "float32"))

    def attention(self, states: Any, tokens: np.ndarray, mask: np.ndarray | None, heads: Sequence) -> np.ndarray:
        """What these heads, pairs of a layer and a head, attend to: (batch, heads, length, positions)."""

        def look(states, inputs):
            outputs = self.model(encoder_outputs=(states,), **inputs, output_attentions=True)
            return ops.stack([outputs.cross_attentions[layer][:, head] for layer, head in heads], axis=1)

        heads = tuple((int(layer), int(head)) for layer, head in heads)
        found = self._program(f"attention {heads}", look)(states, self._inputs(tokens, mask))
        return ops.convert_to_numpy(found)[:, :, : tokens.shape[1]]


def detect_language(model: Any, ears: Ears, sound: Sound, settings: GenerationConfig) -> np.ndarray:
    """The token of the likeliest language of the first window of each sound, (batch,)."""
    start = settings.decoder_start_token_id
    languages = np.array(sorted(needed(settings, model.config, "lang_to_id", "detecting a language").values()))
    ends = np.minimum(np.full(sound.batch, sound.window), sound.frames)
    features = sound.cut(range(sound.batch), np.zeros(sound.batch, "int64"), ends)
    states = (sound.outputs if features is None else ears.listen(features))["last_hidden_state"]
    logits = ears.logits(states, np.full((sound.batch, 1), start, "int32"), None, 0)
    return languages[logits[:, languages].argmax(axis=-1)]
