"""What model files share: layers that exist once constructed, attention, activations, records of what passes."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import ml_dtypes
import numpy as np
from keras import ops

from keras_models import runtime
from keras_models.config import nearest

_structure = 0  # counts changes to the layers of models that exist: compiled programs of an older count are stale


def structure_version() -> int:
    """A number that grows whenever an existing layer gains variables or changes its arithmetic."""
    return _structure


def bump_structure_version():
    """Makes compiled programs of existing models stale."""
    global _structure
    _structure += 1


class _Settings(threading.local):
    initializer_range = 0.02
    real_size: tuple[Any, tuple[int, int]] | None = None
    records: dict[str, list] | None = None


_settings = _Settings()


def set_initializer_range(stddev: float):
    """The standard deviation that Dense and Embedding layers constructed from now on are drawn with."""
    _settings.initializer_range = stddev


def _normal():
    return keras.initializers.RandomNormal(stddev=_settings.initializer_range)


# -------------------------------------------------------------------------------------------- layers


class BareCall:
    """Mixin: plain inference calls the layer directly, unless it is quantized or computes in a type of its own."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._remember(self.dtype_policy)

    def _remember(self, policy: keras.dtype_policies.DTypePolicy):
        self._bare_type = None if policy.quantization_mode else policy.compute_dtype
        self._mixed = policy.compute_dtype != policy.variable_dtype

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._bare_type is not None and self._bare_type == runtime.bare_type():
            return self.call(*args, **kwargs)
        return super().__call__(*args, **kwargs)

    @property
    def dtype_policy(self):
        return super().dtype_policy

    @dtype_policy.setter
    def dtype_policy(self, policy):
        keras.layers.Layer.dtype_policy.fset(self, policy)
        self._remember(self.dtype_policy)
        bump_structure_version()

    def enable_lora(self, *args: Any, **kwargs: Any):
        """Keras' own; see there."""
        super().enable_lora(*args, **kwargs)
        bump_structure_version()


class Layer(BareCall, keras.layers.Layer):
    """A layer made of layers. Its variables exist when `__init__` returns, so no trial call builds it."""

    @property
    def built(self) -> bool:
        return True

    @built.setter
    def built(self, value: bool):
        pass

    def parameter(self, *shape: int, initializer: str | Callable | None = None) -> keras.Variable:
        """A variable of the layer itself; without an initializer it is drawn as kernels are."""
        return self.add_weight(shape=shape, initializer=initializer or _normal())


class Dense(BareCall, keras.layers.Dense):
    """`keras.layers.Dense` from `input_dim` to `units` features, along the last axis."""

    def __init__(self, input_dim: int, units: int, activation: str | Callable | None = None, use_bias: bool = True):
        super().__init__(units, activation=None, use_bias=use_bias, kernel_initializer=_normal())
        self.activation = None if activation is None else get_activation(activation)
        self.build((None, input_dim))

    def call(self, inputs, training=None):
        kernel = self.kernel if self.lora_enabled else self._kernel
        return runtime.linear(inputs, kernel, self.bias, self.activation)

    def quantize(self, mode=None, type_check=True, config=None):
        super().quantize(mode, type_check=False, config=config)


class Conv1D(Dense):
    """GPT-2's name for a `Dense` whose kernel lies (in, out) in files, as it does here."""

    stored_as = {"kernel": ("weight", None), "bias": ("bias", None)}  # see checkpoint/names.py


class TiedDense(BareCall, keras.layers.Layer):
    """The product with an embedding's table, transposed: the output layer of a language model with tied weights.

    (..., features) -> (..., entries of the table)
    """

    def __init__(self, embedding: Embedding, use_bias: bool = True):
        super().__init__()
        self.tied_to = embedding
        self.bias = None
        if use_bias:
            self.bias = self.add_weight(shape=(embedding.input_dim,), initializer="zeros", name="bias")
        self.built = True

    def call(self, inputs):
        x = runtime.table_product(inputs, self.tied_to.table())
        return x if self.bias is None else x + self.bias


class Embedding(BareCall, keras.layers.Embedding):
    """`keras.layers.Embedding`: integers -> rows of a (count, size) table; the row `padding_idx` is not trained."""

    def __init__(self, count: int, size: int, padding_idx: int | None = None, initializer: Callable | None = None):
        super().__init__(count, size, embeddings_initializer=initializer or _normal())
        self.padding_idx = padding_idx
        self.build()

    def call(self, inputs):
        rows = runtime.embedding(self.embeddings if self.lora_enabled else self._embeddings, inputs)
        if self._mixed or self._bare_type is None:  # Keras leaves an embedding's variables in their own type
            rows = ops.cast(rows, self.compute_dtype)
        if self.padding_idx is None or runtime.calls_are_bare():
            return rows
        return ops.where(ops.expand_dims(inputs == self.padding_idx, -1), ops.stop_gradient(rows), rows)

    def table(self):
        """The table as a tensor, whether LoRA adds to it or it is quantized: what an output layer multiplies with."""
        table = ops.convert_to_tensor(self.embeddings)
        if self.quantization_mode is None:
            return table
        return ops.cast(table, self.compute_dtype) / ops.expand_dims(self.embeddings_scale, -1)

    def quantize(self, mode=None, type_check=True, config=None):
        if mode != "int8":
            raise NotImplementedError(f"Embedding tables can be quantized to int8, not to {mode}.")
        super().quantize(mode, type_check=False, config=config)


class LayerNormalization(BareCall, keras.layers.LayerNormalization):
    """`keras.layers.LayerNormalization` over the last axis of `size` features."""

    def __init__(self, size: int, epsilon: float):
        super().__init__(epsilon=epsilon)
        self.build((None, size))

    def call(self, inputs):
        return runtime.layer_norm(inputs, self.gamma, self.beta, self.epsilon)


class RMSNormalization(BareCall, keras.layers.RMSNormalization):
    """`keras.layers.RMSNormalization` over the last axis of `size` features; the mean square is taken in float32."""

    def __init__(self, size: int, epsilon: float):
        super().__init__(epsilon=epsilon)
        self.build((None, size))

    def call(self, inputs):
        return runtime.rms_norm(inputs, self.scale, self.epsilon)


class Dropout(BareCall, keras.layers.Dropout):
    """`keras.layers.Dropout`."""


class Conv2D(BareCall, keras.layers.Conv2D):
    """`keras.layers.Conv2D` from `input_dim` to `filters` features: (batch, height, width, channels), channels last.

    Args:
        padding: zeros added at both ends of height and width, as PyTorch does: one number or (height, width).
    """

    def __init__(
        self,
        input_dim: int,
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation_rate: int | tuple[int, int] = 1,
        groups: int = 1,
        use_bias: bool = True,
        activation: str | Callable | None = None,
    ):
        super().__init__(
            filters, kernel_size, dilation_rate=dilation_rate, groups=groups, use_bias=use_bias,
            kernel_initializer=_normal(), data_format="channels_last",
        )  # fmt: skip
        self.strides = pair(strides)  # past Keras' refusal of strides beside dilation
        self.activation = None if activation is None else get_activation(activation)
        self.pads = tuple((each, each) for each in pair(padding))
        self.build((None, None, None, input_dim))

    def call(self, inputs):
        kernel = self.kernel if self.lora_enabled else self._kernel
        return self.convolve(inputs, kernel, self.bias, self.activation)

    def convolve(self, x, kernel, bias, activation=None, residual=None):
        """The convolution with a kernel and a bias that stand in for the layer's own, and what follows it."""
        x = without_padding(x) if any(map(any, self.pads)) else x
        settings = (self.strides, self.pads, self.dilation_rate, self.groups)
        return runtime.conv2d(x, kernel, bias, *settings, activation, residual)

    def compute_output_shape(self, input_shape):
        """Keras' own, for the padded input."""
        padded = [n if n is None else n + sum(pads) for n, pads in zip(input_shape[1:3], self.pads, strict=True)]
        return super().compute_output_shape((input_shape[0], *padded, input_shape[3]))


class BatchNormalization(BareCall, keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the last axis of `size` features."""

    constants = {"num_batches_tracked": np.zeros((), "int64")}  # written to files because PyTorch asks for it

    def __init__(self, size: int, epsilon: float = 1e-5):
        super().__init__(momentum=0.9, epsilon=epsilon)
        self.build((None, None, None, size))

    def scale_and_offset(self):
        """What inference multiplies with and adds."""
        scale = self.gamma * ops.rsqrt(self.moving_variance + self.epsilon)
        return scale, self.beta - self.moving_mean * scale

    def fixed(self):
        """`scale_and_offset` for layers before it to do its work in plain inference, None elsewhere."""
        return self.scale_and_offset() if runtime.calls_are_bare() else None

    def call(self, inputs, training=None, mask=None):
        if not runtime.calls_are_bare():
            return super().call(inputs, training=training, mask=mask)
        scale, offset = self.scale_and_offset()
        return inputs * ops.cast(scale, inputs.dtype) + ops.cast(offset, inputs.dtype)


class FrozenBatchNormalization(Layer):
    """Batch normalization with statistics, scale and offset that never change, over the last axis of `size`."""

    def __init__(self, size: int, epsilon: float = 1e-5):
        super().__init__()
        self.epsilon = epsilon
        numbers = {"weight": "ones", "bias": "zeros", "running_mean": "zeros", "running_var": "ones"}
        for name, initializer in numbers.items():
            setattr(self, name, self.add_weight(shape=(size,), initializer=initializer, trainable=False))

    def scale_and_offset(self):
        """What it multiplies with and adds."""
        scale = self.weight * ops.rsqrt(self.running_var + self.epsilon)
        return scale, self.bias - self.running_mean * scale

    def call(self, inputs):
        scale, offset = self.scale_and_offset()
        return inputs * ops.cast(scale, inputs.dtype) + ops.cast(offset, inputs.dtype)


def convolve(
    convolution: Conv2D, norm: BatchNormalization | FrozenBatchNormalization, x, activation=None, residual=None
):
    """A convolution without activation, a batch normalization, what passes around both, and an activation function.

    In inference the first two are one convolution, with a kernel that is scaled at each call: the kernel is small
    beside the pictures.
    """
    if runtime.calls_are_bare() and convolution.bias is None:
        scale, offset = norm.scale_and_offset()
        kernel = convolution.kernel if convolution.lora_enabled else convolution._kernel
        kernel, bias = kernel * ops.cast(scale, x.dtype), ops.cast(offset, x.dtype)
        return convolution.convolve(x, kernel, bias, activation, residual)
    x = norm(convolution(x))
    x = x if residual is None else x + residual
    return x if activation is None else activation(x)


class GroupNormalization(BareCall, keras.layers.GroupNormalization):
    """`keras.layers.GroupNormalization` over groups of the last axis of `size` features."""

    def __init__(self, groups: int, size: int, epsilon: float = 1e-5):
        super().__init__(groups, epsilon=epsilon)
        self.build((None, None, None, size))

    def call(self, inputs):
        if _settings.real_size is None:
            return super().call(inputs)
        batch, height, width = ops.shape(inputs)[:3]
        x = runtime.reshape(inputs, (batch, height, width, self.groups, inputs.shape[3] // self.groups))
        real = ops.cast(is_real(height, width), x.dtype)[None, :, :, None, None]
        count = ops.sum(real) * x.shape[4]
        mean = ops.sum(x * real, axis=(1, 2, 4), keepdims=True) / count
        variance = ops.sum(ops.square(x - mean) * real, axis=(1, 2, 4), keepdims=True) / count
        x = runtime.reshape((x - mean) * ops.rsqrt(variance + self.epsilon), ops.shape(inputs))
        return x * ops.cast(self.gamma, x.dtype) + ops.cast(self.beta, x.dtype)


class DropPath(Layer):
    """Stochastic depth (https://arxiv.org/abs/1603.09382): in training, whole samples of a branch are dropped."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate, self.seed_generator = rate, keras.random.SeedGenerator()

    def call(self, x, training=None):
        if not training or self.rate == 0.0:
            return x
        shape = (ops.shape(x)[0], *[1] * (len(x.shape) - 1))
        kept = ops.cast(keras.random.uniform(shape, seed=self.seed_generator) >= self.rate, x.dtype)
        return x * kept / (1.0 - self.rate)


def output_projection(
    embedding: Embedding, config, size: int | None = None, use_bias: bool = True
) -> Dense | TiedDense:
    """The layer from features to vocabulary: the embedding's table if the configuration ties them, else its own."""
    if config.tie_word_embeddings:
        return TiedDense(embedding, use_bias)
    return Dense(size or embedding.output_dim, embedding.input_dim, use_bias=use_bias)


# --------------------------------------------------------------------------------------- activations


def gelu(x):
    """Gaussian error linear unit, exact."""
    return ops.gelu(x, approximate=False)


def gelu_tanh(x):
    """Gaussian error linear unit, by the tanh formula."""
    return ops.gelu(x, approximate=True)


def quick_gelu(x):
    """x * sigmoid(1.702 x)."""
    return x * ops.sigmoid(1.702 * x)


def mish(x):
    """x * tanh(softplus(x))."""
    return x * ops.tanh(ops.softplus(x))


def gelu_10(x):
    """The exact gelu, clipped to [-10, 10]."""
    return ops.clip(gelu(x), -10.0, 10.0)


def relu2(x):
    """The square of relu."""
    return ops.square(ops.relu(x))


def laplace(x):
    """The cumulative Laplace distribution function with mean 0.7071 and deviation 0.2821 (MEGA's)."""
    return 0.5 * (1.0 + ops.erf((x - 0.707107) / (0.282095 * math.sqrt(2.0))))


def linear(x):
    """The identity."""
    return x


ACTIVATIONS: dict[str, Callable] = {
    "gelu": gelu,
    "gelu_python": gelu,
    "gelu_10": gelu_10,
    "gelu_new": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu_python_tanh": gelu_tanh,
    "gelu_accurate": gelu_tanh,
    "quick_gelu": quick_gelu,
    "laplace": laplace,
    "leaky_relu": lambda x: ops.leaky_relu(x, negative_slope=0.01),
    "linear": linear,
    "mish": mish,
    "relu": ops.relu,
    "relu2": relu2,
    "relu6": ops.relu6,
    "prelu": lambda x: ops.leaky_relu(x, negative_slope=0.25),
    "sigmoid": ops.sigmoid,
    "silu": ops.silu,
    "swish": ops.silu,
    "tanh": ops.tanh,
}


def get_activation(name: str | Callable) -> Callable:
    """The function that config.json's `hidden_act` means.

    Raises:
        ValueError: no such activation.
    """
    if callable(name):
        return name
    if name not in ACTIVATIONS:
        raise ValueError(f"Unknown activation {name!r}.{nearest(name, list(ACTIVATIONS))}")
    return ACTIVATIONS[name]


# ----------------------------------------------------------------------------------------- attention


def split_heads(x, heads: int):
    """(batch, length, heads * size) -> (batch, heads, length, size)."""
    batch, length = ops.shape(x)[:2]
    return ops.transpose(runtime.reshape(x, (batch, length, heads, x.shape[-1] // heads)), (0, 2, 1, 3))


def merge_heads(x):
    """(batch, heads, length, size) -> (batch, length, heads * size)."""
    batch, _, length, _ = ops.shape(x)
    return runtime.reshape(ops.transpose(x, (0, 2, 1, 3)), (batch, length, x.shape[1] * x.shape[3]))


def attend(query, key, value, bias=None, scale: float | None = None, dropout=None, record_as: str = "attentions"):
    """Scaled dot-product attention.

    Args:
        query: (batch, heads, queries, size).
        key, value: (batch, heads, keys, size); with fewer heads, each serves a group of the query's.
        bias: added to the scaled scores, broadcastable to (batch, heads, queries, keys): masks, relative positions.
        scale: of the scores; 1 / sqrt(size) by default.
        dropout: layer applied to the probabilities in training.
        record_as: the output that collects the probabilities when the caller asks for attentions.

    Returns:
        (batch, heads, queries, size).
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    heads, groups = query.shape[1], query.shape[1] // key.shape[1]
    folded = groups > 1 and query.shape[2] == 1  # one query a head: those of a group become the queries of its key head
    if folded:
        query = runtime.reshape(query, (-1, key.shape[1], groups, query.shape[3]))
    elif groups > 1:
        key, value = ops.repeat(key, groups, axis=1), ops.repeat(value, groups, axis=1)
    if runtime.calls_are_bare() and not recording(record_as):
        x = runtime.attention(query, key, value, bias, scale)
    else:
        scores = ops.matmul(query * scale, ops.transpose(key, (0, 1, 3, 2)))  # (batch, heads, queries, keys)
        if bias is not None:
            scores = scores + ops.cast(bias, scores.dtype)
        probabilities = ops.softmax(scores, axis=-1)
        record(record_as, ops.reshape(probabilities, (-1, heads, 1, key.shape[2])) if folded else probabilities)
        if dropout is not None:
            probabilities = dropout(probabilities)
        x = ops.matmul(probabilities, value)
    return runtime.reshape(x, (-1, heads, 1, value.shape[3])) if folded else x


def attention_bias(x, mask=None, causal: bool = False, cache=None, window: int | None = None):
    """What attention to a sequence adds to its scores: 0 where it may look, the type's lowest number where it may not.

    Args:
        x: (batch, queries, features); without a cache also what is attended to.
        mask: ones and zeros; (batch, keys), (batch, queries, keys) or (batch, heads or 1, queries, keys).
        causal: no position sees what comes after it.
        cache: the `Cache` that layers are about to extend by x: what is attended to.
        window: a position sees so many, itself included, and no earlier ones.

    Returns:
        None if everything may be seen, else broadcastable to (batch, heads, queries, keys).
    """
    dtype = keras.backend.standardize_dtype(x.dtype)
    queries = ops.shape(x)[1]
    past, keys = (0, queries) if cache is None else (cache.length, cache.reserve(queries))
    allowed = None
    if mask is not None:
        axes = {2: (1, 2), 3: (1,), 4: ()}[len(mask.shape)]
        allowed = ops.cast(ops.expand_dims(mask, axes) if axes else mask, "bool")
        if cache is not None and allowed.shape[-1] != keys:
            allowed = _fit(allowed, keys)
    # The only query may see all keys where there are none after it and no window.
    alone = x.shape[1] == 1 and window is None and (cache is None or runtime.CACHE_IN_PLACE)
    if causal and not alone and (mask is None or len(mask.shape) == 2):
        steps, positions = ops.arange(keys)[None, :], ops.arange(queries)[:, None] + past
        past_only = steps <= positions
        if window is not None:
            past_only = ops.logical_and(past_only, steps > positions - window)
        past_only = past_only[None, None]
        allowed = past_only if allowed is None else ops.logical_and(allowed, past_only)
    return None if allowed is None else ops.where(allowed, ops.cast(0.0, dtype), ops.cast(lowest(dtype), dtype))


def _fit(mask, keys):
    """A mask cut, or filled up with zeros, to the number of keys."""
    mask = mask[..., :keys]
    return ops.pad(mask, [(0, 0)] * (len(mask.shape) - 1) + [(0, keys - mask.shape[-1])])


def positions(x, cache=None):
    """The places of x (batch, length, ...) in its sequence, (1, length): 0, 1, 2 ..., after what the cache holds."""
    return ops.arange(ops.shape(x)[1])[None] + (0 if cache is None else cache.length)


def kept(x, logits_to_keep=None):
    """The states that logits are wanted for: the last `logits_to_keep`, those at its indices, or all (None or 0)."""
    if logits_to_keep is None or (isinstance(logits_to_keep, int) and logits_to_keep == 0):
        return x
    return x[:, -logits_to_keep:] if isinstance(logits_to_keep, int) else ops.take(x, logits_to_keep, axis=1)


def last_token(x, input_ids=None, pad_token_id: int | None = None):
    """The states of the last token of each text that is no padding: (batch, length, size) -> (batch, size).

    Without a padding token, or without ids, that is the last one. A batch without a padding token is an error.
    """
    if pad_token_id is None and x.shape[0] not in (1, None):
        raise ValueError(
            "Several texts in a batch need a padding token to tell their ends: set config.pad_token_id, "
            "e.g. to the tokenizer's."
        )
    if pad_token_id is None or input_ids is None:
        return x[:, -1]
    places = ops.arange(ops.shape(input_ids)[1]) * ops.cast(input_ids != pad_token_id, "int32")
    return ops.squeeze(ops.take_along_axis(x, ops.argmax(places, axis=1)[:, None, None], axis=1), 1)


def flatten_choices(inputs: dict) -> tuple[dict, Any]:
    """Inputs of (batch, choices, ...) as (batch * choices, ...), and the number of choices."""
    first = next(iter(inputs.values()))
    flat = {name: ops.reshape(x, (-1, *ops.shape(x)[2:])) for name, x in inputs.items()}
    return flat, ops.shape(first)[1]


# ------------------------------------------------------------------------------------------- pictures


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) of a setting that may be one number for both."""
    return (value, value) if isinstance(value, int) else tuple(value)


def resize(x, size, method: str = "bilinear", align_corners: bool = False):
    """Resizes (batch, height, width, channels) as PyTorch's `interpolate` does, without antialiasing.

    Args:
        size: (height, width), integers or scalar tensors.
        method: "nearest", "bilinear" or "bicubic".
        align_corners: whether the middles of the corner pixels stay the middles of the corner pixels.
    """
    return runtime.resize(x, tuple(size), method, align_corners)


def max_pool(x, size: int, strides: int, padding: int = 0):
    """The largest number in each window of (batch, height, width, channels); borders are padded with nothing."""
    x = without_padding(x, fill=-math.inf)
    x = runtime.max_pool(x, pair(size), pair(strides), tuple((each, each) for each in pair(padding)))
    return without_padding(x)  # windows of nothing but padding are infinite, and would become NaN further on


def sizes(x):
    """Height and width of (batch, height, width, channels), integers where they are known."""
    return tuple(ops.shape(x)[1:3])


@contextmanager
def real_size(size, padded: tuple[int, int]) -> Iterator[None]:
    """Within it, pictures of `padded` size stand for smaller ones, whose results they give.

    They have been padded at the bottom and on the right, so that a program for one size serves for others. What the
    padding became inside a network must look like the border that it hides: zeros to convolutions, nothing to pooling.

    Args:
        size: (height, width) of the real pictures, a tensor.
        padded: of the padded ones, multiples of every stride in the network.
    """
    before, _settings.real_size = _settings.real_size, (size, padded)
    try:
        yield
    finally:
        _settings.real_size = before


def is_real(height: int, width: int):
    """Which places of a feature map (height, width) are no padding; see `real_size`."""
    size, padded = _settings.real_size
    rows, columns = (
        ops.arange(length) < -(-size[axis] // (padded[axis] // length)) for axis, length in enumerate((height, width))
    )
    return ops.logical_and(rows[:, None], columns[None, :])


def without_padding(x, fill: float = 0.0):
    """(batch, height, width, channels) with `fill` in the place of padding; see `real_size`."""
    if _settings.real_size is None:
        return x
    return ops.where(is_real(*x.shape[1:3])[None, :, :, None], x, ops.cast(fill, x.dtype))


def to_sequence(x):
    """(batch, height, width, channels) -> (batch, height * width, channels)."""
    batch, height, width = ops.shape(x)[:3]
    return runtime.reshape(x, (batch, height * width, x.shape[3]))


def to_picture(x, height, width):
    """(batch, height * width, channels) -> (batch, height, width, channels)."""
    return runtime.reshape(x, (ops.shape(x)[0], height, width, x.shape[2]))


def pad_to_multiples(x, factors: tuple[int, int]):
    """(batch, height, width, channels) with zeros at the bottom and on the right, up to multiples of the factors."""
    # Not -size % factor: JAX's shape inference must see that the sum is a multiple.
    missing = [-(-size // factor) * factor - size for size, factor in zip(sizes(x), factors, strict=True)]
    if all(isinstance(each, int) and each == 0 for each in missing):
        return x
    return ops.pad(x, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))


def to_windows(x, size, grid):
    """(batch, rows * size, columns * size, channels) -> (batch * rows * columns, size * size, channels).

    Args:
        grid: (rows, columns) of windows.
    """
    batch, (rows, columns) = ops.shape(x)[0], grid
    x = ops.transpose(runtime.reshape(x, (batch, rows, size, columns, size, x.shape[3])), (0, 1, 3, 2, 4, 5))
    return runtime.reshape(x, (batch * rows * columns, size * size, x.shape[5]))


def from_windows(x, size, grid, batch):
    """The reverse of `to_windows`."""
    rows, columns = grid
    x = ops.transpose(runtime.reshape(x, (batch, rows, columns, size, size, x.shape[2])), (0, 1, 3, 2, 4, 5))
    return runtime.reshape(x, (batch, rows * size, columns * size, x.shape[5]))


def pixel_shuffle(x, factor: int):
    """(batch, height, width, channels * factor^2) -> (batch, height * factor, width * factor, channels).

    The offset inside a block of pixels varies fastest along the channels, as in PyTorch's.
    """
    batch, height, width = ops.shape(x)[:3]
    channels = x.shape[3] // factor**2
    x = runtime.reshape(x, (batch, height, width, channels, factor, factor))
    x = ops.transpose(x, (0, 1, 4, 2, 5, 3))
    return runtime.reshape(x, (batch, height * factor, width * factor, channels))


def lowest(dtype: str) -> float:
    """The lowest finite number of a floating point type."""
    return float(ml_dtypes.finfo(keras.backend.standardize_dtype(dtype)).min)


# ------------------------------------------------------------------------------------------- records


@contextmanager
def records(names: list[str]) -> Iterator[dict[str, list]]:
    """Collects what `record` is given under these names, in order, while it is entered."""
    before, _settings.records = _settings.records, {name: [] for name in names}
    try:
        yield _settings.records
    finally:
        _settings.records = before


@contextmanager
def captured(name: str, pass_on: bool = True) -> Iterator[list]:
    """Collects what is recorded under this name for the caller's own use, and hands it on to whoever asked for it."""
    before, own = _settings.records, []
    _settings.records = {**(before or {}), name: own}
    try:
        yield own
    finally:
        _settings.records = before
    for tensor in own if pass_on else ():
        record(name, tensor)


def recording(name: str) -> bool:
    """Whether somebody asked for these tensors."""
    return _settings.records is not None and name in _settings.records


def record(name: str, tensor):
    """Hands a tensor to the caller who asked for `output_hidden_states` or `output_attentions`."""
    if recording(name):
        _settings.records[name].append(tensor)


def chain(layers, x, *args, record_as: str = "hidden_states", final: Callable | None = None, **kwargs):
    """Calls layers one after the other on x, recording what goes into each and what comes out of the last.

    `final`, a last normalisation, is applied to what the last layer returns before that is recorded.
    """
    for layer in layers:
        record(record_as, x)
        x = layer(x, *args, **kwargs)
    x = x if final is None else final(x)
    record(record_as, x)
    return x
