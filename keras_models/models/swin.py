"""Swin, a pyramid of transformers that attend within windows, every other time shifted (https://arxiv.org/abs/2103.14030).

Pictures and feature maps are (batch, height, width, channels), all the way through; hidden states are also given as
sequences (batch, height * width, channels).
"""

from dataclasses import dataclass, field

import numpy as np
from keras import ops

from keras_models import losses, nn
from keras_models.backbone import Backbone, BackboneConfig
from keras_models.model import ModelOutput, PreTrainedModel
from keras_models.models import vit_layers

EPSILON = 1e-5  # of the norms outside of blocks, whatever layer_norm_eps says
HIDDEN = -100.0  # what scores of places that were no neighbours before the shift are lowered by


@dataclass(kw_only=True)
class SwinConfig(BackboneConfig):
    model_type = "swin"
    attribute_map = {"num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"}

    image_size: int | list[int] = 224
    patch_size: int | list[int] = 4
    num_channels: int = 3
    embed_dim: int = 96
    depths: list[int] = field(default_factory=lambda: [2, 2, 6, 2])
    num_heads: list[int] = field(default_factory=lambda: [3, 6, 12, 24])
    window_size: int = 7
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    drop_path_rate: float = 0.1
    hidden_act: str = "gelu"
    use_absolute_embeddings: bool = False
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    encoder_stride: int = 32

    def __post_init__(self):
        super().__post_init__()
        for name in ("hidden_size", "num_layers"):  # written by others; here they follow from the settings
            self.extra.pop(name, None)
        if len(self.num_heads) != len(self.depths):
            raise ValueError(f"num_heads={self.num_heads} and depths={self.depths} must have a number for each stage.")
        if any(self.size(stage) % heads for stage, heads in enumerate(self.num_heads)):
            sizes = [self.size(stage) for stage in range(self.num_layers)]
            raise ValueError(
                f"The stages' sizes {sizes}, doubled from embed_dim={self.embed_dim} on, must be multiples of "
                f"num_heads={self.num_heads}."
            )

    def size(self, stage: int) -> int:
        """The channels of a stage, from 0 on."""
        return self.embed_dim * 2**stage

    @property
    def hidden_size(self) -> int:
        """The channels of the last stage."""
        return self.size(self.num_layers - 1)

    @property
    def num_layers(self) -> int:
        """The number of stages."""
        return len(self.depths)

    @property
    def stage_names(self):
        return ["stem", *(f"stage{index}" for index in range(1, self.num_layers + 1))]

    def to_dict(self):
        return super().to_dict() | {"hidden_size": self.hidden_size, "num_layers": self.num_layers}


def steps(size, step):
    """How many steps it takes to cover a size."""
    return -(-size // step)


def is_known(*sizes):
    """Whether sizes are integers, not tensors of a graph for pictures of any size."""
    return all(isinstance(size, int) for size in sizes)


class PatchEmbeddings(nn.Layer):
    """Projects patches of pictures, which are filled up to whole patches."""

    def __init__(self, config):
        super().__init__()
        self.patch = nn.pair(config.patch_size)
        self.projection = nn.Conv2D(config.num_channels, config.embed_dim, self.patch, self.patch)

    def call(self, x):
        return self.projection(nn.pad_to_multiples(x, self.patch))


class Embeddings(nn.Layer):
    """Patches as a map (batch, rows, columns, embed_dim)."""

    def __init__(self, config, use_mask_token=False):
        super().__init__()
        size = config.embed_dim
        self.patch_embeddings = PatchEmbeddings(config)
        self.norm = nn.LayerNormalization(size, EPSILON)
        self.mask_token = self.parameter(1, 1, size, initializer="zeros") if use_mask_token else None
        self.grid = vit_layers.grid(nn.pair(config.image_size), config.patch_size)
        self.position_embeddings = None
        if config.use_absolute_embeddings:  # the first stands for a class token, which there is none of
            self.position_embeddings = self.parameter(1, 1 + self.grid[0] * self.grid[1], size, initializer="zeros")
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def call(self, pixel_values, hidden=None):
        x = self.norm(self.patch_embeddings(pixel_values))
        height, width = nn.sizes(x)
        x = vit_layers.mask_patches(nn.to_sequence(x), hidden, self.mask_token)
        if self.position_embeddings is not None:
            table = ops.convert_to_tensor(self.position_embeddings)[:, 1:]
            x = vit_layers.add_positions(x, table, 0, self.grid, height, width)
        return nn.to_picture(self.dropout(x), height, width)


class SelfAttention(nn.Layer):
    """Attention within windows, (windows, places, size), with a bias for each offset between two places."""

    def __init__(self, config, stage):
        super().__init__()
        size, self.heads, self.window = config.size(stage), config.num_heads[stage], config.window_size
        self.relative_position_bias_table = self.parameter((2 * self.window - 1) ** 2, self.heads, initializer="zeros")
        self.query = nn.Dense(size, size, use_bias=config.qkv_bias)
        self.key = nn.Dense(size, size, use_bias=config.qkv_bias)
        self.value = nn.Dense(size, size, use_bias=config.qkv_bias)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    @property
    def constants(self):
        """What files hold besides, because the reference asks for it."""
        places = self.window**2
        return {"relative_position_index": self.offsets(self.window).reshape(places, places).astype("int64")}

    def offsets(self, window):
        """For each two places of a window, the row in the table that tells their offset: (window^4,)."""
        module = np if is_known(window) else ops
        places = module.arange(window)
        offsets = places[:, None] - places[None, :] + self.window - 1
        return module.reshape(offsets[:, None, :, None] * (2 * self.window - 1) + offsets[None, :, None, :], (-1,))

    def position_bias(self, window):
        """(1, heads, places, places), for a window of this size, which is the configuration's or less."""
        table = ops.transpose(ops.convert_to_tensor(self.relative_position_bias_table))
        return ops.reshape(ops.take(table, self.offsets(window), axis=1), (1, self.heads, window**2, window**2))

    def call(self, x, bias):
        parts = (nn.split_heads(layer(x), self.heads) for layer in (self.query, self.key, self.value))
        return nn.merge_heads(nn.attend(*parts, bias=ops.cast(bias, x.dtype), dropout=self.dropout))


class Attention(nn.Layer):
    def __init__(self, config, stage):
        super().__init__()
        self.self = SelfAttention(config, stage)
        self.output_ = {"dense": nn.Dense(config.size(stage), config.size(stage))}
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def call(self, x, bias):
        return self.dropout(self.output_["dense"](self.self(x, bias)))


def regions(count, window, shift):
    """Along one axis of a shifted map, numbers that tell what came from elsewhere: (count, window) of windows."""
    places = ops.arange(count * window)
    kinds = [ops.cast(places >= count * window - each, "int32") for each in (window, shift)]
    return ops.reshape(kinds[0] + kinds[1], (count, window))


def shift_bias(grid, window, shift):
    """What hides places from each other that a shift brought into one window: (windows, 1, places, places)."""
    rows, columns = (regions(count, window, shift) for count in grid)
    kinds = 3 * rows[:, None, :, None] + columns[None, :, None, :]  # (windows down, windows across, window, window)
    kinds = ops.reshape(kinds, (grid[0] * grid[1], 1, window**2))
    return ops.where(kinds[:, :, :, None] != kinds[:, :, None, :], HIDDEN, 0.0)


class Block(nn.Layer):
    """Attention within windows, then a feed-forward network.

    Args:
        is_shifted: whether windows lie half a window further down and right.
        always_partition: keep to the window's size where the map is smaller, as backbones do; it shrinks otherwise.
    """

    def __init__(self, config, stage, is_shifted, drop_path, always_partition):
        super().__init__()
        size = config.size(stage)
        width = int(config.mlp_ratio * size)
        self.window, self.shift = config.window_size, config.window_size // 2 if is_shifted else 0
        self.always_partition = always_partition
        self.layernorm_before = nn.LayerNormalization(size, config.layer_norm_eps)
        self.attention = Attention(config, stage)
        self.drop_path = nn.DropPath(drop_path)
        self.layernorm_after = nn.LayerNormalization(size, config.layer_norm_eps)
        self.intermediate = {"dense": nn.Dense(size, width, activation=config.hidden_act)}
        self.output_ = {"dense": nn.Dense(width, size)}
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def fitting(self, height, width):
        """The size of windows for a map, and how far they are shifted."""
        known = is_known(height, width)
        # JAX infers shapes with symbols, neither integers nor tensors: the window makes no difference to them.
        if self.always_partition or not (known or ops.is_tensor(height) or ops.is_tensor(width)):
            return self.window, self.shift
        if known:
            return (self.window, self.shift) if min(height, width) > self.window else (min(height, width), 0)
        smaller = ops.minimum(height, width)
        shift = ops.where(smaller > self.window, self.shift, 0) if self.shift else 0
        return ops.minimum(smaller, self.window), shift

    def attend(self, x):
        """Attention of each place of a map to its window."""
        batch, (height, width) = ops.shape(x)[0], nn.sizes(x)
        window, shift = self.fitting(height, width)
        is_shifted = not (is_known(shift) and shift == 0)
        bias = self.attention.self.position_bias(window)
        grid = steps(height, window), steps(width, window)
        x = nn.pad_to_multiples(x, (window, window))
        if is_shifted:
            x = ops.roll(x, (-shift, -shift), axis=(1, 2))
            bias = bias + ops.tile(ops.cast(shift_bias(grid, window, shift), bias.dtype), (batch, 1, 1, 1))
        x = nn.from_windows(self.attention(nn.to_windows(x, window, grid), bias), window, grid, batch)
        x = ops.roll(x, (shift, shift), axis=(1, 2)) if is_shifted else x
        return x[:, :height, :width]

    def call(self, x):
        x = x + self.drop_path(self.attend(self.layernorm_before(x)))
        return x + self.dropout(self.output_["dense"](self.intermediate["dense"](self.layernorm_after(x))))


class PatchMerging(nn.Layer):
    """Each two by two places as one, of twice the channels; a missing row or column counts as zeros."""

    def __init__(self, size):
        super().__init__()
        self.reduction = nn.Dense(4 * size, 2 * size, use_bias=False)
        self.norm = nn.LayerNormalization(4 * size, EPSILON)

    def call(self, x):
        x = nn.pad_to_multiples(x, (2, 2))
        batch, height, width, size = ops.shape(x)
        x = ops.reshape(x, (batch, height // 2, 2, width // 2, 2, size))
        x = ops.transpose(x, (0, 1, 3, 4, 2, 5))  # of the four places the one below comes second
        return self.reduction(self.norm(ops.reshape(x, (batch, height // 2, width // 2, 4 * size))))


class Stage(nn.Layer):
    """Blocks, of which the last one's attentions are recorded. The merging after them is called from outside."""

    def __init__(self, config, stage, drop_paths, always_partition):
        super().__init__()
        self.blocks = [
            Block(config, stage, index % 2 == 1, drop_path, always_partition)
            for index, drop_path in enumerate(drop_paths)
        ]
        self.downsample = PatchMerging(config.size(stage)) if stage < config.num_layers - 1 else None

    def call(self, x):
        with nn.records([]):
            for block in self.blocks[:-1]:
                x = block(x)
        return self.blocks[-1](x)


class Encoder(nn.Layer):
    """From the patches to a list of maps: the patches, and each stage's outputs, which models take merged."""

    def __init__(self, config, is_backbone=False):
        super().__init__()
        self.is_backbone = is_backbone
        rates = np.linspace(0.0, config.drop_path_rate, sum(config.depths)).tolist()
        ends = np.cumsum([0, *config.depths]).tolist()
        self.layers_ = [
            Stage(config, stage, rates[ends[stage] : ends[stage + 1]], always_partition=is_backbone)
            for stage in range(config.num_layers)
        ]

    def call(self, x):
        maps = [x]
        for stage in self.layers_:
            own = stage(x)
            x = own if stage.downsample is None else stage.downsample(own)
            maps.append(own if self.is_backbone else x)
        for each in maps:
            nn.record("hidden_states", nn.to_sequence(each))
            if not self.is_backbone:
                nn.record("reshaped_hidden_states", each)
        return maps


class SwinPreTrainedModel(PreTrainedModel):
    config_class = SwinConfig
    base_model_prefix = "swin"
    optional = (r"^(swin\.)?embeddings\.mask_token$", r"^hidden_states_norms\.")


class SwinModel(SwinPreTrainedModel):
    """The bare model: `last_hidden_state` (batch, height * width, channels), `pooler_output` (batch, channels).

    Height and width are the pictures' divided by patch_size and by 2 for each stage but one, rounded up. With
    `output_hidden_states=True` there are also `reshaped_hidden_states`, each (batch, height, width, channels).

    Inputs:
        pixel_values: (batch, height, width, channels), of any size unless `config.use_absolute_embeddings`.
        bool_masked_pos: (batch, patches), 1 for patches to hide; needs `use_mask_token=True`.
        interpolate_pos_encoding: take pictures of any size with absolute embeddings, too.
    """

    def __init__(self, config, add_pooling_layer=True, use_mask_token=False, **kwargs):
        super().__init__(config, **kwargs)
        self.embeddings = Embeddings(config, use_mask_token)
        self.encoder = Encoder(config)
        self.layernorm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)
        self.is_pooled = add_pooling_layer

    def check_inputs(self, inputs):
        if self.config.use_absolute_embeddings:
            vit_layers.check_size(self.config, inputs)
        vit_layers.check_mask(self.embeddings, inputs, grid=lambda size, patch: tuple(map(steps, size, patch)))

    def call(self, pixel_values=None, bool_masked_pos=None, interpolate_pos_encoding=False):
        x = self.encoder(self.embeddings(pixel_values, bool_masked_pos))[-1]
        x = nn.to_sequence(self.layernorm(x))
        outputs = ModelOutput(last_hidden_state=x)
        if self.is_pooled:
            outputs["pooler_output"] = ops.mean(x, axis=1)
        return outputs


class SwinForImageClassification(SwinPreTrainedModel):
    """A class, or numbers, per picture: `logits` (batch, num_labels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.swin = SwinModel(config)
        self.classifier = nn.Dense(config.hidden_size, config.num_labels)

    def call(self, pixel_values=None, interpolate_pos_encoding=False):
        return ModelOutput(logits=self.classifier(self.swin(pixel_values=pixel_values).pooler_output))

    def head_loss(self, outputs, labels):
        return losses.sequence_classification(outputs.logits, labels, self.config)


class SwinForMaskedImageModeling(SwinPreTrainedModel):
    """The pixels of hidden patches (https://arxiv.org/abs/2111.09886): `reconstruction`, of the pictures' shape.

    With `bool_masked_pos` there is a `loss` without further labels.
    """

    label_names = ()

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.patch = nn.pair(config.patch_size)
        self.swin = SwinModel(config, add_pooling_layer=False, use_mask_token=True)
        self.decoder = [nn.Conv2D(config.hidden_size, config.encoder_stride**2 * config.num_channels, 1)]

    def call(self, pixel_values=None, bool_masked_pos=None, interpolate_pos_encoding=False):
        size, strides = nn.sizes(pixel_values), [each * 2 ** (self.config.num_layers - 1) for each in self.patch]
        if bool_masked_pos is not None:
            self.check_strides(size, strides)
        x = self.swin(pixel_values=pixel_values, bool_masked_pos=bool_masked_pos).last_hidden_state
        x = self.decoder[0](nn.to_picture(x, *map(steps, size, strides)))
        outputs = ModelOutput(reconstruction=nn.pixel_shuffle(x, self.config.encoder_stride))
        if bool_masked_pos is None:
            return outputs
        loss = losses.masked_pictures(pixel_values, outputs.reconstruction, bool_masked_pos, self.patch[0])
        return ModelOutput(loss=loss, **outputs)

    def check_strides(self, size, strides):
        """Raises ValueError where the reconstruction of pictures (height, width) would be of another size."""
        if strides != [self.config.encoder_stride] * 2:
            raise ValueError(
                f"bool_masked_pos needs an encoder_stride of {strides[0]}, the patch_size doubled at each stage but "
                f"the first, not {self.config.encoder_stride}: only then has the reconstruction the pictures' size."
            )
        if is_known(*size) and any(each % strides[0] for each in size):
            raise ValueError(
                f"bool_masked_pos needs pictures of multiples of {strides[0]} pixels, not of {size[0]} x {size[1]}: "
                "resize them with the model's image processor."
            )


class SwinBackbone(Backbone, SwinPreTrainedModel):
    """Feature maps of the stages in `config.out_features`: `feature_maps`, each (batch, height, width, channels).

    A stage's map is that before its places are merged. Pictures may have any size; absolute embeddings are resized.
    """

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.num_features = [config.embed_dim, *(config.size(stage) for stage in range(config.num_layers))]
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config, is_backbone=True)
        self.hidden_states_norms = {
            name: nn.LayerNormalization(size, EPSILON)
            for name, size in zip(self.out_features, self.channels, strict=True)
        }

    def call(self, pixel_values=None):
        outputs = self.chosen(self.encoder(self.embeddings(pixel_values)))
        norms = self.hidden_states_norms.values()
        outputs["feature_maps"] = tuple(norm(x) for norm, x in zip(norms, outputs.feature_maps, strict=True))
        return outputs
