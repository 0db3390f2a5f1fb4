"""The rules that no table of cases shows: NaN and infinity, empty batches, ties, what is not finite."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
from cnnext import _C, ops, testing

NAN, INF = np.nan, np.inf


def last(array: np.ndarray) -> np.ndarray:
    """Channels-last memory."""
    return np.moveaxis(np.moveaxis(array, 1, -1).copy(), -1, 1)


LAYOUTS = [pytest.param(np.ascontiguousarray, id="nchw"), pytest.param(last, id="nhwc")]
BACKENDS = ["ref", "auto"]


@pytest.fixture(params=BACKENDS, autouse=True)
def _backend(request: pytest.FixtureRequest) -> Any:
    with testing.backend(request.param):
        yield


# ---- max-pool

POOL = {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 1)}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["plane", "window"])
@pytest.mark.parametrize(
    "values", [(NAN, 1.0, 2.0), (INF, -INF, 0.0), (-INF,), (NAN,), (-0.0, 0.0), (NAN, INF, -INF)]
)
def test_max_pool_of_special_values(values: tuple[float, ...], kind: str, layout: Any) -> None:
    """NaN wins, the last one; of -inf only, the first valid tap; 0 and -0 are equal, so the first."""
    rng = np.random.default_rng(1)
    for channels in (1, 17):
        x = rng.choice(np.array(values, np.float32), (2, channels, 9, 35))
        y, indices = ops.max_pool2d(layout(x), **POOL, return_indices=True, indices=kind)
        wanted, codes = oracles.max_pool2d(x, **POOL, indices=kind)
        np.testing.assert_array_equal(y, wanted)
        np.testing.assert_array_equal(np.signbit(y), np.signbit(wanted.astype(np.float32)))
        np.testing.assert_array_equal(indices, codes)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("kind", "code"), [("plane", -1), ("window", 255)])
def test_a_window_without_a_valid_tap(kind: str, code: int, layout: Any) -> None:
    """Dilated taps may all fall into the padding: -inf, no index, and its gradient is dropped."""
    x = layout(np.ones((1, 3, 1, 4), np.float32))
    pool = {"kernel_size": (2, 1), "stride": 1, "padding": ((1, 2), (0, 0)), "dilation": (3, 1)}
    y, indices = ops.max_pool2d(x, **pool, return_indices=True, indices=kind)
    assert y.shape == (1, 3, 1, 4)
    assert (y == -INF).all()
    assert (indices == code).all()
    grad = ops.max_pool2d_backward(np.ones_like(y), indices, x.shape, **pool, indices_kind=kind)
    assert not grad.any()
    assert not ops.max_unpool2d(
        np.ones_like(y), indices, (2, 1), 1, output_size=(2, 4), indices_kind=kind
    ).any()


def test_overlapping_windows_add_their_gradients() -> None:
    x = np.zeros((1, 1, 3, 3), np.float32)
    x[0, 0, 1, 1] = 1
    _, indices = ops.max_pool2d(x, 2, 1, return_indices=True)
    grad = ops.max_pool2d_backward(np.full((1, 1, 2, 2), 2, np.float32), indices, x.shape, 2, 1)
    assert grad[0, 0, 1, 1] == 8
    assert grad.sum() == 8


def test_unpooling_keeps_the_last_of_equal_indices() -> None:
    x = np.array([1, 2, 3, 4], np.float32).reshape(1, 1, 2, 2)
    indices = np.zeros((1, 1, 2, 2), np.int64)
    y = ops.max_unpool2d(x, indices, 2)
    assert y[0, 0, 0, 0] == 4
    assert y.sum() == 4


@pytest.mark.parametrize("shape", [(2, 3, 9, 8), (3, 9, 8)])
def test_indices_convert_into_every_kind_and_back(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    _, plane = ops.max_pool2d(x, **POOL, return_indices=True)
    _, window = ops.max_pool2d(x, **POOL, return_indices=True, indices="window")
    n, c = np.ogrid[: (shape[0] if x.ndim == 4 else 1), : shape[-3]]
    base = ((n * shape[-3] + c) * 72)[..., None, None].reshape(
        *([-1] if x.ndim == 4 else []), shape[-3], 1, 1
    )
    kinds = {
        "plane": plane,
        "window": window,
        "onnx": base + plane,
        "onnx_column_major": base + plane % 8 * 9 + plane // 8,
    }
    for source, given in kinds.items():
        for target, wanted in kinds.items():
            got = ops.convert_indices(given, shape, **POOL, source=source, target=target)
            np.testing.assert_array_equal(got, wanted, err_msg=f"{source} to {target}")
            assert got.dtype == wanted.dtype


# ---- infinities and NaN in sums


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 1, 5, 6), (2, 3, 7, 19), (2, 16, 9, 8), (1, 33, 14, 15)])
@pytest.mark.parametrize("depthwise", [False, True])
def test_padding_contributes_nothing_under_infinite_weights(
    depthwise: bool, shape: tuple[int, ...], layout: Any
) -> None:
    """0 times infinity would be NaN: only taps inside the image may be multiplied."""
    channels = shape[1]
    x = layout(np.ones(shape, np.float32))
    w = np.ones((channels if depthwise else 20, 1 if depthwise else channels, 3, 3), np.float32)
    w[:, :, 0] = INF  # the row above
    groups = channels if depthwise else 1
    y = ops.conv2d(x, w, padding=1, groups=groups)
    assert np.isfinite(y[:, :, 0]).all()
    assert (y[:, :, 1:] == INF).all()
    grad_x = ops.conv2d_backward_data(
        layout(np.ones(y.shape, np.float32)), w, shape, padding=1, groups=groups
    )
    assert np.isfinite(grad_x[:, :, -1]).all()
    assert (grad_x[:, :, :-1] == INF).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_padding_contributes_nothing_to_weights_under_infinite_gradients(layout: Any) -> None:
    x = layout(np.ones((2, 9, 6, 7), np.float32))
    g = np.ones((2, 17, 6, 7), np.float32)
    g[:, :, 0] = INF  # meets the row of padding above through the first row of taps
    grad_w = ops.conv2d_backward_weights(layout(g), x, (17, 9, 3, 3), padding=1)
    assert np.isfinite(grad_w[:, :, 0]).all()
    assert (grad_w[:, :, 1:] == INF).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("value", [NAN, INF])
def test_direct_keeps_what_is_not_finite_in_its_place(value: float, layout: Any) -> None:
    x = np.zeros((1, 16, 12, 13), np.float32)
    x[0, 3, 5, 6] = value
    w = np.ones((33, 16, 3, 3), np.float32)
    y = ops.conv2d(layout(x), w, padding=1, algorithm="direct")
    reached = np.zeros(y.shape, bool)
    reached[:, :, 4:7, 5:8] = True
    np.testing.assert_array_equal(np.isfinite(y), ~reached)


def test_activations_keep_nan() -> None:
    x = np.full(37, NAN, np.float32)
    for kind in ("relu", "relu6", "leaky_relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"):
        assert np.isnan(ops.activation(x, kind)).all(), kind
    w = np.ones((20, 1, 1, 1), np.float32)
    image = np.full((1, 1, 3, 5), NAN, np.float32)
    for kind in ("relu", "relu6"):
        assert np.isnan(ops.conv2d(image, w, activation=kind)).all(), kind


def test_activations_of_infinities() -> None:
    x = np.array([INF, -INF], np.float32)
    wanted = {
        "relu": (INF, 0),
        "relu6": (6, 0),
        "sigmoid": (1, 0),
        "tanh": (1, -1),
        "leaky_relu": (INF, -INF),
    }
    for kind, values in wanted.items():
        np.testing.assert_array_equal(ops.activation(x, kind), np.array(values, np.float32))


def test_softmax_of_large_values_and_of_minus_infinity() -> None:
    x = np.array([[1e4, 1e4, -INF], [-1e30, -1e30, -1e30]], np.float32)
    y = ops.softmax(x, 1)
    np.testing.assert_allclose(y, [[0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)
    assert np.isnan(ops.softmax(np.full((1, 3), -INF, np.float32), 1)).all()
    loss = ops.cross_entropy(x, np.array([0, 1]), reduction="none")
    np.testing.assert_allclose(loss, [np.log(2), np.log(3)], rtol=1e-6)


def test_every_label_ignored() -> None:
    x, target = np.ones((3, 4), np.float32), np.full(3, -100)
    assert np.isnan(ops.cross_entropy(x, target))  # as torch: 0 / 0
    assert ops.cross_entropy(x, target, reduction="sum") == 0
    grad = ops.cross_entropy_backward(np.float32(1), x, target, reduction="sum")
    assert not grad.any()


def test_denormals_are_kept_unless_told() -> None:
    x = np.full(40, 1e-41, np.float32)
    assert (ops.add(x, x) == 2 * x).all()
    assert (ops.conv2d(x.reshape(1, 1, 5, 8), np.ones((8, 1, 1, 1), np.float32))).all()


# ---- empty


def test_empty_batches_forwards() -> None:
    x, w = np.zeros((0, 4, 7, 6), np.float32), np.ones((6, 4, 3, 2), np.float32)
    assert ops.conv2d(x, w, np.ones(6, np.float32), padding=1).shape == (0, 6, 7, 7)
    assert ops.conv_transpose2d(x, np.ones((4, 3, 2, 2), np.float32)).shape == (0, 3, 8, 7)
    y, indices = ops.max_pool2d(x, 2, return_indices=True)
    assert y.shape == indices.shape == (0, 4, 3, 3)
    assert ops.max_unpool2d(y, indices, 2).shape == (0, 4, 6, 6)
    assert ops.avg_pool2d(x, 2).shape == (0, 4, 3, 3)
    assert ops.adaptive_avg_pool2d(x, (2, 5)).shape == (0, 4, 2, 5)
    assert ops.linear(np.zeros((0, 5), np.float32), np.ones((3, 5), np.float32)).shape == (0, 3)
    assert ops.batch_norm(x, np.zeros(4, np.float32), np.ones(4, np.float32)).shape == x.shape
    assert ops.relu(x).shape == ops.add(x, x).shape == ops.dropout(x, seed=1).shape == x.shape
    assert ops.softmax(x, 1).shape == ops.contiguous(x, channels_last=True).shape == x.shape
    loss = ops.cross_entropy(np.zeros((0, 5), np.float32), np.zeros(0, np.int64), reduction="none")
    assert loss.shape == (0,)
    assert ops.cross_entropy(np.zeros((0, 5), np.float32), np.zeros(0, np.int64), reduction="sum") == 0


def test_empty_batches_backwards() -> None:
    x, w = np.zeros((0, 4, 7, 6), np.float32), np.ones((6, 4, 3, 2), np.float32)
    g = np.zeros((0, 6, 5, 5), np.float32)
    grad_x, grad_w, grad_b = ops.conv2d_backward(g, x, w)
    assert grad_x.shape == x.shape
    assert grad_w.shape == w.shape
    assert not grad_w.any()
    assert not grad_b.any()
    pooled, indices = np.zeros((0, 4, 3, 3), np.float32), np.zeros((0, 4, 3, 3), np.int64)
    assert ops.max_pool2d_backward(pooled, indices, x.shape, 2).shape == x.shape
    assert ops.avg_pool2d_backward(pooled, x.shape, 2).shape == x.shape
    assert ops.adaptive_avg_pool2d_backward(pooled, x.shape).shape == x.shape
    rows = [np.zeros((0, n), np.float32) for n in (3, 5)]
    grads = ops.linear_backward(*rows, np.ones((3, 5), np.float32))
    assert [g.shape for g in grads] == [(0, 5), (3, 5), (3,)]
    assert not grads[1].any()
    assert ops.activation_backward(x, x, "relu").shape == x.shape
    assert ops.softmax_backward(x, x, 1).shape == x.shape


def test_needs() -> None:
    x, w, g = (np.ones(s, np.float32) for s in ((1, 2, 5, 4), (3, 2, 2, 2), (1, 3, 4, 3)))
    for i in range(3):
        needs = [j == i for j in range(3)]
        assert [a is not None for a in ops.conv2d_backward(g, x, w, needs=needs)] == needs
        assert [a is not None for a in ops.linear_backward(x, x, np.ones((4, 4), "f"), needs=needs)] == needs
        stats = np.ones(2, np.float32), np.ones(2, np.float32)
        assert [a is not None for a in ops.batch_norm_backward(x, x, None, *stats, needs=needs)] == needs
    unbatched = ops.conv2d_backward(g[0], x[0], w)
    for one, batch in zip(unbatched, ops.conv2d_backward(g, x, w), strict=True):
        np.testing.assert_array_equal(one, batch.reshape(one.shape))


def test_the_old_spelling_of_reduction() -> None:
    x, target = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32), np.array([0, 4, 2])
    old_spellings = [(True, True), (False, True), (None, False), (False, None), (True, None)]
    reductions = ["mean", "sum", "none", "sum", "mean"]
    for (size_average, reduce), reduction in zip(old_spellings, reductions, strict=True):
        old = ops.cross_entropy(x, target, None, size_average, -100, reduce)
        np.testing.assert_array_equal(old, ops.cross_entropy(x, target, reduction=reduction))


def test_memory_statistics_and_empty_cache() -> None:
    x = np.ones((4, 8, 64, 64), np.float32)
    before = _C.memory_stats()
    y = ops.relu(x)
    during = _C.memory_stats()
    assert during["in_use_bytes"] >= before["in_use_bytes"] + y.nbytes
    assert during["peak_in_use_bytes"] >= during["in_use_bytes"]
    assert during["allocations"] > before["allocations"]
    del y
    assert _C.memory_stats()["in_use_bytes"] == before["in_use_bytes"]
    if before["cache_limit_bytes"] == 0:
        return  # sanitizer builds cache nothing, so that they see every use after free
    assert _C.memory_stats()["cached_bytes"] >= x.nbytes
    hits = _C.memory_stats()["cache_hits"]
    ops.relu(x)
    assert _C.memory_stats()["cache_hits"] > hits
    _C.empty_cache()
    assert _C.memory_stats()["cached_bytes"] == 0
