"""Layers that exist once constructed: thin subclasses of Keras' own, quick in plain inference."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_models import runtime
from keras_models.nn.activations import get_activation

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


_settings = _Settings()


def set_initializer_range(stddev: float):
    """The standard deviation that Dense and Embedding layers constructed from now on are drawn with."""
    _settings.initializer_range = stddev


def normal() -> keras.initializers.Initializer:
    """What kernels and tables are drawn from."""
    return keras.initializers.RandomNormal(stddev=_settings.initializer_range)


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
        return self.add_weight(shape=shape, initializer=initializer or normal())


class Dense(BareCall, keras.layers.Dense):
    """`keras.layers.Dense` from `input_dim` to `units` features, along the last axis."""

    def __init__(self, input_dim: int, units: int, activation: str | Callable | None = None, use_bias: bool = True):
        super().__init__(units, activation=None, use_bias=use_bias, kernel_initializer=normal())
        self.activation = None if activation is None else get_activation(activation)
        self.build((None, input_dim))

    def call(self, inputs, training=None):
        kernel = self.kernel if self.lora_enabled else self._kernel
        return runtime.linear(inputs, kernel, self.bias, self.activation)

    def quantize(self, mode=None, type_check=True, config=None):
        super().quantize(mode, type_check=False, config=config)


class InOutDense(Dense):
    """A `Dense` whose kernel lies (in, out) in files, as it does here; GPT-2 calls it Conv1D."""

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
        super().__init__(count, size, embeddings_initializer=initializer or normal())
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
