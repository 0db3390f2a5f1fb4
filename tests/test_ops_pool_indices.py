"""Indices from outside, for each of the kernels that use them: none is trusted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cnnext import ops, testing

# note, (N, C, H, W), kernel, stride, padding, ceil_mode: every kernel of max_pool2d_backward takes one
POOLS = [
    ("tiles", (2, 3, 7, 9), 2, 2, 0, True),
    ("stride 1", (2, 3, 6, 7), 3, 1, 1, False),
    ("stride 1, fewer windows", (2, 3, 6, 7), (3, 2), 1, 0, False),
    ("apart", (2, 5, 9, 8), 3, 2, 1, False),
    ("many taps", (2, 3, 9, 8), 7, 1, 3, False),
    ("uint16", (1, 2, 20, 19), (17, 16), 1, 0, False),
]


def pooled(pool: tuple, layout: Any, kind: str) -> tuple[np.ndarray, np.ndarray, dict]:
    _, shape, kernel, stride, padding, ceil_mode = pool
    params = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    x = layout(np.random.default_rng(3).standard_normal(shape).astype(np.float32))
    return *ops.max_pool2d(x, **params, return_indices=True, indices=kind), params


def taps_outside(pool: tuple, p: int, q: int) -> list[int]:
    """The taps of window (p, q) that lie in the padding, and numbers that are no taps."""
    _, (_, _, H, W), kernel, stride, padding, _ = pool
    R, S = np.broadcast_to(kernel, 2)
    sh, sw = np.broadcast_to(stride, 2)
    ph, pw = np.broadcast_to(padding, 2)
    places = [(p * sh - ph + r, q * sw - pw + s) for r in range(R) for s in range(S)]
    taps = [tap for tap, (h, w) in enumerate(places) if not (0 <= h < H and 0 <= w < W)]
    return [*taps, *(tap for tap in (R * S, 254, 40000) if R * S <= tap < (255 if R * S < 256 else 65535))]


def layouts(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("layout", [np.ascontiguousarray, layouts], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("pool", POOLS, ids=[pool[0] for pool in POOLS])
def test_a_tap_outside_the_image_is_refused(pool: tuple, layout: Any) -> None:
    y, taps, params = pooled(pool, layout, "window")
    shape = pool[1]
    P, Q = y.shape[2:]
    refused = 0
    for p in range(P):
        for q in range(Q):
            for tap in taps_outside(pool, p, q):
                wrong = taps.copy(order="K")
                wrong[-1, 1, p, q] = tap
                where = rf"indices holds {tap} at \(n, c, p, q\) = \({shape[0] - 1}, 1, {p}, {q}\)"
                with pytest.raises(ValueError, match=where):
                    ops.max_pool2d_backward(y, wrong, shape, **params, indices_kind="window")
                refused += 1
    assert refused
    del params["ceil_mode"]
    with pytest.raises(ValueError, match="indices holds"):
        ops.max_unpool2d(y, wrong, **params, output_size=shape[2:], indices_kind="window")
    with pytest.raises(ValueError, match="indices holds"):
        ops.max_unpool2d_backward(layout(np.ones(shape, np.float32)), wrong, **params, indices_kind="window")


@pytest.mark.parametrize("layout", [np.ascontiguousarray, layouts], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("pool", POOLS, ids=[pool[0] for pool in POOLS])
def test_a_plane_index_may_leave_its_window_but_not_the_plane(pool: tuple, layout: Any) -> None:
    y, indices, params = pooled(pool, layout, "plane")
    N, C, H, W = pool[1]
    anywhere = np.random.default_rng(1).integers(-1, H * W, indices.shape)
    indices[...] = anywhere
    grad = ops.max_pool2d_backward(y, indices, pool[1], **params)
    wanted = np.zeros((N * C, H * W))
    for plane, (places, values) in enumerate(
        zip(anywhere.reshape(N * C, -1), y.reshape(N * C, -1), strict=True)
    ):
        np.add.at(wanted[plane], places[places >= 0], values[places >= 0])
    np.testing.assert_allclose(grad.reshape(wanted.shape), wanted, atol=1e-4)
    for wrong in (-2, H * W, 2**40, -(2**63)):
        indices[-1, 0, -1, -1] = wrong
        with pytest.raises(ValueError, match=f"indices holds {wrong} at"):
            ops.max_pool2d_backward(y, indices, pool[1], **params)
        window = {
            "kernel_size": params["kernel_size"],
            "stride": params["stride"],
            "padding": params["padding"],
        }
        with pytest.raises(ValueError, match=f"indices holds {wrong} at"):
            ops.max_unpool2d_backward(layout(np.ones(pool[1], np.float32)), indices, **window)
        with pytest.raises(ValueError, match=f"indices holds {wrong} at"):
            ops.max_unpool2d(y, indices, **window, output_size=(H, W))


@pytest.mark.parametrize("layout", [np.ascontiguousarray, layouts], ids=["nchw", "nhwc"])
def test_a_window_without_a_tap_changes_nothing(layout: Any) -> None:
    for pool in POOLS:
        y, taps, params = pooled(pool, layout, "window")
        taps[...] = np.iinfo(taps.dtype).max
        grad = ops.max_pool2d_backward(y, taps, pool[1], **params, indices_kind="window")
        assert not grad.any()


@pytest.mark.parametrize("layout", [np.ascontiguousarray, layouts], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("source", ["plane", "window", "onnx"])
@pytest.mark.parametrize("target", ["plane", "window", "onnx"])
def test_conversions_refuse_what_names_no_tap(source: str, target: str, layout: Any) -> None:
    pool = ("", (2, 33, 6, 7), 3, 2, 1, False)
    _, plane, params = pooled(pool, layout, "plane")
    given = ops.convert_indices(plane, pool[1], **params, source="plane", target=source)
    back = ops.convert_indices(given, pool[1], **params, source=source, target=target)
    with testing.backend("ref"):
        wanted = ops.convert_indices(plane, pool[1], **params, source="plane", target=target)
    np.testing.assert_array_equal(back, wanted)
    given[1, 2, 0, 0] = 0 if source == "window" else -7
    with pytest.raises(ValueError, match="indices holds"):
        ops.convert_indices(given, pool[1], **params, source=source, target=target)


# Windows that reach far beyond the image cost no more than others.
FAR = [
    ((1, 1, 8, 4), (1, 2), (1, 2**61), ((0, 0), (2**61, 0))),
    ((1, 1, 8, 4), (1, 2), (1, 2**30), ((0, 0), (2**30, 0))),
    ((1, 1, 4, 4), (2, 1), (2**30, 1), ((2**30, 0), (0, 0))),
    ((1, 1, 4, 4), (2, 1), (2**61, 1), ((2**61, 0), (0, 0))),
    ((2, 3, 5, 6), (2, 2), (2**31, 2**31), ((2**31, 1), (2**31, 2))),
]


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, layouts], ids=["nchw", "nhwc"])
@pytest.mark.parametrize(("shape", "kernel", "dilation", "padding"), FAR)
@pytest.mark.parametrize("kind", ["plane", "window"])
def test_windows_that_span_more_than_the_image(
    shape: Any, kernel: Any, dilation: Any, padding: Any, kind: str, layout: Any, dtype: Any
) -> None:
    params: dict[str, Any] = {"kernel_size": kernel, "stride": 1, "padding": padding, "dilation": dilation}
    x = layout((np.arange(np.prod(shape)).reshape(shape) % 251).astype(dtype))
    y, indices = ops.max_pool2d(x, **params, return_indices=True, indices=kind)
    with testing.backend("ref"):
        want, want_indices = ops.max_pool2d(x, **params, return_indices=True, indices=kind)
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(indices, want_indices)
    if dtype is not np.float32:
        return
    grad = ops.max_pool2d_backward(y, indices, shape, **params, indices_kind=kind)
    with testing.backend("ref"):
        want = ops.max_pool2d_backward(y, indices, shape, **params, indices_kind=kind)
    np.testing.assert_array_equal(grad, want)
