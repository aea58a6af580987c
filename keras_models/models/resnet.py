"""ResNet, convolutions around which their input passes (https://arxiv.org/abs/1512.03385), version 1.5.

Feature maps are (batch, height, width, channels).
"""

from dataclasses import dataclass, field

from keras import ops

from keras_models import losses, nn
from keras_models.backbone import Backbone, BackboneConfig
from keras_models.model import ModelOutput, PreTrainedModel


@dataclass(kw_only=True)
class ResNetConfig(BackboneConfig):
    model_type = "resnet"

    num_channels: int = 3
    embedding_size: int = 64
    hidden_sizes: list[int] = field(default_factory=lambda: [256, 512, 1024, 2048])
    depths: list[int] = field(default_factory=lambda: [3, 4, 6, 3])
    layer_type: str = "bottleneck"  # or basic
    hidden_act: str = "relu"
    downsample_in_first_stage: bool = False
    downsample_in_bottleneck: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.layer_type not in ("basic", "bottleneck"):
            raise ValueError(f"Unknown layer_type {self.layer_type!r}: use basic or bottleneck.")

    @property
    def stage_names(self):
        return ["stem", *(f"stage{index}" for index in range(1, len(self.depths) + 1))]

    @property
    def stride(self):
        """How many pixels, each way, become one place of the last stage."""
        return 4 * 2 ** (len(self.depths) - 1 + self.downsample_in_first_stage)


class ConvLayer(nn.Layer):
    def __init__(self, input_dim, filters, kernel_size=3, strides=1, activation="relu", norm=nn.BatchNormalization):
        super().__init__()
        self.convolution = nn.Conv2D(input_dim, filters, kernel_size, strides, kernel_size // 2, use_bias=False)
        self.normalization = norm(filters)
        self.activation = None if activation is None else nn.get_activation(activation)

    def call(self, x, residual=None):
        return nn.convolve(self.convolution, self.normalization, x, self.activation, residual)


class Embeddings(nn.Layer):
    def __init__(self, config, norm):
        super().__init__()
        size = config.embedding_size
        self.embedder = ConvLayer(config.num_channels, size, 7, 2, config.hidden_act, norm)

    def call(self, pixel_values):
        return nn.max_pool(self.embedder(pixel_values), 3, 2, 1)


class ResidualLayer(nn.Layer):
    def __init__(self, config, input_dim, filters, strides, norm):
        super().__init__()
        self.shortcut = None
        if input_dim != filters or strides != 1:
            self.shortcut = ConvLayer(input_dim, filters, 1, strides, None, norm)
        if config.layer_type == "basic":
            self.layer = [
                ConvLayer(input_dim, filters, strides=strides, norm=norm),
                ConvLayer(filters, filters, activation=config.hidden_act, norm=norm),
            ]
        else:
            width = filters // 4
            first, second = (strides, 1) if config.downsample_in_bottleneck else (1, strides)
            self.layer = [
                ConvLayer(input_dim, width, 1, first, norm=norm),
                ConvLayer(width, width, 3, second, norm=norm),
                ConvLayer(width, filters, 1, activation=config.hidden_act, norm=norm),
            ]

    def call(self, x):
        residual = x if self.shortcut is None else self.shortcut(x)
        for layer in self.layer[:-1]:
            x = layer(x)
        return self.layer[-1](x, residual)


class Stage(nn.Layer):
    def __init__(self, config, input_dim, filters, strides, depth, norm):
        super().__init__()
        self.layers_ = [
            ResidualLayer(config, filters if index else input_dim, filters, 1 if index else strides, norm)
            for index in range(depth)
        ]

    def call(self, x):
        for layer in self.layers_:
            x = layer(x)
        return x


class Encoder(nn.Layer):
    def __init__(self, config, norm):
        super().__init__()
        sizes = [config.embedding_size, *config.hidden_sizes]
        strides = [2 if config.downsample_in_first_stage else 1] + [2] * (len(config.depths) - 1)
        self.stages = [
            Stage(config, *each, norm) for each in zip(sizes, config.hidden_sizes, strides, config.depths, strict=False)
        ]

    def call(self, x):
        return nn.chain(self.stages, x)


class ResNetPreTrainedModel(PreTrainedModel):
    config_class = ResNetConfig
    base_model_prefix = "resnet"


class ResNetModel(ResNetPreTrainedModel):
    """The bare model: `last_hidden_state` (batch, height, width, channels), `pooler_output` (batch, 1, 1, channels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.embedder = Embeddings(config, nn.BatchNormalization)
        self.encoder = Encoder(config, nn.BatchNormalization)

    def call(self, pixel_values=None):
        x = self.encoder(self.embedder(pixel_values))
        return ModelOutput(last_hidden_state=x, pooler_output=ops.mean(x, axis=(1, 2), keepdims=True))


class ResNetForImageClassification(ResNetPreTrainedModel):
    """A class, or numbers, per picture: `logits` (batch, num_labels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.resnet = ResNetModel(config)
        self.classifier = {"1": nn.Dense(config.hidden_sizes[-1], config.num_labels)}

    def call(self, pixel_values=None):
        x = self.resnet(pixel_values=pixel_values).pooler_output
        return ModelOutput(logits=self.classifier["1"](x[:, 0, 0]))

    def head_loss(self, outputs, labels):
        return losses.sequence_classification(outputs.logits, labels, self.config)


class ResNetBackbone(Backbone, ResNetPreTrainedModel):
    """Feature maps of the stages in `config.out_features`: `feature_maps`, each (batch, height, width, channels)."""

    def __init__(self, config, norm=nn.BatchNormalization, **kwargs):
        super().__init__(config, **kwargs)
        self.num_features = [config.embedding_size, *config.hidden_sizes]
        self.embedder = Embeddings(config, norm)
        self.encoder = Encoder(config, norm)

    def call(self, pixel_values=None):
        x = self.embedder(pixel_values)
        with nn.captured("hidden_states") as maps:
            self.encoder(x)
        return self.chosen(maps)
