"""SigLIP against the reference: both towers, each head, every branch of the configuration."""

import numpy as np
import pytest

from keras_models import SiglipConfig, SiglipModel
from tests.parity import check, check_defaults

TEXT = {
    "vocab_size": 60, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3,
    "max_position_embeddings": 8, "projection_size": 16, "bos_token_id": 58, "eos_token_id": 59, "pad_token_id": 1,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 36, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 20,
    "patch_size": 5,
}  # fmt: skip
EAGER = {"attn_implementation": "eager"}  # so that the reference returns attentions
TINY = {"text_config": {**TEXT, **EAGER}, "vision_config": {**VISION, **EAGER}}
TEXTS = {"input_ids": {"shape": [3, 8], "high": 60}}
# The reference returns these of a tower alone, and not of both.
EXTRA = [f"{tower}_model_output.{name}" for tower in ("text", "vision") for name in ("hidden_states", "attentions")]
PICTURES = {"pixel_values": {"shape": [2, 3, 20, 20]}}


def test_texts_and_pictures():
    check("SiglipModel", TINY, {**TEXTS, **PICTURES}, extra=EXTRA)


def test_pairs():
    pairs = {**TEXTS, "pixel_values": {"shape": [3, 3, 20, 20]}, "return_loss": True}
    check("SiglipModel", TINY, pairs, {}, extra=EXTRA)


def test_text_tower():
    check("SiglipTextModel", TEXT, TEXTS)


def test_vision_tower():
    check("SiglipVisionModel", VISION, PICTURES)
    check("SiglipVisionModel", {**VISION, "vision_use_head": False}, PICTURES)


def test_configuration():
    check_defaults("SiglipTextConfig")
    check_defaults("SiglipVisionConfig", extra=("vision_use_head",))
    check_defaults("SiglipConfig")


@pytest.mark.parametrize(
    ("settings", "labels"), [({"num_labels": 3}, {"labels": [2, 0]}), ({"num_labels": 1}, {"labels": [0.3, -1.2]})]
)
def test_classification(settings, labels):
    check("SiglipForImageClassification", {**TINY, **settings}, PICTURES, labels)
