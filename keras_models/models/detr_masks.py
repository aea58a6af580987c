"""How DETR draws masks (https://arxiv.org/abs/2005.12872): where queries look, refined by finer feature maps.

Feature maps are (batch, height, width, channels).
"""

from keras import ops

from keras_models import nn


class AttentionMap(nn.Layer):
    """Where each query looks: (batch, queries, size), (batch, height, width, size) -> (batch, queries, height, width,
    heads), probabilities over all places and heads."""

    def __init__(self, size, heads):
        super().__init__()
        self.heads = heads
        self.q_linear = nn.Dense(size, size)
        self.k_linear = nn.Dense(size, size)

    def call(self, x, memory, real=None):
        size = x.shape[-1] // self.heads
        query = ops.reshape(self.q_linear(x) * size**-0.5, (*ops.shape(x)[:2], self.heads, size))
        key = ops.reshape(self.k_linear(memory), (*ops.shape(memory)[:3], self.heads, size))
        weights = ops.einsum("bqnc,bhwnc->bqhwn", query, key)
        if real is not None:
            allowed = ops.cast(real, "bool")[:, None, :, :, None]
            weights = ops.where(allowed, weights, ops.cast(nn.lowest(weights.dtype), weights.dtype))
        shape = ops.shape(weights)
        return ops.reshape(ops.softmax(ops.reshape(weights, (*shape[:2], -1)), axis=-1), shape)


class MaskHead(nn.Layer):
    """Draws a mask for each query, from coarse to fine feature maps: (batch * queries, height / 4, width / 4, 1)."""

    def __init__(self, size, channels, context):
        super().__init__()
        if size % 8:
            raise ValueError(f"d_model + encoder_attention_heads is {size}, which must be a multiple of 8.")
        sizes = [size, size, *(context // divisor for divisor in (2, 4, 8, 16))]
        for index in range(1, 6):
            setattr(self, f"lay{index}", nn.Conv2D(sizes[index - 1], sizes[index], 3, padding=1))
            setattr(self, f"gn{index}", nn.GroupNormalization(min(8, sizes[index]), sizes[index]))
        self.out_lay = nn.Conv2D(sizes[5], 1, 3, padding=1)
        for index, count in enumerate(channels, start=1):
            setattr(self, f"adapter{index}", nn.Conv2D(count, sizes[index + 1], 1))

    def call(self, x, attention, maps):
        queries = attention.shape[1]
        attention = ops.reshape(attention, (-1, *ops.shape(attention)[2:]))
        x = ops.concatenate([ops.repeat(x, queries, axis=0), attention], axis=-1)
        x = self.layer(1, x)
        x = self.layer(2, x)
        for index, features in enumerate(maps, start=1):
            fine = getattr(self, f"adapter{index}")(features)
            x = ops.repeat(fine, queries, axis=0) + nn.resize(x, nn.sizes(fine), "nearest")
            x = self.layer(index + 2, x)
        return self.out_lay(x)

    def layer(self, index, x):
        return ops.relu(getattr(self, f"gn{index}")(getattr(self, f"lay{index}")(x)))
