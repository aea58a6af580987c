"""SegFormer, a pyramid of transformers and a light head for classes per pixel (https://arxiv.org/abs/2105.15203).

Pictures and feature maps are (batch, height, width, channels), all the way through.
"""

from dataclasses import dataclass, field

import numpy as np
from keras import ops

from keras_models import losses, nn
from keras_models.config import Config
from keras_models.model import ModelOutput, PreTrainedModel

EPSILON = 1e-5  # of all norms, whatever layer_norm_eps says


@dataclass(kw_only=True)
class SegformerConfig(Config):
    model_type = "segformer"

    num_channels: int = 3
    num_encoder_blocks: int = 4
    depths: list[int] = field(default_factory=lambda: [2, 2, 2, 2])
    sr_ratios: list[int] = field(default_factory=lambda: [8, 4, 2, 1])
    hidden_sizes: list[int] = field(default_factory=lambda: [32, 64, 160, 256])
    patch_sizes: list[int] = field(default_factory=lambda: [7, 3, 3, 3])
    strides: list[int] = field(default_factory=lambda: [4, 2, 2, 2])
    num_attention_heads: list[int] = field(default_factory=lambda: [1, 2, 5, 8])
    mlp_ratios: list[float] = field(default_factory=lambda: [4, 4, 4, 4])
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    classifier_dropout_prob: float = 0.1
    initializer_range: float = 0.02
    drop_path_rate: float = 0.1
    layer_norm_eps: float = 1e-6
    decoder_hidden_size: int = 256
    reshape_last_stage: bool = True
    semantic_loss_ignore_index: int = 255

    def __post_init__(self):
        super().__post_init__()
        stages = self.num_encoder_blocks
        for name in (
            "depths", "sr_ratios", "hidden_sizes", "patch_sizes", "strides", "num_attention_heads", "mlp_ratios"
        ):  # fmt: skip
            if len(getattr(self, name)) < stages:
                raise ValueError(
                    f"{name}={getattr(self, name)} must have a number for each of the {stages} num_encoder_blocks."
                )
        for size, heads in zip(self.hidden_sizes, self.num_attention_heads, strict=False):
            if size % heads:
                raise ValueError(
                    f"hidden_sizes={self.hidden_sizes} must be multiples of num_attention_heads="
                    f"{self.num_attention_heads}."
                )


class PatchEmbeddings(nn.Layer):
    """Overlapping patches of a picture or a feature map, projected."""

    def __init__(self, config, stage):
        super().__init__()
        patch, size = config.patch_sizes[stage], config.hidden_sizes[stage]
        channels = config.hidden_sizes[stage - 1] if stage else config.num_channels
        self.proj = nn.Conv2D(channels, size, patch, config.strides[stage], patch // 2)
        self.layer_norm = nn.LayerNormalization(size, EPSILON)

    def call(self, x):
        return self.layer_norm(self.proj(x))


class SelfAttention(nn.Layer):
    """Attention of every place to a map reduced `sr_ratios` times in height and width."""

    def __init__(self, config, stage):
        super().__init__()
        size, ratio = config.hidden_sizes[stage], config.sr_ratios[stage]
        self.heads = config.num_attention_heads[stage]
        self.query = nn.Dense(size, size)
        self.key = nn.Dense(size, size)
        self.value = nn.Dense(size, size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self.sr = self.layer_norm = None
        if ratio > 1:
            self.sr = nn.Conv2D(size, size, ratio, ratio)
            self.layer_norm = nn.LayerNormalization(size, EPSILON)

    def call(self, x):
        height, width = nn.sizes(x)
        reduced = x if self.sr is None else self.layer_norm(self.sr(x))
        x, reduced = nn.to_sequence(x), nn.to_sequence(reduced)
        parts = self.query(x), self.key(reduced), self.value(reduced)
        x = nn.attend(*(nn.split_heads(part, self.heads) for part in parts), dropout=self.dropout)
        return nn.to_picture(nn.merge_heads(x), height, width)


class Attention(nn.Layer):
    def __init__(self, config, stage):
        super().__init__()
        size = config.hidden_sizes[stage]
        self.self = SelfAttention(config, stage)
        self.output_ = {"dense": nn.Dense(size, size)}
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def call(self, x):
        return self.dropout(self.output_["dense"](self.self(x)))


class MixFFN(nn.Layer):
    """A feed-forward network that learns about places from a depthwise convolution, instead of position embeddings."""

    def __init__(self, config, stage):
        super().__init__()
        size = config.hidden_sizes[stage]
        inner = int(size * config.mlp_ratios[stage])
        self.dense1 = nn.Dense(size, inner)
        self.dwconv = {"dwconv": nn.Conv2D(inner, inner, 3, 1, 1, groups=inner, activation=config.hidden_act)}
        self.dense2 = nn.Dense(inner, size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def call(self, x):
        x = self.dropout(self.dwconv["dwconv"](self.dense1(x)))
        return self.dropout(self.dense2(x))


class Block(nn.Layer):
    def __init__(self, config, stage, drop_path):
        super().__init__()
        size = config.hidden_sizes[stage]
        self.layer_norm_1 = nn.LayerNormalization(size, EPSILON)
        self.attention = Attention(config, stage)
        self.drop_path = nn.DropPath(drop_path)
        self.layer_norm_2 = nn.LayerNormalization(size, EPSILON)
        self.mlp = MixFFN(config, stage)

    def call(self, x):
        x = x + self.drop_path(self.attention(self.layer_norm_1(x)))
        return x + self.drop_path(self.mlp(self.layer_norm_2(x)))


class Encoder(nn.Layer):
    """The feature maps of all stages, each (batch, height, width, size)."""

    def __init__(self, config):
        super().__init__()
        stages = range(config.num_encoder_blocks)
        rates = iter(np.linspace(0, config.drop_path_rate, sum(config.depths)).tolist())
        self.patch_embeddings = [PatchEmbeddings(config, stage) for stage in stages]
        self.block = [[Block(config, stage, next(rates)) for _ in range(config.depths[stage])] for stage in stages]
        self.layer_norm = [nn.LayerNormalization(config.hidden_sizes[stage], EPSILON) for stage in stages]
        self.flat_end = not config.reshape_last_stage

    def call(self, x):
        maps = []
        for embed, blocks, norm in zip(self.patch_embeddings, self.block, self.layer_norm, strict=True):
            x = embed(x)
            for block in blocks:
                x = block(x)
            x = norm(x)
            maps.append(x)
        for x in maps[:-1]:
            nn.record("hidden_states", x)
        nn.record("hidden_states", self.shaped(maps[-1]))
        return maps

    def shaped(self, x):
        """The last stage's map in the shape that users get it in."""
        return nn.to_sequence(x) if self.flat_end else x


class SegformerPreTrainedModel(PreTrainedModel):
    config_class = SegformerConfig
    base_model_prefix = "segformer"


class SegformerModel(SegformerPreTrainedModel):
    """The bare model: `last_hidden_state` (batch, height / 32, width / 32, size).

    With `reshape_last_stage=False` in the configuration it is (batch, height / 32 * width / 32, size).
    """

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.encoder = Encoder(config)

    def check_inputs(self, inputs):
        shape = inputs["pixel_values"].shape if "pixel_values" in inputs else (None,) * 4
        sizes, config = shape[1:3], self.config
        if None in sizes:
            return
        for stage in range(config.num_encoder_blocks):
            patch, ratio = config.patch_sizes[stage], config.sr_ratios[stage]
            sizes = [(size + patch // 2 * 2 - patch) // config.strides[stage] + 1 for size in sizes]
            if min(sizes) < ratio:
                raise ValueError(
                    f"pixel_values has pictures of {shape[1]} x {shape[2]} pixels, of which stage {stage + 1} sees "
                    f"{sizes[0]} x {sizes[1]} places and takes at least {ratio} x {ratio}: enlarge the pictures, e.g. "
                    "with the model's image processor."
                )

    def call(self, pixel_values=None):
        return ModelOutput(last_hidden_state=self.encoder.shaped(self.encoder(pixel_values)[-1]))


class SegformerForImageClassification(SegformerPreTrainedModel):
    """A class, or numbers, per picture: `logits` (batch, num_labels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.segformer = SegformerModel(config)
        self.classifier = nn.Dense(config.hidden_sizes[config.num_encoder_blocks - 1], config.num_labels)

    def call(self, pixel_values=None):
        x = self.segformer(pixel_values=pixel_values).last_hidden_state
        return ModelOutput(logits=self.classifier(ops.mean(x, axis=tuple(range(1, len(x.shape) - 1)))))

    def head_loss(self, outputs, labels):
        return losses.sequence_classification(outputs.logits, labels, self.config)


class DecodeHead(nn.Layer):
    """Class scores of a feature map per stage, of the first one's size."""

    def __init__(self, config):
        super().__init__()
        stages, size = config.num_encoder_blocks, config.decoder_hidden_size
        self.linear_c = [{"proj": nn.Dense(each, size)} for each in config.hidden_sizes[:stages]]
        self.linear_fuse = nn.Conv2D(size * stages, size, 1, use_bias=False)
        self.batch_norm = nn.BatchNormalization(size)
        self.dropout = nn.Dropout(config.classifier_dropout_prob)
        self.classifier = nn.Conv2D(size, config.num_labels, 1)

    def call(self, maps):
        size = nn.sizes(maps[0])
        projections = [linear["proj"] for linear in self.linear_c][::-1]
        if any(each.quantization_mode for each in projections):
            parts = [nn.resize(proj(x), size) for proj, x in zip(projections, maps[::-1], strict=True)]
            x = self.batch_norm(self.linear_fuse(ops.concatenate(parts, axis=-1)))
        else:
            x = self.fuse(projections, maps[::-1], size)
        return self.classifier(self.dropout(ops.relu(x)))

    def fuse(self, projections, maps, size):
        """The normalized sum of resized maps: what `call` computes of them side by side, at a fraction of the cost.

        Resizing and products at single places commute, so each map is multiplied while it is small, and only once:
        with its projection times its part of the fusing kernel, and all biases are added to the smallest.
        """
        kernel = ops.cast(self.linear_fuse.kernel[0, 0], maps[0].dtype)
        fixed = self.batch_norm.fixed()
        kernel = kernel if fixed is None else kernel * ops.cast(fixed[0], kernel.dtype)
        bias = ops.matmul(ops.concatenate([ops.cast(proj.bias, kernel.dtype) for proj in projections]), kernel)
        bias = bias if fixed is None else bias + ops.cast(fixed[1], kernel.dtype)
        total = None
        for x, proj, part in zip(maps, projections, ops.split(kernel, len(maps)), strict=True):
            x = ops.matmul(x, ops.matmul(ops.cast(proj.kernel, kernel.dtype), part))
            x = nn.resize(x + bias if total is None else x, size)
            total = x if total is None else total + x
        return self.batch_norm(total) if fixed is None else total


class SegformerForSemanticSegmentation(SegformerPreTrainedModel):
    """A class per pixel: `logits` (batch, height / 4, width / 4, num_labels).

    Labels are (batch, height, width); those that are `semantic_loss_ignore_index` do not count. With a single class
    they are 0 or 1, or probabilities.
    """

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.segformer = SegformerModel(config)
        self.decode_head = DecodeHead(config)

    @property
    def ignored_label(self):
        return self.config.semantic_loss_ignore_index

    def call(self, pixel_values=None):
        return ModelOutput(logits=self.decode_head(self.segformer.encoder(pixel_values)))

    def head_loss(self, outputs, labels):
        return losses.semantic_segmentation(outputs.logits, labels, self.ignored_label)
