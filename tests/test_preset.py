"""The sentiment classifier that comes with the package: small, good, and there without a network."""

from pathlib import Path

import pytest

import keras_models
from keras_models import pipeline

FOLDER = Path(keras_models.__file__).parent / "presets" / "sst2-electra"


@pytest.fixture(scope="module")
def classify():
    return pipeline("sentiment-analysis")


def test_it_is_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 12_000_000


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("We are very happy to introduce pipeline to the transformers repository.", "POSITIVE"),
        ("We are very happy to introduce pipelines.", "POSITIVE"),
        ("I hate this.", "NEGATIVE"),
        ("The food was delicious and the staff were lovely!", "POSITIVE"),
        ("Worst purchase ever, it broke after two days.", "NEGATIVE"),
        ("not bad at all", "POSITIVE"),
    ],
)
def test_everyday_sentences(classify, text, label):
    (result,) = classify(text)
    assert result["label"] == label
    assert result["score"] > 0.9


def test_it_gets_85_in_100_film_reviews_right(classify, shared):
    """On sentences that it was not trained on."""
    lines = (shared / "data" / "sst2" / "dev.tsv").read_text(encoding="utf-8").splitlines()
    texts, labels = zip(*(line.rsplit("\t", 1) for line in lines), strict=True)
    found = classify(list(texts), batch_size=64)
    right = [
        result["label"] == ("NEGATIVE", "POSITIVE")[int(label)] for result, label in zip(found, labels, strict=True)
    ]
    assert sum(right) / len(right) >= 0.85
