"""explain(): its kernel and scratch are those of the real call, for every case of the operations that it
knows; it touches no data; it refuses what the operation refuses."""

from __future__ import annotations

from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext import _C, ops, roofline, testing
from op_case import FLOAT_ISA, Case
from op_cases import all_cases
from op_check import laid_out
from op_explain import CONV, POOL, explained

# Real layers: choices that the small cases do not reach (regions, panels, streams, late packing).
LAYERS = [
    ((2, 3, 64, 64), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((1, 64, 56, 56), (256, 64, 1, 1), {}),
    ((2, 128, 28, 28), (128, 128, 3, 3), {"padding": 1}),
    ((2, 128, 28, 28), (128, 128, 3, 3), {"padding": 1, "algorithm": "direct"}),
    ((1, 256, 14, 14), (256, 256, 3, 3), {"padding": 1}),
    ((1, 256, 14, 14), (256, 256, 3, 3), {"padding": 2, "dilation": 2}),
    ((1, 512, 7, 7), (512, 512, 3, 3), {"padding": 1, "algorithm": "direct"}),
    ((2, 256, 28, 28), (256, 8, 3, 3), {"padding": 1, "groups": 32}),
    ((2, 96, 56, 56), (96, 1, 7, 7), {"padding": 3, "groups": 96}),
    ((2, 256, 28, 28), (256, 1, 3, 3), {"padding": 1, "stride": 2, "groups": 256}),
    ((1, 512, 14, 14), (256, 512, 1, 1), {"stride": 2}),
    ((4, 512, 7, 7), (64, 512, 7, 7), {}),
    ((4, 512, 1, 1), (1000, 512, 1, 1), {}),
]
X, W = (1, 4, 8, 8), (6, 4, 3, 3)
DTYPES = ("float32", "float64", "float16")
BOTH = pytest.mark.parametrize("layout", ["nchw", "nhwc"])


def layer_cases() -> list[Case]:
    cases = []
    for x, w, params in LAYERS:
        y = cx.explain("conv2d", x, w, **params).y_shape
        cases += [
            Case("conv2d", f"{x} {w}", {"x": x, "weight": w}, params),
            Case(
                "conv2d_backward_data", f"{x} {w}", {"grad_y": y, "weight": w}, {"input_shape": x, **params}
            ),
            Case("conv2d_backward_weights", f"{x} {w}", {"grad_y": y, "x": x}, {"weight_shape": w, **params}),
        ]
    return cases


@BOTH
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("op", [*CONV, *POOL])
def test_it_says_what_the_call_then_does(op: str, layout: str, dtype: str, threads: int) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    cases = [case for case in all_cases() if case.op == op]
    if dtype not in ("float64", "float16"):
        cases += [case for case in layer_cases() if case.op == op]
    _C.set_num_threads(threads)
    differences = []
    for case in cases:
        made = case.make()
        arrays = {n: a.astype(dtype) if a.dtype == np.float32 else a for n, a in made.items()}
        arrays = laid_out(arrays, layout)
        says = explained(case, arrays, layout)
        case.run(arrays)
        does = testing.last_kernel(), _C.last_scratch_bytes()
        if (says.kernel, says.scratch_bytes) != does:
            differences.append((case.note, says.kernel, says.scratch_bytes, *does))
    assert len(cases) > 5
    assert not differences


def test_it_takes_the_kernels_that_there_are_and_knows_their_families() -> None:
    kernels = {explained(case, case.make(), "nchw").kernel for case in [*all_cases(), *layer_cases()]
               if case.op in CONV + POOL}  # fmt: skip
    assert len(kernels) > 10
    assert all(roofline.family_of(kernel)[1] > 0 for kernel in kernels)


@BOTH
@pytest.mark.parametrize("op", [*CONV, *POOL])
def test_tensors_that_fit_no_machine(op: str, layout: str) -> None:
    """A petabyte and more: nothing of it is read, written or allocated."""
    args = ((512, 512, 3, 3),) if op in CONV else (3,)
    before = _C.memory_stats()
    says = cx.explain(op, (1 << 20, 512, 1024, 1024), *args, padding=1, channels_last=layout == "nhwc")
    assert says.bytes > 1 << 50
    assert says.kernel.startswith(f"cpu/{FLOAT_ISA}/" if op in CONV else ("cpu/", "ref/"))
    after = _C.memory_stats()
    assert after["in_use_bytes"] == before["in_use_bytes"]
    allowed = max(before["peak_in_use_bytes"], before["in_use_bytes"] + (1 << 24))
    assert after["peak_in_use_bytes"] <= allowed


def test_scratch_larger_than_memory_is_only_counted() -> None:
    says = cx.explain("conv2d", (1, 1 << 15, 8, 8), (1 << 20, 1 << 15, 5, 5))
    assert says.packed_weight_bytes >= 1 << 41
    assert says.scratch_bytes > says.packed_weight_bytes


@pytest.mark.parametrize(
    "params",
    [
        {"stride": 0},
        {"stride": 1.5},
        {"padding": -1},
        {"padding": "full"},
        {"dilation": (1, 2, 3)},
        {"groups": 3},
        {"algorithm": "fft"},
        {"dilation": 9},
    ],
    ids=str,
)
def test_wrong_parameters_raise_what_the_op_raises(params: dict[str, Any]) -> None:
    x, w = np.zeros((2, 4, 7, 6), np.float32), np.zeros((6, 4, 3, 2), np.float32)
    with pytest.raises((ValueError, TypeError)) as of_op:
        ops.conv2d(x, w, **params)
    with pytest.raises(of_op.type) as of_explain:
        cx.explain("conv2d", x.shape, w.shape, **params)
    assert str(of_explain.value) == str(of_op.value)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cx.explain("conv3d", (1, 1, 1, 1)), ValueError, "op is 'conv3d'; it must be one of"),
        (lambda: cx.explain("conv2d", (1, 4, 8, 8)), TypeError, "weight_shape"),
        (lambda: cx.explain("conv2d", (4, 8), (6, 4, 3, 3)), ValueError, r"x has shape \(4, 8\)"),
        (lambda: cx.explain("conv2d", (1, -4, 8, 8), (6, 4, 3, 3)), ValueError, "x's shape.* is -4"),
        (lambda: cx.explain("conv2d", (1, 4, 8, 8), (6, 5, 3, 3)), ValueError, "weight"),
        (lambda: cx.explain("conv2d", "big", (6, 5, 3, 3)), TypeError, "x_shape must be a sequence of ints"),
        (lambda: cx.explain("conv2d", (1, 4, 8, 2.0), (6, 4, 3, 3)), TypeError, "x_shape must be"),
        (lambda: cx.explain("conv2d", (2**40, 2**20, 9, 9), (1, 2**20, 3, 3)), ValueError, "x overflows"),
        (lambda: cx.explain("conv2d", X, W, dtype="int32"), TypeError, "int32"),
        (lambda: cx.explain("conv2d", X, W, dtype="float31"), ValueError, "float31"),
        (lambda: cx.explain("conv2d", X, W, device="cuda"), NotImplementedError, "cuda"),
        (lambda: cx.explain("conv2d", X, W, device="tpu"), ValueError, "device is 'tpu'"),
        (lambda: cx.explain("conv2d_backward_data", X, W, bias=True), TypeError, "bias"),
        (lambda: cx.explain("max_pool2d", (1, 4, 8, 8), 3, padding=2), ValueError, "padding is 2"),
        (lambda: cx.explain("max_pool2d", (1, 4, 8, 8), 3, weight_shape=1), TypeError, "weight_shape"),
    ],
)  # fmt: skip
def test_errors(call: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_flops_bytes_and_the_table() -> None:
    says = cx.explain("conv2d", (2, 8, 9, 7), (6, 4, 3, 2), groups=2, padding=(1, 0), bias=True)
    assert says.y_shape == (2, 6, 9, 6)
    assert says.flops == 2 * (2 * 6 * 9 * 6) * (4 * 3 * 2)
    assert says.bytes == 4 * (2 * 8 * 9 * 7 + 6 * 4 * 3 * 2 + 2 * 6 * 9 * 6 + 6)
    back = cx.explain("conv_transpose2d", (2, 6, 9, 6), (6, 4, 3, 2), groups=2, padding=(1, 0))
    assert back.y_shape == (2, 8, 9, 7)
    assert back.flops == says.flops
    pool = cx.explain("max_pool2d", (2, 8, 9, 7), 2, return_indices=True, indices="window")
    assert pool.bytes == 4 * (2 * 8 * 9 * 7) + 5 * (2 * 8 * 4 * 3)
    lines = str(says).splitlines()
    assert says.kernel in lines[2]
    assert lines[-1].startswith("expected")


def test_the_model_has_limits_above_zero_and_leaves_the_last_call_alone() -> None:
    ops.relu(np.zeros(3, np.float32))
    before = testing.last_kernel(), _C.last_scratch_bytes()
    layer = cx.explain("conv2d", (8, 64, 28, 28), (64, 64, 3, 3), padding=1)
    assert 0 < layer.expected_gflops < 1e6
    assert (testing.last_kernel(), _C.last_scratch_bytes()) == before


def test_a_layer_of_few_operations_is_held_up_by_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "limits", lambda: roofline.Limits(100.0, 10.0))
    thin = cx.explain("conv2d", (8, 2, 512, 512), (2, 2, 1, 1))
    assert thin.expected_gflops == pytest.approx(10.0 * thin.flops / thin.bytes)
    thick = cx.explain("conv2d", (8, 64, 28, 28), (64, 64, 3, 3), padding=1, algorithm="direct")
    assert 50 < thick.expected_gflops < 100


def test_an_empty_result_needs_no_kernel() -> None:
    says = cx.explain("conv2d", (0, 4, 8, 8), (6, 4, 3, 3))
    assert (says.kernel, says.y_shape, says.flops, says.expected_gflops) == ("", (0, 6, 6, 6), 0, 0)
    assert "nothing to compute" in str(says)


def test_a_forced_backend_is_explained() -> None:
    with testing.backend("ref"):
        says = cx.explain("conv2d", (1, 4, 8, 8), (6, 4, 3, 3))
    assert (says.kernel, says.algorithm) == ("ref/conv2d_forward", "reference loops")


def test_sixteen_bits_of_a_billion_images() -> None:
    x, weight = (10**9, 8, 2, 14), (8, 1, 1, 3)
    says = cx.explain("conv2d_backward_weights", x, weight, groups=8, channels_last=True, dtype="float16")
    assert says.kernel


@BOTH
@pytest.mark.parametrize("op", ["conv2d", "conv2d_backward_data", "conv2d_backward_weights"])
@pytest.mark.parametrize(
    ("x", "weight", "params"),
    [
        ((32, 64, 56, 56), (256, 64, 1, 1), {}),
        ((32, 3, 224, 224), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
        ((32, 256, 28, 28), (256, 256, 3, 3), {"stride": 2, "padding": 1}),
        ((32, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
        ((32, 256, 28, 28), (256, 8, 3, 3), {"padding": 1, "groups": 32}),
        ((32, 96, 56, 56), (96, 1, 7, 7), {"padding": 3, "groups": 96}),
        ((1, 3, 32, 32), (32, 3, 3, 3), {"padding": 1}),
        ((8, 2048, 7, 7), (512, 2048, 1, 1), {}),
    ],
    ids=str,
)
def test_scratch_is_bounded(
    op: str, layout: str, x: tuple[int, ...], weight: tuple[int, ...], params: dict[str, Any]
) -> None:
    """A quarter of the larger image, or what fills a core's cache, beside the packed weights; see
    docs/PERFORMANCE.md. Slices of backward-weights keep their sums."""
    _C.set_num_threads(2)
    says = cx.explain(op, x, weight, **params, channels_last=layout == "nhwc")
    image = 4 * max(np.prod(x), np.prod(says.y_shape))
    slices = 32 * 4 * np.prod(weight) if op == "conv2d_backward_weights" else 0
    assert says.scratch_bytes - says.packed_weight_bytes <= max(image / 4, 2 * 1.5 * 2**20) + slices
