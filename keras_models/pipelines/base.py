"""What all pipelines share: inputs of any kind become rows, rows run in batches, and results stream out in order."""

from __future__ import annotations

import inspect
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import keras
import numpy as np

from keras_models.auto import heads_of
from keras_models.config import nearest
from keras_models.hub import push_saved
from keras_models.model import PreTrainedModel
from keras_models.preprocessing.batch_encoding import BatchEncoding
from keras_models.preprocessing.tokenizer_calls import Calls

_UNLIMITED = 10**20  # a tokenizer's model_max_length above this says that it knows none


@dataclass
class Row:
    """One row of a model's batch.

    Args:
        inputs: the model's inputs by name, without the batch axis.
        facts: what `postprocess` wants to know besides.
        outputs: the model's outputs by name, without the batch axis; None until the row has been through the model.
            Those of a text end where the longest text of its batch ends.
    """

    inputs: dict[str, list[int]]
    facts: Any = None
    outputs: dict[str, np.ndarray] | None = None

    @property
    def length(self) -> int:
        """The number of tokens."""
        return len(self.inputs["input_ids"])


class Pipeline:
    """Base of all pipelines: inputs -> `preprocess` -> the model, in batches -> `postprocess` -> results.

    A subclass has a `preprocess(item, *, ...)` that yields one or more rows for an input, and a
    `postprocess(item, rows, *, ...)` that makes its result of them. Their keyword arguments, and those of `forward`,
    are the options of the pipeline, which can be set when it is made and overridden in each call.

    Args:
        model: a model.
        tokenizer: its tokenizer.
        image_processor: its image processor.
        feature_extractor: its feature extractor.
        task: the name that the pipeline goes by.
        batch_size: how many rows run through the model at once; 1 by default. It changes speed, not results.
        device: where the model was loaded, and is to run; see `pipeline`.
        **options: those of the task.

    Raises:
        TypeError: an option is unknown, or model or tokenizer is none.
        ValueError: the model has another head than the task needs, or an option has a value that makes no sense.
    """

    parts: ClassVar[tuple[str, ...]] = ("tokenizer",)  # what else of these parameters it needs beside a model
    heads: ClassVar[tuple[str, ...]] = ()  # as registry.py names them; none stands for any
    takes: ClassVar[str] = "a string"
    shorten: ClassVar[str] = "pass truncation=True to cut it"  # what to do about a text that is too long
    spare: ClassVar[int] = 0  # positions that it must leave free
    settings: ClassVar[frozenset[str]] = frozenset()  # names of generate's settings, where that runs the model

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any = None,
        *,
        image_processor: Any = None,
        feature_extractor: Any = None,
        task: str = "",
        batch_size: int | None = None,
        device: str | None = None,
        **options: Any,
    ):
        self.model, self.task, self.device = model, task, device
        self.tokenizer, self.image_processor, self.feature_extractor = tokenizer, image_processor, feature_extractor
        self.batch_size = 1 if batch_size is None else batch_size
        self.options = self.rename(options)
        self._check_model()
        self.prepare()
        self._input_names = frozenset(model.input_names)
        self._split(self.check(dict(self.options)))

    def __repr__(self) -> str:
        parts = "".join(f", {name}={type(getattr(self, name)).__name__}" for name in self.parts)
        return f"{type(self).__name__}(task={self.task!r}, model={type(self.model).__name__}{parts})"

    # For subclasses.

    def normalize(self, item: Any, where: str) -> Any:
        """One input as `preprocess` takes it; raises TypeError or ValueError, naming `where` it was, if it is none."""
        return text_of(item, where, self)

    def are_many(self, inputs: Any) -> bool:
        """Whether `inputs` are many rather than one: a list, a generator, a dataset ..."""
        return is_collection(inputs)

    def rename(self, options: dict[str, Any]) -> dict[str, Any]:
        """Options as a user gives them, with older names of theirs replaced."""
        return options

    def prepare(self):
        """What there is to do once, before `options` are checked for the first time."""

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        """All options as the methods below take them; raises ValueError or TypeError where they make no sense."""
        return options

    def preprocess(self, item: Any) -> Iterator[Row]:
        """The rows that an input makes."""
        raise NotImplementedError(f"{type(self).__name__} has no preprocess().")

    def postprocess(self, item: Any, rows: list[Row]) -> Any:
        """The result for an input, of the rows that it made, which have outputs now."""
        raise NotImplementedError(f"{type(self).__name__} has no postprocess().")

    def encode(self, text: Any, pair: str | None = None, **options: Any) -> BatchEncoding:
        """The tokenizer's rows for a text or a pair; truncation cuts at what the tokenizer and the model can take."""
        options = {"verbose": False, **options, "return_tensors": None}  # too long a text is an error further on
        if options.get("truncation") not in (None, False, "do_not_truncate") and options.get("max_length") is None:
            options["max_length"] = self.limit
        return self.tokenizer([text], None if pair is None else [pair], **options)

    def row(self, encoding: BatchEncoding, index: int = 0, facts: Any = None) -> Row:
        """A row of what the tokenizer returned, with those entries that the model takes."""
        return Row({name: rows[index] for name, rows in encoding.items() if name in self._input_names}, facts)

    @property
    def limit(self) -> int | None:
        """The longest row of tokens that tokenizer and model can both take; None where neither sets a limit."""
        limits = [self.tokenizer.model_max_length, self.model.max_length or _UNLIMITED]
        return min(limits) if min(limits) < _UNLIMITED else None

    # Running.

    def __call__(
        self,
        inputs: Any,
        *,
        batch_size: int | None = None,
        progress: bool = False,
        num_workers: int | None = None,
        **options: Any,
    ) -> Any:
        """Runs the pipeline.

        Args:
            inputs: one input; a list or tuple of inputs; or a generator, an iterator or a dataset that gives them.
            batch_size: instead of the pipeline's own.
            progress: show a progress bar on stderr.
            num_workers: without effect: tokenizing needs no processes of its own.
            **options: those of the task, instead of the ones that the pipeline was made with.

        Returns:
            The result; for a list a list of results; for what else can be iterated a generator of results, which reads
            as many inputs as it needs for the next batch, and no more.

        Raises:
            TypeError: an input is of a wrong type, or an option is unknown.
            ValueError: an input is empty or too long, or an option has a value that makes no sense.
        """
        before, during, after = self._split(self.check({**self.options, **self.rename(options)}))
        size = positive("batch_size", self.batch_size if batch_size is None else batch_size)
        single = not self.are_many(inputs)
        items = [inputs] if single else inputs
        if not isinstance(items, Iterable):
            items = (inputs[index] for index in range(len(inputs)))
        steps = partial(self.preprocess, **before), partial(self.forward, **during), partial(self.postprocess, **after)
        results = self._stream(items, single, size, *steps)
        if progress:
            total = 1 if single else len(inputs) if hasattr(inputs, "__len__") else None
            results = _with_bar(results, self.task, total)
        if single:
            (result,) = results
            return result
        return list(results) if isinstance(inputs, (list, tuple)) else results

    def _stream(
        self, items: Iterable[Any], single: bool, size: int, before: Callable, forward: Callable, after: Callable
    ) -> Iterator[Any]:
        jobs: deque[tuple[Any, list[Row]]] = deque()  # inputs whose results are still to be had, with their rows
        waiting: list[Row] = []  # rows that have not been through the model
        for number, item in enumerate(items):
            where = "inputs" if single else f"inputs[{number}]"
            item = self.normalize(item, where)
            rows = list(before(item))
            self._check_length(rows, where)
            jobs.append((item, rows))
            waiting += rows
            while len(waiting) >= size:
                forward(waiting[:size])
                del waiting[:size]
            while jobs and all(row.outputs is not None for row in jobs[0][1]):
                yield after(*jobs.popleft())
        if waiting:
            forward(waiting)
        for item, rows in jobs:
            yield after(item, rows)

    def forward(self, rows: list[Row]):
        """Runs rows through the model as one batch, and gives each its outputs."""
        with on_device(self.device):
            outputs = self.model.infer(**self._collate([row.inputs for row in rows]))
        arrays = {name: array for name, array in outputs.items() if isinstance(array, np.ndarray)}
        for index, row in enumerate(rows):
            row.outputs = {name: _in_full_precision(array[index]) for name, array in arrays.items()}

    def _collate(self, rows: list[dict[str, list[int]]], left: bool = False) -> dict[str, np.ndarray]:
        """Rows as a batch, padded on one side and masked there, so that they change nothing for each other."""
        length = max(len(row["input_ids"]) for row in rows)
        if "attention_mask" in self._input_names:
            rows = [{"attention_mask": [1] * len(row["input_ids"]), **row} for row in rows]
        pads = [self.tokenizer.pad_token_id, self.model.config.pad_token_id, 0]
        fill = {"input_ids": next(pad for pad in pads if pad is not None)}

        def padded(name: str, values: list[int]) -> list[int]:
            padding = [fill.get(name, 0)] * (length - len(values))
            return padding + values if left else values + padding

        return {name: np.array([padded(name, row[name]) for row in rows], "int32") for name in rows[0]}

    # Checking.

    def _check_model(self):
        if not isinstance(self.model, PreTrainedModel):
            raise TypeError(
                f"model must be a folder, a hub id or a model of keras_models, not {type(self.model).__name__}."
            )
        found = heads_of(kind.__name__ for kind in type(self.model).__mro__)
        if self.heads and found and not found & set(self.heads):
            raise ValueError(
                f"{type(self.model).__name__} cannot do {self.task}: it needs a model for {' or '.join(self.heads)}."
            )

    def _check_length(self, rows: list[Row], where: str):
        limit, longest = self.model.max_length, max(row.length for row in rows)
        if limit is not None and longest > limit - self.spare:
            raise ValueError(
                f"{where} is {longest} tokens long and {type(self.model).__name__} has positions for {limit}: "
                f"{self.shorten}."
            )

    def _split(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        """Options for `preprocess`, for `forward` and for `postprocess`."""
        before, after = option_names(self.preprocess), option_names(self.postprocess)
        steps = [before, option_names(self.forward, self.settings), after]
        known = set().union(*steps)
        for name in options:
            if name not in known:
                own = ", ".join(sorted(known - self.settings)) + ", and what generate takes" * bool(self.settings)
                raise TypeError(f"{self.task} has no option {name!r}.{nearest(name, sorted(known))} It has {own}.")
        return [{name: options[name] for name in options if name in names} for names in steps]

    # Saving.

    def save_pretrained(self, folder: str | os.PathLike[str]):
        """Writes the model and all else into `folder`, from where `pipeline(task, model=folder)` reads them."""
        self.model.save_pretrained(folder)
        for part in (self.tokenizer, self.image_processor, self.feature_extractor):
            if part is not None:
                part.save_pretrained(folder)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Uploads what `save_pretrained` writes; returns the commit's URL. Options: `hub.push_folder`."""
        return push_saved(self.save_pretrained, repo_id, **options)


class KeyDataset:
    """One column of a dataset whose rows are dictionaries, such as a `datasets.Dataset`."""

    def __init__(self, dataset: Any, key: str):
        self.dataset, self.key = dataset, key

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index][self.key]


def is_collection(inputs: Any) -> bool:
    """Whether `inputs` are many rather than one: a list, a generator, a dataset ..."""
    if isinstance(inputs, (str, bytes, Mapping)):
        return False
    return isinstance(inputs, Iterable) or (hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__"))


def text_of(item: Any, where: str, pipe: Pipeline) -> str:
    """`item`, if it is a text.

    Raises:
        TypeError: it is no string.
        ValueError: it is empty.
    """
    if not isinstance(item, str):
        raise TypeError(f"{where} must be {pipe.takes} for {pipe.task}, not {type(item).__name__}.")
    if not item:
        raise ValueError(f"{where} is an empty string: give {pipe.task} some text.")
    return item


def option_names(function: Callable, others: Set[str] | None = None) -> set[str]:
    """The options that a function takes, with the `others` that it takes as `**options`: by default the tokenizer's."""
    parameters = inspect.signature(function).parameters.values()
    names = {each.name for each in parameters if each.kind == each.KEYWORD_ONLY}
    if any(each.kind == each.VAR_KEYWORD for each in parameters):
        names |= option_names(Calls.__call__) if others is None else others
    return names


def one_of(name: str, value: Any, known: Sequence[str]) -> str:
    """`value` in lower case; raises ValueError if it is none of the known ones."""
    lower = str(value).lower()
    if lower not in known:
        raise ValueError(f"{name}={value!r} is unknown; use one of {', '.join(known)}.{nearest(lower, list(known))}")
    return lower


def positive(name: str, value: Any) -> int:
    """`value`; raises ValueError if it is no positive integer."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive integer, not {value!r}.")
    return value


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def scores_of(logits: np.ndarray, function: str) -> np.ndarray:
    """Logits of classes as scores; `function` is "softmax", "sigmoid" or "none"."""
    if function == "none":
        return logits
    return softmax(logits) if function == "softmax" else np.exp(-np.logaddexp(0, -logits))


def classes_of(scores: np.ndarray, labels: Mapping[int, str], top_k: int | None) -> list[dict[str, Any]]:
    """The `top_k` classes, or all, with their scores, best first."""
    found = [{"label": labels[index], "score": float(score)} for index, score in enumerate(scores)]
    return sorted(found, key=lambda each: each["score"], reverse=True)[:top_k]


def device_name(device: Any) -> str | None:
    """Keras' name of a device that transformers names -1, 0, "cpu" or "cuda:0"; None for the backend's own choice.

    Raises:
        ValueError: the backend has no such device.
    """
    if device in (None, 0, "cuda", "gpu"):  # the backends start out on the first accelerator there is
        return None
    name = ("cpu" if device < 0 else f"cuda:{device}") if isinstance(device, int) else str(device)
    name = (name if ":" in name else f"{name}:0").replace("cuda", "gpu")
    missing = f"The {keras.config.backend()} backend has no device {device!r}: leave device= out, or use 'cpu'."
    try:
        with keras.device(name):
            place = str(keras.ops.zeros(1).device).lower()
    except (AssertionError, RuntimeError, ValueError) as error:  # what JAX and PyTorch raise
        raise ValueError(missing) from error
    if name.startswith("gpu") and "cpu" in place:  # TensorFlow falls back in silence
        raise ValueError(missing)
    return name


def on_device(name: str | None) -> Any:
    """A context in which new tensors go to a device."""
    return nullcontext() if name is None else keras.device(name)


def _in_full_precision(array: np.ndarray) -> np.ndarray:
    return array.astype("float32") if array.dtype.itemsize < 4 and array.dtype.kind not in "biu" else array


def _with_bar(results: Iterator[Any], task: str, total: int | None) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import track

    return iter(track(results, description=task, total=total, console=Console(stderr=True)))
