"""The JAX backend: forward passes are jit-compiled with the parameters passed in, lengths go in buckets."""

from __future__ import annotations

import os

import jax
import keras

from keras_models.outputs import ModelOutput
from keras_models.runtime.stock import attention, embedding, layer_norm, linear

__all__ = ["PAD_LENGTHS", "adopt", "attention", "compile_forward", "embedding", "layer_norm", "linear"]

PAD_LENGTHS = True

# What takes long to compile is kept for the next process, unless the user has chosen a place, or set
# JAX_ENABLE_COMPILATION_CACHE=0.
if jax.config.jax_compilation_cache_dir is None:
    _caches = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    jax.config.update("jax_compilation_cache_dir", os.path.join(_caches, "keras_models", "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

jax.tree_util.register_pytree_node(
    ModelOutput,
    lambda outputs: (tuple(outputs.values()), tuple(outputs)),
    lambda names, values: ModelOutput(zip(names, values, strict=True)),
)


def adopt(tensor, axes, variable):
    """One aligned copy of a stored tensor, which JAX then uses in place."""
    return jax.device_put(tensor.read(dtype=variable.dtype, axes=axes))


def compile_forward(model, flags):
    """A function of a dictionary of tensors: the model's forward pass as one compiled program per input shape."""
    variables = model.variables

    @jax.jit
    def forward(values, inputs):
        with keras.StatelessScope(zip(variables, values, strict=True)):
            return model(**inputs, **flags)

    return lambda inputs: forward([variable.value for variable in variables], inputs)
