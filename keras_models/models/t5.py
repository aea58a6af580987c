"""T5, an encoder-decoder for which every task is text to text (https://arxiv.org/abs/1910.10683); also v1.1 and Flan.

Only biases on attention scores tell positions. Hidden states are (batch, length, d_model).
"""

import inspect
import math
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from keras_models import losses, nn
from keras_models.config import Config
from keras_models.model import ModelOutput, PreTrainedModel


@dataclass(kw_only=True)
class T5Config(Config):
    model_type = "t5"
    attribute_map = {
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
        "head_dim": "d_kv",
    }

    vocab_size: int = 32128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2048
    num_layers: int = 6
    num_decoder_layers: int | None = None  # as many as num_layers
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    dropout_rate: float = 0.1
    classifier_dropout: float = 0.0
    layer_norm_epsilon: float = 1e-6
    initializer_factor: float = 1.0
    feed_forward_proj: str = "relu"  # an activation, or gated- and one
    dense_act_fn: str | None = None  # these two follow from feed_forward_proj unless they are given
    is_gated_act: bool | None = None
    is_encoder_decoder: bool = True
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1

    def __post_init__(self):
        super().__post_init__()
        if self.num_decoder_layers is None:
            self.num_decoder_layers = self.num_layers
        gate, _, activation = self.feed_forward_proj.rpartition("-")
        if gate not in ("", "gated"):
            raise ValueError(
                f"Unknown feed_forward_proj {self.feed_forward_proj!r}: give an activation, such as 'relu', "
                "or 'gated-' and one."
            )
        if self.dense_act_fn is None:
            self.dense_act_fn = "gelu_new" if self.feed_forward_proj == "gated-gelu" else activation
        if self.is_gated_act is None:
            self.is_gated_act = gate == "gated"


def buckets(distances: np.ndarray, count: int, furthest: int, both_ways: bool) -> np.ndarray:
    """The buckets that distances, a key's position less the query's, fall into: near ones alone, far ones together.

    Args:
        distances: integers.
        count: of buckets.
        furthest: from here on all share the last bucket.
        both_ways: half of the buckets are for keys after the query; else these share bucket 0 with the query itself.
    """
    after = 0
    if both_ways:
        count //= 2
        after = np.where(distances > 0, count, 0)
    steps = np.abs(distances) if both_ways else np.maximum(-distances, 0)
    exact = count // 2
    far = np.log(np.maximum(steps, 1).astype("float32") / exact) / math.log(furthest / exact) * (count - exact)
    return after + np.where(steps < exact, steps, np.minimum(exact + far.astype("int32"), count - 1))


def decoder_inputs(inputs, ids, config):
    """What a decoder reads to write `ids` (batch, length), the start token and all but the last; {} if `inputs` tell.

    The start token is the one for padding where the configuration names no other.
    """
    if ids is None or any(inputs.get(name) is not None for name in ("decoder_input_ids", "decoder_inputs_embeds")):
        return {}
    pad, start = config.pad_token_id, config.decoder_start_token_id
    ids = ops.where(ids == losses.IGNORE, pad, ids)
    start = ops.full_like(ids[:, :1], pad if start is None else start)
    return {"decoder_input_ids": ops.concatenate([start, ids[:, :-1]], axis=1)}


def finite(x):
    """x with numbers too large for float16 clipped to a little less than its largest, as in the reference."""
    if keras.backend.standardize_dtype(x.dtype) != "float16":
        return x
    limit = ops.where(ops.any(ops.isinf(x)), ops.cast(64504.0, x.dtype), ops.cast(65504.0, x.dtype))
    return ops.minimum(ops.maximum(x, -limit), limit)


def dense(config, inputs, units, deviation=None, activation=None, use_bias=False):
    """A Dense layer drawn with a standard deviation of its own, by default inputs^-0.5."""
    nn.set_initializer_range(config.initializer_factor * (deviation or inputs**-0.5))
    return nn.Dense(inputs, units, activation, use_bias)


class T5Attention(nn.Layer):
    """Attention with unscaled scores; the first of a stack also holds what distances add to the scores of all."""

    def __init__(self, config, index, record_as, first=False):
        super().__init__()
        self.heads, self.index, self.record_as = config.num_heads, index, record_as
        size, inner = config.d_model, config.num_heads * config.d_kv
        self.q = dense(config, size, inner, (size * config.d_kv) ** -0.5)
        self.k = dense(config, size, inner)
        self.v = dense(config, size, inner)
        self.o = dense(config, inner, size)
        self.dropout = nn.Dropout(config.dropout_rate)
        if first:
            count, self.furthest = config.relative_attention_num_buckets, config.relative_attention_max_distance
            distances = np.arange(-self.furthest, self.furthest + 1)
            self.buckets = buckets(distances, count, self.furthest, both_ways=record_as != "decoder_attentions")
            nn.set_initializer_range(config.initializer_factor * size**-0.5)
            self.relative_attention_bias = nn.Embedding(count, self.heads)

    def call(self, x, bias=None, source=None, cache=None):
        query = nn.split_heads(self.q(x), self.heads)
        if source is None:
            key, value = self.keys_and_values(x)
            if cache is not None:
                key, value = cache.extend(self.index, key, value)
        elif cache is None:
            key, value = self.keys_and_values(source)
        else:
            key, value = cache.from_source(self.index, lambda: self.keys_and_values(source))
        x = nn.attend(query, key, value, bias, 1.0, self.dropout, self.record_as)
        return self.o(nn.merge_heads(x))

    def keys_and_values(self, x):
        return nn.split_heads(self.k(x), self.heads), nn.split_heads(self.v(x), self.heads)

    def distance_bias(self, queries, keys, past=0):
        """What distances add to scores, (1, heads, queries, keys), where the first query is at position `past`."""
        distances = ops.arange(keys)[None] - (ops.arange(queries)[:, None] + past)
        places = ops.clip(distances, -self.furthest, self.furthest) + self.furthest
        table = self.relative_attention_bias(ops.convert_to_tensor(self.buckets))  # (distances, heads)
        return ops.take(ops.transpose(table), places, axis=1)[None]


class T5DenseActDense(nn.Layer):
    """Two dense layers; the first may be a product of two, one of which, the gate, is activated."""

    def __init__(self, config):
        super().__init__()
        self.gated = config.is_gated_act
        sizes, activation = (config.d_model, config.d_ff), config.dense_act_fn
        if self.gated:
            self.wi_0 = dense(config, *sizes, activation=activation)
            self.wi_1 = dense(config, *sizes)
        else:
            self.wi = dense(config, *sizes, activation=activation)
        self.wo = dense(config, config.d_ff, config.d_model)
        self.dropout = nn.Dropout(config.dropout_rate)

    def call(self, x):
        return self.wo(self.dropout(self.wi_0(x) * self.wi_1(x) if self.gated else self.wi(x)))


class T5Residual(nn.Layer):
    """x plus what a layer, which files call `name`, makes of its norm."""

    def __init__(self, config, name, layer):
        super().__init__()
        self.inner = name
        setattr(self, name, layer)
        self.layer_norm = nn.RMSNormalization(config.d_model, config.layer_norm_epsilon)
        self.dropout = nn.Dropout(config.dropout_rate)

    def call(self, x, **kwargs):
        return finite(x + self.dropout(getattr(self, self.inner)(self.layer_norm(x), **kwargs)))


class T5Block(nn.Layer):
    def __init__(self, config, index, stack):
        super().__init__()
        attention = T5Attention(config, index, f"{stack}attentions", first=index == 0)
        self.layer = [T5Residual(config, "SelfAttention", attention)]
        if stack == "decoder_":
            attention = T5Attention(config, index, "cross_attentions")
            self.layer.append(T5Residual(config, "EncDecAttention", attention))
        self.layer.append(T5Residual(config, "DenseReluDense", T5DenseActDense(config)))

    def call(self, x, bias=None, source=None, source_bias=None, cache=None):
        x = self.layer[0](x, bias=bias, cache=cache)
        if source is not None:
            x = self.layer[1](x, bias=source_bias, source=source, cache=cache)
        return self.layer[-1](x)


class T5Stack(nn.Layer):
    """Tokens, or embeddings, to hidden states.

    Args:
        stack: how the names of its records begin: "encoder_", "decoder_", or "" for an encoder alone.

    A call takes `attention_mask`, ones and zeros (batch, past and new length), and in a decoder an encoder's hidden
    states as `source` and their mask as `source_attention_mask`.
    """

    def __init__(self, config, embed_tokens, stack):
        super().__init__()
        self.stack, self.embed_tokens = stack, embed_tokens
        layers = config.num_decoder_layers if stack == "decoder_" else config.num_layers
        self.block = [T5Block(config, index, stack) for index in range(layers)]
        self.final_layer_norm = nn.RMSNormalization(config.d_model, config.layer_norm_epsilon)
        self.dropout = nn.Dropout(config.dropout_rate)

    def call(
        self,
        input_ids=None,
        attention_mask=None,
        inputs_embeds=None,
        source=None,
        source_attention_mask=None,
        cache=None,
    ):
        if input_ids is None and inputs_embeds is None:
            side = "decoder_" if self.stack == "decoder_" else ""
            raise ValueError(f"There is nothing to read: give {side}input_ids or {side}inputs_embeds.")
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        mask = nn.attention_bias(x, attention_mask, causal=self.stack == "decoder_", cache=cache)
        queries = ops.shape(x)[1]
        past, keys = (0, queries) if cache is None else (cache.length, cache.reserve(queries))
        bias = self.block[0].layer[0].SelfAttention.distance_bias(queries, keys, past)
        bias = bias if mask is None else bias + mask
        source_bias = None if source is None else nn.attention_bias(source, source_attention_mask)
        return nn.chain(
            self.block, self.dropout(x), bias, source, source_bias, cache=cache,
            record_as=f"{self.stack}hidden_states", final=lambda x: self.dropout(self.final_layer_norm(x)),
        )  # fmt: skip


class T5PreTrainedModel(PreTrainedModel):
    config_class = T5Config
    base_model_prefix = "transformer"
    # The first is in files of the first release, unused; the others are heads, which may be new.
    optional = (r"\.EncDecAttention\.relative_attention_bias\.weight$", r"^lm_head\.", r"^qa_outputs\.")


class T5Model(T5PreTrainedModel):
    """The bare model: `last_hidden_state` (batch, decoder length, d_model), `encoder_last_hidden_state`.

    `encoder_outputs`, a tuple whose first item is the encoder's last hidden state, stand in for a run of the encoder.
    """

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        nn.set_initializer_range(config.initializer_factor)
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = T5Stack(config, self.shared, "encoder_")
        self.decoder = T5Stack(config, self.shared, "decoder_")

    def call(
        self,
        input_ids=None,
        attention_mask=None,
        decoder_input_ids=None,
        decoder_attention_mask=None,
        encoder_outputs=None,
        inputs_embeds=None,
        decoder_inputs_embeds=None,
        past_key_values=None,
    ):
        texts = (input_ids, attention_mask, inputs_embeds)
        source = self.encoder(*texts) if encoder_outputs is None else encoder_outputs[0]
        texts = (decoder_input_ids, decoder_attention_mask, decoder_inputs_embeds)
        x = self.decoder(*texts, source, attention_mask, cache=past_key_values)
        return ModelOutput(last_hidden_state=x, encoder_last_hidden_state=source)


# In files of two heads the bare model's parts have no prefix: these heads are bare models, and take the same inputs.
INPUTS = tuple(inspect.signature(T5Model._run).parameters)[1:]


class T5ForConditionalGeneration(T5Model):
    """Next words of a text that answers another: `logits` (batch, decoder length, vocab_size).

    With labels and nothing for the decoder to read, it reads the labels behind the start token.
    """

    input_names = (*INPUTS, "logits_to_keep")

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        nn.set_initializer_range(config.initializer_factor)
        self.lm_head = nn.output_projection(self.shared, config, use_bias=False)

    def call(self, logits_to_keep=None, **inputs):
        outputs = super().call(**inputs)
        x = nn.kept(outputs.last_hidden_state, logits_to_keep)
        if self.config.tie_word_embeddings:
            x = x * self.config.d_model**-0.5
        return ModelOutput(logits=self.lm_head(x), encoder_last_hidden_state=outputs.encoder_last_hidden_state)

    def inputs_from_labels(self, inputs, labels):
        return decoder_inputs(inputs, ops.convert_to_tensor(labels["labels"]), self.config)

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)


class T5ForQuestionAnswering(T5Model):
    """The ends of an answer: `start_logits` and `end_logits` (batch, decoder length).

    With nothing given for the decoder to read, it reads `input_ids` behind the start token.
    """

    input_names = INPUTS
    label_names = ("start_positions", "end_positions")

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.qa_outputs = dense(config, config.d_model, 2, use_bias=True)

    def call(self, **inputs):
        inputs |= decoder_inputs(inputs, inputs.get("input_ids"), self.config)
        outputs = super().call(**inputs)
        start, end = ops.unstack(self.qa_outputs(outputs.last_hidden_state), 2, axis=-1)
        source = outputs.encoder_last_hidden_state
        return ModelOutput(start_logits=start, end_logits=end, encoder_last_hidden_state=source)

    def head_loss(self, outputs, start_positions, end_positions):
        return losses.question_answering(outputs.start_logits, outputs.end_logits, start_positions, end_positions)


class T5EncoderModel(T5PreTrainedModel):
    """The encoder alone: `last_hidden_state` (batch, length, d_model)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        config.is_encoder_decoder = config.use_cache = False  # and so it is saved, as by the reference
        nn.set_initializer_range(config.initializer_factor)
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = T5Stack(config, self.shared, "")

    def call(self, input_ids=None, attention_mask=None, inputs_embeds=None):
        return ModelOutput(last_hidden_state=self.encoder(input_ids, attention_mask, inputs_embeds))


class T5ClassificationHead(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.dense = dense(config, config.d_model, config.d_model, use_bias=True)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.out_proj = dense(config, config.d_model, config.num_labels, use_bias=True)

    def call(self, x):
        return self.out_proj(self.dropout(ops.tanh(self.dense(self.dropout(x)))))


class T5ForSequenceClassification(T5PreTrainedModel):
    """A class, or numbers, per text, from the decoder's state at its last end token: `logits` (batch, num_labels).

    With nothing given for the decoder to read, it reads `input_ids` behind the start token.
    """

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.transformer = T5Model(config)
        self.classification_head = T5ClassificationHead(config)

    def call(self, input_ids=None, **inputs):
        if input_ids is None:
            raise ValueError("T5ForSequenceClassification finds the ends of texts by their tokens: give input_ids.")
        inputs |= decoder_inputs(inputs, input_ids, self.config)
        outputs = self.transformer(input_ids=input_ids, **inputs)
        ends = ops.arange(ops.shape(input_ids)[1]) * ops.cast(input_ids == self.config.eos_token_id, "int32")
        x = ops.take_along_axis(outputs.last_hidden_state, ops.argmax(ends, axis=1)[:, None, None], axis=1)
        logits = self.classification_head(ops.squeeze(x, 1))
        return ModelOutput(logits=logits, encoder_last_hidden_state=outputs.encoder_last_hidden_state)

    def head_loss(self, outputs, labels):
        return losses.sequence_classification(outputs.logits, labels, self.config)


class T5ForTokenClassification(T5PreTrainedModel):
    """A class per token, from the encoder alone: `logits` (batch, length, num_labels)."""

    optional = (r"^transformer\.decoder\.",)

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.transformer = T5EncoderModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = dense(config, config.d_model, config.num_labels, deviation=1.0, use_bias=True)

    def call(self, **inputs):
        return ModelOutput(logits=self.classifier(self.dropout(self.transformer(**inputs).last_hidden_state)))

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)
