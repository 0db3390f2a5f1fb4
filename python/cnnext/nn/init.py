"""Initialisation in place, under torch.nn.init's names, from the generator of cnnext.manual_seed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..random import generator as _shared_generator
from ..tape import Variable
from ..tensor import Tensor

_GAINS = {
    "linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "conv_transpose2d": 1.0, "sigmoid": 1.0,
    "tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 0.75,
}  # fmt: skip


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights grow for a nonlinearity (torch.nn.init.calculate_gain)."""
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in _GAINS:
        raise ValueError(f"nonlinearity={nonlinearity!r} must be leaky_relu or one of {', '.join(_GAINS)}")
    return _GAINS[nonlinearity]


def _fans(tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ValueError(
            f"fan in and fan out need at least 2 dimensions; the tensor has shape {list(tensor.shape)}"
        )
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _fan(tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode={mode!r} must be 'fan_in' or 'fan_out'")
    return _fans(tensor)[mode == "fan_out"]


def _fill(tensor: Tensor, values: Any) -> Tensor:
    if not isinstance(tensor, Variable):
        raise TypeError(f"expected a Tensor, got {type(tensor).__name__}")
    tensor.data[...] = values
    tensor._version.count += 1
    return tensor


def constant_(tensor: Tensor, val: float) -> Tensor:
    """One value everywhere."""
    return _fill(tensor, val)


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return _fill(tensor, 0)


def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return _fill(tensor, 1)


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: np.random.Generator | None = None
) -> Tensor:
    """Uniform in [a, b)."""
    values = (generator or _shared_generator()).random(tensor.shape, _draw_dtype(tensor))
    return _fill(tensor, values * values.dtype.type(b - a) + values.dtype.type(a))


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: np.random.Generator | None = None
) -> Tensor:
    """Normal with this mean and standard deviation."""
    if std < 0:
        raise ValueError(f"std={std} must not be negative")
    values = np.asarray((generator or _shared_generator()).standard_normal(tensor.shape, _draw_dtype(tensor)))
    return _fill(tensor, values * values.dtype.type(std) + values.dtype.type(mean))


def _draw_dtype(tensor: Tensor) -> Any:
    return np.float64 if tensor.dtype == np.float64 else np.float32


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: np.random.Generator | None = None
) -> Tensor:
    """Uniform in +-gain * sqrt(6 / (fan_in + fan_out)): Glorot and Bengio, 2010."""
    bound = gain * math.sqrt(6.0 / sum(_fans(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: np.random.Generator | None = None) -> Tensor:
    """Normal with standard deviation gain * sqrt(2 / (fan_in + fan_out))."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(_fans(tensor))), generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Uniform in +-gain * sqrt(3 / fan): He et al., 2015."""
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3.0 / max(_fan(tensor, mode), 1))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Normal with standard deviation gain / sqrt(fan)."""
    return normal_(
        tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(max(_fan(tensor, mode), 1)), generator
    )


def default_(weight: Tensor, bias: Tensor | None) -> None:
    """torch's convolutions and dense layers: weight and bias uniform within +-1 / sqrt(fan_in)."""
    kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        bound = 1 / math.sqrt(max(_fans(weight)[0], 1))
        uniform_(bias, -bound, bound)
