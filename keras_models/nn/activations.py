"""Activation functions by the names in config.json."""

from __future__ import annotations

import math
from collections.abc import Callable

from keras import ops

from keras_models import runtime
from keras_models.config import nearest


def gelu(x):
    """Gaussian error linear unit, exact."""
    return runtime.gelu(x)


def gelu_tanh(x):
    """Gaussian error linear unit, by the tanh formula."""
    return ops.gelu(x, approximate=True)


def quick_gelu(x):
    """x * sigmoid(1.702 x)."""
    return x * ops.sigmoid(1.702 * x)


def mish(x):
    """x * tanh(softplus(x))."""
    return x * ops.tanh(ops.softplus(x))


def gelu_10(x):
    """The exact gelu, clipped to [-10, 10]."""
    return ops.clip(gelu(x), -10.0, 10.0)


def relu2(x):
    """The square of relu."""
    return ops.square(ops.relu(x))


def laplace(x):
    """The cumulative Laplace distribution function with mean 0.7071 and deviation 0.2821 (MEGA's)."""
    return 0.5 * (1.0 + ops.erf((x - 0.707107) / (0.282095 * math.sqrt(2.0))))


def linear(x):
    """The identity."""
    return x


ACTIVATIONS: dict[str, Callable] = {
    "gelu": gelu,
    "gelu_python": gelu,
    "gelu_10": gelu_10,
    "gelu_new": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu_python_tanh": gelu_tanh,
    "gelu_accurate": gelu_tanh,
    "quick_gelu": quick_gelu,
    "laplace": laplace,
    "leaky_relu": lambda x: ops.leaky_relu(x, negative_slope=0.01),
    "linear": linear,
    "mish": mish,
    "relu": ops.relu,
    "relu2": relu2,
    "relu6": ops.relu6,
    "prelu": lambda x: ops.leaky_relu(x, negative_slope=0.25),
    "sigmoid": ops.sigmoid,
    "silu": ops.silu,
    "swish": ops.silu,
    "tanh": ops.tanh,
}


def get_activation(name: str | Callable) -> Callable:
    """The function that config.json's `hidden_act` means.

    Raises:
        ValueError: no such activation.
    """
    if callable(name):
        return name
    if name not in ACTIVATIONS:
        raise ValueError(f"Unknown activation {name!r}.{nearest(name, list(ACTIVATIONS))}")
    return ACTIVATIONS[name]
