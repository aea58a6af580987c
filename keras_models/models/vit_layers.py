"""The layers of the Vision Transformer that its descendants keep, under the names in their checkpoints.

Pictures are (batch, height, width, channels), hidden states (batch, tokens, hidden_size).
"""

from keras import ops

from keras_models import losses, nn
from keras_models.outputs import ModelOutput


class PatchEmbeddings(nn.Layer):
    """Cuts pictures into patches and projects each: (batch, rows, columns, hidden_size)."""

    def __init__(self, config):
        super().__init__()
        sizes, patch = nn.pair(config.image_size), nn.pair(config.patch_size)
        self.projection = nn.Conv2D(config.num_channels, config.hidden_size, patch, patch)
        self.grid = grid(sizes, config.patch_size)

    def call(self, pixel_values):
        return self.projection(pixel_values)


def grid(sizes, patch_size):
    """(rows, columns) of the patches of pictures of (height, width)."""
    return tuple(size // patch for size, patch in zip(sizes, nn.pair(patch_size), strict=True))


def check_size(config, inputs):
    """Raises ValueError for pictures of another size than the configuration's, unless positions are interpolated."""
    size = tuple(inputs["pixel_values"].shape[1:3]) if "pixel_values" in inputs else (None, None)
    expected = nn.pair(config.image_size)
    if not inputs.get("interpolate_pos_encoding") and None not in size and size != expected:
        raise ValueError(
            f"pixel_values has pictures of {size[0]} x {size[1]} pixels and the model takes {expected[0]} x "
            f"{expected[1]}: resize them with the model's image processor, or pass interpolate_pos_encoding=True."
        )


def check_mask(embeddings, inputs, grid=grid):
    """Raises ValueError for a `bool_masked_pos` that is not of the pictures' patches, or has nothing to put there.

    Args:
        grid: a function of (height, width) and the patches' that gives (rows, columns) of patches.
    """
    mask, pictures = inputs.get("bool_masked_pos"), inputs.get("pixel_values")
    if mask is None or pictures is None:
        return
    if embeddings.mask_token is None:
        raise ValueError("bool_masked_pos needs a model with a mask token: make it with use_mask_token=True.")
    size, patch = pictures.shape[1:3], embeddings.patch_embeddings.projection.kernel_size
    if None in (*size, mask.shape[-1]):
        return
    rows, columns = grid(size, patch)
    if mask.shape[-1] != rows * columns:
        raise ValueError(
            f"bool_masked_pos has the shape {tuple(mask.shape)}, but the pictures have {rows} x {columns} patches: "
            f"give (batch, {rows * columns})."
        )


def add_positions(x, table, prefix, grid, height, width):
    """Positions added to tokens; those of patches are resized to another grid where need be.

    Args:
        x: (batch, prefix + height * width, size).
        table: (1, prefix + rows * columns, size).
        prefix: how many tokens stand before the patches.
        grid: (rows, columns) of the table.
        height, width: of x, integers or scalar tensors.
    """
    if not (isinstance(height, int) and isinstance(width, int) and (height, width) == grid):
        table = ops.cast(table, "float32")  # or the weights of neighbours would be rounded, and sum up to 1 no more
        patches = nn.resize(nn.to_picture(table[:, prefix:], *grid), (height, width), "bicubic")
        table = ops.concatenate([table[:, :prefix], nn.to_sequence(patches)], axis=1)
    return x + ops.cast(table, x.dtype)


def mask_patches(x, mask, token):
    """Puts `token` in the place of the patches where `mask` (batch, tokens) is 1."""
    if mask is None:
        return x
    return ops.where(ops.cast(ops.expand_dims(mask, -1), "bool"), ops.cast(token, x.dtype), x)


def reconstruct_pictures(model, bare, pixel_values, mask, any_size, tokens):
    """What the masked image modeling heads compute: pictures of the patches' states, and with a mask the loss.

    Args:
        model: has a `decoder`, a list of one convolution as the sequence in checkpoints that it begins.
        tokens: slice of those that stand for patches.
    """
    config = model.config
    if mask is not None and config.patch_size != config.encoder_stride:
        raise ValueError(
            f"bool_masked_pos needs an encoder_stride that is the patch_size, {config.patch_size}, not "
            f"{config.encoder_stride}: only then has the reconstruction the size of the pictures."
        )
    size = tuple(pixel_values.shape[1:3])
    if mask is not None and None not in size and any(each % config.patch_size for each in size):
        raise ValueError(
            f"bool_masked_pos needs pictures of whole patches of {config.patch_size} pixels, not of {size[0]} x "
            f"{size[1]} pixels: resize them with the model's image processor."
        )
    x = bare(pixel_values=pixel_values, bool_masked_pos=mask, interpolate_pos_encoding=any_size)
    x = nn.to_picture(x.last_hidden_state[:, tokens], *grid(nn.sizes(pixel_values), config.patch_size))
    pictures = nn.pixel_shuffle(model.decoder[0](x), config.encoder_stride)
    outputs = ModelOutput(reconstruction=pictures)
    if mask is None:
        return outputs
    return ModelOutput(loss=losses.masked_pictures(pixel_values, pictures, mask, config.patch_size), **outputs)


def prepend(x, *tokens):
    """Tokens of (1, 1, size) before each sequence of (batch, length, size)."""
    batch = ops.shape(x)[0]
    first = [ops.broadcast_to(ops.cast(token, x.dtype), (batch, 1, x.shape[-1])) for token in tokens]
    return ops.concatenate([*first, x], axis=1)


class SelfAttention(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.heads, size = config.num_attention_heads, config.hidden_size
        if size % self.heads:
            raise ValueError(f"hidden_size {size} is not a multiple of num_attention_heads {self.heads}.")
        self.query = nn.Dense(size, size, use_bias=config.qkv_bias)
        self.key = nn.Dense(size, size, use_bias=config.qkv_bias)
        self.value = nn.Dense(size, size, use_bias=config.qkv_bias)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def call(self, x):
        query, key, value = (nn.split_heads(layer(x), self.heads) for layer in (self.query, self.key, self.value))
        return nn.merge_heads(nn.attend(query, key, value, dropout=self.dropout))


class Projection(nn.Layer):
    """The end of both halves of a layer: project and drop."""

    def __init__(self, config, input_dim):
        super().__init__()
        self.dense = nn.Dense(input_dim, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def call(self, x):
        return self.dropout(self.dense(x))


class Attention(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.attention = SelfAttention(config)
        self.output_ = Projection(config, config.hidden_size)

    def call(self, x):
        return self.output_(self.attention(x))


class Intermediate(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.dense = nn.Dense(config.hidden_size, config.intermediate_size, activation=config.hidden_act)

    def call(self, x):
        return self.dense(x)


class EncoderLayer(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = Intermediate(config)
        self.output_ = Projection(config, config.intermediate_size)
        self.layernorm_before = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)
        self.layernorm_after = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)

    def call(self, x):
        x = x + self.attention(self.layernorm_before(x))
        return x + self.output_(self.intermediate(self.layernorm_after(x)))


class Encoder(nn.Layer):
    """The stack of layers, of one class."""

    def __init__(self, config, kind=EncoderLayer):
        super().__init__()
        self.layer = [kind(config) for _ in range(config.num_hidden_layers)]

    def call(self, x):
        return nn.chain(self.layer, x)


class Pooler(nn.Layer):
    """The class token's state after a last dense layer."""

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Dense(config.hidden_size, config.pooler_output_size, activation=config.pooler_act)

    def call(self, x):
        return self.dense(x[:, 0])
