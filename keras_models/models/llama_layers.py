"""The layers of Llama that its descendants keep, under the names in their checkpoints: Llama, Mistral.

Hidden states are (batch, length, hidden_size); a configuration is one with the fields of LlamaConfig but biases.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from keras import ops

from keras_models import nn
from keras_models.config import Config

ROPE_SETTINGS = {  # kinds of rope_scaling -> what each cannot do without
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor",),
    "longrope": ("short_factor", "long_factor"),
}


@dataclass(kw_only=True)
class RotaryConfig(Config):
    """Base of configurations with rotary positions; also reads `rope_parameters`, as transformers 5 writes them."""

    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any], **overrides: Any) -> Self:
        """See the base class."""
        values = dict(values)
        scaling = dict(values.pop("rope_parameters", None) or {})
        if "rope_theta" in scaling:
            values["rope_theta"] = scaling.pop("rope_theta")
        if scaling.get("rope_type", "default") != "default":
            values["rope_scaling"] = scaling
        return super().from_dict(values, **overrides)


def head_size(config) -> int:
    """The number of features of an attention head."""
    return config.head_dim or config.hidden_size // config.num_attention_heads


def rope_kind(config) -> str:
    """How rotary positions go beyond the length that a model was first trained for, a key of `ROPE_SETTINGS`.

    Raises:
        ValueError: there is no such kind, or it lacks a setting.
    """
    scaling = config.rope_scaling or {}
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind not in ROPE_SETTINGS:
        raise ValueError(f"Unknown rope_type {kind!r} in rope_scaling: use {', '.join(ROPE_SETTINGS)}.")
    missing = [name for name in ROPE_SETTINGS[kind] if scaling.get(name) is None]
    if missing:
        raise ValueError(f"rope_scaling of rope_type {kind!r} lacks {', '.join(missing)}: add it in config.json.")
    return kind


def depends_on_length(config) -> bool:
    """Whether the longest text of a batch, its padding included, decides how all of its positions are turned."""
    return rope_kind(config) in ("dynamic", "longrope")


class Rotary:
    """Positions as rotations: features i and i + size / 2 turn together, by the position times a frequency of theirs.

    From https://arxiv.org/abs/2104.09864. Scaled: "linear" and "dynamic" of https://arxiv.org/abs/2306.15595 and its
    successors, "llama3" of https://arxiv.org/abs/2407.21783, "yarn" of https://arxiv.org/abs/2309.00071, "longrope" of
    https://arxiv.org/abs/2402.13753. All in float32, whatever the model computes in.

    Args:
        config: with rope_theta, rope_scaling, max_position_embeddings.

    Returns, when called with positions (batch or 1, length) and a type:
        Cosines and signed sines, (batch or 1, 1, length, size), for `rotate`.
    """

    def __init__(self, config):
        self.kind, self.scaling, self.scale = rope_kind(config), config.rope_scaling or {}, 1.0
        self.trained, self.theta, self.size = config.max_position_embeddings, config.rope_theta, head_size(config)
        # In the reference's order of rounding: a last bit of a frequency is a wrong angle some thousand positions on.
        self.exponents = np.arange(0, self.size, 2, dtype="float32") / np.float32(self.size)
        self.periods = np.power(float(self.theta), self.exponents.astype("float64")).astype("float32")
        self.frequencies = 1 / self.periods
        if self.kind == "linear":
            self.frequencies = self.frequencies / self.scaling["factor"]
        elif self.kind == "llama3":
            self._scale_as_llama3()
        elif self.kind == "yarn":
            self._scale_as_yarn()
        elif self.kind == "longrope":
            self._scale_as_longrope(config)

    def _scale_as_llama3(self):
        """Slow frequencies are divided by the factor, fast ones kept, those between blended."""
        low, high = self.scaling["low_freq_factor"], self.scaling["high_freq_factor"]
        turns = self.scaling["original_max_position_embeddings"] / (2 * math.pi / self.frequencies)
        kept = np.clip((turns - low) / (high - low), 0, 1)
        self.frequencies = (1 - kept) * self.frequencies / self.scaling["factor"] + kept * self.frequencies

    def _scale_as_yarn(self):
        """As llama3, blended along the features' indices; and scores are scaled up."""
        scaling, factor, size = self.scaling, self.scaling["factor"], self.size
        length = scaling.get("original_max_position_embeddings") or self.trained

        def index(turns):  # of the feature that turns so often within the length
            return size * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(self.theta))

        low, high = index(scaling.get("beta_fast") or 32), index(scaling.get("beta_slow") or 1)
        if scaling.get("truncate", True):
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, size - 1)
        kept = 1 - np.clip((np.arange(size // 2, dtype="float32") - low) / (high - low or 0.001), 0, 1)
        self.frequencies = (1 - kept) / (factor * self.periods) + kept * self.frequencies

        def growth(weight):
            return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0

        self.scale = scaling.get("attention_factor")
        if self.scale is None and scaling.get("mscale") and scaling.get("mscale_all_dim"):
            self.scale = growth(scaling["mscale"]) / growth(scaling["mscale_all_dim"])
        elif self.scale is None:
            self.scale = growth(1)

    def _scale_as_longrope(self, config):
        """A factor per frequency; others beyond the length that the model was first trained for."""
        original = getattr(config, "original_max_position_embeddings", None)
        factor = config.max_position_embeddings / original if original else self.scaling.get("factor")
        self.trained = original or config.max_position_embeddings
        self.scale = self.scaling.get("attention_factor")
        if self.scale is None and factor is None:
            raise ValueError("rope_scaling of rope_type 'longrope' lacks factor: add it in config.json.")
        if self.scale is None:
            self.scale = math.sqrt(1 + math.log(factor) / math.log(self.trained)) if factor > 1 else 1.0
        self.frequencies, self.beyond = (
            1 / (np.array(self.scaling[name], "float32") * self.periods) for name in ("short_factor", "long_factor")
        )

    def __call__(self, positions, dtype):
        angles = ops.cast(positions, "float32")[:, None, :, None] * self.frequencies_for(positions)
        cos, sin = ops.cos(angles) * self.scale, ops.sin(angles) * self.scale
        cos, sin = ops.concatenate([cos, cos], axis=-1), ops.concatenate([-sin, sin], axis=-1)
        return ops.cast(cos, dtype), ops.cast(sin, dtype)

    def frequencies_for(self, positions):
        """The frequencies, (size / 2,), that these positions need."""
        frequencies = ops.convert_to_tensor(self.frequencies)
        if self.kind not in ("dynamic", "longrope"):
            return frequencies
        length = ops.cast(ops.max(positions), "float32") + 1
        if self.kind == "dynamic":
            stretched = self.scaling["factor"] * length / self.trained - (self.scaling["factor"] - 1)
            theta = self.theta * ops.power(ops.maximum(stretched, 1.0), self.size / (self.size - 2))
            beyond = 1 / ops.power(theta, self.exponents)
        else:
            beyond = self.beyond
        return ops.where(length > self.trained, beyond, frequencies)


def rotate(x, cos, sin):
    """Queries or keys (batch, heads, length, size), turned by what a `Rotary` gave."""
    return x * cos + ops.roll(x, x.shape[-1] // 2, axis=-1) * sin


class Attention(nn.Layer):
    def __init__(self, config, index, use_bias=False):
        super().__init__()
        self.heads, self.key_heads, size = config.num_attention_heads, config.num_key_value_heads, head_size(config)
        if self.heads % self.key_heads:
            raise ValueError(
                f"num_attention_heads {self.heads} is not a multiple of num_key_value_heads {self.key_heads}."
            )
        self.index = index
        self.q_proj = nn.Dense(config.hidden_size, self.heads * size, use_bias=use_bias)
        self.k_proj = nn.Dense(config.hidden_size, self.key_heads * size, use_bias=use_bias)
        self.v_proj = nn.Dense(config.hidden_size, self.key_heads * size, use_bias=use_bias)
        self.o_proj = nn.Dense(self.heads * size, config.hidden_size, use_bias=use_bias)
        self.dropout = nn.Dropout(config.attention_dropout)

    def call(self, x, cos, sin, bias=None, cache=None):
        query = rotate(nn.split_heads(self.q_proj(x), self.heads), cos, sin)
        key = rotate(nn.split_heads(self.k_proj(x), self.key_heads), cos, sin)
        value = nn.split_heads(self.v_proj(x), self.key_heads)
        if cache is not None:
            key, value = cache.extend(self.index, key, value)
        return self.o_proj(nn.merge_heads(nn.attend(query, key, value, bias, dropout=self.dropout)))


class MLP(nn.Layer):
    def __init__(self, config, use_bias=False):
        super().__init__()
        size, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Dense(size, inner, activation=config.hidden_act, use_bias=use_bias)
        self.up_proj = nn.Dense(size, inner, use_bias=use_bias)
        self.down_proj = nn.Dense(inner, size, use_bias=use_bias)

    def call(self, x):
        return self.down_proj(self.gate_proj(x) * self.up_proj(x))


class DecoderLayer(nn.Layer):
    def __init__(self, config, index, attention_bias=False, mlp_bias=False):
        super().__init__()
        self.self_attn = Attention(config, index, attention_bias)
        self.mlp = MLP(config, mlp_bias)
        self.input_layernorm = nn.RMSNormalization(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNormalization(config.hidden_size, config.rms_norm_eps)

    def call(self, x, cos, sin, bias=None, cache=None):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, bias, cache=cache)
        return x + self.mlp(self.post_attention_layernorm(x))


def token_embedding(config):
    """The table of tokens; a negative padding token counts from its end, as in PyTorch."""
    pad = config.pad_token_id
    if pad is not None and pad < 0:
        pad += config.vocab_size
    return nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=pad)


def classifier_dropout(config):
    """The dropout in front of a classifier of tokens."""
    rates = (config.extra.get(name) for name in ("classifier_dropout", "hidden_dropout"))
    return nn.Dropout(next((rate for rate in rates if rate is not None), 0.1))
