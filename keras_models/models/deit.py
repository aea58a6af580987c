"""DeiT, a ViT with a second token that learns from a teacher (https://arxiv.org/abs/2012.12877).

Pictures are (batch, height, width, channels), hidden states (batch, 2 + patches, hidden_size): the class token, the
distillation token, the patches.
"""

from dataclasses import dataclass

from keras_models import losses, nn
from keras_models.config import Config
from keras_models.model import ModelOutput, PreTrainedModel
from keras_models.models import vit_layers


@dataclass(kw_only=True)
class DeiTConfig(Config):
    model_type = "deit"

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


class DeiTPreTrainedModel(PreTrainedModel):
    config_class = DeiTConfig
    base_model_prefix = "deit"
    optional = (r"^(deit\.)?pooler\.", r"^(deit\.)?embeddings\.mask_token$")


class DeiTEmbeddings(nn.Layer):
    def __init__(self, config, use_mask_token=False):
        super().__init__()
        self.cls_token = self.parameter(1, 1, config.hidden_size)
        self.distillation_token = self.parameter(1, 1, config.hidden_size)
        self.mask_token = self.parameter(1, 1, config.hidden_size, initializer="zeros") if use_mask_token else None
        self.patch_embeddings = vit_layers.PatchEmbeddings(config)
        rows, columns = self.patch_embeddings.grid
        self.position_embeddings = self.parameter(1, 2 + rows * columns, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def call(self, pixel_values, hidden=None):
        x = self.patch_embeddings(pixel_values)
        height, width = nn.sizes(x)
        x = vit_layers.mask_patches(nn.to_sequence(x), hidden, self.mask_token)
        x = vit_layers.prepend(x, self.cls_token, self.distillation_token)
        x = vit_layers.add_positions(x, self.position_embeddings, 2, self.patch_embeddings.grid, height, width)
        return self.dropout(x)


class DeiTModel(DeiTPreTrainedModel):
    """The bare model: `last_hidden_state` (batch, 2 + patches, hidden_size), `pooler_output` (batch, hidden_size).

    Inputs:
        pixel_values: (batch, height, width, channels).
        bool_masked_pos: (batch, patches), 1 for patches to hide; needs `use_mask_token=True`.
        interpolate_pos_encoding: take pictures of any size.
    """

    def __init__(self, config, add_pooling_layer=True, use_mask_token=False, **kwargs):
        super().__init__(config, **kwargs)
        self.embeddings = DeiTEmbeddings(config, use_mask_token)
        self.encoder = vit_layers.Encoder(config)
        self.layernorm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)
        self.pooler = vit_layers.Pooler(config) if add_pooling_layer else None

    def check_inputs(self, inputs):
        vit_layers.check_size(self.config, inputs)
        vit_layers.check_mask(self.embeddings, inputs)

    def call(self, pixel_values=None, bool_masked_pos=None, interpolate_pos_encoding=False):
        x = self.layernorm(self.encoder(self.embeddings(pixel_values, bool_masked_pos)))
        outputs = ModelOutput(last_hidden_state=x)
        if self.pooler is not None:
            outputs["pooler_output"] = self.pooler(x)
        return outputs


class DeiTForImageClassification(DeiTPreTrainedModel):
    """A class, or numbers, per picture, from the class token: `logits` (batch, num_labels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.deit = DeiTModel(config, add_pooling_layer=False)
        self.classifier = nn.Dense(config.hidden_size, config.num_labels)

    def call(self, pixel_values=None, interpolate_pos_encoding=False):
        x = self.deit(pixel_values=pixel_values, interpolate_pos_encoding=interpolate_pos_encoding)
        return ModelOutput(logits=self.classifier(x.last_hidden_state[:, 0]))

    def head_loss(self, outputs, labels):
        return losses.sequence_classification(outputs.logits, labels, self.config)


class DeiTForImageClassificationWithTeacher(DeiTPreTrainedModel):
    """A class per picture, from both tokens: `logits`, the mean of `cls_logits` and `distillation_logits`.

    All are (batch, num_labels). Training needs a loss: `compile(loss=...)`, which sees `logits`.
    """

    label_names = ()

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.deit = DeiTModel(config, add_pooling_layer=False)
        self.cls_classifier = nn.Dense(config.hidden_size, config.num_labels)
        self.distillation_classifier = nn.Dense(config.hidden_size, config.num_labels)

    def call(self, pixel_values=None, interpolate_pos_encoding=False):
        x = self.deit(pixel_values=pixel_values, interpolate_pos_encoding=interpolate_pos_encoding).last_hidden_state
        first, second = self.cls_classifier(x[:, 0]), self.distillation_classifier(x[:, 1])
        return ModelOutput(logits=(first + second) / 2, cls_logits=first, distillation_logits=second)

    def head_loss(self, outputs):
        raise TypeError(
            "DeiTForImageClassificationWithTeacher has no loss of its own: give it one with compile(loss=...), or load "
            "the checkpoint with DeiTForImageClassification."
        )


class DeiTForMaskedImageModeling(DeiTPreTrainedModel):
    """The pixels of hidden patches (https://arxiv.org/abs/2111.09886): `reconstruction`, of the pictures' shape.

    With `bool_masked_pos` there is a `loss` without further labels.
    """

    label_names = ()

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.deit = DeiTModel(config, add_pooling_layer=False, use_mask_token=True)
        self.decoder = [nn.Conv2D(config.hidden_size, config.encoder_stride**2 * config.num_channels, 1)]

    def call(self, pixel_values=None, bool_masked_pos=None, interpolate_pos_encoding=False):
        inputs = pixel_values, bool_masked_pos, interpolate_pos_encoding
        # As the reference has it: from the distillation token to the last patch but one.
        return vit_layers.reconstruct_pictures(self, self.deit, *inputs, tokens=slice(1, -1))
