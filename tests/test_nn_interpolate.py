"""Images in another size: elements, weights and gradients are torch's, in both memory formats."""

from __future__ import annotations

import cnnext as cx
import numpy as np
import pytest
from _helpers_nn import channels_last, check_gradients, check_second_order, random_arrays
from cnnext.nn import functional as F

MODES = [
    ("nearest", None),
    ("nearest-exact", None),
    ("bilinear", False),
    ("bilinear", None),
    ("bilinear", True),
]
CHANGES = [
    *[{"size": n} for n in (1, 2, 4, 7, 11, 32, 62)],
    {"size": (5, 40)},
    *[{"scale_factor": f} for f in (2, 3, 1.5, 0.7, 2.3, 1.0, 4 / 3, 0.5, 1.1, (2, 0.5))],
    {"scale_factor": (1.7, 2.0), "recompute_scale_factor": True},
]


@pytest.mark.filterwarnings("ignore:.*recompute_scale_factor:UserWarning")
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels-last"])
@pytest.mark.parametrize(("mode", "align"), MODES)
def test_against_torch(mode: str, align: bool | None, last: bool) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    compared = 0
    for height, width in ((1, 3), (2, 2), (3, 5), (9, 4), (16, 31)):
        x = rng.standard_normal((2, 3, height, width)).astype(np.float32)
        for change in CHANGES:
            options = {"mode": mode, "align_corners": align, **change}
            tx = torch.from_numpy(x.copy()).requires_grad_()
            try:
                ty = torch.nn.functional.interpolate(tx, **options)
            except RuntimeError:  # nothing would be left
                continue
            t = cx.Tensor(channels_last(x) if last else x, requires_grad=True)
            y = F.interpolate(t, **options)
            np.testing.assert_allclose(
                y.detach().numpy(), ty.detach().numpy(), rtol=1e-4, atol=2e-5, err_msg=f"{x.shape} {change}"
            )
            g = rng.standard_normal(y.shape).astype(np.float32)
            y.backward(channels_last(g) if last else g)
            ty.backward(torch.from_numpy(g))
            np.testing.assert_allclose(
                t.grad.numpy(), tx.grad.numpy(), rtol=1e-3, atol=2e-3, err_msg=f"{x.shape} {change}"
            )
            if last:
                assert y.is_contiguous("channels_last")
                assert t.grad.is_contiguous("channels_last")
            compared += 1
    assert compared > 80


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 2, 3, 4), {"size": (7, 5), "mode": "nearest"}),
        ((2, 2, 5, 4), {"size": (3, 9), "mode": "nearest-exact"}),
        ((2, 2, 3, 4), {"scale_factor": 2, "mode": "bilinear"}),
        ((2, 2, 7, 6), {"size": (3, 2), "mode": "bilinear"}),
        ((2, 2, 3, 4), {"size": (5, 3), "mode": "bilinear", "align_corners": True}),
        ((1, 2, 3, 2, 2), {"scale_factor": (2, 1, 1.5), "mode": "trilinear"}),
        ((2, 1, 4), {"scale_factor": 1.5, "mode": "linear"}),
        ((2, 1, 4), {"scale_factor": 2.5, "mode": "nearest"}),
    ],
)
def test_derivatives(shape: tuple[int, ...], options: dict) -> None:
    torch = pytest.importorskip("torch")
    (x,) = random_arrays(shape)
    y, ty = F.interpolate(x, **options), torch.nn.functional.interpolate(torch.from_numpy(x), **options)
    np.testing.assert_allclose(y.numpy(), ty.numpy(), rtol=1e-12)
    check_gradients(lambda x: F.interpolate(x, **options), x)
    check_second_order(lambda x: F.interpolate(x * x, **options), x)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_many_images_are_resized_in_parts(mode: str, last: bool) -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((7, 5, 60, 64)).astype(np.float32)
    y = F.interpolate(channels_last(x) if last else x, scale_factor=2.5, mode=mode)
    ty = torch.nn.functional.interpolate(torch.from_numpy(x), scale_factor=2.5, mode=mode)
    np.testing.assert_allclose(y.numpy(), ty.numpy(), rtol=1e-4, atol=1e-5)


def test_other_dtypes_and_orders() -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).integers(0, 200, (2, 3, 4, 5))
    for dtype in (np.int64, np.uint8, np.bool_):
        y = F.interpolate(x.astype(dtype), scale_factor=2)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y.numpy(), x.astype(dtype).repeat(2, 2).repeat(2, 3))
    half = (x / 7).astype(np.float16)
    for options in ({"mode": "nearest"}, {"mode": "bilinear"}, {"mode": "bilinear", "align_corners": True}):
        y = F.interpolate(half, size=(7, 3), **options)
        ty = torch.nn.functional.interpolate(torch.from_numpy(half), size=(7, 3), **options)
        assert y.dtype == np.float16
        np.testing.assert_allclose(y.numpy(), ty.numpy(), rtol=2e-3)
    brain = pytest.importorskip("ml_dtypes").bfloat16
    y = F.interpolate((x / 7).astype(brain), size=(7, 3), mode="bilinear")
    ty = torch.nn.functional.interpolate(torch.from_numpy(x / 7).bfloat16(), size=(7, 3), mode="bilinear")
    assert y.dtype == brain
    np.testing.assert_allclose(y.data.astype(np.float32), ty.float().numpy(), rtol=2e-2)
    turned = (x / 7).transpose(1, 0, 3, 2)
    y = F.interpolate(turned, size=(9, 4), mode="bilinear")
    np.testing.assert_array_equal(
        y.numpy(), F.interpolate(np.ascontiguousarray(turned), size=(9, 4), mode="bilinear").numpy()
    )
    assert F.interpolate(x[:0], size=3).shape == (0, 3, 3, 3)


def test_what_is_infinite_stays_where_it_is() -> None:
    x = np.ones((1, 1, 6, 6), np.float32)
    x[0, 0, 0, 0], x[0, 0, 5, 5] = np.inf, np.nan
    y = F.interpolate(x, scale_factor=2, mode="bilinear").numpy()
    assert np.isfinite(y).sum() == 144 - 2 * 9
    t = cx.ones(1, 1, 7, 7).requires_grad_()
    g = np.ones((1, 1, 3, 3), np.float32)
    g[0, 0, 0, 0] = np.inf
    F.interpolate(t, size=3).backward(g)
    assert np.isinf(t.grad.numpy()).sum() == 1
    assert not np.isnan(t.grad.numpy()).any()
    t.grad = None
    g = np.ones((1, 1, 16, 16), np.float32)
    g[0, 0, 0, 0] = np.inf
    F.interpolate(t, size=16).backward(g)
    assert np.isinf(t.grad.numpy()).sum() == 1
    assert not np.isnan(t.grad.numpy()).any()


@pytest.mark.parametrize(
    ("shape", "options", "error", "message"),
    [
        ((2, 3), {"size": 2}, ValueError, "must have 3, 4 or 5 dimensions"),
        ((1, 1, 2, 2), {}, ValueError, "give either size or scale_factor"),
        ((1, 1, 2, 2), {"size": 2, "scale_factor": 2}, ValueError, "give either size or scale_factor"),
        ((1, 1, 2, 2), {"size": (2, 2, 2)}, ValueError, r"size=\(2, 2, 2\) must be a number or 2 numbers"),
        ((1, 1, 2, 2), {"size": 2.0}, TypeError, "size must hold an int for each axis, got 2.0"),
        ((1, 1, 2, 2), {"size": 0}, ValueError, "size=0 must be positive"),
        ((1, 1, 2, 2), {"scale_factor": -1}, ValueError, "scale_factor=-1 must be positive"),
        ((1, 1, 2, 2), {"scale_factor": float("inf")}, ValueError, "scale_factor=inf must be positive"),
        ((1, 1, 2, 2), {"scale_factor": "2"}, TypeError, "scale_factor must hold a number"),
        (
            (1, 1, 2, 2),
            {"scale_factor": 0.3},
            ValueError,
            r"scale_factor=0.3 leaves nothing of the sizes \[2, 2\]",
        ),
        ((1, 1, 0, 2), {"size": 2}, ValueError, "no elements along an axis"),
        ((1, 1, 2, 2), {"size": 2, "mode": "cubic"}, ValueError, "mode='cubic' must be one of nearest"),
        (
            (1, 1, 2, 2),
            {"size": 2, "mode": "bicubic"},
            NotImplementedError,
            "mode='bicubic' is not supported",
        ),
        (
            (1, 1, 2, 2),
            {"size": 2, "antialias": True},
            NotImplementedError,
            "antialias=True is not supported",
        ),
        ((1, 1, 2), {"size": 2, "mode": "bilinear"}, ValueError, "mode='bilinear' needs 4 dimensions"),
        (
            (1, 1, 2, 2),
            {"size": 2, "align_corners": True},
            ValueError,
            "align_corners=True is for linear modes",
        ),
        (
            (1, 1, 2, 2),
            {"size": 2, "recompute_scale_factor": True},
            ValueError,
            "needs scale_factor, not size",
        ),
    ],
)
def test_errors(shape: tuple[int, ...], options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        F.interpolate(cx.ones(*shape), **options)


def test_integers_have_no_means() -> None:
    with pytest.raises(TypeError, match="mode='bilinear' needs a floating dtype, x has int64"):
        F.interpolate(np.ones((1, 1, 2, 2), np.int64), size=2, mode="bilinear")
