"""Llama, a causal language model with rotary positions and gated layers (https://arxiv.org/abs/2302.13971).

Hidden states are (batch, length, hidden_size).
"""

from dataclasses import dataclass

from keras import ops

from keras_models import losses, nn
from keras_models.model import ModelOutput, PreTrainedModel
from keras_models.models.llama_layers import (
    DecoderLayer,
    Rotary,
    RotaryConfig,
    classifier_dropout,
    depends_on_length,
    head_size,
    token_embedding,
)


@dataclass(kw_only=True)
class LlamaConfig(RotaryConfig):
    model_type = "llama"

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None  # num_attention_heads
    head_dim: int | None = None  # hidden_size // num_attention_heads
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    attention_bias: bool = False
    attention_dropout: float = 0.0
    mlp_bias: bool = False
    pretraining_tp: int = 1  # of no effect: how the products were split in training
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = False

    def __post_init__(self):
        super().__post_init__()
        self.num_key_value_heads = self.num_key_value_heads or self.num_attention_heads
        self.head_dim = head_size(self)


class LlamaPreTrainedModel(PreTrainedModel):
    config_class = LlamaConfig
    base_model_prefix = "model"
    renames = ((r"^transformer\.", "model."),)  # what the reference calls it in LlamaForQuestionAnswering

    @property
    def max_length(self) -> None:
        """None: rotary positions have no end, though training ended at `max_position_embeddings`."""
        return None

    @property
    def ignores_padding(self) -> bool:
        """Whether tokens that `attention_mask` leaves out, added at the end, change no other output."""
        return not depends_on_length(self.config)


class LlamaModel(LlamaPreTrainedModel):
    """The bare model: `last_hidden_state` (batch, length, hidden_size)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.embed_tokens = token_embedding(config)
        self.rotary = Rotary(config)
        self.layers_ = [
            DecoderLayer(config, index, config.attention_bias, config.mlp_bias)
            for index in range(config.num_hidden_layers)
        ]
        self.norm = nn.RMSNormalization(config.hidden_size, config.rms_norm_eps)

    def call(self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, inputs_embeds=None):
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        positions = nn.positions(x, past_key_values) if position_ids is None else position_ids
        cos, sin = self.rotary(positions, x.dtype)
        bias = nn.attention_bias(x, attention_mask, causal=True, cache=past_key_values)
        x = nn.chain(self.layers_, x, cos, sin, bias, cache=past_key_values, final=self.norm)
        return ModelOutput(last_hidden_state=x)


class LlamaForCausalLM(LlamaPreTrainedModel):
    """Next words: `logits` (batch, length, vocab_size)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.model = LlamaModel(config)
        self.lm_head = nn.output_projection(self.model.embed_tokens, config, use_bias=False)

    def call(self, logits_to_keep=None, **inputs):
        x = self.model(**inputs).last_hidden_state
        return ModelOutput(logits=self.lm_head(nn.kept(x, logits_to_keep)))

    def head_loss(self, outputs, labels):
        return losses.causal_lm(outputs.logits, labels)


class LlamaForSequenceClassification(LlamaPreTrainedModel):
    """A class, or numbers, per text, from its last token that is no padding: `logits` (batch, num_labels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.model = LlamaModel(config)
        self.score = nn.Dense(config.hidden_size, config.num_labels, use_bias=False)

    def call(self, **inputs):
        x = self.model(**inputs).last_hidden_state
        return ModelOutput(logits=self.score(nn.last_token(x, inputs.get("input_ids"), self.config.pad_token_id)))

    @property
    def ignores_padding(self):
        return self.config.pad_token_id is not None and super().ignores_padding

    def head_loss(self, outputs, labels):
        return losses.sequence_classification(outputs.logits, labels, self.config)


class LlamaForTokenClassification(LlamaPreTrainedModel):
    """A class per token: `logits` (batch, length, num_labels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.model = LlamaModel(config)
        self.dropout = classifier_dropout(config)
        self.score = nn.Dense(config.hidden_size, config.num_labels)

    def call(self, **inputs):
        return ModelOutput(logits=self.score(self.dropout(self.model(**inputs).last_hidden_state)))

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)


class LlamaForQuestionAnswering(LlamaPreTrainedModel):
    """The ends of an answer: `start_logits` and `end_logits` (batch, length)."""

    base_model_prefix = "transformer"
    renames = ((r"^model\.", "transformer."),)
    label_names = ("start_positions", "end_positions")

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.transformer = LlamaModel(config)
        self.qa_outputs = nn.Dense(config.hidden_size, 2)

    def call(self, **inputs):
        start, end = ops.unstack(self.qa_outputs(self.transformer(**inputs).last_hidden_state), 2, axis=-1)
        return ModelOutput(start_logits=start, end_logits=end)

    def head_loss(self, outputs, start_positions, end_positions):
        return losses.question_answering(outputs.start_logits, outputs.end_logits, start_positions, end_positions)
