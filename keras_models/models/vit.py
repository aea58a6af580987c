"""ViT, a transformer over the patches of a picture (https://arxiv.org/abs/2010.11929).

Pictures are (batch, height, width, channels), hidden states (batch, 1 + patches, hidden_size), the class token first.
"""

from dataclasses import dataclass

from keras_models import losses, nn
from keras_models.config import Config
from keras_models.model import ModelOutput, PreTrainedModel
from keras_models.models import vit_layers


@dataclass(kw_only=True)
class ViTConfig(Config):
    model_type = "vit"

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    image_size: int | list[int] = 224
    patch_size: int | list[int] = 16
    num_channels: int = 3
    qkv_bias: bool = True
    encoder_stride: int = 16
    pooler_output_size: int | None = None  # hidden_size
    pooler_act: str = "tanh"

    def __post_init__(self):
        super().__post_init__()
        self.pooler_output_size = self.pooler_output_size or self.hidden_size


class ViTPreTrainedModel(PreTrainedModel):
    config_class = ViTConfig
    base_model_prefix = "vit"
    optional = (r"^(vit\.)?pooler\.", r"^(vit\.)?embeddings\.mask_token$")


class ViTEmbeddings(nn.Layer):
    def __init__(self, config, use_mask_token=False):
        super().__init__()
        self.cls_token = self.parameter(1, 1, config.hidden_size)
        self.mask_token = self.parameter(1, 1, config.hidden_size, initializer="zeros") if use_mask_token else None
        self.patch_embeddings = vit_layers.PatchEmbeddings(config)
        rows, columns = self.patch_embeddings.grid
        self.position_embeddings = self.parameter(1, 1 + rows * columns, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def call(self, pixel_values, hidden=None):
        x = self.patch_embeddings(pixel_values)
        height, width = nn.sizes(x)
        x = vit_layers.mask_patches(nn.to_sequence(x), hidden, self.mask_token)
        x = vit_layers.prepend(x, self.cls_token)
        x = vit_layers.add_positions(x, self.position_embeddings, 1, self.patch_embeddings.grid, height, width)
        return self.dropout(x)


class ViTModel(ViTPreTrainedModel):
    """The bare model: `last_hidden_state` (batch, 1 + patches, hidden_size), `pooler_output` (batch, hidden_size).

    Inputs:
        pixel_values: (batch, height, width, channels).
        bool_masked_pos: (batch, patches), 1 for patches to hide; needs `use_mask_token=True`.
        interpolate_pos_encoding: take pictures of any size.
    """

    def __init__(self, config, add_pooling_layer=True, use_mask_token=False, **kwargs):
        super().__init__(config, **kwargs)
        self.embeddings = ViTEmbeddings(config, use_mask_token)
        self.encoder = vit_layers.Encoder(config)
        self.layernorm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)
        self.pooler = vit_layers.Pooler(config) if add_pooling_layer else None

    def check_inputs(self, inputs):
        vit_layers.check_size(self.config, inputs)
        vit_layers.check_mask(self.embeddings, inputs)

    def call(self, pixel_values=None, bool_masked_pos=None, interpolate_pos_encoding=False):
        x = self.embeddings(pixel_values, bool_masked_pos)
        x = self.layernorm(self.encoder(x))
        outputs = ModelOutput(last_hidden_state=x)
        if self.pooler is not None:
            outputs["pooler_output"] = self.pooler(x)
        return outputs


class ViTForImageClassification(ViTPreTrainedModel):
    """A class, or numbers, per picture: `logits` (batch, num_labels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.vit = ViTModel(config, add_pooling_layer=False)
        self.classifier = nn.Dense(config.hidden_size, config.num_labels)

    def call(self, pixel_values=None, interpolate_pos_encoding=False):
        x = self.vit(pixel_values=pixel_values, interpolate_pos_encoding=interpolate_pos_encoding)
        return ModelOutput(logits=self.classifier(x.last_hidden_state[:, 0]))

    def head_loss(self, outputs, labels):
        return losses.sequence_classification(outputs.logits, labels, self.config)


class ViTForMaskedImageModeling(ViTPreTrainedModel):
    """The pixels of hidden patches (https://arxiv.org/abs/2111.09886): `reconstruction`, of the pictures' shape.

    With `bool_masked_pos` there is a `loss` without further labels.
    """

    label_names = ()

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.vit = ViTModel(config, add_pooling_layer=False, use_mask_token=True)
        self.decoder = [nn.Conv2D(config.hidden_size, config.encoder_stride**2 * config.num_channels, 1)]

    def call(self, pixel_values=None, bool_masked_pos=None, interpolate_pos_encoding=False):
        inputs = pixel_values, bool_masked_pos, interpolate_pos_encoding
        return vit_layers.reconstruct_pictures(self, self.vit, *inputs, tokens=slice(1, None))
