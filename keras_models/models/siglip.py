"""SigLIP, CLIP with a loss that judges each pair by itself (https://arxiv.org/abs/2303.15343).

Pictures are (batch, height, width, channels), hidden states (batch, length or patches, hidden_size).
"""

from dataclasses import dataclass

from keras import ops

from keras_models import losses, nn, runtime
from keras_models.config import Config
from keras_models.model import ModelOutput, PreTrainedModel
from keras_models.models import clip_layers, vit_layers


@dataclass(kw_only=True)
class SiglipTextConfig(Config):
    model_type = "siglip_text_model"
    part_of = ("siglip", "text_config")

    vocab_size: int = 32000
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 64
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    attention_dropout: float = 0.0
    pad_token_id: int | None = 1
    bos_token_id: int | None = 49406
    eos_token_id: int | list[int] | None = 49407
    projection_size: int | None = None  # hidden_size

    def __post_init__(self):
        super().__post_init__()
        self.projection_size = self.hidden_size if self.projection_size is None else self.projection_size


@dataclass(kw_only=True)
class SiglipVisionConfig(Config):
    model_type = "siglip_vision_model"
    part_of = ("siglip", "vision_config")

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 16
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    attention_dropout: float = 0.0
    vision_use_head: bool = True  # whether there is a pooled output


@dataclass(kw_only=True)
class SiglipConfig(clip_layers.TwoTowersConfig):
    model_type = "siglip"
    parts = {"text_config": SiglipTextConfig, "vision_config": SiglipVisionConfig}


class SiglipTextTransformer(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.embeddings = clip_layers.TextEmbeddings(config)
        self.encoder = clip_layers.Encoder(config)
        self.final_layer_norm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)
        nn.set_initializer_range(config.hidden_size**-0.5)
        self.head = nn.Dense(config.hidden_size, config.projection_size)

    def call(self, input_ids, attention_mask=None, position_ids=None):
        x = self.embeddings(input_ids, position_ids)
        x = self.final_layer_norm(self.encoder(x, nn.attention_bias(x, attention_mask)))
        # The last token's state, padding or not: the model was trained on texts padded to one length.
        return {"last_hidden_state": x, "pooler_output": self.head(x[:, -1])}


class PackedAttention(nn.Layer):
    """Attention of one query to a sequence, with PyTorch's three projections in one: (batch, size)."""

    def __init__(self, size, heads):
        super().__init__()
        self.heads = heads
        nn.set_initializer_range(size**-0.5)
        self.in_proj_weight = self.parameter(3 * size, size)
        self.in_proj_bias = self.parameter(3 * size, initializer="zeros")
        self.out_proj = nn.Dense(size, size)

    def call(self, query, x):
        size = x.shape[-1]
        weight, bias = ops.transpose(ops.convert_to_tensor(self.in_proj_weight)), self.in_proj_bias
        query = runtime.linear(query, weight[:, :size], bias[:size], None)
        x = runtime.linear(x, weight[:, size:], bias[size:], None)
        query, key, value = (nn.split_heads(each, self.heads) for each in (query, x[..., :size], x[..., size:]))
        query = ops.broadcast_to(query, (ops.shape(x)[0], *query.shape[1:]))
        x = nn.attend(query, key, value, record_as="")  # no attentions that anybody asks for
        return self.out_proj(nn.merge_heads(x)[:, 0])


class SiglipPoolingHead(nn.Layer):
    """A picture's vector, by the attention of a learnt query to its patches: (batch, hidden_size)."""

    def __init__(self, config):
        super().__init__()
        nn.set_initializer_range(config.hidden_size**-0.5)
        self.probe = self.parameter(1, 1, config.hidden_size)
        self.attention = PackedAttention(config.hidden_size, config.num_attention_heads)
        self.layernorm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)
        self.mlp = clip_layers.MLP(config)

    def call(self, x):
        x = self.attention(ops.convert_to_tensor(self.probe), x)
        return x + self.mlp(self.layernorm(x))


class SiglipVisionTransformer(nn.Layer):
    """Its `pools` tells whether it is to compute the pooled output that it may have layers for."""

    def __init__(self, config, pools=True):
        super().__init__()
        self.config, self.pools = config, pools and config.vision_use_head
        self.embeddings = clip_layers.VisionEmbeddings(config, class_token=False, patch_bias=True)
        self.encoder = clip_layers.Encoder(config)
        self.post_layernorm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)
        self.head = SiglipPoolingHead(config) if config.vision_use_head else None

    def check_inputs(self, inputs):
        vit_layers.check_size(self.config, inputs)

    def call(self, pixel_values):
        x = self.post_layernorm(self.encoder(self.embeddings(pixel_values)))
        return {"last_hidden_state": x, "pooler_output": self.head(x)} if self.pools else {"last_hidden_state": x}


class SiglipPreTrainedModel(PreTrainedModel):
    config_class = SiglipConfig
    optional = (r"^vision_model\.head\.",)


class SiglipTextModel(SiglipPreTrainedModel):
    """The text tower: `last_hidden_state` (batch, length, hidden_size), `pooler_output` (batch, projection_size).

    Texts must be padded to the length that the model was trained with: padding="max_length".
    """

    config_class = SiglipTextConfig
    ignores_padding = False

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.text_model = SiglipTextTransformer(config)

    def call(self, input_ids=None, attention_mask=None, position_ids=None):
        return ModelOutput(self.text_model(input_ids, attention_mask, position_ids))


class SiglipVisionModel(SiglipPreTrainedModel):
    """The vision tower: `last_hidden_state` (batch, patches, hidden_size), `pooler_output` (batch, hidden_size).

    Inputs:
        pixel_values: (batch, height, width, channels).
        interpolate_pos_encoding: take pictures of any size.
    """

    config_class = SiglipVisionConfig

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.vision_model = SiglipVisionTransformer(config)

    def check_inputs(self, inputs):
        self.vision_model.check_inputs(inputs)

    def call(self, pixel_values=None, interpolate_pos_encoding=False):
        return ModelOutput(self.vision_model(pixel_values))


class SiglipModel(SiglipPreTrainedModel, clip_layers.TwoTowers):
    """Both towers: how well texts fit pictures.

    `logits_per_image` (pictures, texts), `logits_per_text` (texts, pictures), whose sigmoid is a probability;
    `text_embeds` (texts, hidden_size), `image_embeds` (pictures, hidden_size); inputs and all else are those of
    `clip_layers.TwoTowers`. Texts must be padded to the length that the model was trained with. The loss of pairs is
    the binary cross entropy of each text with each picture of the batch.
    """

    ignores_padding = False

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        if not config.vision_config.vision_use_head:
            raise ValueError("SiglipModel compares pooled outputs: it needs vision_config.vision_use_head=True.")
        if config.text_config.projection_size != config.vision_config.hidden_size:
            raise ValueError(
                f"text_config.projection_size is {config.text_config.projection_size} and vision_config.hidden_size "
                f"{config.vision_config.hidden_size}: texts and pictures can only be compared where they are equal."
            )
        self.text_model = SiglipTextTransformer(config.text_config)
        self.vision_model = SiglipVisionTransformer(config.vision_config)
        self.logit_scale = self.add_weight(shape=(1,), initializer="zeros")
        self.logit_bias = self.add_weight(shape=(1,), initializer="zeros")

    def compare(self, text_embeds, image_embeds):
        logits = super().compare(text_embeds, image_embeds)
        return logits + ops.cast(self.logit_bias, logits.dtype)

    def head_loss(self, outputs):
        logits = outputs["logits_per_text"]
        texts = ops.arange(ops.shape(logits)[0])
        is_pair = ops.cast(texts[:, None] == texts[None], logits.dtype)
        return ops.mean(ops.sum(losses.binary_cross_entropy_per_element(logits, is_pair), axis=1))


class SiglipForImageClassification(SiglipPreTrainedModel):
    """A class, or numbers, per picture, from the mean of its patches: `logits` (batch, num_labels)."""

    base_model_prefix = "vision_model"

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.vision_model = SiglipVisionTransformer(config.vision_config, pools=False)
        if self.vision_model.head is not None:
            self.vision_model.head.trainable = False  # it is in checkpoints, and has no part in the classes
        nn.set_initializer_range(config.vision_config.hidden_size**-0.5)
        self.classifier = nn.Dense(config.vision_config.hidden_size, config.num_labels)

    def call(self, pixel_values=None, interpolate_pos_encoding=False):
        x = self.vision_model(pixel_values)["last_hidden_state"]
        return ModelOutput(logits=self.classifier(ops.mean(x, axis=1)))

    def head_loss(self, outputs, labels):
        return losses.sequence_classification(outputs.logits, labels, self.config)
