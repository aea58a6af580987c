"""AST, a DeiT over the patches of a spectrogram (https://arxiv.org/abs/2104.01778).

Spectrograms are (batch, frames, mels), hidden states (batch, 2 + patches, hidden_size): the class token, the
distillation token, the patches, all times of the lowest frequencies first.
"""

from dataclasses import dataclass

from keras import ops

from keras_models import losses, nn
from keras_models.config import Config
from keras_models.model import ModelOutput, PreTrainedModel
from keras_models.models import vit_layers


@dataclass(kw_only=True)
class ASTConfig(Config):
    model_type = "audio-spectrogram-transformer"

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    patch_size: int = 16
    qkv_bias: bool = True
    frequency_stride: int = 10
    time_stride: int = 10
    max_length: int = 1024
    num_mel_bins: int = 128

    @property
    def grid(self) -> tuple[int, int]:
        """(frequencies, times) of the patches, which overlap where a stride is less than their size."""
        sizes, strides = (self.num_mel_bins, self.max_length), (self.frequency_stride, self.time_stride)
        return tuple((size - self.patch_size) // stride + 1 for size, stride in zip(sizes, strides, strict=True))


class ASTPreTrainedModel(PreTrainedModel):
    config_class = ASTConfig
    base_model_prefix = "audio_spectrogram_transformer"


class ASTPatchEmbeddings(nn.Layer):
    def __init__(self, config):
        super().__init__()
        strides = (config.frequency_stride, config.time_stride)
        self.projection = nn.Conv2D(1, config.hidden_size, config.patch_size, strides)

    def call(self, input_values):
        pictures = ops.expand_dims(ops.transpose(input_values, (0, 2, 1)), -1)  # (batch, mels, frames, 1)
        return nn.to_sequence(self.projection(pictures))


class ASTEmbeddings(nn.Layer):
    def __init__(self, config):
        super().__init__()
        frequencies, times = config.grid
        self.cls_token = self.parameter(1, 1, config.hidden_size, initializer="zeros")
        self.distillation_token = self.parameter(1, 1, config.hidden_size, initializer="zeros")
        self.patch_embeddings = ASTPatchEmbeddings(config)
        shape = (1, 2 + frequencies * times, config.hidden_size)
        self.position_embeddings = self.parameter(*shape, initializer="zeros")
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def call(self, input_values):
        x = vit_layers.prepend(self.patch_embeddings(input_values), self.cls_token, self.distillation_token)
        return self.dropout(x + ops.cast(self.position_embeddings, x.dtype))


class ASTModel(ASTPreTrainedModel):
    """The bare model: `last_hidden_state` (batch, 2 + patches, hidden_size), `pooler_output` (batch, hidden_size).

    The latter is the mean of the class token and the distillation token.

    Inputs:
        input_values: (batch, max_length, num_mel_bins), as the model's feature extractor returns them.
    """

    sound_ranks = {"input_values": 3}

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.embeddings = ASTEmbeddings(config)
        self.encoder = vit_layers.Encoder(config)
        self.layernorm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)

    def check_inputs(self, inputs):
        config = self.config
        expected, found = (config.max_length, config.num_mel_bins), tuple(inputs["input_values"].shape[1:])
        if any(size not in (None, wanted) for size, wanted in zip(found, expected, strict=True)):
            raise ValueError(
                f"input_values has spectrograms of {found[0]} frames and {found[1]} mels and the model takes "
                f"{expected[0]} and {expected[1]}: make them with the model's feature extractor."
            )

    def call(self, input_values=None):
        x = nn.chain(self.encoder.layer, self.embeddings(input_values), final=self.layernorm)
        return ModelOutput(last_hidden_state=x, pooler_output=(x[:, 0] + x[:, 1]) / 2)


class ASTMLPHead(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.layernorm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)
        self.dense = nn.Dense(config.hidden_size, config.num_labels)

    def call(self, x):
        return self.dense(self.layernorm(x))


class ASTForAudioClassification(ASTPreTrainedModel):
    """A class, or numbers, per sound: `logits` (batch, num_labels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.audio_spectrogram_transformer = ASTModel(config)
        self.classifier = ASTMLPHead(config)

    def call(self, input_values=None):
        x = self.audio_spectrogram_transformer(input_values=input_values)
        return ModelOutput(logits=self.classifier(x.pooler_output))

    def head_loss(self, outputs, labels):
        return losses.sequence_classification(outputs.logits, labels, self.config)
