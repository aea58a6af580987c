"""The list of what there is: a row per architecture, a row per pipeline task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """A model_type: the file it lives in, its classes, and what prepares its inputs."""

    file: str  # in keras_models/models
    config: str
    classes: dict[str, str]  # task -> class; "base" is the bare model
    tokenizer: str | None = None


@dataclass(frozen=True)
class Task:
    """A pipeline task: its class, the model it loads when none is named, and the Auto class that loads it."""

    file: str  # in keras_models/pipelines
    pipeline: str
    auto: str
    default: str


_HEADS = {  # task -> how the reference ends the class's name
    "base": "Model",
    "pretraining": "ForPreTraining",
    "masked-lm": "ForMaskedLM",
    "causal-lm": "ForCausalLM",
    "next-sentence-prediction": "ForNextSentencePrediction",
    "sequence-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "multiple-choice": "ForMultipleChoice",
}


def _row(file: str, name: str, tasks: str, tokenizer: str | None = None, **others: str) -> Architecture:
    """A row whose classes are named as usual, `others` apart."""
    classes = {task: name + _HEADS[task] for task in tasks.split()}
    classes |= {task.replace("_", "-"): kind for task, kind in others.items()}
    return Architecture(file, f"{name}Config", classes, tokenizer)


_TEXT_HEADS = "sequence-classification token-classification question-answering multiple-choice"

ARCHITECTURES: dict[str, Architecture] = {
    "bert": _row(
        "bert", "Bert", f"base pretraining masked-lm next-sentence-prediction {_TEXT_HEADS}", "BertTokenizer",
        causal_lm="BertLMHeadModel",
    ),
}  # fmt: skip

AUTO_CLASSES: dict[str, str] = {
    "AutoModel": "base",
    "AutoModelForPreTraining": "pretraining",
    "AutoModelForMaskedLM": "masked-lm",
    "AutoModelForCausalLM": "causal-lm",
    "AutoModelForNextSentencePrediction": "next-sentence-prediction",
    "AutoModelForSequenceClassification": "sequence-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForMultipleChoice": "multiple-choice",
}


def public_names() -> dict[str, str]:
    """Every public name of an architecture -> the module that defines it."""
    names: dict[str, Any] = {}
    for row in ARCHITECTURES.values():
        module = f"keras_models.models.{row.file}"
        names |= dict.fromkeys([row.config, *row.classes.values()], module)
    return names
