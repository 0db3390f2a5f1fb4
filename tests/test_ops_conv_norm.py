"""conv2d_batch_norm against the two operations that it stands for."""

from __future__ import annotations

from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext import _C, ops, testing
from op_case import EPS, FLOAT_ISA
from test_ops_cpu import LAYOUTS

# note, x, weight, convolution, the layouts in which it runs in strips
CASES = [
    ("all sizes 1 but the batch", (2, 1, 1, 1), (1, 1, 1, 1), {}, ""),
    ("asymmetric", (2, 3, 9, 11), (5, 3, 3, 2), {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)},
     ""),
    ("one image", (1, 3, 10, 8), (17, 3, 3, 3), {"padding": "same"}, ""),
    ("groups", (3, 4, 17, 13), (6, 2, 3, 3), {"padding": 1, "groups": 2}, ""),
    ("images, odd channels", (17, 3, 65, 67), (33, 3, 3, 3), {"padding": 1}, "nchw nhwc"),
    ("one channel", (9, 2, 486, 484), (1, 2, 3, 3), {}, "nchw nhwc"),
    ("several images a strip", (70, 8, 24, 27), (65, 8, 3, 3), {"padding": 1}, "nchw nhwc"),
    ("several strips a task", (3401, 1, 6, 5), (70, 1, 3, 2), {"padding": 1}, "nchw nhwc"),
    ("four-sided padding, stride", (19, 5, 130, 126), (48, 5, 5, 3),
     {"padding": ((2, 0), (0, 1)), "stride": 2}, "nchw nhwc"),
    ("depthwise", (13, 48, 66, 59), (48, 1, 3, 3), {"padding": 1, "groups": 48}, ""),
    ("1x1, rows", (11, 9, 65, 66), (70, 9, 1, 1), {}, "nhwc"),
    ("Winograd", (13, 32, 66, 58), (48, 32, 3, 3), {"padding": 1}, "nchw nhwc"),
    ("rows", (3, 6, 230, 226), (40, 6, 3, 3), {"padding": 1}, "nhwc"),
    ("rows under a stride, dilated", (2, 3, 301, 300), (65, 3, 3, 3),
     {"stride": (1, 2), "dilation": (3, 1)}, "nhwc"),
]  # fmt: skip
EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
LAYOUT = pytest.mark.parametrize("layout", list(LAYOUTS))
BOTH = pytest.mark.parametrize("layout", ["nchw", "nhwc"])


def made(case: Any, layout: str = "nchw", dtype: Any = np.float32) -> tuple[Any, ...]:
    """x, weight, bias, the convolution's parameters, and those of the norm."""
    _, x, weight, conv, _ = case
    rng = np.random.default_rng(len(case[0]))
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in (x, weight, weight[:1])]
    affine = [rng.standard_normal(weight[0]).astype(dtype) for _ in range(2)]
    return LAYOUTS[layout](arrays[0]), *arrays[1:], conv, affine


def running(channels: int, dtype: Any = np.float32) -> dict[str, Any]:
    return {
        "running_mean": np.linspace(-1, 1, channels, dtype=dtype),
        "running_var": np.linspace(0.5, 2, channels, dtype=dtype),
    }


def two(x: Any, weight: Any, bias: Any, conv: Any, affine: Any, activation: Any = None, **norm: Any) -> Any:
    """What conv2d_batch_norm gives, step by step."""
    conv_y = ops.conv2d(x, weight, bias, **conv)
    statistics = (norm.pop("running_mean", None), norm.pop("running_var", None))
    y, *saved = ops.batch_norm_forward(conv_y, *statistics, *affine, activation=activation, **norm)
    return y, conv_y, *saved


def fused(x: Any, weight: Any, bias: Any, conv: Any, affine: Any, **norm: Any) -> Any:
    return ops.conv2d_batch_norm(x, weight, bias, **conv, norm_weight=affine[0], norm_bias=affine[1], **norm)


def assert_close(got: Any, want: Any, scale: float = 256) -> None:
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=0, atol=scale * EPS * max(np.abs(want).max(initial=0), 1))


@EACH
@LAYOUT
@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
def test_results_are_those_of_the_two(case: Any, layout: str, activation: str | None) -> None:
    args = made(case, layout)
    args[-1][0][:] *= 4  # so that 6 is passed
    stats, want_stats = running(len(args[2])), running(len(args[2]))
    got = fused(*args, activation=activation, momentum=0.3, eps=1e-3, **stats)
    assert testing.last_kernel().startswith(f"cpu/{FLOAT_ISA}/")
    want = two(*args, activation=activation, momentum=0.3, eps=1e-3, **want_stats)
    for one, other in zip(got, want, strict=True):
        assert_close(one, other)
        if one.ndim == 4 and one.shape[1] > 1:  # one channel has both layouts
            assert one.strides == other.strides
    for name in stats:
        assert_close(stats[name], want_stats[name])
    alone = fused(*args, activation=activation, momentum=0.3, eps=1e-3, return_saved=False)
    np.testing.assert_array_equal(alone, got[0])


@EACH
@BOTH
def test_errors_are_those_of_the_two(case: Any, layout: str) -> None:
    """Against float64, with means far from zero: no worse than those, whose bounds are tested elsewhere."""
    x, weight, bias, conv, affine = made(case, layout)
    bias = bias + 30
    exact = two(
        *(a.astype(np.float64) for a in (x, weight, bias)), conv, [a.astype(np.float64) for a in affine]
    )

    def rms(results: Any) -> list[float]:
        return [float(np.sqrt(np.mean((r - e) ** 2))) for r, e in zip(results, exact, strict=True)]

    args = (x, weight, bias, conv, affine)
    for got, want in zip(rms(fused(*args)), rms(two(*args)), strict=True):
        assert got <= 1.5 * want + EPS


@BOTH
def test_statistics_of_values_far_from_zero(layout: str) -> None:
    """A variance of 1 about 4096: sums of squares would lose it."""
    x, weight, _, conv, affine = made(CASES[4], layout)
    bias = np.full(len(weight), 4096, np.float32)
    _, conv_y, mean, invstd = fused(x, weight, bias, conv, affine)
    values = conv_y.astype(np.float64)
    np.testing.assert_allclose(mean, values.mean((0, 2, 3)), rtol=2 * EPS)
    np.testing.assert_allclose(invstd, 1 / np.sqrt(values.var((0, 2, 3)) + 1e-5), rtol=1e-5)


@pytest.mark.parametrize("case", [case for case in CASES if not case[4]], ids=lambda case: case[0])
def test_the_reference_is_the_two_in_float64(case: Any) -> None:
    args = made(case, dtype=np.float64)
    stats, want_stats = running(len(args[2]), np.float64), running(len(args[2]), np.float64)
    got = fused(*args, activation="relu6", **stats)
    assert testing.last_kernel() == "ref/conv2d_batch_norm_forward"
    for one, other in zip(got, two(*args, activation="relu6", **want_stats), strict=True):
        np.testing.assert_array_equal(one, other)
    for name in stats:
        np.testing.assert_array_equal(stats[name], want_stats[name])


@EACH
@BOTH
def test_bits_do_not_depend_on_threads(case: Any, layout: str) -> None:
    args = made(case, layout)
    results = []
    for threads in (1, 2, 3, 5):
        _C.set_num_threads(threads)
        results.append(
            (*fused(*args, activation="relu6", **(stats := running(len(args[2])))), *stats.values())
        )
    for other in results[1:]:
        for one, two_ in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two_)


@BOTH
@pytest.mark.parametrize("case", [CASES[2], CASES[4]], ids=lambda case: case[0])
def test_nan_stays_in_its_channel(case: Any, layout: str) -> None:
    x, weight, bias, conv, affine = made(case, layout)
    weight[3] = np.nan
    y, conv_y, mean, invstd = fused(x, weight, bias, conv, affine, activation="relu6")
    for values in (y, conv_y):
        np.testing.assert_array_equal(np.isnan(values).all((0, 2, 3)), np.arange(len(weight)) == 3)
    for values in (mean, invstd):
        np.testing.assert_array_equal(np.isnan(values), np.arange(len(weight)) == 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_empty_batches(dtype: Any) -> None:
    x, weight = np.zeros((0, 3, 9, 8), dtype), np.ones((4, 3, 3, 3), dtype)
    stats = running(4, dtype)
    y, conv_y, mean, invstd = ops.conv2d_batch_norm(x, weight, **stats)
    assert y.shape == conv_y.shape == (0, 4, 7, 6)
    np.testing.assert_array_equal([mean, invstd], 0)
    np.testing.assert_array_equal(stats["running_mean"], running(4, dtype)["running_mean"])
    x = np.zeros((2, 0, 9, 8), dtype)  # an empty sum: the bias alone, which is its own mean
    y, conv_y, *_ = ops.conv2d_batch_norm(x, np.ones((4, 0, 3, 3), dtype), np.ones(4, dtype))
    np.testing.assert_array_equal(y, np.zeros((2, 4, 7, 6)))
    np.testing.assert_array_equal(conv_y, np.ones((2, 4, 7, 6)))


def test_strided_statistics_are_updated_where_they_lie() -> None:
    args = made(CASES[1])
    whole = np.ones((2, 5, 3), np.float32)
    stats = running(5)
    whole[0, :, 1], whole[1, :, 1] = stats.values()
    fused(*args, running_mean=whole[0, :, 1], running_var=whole[1, :, 1])
    fused(*args, **stats)
    np.testing.assert_array_equal(whole[0, :, 1], stats["running_mean"])
    np.testing.assert_array_equal(whole[1, :, 1], stats["running_var"])
    np.testing.assert_array_equal(whole[:, :, ::2], 1)


@EACH
@BOTH
@pytest.mark.parametrize("threads", [1, 3])
def test_explain_says_what_the_call_then_does(case: Any, layout: str, threads: int) -> None:
    x, weight, bias, conv, affine = made(case, layout)
    _C.set_num_threads(threads)
    says = cx.explain(
        "conv2d_batch_norm", x.shape, weight.shape, bias=True, channels_last=layout == "nhwc", **conv
    )
    y = fused(x, weight, bias, conv, affine)[0]
    assert (says.kernel, says.scratch_bytes) == (testing.last_kernel(), _C.last_scratch_bytes())
    assert says.y_shape == y.shape
    if case[0] != "Winograd" or "winograd" in says.kernel:  # of 3x3, where the instruction set has it
        assert bool(says.strip) == (layout in case[4])


def test_explain_of_what_fits_no_machine() -> None:
    says = cx.explain("conv2d_batch_norm", (1 << 20, 64, 1024, 1024), (64, 64, 3, 3), padding=1)
    assert says.scratch_bytes < 1 << 31


X, W = np.ones((2, 3, 8, 9), np.float32), np.ones((4, 3, 3, 3), np.float32)
FOUR = np.ones(4, np.float32)
ERRORS = [
    ({"x": X[:1, :, :3, :3]}, ValueError, r"norm: Expected more than 1 value per channel.*\(1, 4, 1, 1\)"),
    ({"x": X[0]}, ValueError, "x has shape .*4 axes"),
    ({"stride": 0}, ValueError, r"^stride\[0\] is 0"),
    ({"bias": FOUR[:3]}, ValueError, "^bias has shape"),
    ({"norm_weight": FOUR[:3]}, ValueError, "norm: weight has shape"),
    ({"norm_bias": FOUR.astype(np.float64)}, TypeError, "norm: bias has dtype float64"),
    ({"running_mean": FOUR}, ValueError, "norm: running_var is missing"),
    ({"running_mean": FOUR, "running_var": FOUR}, ValueError, "norm: running_mean and running_var share"),
    ({"eps": 0.0}, ValueError, "norm: eps is 0"),
    ({"eps": "a"}, TypeError, "eps must be a number"),
    ({"momentum": None}, TypeError, "momentum must be a number"),
    ({"x": X.astype(np.float16), "weight": W.astype(np.float16)}, NotImplementedError, "x has dtype float16"),
    ({"weight": W.astype(np.float64)}, TypeError, "weight has dtype float64"),
    ({"weight": ops.pack_weight(W)}, TypeError, "weight"),
]


@pytest.mark.parametrize(("params", "error", "message"), ERRORS)
def test_bad_input(params: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ops.conv2d_batch_norm(**({"x": X, "weight": W} | params))
