"""RoBERTa, BERT trained longer and without pairs (https://arxiv.org/abs/1907.11692); also a decoder.

Positions count from the padding token's number on, over tokens that are no padding. Hidden states are
(batch, length, hidden_size).
"""

from dataclasses import dataclass

from keras import ops

from keras_models import losses, nn
from keras_models.config import Config
from keras_models.model import ModelOutput, PreTrainedModel
from keras_models.models.bert_layers import ClassificationHead, Embeddings, Encoder, Pooler, classifier_dropout


@dataclass(kw_only=True)
class RobertaConfig(Config):
    model_type = "roberta"

    vocab_size: int = 50265
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
    pad_token_id: int = 1
    bos_token_id: int | None = 0
    eos_token_id: int | None = 2
    position_embedding_type: str = "absolute"  # or relative_key, relative_key_query
    classifier_dropout: float | None = None


def count_positions(input_ids, pad, past=0):
    """Positions (batch, length): `pad` for padding, for others `pad` plus their number among the others, from 1 on.

    With a cache they count on from the `past` positions in it, all of which are taken for tokens.
    """
    real = ops.cast(ops.not_equal(input_ids, pad), "int32")
    return (ops.cumsum(real, axis=1) + past) * real + pad


class RobertaPreTrainedModel(PreTrainedModel):
    config_class = RobertaConfig
    base_model_prefix = "roberta"
    optional = (r"^(roberta\.)?pooler\.",)

    @property
    def max_length(self) -> int:
        """The longest text that the model has positions for."""
        return self.config.max_position_embeddings - self.config.pad_token_id - 1


class RobertaModel(RobertaPreTrainedModel):
    """The bare model: `last_hidden_state` (batch, length, hidden_size), `pooler_output` (batch, hidden_size)."""

    def __init__(self, config, add_pooling_layer=True, **kwargs):
        super().__init__(config, **kwargs)
        self.embeddings = Embeddings(config, config.hidden_size, position_padding_idx=config.pad_token_id)
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
        pad = self.config.pad_token_id
        if position_ids is None and input_ids is not None:
            position_ids = count_positions(input_ids, pad, 0 if past_key_values is None else past_key_values.length)
        elif position_ids is None:
            position_ids = nn.positions(inputs_embeds, past_key_values) + pad + 1
        x = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds, cache=past_key_values)
        source = (encoder_hidden_states, encoder_attention_mask)
        x = self.encoder(x, attention_mask, *source, cache=past_key_values)
        outputs = ModelOutput(last_hidden_state=x)
        if self.pooler is not None:
            outputs["pooler_output"] = self.pooler(x)
        return outputs


class RobertaLMHead(nn.Layer):
    def __init__(self, config, embedding):
        super().__init__()
        self.dense = nn.Dense(config.hidden_size, config.hidden_size, activation="gelu")
        self.layer_norm = nn.LayerNormalization(config.hidden_size, config.layer_norm_eps)
        self.decoder = nn.output_projection(embedding, config)
        self.bias = self.decoder.bias

    def call(self, x):
        return self.decoder(self.layer_norm(self.dense(x)))


class RobertaForMaskedLM(RobertaPreTrainedModel):
    """Masked words: `logits` (batch, length, vocab_size)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.roberta = RobertaModel(config, add_pooling_layer=False)
        self.lm_head = RobertaLMHead(config, self.roberta.embeddings.word_embeddings)

    def call(self, **inputs):
        return ModelOutput(logits=self.lm_head(self.roberta(**inputs).last_hidden_state))

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)


class RobertaForCausalLM(RobertaForMaskedLM):
    """Next words, with `is_decoder`: `logits` (batch, length, vocab_size)."""

    def head_loss(self, outputs, labels):
        return losses.causal_lm(outputs.logits, labels)


class RobertaForSequenceClassification(RobertaPreTrainedModel):
    """A class, or numbers, per text: `logits` (batch, num_labels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.roberta = RobertaModel(config, add_pooling_layer=False)
        self.classifier = ClassificationHead(config, "tanh")

    def call(self, **inputs):
        return ModelOutput(logits=self.classifier(self.roberta(**inputs).last_hidden_state))

    def head_loss(self, outputs, labels):
        return losses.sequence_classification(outputs.logits, labels, self.config)


class RobertaForTokenClassification(RobertaPreTrainedModel):
    """A class per token: `logits` (batch, length, num_labels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.roberta = RobertaModel(config, add_pooling_layer=False)
        self.dropout = classifier_dropout(config)
        self.classifier = nn.Dense(config.hidden_size, config.num_labels)

    def call(self, **inputs):
        return ModelOutput(logits=self.classifier(self.dropout(self.roberta(**inputs).last_hidden_state)))

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)


class RobertaForQuestionAnswering(RobertaPreTrainedModel):
    """Where the answer starts and ends: `start_logits` and `end_logits` (batch, length)."""

    label_names = ("start_positions", "end_positions")

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.roberta = RobertaModel(config, add_pooling_layer=False)
        self.qa_outputs = nn.Dense(config.hidden_size, 2)

    def call(self, **inputs):
        logits = self.qa_outputs(self.roberta(**inputs).last_hidden_state)
        return ModelOutput(start_logits=logits[..., 0], end_logits=logits[..., 1])

    def head_loss(self, outputs, start_positions, end_positions):
        return losses.question_answering(outputs.start_logits, outputs.end_logits, start_positions, end_positions)


class RobertaForMultipleChoice(RobertaPreTrainedModel):
    """Which of several texts is right: inputs (batch, choices, length) -> `logits` (batch, choices)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.roberta = RobertaModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Dense(config.hidden_size, 1)

    def call(self, **inputs):
        flat, choices = nn.flatten_choices(inputs)
        logits = self.classifier(self.dropout(self.roberta(**flat).pooler_output))
        return ModelOutput(logits=ops.reshape(logits, (-1, choices)))

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)
