"""Every task and every option of it against the reference, with tiny random models and real tokenizers."""

import json
import warnings

import pytest

from keras_models import pipeline
from tests import reference

SMALL = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
SIZES = {"layers": 1, "attention_heads": 2, "ffn_dim": 32}
# name -> (settings of the configuration, tokenizer, settings of the tokenizer)
ARCHITECTURES = {
    "Bart": (
        {"d_model": 24, "max_position_embeddings": 64}
        | {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in SIZES.items()},
        "bart-large-cnn",
        {"model_max_length": 64},
    ),
    "Bert": (SMALL | {"max_position_embeddings": 64}, "bert-base-uncased", {"model_max_length": 64}),
    "DistilBert": (
        {"dim": 24, "n_layers": 1, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 64},
        "bert-base-uncased",
        {"model_max_length": 64},
    ),
    "Electra": (
        SMALL | {"max_position_embeddings": 64, "embedding_size": 16},
        "electra-small",
        {"model_max_length": 64},
    ),
    "Roberta": (
        SMALL | {"max_position_embeddings": 66, "type_vocab_size": 1},
        "roberta-base",
        {"model_max_length": 64, "add_prefix_space": True},
    ),
}
NEWS = "Angela Merkel visited the Microsoft headquarters in Redmond, Washington on a Wednesday in July 2014."
MIXED = "İstanbul'da Señor Müller-Lüdenscheidt ate 我爱 and unbelievably tasty 🦄 crème-brûlée!"
LONG = " ".join(
    [NEWS, "Afterwards Barack Obama and Ban Ki-moon met", NEWS, MIXED, "Then Wolfgang left Berlin for Rio de Janeiro."]
)
TEXTS = [NEWS, "Short.", MIXED]


MOST = ("Bert", "Roberta")  # of the tokenizers that differ; the others run a few cases each


def checkpoint(shared, task, architecture, head, config, cases=()):
    """A folder with a tiny checkpoint, its tokenizer, and the reference's results for the cases."""
    settings, tokenizer, overrides = ARCHITECTURES[architecture]
    return reference.make(
        "pipelines_.run", task=task, architecture=architecture + head, config=settings | config,
        tokenizer=str(shared / "tokenizers" / tokenizer), settings=overrides, cases=cases,
    )  # fmt: skip


def check(shared, task, architecture, head, config, cases, tolerance=1e-5):
    """Runs cases, (arguments, options, options of `pipeline`), and compares them with the reference's results."""
    folder = checkpoint(shared, task, architecture, head, config, cases)
    expected = json.loads((folder / "results.json").read_text())
    pipe = pipeline(task, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is deprecated here has its tests elsewhere
        for (arguments, options, making), result in zip(cases, expected, strict=True):
            one = pipeline(task, pipe.model, tokenizer=pipe.tokenizer, **making) if making else pipe
            compare(one(*arguments, **options), result, tolerance, f"{arguments} {options} {making}")
    return pipe, expected


def compare(found, expected, tolerance, where):
    """Asserts equality, of numbers to a tolerance."""
    if isinstance(expected, float):
        assert isinstance(found, float) and found == pytest.approx(expected, rel=0, abs=tolerance), where
    elif isinstance(expected, dict):
        assert isinstance(found, dict) and found.keys() == expected.keys(), (found, expected, where)
        for key, value in expected.items():
            compare(found[key], value, tolerance, f"{where} {key}")
    elif isinstance(expected, list):
        assert isinstance(found, list) and len(found) == len(expected), (found, expected, where)
        for index, value in enumerate(expected):
            compare(found[index], value, tolerance, f"{where} [{index}]")
    else:
        assert type(found) is type(expected) and found == expected, (found, expected, where)


LABELS = {"num_labels": 4, "id2label": {"0": "bad", "1": "poor", "2": "fair", "3": "good"}}
PAIR = {"text": NEWS, "text_pair": "Who was it?"}
CLASSIFICATION = [
    ([NEWS], {}, {}),
    ([TEXTS], {}, {}),
    ([TEXTS], {"batch_size": 2}, {}),
    ([PAIR], {}, {}),
    ([[PAIR, {"text": "Alone."}]], {"top_k": 2}, {}),
    ([[[[NEWS, "Who was it?"]]]], {}, {}),
    ([NEWS], {"top_k": 1}, {}),
    ([NEWS], {"top_k": None}, {}),
    ([NEWS], {"top_k": 9}, {}),
    ([TEXTS], {"top_k": 3}, {}),
    ([NEWS], {}, {"top_k": 2}),
    ([NEWS], {"return_all_scores": True}, {}),
    ([TEXTS], {"return_all_scores": True}, {}),
    ([TEXTS], {"return_all_scores": False}, {}),
    ([NEWS], {}, {"return_all_scores": True}),
    ([TEXTS], {"function_to_apply": "sigmoid", "top_k": None}, {}),
    ([TEXTS], {"top_k": None}, {"function_to_apply": "none"}),
    ([NEWS], {"function_to_apply": "SoftMax"}, {"function_to_apply": "none"}),
    ([LONG], {"truncation": True}, {}),
    ([LONG], {"truncation": True, "max_length": 20, "padding": "max_length"}, {}),
]


@pytest.mark.parametrize("architecture", [*MOST, "DistilBert"])
def test_text_classification(shared, architecture):
    cases = CLASSIFICATION if architecture == "Bert" else CLASSIFICATION[:5]
    check(shared, "text-classification", architecture, "ForSequenceClassification", LABELS, cases)


@pytest.mark.parametrize(
    "config",
    [
        {"num_labels": 1},
        {"num_labels": 1, "problem_type": "regression"},
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        {"num_labels": 3, "problem_type": "single_label_classification", "return_all_scores": True},
    ],
)
def test_scores_follow_the_configuration(shared, config):
    cases = [([NEWS], {}, {}), ([TEXTS], {"top_k": None}, {})]
    check(shared, "sentiment-analysis", "Bert", "ForSequenceClassification", config, cases)


ENTITIES = {"id2label": dict(enumerate(["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC"]))}
STRATEGIES = ["none", "simple", "first", "average", "max"]
TOKENS = [
    ([NEWS], {}, {}),
    ([TEXTS], {"batch_size": 2}, {}),
    *[([MIXED], {"aggregation_strategy": strategy, "ignore_labels": []}, {}) for strategy in STRATEGIES],
    *[([LONG], {"aggregation_strategy": strategy, "stride": 9}, {}) for strategy in STRATEGIES[1:]],
    ([LONG], {"stride": 20}, {}),
    ([[LONG, NEWS]], {"batch_size": 3}, {"aggregation_strategy": "max", "stride": 5}),
    ([LONG], {}, {}),
    ([NEWS], {"ignore_labels": ["PER", "MISC", "O"]}, {"aggregation_strategy": "SIMPLE"}),
    ([NEWS], {"ignore_labels": ["B-PER", "MISC"]}, {}),
    ([NEWS], {"grouped_entities": True}, {}),
    ([NEWS], {"grouped_entities": True, "ignore_subwords": True}, {}),
    ([NEWS], {"ignore_subwords": True}, {}),
    ([NEWS], {"aggregation_strategy": "simple"}, {"grouped_entities": False}),
    ([NEWS.split()], {"is_split_into_words": True}, {}),
    ([[NEWS.split(), MIXED.split()]], {"is_split_into_words": True, "aggregation_strategy": "average"}, {}),
    ([MIXED.split()], {"is_split_into_words": True, "aggregation_strategy": "first", "delimiter": " -- "}, {}),
    ([LONG.split()], {"is_split_into_words": True, "aggregation_strategy": "max", "stride": 7, "delimiter": ""}, {}),
]


@pytest.mark.parametrize("architecture", [*MOST, "Electra"])
def test_token_classification(shared, architecture):
    cases = TOKENS if architecture in MOST else TOKENS[:5]
    check(shared, "ner", architecture, "ForTokenClassification", ENTITIES, cases)


def questions(shared):
    """Two long paragraphs with questions from XQuAD."""
    data = json.loads((shared / "data" / "qa" / "xquad.en.json").read_text())["data"]
    paragraphs = [data[0]["paragraphs"][0], data[3]["paragraphs"][1]]
    return [(each["context"], [entry["question"] for entry in each["qas"][:2]]) for each in paragraphs]


@pytest.mark.parametrize("architecture", [*MOST, "DistilBert"])
def test_question_answering(shared, architecture):
    (context, (first, second)), (other, (third, _)) = questions(shared)
    one = {"question": first, "context": context}
    pieces = {"doc_stride": 12, "max_seq_len": 50}
    cases = [
        ([], one, {}),
        ([], {**one, "top_k": 3, "batch_size": 4}, {}),
        ([], {**one, "top_k": 3, **pieces}, {}),
        ([], {"question": [first, second], "context": context, **pieces}, {}),
        ([], {"question": [first, third], "context": [context, other], "batch_size": 3}, {}),
        ([first, NEWS], {}, {}),
        ([one], {"top_k": 2}, {}),
        ([[one, {"question": third, "context": other}]], {}, {}),
        ([{"question": [first, third], "context": [context, other]}], {}, {}),
        ([[one]], {"topk": 2}, {}),
        ([], {"question": [first], "context": context}, {}),
        ([], {**one, "max_answer_len": 1, "top_k": 4}, {}),
        ([], {**one, "max_answer_len": 40}, {}),
        ([], {**one, "handle_impossible_answer": True, "top_k": 30}, {}),
        ([], {**one, "align_to_words": False, "top_k": 4, **pieces}, {}),
        ([], {"question": first, "context": MIXED, "top_k": 3, "align_to_words": False}, {}),
        ([], {"question": first, "context": MIXED, "top_k": 3}, {}),
        ([], {**one, "padding": "max_length", **pieces}, {}),
        ([], {**one, "max_question_len": 50}, {"top_k": 2, "max_seq_len": 60, "handle_impossible_answer": True}),
    ]
    cases = cases if architecture in MOST else cases[:3]
    check(shared, "question-answering", architecture, "ForQuestionAnswering", {}, cases)


@pytest.mark.parametrize("architecture", [*MOST, "Electra"])
def test_fill_mask(shared, architecture):
    mask = "<mask>" if architecture == "Roberta" else "[MASK]"
    one, two = f"Paris is the {mask} of France.", f"The {mask} sat on the {mask}."
    cases = [
        ([one], {}, {}),
        ([[one, two]], {"top_k": 2}, {}),
        ([[one, two, f"{mask} is {mask} or {mask}"]], {"batch_size": 3}, {}),
        ([[one]], {}, {"top_k": 3}),
        ([one], {"targets": ["capital", "king", "capital"]}, {}),
        ([one], {"targets": "unbelievably", "top_k": 3}, {}),
        ([two], {"targets": ["cat", "floccinaucinihilipilification", ""], "top_k": 2}, {}),
        ([one + " " + LONG], {"tokenizer_kwargs": {"truncation": True}}, {}),
        ([one], {}, {"tokenizer_kwargs": {"add_special_tokens": False}}),
        ([one], {"tokenizer_kwargs": {"padding": "max_length", "max_length": 30}}, {}),
    ]
    cases = cases if architecture in MOST else cases[:3]
    check(shared, "fill-mask", architecture, "ForMaskedLM", {}, cases)


INFERENCE = {"id2label": {"0": "contradiction", "1": "neutral", "2": "Entailment"}}
TOPICS = ["politics", "sport", "food and drink"]
ZERO_SHOT = [
    ([NEWS, TOPICS], {}, {}),
    ([TEXTS], {"candidate_labels": TOPICS, "batch_size": 4}, {}),
    ([NEWS], {"candidate_labels": "politics, sport,food , "}, {}),
    ([NEWS], {"candidate_labels": TOPICS, "multi_label": True}, {}),
    ([NEWS], {"candidate_labels": TOPICS, "multi_class": True}, {}),
    ([NEWS], {"candidate_labels": "politics"}, {}),
    (
        [[NEWS]],
        {"multi_label": True},
        {"candidate_labels": TOPICS, "hypothesis_template": "{}? Yes, it is about {}."[4:]},
    ),
    ([LONG], {"candidate_labels": TOPICS, "hypothesis_template": "It is on {0}; {0} it is."}, {}),
]


@pytest.mark.parametrize("architecture", [*MOST, "Bart"])
def test_zero_shot(shared, architecture):
    cases = ZERO_SHOT if architecture == "Bert" else ZERO_SHOT[:2]
    check(shared, "zero-shot-classification", architecture, "ForSequenceClassification", INFERENCE, cases)


@pytest.mark.filterwarnings("ignore:No label of the model")
@pytest.mark.parametrize("labels", [["entailment", "neutral", "contradiction"], ["no", "perhaps", "yes"]])
def test_zero_shot_finds_the_labels(shared, labels):
    config = {"id2label": dict(enumerate(labels))}
    cases = [(*ZERO_SHOT[0],), (*ZERO_SHOT[3],)]
    check(shared, "zero-shot-classification", "Bert", "ForSequenceClassification", config, cases)


@pytest.mark.parametrize("architecture", MOST)
def test_feature_extraction(shared, architecture):
    cases = [
        ([NEWS], {}, {}),
        ([TEXTS], {}, {}),
        ([LONG], {"truncation": True}, {}),
        ([NEWS], {"tokenize_kwargs": {"truncation": True, "max_length": 7}}, {}),
        ([NEWS], {"tokenize_kwargs": {"add_special_tokens": False}}, {}),
    ]
    pipe, expected = check(shared, "feature-extraction", architecture, "Model", {}, cases, tolerance=1e-4)
    compare(pipe(TEXTS, batch_size=3), expected[1], 1e-4, "without the padding of a batch")
    compare(pipe(NEWS, return_tensors="np").tolist(), expected[0], 1e-4, "as an array")
    assert pipe(NEWS, return_tensors=True).shape == pipe(NEWS, return_tensors="np").shape
