"""BART, an encoder-decoder trained to restore damaged text (https://arxiv.org/abs/1910.13461); its decoder also alone.

Hidden states are (batch, length, d_model).
"""

from dataclasses import dataclass, field

import numpy as np
from keras import ops

from keras_models import losses, nn
from keras_models.config import Config
from keras_models.model import ModelOutput, PreTrainedModel

EPSILON = 1e-5
OFFSET = 2  # the table of positions has two rows before that of position 0


@dataclass(kw_only=True)
class BartConfig(Config):
    model_type = "bart"
    attribute_map = {"num_attention_heads": "encoder_attention_heads", "hidden_size": "d_model"}

    vocab_size: int = 50265
    max_position_embeddings: int = 1024
    d_model: int = 1024
    encoder_layers: int = 12
    encoder_attention_heads: int = 16
    encoder_ffn_dim: int = 4096
    encoder_layerdrop: float = 0.0
    decoder_layers: int = 12
    decoder_attention_heads: int = 16
    decoder_ffn_dim: int = 4096
    decoder_layerdrop: float = 0.0
    activation_function: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    classifier_dropout: float = 0.0
    init_std: float = 0.02
    scale_embedding: bool = False
    id2label: dict[int, str] = field(default_factory=lambda: {index: f"LABEL_{index}" for index in range(3)})
    bos_token_id: int | None = 0
    pad_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = 2
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | None = 2
    is_encoder_decoder: bool = True

    def __post_init__(self):
        super().__post_init__()
        if self.forced_bos_token_id is None and self.extra.get("force_bos_token_to_be_generated"):
            self.forced_bos_token_id = self.bos_token_id

    @property
    def initializer_range(self) -> float:
        """What other configurations call `init_std`."""
        return self.init_std

    @property
    def num_hidden_layers(self) -> int:
        """The number of the encoder's layers."""
        return self.encoder_layers


def shift_right(ids, config):
    """What a decoder reads to predict `ids` (batch, length): they, less the last, behind the start token."""
    if config.pad_token_id is None or config.decoder_start_token_id is None:
        raise ValueError("Shifted tokens need config.pad_token_id and config.decoder_start_token_id: set them.")
    start = ops.full_like(ids[:, :1], config.decoder_start_token_id)
    shifted = ops.concatenate([start, ids[:, :-1]], axis=1)
    return ops.where(shifted == losses.IGNORE, config.pad_token_id, shifted)


class BartAttention(nn.Layer):
    def __init__(self, config, heads, index, record_as):
        super().__init__()
        size = config.d_model
        if size % heads:
            raise ValueError(f"d_model {size} is not a multiple of {heads}, the number of attention heads.")
        self.heads, self.index, self.record_as = heads, index, record_as
        self.k_proj = nn.Dense(size, size)
        self.v_proj = nn.Dense(size, size)
        self.q_proj = nn.Dense(size, size)
        self.out_proj = nn.Dense(size, size)
        self.dropout = nn.Dropout(config.attention_dropout)

    def call(self, x, bias=None, source=None, cache=None):
        query = nn.split_heads(self.q_proj(x), self.heads)
        if source is None:
            key, value = self.keys_and_values(x)
            if cache is not None:
                key, value = cache.extend(self.index, key, value)
        elif cache is None:
            key, value = self.keys_and_values(source)
        else:
            key, value = cache.from_source(self.index, lambda: self.keys_and_values(source))
        x = nn.attend(query, key, value, bias, dropout=self.dropout, record_as=self.record_as)
        return self.out_proj(nn.merge_heads(x))

    def keys_and_values(self, x):
        return nn.split_heads(self.k_proj(x), self.heads), nn.split_heads(self.v_proj(x), self.heads)


class BartLayer(nn.Layer):
    """Attention to the sequence itself, in a decoder also to a source, and two dense layers, each with a norm behind.

    In training it leaves itself out with probability `layerdrop` (https://arxiv.org/abs/1909.11556).
    """

    def __init__(self, config, side, index, record_as, cross_record_as=None):
        super().__init__()
        size = config.d_model
        heads, inner, rate = (getattr(config, f"{side}_{name}") for name in ("attention_heads", "ffn_dim", "layerdrop"))
        self.self_attn = BartAttention(config, heads, index, record_as)
        self.self_attn_layer_norm = nn.LayerNormalization(size, EPSILON)
        if cross_record_as is not None:
            self.encoder_attn = BartAttention(config, heads, index, cross_record_as)
            self.encoder_attn_layer_norm = nn.LayerNormalization(size, EPSILON)
        self.fc1 = nn.Dense(size, inner, activation=config.activation_function)
        self.fc2 = nn.Dense(inner, size)
        self.final_layer_norm = nn.LayerNormalization(size, EPSILON)
        self.dropout = nn.Dropout(config.dropout)
        self.activation_dropout = nn.Dropout(config.activation_dropout)
        self.layerdrop = nn.Dropout(rate)

    def call(self, x, bias=None, source=None, source_bias=None, cache=None):
        before = x
        x = self.self_attn_layer_norm(x + self.dropout(self.self_attn(x, bias, cache=cache)))
        if source is not None:
            x = x + self.dropout(self.encoder_attn(x, source_bias, source, cache=cache))
            x = self.encoder_attn_layer_norm(x)
        x = x + self.dropout(self.fc2(self.activation_dropout(self.fc1(x))))
        x = self.final_layer_norm(x)
        if self.layerdrop.rate:
            x = ops.where(self.layerdrop(ops.ones((1, 1, 1))) > 0, x, before)
        return x


class BartStack(nn.Layer):
    """What encoder and decoder begin with: tokens, or embeddings in their place, and positions."""

    def __init__(self, config, embed_tokens):
        super().__init__()
        self.embed_tokens = embed_tokens
        self.scale = config.d_model**0.5 if config.scale_embedding else 1.0
        self.embed_positions = nn.Embedding(config.max_position_embeddings + OFFSET, config.d_model)
        self.layernorm_embedding = nn.LayerNormalization(config.d_model, EPSILON)
        self.dropout = nn.Dropout(config.dropout)

    def embed(self, input_ids, inputs_embeds, cache=None):
        if input_ids is None and inputs_embeds is None:
            raise ValueError(f"{type(self).__name__} got neither tokens nor embeddings: give one of the two.")
        x = self.embed_tokens(input_ids) * self.scale if inputs_embeds is None else inputs_embeds
        x = x + self.embed_positions(nn.positions(x, cache) + OFFSET)
        return self.dropout(self.layernorm_embedding(x))


class BartEncoder(BartStack):
    """Tokens, or embeddings, to hidden states; attention_mask is ones and zeros, (batch, length)."""

    def __init__(self, config, embed_tokens):
        super().__init__(config, embed_tokens)
        layers = range(config.encoder_layers)
        self.layers = [BartLayer(config, "encoder", index, "encoder_attentions") for index in layers]

    def call(self, input_ids=None, attention_mask=None, inputs_embeds=None):
        x = self.embed(input_ids, inputs_embeds)
        bias = nn.attention_bias(x, attention_mask)
        return nn.chain(self.layers, x, bias, record_as="encoder_hidden_states")


class BartDecoder(BartStack):
    """Tokens, or embeddings, to hidden states, no position of which sees what comes after it.

    Args of a call:
        attention_mask: ones and zeros, (batch, past and new length).
        source: (batch, source length, d_model), an encoder's hidden states.
        source_attention_mask: ones and zeros, (batch, source length).
    """

    def __init__(self, config, embed_tokens, prefix=""):
        super().__init__(config, embed_tokens)
        self.record_as = f"{prefix}hidden_states"
        self.layers = [
            BartLayer(config, "decoder", index, f"{prefix}attentions", "cross_attentions")
            for index in range(config.decoder_layers)
        ]

    def call(
        self,
        input_ids=None,
        attention_mask=None,
        source=None,
        source_attention_mask=None,  # not source_mask, which Keras would fill
        inputs_embeds=None,
        cache=None,
    ):
        x = self.embed(input_ids, inputs_embeds, cache)
        bias = nn.attention_bias(x, attention_mask, causal=True, cache=cache)
        source_bias = None if source is None else nn.attention_bias(source, source_attention_mask)
        return nn.chain(self.layers, x, bias, source, source_bias, cache=cache, record_as=self.record_as)


class BartPreTrainedModel(PreTrainedModel):
    config_class = BartConfig
    base_model_prefix = "model"


class BartModel(BartPreTrainedModel):
    """The bare model: `last_hidden_state` (batch, decoder length, d_model), `encoder_last_hidden_state`.

    Without tokens or embeddings for the decoder, it reads `input_ids` behind the start token. `encoder_outputs`, a
    tuple whose first item is the encoder's last hidden state, stand in for a run of the encoder.
    """

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.shared = nn.Embedding(config.vocab_size, config.d_model, config.pad_token_id)
        self.encoder = BartEncoder(config, self.shared)
        self.decoder = BartDecoder(config, self.shared, "decoder_")

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
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            if input_ids is None:
                raise ValueError("The decoder has nothing to read: give decoder_input_ids or decoder_inputs_embeds.")
            decoder_input_ids = shift_right(input_ids, self.config)
        given = encoder_outputs is not None
        source = encoder_outputs[0] if given else self.encoder(input_ids, attention_mask, inputs_embeds)
        inputs = (decoder_input_ids, decoder_attention_mask, source, attention_mask, decoder_inputs_embeds)
        x = self.decoder(*inputs, cache=past_key_values)
        return ModelOutput(last_hidden_state=x, encoder_last_hidden_state=source)


class BartForConditionalGeneration(BartPreTrainedModel):
    """Next words of a text that follows from another: `logits` (batch, decoder length, vocab_size).

    With labels and nothing for the decoder to read, it reads the labels behind the start token.
    """

    optional = (r"^final_logits_bias$",)

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.model = BartModel(config)
        self.lm_head = nn.output_projection(self.model.shared, config, use_bias=False)
        self.final_logits_bias = self.add_weight(
            shape=(1, config.vocab_size), initializer="zeros", trainable=False, name="final_logits_bias"
        )

    def call(self, logits_to_keep=None, **inputs):
        outputs = self.model(**inputs)
        logits = self.lm_head(nn.kept(outputs.pop("last_hidden_state"), logits_to_keep))
        return ModelOutput(logits=logits + ops.cast(self.final_logits_bias, logits.dtype), **outputs)

    def inputs_from_labels(self, inputs, labels):
        if "decoder_input_ids" in inputs or "decoder_inputs_embeds" in inputs:
            return {}
        return {"decoder_input_ids": shift_right(ops.convert_to_tensor(labels["labels"]), self.config)}

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)


class BartClassificationHead(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.dense = nn.Dense(config.d_model, config.d_model, activation="tanh")
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.out_proj = nn.Dense(config.d_model, config.num_labels)

    def call(self, x):
        return self.out_proj(self.dropout(self.dense(self.dropout(x))))


def last_state(x, input_ids, token):
    """The state of the last `token` of each text: (batch, length, size) -> (batch, size)."""
    places = ops.arange(ops.shape(input_ids)[1]) * ops.cast(input_ids == token, "int32")
    return ops.squeeze(ops.take_along_axis(x, ops.argmax(places, axis=1)[:, None, None], axis=1), 1)


class BartForSequenceClassification(BartPreTrainedModel):
    """A class, or numbers, per text, from its last `config.eos_token_id`: `logits` (batch, num_labels).

    As in the reference, all texts of a batch need the same number of these tokens, at least one.
    """

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.model = BartModel(config)
        self.classification_head = BartClassificationHead(config)

    @property
    def ignores_padding(self) -> bool:
        """Padding must not look like the end of a text."""
        return self.config.pad_token_id not in (None, self.config.eos_token_id)

    def _prepare(self, name, value):
        prepared = super()._prepare(name, value)
        if name == "input_ids" and prepared is not value:  # numbers that are at hand, no tensor
            ends = set((np.asarray(value) == self.config.eos_token_id).sum(axis=-1, keepdims=True).flat)
            if ends == {0} or len(ends) > 1:
                raise ValueError(
                    f"Texts of one batch hold token {self.config.eos_token_id}, config.eos_token_id, "
                    f"{' and '.join(map(str, sorted(ends)))} times: give all the same number of it, at least one."
                )
        return prepared

    def call(self, **inputs):
        if "input_ids" not in inputs:
            raise ValueError(f"{type(self).__name__} finds the end of a text in its tokens: give input_ids.")
        outputs = self.model(**inputs)
        x = last_state(outputs.pop("last_hidden_state"), inputs["input_ids"], self.config.eos_token_id)
        return ModelOutput(logits=self.classification_head(x), **outputs)

    def head_loss(self, outputs, labels):
        return losses.sequence_classification(outputs.logits, labels, self.config)


class BartForQuestionAnswering(BartPreTrainedModel):
    """Where the answer starts and ends: `start_logits` and `end_logits` (batch, decoder length)."""

    label_names = ("start_positions", "end_positions")

    def __init__(self, config, **kwargs):
        config.num_labels = 2
        super().__init__(config, **kwargs)
        self.model = BartModel(config)
        self.qa_outputs = nn.Dense(config.d_model, 2)

    def call(self, **inputs):
        outputs = self.model(**inputs)
        logits = self.qa_outputs(outputs.pop("last_hidden_state"))
        return ModelOutput(start_logits=logits[..., 0], end_logits=logits[..., 1], **outputs)

    def head_loss(self, outputs, start_positions, end_positions):
        return losses.question_answering(outputs.start_logits, outputs.end_logits, start_positions, end_positions)


class BartDecoderWrapper(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.decoder = BartDecoder(config, nn.Embedding(config.vocab_size, config.d_model, config.pad_token_id))


class BartForCausalLM(BartPreTrainedModel):
    """The decoder alone, or behind another encoder: `logits` (batch, length, vocab_size).

    As in the reference, its loss compares the logits at a token with the label at the same place.
    """

    renames = ((r"^(model\.|)shared\.", r"\1decoder.embed_tokens."),)
    optional = (r"^model\.encoder\.",)

    def __init__(self, config, **kwargs):
        config.is_decoder, config.is_encoder_decoder = True, False
        super().__init__(config, **kwargs)
        self.model = BartDecoderWrapper(config)
        self.lm_head = nn.output_projection(self.model.decoder.embed_tokens, config, use_bias=False)

    def call(
        self,
        input_ids=None,
        attention_mask=None,
        encoder_hidden_states=None,
        encoder_attention_mask=None,
        inputs_embeds=None,
        past_key_values=None,
        logits_to_keep=None,
    ):
        source = (encoder_hidden_states, encoder_attention_mask)
        x = self.model.decoder(input_ids, attention_mask, *source, inputs_embeds, cache=past_key_values)
        return ModelOutput(logits=self.lm_head(nn.kept(x, logits_to_keep)))

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)
