"""What `fit` needs of a model: the loss of its head, labels wherever they are, metrics on logits, LoRA."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from keras_models import losses
from keras_models.checkpoint.names import entries
from keras_models.outputs import ModelOutput

_CLASSIFIERS = (
    "ForSequenceClassification", "ForTokenClassification", "ForImageClassification", "ForSemanticSegmentation",
    "ForAudioClassification",
)  # fmt: skip


class HeadTraining:
    """Mixin before keras.Model: trains a model with its head's own loss, on what preprocessors return."""

    label_names: ClassVar[tuple[str, ...]] = ("labels",)
    calls_host: ClassVar[bool] = False  # whether the loss needs Python in the middle of its computation

    @property
    def ignored_label(self) -> int:
        """The label of a position that counts neither in the loss nor in weighted metrics."""
        return losses.IGNORE

    def head_loss(self, outputs: ModelOutput, **labels: Any) -> Any:
        """The loss of this head, a scalar tensor; takes the labels by the names in `label_names`.

        A head with several losses returns them by the names of its outputs; training adds them up.
        """
        raise TypeError(f"{type(self).__name__} has no head with a loss: use one of the ...For... classes.")

    def pack_labels(self, labels: Any) -> Any:
        """For heads whose labels are not one array: the `labels` that a user gives as a dictionary of arrays."""
        return to_array("labels", labels)

    def compute_head_loss(self, outputs: ModelOutput, inputs: Any = None, **labels: Any) -> Any:
        """`head_loss` after checking that all labels it needs are there; it also gets the inputs that it names."""
        needed = inspect.signature(self.head_loss).parameters
        missing = [
            name for name, each in needed.items() if each.default is each.empty and name not in ("outputs", *labels)
        ]
        missing = [name for name in missing if name in self.label_names]
        if missing:
            raise ValueError(f"{type(self).__name__} needs {' and '.join(missing)} too, besides {', '.join(labels)}.")
        named = {name: inputs[name] for name in needed if name in inputs} if isinstance(inputs, Mapping) else {}
        return self.head_loss(outputs, **{**named, **labels})

    def compile(self, optimizer: Any = "adamw", loss: Any = None, **kwargs: Any):
        """`keras.Model.compile`; with no loss given, the head's own is used.

        An optimizer given by name starts a pretrained model at a learning rate of 5e-5, since Keras' default of 1e-3
        would destroy what it has learnt; give an optimizer object to choose.
        """
        if isinstance(optimizer, str) and self._pretrained:
            optimizer = keras.optimizers.get({"class_name": optimizer, "config": {"learning_rate": 5e-5}})
        super().compile(optimizer=optimizer, loss=loss, **kwargs)

    def compile_from_config(self, config: dict[str, Any]):
        """What `.keras` files restore: `compile` with the settings that were in force."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any):
        """`keras.Model.fit`; x may be what a preprocessor returns, labels may be in y or in x."""
        x, y = self._training_arrays(x, y)
        if isinstance(kwargs.get("validation_data"), (tuple, list)):
            data = kwargs["validation_data"]
            kwargs["validation_data"] = (*self._training_arrays(*data[:2]), *data[2:])
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any):
        """`keras.Model.evaluate`; takes what `fit` takes."""
        return super().evaluate(*self._training_arrays(x, y), *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> ModelOutput:
        """`keras.Model.predict`: the outputs for all of x, as NumPy arrays."""
        return super().predict(self._training_arrays(x)[0], *args, **kwargs)

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any):
        """`keras.Model.train_on_batch`; takes what `fit` takes."""
        return super().train_on_batch(*self._training_arrays(x, y), *args, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any):
        """`keras.Model.test_on_batch`; takes what `fit` takes."""
        return super().test_on_batch(*self._training_arrays(x, y), *args, **kwargs)

    def predict_on_batch(self, x: Any) -> ModelOutput:
        """`keras.Model.predict_on_batch`: the outputs as NumPy arrays."""
        return super().predict_on_batch(self._training_arrays(x)[0])

    def _training_arrays(self, x: Any, y: Any = None) -> tuple[Any, Any]:
        """Encodings, lists and lists of numbers as dictionaries of arrays; datasets and generators as they are."""
        if y is not None and isinstance(x, (list, np.ndarray)) and self.config.is_encoder_decoder:
            x = {self.input_names[0]: x}
        if isinstance(x, Mapping):
            x = {name: self._training_array(name, value) for name, value in x.items() if value is not None}
            self._check_length(x)
        if isinstance(y, list) and y and isinstance(y[0], Mapping):
            y = {"labels": y}  # a dictionary for each sample
        if y is not None and isinstance(x, Mapping) and self.config.is_encoder_decoder and self.label_names:
            x |= {name: self._training_array(name, value) for name, value in self._named_labels(y).items()}
            y = None
        if isinstance(y, Mapping):
            y = {name: self._training_array(name, value) for name, value in y.items()}
        elif isinstance(y, (list, np.ndarray)):
            y = self._checked(to_array("y", y))
        return x, y

    def _training_array(self, name: str, value: Any) -> Any:
        return self._checked(self.pack_labels(value)) if name == "labels" else to_array(name, value)

    def _checked(self, labels: Any) -> Any:
        if type(self).__name__.endswith(_CLASSIFIERS):
            check_classes(labels, self.config.num_labels, self.ignored_label)
        return labels

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss given to `compile`, on the logits; else the head's own, which labels inside x have brought along."""
        y = self._labels(x, y)
        if self._compile_loss is not None:
            return super().compute_loss(x, y, _logits(y_pred, y), sample_weight, training)
        if sample_weight is not None:
            raise ValueError(
                f"{type(self).__name__}'s own loss takes no sample or class weights: give compile(loss=...) another."
            )
        found = {name: value for name, value in y_pred.items() if name in ("loss", "mc_loss")}
        if not found:
            if y is None and self.label_names:
                raise ValueError(
                    f"{type(self).__name__} got no labels: pass y, or {' and '.join(self.label_names)} in x."
                )
            found = self.compute_head_loss(y_pred, x, **self._named_labels(y))
        found = found if isinstance(found, dict) else {"loss": found}
        parts = [value for name, value in found.items() if name in ("loss", "mc_loss")]
        return sum(parts[1:] + [ops.sum(each) for each in self.losses], start=parts[0])

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Metrics such as "accuracy" see the logits and the labels; weighted metrics leave out the `ignored_label`."""
        y = self._labels(x, y)
        ignorable = y is not None and not isinstance(y, (Mapping, tuple, list)) and len(y.shape) > 1
        if sample_weight is None and ignorable and keras.backend.is_int_dtype(y.dtype):
            sample_weight = ops.cast(ops.not_equal(y, self.ignored_label), "float32")
        return super().compute_metrics(x, y, _logits(y_pred, y), sample_weight)

    def _labels(self, x: Any, y: Any) -> Any:
        if y is not None or not isinstance(x, Mapping):
            return y
        found = {name: x[name] for name in self.label_names if name in x}
        return found if len(found) > 1 else next(iter(found.values()), None)

    def _named_labels(self, y: Any) -> dict[str, Any]:
        if isinstance(y, Mapping):
            return dict(y)
        return dict(zip(self.label_names, y if isinstance(y, (list, tuple)) else (y,), strict=False))

    def enable_lora(
        self,
        rank: int,
        targets: tuple[str, ...] = ("query", "value", "q_proj", "v_proj", "q_lin", "v_lin", "q", "v", "c_attn"),
    ):
        """Freezes the model but its head, and trains low-rank additions to the layers named in `targets` instead.

        Args:
            rank: of the additions.
            targets: names of attributes that hold a `Dense` or `Embedding` layer.

        Source: LoRA, https://arxiv.org/abs/2106.09685

        Raises:
            ValueError: no layer has one of these names.
        """
        found = {id(each.layer): each.layer for each in entries(self) if set(targets) & set(each.key.split(".")[-2:-1])}
        if not found:
            raise ValueError(
                f"{type(self).__name__} has no layer named {' or '.join(targets)}; name others in targets=."
            )
        for variable in self.bare_model().variables:
            variable.trainable = False
        for layer in found.values():
            layer.trainable = True
            layer.enable_lora(rank)
            if getattr(layer, "bias", None) is not None:
                layer.bias.trainable = False


def to_array(name: str, value: Any) -> np.ndarray:
    """A NumPy array of what users pass as an input or as labels.

    Raises:
        ValueError: a list of lists of different lengths.
        TypeError: no numbers.
    """
    try:
        array = ops.convert_to_numpy(value) if ops.is_tensor(value) else np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"{name} has rows of different lengths: pad them, e.g. with tokenizer(..., padding=True, truncation=True)."
        ) from error
    if array.dtype.kind not in "biuf" and array.dtype.name not in ("bfloat16", "float16"):
        raise TypeError(
            f"{name} holds {type(value).__name__} of {array.dtype}, not numbers; pass what a preprocessor returns."
        )
    return array


def check_classes(labels: np.ndarray, count: int, ignored: int):
    """Raises ValueError for a class that the head does not have, and that is not the one to be ignored."""
    if count < 2 or labels.dtype.kind not in "iu":  # a regression, or probabilities
        return
    wrong = labels[((labels >= count) | (labels < 0)) & (labels != ignored)]
    if wrong.size:
        raise ValueError(
            f"Label {wrong.flat[0]} is out of range: the model has {count} classes, 0 to {count - 1}; "
            "load it with num_labels= as many as the data has."
        )


def check_labels(outputs: ModelOutput, labels: dict[str, Any], ignored: int):
    """Raises ValueError for a class that is none of those the logits are for."""
    logits, classes = outputs.get("logits"), labels.get("labels")
    if logits is not None and isinstance(classes, np.ndarray) and classes.ndim == len(logits.shape) - 1:
        check_classes(classes, logits.shape[-1], ignored)


def _logits(outputs: Any, labels: Any) -> Any:
    if not isinstance(outputs, ModelOutput) or "logits" not in outputs:
        return outputs
    return losses.at_labels(outputs["logits"], labels) if hasattr(labels, "shape") else outputs["logits"]
