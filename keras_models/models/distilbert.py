"""DistilBERT, BERT with half the layers, no token types and no pooler (https://arxiv.org/abs/1910.01108).

Hidden states are (batch, length, dim).
"""

from dataclasses import dataclass

import numpy as np
from keras import ops

from keras_models import losses, nn
from keras_models.config import Config
from keras_models.model import ModelOutput, PreTrainedModel

EPSILON = 1e-12  # of all norms


@dataclass(kw_only=True)
class DistilBertConfig(Config):
    model_type = "distilbert"
    attribute_map = {"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}

    vocab_size: int = 30522
    max_position_embeddings: int = 512
    sinusoidal_pos_embds: bool = False  # what position embeddings start from
    n_layers: int = 6
    n_heads: int = 12
    dim: int = 768
    hidden_dim: int = 3072
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation: str = "gelu"
    initializer_range: float = 0.02
    qa_dropout: float = 0.1
    seq_classif_dropout: float = 0.2
    pad_token_id: int | None = 0


def sinusoids(shape, dtype=None):
    """A (positions, features) table whose even features are sines and whose odd ones are cosines of the position."""
    positions, features = shape
    angles = np.arange(positions)[:, None] / 10000.0 ** (2 * (np.arange(features) // 2) / features)
    return ops.cast(np.where(np.arange(features) % 2, np.cos(angles), np.sin(angles)), dtype)


class DistilBertEmbeddings(nn.Layer):
    def __init__(self, config):
        super().__init__()
        start = sinusoids if config.sinusoidal_pos_embds else None
        self.word_embeddings = nn.Embedding(config.vocab_size, config.dim, config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.dim, initializer=start)
        self.LayerNorm = nn.LayerNormalization(config.dim, EPSILON)
        self.dropout = nn.Dropout(config.dropout)

    def call(self, input_ids=None, inputs_embeds=None):
        x = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        x = x + self.position_embeddings(ops.arange(ops.shape(x)[1])[None])
        return self.dropout(self.LayerNorm(x))


class DistilBertAttention(nn.Layer):
    def __init__(self, config):
        super().__init__()
        if config.dim % config.n_heads:
            raise ValueError(f"dim {config.dim} is not a multiple of n_heads {config.n_heads}.")
        self.heads = config.n_heads
        self.q_lin = nn.Dense(config.dim, config.dim)
        self.k_lin = nn.Dense(config.dim, config.dim)
        self.v_lin = nn.Dense(config.dim, config.dim)
        self.out_lin = nn.Dense(config.dim, config.dim)
        self.dropout = nn.Dropout(config.attention_dropout)

    def call(self, x, bias=None):
        query, key, value = (nn.split_heads(lin(x), self.heads) for lin in (self.q_lin, self.k_lin, self.v_lin))
        return self.out_lin(nn.merge_heads(nn.attend(query, key, value, bias, dropout=self.dropout)))


class DistilBertFFN(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.lin1 = nn.Dense(config.dim, config.hidden_dim, activation=config.activation)
        self.lin2 = nn.Dense(config.hidden_dim, config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def call(self, x):
        return self.dropout(self.lin2(self.lin1(x)))


class DistilBertBlock(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.attention = DistilBertAttention(config)
        self.sa_layer_norm = nn.LayerNormalization(config.dim, EPSILON)
        self.ffn = DistilBertFFN(config)
        self.output_layer_norm = nn.LayerNormalization(config.dim, EPSILON)

    def call(self, x, bias=None):
        x = self.sa_layer_norm(self.attention(x, bias) + x)
        return self.output_layer_norm(self.ffn(x) + x)


class DistilBertTransformer(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.layer = [DistilBertBlock(config) for _ in range(config.n_layers)]

    def call(self, x, bias=None):
        return nn.chain(self.layer, x, bias)


class DistilBertPreTrainedModel(PreTrainedModel):
    config_class = DistilBertConfig
    base_model_prefix = "distilbert"


class DistilBertModel(DistilBertPreTrainedModel):
    """The bare model: `last_hidden_state` (batch, length, dim)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.embeddings = DistilBertEmbeddings(config)
        self.transformer = DistilBertTransformer(config)

    def call(self, input_ids=None, attention_mask=None, inputs_embeds=None):
        x = self.embeddings(input_ids, inputs_embeds)
        return ModelOutput(last_hidden_state=self.transformer(x, nn.attention_bias(x, attention_mask)))


class DistilBertForMaskedLM(DistilBertPreTrainedModel):
    """Masked words: `logits` (batch, length, vocab_size)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.distilbert = DistilBertModel(config)
        self.vocab_transform = nn.Dense(config.dim, config.dim, activation=config.activation)
        self.vocab_layer_norm = nn.LayerNormalization(config.dim, EPSILON)
        self.vocab_projector = nn.output_projection(self.distilbert.embeddings.word_embeddings, config)

    def call(self, **inputs):
        x = self.vocab_transform(self.distilbert(**inputs).last_hidden_state)
        return ModelOutput(logits=self.vocab_projector(self.vocab_layer_norm(x)))

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)


class DistilBertForSequenceClassification(DistilBertPreTrainedModel):
    """A class, or numbers, per text: `logits` (batch, num_labels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.distilbert = DistilBertModel(config)
        self.pre_classifier = nn.Dense(config.dim, config.dim, activation="relu")
        self.dropout = nn.Dropout(config.seq_classif_dropout)
        self.classifier = nn.Dense(config.dim, config.num_labels)

    def call(self, **inputs):
        x = self.pre_classifier(self.distilbert(**inputs).last_hidden_state[:, 0])
        return ModelOutput(logits=self.classifier(self.dropout(x)))

    def head_loss(self, outputs, labels):
        return losses.sequence_classification(outputs.logits, labels, self.config)


class DistilBertForTokenClassification(DistilBertPreTrainedModel):
    """A class per token: `logits` (batch, length, num_labels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.distilbert = DistilBertModel(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Dense(config.dim, config.num_labels)

    def call(self, **inputs):
        return ModelOutput(logits=self.classifier(self.dropout(self.distilbert(**inputs).last_hidden_state)))

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)


class DistilBertForQuestionAnswering(DistilBertPreTrainedModel):
    """Where the answer starts and ends: `start_logits` and `end_logits` (batch, length)."""

    label_names = ("start_positions", "end_positions")

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.distilbert = DistilBertModel(config)
        self.dropout = nn.Dropout(config.qa_dropout)
        self.qa_outputs = nn.Dense(config.dim, 2)

    def call(self, **inputs):
        logits = self.qa_outputs(self.dropout(self.distilbert(**inputs).last_hidden_state))
        return ModelOutput(start_logits=logits[..., 0], end_logits=logits[..., 1])

    def head_loss(self, outputs, start_positions, end_positions):
        return losses.question_answering(outputs.start_logits, outputs.end_logits, start_positions, end_positions)


class DistilBertForMultipleChoice(DistilBertPreTrainedModel):
    """Which of several texts is right: inputs (batch, choices, length) -> `logits` (batch, choices)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.distilbert = DistilBertModel(config)
        self.pre_classifier = nn.Dense(config.dim, config.dim, activation="relu")
        self.dropout = nn.Dropout(config.seq_classif_dropout)
        self.classifier = nn.Dense(config.dim, 1)

    def call(self, **inputs):
        flat, choices = nn.flatten_choices(inputs)
        x = self.pre_classifier(self.distilbert(**flat).last_hidden_state[:, 0])
        return ModelOutput(logits=ops.reshape(self.classifier(self.dropout(x)), (-1, choices)))

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)
