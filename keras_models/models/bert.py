"""BERT, a bidirectional text encoder (https://arxiv.org/abs/1810.04805); also a decoder, alone or behind an encoder.

Hidden states are (batch, length, hidden_size).
"""

from dataclasses import dataclass

from keras import ops

from keras_models import losses, nn
from keras_models.config import Config
from keras_models.model import ModelOutput, PreTrainedModel


@dataclass(kw_only=True)
class BertConfig(Config):
    model_type = "bert"

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    position_embedding_type: str = "absolute"  # or relative_key, relative_key_query
    classifier_dropout: float | None = None


class BertEmbeddings(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.adds_positions = config.position_embedding_type == "absolute"

    def call(self, input_ids=None, token_type_ids=None, position_ids=None, inputs_embeds=None):
        x = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        length = ops.shape(x)[1]
        if token_type_ids is None:
            token_type_ids = ops.zeros((1, length), "int32")
        x = x + self.token_type_embeddings(token_type_ids)
        if self.adds_positions:
            x = x + self.position_embeddings(ops.arange(length)[None] if position_ids is None else position_ids)
        return self.dropout(self.LayerNorm(x))


class BertSelfAttention(nn.Layer):
    def __init__(self, config, cross=False):
        super().__init__()
        if config.hidden_size % config.num_attention_heads:
            raise ValueError(
                f"hidden_size {config.hidden_size} is not a multiple of num_attention_heads {config.num_attention_heads}."
            )
        self.heads = config.num_attention_heads
        self.query = nn.Dense(config.hidden_size, config.hidden_size)
        self.key = nn.Dense(config.hidden_size, config.hidden_size)
        self.value = nn.Dense(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self.record_as = "cross_attentions" if cross else "attentions"
        self.relative = config.position_embedding_type
        if self.relative != "absolute":
            self.positions = config.max_position_embeddings
            self.distance_embedding = nn.Embedding(2 * self.positions - 1, config.hidden_size // self.heads)

    def call(self, x, bias=None, source=None):
        source = x if source is None else source
        query = nn.split_heads(self.query(x), self.heads)
        key = nn.split_heads(self.key(source), self.heads)
        value = nn.split_heads(self.value(source), self.heads)
        if self.relative != "absolute":
            scores = self.relative_scores(query, key)
            bias = scores if bias is None else bias + scores
        return nn.merge_heads(nn.attend(query, key, value, bias, dropout=self.dropout, record_as=self.record_as))

    def relative_scores(self, query, key):
        queries, keys, size = ops.shape(query)[2], ops.shape(key)[2], query.shape[-1]
        distance = ops.arange(queries)[:, None] - ops.arange(keys)[None] + self.positions - 1
        table = self.distance_embedding(distance)  # (queries, keys, size)
        scores = ops.einsum("bhqd,qkd->bhqk", query, table)
        if self.relative == "relative_key_query":
            scores = scores + ops.einsum("bhkd,qkd->bhqk", key, table)
        return scores * size**-0.5


class BertResidual(nn.Layer):
    """The end of both halves of a layer: project, drop, add what came in, normalise."""

    def __init__(self, config, input_dim):
        super().__init__()
        self.dense = nn.Dense(input_dim, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.LayerNorm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)

    def call(self, x, residual):
        return self.LayerNorm(self.dropout(self.dense(x)) + residual)


class BertAttention(nn.Layer):
    def __init__(self, config, cross=False):
        super().__init__()
        self.self = BertSelfAttention(config, cross)
        self.output_ = BertResidual(config, config.hidden_size)

    def call(self, x, bias=None, source=None):
        return self.output_(self.self(x, bias, source), x)


class BertIntermediate(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.dense = nn.Dense(config.hidden_size, config.intermediate_size, activation=config.hidden_act)

    def call(self, x):
        return self.dense(x)


class BertLayer(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.attention = BertAttention(config)
        if config.add_cross_attention:
            self.crossattention = BertAttention(config, cross=True)
        self.intermediate = BertIntermediate(config)
        self.output_ = BertResidual(config, config.intermediate_size)

    def call(self, x, bias=None, source=None, source_bias=None):
        x = self.attention(x, bias)
        if source is not None:
            x = self.crossattention(x, source_bias, source)
        return self.output_(self.intermediate(x), x)


class BertEncoder(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.layer = [BertLayer(config) for _ in range(config.num_hidden_layers)]

    def call(self, x, bias=None, source=None, source_bias=None):
        return nn.chain(self.layer, x, bias, source, source_bias)


class BertPooler(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.dense = nn.Dense(config.hidden_size, config.hidden_size, activation="tanh")

    def call(self, x):
        return self.dense(x[:, 0])


class BertPreTrainedModel(PreTrainedModel):
    config_class = BertConfig
    base_model_prefix = "bert"
    optional = (r"^(bert\.)?pooler\.",)


class BertModel(BertPreTrainedModel):
    """The bare model: `last_hidden_state` (batch, length, hidden_size), `pooler_output` (batch, hidden_size)."""

    def __init__(self, config, add_pooling_layer=True, **kwargs):
        super().__init__(config, **kwargs)
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config)
        self.pooler = BertPooler(config) if add_pooling_layer else None

    def call(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        inputs_embeds=None,
        encoder_hidden_states=None,
        encoder_attention_mask=None,
    ):
        x = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        bias = nn.attention_bias(x, attention_mask, causal=self.config.is_decoder)
        source_bias = None
        if encoder_hidden_states is not None:
            source_bias = nn.attention_bias(encoder_hidden_states, encoder_attention_mask)
        x = self.encoder(x, bias, encoder_hidden_states, source_bias)
        outputs = ModelOutput(last_hidden_state=x)
        if self.pooler is not None:
            outputs["pooler_output"] = self.pooler(x)
        return outputs


class BertPredictionHeadTransform(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.dense = nn.Dense(config.hidden_size, config.hidden_size, activation=config.hidden_act)
        self.LayerNorm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)

    def call(self, x):
        return self.LayerNorm(self.dense(x))


class BertLMPredictionHead(nn.Layer):
    def __init__(self, config, embedding):
        super().__init__()
        self.transform = BertPredictionHeadTransform(config)
        self.decoder = nn.output_projection(embedding, config)
        self.bias = self.decoder.bias

    def call(self, x):
        return self.decoder(self.transform(x))


class BertPreTrainingHeads(nn.Layer):
    def __init__(self, config, embedding=None, next_sentence=False):
        super().__init__()
        if embedding is not None:
            self.predictions = BertLMPredictionHead(config, embedding)
        if next_sentence:
            self.seq_relationship = nn.Dense(config.hidden_size, 2)

    def call(self, x):
        return self.predictions(x)


class BertForPreTraining(BertPreTrainedModel):
    """Masked words and next sentence: `prediction_logits` (batch, length, vocab_size), `seq_relationship_logits` (batch, 2)."""

    label_names = ("labels", "next_sentence_label")

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.bert = BertModel(config)
        self.cls = BertPreTrainingHeads(config, self.bert.embeddings.word_embeddings, next_sentence=True)

    def call(self, **inputs):
        outputs = self.bert(**inputs)
        return ModelOutput(
            prediction_logits=self.cls(outputs.last_hidden_state),
            seq_relationship_logits=self.cls.seq_relationship(outputs.pooler_output),
        )

    def head_loss(self, outputs, labels, next_sentence_label):
        words = losses.cross_entropy(outputs.prediction_logits, labels)
        return words + losses.cross_entropy(outputs.seq_relationship_logits, next_sentence_label)


class BertForMaskedLM(BertPreTrainedModel):
    """Masked words: `logits` (batch, length, vocab_size)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.cls = BertPreTrainingHeads(config, self.bert.embeddings.word_embeddings)

    def call(self, **inputs):
        return ModelOutput(logits=self.cls(self.bert(**inputs).last_hidden_state))

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)


class BertLMHeadModel(BertForMaskedLM):
    """Next words, with `is_decoder`: `logits` (batch, length, vocab_size)."""

    def head_loss(self, outputs, labels):
        return losses.causal_lm(outputs.logits, labels)


class BertForNextSentencePrediction(BertPreTrainedModel):
    """Whether the second text follows the first: `logits` (batch, 2), index 0 for yes."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.bert = BertModel(config)
        self.cls = BertPreTrainingHeads(config, next_sentence=True)

    def call(self, **inputs):
        return ModelOutput(logits=self.cls.seq_relationship(self.bert(**inputs).pooler_output))

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, ops.reshape(labels, (-1,)))


def classifier_dropout(config):
    rate = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
    return nn.Dropout(rate)


class BertForSequenceClassification(BertPreTrainedModel):
    """A class, or numbers, per text: `logits` (batch, num_labels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.bert = BertModel(config)
        self.dropout = classifier_dropout(config)
        self.classifier = nn.Dense(config.hidden_size, config.num_labels)

    def call(self, **inputs):
        return ModelOutput(logits=self.classifier(self.dropout(self.bert(**inputs).pooler_output)))

    def head_loss(self, outputs, labels):
        return losses.sequence_classification(outputs.logits, labels, self.config)


class BertForTokenClassification(BertPreTrainedModel):
    """A class per token: `logits` (batch, length, num_labels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.dropout = classifier_dropout(config)
        self.classifier = nn.Dense(config.hidden_size, config.num_labels)

    def call(self, **inputs):
        return ModelOutput(logits=self.classifier(self.dropout(self.bert(**inputs).last_hidden_state)))

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)


class BertForQuestionAnswering(BertPreTrainedModel):
    """Where the answer starts and ends: `start_logits` and `end_logits` (batch, length)."""

    label_names = ("start_positions", "end_positions")

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.qa_outputs = nn.Dense(config.hidden_size, 2)

    def call(self, **inputs):
        logits = self.qa_outputs(self.bert(**inputs).last_hidden_state)
        return ModelOutput(start_logits=logits[..., 0], end_logits=logits[..., 1])

    def head_loss(self, outputs, start_positions, end_positions):
        return losses.question_answering(outputs.start_logits, outputs.end_logits, start_positions, end_positions)


class BertForMultipleChoice(BertPreTrainedModel):
    """Which of several texts is right: inputs (batch, choices, length) -> `logits` (batch, choices)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.bert = BertModel(config)
        self.dropout = classifier_dropout(config)
        self.classifier = nn.Dense(config.hidden_size, 1)

    def call(self, **inputs):
        flat, choices = nn.flatten_choices(inputs)
        logits = self.classifier(self.dropout(self.bert(**flat).pooler_output))
        return ModelOutput(logits=ops.reshape(logits, (-1, choices)))

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)
