"""The CPU kernels of the instruction set in use against the reference, in every layout."""

from __future__ import annotations

import numpy as np
import pytest
from cnnext import _C, ops, testing
from op_case import FLOAT_ISA, IMAGE_OPS, Case
from op_cases import all_cases
from op_check import LAYOUTS, check_float32, check_sums, laid_out, layouts, nhwc

CASES = all_cases()


@pytest.mark.parametrize(
    ("case", "layout"),
    [pytest.param(case, layout, id=f"{case} [{layout}]") for case in CASES for layout in layouts(case)],
)
def test_against_ref(case: Case, layout: str) -> None:
    arrays = laid_out(case.make(), layout)
    before = {k: v.copy() for k, v in arrays.items()}
    results = case.run(arrays)
    if case.op != "dropout" or layout == "nchw":  # dropout counts positions in memory order
        check_float32(case, results)
    for name, array in arrays.items():
        if not (name.startswith("running_") and case.params.get("training")):
            np.testing.assert_array_equal(array, before[name], err_msg=f"{name} was written")


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("case", [c for c in CASES if c.op.startswith("conv2d")], ids=str)
def test_direct_is_always_there(case: Case, layout: str) -> None:
    arrays = laid_out(case.make(), layout)
    params = {**case.params, "algorithm": "direct"}
    check_sums(case, (getattr(ops, case.op)(**arrays, **params),))


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.op in IMAGE_OPS and "unbatched" not in c.note], ids=str
)
def test_the_result_has_the_format_of_x(case: Case) -> None:
    channels = case.make()["x"].shape[1]
    for layout, order in (("nchw", (0, 1, 2, 3)), ("nhwc", (0, 2, 3, 1))):
        if layout == "nhwc" and channels == 1:
            continue  # the same memory as NCHW, and taken as that
        for result in case.run(laid_out(case.make(), layout)):
            assert result.transpose(order).flags.c_contiguous


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("case", [c for c in CASES if c.op.startswith(("conv2d", "max_pool2d"))], ids=str)
def test_the_same_bits_for_any_number_of_threads(case: Case, layout: str) -> None:
    results = []
    for threads in (1, 2, 3, 8):
        _C.set_num_threads(threads)
        results.append(case.run(laid_out(case.make(), layout)))
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize(
    "op",
    [
        "conv2d",
        "conv2d_backward_data",
        "conv2d_backward_weights",
        "batch_norm_forward",
        "bias_grad",
        "softmax",
    ],
)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_the_same_bits_for_any_number_of_threads_when_large(op: str, layout: str) -> None:
    """Sizes at which work is split."""
    rng = np.random.default_rng(0)
    x = LAYOUTS[layout](rng.standard_normal((4, 40, 33, 35)).astype(np.float32))
    w = rng.standard_normal((48, 40, 3, 3)).astype(np.float32)
    g = LAYOUTS[layout](rng.standard_normal((4, 48, 33, 35)).astype(np.float32))
    calls = {
        "conv2d": lambda: (ops.conv2d(x, w, padding=1),),
        "conv2d_backward_data": lambda: (ops.conv2d_backward_data(g, w, x.shape, padding=1),),
        "conv2d_backward_weights": lambda: (ops.conv2d_backward_weights(g, x, w.shape, padding=1),),
        "batch_norm_forward": lambda: ops.batch_norm_forward(x, None, None),
        "bias_grad": lambda: (ops.bias_grad(x),),
        "softmax": lambda: (ops.softmax(x, 1),),
    }
    results = []
    for threads in (1, 2, 3, 8):
        _C.set_num_threads(threads)
        results.append(b"".join(r.tobytes() for r in calls[op]()))
    assert len(set(results)) == 1


def test_dropout_counts_in_memory_order() -> None:
    x = np.ones((2, 8, 5, 6), np.float32)
    flat = ops.dropout(x, 0.5, seed=1).reshape(-1)
    last = ops.dropout(nhwc(x), 0.5, seed=1)
    np.testing.assert_array_equal(last.transpose(0, 2, 3, 1).reshape(-1), flat)


# What still runs on the reference loops. A name goes when its kernel comes; float32 ends with none.
HALF_OPS = [
    "activation_backward",
    "activation_forward",
    "add",
    "bias_grad",
    "max_pool2d_backward",
    "max_pool2d_forward",
]
STILL_ON_REF = {
    "float32": [],
    "float64": [name for name in _C.op_names() if name != "copy"],
    "float16": HALF_OPS,
    "bfloat16": HALF_OPS,
    "uint8": [],
    "int8": [],
}


def takes(op: str, dtype: str) -> bool:
    """Whether there is such an operation: the reference has all there are; indices have no dtype of x's."""
    if op == "convert_indices":
        return dtype in ("float32", "float64")
    return _C.op_supported("ref", op, dtype)


@pytest.mark.parametrize("dtype", STILL_ON_REF)
def test_what_still_runs_on_ref(dtype: str) -> None:
    missing = [
        name for name in _C.op_names() if takes(name, dtype) and not _C.op_supported("cpu", name, dtype)
    ]
    assert sorted(missing) == sorted(STILL_ON_REF[dtype])


def test_float64_falls_back_to_ref() -> None:
    x, w = np.ones((1, 2, 5, 4)), np.ones((3, 2, 3, 3))
    ops.conv2d(x, w)
    assert testing.last_kernel() == "ref/conv2d_forward"


def test_float32_runs_on_the_instruction_set_in_use() -> None:
    x, w = np.ones((1, 2, 5, 4), np.float32), np.ones((3, 2, 3, 3), np.float32)
    ops.conv2d(x, w)
    assert testing.last_kernel().startswith(f"cpu/{FLOAT_ISA}/conv2d")
    with testing.backend("ref"):
        ops.conv2d(x, w)
        assert testing.last_kernel() == "ref/conv2d_forward"
    with pytest.raises(NotImplementedError, match="cuda"), testing.backend("cuda"):
        ops.conv2d(x, w)
