"""Whether an operation's results are those of its case in float16 and bfloat16, on any backend.

The inputs are rounded to 16 bits first; the oracle is the reference in float64 on those. The bound is
float32's of the same case and one rounding of the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
from cnnext import testing
from op_case import EPS, Case
from op_check import BY_NAME


@dataclass(frozen=True)
class Half:
    dtype: Any
    rounding: float  #: the largest relative error of one rounding
    least: float  #: half of the least positive value

    def __str__(self) -> str:
        return np.dtype(self.dtype).name


FLOAT16 = Half(np.float16, 2.0**-11, 2.0**-25)
BFLOAT16 = Half(ml_dtypes.bfloat16, 2.0**-8, 2.0**-134)
HALVES = [FLOAT16, BFLOAT16]


def is_float(array: Any) -> bool:
    return array.dtype.kind in "fV"  # ml_dtypes' types are of kind V


SAVED = ("save_mean", "save_invstd")  #: batch norm's statistics are float32 beside 16-bit images


def cast(arrays: dict[str, np.ndarray], dtype: Any) -> dict[str, np.ndarray]:
    def to(name: str) -> Any:
        return np.float32 if name in SAVED and np.dtype(dtype).itemsize == 2 else dtype

    return {k: v.astype(to(k)) if is_float(v) else v for k, v in arrays.items()}


@cache
def _expected_half(name: str, half: Half) -> tuple[tuple, tuple]:
    """The results in float64 and the bounds of float32's errors, for 16-bit arguments."""
    case = BY_NAME[name]
    arrays = cast(case.make(), half.dtype)
    with testing.backend("ref"):
        results = case.run(cast(arrays, np.float64))
        if case.rule == "smooth":
            return results, tuple(case.scale * EPS * (1 + np.abs(r)) for r in results)
        params = {k: v for k, v in case.params.items() if k != "activation"}
        plain = Case(case.op, case.note, case.arrays, params)
        magnitudes = {k: np.abs(v) if is_float(v) else v for k, v in cast(arrays, np.float64).items()}
        bounds = tuple(4 * np.sqrt(case.terms) * EPS * s for s in plain.run(magnitudes))
    if case.params.get("activation"):
        bounds = tuple(1.2 * b + 8 * EPS * (1 + np.abs(r)) for b, r in zip(bounds, results, strict=True))
    return results, bounds


def check_half(case: Case, half: Half, actual: tuple) -> None:
    results, bounds = _expected_half(str(case), half)
    assert len(actual) == len(results)
    for i, (got, want, bound) in enumerate(zip(actual, results, bounds, strict=True)):
        assert got.shape == want.shape
        if not is_float(got):
            np.testing.assert_array_equal(got, want)
            continue
        limit = bound
        if case.op == "batch_norm_forward" and i > 0:
            assert got.dtype == np.float32
        else:
            assert got.dtype == half.dtype
            limit = bound + half.rounding * (np.abs(want) + bound) + half.least
        error = np.abs(got.astype(np.float64) - want)
        assert (error <= limit).all(), f"{(error / limit).max()} times the bound"
