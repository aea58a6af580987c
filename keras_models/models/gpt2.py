"""GPT-2, a causal language model (https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf).

Hidden states are (batch, length, n_embd).
"""

from dataclasses import dataclass

from keras import ops

from keras_models import losses, nn
from keras_models.config import Config
from keras_models.model import ModelOutput, PreTrainedModel


@dataclass(kw_only=True)
class GPT2Config(Config):
    model_type = "gpt2"
    attribute_map = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    summary_type: str = "cls_index"
    summary_use_proj: bool = True
    summary_activation: str | None = None
    summary_proj_to_labels: bool = True
    summary_first_dropout: float = 0.1
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256


class GPT2Attention(nn.Layer):
    def __init__(self, config, index, cross=False):
        super().__init__()
        size = config.n_embd
        if size % config.n_head:
            raise ValueError(f"n_embd {size} is not a multiple of n_head {config.n_head}.")
        self.heads, self.index, self.upcast = config.n_head, index, config.reorder_and_upcast_attn
        self.scale = (size // self.heads) ** -0.5 if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            self.scale /= index + 1
        self.c_attn = nn.InOutDense(size, 2 * size if cross else 3 * size)
        if cross:
            self.q_attn = nn.InOutDense(size, size)
        self.c_proj = nn.InOutDense(size, size)
        self.attn_dropout = nn.Dropout(config.attn_pdrop)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def call(self, x, bias=None, cache=None):
        query, key, value = self.split(self.c_attn(x), 3)
        if cache is not None:
            key, value = cache.extend(self.index, key, value)
        return self.attend(query, key, value, bias, "attentions")

    def attend_to(self, x, source, bias=None, cache=None):
        """Attention of x to an encoder's states."""
        (query,) = self.split(self.q_attn(x), 1)
        if cache is None:
            key, value = self.split(self.c_attn(source), 2)
        else:
            key, value = cache.from_source(self.index, lambda: self.split(self.c_attn(source), 2))
        return self.attend(query, key, value, bias, "cross_attentions")

    def split(self, x, parts):
        return [nn.split_heads(part, self.heads) for part in ops.split(x, parts, axis=-1)]

    def attend(self, query, key, value, bias, record_as):
        dtype = query.dtype
        if self.upcast:
            query, key, value = (ops.cast(each, "float32") for each in (query, key, value))
        x = nn.attend(query, key, value, bias, self.scale, self.attn_dropout, record_as)
        return self.resid_dropout(self.c_proj(nn.merge_heads(ops.cast(x, dtype))))


class GPT2MLP(nn.Layer):
    def __init__(self, config):
        super().__init__()
        inner = config.n_inner or 4 * config.n_embd
        self.c_fc = nn.InOutDense(config.n_embd, inner, activation=config.activation_function)
        self.c_proj = nn.InOutDense(inner, config.n_embd)
        self.dropout = nn.Dropout(config.resid_pdrop)

    def call(self, x):
        return self.dropout(self.c_proj(self.c_fc(x)))


class GPT2Block(nn.Layer):
    def __init__(self, config, index):
        super().__init__()
        self.ln_1 = nn.LayerNormalization(config.n_embd, config.layer_norm_epsilon)
        self.attn = GPT2Attention(config, index)
        self.ln_2 = nn.LayerNormalization(config.n_embd, config.layer_norm_epsilon)
        if config.add_cross_attention:
            self.crossattention = GPT2Attention(config, index, cross=True)
            self.ln_cross_attn = nn.LayerNormalization(config.n_embd, config.layer_norm_epsilon)
        self.mlp = GPT2MLP(config)

    def call(self, x, bias=None, cache=None, source=None, source_bias=None):
        x = x + self.attn(self.ln_1(x), bias, cache)
        if source is not None:
            x = x + self.crossattention.attend_to(self.ln_cross_attn(x), source, source_bias, cache)
        return x + self.mlp(self.ln_2(x))


class GPT2PreTrainedModel(PreTrainedModel):
    config_class = GPT2Config
    base_model_prefix = "transformer"


class GPT2Model(GPT2PreTrainedModel):
    """The bare model: `last_hidden_state` (batch, length, n_embd)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = [GPT2Block(config, index) for index in range(config.n_layer)]
        self.ln_f = nn.LayerNormalization(config.n_embd, config.layer_norm_epsilon)

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
        x = self.wte(input_ids) if inputs_embeds is None else inputs_embeds
        shape = ops.shape(x)
        x = ops.reshape(x, (-1, *shape[-2:]))  # several choices of one text may come as (batch, choices, length)
        x = x + self.wpe(nn.positions(x, past_key_values) if position_ids is None else position_ids)
        if token_type_ids is not None:
            x = x + ops.reshape(self.wte(token_type_ids), ops.shape(x))
        source, source_bias = encoder_hidden_states, None
        if source is not None:
            if not self.config.add_cross_attention:
                raise ValueError(
                    "encoder_hidden_states was given to a model without cross-attention: "
                    "set add_cross_attention=True in its configuration."
                )
            source_bias = nn.attention_bias(source, encoder_attention_mask)
        if attention_mask is not None and len(attention_mask.shape) == 3:
            attention_mask = ops.reshape(attention_mask, (-1, attention_mask.shape[-1]))
        bias = nn.attention_bias(x, attention_mask, causal=True, cache=past_key_values)
        rest = (bias, past_key_values, source, source_bias)
        x = nn.chain(self.h, self.drop(x), *rest, final=lambda x: ops.reshape(self.ln_f(x), shape))
        return ModelOutput(last_hidden_state=x)


class GPT2LMHeadModel(GPT2PreTrainedModel):
    """Next words: `logits` (batch, length, vocab_size)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.transformer = GPT2Model(config)
        self.lm_head = nn.output_projection(self.transformer.wte, config, use_bias=False)

    def call(self, logits_to_keep=None, **inputs):
        x = self.transformer(**inputs).last_hidden_state
        return ModelOutput(logits=self.lm_head(nn.kept(x, logits_to_keep)))

    def head_loss(self, outputs, labels):
        return losses.causal_lm(outputs.logits, labels)


class GPT2SequenceSummary(nn.Layer):
    """A vector, or a score, of a sequence's states: (..., length, n_embd) -> (..., size).

    As in the reference, all kinds but cls_index reduce the first axis after the batch, choices if there are any.
    """

    def __init__(self, config):
        super().__init__()
        if config.summary_type not in ("last", "first", "mean", "cls_index"):
            raise ValueError(
                f"Unknown summary_type {config.summary_type!r}: use 'last', 'first', 'mean' or 'cls_index'."
            )
        self.kind = config.summary_type
        size = config.num_labels if config.summary_proj_to_labels and config.num_labels > 0 else config.n_embd
        if config.summary_use_proj:
            self.summary = nn.Dense(config.n_embd, size)
        self.activation = nn.get_activation(config.summary_activation or "linear")
        self.first_dropout = nn.Dropout(config.summary_first_dropout)

    def call(self, x, index=None):
        if self.kind == "mean":
            x = ops.mean(x, axis=1)
        elif self.kind != "cls_index":
            x = x[:, 0] if self.kind == "first" else x[:, -1]
        elif index is None:
            x = x[..., -1, :]
        else:
            x = ops.squeeze(ops.take_along_axis(x, index[..., None, None], axis=-2), -2)
        x = self.first_dropout(x)
        return self.activation(self.summary(x) if hasattr(self, "summary") else x)


class GPT2DoubleHeadsModel(GPT2PreTrainedModel):
    """Next words and the best of several choices.

    `logits` (batch, choices, length, vocab_size), `mc_logits` (batch, choices): what the states at `mc_token_ids`
    (batch, choices), by default the last ones, score.
    """

    label_names = ("labels", "mc_labels")
    ignores_padding = False

    def __init__(self, config, **kwargs):
        config.num_labels = 1
        super().__init__(config, **kwargs)
        self.transformer = GPT2Model(config)
        self.lm_head = nn.output_projection(self.transformer.wte, config, use_bias=False)
        self.multiple_choice_head = GPT2SequenceSummary(config)

    def call(self, mc_token_ids=None, **inputs):
        x = self.transformer(**inputs).last_hidden_state
        mc_logits = ops.squeeze(self.multiple_choice_head(x, mc_token_ids), -1)
        return ModelOutput(logits=self.lm_head(x), mc_logits=mc_logits)

    def head_loss(self, outputs, labels=None, mc_labels=None):
        found = {}
        if labels is not None:
            found["loss"] = losses.causal_lm(outputs.logits, labels)
        if mc_labels is not None:
            found["mc_loss"] = losses.cross_entropy(outputs.mc_logits, mc_labels)
        return found


class GPT2ForSequenceClassification(GPT2PreTrainedModel):
    """A class, or numbers, per text, from its last token that is no padding: `logits` (batch, num_labels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.transformer = GPT2Model(config)
        self.score = nn.Dense(config.n_embd, config.num_labels, use_bias=False)

    def call(self, **inputs):
        x = self.transformer(**inputs).last_hidden_state
        return ModelOutput(logits=self.score(nn.last_token(x, inputs.get("input_ids"), self.config.pad_token_id)))

    @property
    def ignores_padding(self):
        return self.config.pad_token_id is not None

    def head_loss(self, outputs, labels):
        return losses.sequence_classification(outputs.logits, labels, self.config)


class GPT2ForTokenClassification(GPT2PreTrainedModel):
    """A class per token: `logits` (batch, length, num_labels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.transformer = GPT2Model(config)
        rates = (config.extra.get(name) for name in ("classifier_dropout", "hidden_dropout"))
        self.dropout = nn.Dropout(next((rate for rate in rates if rate is not None), 0.1))
        self.classifier = nn.Dense(config.n_embd, config.num_labels)

    def call(self, **inputs):
        return ModelOutput(logits=self.classifier(self.dropout(self.transformer(**inputs).last_hidden_state)))

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)


class GPT2ForQuestionAnswering(GPT2PreTrainedModel):
    """The ends of an answer: `start_logits` and `end_logits` (batch, length)."""

    label_names = ("start_positions", "end_positions")

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.transformer = GPT2Model(config)
        self.qa_outputs = nn.Dense(config.n_embd, 2)

    def call(self, **inputs):
        start, end = ops.unstack(self.qa_outputs(self.transformer(**inputs).last_hidden_state), 2, axis=-1)
        return ModelOutput(start_logits=start, end_logits=end)

    def head_loss(self, outputs, start_positions, end_positions):
        return losses.question_answering(outputs.start_logits, outputs.end_logits, start_positions, end_positions)
