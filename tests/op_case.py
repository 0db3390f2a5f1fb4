"""What a case of an operation is. A case says how exact its float32 results must be:
"exact"   the float32 result equals the reference, bit for bit;
"sum"     |error| <= 4 sqrt(terms) eps sum|x w| against float64, the bound that the design promises;
"winograd" as "sum" for algorithm="direct"; else the RMS of the error is at most 3 times direct's, and every
          |error| <= sqrt(terms) eps max(sum|x w|);
"smooth"  |error| <= scale eps (1 + |y|) against float64.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cnnext import _C, ops

EPS = 2.0**-23
#: The instruction set whose float32 kernels are in use: an extension for bfloat16 adds none.
FLOAT_ISA = _C.isa().removesuffix("_bf16")
IMAGE_OPS = ("conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "max_unpool2d")
Maker = Callable[[np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Case:
    op: str
    note: str  #: why the case is here
    arrays: dict[str, tuple[int, ...] | Maker]  #: arguments: a shape (normal values) or a maker
    params: dict[str, Any] = field(default_factory=dict)
    rule: str = "sum"
    terms: int = 1  #: of "sum" and "winograd": how many products or values one result adds up
    scale: float = 8.0  #: of "smooth"

    def __str__(self) -> str:
        return f"{self.op}: {self.note}"

    def make(self) -> dict[str, np.ndarray]:
        """The arguments, float32 where they are floats; the same at every call."""
        rng = np.random.default_rng(zlib.crc32(str(self).encode()))
        return {
            name: np.asarray(spec(rng) if callable(spec) else rng.standard_normal(spec).astype(np.float32))
            for name, spec in self.arrays.items()
        }

    def run(self, arrays: dict[str, np.ndarray], **more: Any) -> tuple[np.ndarray, ...]:
        """The results, as a tuple, of the operation on these arrays."""
        result = getattr(ops, self.op)(**arrays, **self.params, **more)
        return result if isinstance(result, tuple) else (result,)


def widen(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays, floats as float64."""
    return {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in arrays.items()}


def pair(value: Any) -> tuple[int, int]:
    return tuple(value) if isinstance(value, tuple) else (value, value)


def few_values(shape: tuple[int, ...], dtype: Any = np.float32) -> Maker:
    """Many ties: the order of the taps decides the argmax."""
    return lambda rng: rng.integers(-3, 4, shape).astype(dtype)


def wide(shape: tuple[int, ...]) -> Maker:
    """Values from both tails of an activation."""
    return lambda rng: (rng.standard_normal(shape) * 4).astype(np.float32)


def positive(shape: tuple[int, ...]) -> Maker:
    return lambda rng: (rng.random(shape) + 0.5).astype(np.float32)
