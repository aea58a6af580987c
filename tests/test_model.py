"""What every model inherits: calls, loading, saving, Keras' training and the messages for bad input."""

import ast
import functools
import json
import shutil
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_models
from keras_models import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    CheckpointError,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)
from keras_models.checkpoint import open_checkpoint
from tests import reference
from tests.parity import compare, flatten, rewrite
from tests.test_bert import TEXT, TINY

ROOT = Path(keras_models.__file__).parent


@pytest.fixture(scope="module")
def masked_lm():
    """A folder with a BertForMaskedLM of the reference, and its inputs and outputs."""
    return reference.make("models.checkpoint", architecture="BertForMaskedLM", config=TINY, inputs=TEXT)


@pytest.fixture
def arrays(masked_lm):
    return dict(np.load(masked_lm / "inputs.npz"))


@pytest.fixture
def tiny():
    keras.utils.set_random_seed(0)
    return BertForSequenceClassification(BertConfig(**TINY, num_labels=3))


def to_numpy(x):
    return ops.convert_to_numpy(x)


# --------------------------------------------------------------------------------------------- calls


def test_inputs_by_name_by_order_and_as_a_dictionary_are_the_same(tiny, arrays):
    expected = to_numpy(tiny(**arrays).logits)
    in_order = [arrays["input_ids"], arrays["attention_mask"], arrays["token_type_ids"]]
    as_lists = {name: array.tolist() for name, array in arrays.items()}
    as_tensors = {name: ops.convert_to_tensor(array) for name, array in arrays.items()}
    for outputs in (tiny(arrays), tiny(*in_order), tiny(as_lists), tiny(**as_tensors), tiny.infer(arrays)):
        np.testing.assert_allclose(to_numpy(outputs.logits), expected, atol=1e-5)


def test_one_sequence_needs_no_batch_axis(tiny):
    np.testing.assert_allclose(to_numpy(tiny([4, 5, 6]).logits), to_numpy(tiny([[4, 5, 6]]).logits), atol=1e-6)


def test_token_types_are_left_out_where_a_model_has_none(arrays):
    """Many DistilBERT repositories come with BERT's tokenizer."""
    config = DistilBertConfig(vocab_size=60, dim=24, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=40)
    model = DistilBertForSequenceClassification(config)
    without = {name: array for name, array in arrays.items() if name != "token_type_ids"}
    np.testing.assert_allclose(to_numpy(model(**arrays).logits), to_numpy(model(**without).logits), atol=1e-6)
    model.compile("sgd")
    assert np.isfinite(model.train_on_batch(arrays, np.array([0, 1])))


def test_outputs_read_as_attributes_keys_and_positions(tiny, arrays):
    outputs = tiny(**arrays, labels=[0, 2], output_hidden_states=True)
    assert list(outputs) == ["loss", "logits", "hidden_states"]
    assert outputs.logits is outputs["logits"] is outputs[1] is outputs.to_tuple()[1]
    assert outputs.attentions is None
    assert len(outputs.hidden_states) == TINY["num_hidden_layers"] + 1
    with pytest.raises(AttributeError, match="no 'logit'; it returned loss, logits"):
        _ = outputs.logit


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"input_idz": [[1]]}, TypeError, "no input 'input_idz'. Did you mean 'input_ids'"),
        ({}, ValueError, "called without inputs"),
        ({"args": [[[1]]] * 9}, TypeError, "takes 8 inputs, not 9: input_ids, attention_mask"),
        ({"input_ids": [[]]}, ValueError, "is empty"),
        ({"input_ids": [[1, 2], [3]]}, ValueError, "different lengths: pad them"),
        ({"input_ids": "some text"}, TypeError, "not numbers"),
        ({"input_ids": [[1] * 41]}, ValueError, "41 tokens long .* has positions for 40: shorten the text"),
        ({"input_ids": [[1]], "labels": [3]}, ValueError, "Label 3 is out of range: the model has 3 classes, 0 to 2"),
    ],
)
def test_bad_inputs_are_told_in_a_sentence(tiny, arguments, error, message):
    with pytest.raises(error, match=message):
        tiny(*arguments.pop("args", ()), **arguments)


def test_a_missing_label_is_named():
    model = BertForQuestionAnswering(BertConfig(**TINY))
    with pytest.raises(ValueError, match="needs end_positions too, besides start_positions"):
        model([[1, 2]], start_positions=[0])
    with pytest.raises(TypeError, match="BertModel has no head with a loss"):
        BertModel(BertConfig(**TINY))([[1, 2]], labels=[0])


def test_lengths_fall_into_buckets(tiny, monkeypatch):
    """A new length compiles no new program: one bucket on JAX, one graph of free length on TensorFlow."""
    traces = []
    run = BertModel._run

    @functools.wraps(run)
    def counted(self, **inputs):
        traces.append(1)
        return run(self, **inputs)

    monkeypatch.setattr(BertModel, "_run", counted)
    lengths = (3, 6, 7, 9, 12, 13, 5)
    outputs = [tiny.infer(np.arange(length)[None], output_attentions=True) for length in lengths]
    if keras.config.backend() != "torch":
        assert len(traces) <= 3
    for length, output in zip(lengths, outputs, strict=True):
        compare(flatten(tiny(np.arange(length)[None], output_attentions=True)), flatten(output), 1e-5)


def test_a_smaller_batch_takes_the_program_of_the_larger_one(tiny, monkeypatch):
    traces = []
    run = BertModel._run

    @functools.wraps(run)
    def counted(self, **inputs):
        traces.append(1)
        return run(self, **inputs)

    ids = np.random.default_rng(0).integers(3, 60, (4, 12))
    expected = tiny.infer(ids).logits
    monkeypatch.setattr(BertModel, "_run", counted)
    for rows in (4, 3, 2):
        np.testing.assert_allclose(tiny.infer(ids[:rows], np.ones_like(ids[:rows])).logits, expected[:rows], atol=1e-5)
    if keras.config.backend() == "jax":
        assert len(traces) == 0


def test_threads_do_not_disturb_each_other(tiny, arrays):
    expected = tiny.infer(**arrays, output_attentions=True)
    found = [None] * 4

    def work(index):
        found[index] = tiny.infer(**arrays, output_attentions=bool(index % 2))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(found))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, outputs in enumerate(found):
        assert ("attentions" in outputs) == bool(index % 2)
        np.testing.assert_allclose(outputs.logits, expected.logits, atol=1e-6)


def test_only_the_runtime_knows_backends():
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            found = {name.split(".")[0] for name in names} & {"jax", "torch", "tensorflow", "transformers"}
            assert not found or path.parent.name == "runtime", (path, found)


# ------------------------------------------------------------------------------------------- loading


def test_a_head_loads_into_the_bare_model_and_the_bare_model_into_a_head(masked_lm, arrays, tmp_path):
    expected = to_numpy(
        BertForMaskedLM.from_pretrained(masked_lm)(**arrays, output_hidden_states=True).hidden_states[-1]
    )
    with pytest.warns(UserWarning, match="pooler.dense.weight, pooler.dense.bias not in the checkpoint"):
        bare = BertModel.from_pretrained(masked_lm)
    np.testing.assert_allclose(to_numpy(bare(**arrays).last_hidden_state), expected, atol=1e-6)
    bare.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="cls.predictions"):
        head = BertForMaskedLM.from_pretrained(tmp_path)
    found = head(**arrays, output_hidden_states=True).hidden_states[-1]
    np.testing.assert_allclose(to_numpy(found), expected, atol=1e-6)


def test_names_of_old_checkpoints(masked_lm, arrays, tmp_path):
    def change(tensors):
        old = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
            for name, array in tensors.items()
        }
        extra = {
            "bert.embeddings.position_ids": np.arange(40)[None],
            "cls.seq_relationship.weight": np.zeros((2, 24), "float32"),
            "cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"],
            "bert.pooler.dense.weight": np.zeros((24, 24), "float32"),
        }
        return {**old, **extra}

    model, report = BertForMaskedLM.from_pretrained(
        rewrite(masked_lm, tmp_path / "old", change), output_loading_info=True
    )
    expected = dict(np.load(masked_lm / "outputs.npz"))["logits"]
    np.testing.assert_allclose(to_numpy(model(**arrays).logits), expected, atol=1e-5)
    assert report["missing_keys"] == report["mismatched_keys"] == []
    assert sorted(report["unexpected_keys"]) == ["bert.pooler.dense.weight", "cls.seq_relationship.weight"]


def test_a_tied_weight_may_be_stored_under_its_other_name_only(masked_lm, arrays, tmp_path):
    def change(tensors):
        tensors["cls.predictions.decoder.weight"] = tensors.pop("bert.embeddings.word_embeddings.weight")
        tensors["cls.predictions.decoder.bias"] = tensors.pop("cls.predictions.bias")
        return tensors

    model = BertForMaskedLM.from_pretrained(rewrite(masked_lm, tmp_path / "other", change))
    expected = dict(np.load(masked_lm / "outputs.npz"))["logits"]
    np.testing.assert_allclose(to_numpy(model(**arrays).logits), expected, atol=1e-5)


def drop(name):
    return lambda tensors: {key: array for key, array in tensors.items() if key != name}


def add(name):
    return lambda tensors: {**tensors, name: np.zeros((2, 2), "float32")}


def reshape(name):
    return lambda tensors: {**tensors, name: np.zeros((5, 7), "float32")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("bert.encoder.layer.1.output.dense.weight"), "missing .*: bert.encoder.layer.1.output.dense.weight"),
        (add("bert.encoder.layer.2.output.dense.weight"), "not in the model: bert.encoder.layer.2.output.dense.weight"),
        (
            reshape("bert.encoder.layer.0.attention.self.query.weight"),
            r"query.weight \(stored \(5, 7\), expected \(24, 24\)\)",
        ),
        (lambda tensors: {f"x.{name}": array for name, array in tensors.items()}, "not one of BertForMaskedLM"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(masked_lm, tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message):
        BertForMaskedLM.from_pretrained(rewrite(masked_lm, tmp_path / "wrong", change))


def test_a_new_number_of_labels(tiny, tmp_path):
    tiny.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="classifier.weight .*ignore_mismatched_sizes=True"):
        BertForSequenceClassification.from_pretrained(tmp_path, num_labels=5)
    with pytest.warns(UserWarning, match="classifier.weight, classifier.bias not in the checkpoint|newly initialised"):
        model = BertForSequenceClassification.from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    assert model([[1, 2]]).logits.shape == (1, 5)
    assert model.config.id2label[4] == "LABEL_4"
    np.testing.assert_array_equal(to_numpy(model.bert.pooler.dense.kernel), to_numpy(tiny.bert.pooler.dense.kernel))


def test_configuration_files(masked_lm, tmp_path):
    shutil.copytree(masked_lm, tmp_path / "copy")
    path = tmp_path / "copy" / "config.json"
    values = {
        **json.loads(path.read_text()),
        "my_own_key": {"a": [1]},
        "id2label": {"0": "no", "1": "yes"},
        "output_past": True,
    }
    path.write_text(json.dumps(values))
    model = BertForMaskedLM.from_pretrained(path.parent)
    assert model.config.my_own_key == {"a": [1]}
    assert model.config.label2id == {"no": 0, "yes": 1}
    model.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert saved["my_own_key"] == {"a": [1]}
    assert saved["architectures"] == ["BertForMaskedLM"]
    with pytest.raises(TypeError, match="no setting 'num_label'. Did you mean 'num_labels'"):
        BertForMaskedLM.from_pretrained(path.parent, num_label=3)
    with pytest.raises(TypeError, match="no setting 'hiden_size'. Did you mean 'hidden_size'"):
        BertConfig(hiden_size=3)
    path.write_text("{not json")
    with pytest.raises(ValueError, match="config.json is not valid JSON"):
        BertForMaskedLM.from_pretrained(path.parent)
    path.write_text(json.dumps({**values, "model_type": "gpt2"}))
    with pytest.raises(ValueError, match="holds a 'gpt2' model, not a 'bert' one"):
        BertForMaskedLM.from_pretrained(path.parent)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(masked_lm, arrays, tmp_path, dtype):
    expected = dict(np.load(masked_lm / "outputs.npz"))["logits"]
    half = BertForMaskedLM.from_pretrained(masked_lm, dtype=dtype)
    logits = to_numpy(ops.cast(half(**arrays).logits, "float32"))
    # Eight (bfloat16) or eleven (float16) bits of every number survive, over two layers.
    np.testing.assert_allclose(logits, expected, atol=0.5 if dtype == "bfloat16" else 0.05)
    half.save_pretrained(tmp_path)
    assert {str(tensor.dtype) for tensor in open_checkpoint(tmp_path / "model.safetensors").values()} == {dtype}
    again = BertForMaskedLM.from_pretrained(tmp_path, dtype="auto")
    assert again.variable_dtype == again.compute_dtype == dtype
    assert BertForMaskedLM.from_pretrained(tmp_path).compute_dtype == "float32"


def test_shards(masked_lm, arrays, tmp_path):
    model = BertForMaskedLM.from_pretrained(masked_lm)
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 2
    again = BertForMaskedLM.from_pretrained(tmp_path)
    compare(flatten(model(**arrays)), flatten(again(**arrays)), 1e-6)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    (tmp_path / sorted(set(index["weight_map"].values()))[1]).unlink()
    with pytest.raises((CheckpointError, OSError), match="model-00002-of"):
        BertForMaskedLM.from_pretrained(tmp_path)


def test_a_folder_without_weights_is_told(masked_lm, tmp_path):
    shutil.copy(masked_lm / "config.json", tmp_path)
    with pytest.raises(OSError, match="holds no weights: looked for model.safetensors"):
        BertForMaskedLM.from_pretrained(tmp_path)


# ------------------------------------------------------------------------------------------ training


def data(count=32):
    """Texts whose class is their first token's remainder: easily learnt."""
    ids = np.random.default_rng(0).integers(3, 60, (count, 8))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}, ids[:, 0] % 3


@pytest.mark.parametrize("place", ["y", "x", "lists"])
def test_fit_learns_with_the_heads_own_loss(tiny, place):
    x, y = data()
    tiny.compile(keras.optimizers.AdamW(5e-3), metrics=["accuracy"])
    if place == "x":
        x, y = {**x, "labels": y}, None
    elif place == "lists":
        x, y = {name: array.tolist() for name, array in x.items()}, y.tolist()
    history = tiny.fit(x, y, epochs=6, batch_size=16, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert 0 <= history["accuracy"][-1] <= 1
    loss, accuracy = tiny.evaluate(x, y, verbose=0)
    logits = tiny.predict({name: array for name, array in x.items() if name != "labels"}, verbose=0).logits
    labels = data()[1]
    assert accuracy == pytest.approx((logits.argmax(-1) == labels).mean(), abs=1e-6)
    chosen = logits[np.arange(len(labels)), labels]
    assert loss == pytest.approx((np.log(np.exp(logits).sum(-1)) - chosen).mean(), abs=1e-4)


def test_dropout_acts_in_training_only(arrays):
    settings = {**TINY, "hidden_dropout_prob": 0.5}
    model = BertForSequenceClassification(BertConfig(**settings))
    training = [to_numpy(model(**arrays, training=True).logits) for _ in range(2)]
    inference = [to_numpy(model(**arrays).logits) for _ in range(2)]
    assert np.abs(training[0] - training[1]).max() > 1e-4
    np.testing.assert_array_equal(*inference)


def test_a_loss_of_ones_own_and_ignored_labels():
    x, _ = data()
    labels = np.where(x["input_ids"] % 5 == 0, -100, x["input_ids"] % 3)
    model = BertForTokenClassification(BertConfig(**TINY, num_labels=3))
    model.compile(keras.optimizers.Adam(1e-3), weighted_metrics=["accuracy"])
    accuracy = model.evaluate(x, labels, verbose=0)[1]
    predicted = model.predict(x, verbose=0).logits.argmax(-1)
    assert accuracy == pytest.approx((predicted == labels)[labels != -100].mean(), abs=1e-5)
    own = BertForSequenceClassification(BertConfig(**TINY, num_labels=3))
    own.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert np.isfinite(own.train_on_batch(x, data()[1]))


def test_labels_that_the_head_lacks_are_refused_before_training(tiny):
    x, y = data()
    tiny.compile("adam")
    with pytest.raises(ValueError, match="Label 3 is out of range"):
        tiny.fit(x, y + 1, verbose=0)
    with pytest.raises(ValueError, match="got no labels: pass y, or labels in x"):
        tiny.fit(x, verbose=0)


def test_a_pretrained_model_starts_with_a_small_learning_rate(masked_lm, tiny):
    model = BertForMaskedLM.from_pretrained(masked_lm)
    model.compile("adamw")
    assert float(model.optimizer.learning_rate) == pytest.approx(5e-5)
    tiny.compile("adamw")
    assert float(tiny.optimizer.learning_rate) == pytest.approx(1e-3)


def test_a_keras_file_remembers_how_it_was_compiled(tiny, tmp_path):
    x, y = data(8)
    tiny.compile(keras.optimizers.Adam(2e-3), metrics=["accuracy"])
    tiny.fit(x, y, verbose=0)
    tiny.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.evaluate(x, y, verbose=0), tiny.evaluate(x, y, verbose=0), atol=1e-5)
    assert float(again.optimizer.learning_rate) == pytest.approx(2e-3)


def test_a_part_of_a_functional_model(tiny):
    ids = keras.Input((None,), dtype="int32")
    pooled = tiny.bert({"input_ids": ids}).pooler_output
    model = keras.Model(ids, keras.layers.Dense(1)(pooled))
    model.compile("sgd", "mse")
    x, _ = data(8)
    assert model.predict(x["input_ids"], verbose=0).shape == (8, 1)
    before = to_numpy(tiny.bert.pooler.dense.kernel).copy()
    model.fit(x["input_ids"], np.ones((8, 1)), verbose=0)
    assert np.abs(to_numpy(tiny.bert.pooler.dense.kernel) - before).max() > 0


def test_lora_trains_little_and_saves_merged(tiny, arrays, tmp_path):
    x, y = data(8)
    tiny.enable_lora(2)
    assert len(tiny.trainable_variables) == TINY["num_hidden_layers"] * 2 * 2 + 2
    kernel = tiny.bert.encoder.layer[0].attention.self.query._kernel
    before = to_numpy(kernel).copy()
    tiny.compile(keras.optimizers.Adam(1e-2))
    tiny.fit(x, y, epochs=2, verbose=0)
    np.testing.assert_array_equal(to_numpy(kernel), before)
    tiny.save_pretrained(tmp_path)
    again = BertForSequenceClassification.from_pretrained(tmp_path)
    np.testing.assert_allclose(again.infer(**arrays).logits, tiny.infer(**arrays).logits, atol=1e-5)
    with pytest.raises(ValueError, match="has no layer named nothing"):
        again.enable_lora(2, targets=("nothing",))


def test_quantized_to_integers(masked_lm, arrays, tmp_path):
    model = BertForMaskedLM.from_pretrained(masked_lm)
    expected = model.infer(**arrays).logits
    with pytest.warns(UserWarning, match="does not have a `quantize` method"):
        model.quantize("int8")
    assert "int8" in {str(variable.dtype) for variable in model.variables}
    found = model.infer(**arrays).logits
    assert 0 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
    with pytest.raises(ValueError, match="quantized model cannot be written"):
        model.save_pretrained(tmp_path)


def test_mixed_precision(masked_lm, arrays):
    model = BertForMaskedLM.from_pretrained(masked_lm, dtype="mixed_bfloat16")
    assert {str(variable.dtype) for variable in model.trainable_variables} == {"float32"}
    logits = model(**arrays).logits
    assert keras.backend.standardize_dtype(logits.dtype) == "bfloat16"
    expected = dict(np.load(masked_lm / "outputs.npz"))["logits"]
    # Eight bits of every number survive, over two layers.
    np.testing.assert_allclose(to_numpy(ops.cast(logits, "float32")), expected, atol=0.5)


def test_more_tokens(masked_lm, arrays, tmp_path):
    model = BertForMaskedLM.from_pretrained(masked_lm)
    expected = to_numpy(model(**arrays).logits)
    model.resize_token_embeddings(61, pad_to_multiple_of=8)
    assert model.config.vocab_size == 64
    logits = to_numpy(model(**arrays).logits)
    assert logits.shape[-1] == 64
    np.testing.assert_allclose(logits[..., :60], expected, atol=1e-5)
    assert model.infer([[63, 62]]).logits.shape == (1, 2, 64)
    model.compile("adam")
    assert np.isfinite(model.train_on_batch({"input_ids": np.array([[61, 5]]), "labels": np.array([[61, -100]])}))
    model.save_pretrained(tmp_path)
    assert BertForMaskedLM.from_pretrained(tmp_path)([[63]]).logits.shape[-1] == 64


def test_summary_and_counts(tiny, capsys):
    tiny.summary()
    assert "BertModel" in capsys.readouterr().out
    config = tiny.config
    h, i = config.hidden_size, config.intermediate_size
    layer = 4 * (h * h + h) + 2 * 2 * h + 2 * h * i + i + h
    embeddings = (config.vocab_size + config.max_position_embeddings + 2 + 2) * h
    assert tiny.count_params() == embeddings + 2 * layer + h * h + h + 3 * h + 3


def test_every_public_name_is_there():
    for name in keras_models.__all__:
        found = getattr(keras_models, name).__name__
        assert found == name or name.endswith("Fast") or name == "MT5Tokenizer"  # other names of the same classes
    with pytest.raises(AttributeError, match="no attribute 'BertForEverything'"):
        _ = keras_models.BertForEverything


@pytest.mark.slow
def test_many_lengths_and_batches(tiny):
    """A long run over random shapes: compiled passes stay equal to eager ones."""
    random = np.random.default_rng(1)
    for _ in range(300):
        ids = random.integers(3, 60, (random.integers(1, 9), random.integers(1, 41)))
        np.testing.assert_allclose(tiny.infer(ids).logits, to_numpy(tiny(ids).logits), atol=1e-4)
