"""The layers of wav2vec 2.0, under the names in its checkpoints.

Sounds are (batch, samples), hidden states (batch, frames, size); `attended` is (batch, frames), true where a frame is
of the sound and not of padding.
"""

import math

import keras
import numpy as np
from keras import ops

from keras_models import losses, nn, runtime

EPSILON = 1e-5  # of the norms whose epsilon is no setting


def output_lengths(lengths, config, adapter=True):
    """How many frames so many samples become, a number or a tensor; `adapter`: behind the adapter, if there is one."""
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        lengths = (lengths - kernel) // stride + 1
    for _ in range(config.num_adapter_layers if config.add_adapter and adapter else 0):
        lengths = (lengths - 1) // config.adapter_stride + 1
    return lengths


def attended_frames(attention_mask, x, config):
    """Which frames of x (batch, frames, size) are of the sound, from a mask of its samples, if there is one."""
    if attention_mask is None:
        return None
    lengths = output_lengths(ops.sum(ops.cast(attention_mask, "int32"), axis=-1), config, adapter=False)
    return ops.arange(ops.shape(x)[1])[None] < lengths[:, None]


class ChannelNormalization(nn.Layer):
    """Makes the mean of each channel 0 and its variance 1 over time: a group normalization of a group per channel."""

    stored_as = {"gamma": ("weight", None), "beta": ("bias", None)}

    def __init__(self, size):
        super().__init__()
        self.gamma = self.parameter(size, initializer="ones")
        self.beta = self.parameter(size, initializer="zeros")

    def after(self, convolution, x, activation):
        """This norm and an activation behind the convolution of samples (batch, samples, 1), in one product.

        Mean and variance of a channel follow from those of the frames that its kernel is laid upon. A frame has few
        numbers and the convolution many channels, so that this saves passes over the longest states of the network.
        A bias of the convolution would change nothing.
        """
        (taps,), (stride,) = convolution.kernel_size, convolution.strides
        frames = ops.cast(runtime.frames(x, taps, stride), "float32")  # (batch, frames, taps)
        length, real = nn.real_length(), 1.0
        count = ops.cast(ops.shape(frames)[1] if length is None else (length - taps) // stride + 1, "float32")
        if length is not None:
            real = ops.cast(ops.arange(ops.shape(frames)[1]) < ops.cast(count, "int32"), "float32")[None, :, None]
        frames = frames - ops.sum(frames * real, axis=1, keepdims=True) / count
        # Neighbouring samples are almost alike: cosines tell what little they differ by, which would else be lost.
        waves = ops.convert_to_tensor(cosines(taps))
        turned = ops.matmul(frames, waves) * real
        covariance = ops.matmul(ops.transpose(turned, (0, 2, 1)), turned) / count
        kernel = ops.transpose(ops.cast(convolution.kernel, "float32")[:, 0])  # (size, taps)
        response = ops.matmul(kernel, waves)
        variance = ops.sum(ops.matmul(response, covariance) * response, axis=-1)  # (batch, size)
        scale = ops.cast(self.gamma, "float32") * ops.rsqrt(variance + EPSILON)
        kernel = ops.cast(scale[:, :, None] * kernel, x.dtype)  # (batch, size, taps)
        frames, beta = ops.cast(frames, x.dtype), ops.cast(self.beta, x.dtype)
        if kernel.shape[0] == 1:
            return runtime.linear(frames[0], ops.transpose(kernel[0]), beta, activation)[None]
        return activation(ops.matmul(frames, ops.transpose(kernel, (0, 2, 1))) + beta)


def cosines(size):
    """The orthonormal discrete cosine transform of `size` numbers, a wave per column."""
    places, waves = np.arange(size)[:, None], np.arange(size)[None]
    table = np.sqrt(2.0 / size) * np.cos(np.pi * (places + 0.5) * waves / size)
    table[:, 0] /= np.sqrt(2.0)
    return table.astype("float32")


class ConvLayer(nn.Layer):
    """A convolution, a norm where the configuration has one, an activation."""

    def __init__(self, config, index):
        super().__init__()
        size, norm = config.conv_dim[index], config.feat_extract_norm
        kernel, stride = config.conv_kernel[index], config.conv_stride[index]
        input_dim = config.conv_dim[index - 1] if index else 1
        self.activation = nn.get_activation(config.feat_extract_activation)
        self.layer_norm = None
        if norm == "layer":
            self.layer_norm = nn.LayerNormalization(size, EPSILON)
        elif index == 0:
            self.layer_norm = ChannelNormalization(size)
        nn.set_initializer_range(math.sqrt(2.0 / (input_dim * kernel)))  # keeps the variance of what passes
        after = self.activation if self.layer_norm is None else None
        self.conv = nn.Conv1D(input_dim, size, kernel, stride, use_bias=config.conv_bias, activation=after)
        nn.set_initializer_range(config.initializer_range)

    def call(self, x):
        if isinstance(self.layer_norm, ChannelNormalization):
            return self.layer_norm.after(self.conv, x, self.activation)
        x = self.conv(x)
        return x if self.layer_norm is None else self.activation(self.layer_norm(x))


class FeatureEncoder(nn.Layer):
    """Samples (batch, samples) to features of the frames (batch, frames, conv_dim[-1])."""

    def __init__(self, config):
        super().__init__()
        if config.feat_extract_norm not in ("group", "layer"):
            raise ValueError(f"Unknown feat_extract_norm {config.feat_extract_norm!r}: use group or layer.")
        self.conv_layers = [ConvLayer(config, index) for index in range(len(config.conv_dim))]

    def call(self, input_values):
        x = ops.expand_dims(input_values, -1)
        for layer in self.conv_layers:
            x = layer(x)
        return x


class FeatureProjection(nn.Layer):
    """Features to hidden states, and the features after their norm."""

    def __init__(self, config):
        super().__init__()
        self.layer_norm = nn.LayerNormalization(config.conv_dim[-1], config.layer_norm_eps)
        self.projection = nn.Dense(config.conv_dim[-1], config.hidden_size)
        self.dropout = nn.Dropout(config.feat_proj_dropout)

    def call(self, features):
        features = self.layer_norm(features)
        return self.dropout(self.projection(features)), features


class SpecAugment(nn.Layer):
    """Puts `embedding` in the place of hidden frames; in training hides random spans of frames and of features.

    Source: https://arxiv.org/abs/1904.08779
    """

    def __init__(self, config):
        super().__init__()
        self.config, self.seed_generator = config, keras.random.SeedGenerator()

    def call(self, x, embedding=None, hidden=None, attended=None, training=None):
        config = self.config
        if not config.apply_spec_augment:
            return x
        batch, length = ops.shape(x)[:2]
        if hidden is None and training and config.mask_time_prob > 0:
            lengths = None if attended is None else ops.sum(ops.cast(attended, "int32"), axis=-1)
            hidden = self.spans("time", batch, length, lengths)
        if hidden is not None:
            x = ops.where(ops.cast(hidden, "bool")[..., None], ops.cast(embedding, x.dtype), x)
        if training and config.mask_feature_prob > 0:
            x = ops.where(self.spans("feature", batch, x.shape[2])[:, None], ops.cast(0.0, x.dtype), x)
        return x

    def spans(self, axis, batch, size, lengths=None):
        """Where frames, or features, are hidden: (batch, size) bool."""
        settings = (getattr(self.config, f"mask_{axis}_{name}") for name in ("prob", "length", "min_masks"))
        lengths = ops.broadcast_to(ops.cast(size, "int32"), (batch,)) if lengths is None else lengths
        return nn.random_spans(lengths, size, *settings, self.seed_generator)


class WeightNormConv1D(nn.Layer):
    """A convolution whose kernel is `weight_v`, of a length for each place in it, which is `weight_g`.

    Source: https://arxiv.org/abs/1602.07868
    """

    stored_as = {
        "weight_g": ("parametrizations.weight.original0", (2, 1, 0)),
        "weight_v": ("parametrizations.weight.original1", (2, 1, 0)),
        "bias": ("bias", None),
    }

    def __init__(self, size, kernel_size, groups, activation):
        super().__init__()
        self.groups, self.activation = groups, activation
        self.pads = (kernel_size // 2, (kernel_size - 1) // 2)
        scale = 2.0 / math.sqrt(kernel_size * size)
        length = keras.initializers.Constant(scale * size / math.sqrt(groups))  # of what is drawn for weight_v
        self.weight_g = self.parameter(kernel_size, 1, 1, initializer=length)
        draw = keras.initializers.RandomNormal(stddev=scale)
        self.weight_v = self.parameter(kernel_size, size // groups, size, initializer=draw)
        self.bias = self.parameter(size, initializer="zeros")

    def call(self, x):
        kernel = ops.convert_to_tensor(self.weight_v)
        lengths = ops.sqrt(ops.sum(ops.square(kernel), axis=(1, 2), keepdims=True))
        kernel = kernel * (self.weight_g / lengths)
        return runtime.conv1d(x, kernel, self.bias, 1, self.pads, 1, self.groups, self.activation)


class PositionalConvEmbedding(nn.Layer):
    """Positions, relative ones: a convolution over many frames."""

    def __init__(self, config):
        super().__init__()
        size, groups = config.hidden_size, config.num_conv_pos_embedding_groups
        if size % groups:
            raise ValueError(f"hidden_size {size} is not a multiple of num_conv_pos_embedding_groups {groups}.")
        activation = nn.get_activation(config.feat_extract_activation)
        self.conv = WeightNormConv1D(size, config.num_conv_pos_embeddings, groups, activation)

    def call(self, x):
        return self.conv(x)


class Attention(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.heads, size = config.num_attention_heads, config.hidden_size
        if size % self.heads:
            raise ValueError(f"hidden_size {size} is not a multiple of num_attention_heads {self.heads}.")
        self.k_proj = nn.Dense(size, size)
        self.v_proj = nn.Dense(size, size)
        self.q_proj = nn.Dense(size, size)
        self.out_proj = nn.Dense(size, size)
        self.dropout = nn.Dropout(config.attention_dropout)

    def call(self, x, bias=None):
        query, key, value = (nn.split_heads(layer(x), self.heads) for layer in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(nn.merge_heads(nn.attend(query, key, value, bias, dropout=self.dropout)))


class FeedForward(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.intermediate_dense = nn.Dense(config.hidden_size, config.intermediate_size, activation=config.hidden_act)
        self.output_dense = nn.Dense(config.intermediate_size, config.hidden_size)
        self.intermediate_dropout = nn.Dropout(config.activation_dropout)
        self.output_dropout = nn.Dropout(config.hidden_dropout)

    def call(self, x):
        return self.output_dropout(self.output_dense(self.intermediate_dropout(self.intermediate_dense(x))))


class AttnAdapterLayer(nn.Layer):
    """What MMS has for each language in each layer (https://arxiv.org/abs/2305.13516)."""

    def __init__(self, config):
        super().__init__()
        self.norm = nn.LayerNormalization(config.hidden_size, EPSILON)
        self.linear_1 = nn.Dense(config.hidden_size, config.adapter_attn_dim, activation="relu")
        self.linear_2 = nn.Dense(config.adapter_attn_dim, config.hidden_size)

    def call(self, x):
        return x + self.linear_2(self.linear_1(self.norm(x)))


class EncoderLayer(nn.Layer):
    """Attention and two dense layers, with norms behind them, or before them with `do_stable_layer_norm`.

    In training it leaves itself out with probability `layerdrop` (https://arxiv.org/abs/1909.11556).
    """

    def __init__(self, config):
        super().__init__()
        self.is_stable = config.do_stable_layer_norm
        self.attention = Attention(config)
        self.layer_norm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.final_layer_norm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.layerdrop = nn.Dropout(config.layerdrop)
        self.adapter_layer = None
        if self.is_stable and config.adapter_attn_dim is not None:
            self.adapter_layer = AttnAdapterLayer(config)

    def call(self, x, bias=None):
        before = x
        if self.is_stable:
            x = x + self.dropout(self.attention(self.layer_norm(x), bias))
            x = x + self.feed_forward(self.final_layer_norm(x))
            x = x if self.adapter_layer is None else self.adapter_layer(x)
        else:
            x = self.layer_norm(x + self.dropout(self.attention(x, bias)))
            x = self.final_layer_norm(x + self.feed_forward(x))
        if self.layerdrop.rate and not runtime.calls_are_bare():
            x = ops.where(self.layerdrop(ops.ones((1, 1, 1))) > 0, x, before)
        return x


class Encoder(nn.Layer):
    """Positions and the stack of layers."""

    def __init__(self, config):
        super().__init__()
        self.is_stable = config.do_stable_layer_norm
        self.pos_conv_embed = PositionalConvEmbedding(config)
        self.layer_norm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.layers = [EncoderLayer(config) for _ in range(config.num_hidden_layers)]

    def call(self, x, attended=None):
        if attended is not None:
            x = ops.where(attended[..., None], x, ops.cast(0.0, x.dtype))
        bias = nn.attention_bias(x, attended)
        x = x + self.pos_conv_embed(x)
        x = self.dropout(x if self.is_stable else self.layer_norm(x))
        return nn.chain(self.layers, x, bias, final=self.layer_norm if self.is_stable else None)


class AdapterLayer(nn.Layer):
    """A convolution to fewer frames, half of whose channels are gates of the others."""

    def __init__(self, config):
        super().__init__()
        size, stride = config.output_hidden_size, config.adapter_stride
        self.conv = nn.Conv1D(size, 2 * size, config.adapter_kernel_size, stride, padding=1)

    def call(self, x):
        x, gates = ops.split(self.conv(x), 2, axis=-1)
        return x * ops.sigmoid(gates)


class Adapter(nn.Layer):
    """Hidden states of another size and of fewer frames, for a decoder behind the model."""

    def __init__(self, config):
        super().__init__()
        self.proj = self.proj_layer_norm = None
        if config.output_hidden_size != config.hidden_size:
            self.proj = nn.Dense(config.hidden_size, config.output_hidden_size)
            self.proj_layer_norm = nn.LayerNormalization(config.output_hidden_size, EPSILON)
        self.layers = [AdapterLayer(config) for _ in range(config.num_adapter_layers)]

    def call(self, x):
        x = x if self.proj is None else self.proj_layer_norm(self.proj(x))
        for layer in self.layers:  # all of them, in training too: fewer would give another number of frames
            x = layer(x)
        return x


class GumbelVectorQuantizer(nn.Layer):
    """Features to the nearest of learnt vectors, and the perplexity of their choice.

    In training the choice is drawn, and its gradient is that of the probabilities (https://arxiv.org/abs/1611.01144).
    """

    def __init__(self, config):
        super().__init__()
        self.groups, self.count = config.num_codevector_groups, config.num_codevectors_per_group
        if config.codevector_dim % self.groups:
            raise ValueError(
                f"codevector_dim {config.codevector_dim} is not a multiple of num_codevector_groups {self.groups}."
            )
        draw = keras.initializers.RandomUniform(0.0, 1.0)
        self.codevectors = self.parameter(
            1, self.groups * self.count, config.codevector_dim // self.groups, initializer=draw
        )
        nn.set_initializer_range(1.0)
        self.weight_proj = nn.Dense(config.conv_dim[-1], self.groups * self.count)
        nn.set_initializer_range(config.initializer_range)
        self.temperature, self.seed_generator = 2.0, keras.random.SeedGenerator()

    def call(self, x, hidden=None, training=None):
        batch, length = ops.shape(x)[:2]
        logits = ops.cast(ops.reshape(self.weight_proj(x), (batch, length, self.groups, self.count)), "float32")
        if training:
            exponential = -ops.log(keras.random.uniform(ops.shape(logits), 1e-30, seed=self.seed_generator))
            soft = ops.softmax((logits - ops.log(exponential)) / self.temperature, axis=-1)
            choice = ops.one_hot(ops.argmax(soft, axis=-1), self.count) - ops.stop_gradient(soft) + soft
            spread = ops.softmax(logits, axis=-1)
        else:
            spread = choice = ops.one_hot(ops.argmax(logits, axis=-1), self.count)
        counted = ops.ones((batch, length)) if hidden is None else ops.cast(hidden, "float32")
        shares = ops.sum(spread * counted[..., None, None], axis=(0, 1)) / ops.sum(counted)  # (groups, count)
        perplexity = ops.sum(ops.exp(-ops.sum(shares * ops.log(shares + 1e-7), axis=-1)))
        table = ops.reshape(self.codevectors, (self.groups, self.count, -1))
        vectors = ops.einsum("btgc,gcd->btgd", ops.cast(choice, x.dtype), ops.cast(table, x.dtype))
        return ops.reshape(vectors, (batch, length, -1)), perplexity


class TDNNLayer(nn.Layer):
    """A convolution with the kernel (taps * channels, features) of a dense layer, as checkpoints have it."""

    def __init__(self, config, index):
        super().__init__()
        self.taps, self.dilation = config.tdnn_kernel[index], config.tdnn_dilation[index]
        self.kernel = nn.Dense(config.tdnn_dim[max(index - 1, 0)] * self.taps, config.tdnn_dim[index])

    def call(self, x):
        kernel = ops.reshape(self.kernel.kernel, (self.taps, x.shape[-1], -1))
        return runtime.conv1d(x, kernel, self.kernel.bias, 1, (0, 0), self.dilation, 1, ops.relu)


def pool_statistics(x, lengths=None):
    """Means and standard deviations of x (batch, frames, size) over its first `lengths` frames: (batch, 2 * size)."""
    frames = ops.shape(x)[1]
    lengths = ops.full((ops.shape(x)[0],), frames, "int32") if lengths is None else ops.minimum(lengths, frames)
    real = ops.cast(ops.arange(frames)[None] < lengths[:, None], x.dtype)[..., None]
    count = ops.cast(lengths, x.dtype)[:, None]
    mean = ops.sum(x * real, axis=1) / count
    variance = ops.sum(ops.square((x - mean[:, None]) * real), axis=1) / (count - 1.0)
    varies = variance > 0
    deviation = ops.where(varies, ops.sqrt(ops.where(varies, variance, 1.0)), 0.0)  # with a gradient, even at zero
    return ops.concatenate([mean, deviation], axis=-1)


class AMSoftmax(nn.Layer):
    """The mean cross entropy of angles to learnt directions, with a margin (https://arxiv.org/abs/1801.05599)."""

    def __init__(self, size, labels, scale=30.0, margin=0.4):
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = self.parameter(size, labels, initializer=keras.initializers.RandomNormal(stddev=1.0))

    def call(self, x, labels):
        """The loss of x (batch, size) and its classes, (batch,)."""
        directions = ops.convert_to_tensor(self.weight)
        angles = ops.matmul(ops.normalize(x, axis=1), ops.normalize(directions, axis=0))
        right = ops.one_hot(labels, angles.shape[1], dtype=angles.dtype)
        return losses.cross_entropy(self.scale * (angles - self.margin * right), labels)
