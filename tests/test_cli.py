"""The command line: every way in, both ways out, and what becomes of mistakes."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import keras
import msgpack
import numpy as np
import pytest
from typer.testing import CliRunner

from keras_models import cli, describe
from keras_models.checkpoint import save_weights
from keras_models.registry import ARCHITECTURES, TASKS
from tests import reference
from tests.hub_server import HubServer
from tests.test_checkpoint_files import flax_tree, write_tf

ROOT = Path(__file__).parents[1]
SMALL = {
    "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 64,
}  # fmt: skip
LABELS = ["bad", "poor", "fair", "good"]
TEXTS = ["Angela Merkel visited Redmond [sic] in July.", "Señor Müller ate 🦄.", "Short."]
CONTEXT = "Paris is the capital of France. Berlin is that of Germany."


@pytest.fixture(scope="module")
def saved(shared):
    """Folders of one classifier; see reference/command_line.py."""
    return reference.make(
        "command_line.classifier", config=SMALL | {"id2label": dict(enumerate(LABELS))}, texts=TEXTS,
        tokenizer=str(shared / "tokenizers" / "bert-base-uncased"), settings={"model_max_length": 64},
    )  # fmt: skip


@pytest.fixture(scope="module")
def scores(saved):
    """The labels with their scores for each of TEXTS, best first."""
    return json.loads((saved / "results.json").read_text())


def with_results(shared, task, architecture, config, cases):
    """A checkpoint for a task, and the reference's results for (arguments, options)."""
    folder = reference.make(
        "pipelines_.run", task=task, architecture=architecture, config=SMALL | config,
        tokenizer=str(shared / "tokenizers" / "bert-base-uncased"), settings={"model_max_length": 64},
        cases=[[arguments, options, {}] for arguments, options in cases],
    )  # fmt: skip
    return folder, json.loads((folder / "results.json").read_text())


def invoke(*arguments, input=None):
    environment = {"COLUMNS": "200", "KERAS_MODELS_DEBUG": None}
    return CliRunner().invoke(cli.app, [str(each) for each in arguments], input=input, env=environment)


def output(*arguments, input=None):
    """What a command that must succeed in silence prints."""
    result = invoke(*arguments, input=input)
    assert (result.exit_code, result.stderr) == (0, ""), result.stderr
    return result.stdout


def documents(*arguments, input=None):
    return [json.loads(line) for line in output("run", *arguments, "--json", input=input).splitlines()]


def failure(*arguments, input=None):
    """The message of a command that must fail for what it was given to work on."""
    result = invoke(*arguments, input=input)
    assert result.exit_code == 1, (result.stdout, result.stderr, result.exception)
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def misuse(*arguments):
    """The message of a command that must fail for the way it was called, without frame and line ends."""
    result = invoke(*arguments)
    assert result.exit_code == 2, (result.stdout, result.stderr, result.exception)
    return " ".join(re.sub("[│╭╮╰╯─]", " ", result.stderr).split())


def close(found, expected):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        pairs = [(found[key], value) for key, value in expected.items()]
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        pairs = list(zip(found, expected, strict=True))
    else:
        assert found == (pytest.approx(expected, abs=1e-4) if isinstance(expected, float) else expected)
        pairs = []
    for one, other in pairs:
        close(one, other)


# Inputs.


def test_texts_as_arguments(saved, scores):
    found = documents("sentiment-analysis", *TEXTS, "-m", saved / "single", "--option", "top_k=null")
    close(found, scores)


def test_top_k_and_batches(saved, scores):
    options = ("--top-k", "2", "--batch-size", "2", "--backend", keras.config.backend())
    close(documents("text-classification", *TEXTS, "-m", saved / "single", *options), [each[:2] for each in scores])


@pytest.mark.parametrize("place", [(), ("-",)])
def test_lines_of_standard_input(saved, scores, place):
    lines = "\n".join([TEXTS[0], "", TEXTS[1] + "\r", json.dumps({"text": TEXTS[2]})])
    found = documents("text-classification", *place, "-m", saved / "single", input=lines)
    close(found, [each[0] for each in scores])


def test_files(saved, scores, tmp_path):
    (tmp_path / "a.txt").write_text(f"\ufeff{TEXTS[0]}\n\n{TEXTS[1]}\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps(each) for each in (TEXTS[2], {"text": TEXTS[0]})))
    (tmp_path / "c.json").write_text(json.dumps([TEXTS[1], {"text": TEXTS[2]}]))
    (tmp_path / "d.json").write_text(json.dumps({"text": TEXTS[0]}))
    files = (
        f"@{tmp_path / 'c.json'}",
        "--file",
        tmp_path / "a.txt",
        "-f",
        tmp_path / "b.jsonl",
        f"@{tmp_path / 'd.json'}",
    )
    found = documents("text-classification", *files, "-m", saved / "single")
    close(found, [scores[index][0] for index in (0, 1, 2, 0, 1, 2, 0)])


def test_text_files_hold_texts(saved, tmp_path):
    text = json.dumps({"text": "Short."})
    (tmp_path / "a.txt").write_text(text)
    as_text, as_object = documents("text-classification", f"@{tmp_path / 'a.txt'}", text, "-m", saved / "single")
    assert as_text["score"] != pytest.approx(as_object["score"], abs=1e-3)


def test_texts_with_a_special_beginning(saved):
    shown = output("run", "text-classification", "@@user is here", "{ no JSON", "-m", saved / "single")
    assert "@user is here\n" in shown and "@@user" not in shown and "{ no JSON\n" in shown


def test_questions(shared, tmp_path):
    first, second, other = "What is the capital of France?", "And of Germany?", "Berlin is large."
    asked = [{"question": first, "context": CONTEXT}, {"question": second, "context": CONTEXT}]
    asked.append({"question": first, "context": other})
    folder, expected = with_results(
        shared, "question-answering", "BertForQuestionAnswering", {}, [([], each) for each in asked]
    )
    ask = ("question-answering", "-m", folder)
    close(documents(*ask, "--question", first, "--context", CONTEXT), expected[:1])
    close(documents(*ask, first, second, "--context", CONTEXT), expected[:2])
    close(documents(*ask, "--question", first, input=f"{CONTEXT}\n{other}\n"), [expected[0], expected[2]])
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, asked)))
    close(documents(*ask, "--file", tmp_path / "asked.jsonl"), expected)
    close(documents(*ask, json.dumps(asked[1])), expected[1:2])
    shown = output("run", *ask, first, "--context", CONTEXT)
    assert f"{first} · {CONTEXT}" in shown and re.search(r"score +start +end +answer", shown)
    assert "leave nothing for 'x' to be" in failure("run", *ask, "x", "--question", first, "--context", CONTEXT)


# Tasks and what they show.


def test_classification_shows_tables(saved, scores):
    shown = output("run", "text-classification", *TEXTS[:2], "-m", saved / "single", "--top-k", "2").splitlines()
    assert shown[0] == TEXTS[0] and shown.count("") == 2
    assert shown[1].split() == ["label", "score"]
    assert [line.split() for line in shown[3:5]] == [[e["label"], f"{e['score']:.4f}"] for e in scores[0][:2]]
    assert [line.split() for line in shown[9:11]] == [[e["label"], f"{e['score']:.4f}"] for e in scores[1][:2]]


def test_entities(shared):
    config = {"id2label": dict(enumerate(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]))}
    options = {"aggregation_strategy": "simple"}
    folder, expected = with_results(shared, "ner", "BertForTokenClassification", config, [([TEXTS[0]], options)])
    ask = ("ner", TEXTS[0], "-m", folder, "-o", "aggregation_strategy=simple")
    close(documents(*ask), expected)
    shown = output("run", *ask)
    assert re.search(r"entity_group +score +word +start +end", shown)
    assert shown.count("\n") == len(expected[0]) + 4
    everything = '["O","PER","LOC"]'
    assert "nothing found" in output("run", *ask, "-o", f"ignore_labels={everything}")


def test_masks(shared):
    texts = ["The [MASK] sat.", "[MASK] is [MASK]."]
    folder, expected = with_results(
        shared, "fill-mask", "BertForMaskedLM", {}, [([texts[0]], {"top_k": 2}), ([texts[1]], {"top_k": 2})]
    )
    ask = ("fill-mask", *texts, "-m", folder, "--top-k", "2")
    close(documents(*ask), expected)
    shown = output("run", *ask)
    assert "1 of 2" in shown and "2 of 2" in shown and expected[0][0]["sequence"] in shown


def test_zero_shot(shared):
    config = {"id2label": {"0": "contradiction", "1": "neutral", "2": "entailment"}}
    labels = ["politics", "sport"]
    cases = [([TEXTS[0]], {"candidate_labels": labels, "multi_label": True})]
    folder, expected = with_results(shared, "zero-shot-classification", "BertForSequenceClassification", config, cases)
    ask = ("zero-shot-classification", TEXTS[0], "-m", folder, "-o", "multi_label=true")
    close(documents(*ask, "--candidate-labels", "politics, sport"), expected)
    shown = output("run", *ask, "--candidate-labels", ",".join(labels)).splitlines()
    assert shown[1].split() == ["labels", "scores"]
    assert shown[3].split() == [expected[0]["labels"][0], f"{expected[0]['scores'][0]:.4f}"]
    assert "candidate_labels is missing" in failure("run", *ask)


def test_features(shared):
    folder, expected = with_results(shared, "feature-extraction", "BertModel", {}, [([TEXTS[2]], {})])
    ask = ("feature-extraction", TEXTS[2], "-m", folder)
    close(documents(*ask), expected)
    close(documents(*ask, "-o", "return_tensors=true"), expected)
    assert f"1 x 4 x 24 numbers: {expected[0][0][0][0]:.4f} " in output("run", *ask)


def test_dtype(saved, scores):
    (found,) = documents("text-classification", TEXTS[0], "-m", saved / "half", "--dtype", "auto", "-o", "top_k=null")
    found, expected = ({each["label"]: each["score"] for each in one} for one in (found, scores[0]))
    assert found == pytest.approx(expected, abs=0.01) and found != pytest.approx(expected, abs=1e-6)


# Lists and facts.


def test_lists():
    shown = output("list")
    assert re.search(r"text-classification +sentiment-analysis +preset:sst2-electra", shown)
    assert re.search(r"fill-mask +distilbert/distilroberta-base +fb53ab8", shown)
    assert all(name in shown for row in ARCHITECTURES.values() for name in row.classes.values())
    found = json.loads(output("list", "--json"))
    assert [each["task"] for each in found["tasks"]] == list(TASKS)
    assert found["tasks"][1] == {
        "task": "token-classification", "aliases": ["ner"], "revision": "4c53496",
        "default": "dbmdz/bert-large-cased-finetuned-conll03-english",
    }  # fmt: skip
    assert {each["model_type"]: each["tokenizer"] for each in found["architectures"]} == {
        name: row.tokenizer for name, row in ARCHITECTURES.items()
    }


def test_list_of_presets(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(describe, "PRESETS", tmp_path)
    assert output("list", "presets").split() == ["presets", "none"]
    shutil.copytree(saved / "single", tmp_path / "mine")
    assert json.loads(output("list", "presets", "--json")) == {
        "presets": [{"preset": "preset:mine", "class": "BertForSequenceClassification", "labels": LABELS}]
    }


@pytest.mark.parametrize("form", ["single", "bin", "half", "bare"])
def test_info(saved, form):
    folder = saved / form
    expected = json.loads((saved / "facts.json").read_text())
    head = 24 * 4 + 4
    parameters, tensors = expected["parameters"], expected["tensors"]
    if form == "bare":
        parameters, tensors = parameters - head, tensors - 2
    kind = "BertModel" if form == "bare" else "BertForSequenceClassification"
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    found = json.loads(output("info", folder, "--json"))
    assert found == {
        "model": str(folder),
        "model_type": "bert",
        "architectures": [kind],
        "class": kind,
        "parameters": parameters,
        "dtypes": {"float16" if form == "half" else "float32": parameters},
        "tensors": tensors,
        "format": "bin" if form == "bin" else "safetensors",
        "labels": LABELS,
        "tokenizer": "BertTokenizer",
        "model_max_length": 64,
        "max_position_embeddings": 64,
        "files": sizes,
        "size": sum(sizes.values()),
    }
    shown = output("info", folder)
    assert re.search(rf"^ parameters +{parameters:,} *$", shown, re.MULTILINE)
    assert "bad, poor, fair, good" in shown and "config.json (" in shown


def test_info_of_what_is_unknown(tmp_path):
    tensors = {"a": np.zeros((3, 5), "float32"), "b": np.zeros(7, "int64")}
    save_weights([(name, a.shape, a.dtype, lambda a=a: a) for name, a in tensors.items()], tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of"}')
    found = json.loads(output("info", tmp_path, "--json"))
    assert (found["parameters"], found["dtypes"], found["tensors"]) == (15, {"float32": 15, "int64": 7}, 2)
    known = {name for name in ("class", "labels", "tokenizer", "model_max_length") if found[name] is not None}
    assert not known
    assert "none in keras_models" in output("info", tmp_path)


# Conversion.


def arrays(folder):
    with describe.open_weights(describe.Repository(folder)) as weights:
        return {name: tensor.read() for name, tensor in weights.items()}


def equal(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("form", ["bin", "h5", "msgpack"])
def test_convert(tmp_path, form):
    saved = reference.make("checkpoint_files.model", name="bert")
    expected, source = arrays(saved / "single"), tmp_path / "source"
    if form == "bin":
        shutil.copytree(saved / "bin", source)
        assert len(list(source.glob("*.bin"))) > 1
    else:
        source.mkdir()
        shutil.copy(saved / "single" / "config.json", source)
    if form == "h5":
        write_tf(source / "tf_model.h5", "bert", expected)
    elif form == "msgpack":
        (source / "flax_model.msgpack").write_bytes(msgpack.packb(flax_tree("bert", expected)))
    result = invoke("convert", source, tmp_path / "target")
    assert result.exit_code == 0, result.stderr
    assert f"{len(expected)} tensors, as BertForMaskedLM" in result.stdout
    equal(arrays(tmp_path / "target"), expected)
    assert json.loads((tmp_path / "target" / "config.json").read_text())["architectures"] == ["BertForMaskedLM"]
    tied = "cls.predictions.decoder.bias, cls.predictions.decoder.weight"
    assert result.stderr == (
        f"warning: Not written, as BertForMaskedLM computes them or ties them to others: {tied}.\n"
        if form == "bin"
        else ""
    )


def test_convert_to_half_in_shards_with_all_files(saved, tmp_path):
    output("convert", saved / "bin", tmp_path, "--dtype", "float16", "--max-shard-size", "1MB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 1
    equal(arrays(tmp_path), arrays(saved / "half"))
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float16"
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        assert (tmp_path / name).read_bytes() == (saved / "bin" / name).read_bytes()
    assert output("run", "text-classification", TEXTS[0], "-m", tmp_path, "--offline")


def test_convert_keeps_the_dtype(saved, tmp_path):
    output("convert", saved / "half", tmp_path)
    equal(arrays(tmp_path), arrays(saved / "half"))


def write_changed(source, target, change, config=None):
    """A copy of a model with other tensors and settings."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors"))
    tensors = change(arrays(source))
    save_weights([(name, a.shape, a.dtype, lambda a=a: a) for name, a in tensors.items()], target)
    settings = json.loads((target / "config.json").read_text()) | (config or {})
    (target / "config.json").write_text(json.dumps(settings))
    return tensors


CHANGES = {
    "a tensor too many": (
        lambda tensors: tensors | {"second_head.weight": np.ones((2, 3), "float32")},
        {},
        "second_head",
    ),
    "a head that is not there": (
        lambda tensors: {name: array for name, array in tensors.items() if not name.startswith("classifier")},
        {},
        "missing keys: classifier.weight, classifier.bias",
    ),
    "two dtypes": (
        lambda tensors: tensors | {"classifier.bias": tensors["classifier.bias"].astype("float16")},
        {},
        None,
    ),
    "no architecture of ours": (lambda tensors: tensors, {"model_type": "unheard-of"}, None),
}


@pytest.mark.parametrize("name", CHANGES)
def test_convert_copies_what_fits_no_class(saved, tmp_path, name):
    change, config, warning = CHANGES[name]
    expected = write_changed(saved / "single", tmp_path / "source", change, config)
    result = invoke("convert", tmp_path / "source", tmp_path / "target")
    assert result.exit_code == 0, result.stderr
    assert "each under its own name" in result.stdout
    equal(arrays(tmp_path / "target"), expected)
    assert (warning in result.stderr and result.stderr.count("\n") == 1) if warning else result.stderr == ""
    before, after = (json.loads((tmp_path / each / "config.json").read_text()) for each in ("source", "target"))
    assert before == after


def test_convert_copies_with_another_dtype(saved, tmp_path):
    expected = write_changed(
        saved / "single",
        tmp_path / "source",
        lambda tensors: tensors | {"count": np.arange(3)},
        {"model_type": "unheard-of"},
    )
    output("convert", tmp_path / "source", tmp_path / "target", "--dtype", "float16")
    expected = {name: a.astype("float16") if a.dtype == "float32" else a for name, a in expected.items()}
    equal(arrays(tmp_path / "target"), expected)
    assert json.loads((tmp_path / "target" / "config.json").read_text())["dtype"] == "float16"


def test_convert_leaves_out_what_is_computed(saved, tmp_path):
    write_changed(
        saved / "single", tmp_path / "source", lambda t: t | {"bert.embeddings.position_ids": np.arange(64)[None]}
    )
    result = invoke("convert", tmp_path / "source", tmp_path / "target")
    assert result.exit_code == 0 and result.stderr.endswith("ties them to others: bert.embeddings.position_ids.\n")
    equal(arrays(tmp_path / "target"), arrays(saved / "single"))


def test_convert_refuses(saved, tmp_path):
    shutil.copytree(saved / "single", tmp_path / "same")
    assert "own folder: give another" in failure("convert", tmp_path / "same", tmp_path / "same")
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "config.json").write_text('{"model_type": "unheard-of"}')
    assert "holds no weights" in failure("convert", strange, tmp_path / "target")
    with h5py.File(strange / "tf_model.h5", "w") as file:
        file["a/b/dense/kernel:0"] = np.ones((2, 3), "float32")
    assert "'unheard-of' model, which keras_models has no class for" in failure("convert", strange, tmp_path / "target")
    assert "'12 XB'" in failure("convert", saved / "single", tmp_path / "target", "--max-shard-size", "12 XB")
    assert "float7" in misuse("convert", saved / "single", tmp_path / "target", "--dtype", "float7")


# Mistakes.


def test_errors_are_a_line(saved, tmp_path):
    model = ("-m", saved / "single")
    run = ("run", "text-classification")
    assert "'sentiment-analysis'" in failure("run", "sentiment-analyse", "x")
    assert "no option 'top_kk'. Did you mean 'top_k'?" in failure(*run, "x", *model, "-o", "top_kk=3")
    assert "positions for 64" in failure(*run, "word " * 80, *model)
    assert "There is no file 'config.json'" in failure("info", tmp_path)
    assert "drop --offline to go online" in failure(*run, "x", "-m", "nobody/nothing", "--offline")
    assert "There is no preset 'nothing'" in failure("info", "preset:nothing")
    (tmp_path / "a.jsonl").write_text('"x"\n{"text": \n')
    assert f"line 2 of {tmp_path / 'a.jsonl'} is not JSON" in invoke(*run, *model, f"@{tmp_path / 'a.jsonl'}").stderr
    (tmp_path / "a.txt").write_bytes("Müller".encode("latin-1"))
    assert f"{tmp_path / 'a.txt'} is not UTF-8 text" in failure(*run, *model, "--file", tmp_path / "a.txt")


def test_results_before_an_error_are_shown(saved, scores):
    result = invoke("run", "text-classification", *TEXTS[:2], "word " * 80, "-m", saved / "single", "--json")
    assert result.exit_code == 1 and result.stderr.startswith("error: inputs[2] is 82 tokens long")
    close([json.loads(line) for line in result.stdout.splitlines()], [each[0] for each in scores[:2]])


def test_misuse(saved, tmp_path):
    run = ("run", "text-classification", "-m", saved / "single")
    assert "there is no file user; a text that begins with @ is written @@user" in misuse(*run, "@user")
    assert f"'{tmp_path / 'none'}' does not exist" in misuse(*run, "-f", tmp_path / "none")
    assert "'top_k' must have the form NAME=VALUE" in misuse(*run, "x", "-o", "top_k")
    assert "'numpy'" in misuse(*run, "x", "--backend", "numpy")
    assert "--top-k" in misuse(*run, "x", "--top-k", "0")
    assert "presents" in misuse("list", "presents")


def test_no_input_at_a_terminal(saved, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(SystemExit) as stopped:
        cli.app(["run", "text-classification", "-m", str(saved / "single")])
    assert stopped.value.code == 2 and "there is no text" in capsys.readouterr().err


def test_backend_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(cli, "find_spec", lambda name: object() if name == "jax" else None)
    message = failure("run", "text-classification", "x", "--backend", "torch")
    assert "torch is not installed: install it with `pip install -e '.[torch]'`" in message
    assert message.endswith("with --backend or KERAS_BACKEND what is: jax.\n")

    def import_keras(name):  # as it fails where keras.json names a backend that is not there
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")

    monkeypatch.setattr(cli, "import_module", import_keras)
    assert "tensorflow is not installed: install it" in failure("run", "text-classification", "x")


def test_debug_shows_where_it_arose():
    result = invoke("--debug", "run", "no-such-task", "x")
    assert isinstance(result.exception, ValueError) and "no-such-task" in str(result.exception)


def test_warnings_are_a_line(saved, monkeypatch):
    def warn(**hub):
        warnings.warn("Mind\nthe [gap].")
        return describe.tasks()

    monkeypatch.setattr(describe, "presets", warn)
    result = invoke("list", "presets")
    assert (result.exit_code, result.stderr) == (0, "warning: Mind the [gap].\n")


# As a program.


def program(*arguments, **environment):
    command = [sys.executable, "-m", "keras_models", *map(str, arguments)]
    environment = {**os.environ, "KERAS_BACKEND": keras.config.backend(), **environment}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, encoding="utf-8", **pipes)


def test_results_stream_until_interrupted(saved, scores):
    with program("run", "text-classification", "-m", saved / "single", "--json") as process:
        for text, expected in zip(TEXTS, scores, strict=True):
            process.stdin.write(text + "\n")
            process.stdin.flush()
            close(json.loads(process.stdout.readline()), expected[0])
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
        assert process.stderr.read().strip() in ("", "Aborted.")  # older versions of typer say so
        assert process.wait() in (1, 130)


def test_readers_may_leave(saved):
    with program("run", "text-classification", "-m", saved / "single") as process:
        process.stdin.write("one\n")
        process.stdin.flush()
        assert process.stdout.readline() == "one\n"
        process.stdout.close()
        process.stdin.write("two\n" * 9)
        process.stdin.close()
        assert (process.wait(), process.stderr.read()) == (1, "")


def test_info_of_the_hub(saved, tmp_path):
    with HubServer(tmp_path / "hub") as hub:
        files = {path.name: path.read_bytes() for path in (saved / "half").iterdir()}
        hub.add("tester/model", files)
        for options in (), ("--offline",):
            with program("info", "tester/model", "--json", *options, **hub.environment(tmp_path / "home")) as process:
                stdout, stderr = process.communicate()
            found, expected = json.loads(stdout), json.loads(output("info", saved / "half", "--json"))
            wanted = ("config.json", "model.safetensors", "tokenizer_config.json", "tokenizer.json")
            assert found["files"] == {name: len(files[name]) for name in sorted(wanted)}, stderr
            same = expected.keys() - {"model", "files", "size"}
            assert {name: found[name] for name in same} == {name: expected[name] for name in same}


def test_help_and_facts_need_no_keras(saved):
    script = f"""
import sys
from keras_models.cli import app
for arguments in (["--help"], ["run", "--help"], ["list"], ["info", {str(saved / "single")!r}]):
    app(arguments, standalone_mode=False)
    slow = {{"keras", "jax", "torch", "tensorflow", "h5py"}} & set(sys.modules)
    assert not (slow - ({{"h5py"}} if arguments[0] != "--help" else set())), (arguments, slow)
"""
    process = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert "Usage:" in process.stdout and "BertForMaskedLM" in process.stdout and "bad, poor" in process.stdout


def test_the_packaged_classifier():
    text = "We are very happy to introduce pipeline to the transformers repository."
    (found,) = documents("sentiment-analysis", text)
    assert found["label"] == "POSITIVE"
    assert found["score"] > 0.9
