"""Group norm, and layer norm over channels: beside torch's in both memory formats, and their derivatives."""

from __future__ import annotations

from typing import Any

import cnnext as cx
import numpy as np
import pytest
from _helpers_nn import channels_last, check_gradients, check_second_order, random_arrays
from cnnext import nn
from cnnext.nn import functional as F


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels-last"])
@pytest.mark.parametrize("affine", ["both", "weight", "bias", "none"])
@pytest.mark.parametrize(
    ("shape", "groups"),
    [
        ((3, 6, 5, 4), 2),
        ((3, 6, 5, 4), 6),
        ((1, 6, 1, 3), 1),
        ((2, 8, 1, 1), 4),
        ((2, 2, 1, 2), 2),
        ((5, 16, 160, 130), 4),  # of more elements than one part has
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_group_norm_against_torch(
    shape: tuple[int, ...], groups: int, affine: str, last: bool, dtype: Any
) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, g = ((rng.standard_normal(shape) * 2 + offset).astype(dtype) for offset in (5, 0))
    w, b = (rng.standard_normal(shape[1]).astype(dtype) for _ in range(2))
    w, b = w if affine in ("both", "weight") else None, b if affine in ("both", "bias") else None
    arrays = [x, w, b]
    if last:
        arrays[0] = channels_last(x)
    ours = [None if a is None else cx.Tensor(a, requires_grad=True) for a in arrays]
    full = np.ones(shape[1]) if w is None and b is not None else w  # torch needs a weight with a bias
    theirs = [
        None if a is None else torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, full, b)
    ]
    y = F.group_norm(ours[0], groups, *ours[1:])
    ty = torch.nn.functional.group_norm(theirs[0], groups, *theirs[1:])
    tol = 1e-4 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(y.detach().numpy(), ty.detach().numpy(), rtol=tol, atol=tol)
    assert y.dtype == dtype
    y.backward(g)
    ty.backward(torch.from_numpy(g.astype(np.float64)))
    for mine, other in zip(ours, theirs, strict=True):
        if mine is not None:
            scale = max(1.0, float(other.grad.abs().max()))
            np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=tol, atol=tol * scale)
    if last:
        assert y.is_contiguous("channels_last")
        assert ours[0].grad.is_contiguous("channels_last")


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("with_weight", [False, True])
def test_group_norms_derivatives(with_weight: bool, last: bool) -> None:
    x, w, b = random_arrays((2, 4, 3, 2), (4,), (4,))
    x = channels_last(x) if last else x

    def normalised(x: Any, *affine: Any) -> Any:
        return F.group_norm(x, 2, *affine, eps=0.1)

    arguments = (x, w, b) if with_weight else (x,)
    check_gradients(normalised, *arguments)
    check_second_order(normalised, *arguments)


def test_group_norm_of_one_value_a_group() -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    w, b = x[0] + 1, x[1]
    y = F.group_norm(x, 4, w, b)
    expected = torch.nn.functional.group_norm(
        *(torch.from_numpy(x), 4, torch.from_numpy(w), torch.from_numpy(b))
    )
    np.testing.assert_allclose(y.numpy(), expected.numpy(), atol=1e-4)  # torch rounds there


@pytest.mark.parametrize("last", [False, True])
def test_group_norm_far_from_zero(last: bool) -> None:
    x = np.random.default_rng(0).standard_normal((2, 4, 9, 8)) + 1000
    x = (channels_last(x) if last else x).astype(np.float32, order="K")
    y = F.group_norm(x, 2).numpy()
    rows = x.astype(np.float64).reshape(2, 2, -1)
    expected = (rows - rows.mean(2, keepdims=True)) / np.sqrt(rows.var(2, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, expected.reshape(x.shape), atol=2e-4)


def test_group_norm_of_memory_in_another_order() -> None:
    x = np.random.default_rng(0).standard_normal((4, 2, 3, 5))
    turned = x.transpose(1, 0, 3, 2)
    want = F.group_norm(np.ascontiguousarray(turned), 2).numpy()
    np.testing.assert_array_equal(F.group_norm(turned, 2).numpy(), want)
    t = cx.Tensor(np.ascontiguousarray(turned), requires_grad=True)
    g = np.random.default_rng(1).standard_normal(t.shape)
    F.group_norm(t, 2).backward(g)
    grad, t.grad = t.grad.numpy(), None
    F.group_norm(t, 2).backward(channels_last(g))
    np.testing.assert_array_equal(t.grad.numpy(), grad)


def test_group_norm_of_nothing() -> None:
    x = cx.zeros(0, 4, 3, 3).requires_grad_()
    y = nn.GroupNorm(2, 4)(x)
    assert y.shape == (0, 4, 3, 3)
    y.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.group_norm(cx.ones(2, 6, 3), 4), ValueError, "num_groups=4 must divide the 6 channels"),
        (lambda: F.group_norm(cx.ones(2, 6, 3), 0), ValueError, "num_groups=0 must divide"),
        (lambda: F.group_norm(cx.ones(2, 6, 3), 2.0), TypeError, "num_groups must be an int, got 2.0"),
        (lambda: F.group_norm(cx.ones(6), 2), ValueError, "2 dimensions or more"),
        (
            lambda: F.group_norm(cx.ones(2, 6, 3), 2, cx.ones(3)),
            ValueError,
            r"weight has shape \[3\], expected \[6\]",
        ),
        (lambda: F.group_norm(cx.ones(2, 6, 3), 2, None, cx.ones(3)), ValueError, r"bias has shape \[3\]"),
        (lambda: F.group_norm(cx.ones(1, 6), 6), ValueError, "one value for each of 6 groups"),
        (lambda: F.group_norm(cx.ones(2, 6, 3).half(), 2), NotImplementedError, "float16"),
        (lambda: nn.LayerNorm2d(3)(cx.ones(2, 3, 4)), ValueError, "LayerNorm2d: expected 4D input, got 3D"),
        (
            lambda: nn.LayerNorm2d(3)(cx.ones(2, 4, 4, 3)),
            ValueError,
            r"normalized_shape=\(3,\) must be the last",
        ),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("last", [False, True])
def test_layer_norm_over_channels(last: bool) -> None:
    torch = pytest.importorskip("torch")
    x, g = random_arrays((2, 5, 4, 3), (2, 5, 4, 3))
    ours, theirs = nn.LayerNorm2d(5, eps=1e-3).double(), torch.nn.LayerNorm(5, eps=1e-3).double()
    w, b = random_arrays((5,), (5,), seed=2)
    ours.load_state_dict({"weight": w, "bias": b})
    theirs.load_state_dict({"weight": torch.from_numpy(w), "bias": torch.from_numpy(b)})
    t = cx.Tensor(channels_last(x) if last else x, requires_grad=True)
    tt = torch.from_numpy(x.copy()).requires_grad_()
    y, ty = ours(t), theirs(tt.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    y.backward(g)
    ty.backward(torch.from_numpy(g))
    assert y.is_contiguous("channels_last")
    np.testing.assert_allclose(y.detach().numpy(), ty.detach().numpy(), rtol=1e-10, atol=1e-12)
    for mine, other in ((t, tt), (ours.weight, theirs.weight), (ours.bias, theirs.bias)):
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=1e-9, atol=1e-11)
    assert repr(ours) == "LayerNorm2d((5,), eps=0.001, elementwise_affine=True, bias=True)"
