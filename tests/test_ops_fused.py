"""conv2d_relu_max_pool2d against the three operations that it stands for."""

from __future__ import annotations

from typing import Any

import cnnext as cx
import numpy as np
import pytest
from cnnext import _C, ops, testing
from op_case import EPS, FLOAT_ISA
from test_ops_cpu import LAYOUTS

POOL = ("pool_size", "pool_stride", "pool_padding")
# note, x, weight, convolution, pool. The large ones are cut into strips of rows, or of images.
CASES = [
    ("all sizes 1", (1, 1, 1, 1), (1, 1, 1, 1), {}, {"pool_size": 1}),
    ("asymmetric", (2, 3, 9, 11), (5, 3, 3, 2), {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)},
     {"pool_size": (2, 3), "pool_stride": (1, 2), "pool_padding": (1, 0)}),
    ("groups", (3, 4, 17, 13), (6, 2, 3, 3), {"padding": 1, "groups": 2}, {"pool_size": 2}),
    ("unbatched", (3, 8, 10), (4, 3, 3, 3), {"padding": "same"}, {"pool_size": (1, 2)}),
    ("rows between windows", (2, 3, 20, 18), (17, 3, 3, 3), {}, {"pool_size": 2, "pool_stride": (3, 4)}),
    ("images", (11, 1, 28, 26), (6, 1, 5, 5), {"padding": 2}, {"pool_size": 2}),
    ("depthwise, overlapping", (9, 32, 33, 35), (32, 1, 3, 3), {"padding": 1, "groups": 32},
     {"pool_size": 3, "pool_stride": 2, "pool_padding": 1}),
    ("1x1, overlapping at every row", (9, 9, 33, 35), (48, 9, 1, 1), {},
     {"pool_size": 3, "pool_stride": 1, "pool_padding": 1}),
    ("strips of rows", (1, 3, 117, 101), (64, 3, 3, 3), {"padding": 1}, {"pool_size": 2}),
    ("strips of rows under a stride", (1, 3, 170, 161), (65, 3, 7, 7), {"stride": 2, "padding": 3},
     {"pool_size": 3, "pool_stride": 2, "pool_padding": 1}),
    ("windows in four-sided padding", (8, 5, 65, 67), (24, 5, 3, 3), {"padding": ((2, 0), (0, 1))},
     {"pool_size": (5, 3), "pool_stride": (3, 4), "pool_padding": ((4, 4), (1, 2))}),
    ("the largest strip is neither the first nor the last", (2, 1, 96, 64), (64, 1, 1, 1), {},
     {"pool_size": (34, 1), "pool_stride": (32, 1), "pool_padding": ((33, 33), (0, 0))}),
    ("Winograd, images", (8, 32, 20, 18), (48, 32, 3, 3), {"padding": 1}, {"pool_size": 2}),
    ("Winograd, rows", (1, 32, 122, 90), (64, 32, 3, 3), {"padding": (1, 0)},
     {"pool_size": 3, "pool_stride": 2, "pool_padding": 1}),
    ("17x16 taps: uint16 codes", (1, 2, 24, 23), (3, 2, 3, 3), {}, {"pool_size": (17, 16), "pool_stride": 1}),
]  # fmt: skip
EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
LAYOUT = pytest.mark.parametrize("layout", list(LAYOUTS))


def made(case: Any, layout: str = "nchw", dtype: Any = np.float32) -> tuple[Any, ...]:
    _, x, weight, conv, pool = case
    rng = np.random.default_rng(len(case[0]))
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in (x, weight, weight[:1])]
    return LAYOUTS[layout](arrays[0]), *arrays[1:], conv, pool


def window(pool: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(pool.get(name, default) for name, default in zip(POOL, (None, None, 0), strict=True))


def three(x: Any, weight: Any, bias: Any, conv: Any, pool: Any) -> tuple[Any, Any, Any]:
    """y, codes and the convolution's shape, step by step."""
    inner = ops.relu(ops.conv2d(x, weight, bias, **conv))
    y, codes = ops.max_pool2d(inner, *window(pool), return_indices=True, indices="window")
    return y, np.where(y <= 0, np.iinfo(codes.dtype).max, codes), inner.shape


def three_backward(grad_y: Any, codes: Any, shape: Any, x: Any, weight: Any, conv: Any, pool: Any) -> Any:
    inner = ops.max_pool2d_backward(grad_y, codes, shape, *window(pool), indices_kind="window")
    return ops.conv2d_backward(inner, x, weight, **conv)


def grad_of(y: Any) -> Any:
    grad = np.empty_like(y)
    grad[...] = np.random.default_rng(7).standard_normal(y.shape)
    return grad


def assert_close(got: Any, want: Any, scale: float = 256) -> None:
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=0, atol=scale * EPS * max(np.abs(want).max(initial=0), 1))


@EACH
@LAYOUT
def test_values_and_codes_are_those_of_the_three(case: Any, layout: str) -> None:
    x, weight, bias, conv, pool = made(case, layout)
    y, codes = ops.conv2d_relu_max_pool2d(x, weight, bias, **conv, **pool)
    assert testing.last_kernel().startswith(f"cpu/{FLOAT_ISA}/")
    want, want_codes, _ = three(x, weight, bias, conv, pool)
    if "Winograd" in case[0]:  # tiles may be grouped otherwise
        assert_close(y, want)
        assert (codes != want_codes).mean() < 1e-3
    else:
        np.testing.assert_array_equal(y, want)
        np.testing.assert_array_equal(codes, want_codes)
    assert codes.dtype == want_codes.dtype
    assert y.strides == ops.max_pool2d(ops.conv2d(x, weight, **conv), *window(pool)).strides
    np.testing.assert_array_equal(
        ops.conv2d_relu_max_pool2d(x, weight, bias, **conv, **pool, return_codes=False), y
    )


@EACH
@LAYOUT
def test_gradients_are_those_of_the_three(case: Any, layout: str) -> None:
    x, weight, bias, conv, pool = made(case, layout)
    y, codes = ops.conv2d_relu_max_pool2d(x, weight, bias, **conv, **pool)
    shape = three(x, weight, bias, conv, pool)[2]
    grad_y = grad_of(y)
    grads = ops.conv2d_relu_max_pool2d_backward(grad_y, codes, x, weight, **conv, **pool)
    for got, want in zip(grads, three_backward(grad_y, codes, shape, x, weight, conv, pool), strict=True):
        assert_close(got, want)
    alone = ops.conv2d_relu_max_pool2d_backward(
        grad_y, codes, x, weight, **conv, **pool, needs=(False, True, False)
    )
    assert alone[0] is None
    assert alone[2] is None
    np.testing.assert_array_equal(alone[1], grads[1])


@EACH
def test_the_reference_is_the_three_in_float64(case: Any) -> None:
    x, weight, bias, conv, pool = made(case, dtype=np.float64)
    y, codes = ops.conv2d_relu_max_pool2d(x, weight, bias, **conv, **pool)
    assert testing.last_kernel() == "ref/conv2d_relu_max_pool2d_forward"
    want, want_codes, shape = three(x, weight, bias, conv, pool)
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(codes, want_codes)
    grad_y = grad_of(y)
    grads = ops.conv2d_relu_max_pool2d_backward(grad_y, codes, x, weight, **conv, **pool)
    for got, want in zip(grads, three_backward(grad_y, codes, shape, x, weight, conv, pool), strict=True):
        np.testing.assert_array_equal(got, want)


@EACH
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_bits_do_not_depend_on_threads(case: Any, layout: str) -> None:
    x, weight, bias, conv, pool = made(case, layout)

    def everything() -> tuple[Any, ...]:
        y, codes = ops.conv2d_relu_max_pool2d(x, weight, bias, **conv, **pool)
        return y, codes, *ops.conv2d_relu_max_pool2d_backward(grad_of(y), codes, x, weight, **conv, **pool)

    results = []
    for threads in (1, 2, 3, 5):
        _C.set_num_threads(threads)
        results.append(everything())
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_nan_and_infinities(layout: str) -> None:
    x = np.random.default_rng(0).standard_normal((9, 3, 24, 26)).astype(np.float32)
    x[0, 1, 5, 7], x[3, 0, 0, 0], x[5, 2, 9, 9] = np.nan, np.inf, -np.inf
    x = LAYOUTS[layout](x)
    weight = np.random.default_rng(1).standard_normal((20, 3, 3, 3)).astype(np.float32)
    conv, pool = {"padding": 1}, {"pool_size": 2}
    y, codes = ops.conv2d_relu_max_pool2d(x, weight, **conv, **pool)
    want, want_codes, _ = three(x, weight, None, conv, pool)
    assert np.isnan(y).any()
    assert np.isinf(y).any()
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(codes, want_codes)
    assert (codes[np.isnan(y)] != 255).all()  # a NaN is kept, and with it its gradient
    weight[3, 1, 2, 0] = np.inf  # under the padding it contributes nothing
    np.testing.assert_array_equal(
        ops.conv2d_relu_max_pool2d(x, weight, **conv, **pool)[0], three(x, weight, None, conv, pool)[0]
    )


def test_ties_go_to_the_first_tap_and_what_relu_stops_to_none() -> None:
    x = np.full((1, 1, 4, 4), 2, np.float32)
    x[0, 0, 2:, :2], x[0, 0, 2:, 2:] = -3, 0
    y, codes = ops.conv2d_relu_max_pool2d(x, np.ones((1, 1, 1, 1), np.float32), pool_size=2)
    np.testing.assert_array_equal(y[0, 0], [[2, 2], [0, 0]])
    np.testing.assert_array_equal(codes[0, 0], [[0, 0], [255, 255]])
    grad, _, grad_bias = ops.conv2d_relu_max_pool2d_backward(
        np.ones_like(y), codes, x, np.ones((1, 1, 1, 1), np.float32), pool_size=2
    )
    np.testing.assert_array_equal(grad[0, 0], [[1, 0, 1, 0]] + [[0] * 4] * 3)
    np.testing.assert_array_equal(grad_bias, [2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_empty_batches(dtype: Any) -> None:
    x, weight = np.zeros((0, 3, 9, 8), dtype), np.ones((4, 3, 3, 3), dtype)
    y, codes = ops.conv2d_relu_max_pool2d(x, weight, pool_size=2)
    assert y.shape == codes.shape == (0, 4, 3, 3)
    grads = ops.conv2d_relu_max_pool2d_backward(y, codes, x, weight, pool_size=2)
    assert [g.shape for g in grads] == [x.shape, weight.shape, (4,)]
    assert not grads[1].any()
    assert not grads[2].any()


def test_a_packed_weight_gives_the_same_bits() -> None:
    for case in CASES:
        x, weight, bias, conv, pool = made(case)
        if x.ndim != 4:
            continue
        packed = ops.pack_weight(weight, **conv, input_shape=x.shape)
        want = ops.conv2d_relu_max_pool2d(x, weight, bias, **conv, **pool)
        got = ops.conv2d_relu_max_pool2d(x, packed, bias, **conv, **pool)
        np.testing.assert_array_equal(got[0], want[0], err_msg=case[0])
        np.testing.assert_array_equal(got[1], want[1], err_msg=case[0])


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_scratch_is_a_part_of_what_it_replaces(layout: str) -> None:
    """A batch of VGG's first block: 51 MB between convolution and pool."""
    x = LAYOUTS[layout](np.ones((4, 3, 224, 224), np.float32))
    weight = np.ones((64, 3, 3, 3), np.float32)
    _C.set_num_threads(2)
    whole = 4 * 64 * 224 * 224 * 4
    y, codes = ops.conv2d_relu_max_pool2d(x, weight, padding=1, pool_size=2)
    assert _C.last_scratch_bytes() < whole / 10
    ops.conv2d_relu_max_pool2d_backward(y, codes, x, weight, padding=1, pool_size=2)
    assert _C.last_scratch_bytes() < whole / 2


@EACH
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("threads", [1, 3])
def test_explain_says_what_the_call_then_does(case: Any, layout: str, threads: int) -> None:
    x, weight, bias, conv, pool = made(case, layout)
    _C.set_num_threads(threads)
    options = {"bias": True, "channels_last": layout == "nhwc", **conv, **pool}
    says = cx.explain("conv2d_relu_max_pool2d", x.shape, weight.shape, **options)
    y, codes = ops.conv2d_relu_max_pool2d(x, weight, bias, **conv, **pool)
    assert (says.kernel, says.scratch_bytes) == (testing.last_kernel(), _C.last_scratch_bytes())
    assert says.y_shape == y.shape
    assert says.strip in str(says)
    assert says.strip
    says = cx.explain("conv2d_relu_max_pool2d_backward", x.shape, weight.shape, **options)
    ops.conv2d_relu_max_pool2d_backward(y, codes, x, weight, **conv, **pool)
    assert (says.kernel, says.scratch_bytes) == (testing.last_kernel(), _C.last_scratch_bytes())


def test_explain_of_what_fits_no_machine() -> None:
    for op in ("conv2d_relu_max_pool2d", "conv2d_relu_max_pool2d_backward"):
        says = cx.explain(op, (1 << 20, 64, 1024, 1024), (64, 64, 3, 3), padding=1, pool_size=2)
        assert says.scratch_bytes < 1 << 30


X, W = np.ones((2, 3, 8, 9), np.float32), np.ones((4, 3, 3, 3), np.float32)
ERRORS = [
    ({"pool_size": 0}, ValueError, r"pool: kernel_size\[0\] is 0; it must be at least 1"),
    ({"pool_size": 7}, ValueError, "pool: the kernel's effective height 7 exceeds the padded height 6"),
    ({"pool_size": 2, "pool_stride": (1, -1)}, ValueError, r"pool: stride\[1\] is -1"),
    ({"pool_size": 2, "pool_padding": 2}, ValueError, "pool: padding is 2.*at most 1"),
    ({"pool_size": "2"}, TypeError, "pool_size"),
    ({"pool_size": 2, "stride": 0}, ValueError, r"^stride\[0\] is 0"),
    ({"pool_size": 2, "groups": 2}, ValueError, "weight has 3 input channels"),
    ({"pool_size": 2, "bias": np.ones(3, np.float32)}, ValueError, "bias has shape"),
]


@pytest.mark.parametrize(("params", "error", "message"), ERRORS)
def test_bad_input(params: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ops.conv2d_relu_max_pool2d(X, W, **params)


def test_bad_dtypes_and_codes() -> None:
    y, codes = ops.conv2d_relu_max_pool2d(X, W, pool_size=2)
    with pytest.raises(NotImplementedError, match="x has dtype float16"):
        ops.conv2d_relu_max_pool2d(X.astype(np.float16), W.astype(np.float16), pool_size=2)
    with pytest.raises(TypeError, match="weight has dtype float64"):
        ops.conv2d_relu_max_pool2d(X, W.astype(np.float64), pool_size=2)
    with pytest.raises(TypeError, match=r"codes has dtype int64.*uint8"):
        ops.conv2d_relu_max_pool2d_backward(y, codes.astype(np.int64), X, W, pool_size=2)
    with pytest.raises(ValueError, match="codes has shape"):
        ops.conv2d_relu_max_pool2d_backward(y, codes[:1], X, W, pool_size=2)
    with pytest.raises(ValueError, match="grad_y has shape"):
        ops.conv2d_relu_max_pool2d_backward(y[..., :1], codes, X, W, pool_size=2)
    with pytest.raises(ValueError, match=r"codes holds 77"):
        ops.conv2d_relu_max_pool2d_backward(y, np.full_like(codes, 77), X, W, pool_size=2)
    with pytest.raises(ValueError, match="needs has 2"):
        ops.conv2d_relu_max_pool2d_backward(y, codes, X, W, pool_size=2, needs=(True, False))


def test_a_bad_code_is_found_where_it_is() -> None:
    x, weight = (
        np.ones((16, 1, 56, 56), np.float32),
        np.ones((64, 1, 1, 1), np.float32),
    )  # images in two parts
    y, codes = ops.conv2d_relu_max_pool2d(x, weight, pool_size=2)
    codes[12, 3, 5, 7] = 44  # in the second part of the images
    with pytest.raises(ValueError, match=r"codes holds 44 at \(n, c, p, q\) = \(12, 3, 5, 7\)"):
        ops.conv2d_relu_max_pool2d_backward(y, codes, x, weight, pool_size=2)


@LAYOUT
@pytest.mark.parametrize(
    "shape", [(2, 5, 7, 9), (3, 33, 1, 1), (9, 16, 40, 41), (70, 3, 2, 2), (1, 130, 5, 3)]
)
@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_batch_norm_with_activation_is_one_after_the_other(
    shape: tuple[int, ...], layout: str, activation: str
) -> None:
    rng = np.random.default_rng(1)
    x, grad_y = (LAYOUTS[layout](rng.standard_normal(shape).astype(np.float32)) for _ in range(2))
    weight, bias = (rng.standard_normal(shape[1]).astype(np.float32) for _ in range(2))
    weight *= 4  # so that 6 is passed
    want, mean, invstd = ops.batch_norm_forward(x, None, None, weight, bias)
    y, *statistics = ops.batch_norm_forward(x, None, None, weight, bias, activation=activation)
    assert testing.last_kernel() == f"cpu/{FLOAT_ISA}/batch_norm"
    np.testing.assert_array_equal(y, getattr(ops, activation)(want))
    np.testing.assert_array_equal(statistics, [mean, invstd])
    masked = ops.activation_backward(grad_y, y, activation)
    result = {"y": y, "activation": activation}
    for training in (True, False):
        grads = ops.batch_norm_backward(grad_y, x, weight, mean, invstd, training=training, **result)
        wanted = ops.batch_norm_backward(masked, x, weight, mean, invstd, training=training)
        for got, expected in zip(grads, wanted, strict=True):
            assert_close(got, expected)
    with testing.backend("ref"):
        grads = ops.batch_norm_backward(grad_y, x, weight, mean, invstd, **result)
        wanted = ops.batch_norm_backward(masked, x, weight, mean, invstd)
        for got, expected in zip(grads, wanted, strict=True):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_batch_norm_with_activation_keeps_nan_and_its_gradient(activation: str) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)
    x[0, 1, 2, 3] = np.nan
    y, mean, invstd = ops.batch_norm_forward(x, None, None, activation=activation)
    np.testing.assert_array_equal(np.isnan(y).any(axis=(0, 2, 3)), [False, True, False])
    grad_bias = ops.batch_norm_backward(np.ones_like(x), x, None, mean, invstd, y=y, activation=activation)[2]
    np.testing.assert_array_equal(grad_bias, [(y[:, 0] > 0).sum(), 70, (y[:, 2] > 0).sum()])
    with pytest.raises(ValueError, match="y has shape"):
        ops.batch_norm_backward(x, x, None, mean, invstd, y=y[:1], activation=activation)
    with pytest.raises(ValueError, match="y"):
        ops.batch_norm_backward(x, x, None, mean, invstd, activation=activation)
    with pytest.raises(ValueError, match="activation is 'gelu'; it must be one of 'relu', 'relu6'"):
        ops.batch_norm_forward(x, None, None, activation="gelu")
