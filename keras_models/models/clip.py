"""CLIP, two towers that bring texts and pictures into one space (https://arxiv.org/abs/2103.00020).

Pictures are (batch, height, width, channels), hidden states (batch, length, hidden_size), those of pictures with the
class token first.
"""

from dataclasses import dataclass

import keras
from keras import ops

from keras_models import losses, nn
from keras_models.config import Config
from keras_models.model import ModelOutput, PreTrainedModel
from keras_models.models import clip_layers, vit_layers

_OLD_EOS = 2  # what early configurations say, whose real end of text is the highest number of the vocabulary


@dataclass(kw_only=True)
class CLIPTextConfig(Config):
    model_type = "clip_text_model"
    part_of = ("clip", "text_config")

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    projection_dim: int = 512
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    attention_dropout: float = 0.0
    initializer_range: float = 0.02
    initializer_factor: float = 1.0
    pad_token_id: int | None = 1
    bos_token_id: int | None = 49406
    eos_token_id: int | list[int] | None = 49407


@dataclass(kw_only=True)
class CLIPVisionConfig(Config):
    model_type = "clip_vision_model"
    part_of = ("clip", "vision_config")

    hidden_size: int = 768
    intermediate_size: int = 3072
    projection_dim: int = 512
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    attention_dropout: float = 0.0
    initializer_range: float = 0.02
    initializer_factor: float = 1.0


@dataclass(kw_only=True)
class CLIPConfig(clip_layers.TwoTowersConfig):
    model_type = "clip"
    parts = {"text_config": CLIPTextConfig, "vision_config": CLIPVisionConfig}

    projection_dim: int = 512
    logit_scale_init_value: float = 2.6592


class CLIPTextTransformer(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.eos_token_id = config.eos_token_id
        self.embeddings = clip_layers.TextEmbeddings(config)
        self.encoder = clip_layers.Encoder(config)
        self.final_layer_norm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)

    def call(self, input_ids, attention_mask=None, position_ids=None):
        x = self.embeddings(input_ids, position_ids)
        x = self.final_layer_norm(self.encoder(x, nn.attention_bias(x, attention_mask, causal=True)))
        is_end = input_ids if self.eos_token_id == _OLD_EOS else ops.cast(input_ids == self.eos_token_id, "int32")
        pooled = ops.take_along_axis(x, ops.argmax(is_end, axis=1)[:, None, None], axis=1)  # the first end
        return {"last_hidden_state": x, "pooler_output": ops.squeeze(pooled, 1)}


class CLIPVisionTransformer(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embeddings = clip_layers.VisionEmbeddings(config, class_token=True, patch_bias=False)
        self.pre_layrnorm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)
        self.encoder = clip_layers.Encoder(config)
        self.post_layernorm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)

    def check_inputs(self, inputs):
        vit_layers.check_size(self.config, inputs)

    def call(self, pixel_values):
        x = self.encoder(self.pre_layrnorm(self.embeddings(pixel_values)))
        return {"last_hidden_state": x, "pooler_output": self.post_layernorm(x[:, 0])}


class CLIPPreTrainedModel(PreTrainedModel):
    config_class = CLIPConfig
    renames = ((r"^clip\.", ""),)  # TensorFlow's


class CLIPTextModel(CLIPPreTrainedModel):
    """The text tower: `last_hidden_state` (batch, length, hidden_size), `pooler_output` (batch, hidden_size)."""

    config_class = CLIPTextConfig

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.text_model = CLIPTextTransformer(config)

    def call(self, input_ids=None, attention_mask=None, position_ids=None):
        return ModelOutput(self.text_model(input_ids, attention_mask, position_ids))


class CLIPVisionModel(CLIPPreTrainedModel):
    """The vision tower: `last_hidden_state` (batch, 1 + patches, hidden_size), `pooler_output` (batch, hidden_size).

    Inputs:
        pixel_values: (batch, height, width, channels).
        interpolate_pos_encoding: take pictures of any size.
    """

    config_class = CLIPVisionConfig

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.vision_model = CLIPVisionTransformer(config)

    def check_inputs(self, inputs):
        self.vision_model.check_inputs(inputs)

    def call(self, pixel_values=None, interpolate_pos_encoding=False):
        return ModelOutput(self.vision_model(pixel_values))


class CLIPModel(CLIPPreTrainedModel, clip_layers.TwoTowers):
    """Both towers: how well texts fit pictures.

    `logits_per_image` (pictures, texts), `logits_per_text` (texts, pictures), `text_embeds` (texts, projection_dim),
    `image_embeds` (pictures, projection_dim); inputs and all else are those of `clip_layers.TwoTowers`. The loss of
    pairs is the cross entropy of finding each text's picture, and each picture's text, in the batch.
    """

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        text, vision, size = config.text_config, config.vision_config, config.projection_dim
        self.text_model = CLIPTextTransformer(text)
        self.vision_model = CLIPVisionTransformer(vision)
        nn.set_initializer_range(vision.hidden_size**-0.5)
        self.visual_projection = nn.Dense(vision.hidden_size, size, use_bias=False)
        nn.set_initializer_range(text.hidden_size**-0.5)
        self.text_projection = nn.Dense(text.hidden_size, size, use_bias=False)
        start = keras.initializers.Constant(config.logit_scale_init_value)
        self.logit_scale = self.add_weight(shape=(), initializer=start)

    def text_features(self, pooled):
        return self.text_projection(pooled)

    def image_features(self, pooled):
        return self.visual_projection(pooled)

    def head_loss(self, outputs):
        logits = outputs["logits_per_text"]
        own = ops.arange(ops.shape(logits)[0])
        return (losses.cross_entropy(logits, own) + losses.cross_entropy(ops.transpose(logits), own)) / 2


class CLIPTextModelWithProjection(CLIPPreTrainedModel):
    """The text tower up to where pictures meet it: `text_embeds` (batch, projection_dim), `last_hidden_state`."""

    config_class = CLIPTextConfig
    base_model_prefix = "text_model"

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.text_model = CLIPTextTransformer(config)
        nn.set_initializer_range(config.initializer_factor * config.hidden_size**-0.5)
        self.text_projection = nn.Dense(config.hidden_size, config.projection_dim, use_bias=False)

    def call(self, input_ids=None, attention_mask=None, position_ids=None):
        x = self.text_model(input_ids, attention_mask, position_ids)
        embeds = self.text_projection(x["pooler_output"])
        return ModelOutput(text_embeds=embeds, last_hidden_state=x["last_hidden_state"])


class CLIPVisionModelWithProjection(CLIPPreTrainedModel):
    """The vision tower up to where texts meet it: `image_embeds` (batch, projection_dim), `last_hidden_state`."""

    config_class = CLIPVisionConfig
    base_model_prefix = "vision_model"

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.vision_model = CLIPVisionTransformer(config)
        nn.set_initializer_range(config.initializer_factor * config.hidden_size**-0.5)
        self.visual_projection = nn.Dense(config.hidden_size, config.projection_dim, use_bias=False)

    def call(self, pixel_values=None, interpolate_pos_encoding=False):
        x = self.vision_model(pixel_values)
        embeds = self.visual_projection(x["pooler_output"])
        return ModelOutput(image_embeds=embeds, last_hidden_state=x["last_hidden_state"])


class CLIPForImageClassification(CLIPPreTrainedModel):
    """A class, or numbers, per picture, from the mean of its patches: `logits` (batch, num_labels)."""

    base_model_prefix = "vision_model"

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.vision_model = CLIPVisionTransformer(config.vision_config)
        self.vision_model.post_layernorm.trainable = False  # it is in checkpoints, and has no part in the classes
        nn.set_initializer_range(config.vision_config.hidden_size**-0.5)
        self.classifier = nn.Dense(config.vision_config.hidden_size, config.num_labels)

    def call(self, pixel_values=None):
        x = self.vision_model(pixel_values)["last_hidden_state"]
        return ModelOutput(logits=self.classifier(ops.mean(x[:, 1:], axis=1)))

    def head_loss(self, outputs, labels):
        return losses.sequence_classification(outputs.logits, labels, self.config)
