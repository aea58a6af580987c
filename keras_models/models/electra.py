"""ELECTRA, trained to tell words from a generator's replacements of them (https://arxiv.org/abs/2003.10555).

Embeddings may be smaller than hidden states, which are (batch, length, hidden_size). Also a decoder.
"""

from dataclasses import dataclass

from keras import ops

from keras_models import losses, nn
from keras_models.config import Config
from keras_models.model import ModelOutput, PreTrainedModel
from keras_models.models.bert_layers import ClassificationHead, Embeddings, Encoder, classifier_dropout


@dataclass(kw_only=True)
class ElectraConfig(Config):
    model_type = "electra"

    vocab_size: int = 30522
    embedding_size: int = 128
    hidden_size: int = 256
    num_hidden_layers: int = 12
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    summary_type: str = "first"  # which state stands for a text in multiple choice: see SUMMARIES
    summary_use_proj: bool = True
    summary_activation: str | None = "gelu"
    summary_last_dropout: float = 0.1
    pad_token_id: int | None = 0
    position_embedding_type: str = "absolute"  # or relative_key, relative_key_query
    classifier_dropout: float | None = None


class ElectraPreTrainedModel(PreTrainedModel):
    config_class = ElectraConfig
    base_model_prefix = "electra"


class ElectraModel(ElectraPreTrainedModel):
    """The bare model: `last_hidden_state` (batch, length, hidden_size)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.embeddings = Embeddings(config, config.embedding_size)
        projects = config.embedding_size != config.hidden_size
        self.embeddings_project = nn.Dense(config.embedding_size, config.hidden_size) if projects else None
        self.encoder = Encoder(config)

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
        if self.embeddings_project is not None:
            x = self.embeddings_project(x)
        source = (encoder_hidden_states, encoder_attention_mask)
        x = self.encoder(x, attention_mask, *source, cache=past_key_values)
        return ModelOutput(last_hidden_state=x)


class ElectraDiscriminatorPredictions(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.dense = nn.Dense(config.hidden_size, config.hidden_size, activation=config.hidden_act)
        self.dense_prediction = nn.Dense(config.hidden_size, 1)

    def call(self, x):
        return self.dense_prediction(self.dense(x))[..., 0]


class ElectraForPreTraining(ElectraPreTrainedModel):
    """Which tokens were replaced, above 0: `logits` (batch, length). Labels are 1 there, 0 elsewhere."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.electra = ElectraModel(config)
        self.discriminator_predictions = ElectraDiscriminatorPredictions(config)

    def call(self, **inputs):
        return ModelOutput(logits=self.discriminator_predictions(self.electra(**inputs).last_hidden_state))

    def head_loss(self, outputs, labels, attention_mask=None):
        return losses.binary_cross_entropy(outputs.logits, labels, attention_mask)


class ElectraGeneratorPredictions(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.dense = nn.Dense(config.hidden_size, config.embedding_size, activation="gelu")
        self.LayerNorm = nn.LayerNormalization(config.embedding_size, config.layer_norm_eps)

    def call(self, x):
        return self.LayerNorm(self.dense(x))


class ElectraForMaskedLM(ElectraPreTrainedModel):
    """Masked words, by a generator: `logits` (batch, length, vocab_size)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.electra = ElectraModel(config)
        self.generator_predictions = ElectraGeneratorPredictions(config)
        self.generator_lm_head = nn.output_projection(self.electra.embeddings.word_embeddings, config)

    def call(self, **inputs):
        x = self.generator_predictions(self.electra(**inputs).last_hidden_state)
        return ModelOutput(logits=self.generator_lm_head(x))

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)


class ElectraForCausalLM(ElectraForMaskedLM):
    """Next words, with `is_decoder`: `logits` (batch, length, vocab_size)."""

    def head_loss(self, outputs, labels):
        return losses.causal_lm(outputs.logits, labels)


class ElectraForSequenceClassification(ElectraPreTrainedModel):
    """A class, or numbers, per text: `logits` (batch, num_labels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.electra = ElectraModel(config)
        self.classifier = ClassificationHead(config, "gelu")

    def call(self, **inputs):
        return ModelOutput(logits=self.classifier(self.electra(**inputs).last_hidden_state))

    def head_loss(self, outputs, labels):
        return losses.sequence_classification(outputs.logits, labels, self.config)


class ElectraForTokenClassification(ElectraPreTrainedModel):
    """A class per token: `logits` (batch, length, num_labels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.electra = ElectraModel(config)
        self.dropout = classifier_dropout(config)
        self.classifier = nn.Dense(config.hidden_size, config.num_labels)

    def call(self, **inputs):
        return ModelOutput(logits=self.classifier(self.dropout(self.electra(**inputs).last_hidden_state)))

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)


class ElectraForQuestionAnswering(ElectraPreTrainedModel):
    """Where the answer starts and ends: `start_logits` and `end_logits` (batch, length)."""

    label_names = ("start_positions", "end_positions")

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.electra = ElectraModel(config)
        self.qa_outputs = nn.Dense(config.hidden_size, 2)

    def call(self, **inputs):
        logits = self.qa_outputs(self.electra(**inputs).last_hidden_state)
        return ModelOutput(start_logits=logits[..., 0], end_logits=logits[..., 1])

    def head_loss(self, outputs, start_positions, end_positions):
        return losses.question_answering(outputs.start_logits, outputs.end_logits, start_positions, end_positions)


SUMMARIES = {
    "first": lambda x: x[:, 0],
    "last": lambda x: x[:, -1],
    "mean": lambda x: ops.mean(x, axis=1),
    "cls_index": lambda x: x[:, -1],  # without the index, which no head passes
}


class ElectraSequenceSummary(nn.Layer):
    """One state for a text: (batch, length, hidden_size) -> (batch, hidden_size)."""

    def __init__(self, config):
        super().__init__()
        kind = config.summary_type
        if kind not in SUMMARIES:
            raise ValueError(f"Unknown summary_type {kind!r} in the configuration: use {', '.join(SUMMARIES)}.")
        self.pick = SUMMARIES[kind]
        self.summary = nn.Dense(config.hidden_size, config.hidden_size) if config.summary_use_proj else None
        self.activation = nn.get_activation(config.summary_activation or "linear")
        self.last_dropout = nn.Dropout(config.summary_last_dropout)

    def call(self, x):
        x = self.pick(x)
        x = x if self.summary is None else self.summary(x)
        return self.last_dropout(self.activation(x))


class ElectraForMultipleChoice(ElectraPreTrainedModel):
    """Which of several texts is right: inputs (batch, choices, length) -> `logits` (batch, choices)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.electra = ElectraModel(config)
        self.sequence_summary = ElectraSequenceSummary(config)
        self.classifier = nn.Dense(config.hidden_size, 1)

    @property
    def ignores_padding(self) -> bool:
        """All kinds of summaries but the first look at padding too."""
        return self.config.summary_type == "first"

    def call(self, **inputs):
        flat, choices = nn.flatten_choices(inputs)
        logits = self.classifier(self.sequence_summary(self.electra(**flat).last_hidden_state))
        return ModelOutput(logits=ops.reshape(logits, (-1, choices)))

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)
