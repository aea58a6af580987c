"""`infer`: the forward pass as compiled programs, of which few serve for many shapes of inputs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from keras_models import nn, runtime
from keras_models.outputs import ModelOutput

RECORDS = {
    "output_hidden_states": (
        "hidden_states", "decoder_hidden_states", "encoder_hidden_states", "reshaped_hidden_states"
    ),
    "output_attentions": ("attentions", "decoder_attentions", "cross_attentions", "encoder_attentions"),
}  # fmt: skip
REAL_SIZE = "real_size"  # what a program for padded pictures or sounds gets beside them
BUCKETS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


class Inference:
    """Mixin of `PreTrainedModel`: `infer`, and what it takes for JAX to compile seldom."""

    picture_stride: ClassVar[int] = 0  # of networks for pictures of any size that `nn.real_size` serves: their largest
    pads_sounds: ClassVar[bool] = False  # whether `nn.real_length` and an attention mask make up for longer sounds

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # Past Keras' tracking, which would wrap what they hold.
        self.__dict__["_compiled_forwards"] = {}
        self.__dict__["_batch_sizes"] = {}
        self.__dict__["_picture_sizes"] = []
        self.__dict__["_sound_lengths"] = []

    def infer(self, *args: Any, **kwargs: Any) -> ModelOutput:
        """The forward pass at this backend's best speed, for inference only: compiled, in a few shapes.

        Takes what calling the model takes, without labels. On JAX, lengths of texts are padded to a few sizes and the
        outputs cut back, so that another length seldom compiles anew.

        Returns:
            The outputs as NumPy arrays.
        """
        flags = {name: bool(self._wanted(name, kwargs.pop(name, None))) for name in RECORDS}
        inputs = self.prepare_inputs(*args, **kwargs)
        switches = pop_switches(inputs)
        forward = self._forward(tuple({**flags, **switches}.items()))
        if not runtime.PAD_LENGTHS:
            return keras.tree.map_structure(ops.convert_to_numpy, forward(inputs))
        if "pixel_values" in inputs and not any(isinstance(value, (tuple, dict)) for value in inputs.values()):
            padded = None if any(flags.values()) else self._pad_pictures(inputs)
            if padded is None:
                return self._infer_padded_batch(forward, inputs)
            sizes = (inputs["pixel_values"].shape[1:3], padded["pixel_values"].shape[1:3])
            return self.cut_pictures(self._infer_padded_batch(forward, padded), *sizes)
        if self.pads_sounds and "input_values" in inputs and not set(inputs) - {"input_values", "attention_mask"}:
            outputs = self._infer_padded_batch(forward, self._pad_sounds(inputs))
            return self.cut_sounds(outputs, inputs["input_values"].shape[1])
        padded = self._pad_to_bucket(inputs)
        if padded is None:
            return keras.tree.map_structure(ops.convert_to_numpy, forward(inputs))
        outputs = keras.tree.map_structure(ops.convert_to_numpy, forward(padded))
        return self._cut(outputs, inputs, flags)

    def _infer_padded_batch(self, forward: Callable, inputs: dict[str, Any]) -> ModelOutput:
        """A batch of pictures or sounds through the program of a larger batch that was there before it."""
        shapes = tuple((name, tuple(value.shape[1:])) for name, value in inputs.items())
        rows = next(iter(inputs.values())).shape[0]
        batch = self._usual_batch(shapes, rows)
        if batch != rows:
            more = [(0, batch - rows)]
            inputs = inputs | {
                name: np.pad(ops.convert_to_numpy(value), more + [(0, 0)] * (len(value.shape) - 1), mode="edge")
                for name, value in inputs.items()
                if name != REAL_SIZE
            }
        outputs = keras.tree.map_structure(ops.convert_to_numpy, forward(inputs))
        return keras.tree.map_structure(lambda array: array[:rows], outputs) if batch != rows else outputs

    def _pad_pictures(self, inputs: dict[str, Any]) -> dict[str, Any] | None:
        """Pictures padded to a size that has been compiled before or serves for others later; None if that is no use.

        The first size is met closely, for those who only have one; further ones are rounded up more, to be few.
        """
        if not self.picture_stride or set(inputs) - {"pixel_values", "pixel_mask"}:
            return None
        mask = inputs.get("pixel_mask")
        if mask is not None and not np.all(ops.convert_to_numpy(mask)):
            return None  # padded already, which is not the same: see nn.real_size
        pictures = ops.convert_to_numpy(inputs["pixel_values"])
        height, width = pictures.shape[1:3]
        fitting = [each for each in self._picture_sizes if height <= each[0] and width <= each[1]]
        target = min(fitting, key=lambda size: size[0] * size[1], default=None)
        if target is None or target[0] * target[1] > 1.25 * height * width:
            step = self.picture_stride * (4 if self._picture_sizes else 1)
            target = (-(-height // step) * step, -(-width // step) * step)
            self._picture_sizes.append(target)
        more = [(0, 0), (0, target[0] - height), (0, target[1] - width)]
        return {
            "pixel_values": np.pad(pictures, [*more, (0, 0)]),
            "pixel_mask": np.pad(np.ones(pictures.shape[:3], "int32"), more),
            REAL_SIZE: np.array([height, width], "int32"),
        }

    def _pad_sounds(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Sounds padded to a length that has been compiled before, or that serves for others later.

        The first length stays as it is, for those who only have one.
        """
        sounds = ops.convert_to_numpy(inputs["input_values"])
        length, lengths = sounds.shape[1], self._sound_lengths
        if not lengths or length == lengths[0]:
            self._sound_lengths[:1] = [length]
            return inputs
        step = 2 ** max(length.bit_length() - 3, 0)  # four lengths for each doubling
        fitting = [each for each in lengths[1:] if length <= each <= 1.25 * length]
        target = min(fitting, default=-(-length // step) * step)
        if not fitting:
            lengths.append(target)
        mask = inputs.get("attention_mask")
        mask = np.ones(sounds.shape, "int32") if mask is None else ops.convert_to_numpy(mask)
        more = [(0, 0), (0, target - length)]
        return {
            "input_values": np.pad(sounds, more),
            "attention_mask": np.pad(mask, more),
            REAL_SIZE: np.array([length], "int32"),
        }

    def cut_sounds(self, outputs: ModelOutput, samples: int) -> ModelOutput:
        """For subclasses that `pads_sounds`: outputs for padded sounds as those for sounds of so many samples."""
        return outputs

    def cut_pictures(self, outputs: ModelOutput, size: tuple[int, int], padded: tuple[int, int]) -> ModelOutput:
        """For subclasses with a `picture_stride`: outputs for padded pictures as those for pictures of `size`."""
        return outputs

    def _usual_batch(self, shapes: tuple, rows: int) -> int:
        """The size of a batch up to twice as large that has been compiled for these shapes, else the batch's own."""
        seen = self._batch_sizes.setdefault(shapes, set())
        batch = min((size for size in seen if rows <= size <= 2 * rows), default=rows)
        seen.add(batch)
        return batch

    def _forward(self, flags: tuple[tuple[str, bool], ...]) -> Callable:
        key = (flags, nn.structure_version())
        if key not in self._compiled_forwards:
            for stale in [old for old in self._compiled_forwards if old[1] != key[1]]:
                del self._compiled_forwards[stale]
            self._compiled_forwards[key] = runtime.compile_forward(self, functools.partial(self._call, dict(flags)))
        return self._compiled_forwards[key]

    def _call(self, flags: dict[str, bool], inputs: dict[str, Any]) -> ModelOutput:
        """A call from inside of a compiled program."""
        size = inputs.get(REAL_SIZE)
        if size is None:
            return self(**inputs, **flags)
        inputs = {name: value for name, value in inputs.items() if name != REAL_SIZE}
        padded = inputs["pixel_values"].shape[1:3] if "pixel_values" in inputs else inputs["input_values"].shape[1:]
        with nn.real_size(size, tuple(padded)):
            return self(**inputs, **flags)

    def _pad_to_bucket(self, inputs: dict[str, Any]) -> dict[str, Any] | None:
        """The inputs padded to the next size of a bucket, or None where they have that size or are not plain texts."""
        ids = inputs.get("input_ids")
        if ids is None or not self.ignores_padding:
            return None
        if any(tuple(each.shape) != tuple(ids.shape) for each in inputs.values()):
            return None
        length = ids.shape[-1]
        target = next((size for size in BUCKETS if size >= length), -(-length // 256) * 256)
        target = min(target, self.max_length or target)
        batch = self._usual_batch((target, *ids.shape[1:-1]), ids.shape[0])
        if (batch, target) == (ids.shape[0], length):
            return None
        fill = {"input_ids": getattr(self.config, "pad_token_id", None) or 0}
        inputs = {"attention_mask": np.ones(tuple(ids.shape), "int32"), **inputs}
        rows = [(0, batch - ids.shape[0])] + [(0, 0)] * (len(ids.shape) - 1)
        columns = [(0, 0)] * (len(ids.shape) - 1) + [(0, target - length)]
        return {
            name: np.pad(
                np.pad(ops.convert_to_numpy(value), columns, constant_values=fill.get(name, 0)), rows, mode="edge"
            )
            for name, value in inputs.items()
        }

    def _cut(self, outputs: ModelOutput, inputs: dict[str, Any], flags: dict[str, bool]) -> ModelOutput:
        """Outputs for padded inputs, cut to the real batch and, along the axes that vary with it, the real length."""
        batch, length = inputs["input_ids"].shape[0], inputs["input_ids"].shape[-1]
        spec = self._output_spec(inputs, flags)

        def cut(array, spec):
            rows = batch * spec.shape[0]  # more than one each where inputs hold several choices
            return array[tuple(slice(length if size is None else None) for size in spec.shape)][:rows]

        return keras.tree.map_structure(cut, outputs, spec)

    def _output_spec(self, inputs: dict[str, Any], flags: dict[str, bool]) -> ModelOutput:
        """The outputs' shapes for a batch of one, with None where the length goes."""
        shapes = tuple((name, tuple(value.shape[1:-1]), str(value.dtype)) for name, value in inputs.items())
        key = ("spec", nn.structure_version(), shapes, tuple(flags.items()))
        if key not in self._compiled_forwards:
            free = {
                name: keras.KerasTensor((1, *value.shape[1:-1], None), keras.backend.standardize_dtype(value.dtype))
                for name, value in inputs.items()
            }
            self._compiled_forwards[key] = runtime.output_spec(functools.partial(self, **flags), **free)
        return self._compiled_forwards[key]


def pop_switches(inputs: dict[str, Any]) -> dict[str, bool]:
    """Takes out the inputs that are true or false, which Keras does not let pass beside tensors."""
    return {name: inputs.pop(name) for name in list(inputs) if isinstance(inputs[name], bool)}
