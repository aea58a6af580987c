"""DINOv2, a ViT trained without labels whose patches serve as features (https://arxiv.org/abs/2304.07193).

Pictures are (batch, height, width, channels), of any size from one patch on, hidden states
(batch, 1 + patches, hidden_size), the class token first.
"""

from dataclasses import dataclass

import keras
from keras import ops

from keras_models import losses, nn
from keras_models.backbone import Backbone, BackboneConfig
from keras_models.model import ModelOutput, PreTrainedModel
from keras_models.models import vit_layers


@dataclass(kw_only=True)
class Dinov2Config(BackboneConfig):
    model_type = "dinov2"

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    mlp_ratio: float = 4
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-6
    image_size: int = 224
    patch_size: int = 14
    num_channels: int = 3
    qkv_bias: bool = True
    layerscale_value: float = 1.0
    drop_path_rate: float = 0.0
    use_swiglu_ffn: bool = False
    apply_layernorm: bool = True
    reshape_hidden_states: bool = True
    use_mask_token: bool = True

    @property
    def stage_names(self):
        return ["stem", *(f"stage{index}" for index in range(1, self.num_hidden_layers + 1))]


class Dinov2Embeddings(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.cls_token = self.parameter(1, 1, config.hidden_size)
        self.mask_token = self.parameter(1, config.hidden_size, initializer="zeros") if config.use_mask_token else None
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


class LayerScale(nn.Layer):
    """A factor per feature, for the branches of deep networks to begin small (https://arxiv.org/abs/2103.17239)."""

    def __init__(self, config):
        super().__init__()
        first = keras.initializers.Constant(config.layerscale_value)
        self.lambda1 = self.parameter(config.hidden_size, initializer=first)

    def call(self, x):
        return x * ops.cast(self.lambda1, x.dtype)


class MLP(nn.Layer):
    def __init__(self, config):
        super().__init__()
        size, width = config.hidden_size, int(config.hidden_size * config.mlp_ratio)
        self.fc1 = nn.Dense(size, width, activation=config.hidden_act)
        self.fc2 = nn.Dense(width, size)

    def call(self, x):
        return self.fc2(self.fc1(x))


class SwiGLU(nn.Layer):
    """A gated feed-forward network, of the giant model (https://arxiv.org/abs/2002.05202)."""

    def __init__(self, config):
        super().__init__()
        # Two thirds of the usual width, for as many parameters, up to the next multiple of 8.
        width = (int(int(config.hidden_size * config.mlp_ratio) * 2 / 3) + 7) // 8 * 8
        self.weights_in = nn.Dense(config.hidden_size, 2 * width)
        self.weights_out = nn.Dense(width, config.hidden_size)

    def call(self, x):
        gate, x = ops.split(self.weights_in(x), 2, axis=-1)
        return self.weights_out(ops.silu(gate) * x)


class Dinov2Layer(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.norm1 = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)
        self.attention = vit_layers.Attention(config)
        self.layer_scale1 = LayerScale(config)
        self.drop_path = nn.DropPath(config.drop_path_rate)
        self.norm2 = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)
        self.mlp = SwiGLU(config) if config.use_swiglu_ffn else MLP(config)
        self.layer_scale2 = LayerScale(config)

    def call(self, x):
        x = x + self.drop_path(self.layer_scale1(self.attention(self.norm1(x))))
        return x + self.drop_path(self.layer_scale2(self.mlp(self.norm2(x))))


class Dinov2PreTrainedModel(PreTrainedModel):
    config_class = Dinov2Config
    base_model_prefix = "dinov2"
    optional = (r"^(dinov2\.)?embeddings\.mask_token$",)

    def check_inputs(self, inputs):
        size = tuple(inputs["pixel_values"].shape[1:3]) if "pixel_values" in inputs else (None, None)
        patch = self.config.patch_size
        if None not in size and min(size) < patch:
            raise ValueError(
                f"pixel_values has pictures of {size[0]} x {size[1]} pixels, less than a patch of {patch} x {patch}: "
                "resize them with the model's image processor."
            )
        vit_layers.check_mask(self.embeddings, inputs)


class Dinov2Model(Dinov2PreTrainedModel):
    """The bare model: `last_hidden_state` (batch, 1 + patches, hidden_size), `pooler_output` (batch, hidden_size).

    Inputs:
        pixel_values: (batch, height, width, channels); what is left of a size beyond whole patches is not looked at.
        bool_masked_pos: (batch, patches), 1 for patches to hide; needs `config.use_mask_token`.
    """

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.embeddings = Dinov2Embeddings(config)
        self.encoder = vit_layers.Encoder(config, Dinov2Layer)
        self.layernorm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)

    def call(self, pixel_values=None, bool_masked_pos=None):
        x = self.layernorm(self.encoder(self.embeddings(pixel_values, bool_masked_pos)))
        return ModelOutput(last_hidden_state=x, pooler_output=x[:, 0])


class Dinov2ForImageClassification(Dinov2PreTrainedModel):
    """A class, or numbers, per picture, from the class token and the patches' mean: `logits` (batch, num_labels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.dinov2 = Dinov2Model(config)
        self.classifier = nn.Dense(2 * config.hidden_size, config.num_labels)

    def call(self, pixel_values=None):
        x = self.dinov2(pixel_values=pixel_values).last_hidden_state
        x = ops.concatenate([x[:, 0], ops.mean(x[:, 1:], axis=1)], axis=-1)
        return ModelOutput(logits=self.classifier(x))

    def head_loss(self, outputs, labels):
        return losses.sequence_classification(outputs.logits, labels, self.config)


class Dinov2Backbone(Backbone, Dinov2PreTrainedModel):
    """Feature maps of the stages in `config.out_features`: `feature_maps`, each (batch, rows, columns, hidden_size).

    Without `config.reshape_hidden_states` they are hidden states, (batch, 1 + patches, hidden_size).
    """

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.num_features = [config.hidden_size] * len(config.stage_names)
        self.embeddings = Dinov2Embeddings(config)
        self.encoder = vit_layers.Encoder(config, Dinov2Layer)
        self.layernorm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)

    def call(self, pixel_values=None):
        with nn.captured("hidden_states") as states:
            self.encoder(self.embeddings(pixel_values))
        maps = self.chosen(states).feature_maps
        if self.config.apply_layernorm:
            maps = [self.layernorm(x) for x in maps]
        if self.config.reshape_hidden_states:
            rows, columns = (size // self.config.patch_size for size in nn.sizes(pixel_values))
            maps = [nn.to_picture(x[:, 1:], rows, columns) for x in maps]
        return ModelOutput(feature_maps=tuple(maps))
