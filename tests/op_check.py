"""Whether an operation's float32 results are those of its case, on any backend: layouts and bounds."""

from __future__ import annotations

from functools import cache

import numpy as np
from cnnext import testing
from op_case import EPS, Case, widen
from op_cases import all_cases

BY_NAME = {str(case): case for case in all_cases()}
assert len(BY_NAME) == len(all_cases()), "two cases have one name"


def nchw(array: np.ndarray) -> np.ndarray:
    return array.copy("C")


def nhwc(array: np.ndarray) -> np.ndarray:
    """Channels-last memory, same logical shape."""
    if array.ndim not in (3, 4):
        return array
    return np.moveaxis(np.moveaxis(array, -3, -1).copy("C"), -1, -3)


def strided(array: np.ndarray) -> np.ndarray:
    """Every other element of a larger array, the last axis backwards."""
    if array.ndim == 0:
        return array
    room = np.zeros(tuple(2 * n for n in array.shape), array.dtype)
    view = room[tuple(slice(None, None, 2) for _ in array.shape)][..., ::-1]
    view[...] = array
    return view


LAYOUTS = {"nchw": nchw, "nhwc": nhwc, "strided": strided}
WEIGHTS = ("weight",)


def laid_out(arrays: dict[str, np.ndarray], layout: str) -> dict[str, np.ndarray]:
    """The arrays in a layout; weights stay as NumPy's users have them, but for "nhwc weights"."""
    convert = LAYOUTS[layout.split()[0]]
    keep = () if layout in ("nhwc weights", "strided") else WEIGHTS
    return {k: v if k in keep or not isinstance(v, np.ndarray) else convert(v) for k, v in arrays.items()}


def layouts(case: Case) -> list[str]:
    arrays = case.make()
    found = ["nchw"]
    if any(a.ndim in (3, 4) for k, a in arrays.items() if k not in WEIGHTS):
        found.append("nhwc")
    if case.op.startswith("conv") and "weight" in arrays:
        found.append("nhwc weights")
    return [*found, "strided"]


@cache
def _expected(name: str) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...] | None]:
    """The reference's results and, for sums, the bounds of the float32 error."""
    case = BY_NAME[name]
    with testing.backend("ref"):
        if case.rule == "exact":
            return case.run(case.make()), None
        results = case.run(widen(case.make()))
        if case.rule == "smooth":
            return results, None
        magnitude = {k: np.abs(v) if v.dtype.kind == "f" else v for k, v in widen(case.make()).items()}
        params = {k: v for k, v in case.params.items() if k != "activation"}
        sums = Case(case.op, case.note, case.arrays, params).run(magnitude)
    bounds = tuple(4 * np.sqrt(case.terms) * EPS * s for s in sums)
    if case.params.get("activation"):  # no slope above 1.13, and the activation's own rounding
        bounds = tuple(1.2 * b + 8 * EPS * (1 + np.abs(r)) for b, r in zip(bounds, results, strict=True))
    return results, bounds


@cache
def _direct_rms(name: str) -> float:
    """The RMS of the direct algorithm's error before any activation: relu6, for one, keeps small sums."""
    case = BY_NAME[name]
    params = {k: v for k, v in case.params.items() if k != "activation"}
    plain = Case(case.op, case.note, case.arrays, params)
    arrays = case.make()
    (y,) = plain.run(arrays, algorithm="direct")
    with testing.backend("ref"):
        (want,) = plain.run(widen(arrays))
    return float(np.sqrt(np.mean((y - want) ** 2)))


def _check_winograd(case: Case, actual: tuple[np.ndarray, ...]) -> None:
    """Errors spread within a tile: no bound of an element's own."""
    (got,), ((want,), (bound,)) = actual, _expected(str(case))
    assert got.shape == want.shape
    assert got.dtype == np.float32
    error = np.abs(got.astype(np.float64) - want)
    assert np.sqrt(np.mean(error**2)) <= 3 * _direct_rms(str(case))
    assert error.max() <= bound.max() / 4


def check_sums(case: Case, actual: tuple[np.ndarray, ...]) -> None:
    """Against the reference and the case's rule, but for Winograd's."""
    results, bounds = _expected(str(case))
    assert len(actual) == len(results)
    for i, (got, want) in enumerate(zip(actual, results, strict=True)):
        assert got.shape == want.shape
        if case.rule == "exact" or got.dtype.kind != "f":
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)
            continue
        assert got.dtype == np.float32
        bound = case.scale * EPS * (1 + np.abs(want)) if bounds is None else bounds[i]
        error = np.abs(got.astype(np.float64) - want)
        worst = np.unravel_index(np.argmax(error - bound), error.shape) if error.size else ()
        assert (error <= bound + 1e-37).all(), (
            f"result {i} at {worst}: {got[worst]} is not {want[worst]} within {np.asarray(bound)[worst]}"
        )


def check_float32(case: Case, actual: tuple[np.ndarray, ...]) -> None:
    """Against the reference and the case's rule."""
    (_check_winograd if case.rule == "winograd" else check_sums)(case, actual)
