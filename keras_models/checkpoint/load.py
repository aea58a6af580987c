"""Strict loading: every tensor finds its variable, or is named in an error, a warning or the report."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keras_models import runtime
from keras_models.checkpoint.names import by_variable, entries, rename
from keras_models.checkpoint.tensors import CheckpointError

if TYPE_CHECKING:
    from keras_models.checkpoint.open import Checkpoint
    from keras_models.model import PreTrainedModel

_LISTED = 20


@dataclass
class LoadingReport:
    """What did not match between a checkpoint and a model."""

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(
        default_factory=list
    )  # name, stored, model's

    def to_dict(self) -> dict[str, list]:
        """The report under the reference's names."""
        return {
            "missing_keys": self.missing,
            "unexpected_keys": self.unexpected,
            "mismatched_keys": self.mismatched,
            "error_msgs": [],
        }


def plan(model: PreTrainedModel, checkpoint: Checkpoint, ignore_mismatched_sizes: bool = False) -> LoadingReport:
    """Makes a checkpoint's tensors the initial values of a model whose variables are not created yet.

    Variables that the checkpoint lacks keep their own initialisers.

    Raises:
        CheckpointError: the checkpoint is not this model's; the message lists every tensor that does not fit.
    """
    groups = by_variable(entries(model))
    expected = {entry.key for group in groups for entry in group}
    stored = rename(checkpoint, expected, model.base_model_prefix, model.renames)
    report = LoadingReport()
    for group in groups:
        entry = next((entry for entry in group if entry.key in stored), None)
        if entry is None:
            # A buffer that may be absent starts as it is meant to be: nothing of it waits for training.
            if group[0].variable.trainable or not _optional(model).search(group[0].key):
                report.missing.append(group[0].key)
            continue
        tensor = checkpoint[stored[entry.key]]
        if tuple(tensor.shape) != entry.stored_shape:
            report.mismatched.append((entry.key, tuple(tensor.shape), entry.stored_shape))
            continue
        _set_initial_value(entry, tensor)
    report.unexpected = [key for name, key in stored.items() if name not in expected]
    _raise_or_warn(model, report, stored, expected, ignore_mismatched_sizes)
    return report


def _set_initial_value(entry, tensor):
    variable, axes = entry.variable, entry.reading_axes
    variable._initializer = lambda shape, dtype: runtime.adopt(tensor, axes, variable)


def _raise_or_warn(model, report, stored, expected, ignore_mismatched_sizes):
    name = type(model).__name__
    if expected and not expected & stored.keys():
        raise CheckpointError(
            f"The checkpoint is not one of {name}: none of its {len(stored)} tensors is expected, "
            f"such as {_some(sorted(stored.values())[:3])}; the model expects {_some(sorted(expected)[:3])}."
        )
    optional = _optional(model)
    prefix = f"{model.base_model_prefix}."
    if any(key.startswith(prefix) for key in expected):
        in_base = re.compile(re.escape(prefix))
    else:  # the bare model: all that starts like its own tensors
        in_base = re.compile("|".join(sorted(re.escape(key.split(".")[0]) + r"(\.|$)" for key in expected)))
    # A head may be new. The bare model may not, nor may a checkpoint hold parts of it that the model lacks.
    missing = [key for key in report.missing if in_base.match(key) and not optional.search(key)]
    extra = {name: key for name, key in stored.items() if name not in expected and not optional.search(name)}
    left_over = [key for name, key in extra.items() if in_base.match(name)]
    problems = []
    if missing:
        problems.append(f"missing from the checkpoint: {_some(missing)}")
    if left_over:
        problems.append(f"in the checkpoint but not in the model: {_some(left_over)}")
    if report.mismatched and not ignore_mismatched_sizes:
        shapes = [f"{key} (stored {stored}, expected {wanted})" for key, stored, wanted in report.mismatched]
        problems.append(
            f"of another shape: {_some(shapes)} (for a new number of labels, pass ignore_mismatched_sizes=True)"
        )
    if problems:
        raise CheckpointError(f"The checkpoint does not fit {name}. " + "; ".join(problems) + ".")
    new = report.missing + [key for key, _, _ in report.mismatched]
    if new:
        warnings.warn(f"{name}: {_some(new)} not in the checkpoint, newly initialised: train before use.", stacklevel=5)


def _optional(model) -> re.Pattern:
    return re.compile("|".join(model.optional) or "(?!)")


def _some(names) -> str:
    names = list(names)
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + rest
