"""Whisper, which writes down and translates speech (https://arxiv.org/abs/2212.04356).

input_features are (batch, mels, frames), hidden states (batch, length, d_model). What `generate` does beyond that of
other models is in keras_models/generation/whisper.py.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import keras
import numpy as np
from keras import ops

from keras_models import losses, nn
from keras_models.config import Config
from keras_models.model import ModelOutput, PreTrainedModel
from keras_models.models.bart import shift_right

EPSILON = 1e-5
STRIDE = 2  # frames for each position of the encoder


@dataclass(kw_only=True)
class WhisperConfig(Config):
    model_type = "whisper"
    attribute_map = {
        "num_key_value_heads": "encoder_attention_heads",
        "num_attention_heads": "encoder_attention_heads",
        "hidden_size": "d_model",
    }

    vocab_size: int = 51865
    num_mel_bins: int = 80
    d_model: int = 384
    encoder_layers: int = 4
    encoder_attention_heads: int = 6
    encoder_ffn_dim: int = 1536
    encoder_layerdrop: float = 0.0
    decoder_layers: int = 4
    decoder_attention_heads: int = 6
    decoder_ffn_dim: int = 1536
    decoder_layerdrop: float = 0.0
    max_source_positions: int = 1500
    max_target_positions: int = 448
    activation_function: str = "gelu"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    init_std: float = 0.02
    scale_embedding: bool = False  # of no effect, as in the reference
    use_weighted_layer_sum: bool = False
    classifier_proj_size: int = 256
    apply_spec_augment: bool = False
    mask_time_prob: float = 0.05
    mask_time_length: int = 10
    mask_time_min_masks: int = 2
    mask_feature_prob: float = 0.0
    mask_feature_length: int = 10
    mask_feature_min_masks: int = 0
    median_filter_width: int = 7  # of token timestamps
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | None = field(default_factory=lambda: [220, 50256])
    bos_token_id: int | None = 50256
    pad_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
    decoder_start_token_id: int | None = 50257
    is_encoder_decoder: bool = True

    @property
    def initializer_range(self) -> float:
        """What other configurations call `init_std`."""
        return self.init_std

    @property
    def num_hidden_layers(self) -> int:
        """The number of the encoder's layers."""
        return self.encoder_layers


def sinusoids(shape, dtype=None):
    """A table (positions, size) of sines, and behind them cosines, of wavelengths from 2 pi to 20000 pi."""
    positions, size = shape
    if size % 2:
        raise ValueError(f"d_model is {size}, but positions are pairs of a sine and a cosine: make it even.")
    rates = np.exp(-np.log(10000.0) / max(size // 2 - 1, 1) * np.arange(size // 2))
    angles = np.arange(positions)[:, None] * rates
    return ops.convert_to_tensor(np.concatenate([np.sin(angles), np.cos(angles)], axis=1), dtype=dtype)


class WhisperSpecAugment(nn.Layer):
    """Hides spans of frames and of mels in training (https://arxiv.org/abs/1904.08779)."""

    def __init__(self, config):
        super().__init__()
        self.config, self.seed_generator = config, keras.random.SeedGenerator()

    def call(self, x, attention_mask=None, training=None):
        if not training or not self.config.apply_spec_augment:
            return x
        batch, mels, frames = ops.shape(x)
        for axis, size, name in ((1, frames, "time"), (2, mels, "feature")):
            settings = (getattr(self.config, f"mask_{name}_{each}") for each in ("prob", "length", "min_masks"))
            chance, span, least = settings
            if chance > 0:
                lengths = ops.full((batch,), size, "int32")
                if name == "time" and attention_mask is not None:
                    lengths = ops.sum(ops.cast(attention_mask, "int32"), axis=-1)
                hidden = nn.random_spans(lengths, size, chance, span, least, self.seed_generator)
                x = ops.where(ops.expand_dims(hidden, axis), ops.zeros_like(x), x)
        return x


class WhisperPositions(nn.Layer):
    """The encoder's table of positions, which is not trained."""

    def __init__(self, config):
        super().__init__()
        shape = (config.max_source_positions, config.d_model)
        self.weight = self.add_weight(shape=shape, initializer=sinusoids, trainable=False, name="weight")

    def call(self, x):
        return x + ops.cast(self.weight, x.dtype)


class WhisperAttention(nn.Layer):
    def __init__(self, config, heads, index, record_as):
        super().__init__()
        size = config.d_model
        if size % heads:
            raise ValueError(f"d_model {size} is not a multiple of {heads}, the number of attention heads.")
        self.heads, self.index, self.record_as = heads, index, record_as
        self.k_proj = nn.Dense(size, size, use_bias=False)
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


class WhisperLayer(nn.Layer):
    """Attention to the sequence itself, in a decoder also to a source, and two dense layers, a norm before each.

    In training it leaves itself out with probability `layerdrop` (https://arxiv.org/abs/1909.11556).
    """

    def __init__(self, config, side, index, record_as, cross_record_as=None):
        super().__init__()
        size = config.d_model
        heads, inner, rate = (getattr(config, f"{side}_{name}") for name in ("attention_heads", "ffn_dim", "layerdrop"))
        self.self_attn = WhisperAttention(config, heads, index, record_as)
        self.self_attn_layer_norm = nn.LayerNormalization(size, EPSILON)
        self.is_decoder = cross_record_as is not None
        if self.is_decoder:
            self.encoder_attn = WhisperAttention(config, heads, index, cross_record_as)
            self.encoder_attn_layer_norm = nn.LayerNormalization(size, EPSILON)
        self.fc1 = nn.Dense(size, inner, activation=config.activation_function)
        self.fc2 = nn.Dense(inner, size)
        self.final_layer_norm = nn.LayerNormalization(size, EPSILON)
        self.dropout = nn.Dropout(config.dropout)
        self.activation_dropout = nn.Dropout(config.activation_dropout)
        self.layerdrop = nn.Dropout(rate)

    def call(self, x, bias=None, source=None, cache=None):
        before = x
        x = x + self.dropout(self.self_attn(self.self_attn_layer_norm(x), bias, cache=cache))
        if source is not None:
            x = x + self.dropout(self.encoder_attn(self.encoder_attn_layer_norm(x), None, source, cache=cache))
        inner = self.activation_dropout(self.fc1(self.final_layer_norm(x)))
        x = x + self.dropout(self.fc2(inner))
        if not self.is_decoder and keras.backend.standardize_dtype(x.dtype) == "float16":
            most = -nn.lowest("float16") - 1000
            x = ops.clip(x, -most, most)
        if self.layerdrop.rate:
            x = ops.where(self.layerdrop(ops.ones((1, 1, 1))) > 0, x, before)
        return x


class WhisperEncoder(nn.Layer):
    """Features of STRIDE * max_source_positions frames to hidden states (batch, max_source_positions, d_model)."""

    def __init__(self, config, prefix=""):
        super().__init__()
        size = config.d_model
        self.record_as = f"{prefix}hidden_states"
        self.conv1 = nn.Conv1D(config.num_mel_bins, size, 3, padding=1, activation="gelu")
        self.conv2 = nn.Conv1D(size, size, 3, STRIDE, padding=1, activation="gelu")
        self.embed_positions = WhisperPositions(config)
        layers = range(config.encoder_layers)
        self.layers = [WhisperLayer(config, "encoder", index, f"{prefix}attentions") for index in layers]
        self.layer_norm = nn.LayerNormalization(size, EPSILON)
        self.dropout = nn.Dropout(config.dropout)

    def call(self, input_features):
        x = self.conv2(self.conv1(ops.transpose(input_features, (0, 2, 1))))
        x = self.dropout(self.embed_positions(x))
        return nn.chain(self.layers, x, record_as=self.record_as, final=self.layer_norm)


class WhisperDecoder(nn.Layer):
    """Tokens, or embeddings, to hidden states, no position of which sees what comes after it.

    Args of a call:
        attention_mask: ones and zeros, (batch, past and new length).
        source: (batch, source length, d_model), an encoder's hidden states.
        position_ids: (batch, length); by default counted from what the cache holds.
    """

    def __init__(self, config, prefix=""):
        super().__init__()
        size = config.d_model
        self.record_as = f"{prefix}hidden_states"
        self.embed_tokens = nn.Embedding(config.vocab_size, size, config.pad_token_id)
        self.embed_positions = nn.Embedding(config.max_target_positions, size)
        self.layers = [
            WhisperLayer(config, "decoder", index, f"{prefix}attentions", "cross_attentions")
            for index in range(config.decoder_layers)
        ]
        self.layer_norm = nn.LayerNormalization(size, EPSILON)
        self.dropout = nn.Dropout(config.dropout)

    def call(self, input_ids=None, attention_mask=None, source=None, inputs_embeds=None, position_ids=None, cache=None):
        if (input_ids is None) == (inputs_embeds is None):
            what = "neither tokens nor embeddings" if input_ids is None else "both tokens and embeddings"
            raise ValueError(f"Whisper's decoder got {what}: give one of the two (labels would do for the tokens).")
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        x = self.dropout(x + self.embed_positions(nn.positions(x, cache) if position_ids is None else position_ids))
        bias = nn.attention_bias(x, attention_mask, causal=True, cache=cache)
        options = {"cache": cache, "record_as": self.record_as, "final": self.layer_norm}
        return nn.chain(self.layers, x, bias, source, **options)


class WhisperPreTrainedModel(PreTrainedModel):
    config_class = WhisperConfig
    base_model_prefix = "model"
    sound_ranks = {"input_features": 3}

    @property
    def max_length(self) -> int:
        """The longest sequence of tokens that the decoder has positions for."""
        return self.config.max_target_positions

    def freeze_encoder(self):
        """Keeps the encoder as it is in training."""
        self.get_encoder().trainable = False

    def check_inputs(self, inputs):
        """Raises ValueError where sounds are of another length or height, or tokens too many."""
        config, features = self.config, inputs.get("input_features")
        wanted = (config.num_mel_bins, STRIDE * config.max_source_positions)
        found = wanted if features is None else tuple(features.shape[1:])
        if any(size not in (None, expected) for size, expected in zip(found, wanted, strict=True)):
            raise ValueError(
                f"input_features has {found[0]} mels and {found[1]} frames, but {type(self).__name__} takes exactly "
                f"{wanted[0]} and {wanted[1]}: use the model's own feature extractor with its default padding; only "
                "generate takes longer sounds."
            )
        for name in ("decoder_input_ids", "decoder_inputs_embeds"):
            self._check_positions(name, inputs.get(name), inputs.get("past_key_values"))

    def _check_positions(self, name, tokens, cache=None):
        past = cache.length if cache is not None and isinstance(cache.length, int) else 0
        count = None if tokens is None else tokens.shape[1]
        if count is not None and past + count > self.max_length:
            raise ValueError(
                f"{name} reaches {past + count} positions, but Whisper's decoder has {self.max_length} "
                "(config.max_target_positions): shorten it."
            )


class WhisperModel(WhisperPreTrainedModel):
    """The bare model: `last_hidden_state` (batch, decoder length, d_model), `encoder_last_hidden_state`.

    `attention_mask` (batch, frames) tells SpecAugment, in training, how long each sound is; attention is to all of
    them. `encoder_outputs`, a tuple whose first item is the encoder's last hidden state, stand in for its run.
    """

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.encoder = WhisperEncoder(config, "encoder_")
        self.decoder = WhisperDecoder(config, "decoder_")
        self.augment = WhisperSpecAugment(config)

    def call(
        self,
        input_features=None,
        attention_mask=None,
        decoder_input_ids=None,
        decoder_attention_mask=None,
        encoder_outputs=None,
        past_key_values=None,
        decoder_inputs_embeds=None,
        decoder_position_ids=None,
    ):
        if encoder_outputs is None:
            source = self.encoder(self.augment(input_features, attention_mask))
        else:
            source = states_of(encoder_outputs)
        inputs = (decoder_input_ids, decoder_attention_mask, source, decoder_inputs_embeds, decoder_position_ids)
        x = self.decoder(*inputs, cache=past_key_values)
        return ModelOutput(last_hidden_state=x, encoder_last_hidden_state=source)


def states_of(outputs):
    """The hidden states among an encoder's outputs, which may be the states alone."""
    if isinstance(outputs, Mapping):
        return outputs["last_hidden_state"]
    return outputs[0] if isinstance(outputs, (tuple, list)) else outputs


class WhisperForConditionalGeneration(WhisperPreTrainedModel):
    """Next words of what is said: `logits` (batch, decoder length, vocab_size).

    With labels and nothing for the decoder to read, it reads the labels behind the start token.
    """

    starts_decoder = False

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.model = WhisperModel(config)
        self.proj_out = nn.output_projection(self.model.decoder.embed_tokens, config, use_bias=False)

    def call(self, logits_to_keep=None, **inputs):
        outputs = self.model(**inputs)
        x = nn.kept(outputs.pop("last_hidden_state"), logits_to_keep)
        return ModelOutput(logits=self.proj_out(x), **outputs)

    def inputs_from_labels(self, inputs, labels):
        labels = ops.convert_to_tensor(labels["labels"])
        self._check_positions("labels", labels)
        if "decoder_input_ids" in inputs or "decoder_inputs_embeds" in inputs:
            return {}
        return {"decoder_input_ids": shift_right(labels, self.config)}

    def generate(self, input_features=None, generation_config=None, **kwargs):
        """Writes down, or translates into English, what is said.

        Takes what `PreTrainedModel.generate` takes, and more.

        Example:
            >>> tokens = model.generate(**extractor(sound, sampling_rate=16000), language="de", task="translate")
            >>> tokenizer.batch_decode(tokens, skip_special_tokens=True)

        Args:
            input_features: (batch, mels, frames), or what a feature extractor returns. Sounds of more than
                2 * config.max_source_positions frames are heard window by window; they need timestamps.
            attention_mask: (batch, frames), which frames are real; needed for long sounds in a batch.
            language: a name, a code such as "de", or a list of one for each sound; found out by default.
            task: "transcribe" or "translate".
            return_timestamps: find the times at which segments start and end.
            return_token_timestamps: find the times at which tokens are said (`token_timestamps`).
            return_segments: also return `segments`, for each sound a list of dictionaries of `start`, `end` (seconds),
                `tokens`, `idxs` (where these are in the window's `result`) and `result`.
            prompt_ids: tokens that are to stand before what is said, e.g. with names that occur in it.
            prompt_condition_type: whether the prompt is for the "first-segment", or for "all-segments".
            condition_on_prev_tokens: windows read what those before them say.
            temperature: of sampling, greedy search for 0; a list of them to try one after the other while a window's
                text is too repetitive (`compression_ratio_threshold`) or too unlikely (`logprob_threshold`), unless
                it is silent (`no_speech_threshold`).
            num_frames: (batch,), frames that count for token timestamps; by default what attention_mask says.
            monitor_progress: called before each window with an array (batch, 2) of frames heard and all frames.
            force_unique_generate_call: hear a single window, and return all its tokens.

        Returns:
            Token ids (batch, length), without those that tell language and task, and without ends; a ModelOutput of
            `sequences` and more where that is asked for. With `return_dict_in_generate=True` and no timestamps, the
            outputs that other models return, all tokens included.

        Raises:
            TypeError: a name is neither a setting nor an argument.
            ValueError: settings contradict each other, the model does not know a language or a task, the
                generation_config lacks what a wish needs, or the prompt is too long.
        """
        from keras_models.generation.whisper import generate

        if isinstance(input_features, Mapping):
            kwargs, input_features = {**input_features, **kwargs}, None
        given = [kwargs.pop(name, None) for name in ("input_features", "inputs")]
        features = next((each for each in (input_features, *given) if each is not None), None)
        return generate(self, features, generation_config, **kwargs)

    def detect_language(self, input_features=None, encoder_outputs=None, generation_config=None):
        """The tokens of the languages that are spoken in the first window of each sound, (batch,)."""
        from keras_models.generation.whisper_hearing import Ears, Sound, detect_language

        settings = copy.deepcopy(generation_config or self.generation_config)
        if input_features is not None:
            input_features = ops.convert_to_numpy(input_features)[..., : STRIDE * self.config.max_source_positions]
        given = {} if encoder_outputs is None else {"encoder_outputs": encoder_outputs}
        sound = Sound.of(self, input_features, None, given)
        return detect_language(self, Ears(self, settings), sound, settings)

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)


class WhisperDecoderWrapper(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.decoder = WhisperDecoder(config)


class WhisperForCausalLM(WhisperPreTrainedModel):
    """The decoder alone, e.g. as the assistant of a model with the same encoder: `logits` (batch, length, vocab_size).

    `encoder_outputs` are hidden states, or a tuple that begins with them. As in the reference, its loss compares the
    logits at a token with the label at the same place.
    """

    optional = (r"^model\.encoder\.",)

    def __init__(self, config, **kwargs):
        config.is_encoder_decoder = False
        super().__init__(config, **kwargs)
        self.model = WhisperDecoderWrapper(config)
        self.proj_out = nn.output_projection(self.model.decoder.embed_tokens, config, use_bias=False)

    def call(
        self,
        input_ids=None,
        attention_mask=None,
        encoder_outputs=None,
        past_key_values=None,
        inputs_embeds=None,
        logits_to_keep=None,
    ):
        x = self.model.decoder(
            input_ids, attention_mask, states_of(encoder_outputs), inputs_embeds, cache=past_key_values
        )
        return ModelOutput(logits=self.proj_out(nn.kept(x, logits_to_keep)))

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)


class WhisperForAudioClassification(WhisperPreTrainedModel):
    """A class for each sound, from the encoder alone: `logits` (batch, num_labels).

    `encoder_outputs`, a tuple of the last hidden state and of all hidden states, stand in for a run of the encoder.
    """

    optional = (r"^(projector|classifier)\.|^layer_weights$",)  # new where a whole Whisper is the beginning

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.encoder = WhisperEncoder(config)
        if config.use_weighted_layer_sum:
            count = config.encoder_layers + 1
            constant = keras.initializers.Constant(1 / count)
            self.layer_weights = self.add_weight(shape=(count,), initializer=constant, name="layer_weights")
        self.projector = nn.Dense(config.d_model, config.classifier_proj_size)
        self.classifier = nn.Dense(config.classifier_proj_size, config.num_labels)

    def call(self, input_features=None, encoder_outputs=None):
        if not self.config.use_weighted_layer_sum:
            x = self.encoder(input_features) if encoder_outputs is None else states_of(encoder_outputs)
        else:
            if encoder_outputs is None:
                with nn.captured("hidden_states") as states:
                    self.encoder(input_features)
            else:
                states = encoder_outputs[1]
            weights = ops.cast(ops.softmax(self.layer_weights), states[0].dtype)
            x = sum(weights[index] * each for index, each in enumerate(states))
        x = self.projector(ops.mean(x, axis=1))  # the mean of projections, at less cost
        return ModelOutput(logits=self.classifier(x))

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, labels)
