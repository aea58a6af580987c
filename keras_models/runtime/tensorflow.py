"""The TensorFlow backend: forward passes are graphs with free lengths, so one graph serves all of them."""

from __future__ import annotations

import tensorflow as tf

from keras_models.runtime.stock import attention, embedding, layer_norm, linear

__all__ = ["PAD_LENGTHS", "adopt", "attention", "compile_forward", "embedding", "layer_norm", "linear"]

PAD_LENGTHS = False


def adopt(tensor, axes, variable):
    """One aligned copy of a stored tensor, which TensorFlow then uses in place."""
    array = tensor.read(dtype=variable.dtype, axes=axes)
    if array.dtype.isbuiltin == 1 and array.size:
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())  # tf.convert_to_tensor would copy
    return tf.convert_to_tensor(array)  # bfloat16 and its like, which NumPy cannot hand over


def compile_forward(model, flags):
    """A function of a dictionary of tensors: the model's forward pass as a graph, traced anew only for new ranks."""

    @tf.function(reduce_retracing=True, autograph=False)
    def forward(inputs):
        return model(**inputs, **flags)

    return forward
