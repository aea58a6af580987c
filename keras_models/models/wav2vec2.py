"""wav2vec 2.0, a transformer over what convolutions make of samples (https://arxiv.org/abs/2006.11477), and MMS.

Sounds are (batch, samples), hidden states (batch, frames, hidden_size), a frame for every 320 samples or so.
"""

import math
from dataclasses import dataclass, field

import keras
import numpy as np
from keras import ops

from keras_models import losses, nn
from keras_models.checkpoint import CheckpointError, open_checkpoint
from keras_models.checkpoint.names import entries
from keras_models.config import Config
from keras_models.hub import HubError, Repository, split_options
from keras_models.model import ModelOutput, PreTrainedModel
from keras_models.models import wav2vec2_layers as layers


@dataclass(kw_only=True)
class Wav2Vec2Config(Config):
    model_type = "wav2vec2"

    vocab_size: int | None = 32
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout: float = 0.1
    activation_dropout: float = 0.1
    attention_dropout: float = 0.1
    feat_proj_dropout: float = 0.0
    feat_quantizer_dropout: float = 0.0
    final_dropout: float = 0.1
    layerdrop: float = 0.1
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    feat_extract_norm: str = "group"  # after the first convolution, over time; or layer, after each, over channels
    feat_extract_activation: str = "gelu"
    conv_dim: list[int] = field(default_factory=lambda: [512] * 7)
    conv_stride: list[int] = field(default_factory=lambda: [5, 2, 2, 2, 2, 2, 2])
    conv_kernel: list[int] = field(default_factory=lambda: [10, 3, 3, 3, 3, 2, 2])
    conv_bias: bool = False
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    do_stable_layer_norm: bool = False
    apply_spec_augment: bool = True
    mask_time_prob: float = 0.05
    mask_time_length: int = 10
    mask_time_min_masks: int = 2
    mask_feature_prob: float = 0.0
    mask_feature_length: int = 10
    mask_feature_min_masks: int = 0
    num_codevectors_per_group: int = 320
    num_codevector_groups: int = 2
    contrastive_logits_temperature: float = 0.1
    num_negatives: int = 100
    codevector_dim: int = 256
    proj_codevector_dim: int = 256
    diversity_loss_weight: float = 0.1
    ctc_loss_reduction: str = "sum"  # or mean
    ctc_zero_infinity: bool = False
    use_weighted_layer_sum: bool = False
    classifier_proj_size: int = 256
    tdnn_dim: list[int] = field(default_factory=lambda: [512, 512, 512, 512, 1500])
    tdnn_kernel: list[int] = field(default_factory=lambda: [5, 3, 3, 1, 1])
    tdnn_dilation: list[int] = field(default_factory=lambda: [1, 2, 3, 1, 1])
    xvector_output_dim: int = 512
    add_adapter: bool = False
    adapter_kernel_size: int = 3
    adapter_stride: int = 2
    num_adapter_layers: int = 3
    output_hidden_size: int | None = None  # hidden_size
    adapter_attn_dim: int | None = None  # of MMS
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self):
        super().__post_init__()
        self.output_hidden_size = self.output_hidden_size or self.hidden_size
        if not len(self.conv_dim) == len(self.conv_stride) == len(self.conv_kernel):
            raise ValueError(
                f"conv_dim, conv_stride and conv_kernel are of {len(self.conv_dim)}, {len(self.conv_stride)} and "
                f"{len(self.conv_kernel)} layers: give each as many numbers as there are convolutions."
            )

    @property
    def inputs_to_logits_ratio(self) -> int:
        """How many samples lie between two frames."""
        return math.prod(self.conv_stride)


class Wav2Vec2PreTrainedModel(PreTrainedModel):
    config_class = Wav2Vec2Config
    base_model_prefix = "wav2vec2"
    renames = (
        (r"\.conv\.weight_g$", ".conv.parametrizations.weight.original0"),
        (r"\.conv\.weight_v$", ".conv.parametrizations.weight.original1"),
    )
    # Checkpoints that were trained without hidden frames lack their embedding, those of one language its adapters; the
    # last is the layer of x-vectors, which has the name of a part of the bare model.
    optional = (r"(^|\.)masked_spec_embed$", r"\.adapter_layer\.", r"^feature_extractor\.(weight|bias)$")

    @property
    def pads_sounds(self):
        return not self.config.add_adapter  # whose convolutions would see what lies behind the end

    def cut_sounds(self, outputs, samples):
        frames = layers.output_lengths(samples, self.config)
        places = {3: (slice(None), slice(frames)), 4: (..., slice(frames), slice(frames))}  # states; attentions
        return keras.tree.map_structure(lambda array: array[places.get(array.ndim, ...)], outputs)

    def output_lengths(self, samples, adapter: bool = True):
        """How many frames sounds of so many samples, a number or an array of them, become.

        Args:
            adapter: behind the adapter, if the model has one.
        """
        return layers.output_lengths(samples, self.config, adapter)

    def freeze_feature_encoder(self):
        """Keeps the convolutions over samples as they are in training; call before `compile`."""
        self.bare_model().feature_extractor.trainable = False

    def freeze_base_model(self):
        """Keeps all but the head as it is in training; call before `compile`."""
        self.bare_model().trainable = False


class Wav2Vec2Model(Wav2Vec2PreTrainedModel):
    """The bare model: `last_hidden_state` (batch, frames, size), `extract_features` (batch, frames, conv_dim[-1]).

    Inputs:
        input_values: (batch, samples), at 16 kHz, of mean 0 and variance 1.
        attention_mask: (batch, samples), 1 for samples, 0 for padding behind them. Models with a `feat_extract_norm` of
            "group" were trained without one, on sounds padded with zeros.
        mask_time_indices: (batch, frames), true for frames to hide.
    """

    sound_ranks = {"input_values": 2}

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.feature_extractor = layers.FeatureEncoder(config)
        self.feature_projection = layers.FeatureProjection(config)
        self.masked_spec_embed = None
        if config.mask_time_prob > 0 or config.mask_feature_prob > 0:
            draw = keras.initializers.RandomUniform(0.0, 1.0)
            self.masked_spec_embed = self.add_weight(shape=(config.hidden_size,), initializer=draw)
        self.augment = layers.SpecAugment(config)
        self.encoder = layers.Encoder(config)
        self.adapter = layers.Adapter(config) if config.add_adapter else None

    def check_inputs(self, inputs):
        shape, mask = tuple(inputs["input_values"].shape), inputs.get("attention_mask")
        if shape[1] is not None and layers.output_lengths(shape[1], self.config) < 1:
            raise ValueError(
                f"input_values has {shape[1]} samples, too few for a single frame: give sounds of at least "
                f"{self.least_samples()} samples, padded with zeros if need be."
            )
        if mask is not None and None not in (*shape, *mask.shape) and tuple(mask.shape) != shape:
            raise ValueError(
                f"attention_mask has the shape {tuple(mask.shape)}, but input_values {shape}: it has a number for each "
                "sample, as the feature extractor returns it."
            )
        if inputs.get("mask_time_indices") is not None and self.masked_spec_embed is None:
            raise ValueError("mask_time_indices needs a model with mask_time_prob > 0, which knows what hidden is.")

    def least_samples(self):
        """The shortest sound that becomes a frame."""
        samples = 1
        for kernel, stride in zip(reversed(self.config.conv_kernel), reversed(self.config.conv_stride), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples

    def call(self, input_values=None, attention_mask=None, mask_time_indices=None):
        features = self.feature_extractor(input_values)
        attended = layers.attended_frames(attention_mask, features, self.config)
        x, features = self.feature_projection(features)
        embedding = None if self.masked_spec_embed is None else ops.convert_to_tensor(self.masked_spec_embed)
        x = self.augment(x, embedding=embedding, hidden=mask_time_indices, attended=attended)
        x = self.encoder(x, attended=attended)
        x = x if self.adapter is None else self.adapter(x)
        return ModelOutput(last_hidden_state=x, extract_features=features)


class Wav2Vec2ForPreTraining(Wav2Vec2PreTrainedModel):
    """Which of several vectors a hidden frame is: `projected_states` and `projected_quantized_states`, both
    (batch, frames, proj_codevector_dim), and `codevector_perplexity`.

    With `mask_time_indices` and `sampled_negative_indices` (batch, frames, negatives), which count the frames of the
    whole batch, there are a `loss`, and `contrastive_loss` and `diversity_loss`, of which it is made.
    """

    label_names = ()
    pads_sounds = False  # the perplexity is of all frames

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.wav2vec2 = Wav2Vec2Model(config)
        self.dropout_features = nn.Dropout(config.feat_quantizer_dropout)
        self.quantizer = layers.GumbelVectorQuantizer(config)
        self.project_hid = nn.Dense(config.hidden_size, config.proj_codevector_dim)
        self.project_q = nn.Dense(config.codevector_dim, config.proj_codevector_dim)

    def set_gumbel_temperature(self, temperature: float):
        """Sets how evenly codevectors are drawn in training, 2 at first; call before `compile`."""
        self.quantizer.temperature = temperature

    def call(self, input_values=None, attention_mask=None, mask_time_indices=None, sampled_negative_indices=None):
        if sampled_negative_indices is not None and mask_time_indices is None:
            raise ValueError("sampled_negative_indices needs mask_time_indices too: the frames that it is for.")
        x = self.wav2vec2(input_values=input_values, attention_mask=attention_mask, mask_time_indices=mask_time_indices)
        states = self.project_hid(x.last_hidden_state)
        vectors, perplexity = self.quantizer(self.dropout_features(x.extract_features), hidden=mask_time_indices)
        vectors = self.project_q(vectors)
        outputs = ModelOutput(
            projected_states=states, projected_quantized_states=vectors, codevector_perplexity=perplexity
        )
        if sampled_negative_indices is None:
            return outputs
        config, hidden = self.config, ops.cast(mask_time_indices, "float32")
        count = config.num_codevectors_per_group * config.num_codevector_groups
        contrast = losses.contrastive(
            states, vectors, sampled_negative_indices, hidden, config.contrastive_logits_temperature
        )
        diversity = (count - perplexity) / count * ops.sum(hidden)
        loss = contrast + config.diversity_loss_weight * diversity
        return ModelOutput(loss=loss, **outputs, contrastive_loss=contrast, diversity_loss=diversity)


class Wav2Vec2ForCTC(Wav2Vec2PreTrainedModel):
    """Characters of a transcript: `logits` (batch, frames, vocab_size), of which `pad_token_id` stands for none.

    Labels are (batch, length), padded with -100. The model of MMS, which has adapters for over a thousand languages,
    takes `target_lang` when it is loaded, and `load_adapter` later on.
    """

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        if config.vocab_size is None:
            raise ValueError("Wav2Vec2ForCTC needs vocab_size: set it to the number of the tokenizer's characters.")
        self.wav2vec2 = Wav2Vec2Model(config)
        self.dropout = nn.Dropout(config.final_dropout)
        size = config.output_hidden_size if config.add_adapter else config.hidden_size
        self.lm_head = nn.Dense(size, config.vocab_size)
        self.target_lang = None

    @classmethod
    def from_pretrained(cls, source, *, target_lang: str | None = None, output_loading_info: bool = False, **options):
        """`PreTrainedModel.from_pretrained`.

        Args:
            target_lang: the language, such as "fra", whose adapter is loaded after the checkpoint.
        """
        model, report = super().from_pretrained(source, output_loading_info=True, **options)
        model.__dict__["_adapters"] = (source, split_options(options)[0])
        if target_lang is not None:
            model.load_adapter(target_lang)
        return (model, report) if output_loading_info else model

    def load_adapter(self, target_lang: str, force_load: bool = True, **options):
        """Makes the model one of another language, with the adapter.<target_lang> file beside its checkpoint.

        The vocabulary becomes the language's, so that a tokenizer must be told of the language too.

        Args:
            target_lang: such as "fra".
            force_load: read the file even if the language is loaded already.
            **options: of the hub, by default those that the model was loaded with.

        Raises:
            ValueError: the model has no adapters, or comes from no checkpoint.
            HubError: there is no file for this language.
            CheckpointError: its tensors are not those of this model's adapters.
        """
        if self.config.adapter_attn_dim is None:
            raise ValueError(
                f"There is no place for the adapter of {target_lang!r}: only a model with adapter_attn_dim, such as "
                "facebook/mms-1b-all, has adapters."
            )
        if target_lang == self.target_lang and not force_load:
            return
        if "_adapters" not in self.__dict__:
            raise ValueError("Adapters lie beside a checkpoint: load the model with from_pretrained.")
        source, before = self.__dict__["_adapters"]
        repository = Repository(source, **{**before, **options})
        names = [f"adapter.{target_lang}.{ending}" for ending in ("safetensors", "bin")]
        path = next(filter(None, map(repository.file, names)), None)
        if path is None:
            raise HubError(f"{repository} has no adapter for {target_lang!r}: looked for {' and '.join(names)}.")
        with open_checkpoint(path) as stored:
            places = {entry.key: entry for entry in self.adapter_entries()}
            if places.keys() != stored.keys():
                wrong = sorted(places.keys() ^ stored.keys())
                raise CheckpointError(f"{path} is no adapter of this model: {', '.join(wrong[:5])} is in one only.")
            if stored["lm_head.bias"].shape[0] != self.config.vocab_size:
                self.resize_token_embeddings(stored["lm_head.bias"].shape[0])
            wrong = [key for key, entry in places.items() if tuple(stored[key].shape) != entry.stored_shape]
            if wrong:
                raise CheckpointError(f"{path} is no adapter of this model: {', '.join(wrong[:5])} is of another size.")
            for key, entry in places.items():
                entry.variable.assign(stored[key].read(dtype=entry.variable.dtype, axes=entry.reading_axes))
        self.target_lang = target_lang

    def init_adapter_layers(self):
        """Draws the adapters and the head anew, to train them alone for another language."""
        normal = keras.initializers.RandomNormal(stddev=self.config.initializer_range)
        for entry in self.adapter_entries():
            draw = ops.zeros if entry.key.endswith(".bias") else ops.ones if ".norm." in entry.key else normal
            entry.variable.assign(draw(entry.variable.shape, dtype=entry.variable.dtype))

    def adapter_entries(self):
        """What a language has of its own."""
        return [each for each in entries(self) if ".adapter_layer." in each.key or each.key.startswith("lm_head.")]

    def call(self, **inputs):
        return ModelOutput(logits=self.lm_head(self.dropout(self.wav2vec2(**inputs).last_hidden_state)))

    def pack_labels(self, labels):
        labels = super().pack_labels(labels)
        if labels.size and labels.max() >= self.config.vocab_size:
            raise ValueError(
                f"Label {labels.max()} is out of range: the model has {self.config.vocab_size} characters; load it "
                "with vocab_size= as many as the tokenizer has."
            )
        return np.where(labels < 0, losses.IGNORE, labels)

    def _checked(self, labels):
        return self.pack_labels(labels)

    def head_loss(self, outputs, labels, attention_mask=None):
        config, lengths = self.config, None
        if attention_mask is not None:
            lengths = layers.output_lengths(ops.sum(ops.cast(attention_mask, "int32"), axis=-1), config)
        return losses.ctc(
            outputs.logits, labels, lengths, config.pad_token_id, config.ctc_loss_reduction, config.ctc_zero_infinity
        )


class _WithHead(Wav2Vec2PreTrainedModel):
    """A model with a head for classes of sounds, which may take in the hidden states of all layers."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        if config.add_adapter:
            raise ValueError(f"{type(self).__name__} cannot have an adapter: set add_adapter=False.")
        self.wav2vec2 = Wav2Vec2Model(config)
        self.layer_weights = None
        if config.use_weighted_layer_sum:
            count = config.num_hidden_layers + 1
            evenly = keras.initializers.Constant(1.0 / count)
            self.layer_weights = self.add_weight(shape=(count,), initializer=evenly)

    def states(self, input_values, attention_mask):
        """The last hidden states, or the learnt mean of those of all layers."""
        inputs = {"input_values": input_values, "attention_mask": attention_mask}
        if self.layer_weights is None:
            return self.wav2vec2(**inputs).last_hidden_state
        with nn.captured("hidden_states") as found:
            x = self.wav2vec2(**inputs).last_hidden_state
        weights = ops.softmax(ops.convert_to_tensor(self.layer_weights))
        return sum(each * ops.cast(weights[index], x.dtype) for index, each in enumerate(found))


class Wav2Vec2ForSequenceClassification(_WithHead):
    """A class per sound: `logits` (batch, num_labels)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.projector = nn.Dense(config.hidden_size, config.classifier_proj_size)
        self.classifier = nn.Dense(config.classifier_proj_size, config.num_labels)

    def call(self, input_values=None, attention_mask=None):
        x = self.projector(self.states(input_values, attention_mask))
        attended = layers.attended_frames(attention_mask, x, self.config)
        if attended is None:
            return ModelOutput(logits=self.classifier(ops.mean(x, axis=1)))
        real = ops.cast(attended, x.dtype)[..., None]
        return ModelOutput(logits=self.classifier(ops.sum(x * real, axis=1) / ops.sum(real, axis=1)))

    def head_loss(self, outputs, labels):
        return losses.cross_entropy(outputs.logits, ops.reshape(labels, (-1,)))


class Wav2Vec2ForAudioFrameClassification(_WithHead):
    """A class per frame: `logits` (batch, frames, num_labels). Labels are of that shape, with a 1 for the class."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.classifier = nn.Dense(config.hidden_size, config.num_labels)

    def call(self, input_values=None, attention_mask=None):
        return ModelOutput(logits=self.classifier(self.states(input_values, attention_mask)))

    def head_loss(self, outputs, labels):
        if tuple(labels.shape[1:]) != tuple(outputs.logits.shape[1:]):
            raise ValueError(
                f"labels has the shape {tuple(labels.shape)}, but must be {tuple(outputs.logits.shape)}, with a 1 for "
                "the class of each frame."
            )
        return losses.cross_entropy(outputs.logits, ops.argmax(labels, axis=-1))


class Wav2Vec2ForXVector(_WithHead):
    """The voice of a sound: `embeddings`, to compare, and `logits`, to train; both (batch, xvector_output_dim)."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        size = config.xvector_output_dim
        self.projector = nn.Dense(config.hidden_size, config.tdnn_dim[0])
        self.tdnn = [layers.TDNNLayer(config, index) for index in range(len(config.tdnn_dim))]
        self.feature_extractor = nn.Dense(2 * config.tdnn_dim[-1], size)
        self.classifier = nn.Dense(size, size)
        self.objective = layers.AMSoftmax(size, config.num_labels)

    def call(self, input_values=None, attention_mask=None):
        x = self.projector(self.states(input_values, attention_mask))
        for layer in self.tdnn:
            x = layer(x)
        embeddings = self.feature_extractor(layers.pool_statistics(x, self.lengths(attention_mask)))
        return ModelOutput(logits=self.classifier(embeddings), embeddings=embeddings)

    def lengths(self, attention_mask):
        """How many frames behind the last convolution are of each sound, as if kernels were not dilated."""
        if attention_mask is None:
            return None
        config, real = self.config, nn.real_length()
        lengths = layers.output_lengths(ops.sum(ops.cast(attention_mask, "int32"), axis=-1), config)
        lengths = lengths - sum(taps - 1 for taps in config.tdnn_kernel)
        if real is None:
            return lengths
        dilated = zip(config.tdnn_kernel, config.tdnn_dilation, strict=True)
        lost = sum((taps - 1) * dilation for taps, dilation in dilated)
        return ops.minimum(lengths, layers.output_lengths(real, config) - lost)

    def head_loss(self, outputs, labels):
        return self.objective(outputs.logits, ops.cast(ops.reshape(labels, (-1,)), "int32"))
