"""PreTrainedModel: a keras.Model that reads and writes the hub's checkpoints and knows its own inputs."""

from __future__ import annotations

import functools
import inspect
import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import keras
import numpy as np
from keras import ops

from keras_models import nn, runtime
from keras_models.cache import Cache
from keras_models.checkpoint import save_weights
from keras_models.checkpoint.find import open_weights
from keras_models.checkpoint.load import LoadingReport, plan
from keras_models.checkpoint.names import by_variable, entries
from keras_models.config import Config, nearest, write_atomically
from keras_models.generation.config import GenerationConfig
from keras_models.hub import Repository, push_saved, split_options
from keras_models.inference import RECORDS, Inference, pop_switches
from keras_models.outputs import ModelOutput
from keras_models.training.heads import HeadTraining, check_labels, to_array

AS_GIVEN = ("past_key_values", "logits_to_keep")  # inputs that are no tensors
PICTURES = {"pixel_values": 4}  # inputs that are pictures, with their number of axes
UNNEEDED = ("token_type_ids",)  # what a tokenizer of another architecture may return, and a model may do without
_GENERATES = ("ForCausalLM", "LMHeadModel", "DoubleHeadsModel", "ForConditionalGeneration", "EncoderDecoderModel")
# What users of the reference pass and what needs no choice here: the format is found, memory is never wasted.
_NEEDLESS = ("from_tf", "from_flax", "from_pt", "use_safetensors", "low_cpu_mem_usage")


class _Calls(threading.local):
    stack: tuple[tuple[Any, dict[str, bool]], ...] = ()  # models whose call has begun, with the switches given to it


_calls = _Calls()


@contextmanager
def _entered(model, switches=None):
    before, _calls.stack = _calls.stack, (*_calls.stack, (model, switches or {}))
    try:
        yield
    finally:
        _calls.stack = before


class PreTrainedModel(Inference, nn.BareCall, HeadTraining, keras.Model):
    """Base of all models: a bare model or a model with a head.

    A subclass constructs its layers in `__init__(config)` after `super().__init__(config)`, and computes a ModelOutput
    in `call(**inputs)`. The path of attributes to a variable is its name in checkpoints; an attribute may carry a
    trailing underscore where Keras reserves its name.

    Calling a model takes its inputs by name, in order, or as one dictionary; numpy arrays, lists and tensors of any
    framework. Besides its inputs it takes `training`, `output_hidden_states`, `output_attentions`, and the labels in
    `label_names`, which add `loss` to the outputs.
    """

    config_class: ClassVar[type[Config]]
    starts_decoder: ClassVar[bool] = True  # whether generation puts decoder_start_token_id before decoder_input_ids
    base_model_prefix: ClassVar[str] = ""  # the attribute that holds the bare model in a model with a head
    sound_ranks: ClassVar[dict[str, int]] = {}  # of bare models: inputs that are sounds, with their number of axes
    renames: ClassVar[tuple[tuple[str, str], ...]] = ()  # (regular expression, replacement): old names of tensors
    optional: ClassVar[tuple[str, ...]] = ()  # regular expressions: tensors that a checkpoint may lack or have too many

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        keras.saving.register_keras_serializable("keras_models")(cls)
        if "call" in cls.__dict__:
            cls._run = cls.__dict__["call"]
            cls.call = _through_call(cls._run)

    def __init__(self, config: Config, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(config, self.config_class):
            raise TypeError(
                f"{type(self).__name__} takes a {self.config_class.__name__}, not {type(config).__name__}; "
                f"to load a checkpoint, use {type(self).__name__}.from_pretrained(...)."
            )
        self.config = config
        self.generation_config = GenerationConfig.from_model_config(config) if self.can_generate() else None
        self._pretrained = False
        if self.calls_host:
            self.supports_jit = runtime.HOST_CALLS_COMPILE
        nn.set_initializer_range(getattr(config, "initializer_range", 0.02))

    built = nn.Layer.built

    # ------------------------------------------------------------------------------------------ call

    def __call__(self, *args: Any, training: bool | None = None, **kwargs: Any) -> ModelOutput:
        if _calls.stack:  # a part of a larger model: its inputs are in order already
            if runtime.calls_are_bare():
                return self._run(**kwargs)
            with _entered(self, pop_switches(kwargs)):
                return super().__call__(*args, **kwargs)
        flags = {name: kwargs.pop(name, None) for name in RECORDS}
        kwargs.pop("return_dict", None)
        cache = _cache(args, kwargs)
        inputs = self.prepare_inputs(*args, **kwargs)
        labels = {name: inputs.pop(name) for name in self.label_names if name in inputs}
        inputs |= self.inputs_from_labels(inputs, labels) if labels else {}
        names = [name for flag, names in RECORDS.items() if self._wanted(flag, flags[flag]) for name in names]
        symbolic = runtime.is_symbolic(inputs)
        bare = not training and not symbolic and not runtime.in_keras_call() and self._remat_mode is None
        bare_type = self._bare_type if bare else None
        switches = {} if bare_type is not None else pop_switches(inputs)
        with _entered(self, switches), nn.records(names) as records, runtime.bare_calls(bare_type, self._mixed):
            direct = bare_type is not None
            outputs = ModelOutput(self._run(**inputs) if direct else super().__call__(**inputs, training=training))
        outputs.update({name: tuple(found) for name, found in records.items() if found})
        if cache is not None:
            cache.advance()
            outputs["past_key_values"] = cache
        if labels:
            check_labels(outputs, labels, self.ignored_label)
            labels = keras.tree.map_structure(ops.convert_to_tensor, labels)
            loss = self.compute_head_loss(outputs, inputs, **labels)
            outputs = ModelOutput(**(loss if isinstance(loss, dict) else {"loss": loss}), **outputs)
        return outputs

    def _wanted(self, flag: str, given: bool | None) -> bool:
        return bool(getattr(self.config, flag) if given is None else given)

    def inputs_from_labels(self, inputs: dict[str, Any], labels: dict[str, Any]) -> dict[str, Any]:
        """For subclasses: further inputs that follow from labels, such as a decoder's."""
        return {}

    def get_encoder(self) -> keras.layers.Layer:
        """The encoder of an encoder-decoder model."""
        return self.bare_model().encoder

    def bare_model(self) -> PreTrainedModel:
        """The bare model in this one, or this one."""
        return getattr(self, self.base_model_prefix, self) if self.base_model_prefix else self

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the inputs, in the order in which they may be given by position."""
        own, passes_on = _parameters(type(self)._run)
        bare = self.bare_model()
        if passes_on and bare is not self:
            own = (*bare.input_names, *(name for name in own if name not in bare.input_names))
        return own

    @property
    def max_length(self) -> int | None:
        """The longest sequence of `input_ids` that the model has positions for; None where there is no limit."""
        return getattr(self.config, "max_position_embeddings", None)

    @property
    def ignores_padding(self) -> bool:
        """Whether tokens that `attention_mask` leaves out, added at the end, change no other output."""
        return "attention_mask" in self.input_names

    def prepare_inputs(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Brings inputs to tensors of this backend, by name.

        Raises:
            TypeError: an input has no such name here, or is of a type that holds no numbers.
            ValueError: an input is empty, ragged, or longer than the model has positions for.
        """
        names = self.input_names
        if args and isinstance(args[0], Mapping):
            kwargs, args = {**args[0], **kwargs}, args[1:]
        if len(args) > len(names):
            raise TypeError(f"{type(self).__name__} takes {len(names)} inputs, not {len(args)}: {', '.join(names)}.")
        kwargs = {**dict(zip(names, args, strict=False)), **kwargs}
        inputs = {}
        for name, value in kwargs.items():
            if value is None or (name in UNNEEDED and name not in names):
                continue
            if name not in names and name not in self.label_names:
                known = [*names, *self.label_names, *RECORDS]
                raise TypeError(
                    f"{type(self).__name__} has no input {name!r}.{nearest(name, known)} It takes {', '.join(known)}."
                )
            inputs[name] = self._prepare(name, value)
        if not set(inputs) & set(names):
            raise ValueError(f"{type(self).__name__} was called without inputs; it takes {', '.join(names)}.")
        sounds = getattr(self.bare_model(), "sound_ranks", {})
        if (names[0] in PICTURES or names[0] in sounds) and not {names[0], "encoder_outputs"} & set(inputs):
            raise ValueError(f"{type(self).__name__} needs {names[0]}; it was given {', '.join(inputs)}.")
        self._check_length(inputs)
        check = getattr(self.bare_model(), "check_inputs", None)
        if check is not None:  # a mere layer that stands for a bare model may have none
            check(inputs)
        return inputs

    def check_inputs(self, inputs: dict[str, Any]):
        """For bare models: raises ValueError where inputs, by name, are not what their layers can take."""

    def _prepare(self, name: str, value: Any) -> Any:
        if name in AS_GIVEN or isinstance(value, (bool, keras.KerasTensor)):
            return value
        if name == "labels":
            return value if ops.is_tensor(value) else self.pack_labels(value)
        if name in PICTURES:
            return self._prepare_pictures(name, value)
        rank = getattr(self.bare_model(), "sound_ranks", {}).get(name)
        if rank is not None:
            return self._prepare_sounds(name, value, rank)
        if ops.is_tensor(value):
            return value
        if isinstance(value, (tuple, Mapping)):  # several in one, such as encoder_outputs
            return keras.tree.map_structure(functools.partial(self._prepare, name), value)
        array = to_array(name, value)
        if name in self.label_names:
            return array  # until it is checked
        if array.ndim == 1 and array.dtype.kind in "iu":
            array = array[None]  # one sequence, as a tokenizer returns it for one text
        return ops.convert_to_tensor(array, dtype=self.compute_dtype if array.dtype.kind == "f" else None)

    def _prepare_pictures(self, name: str, value: Any) -> Any:
        """Pictures (or videos) as a batch of this model's type, channels last."""
        if not ops.is_tensor(value):
            value = to_array(name, value)
        rank = PICTURES[name]
        value = value[None] if len(value.shape) == rank - 1 else value
        shape, channels = tuple(value.shape), getattr(self.config, "num_channels", 3)
        if len(shape) != rank or shape[-1] not in (channels, None):
            axes = "(batch, height, width, channels)" if rank == 4 else "(batch, frames, height, width, channels)"
            turned = "; turn it with numpy.moveaxis(x, -3, -1)" if channels in shape[-3:-2] else ""
            raise ValueError(
                f"{name} has the shape {shape}, but {type(self).__name__} takes {axes} with {channels} channels "
                f"last{turned}."
            )
        if 0 in shape:
            raise ValueError(f"{name} is empty, of shape {shape}: give at least one picture of at least one pixel.")
        return ops.cast(ops.convert_to_tensor(value), self.compute_dtype)

    def _prepare_sounds(self, name: str, value: Any, rank: int) -> Any:
        """Samples or features of sounds as a batch of this model's type."""
        if not ops.is_tensor(value):
            value = to_array(name, value)
        value = value[None] if len(value.shape) == rank - 1 else value
        if len(value.shape) != rank or 0 in tuple(value.shape):
            axes = {2: "(batch, samples)", 3: "(batch, mels, frames) or (batch, frames, mels)"}[rank]
            raise ValueError(
                f"{name} has the shape {tuple(value.shape)}, but {type(self).__name__} takes {axes}, as the model's "
                "feature extractor returns them, with nothing empty."
            )
        return ops.cast(ops.convert_to_tensor(value), self.compute_dtype)

    def _check_length(self, inputs: dict[str, Any]):
        ids = inputs.get("input_ids")
        if ids is None or runtime.is_symbolic(ids):
            return
        length = ids.shape[-1]
        if length == 0 or ids.shape[0] == 0:
            raise ValueError(f"input_ids is empty, of shape {tuple(ids.shape)}: give at least one token.")
        if length is not None and self.max_length is not None and length > self.max_length:
            raise ValueError(
                f"input_ids is {length} tokens long and {type(self).__name__} has positions for {self.max_length}: "
                f"shorten the text, e.g. with tokenizer(..., truncation=True, max_length={self.max_length})."
            )

    # ------------------------------------------------------------------------------------ generation

    @classmethod
    def can_generate(cls) -> bool:
        """Whether the model has a head that predicts next words."""
        return any(kind.__name__.endswith(_GENERATES) for kind in cls.__mro__)

    def encode(self, output_hidden_states: bool = False, output_attentions: bool = False, **inputs: Any) -> ModelOutput:
        """What the encoder of an encoder-decoder model computes, for inference: `last_hidden_state` and records."""
        flags = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
        names = [f"encoder_{flag.removeprefix('output_')}" for flag, wanted in flags.items() if wanted]
        with _entered(self), nn.records(names) as records, runtime.bare_calls(self._bare_type, self._mixed):
            states = self.get_encoder()(**self.prepare_inputs(**inputs))
        outputs = ModelOutput(states) if isinstance(states, Mapping) else ModelOutput(last_hidden_state=states)
        outputs.update({name.removeprefix("encoder_"): tuple(found) for name, found in records.items()})
        return outputs

    def generate(self, inputs: Any = None, generation_config: Any = None, **kwargs: Any) -> np.ndarray | ModelOutput:
        """Continues prompts token by token.

        Greedy search by default; sampling, beams and the other searches of transformers by the settings that bear
        their names there: `do_sample`, `num_beams`, `penalty_alpha`, `assistant_model`, `prompt_lookup_num_tokens` ...

        Example:
            >>> tokens = model.generate(**tokenizer("Once upon a time"), max_new_tokens=40, do_sample=True, seed=1)
            >>> tokenizer.decode(tokens[0])

        Args:
            inputs: token ids (batch, length), or what a tokenizer returns; for an encoder-decoder model the encoder's.
                Batches of a decoder are padded on the left.
            generation_config: a `GenerationConfig` to use instead of the model's own.
            logits_processor: functions or `LogitsProcessor` objects that change scores; those written in keras.ops as
                `LogitsProcessor.process` stay in the compiled loop.
            stopping_criteria: functions of (ids, scores) that tell which rows, or whether all of them, are to stop.
            prefix_allowed_tokens_fn: function of (index of the text, its tokens) -> the tokens that may follow.
            assistant_model: a smaller model that drafts what this one then checks.
            streamer: gets each token as it comes, e.g. a `TextStreamer`.
            tokenizer: the model's, for `stop_strings`, or beside an assistant with another one.
            assistant_tokenizer: the assistant's, if it is another one.
            seed: of sampling; the same seed gives the same tokens, on every backend. By default one is drawn from
                NumPy's global generator, which `keras.utils.set_random_seed` seeds.
            use_model_defaults: whether the model's own settings apply where `generation_config` leaves them open.
            **kwargs: settings of a `GenerationConfig` for this call, and inputs of the model.

        Returns:
            Token ids (batch * num_return_sequences, length), prompts included unless there is an encoder; with
            `return_dict_in_generate=True` a ModelOutput of `sequences` and what `output_scores`, `output_logits`,
            `output_attentions` and `output_hidden_states` ask for.

        Raises:
            TypeError: a name is neither a setting nor an input.
            ValueError: settings contradict each other, or the prompt is empty or too long.
        """
        if not self.can_generate():
            raise TypeError(
                f"{type(self).__name__} has no head that predicts words: load the checkpoint with "
                "AutoModelForCausalLM or AutoModelForSeq2SeqLM."
            )
        from keras_models.generation.generate import generate

        return generate(self, inputs, generation_config, **kwargs)

    def compute_transition_scores(
        self, sequences: Any, scores: Sequence[Any], beam_indices: Any = None, normalize_logits: bool = False
    ) -> np.ndarray:
        """The scores of the tokens that `generate` chose.

        Args:
            sequences, scores, beam_indices: what it returned, the last of them for beams.
            normalize_logits: make the scores logarithms of probabilities, as those of beams are already.

        Returns:
            (sequences, longest number of new tokens), 0 behind the end of a beam.
        """
        from keras_models.generation.generate import transition_scores

        return transition_scores(sequences, scores, beam_indices, normalize_logits)

    # ---------------------------------------------------------------------------- loading and saving

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike,
        *,
        config: Config | None = None,
        dtype: str | None = None,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        **options: Any,
    ) -> Self | tuple[Self, dict[str, list]]:
        """Loads a checkpoint from a folder or the hub.

        Reads safetensors, PyTorch .bin, TensorFlow .h5 and Flax .msgpack files, whole or in shards. The tensors of a
        bare model load into a model with a head and the other way round.

        Args:
            source: a folder or a hub id.
            config: instead of the one beside the checkpoint.
            dtype: of the weights and of the computation: "float32", "float16", "bfloat16", a Keras policy such as
                "mixed_float16", or "auto" for the checkpoint's own; Keras' global policy by default.
            ignore_mismatched_sizes: draw tensors of another shape anew, as a new number of labels needs.
            output_loading_info: return (model, report of missing, unexpected and mismatched tensors).
            **options: hub options (`revision`, `subfolder`, `token`, `cache_dir`, `local_files_only`,
                `force_download`) and settings of the configuration to override, such as `num_labels=3`.

        Raises:
            CheckpointError: a file is damaged, or its tensors are not this model's.
            ValueError: config.json is damaged or describes another architecture.
            TypeError: an option is unknown.
            OSError: the repository or a file is not there, or cannot be reached.
        """
        hub, overrides = split_options({key: value for key, value in options.items() if key not in _NEEDLESS})
        dtype = overrides.pop("torch_dtype", None) if dtype is None else dtype
        if config is None:
            config = cls.config_class.from_pretrained(source, **hub, **overrides)
        elif overrides:
            raise TypeError(f"With config= given, set {', '.join(overrides)} on it instead.")
        repository = Repository(source, **hub)
        checkpoint = open_weights(repository)
        if dtype == "auto":
            dtype = config.dtype or next(str(t.dtype) for t in checkpoint.values() if t.dtype.kind not in "iub")
        with _dtype_scope(dtype):
            model, report = cls._with_weights(config, checkpoint, ignore_mismatched_sizes)
        model._pretrained = True
        if cls.can_generate() or repository.file("generation_config.json"):
            model.generation_config = GenerationConfig.for_model(repository, config)
        return (model, report.to_dict()) if output_loading_info else model

    @classmethod
    def _with_weights(cls, config, checkpoint, ignore_mismatched_sizes) -> tuple[Self, LoadingReport]:
        # In a stateless scope variables are not created; leaving it creates each from its initial value, once.
        scope = keras.StatelessScope(initialize_variables=True)
        with scope:
            try:
                model = cls(config)
                report = plan(model, checkpoint, ignore_mismatched_sizes)
            except BaseException:
                scope.initialize_variables = False
                raise
        return model, report

    def save_pretrained(self, folder: str | os.PathLike, max_shard_size: int | str = "5GB"):
        """Writes config.json and safetensors files under the hub's names, readable by transformers.

        A checkpoint that was in `folder` stays whole until the new one is.

        Args:
            folder: created if need be.
            max_shard_size: larger models are split into several files, e.g. "200MB".

        Raises:
            ValueError: the model is quantized, which the hub's layout has no names for.
        """
        if any(layer.dtype_policy.quantization_mode for layer in self._flatten_layers()):
            raise ValueError("A quantized model cannot be written in the hub's layout: use model.save('model.keras').")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors, seen = [], set()
        for entry, *_ in by_variable(entries(self)):
            dtype = np.dtype(keras.backend.standardize_dtype(entry.variable.dtype))
            tensors.append((entry.key, entry.stored_shape, dtype, functools.partial(_stored_array, entry, dtype)))
            constants = getattr(entry.layer, "constants", {}) if id(entry.layer) not in seen else {}
            seen.add(id(entry.layer))
            for name, array in constants.items():
                key = f"{entry.key.rpartition('.')[0]}.{name}"
                tensors.append((key, array.shape, array.dtype, functools.partial(np.asarray, array)))
        save_weights(tensors, folder, max_shard_size=max_shard_size)
        self.config.architectures = [type(self).__name__]
        self.config.dtype = keras.backend.standardize_dtype(self.variable_dtype)
        self.config.save_pretrained(folder)
        if self.generation_config is not None:
            try:
                self.generation_config.save_pretrained(folder)
            except ValueError as error:  # what a hub's file says, and a trained model must not be lost for it
                warnings.warn(f"generation_config.json was written though its settings disagree: {error}", stacklevel=2)
                write_atomically(folder / "generation_config.json", self.generation_config.to_json_string())

    def push_to_hub(self, repo_id: str, *, max_shard_size: int | str = "5GB", **options: Any) -> str:
        """Uploads what `save_pretrained` writes; returns the commit's URL."""
        return push_saved(functools.partial(self.save_pretrained, max_shard_size=max_shard_size), repo_id, **options)

    def get_config(self) -> dict[str, Any]:
        """What `.keras` files keep: the configuration."""
        policy = keras.dtype_policies.serialize(self.dtype_policy)
        return {"config": self.config.to_dict(), "name": self.name, "dtype": policy, "trainable": self.trainable}

    @classmethod
    def from_config(cls, config: dict[str, Any] | Config, **kwargs: Any) -> Self:
        """A model with fresh weights from a configuration, or from what `get_config` returned."""
        if isinstance(config, Config):
            return cls(config, **kwargs)
        with _dtype_scope(keras.dtype_policies.deserialize(config["dtype"])):
            model = cls(cls.config_class.from_dict(config["config"]), name=config["name"])
        model.trainable = config["trainable"]
        return model

    def resize_token_embeddings(self, size: int | None = None, pad_to_multiple_of: int | None = None):
        """Gives the vocabulary another size, e.g. after `tokenizer.add_tokens`; rows that are in both are kept.

        Args:
            size: the new number of entries; the current one by default.
            pad_to_multiple_of: rounds it up.
        """
        size = self.config.vocab_size if size is None else size
        if size < 1:
            raise ValueError(f"A vocabulary needs at least one entry, not {size}.")
        if pad_to_multiple_of:
            size = -(-size // pad_to_multiple_of) * pad_to_multiple_of
        config = type(self.config).from_dict(self.config.to_dict(), vocab_size=size)
        scope = keras.StatelessScope(initialize_variables=False)
        with scope:
            wanted = {entry.key: entry for entry in entries(type(self)(config))}
        for entry, *_ in by_variable(entries(self)):
            target = wanted[entry.key].variable
            if target.shape != entry.variable.shape:
                _resize(entry, target)
        self.config.vocab_size = size
        nn.bump_structure_version()


def _cache(args, kwargs) -> Cache | None:
    """The cache that a call is to use: given as past_key_values, or a new one where use_cache=True asks for it."""
    given = args[0] if args and isinstance(args[0], Mapping) else kwargs
    cache = given.get("past_key_values")
    if cache is not None and not isinstance(cache, Cache):
        raise TypeError(
            f"past_key_values must be a keras_models.Cache, such as a call with use_cache=True returns, "
            f"not {type(cache).__name__}."
        )
    if kwargs.pop("use_cache", False) and cache is None:
        cache = kwargs["past_key_values"] = Cache()
    return cache


def _resize(entry, target):
    variable = entry.variable
    old = ops.convert_to_numpy(variable)
    new = ops.convert_to_numpy(target._initializer(target.shape, dtype=target.dtype)).copy()
    kept = tuple(slice(min(sizes)) for sizes in zip(old.shape, new.shape, strict=True))
    new[kept] = old[kept]
    variable._shape = tuple(new.shape)
    variable._initialize(ops.convert_to_tensor(new, dtype=variable.dtype))
    if isinstance(entry.layer, keras.layers.Embedding):
        entry.layer.input_dim = new.shape[0]
    elif isinstance(entry.layer, keras.layers.Dense):
        entry.layer.units = new.shape[-1]


@functools.cache
def _parameters(run: Callable) -> tuple[tuple[str, ...], bool]:
    """The names of the inputs that a `call` takes itself, and whether it passes others on."""
    parameters = inspect.signature(run).parameters.values()
    named = [each.name for each in parameters if each.kind != each.VAR_KEYWORD]
    return tuple(name for name in named if name not in ("self", "training")), len(named) < len(parameters)


def _through_call(run: Callable) -> Callable:
    """Makes `call` an entrance like `__call__`: trainers call it directly, and then inputs must be prepared as well."""

    def call(self, *args, training=None, **kwargs):
        if _calls.stack and _calls.stack[-1][0] is self:
            return run(self, *args, **kwargs, **_calls.stack[-1][1])
        return self(*args, training=training, **kwargs)

    call.__doc__ = run.__doc__
    return call


def _stored_array(entry, dtype) -> np.ndarray:
    return np.asarray(entry.array(), dtype=dtype)


@contextmanager
def _dtype_scope(dtype: Any):
    if dtype is None:
        yield
        return
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(str(dtype).removeprefix("torch.") if isinstance(dtype, str) else dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
