"""Initialisation in place, under torch.nn.init's names, from the generator of cnnext.manual_seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..random import generator as _shared_generator
from ..tape import Variable
from ..tensor import Tensor

_GAINS = {
    "linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0, "conv_transpose3d": 1.0, "sigmoid": 1.0,
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
    return _scaled(tensor, (generator or _shared_generator()).random, b - a, a)


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: np.random.Generator | None = None
) -> Tensor:
    """Normal with this mean and standard deviation."""
    if std < 0:
        raise ValueError(f"std={std} must not be negative")
    return _scaled(tensor, (generator or _shared_generator()).standard_normal, std, mean)


def _scaled(tensor: Tensor, draw: Callable[..., Any], scale: float, offset: float) -> Tensor:
    """Drawn values times scale plus offset; drawn in the tensor's own memory where that is possible."""
    if not isinstance(tensor, Variable):
        raise TypeError(f"expected a Tensor, got {type(tensor).__name__}")
    array, dtype = tensor.data, _draw_dtype(tensor)
    fits = isinstance(array, np.ndarray) and array.dtype == dtype and array.flags.c_contiguous and array.ndim
    values = draw(dtype=dtype, out=array) if fits else np.asarray(draw(tensor.shape, dtype))
    np.multiply(values, dtype(scale), out=values)
    np.add(values, dtype(offset), out=values)
    if not fits:
        return _fill(tensor, values)
    tensor._version.count += 1
    return tensor


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Normal, of the values within [a, b] alone: what falls outside is drawn again."""
    if not std > 0 or not a < b:
        raise ValueError(f"std={std} must be positive and a={a} below b={b}")
    if not a - 2 * std <= mean <= b + 2 * std:
        raise ValueError(f"mean={mean} must be at most two standard deviations ({std}) outside of [{a}, {b}]")
    rng = generator or _shared_generator()
    values = np.empty(math.prod(tensor.shape), _draw_dtype(tensor))
    left = np.arange(values.size)
    while left.size:
        if b - a > 2 * std:
            drawn = rng.normal(mean, std, left.size)
            good = (drawn >= a) & (drawn <= b)
        else:  # a narrow piece of the bell: uniform values, each kept as often as the bell is high there
            drawn = rng.uniform(a, b, left.size)
            top = min(max(mean, a), b)
            height = np.exp(((top - mean) ** 2 - (drawn - mean) ** 2) / (2 * std * std))
            good = rng.random(left.size) < height
        values[left[good]] = drawn[good]
        left = left[~good]
    return _fill(tensor, values.reshape(tensor.shape))


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


def orthogonal_(tensor: Tensor, gain: float = 1, generator: np.random.Generator | None = None) -> Tensor:
    """A matrix with orthonormal rows or columns, whichever are fewer, times gain: Saxe et al., 2014.

    The dimensions after the first count as one: a convolution's filters are the rows.
    """
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_ needs 2 dimensions or more; the tensor has shape {list(tensor.shape)}")
    if not tensor.numel():
        return tensor
    rows = tensor.shape[0]
    columns = tensor.numel() // rows
    drawn = (generator or _shared_generator()).standard_normal((rows, columns), _draw_dtype(tensor))
    q, r = np.linalg.qr(drawn.T if rows < columns else drawn)
    q *= np.where(np.diagonal(r) < 0, -1, 1).astype(q.dtype)  # else QR's choice of signs shows
    return _fill(tensor, (gain * (q.T if rows < columns else q)).reshape(tensor.shape))


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix: ones on the diagonal of a 2-d tensor."""
    if tensor.ndim != 2:
        raise ValueError(f"eye_ needs 2 dimensions; the tensor has shape {list(tensor.shape)}")
    return _fill(tensor, np.eye(*tensor.shape))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """The weight of a convolution that hands on its input: in each group filter i takes channel i's centre.

    tensor: (K, C / groups, ...) with one to three dimensions more; filters beyond the channels are zero.
    """
    if tensor.ndim not in (3, 4, 5):
        raise ValueError(f"dirac_ needs 3, 4 or 5 dimensions; the tensor has shape {list(tensor.shape)}")
    if groups < 1 or tensor.shape[0] % groups:
        raise ValueError(f"groups={groups} must divide the first size of shape {list(tensor.shape)}")
    values = np.zeros(tensor.shape, _draw_dtype(tensor))
    filters = tensor.shape[0] // groups
    centre = tuple(n // 2 for n in tensor.shape[2:])
    for group in range(groups):
        for i in range(min(filters, tensor.shape[1])):
            values[(group * filters + i, i, *centre)] = 1
    return _fill(tensor, values)


def sparse_(
    tensor: Tensor, sparsity: float, std: float = 0.01, generator: np.random.Generator | None = None
) -> Tensor:
    """Normal, but in each column ceil(sparsity * rows) elements, drawn too, are zero: Martens, 2010."""
    if tensor.ndim != 2:
        raise ValueError(f"sparse_ needs 2 dimensions; the tensor has shape {list(tensor.shape)}")
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity={sparsity} must lie between 0 and 1")
    rows, columns = tensor.shape
    rng = generator or _shared_generator()
    values = rng.standard_normal((rows, columns), _draw_dtype(tensor)) * std
    for column in range(columns):
        values[rng.permutation(rows)[: math.ceil(sparsity * rows)], column] = 0
    return _fill(tensor, values)


def default_(weight: Tensor, bias: Tensor | None) -> None:
    """torch's convolutions and dense layers: weight and bias uniform within +-1 / sqrt(fan_in)."""
    kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        bound = 1 / math.sqrt(max(_fans(weight)[0], 1))
        uniform_(bias, -bound, bound)
