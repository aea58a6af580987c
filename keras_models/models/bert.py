"""BERT, a bidirectional text encoder (https://arxiv.org/abs/1810.04805); also a decoder, alone or behind an encoder.

Hidden states are (batch, length, hidden_size).
"""

from dataclasses import dataclass

from keras import ops

from keras_models import losses, nn
from keras_models.config import Config
from keras_models.model import ModelOutput, PreTrainedModel
from keras_models.models.bert_layers import Embeddings, Encoder, Pooler, classifier_dropout


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


class BertPreTrainedModel(PreTrainedModel):
    config_class = BertConfig
    base_model_prefix = "bert"
    optional = (r"^(bert\.)?pooler\.",)


class BertModel(BertPreTrainedModel):
    """The bare model: `last_hidden_state` (batch, length, hidden_size), `pooler_output` (batch, hidden_size)."""

    def __init__(self, config, add_pooling_layer=True, **kwargs):
        super().__init__(config, **kwargs)
        self.embeddings = Embeddings(config, config.hidden_size)
        self.encoder = Encoder(config)
        self.pooler = Pooler(config) if add_pooling_layer else None

    def call(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        inputs_embeds=None,
        encoder_hidden_states=None,
        encoder_attention_mask=None,
        past_key_values=None,
    ):
        x = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds, cache=past_key_values)
        source = (encoder_hidden_states, encoder_attention_mask)
        x = self.encoder(x, attention_mask, *source, cache=past_key_values)
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
    """Masked words and next sentence.

    `prediction_logits` (batch, length, vocab_size), `seq_relationship_logits` (batch, 2).
    """

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
