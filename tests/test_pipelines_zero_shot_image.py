"""Zero-shot image classification gives the reference's results, and runs each sentence through the model once."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from keras_models import CLIPVisionConfig, CLIPVisionModel, PreTrainedModel, pipeline
from keras_models.results import PictureResults
from tests import reference
from tests.test_pipelines_tasks import compare

TASK = "zero-shot-image-classification"
PICTURES = ("wolves.jpg", "bus.jpg", "pineapple.jpg")
TOWER = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3}
VISION = {**TOWER, "image_size": 32, "patch_size": 8}
LABELS = ["wolves in snow", "a bus", "Pineapple!", "the quick brown fox jumps over the lazy dog"]
LONG = "one two three four five six seven eight nine ten eleven twelve " * 8
CASES = [
    [0, LABELS, {}], [[1, 2], LABELS[:2], {"hypothesis_template": "{} in a picture"}],
    [2, LABELS[:1], {}], [[0, 1, 2], LABELS, {"hypothesis_template": "{}"}],
    [1, [*LABELS, LONG], {"tokenizer_kwargs": {"truncation": True}}],
    [0, LABELS, {"tokenizer_kwargs": {"padding": "max_length", "max_length": 20, "truncation": True}}],
]  # fmt: skip
SMALL = {"size": {"height": 32, "width": 32}}
MODELS = {
    "clip": {
        "architecture": "CLIPModel",
        "config": {"text_config": TOWER, "vision_config": VISION, "projection_dim": 16},
        "tokenizer": "CLIPTokenizerFast", "processor": "CLIPImageProcessor",
        "settings": {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}, "cases": CASES,
    },
    "siglip": {
        "architecture": "SiglipModel",
        "config": {"text_config": {**TOWER, "vocab_size": 240}, "vision_config": VISION},
        "tokenizer": "SiglipTokenizer", "processor": "SiglipImageProcessor", "settings": SMALL,
        "cases": [*CASES[:4], [1, [*LABELS, LONG], {}],
                  [0, LABELS, {"tokenizer_kwargs": {"padding": True}}]],
    },
}  # fmt: skip


def paths(shared):
    return [str(shared / "data" / "images" / name) for name in PICTURES]


def made(shared, name):
    """A folder with a model, and the reference's results for it."""
    clip = shared / "tokenizers" / "clip-vit-base-patch32"
    source = clip if name == "clip" else reference.make("sentencepiece_.trained", name="siglip")
    arguments = {**MODELS[name], "source": str(source), "pictures": paths(shared)}
    return reference.make("pipelines_zero_shot_image.run", **arguments)


@pytest.fixture(scope="module")
def classify(shared):
    return pipeline(TASK, made(shared, "clip"))


@pytest.fixture
def forwards(monkeypatch):
    """The inputs of what went through a model, with the sizes of the batches."""
    seen = []
    infer = PreTrainedModel.infer

    def counting(model, **inputs):
        seen.append({name: len(value) for name, value in inputs.items()})
        return infer(model, **inputs)

    monkeypatch.setattr(PreTrainedModel, "infer", counting)
    return seen


@pytest.mark.parametrize("name", MODELS)
def test_results(shared, name):
    folder = made(shared, name)
    pipe = pipeline(TASK, folder)
    sources = paths(shared)
    for (chosen, labels, options), expected in zip(
        MODELS[name]["cases"], json.loads((folder / "results.json").read_text()), strict=True
    ):
        where = f"{name}, pictures {chosen}, {options}"
        found = pipe(
            sources[chosen] if isinstance(chosen, int) else [sources[each] for each in chosen], labels, **options
        )
        compare(plain(found), expected, 1e-5, where)


def plain(results):
    return json.loads(json.dumps(results))


def test_sentences_run_once_for_all_pictures(classify, shared, forwards):
    sources = paths(shared) * 2
    expected = [classify(source, LABELS) for source in sources]
    forwards.clear()
    compare(plain(classify(sources, LABELS, batch_size=4)), plain(expected), 1e-5, "in batches")
    assert [each["pixel_values"] for each in forwards if "pixel_values" in each] == [4, 2]
    assert [each["input_ids"] for each in forwards if "input_ids" in each] == [4]
    forwards.clear()
    many = [f"thing {index}" for index in range(100)]
    assert len(classify(sources[0], many)) == 100
    assert [each["input_ids"] for each in forwards if "input_ids" in each] == [64, 36]


def test_calls_do_not_share_labels(classify, shared):
    one, other = paths(shared)[:2]
    first, second = (classify((each for each in (one, other)), labels) for labels in (LABELS[:2], LABELS[2:]))
    found = [next(first), next(second), next(first), next(second)]
    expected = [classify(source, labels) for source in (one, other) for labels in (LABELS[:2], LABELS[2:])]
    compare(plain(found), plain(expected), 1e-5, "at the same time")


def test_pictures_and_labels_of_any_kind(classify, shared):
    path = shared / "data" / "images" / PICTURES[0]
    picture = Image.open(path)
    expected = plain(classify(str(path), ["a bus", "wolves in snow"]))
    for source in (path, path.read_bytes(), picture, np.asarray(picture)):
        found = classify(source, candidate_labels="a bus, wolves in snow,")
        compare(plain(found), expected, 1e-6, type(source).__name__)
    compare(plain(classify(images=[picture], candidate_labels=("a bus", "wolves in snow"))), [expected], 1e-6, "images")
    compare(plain(classify(image=picture, candidate_labels=["a bus", "wolves in snow"])), expected, 1e-6, "image")
    fixed = pipeline(TASK, classify.model, tokenizer=classify.tokenizer, image_processor=classify.image_processor,
                     candidate_labels="a bus, wolves in snow")  # fmt: skip
    compare(plain(fixed(picture)), expected, 1e-6, "labels that the pipeline was made with")


def test_results_show_themselves(classify, shared, tmp_path):
    results = classify(paths(shared)[0], LABELS)
    assert isinstance(results, PictureResults) and [each["score"] for each in results] == sorted(
        (each["score"] for each in results), reverse=True
    )
    assert Image.open(io.BytesIO(results._repr_png_())).height <= 1600
    results.save(tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").size == results.draw().size


def test_a_model_tells_its_task(shared, tmp_path):
    for name in MODELS:
        pipe = pipeline(model=made(shared, name))
        assert pipe.task == TASK
    pipe.save_pretrained(tmp_path)
    again = pipeline(TASK, tmp_path)
    compare(plain(again(paths(shared)[0], LABELS)), plain(pipe(paths(shared)[0], LABELS)), 1e-6, "read again")


def test_bad_labels_are_told_in_a_sentence(classify, shared):
    path = paths(shared)[0]
    with pytest.raises(ValueError, match="candidate_labels is missing: give a list of labels"):
        classify(path)
    with pytest.raises(ValueError, match=r"candidate_labels must be strings, at least one, not \[\]"):
        classify(path, [])
    with pytest.raises(ValueError, match="candidate_labels must be strings, at least one, not ' ,'"):
        classify(path, " ,")
    with pytest.raises(ValueError, match=r"candidate_labels must be strings, at least one, not \['a', 3\]"):
        classify(path, ["a", 3])
    with pytest.raises(ValueError, match="hypothesis_template must be a sentence with {} where the label goes"):
        classify(path, LABELS, hypothesis_template="This is a photo.")
    with pytest.raises(TypeError, match="inputs must be a picture"):
        classify(None, LABELS)
    with pytest.raises(ValueError, match="cannot do zero-shot-image-classification: it needs a model for"):
        parts = {"tokenizer": classify.tokenizer, "image_processor": classify.image_processor}
        pipeline(TASK, CLIPVisionModel(CLIPVisionConfig(**VISION)), **parts)


def test_a_long_label_is_told(classify, shared):
    """The reference fails inside the model; the sentence to blame is named."""
    folder, path = str(made(shared, "clip")), paths(shared)[0]
    failure = reference.call("pipelines_zero_shot_image.failure", source=folder, picture=path, labels=["a bus", LONG])
    assert failure.startswith("ValueError: Sequence length must be less than max_position_embeddings")
    with pytest.raises(ValueError, match="The sentence 'This is a photo of one two.*positions for 77: shorten it, or"):
        classify(path, ["a bus", LONG])
