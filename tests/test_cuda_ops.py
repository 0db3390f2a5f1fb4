"""The table of op_cases.py on CUDA: every case, dtype and layout, as every kind of array.

On the test bed the small ones, once each: there a kernel's threads take turns.
"""

from __future__ import annotations

import itertools
import os
from typing import Any

import gpu
import numpy as np
import pytest
from cnnext import ops, testing
from op_case import IMAGE_OPS, Case
from op_cases import all_cases
from op_check import check_float32, laid_out, layouts
from op_check_half import BFLOAT16, FLOAT16, Half, cast, check_half

gpu.need_device()
from gpu import arrays  # noqa: E402

pytestmark = pytest.mark.cuda
KINDS = arrays.kinds()
DTYPES: dict[str, Half | None] = {"float32": None, "float16": FLOAT16, "bfloat16": BFLOAT16}


def work(case: Case) -> int:
    """About how many multiply-adds or elements a case has."""
    made = case.make()
    elements = sum(array.size for array in made.values())
    if not case.op.startswith(("conv", "linear")):
        taps = case.params.get("kernel_size", 1)
        return elements * int(np.prod(taps if isinstance(taps, tuple) else (taps, taps)))
    first = made.get("grad_y", made.get("x"))
    return first.size * case.terms if case.op != "conv2d_backward_weights" else made["x"].size * case.terms


def dtypes(case: Case) -> list[str]:
    """Whole numbers have no other."""
    return list(DTYPES) if any(a.dtype.kind == "f" for a in case.make().values()) else ["float32"]


#: The most work of a case on the test bed, where each goes through one kind of array, in turns.
MOST_ON_BED = 3000


def fits(case: Case) -> bool:
    return not gpu.ON_BED or work(case) <= MOST_ON_BED


#: For a sanitizer, under which kernels take a hundred times as long: of each operation the two cases with the
#: most work below this, by one kind of array.
FEW = os.environ.get("CNNEXT_CUDA_CASES") == "few"
MOST_OF_FEW = 100_000


def few_cases() -> list[Case]:
    by_op: dict[str, list[Case]] = {}
    for case in sorted(filter(fits, all_cases()), key=work):
        if work(case) <= MOST_OF_FEW:
            by_op.setdefault(case.op, []).append(case)
    return [case for cases in by_op.values() for case in cases[-2:]]


def runs() -> list[Any]:
    found: list[Any] = []
    possible = KINDS[:1] if FEW else KINDS
    for case in few_cases() if FEW else filter(fits, all_cases()):
        for dtype, layout in itertools.product(dtypes(case), layouts(case)):
            kinds = [kind for kind in possible if dtype != "bfloat16" or kind.has_bfloat16]
            for kind in [kinds[len(found) % len(kinds)]] if gpu.ON_BED else kinds:
                name = f"{case} [{dtype} {layout} {kind}]"
                found.append(pytest.param(case, dtype, layout, kind, id=name))
    return found


@pytest.mark.parametrize(("case", "dtype", "layout", "kind"), runs())
def test_against_ref(case: Case, dtype: str, layout: str, kind: arrays.Kind) -> None:
    half = DTYPES[dtype]
    host = case.make() if half is None else cast(case.make(), half.dtype)
    given = kind.put_all(laid_out(host, layout))
    results = tuple(kind.take(result) for result in case.run(given))
    if results[0].size:
        assert testing.last_kernel().startswith("cuda/")
    if case.op != "dropout" or layout == "nchw":  # dropout counts positions in memory order
        if half is None:
            check_float32(case, results)
        else:
            check_half(case, half, results)
    for name, array in given.items():
        if not (name.startswith("running_") and case.params.get("training")):
            np.testing.assert_array_equal(kind.take(array), host[name], err_msg=f"{name} was written")


IMAGE_CASES = [c for c in all_cases() if c.op in IMAGE_OPS and fits(c) and "unbatched" not in c.note]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("case", IMAGE_CASES[:: 10 if gpu.ON_BED else 1], ids=str)
def test_the_result_has_the_format_of_x(case: Case, kind: arrays.Kind) -> None:
    shape = case.make()["x"].shape
    for layout, order in (("nchw", (0, 1, 2, 3)), ("nhwc", (0, 2, 3, 1))):
        if layout == "nhwc" and 1 in (shape[1], shape[2] * shape[3]):
            continue  # the same memory as NCHW
        for result in case.run(kind.put_all(laid_out(case.make(), layout))):
            assert kind.take(result).transpose(order).flags.c_contiguous


def test_what_cuda_has_not() -> None:
    """float64 is the reference's; an error says so, and nothing falls back to the host."""
    x = arrays.INTERFACE.put(np.ones((1, 2, 5, 4)))
    with pytest.raises(NotImplementedError, match="cuda"):
        ops.relu(x)
    with testing.backend("cpu"), pytest.raises(ValueError, match="cuda:0"):
        ops.relu(x)
