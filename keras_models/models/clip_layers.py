"""The layers of CLIP's two towers and their meeting, which its descendants keep under the names in checkpoints.

Pictures are (batch, height, width, channels), hidden states (batch, length, hidden_size). A configuration of a tower
is one with the fields of CLIPTextConfig or CLIPVisionConfig.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import keras
from keras import ops

from keras_models import nn
from keras_models.config import Config
from keras_models.inference import RECORDS
from keras_models.model import ModelOutput, PreTrainedModel
from keras_models.models import vit_layers

_PICTURE_INPUTS = ("pixel_values", "interpolate_pos_encoding")


def _deviations(config):
    """Standard deviations of fresh kernels: those that read from the residual stream, and those that write to it."""
    reading = getattr(config, "initializer_factor", 1.0) * config.hidden_size**-0.5
    return reading, reading * (2 * config.num_hidden_layers) ** -0.5


class Attention(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.heads, size = config.num_attention_heads, config.hidden_size
        if size % self.heads:
            raise ValueError(f"hidden_size {size} is not a multiple of num_attention_heads {self.heads}.")
        out, into = _deviations(config)
        nn.set_initializer_range(into)
        self.k_proj = nn.Dense(size, size)
        self.v_proj = nn.Dense(size, size)
        self.q_proj = nn.Dense(size, size)
        nn.set_initializer_range(out)
        self.out_proj = nn.Dense(size, size)
        self.dropout = nn.Dropout(config.attention_dropout)

    def call(self, x, bias=None):
        query, key, value = (nn.split_heads(layer(x), self.heads) for layer in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(nn.merge_heads(nn.attend(query, key, value, bias, dropout=self.dropout)))


class MLP(nn.Layer):
    def __init__(self, config):
        super().__init__()
        reading, writing = _deviations(config)
        nn.set_initializer_range(reading * 2**-0.5)
        self.fc1 = nn.Dense(config.hidden_size, config.intermediate_size, activation=config.hidden_act)
        nn.set_initializer_range(writing)
        self.fc2 = nn.Dense(config.intermediate_size, config.hidden_size)

    def call(self, x):
        return self.fc2(self.fc1(x))


class EncoderLayer(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.self_attn = Attention(config)
        self.layer_norm1 = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)
        self.mlp = MLP(config)
        self.layer_norm2 = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)

    def call(self, x, bias=None):
        x = x + self.self_attn(self.layer_norm1(x), bias)
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Layer):
    """The stack of layers; `bias` is added to the scores of attention."""

    def __init__(self, config):
        super().__init__()
        self.layers = [EncoderLayer(config) for _ in range(config.num_hidden_layers)]

    def call(self, x, bias=None):
        return nn.chain(self.layers, x, bias)


class TextEmbeddings(nn.Layer):
    """What a token is and where it stands."""

    def __init__(self, config):
        super().__init__()
        nn.set_initializer_range(0.02 * getattr(config, "initializer_factor", 1.0))
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def call(self, input_ids, position_ids=None):
        x = self.token_embedding(input_ids)
        return x + self.position_embedding(nn.positions(x) if position_ids is None else position_ids)


class VisionEmbeddings(nn.Layer):
    """What a patch shows and where it is; before the patches a class token, if there is one.

    (batch, height, width, channels) -> (batch, patches or 1 + patches, hidden_size)
    """

    def __init__(self, config, class_token, patch_bias):
        super().__init__()
        nn.set_initializer_range(_deviations(config)[0])
        self.class_embedding = self.parameter(config.hidden_size) if class_token else None
        spread = getattr(config, "initializer_range", 0.02) * getattr(config, "initializer_factor", 1.0)
        nn.set_initializer_range(spread)
        size, patch = config.hidden_size, config.patch_size
        self.patch_embedding = nn.Conv2D(config.num_channels, size, patch, patch, use_bias=patch_bias)
        self.grid = vit_layers.grid(nn.pair(config.image_size), patch)
        self.prefix = int(class_token)
        self.position_embedding = nn.Embedding(self.prefix + self.grid[0] * self.grid[1], size)

    def call(self, pixel_values):
        x = self.patch_embedding(pixel_values)
        height, width = nn.sizes(x)
        x = nn.to_sequence(x)
        if self.class_embedding is not None:
            x = vit_layers.prepend(x, self.class_embedding)
        table = self.position_embedding.table()[None]
        return vit_layers.add_positions(x, table, self.prefix, self.grid, height, width)


@dataclass(kw_only=True)
class TwoTowersConfig(Config):
    """A configuration of a text tower and one of a vision tower."""

    text_config: Any = None  # its class, or a dictionary of its settings
    vision_config: Any = None

    @property
    def num_channels(self) -> int:
        """Of pictures."""
        return self.vision_config.num_channels

    @classmethod
    def from_text_vision_configs(cls, text_config: Config, vision_config: Config, **settings: Any) -> Self:
        """A configuration of these two towers."""
        return cls(text_config=text_config, vision_config=vision_config, **settings)


class TwoTowers(PreTrainedModel):
    """Base of models that compare texts with pictures: `text_model`, `vision_model` and a `logit_scale`.

    Outputs: `logits_per_image` (pictures, texts), `logits_per_text` (texts, pictures); `text_embeds` and
    `image_embeds` (batch, size), vectors of length 1; `text_model_output` and `vision_model_output`, what the towers
    return, with their hidden states and attentions where these are asked for. Only texts, or only pictures, give what
    is to be had of them.

    Inputs:
        input_ids, attention_mask, position_ids: (texts, length).
        pixel_values: (pictures, height, width, channels).
        return_loss: whether to return the `loss` of pairs too; text and picture of one index belong together.
        interpolate_pos_encoding: take pictures of any size.

    Training takes pairs in `x`, and needs no labels.
    """

    label_names = ()

    def text_features(self, pooled):
        """For subclasses: the text tower's pooled states in the space where both meet."""
        return pooled

    def image_features(self, pooled):
        """For subclasses: the vision tower's pooled states in the space where both meet."""
        return pooled

    def compare(self, text_embeds, image_embeds):
        """The logits of texts for pictures, (texts, pictures), from the `_embeds` of outputs."""
        likeness = ops.matmul(text_embeds, ops.transpose(image_embeds))
        return likeness * ops.cast(ops.exp(self.logit_scale), likeness.dtype)

    @property
    def max_length(self) -> int | None:
        """The longest text that the model has positions for."""
        return self.config.text_config.max_position_embeddings

    def check_inputs(self, inputs):
        vit_layers.check_size(self.config.vision_config, inputs)
        ids, pictures = inputs.get("input_ids"), inputs.get("pixel_values")
        if ids is None and pictures is None:
            raise ValueError(f"{type(self).__name__} needs input_ids or pixel_values, or both to compare them.")
        if inputs.get("return_loss") and (ids is None or pictures is None or ids.shape[0] != pictures.shape[0]):
            raise ValueError("return_loss needs pairs: give as many texts (input_ids) as pictures (pixel_values).")

    def call(
        self,
        input_ids=None,
        pixel_values=None,
        attention_mask=None,
        position_ids=None,
        return_loss=False,
        interpolate_pos_encoding=False,
    ):
        outputs, towers = ModelOutput(), {}
        if input_ids is not None:
            text = towers["text_model_output"] = _recorded(self.text_model, input_ids, attention_mask, position_ids)
            outputs["text_embeds"] = _unit(self.text_features(text.pooler_output))
        if pixel_values is not None:
            picture = towers["vision_model_output"] = _recorded(self.vision_model, pixel_values)
            outputs["image_embeds"] = _unit(self.image_features(picture.pooler_output))
        if len(towers) == 2:
            outputs = self._met(outputs, return_loss)
        return ModelOutput(**outputs, **towers)

    def _met(self, outputs, return_loss):
        logits = self.compare(outputs["text_embeds"], outputs["image_embeds"])
        outputs = ModelOutput(logits_per_image=ops.transpose(logits), logits_per_text=logits, **outputs)
        return ModelOutput(loss=self.head_loss(outputs), **outputs) if return_loss else outputs

    def infer(self, *args: Any, **kwargs: Any) -> ModelOutput:
        """See `PreTrainedModel.infer`; each tower is a program of its own, since texts and pictures are two batches."""
        flags = {name: kwargs.pop(name) for name in RECORDS if name in kwargs}
        inputs = self.prepare_inputs(*args, **kwargs)
        if not {"input_ids", "pixel_values"} <= inputs.keys():
            return super().infer(**inputs, **flags)
        pictures = {name: inputs.pop(name) for name in _PICTURE_INPUTS if name in inputs}
        return_loss = inputs.pop("return_loss", False)
        towers = {**super().infer(**inputs, **flags), **super().infer(**pictures, **flags)}
        met = self._met({name: towers.pop(name) for name in ("text_embeds", "image_embeds")}, return_loss)
        return ModelOutput(**keras.tree.map_structure(ops.convert_to_numpy, met), **towers)

    def get_text_features(self, input_ids: Any, attention_mask: Any = None, position_ids: Any = None) -> Any:
        """What the model makes of texts before it brings vectors to length 1: (batch, size), a tensor."""
        outputs = self(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids)
        return self.text_features(outputs.text_model_output.pooler_output)

    def get_image_features(self, pixel_values: Any, interpolate_pos_encoding: bool = False) -> Any:
        """What the model makes of pictures before it brings vectors to length 1: (batch, size), a tensor."""
        outputs = self(pixel_values=pixel_values, interpolate_pos_encoding=interpolate_pos_encoding)
        return self.image_features(outputs.vision_model_output.pooler_output)

    def _training_arrays(self, x, y=None):
        if isinstance(x, Mapping):
            x = {name: value for name, value in x.items() if name != "return_loss"}  # training does without asking
        return super()._training_arrays(x, y)


def _recorded(tower, *inputs):
    """A tower's outputs with its own hidden states and attentions, as the reference groups them."""
    names = [name for name in ("hidden_states", "attentions") if nn.recording(name)]
    with nn.records(names) as records:
        outputs = ModelOutput(tower(*inputs))
    outputs.update({name: tuple(found) for name, found in records.items() if found})
    return outputs


def _unit(x):
    return x / ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True))
