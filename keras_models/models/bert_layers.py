"""The layers of BERT that its descendants keep, under the names in their checkpoints: BERT, RoBERTa, ELECTRA.

Hidden states are (batch, length, hidden_size); a configuration is one with the fields of BertConfig.
"""

from keras import ops

from keras_models import nn


class Embeddings(nn.Layer):
    """What a token is, where it stands and which text it belongs to: sums of rows of `size` features."""

    def __init__(self, config, size, position_padding_idx=None):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, size, config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, size, position_padding_idx)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, size)
        self.LayerNorm = nn.LayerNormalization(size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.adds_positions = config.position_embedding_type == "absolute"

    def call(self, input_ids=None, token_type_ids=None, position_ids=None, inputs_embeds=None, cache=None):
        x = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if token_type_ids is None:
            token_type_ids = ops.zeros((1, ops.shape(x)[1]), "int32")
        x = x + self.token_type_embeddings(token_type_ids)
        if self.adds_positions:
            x = x + self.position_embeddings(nn.positions(x, cache) if position_ids is None else position_ids)
        return self.dropout(self.LayerNorm(x))


class SelfAttention(nn.Layer):
    def __init__(self, config, index, cross=False):
        super().__init__()
        self.index, self.heads, kind = index, config.num_attention_heads, config.position_embedding_type
        if config.hidden_size % self.heads:
            raise ValueError(f"hidden_size {config.hidden_size} is not a multiple of num_attention_heads {self.heads}.")
        if kind not in ("absolute", "relative_key", "relative_key_query"):
            raise ValueError(
                f"Unknown position_embedding_type {kind!r}: use absolute, relative_key or relative_key_query."
            )
        self.query = nn.Dense(config.hidden_size, config.hidden_size)
        self.key = nn.Dense(config.hidden_size, config.hidden_size)
        self.value = nn.Dense(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self.record_as = "cross_attentions" if cross else "attentions"
        self.relative = None if cross or kind == "absolute" else kind
        if self.relative is not None:
            self.positions = config.max_position_embeddings
            self.distance_embedding = nn.Embedding(2 * self.positions - 1, config.hidden_size // self.heads)

    def call(self, x, bias=None, source=None, cache=None):
        query = nn.split_heads(self.query(x), self.heads)
        if source is None:
            key, value = self.keys_and_values(x)
            if cache is not None:
                key, value = cache.extend(self.index, key, value)
        elif cache is None:
            key, value = self.keys_and_values(source)
        else:
            key, value = cache.from_source(self.index, lambda: self.keys_and_values(source))
        if self.relative is not None:
            scores = self.relative_scores(query, key, 0 if cache is None else cache.length)
            bias = scores if bias is None else bias + scores
        return nn.merge_heads(nn.attend(query, key, value, bias, dropout=self.dropout, record_as=self.record_as))

    def keys_and_values(self, x):
        return nn.split_heads(self.key(x), self.heads), nn.split_heads(self.value(x), self.heads)

    def relative_scores(self, query, key, past):
        queries, keys, size = ops.shape(query)[2], ops.shape(key)[2], query.shape[-1]
        distance = ops.arange(queries)[:, None] + past - ops.arange(keys)[None] + self.positions - 1
        distance = ops.maximum(distance, 0)  # a cache may have room for more keys than there are positions
        table = self.distance_embedding(distance)  # (queries, keys, size)
        scores = ops.einsum("bhqd,qkd->bhqk", query, table)
        if self.relative == "relative_key_query":
            scores = scores + ops.einsum("bhkd,qkd->bhqk", key, table)
        return scores * size**-0.5


class Residual(nn.Layer):
    """The end of both halves of a layer: project, drop, add what came in, normalise."""

    def __init__(self, config, input_dim):
        super().__init__()
        self.dense = nn.Dense(input_dim, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.LayerNorm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)

    def call(self, x, residual):
        return self.LayerNorm(self.dropout(self.dense(x)) + residual)


class Attention(nn.Layer):
    def __init__(self, config, index, cross=False):
        super().__init__()
        self.self = SelfAttention(config, index, cross)
        self.output_ = Residual(config, config.hidden_size)

    def call(self, x, bias=None, source=None, cache=None):
        return self.output_(self.self(x, bias, source, cache=cache), x)


class Intermediate(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.dense = nn.Dense(config.hidden_size, config.intermediate_size, activation=config.hidden_act)

    def call(self, x):
        return self.dense(x)


class EncoderLayer(nn.Layer):
    def __init__(self, config, index):
        super().__init__()
        self.attention = Attention(config, index)
        if config.add_cross_attention:
            self.crossattention = Attention(config, index, cross=True)
        self.intermediate = Intermediate(config)
        self.output_ = Residual(config, config.intermediate_size)

    def call(self, x, bias=None, source=None, source_bias=None, cache=None):
        x = self.attention(x, bias, cache=cache)
        if source is not None:
            x = self.crossattention(x, source_bias, source, cache=cache)
        return self.output_(self.intermediate(x), x)


class Encoder(nn.Layer):
    """The stack of layers.

    With `is_decoder` no position sees what comes after it, with `add_cross_attention` all may see a source.

    Args of a call:
        x: (batch, length, hidden_size).
        attention_mask: ones and zeros, (batch, past and new length) or one per query.
        source: (batch, source length, hidden_size), an encoder's hidden states.
        source_attention_mask: ones and zeros, (batch, source length).
        cache: of a decoder.
    """

    def __init__(self, config):
        super().__init__()
        if config.add_cross_attention and not config.is_decoder:
            raise ValueError("add_cross_attention needs a decoder: set is_decoder=True as well.")
        self.causal, self.sees_source = config.is_decoder, config.add_cross_attention
        self.layer = [EncoderLayer(config, index) for index in range(config.num_hidden_layers)]

    def call(
        self,
        x,
        attention_mask=None,
        source=None,
        source_attention_mask=None,  # not source_mask, which Keras would fill
        cache=None,
    ):
        if source is not None and not self.sees_source:
            raise ValueError(
                "encoder_hidden_states was given to a model without cross-attention: "
                "set is_decoder=True and add_cross_attention=True in its configuration."
            )
        if cache is not None and not self.causal:
            raise ValueError(
                "use_cache or past_key_values was given to a model that is no decoder: "
                "set is_decoder=True in its configuration."
            )
        bias = nn.attention_bias(x, attention_mask, causal=self.causal, cache=cache)
        source_bias = None if source is None else nn.attention_bias(source, source_attention_mask)
        return nn.chain(self.layer, x, bias, source, source_bias, cache=cache)


class Pooler(nn.Layer):
    """The first token's state, projected: (batch, length, hidden_size) -> (batch, hidden_size)."""

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Dense(config.hidden_size, config.hidden_size, activation="tanh")

    def call(self, x):
        return self.dense(x[:, 0])


def classifier_dropout(config):
    """The dropout in front of a classifier."""
    rate = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
    return nn.Dropout(rate)


class ClassificationHead(nn.Layer):
    """A text's classes from its first token's state: (batch, length, hidden_size) -> (batch, num_labels)."""

    def __init__(self, config, activation):
        super().__init__()
        self.dense = nn.Dense(config.hidden_size, config.hidden_size, activation=activation)
        self.dropout = classifier_dropout(config)
        self.out_proj = nn.Dense(config.hidden_size, config.num_labels)

    def call(self, x):
        return self.out_proj(self.dropout(self.dense(self.dropout(x[:, 0]))))
