"""DETR, objects as a set that a transformer reads off a picture (https://arxiv.org/abs/2005.12872).

Pictures and feature maps are (batch, height, width, channels), hidden states (batch, places or queries, d_model).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from keras_models import losses_detection, nn
from keras_models.backbone import backbone_config, build_backbone
from keras_models.config import Config
from keras_models.model import ModelOutput, PreTrainedModel
from keras_models.models.detr_masks import AttentionMap, MaskHead
from keras_models.models.resnet import ResNetConfig
from keras_models.models.timm_resnet import TimmResNet


@dataclass(kw_only=True)
class DetrConfig(Config):
    model_type = "detr"
    attribute_map = {"hidden_size": "d_model", "num_attention_heads": "encoder_attention_heads"}

    is_encoder_decoder: bool = True
    use_timm_backbone: bool = True
    backbone_config: Any = None  # of another backbone than timm's, as a dictionary or a configuration
    num_channels: int = 3
    num_queries: int = 100
    encoder_layers: int = 6
    encoder_ffn_dim: int = 2048
    encoder_attention_heads: int = 8
    decoder_layers: int = 6
    decoder_ffn_dim: int = 2048
    decoder_attention_heads: int = 8
    encoder_layerdrop: float = 0.0
    decoder_layerdrop: float = 0.0
    activation_function: str = "relu"
    d_model: int = 256
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    init_std: float = 0.02
    init_xavier_std: float = 1.0
    auxiliary_loss: bool = False  # earlier layers of the decoder predict too
    position_embedding_type: str = "sine"  # or learned
    backbone: str | None = "resnet50"  # timm's name
    use_pretrained_backbone: bool = True
    backbone_kwargs: dict | None = None
    dilation: bool | None = False  # the last stage of the backbone keeps its resolution (DC5)
    class_cost: float = 1
    bbox_cost: float = 5
    giou_cost: float = 2
    mask_loss_coefficient: float = 1
    dice_loss_coefficient: float = 1
    bbox_loss_coefficient: float = 5
    giou_loss_coefficient: float = 2
    eos_coefficient: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        if self.position_embedding_type not in ("sine", "learned"):
            raise ValueError(f"Unknown position_embedding_type {self.position_embedding_type!r}: use sine or learned.")
        if self.use_timm_backbone and self.backbone_kwargs is None:
            self.backbone_kwargs = {"output_stride": 16} if self.dilation else {}
            self.backbone_kwargs |= {"out_indices": [1, 2, 3, 4], "in_chans": self.num_channels}
        elif not self.use_timm_backbone:
            self.backbone = self.dilation = None
            if self.backbone_config is None:
                self.backbone_config = ResNetConfig(out_features=["stage4"])
            self.backbone_config = backbone_config(self.backbone_config)

    def to_dict(self):
        """The contents of config.json; `dilation` is left out where it has no meaning, and null would be refused."""
        values = super().to_dict()
        return values if values["dilation"] is not None else {k: v for k, v in values.items() if k != "dilation"}


class DetrPreTrainedModel(PreTrainedModel):
    config_class = DetrConfig
    base_model_prefix = "model"
    calls_host = True

    @property
    def picture_stride(self):
        config, kind = self.config, self.config.backbone_config
        if config.position_embedding_type == "learned":  # padding might reach where they end
            return 0
        return 32 if config.use_timm_backbone else kind.stride if kind.model_type == "resnet" else 0

    def check_inputs(self, inputs):
        sizes = [tuple(inputs[name].shape[:3]) for name in ("pixel_values", "pixel_mask") if name in inputs]
        if len(sizes) == 2 and None not in sizes[0] + sizes[1] and sizes[0] != sizes[1]:
            raise ValueError(f"pixel_mask has the shape {sizes[1]}, but must have that of the pictures, {sizes[0]}.")

    def cut_pictures(self, outputs, size, padded):
        tokens = outputs["encoder_last_hidden_state"]
        stride = math.isqrt(padded[0] * padded[1] // tokens.shape[1])
        tokens = tokens.reshape(tokens.shape[0], padded[0] // stride, padded[1] // stride, -1)
        tokens = tokens[:, : -(-size[0] // stride), : -(-size[1] // stride)]
        outputs["encoder_last_hidden_state"] = tokens.reshape(tokens.shape[0], -1, tokens.shape[-1])
        if "pred_masks" in outputs:
            masks = outputs["pred_masks"]
            stride = padded[0] // masks.shape[2]
            outputs["pred_masks"] = masks[:, :, : -(-size[0] // stride), : -(-size[1] // stride)]
        return outputs


class ConvEncoder(nn.Layer):
    """The backbone. It does not train, but for the later three stages of timm's, as in the reference."""

    def __init__(self, config):
        super().__init__()
        self.is_timm = config.use_timm_backbone
        norm = nn.FrozenBatchNormalization
        if self.is_timm:
            stride = (config.backbone_kwargs or {}).get("output_stride", 16 if config.dilation else 32)
            self.model = TimmResNet(config.backbone, config.num_channels, stride, norm)
            for layer in (self.model.conv1, *self.model.layer1):
                layer.trainable = False
        else:
            kind = config.backbone_config
            self.model = build_backbone(kind, **({"norm": norm} if kind.model_type == "resnet" else {}))
            self.model.trainable = kind.model_type != "resnet"
        self.channels = self.model.channels

    def call(self, pixel_values):
        with nn.records([]):
            maps = self.model(pixel_values) if self.is_timm else self.model(pixel_values=pixel_values).feature_maps
        return list(maps)


class SinePositions(nn.Layer):
    """Waves of the places in the real part of each picture, height and width before each other."""

    def __init__(self, size):
        super().__init__()
        self.waves = 10000 ** (2 * np.arange(size // 2, dtype="float32") / size)

    def call(self, real):
        return ops.concatenate([self.along(real, 1), self.along(real, 2)], axis=-1)

    def along(self, real, axis):
        places = ops.cumsum(ops.cast(real, "float32"), axis=axis)
        last = places[:, -1:] if axis == 1 else places[:, :, -1:]
        angles = (places / (last + 1e-6) * (2 * math.pi))[..., None] / self.waves
        x = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)
        return ops.reshape(x, (*ops.shape(real), 2 * len(self.waves)))


class LearnedPositions(nn.Layer):
    def __init__(self, size):
        super().__init__()
        self.row_embeddings = nn.Embedding(50, size)
        self.column_embeddings = nn.Embedding(50, size)

    def call(self, real):
        batch, height, width = ops.shape(real)
        if any(isinstance(size, int) and size > 50 for size in (height, width)):
            raise ValueError(
                f"The last feature map is {height} x {width}, and there are learned positions for 50 x 50: make the "
                "pictures smaller."
            )
        shape = (batch, height, width, self.row_embeddings.output_dim)
        rows = self.row_embeddings(ops.arange(height))[None, :, None]
        columns = self.column_embeddings(ops.arange(width))[None, None]
        return ops.concatenate([ops.broadcast_to(columns, shape), ops.broadcast_to(rows, shape)], axis=-1)


class ConvModel(nn.Layer):
    """The backbone, and what tells the places of its last feature map apart."""

    def __init__(self, config):
        super().__init__()
        self.conv_encoder = ConvEncoder(config)
        kind = SinePositions if config.position_embedding_type == "sine" else LearnedPositions
        self.position_embedding = kind(config.d_model // 2)

    def call(self, pixel_values):
        return self.conv_encoder(pixel_values)


class Attention(nn.Layer):
    """Attention in which positions are added to queries and keys, and not to values."""

    def __init__(self, config, heads, record_as):
        super().__init__()
        if config.d_model % heads:
            raise ValueError(f"d_model {config.d_model} is not a multiple of the number of attention heads {heads}.")
        self.heads, self.record_as = heads, record_as
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            setattr(self, name, nn.Dense(config.d_model, config.d_model))
        self.dropout = nn.Dropout(config.attention_dropout)

    def call(self, x, places, source=None, source_places=None, bias=None):
        query = x + places
        key = query if source is None else source + source_places
        value = x if source is None else source
        parts = (self.q_proj(query), self.k_proj(key), self.v_proj(value))
        parts = [nn.split_heads(each, self.heads) for each in parts]
        x = nn.attend(*parts, bias, dropout=self.dropout, record_as=self.record_as)
        return self.out_proj(nn.merge_heads(x))


class EncoderLayer(nn.Layer):
    """A layer of the encoder; that of the decoder attends to the encoder's states in between."""

    def __init__(self, config, is_decoder=False):
        super().__init__()
        side = "decoder" if is_decoder else "encoder"
        heads, width = (getattr(config, f"{side}_{name}") for name in ("attention_heads", "ffn_dim"))
        self.self_attn = Attention(config, heads, f"{side}_attentions")
        self.self_attn_layer_norm = nn.LayerNormalization(config.d_model, 1e-5)
        self.encoder_attn = None
        if is_decoder:
            self.encoder_attn = Attention(config, heads, "cross_attentions")
            self.encoder_attn_layer_norm = nn.LayerNormalization(config.d_model, 1e-5)
        self.fc1 = nn.Dense(config.d_model, width, activation=config.activation_function)
        self.fc2 = nn.Dense(width, config.d_model)
        self.final_layer_norm = nn.LayerNormalization(config.d_model, 1e-5)
        self.dropout, self.inner_dropout = nn.Dropout(config.dropout), nn.Dropout(config.activation_dropout)

    def call(self, x, places, bias=None, source=None, source_places=None):
        own_bias = bias if source is None else None
        x = self.self_attn_layer_norm(x + self.dropout(self.self_attn(x, places, bias=own_bias)))
        if source is not None:
            seen = self.encoder_attn(x, places, source, source_places, bias)
            x = self.encoder_attn_layer_norm(x + self.dropout(seen))
        return self.final_layer_norm(x + self.dropout(self.fc2(self.inner_dropout(self.fc1(x)))))


class Encoder(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.layers_ = [EncoderLayer(config) for _ in range(config.encoder_layers)]
        self.dropout = nn.Dropout(config.dropout)

    def call(self, x, places, bias=None):
        return nn.chain(self.layers_, self.dropout(x), places, bias, record_as="encoder_hidden_states")


class Decoder(nn.Layer):
    """Gives the last states, or with `auxiliary_loss` those of all layers: (layers + 1, batch, queries, d_model)."""

    def __init__(self, config):
        super().__init__()
        self.layers_ = [EncoderLayer(config, is_decoder=True) for _ in range(config.decoder_layers)]
        self.layernorm = nn.LayerNormalization(config.d_model, 1e-5)
        self.gives_all = config.auxiliary_loss

    def call(self, x, places, bias, source, source_places):
        normal = []
        for layer in self.layers_:
            nn.record("decoder_hidden_states", x)
            x = layer(x, places, bias, source, source_places)
            if self.gives_all:  # the next layer goes on from what is normalised for the predictions
                x = self.layernorm(x)
                normal.append(x)
        x = self.layernorm(x)
        nn.record("decoder_hidden_states", x)
        return ops.stack([*normal, x]) if self.gives_all else x


class DetrModel(DetrPreTrainedModel):
    """The bare model: `last_hidden_state` (batch, queries, d_model), `encoder_last_hidden_state` (batch, places,
    d_model), places being those of the last feature map, row by row.

    With `auxiliary_loss` also `intermediate_hidden_states` (decoder layers, batch, queries, d_model).

    Inputs:
        pixel_values: (batch, height, width, channels).
        pixel_mask: (batch, height, width), 0 where a picture has been padded.
        encoder_outputs: of an earlier call, to spare the encoder: a dictionary with `last_hidden_state`.
    """

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.backbone = ConvModel(config)
        self.input_projection = nn.Conv2D(self.backbone.conv_encoder.channels[-1], config.d_model, 1)
        self.query_position_embeddings = nn.Embedding(config.num_queries, config.d_model)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def call(self, pixel_values=None, pixel_mask=None, encoder_outputs=None):
        maps = self.backbone(pixel_values)
        return self.outputs_of(*self.read(maps[-1], pixel_mask, encoder_outputs))

    def read(self, features, pixel_mask, encoder_outputs=None):
        """The last feature map, projected; which places of it are real, or None for all; states of both sides."""
        projected = self.input_projection(features)
        batch, height, width = ops.shape(projected)[:3]
        real, bias = ops.ones((batch, height, width), "int32"), None
        x = nn.to_sequence(projected)
        if pixel_mask is not None:
            mask = nn.resize(ops.cast(pixel_mask, "float32")[..., None], (height, width), "nearest")[..., 0]
            real = ops.cast(mask, "int32")
            bias = nn.attention_bias(x, ops.reshape(real, (batch, height * width)))
        places = nn.to_sequence(ops.cast(self.backbone.position_embedding(real), x.dtype))
        if encoder_outputs is None:
            x = self.encoder(x, places, bias)
        else:
            x = encoder_outputs["last_hidden_state"] if isinstance(encoder_outputs, dict) else encoder_outputs[0]
        queries = ops.cast(ops.convert_to_tensor(self.query_position_embeddings.embeddings), x.dtype)
        queries = ops.broadcast_to(queries, (batch, *queries.shape))
        states = self.decoder(ops.zeros_like(queries), queries, bias, x, places)
        return projected, None if pixel_mask is None else real, x, states

    def outputs_of(self, projected, real, encoded, states):
        """The outputs for what `read` returned."""
        outputs = ModelOutput(encoder_last_hidden_state=encoded)
        if self.config.auxiliary_loss:
            outputs["intermediate_hidden_states"], states = states[:-1], states[-1]
        return ModelOutput(last_hidden_state=states, **outputs)


class BoxPredictor(nn.Layer):
    """Three dense layers: states -> (center x, center y, width, height) in shares of the picture."""

    def __init__(self, size):
        super().__init__()
        self.layers_ = [nn.Dense(size, size, "relu"), nn.Dense(size, size, "relu"), nn.Dense(size, 4, "sigmoid")]

    def call(self, x):
        for layer in self.layers_:
            x = layer(x)
        return x


class DetrForObjectDetection(DetrPreTrainedModel):
    """Objects: `logits` (batch, queries, num_labels + 1), the last class for none, `pred_boxes` (batch, queries, 4).

    Labels are a dictionary of `class_labels` and `boxes` for each picture, as the image processor makes them; the
    outputs then have `loss`, `loss_dict` and, with `auxiliary_loss`, `auxiliary_outputs`. With that, they always have
    `intermediate_hidden_states`, which the loss is computed from.
    """

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.model = DetrModel(config)
        self.class_labels_classifier = nn.Dense(config.d_model, config.num_labels + 1)
        self.bbox_predictor = BoxPredictor(config.d_model)

    def call(self, **inputs):
        outputs = self.model(**inputs)
        return ModelOutput(**self.predict_objects(outputs.last_hidden_state), **outputs)

    def predict_objects(self, states):
        """Classes and boxes of the decoder's states."""
        return {"logits": self.class_labels_classifier(states), "pred_boxes": self.bbox_predictor(states)}

    def pack_labels(self, labels):
        return losses_detection.pack_targets(labels, self.config.num_labels)

    def head_loss(self, outputs, labels):
        return set_losses(self, outputs, labels, self.config)


def set_losses(head, outputs, labels, config):
    """`loss`, `loss_dict` and `auxiliary_outputs`, where earlier layers predict too; `head` predicts objects."""
    found, earlier = losses_detection.set_loss(outputs, labels, config), []
    if config.auxiliary_loss:
        states = outputs["intermediate_hidden_states"]
        earlier = [head.predict_objects(states[index]) for index in range(config.decoder_layers - 1)]
        for index, each in enumerate(earlier):
            one = losses_detection.set_loss(each, labels, config)
            found |= {f"{name}_{index}": value for name, value in one.items()}
    result = {"loss": losses_detection.total(found, config), "loss_dict": found}
    return result | ({"auxiliary_outputs": earlier} if earlier else {})


class DetrForSegmentation(DetrPreTrainedModel):
    """Objects with masks: `logits`, `pred_boxes`, and `pred_masks` (batch, queries, height / 4, width / 4).

    Labels are those of detection, with `masks` (objects, height, width). With `auxiliary_loss` the outputs have
    `intermediate_hidden_states` as well, which the loss is computed from.
    """

    base_model_prefix = "detr"

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.detr = DetrForObjectDetection(config)
        channels = self.detr.model.backbone.conv_encoder.channels
        if len(channels) < 4:
            raise ValueError("Segmentation needs four feature maps: set out_features of backbone_config to all stages.")
        heads = config.encoder_attention_heads
        self.mask_head = MaskHead(config.d_model + heads, channels[-2::-1][:3], config.d_model)
        self.bbox_attention = AttentionMap(config.d_model, heads)

    def call(self, pixel_values=None, pixel_mask=None, encoder_outputs=None):
        bare = self.detr.model
        maps = bare.backbone(pixel_values)
        projected, real, encoded, states = bare.read(maps[-1], pixel_mask, encoder_outputs)
        outputs = bare.outputs_of(projected, real, encoded, states)
        memory = nn.to_picture(encoded, *nn.sizes(projected))
        attention = self.bbox_attention(outputs.last_hidden_state, memory, real)
        masks = self.mask_head(projected, attention, maps[-2::-1][:3])
        masks = ops.reshape(masks, (-1, self.config.num_queries, *ops.shape(masks)[1:3]))
        predicted = self.detr.predict_objects(outputs.last_hidden_state)
        return ModelOutput(**predicted, pred_masks=masks, **outputs)

    def pack_labels(self, labels):
        packed = self.detr.pack_labels(labels)
        if "masks" not in packed:
            raise ValueError("Segmentation learns from masks: let the image processor make them, with its annotations.")
        return packed

    def head_loss(self, outputs, labels):
        return set_losses(self.detr, outputs, labels, self.config)
