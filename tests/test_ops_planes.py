"""The P-kernel: where it runs, and what is its own. More of its results are among the cases of
test_ops_cpu.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cnnext import _C, ops, testing
from op_case import EPS, FLOAT_ISA

NAME = f"cpu/{FLOAT_ISA}/conv2d_p_"
WEIGHTS_NAME = f"cpu/{FLOAT_ISA}/conv2d_weights_p_"
SHAPES = [
    ((2, 3, 33, 32), (20, 3, 7, 7), {"stride": (2, 2), "padding": ((3, 2), (2, 3))}),
    ((2, 5, 20, 89), (7, 5, 2, 3), {"stride": (1, 2), "padding": ((0, 1), (2, 4)), "dilation": (2, 1)}),
    ((1, 1, 31, 32), (6, 1, 5, 5), {"padding": 2}),
    ((2, 32, 9, 30), (44, 8, 3, 3), {"padding": 1, "groups": 4}),  # 11 output channels of a group
    ((3, 24, 17, 31), (40, 24, 1, 1), {}),  # pixels as one row
    ((2, 40, 17, 31), (3, 40, 1, 1), {}),  # read where they lie; the last vector overlaps
    ((2, 50, 64, 65), (6, 25, 1, 1), {"groups": 2}),
    ((1, 2, 3, 5000), (4, 2, 3, 9), {"padding": (1, 4)}),  # rows in parts
]  # fmt: skip


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def expected(x: np.ndarray, w: np.ndarray, **params: Any) -> tuple[np.ndarray, np.ndarray]:
    """In float64, and the bound of a direct sum's error."""
    wide = [a.astype(np.float64) for a in (x, w)]
    params.pop("algorithm", None)
    with testing.backend("ref"):
        y = ops.conv2d(*wide, **params)
        size = ops.conv2d(*(np.abs(a) for a in wide), **params)
    return y, 4 * np.sqrt(w[0].size) * EPS * size


@pytest.mark.parametrize(("shape", "weight", "params"), SHAPES, ids=str)
def test_planes_of_few_channels_are_read_as_they_lie(
    shape: tuple[int, ...], weight: tuple[int, ...], params: dict[str, Any]
) -> None:
    x, w = normal(*shape), normal(*weight, seed=1)
    y = ops.conv2d(x, w, **params)
    assert testing.last_kernel().startswith(NAME)
    want, bound = expected(x, w, **params)
    assert (np.abs(y - want) <= bound).all()
    for threads in (1, 3, 8):
        _C.set_num_threads(threads)
        np.testing.assert_array_equal(ops.conv2d(x, w, **params), y)
    packed = ops.pack_weight(w, **params, input_shape=shape)
    np.testing.assert_array_equal(ops.conv2d(x, packed, **params), y)
    assert testing.last_kernel().startswith(NAME)


@pytest.mark.parametrize(
    ("shape", "weight", "layout", "params"),
    [
        ((2, 3, 32, 32), (20, 3, 3, 3), "nhwc", {}),
        ((2, 33, 32, 32), (20, 33, 3, 3), "nchw", {}),  # too many channels to stay in L1
        ((2, 3, 32, 5), (20, 3, 3, 3), "nchw", {}),  # rows that leave lanes empty
        ((2, 16, 32, 63), (20, 16, 3, 3), "nchw", {"stride": (1, 2)}),  # columns to gather
        ((2, 3, 129, 129), (20, 3, 1, 1), "nchw", {"stride": 4}),  # most of the strip would be read by nobody
    ],
)
def test_what_is_left_to_the_k_kernel(
    shape: tuple[int, ...], weight: tuple[int, ...], layout: str, params: dict[str, Any]
) -> None:
    x = normal(*shape)
    if layout == "nhwc":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    ops.conv2d(x, normal(*weight), padding=1, algorithm="direct", **params)
    assert "conv2d_k" in testing.last_kernel()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_padding_contributes_nothing_under_a_weight_that_is_not_finite(value: float) -> None:
    x, w = normal(2, 3, 20, 32), normal(20, 3, 3, 3)
    w[19, 2, 1, 0] = value  # its tap is padding for the first column
    y = ops.conv2d(x, w, padding=1)
    assert not testing.last_kernel().startswith(NAME)
    want, _ = expected(x, w, padding=1)
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(want))
    assert np.isfinite(y[:, 19, :, 0]).all()
    ops.conv2d(x, w)  # without padding there is nothing to keep apart
    assert testing.last_kernel().startswith(NAME)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_not_finite_in_the_image_stays_under_its_taps(value: float) -> None:
    x, w = normal(1, 3, 20, 40), normal(6, 3, 3, 3)
    clean = ops.conv2d(x, w, padding=1)
    x[0, 1, 7, 33] = value
    y = ops.conv2d(x, w, padding=1)
    touched = np.zeros(y.shape, bool)
    touched[:, :, 6:9, 32:35] = True
    assert not np.isfinite(y[touched]).any()
    np.testing.assert_array_equal(y[~touched], clean[~touched])


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "gelu", None])
@pytest.mark.parametrize("width", [32, 61])  # whole vectors, and a last one that overlaps
@pytest.mark.parametrize("filter_size", [1, 3])
@pytest.mark.parametrize("with_residual", [True, False])
def test_the_epilogue_is_applied_once(
    width: int, activation: str | None, filter_size: int, with_residual: bool
) -> None:
    k, c = (10, 4) if filter_size > 1 else (3, 40)  # the latter in pieces, read where they lie
    x, w, bias = normal(2, c, 11, width), normal(k, c, filter_size, filter_size), normal(k)
    residual = normal(2, k, 11, width, seed=3) if with_residual else None
    more = {"padding": filter_size // 2, "activation": activation}
    y = ops.conv2d(x, w, bias, residual=residual, **more)
    assert testing.last_kernel().startswith(NAME)
    with testing.backend("ref"):
        wide = None if residual is None else residual.astype(np.float64)
        want = ops.conv2d(*(a.astype(np.float64) for a in (x, w, bias)), residual=wide, **more)
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-4)


WEIGHTS = [
    ((3, 3, 33, 32), (20, 3, 3, 3), {"padding": ((1, 0), (2, 0)), "stride": (2, 1)}),
    ((2, 4, 20, 61), (7, 4, 2, 3), {"padding": ((0, 1), (2, 2)), "dilation": (3, 2)}),
    ((9, 1, 31, 32), (6, 1, 5, 5), {"padding": 2}),
    ((2, 8, 40, 31), (44, 2, 3, 3), {"padding": 1, "groups": 4}),
    ((1, 2, 3, 700), (4, 2, 3, 9), {"padding": (4, 4)}),  # filter rows that lie outside the image
    # few output channels
    ((3, 40, 20, 31), (2, 40, 1, 1), {}),
    ((2, 36, 21, 31), (9, 12, 2, 3), {"padding": ((0, 1), (2, 1)), "dilation": (3, 2), "groups": 3}),
    ((2, 20, 9, 32), (1, 20, 5, 3), {"padding": ((4, 1), (0, 2))}),
]


@pytest.mark.parametrize("channels_last", [False, True], ids=["KCRS", "KRSC"])
@pytest.mark.parametrize(("shape", "weight", "params"), WEIGHTS, ids=str)
def test_backward_weights_along_the_pixels(
    shape: tuple[int, ...], weight: tuple[int, ...], params: dict[str, Any], channels_last: bool
) -> None:
    x = normal(*shape)
    grad = normal(*ops.conv2d(x, normal(*weight), **params).shape, seed=2)
    out = np.full(weight, np.nan, np.float32)
    if channels_last:
        out = np.ascontiguousarray(out.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    ops.conv2d_backward_weights(grad, x, weight, **params, out=out)
    assert testing.last_kernel().startswith(WEIGHTS_NAME)
    wide = [a.astype(np.float64) for a in (grad, x)]
    with testing.backend("ref"):
        want = ops.conv2d_backward_weights(*wide, weight, **params)
        size = ops.conv2d_backward_weights(*(np.abs(a) for a in wide), weight, **params)
    assert (np.abs(out - want) <= 4 * np.sqrt(grad[:, 0].size) * EPS * size).all()
    for threads in (1, 3, 8):
        _C.set_num_threads(threads)
        np.testing.assert_array_equal(ops.conv2d_backward_weights(grad, x, weight, **params), out)


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("of_x", [True, False])
@pytest.mark.parametrize(("k", "c"), [(20, 3), (3, 20)])
def test_backward_weights_keep_padding_apart_from_what_is_not_finite(
    value: float, of_x: bool, k: int, c: int
) -> None:
    x, grad = normal(2, c, 20, 32), normal(2, k, 20, 32, seed=2)
    (x if of_x else grad)[1, 2, 0, 31] = value
    got = ops.conv2d_backward_weights(grad, x, (k, c, 3, 3), padding=1)
    assert not testing.last_kernel().startswith(WEIGHTS_NAME)
    with testing.backend("ref"):
        want = ops.conv2d_backward_weights(grad, x, (k, c, 3, 3), padding=1)
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
    assert np.isfinite(got).any()


def test_scratch_follows_from_what_is_read() -> None:
    """Not from a stride or a padding beyond all measure."""
    s = 1_000_000
    x, w = np.ones((1, 4, 2, 1), np.float32), np.ones((20, 4, 1, 1), np.float32)
    y = ops.conv2d(x, w, stride=(1, s), padding=((0, 0), (7 * s, 8 * s)))
    assert y.sum() == 160
    assert _C.last_scratch_bytes() < 1 << 20
    x, w = np.ones((1, 3, 1, 32), np.float32), np.ones((8, 3, 1, 3), np.float32)
    y = ops.conv2d(x, w, padding=(0, s), dilation=(1, s))
    assert y.sum() == 32 * 3 * 8
    assert _C.last_scratch_bytes() < 1 << 22
    ops.conv2d_backward_weights(np.ones_like(y), x, w.shape, padding=(0, s), dilation=(1, s))
    assert _C.last_scratch_bytes() < 1 << 22
