"""The PyTorch backend: leaves call torch.nn.functional, and oneDNN's fused linear where that is the faster one."""

from __future__ import annotations

import time
from functools import lru_cache, partial

import keras
import torch
import torch.nn.functional as F
from keras.src.backend.common import global_state, stateless_scope
from torch.utils import _pytree

from keras_models.outputs import ModelOutput

__all__ = [
    "CACHE_IN_PLACE", "HOST_CALLS_COMPILE", "PAD_LENGTHS", "adopt", "attention", "cache_empty", "cache_grow",
    "cache_pack", "cache_read", "cache_rows", "cache_unpack", "cache_write", "compile_forward", "compile_program",
    "conv1d", "conv2d", "embedding", "frames", "gelu", "host_call", "layer_norm", "linear", "max_pool", "number",
    "read_column", "reshape", "resize", "rms_norm", "table_product", "while_loop", "write_column",
]  # fmt: skip

PAD_LENGTHS = False
CACHE_IN_PLACE = True
HOST_CALLS_COMPILE = True

_pytree.register_pytree_node(
    ModelOutput,
    lambda outputs: (list(outputs.values()), tuple(outputs)),
    lambda values, names: ModelOutput(zip(names, values, strict=True)),
    serialized_type_name="keras_models.ModelOutput",
)

# How oneDNN names what it fuses behind a product: (attribute, scalars, algorithm), by the activation's function name.
_FUSED = {
    None: ("none", [], ""),
    "gelu": ("gelu", [], "none"),
    "gelu_tanh": ("gelu", [], "tanh"),
    "relu": ("relu", [], ""),
    "tanh": ("tanh", [], ""),
    "sigmoid": ("sigmoid", [], ""),
    "silu": ("swish", [], ""),
}


def _value(variable):
    """A variable's tensor, past Keras' look-ups wherever no scope (shape inference, autocast) stands in for it."""
    if not isinstance(variable, keras.Variable):
        return variable
    if stateless_scope.in_stateless_scope() or global_state.get_global_attribute("autocast_scope") is not None:
        return variable.value
    return variable._value


def linear(x, kernel, bias, activation):
    weight = _value(kernel).t()  # (out, in): the way a kernel read from a checkpoint lies in memory
    bias = None if bias is None else _value(bias)
    if not _onednn_applies(x, weight):
        x = F.linear(x, weight, bias)
        return x if activation is None else _activated(x, activation)
    name = None if activation is None else activation.__name__
    x = torch.ops.mkldnn._linear_pointwise(x, weight, bias, *_FUSED.get(name, _FUSED[None]))
    return x if name in _FUSED else _activated(x, activation)


def _quick_gelu(x):
    if x.dtype != torch.float32:  # which would be rounded more often than in the formula
        return x * torch.sigmoid(1.702 * x)
    return F.silu(x.mul_(1.702), inplace=True).mul_(1 / 1.702)


_IN_PLACE = {  # activations that write over what they are given, by the function's name
    "gelu": torch.ops.aten.gelu_,
    "gelu_tanh": partial(torch.ops.aten.gelu_, approximate="tanh"),
    "quick_gelu": _quick_gelu,
    "relu": F.relu_,
    "silu": partial(F.silu, inplace=True),
}


def _activated(x, activation):
    """The activation of a product, which nobody else has seen: in inference its memory is used again."""
    in_place = None if torch.is_grad_enabled() else _IN_PLACE.get(getattr(activation, "__name__", None))
    return activation(x) if in_place is None else in_place(x)


def table_product(x, table):
    """(..., size) with the rows of a (count, size) table: (..., count)."""
    return linear(x, _value(table).t(), None, None)


def layer_norm(x, gamma, beta, epsilon):
    gamma = _value(gamma)
    beta = None if beta is None else _value(beta)
    return F.layer_norm(x, gamma.shape, gamma.to(x.dtype), None if beta is None else beta.to(x.dtype), epsilon)


def rms_norm(x, scale, epsilon):
    normal = F.rms_norm(x.float(), x.shape[-1:], None, epsilon).to(x.dtype)
    return normal * _value(scale).to(x.dtype)


def gelu(x):
    return F.gelu(x)


def reshape(x, shape):
    return x.reshape(shape)  # Keras' own spends twenty times as long on its arguments


def embedding(table, ids):
    return F.embedding(ids, _value(table))


def attention(query, key, value, bias, scale):
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)


def conv2d(x, kernel, bias, strides, pads, dilation, groups, activation=None, residual=None):
    """A convolution of channels-last memory, which PyTorch handles as a view with the channels second.

    In inference oneDNN also adds the residual and applies the activation, without passes over memory of their own.
    """
    weight = _value(kernel).permute(3, 2, 0, 1).to(x.dtype)
    bias = None if bias is None else _value(bias).to(x.dtype)
    if _cuts_patches(weight, strides, pads, dilation, groups) and activation is residual is None:
        return _patches(x, weight, bias)
    (top, bottom), (left, right) = pads
    x = x.permute(0, 3, 1, 2)
    if (top, left) != (bottom, right):
        x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
    if groups > 1 or not _onednn_convolves(x, weight):
        x = F.conv2d(x, weight, bias, strides, (top, left), dilation, groups).permute(0, 2, 3, 1)
        x = x if residual is None else x + residual
        return x if activation is None else activation(x)
    name = None if activation is None else activation.__name__
    fused, settings = torch.ops.mkldnn._convolution_pointwise, ((top, left), strides, dilation, groups)
    if residual is None:
        is_done = name in _FUSED
        x = fused(x, weight, bias, *settings, *_FUSED[name if is_done else None])
    else:
        is_done = name in (None, "relu")  # all that oneDNN does behind a sum
        after = _FUSED[name] if name == "relu" else (None, [], "")
        x = fused.binary(x, residual.permute(0, 3, 1, 2), weight, bias, *settings, "add", 1.0, *after)
    x = x.permute(0, 2, 3, 1)
    return x if is_done else activation(x)


def conv1d(x, kernel, bias, stride, pads, dilation, groups, activation=None):
    """`conv2d` of pictures of one row."""
    x, kernel = x[:, None], _value(kernel)[None]
    return conv2d(x, kernel, bias, (1, stride), ((0, 0), pads), (1, dilation), groups, activation)[:, 0]


def frames(x, size, stride):
    """(batch, length, channels) -> (batch, frames, size * channels), a frame of `size` places at every stride."""
    return x.unfold(1, size, stride).transpose(2, 3).flatten(2)


def _cuts_patches(weight, strides, pads, dilation, groups):
    """Whether windows neither overlap nor leave gaps, and are so large that a product is the faster way."""
    size = tuple(weight.shape[2:])
    return size == tuple(strides) and min(size) >= 8 and groups == 1 and not any(map(any, pads)) and max(dilation) == 1


def _patches(x, weight, bias):
    """A convolution that cuts patches: the product of these, turned as the weight lies in files, with the weight."""
    filters, channels, height, width = weight.shape
    rows, columns = x.shape[1] // height, x.shape[2] // width
    x = x[:, : rows * height, : columns * width].reshape(-1, rows, height, columns, width, channels)
    x = x.permute(0, 1, 3, 5, 2, 4).reshape(-1, rows, columns, channels * height * width)
    return linear(x, weight.reshape(filters, -1).t(), bias, None)


def max_pool(x, size, strides, pads):
    (top, _), (left, _) = pads
    return F.max_pool2d(x.permute(0, 3, 1, 2), size, strides, (top, left)).permute(0, 2, 3, 1)


def resize(x, size, method, align_corners):
    if tuple(x.shape[1:3]) == tuple(size):
        return x
    flags = {} if method == "nearest" else {"align_corners": align_corners}
    return F.interpolate(x.permute(0, 3, 1, 2), size, mode=method, **flags).permute(0, 2, 3, 1)


def host_call(function, results, *tensors):
    """`function` of NumPy arrays; no gradients flow through it."""
    found = function(*[each.detach().cpu().numpy() for each in tensors])
    return [torch.from_numpy(each).to(tensors[0].device) for each in found]


def adopt(tensor, axes, variable):
    """A view of the stored tensor on its private memory map, transposed without a copy; a copy where types differ."""
    array = tensor.view()
    value = _from_numpy(array).to(getattr(torch, variable.dtype)).contiguous()  # the layout that linear wants
    value = value if axes is None else value.permute(axes)
    return torch.nn.Parameter(
        value.to(keras.src.backend.torch.core.get_device()),
        requires_grad=variable.trainable and value.is_floating_point(),
    )


def _from_numpy(array):
    if array.dtype.name.startswith(("bfloat16", "float8")):
        return torch.from_numpy(array.view(f"int{8 * array.itemsize}")).view(getattr(torch, array.dtype.name))
    return torch.from_numpy(array)


def compile_forward(model, call):
    """`call`, a function of a dictionary of tensors: the model's forward pass in inference mode."""

    def forward(inputs):
        with torch.inference_mode():
            return call(inputs)

    return forward


def compile_program(model, function, donated=()):
    """`function` in inference mode: PyTorch compiles nothing."""
    return torch.inference_mode()(function)


def while_loop(condition, body, state):
    """`body` again and again, as long as the condition holds."""
    while condition(state):
        state = body(state)
    return state


def write_column(array, index, column):
    """`array` (..., columns), in place, with the column at `index` replaced."""
    array[..., index] = column
    return array


def number(value):
    """A Python number: nothing is compiled."""
    return value


def read_column(array, index):
    """The column of `array` (..., columns) at `index`."""
    return array[..., index]


def cache_empty(like, capacity):
    """Room for (batch, heads, capacity, size)."""
    return like.new_empty((*like.shape[:2], capacity, like.shape[3]))


def cache_write(cache, update, start):
    """The cache, in place, with `update` from position `start` on."""
    if update.requires_grad:
        cache = cache.clone()  # what came before may be needed for gradients
    cache[:, :, start : start + update.shape[2]] = update
    return cache


def cache_read(cache, end):
    """A view on the filled part."""
    return cache[:, :, :end]


def cache_pack(cache):
    """The cache itself."""
    return cache


def cache_unpack(packed, shape):
    """The cache itself."""
    return packed


def cache_grow(cache, capacity):
    """A copy with room for more."""
    grown = cache_empty(cache, capacity)
    grown[:, :, : cache.shape[2]] = cache
    return grown


def cache_rows(cache, rows, length):
    """A copy of some rows, as far as they are filled."""
    chosen = cache.new_empty((len(rows), *cache.shape[1:]))
    chosen[:, :, :length] = cache[:, :, :length].index_select(0, rows)
    return chosen


def _onednn_applies(x, weight):
    return _is_plain_inference(x, weight) and weight.is_contiguous() and _onednn_is_faster()


def _onednn_convolves(x, weight):
    return _is_plain_inference(x, weight) and _onednn_has("_convolution_pointwise")


def _is_plain_inference(x, weight):
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )


@lru_cache
def _onednn_has(name: str) -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, name)


@lru_cache
def _onednn_is_faster() -> bool:
    """A trial of some milliseconds: which library multiplies faster depends on the processor."""
    if not _onednn_has("_linear_pointwise"):
        return False
    x, weight, bias = torch.ones(128, 768), torch.ones(768, 768), torch.ones(768)
    plain, fused = [], []
    for _ in range(12):
        plain.append(_seconds(lambda: F.linear(x, weight, bias)))
        fused.append(_seconds(lambda: torch.ops.mkldnn._linear_pointwise(x, weight, bias, *_FUSED[None])))
    return min(fused) < min(plain)


def _seconds(function) -> float:
    start = time.process_time()  # what else the machine does must not decide
    function()
    return time.process_time() - start
